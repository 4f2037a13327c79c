#include "workers/tasks/ask.h"

#include "common/base/log.h"
#include "workers/backend/backend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define ASK_INLINE_BYTES 524288 /* a larger answer, or event of a stream, is read on a thread */

static struct ask *ask_of(struct task *t)
{
	return (struct ask *)t;
}

/* --- failures --- */

/* In the words that agents know. Where the backend gave no counts, the supervisor has estimates. */
static void name_overflow(
	struct ask *a, const struct refusal *r, struct task_failure *f, struct buf *body)
{
	f->cause = FAIL_OVERFLOW;
	f->status = 400;
	f->prompt_tokens = r->prompt_tokens;
	f->window_tokens = r->window_tokens;
	if (r->prompt_tokens > 0 && r->window_tokens > 0)
		dialect_overflow_body(
			a->dialect, (uint64_t)r->prompt_tokens, (uint64_t)r->window_tokens, body);
}

/*
 * Refused with a status before the first byte: the client gets that status, in its own dialect
 * (docs/protocols.md#overflow).
 */
static void fail_refused(struct ask *a)
{
	struct task *t = &a->task;
	struct slice theirs =
		buf_error(&a->refusal) || a->encoded ? (struct slice){0} : buf_slice(&a->refusal);
	struct refusal r;
	struct buf body;
	buf_init(&body, 0);
	if (a->status < 400) {
		task_fail_text(
			t, FAIL_GARBAGE, "the backend answered with a status that says nothing");
		return;
	}
	if (task_key_refused(t, a->status)) {
		buf_free(&body);
		return;
	}
	refusal_read(a->status, theirs, &r);
	struct task_failure f = {
		.cause = FAIL_STATUS,
		.status = a->status,
		.message = slice_str(r.text),
		.content_type = slice_str(dialect_content_type(a->dialect, false)),
		.retry_after_s = http_retry_after_s(t->transfer),
	};
	if (r.overflow) {
		name_overflow(a, &r, &f, &body);
	} else if (a->call.raw && theirs.n) {
		f.content_type = http_header(t->transfer, "content-type");
		buf_add_slice(&body, theirs);
	} else {
		dialect_error_body(a->dialect, a->status, f.message, &body);
	}
	f.body = buf_slice(&body);
	task_fail(t, &f);
	buf_free(&body);
}

/*
 * An error in the middle of a 200: words for the client when it reads our translation, already
 * there when it reads raw bytes.
 */
static void fail_in_band(struct ask *a)
{
	struct task *t = &a->task;
	struct buf body;
	buf_init(&body, 0);
	struct task_failure f = {.cause = FAIL_STATUS,
		.status = a->error_status,
		.message = slice_str(a->told.text)};
	if (!t->started && a->told.overflow) {
		name_overflow(a, &a->told, &f, &body);
	} else if (!t->started) {
		dialect_error_body(a->dialect, a->error_status, f.message, &body);
	}
	if (body.n) {
		f.body = buf_slice(&body);
		f.content_type = slice_str(dialect_content_type(a->dialect, false));
	}
	task_fail(t, &f);
	buf_free(&body);
}

static void fail_parse(struct ask *a, int rc)
{
	if (rc == -EPROTO)
		task_fail_text(&a->task, FAIL_GARBAGE, answer_parser_problem(a->parser));
	else if (rc == -E2BIG)
		task_fail(&a->task, &(struct task_failure){.cause = FAIL_TOO_LARGE,
					    .status = 502, /* not the client's fault */
					    .message = SLICE("a line of the backend's answer is "
							     "over limits.line_bytes")});
	else
		task_fail_text(&a->task, FAIL_INTERNAL, "out of memory");
}

/* --- the answer --- */

static void on_event(void *ctx, const struct answer_event *e)
{
	struct ask *a = ctx;
	if (e->kind == ANSWER_ERROR) {
		refusal_read_text(e->text, &a->told);
		a->error_status = e->status ? e->status : 500;
		return;
	}
	if (e->kind == ANSWER_END) {
		a->usage = e->usage;
		a->finish = e->finish;
	}
	a->ops->event(a, e);
}

static void on_head(void *ctx, int status)
{
	struct ask *a = ctx;
	struct slice coding = http_header(a->task.transfer, "content-encoding");
	a->task.heard = true;
	a->status = status;
	a->encoded = coding.n && !slice_ieq(coding, SLICE("identity"));
	a->task.worker->progress++;
}

/* Where the last whole line (NDJSON) or event (SSE: an empty line ends it) ends; nothing before
 * `from` ended one. */
static size_t whole_end(struct slice s, size_t from, bool sse)
{
	size_t back = from < 2 ? 0 : from - 2;
	for (size_t i = s.n; i > back; i--) {
		if (s.p[i - 1] != '\n')
			continue;
		if (!sse || (i >= 2 && s.p[i - 2] == '\n') ||
			(i >= 3 && s.p[i - 2] == '\r' && s.p[i - 3] == '\n'))
			return i;
	}
	return 0;
}

static void drop_used(struct ask *a)
{
	buf_drop(&a->partial, a->partial_used);
	a->partial_used = 0;
}

/*
 * Of a stream that goes out as it came: only whole lines and events go, so that a client whose
 * worker dies here is left between two of them, and knows exactly the text that we told the
 * supervisor. *whole lives until the next call.
 */
static int take_whole(struct ask *a, struct slice bytes, struct slice *whole)
{
	bool sse = answer_format_is_sse(a->call.format);
	drop_used(a);
	size_t before = a->partial.n, end;
	if (before == 0) {
		end = whole_end(bytes, 0, sse);
		*whole = (struct slice){bytes.p, end};
		buf_add(&a->partial, bytes.p + end, bytes.n - end);
	} else {
		buf_add_slice(&a->partial, bytes);
		end = whole_end(buf_slice(&a->partial), before, sse);
		*whole = (struct slice){a->partial.p, end};
		a->partial_used = end;
	}
	size_t most = a->task.worker->settings.line_bytes;
	if (most && a->partial.n - a->partial_used > most)
		return -E2BIG;
	return buf_error(&a->partial);
}

/* An error in a 200 that the client must not get as it came: it reads our translation, or it has
 * nothing yet and the prompt may be shortened. */
static bool is_ours(const struct ask *a)
{
	return a->error_status && (!a->call.raw || (a->told.overflow && !a->task.started));
}

static bool is_raw_stream(const struct ask *a)
{
	return a->call.raw && a->call.stream;
}

/*
 * The last object has come: that is the end, whether the body ends now, later or never. The
 * transfer goes on unheard, so that the connection can be kept.
 */
static void complete_early(struct ask *a)
{
	struct task *t = &a->task;
	http_hurry(t->transfer, ASK_LAST_MS);
	t->keep_transfer = true;
	a->ops->complete(a);
}

/* The parser has had these bytes. */
static void on_parsed(struct ask *a, struct slice bytes, int rc)
{
	if (rc)
		fail_parse(a, rc);
	else if (is_ours(a))
		fail_in_band(a);
	else if (bytes.n)
		a->ops->bytes(a, bytes);
	if (rc == 0 && a->task.transfer && !task_is_detached(&a->task) &&
		answer_parser_ended(a->parser))
		complete_early(a);
}

/* --- a large event of a stream --- */

static void on_event_work(uv_work_t *work)
{
	struct ask *a = work->data;
	answer_parser_feed(a->parser, a->aside);
}

static void finish(struct ask *a, enum http_result result);

static void on_event_worked(uv_work_t *work, int status)
{
	struct ask *a = work->data;
	struct task *t = &a->task;
	(void)status;
	t->busy = false;
	if (task_is_detached(t)) {
		task_release(t);
		return;
	}
	on_parsed(a, a->aside, answer_parser_feed(a->parser, (struct slice){0}));
	buf_free(&a->piece);
	if (t->transfer && t->pending.n == 0)
		http_resume(t->transfer);
	else if (a->over && !task_is_detached(t))
		finish(a, a->result);
}

/*
 * Do these bytes complete an event that is long to read? Then a thread does it; nothing more of the
 * answer is taken until it is through. What is parsed of a raw stream is whole, and lives on; else
 * the parser holds all but this last piece, which is copied.
 */
static bool feed_aside(struct ask *a, struct slice bytes)
{
	struct task *t = &a->task;
	bool raw = is_raw_stream(a);
	size_t size = raw ? bytes.n : answer_parser_held(a->parser);
	if (!a->call.stream || size <= ASK_INLINE_BYTES || !memchr(bytes.p, '\n', bytes.n) ||
		(!raw && buf_add_slice(&a->piece, bytes)))
		return false;
	a->aside = raw ? bytes : buf_slice(&a->piece);
	a->work.data = a;
	t->busy = uv_queue_work(t->worker->loop, &a->work, on_event_work, on_event_worked) == 0;
	if (t->busy)
		http_pause(t->transfer);
	else
		buf_free(&a->piece);
	return t->busy;
}

static void on_body(void *ctx, struct slice bytes)
{
	struct ask *a = ctx;
	a->task.worker->progress++;
	if (task_is_detached(&a->task)) { /* bytes: the load is over */
		task_release(&a->task);
		return;
	}
	task_first_byte(&a->task);
	a->task.worker->warm_ms = uv_now(a->task.worker->loop);
	a->task.worker->warm_key = a->status == 200 ? a->load_key : 0;
	if (a->status != 200) {
		buf_add_slice(&a->refusal, bytes); /* over its cap it is not used */
		return;
	}
	if (a->encoded) {
		task_fail_text(&a->task, FAIL_GARBAGE,
			"the backend's answer has a Content-Encoding that was not asked for");
		return;
	}
	if (a->task.life == TASK_ENDING)
		return; /* behind the last object */
	int rc = is_raw_stream(a) ? take_whole(a, bytes, &bytes) : 0;
	if (rc == 0 && feed_aside(a, bytes))
		return;
	if (rc == 0)
		rc = answer_parser_feed(a->parser, bytes);
	on_parsed(a, bytes, rc);
}

/* The end of a body whose last line has no end. */
static int parse_rest(struct ask *a, struct slice rest)
{
	int rc = rest.n ? answer_parser_feed(a->parser, rest) : 0;
	return rc ? rc : answer_parser_finish(a->parser);
}

/* An answer may be, although its connection broke after it, or stays open. */
static bool may_be_whole(enum http_result result)
{
	return result == HTTP_OK || result == HTTP_CUT || result == HTTP_IDLE ||
	       result == HTTP_TOTAL;
}

static void finish(struct ask *a, enum http_result result)
{
	struct task *t = &a->task;
	if (task_is_detached(t)) {
		task_release(t);
		return;
	}
	if (t->life == TASK_ENDING)
		return; /* complete, and some of it waits for credit */
	if (result == HTTP_OK && a->status != 200) {
		fail_refused(a);
		return;
	}
	drop_used(a);
	struct slice rest = buf_slice(&a->partial);
	int rc = a->status == 200 && may_be_whole(result) && !a->encoded ? parse_rest(a, rest)
									 : -EPROTO;
	if (rc == 0 && is_ours(a)) {
		fail_in_band(a);
	} else if (rc == 0) {
		if (rest.n)
			a->ops->bytes(a, rest);
		if (!task_is_detached(t))
			a->ops->complete(a);
	} else if (result != HTTP_OK)
		task_fail_http(t, result);
	else if (rc == -EPROTO && (a->call.stream || !t->first_ns))
		task_fail_text(t, FAIL_CUT, answer_parser_problem(a->parser));
	else
		fail_parse(a, rc);
}

/* --- a large answer, or a large rest of a stream --- */

static void on_work(uv_work_t *work)
{
	struct ask *a = work->data;
	parse_rest(a, buf_slice(&a->partial)); /* once more in finish(), with the same result */
}

static void on_worked(uv_work_t *work, int status)
{
	struct ask *a = work->data;
	(void)status;
	a->task.busy = false;
	if (task_is_detached(&a->task))
		task_release(&a->task);
	else
		finish(a, a->result);
}

/* Reading it in the loop would hold up other answers: 1 MB takes about 2 ms, translated. */
static bool finish_aside(struct ask *a)
{
	struct task *t = &a->task;
	if (!may_be_whole(a->result) || a->status != 200 || a->encoded || t->life != TASK_OPEN ||
		!a->parser ||
		answer_parser_held(a->parser) + a->partial.n - a->partial_used <= ASK_INLINE_BYTES)
		return false;
	drop_used(a);
	a->work.data = a;
	t->busy = uv_queue_work(t->worker->loop, &a->work, on_work, on_worked) == 0;
	return t->busy;
}

static void on_done(void *ctx, enum http_result result)
{
	struct ask *a = ctx;
	struct task *t = &a->task;
	a->over = true;
	a->result = result;
	bool later = t->busy; /* its last event is being read */
	if (!later)
		later = finish_aside(a);
	if (later) /* the transfer's headers can be read now alone */
		buf_add_slice(&a->type, http_header(t->transfer, "content-type"));
	else
		finish(a, result);
	t->transfer = NULL;
}

static const struct http_events ask_events = {.head = on_head, .body = on_body, .done = on_done};

static struct slice sent_body(const struct ask *a)
{
	return a->request.n ? buf_slice(&a->request) : buf_slice(&a->task.body);
}

static uint64_t hash_value(uint64_t h, struct json_value v)
{
	for (size_t i = 0; i < v.raw.n; i++)
		h = (h ^ (unsigned char)v.raw.p[i]) * 1099511628211u; /* FNV-1a */
	return (h ^ 0xff) * 1099511628211u;
}

/* 0, "0", "0s": unload after the answer. */
static bool is_zero(struct json_value v)
{
	size_t at = v.type == JSON_STRING ? 1 : 0;
	return v.raw.n > at && v.raw.p[at] == '0';
}

void ask_prepare(struct ask *a)
{
	struct json_value root, key, value, keep_alive = {0};
	if (!a->call.loads)
		return;
	root = json_object_in(sent_body(a));
	for (struct json_iter it = json_iter(root); json_object_next(&it, &key, &value);) {
		if (json_string_is(key, "model"))
			a->model = value;
		else if (json_string_is(key, "options"))
			a->options = value;
		else if (json_string_is(key, "shift"))
			a->shift = value;
		else if (json_string_is(key, "keep_alive"))
			keep_alive = value;
	}
	uint64_t h = hash_value(
		hash_value(hash_value(14695981039346656037u, a->model), a->options), a->shift);
	a->load_key = is_zero(keep_alive) ? 0 : h;
}

void ask_send(struct ask *a)
{
	struct task *t = &a->task;
	struct proto_header headers[PROTO_JOB_HEADERS_MAX + 1];
	size_t count = 1 + task_request_headers(t, headers + 1, PROTO_JOB_HEADERS_MAX), kept = 1;
	headers[0] = (struct proto_header){SLICE("Content-Type"), SLICE("application/json")};
	for (size_t i = 1; i < count; i++)
		if (!slice_ieq(headers[i].name, headers[0].name))
			headers[kept++] = headers[i];
	a->parser = answer_parser_create(
		a->call.format, a->call.stream, t->worker->settings.line_bytes, on_event, a);
	if (!a->parser) {
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
		return;
	}
	struct http_request r = {
		.method = "POST",
		.target = slice_str(a->call.path),
		.headers = headers,
		.header_count = kept,
		.body = sent_body(a),
		.again = true,
		.idle_ms = t->worker->settings.idle_ms,
		.first_ms = t->worker->settings.first_ms,
		.total_ms = task_time_left(t),
	};
	if (t->worker->warm_key != a->load_key)
		t->worker->warm_key = 0; /* this call may load something else */
	task_ask(t, &r, &ask_events);
}

/* --- a cancelled call that may be loading a model --- */

static void load_ignore_head(void *ctx, int status)
{
	(void)ctx, (void)status;
}

static void load_ignore_body(void *ctx, struct slice bytes)
{
	(void)ctx, (void)bytes;
}

static void load_done(void *ctx, enum http_result result)
{
	struct ask *a = ctx;
	a->load = NULL;
	log_line(LOG_DEBUG, "job_load_over", LOG_SLICE("req", a->task.spec.request_id),
		LOG_INT("job", a->task.id), LOG_STR("result", http_result_text(result)), LOG_END);
	task_release(&a->task);
}

static const struct http_events load_events = {
	.head = load_ignore_head, .body = load_ignore_body, .done = load_done};

/* Nothing but what decides about a reload: keep_alive is left out, 0 would unload. */
static int load_body(const struct ask *a, struct buf *out)
{
	buf_add_char(out, '{');
	json_put_key(out, "model");
	buf_add_slice(out, a->model.raw);
	if (a->options.type != JSON_NONE) {
		json_put_key(out, "options");
		buf_add_slice(out, a->options.raw);
	}
	if (a->shift.type != JSON_NONE) {
		json_put_key(out, "shift");
		buf_add_slice(out, a->shift.raw);
	}
	json_put_key(out, "messages");
	buf_add_str(out, "[],\"stream\":false}");
	return buf_error(out);
}

/*
 * The last answer came from this very model with these very options, not long ago, and nothing
 * else was asked since.
 */
static bool is_warm(const struct ask *a)
{
	const struct worker *w = a->task.worker;
	return a->load_key && a->load_key == w->warm_key &&
	       uv_now(w->loop) - w->warm_ms < ASK_WARM_MS;
}

bool ask_linger(struct task *t)
{
	struct ask *a = ask_of(t);
	if (!(backend_traits(t->worker->backend) & TRAIT_LOAD_ABORTS) || t->first_ns || a->status ||
		a->model.type != JSON_STRING || is_warm(a))
		return false;
	struct buf body;
	buf_init(&body, 0);
	int rc = load_body(a, &body);
	if (rc == 0) {
		/*
		 * the body must live as long as the request: in place of the answer's, which
		 * nobody reads now
		 */
		buf_free(&a->refusal);
		a->refusal = body;
		static const struct proto_header json = {
			SLICE("Content-Type"), SLICE("application/json")};
		struct http_request r = {
			.method = "POST",
			.target = SLICE("/api/chat"),
			.headers = &json,
			.header_count = 1,
			.body = buf_slice(&a->refusal),
			.again = true,
			.total_ms = ASK_LINGER_MS,
		};
		rc = http_start(t->worker->http, &r, &load_events, a, &a->load);
	} else {
		buf_free(&body);
	}
	return rc == 0;
}

/* --- life --- */

void ask_init(struct ask *a, const struct ask_ops *ops, enum dialect d)
{
	a->ops = ops;
	a->dialect = d;
	a->usage = (struct answer_usage){-1, -1, -1, -1, -1, -1};
	buf_init(&a->request,
		a->task.worker->settings.body_bytes * 2); /* escaping may double text */
	buf_init(&a->refusal, ASK_REFUSAL_BYTES);
	buf_init(&a->type, 0);
	buf_init(&a->piece, 0); /* one of curl's */
	buf_init(&a->partial,
		0); /* take_whole() holds it at limits.line_bytes and a piece of curl's */
}

void ask_fini(struct ask *a)
{
	http_cancel(a->load);
	answer_parser_destroy(a->parser);
	buf_free(&a->type);
	buf_free(&a->piece);
	buf_free(&a->request);
	buf_free(&a->refusal);
	buf_free(&a->partial);
}

struct proto_usage ask_usage(const struct ask *a)
{
	return (struct proto_usage){
		.prompt_tokens = a->usage.prompt_tokens,
		.cached_tokens = a->usage.cached_tokens,
		.output_tokens = a->usage.output_tokens,
		.prompt_ms = a->usage.prompt_ms,
		.output_ms = a->usage.output_ms,
		.load_ms = a->usage.load_ms,
	};
}

const char *ask_finish_name(enum answer_finish f)
{
	switch (f) {
	case FINISH_STOP:
		return "stop";
	case FINISH_LENGTH:
		return "length";
	case FINISH_TOOL_CALLS:
		return "tool_calls";
	case FINISH_LOAD:
		return "load";
	case FINISH_UNLOAD:
		return "unload";
	case FINISH_NONE:
		break;
	}
	return "";
}
