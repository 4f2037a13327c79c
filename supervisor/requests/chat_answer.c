/*
 * The answer: the job on the answering device, the client's first byte in time, and what follows
 * when it fails.
 */
#include "supervisor/requests/audience.h"
#include "supervisor/requests/chat.h"
#include "supervisor/requests/chat_reply.h"

#include "common/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define WAIT_STEP_MS                                                                               \
	100 /* how often a waiting request looks whether its device is away for too long */
#define DRAIN_STEP_MS 10   /* how often an answer that goes on looks whether the client has all */
#define PARSING_STEP_MS 10 /* how often a late first byte looks whether the body is understood */
/* Of an answer, for its cost; and the most that counts: what a limit allows is rarely used. */
#define OUTPUT_GUESS_TOKENS 512
/* a backend that counts fewer tokens than this share of our estimate has cut the prompt */
#define LOW_COUNT 0.6

void chat_answer_ended(struct chat *c)
{
	chat_answer_kept_head(c);
	exchange_end(c->base.exchange);
	struct times *times = &c->base.all->times;
	if (!c->bench) {
		histogram_add(&times->first_byte[c->plan.strategy], c->first_byte_ms);
		histogram_add(&times->total[c->plan.strategy], now_ms() - c->base.begun_ms);
	}
	log_line(LOG_INFO, "request_done", LOG_STR("req", c->base.id),
		LOG_STR("strategy", strategy_name(c->plan.strategy)),
		LOG_STR("device", c->device->conf->name), LOG_INT("tokens_in", c->facts.tokens),
		LOG_INT("tokens_sent", c->sent_tokens), LOG_INT("bytes_out", c->bytes_out),
		LOG_INT("first_byte_ms", c->first_byte_ms),
		LOG_INT("ms", now_ms() - c->base.begun_ms), LOG_STR("note", c->note),
		LOG_STR("key", request_key(&c->base)), LOG_END);
	c->answer = NULL;
	chat_end_joined(c);
	chat_finish(
		c); /* before a thread makes another layout of it: its record tells of this one */
	chat_notes_write(c);
	chat_early(c);
}

/* --- the job --- */

static const struct job_events answer_events;

static void on_wait(uv_timer_t *t)
{
	struct chat *c = t->data;
	const struct device *d = c->device;
	if (!c->answer) { /* the pause before it */
		uv_timer_stop(t);
		chat_resume_look_again(c);
		chat_answer_submit(c);
		return;
	}
	if (chat_lane_waited(c) || c->answer->running)
		return;
	struct device *elsewhere = chat_resume_elsewhere(c);
	if (elsewhere) {
		job_cancel(c->answer);
		steps_leave(request_steps(&c->base), STEP_CANCELLED, "another device is free",
			now_ms());
		c->answer = NULL;
		if (c->resume.replay.again)
			chat_replay_drop(c);
		c->device = elsewhere;
		chat_answer_submit(c);
		return;
	}
	if (d->state == WORKER_READY)
		return;
	uint64_t since = d->not_ready_since_ms > c->answer->submitted_ms ? d->not_ready_since_ms
									 : c->answer->submitted_ms;
	if (now_ms() - since >= (uint64_t)c->base.all->config->deadlines.main_wait_ms)
		chat_event(c, CHAT_WAIT_OVER);
}

static void pause_before(struct chat *c, uint64_t ms)
{
	uv_timer_start(&c->wait, on_wait, ms, WAIT_STEP_MS);
}

static void tell_step_tokens(struct chat *c, enum step_kind kind, int64_t tokens, int64_t cached)
{
	struct step *it = steps_last(request_steps(&c->base), kind);
	if (!it)
		return;
	it->tokens = tokens;
	it->cached = cached;
}

/* The request is about to be sent for the first time, or in another form. */
static void settle_form(struct chat *c)
{
	if (!c->counted && c->has_condense && !c->use_condensed && c->assembled != CONDENSE_OK &&
		c->prepared == CONDENSE_OK && !c->note[0])
		chat_fallback(c, "assembly failed", "original");
	if (c->notes && c->use_condensed)
		chat_chunks_cancel(c);
	if (!c->use_condensed) {
		c->sent_tokens = c->facts.tokens;
		c->sent_census = c->view.census;
	} else {
		c->sent_tokens =
			tokens_estimate(c->base.all->tokens, buf_slice(&c->model), &c->sent_census);
		tell_step_tokens(c, STEP_CONDENSE, (int64_t)c->sent_tokens, -1);
	}
	/* What is small may still go back to a main device: it is counted once it has begun. */
	if (c->lane.state != LANE_ON)
		chat_count_way(c);
}

void chat_answer_submit(struct chat *c)
{
	c->state = CHAT_WAITING;
	if (c->bench && !chat_bench_may_run(c))
		return;
	if (!chat_begun(c)) {
		settle_form(c);
		if (c->lane.state != LANE_ON) /* else it is left, as it is not taken */
			chat_resume_look_again(c);
		chat_forecast_make(c);
	} else if (audience_backlog(c) > 0) {
		/* The next job begins with a whole window of credit, and what the last one had used
		 * of its own is not with the client yet. */
		pause_before(c, DRAIN_STEP_MS);
		return;
	}

	struct job_spec spec = {.takes_slot = true,
		.impatient = c->bench,
		.yields = c->bench,
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
	spec.message.asked = buf_slice(&c->alias);
	spec.message.num_ctx = chat_num_ctx(c, c->device);
	if (!chat_begun(c))
		forecast_ask(&c->forecast, &spec.message);
	chat_early_ask(c, &spec.message);
	steps_call(request_steps(&c->base));
	if (rc == 0)
		rc = chat_address(c, &spec.message);
	if (rc == 0)
		rc = job_submit(c->device, &spec, &answer_events, c, &c->answer);
	if (rc == -EBUSY && chat_resume_patient(c)) {
		pause_before(c, WAIT_STEP_MS);
		return;
	}
	if (rc && c->lane.state == LANE_ON && !chat_begun(c)) {
		chat_lane_leave(c, job_refusal(rc));
		return;
	}
	if (rc) {
		chat_answer_error(c, 503, slice_str(job_refusal(rc)), (struct slice){0},
			(struct slice){0}, job_retry_after_s(c->device));
		return;
	}
	c->asked = true;
	if (!c->answer->running)
		steps_enter(request_steps(&c->base), STEP_QUEUE, c->device->conf->name, now_ms());
	if (c->resume.replay.again)
		chat_forecast_cut(c); /* it was sent before: how long it takes is not seen */
	else if (!chat_begun(c))
		chat_forecast_sent(c);
	audience_submitted(c);
	uv_timer_start(&c->wait, on_wait, WAIT_STEP_MS, WAIT_STEP_MS);
}

static void answer_run(void *ctx, struct job *j)
{
	struct chat *c = ctx;
	steps_enter(request_steps(&c->base), c->view.stream ? STEP_PREFILL : STEP_ANSWER,
		j->device->conf->name, now_ms());
}

static void answer_start(void *ctx, struct job *j, const struct proto_record *r)
{
	struct chat *c = ctx;
	if (c->view.stream)
		steps_enter(request_steps(&c->base), STEP_DECODE, j->device->conf->name, now_ms());
	if (c->queued_ms < 0)
		c->queued_ms = (double)(j->started_ms - j->submitted_ms);
	free(c->head.type);
	c->head.type = NULL;
	for (size_t i = 0; i < r->u.start.header_count && !c->head.type; i++)
		if (slice_ieq(r->u.start.headers[i].name, SLICE("content-type")))
			c->head.type = slice_dup(r->u.start.headers[i].value);
	c->head.status = (int)r->u.start.status;
	c->head.body_bytes = r->u.start.body_bytes;
	if (c->view.stream)
		chat_answer_kept_head(c);
	chat_resume_started(c, r);
	chat_event(c, CHAT_STARTED);
}

static void answer_delta(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)j;
	if (r->u.delta.bytes.n)
		chat_resume_delta(ctx, r);
}

static void answer_end(void *ctx, struct job *j, const struct proto_record *r)
{
	struct chat *c = ctx;
	const struct proto_usage *u = &r->u.end.usage;
	chat_replay_ended(c);
	chat_measure_usage(c, u, j->spec.message.resume);
	tell_step_tokens(
		c, c->view.stream ? STEP_PREFILL : STEP_ANSWER, u->prompt_tokens, u->cached_tokens);
	if (c->view.stream)
		tell_step_tokens(c, STEP_DECODE, u->output_tokens, -1);
	if (j->spec.message.resume)
		chat_forecast_cut(c); /* its counts are about another prompt */
	else
		chat_forecast_ended(c, u);
	if (slice_eq(r->u.end.finish, SLICE("error")))
		request_count(&c->base,
			MEASURE_FAILED); /* told to the client by the backend's own bytes */
	if (u->prompt_tokens > 0 && c->sent_census.images == 0 && !c->bench &&
		j->spec.message.resume_bytes == 0) {
		uint64_t counted = c->prompt_counted = (uint64_t)u->prompt_tokens;
		chat_count_told(c, u->prompt_tokens);
		if (c->sent_tokens >= TOKENS_LEARN_MIN &&
			(double)counted < LOW_COUNT * (double)c->sent_tokens)
			log_line(LOG_WARN, "prompt_count_low", LOG_STR("req", c->base.id),
				LOG_INT("estimate", c->sent_tokens), LOG_INT("counted", counted),
				LOG_STR("hint", "the backend may have cut the prompt: set num_ctx"),
				LOG_END);
	}
	if (buf_add_slice(&c->reply, r->u.end.reply) == 0)
		chat_hold(c, c->reply.n);
	chat_event(c, CHAT_ENDED);
}

static void answer_fail(void *ctx, struct job *j, const struct job_failure *f)
{
	(void)j;
	struct chat *c = ctx;
	struct job_failure failure = *f;
	c->answer = NULL;
	steps_leave(request_steps(&c->base), STEP_FAILED, job_cause_name(f->cause), now_ms());
	uv_timer_stop(&c->wait);
	c->failure = &failure;
	chat_event(c, CHAT_FAILED);
	c->failure = NULL;
}

static const struct job_events answer_events = {.start = answer_start,
	.delta = answer_delta,
	.end = answer_end,
	.fail = answer_fail,
	.run = answer_run};

/* False: the request ends. */
static bool again(struct chat *c, struct chat_again how)
{
	switch (how.what) {
	case AGAIN_SUBMIT:
		chat_answer_submit(c);
		return true;
	case AGAIN_PAUSE:
		c->state = CHAT_WAITING;
		pause_before(c, how.ms);
		return true;
	case AGAIN_SHORTER:
		chat_condense_overflowed(c);
		return true;
	case AGAIN_MAIN:
		chat_lane_leave(c, job_cause_name(c->failure->cause));
		return true;
	default:
		return false;
	}
}

void chat_answer_failed(struct chat *c)
{
	const struct job_failure *f = c->failure;
	if (c->bench && f->cause == FAIL_CANCELLED) {
		chat_bench_yielded(c);
		return;
	}
	if (f->cause == FAIL_OVERFLOW && f->prompt_tokens > 0) {
		c->overflow_tokens = f->prompt_tokens;
		c->overflow_window = f->window_tokens;
	}
	if (!c->bench && again(c, chat_resume_failed(c, f)))
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
		f->content_type,
		f->retry_after_s > 0 ? (int)f->retry_after_s
		: status == 503	     ? CHAT_RETRY_AFTER_S
				     : 0);
}

void chat_answer_wait_over(struct chat *c)
{
	char text[128];
	snprintf(text, sizeof(text), "device %s is not available (%s)", c->device->conf->name,
		device_absence(c->device));
	chat_answer_error(
		c, 503, slice_str(text), (struct slice){0}, (struct slice){0}, CHAT_RETRY_AFTER_S);
}

/* --- heartbeats --- */

void chat_answer_tick(struct chat *c)
{
	const struct config *conf = c->base.all->config;
	audience_mirror(c);
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
	if (state == CHAT_ANSWERING && (!stream || !quiet || chat_line_is_open(c)))
		return;
	chat_answer_head(c, 200, dialect_content_type(c->base.dialect, stream), -1);
	struct slice beat = dialect_heartbeat(c->base.dialect, stream);
	exchange_write(c->base.exchange, beat.p, beat.n);
	steps_again(request_steps(&c->base), STEP_HEARTBEAT, now_ms());
}
