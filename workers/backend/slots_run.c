/* One operation after the other: a look at the slots, then a request for each that is saved or restored. */
#include "workers/backend/slots_private.h"

#include "common/base/log.h"
#include "workers/http/http.h"

#include <stdio.h>

static const char *op_name(enum slots_op op)
{
	static const char *const names[] = {[OP_NONE] = "",
		[OP_SAVE_ALL] = "end",
		[OP_SAVE_IDLE] = "idle",
		[OP_RESTORE_START] = "start",
		[OP_RESTORE_ONE] = "request"};
	return names[op];
}

/* --- its end --- */

static void wake(struct slots *s)
{
	struct slots_waiter *w = s->waiters;
	if (!w)
		return; /* it does not want it any more */
	s->waiters = w->next;
	w->waiting = false;
	w->restored = s->good > 0;
	w->fn(w->ctx);
}

void slots_let_go(struct slots *s)
{
	s->op = OP_NONE;
	s->looking = false;
	buf_free(&s->request);
	buf_free(&s->answer);
}

static void conclude(struct slots *s)
{
	unsigned left_out = s->step_count - s->at;
	for (; !slots_keeps(s) && !slots_saves(s) && s->at < s->step_count; s->at++)
		kept_remove(&s->kept, s->steps[s->at].id);
	slots_write_index(s);
	if (s->step_count)
		log_line(left_out && s->op != OP_SAVE_IDLE ? LOG_WARN : LOG_INFO,
			slots_saves(s) ? "slots_saved" : "slots_restored",
			LOG_STR("at", op_name(s->op)), LOG_INT("slots", s->good),
			LOG_INT("tokens", s->tokens), LOG_INT("bytes", s->bytes),
			LOG_INT("ms", uv_now(s->worker->loop) - s->begun_ms),
			LOG_INT("left_out", left_out), LOG_END);
	slots_let_go(s);
}

void slots_start_waiting(struct slots *s)
{
	while (s->waiters && s->op == OP_NONE &&
		(s->off || !slots_begin(s, OP_RESTORE_ONE, NULL, NULL))) {
		s->good = 0;
		wake(s);
	}
}

static void finish(struct slots *s)
{
	enum slots_op op = s->op;
	if (s->beginning) {
		s->over = true; /* slots_begin() says so */
		return;
	}
	conclude(s);
	if (op == OP_RESTORE_ONE)
		wake(s);
	else if (s->done)
		s->done(s->ctx);
	slots_idle_next(s);
	slots_start_waiting(s);
}

static void next(struct slots *s);

/* --- what the server says --- */

static void on_head(void *ctx, int status)
{
	struct slots *s = ctx;
	s->status = status;
}

static void on_body(void *ctx, struct slice bytes)
{
	struct slots *s = ctx;
	s->worker->progress++;
	buf_add_slice(&s->answer, bytes); /* over its cap: no JSON any more */
}

/* Files that are not what was written are no use. */
static void drop_damaged(struct slots *s)
{
	for (size_t i = 0; i < s->kept.count;) {
		struct kept_file f = s->kept.files[i];
		if (f.model != s->model || kept_is_whole(&s->kept, &f)) {
			i++;
			continue;
		}
		log_line(LOG_WARN, "slot_file_damaged", LOG_INT("bytes", f.bytes), LOG_END);
		kept_remove(&s->kept, f.id);
		slots_gone(s, &f);
	}
}

static void plan(struct slots *s)
{
	if (!slots_saves(s))
		drop_damaged(s);
	slots_plan(s);
}

static void looked(struct slots *s, enum http_result result)
{
	s->looking = false;
	if (result == HTTP_OK && s->status == 200 && !buf_error(&s->answer))
		s->seen_count = slots_look(buf_slice(&s->answer), s->seen);
	if (s->seen_count != s->count)
		s->seen_count = 0;
	plan(s);
	next(s);
}

static void on_done(void *ctx, enum http_result result)
{
	struct slots *s = ctx;
	s->transfer = NULL;
	if (s->looking) {
		looked(s, result);
		return;
	}
	if (result != HTTP_OK) {
		slots_spoiled(s, result);
		finish(s);
		return;
	}
	slots_learn(s);
	s->at++;
	next(s);
}

/* --- asking it --- */

static void ask(struct slots *s, const char *method)
{
	static const struct http_events events = {
		.head = on_head, .body = on_body, .done = on_done};
	static const struct proto_header json = {SLICE("Content-Type"), SLICE("application/json")};
	uint64_t now = uv_now(s->worker->loop);
	s->status = 0;
	buf_clear(&s->answer);
	struct http_request r = {.method = method,
		.target = slice_str(s->target),
		.headers = &json,
		.header_count = s->request.n ? 1 : 0,
		.body = buf_slice(&s->request),
		.total_ms = (int64_t)(s->deadline_ms - now)};
	s->step_ms = uv_hrtime();
	if (buf_error(&s->request) || http_start(s->worker->http, &r, &events, s, &s->transfer))
		finish(s);
}

static void next(struct slots *s)
{
	char name[KEPT_NAME_BYTES];
	bool wanted = s->op != OP_SAVE_IDLE || (s->worker->open_tasks == 0 && !s->off);
	if (s->at >= s->step_count || uv_now(s->worker->loop) >= s->deadline_ms || !wanted) {
		finish(s);
		return;
	}
	kept_name(&s->kept, slots_step(s)->id, name);
	snprintf(s->target, sizeof(s->target), "/slots/%u?action=%s", slots_step(s)->slot,
		slots_saves(s) ? "save" : "restore");
	buf_clear(&s->request);
	buf_printf(&s->request, "{\"filename\":\"%s%s\"}", name, slots_saves(s) ? KEPT_NEW : "");
	ask(s, "POST");
}

static bool must_look(const struct slots *s)
{
	return slots_saves(s) || (s->op == OP_RESTORE_ONE && s->count > 1);
}

static void look(struct slots *s)
{
	s->looking = true;
	snprintf(s->target, sizeof(s->target), "/slots");
	ask(s, "GET");
}

bool slots_begin(struct slots *s, enum slots_op op, slots_done_fn *done, void *ctx)
{
	s->op = op;
	s->seen_count = s->step_count = s->at = s->good = 0;
	s->tokens = s->bytes = 0;
	s->begun_ms = uv_now(s->worker->loop);
	s->deadline_ms = s->begun_ms + (uint64_t)s->worker->settings.kv_ms;
	s->done = done;
	s->ctx = ctx;
	buf_init(&s->request, 256);
	buf_init(&s->answer, SLOTS_ANSWER_BYTES);
	s->beginning = true;
	s->over = false;
	if (must_look(s)) {
		look(s);
	} else {
		plan(s);
		next(s);
	}
	s->beginning = false;
	if (s->over)
		conclude(s);
	return !s->over;
}
