/*
 * Inside of the answer writers: writer.c collects what events bring, write_ollama.c and
 * write_openai.c give it shape.
 *
 * Private to common/dialect/. A stream flushes after each event, stream:false once at the end: one
 * shape serves both.
 */
#ifndef TANDEM_DIALECT_WRITER_H
#define TANDEM_DIALECT_WRITER_H

#include "common/dialect/answer.h"
#include "common/dialect/pieces.h"

#include <time.h>

struct answer_writer {
	enum dialect dialect;
	bool stream;
	bool include_usage;
	size_t max_bytes;
	char *id;
	struct buf head; /* the members that open every object */

	struct timespec started; /* CLOCK_MONOTONIC */
	time_t second; /* of the wall clock, whose text is kept: a stream writes many in one second
			*/
	char second_text[32];

	/* Collected since the last flush, escaped for use between quotes or brackets. */
	struct buf content, thinking, calls, logprobs;
	struct buf call_id, call_name, arguments; /* the tool call that is open; plain text */
	struct buf scratch;
	bool role_sent;
	bool had_calls;
};

/* Builds head. */
int writer_ollama_init(struct answer_writer *w, struct slice model);
int writer_openai_init(struct answer_writer *w, struct slice model);

/* The members that head opens every event with, and a head made of another stream's. */
struct slice writer_openai_identity(const struct answer_writer *w);
int writer_openai_resume(struct answer_writer *w, struct slice identity);

/* Takes ANSWER_TOOL_*; true when something is to be flushed in a stream. */
bool writer_ollama_tool(struct answer_writer *w, const struct answer_event *event);
bool writer_openai_tool(struct answer_writer *w, const struct answer_event *event);

/* Writes what is collected as one chunk; end: the event that ends the answer, or NULL. */
void writer_ollama_flush(struct answer_writer *w, const struct answer_event *end, struct buf *out);
void writer_openai_flush(struct answer_writer *w, const struct answer_event *end, struct buf *out);

/* Appends the id of a call as a JSON string: the backend's own, or one made up for this answer and
 * index. */
void writer_put_call_id(
	const struct answer_writer *w, struct slice id, unsigned index, struct buf *out);

#endif
