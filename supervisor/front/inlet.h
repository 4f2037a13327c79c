/*
 * One connection's incoming bytes, between the socket and libmicrohttpd.
 *
 * libmicrohttpd 0.9.75 keeps "Content-Length " as a header of that name, joins folded lines, ends
 * lines at a bare CR and values at a NUL, and searches a chunk's first line again with each byte;
 * its strict mode changes none of it. So it never sees what a client sent: an inlet reads heads
 * (head.h) and the framing of chunks strictly, and hands on a short head of its own making, body
 * bytes as they are, and chunk lines without extensions, leading zeros and trailers. What is wrong
 * ends the connection's input there, with a status for the client.
 *
 * Pure: no I/O, no clock. Bytes go in with inlet_push() and come out with inlet_take(); what waits
 * between is at most what one push brought and one short head.
 */
#ifndef TANDEM_HTTP_INLET_H
#define TANDEM_HTTP_INLET_H

#include "common/base/buf.h"
#include "supervisor/front/head.h"

/* Longest first line of a chunk, extension included, and longest trailer section. */
#define INLET_CHUNK_LINE_BYTES 256
#define INLET_TRAILER_BYTES 8192

STAILQ_HEAD(head_queue, head);

enum inlet_state {
	INLET_HEAD,	  /* between requests, or within a head */
	INLET_BODY,	  /* of a known length */
	INLET_CHUNK_LINE, /* size and extension */
	INLET_CHUNK_DATA,
	INLET_CHUNK_END, /* CRLF behind the data */
	INLET_TRAILER,
	INLET_REFUSED, /* nothing more is read */
};

struct inlet {
	enum inlet_state state;
	size_t header_bytes, fields_max; /* caps of one head */
	struct head_room *room;		 /* of all heads; NULL: no cap */
	size_t counted;			 /* of it, for `head` */
	struct head_fault fault;	 /* once REFUSED */
	bool in_body;	 /* once REFUSED: the fault is in the body of the last head */
	struct buf head; /* of an incomplete head */
	struct head_scan scan;
	char line[INLET_CHUNK_LINE_BYTES]; /* of an incomplete chunk line or trailer line */
	size_t line_n, trailer_n;
	uint64_t left;		 /* body bytes of a known length or of this chunk still to come */
	uint64_t body_bytes;	 /* bytes of bodies that have come, framing not counted */
	struct head_queue heads; /* complete, not yet taken: inlet_next_head() */
	struct buf out;
	size_t out_at;
};

/* room: may be NULL, else outlives the inlet and the heads that it gives out. */
void inlet_init(struct inlet *in, size_t header_bytes, size_t fields_max, struct head_room *room);
void inlet_fini(struct inlet *in);

/* Bytes from the socket. */
void inlet_push(struct inlet *in, const char *p, size_t n);
/* Bytes for libmicrohttpd; how many. */
size_t inlet_take(struct inlet *in, char *to, size_t max);
static inline size_t inlet_waiting(const struct inlet *in)
{
	return in->out.n - in->out_at;
}

/* So many bytes may go past the inlet, straight from the socket: they are of a body of known
 * length. inlet_passed() says how many did. */
static inline size_t inlet_passable(const struct inlet *in)
{
	if (in->state != INLET_BODY || inlet_waiting(in))
		return 0;
	return in->left < SIZE_MAX ? (size_t)in->left : SIZE_MAX;
}
void inlet_passed(struct inlet *in, size_t n);

/* The head of the next request whose bytes were taken; the caller's from now on (head_fini(),
 * free()). NULL: none. */
struct head *inlet_next_head(struct inlet *in);

/* Has a request begun that is not complete yet? In its head, in its body. */
static inline bool inlet_in_head(const struct inlet *in)
{
	return in->state == INLET_HEAD && in->head.n > 0;
}
static inline bool inlet_in_body(const struct inlet *in)
{
	return in->state != INLET_HEAD && in->state != INLET_REFUSED;
}

#endif
