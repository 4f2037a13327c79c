/* The tasks of this worker: found by the supervisor's records, freed when nothing needs them. */
#include "workers/tasks/task_private.h"

#include "common/base/log.h"

#include <stdlib.h>

/* --- opening --- */

/* Makes the record's slices our own. 0 or -ENOMEM. */
static int copy_spec(struct task *t, const struct proto_job *from)
{
	size_t list = from->header_count * sizeof(*from->headers);
	size_t need = list + from->request_id.n + from->method.n + 1 + from->path.n +
		      from->model.n + from->identity.n + from->asked.n + from->stream_id.n;
	for (size_t i = 0; i < from->header_count; i++)
		need += from->headers[i].name.n + from->headers[i].value.n;
	t->strings = malloc(need + 1);
	if (!t->strings)
		return -ENOMEM;
	t->spec = *from;
	char *at = t->strings + list;
	t->spec.headers = (void *)t->strings; /* first: malloc's memory is aligned for it */
	if (list)
		memcpy(t->strings, from->headers, list);
#define KEEP(s) ((s).n ? (memcpy(at, (s).p, (s).n), (s).p = at, at += (s).n) : at)
	KEEP(t->spec.request_id);
	KEEP(t->spec.path);
	KEEP(t->spec.model);
	KEEP(t->spec.identity);
	KEEP(t->spec.asked);
	KEEP(t->spec.stream_id);
	for (size_t i = 0; i < t->spec.header_count; i++) {
		/* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Branch): copied above, all of them */
		KEEP(t->spec.headers[i].name);
		KEEP(t->spec.headers[i].value);
	}
	KEEP(t->spec.method);
#undef KEEP
	*at = '\0'; /* curl takes the method as a C string */
	return 0;
}

/* For the log: a query may hold a key (?api_key=). */
static struct slice without_query(struct slice target)
{
	const char *query = target.n ? memchr(target.p, '?', target.n) : NULL;
	return (struct slice){target.p, query ? (size_t)(query - target.p) : target.n};
}

static void refuse(struct worker_self *w, const struct proto_record *r, enum proto_cause cause,
	const char *message)
{
	task_put_fail(w, r->job, r->u.job.request_id,
		&(struct task_failure){.cause = cause, .message = slice_str(message)}, 0);
}

void tasks_open(struct worker_self *w, const struct proto_record *r)
{
	const struct task_ops *ops = w->tasks->ops_of(w, &r->u.job);
	struct task **link = task_find(w->tasks, r->job);
	if (w->phase >= WORKER_DRAINS) {
		refuse(w, r, FAIL_DRAINING, "the worker takes no more jobs");
		return;
	}
	if (!ops || *link || !w->backend) {
		refuse(w, r, FAIL_REFUSED,
			"the worker does not know such a job, or has it already");
		return;
	}
	struct task *t = calloc(1, ops->size);
	if (!t || copy_spec(t, &r->u.job)) {
		free(t);
		refuse(w, r, FAIL_INTERNAL, "out of memory");
		return;
	}
	t->worker = w;
	t->ops = ops;
	t->id = r->job;
	t->credit = PROTO_WINDOW_BYTES;
	t->opened_ns = uv_hrtime();
	buf_init(&t->body, w->settings.body_bytes);
	buf_init(&t->said, 0);
	buf_init(
		&t->pending, 0); /* one piece of curl's, or its translation: line_bytes bounds it */
	t->next = *link;
	*link = t;
	w->open_tasks++;
	w->progress++;
	log_line(LOG_INFO, "job_start", LOG_SLICE("req", t->spec.request_id), LOG_INT("job", t->id),
		LOG_STR("kind", proto_kind_name(t->spec.kind)), LOG_SLICE("method", t->spec.method),
		LOG_SLICE("path", without_query(t->spec.path)),
		LOG_INT("body_bytes", t->spec.body_bytes), LOG_END);
	if (ops->begin)
		ops->begin(t);
}

void tasks_body(struct worker_self *w, const struct proto_record *r)
{
	struct task *t = *task_find(w->tasks, r->job);
	if (!t || t->body_ended)
		return;
	t->body_ended = r->u.body.last;
	w->bytes_in += r->u.body.bytes.n;
	w->progress++;
	t->ops->body(t, r->u.body.bytes, r->u.body.last);
}

void tasks_credit(struct worker_self *w, const struct proto_record *r)
{
	struct task *t = *task_find(w->tasks, r->job);
	if (t)
		task_credit(t, r->u.credit.bytes);
}

void tasks_room(struct worker_self *w)
{
	for (size_t i = 0; i < TASK_BUCKETS; i++)
		for (struct task *t = w->tasks->buckets[i], *next; t; t = next) {
			next = t->next;
			if (t->pending.n)
				task_credit(t, 0);
		}
}

void tasks_cancel(struct worker_self *w, const struct proto_record *r)
{
	struct task *t = *task_find(w->tasks, r->job);
	if (!t)
		return;
	const struct task_failure f = {.cause = FAIL_CANCELLED, .message = SLICE("cancelled")};
	task_put_fail(w, t->id, t->spec.request_id, &f, task_ms_since(t->opened_ns));
	task_end_kept(t, 0);
	task_detach(t, t->transfer && t->ops->linger && t->ops->linger(t));
}

void tasks_fail_silent(struct worker_self *w, const char *why)
{
	for (size_t i = 0; i < TASK_BUCKETS; i++) {
		for (struct task *t = w->tasks->buckets[i], *next; t; t = next) {
			next = t->next;
			if (t->transfer && !t->first_ns)
				task_fail_text(t, FAIL_TIMEOUT, why);
		}
	}
}

void tasks_fail_all(struct worker_self *w, enum proto_cause cause, const char *why, bool last)
{
	for (size_t i = 0; i < TASK_BUCKETS; i++)
		while (w->tasks->buckets[i]) {
			struct task *t = w->tasks->buckets[i];
			/* What the backend may have done already must not pass for never begun. */
			bool begun = t->ops->is_order && t->asked_ns;
			if (last)
				task_end_kept(t, 0);
			t->kept = false;
			task_fail_text(t, begun && cause == FAIL_DRAINING ? FAIL_CUT : cause, why);
		}
	for (struct task *t = w->tasks->lingering; t; t = t->next)
		if (!t->busy)
			task_release(t);
}

struct task_table *task_table_create(uv_loop_t *loop, task_ops_fn *ops_of)
{
	struct task_table *table = calloc(1, sizeof(*table));
	if (!table)
		return NULL;
	table->ops_of = ops_of;
	uv_idle_init(loop, &table->reaper);
	table->reaper.data = table;
	return table;
}

void task_table_close(struct task_table *table)
{
	task_reap(table);
	table->closed = true;
	uv_close((uv_handle_t *)&table->reaper, NULL);
}

void task_table_destroy(struct task_table *table)
{
	if (!table)
		return;
	for (struct task *t = table->lingering, *next; t; t = next) {
		next = t->next;
		task_free(t);
	}
	free(table);
}
