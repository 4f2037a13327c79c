/*
 * Selection: what is forced (forced.c), then the lazy greedy over what lines gain (gain.c), the index
 * and the rest (docs/condensing.md).
 */
#include "common/text/select.h"

#include "common/text/result.h"
#include "common/text/selection.h"

#include <errno.h>
#include <stdlib.h>

#define LOW_RATIO .15  /* below it the forced shares double */
#define MENDED_GAP 4   /* a gap of up to so many lines is filled if that costs nothing */
#define REST_MISSES 64 /* lines that may fail to fit before the rest is given up */
#define NAME_MIN 4     /* bytes of a name in the index */
#define NAME_MAX 80

struct select_options select_defaults(void)
{
	return (struct select_options){
		.budget_bytes = SIZE_MAX,
		.keep_ratio = .25,
		.constraints = .15,
		.ledger_bytes = 1500,
		.errors = .06,
		.one_shots = .08,
		.facts = .06,
		.index = .05,
		.tuning = {.length_exponent = .2,
			.occurrence = .5,
			.kinds = true,
			.window = 1,
			.headings = true,
			.standing = 0},
	};
}

/* --- step 6: the lazy greedy --- */

static int make_units(struct selection *s, uint32_t window)
{
	const struct source *src = &s->source;
	s->unit = calloc(src->lines + 1u, sizeof(*s->unit));
	s->heap = calloc(src->lines + 1u, sizeof(*s->heap));
	if (!s->unit || !s->heap)
		return -ENOMEM;
	for (uint32_t i = 0; i < src->lines;) {
		const struct line *l = &src->line[i];
		if (l->factor <= 0 || (l->flags & LINE_BLANK)) {
			i++;
			continue;
		}
		uint32_t b = i + 1;
		while (b < src->lines && b - i < window && src->line[b].message == l->message &&
			selection_may_pick(s, b, b + 1))
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
	*cost = selection_cost(s, u->a, u->b);
	return (float)(selection_gain(s, u->a, u->b) / (double)(*cost > 1 ? *cost : 1));
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

	while (s->heap_n && s->cost.used + SELECTION_CROWDED <= s->limit) {
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
	const struct bitset *picked = &s->cost.picked;
	size_t p = bitset_next(picked, 0);

	while (p != BITSET_NONE) {
		size_t q = bitset_next(picked, p + 1);
		if (q != BITSET_NONE && q - p > 1 && q - p <= MENDED_GAP + 1 &&
			src->line[p].message == src->line[q].message) {
			uint32_t a = (uint32_t)p + 1, b = (uint32_t)q;
			if (selection_may_pick(s, a, b) && selection_cost(s, a, b) <= 0)
				selection_take(s, a, b);
		}
		p = q;
	}
}

/* --- step 7: the index, then the newest lines that still fit --- */

static bool is_seen(const struct selection *s, uint32_t id, unsigned rank)
{
	const struct vocab_word *w = &s->source.c->vocab.word[id];
	const unsigned need = VOCAB_SHAPED | VOCAB_WHOLE;
	if (s->cover[id] || s->weight[id] <= 0 || (w->flags & need) != need || w->n < NAME_MIN ||
		w->n > NAME_MAX)
		return false;
	unsigned own = w->flags & VOCAB_AGENT ? 0 : memchr(w->p, '/', w->n) ? 1 : 2;
	return own == rank;
}

static void put_name(struct selection *s, uint32_t id, size_t room, struct buf *b, size_t *names)
{
	const struct vocab_word *w = &s->source.c->vocab.word[id];
	if (b->n + w->n + 3 > room)
		return;
	s->cover[id] = 1;
	buf_add_char(b, ' ');
	buf_add(b, w->p, w->n);
	++*names;
}

/* Names the agent wrote first, then paths, then the others; each newest first. */
static int make_index(struct selection *s, struct select_result *out)
{
	const struct source *src = &s->source;
	size_t room = selection_share(s, s->o->index) / (size_t)s->swell;
	if (room > s->budget - s->cost.used)
		room = s->budget - s->cost.used;
	struct buf b;
	size_t names = 0;

	buf_init(&b, 0);
	buf_add_str(&b, "[seen:");
	for (unsigned rank = 0; rank < 3; rank++)
		for (uint32_t i = src->lines; i-- > 0 && b.n + NAME_MIN + 3 <= room;) {
			const struct line *l = &src->line[i];
			if (l->flags & (LINE_SECRET | LINE_ARMOUR))
				continue;
			for (uint32_t k = l->ids; k < l->ids + l->n_ids; k++)
				if (is_seen(s, src->c->ids[k], rank))
					put_name(s, src->c->ids[k], room, &b, &names);
		}
	buf_add_char(&b, ']');
	buf_cstr(&b);
	if (buf_error(&b) || names == 0) {
		int rc = buf_error(&b);
		buf_free(&b);
		return rc;
	}
	out->index = b.p;
	s->cost.used += b.n + 1;
	return 0;
}

static void fill_rest(struct selection *s, unsigned skip)
{
	const struct source *src = &s->source;
	unsigned misses = 0;

	for (uint32_t i = src->lines; i-- > 0 && misses < REST_MISSES;) {
		const struct line *l = &src->line[i];
		if (bitset_has(&s->cost.picked, i) || (l->flags & skip) ||
			!selection_may_pick(s, i, i + 1))
			continue;
		if (selection_fits(s, selection_cost(s, i, i + 1), s->budget))
			selection_take(s, i, i + 1);
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

	int rc = selection_weigh(s);
	if (rc == 0)
		rc = selection_force(s);
	if (rc == 0)
		rc = make_units(s, s->o->tuning.window ? s->o->tuning.window : 1);
	if (rc)
		return rc;
	select_greedily(s);
	mend_gaps(s);
	if (s->o->index > 0)
		rc = make_index(s, out);
	if (rc)
		return rc;
	fill_rest(s, LINE_LATER | LINE_BLANK | LINE_MACHINE);
	fill_rest(s, 0);
	mend_gaps(s);
	return 0;
}

/* --- the door --- */

static bool is_share(double x)
{
	return x >= 0 && x <= 1;
}

static bool are_sound(const struct select_options *o)
{
	return is_share(o->keep_ratio) && is_share(o->constraints) && is_share(o->errors) &&
	       is_share(o->one_shots) && is_share(o->facts) && is_share(o->index);
}

static size_t budget_of(const struct select_options *o, size_t bytes)
{
	double kept = o->keep_ratio * (double)bytes;
	if (o->keep_ratio > 0 && kept < (double)o->budget_bytes)
		return (size_t)kept;
	return o->budget_bytes;
}

int text_select_from(const struct corpus *c, const struct text_message *m, const uint32_t *at,
	size_t n, const struct select_options *o, struct select_result *out)
{
	struct selection s = {.o = o};

	*out = (struct select_result){0};
	if (!are_sound(o))
		return -EINVAL;
	int rc = source_init(&s.source, c, m, at, n, o);
	if (rc)
		return rc;
	s.budget = budget_of(o, s.source.bytes);
	rc = cost_init(&s.cost, &s.source, o);
	if (rc)
		goto out;
	out->silent = s.cost.used > s.budget;
	if (!out->silent)
		rc = run(&s, out);
	if (rc == 0)
		rc = result_fill(out, &s.cost);
	if (rc)
		select_result_free(out);
out:
	free(s.weight);
	free(s.cover);
	free(s.stamp);
	free(s.unit);
	free(s.heap);
	cost_fini(&s.cost);
	source_fini(&s.source);
	return rc;
}

int text_select(const struct text_message *m, size_t n, const struct select_options *o,
	struct select_result *out)
{
	struct corpus c;

	*out = (struct select_result){0};
	if ((n && !m) || !are_sound(o))
		return -EINVAL;
	int rc = corpus_init(&c, m, n);
	for (size_t i = 0; i < n && rc == 0; i++) {
		enum corpus_reading live = o->single ? CORPUS_QUESTION : CORPUS_LIVE;
		if (m[i].verbatim && o->frozen) /* not looked at */
			c.first[++c.n] = c.lines;
		else
			rc = corpus_read(&c, m[i].verbatim ? live : CORPUS_LINES);
	}
	if (rc == 0)
		rc = text_select_from(&c, m, NULL, n, o, out);
	corpus_fini(&c);
	return rc;
}
