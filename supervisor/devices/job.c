#include "supervisor/devices/job_private.h"

#include "common/base/log.h"

#include <errno.h>
#include <stdlib.h>

#define LOAD_MS_MOST 86400000.0 /* a backend that says more has lost count */

int64_t job_body_bytes_max(const struct config *conf)
{
	int64_t body = conf->limits.body_bytes > conf->limits.unpacked_bytes
			       ? conf->limits.body_bytes
			       : conf->limits.unpacked_bytes;
	return body * 2 + conf->limits.resume_bytes;
}

static struct slice keep_request_id(struct job *j, struct slice id)
{
	size_t n = id.n < sizeof(j->request_id) ? id.n : sizeof(j->request_id);
	if (n)
		memcpy(j->request_id, id.p, n);
	return (struct slice){j->request_id, n};
}

int job_submit(struct device *d, const struct job_spec *spec, const struct job_events *events,
	void *ctx, struct job **out)
{
	struct devices *s = d->all;
	if (spec->takes_slot && !spec->yields)
		jobs_yield(d);
	int rc = job_admit(d, spec);
	if (rc)
		return rc;
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
	if (!job_queues(j))
		TAILQ_INSERT_TAIL(&d->passing, j, link);
	else if (queue_put(&d->queue, &j->place, spec->class, spec->client,
			 spec->prompt_tokens + spec->output_tokens)) {
		free(j);
		return -ENOMEM;
	}
	if (spec->message.timeout_ms > 0) {
		uv_timer_init(s->loop, &j->timeout);
		j->timeout.data = j;
	}
	job_count_waiting(j, 1);
	*out = j;
	jobs_kick(d);
	return 0;
}

/* --- what the worker says --- */

static struct job *job_find(struct worker *w, uint64_t id)
{
	struct job *j;
	LIST_FOREACH(j, job_bucket(w->device, id), same)
		if (j->id == id && j->worker == w)
			return j;
	return NULL;
}

/* The worker has let go of a pre-empted job: it waits again, as a new one to the worker. */
static void job_restart(struct job *j)
{
	struct device *d = j->device;
	TAILQ_REMOVE(&d->running, j, link);
	LIST_REMOVE(j, same);
	d->inflight -= j->spec.takes_slot;
	d->preempting--;
	if (j->spec.message.timeout_ms > 0)
		uv_timer_stop(&j->timeout);
	j->worker = NULL;
	j->running = j->preempted = j->body_ended = false;
	j->sent = j->credit_due = 0;
	j->credit = 0;
	j->id = ++d->all->next_job;
	j->submitted_ms = now_ms();
	queue_put_back(&d->queue, &j->place);
	job_count_waiting(j, 1);
	j->events->restart(j->ctx, j);
}

static void learn_rates(struct job *j, const struct proto_usage *u)
{
	struct device *d = j->device;
	bool told = u->cached_tokens >= 0; /* llama-server does, Ollama does not */
	struct rate_sample read = {
		.tokens = (double)(u->prompt_tokens - (told ? u->cached_tokens : 0)),
		.ms = u->prompt_ms,
		.upper_bound = !told && !j->fresh && u->load_ms < RATE_LOAD_MS,
	};
	/* Decoding is slow enough to measure over fewer tokens. */
	struct rate_sample write = {.tokens = (double)u->output_tokens * 4, .ms = u->output_ms * 4};
	d->prefill_tok_s = rate_learn(d->prefill_tok_s, &read);
	d->decode_tok_s = rate_learn(d->decode_tok_s, &write);
}

static void job_end(struct job *j, const struct proto_record *r)
{
	struct device *d = j->device;
	const struct proto_usage *u = &r->u.end.usage;
	job_unlink(j);
	d->jobs_done++;
	if (u->load_ms >= RATE_LOAD_MS && u->load_ms < LOAD_MS_MOST) {
		d->loads++;
		d->load_ms += (uint64_t)u->load_ms;
	}
	learn_rates(j, u);
	if (r->u.end.backend_ms >= 0)
		histogram_add(&d->all->times.backend[j->spec.message.kind],
			(uint64_t)r->u.end.backend_ms);
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

void job_record(struct worker *w, const struct proto_record *r)
{
	struct device *d = w->device;
	struct job *j = job_find(w, r->job);
	if (!j)
		return; /* of a job that was lost with an earlier incarnation */
	switch (r->type) {
	case PROTO_START:
		if (j->events)
			j->events->start(j->ctx, j, r);
		break;
	case PROTO_DELTA:
		j->received += r->u.delta.bytes.n;
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
			.content_type = r->u.fail.content_type,
			.prompt_tokens = r->u.fail.prompt_tokens,
			.window_tokens = r->u.fail.window_tokens,
			.retry_after_s = r->u.fail.retry_after_s};
		if (j->preempted && j->events && f.cause == FAIL_CANCELLED &&
			d->state == WORKER_READY && !device_hopeless(d)) {
			job_restart(j);
		} else {
			if (j->preempted && f.cause == FAIL_CANCELLED)
				f = job_lost(w);
			job_unlink(j);
			job_fail(j, &f);
		}
		jobs_kick(d);
		break;
	}
	case PROTO_CREDIT:
		j->credit += r->u.credit.bytes;
		if (!j->events)
			break; /* cancelled: its body is gone */
		if (!j->spec.upload)
			job_send_body(j);
		else if (j->events->room)
			j->events->room(j->ctx, j);
		break;
	default:
		break;
	}
}

void jobs_room(struct worker *w)
{
	/* What a callback starts, ends or holds back anew changes the list: from its front again,
	 * and each job once, since the next full link ends it. */
	bool again = true;
	while (again && w->channel && !channel_full(w->channel)) {
		struct job *j;
		again = false;
		TAILQ_FOREACH(j, &w->device->running, link)
			if (j->worker == w && j->held_back) {
				j->held_back = false;
				again = true;
				if (j->events && !j->spec.upload)
					job_send_body(j);
				else if (j->events && j->events->room)
					j->events->room(j->ctx, j);
				break;
			}
	}
	jobs_kick(w->device);
}

static struct job *first_of(const struct worker *w)
{
	struct job *j;
	TAILQ_FOREACH(j, &w->device->running, link)
		if (j->worker == w)
			return j;
	return NULL;
}

void jobs_lost(struct worker *w)
{
	struct job_failure f = job_lost(w);
	/* A fail callback may submit new jobs, to this device too: those wait, they never run
	 * before the next READY. */
	struct job *j;
	while ((j = first_of(w))) {
		job_unlink(j);
		job_fail(j, &f);
	}
	if (w == w->device->current)
		jobs_unready(w->device);
	else
		jobs_kick(w->device); /* an old worker's slots are free now */
}
