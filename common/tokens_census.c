/* The census: one pass over the bytes, runs of letters and digits judged where they end. */
#include "common/tokens.h"

#define WORD_PIECE_MIN 3    /* mean letters of the pieces of a run that still is made of words */
#define WORD_LETTERS_MAX 24 /* a longer piece counts as several words */
#define REPEATS_PER_UNIT 8  /* equal signs in a row: vocabularies have them in lengths up to 80 */
#define BLANKS_PER_UNIT 16

enum kind { KIND_END, KIND_LETTER, KIND_DIGIT };

/* A run of Latin letters and digits. */
struct run {
	uint64_t letters, accents, digits;
	uint64_t pieces; /* of one kind: words by capitals, numbers */
	uint64_t words;	 /* pieces of letters; long ones more than once */
	uint64_t piece;	 /* letters of the open piece */
	enum kind last;
	bool last_lower;
};

struct counter {
	struct token_census *c;
	struct run run;
	uint64_t blanks; /* of the open run of white space */
	uint64_t tail;	 /* of these, behind the last line end */
	bool line_end;
	uint32_t sign; /* the sign before, 0: none */
	uint64_t repeats;
};

static void close_piece(struct run *r)
{
	if (r->piece)
		r->words += 1 + (r->piece - 1) / WORD_LETTERS_MAX;
	r->piece = 0;
}

static void close_run(struct counter *k)
{
	struct run *r = &k->run;
	if (r->pieces == 0)
		return;
	close_piece(r);
	uint64_t all = r->letters + r->digits;
	if (r->pieces > 1 && all < WORD_PIECE_MIN * r->pieces) {
		k->c->chars[TOKEN_NOISE] += all;
	} else {
		k->c->chars[TOKEN_WORD] += r->words;
		k->c->chars[TOKEN_LETTER] += r->letters;
		k->c->chars[TOKEN_DIGIT] += r->digits;
	}
	k->c->chars[TOKEN_ACCENT] += r->accents;
	*r = (struct run){0};
}

static void letter(struct counter *k, bool upper, bool accent)
{
	struct run *r = &k->run;
	k->sign = 0;
	if (r->last != KIND_LETTER || (upper && r->last_lower)) {
		close_piece(r);
		r->pieces++;
	}
	r->last = KIND_LETTER;
	r->last_lower = !upper;
	r->piece++;
	r->letters++;
	r->accents += accent;
}

static void digit(struct counter *k)
{
	struct run *r = &k->run;
	k->sign = 0;
	if (r->last != KIND_DIGIT) {
		close_piece(r);
		r->pieces++;
	}
	r->last = KIND_DIGIT;
	r->digits++;
}

static void close_blanks(struct counter *k)
{
	if (k->blanks == 0)
		return;
	if (k->line_end || k->blanks > 1)
		k->c->chars[TOKEN_BREAK] +=
			1 + (k->line_end && k->tail > 1) + k->blanks / BLANKS_PER_UNIT;
	k->blanks = k->tail = 0;
	k->line_end = false;
}

static void blank(struct counter *k, char c)
{
	k->sign = 0;
	k->blanks++;
	k->tail++;
	if (c == '\n') {
		k->line_end = true;
		k->tail = 0;
	}
}

static void sign(struct counter *k, uint32_t c, enum token_class class)
{
	if (c == k->sign) {
		if (++k->repeats % REPEATS_PER_UNIT)
			return;
	} else {
		k->sign = c;
		k->repeats = 0;
	}
	k->c->chars[class]++;
}

static enum token_class class_of(uint32_t c)
{
	static const struct {
		uint32_t below; /* the first character behind the range */
		enum token_class class;
	} ranges[] = {
		{0x0250, TOKEN_ACCENT},
		{0x0370, TOKEN_OTHER},
		{0x0400, TOKEN_GREEK},
		{0x0530, TOKEN_CYRILLIC},
		{0x0590, TOKEN_OTHER},
		{0x0780, TOKEN_SEMITIC},
		{0x08a0, TOKEN_OTHER},
		{0x0900, TOKEN_SEMITIC},
		{0x10a0, TOKEN_INDIC},
		{0x1100, TOKEN_OTHER},
		{0x1200, TOKEN_HANGUL},
		{0x1780, TOKEN_OTHER},
		{0x1800, TOKEN_INDIC},
		{0x1e00, TOKEN_OTHER},
		{0x1f00, TOKEN_ACCENT},
		{0x2000, TOKEN_GREEK},
		{0x2600, TOKEN_SIGN},
		{0x27c0, TOKEN_EMOJI},
		{0x2c00, TOKEN_SIGN},
		{0x2de0, TOKEN_OTHER},
		{0x2e00, TOKEN_CYRILLIC},
		{0x2e80, TOKEN_SIGN},
		{0x3040, TOKEN_HAN},
		{0x3100, TOKEN_KANA},
		{0x3130, TOKEN_HAN},
		{0x3190, TOKEN_HANGUL},
		{0x31f0, TOKEN_HAN},
		{0x3200, TOKEN_KANA},
		{0xa000, TOKEN_HAN},
		{0xac00, TOKEN_OTHER},
		{0xd7b0, TOKEN_HANGUL},
		{0xf900, TOKEN_OTHER},
		{0xfb00, TOKEN_HAN},
		{0xfb1d, TOKEN_ACCENT},
		{0xfe00, TOKEN_SEMITIC},
		{0xfe10, TOKEN_EMOJI},
		{0xfe70, TOKEN_HAN},
		{0xff00, TOKEN_SEMITIC},
		{0xff66, TOKEN_HAN},
		{0xffa0, TOKEN_KANA},
		{0x1f000, TOKEN_OTHER},
		{0x1fb00, TOKEN_EMOJI},
		{UINT32_MAX, TOKEN_OTHER},
	};
	size_t low = 0, high = sizeof(ranges) / sizeof(ranges[0]) - 1;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (c < ranges[mid].below)
			high = mid;
		else
			low = mid + 1;
	}
	return ranges[low].class;
}

/* The character at p, whose first byte is beyond ASCII, and its length; a byte that begins none is
 * a character of its own. */
static uint32_t decode(const unsigned char *p, const unsigned char *end, size_t *length)
{
	size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc0 ? 2 : 1;
	uint32_t c = p[0] & (0x7fu >> n);
	*length = 1;
	if (n == 1 || p[0] > 0xf4 || (size_t)(end - p) < n)
		return UINT32_MAX;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return UINT32_MAX;
		c = c << 6 | (p[i] & 0x3f);
	}
	*length = n;
	return c;
}

static size_t beyond_ascii(struct counter *k, const unsigned char *p, const unsigned char *end)
{
	size_t n;
	uint32_t c = decode(p, end, &n);
	enum token_class class = class_of(c);
	close_blanks(k);
	if (class == TOKEN_ACCENT && c >= 0xc0) {
		letter(k, false, true);
		return n;
	}
	close_run(k);
	if (class == TOKEN_SIGN || class == TOKEN_ACCENT)
		sign(k, c, TOKEN_SIGN);
	else
		k->c->chars[class]++, k->sign = 0;
	return n;
}

static void ascii(struct counter *k, char c)
{
	bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
	bool white = c == ' ' || (c >= '\t' && c <= '\r');
	if (!white)
		close_blanks(k);
	if (upper || lower) {
		letter(k, upper, false);
	} else if (c >= '0' && c <= '9') {
		digit(k);
	} else {
		close_run(k);
		if (white)
			blank(k, c);
		else
			sign(k, (uint32_t)c, TOKEN_PUNCT);
	}
}

void token_census_add(struct token_census *c, struct slice utf8_text)
{
	struct counter k = {.c = c};
	const unsigned char *p = (const unsigned char *)utf8_text.p, *end = p + utf8_text.n;
	while (p < end) {
		if (*p < 0x80)
			ascii(&k, (char)*p++);
		else
			p += beyond_ascii(&k, p, end);
	}
	close_run(&k);
	close_blanks(&k);
}

void token_census_sum(struct token_census *to, const struct token_census *more)
{
	for (size_t i = 0; i < TOKEN_CLASSES; i++)
		to->chars[i] += more->chars[i];
	to->images += more->images;
}

void token_census_messages(struct token_census *c, uint64_t n)
{
	c->chars[TOKEN_MESSAGE] += n;
}
