#include "common/text/pins.h"

#include "common/base/hash.h"
#include "common/text/piece.h"

#define SHA_MIN 12 /* hex digits of a hash without a name */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

/* A commit hash or digest has both letters and digits; a UUID has dashes at fixed places. */
static bool is_sha(const struct token *t)
{
	bool digit = false, letter = false, uuid = t->n == 36;
	if (t->n < SHA_MIN || t->n > 64)
		return false; /* shorter ones are colours and words more often than commits */
	for (size_t i = 0; i < t->n; i++) {
		char c = t->p[i], low = (char)(c | 32);
		if (uuid && (i == 8 || i == 13 || i == 18 || i == 23)) {
			if (c != '-')
				return false;
			continue;
		}
		digit |= is_digit(c);
		letter |= low >= 'a' && low <= 'f';
		if (!is_digit(c) && !(low >= 'a' && low <= 'f'))
			return false;
	}
	return digit && letter;
}

static bool is_measure(const struct lexicon *x, struct slice line, const struct token *t)
{
	const char *p = t->p, *token_end = t->p + t->n, *end = line.p + line.n;
	bool zero = true;
	if (!is_digit(*p))
		return false;
	for (; p < token_end && (is_digit(*p) || *p == '.'); p++)
		zero &= *p == '0' || *p == '.';
	if (zero)
		return false; /* "0 ms" measures nothing */
	if (p < token_end) {  /* 437ms, 12.5GB, 31tok/s */
		if (token_end - p == 1 && strchr("sKMGTBWhx", *p))
			return true;
		const char *unit_end = p;
		while (unit_end < token_end && token_is_word(*unit_end))
			unit_end++;
		return lexicon_look(x, p, (size_t)(unit_end - p)) & WORD_UNIT;
	}
	if (p >= end)
		return false;
	if (*p == '%')
		return true;
	struct token unit;
	const char *at = p;
	if (*p != ' ' || !token_next(&at, end, &unit) || unit.p != p + 1)
		return false;
	const char *slash = memchr(unit.p, '/', unit.n); /* tok/s */
	size_t n = slash ? (size_t)(slash - unit.p) : unit.n;
	return lexicon_look(x, unit.p, n) & WORD_UNIT;
}

static bool ends_with(const struct token *t, struct slice s)
{
	return t->n > s.n && memcmp(t->p + t->n - s.n, s.p, s.n) == 0;
}

/* An error message rather than a line of code that speaks of errors. */
static unsigned failure_of(const struct lexicon *x, struct slice line, const struct token *t)
{
	const char *after = t->p + t->n, *end = line.p + line.n;
	bool colon = after < end && (*after == ':' || *after == '[' || *after == '!');
	if (line.n && strchr(";{,(", line.p[line.n - 1]))
		colon = false;

	if (t->shaped) {
		if (ends_with(t, SLICE("Error")) || ends_with(t, SLICE("Exception")))
			return colon ? PIN_ERROR | PIN_FAILURE : PIN_FAILURE;
		return 0;
	}
	unsigned w = lexicon_look(x, t->p, t->n);
	if (!(w & WORD_FAILS)) {
		bool named = t->n >= 5 && t->n <= 12 && t->p[0] == 'E' && is_upper(t->p[1]) &&
			     is_upper(t->p[t->n - 1]) && after < end &&
			     (*after == ':' || *after == ',');
		return named ? PIN_ERROR | PIN_FAILURE : 0; /* ENOENT: */
	}
	if (t->p >= line.p + 2 && t->p[-1] == ' ' &&
		(t->p[-2] == '0' || (t->p >= line.p + 3 && memcmp(t->p - 3, "no", 2) == 0)))
		return 0; /* "0 errors", "no errors" */
	bool loud = t->n > 3 && is_upper(t->p[0]) && is_upper(t->p[1]);
	bool code = line.n && strchr(";{,(", line.p[line.n - 1]);
	if (colon || (!code && (loud || (w & WORD_FAILS_HARD))))
		return PIN_ERROR | PIN_FAILURE;
	return PIN_FAILURE;
}

unsigned pin_of_token(const struct lexicon *x, struct slice line, const struct token *t)
{
	if (t->url)
		return 0;
	unsigned pins = failure_of(x, line, t);
	if (is_sha(t))
		pins |= PIN_SHA;
	if (is_measure(x, line, t))
		pins |= PIN_MEASURE;
	return pins;
}

unsigned pin_definition(const struct lexicon *x, struct slice line)
{
	struct slice body = slice_trim(piece_body(line));
	if (body.n > 2 && body.p[0] == '#' && (body.p[1] == ' ' || body.p[1] == '#'))
		return PIN_DEFINITION;
	struct token t;
	const char *at = body.p;
	if (!token_next(&at, body.p + body.n, &t) || t.p > body.p + 1)
		return 0;
	return lexicon_look(x, t.p, t.n) & WORD_DEFINES ? PIN_DEFINITION : 0;
}

uint64_t pin_shape(struct slice line)
{
	struct slice s = slice_trim(piece_body(line));
	char masked[TEXT_PIECE];
	size_t n = 0;
	for (size_t i = 0; i < s.n && n < sizeof(masked); i++) {
		if (!is_digit(s.p[i]))
			masked[n++] = s.p[i];
		else if (n == 0 || masked[n - 1] != '0')
			masked[n++] = '0';
	}
	return hash_bytes(masked, n);
}

/*
 * The sentence being read: the key is a sum over its words, so that their order does not matter.
 * before and earlier are the two words before, for phrases.
 */
struct sentence {
	struct slice before, earlier;
	uint64_t key;
	bool binds;
};

static bool is(struct slice s, const char *word)
{
	return s.n == strlen(word) && memcmp(s.p, word, s.n) == 0;
}

static bool is_phrase(const struct sentence *s, struct slice w)
{
	if (is(w, "not"))
		return is(s->before, "do") || is(s->before, "must") || is(s->before, "may") ||
		       is(s->before, "should");
	if (is(w, "t"))
		return is(s->before, "don") || is(s->before, "mustn") || is(s->before, "shouldn");
	if (is(w, "on"))
		return is(s->before, "now") && is(s->earlier, "from");
	if (is(w, "agora"))
		return is(s->before, "de") && is(s->earlier, "partir");
	return false;
}

static void sentence_word(struct sentence *s, const struct lexicon *x, struct slice w)
{
	unsigned bits = lexicon_look_folded(x, w.p, w.n);
	s->binds |= (bits & WORD_BINDS) || is_phrase(s, w);
	if (w.n >= 3 && !(bits & (WORD_STOP | WORD_BINDS)))
		s->key += pin_shape(w);
	s->earlier = s->before;
	s->before = w;
}

bool pin_constraint(const struct lexicon *x, struct slice line, uint64_t *key, bool *open)
{
	char text[TEXT_PIECE * 2];
	size_t n = text_fold(line, text, sizeof(text)), i = 0;
	struct sentence s = {0};
	bool found = false;

	*key = 0;
	*open = false;
	while (i < n) {
		size_t from = i;
		while (i < n && (i > from ? token_is_word(text[i]) : token_is_start(text[i])))
			i++;
		if (i > from) {
			sentence_word(&s, x, (struct slice){text + from, i - from});
			continue;
		}
		bool stop =
			strchr(".!?;", text[i]) && text[i] && (i + 1 == n || text[i + 1] == ' ');
		if (stop) {
			found |= s.binds;
			*key += s.binds ? s.key : 0;
			s = (struct sentence){0};
		}
		i++;
	}
	*key += s.binds ? s.key : 0;
	*open = s.binds;
	return found | s.binds;
}

#define PROSE_WORDS 3
#define PROSE_WIDE 3	 /* characters of scripts that write without spaces */
#define PROSE_LETTERS .8 /* of all that is not a space */
#define WIDE_FIRST 0xe3	 /* lead bytes from here: kana, CJK, Hangul */

static bool ends_as_prose(struct slice line)
{
	while (line.n && strchr("\"')*`_", line.p[line.n - 1]) && line.p[line.n - 1])
		line.n--;
	if (!line.n)
		return false;
	char last = line.p[line.n - 1];
	return strchr(".!?:", last) || (unsigned char)last >= 0x80;
}

bool pin_prose(struct slice line)
{
	size_t letters = 0, others = 0, words = 0, wide = 0;
	bool inside = false;

	line = slice_trim(line);
	for (size_t i = 0; i < line.n; i++) {
		unsigned char c = (unsigned char)line.p[i];
		bool letter = (c | 32) >= 'a' && (c | 32) <= 'z';
		if (c >= 0x80 && c < 0xc0)
			continue; /* counted by its lead byte */
		if (c >= 0xc3) {
			letter = true;
			wide += c >= WIDE_FIRST;
		}
		words += letter && !inside;
		inside = letter;
		letters += c >= WIDE_FIRST ? 3 : letter; /* such a one says as much */
		others += !letter && c != ' ' && !strchr(".,;:!?\"'", c);
	}
	return (words >= PROSE_WORDS || wide >= PROSE_WIDE) &&
	       (double)letters >= PROSE_LETTERS * (double)(letters + others) && ends_as_prose(line);
}

bool pin_goes_on(struct slice line)
{
	struct slice s = slice_trim(line);
	return s.n && ((s.p[0] >= 'a' && s.p[0] <= 'z') || (unsigned char)s.p[0] >= 0xc3);
}
