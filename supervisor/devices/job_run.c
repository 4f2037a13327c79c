/* Jobs at work: they start, make room for more urgent ones, and their bytes cross. */
#include "supervisor/devices/job_private.h"

#include "common/base/log.h"

#include <stdio.h>

/* Credit bounds what one job sends ahead, the high-water mark of the link what all do together: a
 * worker that reads more slowly than many clients send is no worker that hangs. */
static bool must_wait(struct job *j)
{
	j->held_back = channel_full(j->worker->channel);
	return j->held_back;
}

void job_send_body(struct job *j)
{
	struct slice body = j->spec.body;
	while (!j->body_ended && (j->credit > 0 || j->sent == body.n)) {
		size_t n = body.n - j->sent;
		if (n > PROTO_PIECE_BYTES)
			n = PROTO_PIECE_BYTES;
		if (n > j->credit)
			n = (size_t)j->credit;
		bool last = j->sent + n == body.n;
		if (must_wait(j))
			return;
		struct proto_record r = {.type = PROTO_BODY, .job = j->id};
		r.u.body.bytes = (struct slice){body.p + j->sent, n};
		r.u.body.last = last;
		if (channel_put(j->worker->channel, &r))
			return; /* the link is being given up; JOB_LOST follows */
		j->sent += n;
		j->credit -= n;
		j->body_ended = last;
	}
}

/* j is in no list of waiting jobs any more. */
static void job_start(struct job *j)
{
	struct device *d = j->device;
	char client[17];
	snprintf(client, sizeof(client), "%016llx", (unsigned long long)j->spec.client);
	job_count_waiting(j, -1);
	TAILQ_INSERT_TAIL(&d->running, j, link);
	LIST_INSERT_HEAD(job_bucket(d, j->id), j, same);
	d->inflight += j->spec.takes_slot;
	if (!j->spec.yields && j->spec.message.kind != JOB_NOTES)
		device_asked(d, j->spec.message.model);
	j->running = true;
	j->worker = d->current;
	j->credit = PROTO_WINDOW_BYTES;
	j->started_ms = now_ms();
	j->fresh = j->spec.takes_slot && rate_prompt_fresh(&d->prompts, j->spec.body);
	histogram_add(
		&d->all->times.queue_wait[j->spec.message.kind], j->started_ms - j->submitted_ms);
	log_line(LOG_INFO, "job_start", LOG_SLICE("req", j->spec.message.request_id),
		LOG_INT("job", j->id), LOG_STR("device", d->conf->name),
		LOG_STR("kind", proto_kind_name(j->spec.message.kind)),
		LOG_STR("class", job_class_name(j->spec.class)), LOG_STR("client", client),
		LOG_INT("queued_ms", j->started_ms - j->submitted_ms), LOG_END);
	if (j->events && j->events->run)
		j->events->run(j->ctx, j);
	if (j->spec.message.timeout_ms > 0)
		uv_timer_start(&j->timeout, job_on_timeout,
			(uint64_t)j->spec.message.timeout_ms + JOB_TIMEOUT_GRACE_MS, 0);
	struct proto_record r = {.type = PROTO_JOB, .job = j->id};
	r.u.job = j->spec.message;
	if (channel_put(j->worker->channel, &r) == 0 && !j->spec.upload)
		job_send_body(j);
	else if (j->spec.upload && j->events && j->events->room)
		j->events->room(j->ctx, j);
}

static bool can_start(const struct device *d)
{
	return d->state == WORKER_READY && !channel_full(d->current->channel);
}

/* --- making room --- */

static void job_preempt(struct job *j)
{
	struct device *d = j->device;
	j->preempted = true;
	j->preemptions++;
	d->preempting++;
	d->jobs_preempted++;
	log_line(LOG_INFO, "job_preempt", LOG_SLICE("req", j->spec.message.request_id),
		LOG_INT("job", j->id), LOG_STR("device", d->conf->name),
		LOG_INT("ms", now_ms() - j->started_ms), LOG_END);
	job_send_cancel(j);
}

/* The youngest job that may be pre-empted: least is lost with it. */
static struct job *victim(const struct device *d)
{
	struct job *j, *youngest = NULL;
	TAILQ_FOREACH(j, &d->running, link)
		if (j->spec.class == CLASS_MAP && j->spec.takes_slot && j->events &&
			j->events->restart && !j->preempted && !j->place.lifted &&
			j->preemptions < JOB_PREEMPTIONS_MAX)
			youngest = j; /* the list is in the order of their starts */
	return youngest;
}

static void jobs_preempt(struct device *d)
{
	unsigned urgent =
		d->queue.class[CLASS_INTERACTIVE].waiting + d->queue.class[CLASS_AGENT].waiting;
	struct job *j;
	while (urgent > d->preempting && (j = victim(d)))
		job_preempt(j);
}

void jobs_kick(struct device *d)
{
	struct job *j;
	while ((j = TAILQ_FIRST(&d->passing)) && can_start(d)) {
		TAILQ_REMOVE(&d->passing, j, link);
		job_start(j);
	}
	while (queue_waiting(&d->queue) > 0 && can_start(d) &&
		d->inflight < (unsigned)device_slots(d)) {
		struct queue_entry *e = queue_take(&d->queue);
		if (!e)
			return;
		job_start(job_of_place(e));
	}
	if (d->state == WORKER_READY)
		jobs_preempt(d);
}

/* --- bytes --- */

size_t job_body(struct job *j, const char *p, size_t n)
{
	size_t taken = 0;
	while (j->running && taken < n && j->credit > 0 && !must_wait(j)) {
		size_t piece = n - taken;
		if (piece > PROTO_PIECE_BYTES)
			piece = PROTO_PIECE_BYTES;
		if (piece > j->credit)
			piece = (size_t)j->credit;
		struct proto_record r = {.type = PROTO_BODY, .job = j->id};
		r.u.body.bytes = (struct slice){p + taken, piece};
		if (channel_put(j->worker->channel, &r))
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
	channel_put(j->worker->channel, &r);
	j->body_ended = true;
}

void job_credit(struct job *j, size_t n)
{
	j->credit_due += n;
	if (!j->running || j->credit_due < PROTO_WINDOW_BYTES / 4 || !j->worker->channel)
		return; /* small change is saved up: a record for each quarter of the window is
			   enough */
	struct proto_record r = {.type = PROTO_CREDIT, .job = j->id};
	r.u.credit.bytes = j->credit_due;
	j->credit_due = 0;
	channel_put(j->worker->channel, &r);
}
