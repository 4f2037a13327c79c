/* Lines of a message: how they are found, what they look like, how two messages differ in them. */
#include "common/guard/lines.h"

#include "common/base/hash.h"

#include <strings.h>

#define SUMMARY_BYTES 2000 /* of a text: who summarises says so soon */

/* --- walking --- */

struct guard_walk guard_walk(const struct chat_message *m)
{
	return (struct guard_walk){.texts = chat_texts(m->content)};
}

/* The line end that is next: the two bytes of its escape; end where there is none. */
static const char *line_end(const char *p, const char *end)
{
	while ((p = memchr(p, '\\', (size_t)(end - p))) && p + 1 < end && p[1] != 'n')
		p += 2;
	return p && p + 1 < end ? p : end;
}

bool guard_walk_next(struct guard_walk *w)
{
	w->first = !w->p;
	if (!w->p) {
		if (!chat_texts_next(&w->texts, &w->string, &w->part))
			return false;
		w->p = w->string.raw.p + 1;
		w->end = w->string.raw.p + w->string.raw.n - 1;
	}
	const char *to = line_end(w->p, w->end);
	w->line = (struct slice){w->p, (size_t)(to - w->p)};
	w->p = to == w->end ? NULL : to + 2;
	return true;
}

struct slice guard_attribution(const struct chat_message *m, bool *alone)
{
	const struct slice begin = SLICE(GUARD_ATTRIBUTION_LINE);
	struct guard_walk w = guard_walk(m);
	*alone = false;
	if (m->role != CHAT_SYSTEM || !guard_walk_next(&w) || w.line.n < begin.n ||
		memcmp(w.line.p, begin.p, begin.n) != 0)
		return (struct slice){0};
	*alone = !w.p && json_array_next(&w.texts.parts, &w.part);
	return (struct slice){w.line.p, (size_t)((w.p ? w.p : w.end) - w.line.p)};
}

/* --- what a line looks like --- */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (unsigned)((c | 0x20) - 'a') < 26;
}

enum word_means { WORD_NOTHING, WORD_DAY, WORD_COUNTS };

struct word {
	const char *text;
	enum word_means means;
	bool begins; /* longer words as well; a day: its first three letters as well */
};

/* clang-format off */
#define WORDS(...) (const struct word[]){__VA_ARGS__, {0}}
/* clang-format on */

/* By their first letters: every word of every line with a digit in it is looked for. */
static const struct word *const words[26] = {
	['a' - 'a'] = WORDS(
		{"april", WORD_DAY, true}, {"august", WORD_DAY, true}, {"am", WORD_DAY, false}),
	['b' - 'a'] = WORDS({"budget", WORD_COUNTS, true}),
	['c' - 'a'] = WORDS({"count", WORD_COUNTS, true}, {"cost", WORD_COUNTS, true},
		{"context", WORD_COUNTS, true}),
	['d' - 'a'] = WORDS({"december", WORD_DAY, true}),
	['f' - 'a'] = WORDS({"friday", WORD_DAY, true}, {"february", WORD_DAY, true}),
	['j' - 'a'] = WORDS(
		{"january", WORD_DAY, true}, {"june", WORD_DAY, true}, {"july", WORD_DAY, true}),
	['l' - 'a'] = WORDS({"left", WORD_COUNTS, true}),
	['m' - 'a'] = WORDS(
		{"monday", WORD_DAY, true}, {"march", WORD_DAY, true}, {"may", WORD_DAY, false}),
	['n' - 'a'] = WORDS({"november", WORD_DAY, true}),
	['o' - 'a'] = WORDS({"october", WORD_DAY, true}),
	['p' - 'a'] = WORDS({"pm", WORD_DAY, false}, {"percent", WORD_COUNTS, true}),
	['r' - 'a'] = WORDS({"remain", WORD_COUNTS, true}, {"request", WORD_COUNTS, true}),
	['s' - 'a'] = WORDS({"saturday", WORD_DAY, true}, {"sunday", WORD_DAY, true},
		{"september", WORD_DAY, true}, {"sept", WORD_DAY, false},
		{"step", WORD_COUNTS, true}),
	['t' - 'a'] = WORDS({"tuesday", WORD_DAY, true}, {"thursday", WORD_DAY, true},
		{"token", WORD_COUNTS, true}, {"turn", WORD_COUNTS, true}),
	['u' - 'a'] = WORDS({"usage", WORD_COUNTS, true}, {"used", WORD_COUNTS, true}),
	['w' - 'a'] = WORDS({"wednesday", WORD_DAY, true}),
};

static bool is_word(struct slice text, const struct word *w)
{
	size_t n = strlen(w->text);
	bool length =
		text.n == n || (w->begins && (w->means == WORD_DAY ? text.n == 3 : text.n > n));
	return length && strncasecmp(text.p, w->text, text.n < n ? text.n : n) == 0;
}

/* Of a word, which begins with a letter. */
static enum word_means meaning_of(struct slice text)
{
	const struct word *w = words[(text.p[0] | 0x20) - 'a'];
	for (; w && w->text && text.n > 1; w++)
		if (is_word(text, w))
			return w->means;
	return WORD_NOTHING;
}

static size_t word_bytes(const char *p, const char *end)
{
	const char *to = p;
	while (to < end && is_letter(*to))
		to++;
	return (size_t)(to - p);
}

/* A number, with what stands between its digits: two numbers are a time, three a date. */
static size_t number_bytes(const char *p, const char *end, bool *clock)
{
	size_t run = 0, parts = 1;
	const char *at = p;
	for (; at < end; at++) {
		if (is_digit(*at)) {
			run++;
			continue;
		}
		if (!strchr(":.,-/", *at) || at + 1 == end || !is_digit(at[1]))
			break;
		*clock |= *at == ':' && run <= 2;
		parts += *at == '-' || *at == '/';
		run = 0;
	}
	*clock |= parts == 3;
	return (size_t)(at - p);
}

static enum guard_kind kind_of(struct slice text)
{
	const char *p = text.p, *end = text.p + text.n;
	bool clock = false, counts = false;
	while (p < end) {
		size_t n = 1;
		if (is_digit(*p)) {
			n = number_bytes(p, end, &clock);
			counts |= p + n < end && p[n] == '%';
		} else if (is_letter(*p)) {
			n = word_bytes(p, end);
			enum word_means means = meaning_of((struct slice){p, n});
			clock |= means == WORD_DAY;
			counts |= means == WORD_COUNTS;
		}
		p += n;
	}
	return clock ? GUARD_CLOCK : counts ? GUARD_COUNTER : GUARD_NEW;
}

/* The line with a sign for each number and each name of a day. */
static uint64_t shape_of(struct slice text)
{
	const char *p = text.p, *end = text.p + text.n;
	uint64_t shape = 1;
	bool clock = false; /* not asked for here */
	while (p < end) {
		size_t n = is_digit(*p)	   ? number_bytes(p, end, &clock)
			   : is_letter(*p) ? word_bytes(p, end)
					   : 1;
		uint64_t part = is_digit(*p) ? '#'
				: is_letter(*p) && meaning_of((struct slice){p, n}) == WORD_DAY
					? '@'
					: hash_bytes(p, n);
		shape = hash_mix(shape ^ part);
		p += n;
	}
	return shape;
}

void guard_line_look(struct slice text, struct guard_line *out)
{
	bool digits = false;
	for (size_t i = 0; text.n <= GUARD_KEPT_LINE_BYTES && i < text.n && !digits; i++)
		digits = is_digit(text.p[i]);
	out->kind = digits ? kind_of(text) : GUARD_NEW;
	out->shape = out->kind ? (uint32_t)shape_of(text) : out->exact;
}

bool guard_summarises(struct slice text)
{
	static const char *const begins[] = {"ummar", "ompact", "ondens"}; /* in either case */
	size_t n = text.n < SUMMARY_BYTES ? text.n : SUMMARY_BYTES;
	for (size_t i = 0; i < sizeof(begins) / sizeof(*begins); i++)
		if (n && memmem(text.p, n, begins[i], strlen(begins[i])))
			return true;
	return false;
}

/* --- the difference of two messages --- */

struct guard_diff guard_diff(const struct guard_prompt *pa, const struct guard_message *a,
	const struct guard_prompt *pb, const struct guard_message *b)
{
	return (struct guard_diff){.a = a->lines ? pa->lines + a->line : NULL,
		.an = a->lines,
		.b = b->lines ? pb->lines + b->line : NULL,
		.bn = b->lines};
}

enum guard_step guard_diff_next(struct guard_diff *d)
{
	const struct guard_line *a = d->i < d->an ? &d->a[d->i] : NULL;
	const struct guard_line *b = d->j < d->bn ? &d->b[d->j] : NULL;
	if (!a && !b)
		return GUARD_END;
	if (!d->an || !d->bn) /* known as a whole alone */
		return GUARD_WORDS;
	if (a && b && a->exact == b->exact && a->bytes == b->bytes) {
		d->i++, d->j++;
		return GUARD_SAME;
	}
	if (a && b && a->kind && b->kind) {
		if (a->shape != b->shape)
			return GUARD_WORDS;
		d->i++, d->j++;
		return GUARD_OTHER;
	}
	if (b && b->kind) {
		d->j++;
		return GUARD_PUT_IN;
	}
	if (a && a->kind) {
		d->i++;
		return GUARD_LEFT_OUT;
	}
	return GUARD_WORDS;
}
