/*
 * Making a compaction block (common/dialect/compaction.h): the frozen layout does it, without a model. The
 * conversation is laid out for a part of the window, and written down.
 *
 * A chat that is compacted on its way has the short conversation as its body from then on, and is planned and
 * answered like one that came with it; the next request brings the block and gets the same bytes.
 */
#include "common/base/log.h"
#include "common/dialect/compaction.h"
#include "supervisor/devices/governor.h"
#include "supervisor/requests/chat.h"
#include "supervisor/requests/chat_reply.h"
#include "supervisor/requests/compact_key.h"

#include <errno.h>
#include <stdio.h>

/* Of the room that tools and system prompt leave: what the block takes, unless that is too little for what may
 * not be shortened; then twice as much, and so on. */
#define COMPACT_SHARE 0.25
#define COMPACT_TRIES 3
/* Of the window: a prompt that is compacted where the client leaves the threshold to the server. */
#define COMPACT_FROM 0.8

/* What the conversation may take, beside tools and system prompt: a share of the window, and so much less than the
 * threshold that there is something to grow until it is reached again. A client that asks for a block has reached one
 * of its own, which it does not name: half of what it found too much, unless that is little as it is. */
static double room_of(const struct chat_compact *p, double fixed, double share)
{
	double whole = p->window > 0 ? (double)p->window : (double)p->tokens;
	double room = whole > fixed ? (whole - fixed) * share : 0;
	double most = p->wish.edit ? (double)p->wish.trigger * 2 * share
				   : ((double)p->tokens - fixed) * 2 * share;
	if (!p->wish.edit && most < room / 2)
		most = room / 2;
	return most < room ? most : room;
}

/* Lays the conversation out, and writes it down. */
static enum condense_result lay_out(
	struct chat *c, struct condense *k, double share, struct buf *text)
{
	const struct chat_compact *p = &c->compact;
	double start = token_census_start(&c->view.census);
	double scale = (double)p->tokens / (start > 1 ? start : 1);
	double fixed = (k->tools_start + k->system_start) * scale;
	double room = room_of(p, fixed, share);
	struct condense_facts f = {.tokens = (double)p->tokens, .tokens_start = start};
	/* What tools and system prompt reach by themselves would be reached again with each turn. */
	if (p->wish.edit && fixed + room >= (double)p->wish.trigger)
		return CONDENSE_NO_ROOM;
	f.room_tokens = (int64_t)(fixed + room) + 1;
	condense_options(k, &f, NULL);
	enum condense_result result = condense_prepare(k);
	struct buf body;
	struct chat_request laid;
	struct dialect_error error;
	if (result == CONDENSE_NOTHING)
		return compaction_text(&c->view, &c->view, text) ? CONDENSE_FAILED : CONDENSE_OK;
	if (result != CONDENSE_OK)
		return result;
	buf_init(&body, text->max);
	result = condense_assemble(k, NULL, 0, &body);
	if (result == CONDENSE_OK &&
		chat_request_parse(c->base.dialect, buf_slice(&body), &laid, &error))
		result = CONDENSE_FAILED;
	if (result == CONDENSE_OK) {
		if (compaction_text(&laid, &c->view, text))
			result = CONDENSE_FAILED;
		chat_request_fini(&laid);
	}
	buf_free(&body);
	return result;
}

static int make_text(struct chat *c, struct buf *text)
{
	struct condense k;
	enum condense_result result = CONDENSE_FAILED;
	double share = COMPACT_SHARE;
	if (condense_init(&k, &c->view) == 0)
		result = CONDENSE_NO_ROOM;
	for (int i = 0; i < COMPACT_TRIES && result == CONDENSE_NO_ROOM; i++, share *= 2)
		result = lay_out(c, &k, share, text);
	condense_fini(&k);
	return result == CONDENSE_OK ? 0 : result == CONDENSE_NO_ROOM ? -EMSGSIZE : -ENOMEM;
}

/* On any thread. What fails leaves the conversation as it is. */
static void compact_work(struct chat *c)
{
	char signature[COMPACT_SIGNATURE_BYTES];
	struct buf text, next;
	buf_init(&text, c->rewritten.max);
	buf_init(&next, c->rewritten.max);
	if (c->compact.keep_key)
		compact_key_write(&c->base.all->compact_key);
	int rc = make_text(c, &text);
	if (rc == 0) {
		compact_sign(&c->base.all->compact_key, buf_slice(&text), signature);
		rc = compaction_put(&c->view, buf_slice(&text), slice_str(signature), &next);
	}
	c->compact.result = rc;
	if (rc == 0) {
		chat_reread(c);
		buf_free(&c->body);
		c->body = next;
		next = (struct buf){0};
		chat_parse_again(c);
	}
	buf_free(&text);
	buf_free(&next);
}

static bool is_wanted(struct chat *c)
{
	const struct compaction_wish *w = &c->compact.wish;
	return w->alone ||
	       (w->edit && c->view.condensable && c->compact.tokens >= (uint64_t)w->trigger);
}

static void refuse(struct chat *c, int status, const char *text, const char *code)
{
	struct buf body;
	buf_init(&body, 0);
	compaction_error(c->base.dialect, status, slice_str(text), code, &body);
	chat_answer_error(c, status, slice_str(text), buf_slice(&body), (struct slice){0},
		status == 503 ? CHAT_RETRY_AFTER_S : 0);
	buf_free(&body);
}

/* The block is there, or could not be made. True: the request is over. */
static bool made(struct chat *c)
{
	struct chat_compact *p = &c->compact;
	bool whole = p->wish.alone || p->wish.pause;
	uint64_t after =
		tokens_estimate(c->base.all->tokens, buf_slice(&c->model), &c->view.census);
	p->after = p->result ? 0 : after;
	if (!c->explain)
		log_line(p->result == -ENOMEM ? LOG_WARN : LOG_INFO, "compacted",
			LOG_STR("req", c->base.id), LOG_INT("tokens_before", p->tokens),
			LOG_INT("tokens_after", p->after),
			LOG_STR("why", p->result ? strerror(-p->result) : ""), LOG_END);
	if (p->result == 0) {
		snprintf(c->note, sizeof(c->note), "compacted from %llu tokens",
			(unsigned long long)p->tokens);
		if (c->explain)
			return false;
		if (whole)
			chat_answer_compaction(c);
		return whole;
	}
	if (!p->wish.alone)
		return false; /* as it would go without the wish */
	c->facts.tokens = p->tokens;
	c->facts.main.window = p->window;
	if (p->result == -EMSGSIZE)
		chat_answer_overflow(c);
	else
		refuse(c, 503, "the conversation could not be compacted: out of memory",
			"compaction_unavailable");
	return true;
}

bool chat_compact(struct chat *c)
{
	struct chat_compact *p = &c->compact;
	if (c->parse_result == -EINVAL && p->code) {
		refuse(c, c->parse_error.status, c->parse_error.text, p->code);
		return true;
	}
	if (c->parse_result)
		return false;
	if (p->begun)
		return made(c);
	if (compaction_wished(&c->view, &p->wish, &c->parse_error, &p->code)) {
		refuse(c, c->parse_error.status, c->parse_error.text, p->code);
		return true;
	}
	if (!p->wish.alone && !p->wish.edit)
		return false;
	p->tokens = tokens_estimate(c->base.all->tokens, buf_slice(&c->model), &c->view.census);
	p->window = governor_window(chat_alias_device(c), buf_slice(&c->model));
	if (p->wish.trigger == 0)
		p->wish.trigger = p->window > 0 ? (int64_t)((double)p->window * COMPACT_FROM)
						: COMPACTION_TRIGGER;
	if (!is_wanted(c))
		return false;
	p->begun = true;
	p->keep_key = !c->explain && compact_key_claim(&c->base.all->compact_key);
	chat_work(c, compact_work, CHAT_PARSED, false);
	return true;
}
