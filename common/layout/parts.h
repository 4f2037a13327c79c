/*
 * Inside of the layout: what its files share. Private to common/layout/.
 */
#ifndef TANDEM_LAYOUT_PARTS_H
#define TANDEM_LAYOUT_PARTS_H

#include "common/layout/layout.h"

enum {
	PART_HUMAN = 1 << 0,	 /* a person's message */
	PART_RESULT = 1 << 1,	 /* a tool's, in whatever role */
	PART_UNTOUCHED = 1 << 2, /* never touched: the task, short words of a person */
	PART_CUTTABLE = 1 << 3,	 /* L1 may shorten it */
	PART_PICTURES = 1 << 4,	 /* carries pictures */
	PART_FILES = 1 << 5,	 /* files that a client must get back whole (aider) */
	PART_CALLS = 1 << 6,	 /* an assistant that calls tools */
	PART_LATE = 1 << 7,	 /* a result behind its call's group */
	/* What was done. */
	PART_OUT = 1 << 8,     /* out[] stands instead of the text */
	PART_DROPPED = 1 << 9, /* the message is left out */
	PART_BARE = 1 << 10,   /* its pictures are left out */
	PART_HOLDER = 1 << 11, /* out[] is the digest */
	PART_ORPHAN = 1 << 12, /* its call is gone: it stands as a user message */
	PART_TRIED = 1 << 13,  /* L1 has looked at it */
};

#define PART_DONE (PART_OUT | PART_DROPPED | PART_BARE | PART_HOLDER | PART_ORPHAN)

#define LAYOUT_CUT_LEAST 320 /* bytes below which shortening a message is not worth a marker */

/* Tokens of a text by the start table, with what a template puts around a message. */
double layout_tokens(struct slice text, unsigned images);

/* --- read.c --- */

/* Allocates the arrays, chains and groups. 0 or -ENOMEM. */
int layout_read(struct layout *l);
/* Decodes and classifies message i. 0 or -ENOMEM. */
int layout_read_message(struct layout *l, size_t i);
/* Decodes what was taken from a state, too. 0 or -ENOMEM. */
int layout_need_texts(struct layout *l);
/* The corpus up to the end of group g. 0 or a negative errno. */
int layout_need_corpus(struct layout *l, uint32_t g);
/* Of what a message says and calls. */
uint64_t layout_message_hash(const struct chat_message *m);
/* The first message of group g (g == groups: count). */
size_t layout_group_begin(const struct layout *l, uint32_t g);

/* --- set.c --- */

/* May message i be shortened at group end g? */
bool layout_may_cut(const struct layout *l, size_t i);
void layout_set_level(struct layout *l, uint32_t from, uint32_t to, enum layout_level level);
/* Puts text in the place of message i's; keeps the source where that is not longer. */
void layout_set_out(struct layout *l, size_t i, struct buf *text, enum layout_level level);
/* Forgets what was done to message i. */
void layout_as_sent(struct layout *l, size_t i);
/* Appends the marker of a whole text that is left out. */
void layout_put_gap(struct slice text, struct buf *out);
/* A late result whose call has gone becomes words of the user. */
void layout_look_for_call(struct layout *l, size_t i);
/* Does it take of the room, or of what is fixed? */
bool layout_takes_room(const struct layout_message *m);
/* Sums up what the messages before `end` take. */
void layout_resize(struct layout *l, size_t end);

/* --- freeze.c --- */

/* The group end g is reached. 0 or a negative errno. */
int layout_freeze(struct layout *l, uint32_t g);
/* Raises groups [raised_to..to) to L1. */
int layout_raise(struct layout *l, uint32_t to, uint32_t g);
/* Raises the oldest of L1 (or all of it) to L2 and makes the digest again. */
int layout_merge(struct layout *l, uint32_t g, bool all, double share);
/* Replaces the texts of the messages at[0..n) by selected lines, budget bytes in all. */
int layout_cut(
	struct layout *l, const uint32_t *at, size_t n, size_t budget, enum layout_level level);

/* --- digest.c --- */

/* Makes groups [1..to) one digest of at most share of the room, at group end `at`. */
int layout_digest(struct layout *l, uint32_t to, uint32_t at, double share);

/* --- digest_notes.c --- */

/* Appends the notes that a digest of groups [1..to) has at group end g, at most budget bytes. 0 or
 * -ENOMEM. */
int layout_digest_notes(struct layout *l, uint32_t to, uint32_t g, size_t budget, struct slice mark,
	struct buf *out);

/* --- press.c --- */

/* What is left when the prompt does not fit at group end g. */
int layout_press(struct layout *l, uint32_t g);
/* A one-shot prompt's longest text is cut for its question. */
int layout_single(struct layout *l);

/* --- edits.c --- */
int layout_edit(struct layout *l);
/* The texts so far that stay: the agent's, short ones of a person, and what stands instead of
 * others. free() it; NULL when memory is out. */
struct slice *layout_standing(const struct layout *l, size_t *count);

#endif
