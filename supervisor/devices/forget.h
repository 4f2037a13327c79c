/*
 * Streams that a device's backend keeps and nobody wants any more (TRAIT_REPLAYS): a worker ends
 * those of its own jobs, and is told here of those that dead workers have left. What a worker was
 * told shortly before its death is told to the next one, too: to end a stream twice does no harm.
 */
#ifndef TANDEM_FORGET_H
#define TANDEM_FORGET_H

#include "proto/proto.h"

#define FORGET_MAX 64	      /* of a device; the oldest makes room: its stream ends by itself */
#define FORGET_KEEP_MS 300000 /* as long as llama-server keeps a whole stream */

struct device;
struct worker;

struct forget_list {
	struct {
		char conversation[PROTO_CONVERSATION_BYTES + 1];
		uint64_t told; /* generation of the worker that knows; 0: none does */
		uint64_t at_ms;
	} of[FORGET_MAX];
	unsigned next;
};

/* told: generation of the worker that knows it already; 0: none. An empty name: nothing. */
void forget_stream(struct device *d, struct slice conversation, uint64_t told);
/* The device's current worker is ready: it hears what it does not know. */
void forget_tell(struct device *d);

#endif
