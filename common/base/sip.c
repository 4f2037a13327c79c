#include "common/base/sip.h"

static uint64_t rotl(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1], v[1] = rotl(v[1], 13) ^ v[0], v[0] = rotl(v[0], 32);
	v[2] += v[3], v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3], v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1], v[1] = rotl(v[1], 17) ^ v[2], v[2] = rotl(v[2], 32);
}

void sip_init(struct sip *s, const uint64_t key[2])
{
	*s = (struct sip){.v = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
				  key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u}};
}

static void take(struct sip *s, uint64_t word)
{
	s->v[3] ^= word;
	sip_round(s->v);
	sip_round(s->v);
	s->v[0] ^= word;
}

/* Eight bytes, the first one lowest. */
static uint64_t word_at(const unsigned char *p)
{
	uint64_t w = 0;
	for (int i = 8; i-- > 0;)
		w = w << 8 | p[i];
	return w;
}

void sip_add(struct sip *s, const void *p, size_t n)
{
	const unsigned char *at = p, *end = at + n;
	while (at < end && s->n % 8) { /* the word in the making */
		s->word |= (uint64_t)*at++ << (s->n++ % 8 * 8);
		if (s->n % 8 == 0) {
			take(s, s->word);
			s->word = 0;
		}
	}
	for (; end - at >= 8; at += 8, s->n += 8)
		take(s, word_at(at));
	for (; at < end; at++)
		s->word |= (uint64_t)*at << (s->n++ % 8 * 8);
}

uint64_t sip_end(struct sip *s)
{
	take(s, s->word | s->n << 56);
	s->v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(s->v);
	return s->v[0] ^ s->v[1] ^ s->v[2] ^ s->v[3];
}
