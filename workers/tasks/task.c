#include "workers/tasks/task.h"

#include "common/base/log.h"
#include "workers/backend/backend.h"

#include <errno.h>
#include <stdlib.h>

#define TASK_BUCKETS 256 /* ids count up: neighbours never collide */

struct task_table {
	struct task *buckets[TASK_BUCKETS];
	struct task *lingering; /* ended for the supervisor, not yet freed */
	size_t open;
	uv_idle_t reaper; /* active when some of them are dead */
	bool closed;	  /* curl is gone as well: nothing needs to wait for a next turn */
};

static double ms_since(uint64_t ns)
{
	return ns ? (double)(uv_hrtime() - ns) / 1e6 : 0;
}

static struct task **task_link(struct task_table *table, uint64_t id)
{
	struct task **link = &table->buckets[id % TASK_BUCKETS];
	while (*link && (*link)->id != id)
		link = &(*link)->next;
	return link;
}

/* --- the end --- */

static void task_free(struct task *t)
{
	t->ops->fini(t);
	buf_free(&t->body);
	buf_free(&t->pending);
	buf_free(&t->said);
	free(t->strings);
	free(t);
}

static void reap(struct task_table *table)
{
	for (struct task **link = &table->lingering; *link;) {
		struct task *t = *link;
		if (!t->dead) {
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
	reap(idle->data);
}

void task_release(struct task *t)
{
	if (t->dead)
		return;
	t->dead = true;
	http_cancel(t->transfer);
	t->transfer = NULL;
	if (t->worker->tasks->closed)
		reap(t->worker->tasks); /* its thread was the last that had it */
	else
		uv_idle_start(&t->worker->tasks->reaper, on_reap);
}

/* Out of the table, so that no record finds it. It lives on while something still needs it. */
static void task_detach(struct task *t, bool keep)
{
	struct worker *w = t->worker;
	struct task **link = task_link(w->tasks, t->id);
	*link = t->next;
	t->next = w->tasks->lingering;
	w->tasks->lingering = t;
	t->detached = true;
	if (t->doubt.waiting)
		backend_forget(w->backend, &t->doubt);
	w->tasks->open--;
	w->progress++;
	if (!keep) {
		http_cancel(t->transfer);
		t->transfer = NULL;
		if (!t->busy)
			task_release(t);
	}
	worker_task_ended(w);
}

static void task_send_end(struct task *t)
{
	struct proto_record r = {.type = PROTO_END, .job = t->id};
	r.u.end.usage = t->end.usage;
	r.u.end.finish = slice_str(t->end.finish);
	r.u.end.verdict = slice_str(t->end.verdict);
	r.u.end.backend_ms = ms_since(t->asked_ns);
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
		LOG_MS("ms", ms_since(t->opened_ns)), LOG_END);
	task_detach(t, t->keep_transfer && t->transfer);
}

void task_end(struct task *t, const struct task_end *e)
{
	if (t->detached) {
		task_release(t);
		return;
	}
	t->end = *e;
	t->ending = true;
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
		return 502;
	case FAIL_CANCELLED:
		return 499;
	case FAIL_NONE:
	case FAIL_INTERNAL:
		break;
	}
	return 500;
}

static void put_fail(struct worker *w, uint64_t id, struct slice request_id,
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
	if (t->detached) {
		if (!t->busy)
			task_release(t);
		return;
	}
	put_fail(t->worker, t->id, t->spec.request_id, f, ms_since(t->opened_ns));
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
	if (result == HTTP_CUT && !t->heard && !t->detached &&
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

/* --- the body --- */

void task_take(struct task *t, size_t n)
{
	t->taken += n;
	if (t->detached || t->taken < TASK_CREDIT_BYTES)
		return; /* less than a step never stops a sender that has a window */
	struct proto_record r = {.type = PROTO_CREDIT, .job = t->id};
	r.u.credit.bytes = t->taken;
	t->taken = 0;
	worker_put(t->worker, &r);
}

bool task_hold(struct task *t, struct slice bytes)
{
	int rc = buf_add_slice(&t->body, bytes);
	if (rc) {
		task_fail_text(t, rc == -E2BIG ? FAIL_TOO_LARGE : FAIL_INTERNAL,
			rc == -E2BIG ? "the request body is over limits.body_bytes"
				     : "out of memory");
		return false;
	}
	task_take(t, bytes.n);
	return true;
}

/* --- the answer --- */

int64_t task_time_left(const struct task *t)
{
	if (t->spec.timeout_ms <= 0)
		return 0;
	int64_t left = t->spec.timeout_ms - (int64_t)ms_since(t->opened_ns);
	return left > 0 ? left : 1;
}

bool task_ask(struct task *t, const struct http_request *r, const struct http_events *e)
{
	int rc = http_start(t->worker->http, r, e, t, &t->transfer);
	if (rc == 0) {
		t->asked_ns = uv_hrtime();
		return true;
	}
	t->transfer = NULL;
	if (rc == -EINVAL)
		task_fail_text(
			t, FAIL_REFUSED, "the request cannot be forwarded: bad path or header");
	else if (rc == -ENOKEY)
		task_fail_text(t, FAIL_UNREACHABLE, http_key_problem(t->worker->http));
	else if (rc == -ENOTCONN)
		task_fail_text(t, FAIL_UNREACHABLE, "the backend has not been started yet");
	else
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
	return false;
}

void task_first_byte(struct task *t)
{
	if (t->first_ns)
		return;
	t->first_ns = uv_hrtime();
	log_line(LOG_DEBUG, "backend_first_byte", LOG_SLICE("req", t->spec.request_id),
		LOG_INT("job", t->id), LOG_MS("ms", (double)(t->first_ns - t->asked_ns) / 1e6),
		LOG_END);
}

void task_start(struct task *t, int status, const struct proto_header *headers, size_t count,
	int64_t body_bytes)
{
	struct proto_record r = {.type = PROTO_START, .job = t->id};
	r.u.start.status = status;
	r.u.start.header_count = count;
	r.u.start.body_bytes = body_bytes;
	r.u.start.identity = t->identity;
	if (count)
		memcpy(r.u.start.headers, headers, count * sizeof(*headers));
	t->started = true;
	worker_put(t->worker, &r);
}

/* Takes n bytes off the front of what waits. What stays is moved only where that is less than what
 * went: a large answer is not moved once for each of its pieces. */
static void take_off(struct buf *b, size_t *at, size_t n)
{
	*at += n;
	if (*at == b->n)
		buf_free(b);
	else if (*at > b->n / 2)
		buf_drop(b, *at);
	else
		return;
	*at = 0;
}

/* bytes: all that there is to send. With the last of them everything said is out, since each piece
 * takes as much text as bytes, or all. */
static size_t send_delta(struct task *t, struct slice bytes)
{
	size_t sent = 0, told = 0;
	while (sent < bytes.n && t->credit && !channel_full(t->worker->channel)) {
		size_t n = bytes.n - sent;
		if (n > PROTO_PIECE_BYTES)
			n = PROTO_PIECE_BYTES;
		if (n > t->credit)
			n = (size_t)t->credit;
		size_t text = t->said.n - t->said_at - told;
		if (text > PROTO_PIECE_BYTES)
			text = PROTO_PIECE_BYTES;
		struct proto_record r; /* not cleared: it has room for an answer's headers */
		r.type = PROTO_DELTA;
		r.job = t->id;
		r.u.delta.bytes = (struct slice){bytes.p + sent, n};
		r.u.delta.whole = sent + n == bytes.n;
		r.u.delta.opaque = t->opaque;
		r.u.delta.tokens = r.u.delta.whole ? t->said_tokens : 0;
		r.u.delta.text = (struct slice){t->said.p + t->said_at + told, text};
		worker_put(t->worker, &r);
		t->credit -= n;
		sent += n;
		told += text;
	}
	take_off(&t->said, &t->said_at, told);
	if (sent == bytes.n)
		t->said_tokens = 0;
	t->worker->bytes_out += sent;
	t->worker->progress++;
	return sent;
}

bool task_emit(struct task *t, struct slice bytes)
{
	size_t sent = t->pending.n ? 0 : send_delta(t, bytes);
	if (sent == bytes.n)
		return true;
	if (buf_add(&t->pending, bytes.p + sent, bytes.n - sent)) {
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
		return false;
	}
	if (t->transfer)
		http_pause(t->transfer);
	return true;
}

bool task_emit_buf(struct task *t, struct buf *b)
{
	size_t sent = t->pending.n ? 0 : send_delta(t, buf_slice(b));
	if (t->pending.n || sent == b->n) {
		bool good = sent == b->n || task_emit(t, buf_slice(b));
		buf_free(b);
		return good;
	}
	t->pending = *b;
	t->pending.max = 0;
	t->pending_at = sent;
	*b = (struct buf){.max = b->max};
	if (t->transfer)
		http_pause(t->transfer);
	return true;
}

static void task_credit(struct task *t, uint64_t bytes)
{
	t->credit += bytes;
	if (t->pending.n) {
		struct slice left = {t->pending.p + t->pending_at, t->pending.n - t->pending_at};
		take_off(&t->pending, &t->pending_at, send_delta(t, left));
		if (t->pending.n)
			return;
	}
	if (t->ending)
		task_send_end(t);
	else if (t->transfer && !t->busy) /* busy: what came before is still being read */
		http_resume(t->transfer);
}

/* --- opening --- */

/* Makes the record's slices our own. 0 or -ENOMEM. */
static int copy_spec(struct task *t, const struct proto_job *from)
{
	size_t list = from->header_count * sizeof(*from->headers);
	size_t need = list + from->request_id.n + from->method.n + 1 + from->path.n +
		      from->model.n + from->identity.n;
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
	for (size_t i = 0; i < t->spec.header_count; i++) {
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

static const struct task_ops *kind_ops(const struct worker *w, const struct proto_job *job)
{
	const struct backend_kind *kind = backend_kind(w->settings.type);
	switch (job->kind) {
	case JOB_CHAT:
		return &task_chat_ops;
	case JOB_NOTES:
		return &task_notes_ops;
	case JOB_PASS:
		return kind->embeds && kind->embeds(job->path) ? &task_embed_ops : &task_pass_ops;
	case JOB_WARM:
		return &task_warm_ops;
	}
	return NULL;
}

static void refuse(
	struct worker *w, const struct proto_record *r, enum proto_cause cause, const char *message)
{
	put_fail(w, r->job, r->u.job.request_id,
		&(struct task_failure){.cause = cause, .message = slice_str(message)}, 0);
}

void tasks_open(struct worker *w, const struct proto_record *r)
{
	const struct task_ops *ops = kind_ops(w, &r->u.job);
	struct task **link = task_link(w->tasks, r->job);
	if (w->draining || w->exiting) {
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
	w->tasks->open++;
	w->progress++;
	log_line(LOG_INFO, "job_start", LOG_SLICE("req", t->spec.request_id), LOG_INT("job", t->id),
		LOG_STR("kind", proto_kind_name(t->spec.kind)), LOG_SLICE("method", t->spec.method),
		LOG_SLICE("path", without_query(t->spec.path)),
		LOG_INT("body_bytes", t->spec.body_bytes), LOG_END);
	if (ops->begin)
		ops->begin(t);
}

void tasks_body(struct worker *w, const struct proto_record *r)
{
	struct task *t = *task_link(w->tasks, r->job);
	if (!t || t->body_ended)
		return;
	t->body_ended = r->u.body.last;
	w->bytes_in += r->u.body.bytes.n;
	w->progress++;
	t->ops->body(t, r->u.body.bytes, r->u.body.last);
}

void tasks_credit(struct worker *w, const struct proto_record *r)
{
	struct task *t = *task_link(w->tasks, r->job);
	if (t)
		task_credit(t, r->u.credit.bytes);
}

void tasks_room(struct worker *w)
{
	for (size_t i = 0; i < TASK_BUCKETS; i++)
		for (struct task *t = w->tasks->buckets[i], *next; t; t = next) {
			next = t->next;
			if (t->pending.n)
				task_credit(t, 0);
		}
}

void tasks_cancel(struct worker *w, const struct proto_record *r)
{
	struct task *t = *task_link(w->tasks, r->job);
	if (!t)
		return;
	const struct task_failure f = {.cause = FAIL_CANCELLED, .message = SLICE("cancelled")};
	put_fail(w, t->id, t->spec.request_id, &f, ms_since(t->opened_ns));
	task_detach(t, t->transfer && t->ops->linger && t->ops->linger(t));
}

void tasks_fail_silent(struct worker *w, const char *why)
{
	for (size_t i = 0; i < TASK_BUCKETS; i++) {
		for (struct task *t = w->tasks->buckets[i], *next; t; t = next) {
			next = t->next;
			if (t->transfer && !t->first_ns)
				task_fail_text(t, FAIL_TIMEOUT, why);
		}
	}
}

void tasks_fail_all(struct worker *w, enum proto_cause cause, const char *why)
{
	for (size_t i = 0; i < TASK_BUCKETS; i++)
		while (w->tasks->buckets[i]) {
			struct task *t = w->tasks->buckets[i];
			/* What the backend may have done already must not pass for never begun. */
			bool begun = t->ops == &task_pass_ops && t->asked_ns;
			task_fail_text(t, begun && cause == FAIL_DRAINING ? FAIL_CUT : cause, why);
		}
	for (struct task *t = w->tasks->lingering; t; t = t->next)
		if (!t->busy)
			task_release(t);
}

struct task_table *task_table_create(uv_loop_t *loop)
{
	struct task_table *table = calloc(1, sizeof(*table));
	if (!table)
		return NULL;
	uv_idle_init(loop, &table->reaper);
	table->reaper.data = table;
	return table;
}

void task_table_close(struct task_table *table)
{
	reap(table);
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

size_t task_count(const struct task_table *table)
{
	return table->open;
}

/*
 * Not for the backend: what belongs to one connection, or names the client's side of it
 * (docs/protocols.md#what-is-not-handed-on).
 */
static bool header_is_private(struct slice name)
{
	static const char *const names[] = {"host", "connection", "keep-alive", "transfer-encoding",
		"content-length", "expect", "upgrade", "te", "trailer", "origin", "referer",
		"accept-encoding", "x-conversation-id", NULL};
	if (name.n >= 6 && strncasecmp(name.p, "proxy-", 6) == 0)
		return true;
	for (const char *const *n = names; *n; n++)
		if (slice_ieq(name, slice_str(*n)))
			return true;
	return false;
}

size_t task_request_headers(const struct task *t, struct proto_header *out, size_t max)
{
	size_t count = 0;
	for (size_t i = 0; i < t->spec.header_count && count < max; i++)
		if (!header_is_private(t->spec.headers[i].name))
			out[count++] = t->spec.headers[i];
	return count;
}
