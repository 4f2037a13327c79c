/*
 * Inside of backend.c: the bodies that are written when the backend does not speak the client's
 * dialect.
 *
 * Private to common/dialect/. Both append one JSON object to out; 0, -ENOMEM, -E2BIG, or -EINVAL
 * with *error filled for what that backend has no way to do.
 */
#ifndef TANDEM_DIALECT_TRANSLATE_H
#define TANDEM_DIALECT_TRANSLATE_H

#include "common/dialect/backend.h"
#include "common/dialect/pieces.h"

struct translation {
	const struct chat_request *r;
	struct buf *out;
	struct buf scratch;
	struct dialect_error *error;
};

/* /v1/chat/completions -> /api/chat. */
int translate_to_ollama(struct translation *t, int64_t num_ctx);

/* /api/chat or /api/generate -> /v1/chat/completions; raw prompts -> /v1/completions; with a suffix
 * -> /infill. */
int translate_to_llama(struct translation *t, struct backend_call *call);

/* Fills the error with status 400 and returns -EINVAL. */
int translate_refuse(struct translation *t, const char *text);

struct rename {
	const char *from, *to;
};

#define MAX_RENAMES 24

/* Appends those members of the object that are numbers, under their other names; the digits stay as
 * sent. */
void translate_numbers(
	struct buf *out, struct json_value object, const struct rename *names, size_t n);

/* Messages searched backwards for the call that a tool result answers. */
#define CALL_LOOKBACK 256

#endif
