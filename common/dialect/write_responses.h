/*
 * Between write_responses.c (the response) and write_responses_items.c (what is in it). Nobody else
 * includes this.
 *
 * All append what a stream's client gets to out, and nothing where the answer is one object; the
 * items that are closed stand in w->output.
 */
#ifndef TANDEM_DIALECT_WRITE_RESPONSES_H
#define TANDEM_DIALECT_WRITE_RESPONSES_H

#include "common/dialect/writer.h"

/* An event up to its members, and its end. */
void responses_event(struct answer_writer *w, const char *type, struct buf *out);
void responses_event_end(struct buf *out);

/* The compaction item, which the request brings; as an element. */
void responses_read_compaction(struct answer_writer *w, const struct chat_request *r);
void responses_put_compaction(const struct answer_writer *w, struct buf *out);
/* The counts, as a member's value. */
void responses_put_usage(
	const struct answer_writer *w, const struct answer_usage *usage, struct buf *out);

/* What is collected of thinking and text, which is taken. */
void responses_take_thinking(struct answer_writer *w, struct buf *out);
void responses_take_text(struct answer_writer *w, struct buf *out);
/* ANSWER_TOOL_*. */
void responses_take_call(struct answer_writer *w, const struct answer_event *e, struct buf *out);
/* The open item, if one is. */
void responses_close_item(struct answer_writer *w, const char *status, struct buf *out);

/* The first item is a text that goes on behind this one, of which the client knows. */
void responses_reopen_text(struct answer_writer *w, struct slice text);

#endif
