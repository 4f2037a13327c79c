/*
 * Reads HTTP/1.1 replies as they arrive, in pieces of any size: status, framing (Content-Length,
 * chunked, until the connection closes), and of the body only what a benchmark counts. Trusts its
 * peer no further than memory safety: what is no HTTP is an error, nothing is stored but one line.
 */
#ifndef BENCH_REPLY_H
#define BENCH_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLY_LINE_MAX 1024 /* bytes of a header or chunk-size line that are looked at */

enum reply_state {
	REPLY_STATUS,
	REPLY_HEADERS,
	REPLY_BODY, /* length, or until the end of the connection */
	REPLY_CHUNK_SIZE,
	REPLY_CHUNK_DATA,
	REPLY_CHUNK_END,
	REPLY_TRAILERS,
	REPLY_DONE,
};

struct reply {
	enum reply_state state;
	int status;
	bool chunked, until_close, closes;
	uint64_t left;	/* bytes of the body or of the chunk */
	uint64_t bytes; /* of the body, framing excluded */
	uint64_t lines; /* line feeds in the body: one a token in NDJSON, two in SSE */
	size_t line_len;
	char line[REPLY_LINE_MAX];
};

void reply_init(struct reply *r);

/* Takes n bytes. Returns how many belonged to this reply (less than n once it is done),
 * or -EPROTO. */
long reply_feed(struct reply *r, const char *data, size_t n);

/* The connection has ended. 0 if that ends the reply properly, or -EPROTO. */
int reply_eof(struct reply *r);

#endif
