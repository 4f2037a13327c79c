/*
 * Backends that outlive their workers.
 *
 * - The lifeline: one pipe of the whole tandemd family. Only tandemds hold its write end; workers
 *   and the guards of backends (workers/backend/guard.h) hold the read end, whose EOF ends the backends.
 * - What is known of each device's backend (pid, start time, URL, a hash of what was run) stands in
 *   device.warm and in RUNDIR/backend-DEVICE.state. The next worker of the device gets it with ACK
 *   and adopts it; a backend that nobody will use any more is ended here: TERM, KILL after a grace.
 * - tandemd is the subreaper: orphaned backends and guards become its children, and are reaped
 *   without touching those of libuv.
 * - After a crash of tandemd the files tell whose end is waited for before a device starts; after
 *   an upgrade they tell what is adopted.
 *
 * The device's file belongs to the tandemd in charge: a successor writes none before
 * adopt_take_over(), a retiring one (devices.keep_backends) none any more. Loop thread only;
 * small local files are read and written, nothing else blocks.
 */
#ifndef TANDEM_ADOPT_H
#define TANDEM_ADOPT_H

#include "common/base/buf.h"
#include "common/config/config.h"

#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

struct devices;
struct device;
struct worker;
struct proto_ack;

#define ADOPT_URL_BYTES 256
#define ADOPT_FILE_BYTES 1024
#define ADOPT_BOOT_BYTES 64
/* From TERM to KILL: the guard's own grace and some more; then to giving up (D state). */
#define ADOPT_KILL_MS 6000
#define ADOPT_GONE_MS 5000
#define ADOPT_LOOK_MS 50

struct adopt_backend {
	int64_t pid; /* 0: none */
	uint64_t start;
	uint64_t hash; /* of what was run */
	char url[ADOPT_URL_BYTES];
};

struct adopt_ending;
TAILQ_HEAD(adopt_endings, adopt_ending);

struct adopt {
	int write_fd, read_fd; /* the lifeline */
	bool inherited;	       /* from the tandemd before us */
	bool provisional;      /* that one is still in charge */
	char boot_id[ADOPT_BOOT_BYTES];
	uv_signal_t child;
	uv_timer_t reap, look;
	struct adopt_endings endings;
};

/*
 * Opens the lifeline (or takes over what a predecessor handed down; -1, -1: none), becomes the
 * subreaper, reads the files of a former run. Before any device is created. 0 or -errno.
 */
int adopt_start(struct devices *s, int write_fd, int read_fd);
/* Closes all of it; the handles close with the loop's last turns. */
void adopt_stop(struct devices *s);
/* We are in charge from now on: the files say what our devices use. */
void adopt_take_over(struct devices *s);
/* No backend is waited for to end. */
bool adopt_quiet(const struct devices *s);

/* A new device: what a predecessor's file says of it. */
void adopt_device_created(struct device *d);
/* What its next worker may adopt. */
void adopt_fill(struct worker *w, struct proto_ack *a);
/* w is the device's current worker, or has told a new state. */
void adopt_learned(struct worker *w);
/* The process of w is gone; asked: it was told to end. */
void adopt_worker_gone(struct worker *w, bool asked);
/* Ends the device's backend when nobody uses it nor will. */
void adopt_settle(struct device *d);
/* Ends it though a next worker could adopt it. */
void adopt_end(struct device *d);
/* True when no former backend of the device still holds its GPU. */
bool adopt_may_spawn(struct device *d);
/* What a worker that we end leaves running is still somebody's. */
bool adopt_kept(const struct worker *w);

/* --- pure, for tests --- */

/* Never 0. */
uint64_t adopt_hash(const struct config_device *conf);
void adopt_print(const struct adopt_backend *b, const char *boot_id, struct buf *out);
/* False: not such a text, or of another boot of the machine. */
bool adopt_parse(struct slice text, const char *boot_id, struct adopt_backend *out);

#endif
