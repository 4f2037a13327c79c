/*
 * JOB_CHAT: a chat request in the client's dialect. The body is held, parsed, and sent as it is
 * (raw) or translated; the answer goes back untouched, observed by the parser, or through the
 * client's writer.
 *
 * Of a stream the supervisor is told what its bytes mean (proto_record.delta), so that another job
 * can go on with it when this worker dies. Such a job gets the client's request with the text so
 * far behind it (spec.resume), asks the backend to continue, and writes as the one before it did.
 */
#include "common/dialect/usage.h"
#include "workers/backend/backend.h"
#include "workers/tasks/chat_task.h"

#include <errno.h>

static struct chat_task *chat_of(struct ask *a)
{
	return (struct chat_task *)a;
}

static void answer_load(struct chat_task *c);

static void prepared(struct chat_task *c)
{
	struct task *t = &c->ask.task;
	if (c->rc == -EINVAL) {
		struct task_failure f = {.cause = FAIL_REFUSED,
			.status = c->error.status,
			.message = slice_str(c->error.text)};
		task_fail(t, &f);
	} else if (c->rc == -E2BIG) {
		task_fail_text(t, FAIL_TOO_LARGE, "the translated request is too large");
	} else if (c->rc) {
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
	} else if (!c->ask.call.path) {
		answer_load(c);
	} else if (c->rendering) {
		chat_render(c);
	} else {
		if (c->ask.request.n)
			buf_free(&t->body);
		ask_restored(&c->ask);
	}
}

static void on_work(uv_work_t *work)
{
	chat_prepare(work->data);
}

static void on_worked(uv_work_t *work, int status)
{
	struct chat_task *c = work->data;
	(void)status;
	c->ask.task.busy = false;
	if (task_is_detached(&c->ask.task))
		task_release(&c->ask.task);
	else
		prepared(c);
}

static void chat_body(struct task *t, struct slice bytes, bool last)
{
	struct chat_task *c = (struct chat_task *)t;
	if (!task_hold(t, bytes) || !last)
		return;
	c->work.data = c;
	if (t->body.n > CHAT_INLINE_BYTES &&
		uv_queue_work(t->worker->loop, &c->work, on_work, on_worked) == 0) {
		t->busy = true;
		return;
	}
	chat_prepare(c);
	prepared(c);
}

/* --- answering --- */

/* What the supervisor must know to have the stream gone on with. */
static void note_meaning(struct chat_task *c, const struct answer_event *e)
{
	struct task *t = &c->ask.task;
	if (!c->stream || t->opaque || e->kind == ANSWER_END)
		return;
	if (e->kind != ANSWER_TEXT || e->text.n > CHAT_SAID_BYTES ||
		buf_add_slice(&t->said, e->text)) {
		t->opaque = true; /* thinking, a tool call, no mere token; or memory is out */
		return;
	}
	t->said_tokens++; /* both backends send an event for each token that shows */
}

static void chat_answer_event(struct ask *a, const struct answer_event *e)
{
	struct chat_task *c = chat_of(a);
	struct answer_event whole = *e;
	if (c->spent && e->kind != ANSWER_END)
		return;
	if (c->echoes && e->kind == ANSWER_TEXT) {
		size_t n = resume_echo(c->said, a->task.spec.resume_tokens, e->text);
		c->echoes = false;
		whole.text = (struct slice){e->text.p + n, e->text.n - n};
		if (whole.text.n == 0)
			return;
	}
	if (a->task.spec.resume && e->kind == ANSWER_END) {
		whole.usage = resume_usage(e->usage, a->task.spec.resume_tokens, c->spent);
		if (c->spent)
			whole.finish = a->finish = FINISH_LENGTH;
	}
	note_meaning(c, &whole);
	chat_reply_event(c, &whole);
	if (c->writer && c->writer_rc == 0)
		c->writer_rc = answer_writer_put(c->writer, &whole, &c->out);
}

/* The backend's own type where it is one of an answer; some send text/plain or nothing. */
static struct slice raw_content_type(struct chat_task *c)
{
	static const char *const good[] = {
		"application/x-ndjson", "application/json", "text/event-stream"};
	struct task *t = &c->ask.task;
	struct slice type =
		t->transfer ? http_header(t->transfer, "content-type") : buf_slice(&c->ask.type);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (type.n >= strlen(good[i]) && type.n <= ASK_TYPE_BYTES &&
			strncasecmp(type.p, good[i], strlen(good[i])) == 0)
			return type;
	return slice_str(dialect_content_type(c->ask.dialect, c->stream));
}

static void send_start(struct chat_task *c)
{
	struct task *t = &c->ask.task;
	struct proto_header type = {.name = SLICE("Content-Type")};
	type.value = c->writer ? slice_str(dialect_content_type(c->ask.dialect, c->stream))
			       : raw_content_type(c);
	t->identity = buf_slice(&c->identity);
	/* An event of a stream that has a name nobody knows cannot be written by another. */
	if (c->stream && dialect_has_identity(c->ask.dialect) && t->identity.n == 0)
		t->opaque = true;
	task_start(t, 200, &type, 1, c->stream ? -1 : (int64_t)c->out.n);
}

/* Sends what is in out. False: the task has ended. */
static bool send_out(struct chat_task *c)
{
	struct task *t = &c->ask.task;
	if (c->writer_rc) {
		if (c->writer_rc == -E2BIG)
			task_fail(t,
				&(struct task_failure){.cause = FAIL_TOO_LARGE,
					.status = 502, /* not the client's fault */
					.message = SLICE("the answer is over limits.line_bytes")});
		else
			task_fail_text(t, FAIL_INTERNAL, "out of memory");
		return false;
	}
	if (c->out.n == 0)
		return true;
	if (!t->started)
		send_start(c);
	if (c->out.cap > CHAT_OUT_KEEP_BYTES)
		return task_emit_buf(t, &c->out);
	if (!task_emit(t, buf_slice(&c->out)))
		return false;
	buf_clear(&c->out);
	return true;
}

/* A large event of a raw stream goes out in the buffer that it was put together in: a copy of it
 * takes long. What lies behind it there stays. */
static void emit_raw(struct ask *a, struct slice bytes)
{
	struct buf rest;
	if (bytes.n <= CHAT_OUT_KEEP_BYTES || bytes.p != a->partial.p) {
		task_emit(&a->task, bytes);
		return;
	}
	buf_init(&rest, a->partial.max);
	if (buf_add(&rest, bytes.p + bytes.n, a->partial.n - bytes.n)) {
		task_fail_text(&a->task, FAIL_INTERNAL, "out of memory");
		return;
	}
	a->partial.n = bytes.n;
	task_emit_buf(&a->task, &a->partial);
	a->partial = rest;
	a->partial_used = 0;
}

/* What the client asked for, without the counts that we did: in one piece, since what has come of the
 * backend's bytes is told with each. */
static void emit_others(struct ask *a, struct slice bytes)
{
	struct slice counts = usage_event(bytes);
	struct slice before = {bytes.p, (size_t)(counts.p - bytes.p)};
	struct slice behind = {counts.p + counts.n, bytes.n - before.n - counts.n};
	struct buf others;
	if (counts.n == 0 || before.n + behind.n == 0) {
		if (counts.n == 0)
			emit_raw(a, bytes);
		return;
	}
	buf_init(&others, 0);
	buf_add_slice(&others, before);
	if (buf_add_slice(&others, behind))
		task_fail_text(&a->task, FAIL_INTERNAL, "out of memory");
	else
		task_emit_buf(&a->task, &others);
	buf_free(&others);
}

static void stream_raw(struct chat_task *c, struct slice bytes)
{
	struct ask *a = &c->ask;
	if (!a->task.started) {
		if (dialect_has_identity(a->dialect) && bytes.n <= CHAT_SAID_BYTES)
			resume_identity(bytes, &c->identity);
		send_start(c);
	}
	if (a->call.hides_usage && bytes.n <= CHAT_SAID_BYTES)
		emit_others(a, bytes);
	else
		emit_raw(a, bytes);
}

/* The same under the name that the client asked for. */
static void stream_named(struct chat_task *c, struct slice bytes)
{
	c->writer_rc = naming_put(&c->naming, bytes, &c->out);
	if (c->writer_rc) {
		send_out(c);
		return;
	}
	stream_raw(c, buf_slice(&c->out));
	if (c->out.cap > CHAT_OUT_KEEP_BYTES)
		buf_free(&c->out);
	else
		buf_clear(&c->out);
}

static void chat_bytes(struct ask *a, struct slice bytes)
{
	struct chat_task *c = chat_of(a);
	bool named = c->naming.name.n > 0;
	if (c->writer)
		send_out(c);
	else if (c->stream && named)
		stream_named(c, bytes);
	else if (c->stream)
		stream_raw(c, bytes);
	else /* held until it is known to be an answer: the parser caps it */
		c->writer_rc = named ? naming_put(&c->naming, bytes, &c->out)
				     : buf_add_slice(&c->out, bytes);
}

/* The client has it. */
static void chat_known(struct ask *a)
{
	struct chat_task *c = chat_of(a);
	buf_clear(&c->out);
	buf_clear(&a->task.said);
	a->task.said_tokens = 0;
}

static void chat_complete(struct ask *a)
{
	struct chat_task *c = chat_of(a);
	if (!send_out(c))
		return;
	struct task_end end = {.usage = ask_usage(a),
		.finish = a->error_status ? "error" : ask_finish_name(a->finish),
		.reply = chat_reply_end(c)};
	task_end(&a->task, &end);
}

/* A load or unload asked of llama-server, which has its model always: it is said to be done. */
static void answer_load(struct chat_task *c)
{
	struct ask *a = &c->ask;
	struct answer_event end = {.kind = ANSWER_END,
		.finish = c->unload ? FINISH_UNLOAD : FINISH_LOAD,
		.usage = a->usage};
	a->finish = end.finish;
	chat_answer_event(a, &end);
	chat_complete(a);
}

static const struct ask_ops chat_ask_ops = {.event = chat_answer_event,
	.bytes = chat_bytes,
	.complete = chat_complete,
	.known = chat_known};

/* --- life --- */

static void chat_begin(struct task *t)
{
	struct chat_task *c = (struct chat_task *)t;
	ask_init(&c->ask, &chat_ask_ops, (enum dialect)t->spec.dialect);
	t->kept = t->spec.replay;
	c->api = backend_profile(t->worker->settings.type)->api;
	c->strict = backend_traits(t->worker->backend) & TRAIT_STRICT_JSON;
	c->continues = backend_traits(t->worker->backend) & TRAIT_CONTINUES;
	c->body_bytes = t->worker->settings.body_bytes;
	c->line_bytes = t->worker->settings.line_bytes;
	buf_init(&c->out, 0); /* the writer's cap and one piece of curl's bound it */
	buf_init(&c->identity, RESUME_IDENTITY_BYTES * 2);
	buf_init(&c->render, t->worker->settings.body_bytes * 2);
	buf_init(&c->rendered, t->worker->settings.body_bytes * 2 + ASK_REFUSAL_BYTES);
	if (t->spec.resume_bytes > 0 && t->spec.resume_bytes > t->spec.body_bytes)
		task_fail_text(t, FAIL_REFUSED, "more text than body");
	else if (t->spec.body_bytes > (int64_t)t->worker->settings.body_bytes)
		task_fail_text(t, FAIL_TOO_LARGE, "the request body is over limits.body_bytes");
	else if (!dialect_is_chat((enum dialect)t->spec.dialect))
		task_fail_text(t, FAIL_REFUSED, "not a chat dialect");
}

static void chat_fini(struct task *t)
{
	struct chat_task *c = (struct chat_task *)t;
	ask_fini(&c->ask);
	answer_writer_destroy(c->writer);
	naming_fini(&c->naming);
	chat_reply_fini(c);
	buf_free(&c->out);
	buf_free(&c->identity);
	buf_free(&c->render);
	buf_free(&c->rendered);
}

const struct task_ops task_chat_ops = {
	.size = sizeof(struct chat_task),
	.begin = chat_begin,
	.body = chat_body,
	.linger = ask_linger,
	.fini = chat_fini,
};
