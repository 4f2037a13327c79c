/*
 * The life of tandemd itself: runs, drains, retires, ends (the table in life.c), with all that belongs to the process
 * and not to its work: run folder, front doors, service manager, operators' orders, upgrades.
 *
 * The wing's context: its modules take it, and nothing above. Its parts stand below life.c and tell it what happens
 * through life_event(). What is told upwards goes through life_events, given at its creation.
 *
 * Signals: TERM and INT stop it after the answers under way, at most deadlines.drain_ms; a second
 * one at once. HUP reads the configuration again, USR2 upgrades. Exit codes:
 * docs/quick-reference.md#signals-of-tandemd. Loop thread only.
 */
#ifndef TANDEM_LIFE_H
#define TANDEM_LIFE_H

#include "common/base/now.h"
#include "common/config/config.h"
#include "supervisor/devices/devices.h"
#include "supervisor/life/doors.h"
#include "supervisor/life/elders.h"
#include "supervisor/life/notify.h"
#include "supervisor/life/operation.h"
#include "supervisor/life/rundir.h"
#include "supervisor/life/rundir_watch.h"
#include "supervisor/life/service.h"
#include "supervisor/life/successor.h"
#include "supervisor/life/upgrade.h"
#include "supervisor/requests/requests.h"

#include <stdbool.h>
#include <uv.h>

#define LIFE_PATH_BYTES 4096

enum life_state {
	LIFE_RUNNING,
	LIFE_RETIRING, /* a successor has the listening socket; what we have is finished */
	LIFE_DRAINING, /* told to stop: requests have until the deadline */
	LIFE_ENDING,   /* no more requests: workers, successor and older tandemds end */
	LIFE_STATES
};

enum life_event {
	LIFE_TERM,   /* told to stop */
	LIFE_HANDED, /* the successor accepts: finish what is here, however long it takes, then end */
	LIFE_BACK,   /* the successor is no more: serve on as before */
	LIFE_END,    /* end at once: nothing is under way */
	LIFE_TIMER,
	LIFE_LOOK, /* something is gone that may have been the last */
	LIFE_EVENTS
};

struct life_events {
	/* The sockets that tell of us, anew: their names were somebody else's. 0 or -errno. */
	int (*reopen)(void *ctx);
	/* The configuration is another one. */
	void (*reloaded)(void *ctx);
	/* What is under way is finished, and no more: what would go on for ever is to end. */
	void (*leaving)(void *ctx);
};

#define LIFE_SIGNALS 4

struct life {
	uv_loop_t *loop;
	struct config *config; /* a reload changes it in place */
	const char *config_path;
	const char *run_dir;	       /* of the configuration, or -R */
	char program[LIFE_PATH_BYTES]; /* what we were started as: an upgrade starts it again */
	char **argv;
	struct devices *devices;
	struct requests *requests;
	const struct life_events *events;
	void *ctx;

	enum life_state state;
	void (*step)(struct life *l,
		enum life_event e); /* the table of life.c, for the files below it */
	uv_signal_t signals[LIFE_SIGNALS];
	uv_timer_t timer;      /* drain deadline; while retiring, a look at idle connections */
	struct front *front;   /* NULL in a successor that has not taken over */
	struct front *metrics; /* the door at metrics.address; NULL: none, or not yet */
	int metrics_fd;	       /* its socket, for a successor and for taking it back; -1: none */
	struct front *shut[DOORS_SHUT_MAX];
	size_t shut_count;
	unsigned connections_max; /* limits.connections, or fewer for want of descriptors */
	bool reloading;
	struct operations operations;
	struct rundir rundir;
	struct rundir_watch rundir_watch;
	struct notify notify;
	struct service service;
	struct elders elders;
	struct upgrade upgrade;
	struct successor successor;
};

/* l is all zero but for what its caller has to lend (config, config_path, run_dir, argv, devices, requests,
 * connections_max) and for `successor`, which has been read. The run folder comes later. */
void life_init(struct life *l, uv_loop_t *loop, const struct life_events *events, void *ctx);
/* Signals are heard from now on. We are in charge, or speak to the tandemd that is. 0, or -errno with
 * words in err: then it is ending. */
int life_begin(struct life *l, struct buf *err);
/* Closes the handles in the loop. */
void life_fini(struct life *l);

static inline void life_event(struct life *l, enum life_event e)
{
	l->step(l, e);
}

/* A device's state has changed, or what it says of itself. */
void life_devices_changed(struct life *l);

/* No more work is begun. */
static inline bool life_stopping(const struct life *l)
{
	return l->state == LIFE_DRAINING || l->state == LIFE_ENDING;
}

#endif
