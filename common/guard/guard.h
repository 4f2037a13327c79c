/*
 * The guardian of the prefix: what a conversation's last prompt was, as hashes of its pieces, and what
 * of it is another one in the next request (docs/guardian.md).
 *
 * A backend computes again whatever stands behind the first byte that differs, so a change far in front
 * costs the whole prompt. Here such a change is found and named: which message, which byte, what kind.
 * A request that goes on where the last one ended, is sent again, goes back and on from there, or
 * is the client's own summary breaks nothing.
 *
 * A fingerprint holds hashes of messages and lines, never their text; only with GUARD_KEEP also the
 * bytes of short lines that look like a clock or a counter. It owns its arrays and borrows nothing.
 * Weights are code points of text with what a template puts around; bytes are of the text as it stands
 * in the client's JSON, escapes included. Pure; any thread; linear but for a sort of the messages.
 */
#ifndef TANDEM_GUARD_H
#define TANDEM_GUARD_H

#include "common/dialect/request.h"

enum guard_kind {
	GUARD_NEW,	 /* nothing like it was seen */
	GUARD_KEPT,	 /* the last prompt and more, or the same again */
	GUARD_BRANCHED,	 /* goes back, and on from there in another way */
	GUARD_COMPACTED, /* the client put a summary in the place of messages */
	/* What breaks a prefix. */
	GUARD_CLOCK,	      /* a line with a time or a date */
	GUARD_COUNTER,	      /* a line whose numbers count: tokens left and the like */
	GUARD_ATTRIBUTION,    /* Claude Code's line x-anthropic-billing-header */
	GUARD_TOOLS_ORDER,    /* the same tools in another order */
	GUARD_TOOLS_SPELLING, /* ... with other white space or another order of keys */
	GUARD_TOOLS,	      /* other tools */
	GUARD_EDITED,	      /* a message says something else, or one was put in */
	GUARD_DROPPED,	      /* messages are gone */
	GUARD_NUM_CTX,	      /* another window is asked for, which loads the model anew */
	GUARD_KINDS
};

#define GUARD_FIRST_BREAK GUARD_CLOCK

/* "new", "kept", "clock", "tools-order", ... */
const char *guard_kind_name(enum guard_kind kind);

struct guard_line {
	uint32_t exact,
		shape; /* hashes: of its bytes; of the same without numbers and names of days */
	uint32_t at, bytes;   /* in the message's text */
	uint32_t kept;	      /* where its bytes stand in guard_prompt.kept; GUARD_NOT_KEPT */
	enum guard_kind kind; /* GUARD_CLOCK, GUARD_COUNTER, or GUARD_NEW: neither */
};

#define GUARD_NOT_KEPT UINT32_MAX

struct guard_message {
	uint64_t hash;	/* of what it says, not of how the object is written */
	uint64_t chain; /* of all up to here */
	size_t line, lines;
	double weight;
	enum chat_role role;
	uint32_t call;	 /* a result's: hash of the call's id; 0: none */
	bool summarises; /* has words of a summary */
};

struct guard_prompt {
	struct guard_message *messages;
	size_t count;
	uint32_t *by_hash; /* places in messages, sorted by hash, then place */
	struct guard_line *lines;
	size_t line_count, line_room;
	/* Hashes of the tools: the array's bytes; the JSON that each of them is, in this order; in any
	 * order. 0: there are none. */
	uint64_t tools_bytes, tools_row, tools_set;
	double tools_weight;
	uint64_t attribution; /* hash of the line; 0: none. It is part of no message */
	bool left_out;	      /* ... nor of the body, any more */
	uint64_t first_human; /* hash of the first message of a user; 0: none */
	int64_t num_ctx;
	struct buf kept;
};

/* Bits. */
enum guard_option { GUARD_KEEP = 1 };

/* Lines of one prompt that are looked at; of messages behind them only the whole is known. */
#define GUARD_LINES_MAX 65536
#define GUARD_KEPT_LINE_BYTES 200 /* a longer line is no clock and no counter */

/* Can the request be watched: does it have messages? */
bool guard_can(const struct chat_request *r);
/* Fills *p, which is zero. key: a secret of the caller's, the same for all that is compared. 0 or
 * -ENOMEM (then it is empty). guard_prompt_fini() always. */
int guard_read(const struct chat_request *r, unsigned options, const uint64_t key[2],
	struct guard_prompt *p);
void guard_prompt_fini(struct guard_prompt *p);
/* What it takes in memory. */
size_t guard_prompt_bytes(const struct guard_prompt *p);
/* Does without lines: changes of a message are then named by the message alone. */
void guard_prompt_thin(struct guard_prompt *p);
/* Of all of it. */
double guard_weight(const struct guard_prompt *p);

#define GUARD_CHANGES 4 /* of one request: window, attribution, tools, and the first message */

struct guard_change {
	enum guard_kind kind;
	bool of_message;
	size_t message, byte; /* where; of the new request */
	double lost;	      /* weight of what was sent before and must be read again for it */
};

struct guard_verdict {
	enum guard_kind kind; /* of the whole: the first change's, or what is no break */
	bool back;	      /* GUARD_BRANCHED: is the beginning of a, and no more */
	struct guard_change change[GUARD_CHANGES]; /* breaks alone */
	size_t count;
};

/* b is a and more, or a again: twice the messages of a. Else 0. */
double guard_goes_on(const struct guard_prompt *a, const struct guard_prompt *b);
/* Messages of a that the new prompt has, though its beginning may be another, and 1 where the task is
 * the same; 0: they are not of one conversation. */
double guard_likeness(const struct guard_prompt *a, const struct guard_prompt *b);

/* What is another one in b, which comes after a in one conversation. 0 or -ENOMEM (GUARD_NEW then). */
int guard_compare(
	const struct guard_prompt *a, const struct guard_prompt *b, struct guard_verdict *v);

/* --- repairs --- */

struct guard_wish {
	const struct guard_prompt *before; /* what was sent last; not used after the call */
	struct slice tools;		   /* the array as it was sent then; empty: leave them */
	bool attribution;		   /* its line is left out */
	bool hold; /* clock and counter lines stay as they were; what the system prompt had of them
		      stands at the end of the newest message */
};

/*
 * Appends r's body with what is wished for, and nothing else, changed. p: guard_read() of r.
 * True: it is another one; false: there is nothing to mend, or memory is out (out is then as good
 * as empty).
 */
bool guard_repair(const struct chat_request *r, const struct guard_prompt *p,
	const struct guard_wish *w, struct buf *out);

#endif
