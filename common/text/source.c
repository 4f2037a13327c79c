#include "common/text/source.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define LONG_MESSAGE 1200.0 /* bytes beyond which a message's lines count less */
#define AGE_GROUPS 30.0
#define TRIFLE .05f /* the factor of empty lines, fences and footers */

static bool is_tool(const struct text_message *m)
{
	return m->role == TEXT_TOOL || m->tool_result;
}

static double role_factor(const struct text_message *m, const struct line *l)
{
	switch (m->role) {
	case TEXT_ASSISTANT:
		return m->calls_tools && l->begin >= m->calls_at ? 1.5 : .35;
	case TEXT_USER:
		return m->tool_result ? 1 : 2;
	case TEXT_TOOL:
	case TEXT_SYSTEM:
		break;
	}
	return 1;
}

static float factor_of(const struct text_message *m, const struct line *l, double base, bool single)
{
	if (l->flags & (LINE_LATER | LINE_SECRET | LINE_ARMOUR))
		return 0;
	double f = base * role_factor(m, l);
	if ((is_tool(m) || single) && (l->flags & (PIN_ERROR | PIN_FAILURE)))
		f *= 2;
	else if ((is_tool(m) || single) && (l->flags & PIN_DEFINITION))
		f *= 1.5;
	if (l->flags & (LINE_FENCE | LINE_MACHINE | LINE_BLANK))
		f *= TRIFLE;
	return (float)f;
}

/* Is there an equal line that is newer? */
static bool comes_later(const struct corpus *c, uint32_t number, const struct select_options *o)
{
	const struct corpus_line *l = &c->line[number];
	if (l->same == VOCAB_NONE)
		return false;
	uint32_t last = c->last[l->same];
	return last != number && !(o->frozen && last == CORPUS_NONE);
}

static bool is_unused(const struct corpus *c, uint32_t secret, uint32_t message)
{
	return secret == CORPUS_NONE || c->vocab.word[secret].turn <= message + 1;
}

static void copy_line(struct source *s, uint32_t number, uint32_t at, uint32_t entry, uint32_t *row,
	const struct select_options *o)
{
	const struct corpus_line *from = &s->c->line[number];
	struct line *l = &s->line[s->lines];
	*l = (struct line){.begin = from->begin,
		.end = from->end,
		.message = entry,
		.row = *row,
		.head = CORPUS_NONE,
		.ids = from->ids,
		.n_ids = from->n_ids,
		.key = from->key,
		.flags = from->flags & ~(unsigned)LINE_SECRET};
	if (from->head != CORPUS_NONE) /* in the same message, so copied before it */
		l->head = s->lines - (number - from->head);
	if ((from->flags & LINE_SECRET) && is_unused(s->c, from->secret, at))
		l->flags |= LINE_SECRET;
	if (!(from->flags & LINE_BLANK) && comes_later(s->c, number, o))
		l->flags |= LINE_LATER;
	*row += from->rows;
	s->lines++;
}

static void weigh(struct source *s, const struct select_options *o)
{
	unsigned newest = 0;
	for (size_t i = 0; i < s->n; i++)
		if (!s->m[i].verbatim && s->m[i].group > newest)
			newest = s->m[i].group;
	for (uint32_t i = 0; i < s->n; i++) {
		const struct text_message *m = &s->m[i];
		double age = m->group < newest ? newest - m->group : 0;
		double base = o->single ? 1 : .15 + .85 * exp(-age / AGE_GROUPS);
		if ((double)m->text.n > LONG_MESSAGE)
			base *= pow(LONG_MESSAGE / (double)m->text.n, o->tuning.length_exponent);
		for (uint32_t k = s->first[i]; k < s->first[i + 1]; k++)
			s->line[k].factor = factor_of(m, &s->line[k], base, o->single);
	}
}

int source_init(struct source *s, const struct corpus *c, const struct text_message *m,
	const uint32_t *at, size_t n, const struct select_options *o)
{
	uint32_t lines = 0, row = 0;
	*s = (struct source){.c = c, .m = m, .n = n};
	for (size_t i = 0; i < n; i++) {
		size_t k = at ? at[i] : i;
		if (!m[i].verbatim)
			lines += c->first[k + 1] - c->first[k];
	}
	s->line = calloc(lines + 1u, sizeof(*s->line));
	s->first = calloc(n + 1, sizeof(*s->first));
	if (!s->line || !s->first) {
		source_fini(s);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = at ? at[i] : i;
		s->first[i] = s->lines;
		if (m[i].verbatim)
			continue;
		s->bytes += m[i].text.n;
		for (uint32_t l = c->first[k]; l < c->first[k + 1]; l++)
			copy_line(s, l, k, i, &row, o);
	}
	s->first[n] = s->lines;
	s->line[s->lines] = (struct line){.row = row, .message = (uint32_t)n};
	weigh(s, o);
	return 0;
}

void source_fini(struct source *s)
{
	free(s->line);
	free(s->first);
	*s = (struct source){0};
}
