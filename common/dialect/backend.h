/*
 * From a client's request to what a backend is asked: path, body, and the format its answer will
 * have. A request whose dialect the backend speaks is passed as its own bytes (raw). Pure; any
 * thread.
 */
#ifndef TANDEM_DIALECT_BACKEND_H
#define TANDEM_DIALECT_BACKEND_H

#include "common/dialect/answer.h"
#include "common/dialect/request.h"

/* Rows of the table of back dialects (back.h). */
enum backend_api { BACKEND_OLLAMA, BACKEND_LLAMA_SERVER, BACKEND_OPENAI, BACKEND_APIS };

struct backend_call {
	/*
	 * Static: "/api/chat", "/v1/chat/completions", ... NULL: nothing to ask (a load or unload
	 * request, and llama-server has its model always): feed ANSWER_END with FINISH_LOAD, or
	 * FINISH_UNLOAD where r->is_unload, to the client's writer.
	 */
	const char *path;
	enum answer_format format; /* what comes back */
	bool raw;    /* the answer goes back untouched; so do the client's bytes go there, unless a
			body was written */
	bool stream; /* the backend streams */
	bool hides_usage; /* of a raw stream: the client has not asked for the chunk with the counts
			     (usage.h) */
	bool loads;	  /* the body's model and options decide what the backend loads */
	bool must_call;	  /* an answer that calls no tool is not what was asked for: the backend has
			     no word for it, so that it is for who reads the answer to say */
};

/*
 * Decides how `r` is asked of that backend and writes the body: translated, or with call->raw the
 * client's own as far as something must be added to it (tune.h; nothing is written where not).
 * num_ctx: the window of an Ollama device, 0 none of our own.
 * The request becomes an order (order.h) and that a call: what has the same shape on both sides is
 * copied as raw slices; thinking, tool arguments (object <-> string), images, format, options and
 * limits are translated (docs/protocols.md#between-the-dialects). Streams ask for usage. 0; -EINVAL with *error (HTTP
 * 400) for what the backend has no way to do; -ENOMEM; -E2BIG.
 */
int backend_call_build(enum backend_api api, const struct chat_request *r, int64_t num_ctx,
	struct backend_call *call, struct buf *body, struct dialect_error *error);

/*
 * A condensing job: instruction + data as a chat of two messages; temperature 0, seed 0, thinking
 * off, hard limit of output tokens, not streamed. num_ctx as above.
 */
int backend_notes_build(enum backend_api api, struct slice model, struct slice instruction,
	struct slice data, int64_t max_tokens, int64_t num_ctx, struct backend_call *call,
	struct buf *body);

/*
 * The body of such a call, made into one that only fills the backend's prefix cache: not streamed,
 * no token (llama-server) or one (Ollama, which takes no limit of 0), everything that decides about
 * the prompt as it was (b10434 writes one token for a limit of 0, too). body: a valid JSON object.
 * 0, -ENOMEM, -E2BIG.
 */
int backend_warm_build(enum backend_api api, struct slice body, struct buf *out);

#endif
