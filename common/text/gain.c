/*
 * What lines are worth: a weight for each word, and the sum of those that nothing chosen has yet
 * (docs/condensing.md#which-lines). Taking a line covers its words and brings its headings along.
 */
#include "common/text/selection.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define MARKER_SLACK 16 /* bytes of the longest marker over the shortest */
#define HEADS 2		/* headings of a line: its hunk's and its file's */

/*
 * How much each kind of name counts: where only a tool has said it, and where the agent has.
 * Measured on sessions of coding agents is how often each is needed again; these are less steep
 * than that (by the power of .56, plain words 1.4), because a line with several words serves more
 * often than one with a single rare name: docs/eval.md.
 */
static const struct {
	float seen, agent;
} kind_weight[TOKEN_KINDS] = {
	[TOKEN_PLAIN] = {1.4f, 1.4f},
	[TOKEN_ALNUM] = {1, 1.9f},
	[TOKEN_DASHED] = {1.5f, 2.5f},
	[TOKEN_NUMBER] = {1.5f, 4.4f},
	[TOKEN_URL] = {1.5f, 5},
	[TOKEN_PATH] = {1.7f, 5.5f},
	[TOKEN_DOTTED] = {2.2f, 3.5f},
	[TOKEN_SNAKE] = {2.3f, 5.4f},
	[TOKEN_FILE] = {2.7f, 4.7f},
	[TOKEN_CAMEL] = {3.6f, 5},
	[TOKEN_CAPS] = {3.6f, 6.5f},
	[TOKEN_FLAG] = {2.5f, 8.4f},
};

float select_weight(const struct select_options *o, const struct vocab_word *w)
{
	bool agent = w->flags & VOCAB_AGENT;
	if (w->flags & (VOCAB_LIVE | VOCAB_SECRET))
		return 0;
	if (!o->tuning.kinds) {
		bool shaped = (w->flags & VOCAB_SHAPED) || (agent && o->single);
		return (float)((shaped ? 6 : 1) * (agent ? 4 : 1));
	}
	float kind = agent ? kind_weight[w->kind].agent : kind_weight[w->kind].seen;
	if (agent && o->single && kind < 24)
		kind = 24; /* a word of the question is what the text is read for */
	return kind * (float)(1 + o->tuning.occurrence * log(w->count > 1 ? w->count : 1));
}

static void stands(struct selection *s, const struct token *t)
{
	uint32_t id = vocab_find(&s->source.c->vocab, t->p, t->n);
	if (id == VOCAB_NONE || s->stamp[id] == s->round)
		return;
	s->stamp[id] = s->round;
	s->weight[id] *= (float)s->o->tuning.standing;
}

/* Words that stand in the prompt anyway need no second place. */
static void weigh_standing(struct selection *s)
{
	s->round++;
	for (size_t i = 0; i < s->o->standing_count; i++) {
		const char *at = s->o->standing[i].p, *end = at + s->o->standing[i].n;
		struct token t, part;
		while (at && token_next(&at, end, &t)) {
			stands(s, &t);
			if (!t.joined || t.numeric)
				continue;
			for (const char *p = t.p; token_part(&p, t.p + t.n, &part);)
				stands(s, &part);
		}
	}
}

int selection_weigh(struct selection *s)
{
	const struct vocab *v = &s->source.c->vocab;
	s->weight = calloc(v->n + 1u, sizeof(*s->weight));
	s->cover = calloc(v->n + 1u, sizeof(*s->cover));
	s->stamp = calloc(v->n + 1u, sizeof(*s->stamp));
	if (!s->weight || !s->cover || !s->stamp)
		return -ENOMEM;
	/* Only words of the lines chosen from: a conversation's vocabulary is much larger. */
	for (uint32_t i = 0; i < s->source.lines; i++) {
		const struct line *l = &s->source.line[i];
		for (uint32_t k = l->ids; k < l->ids + l->n_ids; k++) {
			uint32_t id = s->source.c->ids[k];
			if (!s->stamp[id]) {
				s->stamp[id] = 1;
				s->weight[id] = select_weight(s->o, &v->word[id]);
			}
		}
	}
	s->round = 1;
	weigh_standing(s);
	return 0;
}

static double line_gain(struct selection *s, uint32_t i)
{
	const struct source *src = &s->source;
	const struct line *l = &src->line[i];
	double sum = 0;
	if (bitset_has(&s->cost.picked, i) || l->factor <= 0)
		return 0;
	for (uint32_t k = l->ids; k < l->ids + l->n_ids; k++) {
		uint32_t id = src->c->ids[k];
		if (s->stamp[id] == s->round)
			continue;
		s->stamp[id] = s->round;
		sum += s->weight[id] * (s->cover[id] ? s->o->tuning.second_cover : 1);
	}
	return sum * (double)l->factor;
}

/* The headings of a line that are not picked yet, the outermost first. */
static unsigned heads_of(const struct selection *s, uint32_t i, uint32_t *heads)
{
	unsigned n = 0;
	uint32_t h = s->source.line[i].head;
	for (; s->o->tuning.headings && h != CORPUS_NONE && n < HEADS; h = s->source.line[h].head)
		if (!bitset_has(&s->cost.picked, h))
			heads[n++] = h;
	if (n == 2) {
		uint32_t inner = heads[0];
		heads[0] = heads[1];
		heads[1] = inner;
	}
	return n;
}

double selection_gain(struct selection *s, uint32_t a, uint32_t b)
{
	uint32_t heads[HEADS];
	double gain = 0;
	s->round++;
	for (unsigned n = heads_of(s, a, heads); n-- > 0;)
		gain += line_gain(s, heads[n]);
	for (uint32_t i = a; i < b; i++)
		gain += line_gain(s, i);
	return gain;
}

static void cover_line(struct selection *s, uint32_t i)
{
	const struct line *l = &s->source.line[i];
	if (bitset_has(&s->cost.picked, i))
		return;
	for (uint32_t k = l->ids; k < l->ids + l->n_ids; k++)
		s->cover[s->source.c->ids[k]] = 1;
}

void selection_take(struct selection *s, uint32_t a, uint32_t b)
{
	uint32_t heads[HEADS];
	unsigned n = heads_of(s, a, heads);
	for (unsigned i = 0; i < n; i++) {
		cover_line(s, heads[i]);
		cost_pick(&s->cost, heads[i], heads[i] + 1);
	}
	for (uint32_t i = a; i < b; i++)
		cover_line(s, i);
	cost_pick(&s->cost, a, b);
}

ptrdiff_t selection_cost(const struct selection *s, uint32_t a, uint32_t b)
{
	uint32_t heads[HEADS];
	ptrdiff_t cost = cost_of(&s->cost, a, b);
	/* What is left between them may need the longer marker. */
	for (unsigned n = heads_of(s, a, heads); n-- > 0;)
		cost += cost_of(&s->cost, heads[n], heads[n] + 1) + MARKER_SLACK;
	return cost;
}

bool selection_may_pick(const struct selection *s, uint32_t a, uint32_t b)
{
	for (uint32_t i = a; i < b; i++)
		if (s->source.line[i].flags & (LINE_SECRET | LINE_ARMOUR))
			return false;
	return true;
}

bool selection_fits(const struct selection *s, ptrdiff_t cost, size_t limit)
{
	return cost <= 0 || s->cost.used + (size_t)cost <= limit;
}

size_t selection_share(const struct selection *s, double part)
{
	return (size_t)((double)s->budget * part * s->swell);
}
