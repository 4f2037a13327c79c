/* The model's name in an answer that goes back as it came, in whatever pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/dialect/naming.h"

static void named(const char *in, const char *want, bool lines, size_t piece)
{
	struct naming n;
	struct buf out;
	size_t size = strlen(in);
	assert_int_equal(naming_init(&n, SLICE("claude \"x\""), lines), 0);
	buf_init(&out, 0);
	for (size_t at = 0; at < size; at += piece) {
		size_t left = size - at;
		assert_int_equal(
			naming_put(&n, (struct slice){in + at, left < piece ? left : piece}, &out),
			0);
	}
	assert_string_equal(buf_cstr(&out), want);
	buf_free(&out);
	naming_fini(&n);
}

#define NAME "\"claude \\\"x\\\"\""

static const struct {
	bool lines;
	const char *in, *out;
} cases[] = {
	{true, "{\"model\":\"m:1b\",\"done\":false}\n{\"model\":\"m:1b\",\"done\":true}\n",
		"{\"model\":" NAME ",\"done\":false}\n{\"model\":" NAME ",\"done\":true}\n"},
	{true,
		"data: {\"choices\":[{\"delta\":{\"content\":\"\\\"model\\\":\\\\\"}}],\"model\" : "
		"\"a\\\"b\"}\r\n\r\n: keep-alive {\"model\":\"m\"}\n\nevent: "
		"x\ndata:{\"model\":\"m\"}\n\n"
		"data: [DONE]\n\n",
		"data: {\"choices\":[{\"delta\":{\"content\":\"\\\"model\\\":\\\\\"}}],\"model\" "
		": " NAME
		"}\r\n\r\n: keep-alive {\"model\":\"m\"}\n\nevent: x\ndata:{\"model\":" NAME
		"}\n\ndata: [DONE]\n\n"},
	/* only the object's own member, and only where it is a string */
	{true,
		"{\"a\":{\"model\":\"in\"},\"b\":[{\"model\":\"in\"},\"model\"],\"models\":\"x\","
		"\"c\":"
		"\"model\",\"model\":null}\n",
		"{\"a\":{\"model\":\"in\"},\"b\":[{\"model\":\"in\"},\"model\"],\"models\":\"x\","
		"\"c\":"
		"\"model\",\"model\":null}\n"},
	{true, "{\"model\":{\"model\":\"in\"},\"model\":[\"in\"]}\n",
		"{\"model\":{\"model\":\"in\"},\"model\":[\"in\"]}\n"},
	/* the events of /v1/responses */
	{true,
		"data: {\"type\":\"response.created\",\"response\":{\"tools\":[{\"model\":\"in\"}],"
		"\"model\":\"m\",\"x\":1},\"y\":2}\n\n",
		"data: {\"type\":\"response.created\",\"response\":{\"tools\":[{\"model\":\"in\"}],"
		"\"model\":" NAME ",\"x\":1},\"y\":2}\n\n"},
	{true, "{\"response\":\"text\",\"model\":\"m\"}\n{\"response\":[{\"model\":\"in\"}]}\n",
		"{\"response\":\"text\",\"model\":" NAME
		"}\n{\"response\":[{\"model\":\"in\"}]}\n"},
	/* what breaks off is at an end with its line */
	{true, "{\"model\":\"m\n{\"model\":\"m\"}\n",
		"{\"model\":" NAME "\n{\"model\":" NAME "}\n"},
	{true, "{\"a\":\"{\n{\"model\":\"m\"}", "{\"a\":\"{\n{\"model\":" NAME "}"},
	{true, "no JSON {\"model\":\"m\"}\n\n\n", "no JSON {\"model\":\"m\"}\n\n\n"},
	/* one object, on as many lines as it likes */
	{false,
		"\n {\n  \"list\": [1, 2],\n  \"model\": \"m\",\n  \"model_info\": {\"model\": "
		"\"in\"}\n}\n",
		"\n {\n  \"list\": [1, 2],\n  \"model\": " NAME
		",\n  \"model_info\": {\"model\": \"in\"}\n}\n"},
	{false, "[{\"model\":\"m\"}]", "[{\"model\":\"m\"}]"},
	{false, "{}{\"model\":\"m\"}", "{}{\"model\":\"m\"}"},
	{false, "{\"model\":\"\"}", "{\"model\":" NAME "}"},
	{false, "}}]]\"model\":\"m\"", "}}]]\"model\":\"m\""},
	{false, "", ""},
};

static void whole_and_in_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		for (size_t piece = 1; piece < 100; piece = piece * 3 - 1)
			named(cases[i].in, cases[i].out, cases[i].lines, piece);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(whole_and_in_pieces)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
