/*
 * SipHash-2-4 (J.-P. Aumasson, D. J. Bernstein: "SipHash: a fast short-input PRF", 2012): a keyed hash
 * of bytes that others choose. Who does not know the key cannot find two inputs of one value.
 *
 * Pure, nothing blocks. Pieces may be added in any size: the value is that of the bytes in a row.
 */
#ifndef TANDEM_SIP_H
#define TANDEM_SIP_H

#include <stddef.h>
#include <stdint.h>

struct sip {
	uint64_t v[4], word; /* word: the last n % 8 bytes */
	uint64_t n;	     /* bytes */
};

void sip_init(struct sip *s, const uint64_t key[2]);

void sip_add(struct sip *s, const void *p, size_t n);

/* The value; s is used up. */
uint64_t sip_end(struct sip *s);

#endif
