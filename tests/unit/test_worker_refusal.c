/* What a backend's error body says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "workers/tasks/refusal.h"

static void says_what_the_backend_said(void **state)
{
	static const struct {
		const char *body, *text;
		bool overflow;
		int64_t prompt, window;
	} cases[] = {
		{"{\"error\":\"model 'x' not found\"}", "model 'x' not found", false, 0, 0},
		{"{\"error\":{\"code\":503,\"message\":\"Loading "
		 "model\",\"type\":\"unavailable_error\"}}",
			"Loading model", false, 0, 0},
		{"{\"message\":\"plain\"}", "plain", false, 0, 0},
		{"{\"detail\":\"Not Found\"}", "Not Found", false, 0, 0},
		{"{\"error\":{\"code\":400,\"message\":\"too "
		 "long\",\"type\":\"exceed_context_size_error\","
		 "\"n_prompt_tokens\":900,\"n_ctx\":512}}",
			"too long", true, 900, 512},
		{"{\"error\":{\"message\":\"too long\",\"type\":\"exceed_context_size_error\"}}",
			"too long", true, 0, 0},
		/* Ollama around its llama-server */
		{"{\"error\":\"{\\\"error\\\":{\\\"code\\\":400,\\\"message\\\":\\\"inner\\\","
		 "\\\"type\\\":"
		 "\\\"exceed_context_size_error\\\",\\\"n_prompt_tokens\\\":7,\\\"n_ctx\\\":5}}\"}",
			"inner", true, 7, 5},
		/* a string that only looks like JSON */
		{"{\"error\":\"{not json\"}", "{not json", false, 0, 0},
		{"", "the backend answered with status 500", false, 0, 0},
		{"<html>", "the backend answered with status 500", false, 0, 0},
		{"[]", "the backend answered with status 500", false, 0, 0},
		{"{\"error\":{}}", "the backend answered with status 500", false, 0, 0},
		{"{\"error\":null}", "the backend answered with status 500", false, 0, 0},
		{"{\"error\":\"\"}", "the backend answered with status 500", false, 0, 0},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct refusal r;
		refusal_read(500, slice_str(cases[i].body), &r);
		assert_string_equal(r.text, cases[i].text);
		assert_int_equal(r.overflow, cases[i].overflow);
		assert_int_equal(r.prompt_tokens, cases[i].prompt);
		assert_int_equal(r.window_tokens, cases[i].window);
	}
}

#define IN_STRING(text) "{\"error\":\"" text "\"}"
#define IN_OBJECT(text, type)                                                                      \
	"{\"error\":{\"code\":500,\"message\":\"" text "\",\"type\":\"" type "\"}}"

static void knows_an_overflow_by_its_words(void **state)
{
	static const struct {
		const char *body;
		bool overflow;
		int64_t prompt, window;
	} cases[] = {
		/* llama-server */
		{IN_OBJECT("Context size has been exceeded.", "server_error"), true, 0, 0},
		{IN_OBJECT("the request exceeds the available context size. try increasing the "
			   "context size or enable context shift",
			 "invalid_request_error"),
			true, 0, 0},
		{IN_OBJECT("request (4833 tokens) exceeds the available context size (4096 "
			   "tokens), try increasing it",
			 "invalid_request_error"),
			true, 4833, 4096},
		{IN_OBJECT("input (900 tokens) is larger than the max context size (512 tokens). "
			   "skipping",
			 "server_error"),
			true, 900, 512},
		/* Ollama */
		{IN_STRING("the input length exceeds the context length"), true, 0, 0},
		{IN_STRING("input length exceeds maximum context length"), true, 0, 0},
		{IN_STRING("the prompt is longer than the context length currently available to "
			   "the model; shorten the prompt"),
			true, 0, 0},
		{IN_STRING("prompt too long; exceeded max context length by 65590 tokens"), true, 0,
			0},
		{IN_STRING("input length (9000 tokens) exceeds the model's maximum context length "
			   "(8192 tokens)"),
			true, 9000, 8192},
		{IN_STRING("{\\\"error\\\":{\\\"code\\\":500,\\\"message\\\":\\\"Context size has "
			   "been exceeded.\\\",\\\"type\\\":\\\"server_error\\\"}}"),
			true, 0, 0},
		{IN_STRING("an error was encountered while running the model: context size has "
			   "been exceeded"),
			true, 0, 0},
		/* vLLM, older and newer; prompt and limit together */
		{IN_OBJECT("This model's maximum context length is 4096 tokens. However, you "
			   "requested 4983 tokens (4833 in the messages, 150 in the completion). "
			   "Please reduce the length of the messages or completion.",
			 "BadRequestError"),
			true, 4833, 4096},
		{IN_OBJECT("This model's maximum context length is 4096 tokens. However, your "
			   "request has 4833 input tokens. Please reduce the length of the input "
			   "messages.",
			 "BadRequestError"),
			true, 4833, 4096},
		{IN_OBJECT(
			 "'max_tokens' or 'max_completion_tokens' is too large: 1024. This "
			 "model's maximum context length is 4096 tokens and your request has 4000 "
			 "input tokens (1024 > 4096 - 4000).",
			 "BadRequestError"),
			true, 4000, 4096},
		/* ... the limit alone */
		{IN_OBJECT("'max_tokens' or 'max_completion_tokens' is too large: 4096. This "
			   "model's maximum context length is 4096 tokens and your request has 14 "
			   "input tokens (4096 > 4096 - 14).",
			 "BadRequestError"),
			false, 0, 0},
		/* SGLang */
		{IN_OBJECT("The input (4833 tokens) is longer than the model's context length "
			   "(4096 tokens).",
			 "BadRequestError"),
			true, 4833, 4096},
		/* OpenAI: by its code, and by its words */
		{"{\"error\":{\"message\":\"too long\",\"type\":\"invalid_request_error\","
		 "\"param\":\"messages\",\"code\":\"context_length_exceeded\"}}",
			true, 0, 0},
		{IN_OBJECT("Your input exceeds the context window of this model. Please adjust "
			   "your input and try again.",
			 "invalid_request_error"),
			true, 0, 0},
		/* LM Studio */
		{IN_STRING("Trying to keep the first 4833 tokens when context the overflows. "
			   "However, the model is loaded with context length of only 4096 tokens, "
			   "which is not enough."),
			true, 0, 0},
		{IN_STRING("The number of tokens to keep from the initial prompt is greater than "
			   "the context length."),
			true, 0, 0},
		/* not that */
		{IN_STRING("model requires more system memory (9.1 GiB) than is available"), false,
			0, 0},
		{IN_OBJECT(
			 "input (900 tokens) is too large to process. increase the physical batch "
			 "size (current batch size: 512)",
			 "server_error"),
			false, 0, 0},
		{IN_STRING("context canceled"), false, 0, 0},
		{IN_STRING("the context"), false, 0, 0},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct refusal r;
		refusal_read(500, slice_str(cases[i].body), &r);
		if (r.overflow != cases[i].overflow || r.prompt_tokens != cases[i].prompt ||
			r.window_tokens != cases[i].window)
			fail_msg("%s: %d, %lld of %lld", cases[i].body, r.overflow,
				(long long)r.prompt_tokens, (long long)r.window_tokens);
	}
}

static void knows_it_in_the_middle_of_a_stream(void **state)
{
	(void)state;
	struct refusal r = {0};
	refusal_read_text(SLICE("Context size has been exceeded."), &r);
	assert_true(r.overflow);
	assert_string_equal(r.text, "Context size has been exceeded.");
	r = (struct refusal){0};
	refusal_read_text(
		SLICE("{\"error\":{\"code\":400,\"message\":\"request (7 tokens) exceeds "
		      "the available context size (5 tokens)\",\"type\":"
		      "\"exceed_context_size_error\",\"n_prompt_tokens\":7,\"n_ctx\":5}}"),
		&r);
	assert_true(r.overflow);
	assert_int_equal(r.prompt_tokens, 7);
	assert_int_equal(r.window_tokens, 5);
	r = (struct refusal){0};
	refusal_read_text(SLICE("out of memory"), &r);
	assert_false(r.overflow);
	assert_string_equal(r.text, "out of memory");
}

static void long_text_is_cut_between_characters(void **state)
{
	struct buf b;
	struct refusal r;
	(void)state;
	for (size_t pad = 0; pad < 4; pad++) {
		buf_init(&b, 0);
		buf_add_str(&b, "{\"error\":\"");
		for (size_t i = 0; i < pad; i++)
			buf_add_char(&b, 'x');
		for (int i = 0; i < 400; i++)
			buf_add_str(&b, "\xf0\x9f\x98\x80");
		buf_add_str(&b, "\"}");
		refusal_read(400, buf_slice(&b), &r);
		size_t n = strlen(r.text);
		assert_true(n < REFUSAL_TEXT_BYTES && n > REFUSAL_TEXT_BYTES - 5);
		assert_int_equal((n - pad) % 4, 0);
		buf_free(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_what_the_backend_said),
		cmocka_unit_test(knows_an_overflow_by_its_words),
		cmocka_unit_test(knows_it_in_the_middle_of_a_stream),
		cmocka_unit_test(long_text_is_cut_between_characters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
