/*
 * Between task.c (what the kinds call), task_end.c (ends) and task_table.c (the supervisor's records,
 * memory). Nobody else includes this.
 */
#ifndef TANDEM_WORKERS_TASK_PRIVATE_H
#define TANDEM_WORKERS_TASK_PRIVATE_H

#include "workers/tasks/task.h"

#define TASK_BUCKETS 256 /* ids count up: neighbours never collide */

struct task_table {
	task_ops_fn *ops_of;
	struct task *buckets[TASK_BUCKETS];
	struct task *lingering; /* ended for the supervisor, not yet freed */
	uv_idle_t reaper;	/* active when some of them are dead */
	bool closed;		/* curl is gone as well: nothing needs to wait for a next turn */
};

static inline double task_ms_since(uint64_t ns)
{
	return ns ? (double)(uv_hrtime() - ns) / 1e6 : 0;
}

/* task.c: the supervisor takes so many answer bytes more. */
void task_credit(struct task *t, uint64_t bytes);

/* task_end.c: END now. FAIL for a job that may be no task. */
void task_send_end(struct task *t);
void task_put_fail(struct worker_self *w, uint64_t id, struct slice request_id,
	const struct task_failure *f, double ms);

/* Where its pointer stands, in the table or, NULL there, at its place. */
struct task **task_find(struct task_table *table, uint64_t id);
/* The stream that the backend keeps for it is of no use any more, or will not be in so many ms. */
void task_end_kept(struct task *t, uint64_t in_ms);
/* Out of the table, so that no record finds it. keep: it lives on, since something still needs it. */
void task_detach(struct task *t, bool keep);
void task_free(struct task *t);
/* Frees those that are dead. */
void task_reap(struct task_table *table);

#endif
