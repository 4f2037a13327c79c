/*
 * A request that is passed on as it is: what its task (task_pass.c) shares with those that find out
 * only when they read a body that there is nothing to translate (task_embed.c).
 *
 * Private to workers/tasks/.
 */
#ifndef TANDEM_WORKERS_PASS_TASK_H
#define TANDEM_WORKERS_PASS_TASK_H

#include "common/dialect/naming.h"
#include "workers/tasks/task.h"

/* Begins the task of each of them. */
struct pass_task {
	struct task task;
	bool held;
	bool changes_models; /* the list is fetched again before END, so that the client's next look
				is right */
	int status;
	struct backend_waiter waiter;
	struct naming naming; /* of an answer that has the name the client asked for put in */
	struct buf out;	      /* ... a piece of it */
};

/* Sends the request, its body as it is held or (upload) as it comes; the answer goes back untouched.
 * t begins a pass_task. */
void pass_send(struct task *t, bool upload);

/* task_ops.fini, or a part of it. */
void pass_fini(struct task *t);

#endif
