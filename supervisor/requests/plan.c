#include "supervisor/requests/plan.h"
#include "supervisor/devices/rate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *strategy_name(enum strategy s)
{
	static const char *const names[] = {"A", "B", "C", "small"};
	return names[s];
}

static double prefill_s(const struct plan_device *d, double tokens)
{
	return tokens / (d->prefill_tok_s > 0 ? d->prefill_tok_s : RATE_PREFILL_TOK_S);
}

static double decode_s(const struct plan_device *d, double tokens)
{
	return tokens / (d->decode_tok_s > 0 ? d->decode_tok_s : RATE_DECODE_TOK_S);
}

/* What the window holds beside the answer; 0 unknown. */
static double usable(const struct plan_facts *f)
{
	if (f->main.window <= 0)
		return 0;
	int64_t reserve = PLAN_OUTPUT_RESERVE_TOKENS;
	if (f->max_output > 0 && f->max_output < f->main.window / 2)
		reserve = f->max_output;
	if (reserve > f->main.window / 4)
		reserve = f->main.window / 4;
	return (double)(f->main.window - reserve);
}

static int64_t at_least_one(double room)
{
	return room > 1 ? (int64_t)room : 1;
}

int64_t plan_room(const struct plan_facts *f)
{
	double all = usable(f), room = all / PLAN_SLACK;
	if (all <= 0)
		return 0;
	if (f->counted > 0 && f->counted <= f->tokens)
		room = fmax(room, all - (double)(f->tokens - f->counted) * (PLAN_SLACK - 1));
	return at_least_one(room);
}

static int64_t room_with(const struct plan_facts *f, double slack)
{
	double all = usable(f);
	return all <= 0 ? 0 : at_least_one(all / slack);
}

int64_t plan_layout_room(const struct plan_facts *f)
{
	return room_with(f, PLAN_SLACK);
}

int64_t plan_room_after(const struct plan_facts *f, double sent, double counted)
{
	double room = (double)plan_room(f);
	if (room <= 0 || room > sent)
		room = sent; /* whatever we take the window for */
	if (counted > 0 && f->main.window > 0)
		return at_least_one(fmin(room, usable(f) * sent / counted * PLAN_COUNTED_SHARE));
	return at_least_one(room * PLAN_OVERFLOW_SHARE);
}

int64_t plan_counted_room(const struct plan_facts *f)
{
	return room_with(f, PLAN_COUNTED_SLACK);
}

bool plan_fits(const struct plan_facts *f)
{
	int64_t room = plan_room(f);
	return room == 0 || f->tokens <= (uint64_t)room;
}

/* The largest piece of source text that one notes job of the small device can take. */
static int64_t largest_chunk(const struct plan_facts *f)
{
	if (f->small.window <= 0)
		return 0;
	int64_t free = f->small.window - PLAN_NOTES_PROMPT_TOKENS - f->notes_max_tokens;
	int64_t chunk = (int64_t)((double)free / PLAN_CHUNK_SLACK);
	return chunk > 64 ? chunk : 64;
}

void plan_ask(struct plan_facts *f, enum strategy way)
{
	int64_t tokens = (int64_t)f->tokens,
		least = tokens < f->a_max_tokens ? tokens : f->a_max_tokens;
	f->asked = true;
	f->a_max_tokens = way == STRATEGY_A ? tokens + 1 : least;
	if (way == STRATEGY_B && f->b_max_tokens < tokens)
		f->b_max_tokens = tokens;
	else if (way == STRATEGY_C && f->b_max_tokens >= tokens)
		f->b_max_tokens = tokens > 0 ? tokens - 1 : 0;
}

static void tell_size(const struct plan_facts *f, const char *size, int64_t most, struct plan *out)
{
	if (f->asked)
		snprintf(out->reason, sizeof(out->reason), "way %s was asked for",
			strategy_name(out->strategy));
	else
		snprintf(out->reason, sizeof(out->reason), "%llu tokens %s %lld",
			(unsigned long long)f->tokens, size, (long long)most);
}

void plan_decide(const struct plan_facts *f, struct plan *out)
{
	memset(out, 0, sizeof(*out));
	bool fits = plan_fits(f);
	out->must_shrink = !fits;
	out->room_tokens = plan_room(f);
	if (f->bare || f->tokens < (uint64_t)f->a_max_tokens)
		out->strategy = STRATEGY_A;
	else
		out->strategy = f->tokens <= (uint64_t)f->b_max_tokens ? STRATEGY_B : STRATEGY_C;

	if (!f->to_main || !f->condensable) {
		snprintf(out->reason, sizeof(out->reason), "%s",
			!f->to_main ? "the model lives on another device"
				    : "this kind of request is never rewritten");
		out->strategy = STRATEGY_A;
		return;
	}
	if (f->bare && fits) {
		snprintf(out->reason, sizeof(out->reason),
			"a prompt for no template is rewritten only where it does not fit");
		return;
	}
	if (out->strategy == STRATEGY_A && fits) {
		tell_size(f, "< a_max_tokens", f->a_max_tokens, out);
		return;
	}
	out->condense = true;
	if (!f->bare)
		out->keep_ratio = out->strategy == STRATEGY_C ? f->keep_ratio_c : f->keep_ratio_b;
	if (out->strategy == STRATEGY_A) {
		snprintf(out->reason, sizeof(out->reason),
			"%llu tokens do not fit the main window of %lld: selection alone",
			(unsigned long long)f->tokens, (long long)f->main.window);
		return;
	}
	if (!f->small.present) {
		out->condense = !fits;
		snprintf(out->reason, sizeof(out->reason),
			fits ? "no condensing device: unchanged"
			     : "no condensing device and too long: selection alone");
		return;
	}
	if (!f->small.ready) {
		/* The last resorts need no small device: the original, or where it does not fit the
		 * selection alone. */
		out->condense = !fits;
		snprintf(out->reason, sizeof(out->reason),
			fits ? "fallback: condensing device not ready; unchanged"
			     : "fallback: condensing device not ready; selection alone");
		return;
	}
	out->notes = true;
	int64_t largest = largest_chunk(f);
	/* B is one pass: one chunk, unless the small window cannot hold it. C maps chunks over the
	 * slots. */
	out->chunk_tokens = out->strategy == STRATEGY_B ? f->b_max_tokens * 2 : f->chunk_tokens;
	int64_t for_cap = (int64_t)(f->tokens / (uint64_t)f->max_chunks) + 1;
	if (out->strategy == STRATEGY_C && out->chunk_tokens < for_cap)
		out->chunk_tokens = for_cap;
	if (largest > 0 && out->chunk_tokens > largest)
		out->chunk_tokens = largest;
	tell_size(f, out->strategy == STRATEGY_B ? "<= b_max_tokens" : "> b_max_tokens",
		f->b_max_tokens, out);
}

bool plan_original_sooner(const struct plan_facts *f, uint64_t chunks_left, uint64_t chunk_tokens,
	uint64_t condensed_tokens, char reason[PLAN_REASON_BYTES])
{
	double original = prefill_s(&f->main, (double)f->tokens);
	double chunk = prefill_s(&f->main, (double)chunk_tokens + PLAN_NOTES_PROMPT_TOKENS) +
		       decode_s(&f->main, (double)f->notes_max_tokens);
	double condensed =
		(double)chunks_left * chunk + prefill_s(&f->main, (double)condensed_tokens);
	bool sooner = original <= condensed;
	snprintf(reason, PLAN_REASON_BYTES, "original %.1f s, %llu chunk(s) on main %.1f s",
		original, (unsigned long long)chunks_left, condensed);
	return sooner;
}
