/*
 * JOB_WARM: a chat request whose prompt is to be in the backend's prefix cache when the client
 * sends it. Asked as JOB_CHAT would ask it, but for no answer; what comes back are the counts.
 */
#include "workers/backend/backend.h"
#include "workers/tasks/ask.h"

#include <errno.h>

#define WARM_INLINE_BYTES 262144 /* a larger body is built on a thread */

struct warm_task {
	struct ask ask;
	struct dialect_error error;
	enum backend_api api;
	int rc;
	uv_work_t work;
};

/* Only touches the task's own memory, and nothing that it points to: any thread. */
static void build(struct warm_task *w)
{
	struct ask *a = &w->ask;
	struct task *t = &a->task;
	struct chat_request request;
	struct buf call;
	w->rc = chat_request_scan(a->dialect, buf_slice(&t->body), &request, &w->error);
	if (w->rc)
		return;
	buf_init(&call, a->request.max);
	w->rc = backend_call_build(w->api, &request, t->spec.num_ctx, &a->call, &call, &w->error);
	if (w->rc == 0 && a->call.path)
		w->rc = backend_warm_build(
			w->api, buf_slice(call.n ? &call : &t->body), &a->request);
	chat_request_fini(&request);
	buf_free(&call);
	a->call.raw = a->call.stream = false;
	if (w->rc == 0 && a->call.path)
		ask_prepare(a);
}

static void built(struct warm_task *w)
{
	struct task *t = &w->ask.task;
	if (w->rc == -EINVAL)
		task_fail(t, &(struct task_failure){.cause = FAIL_REFUSED,
				     .status = w->error.status,
				     .message = slice_str(w->error.text)});
	else if (w->rc)
		task_fail_text(t, w->rc == -E2BIG ? FAIL_TOO_LARGE : FAIL_INTERNAL,
			"cannot build the request");
	else if (!w->ask.call.path)
		task_fail_text(t, FAIL_REFUSED, "this request has no prompt");
	else
		ask_restored(&w->ask);
}

static void on_work(uv_work_t *work)
{
	build(work->data);
}

static void on_worked(uv_work_t *work, int status)
{
	struct warm_task *w = work->data;
	(void)status;
	w->ask.task.busy = false;
	if (task_is_detached(&w->ask.task))
		task_release(&w->ask.task);
	else
		built(w);
}

static void warm_body(struct task *t, struct slice bytes, bool last)
{
	struct warm_task *w = (struct warm_task *)t;
	if (!task_hold(t, bytes) || !last)
		return;
	w->work.data = w;
	w->api = backend_profile(t->worker->settings.type)->api;
	if (t->body.n > WARM_INLINE_BYTES &&
		uv_queue_work(t->worker->loop, &w->work, on_work, on_worked) == 0) {
		t->busy = true;
		return;
	}
	build(w);
	built(w);
}

static void warm_event(struct ask *a, const struct answer_event *e)
{
	(void)a, (void)e;
}

static void warm_bytes(struct ask *a, struct slice bytes)
{
	(void)a, (void)bytes;
}

static void warm_complete(struct ask *a)
{
	struct task_end end = {.usage = ask_usage(a), .finish = ask_finish_name(a->finish)};
	task_end(&a->task, &end);
}

static const struct ask_ops warm_ask_ops = {
	.event = warm_event, .bytes = warm_bytes, .complete = warm_complete};

static void warm_begin(struct task *t)
{
	struct warm_task *w = (struct warm_task *)t;
	ask_init(&w->ask, &warm_ask_ops, (enum dialect)t->spec.dialect);
	if (!dialect_is_chat((enum dialect)t->spec.dialect))
		task_fail_text(t, FAIL_REFUSED, "not a chat dialect");
}

static void warm_fini(struct task *t)
{
	ask_fini(&((struct warm_task *)t)->ask);
}

const struct task_ops task_warm_ops = {
	.size = sizeof(struct warm_task),
	.begin = warm_begin,
	.body = warm_body,
	.linger = ask_linger,
	.fini = warm_fini,
};
