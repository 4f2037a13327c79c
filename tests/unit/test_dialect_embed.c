/* Ollama's embeddings, asked of a llama-server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/dialect/embed.h"

#include <errno.h>

static void paths(void **state)
{
	bool legacy;
	(void)state;
	assert_true(embed_path(SLICE("/api/embed"), &legacy));
	assert_false(legacy);
	assert_true(embed_path(SLICE("/api/embeddings"), &legacy));
	assert_true(legacy);
	assert_false(embed_path(SLICE("/v1/embeddings"), &legacy));
}

static void requests(void **state)
{
	static const struct {
		bool legacy;
		const char *body;
		const char *sent; /* NULL: refused; "": nothing to ask */
	} cases[] = {
		{false, "{\"model\":\"m\",\"input\":\"a\\u00e9\",\"truncate\":true}",
			"{\"model\":\"m\",\"encoding_format\":\"float\",\"input\":\"a\\u00e9\"}"},
		{false, "{\"name\":\"m\",\"input\":[\"a\", \"b\"],\"dimensions\":64}",
			"{\"model\":\"m\",\"encoding_format\":\"float\",\"input\":[\"a\", \"b\"],"
			"\"dimensions\":64}"},
		{true, "{\"model\":\"m\",\"prompt\":\"a\"}",
			"{\"model\":\"m\",\"encoding_format\":\"float\",\"input\":\"a\"}"},
		{false, "{\"model\":\"m\",\"input\":[]}", ""},
		{false, "{\"model\":\"m\",\"input\":\"\"}", ""},
		{false, "{\"model\":\"m\"}", ""},
		{true, "{\"model\":\"m\",\"prompt\":\"\"}", ""},
		{true, "{\"model\":\"m\",\"prompt\":[\"a\"]}", NULL},
		{false, "{\"model\":\"m\",\"input\":3}", NULL},
		{false, "{\"model\":\"m\",\"input\":[\"a\",3]}", NULL},
		{false, "{\"model\":\"\",\"input\":\"a\"}", NULL},
		{false, "{\"input\":\"a\"}", NULL},
		{false, "[]", NULL},
		{false, "{", NULL},
		{false, "", NULL},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct embed_request r = {.legacy = cases[i].legacy};
		struct dialect_error error = {0};
		struct buf out;
		buf_init(&out, 0);
		int rc = embed_request_read(&r, slice_str(cases[i].body), &out, &error);
		assert_int_equal(rc, cases[i].sent ? 0 : -EINVAL);
		if (rc) {
			assert_int_equal(error.status, 400);
			assert_true(error.text[0]);
		} else {
			assert_int_equal(r.nothing, !*cases[i].sent);
			assert_string_equal(buf_cstr(&out), cases[i].sent);
		}
		embed_request_fini(&r);
		buf_free(&out);
	}
}

static int write_answer(bool legacy, bool nothing, const char *theirs, struct buf *out)
{
	struct embed_request r = {.legacy = legacy, .nothing = nothing, .name = SLICE("\"m\"")};
	buf_init(out, 0);
	return embed_answer_write(&r, slice_str(theirs), 5, out);
}

static void answers(void **state)
{
	static const char two[] =
		"{\"object\":\"list\",\"data\":[{\"index\":1,\"embedding\":[3,4]},{\"index\":0,"
		"\"embedding\":[1,-2.5e-1]}],\"usage\":{\"prompt_tokens\":7}}";
	static const char one[] = "{\"data\":[{\"index\":0,\"embedding\":[1]}]}";
	static const char twice[] = "{\"data\":[{\"index\":0,\"embedding\":[1]},"
				    "{\"index\":0,\"embedding\":[1]}]}";
	static const char *const bad[] = {"", "{}", "[]", "{\"data\":[]}", "{\"data\":[{}]}",
		"{\"data\":[{\"embedding\":\"AAAA\"}]}", twice};
	struct buf out;
	(void)state;
	assert_int_equal(write_answer(false, false, two, &out), 0);
	assert_string_equal(buf_cstr(&out), "{\"model\":\"m\",\"embeddings\":[[1,-2.5e-1],[3,4]],"
					    "\"total_duration\":5,\"prompt_eval_count\":7}");
	buf_free(&out);
	assert_int_equal(write_answer(true, false, one, &out), 0);
	assert_string_equal(buf_cstr(&out), "{\"embedding\":[1]}");
	buf_free(&out);
	assert_int_equal(write_answer(true, false, two, &out), -EPROTO);
	buf_free(&out);
	assert_int_equal(write_answer(false, true, "", &out), 0);
	assert_string_equal(
		buf_cstr(&out), "{\"model\":\"m\",\"embeddings\":[],\"total_duration\":5}");
	buf_free(&out);
	assert_int_equal(write_answer(true, true, "", &out), 0);
	assert_string_equal(buf_cstr(&out), "{\"embedding\":[]}");
	buf_free(&out);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(write_answer(false, false, bad[i], &out), -EPROTO);
		buf_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths),
		cmocka_unit_test(requests),
		cmocka_unit_test(answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
