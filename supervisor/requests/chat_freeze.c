/*
 * Early freeze. When the next request of the conversation is likely to outgrow its room, its layout
 * is frozen now: the decision is kept, so that every later layout makes it as well, and the main
 * device reads the new prompt. The next request then costs its own tokens only. A decision that is
 * lost costs one cold prompt. It goes deep (freeze.c), so that it need not come often; one that
 * would free little is not made. What is read ends with the answer (chat_next.h).
 */
#include "supervisor/requests/chat.h"

#include "common/base/log.h"
#include "supervisor/requests/chat_next.h"
#include "supervisor/requests/outgrow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define TURNS_TO_READ 2 /* where what is sent until then is put aside meanwhile (unread.h) */
#define GAIN .1		/* of the room: what a freeze must free, to be worth the reading */

struct early {
	uv_work_t work;
	struct chat *chat; /* held */
	struct device *device;
	uint64_t *forced; /* decisions with the new one; owned */
	size_t forced_count;
	uint64_t chain;
	uint64_t begun_ms;
	double size;   /* of the layout as it is without it */
	double growth; /* by the next turn, if it is a large one */
	double usual;  /* the same, if it is a usual one */
	double window; /* another one from now on; 0: the same */
	double before; /* that of the layout that was sent */
	double alike;  /* share of what is read that stands at the beginning of what was sent */
	bool aside;    /* the device can put that aside: else nobody asks for the share */
	bool again;    /* it was decided before, and put off */
	bool waits, made, followed;
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

/* Of the answer, by the start table; 0: it is not there. */
static double answer_tokens(const struct chat *c)
{
	struct token_census census = chat_next_census(c);
	return token_census_start(&census);
}

bool chat_outgrows(const struct chat *c)
{
	const struct outgrow_facts f = {.layout = &c->condense.layout,
		.original = c->weighed.form == FORM_ORIGINAL,
		.tokens = (double)c->facts.tokens,
		.room = (double)plan_room(&c->facts),
		.scale = c->condense.scale,
		.turns = device_similarity(c->device) > 0 ? TURNS_TO_READ : 0,
		.answer = answer_tokens(c)};
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

/* It frees much, or at least enough for the next turn; or even a usual turn would have to freeze, while
 * its client waits: that may be soon enough again where little is freed, but what is read now is not
 * read then (docs/simulate.md, long-25k-32k: a fifth less). */
static bool is_worth_it(const struct early *e, const struct layout *l)
{
	double most = l->options.high * l->soft;
	if (l->frozen_at != l->groups)
		return false;
	return e->size - l->size >= GAIN * l->soft || l->size + e->growth <= most ||
	       (l->size < e->size && e->size + e->usual > most);
}

static size_t same_bytes(struct slice a, struct slice b)
{
	size_t n = 0, end = a.n < b.n ? a.n : b.n;
	while (n < end && a.p[n] == b.p[n])
		n++;
	return n;
}

/* The share of r, by the weights of its chain, that what was sent begins with as well: a digest to
 * which lines are added is another message, and mostly the same. */
static double alike(
	const struct chat *c, const struct chat_request *r, const struct prefix_chain *chain)
{
	struct slice body = buf_slice(c->use_rewritten ? &c->rewritten : &c->body);
	struct chat_request sent;
	struct dialect_error error;
	if (chain->count != r->count + 1 ||
		chat_request_parse(c->base.dialect, body, &sent, &error))
		return 1; /* nobody knows: nothing is put off then */
	size_t i = 0;
	while (i < r->count && i < sent.count &&
		slice_eq(r->messages[i].raw.raw, sent.messages[i].raw.raw))
		i++;
	double weight = chain->links[i].tokens;
	if (!slice_eq(r->tools.raw, sent.tools.raw)) {
		weight = 0;
	} else if (i < r->count && i < sent.count) {
		struct slice raw = r->messages[i].raw.raw;
		weight += (chain->links[i + 1].tokens - weight) *
			  (double)same_bytes(raw, sent.messages[i].raw.raw) / (double)raw.n;
	}
	chat_request_fini(&sent);
	return weight / prefix_tokens(chain);
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
	if (e->aside)
		e->alike = alike(c, &view, &e->prefix);
	e->followed = chat_next_follow(c, &view, &e->body);
	chat_request_fini(&view);
}

/* It is not read yet: should the next request come before, what was sent now may do for it as well. */
static void remember(const struct early *e, const struct warming_spec *spec)
{
	const struct chat *c = e->chat;
	unread_put(spec->unread,
		&(struct unread_freeze){.chain = spec->freeze,
			.device = e->device->number,
			.tokens = (double)spec->tokens,
			.cached = warming_cached(e->device),
			.alike = e->alike * (double)(spec->tokens - spec->behind),
			.before = c->forecast.id,
			.counted = (double)(c->prompt_counted ? c->prompt_counted : c->sent_tokens),
			.original = (double)c->facts.tokens,
			.window = e->before});
}

static void tell_step(const struct early *e, int64_t tokens)
{
	struct step it = {.kind = STEP_FREEZE,
		.outcome = STEP_DONE,
		.begun_ms = e->begun_ms,
		.ended_ms = now_ms(),
		.tokens = tokens,
		.cached = -1,
		.count = 1};
	snprintf(it.device, sizeof(it.device), "%s", e->device->conf->name);
	history_late(&e->chat->base.all->history, e->chat->base.id, &it);
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
		struct warming_spec spec = chat_next_spec(c, "early freeze", &e->authorization);
		spec.tokens = tokens_estimate(s->tokens, buf_slice(&c->model), &e->census);
		keep_decide(s->devices->keep, e->chain);
		if (e->window > 0)
			layout_cache_set_window(
				s->layouts, condense_beginning(&c->condense), e->window);
		chat_condense_keep(c);
		if (chat_notes_decide(c)) {
			layout_cache_put(s->layouts, c->condense.made);
			c->condense.made = NULL;
		}
		s->count.early_freezes += !e->again;
		tell_step(e, (int64_t)spec.tokens);
		log_line(LOG_INFO, "early_freeze", LOG_STR("req", c->base.id),
			LOG_INT("again", e->again), LOG_INT("tokens_before", c->sent_tokens),
			LOG_INT("tokens_after", spec.tokens),
			LOG_INT("answer_tokens", e->followed ? chat_next_tokens(c) : 0), LOG_END);
		spec.behind = e->followed ? chat_next_tokens(c) : 0;
		spec.tokens += spec.behind;
		spec.unread = &s->unread;
		spec.freeze = e->chain;
		if (warming_start(e->device, &spec, &e->body, &e->prefix))
			remember(e, &spec);
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
	bool there = at < n && all[at] == e->chain;
	if (there != e->again)
		return -EEXIST; /* decided before, or forgotten since */
	if (there) {
		memcpy(e->forced, all, n * sizeof(*all));
		e->forced_count = n;
		return 0;
	}
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

/* The backend has counted the prompt, of which the next one will be the most. A window that grows by
 * what that says moves the bytes of all that is frozen: now nobody waits for them. */
static double wider(const struct chat *c)
{
	struct condense_facts f = {.room_tokens = plan_counted_room(&c->facts),
		.tokens = (double)c->prompt_counted,
		.tokens_start = token_census_start(&c->sent_census)};
	return condense_wider(&c->condense, c->base.all->layouts, &f);
}

void chat_freeze(struct chat *c)
{
	struct requests *s = c->base.all;
	struct early *e = calloc(1, sizeof(*e));
	double answer = answer_tokens(c);
	size_t n;
	if (!e)
		return;
	*e = (struct early){.chat = c,
		.device = c->device,
		.chain = c->condense.chains[c->view.count - 1],
		.size = c->condense.layout.size,
		.growth = outgrow_growth(&c->condense.layout, 0, answer),
		.usual = outgrow_usual(&c->condense.layout, answer),
		.before = c->condense.options.window,
		.aside = device_similarity(c->device) > 0,
		.again = c->put_off != 0,
		.waits = c->put_off || layout_waits(c),
		.begun_ms = now_ms(),
		.window = c->put_off ? 0 : wider(c)};
	if (e->again)
		e->chain = c->put_off;
	if (e->again)
		condense_window(&c->condense, c->put_off_window);
	if (e->window > 0)
		c->condense.options.window = e->window;
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
