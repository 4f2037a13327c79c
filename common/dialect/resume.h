/*
 * Going on with a streamed answer whose worker or backend died: the text that the client has is put
 * behind the request as the beginning of the assistant's turn, and the backend continues it
 * (docs/protocols.md#continuing-an-answer).
 *
 * Only text can be gone on with. Thinking, tool calls and anything that a grammar holds in shape
 * cannot: a model that is given the half of them begins anew, or is refused. Pure; any thread.
 */
#ifndef TANDEM_DIALECT_RESUME_H
#define TANDEM_DIALECT_RESUME_H

#include "common/dialect/backend.h"

/* Of a stream's identity; a longer one is none. */
#define RESUME_IDENTITY_BYTES 4096

/* NULL when an answer to r can be gone on with from its text alone; else static words that say why
 * not. */
const char *resume_refused(const struct chat_request *r);

/*
 * Appends a request like r whose answer goes on behind `text`, `tokens` tokens of it already used
 * up of the request's limit; every member that this does not concern stays as sent. No text: r as
 * it is. *dialect: of what was written, since a prompt becomes a chat unless it is bare.
 * *spent: the limit is used up; one token is asked for all the same, for the counts, and must not
 * be shown. 0; -EINVAL where resume_refused(); -ENOMEM; -E2BIG.
 */
int resume_request(const struct chat_request *r, enum backend_api api, struct slice text,
	int64_t tokens, enum dialect *dialect, bool *spent, struct buf *out);

/*
 * How a chat is gone on with depends on the model's template: asked for the rendered prompt
 * (resume_render_body() to resume_render_path(), whose answer resume_rendered() reads), the backend
 * shows whether it leaves the last turn open. Appends to prompt what stands before `said`, and said
 * itself; *open: nothing follows it, so the chat itself goes on. 0; -EPROTO: the answer holds no
 * such prompt (an older backend); -ENOMEM; -E2BIG.
 */
const char *resume_render_path(enum backend_api api);
int resume_render_body(enum backend_api api, struct slice chat, struct buf *out);
int resume_rendered(enum backend_api api, struct slice answer, struct slice said,
	struct buf *prompt, bool *open);

/* The same request as a plain prompt: no template, so nothing can begin anew; nor are tool calls
 * seen in its answer. 0, -EINVAL (chat is no object), -ENOMEM, -E2BIG. */
int resume_prompt_call(enum backend_api api, struct slice chat, struct slice prompt,
	struct backend_call *call, struct buf *out);

/*
 * Bytes at the beginning of a continued chat's first text that the client has already: llama-server
 * (b10434) begins with all of the text that it was given, in one event with the first new token.
 * tokens: of said. 0: none.
 */
size_t resume_echo(struct slice said, int64_t tokens, struct slice first);

/*
 * Appends what all objects of an OpenAI stream have in common (id, object, created, model,
 * system_fingerprint), as JSON members, from the stream's first events. Nothing when they do not
 * say it. 0 or the buf's error.
 */
int resume_identity(struct slice events, struct buf *out);

/* The counts of the whole answer, from those of its last part: the backend counted the text before
 * it as prompt. */
struct answer_usage resume_usage(struct answer_usage last, int64_t tokens, bool spent);

#endif
