/* OpenAI's /v1/responses: its requests for each backend, what it refuses, its errors. */
#include "tests/unit/test_responses.h"

#define ASKED "'messages':[{'role':'user','content':'q'}]"
#define END_LLAMA ",'stream':false}"
#define END_OLLAMA ",'stream':false,'truncate':false}"

/* --- requests --- */

/* A turn of two calls as Codex sends it back: thinking, words, calls; outputs, a picture in one. */
#define AGENT                                                                                      \
	"{'model':'m','instructions':'S','input':[{'type':'message','role':'developer','content':" \
	"[{'type':'input_text','text':'D'}]},{'type':'message','role':'user','content':["          \
	"{'type':'input_text','text':'read'},{'type':'input_text','text':'them'}]},"               \
	"{'type':'reasoning','id':'rs','summary':[{'type':'summary_text','text':'hm'}],"           \
	"'encrypted_content':'zz'},{'type':'message','role':'assistant','content':["               \
	"{'type':'output_text','text':'I read','annotations':[]}]},"                               \
	"{'type':'function_call','id':'fc','call_id':'c1','name':'f','arguments':"                 \
	"'{\\u0022z\\u0022: 1.0}'},{'type':'custom_tool_call','call_id':'c2','name':'patch',"      \
	"'input':'a\\n\\u0022b\\u0022'},{'type':'web_search_call','id':'ws','status':'completed'}" \
	",{'type':'function_call_output','call_id':'c1','output':'one'},"                          \
	"{'type':'custom_tool_call_output','call_id':'c2','output':[{'type':'input_text','text':"  \
	"'two'},{'type':'input_image','image_url':'data:image/png;base64,QQ==','detail':'low'}]}," \
	"{'role':'developer','content':'9 left'},{'role':'user','content':'go on'}]}"

#define SEARCH                                                                                     \
	"{'type':'tool_search','execution':'client','description':'d','parameters':{'type': "      \
	"'object'}}"
#define SEARCHED                                                                                   \
	"{'type':'function','function':{'name':'tool_search','description':'d','parameters':{'"    \
	"type': 'object'}}}"

static const struct vector {
	const char *body, *llama, *ollama;
} requests[] = {
	{"{'model':'m'," Q "}", "{'model':'m'," ASKED END_LLAMA, "{'model':'m'," ASKED END_OLLAMA},
	{AGENT,
		"{'model':'m','messages':[{'role':'system','content':'S\\nD'},{'role':'user',"
		"'content':'read\\nthem'},{'role':'assistant','content':'I read',"
		"'reasoning_content':'hm','tool_calls':[{'id':'c1','type':'function','function':{"
		"'name':'f','arguments':'{\\u0022z\\u0022: 1.0}'}},{'id':'c2','type':'function',"
		"'function':{'name':'patch','arguments':'{\\\"input\\\":\\\"a\\\\n\\\\u0022b"
		"\\\\u0022\\\"}'}}]},{'role':'tool','content':'one','tool_call_id':'c1'},{'role':"
		"'tool','content':'two','tool_call_id':'c2'},{'role':'user','content':[{'type':"
		"'image_url','image_url':{'url':'data:image/png;base64,QQ==','detail':'low'}}]},"
		"{'role':'user','content':'<system-reminder>\\n9 left\\n</system-reminder>'},"
		"{'role':'user','content':'go on'}]" END_LLAMA,
		"{'model':'m','messages':[{'role':'system','content':'S\\nD'},{'role':'user',"
		"'content':'read\\nthem'},{'role':'assistant','content':'I read','thinking':'hm',"
		"'tool_calls':[{'id':'c1','function':{'name':'f','arguments':{'z': 1.0}}},{'id':"
		"'c2','function':{'name':'patch','arguments':{'input':'a\\n\\u0022b\\u0022'}}}]},"
		"{'role':'tool','content':'one','tool_call_id':'c1','tool_name':'f'},{'role':'tool'"
		",'content':'two','tool_call_id':'c2','tool_name':'patch'},{'role':'user',"
		"'content':'','images':['QQ==']},{'role':'user','content':'<system-reminder>\\n9 "
		"left\\n</system-reminder>'},{'role':'user','content':'go on'}]" END_OLLAMA},
	/* Turns of one call each; thinking that nothing follows says nothing; a picture between words. */
	{"{'model':'m','input':[{'role':'user','content':[{'type':'input_text','text':'a'},"
	 "{'type':'input_image','image_url':'data:image/png;base64,QQ=='}]},"
	 "{'type':'function_call','call_id':'c1','namespace':'ns','name':'f','arguments':''},"
	 "{'type':'function_call_output','call_id':'c1','output':[{'type':'input_image',"
	 "'image_url':'data:image/png;base64,Qg=='}]},"
	 "{'type':'local_shell_call','id':'l','call_id':'c2','action':{'type':'exec','command':["
	 "'ls']}},{'type':'local_shell_call_output','id':'c2','output':'x'},"
	 "{'type':'reasoning','summary':[],'content':[{'type':'reasoning_text','text':'hm'}]}]}",
		"{'model':'m','messages':[{'role':'user','content':[{'type':'text','text':'a'},"
		"{'type':'image_url','image_url':{'url':'data:image/png;base64,QQ=='}}]},{'role':"
		"'assistant','content':'','tool_calls':[{'id':'c1','type':'function','function':{"
		"'name':'ns__f','arguments':''}}]},{'role':'tool','content':'(a picture: see "
		"below)','tool_call_id':'c1'},{'role':'user','content':[{'type':'image_url',"
		"'image_url':{'url':'data:image/png;base64,Qg=='}}]},{'role':'assistant','content':"
		"'','tool_calls':[{'id':'c2','type':'function','function':{'name':'local_shell',"
		"'arguments':'{\\\"type\\\":\\\"exec\\\",\\\"command\\\":[\\\"ls\\\"]}'}}]},"
		"{'role':'tool','content':'x','tool_call_id':'c2'}]" END_LLAMA,
		"{'model':'m','messages':[{'role':'user','content':'a','images':['QQ==']},{'role':"
		"'assistant','content':'','tool_calls':[{'id':'c1','function':{'name':'ns__f',"
		"'arguments':{}}}]},{'role':'tool','content':'(a picture: see below)',"
		"'tool_call_id':'c1','tool_name':'ns__f'},{'role':'user','content':'','images':["
		"'Qg==']},{'role':'assistant','content':'','tool_calls':[{'id':'c2','function':{"
		"'name':'local_shell','arguments':{'type':'exec','command':['ls']}}}]},{'role':"
		"'tool','content':'x','tool_call_id':'c2','tool_name':'local_shell'}]" END_OLLAMA},
	/* Tools: functions, custom ones, namespaces; what the server itself would run goes. */
	{"{'model':'m'," Q ",'tools':[{'type':'function','name':'f','description':'d',"
	 "'parameters':{'type': 'object'},'strict':false},{'type':'web_search'},{'type':'custom',"
	 "'name':'patch','description':'e','format':{'type':'grammar','syntax':'lark',"
	 "'definition':'g\\n'}},{'type':'namespace','name':'ns__','tools':[{'type':'function',"
	 "'name':'h'}]}],'tool_choice':{'type':'custom','name':'patch'},'parallel_tool_calls':"
	 "false}",
		"{'model':'m'," ASKED
		",'stream':false,'tools':[{'type':'function','function':{'name':'f','description':"
		"'d','parameters':{'type': 'object'},'strict':false}},{'type':'function',"
		"'function':{'name':'patch','description':'e\\n\\nThe argument input is the whole "
		"input of the tool, as text. It follows this grammar (lark):\\ng\\n','parameters':{"
		"'type':'object','properties':{'input':{'type':'string'}},'required':['input']}}},"
		"{'type':'function','function':{'name':'ns__h','parameters':{'type':'object',"
		"'properties':{}}}}],'parallel_tool_calls':false,'tool_choice':{'type':'function',"
		"'function':{'name':'patch'}}}",
		"{'model':'m'," ASKED
		",'stream':false,'truncate':false,'tools':[{'type':'function','function':{'name':"
		"'patch','description':'e\\n\\nThe argument input is the whole input of the tool, "
		"as text. It follows this grammar (lark):\\ng\\n','parameters':{'type':'object',"
		"'properties':{'input':{'type':'string'}},'required':['input']}}}]}"},
	{"{'model':'m'," Q ",'tools':[{'type':'function','name':'f'},{'type':'function','name':'g'}"
	 "],'tool_choice':{'type':'allowed_tools','mode':'required','tools':[{'type':'function',"
	 "'name':'g'}]}}",
		"{'model':'m'," ASKED
		",'stream':false,'tools':[{'type':'function','function':{'name':'g','parameters':{"
		"'type':'object','properties':{}}}}],'tool_choice':'required'}",
		"{'model':'m'," ASKED
		",'stream':false,'truncate':false,'tools':[{'type':'function','function':{'name':"
		"'g','parameters':{'type':'object','properties':{}}}}]}"},
	/* Tools in the input: one list, each where it stood first, as it was said last. */
	{"{'model':'m','input':[{'type':'additional_tools','role':'developer','tools':[{'type':"
	 "'namespace','name':'functions','description':'all','tools':[{'type':'function','name':'f'"
	 "}"
	 ",{'type':'function','name':'g'}]},{'type':'namespace','name':'ns','description':'N',"
	 "'tools':[{'type':'function','name':'h'}]}]},{'role':'user','content':'q'},{'type':"
	 "'additional_tools','role':'developer','tools':[{'type':'namespace','name':'ns',"
	 "'description':'more','tools':[{'type':'custom','name':'i'},{'type':'function','name':'h',"
	 "'description':'new'}]},{'type':'web_search'}]}],'tools':[{'type':'function','name':'g',"
	 "'description':'own'}],'tool_choice':{'type':'function','name':'h'}}",
		"{'model':'m'," ASKED
		",'stream':false,'tools':[{'type':'function','function':{'name':'g','parame"
		"ters':{'type':'object','properties':{}}}},{'type':'function','function':{'"
		"name':'f','parameters':{'type':'object','properties':{}}}},{'type':'functi"
		"on','function':{'name':'ns__h','description':'(All of ns: more) new','par"
		"ameters':{'type':'object','properties':{}}}},{'type':'function','function':{'n"
		"ame':'ns__i','description':'The argument input is the whole input of the t"
		"ool, as text.','parameters':{'type':'object','properties':{'input':{'type'"
		":'string'}},'required':['input']}}}],'tool_choice':{'type':'function','fun"
		"ction':{'name':'ns__h'}}}",
		"{'model':'m'," ASKED
		",'stream':false,'truncate':false,'tools':[{'type':'function','function':{'"
		"name':'ns__h','description':'(All of ns: more) new','parameters':{'type':'"
		"object','properties':{}}}}]}"},
	/* A namespace is described as it was last; without tools, or without a word, it says nothing. */
	{"{'model':'m','input':[{'type':'additional_tools','tools':[{'type':'namespace','name':"
	 "'ns','description':'none yet','tools':[]}]},{'type':'additional_tools','tools':[{'type':"
	 "'namespace','name':'ns','description':'N','tools':[{'type':'function','name':'h'}]},{"
	 "'type':'namespace','name':'ns','tools':[{'type':'function','name':'i'}]},{'type':"
	 "'namespace','name':'ns','description':'gone','tools':[]}]},{'role':'user','content':'q'"
	 "}]}",
		"{'model':'m'," ASKED
		",'stream':false,'tools':[{'type':'function','function':{'name':'ns__h',"
		"'description':'(All of ns: N) ','parameters':{'type':'object','properties':{}}}},{"
		"'type':'function','function':{'name':'ns__i','parameters':{'type':'object',"
		"'properties':{}}}}]}",
		"{'model':'m'," ASKED
		",'stream':false,'truncate':false,'tools':[{'type':'function','function':{'name':"
		"'ns__h','description':'(All of ns: N) ','parameters':{'type':'object',"
		"'properties':{}}}},{'type':'function','function':{'name':'ns__i','parameters':{"
		"'type':'object','properties':{}}}}]}"},
	/* The client's search is chosen by its type: it has no name. */
	{"{'model':'m'," Q ",'tools':[" SEARCH ",{'type':'function','name':'f'}],'tool_choice':{"
	 "'type':'tool_search'}}",
		"{'model':'m'," ASKED ",'stream':false,'tools':[" SEARCHED
		",{'type':'function','function':{'name':'f','parameters':{'type':'object',"
		"'properties':{}}}}],'tool_choice':{'type':'function','function':{'name':"
		"'tool_search'}}}",
		"{'model':'m'," ASKED ",'stream':false,'truncate':false,'tools':[" SEARCHED "]}"},
	{"{'model':'m'," Q ",'tools':[{'type':'function','name':'f'}," SEARCH "],'tool_choice':{"
	 "'type':'allowed_tools','mode':'auto','tools':[{'type':'tool_search'}]}}",
		"{'model':'m'," ASKED ",'stream':false,'tools':[" SEARCHED
		"],'tool_choice':'auto'}",
		"{'model':'m'," ASKED ",'stream':false,'truncate':false,'tools':[" SEARCHED "]}"},
	/* What another agent says as one string. */
	{"{'model':'m','input':[{'type':'agent_message','author':'/root','content':'look'},{'type'"
	 ":'agent_message','author':'/root','content':'gAAAAsecret'}]}",
		"{'model':'m','messages':[{'role':'user','content':'look'}]" END_LLAMA,
		"{'model':'m','messages':[{'role':'user','content':'look'}]" END_OLLAMA},
	/* A search for tools that the client does itself; what it found is offered from then on. */
	{"{'model':'m','input':[{'role':'user','content':'q'},{'type':'tool_search_c"
	 "all','call_id':null,'execution':'server','arguments':{}},{'type':'tool_sea"
	 "rch_output','call_id':null,'execution':'server','tools':[{'type':'function"
	 "','name':'x'}]},{'type':'tool_search_call','call_id':'s1','execution':'cli"
	 "ent','arguments':{'query':'x'}},{'type':'tool_search_output','call_id':'s1"
	 "','execution':'client','tools':[{'type':'namespace','name':'ns','tools':[{"
	 "'type':'function','name':'h','defer_loading':true},{'type':'custom','name'"
	 ":'i'}]}]},{'type':'tool_search_call','call_id':'s2','execution':'client','"
	 "arguments':{'query':'y'}},{'type':'tool_search_output','call_id':'s2','exe"
	 "cution':'client','tools':[]},{'role':'user','content':'go on'}],'tools':[{"
	 "'type':'tool_search','execution':'client','description':'d','parameters':{"
	 "'type': 'object'}}]}",
		"{'model':'m','messages':[{'role':'user','content':'q'},{'role':'assistant'"
		",'content':'','tool_calls':[{'id':'s1','type':'function','function':{'name"
		"':'tool_search','arguments':'{\\\"query\\\":\\\"x\\\"}'}}]},{'role':'tool'"
		",'content':'These tools can be called now: ns__h, ns__i','tool_call_id':'s"
		"1'},{'role':'assistant','content':'','tool_calls':[{'id':'s2','type':'func"
		"tion','function':{'name':'tool_search','arguments':'{\\\"query\\\":\\\"y"
		"\\\"}'}}]},{'role':'tool','content':'No tools were found.','tool_call_id':"
		"'s2'},{'role':'user','content':'go on'}],'stream':false,'tools':[{'type':'"
		"function','function':{'name':'tool_search','description':'d','parameters':"
		"{'type': 'object'}}},{'type':'function','function':{'name':'ns__h','parame"
		"ters':{'type':'object','properties':{}}}},{'type':'function','function':{'"
		"name':'ns__i','description':'The argument input is the whole input of the "
		"tool, as text.','parameters':{'type':'object','properties':{'input':{'type"
		"':'string'}},'required':['input']}}}]}",
		"{'model':'m','messages':[{'role':'user','content':'q'},{'role':'assistant'"
		",'content':'','tool_calls':[{'id':'s1','function':{'name':'tool_search','a"
		"rguments':{'query':'x'}}}]},{'role':'tool','content':'These tools can be c"
		"alled now: ns__h, ns__i','tool_call_id':'s1','tool_name':'tool_search'},{'"
		"role':'assistant','content':'','tool_calls':[{'id':'s2','function':{'name'"
		":'tool_search','arguments':{'query':'y'}}}]},{'role':'tool','content':'No "
		"tools were found.','tool_call_id':'s2','tool_name':'tool_search'},{'role':"
		"'user','content':'go on'}],'stream':false,'truncate':false,'tools':[{'type"
		"':'function','function':{'name':'tool_search','description':'d','parameter"
		"s':{'type': 'object'}}},{'type':'function','function':{'name':'ns__h','par"
		"ameters':{'type':'object','properties':{}}}},{'type':'function','function'"
		":{'name':'ns__i','description':'The argument input is the whole input of t"
		"he tool, as text.','parameters':{'type':'object','properties':{'input':{'t"
		"ype':'string'}},'required':['input']}}}]}"},
	/* What counts from an item on; what another agent says. */
	{"{'model':'m','input':[{'type':'configuration_update','reasoning':{'effort'"
	 ":'low'}},{'type':'agent_message','author':'/root','recipient':'/root/a','c"
	 "ontent':[{'type':'input_text','text':'Payload:'},{'type':'encrypted_conten"
	 "t','encrypted_content':'look'},{'type':'encrypted_content','encrypted_cont"
	 "ent':'gAAAAsecret'}]},{'type':'agent_message','author':'/root','recipient'"
	 ":'/root/a','content':[]},{'type':'configuration_update','reasoning':{'effo"
	 "rt':'high'},'text':{'format':{'type':'json_object'}}},{'type':'configurati"
	 "on_update'}],'reasoning':{'effort':'none','summary':'auto'},'text':{'verbo"
	 "sity':'low'}}",
		"{'model':'m','messages':[{'role':'user','content':'Payload:\\nlook'}],'str"
		"eam':false,'response_format':{'type':'json_object'},'chat_template_kwargs'"
		":{'enable_thinking':true,'reasoning_effort':'high'}}",
		"{'model':'m','messages':[{'role':'user','content':'Payload:\\nlook'}],'str"
		"eam':false,'truncate':false,'format':'json','think':'high'}"},
	{"{'model':'m'," Q ",'tools':[{'type':'web_search'}],'tool_choice':'auto'}",
		"{'model':'m'," ASKED ",'stream':false,'tool_choice':'auto'}",
		"{'model':'m'," ASKED END_OLLAMA},
	/* Sampling, form, thinking, logprobs. */
	{"{'model':'m','stream':true," Q ",'max_output_tokens':9,'temperature':0.70,'top_p':0.9,"
	 "'reasoning':{'effort':'low','summary':'auto'},'text':{'format':{'type':'json_schema',"
	 "'name':'n','schema':{'type': 'object'}},'verbosity':'low'},'include':["
	 "'message.output_text.logprobs'],'top_logprobs':2,'store':false,'metadata':{'a':'b'},"
	 "'truncation':'auto','service_tier':'auto','user':'u'}",
		"{'model':'m'," ASKED ",'stream':true,'stream_options':{'include_usage':true},"
		"'response_format':{'type':'json_schema','json_schema':{'name':'format','schema':{"
		"'type': 'object'}}},'chat_template_kwargs':{'enable_thinking':true,"
		"'reasoning_effort':'low'},'logprobs':true,'top_logprobs':2,'temperature':0.70,"
		"'top_p':0.9,'max_tokens':9}",
		"{'model':'m'," ASKED ",'stream':true,'truncate':false,'format':{'type': 'object'},"
		"'think':'low','logprobs':true,'top_logprobs':2,'options':{'num_predict':9,"
		"'temperature':0.70,'top_p':0.9}}"},
	/* What is said of every model is no order to one that cannot think. */
	{"{'model':'m'," Q ",'reasoning':{'effort':'medium'},'text':{'format':{'type':"
	 "'json_object'}}}",
		"{'model':'m'," ASKED ",'stream':false,'response_format':{'type':'json_object'},"
		"'chat_template_kwargs':{'enable_thinking':true,'reasoning_effort':'medium'}}",
		"{'model':'m'," ASKED ",'stream':false,'truncate':false,'format':'json'}"},
	{"{'model':'m'," Q ",'reasoning':{'effort':'none'},'text':{'format':{'type':'text'}}}",
		"{'model':'m'," ASKED
		",'stream':false,'chat_template_kwargs':{'enable_thinking':false}}",
		"{'model':'m'," ASKED ",'stream':false,'truncate':false,'think':false}"},
};

static void check_request(enum backend_api api, const char *given, const char *expected)
{
	struct backend_call call;
	struct chat_request r;
	struct dialect_error error;
	struct json_value root;
	struct buf taken, body;
	char *wanted = json_of(expected);
	take(given, &taken, &r);
	buf_init(&body, 0);
	assert_int_equal(backend_call_build(api, &r, 0, &call, &body, &error), 0);
	assert_string_equal(buf_cstr(&body), wanted);
	assert_int_equal(json_parse(buf_slice(&body), JSON_MAX_DEPTH, &root, NULL), 0);
	assert_false(call.raw);
	chat_request_fini(&r);
	buf_free(&taken);
	buf_free(&body);
	free(wanted);
}

static void requests_reach_both_backends(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(requests); i++) {
		check_request(BACKEND_LLAMA_SERVER, requests[i].body, requests[i].llama);
		check_request(BACKEND_OLLAMA, requests[i].body, requests[i].ollama);
	}
	check_request(BACKEND_OPENAI, "{'model':'m'," Q ",'reasoning':{'effort':'medium'}}",
		"{'model':'m'," ASKED ",'stream':false,'reasoning_effort':'medium'}");
}

static void a_view_has_turns_as_messages(void **state)
{
	static const struct {
		enum chat_role role;
		const char *text;
		size_t thinking;
	} wanted[] = {
		{CHAT_SYSTEM, "S\nD", 0},
		{CHAT_USER, "read\nthem", 0},
		{CHAT_ASSISTANT, "I read\nf({\"z\": 1.0})\npatch({\"input\":\"a\n\"b\"\"})", 2},
		{CHAT_TOOL, "one", 0},
		{CHAT_TOOL, "two", 0},
		{CHAT_USER, "", 0},
		{CHAT_USER, "<system-reminder>\n9 left\n</system-reminder>", 0},
		{CHAT_USER, "go on", 0},
	};
	struct chat_request r;
	struct buf body;
	(void)state;
	take(AGENT, &body, &r);
	assert_int_equal(r.count, COUNT(wanted));
	assert_true(r.condensable);
	assert_false(r.stream);
	for (size_t i = 0; i < r.count; i++) {
		struct buf got;
		buf_init(&got, 0);
		assert_int_equal(chat_message_text(&r, i, &got), 0);
		assert_string_equal(got.n ? buf_cstr(&got) : "", wanted[i].text);
		assert_int_equal(r.messages[i].role, wanted[i].role);
		assert_int_equal(r.messages[i].thinking, wanted[i].thinking);
		buf_free(&got);
	}
	assert_true(json_string_is(r.messages[4].call_id, "c2"));
	assert_int_equal(r.census.images, 1);
	chat_request_fini(&r);
	buf_free(&body);
}

/* What was said before stays the same bytes when the conversation grows. */
static void a_prefix_stays_its_bytes(void **state)
{
	char longer[sizeof(AGENT) + 100];
	struct chat_request a, b;
	struct buf first, second;
	(void)state;
	snprintf(longer, sizeof(longer), "%.*s,{'role':'assistant','content':'ok'}]}",
		(int)sizeof(AGENT) - 3, AGENT);
	take(AGENT, &first, &a);
	take(longer, &second, &b);
	assert_int_equal(b.count, a.count + 1);
	for (size_t i = 0; i < a.count; i++)
		assert_true(slice_eq(a.messages[i].raw.raw, b.messages[i].raw.raw));
	assert_false(b.condensable);
	chat_request_fini(&a);
	chat_request_fini(&b);
	buf_free(&first);
	buf_free(&second);
}

static const struct {
	const char *body, *words;
	bool read; /* refused before it is asked of a backend */
} wrong[] = {
	{"{'model':'m'}", "Missing required parameter: 'input'", true},
	{"{'model':'m','messages':[{'role':'user','content':'q'}]}", "'input'", true},
	{"{'input':1}", "string or a list", true},
	{"{'input':''}", "empty", true},
	{"{'input':[]}", "empty", true},
	{"{'input':['q']}", "input[0]: an item must be an object", true},
	{"{'input':[{'type':'reasoning','summary':[]}]}", "no item", true},
	{"{" Q ",'previous_response_id':'resp_1'}", "previous_response_id", true},
	{"{" Q ",'conversation':{'id':'c'}}", "conversation", true},
	{"{" Q ",'background':true}", "background", true},
	{"{" Q ",'prompt':{'id':'p'}}", "prompt", true},
	{"{'input':[{'role':'user','content':'q'},{'type':'item_reference','id':'x'}]}",
		"input[1]: no response is stored", true},
	{"{'input':[{'type':'compaction'}]}", "encrypted_content", true},
	{"{'input':[{'type':'compaction','encrypted_content':''}]}", "encrypted_content", true},
	{"{'input':[{'type':'compaction_trigger'},{'role':'user','content':'q'}]}",
		"input[1]: nothing may stand behind", true},
	{"{'input':[{'type':'shell_call'}]}", "type \"shell_call\"", true},
	{"{'input':[{'type':'additional_tools','role':'developer'}]}", "list of tools", true},
	{"{'input':[{'role':'user','content':'q'},{'type':'additional_tools','tools':[{'type':"
	 "'mcp','server_label':'x'}]}]}",
		"\"mcp\"", true},
	{"{'input':[{'role':'user','content':'q'},{'type':'additional_tools','tools':[{'type':"
	 "'namespace','name':'n','tools':[{'type':'function'}]}]}]}",
		"name", true},
	{"{'input':[{'role':'user','content':'q'},{'type':'additional_tools','tools':[1]}]}",
		"tools", true},
	{"{'tools':1,'input':[{'type':'additional_tools','tools':[{'type':'x'}]}]}",
		"tools: must be a list", true},
	{"{'input':[{'type':'tool_search_output','execution':'client','tools':[]}]}", "call_id",
		true},
	{"{'input':[{'type':'tool_search_call','execution':'client','arguments':{}}]}", "call_id",
		true},
	{"{'input':[{'type':'agent_message','content':[{'type':'input_image'}]}]}",
		"nothing but text", true},
	{"{'input':[{'type':'agent_message','content':1}]}",
		"content must be a string or a list of parts", true},
	{"{'input':[{'type':'agent_message'}]}", "content must be a string or a list of parts",
		true},
	{"{" Q ",'moderation':{'model':'x'}}", "moderates nothing", true},
	{"{" Q ",'prompt_cache_options':{'prewarm':true}}", "prewarm", true},
	{"{'input':[{'role':'user'}]}", "content", true},
	{"{'input':[{'role':'tool','content':'q'}]}", "role", true},
	{"{'input':[{'role':'user','content':[{'type':'input_file','file_id':'x'}]}]}",
		"\"input_file\"", true},
	{"{'input':[{'role':'user','content':[{'type':'input_image','file_id':'x'}]}]}",
		"image_url", true},
	{"{'input':[{'role':'system','content':[{'type':'input_image','image_url':'x'}]}]}",
		"nothing but text", true},
	{"{'input':[{'role':'assistant','content':[{'type':'input_image','image_url':'x'}]}]}",
		"nothing but text", true},
	{"{'input':[{'type':'function_call','name':'f'}]}", "call_id", true},
	{"{'input':[{'type':'function_call_output','output':'x'}]}", "call_id", true},
	{"{'input':[{'type':'function_call_output','call_id':'c','output':1}]}", "output", true},
	{"{" Q ",'tools':{}}", "tools", true},
	{"{" Q ",'tools':[{'type':'function'}]}", "name", true},
	{"{" Q ",'tools':[{'type':'mcp','server_label':'x'}]}", "\"mcp\"", true},
	{"{" Q ",'tools':[{'type':'local_shell'}]}", "\"local_shell\"", true},
	{"{" Q ",'tools':[{'type':'namespace','name':'n','tools':[{'type':'web_search'}]}]}",
		"\"web_search\"", true},
	{"{" Q ",'tool_choice':'some'}", "tool_choice", false},
	{"{" Q ",'tool_choice':'required'}", "tool_choice needs tools", false},
	{"{" Q ",'text':{'format':{'type':'xml'}}}", "text.format", false},
	{"{" Q ",'max_output_tokens':'9'}", "max_output_tokens", false},
	{"{" Q ",'temperature':'hot'}", "temperature", false},
	{"{" Q ",'tool_choice':{'type':'function','name':'f'}}", "tool_choice", false},
	{"{" Q ",'tools':[{'type':'web_search'}],'tool_choice':{'type':'web_search'}}",
		"tool_choice", false},
	{"{" Q ",'tools':[{'type':'tool_search'},{'type':'function','name':'tool_search'}],"
	 "'tool_choice':{'type':'tool_search'}}",
		"tool_choice", false},
};

static void what_cannot_be_is_said(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		char *text = json_of(wrong[i].body);
		struct dialect_error error = {0};
		struct chat_request r;
		struct backend_call call;
		struct buf given, body;
		buf_init(&given, 0);
		buf_init(&body, 0);
		buf_add_str(&given, text);
		print_message("%s\n", text);
		int rc = chat_request_take(R, &given, &r, &error);
		assert_int_equal(rc, wrong[i].read ? -EINVAL : 0);
		if (rc == 0) {
			rc = backend_call_build(BACKEND_OLLAMA, &r, 0, &call, &body, &error);
			chat_request_fini(&r);
		}
		assert_int_equal(rc, -EINVAL);
		assert_int_equal(error.status, 400);
		if (!strstr(error.text, wrong[i].words))
			fail_msg("%s", error.text);
		buf_free(&given);
		buf_free(&body);
		free(text);
	}
}

static void a_body_has_a_cap(void **state)
{
	struct dialect_error error = {0};
	struct chat_request r;
	struct buf body;
	(void)state;
	buf_init(&body, 3200);
	buf_add_str(&body, "{\"input\":[{\"role\":\"user\",\"content\":\"\"}");
	for (int i = 0; i < 100; i++) /* each grows to more than twice its size */
		buf_add_str(&body, ",{\"role\":\"system\",\"content\":\"\"}");
	buf_add_str(&body, "]}");
	assert_int_equal(buf_error(&body), 0);
	assert_int_equal(chat_request_take(R, &body, &r, &error), -EINVAL);
	assert_int_equal(error.status, 413);
	buf_free(&body);
}

static void tokens_are_counted_as_of_an_answer(void **state)
{
	struct chat_request r;
	struct dialect_error error;
	struct buf body, out;
	(void)state;
	buf_init(&body, 0);
	buf_init(&out, 0);
	buf_add_str(&body, "{\"input\":\"many words\"}");
	assert_int_equal(chat_request_take(DIALECT_RESPONSES_COUNT, &body, &r, &error), 0);
	assert_true(token_census_start(&r.census) > 0);
	assert_true(dialect_counts(DIALECT_RESPONSES_COUNT));
	assert_false(dialect_counts_behind(DIALECT_RESPONSES_COUNT) || dialect_counts(R));
	assert_true(dialect_counts_behind(DIALECT_ANTHROPIC_COUNT));
	dialect_count_body(DIALECT_RESPONSES_COUNT, 7, &out);
	assert_string_equal(
		buf_cstr(&out), "{\"object\":\"response.input_tokens\",\"input_tokens\":7}");
	buf_clear(&out);
	dialect_count_body(DIALECT_ANTHROPIC_COUNT, 7, &out);
	assert_string_equal(buf_cstr(&out), "{\"input_tokens\":7}");
	chat_request_fini(&r);
	buf_free(&body);
	buf_free(&out);
}

/* --- errors --- */

static void errors_have_its_shape(void **state)
{
	static const struct {
		int status;
		const char *type, *code; /* code: in a stream */
	} types[] = {{400, "invalid_request_error", "invalid_prompt"},
		{401, "authentication_error", "server_error"},
		{404, "not_found_error", "invalid_prompt"},
		{429, "rate_limit_error", "rate_limit_exceeded"},
		{500, "server_error", "server_error"}, {503, "unavailable_error", "server_error"}};
	struct dialect_stream at = {.partial = true, .id = "7"};
	struct buf out;
	char wanted[160];
	(void)state;
	buf_init(&out, 0);
	for (size_t i = 0; i < COUNT(types); i++) {
		buf_clear(&out);
		dialect_error_body(R, types[i].status, SLICE("x"), &out);
		snprintf(wanted, sizeof(wanted),
			"{\"error\":{\"message\":\"x\",\"type\":\"%s\",\"param\":null,\"code\":"
			"null}}",
			types[i].type);
		assert_string_equal(buf_cstr(&out), wanted);
		/* No event has come before: a response begins, and fails. */
		buf_clear(&out);
		dialect_error_inband(R, true, types[i].status, SLICE("x"), &at, &out);
		assert_memory_equal(out.p, "\n\nevent: response.created\n", 26);
		assert_non_null(strstr(buf_cstr(&out), "\"id\":\"resp_7\""));
		snprintf(wanted, sizeof(wanted), "\"error\":{\"code\":\"%s\",\"message\":\"x\"}",
			types[i].code);
		assert_non_null(strstr(buf_cstr(&out), wanted));
	}
	/* Some have: the response has its name, and the number is one that none of them can have. */
	at = (struct dialect_stream){.id = "7",
		.identity = SLICE("\"id\":\"resp_i\",\"object\":\"response\",\"created_at\":1"),
		.bytes = 999};
	buf_clear(&out);
	dialect_overflow_body(R, 9000, 8192, &out);
	assert_non_null(strstr(buf_cstr(&out), "\"param\":\"input\",\"code\":"
					       "\"context_length_exceeded\",\"n_prompt_tokens\":"
					       "9000,\"n_ctx\":8192}}"));
	struct buf events;
	buf_init(&events, 0);
	dialect_error_inband_body(R, true, buf_slice(&out), &at, &events);
	assert_ptr_equal(strstr(buf_cstr(&events), "event: response.failed\n"), events.p);
	assert_non_null(strstr(buf_cstr(&events), "\"sequence_number\":999,"));
	assert_non_null(strstr(buf_cstr(&events), "\"id\":\"resp_i\""));
	assert_non_null(strstr(buf_cstr(&events), "\"code\":\"context_length_exceeded\""));
	assert_true(dialect_streams_overflow(R));
	assert_false(dialect_streams_overflow(DIALECT_OPENAI_CHAT));
	buf_free(&events);
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_reach_both_backends),
		cmocka_unit_test(a_view_has_turns_as_messages),
		cmocka_unit_test(a_prefix_stays_its_bytes),
		cmocka_unit_test(what_cannot_be_is_said),
		cmocka_unit_test(a_body_has_a_cap),
		cmocka_unit_test(tokens_are_counted_as_of_an_answer),
		cmocka_unit_test(errors_have_its_shape),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
