/*
 * Selection: what is forced (forced.c), then the lazy greedy, the index and the rest: steps 5 to 7
 * of condensing.md 4.1.
 */
#include "common/text/select.h"

#include "common/text/result.h"
#include "common/text/selection.h"

#include <errno.h>
#include <stdlib.h>

#define LOW_RATIO .15  /* below it the forced shares double */
#define WINDOW 4       /* lines */
#define MENDED_GAP 4   /* a gap of up to so many lines is filled if that costs nothing */
#define REST_MISSES 64 /* lines that may fail to fit before the rest is given up */
#define NAME_MIN 4     /* bytes of a name in the index */
#define NAME_MAX 80

struct select_options select_defaults(void)
{
	return (struct select_options){
		.budget_bytes = SIZE_MAX,
		.keep_ratio = .25,
		.window_ratio = .2,
		.constraints = .15,
		.ledger_bytes = 1500,
		.errors = .06,
		.one_shots = .08,
		.facts = .06,
		.blocks = .25,
		.block_lines = 40,
		.block_bytes = 4096,
		.index = .05,
	};
}

/* Coverage. */

static int weigh_tokens(struct selection *s)
{
	const struct vocab *v = &s->source.vocab;
	s->weight = calloc(v->n + 1u, sizeof(*s->weight));
	s->cover = calloc(v->n + 1u, sizeof(*s->cover));
	s->stamp = calloc(v->n + 1u, sizeof(*s->stamp));
	if (!s->weight || !s->cover || !s->stamp)
		return -ENOMEM;
	for (uint32_t i = 0; i < v->n; i++) {
		unsigned flags = v->word[i].flags;
		if (flags & (VOCAB_LIVE | VOCAB_SECRET))
			continue;
		bool agent = flags & VOCAB_AGENT;
		bool shaped = (flags & VOCAB_SHAPED) || (agent && s->o->single);
		s->weight[i] = (shaped ? 6 : 1) * (agent ? 4 : 1);
	}
	return 0;
}

static double unit_gain(struct selection *s, uint32_t a, uint32_t b)
{
	static const double worth[] = {1, .25, 0};
	const struct source *src = &s->source;
	double gain = 0;

	s->round++;
	for (uint32_t i = a; i < b; i++) {
		const struct line *l = &src->line[i];
		if (l->factor <= 0 || bitset_has(&s->layout.picked, i))
			continue;
		double sum = 0;
		for (uint32_t k = l->ids; k < l->ids + l->n_ids; k++) {
			uint32_t id = src->ids[k];
			if (s->stamp[id] == s->round)
				continue;
			s->stamp[id] = s->round;
			sum += s->weight[id] * worth[s->cover[id]];
		}
		gain += sum * (double)l->factor;
	}
	return gain;
}

void selection_take(struct selection *s, uint32_t a, uint32_t b)
{
	const struct source *src = &s->source;
	s->round++;
	for (uint32_t i = a; i < b; i++) {
		const struct line *l = &src->line[i];
		if (bitset_has(&s->layout.picked, i))
			continue;
		for (uint32_t k = l->ids; k < l->ids + l->n_ids; k++) {
			uint32_t id = src->ids[k];
			if (s->stamp[id] != s->round && s->cover[id] < 2)
				s->cover[id]++;
			s->stamp[id] = s->round;
		}
	}
	layout_pick(&s->layout, a, b);
}

bool selection_may_pick(const struct selection *s, uint32_t a, uint32_t b)
{
	for (uint32_t i = a; i < b; i++)
		if (s->source.line[i].flags & LINE_SECRET)
			return false;
	return true;
}

bool selection_fits(const struct selection *s, ptrdiff_t cost, size_t limit)
{
	return cost <= 0 || s->layout.used + (size_t)cost <= limit;
}

size_t selection_share(const struct selection *s, double part)
{
	return (size_t)((double)s->budget * part * s->swell);
}

/* Step 6: the lazy greedy. */

static int make_units(struct selection *s, uint32_t window)
{
	const struct source *src = &s->source;
	s->unit = calloc(src->lines + 1u, sizeof(*s->unit));
	s->heap = calloc(src->lines + 1u, sizeof(*s->heap));
	if (!s->unit || !s->heap)
		return -ENOMEM;
	for (uint32_t i = 0; i < src->lines;) {
		const struct line *l = &src->line[i];
		if (l->block != BLOCK_NONE) {
			uint32_t end = src->block[l->block].end;
			if (selection_may_pick(s, i, end))
				s->unit[s->units++] = (struct unit){i, end};
			i = end;
			continue;
		}
		if (l->factor <= 0 || (l->flags & LINE_BLANK)) {
			i++;
			continue;
		}
		uint32_t b = i + 1;
		while (b < src->lines && b - i < window && src->line[b].message == l->message &&
			src->line[b].block == BLOCK_NONE && !(src->line[b].flags & LINE_SECRET))
			b++;
		s->unit[s->units++] = (struct unit){i, b};
		i = b;
	}
	return 0;
}

static void sink(struct candidate *heap, uint32_t n, uint32_t i)
{
	struct candidate c = heap[i];
	for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && heap[child + 1].density > heap[child].density)
			child++;
		if (heap[child].density <= c.density)
			break;
		heap[i] = heap[child];
	}
	heap[i] = c;
}

static float density(struct selection *s, const struct unit *u, ptrdiff_t *cost)
{
	*cost = layout_cost(&s->layout, u->a, u->b);
	return (float)(unit_gain(s, u->a, u->b) / (double)(*cost > 1 ? *cost : 1));
}

static void drop_top(struct selection *s)
{
	s->heap[0] = s->heap[--s->heap_n];
	if (s->heap_n)
		sink(s->heap, s->heap_n, 0);
}

static void select_greedily(struct selection *s)
{
	ptrdiff_t cost;
	for (uint32_t i = 0; i < s->units; i++) {
		float d = density(s, &s->unit[i], &cost);
		if (d > 0)
			s->heap[s->heap_n++] = (struct candidate){d, i};
	}
	for (uint32_t i = s->heap_n / 2; i-- > 0;)
		sink(s->heap, s->heap_n, i);

	while (s->heap_n && s->layout.used + SELECTION_CROWDED <= s->limit) {
		const struct unit *u = &s->unit[s->heap[0].unit];
		float d = density(s, u, &cost);
		if (d <= 0 || !selection_fits(s, cost, s->limit)) {
			drop_top(s);
		} else if (d >= s->heap[0].density) {
			selection_take(s, u->a, u->b);
			drop_top(s);
		} else { /* worth less than it was: back among the others */
			s->heap[0].density = d;
			sink(s->heap, s->heap_n, 0);
		}
	}
}

/* A short gap whose lines are no longer than its marker costs nothing to fill. */
static void mend_gaps(struct selection *s)
{
	const struct source *src = &s->source;
	const struct bitset *picked = &s->layout.picked;
	size_t p = bitset_next(picked, 0);

	while (p != BITSET_NONE) {
		size_t q = bitset_next(picked, p + 1);
		if (q != BITSET_NONE && q - p > 1 && q - p <= MENDED_GAP + 1 &&
			src->line[p].message == src->line[q].message) {
			uint32_t a = (uint32_t)p + 1, b = (uint32_t)q;
			if (selection_may_pick(s, a, b) && layout_cost(&s->layout, a, b) <= 0)
				selection_take(s, a, b);
		}
		p = q;
	}
}

/* Step 7: the index, then the newest lines that still fit. */

static bool is_seen(const struct selection *s, uint32_t id, unsigned rank)
{
	const struct vocab_word *w = &s->source.vocab.word[id];
	const unsigned need = VOCAB_SHAPED | VOCAB_WHOLE;
	if (s->cover[id] || !s->weight[id] || (w->flags & need) != need || w->n < NAME_MIN ||
		w->n > NAME_MAX)
		return false;
	unsigned own = w->flags & VOCAB_AGENT ? 0 : memchr(w->p, '/', w->n) ? 1 : 2;
	return own == rank;
}

/* Names the agent wrote first, then paths, then the others; each newest first. */
static int make_index(struct selection *s, struct select_result *out)
{
	const struct vocab *v = &s->source.vocab;
	size_t room = selection_share(s, s->o->index) / (size_t)s->swell;
	if (room > s->budget - s->layout.used)
		room = s->budget - s->layout.used;
	struct buf b;
	size_t names = 0;

	buf_init(&b, 0);
	buf_add_str(&b, "[seen:");
	for (unsigned rank = 0; rank < 3; rank++)
		for (uint32_t i = 0; i < v->n && b.n + NAME_MIN + 3 <= room; i++)
			if (is_seen(s, i, rank) && b.n + v->word[i].n + 3 <= room) {
				buf_add_char(&b, ' ');
				buf_add(&b, v->word[i].p, v->word[i].n);
				names++;
			}
	buf_add_char(&b, ']');
	buf_cstr(&b);
	if (buf_error(&b) || names == 0) {
		int rc = buf_error(&b);
		buf_free(&b);
		return rc;
	}
	out->index = b.p;
	s->layout.used += b.n + 1;
	return 0;
}

static void fill_rest(struct selection *s, unsigned skip)
{
	const struct source *src = &s->source;
	unsigned misses = 0;

	for (uint32_t i = src->lines; i-- > 0 && misses < REST_MISSES;) {
		const struct line *l = &src->line[i];
		struct unit u = {i, i + 1};
		if (bitset_has(&s->layout.picked, i) || (l->flags & skip))
			continue;
		if (l->block != BLOCK_NONE) {
			u = (struct unit){src->block[l->block].first, src->block[l->block].end};
			i = u.a;
		}
		if (!selection_may_pick(s, u.a, u.b))
			continue;
		if (selection_fits(s, layout_cost(&s->layout, u.a, u.b), s->budget))
			selection_take(s, u.a, u.b);
		else
			misses++;
	}
}

static int run(struct selection *s, struct select_result *out)
{
	double ratio = s->source.bytes ? (double)s->budget / (double)s->source.bytes : 1;
	s->swell = ratio < LOW_RATIO ? 2 : 1;
	size_t aside = (size_t)(s->o->index * (double)s->budget);
	s->limit = s->budget - aside;

	int rc = weigh_tokens(s);
	if (rc == 0)
		rc = selection_force(s);
	if (rc == 0)
		rc = make_units(s, ratio >= s->o->window_ratio ? WINDOW : 1);
	if (rc)
		return rc;
	select_greedily(s);
	mend_gaps(s);
	rc = make_index(s, out);
	if (rc)
		return rc;
	fill_rest(s, LINE_LATER | LINE_BLANK | LINE_FOOTER);
	fill_rest(s, 0);
	mend_gaps(s);
	return 0;
}

static bool is_share(double x)
{
	return x >= 0 && x <= 1;
}

static size_t budget_of(const struct select_options *o, size_t bytes)
{
	double kept = o->keep_ratio * (double)bytes;
	if (o->keep_ratio > 0 && kept < (double)o->budget_bytes)
		return (size_t)kept;
	return o->budget_bytes;
}

int text_select(const struct text_message *m, size_t n, const struct select_options *o,
	struct select_result *out)
{
	struct selection s = {.o = o};

	*out = (struct select_result){0};
	if ((n && !m) || !is_share(o->keep_ratio) || !is_share(o->constraints) ||
		!is_share(o->errors) || !is_share(o->one_shots) || !is_share(o->facts) ||
		!is_share(o->blocks) || !is_share(o->index))
		return -EINVAL;
	s.budget = budget_of(o, text_old_bytes(m, n));
	size_t block_bytes = o->block_bytes < s.budget / 4 ? o->block_bytes : s.budget / 4;
	int rc = source_read(&s.source, m, n, o, block_bytes);
	if (rc)
		return rc;
	rc = layout_init(&s.layout, &s.source, o->single);
	if (rc)
		goto out;
	out->silent = s.layout.used > s.budget;
	if (!out->silent)
		rc = run(&s, out);
	if (rc == 0)
		rc = result_fill(out, &s.layout);
	if (rc)
		select_result_free(out);
out:
	free(s.weight);
	free(s.cover);
	free(s.stamp);
	free(s.unit);
	free(s.heap);
	layout_fini(&s.layout);
	source_fini(&s.source);
	return rc;
}
