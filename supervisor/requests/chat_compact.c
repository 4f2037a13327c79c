/*
 * A chat whose client wishes for a compaction block (common/dialect/compaction.h, compact_make.h).
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

/* On any thread. What fails leaves the conversation as it is. */
static void compact_work(struct chat *c)
{
	char signature[COMPACT_SIGNATURE_BYTES];
	struct buf text, next;
	buf_init(&text, c->rewritten.max);
	buf_init(&next, c->rewritten.max);
	if (c->compact.keep_key)
		compact_key_write(&c->base.all->compact_key);
	int rc = compact_make(&c->compact.want, &text);
	if (rc == 0) {
		compact_sign(&c->base.all->compact_key.secret, buf_slice(&text), signature);
		rc = compaction_put(&c->view, buf_slice(&text), slice_str(signature), &next);
	}
	c->compact.result = rc;
	if (rc == 0) {
		c->compact.block = compact_name(slice_str(signature));
		chat_reread(c);
		buf_free(&c->body);
		c->body = next;
		next = (struct buf){0};
		chat_parse_again(c);
	}
	buf_free(&text);
	buf_free(&next);
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
	bool whole = p->want.wish.alone || p->want.wish.pause;
	uint64_t after =
		tokens_estimate(c->base.all->tokens, buf_slice(&c->model), &c->view.census);
	p->after = p->result ? 0 : after;
	if (!c->explain)
		log_line(p->result == -ENOMEM ? LOG_WARN : LOG_INFO, "compacted",
			LOG_STR("req", c->base.id), LOG_INT("tokens_before", p->want.tokens),
			LOG_INT("tokens_after", p->after),
			LOG_STR("why", p->result ? strerror(-p->result) : ""), LOG_END);
	if (p->result == 0) {
		snprintf(c->note, sizeof(c->note), "compacted from %llu tokens",
			(unsigned long long)p->want.tokens);
		if (c->explain)
			return false;
		if (whole)
			chat_answer_compaction(c);
		return whole;
	}
	if (!p->want.wish.alone)
		return false; /* as it would go without the wish */
	c->facts.tokens = p->want.tokens;
	c->facts.main.window = p->want.window;
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
	if (compaction_wished(&c->view, &p->want.wish, &c->parse_error, &p->code)) {
		refuse(c, c->parse_error.status, c->parse_error.text, p->code);
		return true;
	}
	if (!compact_is_wished(&p->want.wish))
		return false;
	p->want.tokens =
		tokens_estimate(c->base.all->tokens, buf_slice(&c->model), &c->view.census);
	p->want.window = governor_window(chat_alias_device(c), buf_slice(&c->model));
	p->want.view = &c->view;
	p->messages = c->view.count;
	if (!compact_is_wanted(&p->want))
		return false;
	p->begun = true;
	p->keep_key = !c->explain && compact_key_claim(&c->base.all->compact_key);
	chat_work(c, compact_work, CHAT_PARSED, false);
	return true;
}
