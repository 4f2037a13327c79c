/*
 * Filling a main device's prefix cache while nobody waits: the prompt that a conversation will
 * continue is read before it is asked for.
 *
 * One at a time for each device, started only where nothing else runs or waits there, and ended at
 * once when anything else comes (job.c). What was read by then stays in the cache, and is known to
 * be there. Loop thread only.
 */
#ifndef TANDEM_WARMING_H
#define TANDEM_WARMING_H

#include "common/dialect/dialect.h"
#include "supervisor/devices/device.h"
#include "supervisor/requests/history.h"
#include "supervisor/requests/unread.h"

/* What is to be read; the slices are copied. */
struct warming_spec {
	const char *why;	 /* static words for the log */
	struct history *history; /* where the request's record tells of it */
	struct slice request_id;
	enum dialect dialect;
	struct slice model;
	struct slice authorization; /* the client's header; empty: none */
	uint64_t client;
	int64_t num_ctx;       /* as the conversation's requests have it */
	uint64_t tokens;       /* of the prompt, about */
	uint64_t behind;       /* of these, behind what its chain has: of the next message */
	struct unread *unread; /* told when it is all read; NULL: nobody. Outlives the device */
	uint64_t freeze;       /* ... that this one is (unread.h) */
};

/* Does it make sense: a device that is ready and idle, and uses a prefix again? */
bool warming_possible(const struct device *d);

/* Of the one under way: tokens that are expected to be there. */
double warming_cached(const struct device *d);

/* Starts; takes body and chain, which are empty afterwards. False: it was not possible. */
bool warming_start(struct device *d, const struct warming_spec *spec, struct buf *body,
	struct prefix_chain *chain);

#endif
