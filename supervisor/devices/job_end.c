/* How jobs end: by their owner, by a deadline, or because no worker is left for them. */
#include "supervisor/devices/job_private.h"

#include "common/base/log.h"

#include <stdlib.h>

const char *job_cause_name(int cause)
{
	return cause == JOB_LOST ? "worker_lost" : proto_cause_name((enum proto_cause)cause);
}

struct slice job_logged_message(int cause, struct slice message)
{
	return cause == FAIL_STATUS || cause == FAIL_OVERFLOW
		       ? SLICE("the backend's own words, not logged")
		       : message;
}

struct job_failure job_lost(const struct worker *w)
{
	return (struct job_failure){.cause = JOB_LOST,
		.status = 503,
		.message = SLICE("the device's worker or backend is gone"),
		.expected = w->asked_to_end};
}

static void on_timer_closed(uv_handle_t *h)
{
	free(h->data);
}

void job_free(struct job *j)
{
	if (j->spec.message.timeout_ms > 0)
		uv_close((uv_handle_t *)&j->timeout, on_timer_closed);
	else
		free(j);
}

/* Work of our own (impatient jobs: notes) is bounded by the requests it is for; limits.queue counts
 * what clients wait for. */
void job_count_waiting(struct job *j, int by)
{
	if (!j->spec.impatient)
		j->device->all->queued += (unsigned)by;
}

/* Takes the job out of its device; the memory stays until job_free(). */
void job_unlink(struct job *j)
{
	struct device *d = j->device;
	if (j->running) {
		TAILQ_REMOVE(&d->running, j, link);
		LIST_REMOVE(j, same);
		d->inflight -= j->spec.takes_slot;
		d->preempting -= j->preempted;
	} else {
		if (!job_queues(j))
			TAILQ_REMOVE(&d->passing, j, link);
		job_count_waiting(j, -1);
	}
	queue_leave(&d->queue, &j->place);
}

/* A refusal that is the client's fault: what it asked for cannot be had, of whatever device. */
static bool is_clients_fault(const struct job_failure *f)
{
	return f->status >= 400 && f->status < 500;
}

void job_fail(struct job *j, const struct job_failure *f)
{
	if (j->events) {
		j->device->jobs_failed += !is_clients_fault(f);
		log_line(LOG_WARN, "job_fail", LOG_SLICE("req", j->spec.message.request_id),
			LOG_INT("job", j->id), LOG_STR("device", j->device->conf->name),
			LOG_STR("kind", proto_kind_name(j->spec.message.kind)),
			LOG_STR("cause", job_cause_name(f->cause)), LOG_INT("status", f->status),
			LOG_SLICE("message", job_logged_message(f->cause, f->message)),
			LOG_INT("ms", now_ms() - j->submitted_ms), LOG_END);
		log_content("backend_error", j->request_id, f->message);
		j->events->fail(j->ctx, j, f);
	}
	job_free(j);
}

void job_send_cancel(struct job *j)
{
	if (!j->worker->channel)
		return; /* the worker is gone already */
	struct proto_record r = {.type = PROTO_CANCEL, .job = j->id};
	channel_put(j->worker->channel, &r);
}

/* The owner is done with it; a running job stays listed until the worker's last word, for its slot.
 */
static void job_detach(struct job *j)
{
	struct slice conversation = j->spec.message.stream_id;
	if (device_has(j->device, TRAIT_REPLAYS))
		forget_stream(j->device, conversation, j->worker->generation);
	j->events = NULL;
	j->spec.body = j->spec.message.request_id = (struct slice){0};
	j->spec.message.stream_id = (struct slice){0};
	if (j->spec.message.timeout_ms > 0)
		uv_timer_stop(&j->timeout);
	job_send_cancel(j);
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

void job_on_timeout(uv_timer_t *t)
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

/* Somebody's work has come: what nobody waits for ends at once. */
void jobs_yield(struct device *d)
{
	static const struct job_failure yielded = {.cause = FAIL_CANCELLED,
		.message = {"other work has come", sizeof("other work has come") - 1}};
	struct job *j, *idle = NULL;
	TAILQ_FOREACH(j, &d->running, link)
		if (j->spec.yields && j->events)
			idle = j; /* there is one at most: none begins where something runs */
	if (!idle)
		return;
	const struct job_events *events = idle->events;
	void *ctx = idle->ctx;
	events->fail(ctx, idle, &yielded);
	job_detach(idle);
}

/* --- many at once --- */

static const struct job_failure evicted = {.cause = FAIL_DRAINING,
	.status = 503,
	.message = {"the device takes no more work", sizeof("the device takes no more work") - 1}};

void jobs_evict(struct device *d)
{
	/* What a callback submits here again is refused at once: the device is hopeless. */
	struct queue_entry *e;
	struct job *j;
	while ((j = (e = TAILQ_FIRST(&d->queue.all)) ? job_of_place(e)
						     : TAILQ_FIRST(&d->passing))) {
		job_unlink(j);
		job_fail(j, &evicted);
	}
}

void jobs_unready(struct device *d)
{
	struct job_failure f = job_lost(d->current);
	struct queue_entry *e = TAILQ_FIRST(&d->queue.all);
	while (e) {
		struct job *j = job_of_place(e);
		e = TAILQ_NEXT(e, in_all);
		if (!j->spec.impatient)
			continue;
		job_unlink(j);
		job_fail(j, &f);
		e = TAILQ_FIRST(&d->queue.all); /* the callback may have changed the list */
	}
}
