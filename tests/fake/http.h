/*
 * A small HTTP/1.1 server that can misbehave byte by byte.
 *
 * One exchange = one request and its reply; a connection works on one at a time and keeps pipelined
 * bytes for later. The server owns exchanges: open() ... body()* ... ready() ... close() is the
 * life the application sees, and after close() the exchange is gone. Replies are written without
 * blocking; what the socket does not take waits in memory, so a producer looks at http_backlog()
 * and waits for drained(). An end of file from the client counts as the client being gone, as in
 * both real backends (docs/protocols.md#closing).
 */
#ifndef FAKE_HTTP_H
#define FAKE_HTTP_H

#include "common/base/buf.h"
#include "tests/fake/clock.h"

#define HTTP_MAX_HEADERS 64
#define HTTP_MAX_HEAD 65536	      /* bytes of request line and headers */
#define HTTP_MAX_PIPELINED (1u << 20) /* bytes held while a reply is under way */
#define HTTP_MAX_PENDING (1u << 30)   /* bytes of replies waiting for a socket */

struct http_conn;

struct http_header {
	struct slice name, value;
};

/* How a reply misbehaves. All zero: not at all. */
struct http_misdeed {
	unsigned drip_ms;   /* one byte, then this pause */
	unsigned head_ms;   /* pause between the status line and the other headers */
	size_t chunk_bytes; /* the body goes out in pieces of this size, each a chunk and a write */
	const char *ctype;  /* content type to claim instead of the right one */
	bool close_silently;		 /* close after the reply without having said so */
	const char *retry_after;	 /* a Retry-After to send; NULL: none */
	size_t header_bytes, type_bytes; /* a header of that length more; the content type's */
};

enum http_end {
	HTTP_DONE,
	HTTP_CUT,
	HTTP_GONE
}; /* replied; closed by our own fault; client gone */

struct http_exchange {
	struct http_conn *conn; /* NULL: the client is gone, and the reply goes on (tee) */
	/* Gets the body as well. With it the exchange outlives its client, to the reply's end. NULL:
	 * it does not. */
	void (*tee)(struct http_exchange *x, struct slice data);
	void *user; /* the application's */
	struct slice method, path, query;
	struct http_header headers[HTTP_MAX_HEADERS];
	size_t header_count;
	uint64_t body_bytes; /* received so far */
	struct http_misdeed misdeed;
	const char *location; /* of a reply that is begun next: where to go; NULL none */
	int status;	      /* 0: no reply begun */
	uint64_t reply_bytes;
	/* below: http.c's own */
	struct http_server *server;
	char *head;
	bool http10, keep_alive, chunked, head_only, ended, cut, head_held;
	struct clock_task pace;
};

struct http_handler {
	void (*open)(struct http_exchange *x, void *arg);
	void (*body)(struct http_exchange *x, struct slice piece, void *arg);
	void (*ready)(struct http_exchange *x, void *arg);
	void (*drained)(struct http_exchange *x, void *arg); /* everything written has left */
	void (*close)(struct http_exchange *x, enum http_end end, void *arg);
};

struct http_server {
	uv_tcp_t listener;
	struct clock *clock;
	const struct http_handler *handler;
	void *arg;
	const char *headers; /* lines put into every reply, each with CRLF */
	int port;	     /* bound */
	size_t connections;
	char *scratch; /* what a read fills; parsed at once */
};

/* Listens on an IPv4 address; port 0 picks one. 0 or a negative errno. */
int http_listen(struct http_server *s, uv_loop_t *loop, const char *host, int port);

/* Value of a header, empty slice when absent. name in any case. */
struct slice http_header(const struct http_exchange *x, const char *name);

/* Starts a reply; length < 0: of unknown length (chunked, or up to the close for HTTP/1.0). */
void http_begin(struct http_exchange *x, int status, const char *ctype, int64_t length);

/* Body bytes; with chunked framing each call is one chunk. Nothing leaves before http_flush(). */
void http_data(struct http_exchange *x, struct slice data);

/* Bytes outside all framing. */
void http_raw(struct http_exchange *x, struct slice bytes);

/* Never ends the exchange: a client found gone is told through close(), from the loop. */
void http_flush(struct http_exchange *x);

/* The reply is complete; flushes. The exchange may be gone on return. */
void http_end(struct http_exchange *x);

/* All in one: begin, data, end. */
void http_reply(struct http_exchange *x, int status, const char *ctype, struct slice body);

/* Sends what is pending, then closes in the middle of the reply. The exchange may be gone on
 * return. */
void http_cut(struct http_exchange *x);

/* Closes at once with RST. The exchange is gone on return. */
void http_reset(struct http_exchange *x);

/* Bytes written but not yet taken by the socket. */
size_t http_backlog(const struct http_exchange *x);

#endif
