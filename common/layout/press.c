/*
 * When the prompt does not fit although what is old is raised: old parts give way first, the newest
 * only as far as needed.
 */
#include "common/layout/parts.h"

#include <errno.h>
#include <stdlib.h>

#define DIGEST_LEAST .06      /* of the room */
#define QUESTION_BYTES 4000   /* a longer message is no question */
#define SINGLE_LEAST .02      /* a text of which less would stay cannot be cut */
#define SINGLE_MIN_BYTES 4096 /* a one-shot text below is not worth a cut */
#define ROUNDS 6
#define SPARE_ROUNDS 3 /* of these, that may also give back */
#define SPARE .06      /* of the room: less is not worth another round */
#define SPARE_BACK .9  /* of what is spare */
#define MARGIN 1.02    /* markers and rounding */

static size_t end_of(const struct layout *l, uint32_t g)
{
	return layout_group_begin(l, g + 1);
}

static double excess(const struct layout *l)
{
	return l->size - l->room;
}

/* All groups but the newest keep at L1 what any old group keeps. */
static int raise_all(struct layout *l, uint32_t g)
{
	return l->raised_to < g ? layout_raise(l, g, g) : 0;
}

static int merge_all(struct layout *l, uint32_t g)
{
	return layout_merge(l, g, true, l->options.digest);
}

/* What is to be cut together, and what it came to. */
struct cut {
	uint32_t *at;
	size_t n, bytes;
	double tokens_in, tokens_out;
};

static void measure(const struct layout *l, struct cut *c)
{
	c->bytes = 0;
	c->tokens_in = c->tokens_out = 0;
	for (size_t i = 0; i < c->n; i++) {
		c->bytes += l->messages[c->at[i]].bytes_in;
		c->tokens_in += l->messages[c->at[i]].tokens_in;
		c->tokens_out += l->messages[c->at[i]].tokens_out;
	}
}

/*
 * Selected lines are richer or poorer in tokens than the text that they stand in: cut until it
 * fits, and in the first rounds give back what was cut too much.
 */
static int cut_until_it_fits(struct layout *l, struct cut *c, uint32_t g)
{
	int rc = layout_need_corpus(l, g);
	double share = 1;
	for (unsigned round = 0; rc == 0 && round < ROUNDS; round++) {
		bool spare = round && round < SPARE_ROUNDS && -excess(l) > SPARE * l->room;
		if (excess(l) <= 0 && !spare)
			break;
		measure(l, c);
		double want = c->tokens_out - excess(l) * (spare ? SPARE_BACK : MARGIN);
		share *= want > 0 ? want / c->tokens_out : 0;
		rc = layout_cut(l, c->at, c->n, (size_t)((double)c->bytes * share), LAYOUT_CUT);
		layout_resize(l, end_of(l, g));
	}
	return rc;
}

/* The newest group's results: together, as far as needed. */
static int cut_results(struct layout *l, uint32_t g)
{
	size_t begin = layout_group_begin(l, g), end = end_of(l, g);
	struct cut c = {.at = calloc(end - begin + 1, sizeof(*c.at))};
	if (!c.at)
		return -ENOMEM;
	for (size_t i = begin; i < end; i++)
		if (layout_may_cut(l, i))
			c.at[c.n++] = (uint32_t)i;
	int rc = c.n ? cut_until_it_fits(l, &c, g) : 0;
	free(c.at);
	return rc;
}

/* What a person asks about message i in another message: the newest of a modest size. */
static struct slice question_about(const struct layout *l, size_t i)
{
	/* Nothing behind the group end that is being looked at is known yet. */
	for (size_t k = end_of(l, l->walked); k-- > 0;)
		if (k != i && (l->messages[k].flags & PART_HUMAN) &&
			l->messages[k].bytes_in <= QUESTION_BYTES)
			return l->text[k].text;
	return (struct slice){0};
}

/* Cuts one text by itself to so many bytes; its own ends are its question. */
static int cut_single(struct layout *l, size_t i, size_t budget, const char *reason)
{
	struct select_options o = l->options.select;
	struct buf text;
	int rc = layout_need_texts(l);
	if (rc || (double)budget < SINGLE_LEAST * (double)l->messages[i].bytes_in)
		return rc;
	layout_as_sent(l, i);
	o.keep_ratio = 0;
	o.budget_bytes = budget;
	o.question = question_about(l, i);
	buf_init(&text, 0);
	rc = text_select_single(l->text[i].text, &o, &text, NULL);
	if (rc == 0 && text.n) {
		layout_set_out(l, i, &text, LAYOUT_CUT);
		if (l->messages[i].level == LAYOUT_CUT)
			l->messages[i].reason = reason;
	}
	buf_free(&text);
	return rc;
}

static bool may_cut_single(const struct layout *l, size_t i)
{
	const struct layout_message *m = &l->messages[i];
	return m->level != LAYOUT_FIXED && !(m->flags & (PART_DROPPED | PART_HOLDER)) &&
	       !(m->flags & PART_CALLS) && m->bytes_in > TEXT_HUMAN_SHORT;
}

/* The largest texts that are left, the largest first, each as far as needed. */
static int cut_largest(struct layout *l, uint32_t g)
{
	size_t end = end_of(l, g);
	int rc = 0;
	for (unsigned round = 0; rc == 0 && round < 8 && excess(l) > 0; round++) {
		size_t largest = end;
		for (size_t i = 0; i < end; i++) {
			const struct layout_message *m = &l->messages[i];
			if (may_cut_single(l, i) && m->level != LAYOUT_CUT &&
				(largest == end || m->tokens_out > l->messages[largest].tokens_out))
				largest = i;
		}
		if (largest == end)
			break;
		const struct layout_message *m = &l->messages[largest];
		double left = m->tokens_out - excess(l) * MARGIN;
		size_t budget = left > 0 ? (size_t)((double)m->bytes_in * left / m->tokens_in) : 0;
		size_t least = (size_t)(SINGLE_LEAST * (double)m->bytes_in) + 1;
		rc = cut_single(l, largest, budget > least ? budget : least,
			"a long text: cut as far as the window makes it necessary");
		l->messages[largest].level = LAYOUT_CUT;
		layout_resize(l, end);
	}
	return rc;
}

static int spare_nobody(struct layout *l, uint32_t g)
{
	l->spare_nobody = true;
	return layout_merge(l, g, true, l->options.digest);
}

static int shrink_digest(struct layout *l, uint32_t g)
{
	return layout_merge(l, g, true, DIGEST_LEAST);
}

int layout_press(struct layout *l, uint32_t g)
{
	static int (*const steps[])(struct layout *, uint32_t) = {
		raise_all, merge_all, cut_results, cut_largest, spare_nobody, shrink_digest};
	int rc = 0;
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps) && rc == 0 && excess(l) > 0; i++)
		rc = steps[i](l, g);
	l->freezes++;
	l->frozen_at = g + 1;
	return rc;
}

/* --- one-shot prompts --- */

/* Its own ends, or another message, ask for all of it. */
static bool is_about_whole(struct layout *l, size_t i)
{
	struct text_edges e;
	text_single_split(l->text[i].text, l->messages[i].bytes_in, &e);
	return text_is_about_whole(e.head) || text_is_about_whole(e.tail) ||
	       text_is_about_whole(question_about(l, i));
}

int layout_single(struct layout *l)
{
	size_t longest = l->count;
	if (l->groups > 1)
		return 0;
	for (size_t i = 0; i < l->count; i++)
		if (may_cut_single(l, i) &&
			(longest == l->count ||
				l->messages[i].bytes_in > l->messages[longest].bytes_in))
			longest = i;
	if (longest == l->count || l->messages[longest].bytes_in < SINGLE_MIN_BYTES)
		return 0;
	if (l->options.spare_whole && is_about_whole(l, longest))
		return 0;
	size_t budget = (size_t)((double)l->messages[longest].bytes_in * l->options.single);
	const struct layout_message *m = &l->messages[longest];
	if ((m->flags & PART_OUT) && m->bytes_out <= budget)
		return 0;
	int rc = cut_single(l, longest, budget, "a long text: cut for its question");
	layout_resize(l, l->count);
	return rc;
}
