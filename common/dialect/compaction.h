/*
 * Compaction as Anthropic's API has it: a block that stands for the conversation before it
 * (docs/anthropic.md#compaction).
 *
 * A block's content is a text that people, and models elsewhere, can read; here it becomes the messages
 * again that it was made of, with their roles, calls and results, so that nothing is lost by the detour
 * but what the layout had left out, and what follows goes on from the same bytes each time. Who made a block
 * is its caller's to check (the signature is opaque here). Pure; linear in the body; any thread.
 */
#ifndef TANDEM_DIALECT_COMPACTION_H
#define TANDEM_DIALECT_COMPACTION_H

#include "common/dialect/request.h"

/* In a body that compaction_put() wrote: the block, for the answer's writer. */
#define COMPACTION_MEMBER "tandem_compaction"
#define COMPACTION_TRIGGER 150000 /* tokens, where the request names none */

/* Why a request is refused, as that API's errors name it. */
#define COMPACTION_SIGNATURE_INVALID "compaction_signature_invalid"
#define COMPACTION_CONTENT_MISMATCH "compaction_content_mismatch"
#define COMPACTION_MISPLACED "compaction_block_misplaced"
#define COMPACTION_NOTHING "compaction_nothing_to_summarize"
#define COMPACTION_INCOMPLETE "compaction_incomplete_turn"

struct compaction_wish {
	bool alone;	 /* "compaction": the block is the whole answer */
	bool edit;	 /* "context_management": where the prompt has so many tokens, ... */
	int64_t trigger; /* ... this many, ... */
	bool pause;	 /* ... and then the block is the whole answer, too */
};

/* What the request wishes; nothing where its dialect has no compaction. 0, or -EINVAL with *error, and *code
 * where that has a name (else NULL). */
int compaction_wished(const struct chat_request *r, struct compaction_wish *out,
	struct dialect_error *error, const char **code);

/* A block with content in the request: the last one. */
struct compaction_found {
	struct json_value content, signature; /* strings; the signature may be absent */
	struct json_value message;	      /* that it stands in */
	struct json_iter behind;	      /* the blocks behind it there */
	struct json_iter next;		      /* the messages behind that one */
};

/* True: there is one. -EINVAL in *rc where the request is wrong about it. */
bool compaction_find(const struct chat_request *r, struct compaction_found *out, int *rc,
	struct dialect_error *error, const char **code);

/* Appends the body with the messages that the block stands for in the place of all before it. text: its
 * content, decoded. 0 or the buf's error. */
int compaction_apply(const struct chat_request *r, const struct compaction_found *f,
	struct slice text, struct buf *out);

/* Appends the messages of r, but for its system prompt, as a block's content. 0 or the buf's error. */
int compaction_text(const struct chat_request *r, struct buf *out);

/* Appends the body with the messages that the text stands for in the place of its own, and with the block for
 * the writer. 0 or the buf's error. */
int compaction_put(
	const struct chat_request *r, struct slice text, struct slice signature, struct buf *out);

/* Appends an error's body that names its cause. */
int compaction_error(
	enum dialect d, int status, struct slice message, const char *code, struct buf *out);

/* --- compaction_text.c --- */

/* Messages that are being written: blocks go into the one that is open while the role is the same. */
struct compaction_messages {
	struct buf *out;
	char role[12]; /* of the one that is open; "": none */
	bool some;     /* one has been written */
	bool blocks;   /* ... in the one that is open */
};

/* A block for that role follows: its JSON is the caller's to append. */
void compaction_block(struct compaction_messages *m, const char *role);
void compaction_close(struct compaction_messages *m);
/* The messages of a text; the last one stays open. */
void compaction_expand(struct compaction_messages *m, struct slice text);

#endif
