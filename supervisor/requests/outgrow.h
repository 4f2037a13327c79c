/*
 * Will a conversation outgrow the form that it is sent in with its next turn? Then its layout is
 * frozen and read now, while nobody waits (chat_freeze.c). A pure function of the layout that was
 * made for its last request.
 *
 * A turn is a group of the layout: an answer and what followed it. The next one is taken for as
 * large as four of five of the last twenty were at most, and in a large window as the largest of
 * them: a freeze that comes too late costs a cold prompt, one that comes early idle time and a
 * little of the window. Where its answer is known, that is taken as it is, and what follows it for
 * as large as what followed the others.
 */
#ifndef TANDEM_OUTGROW_H
#define TANDEM_OUTGROW_H

#include "common/layout/layout.h"

struct outgrow_facts {
	const struct layout *layout; /* made, whether it was sent or not */
	bool original;		     /* the original was sent */
	double tokens, room;	     /* of the original, the model's; room 0: unknown */
	double scale;		     /* start tokens for one of the model's */
	double turns;		     /* that the reading may take, as well: usual ones */
	double answer;		     /* to the request, by the start table; 0: unknown */
};

/* Tokens, by the start table, by which the next turn may grow; spare: so many do not matter. */
double outgrow_growth(const struct layout *l, double spare, double answer);
/* By which a usual one grows: the middle one of the newest. */
double outgrow_usual(const struct layout *l, double answer);

/* Where the original was sent it is measured against its own room: as long as it fits, nothing is
 * sooner. False where there is nothing that could be frozen. */
bool outgrow_is_near(const struct outgrow_facts *f);

#endif
