/*
 * Jobs: one piece of work for one device, from submission to its one ending.
 *
 * A job waits in its device's queue until the worker is ready and, when it takes a slot, a slot is
 * free; then it runs. It ends exactly once: end(), fail(), or job_cancel() by its owner; after that
 * the owner must not touch it and gets no more callbacks. What the job_spec points to (body,
 * headers, strings) is borrowed until then. Callbacks come from the loop, never from inside
 * job_submit() (room() excepted: it may come as soon as the job runs). Body bytes cross in pieces
 * as the worker's credit allows; answer bytes come as fast as job_credit() allows
 * (PROTO_WINDOW_BYTES at first).
 */
#ifndef TANDEM_JOB_H
#define TANDEM_JOB_H

#include "supervisor/device.h"

/* Causes of the supervisor's own, beside enum proto_cause. */
enum { JOB_LOST = 100 /* the worker died with the job open */ };

#define JOB_REQUEST_ID_BYTES 32
#define JOB_TIMEOUT_GRACE_MS                                                                       \
	1000 /* the worker's own timeout comes first; ours catches a worker that hangs */

struct job_failure {
	int cause;  /* enum proto_cause or JOB_LOST */
	int status; /* HTTP status to show while it can still be set, 0: none */
	struct slice message, body, content_type;
	bool expected; /* JOB_LOST: the worker was told to end, so the job is not to blame */
};

struct job_events {
	/* The answer's head; r->u.start. */
	void (*start)(void *ctx, struct job *j, const struct proto_record *r);
	/* r->u.delta */
	void (*delta)(void *ctx, struct job *j, const struct proto_record *r);
	/* r->u.end */
	void (*end)(void *ctx, struct job *j, const struct proto_record *r);
	void (*fail)(void *ctx, struct job *j, const struct job_failure *f);
	/* A streamed upload may go on: job_body() has room again. May be NULL. */
	void (*room)(void *ctx, struct job *j);
};

struct job_spec {
	struct proto_job message; /* body_bytes and the rest; the id is set by job_submit() */
	bool takes_slot;
	bool impatient; /* does not wait for a device that is not ready: fails with JOB_LOST instead
			 */
	struct slice body; /* the whole body, or empty with `upload` */
	bool upload;	   /* the body comes through job_body() */
};

struct job {
	TAILQ_ENTRY(job) link; /* in device.waiting or device.running */
	LIST_ENTRY(job) same;  /* while running: in its bucket of device.by_id */
	struct device *device;
	uint64_t id;
	struct job_spec spec;
	char request_id[JOB_REQUEST_ID_BYTES]; /* a cancelled job outlives its request */
	const struct job_events *events; /* NULL: cancelled, waiting for the worker's last word */
	void *ctx;
	bool running;
	size_t sent;	   /* body bytes given to the link */
	uint64_t credit;   /* body bytes the worker still allows */
	size_t credit_due; /* answer bytes disposed of and not yet credited */
	bool body_ended;
	uint64_t submitted_ms, started_ms;
	uv_timer_t timeout; /* only initialised when spec.message.timeout_ms > 0 */
};

/* 0 and *out; -EBUSY when a patient job would have to wait and limits.queue is reached; -EAGAIN
 * when impatient and the device is not ready; -ENOMEM. */
int job_submit(struct device *d, const struct job_spec *spec, const struct job_events *events,
	void *ctx, struct job **out);
void job_cancel(struct job *j);
/* The owner has disposed of n answer bytes. */
void job_credit(struct job *j, size_t n);
/* Upload: takes at most n bytes, as credit allows, and returns how many. */
size_t job_body(struct job *j, const char *p, size_t n);
void job_body_end(struct job *j);

/* --- for the device's link and worker --- */

/* A record of the worker about a job. */
void job_record(struct device *d, const struct proto_record *r);
/* The worker is ready or a slot is free: starts what can start. */
void jobs_kick(struct device *d);
/* The worker is gone: its running jobs fail with JOB_LOST. */
void jobs_lost(struct device *d);
/* The device is not ready any more: impatient jobs that wait for it fail with JOB_LOST. */
void jobs_unready(struct device *d);

const char *job_cause_name(int cause);

#endif
