/*
 * Content-Encoding of requests (RFC 9110 8.4; zstd: RFC 8878): what a client has packed is
 * unpacked, up to a cap. Pure; any thread. It takes about 3 ms a megabyte: not for a loop.
 */
#ifndef TANDEM_UNPACK_H
#define TANDEM_UNPACK_H

#include "common/base/buf.h"

enum unpack_coding {
	UNPACK_NONE, /* none, or "identity" */
	UNPACK_GZIP, /* "gzip", "x-gzip", and "deflate" */
	UNPACK_ZSTD,
	UNPACK_UNKNOWN, /* any other, and several at once */
};

/* For answers with 415: what we take. */
#define UNPACK_ACCEPTED "zstd, gzip, deflate"

/* Of a header's value, NULL when there is none. */
enum unpack_coding unpack_coding(const char *value);

/* Appends to out, whose max is the cap. 0; -EINVAL when in is not (whole) data of that coding;
 * -E2BIG over the cap; -ENOMEM. */
int unpack(enum unpack_coding coding, struct slice in, struct buf *out);

#endif
