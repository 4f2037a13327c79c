/*
 * The frozen layout: what of a conversation the model is sent, so that it fits the window, loses
 * nothing that matters, and keeps its beginning byte for byte from one request to the next.
 *
 * In place: every message keeps its role, its place, its ids and its tool calls; only contents get
 * shorter. Nothing is raised while the prompt fits.
 *
 *   L0  as the client sent it
 *   L1  tool results and long pasted texts keep selected lines, pictures a marker
 *   L2  the oldest run of groups: one digest of selected source lines in the place of its first
 *       result; nothing else of the run stays but short words of a person
 *   CUT newest texts, cut only as far as the window makes it necessary
 *
 * A group is an assistant message with what follows it up to the next one. The rule walks the group
 * ends in order, and what it does at one depends only on what stands before it: so the same
 * messages always give the same bytes, and a conversation that grows keeps its prefix until it
 * freezes again. Never touched: system messages, tools, the first and the newest message of a
 * person, every short one, the newest two groups (until nothing older is left to give).
 *
 * The digest may hold notes of a small model as well. Which ones is decided when it is made: from
 * then on they belong to the options, with which the same conversation gets the same bytes.
 *
 * A pure function of the request, the options and nothing else: no clock, no model, no I/O. A state
 * of an earlier request of the conversation (state.h) saves time and changes no byte. Linear in the
 * text; safe on any thread. Sizes are bytes or tokens by the start table (tokens.h), so that what a
 * model teaches moves nothing.
 */
#ifndef TANDEM_LAYOUT_H
#define TANDEM_LAYOUT_H

#include "common/dialect/request.h"
#include "common/layout/noted.h"
#include "common/text/corpus.h"
#include "common/text/select.h"

enum layout_level { LAYOUT_FIXED, LAYOUT_L0, LAYOUT_L1, LAYOUT_L2, LAYOUT_CUT, LAYOUT_LEVELS };

/* "fixed", "L0", "L1", "L2", "cut" */
const char *layout_level_name(enum layout_level level);

enum layout_result {
	LAYOUT_AS_SENT, /* nothing is raised: the client's own bytes */
	LAYOUT_RAISED,
	LAYOUT_NO_ROOM, /* even with everything raised it does not fit */
	LAYOUT_FAILED,	/* memory */
};

/* Start from layout_defaults(). Shares are of the room: the window less what is fixed. */
struct layout_options {
	double window; /* tokens that the whole prompt may take; 0: no bound */
	double soft;   /* tokens that it had better take, where that is less; 0: the window. What is
			  old is raised for it, what is newest only for the window */
	double tools;  /* of these, the tools and the like */
	double high;   /* a freeze begins above; 1 */
	double low;    /* and raises to L1 until below; .65 */
	double merge;  /* if it is still above, the oldest go to L2; 1 */
	double early_low;    /* what a freeze that is made early raises to, digest included; .5 */
	double digest;	     /* most that the digest takes; .18 */
	double digest_most;  /* where there is room below `low` it may take this; .5 */
	double early_digest; /* what the digest of an early one may always take; .25 */
	double append; /* of what goes to a digest later, the share that is added to it; 0: it is
			  made anew each time; .2 */
	double l1;     /* of the bytes that L1 may shorten, kept; .2 */
	double reach;  /* the digest chooses from so many times its own size, newest first; 32 */
	double single; /* of a one-shot prompt's longest text, kept; 0: nothing is cut that fits */
	bool spare_whole; /* a text that is asked about as a whole is not cut while it fits; true */
	bool must_fit;	  /* cut what is newest, too, where all else is not enough; true */
	const uint64_t *forced; /* chains of group ends at which a freeze is made early; sorted */
	size_t forced_count;
	double notes; /* of the digest's bytes, most that notes take; .1 */
	/* A digest that is made at a group end which stands here takes its notes from there, */
	const struct layout_noted *noted;
	size_t noted_count;
	/* ... one that is made at the newest group end, and does not stand there, from these
	 * (packed: noted.h): they are decided on with it. */
	struct slice offered;
	struct select_options select; /* shares and tuning of every selection */
};

struct layout_options layout_defaults(void);

struct layout_message {
	enum layout_level level;
	uint32_t group;
	uint32_t flags;		    /* parts.h */
	size_t bytes_in, bytes_out; /* of text */
	double tokens_in, tokens_out;
	uint64_t chain;	    /* hash of all messages up to this one */
	const char *reason; /* static words: why it stands as it does */
};

struct layout_state;

struct layout {
	const struct chat_request *request;
	struct layout_options options;
	enum layout_result result;
	struct layout_message *messages;
	size_t count;
	uint32_t groups;
	double room, soft, size;      /* tokens */
	unsigned freezes;	      /* made while walking, early ones included */
	unsigned frozen_at;	      /* 1 + the group end of the newest one; 0: none */
	bool took_offered;	      /* the digest made at the newest end has notes of those
					 offered: to be remembered for the newest chain */
	size_t noted_bytes;	      /* of notes in the digest, when it was made by this call */
	double tokens_in, tokens_out; /* of the whole prompt, tools included */
	size_t bytes_in, bytes_out;   /* of text */
	size_t omitted_lines;
	struct chat_edit *edits; /* for chat_request_rewrite() */
	/* Inside. */
	struct buf *texts; /* decoded, as far as they were needed */
	struct text_message *text;
	struct buf *out; /* what stands instead of the text, where flags say so */
	uint32_t *owner; /* of a result: 1 + the message with its call; 0: unknown */
	uint32_t *open;	 /* of each group: calls without a result so far */
	struct corpus corpus;
	bool has_texts, has_corpus;
	uint32_t walked;				/* groups that are done */
	uint32_t raised_to;				/* groups below are L1 or L2 */
	uint32_t merged_to;				/* groups from 1 below are L2; 0: none */
	size_t first_human, newest_human, newest_files; /* count: none */
	bool spare_nobody; /* short words of a person go to the digest as well */
	uint32_t retry;	  /* the group end from which on it is tried again: the last try was vain */
	bool hopeless;	  /* it did not even fit the window */
	double aim;	  /* share of the room that the freeze under way raises to */
	bool out_of_turn; /* the newest end was tried before that: no state for others */
};

/*
 * Lays the request out. from (may be NULL) is a state that layout_state_find() gave for it.
 * result says what came of it; edits are filled for LAYOUT_RAISED. The request must outlive l.
 * layout_fini() afterwards, always.
 */
enum layout_result layout_make(struct layout *l, const struct chat_request *r,
	const struct layout_options *o, const struct layout_state *from);

void layout_fini(struct layout *l);

/* The groups below this one make up the next digest, as far as one is coming: when all that is old
 * is at L1 the prompt will soon be too large again. 0: none is near. */
uint32_t layout_digest_is_near(const struct layout *l);

/* Fills chains[i] with the hash of messages 0..i and groups[i] with the group of message i (either
 * may be NULL). Linear in the body; allocates nothing. Returns the number of groups. */
uint32_t layout_chains(const struct chat_request *r, uint64_t *chains, uint32_t *groups);

/* --- notes of a small model about what was left out --- */

struct layout_chunk {
	struct buf text;
	size_t owner; /* the message whose text its notes are put behind */
};

/* Cuts what was left out into chunks of about so many bytes. 0 or -ENOMEM. */
int layout_chunks(struct layout *l, size_t chunk_bytes, size_t max_chunks,
	struct layout_chunk **chunks, size_t *count);
void layout_chunks_free(struct layout_chunk *chunks, size_t count);

/* Puts notes[i] of each chunk (empty: none) behind its owner's text and fills edits anew; at most
 * notes_bytes of each, whole lines. 0 or -ENOMEM. */
int layout_add_notes(struct layout *l, const struct layout_chunk *chunks, size_t count,
	const struct slice *notes, size_t notes_bytes);

#endif
