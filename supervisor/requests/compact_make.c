#include "supervisor/requests/compact_make.h"

#include "common/condense.h"

#include <errno.h>

/* Of the room that tools and system prompt leave: what the block takes, unless that is too little for what may
 * not be shortened; then twice as much, and so on. */
#define COMPACT_SHARE 0.25
#define COMPACT_TRIES 3
/* Of the window: a prompt that is compacted where the client leaves the threshold to the server. */
#define COMPACT_FROM 0.8

bool compact_is_wished(const struct compaction_wish *w)
{
	return w->alone || w->edit;
}

bool compact_is_wanted(struct compact_want *w)
{
	if (w->wish.trigger == 0)
		w->wish.trigger = w->window > 0 ? (int64_t)((double)w->window * COMPACT_FROM)
						: COMPACTION_TRIGGER;
	return w->wish.alone ||
	       (w->wish.edit && w->view->condensable && w->tokens >= (uint64_t)w->wish.trigger);
}

/* What the conversation may take, beside tools and system prompt: a share of the window, and so much less than the
 * threshold that there is something to grow until it is reached again. A client that asks for a block has reached one
 * of its own, which it does not name: half of what it found too much, unless that is little as it is. */
static double room_of(const struct compact_want *w, double fixed, double share)
{
	double whole = w->window > 0 ? (double)w->window : (double)w->tokens;
	double room = whole > fixed ? (whole - fixed) * share : 0;
	double most = w->wish.edit ? (double)w->wish.trigger * 2 * share
				   : ((double)w->tokens - fixed) * 2 * share;
	if (!w->wish.edit && most < room / 2)
		most = room / 2;
	return most < room ? most : room;
}

/* What is laid out, as a text. */
static enum condense_result write_down(
	const struct compact_want *w, struct condense *k, struct buf *text)
{
	struct buf body;
	struct chat_request laid;
	struct dialect_error error;
	buf_init(&body, text->max);
	enum condense_result result = condense_assemble(k, NULL, 0, &body);
	if (result == CONDENSE_OK &&
		chat_request_parse(w->view->dialect, buf_slice(&body), &laid, &error))
		result = CONDENSE_FAILED;
	if (result == CONDENSE_OK) {
		if (compaction_text(&laid, w->view, text))
			result = CONDENSE_FAILED;
		chat_request_fini(&laid);
	}
	buf_free(&body);
	return result;
}

static enum condense_result lay_out(
	const struct compact_want *w, struct condense *k, double share, struct buf *text)
{
	double start = token_census_start(&w->view->census);
	double scale = (double)w->tokens / (start > 1 ? start : 1);
	double fixed = (k->tools_start + k->system_start) * scale;
	double room = room_of(w, fixed, share);
	struct condense_facts f = {.tokens = (double)w->tokens, .tokens_start = start};
	/* What tools and system prompt reach by themselves would be reached again with each turn. */
	if (w->wish.edit && fixed + room >= (double)w->wish.trigger)
		return CONDENSE_NO_ROOM;
	f.room_tokens = (int64_t)(fixed + room) + 1;
	condense_options(k, &f, NULL);
	enum condense_result result = condense_prepare(k);
	if (result == CONDENSE_NOTHING)
		return compaction_text(w->view, w->view, text) ? CONDENSE_FAILED : CONDENSE_OK;
	return result == CONDENSE_OK ? write_down(w, k, text) : result;
}

int compact_make(const struct compact_want *w, struct buf *text)
{
	struct condense k;
	enum condense_result result = CONDENSE_FAILED;
	double share = COMPACT_SHARE;
	if (condense_init(&k, w->view) == 0)
		result = CONDENSE_NO_ROOM;
	for (int i = 0; i < COMPACT_TRIES && result == CONDENSE_NO_ROOM; i++, share *= 2)
		result = lay_out(w, &k, share, text);
	condense_fini(&k);
	return result == CONDENSE_OK ? 0 : result == CONDENSE_NO_ROOM ? -EMSGSIZE : -ENOMEM;
}

struct explain_compaction compact_told(
	const struct compact_want *w, bool begun, int result, uint64_t after)
{
	return (struct explain_compaction){.made = begun && result == 0,
		.whole = w->wish.alone || w->wish.pause,
		.tokens = w->tokens,
		.after = after,
		.trigger = w->wish.alone ? 0 : w->wish.trigger,
		.why = result == -ENOMEM      ? "out of memory"
		       : begun		      ? "what is never shortened leaves no room for it"
		       : w->view->condensable ? "the prompt has fewer tokens than the threshold"
					      : "the conversation has begun its answer"};
}
