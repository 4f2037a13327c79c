#include "supervisor/tell/rep.h"

#include <errno.h>
#include <stdlib.h>

#define ID_BYTES 4

/* A question is its peer: each has one at most. */
struct rep_question {
	struct sp_peer base;
	uv_write_t write;
	struct buf out;
	bool put_off, gone;
};

struct rep {
	struct sp sp;
	rep_answer_fn *answer;
	void *ctx;
};

static void on_written(uv_write_t *w, int status)
{
	struct rep_question *q = w->data;
	buf_free(&q->out);
	q->base.busy = false;
	if (status)
		sp_close(&q->base);
	else
		sp_go_on(&q->base);
}

static void send_answer(struct rep_question *q)
{
	if (buf_error(&q->out)) {
		sp_close(&q->base);
		return;
	}
	sp_head(q->out.p, q->out.n - SP_HEAD_BYTES);
	sp_write(&q->base, &q->write, buf_slice(&q->out), on_written);
}

/* Bytes of the ids in front of the body; 0: there is no last one. */
static size_t ids_of(struct slice message)
{
	for (size_t at = 0; at + ID_BYTES <= message.n; at += ID_BYTES)
		if ((unsigned char)message.p[at] & 0x80)
			return at + ID_BYTES;
	return 0;
}

static void on_message(struct sp_peer *p, struct slice message)
{
	struct rep_question *q = (struct rep_question *)p;
	struct rep *r = p->sp->ctx;
	size_t ids = ids_of(message);
	char head[SP_HEAD_BYTES] = {0};
	if (!ids) {
		sp_close(p);
		return;
	}
	p->busy = true;
	buf_add(&q->out, head, sizeof(head));
	buf_add(&q->out, message.p, ids);
	struct slice body = {message.p + ids, message.n - ids};
	q->put_off = r->answer(r->ctx, q, body, &q->out) == REP_LATER;
	if (!q->put_off)
		send_answer(q);
}

void rep_reply(struct rep_question *q, struct slice answer)
{
	q->put_off = false;
	if (q->gone) {
		buf_free(&q->out);
		sp_forget(&q->base);
	} else if (!q->base.closing) {
		buf_add_slice(&q->out, answer);
		send_answer(q);
	}
}

static bool on_closed(struct sp_peer *p)
{
	struct rep_question *q = (struct rep_question *)p;
	q->gone = true;
	if (q->put_off)
		return false;
	buf_free(&q->out);
	return true;
}

static const struct sp_kind rep_kind = {.self = SP_REP,
	.peer = SP_REQ,
	.peer_size = sizeof(struct rep_question),
	.message = on_message,
	.closed = on_closed};

static void on_gone(struct sp *sp)
{
	free(sp->ctx);
}

int rep_start(uv_loop_t *loop, const char *path, rep_answer_fn *answer, void *ctx, struct rep **out)
{
	struct rep *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->answer = answer;
	r->ctx = ctx;
	int rc = sp_listen(&r->sp, loop, &rep_kind, path, r, on_gone);
	if (rc == 0)
		*out = r;
	return rc;
}

void rep_stop(struct rep *r)
{
	sp_stop(&r->sp);
}
