/*
 * Making a block that stands for the conversation (common/dialect/compaction.h). The request
 * owns the state. Loop thread only; nothing blocks.
 */
#ifndef TANDEM_CHAT_COMPACT_H
#define TANDEM_CHAT_COMPACT_H

#include "supervisor/requests/compact_make.h"

struct chat;

struct chat_compact {
	struct compact_want want; /* of the prompt before */
	uint64_t block;		  /* a hash of the block that the body came with or got; 0: none */
	const char *code;	  /* of an error, static; NULL: it has none */
	uint64_t after;		  /* tokens with the block in its place */
	size_t messages;	  /* of the conversation before */
	bool keep_key;		  /* the first block of all: its key is written with it */
	bool begun;		  /* it is being made, or has been */
	int result;		  /* ... 0: the body is the short conversation with the block */
};

/* A block is wanted: it is made, or the request is over. False: it goes on. */
bool chat_compact(struct chat *c);

#endif
