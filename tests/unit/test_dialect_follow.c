/* What a conversation goes on with: the answer, and the beginning of what its client says next. */
#include "common/dialect/answer.h"
#include "common/dialect/follow.h"
#include "tests/unit/test_dialect.h"

#define OLLAMA DIALECT_OLLAMA_CHAT
#define OPENAI DIALECT_OPENAI_CHAT
#define ANTHROPIC DIALECT_ANTHROPIC

static void message_is(const char *answer, const char *expected)
{
	char *json = json_of(answer), *want = json_of(expected);
	struct buf out = {0};
	assert_int_equal(follow_message(slice_str(json), &out), 0);
	assert_string_equal(buf_cstr(&out), want);
	buf_free(&out);
	free(json);
	free(want);
}

static void the_message_of_an_answer(void **state)
{
	(void)state;
	message_is("{'model':'m','message':{'role':'assistant', 'content':'a'},'done':true}",
		"{'role':'assistant', 'content':'a'}");
	message_is("{'choices':[{'index':0,'message':{'role':'assistant','content':null}},"
		   "{'message':{}}],'usage':{}}",
		"{'role':'assistant','content':null}");
	message_is("{'id':'x','role':'assistant','content':[ {'type':'text','text':'a'}],"
		   "'stop_reason':'end_turn'}",
		"{'role':'assistant','content':[ {'type':'text','text':'a'}]}");
	message_is("{'object':'response','output':[{'type':'compaction','encrypted_content':'x'},"
		   "{'type':'reasoning','summary':[{'type':'summary_text','text':'hm'}]},"
		   "{'type':'message','role':'assistant','content':[{'type':'output_text','text':"
		   "'a\\nb'}]},{'type':'function_call','call_id':'c1','name':'f','arguments':'{}'},"
		   "{'type':'custom_tool_call','call_id':'c2','namespace':'n','name':'g','input':"
		   "'x'}],'usage':null}",
		"{'role':'assistant','content':'a\\nb','reasoning_content':'hm','tool_calls':["
		"{'id':'c1','type':'function','function':{'name':'f','arguments':'{}'}},"
		"{'id':'c2','type':'function','function':{'name':'n__g','arguments':"
		"'{\\'input\\':\\'x\\'}'}}]}");
	message_is("{'object':'response','output':[]}", "");
	message_is("{'object':'response','output':[{'type':'nonsense'}]}", "");
	message_is("{'object':'response'}", "");
	message_is("{'response':'a','done':true}", "");
	message_is("{'choices':[{'text':'a'}]}", "");
	message_is("{'choices':[]}", "");
	message_is("{'role':'user','content':'a'}", "");
	message_is("[]", "");
	message_is("{'message':", "");
	message_is("", "");
}

struct vector {
	enum dialect dialect;
	const char *body, *message, *expected; /* NULL: -EINVAL */
};

#define ASKED "{'model':'m','messages':[{'role':'user','content':'q'}"
#define TEXT "{'role':'assistant','content':'a'}"

static const struct vector vectors[] = {
	{OPENAI, ASKED " ] ,'x':1}\n", TEXT,
		ASKED " ," TEXT ",{'role':'user','content':''}] ,'x':1}\n"},
	{OLLAMA, ASKED "]}",
		"{'role':'assistant','content':'','tool_calls':[{'id':'c1','function':{'name':'ls',"
		"'arguments':{}}},{'id':'c2','function':{'name':'cat','arguments':{}}}]}",
		ASKED
		",{'role':'assistant','content':'','tool_calls':[{'id':'c1','function':{'name':"
		"'ls','arguments':{}}},{'id':'c2','function':{'name':'cat','arguments':{}}}]},"
		"{'role':'tool','tool_call_id':'c1','tool_name':'ls','content':''}]}"},
	{OPENAI, ASKED "]}",
		"{'role':'assistant','content':null,'tool_calls':[{'id':'c1','type':'function',"
		"'function':{'name':'ls','arguments':'{}'}}]}",
		ASKED
		",{'role':'assistant','content':null,'tool_calls':[{'id':'c1','type':'function',"
		"'function':{'name':'ls','arguments':'{}'}}]},"
		"{'role':'tool','tool_call_id':'c1','content':''}]}"},
	{ANTHROPIC, ASKED "],'max_tokens':9}",
		"{'role':'assistant','content':[{'type':'text','text':'I "
		"look.'},{'type':'tool_use',"
		"'id':'t1','name':'ls','input':{}}]}",
		ASKED
		",{'role':'assistant','content':[{'type':'text','text':'I look.'},{'type':"
		"'tool_use','id':'t1','name':'ls','input':{}}]},{'role':'user','content':[{'type':"
		"'tool_result','tool_use_id':'t1','content':''}]}],'max_tokens':9}"},
	{ANTHROPIC, ASKED "],'max_tokens':9}",
		"{'role':'assistant','content':[{'type':'text','text':'Done.'}]}",
		ASKED ",{'role':'assistant','content':[{'type':'text','text':'Done.'}]},"
		      "{'role':'user','content':''}],'max_tokens':9}"},
	{DIALECT_RESPONSES, ASKED "],'tandem_instructions':1}",
		"{'role':'assistant','content':'','tool_calls':[{'id':'c1','type':'function',"
		"'function':{'name':'ls','arguments':'{}'}}]}",
		ASKED
		",{'role':'assistant','content':'','tool_calls':[{'id':'c1','type':'function',"
		"'function':{'name':'ls','arguments':'{}'}}]},{'role':'tool','tool_call_id':'c1',"
		"'content':''}],'tandem_instructions':1}"},
	{OPENAI, ASKED "]}", "{'role':'user','content':'a'}", NULL},
	{OPENAI, ASKED "]}", "{'role':'assistant','content':'a'", NULL},
	{OPENAI, ASKED "]}", "{'role':'assistant'}]}{", NULL},
	{OPENAI, ASKED "]}", "", NULL},
	{DIALECT_OLLAMA_GENERATE, "{'model':'m','prompt':'q'}", TEXT, NULL},
};

/* Also: what comes out is a request of that dialect, with two messages more. */
static void a_request_goes_on(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		const struct vector *v = &vectors[i];
		char *body = json_of(v->body), *message = json_of(v->message);
		struct chat_request r, again;
		struct dialect_error error;
		struct buf out = {0};
		assert_int_equal(chat_request_parse(v->dialect, slice_str(body), &r, &error), 0);
		int rc = follow_request(&r, slice_str(message), &out);
		assert_int_equal(rc, v->expected ? 0 : -EINVAL);
		assert_true(v->expected || out.n == 0);
		if (v->expected) {
			char *expected = json_of(v->expected);
			assert_string_equal(buf_cstr(&out), expected);
			free(expected);
			assert_int_equal(
				chat_request_parse(v->dialect, buf_slice(&out), &again, &error), 0);
			assert_int_equal(again.count, r.count + 2);
			chat_request_fini(&again);
		}
		chat_request_fini(&r);
		buf_free(&out);
		free(body);
		free(message);
	}
}

static void the_buffers_cap_holds(void **state)
{
	(void)state;
	char *body = json_of(ASKED "]}"), *message = json_of(TEXT);
	struct chat_request r;
	struct dialect_error error;
	struct buf out;
	buf_init(&out, strlen(body) + 20);
	assert_int_equal(chat_request_parse(OPENAI, slice_str(body), &r, &error), 0);
	assert_int_equal(follow_request(&r, slice_str(message), &out), -E2BIG);
	chat_request_fini(&r);
	buf_free(&out);
	free(body);
	free(message);
}

/* Whatever a writer makes of an answer has a message, where its API has conversations. */
static void every_writers_answer_has_one(void **state)
{
	(void)state;
	static const enum dialect dialects[] = {OLLAMA, OPENAI, ANTHROPIC, DIALECT_RESPONSES};
	for (size_t i = 0; i < COUNT(dialects); i++) {
		struct answer_writer *w =
			answer_writer_create(dialects[i], false, SLICE("m"), "x", false, 0);
		struct buf object = {0}, message = {0};
		assert_non_null(w);
		const struct answer_event events[] = {
			{.kind = ANSWER_TEXT, .text = SLICE("I \"look\"")},
			{.kind = ANSWER_TOOL_BEGIN, .id = SLICE("c1"), .name = SLICE("ls")},
			{.kind = ANSWER_TOOL_ARGS, .text = SLICE("{\"p\":1}")},
			{.kind = ANSWER_TOOL_END},
			{.kind = ANSWER_END, .finish = FINISH_TOOL_CALLS},
		};
		for (size_t k = 0; k < COUNT(events); k++)
			assert_int_equal(answer_writer_put(w, &events[k], &object), 0);
		assert_int_equal(follow_message(buf_slice(&object), &message), 0);
		assert_non_null(strstr(buf_cstr(&message), "I \\\"look\\\""));
		assert_non_null(strstr(buf_cstr(&message), "\"c1\""));
		buf_free(&object);
		buf_free(&message);
		answer_writer_destroy(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_message_of_an_answer),
		cmocka_unit_test(a_request_goes_on),
		cmocka_unit_test(the_buffers_cap_holds),
		cmocka_unit_test(every_writers_answer_has_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
