#include "workers/tasks/refusal.h"

#include "common/base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static void set_text(struct refusal *out, struct slice text)
{
	if (text.n >= REFUSAL_TEXT_BYTES)
		text.n = REFUSAL_TEXT_BYTES - 1;
	text.n = utf8_valid_prefix(text);
	memcpy(out->text, text.p, text.n);
	out->text[text.n] = '\0';
}

/* --- overflows by their words --- */

/*
 * Parts of sentences, in lower case. llama-server: the prompt before it is read (with its type
 * since 2025, without it before), an input that cannot be split, and no room left in the cache
 * while it is read or answered. Ollama: its own runners, its way round llama-server's template, the
 * runner for Apple's chips, and its cloud.
 */
static const char *const overflow_words[] = {
	"exceed_context_size_error",
	"context_length_exceeded",
	"exceeds the available context size",
	"larger than the max context size",
	"context size has been exceeded",
	"input length exceeds the context length",
	"input length exceeds maximum context length",
	"prompt is longer than the context length",
	"exceeded max context length",
	"maximum context length is",		     /* vLLM and OpenAI */
	"is longer than the model's context length", /* SGLang */
	"exceeds the model's maximum context length",
	"exceeds the context window", /* OpenAI */
	"context the overflows",      /* LM Studio, whose words these are */
	"tokens to keep from the initial prompt is greater than the context length",
	"reached context length of",
};

static bool says_overflow(struct slice text)
{
	for (size_t i = 0; i < sizeof(overflow_words) / sizeof(overflow_words[0]); i++) {
		size_t n = strlen(overflow_words[i]);
		for (size_t at = 0; at + n <= text.n; at++)
			if (strncasecmp(text.p + at, overflow_words[i], n) == 0)
				return true;
	}
	return false;
}

/* vLLM: the room asked for the answer alone is the window or more. No prompt is short enough. */
static bool is_limit_alone(const char *text)
{
	static const char asked[] = "is too large: ", window[] = "maximum context length is ";
	const char *limit = strstr(text, asked), *length = strstr(text, window);
	return limit && length &&
	       strtoll(limit + sizeof(asked) - 1, NULL, 10) >=
		       strtoll(length + sizeof(window) - 1, NULL, 10);
}

/* "... maximum context length is 4096 tokens. However, your request has 4833 input tokens ..." */
static void read_vllm_counts(const char *text, struct refusal *out)
{
	static const char window[] = "maximum context length is ";
	const char *length = strstr(text, window), *prompt;
	long long tokens;
	if (!length || out->prompt_tokens || out->window_tokens)
		return;
	out->window_tokens = strtoll(length + sizeof(window) - 1, NULL, 10);
	if ((prompt = strstr(text, "request has ")) &&
		sscanf(prompt, "request has %18lld", &tokens) == 1)
		out->prompt_tokens = tokens;
	else if ((prompt = strstr(text, "you requested ")) && (prompt = strchr(prompt, '(')) &&
		 sscanf(prompt, "(%18lld in the", &tokens) == 1)
		out->prompt_tokens = tokens;
}

/* "... (4833 tokens) ... (4096 tokens) ...": the prompt's and the window's. */
static void read_counts(const char *text, struct refusal *out)
{
	int64_t counts[2] = {0};
	size_t n = 0;
	for (const char *p = text; n < 2 && (p = strchr(p, '(')); p++) {
		long long tokens;
		int end = 0;
		if (sscanf(p, "(%18lld tokens)%n", &tokens, &end) == 1 && end && tokens > 0)
			counts[n++] = tokens;
	}
	if (n == 2 && out->prompt_tokens == 0 && out->window_tokens == 0) {
		out->prompt_tokens = counts[0];
		out->window_tokens = counts[1];
	}
}

/* --- bodies --- */

/* depth: an error's text may be JSON itself, once. */
static bool read_json(struct slice body, struct refusal *out, int depth)
{
	struct json_value root, error;
	if (json_parse(body, JSON_MAX_DEPTH, &root, NULL) || !json_is(root, JSON_OBJECT))
		return false;
	error = json_get(root, "error");
	if (json_is(error, JSON_OBJECT) &&
		json_string_is(json_get(error, "type"), "exceed_context_size_error")) {
		out->overflow = true;
		if (!json_to_int(json_get(error, "n_prompt_tokens"), &out->prompt_tokens))
			out->prompt_tokens = 0;
		if (!json_to_int(json_get(error, "n_ctx"), &out->window_tokens))
			out->window_tokens = 0;
	}
	if (json_string_is(json_get(error, "code"), "context_length_exceeded"))
		out->overflow = true;
	if (json_is(error, JSON_OBJECT))
		error = json_get(error, "message");
	else if (!json_is(error, JSON_STRING))
		error = json_get(root, "message");
	if (!json_is(error, JSON_STRING))
		error = json_get(root, "detail");
	struct buf text;
	buf_init(&text, 0);
	bool found = json_string_decode(error, &text) == 0 && text.n;
	if (found && (depth == 0 || !read_json(buf_slice(&text), out, depth - 1)))
		set_text(out, buf_slice(&text));
	buf_free(&text);
	return found;
}

void refusal_read(int status, struct slice body, struct refusal *out)
{
	*out = (struct refusal){0};
	if (!read_json(body, out, 1) || !out->text[0])
		snprintf(out->text, sizeof(out->text), "the backend answered with status %d",
			status);
	refusal_read_text(slice_str(out->text), out);
}

void refusal_read_text(struct slice text, struct refusal *out)
{
	struct refusal inner = {0};
	if (text.p != out->text)
		set_text(out, text);
	/* An error in mid-stream may hold the engine's whole JSON as its text. */
	if (text.n && text.p[0] == '{' && read_json(text, &inner, 1))
		*out = inner;
	if (!out->overflow && !says_overflow(slice_str(out->text)))
		return;
	out->overflow = !is_limit_alone(out->text);
	if (!out->overflow)
		return;
	read_counts(out->text, out);
	read_vllm_counts(out->text, out);
}
