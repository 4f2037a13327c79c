/*
 * Between the files of job.h, from the lowest to the highest: job_wait.c (who is refused, how long it takes),
 * job_end.c (ends), job_run.c (starts, bytes), job.c (from submission, by the worker's word).
 */
#ifndef TANDEM_JOB_PRIVATE_H
#define TANDEM_JOB_PRIVATE_H

#include "supervisor/devices/devices.h"
#include "supervisor/devices/job.h"

/* Ids are given in order: running jobs rarely share a bucket. */
static inline struct job_bucket *job_bucket(struct device *d, uint64_t id)
{
	return &d->by_id[id % JOB_BUCKETS];
}

/* It has to wait for a slot, in the queue. */
static inline bool job_queues(const struct job *j)
{
	return j->spec.takes_slot && !j->spec.holds_slot;
}

/* --- job_wait.c --- */

/* May it be submitted now? As job_submit(). */
int job_admit(const struct device *d, const struct job_spec *spec);

/* --- job_end.c --- */

/* What its jobs are told when this worker is gone. */
struct job_failure job_lost(const struct worker *w);
/* One more, or one less, of a client's that waits: limits.queue. */
void job_count_waiting(struct job *j, int by);
/* Takes the job out of its device; the memory stays until job_free(). */
void job_unlink(struct job *j);
void job_free(struct job *j);
/* Tells its owner, where it has one, and frees it. */
void job_fail(struct job *j, const struct job_failure *f);
void job_send_cancel(struct job *j);
void job_on_timeout(uv_timer_t *t);

/* --- job_run.c --- */

/* As much of a held body as credit and the link take. */
void job_send_body(struct job *j);

#endif
