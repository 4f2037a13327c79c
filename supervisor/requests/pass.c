/*
 * Everything that is not a chat: passed to the device that serves it, bodies streamed both ways.
 *
 * Requests whose JSON body names a model (route.h) are held until it is known (pass_peek.h); all
 * others (blobs of many GB) stream through with at most a window of bytes in memory. What a model
 * works for (completions, embeddings, messages, ...) takes a slot and waits for its turn like a
 * chat, and one that streams has a first byte in time.
 *
 * At most once: a request that a worker may have begun when it died is tried again only where that
 * changes nothing, and never one whose body streams. One that never reached the backend is.
 */
#include "supervisor/requests/pass.h"

#include "common/base/log.h"
#include "supervisor/requests/client.h"
#include "supervisor/requests/tracing.h"

#include <stdio.h>
#include <stdlib.h>

#define PASS_WAIT_STEP_MS 100
#define PASS_OUTPUT_GUESS_TOKENS 512

static const struct job_events pass_events;

/* A backend's own error passes through, too. */
static enum measure_outcome outcome_of(const struct pass *p)
{
	if (p->base.outcome != MEASURE_DONE || p->status < 400)
		return p->base.outcome;
	return p->status < 500 ? MEASURE_REFUSED : MEASURE_FAILED;
}

/* An answer of text that comes as it is written. */
static bool streams(const struct pass *p)
{
	return p->route.writes && p->peek.stream;
}

static void measured(struct pass *p)
{
	bool writes = streams(p) && p->first_byte_ms;
	struct measure m = {.way = MEASURE_PASS,
		.dialect = p->base.dialect,
		.device = p->device->conf->name,
		.outcome = outcome_of(p),
		.tokens = {[MEASURE_IN] = p->base.tokens_in,
			[MEASURE_SENT] = p->first_byte_ms ? p->base.tokens_in : 0},
		.counted = -1,
		.total_ms = (double)(now_ms() - p->base.begun_ms),
		.first_ms = writes ? (double)p->first_byte_ms : -1,
		.token_ms = -1,
		.queued_ms = p->queued_ms};
	measures_add(&p->base.all->measures, &m);
	request_remembered(&p->base, &m);
}

static void pass_finish(struct pass *p)
{
	measured(p);
	p->over = true;
	uv_timer_stop(&p->wait);
	uv_timer_stop(&p->tick);
	if (p->job)
		job_cancel(p->job);
	p->job = NULL;
}

/* logged: what of the message may stand in a log; a backend's words may quote the prompt. */
static void pass_error_said(
	struct pass *p, int status, const char *message, struct slice logged, int retry_after_s)
{
	request_count_error(&p->base, status);
	log_line(LOG_WARN, "request_failed", LOG_STR("req", p->base.id), LOG_INT("status", status),
		LOG_SLICE("message", logged), LOG_END);
	if (p->early && !p->answering)
		pass_end_in_band(p, status, slice_str(message));
	else if (p->head_sent && !exchange_retract(p->base.exchange))
		exchange_abort(p->base.exchange);
	else
		request_refuse(&p->base, status, message, retry_after_s);
	pass_finish(p);
}

static void pass_error(struct pass *p, int status, const char *message, int retry_after_s)
{
	pass_error_said(p, status, message, slice_str(message), retry_after_s);
}

static void on_wait(uv_timer_t *t)
{
	struct pass *p = t->data;
	const struct device *d = p->device;
	if (!p->job || pass_lane_waited(p) || p->job->running || d->state == WORKER_READY)
		return;
	uint64_t since = d->not_ready_since_ms > p->job->submitted_ms ? d->not_ready_since_ms
								      : p->job->submitted_ms;
	if (now_ms() - since < (uint64_t)p->base.all->config->deadlines.main_wait_ms)
		return;
	char text[128];
	snprintf(text, sizeof(text), "device %s is not available (%s)", d->conf->name,
		device_absence(d));
	pass_error(p, 503, text, PASS_RETRY_AFTER_S);
}

/* What the backend is asked for: the client's own target, but for another spelling of a known path,
 * and for llama-server's short paths, which others have below /v1 alone. */
static struct slice target_of(struct pass *p, char *room, size_t size)
{
	const char *target = exchange_target(p->base.exchange), *path = p->route.path;
	struct slice theirs = exchange_path(p->base.exchange);
	if (p->route.v1 && device_has(p->device, TRAIT_V1_ONLY))
		path = p->route.v1;
	if (!path || slice_eq(theirs, slice_str(path)))
		return slice_str(target);
	int n = snprintf(room, size, "%s%s", path, target + theirs.n);
	return n > 0 && (size_t)n < size ? (struct slice){room, (size_t)n} : slice_str(target);
}

enum job_class pass_class(const struct pass *p)
{
	const struct exchange *x = p->base.exchange;
	return client_class(&(struct client_facts){.wish = request_wish(&p->base),
		.user_agent = exchange_header(x, "User-Agent"),
		.tools = p->peek.tools,
		.tokens = p->base.tokens_in});
}

void pass_submit(struct pass *p)
{
	char target[1024];
	struct job_spec spec = {.upload = p->upload,
		.takes_slot = p->route.works,
		.body = buf_slice(&p->body),
		.class = p->route.works ? pass_class(p) : CLASS_INTERACTIVE,
		.client = p->base.client,
		.prompt_tokens = p->base.tokens_in,
		.output_tokens = p->route.writes ? PASS_OUTPUT_GUESS_TOKENS : 0};
	spec.message.kind = JOB_PASS;
	spec.message.request_id = slice_str(p->base.id);
	spec.message.dialect = p->base.dialect;
	spec.message.asked = buf_slice(&p->asked);
	spec.message.method = slice_str(exchange_method(p->base.exchange));
	spec.message.path = target_of(p, target, sizeof(target));
	if (spec.message.path.p == target) {
		buf_clear(&p->target);
		buf_add_slice(&p->target, spec.message.path);
		spec.message.path = buf_slice(&p->target);
	}
	spec.message.body_bytes =
		p->upload ? exchange_body_bytes(p->base.exchange) : (int64_t)p->body.n;
	steps_call(request_steps(&p->base));
	int rc = request_forward_headers(&p->base, &spec.message);
	if (rc == 0)
		rc = job_submit(p->device, &spec, &pass_events, p, &p->job);
	if (rc && pass_lane_leave(p, job_refusal(rc)))
		return;
	if (rc)
		pass_error(p, 503, job_refusal(rc), job_retry_after_s(p->device));
	else
		uv_timer_start(&p->wait, on_wait, PASS_WAIT_STEP_MS, PASS_WAIT_STEP_MS);
	if (rc == 0 && !p->job->running)
		steps_enter(request_steps(&p->base), STEP_QUEUE, p->device->conf->name, now_ms());
}

/* --- from the client --- */

static size_t pass_body(struct request *r, const char *bytes, size_t n)
{
	struct pass *p = (struct pass *)r;
	if (p->over)
		return n;
	if (p->upload)
		return p->job ? job_body(p->job, bytes, n) : 0;
	struct requests *s = r->all;
	if (!request_may_hold(s, p->held, n)) {
		pass_error(p, 503,
			"too many large requests at once; limits.body_total_bytes is reached",
			PASS_RETRY_AFTER_S);
	} else if (buf_add(&p->body, bytes, n)) {
		pass_error(p, 413, "request body larger than limits.body_bytes", 0);
	} else {
		p->held += n;
		s->held_bytes += n;
	}
	return n;
}

static void read_done(struct pass *p)
{
	struct requests *s = p->base.all;
	char text[PACKED_TEXT_BYTES];
	if (p->over)
		return;
	if (p->unpack_result) {
		int status = packed_broken(&p->base, p->unpack_result, text);
		pass_error(p, status, text, status == 503 ? PASS_RETRY_AFTER_S : 0);
		return;
	}
	if (p->peek.model.n) {
		char why[ALIAS_TEXT_BYTES];
		struct device *d = pass_model(p, why);
		if (!d) {
			pass_error(p, 503, why, PASS_RETRY_AFTER_S);
			return;
		}
		p->device = d;
		if (p->base.record)
			record_text(p->base.record->model, sizeof(p->base.record->model),
				buf_slice(&p->peek.model));
	}
	if (p->route.works)
		p->base.tokens_in =
			tokens_estimate(s->tokens, buf_slice(&p->peek.model), &p->peek.census);
	pass_lane(p);
	if (p->route.works && p->peek.stream && dialect_is_sse(p->base.dialect))
		pass_watch_first_byte(p);
	pass_submit(p);
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
	if (!p->hold) {
		pass_submit(p);
	} else if (p->coding == UNPACK_UNKNOWN) {
		char text[PACKED_TEXT_BYTES];
		packed_unknown(r, text);
		pass_error(p, 415, text, 0);
	} else {
		pass_read(p, read_done);
	}
}

static void pass_sent(struct request *r, size_t n)
{
	struct pass *p = (struct pass *)r;
	/* Heartbeats go out first, and were not the worker's. */
	size_t ours = n < p->beat_bytes ? n : p->beat_bytes;
	p->beat_bytes -= ours;
	if (p->job && n > ours)
		job_credit(p->job, n - ours);
}

static void pass_gone(struct request *r)
{
	struct pass *p = (struct pass *)r;
	if (p->over)
		return;
	request_count(r, MEASURE_CANCELLED);
	log_line(LOG_INFO, "client_gone", LOG_STR("req", r->id),
		LOG_INT("ms", now_ms() - r->begun_ms), LOG_END);
	pass_finish(p);
}

static void on_closed(uv_handle_t *h)
{
	struct pass *p = h->data;
	if (--p->timers_open == 0)
		free(p);
}

static void pass_destroy(struct request *r)
{
	struct pass *p = (struct pass *)r;
	r->all->held_bytes -= p->held;
	buf_free(&p->body);
	buf_free(&p->target);
	buf_free(&p->asked);
	buf_free(&p->unpacked);
	buf_free(&p->refusal);
	pass_lane_fini(p);
	pass_peek_fini(&p->peek);
	p->timers_open = 2;
	uv_close((uv_handle_t *)&p->wait, on_closed);
	uv_close((uv_handle_t *)&p->tick, on_closed);
}

static void pass_cancel(struct request *r)
{
	struct pass *p = (struct pass *)r;
	if (!p->over)
		pass_error(p, REQUEST_CANCELLED_STATUS, REQUEST_CANCELLED_TEXT, 0);
}

/* --- from the worker --- */

static void send_head(struct pass *p, const struct proto_record *rec)
{
	char name[128];
	for (size_t i = 0; i < rec->u.start.header_count; i++) {
		struct slice n = rec->u.start.headers[i].name;
		if (n.n >= sizeof(name))
			continue;
		memcpy(name, n.p, n.n);
		name[n.n] = '\0';
		exchange_add_header(p->base.exchange, name, rec->u.start.headers[i].value);
	}
	pass_tell(p);
	exchange_head(p->base.exchange, (int)rec->u.start.status, rec->u.start.body_bytes);
	p->head_sent = true;
}

static void pass_run(void *ctx, struct job *j)
{
	struct pass *p = ctx;
	steps_enter(request_steps(&p->base), streams(p) ? STEP_PREFILL : STEP_ANSWER,
		j->device->conf->name, now_ms());
}

static void pass_start(void *ctx, struct job *j, const struct proto_record *rec)
{
	struct pass *p = ctx;
	if (rec->u.start.status >= 400 && pass_lane_leave(p, "answers with an error"))
		return;
	if (streams(p))
		steps_enter(request_steps(&p->base), STEP_DECODE, j->device->conf->name, now_ms());
	p->status = (int)rec->u.start.status;
	if (p->route.works)
		p->queued_ms = (double)(j->started_ms - j->submitted_ms);
	if (!p->head_sent)
		send_head(p, rec);
	else if (rec->u.start.status >= 300)
		p->refused = (int)rec->u.start.status;
	p->first_byte_ms = now_ms() - p->base.begun_ms;
	if (p->first_byte_ms == 0)
		p->first_byte_ms = 1; /* 0: not yet */
	uv_timer_stop(&p->wait);
	uv_timer_stop(&p->tick);
}

static void pass_delta(void *ctx, struct job *j, const struct proto_record *r)
{
	struct pass *p = ctx;
	if (p->refused) {
		buf_add_slice(&p->refusal, r->u.delta.bytes); /* over its cap it is not used */
		job_credit(j, r->u.delta.bytes.n);
		return;
	}
	p->answering = true;
	if (exchange_write(p->base.exchange, r->u.delta.bytes.p, r->u.delta.bytes.n))
		pass_error(p, 502, "answer over its credit", 0);
}

static void pass_end(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)j;
	(void)r;
	struct pass *p = ctx;
	p->job = NULL;
	if (p->refused) {
		pass_refused_late(p);
		pass_finish(p);
		return;
	}
	exchange_end(p->base.exchange);
	struct times *times = &p->base.all->times;
	histogram_add(&times->first_byte[STRATEGIES], p->first_byte_ms);
	histogram_add(&times->total[STRATEGIES], now_ms() - p->base.begun_ms);
	log_line(LOG_INFO, "request_done", LOG_STR("req", p->base.id), LOG_STR("strategy", "pass"),
		LOG_STR("device", p->device->conf->name),
		LOG_STR("method", exchange_method(p->base.exchange)),
		LOG_SLICE("path", exchange_path(p->base.exchange)),
		LOG_INT("tokens_in", p->base.tokens_in), LOG_INT("ms", now_ms() - p->base.begun_ms),
		LOG_STR("key", request_key(&p->base)), LOG_END);
	pass_finish(p);
}

static bool may_repeat(const struct pass *p, int cause)
{
	if ((p->head_sent && !p->early) || p->first_byte_ms || p->upload)
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
	steps_leave(request_steps(&p->base), STEP_FAILED, job_cause_name(f->cause), now_ms());
	p->deaths += p->lane.on && (f->cause == JOB_LOST || f->cause == FAIL_CUT) && !f->expected;
	if (!p->answering && pass_lane_leave(p, job_cause_name(f->cause)))
		return;
	bool gone =
		f->cause == JOB_LOST || f->cause == FAIL_UNREACHABLE || f->cause == FAIL_DRAINING;
	if (may_repeat(p, f->cause) && ++p->deaths < p->base.all->config->limits.request_deaths) {
		steps_point(request_steps(&p->base), STEP_RETRY, p->device->conf->name,
			job_cause_name(f->cause), now_ms());
		pass_submit(p);
		return;
	}
	snprintf(text, sizeof(text), "%.*s", f->message.n ? (int)f->message.n : 0,
		f->message.n ? f->message.p : "");
	int status = f->status ? f->status : gone ? 503 : f->cause == FAIL_TIMEOUT ? 504 : 502;
	const char *message = text[0] ? text : job_cause_name(f->cause);
	pass_error_said(p, status, message, job_logged_message(f->cause, slice_str(message)),
		status == 503 ? PASS_RETRY_AFTER_S : 0);
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
	.room = pass_room,
	.run = pass_run};

static const struct request_ops pass_ops = {.body = pass_body,
	.body_end = pass_body_end,
	.sent = pass_sent,
	.gone = pass_gone,
	.cancel = pass_cancel,
	.destroy = pass_destroy};

void pass_begin(struct requests *s, struct exchange *x, const struct route *route)
{
	struct pass *p = (struct pass *)request_create(s, x, route->dialect, &pass_ops, sizeof(*p));
	if (!p) {
		exchange_reply(x, 503, "application/json", SLICE("{\"error\":\"out of memory\"}"));
		return;
	}
	s->count.passed++;
	request_remember(&p->base);
	p->route = *route;
	tracing_names(&p->base, route->path != NULL,
		!route->works	? NULL
		: route->writes ? "text_completion"
				: "embeddings");
	p->queued_ms = -1;
	buf_init(&p->body, (size_t)s->config->limits.body_bytes);
	buf_init(&p->target, 0);
	buf_init(&p->refusal, PASS_REFUSAL_BYTES);
	pass_peek_init(&p->peek);
	uv_timer_init(s->loop, &p->wait);
	uv_timer_init(s->loop, &p->tick);
	p->wait.data = p->tick.data = p;
	p->device = pick_role(s->devices, ROLE_MAIN);
	int64_t bytes = exchange_body_bytes(x);
	p->hold = bytes != 0 && route->named;
	p->coding = unpack_coding(exchange_header(x, "Content-Encoding"));
	p->upload = bytes != 0 && !p->hold;
	if (p->upload)
		pass_submit(p);
}
