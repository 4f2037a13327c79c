/*
 * An upgrade as the new tandemd sees it (the other side: upgrade.h). Until it has taken over it
 * accepts nothing, has none of the known names, and tells the service manager nothing; it ends when
 * the old one says so or is gone.
 */
#ifndef TANDEM_SUCCESSOR_H
#define TANDEM_SUCCESSOR_H

#include "supervisor/life/handover.h"
#include "supervisor/life/talk.h"

#include <stdbool.h>

struct life;

struct successor {
	bool waiting; /* for our turn: we have not taken over */
	bool ready;   /* and have said that we could */
	struct handover handover;
	struct talk *talk;
};

/* Reads what a predecessor handed over, if one did: then s->successor.waiting is set. 0 or -EINVAL
 * with words in err. */
int successor_read(struct life *l, struct buf *err);
/* Begins the conversation. 0 or -errno. */
int successor_start(struct life *l);
/* A device has changed: are all that are waited for ready? */
void successor_look(struct life *l);
/* We are told to stop before our turn came. */
void successor_stop(struct life *l);
void successor_fini(struct life *l);

/* Tells the predecessor, if there is one, why the start fails. For use before and after
 * successor_start(). */
void successor_failed(struct life *l, const char *why);

#endif
