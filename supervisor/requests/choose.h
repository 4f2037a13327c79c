/*
 * Which form of a request the main device gets, by predicted time (routing.mode = "adaptive"): the
 * original, the frozen layout, or the single cut of a one-shot prompt. A pure function, beside
 * plan.h.
 *
 * The original, if it fits and no other form saves both min_gain_ms and min_gain of its time. A
 * conversation that is on the layout stays there: the original's prefix is not in the cache any
 * more. What does not fit the window never goes. Nothing waits for the small device, whatever its
 * state. Waiting in the queue is the same for every form, so it decides nothing; it is part of the
 * time that the header tells.
 */
#ifndef TANDEM_CHOOSE_H
#define TANDEM_CHOOSE_H

#include "supervisor/requests/plan.h"

enum choose_form { FORM_ORIGINAL, FORM_LAYOUT, FORM_CUT, FORMS };

struct choose_candidate {
	bool there; /* could be made, and differs from the original */
	bool fits;
	double tokens; /* of the whole prompt */
	double fresh;  /* of these, not cached */
	double ms;     /* to the first token, without the queue */
};

struct choose_facts {
	struct choose_candidate form[FORMS];
	bool making;	 /* what does not fit is being made shorter: there will be another choice */
	bool on_layout;	 /* the conversation was sent as a layout before, or was frozen early */
	double queue_ms; /* before any of them starts */
	double min_gain_ms, min_gain;
	int64_t a_max_tokens, b_max_tokens;
};

struct choice {
	enum choose_form form;
	bool none_fits;		/* form is then the shortest */
	enum strategy strategy; /* A: unchanged; B, C: condensed, by the original's size */
	double ms;		/* predicted to the first token, queue included */
	char reason[PLAN_REASON_BYTES];
};

void choose(const struct choose_facts *f, struct choice *out);

/* "original", "layout", "cut" */
const char *choose_form_name(enum choose_form form);

#endif
