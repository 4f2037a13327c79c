#include "supervisor/job.h"

#include "common/log.h"
#include "supervisor/supervisor.h"

#include <errno.h>
#include <stdlib.h>

#define RATE_WEIGHT 0.3	   /* of a new measurement in the moving averages */
#define RATE_MIN_TOKENS 64 /* shorter runs say nothing about speed */

const char *job_cause_name(int cause)
{
	return cause == JOB_LOST ? "worker_lost" : proto_cause_name((enum proto_cause)cause);
}

/* Ids are given in order: running jobs rarely share a bucket. */
static struct job_bucket *job_bucket(struct device *d, uint64_t id)
{
	return &d->by_id[id % JOB_BUCKETS];
}

/* --- ending --- */

static void on_timer_closed(uv_handle_t *h)
{
	free(h->data);
}

static void job_free(struct job *j)
{
	if (j->spec.message.timeout_ms > 0)
		uv_close((uv_handle_t *)&j->timeout, on_timer_closed);
	else
		free(j);
}

/* Work of our own (impatient jobs: notes) is bounded by the requests it is for; limits.queue counts
 * what clients wait for. */
static void count_waiting(struct job *j, int by)
{
	if (!j->spec.impatient)
		j->device->sup->queued += (unsigned)by;
}

/* Takes the job out of its device; the memory stays until job_free(). */
static void job_unlink(struct job *j)
{
	struct device *d = j->device;
	if (j->running) {
		TAILQ_REMOVE(&d->running, j, link);
		LIST_REMOVE(j, same);
		d->inflight -= j->spec.takes_slot;
	} else {
		TAILQ_REMOVE(&d->waiting, j, link);
		count_waiting(j, -1);
	}
}

static void job_fail(struct job *j, const struct job_failure *f)
{
	if (j->events) {
		j->device->jobs_failed++;
		log_line(LOG_WARN, "job_fail", LOG_SLICE("req", j->spec.message.request_id),
			LOG_INT("job", j->id), LOG_STR("device", j->device->conf->name),
			LOG_STR("kind", proto_kind_name(j->spec.message.kind)),
			LOG_STR("cause", job_cause_name(f->cause)), LOG_INT("status", f->status),
			LOG_SLICE("message", f->message), LOG_INT("ms", now_ms() - j->submitted_ms),
			LOG_END);
		j->events->fail(j->ctx, j, f);
	}
	job_free(j);
}

static void send_cancel(struct job *j)
{
	if (!j->device->channel)
		return; /* the worker is gone already */
	struct proto_record r = {.type = PROTO_CANCEL, .job = j->id};
	channel_put(j->device->channel, &r);
}

/* The owner is done with it; a running job stays listed until the worker's last word, for its slot.
 */
static void job_detach(struct job *j)
{
	j->events = NULL;
	j->spec.body = j->spec.message.request_id = (struct slice){0};
	if (j->spec.message.timeout_ms > 0)
		uv_timer_stop(&j->timeout);
	send_cancel(j);
}

void job_cancel(struct job *j)
{
	if (j->running) {
		job_detach(j);
		return;
	}
	job_unlink(j);
	job_free(j);
}

static void on_timeout(uv_timer_t *t)
{
	struct job *j = t->data;
	struct job_failure f = {.cause = FAIL_TIMEOUT,
		.status = 504,
		.message = SLICE("the worker did not answer within the job's deadline")};
	const struct job_events *events = j->events;
	void *ctx = j->ctx;
	j->device->jobs_failed++;
	log_line(LOG_WARN, "job_fail", LOG_SLICE("req", j->spec.message.request_id),
		LOG_INT("job", j->id), LOG_STR("device", j->device->conf->name),
		LOG_STR("cause", "timeout"), LOG_INT("ms", now_ms() - j->submitted_ms), LOG_END);
	job_detach(j);
	events->fail(ctx, j, &f);
}

/* --- starting --- */

static void send_body(struct job *j)
{
	struct slice body = j->spec.body;
	while (!j->body_ended && (j->credit > 0 || j->sent == body.n)) {
		size_t n = body.n - j->sent;
		if (n > PROTO_PIECE_BYTES)
			n = PROTO_PIECE_BYTES;
		if (n > j->credit)
			n = (size_t)j->credit;
		bool last = j->sent + n == body.n;
		struct proto_record r = {.type = PROTO_BODY, .job = j->id};
		r.u.body.bytes = (struct slice){body.p + j->sent, n};
		r.u.body.last = last;
		if (channel_put(j->device->channel, &r))
			return; /* the link is being given up; JOB_LOST follows */
		j->sent += n;
		j->credit -= n;
		j->body_ended = last;
	}
}

static void job_start(struct job *j)
{
	struct device *d = j->device;
	TAILQ_REMOVE(&d->waiting, j, link);
	count_waiting(j, -1);
	TAILQ_INSERT_TAIL(&d->running, j, link);
	LIST_INSERT_HEAD(job_bucket(d, j->id), j, same);
	d->inflight += j->spec.takes_slot;
	j->running = true;
	j->credit = PROTO_WINDOW_BYTES;
	j->started_ms = now_ms();
	log_line(LOG_INFO, "job_start", LOG_SLICE("req", j->spec.message.request_id),
		LOG_INT("job", j->id), LOG_STR("device", d->conf->name),
		LOG_STR("kind", proto_kind_name(j->spec.message.kind)),
		LOG_INT("queued_ms", j->started_ms - j->submitted_ms), LOG_END);
	if (j->spec.message.timeout_ms > 0)
		uv_timer_start(&j->timeout, on_timeout,
			(uint64_t)j->spec.message.timeout_ms + JOB_TIMEOUT_GRACE_MS, 0);
	struct proto_record r = {.type = PROTO_JOB, .job = j->id};
	r.u.job = j->spec.message;
	if (channel_put(d->channel, &r) == 0 && !j->spec.upload)
		send_body(j);
	else if (j->spec.upload && j->events && j->events->room)
		j->events->room(j->ctx, j);
}

void jobs_kick(struct device *d)
{
	struct job *next;
	for (struct job *j = TAILQ_FIRST(&d->waiting); j && d->state == WORKER_READY; j = next) {
		next = TAILQ_NEXT(j, link);
		if (!j->spec.takes_slot || d->inflight < (unsigned)device_slots(d))
			job_start(j);
	}
}

static struct slice keep_request_id(struct job *j, struct slice id)
{
	size_t n = id.n < sizeof(j->request_id) ? id.n : sizeof(j->request_id);
	memcpy(j->request_id, id.p, n);
	return (struct slice){j->request_id, n};
}

int job_submit(struct device *d, const struct job_spec *spec, const struct job_events *events,
	void *ctx, struct job **out)
{
	struct supervisor *s = d->sup;
	if (spec->impatient && d->state != WORKER_READY)
		return -EAGAIN;
	bool waits = d->state != WORKER_READY ||
		     (spec->takes_slot && d->inflight >= (unsigned)device_slots(d));
	if (waits && !spec->impatient && s->queued >= (unsigned)s->config.limits.queue)
		return -EBUSY;
	struct job *j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->device = d;
	j->id = ++s->next_job;
	j->spec = *spec;
	j->spec.message.request_id = keep_request_id(j, spec->message.request_id);
	j->events = events;
	j->ctx = ctx;
	j->submitted_ms = now_ms();
	if (spec->message.timeout_ms > 0) {
		uv_timer_init(s->loop, &j->timeout);
		j->timeout.data = j;
	}
	TAILQ_INSERT_TAIL(&d->waiting, j, link);
	count_waiting(j, 1);
	*out = j;
	jobs_kick(d);
	return 0;
}

/* --- bytes --- */

size_t job_body(struct job *j, const char *p, size_t n)
{
	size_t taken = 0;
	while (j->running && taken < n && j->credit > 0) {
		size_t piece = n - taken;
		if (piece > PROTO_PIECE_BYTES)
			piece = PROTO_PIECE_BYTES;
		if (piece > j->credit)
			piece = (size_t)j->credit;
		struct proto_record r = {.type = PROTO_BODY, .job = j->id};
		r.u.body.bytes = (struct slice){p + taken, piece};
		if (channel_put(j->device->channel, &r))
			break;
		taken += piece;
		j->credit -= piece;
	}
	return taken;
}

void job_body_end(struct job *j)
{
	if (j->body_ended || !j->running)
		return;
	struct proto_record r = {.type = PROTO_BODY, .job = j->id};
	r.u.body.last = true;
	channel_put(j->device->channel, &r);
	j->body_ended = true;
}

void job_credit(struct job *j, size_t n)
{
	j->credit_due += n;
	if (!j->running || j->credit_due < PROTO_WINDOW_BYTES / 4 || !j->device->channel)
		return; /* small change is saved up: a record for each quarter of the window is
			   enough */
	struct proto_record r = {.type = PROTO_CREDIT, .job = j->id};
	r.u.credit.bytes = j->credit_due;
	j->credit_due = 0;
	channel_put(j->device->channel, &r);
}

/* --- what the worker says --- */

static struct job *job_find(struct device *d, uint64_t id)
{
	struct job *j;
	LIST_FOREACH(j, job_bucket(d, id), same)
	if (j->id == id)
		return j;
	return NULL;
}

static void learn(double *average, double tokens, double ms)
{
	if (tokens < RATE_MIN_TOKENS || ms <= 0)
		return;
	double rate = tokens * 1000.0 / ms;
	*average = *average > 0 ? *average * (1 - RATE_WEIGHT) + rate * RATE_WEIGHT : rate;
}

static void learn_rates(struct device *d, const struct proto_usage *u)
{
	double cached = u->cached_tokens > 0 ? (double)u->cached_tokens : 0;
	learn(&d->prefill_tok_s, (double)u->prompt_tokens - cached, u->prompt_ms);
	/* Decoding is slow enough to measure over fewer tokens. */
	learn(&d->decode_tok_s, (double)u->output_tokens * 4, u->output_ms * 4);
}

static void job_end(struct job *j, const struct proto_record *r)
{
	struct device *d = j->device;
	const struct proto_usage *u = &r->u.end.usage;
	job_unlink(j);
	d->jobs_done++;
	learn_rates(d, u);
	log_line(LOG_INFO, "job_end", LOG_SLICE("req", j->spec.message.request_id),
		LOG_INT("job", j->id), LOG_STR("device", d->conf->name),
		LOG_STR("kind", proto_kind_name(j->spec.message.kind)),
		LOG_INT("ms", now_ms() - j->started_ms), LOG_MS("backend_ms", r->u.end.backend_ms),
		LOG_INT("prompt_tokens", u->prompt_tokens),
		LOG_INT("cached_tokens", u->cached_tokens),
		LOG_INT("output_tokens", u->output_tokens), LOG_SLICE("finish", r->u.end.finish),
		LOG_SLICE("verdict", r->u.end.verdict), LOG_END);
	if (j->events)
		j->events->end(j->ctx, j, r);
	job_free(j);
	jobs_kick(d);
}

void job_record(struct device *d, const struct proto_record *r)
{
	struct job *j = job_find(d, r->job);
	if (!j)
		return; /* of a job that was lost with an earlier incarnation */
	switch (r->type) {
	case PROTO_START:
		if (j->events)
			j->events->start(j->ctx, j, r);
		break;
	case PROTO_DELTA:
		if (j->events)
			j->events->delta(j->ctx, j, r);
		break;
	case PROTO_END:
		job_end(j, r);
		break;
	case PROTO_FAIL: {
		struct job_failure f = {.cause = (int)r->u.fail.cause,
			.status = (int)r->u.fail.status,
			.message = r->u.fail.message,
			.body = r->u.fail.body,
			.content_type = r->u.fail.content_type};
		job_unlink(j);
		job_fail(j, &f);
		jobs_kick(d);
		break;
	}
	case PROTO_CREDIT:
		j->credit += r->u.credit.bytes;
		if (!j->events)
			break; /* cancelled: its body is gone */
		if (!j->spec.upload)
			send_body(j);
		else if (j->events->room)
			j->events->room(j->ctx, j);
		break;
	default:
		break;
	}
}

static struct job_failure lost(const struct device *d)
{
	return (struct job_failure){.cause = JOB_LOST,
		.status = 503,
		.message = SLICE("the device's worker or backend is gone"),
		.expected = d->state == WORKER_STOPPING || d->state == WORKER_STOPPED};
}

void jobs_lost(struct device *d)
{
	struct job_failure f = lost(d);
	/* A fail callback may submit new jobs, to this device too: those wait, they never run
	 * before the next READY. */
	struct job *j;
	while ((j = TAILQ_FIRST(&d->running))) {
		job_unlink(j);
		job_fail(j, &f);
	}
	jobs_unready(d);
}

void jobs_unready(struct device *d)
{
	struct job_failure f = lost(d);
	struct job *j = TAILQ_FIRST(&d->waiting);
	while (j) {
		if (!j->spec.impatient) {
			j = TAILQ_NEXT(j, link);
			continue;
		}
		job_unlink(j);
		job_fail(j, &f);
		j = TAILQ_FIRST(&d->waiting); /* the callback may have changed the list */
	}
}
