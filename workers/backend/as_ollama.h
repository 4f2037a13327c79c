/*
 * The Ollama API's questions about models, answered for a backend that does not know them, from what
 * its list (and a llama-server's /props) says. Shapes: docs/protocols.md#lists-and-details. What it
 * does not tell (a digest, a date) is derived so that it stays the same between askings. Pure.
 */
#ifndef TANDEM_WORKERS_AS_OLLAMA_H
#define TANDEM_WORKERS_AS_OLLAMA_H

#include "common/base/json.h"
#include "workers/backend/backend.h"

#define AS_OLLAMA_VERSION "0.33.0" /* the Ollama whose API these answers follow */

/* Fills m from an element of /v1/models' data; window: its tokens, 0 unknown. 0, -EINVAL (no id),
 * -ENOMEM. */
int as_ollama_model(const struct backend_view *v, struct json_value model, int64_t window,
	struct backend_model *m);

bool as_ollama_owns(struct slice path, bool *body);
int as_ollama_answer(const struct settings *s, const struct backend_view *v, struct slice method,
	struct slice path, struct slice body, struct backend_answer *out);

#endif
