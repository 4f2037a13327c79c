/* How a passed request ends: what the client is told of an error, and what is measured. */
#include "supervisor/requests/pass.h"

#include "common/base/log.h"

/* A backend's own error passes through, too. */
static enum measure_outcome outcome_of(const struct pass *p)
{
	if (p->base.outcome != MEASURE_DONE || p->status < 400)
		return p->base.outcome;
	return p->status < 500 ? MEASURE_REFUSED : MEASURE_FAILED;
}

/* An answer of text that comes as it is written. */
bool pass_streams(const struct pass *p)
{
	return p->route.writes && p->peek.stream;
}

static void measured(struct pass *p)
{
	bool writes = pass_streams(p) && p->first_byte_ms;
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

void pass_finish(struct pass *p)
{
	measured(p);
	p->over = true;
	uv_timer_stop(&p->wait);
	uv_timer_stop(&p->tick);
	if (p->job)
		job_cancel(p->job);
	p->job = NULL;
}

void pass_error_said(
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

void pass_error(struct pass *p, int status, const char *message, int retry_after_s)
{
	pass_error_said(p, status, message, slice_str(message), retry_after_s);
}
