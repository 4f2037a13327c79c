/* Numbers as text, without printf(): a fast stream writes three a token. */
#ifndef TANDEM_FAKE_DIGITS_H
#define TANDEM_FAKE_DIGITS_H

#include "common/base/buf.h"

#include <stdint.h>

#define DIGITS_BYTES 20 /* what a uint64_t takes at most, in base 10 */

/* n in base 10 or 16, with zeroes in front up to width (at most DIGITS_BYTES). */
static inline struct slice digits(
	char room[DIGITS_BYTES], uint64_t n, unsigned base, unsigned width)
{
	char *end = room + DIGITS_BYTES, *p = end;

	do
		*--p = "0123456789abcdef"[n % base];
	while ((n /= base) || end - p < (int)width);
	return (struct slice){p, (size_t)(end - p)};
}

#endif
