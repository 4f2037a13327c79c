#include "supervisor/tell/pub.h"

#include <errno.h>
#include <stdlib.h>

struct subscriber {
	struct sp_peer base;
	uv_write_t write;
	bool writing;
	struct buf sent, queue; /* being written; behind it */
	uint64_t lost;		/* not told yet */
};

struct pub {
	struct sp sp;
	size_t queue_bytes;
	pub_lost_fn *lost_text;
	void *ctx;
	unsigned subscribers;
	uint64_t lost;
};

static void start_writing(struct subscriber *s);

static bool append(struct subscriber *s, struct slice message)
{
	const struct pub *pub = s->base.sp->ctx;
	char head[SP_HEAD_BYTES];
	if (s->sent.n + s->queue.n + sizeof(head) + message.n > pub->queue_bytes ||
		buf_reserve(&s->queue, sizeof(head) + message.n)) {
		s->queue.error = 0; /* no memory for it: it is lost, what stands there is not */
		return false;
	}
	sp_head(head, message.n);
	buf_add(&s->queue, head, sizeof(head));
	buf_add_slice(&s->queue, message);
	return true;
}

/* What was lost is told before anything newer. */
static bool tell_lost(struct subscriber *s)
{
	struct pub *pub = s->base.sp->ctx;
	struct buf text;
	if (s->lost == 0)
		return true;
	buf_init(&text, 0);
	pub->lost_text(pub->ctx, s->lost, &text);
	bool told = buf_error(&text) == 0 && append(s, buf_slice(&text));
	buf_free(&text);
	if (told)
		s->lost = 0;
	return told;
}

static void on_written(uv_write_t *w, int status)
{
	struct subscriber *s = w->data;
	s->writing = false;
	buf_clear(&s->sent);
	if (status) {
		sp_close(&s->base);
		return;
	}
	tell_lost(s);
	start_writing(s);
}

static void start_writing(struct subscriber *s)
{
	if (s->writing || s->base.closing || s->queue.n == 0)
		return;
	struct buf empty = s->sent;
	s->sent = s->queue;
	s->queue = empty;
	s->writing = true;
	sp_write(&s->base, &s->write, buf_slice(&s->sent), on_written);
}

void pub_send(struct pub *p, struct slice message)
{
	struct sp_peer *peer;
	TAILQ_FOREACH(peer, &p->sp.peers, link) {
		struct subscriber *s = (struct subscriber *)peer;
		if (!peer->greeted || peer->closing)
			continue;
		if (!tell_lost(s) || !append(s, message)) {
			s->lost++;
			p->lost++;
		}
		start_writing(s);
	}
}

unsigned pub_subscribers(const struct pub *p)
{
	return p->subscribers;
}

uint64_t pub_lost(const struct pub *p)
{
	return p->lost;
}

void pub_set_queue_bytes(struct pub *p, size_t queue_bytes)
{
	p->queue_bytes = queue_bytes;
}

static void on_greeted(struct sp_peer *p)
{
	((struct pub *)p->sp->ctx)->subscribers++;
}

static void on_message(struct sp_peer *p, struct slice message)
{
	(void)message;
	sp_close(p); /* a subscriber has nothing to say */
}

static bool on_closed(struct sp_peer *p)
{
	struct subscriber *s = (struct subscriber *)p;
	((struct pub *)p->sp->ctx)->subscribers -= p->greeted;
	buf_free(&s->sent);
	buf_free(&s->queue);
	return true;
}

static const struct sp_kind pub_kind = {.self = SP_PUB,
	.peer = SP_SUB,
	.silent = true,
	.peer_size = sizeof(struct subscriber),
	.greeted = on_greeted,
	.message = on_message,
	.closed = on_closed};

static void on_gone(struct sp *sp)
{
	free(sp->ctx);
}

int pub_start(uv_loop_t *loop, const char *path, size_t queue_bytes, pub_lost_fn *lost, void *ctx,
	struct pub **out)
{
	struct pub *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->queue_bytes = queue_bytes;
	p->lost_text = lost;
	p->ctx = ctx;
	int rc = sp_listen(&p->sp, loop, &pub_kind, path, p, on_gone);
	if (rc == 0)
		*out = p;
	return rc;
}

void pub_stop(struct pub *p)
{
	sp_stop(&p->sp);
}
