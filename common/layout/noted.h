/*
 * Notes of a small model about groups of a conversation, as a layout takes them, and as they are
 * kept: packed in one run of bytes. Numbers are of this machine's byte order; what is garbage reads
 * as the end.
 */
#ifndef TANDEM_LAYOUT_NOTED_H
#define TANDEM_LAYOUT_NOTED_H

#include "common/base/buf.h"

#include <stdint.h>

#define LAYOUT_NOTES_MAX 24576 /* bytes, packed, that one digest is offered */
#define LAYOUT_NOTE_BYTES 12   /* of a packed note beside its text */

struct layout_note {
	uint32_t from, to; /* groups [from..to) */
	struct slice text; /* lines "- ...\n" */
};

/* The notes that were there when a digest was made. */
struct layout_noted {
	uint64_t chain;	    /* of the group end that it was made at */
	struct slice notes; /* packed */
};

/* Appends one. 0 or a buffer's error. */
int layout_note_pack(struct buf *packed, const struct layout_note *n);

/* Takes the first one; false at the end. */
bool layout_note_next(struct slice *packed, struct layout_note *n);

#endif
