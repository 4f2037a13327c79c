/*
 * HTTP towards one backend: a libcurl multi handle inside the libuv loop.
 *
 * A transfer is one request and its answer. Its events come on the loop thread, never from within a
 * call of this header: head, then body*, then done exactly once, last; after http_cancel() none
 * comes. Cancelling removes the transfer at once: the connection closes, which is how a backend
 * learns that nobody listens (never half-close: both backends take EOF for it too). The calls may
 * be made from within the events, except http_start() outside of done() (-EBUSY) and
 * http_destroy().
 *
 * Timeouts are ours, not curl's, save the connect timeout: idle_ms counts from the last byte either
 * way once the answer has begun and stands still while the receiver is paused; total_ms counts from
 * the start. Memory of one transfer: one curl buffer, the headers (HTTP_HEAD_BYTES), and what
 * http_send() has queued (HTTP_UPLOAD_BYTES).
 */
#ifndef TANDEM_WORKERS_HTTP_H
#define TANDEM_WORKERS_HTTP_H

#include "common/base/buf.h"
#include "proto/proto.h"

#include <uv.h>

#define HTTP_HEAD_BYTES 65536					 /* answer headers kept */
#define HTTP_REQUEST_HEADER_BYTES (PROTO_JOB_HEADER_BYTES + 256) /* one header of a request */
#define HTTP_UPLOAD_BYTES 1048576				 /* queued by http_send() */
#define HTTP_KEY_BYTES 4096					 /* of a key's file */
#define HTTP_CONNECTIONS 64    /* idle connections kept to the backend */
#define HTTP_IDLE_TRANSFERS 64 /* finished transfers kept for reuse */

enum http_result {
	HTTP_OK,       /* the answer is complete (any status) */
	HTTP_REFUSED,  /* no connection, or none within connect_ms */
	HTTP_IDLE,     /* fell silent */
	HTTP_TOTAL,    /* over total_ms */
	HTTP_CUT,      /* closed before the answer was complete */
	HTTP_GARBAGE,  /* what came is not HTTP */
	HTTP_TLS,      /* no TLS with it, or its certificate is not trusted */
	HTTP_INTERNAL, /* memory or the like */
};

struct http;
struct http_transfer;

struct http_events {
	/* Status and headers are in (of the final answer, not of a 1xx). */
	void (*head)(void *ctx, int status);
	void (*body)(void *ctx, struct slice bytes);
	/* So many bytes of http_send() have been taken: room for more. May be NULL. */
	void (*sent)(void *ctx, size_t n);
	void (*done)(void *ctx, enum http_result result);
};

struct http_request {
	const char *method;
	struct slice target; /* "/path?query", sent as it is after the base's prefix */
	const struct proto_header *headers;
	size_t header_count;
	struct slice body; /* borrowed until done */
	/*
	 * It goes over a kept connection, and again, once, over another one when that turns out
	 * closed. False: over a connection of its own, once, and no more whatever happens. GET and
	 * HEAD need not say it.
	 */
	bool again;
	bool upload;		   /* the body comes through http_send() instead */
	int64_t upload_bytes;	   /* -1: unknown (chunked) */
	int64_t idle_ms, total_ms; /* 0: none */
	int64_t first_ms;	   /* until the answer begins; 0: none */
	bool early_head;	   /* it begins with its first byte: its head says nothing yet */
};

/* 0 or -ENOMEM. connect_ms: limit of a connect. */
int http_create(uv_loop_t *loop, int64_t connect_ms, struct http **out);
/*
 * Cancels every transfer and frees http once the loop has let go of its handles. NULL does
 * nothing.
 */
void http_destroy(struct http *h);

/* "http[s]://host[:port][/prefix]" of later transfers. 0, -EINVAL or -ENOMEM. */
int http_set_base(struct http *h, const char *url);

/*
 * Where later transfers take their key from and whose certificates they trust (NULL: no key; the
 * system's authorities). The key goes as "Authorization: Bearer KEY" in place of whatever key or
 * cookie the caller's headers hold. Its file is looked at with each request and read when it has
 * changed (a local file of at most HTTP_KEY_BYTES); it must not be readable by everybody. 0 or
 * -ENOMEM.
 */
int http_set_secrets(struct http *h, const char *key_file, const char *ca_file);
/* Transfers carry a key of ours. */
bool http_has_key(const struct http *h);

/*
 * 0; -EINVAL for a target or header that cannot be sent; -ENOTCONN without a base; -ENOKEY: the
 * key's file is of no use, http_key_problem() says why; -ENOMEM. On failure no event comes.
 */
int http_start(struct http *h, const struct http_request *r, const struct http_events *e, void *ctx,
	struct http_transfer **out);
/*
 * NULL does nothing, nor does a transfer whose done() is running. From within another event curl
 * still holds a memory body until the event returns: keep it for a turn.
 */
void http_cancel(struct http_transfer *t);

/* It ends as HTTP_TOTAL in ms at the latest. */
void http_hurry(struct http_transfer *t, int64_t ms);

/* Holds back body() until http_resume(). At most what curl has already read waits. */
void http_pause(struct http_transfer *t);
void http_resume(struct http_transfer *t);

/* Queues upload bytes (copied). 0, -ENOMEM, or -E2BIG over HTTP_UPLOAD_BYTES. */
int http_send(struct http_transfer *t, struct slice bytes);
void http_send_end(struct http_transfer *t);

/* The answer's headers, from head() to done(). False at the end; *at starts at 0. */
bool http_header_next(
	const struct http_transfer *t, size_t *at, struct slice *name, struct slice *value);
/* Seconds of its Retry-After, a number or a date; 0: none, or one that makes no sense. */
int64_t http_retry_after_s(const struct http_transfer *t);
/* Value of the first header of that name; empty when absent. */
struct slice http_header(const struct http_transfer *t, const char *name);

/*
 * Grows, at least every idle_ms, while there is a transfer that may be silent for as long as it
 * likes (its answer has not begun, or its receiver is paused) and is still looked after. NULL: 0.
 */
uint64_t http_waits(const struct http *h);

/* Loop time of the last byte of any answer. */
uint64_t http_last_byte_ms(const struct http *h);

/* English words for a result; the transfer's own details are in the log at debug level. */
const char *http_result_text(enum http_result r);
/* What the TLS library said of it, in done() of HTTP_TLS. */
const char *http_tls_problem(const struct http_transfer *t);
/* Of the last -ENOKEY. No part of the key is in it. */
const char *http_key_problem(const struct http *h);

#endif
