/* Views over requests: what is counted, what is refused, what text condensing sees. */
#include "common/dialect/request.h"
#include "tests/unit/test_dialect.h"

#define CHAT DIALECT_OLLAMA_CHAT
#define GENERATE DIALECT_OLLAMA_GENERATE
#define OPENAI DIALECT_OPENAI_CHAT
#define PROMPT DIALECT_OPENAI_TEXT

static const struct {
	enum dialect dialect;
	const char *body;
	size_t count;
	bool stream, condensable, is_load, is_unload;
	int64_t num_ctx, max_output;
	size_t chars; /* of all messages */
	unsigned images;
} views[] = {
	{CHAT, "{'model':'m','messages':[{'role':'user','content':'hi'}]}", 1, true, true, false,
		false, 0, -1, 2, 0},
	{CHAT,
		"{'model':'m','stream':false,'options':{'num_ctx':4096,'num_predict':7},'messages':"
		"["
		"{'role':'user','content':'h\\u00e9\\ud83d\\ude00','images':['aa','bb']}]}",
		1, false, true, false, false, 4096, 7, 3, 2},
	{CHAT, "{'model':'m'}", 0, true, false, true, false, 0, -1, 0, 0},
	{CHAT, "{'model':'m','messages':[],'keep_alive':0}", 0, true, false, true, true, 0, -1, 0,
		0},
	{CHAT, "{'model':'m','messages':null,'keep_alive':'0s'}", 0, true, false, true, true, 0, -1,
		0, 0},
	{CHAT,
		"{'model':'m','messages':[{'role':'user','content':'a'},{'role':'Assistant','"
		"content':'b'}]}",
		2, true, false, false, false, 0, -1, 2, 0},
	/* Of duplicate keys the last counts. */
	{CHAT,
		"{'model':'m','messages':[{'role':'user','content':'x'}],'messages':[{'role':'user'"
		",'content':"
		"'abc'},{'role':'user','content':'x','content':'de'}]}",
		2, true, true, false, false, 0, -1, 5, 0},
	/* Thinking, tool names and arguments count as text. */
	{CHAT,
		"{'model':'m','messages':[{'role':'assistant','content':'','thinking':'hmm','tool_"
		"calls':["
		"{'function':{'name':'f','arguments':{'a':1}}}]},{'role':'tool','content':'ok'}]}",
		2, true, true, false, false, 0, -1, 3 + 1 + 7 + 2, 0},
	{GENERATE, "{'model':'m','prompt':'hello'}", 1, true, true, false, false, 0, -1, 5, 0},
	{GENERATE, "{'model':'m','system':'be','prompt':'hello','images':['aa']}", 2, true, true,
		false, false, 0, -1, 7, 1},
	{GENERATE, "{'model':'m','prompt':''}", 1, true, false, true, false, 0, -1, 0, 0},
	{GENERATE, "{'model':'m','keep_alive':0,'prompt':''}", 1, true, false, true, true, 0, -1, 0,
		0},
	{GENERATE, "{'model':'m'}", 0, true, false, true, false, 0, -1, 0, 0},
	{GENERATE, "{'model':'m','prompt':'x','raw':true}", 1, true, false, false, false, 0, -1, 1,
		0},
	{GENERATE, "{'model':'m','prompt':'x','suffix':'y'}", 1, true, false, false, false, 0, -1,
		1, 0},
	{GENERATE, "{'model':'m','prompt':'x','suffix':'','context':[]}", 1, true, true, false,
		false, 0, -1, 1, 0},
	{GENERATE, "{'model':'m','prompt':'x','context':[1]}", 1, true, false, false, false, 0, -1,
		1, 0},
	{GENERATE, "{'model':'m','prompt':'x','template':'t'}", 1, true, false, false, false, 0, -1,
		1, 0},
	/* Prompts for no template: one that is nothing but text may be cut. */
	{PROMPT, "{'model':'m','prompt':'hello','max_tokens':5}", 1, false, true, false, false, 0,
		5, 5, 0},
	{PROMPT, "{'prompt':['hello'],'stream':true,'n':1}", 1, true, true, false, false, 0, -1, 5,
		0},
	{PROMPT, "{'prompt':['a','bc']}", 2, false, false, false, false, 0, -1, 3, 0},
	{PROMPT, "{'prompt':[1,22]}", 1, false, false, false, false, 0, -1, 6, 0},
	{PROMPT, "{'prompt':[[1],[22]]}", 1, false, false, false, false, 0, -1, 10, 0},
	{PROMPT, "{'prompt':'x','suffix':'y'}", 1, false, false, false, false, 0, -1, 1, 0},
	{PROMPT, "{'prompt':'x','suffix':null,'echo':false,'logprobs':null}", 1, false, true, false,
		false, 0, -1, 1, 0},
	{PROMPT, "{'prompt':'x','echo':true}", 1, false, false, false, false, 0, -1, 1, 0},
	{PROMPT, "{'prompt':'x','logprobs':0}", 1, false, false, false, false, 0, -1, 1, 0},
	{PROMPT, "{'prompt':'x','best_of':2}", 1, false, false, false, false, 0, -1, 1, 0},
	{PROMPT, "{'prompt':'','n':2}", 1, false, false, false, false, 0, -1, 0, 0},
	{OPENAI, "{'messages':[{'role':'user','content':'hi'}],'max_tokens':5}", 1, false, true,
		false, false, 0, 5, 2, 0},
	{OPENAI,
		"{'messages':[{'role':'user','content':'hi'}],'max_tokens':5,'max_completion_"
		"tokens':9,"
		"'stream':true,'n':2}",
		1, true, false, false, false, 0, 9, 2, 0},
	{OPENAI,
		"{'messages':[{'role':'user','content':[{'type':'text','text':'ab'},{'type':'image_"
		"url',"
		"'image_url':{'url':'data:image/"
		"png;base64,AA'}},{'type':'text','text':'c'},7,null]}]}",
		1, false, true, false, false, 0, -1, 3, 1},
	{OPENAI,
		"{'messages':[{'role':'assistant','content':null,'reasoning_content':'th','tool_"
		"calls':["
		"{'id':'1','type':'function','function':{'name':'fn','arguments':'{\\u0022a\\u0022:"
		"1}'}}]},"
		"{'role':'tool','tool_call_id':'1','content':'r'}]}",
		2, false, true, false, false, 0, -1, 2 + 2 + 7 + 1, 0},
	/* Wrong types are not ours to judge: the backend says what it thinks of them. */
	{OPENAI,
		"{'model':3,'stream':'yes','tools':7,'messages':[{'role':9,'content':5,'tool_calls'"
		":{},"
		"'images':'x'}]}",
		1, false, true, false, false, 0, -1, 0, 0},
};

static void requests_are_viewed(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(views); i++) {
		char *body = json_of(views[i].body);
		struct chat_request r;
		struct dialect_error error = {0};
		print_message("%s\n", body);
		assert_int_equal(
			chat_request_parse(views[i].dialect, slice_str(body), &r, &error), 0);
		assert_int_equal(r.count, views[i].count);
		assert_int_equal(r.stream, views[i].stream);
		assert_int_equal(r.condensable, views[i].condensable);
		assert_int_equal(r.is_load, views[i].is_load);
		assert_int_equal(r.is_unload, views[i].is_unload);
		assert_int_equal(r.num_ctx, views[i].num_ctx);
		assert_int_equal(r.max_output, views[i].max_output);
		size_t chars = 0;
		unsigned images = 0;
		for (size_t m = 0; m < r.count; m++) {
			chars += r.messages[m].chars;
			images += r.messages[m].images;
		}
		assert_int_equal(chars, views[i].chars);
		assert_int_equal(images, views[i].images);
		chat_request_fini(&r);
		free(body);
	}
}

static const struct {
	enum dialect dialect;
	const char *body;
	int status;
	const char *words; /* part of the error text */
} refused[] = {
	{CHAT, "", 400, "missing request body"},
	{CHAT, "{'model':'m'", 400, "invalid JSON in the request body at byte "},
	{CHAT, "[]", 400, "no JSON object"},
	{CHAT, "{'messages':[]}", 400, "model is required"},
	{CHAT, "{'model':'','messages':[]}", 400, "model is required"},
	{GENERATE, "{'prompt':'x'}", 404, "model '' not found"},
	{GENERATE, "{'model':'m','prompt':[1]}", 400, "GenerateRequest.prompt"},
	{GENERATE, "{'model':'m','prompt':'x','system':{}}", 400, "GenerateRequest.system"},
	{CHAT, "{'model':'m','messages':'hi'}", 400, "cannot unmarshal"},
	{CHAT, "{'model':'m','messages':['hi']}", 400, "cannot unmarshal"},
	{OPENAI, "{}", 400, "'messages' is required"},
	{OPENAI, "{'messages':{}}", 400, "an array"},
	{OPENAI, "{'messages':[]}", 400, "[] is too short - 'messages'"},
	{OPENAI, "{'messages':[{},null]}", 400, "objects"},
	{DIALECT_OPENAI_OTHER, "{}", 404, ""},
};

static void bad_requests_are_refused_in_the_dialects_words(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++) {
		char *body = json_of(refused[i].body);
		struct chat_request r;
		struct dialect_error error = {0};
		assert_int_equal(
			chat_request_parse(refused[i].dialect, slice_str(body), &r, &error),
			-EINVAL);
		assert_int_equal(error.status, refused[i].status);
		if (!strstr(error.text, refused[i].words))
			fail_msg("%s: %s", body, error.text);
		free(body);
	}
}

static void too_many_messages_are_refused(void **state)
{
	(void)state;
	struct buf body;
	buf_init(&body, 0);
	buf_add_str(&body, "{\"messages\":[{}");
	for (size_t i = 0; i < CHAT_MAX_MESSAGES; i++)
		buf_add_str(&body, ",{}");
	buf_add_str(&body, "]}");
	struct chat_request r;
	struct dialect_error error;
	assert_int_equal(chat_request_parse(OPENAI, buf_slice(&body), &r, &error), -EINVAL);
	assert_string_equal(error.text, "too many messages");
	buf_free(&body);
}

static const struct {
	enum dialect dialect;
	const char *message;
	const char *text;
} texts[] = {
	{CHAT, "{'role':'user','content':'a\\nb \\ud83d\\ude00'}", "a\nb \xf0\x9f\x98\x80"},
	{CHAT, "{'role':'user'}", ""},
	{OPENAI,
		"{'role':'user','content':[{'type':'text','text':'one'},{'type':'image_url','image_"
		"url':"
		"{'url':'data:,'}},{'type':'text','text':'two'}]}",
		"one\ntwo"},
	{CHAT,
		"{'role':'assistant','content':'Writing.','tool_calls':[{'function':{'name':'write'"
		",'arguments':"
		"{'path': 'a.c', 'text':'int x;\\nint y;\\\\'}}},{'function':{'name':'ls'}}]}",
		"Writing.\nwrite({\"path\": \"a.c\", \"text\":\"int x;\nint y;\\\"})\nls({})"},
	{OPENAI,
		"{'role':'assistant','content':null,'tool_calls':[{'id':'1','function':{'name':'f',"
		"'arguments':"
		"'{\\u0022s\\u0022:\\u0022l1\\\\nl2\\u0022,\\u0022n\\u0022:12345678901234567890}'}}"
		","
		"{'function':{'name':'g','arguments':'{broken'}}]}",
		"f({\"s\":\"l1\nl2\",\"n\":12345678901234567890})\ng({broken)"},
	{OPENAI,
		"{'role':'assistant','content':'x\\n','function_call':{'name':'f','arguments':'{}'}"
		"}",
		"x\nf({})"},
	/* Calls are an assistant's; in other roles they are no text. */
	{OPENAI, "{'role':'user','content':'x','tool_calls':[{'function':{'name':'f'}}]}", "x"},
};

static void text_is_what_condensing_sees(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		char *message = json_of(texts[i].message);
		struct buf body, out;
		buf_init(&body, 0);
		buf_init(&out, 0);
		buf_printf(&body, "{\"model\":\"m\",\"messages\":[%s]}", message);
		buf_add_str(&out, "kept");
		struct chat_request r;
		struct dialect_error error;
		assert_int_equal(
			chat_request_parse(texts[i].dialect, buf_slice(&body), &r, &error), 0);
		assert_int_equal(chat_message_text(&r, 0, &out), 0);
		assert_string_equal(buf_cstr(&out) + 4, texts[i].text);
		chat_request_fini(&r);
		buf_free(&body);
		buf_free(&out);
		free(message);
	}
}

static void a_nul_character_is_text(void **state)
{
	(void)state;
	struct chat_request r;
	struct dialect_error error;
	struct buf out;
	buf_init(&out, 0);
	struct slice body = SLICE("{\"model\":\"m\",\"prompt\":\"a\\u0000b\"}");
	assert_int_equal(chat_request_parse(GENERATE, body, &r, &error), 0);
	assert_int_equal(r.messages[0].chars, 3);
	assert_int_equal(chat_message_text(&r, 0, &out), 0);
	assert_true(slice_eq(buf_slice(&out), SLICE("a\0b")));
	chat_request_fini(&r);
	buf_free(&out);
}

/* {sent, what is read, or NULL for what was sent} */
static const struct {
	enum dialect dialect;
	const char *sent, *read;
} taken[] = {
	{CHAT, "{'Model':'m','Messages':[{'Role':'user','Content':'Hi You'}],'Stream':false}",
		"{'model':'m','messages':[{'role':'user','content':'Hi You'}],'stream':false}"},
	{CHAT, "{'model':'m','messages':[{'Role':'user','content':'A'}],'x':'Model'}",
		"{'model':'m','messages':[{'role':'user','content':'A'}],'x':'Model'}"},
	{GENERATE, "{'MODEL':'m','Prompt':'P','Options':{'Num_Ctx':1}}",
		"{'model':'m','prompt':'P','options':{'Num_Ctx':1}}"},
	{CHAT,
		"{'Model':'m','messages':[{'role':'assistant','Tool_Calls':[{'Function':{'Name':"
		"'F','Arguments':{'Path':1}}}]},{'role':'user','content':'x'}],'Tools':[{'Type':"
		"'function','Function':{'Name':'F','Parameters':{'Type':'object'}}}]}",
		"{'model':'m','messages':[{'role':'assistant','tool_calls':[{'function':{'name':"
		"'F','arguments':{'Path':1}}}]},{'role':'user','content':'x'}],'tools':[{'type':"
		"'function','function':{'name':'F','parameters':{'Type':'object'}}}]}"},
	{OPENAI, "{'model':'m','messages':[{'role':'user','content':'x'}],'myOwn':1}", NULL},
	{OPENAI, "{'Messages':[{'Role':'user','Content':[{'Type':'text','Text':'Hi'}]}]} and more",
		"{'messages':[{'role':'user','content':[{'type':'text','text':'Hi'}]}]} "},
	{CHAT, "{'model':'m','messages':[{'role':'user','content':'\xff'}]}\xff",
		"{'model':'m','messages':[{'role':'user','content':'\xef\xbf\xbd'}]}"},
};

static void all_that_ollama_takes_is_taken(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++) {
		struct chat_request r;
		struct dialect_error error;
		struct buf body, want;
		buf_init(&body, 0);
		buf_init(&want, 0);
		buf_add_str(&body, taken[i].sent);
		buf_add_str(&want, taken[i].read ? taken[i].read : taken[i].sent);
		for (size_t j = 0; j < body.n; j++)
			body.p[j] = body.p[j] == '\'' ? '"' : body.p[j];
		for (size_t j = 0; j < want.n; j++)
			want.p[j] = want.p[j] == '\'' ? '"' : want.p[j];
		assert_int_equal(chat_request_take(taken[i].dialect, &body, &r, &error), 0);
		assert_string_equal(buf_cstr(&body), buf_cstr(&want));
		assert_true(r.count > 0);
		chat_request_fini(&r);
		buf_free(&body);
		buf_free(&want);
	}
}

/* Of two keys that differ in case alone the last one counts, as in Ollama: no way to be routed as
 * one model and served as another. */
static void the_last_of_two_cases_counts(void **state)
{
	struct chat_request r;
	struct dialect_error error;
	struct buf body;
	(void)state;
	buf_init(&body, 0);
	buf_add_str(&body, "{\"model\":\"a\",\"Model\":\"b\",\"prompt\":\"p\"}");
	assert_int_equal(chat_request_take(GENERATE, &body, &r, &error), 0);
	assert_true(json_string_is(r.model, "b"));
	chat_request_fini(&r);
	buf_clear(&body);
	buf_add_str(&body, "{\"Model\":\"a\",\"messages\":[7]}");
	assert_int_equal(chat_request_take(CHAT, &body, &r, &error), -EINVAL);
	assert_int_equal(error.status, 400);
	buf_free(&body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_viewed),
		cmocka_unit_test(bad_requests_are_refused_in_the_dialects_words),
		cmocka_unit_test(too_many_messages_are_refused),
		cmocka_unit_test(text_is_what_condensing_sees),
		cmocka_unit_test(a_nul_character_is_text),
		cmocka_unit_test(all_that_ollama_takes_is_taken),
		cmocka_unit_test(the_last_of_two_cases_counts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
