/*
 * Jobs that have to wait: who is refused, and how long it takes.
 */
#include "supervisor/devices/job_private.h"

#include <errno.h>
#include <stddef.h>

struct job *job_of_place(struct queue_entry *e)
{
	return (struct job *)((char *)e - offsetof(struct job, place));
}

/* --- refusing --- */

/* What this client has waiting, whatever the device. */
static unsigned client_waiting(const struct devices *s, uint64_t client)
{
	unsigned n = 0;
	for (size_t i = 0; i < s->count; i++) {
		const struct device *d = s->of[i];
		const struct job *j;
		n += queue_client_waiting(&d->queue, client);
		TAILQ_FOREACH(j, &d->passing, link)
			n += j->spec.client == client;
	}
	return n;
}

/* A slot is free, or will be at once: that of a warming which was told to end. */
static bool has_slot(const struct device *d)
{
	unsigned slots = (unsigned)device_slots(d), leaving = 0;
	const struct job *j;
	if (d->inflight < slots)
		return true;
	TAILQ_FOREACH(j, &d->running, link)
		leaving += j->spec.yields && !j->events;
	return leaving > 0 && d->inflight - leaving + queue_waiting(&d->queue) < slots;
}

int job_admit(const struct device *d, const struct job_spec *spec)
{
	const struct devices *s = d->all;
	int64_t share = s->config->limits.queue_per_client;
	bool ready = d->state == WORKER_READY;
	if (spec->impatient)
		return ready && !device_hopeless(d) ? 0 : -EAGAIN;
	if (device_hopeless(d))
		return -ENODEV;
	if (spec->holds_slot)
		return 0;
	if (ready && (!spec->takes_slot || has_slot(d)))
		return 0;
	if (s->queued >= (unsigned)s->config->limits.queue)
		return -EBUSY;
	return share > 0 && client_waiting(s, spec->client) >= (uint64_t)share ? -EBUSY : 0;
}

const char *job_refusal(int rc)
{
	switch (rc) {
	case -EBUSY:
		return "server busy, please try again.  maximum pending requests exceeded";
	case -ENODEV:
		return "no worker serves this device";
	default:
		return "out of memory";
	}
}

static double job_s(const struct device *d, const struct job *j)
{
	double prefill = d->prefill_tok_s > 0 ? d->prefill_tok_s : RATE_PREFILL_TOK_S;
	double decode = d->decode_tok_s > 0 ? d->decode_tok_s : RATE_DECODE_TOK_S;
	double first = j->spec.prefill_ms > 0 ? j->spec.prefill_ms / 1000
					      : (double)j->spec.prompt_tokens / prefill;
	return first + (double)j->spec.output_tokens / decode;
}

int job_retry_after_s(const struct device *d)
{
	double s = 0;
	struct queue_entry *e;
	TAILQ_FOREACH(e, &d->queue.all, in_all)
		s += job_s(d, job_of_place(e));
	s /= device_slots(d);
	return s >= JOB_RETRY_MAX_S - 1 ? JOB_RETRY_MAX_S : (int)s + 1;
}

double jobs_wait_ms(const struct device *d)
{
	double slots = device_slots(d), s = 0;
	const struct queue_entry *e;
	const struct job *j;
	if (d->inflight < (unsigned)slots && queue_waiting(&d->queue) == 0)
		return 0;
	TAILQ_FOREACH(e, &d->queue.all, in_all)
		s += job_s(d, job_of_place((struct queue_entry *)e));
	TAILQ_FOREACH(j, &d->running, link) {
		if (!j->spec.takes_slot || j->spec.yields)
			continue;
		double left = job_s(d, j) - (double)(now_ms() - j->started_ms) / 1000;
		s += left > 0 ? left : 0;
	}
	return s * 1000 / slots;
}

/* --- the status --- */

unsigned jobs_waiting(const struct device *d)
{
	unsigned n = queue_waiting(&d->queue);
	const struct job *j;
	TAILQ_FOREACH(j, &d->passing, link)
		n++;
	return n;
}

uint64_t jobs_oldest_ms(const struct device *d)
{
	uint64_t oldest = now_ms();
	struct queue_entry *e = TAILQ_FIRST(&d->queue.all);
	const struct job *pass = TAILQ_FIRST(&d->passing);
	if (e && job_of_place(e)->submitted_ms < oldest)
		oldest = job_of_place(e)->submitted_ms;
	if (pass && pass->submitted_ms < oldest)
		oldest = pass->submitted_ms;
	return now_ms() - oldest;
}
