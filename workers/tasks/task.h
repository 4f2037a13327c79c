/*
 * Tasks: the jobs of the supervisor as this worker does them.
 *
 * A task opens with a JOB record and ends exactly once: task_end(), task_fail(), or a CANCEL;
 * whoever called must not touch it again
 * (its memory goes in the next turn). What a kind of job does differently stands behind
 * task_ops (task_chat.c, task_notes.c, task_pass.c); what they share is here: the body that comes
 * in under credit, the answer that goes out under credit, the transfer, the end.
 *
 * Flow control. In: a task says task_take() for body bytes it has disposed of, which becomes
 * CREDIT. Out: task_emit() sends what the supervisor's credit allows, keeps the rest (one curl
 * piece, or its translation) and pauses the transfer until credit comes.
 */
#ifndef TANDEM_WORKERS_TASK_H
#define TANDEM_WORKERS_TASK_H

#include "proto/proto.h"
#include "workers/backend/backend.h"
#include "workers/http/http.h"
#include "workers/worker.h"

#define TASK_CREDIT_BYTES (PROTO_WINDOW_BYTES / 4) /* CREDIT is given in steps of this */

struct task;

struct task_ops {
	size_t size; /* of the struct that begins with a struct task */
	/* Opened. May end the task. */
	void (*begin)(struct task *t);
	/* A piece of the body; last: the body is complete. May end the task. */
	void (*body)(struct task *t, struct slice bytes, bool last);
	/*
	 * The supervisor no longer wants it and has been told so. True: it goes on unheard for a
	 * while and then calls task_release().
	 */
	bool (*linger)(struct task *t);
	/* Frees what is its own; the transfer is cancelled already. */
	void (*fini)(struct task *t);
	/* The backend may have done it as soon as it was asked: it must not pass for never begun. */
	bool is_order;
};

struct task_end {
	struct proto_usage usage;
	const char *finish, *verdict; /* static words; NULL: none */
	unsigned notes_kept, notes_refused;
	struct slice reply; /* the task's own, until its end */
};

struct task_failure {
	enum proto_cause cause;
	int status; /* HTTP; 0: the usual one of the cause */
	struct slice message, body, content_type;
	int64_t prompt_tokens, window_tokens; /* FAIL_OVERFLOW; 0 unknown */
	int64_t retry_after_s;		      /* as the backend wishes; 0: it does not say */
};

enum task_life {
	TASK_OPEN,
	TASK_ENDING,   /* task_end() waits for pending */
	TASK_DETACHED, /* ended for the supervisor: says nothing any more */
	TASK_DEAD,     /* freed at the next turn: curl may still hold its body in this one */
};

struct task {
	struct task *next; /* in its bucket, or in the list of those that linger */
	struct worker_self *worker;
	const struct task_ops *ops;
	uint64_t id;
	enum task_life life;
	struct proto_job spec; /* its slices point into strings */
	char *strings;

	struct buf body; /* held body (task_hold()) */
	uint64_t taken;	 /* body bytes disposed of and not yet credited */
	bool body_ended;

	struct http_transfer *transfer; /* the one that answers; NULL before and after */
	uint64_t credit;		/* answer bytes that may still be sent */
	struct buf pending;		/* answer bytes that wait for credit, from pending_at on */
	size_t pending_at, said_at;	/* before them: sent */
	struct slice identity;		/* START's; the kind sets it before task_start() */
	/*
	 * What the bytes mean that are emitted next, or wait (proto_record.delta); the kind fills
	 * it before task_emit(), which empties it as they go. There is never more text than bytes.
	 */
	struct buf said;
	int64_t said_tokens;
	int64_t source; /* bytes of the backend's stream that these and all before them were made of */
	bool kept;	/* the backend keeps its stream (replay.h) */
	bool opaque;	/* stays */
	bool heard;	/* the backend has begun to answer */
	bool started; /* START is out */
	struct task_end end;

	uint64_t opened_ns, asked_ns, first_ns; /* 0: not yet */
	bool keep_transfer;	       /* it goes on after the end, until its body ends too */
	bool busy;		       /* a thread works on it: it cannot be freed yet */
	struct backend_waiter doubt;   /* is anybody there? */
	struct slots_waiter restoring; /* its conversation, before it is asked */
};

static inline bool task_is_detached(const struct task *t)
{
	return t->life >= TASK_DETACHED;
}

/* --- for the kinds --- */

/* Which of the kinds does a job; NULL: none. */
typedef const struct task_ops *task_ops_fn(
	const struct worker_self *w, const struct proto_job *job);
const struct task_ops *task_kind_ops(const struct worker_self *w, const struct proto_job *job);
extern const struct task_ops task_chat_ops, task_notes_ops, task_pass_ops, task_embed_ops,
	task_warm_ops;

/* Body bytes are disposed of: gives CREDIT, in steps. */
void task_take(struct task *t, size_t n);
/*
 * Appends to t->body and takes. False: over limits.body_bytes or out of memory, and the task has
 * failed.
 */
bool task_hold(struct task *t, struct slice bytes);

/* Starts t->transfer with e and the task as context. False: the task has failed. */
bool task_ask(struct task *t, const struct http_request *r, const struct http_events *e);
/* The first byte of the answer is there (for the log and the times). */
void task_first_byte(struct task *t);

/* START. Headers are borrowed until return. */
void task_start(struct task *t, int status, const struct proto_header *headers, size_t count,
	int64_t body_bytes);
/*
 * Answer bytes: sent now, or kept while credit lacks. False: out of memory, and the task has
 * failed.
 */
bool task_emit(struct task *t, struct slice bytes);
/* The same, and takes the bytes over instead of copying them; the buffer is empty afterwards. */
bool task_emit_buf(struct task *t, struct buf *b);
/* END, as soon as every byte is out. */
void task_end(struct task *t, const struct task_end *e);
void task_fail(struct task *t, const struct task_failure *f);
void task_fail_text(struct task *t, enum proto_cause cause, const char *message);
/* The transfer ended with something else than HTTP_OK. */
void task_fail_http(struct task *t, enum http_result result);
/* The backend refuses our key: no matter of the client, who has none. True: the task has failed. */
bool task_key_refused(struct task *t, int status);
/* Frees a task that lingered, or whose thread has returned after its end. Again does nothing. */
void task_release(struct task *t);

/* What of job.timeout_ms is left: > 0, or 0 for no limit. */
int64_t task_time_left(const struct task *t);

/* The client's headers that the backend should see. Returns how many; at most max. */
size_t task_request_headers(const struct task *t, struct proto_header *out, size_t max);

/* --- for the worker --- */

struct task_table *task_table_create(uv_loop_t *loop, task_ops_fn *ops_of);
/* Closes the table's handle; the tasks must have ended. */
void task_table_close(struct task_table *table);
/* After the loop has ended. NULL does nothing. */
void task_table_destroy(struct task_table *table);

/*
 * Records of the supervisor about one task. Unknown ids are those that have just ended: nothing
 * to do.
 */
void tasks_open(struct worker_self *w, const struct proto_record *r);
void tasks_body(struct worker_self *w, const struct proto_record *r);
void tasks_credit(struct worker_self *w, const struct proto_record *r);
/* The link has room again. */
void tasks_room(struct worker_self *w);
void tasks_cancel(struct worker_self *w, const struct proto_record *r);

/* The backend has fallen silent: tasks that wait for their first byte fail. */
void tasks_fail_silent(struct worker_self *w, const char *why);
/* Every task fails; those that linger are dropped. FAIL_DRAINING becomes FAIL_CUT for a passed
 * request that the backend has. last: streams that the backend keeps are to end; else they are the
 * supervisor's. */
void tasks_fail_all(struct worker_self *w, enum proto_cause cause, const char *why, bool last);

#endif
