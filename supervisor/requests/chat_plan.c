/* The body is read: how does the request go? Then its next stage. */
#include "supervisor/requests/chat.h"
#include "supervisor/requests/chat_reply.h"

#include "common/base/log.h"

#include <errno.h>
#include <stdio.h>

/* The body is mended. */
static void parse_mended(struct chat *c)
{
	chat_reread(c);
	chat_parse_again(c);
}

/* A backend that answers for any name is not what an Ollama client expects. */
static bool is_unknown(const struct chat *c)
{
	return dialect_names_models(c->base.dialect) && c->device->model_count > 0 &&
	       device_has(c->device, TRAIT_ANY_NAME) &&
	       !device_serves(c->device, buf_slice(&c->model));
}

static void answer_unknown(struct chat *c)
{
	char text[DIALECT_ERROR_TEXT_BYTES];
	snprintf(text, sizeof(text), "model '%.*s' not found",
		(int)(c->model.n < 400 ? c->model.n : 400), c->model.p ? c->model.p : "");
	chat_answer_error(c, 404, slice_str(text), (struct slice){0}, (struct slice){0}, 0);
}

static void choose_way(struct chat *c)
{
	if (c->bench && !c->explain)
		chat_bench_plan(c);
	else if (c->lane.state == LANE_ON)
		chat_lane_plan(c);
	else if (c->base.all->config->routing.mode == ROUTING_ADAPTIVE && c->facts.to_main &&
		 c->facts.condensable && !c->facts.bare && !c->facts.asked)
		chat_adaptive_plan(c);
	else
		plan_decide(&c->facts, &c->plan);
}

static void tell(struct chat *c)
{
	log_line(LOG_INFO, "plan", LOG_STR("req", c->base.id),
		LOG_SLICE("model", buf_slice(&c->model)), LOG_STR("device", c->device->conf->name),
		LOG_INT("messages", c->view.count), LOG_INT("bytes", c->body.n),
		LOG_INT("tokens", c->facts.tokens), LOG_STR("class", job_class_name(c->class)),
		LOG_STR("strategy", strategy_name(c->plan.strategy)),
		LOG_STR("reason", c->plan.reason), LOG_END);
	log_content("request", c->base.id, buf_slice(&c->body));
	chat_recorded(c);
}

/* Its next stage. */
static void go(struct chat *c)
{
	if (!c->adaptive && c->plan.strategy != STRATEGY_A && c->plan.strategy != STRATEGY_SMALL &&
		c->small && !c->facts.small.ready && !c->explain)
		chat_fallback(c, "condensing device not ready",
			c->plan.condense ? "selection" : "original");
	if (c->plan.condense)
		chat_condense_prepare(c);
	else if (c->explain)
		chat_explain(c);
	else if (decide_plain(&c->facts, &c->plan, c->view.is_load, device_traits(c->device)) ==
		 DECIDE_OVERFLOW)
		chat_answer_overflow(c);
	else
		chat_answer_submit(c);
}

void chat_plan(struct chat *c)
{
	if (c->body.n > c->held) /* mended */
		chat_hold(c, c->body.n - c->held);
	if (c->parse_result) {
		bool bad = c->parse_result == -EINVAL;
		const char *text = bad ? c->parse_error.text : "out of memory";
		chat_answer_error(c, bad ? c->parse_error.status : 503, slice_str(text),
			(struct slice){0}, (struct slice){0}, 0);
		return;
	}
	if (chat_guard_mend(c)) {
		chat_work(c, parse_mended, CHAT_PARSED, c->body.n <= CHAT_INLINE_BYTES);
		return;
	}
	c->device = chat_alias_device(c);
	if (is_unknown(c)) {
		answer_unknown(c);
		return;
	}
	if (dialect_counts(c->base.dialect)) {
		chat_answer_count(c);
		return;
	}
	chat_gather_facts(c);
	if (!chat_ask_way(c)) {
		chat_answer_error(c, 400, SLICE("X-Tandem-Route is one of A, B and C"),
			(struct slice){0}, (struct slice){0}, 0);
		return;
	}
	chat_guard_name(c);
	choose_way(c);
	if (c->hash_wanted && poison_has(&c->base.all->poison, c->hash, now_ms())) {
		chat_answer_poison(c);
		return;
	}
	c->sent_tokens = c->facts.tokens;
	c->sent_census = c->view.census;
	tell(c);
	go(c);
}
