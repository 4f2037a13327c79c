#include "common/base/json.h"
#include "common/base/json_scan.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define NUMBER_BYTES 512 /* longer ones are no double that somebody meant */

/* --- skipping: the text is valid, so brackets balance and strings close --- */

/* Past the string that opens at p: to the quote with an even number of backslashes before it. */
static const char *skip_string(const char *p, const char *end)
{
	for (p++; (p = memchr(p, '"', (size_t)(end - p))); p++) {
		const char *escape = p;
		while (escape[-1] == '\\') /* the opening quote is none */
			escape--;
		if ((p - escape) % 2 == 0)
			return p + 1;
	}
	return end;
}

static const char *skip_container(const char *p, const char *end)
{
	size_t depth = 0;
	while (p < end) {
		switch (*p) {
		case '"':
			p = skip_string(p, end);
			continue;
		case '[':
		case '{':
			depth++;
			break;
		case ']':
		case '}':
			if (--depth == 0)
				return p + 1;
			break;
		}
		p++;
	}
	return end;
}

static const char *skip_value(const char *p, const char *end)
{
	if (*p == '"')
		return skip_string(p, end);
	if (*p == '[' || *p == '{')
		return skip_container(p, end);
	while (p < end && *p != ',' && !json_space(*p))
		p++;
	return p;
}

/* --- cursors --- */

struct json_value json_object_in(struct slice text)
{
	while (text.n && *text.p != '{')
		text = (struct slice){text.p + 1, text.n - 1};
	while (text.n && text.p[text.n - 1] != '}')
		text.n--;
	return (struct json_value){text.n ? JSON_OBJECT : JSON_NONE, text};
}

struct json_iter json_iter(struct json_value container)
{
	if (container.type != JSON_ARRAY && container.type != JSON_OBJECT)
		return (struct json_iter){0};
	/* end is the closing bracket: it tells the next functions what they walk. */
	const char *p = container.raw.p + 1, *end = container.raw.p + container.raw.n - 1;
	return (struct json_iter){json_skip_space(p, end), end};
}

/* The value at the cursor, which moves to the next byte that counts. */
static struct json_value take(struct json_iter *it)
{
	const char *start = it->p;
	const char *stop = skip_value(start, it->end);
	it->p = json_skip_space(stop, it->end);
	if (it->p < it->end && (*it->p == ',' || *it->p == ':'))
		it->p = json_skip_space(it->p + 1, it->end);
	return json_value_at(start, stop);
}

bool json_array_next(struct json_iter *it, struct json_value *element)
{
	if (it->p == it->end || *it->end != ']')
		return false;
	*element = take(it);
	return true;
}

bool json_object_next(struct json_iter *it, struct json_value *key, struct json_value *value)
{
	if (it->p == it->end || *it->end != '}')
		return false;
	*key = take(it);
	*value = take(it);
	return true;
}

struct json_value json_get(struct json_value object, const char *name)
{
	struct json_value found = {0}, key, value;
	if (object.type != JSON_OBJECT)
		return found;
	struct json_iter it = json_iter(object);
	while (json_object_next(&it, &key, &value))
		if (json_string_is(key, name))
			found = value;
	return found;
}

/* --- strings --- */

/* The bytes between the quotes. */
static struct slice contents(struct json_value string)
{
	return (struct slice){string.raw.p + 1, string.raw.n - 2};
}

static size_t utf8_encode(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

#define REPLACEMENT 0xfffd

/* The character that a surrogate begins; *p moves past its other half, if that is there. */
static uint32_t surrogates(uint32_t unit, const char **p, const char *end)
{
	if (unit > 0xdbff || end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u')
		return REPLACEMENT;
	int low = json_hex4(*p + 2, end);
	if (low < 0xdc00 || low > 0xdfff)
		return REPLACEMENT;
	*p += 6;
	return 0x10000 + ((unit - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
}

/* Decodes the escape at *p (a backslash), moves past it, and returns how many bytes it
 * stands for. */
static size_t unescape(const char **p, const char *end, char out[4])
{
	char c = (*p)[1];
	*p += 2;
	switch (c) {
	case 'b':
		c = '\b';
		break;
	case 'f':
		c = '\f';
		break;
	case 'n':
		c = '\n';
		break;
	case 'r':
		c = '\r';
		break;
	case 't':
		c = '\t';
		break;
	case 'u': {
		uint32_t unit = (uint32_t)json_hex4(*p, end);
		*p += 4;
		if (unit >= 0xd800 && unit <= 0xdfff)
			unit = surrogates(unit, p, end);
		return utf8_encode(unit, out);
	}
	}
	out[0] = c;
	return 1;
}

bool json_string_is(struct json_value v, const char *text)
{
	if (v.type != JSON_STRING)
		return false;
	struct slice raw = contents(v), want = slice_str(text);
	if (!memchr(raw.p, '\\', raw.n))
		return slice_eq(raw, want);
	const char *p = raw.p, *end = raw.p + raw.n;
	while (p < end) {
		char out[4] = {*p};
		size_t n = 1;
		if (*p == '\\')
			n = unescape(&p, end, out);
		else
			p++;
		if (n > want.n || memcmp(out, want.p, n) != 0)
			return false;
		want.p += n;
		want.n -= n;
	}
	return want.n == 0;
}

int json_string_decode(struct json_value v, struct buf *out)
{
	if (v.type != JSON_STRING)
		return -EINVAL;
	struct slice raw = contents(v);
	const char *p = raw.p, *end = raw.p + raw.n;
	while (p < end && !out->error) {
		const char *escape = memchr(p, '\\', (size_t)(end - p));
		const char *stop = escape ? escape : end;
		buf_add(out, p, (size_t)(stop - p));
		p = stop;
		/* Escapes come together (\r\n, indents): decode them all before the next search. */
		while (p < end && *p == '\\') {
			char bytes[4];
			size_t n = unescape(&p, end, bytes);
			buf_add(out, bytes, n);
		}
	}
	return out->error;
}

char *json_string_dup(struct json_value v)
{
	struct buf b;
	buf_init(&b, 0);
	if (json_string_decode(v, &b) == 0 && !(b.n && memchr(b.p, '\0', b.n))) {
		buf_cstr(&b);
		if (!buf_error(&b))
			return b.p;
	}
	buf_free(&b);
	return NULL;
}

size_t json_string_chars(struct json_value v)
{
	if (v.type != JSON_STRING)
		return 0;
	struct slice raw = contents(v);
	const char *p = raw.p, *end = raw.p + raw.n;
	size_t chars = 0;
	while (p < end) {
		const char *escape = memchr(p, '\\', (size_t)(end - p));
		const char *stop = escape ? escape : end;
		chars += utf8_chars((struct slice){p, (size_t)(stop - p)});
		for (p = stop; p < end && *p == '\\'; chars++) {
			char bytes[4];
			unescape(&p, end, bytes);
		}
	}
	return chars;
}

/* --- conversions --- */

/* A number's exponent, held within bounds that no text of this size can cross back. */
static int64_t exponent(const char *p, const char *end)
{
	bool negative = p < end && *p == '-';
	int64_t e = 0;
	if (p < end && (*p == '-' || *p == '+'))
		p++;
	for (; p < end; p++)
		if (e < INT64_MAX / 100)
			e = e * 10 + (*p - '0');
	return negative ? -e : e;
}

/*
 * Reads the digits themselves, since a double would lose what lies past 2^53: the number is an
 * integer when no digit other than 0 stands behind the point, wherever the exponent puts that.
 */
bool json_to_int(struct json_value v, int64_t *out)
{
	if (v.type != JSON_NUMBER)
		return false;
	const char *p = v.raw.p, *end = p + v.raw.n;
	bool negative = *p == '-';
	int64_t count = 0, point = -1, first = -1,
		last = -1;     /* digit positions; first and last: not 0 */
	const char *digit[20]; /* from the first that is not 0 */
	for (p += negative; p < end && *p != 'e' && *p != 'E'; p++) {
		if (*p == '.') {
			point = count;
			continue;
		}
		if (*p != '0') {
			first = first < 0 ? count : first;
			last = count;
		}
		if (first >= 0 && count - first < 20)
			digit[count - first] = p;
		count++;
	}
	if (point < 0)
		point = count;
	if (p < end)
		point += exponent(p + 1, end);
	if (first < 0) {
		*out = 0;
		return true;
	}
	if (last >= point || point - first > 19)
		return false;
	uint64_t n = 0; /* 19 digits fit */
	for (int64_t i = first; i < point; i++)
		n = n * 10 + (i < count ? (uint64_t)(*digit[i - first] - '0') : 0);
	if (n > (uint64_t)INT64_MAX + negative)
		return false;
	*out = negative ? (int64_t)(0 - n) : (int64_t)n;
	return true;
}

/* strtod() reads the C locale's point: these programs never call setlocale(). */
bool json_to_double(struct json_value v, double *out)
{
	char text[NUMBER_BYTES];
	if (v.type != JSON_NUMBER || v.raw.n >= sizeof(text))
		return false;
	memcpy(text, v.raw.p, v.raw.n);
	text[v.raw.n] = '\0';
	double d = strtod(text, NULL);
	if (!isfinite(d))
		return false;
	*out = d;
	return true;
}

bool json_to_bool(struct json_value v, bool *out)
{
	if (v.type != JSON_TRUE && v.type != JSON_FALSE)
		return false;
	*out = v.type == JSON_TRUE;
	return true;
}
