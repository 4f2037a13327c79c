/* The answer to a call: bytes as the backend sends them, whole lines and events, their parser. */
#include "workers/tasks/ask_private.h"

#include <errno.h>

#define ASK_INLINE_BYTES 524288 /* a larger answer, or event of a stream, is read on a thread */

void ask_on_event(void *ctx, const struct answer_event *e)
{
	struct ask *a = ctx;
	if (ask_is_error(a, e))
		return;
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
	a->task.source += (int64_t)bytes.n;
	if (rc)
		ask_fail_parse(a, rc);
	else if (is_ours(a))
		ask_fail_in_band(a);
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

/*
 * Of a stream that is read again: what the client has becomes what it became then, in the parser and
 * the writer, and is dropped. Returns what is left to be read.
 */
static struct slice pass_known(struct ask *a, struct slice bytes)
{
	struct task *t = &a->task;
	int64_t left = t->spec.replay ? t->spec.replay_bytes - t->source : 0;
	if (left <= 0 || !a->ops->known)
		return bytes;
	struct slice known = {bytes.p, (uint64_t)left < bytes.n ? (size_t)left : bytes.n};
	int rc = answer_parser_feed(a->parser, known);
	t->source += (int64_t)known.n;
	a->ops->known(a);
	on_parsed(a, (struct slice){0}, rc);
	return (struct slice){known.p + known.n, bytes.n - known.n};
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
	bytes = pass_known(a, bytes);
	if (bytes.n == 0 || a->task.life != TASK_OPEN)
		return;
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
		if (t->spec.replay)
			task_fail_text(
				t, FAIL_GONE, "the backend does not have the stream any more");
		else
			ask_fail_refused(a);
		return;
	}
	drop_used(a);
	struct slice rest = buf_slice(&a->partial);
	int rc = a->status == 200 && may_be_whole(result) && !a->encoded ? parse_rest(a, rest)
									 : -EPROTO;
	if (rc == 0 && is_ours(a)) {
		ask_fail_in_band(a);
	} else if (rc == 0) {
		t->source += (int64_t)rest.n;
		if (rest.n)
			a->ops->bytes(a, rest);
		if (!task_is_detached(t))
			a->ops->complete(a);
	} else if (result != HTTP_OK)
		task_fail_http(t, result);
	else if (rc == -EPROTO && (a->call.stream || !t->first_ns))
		task_fail_text(t, FAIL_CUT, answer_parser_problem(a->parser));
	else
		ask_fail_parse(a, rc);
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

const struct http_events ask_events = {.head = on_head, .body = on_body, .done = on_done};
