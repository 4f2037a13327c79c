/* Which kind of request a method and a path are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/requests/route.h"

static void kinds(void **state)
{
	static const struct {
		const char *method, *path;
		enum route_kind kind;
		enum dialect dialect;
		bool works;
	} rows[] = {
		{"POST", "/api/chat", ROUTE_CHAT, DIALECT_OLLAMA_CHAT, false},
		{"POST", "//api/chat", ROUTE_CHAT, DIALECT_OLLAMA_CHAT, false},
		{"POST", "/api//chat/", ROUTE_CHAT, DIALECT_OLLAMA_CHAT, false},
		{"POST", "/api/ch%61t", ROUTE_CHAT, DIALECT_OLLAMA_CHAT, false},
		{"POST", "/api%2Fchat", ROUTE_CHAT, DIALECT_OLLAMA_CHAT, false},
		{"POST", "/api/%u0063hat", ROUTE_CHAT, DIALECT_OLLAMA_CHAT, false},
		{"POST", "/v1%2fcompletions", ROUTE_CHAT, DIALECT_OPENAI_TEXT, false},
		{"POST", "/v1%u002fcompletion%u0073", ROUTE_CHAT, DIALECT_OPENAI_TEXT, false},
		{"POST", "/api/chat%00", ROUTE_PASS, DIALECT_OLLAMA_OTHER, false},
		{"POST", "/api/cha%u74", ROUTE_PASS, DIALECT_OLLAMA_OTHER, false},
		{"POST", "/api/chat%", ROUTE_PASS, DIALECT_OLLAMA_OTHER, false},
		{"POST", "/api/generate/", ROUTE_CHAT, DIALECT_OLLAMA_GENERATE, false},
		{"POST", "/v1/chat/completions", ROUTE_CHAT, DIALECT_OPENAI_CHAT, false},
		{"POST", "/chat/completions", ROUTE_CHAT, DIALECT_OPENAI_CHAT, false},
		{"GET", "/api/chat", ROUTE_PASS, DIALECT_OLLAMA_OTHER, false},
		{"DELETE", "/v1/chat/completions", ROUTE_PASS, DIALECT_OPENAI_OTHER, false},
		{"GET", "/", ROUTE_ROOT, DIALECT_OLLAMA_OTHER, false},
		{"HEAD", "//", ROUTE_ROOT, DIALECT_OLLAMA_OTHER, false},
		{"POST", "/", ROUTE_PASS, DIALECT_OLLAMA_OTHER, false},
		{"GET", "/api/tags/", ROUTE_TAGS, DIALECT_OLLAMA_OTHER, false},
		{"GET", "/ui", ROUTE_PAGE, DIALECT_OLLAMA_OTHER, false},
		{"POST", "/ui/", ROUTE_PAGE, DIALECT_OLLAMA_OTHER, false},
		{"GET", "//u%69%2fapi/x", ROUTE_PAGE, DIALECT_OLLAMA_OTHER, false},
		{"GET", "/uix", ROUTE_PASS, DIALECT_OLLAMA_OTHER, false},
		{"GET", "/v1/ui", ROUTE_PASS, DIALECT_OPENAI_OTHER, false},
		{"GET", "/metrics/", ROUTE_METRICS, DIALECT_OPENAI_OTHER, false},
		{"HEAD", "/%6detrics", ROUTE_METRICS, DIALECT_OPENAI_OTHER, false},
		{"POST", "/metrics", ROUTE_PASS, DIALECT_OPENAI_OTHER, false},
		{"GET", "/v1/metrics", ROUTE_PASS, DIALECT_OPENAI_OTHER, false},
		{"GET", "/api/ps", ROUTE_PS, DIALECT_OLLAMA_OTHER, false},
		{"GET", "/v1/models/", ROUTE_MODELS, DIALECT_OPENAI_OTHER, false},
		{"GET", "/models", ROUTE_MODELS, DIALECT_OPENAI_OTHER, false},
		{"GET", "/v1/models/a", ROUTE_MODEL, DIALECT_OPENAI_OTHER, false},
		{"DELETE", "/v1/models/a", ROUTE_PASS, DIALECT_OPENAI_OTHER, false},
		{"POST", "/v1/completions", ROUTE_CHAT, DIALECT_OPENAI_TEXT, false},
		{"POST", "/completions", ROUTE_CHAT, DIALECT_OPENAI_TEXT, false},
		{"GET", "/v1/completions", ROUTE_PASS, DIALECT_OPENAI_OTHER, false},
		{"POST", "/completion", ROUTE_PASS, DIALECT_OPENAI_OTHER, true},
		{"POST", "/embeddings", ROUTE_PASS, DIALECT_OPENAI_OTHER, true},
		{"POST", "/api/embed", ROUTE_PASS, DIALECT_OLLAMA_OTHER, true},
		{"POST", "/v1/messages", ROUTE_CHAT, DIALECT_ANTHROPIC, false},
		{"POST", "/v1/messages/count_tokens", ROUTE_CHAT, DIALECT_ANTHROPIC_COUNT, false},
		{"GET", "/v1/messages", ROUTE_PASS, DIALECT_ANTHROPIC_OTHER, false},
		{"POST", "/v1/messages/batches", ROUTE_PASS, DIALECT_ANTHROPIC_OTHER, false},
		{"POST", "/v1/responses", ROUTE_CHAT, DIALECT_RESPONSES, false},
		{"POST", "/responses/", ROUTE_CHAT, DIALECT_RESPONSES, false},
		{"POST", "/v1%2Fresponses", ROUTE_CHAT, DIALECT_RESPONSES, false},
		{"POST", "/v1/responses/input_tokens", ROUTE_CHAT, DIALECT_RESPONSES_COUNT, false},
		{"GET", "/v1/responses/resp_1", ROUTE_STORED, DIALECT_OPENAI_OTHER, false},
		{"POST", "/v1/responses/resp_1/cancel", ROUTE_STORED, DIALECT_OPENAI_OTHER, false},
		{"DELETE", "/v1//responses/resp_1/", ROUTE_STORED, DIALECT_OPENAI_OTHER, false},
		{"GET", "/v1/responses", ROUTE_PASS, DIALECT_OPENAI_OTHER, false},
		{"POST", "/api/blobs/sha256:0", ROUTE_PASS, DIALECT_OLLAMA_OTHER, false},
		{"GET", "/nothing", ROUTE_PASS, DIALECT_OLLAMA_OTHER, false},
		{"GET", "", ROUTE_PASS, DIALECT_OLLAMA_OTHER, false},
		{"GET", "*", ROUTE_PASS, DIALECT_OLLAMA_OTHER, false},
		{"GET", "/%", ROUTE_PASS, DIALECT_OLLAMA_OTHER, false},
		{"GET", "/%00api/tags", ROUTE_PASS, DIALECT_OLLAMA_OTHER, false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct route r;
		route_find(rows[i].method, slice_str(rows[i].path), &r);
		if (r.kind != rows[i].kind || r.dialect != rows[i].dialect ||
			r.works != rows[i].works)
			fail_msg("%s %s: kind %d dialect %d works %d", rows[i].method, rows[i].path,
				(int)r.kind, (int)r.dialect, r.works);
	}
}

static void what_may_change_a_server(void **state)
{
	static const struct {
		const char *method, *path;
		bool changes;
	} rows[] = {
		{"POST", "/api/chat", false},
		{"GET", "/api/chat", false},
		{"DELETE", "/api/chat", true},
		{"POST", "/v1/chat/completions", false},
		{"POST", "/v1/embeddings", false},
		{"POST", "/api/show", false},
		{"PUT", "/api/show", true},
		{"POST", "/v1/responses", false},
		{"DELETE", "/v1/responses/resp_1", false},
		{"POST", "/tokenize", false},
		{"GET", "/", false},
		{"HEAD", "/", false},
		{"POST", "/", true},
		{"GET", "/api/tags", false},
		{"GET", "/v1/models/a", false},
		{"DELETE", "/v1/models/a", true},
		{"POST", "/api/pull", true},
		{"GET", "/api/pull", false},
		{"DELETE", "/api/delete", true},
		{"DELETE", "//api/%64elete/", true},
		{"POST", "/api/blobs/sha256:0", true},
		{"HEAD", "/api/blobs/sha256:0", false},
		{"GET", "/slots", false},
		{"POST", "/slots/0", true},
		{"POST", "/props", true},
		{"GET", "/props", false},
		{"GET", "/lora-adapters", false},
		{"POST", "/lora-adapters", true},
		{"POST", "/models/load", true},
		{"POST", "/v1/none", true},
		{"GET", "/v1/none", false},
		{"GET", "/api/none", false},
		{"GET", "/none", true},
		{"GET", "/flush_cache", true},
		{"GET", "/v1/../flush_cache", true},
		{"GET", "/v1/%2e%2e/flush_cache", true},
		{"GET", "/v1%2f..%2fflush_cache", true},
		{"GET", "/v1/a.b", false},
		{"BREW", "/api/tags", true},
		{"OPTIONS", "/api/delete", false},
		{"OPTIONS", "*", false},
	};
	struct route r;
	char longest[5000] = "/v1/";
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		route_find(rows[i].method, slice_str(rows[i].path), &r);
		if (r.changes != rows[i].changes)
			fail_msg("%s %s: %d", rows[i].method, rows[i].path, r.changes);
	}
	memset(longest + 4, 'x', sizeof(longest) - 5);
	route_find("GET", slice_str(longest), &r);
	assert_true(r.changes); /* nobody has looked at the end of it */
}

static void what_is_passed_on(void **state)
{
	struct route r;
	char longest[5000] = "/v1/";
	(void)state;
	route_find("POST", SLICE("//v1/embeddings/"), &r);
	assert_string_equal(r.path, "/v1/embeddings");
	route_find("POST", SLICE("/embeddings"), &r);
	assert_string_equal(r.v1, "/v1/embeddings");
	/* What is not known is the backend's to understand. */
	route_find("POST", SLICE("/a//b/"), &r);
	assert_null(r.path);
	memset(longest + 4, 'x', sizeof(longest) - 5);
	route_find("POST", slice_str(longest), &r);
	assert_null(r.path);
	assert_int_equal(r.dialect, DIALECT_OPENAI_OTHER);
}

static void names_of_models(void **state)
{
	static const char *const rows[][2] = {{"/v1/models/s:1b", "s:1b"},
		{"/v1/models/s%3A1b", "s:1b"}, {"/v1/models/s%3a1b/", "s:1b"},
		{"/v1/models/hf.co%2Fa%2Fb", "hf.co/a/b"}, {"/v1/models/hf.co/a/b", "hf.co/a/b"},
		{"/v1/models/50%", "50%"}, {"/v1/models/%zz%4", "%zz%4"},
		{"/v1/models/%C3%A9", "\xc3\xa9"}, {"/v1/models/a%00b", "a%00b"}};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct buf name;
		buf_init(&name, 0);
		assert_int_equal(route_model(slice_str(rows[i][0]), &name), 0);
		assert_string_equal(buf_cstr(&name), rows[i][1]);
		buf_free(&name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds),
		cmocka_unit_test(what_may_change_a_server),
		cmocka_unit_test(what_is_passed_on),
		cmocka_unit_test(names_of_models),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
