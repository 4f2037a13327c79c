/*
 * Older tandemds of this family: each has handed over to a successor, finishes the streams it has,
 * and ends. The one in charge knows them by pidfd (they are not its children), counts them, tells
 * them to hurry when the whole service stops, and hands them on to its own successor.
 */
#ifndef TANDEM_ELDERS_H
#define TANDEM_ELDERS_H

#include <sys/queue.h>
#include <sys/types.h>
#include <uv.h>

struct life;

struct elder {
	TAILQ_ENTRY(elder) link;
	struct life *life;
	pid_t pid;
	int fd; /* pidfd */
	uv_poll_t poll;
};

struct elders {
	TAILQ_HEAD(, elder) list;
	unsigned count;
};

/* Owns the pidfd. One that cannot be watched is left out, with a line in the log. */
void elders_add(struct life *l, pid_t pid, int fd);
/* TERM to each: its streams get drain_ms. */
void elders_hurry(struct life *l);
/* Forgets them: they are somebody else's concern, or nobody's. */
void elders_fini(struct life *l);

#endif
