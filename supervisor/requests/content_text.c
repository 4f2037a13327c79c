#include "supervisor/requests/content_text.h"

#include <errno.h>
#include <stdlib.h>

#define TYPE_BYTES 64 /* of what is no text */

struct writing {
	const struct chat_request *r;
	struct buf before, after; /* of one message */
	struct buf *out;
	bool any; /* one of `others` stands there */
};

/* --- what is no text --- */

static struct slice inner(struct json_value v)
{
	return json_is(v, JSON_STRING) ? (struct slice){v.raw.p + 1, v.raw.n - 2}
				       : (struct slice){0};
}

/* "image/png" of "data:image/png;base64,..." */
static struct slice media_of_url(struct json_value url)
{
	static const char begin[] = "data:";
	struct slice s = inner(url);
	size_t n = strlen(begin), end = n;
	if (s.n < n || memcmp(s.p, begin, n) != 0)
		return (struct slice){0};
	while (end < s.n && end - n <= TYPE_BYTES && s.p[end] != ';' && s.p[end] != ',')
		end++;
	return (struct slice){s.p + n, end - n};
}

/* What it says that it holds, else what its part is called. */
static struct slice type_of(struct json_value part)
{
	struct slice type = {0};
	if (!json_is(part, JSON_OBJECT))
		return SLICE("image"); /* Ollama's are strings */
	struct json_value source = json_get(part, "source"), url = json_get(part, "image_url");
	if (json_is(source, JSON_OBJECT))
		type = inner(json_get(source, "media_type"));
	if (type.n == 0)
		type = media_of_url(json_is(url, JSON_OBJECT) ? json_get(url, "url") : url);
	return type.n ? type : inner(json_get(part, "type"));
}

/* A client's words stand where types are: only what looks like one is told. */
static bool is_type(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (!letter && !(c >= '0' && c <= '9') && !memchr("/+-._", c, 5))
			return false;
	}
	return s.n > 0 && s.n <= TYPE_BYTES;
}

static bool is_picture(struct json_value part)
{
	static const char *const types[] = {"image", "image_url", "input_image"};
	if (!json_is(part, JSON_OBJECT))
		return true;
	struct json_value type = json_get(part, "type");
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (json_string_is(type, types[i]))
			return true;
	return false;
}

static void put_other(struct writing *w, struct json_value part, const struct chat_edit *e)
{
	struct slice type = type_of(part);
	bool stays = e->kind == CHAT_KEEP || e->kind == CHAT_INSERT_BEFORE ||
		     (e->kind == CHAT_REPLACE_TEXT && !(e->drop_pictures && is_picture(part)));
	buf_add_str(w->out, w->any ? ",{" : "{");
	w->any = true;
	json_put_key(w->out, "type");
	json_put_string(w->out, is_type(type) ? type : SLICE("part"));
	json_put_key(w->out, "bytes");
	json_put_int(w->out, (int64_t)part.raw.n);
	json_put_key(w->out, "sent");
	buf_add_str(w->out, stays ? "true}" : "false}");
}

static void put_all(struct writing *w, struct json_value array, const struct chat_edit *e)
{
	struct json_iter it = json_iter(array);
	struct json_value one;
	while (json_is(array, JSON_ARRAY) && json_array_next(&it, &one))
		put_other(w, one, e);
}

/* Parts of a content that are neither text nor a call, which stands in the text. */
static void put_parts(struct writing *w, struct json_value content, const struct chat_edit *e)
{
	struct chat_texts texts = chat_texts(content);
	struct json_iter it = json_iter(content);
	struct json_value string, text, one;
	bool more = chat_texts_next(&texts, &string, &text);
	while (json_array_next(&it, &one)) {
		if (more && one.raw.p == text.raw.p)
			more = chat_texts_next(&texts, &string, &text);
		else if (!json_is(one, JSON_OBJECT) ||
			 !json_string_is(json_get(one, "type"), "tool_use"))
			put_other(w, one, e);
	}
}

static void put_others(struct writing *w, size_t i, const struct chat_edit *e)
{
	const struct chat_message *m = &w->r->messages[i];
	w->any = false;
	json_put_key(w->out, "others");
	buf_add_char(w->out, '[');
	if (json_is(m->content, JSON_ARRAY))
		put_parts(w, m->content, e);
	else if (json_is(m->content, JSON_NONE) && (m->images || m->others))
		put_other(w, m->raw, e); /* it is one itself */
	if (json_is(m->raw, JSON_OBJECT))
		put_all(w, json_get(m->raw, "images"), e);
	else if (m->images && json_is(w->r->root, JSON_OBJECT)) /* beside a prompt */
		put_all(w, json_get(w->r->root, "images"), e);
	buf_add_char(w->out, ']');
}

/* --- one message --- */

/* Its calls stay behind the text that takes the place of its own. */
static void replaced(struct writing *w, size_t i, const struct chat_edit *e)
{
	struct buf *to = &w->after;
	chat_content_text(w->r->messages[i].content, to);
	size_t own = to->n;
	buf_clear(to);
	buf_add_slice(to, e->text);
	if (own >= w->before.n || buf_error(to))
		return;
	if (to->n && to->p[to->n - 1] != '\n' && w->before.p[own] != '\n')
		buf_add_char(to, '\n');
	buf_add(to, w->before.p + own, w->before.n - own);
}

/* Fills w->after; how it was sent. */
static const char *sent(struct writing *w, size_t i, const struct chat_edit *e)
{
	buf_clear(&w->after);
	switch (e->kind) {
	case CHAT_DROP:
		return "nothing";
	case CHAT_REPLACE_TEXT:
		replaced(w, i, e);
		return "shortened";
	case CHAT_INSERT_BEFORE:
		buf_add_slice(&w->after, e->text);
		buf_add_char(&w->after, '\n');
		buf_add_slice(&w->after, buf_slice(&w->before));
		return "shortened";
	case CHAT_INSERT_BEFORE_DROP:
		buf_add_slice(&w->after, e->text);
		return "shortened";
	default:
		return "whole";
	}
}

static int put_message(struct writing *w, size_t i, const struct chat_edit *e)
{
	buf_clear(&w->before);
	int rc = chat_message_text(w->r, i, &w->before);
	if (rc)
		return rc;
	const char *how = sent(w, i, e);
	if (buf_error(&w->after))
		return buf_error(&w->after);
	buf_add_char(w->out, '{');
	json_put_key(w->out, "index");
	json_put_int(w->out, (int64_t)i);
	json_put_key(w->out, "role");
	json_put_string(w->out, slice_str(chat_role_name(w->r->messages[i].role)));
	json_put_key(w->out, "sent");
	json_put_string(w->out, slice_str(how));
	json_put_key(w->out, "before");
	json_put_string(w->out, buf_slice(&w->before));
	json_put_key(w->out, "after");
	if (e->kind == CHAT_KEEP || e->kind == CHAT_DROP)
		buf_add_str(w->out, "null");
	else
		json_put_string(w->out, buf_slice(&w->after));
	put_others(w, i, e);
	return buf_add_char(w->out, '}');
}

/* --- all of them --- */

/* Doubling has left room that nobody needs. */
static void trim(struct buf *b)
{
	char *p = b->n ? realloc(b->p, b->n) : NULL;
	if (p) {
		b->p = p;
		b->cap = b->n;
	}
}

int content_text_make(const struct chat_request *r, const struct chat_edit *edits, size_t most,
	struct content_text *out)
{
	struct writing w = {.r = r, .out = &out->json};
	int rc = 0;
	*out = (struct content_text){0};
	buf_init(&out->json, most);
	buf_init(&w.before, most);
	buf_init(&w.after, most);
	out->ends = calloc(r->count + 1, sizeof(*out->ends));
	if (!out->ends)
		rc = -ENOMEM;
	for (size_t i = 0; rc == 0 && i < r->count; i++) {
		rc = put_message(&w, i, &edits[i]);
		out->ends[i] = out->json.n;
	}
	out->count = r->count;
	buf_free(&w.before);
	buf_free(&w.after);
	if (rc)
		content_text_free(out);
	else
		trim(&out->json);
	return rc;
}

void content_text_free(struct content_text *t)
{
	buf_free(&t->json);
	free(t->ends);
	*t = (struct content_text){0};
}

size_t content_text_bytes(const struct content_text *t)
{
	return t->json.cap + t->count * sizeof(*t->ends);
}

struct slice content_text_of(const struct content_text *t, size_t message)
{
	if (message >= t->count)
		return (struct slice){0};
	size_t begin = message ? t->ends[message - 1] : 0;
	return (struct slice){t->json.p + begin, t->ends[message] - begin};
}
