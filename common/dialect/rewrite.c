/*
 * Rewriting a request: the body is copied with a few cuts replaced, so whatever no edit names stays
 * the client's own bytes.
 */
#include "common/dialect/rewrite.h"

#include "common/dialect/front.h"
#include "common/dialect/pieces.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum splice_kind { SPLICE_MESSAGES, SPLICE_STRING, SPLICE_NUM_CTX, SPLICE_TOOLS };

struct splice {
	enum splice_kind kind;
	struct slice cut; /* bytes of the body that are replaced; empty: a place to insert at */
	size_t message;	  /* SPLICE_STRING */
};

/* Beside strings that are edited: messages, tools, num_ctx. */
#define OTHER_SPLICES 3

struct rewrite {
	const struct chat_request *r;
	const struct chat_edit *edits;
	struct slice tools;
	char num_ctx[96];	/* what SPLICE_NUM_CTX puts */
	struct splice *splices; /* owned */
	size_t count;
};

static const char *end_of(struct slice s)
{
	return s.p + s.n;
}

static void put_span(struct buf *out, const char *from, const char *to)
{
	buf_add(out, from, (size_t)(to - from));
}

static bool changes(const struct chat_edit *edits, size_t i)
{
	return edits && edits[i].kind != CHAT_KEEP;
}

/* --- one message --- */

/* The first text part takes the new text, the other text parts go, all else stays raw; pictures as
 * the edit says. */
static void put_parts(struct json_value content, const struct chat_edit *edit, struct buf *out)
{
	struct slice text = edit->text;
	struct json_iter it = json_iter(content);
	struct json_value part, value;
	bool placed = false, any = false;
	while (!placed && json_array_next(&it, &part))
		placed = part_classify(part, &value) == PART_TEXT;
	buf_add_char(out, '[');
	if (!placed) {
		buf_add_str(out, "{\"type\":\"text\",\"text\":");
		json_put_string(out, text);
		buf_add_char(out, '}');
		any = true;
	}
	bool done = !placed;
	it = json_iter(content);
	while (json_array_next(&it, &part)) {
		enum part_kind kind = part_classify(part, &value);
		bool is_text = kind == PART_TEXT;
		if ((is_text && done) || (kind == PART_IMAGE && edit->drop_pictures))
			continue;
		if (any)
			buf_add_char(out, ',');
		any = true;
		if (is_text) {
			put_span(out, part.raw.p, value.raw.p);
			json_put_string(out, text);
			put_span(out, end_of(value.raw), end_of(part.raw));
			done = true;
		} else {
			buf_add_slice(out, part.raw);
		}
	}
	buf_add_char(out, ']');
}

/* From and to lie in the message; an `images` member between them becomes an empty array. */
static void put_without_pictures(const struct chat_message *m, const struct chat_edit *edit,
	const char *from, const char *to, struct buf *out)
{
	struct json_value images = {.type = JSON_NONE};
	if (edit->drop_pictures && json_is(m->raw, JSON_OBJECT))
		images = json_get(m->raw, "images");
	if (json_is(images, JSON_ARRAY) && images.raw.p >= from && end_of(images.raw) <= to) {
		put_span(out, from, images.raw.p);
		buf_add_str(out, "[]");
		from = end_of(images.raw);
	}
	put_span(out, from, to);
}

void rewrite_message(const struct chat_message *m, const struct chat_edit *edit, struct buf *out)
{
	struct slice raw = m->raw.raw, content = m->content.raw;
	if (m->content.type == JSON_NONE) {
		buf_add_str(out, "{\"content\":");
		json_put_string(out, edit->text);
		if (value_filled(m->raw))
			buf_add_char(out, ',');
		put_without_pictures(m, edit, raw.p + 1, end_of(raw), out);
		return;
	}
	put_without_pictures(m, edit, raw.p, content.p, out);
	if (m->content.type == JSON_ARRAY)
		put_parts(m->content, edit, out);
	else
		json_put_string(out, edit->text);
	put_without_pictures(m, edit, end_of(content), end_of(raw), out);
}

void rewrite_user(struct slice text, struct buf *out)
{
	buf_add_str(out, "{\"role\":\"user\",\"content\":");
	json_put_string(out, text);
	buf_add_char(out, '}');
}

/* --- the array of messages --- */

/* Elements keep the separator, spacing included, that stood before them; the first written takes
 * the first one's. */
static void put_messages(const struct rewrite *w, struct buf *out)
{
	const struct chat_request *r = w->r;
	struct slice array = r->messages_array.raw;
	bool any = false;
	buf_add_char(out, '[');
	for (size_t i = 0; i < r->count; i++) {
		const struct chat_message *m = &r->messages[i];
		const struct chat_edit *edit = &w->edits[i];
		if (edit->kind == CHAT_DROP)
			continue;
		size_t before = any ? i : 0;
		put_span(out, before ? end_of(r->messages[before - 1].raw.raw) : array.p + 1,
			r->messages[before].raw.raw.p);
		any = true;
		switch (edit->kind) {
		case CHAT_REPLACE_TEXT:
			rewrite_message(m, edit, out);
			break;
		case CHAT_INSERT_BEFORE:
			rewrite_user(edit->text, out);
			buf_add_char(out, ',');
			buf_add_slice(out, m->raw.raw);
			break;
		case CHAT_INSERT_BEFORE_DROP:
			rewrite_user(edit->text, out);
			break;
		default:
			buf_add_slice(out, m->raw.raw);
		}
	}
	put_span(out, end_of(r->messages[r->count - 1].raw.raw), end_of(array));
}

/* A bare prompt is gone on with where it ends, so no line end is put behind it. */
static struct slice text_of(const struct chat_request *r, const struct chat_edit *edit, size_t i)
{
	struct slice text = edit->text, own = string_inner(r->messages[i].content);
	bool ends_line = own.n >= 2 && memcmp(own.p + own.n - 2, "\\n", 2) == 0;
	if (r->bare && !ends_line && text.n && text.p[text.n - 1] == '\n')
		text.n--;
	return text;
}

/* A message that is a string of the body: a prompt or the system text. */
static void put_string(const struct rewrite *w, size_t i, struct buf *out)
{
	const struct chat_edit *edit = &w->edits[i];
	buf_add_char(out, '"');
	if (edit->kind != CHAT_DROP)
		json_put_escaped(out, text_of(w->r, edit, i));
	if (edit->kind == CHAT_INSERT_BEFORE) {
		buf_add_str(out, "\\n\\n");
		buf_add_slice(out, string_inner(w->r->messages[i].content));
	}
	buf_add_char(out, '"');
}

/* --- the plan --- */

static void plan(struct rewrite *w, enum splice_kind kind, struct slice cut, size_t message)
{
	w->splices[w->count++] = (struct splice){kind, cut, message};
}

/* Only that member is touched: its value, or a place right after the brace of options or of the
 * root. */
static void plan_num_ctx(struct rewrite *w, int64_t num_ctx)
{
	struct json_value options = json_get(w->r->root, "options");
	struct json_value old = options.type == JSON_OBJECT
					? json_get(options, "num_ctx")
					: (struct json_value){.type = JSON_NONE};
	struct json_value parent = options.type == JSON_OBJECT ? options : w->r->root;
	const char *comma = value_filled(parent) ? "," : "";
	long long n = num_ctx;
	if (old.type != JSON_NONE) {
		snprintf(w->num_ctx, sizeof(w->num_ctx), "%lld", n);
		plan(w, SPLICE_NUM_CTX, old.raw, 0);
	} else if (options.type == JSON_OBJECT) {
		snprintf(w->num_ctx, sizeof(w->num_ctx), "\"num_ctx\":%lld%s", n, comma);
		plan(w, SPLICE_NUM_CTX, (struct slice){options.raw.p + 1, 0}, 0);
	} else if (options.type == JSON_NONE) {
		snprintf(w->num_ctx, sizeof(w->num_ctx), "\"options\":{\"num_ctx\":%lld}%s", n,
			comma);
		plan(w, SPLICE_NUM_CTX, (struct slice){w->r->root.raw.p + 1, 0}, 0);
	} else {
		snprintf(w->num_ctx, sizeof(w->num_ctx), "{\"num_ctx\":%lld}", n);
		plan(w, SPLICE_NUM_CTX, options.raw, 0);
	}
}

static int by_place(const void *a, const void *b)
{
	const struct splice *x = a, *y = b;
	return (x->cut.p > y->cut.p) - (x->cut.p < y->cut.p);
}

static void put_splice(const struct rewrite *w, const struct splice *s, struct buf *out)
{
	switch (s->kind) {
	case SPLICE_MESSAGES:
		put_messages(w, out);
		break;
	case SPLICE_STRING:
		put_string(w, s->message, out);
		break;
	case SPLICE_TOOLS:
		buf_add_slice(out, w->tools);
		break;
	case SPLICE_NUM_CTX:
		buf_add_str(out, w->num_ctx);
	}
}

/* The body with the splices in it; they are freed. */
static int apply(struct rewrite *w, int64_t num_ctx, struct buf *out)
{
	const char *at = w->r->body.p;
	if (num_ctx > 0)
		plan_num_ctx(w, num_ctx);
	qsort(w->splices, w->count, sizeof(w->splices[0]), by_place);
	for (size_t i = 0; i < w->count; i++) {
		const struct splice *s = &w->splices[i];
		put_span(out, at, s->cut.p);
		put_splice(w, s, out);
		at = end_of(s->cut);
	}
	put_span(out, at, end_of(w->r->body));
	free(w->splices);
	return buf_error(out);
}

static int begin(struct rewrite *w, size_t strings)
{
	w->splices = calloc(strings + OTHER_SPLICES, sizeof(*w->splices));
	return w->splices ? 0 : -ENOMEM;
}

int front_rewrite_messages(const struct chat_request *r, const struct chat_edit *edits,
	struct slice tools, int64_t set_num_ctx, struct buf *out)
{
	struct rewrite w = {.r = r, .edits = edits, .tools = tools};
	size_t first = 0;
	if (begin(&w, 0))
		return -ENOMEM;
	while (first < r->count && !changes(edits, first))
		first++;
	if (first < r->count)
		plan(&w, SPLICE_MESSAGES, r->messages_array.raw, 0);
	if (tools.n && json_is(r->tools, JSON_ARRAY))
		plan(&w, SPLICE_TOOLS, r->tools.raw, 0);
	return apply(&w, set_num_ctx, out);
}

int front_rewrite_texts(const struct chat_request *r, const struct chat_edit *edits,
	struct slice tools, int64_t set_num_ctx, struct buf *out)
{
	struct rewrite w = {.r = r, .edits = edits};
	(void)tools;
	if (begin(&w, r->count))
		return -ENOMEM;
	for (size_t i = 0; i < r->count; i++)
		if (changes(edits, i))
			plan(&w, SPLICE_STRING, r->messages[i].raw.raw, i);
	return apply(&w, set_num_ctx, out);
}
