/*
 * A device: one configured GPU (or CPU), the worker that serves it now, and the jobs given to it.
 *
 * The worker's life is one table (worker.c): states x events -> action. Jobs wait in a device's
 * queue until the worker is READY and a slot is free; they survive the worker while they wait, and
 * fail with JOB_LOST when it dies under them.
 */
#ifndef TANDEM_DEVICE_H
#define TANDEM_DEVICE_H

#include "common/config.h"
#include "proto/channel.h"
#include "supervisor/report.h"

#include <sys/queue.h>
#include <uv.h>

struct supervisor;
struct job;
TAILQ_HEAD(job_list, job);
LIST_HEAD(job_bucket, job);
#define JOB_BUCKETS 256 /* as many as a device has slots at most */

enum worker_state {
	WORKER_STOPPED,	 /* no process, none wanted */
	WORKER_SPAWNING, /* process started, no HELLO yet */
	WORKER_LOADING,	 /* HELLO done, backend not ready (starting, loading, or unreachable) */
	WORKER_READY,
	WORKER_STOPPING, /* told to exit */
	WORKER_BACKOFF,	 /* exited; the next start is scheduled */
	WORKER_STATES,
};

struct device_model {
	char *name;
	int64_t window; /* tokens, 0 unknown */
	char *ollama_json, *openai_json;
};

#define DEVICE_DETAIL_BYTES 512
#define DEVICE_EXIT_BYTES 64

struct device {
	struct supervisor *sup;
	const struct config_device *conf;
	unsigned number;  /* unique in this process: names its sockets */
	unsigned handles; /* open uv handles */

	enum worker_state state;
	uint64_t generation;
	uv_process_t *process; /* heap: outlives the incarnation until its close callback */
	int pid;
	struct channel *channel;
	uv_timer_t timer; /* the state's deadline: HELLO, stop, back-off */
	uv_timer_t ping;
	uint64_t ping_seq, pong_seq;
	unsigned pings_missed;
	struct report report; /* of this incarnation */
	uint64_t backoff_ms;
	uint64_t ready_since_ms, not_ready_since_ms;
	uint64_t restarts;
	char last_exit[DEVICE_EXIT_BYTES]; /* "" before the first */

	struct {
		enum proto_backend_state state;
		char detail[DEVICE_DETAIL_BYTES];
		char url[256];
		int64_t pid, window, slots;
		char model[256];
	} backend;
	struct device_model *models;
	size_t model_count;
	struct device_model *incoming; /* a list being received */
	size_t incoming_count;

	struct job_list waiting, running;
	struct job_bucket by_id[JOB_BUCKETS]; /* the running ones, for each record of the worker */
	unsigned inflight;		      /* running jobs that take a slot */
	uint64_t jobs_done, jobs_failed;
	struct report_sums sums;
	double prefill_tok_s, decode_tok_s; /* learned; 0 before the first measurement */
};

/* A device of the configuration; starts nothing. NULL when memory is out. */
struct device *device_create(struct supervisor *s, const struct config_device *conf);
/* Frees it once its handles have closed: in the loop's next turns. */
void device_destroy(struct device *d);

/* Requests this device takes at once. */
int device_slots(const struct device *d);
/* Window in tokens: configured, else what the backend reports, else 0 (unknown). */
int64_t device_window(const struct device *d);
/* True when the device's models include that name (case-insensitive, ":latest" implied); an empty
 * name is served by none. */
bool device_serves(const struct device *d, struct slice model);
/* Replaces or extends the model list by one MODELS record. */
void device_models(struct device *d, const struct proto_models *m);
/* Name the device is asked for by default; never NULL. */
const char *device_model(const struct device *d);

#endif
