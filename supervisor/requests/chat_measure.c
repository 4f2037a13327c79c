/* What is measured of a chat at its end (measures.h). */
#include "supervisor/requests/chat.h"

#include <stdio.h>

void chat_measure_usage(struct chat *c, const struct proto_usage *u, bool resumed)
{
	if (!resumed) {
		c->used = *u;
		return;
	}
	if (u->output_tokens >= 0)
		c->used.output_tokens = c->resume.tokens;
}

/* The backend's own word, where it has one; else what passed here. */
static double token_ms(const struct chat *c, double total_ms)
{
	const struct proto_usage *u = &c->used;
	if (u->output_tokens < 2)
		return -1;
	if (u->output_ms >= 0)
		return u->output_ms / (double)u->output_tokens;
	return c->view.stream
		       ? (total_ms - (double)c->first_byte_ms) / (double)(u->output_tokens - 1)
		       : -1;
}

/* An answer that ended well: only then no thread works on the view. */
static void measure_answer(const struct chat *c, struct measure *m)
{
	m->counted = c->used.prompt_tokens;
	m->tokens[MEASURE_CACHED] = c->used.cached_tokens > 0 ? (uint64_t)c->used.cached_tokens : 0;
	m->tokens[MEASURE_OUT] = c->used.output_tokens > 0 ? (uint64_t)c->used.output_tokens : 0;
	m->first_ms = c->view.stream && c->asked ? (double)c->first_byte_ms : -1;
	m->token_ms = token_ms(c, m->total_ms);
	m->queued_ms = c->queued_ms;
}

static enum measure_way way_of(const struct chat *c)
{
	if (dialect_counts(c->base.dialect))
		return MEASURE_PASS;
	return c->plan.reason[0] ? (enum measure_way)c->plan.strategy : MEASURE_NO_WAY;
}

static void count_size(const struct chat *c)
{
	struct counters *count = &c->base.all->count;
	count->too_long += c->too_long && !c->lead;
	if (c->facts.to_main && c->facts.tokens > count->largest_prompt)
		count->largest_prompt = c->facts.tokens;
}

static void record_words(const struct chat *c)
{
	struct record *r = c->base.record;
	if (!r || !c->plan.reason[0])
		return;
	char reason[2 * PLAN_REASON_BYTES + REQUEST_ID_BYTES + 16];
	snprintf(reason, sizeof(reason), "%s%s%s%s%s", c->plan.reason, c->note[0] ? "; " : "",
		c->note, c->joined_to[0] ? "; joined " : "", c->joined_to);
	record_text(r->reason, sizeof(r->reason), slice_str(reason));
	if (c->device)
		record_text(r->device, sizeof(r->device), slice_str(c->device->conf->name));
}

/* How each message went, where some went shorter than they came. */
static void record_layout(const struct chat *c)
{
	const struct layout *l = &c->condense.layout;
	size_t first;
	if (!c->base.record || !chat_went_shorter(c) || !l->messages)
		return;
	struct record_message *to = record_messages(c->base.record, l->count, &first);
	for (size_t i = first; to && i < l->count; i++)
		to[i - first] =
			(struct record_message){.role = chat_role_name(c->view.messages[i].role),
				.level = layout_level_name(l->messages[i].level),
				.reason = l->messages[i].reason,
				.bytes_in = l->messages[i].bytes_in,
				.bytes_out = l->messages[i].bytes_out};
}

void chat_recorded(struct chat *c)
{
	struct record *r = c->base.record;
	if (!r)
		return;
	record_text(r->model, sizeof(r->model), buf_slice(&c->model));
	record_words(c);
}

void chat_measured(struct chat *c)
{
	struct measure m = {.way = way_of(c),
		.dialect = c->base.dialect,
		.device = c->device ? c->device->conf->name : NULL,
		.outcome = c->base.outcome,
		.taken_over = c->left,
		.counted = -1,
		.total_ms = (double)(now_ms() - c->base.begun_ms),
		.first_ms = -1,
		.token_ms = -1,
		.queued_ms = -1};
	_Static_assert(
		(int)MEASURE_A == (int)STRATEGY_A && (int)MEASURE_SMALL == (int)STRATEGY_SMALL,
		"ways are strategies");
	bool counts = !c->explain && !c->bench; /* else nobody was asked, or for no client */
	m.tokens[MEASURE_IN] = c->facts.tokens;
	if (counts)
		count_size(c);
	if (c->lead && m.outcome == MEASURE_DONE)
		m.outcome = MEASURE_JOINED;
	if (!c->lead) {
		m.tokens[MEASURE_SENT] = c->asked ? c->sent_tokens : 0;
		m.layout = chat_went_shorter(c);
		m.overflow_condensed = c->overflowed && !c->too_long;
		m.overflow_refused = c->too_long;
	}
	if (m.outcome == MEASURE_DONE)
		measure_answer(c, &m);
	if (counts)
		measures_add(&c->base.all->measures, &m);
	record_words(c);
	record_layout(c);
	request_remembered(&c->base, &m);
}
