/* What a backend's error body says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "workers/refusal.h"

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
		cmocka_unit_test(long_text_is_cut_between_characters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
