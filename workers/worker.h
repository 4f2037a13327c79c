/*
 * The worker process: one device, one link to the supervisor, one backend, the tasks under way.
 *
 * Life: dial -> HELLO -> ACK (the whole configuration) -> backend probed or started -> tasks ->
 * DRAIN, a lost link, a signal or the backend's death -> exit. One loop thread owns everything
 * here; only the preparation of large bodies runs elsewhere (task_chat.c).
 */
#ifndef TANDEM_WORKERS_WORKER_H
#define TANDEM_WORKERS_WORKER_H

#include "proto/channel.h"
#include "workers/settings.h"

#include <stdint.h>

/* Exit codes; the supervisor shows them by these names. */
enum worker_code {
	WORKER_EXIT_OK = 0, /* drained, or told to go */
	WORKER_EXIT_USAGE = 64,
	WORKER_EXIT_LINK = 70,	  /* the supervisor is gone, or the link broke */
	WORKER_EXIT_ACK = 71,	  /* no configuration came, or none that makes sense */
	WORKER_EXIT_BOOT = 72,	  /* the backend did not start, or was not ready by its deadline */
	WORKER_EXIT_BACKEND = 73, /* the backend we started died */
	WORKER_EXIT_MEMORY = 74,
};

/* From HELLO to ACK. */
#define WORKER_ACK_MS 10000
/* From BYE until the supervisor has hung up; then it is not waited for any longer. */
#define WORKER_BYE_MS 2000
/* Records waiting for the link; credit keeps it far below. */
#define WORKER_LINK_BYTES (64u << 20)

struct backend;
struct http;
struct replays;
struct task_table;

enum worker_phase {
	WORKER_WAITS, /* for ACK */
	WORKER_SERVES,
	WORKER_DRAINS, /* finishes its jobs, takes no more */
	WORKER_ENDS,
};

struct worker_self {
	uv_loop_t *loop;
	struct channel *channel;
	const char *device;
	int family_fd; /* read end of the family's lifeline (guard.h), -1: we have none */
	int parent;    /* pid of the supervisor */
	struct settings settings;
	struct http *http;	 /* from ACK on */
	struct backend *backend; /* from ACK on */
	struct task_table *tasks;
	struct replays *replays; /* from ACK on */
	size_t open_tasks;	 /* as the supervisor counts them */
	/* worker.c's, for those who stand below it: the end, a turn later; no answer comes any more. */
	uv_timer_cb exit_turn;
	void (*backend_silent)(struct worker_self *w, const char *why);

	uint64_t progress; /* grows whenever a task or the backend advances (PONG) */
	uint64_t warm_key; /* of the model that answered last (ask.c); 0: unknown */
	uint64_t warm_ms;  /* and when, loop time */
	uint64_t done, failed, bytes_in, bytes_out; /* STATS */

	uv_timer_t deadline; /* of ACK, then of DRAIN, then of the farewell */
	uv_signal_t term;
	uv_pipe_t lifeline; /* stdin, when the supervisor gave us a pipe: EOF means it is gone */
	bool lifeline_open;
	enum worker_phase phase;
	bool drained;	   /* it ends because it was told to drain */
	bool keep_backend; /* what we have started stays when we end */
	bool link_gone;	   /* nobody hears us */
	bool said_bye;
	enum worker_code code;
};

struct worker_options {
	const char *link; /* nng URL */
	const char *device;
	uint64_t generation;
	int lifeline_fd; /* -1: none */
};

/* Runs until the process should end; returns its exit code. */
int worker_run(const struct worker_options *o);

/*
 * Sends a record. A link that cannot take it is broken, and the worker ends: callers have nothing
 * to check.
 */
void worker_put(struct worker_self *w, const struct proto_record *r);

/* Ends the worker: open tasks fail, a started backend is stopped or left (see ending_of()). Later
 * calls change nothing. */
void worker_exit(struct worker_self *w, enum worker_code code, const char *why);

/* A task has ended: a draining worker may be through. */
void worker_task_ended(struct worker_self *w);

#endif
