/*
 * What a small model reads to write notes ahead of time: the groups of a conversation in units of
 * about the same size.
 *
 * Units are counted from the first answer on and depend on nothing behind them, so a conversation
 * that grows keeps those it had. A unit's key is a hash of its messages alone: it stays the same in
 * another conversation, after an edit elsewhere, with another window. Keys are not keyed hashes:
 * what is found by one is to be held against the text (notes_line_holds()).
 *
 * Pure functions of the request; linear in it; safe on any thread.
 */
#ifndef TANDEM_LAYOUT_UNITS_H
#define TANDEM_LAYOUT_UNITS_H

#include "common/dialect/request.h"

#define LAYOUT_UNIT_CHUNKS 4 /* a larger unit is read in so many pieces, however long they are */

struct layout_unit {
	uint32_t from, to; /* groups [from..to) */
	uint64_t key;
};

/* The units of at least `bytes` (as the client spelt them) whose groups are all below `end`; one
 * that is not full yet is none. *units is the caller's to free(). 0 or -ENOMEM. */
int layout_units(const struct chat_request *r, uint32_t end, size_t bytes,
	struct layout_unit **units, size_t *count);

/* The unit's text in pieces of about `bytes`, without what a digest leaves as it is anyway: at most
 * LAYOUT_UNIT_CHUNKS. Each of texts is the caller's to free. 0 or -ENOMEM. */
int layout_unit_read(const struct chat_request *r, const struct layout_unit *u, size_t bytes,
	struct buf texts[LAYOUT_UNIT_CHUNKS], size_t *count);

#endif
