/*
 * A passed request's job: what the worker sends of the backend's answer, and what is done when it fails.
 *
 * At most once: a request that a worker may have begun when it died is tried again only where that
 * changes nothing, and never one whose body streams. One that never reached the backend is.
 */
#include "supervisor/requests/pass.h"

#include "common/base/log.h"

#include <stdio.h>

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

static void on_run(void *ctx, struct job *j)
{
	struct pass *p = ctx;
	steps_enter(request_steps(&p->base), pass_streams(p) ? STEP_PREFILL : STEP_ANSWER,
		j->device->conf->name, now_ms());
}

static void on_start(void *ctx, struct job *j, const struct proto_record *rec)
{
	struct pass *p = ctx;
	if (rec->u.start.status >= 400 && pass_lane_leave(p, "answers with an error"))
		return;
	if (pass_streams(p))
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

static void on_delta(void *ctx, struct job *j, const struct proto_record *r)
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

static void on_end(void *ctx, struct job *j, const struct proto_record *r)
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

static void on_fail(void *ctx, struct job *j, const struct job_failure *f)
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

static void on_room(void *ctx, struct job *j)
{
	struct pass *p = ctx;
	if (p->upload_over)
		job_body_end(j);
	else
		exchange_resume_body(p->base.exchange);
}

const struct job_events pass_job_events = {.start = on_start,
	.delta = on_delta,
	.end = on_end,
	.fail = on_fail,
	.room = on_room,
	.run = on_run};
