/*
 * Inside of the answer writers: writer.c collects what events bring, the ops of a front dialect
 * (front.h) give it shape.
 *
 * Private to common/dialect/. A stream flushes after each event, stream:false once at the end: one
 * shape serves both.
 */
#ifndef TANDEM_DIALECT_WRITER_H
#define TANDEM_DIALECT_WRITER_H

#include "common/dialect/front.h"
#include "common/dialect/pieces.h"

#include <time.h>

struct answer_writer {
	const struct front_dialect *front;
	bool stream;
	bool include_usage;
	size_t max_bytes;
	char *id;
	struct buf head; /* the members that open every object */

	struct timespec started; /* CLOCK_MONOTONIC */
	time_t second;		 /* of the wall clock, whose text is kept: a stream writes many in
			   one second */
	char second_text[32];

	/* Collected since the last flush, escaped for use between quotes or brackets. */
	struct buf content, thinking, calls, logprobs;
	struct buf call_id, call_name, arguments; /* the tool call that is open; plain text */
	struct buf scratch;
	struct buf echo; /* of the request: escaped text before the first one; or members */
	/* The tool of the open call as its client has it; NONE: a function of that name. */
	struct json_value tool, tool_space;
	/* Of answers that repeat themselves at their end: the open block's text and logprobs,
	 * escaped; the blocks before it, as elements of a JSON array; the request's tools. */
	struct buf item, item_logprobs, output, tools;
	size_t text_at; /* code points of text before what is collected */
	bool role_sent;
	bool had_calls;
	/* Of answers that are rows of blocks: the one that is open (0: none), and its place. */
	int open;
	unsigned block;
	struct buf compaction; /* the block that the answer begins with (compaction.h): its members
				  content and signature, as JSON; empty: none */
	size_t signature_at;   /* in it */
	bool one_call;	       /* calls after the first are left out */
	int64_t prompt_tokens; /* of the request, estimated */
	uint64_t sequence;     /* events so far */
	size_t thought, said;  /* bytes of thinking, and of all else */
};

/* A dialect's shape of answers. */
struct writer_ops {
	int (*begin)(struct answer_writer *w, struct slice model); /* builds head */
	/* What the answer says of its own request. NULL: nothing. */
	int (*read)(struct answer_writer *w, const struct chat_request *r);
	/* Takes ANSWER_TOOL_*; true when something is to be flushed in a stream. */
	bool (*tool)(struct answer_writer *w, const struct answer_event *event);
	/* Writes what is collected as one chunk; end: the event that ends the answer, or NULL. */
	void (*flush)(struct answer_writer *w, const struct answer_event *end, struct buf *out);
	/* The members that head opens every event with. NULL: objects have nothing in common. */
	struct slice (*identity)(const struct answer_writer *w);
	/* Makes head of another stream's. NULL: a writer of the same id has the same. */
	int (*rename)(struct answer_writer *w, struct slice identity);
	/* The rest of what a writer knows at that place. NULL: nothing. */
	int (*resume)(struct answer_writer *w, const struct answer_begun *from);
	/* Ends a stream with ANSWER_ERROR. NULL: dialect_error_inband(). */
	void (*fail)(struct answer_writer *w, const struct answer_event *event, struct buf *out);
};

extern const struct writer_ops writer_ollama_chat, writer_ollama_generate;
extern const struct writer_ops writer_openai_chat;

/* What OpenAI's writers share: a head with this beginning of the id and name of the object, its
 * members, the counts. */
int writer_openai_head(
	struct answer_writer *w, struct slice model, const char *id_begin, const char *object);
/* stream_options. */
int writer_openai_read(struct answer_writer *w, const struct chat_request *r);
struct slice writer_openai_identity(const struct answer_writer *w);
int writer_openai_rename(struct answer_writer *w, struct slice identity);
void writer_openai_usage(const struct answer_usage *usage, struct buf *out);
/* Writes a choice as an event of a stream, the counts where they are wanted and the end mark, or the
 * whole object. */
void writer_openai_put(struct answer_writer *w, const struct answer_event *end,
	void (*choice)(struct answer_writer *w, const struct answer_event *end, struct buf *out),
	struct buf *out);

#endif
