/*
 * Requests for embeddings: Ollama's two (/api/embed, and the older /api/embeddings for one text) and
 * OpenAI's /v1/embeddings, each asked of any backend, and its answer back. Pure; any thread.
 *
 * What a backend can't do is an error in words (Ollama takes no token ids), or done here: base64 and
 * a number of dimensions before Ollama, whose older versions know neither, and dimensions before
 * llama-server, which ignores them (docs/protocols.md#embeddings).
 */
#ifndef TANDEM_DIALECT_EMBED_H
#define TANDEM_DIALECT_EMBED_H

#include "common/dialect/backend.h"

enum embed_form {
	EMBED_OLLAMA,	    /* /api/embed */
	EMBED_OLLAMA_OLDER, /* /api/embeddings */
	EMBED_OPENAI,	    /* /v1/embeddings */
};

struct embed_request {
	enum embed_form form;  /* the client's */
	enum backend_api back; /* who is asked; both are the caller's to set */
	bool raw;	       /* it speaks the client's form: the bytes themselves, both ways */
	bool nothing;	       /* there is no text: answered without the backend */
	bool base64;	    /* how the client wants a vector: floats of 32 bits, little end first */
	int64_t dimensions; /* vectors are cut to it here; 0: they stay as they are */
	size_t texts;	    /* vectors that must come */
	struct buf model;   /* decoded name; empty: the client said none */
	struct slice name;  /* the same as raw JSON, of the body */
};

/* Only these paths; a query behind one is no matter. */
bool embed_path(struct slice path, enum embed_form *form);

/* Where that backend is asked. Static. */
const char *embed_target(enum backend_api back);

/*
 * Reads a body and appends what the backend is asked (nothing where r->raw or r->nothing). 0; -EINVAL
 * with *error filled; -ENOMEM; -E2BIG. embed_request_fini() after any outcome. The body must
 * outlive r.
 */
int embed_request_read(
	struct embed_request *r, struct slice body, struct buf *out, struct dialect_error *error);
void embed_request_fini(struct embed_request *r);

/* Appends the client's answer to the backend's (any bytes where r->nothing; never of one that is
 * raw). total_ns: how long it took. 0; -EPROTO when it is none; -ENOMEM; -E2BIG. */
int embed_answer_write(
	const struct embed_request *r, struct slice answer, uint64_t total_ns, struct buf *out);

#endif
