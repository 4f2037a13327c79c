/*
 * The Ollama API's questions about models, answered for a llama-server from what its /props and
 * /v1/models say. Shapes: docs/protocols.md#lists-and-details. What a
 * llama-server does not tell (a digest, a date) is derived so that it stays the same between
 * askings. Pure.
 */
#ifndef TANDEM_WORKERS_LLAMA_OLLAMA_H
#define TANDEM_WORKERS_LLAMA_OLLAMA_H

#include "common/base/json.h"
#include "workers/backend/backend.h"

#define LLAMA_OLLAMA_VERSION "0.33.0" /* the Ollama whose API these answers follow */

/* Fills m from an element of /v1/models' data. 0, -EINVAL (no id), -ENOMEM. */
int llama_ollama_model(
	const struct backend_view *v, struct json_value model, struct backend_model *m);

bool llama_ollama_owns(struct slice path, bool *body);
bool llama_ollama_embeds(struct slice path);
int llama_ollama_answer(const struct settings *s, const struct backend_view *v, struct slice method,
	struct slice path, struct slice body, struct backend_answer *out);

#endif
