/* How the backend's template goes on with an answer that was begun: resume.h. */
#include "workers/tasks/chat_task.h"

#include <errno.h>

static void on_render_head(void *ctx, int status)
{
	struct chat_task *c = ctx;
	c->ask.task.heard = true;
	c->render_status = status;
}

static void on_render_body(void *ctx, struct slice bytes)
{
	struct chat_task *c = ctx;
	c->ask.task.worker->progress++;
	buf_add_slice(&c->rendered, bytes); /* over its cap it is no JSON */
}

/* The chat itself where its template leaves the turn open and tools must be seen; else
 * the prompt. */
static int choose_way(struct chat_task *c)
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
	struct chat_task *c = ctx;
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

void chat_render(struct chat_task *c)
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
