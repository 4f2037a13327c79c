/* What any server of the OpenAI API is asked, and the counts that its streams are asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/dialect/backend.h"
#include "common/dialect/usage.h"

#include <errno.h>

#define CHAT DIALECT_OLLAMA_CHAT
#define GENERATE DIALECT_OLLAMA_GENERATE
#define OPENAI DIALECT_OPENAI_CHAT
#define USER "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"

static int build(enum dialect d, const char *text, struct backend_call *call, struct buf *body,
	struct dialect_error *error)
{
	struct chat_request r;
	assert_int_equal(chat_request_parse(d, slice_str(text), &r, error), 0);
	buf_init(body, 0);
	int rc = backend_call_build(BACKEND_OPENAI, &r, 8192, call, body, error);
	chat_request_fini(&r);
	return rc;
}

static void ollamas_requests_are_translated(void **state)
{
	static const struct {
		enum dialect dialect;
		const char *body, *path, *sent;
	} cases[] = {
		/* only what was said, and no window */
		{CHAT, "{\"model\":\"m\"," USER ",\"stream\":false,\"options\":{\"num_ctx\":2048}}",
			"/v1/chat/completions", "{\"model\":\"m\"," USER ",\"stream\":false}"},
		{CHAT, "{\"model\":\"m\"," USER "}", "/v1/chat/completions",
			"{\"model\":\"m\"," USER
			",\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
		{CHAT,
			"{\"model\":\"m\"," USER
			",\"stream\":false,\"think\":true,\"options\":{\"temperature\":0.5,"
			"\"repeat_penalty\":1.10,\"num_predict\":7}}",
			"/v1/chat/completions",
			"{\"model\":\"m\"," USER
			",\"stream\":false,\"chat_template_kwargs\":{\"enable_thinking\":true},"
			"\"temperature\":0.5,\"repeat_penalty\":1.10,\"repetition_penalty\":1.10,"
			"\"max_tokens\":7}"},
		{CHAT, "{\"model\":\"m\"," USER ",\"stream\":false,\"think\":\"low\"}",
			"/v1/chat/completions",
			"{\"model\":\"m\"," USER ",\"stream\":false,\"reasoning_effort\":\"low\"}"},
		{GENERATE,
			"{\"model\":\"m\",\"prompt\":\"p\",\"raw\":true,\"stream\":false,"
			"\"format\":"
			"\"json\"}",
			"/v1/completions",
			"{\"model\":\"m\",\"prompt\":\"p\",\"stream\":false,\"response_format\":{"
			"\"type\":\"json_object\"}}"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct backend_call call;
		struct dialect_error error = {0};
		struct buf body;
		if (build(cases[i].dialect, cases[i].body, &call, &body, &error))
			fail_msg("%s: %s", cases[i].body, error.text);
		assert_string_equal(buf_cstr(&body), cases[i].sent);
		assert_string_equal(call.path, cases[i].path);
		assert_false(call.raw);
		assert_false(call.hides_usage);
		buf_free(&body);
	}
}

static void what_it_has_no_way_to_do_is_refused(void **state)
{
	static const struct {
		const char *body, *words;
	} cases[] = {
		{"{\"model\":\"m\",\"prompt\":\"p\",\"suffix\":\"s\"}", "suffix"},
		{"{\"model\":\"m\",\"prompt\":\"p\",\"template\":\"t\"}", "template"},
		{"{\"model\":\"m\",\"prompt\":\"p\",\"context\":[1]}", "context"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct backend_call call;
		struct dialect_error error = {0};
		struct buf body;
		assert_int_equal(build(GENERATE, cases[i].body, &call, &body, &error), -EINVAL);
		assert_int_equal(error.status, 400);
		assert_non_null(strstr(error.text, cases[i].words));
		buf_free(&body);
	}
}

static void streams_are_asked_for_their_usage(void **state)
{
	static const struct {
		const char *body, *sent; /* "": as it is */
	} cases[] = {
		{"{" USER "}", ""},
		{"{" USER ",\"stream\":false}", ""},
		{"{" USER ",\"stream\":true}",
			"{" USER ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
		{"{\"stream\":true,\"stream_options\":{\"include_usage\":true}," USER "}", ""},
		{"{\"stream\":true,\"stream_options\":{\"include_usage\":false,\"x\":1}," USER "}",
			"{\"stream\":true," USER
			",\"stream_options\":{\"x\":1,\"include_usage\":true}}"},
		{"{\"stream\":true,\"stream_options\":null," USER "}",
			"{\"stream\":true," USER ",\"stream_options\":{\"include_usage\":true}}"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct backend_call call;
		struct dialect_error error = {0};
		struct buf body;
		assert_int_equal(build(OPENAI, cases[i].body, &call, &body, &error), 0);
		assert_string_equal(buf_cstr(&body), cases[i].sent);
		assert_true(call.raw);
		assert_int_equal(call.hides_usage, cases[i].sent[0] != '\0');
		buf_free(&body);
	}
}

#define TEXT "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n"
#define QUOTED                                                                                     \
	"data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\" \\\"choices\\\":[]\"}}]}\n\n"
#define COUNTS "data: {\"id\":\"x\",\"choices\": [ ],\"usage\":{\"prompt_tokens\":3}}\n\n"
#define DONE "data: [DONE]\n\n"

static void the_counts_are_found_among_events(void **state)
{
	static const struct {
		const char *events;
		size_t at, n;
	} cases[] = {
		{TEXT COUNTS DONE, sizeof(TEXT) - 1, sizeof(COUNTS) - 1},
		{COUNTS, 0, sizeof(COUNTS) - 1},
		{TEXT QUOTED DONE, sizeof(TEXT QUOTED DONE) - 1, 0},
		{"data: {\"choices\":[],\"usage\":{}}\r\n\r\n" DONE, 0, 35},
		/* Azure's first chunk has no choices, and counts nothing */
		{"data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n" TEXT,
			sizeof("data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n" TEXT) - 1,
			0},
		{": keep-alive\n\n" COUNTS, 14, sizeof(COUNTS) - 1},
		{"data: {\"usage\"\n\n", 16, 0},
		{"\n", 1, 0},
		{"", 0, 0},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct slice events = slice_str(cases[i].events), found = usage_event(events);
		if ((size_t)(found.p - events.p) != cases[i].at || found.n != cases[i].n)
			fail_msg("%s: %zu bytes at %zu", cases[i].events, found.n,
				(size_t)(found.p - events.p));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ollamas_requests_are_translated),
		cmocka_unit_test(what_it_has_no_way_to_do_is_refused),
		cmocka_unit_test(streams_are_asked_for_their_usage),
		cmocka_unit_test(the_counts_are_found_among_events),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
