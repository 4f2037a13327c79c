/*
 * Steps 5 to 7: what is forced, the lazy greedy, the index and the rest.
 */
#include "common/text/select.h"

#include "common/text/layout.h"
#include "common/text/piece.h"
#include "common/text/result.h"

#include <errno.h>
#include <stdlib.h>

#define LOW_RATIO .15 /* below it the forced shares double */
#define WINDOW 4      /* lines */
#define ONE_SHOT_LINES 3
#define ONE_SHOT_BYTES 800
#define FACTS_A_MESSAGE 8 /* lines with hashes or measures forced from one message */
#define GOES_ON 2	  /* lines that an unfinished constraint may go on for */
#define MENDED_GAP 4	  /* a gap of up to so many lines is filled if that costs nothing */
#define REST_MISSES 64	  /* lines that may fail to fit before the rest is given up */
#define CROWDED 12	  /* bytes of budget in which nothing more fits */
#define NAME_MIN 4	  /* bytes of a name in the index */
#define NAME_MAX 80

struct unit { /* what is selected as one: a window of lines, or a block */
	uint32_t a, b;
};

struct candidate {
	float density; /* gain per byte when last looked at */
	uint32_t unit;
};

struct selection {
	const struct select_options *o;
	struct source source;
	struct layout layout;
	size_t budget;
	size_t limit;	 /* budget less what is set aside for the index */
	double swell;	 /* of the forced shares: 1 or 2 */
	uint8_t *weight; /* of each token */
	uint8_t *cover;	 /* how often each is covered: 0, 1, 2 */
	uint32_t *stamp; /* the round that counted it last */
	uint32_t round;
	struct unit *unit;
	uint32_t units;
	struct candidate *heap;
	uint32_t heap_n;
};

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
		s->weight[i] = (flags & VOCAB_SHAPED ? 6 : 1) * (flags & VOCAB_AGENT ? 4 : 1);
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

static void take(struct selection *s, uint32_t a, uint32_t b)
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

static bool may_pick(const struct selection *s, uint32_t a, uint32_t b)
{
	for (uint32_t i = a; i < b; i++)
		if (s->source.line[i].flags & LINE_SECRET)
			return false;
	return true;
}

static bool fits(const struct selection *s, ptrdiff_t cost, size_t limit)
{
	return cost <= 0 || s->layout.used + (size_t)cost <= limit;
}

/* Step 5: what is forced, newest first. */

static size_t share(const struct selection *s, double part)
{
	return (size_t)((double)s->budget * part * s->swell);
}

/* Takes lines [a..b), blocks as a whole, if the class has bytes left for them. */
static bool force(struct selection *s, uint32_t a, uint32_t b, size_t *left)
{
	struct source *src = &s->source;
	if (src->line[a].block != BLOCK_NONE)
		a = src->block[src->line[a].block].first;
	if (src->line[b - 1].block != BLOCK_NONE)
		b = src->block[src->line[b - 1].block].end;
	if (!may_pick(s, a, b))
		return false;
	ptrdiff_t cost = layout_cost(&s->layout, a, b);
	if (!fits(s, cost, s->limit) || (cost > 0 && (size_t)cost > *left))
		return false;
	*left -= cost > 0 ? (size_t)cost : 0;
	take(s, a, b);
	for (uint32_t i = a; i < b; i++)
		src->line[i].flags |= LINE_FORCED;
	return true;
}

static bool ends_sentence(struct slice line)
{
	line = slice_trim(line);
	return line.n && line.p[line.n - 1] && strchr(".!?:;", line.p[line.n - 1]);
}

/* The lines of the sentence around constraint line i: it may begin before and end after it. */
static struct unit sentence_around(const struct source *src, uint32_t i, bool open)
{
	uint32_t m = src->line[i].message;
	struct unit u = {i, i + 1};

	if (i > src->first[m] && !(src->line[i - 1].flags & LINE_BLANK) &&
		((src->line[i].flags & LINE_PART) || pin_goes_on(source_line(src, i))) &&
		!ends_sentence(source_line(src, i - 1)))
		u.a--;
	while (open && u.b < src->first[m + 1] && u.b - i <= GOES_ON) {
		struct slice next = source_line(src, u.b);
		bool goes_on = (src->line[u.b].flags & LINE_PART) || pin_goes_on(next);
		if (ends_sentence(source_line(src, u.b - 1)) || !goes_on)
			break;
		u.b++;
	}
	return u;
}

static int force_constraints(struct selection *s)
{
	const struct source *src = &s->source;
	struct lexicon lexicon;
	struct hashset keys = {0};
	size_t left = share(s, s->o->constraints);
	size_t ledger = s->o->ledger_bytes < s->budget / 2 ? s->o->ledger_bytes : s->budget / 2;
	int rc = 0;

	if (left < ledger)
		left = ledger;
	lexicon_init(&lexicon);
	for (uint32_t i = src->lines; i-- > 0 && rc >= 0;) {
		uint64_t key;
		bool open;
		if (!(src->line[i].flags & PIN_CONSTRAINT))
			continue;
		pin_constraint(&lexicon, source_line(src, i), &key, &open);
		rc = hashset_add(&keys, key);
		if (rc <= 0)
			continue; /* a newer line says what holds now */
		struct unit u = sentence_around(src, i, open);
		if (!force(s, u.a, u.b, &left))
			force(s, i, i + 1, &left);
	}
	hashset_fini(&keys);
	return rc < 0 ? rc : 0;
}

/* Lines with any of the pins, one of each digit-masked shape, at most per_message of a message. */
static int force_pinned(struct selection *s, unsigned pins, size_t left, uint32_t per_message)
{
	const struct source *src = &s->source;
	struct hashset shapes = {0};
	uint32_t message = 0, taken = 0;
	int rc = 0;

	for (uint32_t i = src->lines; i-- > 0 && rc >= 0 && left >= CROWDED;) {
		const struct line *l = &src->line[i];
		if (!(l->flags & pins) || (l->flags & (LINE_LATER | LINE_FOOTER)) ||
			l->block != BLOCK_NONE)
			continue;
		if (l->message != message) {
			message = l->message;
			taken = 0;
		}
		if (taken >= per_message)
			continue;
		rc = hashset_add(&shapes, pin_shape(source_line(src, i)));
		if (rc > 0 && force(s, i, i + 1, &left))
			taken++;
	}
	hashset_fini(&shapes);
	return rc < 0 ? rc : 0;
}

static void force_one_shots(struct selection *s)
{
	const struct source *src = &s->source;
	size_t left = share(s, s->o->one_shots);

	for (size_t m = src->n; m-- > 0 && left >= CROWDED;) {
		uint32_t a = src->first[m], b = src->first[m + 1];
		bool tool = src->m[m].role == TEXT_TOOL || src->m[m].tool_result;
		while (b > a && (src->line[b - 1].flags & LINE_BLANK))
			b--;
		if (tool && b > a && b - a <= ONE_SHOT_LINES &&
			src->line[b - 1].end <= ONE_SHOT_BYTES &&
			!(src->line[a].flags & LINE_LATER))
			force(s, a, b, &left);
	}
}

static void force_blocks(struct selection *s)
{
	const struct source *src = &s->source;
	size_t left = share(s, s->o->blocks);

	for (uint32_t k = src->blocks; k-- > 0 && left >= CROWDED;) {
		const struct block *b = &src->block[k];
		const struct text_message *m = &src->m[src->line[b->first].message];
		if (m->role != TEXT_TOOL && !m->tool_result)
			force(s, b->first, b->end, &left);
	}
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
			if (may_pick(s, i, end))
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

	while (s->heap_n && s->layout.used + CROWDED <= s->limit) {
		const struct unit *u = &s->unit[s->heap[0].unit];
		float d = density(s, u, &cost);
		if (d <= 0 || !fits(s, cost, s->limit)) {
			drop_top(s);
		} else if (d >= s->heap[0].density) {
			take(s, u->a, u->b);
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
			if (may_pick(s, a, b) && layout_cost(&s->layout, a, b) <= 0)
				take(s, a, b);
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
	size_t room = share(s, s->o->index) / (size_t)s->swell;
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
		if (!may_pick(s, u.a, u.b))
			continue;
		if (fits(s, layout_cost(&s->layout, u.a, u.b), s->budget))
			take(s, u.a, u.b);
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
		rc = force_constraints(s);
	if (rc == 0)
		rc = force_pinned(s, PIN_ERROR, share(s, s->o->errors), UINT32_MAX);
	if (rc)
		return rc;
	force_one_shots(s);
	rc = force_pinned(s, PIN_SHA | PIN_MEASURE, share(s, s->o->facts), FACTS_A_MESSAGE);
	if (rc)
		return rc;
	force_blocks(s);
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
