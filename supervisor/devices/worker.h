/*
 * The life of one worker of a device: a process, its link, and what it tells. See the table in
 * worker.c.
 *
 * A device has a *current* worker, which gets the work, sometimes a *next* one, which boots to take
 * its place (succession.h), and old ones that finish what they have. A worker keeps its place through
 * back-off: its successor after a death is the same struct with a new generation. One that is
 * neither current nor next any more frees itself when its process has gone. Loop thread only;
 * nothing blocks but the spawn itself and the reading of what a dead worker has sent (1 ms).
 */
#ifndef TANDEM_WORKER_H
#define TANDEM_WORKER_H

#include "common/config/config.h"
#include "proto/channel.h"
#include "supervisor/devices/report.h"

#include <sys/queue.h>
#include <uv.h>

struct device;
struct worker;

enum worker_state {
	WORKER_STOPPED,	 /* no process, none wanted */
	WORKER_SPAWNING, /* process started, no HELLO yet */
	WORKER_LOADING,	 /* HELLO done, backend not ready (starting, loading, or unreachable) */
	WORKER_READY,
	WORKER_DRAINING, /* finishes the jobs it has, gets no more */
	WORKER_STOPPING, /* told to exit */
	WORKER_DYING,	 /* given up: killed, its exit has not been seen yet */
	WORKER_BACKOFF,	 /* exited; the next start is scheduled */
	WORKER_FAILED,	 /* died too often: not started before a reset */
	WORKER_STATES,
	WORKER_STAY = WORKER_STATES, /* what an action returns that changes no state */
};

#define WORKER_DETAIL_BYTES 512
#define WORKER_EXIT_BYTES 64

struct worker_backend {
	enum proto_backend_state state;
	char detail[WORKER_DETAIL_BYTES];
	char url[256];
	int64_t pid, window, slots;
	unsigned traits; /* enum backend_trait; 0: it has not said a word */
	uint64_t start;	 /* of pid (proc.h) */
	char model[256];
	struct proto_serving serving; /* its cache_type stands below */
	char cache_type[16];
};

/* What becomes of a worker that has ended without having been asked to. */
enum after_death { AFTER_DEATH_BACK_OFF, AFTER_DEATH_FAIL, AFTER_DEATH_END };

/* What a worker asks of the device above it, and tells it. Given with devices.worker_events. */
struct worker_events {
	/* False: not yet, a former backend still holds the GPU. */
	bool (*may_spawn)(struct worker *w);
	/* Adds to the ACK what it may adopt, and how long a body may be. */
	void (*ack)(struct worker *w, struct proto_ack *a);
	/* It has entered another state. */
	void (*state)(struct worker *w);
	void (*ready)(struct worker *w);
	/* It was ready, or could have been, and gets no work now. */
	void (*unready)(struct worker *w);
	/* It is not ready within deadlines.worker_boot_ms, and is left to it. */
	void (*late)(struct worker *w);
	enum after_death (*died)(struct worker *w);
	/* It has become FAILED. */
	void (*failed)(struct worker *w);
	/* It does not even die of KILL. */
	void (*stuck)(struct worker *w);
	/* It has told of its backend (STATE). */
	void (*learned)(struct worker *w);
	/* A record about a job, or MODELS. */
	void (*record)(struct worker *w, const struct proto_record *r);
	/* Its link has room again. */
	void (*room)(struct worker *w);
	/* Its process and link are gone. May destroy it, and its device. */
	void (*gone)(struct worker *w);
};

/* What the table does to process and link: worker_process.c, worker_link.c. Given with devices.worker_hands. */
struct worker_hands {
	/* 0 or a negative errno (then nothing is left open). */
	int (*spawn)(struct worker *w);
	/* Nothing where there is no process. */
	void (*kill)(struct worker *w, int signum);
	/* Goes on without it, as if it had ended: killed, and still not gone. May free it. */
	void (*abandon)(struct worker *w);
	void (*ack)(struct worker *w);
	void (*drain)(struct worker *w);
	/* Heartbeats begin. */
	void (*watch)(struct worker *w);
};

struct worker {
	TAILQ_ENTRY(worker) link; /* in device.workers, newest first */
	struct device *device;
	const struct worker_events *on;
	const struct worker_hands *hands;
	enum worker_state state;
	uint64_t generation;   /* of this process; 0: none yet */
	uv_process_t *process; /* heap: outlives the incarnation until its close callback */
	int pid;
	struct channel *channel;
	uv_timer_t
		timer; /* the state's deadline: HELLO, boot of a next one, drain, stop, back-off */
	uv_timer_t ping;
	unsigned handles; /* open uv handles */

	uint64_t ping_seq, pong_seq;
	uint64_t flush_seq; /* of the ping whose answer says that its log is written; 0: none */
	unsigned pings_missed;
	struct report report; /* of this process */
	uint64_t moved_ms;    /* when its jobs last made progress, or it had none */

	uint64_t ready_since_ms;
	uint64_t backoff_ms;
	bool keep_backend;     /* when it drains: its successor uses the backend that it started */
	uint64_t backend_hash; /* of the command it was told (warm.h) */
	unsigned kills;	       /* while DYING or STOPPING */
	bool asked_to_end;     /* its last exit was */
	bool died;	       /* the next start follows a death */
	struct worker_backend backend;
};

TAILQ_HEAD(worker_list, worker);

/* A worker of the device, listed, STOPPED. NULL when memory is out. */
struct worker *worker_create(struct device *d);
/* Takes it out of its device; its process, link and jobs are gone. Freed when its handles have
 * closed. */
void worker_destroy(struct worker *w);

/* Starts it (from STOPPED, BACKOFF, FAILED). Failures lead to back-off, never to an error here. */
void worker_start(struct worker *w);
/* Asks it to exit: TERM, then KILL after WORKER_STOP_MS. */
void worker_stop(struct worker *w);
/* It finishes its jobs, at most for deadlines.drain_ms, and exits. */
void worker_drain(struct worker *w, bool keep_backend);

/* True when a process of this worker is left. */
static inline bool worker_has_process(const struct worker *w)
{
	return w->process != NULL;
}

const char *worker_state_name(enum worker_state s);

/* --- for worker_link.c and worker_process.c --- */

enum worker_event {
	EV_START,
	EV_HELLO,
	EV_READY,
	EV_NOT_READY,
	EV_EXIT,
	EV_TIMER,
	EV_SILENT,  /* no heartbeat, or no progress: it hangs */
	EV_GIVE_UP, /* it talks rubbish */
	EV_DRAIN,
	EV_STOP,
	WORKER_EVENTS
};

void worker_event(struct worker *w, enum worker_event e);

/* --- its log (supervisor/tell/flush.h) --- */

/* Asks it to write its log and to report its counters. False: it cannot be asked. */
bool worker_flush(struct worker *w);
/* It was asked, and has neither answered nor ended. */
bool worker_flushing(struct worker *w);

extern const struct worker_hands worker_hands;

/* worker_link.c */
extern const struct channel_events worker_link_events;
void worker_send_ack(struct worker *w);
void worker_send_drain(struct worker *w);
void worker_ping_start(struct worker *w);

/* --- worker_log.c --- */
/* A line of its log: told to those who listen to events, as "worker.NAME". */
void worker_logged(struct worker *w, const struct proto_record *r);

#endif
