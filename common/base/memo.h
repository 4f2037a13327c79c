/*
 * Bytes by 64-bit key, in memory, within a bound: what was not looked at longest goes first.
 *
 * Owns copies of what is put. One thread. Looking up and putting take constant time.
 */
#ifndef TANDEM_BASE_MEMO_H
#define TANDEM_BASE_MEMO_H

#include "common/base/buf.h"

#include <stdint.h>

#define MEMO_ENTRY_BYTES 64 /* what an entry counts beside its bytes */

struct memo;

struct memo *memo_create(size_t max_bytes); /* NULL when memory is out */
void memo_destroy(struct memo *m);	    /* NULL is fine */
/* Another bound; what is above it goes at once. */
void memo_limit(struct memo *m, size_t max_bytes);

/* Replaces what has that key. 0, -ENOMEM, or -E2BIG: larger than the bound by itself. */
int memo_put(struct memo *m, uint64_t key, struct slice bytes);

/* False: nothing has that key. *bytes are valid until the next memo_put() or memo_limit(). */
bool memo_get(struct memo *m, uint64_t key, struct slice *bytes);

/* The same, and true the first time that an entry is looked at. */
bool memo_is_first_look(struct memo *m, uint64_t key);

size_t memo_bytes(const struct memo *m); /* NULL: 0 */
size_t memo_count(const struct memo *m); /* NULL: 0 */

#endif
