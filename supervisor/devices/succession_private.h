/* Between succession.c (the table), succession_ask.c (what is asked of it) and outcome.c, which calls neither. */
#ifndef TANDEM_SUCCESSION_PRIVATE_H
#define TANDEM_SUCCESSION_PRIVATE_H

#include "supervisor/devices/devices.h"
#include "supervisor/devices/succession.h"

enum succession_event {
	ON_BESIDE, /* asked for a fresh worker: turn.w is to be next */
	ON_IN_PLACE,
	ON_DRAIN,
	ON_RESET,
	ON_REMOVE,
	ON_STOP,
	ON_READY, /* the current worker is */
	ON_LATE,  /* it is not, within deadlines.worker_boot_ms */
	ON_DIED,  /* it ended without having been asked to */
	ON_STUCK, /* it does not even die of KILL */
	ON_GONE,  /* it has ended, and is wanted no more: STOPPED */
	ON_NEXT_READY,
	ON_NEXT_DIED, /* or is stuck */
	EVENTS
};

struct turn {
	struct device *d;
	struct worker *w;	  /* that it is about */
	enum after_death verdict; /* of ON_DIED */
};

void succession_turn(struct turn *t, enum succession_event e);

/* --- outcome.c: what comes of an operator's order, for who waits for it; nothing where there is none --- */

void outcome_tell(struct device *d, bool ok, const char *why);
void outcome_ready(struct device *d);
void outcome_failed(struct device *d, const struct worker *w);
void outcome_late(struct device *d, const struct worker *w);

#endif
