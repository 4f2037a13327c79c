/*
 * The answer: the job on the answering device, the client's first byte in time, and every way it
 * can end.
 */
#include "supervisor/requests/chat.h"
#include "supervisor/requests/coalesce.h"
#include "supervisor/requests/explain.h"

#include "common/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define WAIT_STEP_MS                                                                               \
	100 /* how often a waiting request looks whether its device is away for too long */
#define DRAIN_STEP_MS 10   /* how often an answer that goes on looks whether the client has all */
#define PARSING_STEP_MS 10 /* how often a late first byte looks whether the body is understood */
#define RETRY_AFTER_S 5
/* Of an answer, for its cost; and the most that counts: what a limit allows is rarely used. */
#define OUTPUT_GUESS_TOKENS 512
/* a backend that counts fewer tokens than this share of our estimate has cut the prompt */
#define LOW_COUNT 0.6

/* --- head --- */

/* failed: what no device was given was not sent. */
static void add_headers(struct chat *c, bool failed)
{
	char reason[2 * PLAN_REASON_BYTES + REQUEST_ID_BYTES + 16];
	bool planned = c->plan.reason[0]; /* what is refused before took none of the routes */
	const char *strategy = c->too_long ? "refused"
			       : planned   ? strategy_name(c->plan.strategy)
					   : "pass";
	snprintf(reason, sizeof(reason), "%s%s%s%s%s",
		planned	    ? c->plan.reason
		: c->parsed ? "no device serves this model"
			    : "not understood",
		c->note[0] ? "; " : "", c->note, c->joined_to[0] ? "; joined " : "", c->joined_to);
	request_tell(
		c->base.exchange, &(struct request_story){.id = c->base.id,
					  .strategy = strategy,
					  .tokens_in = c->facts.tokens,
					  .tokens_sent = failed && !c->asked ? 0 : c->sent_tokens,
					  .reason = reason});
	if (c->device)
		exchange_add_header(
			c->base.exchange, "X-Tandem-Device", slice_str(c->device->conf->name));
}

void chat_answer_head(struct chat *c, int status, const char *content_type, int64_t body_bytes)
{
	if (c->head_sent)
		return;
	add_headers(c, false);
	exchange_add_header(c->base.exchange, "Content-Type", slice_str(content_type));
	exchange_head(c->base.exchange, status, body_bytes);
	c->head_sent = true;
}

/* --- ends --- */

void chat_finish(struct chat *c)
{
	c->state = CHAT_OVER;
	coalesce_leave(c);
	uv_timer_stop(&c->tick);
	uv_timer_stop(&c->wait);
	chat_forecast_cut(c);
	if (c->answer)
		job_cancel(c->answer);
	c->answer = NULL;
	/* Background assembly reads the notes: they are then freed with the request. */
	if (!c->working)
		chat_condense_cancel(c);
}

static bool line_is_open(const struct chat *c)
{
	if (c->bytes_out == 0 || !c->view.stream)
		return false;
	if (c->base.dialect == DIALECT_OPENAI_CHAT)
		return !(c->tail[0] == '\n' && c->tail[1] == '\n');
	return c->tail[1] != '\n';
}

void chat_answer_error(struct chat *c, int status, struct slice message, struct slice body,
	struct slice content_type, int retry_after_s)
{
	coalesce_error(c, status, message, body, content_type, retry_after_s);
	struct exchange *x = c->base.exchange;
	struct buf own;
	buf_init(&own, 0);
	const struct chat *by = c->lead ? c->lead : c;
	int cause = by->failure ? by->failure->cause : FAIL_NONE;
	request_count_error(c->base.sup, status);
	log_line(LOG_WARN, "request_failed", LOG_STR("req", c->base.id), LOG_INT("status", status),
		LOG_SLICE("message", job_logged_message(cause, message)),
		LOG_INT("bytes_out", c->bytes_out), LOG_INT("ms", now_ms() - c->base.begun_ms),
		LOG_END);
	if (!c->head_sent) {
		char seconds[16];
		add_headers(c, true);
		if (retry_after_s > 0) {
			snprintf(seconds, sizeof(seconds), "%d", retry_after_s);
			exchange_add_header(x, "Retry-After", slice_str(seconds));
		}
		char *type = content_type.n ? slice_dup(content_type) : NULL;
		if (body.n == 0) {
			dialect_error_body(c->base.dialect, status, message, &own);
			body = buf_slice(&own);
		}
		exchange_reply(x, status, type ? type : "application/json", body);
		free(type);
	} else if (c->bytes_out > 0 && !c->view.stream) {
		exchange_abort(x); /* half a JSON object cannot be mended: a broken body says so */
	} else {
		dialect_error_inband(
			c->base.dialect, c->view.stream, status, message, line_is_open(c), &own);
		if (exchange_write(x, own.p, own.n))
			exchange_abort(x);
		else
			exchange_end(x);
	}
	buf_free(&own);
	chat_finish(c);
}

void chat_answer_overflow(struct chat *c)
{
	struct buf body;
	char text[96];
	buf_init(&body, 0);
	c->too_long = true;
	snprintf(c->note, sizeof(c->note), "refused: %llu tokens do not fit the window of %lld",
		(unsigned long long)c->facts.tokens, (long long)c->facts.main.window);
	dialect_overflow_body(
		c->base.dialect, c->facts.tokens, (uint64_t)c->facts.main.window, &body);
	snprintf(text, sizeof(text),
		"prompt of about %llu tokens exceeds the context window of %lld",
		(unsigned long long)c->facts.tokens, (long long)c->facts.main.window);
	chat_answer_error(c, 400, slice_str(text), buf_slice(&body), (struct slice){0}, 0);
	buf_free(&body);
}

static enum decide_outcome outcome_of(const struct chat *c)
{
	enum backend_type backend = c->device->conf->backend.type;
	if (!c->has_condense)
		return decide_plain(&c->facts, &c->plan, c->view.is_load, backend);
	return c->adaptive ? decide_weighed(c->prepared, c->weighed.form, backend)
			   : decide_laid_out(c->prepared, backend);
}

void chat_explain(struct chat *c)
{
	enum backend_type backend = c->device->conf->backend.type;
	if (c->has_condense && c->prepared == CONDENSE_NOTHING)
		c->plan.strategy = STRATEGY_A; /* as when it is sent */
	struct explanation e = {.request = &c->view,
		.facts = &c->facts,
		.plan = &c->plan,
		.condense = c->has_condense ? &c->condense : NULL,
		.weighed = c->adaptive ? &c->weighed : NULL,
		.rates = &c->device->foresight.rates,
		.outcome = outcome_of(c),
		.device = c->device->conf->name,
		.backend = backend_type_name(backend),
		.num_ctx = chat_num_ctx(c, c->device)};
	struct buf body;
	buf_init(&body, (size_t)chat_sent_bytes_max(&c->base.sup->config));
	if (explain_json(&e, &body)) {
		chat_answer_error(c, 503, SLICE("out of memory"), (struct slice){0},
			(struct slice){0}, RETRY_AFTER_S);
	} else {
		c->sent_tokens = 0;
		add_headers(c, false);
		exchange_reply(c->base.exchange, 200, "application/json", buf_slice(&body));
		chat_finish(c);
	}
	buf_free(&body);
}

/* The head of an answer without a stream waits for the object: until it is whole another worker
 * can still be asked. */
static void send_kept_head(struct chat *c)
{
	int status = c->head.status ? c->head.status : 200;
	const char *type =
		c->head.type ? c->head.type : dialect_content_type(c->base.dialect, c->view.stream);
	chat_answer_head(c, status, type, c->head.body_bytes);
	coalesce_head(c, status, type, c->head.body_bytes);
}

void chat_answer_ended(struct chat *c)
{
	send_kept_head(c);
	exchange_end(c->base.exchange);
	struct times *times = &c->base.sup->times;
	histogram_add(&times->first_byte[c->plan.strategy], c->first_byte_ms);
	histogram_add(&times->total[c->plan.strategy], now_ms() - c->base.begun_ms);
	log_line(LOG_INFO, "request_done", LOG_STR("req", c->base.id),
		LOG_STR("strategy", strategy_name(c->plan.strategy)),
		LOG_STR("device", c->device->conf->name), LOG_INT("tokens_in", c->facts.tokens),
		LOG_INT("tokens_sent", c->sent_tokens), LOG_INT("bytes_out", c->bytes_out),
		LOG_INT("first_byte_ms", c->first_byte_ms),
		LOG_INT("ms", now_ms() - c->base.begun_ms), LOG_STR("note", c->note), LOG_END);
	c->answer = NULL;
	coalesce_end(c);
	chat_early(c);
	chat_finish(c);
}

/* --- the job --- */

static const struct job_events answer_events;

static void on_wait(uv_timer_t *t)
{
	struct chat *c = t->data;
	const struct device *d = c->device;
	if (!c->answer) { /* the pause of chat_answer_pause() */
		uv_timer_stop(t);
		chat_resume_look_again(c);
		chat_answer_submit(c);
		return;
	}
	if (c->answer->running)
		return;
	struct device *elsewhere = chat_resume_elsewhere(c);
	if (elsewhere) {
		job_cancel(c->answer);
		c->answer = NULL;
		c->device = elsewhere;
		chat_answer_submit(c);
		return;
	}
	if (d->state == WORKER_READY)
		return;
	uint64_t since = d->not_ready_since_ms > c->answer->submitted_ms ? d->not_ready_since_ms
									 : c->answer->submitted_ms;
	if (now_ms() - since >= (uint64_t)c->base.sup->config.deadlines.main_wait_ms)
		chat_event(c, CHAT_WAIT_OVER);
}

/* What the worker is told of the client's request; borrowed from the exchange. */
static int address(struct chat *c, struct proto_job *message)
{
	message->method = slice_str(exchange_method(c->base.exchange));
	message->path = slice_str(exchange_target(c->base.exchange));
	return request_forward_headers(&c->base, message);
}

void chat_answer_readdress(struct chat *c)
{
	if (c->answer && address(c, &c->answer->spec.message))
		log_line(LOG_ERROR, "out_of_memory", LOG_STR("req", c->base.id),
			LOG_STR("lost", "headers of the request"), LOG_END);
}

void chat_answer_pause(struct chat *c, uint64_t ms)
{
	uv_timer_start(&c->wait, on_wait, ms, WAIT_STEP_MS);
}

/* The request is about to be sent for the first time, or in another form. */
static void settle_form(struct chat *c)
{
	if (!c->counted && c->has_condense && !c->use_condensed && c->assembled != CONDENSE_OK &&
		c->prepared == CONDENSE_OK && !c->note[0])
		chat_fallback(c, "assembly failed", "original");
	if (c->notes && c->use_condensed)
		chat_condense_cancel(c);
	if (!c->use_condensed) {
		c->sent_tokens = c->facts.tokens;
		c->sent_census = c->view.census;
	} else {
		c->sent_tokens =
			tokens_estimate(c->base.sup->tokens, buf_slice(&c->model), &c->sent_census);
	}
	if (!c->counted)
		c->base.sup->count.by_strategy[c->plan.strategy]++;
	c->counted = true;
}

void chat_answer_submit(struct chat *c)
{
	c->state = CHAT_WAITING;
	if (!chat_begun(c)) {
		settle_form(c);
		chat_forecast_make(c);
	} else if (coalesce_backlog(c) > 0) {
		/* The next job begins with a whole window of credit, and what the last one had used
		 * of its own is not with the client yet. */
		chat_answer_pause(c, DRAIN_STEP_MS);
		return;
	}

	struct job_spec spec = {.takes_slot = true,
		.class = c->class,
		.client = c->base.client,
		.prompt_tokens = c->sent_tokens,
		.output_tokens = (uint64_t)(c->view.max_output > 0 &&
							    c->view.max_output < OUTPUT_GUESS_TOKENS
						    ? c->view.max_output
						    : OUTPUT_GUESS_TOKENS),
		.prefill_ms = chat_begun(c) ? 0 : c->forecast.ms,
		.body = buf_slice(c->use_rewritten ? &c->rewritten : &c->body)};
	spec.message.kind = JOB_CHAT;
	spec.message.request_id = slice_str(c->base.id);
	spec.message.dialect = c->base.dialect;
	spec.message.stream = c->view.stream;
	int rc = chat_resume_spec(c, &spec);
	spec.message.body_bytes = (int64_t)spec.body.n;
	spec.message.model = buf_slice(&c->model);
	spec.message.num_ctx = chat_num_ctx(c, c->device);
	if (rc == 0)
		rc = address(c, &spec.message);
	if (rc == 0)
		rc = job_submit(c->device, &spec, &answer_events, c, &c->answer);
	if (rc == -EBUSY && chat_resume_patient(c)) {
		chat_answer_pause(c, WAIT_STEP_MS);
		return;
	}
	if (rc) {
		chat_answer_error(c, 503, slice_str(job_refusal(rc)), (struct slice){0},
			(struct slice){0}, job_retry_after_s(c->device));
		return;
	}
	c->asked = true;
	if (!chat_begun(c))
		chat_forecast_sent(c);
	coalesce_submitted(c);
	uv_timer_start(&c->wait, on_wait, WAIT_STEP_MS, WAIT_STEP_MS);
}

static void answer_start(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)j;
	struct chat *c = ctx;
	free(c->head.type);
	c->head.type = NULL;
	for (size_t i = 0; i < r->u.start.header_count && !c->head.type; i++)
		if (slice_ieq(r->u.start.headers[i].name, SLICE("content-type")))
			c->head.type = slice_dup(r->u.start.headers[i].value);
	c->head.status = (int)r->u.start.status;
	c->head.body_bytes = r->u.start.body_bytes;
	if (c->view.stream)
		send_kept_head(c);
	chat_resume_started(c, r);
	chat_event(c, CHAT_STARTED);
}

bool chat_answer_write(struct chat *c, struct slice bytes)
{
	send_kept_head(c);
	if (coalesce_write(c, bytes)) {
		/* Credit keeps us far from the cap: a worker that ignores it, or memory is out. The
		 * client must see a broken stream. */
		c->base.sup->count.failed++;
		log_line(LOG_ERROR, "answer_overrun", LOG_STR("req", c->base.id), LOG_END);
		exchange_abort(c->base.exchange);
		chat_finish(c);
		return false;
	}
	c->bytes_out += bytes.n;
	c->tail[0] = bytes.n > 1 ? bytes.p[bytes.n - 2] : c->tail[1];
	c->tail[1] = bytes.p[bytes.n - 1];
	return true;
}

static void answer_delta(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)j;
	if (r->u.delta.bytes.n)
		chat_resume_delta(ctx, r);
}

void chat_count_told(struct chat *c, int64_t prompt_tokens)
{
	if (prompt_tokens > 0)
		tokens_learn(c->base.sup->tokens, buf_slice(&c->model), &c->sent_census,
			(uint64_t)prompt_tokens);
}

static void answer_end(void *ctx, struct job *j, const struct proto_record *r)
{
	struct chat *c = ctx;
	const struct proto_usage *u = &r->u.end.usage;
	if (j->spec.message.resume)
		chat_forecast_cut(c); /* its counts are about another prompt */
	else
		chat_forecast_ended(c, u);
	if (slice_eq(r->u.end.finish, SLICE("error")))
		c->base.sup->count.failed++; /* told to the client by the backend's own bytes */
	if (u->prompt_tokens > 0 && c->sent_census.images == 0 &&
		j->spec.message.resume_bytes == 0) {
		uint64_t counted = (uint64_t)u->prompt_tokens;
		chat_count_told(c, u->prompt_tokens);
		if (c->sent_tokens >= TOKENS_LEARN_MIN &&
			(double)counted < LOW_COUNT * (double)c->sent_tokens)
			log_line(LOG_WARN, "prompt_count_low", LOG_STR("req", c->base.id),
				LOG_INT("estimate", c->sent_tokens), LOG_INT("counted", counted),
				LOG_STR("hint", "the backend may have cut the prompt: set num_ctx"),
				LOG_END);
	}
	chat_event(c, CHAT_ENDED);
}

static void answer_fail(void *ctx, struct job *j, const struct job_failure *f)
{
	(void)j;
	struct chat *c = ctx;
	struct job_failure failure = *f;
	c->answer = NULL;
	uv_timer_stop(&c->wait);
	c->failure = &failure;
	chat_event(c, CHAT_FAILED);
	c->failure = NULL;
}

static const struct job_events answer_events = {
	.start = answer_start, .delta = answer_delta, .end = answer_end, .fail = answer_fail};

void chat_answer_failed(struct chat *c)
{
	const struct job_failure *f = c->failure;
	if (chat_resume_failed(c, f))
		return;
	if (c->resume.poison) {
		chat_answer_poison(c);
		return;
	}
	int status = f->status ? f->status : f->cause == FAIL_TIMEOUT ? 504 : 502;
	if (f->cause == FAIL_OVERFLOW) {
		c->too_long = true;
		snprintf(c->note, sizeof(c->note),
			"refused: %s found the prompt longer than its window",
			c->device->conf->name);
	}
	if (f->cause == JOB_LOST && !chat_begun(c))
		status = 503;
	if (f->cause == FAIL_OVERFLOW && f->body.n == 0 && !chat_begun(c)) {
		chat_answer_overflow(c); /* the backend gave no counts */
		return;
	}
	chat_answer_error(c, status,
		f->message.n ? f->message : slice_str(job_cause_name(f->cause)), f->body,
		f->content_type, status == 503 ? RETRY_AFTER_S : 0);
}

void chat_answer_poison(struct chat *c)
{
	/* A status that no client's library sends the request again for. */
	chat_answer_error(c, 422,
		SLICE("workers or backends died of this request; it is refused for ten minutes"),
		(struct slice){0}, (struct slice){0}, 0);
}

void chat_answer_wait_over(struct chat *c)
{
	char text[128];
	snprintf(text, sizeof(text), "device %s is not available (%s)", c->device->conf->name,
		device_backend(c->device)->detail[0] ? "its backend does not answer"
						     : "its worker is restarting");
	chat_answer_error(
		c, 503, slice_str(text), (struct slice){0}, (struct slice){0}, RETRY_AFTER_S);
}

/* --- heartbeats --- */

void chat_answer_tick(struct chat *c)
{
	const struct config *conf = &c->base.sup->config;
	coalesce_mirror(c);
	enum chat_state state = c->lead ? c->lead->state : c->state;
	if (state == CHAT_PARSING) {
		/* A body so large that the thread pool still works on it: nothing is known of the
		 * answer's form. */
		uv_timer_start(&c->tick, c->tick.timer_cb, PARSING_STEP_MS,
			(uint64_t)conf->deadlines.heartbeat_ms);
		return;
	}
	bool stream = c->view.stream;
	int64_t set_ms = conf->deadlines.first_byte_nonstream_ms;
	uint64_t age = now_ms() - c->base.begun_ms,
		 nonstream = (uint64_t)(set_ms ? set_ms : dialect_patience_ms(c->base.dialect));
	if (!stream && age < nonstream) {
		/* Without a stream an error keeps its status for longer (dialect_patience_ms()). */
		uv_timer_start(&c->tick, c->tick.timer_cb, nonstream - age + 1,
			(uint64_t)conf->deadlines.heartbeat_ms);
		return;
	}
	bool quiet = c->bytes_out == c->bytes_at_tick;
	c->bytes_at_tick = c->bytes_out;
	if (state == CHAT_ANSWERING && (!stream || !quiet || line_is_open(c)))
		return;
	chat_answer_head(c, 200, dialect_content_type(c->base.dialect, stream), -1);
	struct slice beat = dialect_heartbeat(c->base.dialect, stream);
	exchange_write(c->base.exchange, beat.p, beat.n);
}
