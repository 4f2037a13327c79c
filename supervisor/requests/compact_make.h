/*
 * What a wish for compaction (common/dialect/compaction.h) comes to: whether it is met, and the text of the block, which the
 * frozen layout makes without a model. Pure; linear in the body; any thread. The server and `tandemctl explain`
 * call the same functions.
 */
#ifndef TANDEM_COMPACT_MAKE_H
#define TANDEM_COMPACT_MAKE_H

#include "common/dialect/compaction.h"
#include "supervisor/requests/explain.h"

struct compact_want {
	const struct chat_request *view; /* borrowed */
	struct compaction_wish wish;
	uint64_t tokens; /* of the prompt, as the model has them */
	int64_t window;	 /* of the device; 0: not known */
};

/* Something is wished. */
bool compact_is_wished(const struct compaction_wish *w);

/* True: the block is to be made. A threshold that the client leaves open is set. */
bool compact_is_wanted(struct compact_want *w);

/* Appends the text. 0; -EMSGSIZE: what is never shortened leaves no room for it; -ENOMEM. */
int compact_make(const struct compact_want *w, struct buf *text);

/* What is told of it. begun: it was to be made, and result is compact_make()'s; after: tokens of the short prompt. */
struct explain_compaction compact_told(
	const struct compact_want *w, bool begun, int result, uint64_t after);

#endif
