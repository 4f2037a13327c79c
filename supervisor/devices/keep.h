/*
 * What should last over restarts, in state_dir/tandem.mdb (common/base/store.h): decisions to freeze a
 * conversation early, the windows that conversations were laid out for, how fast the devices are,
 * what conversations in files are about, and what models have taught about tokens.
 *
 * Decisions are held in memory as well, since every layout asks for them: at most
 * KEEP_DECISIONS_MAX, those of the last KEEP_DAYS days. Writing happens on the thread pool, one
 * transaction at a time; what waits meanwhile is bounded by KEEP_QUEUE_MAX values, the oldest go.
 * Without a store (no permission, no space) everything works, and is forgotten at the end. Loop
 * thread only; keep_start() blocks on the disk.
 */
#ifndef TANDEM_KEEP_H
#define TANDEM_KEEP_H

#include "common/base/store.h"
#include "common/tokens.h"
#include "supervisor/devices/predict.h"
#include "supervisor/devices/prefix.h"

#include <uv.h>

#define KEEP_FILE "tandem.mdb"
#define KEEP_DECISIONS_MAX 4096
#define KEEP_DAYS 30
#define KEEP_QUEUE_MAX 256

struct keep;

/* dir is made (0700) if it is not there. NULL: memory is out. */
struct keep *keep_start(uv_loop_t *loop, const char *dir, size_t max_bytes);
/* To look at what a tandemd has kept, without a loop: nothing is made, changed or written.
 * keep_stop() is not needed. 0 or store_open_reading()'s error. */
int keep_open(const char *dir, size_t max_bytes, struct keep **out);
/* Writes what waits; nothing is kept from now on. The loop must run until it has nothing to do. */
void keep_stop(struct keep *k);
/* After that. NULL does nothing. */
void keep_destroy(struct keep *k);

/* The chains (common/layout/layout.h) at which a freeze was decided early, sorted; valid until the
 * next keep_decide(). */
const uint64_t *keep_decisions(const struct keep *k, size_t *count);
/* Orders them, for bsearch(). */
int keep_by_chain(const void *a, const void *b);
/* One more. Again is nothing new. */
void keep_decide(struct keep *k, uint64_t chain);

/* A conversation (the chain of its beginning) was laid out for that window: from now on it is. */
void keep_window(struct keep *k, uint64_t beginning, double window);
/* Calls fn for each of them. Reads the disk. */
typedef void keep_window_fn(void *ctx, uint64_t beginning, double window);
void keep_windows(const struct keep *k, keep_window_fn *fn, void *ctx);

/* Notes of small models, and what digests were made with (kind STORE_NOTE or STORE_DIGEST), by
 * their keys (notes_table.h). */
void keep_note(struct keep *k, enum store_kind kind, uint64_t key, struct slice value);
/* Calls fn for each of them. Reads the disk. */
typedef void keep_note_fn(void *ctx, uint64_t key, struct slice value);
void keep_notes(const struct keep *k, enum store_kind kind, keep_note_fn *fn, void *ctx);

/* What was last sent of a conversation that waits in a file (saved.h). keep_chain() reads the disk;
 * an empty chain: nothing is known. Longer ones than KEEP_LINKS_MAX are not kept. */
#define KEEP_LINKS_MAX (STORE_VALUE_MAX / KEEP_LINK_BYTES)
#define KEEP_LINK_BYTES 12
void keep_save_chain(struct keep *k, uint64_t conversation, const struct prefix_chain *chain);
void keep_chain(const struct keep *k, uint64_t conversation, struct prefix_chain *out);

void keep_tokens(struct keep *k, const struct tokens *t, struct slice model);
/* Teaches t all that is kept. Reads the disk. */
void keep_teach(const struct keep *k, struct tokens *t);

/* False: nothing is known of that device; r is then as predict_init() leaves it. */
bool keep_rates(const struct keep *k, const char *device, struct predict_rates *r);
void keep_save_rates(struct keep *k, const char *device, const struct predict_rates *r);

#endif
