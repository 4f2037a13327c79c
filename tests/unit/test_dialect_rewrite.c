/* Rewriting: what no edit names stays byte for byte. */
#include "common/dialect/request.h"
#include "tests/unit/test_dialect.h"

#define CHAT DIALECT_OLLAMA_CHAT
#define GENERATE DIALECT_OLLAMA_GENERATE
#define OPENAI DIALECT_OPENAI_CHAT
#define PROMPT DIALECT_OPENAI_TEXT
#define MAX_EDITS 4

/* Odd spacing, a number past 2^53, \u0000, unknown and duplicate keys, escapes of every kind. */
#define ODD_HEAD                                                                                   \
	" {\t'seed' : 90071992547409931234567890.10e+02 "                                          \
	",\r\n'x':'\\u0000\\/\\ud83d\\ude00\\\\','x':[ ],'model':'m',"
#define ODD_TAIL " , 'zz':{'k':-0.0,'k':1E400}\n}\n "

struct vector {
	enum dialect dialect;
	const char *body;
	struct {
		enum chat_edit_kind kind;
		const char *text;
	} edits[MAX_EDITS];
	int64_t num_ctx;
	const char *expected;
};

static const struct vector vectors[] = {
	/* A bare prompt is gone on with where it ends: no line end comes behind it that was not
	   there. */
	{PROMPT, ODD_HEAD "'prompt' : 'old'" ODD_TAIL, {{CHAT_REPLACE_TEXT, "new\n"}}, 4096,
		ODD_HEAD "'prompt' : 'new'" ODD_TAIL},
	{PROMPT, "{'prompt':'old\\n'}", {{CHAT_REPLACE_TEXT, "new\n"}}, 0, "{'prompt':'new\\n'}"},
	{PROMPT, "{'prompt' : [ 'old' ]}", {{CHAT_REPLACE_TEXT, "new"}}, 0,
		"{'prompt' : [ 'new' ]}"},
	{PROMPT, "{'prompt':['a','b','c','d']}",
		{{CHAT_REPLACE_TEXT, "1"}, {CHAT_REPLACE_TEXT, "2"}, {CHAT_REPLACE_TEXT, "3"},
			{CHAT_REPLACE_TEXT, "4"}},
		0, "{'prompt':['1','2','3','4']}"},
	/* Dropping takes the separator along; what stays keeps the one that stood before it. */
	{CHAT, ODD_HEAD "'messages' : [ {'a':1} ,\n {'b':2},{'c':3}  ]" ODD_TAIL,
		{{CHAT_DROP, NULL}}, 0, ODD_HEAD "'messages' : [ {'b':2},{'c':3}  ]" ODD_TAIL},
	{CHAT, ODD_HEAD "'messages' : [ {'a':1} ,\n {'b':2},{'c':3}  ]" ODD_TAIL,
		{{CHAT_KEEP, NULL}, {CHAT_DROP, NULL}}, 0,
		ODD_HEAD "'messages' : [ {'a':1},{'c':3}  ]" ODD_TAIL},
	{CHAT, ODD_HEAD "'messages' : [ {'a':1} ,\n {'b':2},{'c':3}  ]" ODD_TAIL,
		{{CHAT_KEEP, NULL}, {CHAT_KEEP, NULL}, {CHAT_DROP, NULL}}, 0,
		ODD_HEAD "'messages' : [ {'a':1} ,\n {'b':2}  ]" ODD_TAIL},
	{CHAT, "{'model':'m','messages':[{}, {}]}", {{CHAT_DROP, NULL}, {CHAT_DROP, NULL}}, 0,
		"{'model':'m','messages':[]}"},
	{CHAT, "{'model':'m','messages':[{'a':1},{'b':2}]}",
		{{CHAT_DROP, NULL}, {CHAT_INSERT_BEFORE, "say \"x\"\n"}}, 0,
		"{'model':'m','messages':[{'role':'user','content':'say \\\"x\\\"\\n'},{'b':2}]}"},
	{CHAT, "{'model':'m','messages':[{'a':1},  {'b':2} ,{'c':3}]}",
		{{CHAT_KEEP, NULL}, {CHAT_INSERT_BEFORE_DROP, "n"}, {CHAT_DROP, NULL}}, 0,
		"{'model':'m','messages':[{'a':1},  {'role':'user','content':'n'}]}"},
	/* Of two arrays the last counts, and the first is not touched. */
	{CHAT, "{'model':'m','messages':[{'a':1}],'messages':[{'b':2},{'c':3}]}",
		{{CHAT_DROP, NULL}}, 0, "{'model':'m','messages':[{'a':1}],'messages':[{'c':3}]}"},
	/* Replacing text. */
	{CHAT,
		"{'model':'m','messages':[{'role': 'user' , 'content' : 'old', "
		"'images':['a\\/b'],'q':1.0}]}",
		{{CHAT_REPLACE_TEXT, "new\xe2\x80\xa8"}}, 0,
		"{'model':'m','messages':[{'role': 'user' , 'content' : 'new\\u2028', "
		"'images':['a\\/b'],'q':1.0}]}"},
	{CHAT, "{'model':'m','messages':[{'content':'1','role':'user','content':'2'}]}",
		{{CHAT_REPLACE_TEXT, "3"}}, 0,
		"{'model':'m','messages':[{'content':'1','role':'user','content':'3'}]}"},
	{OPENAI,
		"{'messages':[{'role':'assistant','content':null,'tool_calls':[ "
		"]},{'role':'user'},{ }]}",
		{{CHAT_REPLACE_TEXT, "a"}, {CHAT_REPLACE_TEXT, "b"}, {CHAT_REPLACE_TEXT, "c"}}, 0,
		"{'messages':[{'role':'assistant','content':'a','tool_calls':[ "
		"]},{'content':'b','role':'user'},"
		"{'content':'c' }]}"},
	{OPENAI,
		"{'messages':[{'role':'user','content':[ "
		"{'type':'image_url','image_url':{'url':'data:1'}}, "
		"{'type':'text', 'text' : 'x','cache_control':{} }, {'type':'text','text':'y'} ,"
		"{'type':'input_audio'}]}]}",
		{{CHAT_REPLACE_TEXT, "z"}}, 0,
		"{'messages':[{'role':'user','content':[{'type':'image_url','image_url':{'url':'"
		"data:1'}},"
		"{'type':'text', 'text' : 'z','cache_control':{} },{'type':'input_audio'}]}]}"},
	{OPENAI, "{'messages':[{'content':[{'type':'image_url'}]},{'content':[]}]}",
		{{CHAT_REPLACE_TEXT, "t"}, {CHAT_REPLACE_TEXT, "u"}}, 0,
		"{'messages':[{'content':[{'type':'text','text':'t'},{'type':'image_url'}]},"
		"{'content':[{'type':'text','text':'u'}]}]}"},
	/* /api/generate. */
	{GENERATE, "{'prompt': 'a\\u0041' ,'model':'m','system':'s'}",
		{{CHAT_REPLACE_TEXT, "S"}, {CHAT_INSERT_BEFORE, "front"}}, 0,
		"{'prompt': 'front\\n\\na\\u0041' ,'model':'m','system':'S'}"},
	{GENERATE, "{'prompt':'a','model':'m','system':'s','options':{}}",
		{{CHAT_DROP, NULL}, {CHAT_REPLACE_TEXT, "b"}}, 2048,
		"{'prompt':'b','model':'m','system':'','options':{'num_ctx':2048}}"},
	{GENERATE, "{'prompt':'a','model':'m'}", {{CHAT_INSERT_BEFORE_DROP, "b"}}, 0,
		"{'prompt':'b','model':'m'}"},
	/* num_ctx. */
	{CHAT, "{'options': { 'num_ctx' : 1e3 , 'seed':1},'model':'m'}", {{CHAT_KEEP, NULL}}, 8192,
		"{'options': { 'num_ctx' : 8192 , 'seed':1},'model':'m'}"},
	{CHAT, "{'options':{'num_ctx':1,'num_ctx':2},'model':'m'}", {{CHAT_KEEP, NULL}}, 3,
		"{'options':{'num_ctx':1,'num_ctx':3},'model':'m'}"},
	{CHAT, "{'model':'m','options':{ 'seed':1}}", {{CHAT_KEEP, NULL}}, 3,
		"{'model':'m','options':{'num_ctx':3, 'seed':1}}"},
	{CHAT, "{'model':'m','options':null}", {{CHAT_KEEP, NULL}}, 3,
		"{'model':'m','options':{'num_ctx':3}}"},
	{CHAT, "{'model':'m','messages':[{'content':'a'}]}", {{CHAT_REPLACE_TEXT, "b"}}, 3,
		"{'options':{'num_ctx':3},'model':'m','messages':[{'content':'b'}]}"},
	{OPENAI, "{'messages':[{}]}", {{CHAT_KEEP, NULL}}, 3, "{'messages':[{}]}"},
};

static void edits_touch_what_they_name(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		const struct vector *v = &vectors[i];
		char *body = json_of(v->body), *expected = json_of(v->expected);
		struct chat_request r;
		struct dialect_error error = {0};
		struct chat_edit edits[MAX_EDITS];
		struct buf out;
		buf_init(&out, 0);
		for (size_t e = 0; e < MAX_EDITS; e++)
			edits[e] = (struct chat_edit){
				.kind = v->edits[e].kind, .text = slice_str(v->edits[e].text)};
		print_message("%s\n", body);
		assert_int_equal(chat_request_parse(v->dialect, slice_str(body), &r, &error), 0);
		assert_int_equal(chat_request_rewrite(&r, edits, v->num_ctx, &out), 0);
		assert_string_equal(buf_cstr(&out), expected);

		/* Nothing to change: the very bytes, however they are asked for. */
		memset(edits, 0, sizeof(edits));
		buf_clear(&out);
		assert_int_equal(chat_request_rewrite(&r, NULL, 0, &out), 0);
		assert_string_equal(buf_cstr(&out), body);
		buf_clear(&out);
		assert_int_equal(chat_request_rewrite(&r, edits, 0, &out), 0);
		assert_string_equal(buf_cstr(&out), body);
		chat_request_fini(&r);
		buf_free(&out);
		free(expected);
		free(body);
	}
}

static void the_buffers_cap_holds(void **state)
{
	(void)state;
	struct slice body = SLICE("{\"messages\":[{\"content\":\"a\"}]}");
	struct chat_edit edit = {.kind = CHAT_REPLACE_TEXT, .text = SLICE("0123456789")};
	struct chat_request r;
	struct dialect_error error;
	struct buf out;
	buf_init(&out, body.n);
	assert_int_equal(chat_request_parse(OPENAI, body, &r, &error), 0);
	assert_int_equal(chat_request_rewrite(&r, NULL, 0, &out), 0);
	buf_clear(&out);
	assert_int_equal(chat_request_rewrite(&r, &edit, 0, &out), -E2BIG);
	chat_request_fini(&r);
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(edits_touch_what_they_name),
		cmocka_unit_test(the_buffers_cap_holds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
