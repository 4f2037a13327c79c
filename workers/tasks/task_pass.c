/*
 * JOB_PASS: any other HTTP request, streamed both ways without a look at its bytes. A small body is
 * held and sent as one, over a kept connection; a large one never is. Questions that the backend
 * has no answer for but we do (backend_kind.owns) are answered here.
 */
#include "common/base/hop.h"
#include "common/base/log.h"
#include "workers/backend/backend.h"
#include "workers/backend/slots.h"
#include "workers/tasks/pass_task.h"

#include <errno.h>

#define HEADERS_MAX (PROTO_HEADERS_MAX - 8) /* of an answer; the gateway adds some of its own */
#define HEADERS_BYTES_MAX 32768		    /* together; what is over is left out, and logged */
#define PASS_HELD_BYTES PROTO_PIECE_BYTES   /* bodies up to this are held */

static struct pass_task *pass_of(struct task *t)
{
	return (struct pass_task *)t;
}

/* --- the answer --- */

static int64_t content_length(struct http_transfer *t)
{
	struct slice length = http_header(t, "content-length");
	int64_t n = length.n && length.n < 19 ? 0 : -1;
	for (size_t i = 0; n >= 0 && i < length.n; i++)
		n = length.p[i] >= '0' && length.p[i] <= '9' ? n * 10 + (length.p[i] - '0') : -1;
	return n;
}

static bool type_is(struct slice type, const char *name)
{
	size_t n = strlen(name);
	return type.n >= n && slice_ieq((struct slice){type.p, n}, slice_str(name));
}

/* An answer in JSON names the model. False: out of memory, and the task has failed. */
static bool watch_name(struct task *t)
{
	struct slice type = http_header(t->transfer, "content-type");
	bool lines = type_is(type, "text/event-stream") || type_is(type, "application/x-ndjson");
	if (t->spec.asked.n == 0 || http_header(t->transfer, "content-encoding").n ||
		(!lines && !type_is(type, "application/json")))
		return true;
	if (naming_init(&pass_of(t)->naming, t->spec.asked, lines) == 0)
		return true;
	task_fail_text(t, FAIL_INTERNAL, "out of memory");
	return false;
}

static void on_head(void *ctx, int status)
{
	struct task *t = ctx;
	struct proto_header headers[PROTO_HEADERS_MAX];
	struct slice name, value;
	/* besides our own list it names what is of this hop alone (RFC 9110 7.6.1) */
	struct slice connection = http_header(t->transfer, "connection");
	size_t count = 0, bytes = 0, left_out = 0;
	t->heard = true;
	pass_of(t)->status = status;
	task_first_byte(t);
	if (task_key_refused(t, status) || !watch_name(t))
		return;
	for (size_t at = 0; http_header_next(t->transfer, &at, &name, &value);) {
		if (hop_header(name) || slice_ieq(name, SLICE("date")) ||
			slice_lists(connection, name))
			continue;
		if (count == HEADERS_MAX || bytes + name.n + value.n > HEADERS_BYTES_MAX) {
			left_out++;
			continue;
		}
		bytes += name.n + value.n;
		headers[count++] = (struct proto_header){name, value};
	}
	if (left_out)
		log_line(LOG_WARN, "headers_left_out", LOG_SLICE("req", t->spec.request_id),
			LOG_INT("count", left_out), LOG_END);
	task_start(t, status, headers, count,
		pass_of(t)->naming.name.n ? -1 : content_length(t->transfer));
}

static void on_body(void *ctx, struct slice bytes)
{
	struct pass_task *p = ctx;
	if (p->naming.name.n == 0)
		task_emit(&p->task, bytes);
	else if (naming_put(&p->naming, bytes, &p->out))
		task_fail_text(&p->task, FAIL_INTERNAL, "out of memory");
	else
		task_emit_buf(&p->task, &p->out);
}

static void on_sent(void *ctx, size_t n)
{
	struct task *t = ctx;
	t->worker->progress++;
	task_take(t, n);
}

static const struct task_end no_usage = {.usage = {-1, -1, -1, -1, -1, -1}};

static void on_refreshed(void *ctx)
{
	task_end(ctx, &no_usage);
}

static void on_done(void *ctx, enum http_result result)
{
	struct task *t = ctx;
	struct pass_task *p = pass_of(t);
	t->transfer = NULL;
	if (result != HTTP_OK)
		task_fail_http(t, result);
	else if (p->changes_models && p->status < 300)
		backend_refresh(t->worker->backend, &p->waiter);
	else
		task_end(t, &no_usage);
}

static const struct http_events pass_events = {
	.head = on_head, .body = on_body, .sent = on_sent, .done = on_done};

/* --- the request --- */

static bool only_asks(const struct task *t)
{
	struct slice path = t->spec.path;
	const char *query = path.n ? memchr(path.p, '?', path.n) : NULL;
	if (query)
		path.n = (size_t)(query - path.p);
	return dialect_only_asks(t->spec.method.n ? t->spec.method : SLICE("GET"), path);
}

void pass_send(struct task *t, bool upload)
{
	struct proto_header headers[PROTO_JOB_HEADERS_MAX];
	struct http_request r = {
		.method = t->spec.method.n ? t->spec.method.p
					   : "GET", /* NUL-terminated by tasks_open() */
		.target = t->spec.path,
		.headers = headers,
		.header_count = task_request_headers(t, headers, PROTO_JOB_HEADERS_MAX),
		.body = buf_slice(&t->body),
		.again = only_asks(t),
		.upload = upload,
		.upload_bytes = t->spec.body_bytes,
		.idle_ms = t->worker->settings.idle_ms,
		.first_ms = t->worker->settings.first_ms,
		.total_ms = task_time_left(t),
	};
	task_ask(t, &r, &pass_events);
}

static void answer_here(struct task *t)
{
	const struct backend_kind *kind = backend_kind(t->worker->settings.type);
	struct backend_answer answer = {0};
	buf_init(&answer.body, 0);
	if (kind->answer(&t->worker->settings, backend_view(t->worker->backend), t->spec.method,
		    t->spec.path, buf_slice(&t->body), &answer)) {
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
	} else {
		struct proto_header type = {SLICE("Content-Type"), slice_str(answer.content_type)};
		task_start(t, answer.status, &type, 1, (int64_t)answer.body.n);
		if (slice_eq(t->spec.method, SLICE("HEAD")) ||
			task_emit(t, buf_slice(&answer.body)))
			task_end(t, &no_usage);
	}
	buf_free(&answer.body);
}

/* *body: the answer needs the request's body. */
static bool is_owned(struct task *t, bool *body)
{
	const struct backend_kind *kind = backend_kind(t->worker->settings.type);
	return kind->owns && kind->owns(t->spec.path, body);
}

static void pass_complete(struct task *t)
{
	bool body;
	if (is_owned(t, &body))
		answer_here(t);
	else
		pass_send(t, false);
}

static void pass_body(struct task *t, struct slice bytes, bool last)
{
	if (pass_of(t)->held) {
		if (task_hold(t, bytes) && last)
			pass_complete(t);
		return;
	}
	if (!t->transfer)
		return; /* answered before the upload's end: the rest is of no use */
	int rc = bytes.n ? http_send(t->transfer, bytes) : 0;
	if (rc)
		task_fail_text(t, FAIL_INTERNAL,
			rc == -E2BIG ? "the upload is ahead of its credit" : "out of memory");
	else if (last)
		http_send_end(t->transfer);
}

static bool path_changes_models(struct slice path)
{
	static const char *const paths[] = {
		"/api/pull", "/api/create", "/api/copy", "/api/delete", NULL};
	for (const char *const *p = paths; *p; p++)
		if (slice_eq(path, slice_str(*p)))
			return true;
	return false;
}

/* What would make a client write, overwrite or read files in a folder of ours. */
static bool is_forbidden(const struct task *t)
{
	return backend_has_our_folder(t->worker->backend) &&
	       slots_is_action(t->spec.method, t->spec.path);
}

static void pass_begin(struct task *t)
{
	struct pass_task *p = pass_of(t);
	if (is_forbidden(t)) {
		task_fail(t,
			&(struct task_failure){.cause = FAIL_REFUSED,
				.status = 403,
				.message = SLICE("saved slots are the gateway's own here; give the "
						 "backend's command a --slot-save-path to use "
						 "them")});
		return;
	}
	p->changes_models = path_changes_models(t->spec.path);
	p->waiter.fn = on_refreshed;
	p->waiter.ctx = t;
	bool needs_body = false, owned = is_owned(t, &needs_body);
	p->held = owned || (t->spec.body_bytes >= 0 && t->spec.body_bytes <= PASS_HELD_BYTES);
	t->body.max = PASS_HELD_BYTES;
	/* What is refused needs no look at a body, which may be many gigabytes. */
	if (t->spec.body_bytes == 0 || (owned && !needs_body)) {
		t->body_ended = true;
		pass_complete(t);
	} else if (!p->held) {
		pass_send(t, true);
	}
}

void pass_fini(struct task *t)
{
	struct pass_task *p = pass_of(t);
	naming_fini(&p->naming);
	buf_free(&p->out);
	if (p->waiter.waiting)
		backend_forget(t->worker->backend, &p->waiter);
}

const struct task_ops task_pass_ops = {
	.size = sizeof(struct pass_task),
	.begin = pass_begin,
	.body = pass_body,
	.fini = pass_fini,
	.is_order = true,
};
