/*
 * The events socket: PUB (pub.h) at RUNDIR/events.ipc. Every step that the log tells of at "info"
 * or above, whatever log.level is, and some that are too small for it (request_begin), as one JSON
 * object each:
 *
 *   {"seq":7,"time":"2026-01-02T03:04:05.678Z","level":"info","event":"job_start","req":"...",...}
 *
 * The further members are the log line's. What a worker logs is among them as "worker.NAME", with
 * "proc", "pid" and "device" of its own. seq counts every event of this tandemd. A subscriber that
 * reads too slowly gets {"time":...,"level":"warn","event":"lost","count":N} in the place of N
 * events; limits.event_bytes bounds what is kept for it. Prompt text is in none.
 */
#ifndef TANDEM_EVENTS_H
#define TANDEM_EVENTS_H

#include "common/base/buf.h"

#include <stdint.h>
#include <uv.h>

struct events;

struct events_limits {
	size_t queue_bytes;  /* limits.event_bytes */
	size_t recent_bytes; /* limits.recent_event_bytes */
};

/* Listens on path, which must not exist, and becomes the log's sink. 0 or -errno. */
int events_start(
	uv_loop_t *loop, const char *path, const struct events_limits *l, struct events **out);
/* They are others. */
void events_limit(struct events *e, const struct events_limits *l);
/* Appends the newest events as elements of a JSON array: of one request, or all (NULL). */
void events_recent(const struct events *e, const char *request, struct buf *out);
/* No events any more; e is freed. */
void events_stop(struct events *e);

/* One more listener, in this process. wanted: somebody is there to hear; NULL text asks for that alone. */
typedef bool events_ear_fn(void *ctx, const struct slice *event);
void events_hear(struct events *e, events_ear_fn *ear, void *ctx);

struct events_counts {
	uint64_t events, lost; /* lost: by slow subscribers, all together */
	unsigned subscribers;
};
struct events_counts events_counts(const struct events *e);

#endif
