/*
 * Notes of a small model in a digest: which of them, within which bytes.
 *
 * Each line is held against the source again before it is taken, whoever kept it, and must have a
 * word that stands nowhere else in the prompt. Those that say most for their bytes come first; the
 * selected lines have what is left, so that the least of them give way. Same notes, same bytes.
 */
#include "common/layout/parts.h"

#include "common/text/bitset.h"
#include "common/text/notes.h"

#include <errno.h>
#include <stdlib.h>

#define LINES_MAX 512		/* that are looked at for one digest */
#define GROUPS_BYTES (1u << 20) /* of groups that one note is about: more is no note of ours */
#define FADED .5 /* a line that has lost so much of its worth to others before it is not taken */

static const char intro[] = "[%.*s notes of a small model on the parts left out; their names and "
			    "numbers were checked]\n";
static const char outro[] = "[%.*s end of the notes]\n";

struct note_line {
	struct slice text; /* "- ..." with its line end */
	uint32_t order;
	float density; /* worth per byte while none is taken */
	bool taken;
};

struct digest_notes {
	struct layout *l;
	struct note_line line[LINES_MAX];
	uint32_t count;
	struct bitset covered; /* words of the corpus that stand in the prompt */
};

/* --- words --- */

typedef void word_fn(struct digest_notes *d, uint32_t word, double *sum);

static void each_word(struct digest_notes *d, struct slice text, word_fn *fn, double *sum)
{
	const struct vocab *v = &d->l->corpus.vocab;
	struct token t, part;
	for (const char *at = text.p; text.n && token_next(&at, text.p + text.n, &t);) {
		uint32_t word = vocab_find(v, t.p, t.n);
		if (word != VOCAB_NONE)
			fn(d, word, sum);
		if (!t.joined || t.numeric)
			continue;
		for (const char *p = t.p; token_part(&p, t.p + t.n, &part);)
			if ((word = vocab_find(v, part.p, part.n)) != VOCAB_NONE)
				fn(d, word, sum);
	}
}

static void cover(struct digest_notes *d, uint32_t word, double *sum)
{
	(void)sum;
	bitset_set(&d->covered, word);
}

static void add_worth(struct digest_notes *d, uint32_t word, double *sum)
{
	const struct vocab_word *w = &d->l->corpus.vocab.word[word];
	if (!bitset_has(&d->covered, word))
		*sum += (double)select_weight(&d->l->options.select, w);
}

static float density(struct digest_notes *d, struct slice text)
{
	double sum = 0;
	each_word(d, text, add_worth, &sum);
	return (float)(sum / (double)text.n);
}

static int cover_standing(struct digest_notes *d)
{
	size_t count;
	struct slice *standing = layout_standing(d->l, &count);
	if (!standing)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		each_word(d, standing[i], cover, NULL);
	free(standing);
	return 0;
}

/* --- what holds --- */

/* What the groups say, as far as it may be left out. */
static int source_of(const struct layout *l, const struct layout_note *n, struct buf *source)
{
	size_t end = layout_group_begin(l, n->to);
	for (size_t i = layout_group_begin(l, n->from); i < end; i++) {
		buf_add_slice(source, l->text[i].text);
		buf_add_char(source, '\n');
	}
	return buf_error(source);
}

static void read_lines(struct digest_notes *d, struct slice source, struct slice text)
{
	while (text.n && d->count < LINES_MAX) {
		const char *nl = memchr(text.p, '\n', text.n);
		if (!nl)
			return;
		struct slice line = {text.p, (size_t)(nl - text.p)};
		text.p += line.n + 1;
		text.n -= line.n + 1;
		if (!notes_line_holds(source, line))
			continue;
		line.n++;
		d->line[d->count] = (struct note_line){.text = line, .order = d->count};
		d->count++;
	}
}

static int read_notes(struct digest_notes *d, uint32_t to, struct slice packed)
{
	struct layout_note n;
	int rc = 0;
	while (rc == 0 && layout_note_next(&packed, &n)) {
		struct buf source;
		if (n.from < 1 || n.to > to || n.text.n == 0)
			continue;
		buf_init(&source, GROUPS_BYTES);
		rc = source_of(d->l, &n, &source);
		if (rc == 0)
			read_lines(d, buf_slice(&source), n.text);
		else if (rc == -E2BIG)
			rc = 0;
		buf_free(&source);
	}
	return rc;
}

/* --- which --- */

static int by_density(const void *a, const void *b)
{
	const struct note_line *x = a, *y = b;
	if (x->density != y->density)
		return x->density < y->density ? 1 : -1;
	return (x->order > y->order) - (x->order < y->order);
}

static int by_order(const void *a, const void *b)
{
	const struct note_line *x = a, *y = b;
	return (x->order > y->order) - (x->order < y->order);
}

/* Returns how many bytes the lines that are taken have. */
static size_t choose(struct digest_notes *d, size_t budget)
{
	size_t used = 0;
	for (uint32_t i = 0; i < d->count; i++)
		d->line[i].density = density(d, d->line[i].text);
	qsort(d->line, d->count, sizeof(d->line[0]), by_density);
	for (uint32_t i = 0; i < d->count; i++) {
		struct note_line *n = &d->line[i];
		float now = density(d, n->text);
		if (now <= 0 || now < n->density * (float)FADED || used + n->text.n > budget)
			continue;
		n->taken = true;
		used += n->text.n;
		each_word(d, n->text, cover, NULL);
	}
	qsort(d->line, d->count, sizeof(d->line[0]), by_order);
	return used;
}

static void put_notes(const struct digest_notes *d, struct slice mark, struct buf *out)
{
	buf_printf(out, intro, (int)mark.n, mark.p);
	for (uint32_t i = 0; i < d->count; i++)
		if (d->line[i].taken)
			buf_add_slice(out, d->line[i].text);
	buf_printf(out, outro, (int)mark.n, mark.p);
}

/* The notes that there are at this group end. */
static struct slice notes_at(const struct layout *l, uint32_t g, bool *offered)
{
	const struct layout_options *o = &l->options;
	uint64_t chain = l->messages[layout_group_begin(l, g + 1) - 1].chain;
	*offered = false;
	for (size_t i = 0; i < o->noted_count; i++)
		if (o->noted[i].chain == chain)
			return o->noted[i].notes;
	*offered = g + 1 == l->groups;
	return *offered ? o->offered : (struct slice){0};
}

int layout_digest_notes(struct layout *l, uint32_t to, uint32_t g, size_t budget, struct slice mark,
	struct buf *out)
{
	bool offered;
	struct slice packed = notes_at(l, g, &offered);
	size_t around = sizeof(intro) + sizeof(outro) + 2 * mark.n;
	l->noted_bytes = 0;
	if (packed.n == 0 || budget <= around)
		return 0;
	struct digest_notes *d = calloc(1, sizeof(*d));
	int rc = d ? bitset_init(&d->covered, l->corpus.vocab.n) : -ENOMEM;
	if (d)
		d->l = l;
	if (rc == 0)
		rc = read_notes(d, to, packed);
	if (rc == 0 && d->count)
		rc = cover_standing(d);
	if (rc == 0 && d->count)
		l->noted_bytes = choose(d, budget - around);
	if (l->noted_bytes) {
		put_notes(d, mark, out);
		l->took_offered |= offered;
		rc = buf_error(out);
	}
	if (d)
		bitset_fini(&d->covered);
	free(d);
	return rc;
}
