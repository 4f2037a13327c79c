/*
 * What is done with a chat request and why, message by message: for `tandemctl explain` and for
 * X-Tandem-Explain. Says sizes, levels and static words, and text of the prompt only where its client asks for it
 * (X-Tandem-Explain: body). Pure.
 */
#ifndef TANDEM_EXPLAIN_H
#define TANDEM_EXPLAIN_H

#include "supervisor/requests/decide.h"
#include "supervisor/requests/weigh.h"

/* A wish for compaction, and what came of it. */
struct explain_compaction {
	bool made;
	bool whole;	 /* the block is the answer: nothing is sent */
	uint64_t tokens; /* of the prompt before, ... */
	uint64_t after;	 /* ... and with the block in its place */
	size_t messages; /* of the conversation before; those that are told are what stays of them */
	int64_t trigger; /* it is made from so many tokens on; 0: in any case */
	const char *why; /* it is not made; static */
};

struct explanation {
	const struct chat_request *request;
	const struct plan_facts *facts;
	const struct plan *plan;
	const struct condense *condense;	     /* NULL: no layout was made */
	const struct weighed *weighed;		     /* NULL: sizes decided */
	const struct explain_compaction *compaction; /* NULL: none was wished */
	const struct predict_rates *rates; /* of the device; as predict_init() leaves them: none are
					      known, and no time is told */
	enum decide_outcome outcome;
	const char *device, *backend; /* borrowed */
	int64_t num_ctx;	      /* that the backend is asked for, 0 none */
	struct slice
		body; /* JSON: what would be sent, but for notes; told where it is condensed; empty: not told */
};

/* One JSON object. 0 or the buf's error. */
int explain_json(const struct explanation *e, struct buf *out);

/* Lines for people. 0 or the buf's error. */
int explain_text(const struct explanation *e, struct buf *out);

#endif
