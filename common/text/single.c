/*
 * One huge text: its instruction at both ends stays, the middle is selected.
 */
#include "common/text/lexicon.h"
#include "common/text/piece.h"
#include "common/text/select.h"
#include "common/text/token.h"

#include <errno.h>

#define HEAD_BYTES 400
#define TAIL_BYTES 800

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The end of the first paragraph within max bytes; at least one piece if that fits. */
static size_t head_end(struct slice text, size_t max)
{
	size_t end = 0, at = 0;
	struct piece p;
	while (piece_next(text, &at, false, &p) && p.end <= max) {
		struct slice line = {text.p + p.begin, p.end - p.begin};
		if (slice_trim(line).n)
			end = p.end;
		else if (end)
			break;
	}
	return end;
}

/* Where the last lines begin, within max bytes: at a paragraph if one begins there. */
static size_t tail_begin(struct slice text, size_t max)
{
	size_t from = text.n > max ? text.n - max : 0;
	struct slice last = {text.p + from, text.n - from};
	size_t begin = text.n, paragraph = text.n, at = 0;
	bool blank = false;
	struct piece p;

	while (piece_next(last, &at, false, &p)) {
		/* The first piece may have been cut anywhere. */
		bool whole = p.begin > 0 || from == 0 || text.p[from - 1] == '\n';
		bool empty = slice_trim((struct slice){last.p + p.begin, p.end - p.begin}).n == 0;
		if (whole && !empty && begin == text.n)
			begin = from + p.begin;
		if (whole && !empty && blank && paragraph == text.n)
			paragraph = from + p.begin;
		blank = empty;
	}
	return paragraph < text.n ? paragraph : begin;
}

static struct slice without_line_ends(struct slice s)
{
	while (s.n && (*s.p == '\n' || *s.p == '\r')) {
		s.p++;
		s.n--;
	}
	while (s.n && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r'))
		s.n--;
	return s;
}

void text_single_split(struct slice text, size_t budget, struct text_edges *e)
{
	size_t head = head_end(text, least(HEAD_BYTES, budget / 4));
	struct slice rest = {text.p + head, text.n - head};
	size_t tail = tail_begin(rest, least(TAIL_BYTES, budget / 2));

	e->head = (struct slice){text.p, head};
	e->tail = (struct slice){rest.p + tail, rest.n - tail};
	e->middle = without_line_ends((struct slice){rest.p, tail});
}

/* Folded stems; a word that begins with one asks for all of its text. */
static const char *const whole_stems[] = {"translat", "summar", "proofread", "rewrite", "reformat",
	"paraphras", "transcrib", "traduz", "traduc", "tradu", "resum", "revis", "review", "corrij",
	"corrig", "reescrev", "reescrib", "ubersetz", "zusammenfass", "korrigier", "uberarbeit",
	NULL};

bool text_is_about_whole(struct slice instruction)
{
	char text[HEAD_BYTES + TAIL_BYTES];
	size_t n = text_fold(instruction, text, sizeof(text));
	for (size_t i = 0; i < n;) {
		size_t from = i;
		while (i < n && token_is_word(text[i]))
			i++;
		for (size_t k = 0; i > from && whole_stems[k]; k++) {
			size_t stem = strlen(whole_stems[k]);
			if (i - from >= stem && memcmp(text + from, whole_stems[k], stem) == 0)
				return true;
		}
		i += i == from;
	}
	return false;
}

int text_select_single(struct slice text, const struct select_options *o, struct buf *out_text,
	size_t *omitted_lines)
{
	size_t budget = o->budget_bytes;
	struct text_edges e;
	size_t omitted = 0;

	if (!(o->keep_ratio >= 0 && o->keep_ratio <= 1))
		return -EINVAL;
	if (o->keep_ratio > 0 && o->keep_ratio * (double)text.n < (double)budget)
		budget = (size_t)(o->keep_ratio * (double)text.n);
	if (text.n <= budget) {
		buf_add_slice(out_text, text);
		goto done;
	}
	text_single_split(text, budget, &e);
	struct text_message parts[] = {
		{.role = TEXT_USER, .text = o->question, .verbatim = true, .group = 0},
		{.role = TEXT_USER, .text = e.head, .verbatim = true, .group = 0},
		{.role = TEXT_USER, .text = e.middle, .group = 1},
		{.role = TEXT_USER, .text = e.tail, .verbatim = true, .group = 2},
	};
	const size_t n = sizeof(parts) / sizeof(*parts);
	size_t edges = e.head.n + e.tail.n + (e.head.n > 0) + (e.tail.n > 0);
	struct select_options middle = *o;
	middle.single = true;
	middle.frozen = false;
	middle.keep_ratio = 0;
	middle.ledger_bytes = 0; /* a pasted text is full of "must" that binds nobody */
	middle.budget_bytes = budget > edges ? budget - edges : 0;

	struct select_result r;
	int rc = text_select(parts, n, &middle, &r);
	if (rc)
		return rc;
	if (budget >= edges) {
		buf_add_slice(out_text, e.head);
		if (e.head.n)
			buf_add_char(out_text, '\n');
		text_render(parts, n, &r, out_text);
		buf_add_slice(out_text, e.tail);
		if (e.tail.n && e.tail.p[e.tail.n - 1] != '\n')
			buf_add_char(out_text, '\n');
	}
	omitted = r.omitted_lines;
	select_result_free(&r);
done:
	if (omitted_lines)
		*omitted_lines = omitted;
	return buf_error(out_text);
}
