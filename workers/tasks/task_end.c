/* How tasks end: END, FAIL, which of them a transfer's end asks for, and when their memory goes. */
#include "workers/tasks/task_private.h"

#include "common/base/log.h"
#include "workers/backend/backend.h"
#include "workers/tasks/replay.h"

#include <stdlib.h>

struct task **task_find(struct task_table *table, uint64_t id)
{
	struct task **link = &table->buckets[id % TASK_BUCKETS];
	while (*link && (*link)->id != id)
		link = &(*link)->next;
	return link;
}

/* --- memory --- */

void task_free(struct task *t)
{
	t->ops->fini(t);
	buf_free(&t->body);
	buf_free(&t->pending);
	buf_free(&t->said);
	free(t->strings);
	free(t);
}

void task_reap(struct task_table *table)
{
	for (struct task **link = &table->lingering; *link;) {
		struct task *t = *link;
		if (t->life != TASK_DEAD) {
			link = &t->next;
			continue;
		}
		*link = t->next;
		task_free(t);
	}
}

static void on_reap(uv_idle_t *idle)
{
	uv_idle_stop(idle);
	task_reap(idle->data);
}

void task_release(struct task *t)
{
	if (t->life == TASK_DEAD)
		return;
	t->life = TASK_DEAD;
	http_cancel(t->transfer);
	t->transfer = NULL;
	if (t->worker->tasks->closed)
		task_reap(t->worker->tasks); /* its thread was the last that had it */
	else
		uv_idle_start(&t->worker->tasks->reaper, on_reap);
}

/* Out of the table, so that no record finds it. It lives on while something still needs it. */
void task_detach(struct task *t, bool keep)
{
	struct worker_self *w = t->worker;
	struct task **link = task_find(w->tasks, t->id);
	bool whole = t->life == TASK_ENDING && t->end.usage.prompt_tokens > 0;
	*link = t->next;
	t->next = w->tasks->lingering;
	w->tasks->lingering = t;
	t->life = TASK_DETACHED;
	if (t->asked_ns && t->spec.conversation)
		backend_answered(w->backend, &t->spec, whole ? &t->end.usage : NULL);
	if (t->doubt.waiting)
		backend_forget(w->backend, &t->doubt);
	if (t->restoring.waiting)
		backend_restore_forget(w->backend, &t->restoring);
	w->open_tasks--;
	w->progress++;
	if (!keep) {
		http_cancel(t->transfer);
		t->transfer = NULL;
		if (!t->busy)
			task_release(t);
	}
	worker_task_ended(w);
}

/* --- the end --- */

void task_end_kept(struct task *t, uint64_t in_ms)
{
	if (t->kept)
		replays_end(t->worker->replays, t->spec.stream_id, in_ms);
	t->kept = false;
}

/* Causes that another job may read the kept stream after. */
static bool leaves_kept(enum proto_cause cause)
{
	return cause == FAIL_DRAINING || cause == FAIL_UNREACHABLE || cause == FAIL_CLOSED ||
	       cause == FAIL_GONE;
}

void task_send_end(struct task *t)
{
	struct proto_record r = {.type = PROTO_END, .job = t->id};
	r.u.end.usage = t->end.usage;
	r.u.end.finish = slice_str(t->end.finish);
	r.u.end.verdict = slice_str(t->end.verdict);
	r.u.end.backend_ms = task_ms_since(t->asked_ns);
	r.u.end.notes_kept = t->end.notes_kept;
	r.u.end.notes_refused = t->end.notes_refused;
	r.u.end.reply = t->end.reply;
	t->worker->done++;
	worker_put(t->worker, &r);
	log_line(LOG_INFO, "job_end", LOG_SLICE("req", t->spec.request_id), LOG_INT("job", t->id),
		LOG_STR("kind", proto_kind_name(t->spec.kind)),
		LOG_STR("finish", t->end.finish ? t->end.finish : ""),
		LOG_STR("verdict", t->end.verdict ? t->end.verdict : ""),
		LOG_INT("prompt_tokens", t->end.usage.prompt_tokens),
		LOG_INT("cached_tokens", t->end.usage.cached_tokens),
		LOG_INT("output_tokens", t->end.usage.output_tokens),
		LOG_MS("first_byte_ms",
			t->first_ns && t->asked_ns ? (double)(t->first_ns - t->asked_ns) / 1e6 : 0),
		LOG_MS("ms", task_ms_since(t->opened_ns)), LOG_END);
	task_end_kept(t, REPLAY_DONE_MS);
	task_detach(t, t->keep_transfer && t->transfer);
}

void task_end(struct task *t, const struct task_end *e)
{
	if (task_is_detached(t)) {
		task_release(t);
		return;
	}
	t->end = *e;
	t->life = TASK_ENDING;
	if (t->pending.n == 0)
		task_send_end(t);
}

static int cause_status(enum proto_cause cause)
{
	switch (cause) {
	case FAIL_UNREACHABLE:
	case FAIL_CLOSED:
	case FAIL_DRAINING:
		return 503;
	case FAIL_TIMEOUT:
		return 504;
	case FAIL_TOO_LARGE:
		return 413;
	case FAIL_REFUSED:
		return 400;
	case FAIL_STATUS:
	case FAIL_OVERFLOW:
	case FAIL_GARBAGE:
	case FAIL_CUT:
	case FAIL_EMPTY:
	case FAIL_GONE:
		return 502;
	case FAIL_CANCELLED:
		return 499;
	case FAIL_NONE:
	case FAIL_INTERNAL:
		break;
	}
	return 500;
}

void task_put_fail(struct worker_self *w, uint64_t id, struct slice request_id,
	const struct task_failure *f, double ms)
{
	struct proto_record r = {.type = PROTO_FAIL, .job = id};
	r.u.fail.cause = f->cause;
	r.u.fail.status = f->status ? f->status : cause_status(f->cause);
	r.u.fail.message = f->message;
	r.u.fail.body = f->body;
	r.u.fail.content_type = f->content_type;
	r.u.fail.prompt_tokens = f->prompt_tokens;
	r.u.fail.window_tokens = f->window_tokens;
	r.u.fail.retry_after_s = f->retry_after_s;
	w->failed += r.u.fail.status < 400 || r.u.fail.status >= 500; /* 4xx: the client's fault */
	worker_put(w, &r);
	log_line(f->cause == FAIL_CANCELLED ? LOG_INFO : LOG_WARN, "job_fail",
		LOG_SLICE("req", request_id), LOG_INT("job", id),
		LOG_STR("cause", proto_cause_name(f->cause)), LOG_INT("status", r.u.fail.status),
		LOG_MS("ms", ms), LOG_END);
}

void task_fail(struct task *t, const struct task_failure *f)
{
	if (task_is_detached(t)) {
		if (!t->busy)
			task_release(t);
		return;
	}
	task_put_fail(t->worker, t->id, t->spec.request_id, f, task_ms_since(t->opened_ns));
	if (!leaves_kept(f->cause))
		task_end_kept(t, 0);
	task_detach(t, false);
}

void task_fail_text(struct task *t, enum proto_cause cause, const char *message)
{
	task_fail(t, &(struct task_failure){.cause = cause, .message = slice_str(message)});
}

/*
 * Closed without a word: by a backend that died of this request, or by what stands before one that
 * is not there (a container's proxy), or by one that lives and will not answer. The first two look
 * alike, so the supervisor hears which of the other it may be.
 */
static void on_looked(void *ctx)
{
	struct task *t = ctx;
	bool up = backend_is_up(t->worker->backend);
	task_fail_text(t, up ? FAIL_CUT : FAIL_CLOSED,
		up ? http_result_text(HTTP_CUT) : "the backend closed the connection unanswered");
}

void task_fail_http(struct task *t, enum http_result result)
{
	static const enum proto_cause causes[] = {
		[HTTP_REFUSED] = FAIL_UNREACHABLE,
		[HTTP_IDLE] = FAIL_TIMEOUT,
		[HTTP_TOTAL] = FAIL_TIMEOUT,
		[HTTP_CUT] = FAIL_CUT,
		[HTTP_GARBAGE] = FAIL_GARBAGE,
		[HTTP_TLS] = FAIL_UNREACHABLE,
		[HTTP_INTERNAL] = FAIL_INTERNAL,
	};
	if (result == HTTP_CUT && !t->heard && !task_is_detached(t) &&
		backend_is_doubtful(t->worker->backend)) {
		t->doubt.fn = on_looked;
		t->doubt.ctx = t;
		backend_refresh(t->worker->backend, &t->doubt);
		return;
	}
	if (result == HTTP_REFUSED || result == HTTP_CUT || result == HTTP_TLS)
		backend_suspect(t->worker->backend);
	task_fail_text(t, causes[result], http_result_text(result));
}

bool task_key_refused(struct task *t, int status)
{
	if ((status != 401 && status != 403) || !http_has_key(t->worker->http))
		return false;
	backend_suspect(t->worker->backend);
	task_fail(t, &(struct task_failure){.cause = FAIL_STATUS,
			     .status = 502,
			     .message = SLICE("the backend refuses the gateway's key")});
	return true;
}
