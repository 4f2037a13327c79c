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

#define CAPS_MIN 3 /* letters of a word in capitals that is a name */

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

/* Endings that make a dotted name a file's. */
static bool is_file_name(struct slice s)
{
	static const char endings[] =
		" c h cc cpp hpp py pyi js mjs cjs ts tsx jsx go rs java kt rb php cs "
		"swift sh bash zsh md rst txt json jsonl yml yaml toml ini cfg conf "
		"html css scss xml sql csv tsv lock log mk cmake proto lua pl r ipynb "
		"env service socket diff patch ";
	const char *dot = memrchr(s.p, '.', s.n);
	size_t n = dot ? s.n - (size_t)(dot + 1 - s.p) : 0;
	char ending[16];
	if (n == 0 || n + 2 > sizeof(ending))
		return false;
	ending[0] = ' ';
	memcpy(ending + 1, dot + 1, n);
	ending[n + 1] = ' ';
	return memmem(endings, sizeof(endings) - 1, ending, n + 2) != NULL;
}

static enum token_kind kind_of(const struct token *t, unsigned seen, bool camel, bool caps)
{
	if (*t->p == '-')
		return TOKEN_FLAG;
	if (t->numeric)
		return TOKEN_NUMBER;
	if (memchr(t->p, '/', t->n))
		return TOKEN_PATH;
	if (memchr(t->p, '.', t->n))
		return is_file_name((struct slice){t->p, t->n}) ? TOKEN_FILE : TOKEN_DOTTED;
	if (caps)
		return TOKEN_CAPS;
	if (seen & UNDER)
		return TOKEN_SNAKE;
	if (seen & JOIN)
		return TOKEN_DASHED;
	if (camel)
		return TOKEN_CAMEL;
	return seen & DIGIT ? TOKEN_ALNUM : TOKEN_PLAIN;
}

static void set_shape(struct token *t, unsigned seen, unsigned seen_inside)
{
	t->joined = seen & JOIN;
	t->numeric = (seen & DIGIT) && !(seen & WORD & ~DIGIT) && *t->p != '-';
	bool camel = (seen_inside & UPPER) && (seen & LOWER);
	bool caps = t->n >= CAPS_MIN && (seen & UPPER) && !(seen & (LOWER | HIGH | JOIN));
	t->kind = kind_of(t, seen, camel, caps);
	t->shaped = !t->numeric && (camel || caps || (seen & (DIGIT | UNDER | JOIN)));
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
	t->kind = TOKEN_URL;
	t->joined = t->numeric = false;
	return true;
}

/* Does white space or a quote stand before p, or nothing that we know of? */
static bool is_alone(const char *p, const char *from)
{
	return p == from || strchr(" \t\"'`([{,=", p[-1]);
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
			if (is_alone(p, from) && (class_of(p[1]) & (UPPER | LOWER)))
				return p; /* -d */
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
	bool local = p - *at >= 2 && p[-1] == '/' && p[-2] == '.'; /* "./x" */
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
	if (local && t->kind == TOKEN_PLAIN) {
		t->kind = TOKEN_FILE;
		t->shaped = true;
	}
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
