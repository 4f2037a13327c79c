/*
 * The supervisor's own state: one per process, passed to every module; no globals.
 *
 * Who owns what: the supervisor owns the front door, the devices and the counters; a device owns
 * its worker process, link and jobs; a request owns its exchange's context and refers to the jobs
 * it started. All of it lives on the one loop thread.
 */
#ifndef TANDEM_SUPERVISOR_H
#define TANDEM_SUPERVISOR_H

#include "common/config.h"
#include "common/tokens.h"
#include "supervisor/device.h"
#include "supervisor/http/front.h"
#include "supervisor/operation.h"
#include "supervisor/poison.h"

#include <sys/queue.h>
#include <uv.h>

#define STRATEGIES 3 /* A, B, C */

struct counters {
	uint64_t requests, failed, cancelled, fallbacks, passed, resumed;
	uint64_t by_strategy[STRATEGIES];
};

struct request;
TAILQ_HEAD(request_list, request);

struct supervisor {
	uv_loop_t *loop;
	struct config config;
	const char *run_dir;	/* of the configuration, or -R */
	char worker_path[4096]; /* the tandem-worker beside this program */
	struct front *front;
	struct device *devices[CONFIG_DEVICES_MAX]; /* in the configuration's order */
	size_t device_count;
	struct tokens *tokens;
	struct rep *stats;
	struct request_list requests;
	unsigned active;   /* requests in the list */
	unsigned queued;   /* client requests waiting for a slot, all devices */
	size_t held_bytes; /* request bodies held in memory */
	uint64_t next_job;
	unsigned next_device;
	uint64_t next_request;
	uint64_t started_ms; /* uv_hrtime based */
	struct counters count;
	struct poison poison;
	struct operations operations;
	bool loopback; /* we listen on loopback only: Host headers are looked at */
	bool stopping;
	uv_signal_t sigint, sigterm;
	uv_timer_t drain_timer;
};

/* Milliseconds of the monotonic clock. */
static inline uint64_t now_ms(void)
{
	return uv_hrtime() / 1000000u;
}

/* The last request has ended or the last worker is gone: the shutdown looks whether it can go on.
 */
void supervisor_check_stopped(struct supervisor *s);

#endif
