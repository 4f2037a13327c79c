/*
 * What http.c (requests) and http_reply.c (replies) share: the connection. Nobody else includes it.
 */
#ifndef FAKE_HTTP_CONN_H
#define FAKE_HTTP_CONN_H

#include "tests/fake/http.h"

enum http_state {
	READ_HEAD,
	READ_LENGTH,
	READ_CHUNK_SIZE,
	READ_CHUNK,
	READ_CHUNK_END,
	READ_TRAILER,
	REPLY
};

struct http_conn {
	uv_tcp_t tcp;
	uv_write_t write;
	struct http_server *server;
	struct http_exchange *x; /* NULL between requests */
	enum http_state state;
	uint64_t left;	   /* bytes of the body, or of the chunk, still to come */
	struct buf in;	   /* bytes not parsed yet */
	struct buf out;	   /* bytes to write */
	struct buf flying; /* bytes libuv is writing */
	bool parsing, paused, closing, broken, dead;
};

/* Closes the connection; an exchange under way is closed with that end. */
void conn_close(struct http_conn *c, enum http_end end, bool reset);

/* Reads on, after a pause or not. */
void conn_read(struct http_conn *c);

/* Writes what may be written now; finishes the exchange when its reply has left. */
void conn_flush(struct http_conn *c);

/* The reply of an exchange without a client is over: so is the exchange. */
void exchange_over(struct http_exchange *x, enum http_end end);

/* The reply has left: closes the exchange, then goes on reading. */
void conn_finish(struct http_conn *c);

#endif
