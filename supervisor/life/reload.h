/*
 * A new configuration without a restart: read whole and checked on the thread pool, then taken over
 * between two turns of the loop, or not at all.
 *
 * Thresholds, limits and deadlines count from the next request on. Devices are compared one by one:
 * new ones start, removed ones drain, changed ones get a fresh worker (succession.h), the others are
 * not touched. What this process cannot change while it runs (the address, the run folder, the size
 * of the front door) makes the whole reload fail, with the keys' names; `tandemctl upgrade` can.
 */
#ifndef TANDEM_RELOAD_H
#define TANDEM_RELOAD_H

#include "common/base/buf.h"
#include "common/config/config.h"

struct life;

/* The operation's number, or 0 with words in err: one is under way, or memory is out. */
uint64_t reload_begin(struct life *l, struct buf *err);

/* What one changed key of a device asks for; the strongest of all counts. Pure. */
enum reload_effect {
	RELOAD_NOTHING, /* live: roles, slots of the queue */
	RELOAD_WORKER,	/* a fresh worker, its backend stays */
	RELOAD_BACKEND, /* a backend that we start has to be another one */
};
enum reload_effect reload_device_effect(
	const struct config_device *before, const struct config_device *after);
/* Does a change of the outer settings concern the workers (they are told once, at their start)? */
bool reload_concerns_workers(const struct config *before, const struct config *after);
/* Appends the names of changed keys that need a new process; nothing when there are none. */
void reload_fixed_keys(const struct config *before, const struct config *after, struct buf *out);

#endif
