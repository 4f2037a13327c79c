/*
 * Back dialects: the APIs that backends speak, one row each.
 *
 * Private to common/dialect/, whose other modules find a row by its number (enum backend_api) and
 * never ask which one it is. A backend API is one file that fills in a row, and its line in the
 * table of backend.c. Rows are constants; nothing blocks.
 */
#ifndef TANDEM_DIALECT_BACK_H
#define TANDEM_DIALECT_BACK_H

#include "common/dialect/backend.h"
#include "common/dialect/order.h"

/* One order on its way to a backend. */
struct back_work {
	const struct chat_order *o;
	int64_t num_ctx; /* of the device; 0: none of our own */
	struct backend_call *call;
	struct buf *out;
	struct buf scratch;
	struct dialect_error *error;
	const struct openai_manner *manner; /* back_openai.h */
};

struct back_dialect {
	const char *name;
	enum dialect_api api; /* a client that speaks it has its bytes passed on */
	unsigned
		lacks; /* of that API (enum order_need): such requests are translated all the same */
	bool loads;    /* requests load and unload models, by their model and options */

	/* Appends what a client's own request needs beside it, or nothing. NULL: nothing ever. */
	int (*tune)(const struct chat_request *r, int64_t num_ctx, struct buf *out);
	bool asks_usage; /* what tune() adds is the wish for the counts of a stream */
	/* Appends one JSON object to w->out and sets call->path and format. 0, -ENOMEM, -E2BIG, or
	 * -EINVAL by back_refuse() for what this backend has no way to do. */
	int (*build)(struct back_work *w);
	/* What stands behind the messages of a condensing job (backend_notes_build()). */
	void (*notes)(int64_t max_tokens, int64_t num_ctx, struct buf *out);
	/* backend_warm_build(); root: the body's object. */
	void (*warm)(struct json_value root, struct buf *out);

	struct { /* of a chat */
		const char *path;
		enum answer_format format;
	} chat;
	struct { /* of a prompt for no template, streamed (resume_prompt_call()) */
		const char *path, *members;
		enum answer_format format;
	} prompt;
	struct { /* what the template makes of a chat (resume_render_body()) */
		const char *path;
		const char *members;   /* put at the end of the chat; "" */
		const char *answer[2]; /* where the prompt stands in the answer */
	} render;
};

/* The row. Never NULL. */
const struct back_dialect *back_of(enum backend_api api);

extern const struct back_dialect back_ollama, back_llama, back_openai;

/* Fills the error with status 400 and returns -EINVAL. */
int back_refuse(struct back_work *w, const char *text);

/* A sampler's name at a backend; the order of a table is the order of the members. */
struct back_sampler {
	enum order_sampler sampler;
	const char *name;
};

/* Appends those that are numbers; the digits stay as sent. */
void back_put_samplers(struct back_work *w, const struct back_sampler *names, size_t n);

/* Appends the members of an object but those of these names (NULL at the end). The object stays
 * open. */
void back_put_others(struct buf *out, struct json_value object, const char *const *names);
/* The same into an object that is open. */
void back_put_members(struct buf *out, struct json_value object, const char *const *names);

/* The member "messages": all of the order's, each as `put` writes it. 0, or what `put` returned. */
int back_put_messages(struct back_work *w, int (*put)(struct back_work *w, size_t message));

#endif
