/*
 * The head of one HTTP/1 request: request line and headers, read strictly (RFC 9112, 9110).
 *
 * What is read here is all that the gateway ever sees of a head: libmicrohttpd gets one that is
 * made of it (inlet.h), so there are no two readers that could disagree on where a request ends.
 *
 * A line ends with CRLF or a bare LF (RFC 9112, 2.2, and what nginx does). Everything else that
 * readers are known to see in different ways is refused: a bare CR, NUL or another control
 * character anywhere, white space before a header, in its name or behind it, folded lines, two of
 * Host, Content-Length, Transfer-Encoding or Origin, Content-Length beside Transfer-Encoding, a
 * Content-Length that is not digits alone, any coding but "chunked", a Host that is no authority.
 *
 * Pure: no I/O. Strings are NUL-terminated and lie in the head's own bytes.
 */
#ifndef TANDEM_HTTP_HEAD_H
#define TANDEM_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define HEAD_TARGET_BYTES 65535 /* longest request target: it crosses to a worker as one text */
#define HEAD_METHOD_BYTES 32

/* What the heads of all connections may hold together; those up to HEAD_SMALL_BYTES are exempt, so
 * that large ones shut nobody out. */
#define HEAD_SMALL_BYTES 16384
struct head_room {
	size_t used, max;
};

struct head_field {
	const char *name, *value; /* value without the white space around it */
};

struct head {
	STAILQ_ENTRY(head) link; /* in inlet.heads */
	char *bytes;		 /* what the client sent; its line ends are NULs now */
	size_t size;		 /* bytes of it */
	const char *method;
	const char *target; /* origin form, or "*": "/api/tags?x=%20y" */
	char *made_target;  /* the same where it had to be made, else NULL */
	char *authority;    /* of an absolute-form target: it counts instead of Host (RFC 9112,
			       3.2.2); else NULL */
	struct head_field *fields;
	size_t count;
	struct head_room *room; /* head_fini() gives `counted` bytes back to it; NULL: none */
	size_t counted;
	int64_t body_bytes;    /* Content-Length; -1 chunked; 0 none */
	bool old_http;	       /* HTTP/1.0 */
	bool close, keep;      /* what Connection says */
	bool expects_continue; /* Expect: 100-continue */
};

/* Why a request is refused: an HTTP status and a short text for the client. status 0: it is not. */
struct head_fault {
	int status;
	const char *text;
};

/*
 * Looks at the bytes of a head as they come, so that what can never become one is refused at its
 * first wrong byte. Zeroed at the start of each head.
 */
struct head_scan {
	size_t at;	    /* bytes looked at */
	size_t line;	    /* where the present line begins */
	unsigned lines;	    /* complete ones, without empty ones before the request line */
	size_t empty_bytes; /* of empty lines before the request line */
	bool cr;	    /* the last byte was a CR */
};

/*
 * Goes on over p[0..n), of which the first scan->at bytes were looked at before. True at the end of
 * the head, or at a fault: fault->status is not 0 then. At the end scan->at is its size. False:
 * more bytes are needed.
 */
bool head_scan(struct head_scan *scan, const char *p, size_t n, struct head_fault *fault);

/*
 * Reads a complete head of n bytes, as head_scan() found it and with a NUL behind it, into *out;
 * the bytes (malloc'd) are the head's from now on unless there is a fault. fields_max: headers
 * beyond that many are a fault (431).
 */
void head_parse(
	char *bytes, size_t n, size_t fields_max, struct head *out, struct head_fault *fault);
void head_fini(struct head *h);

/* The first header of that name (ASCII case ignored), or NULL. */
const char *head_value(const struct head *h, const char *name);

/* Is this "host", "host:port", "[v6]" or "[v6]:port", and nothing else? Empty is one, too. */
bool head_authority_sound(const char *s);

#endif
