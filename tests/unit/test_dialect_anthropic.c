/* Anthropic's API: its requests for each backend, its answers from each, edits of its bodies. */
#include "common/dialect/answer.h"
#include "common/dialect/backend.h"
#include "common/dialect/resume.h"
#include "tests/unit/test_dialect.h"

#include <math.h>

#define A DIALECT_ANTHROPIC
#define HEAD "{'model':'m','max_tokens':9,"
#define U "'messages':[{'role':'user','content':'q'}]"
/* What stands behind the messages where nothing else is asked for. */
#define LS "'stream':true,'stream_options':{'include_usage':true}"
#define NO_THINKING ",'chat_template_kwargs':{'enable_thinking':false}"
#define END_LLAMA ",'stream':false" NO_THINKING ",'max_tokens':9}"
#define END_OLLAMA ",'stream':false,'truncate':false,'think':false,'options':{'num_predict':9}}"

/* --- requests --- */

/* One exchange of an agent: two calls at once, their results, a picture in one, words behind them. */
#define AGENT                                                                                      \
	HEAD "'system':[{'type':'text','text':'S\\n'},{'type':'text','text':'T'}],'messages':["    \
	     "{'role':'user','content':[{'type':'text','text':'read'},{'type':'image','source':{"  \
	     "'type':'base64','media_type':'image/jpeg','data':'/9j/AA=='}}]},"                    \
	     "{'role':'assistant','content':[{'type':'thinking','thinking':'hm','signature':'x'}," \
	     "{'type':'redacted_thinking','data':'zz'},{'type':'text','text':'I read'},"           \
	     "{'type':'tool_use','id':'t1','name':'f','input':{'z': 1.0,'a':[]}},"                 \
	     "{'type':'tool_use','id':'t2','name':'g','input':{}}]},"                              \
	     "{'role':'user','content':[{'type':'tool_result','tool_use_id':'t1','content':'one'}" \
	     ","                                                                                   \
	     "{'type':'tool_result','tool_use_id':'t2','is_error':true,'content':[{'type':'text'," \
	     "'text':'two'},{'type':'image','source':{'type':'base64','media_type':'image/png',"   \
	     "'data':'iVBO'}}]},{'type':'text','text':'go "                                        \
	     "on'},{'type':'text','text':'please'}]}]}"

#define EXAMPLES                                                                                   \
	"'tools':[{'type':'function','function':{'name':'f','description':'d\\n\\nExamples of "    \
	"its "                                                                                     \
	"input:\\n{\\\"a\\\":1}\\n{\\\"a\\\":2}','parameters':{}}},{'type':'function','function':" \
	"{'name':'g','description':'Examples of its input:\\n{}','parameters':{}}}]"

static const struct vector {
	const char *body, *llama, *ollama;
} requests[] = {
	{HEAD U "}", "{'model':'m'," U END_LLAMA, "{'model':'m'," U END_OLLAMA},
	{AGENT,
		"{'model':'m','messages':[{'role':'system','content':'S\\n\\nT'},{'role':'user',"
		"'content':[{'type':'text','text':'read'},{'type':'image_url','image_url':{'url':"
		"'data:image/jpeg;base64,/9j/AA=='}}]},{'role':'assistant','content':'I read',"
		"'reasoning_content':'hm','tool_calls':[{'id':'t1','type':'function','function':{"
		"'name':'f','arguments':'{\\\"z\\\": 1.0,\\\"a\\\":[]}'}},{'id':'t2','type':"
		"'function','function':{'name':'g','arguments':'{}'}}]},{'role':'tool','content':"
		"'one','tool_call_id':'t1'},{'role':'tool','content':'Error:\\ntwo',"
		"'tool_call_id':'t2'},{'role':'user','content':[{'type':'image_url','image_url':{"
		"'url':'data:image/png;base64,iVBO'}},{'type':'text','text':'go on'},{'type':'text'"
		",'text':'please'}]}]" END_LLAMA,
		"{'model':'m','messages':[{'role':'system','content':'S\\n\\nT'},{'role':'user',"
		"'content':'read','images':['/9j/AA==']},{'role':'assistant','content':'I read',"
		"'thinking':'hm','tool_calls':[{'id':'t1','function':{'name':'f','arguments':{'z':"
		" 1.0,'a':[]}}},{'id':'t2','function':{'name':'g','arguments':{}}}]},{'role':'tool'"
		","
		"'content':'one','tool_call_id':'t1','tool_name':'f'},{'role':'tool','content':"
		"'Error:\\ntwo','tool_call_id':'t2','tool_name':'g'},{'role':'user','content':"
		"'go on\\nplease','images':['iVBO']}]" END_OLLAMA},
	/* Documents with a name, tools that were found, another model's beginning, an effort on the way, thinking behind results. */
	{HEAD "'messages':[{'role':'user','content':[{'type':'document','title':'T','context':'C',"
	      "'source':{'type':'text','media_type':'text/plain','data':'D'}},{'type':'fallback',"
	      "'from':{},'to':{}}]},{'role':'system','content':[],'output_config':{'effort':'low'}}"
	      ",{'role':'assistant','content':[{'type':'tool_use','id':'t1','name':'find','input':"
	      "{}}]},{'role':'user','content':[{'type':'tool_result','tool_use_id':'t1','content':["
	      "{'type':'tool_reference','tool_name':'f'}]}]},{'role':'system','content':''}],"
	      "'thinking':{'type':'between_tools'},'output_config':{'effort':'high'},'tools':["
	      "{'name':'f','description':'d','input_schema':{},'input_examples':[{'a':1},{'a':2}]}"
	      ",{'name':'g','input_schema':{},'input_examples':[{}]}]}",
		"{'model':'m','messages':[{'role':'user','content':'T\\nC\\nD'},{'role':'assistant'"
		","
		"'content':'','tool_calls':[{'id':'t1','type':'function','function':{'name':'find',"
		"'arguments':'{}'}}]},{'role':'tool','content':'f','tool_call_id':'t1'}],'stream':"
		"false," EXAMPLES ",'chat_template_kwargs':{'enable_thinking':true,"
		"'reasoning_effort':'low'},'max_tokens':9}",
		"{'model':'m','messages':[{'role':'user','content':'T\\nC\\nD'},{'role':'assistant'"
		","
		"'content':'','tool_calls':[{'id':'t1','function':{'name':'find','arguments':{}}}]}"
		",{'role':'tool','content':'f','tool_call_id':'t1','tool_name':'find'}],'stream':"
		"false,'truncate':false," EXAMPLES ",'options':{'num_predict':9}}"},
	{HEAD U ",'thinking':{'type':'between_tools'}}", "{'model':'m'," U END_LLAMA,
		"{'model':'m'," U END_OLLAMA},
	/* Results alone, whose pictures stand behind them; a failure that says so is not said twice. */
	{HEAD "'messages':[{'role':'assistant','content':[{'type':'tool_use','id':'t1','name':"
	      "'f','input':{}}]},{'role':'user','content':[{'type':'tool_result','tool_use_id':"
	      "'t1','is_error':true,'content':'Error: no'},{'type':'tool_result','tool_use_id':"
	      "'t9','content':[{'type':'image','source':{'type':'base64','data':'QQ=='}}]},"
	      "{'type':'tool_result','tool_use_id':'t9'}]},{'role':'user','content':'so?'}]}",
		"{'model':'m','messages':[{'role':'assistant','content':'','tool_calls':[{'id':'t1'"
		",'type':'function','function':{'name':'f','arguments':'{}'}}]},{'role':'tool',"
		"'content':'Error: no','tool_call_id':'t1'},{'role':'tool','content':'(a picture: "
		"see below)','tool_call_id':'t9'},{'role':'tool','content':'','tool_call_id':'t9'},"
		"{'role':'user','content':[{'type':'image_url','image_url':{'url':'data:image/png;"
		"base64,QQ=='}}]},{'role':'user','content':'so?'}]" END_LLAMA,
		"{'model':'m','messages':[{'role':'assistant','content':'','tool_calls':[{'id':'t1'"
		",'function':{'name':'f','arguments':{}}}]},{'role':'tool','content':'Error: no',"
		"'tool_call_id':'t1','tool_name':'f'},{'role':'tool','content':'(a picture: see "
		"below)','tool_call_id':'t9'},{'role':'tool','content':'','tool_call_id':'t9'},"
		"{'role':'user','content':'','images':['QQ==']},{'role':'user','content':'so?'}"
		"]" END_OLLAMA},
	/* A system message in the middle stays where it is. */
	{HEAD "'system':'S','messages':[{'role':'user','content':'a'},{'role':'system','content':"
	      "'9 left'},{'role':'user','content':[{'type':'document','source':{'type':'text',"
	      "'media_type':'text/plain','data':'D'}}]}]}",
		"{'model':'m','messages':[{'role':'system','content':'S'},{'role':'user','content':"
		"'a'},{'role':'user','content':'<system-reminder>\\n9 left\\n</system-reminder>'},"
		"{'role':'user','content':'D'}]" END_LLAMA,
		"{'model':'m','messages':[{'role':'system','content':'S'},{'role':'user','content':"
		"'a'},{'role':'user','content':'<system-reminder>\\n9 left\\n</system-reminder>'},"
		"{'role':'user','content':'D'}]" END_OLLAMA},
	/* Tools, and which. */
	{HEAD U ",'tools':[{'name':'f','description':'d','input_schema':{'type': 'object'},"
		"'type':'custom'},{'name':'g','input_schema':{}}],'tool_choice':{'type':'tool',"
		"'name':'f','disable_parallel_tool_use':true}}",
		"{'model':'m'," U ",'stream':false,'tools':[{'type':'function','function':{'name':"
		"'f','description':'d','parameters':{'type': 'object'}}},{'type':'function',"
		"'function':{'name':'g','parameters':{}}}],'parallel_tool_calls':false,"
		"'tool_choice':{'type':'function','function':{'name':'f'}}" NO_THINKING
		",'max_tokens':9}",
		"{'model':'m'," U ",'stream':false,'truncate':false,'tools':[{'type':'function',"
		"'function':{'name':'f','description':'d','parameters':{'type': 'object'}}}],"
		"'think':false,'options':{'num_predict':9}}"},
	{HEAD U ",'tools':[{'name':'f','input_schema':{}}],'tool_choice':{'type':'any'}}",
		"{'model':'m'," U ",'stream':false,'tools':[{'type':'function','function':{'name':"
		"'f','parameters':{}}}],'tool_choice':'required'" NO_THINKING ",'max_tokens':9}",
		"{'model':'m'," U ",'stream':false,'truncate':false,'tools':[{'type':'function',"
		"'function':{'name':'f','parameters':{}}}],'think':false,'options':{'num_predict':"
		"9}}"},
	{HEAD U ",'tools':[{'name':'f','input_schema':{}}],'tool_choice':{'type':'none'}}",
		"{'model':'m'," U ",'stream':false,'tools':[{'type':'function','function':{'name':"
		"'f','parameters':{}}}],'tool_choice':'none'" NO_THINKING ",'max_tokens':9}",
		"{'model':'m'," U END_OLLAMA},
	/* Sampling, stops, form, thinking; what no backend has a word for goes. */
	{HEAD U ",'stream':true,'temperature':0.70,'top_p':0.9,'top_k':3,'stop_sequences':['a'],"
		"'metadata':{'user_id':'u'},'service_tier':'auto','thinking':{'type':'enabled',"
		"'budget_tokens':1024},'output_config':{'effort':'low','format':{'type':"
		"'json_schema','schema':{'type':'object'}}}}",
		"{'model':'m'," U "," LS
		",'response_format':{'type':'json_schema','json_schema':{'name':'format','schema':{"
		"'type':'object'}}},'chat_template_kwargs':{'enable_thinking':true,"
		"'reasoning_effort':'low'},'thinking_budget_tokens':1024,'temperature':0.70,"
		"'top_k':3,'top_p':0.9,'max_tokens':9,'stop':['a']}",
		"{'model':'m'," U ",'stream':true,'truncate':false,'format':{'type':'object'},"
		"'options':{'num_predict':9,'temperature':0.70,'top_p':0.9,'top_k':3,'stop':['a']}"
		"}"},
	{HEAD U ",'thinking':{'type':'adaptive'}}",
		"{'model':'m'," U ",'stream':false,'chat_template_kwargs':{'enable_thinking':true},"
		"'max_tokens':9}",
		"{'model':'m'," U ",'stream':false,'truncate':false,'options':{'num_predict':9}}"},
	/* An answer that is begun is gone on with, which takes thinking off. */
	{HEAD "'messages':[{'role':'user','content':'q'},{'role':'assistant','content':[{'type':"
	      "'text','text':'so'}]}],'thinking':{'type':'enabled','budget_tokens':1024}}",
		"{'model':'m','messages':[{'role':'user','content':'q'},{'role':'assistant',"
		"'content':'so'}]" END_LLAMA,
		"{'model':'m','messages':[{'role':'user','content':'q'},{'role':'assistant',"
		"'content':'so'}]" END_OLLAMA},
};

static void check_request(enum backend_api api, const char *text, const char *expected)
{
	struct chat_request r;
	struct dialect_error error = {0};
	struct backend_call call;
	struct json_value root;
	struct buf body, taken;
	char *given = json_of(text), *wanted = json_of(expected);
	buf_init(&body, 0);
	buf_init(&taken, 0);
	buf_add_str(&taken, given);
	print_message("%s\n", given);
	assert_int_equal(chat_request_take(A, &taken, &r, &error), 0);
	int rc = backend_call_build(api, &r, 0, &call, &body, &error);
	if (rc)
		fail_msg("%d: %s", rc, error.text);
	/* \" of the tables is a quote that json_of() made of ' and an escape. */
	assert_string_equal(buf_cstr(&body), wanted);
	assert_int_equal(json_parse(buf_slice(&body), JSON_MAX_DEPTH, &root, NULL), 0);
	assert_false(call.raw);
	assert_string_equal(
		call.path, api == BACKEND_OLLAMA ? "/api/chat" : "/v1/chat/completions");
	chat_request_fini(&r);
	buf_free(&body);
	buf_free(&taken);
	free(given);
	free(wanted);
}

static void requests_reach_both_backends(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(requests); i++) {
		check_request(BACKEND_LLAMA_SERVER, requests[i].body, requests[i].llama);
		check_request(BACKEND_OLLAMA, requests[i].body, requests[i].ollama);
	}
}

/* Servers of others refuse members that they do not know: what a client does not say is not sent. */
static void others_are_told_what_the_client_says(void **state)
{
	(void)state;
	check_request(
		BACKEND_OPENAI, HEAD U "}", "{'model':'m'," U ",'stream':false,'max_tokens':9}");
	check_request(BACKEND_OPENAI, HEAD U ",'thinking':{'type':'disabled'}}",
		"{'model':'m'," U ",'stream':false" NO_THINKING ",'max_tokens':9}");
	check_request(BACKEND_OPENAI, HEAD U ",'thinking':{'type':'enabled','budget_tokens':1024}}",
		"{'model':'m'," U ",'stream':false,'chat_template_kwargs':{'enable_thinking':true},"
		"'max_tokens':9}");
}

static void a_view_has_results_as_messages(void **state)
{
	(void)state;
	static const struct {
		enum chat_role role;
		const char *text;
		unsigned images;
	} wanted[] = {
		{CHAT_SYSTEM, "S\n\nT", 0},
		{CHAT_USER, "read", 1},
		{CHAT_ASSISTANT, "I read\nf({\"z\": 1.0,\"a\":[]})\ng({})", 0},
		{CHAT_TOOL, "one", 0},
		{CHAT_TOOL, "two", 1},
		{CHAT_USER, "go on", 0},
		{CHAT_USER, "please", 0},
	};
	char *text = json_of(AGENT);
	struct chat_request r;
	struct dialect_error error;
	assert_int_equal(chat_request_parse(A, slice_str(text), &r, &error), 0);
	assert_int_equal(r.count, COUNT(wanted));
	assert_int_equal(r.max_output, 9);
	assert_true(r.condensable);
	assert_false(r.stream);
	assert_int_equal(r.census.images, 2);
	for (size_t i = 0; i < r.count; i++) {
		struct buf got;
		buf_init(&got, 0);
		assert_int_equal(chat_message_text(&r, i, &got), 0);
		assert_string_equal(buf_cstr(&got), wanted[i].text);
		assert_int_equal(r.messages[i].role, wanted[i].role);
		assert_int_equal(r.messages[i].images, wanted[i].images);
		buf_free(&got);
	}
	assert_int_equal(r.messages[2].thinking, 2);
	assert_true(json_string_is(r.messages[4].call_id, "t2"));
	chat_request_fini(&r);
	free(text);
}

static const struct {
	const char *body, *words;
	bool read; /* refused before it is asked of a backend */
} wrong[] = {
	{"{'model':'m'," U "}", "max_tokens: Field required", true},
	{"{'model':'m','max_tokens':0," U "}", "max_tokens", true},
	{"{'model':'m','max_tokens':'9'," U "}", "max_tokens", true},
	{HEAD "'stream':true}", "messages: Field required", true},
	{HEAD "'messages':{}}", "messages", true},
	{HEAD "'messages':[]}", "at least one message", true},
	{HEAD "'messages':['q']}", "must be an object", true},
	{HEAD "'messages':[{'role':'tool','content':'q'}]}", "role", true},
	{HEAD "'messages':[{'role':'user'}]}", "content", true},
	{HEAD U ",'system':1}", "system", true},
	{HEAD U ",'tools':{}}", "tools", true},
	{HEAD U ",'tools':[{'name':'f'}]}", "input_schema", true},
	{HEAD U ",'tools':[{'input_schema':{}}]}", "name", true},
	{HEAD U ",'tools':[{'type':'web_search_20250305','name':'web_search'}]}",
		"\"web_search\" of type \"web_search_20250305\"", true},
	{HEAD U ",'thread':{'type':'create'}}", "thread: no conversation", true},
	{HEAD "'messages':[{'role':'user','content':[{'type':'tool_reference'}]}]}", "content",
		false},
	{HEAD U ",'tool_choice':{'type':'some'}}", "tool_choice", false},
	{HEAD U ",'tool_choice':{'type':'tool'}}", "tool_choice", false},
	{HEAD "'messages':[{'role':'user','content':[{'type':'document','source':{'type':'base64',"
	      "'data':'x'}}]}]}",
		"content", false},
	{HEAD "'messages':[{'role':'user','content':[{'type':'image','source':{'type':'file',"
	      "'file_id':'x'}}]}]}",
		"content", false},
};

static void what_cannot_be_is_said(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		for (int api = 0; api < BACKEND_APIS; api++) {
			char *text = json_of(wrong[i].body), *words = json_of(wrong[i].words);
			struct dialect_error error = {0};
			struct chat_request r;
			struct backend_call call;
			struct buf body;
			buf_init(&body, 0);
			print_message("%s\n", text);
			int rc = chat_request_parse(A, slice_str(text), &r, &error);
			assert_int_equal(rc, wrong[i].read ? -EINVAL : 0);
			if (rc == 0) {
				rc = backend_call_build(
					(enum backend_api)api, &r, 0, &call, &body, &error);
				chat_request_fini(&r);
			}
			assert_int_equal(rc, -EINVAL);
			assert_int_equal(error.status, 400);
			if (!strstr(error.text, words))
				fail_msg("%s", error.text);
			buf_free(&body);
			free(words);
			free(text);
		}
	}
}

static void tokens_can_be_counted_without_a_limit(void **state)
{
	(void)state;
	char *text = json_of("{'model':'m'," U "}");
	struct chat_request r;
	struct dialect_error error;
	assert_true(dialect_counts(DIALECT_ANTHROPIC_COUNT));
	assert_false(dialect_counts(A));
	assert_int_equal(
		chat_request_parse(DIALECT_ANTHROPIC_COUNT, slice_str(text), &r, &error), 0);
	assert_true(token_census_start(&r.census) > 0 && r.census.images == 0);
	chat_request_fini(&r);
	free(text);
}

/* What a model reads of it in all. */
static size_t counted(enum dialect dialect, const char *messages)
{
	char given[1024];
	struct chat_request r;
	struct dialect_error error;
	snprintf(given, sizeof(given), "{'model':'m','messages':[%s]}", messages);
	char *text = json_of(given);
	assert_int_equal(chat_request_parse(dialect, slice_str(text), &r, &error), 0);
	size_t bytes = r.text_bytes;
	assert_int_equal(r.messages[0].chars, bytes);
	assert_true(token_census_start(&r.census) > 0);
	chat_request_fini(&r);
	free(text);
	return bytes;
}

#define DOCUMENT(more)                                                                             \
	"{'role':'user','content':[{'type':'document'," more                                       \
	"'source':{'type':'text','data':'12345'}}]}"

static void all_that_is_sent_is_counted(void **state)
{
	(void)state;
	assert_int_equal(counted(DIALECT_ANTHROPIC_COUNT, DOCUMENT("")), 5);
	assert_int_equal(
		counted(DIALECT_ANTHROPIC_COUNT, DOCUMENT("'title':'123','context':'1234567',")),
		15);
	assert_int_equal(counted(DIALECT_ANTHROPIC_COUNT, DOCUMENT("'title':null,")), 5);
	assert_int_equal(
		counted(DIALECT_ANTHROPIC_COUNT, "{'role':'user','content':[{'type':'text','text':"
						 "'12345','title':'123'}]}"),
		5);
	assert_int_equal(
		counted(DIALECT_OPENAI_CHAT, "{'role':'assistant','content':null,'refusal':'No.'}"),
		3);
	assert_int_equal(counted(DIALECT_OPENAI_CHAT,
				 "{'role':'assistant','content':'12345','refusal':'No.'}"),
		5);
	assert_int_equal(/* no refusal: it is not sent */
		counted(DIALECT_OPENAI_CHAT,
			"{'role':'assistant','content':null,'refusal':[{'type':'text','text':'1'},"
			"{'type':'image_url','image_url':{'url':'data:image/png;base64,aGk='}}]}"),
		0);
}

/* --- what clients move about --- */

#define MARK "'cache_control':{'type':'ephemeral','ttl':'1h'}"

static const struct {
	const char *body, *expected;
} marked[] = {
	/* At the end of an object, at its beginning, alone, between others. */
	{HEAD "'messages':[{'role':'user','content':[{'type':'text','text':'a'},{'type':'text',"
	      "'text':'b'," MARK "}]}]," MARK "}",
		HEAD "'messages':[{'role':'user','content':[{'type':'text','text':'a'},{'type':"
		     "'text','text':'b'}]}]}"},
	{"{" MARK " , 'max_tokens':9,'tools':[{'name':'f'," MARK ",'input_schema':{'type':"
	 "'object','properties':{" MARK "}}}]," U "}",
		"{'max_tokens':9,'tools':[{'name':'f','input_schema':{'type':'object',"
		"'properties':{" MARK "}}}]," U "}"},
	/* A list that only the mark made one; in a result, too. What has no mark stays a list. */
	{HEAD "'messages':[{'role':'user','content':[{'type':'text','text':'q'," MARK "}]},{'role':"
	      "'user','content':[{'type':'text','text':'q'}]},{'role':'user','content':[{'type':"
	      "'tool_result','tool_use_id':'t','content':[{'type':'text','text':'r'," MARK
	      "}]," MARK "}]}]}",
		HEAD "'messages':[{'role':'user','content':'q'},{'role':'user','content':[{'type':"
		     "'text','text':'q'}]},{'role':'user','content':[{'type':'tool_result',"
		     "'tool_use_id':'t','content':'r'}]}]}"},
	/* What a model wrote and what is no mark of the API's is left alone. */
	{HEAD "'messages':[{'role':'assistant','content':[{'type':'tool_use','id':'t','name':'f',"
	      "'input':{" MARK "}}]},{'role':'user','content':'cache_control'}]}",
		HEAD "'messages':[{'role':'assistant','content':[{'type':'tool_use','id':'t',"
		     "'name':'f','input':{" MARK "}}]},{'role':'user','content':'cache_control'}]"
		     "}"},
	{HEAD U ",'system':[{'type':'text','text':'x-anthropic-billing-header: v=1;'}, {'type':"
		"'text','text':'S'," MARK "}]}",
		HEAD U ",'system':[{'type':'text','text':'S'}]}"},
};

static void marks_for_a_cache_are_taken_out(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(marked); i++) {
		char *text = json_of(marked[i].body), *expected = json_of(marked[i].expected);
		struct chat_request r;
		struct dialect_error error;
		struct buf body;
		buf_init(&body, 0);
		buf_add_str(&body, text);
		assert_int_equal(chat_request_take(A, &body, &r, &error), 0);
		char *told = strstr(buf_cstr(&body), "\"" CHAT_ATTRIBUTION);
		assert_int_equal(told != NULL, strstr(text, "billing-header: v") != NULL);
		if (told) { /* says that a line is gone, and nothing of it */
			assert_ptr_equal(told, body.p + 1);
			char *rest = strchr(told, ',') + 1;
			assert_int_equal(rest - told, strlen(CHAT_ATTRIBUTION) + 3 + 18 + 1);
			memmove(told, rest, strlen(rest) + 1);
		}
		assert_string_equal(body.p, expected);
		assert_ptr_equal(r.body.p, body.p);
		chat_request_fini(&r);
		buf_free(&body);
		free(expected);
		free(text);
	}
}

/* --- edits --- */

static const struct {
	const char *body;
	struct {
		enum chat_edit_kind kind;
		const char *text;
		bool bare;
	} edits[8];
	const char *expected;
} rewritten[] = {
	{" {'max_tokens' :9,'messages':[ {'role':'user','content':'a'} , {'role':'user','content':"
	 "[ {'type':'tool_result','tool_use_id':'t','content':'r','is_error':false}, {'type':"
	 "'text','text':'b'}],'x':1} ] , 'z':1.0}\n",
		{{CHAT_KEEP, NULL, false}, {CHAT_REPLACE_TEXT, "\"r\"", false}},
		" {'max_tokens' :9,'messages':[{'role':'user','content':'a'},{'role':'user',"
		"'content':[{'type':'tool_result','tool_use_id':'t','content':'\\\"r\\\"',"
		"'is_error':false},{'type':'text','text':'b'}],'x':1}] , 'z':1.0}\n"},
	/* Nothing is left of a message; a digest takes the place of a result. */
	{HEAD "'messages':[{'role':'user','content':'a'},{'role':'assistant','content':'b'},"
	      "{'role':'user','content':[{'type':'tool_result','tool_use_id':'t'}]},{'role':"
	      "'user','content':[{'type':'tool_result','tool_use_id':'u'}]}]}",
		{{CHAT_KEEP, NULL, false}, {CHAT_DROP, NULL, false}, {CHAT_DROP, NULL, false},
			{CHAT_INSERT_BEFORE_DROP, "d", false}},
		HEAD "'messages':[{'role':'user','content':'a'},{'role':'user','content':[{'type':"
		     "'text','text':'d'}]}]}"},
	{HEAD "'messages':[{'role':'user','content':[{'type':'tool_result','tool_use_id':'t'}]},"
	      "{'role':'assistant','content':'b'}]}",
		{{CHAT_DROP, NULL, false}},
		HEAD "'messages':[{'role':'assistant','content':'b'}]}"},
	/* Results without content, with parts; a picture that goes. */
	{HEAD "'system':'s','messages':[{'role':'user','content':[{'type':'tool_result',"
	      "'tool_use_id':'t'},{'type':'tool_result','tool_use_id':'u','content':[{'type':"
	      "'text','text':'o'},{'type':'image','source':{}}]},{'type':'image','source':{"
	      "'data':'x'}}]}]}",
		{{CHAT_KEEP, NULL, false}, {CHAT_REPLACE_TEXT, "n", false},
			{CHAT_REPLACE_TEXT, "m", true}, {CHAT_REPLACE_TEXT, "p", true}},
		HEAD "'system':'s','messages':[{'role':'user','content':[{'content':'n','type':"
		     "'tool_result','tool_use_id':'t'},{'type':'tool_result','tool_use_id':'u',"
		     "'content':[{'type':'text','text':'m'}]},{'type':'text','text':'p'}]}]}"},
	/* Calls and thinking stay beside a text that is replaced. */
	{HEAD "'messages':[{'role':'assistant','content':[{'type':'thinking','thinking':'h'},"
	      "{'type':'text','text':'o'},{'type':'tool_use','id':'t','name':'f','input':{}}]}]}",
		{{CHAT_REPLACE_TEXT, "n", false}},
		HEAD
		"'messages':[{'role':'assistant','content':[{'type':'thinking','thinking':'h'},"
		"{'type':'text','text':'n'},{'type':'tool_use','id':'t','name':'f','input':{}"
		"}]}]}"},
	{HEAD "'messages':[{'role':'user','content':'a'},{'role':'user','content':'b'}]}",
		{{CHAT_INSERT_BEFORE, "n", false}, {CHAT_KEEP, NULL, false}},
		HEAD "'messages':[{'role':'user','content':'n'},{'role':'user','content':'a'},"
		     "{'role':'user','content':'b'}]}"},
};

static void edits_change_what_they_name(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(rewritten); i++) {
		char *text = json_of(rewritten[i].body), *expected = json_of(rewritten[i].expected);
		struct chat_edit edits[8] = {{0}};
		struct chat_request r, again;
		struct dialect_error error;
		struct buf out;
		buf_init(&out, 0);
		print_message("%s\n", text);
		for (size_t n = 0; n < 8; n++)
			edits[n] = (struct chat_edit){rewritten[i].edits[n].kind,
				slice_str(rewritten[i].edits[n].text), rewritten[i].edits[n].bare};
		assert_int_equal(chat_request_parse(A, slice_str(text), &r, &error), 0);
		assert_int_equal(chat_request_rewrite(&r, NULL, 7, &out), 0);
		assert_string_equal(buf_cstr(&out), text);
		buf_clear(&out);
		assert_int_equal(chat_request_rewrite(&r, edits, 7, &out), 0);
		assert_string_equal(buf_cstr(&out), expected);
		assert_int_equal(chat_request_parse(A, buf_slice(&out), &again, &error), 0);
		chat_request_fini(&again);
		chat_request_fini(&r);
		buf_free(&out);
		free(expected);
		free(text);
	}
}

static void tools_can_be_replaced(void **state)
{
	(void)state;
	char *text = json_of(HEAD U ",'tools':[{'name':'f','input_schema':{}}],'x':1}");
	char *expected = json_of(HEAD U ",'tools':[],'x':1}");
	struct chat_request r;
	struct dialect_error error;
	struct buf out;
	buf_init(&out, 0);
	assert_int_equal(chat_request_parse(A, slice_str(text), &r, &error), 0);
	assert_int_equal(chat_request_rewrite_tools(&r, NULL, SLICE("[]"), 0, &out), 0);
	assert_string_equal(buf_cstr(&out), expected);
	chat_request_fini(&r);
	buf_free(&out);
	free(expected);
	free(text);
}

/* --- answers --- */

#define EV(type, rest) "event: " type "\ndata: {'type':'" type "'" rest "}\n\n"
#define START                                                                                      \
	EV("message_start",                                                                        \
		",'message':{'id':'msg_i','type':'message','role':'assistant','model':'m',"        \
		"'content':[],'stop_reason':null,'stop_sequence':null,'usage':{'input_tokens':0,"  \
		"'cache_creation_input_tokens':0,'cache_read_input_tokens':0,'output_tokens':0}}")
#define TEXT_START(i)                                                                              \
	EV("content_block_start", ",'index':" i ",'content_block':{'type':'text','text':''}")
#define TEXT(i, t)                                                                                 \
	EV("content_block_delta", ",'index':" i ",'delta':{'type':'text_delta','text':'" t "'}")
#define ARGS(i, t)                                                                                 \
	EV("content_block_delta",                                                                  \
		",'index':" i ",'delta':{'type':'input_json_delta','partial_json':'" t "'}")
#define CALL(i, id, name)                                                                          \
	EV("content_block_start", ",'index':" i ",'content_block':{'type':'tool_use','id':'" id    \
				  "','name':'" name "','input':{}}")
#define STOP(i) EV("content_block_stop", ",'index':" i)
#define THOUGHT                                                                                    \
	EV("content_block_start",                                                                  \
		",'index':0,'content_block':{'type':'thinking','thinking':'','signature':''}")     \
	EV("content_block_delta", ",'index':0,'delta':{'type':'thinking_delta','thinking':'hm'}")  \
	EV("content_block_delta", ",'index':0,'delta':{'type':'signature_delta','signature':'i'}") \
	STOP("0")
#define USAGE(in, cached, out)                                                                     \
	"'usage':{'input_tokens':" in ",'cache_creation_input_tokens':0,"                          \
	"'cache_read_input_tokens':" cached ",'output_tokens':" out "}"
#define END(reason, in, cached, out)                                                               \
	EV("message_delta", ",'delta':{'stop_reason':'" reason                                     \
			    "','stop_sequence':null}," USAGE(in, cached, out))                     \
	EV("message_stop", "")
#define WHOLE "{'id':'msg_i','type':'message','role':'assistant','model':'m','content':["

#define LLAMA_TEXT                                                                                 \
	"data: {'choices':[{'delta':{'reasoning_content':'hm'}}]}\n\ndata: {'choices':[{'delta':"  \
	"{'content':'a'}}]}\n\ndata: {'choices':[{'delta':{'content':'b\\n'},'finish_reason':"     \
	"'stop'}]}\n\ndata: {'choices':[],'timings':{'cache_n':20,'prompt_n':6,'predicted_n':3}}"  \
	"\n\ndata: [DONE]\n\n"
#define LLAMA_CALLS                                                                                \
	"data: {'choices':[{'delta':{'content':'x'}}]}\n\n"                                        \
	"data: {'choices':[{'delta':{'tool_calls':[{'index':0,'id':'c0','function':{'name':'f',"   \
	"'arguments':''}}]}}]}\n\ndata: {'choices':[{'delta':{'tool_calls':[{'index':0,"           \
	"'function':{'arguments':'{\\u0022z\\u0022:'}}]}}]}\n\ndata: {'choices':[{'delta':{"       \
	"'tool_calls':[{'index':0,'function':{'arguments':' 1.0}'}}]}}]}\n\ndata: {'choices':[{"   \
	"'delta':{'tool_calls':[{'index':1,'function':{'name':'g','arguments':'{oops'}}]},"        \
	"'finish_reason':'tool_calls'}]}\n\ndata: [DONE]\n\n"
#define OLLAMA_CALLS                                                                               \
	"{'message':{'content':'','tool_calls':[{'id':'c0','function':{'name':'f','arguments':{"   \
	"'z':1}}},{'function':{'name':'g','arguments':{}}}]}}\n{'message':{'content':''},'done':"  \
	"true,'done_reason':'stop','prompt_eval_count':7,'eval_count':2}\n"
#define OLLAMA_LENGTH                                                                              \
	"{'message':{'content':'','thinking':'hm'}}\n{'message':{'content':'a'}}\n{'message':{"    \
	"'content':''},'done':true,'done_reason':'length','prompt_eval_count':26,'eval_count':3}"  \
	"\n"

static const struct {
	enum answer_format format;
	const char *input;
	bool stream;
	const char *request; /* NULL: not read */
	const char *expected;
} answers[] = {
	{ANSWER_OPENAI_CHAT, LLAMA_TEXT, true, NULL,
		START THOUGHT TEXT_START("1") TEXT("1", "a") TEXT("1", "b\\n") STOP("1")
			END("end_turn", "6", "20", "3")},
	{ANSWER_OPENAI_CHAT, LLAMA_TEXT, false, NULL,
		WHOLE "{'type':'thinking','thinking':'hm','signature':'i'},{'type':'text','text':'"
		      "ab\\n'}],'stop_reason':'end_turn','stop_sequence':null," USAGE(
			      "6", "20", "3") "}"},
	{ANSWER_OPENAI_CHAT, LLAMA_CALLS, true, NULL,
		START TEXT_START("0") TEXT("0", "x") STOP("0") CALL("1", "c0", "f") ARGS(
			"1", "{\\\"z\\\":") ARGS("1", " 1.0}") STOP("1") CALL("2", "call_i_1", "g")
			ARGS("2", "{oops") STOP("2") END("tool_use", "0", "0", "0")},
	{ANSWER_OPENAI_CHAT, LLAMA_CALLS, false, NULL,
		WHOLE
		"{'type':'text','text':'x'},{'type':'tool_use','id':'c0','name':'f','input':{"
		"'z':1.0}},{'type':'tool_use','id':'call_i_1','name':'g','input':{"
		"'raw_arguments':'{oops'}}],'stop_reason':'tool_use','stop_sequence':null," USAGE(
			"0", "0", "0") "}"},
	{ANSWER_OLLAMA_CHAT, OLLAMA_CALLS, true, NULL,
		START CALL("0", "c0", "f") ARGS("0", "{\\\"z\\\":1}") STOP("0") CALL("1",
			"call_i_1", "g") ARGS("1", "{}") STOP("1") END("tool_use", "7", "0", "2")},
	{ANSWER_OLLAMA_CHAT, OLLAMA_CALLS, false, NULL,
		WHOLE "{'type':'tool_use','id':'c0','name':'f','input':{'z':1}},{'type':'tool_use',"
		      "'id':'call_i_1','name':'g','input':{}}],'stop_reason':'tool_use',"
		      "'stop_sequence':null," USAGE("7", "0", "2") "}"},
	/* One call at a time, where the client says so. */
	{ANSWER_OLLAMA_CHAT, OLLAMA_CALLS, false,
		HEAD U ",'tool_choice':{'type':'auto','disable_parallel_tool_use':true}}",
		WHOLE "{'type':'tool_use','id':'c0','name':'f','input':{'z':1}}],'stop_reason':"
		      "'tool_use','stop_sequence':null," USAGE("7", "0", "2") "}"},
	{ANSWER_OLLAMA_CHAT, OLLAMA_LENGTH, true, NULL,
		START THOUGHT TEXT_START("1") TEXT("1", "a") STOP("1")
			END("max_tokens", "26", "0", "3")},
	/* Nothing said is a whole answer, too. */
	{ANSWER_OLLAMA_CHAT, "{'message':{'content':''},'done':true,'done_reason':'stop'}\n", true,
		NULL, START END("end_turn", "0", "0", "0")},
	{ANSWER_OLLAMA_CHAT, "{'message':{'content':''},'done':true,'done_reason':'stop'}\n", false,
		NULL,
		WHOLE "],'stop_reason':'end_turn','stop_sequence':null," USAGE("0", "0", "0") "}"},
	{ANSWER_OLLAMA_CHAT, "{'message':{'content':'a'}}\n{'error':'gone'}\n", true, NULL,
		START TEXT_START("0") TEXT("0", "a") "event: error\ndata: {'type':'error','error':{"
						     "'type':'api_error','message':'gone'}}\n\n"},
};

struct pipe {
	struct answer_writer *writer;
	struct buf out;
};

static void pass_on(void *ctx, const struct answer_event *event)
{
	struct pipe *pipe = ctx;
	assert_int_equal(answer_writer_put(pipe->writer, event, &pipe->out), 0);
}

static void read_by(struct answer_writer *w, const char *request)
{
	char *body = json_of(request);
	struct chat_request r;
	struct dialect_error error;
	assert_int_equal(chat_request_parse(A, slice_str(body), &r, &error), 0);
	assert_int_equal(answer_writer_read(w, &r), 0);
	chat_request_fini(&r);
	free(body);
}

static void answers_come_from_both_backends(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(answers); i++) {
		char *input = json_of(answers[i].input), *expected = json_of(answers[i].expected);
		struct pipe pipe = {.writer = answer_writer_create(
					    A, answers[i].stream, SLICE("m"), "i", false, 1 << 20)};
		struct answer_parser *p =
			answer_parser_create(answers[i].format, true, 1 << 20, pass_on, &pipe);
		assert_non_null(pipe.writer);
		assert_non_null(p);
		if (answers[i].request)
			read_by(pipe.writer, answers[i].request);
		print_message("%s\n", input);
		assert_int_equal(answer_parser_feed(p, slice_str(input)), 0);
		assert_int_equal(answer_parser_finish(p), 0);
		assert_string_equal(buf_cstr(&pipe.out), expected);
		answer_parser_destroy(p);
		answer_writer_destroy(pipe.writer);
		buf_free(&pipe.out);
		free(expected);
		free(input);
	}
}

/* The prompt's size is told before it is known. */
static void a_stream_begins_with_an_estimate(void **state)
{
	(void)state;
	struct answer_writer *w = answer_writer_create(A, true, SLICE("m"), "i", false, 1 << 20);
	struct answer_event e = {.kind = ANSWER_TEXT, .text = SLICE("a")};
	struct buf out;
	char *zero = json_of("'input_tokens':0");
	buf_init(&out, 0);
	assert_non_null(w);
	read_by(w, HEAD U "}");
	assert_int_equal(answer_writer_put(w, &e, &out), 0);
	assert_null(strstr(buf_cstr(&out), zero));
	answer_writer_destroy(w);
	buf_free(&out);
	free(zero);
}

/* --- going on --- */

static void an_answer_is_gone_on_with(void **state)
{
	(void)state;
	static const char body[] =
		"{'max_tokens':10,'messages':[{'role':'user','content':[{'type':'tool_result',"
		"'tool_use_id':'t','content':'r'}]} ],'thinking':{'type':'enabled'}}";
	static const char wanted[] =
		"{'think':false,'max_tokens':7,'messages':[{'role':'user','content':[{'type':"
		"'tool_result','tool_use_id':'t','content':'r'}]},{'role':'assistant','content':"
		"' w0'} ],'thinking':{'type':'enabled'}}";
	char *text = json_of(body), *expected = json_of(wanted);
	char *rest = json_of(TEXT("0", "w1") STOP("0") END("end_turn", "5", "0", "4"));
	struct answer_writer *w = answer_writer_create(A, true, SLICE("m"), "i", false, 1 << 20);
	struct answer_event e = {.kind = ANSWER_TEXT, .text = SLICE("w1")};
	struct chat_request r;
	struct dialect_error error;
	enum dialect becomes;
	struct buf out;
	bool spent;
	buf_init(&out, 0);
	assert_int_equal(chat_request_parse(A, slice_str(text), &r, &error), 0);
	assert_null(resume_refused(&r));
	assert_int_equal(
		resume_request(&r, BACKEND_LLAMA_SERVER, SLICE(" w0"), 3, &becomes, &spent, &out),
		0);
	assert_string_equal(buf_cstr(&out), expected);
	assert_int_equal(becomes, A);
	buf_clear(&out);
	assert_int_equal(
		answer_writer_resume(w, &(struct answer_begun){.identity = SLICE("x")}), 0);
	assert_int_equal(answer_writer_put(w, &e, &out), 0);
	e = (struct answer_event){
		.kind = ANSWER_END, .finish = FINISH_STOP, .usage = {5, -1, 4, -1, -1, -1}};
	assert_int_equal(answer_writer_put(w, &e, &out), 0);
	assert_string_equal(buf_cstr(&out), rest);
	answer_writer_destroy(w);
	chat_request_fini(&r);
	buf_free(&out);
	free(text);
	free(expected);
	free(rest);
}

/* --- errors --- */

static void errors_have_its_shape(void **state)
{
	(void)state;
	static const struct {
		int status;
		const char *type;
	} types[] = {{400, "invalid_request_error"}, {401, "authentication_error"},
		{403, "permission_error"}, {404, "not_found_error"}, {413, "request_too_large"},
		{422, "invalid_request_error"}, {429, "rate_limit_error"}, {500, "api_error"},
		{502, "api_error"}, {503, "overloaded_error"}, {504, "timeout_error"},
		{529, "overloaded_error"}};
	struct buf out, named;
	buf_init(&out, 0);
	buf_init(&named, 0);
	for (size_t i = 0; i < COUNT(types); i++) {
		char wanted[128];
		buf_clear(&out);
		buf_clear(&named);
		dialect_error_body(A, types[i].status, SLICE("x"), &out);
		dialect_error_name(A, buf_slice(&out), "7", &named);
		snprintf(wanted, sizeof(wanted),
			"{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":\"x\"},"
			"\"request_id\":\"req_7\"}",
			types[i].type);
		assert_string_equal(buf_cstr(&named), wanted);
	}
	assert_int_equal(dialect_status(A, 503), 529);
	assert_int_equal(dialect_status(DIALECT_OPENAI_CHAT, 503), 503);
	assert_string_equal(dialect_request_id(A), "request-id");
	buf_clear(&out);
	dialect_overflow_body(A, 210000, 200000, &out);
	assert_non_null(
		strstr(buf_cstr(&out), "\"prompt is too long: 210000 tokens > 200000 maximum\""));
	assert_non_null(strstr(buf_cstr(&out), "invalid_request_error"));
	buf_clear(&out);
	dialect_overflow_body(A, 0, 0, &out);
	assert_non_null(strstr(buf_cstr(&out), "\"prompt is too long\""));
	buf_free(&out);
	buf_free(&named);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_reach_both_backends),
		cmocka_unit_test(others_are_told_what_the_client_says),
		cmocka_unit_test(a_view_has_results_as_messages),
		cmocka_unit_test(what_cannot_be_is_said),
		cmocka_unit_test(tokens_can_be_counted_without_a_limit),
		cmocka_unit_test(all_that_is_sent_is_counted),
		cmocka_unit_test(marks_for_a_cache_are_taken_out),
		cmocka_unit_test(edits_change_what_they_name),
		cmocka_unit_test(tools_can_be_replaced),
		cmocka_unit_test(answers_come_from_both_backends),
		cmocka_unit_test(a_stream_begins_with_an_estimate),
		cmocka_unit_test(an_answer_is_gone_on_with),
		cmocka_unit_test(errors_have_its_shape),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
