/*
 * What a layout decided, kept so that the next request of the same conversation costs only its new
 * part, and a cache of such states.
 *
 * A state is immutable and counted: a pool thread may read one that the loop's thread found, while
 * the cache lets go of it. Losing one costs time, never a byte. The cache belongs to one thread.
 */
#ifndef TANDEM_LAYOUT_STATE_H
#define TANDEM_LAYOUT_STATE_H

#include "common/layout/layout.h"

struct layout_state;

/* A state of a layout that was made; the caller has one reference. NULL: no memory, or there is
 * nothing to keep. */
struct layout_state *layout_state_save(const struct layout *l);
void layout_state_release(struct layout_state *s); /* NULL is fine */

/* Inside of layout_make(): fills a fresh l from the state; *known messages are done. 0 or -ENOMEM.
 */
int layout_state_restore(const struct layout_state *s, struct layout *l, size_t *known);
/* Was it made for the same room and the same shares? */
bool layout_state_suits(const struct layout_state *s, const struct layout *l);

/* --- the cache --- */

#define LAYOUT_CACHE_BYTES (64u << 20) /* default cap; limits.layout_bytes */

struct layout_cache;

struct layout_cache *layout_cache_create(size_t max_bytes); /* NULL when memory is out */
void layout_cache_destroy(struct layout_cache *c);	    /* NULL is fine */
void layout_cache_limit(struct layout_cache *c, size_t max_bytes);

/* The newest state that the request's messages begin with, with a reference for the caller, or
 * NULL. chains and groups as layout_chains() gives them. */
struct layout_state *layout_cache_find(
	struct layout_cache *c, const uint64_t *chains, const uint32_t *groups, size_t count);

/* Takes over the caller's reference (NULL is fine); replaces what has the same messages. */
void layout_cache_put(struct layout_cache *c, struct layout_state *s);

/*
 * The window that this conversation (the chain of its beginning) was laid out for before, where
 * that is within 15 % of the window offered now: learning what a token is must not move its
 * bytes. Else the offered one, which is remembered. waits: one that is larger, by half at most, is
 * left for an early freeze, which takes it while nobody waits for the prompt. One that was set
 * stays where it is larger than the offered one by half at most: it was counted.
 */
double layout_cache_window(struct layout_cache *c, uint64_t beginning, double window, bool waits);
/* The same, and nothing is remembered: for a layout that is not sent. */
double layout_cache_look_window(
	const struct layout_cache *c, uint64_t beginning, double window, bool waits);

/* The window for it from now on: as an early freeze or an earlier life of ours settled it. */
void layout_cache_set_window(struct layout_cache *c, uint64_t beginning, double window);
/* The same, because the backend refused the one before: what a token is was learned from other text
 * than what is left. It is not made larger again until twice as much is offered (windows are raised
 * by doubling). */
void layout_cache_refused(struct layout_cache *c, uint64_t beginning, double window);
bool layout_cache_may_grow(const struct layout_cache *c, uint64_t beginning);

size_t layout_cache_bytes(const struct layout_cache *c); /* NULL: 0 */
size_t layout_cache_count(const struct layout_cache *c);

#endif
