/*
 * Answers: a parser for each backend's stream, a writer for each front dialect, joined by neutral
 * events.
 *
 * parser(bytes of the backend) -> events -> writer(bytes for the client). Where the backend speaks
 * the client's dialect the bytes go through untouched and the parser only observes (counts, finish
 * reason, end). No global state; each object belongs to one job; nothing blocks.
 */
#ifndef TANDEM_DIALECT_ANSWER_H
#define TANDEM_DIALECT_ANSWER_H

#include "common/base/json.h"
#include "common/dialect/dialect.h"
#include "common/dialect/request.h"

/* What a backend sends back. */
enum answer_format {
	ANSWER_OLLAMA_CHAT,	/* NDJSON (or one object) of /api/chat */
	ANSWER_OLLAMA_GENERATE, /* NDJSON (or one object) of /api/generate */
	ANSWER_OPENAI_CHAT,  /* SSE (or one object) of /v1/chat/completions, llama-server flavour */
	ANSWER_OPENAI_TEXT,  /* SSE (or one object) of /v1/completions */
	ANSWER_LLAMA_INFILL, /* SSE (or one object) of llama-server's /infill and /completion */
};

/* A stream in it is server-sent events; else lines of JSON. */
bool answer_format_is_sse(enum answer_format format);

enum answer_finish {
	FINISH_NONE,
	FINISH_STOP,
	FINISH_LENGTH,
	FINISH_TOOL_CALLS,
	FINISH_LOAD,
	FINISH_UNLOAD,
	FINISH_COMPACTION /* of no backend: the block that the request asked for is all of it */
};

struct answer_usage {
	int64_t prompt_tokens; /* whole prompt, cached part included; -1 unknown */
	int64_t cached_tokens; /* of these, taken from the prefix cache; -1 unknown */
	int64_t output_tokens; /* -1 unknown */
	double prompt_ms;      /* time of the uncached part; < 0 unknown */
	double output_ms;      /* < 0 unknown */
	double load_ms;	       /* < 0 unknown */
};

enum answer_event_kind {
	ANSWER_TEXT,	   /* text; logprobs when the backend gave them */
	ANSWER_THINKING,   /* text */
	ANSWER_TOOL_BEGIN, /* index, id, name */
	ANSWER_TOOL_ARGS,  /* index, text = a fragment of the arguments' JSON text */
	ANSWER_TOOL_END,   /* index */
	ANSWER_END,	   /* finish, usage */
	ANSWER_ERROR,	   /* status, text = message: the backend said so in band */
};

struct answer_event {
	enum answer_event_kind kind;
	struct slice text;
	struct slice logprobs; /* elements of a JSON array, without its brackets; the same in both
				  dialects */
	unsigned index;
	struct slice id, name;
	enum answer_finish finish;
	struct answer_usage usage;
	int status;
};

/* The event's slices live until the function returns. It must not destroy the parser. */
typedef void answer_event_fn(void *ctx, const struct answer_event *event);

struct answer_parser;

/*
 * stream: NDJSON/SSE as opposed to one JSON object. max_line_bytes caps one line or the object.
 * NULL when memory is out.
 */
struct answer_parser *answer_parser_create(enum answer_format format, bool stream,
	size_t max_line_bytes, answer_event_fn *on_event, void *ctx);
void answer_parser_destroy(struct answer_parser *p);

/*
 * Feeds bytes. 0; -EPROTO when they are not that format (answer_parser_problem() says what); -E2BIG
 * over the cap; -ENOMEM. Errors stay. Bytes after ANSWER_END or ANSWER_ERROR are ignored.
 */
int answer_parser_feed(struct answer_parser *p, struct slice bytes);

/* ANSWER_END or ANSWER_ERROR has come of a stream: what may follow means nothing. */
bool answer_parser_ended(const struct answer_parser *p);
/*
 * The backend's body has ended. 0 when the answer was complete (ANSWER_END or ANSWER_ERROR was
 * delivered, possibly just now), -EPROTO when it was cut (EOF without done is an error), or the
 * error of an earlier feed.
 */
int answer_parser_finish(struct answer_parser *p);
/* Bytes that answer_parser_finish() has to look at yet. */
size_t answer_parser_held(const struct answer_parser *p);

/* Static words for the last error. */
const char *answer_parser_problem(const struct answer_parser *p);

struct answer_writer;

/* What a client has of a stream that another writer began. */
struct answer_begun {
	struct slice identity; /* answer_writer_identity(); empty: no event has come */
	struct slice text;     /* all of the answer's */
	int64_t tokens;	       /* ... which came in so many events */
};

/*
 * Writes the client's dialect (one with requests: dialect_is_chat()). model is the name the client asked for; id a random part for OpenAI
 * ids ("chatcmpl-<id>"); include_usage as in stream_options. The writer copies what it needs. NULL
 * when memory is out. stream:false collects (at most max_bytes) and emits one object at ANSWER_END.
 */
struct answer_writer *answer_writer_create(enum dialect d, bool stream, struct slice model,
	const char *id, bool include_usage, size_t max_bytes);
void answer_writer_destroy(struct answer_writer *w);

/* Reads what the request says of its answer's form (stream_options, an echoed prompt). 0 or
 * -ENOMEM. */
int answer_writer_read(struct answer_writer *w, const struct chat_request *r);

/* Of the model's own words alone: forgets what the answer would repeat of its request, a compaction block too. */
void answer_writer_bare(struct answer_writer *w);

/*
 * What every object of this writer's stream has in common (resume_identity()), and a writer that
 * goes on with such a stream as if it had begun it. Empty for a dialect whose objects have nothing
 * in common. 0 or -ENOMEM.
 */
struct slice answer_writer_identity(const struct answer_writer *w);
/* Takes another writer's identity alone: its stream is written again from its beginning. 0 or -ENOMEM. */
int answer_writer_rename(struct answer_writer *w, struct slice identity);
int answer_writer_resume(struct answer_writer *w, const struct answer_begun *from);

/* Appends what the client gets for this event (possibly nothing). 0, -ENOMEM, -E2BIG. */
int answer_writer_put(struct answer_writer *w, const struct answer_event *event, struct buf *out);

#endif
