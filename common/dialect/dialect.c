#include "common/dialect/dialect.h"

#include "common/dialect/front.h"
#include "common/dialect/writer.h"

#include <inttypes.h>

static const char *const writes_text[] = {"/api/chat", "/api/generate", "/v1/chat/completions",
	"/v1/completions", "/v1/responses", "/responses", "/v1/messages", "/completion",
	"/completions", "/chat/completions", "/infill", NULL};
static const char *const makes_vectors[] = {"/api/embed", "/api/embeddings", "/v1/embeddings",
	"/embedding", "/embeddings", "/rerank", "/reranking", "/v1/rerank", "/v1/reranking", NULL};
static const char *const tells[] = {"/api/show", "/v1/messages/count_tokens", "/tokenize",
	"/detokenize", "/apply-template", "/v1/chat/completions/input_tokens",
	"/v1/responses/input_tokens", "/v1/responses/compact", NULL};

static bool is_one_of(const char *const *paths, struct slice path)
{
	for (const char *const *p = paths; *p; p++)
		if (slice_eq(path, slice_str(*p)))
			return true;
	return false;
}

bool dialect_only_asks(struct slice method, struct slice path)
{
	if (slice_eq(method, SLICE("GET")) || slice_eq(method, SLICE("HEAD")))
		return true;
	return slice_eq(method, SLICE("POST")) &&
	       (is_one_of(writes_text, path) || is_one_of(makes_vectors, path) ||
		       is_one_of(tells, path));
}

/* --- the table --- */

static const struct front_dialect *const fronts[DIALECTS] = {
	[DIALECT_OLLAMA_CHAT] = &front_ollama_chat,
	[DIALECT_OLLAMA_GENERATE] = &front_ollama_generate,
	[DIALECT_OPENAI_CHAT] = &front_openai_chat,
	[DIALECT_OLLAMA_OTHER] = &front_ollama_other,
	[DIALECT_OPENAI_OTHER] = &front_openai_other,
	[DIALECT_ANTHROPIC_OTHER] = &front_anthropic_other,
	[DIALECT_OPENAI_TEXT] = &front_openai_text,
	[DIALECT_ANTHROPIC] = &front_anthropic,
	[DIALECT_ANTHROPIC_COUNT] = &front_anthropic_count,
	[DIALECT_RESPONSES] = &front_responses,
	[DIALECT_RESPONSES_COUNT] = &front_responses_count,
	[DIALECT_RESPONSES_COMPACT] = &front_responses_compact,
};

const struct front_dialect *front_of(enum dialect d)
{
	return (unsigned)d < DIALECTS ? fronts[d] : &front_ollama_other;
}

const char *dialect_name(enum dialect d)
{
	return front_of(d)->name;
}

bool dialect_is_chat(enum dialect d)
{
	return front_of(d)->read != NULL;
}

enum dialect dialect_errors(enum dialect d)
{
	return front_of(d)->errors;
}

bool dialect_is_sse(enum dialect d)
{
	return front_of(d)->sse;
}

bool dialect_names_models(enum dialect d)
{
	return front_of(d)->names_models;
}

bool dialect_counts(enum dialect d)
{
	return front_of(d)->counts;
}

bool dialect_counts_behind(enum dialect d)
{
	return front_of(d)->counts && !front_of(d)->counts_itself;
}

int dialect_count_body(enum dialect d, uint64_t tokens, struct buf *out)
{
	const char *before = front_of(d)->counted;
	return buf_printf(out, "{%s\"input_tokens\":%" PRIu64 "}", before ? before : "", tokens);
}

bool dialect_compacts_only(enum dialect d)
{
	return front_of(d)->compacts_only;
}

bool dialect_mends(enum dialect d)
{
	return front_of(d)->mend != NULL;
}

bool dialect_any_case(enum dialect d)
{
	return front_of(d)->any_case;
}

bool dialect_has_num_ctx(enum dialect d)
{
	return front_of(d)->api == API_OLLAMA;
}

bool dialect_has_identity(enum dialect d)
{
	const struct writer_ops *writer = front_of(d)->writer;
	return writer && writer->identity;
}

/* --- what the rows have in common --- */

const char *dialect_content_type(enum dialect d, bool stream)
{
	if (!stream)
		return "application/json; charset=utf-8";
	return dialect_is_sse(d) ? "text/event-stream" : "application/x-ndjson";
}

struct slice dialect_heartbeat(enum dialect d, bool stream)
{
	/* A line feed would be an empty line to ollama-python; a space would swallow the next SSE
	 * event. The comment has a text: openai-go takes a bare ":" for an event without data, and
	 * the stream ends with "unexpected end of JSON input". */
	const char *own = front_of(d)->heartbeat;
	if (stream && own)
		return slice_str(own);
	return stream && dialect_is_sse(d) ? SLICE(": keep-alive\n\n") : SLICE(" ");
}

int dialect_status(enum dialect d, int status)
{
	int own = front_of(d)->overloaded;
	return status == 503 && own ? own : status;
}

const char *dialect_request_id(enum dialect d)
{
	return front_of(d)->request_id;
}

int dialect_error_name(enum dialect d, struct slice body, const char *id, struct buf *out)
{
	size_t brace = body.n;
	while (brace > 0 && body.p[brace - 1] != '}')
		brace--;
	if (!front_of(d)->request_id || brace == 0)
		return buf_add_slice(out, body);
	buf_add(out, body.p, brace - 1);
	buf_printf(out, ",\"request_id\":\"" DIALECT_ID_BEGIN "%s\"", id);
	return buf_add(out, body.p + brace - 1, body.n - brace + 1);
}

int64_t dialect_patience_ms(enum dialect d)
{
	int64_t shortest_ms = front_of(d)->patience_ms;
	return shortest_ms - shortest_ms / 10; /* for the way */
}

int dialect_error_body(enum dialect d, int status, struct slice message, struct buf *out)
{
	front_of(d)->error(status, message, out);
	return buf_error(out);
}

int dialect_error_inband(enum dialect d, bool stream, int status, struct slice message,
	const struct dialect_stream *at, struct buf *out)
{
	struct buf body;
	buf_init(&body, 0);
	front_of(d)->error(status, message, &body);
	int rc = buf_error(&body);
	if (rc == 0)
		rc = dialect_error_inband_body(d, stream, buf_slice(&body), at, out);
	buf_free(&body);
	return rc;
}

int dialect_error_inband_body(enum dialect d, bool stream, struct slice body,
	const struct dialect_stream *at, struct buf *out)
{
	const struct front_dialect *front = front_of(d);
	bool sse = stream && front->sse;
	if (at->partial)
		buf_add_str(out, sse ? "\n\n" : "\n");
	if (sse && front->fail) {
		front->fail(at, body, out);
		return buf_error(out);
	}
	if (sse && front->error_event)
		buf_add_str(out, front->error_event);
	if (sse)
		buf_add_str(out, "data: ");
	buf_add_slice(out, body);
	if (stream)
		buf_add_str(out, sse ? "\n\n" : "\n");
	return buf_error(out);
}

bool dialect_streams_overflow(enum dialect d)
{
	return front_of(d)->streams_overflow;
}

/* Agents look for the sentence and its numbers, LangChain and others for the name of OpenAI's code:
 * which stands in the text since the code itself is a number that older agents look for. */
static void overflow_text(uint64_t prompt_tokens, uint64_t window_tokens, struct buf *out)
{
	if (window_tokens > 0)
		buf_printf(out,
			"This model's maximum context length is %" PRIu64
			" tokens. However, your messages resulted in ",
			window_tokens);
	else
		buf_add_str(out, "This prompt is longer than the model's maximum context length: "
				 "your messages resulted in ");
	if (prompt_tokens > 0)
		buf_printf(out, "%" PRIu64 " tokens.", prompt_tokens);
	else
		buf_add_str(out, "too many tokens.");
	buf_add_str(out, " (context_length_exceeded)");
}

int dialect_overflow_body(
	enum dialect d, uint64_t prompt_tokens, uint64_t window_tokens, struct buf *out)
{
	const struct front_dialect *front = front_of(d);
	struct buf text;
	buf_init(&text, DIALECT_ERROR_TEXT_BYTES);
	overflow_text(prompt_tokens, window_tokens, &text);
	if (front->overflow)
		front->overflow(buf_slice(&text), prompt_tokens, window_tokens, out);
	else
		front->error(400, buf_slice(&text), out);
	buf_free(&text);
	return buf_error(out);
}
