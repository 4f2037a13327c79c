/*
 * The life of tandemd itself: runs, drains, retires, ends. See the table in life.c.
 *
 * Signals: TERM and INT stop it after the answers under way, at most deadlines.drain_ms; a second
 * one at once. HUP reads the configuration again, USR2 upgrades. Exit codes: README.
 */
#ifndef TANDEM_LIFE_H
#define TANDEM_LIFE_H

#include <stdbool.h>
#include <uv.h>

struct supervisor;

enum life_state {
	LIFE_RUNNING,
	LIFE_RETIRING, /* a successor has the listening socket; what we have is finished */
	LIFE_DRAINING, /* told to stop: requests have until the deadline */
	LIFE_ENDING,   /* no more requests: workers, successor and older tandemds end */
	LIFE_STATES
};

#define LIFE_SIGNALS 4

struct life {
	enum life_state state;
	uv_signal_t signals[LIFE_SIGNALS];
	uv_timer_t timer; /* drain deadline; while retiring, a look at idle connections */
};

void life_init(struct supervisor *s);
/* Signals are heard from now on. */
void life_hear(struct supervisor *s);
/* Closes the handles in the loop. */
void life_fini(struct supervisor *s);

/* As TERM: drains, then ends. */
void life_stop(struct supervisor *s);
/* Ends at once: nothing is under way. */
void life_end(struct supervisor *s);
/* The successor accepts: finishes what is here, however long it takes, then ends. */
void life_retire(struct supervisor *s);
/* Serves on as before: the successor is no more. */
void life_resume(struct supervisor *s);

#endif
