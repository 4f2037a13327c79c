/*
 * Backends without a worker, and their ends.
 *
 * - The lifeline: one pipe of the whole tandemd family. Only tandemds hold its write end; workers
 *   and the guards of backends (workers/backend/guard.h) hold the read end, whose EOF ends the backends.
 * - tandemd is the subreaper: orphaned backends and guards become its children, and are reaped
 *   without touching those of libuv.
 * - A backend that nobody will use any more is ended here: TERM, KILL after a grace.
 *
 * Loop thread only; nothing blocks.
 */
#ifndef TANDEM_ORPHANS_H
#define TANDEM_ORPHANS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

struct devices;

/* From TERM to KILL: the guard's own grace and some more; then to giving up (D state). */
#define ORPHANS_KILL_MS 6000
#define ORPHANS_GONE_MS 5000
#define ORPHANS_LOOK_MS 50

struct orphans_ending;
TAILQ_HEAD(orphans_endings, orphans_ending);

struct orphans {
	int write_fd, read_fd; /* the lifeline */
	bool inherited;	       /* from the tandemd before us */
	uv_signal_t child;
	uv_timer_t reap, look;
	struct orphans_endings endings;
};

/*
 * Opens the lifeline (or takes over what a predecessor handed down; -1, -1: none), becomes the
 * subreaper. Before any device is created. 0 or -errno.
 */
int orphans_start(struct devices *s, int write_fd, int read_fd);
/* Closes all of it; the handles close with the loop's last turns. */
void orphans_stop(struct devices *s);

/* Ends a process that leads its group; again is nothing new. Its state file goes with it. */
void orphans_end(struct devices *s, const char *device, int64_t pid, uint64_t start);
/* One of this device is about to end: it may hold the GPU yet. */
bool orphans_ending(const struct devices *s, const char *device);
/* None is waited for. */
bool orphans_quiet(const struct devices *s);

#endif
