/*
 * A chat history as decoded text: the input of selection, chunking and notes.
 *
 * Everything in common/text is a pure function over borrowed bytes: no I/O, no globals, nothing
 * blocks on anything but the CPU, so any number of calls may run in parallel on a thread pool.
 * The bytes behind a text_message belong to the caller and outlive every result that points into
 * them. Sizes are bytes unless a name says otherwise.
 *
 * The algorithm is docs/condensing.md; the constants are measured (docs/eval.md).
 */
#ifndef TANDEM_TEXT_H
#define TANDEM_TEXT_H

#include "common/base/buf.h"

enum text_role { TEXT_SYSTEM, TEXT_USER, TEXT_ASSISTANT, TEXT_TOOL };

/* One message. Zero is a valid value for every field. */
struct text_message {
	enum text_role role;
	/* Content and, for an assistant, its tool calls rendered as lines after it. Valid UTF-8. */
	struct slice text;
	/* A tool result: what was called ("read_file src/a.c"); named in its header when known. */
	struct slice call;
	/* An assistant that calls tools: where in text the rendered calls begin (0: all
	 * is calls). */
	size_t calls_at;
	bool calls_tools;
	bool tool_result; /* role tool, or a user message that is a tool result in text form */
	bool machine;  /* a user message that a program wrote, such as the carrier of a picture */
	bool verbatim; /* stands as it is in the final prompt: never selected from,
			   only knowledge */
	unsigned
		group; /* an assistant that calls tools and all its results are one; from 0, in order */
};

/* Bytes of one message: whole lines, or pieces of at most TEXT_PIECE bytes of a long line. */
struct text_span {
	size_t message;
	size_t begin, end;
};

/* Longest piece of a line, bytes; only an identifier or character is kept whole across it. */
#define TEXT_PIECE 240

/* A person's message up to so many bytes is short: rules, corrections, answers. */
#define TEXT_HUMAN_SHORT 600

/* Does a user message look like a tool result in text form, as older Cline and its forks
 * send it? */
bool text_is_tool_result(struct slice text);

/*
 * Appends the line that names a message's speaker and a line end: "[tool]", with its call "[tool
 * read_file src/a.c]", with a mark that no text can know beforehand "[1f0c tool]".
 */
void text_header(const struct text_message *m, struct slice mark, bool call, struct buf *out);

/* The bytes text_header() would append. */
size_t text_header_size(const struct text_message *m, struct slice mark, bool call);

/* The bytes of m that selection may leave out: all that is not verbatim. */
size_t text_old_bytes(const struct text_message *m, size_t n);

#endif
