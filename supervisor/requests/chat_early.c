/*
 * After an answer: work for the next request, while nobody waits (routing.warm).
 *
 * Early freeze. When the next request of the conversation is likely to outgrow its room, its layout
 * is frozen now: the decision is kept, so that every later layout makes it as well, and the main
 * device reads the new prompt. The next request then costs its own tokens only. A decision that is
 * lost costs one cold prompt. It goes deep (freeze.c), so that it need not come often; one that
 * would free little is not made.
 *
 * After a one-shot prompt that was cut, its original is read: if a conversation follows, it needs
 * all of the text, and finds it there.
 */
#include "supervisor/requests/chat.h"

#include "common/base/log.h"
#include "supervisor/requests/outgrow.h"
#include "supervisor/requests/warming.h"

#include <errno.h>
#include <stdlib.h>

#define BODY_MAX (16u << 20) /* larger bodies are not worth a copy */
#define GAIN .1		     /* of the room: what a freeze must free, to be worth the reading */

struct early {
	uv_work_t work;
	struct chat *chat; /* held */
	struct device *device;
	uint64_t *forced; /* decisions with the new one; owned */
	size_t forced_count;
	uint64_t chain;
	double size; /* of the layout as it is without it */
	bool waits, made;
	struct buf body, authorization;
	struct prefix_chain prefix;
	struct token_census census;
};

static void early_free(struct early *e)
{
	struct chat *c = e->chat;
	c->condense.options.forced = NULL;
	c->condense.options.forced_count = 0;
	free(e->forced);
	buf_free(&e->body);
	buf_free(&e->authorization);
	prefix_chain_fini(&e->prefix);
	free(e);
	request_release(&c->base);
}

/* --- is it due? --- */

static bool outgrows(const struct chat *c)
{
	const struct outgrow_facts f = {.layout = &c->condense.layout,
		.original = c->weighed.form == FORM_ORIGINAL,
		.tokens = (double)c->facts.tokens,
		.room = (double)plan_room(&c->facts),
		.scale = c->condense.scale};
	return c->has_condense && !c->weighed.one_shot && outgrow_is_near(&f);
}

/* The layout of this request is raised, and the original went once more, since it still fits: it
 * must be read before the next one needs it, even if nothing more is raised. */
static bool layout_waits(const struct chat *c)
{
	return c->weighed.form == FORM_ORIGINAL && c->condense.layout.result == LAYOUT_RAISED &&
	       c->condense.layout.frozen_at > 0 && c->assembled == CONDENSE_OK &&
	       c->rewritten.n > 0 && c->sent_chain.count > 0;
}

/* --- what is made of it --- */

static bool is_worth_it(const struct early *e, const struct layout *l)
{
	return l->frozen_at == l->groups && e->size - l->size >= GAIN * l->soft;
}

static void freeze_work(uv_work_t *work)
{
	struct early *e = work->data;
	struct chat *c = e->chat;
	struct chat_request view;
	struct dialect_error error;
	c->condense.options.forced = e->forced;
	c->condense.options.forced_count = e->forced_count;
	c->condense.facts.chunk_bytes = 0;
	if (condense_prepare(&c->condense) != CONDENSE_OK ||
		(!e->waits && !is_worth_it(e, &c->condense.layout)) ||
		condense_assemble(&c->condense, NULL, 0, &e->body) != CONDENSE_OK ||
		chat_request_parse(c->base.dialect, buf_slice(&e->body), &view, &error))
		return;
	e->census = view.census;
	e->made = weigh_chain(&view, buf_slice(&c->model), &e->prefix) == 0;
	chat_request_fini(&view);
}

static struct warming_spec spec_of(const struct chat *c, const char *why, const struct buf *auth)
{
	return (struct warming_spec){.why = why,
		.request_id = slice_str(c->base.id),
		.dialect = c->base.dialect,
		.model = buf_slice(&c->model),
		.authorization = buf_slice(auth),
		.client = c->base.client,
		.num_ctx = chat_num_ctx(c, c->device)};
}

static void freeze_done(uv_work_t *work, int status)
{
	struct early *e = work->data;
	struct chat *c = e->chat;
	struct requests *s = c->base.all;
	(void)status;
	/* The next request is here already, or the device is busy with another: then the freeze
	 * comes when it must. */
	if (e->made && s->devices->keep && warming_possible(e->device)) {
		struct warming_spec spec = spec_of(c, "early freeze", &e->authorization);
		spec.tokens = tokens_estimate(s->tokens, buf_slice(&c->model), &e->census);
		keep_decide(s->devices->keep, e->chain);
		chat_condense_keep(c);
		if (chat_notes_decide(c)) {
			layout_cache_put(s->layouts, c->condense.made);
			c->condense.made = NULL;
		}
		s->count.early_freezes++;
		log_line(LOG_INFO, "early_freeze", LOG_STR("req", c->base.id),
			LOG_INT("tokens_before", c->sent_tokens),
			LOG_INT("tokens_after", spec.tokens), LOG_END);
		warming_start(e->device, &spec, &e->body, &e->prefix);
	}
	early_free(e);
}

static int by_chain_insert(struct early *e, const uint64_t *all, size_t n)
{
	size_t at = 0;
	e->forced = malloc((n + 1) * sizeof(*e->forced));
	if (!e->forced)
		return -ENOMEM;
	while (at < n && all[at] < e->chain)
		at++;
	if (at < n && all[at] == e->chain)
		return -EEXIST; /* decided before */
	if (at)
		memcpy(e->forced, all, at * sizeof(*all));
	e->forced[at] = e->chain;
	if (n > at)
		memcpy(e->forced + at + 1, all + at, (n - at) * sizeof(*all));
	e->forced_count = n + 1;
	return 0;
}

/* The state of this request has passed the place of the freeze: one of those before it. */
static struct layout_state *state_before(struct chat *c)
{
	const struct condense *k = &c->condense;
	size_t end = c->view.count;
	while (end > 0 && k->groups[end - 1] == k->groups[c->view.count - 1])
		end--;
	return layout_cache_find(c->base.all->layouts, k->chains, k->groups, end);
}

static void freeze(struct chat *c)
{
	struct requests *s = c->base.all;
	struct early *e = calloc(1, sizeof(*e));
	size_t n;
	if (!e)
		return;
	*e = (struct early){.chat = c,
		.device = c->device,
		.chain = c->condense.chains[c->view.count - 1],
		.size = c->condense.layout.size,
		.waits = layout_waits(c)};
	request_hold(&c->base);
	buf_init(&e->body, (size_t)job_body_bytes_max(s->config));
	buf_add_slice(&e->authorization, slice_str(request_authorization(&c->base)));
	layout_state_release(c->condense.from);
	c->condense.from = state_before(c);
	const uint64_t *all = keep_decisions(s->devices->keep, &n);
	chat_notes_offer(c); /* there may be more of them by now */
	e->work.data = e;
	if (by_chain_insert(e, all, n) ||
		uv_queue_work(s->loop, &e->work, freeze_work, freeze_done))
		early_free(e);
}

/* --- the whole text of a cut prompt --- */

static void read_original(struct chat *c)
{
	struct buf body, authorization;
	if (c->class == CLASS_IDLE || c->chain.count == 0 || c->body.n > BODY_MAX)
		return;
	buf_init(&body, (size_t)job_body_bytes_max(c->base.all->config));
	buf_init(&authorization, 0);
	buf_add_slice(&authorization, slice_str(request_authorization(&c->base)));
	struct warming_spec spec = spec_of(c, "original of a cut prompt", &authorization);
	spec.tokens = c->facts.tokens;
	if (buf_add_slice(&body, buf_slice(&c->body)) == 0)
		warming_start(c->device, &spec, &body, &c->chain);
	buf_free(&body);
	buf_free(&authorization);
}

void chat_early(struct chat *c)
{
	struct requests *s = c->base.all;
	if (!c->adaptive || !s->config->routing.warm || !s->devices->keep || c->overflowed ||
		c->resume.counts.deaths > 0 || !c->base.exchange || s->ending ||
		!warming_possible(c->device))
		return;
	if (c->weighed.form == FORM_CUT && !c->plan.must_shrink)
		read_original(c);
	else if (outgrows(c))
		freeze(c);
}
