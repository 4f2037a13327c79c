/*
 * A small model's notes without a model: of each unit of a conversation the parts of lines with the
 * most names, and one thing that it made up. It extracts, so it shows what notes do to the bytes
 * and to recall; how well a model writes it cannot show.
 */
#ifndef TANDEM_EVAL_SCRIBE_H
#define TANDEM_EVAL_SCRIBE_H

#include "common/layout/layout.h"

#define SCRIBE_UNIT_BYTES 3000

/* Appends, packed, the verified notes of all units of the request whose groups are older than the
 * newest two. 0 or -ENOMEM. */
int scribe_offer(const struct chat_request *r, struct buf *packed);

/* The digests of the conversation that were made with notes. */
#define SCRIBE_DECISIONS_MAX 4096

struct scribe {
	struct layout_noted *noted;
	size_t count;
};

void scribe_forget(struct scribe *s);
/* Remembers what a layout has decided. 0 or -ENOMEM. */
int scribe_keep(struct scribe *s, const struct layout *l);

#endif
