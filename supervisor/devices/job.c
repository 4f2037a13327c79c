#include "supervisor/devices/job.h"

#include "common/base/log.h"
#include "supervisor/devices/devices.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
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

static struct job_failure lost(const struct worker *w)
{
	return (struct job_failure){.cause = JOB_LOST,
		.status = 503,
		.message = SLICE("the device's worker or backend is gone"),
		.expected = w->asked_to_end};
}

/* Ids are given in order: running jobs rarely share a bucket. */
static struct job_bucket *job_bucket(struct device *d, uint64_t id)
{
	return &d->by_id[id % JOB_BUCKETS];
}

int64_t job_body_bytes_max(const struct config *conf)
{
	int64_t body = conf->limits.body_bytes > conf->limits.unpacked_bytes
			       ? conf->limits.body_bytes
			       : conf->limits.unpacked_bytes;
	return body * 2 + conf->limits.resume_bytes;
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
		j->device->all->queued += (unsigned)by;
}

/* Takes the job out of its device; the memory stays until job_free(). */
static void job_unlink(struct job *j)
{
	struct device *d = j->device;
	if (j->running) {
		TAILQ_REMOVE(&d->running, j, link);
		LIST_REMOVE(j, same);
		d->inflight -= j->spec.takes_slot;
		d->preempting -= j->preempted;
	} else {
		if (!j->spec.takes_slot)
			TAILQ_REMOVE(&d->passing, j, link);
		count_waiting(j, -1);
	}
	queue_leave(&d->queue, &j->place);
}

/* A refusal that is the client's fault: what it asked for cannot be had, of whatever device. */
static bool is_clients_fault(const struct job_failure *f)
{
	return f->status >= 400 && f->status < 500;
}

static void job_fail(struct job *j, const struct job_failure *f)
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

static void send_cancel(struct job *j)
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

/* Somebody's work has come: what nobody waits for ends at once. */
void jobs_end_warming(struct device *d)
{
	static const struct job_failure yielded = {.cause = FAIL_CANCELLED,
		.message = {"other work has come", sizeof("other work has come") - 1}};
	struct job *j, *warm = NULL;
	TAILQ_FOREACH(j, &d->running, link)
		if (j->spec.message.kind == JOB_WARM && j->events)
			warm = j; /* there is one at most */
	if (!warm)
		return;
	const struct job_events *events = warm->events;
	void *ctx = warm->ctx;
	events->fail(ctx, warm, &yielded);
	job_detach(warm);
}

/* --- starting --- */

/* Credit bounds what one job sends ahead, the high-water mark of the link what all do together: a
 * worker that reads more slowly than many clients send is no worker that hangs. */
static bool must_wait(struct job *j)
{
	j->held_back = channel_full(j->worker->channel);
	return j->held_back;
}

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
	count_waiting(j, -1);
	TAILQ_INSERT_TAIL(&d->running, j, link);
	LIST_INSERT_HEAD(job_bucket(d, j->id), j, same);
	d->inflight += j->spec.takes_slot;
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
	if (j->spec.message.timeout_ms > 0)
		uv_timer_start(&j->timeout, on_timeout,
			(uint64_t)j->spec.message.timeout_ms + JOB_TIMEOUT_GRACE_MS, 0);
	struct proto_record r = {.type = PROTO_JOB, .job = j->id};
	r.u.job = j->spec.message;
	if (channel_put(j->worker->channel, &r) == 0 && !j->spec.upload)
		send_body(j);
	else if (j->spec.upload && j->events && j->events->room)
		j->events->room(j->ctx, j);
}

static bool can_start(const struct device *d)
{
	return d->state == WORKER_READY && !channel_full(d->current->channel);
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

struct job *job_of_place(struct queue_entry *e)
{
	return (struct job *)((char *)e - offsetof(struct job, place));
}

/* --- pre-emption --- */

void job_preempt(struct job *j)
{
	struct device *d = j->device;
	j->preempted = true;
	j->preemptions++;
	d->preempting++;
	d->jobs_preempted++;
	log_line(LOG_INFO, "job_preempt", LOG_SLICE("req", j->spec.message.request_id),
		LOG_INT("job", j->id), LOG_STR("device", d->conf->name),
		LOG_INT("ms", now_ms() - j->started_ms), LOG_END);
	send_cancel(j);
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
	count_waiting(j, 1);
	j->events->restart(j->ctx, j);
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
	if (spec->takes_slot && spec->message.kind != JOB_WARM)
		jobs_end_warming(d);
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
	if (!spec->takes_slot)
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
	count_waiting(j, 1);
	*out = j;
	jobs_kick(d);
	return 0;
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

/* --- what the worker says --- */

static struct job *job_find(struct worker *w, uint64_t id)
{
	struct job *j;
	LIST_FOREACH(j, job_bucket(w->device, id), same)
		if (j->id == id && j->worker == w)
			return j;
	return NULL;
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
				f = lost(w);
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
			send_body(j);
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
					send_body(j);
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
	struct job_failure f = lost(w);
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
	struct job_failure f = lost(d->current);
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
