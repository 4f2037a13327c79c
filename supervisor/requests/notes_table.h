/*
 * The notes that there are for digests to come, the notes that digests were made with, and what of
 * both a layout is told.
 *
 * A note is found by what it is about (units.h), the model that wrote it and NOTES_VERSION; what a
 * digest was made with by the chain of its group end. In memory, bounded; who creates it fills it
 * from the disk and keeps what is put. Losing a note costs its worth, losing a decision one cold
 * prompt. One thread; nothing blocks.
 */
#ifndef TANDEM_NOTES_TABLE_H
#define TANDEM_NOTES_TABLE_H

#include "common/base/memo.h"
#include "common/config/config.h"
#include "common/layout/layout.h"
#include "common/layout/units.h"
#include "supervisor/devices/keep.h"

#define NOTES_BYTES_A_TOKEN 3.5 /* of the texts that a small model reads */
#define NOTES_UNIT_SHARE .5	/* of a chunk: a unit that has so much is full */
#define NOTES_MODELS_MAX 8	/* that are asked for one conversation's notes */
#define NOTES_TEXT_MAX 4096	/* bytes of notes about one unit that are kept */
#define NOTES_BODY_MAX                                                                             \
	(8u << 20) /* a larger request gets no new notes: looking for them would
				     take the loop's time */

struct notes_table {
	struct memo *notes, *digests; /* each with the bound */
};

/* 0 or -ENOMEM; notes_table_fini() either way. */
int notes_table_init(struct notes_table *t, size_t max_bytes);
void notes_table_fini(struct notes_table *t);
/* Takes up what is kept. Reads the disk. */
void notes_table_load(struct notes_table *t, const struct keep *k);
void notes_table_limit(struct notes_table *t, size_t max_bytes);

/* The key of a note, in memory and on the disk. */
uint64_t notes_key(uint64_t unit, struct slice model);
/* The key of what a digest was made with at the group end of that chain. */
uint64_t notes_digest_key(uint64_t chain);

/* A device with these roles (enum device_role) writes notes: one that answers too would lose what
 * it has cached of conversations. */
static inline bool notes_are_written_by(unsigned roles)
{
	return (roles & ROLE_CONDENSE) && !(roles & ROLE_MAIN);
}

/* Bytes from which on a unit is full. */
size_t notes_unit_bytes(const struct config *conf);

/* Who may have written notes. */
struct notes_models {
	struct slice name[NOTES_MODELS_MAX];
	size_t count;
};

/* What a layout's options take. Owns what they point to. */
struct notes_offer {
	struct layout_noted *noted;
	size_t noted_count;
	struct buf bytes;   /* of noted */
	struct buf offered; /* packed */
};

/*
 * Fills *o for a request: what was decided at any of its group ends and, with unit_bytes > 0, the
 * notes that are there about its groups, the newest as far as LAYOUT_NOTES_MAX goes. chains and
 * groups as layout_chains() gives them. 0 or -ENOMEM (then *o is empty). notes_offer_fini() always;
 * zero-initialise.
 */
int notes_offer_make(struct notes_offer *o, struct notes_table *t, const struct chat_request *r,
	const uint64_t *chains, const uint32_t *groups, const struct notes_models *models,
	size_t unit_bytes);
void notes_offer_fini(struct notes_offer *o);
void notes_offer_tell(const struct notes_offer *o, struct layout_options *options);

/* How many decisions there are now at the request's group ends. */
size_t notes_decisions(
	struct notes_table *t, const uint64_t *chains, const uint32_t *groups, size_t count);

#endif
