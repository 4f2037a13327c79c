/* A chat's body as a view, with the messages of a compaction block in its place (common/dialect/compaction.h). */
#include "supervisor/requests/chat.h"
#include "supervisor/requests/compact_key.h"

#include <errno.h>
#include <stdio.h>

/* --- compaction blocks --- */

/* The body is `next` now, and what was read of the old one is gone. */
static int take_body(struct chat *c, struct buf *next)
{
	chat_request_fini(&c->view);
	buf_free(&c->body);
	c->body = *next;
	*next = (struct buf){0};
	return chat_request_parse(c->base.dialect, buf_slice(&c->body), &c->view, &c->parse_error);
}

/* text: a part of content. */
static int verify(
	struct chat *c, const struct compaction_found *f, struct buf *content, struct slice *text)
{
	struct buf signature;
	buf_init(&signature, 0);
	int rc = compaction_open(&c->view, f, content, text, &signature);
	enum compact_verdict verdict =
		compact_verify(&c->base.all->compact_key.secret, *text, buf_slice(&signature));
	if (rc == 0 && verdict == COMPACT_OURS)
		c->compact.block = compact_name(buf_slice(&signature));
	else if (rc == 0)
		rc = compaction_disown(c->base.dialect, verdict == COMPACT_ALTERED, &c->parse_error,
			&c->compact.code);
	buf_free(&signature);
	return rc;
}

static int apply_block(struct chat *c)
{
	struct compaction_found f;
	struct buf content, next;
	struct slice text = {0};
	int rc;
	if (!compaction_find(&c->view, &f, &rc, &c->parse_error, &c->compact.code))
		return 0;
	buf_init(&content, 0);
	buf_init(&next, c->rewritten.max);
	if (rc == 0)
		rc = verify(c, &f, &content, &text);
	if (rc == 0)
		rc = compaction_apply(&c->view, &f, text, &next);
	if (rc)
		chat_request_fini(&c->view);
	else
		rc = take_body(c, &next);
	buf_free(&content);
	buf_free(&next);
	return rc;
}

/* --- the whole --- */

void chat_reread(struct chat *c)
{
	condense_fini(&c->condense);
	if (c->parsed)
		chat_request_fini(&c->view);
	c->parsed = false;
	buf_clear(&c->model);
}

/* What is known of the body once it is read. */
static void know_body(struct chat *c)
{
	if (c->hash_wanted) /* of what is remembered: the body as it was mended */
		c->hash = poison_hash(&c->base.all->poison, c->base.client, buf_slice(&c->body));
	c->parsed = true;
	if (json_is(c->view.model, JSON_STRING))
		json_string_decode(c->view.model, &c->model);
	weigh_chain(&c->view, buf_slice(&c->model), &c->chain);
	if (c->view.condensable && condense_init(&c->condense, &c->view))
		c->parse_result = -ENOMEM;
	chat_guard_read(c);
}

void chat_parse(struct chat *c)
{
	c->parse_result = chat_request_take(c->base.dialect, &c->body, &c->view, &c->parse_error);
	c->compact.code = c->parse_result ? c->parse_error.code : NULL;
	if (c->parse_result == 0)
		c->parse_result = apply_block(c);
	if (c->parse_result == 0)
		know_body(c);
}

void chat_parse_again(struct chat *c)
{
	c->parse_result =
		chat_request_parse(c->base.dialect, buf_slice(&c->body), &c->view, &c->parse_error);
	if (c->parse_result == 0)
		know_body(c);
}
