/*
 * JOB_CHAT: a chat request in the client's dialect. The body is held, parsed, and sent as it is
 * (raw) or translated; the answer goes back untouched, observed by the parser, or through the
 * client's writer.
 *
 * Of a stream the supervisor is told what its bytes mean (proto_record.delta), so that another job
 * can go on with it when this worker dies. Such a job gets the client's request with the text so
 * far behind it (spec.resume), asks the backend to continue, and writes as the one before it did.
 */
#include "common/dialect/resume.h"
#include "workers/backend/backend.h"
#include "workers/tasks/ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define CHAT_INLINE_BYTES 262144   /* a larger body is parsed on a thread: 1 MB takes about 2 ms */
#define CHAT_OUT_KEEP_BYTES 262144 /* translation buffer kept between pieces */
#define CHAT_SAID_BYTES 1048576	   /* of one event: no stream with more in one is gone on with */

struct chat {
	struct ask ask;
	/* Of the worker and its backend, for prepare(): a thread may still be at it, or not yet
	 * have begun, when they are gone. */
	enum backend_api api;
	bool strict; /* about its JSON */
	size_t body_bytes, line_bytes;
	struct chat_request request; /* only while preparing */
	struct dialect_error error;
	int rc;
	bool stream, unload;
	bool spent; /* resumed with nothing left of the request's limit: only the counts are wanted
		     */
	struct buf identity; /* of the stream */
	/* Of a resumed chat: the text that it goes on behind (in the task's body), and what its
	 * backend makes a prompt of. */
	struct slice said;
	bool rendering, echoes; /* its prompt must be asked for; its answer may begin with said */
	bool plain;		/* its answer can hold text alone: no tools, no images in it */
	int render_status;
	struct buf render, rendered;
	struct answer_writer *writer; /* NULL: raw */
	struct buf out; /* translated bytes of one piece; a raw answer that is no stream, until it
			   is whole */
	int writer_rc;
	uv_work_t work;
};

static struct chat *chat_of(struct ask *a)
{
	return (struct chat *)a;
}

/* --- preparing --- */

static int make_writer(struct chat *c)
{
	const struct chat_request *r = &c->request;
	unsigned char random[12];
	char id[2 * sizeof(random) + 1];
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -EIO;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(id + 2 * i, 3, "%02x", random[i]);
	struct buf model;
	buf_init(&model, 0);
	if (json_is(r->model, JSON_STRING))
		json_string_decode(r->model, &model);
	c->writer = answer_writer_create(
		r->dialect, r->stream, buf_slice(&model), id, false, c->line_bytes);
	buf_free(&model);
	if (!c->writer)
		return -ENOMEM;
	int rc = answer_writer_read(c->writer, r);
	if (rc == 0)
		rc = answer_writer_resume(c->writer, c->ask.task.spec.identity);
	return rc ? rc : buf_add_slice(&c->identity, answer_writer_identity(c->writer));
}

/* The call that goes on where `said` ends; its answer comes through a writer whatever the dialect.
 */
static int build_resumed(struct chat *c, struct slice said)
{
	struct ask *a = &c->ask;
	struct task *t = &a->task;
	struct chat_request again;
	struct buf body;
	enum dialect d;
	const char *why = resume_refused(&c->request);
	if (why) {
		c->error.status = 400;
		snprintf(c->error.text, sizeof(c->error.text), "cannot go on: %s", why);
		return -EINVAL;
	}
	buf_init(&body, c->body_bytes * 2); /* escaping may double the text */
	int rc = resume_request(
		&c->request, c->api, said, t->spec.resume_tokens, &d, &c->spent, &body);
	if (rc == 0)
		rc = chat_request_parse(d, buf_slice(&body), &again, &c->error);
	if (rc) {
		buf_free(&body);
		return rc;
	}
	rc = backend_call_build(c->api, &again, t->spec.num_ctx, &a->call, &a->request, &c->error);
	c->said = said;
	c->rendering = said.n > 0 && !again.bare;
	c->plain = json_get(again.root, "tools").raw.n <= 2; /* absent, or an empty array */
	for (size_t i = 0; i < again.count; i++)
		c->plain =
			c->plain && again.messages[i].images == 0 && again.messages[i].others == 0;
	chat_request_fini(&again);
	if (rc == 0 && a->request.n == 0) {
		a->request = body;
		body = (struct buf){0};
	}
	a->call.raw = false;
	buf_free(&body);
	return rc;
}

/* Only touches the task's own memory, which the loop leaves alone while task.busy, and nothing that
 * it points to: any thread. */
static void prepare(struct chat *c)
{
	struct ask *a = &c->ask;
	struct task *t = &a->task;
	struct slice body = buf_slice(&t->body), said = {body.p + body.n, 0};
	if (t->spec.resume) {
		said.n = (size_t)t->spec.resume_bytes; /* at most body_bytes */
		body.n -= said.n < body.n ? said.n : body.n;
		said.p = body.p + body.n;
	}
	if (c->strict)
		json_mend_surrogates(t->body.p, body.n);
	c->rc = chat_request_parse(a->dialect, body, &c->request, &c->error);
	if (c->rc)
		return;
	c->stream = c->request.stream;
	c->unload = c->request.is_unload;
	t->opaque = resume_refused(&c->request) != NULL;
	c->rc = t->spec.resume ? build_resumed(c, said)
			       : backend_call_build(c->api, &c->request, t->spec.num_ctx, &a->call,
					 &a->request, &c->error);
	if (c->rc == 0 && !a->call.raw)
		c->rc = make_writer(c);
	if (c->rc == 0 && a->call.path)
		ask_prepare(a);
	chat_request_fini(&c->request);
}

/* --- how the backend's template goes on --- */

static void on_render_head(void *ctx, int status)
{
	struct chat *c = ctx;
	c->ask.task.heard = true;
	c->render_status = status;
}

static void on_render_body(void *ctx, struct slice bytes)
{
	struct chat *c = ctx;
	c->ask.task.worker->progress++;
	buf_add_slice(&c->rendered, bytes); /* over its cap it is no JSON */
}

/* The chat itself where its template leaves the turn open and tools must be seen; else the prompt.
 */
static int choose_way(struct chat *c)
{
	struct ask *a = &c->ask;
	enum backend_api api = c->api;
	struct buf prompt, body;
	bool open = false;
	buf_init(&prompt, a->task.worker->settings.body_bytes * 2);
	buf_init(&body, a->task.worker->settings.body_bytes * 2);
	int rc = c->render_status == 200 && !buf_error(&c->rendered)
			 ? resume_rendered(api, buf_slice(&c->rendered), c->said, &prompt, &open)
			 : -EPROTO;
	if (rc == 0 && c->plain) {
		rc = resume_prompt_call(
			api, buf_slice(&a->request), buf_slice(&prompt), &a->call, &body);
		buf_free(&a->request);
		a->request = body;
		body = (struct buf){0};
		if (rc == 0)
			ask_prepare(a);
	} else if (rc == 0 && !open) {
		rc = -EPROTO;
	}
	c->echoes = rc == 0 && !c->plain;
	buf_free(&prompt);
	buf_free(&body);
	return rc;
}

static void on_render_done(void *ctx, enum http_result result)
{
	struct chat *c = ctx;
	struct task *t = &c->ask.task;
	if (task_is_detached(t)) {
		task_release(t);
		return;
	}
	if (result != HTTP_OK) {
		task_fail_http(t, result);
		t->transfer = NULL;
		return;
	}
	t->transfer = NULL;
	int rc = choose_way(c);
	if (rc == 0)
		ask_send(&c->ask);
	else if (rc == -EPROTO)
		task_fail(
			t, &(struct task_failure){.cause = FAIL_REFUSED,
				   .status = 502,
				   .message = SLICE("the backend cannot go on with this answer")});
	else
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
}

static void ask_render(struct chat *c)
{
	static const struct http_events events = {
		.head = on_render_head, .body = on_render_body, .done = on_render_done};
	static const struct proto_header json = {SLICE("Content-Type"), SLICE("application/json")};
	struct task *t = &c->ask.task;
	enum backend_api api = c->api;
	if (resume_render_body(api, buf_slice(&c->ask.request), &c->render)) {
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
		return;
	}
	struct http_request r = {
		.method = "POST",
		.target = slice_str(resume_render_path(api)),
		.headers = &json,
		.header_count = 1,
		.body = buf_slice(&c->render),
		.again = true,
		.idle_ms = t->worker->settings.idle_ms,
		.first_ms = t->worker->settings.first_ms,
		.total_ms = task_time_left(t),
	};
	task_ask(t, &r, &events);
}

static void answer_load(struct chat *c);

static void prepared(struct chat *c)
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
		ask_render(c);
	} else {
		if (c->ask.request.n)
			buf_free(&t->body);
		ask_send(&c->ask);
	}
}

static void on_work(uv_work_t *work)
{
	prepare(work->data);
}

static void on_worked(uv_work_t *work, int status)
{
	struct chat *c = work->data;
	(void)status;
	c->ask.task.busy = false;
	if (task_is_detached(&c->ask.task))
		task_release(&c->ask.task);
	else
		prepared(c);
}

static void chat_body(struct task *t, struct slice bytes, bool last)
{
	struct chat *c = (struct chat *)t;
	if (!task_hold(t, bytes) || !last)
		return;
	c->work.data = c;
	if (t->body.n > CHAT_INLINE_BYTES &&
		uv_queue_work(t->worker->loop, &c->work, on_work, on_worked) == 0) {
		t->busy = true;
		return;
	}
	prepare(c);
	prepared(c);
}

/* --- answering --- */

/* What the supervisor must know to have the stream gone on with. */
static void note_meaning(struct chat *c, const struct answer_event *e)
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

static void chat_event(struct ask *a, const struct answer_event *e)
{
	struct chat *c = chat_of(a);
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
	if (c->writer && c->writer_rc == 0)
		c->writer_rc = answer_writer_put(c->writer, &whole, &c->out);
}

/* The backend's own type where it is one of an answer; some send text/plain or nothing. */
static struct slice raw_content_type(struct chat *c)
{
	static const char *const good[] = {
		"application/x-ndjson", "application/json", "text/event-stream"};
	struct task *t = &c->ask.task;
	struct slice type =
		t->transfer ? http_header(t->transfer, "content-type") : buf_slice(&c->ask.type);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (type.n >= strlen(good[i]) && strncasecmp(type.p, good[i], strlen(good[i])) == 0)
			return type;
	return slice_str(dialect_content_type(c->ask.dialect, c->stream));
}

static void send_start(struct chat *c)
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
static bool send_out(struct chat *c)
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

static void chat_bytes(struct ask *a, struct slice bytes)
{
	struct chat *c = chat_of(a);
	if (c->writer) {
		send_out(c);
		return;
	}
	if (!c->stream) { /* held until it is known to be an answer: the parser caps it */
		c->writer_rc = buf_add_slice(&c->out, bytes);
		return;
	}
	if (!a->task.started) {
		if (dialect_has_identity(a->dialect) && bytes.n <= CHAT_SAID_BYTES)
			resume_identity(bytes, &c->identity);
		send_start(c);
	}
	emit_raw(a, bytes);
}

static void chat_complete(struct ask *a)
{
	struct chat *c = chat_of(a);
	if (!send_out(c))
		return;
	struct task_end end = {.usage = ask_usage(a),
		.finish = a->error_status ? "error" : ask_finish_name(a->finish)};
	task_end(&a->task, &end);
}

/* A load or unload asked of llama-server, which has its model always: it is said to be done. */
static void answer_load(struct chat *c)
{
	struct ask *a = &c->ask;
	struct answer_event end = {.kind = ANSWER_END,
		.finish = c->unload ? FINISH_UNLOAD : FINISH_LOAD,
		.usage = a->usage};
	a->finish = end.finish;
	chat_event(a, &end);
	chat_complete(a);
}

static const struct ask_ops chat_ask_ops = {
	.event = chat_event, .bytes = chat_bytes, .complete = chat_complete};

/* --- life --- */

static void chat_begin(struct task *t)
{
	struct chat *c = (struct chat *)t;
	ask_init(&c->ask, &chat_ask_ops, (enum dialect)t->spec.dialect);
	c->api = backend_profile(t->worker->settings.type)->api;
	c->strict = backend_traits(t->worker->backend) & TRAIT_STRICT_JSON;
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
	struct chat *c = (struct chat *)t;
	ask_fini(&c->ask);
	answer_writer_destroy(c->writer);
	buf_free(&c->out);
	buf_free(&c->identity);
	buf_free(&c->render);
	buf_free(&c->rendered);
}

const struct task_ops task_chat_ops = {
	.size = sizeof(struct chat),
	.begin = chat_begin,
	.body = chat_body,
	.linger = ask_linger,
	.fini = chat_fini,
};
