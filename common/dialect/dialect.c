#include "common/dialect/dialect.h"

#include "common/base/json.h"

#include <inttypes.h>

static const char *const writes_text[] = {"/api/chat", "/api/generate", "/v1/chat/completions",
	"/v1/completions", "/v1/responses", "/v1/messages", "/completion", "/completions",
	"/chat/completions", "/infill", NULL};
static const char *const makes_vectors[] = {"/api/embed", "/api/embeddings", "/v1/embeddings",
	"/embedding", "/embeddings", "/rerank", "/reranking", "/v1/rerank", "/v1/reranking", NULL};
static const char *const tells[] = {"/api/show", "/v1/messages/count_tokens", "/tokenize",
	"/detokenize", "/apply-template", NULL};

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

const char *dialect_content_type(enum dialect d, bool stream)
{
	if (!stream)
		return "application/json; charset=utf-8";
	return dialect_is_ollama(d) ? "application/x-ndjson" : "text/event-stream";
}

struct slice dialect_heartbeat(enum dialect d, bool stream)
{
	/* A line feed would be an empty line to ollama-python; a space would swallow the next SSE
	 * event. The comment has a text: openai-go takes a bare ":" for an event without data, and
	 * the stream ends with "unexpected end of JSON input". */
	return stream && !dialect_is_ollama(d) ? SLICE(": keep-alive\n\n") : SLICE(" ");
}

/*
 * Time to the headers that the packages allow: JavaScript over Node's fetch (ollama, openai, ai)
 * and Bun's 300 s, openai and litellm for Python 600 s, ollama for Python and Go any time. The
 * first to give up counts.
 */
int64_t dialect_patience_ms(enum dialect d)
{
	static const int64_t shortest_ms[] = {
		[DIALECT_OLLAMA_CHAT] = 300000,
		[DIALECT_OLLAMA_GENERATE] = 300000,
		[DIALECT_OPENAI_CHAT] = 300000,
		[DIALECT_OLLAMA_OTHER] = 300000,
		[DIALECT_OPENAI_OTHER] = 300000,
		[DIALECT_ANTHROPIC_OTHER] = 300000,
	};
	return shortest_ms[d] - shortest_ms[d] / 10; /* for the way */
}

/* llama-server's names (docs/protocols.md#errors-of-llama-server). */
static const char *error_type(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 403:
		return "permission_error";
	case 404:
		return "not_found_error";
	case 429:
		return "rate_limit_error";
	case 501:
		return "not_supported_error";
	case 503:
		return "unavailable_error";
	default:
		return status >= 400 && status < 500 ? "invalid_request_error" : "server_error";
	}
}

static const char *anthropic_error_type(int status)
{
	switch (status) {
	case 413:
		return "request_too_large";
	case 503:
		return "overloaded_error";
	case 504:
		return "timeout_error";
	case 401:
	case 403:
	case 404:
	case 429:
		return error_type(status);
	default:
		return status >= 400 && status < 500 ? "invalid_request_error" : "api_error";
	}
}

int dialect_error_body(enum dialect d, int status, struct slice message, struct buf *out)
{
	if (d == DIALECT_ANTHROPIC_OTHER) {
		buf_printf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":",
			anthropic_error_type(status));
		json_put_string(out, message);
		return buf_add_str(out, "}}");
	}
	if (dialect_is_ollama(d)) {
		buf_add_str(out, "{\"error\":");
		json_put_string(out, message);
		return buf_add_char(out, '}');
	}
	buf_add_str(out, "{\"error\":{\"message\":");
	json_put_string(out, message);
	return buf_printf(
		out, ",\"type\":\"%s\",\"param\":null,\"code\":%d}}", error_type(status), status);
}

int dialect_error_inband(enum dialect d, bool stream, int status, struct slice message,
	bool partial, struct buf *out)
{
	bool sse = stream && !dialect_is_ollama(d);
	if (partial)
		buf_add_str(out, sse ? "\n\n" : "\n");
	if (sse && d == DIALECT_ANTHROPIC_OTHER)
		buf_add_str(out, "event: error\n");
	if (sse)
		buf_add_str(out, "data: ");
	dialect_error_body(d, status, message, out);
	if (stream)
		buf_add_str(out, sse ? "\n\n" : "\n");
	return buf_error(out);
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
	struct buf text;
	buf_init(&text, DIALECT_ERROR_TEXT_BYTES);
	overflow_text(prompt_tokens, window_tokens, &text);
	if (dialect_is_ollama(d)) {
		dialect_error_body(d, 400, buf_slice(&text), out);
	} else {
		buf_add_str(out, "{\"error\":{\"message\":");
		json_put_string(out, buf_slice(&text));
		buf_add_str(out, ",\"type\":\"invalid_request_error\",\"param\":\"messages\","
				 "\"code\":400");
		if (prompt_tokens > 0)
			buf_printf(out, ",\"n_prompt_tokens\":%" PRIu64, prompt_tokens);
		if (window_tokens > 0)
			buf_printf(out, ",\"n_ctx\":%" PRIu64, window_tokens);
		buf_add_str(out, "}}");
	}
	buf_free(&text);
	return buf_error(out);
}
