/* common/dialect/tune: what is added to a client's Ollama request, and that nothing else changes.
 */
#include "common/dialect/tune.h"
#include "tests/unit/test_dialect.h"

#define CHAT DIALECT_OLLAMA_CHAT
#define GENERATE DIALECT_OLLAMA_GENERATE
#define U "'messages':[{'role':'user','content':'q'}]"

static const struct {
	enum dialect dialect;
	int64_t num_ctx;
	const char *body, *sent; /* sent NULL: nothing is written */
} vectors[] = {
	{CHAT, 8192, "{'model':'m'," U "}",
		"{'truncate':false,'options':{'num_ctx':8192},'model':'m'," U "}"},
	{CHAT, 0, "{'model':'m'," U "}", "{'truncate':false,'model':'m'," U "}"},
	{GENERATE, 8192, "{'model':'m','prompt':'p'}",
		"{'truncate':false,'options':{'num_ctx':8192},'model':'m','prompt':'p'}"},
	/* Nothing to change. */
	{CHAT, 8192, "{'model':'m','truncate':false,'options':{'num_ctx':8192}," U "}", NULL},
	{CHAT, 8192, "{'model':'m','truncate':false,'options':{'num_ctx':8.192e3}," U "}", NULL},
	{CHAT, 0, "{'model':'m','truncate':false,'options':{'seed':1}," U "}", NULL},
	/* What the client says itself of a cut is its own affair. */
	{CHAT, 0, "{'model':'m','truncate':true," U "}", NULL},
	{CHAT, 0, "{'model':'m','truncate':null," U "}", NULL},
	/* The client's window gives way, spacing and other options stay. */
	{CHAT, 8192,
		" { 'model' :'m', 'options' : { 'seed' : 1.0 , 'num_ctx':2048, 'x':[1 ] } ," U
		" }\n",
		" {'truncate':false, 'model' :'m', 'options' : {'num_ctx':8192,'seed' : 1.0,'x':[1 "
		"]} ," U " }\n"},
	{CHAT, 0, "{'truncate':false,'options':{'num_ctx':2048},'model':'m'," U "}",
		"{'truncate':false,'options':{},'model':'m'," U "}"},
	{CHAT, 0,
		"{'truncate':false,'options':{'num_ctx':2048,'num_ctx':4096,'a':1},'model':'m'," U
		"}",
		"{'truncate':false,'options':{'a':1},'model':'m'," U "}"},
	{CHAT, 4096,
		"{'truncate':false,'options':{'num_ctx':2048,'num_ctx':4096},'model':'m'," U "}",
		"{'truncate':false,'options':{'num_ctx':4096},'model':'m'," U "}"},
	{CHAT, 4096, "{'truncate':false,'options':null,'model':'m'," U "}",
		"{'truncate':false,'options':{'num_ctx':4096},'model':'m'," U "}"},
	{CHAT, 4096, "{'truncate':false,'options':{'num\\u005fctx':5},'model':'m'," U "}",
		"{'truncate':false,'options':{'num_ctx':4096},'model':'m'," U "}"},
	{CHAT, 4096, "{'truncate':false,'options':{'num_ctx':'big'},'model':'m'," U "}",
		"{'truncate':false,'options':{'num_ctx':4096},'model':'m'," U "}"},
	/* The client's mistake is for Ollama to name. */
	{CHAT, 4096, "{'truncate':false,'options':[1],'model':'m'," U "}", NULL},
	/* Loads get the window, else they would load another one; unloads nothing. */
	{CHAT, 8192, "{'model':'m'}", "{'options':{'num_ctx':8192},'model':'m'}"},
	{GENERATE, 8192, "{'model':'m','prompt':''}",
		"{'options':{'num_ctx':8192},'model':'m','prompt':''}"},
	{GENERATE, 8192, "{'model':'m','prompt':'','keep_alive':0}", NULL},
	{DIALECT_OPENAI_CHAT, 8192, "{" U "}", NULL},
};

static void adds_what_is_missing_and_nothing_else(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		char *text = json_of(vectors[i].body);
		char *sent = json_of(vectors[i].sent ? vectors[i].sent : "");
		struct chat_request r;
		struct dialect_error error = {0};
		struct buf out;
		buf_init(&out, 0);
		if (chat_request_parse(vectors[i].dialect, slice_str(text), &r, &error))
			fail_msg("%s: %s", text, error.text);
		assert_int_equal(chat_request_tune(&r, vectors[i].num_ctx, &out), 0);
		assert_string_equal(buf_cstr(&out), sent);
		chat_request_fini(&r);
		/* Once is enough. */
		if (out.n) {
			struct buf again;
			buf_init(&again, 0);
			assert_int_equal(
				chat_request_parse(vectors[i].dialect, buf_slice(&out), &r, &error),
				0);
			assert_int_equal(chat_request_tune(&r, vectors[i].num_ctx, &again), 0);
			assert_int_equal(again.n, 0);
			chat_request_fini(&r);
			buf_free(&again);
		}
		buf_free(&out);
		free(sent);
		free(text);
	}
}

static void a_full_buffer_is_an_error(void **state)
{
	(void)state;
	char *text = json_of("{'model':'m'," U "}");
	struct chat_request r;
	struct dialect_error error;
	struct buf out;
	buf_init(&out, 20);
	assert_int_equal(chat_request_parse(CHAT, slice_str(text), &r, &error), 0);
	assert_int_equal(chat_request_tune(&r, 4096, &out), -E2BIG);
	chat_request_fini(&r);
	buf_free(&out);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adds_what_is_missing_and_nothing_else),
		cmocka_unit_test(a_full_buffer_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
