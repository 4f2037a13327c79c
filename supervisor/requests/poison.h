/*
 * Requests that workers died of: a request that has ended two of them is refused, and so is the
 * same body when the same client sends it again, instead of ending a third.
 *
 * A fixed ring of hashes, the oldest overwritten; nothing is allocated, nothing blocks. The hash is
 * SipHash-2-4 with a key of this process, so that nobody can find a body that is taken for
 * another's. Times are ms of the monotonic clock.
 */
#ifndef TANDEM_POISON_H
#define TANDEM_POISON_H

#include "common/base/buf.h"

#include <stdint.h>

#define POISON_ENTRIES 64
#define POISON_MS 600000 /* a body is refused for so long: a fixed backend gets another chance */

struct poison {
	uint64_t key[2];
	struct {
		uint64_t hash, until_ms;
	} ring[POISON_ENTRIES];
	unsigned next;
	bool used; /* false (zero): no body was ever added, and there is no key yet */
};

/* The hash of a client's body, on any thread once the ring is used. */
uint64_t poison_hash(const struct poison *p, uint64_t client, struct slice body);

/* Remembers the body. Without randomness from the system it is not remembered. */
void poison_add(struct poison *p, uint64_t client, struct slice body, uint64_t now);

/* Whether a body of that hash was added in the last POISON_MS. */
bool poison_has(const struct poison *p, uint64_t hash, uint64_t now);

#endif
