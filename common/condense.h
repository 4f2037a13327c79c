/*
 * Condensing one chat request: which parts may shrink, the verbatim selection, the chunks for a
 * small device's notes, and the rewritten body. Joins dialect/ (views and rewriting) with text/
 * (selection). Pure and self-contained: safe on libuv's thread pool; every result is owned by
 * struct condense. Nothing blocks, but the time is linear in the body: about 1 ms per 10K tokens.
 *
 * What may shrink: messages older than the newest CONDENSE_KEEP_GROUPS groups, except system
 * messages and the last human message; and, where one message makes most of the prompt, that
 * message, whose first and last lines stay verbatim. Each gap leaves a visible marker with its
 * size.
 */
#ifndef TANDEM_CONDENSE_H
#define TANDEM_CONDENSE_H

#include "common/dialect/request.h"
#include "common/text/chunk.h"
#include "common/text/select.h"
#include "common/text/text.h"

#define CONDENSE_KEEP_GROUPS 2
#define CONDENSE_MIN_BYTES 1024 /* less than that to shrink is not worth a rewrite */

enum condense_result {
	CONDENSE_OK,
	CONDENSE_NOTHING, /* there is nothing worth shrinking */
	CONDENSE_NO_ROOM, /* even the parts that must stay are larger than room_bytes */
	CONDENSE_FAILED,  /* memory, or verification of the forced lines failed */
};

struct condense_options {
	double keep_ratio;  /* share of the shrinkable bytes to keep */
	size_t room_bytes;  /* the whole rewritten prompt's text; 0: unbounded */
	size_t chunk_bytes; /* of source text for one notes job; 0: no notes are wanted */
	size_t max_chunks;
	size_t notes_bytes; /* most that the notes of one chunk may take in the prompt */
	bool must_shrink;   /* the original does not fit: large messages of the newest groups may be
			       cut as well */
};

/* A piece of source text for one notes job. */
struct condense_chunk {
	struct buf text; /* with turn headers */
	size_t owner;	 /* the message that is cut by itself, or CONDENSE_HISTORY */
};

#define CONDENSE_HISTORY ((size_t)-1)

struct condense {
	const struct chat_request *request;
	struct condense_options options;
	struct buf *texts;	       /* decoded text of each message */
	struct text_message *messages; /* over texts */
	struct buf *single; /* replacement text of each message that is cut by itself; n == 0: it is
			       not */
	size_t count;	    /* of the three arrays */
	struct select_result history; /* of the old messages */
	size_t history_bytes;	      /* 0: there is no old part to shrink */
	struct condense_chunk *chunks;
	size_t chunk_count;
	/* What came of it. Bytes of text. */
	size_t source_bytes; /* that could shrink */
	size_t kept_bytes;   /* of these, kept */
	size_t fixed_bytes;  /* that stay as they are */
	size_t omitted_lines;
};

/* Decodes, groups, selects and cuts chunks. The request must outlive the condense. Always
 * condense_fini() afterwards. */
enum condense_result condense_prepare(
	struct condense *c, const struct chat_request *r, const struct condense_options *o);

size_t condense_chunks(const struct condense *c);
struct slice condense_chunk(const struct condense *c, size_t i);

/*
 * Writes the rewritten body: selection plus notes[i] of each chunk (empty slices: none).
 * set_num_ctx as in chat_request_rewrite(). CONDENSE_OK, or CONDENSE_FAILED (then the original must
 * be sent).
 */
enum condense_result condense_assemble(
	const struct condense *c, const struct slice *notes, int64_t set_num_ctx, struct buf *body);

void condense_fini(struct condense *c);

#endif
