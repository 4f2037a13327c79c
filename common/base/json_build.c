#include "common/base/json.h"
#include "common/base/json_scan.h"

#include <inttypes.h>
#include <stdio.h>

static bool is_line_end(const char *p, int len)
{
	return (len == 2 && memcmp(p, "\xc2\x85", 2) == 0) ||
	       (len == 3 &&
		       (memcmp(p, "\xe2\x80\xa8", 3) == 0 || memcmp(p, "\xe2\x80\xa9", 3) == 0));
}

/* The escape for one ASCII byte that must not stand raw. */
static void put_ascii_escape(struct buf *out, char c)
{
	static const char short_form[128] = {['"'] = '"',
		['\\'] = '\\',
		['\b'] = 'b',
		['\f'] = 'f',
		['\n'] = 'n',
		['\r'] = 'r',
		['\t'] = 't'};
	static const char hex[] = "0123456789abcdef";
	unsigned char u = (unsigned char)c;

	if (short_form[u])
		buf_add(out, (char[]){'\\', short_form[u]}, 2);
	else
		buf_add(out, (char[]){'\\', 'u', '0', '0', hex[u >> 4], hex[u & 15]}, 6);
}

static void put_line_end_escape(struct buf *out, const char *p)
{
	if (p[0] == '\xc2')
		buf_add_str(out, "\\u0085");
	else
		buf_add_str(out, p[2] == '\xa8' ? "\\u2028" : "\\u2029");
}

int json_put_escaped(struct buf *out, struct slice text)
{
	if (text.n == 0)
		return out->error;
	const char *p = text.p, *end = text.p + text.n;
	const char *run = p; /* from here to p everything stands as it is */

	while (p < end && !out->error) {
		if (json_plain_byte(*p)) {
			p = json_plain(p, end);
			continue;
		}
		int len = utf8_sequence(p, end);
		if (len > 1 && !is_line_end(p, len)) {
			p += len;
			continue;
		}
		buf_add(out, run, (size_t)(p - run));
		if (len < 0)
			buf_add_str(out, "\xef\xbf\xbd"); /* U+FFFD */
		else if (len == 1)
			put_ascii_escape(out, *p);
		else
			put_line_end_escape(out, p);
		p += len < 0 ? -len : len;
		run = p;
	}
	return buf_add(out, run, (size_t)(p - run));
}

int json_put_string(struct buf *out, struct slice text)
{
	buf_add_char(out, '"');
	json_put_escaped(out, text);
	return buf_add_char(out, '"');
}

int json_put_key(struct buf *out, const char *name)
{
	if (out->n && out->p[out->n - 1] != '{')
		buf_add_char(out, ',');
	buf_add_char(out, '"');
	buf_add_str(out, name);
	return buf_add_str(out, "\":");
}

int json_put_quoted(struct buf *out, const char *name, const struct buf *escaped)
{
	json_put_key(out, name);
	buf_add_char(out, '"');
	buf_add_slice(out, buf_slice(escaped));
	return buf_add_char(out, '"');
}

int json_put_int(struct buf *out, int64_t v)
{
	char text[24];
	return buf_add(out, text, (size_t)snprintf(text, sizeof(text), "%" PRId64, v));
}

int json_replace_string(struct buf *body, struct slice raw, struct slice text)
{
	struct buf new;
	size_t at = (size_t)(raw.p - body->p), behind = at + raw.n, rest = body->n - behind;
	buf_init(&new, 0);
	int rc = json_put_string(&new, text);
	if (rc == 0 && new.n > raw.n) {
		size_t more = new.n - raw.n;
		if (body->max && body->n + more > body->max)
			body->max = body->n + more;
		rc = buf_reserve(body, more);
	}
	if (rc == 0) {
		memmove(body->p + at + new.n, body->p + behind, rest);
		memcpy(body->p + at, new.p, new.n);
		body->n = at + new.n + rest;
	}
	buf_free(&new);
	return rc;
}

size_t utf8_valid_prefix(struct slice text)
{
	if (text.n == 0)
		return 0;
	const char *p = text.p, *end = text.p + text.n;
	while (p < end) {
		if (json_plain_byte(*p)) {
			p = json_plain(p, end);
			continue;
		}
		int len = utf8_sequence(p, end);
		if (len < 0)
			break;
		p += len;
	}
	return (size_t)(p - text.p);
}

/* Every byte that does not continue a sequence begins a character. */
size_t utf8_chars(struct slice text)
{
	size_t i = 0, continued = 0;
	for (; i + 8 <= text.n; i += 8) {
		uint64_t v;
		memcpy(&v, text.p + i, 8);
		uint64_t marks = v >> 7 & ~v >> 6 & SWAR_ONES; /* one bit for each byte 10xxxxxx */
		continued += marks * SWAR_ONES >> 56;
	}
	for (; i < text.n; i++)
		continued += ((unsigned char)text.p[i] & 0xc0) == 0x80;
	return text.n - continued;
}
