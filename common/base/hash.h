/*
 * 64-bit hashes of bytes, and a set of them.
 *
 * Not keyed: a text made to collide can only make its own selection worse. Byte order shows in the
 * values, so they are no format for other machines.
 */
#ifndef TANDEM_TEXT_HASH_H
#define TANDEM_TEXT_HASH_H

#include "common/base/buf.h"

#include <stdint.h>

static inline uint64_t hash_mix(uint64_t h)
{
	h ^= h >> 32;
	h *= 0x9fb21c651e98df25u;
	h ^= h >> 28;
	return h;
}

static inline uint64_t hash_bytes(const char *p, size_t n)
{
	uint64_t h = 0x9e3779b97f4a7c15u ^ n, v;
	for (; n >= sizeof(v); p += sizeof(v), n -= sizeof(v)) {
		memcpy(&v, p, sizeof(v));
		h = hash_mix(h ^ v);
	}
	for (v = 0; n > 0; n--)
		v = v << 8 | (unsigned char)p[n - 1];
	return hash_mix(hash_mix(h ^ v));
}

/* Zero-initialise; owns its slots. */
struct hashset {
	uint64_t *slot;
	size_t mask, n;
};

void hashset_fini(struct hashset *s);

/* 1 when h is new, 0 when it was there, -ENOMEM. */
int hashset_add(struct hashset *s, uint64_t h);

bool hashset_has(const struct hashset *s, uint64_t h);

#endif
