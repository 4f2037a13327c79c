/*
 * Between ask.c (a call's life), ask_send.c (what is sent), ask_answer.c (what comes back), ask_fail.c (what
 * is said when it fails) and ask_load.c (models that calls load). Nobody else includes this.
 */
#ifndef TANDEM_WORKERS_ASK_PRIVATE_H
#define TANDEM_WORKERS_ASK_PRIVATE_H

#include "workers/tasks/ask.h"

/* The body that goes to the backend. */
static inline struct slice ask_body(const struct ask *a)
{
	return a->request.n ? buf_slice(&a->request) : buf_slice(&a->task.body);
}

/* ask_answer.c: of the answer's parser; of its transfer, whose context is the ask. */
answer_event_fn ask_on_event;
extern const struct http_events ask_events;

/* ask_fail.c */

/* Sees each event of the answer. True: it is an error in band, or an end without the call that must be
 * there. It is kept, and what becomes of it is decided when these bytes are parsed. */
bool ask_is_error(struct ask *a, const struct answer_event *e);
/* All end the task. */
void ask_fail_refused(struct ask *a);
void ask_fail_in_band(struct ask *a);
void ask_fail_parse(struct ask *a, int rc);

#endif
