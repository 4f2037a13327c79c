#include "common/dialect/dialect.h"

#include "common/json.h"

#include <inttypes.h>
#include <stdio.h>

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

bool dialect_generates(struct slice method, struct slice path, bool vectors)
{
	return slice_eq(method, SLICE("POST")) &&
	       (is_one_of(writes_text, path) || (vectors && is_one_of(makes_vectors, path)));
}

bool dialect_only_asks(struct slice method, struct slice path)
{
	if (slice_eq(method, SLICE("GET")) || slice_eq(method, SLICE("HEAD")))
		return true;
	return dialect_generates(method, path, true) ||
	       (slice_eq(method, SLICE("POST")) && is_one_of(tells, path));
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
	 * event (7.1). */
	return stream && !dialect_is_ollama(d) ? SLICE(":\n\n") : SLICE(" ");
}

/* llama-server's names (protocols.md 2.5). */
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

int dialect_error_body(enum dialect d, int status, struct slice message, struct buf *out)
{
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
	if (sse)
		buf_add_str(out, "data: ");
	dialect_error_body(d, status, message, out);
	if (stream)
		buf_add_str(out, sse ? "\n\n" : "\n");
	return buf_error(out);
}

int dialect_overflow_body(
	enum dialect d, uint64_t prompt_tokens, uint64_t window_tokens, struct buf *out)
{
	char text[160];
	snprintf(text, sizeof(text),
		"This model's maximum context length is %" PRIu64 " tokens. However, your messages "
		"resulted in %" PRIu64 " tokens.",
		window_tokens, prompt_tokens);
	if (dialect_is_ollama(d))
		return dialect_error_body(d, 400, slice_str(text), out);
	return buf_printf(out,
		"{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\",\"param\":"
		"\"messages\","
		"\"code\":400,\"n_prompt_tokens\":%" PRIu64 ",\"n_ctx\":%" PRIu64 "}}",
		text, prompt_tokens, window_tokens);
}
