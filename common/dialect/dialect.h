/*
 * The HTTP dialects that clients speak, and what each of them expects of errors and keep-alives.
 * Each is a row of a table (front.h), which answers all of this. Source of every shape:
 * docs/protocols.md and the backends' own sources.
 */
#ifndef TANDEM_DIALECT_DIALECT_H
#define TANDEM_DIALECT_DIALECT_H

#include "common/base/buf.h"

#include <stdint.h>

/* The numbers travel in records between the processes, and index the table of rows. */
enum dialect {
	DIALECT_OLLAMA_CHAT,	 /* POST /api/chat */
	DIALECT_OLLAMA_GENERATE, /* POST /api/generate */
	DIALECT_OPENAI_CHAT,	 /* POST /v1/chat/completions */
	DIALECT_OLLAMA_OTHER, /* any other path of the Ollama API: only for the shape of errors */
	DIALECT_OPENAI_OTHER, /* any other path under /v1, and llama-server's own */
	DIALECT_ANTHROPIC_OTHER,   /* any other path below /v1/messages */
	DIALECT_OPENAI_TEXT,	   /* POST /v1/completions */
	DIALECT_ANTHROPIC,	   /* POST /v1/messages */
	DIALECT_ANTHROPIC_COUNT,   /* POST /v1/messages/count_tokens */
	DIALECT_RESPONSES,	   /* POST /v1/responses */
	DIALECT_RESPONSES_COUNT,   /* POST /v1/responses/input_tokens */
	DIALECT_RESPONSES_COMPACT, /* POST /v1/responses/compact */
	DIALECTS
};

#define DIALECT_ERROR_TEXT_BYTES 512

struct dialect_error {
	int status;			     /* HTTP status */
	char text[DIALECT_ERROR_TEXT_BYTES]; /* NUL-terminated, UTF-8, no prompt text */
	const char *
		code; /* static: what clients know the cause by, of a request that is read; NULL: none */
};

/* Static words for logs: "openai chat". */
const char *dialect_name(enum dialect d);

/* Its requests are read (chat_request_parse()) and asked of a backend; else it is there for the
 * shape of errors alone. False for a number of none. */
bool dialect_is_chat(enum dialect d);

/* The dialect of errors for what is asked on its path with another method. */
enum dialect dialect_errors(enum dialect d);

/* Its streams are server-sent events, which an empty line ends; else lines of JSON. */
bool dialect_is_sse(enum dialect d);

/* Its clients expect an error for a model that is not there, not another one's answer. */
bool dialect_names_models(enum dialect d);

/* A request asks for the number of its tokens, and no answer is written. */
bool dialect_counts(enum dialect d);
/* ... which a backend may be asked for in the client's words. */
bool dialect_counts_behind(enum dialect d);
/* Appends that answer. */
int dialect_count_body(enum dialect d, uint64_t tokens, struct buf *out);

/* A request asks for a compaction block (compaction.h), and no backend is asked. */
bool dialect_compacts_only(enum dialect d);

/* Bodies change when they are read (chat_request_take()), though nothing is wrong with them. */
bool dialect_mends(enum dialect d);

/* Its own server takes members whose names are in another case. */
bool dialect_any_case(enum dialect d);

/* Requests have a window of their own (options.num_ctx). */
bool dialect_has_num_ctx(enum dialect d);

/* All objects of one stream begin with the same members, without which another writer cannot go on
 * with it (answer_writer_identity()). */
bool dialect_has_identity(enum dialect d);

/*
 * The request changes nothing that a second one would change again: GET, HEAD, and the POSTs that
 * ask for text, vectors or facts. All others are orders, sent to a backend at most once. path
 * without the query.
 */
bool dialect_only_asks(struct slice method, struct slice path);

/* Content-Type of an answer in this dialect. */
const char *dialect_content_type(enum dialect d, bool stream);

/* The keep-alive bytes that are harmless before (or between) the dialect's own data: one space, or
 * an SSE comment. */
struct slice dialect_heartbeat(enum dialect d, bool stream);

/* The status that its clients know for this one. */
int dialect_status(enum dialect d, int status);

/* The name of a header that tells a request's id; NULL: none of its own. */
const char *dialect_request_id(enum dialect d);

/* What stands before a request's id there. */
#define DIALECT_ID_BEGIN "req_"

/* Appends an error's body, complete; where errors name their request, with this id. */
int dialect_error_name(enum dialect d, struct slice body, const char *id, struct buf *out);

/* How long an answer without a stream may leave a client without a byte: as long as its headers are
 * not out, an error has a status of its own. Milliseconds. */
int64_t dialect_patience_ms(enum dialect d);

/* Appends the JSON body of an error answered before the first byte (docs/protocols.md). */
int dialect_error_body(enum dialect d, int status, struct slice message, struct buf *out);

/* Where an answer stands that ends with an error. All zero: nothing is known of it. */
struct dialect_stream {
	bool partial;	/* bytes of a cut line or event may stand before it: a newline (or two) ends
			 them first */
	const char *id; /* the request's; NULL: none */
	struct slice
		identity; /* answer_writer_identity() of its writer; empty: none has begun it */
	int64_t bytes;	  /* sent so far */
};

/*
 * Appends an error for an answer whose 200 and headers are already out: a line, an SSE event (or
 * more), or for stream:false the JSON body.
 */
int dialect_error_inband(enum dialect d, bool stream, int status, struct slice message,
	const struct dialect_stream *at, struct buf *out);

/* The same of an error whose body, one line of JSON, is there already. */
int dialect_error_inband_body(enum dialect d, bool stream, struct slice body,
	const struct dialect_stream *at, struct buf *out);

/* A prompt that cannot fit is told in the stream that was asked for, with status 200. */
bool dialect_streams_overflow(enum dialect d);

/* Appends the error body for a prompt that cannot fit (HTTP 400; wording that Cline, litellm and
 * LangChain recognise). A count that is 0 is not known, and not told. */
int dialect_overflow_body(
	enum dialect d, uint64_t prompt_tokens, uint64_t window_tokens, struct buf *out);

#endif
