#include "common/base/json.h"
#include "common/base/json_scan.h"

#include <errno.h>

#define DEPTH_CEILING 1024 /* what the stack below holds, whatever the caller asks for */

struct parser {
	const char *p, *end;
	const char *what; /* why it stopped at p; NULL while all is well */
	unsigned depth, max_depth;
	uint64_t is_object[DEPTH_CEILING /
			   64]; /* one bit a level: the container that is open there */
};

static bool fail(struct parser *s, const char *at, const char *what)
{
	s->p = at;
	s->what = what;
	return false;
}

static bool push(struct parser *s, bool object)
{
	if (s->depth >= s->max_depth)
		return fail(s, s->p, "nested too deeply");
	uint64_t bit = UINT64_C(1) << s->depth % 64;
	uint64_t *word = &s->is_object[s->depth / 64];
	*word = object ? *word | bit : *word & ~bit;
	s->depth++;
	s->p++;
	return true;
}

static bool in_object(const struct parser *s)
{
	unsigned top = s->depth - 1;
	return s->is_object[top / 64] >> top % 64 & 1;
}

static bool escape(struct parser *s)
{
	const char *start = s->p++; /* at the backslash */
	if (s->p == s->end)
		return fail(s, start, "escape is cut off");
	char c = *s->p++;
	if (c != 'u') {
		if (c && strchr("\"\\/bfnrt", c))
			return true;
		return fail(s, start, "no such escape");
	}
	/* A surrogate alone is grammatical, and clients that cut a string inside an emoji send it:
	 * it decodes to U+FFFD. */
	if (json_hex4(s->p, s->end) < 0)
		return fail(s, start, "\\u needs four hex digits");
	s->p += 4;
	return true;
}

static bool string(struct parser *s)
{
	s->p++; /* the opening quote */
	for (;;) {
		s->p = json_plain(s->p, s->end);
		if (s->p == s->end)
			return fail(s, s->p, "string is not closed");
		unsigned char c = (unsigned char)*s->p;
		if (c == '"') {
			s->p++;
			return true;
		}
		if (c == '\\') {
			if (!escape(s))
				return false;
		} else if (c < 0x20) {
			return fail(s, s->p, "control character in a string");
		} else if (c == 0x7f) {
			s->p++; /* plain to read, though json_put_string() never writes it */
		} else {
			/* Other alphabets come in runs: stay here until the next ASCII byte. */
			do {
				int len = utf8_sequence(s->p, s->end);
				if (len < 0)
					return fail(s, s->p, "invalid UTF-8");
				s->p += len;
			} while (s->p < s->end && (unsigned char)*s->p >= 0x80);
		}
	}
}

static bool digits(struct parser *s)
{
	const char *start = s->p;
	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return s->p > start || fail(s, s->p, "digit expected");
}

static bool number(struct parser *s)
{
	if (*s->p == '-')
		s->p++;
	if (s->p < s->end && *s->p == '0') {
		s->p++;
		if (s->p < s->end && *s->p >= '0' && *s->p <= '9')
			return fail(s, s->p, "number with a leading zero");
	} else if (!digits(s)) {
		return false;
	}
	if (s->p < s->end && *s->p == '.') {
		s->p++;
		if (!digits(s))
			return false;
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (!digits(s))
			return false;
	}
	return true;
}

static bool word(struct parser *s, struct slice text)
{
	if ((size_t)(s->end - s->p) < text.n || memcmp(s->p, text.p, text.n) != 0)
		return fail(s, s->p, "value expected");
	s->p += text.n;
	return true;
}

static bool scalar(struct parser *s)
{
	switch (*s->p) {
	case '"':
		return string(s);
	case 't':
		return word(s, SLICE("true"));
	case 'f':
		return word(s, SLICE("false"));
	case 'n':
		return word(s, SLICE("null"));
	case '-':
	case '0' ... '9':
		return number(s);
	default:
		return fail(s, s->p, "value expected");
	}
}

/* A member's name and colon, up to the value. */
static bool name(struct parser *s)
{
	if (s->p == s->end || *s->p != '"')
		return fail(s, s->p, "name expected");
	if (!string(s))
		return false;
	s->p = json_skip_space(s->p, s->end);
	if (s->p == s->end || *s->p != ':')
		return fail(s, s->p, "':' expected");
	s->p = json_skip_space(s->p + 1, s->end);
	return true;
}

/* After a value: closes what ends here, until the next value's first byte or the end of
 * the root. */
static bool close_or_next(struct parser *s)
{
	while (s->depth) {
		bool object = in_object(s);
		s->p = json_skip_space(s->p, s->end);
		if (s->p == s->end)
			return fail(
				s, s->p, object ? "object is not closed" : "array is not closed");
		if (*s->p == ',') {
			s->p = json_skip_space(s->p + 1, s->end);
			return !object || name(s);
		}
		if (*s->p != (object ? '}' : ']'))
			return fail(
				s, s->p, object ? "',' or '}' expected" : "',' or ']' expected");
		s->p++;
		s->depth--;
	}
	return true;
}

/* One value, which may hold others: a loop, since the nesting is the sender's choice. */
static bool value(struct parser *s)
{
	do {
		if (s->p == s->end)
			return fail(s, s->p, "value expected");
		char c = *s->p;
		if (c == '{' || c == '[') {
			if (!push(s, c == '{'))
				return false;
			s->p = json_skip_space(s->p, s->end);
			if (s->p < s->end && *s->p == (c == '{' ? '}' : ']')) {
				s->p++;
				s->depth--;
			} else if (c == '[' || name(s)) {
				continue;
			} else {
				return false;
			}
		} else if (!scalar(s)) {
			return false;
		}
		if (!close_or_next(s))
			return false;
	} while (s->depth);
	return true;
}

int json_parse(
	struct slice text, unsigned max_depth, struct json_value *root, struct json_error *err)
{
	if (text.n == 0)
		text = SLICE("");
	struct parser s = {.end = text.p + text.n};
	s.max_depth = max_depth < DEPTH_CEILING ? max_depth : DEPTH_CEILING;
	s.p = json_skip_space(text.p, s.end);

	*root = (struct json_value){0};
	const char *start = s.p;
	bool whole = value(&s);
	if (whole) {
		const char *stop = s.p;
		s.p = json_skip_space(s.p, s.end);
		if (s.p == s.end) {
			*root = json_value_at(start, stop);
			return 0;
		}
		fail(&s, s.p, "more after the end of the value");
	}
	if (err)
		*err = (struct json_error){
			.offset = (size_t)(s.p - text.p), .what = s.what, .more = whole};
	return -EINVAL;
}
