/*
 * Anthropic's /v1/messages: a body whose messages are edited. A client's message that no edit names
 * stays its own bytes; one of several blocks is put together of those that stay.
 */
#include "common/dialect/front_anthropic.h"
#include "common/dialect/pieces.h"
#include "common/dialect/rewrite.h"

#include <errno.h>

static void put_text_block(struct buf *out, struct slice text)
{
	buf_add_str(out, "{\"type\":\"text\",\"text\":");
	json_put_string(out, text);
	buf_add_char(out, '}');
}

static void comma(struct buf *out, bool *any)
{
	if (*any)
		buf_add_char(out, ',');
	*any = true;
}

/* One block of a message. */
static void put_block(
	const struct chat_message *m, const struct chat_edit *edit, bool *any, struct buf *out)
{
	enum chat_edit_kind kind = edit->kind;
	if (kind == CHAT_DROP)
		return;
	comma(out, any);
	if (kind == CHAT_INSERT_BEFORE || kind == CHAT_INSERT_BEFORE_DROP) {
		put_text_block(out, edit->text);
		if (kind == CHAT_INSERT_BEFORE_DROP)
			return;
		buf_add_char(out, ',');
		kind = CHAT_KEEP;
	}
	if (kind == CHAT_KEEP) {
		buf_add_slice(out, m->raw.raw);
	} else if (m->role == CHAT_TOOL || m->content.type == JSON_STRING) {
		rewrite_message(m, edit, out);
	} else { /* a picture, which a text takes the place of or stands beside */
		put_text_block(out, edit->text);
		if (!edit->drop_pictures) {
			buf_add_char(out, ',');
			buf_add_slice(out, m->raw.raw);
		}
	}
}

/* A message as a whole. */
static void put_whole(
	const struct chat_message *m, const struct chat_edit *edit, bool *any, struct buf *out)
{
	enum chat_edit_kind kind = edit->kind;
	if (kind == CHAT_DROP)
		return;
	comma(out, any);
	if (kind == CHAT_INSERT_BEFORE || kind == CHAT_INSERT_BEFORE_DROP)
		rewrite_user(edit->text, out);
	if (kind == CHAT_INSERT_BEFORE)
		buf_add_char(out, ',');
	if (kind == CHAT_REPLACE_TEXT)
		rewrite_message(m, edit, out);
	else if (kind != CHAT_INSERT_BEFORE_DROP)
		buf_add_slice(out, m->raw.raw);
}

struct rewriting {
	const struct chat_request *r;
	const struct chat_edit *edits;
	struct anthropic_walk walk;
	struct anthropic_piece at;
	size_t i; /* of the view */
	bool more;
};

static void step(struct rewriting *w)
{
	w->i++;
	w->more = anthropic_next(&w->walk, &w->at);
}

/* All blocks of the message that the walk is at. */
static void put_blocks(struct rewriting *w, bool *any, struct buf *out)
{
	struct json_value message = w->at.message, content = json_get(message, "content");
	size_t number = w->at.number, before = out->n, begin;
	bool some = false;
	comma(out, any);
	buf_add(out, message.raw.p, (size_t)(content.raw.p + 1 - message.raw.p));
	begin = out->n;
	for (; w->more && w->at.number == number; step(w))
		put_block(&w->r->messages[w->i], &w->edits[w->i], &some, out);
	if (out->n == begin && !buf_error(out)) { /* nothing is left of it */
		out->n = before;
		*any = before > 0 && out->p[before - 1] != '[';
		return;
	}
	const char *end = content.raw.p + content.raw.n - 1;
	buf_add(out, end, (size_t)(message.raw.p + message.raw.n - end));
}

static void put_messages(struct rewriting *w, struct buf *out)
{
	bool any = false;
	anthropic_walk_begin(&w->walk, w->r->messages_array);
	w->more = anthropic_next(&w->walk, &w->at);
	buf_add_char(out, '[');
	while (w->more) {
		if (w->at.split) {
			put_blocks(w, &any, out);
			continue;
		}
		put_whole(&w->r->messages[w->i], &w->edits[w->i], &any, out);
		step(w);
	}
	buf_add_char(out, ']');
}

static void put_system(const struct chat_message *m, const struct chat_edit *edit, struct buf *out)
{
	if (edit->kind == CHAT_REPLACE_TEXT)
		json_put_string(out, edit->text);
	else if (edit->kind == CHAT_DROP)
		buf_add_str(out, "\"\"");
	else
		buf_add_slice(out, m->raw.raw);
}

int anthropic_rewrite(const struct chat_request *r, const struct chat_edit *edits,
	struct slice tools, int64_t set_num_ctx, struct buf *out)
{
	struct json_iter it = json_iter(r->root);
	struct json_value key, value, system = json_get(r->root, "system");
	size_t first = is_absent(system) ? 0 : 1, changed = 0;
	const char *at = r->body.p;
	(void)set_num_ctx;
	for (size_t i = 0; edits && i < r->count; i++)
		changed += edits[i].kind != CHAT_KEEP;
	while (json_object_next(&it, &key, &value)) {
		bool is_system = changed && first && value.raw.p == r->messages[0].raw.raw.p;
		bool is_messages = changed && value.raw.p == r->messages_array.raw.p;
		bool is_tools =
			tools.n && json_is(r->tools, JSON_ARRAY) && value.raw.p == r->tools.raw.p;
		if (!is_system && !is_messages && !is_tools)
			continue;
		buf_add(out, at, (size_t)(value.raw.p - at));
		at = value.raw.p + value.raw.n;
		if (is_system)
			put_system(&r->messages[0], &edits[0], out);
		else if (is_tools)
			buf_add_slice(out, tools);
		else
			put_messages(&(struct rewriting){.r = r, .edits = edits, .i = first}, out);
	}
	buf_add(out, at, (size_t)(r->body.p + r->body.n - at));
	return buf_error(out);
}
