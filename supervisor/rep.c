#include "supervisor/rep.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

#define HELLO_BYTES 8
#define HEAD_BYTES 9 /* of a message: type and length */
#define ID_BYTES 4
#define BACKLOG 16

static const char hello_req[HELLO_BYTES] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
static const char hello_rep[HELLO_BYTES] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};

struct rep_peer {
	struct rep *rep;
	TAILQ_ENTRY(rep_peer) link;
	uv_pipe_t pipe;
	uv_write_t hello_write, answer_write;
	bool greeted, answering, closing;
	char in[HEAD_BYTES + REP_REQUEST_BYTES];
	size_t n; /* bytes in it */
	struct buf out;
};

struct rep {
	uv_pipe_t listener;
	rep_answer_fn *answer;
	void *ctx;
	TAILQ_HEAD(, rep_peer) peers;
	unsigned peer_count;
	bool waiting; /* somebody is not accepted yet: too many peers, or no memory */
	bool closing, closed;
};

/* --- ends --- */

static void rep_free(struct rep *r)
{
	if (r->closed && r->peer_count == 0)
		free(r);
}

static void on_connection(uv_stream_t *s, int status);

static void on_peer_closed(uv_handle_t *h)
{
	struct rep_peer *p = h->data;
	struct rep *r = p->rep;
	TAILQ_REMOVE(&r->peers, p, link);
	r->peer_count--;
	buf_free(&p->out);
	free(p);
	if (r->waiting && !r->closing)
		on_connection((uv_stream_t *)&r->listener, 0);
	rep_free(r);
}

static void peer_close(struct rep_peer *p)
{
	if (p->closing)
		return;
	p->closing = true;
	uv_close((uv_handle_t *)&p->pipe, on_peer_closed);
}

/* --- answers --- */

static void peer_eat(struct rep_peer *p);

static void on_hello_written(uv_write_t *w, int status)
{
	if (status)
		peer_close(w->data);
}

static void on_answer_written(uv_write_t *w, int status)
{
	struct rep_peer *p = w->data;
	buf_free(&p->out);
	p->answering = false;
	if (status)
		peer_close(p);
	else
		peer_eat(p);
}

static void peer_write(struct rep_peer *p, uv_write_t *w, struct slice bytes, uv_write_cb done)
{
	uv_buf_t b = uv_buf_init((char *)bytes.p, (unsigned)bytes.n);
	w->data = p;
	if (uv_write(w, (uv_stream_t *)&p->pipe, &b, 1, done))
		peer_close(p);
}

/* Bytes of the ids in front of the body; 0: there is no last one. */
static size_t ids_of(struct slice message)
{
	for (size_t at = 0; at + ID_BYTES <= message.n; at += ID_BYTES)
		if ((unsigned char)message.p[at] & 0x80)
			return at + ID_BYTES;
	return 0;
}

static void peer_answer(struct rep_peer *p, struct slice message)
{
	size_t ids = ids_of(message);
	char head[HEAD_BYTES] = {1};
	if (!ids) {
		peer_close(p);
		return;
	}
	buf_add(&p->out, head, sizeof(head));
	buf_add(&p->out, message.p, ids);
	p->rep->answer(p->rep->ctx, (struct slice){message.p + ids, message.n - ids}, &p->out);
	if (buf_error(&p->out)) {
		peer_close(p);
		return;
	}
	uint64_t length = htobe64(p->out.n - HEAD_BYTES);
	memcpy(p->out.p + 1, &length, sizeof(length));
	p->answering = true;
	peer_write(p, &p->answer_write, buf_slice(&p->out), on_answer_written);
}

/* --- requests --- */

static void peer_take(struct rep_peer *p, size_t n)
{
	p->n -= n;
	memmove(p->in, p->in + n, p->n);
}

/* Uses up what has come, as far as it is whole and nothing is being answered. */
static void peer_eat(struct rep_peer *p)
{
	uint64_t length;
	if (!p->greeted && p->n >= HELLO_BYTES) {
		if (memcmp(p->in, hello_req, HELLO_BYTES) != 0) {
			peer_close(p);
			return;
		}
		p->greeted = true;
		peer_take(p, HELLO_BYTES);
	}
	while (p->greeted && !p->closing && !p->answering && p->n >= HEAD_BYTES) {
		memcpy(&length, p->in + 1, sizeof(length));
		length = be64toh(length);
		if (p->in[0] != 1 || length > REP_REQUEST_BYTES) {
			peer_close(p);
			return;
		}
		if (p->n - HEAD_BYTES < length)
			return;
		peer_answer(p, (struct slice){p->in + HEAD_BYTES, (size_t)length});
		peer_take(p, HEAD_BYTES + (size_t)length);
	}
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
	struct rep_peer *p = h->data;
	(void)hint;
	*b = uv_buf_init(p->in + p->n, (unsigned)(sizeof(p->in) - p->n));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct rep_peer *p = s->data;
	(void)b;
	if (n < 0) { /* left, or (UV_ENOBUFS) asks on without reading the answers */
		peer_close(p);
		return;
	}
	p->n += (size_t)n;
	peer_eat(p);
}

static void on_connection(uv_stream_t *s, int status)
{
	struct rep *r = s->data;
	struct rep_peer *p;
	if (status)
		return;
	/* libuv asks nobody in before this one is accepted. */
	r->waiting = r->peer_count == REP_PEERS_MAX || !(p = calloc(1, sizeof(*p)));
	if (r->waiting)
		return;
	p->rep = r;
	p->pipe.data = p;
	buf_init(&p->out, 0);
	uv_pipe_init(s->loop, &p->pipe, 0);
	TAILQ_INSERT_TAIL(&r->peers, p, link);
	r->peer_count++;
	if (uv_accept(s, (uv_stream_t *)&p->pipe) ||
		uv_read_start((uv_stream_t *)&p->pipe, on_alloc, on_read))
		peer_close(p);
	else
		peer_write(p, &p->hello_write, (struct slice){hello_rep, HELLO_BYTES},
			on_hello_written);
}

/* --- life --- */

static void on_listener_closed(uv_handle_t *h)
{
	struct rep *r = h->data;
	r->closed = true;
	rep_free(r);
}

int rep_start(uv_loop_t *loop, const char *path, rep_answer_fn *answer, void *ctx, struct rep **out)
{
	struct rep *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->answer = answer;
	r->ctx = ctx;
	TAILQ_INIT(&r->peers);
	uv_pipe_init(loop, &r->listener, 0);
	r->listener.data = r;
	int rc = uv_pipe_bind(&r->listener, path);
	if (rc == 0)
		rc = uv_listen((uv_stream_t *)&r->listener, BACKLOG, on_connection);
	if (rc) {
		uv_close((uv_handle_t *)&r->listener, on_listener_closed);
		return rc;
	}
	*out = r;
	return 0;
}

void rep_stop(struct rep *r)
{
	struct rep_peer *p;
	r->closing = true;
	TAILQ_FOREACH(p, &r->peers, link)
	peer_close(p);
	uv_close((uv_handle_t *)&r->listener, on_listener_closed);
}
