#include "supervisor/requests/poison.h"

#include "common/base/sip.h"

#include <string.h>
#include <sys/random.h>

uint64_t poison_hash(const struct poison *p, uint64_t client, struct slice body)
{
	/* each client has a key of its own */
	const uint64_t key[2] = {p->key[0] ^ client, p->key[1]};
	struct sip s;
	sip_init(&s, key);
	sip_add(&s, body.p, body.n);
	return sip_end(&s);
}

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
