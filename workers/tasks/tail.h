/*
 * The last lines of a backend's stderr: a ring of fixed size, so that a chatty backend costs
 * nothing.
 */
#ifndef TANDEM_WORKERS_TAIL_H
#define TANDEM_WORKERS_TAIL_H

#include "common/base/buf.h"

#define TAIL_LINES 20
#define TAIL_LINE_BYTES 512 /* of each line; the rest is dropped */

struct tail {
	struct {
		char text[TAIL_LINE_BYTES];
		size_t n;
	} lines[TAIL_LINES];
	size_t count;		    /* lines ever completed */
	char open[TAIL_LINE_BYTES]; /* the line that has not ended yet */
	size_t open_n;
};

/*
 * Takes bytes; calls line (may be NULL) for each completed one, cut to TAIL_LINE_BYTES. Bytes that
 * are no UTF-8 and control characters become '?'.
 */
void tail_feed(
	struct tail *t, struct slice bytes, void (*line)(void *ctx, struct slice text), void *ctx);

/* The output has ended: what stands without a newline is a line too. */
void tail_end(struct tail *t, void (*line)(void *ctx, struct slice text), void *ctx);

/* Appends the newest lines, oldest first, each after a newline, as far as max_bytes reach. */
void tail_write(const struct tail *t, size_t max_bytes, struct buf *out);

#endif
