#include "supervisor/requests/poison.h"

#include <string.h>
#include <sys/random.h>

/* --- SipHash-2-4 (Aumasson, Bernstein) --- */

static uint64_t turn(uint64_t v, int by)
{
	return v << by | v >> (64 - by);
}

static void rounds(uint64_t v[4], int n)
{
	while (n-- > 0) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = turn(v[1], 13) ^ v[0];
		v[3] = turn(v[3], 16) ^ v[2];
		v[0] = turn(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = turn(v[1], 17) ^ v[2];
		v[3] = turn(v[3], 21) ^ v[0];
		v[2] = turn(v[2], 32);
	}
}

/* The next n <= 8 bytes, little end first. */
static uint64_t word(const char *p, size_t n)
{
	uint64_t w = 0;
	for (size_t i = 0; i < n; i++)
		w |= (uint64_t)(unsigned char)p[i] << (8 * i);
	return w;
}

uint64_t poison_hash(const struct poison *p, uint64_t client, struct slice body)
{
	uint64_t key = p->key[0] ^ client; /* each client has a key of its own */
	uint64_t v[4] = {key ^ 0x736f6d6570736575u, p->key[1] ^ 0x646f72616e646f6du,
		key ^ 0x6c7967656e657261u, p->key[1] ^ 0x7465646279746573u};
	size_t at = 0;
	for (bool last = false; !last; at += 8) {
		size_t left = body.n - at;
		last = left < 8;
		uint64_t w = word(body.p + at, last ? left : 8);
		if (last)
			w |= (uint64_t)body.n << 56;
		v[3] ^= w;
		rounds(v, 2);
		v[0] ^= w;
	}
	v[2] ^= 0xff;
	rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* --- the ring --- */

void poison_add(struct poison *p, uint64_t client, struct slice body, uint64_t now)
{
	if (!p->used && getrandom(p->key, sizeof(p->key), GRND_NONBLOCK) != sizeof(p->key))
		return;
	p->used = true;
	unsigned at = p->next++ % POISON_ENTRIES;
	p->ring[at].hash = poison_hash(p, client, body);
	p->ring[at].until_ms = now + POISON_MS;
}

bool poison_has(const struct poison *p, uint64_t hash, uint64_t now)
{
	for (unsigned i = 0; p->used && i < POISON_ENTRIES; i++)
		if (p->ring[i].until_ms > now && p->ring[i].hash == hash)
			return true;
	return false;
}
