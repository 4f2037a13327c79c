/*
 * Between keep.c (the file's life, and what waits to be written), keep_decisions.c and keep_values.c (what stands in it).
 * Nobody else includes this.
 */
#ifndef TANDEM_KEEP_PRIVATE_H
#define TANDEM_KEEP_PRIVATE_H

#include "supervisor/devices/keep.h"

/* A value that waits to be written; owns its bytes. */
struct keep_pending {
	enum store_kind kind;
	struct buf key, value;
};

struct keep_decision {
	uint64_t chain;
	int64_t at_s; /* of the calendar */
};

struct keep {
	uv_loop_t *loop;
	struct store *store;		 /* NULL: there is none */
	uint64_t *chains;		 /* sorted */
	struct keep_decision *decisions; /* in the order they came */
	size_t count;
	struct keep_pending queue[KEEP_QUEUE_MAX], writing[KEEP_QUEUE_MAX];
	size_t queued, taken;
	uv_work_t work;
	bool busy, stopping;
	int rc;
};

/* keep.c: the value is written soon, in the place of one of that key that waits. Copies both. */
void keep_put(struct keep *k, enum store_kind kind, struct slice key, struct slice value);

/* keep_decisions.c; k->store is there. Both block on the disk. */
/* Reads the newest of those that are kept, each once. */
void keep_load_decisions(struct keep *k);
/* They stay kept (store.h: generations). */
void keep_touch_decisions(struct keep *k);

#endif
