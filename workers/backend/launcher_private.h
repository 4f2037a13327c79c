/*
 * Between launcher.c (output, end, stop) and launcher_start.c. Nobody else includes this.
 */
#ifndef TANDEM_WORKERS_LAUNCHER_PRIVATE_H
#define TANDEM_WORKERS_LAUNCHER_PRIVATE_H

#include "workers/backend/launcher.h"
#include "workers/backend/outlog.h"
#include "workers/backend/serving.h"

/* The process that was started or adopted last. */
enum launcher_run {
	RUN_NONE,  /* none, or its end has been told */
	RUN_ALIVE, /* it has not ended */
	RUN_ENDED, /* it has, and its handles are being closed: then its end is told */
};

/* What its end means. */
enum launcher_wish {
	WISH_RUN,     /* nobody wanted it: exited() */
	WISH_REPLACE, /* the start of the next one */
	WISH_STOP,    /* stopped() */
	WISH_LEAVE,   /* nothing: it is not ours any more */
};

enum launcher_said { SAID_PORT_TAKEN = 1, SAID_NO_GPU = 2 };

struct launcher {
	uv_loop_t *loop;
	struct launcher_options options;
	const struct settings *settings;
	struct launcher_events events;
	void (*stopped)(void *ctx);
	void *ctx;

	uv_process_t process; /* of one that we started */
	uv_poll_t end;	      /* of an adopted one */
	int pidfd;
	uv_timer_t kill_timer, look_timer;
	unsigned handles; /* open uv handles */
	enum launcher_run run;
	enum launcher_wish wish;
	bool adopted;
	bool timer_open, look_open;
	bool destroyed;
	pid_t pid;
	int own_lifeline; /* write end of our own one, -1: the family's is used */
	int64_t exit_status;
	int exit_signal;
	unsigned bind_tries;
	unsigned said;		/* enum launcher_said: by its output */
	struct serving serving; /* by its command line and its output */
	struct outlog log;
};

/* Looks at its output every so many milliseconds. */
void launcher_look_every(struct launcher *l, uint64_t ms);
/* outlog_line_fn */
void launcher_on_line(void *ctx, struct slice line);
/* It has ended: as our child, as an adopted one. */
void launcher_on_exit(uv_process_t *process, int64_t status, int term_signal);
void launcher_on_adopted_end(uv_poll_t *end, int status, int events);
void launcher_on_handle_closed(uv_handle_t *handle);

#endif
