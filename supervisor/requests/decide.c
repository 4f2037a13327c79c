#include "supervisor/requests/decide.h"

const char *decide_outcome_name(enum decide_outcome o)
{
	static const char *const names[DECIDE_OUTCOMES] = {
		"original", "condensed", "overflow", "compacted"};
	return names[o];
}

void decide_facts(struct plan_facts *f, const struct config *conf, const struct chat_request *r,
	uint64_t tokens, bool to_main)
{
	f->tokens = tokens;
	f->to_main = to_main;
	f->max_output = r->max_output;
	f->condensable = r->condensable && !r->is_load;
	f->bare = r->bare;
	f->a_max_tokens = conf->routing.a_max_tokens;
	f->b_max_tokens = conf->routing.b_max_tokens;
	f->keep_ratio_b = conf->condense.keep_ratio_b;
	f->keep_ratio_c = conf->condense.keep_ratio_c;
	f->chunk_tokens = conf->condense.chunk_tokens;
	f->notes_max_tokens = conf->condense.notes_max_tokens;
	f->max_chunks = conf->condense.max_chunks;
}

struct condense_facts decide_condense(const struct config *conf, const struct plan_facts *f,
	const struct plan *p, const struct chat_request *r, double tokens, bool overflowed,
	bool by_time)
{
	struct condense_facts c = {
		.tokens = tokens,
		.tokens_start = token_census_start(&r->census),
		.room_tokens = p->room_tokens,
		.overflowed = overflowed,
		.sizes_decide = !by_time,
		.keep_ratio = overflowed ? 0 : p->keep_ratio,
		.least_tokens = f->a_max_tokens,
		.max_chunks = (size_t)conf->condense.max_chunks,
	};
	double images = (double)r->census.images * TOKENS_PER_IMAGE;
	double bytes_a_token = (double)(r->text_bytes + 1) / (tokens - images + 1);
	if (p->notes)
		c.chunk_bytes = (size_t)((double)p->chunk_tokens * bytes_a_token);
	c.notes_bytes = (size_t)((double)c.chunk_bytes * DECIDE_NOTES_SHARE);
	return c;
}

enum decide_outcome decide_plain(
	const struct plan_facts *f, const struct plan *p, bool is_load, unsigned traits)
{
	/* What cannot be rewritten and does not fit would be cut by an old Ollama in silence. */
	bool would_be_cut = !p->condense && !is_load && f->main.window > 0 &&
			    f->tokens > (uint64_t)f->main.window && traits & TRAIT_CUTS_IN_SILENCE;
	return would_be_cut ? DECIDE_OVERFLOW : DECIDE_ORIGINAL;
}

enum decide_outcome decide_laid_out(enum condense_result result, unsigned traits)
{
	switch (result) {
	case CONDENSE_OK:
		return DECIDE_CONDENSED;
	case CONDENSE_NO_ROOM:
		/* An old Ollama would cut the prompt in silence; others know their window better
		 * than our estimate and say so themselves. */
		return traits & TRAIT_CUTS_IN_SILENCE ? DECIDE_OVERFLOW : DECIDE_ORIGINAL;
	case CONDENSE_NOTHING: /* the layout counts closer than the plan, which has a slack */
	case CONDENSE_FAILED:
		break;
	}
	return DECIDE_ORIGINAL;
}

enum decide_outcome decide_weighed(
	enum condense_result result, enum choose_form form, unsigned traits)
{
	if (result == CONDENSE_OK && form == FORM_ORIGINAL)
		return DECIDE_ORIGINAL;
	return decide_laid_out(result, traits);
}
