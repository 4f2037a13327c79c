/*
 * Jobs: one piece of work for one device, from submission to its one ending.
 *
 * A job waits in its device's queue until the worker is ready and, when it takes a slot, a slot is
 * free; then it runs. It ends exactly once: end(), fail(), or job_cancel() by its owner; after that
 * the owner must not touch it and gets no more callbacks. What the job_spec points to (body,
 * headers, strings) is borrowed until then. Callbacks come from the loop, never from inside
 * job_submit() (room() and run() excepted: they may come as soon as the job runs). Body bytes cross in pieces
 * as the worker's credit allows; answer bytes come as fast as job_credit() allows
 * (PROTO_WINDOW_BYTES at first).
 */
#ifndef TANDEM_JOB_H
#define TANDEM_JOB_H

#include "supervisor/devices/device.h"

/*
 * Jobs that take a slot wait in the device's queue (queue.h), in the order of their class, client
 * and cost; the others only wait for the worker and run past it. A notes job that holds a slot
 * which an interactive or agent job waits for may be pre-empted (job_run.c): it is cancelled, and
 * when the worker has let go of it, restart() is called and it waits again. Its time-out starts
 * anew. What nobody waits for (spec.yields) runs only where nothing else does; it fails with FAIL_CANCELLED when
 * a job that takes a slot is submitted, which then does not count its slot as taken.
 */

/* Causes of the supervisor's own, beside enum proto_cause. */
enum { JOB_LOST = 100 /* the worker died with the job open */ };

#define JOB_REQUEST_ID_BYTES 32
#define JOB_RETRY_MAX_S 60
#define JOB_PREEMPTIONS_MAX 2 /* a job pre-empted that often is then left alone */
#define JOB_TIMEOUT_GRACE_MS                                                                       \
	1000 /* the worker's own timeout comes first; ours catches a worker that hangs */

struct job_failure {
	int cause;  /* enum proto_cause or JOB_LOST */
	int status; /* HTTP status to show while it can still be set, 0: none */
	struct slice message, body, content_type;
	int64_t prompt_tokens, window_tokens; /* FAIL_OVERFLOW; 0 unknown */
	int64_t retry_after_s;		      /* as the backend wishes; 0: it does not say */
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
	/* The job was pre-empted and will run again from its beginning: what came of it is void.
	 * NULL for kinds that are never pre-empted. */
	void (*restart)(void *ctx, struct job *j);
	/* A streamed upload may go on: job_body() has room again. May be NULL. */
	void (*room)(void *ctx, struct job *j);
	/* It has left the queue, its worker has it: j->started_ms. Ends nothing and submits nothing. May be
	 * NULL. */
	void (*run)(void *ctx, struct job *j);
};

struct job_spec {
	struct proto_job message; /* body_bytes and the rest; the id is set by job_submit() */
	bool takes_slot;
	bool holds_slot; /* ... that the backend works at already: it waits for the worker alone */
	bool impatient; /* does not wait for a device that is not ready: fails with JOB_LOST instead
			 */
	struct slice body; /* the whole body, or empty with `upload` */
	bool yields;	   /* ends as soon as any other job that takes a slot is submitted */
	bool upload;	   /* the body comes through job_body() */
	enum job_class class;
	uint64_t client;		       /* client.h */
	uint64_t prompt_tokens, output_tokens; /* estimates: together its cost */
	double prefill_ms;		       /* predicted; 0: by prompt_tokens */
};

struct job {
	TAILQ_ENTRY(job) link;	  /* in device.passing or device.running */
	struct queue_entry place; /* in device.queue, when it has to wait for a slot */
	LIST_ENTRY(job) same;	  /* while running: in its bucket of device.by_id */
	struct device *device;
	struct worker *worker; /* who runs it; NULL while it waits */
	uint64_t id;
	struct job_spec spec;
	char request_id[JOB_REQUEST_ID_BYTES]; /* a cancelled job outlives its request */
	const struct job_events *events; /* NULL: cancelled, waiting for the worker's last word */
	void *ctx;
	bool running;
	bool fresh;	/* no prefix cache can have had much of it (rate.h) */
	bool preempted; /* cancelled to run again; the worker has not let go of it yet */
	unsigned preemptions;
	size_t sent;	   /* body bytes given to the link */
	uint64_t credit;   /* body bytes the worker still allows */
	uint64_t received; /* answer bytes */
	size_t credit_due; /* answer bytes disposed of and not yet credited */
	bool body_ended;
	bool held_back; /* more of the body may go as soon as the link has room */
	uint64_t submitted_ms, started_ms;
	uv_timer_t timeout; /* only initialised when spec.message.timeout_ms > 0 */
};

/* 0 and *out; -EBUSY when a patient job would have to wait and limits.queue, or its client's share
 * of it, is reached; -ENODEV when no worker will come for it; -EAGAIN when impatient and the device
 * is not ready; -ENOMEM. */
int job_submit(struct device *d, const struct job_spec *spec, const struct job_events *events,
	void *ctx, struct job **out);
/* What a client is told of these, and when it may try again (seconds, 1 to JOB_RETRY_MAX_S). */
const char *job_refusal(int rc);
int job_retry_after_s(const struct device *d);
/* How long a new job would wait for a slot, about: what runs and what waits, by their estimates. */
double jobs_wait_ms(const struct device *d);
void job_cancel(struct job *j);
/* The owner has disposed of n answer bytes. */
void job_credit(struct job *j, size_t n);
/* Upload: takes at most n bytes, as credit allows, and returns how many. */
size_t job_body(struct job *j, const char *p, size_t n);
void job_body_end(struct job *j);

/* The longest body of a job for a client's of limits.body_bytes: the gateway may add num_ctx, notes and markers to it,
 * and escaping may double text. */
int64_t job_body_bytes_max(const struct config *conf);

/* --- for the device's link and worker --- */

/* A record of the worker about a job. */
void job_record(struct worker *w, const struct proto_record *r);
/* The worker is ready or a slot is free: starts what can start. */
void jobs_kick(struct device *d);
/* Its link has room again. */
void jobs_room(struct worker *w);
/* The worker is gone: its running jobs fail with JOB_LOST. */
void jobs_lost(struct worker *w);
/* The device takes no work any more: what waits for it fails with FAIL_DRAINING. */
void jobs_evict(struct device *d);
/* The device is not ready any more: impatient jobs that wait for it fail with JOB_LOST. */
void jobs_unready(struct device *d);

/* What nobody waits for ends at once: somebody's work has come, or the worker is to go. */
void jobs_yield(struct device *d);

const char *job_cause_name(int cause);
/* What of a failure's message may be logged: a backend's own words may quote the prompt. */
struct slice job_logged_message(int cause, struct slice message);

/* --- for the status --- */

struct job *job_of_place(struct queue_entry *e);

/* Jobs that wait for this device. */
unsigned jobs_waiting(const struct device *d);
/* How long the one that came first has waited. */
uint64_t jobs_oldest_ms(const struct device *d);

#endif
