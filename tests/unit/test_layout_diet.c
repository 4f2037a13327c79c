/* The schema diet: what a call needs stays, what was called wrongly comes back. */
#include "common/layout/diet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define TOOL                                                                                       \
	"{\"type\":\"function\",\"function\":{\"name\":\"edit\",\"description\":\"Edits a file. "  \
	"Use it with care, e.g. for a small change.\\nMore text.\",\"parameters\":{\"type\":"      \
	"\"object\",\"title\":\"Edit\",\"properties\":{\"title\":{\"type\":\"string\","            \
	"\"description\":\"The title of it! And then some more.\",\"examples\":[\"a\",\"b\"]},"    \
	"\"mode\":{\"enum\":[\"a\",\"b\"],\"default\":\"a\"},\"description\":{\"type\":"           \
	"\"string\"}},"                                                                            \
	"\"required\":[\"title\"],\"additionalProperties\":false}}}"

static const char dieted[] =
	"[{\"type\":\"function\",\"function\":{\"name\":\"edit\",\"description\":\"Edits a file.\","
	"\"parameters\":{\"type\":\"object\",\"properties\":{\"title\":{\"type\":\"string\","
	"\"description\":\"The title of it!\"},\"mode\":{\"enum\":[\"a\",\"b\"],\"default\":\"a\"},"
	"\"description\":{\"type\":\"string\"}},\"required\":[\"title\"],\"additionalProperties\":"
	"false}"
	"}}]";

static void diet(const char *call, struct buf *out, size_t *full)
{
	struct chat_request r;
	struct dialect_error error;
	struct buf body;
	buf_init(&body, 0);
	buf_init(out, 0);
	buf_printf(&body,
		"{\"model\":\"m\",\"tools\":[%s],\"messages\":[{\"role\":\"user\",\"content\":"
		"\"x\"}%s]}",
		TOOL, call);
	assert_int_equal(chat_request_parse(DIALECT_OPENAI_CHAT, buf_slice(&body), &r, &error), 0);
	assert_int_equal(layout_diet(&r, out, full), 0);
	chat_request_fini(&r);
	buf_free(&body);
}

static void test_what_a_call_needs_stays(void **state)
{
	struct buf out;
	size_t full;
	(void)state;
	diet("", &out, &full);
	assert_string_equal(buf_cstr(&out), dieted);
	assert_int_equal(full, 0);
	buf_free(&out);
}

static void test_wrong_calls_bring_the_text_back(void **state)
{
	static const struct {
		const char *arguments;
		bool wrong;
	} cases[] = {
		{"\"{\\\"title\\\":\\\"a\\\"}\"", false},
		{"\"{\\\"title\\\":\\\"a\\\",\\\"mode\\\":\\\"b\\\"}\"", false},
		{"{\"title\":\"a\"}", false},
		{"\"{\\\"titel\\\":\\\"a\\\"}\"", true},
		{"\"{\\\"title\\\":\\\"a\\\",\\\"other\\\":1}\"", true},
		{"\"{broken\"", true},
		{"\"[]\"", true},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf out, call;
		size_t full;
		buf_init(&call, 0);
		buf_printf(&call,
			",{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"type\":"
			"\"function\",\"function\":{\"name\":\"edit\",\"arguments\":%s}}]},"
			"{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"x\"}",
			cases[i].arguments);
		diet(buf_cstr(&call), &out, &full);
		assert_int_equal(full, cases[i].wrong);
		assert_string_equal(buf_cstr(&out), cases[i].wrong ? "[" TOOL "]" : dieted);
		buf_free(&out);
		buf_free(&call);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_a_call_needs_stays),
		cmocka_unit_test(test_wrong_calls_bring_the_text_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
