/*
 * JOB_PASS of a request for embeddings that the backend may not understand as it is: the body is held
 * and read, and sent as it is where it does, else translated, and the answer written in the client's
 * form (common/dialect/embed.h). Large ones are read and written on a thread.
 */
#include "common/dialect/embed.h"

#include "common/base/json.h"
#include "workers/backend/backend.h"
#include "workers/tasks/pass_task.h"
#include "workers/tasks/refusal.h"

#include <errno.h>
#include <stdio.h>

#define EMBED_INLINE_BYTES 65536 /* more is worked on by a thread */
/* llama-server's words for a text that is longer than the one batch that it is read in, of which it
 * makes a 500. Of no chat: those are read in several. */
#define TOO_LARGE "is too large to process"

struct embed_task {
	struct pass_task pass;
	struct embed_request read;
	struct buf request, answer, out;
	struct buf asked; /* the name for the answer, as JSON; empty: the request's */
	struct dialect_error error;
	int status, rc;
	bool writing; /* what the thread does: the answer, not the request */
	uv_work_t work;
};

static const struct proto_header json_type = {
	SLICE("Content-Type"), SLICE("application/json; charset=utf-8")};
static const struct task_end no_usage = {.usage = {-1, -1, -1, -1, -1, -1}};

/* --- the end --- */

static void reply(struct task *t, int status, struct slice body)
{
	task_start(t, status, &json_type, 1, (int64_t)body.n);
	if (task_emit(t, body))
		task_end(t, &no_usage);
}

static void reply_error(struct task *t, int status, struct slice message)
{
	struct buf body;
	buf_init(&body, 0);
	if (dialect_error_body((enum dialect)t->spec.dialect, status, message, &body))
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
	else
		reply(t, status, buf_slice(&body));
	buf_free(&body);
}

/* In the words that the client's packages know. */
static void reply_overflow(struct embed_task *e, const struct refusal *r)
{
	struct task *t = &e->pass.task;
	uint64_t prompt = r->prompt_tokens > 0 ? (uint64_t)r->prompt_tokens : 0;
	uint64_t window = r->window_tokens > 0 ? (uint64_t)r->window_tokens : 0;
	struct buf body;
	if (e->read.form != EMBED_OPENAI) {
		reply_error(t, 400, SLICE("the input length exceeds the context length"));
		return;
	}
	buf_init(&body, 0);
	if (dialect_overflow_body((enum dialect)t->spec.dialect, prompt, window, &body))
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
	else
		reply(t, 400, buf_slice(&body));
	buf_free(&body);
}

static void reply_written(struct embed_task *e)
{
	struct task *t = &e->pass.task;
	if (e->rc == -EPROTO)
		task_fail_text(t, FAIL_GARBAGE, "the backend's answer holds no embeddings");
	else if (e->rc)
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
	else
		reply(t, 200, buf_slice(&e->out));
}

/* --- work --- */

/* As Ollama takes a body: broken UTF-8, and bytes behind the object. */
static int read_request(struct embed_task *e)
{
	struct buf *body = &e->pass.task.body;
	json_mend_body(body);
	json_mend_tail(body);
	return embed_request_read(&e->read, buf_slice(body), &e->request, &e->error);
}

/* Only touches the task's own memory: any thread. */
static void do_work(struct embed_task *e)
{
	if (e->writing)
		e->rc = embed_answer_write(&e->read, buf_slice(&e->answer),
			uv_hrtime() - e->pass.task.opened_ns, &e->out);
	else
		e->rc = read_request(e);
}

static void embed_asked(struct embed_task *e);

static void work_done(struct embed_task *e)
{
	if (e->writing)
		reply_written(e);
	else
		embed_asked(e);
}

static void on_work(uv_work_t *work)
{
	do_work(work->data);
}

static void on_worked(uv_work_t *work, int status)
{
	struct embed_task *e = work->data;
	(void)status;
	e->pass.task.busy = false;
	if (task_is_detached(&e->pass.task))
		task_release(&e->pass.task);
	else
		work_done(e);
}

static void start_work(struct embed_task *e, bool writing)
{
	if (writing && e->asked.n)
		e->read.name = buf_slice(&e->asked);
	size_t n = writing ? e->answer.n : e->pass.task.body.n;
	e->writing = writing;
	e->work.data = e;
	if (n > EMBED_INLINE_BYTES &&
		uv_queue_work(e->pass.task.worker->loop, &e->work, on_work, on_worked) == 0) {
		e->pass.task.busy = true;
		return;
	}
	do_work(e);
	work_done(e);
}

/* --- the backend's answer --- */

static void on_head(void *ctx, int status)
{
	struct embed_task *e = ctx;
	e->status = status;
	task_first_byte(&e->pass.task);
}

static void on_body(void *ctx, struct slice bytes)
{
	struct embed_task *e = ctx;
	e->pass.task.worker->progress++;
	buf_add_slice(&e->answer, bytes); /* the error stays, and is told at the end */
}

static void on_done(void *ctx, enum http_result result)
{
	struct embed_task *e = ctx;
	struct task *t = &e->pass.task;
	t->transfer = NULL;
	if (result != HTTP_OK) {
		task_fail_http(t, result);
	} else if (buf_error(&e->answer)) {
		task_fail(
			t, &(struct task_failure){.cause = FAIL_TOO_LARGE,
				   .status = 502, /* not the client's fault */
				   .message = SLICE("the embeddings are over limits.body_bytes")});
	} else if (task_key_refused(t, e->status)) {
		return;
	} else if (e->status != 200) {
		struct refusal r;
		refusal_read(e->status, buf_slice(&e->answer), &r);
		if (r.overflow || strstr(r.text, TOO_LARGE))
			reply_overflow(e, &r);
		else
			reply_error(t, e->status >= 400 ? e->status : 502, slice_str(r.text));
	} else {
		start_work(e, true);
	}
}

static const struct http_events embed_events = {.head = on_head, .body = on_body, .done = on_done};

/* --- the request --- */

/* Ollama's clients expect an error for a model that is not there; Ollama says so itself, and others
 * answer with what they have. */
static bool is_served(struct embed_task *e)
{
	const char *name = buf_cstr(&e->read.model);
	const struct worker_self *w = e->pass.task.worker;
	const struct backend_view *v = backend_view(w->backend);
	if (e->read.form == EMBED_OPENAI || e->read.back == BACKEND_OLLAMA)
		return true;
	if (w->settings.model && backend_same_model(w->settings.model, name))
		return true;
	for (size_t i = 0; i < v->count; i++)
		if (backend_same_model(v->models[i].name, name))
			return true;
	return false;
}

static void send_request(struct embed_task *e)
{
	struct task *t = &e->pass.task;
	struct proto_header headers[PROTO_HEADERS_MAX + 1];
	size_t count = 1 + task_request_headers(t, headers + 1, PROTO_HEADERS_MAX), kept = 1;
	headers[0] = (struct proto_header){SLICE("Content-Type"), SLICE("application/json")};
	for (size_t i = 1; i < count; i++)
		if (!slice_ieq(headers[i].name, headers[0].name))
			headers[kept++] = headers[i];
	struct http_request r = {
		.method = "POST",
		.target = slice_str(embed_target(e->read.back)),
		.headers = headers,
		.header_count = kept,
		.body = buf_slice(&e->request),
		.again = true,
		.first_ms = t->worker->settings.first_ms,
		.idle_ms = t->worker->settings.idle_ms,
		.total_ms = task_time_left(t),
	};
	task_ask(t, &r, &embed_events);
}

static void embed_asked(struct embed_task *e)
{
	struct task *t = &e->pass.task;
	char text[512];
	if (e->rc == -EINVAL) {
		reply_error(t, e->error.status, slice_str(e->error.text));
	} else if (e->rc) {
		task_fail_text(t, e->rc == -E2BIG ? FAIL_TOO_LARGE : FAIL_INTERNAL,
			e->rc == -E2BIG ? "the translated request is too large" : "out of memory");
	} else if (e->read.raw) {
		pass_send(t, false);
	} else if (!is_served(e)) {
		snprintf(text, sizeof(text), "model \"%.400s\" not found, try pulling it first",
			buf_cstr(&e->read.model));
		reply_error(t, 404, slice_str(text));
	} else if (e->read.nothing) {
		start_work(e, true);
	} else {
		send_request(e);
	}
}

static void embed_body(struct task *t, struct slice bytes, bool last)
{
	if (task_hold(t, bytes) && last)
		start_work((struct embed_task *)t, false);
}

/* --- life --- */

static void embed_begin(struct task *t)
{
	struct embed_task *e = (struct embed_task *)t;
	embed_path(t->spec.path, &e->read.form);
	e->read.back = backend_profile(t->worker->settings.type)->api;
	buf_init(&e->request, t->worker->settings.body_bytes * 2);
	buf_init(&e->answer, t->worker->settings.body_bytes);
	buf_init(&e->out, 0); /* a copy of the answer's vectors */
	buf_init(&e->asked, 0);
	if (t->spec.asked.n && json_put_string(&e->asked, t->spec.asked))
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
	else if (!slice_eq(t->spec.method, SLICE("POST")))
		reply_error(t, 405, SLICE("method not allowed"));
	else if (t->spec.body_bytes == 0)
		reply_error(t, 400, SLICE("missing request body"));
}

static void embed_fini(struct task *t)
{
	struct embed_task *e = (struct embed_task *)t;
	pass_fini(t);
	embed_request_fini(&e->read);
	buf_free(&e->request);
	buf_free(&e->answer);
	buf_free(&e->out);
	buf_free(&e->asked);
}

const struct task_ops task_embed_ops = {
	.size = sizeof(struct embed_task),
	.begin = embed_begin,
	.body = embed_body,
	.fini = embed_fini,
};
