/*
 * What stands around the plan (plan.h) when a chat request is decided: from request and settings to
 * the plan's facts, from the plan to the layout's, and what follows from the layout's result. Pure;
 * the server and `tandemctl explain` call the same functions, so what is explained is what is done.
 */
#ifndef TANDEM_DECIDE_H
#define TANDEM_DECIDE_H

#include "common/condense.h"
#include "common/config/config.h"
#include "supervisor/requests/choose.h"
#include "supervisor/requests/plan.h"

#define DECIDE_WINDOW_MAX                                                                          \
	(INT64_C(1) << 30)	/* tokens; a client that asks for more gets what fits */
#define DECIDE_NOTES_SHARE 0.06 /* of a chunk's bytes: the most its notes may add to the prompt */

enum decide_outcome {
	DECIDE_ORIGINAL,
	DECIDE_CONDENSED,
	DECIDE_OVERFLOW,  /* refused: the error that agents know */
	DECIDE_COMPACTED, /* told, and never decided: the answer is a compaction block alone */
	DECIDE_OUTCOMES,
};

/* "original", "condensed", "overflow", "compacted" */
const char *decide_outcome_name(enum decide_outcome o);

/* All but the devices: tokens is the estimate for the model, to_main whether a main device has it.
 */
void decide_facts(struct plan_facts *f, const struct config *conf, const struct chat_request *r,
	uint64_t tokens, bool to_main);

/* tokens: the same estimate, not rounded; by_time: the plan is weigh.h's, where what is asked about
 * as a whole stays whole. */
struct condense_facts decide_condense(const struct config *conf, const struct plan_facts *f,
	const struct plan *p, const struct chat_request *r, double tokens, bool overflowed,
	bool by_time);

/* A request that is not to be condensed. traits: of the main device's backend (backends.h). */
enum decide_outcome decide_plain(
	const struct plan_facts *f, const struct plan *p, bool is_load, unsigned traits);

/* The layout has been made. */
enum decide_outcome decide_laid_out(enum condense_result result, unsigned traits);

/* ... and weighed against the original (weigh.h). */
enum decide_outcome decide_weighed(
	enum condense_result result, enum choose_form form, unsigned traits);

#endif
