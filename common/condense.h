/*
 * Condensing one chat request: which parts may shrink, the verbatim selection, the chunks for a small device's notes, and the
 * rewritten body. Joins dialect/ (views and rewriting) with text/ (selection). Pure and self-contained: safe on libuv's thread pool; every result is
 * owned by struct condense. Nothing blocks, but the time is linear in the body: about 1 ms per 10K tokens.
 *
 * What may shrink: messages older than the newest CONDENSE_KEEP_GROUPS groups, except system messages and the last human message; and, where
 * one message makes most of the prompt, that message, whose first and last lines stay verbatim. Each gap leaves a visible marker with its size.
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
	CONDENSE_NOTHING,   /* there is nothing worth shrinking */
	CONDENSE_NO_ROOM,   /* even the parts that must stay are larger than room_bytes */
	CONDENSE_FAILED,    /* memory, or verification of the forced lines failed */
};

struct condense_options {
	double keep_ratio;    /* share of the shrinkable bytes to keep */
	size_t room_bytes;    /* the whole rewritten prompt's text; 0: unbounded */
	size_t chunk_bytes;   /* of source text for one notes job; 0: no notes are wanted */
	size_t max_chunks;
	size_t notes_bytes;   /* most that the notes of one chunk may take in the prompt */
	bool shrink_live;     /* must shrink: large tool results of the newest groups may be cut as well */
};

struct condense_chunk {
	struct slice text; /* with turn headers; owned by the condense */
};

struct condense {
	const struct chat_request *request;
	struct condense_options options;
	struct buf *texts;            /* decoded text of each message */
	struct text_message *messages;
	size_t count;
	struct select_result history; /* of the old messages; count 0 when there are none */
	struct buf *single;           /* replacement text of each message that is cut by itself; empty: not cut */
	size_t notes_at;              /* message that carries the notes */
	struct buf *chunk_texts;
	size_t chunk_count;
	size_t source_bytes, kept_bytes, fixed_bytes;
	size_t omitted_lines;
};

/* Decodes, groups, selects and cuts chunks. The request must outlive the condense. Always condense_fini() afterwards. */
enum condense_result condense_prepare(struct condense *c, const struct chat_request *r, const struct condense_options *o);

size_t condense_chunks(const struct condense *c);
struct slice condense_chunk(const struct condense *c, size_t i);

/*
 * Writes the rewritten body: selection plus notes[i] of each chunk (empty slices: none). set_num_ctx as in chat_request_rewrite().
 * CONDENSE_OK, or CONDENSE_FAILED (then the original must be sent).
 */
enum condense_result condense_assemble(const struct condense *c, const struct slice *notes, int64_t set_num_ctx, struct buf *body);

void condense_fini(struct condense *c);

#endif
