/* Going on with an answer: the request that continues it, the stream that keeps its name, the
 * counts that add up. */
#include "common/dialect/resume.h"
#include "tests/unit/test_dialect.h"

#define CHAT DIALECT_OLLAMA_CHAT
#define GENERATE DIALECT_OLLAMA_GENERATE
#define OPENAI DIALECT_OPENAI_CHAT
#define PROMPT DIALECT_OPENAI_TEXT
#define OLLAMA BACKEND_OLLAMA
#define LLAMA BACKEND_LLAMA_SERVER

#define TEXT " w0 \"q\"\n"
#define TEXT_JSON " w0 \\\"q\\\"\\n"
#define SAID "{'role':'assistant','content':'" TEXT_JSON "'}"

static const struct vector {
	enum dialect dialect;
	enum backend_api api;
	const char *body;
	const char *text;
	int64_t tokens;
	enum dialect becomes;
	bool spent;
	const char *expected;
} vectors[] = {
	/* The text stands behind the messages; all else is the client's own. */
	{CHAT, OLLAMA, " {'model' : 'm','messages': [ {'role':'user','content':'hi'} ] ,'x':1E2}\n",
		TEXT, 3, CHAT, false,
		" {'think':false,'model' : 'm','messages': [ {'role':'user','content':'hi'}," SAID
		" ] ,'x':1E2}\n"},
	{CHAT, LLAMA, "{'model':'m','messages':[{'content':'hi'}],'think':true}", TEXT, 3, CHAT,
		false, "{'model':'m','messages':[{'content':'hi'}," SAID "],'think':false}"},
	{OPENAI, LLAMA, "{'messages':[{'content':'hi'}]}", TEXT, 3, OPENAI, false,
		"{'chat_template_kwargs':{'enable_thinking':false},'messages':[{'content':'hi'}"
		"," SAID "]}"},
	{OPENAI, LLAMA, "{'messages':[{'content':'hi'}],'chat_template_kwargs':{'a':1}}", TEXT, 3,
		OPENAI, false,
		"{'messages':[{'content':'hi'}," SAID
		"],'chat_template_kwargs':{'enable_thinking':false,'a':1}}"},
	{OPENAI, LLAMA,
		"{'chat_template_kwargs':{'enable_thinking':true},'messages':[{'content':'hi'}]}",
		TEXT, 3, OPENAI, false,
		"{'chat_template_kwargs':{'enable_thinking':false},'messages':[{'content':'hi'}"
		"," SAID "]}"},
	{OPENAI, OLLAMA, "{'messages':[{'content':'hi'}]}", TEXT, 3, OPENAI, false,
		"{'think':false,'messages':[{'content':'hi'}," SAID "]}"},
	/* The client's own beginning of the answer is lengthened. */
	{CHAT, OLLAMA, "{'model':'m','messages':[{'role':'assistant','content':'so\\n'}]}", TEXT, 3,
		CHAT, false,
		"{'think':false,'model':'m','messages':[{'role':'assistant','content':'so"
		"\\n" TEXT_JSON "'}]}"},
	/* Limits. */
	{CHAT, OLLAMA,
		"{'model':'m','messages':[{'content':'hi'}],'options':{'num_predict': 10 "
		",'seed':1}}",
		TEXT, 3, CHAT, false,
		"{'think':false,'model':'m','messages':[{'content':'hi'}," SAID
		"],'options':{'num_predict': 7 ,'seed':1}}"},
	{OPENAI, LLAMA,
		"{'max_tokens':10,'messages':[{'content':'hi'}],'max_completion_tokens':4,'n_"
		"predict':3}",
		TEXT, 3, OPENAI, true,
		"{'chat_template_kwargs':{'enable_thinking':false},'max_tokens':7,'messages':[{"
		"'content':'hi'}," SAID "],'max_completion_tokens':1,'n_predict':1}"},
	{CHAT, OLLAMA,
		"{'model':'m','messages':[{'content':'hi'}],'options':{'num_predict':-1},'think':"
		"false}",
		TEXT, 3, CHAT, false,
		"{'model':'m','messages':[{'content':'hi'}," SAID
		"],'options':{'num_predict':-1},'think':false}"},
	/* A prompt becomes a chat; a raw one stays. */
	{GENERATE, OLLAMA,
		"{'model':'m','prompt':'p\\u0041','system':'s','images':['AA=='],'options':{'num_"
		"predict':5,'k':1},'keep_alive':0,'think':true,'stream':true}",
		TEXT, 2, CHAT, false,
		"{'messages':[{'role':'system','content':'s'},{'role':'user','content':'p\\u0041','"
		"images':['AA==']}," SAID
		"],'think':false,'model':'m','options':{'num_predict':3,'k':1},'keep_alive':0,'"
		"stream':true}"},
	{GENERATE, LLAMA, "{'model':'m','prompt':'p'}", TEXT, 2, CHAT, false,
		"{'messages':[{'role':'user','content':'p'}," SAID "],'think':false,'model':'m'}"},
	{GENERATE, OLLAMA, "{'model':'m','prompt':'p','raw':true,'options':{'num_predict':2}}",
		TEXT, 2, GENERATE, true,
		"{'model':'m','prompt':'p" TEXT_JSON "','raw':true,'options':{'num_predict':1}}"},
	{PROMPT, LLAMA, "{'prompt' : 'p','max_tokens':5,'n_predict':9,'x':1E2}", TEXT, 2, PROMPT,
		false, "{'prompt' : 'p" TEXT_JSON "','max_tokens':3,'n_predict':7,'x':1E2}"},
	{PROMPT, OLLAMA, "{'prompt':[ 'p' ],'suffix':'s','max_tokens':2}", TEXT, 2, PROMPT, true,
		"{'prompt':[ 'p" TEXT_JSON "' ],'suffix':'s','max_tokens':1}"},
	/* Nothing was said yet: as it is. */
	{OPENAI, LLAMA, " {'messages':[{'content':'hi'}],'max_tokens':5}", "", 0, OPENAI, false,
		" {'messages':[{'content':'hi'}],'max_tokens':5}"},
};

static void parse(enum dialect d, const char *body, struct chat_request *r)
{
	struct dialect_error error;
	assert_int_equal(chat_request_parse(d, slice_str(body), r, &error), 0);
}

static void test_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		const struct vector *v = &vectors[i];
		char *body = json_of(v->body), *expected = json_of(v->expected);
		struct chat_request r;
		struct buf out;
		enum dialect d;
		bool spent;
		parse(v->dialect, body, &r);
		buf_init(&out, 0);
		assert_int_equal(
			resume_request(&r, v->api, slice_str(v->text), v->tokens, &d, &spent, &out),
			0);
		assert_string_equal(buf_cstr(&out), expected);
		assert_int_equal(d, v->becomes);
		assert_int_equal(spent, v->spent);
		/* It is a request of that dialect. */
		struct chat_request again;
		parse(d, buf_cstr(&out), &again);
		chat_request_fini(&again);
		chat_request_fini(&r);
		buf_free(&out);
		free(body);
		free(expected);
	}
}

static void test_refusals(void **state)
{
	(void)state;
	static const struct {
		enum dialect dialect;
		const char *body;
		bool refused;
	} cases[] = {
		{CHAT, "{'model':'m','messages':[]}", true},
		{CHAT, "{'model':'m','messages':[{'content':'a'}],'format':'json'}", true},
		{CHAT, "{'model':'m','messages':[{'content':'a'}],'format':{}}", true},
		{CHAT, "{'model':'m','messages':[{'content':'a'}],'format':''}", false},
		{CHAT, "{'model':'m','messages':[{'content':'a'}],'tools':[{}]}", false},
		{OPENAI, "{'messages':[{'content':'a'}],'n':2}", true},
		{OPENAI, "{'messages':[{'content':'a'}],'n':1}", false},
		{OPENAI, "{'messages':[{'content':'a'}],'response_format':{'type':'json_object'}}",
			true},
		{OPENAI, "{'messages':[{'content':'a'}],'response_format':{'type':'text'}}", false},
		{OPENAI, "{'messages':[{'content':'a'}],'grammar':'root ::= a'}", true},
		{OPENAI, "{'messages':[{'content':'a'}],'json_schema':{}}", true},
		{OPENAI, "{'messages':[{'role':'assistant','content':[]}]}", true},
		{OPENAI, "{'messages':[{'role':'assistant','content':'a','tool_calls':[{}]}]}",
			true},
		{OPENAI, "{'messages':[{'role':'assistant','content':'a'}]}", false},
		{GENERATE, "{'model':'m','prompt':'p','suffix':'s'}", true},
		{GENERATE, "{'model':'m','prompt':'p','context':[1]}", true},
		{GENERATE, "{'model':'m','prompt':'p','template':'t'}", true},
		{GENERATE, "{'model':'m','prompt':'p','suffix':'','context':[]}", false},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *body = json_of(cases[i].body);
		struct chat_request r;
		struct buf out;
		enum dialect d;
		bool spent;
		parse(cases[i].dialect, body, &r);
		if (!resume_refused(&r) == cases[i].refused)
			fail_msg("%s", body);
		buf_init(&out, 0);
		assert_int_equal(resume_request(&r, LLAMA, SLICE("x"), 1, &d, &spent, &out),
			cases[i].refused ? -EINVAL : 0);
		buf_free(&out);
		chat_request_fini(&r);
		free(body);
	}
}

/* Whatever the text is, the backend reads the very same. */
static void test_any_bytes_of_text(void **state)
{
	(void)state;
	char *body = json_of("{'model':'m','messages':[{'role':'user','content':'hi'}]}");
	struct chat_request r, again;
	struct buf text, out, back;
	enum dialect d;
	bool spent;
	buf_init(&text, 0);
	buf_init(&out, 0);
	buf_init(&back, 0);
	for (int c = 0; c < 0x80; c++)
		buf_add_char(&text, (char)c);
	buf_add_str(&text, "\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80");
	parse(CHAT, body, &r);
	assert_int_equal(resume_request(&r, OLLAMA, buf_slice(&text), 1, &d, &spent, &out), 0);
	parse(d, buf_cstr(&out), &again);
	assert_int_equal(again.count, 2);
	json_string_decode(again.messages[1].content, &back);
	assert_int_equal(back.n, text.n);
	assert_memory_equal(back.p, text.p, text.n);
	chat_request_fini(&again);
	chat_request_fini(&r);
	buf_free(&text);
	buf_free(&out);
	buf_free(&back);
	free(body);
}

static void test_limits_of_memory(void **state)
{
	(void)state;
	char *body = json_of("{'model':'m','messages':[{'role':'user','content':'hi'}]}");
	struct chat_request r;
	struct buf out;
	enum dialect d;
	bool spent;
	parse(CHAT, body, &r);
	buf_init(&out, 60);
	assert_int_equal(
		resume_request(&r, OLLAMA, SLICE("some text"), 1, &d, &spent, &out), -E2BIG);
	buf_free(&out);
	chat_request_fini(&r);
	free(body);
}

static void test_identity(void **state)
{
	(void)state;
	static const struct {
		const char *events, *expected;
	} cases[] = {
		{"data: {'choices':[],'id':'x','created':7,'model':'a\\u0041','system_fingerprint'"
		 ":'f','object':'o','z':1}\n\ndata: {'id':'y'}\n\n",
			"'id':'x','object':'o','created':7,'model':'a\\u0041','system_fingerprint':"
			"'f'"},
		{":\n\ndata: {'id':'x'}\n\n", "'id':'x'"},
		{":\n\n", ""},
		{"", ""},
		{"data: {'model':'m'}\n\n", ""},
		{"data: {'id':7}\n\n", ""},
		{"data: {oops\n\n", ""},
		{"data: {'id':'x'}", "'id':'x'"},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *events = json_of(cases[i].events), *expected = json_of(cases[i].expected);
		struct buf out;
		buf_init(&out, 0);
		assert_int_equal(resume_identity(slice_str(events), &out), 0);
		assert_string_equal(out.n ? buf_cstr(&out) : "", expected);
		buf_free(&out);
		free(events);
		free(expected);
	}
	struct buf long_one, out;
	buf_init(&long_one, 0);
	buf_init(&out, 0);
	buf_printf(&long_one, "data: {\"id\":\"%0*d\"}\n\n", RESUME_IDENTITY_BYTES, 0);
	assert_int_equal(resume_identity(buf_slice(&long_one), &out), 0);
	assert_int_equal(out.n, 0);
	buf_free(&long_one);
	buf_free(&out);
}

/* A writer that goes on opens its events as the first one did, and does not say the role again. */
static void test_writer_goes_on(void **state)
{
	(void)state;
	struct answer_event text = {.kind = ANSWER_TEXT, .text = SLICE("b")};
	struct buf first, second;
	buf_init(&first, 0);
	buf_init(&second, 0);
	struct answer_writer *a =
		answer_writer_create(OPENAI, true, SLICE("m"), "one", false, 1000);
	struct answer_writer *b =
		answer_writer_create(OPENAI, true, SLICE("other"), "two", false, 1000);
	struct answer_begun begun = {.identity = answer_writer_identity(a)};
	assert_int_equal(answer_writer_resume(b, &begun), 0);
	assert_int_equal(answer_writer_put(a, &text, &first), 0); /* with the role */
	buf_clear(&first);
	assert_int_equal(answer_writer_put(a, &text, &first), 0);
	assert_int_equal(answer_writer_put(b, &text, &second), 0);
	assert_string_equal(buf_cstr(&first), buf_cstr(&second));
	/* What it tells is what resume_identity() reads of its events. */
	struct buf read;
	buf_init(&read, 0);
	assert_int_equal(resume_identity(buf_slice(&first), &read), 0);
	assert_true(slice_eq(buf_slice(&read), answer_writer_identity(b)));
	answer_writer_destroy(a);
	answer_writer_destroy(b);

	a = answer_writer_create(CHAT, true, SLICE("m"), "one", false, 1000);
	assert_int_equal(answer_writer_identity(a).n, 0);
	begun.identity = SLICE("\"id\":\"x\"");
	assert_int_equal(answer_writer_resume(a, &begun), 0);
	answer_writer_destroy(a);
	buf_free(&first);
	buf_free(&second);
	buf_free(&read);
}

static void test_usage(void **state)
{
	(void)state;
	struct answer_usage u =
		resume_usage((struct answer_usage){110, 105, 5, 1, 50, 2}, 10, false);
	assert_int_equal(u.prompt_tokens, 100);
	assert_int_equal(u.cached_tokens, 100);
	assert_int_equal(u.output_tokens, 15);
	assert_true(u.output_ms == 150); /* the rate stays */
	u = resume_usage((struct answer_usage){110, -1, 1, -1, -1, -1}, 10, true);
	assert_int_equal(u.output_tokens, 10);
	u = resume_usage((struct answer_usage){-1, -1, -1, -1, -1, -1}, 10, false);
	assert_int_equal(u.prompt_tokens, -1);
	assert_int_equal(u.cached_tokens, -1);
	assert_int_equal(u.output_tokens, 10);
	u = resume_usage((struct answer_usage){5, 0, 1, -1, -1, -1}, 10, false);
	assert_int_equal(u.prompt_tokens, 0);
}

/* What the template made of it: the prompt up to what the client has, and whether anything follows.
 */
static void test_rendered(void **state)
{
	(void)state;
	static const struct {
		enum backend_api api;
		const char *answer, *said, *prompt; /* NULL: no such prompt */
		bool open;
	} cases[] = {
		{LLAMA, "{\"prompt\":\"<u>hi</u><a>one two\"}", "one two", "<u>hi</u><a>one two",
			true},
		{LLAMA, "{\"prompt\":\"<a>one two</a><a>\"}", "one two", "<a>one two", false},
		{OLLAMA, "{\"_debug_info\":{\"rendered_template\":\"one <a>one\\n\"}}", " one ",
			"one <a>one ", true},
		{OLLAMA, "{\"message\":{\"content\":\"one\"},\"done\":true}", "one", NULL, false},
		{LLAMA, "{\"prompt\":\"<a>other\"}", "one", NULL, false},
		{LLAMA, "{\"prompt\":\"on\"}", "one", NULL, false},
		{LLAMA, "no", "one", NULL, false},
		{LLAMA, "{\"prompt\":\"<a> \"}", "  ", NULL, false},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf prompt;
		bool open = false;
		buf_init(&prompt, 0);
		int rc = resume_rendered(cases[i].api, slice_str(cases[i].answer),
			slice_str(cases[i].said), &prompt, &open);
		assert_int_equal(rc, cases[i].prompt ? 0 : -EPROTO);
		if (cases[i].prompt) {
			assert_string_equal(buf_cstr(&prompt), cases[i].prompt);
			assert_int_equal(open, cases[i].open);
		}
		buf_free(&prompt);
	}
}

static void test_prompt_call(void **state)
{
	(void)state;
	struct backend_call call;
	struct buf out;
	buf_init(&out, 0);
	assert_int_equal(
		resume_prompt_call(OLLAMA,
			SLICE("{\"model\":\"m\",\"messages\":[],\"think\":false,\"stream\":true,"
			      "\"options\":{\"seed\":1}}"),
			SLICE("a\nb"), &call, &out),
		0);
	assert_string_equal(buf_cstr(&out),
		"{\"stream\":true,\"prompt\":\"a\\nb\",\"raw\":true,\"model\":\"m\","
		"\"options\":{\"seed\":1}}");
	assert_string_equal(call.path, "/api/generate");
	buf_clear(&out);
	assert_int_equal(resume_prompt_call(LLAMA,
				 SLICE("{\"messages\":[1],\"temperature\":0,\"max_tokens\":5}"),
				 SLICE("p"), &call, &out),
		0);
	assert_string_equal(buf_cstr(&out),
		"{\"stream\":true,\"prompt\":\"p\",\"temperature\":0,\"max_tokens\":5}");
	assert_string_equal(call.path, "/completion");
	assert_int_equal(resume_prompt_call(LLAMA, SLICE("[]"), SLICE("p"), &call, &out), -EINVAL);
	buf_clear(&out);
	assert_int_equal(resume_render_body(OLLAMA, SLICE("{\"a\":1}\n"), &out), 0);
	assert_string_equal(
		buf_cstr(&out), "{\"a\":1,\"stream\":false,\"_debug_render_only\":true}");
	buf_free(&out);
}

static void test_echo(void **state)
{
	(void)state;
	assert_int_equal(resume_echo(SLICE("one two"), 2, SLICE("one two three")), 7);
	assert_int_equal(resume_echo(SLICE("one two "), 2, SLICE("one two three")), 8);
	assert_int_equal(resume_echo(SLICE("one two "), 2, SLICE("one two\nthree")), 7);
	assert_int_equal(resume_echo(SLICE("\none two"), 2, SLICE("one two three")), 7);
	assert_int_equal(resume_echo(SLICE("one two"), 2, SLICE(" three")), 0);
	assert_int_equal(resume_echo(SLICE("one two"), 2, SLICE("one")), 0);
	assert_int_equal(resume_echo(SLICE("ha"), 1, SLICE("ha")), 0); /* said twice */
	assert_int_equal(resume_echo(SLICE("ha"), 1, SLICE("ha ho")), 2);
	assert_int_equal(resume_echo(SLICE("one two"), 2, SLICE("one two")), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_any_bytes_of_text),
		cmocka_unit_test(test_limits_of_memory),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_writer_goes_on),
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_rendered),
		cmocka_unit_test(test_prompt_call),
		cmocka_unit_test(test_echo),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
