/*
 * A program that runs beside the loop, and what it prints. It has nothing to read, its standard error goes nowhere, and of our
 * descriptors it gets none but the one that it prints to.
 *
 * It is told of once, when its process has ended and its output has: whoever starts the next one then never has two. What
 * it started itself may hold the output open; capture_kill() does not wait for that. Loop thread only; nothing blocks
 * (but the fork, as for a worker: spawn.h).
 */
#ifndef TANDEM_CAPTURE_H
#define TANDEM_CAPTURE_H

#include "common/base/buf.h"

#include <uv.h>

struct captured {
	bool too_large; /* it printed more than it may, and was killed; or memory was out for it */
	int status, signal; /* of its end; status counts where signal is 0 */
	struct slice said;  /* on its standard output; borrowed until the call returns */
};

struct capture;
typedef void capture_fn(void *ctx, const struct captured *what);

/* args[0] is the program, NULL the end. 0, or a negative libuv error: then nothing runs, and done is not called. *out is
 * its until done is called. */
int capture_start(uv_loop_t *loop, const char *const args[], size_t bytes_max, capture_fn *done,
	void *ctx, struct capture **out);
/* Ends it at once; done comes when its process is gone, which may be within this call. Again is nothing new. */
void capture_kill(struct capture *c);
/* The same, and nobody is told. NULL: nothing. */
void capture_drop(struct capture *c);

#endif
