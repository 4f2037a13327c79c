#include "common/text/token.h"

enum {
	UPPER = 1,
	LOWER = 2,
	DIGIT = 4,
	UNDER = 8,
	HIGH = 16, /* lead byte of a letter beyond ASCII */
	CONT = 32, /* UTF-8 continuation: goes on with what its lead byte was */
	JOIN = 64,
	STARTS = UPPER | LOWER | DIGIT | UNDER | HIGH,
	WORD = STARTS | CONT,
};

/* C2 (signs), E2 (punctuation, arrows, boxes) and F0.. (emoji) lead no letters: they separate. */
static const unsigned char class[256] = {
	['A' ... 'Z'] = UPPER,
	['a' ... 'z'] = LOWER,
	['0' ... '9'] = DIGIT,
	['_'] = UNDER,
	['.'] = JOIN,
	['/'] = JOIN,
	['-'] = JOIN,
	[0x80 ... 0xbf] = CONT,
	[0xc3 ... 0xe1] = HIGH,
	[0xe3 ... 0xef] = HIGH,
};

static unsigned char class_of(char c)
{
	return class[(unsigned char)c];
}

bool token_is_start(char c)
{
	return class_of(c) & STARTS;
}

bool token_is_word(char c)
{
	return class_of(c) & WORD;
}

bool token_is_inner(char c)
{
	return class_of(c) & (WORD | JOIN);
}

static void set_shape(struct token *t, unsigned seen, unsigned seen_inside)
{
	t->joined = seen & JOIN;
	t->numeric = (seen & DIGIT) && !(seen & WORD & ~DIGIT);
	bool camel = (seen_inside & UPPER) && (seen & LOWER);
	t->shaped = !t->numeric && (camel || (seen & (DIGIT | UNDER | JOIN)));
}

/* A join goes on with the token only if a name follows: "a.b", "a/.b", not "end. Next". */
static bool join_goes_on(const char *p, const char *end)
{
	if (end - p < 2)
		return false;
	if (class_of(p[1]) & STARTS)
		return true;
	return p[0] == '/' && p[1] == '.' && end - p > 2 && (class_of(p[2]) & STARTS);
}

static bool extend_url(struct token *t, const char *end)
{
	const char *p = t->p + t->n;
	if (end - p < 4 || p[0] != ':' || p[1] != '/' || p[2] != '/' || t->joined)
		return false;
	while (p < end && (unsigned char)*p > ' ' && !strchr("\"'`<>)]}|", *p))
		p++;
	while (strchr(".,;:!?/", p[-1]))
		p--;
	t->n = (size_t)(p - t->p);
	t->url = t->shaped = true;
	t->joined = t->numeric = false;
	return true;
}

/* Where the token at or after from begins; end when there is none. */
static const char *token_begin(const char *from, const char *end)
{
	for (const char *p = from; p < end; p++) {
		unsigned char c = class_of(*p);
		if (c & STARTS)
			return p;
		if (!(c & JOIN) || end - p < 2 || (p > from && p[-1] == '.'))
			continue; /* of "wait...then" the dots are none's */
		if (*p == '-') {
			if (p[1] == '-' && end - p > 2 && (class_of(p[2]) & STARTS))
				return p; /* --flag */
		} else if (*p == '.' && p[1] == '/') {
			p++; /* "./x" is known as "x" */
		} else if (class_of(p[1]) & (*p == '.' ? STARTS & ~DIGIT : STARTS)) {
			return p; /* /etc, .gitignore */
		} else if (*p == '/' && join_goes_on(p, end)) {
			return p;
		}
	}
	return end;
}

bool token_next(const char **at, const char *end, struct token *t)
{
	const char *p = token_begin(*at, end);
	if (p >= end)
		return false;
	*t = (struct token){.p = p};
	unsigned seen = 0, inside = 0, c;
	while (p < end && (class_of(*p) & JOIN)) {
		seen |= JOIN;
		p++;
	}
	while (p < end && (c = class_of(*p))) {
		if ((c & JOIN) && !join_goes_on(p, end))
			break;
		seen |= c;
		if (p > t->p)
			inside |= c;
		if ((c & JOIN) && (class_of(p[1]) & JOIN))
			p++; /* "/." of a hidden file */
		p++;
	}
	t->n = (size_t)(p - t->p);
	set_shape(t, seen, inside);
	extend_url(t, end);
	*at = t->p + t->n;
	return true;
}

bool token_part(const char **at, const char *end, struct token *t)
{
	const char *p = *at;
	while (p < end && !(class_of(*p) & STARTS))
		p++;
	if (p >= end)
		return false;
	*t = (struct token){.p = p};
	unsigned seen = 0, inside = 0;
	for (; p < end && (class_of(*p) & WORD); p++) {
		seen |= class_of(*p);
		if (p > t->p)
			inside |= class_of(*p);
	}
	t->n = (size_t)(p - t->p);
	set_shape(t, seen, inside);
	*at = p;
	return true;
}
