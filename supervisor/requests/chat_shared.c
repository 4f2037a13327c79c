/* What every stage of a chat uses. */
#include "supervisor/requests/chat.h"

#include "common/base/log.h"
#include "supervisor/devices/governor.h"

#include <stdio.h>
#include <stdlib.h>

/* --- background work --- */

struct chat_task {
	uv_work_t work;
	struct chat *chat;
	void (*fn)(struct chat *c);
	enum chat_event then;
};

static void task_run(uv_work_t *w)
{
	struct chat_task *t = w->data;
	t->fn(t->chat);
}

static void task_done(uv_work_t *w, int status)
{
	(void)status;
	struct chat_task *t = w->data;
	struct chat *c = t->chat;
	c->working = false;
	enum chat_event then = t->then;
	free(t);
	chat_event(c, then);
	request_release(&c->base);
}

void chat_work(struct chat *c, void (*fn)(struct chat *c), enum chat_event then, bool small)
{
	struct chat_task *t = small ? NULL : malloc(sizeof(*t));
	if (t) {
		*t = (struct chat_task){.chat = c, .fn = fn, .then = then};
		t->work.data = t;
		if (uv_queue_work(c->base.all->loop, &t->work, task_run, task_done) == 0) {
			c->working = true;
			request_hold(&c->base);
			return;
		}
		free(t);
	}
	fn(c);
	chat_event(c, then);
}

/* --- small things --- */

void chat_overflow_told(struct chat *c, const char *why)
{
	struct steps *s = request_steps(&c->base);
	steps_point(s, STEP_OVERFLOW, c->device ? c->device->conf->name : "", why, now_ms());
	struct step *it = steps_last(s, STEP_OVERFLOW);
	if (it)
		it->tokens = c->overflow_tokens > 0 ? c->overflow_tokens : (int64_t)c->facts.tokens;
}

void chat_hold(struct chat *c, size_t n)
{
	c->held += n;
	c->base.all->held_bytes += n;
}

int64_t chat_num_ctx(const struct chat *c, const struct device *d)
{
	if (d->conf->client_num_ctx && c->view.num_ctx > 0)
		return c->view.num_ctx < DECIDE_WINDOW_MAX ? c->view.num_ctx : DECIDE_WINDOW_MAX;
	return governor_num_ctx(d, buf_slice(&c->model));
}

bool chat_reads_early(const struct chat *c)
{
	const struct requests *s = c->base.all;
	return c->adaptive && s->config->routing.warm && s->devices->keep &&
	       device_has(c->device, TRAIT_WARMS) && foresight_reuses(&c->device->foresight);
}

void chat_fallback(struct chat *c, const char *cause, const char *to)
{
	c->base.all->count.fallbacks++;
	snprintf(c->note, sizeof(c->note), "fallback: %s; %s", cause, to);
	steps_point(request_steps(&c->base), STEP_FALLBACK, NULL, cause, now_ms());
	log_line(LOG_WARN, "fallback", LOG_STR("req", c->base.id), LOG_STR("cause", cause),
		LOG_STR("to", to), LOG_END);
}

void chat_count_way(struct chat *c)
{
	struct counters *count = &c->base.all->count;
	if (c->counted)
		return;
	c->counted = true;
	count->by_strategy[c->plan.strategy]++;
	count->shortened_to_fit += c->plan.must_shrink && c->use_condensed;
}

bool chat_begun(const struct chat *c)
{
	return c->bytes_out > 0;
}

bool chat_went_shorter(const struct chat *c)
{
	return c->asked && !c->working && c->use_condensed;
}

void chat_count_told(struct chat *c, int64_t prompt_tokens)
{
	if (prompt_tokens > 0)
		tokens_learn(c->base.all->tokens, buf_slice(&c->model), &c->sent_census,
			(uint64_t)prompt_tokens);
}

int chat_address(struct chat *c, struct proto_job *message)
{
	message->method = slice_str(exchange_method(c->base.exchange));
	message->path = slice_str(exchange_target(c->base.exchange));
	return request_forward_headers(&c->base, message);
}

void chat_answer_readdress(struct chat *c)
{
	if (c->answer && chat_address(c, &c->answer->spec.message))
		log_line(LOG_ERROR, "out_of_memory", LOG_STR("req", c->base.id),
			LOG_STR("lost", "headers of the request"), LOG_END);
}
