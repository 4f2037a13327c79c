/* A chat's body as a view, with the messages of a compaction block in its place (common/dialect/compaction.h). */
#include "supervisor/requests/chat.h"
#include "supervisor/requests/compact_key.h"

#include "common/base/hash.h"

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
	return chat_request_take(c->base.dialect, &c->body, &c->view, &c->parse_error);
}

static int verify(struct chat *c, const struct compaction_found *f, struct buf *text)
{
	struct buf signature;
	buf_init(&signature, 0);
	json_string_decode(f->content, text);
	if (json_is(f->signature, JSON_STRING))
		json_string_decode(f->signature, &signature);
	enum compact_verdict verdict =
		compact_verify(&c->base.all->compact_key, buf_slice(text), buf_slice(&signature));
	int rc = buf_error(text) ? buf_error(text) : buf_error(&signature);
	if (rc == 0 && verdict == COMPACT_OURS)
		c->compact.block = hash_bytes(signature.p, signature.n) | 1;
	buf_free(&signature);
	if (rc || verdict == COMPACT_OURS)
		return rc;
	bool altered = verdict == COMPACT_ALTERED;
	c->compact.code = altered ? COMPACTION_CONTENT_MISMATCH : COMPACTION_SIGNATURE_INVALID;
	c->parse_error.status = 400;
	snprintf(c->parse_error.text, sizeof(c->parse_error.text), "messages: %s",
		altered ? "the compaction block's content is not what its signature was made for"
			: "the compaction block's signature does not verify: it was not made "
			  "here, or its key is gone");
	return -EINVAL;
}

static int apply_block(struct chat *c)
{
	struct compaction_found f;
	struct buf text, next;
	int rc;
	if (!compaction_find(&c->view, &f, &rc, &c->parse_error, &c->compact.code))
		return 0;
	buf_init(&text, 0);
	buf_init(&next, c->rewritten.max);
	if (rc == 0)
		rc = verify(c, &f, &text);
	if (rc == 0)
		rc = compaction_apply(&c->view, &f, buf_slice(&text), &next);
	if (rc)
		chat_request_fini(&c->view);
	else
		rc = take_body(c, &next);
	buf_free(&text);
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
