#include "supervisor/front/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>

/* upload read and thrown away after an early answer, so that the connection lives on */
#define DISCARD_MAX (8u << 20)
#define READER_BLOCK_BYTES 65536
#define OWN_TIMEOUT_S 86400u
#define OUT_COMPACT_BYTES 65536
#define OUT_KEEP_BYTES 16384

/* --- begin and end --- */

void *exchange_begin(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	struct front *f = cls;
	struct connection *c =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
	(void)uri; /* of the head that the inlet made */
	struct head *head = c ? inlet_next_head(&c->inlet) : NULL;
	struct exchange *x = head ? calloc(1, sizeof(*x)) : NULL;
	if (!x) {
		if (head)
			head_fini(head);
		free(head);
		return NULL;
	}
	x->head = head;
	x->front = f;
	x->mhd = mhd;
	x->connection = c;
	c->current = x;
	if (c->hurried)
		front_unhurry(c);
	if (c->stream)
		tls_cut(c->stream, 0);
	buf_init(&x->out, 0);
	TAILQ_INSERT_TAIL(&f->exchanges, x, link);
	f->exchange_count++;
	return x;
}

static void lose(struct exchange *x)
{
	if (x->gone)
		return;
	x->gone = true;
	if (x->announced && !x->ended)
		x->front->events->gone(x->front->ctx, x);
}

void exchange_drop(struct exchange *x)
{
	struct front *f = x->front;
	lose(x);
	if (x->announced)
		f->events->done(f->ctx, x);
	x->connection->current = NULL;
	if (x->connection->stream) /* which may still hold the last of its answer */
		tls_cut(x->connection->stream, x->cut_ms);
	x->connection->idle_since_ms = uv_now(f->loop);
	TAILQ_REMOVE(&f->open, x->connection, link);
	TAILQ_INSERT_TAIL(&f->open, x->connection, link);
	if (x->connection->inlet.state == INLET_REFUSED)
		intake_poke(x->connection);
	if (x->connection->left)
		shutdown(x->connection->fd,
			SHUT_RDWR); /* no further request: MHD shall see the end */
	TAILQ_REMOVE(&f->exchanges, x, link);
	f->exchange_count--;
	for (unsigned i = 0; i < x->header_count; i++) {
		free(x->headers[i].name);
		free(x->headers[i].value);
	}
	buf_free(&x->out);
	head_fini(x->head);
	free(x->head);
	free(x);
}

void exchange_completed(
	void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode code)
{
	(void)cls;
	(void)mhd;
	(void)code;
	struct exchange *x = *context;
	*context = NULL;
	if (x)
		exchange_drop(x);
}

/* --- suspending --- */

/* Waits for the supervisor. False when nobody is there to wait for. */
static bool park(struct exchange *x)
{
	if (x->connection->left)
		lose(x);
	if (x->gone || x->front->stopping)
		return false;
	x->suspended = true;
	MHD_suspend_connection(x->mhd);
	return true;
}

void exchange_lost(struct exchange *x)
{
	/* Not begun: park() will see it. Ended: the answer is complete and may still reach a client
	 * that only half-closed. */
	if (x->begun && !x->ended)
		exchange_cut(x);
}

void exchange_cut(struct exchange *x)
{
	lose(x);
	if (x->connection->stream)
		tls_break(x->connection->stream);
	if (x->suspended)
		exchange_resume(x);
	else
		shutdown(x->connection->fd, SHUT_RDWR); /* MHD may be waiting for room in the
							   socket: it must see the end now */
}

/* --- the answer on its way out --- */

/*
 * Bytes that may go out now. The last byte of a known length waits for exchange_end(): with it MHD
 * completes the request, and done must not come before the supervisor is through.
 */
static size_t takeable(const struct exchange *x)
{
	size_t n = exchange_backlog(x);
	if (n > 0 && x->body_bytes >= 0 && !x->ended && x->taken + n == (uint64_t)x->body_bytes)
		n--;
	return n;
}

static void take(struct exchange *x, char *to, size_t n)
{
	memcpy(to, x->out.p + x->out_head, n);
	x->out_head += n;
	x->taken += n;
	if (x->out_head == x->out.n) {
		/* An idle stream does not keep what a burst needed. */
		if (x->out.cap > OUT_KEEP_BYTES)
			buf_free(&x->out);
		else
			buf_clear(&x->out);
		x->out_head = 0;
	} else if (x->out_head >= OUT_COMPACT_BYTES) {
		buf_drop(&x->out, x->out_head);
		x->out_head = 0;
	}
	exchange_report_sent(x, n);
}

/* Without chunks and length only a reset tells a broken answer from a complete one; connecting to
 * nowhere makes the kernel send it. */
static void reset(struct exchange *x)
{
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	if (x->connection->stream)
		tls_break(x->connection->stream);
	if (connect(x->connection->fd, &nowhere, sizeof(nowhere)))
		shutdown(x->connection->fd, SHUT_RDWR);
}

/*
 * MHD 0.9.75 forgets a connection that it closes on a content reader's word: it lies about, socket
 * open, until its timeout. A timeout of its own moves it to the list that every run looks through.
 */
static ssize_t close_on(struct exchange *x, ssize_t word)
{
	MHD_set_connection_option(x->mhd, MHD_CONNECTION_OPTION_TIMEOUT, OWN_TIMEOUT_S);
	front_wake(x->front);
	return word;
}

static ssize_t on_reader(void *cls, uint64_t pos, char *to, size_t max)
{
	(void)pos;
	struct exchange *x = cls;
	size_t n = x->gone ? 0 : takeable(x);
	if (n > 0) {
		n = n < max ? n : max;
		take(x, to, n);
		return (ssize_t)n;
	}
	if (x->ended && !x->aborted && x->body_bytes < 0)
		return x->head->old_http ? close_on(x, MHD_CONTENT_READER_END_OF_STREAM)
					 : MHD_CONTENT_READER_END_OF_STREAM;
	if (x->aborted && x->body_bytes < 0 && x->head->old_http)
		reset(x);
	if (x->ended || !park(x)) /* a known length that was not reached is a broken answer, too */
		return close_on(x, MHD_CONTENT_READER_END_WITH_ERROR);
	return 0;
}

static struct MHD_Response *create_response(struct exchange *x)
{
	size_t n = x->out.n;
	bool head = strcmp(x->head->method, "HEAD") == 0;
	/* All of it is here: no callbacks, and a Content-Length. */
	if (x->ended && (x->body_bytes < 0 || (uint64_t)x->body_bytes == n)) {
		if (n == 0)
			return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
		struct MHD_Response *r =
			MHD_create_response_from_buffer(n, x->out.p, MHD_RESPMEM_MUST_FREE);
		if (r) {
			x->taken = n;
			buf_init(&x->out, 0); /* MHD's now */
			exchange_report_sent(x, n);
		}
		return r;
	}
	/* MHD would end a HEAD answer of unknown length with an empty last chunk: a length it must
	 * have. */
	if (head && x->body_bytes < 0)
		return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
	uint64_t size = x->body_bytes >= 0 ? (uint64_t)x->body_bytes : MHD_SIZE_UNKNOWN;
	/* Chunks are read into the connection's own memory; a block of the response's is only used
	 * without them. */
	bool chunked = x->body_bytes < 0 && !x->head->old_http;
	return MHD_create_response_from_callback(
		size, chunked || head ? 1 : READER_BLOCK_BYTES, on_reader, x, NULL);
}

static enum MHD_Result queue_response(struct exchange *x)
{
	struct MHD_Response *r = create_response(x);
	if (!r)
		return MHD_NO;
	for (unsigned i = 0; i < x->header_count; i++)
		MHD_add_response_header(r, x->headers[i].name, x->headers[i].value);
	if (x->front->quiesced)
		MHD_add_response_header(r, "Connection", "close");
	x->queued = true;
	enum MHD_Result rc = MHD_queue_response(x->mhd, (unsigned)x->status, r);
	MHD_destroy_response(r);
	return rc;
}

/* Reading a large rest of the upload first would be long: the answer goes out now. */
static enum MHD_Result stop_reading(struct exchange *x)
{
	exchange_answer_by_hand(x);
	return MHD_NO;
}

void exchange_answer_now(struct exchange *x)
{
	struct connection *c = x->connection;
	exchange_answer_by_hand(x);
	c->refused = true;
	intake_refuse(c, x->status, "answered before its end");
}

/* --- the request on its way in --- */

/* Must the answer go out before the upload is read? Only when reading it first would be long, or
 * the client waits for our word. */
static bool answer_first(const struct exchange *x)
{
	int64_t n = exchange_body_bytes(x);
	return n > (int64_t)DISCARD_MAX || (n != 0 && exchange_header(x, "Expect"));
}

static bool too_much_left(const struct exchange *x)
{
	int64_t n = exchange_body_bytes(x);
	return x->discarded > DISCARD_MAX || (n > 0 && (uint64_t)n > x->received + DISCARD_MAX);
}

static enum MHD_Result discard_upload(struct exchange *x, size_t *size)
{
	x->discarded += *size;
	x->received += *size;
	*size = 0;
	/* An answer still in the making bounds this by its own end. A body that is too large is not
	 * read any further. */
	bool too_large = x->status == MHD_HTTP_CONTENT_TOO_LARGE && exchange_body_bytes(x) < 0;
	return x->ended && (too_large || too_much_left(x)) ? stop_reading(x) : MHD_YES;
}

static enum MHD_Result take_upload(struct exchange *x, const char *upload, size_t *size)
{
	if (x->answered)
		return discard_upload(x, size);
	x->body_wanted = false;
	size_t n = x->front->events->body(x->front->ctx, x, upload, *size);
	x->received += n;
	*size -= n;
	if (x->aborted)
		return MHD_NO;
	if (x->answered)
		return discard_upload(x, size);
	if (*size > 0 && !x->body_wanted)
		return park(x) ? MHD_YES : MHD_NO;
	return MHD_YES;
}

static enum MHD_Result take_head(struct exchange *x)
{
	struct front *f = x->front;
	x->begun = true;
	if (x->connection->inlet.state == INLET_REFUSED)
		intake_poke(x->connection); /* the fault may be in this one's body */
	x->announced = true;
	f->events->head(f->ctx, x);
	if (x->aborted)
		return MHD_NO;
	if (!x->answered || !x->ended || !answer_first(x))
		return MHD_YES;
	linger_start(f, x->connection->fd);
	return queue_response(x);
}

enum MHD_Result exchange_handle(void *cls, struct MHD_Connection *mhd, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_size,
	void **context)
{
	(void)mhd, (void)url, (void)method, (void)version;
	struct front *f = cls;
	struct exchange *x = *context;
	if (!x || f->stopping)
		return MHD_NO; /* memory was out when it began */
	if (!x->begun)
		return take_head(x);
	if (x->aborted || x->gone)
		return MHD_NO;
	if (*upload_size > 0)
		return take_upload(x, upload, upload_size);
	if (!x->body_over) {
		x->body_over = true;
		if (!x->answered)
			f->events->body_end(f->ctx, x);
		if (x->aborted)
			return MHD_NO;
	}
	/* MHD completes an answer without a body by itself, so it gets it when the supervisor is
	 * through. */
	if (x->answered && (x->ended || !exchange_bodyless(x)))
		return queue_response(x);
	return park(x) ? MHD_YES : MHD_NO;
}
