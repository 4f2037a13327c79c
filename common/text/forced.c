/*
 * What is forced, newest first: what a person wrote inside a tool's result, constraints of the
 * user, errors, one-shot outputs, facts.
 */
#include "common/text/selection.h"

#include "common/text/piece.h"

#define ONE_SHOT_LINES 3
#define ONE_SHOT_BYTES 800
#define FACTS_A_MESSAGE 8 /* lines with hashes or measures forced from one message */
#define GOES_ON 2	  /* lines that an unfinished constraint may go on for */

/* Takes lines [a..b) if the class has bytes left for them. */
static bool force(struct selection *s, uint32_t a, uint32_t b, size_t *left)
{
	struct source *src = &s->source;
	if (!selection_may_pick(s, a, b))
		return false;
	ptrdiff_t cost = selection_cost(s, a, b);
	if (!selection_fits(s, cost, s->limit) || (cost > 0 && (size_t)cost > *left))
		return false;
	*left -= cost > 0 ? (size_t)cost : 0;
	selection_take(s, a, b);
	for (uint32_t i = a; i < b; i++)
		src->line[i].flags |= LINE_FORCED;
	return true;
}

/* Bytes that a person wrote in a message that is mostly a program's; 0 where all of it is a
 * person's: there the constraints decide. */
static size_t human_bytes(const struct source *src, size_t m)
{
	size_t bytes = 0, others = 0;
	for (uint32_t i = src->first[m]; i < src->first[m + 1]; i++) {
		const struct line *l = &src->line[i];
		if (l->flags & LINE_HUMAN)
			bytes += l->end - l->begin + 1;
		else
			others += !(l->flags & LINE_BLANK);
	}
	return others ? bytes : 0;
}

/* Short words of a person stay whole, wherever a client put them. */
static void force_human(struct selection *s)
{
	const struct source *src = &s->source;
	size_t left = s->budget / 2;
	for (size_t m = src->n; m-- > 0;) {
		size_t bytes = human_bytes(src, m);
		if (bytes == 0 || bytes > TEXT_HUMAN_SHORT)
			continue;
		for (uint32_t i = src->first[m]; i < src->first[m + 1]; i++)
			if ((src->line[i].flags & (LINE_HUMAN | LINE_BLANK)) == LINE_HUMAN)
				force(s, i, i + 1, &left);
	}
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
	struct hashset keys = {0};
	size_t left = selection_share(s, s->o->constraints);
	size_t ledger = s->o->ledger_bytes < s->budget / 2 ? s->o->ledger_bytes : s->budget / 2;
	int rc = 0;

	if (left < ledger)
		left = ledger;
	for (uint32_t i = src->lines; i-- > 0 && rc >= 0;) {
		const struct line *l = &src->line[i];
		if (!(l->flags & PIN_CONSTRAINT))
			continue;
		rc = hashset_add(&keys, l->key);
		if (rc <= 0)
			continue; /* a newer line says what holds now */
		struct unit u = sentence_around(src, i, l->flags & LINE_SENTENCE);
		if (!force(s, u.a, u.b, &left))
			force(s, i, i + 1, &left);
	}
	hashset_fini(&keys);
	return rc < 0 ? rc : 0;
}

/* What a person says in the middle of a long text binds as well, in languages that the lexicon does
 * not have: the newest sentences, within a share of their own. */
static void force_prose(struct selection *s)
{
	const struct source *src = &s->source;
	size_t left = selection_share(s, s->o->constraints);
	size_t ledger = s->o->ledger_bytes < s->budget / 2 ? s->o->ledger_bytes : s->budget / 2;

	if (left < ledger)
		left = ledger;
	for (uint32_t i = src->lines; i-- > 0 && left >= SELECTION_CROWDED;)
		if ((src->line[i].flags & PIN_PROSE) && !(src->line[i].flags & LINE_LATER))
			force(s, i, i + 1, &left);
}

/* Lines with any of the pins, one of each digit-masked shape, at most per_message of a message. */
static int force_pinned(struct selection *s, unsigned pins, size_t left, uint32_t per_message)
{
	const struct source *src = &s->source;
	struct hashset shapes = {0};
	uint32_t message = 0, taken = 0;
	int rc = 0;

	for (uint32_t i = src->lines; i-- > 0 && rc >= 0 && left >= SELECTION_CROWDED;) {
		const struct line *l = &src->line[i];
		if (!(l->flags & pins) || (l->flags & (LINE_LATER | LINE_MACHINE)))
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
	size_t left = selection_share(s, s->o->one_shots);

	for (size_t m = src->n; m-- > 0 && left >= SELECTION_CROWDED;) {
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

int selection_force(struct selection *s)
{
	if (s->o->single)
		selection_force_named(s);
	force_human(s);
	int rc = force_constraints(s);
	if (rc == 0)
		force_prose(s);
	if (rc == 0)
		rc = force_pinned(s, PIN_ERROR, selection_share(s, s->o->errors), UINT32_MAX);
	if (rc)
		return rc;
	force_one_shots(s);
	rc = force_pinned(
		s, PIN_SHA | PIN_MEASURE, selection_share(s, s->o->facts), FACTS_A_MESSAGE);
	return rc;
}
