#include "supervisor/requests/warming.h"

#include "common/base/log.h"
#include "supervisor/devices/job.h"
#include "supervisor/requests/request.h"

#include <stdio.h>
#include <stdlib.h>

struct warming {
	struct device *device;
	struct job *job;
	struct buf body, strings; /* strings: model, then authorization */
	struct proto_header authorization;
	struct prefix_chain chain;
	struct forecast forecast;
	double behind; /* tokens */
	const char *why;
	struct unread *unread;
	uint64_t freeze;
	struct history *history;
};

static void warming_free(struct warming *w)
{
	w->device->warming = NULL;
	buf_free(&w->body);
	buf_free(&w->strings);
	prefix_chain_fini(&w->chain);
	free(w);
}

static void tell_step(const struct warming *w, const struct job *j, bool done, double cached)
{
	char id[RECORD_ID_BYTES];
	struct step it = {.kind = STEP_WARM,
		.outcome = done ? STEP_DONE : STEP_CANCELLED,
		.begun_ms = j->started_ms ? j->started_ms : j->submitted_ms,
		.ended_ms = now_ms(),
		.tokens = (int64_t)j->spec.prompt_tokens,
		.cached = cached >= 0 ? (int64_t)cached : -1,
		.count = 1};
	snprintf(it.device, sizeof(it.device), "%s", w->device->conf->name);
	snprintf(it.why, sizeof(it.why), "%s", w->why);
	record_text(id, sizeof(id), j->spec.message.request_id);
	history_late(w->history, id, &it);
}

static void tell(const struct warming *w, const struct job *j, const char *end, double cached)
{
	tell_step(w, j, strcmp(end, "done") == 0, cached);
	log_line(LOG_INFO, "warmed", LOG_SLICE("req", j->spec.message.request_id),
		LOG_STR("device", w->device->conf->name), LOG_STR("why", w->why),
		LOG_STR("end", end), LOG_INT("tokens", j->spec.prompt_tokens),
		LOG_INT("cached_before", cached),
		LOG_INT("ms", j->running || j->started_ms ? now_ms() - j->started_ms : 0), LOG_END);
}

static void on_start(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)ctx, (void)j, (void)r;
}

/* It has no answer; should one come, its worker must not wait for credit. */
static void on_delta(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)ctx;
	job_credit(j, r->u.delta.bytes.n);
}

static void on_end(void *ctx, struct job *j, const struct proto_record *r)
{
	struct warming *w = ctx;
	const struct proto_usage *u = &r->u.end.usage;
	struct outcome o = {.prompt = (double)u->prompt_tokens,
		.cached = (double)u->cached_tokens,
		.output = 0,
		.prompt_ms = u->prompt_ms,
		.first_ms = -1,
		.behind = w->behind};
	double cached = foresight_ended(&w->device->foresight, &w->forecast, &o);
	w->device->warmed++;
	if (w->unread)
		unread_done(w->unread, w->freeze);
	tell(w, j, "done", cached);
	warming_free(w);
}

static void on_fail(void *ctx, struct job *j, const struct job_failure *f)
{
	struct warming *w = ctx;
	foresight_cancelled(&w->device->foresight, &w->forecast, false);
	w->device->warmings_cancelled++;
	tell(w, j, job_cause_name(f->cause), w->forecast.match.cached);
	warming_free(w);
}

static const struct job_events events = {
	.start = on_start, .delta = on_delta, .end = on_end, .fail = on_fail};

bool warming_possible(const struct device *d)
{
	return !d->warming && device_has(d, TRAIT_WARMS) && d->state == WORKER_READY &&
	       !device_hopeless(d) && d->inflight == 0 && queue_waiting(&d->queue) == 0 &&
	       foresight_reuses(&d->foresight);
}

static int submit(struct warming *w, const struct warming_spec *spec)
{
	struct device *d = w->device;
	struct slice strings = buf_slice(&w->strings);
	struct job_spec s = {.takes_slot = true,
		.impatient = true,
		.yields = true,
		.class = CLASS_IDLE,
		.client = spec->client,
		.prompt_tokens = spec->tokens,
		.prefill_ms = w->forecast.ms,
		.body = buf_slice(&w->body)};
	s.message.kind = JOB_WARM;
	s.message.request_id = spec->request_id;
	s.message.dialect = spec->dialect;
	s.message.body_bytes = (int64_t)w->body.n;
	s.message.model = (struct slice){strings.p, spec->model.n};
	s.message.num_ctx = spec->num_ctx;
	forecast_ask(&w->forecast, &s.message);
	if (spec->authorization.n) {
		w->authorization = (struct proto_header){
			SLICE("Authorization"), {strings.p + spec->model.n, spec->authorization.n}};
		s.message.headers = &w->authorization;
		s.message.header_count = 1;
	}
	return job_submit(d, &s, &events, w, &w->job);
}

double warming_cached(const struct device *d)
{
	return d->warming ? d->warming->forecast.match.cached : 0;
}

bool warming_start(struct device *d, const struct warming_spec *spec, struct buf *body,
	struct prefix_chain *chain)
{
	struct warming *w = warming_possible(d) ? calloc(1, sizeof(*w)) : NULL;
	if (!w)
		return false;
	*w = (struct warming){.device = d,
		.body = *body,
		.chain = *chain,
		.behind = (double)spec->behind,
		.why = spec->why,
		.unread = spec->unread,
		.freeze = spec->freeze,
		.history = spec->history};
	*body = (struct buf){0};
	*chain = (struct prefix_chain){0};
	buf_add_slice(&w->strings, spec->model);
	buf_add_slice(&w->strings, spec->authorization);
	d->warming = w;
	prefix_scale(&w->chain, (double)(spec->tokens - spec->behind));
	w->forecast = foresee(&d->foresight, &w->chain);
	if (buf_error(&w->strings) || submit(w, spec)) {
		warming_free(w);
		return false;
	}
	foresight_sent(&d->foresight, &w->forecast, &w->chain);
	return true;
}
