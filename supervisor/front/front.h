/*
 * The HTTP front door: libmicrohttpd in external epoll mode, nested in the supervisor's libuv loop.
 *
 * An exchange is one HTTP request and its answer as the rest of the supervisor sees it. This module
 * owns sockets, parsing, keep-alive, chunked uploads, Expect: 100-continue, back-pressure both ways
 * and the detection of clients that leave, and refuses what is not strictly HTTP/1 (head.h) or
 * comes too slowly; it knows no dialect. All calls and callbacks are on the loop thread; nothing
 * blocks. Calls that wake a connection only mark it: MHD runs once per loop turn (no 1 ms or 10 ms
 * steps).
 *
 * Life: head -> body* -> body_end -> [exchange_head -> exchange_write* -> exchange_end |
 * exchange_abort] -> done. gone comes at most once, when the client leaves before exchange_end() or
 * exchange_abort(), and done follows within the turn. done comes exactly once, last, and never
 * before the end, the abort or gone; the exchange is freed after it. Requests that HTTP itself
 * forbids are refused here and are never seen as exchanges.
 *
 * A client that only half-closes counts as gone as soon as it would have to wait, as with Ollama;
 * what can be answered at once still reaches it.
 *
 * An answer may be given before the upload has ended. A small rest of the upload is then read and
 * thrown away and the connection lives on; before a large one the answer is sent at once and the
 * connection ends, but not before the client could read the answer (linger.c).
 */
#ifndef TANDEM_FRONT_H
#define TANDEM_FRONT_H

#include "common/base/buf.h"

#include <stdint.h>
#include <uv.h>

struct front;
struct exchange;

struct front_events {
	/* Request line and headers are in. Set exchange_context(), look at exchange_method() etc.
	 * May answer at once. */
	void (*head)(void *ctx, struct exchange *x);
	/* Body bytes (borrowed). Returns how many were taken; fewer than n pauses the upload until
	 * exchange_resume_body(). */
	size_t (*body)(void *ctx, struct exchange *x, const char *p, size_t n);
	void (*body_end)(void *ctx, struct exchange *x);
	/* So many answer bytes have been handed to the socket since the last call: room for more
	 * (credit). */
	void (*sent)(void *ctx, struct exchange *x, size_t n);
	/* The client is gone: closed, reset or timed out before the answer was complete. No more
	 * writes are useful. */
	void (*gone)(void *ctx, struct exchange *x);
	/* Last callback of this exchange. */
	void (*done)(void *ctx, struct exchange *x);
};

struct front_options {
	const char *address;	     /* IPv4 or IPv6 literal, or "localhost" */
	int port;		     /* 0: picked by the system */
	unsigned connections;	     /* at once */
	size_t header_bytes;	     /* request line and headers of one request */
	size_t header_total_bytes;   /* ... of all requests; those up to 16 KB are exempt */
	size_t headers;		     /* of one request, at most */
	unsigned head_ms;	     /* from a head's first byte to its last */
	unsigned body_ms, body_rate; /* bytes a second that a body must come with, looked at in
					windows of body_ms; a rate of 0: any */
	size_t stream_bytes; /* unsent answer bytes of one exchange: exchange_write() past it gives
				-ENOBUFS */
	unsigned idle_ms; /* without a byte either way while we wait for the client; full seconds */
	const char *certificate, *key; /* PEM files of TLS; NULL: without */
	int listen_fd; /* an already listening socket (the front's from now on, also when it
			     does not start), or -1 */
};

/* 0 or -errno with words in err (port taken, bad address, ...). */
int front_start(uv_loop_t *loop, const struct front_options *o, const struct front_events *e,
	void *ctx, struct front **out, struct buf *err);
/* "127.0.0.1:8512" with the real port. */
const char *front_address(const struct front *f);
/* True when only this machine can connect. */
bool front_is_loopback(const struct front *f);
bool front_has_tls(const struct front *f);
/* Reads certificate and key again, for connections from now on; blocks for the disk. 0 (without TLS, too), or
 * -errno with words in err: then nothing has changed. */
int front_renew(struct front *f, const char *certificate, const char *key, struct buf *err);
/* The listening socket; -1 once quiesced. Borrowed. */
int front_listen_fd(const struct front *f);
/* Stops accepting new connections; exchanges go on; answers get Connection: close. The listening
 * socket is closed, never shut down: another process may accept on it. */
void front_quiesce(struct front *f);
/* Once quiesced: closes connections that have been without a request and without a byte for
 * idle_ms (full seconds). Others get it when their turn has come; call it again and again, but not
 * from a callback of the front. */
void front_close_idle(struct front *f, unsigned idle_ms);
/* Is fd a listening TCP socket? -EINVAL with words in err when not. Then *same says whether it is
 * the address and port (0: any) that front_start() would listen at. */
int front_check_listener(int fd, const char *address, int port, bool *same, struct buf *err);
/* Open connections, of which with an exchange in progress. */
void front_counts(const struct front *f, unsigned *connections, unsigned *exchanges);
/* Ends every exchange (their done callbacks run) and frees everything. */
void front_stop(struct front *f);

/* --- one exchange --- */

void exchange_set_context(struct exchange *x, void *context);
void *exchange_context(const struct exchange *x);

const char *exchange_method(const struct exchange *x);
/* The request target, still percent-encoded, query included: "/api/tags?x=%20y". Of the absolute
 * form what stands behind the authority; that counts as the Host header then. */
const char *exchange_target(const struct exchange *x);
/* Just the path of it, percent-encoding untouched. */
struct slice exchange_path(const struct exchange *x);
/* Value of a header (case-insensitive), or NULL. */
const char *exchange_header(const struct exchange *x, const char *name);
/* Calls fn for each header until it returns false. */
void exchange_each_header(const struct exchange *x,
	bool (*fn)(void *ctx, const char *name, const char *value), void *ctx);
/* Content-Length, or -1 (chunked), or 0 (no body). */
int64_t exchange_body_bytes(const struct exchange *x);
/* Of the answer; 0: there is none yet. */
int exchange_status(const struct exchange *x);
/* Address of the client, "127.0.0.1:40000". */
const char *exchange_peer(const struct exchange *x);

/* More body may be delivered (after body() took less than offered). */
void exchange_resume_body(struct exchange *x);

/* Adds a header to the answer; before exchange_head(). 0 or -ENOMEM/-EINVAL (CR, LF, NUL in it). */
int exchange_add_header(struct exchange *x, const char *name, struct slice value);
/* Status and headers may go out now. body_bytes >= 0: that Content-Length; -1: chunked (or until
 * close for HTTP/1.0). 0, -EALREADY, or -EPIPE when the client is gone. */
int exchange_head(struct exchange *x, int status, int64_t body_bytes);
/* Appends answer bytes (copied; thrown away when the answer has no body, as to HEAD). 0; nothing
 * taken: -ENOBUFS over stream_bytes, -EMSGSIZE over the declared length, -ENOMEM, -EPIPE client
 * gone or answer ended. */
int exchange_write(struct exchange *x, const char *p, size_t n);
/* The answer is complete. Short of the declared length, or before exchange_head(), it is an abort.
 */
void exchange_end(struct exchange *x);
/* The same of an answer whose client need not have it to its last byte: one that has not taken it all in about so many ms
 * (looked at once a second) is cut off, with TLS, too. Again: the earlier of both counts. */
void exchange_end_within(struct exchange *x, unsigned ms);
/* The answer cannot be completed: what is written still goes out, then the connection is closed so
 * that the client sees a broken body, never a short one. */
void exchange_abort(struct exchange *x);
/* Takes exchange_head() back, headers and all. False: it is too late, some of it is on its way. */
bool exchange_retract(struct exchange *x);
/* head + write + end in one; any size. 0 or -errno. */
int exchange_reply(struct exchange *x, int status, const char *content_type, struct slice body);
/* front_quiesce() was called: nothing is asked on its connection after it. */
bool exchange_quiesced(const struct exchange *x);
/* Bytes written by us that are not yet at the socket. */
size_t exchange_backlog(const struct exchange *x);

#endif
