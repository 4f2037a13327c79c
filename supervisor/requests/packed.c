#include "supervisor/requests/packed.h"

#include <errno.h>
#include <stdio.h>

size_t packed_room(const struct requests *s)
{
	size_t most = (size_t)s->config->limits.unpacked_bytes,
	       all = (size_t)s->config->limits.body_total_bytes,
	       left = s->held_bytes < all ? all - s->held_bytes : 1;
	return left < most ? left : most;
}

static const char *coding_of(const struct request *r)
{
	const char *coding = exchange_header(r->exchange, "Content-Encoding");
	return coding ? coding : "";
}

void packed_unknown(struct request *r, char text[PACKED_TEXT_BYTES])
{
	snprintf(text, PACKED_TEXT_BYTES,
		"Content-Encoding \"%.64s\" is not supported, only " UNPACK_ACCEPTED, coding_of(r));
	exchange_add_header(r->exchange, "Accept-Encoding", SLICE(UNPACK_ACCEPTED));
}

int packed_broken(const struct request *r, int rc, char text[PACKED_TEXT_BYTES])
{
	if (rc == -ENOMEM) {
		snprintf(text, PACKED_TEXT_BYTES, "out of memory");
		return 503;
	}
	if (rc == -E2BIG) {
		snprintf(text, PACKED_TEXT_BYTES,
			"the request body unpacks to more than limits.unpacked_bytes");
		return 413;
	}
	snprintf(text, PACKED_TEXT_BYTES,
		"the request body is not whole %.16s data, as its Content-Encoding says",
		coding_of(r));
	return 400;
}
