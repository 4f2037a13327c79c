/*
 * Asking the backend for text: what chat and notes tasks share.
 *
 * One call to the backend, its answer through the dialect's parser, its refusals and failures as
 * FAIL records. The kind of task sees events, bytes and completion.
 *
 * Also here: a cancelled call that is loading a model in Ollama goes on unheard until the model is
 * there, because Ollama aborts a load with the request that caused it
 * (docs/protocols.md#loading-and-cancelling). /api/ps lists a model from the beginning of its load
 * on, so it cannot tell; a load request for the same model and options can: Ollama answers it when
 * the model is there. It is not needed when the model has just answered with those options.
 */
#ifndef TANDEM_WORKERS_ASK_H
#define TANDEM_WORKERS_ASK_H

#include "common/dialect/backend.h"
#include "workers/tasks/refusal.h"
#include "workers/tasks/task.h"

/* Of an error body that is kept. */
#define ASK_REFUSAL_BYTES PROTO_PIECE_BYTES
/* A body whose last object has come ends by itself, and its connection is kept, or is cut then. */
#define ASK_LAST_MS 1000
/* Of a Content-Type that a client may get; a longer one is replaced by the dialect's. */
#define ASK_TYPE_BYTES 1024
/* So long after its last answer a model is taken to be loaded still. */
#define ASK_WARM_MS 60000
/* A load that takes longer is given up. */
#define ASK_LINGER_MS 600000

struct ask;

struct ask_ops {
	/* From inside the parser, which may run on a thread for what is large: must touch the
	 * task's own memory alone, and not end the task. */
	void (*event)(struct ask *a, const struct answer_event *e);
	/*
	 * These bytes have been parsed, their events are out; of a raw stream they are whole lines
	 * or events. May end the task.
	 */
	void (*bytes)(struct ask *a, struct slice bytes);
	/* The answer is whole. Ends the task. */
	void (*complete)(struct ask *a);
	/* Their events are out, but the client has what they have become: it is dropped. NULL: no job
	 * of the kind reads a stream again. */
	void (*known)(struct ask *a);
};

struct ask {
	struct task task;
	const struct ask_ops *ops;
	enum dialect dialect;	  /* of error bodies */
	struct backend_call call; /* set before ask_send() */
	struct buf request;	  /* the body to send; empty: task.body */

	struct answer_parser *parser;
	struct buf partial;  /* raw stream: the bytes of a line or event that is not whole yet */
	size_t partial_used; /* ... of which so many at the front have gone */
	int status;
	bool encoded; /* by a Content-Encoding that nobody asked for */
	struct buf refusal;
	struct answer_usage usage;
	enum answer_finish finish;
	bool called;	     /* a tool */
	int error_status;    /* the error in band; 0: none */
	struct refusal told; /* ... and its words */

	struct json_value model, options,
		shift;		    /* of an Ollama body: what decides about a reload */
	uint64_t load_key;	    /* a hash of them; 0: none, or it unloads after */
	struct http_transfer *load; /* the load request of a cancelled call */

	uv_work_t work;	    /* reads a large answer or event: task.busy */
	struct slice aside; /* ... the event's bytes that the parser gets there */
	struct buf piece;   /* ... where they lie when nobody else keeps them */
	bool over;	    /* the transfer is, with this result and Content-Type */
	enum http_result result;
	struct buf type;
};

void ask_init(struct ask *a, const struct ask_ops *ops, enum dialect d);
void ask_fini(struct ask *a);

/* Looks at the body that will be sent, once a->call is set. Any thread. */
void ask_prepare(struct ask *a);
/* Sends a->call. The task may have failed on return. */
void ask_send(struct ask *a);

/* The same once the conversation that the job goes on with is in a slot again, where it asks for
 * that. */
void ask_restored(struct ask *a);

/* task_ops.linger */
bool ask_linger(struct task *t);

struct proto_usage ask_usage(const struct ask *a);
const char *ask_finish_name(enum answer_finish f);

#endif
