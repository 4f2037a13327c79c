#include "supervisor/http/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define DISCARD_MAX (8u << 20)     /* upload read and thrown away after an early answer, so that the client sees the answer */
#define READER_BLOCK_BYTES 16384
#define OUT_COMPACT_BYTES 65536

/* --- begin and end --- */

static void name_peer(struct exchange *x)
{
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(x->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	char host[INET6_ADDRSTRLEN] = "?", port[8] = "?";
	if (i && i->client_addr)
		getnameinfo(i->client_addr, i->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in),
				host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(x->peer, sizeof(x->peer), "%s:%s", host, port);
}

void *exchange_begin(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	struct front *f = cls;
	struct exchange *x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	x->target = strdup(uri);
	if (!x->target) {
		free(x);
		return NULL;
	}
	x->front = f;
	x->mhd = mhd;
	buf_init(&x->out, 0);
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	x->connection = i ? i->socket_context : NULL;
	if (x->connection)
		x->connection->current = x;
	TAILQ_INSERT_TAIL(&f->exchanges, x, link);
	f->exchange_count++;
	return x;
}

void exchange_completed(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode code)
{
	(void)mhd;
	(void)code;
	struct front *f = cls;
	struct exchange *x = *context;
	*context = NULL;
	if (!x)
		return;
	if (x->connection && x->connection->current == x)
		x->connection->current = NULL;
	if (x->head_seen) {
		if (!x->ended && !x->gone) {
			x->gone = true;
			f->events->gone(f->ctx, x);
		}
		f->events->done(f->ctx, x);
	}
	TAILQ_REMOVE(&f->exchanges, x, link);
	f->exchange_count--;
	for (unsigned i = 0; i < x->header_count; i++) {
		free(x->headers[i].name);
		free(x->headers[i].value);
	}
	buf_free(&x->out);
	free(x->target);
	free(x);
}

/* --- suspending --- */

static void suspend(struct exchange *x)
{
	if (x->suspended)
		return;
	x->suspended = true;
	MHD_suspend_connection(x->mhd);
}

void exchange_resume(struct exchange *x)
{
	if (!x->suspended)
		return;
	x->suspended = false;
	MHD_resume_connection(x->mhd);
	front_wake(x->front);
}

void exchange_lost(struct exchange *x)
{
	bool complete = x->ended && x->out_head == x->out.n;
	if (x->gone || !x->head_seen)
		return;
	x->gone = true;
	if (!complete && !x->ended)
		x->front->events->gone(x->front->ctx, x);
	exchange_resume(x);
	front_wake(x->front);
}

/* --- the answer on its way out --- */

static size_t take(struct exchange *x, char *to, size_t max)
{
	size_t n = x->out.n - x->out_head;
	if (n > max)
		n = max;
	memcpy(to, x->out.p + x->out_head, n);
	x->out_head += n;
	x->taken += n;
	if (x->out_head == x->out.n) {
		buf_clear(&x->out);
		x->out_head = 0;
	} else if (x->out_head >= OUT_COMPACT_BYTES) {
		buf_drop(&x->out, x->out_head);
		x->out_head = 0;
	}
	return n;
}

static ssize_t on_reader(void *cls, uint64_t pos, char *to, size_t max)
{
	(void)pos;
	struct exchange *x = cls;
	if (x->aborted || x->gone)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (x->out_head < x->out.n) {
		size_t n = take(x, to, max);
		x->front->events->sent(x->front->ctx, x, n);
		return (ssize_t)n;
	}
	if (x->ended) /* a known length that was not reached is a broken answer */
		return x->body_bytes >= 0 ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
	suspend(x);
	return 0;
}

static enum MHD_Result queue_response(struct exchange *x)
{
	struct MHD_Response *r;
	bool whole = x->ended && !x->aborted && (x->body_bytes < 0 || (uint64_t)x->body_bytes == x->out.n);
	bool head = strcmp(x->method, "HEAD") == 0;
	if (whole && !(head && x->body_bytes >= 0)) {
		/* All of it is here already: no callbacks, and a Content-Length. */
		r = MHD_create_response_from_buffer(x->out.n, x->out.p, MHD_RESPMEM_MUST_COPY);
		x->taken = x->out.n;
		buf_free(&x->out);
	} else {
		uint64_t size = x->body_bytes >= 0 ? (uint64_t)x->body_bytes : MHD_SIZE_UNKNOWN;
		r = MHD_create_response_from_callback(size, READER_BLOCK_BYTES, on_reader, x, NULL);
	}
	if (!r)
		return MHD_NO;
	for (unsigned i = 0; i < x->header_count; i++)
		MHD_add_response_header(r, x->headers[i].name, x->headers[i].value);
	if (x->front->quiesced)
		MHD_add_response_header(r, "Connection", "close");
	enum MHD_Result rc = MHD_queue_response(x->mhd, (unsigned)x->status, r);
	MHD_destroy_response(r);
	x->queued = rc == MHD_YES;
	return rc;
}

/* --- the request on its way in --- */

/* Must the answer go out before the upload is read? Only when reading it first would be long, or the client waits for our word. */
static bool answer_first(const struct exchange *x)
{
	int64_t n = exchange_body_bytes(x);
	return n > (int64_t)DISCARD_MAX || (n != 0 && exchange_header(x, "Expect"));
}

static enum MHD_Result take_upload(struct exchange *x, const char *upload, size_t *size)
{
	if (x->gone || x->aborted)
		return MHD_NO;
	if (x->answered) {
		x->discarded += *size;
		*size = 0;
		return x->discarded > DISCARD_MAX ? MHD_NO : MHD_YES;
	}
	size_t n = x->front->events->body(x->front->ctx, x, upload, *size);
	*size -= n;
	if (*size > 0 && !x->answered && !x->aborted)
		suspend(x);
	return MHD_YES;
}

enum MHD_Result exchange_handle(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
		const char *upload, size_t *upload_size, void **context)
{
	(void)url;
	(void)version;
	(void)mhd;
	struct front *f = cls;
	struct exchange *x = *context;
	if (!x)
		return MHD_NO; /* memory was out when it began */
	if (!x->head_seen) {
		x->head_seen = true;
		x->method = method;
		name_peer(x);
		f->events->head(f->ctx, x);
		if (x->answered && x->ended && answer_first(x))
			return queue_response(x);
		return MHD_YES;
	}
	if (*upload_size > 0)
		return take_upload(x, upload, upload_size);
	if (!x->body_over) {
		x->body_over = true;
		if (!x->answered && !x->gone)
			f->events->body_end(f->ctx, x);
	}
	if (x->aborted || x->gone)
		return MHD_NO;
	if (x->answered)
		return queue_response(x);
	suspend(x);
	return MHD_YES;
}

/* --- what the supervisor asks --- */

void exchange_set_context(struct exchange *x, void *context)
{
	x->context = context;
}

void *exchange_context(const struct exchange *x)
{
	return x->context;
}

const char *exchange_method(const struct exchange *x)
{
	return x->method;
}

const char *exchange_target(const struct exchange *x)
{
	return x->target;
}

struct slice exchange_path(const struct exchange *x)
{
	return (struct slice){x->target, strcspn(x->target, "?")};
}

const char *exchange_header(const struct exchange *x, const char *name)
{
	return MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, name);
}

struct each {
	bool (*fn)(void *ctx, const char *name, const char *value);
	void *ctx;
};

static enum MHD_Result each_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	struct each *e = cls;
	return e->fn(e->ctx, name, value ? value : "") ? MHD_YES : MHD_NO;
}

void exchange_each_header(const struct exchange *x, bool (*fn)(void *ctx, const char *name, const char *value), void *ctx)
{
	struct each e = {fn, ctx};
	MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, each_header, &e);
}

int64_t exchange_body_bytes(const struct exchange *x)
{
	if (exchange_header(x, "Transfer-Encoding"))
		return -1;
	const char *length = exchange_header(x, "Content-Length");
	return length ? strtoll(length, NULL, 10) : 0;
}

const char *exchange_peer(const struct exchange *x)
{
	return x->peer;
}

void exchange_resume_body(struct exchange *x)
{
	if (!x->body_over)
		exchange_resume(x);
}

int exchange_add_header(struct exchange *x, const char *name, struct slice value)
{
	if (x->header_count == EXCHANGE_HEADERS_MAX || x->queued)
		return -ENOBUFS;
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] == '\r' || value.p[i] == '\n' || value.p[i] == '\0')
			return -EINVAL;
	char *n = strdup(name), *v = slice_dup(value);
	if (!n || !v) {
		free(n);
		free(v);
		return -ENOMEM;
	}
	x->headers[x->header_count++] = (struct answer_header){n, v};
	return 0;
}

int exchange_head(struct exchange *x, int status, int64_t body_bytes)
{
	if (x->answered)
		return -EALREADY;
	if (x->gone)
		return -EPIPE;
	x->answered = true;
	x->status = status;
	x->body_bytes = body_bytes;
	exchange_resume(x);
	return 0;
}

bool exchange_head_sent(const struct exchange *x)
{
	return x->answered;
}

int exchange_write(struct exchange *x, const char *p, size_t n)
{
	if (x->gone || x->aborted)
		return -EPIPE;
	if (exchange_backlog(x) + n > x->front->stream_bytes)
		return -ENOBUFS;
	int rc = buf_add(&x->out, p, n);
	if (rc == 0 && x->queued)
		exchange_resume(x);
	return rc;
}

void exchange_end(struct exchange *x)
{
	x->ended = true;
	exchange_resume(x);
}

void exchange_abort(struct exchange *x)
{
	x->aborted = true;
	x->ended = true;
	exchange_resume(x);
}

int exchange_reply(struct exchange *x, int status, const char *content_type, struct slice body)
{
	int rc = exchange_add_header(x, "Content-Type", slice_str(content_type));
	if (rc)
		return rc;
	rc = buf_add_slice(&x->out, body);
	if (rc) {
		exchange_abort(x);
		return rc;
	}
	x->ended = true;
	return exchange_head(x, status, (int64_t)body.n);
}

size_t exchange_backlog(const struct exchange *x)
{
	return x->out.n - x->out_head;
}
