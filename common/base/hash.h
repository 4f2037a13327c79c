/*
 * 64-bit hashes of bytes, and a set of them. None is keyed: where others choose the bytes and a
 * collision would do harm, sip.h is what to use.
 *
 * hash_bytes() is the quick one, for tables in memory: byte order shows in its values. hash_fnv() is
 * the same everywhere, so its values may stand in files.
 */
#ifndef TANDEM_HASH_H
#define TANDEM_HASH_H

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

/* FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo; draft-eastlake-fnv), which goes on where the last call
 * ended: h = HASH_FNV_START, then h = hash_fnv(h, ...) for each part. */
#define HASH_FNV_START 0xcbf29ce484222325u

static inline uint64_t hash_fnv(uint64_t h, const void *p, size_t n)
{
	for (const unsigned char *c = p; n; c++, n--)
		h = (h ^ *c) * 0x100000001b3u;
	return h;
}

/* A string with its NUL, so that "ab" "c" is not "a" "bc". NULL counts as "". */
static inline uint64_t hash_fnv_text(uint64_t h, const char *text)
{
	return text ? hash_fnv(h, text, strlen(text) + 1) : hash_fnv(h, "", 1);
}

/* Zero-initialise; owns its slots. */
struct hashset {
	uint64_t *slot;
	size_t mask, n;
};

void hashset_fini(struct hashset *s);

/* 1 when h is new, 0 when it was there, -ENOMEM. */
int hashset_add(struct hashset *s, uint64_t h);

#endif
