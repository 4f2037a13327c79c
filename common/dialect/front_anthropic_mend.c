/*
 * What a client moves about in its body from turn to turn although the model never sees it: the
 * marks for Anthropic's own prompt cache, which stand at the end of the newest messages and make a
 * list of what is a string one turn later, and the line with the client's build in front of the
 * system prompt. Taken out before the body is read, what was said before stays the same bytes. That there
 * was such a line, and which, is said in front of the body.
 */
#include "common/dialect/front_anthropic.h"
#include "common/dialect/pieces.h"

#include "common/base/hash.h"

#include <inttypes.h>
#include <stdio.h>

#define MARK "cache_control"
#define BUILD_LINE "x-anthropic-billing-header:"

struct cuts {
	struct buf spans;     /* struct slice, in the order of the body */
	uint64_t attribution; /* hash of the line; 0: none */
};

static void cut(struct cuts *c, const char *from, const char *to)
{
	struct slice s = {from, (size_t)(to - from)};
	buf_add(&c->spans, &s, sizeof(s));
}

static const char *end_of(struct json_value v)
{
	return v.raw.p + v.raw.n;
}

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
		p++;
	return p;
}

/* With the comma behind it, or else the one before it, which follows the end of `before`. */
static void cut_one(struct cuts *c, const char *before, const char *from, const char *to)
{
	const char *next = skip_space(to);
	if (*next == ',')
		cut(c, from, skip_space(next + 1));
	else
		cut(c, before ? before : from, to);
}

static void walk_list(struct cuts *c, struct json_value list, bool system);

/* Duplicates of the mark are left alone, as is what has none. */
static void walk_object(struct cuts *c, struct json_value object)
{
	static const char *const lists[] = {"messages", "system", "tools", "content"};
	struct json_iter it = json_iter(object);
	struct json_value key, value;
	const char *before = NULL;
	size_t marks = 0;
	while (json_object_next(&it, &key, &value))
		marks += json_string_is(key, MARK);
	for (it = json_iter(object); json_object_next(&it, &key, &value);) {
		if (json_string_is(key, MARK) && marks == 1) {
			cut_one(c, before, key.raw.p, end_of(value));
			continue;
		}
		before = end_of(value);
		for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
			if (value.type == JSON_ARRAY && json_string_is(key, lists[i]))
				walk_list(c, value, i == 1);
	}
}

/* The text of a list that only a mark made one: of one block with these three members. */
static struct json_value marked_string(struct json_value list)
{
	struct json_value none = {.type = JSON_NONE}, block, more, key, value, type, text, mark;
	struct json_iter it = json_iter(list);
	size_t members = 0;
	if (!json_array_next(&it, &block) || json_array_next(&it, &more) ||
		block.type != JSON_OBJECT)
		return none;
	for (it = json_iter(block); json_object_next(&it, &key, &value);)
		members++;
	FIELDS_GET(block, {"type", &type}, {"text", &text}, {MARK, &mark});
	return members == 3 && mark.type != JSON_NONE && text.type == JSON_STRING &&
			       json_string_is(type, "text")
		       ? text
		       : none;
}

static bool is_build_line(struct json_value block)
{
	struct slice text = string_inner(json_get(block, "text"));
	return text.n >= strlen(BUILD_LINE) && memcmp(text.p, BUILD_LINE, strlen(BUILD_LINE)) == 0;
}

static uint64_t hash_of(struct json_value text)
{
	struct slice inner = string_inner(text);
	return hash_fnv(HASH_FNV_START, inner.p, inner.n);
}

static void walk_list(struct cuts *c, struct json_value list, bool system)
{
	struct json_iter it = json_iter(list);
	struct json_value element, string = {.type = JSON_NONE};
	const char *before = NULL;
	if (!system)
		string = marked_string(list);
	if (string.type == JSON_STRING) {
		cut(c, list.raw.p, string.raw.p);
		cut(c, end_of(string), end_of(list));
		return;
	}
	while (json_array_next(&it, &element)) {
		if (element.type != JSON_OBJECT)
			continue;
		if (system && is_build_line(element) && !before) {
			cut_one(c, before, element.raw.p, end_of(element));
			c->attribution = hash_of(json_get(element, "text"));
			continue;
		}
		before = end_of(element);
		walk_object(c, element);
	}
}

static bool holds(const struct buf *body, const char *words)
{
	return body->n && memmem(body->p, body->n, words, strlen(words));
}

/* What was cut leaves room for it, but in a body that says little else. */
static void tell(struct buf *body, uint64_t attribution)
{
	char member[64];
	const char *root = memchr(body->p, '{', body->n);
	int n = snprintf(member, sizeof(member), "\"" CHAT_ATTRIBUTION "\":\"%016" PRIx64 "\",",
		attribution);
	if (!root || n < 0 || body->cap - body->n < (size_t)n)
		return;
	size_t at = (size_t)(root - body->p) + 1;
	memmove(body->p + at + n, body->p + at, body->n - at);
	memcpy(body->p + at, member, (size_t)n);
	body->n += (size_t)n;
}

int anthropic_mend(struct buf *body, struct json_value root, struct dialect_error *e)
{
	struct cuts c = {.attribution = 0};
	(void)e;
	if (!holds(body, MARK) && !holds(body, BUILD_LINE))
		return 0;
	buf_init(&c.spans, 0);
	walk_object(&c, root);
	const struct slice *s = (const struct slice *)(const void *)c.spans.p;
	size_t n = buf_error(&c.spans) ? 0 : c.spans.n / sizeof(*s);
	char *to = n ? body->p + (s[0].p - body->p) : NULL;
	for (size_t i = 0; i < n; i++) {
		const char *from = s[i].p + s[i].n;
		const char *end = i + 1 < n ? s[i + 1].p : body->p + body->n;
		memmove(to, from, (size_t)(end - from));
		to += end - from;
	}
	if (n)
		body->n = (size_t)(to - body->p);
	if (n && c.attribution)
		tell(body, c.attribution);
	buf_free(&c.spans);
	return 0;
}
