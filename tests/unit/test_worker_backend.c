/* What the two backends' probes teach, and the Ollama API's questions answered for a llama-server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "common/base/json.h"
#include "workers/backend/backend.h"

static const struct settings no_settings;

static enum probe_verdict learn(const struct backend_kind *ops, struct backend_view *v,
	unsigned step, int status, const char *body)
{
	return ops->learn(&no_settings, v, step, status, slice_str(body));
}

static struct json_value parse(struct slice text)
{
	struct json_value root;
	assert_int_equal(json_parse(text, JSON_MAX_DEPTH, &root, NULL), 0);
	return root;
}

static void ollama_is_known_by_its_version(void **state)
{
	static const struct {
		int status;
		const char *body;
		enum probe_verdict verdict;
	} cases[] = {
		{200, "{\"version\":\"0.5.1\"}", PROBE_OK},
		{200, "{\"version\":1}", PROBE_WRONG},
		{200, "{}", PROBE_WRONG},
		{200, "hello", PROBE_WRONG},
		{200, "", PROBE_WRONG},
		{404, "{\"version\":\"0.5.1\"}", PROBE_WRONG},
	};
	struct backend_view v = {0};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(learn(&ollama_kind, &v, 0, cases[i].status, cases[i].body),
			cases[i].verdict);
}

static void ollama_lists_models_and_windows(void **state)
{
	const struct settings s = {.model = (char *)(uintptr_t) "b:2b"};
	struct backend_view v = {0};
	(void)state;
	assert_int_equal(
		learn(&ollama_kind, &v, 1, 200,
			"{\"models\":[{\"name\":\"a:1b\",\"modified_at\":\"2026-08-21T12:00:00.25+"
			"02:00\"},"
			"{\"no\":\"name\"},3,{\"name\":\"b:2b\",\"modified_at\":\"garbage\"}]}"),
		PROBE_OK);
	assert_int_equal(ollama_kind.learn(&s, &v, 2, 200,
				 SLICE("{\"models\":[{\"name\":\"b:2b\",\"context_length\":8192},{"
				       "\"name\":\"a:1b\"}]}")),
		PROBE_OK);
	assert_int_equal(v.count, 2);
	assert_string_equal(v.model, "b:2b");
	assert_int_equal(v.models[0].window, 0);
	assert_int_equal(v.models[1].window, 8192);
	assert_int_equal(v.window, 8192);
	assert_string_equal(
		v.models[1].ollama_json, "{\"name\":\"b:2b\",\"modified_at\":\"garbage\"}");
	int64_t created;
	assert_true(json_to_int(
		json_get(parse(slice_str(v.models[0].openai_json)), "created"), &created));
	assert_int_equal(created, 1787306400); /* 2026-08-21T10:00:00Z */
	assert_string_equal(v.models[1].openai_json,
		"{\"id\":\"b:2b\",\"object\":\"model\",\"created\":0,\"owned_by\":\"library\"}");
	backend_view_fini(&v);
}

static void any_server_tells_its_window_in_its_own_words(void **state)
{
	static const struct {
		const char *model;
		int64_t window;
	} cases[] = {
		{"{\"id\":\"m\",\"owned_by\":\"vllm\",\"max_model_len\":32768}", 32768},
		{"{\"id\":\"m\",\"context_length\":131072}", 131072},
		{"{\"id\":\"m\",\"context_window\":8192}", 8192},
		{"{\"id\":\"m\",\"max_context_length\":32768,\"loaded_context_length\":4096}",
			4096},
		{"{\"id\":\"m\",\"meta\":{\"n_ctx\":2048,\"n_ctx_train\":40960}}", 2048},
		{"{\"id\":\"m\",\"max_model_len\":null}", 0},
		{"{\"id\":\"m\",\"max_model_len\":-1}", 0},
		{"{\"id\":\"m\"}", 0},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct backend_view v = {0};
		char body[256];
		snprintf(body, sizeof(body), "{\"object\":\"list\",\"data\":[%s]}", cases[i].model);
		assert_int_equal(learn(&openai_kind, &v, 0, 200, body), PROBE_OK);
		assert_int_equal(v.count, 1);
		assert_int_equal(v.window, cases[i].window);
		assert_int_equal(v.models[0].window, cases[i].window);
		assert_string_equal(v.models[0].openai_json, cases[i].model);
		assert_string_equal(v.model, "m");
		backend_view_fini(&v);
	}
}

static void any_server_is_known_by_its_list(void **state)
{
	static const struct {
		int status;
		const char *body;
		enum probe_verdict verdict;
	} cases[] = {
		{200, "{\"object\":\"list\",\"data\":[]}", PROBE_OK},
		{200, "{\"data\":[3,{\"no\":\"id\"},{\"id\":5}]}", PROBE_OK},
		{200, "{\"models\":[]}", PROBE_WRONG},
		{200, "[]", PROBE_WRONG},
		{200, "<html>", PROBE_WRONG},
		{404, "{\"data\":[]}", PROBE_WRONG},
		{500, "", PROBE_WRONG},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct backend_view v = {0};
		assert_int_equal(learn(&openai_kind, &v, 0, cases[i].status, cases[i].body),
			cases[i].verdict);
		assert_int_equal(v.count, 0);
		backend_view_fini(&v);
	}
}

static void each_kind_is_a_row(void **state)
{
	(void)state;
	for (enum backend_type t = 0; t < BACKEND_TYPES; t++) {
		assert_non_null(backend_kind(t));
		assert_non_null(backend_kind(t)->steps[0]);
		assert_string_equal(backend_profile(t)->name, backend_type_names[t]);
		assert_int_equal(backend_profile(t)->traits & ~TRAITS_ALL, 0);
		assert_true(
			backend_profile(t)->traits); /* 0 means in STATE that nothing was said */
	}
	assert_null(backend_type_names[BACKEND_TYPES]);
	assert_ptr_equal(backend_kind(BACKEND_TYPE_OPENAI), &openai_kind);
}

static void without_a_model_one_is_settled_on(void **state)
{
	static const char tags[] =
		"{\"models\":[{\"name\":\"embed:latest\",\"capabilities\":[\"embedding\"]},"
		"{\"name\":\"new:1b\",\"capabilities\":[\"completion\"]},{\"name\":\"Old:latest\"}]"
		"}";
	static const char ps[] = "{\"models\":[{\"name\":\"old:latest\",\"context_length\":8192}]}";
	static const struct {
		const char *settled, *model;
		int64_t window;
	} cases[] = {
		{NULL, "new:1b", 0}, /* the first that can answer */
		{"old", "Old:latest", 8192},
		{"new:1b", "new:1b", 0},
		{"gone:7b", "new:1b", 0},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct settings s = {.settled = (char *)(uintptr_t)cases[i].settled};
		struct backend_view v = {0};
		assert_int_equal(ollama_kind.learn(&s, &v, 1, 200, slice_str(tags)), PROBE_OK);
		assert_int_equal(ollama_kind.learn(&s, &v, 2, 200, slice_str(ps)), PROBE_OK);
		assert_string_equal(v.model, cases[i].model);
		assert_int_equal(v.window, cases[i].window);
		backend_view_fini(&v);
	}
}

static void ollama_may_have_no_models(void **state)
{
	struct backend_view v = {0};
	(void)state;
	assert_int_equal(learn(&ollama_kind, &v, 1, 200, "{\"models\":null}"), PROBE_OK);
	assert_int_equal(learn(&ollama_kind, &v, 2, 404, "404 page not found"), PROBE_OK);
	assert_int_equal(v.count, 0);
	assert_null(v.model);
	assert_int_equal(learn(&ollama_kind, &v, 1, 200, "{\"models\":{}}"), PROBE_WRONG);
	assert_int_equal(learn(&ollama_kind, &v, 1, 500, "{\"models\":[]}"), PROBE_WRONG);
	backend_view_fini(&v);
}

static const char props[] =
	"{\"default_generation_settings\":{\"n_ctx\":4096,\"params\":{}},\"total_slots\":2,"
	"\"model_path\":\"/m/qwen3-1.7b-Q4_K_M.gguf\",\"chat_template\":\"{{ enable_thinking }}\","
	"\"chat_template_caps\":{\"supports_tools\":true},\"modalities\":{\"vision\":true,"
	"\"audio\":false}}";
static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"qwen\\u0033\",\"object\":"
			     "\"model\",\"created\":17,"
			     "\"owned_by\":\"llamacpp\",\"meta\":{\"n_ctx_train\":40960,\"n_"
			     "params\":1720574976,\"size\":1107402752}}]}";

static void llama_view(struct backend_view *v)
{
	assert_int_equal(learn(&llama_server_kind, v, 0, 200, "{\"status\":\"ok\"}"), PROBE_OK);
	assert_int_equal(learn(&llama_server_kind, v, 1, 200, props), PROBE_OK);
	assert_int_equal(learn(&llama_server_kind, v, 2, 404, "{}"), PROBE_OK);
	assert_int_equal(learn(&llama_server_kind, v, 3, 200, models), PROBE_OK);
}

/* The path without a stream's name is a 400 where it is known; a router, which has no slots, is none. */
static void llama_server_says_whether_it_keeps_streams(void **state)
{
	static const struct {
		const char *props;
		int status;
		bool replays;
	} cases[] = {{"{\"total_slots\":2}", 400, true}, {"{\"total_slots\":2}", 404, false},
		{"{\"total_slots\":2}", 200, false}, {"{}", 400, false}};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct backend_view v = {0};
		assert_int_equal(learn(&llama_server_kind, &v, 1, 200, cases[i].props), PROBE_OK);
		assert_int_equal(learn(&llama_server_kind, &v, 2, cases[i].status, "{}"), PROBE_OK);
		assert_int_equal(v.replays, cases[i].replays);
		backend_view_fini(&v);
	}
}

static void llama_server_is_learnt_from_props_and_models(void **state)
{
	struct backend_view v = {0};
	(void)state;
	assert_int_equal(learn(&llama_server_kind, &v, 0, 503, "{\"error\":{}}"), PROBE_LOADING);
	assert_int_equal(learn(&llama_server_kind, &v, 3, 503, ""), PROBE_LOADING);
	assert_int_equal(learn(&llama_server_kind, &v, 0, 200, "Ollama is running"), PROBE_WRONG);
	assert_int_equal(learn(&llama_server_kind, &v, 3, 200, "{\"data\":3}"), PROBE_WRONG);
	llama_view(&v);
	assert_int_equal(v.window, 4096);
	assert_int_equal(v.slots, 2);
	assert_int_equal(v.count, 1);
	assert_string_equal(v.model, "qwen3");
	assert_int_equal(v.models[0].window, 4096);

	struct json_value tag = parse(slice_str(v.models[0].ollama_json));
	struct json_value details = json_get(tag, "details");
	assert_true(json_string_is(json_get(tag, "name"), "qwen3"));
	assert_true(json_string_is(json_get(details, "quantization_level"), "Q4_K_M"));
	assert_true(json_string_is(json_get(details, "parameter_size"), "1.7B"));
	assert_int_equal(json_get(tag, "digest").raw.n, 64 + 2);
	backend_view_fini(&v);
}

static const struct settings named = {
	.traits = TRAIT_ANY_NAME, .model = (char *)(uintptr_t) "our-name", .started_s = 1787306400};

static struct slice ask(const struct backend_view *v, const char *method, const char *path,
	const char *body, int status, struct backend_answer *a)
{
	bool needs_body;
	*a = (struct backend_answer){0};
	assert_true(llama_server_kind.owns(slice_str(path), &needs_body));
	assert_int_equal(needs_body, strncmp(path, "/api/show", 9) == 0);
	assert_int_equal(llama_server_kind.answer(
				 &named, v, slice_str(method), slice_str(path), slice_str(body), a),
		0);
	assert_int_equal(a->status, status);
	return buf_slice(&a->body);
}

static void ollamas_questions_have_answers(void **state)
{
	struct backend_view v = {0};
	struct backend_answer a;
	(void)state;
	llama_view(&v);
	for (int spelling = 0; spelling < 3; spelling++) {
		static const char *const bodies[] = {"{\"model\":\"QWEN3:latest\"}",
			"{\"name\":\"qwen3\",\"model\":\"\"}", "{\"model\":\"Our-Name:latest\"}"};
		struct json_value show =
			parse(ask(&v, "POST", "/api/show?x=1", bodies[spelling], 200, &a));
		int64_t window;
		assert_true(json_to_int(
			json_get(json_get(show, "model_info"), "llama.context_length"), &window));
		assert_int_equal(window, 4096);
		assert_true(slice_eq(json_get(show, "capabilities").raw,
			SLICE("[\"completion\",\"tools\",\"vision\",\"thinking\"]")));
		buf_free(&a.body);
	}
	struct json_value ps = json_get(parse(ask(&v, "GET", "/api/ps", "", 200, &a)), "models"),
			  first;
	struct json_iter it = json_iter(ps);
	assert_true(json_array_next(&it, &first));
	assert_true(slice_eq(json_get(first, "context_length").raw, SLICE("4096")));
	/* how much of it is on a GPU: not known, some, none, all */
	static const struct {
		double share;
		const char *size_vram;
	} shares[] = {{-1, "1107402753"}, {0.5, "553701376"}, {0, "0"}, {1, "1107402752"}};
	buf_free(&a.body);
	for (size_t i = 0; i < sizeof(shares) / sizeof(*shares); i++) {
		v.gpu_share = shares[i].share;
		it = json_iter(json_get(parse(ask(&v, "GET", "/api/ps", "", 200, &a)), "models"));
		assert_true(json_array_next(&it, &first));
		assert_true(
			slice_eq(json_get(first, "size_vram").raw, slice_str(shares[i].size_vram)));
		buf_free(&a.body);
	}

	static const struct {
		const char *method, *path, *body;
		int status;
	} errors[] = {
		{"POST", "/api/show", "", 400},
		{"POST", "/api/show", "[]", 400},
		{"POST", "/api/show", "{}", 400},
		{"POST", "/api/show", "{\"model\":3}", 400},
		{"GET", "/api/show", "", 405},
		{"POST", "/api/tags", "", 405},
		{"POST", "/api/pull", "{}", 501},
		{"POST", "/api/blobs/sha256:0", "", 501},
		{"POST", "/api/show", "{\"model\":\"none:7b\"}", 404},
	};
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct slice body = ask(
			&v, errors[i].method, errors[i].path, errors[i].body, errors[i].status, &a);
		assert_true(json_is(json_get(parse(body), "error"), JSON_STRING));
		buf_free(&a.body);
	}
	backend_view_fini(&v);
	/* of two models an unknown name is neither */
	assert_int_equal(
		learn(&llama_server_kind, &v, 3, 200, "{\"data\":[{\"id\":\"a\"},{\"id\":\"b\"}]}"),
		PROBE_OK);
	ask(&v, "POST", "/api/show", "{\"model\":\"c\"}", 404, &a);
	buf_free(&a.body);
	backend_view_fini(&v);
	static const char *const others[] = {
		"/v1/models", "/props", "/apiary", "/api/embed", "/api/embeddings?x"};
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		bool needs_body;
		assert_false(llama_server_kind.owns(slice_str(others[i]), &needs_body));
	}
}

static void what_is_told_of_a_model_is_held_to_what_can_be(void **state)
{
	(void)state;
	static const struct {
		const char *loaded; /* of an object of /api/ps */
		int64_t model, gpu, percent, keep;
	} cases[] = {
		{"\"size\":800,\"size_vram\":600", 800, 600, 75, -1},
		{"\"size\":800,\"size_vram\":900", 800, 900, 100, -1},
		{"\"size\":800,\"size_vram\":0", 800, 0, 0, -1},
		{"\"size\":-800,\"size_vram\":-5", -1, -1, -1, -1},
		{"\"size\":0,\"size_vram\":0", -1, -1, -1, -1}, /* it does not know */
		{"\"size\":\"many\",\"size_vram\":null", -1, -1, -1, -1},
		{"\"size\":9223372036854775807,\"size_vram\":1", INT64_MAX, 1, 0, -1},
		{"\"expires_at\":\"2318-12-01T00:00:00Z\"", -1, -1, -1, INT32_MAX},
		{"\"expires_at\":\"0001-01-01T00:00:00Z\"", -1, -1, -1, -1},
		{"\"expires_at\":\"soon\"", -1, -1, -1, -1},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct backend_view v;
		char ps[256];
		backend_view_init(&v);
		snprintf(ps, sizeof(ps), "{\"models\":[{\"name\":\"m:1b\",%s}]}", cases[i].loaded);
		assert_int_equal(learn(&ollama_kind, &v, 1, 200,
					 "{\"models\":[{\"name\":\"m:1b\",\"size\":500}]}"),
			PROBE_OK);
		assert_int_equal(learn(&ollama_kind, &v, 2, 200, ps), PROBE_OK);
		assert_int_equal(v.serving.models, 1);
		assert_int_equal(v.serving.weight_bytes, 500);
		assert_int_equal(v.serving.model_bytes, cases[i].model);
		assert_int_equal(v.serving.gpu_bytes, cases[i].gpu);
		assert_int_equal(v.serving.gpu_percent, cases[i].percent);
		assert_int_equal(v.serving.keep_s, cases[i].keep);
		backend_view_fini(&v);
	}
	struct backend_view v;
	backend_view_init(&v);
	assert_int_equal(learn(&llama_server_kind, &v, 2, 200,
				 "{\"data\":[{\"id\":\"a\",\"meta\":{\"size\":-1,"
				 "\"n_ctx_train\":-9}}]}"),
		PROBE_OK);
	assert_int_equal(v.serving.weight_bytes, -1);
	assert_int_equal(v.serving.own_window, -1);
	backend_view_fini(&v);
}

static void a_slot_says_whether_it_guesses(void **state)
{
	(void)state;
	static const struct {
		const char *body;
		int status, told;
	} cases[] = {
		{"[{\"id\":0,\"speculative\":true}]", 200, 1},
		{"[{\"id\":0,\"speculative\":false}]", 200, 0},
		{"[{\"id\":0}]", 200, -1},
		{"[]", 200, -1},
		{"{\"error\":{}}", 501, -1},
		{"[{\"speculative\":true}]", 503, -1},
		{"", 200, -1},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(
			llama_server_kind.learn_aside(cases[i].status, slice_str(cases[i].body)),
			cases[i].told);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ollama_is_known_by_its_version),
		cmocka_unit_test(ollama_lists_models_and_windows),
		cmocka_unit_test(any_server_tells_its_window_in_its_own_words),
		cmocka_unit_test(any_server_is_known_by_its_list),
		cmocka_unit_test(each_kind_is_a_row),
		cmocka_unit_test(without_a_model_one_is_settled_on),
		cmocka_unit_test(ollama_may_have_no_models),
		cmocka_unit_test(llama_server_says_whether_it_keeps_streams),
		cmocka_unit_test(llama_server_is_learnt_from_props_and_models),
		cmocka_unit_test(ollamas_questions_have_answers),
		cmocka_unit_test(what_is_told_of_a_model_is_held_to_what_can_be),
		cmocka_unit_test(a_slot_says_whether_it_guesses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
