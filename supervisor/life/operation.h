/*
 * What an operator has asked for: restarts, drains, resets, reloads, upgrades.
 *
 * An operation takes time; tandemctl gets its number at once and then asks for its outcome. The
 * last OPERATIONS_KEPT are remembered, ended or not. No memory is allocated, nothing blocks.
 */
#ifndef TANDEM_OPERATION_H
#define TANDEM_OPERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPERATIONS_KEPT 64
#define OPERATION_TARGET_BYTES 32
#define OPERATION_WHY_BYTES 512

enum operation_state { OPERATION_RUNNING, OPERATION_DONE, OPERATION_FAILED };

struct operation {
	uint64_t id;	  /* from 1; 0: an empty place */
	const char *kind; /* static: "restart", "drain", "reset", "reload", "upgrade" */
	char target[OPERATION_TARGET_BYTES]; /* a device's name, or "all" */
	enum operation_state state;
	char why[OPERATION_WHY_BYTES]; /* what failed, or what was done; for people */
	uint64_t begun_ms, ended_ms;   /* monotonic; ended_ms 0: not yet */
	unsigned open;		       /* parts under way: devices of "all" */
};

struct operations {
	struct operation kept[OPERATIONS_KEPT];
	uint64_t last_id;
};

/* A new operation of `parts` parts that end one by one. Never NULL: the oldest makes room. */
struct operation *operation_begin(struct operations *o, const char *kind, const char *target,
	unsigned parts, uint64_t now_ms);
/* One part more for an operation under way. */
void operation_add_part(struct operations *o, uint64_t id);
/* One part has ended. The operation has when all have; one failed part makes it a failed one. why
 * may be NULL; the whys of several parts are joined. Unknown ids are ignored (long forgotten). */
void operation_part_ended(
	struct operations *o, uint64_t id, bool ok, const char *why, uint64_t now_ms);
/* NULL: no such operation, or forgotten. */
const struct operation *operation_find(const struct operations *o, uint64_t id);

const char *operation_state_name(enum operation_state s); /* "running", "done", "failed" */

#endif
