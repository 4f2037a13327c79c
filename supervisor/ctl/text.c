/* What of a document is shown on a terminal: its members as text and numbers. */
#include "supervisor/ctl/ctl.h"

/* Code points that a terminal may obey, or that turn the order of what stands there: C1 controls, bidirectional
 * marks and overrides. Two or three bytes of valid UTF-8. */
static size_t unsafe(struct slice s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	if (s.n >= 2 && ((p[0] == 0xc2 && p[1] < 0xa0) || (p[0] == 0xd8 && p[1] == 0x9c)))
		return 2;
	if (s.n >= 3 && p[0] == 0xe2 && p[1] == 0x80 &&
		((p[2] >= 0x8e && p[2] <= 0x8f) || (p[2] >= 0xa8 && p[2] <= 0xae)))
		return 3;
	return s.n >= 3 && p[0] == 0xe2 && p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9 ? 3 : 0;
}

size_t ctl_safe(char *text, size_t n)
{
	size_t to = 0;
	for (size_t at = 0; at < n;) {
		unsigned char c = (unsigned char)text[at];
		size_t bad = unsafe((struct slice){text + at, n - at});
		text[to++] = bad || (c < 0x20 && c != '\n') || c == 0x7f ? '?'
			     : c == '\n'				 ? '|'
									 : text[at];
		at += bad ? bad : 1;
	}
	return to;
}

void ctl_text(struct json_value object, const char *name, char *out, size_t size)
{
	struct json_value v = json_get(object, name);
	struct buf text;
	size_t n = 0;

	buf_init(&text, CTL_ANSWER_BYTES);
	if (json_is(v, JSON_STRING))
		json_string_decode(v, &text);
	else if (!json_is(v, JSON_NONE) && !json_is(v, JSON_NULL))
		buf_add_slice(&text, v.raw);
	if (text.n == 0)
		buf_add_char(&text, '-');
	text.n = text.p ? ctl_safe(text.p, text.n) : 0;
	for (; n < text.n && n + 1 < size; n++)
		out[n] = text.p[n];
	n = utf8_valid_prefix((struct slice){out, n}); /* the cut may split a character */
	out[n] = '\0';
	buf_free(&text);
}

int64_t ctl_int(struct json_value object, const char *name)
{
	int64_t value = 0;
	json_to_int(json_get(object, name), &value);
	return value;
}

double ctl_real(struct json_value object, const char *name)
{
	double value = 0;
	json_to_double(json_get(object, name), &value);
	return value;
}
