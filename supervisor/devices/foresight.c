#include "supervisor/devices/foresight.h"

#include "common/base/hash.h"

#include <math.h>

#define CLEAR 2.0	/* times that differ by less do not tell warm from cold */
#define KNOWN 1		/* measurements after which a time tells of caches */
#define MUCH_SOONER 3.0 /* than a cold prefill: something was cached that we did not know of */
#define SWAP_MS .03	/* 56 KB (a 7B model's) at 1.9 GB/s, as seen with llama-server on Vulkan */
#define SWAP_SHARE .05	/* of the time to read a token, at most, before it was seen */
#define SWAP_WEIGHT .3	/* of a new measurement */
#define REUSE_LESSONS 3
#define REUSE_MIN 0.3
/* Of what a slot was restored with, and of the prompt: what they begin with alike. A server that then reads all
 * of it makes no use of what it restores; with less it may well take another slot, or clear this one. */
#define PROOF 0.5
#define HOST_HAS 0.5 /* of a prompt that left its slot; none known (-1) counts as all of it */

void foresight_init(struct foresight *f, unsigned slots)
{
	predict_init(&f->rates);
	f->map = prefix_map_create(slots);
	f->swap_ms = -1;
	f->saved = (struct saved){0};
	f->no_host_cache = false;
}

void foresight_fini(struct foresight *f)
{
	prefix_map_destroy(f->map);
	f->map = NULL;
	saved_fini(&f->saved);
}

void foresight_slots(struct foresight *f, unsigned slots)
{
	if (f->map)
		f->map = prefix_map_resize(f->map, slots);
}

/* The backend itself may have it, beside its slots: it is asked first, and told by its last answer. */
static bool may_be_in_host(const struct foresight *f, const struct forecast *fc, double tokens)
{
	return f->map && !f->no_host_cache &&
	       fc->match.shared[PREFIX_EVICTED] + PREFIX_LESSON_TOKENS > tokens &&
	       fabs(prefix_lesson(f->map, PREFIX_EVICTED)) >= HOST_HAS;
}

/* Tokens of it in slots, and beside them as far as the last answer about that says. */
static double held(const struct foresight *f, const struct forecast *fc)
{
	const struct prefix_match *m = &fc->match;
	bool lost = f->map && fabs(prefix_lesson(f->map, PREFIX_EVICTED)) < HOST_HAS;
	double slots = fmax(m->shared[PREFIX_LAST], m->shared[PREFIX_SLOTS]);
	return lost ? fmin(m->cached, slots) : m->cached;
}

/* What a file has of it, where that is sooner than reading it; or a slot, of which no answer has told
 * yet. */
static void consider_saved(
	const struct foresight *f, const struct prefix_chain *c, struct forecast *fc)
{
	double total = fc->match.cached + fc->match.fresh, tokens;
	const struct saved_chat *e = saved_find(&f->saved, c, total, &tokens);
	if (!e)
		return;
	if (e->loaded && f->map && prefix_in_slots(f->map, e->sent)) {
		if (tokens >= PROOF * e->tokens && tokens >= PROOF * total) {
			fc->kept = e->id;
			fc->kept_tokens = tokens;
		}
		return;
	}
	if (!e->there) /* its slot has another by now */
		return;
	double have = held(f, fc);
	if (tokens < have + PREFIX_LESSON_TOKENS || may_be_in_host(f, fc, tokens))
		return;
	double ms = saved_restore_ms(&f->saved, e->bytes) +
		    predict_first_ms(&f->rates, tokens, total - tokens);
	double without =
		have < fc->match.cached ? predict_first_ms(&f->rates, have, total - have) : fc->ms;
	if (ms > without * SAVED_GAIN)
		return;
	fc->ms = ms;
	fc->match.cached = tokens;
	fc->match.fresh = total - tokens;
	fc->match.moved = 0;
	fc->kept = e->id;
	fc->kept_tokens = tokens;
	fc->restore = true;
}

static uint64_t conversation_of(const struct foresight *f, const struct prefix_chain *c)
{
	uint64_t id = f->map ? prefix_conversation(f->map, c) : 0;
	if (id == 0)
		id = saved_conversation(&f->saved, c);
	if (id == 0 && c->count)
		id = hash_mix(c->links[c->count - 1].hash) | 1;
	return id;
}

void foresight_puts_aside(struct foresight *f, double similarity)
{
	if (f->map)
		prefix_puts_aside(f->map, similarity);
}

double foresight_swap_ms(const struct foresight *f, double tokens)
{
	double one = f->swap_ms >= 0
			     ? f->swap_ms
			     : fmin(SWAP_MS, SWAP_SHARE * predict_prefill_ms(&f->rates, 0, 1));
	return one * tokens;
}

struct forecast foresee(const struct foresight *f, const struct prefix_chain *c)
{
	struct forecast fc = {.match = {.fresh = fmax(prefix_tokens(c), 1)}};
	if (f->map)
		fc.match = prefix_find(f->map, c);
	fc.ms = predict_first_ms(&f->rates, fc.match.cached, fc.match.fresh) +
		foresight_swap_ms(f, fc.match.moved);
	fc.conversation = conversation_of(f, c);
	consider_saved(f, c, &fc);
	return fc;
}

void forecast_ask(const struct forecast *fc, struct proto_job *job)
{
	job->conversation = fc->conversation;
	job->kept = fc->kept;
	job->kept_tokens = (int64_t)fc->kept_tokens;
	job->restore = fc->restore;
}

void foresight_sent(struct foresight *f, struct forecast *fc, struct prefix_chain *c)
{
	if (!f->map)
		return;
	fc->id = prefix_sent(f->map, c);
	prefix_name(f->map, fc->id, fc->conversation);
}

/* What the prefill's time says of the cache. *sure: the rates can be learned from it. */
static double infer(const struct foresight *f, double expected, double total, double ms, bool *sure)
{
	const struct predict_rates *r = &f->rates;
	double warm = predict_prefill_ms(r, expected, total - expected);
	double cold = predict_prefill_ms(r, 0, total);
	*sure = true;
	if (r->prefills < KNOWN) { /* nothing to compare with: only what must be cold teaches */
		*sure = expected < total / 10;
		return expected;
	}
	if (cold > CLEAR * warm && fabs(log(ms / cold)) < fabs(log(ms / warm)))
		return fmax(total - predict_fresh(r, total, ms), 0);
	if (expected < total / 10 && ms * MUCH_SOONER < cold) {
		*sure = false; /* a cache of before we came, or the card has become that fast */
		return fmax(total - predict_fresh(r, total, ms), 0);
	}
	return expected;
}

/* Something came back: that is not in the backend's own time for the prompt. */
static void learn_swap(struct foresight *f, const struct forecast *fc, const struct outcome *o)
{
	double ms = fmax(o->first_ms - o->prompt_ms - f->rates.overhead_ms, 0);
	bool came = o->cached > fc->match.shared[PREFIX_LAST] + PREFIX_LESSON_TOKENS;
	if (!came || fc->match.moved < PREFIX_LESSON_TOKENS)
		return;
	double before = foresight_swap_ms(f, 1);
	f->swap_ms = before + SWAP_WEIGHT * (ms / fc->match.moved - before);
}

/* What the backend has counted before is as many tokens now; an estimate is corrected by what this
 * count says of all of it. */
static double expected_cached(const struct forecast *fc, const struct outcome *o)
{
	double estimate = fc->match.cached + fc->match.fresh + o->behind;
	if (fc->match.counted > 0)
		return fc->match.cached;
	return fc->match.cached * o->prompt / fmax(estimate, 1);
}

double foresight_ended(struct foresight *f, const struct forecast *fc, const struct outcome *o)
{
	double ms = o->prompt_ms, cached = o->cached, total = o->prompt;
	bool sure = true;
	struct prefix_match match = fc->match;
	struct saved_chat *kept = saved_get(&f->saved, fc->kept);
	if (kept)
		kept->loaded = false; /* its proof was this answer */
	if (fc->restore)	      /* what was there before is not what this tells of */
		memset(match.shared, 0, sizeof(match.shared));
	else if (o->prompt_ms >= 0 && o->first_ms >= 0 && fc->match.moved > 0)
		learn_swap(f, fc, o);
	else if (o->prompt_ms >= 0 && o->first_ms >= 0)
		predict_learn_overhead(&f->rates, o->first_ms - o->prompt_ms);
	else if (ms < 0 && o->first_ms >= 0)
		ms = fmax(o->first_ms - f->rates.overhead_ms, 0);
	if (total > 0 && cached < 0 && ms > 0) {
		double expected = expected_cached(fc, o);
		cached = infer(f, fmin(expected, total - 1), total, ms, &sure);
	}
	if (total > 0 && cached >= 0 && ms > 0 && sure)
		predict_learn(&f->rates, cached, total - cached, ms);
	if (f->map)
		prefix_counted(f->map, fc->id, &match, total > 0 ? total - o->behind : total,
			cached, fmax(o->output, 0) + o->behind);
	return cached;
}

void foresight_cancelled(struct foresight *f, const struct forecast *fc, bool begun)
{
	if (f->map && !begun)
		prefix_cut(f->map, fc->id, fc->match.cached);
}

void foresight_loaded(struct foresight *f, struct saved_chat *e)
{
	const struct prefix_match none = {0};
	struct prefix_chain copy = {0};
	if (!f->map || e->chain.count == 0 || prefix_chain_copy(&e->chain, &copy))
		return;
	double tokens = prefix_tokens(&copy);
	e->sent = prefix_sent(f->map, &copy);
	prefix_counted(f->map, e->sent, &none, tokens, -1, e->tokens - tokens);
	prefix_name(f->map, e->sent, e->id);
	e->loaded = true;
}

void foresight_forget(struct foresight *f)
{
	saved_unload(&f->saved);
	if (f->map)
		prefix_forget(f->map);
}

bool foresight_reuses(const struct foresight *f)
{
	unsigned lessons = 0;
	if (!f->map)
		return false;
	double trust = prefix_trust(f->map, PREFIX_LAST, &lessons);
	return lessons < REUSE_LESSONS || trust >= REUSE_MIN;
}
