/*
 * An answer that outlives its workers: what the client has of it, and what is done when the worker
 * or its backend dies.
 *
 * Before the answer's first byte the whole request is given to a device again. After it, the text
 * that the client has goes with the request, and the next job continues it: the client sees one
 * stream. For that the client must never be left in the middle of a line or event, so bytes that do
 * not end one are held back until the rest is there.
 * Whether it is tried again says retry.h.
 */
#include "common/base/log.h"
#include "supervisor/requests/chat.h"
#include "supervisor/requests/chat_reply.h"

#include <errno.h>
#include <stdio.h>

/* Bytes of a line or event that are held back: a larger one goes out as it comes, and cannot be
 * gone on with until it is whole. Half the worker's credit, so that it never waits for itself. */
#define HELD_BYTES (PROTO_WINDOW_BYTES / 2)

/* --- what the client has --- */

void chat_resume_init(struct chat *c)
{
	const struct config *conf = c->base.all->config;
	struct chat_resume *s = &c->resume;
	buf_init(&s->text, (size_t)conf->limits.resume_bytes);
	s->opaque = conf->limits.resume_bytes == 0;
	buf_init(&s->held, HELD_BYTES);
	buf_init(&s->identity, PROTO_PIECE_BYTES);
	buf_init(&s->body, (size_t)job_body_bytes_max(conf));
}

void chat_resume_fini(struct chat *c)
{
	buf_free(&c->resume.text);
	buf_free(&c->resume.held);
	buf_free(&c->resume.identity);
	buf_free(&c->resume.body);
}

static void tell_step(struct chat *c)
{
	struct step it = {.kind = STEP_RESUME,
		.outcome = STEP_DONE,
		.begun_ms = c->resume.lost_ms,
		.ended_ms = now_ms(),
		.tokens = c->resume.tokens,
		.cached = -1,
		.count = 1};
	snprintf(it.device, sizeof(it.device), "%s", c->device->conf->name);
	steps_add(request_steps(&c->base), &it);
}

void chat_resume_started(struct chat *c, const struct proto_record *r)
{
	struct chat_resume *s = &c->resume;
	if (s->identity.n == 0)
		buf_add_slice(&s->identity, r->u.start.identity);
	if (!chat_begun(c))
		return;
	c->base.all->count.resumed++;
	tell_step(c);
	log_line(LOG_INFO, "resumed", LOG_STR("req", c->base.id), LOG_INT("tokens", s->tokens),
		LOG_INT("bytes_out", c->bytes_out), LOG_STR("device", c->device->conf->name),
		LOG_INT("deaths", s->counts.deaths),
		LOG_STR("how", s->replay.again ? "replayed" : "continued"),
		LOG_INT("away_ms", now_ms() - s->lost_ms), LOG_END);
}

static void keep_text(struct chat_resume *s, const struct proto_record *r)
{
	if (r->u.delta.opaque || buf_add_slice(&s->text, r->u.delta.text))
		s->opaque = true; /* over limits.resume_bytes, too */
	if (s->opaque)
		buf_free(&s->text);
}

void chat_resume_delta(struct chat *c, const struct proto_record *r)
{
	struct chat_resume *s = &c->resume;
	struct slice bytes = r->u.delta.bytes;
	bool whole = r->u.delta.whole;
	if (!s->opaque)
		keep_text(s, r);
	if (!whole && !s->open && s->held.n + bytes.n <= HELD_BYTES &&
		buf_add_slice(&s->held, bytes) == 0)
		return;
	if (s->held.n && !chat_answer_write(c, buf_slice(&s->held)))
		return;
	buf_free(&s->held);
	if (!chat_answer_write(c, bytes))
		return;
	s->open = !whole;
	if (whole) {
		s->said = s->text.n;
		s->tokens += r->u.delta.tokens;
		chat_replay_advanced(c, r->u.delta.source);
	}
}

/* --- the job that goes on --- */

static int make_body(struct chat *c, struct slice request)
{
	struct chat_resume *s = &c->resume;
	buf_clear(&s->body);
	buf_add_slice(&s->body, request);
	buf_add(&s->body, s->text.p, s->replay.said);
	chat_hold(c, s->body.n > s->body_held ? s->body.n - s->body_held : 0);
	if (s->body.n > s->body_held)
		s->body_held = s->body.n;
	return buf_error(&s->body);
}

int chat_resume_spec(struct chat *c, struct job_spec *spec)
{
	struct chat_resume *s = &c->resume;
	s->bytes_at_start = c->bytes_out;
	/* What was told of bytes that were never sent on is forgotten with them. */
	buf_clear(&s->held);
	if (s->text.n > s->said)
		s->text.n = s->said;
	chat_replay_spec(c, spec);
	if (chat_begun(c))
		spec->message.identity = buf_slice(&s->identity);
	if (!s->replay.continues)
		return 0;
	spec->message.resume = true;
	spec->message.resume_tokens = s->replay.tokens;
	if (s->replay.said == 0)
		return 0;
	int rc = make_body(c, spec->body);
	spec->body = buf_slice(&s->body);
	spec->message.resume_bytes = (int64_t)s->replay.said;
	return rc;
}

/* --- where it could go --- */

static bool can_take(const struct chat *c, const struct device *d)
{
	int64_t window = device_window(d), need = (int64_t)c->sent_tokens + c->resume.tokens;
	return d->state == WORKER_READY && !device_hopeless(d) && (window <= 0 || window >= need) &&
	       device_serves(d, buf_slice(&c->model)) &&
	       (!chat_begun(c) || device_has(d, TRAIT_CONTINUES));
}

static bool has_free_slot(const struct device *d)
{
	return d->inflight < (unsigned)device_slots(d) && jobs_waiting(d) == 0;
}

/* Higher is better: a main device, then one with a free slot. */
static int rank(const struct device *d)
{
	return 2 * !!(d->conf->roles & ROLE_MAIN) + has_free_slot(d);
}

/* One that is ready and serves the model in a window wide enough, the one that just failed last;
 * where there is none, the one that such a request waits for. */
static struct device *device_again(struct chat *c)
{
	struct requests *s = c->base.all;
	struct device *best = NULL;
	/* A main one may have the small one's model on its disk, and would load it. */
	if (c->lane.state == LANE_ON && !device_hopeless(c->device))
		return c->device;
	for (size_t i = 0; i < s->devices->count; i++) {
		struct device *d = s->devices->of[i];
		if (d != c->device && can_take(c, d) && (!best || rank(d) > rank(best)))
			best = d;
	}
	if (best)
		return best;
	return c->device->state == WORKER_READY ? c->device
						: pick_model(s->devices, buf_slice(&c->model));
}

void chat_resume_look_again(struct chat *c)
{
	if (!device_hopeless(c->device) || (c->resume.replay.again && c->resume.opaque))
		return;
	if (c->resume.replay.again)
		chat_replay_drop(c);
	c->device = device_again(c);
}

struct device *chat_resume_elsewhere(struct chat *c)
{
	struct requests *s = c->base.all;
	if (chat_replay_waits(c))
		return NULL;
	for (size_t i = 0; i < s->devices->count && c->lane.state != LANE_ON; i++) {
		struct device *d = s->devices->of[i];
		bool same_part =
			!(c->device->conf->roles & ROLE_MAIN) || (d->conf->roles & ROLE_MAIN);
		if (d != c->device && same_part && can_take(c, d) && has_free_slot(d))
			return d;
	}
	return NULL;
}

bool chat_resume_patient(const struct chat *c)
{
	return chat_begun(c) &&
	       now_ms() - c->resume.lost_ms < (uint64_t)c->base.all->config->deadlines.main_wait_ms;
}

/* --- after a failure --- */

/* Why the answer's stream does not stand where another job can go on; NULL: it does. */
static const char *stuck(const struct chat *c)
{
	const struct chat_resume *s = &c->resume;
	return !c->view.stream ? "half of an object is sent"
	       : s->open       ? "half of an event is sent"
	       : s->opaque     ? "it holds more than text, or too much"
			       : NULL;
}

/* A worker whose own backend dies says first that the answer is cut, then dies of it. */
static bool told_before(const struct chat *c, const struct job_failure *f)
{
	const struct chat_resume *s = &c->resume;
	return f->cause == JOB_LOST && s->cut_device == c->device &&
	       s->cut_generation == c->device->generation;
}

static void note_death(struct chat *c, const struct job_failure *f)
{
	struct chat_resume *s = &c->resume;
	if (f->expected || f->cause == JOB_LOST)
		return;
	s->cut_device = c->device;
	s->cut_generation = c->device->generation;
}

static void note_poison(struct chat *c)
{
	poison_add(&c->base.all->poison, c->base.client, buf_slice(&c->body), now_ms());
	log_line(LOG_ERROR, "poison", LOG_STR("req", c->base.id),
		LOG_STR("device", c->device->conf->name),
		LOG_INT("deaths", c->resume.counts.deaths), LOG_INT("refused_ms", POISON_MS),
		LOG_END);
	c->resume.poison = true;
}

static void note_counts(struct chat *c, const struct job_failure *f)
{
	chat_count_told(c, f->prompt_tokens);
	if (f->window_tokens > 0 && f->window_tokens < c->facts.main.window)
		c->facts.main.window = f->window_tokens;
}

static struct retry_facts facts_of(
	const struct chat *c, const struct job_failure *f, const struct device *next, bool replays)
{
	const struct config *conf = c->base.all->config;
	const struct chat_resume *s = &c->resume;
	return (struct retry_facts){.cause = f->cause,
		.begun = chat_begun(c),
		.advanced = c->bytes_out > s->bytes_at_start,
		.blameless = f->expected || told_before(c, f),
		.original = c->use_condensed && !c->plan.must_shrink,
		.shorter = !c->overflowed && c->facts.condensable && c->facts.to_main,
		.stuck = stuck(c) != NULL && !replays,
		.same_device = next == c->device && next->state == WORKER_READY,
		.same_worker = next && s->retried == next->current->generation,
		.poison_at = conf->limits.request_deaths,
		.deaths_max = conf->limits.resumes};
}

/* It has died under the request, which has not begun: told as a fallback. */
static void tell_lost(struct chat *c, const struct job_failure *f)
{
	if (!chat_begun(c) && (f->cause == JOB_LOST || f->cause == FAIL_CUT))
		chat_fallback(c,
			f->cause == JOB_LOST ? "worker lost before the first byte"
					     : "backend lost before the first byte",
			"again");
}

static struct chat_again carry_out(struct chat *c, const struct job_failure *f,
	const struct retry_decision *d, struct device *next)
{
	struct chat_resume *s = &c->resume;
	switch (d->what) {
	case RETRY_POISON:
		note_poison(c);
		break;
	case RETRY_STUCK:
		log_line(LOG_WARN, "not_resumed", LOG_STR("req", c->base.id),
			LOG_INT("tokens", s->tokens), LOG_STR("why", stuck(c)), LOG_END);
		break;
	case RETRY_AGAIN:
	case RETRY_PAUSE:
		tell_lost(c, f);
		s->lost_ms = now_ms();
		if (d->what == RETRY_PAUSE)
			s->retried = next->current->generation;
		c->device = next ? next : c->device;
		steps_point(request_steps(&c->base), STEP_RETRY, c->device->conf->name,
			job_cause_name(f->cause), now_ms());
		return (struct chat_again){
			d->what == RETRY_PAUSE ? AGAIN_PAUSE : AGAIN_SUBMIT, d->pause_ms};
	case RETRY_ORIGINAL:
		c->use_condensed = c->use_rewritten = false;
		chat_fallback(c,
			f->cause == FAIL_STATUS ? "the condensed request was refused"
						: "no answer to the condensed request",
			"original");
		return (struct chat_again){.what = AGAIN_SUBMIT};
	case RETRY_SHORTER:
		return (struct chat_again){.what = AGAIN_SHORTER};
	default:
		break;
	}
	return (struct chat_again){.what = AGAIN_NOT};
}

struct chat_again chat_resume_failed(struct chat *c, const struct job_failure *f)
{
	if (c->base.all->ending) /* no worker will come: the client is told while it can be */
		return (struct chat_again){.what = AGAIN_NOT};
	struct job_failure strange = *f;
	if (f->cause == FAIL_GONE && !c->resume.replay.again) {
		strange.cause = FAIL_GARBAGE; /* nothing was read again that could be gone */
		f = &strange;
	}
	bool replays = chat_replay_can(c, f) && !told_before(c, f);
	bool stays = replays || (f->cause == FAIL_GONE && can_take(c, c->device));
	struct device *next = stays ? c->device : device_again(c);
	struct retry_facts facts = facts_of(c, f, next, replays);
	struct retry_decision d = retry_decide(&facts, &c->resume.counts);
	bool again = d.what == RETRY_AGAIN || d.what == RETRY_PAUSE;
	chat_replay_failed(c, f, replays && again);
	if (d.death)
		note_death(c, f);
	if (f->cause == FAIL_OVERFLOW && !facts.begun)
		note_counts(c, f);
	if (c->lane.state == LANE_ON && !facts.begun && d.what != RETRY_POISON)
		return (struct chat_again){.what = AGAIN_MAIN};
	return carry_out(c, f, &d, next);
}
