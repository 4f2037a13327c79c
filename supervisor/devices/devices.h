/*
 * The devices of this tandemd, with what all of them share. The wing's context: its modules take it or a device
 * (device.all), and nothing above.
 *
 * It owns the devices, those that a reload has removed until their last job has ended, the governor of windows, what
 * is kept over restarts, and the driver's figures. What it tells upwards goes through devices_events, given at its
 * creation. Loop thread only; nothing blocks.
 */
#ifndef TANDEM_DEVICES_H
#define TANDEM_DEVICES_H

#include "common/base/histogram.h"
#include "common/base/now.h"
#include "common/config/config.h"
#include "common/tokens.h"
#include "supervisor/devices/device.h"
#include "supervisor/devices/keep.h"
#include "supervisor/devices/orphans.h"
#include "supervisor/devices/statefile.h"
#include "supervisor/devices/totals.h"
#include "supervisor/devices/warm.h"

#include <uv.h>

/* A reload that would leave more behind is refused. */
#define DEVICES_REMOVED_MAX (4 * CONFIG_DEVICES_MAX)

struct devices_events {
	/* A device's state has changed, or what it says of itself. */
	void (*changed)(void *ctx);
	/* A worker or a backend is gone: the shutdown looks whether it can go on. */
	void (*idle)(void *ctx);
	/* This device's part of an operator's order has ended; why is for people. */
	void (*part_ended)(void *ctx, uint64_t operation, bool ok, const char *why);
	/* A worker has written its log (worker_flush()), or is gone. */
	void (*flushed)(void *ctx);
	/* Something is about to be made in the run folder. */
	void (*run_dir_used)(void *ctx);
	/* When the oldest of the clients' requests began: it may refer to devices that were removed since. UINT64_MAX:
	 * there is none. */
	uint64_t (*oldest_request_ms)(void *ctx);
};

/* How long jobs took, in ms, by enum proto_kind. */
#define TIMED_KINDS 4

struct job_times {
	struct histogram queue_wait[TIMED_KINDS], backend[TIMED_KINDS];
};

struct governor;
struct nvml;

struct devices {
	uv_loop_t *loop;
	const struct config *config;
	const char *run_dir;
	const char *worker_path; /* of tandem-worker */
	struct tokens *tokens;	 /* borrowed */
	const struct devices_events *events;
	void *ctx;
	const struct worker_events *worker_events;
	const struct worker_hands *worker_hands;

	struct device *of[CONFIG_DEVICES_MAX]; /* in the configuration's order */
	size_t count;
	struct device *removed[DEVICES_REMOVED_MAX]; /* still finish what they have */
	size_t removed_count;
	struct governor *governor; /* of Ollama's windows */
	struct keep *keep;	   /* what lasts over restarts; NULL: nothing does */
	struct nvml *nvml;
	struct orphans orphans;
	struct statefiles files;

	unsigned queued; /* client requests that wait for a slot, on all of them */
	uint64_t next_job;
	unsigned next_device;
	struct totals past; /* of devices that are gone */
	struct job_times times;
	bool stopping;	    /* no worker is wanted any more */
	bool keep_backends; /* a successor has them: our workers leave them running */
};

/* s is all zero but for what its caller has to lend: config, run_dir, worker_path, tokens. */
void devices_init(
	struct devices *s, uv_loop_t *loop, const struct devices_events *events, void *ctx);
/* What is kept (in state_dir, at most state_bytes), the governor, the driver's figures. 0 or -errno. */
int devices_open(struct devices *s, const char *state_dir, size_t state_bytes);
/* A device for each one of the configuration, with its worker. 0, or -ENOMEM with words in err. */
int devices_start(struct devices *s, struct buf *err);
/* Destroys them; their processes are gone. */
void devices_stop(struct devices *s);
/* Begins to close what devices_open() opened, and the lifeline; devices_free() once the loop has ended. */
void devices_close(struct devices *s);
void devices_free(struct devices *s);

/* A device of the configuration, which is copied, with a stopped worker; not listed yet. NULL when memory is out. */
struct device *device_create(struct devices *s, const struct config_device *conf);
/* Frees it and its workers, whose processes are gone. */
void device_destroy(struct device *d);
/* Destroys removed devices to which no worker, job or request refers any more. */
void devices_sweep(struct devices *s);

/* The counters of all devices by name, of those that are gone as well: they only grow. */
void devices_totals(const struct devices *s, struct totals *out);

static inline void devices_changed(struct devices *s)
{
	s->events->changed(s->ctx);
}

static inline void devices_flushed(struct devices *s)
{
	s->events->flushed(s->ctx);
}

#endif
