#include "workers/tasks/task_private.h"

#include "common/base/hop.h"
#include "common/base/log.h"

#include <errno.h>
#include <stdlib.h>

/* --- the body --- */

void task_take(struct task *t, size_t n)
{
	t->taken += n;
	if (task_is_detached(t) || t->taken < TASK_CREDIT_BYTES)
		return; /* less than a step never stops a sender that has a window */
	struct proto_record r = {.type = PROTO_CREDIT, .job = t->id};
	r.u.credit.bytes = t->taken;
	t->taken = 0;
	worker_put(t->worker, &r);
}

bool task_hold(struct task *t, struct slice bytes)
{
	int rc = buf_add_slice(&t->body, bytes);
	if (rc) {
		task_fail_text(t, rc == -E2BIG ? FAIL_TOO_LARGE : FAIL_INTERNAL,
			rc == -E2BIG ? "the request body is over limits.body_bytes"
				     : "out of memory");
		return false;
	}
	task_take(t, bytes.n);
	return true;
}

/* --- the answer --- */

int64_t task_time_left(const struct task *t)
{
	if (t->spec.timeout_ms <= 0)
		return 0;
	int64_t left = t->spec.timeout_ms - (int64_t)task_ms_since(t->opened_ns);
	return left > 0 ? left : 1;
}

bool task_ask(struct task *t, const struct http_request *r, const struct http_events *e)
{
	int rc = http_start(t->worker->http, r, e, t, &t->transfer);
	if (rc == 0) {
		t->asked_ns = uv_hrtime();
		return true;
	}
	t->transfer = NULL;
	if (rc == -EINVAL)
		task_fail_text(
			t, FAIL_REFUSED, "the request cannot be forwarded: bad path or header");
	else if (rc == -ENOKEY)
		task_fail_text(t, FAIL_UNREACHABLE, http_key_problem(t->worker->http));
	else if (rc == -ENOTCONN)
		task_fail_text(t, FAIL_UNREACHABLE, "the backend has not been started yet");
	else
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
	return false;
}

void task_first_byte(struct task *t)
{
	if (t->first_ns)
		return;
	t->first_ns = uv_hrtime();
	log_line(LOG_DEBUG, "backend_first_byte", LOG_SLICE("req", t->spec.request_id),
		LOG_INT("job", t->id), LOG_MS("ms", (double)(t->first_ns - t->asked_ns) / 1e6),
		LOG_END);
}

void task_start(struct task *t, int status, const struct proto_header *headers, size_t count,
	int64_t body_bytes)
{
	struct proto_record r = {.type = PROTO_START, .job = t->id};
	r.u.start.status = status;
	r.u.start.header_count = count;
	r.u.start.body_bytes = body_bytes;
	r.u.start.identity = t->identity;
	if (count)
		memcpy(r.u.start.headers, headers, count * sizeof(*headers));
	t->started = true;
	worker_put(t->worker, &r);
}

/* Takes n bytes off the front of what waits. What stays is moved only where that is less than what
 * went: a large answer is not moved once for each of its pieces. */
static void take_off(struct buf *b, size_t *at, size_t n)
{
	*at += n;
	if (*at == b->n)
		buf_free(b);
	else if (*at > b->n / 2)
		buf_drop(b, *at);
	else
		return;
	*at = 0;
}

/* bytes: all that there is to send. With the last of them everything said is out, since each piece
 * takes as much text as bytes, or all. */
static size_t send_delta(struct task *t, struct slice bytes)
{
	size_t sent = 0, told = 0;
	while (sent < bytes.n && t->credit && !channel_full(t->worker->channel)) {
		size_t n = bytes.n - sent;
		if (n > PROTO_PIECE_BYTES)
			n = PROTO_PIECE_BYTES;
		if (n > t->credit)
			n = (size_t)t->credit;
		size_t text = t->said.n - t->said_at - told;
		if (text > PROTO_PIECE_BYTES)
			text = PROTO_PIECE_BYTES;
		struct proto_record r; /* not cleared: it has room for an answer's headers */
		r.type = PROTO_DELTA;
		r.job = t->id;
		r.u.delta.bytes = (struct slice){bytes.p + sent, n};
		r.u.delta.whole = sent + n == bytes.n;
		r.u.delta.opaque = t->opaque;
		r.u.delta.tokens = r.u.delta.whole ? t->said_tokens : 0;
		r.u.delta.text = (struct slice){t->said.p + t->said_at + told, text};
		r.u.delta.source = r.u.delta.whole ? t->source : 0;
		worker_put(t->worker, &r);
		t->credit -= n;
		sent += n;
		told += text;
	}
	take_off(&t->said, &t->said_at, told);
	if (sent == bytes.n)
		t->said_tokens = 0;
	t->worker->bytes_out += sent;
	t->worker->progress++;
	return sent;
}

bool task_emit(struct task *t, struct slice bytes)
{
	size_t sent = t->pending.n ? 0 : send_delta(t, bytes);
	if (sent == bytes.n)
		return true;
	if (buf_add(&t->pending, bytes.p + sent, bytes.n - sent)) {
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
		return false;
	}
	if (t->transfer)
		http_pause(t->transfer);
	return true;
}

bool task_emit_buf(struct task *t, struct buf *b)
{
	size_t sent = t->pending.n ? 0 : send_delta(t, buf_slice(b));
	if (t->pending.n || sent == b->n) {
		bool good = sent == b->n || task_emit(t, buf_slice(b));
		buf_free(b);
		return good;
	}
	t->pending = *b;
	t->pending.max = 0;
	t->pending_at = sent;
	*b = (struct buf){.max = b->max};
	if (t->transfer)
		http_pause(t->transfer);
	return true;
}

void task_credit(struct task *t, uint64_t bytes)
{
	t->credit += bytes;
	if (t->pending.n) {
		struct slice left = {t->pending.p + t->pending_at, t->pending.n - t->pending_at};
		take_off(&t->pending, &t->pending_at, send_delta(t, left));
		if (t->pending.n)
			return;
	}
	if (t->life == TASK_ENDING)
		task_send_end(t);
	else if (t->transfer && !t->busy) /* busy: what came before is still being read */
		http_resume(t->transfer);
}

/* --- headers --- */

size_t task_request_headers(const struct task *t, struct proto_header *out, size_t max)
{
	size_t count = 0;
	for (size_t i = 0; i < t->spec.header_count && count < max; i++)
		if (!hop_header(t->spec.headers[i].name) &&
			!hop_client_side(t->spec.headers[i].name))
			out[count++] = t->spec.headers[i];
	return count;
}
