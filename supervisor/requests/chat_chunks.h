/*
 * Notes for the chunks that a layout leaves out: one job for each on the small device, and what is done where it does not
 * deliver (chat_condense.c takes what comes). The request owns them. Loop thread only; nothing blocks.
 */
#ifndef TANDEM_CHAT_CHUNKS_H
#define TANDEM_CHAT_CHUNKS_H

#include "common/base/trace_context.h"
#include "supervisor/devices/job.h"

struct chat;

/* Of one chunk. */
struct chat_note {
	struct chat *chat;
	size_t index;
	struct job *job; /* NULL when settled */
	bool on_main;	 /* second attempt */
	int step;	 /* of the request's record (steps.h) */
	char traceparent[TRACE_PARENT_BYTES];
	struct proto_header header; /* of its job; names traceparent */
	struct buf text;
	char unused[16]; /* why its notes are none; "" */
};

/* Asks for the notes of so many chunks; CHAT_SETTLED follows, or CHAT_ORIGINAL. */
void chat_chunks_start(struct chat *c, size_t chunks);
/* They took too long. */
void chat_chunks_late(struct chat *c);
/* Chunks that go without notes, for the reason that the client sees. */
void chat_chunks_tell_unused(struct chat *c);
/* Cancels the notes that are open and frees all of them. */
void chat_chunks_cancel(struct chat *c);

#endif
