/*
 * Everything that is not a chat: passed to the device that serves it, bodies streamed both ways.
 *
 * Requests that name a model in a small JSON body (PEEKED) are held until it is known; all others
 * (blobs of many GB) stream through with at most a window of bytes in memory. What has the backend
 * write takes a slot, in the same queue as the chats.
 *
 * At most once: a request that a worker may have begun when it died is tried again only where that
 * changes nothing, and never one whose body streams. One that never reached the backend is.
 */
#include "common/json.h"
#include "common/log.h"
#include "supervisor/client.h"
#include "supervisor/job.h"
#include "supervisor/request.h"

#include <stdio.h>
#include <stdlib.h>

#define PASS_WAIT_STEP_MS 100
#define PASS_RETRY_AFTER_S 5
/* For the cost of what waits for a slot: nothing is known of its text. */
#define CHARS_A_TOKEN 4
#define OUTPUT_GUESS_TOKENS 512

struct pass {
	struct request base;
	struct device *device;
	struct job *job;
	bool hold;   /* the body is kept until its model is known */
	bool upload; /* the body streams */
	bool upload_over;
	struct buf body;
	size_t held;
	bool head_sent, over;
	unsigned deaths;
	uint64_t first_byte_ms;
	uv_timer_t wait;
};

static const struct job_events pass_events;

static void pass_finish(struct pass *p)
{
	p->over = true;
	uv_timer_stop(&p->wait);
	if (p->job)
		job_cancel(p->job);
	p->job = NULL;
}

static void pass_error(struct pass *p, int status, const char *message)
{
	p->base.sup->count.failed++;
	log_line(LOG_WARN, "request_failed", LOG_STR("req", p->base.id), LOG_INT("status", status),
		LOG_STR("message", message), LOG_END);
	if (p->head_sent && !exchange_retract(p->base.exchange))
		exchange_abort(p->base.exchange);
	else
		request_refuse(&p->base, status, message, status == 503 ? PASS_RETRY_AFTER_S : 0);
	pass_finish(p);
}

static void on_wait(uv_timer_t *t)
{
	struct pass *p = t->data;
	const struct device *d = p->device;
	if (!p->job || p->job->running || d->state == WORKER_READY)
		return;
	uint64_t since = d->not_ready_since_ms > p->job->submitted_ms ? d->not_ready_since_ms
								      : p->job->submitted_ms;
	if (now_ms() - since < (uint64_t)p->base.sup->config.deadlines.main_wait_ms)
		return;
	char text[128];
	snprintf(text, sizeof(text), "device %s is not available", d->conf->name);
	pass_error(p, 503, text);
}

/* What has the backend write waits for a slot like any chat, or the queue could be walked round.
 * Vectors are made by the same slots in a llama-server; Ollama has a runner of their own for them.
 */
static bool takes_slot(const struct pass *p)
{
	return dialect_generates(slice_str(exchange_method(p->base.exchange)),
		exchange_path(p->base.exchange),
		p->device->conf->backend.type == BACKEND_TYPE_LLAMA_SERVER);
}

static enum job_class class_of(const struct pass *p, uint64_t tokens)
{
	return client_class(
		&(struct client_facts){.wish = exchange_header(p->base.exchange, "X-Tandem-Class"),
			.user_agent = exchange_header(p->base.exchange, "User-Agent"),
			.tokens = tokens});
}

static void pass_submit(struct pass *p)
{
	uint64_t tokens = p->body.n / CHARS_A_TOKEN;
	struct job_spec spec = {.upload = p->upload,
		.body = buf_slice(&p->body),
		.takes_slot = takes_slot(p),
		.class = class_of(p, tokens),
		.prompt_tokens = tokens,
		.output_tokens = OUTPUT_GUESS_TOKENS,
		.client = p->base.client};
	spec.message.kind = JOB_PASS;
	spec.message.request_id = slice_str(p->base.id);
	spec.message.dialect = p->base.dialect;
	spec.message.method = slice_str(exchange_method(p->base.exchange));
	spec.message.path = slice_str(exchange_target(p->base.exchange));
	spec.message.body_bytes =
		p->upload ? exchange_body_bytes(p->base.exchange) : (int64_t)p->body.n;
	request_forward_headers(&p->base, &spec.message);
	int rc = job_submit(p->device, &spec, &pass_events, p, &p->job);
	if (rc)
		pass_error(p, 503, job_refusal(rc));
	else
		uv_timer_start(&p->wait, on_wait, PASS_WAIT_STEP_MS, PASS_WAIT_STEP_MS);
}

/* --- from the client --- */

static size_t pass_body(struct request *r, const char *bytes, size_t n)
{
	struct pass *p = (struct pass *)r;
	if (p->over)
		return n;
	if (p->upload)
		return p->job ? job_body(p->job, bytes, n) : 0;
	struct supervisor *s = r->sup;
	if (s->held_bytes + n > (size_t)s->config.limits.body_total_bytes) {
		pass_error(p, 503,
			"too many large requests at once; limits.body_total_bytes is reached");
	} else if (buf_add(&p->body, bytes, n)) {
		pass_error(p, 413, "request body larger than limits.body_bytes");
	} else {
		p->held += n;
		s->held_bytes += n;
	}
	return n;
}

/* The device of the model that a held body names. */
static struct device *device_of_body(struct pass *p)
{
	struct json_value root, model;
	struct device *d = NULL;
	struct buf name;
	buf_init(&name, 4096);
	if (json_parse(buf_slice(&p->body), JSON_MAX_DEPTH, &root, NULL) == 0) {
		model = json_get(root, "model");
		if (!json_is(model, JSON_STRING))
			model = json_get(root, "name");
		if (!json_is(model, JSON_STRING))
			model = json_get(root, "source"); /* of a copy */
		if (json_is(model, JSON_STRING) && json_string_decode(model, &name) == 0)
			d = request_device(p->base.sup, buf_slice(&name));
	}
	buf_free(&name);
	return d ? d : p->device;
}

static void pass_body_end(struct request *r)
{
	struct pass *p = (struct pass *)r;
	p->upload_over = true;
	if (p->over)
		return;
	if (p->upload) {
		if (p->job)
			job_body_end(p->job);
		return;
	}
	if (p->hold)
		p->device = device_of_body(p);
	pass_submit(p);
}

static void pass_sent(struct request *r, size_t n)
{
	struct pass *p = (struct pass *)r;
	if (p->job)
		job_credit(p->job, n);
}

static void pass_gone(struct request *r)
{
	struct pass *p = (struct pass *)r;
	if (p->over)
		return;
	r->sup->count.cancelled++;
	log_line(LOG_INFO, "client_gone", LOG_STR("req", r->id),
		LOG_INT("ms", now_ms() - r->begun_ms), LOG_END);
	pass_finish(p);
}

static void on_closed(uv_handle_t *h)
{
	free(h->data);
}

static void pass_destroy(struct request *r)
{
	struct pass *p = (struct pass *)r;
	r->sup->held_bytes -= p->held;
	buf_free(&p->body);
	uv_close((uv_handle_t *)&p->wait, on_closed);
}

static void pass_cancel(struct request *r)
{
	struct pass *p = (struct pass *)r;
	if (!p->over)
		pass_error(p, REQUEST_CANCELLED_STATUS, REQUEST_CANCELLED_TEXT);
}

/* --- from the worker --- */

static void pass_start(void *ctx, struct job *j, const struct proto_record *rec)
{
	(void)j;
	struct pass *p = ctx;
	char name[128], reason[64];
	for (size_t i = 0; i < rec->u.start.header_count; i++) {
		struct slice n = rec->u.start.headers[i].name;
		if (n.n >= sizeof(name))
			continue;
		memcpy(name, n.p, n.n);
		name[n.n] = '\0';
		exchange_add_header(p->base.exchange, name, rec->u.start.headers[i].value);
	}
	snprintf(reason, sizeof(reason), "passed through to %s", p->device->conf->name);
	request_tell(p->base.exchange,
		&(struct request_story){.id = p->base.id, .strategy = "pass", .reason = reason});
	exchange_head(p->base.exchange, (int)rec->u.start.status, rec->u.start.body_bytes);
	p->head_sent = true;
	p->first_byte_ms = now_ms() - p->base.begun_ms;
	uv_timer_stop(&p->wait);
}

static void pass_delta(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)j;
	struct pass *p = ctx;
	if (exchange_write(p->base.exchange, r->u.delta.bytes.p, r->u.delta.bytes.n))
		pass_error(p, 502, "answer over its credit");
}

static void pass_end(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)j;
	(void)r;
	struct pass *p = ctx;
	p->job = NULL;
	exchange_end(p->base.exchange);
	struct times *times = &p->base.sup->times;
	histogram_add(&times->first_byte[STRATEGIES], p->first_byte_ms);
	histogram_add(&times->total[STRATEGIES], now_ms() - p->base.begun_ms);
	log_line(LOG_INFO, "request_done", LOG_STR("req", p->base.id), LOG_STR("strategy", "pass"),
		LOG_STR("device", p->device->conf->name),
		LOG_STR("method", exchange_method(p->base.exchange)),
		LOG_SLICE("path", exchange_path(p->base.exchange)),
		LOG_INT("ms", now_ms() - p->base.begun_ms), LOG_END);
	pass_finish(p);
}

static bool may_repeat(const struct pass *p, int cause)
{
	if (p->head_sent || p->upload)
		return false;
	if (cause == FAIL_UNREACHABLE || cause == FAIL_DRAINING)
		return true; /* it never left the worker */
	return (cause == JOB_LOST || cause == FAIL_CUT || cause == FAIL_CLOSED) &&
	       dialect_only_asks(slice_str(exchange_method(p->base.exchange)),
		       exchange_path(p->base.exchange));
}

static void pass_fail(void *ctx, struct job *j, const struct job_failure *f)
{
	(void)j;
	struct pass *p = ctx;
	char text[256];
	p->job = NULL;
	bool gone =
		f->cause == JOB_LOST || f->cause == FAIL_UNREACHABLE || f->cause == FAIL_DRAINING;
	if (may_repeat(p, f->cause) && ++p->deaths < p->base.sup->config.limits.request_deaths) {
		pass_submit(p);
		return;
	}
	snprintf(text, sizeof(text), "%.*s", f->message.n ? (int)f->message.n : 0,
		f->message.n ? f->message.p : "");
	int status = f->status ? f->status : gone ? 503 : f->cause == FAIL_TIMEOUT ? 504 : 502;
	pass_error(p, status, text[0] ? text : job_cause_name(f->cause));
}

static void pass_room(void *ctx, struct job *j)
{
	struct pass *p = ctx;
	if (p->upload_over)
		job_body_end(j);
	else
		exchange_resume_body(p->base.exchange);
}

static const struct job_events pass_events = {.start = pass_start,
	.delta = pass_delta,
	.end = pass_end,
	.fail = pass_fail,
	.room = pass_room};

static const struct request_ops pass_ops = {.body = pass_body,
	.body_end = pass_body_end,
	.sent = pass_sent,
	.gone = pass_gone,
	.cancel = pass_cancel,
	.destroy = pass_destroy};

/* Paths whose JSON body names the model that decides the device. */
static bool peeked(struct slice path)
{
	static const char *const paths[] = {"/api/show", "/api/copy", "/api/delete", "/api/push",
		"/api/embed", "/api/embeddings", "/v1/embeddings", "/v1/completions",
		"/v1/responses", "/v1/messages", "/v1/messages/count_tokens"};
	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
		if (slice_eq(path, slice_str(paths[i])))
			return true;
	/* ... and those that take a slot, which a slow upload must not hold. */
	return dialect_generates(SLICE("POST"), path, true);
}

/* GET /v1/models/MODEL goes to who has it, all else to the main device until a body says otherwise.
 */
static struct device *device_of_path(struct supervisor *s, struct slice path)
{
	struct slice prefix = SLICE("/v1/models/");
	if (path.n > prefix.n && memcmp(path.p, prefix.p, prefix.n) == 0)
		return request_device(s, (struct slice){path.p + prefix.n, path.n - prefix.n});
	return request_role(s, ROLE_MAIN);
}

void pass_begin(struct supervisor *s, struct exchange *x, enum dialect d)
{
	struct pass *p = (struct pass *)request_create(s, x, d, &pass_ops, sizeof(*p));
	if (!p) {
		exchange_reply(x, 503, "application/json", SLICE("{\"error\":\"out of memory\"}"));
		return;
	}
	s->count.passed++;
	buf_init(&p->body, (size_t)s->config.limits.body_bytes);
	uv_timer_init(s->loop, &p->wait);
	p->wait.data = p;
	p->device = device_of_path(s, exchange_path(x));
	int64_t bytes = exchange_body_bytes(x);
	p->hold = bytes != 0 && peeked(exchange_path(x));
	p->upload = bytes != 0 && !p->hold;
	if (p->upload)
		pass_submit(p);
}
