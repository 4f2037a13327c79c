/*
 * Notes that a small model writes about a chunk: how it is asked, and what of its answer is kept
 * (docs/condensing.md#notes).
 *
 * A note is kept only if every path, identifier and number in it stands in the source, so that what
 * reaches the main model may be incomplete but names nothing that does not exist.
 */
#ifndef TANDEM_TEXT_NOTES_H
#define TANDEM_TEXT_NOTES_H

#include "common/base/buf.h"

#define NOTES_VERSION 1	     /* of instruction and rules: what was kept under another is not used */
#define NOTES_KEY_MIN 8	     /* bytes of a mark's key */
#define NOTES_LINES_MAX 64   /* lines of an answer that are looked at */
#define NOTES_LINE_BYTES 400 /* a longer note is no note */
#define NOTES_MAX_SHARE .06  /* of the source */

/*
 * Appends the instruction, the same bytes for every job so that it keeps its prefix cache, and the
 * data: the chunk between two marks that carry key, a fresh random hex word.
 * 0, -EINVAL (the key is short or stands in the chunk) or a buffer's error.
 */
int notes_prompt(struct slice chunk, const char *key, struct buf *instruction, struct buf *data);

enum notes_verdict {
	NOTES_OK,
	NOTES_NONE,	  /* the model said that nothing matters */
	NOTES_EMPTY,	  /* no note lines at all */
	NOTES_UNVERIFIED, /* notes, but none that stands up against the source */
	NOTES_LOOP,	  /* mostly repetition; what came before it may still be in out */
};

struct notes_rule {
	bool finished_by_length; /* the model was cut off: its last line is not trusted */
	bool strict; /* a note that has neither a name nor a number must stand word for word in one
			line of the source: there is nothing else that it could be held against */
	size_t max_bytes; /* of all lines together */
};

/* Different notes of an answer, "none" aside. */
struct notes_tally {
	unsigned kept, refused;
};

/*
 * Appends the lines of answer that hold, each "- ...\n", at most max_bytes and 6 % of the source.
 * tally may be NULL. Out of memory shows in buf_error(out).
 */
enum notes_verdict notes_verify(struct slice source, struct slice answer,
	const struct notes_rule *rule, struct notes_tally *tally, struct buf *out);

/* Does a line as notes_verify() wrote it ("- ...", without its end) hold, by the strict rule? What
 * was kept somewhere is asked again, before anybody reads it. */
bool notes_line_holds(struct slice source, struct slice line);

const char *notes_verdict_name(enum notes_verdict v);

#endif
