/*
 * Traces on their way out: a process of its own sends them (workers/traces/), which this starts, feeds and
 * replaces.
 *
 * Nothing here waits: spans are written to a pipe as far as traces.queue_bytes goes; what finds no room there, or no
 * process, is dropped and counted, as is what a process had not told of when it died. It is replaced after
 * backoff.first_ms, doubling to backoff.max_ms. Loop thread only.
 */
#ifndef TANDEM_TRACES_H
#define TANDEM_TRACES_H

#include "supervisor/requests/history.h"

#include <uv.h>

struct traces;
struct tell;

struct traces_counts {
	uint64_t spans;			  /* of requests that were to be traced */
	uint64_t sent, rejected, dropped; /* what became of them; the rest waits */
	uint64_t restarts;		  /* of the process that sends, by its own death */
};

/* NULL: memory is out. Starts the process where there is an endpoint. */
struct traces *traces_create(struct tell *t);
/* The configuration, or a file that it names, may be another one: then so is the process. */
void traces_reloaded(struct traces *t);
/* The process gets the end of its input, and ends by itself, within a second; the loop runs until then. NULL is
 * fine; *t goes with the loop's next turns. */
void traces_destroy(struct traces *t);

/* A request is over; a step has come to one that was. t may be NULL. */
void traces_put(struct traces *t, const struct record *r);
void traces_put_late(struct traces *t, const struct record *r, const struct step *late);

/* Of everything so far; zeros for NULL. */
struct traces_counts traces_counts(const struct traces *t);
/* The process's pid, 0: there is none. */
int traces_pid(const struct traces *t);

#endif
