/*
 * The messages of a request as texts, beside what was sent in their place: what contents.h keeps.
 *
 * One JSON object for each message, as the page at /ui/ gets it:
 *   index, role  as in the request's record
 *   before       its text, as condensing sees it (chat_message_text())
 *   sent         "whole": as it came; "shortened"; "nothing": it was left out
 *   after        the text that was sent in its place; null where none was, or the same
 *   others       what of it is no text: [{type, bytes, sent}], bytes as they stood in the body; what is in it is not kept
 *
 * Pure but for memory; linear in the text; safe on any thread.
 */
#ifndef TANDEM_CONTENT_TEXT_H
#define TANDEM_CONTENT_TEXT_H

#include "common/dialect/request.h"

struct content_text {
	struct buf json; /* the objects, one behind the other */
	size_t *ends;	 /* of each */
	size_t count;
};

/* Writes those of r; edits: what was done to each. At most `most` bytes. 0, -ENOMEM, -E2BIG (then *out is empty). */
int content_text_make(const struct chat_request *r, const struct chat_edit *edits, size_t most,
	struct content_text *out);
void content_text_free(struct content_text *t);

/* In memory. */
size_t content_text_bytes(const struct content_text *t);
/* The object of a message; empty: there is none of that number. */
struct slice content_text_of(const struct content_text *t, size_t message);

#endif
