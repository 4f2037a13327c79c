/*
 * Starts, adopts, watches and stops the backend that this worker owns.
 *
 * The command runs in its own session and process group, pinned to its device through the variables
 * of every GPU runtime, on a free port of 127.0.0.1. It is run by `tandem-worker --exec` (guard.h):
 * it outlives a worker that dies, and is then adopted by the next incarnation, but it never
 * outlives the whole family. Its stdout and stderr go to a file (outlog.h): each line goes to the
 * log at debug level, the last ones are kept to be shown when it fails. A port found free may be
 * taken before the backend binds it: a backend that dies saying so is started again on another.
 * Loop thread only; nothing blocks but the spawn itself.
 */
#ifndef TANDEM_WORKERS_LAUNCHER_H
#define TANDEM_WORKERS_LAUNCHER_H

#include "workers/settings.h"

#include <uv.h>

#define LAUNCHER_STOP_MS 5000 /* between TERM and KILL */
#define LAUNCHER_BIND_TRIES 5

struct backend_kind;
struct launcher;
struct serving;

struct launcher_events {
	/* It runs (again): at this URL from now on. start: proc.h. */
	void (*running)(void *ctx, const char *url, int64_t pid, uint64_t start);
	/* It has ended by itself; why is a sentence with its last lines. Not called after
	 * launcher_stop(). */
	void (*exited)(void *ctx, struct slice why);
};

struct launcher_options {
	const struct settings *settings; /* borrowed */
	const char *device;
	int lifeline_fd; /* of the family; -1: it ends with this process */
	const struct backend_kind *kind;
	const char *slots_dir; /* where a llama-server may save slots, NULL: nowhere; borrowed */
};

/* 0 or -errno. */
int launcher_create(uv_loop_t *loop, const struct launcher_options *o,
	const struct launcher_events *e, void *ctx, struct launcher **out);

/* 0 (running() has been called) or -errno with words in err. */
int launcher_start(struct launcher *l, struct buf *err);

/* Takes over a backend that an earlier worker started. 0 (running() has been called); -ESRCH: that
 * process is gone; -errno. */
int launcher_adopt(struct launcher *l, int64_t pid, uint64_t start, const char *url);
/* The one that runs has been adopted. */
bool launcher_adopted(const struct launcher *l);
/* Kills the one that runs and starts another: running() again, or exited(). */
void launcher_replace(struct launcher *l);

/* It is ready: its output may be looked at less often. */
void launcher_settled(struct launcher *l);

/* TERM to the group, KILL after LAUNCHER_STOP_MS, then stopped(): at once when nothing runs. */
void launcher_stop(struct launcher *l, void (*stopped)(void *ctx));
/* What runs stays, for the next worker. False: it cannot outlive us, so it has to be stopped. */
bool launcher_leave(struct launcher *l);

/* Appends the last lines of its output, each after a newline. */
void launcher_tail(const struct launcher *l, struct buf *out);

/* It is pinned to a device, but its output says that it found none. */
bool launcher_without_gpu(const struct launcher *l);
/* The share of its model that it said it put on a GPU, 0 to 1; < 0: unknown. */
double launcher_gpu_share(const struct launcher *l);

/* What it said of how it holds its model. */
const struct serving *launcher_serving(const struct launcher *l);

/* Whatever still runs, and was not left, gets KILL. NULL does nothing. */
void launcher_destroy(struct launcher *l);

#endif
