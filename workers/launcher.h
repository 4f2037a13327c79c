/*
 * Starts, watches and stops the backend that this worker owns.
 *
 * The command runs in its own session and process group, pinned to its device through the variables
 * of every GPU runtime, on a free port of 127.0.0.1. It is run by `tandem-worker --exec` (guard.h),
 * so it cannot outlive the worker. Its stdout and stderr come through one pipe: each line goes to
 * the log at debug level, the last ones are kept (tail.h) to be shown when it fails. A port found
 * free may be taken before the backend binds it: a backend that dies saying so is started again on
 * another. Loop thread only; nothing blocks but the spawn itself.
 */
#ifndef TANDEM_WORKERS_LAUNCHER_H
#define TANDEM_WORKERS_LAUNCHER_H

#include "workers/settings.h"

#include <uv.h>

#define LAUNCHER_STOP_MS 5000 /* between TERM and KILL */
#define LAUNCHER_BIND_TRIES 5

struct launcher;

/*
 * The backend has ended by itself; why is a sentence with its last lines. Not called after
 * launcher_stop().
 */
typedef void launcher_exited_fn(void *ctx, struct slice why);
typedef void launcher_stopped_fn(void *ctx);
/* It runs (again): at this URL from now on. */
typedef void launcher_running_fn(void *ctx, const char *url, int64_t pid);

/* s is borrowed. 0 or -ENOMEM. */
int launcher_create(uv_loop_t *loop, const struct settings *s, launcher_running_fn *running,
	launcher_exited_fn *exited, void *ctx, struct launcher **out);

/* 0 (running() has been called) or -errno with words in err. */
int launcher_start(struct launcher *l, struct buf *err);

/* TERM to the group, KILL after LAUNCHER_STOP_MS, then stopped(): at once when nothing runs. */
void launcher_stop(struct launcher *l, launcher_stopped_fn *stopped);

/* Appends the last lines of its output, each after a newline. */
void launcher_tail(const struct launcher *l, struct buf *out);

/* It is pinned to a device, but its output says that it found none. */
bool launcher_without_gpu(const struct launcher *l);

/* Whatever still runs gets KILL. NULL does nothing. */
void launcher_destroy(struct launcher *l);

#endif
