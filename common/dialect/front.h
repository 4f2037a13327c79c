/*
 * Front dialects: the APIs that clients speak, one row each.
 *
 * Private to common/dialect/, whose other modules find a row by its number (enum dialect, which
 * travels between the processes) and never ask which one it is. A client API is one file that
 * fills in a row, and its line in the table of dialect.c. Rows are constants; nothing blocks.
 */
#ifndef TANDEM_DIALECT_FRONT_H
#define TANDEM_DIALECT_FRONT_H

#include "common/dialect/order.h"
#include "common/dialect/resume.h"

struct request_reader;
struct writer_ops;
struct compaction_form;

/* How its requests are gone on with (resume.h), by changing the client's own body. */
struct front_resume {
	/* NULL: nothing of its API alone stands against it; else static words that say what does. */
	const char *(*refused)(const struct chat_request *r);
	const char *limits_in; /* the member that holds the limits; NULL: the body itself */
	const char *limits[4]; /* members that limit the answer's tokens, NULL at the end */
	/* The switch for thinking where the backend speaks the client's API, and the member that it
	 * stands in. NULL: "think" of the body, which every front reads. */
	const char *thinking_in, *thinking;
	/* The front that goes on with it, as a chat of the same members: messages that are strings
	 * have no place for an answer's beginning. NULL: itself. */
	const struct front_dialect *(*becomes)(const struct chat_request *r);
};

struct front_dialect {
	const char *name;     /* "ollama chat" */
	enum dialect number;  /* its own */
	enum dialect errors;  /* that answers other methods on its path */
	enum dialect_api api; /* a backend that speaks it gets the client's bytes */
	bool any_case;	      /* its own server takes the names of members in any case */
	bool sse;	      /* streams are server-sent events; else lines of JSON */
	/* The first of its clients' packages gives up waiting for headers: JavaScript over Node's
	 * fetch (ollama, openai, ai) and Bun after 300 s, openai and litellm for Python 600 s, ollama
	 * for Python and Go any time. */
	int64_t patience_ms;
	const char *heartbeat; /* of its streams; NULL: a comment */
	int overloaded;	       /* its status for 503; 0: that one */
	/* The header that names a request, whose errors then name it as well; NULL: none. */
	const char *request_id;

	/* --- requests; NULL: the row is there for the shape of errors alone --- */
	const char *path;	   /* of a backend that speaks it */
	enum answer_format answer; /* that comes from there */
	bool streams;		   /* unless the request says otherwise */
	bool names_models;	   /* its clients expect an error where the model is not there */
	bool counts;		   /* what is asked for is the number of tokens, not an answer */
	const char *counted;	   /* members of such an answer before the number; NULL: none */
	bool counts_itself;	   /* no backend is asked for the number */
	/* It has blocks that stand for a conversation (compaction.h); NULL: none. And a request is a
	 * wish for one, whatever else it says. */
	const struct compaction_form *compacts;
	bool compacts_only;
	/* Changes the body, an object whose value is root, before it is read: takes out what no model
	 * sees and clients change from turn to turn, makes messages of what has another form. NULL:
	 * nothing. 0, -EINVAL with *e filled, -ENOMEM. */
	int (*mend)(struct buf *body, struct json_value root, struct dialect_error *e);
	/* Fills in the view, whose body, root, model and stream are there. */
	int (*read)(struct request_reader *in);
	/* chat_request_rewrite_tools(): front_rewrite_messages() or front_rewrite_texts(). */
	int (*rewrite)(const struct chat_request *r, const struct chat_edit *edits,
		struct slice tools, int64_t set_num_ctx, struct buf *out);
	/* The whole order; everything borrows r. */
	int (*order)(const struct chat_request *r, struct chat_order *o, struct dialect_error *e);
	/* What r asks for that not every backend has which speaks this API (enum order_need). NULL:
	 * nothing ever. */
	unsigned (*needs)(const struct chat_request *r);
	struct front_resume resume;

	/* --- answers --- */
	const struct writer_ops *writer;

	/* --- errors --- */
	/* Appends the body of an error with this status. */
	void (*error)(int status, struct slice message, struct buf *out);
	/* The same of a prompt that cannot fit, counts that are not known being 0; NULL: as error(). */
	void (*overflow)(struct slice message, uint64_t prompt, uint64_t window, struct buf *out);
	const char *
		error_event; /* what stands before "data:" of an error in a stream; NULL: nothing */
	/* Appends the events that end a stream with an error, whose body is there. NULL: the error as
	 * one event. */
	void (*fail)(const struct dialect_stream *at, struct slice error, struct buf *out);
	/* Its clients look for an overflow in the stream that they asked for, not in a status. */
	bool streams_overflow;
};

/* The row; for a number of no dialect one that shapes errors. Never NULL. */
const struct front_dialect *front_of(enum dialect d);

extern const struct front_dialect front_ollama_chat, front_ollama_generate, front_ollama_other;
extern const struct front_dialect front_openai_chat, front_openai_text, front_openai_other;
extern const struct front_dialect front_anthropic, front_anthropic_count, front_anthropic_other;
extern const struct front_dialect front_responses, front_responses_count, front_responses_compact;

/* Bodies whose messages are the elements of an array, tools beside it; and bodies where they are
 * strings (rewrite.c). set_num_ctx: 0 where the API has no such member. */
int front_rewrite_messages(const struct chat_request *r, const struct chat_edit *edits,
	struct slice tools, int64_t set_num_ctx, struct buf *out);
int front_rewrite_texts(const struct chat_request *r, const struct chat_edit *edits,
	struct slice tools, int64_t set_num_ctx, struct buf *out);

/* llama-server's name for an error of this status (docs/protocols.md#errors-of-llama-server). */
const char *front_error_type(int status);

#endif
