#include "common/text/piece.h"

#include "common/text/token.h"

#define SENTENCE_MIN (TEXT_PIECE / 2) /* a piece cut after a sentence is at least this long */
#define WORDS_MIN (TEXT_PIECE / 3)    /* the same for one cut after white space */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

struct slice slice_trim(struct slice s)
{
	while (s.n && is_blank(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n && is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

static bool starts_character(char c)
{
	return ((unsigned char)c & 0xc0) != 0x80;
}

size_t piece_cut(struct slice text, size_t begin, size_t limit)
{
	size_t words = 0, between = 0, parts = 0, character = 0;

	for (size_t i = limit; i > begin; i--) {
		char before = text.p[i - 1], after = text.p[i];
		if (!starts_character(after))
			continue;
		if (!character)
			character = i;
		if (!parts && !(token_is_word(before) && token_is_word(after)))
			parts = i;
		if (!between && !(token_is_inner(before) && token_is_inner(after)))
			between = i;
		bool gap = is_blank(before) && !is_blank(after);
		if (gap && i - begin >= SENTENCE_MIN && i >= begin + 2 &&
			strchr(".!?;", text.p[i - 2]))
			return i;
		if (!words && i - begin >= WORDS_MIN && (gap || strchr(",;{}>", before)))
			words = i;
		if (i - begin < SENTENCE_MIN && (words || (between && i - begin < WORDS_MIN)))
			break;
	}
	if (words)
		return words;
	if (between)
		return between;
	if (parts)
		return parts;
	return character ? character : limit;
}

/* The first line end in text[from..to], both bounds included; to + 1 when there is none. */
static size_t line_end(struct slice text, size_t from, size_t to)
{
	size_t stop = to < text.n ? to + 1 : text.n;
	const char *nl = memchr(text.p + from, '\n', stop - from);
	if (nl)
		stop = (size_t)(nl - text.p);
	const char *cr = memchr(text.p + from, '\r', stop - from);
	if (cr)
		return (size_t)(cr - text.p);
	return nl ? stop : to + 1;
}

static size_t after_line_end(struct slice text, size_t end)
{
	if (end >= text.n)
		return text.n;
	return end + (text.p[end] == '\r' && end + 1 < text.n && text.p[end + 1] == '\n' ? 2 : 1);
}

/* Is text[at] the backslash of an escape (and not itself escaped)? */
static bool begins_escape(struct slice text, size_t begin, size_t at)
{
	size_t before = at;
	while (before > begin && text.p[before - 1] == '\\')
		before--;
	return (at - before) % 2 == 0;
}

/* Behind the first escaped line end of text[begin..limit); 0 when there is none. */
static size_t after_escaped_end(struct slice text, size_t begin, size_t limit)
{
	for (size_t at = begin; at + 1 < limit; at++) {
		const char *p = memchr(text.p + at, '\\', limit - 1 - at);
		if (!p)
			return 0;
		at = (size_t)(p - text.p);
		if (p[1] == 'n' && begins_escape(text, begin, at))
			return at + 2;
	}
	return 0;
}

/* Does the line go on behind an escaped line end? */
static bool follows_escaped_end(struct slice text, size_t begin)
{
	return begin >= 2 && text.p[begin - 1] == 'n' && text.p[begin - 2] == '\\' &&
	       begins_escape(text, 0, begin - 2);
}

/* What of a line that is longer than a piece: up to an escaped line end, else what fits. */
static size_t long_line_end(struct slice text, size_t begin, size_t limit)
{
	size_t escaped = after_escaped_end(text, begin, limit);
	if (escaped)
		return escaped;
	return limit < text.n ? piece_cut(text, begin, limit) : limit;
}

bool piece_next(struct slice text, size_t *at, bool packed, struct piece *p)
{
	size_t begin = *at;
	if (begin >= text.n)
		return false;
	size_t limit = text.n - begin > TEXT_PIECE ? begin + TEXT_PIECE : text.n;
	size_t end = line_end(text, begin, limit);

	*p = (struct piece){.begin = begin, .rows = 1};
	bool inside = begin && text.p[begin - 1] != '\n' && text.p[begin - 1] != '\r';
	bool escaped = inside && follows_escaped_end(text, begin);
	p->continued = inside && !escaped;
	p->rows = p->continued ? 0 : 1;
	size_t cut = end > limit ? long_line_end(text, begin, limit)
		     : escaped	 ? after_escaped_end(text, begin, end)
				 : 0;
	if (cut) {
		p->end = *at = cut;
		return true;
	}
	p->end = end < text.n ? end : text.n;
	*at = after_line_end(text, end);
	while (packed && *at < text.n && *at - begin < TEXT_PIECE) {
		end = line_end(text, *at, begin + TEXT_PIECE);
		if (end > begin + TEXT_PIECE || end >= text.n)
			break;
		p->end = end;
		p->rows++; /* packed pieces begin at line begins only */
		*at = after_line_end(text, end);
	}
	return true;
}

struct slice piece_body(struct slice line)
{
	size_t i = 0, digits;

	while (i < line.n && line.p[i] == ' ')
		i++;
	for (digits = 0; i < line.n && line.p[i] >= '0' && line.p[i] <= '9'; i++)
		digits++;
	if (digits == 0 || digits > 7)
		return line;
	while (i < line.n && line.p[i] == ' ')
		i++;
	const struct slice arrow = SLICE("\xe2\x86\x92");
	if (line.n - i >= arrow.n && memcmp(line.p + i, arrow.p, arrow.n) == 0)
		i += arrow.n;
	else if (i < line.n && strchr(":|\t", line.p[i]) && line.p[i])
		i++;
	else
		return line;
	return (struct slice){line.p + i, line.n - i};
}
