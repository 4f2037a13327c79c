#include "common/condense.h"

#include "common/layout/diet.h"
#include "common/tokens.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define GAIN_LEAST .1	/* a prompt that fits is rewritten only if that share of it goes */
#define SCALE_STEPS 8	/* to a doubling: learning moves a window only in such steps */
#define WIDER 1.03	/* what a window must grow by, to move all that stands in it */
#define TARGET_STEP 1.5 /* the targets of prompts that fit: they move only in such steps */

/* --- sizes --- */

static bool has_tools(const struct chat_request *r)
{
	struct json_iter it = json_iter(r->tools);
	struct json_value first;
	return json_array_next(&it, &first);
}

static double tools_tokens(const struct chat_request *r)
{
	if (r->tools_bytes == 0)
		return 0;
	double tokens = token_census_start(&r->tools_census);
	size_t raw = has_tools(r) ? r->tools.raw.n : 0;
	if (raw == 0)
		return (double)r->tools_bytes / 4;
	return r->tools_bytes <= raw ? tokens : tokens * (double)r->tools_bytes / (double)raw;
}

int condense_init(struct condense *c, const struct chat_request *r)
{
	*c = (struct condense){.request = r, .scale = 1};
	c->chains = calloc(r->count + 1, sizeof(*c->chains));
	c->groups = calloc(r->count + 1, sizeof(*c->groups));
	if (!c->chains || !c->groups)
		return -ENOMEM;
	layout_chains(r, c->chains, c->groups);
	c->tools_start = tools_tokens(r);
	c->system_start = token_census_start(&r->system_census);
	return 0;
}

void condense_fini(struct condense *c)
{
	layout_fini(&c->layout);
	layout_chunks_free(c->chunks, c->chunk_count);
	layout_state_release(c->from);
	layout_state_release(c->made);
	buf_free(&c->tools);
	free(c->chains);
	free(c->groups);
	*c = (struct condense){0};
}

/* --- options --- */

/* The next of TARGET_STEP^n: a conversation that grows keeps its target for a while. */
static double stepped(double tokens)
{
	return tokens > 1 ? pow(TARGET_STEP, ceil(log(tokens) / log(TARGET_STEP))) : 1;
}

static double scale_of(const struct condense_facts *f)
{
	if (f->tokens < 1 || f->tokens_start < 1)
		return 1;
	return exp2(round(log2(f->tokens_start / f->tokens) * SCALE_STEPS) / SCALE_STEPS);
}

/* All before the first answer. */
uint64_t condense_beginning(const struct condense *c)
{
	size_t i = 0;
	while (i + 1 < c->request->count && c->groups[i + 1] == 0)
		i++;
	return c->request->count ? c->chains[i] : 0;
}

/* The messages of which there may be a state: all, or those before the group that must not be frozen at. */
static size_t states_end(const struct condense *c)
{
	size_t i = 0, begin = 0;
	if (!c->facts.without)
		return c->request->count;
	for (; i < c->request->count && c->chains[i] != c->facts.without; i++)
		if (i + 1 < c->request->count && c->groups[i + 1] != c->groups[i])
			begin = i + 1;
	return begin;
}

void condense_options(
	struct condense *c, const struct condense_facts *f, struct layout_cache *cache)
{
	struct layout_options o = layout_defaults();
	c->facts = *f;
	c->scale = scale_of(f);
	o.tools = c->tools_start;
	o.window = (double)f->room_tokens * c->scale;
	if (cache && f->overflowed) {
		layout_cache_refused(cache, condense_beginning(c), o.window);
	} else if (cache && o.window > 0) {
		uint64_t beginning = condense_beginning(c);
		o.window = f->explained
				   ? layout_cache_look_window(cache, beginning, o.window, f->waits)
				   : layout_cache_window(cache, beginning, o.window, f->waits);
		c->scale = o.window / (double)f->room_tokens;
	}
	if (f->keep_ratio > 0) {
		double fixed = c->tools_start + c->system_start;
		double own = f->tokens_start > fixed ? f->tokens_start - fixed : 0;
		double target = fmax(own * f->keep_ratio, (double)f->least_tokens * c->scale);
		o.soft = fixed + stepped(target);
		o.single = f->keep_ratio;
		o.spare_whole = !f->sizes_decide;
		if (o.window <=
			0) { /* nothing is known of the window: all that must not stay may */
			o.window = fmax(f->tokens_start * 2, o.soft);
			o.must_fit = false;
		}
	}
	c->options = o;
	layout_state_release(c->from);
	c->from = cache ? layout_cache_find(cache, c->chains, c->groups, states_end(c)) : NULL;
}

void condense_window(struct condense *c, double window)
{
	if (c->facts.room_tokens <= 0 || window <= 0)
		return;
	c->options.window = window;
	c->scale = window / (double)c->facts.room_tokens;
}

double condense_wider(
	const struct condense *c, const struct layout_cache *cache, const struct condense_facts *f)
{
	if (!layout_cache_may_grow(cache, condense_beginning(c)))
		return 0;
	double offered = f->tokens < 1 ? 0 : (double)f->room_tokens * f->tokens_start / f->tokens;
	return offered > c->options.window * WIDER ? offered : 0;
}

/* --- the layout --- */

static enum condense_result judge(const struct condense *c)
{
	const struct layout *l = &c->layout;
	switch (l->result) {
	case LAYOUT_FAILED:
		return CONDENSE_FAILED;
	case LAYOUT_NO_ROOM:
		return CONDENSE_NO_ROOM;
	case LAYOUT_AS_SENT:
		return CONDENSE_NOTHING;
	case LAYOUT_RAISED:
		break;
	}
	bool fits = l->options.window <= 0 || l->tokens_in <= l->options.window;
	if (fits && c->facts.keep_ratio > 0 && l->tokens_out > l->tokens_in * (1 - GAIN_LEAST))
		return CONDENSE_NOTHING;
	return CONDENSE_OK;
}

/* Nothing else helps: the tools say only what a call needs. False: there is nothing to gain. */
static bool go_on_diet(struct condense *c)
{
	struct token_census census = {0};
	buf_clear(&c->tools);
	if (layout_diet(c->request, &c->tools, &c->tools_full)) {
		buf_free(&c->tools);
		return false;
	}
	token_census_add(&census, buf_slice(&c->tools));
	double tokens = token_census_start(&census);
	if (tokens >= c->tools_start) {
		buf_free(&c->tools);
		return false;
	}
	c->options.tools = tokens;
	return true;
}

enum condense_result condense_prepare(struct condense *c)
{
	layout_fini(&c->layout);
	buf_free(&c->tools);
	c->options.tools = c->tools_start;
	layout_make(&c->layout, c->request, &c->options, c->from);
	if (c->layout.result == LAYOUT_NO_ROOM && go_on_diet(c)) {
		layout_fini(&c->layout);
		layout_make(&c->layout, c->request, &c->options, c->from);
		if (c->layout.result == LAYOUT_AS_SENT) /* the tools are not */
			c->layout.result = LAYOUT_RAISED;
	}
	layout_state_release(c->made);
	c->made = layout_state_save(&c->layout);
	enum condense_result result = judge(c);
	if (result != CONDENSE_OK || c->facts.chunk_bytes == 0)
		return result;
	layout_chunks_free(c->chunks, c->chunk_count);
	if (layout_chunks(&c->layout, c->facts.chunk_bytes, c->facts.max_chunks, &c->chunks,
		    &c->chunk_count))
		return CONDENSE_FAILED;
	return result;
}

double condense_tokens(const struct condense *c)
{
	return c->layout.tokens_out / c->scale;
}

size_t condense_chunks(const struct condense *c)
{
	return c->chunk_count;
}

struct slice condense_chunk(const struct condense *c, size_t i)
{
	return buf_slice(&c->chunks[i].text);
}

enum condense_result condense_assemble(
	struct condense *c, const struct slice *notes, int64_t set_num_ctx, struct buf *body)
{
	if (notes && layout_add_notes(
			     &c->layout, c->chunks, c->chunk_count, notes, c->facts.notes_bytes))
		return CONDENSE_FAILED;
	if (chat_request_rewrite_tools(
		    c->request, c->layout.edits, buf_slice(&c->tools), set_num_ctx, body))
		return CONDENSE_FAILED;
	return CONDENSE_OK;
}

void condense_summary(const struct condense *c, char *out, size_t size)
{
	static const char *const words[LAYOUT_LEVELS] = {
		"fixed", "as sent", "at L1", "in a digest", "cut"};
	size_t counts[LAYOUT_LEVELS] = {0}, n = 0;
	for (size_t i = 0; i < c->layout.count; i++)
		counts[c->layout.messages[i].level]++;
	out[0] = 0;
	for (unsigned i = LAYOUT_L0; i < LAYOUT_LEVELS && n < size; i++)
		if (counts[i])
			n += (size_t)snprintf(
				out + n, size - n, "%s%zu %s", n ? ", " : "", counts[i], words[i]);
}
