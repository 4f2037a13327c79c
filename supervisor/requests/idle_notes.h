/*
 * Notes that a condensing device writes while nobody needs it, for digests to come
 * (condense.idle_notes; docs/layout.md).
 *
 * A run is a list of units (common/layout/units.h) that a device reads one piece after the other:
 * begun only where nothing else runs or waits, ended at once when anything else comes (job.h:
 * yields). What was written by then stays. Nobody waits for a run, and nothing fails with it. What a
 * model writes is judged as it comes (notes_worth.h).
 *
 * Owned by struct requests. Loop thread only; idle_notes_create() reads the disk.
 */
#ifndef TANDEM_IDLE_NOTES_H
#define TANDEM_IDLE_NOTES_H

#include "supervisor/requests/notes_table.h"
#include "supervisor/requests/notes_worth.h"
#include "supervisor/requests/requests.h"

#define IDLE_UNITS_MAX 8     /* of one run: about a minute of a small card */
#define IDLE_MODEL_MS 600000 /* so long the model that a client asked for stays undisturbed */
#define IDLE_PAUSE_MS 30000  /* after a failure its device writes none for so long */

struct idle_notes_counts {
	uint64_t written;	/* answers of models */
	uint64_t kept, dropped; /* their lines that held, and that did not */
	uint64_t used;		/* digests that were made with some */
	uint64_t preempted;	/* runs that made way */
	uint64_t failed;	/* runs that ended with an error */
	uint64_t bytes;		/* of lines that held */
};

struct idle_notes {
	struct requests *all;
	struct notes_table table;
	struct notes_worth worth;
	struct idle_notes_counts count;
	bool reading; /* the thread pool is at a conversation's units; one at a time */
};

/* A unit as it is to be read; owns the texts. */
struct idle_unit {
	uint64_t key; /* of struct layout_unit */
	struct buf text[LAYOUT_UNIT_CHUNKS];
	size_t count;
};

/* NULL: memory is out. Takes up what is kept. */
struct idle_notes *idle_notes_create(struct requests *s);
void idle_notes_destroy(struct idle_notes *n); /* NULL is fine */
/* The configuration may be another one: new bounds, and models that were given up may try again. */
void idle_notes_reloaded(struct idle_notes *n);

/* A device that could write now: for condensing alone, ready, idle, with a model that is not given
 * up. NULL: none. */
struct device *idle_notes_device(const struct idle_notes *n);

/* Bytes of a piece of a unit, for that device. */
size_t idle_notes_piece_bytes(const struct config *conf, const struct device *d);

/* Begins a run on idle_notes_device()'s answer; takes the texts of units[0..count). */
void idle_notes_start(struct idle_notes *n, struct device *d, struct idle_unit *units, size_t count,
	struct slice request_id, uint64_t client);

/* Keeps what a digest at the group end of that chain was made with. */
void idle_notes_decided(struct idle_notes *n, uint64_t chain, struct slice packed, size_t bytes);

#endif
