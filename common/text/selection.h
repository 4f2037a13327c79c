/*
 * A selection under way: what the steps of select.c, gain.c and forced.c share.
 */
#ifndef TANDEM_TEXT_SELECTION_H
#define TANDEM_TEXT_SELECTION_H

#include "common/text/cost.h"

#define SELECTION_CROWDED 12 /* bytes of budget in which nothing more fits */

struct unit { /* what is selected as one: a line or a window of lines, and their headings */
	uint32_t a, b;
};

struct candidate {
	float density; /* gain per byte when last looked at */
	uint32_t unit;
};

struct selection {
	const struct select_options *o;
	struct source source;
	struct cost cost;
	size_t budget;
	size_t limit;	 /* budget less what is set aside for the index */
	double swell;	 /* of the forced shares: 1 or 2 */
	float *weight;	 /* of each token */
	uint8_t *cover;	 /* is each covered? */
	uint32_t *stamp; /* the round that counted it last */
	uint32_t round;
	struct unit *unit;
	uint32_t units;
	struct candidate *heap;
	uint32_t heap_n;
};

/* Gives each word of the lines its weight. 0 or -ENOMEM. */
int selection_weigh(struct selection *s);

/* What lines [a..b) of one message and their headings would add to what is covered. */
double selection_gain(struct selection *s, uint32_t a, uint32_t b);

/* Picks lines [a..b) of one message and their headings; counts their tokens as covered. */
void selection_take(struct selection *s, uint32_t a, uint32_t b);

/* The bytes that would add, at most. */
ptrdiff_t selection_cost(const struct selection *s, uint32_t a, uint32_t b);

/* May lines [a..b) be picked? Not if one holds a credential that nobody uses. */
bool selection_may_pick(const struct selection *s, uint32_t a, uint32_t b);

bool selection_fits(const struct selection *s, ptrdiff_t cost, size_t limit);

/* The bytes that a share of the budget comes to, doubled when little is kept. */
size_t selection_share(const struct selection *s, double part);

/* Blocks that the question names: whole, as far as they fit. Of one text only (options.single). */
void selection_force_named(struct selection *s);

/* Step 5: picks what must be there, each class within its share. 0 or -ENOMEM. */
int selection_force(struct selection *s);

#endif
