/* Errors and keep-alives of each dialect. */
#include "tests/unit/test_dialect.h"
#include "common/dialect/dialect.h"

#define CHAT DIALECT_OLLAMA_CHAT
#define OPENAI DIALECT_OPENAI_CHAT

static void errors_have_the_dialects_shape(void **state)
{
	(void)state;
	static const struct {
		enum dialect dialect;
		int status;
		const char *expected;
	} vectors[] = {
		{CHAT, 404, "{'error':'no \\\"x\\\"\\n'}"},
		{DIALECT_OLLAMA_GENERATE, 503, "{'error':'no \\\"x\\\"\\n'}"},
		{DIALECT_OLLAMA_OTHER, 500, "{'error':'no \\\"x\\\"\\n'}"},
		{OPENAI, 404,
			"{'error':{'message':'no "
			"\\\"x\\\"\\n','type':'not_found_error','param':null,'code':404}}"},
		{OPENAI, 413,
			"{'error':{'message':'no "
			"\\\"x\\\"\\n','type':'invalid_request_error','param':null,'code':413}}"},
		{DIALECT_OPENAI_OTHER, 503,
			"{'error':{'message':'no "
			"\\\"x\\\"\\n','type':'unavailable_error','param':null,'code':503}}"},
		{OPENAI, 502,
			"{'error':{'message':'no "
			"\\\"x\\\"\\n','type':'server_error','param':null,'code':502}}"},
	};
	for (size_t i = 0; i < COUNT(vectors); i++) {
		char *expected = json_of(vectors[i].expected);
		struct buf out;
		buf_init(&out, 0);
		assert_int_equal(dialect_error_body(vectors[i].dialect, vectors[i].status,
					 SLICE("no \"x\"\n"), &out),
			0);
		assert_string_equal(buf_cstr(&out), expected);
		buf_free(&out);
		free(expected);
	}
}

static void errors_in_band_end_what_stands_before_them(void **state)
{
	(void)state;
#define OPENAI_ERROR "{'error':{'message':'x','type':'server_error','param':null,'code':500}}"
	static const struct {
		enum dialect dialect;
		bool stream, partial;
		const char *expected;
	} vectors[] = {
		{CHAT, true, false, "{'error':'x'}\n"},
		{CHAT, true, true, "\n{'error':'x'}\n"},
		{CHAT, false, false, "{'error':'x'}"},
		{OPENAI, true, false, "data: " OPENAI_ERROR "\n\n"},
		{OPENAI, true, true, "\n\ndata: " OPENAI_ERROR "\n\n"},
		{OPENAI, false, false, OPENAI_ERROR},
	};
	for (size_t i = 0; i < COUNT(vectors); i++) {
		const struct dialect_stream at = {.partial = vectors[i].partial};
		char *expected = json_of(vectors[i].expected);
		struct buf out;
		buf_init(&out, 0);
		assert_int_equal(dialect_error_inband(vectors[i].dialect, vectors[i].stream, 500,
					 SLICE("x"), &at, &out),
			0);
		assert_string_equal(buf_cstr(&out), expected);
		buf_free(&out);
		free(expected);
	}
}

/* The sentence that Cline, litellm and LangChain look for. */
static void overflow_is_worded_for_agents(void **state)
{
	(void)state;
#define SENTENCE                                                                                   \
	"This model's maximum context length is 8192 tokens. However, your messages resulted in "  \
	"9000 tokens. (context_length_exceeded)"
	struct buf out;
	buf_init(&out, 0);
	assert_int_equal(dialect_overflow_body(CHAT, 9000, 8192, &out), 0);
	assert_string_equal(buf_cstr(&out), "{\"error\":\"" SENTENCE "\"}");
	buf_clear(&out);
	assert_int_equal(dialect_overflow_body(OPENAI, 9000, 8192, &out), 0);
	assert_string_equal(buf_cstr(&out),
		"{\"error\":{\"message\":\"" SENTENCE
		"\",\"type\":\"invalid_request_error\",\"param\":\"messages\",\"code\":400,"
		"\"n_prompt_tokens\":9000,\"n_ctx\":8192}}");
	/* A backend that does not say how long it was. */
	buf_clear(&out);
	assert_int_equal(dialect_overflow_body(OPENAI, 0, 8192, &out), 0);
	assert_string_equal(buf_cstr(&out),
		"{\"error\":{\"message\":\"This model's maximum context length is 8192 tokens. "
		"However, your messages resulted in too many tokens. (context_length_exceeded)\","
		"\"type\":\"invalid_request_error\",\"param\":\"messages\",\"code\":400,"
		"\"n_ctx\":8192}}");
	buf_clear(&out);
	assert_int_equal(dialect_overflow_body(CHAT, 0, 0, &out), 0);
	assert_null(strstr(buf_cstr(&out), " 0 "));
	assert_non_null(strstr(buf_cstr(&out), "maximum context length"));
	assert_non_null(strstr(buf_cstr(&out), "context_length_exceeded"));
	buf_free(&out);
}

/* A line feed breaks ollama-python, a space breaks the next server-sent event. */
/* Node's fetch gives up on headers after 300 s; an error told later than that reaches nobody. */
static void a_status_stays_free_for_minutes(void **state)
{
	(void)state;
	for (int d = DIALECT_OLLAMA_CHAT; d <= DIALECT_ANTHROPIC_OTHER; d++) {
		assert_true(dialect_patience_ms((enum dialect)d) >= 240000);
		assert_true(dialect_patience_ms((enum dialect)d) < 300000);
	}
}

static void heartbeats_are_harmless(void **state)
{
	(void)state;
	assert_true(slice_eq(dialect_heartbeat(CHAT, true), SLICE(" ")));
	assert_true(slice_eq(dialect_heartbeat(CHAT, false), SLICE(" ")));
	assert_true(slice_eq(dialect_heartbeat(OPENAI, false), SLICE(" ")));
	assert_true(slice_eq(dialect_heartbeat(OPENAI, true), SLICE(": keep-alive\n\n")));
	assert_string_equal(dialect_content_type(CHAT, true), "application/x-ndjson");
	assert_string_equal(dialect_content_type(OPENAI, true), "text/event-stream");
	assert_string_equal(dialect_content_type(CHAT, false), "application/json; charset=utf-8");
}

static void orders_are_told_from_questions(void **state)
{
	static const char *const asks[][2] = {{"GET", "/anything"}, {"HEAD", "/x"},
		{"POST", "/api/show"}, {"POST", "/v1/completions"}, {"POST", "/tokenize"}};
	static const char *const orders[][2] = {{"POST", "/api/delete"}, {"DELETE", "/api/delete"},
		{"POST", "/api/copy"}, {"POST", "/slots/0"}, {"POST", "/api/show/"},
		{"POST", "/api/pull"}, {"PUT", "/api/show"}, {"get", "/x"}, {"", ""}};
	(void)state;
	for (size_t i = 0; i < sizeof(asks) / sizeof(*asks); i++)
		assert_true(dialect_only_asks(slice_str(asks[i][0]), slice_str(asks[i][1])));
	for (size_t i = 0; i < sizeof(orders) / sizeof(*orders); i++)
		assert_false(dialect_only_asks(slice_str(orders[i][0]), slice_str(orders[i][1])));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_have_the_dialects_shape),
		cmocka_unit_test(errors_in_band_end_what_stands_before_them),
		cmocka_unit_test(overflow_is_worded_for_agents),
		cmocka_unit_test(a_status_stays_free_for_minutes),
		cmocka_unit_test(heartbeats_are_harmless),
		cmocka_unit_test(orders_are_told_from_questions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
