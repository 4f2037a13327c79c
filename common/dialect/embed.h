/*
 * Ollama's two ways to ask for embeddings (/api/embed, and the older /api/embeddings for one text),
 * as llama-server's /v1/embeddings, and its answer back. Pure; any thread.
 */
#ifndef TANDEM_DIALECT_EMBED_H
#define TANDEM_DIALECT_EMBED_H

#include "common/dialect/dialect.h"

struct embed_request {
	bool legacy;	   /* /api/embeddings */
	bool nothing;	   /* there is no text: answered without the backend */
	struct buf model;  /* decoded name */
	struct slice name; /* the same as raw JSON, of the body */
};

/* Only these paths (without a query). */
bool embed_path(struct slice path, bool *legacy);

/*
 * Reads a body (legacy is set by the caller) and appends what llama-server is asked. 0; -EINVAL
 * with *error filled; -ENOMEM; -E2BIG. embed_request_fini() after any outcome. The body must
 * outlive r.
 */
int embed_request_read(
	struct embed_request *r, struct slice body, struct buf *out, struct dialect_error *error);
void embed_request_fini(struct embed_request *r);

/* Appends the client's answer to llama-server's (any bytes where r->nothing). total_ns: how long it
 * took. 0; -EPROTO when it is none; -ENOMEM; -E2BIG. */
int embed_answer_write(
	const struct embed_request *r, struct slice answer, uint64_t total_ns, struct buf *out);

#endif
