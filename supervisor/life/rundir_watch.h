/*
 * Looks after the run folder while we have its names: what somebody removes of it is put back (the
 * folder, the lock, the sockets, the pid file), and what cannot be is logged, once. A look is a few
 * calls on a local folder.
 */
#ifndef TANDEM_RUNDIR_WATCH_H
#define TANDEM_RUNDIR_WATCH_H

#include <stdbool.h>
#include <uv.h>

struct life;

#define RUNDIR_LOOK_MS 2000

struct rundir_watch {
	uv_timer_t timer;
	bool told; /* that it cannot be put right */
};

void rundir_watch_init(struct life *l);
/* Closes the timer in the loop. */
void rundir_watch_fini(struct life *l);
/* Looks now: something is about to be made in the folder. */
void rundir_watch_look(struct life *l);

#endif
