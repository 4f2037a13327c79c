/* What is sent to the backend: a call, or, of a stream that it keeps, the wish to read that again. */
#include "workers/tasks/ask_private.h"

#include "workers/backend/backend.h"
#include "workers/tasks/replay.h"

/* Reads again what an earlier job has asked for. */
static void send_again(struct ask *a)
{
	struct task *t = &a->task;
	char target[REPLAY_TARGET_BYTES];
	if (!replay_target(t->spec.stream_id, target)) {
		task_fail_text(t, FAIL_GONE, "that is no name of a stream");
		return;
	}
	struct http_request r = {
		.method = "GET",
		.target = slice_str(target),
		.early_head = true,
		.idle_ms = t->worker->settings.idle_ms,
		.first_ms = t->worker->settings.first_ms,
		.total_ms = task_time_left(t),
	};
	task_ask(t, &r, &ask_events);
}

/* A backend that can keeps the stream, for a job that goes on when this worker dies. */
static bool is_kept(const struct ask *a)
{
	const struct task *t = &a->task;
	return t->spec.stream_id.n > 0 && a->call.stream &&
	       backend_traits(t->worker->backend) & TRAIT_REPLAYS;
}

void ask_send(struct ask *a)
{
	struct task *t = &a->task;
	struct proto_header headers[PROTO_JOB_HEADERS_MAX + 2];
	size_t count = 1 + task_request_headers(t, headers + 1, PROTO_JOB_HEADERS_MAX), kept = 1;
	headers[0] = (struct proto_header){SLICE("Content-Type"), SLICE("application/json")};
	for (size_t i = 1; i < count; i++)
		if (!slice_ieq(headers[i].name, headers[0].name))
			headers[kept++] = headers[i];
	a->parser = answer_parser_create(
		a->call.format, a->call.stream, t->worker->settings.line_bytes, ask_on_event, a);
	if (!a->parser) {
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
		return;
	}
	if (t->worker->warm_key != a->load_key)
		t->worker->warm_key = 0; /* this call may load something else */
	if (t->spec.replay) {
		send_again(a);
		return;
	}
	t->kept = is_kept(a);
	if (t->kept)
		headers[kept++] = (struct proto_header){SLICE(REPLAY_HEADER), t->spec.stream_id};
	struct http_request r = {
		.method = "POST",
		.target = slice_str(a->call.path),
		.headers = headers,
		.header_count = kept,
		.body = ask_body(a),
		.again = true,
		.idle_ms = t->worker->settings.idle_ms,
		.first_ms = t->worker->settings.first_ms,
		.total_ms = task_time_left(t),
	};
	task_ask(t, &r, &ask_events);
}
