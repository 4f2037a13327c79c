/*
 * Compaction as Anthropic's and OpenAI's APIs have it: a block that stands for the conversation before it
 * (docs/anthropic.md#compaction, docs/responses.md#compaction).
 *
 * A block's content is a text that people, and models elsewhere, can read; here it becomes the messages
 * again that it was made of, with their roles, calls and results, so that nothing is lost by the detour
 * but what the layout had left out, and what follows goes on from the same bytes each time. The text is the same
 * for all dialects; what is theirs (what a wish is, where a block stands) is a row of each (compaction_form.h). Who
 * made a block is its caller's to check (the signature is opaque here). Pure; linear in the body; any thread.
 */
#ifndef TANDEM_DIALECT_COMPACTION_H
#define TANDEM_DIALECT_COMPACTION_H

#include "common/dialect/request.h"

/* In a body that compaction_put() wrote: the block, for the answer's writer. */
#define COMPACTION_MEMBER "tandem_compaction"
#define COMPACTION_TRIGGER 150000 /* tokens, where neither the request nor the window names any */

/* Why a request is refused, as Anthropic's errors name it. */
#define COMPACTION_SIGNATURE_INVALID "compaction_signature_invalid"
#define COMPACTION_CONTENT_MISMATCH "compaction_content_mismatch"
#define COMPACTION_MISPLACED "compaction_block_misplaced"
#define COMPACTION_NOTHING "compaction_nothing_to_summarize"
#define COMPACTION_INCOMPLETE "compaction_incomplete_turn"
/* ... and as OpenAI's do. */
#define COMPACTION_CONTENT_INVALID "invalid_encrypted_content"

struct compaction_wish {
	bool alone;	 /* the block is the whole answer */
	bool edit;	 /* where the prompt has so many tokens, ... */
	int64_t trigger; /* ... this many (0: most of the window), ... */
	bool pause;	 /* ... and then the block is the whole answer, too */
};

/* What the request wishes; nothing where its dialect has no compaction. 0, or -EINVAL with *error, and *code
 * where that has a name (else NULL). */
int compaction_wished(const struct chat_request *r, struct compaction_wish *out,
	struct dialect_error *error, const char **code);

/* A block with content in the request: the last one. */
struct compaction_found {
	struct json_value content;   /* a string */
	struct json_value signature; /* a string, or absent; some have it in the content */
	/* Where it stands. Anthropic: in this message, whose other blocks and which messages are behind it. */
	struct json_value message;
	struct json_iter behind, next;
	size_t at; /* OpenAI: the message of the view that it is */
};

/* True: there is one. -EINVAL in *rc where the request is wrong about it. */
bool compaction_find(const struct chat_request *r, struct compaction_found *out, int *rc,
	struct dialect_error *error, const char **code);

/* Decodes the block into `content`; *text, a part of it, is what was signed. 0 or a buf's error. */
int compaction_open(const struct chat_request *r, const struct compaction_found *f,
	struct buf *content, struct slice *text, struct buf *signature);

/* The words for a block that is not ours, or not as we wrote it. Returns -EINVAL. */
int compaction_disown(enum dialect d, bool altered, struct dialect_error *error, const char **code);

/* Appends the body with the messages that the block stands for in the place of all before it. text: from
 * compaction_open(). 0 or the buf's error. */
int compaction_apply(const struct chat_request *r, const struct compaction_found *f,
	struct slice text, struct buf *out);

/* Appends the messages of r, but for its system prompt, as a block's content. whole: what r was made of; the text
 * then says which messages that clients send once more it stands for, where their dialect needs that; NULL: it does
 * not. 0 or the buf's error. */
int compaction_text(
	const struct chat_request *r, const struct chat_request *whole, struct buf *out);

/* Appends the body with the messages that the text stands for in the place of its own, and with the block for
 * the writer. 0 or the buf's error. */
int compaction_put(
	const struct chat_request *r, struct slice text, struct slice signature, struct buf *out);

/* Appends an error's body that names its cause. */
int compaction_error(
	enum dialect d, int status, struct slice message, const char *code, struct buf *out);

#endif
