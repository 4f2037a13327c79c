/*
 * What the dialects share: their route functions, time stamps and pieces of JSON.
 */
#ifndef FAKE_DIALECT_H
#define FAKE_DIALECT_H

#include "tests/fake/api.h"
#include "tests/fake/ask.h"

#define MODEL_BYTES 1321098329ll
#define MODEL_DIGEST "baf6a787fdffd633537aa2eb51cfd54cb93ff08e28040095462bb63daf552878"
#define EMBED_DIMS 8

/* ollama.c */

/* The name a body gives as "model" or, legacy, "name", into a buf it initialises; false: replied
 * 400. */
bool ollama_body_model(struct request *r, struct buf *name);
void ollama_not_found(struct request *r, struct slice name);

/* ollama_store.c */
void ollama_copy(struct request *r);
void ollama_delete(struct request *r);
void ollama_pull(struct request *r);
void ollama_push(struct request *r);
void ollama_create(struct request *r);
void ollama_head_blob(struct request *r);
void ollama_post_blob(struct request *r);

/* embed.c */
void ollama_embed(struct request *r);
void ollama_embeddings(struct request *r);
void openai_embeddings(struct request *r);

/* ollama_gen.c */
void ollama_chat(struct request *r);
void ollama_generate(struct request *r);

/*
 * A gen for the model the body names, with options, prompt limits and load-time settings read;
 * NULL: an error was replied. The prompt is still empty.
 */
struct gen *ollama_gen_create(struct request *r, const struct gen_ops *ops);

/* Cuts the prompt to the window as Ollama does, then submits; replies 400 where Ollama would. */
void ollama_submit(struct gen *g);

/* openai.c, openai_models.c: the /v1 routes of both backends. */
void openai_chat(struct request *r);
void openai_completions(struct request *r);
void openai_models(struct request *r);
void openai_model(struct request *r);

/* llama.c */
void llama_infill(struct request *r);
void llama_completion(struct request *r);
void llama_input_tokens(struct request *r);

/* A gen with llama-server's fields read. */
struct gen *llama_gen_create(struct request *r, const struct gen_ops *ops);

/* Submits, or replies exceed_context_size_error. */
void llama_submit(struct gen *g);

/* compat.c: the same as vLLM has it. */
struct gen *compat_gen_create(struct request *r, const struct gen_ops *ops);
void compat_submit(struct gen *g);

/* "timings":{...} of a finished gen, with the comma before it. */
void llama_put_timings(struct buf *out, const struct gen *g);

/* Now as RFC 3339 with nanoseconds, UTC, in quotes. */
void put_now(struct buf *out);

/* "name":n, left out when zero (Go's omitempty). */
void put_count(struct buf *out, const char *name, uint64_t n);

#endif
