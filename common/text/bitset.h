/*
 * A set of small numbers that finds its neighbours: next and previous member in O(log64 n).
 */
#ifndef TANDEM_TEXT_BITSET_H
#define TANDEM_TEXT_BITSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITSET_LEVELS 6 /* 64^6 numbers */
#define BITSET_NONE SIZE_MAX

struct bitset {
	uint64_t *level[BITSET_LEVELS]; /* a bit of level k + 1 says that a word of level k is
					   not 0 */
	unsigned levels;
	size_t n;
};

/* The empty set over 0..n-1. 0 or -ENOMEM. */
int bitset_init(struct bitset *b, size_t n);
void bitset_fini(struct bitset *b);

void bitset_set(struct bitset *b, size_t i);

static inline bool bitset_has(const struct bitset *b, size_t i)
{
	return b->level[0][i / 64] >> (i % 64) & 1;
}

/* The first member >= i, or BITSET_NONE. */
size_t bitset_next(const struct bitset *b, size_t i);

/* The last member < i, or BITSET_NONE. */
size_t bitset_before(const struct bitset *b, size_t i);

#endif
