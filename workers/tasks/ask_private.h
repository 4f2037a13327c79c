/*
 * Between ask.c (a call and its answer), ask_fail.c (what is said when it fails) and ask_load.c
 * (models that calls load). Nobody else includes this.
 */
#ifndef TANDEM_WORKERS_ASK_PRIVATE_H
#define TANDEM_WORKERS_ASK_PRIVATE_H

#include "workers/tasks/ask.h"

/* The body that goes to the backend. */
static inline struct slice ask_body(const struct ask *a)
{
	return a->request.n ? buf_slice(&a->request) : buf_slice(&a->task.body);
}

/* ask_fail.c: all end the task. */
void ask_fail_refused(struct ask *a);
void ask_fail_in_band(struct ask *a);
void ask_fail_parse(struct ask *a, int rc);

#endif
