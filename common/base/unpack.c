#include "common/base/unpack.h"

#include <errno.h>
#include <stdint.h>
#include <strings.h>
#include <zlib.h>
#include <zstd.h>

#define PIECE_BYTES 65536
#define ANY_WRAPPER (15 + 32) /* zlib's greatest window; gzip and zlib headers are told apart */

enum unpack_coding unpack_coding(const char *value)
{
	static const struct {
		const char *name;
		enum unpack_coding coding;
	} names[] = {{"", UNPACK_NONE}, {"identity", UNPACK_NONE}, {"gzip", UNPACK_GZIP},
		{"x-gzip", UNPACK_GZIP}, {"deflate", UNPACK_GZIP}, {"zstd", UNPACK_ZSTD}};
	if (!value)
		return UNPACK_NONE;
	value += strspn(value, " \t");
	size_t n = strcspn(value, " \t");
	if (value[n + strspn(value + n, " \t")])
		return UNPACK_UNKNOWN;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (n == strlen(names[i].name) && strncasecmp(value, names[i].name, n) == 0)
			return names[i].coding;
	return UNPACK_UNKNOWN;
}

/* The members of a gzip body follow one another (RFC 1952 2.2). */
static int unpack_gzip(struct slice in, struct buf *out)
{
	static const size_t step = (size_t)1 << 30; /* zlib counts in unsigned */
	char piece[PIECE_BYTES];
	z_stream z = {0};
	size_t at = 0;
	int rc = Z_OK;
	if (inflateInit2(&z, ANY_WRAPPER) != Z_OK)
		return -ENOMEM;
	do {
		if (rc == Z_STREAM_END && inflateReset(&z) != Z_OK)
			break;
		size_t n = in.n - at < step ? in.n - at : step;
		z.next_in = (Bytef *)(uintptr_t)(in.p + at);
		z.avail_in = (unsigned)n;
		z.next_out = (Bytef *)piece;
		z.avail_out = sizeof(piece);
		rc = inflate(&z, Z_NO_FLUSH);
		at += n - z.avail_in;
		buf_add(out, piece, sizeof(piece) - z.avail_out);
	} while (!buf_error(out) && (rc == Z_OK || (rc == Z_STREAM_END && at < in.n)));
	inflateEnd(&z);
	if (buf_error(out))
		return buf_error(out);
	return rc == Z_STREAM_END && at == in.n ? 0 : rc == Z_MEM_ERROR ? -ENOMEM : -EINVAL;
}

static int unpack_zstd(struct slice in, struct buf *out)
{
	char piece[PIECE_BYTES];
	ZSTD_inBuffer from = {in.p, in.n, 0};
	ZSTD_DStream *z = ZSTD_createDStream();
	size_t left = 1;
	bool full;
	if (!z)
		return -ENOMEM;
	do { /* a full piece may not have been all that there was */
		ZSTD_outBuffer to = {piece, sizeof(piece), 0};
		left = ZSTD_decompressStream(z, &to, &from);
		full = left > 0 && to.pos == to.size;
		buf_add(out, piece, to.pos);
	} while (!ZSTD_isError(left) && !buf_error(out) && (from.pos < from.size || full));
	ZSTD_freeDStream(z);
	if (buf_error(out))
		return buf_error(out);
	return left == 0 ? 0 : -EINVAL;
}

int unpack(enum unpack_coding coding, struct slice in, struct buf *out)
{
	switch (coding) {
	case UNPACK_NONE:
		return buf_add_slice(out, in);
	case UNPACK_GZIP:
		return unpack_gzip(in, out);
	case UNPACK_ZSTD:
		return unpack_zstd(in, out);
	case UNPACK_UNKNOWN:
		break;
	}
	return -EINVAL;
}
