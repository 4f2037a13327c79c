/*
 * What a started backend prints: a file that outlives the worker, so that a backend never writes
 * into a broken pipe, and which the worker reads as it grows.
 *
 * The file is RUNDIR/backend-DEVICE.log, mode 0600, appended to by the backend itself. Over its cap
 * its last OUTLOG_KEEP_BYTES are copied to ".1" and it is cut to nothing. Where no file can be had
 * the text goes to memory of that cap. Looked at by a timer, often while a backend boots, seldom
 * later. Loop thread only; it reads and writes a local file, at most OUTLOG_TURN_BYTES a turn.
 */
#ifndef TANDEM_WORKERS_OUTLOG_H
#define TANDEM_WORKERS_OUTLOG_H

#include "workers/tasks/tail.h"

#include <stdint.h>
#include <uv.h>

#define OUTLOG_BOOT_MS 50
#define OUTLOG_CALM_MS 1000
#define OUTLOG_TURN_BYTES 1048576
#define OUTLOG_KEEP_BYTES 65536 /* or the cap, where that is less */

typedef void outlog_line_fn(void *ctx, struct slice line);

struct outlog {
	int fd; /* read from and inherited by the backend; -1: not open */
	int64_t at, cap;
	char path[512]; /* "": memory */
	struct tail tail;
	outlog_line_fn *line;
	void *ctx;
};

/* run_dir may be NULL. What stands in the file already is only kept as last lines when resume is
 * set (an adopted backend), and is none of ours otherwise. 0 or -errno. */
int outlog_open(struct outlog *o, const char *run_dir, const char *device, int64_t cap, bool resume,
	outlog_line_fn *line, void *ctx);
/* Reads what is new, cuts the file when it is over its cap. */
void outlog_look(struct outlog *o);
/* The backend has ended: everything it wrote is read, a last line without a newline counts. */
void outlog_end(struct outlog *o);
void outlog_close(struct outlog *o);

#endif
