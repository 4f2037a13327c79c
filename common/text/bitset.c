#include "common/text/bitset.h"

#include <errno.h>
#include <stdlib.h>

int bitset_init(struct bitset *b, size_t n)
{
	*b = (struct bitset){.n = n};
	for (size_t words = n; b->levels < BITSET_LEVELS; b->levels++) {
		words = words / 64 + 1;
		b->level[b->levels] = calloc(words, sizeof(uint64_t));
		if (!b->level[b->levels]) {
			bitset_fini(b);
			return -ENOMEM;
		}
		if (words == 1) {
			b->levels++;
			break;
		}
	}
	return 0;
}

void bitset_fini(struct bitset *b)
{
	for (unsigned k = 0; k < BITSET_LEVELS; k++)
		free(b->level[k]);
	*b = (struct bitset){0};
}

void bitset_set(struct bitset *b, size_t i)
{
	for (unsigned k = 0; k < b->levels; k++, i /= 64)
		b->level[k][i / 64] |= UINT64_C(1) << (i % 64);
}

size_t bitset_next(const struct bitset *b, size_t i)
{
	if (i >= b->n)
		return BITSET_NONE;
	size_t at = i;
	for (unsigned k = 0; k < b->levels; k++) {
		/* Above the first level the word of `at` itself was already looked at. */
		uint64_t rest = b->level[k][at / 64] >> (at % 64) << (at % 64);
		if (k)
			rest &= ~(UINT64_C(1) << (at % 64));
		if (rest) {
			at = at / 64 * 64 + (size_t)__builtin_ctzll(rest);
			while (k-- > 0)
				at = at * 64 + (size_t)__builtin_ctzll(b->level[k][at]);
			return at;
		}
		at /= 64;
	}
	return BITSET_NONE;
}

size_t bitset_before(const struct bitset *b, size_t i)
{
	size_t at = i;
	for (unsigned k = 0; k < b->levels; k++) {
		uint64_t rest = b->level[k][at / 64] & ((UINT64_C(1) << (at % 64)) - 1);
		if (rest) {
			at = at / 64 * 64 + 63 - (size_t)__builtin_clzll(rest);
			while (k-- > 0)
				at = at * 64 + 63 - (size_t)__builtin_clzll(b->level[k][at]);
			return at;
		}
		at /= 64;
	}
	return BITSET_NONE;
}
