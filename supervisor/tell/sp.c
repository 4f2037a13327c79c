#include "supervisor/tell/sp.h"

#include <endian.h>
#include <stdlib.h>

#define BACKLOG 128
#define SWEEP_MS 1000

static void hello(char out[SP_HELLO_BYTES], enum sp_protocol protocol)
{
	memcpy(out, (const char[SP_HELLO_BYTES]){0, 'S', 'P', 0, 0, 0, 0, 0}, SP_HELLO_BYTES);
	out[5] = (char)protocol;
}

void sp_head(char head[SP_HEAD_BYTES], uint64_t n)
{
	uint64_t length = htobe64(n);
	head[0] = 1;
	memcpy(head + 1, &length, sizeof(length));
}

/* --- ends --- */

static void on_connection(uv_stream_t *s, int status);

static void sp_free(struct sp *sp)
{
	if (sp->closing && sp->handles == 0 && sp->peer_count == 0)
		sp->gone(sp);
}

void sp_forget(struct sp_peer *p)
{
	struct sp *sp = p->sp;
	TAILQ_REMOVE(&sp->peers, p, link);
	sp->peer_count--;
	free(p);
	if (sp->waiting && !sp->closing)
		on_connection((uv_stream_t *)&sp->listener, 0);
	sp_free(sp);
}

static void on_peer_closed(uv_handle_t *h)
{
	struct sp_peer *p = h->data;
	if (p->sp->kind->closed(p))
		sp_forget(p);
}

void sp_close(struct sp_peer *p)
{
	if (p->closing)
		return;
	p->closing = true;
	uv_close((uv_handle_t *)&p->pipe, on_peer_closed);
}

/* --- bytes --- */

void sp_write(struct sp_peer *p, uv_write_t *w, struct slice bytes, uv_write_cb done)
{
	uv_buf_t b = uv_buf_init((char *)(uintptr_t)bytes.p, (unsigned)bytes.n);
	w->data = p;
	if (uv_write(w, (uv_stream_t *)&p->pipe, &b, 1, done))
		sp_close(p);
}

static void take(struct sp_peer *p, size_t n)
{
	p->n -= n;
	memmove(p->in, p->in + n, p->n);
}

static void greet(struct sp_peer *p)
{
	const struct sp_kind *kind = p->sp->kind;
	char expected[SP_HELLO_BYTES];
	hello(expected, kind->peer);
	if (memcmp(p->in, expected, SP_HELLO_BYTES) != 0) {
		sp_close(p);
		return;
	}
	p->greeted = true;
	take(p, SP_HELLO_BYTES);
	if (kind->greeted)
		kind->greeted(p);
}

static void moved(struct sp_peer *p)
{
	p->moved_ms = uv_now(p->pipe.loop);
	TAILQ_REMOVE(&p->sp->peers, p, link);
	TAILQ_INSERT_TAIL(&p->sp->peers, p, link);
}

/* Uses up what has come, as far as it is whole and somebody listens. */
void sp_go_on(struct sp_peer *p)
{
	uint64_t length;
	if (p->greeted) /* it has read the last answer */
		moved(p);
	if (!p->greeted && p->n >= SP_HELLO_BYTES)
		greet(p);
	while (p->greeted && !p->closing && !p->busy && p->n >= SP_HEAD_BYTES) {
		memcpy(&length, p->in + 1, sizeof(length));
		length = be64toh(length);
		if (p->in[0] != 1 || length > SP_MESSAGE_BYTES) {
			sp_close(p);
			return;
		}
		if (p->n - SP_HEAD_BYTES < length)
			return;
		moved(p);
		p->sp->kind->message(p, (struct slice){p->in + SP_HEAD_BYTES, (size_t)length});
		take(p, SP_HEAD_BYTES + (size_t)length);
	}
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
	struct sp_peer *p = h->data;
	(void)hint;
	*b = uv_buf_init(p->in + p->n, (unsigned)(sizeof(p->in) - p->n));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct sp_peer *p = s->data;
	(void)b;
	if (n < 0) { /* left, or (UV_ENOBUFS) talks on while it is not listened to */
		sp_close(p);
		return;
	}
	p->n += (size_t)n;
	sp_go_on(p);
}

static void on_hello_written(uv_write_t *w, int status)
{
	if (status)
		sp_close(w->data);
}

/* --- silence --- */

static void on_sweep(uv_timer_t *timer)
{
	struct sp *sp = timer->data;
	struct sp_peer *p;
	uint64_t now = uv_now(timer->loop);
	if (sp->waiting) /* for memory: there may be no peer whose end frees any */
		on_connection((uv_stream_t *)&sp->listener, 0);
	TAILQ_FOREACH(p, &sp->peers, link) {
		uint64_t silent = now - p->moved_ms;
		if (silent >= SP_IDLE_MS ? !sp->kind->silent || !p->greeted
					 : silent >= SP_HELLO_MS && !p->greeted)
			sp_close(p);
	}
}

/* Too many, and one more: the one that was silent longest goes. */
static void make_place(struct sp *sp)
{
	struct sp_peer *p;
	TAILQ_FOREACH(p, &sp->peers, link)
		if (p->closing)
			return; /* a place is about to be free */
	sp_close(TAILQ_FIRST(&sp->peers));
}

static void on_connection(uv_stream_t *s, int status)
{
	struct sp *sp = s->data;
	struct sp_peer *p = NULL;
	if (status)
		return;
	/* libuv asks nobody in before this one is accepted. */
	if (sp->peer_count == SP_PEERS_MAX)
		make_place(sp);
	sp->waiting = sp->peer_count == SP_PEERS_MAX || !(p = calloc(1, sp->kind->peer_size));
	if (sp->waiting)
		return;
	p->sp = sp;
	p->pipe.data = p;
	p->moved_ms = uv_now(s->loop);
	uv_pipe_init(s->loop, &p->pipe, 0);
	TAILQ_INSERT_TAIL(&sp->peers, p, link);
	sp->peer_count++;
	if (uv_accept(s, (uv_stream_t *)&p->pipe) ||
		uv_read_start((uv_stream_t *)&p->pipe, on_alloc, on_read)) {
		sp_close(p);
		return;
	}
	hello(p->hello, sp->kind->self);
	sp_write(p, &p->hello_write, (struct slice){p->hello, SP_HELLO_BYTES}, on_hello_written);
}

/* --- life --- */

static void on_handle_closed(uv_handle_t *h)
{
	struct sp *sp = h->data;
	sp->handles--;
	sp_free(sp);
}

int sp_listen(struct sp *sp, uv_loop_t *loop, const struct sp_kind *kind, const char *path,
	void *ctx, void (*gone)(struct sp *sp))
{
	*sp = (struct sp){.kind = kind, .ctx = ctx, .gone = gone};
	TAILQ_INIT(&sp->peers);
	uv_pipe_init(loop, &sp->listener, 0);
	uv_timer_init(loop, &sp->sweep);
	sp->listener.data = sp->sweep.data = sp;
	sp->handles = 2;
	uv_timer_start(&sp->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
	uv_unref((uv_handle_t *)&sp->sweep);
	int rc = uv_pipe_bind(&sp->listener, path);
	if (rc == 0)
		rc = uv_listen((uv_stream_t *)&sp->listener, BACKLOG, on_connection);
	if (rc)
		sp_stop(sp);
	return rc;
}

void sp_stop(struct sp *sp)
{
	struct sp_peer *p;
	if (sp->closing)
		return;
	sp->closing = true;
	TAILQ_FOREACH(p, &sp->peers, link)
		sp_close(p);
	uv_close((uv_handle_t *)&sp->listener, on_handle_closed);
	uv_close((uv_handle_t *)&sp->sweep, on_handle_closed);
}
