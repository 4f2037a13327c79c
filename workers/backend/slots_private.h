/*
 * Between slots_known.c (what is known, and who is told), slots_plan.c (which slots), slots_step.c (one of them saved or
 * restored), slots_run.c (one operation after the other), slots_idle.c (when, and whether it was of use) and slots.c
 * (life, and what others ask for). Each calls those before it; slots_run.c tells slots_idle.c of an operation's end, too.
 * Nobody else includes this.
 */
#ifndef TANDEM_WORKERS_SLOTS_PRIVATE_H
#define TANDEM_WORKERS_SLOTS_PRIVATE_H

#include "workers/backend/kept.h"
#include "workers/backend/slots.h"
#include "workers/http/http.h"

#define SLOTS_UNUSED "the server does not use what it restores"
#define SLOTS_ANSWER_BYTES 1048576 /* GET /slots tells each slot's parameters: about 2 KB each */

enum slots_op {
	OP_NONE,
	OP_SAVE_ALL,	  /* before a planned end */
	OP_SAVE_IDLE,	  /* what is worth it */
	OP_RESTORE_START, /* into the slots of a fresh backend */
	OP_RESTORE_ONE,	  /* for the first waiter */
};

/* A conversation that a slot holds, or held. */
struct slots_chat {
	uint64_t id;
	int64_t tokens; /* -1: its request ended early */
	bool unsaved;
};

struct slots_step {
	unsigned slot;
	uint64_t id;
};

struct slots {
	struct worker_self *worker;
	bool own_dir;
	bool off;   /* for what is not the bridge over a planned end */
	bool fresh; /* the backend began with us */
	struct kept kept;
	bool listed;			      /* kept was read */
	uint64_t model, path;		      /* of the model, as in struct kept_file; 0: unknown */
	unsigned count;			      /* of slots */
	struct slots_chat chats[SLOTS_CHATS]; /* the newest first */
	size_t chat_count;
	double bytes_per_token, bytes_per_ms; /* of the last save; 0: unknown */
	uint64_t hour_ms;		      /* loop time at which it began; and written in it: */
	int64_t hour_bytes;
	uv_timer_t idle;
	bool patient; /* the timer is the long one */

	/* the operation under way */
	enum slots_op op;
	uint64_t begun_ms, deadline_ms; /* loop time */
	uint64_t step_ms;
	struct slots_seen seen[SLOTS_MAX];
	unsigned seen_count; /* 0: unknown */
	struct slots_step steps[SLOTS_MAX];
	unsigned step_count, at, good;
	int64_t tokens, bytes;
	bool looking, beginning, over;
	struct http_transfer *transfer;
	struct buf request, answer;
	char target[48];
	int status;
	slots_done_fn *done;
	void *ctx;
	struct slots_waiter *waiters;
};

static inline bool slots_saves(const struct slots *s)
{
	return s->op == OP_SAVE_ALL || s->op == OP_SAVE_IDLE;
}

/* The one that is under way. */
static inline struct slots_step *slots_step(struct slots *s)
{
	return &s->steps[s->at];
}

/* Files stay, for the next time. */
static inline bool slots_keeps(const struct slots *s)
{
	return s->worker->settings.kv_bytes > 0;
}

/* slots_known.c */
void slots_tell(struct slots *s, enum proto_kept what, const struct kept_file *f, double ms);
void slots_write_index(struct slots *s);
void slots_gone(void *ctx, const struct kept_file *f); /* kept_gone_fn */
void slots_note(struct slots *s, uint64_t id, int64_t tokens, bool unsaved);
/* Saved a moment ago: what it teaches. */
void slots_measure(struct slots *s, const struct kept_file *f, double ms);
void slots_switch_off(struct slots *s, const char *why);

/* slots_plan.c: fills steps from seen, chats and kept. */
void slots_plan(struct slots *s);

/* slots_step.c */
/* The server's whole answer to the step is there. */
void slots_learn(struct slots *s);
/* No time left, or the server is gone: the others fare no better. */
void slots_spoiled(struct slots *s, enum http_result result);
/* What was written of the step's slot is no use. */
void slots_remove_new(const struct slots *s);

/* slots_run.c */
/* False: there was nothing to do, and done is not called. */
bool slots_begin(struct slots *s, enum slots_op op, slots_done_fn *done, void *ctx);
/* The operation is over, or given up. */
void slots_let_go(struct slots *s);
/* Nothing is under way: restores for those that wait. */
void slots_start_waiting(struct slots *s);

/* slots_idle.c */
/* An operation has ended. */
void slots_idle_next(struct slots *s);
void slots_on_idle(uv_timer_t *timer);

#endif
