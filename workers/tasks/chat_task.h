/*
 * Between task_chat.c (the answer), chat_prepare.c (what is asked), chat_render.c (how an answer is
 * gone on with) and chat_reply.c (the answer as its client will send it back). Nobody else includes
 * this.
 */
#ifndef TANDEM_WORKERS_CHAT_TASK_H
#define TANDEM_WORKERS_CHAT_TASK_H

#include "common/dialect/naming.h"
#include "common/dialect/resume.h"
#include "workers/tasks/ask.h"

#define CHAT_INLINE_BYTES 262144   /* a larger body is parsed on a thread: 1 MB takes about 2 ms */
#define CHAT_OUT_KEEP_BYTES 262144 /* translation buffer kept between pieces */
#define CHAT_SAID_BYTES 1048576	   /* of one event: no stream with more in one is gone on with */

struct chat_task {
	struct ask ask;
	/* Of the worker and its backend, for prepare(): a thread may still be at it, or not yet
	 * have begun, when they are gone. */
	enum backend_api api;
	bool strict, continues; /* TRAIT_STRICT_JSON, TRAIT_CONTINUES */
	size_t body_bytes, line_bytes;
	struct chat_request request; /* only while preparing */
	struct dialect_error error;
	int rc;
	bool stream, unload;
	bool spent;	     /* resumed with nothing left of the request's limit: only the counts
		   are wanted */
	struct buf identity; /* of the stream */
	/* Of a resumed chat: the text that it goes on behind (in the task's body), and what its
	 * backend makes a prompt of. */
	struct slice said;
	bool rendering, echoes; /* its prompt must be asked for; its answer may begin with said */
	bool plain;		/* its answer can hold text alone: no tools, no images in it */
	int render_status;
	struct buf render, rendered;
	struct answer_writer *writer; /* NULL: raw */
	struct naming naming;	      /* ... where the client asked for another name */
	struct buf out; /* translated bytes of one piece; a raw answer that is no stream, until it
			   is whole */
	int writer_rc;
	/* Of spec.reply_bytes: writes the answer as one object. NULL: not wanted, or it is too long. */
	struct answer_writer *reply_writer;
	struct buf reply_object, reply;
	uv_work_t work;
};

/* Parses the request and builds the call: c->rc and c->error say how that went. Touches the task's
 * own memory alone, which the loop leaves alone while task.busy: any thread. */
void chat_prepare(struct chat_task *c);
/* Asks the backend what its template makes of the chat, then goes on with it. May end the task. */
void chat_render(struct chat_task *c);

/* A message that cannot be made (it is too long, the answer breaks off, memory is out) is none, and
 * that is no failure. begin: model and id as the client's own writer has them. */
void chat_reply_begin(
	struct chat_task *c, const struct chat_request *r, struct slice model, const char *id);
void chat_reply_event(struct chat_task *c, const struct answer_event *e);
/* The answer is whole: its message, or nothing. The task's own. */
struct slice chat_reply_end(struct chat_task *c);
void chat_reply_fini(struct chat_task *c);

#endif
