/* What a backend is asked: golden vectors for each direction of translation. */
#include "common/dialect/backend.h"
#include "tests/unit/test_dialect.h"

#define CHAT DIALECT_OLLAMA_CHAT
#define GENERATE DIALECT_OLLAMA_GENERATE
#define OPENAI DIALECT_OPENAI_CHAT
#define PROMPT DIALECT_OPENAI_TEXT

#define U "'messages':[{'role':'user','content':'q'}]"
/* What llama-server is asked to stream by default. */
#define LS ",'stream':true,'stream_options':{'include_usage':true}"

struct vector {
	enum dialect dialect;
	const char *body;
	int64_t num_ctx;
	const char *expected;
	const char *path; /* NULL: the usual one */
};

static const struct vector to_ollama[] = {
	{OPENAI, "{'model':'m'," U "}", 0, "{'model':'m'," U ",'stream':false}", NULL},
	{OPENAI, "{'model':'m','stream':true," U "}", 8192,
		"{'model':'m'," U ",'stream':true,'options':{'num_ctx':8192}}", NULL},
	/* Options, whose digits stay; nulls and what Ollama has no word for go. */
	{OPENAI,
		"{" U ",'max_tokens':5,'temperature':0.70000000000000000001,'top_p':null,'seed':"
		"9007199254740993,"
		"'stop':'a\\u2028','frequency_penalty':1e-1,'presence_penalty':-0.0,'top_k':3,'min_"
		"p':0,'user':'u',"
		"'n':1,'logit_bias':{}}",
		0,
		"{" U ",'stream':false,'options':{'num_predict':5,'temperature':0."
		"70000000000000000001,'top_k':3,"
		"'min_p':0,'seed':9007199254740993,'presence_penalty':-0.0,'frequency_penalty':1e-"
		"1,"
		"'stop':['a\\u2028']}}",
		NULL},
	{OPENAI, "{" U ",'max_completion_tokens':7,'max_tokens':5,'stop':['a','b']}", 0,
		"{" U ",'stream':false,'options':{'num_predict':7,'stop':['a','b']}}", NULL},
	/* Messages of the same shape are raw, odd spacing and unknown members included. */
	{OPENAI,
		"{'messages':[ {'role' : 'user','content':'\\u0000\\/','x':1.0e5} "
		",{'role':'assistant','content':null}]}",
		0,
		"{'messages':[{'role' : 'user','content':'\\u0000\\/','x':1.0e5},"
		"{'role':'assistant','content':null}],'stream':false}",
		NULL},
	/* What a model would not say was said. */
	{OPENAI,
		"{'messages':[{'role':'assistant','content':null,'refusal':'No.'},{'role':"
		"'assistant','content':'a','refusal':null},"
		"{'role':'user','content':'q'}"
		"]}",
		0,
		"{'messages':[{'role':'assistant','content':'No.'},{'role':'assistant','content':"
		"'a','refusal':null},"
		"{'role':'user','content':'q'}"
		"],'stream':false}",
		NULL},
	/* Roles, parts, images. */
	{OPENAI,
		"{'messages':[{'role':'developer','content':'d'},{'role':'user','content':[{'type':"
		"'text','text':'a\\n'},"
		"{'type':'image_url','image_url':{'url':'data:image/png;base64,iVB\\/"
		"+='}},{'type':'text','text':'b'},"
		"{'type':'image_url','image_url':'data:;base64,QQ=='}]},{'role':'user','content':[]"
		"}]}",
		0,
		"{'messages':[{'role':'system','content':'d'},{'role':'user','content':'a\\n\\nb','"
		"images':['iVB\\/+=',"
		"'QQ==']},{'role':'user','content':''}],'stream':false}",
		NULL},
	/* Tool calls: strings become objects, key order and numbers stay, nothing is lost. */
	{OPENAI,
		"{'messages':[{'role':'assistant','content':null,'reasoning_content':'h','tool_"
		"calls':["
		"{'id':'c1','type':'function','function':{'name':'f','arguments':'{ "
		"\\u0022z\\u0022: 1.0, \\u0022a\\u0022:[]}'}},"
		"{'id':'c2','type':'function','function':{'name':'g','arguments':''}},"
		"{'id':'c3','type':'function','function':{'name':'g','arguments':'{oops'}},"
		"{'id':'c4','type':'function','function':{'name':'g','arguments':'[1]'}},"
		"{'id':'c5','type':'function','function':{'name':'g','arguments':{'o':1}}}]},"
		"{'role':'tool','tool_call_id':'c1','content':'r1'},"
		"{'role':'tool','tool_call_id':'c3','content':[{'type':'text','text':'r3'}]},"
		"{'role':'tool','tool_call_id':'zz','content':'r?'}]}",
		0,
		"{'messages':[{'role':'assistant','content':'','thinking':'h','tool_calls':["
		"{'id':'c1','function':{'name':'f','arguments':{ 'z': 1.0, 'a':[]}}},"
		"{'id':'c2','function':{'name':'g','arguments':{}}},"
		"{'id':'c3','function':{'name':'g','arguments':{'raw_arguments':'{oops'}}},"
		"{'id':'c4','function':{'name':'g','arguments':{'raw_arguments':'[1]'}}},"
		"{'id':'c5','function':{'name':'g','arguments':{'o':1}}}]},"
		"{'role':'tool','content':'r1','tool_call_id':'c1','tool_name':'f'},"
		"{'role':'tool','content':'r3','tool_call_id':'c3','tool_name':'g'},"
		"{'role':'tool','content':'r?','tool_call_id':'zz'}],'stream':false}",
		NULL},
	/* The older functions. */
	{OPENAI,
		"{'messages':[{'role':'assistant','content':null,'function_call':{'name':'f','"
		"arguments':'{}'}},"
		"{'role':'function','name':'f','content':'r'}],'functions':[{'name':'f'},{'name':'"
		"g'}]}",
		0,
		"{'messages':[{'role':'assistant','content':'','tool_calls':[{'function':{'name':'"
		"f','arguments':{}}}]},"
		"{'role':'tool','content':'r','tool_name':'f'}],'stream':false,'tools':["
		"{'type':'function','function':{'name':'f'}},{'type':'function','function':{'name':"
		"'g'}}]}",
		NULL},
	{OPENAI,
		"{" U
		",'tools':[ {'type':'function','function':{'name':'f','parameters':{'oneOf':[]}}} "
		"],'tool_choice':'auto'}",
		0,
		"{" U ",'stream':false,'tools':[ "
		"{'type':'function','function':{'name':'f','parameters':{'oneOf':[]}}} ]}",
		NULL},
	{OPENAI, "{" U ",'tools':[{}],'tool_choice':'none'}", 0, "{" U ",'stream':false}", NULL},
	{OPENAI, "{" U ",'functions':[{}],'function_call':'none'}", 0, "{" U ",'stream':false}",
		NULL},
	/* Format and thinking. */
	{OPENAI, "{" U ",'response_format':{'type':'json_object'}}", 0,
		"{" U ",'stream':false,'format':'json'}", NULL},
	{OPENAI,
		"{" U ",'response_format':{'type':'json_schema','json_schema':{'name':'n','schema':"
		"{'type': 'object'}}}}",
		0, "{" U ",'stream':false,'format':{'type': 'object'}}", NULL},
	{OPENAI, "{" U ",'response_format':{'type':'text'}}", 0, "{" U ",'stream':false}", NULL},
	{OPENAI, "{" U ",'reasoning_effort':'none'}", 0, "{" U ",'stream':false,'think':false}",
		NULL},
	{OPENAI, "{" U ",'reasoning':{'effort':'xhigh'}}", 0,
		"{" U ",'stream':false,'think':'high'}", NULL},
	{OPENAI, "{" U ",'chat_template_kwargs':{'enable_thinking':false}}", 0,
		"{" U ",'stream':false,'think':false}", NULL},
	{OPENAI, "{" U ",'logprobs':true,'top_logprobs':2}", 0,
		"{" U ",'stream':false,'logprobs':true,'top_logprobs':2}", NULL},
};

static const struct vector prompts_to_ollama[] = {
	{PROMPT, "{'model':'m','prompt':'a\\u0041 '}", 0,
		"{'model':'m','prompt':'a\\u0041 ','raw':true,'stream':false}", "/api/generate"},
	{PROMPT,
		"{'model':'m','prompt':['p'],'stream':true,'stream_options':{'include_usage':true},"
		"'max_tokens':5,'temperature':0.70,'stop':'x','seed':3,'n':1,'best_of':1,'logit_"
		"bias':{},'user':'u','echo':true}",
		4096,
		"{'model':'m','prompt':'p','raw':true,'stream':true,'options':{'num_ctx':4096,"
		"'num_predict':5,'temperature':0.70,'seed':3,'stop':['x']}}",
		"/api/generate"},
	/* Only the template knows how a model fills in. */
	{PROMPT, "{'model':'m','prompt':'p','suffix':'s'}", 0,
		"{'model':'m','prompt':'p','suffix':'s','stream':false}", "/api/generate"},
	{PROMPT, "{'model':'m','prompt':'p','suffix':null,'logprobs':3}", 0,
		"{'model':'m','prompt':'p','raw':true,'stream':false,'logprobs':true,'top_"
		"logprobs':3}",
		"/api/generate"},
	{PROMPT, "{'model':'m','prompt':'p','response_format':{'type':'json_object'}}", 0,
		"{'model':'m','prompt':'p','raw':true,'stream':false,'format':'json'}",
		"/api/generate"},
	{PROMPT, "{'model':'m','prompt':'p','json_schema':{'type': 'object'}}", 0,
		"{'model':'m','prompt':'p','raw':true,'stream':false,'format':{'type': 'object'}}",
		"/api/generate"},
};

/* llama-server's own members stay beside what is translated. */
static const struct vector prompts_to_llama[] = {
	{PROMPT,
		"{'model':'m','prompt':['p'],'echo':true,'dry_multiplier':0.50,'max_tokens':5,"
		"'logit_bias':{'1':2},'temperature':1}",
		4096,
		"{'model':'m','prompt':'p','stream':false,'temperature':1,'max_tokens':5,'dry_"
		"multiplier':0.50,'logit_bias':{'1':2}}",
		"/v1/completions"},
	{PROMPT, "{'prompt':'p','suffix':'s','stream':true,'max_tokens':5,'grammar':'g'}", 0,
		"{'input_prefix':'p','input_suffix':'s','stream':true,'n_predict':5,'grammar':'g'}",
		"/infill"},
	/* Refused there even where it says nothing. */
	{PROMPT, "{'prompt':'p','suffix':null}", 0, "{'prompt':'p','stream':false}",
		"/v1/completions"},
	{PROMPT, "{'prompt':'p','suffix':''}", 0, "{'prompt':'p','stream':false}",
		"/v1/completions"},
};

static const struct vector to_llama[] = {
	{CHAT, "{'model':'m'," U "}", 4096, "{'model':'m'," U LS "}", NULL},
	{CHAT,
		"{'model':'m','stream':false,'keep_alive':'5m','truncate':false," U
		",'options':{'num_ctx':9,'num_predict':-1,"
		"'temperature':0.10,'stop':['x'],'seed':42,'num_keep':4,'repeat_penalty':1.1,'num_"
		"gpu':1}}",
		0,
		"{'model':'m'," U
		",'stream':false,'temperature':0.10,'repeat_penalty':1.1,'seed':42,'n_keep':4,"
		"'stop':['x']}",
		NULL},
	{CHAT, "{'model':'m'," U ",'options':{'num_predict':12}}", 0,
		"{'model':'m'," U LS ",'max_tokens':12}", NULL},
	/* Roles in any case; images in front of the text, whole URIs as they are. */
	{CHAT,
		"{'model':'m','messages':[{'role':'User','content':'q'},{'role':'user','content':'"
		"what','images':['/9j/4A',"
		"'data:image/"
		"webp;base64,UklGRg','iVBOR','UklGRx']},{'role':'user','content':'','images':['"
		"R0lGOD']},"
		"{'role':'user'}]}",
		0,
		"{'model':'m','messages':[{'role':'user','content':'q'},{'role':'user','content':["
		"{'type':'image_url','image_url':{'url':'data:image/jpeg;base64,/9j/4A'}},"
		"{'type':'image_url','image_url':{'url':'data:image/webp;base64,UklGRg'}},"
		"{'type':'image_url','image_url':{'url':'data:image/png;base64,iVBOR'}},"
		"{'type':'image_url','image_url':{'url':'data:image/webp;base64,UklGRx'}},"
		"{'type':'text','text':'what'}]},{'role':'user','content':["
		"{'type':'image_url','image_url':{'url':'data:image/"
		"gif;base64,R0lGOD'}}]},{'role':'user','content':''}]" LS "}",
		NULL},
	/* Tool calls: objects become strings; ids that are missing are made up and found again. */
	{CHAT,
		"{'model':'m','messages':[{'role':'user','content':'q'},{'role':'assistant','"
		"content':'','thinking':'h','tool_calls':["
		"{'function':{'name':'f','arguments':{'z': "
		"1.0,'s':'a\\n'}}},{'function':{'name':'g','arguments':{}}},"
		"{'function':{'name':'f'}},{'id':'own','function':{'name':'h','arguments':'{}'}}]},"
		"{'role':'tool','tool_name':'g','content':'rg'},{'role':'tool','tool_name':'f','"
		"content':'rf0'},"
		"{'role':'tool','tool_name':'f','content':'rf1'},{'role':'tool','content':'rh'},"
		"{'role':'tool','tool_call_id':'own','content':'rh'},{'role':'user','content':'q'},"
		"{'role':'tool','content':'stray'}]}",
		0,
		"{'model':'m','messages':[{'role':'user','content':'q'},{'role':'assistant','"
		"content':'','reasoning_content':'h',"
		"'tool_calls':[{'id':'call_1_0','type':'function','function':{'name':'f','"
		"arguments':"
		"'{\\\"z\\\": 1.0,\\\"s\\\":\\\"a\\\\n\\\"}'}},"
		"{'id':'call_1_1','type':'function','function':{'name':'g','arguments':'{}'}},"
		"{'id':'call_1_2','type':'function','function':{'name':'f','arguments':'{}'}},"
		"{'id':'own','type':'function','function':{'name':'h','arguments':'{}'}}]},"
		"{'role':'tool','content':'rg','tool_call_id':'call_1_1','name':'g'},"
		"{'role':'tool','content':'rf0','tool_call_id':'call_1_0','name':'f'},"
		"{'role':'tool','content':'rf1','tool_call_id':'call_1_2','name':'f'},"
		"{'role':'tool','content':'rh','tool_call_id':'own'},"
		"{'role':'tool','tool_call_id':'own','content':'rh'},{'role':'user','content':'q'},"
		"{'role':'tool','content':'stray'}]" LS "}",
		NULL},
	{CHAT, "{'model':'m'," U ",'tools':[ 1.0 ],'tool_choice':'required'}", 0,
		"{'model':'m'," U LS ",'tools':[ 1.0 ],'tool_choice':'required'}", NULL},
	/* Format and thinking. */
	{CHAT, "{'model':'m'," U ",'format':'json','think':false}", 0,
		"{'model':'m'," U LS ",'response_format':{'type':'json_object'},"
		"'chat_template_kwargs':{'enable_thinking':false}}",
		NULL},
	{CHAT, "{'model':'m'," U ",'format':{'type':'object'},'think':'low'}", 0,
		"{'model':'m'," U LS
		",'response_format':{'type':'json_schema','json_schema':{'name':'format','schema':"
		"{'type':'object'}}},'chat_template_kwargs':{'enable_thinking':true,'reasoning_"
		"effort':'low'}}",
		NULL},
	{CHAT, "{'model':'m','messages':[{'role':'assistant','content':'Once'}],'format':''}", 0,
		"{'model':'m','messages':[{'role':'assistant','content':'Once'}]" LS
		",'chat_template_kwargs':{'enable_thinking':false}}",
		NULL},
	{CHAT, "{'model':'m'," U ",'logprobs':true,'top_logprobs':1}", 0,
		"{'model':'m'," U LS ",'logprobs':true,'top_logprobs':1}", NULL},
	/* /api/generate. */
	{GENERATE, "{'model':'m','system':'s','prompt':'p','images':['iVB'],'think':true}", 0,
		"{'model':'m','messages':[{'role':'system','content':'s'},{'role':'user','content':"
		"["
		"{'type':'image_url','image_url':{'url':'data:image/"
		"png;base64,iVB'}},{'type':'text','text':'p'}]}]" LS
		",'chat_template_kwargs':{'enable_thinking':true}}",
		NULL},
	{GENERATE,
		"{'model':'m','prompt':'p','raw':true,'options':{'num_predict':3},'format':'json'}",
		0, "{'model':'m','prompt':'p'" LS ",'max_tokens':3,'json_schema':{}}",
		"/v1/completions"},
	{GENERATE,
		"{'model':'m','prompt':'int "
		"','suffix':'}','stream':false,'options':{'num_predict':3}}",
		0,
		"{'model':'m','input_prefix':'int "
		"','input_suffix':'}','stream':false,'n_predict':3}",
		"/infill"},
};

/* Takes the one member out that every translation to Ollama has. */
static void without_truncate(struct buf *body)
{
	static const char member[] = ",\"truncate\":false";
	char *at = strstr(buf_cstr(body), member);
	assert_non_null(at);
	size_t n = strlen(member), rest = body->n - (size_t)(at - body->p) - n;
	memmove(at, at + n, rest);
	body->n -= n;
	assert_null(strstr(buf_cstr(body), member));
}

static void check_vector(enum backend_api api, const struct vector *v)
{
	char *text = json_of(v->body), *expected = json_of(v->expected);
	struct chat_request r;
	struct dialect_error error = {0};
	struct backend_call call;
	struct json_value root;
	struct buf body;
	buf_init(&body, 0);
	print_message("%s\n", text);
	assert_int_equal(chat_request_parse(v->dialect, slice_str(text), &r, &error), 0);
	int rc = backend_call_build(api, &r, v->num_ctx, &call, &body, &error);
	if (rc)
		fail_msg("%d: %s", rc, error.text);
	if (api == BACKEND_OLLAMA)
		without_truncate(&body);
	assert_string_equal(buf_cstr(&body), expected);
	assert_int_equal(json_parse(buf_slice(&body), JSON_MAX_DEPTH, &root, NULL), 0);
	assert_string_equal(call.path, v->path		       ? v->path
				       : api == BACKEND_OLLAMA ? "/api/chat"
							       : "/v1/chat/completions");
	assert_false(call.raw);
	assert_int_equal(call.stream, r.stream);
	chat_request_fini(&r);
	buf_free(&body);
	free(expected);
	free(text);
}

static void openai_requests_become_ollamas(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(to_ollama); i++)
		check_vector(BACKEND_OLLAMA, &to_ollama[i]);
}

static void prompts_are_asked_of_either(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(prompts_to_ollama); i++)
		check_vector(BACKEND_OLLAMA, &prompts_to_ollama[i]);
	for (size_t i = 0; i < COUNT(prompts_to_llama); i++)
		check_vector(BACKEND_LLAMA_SERVER, &prompts_to_llama[i]);
}

static void ollama_requests_become_llama_servers(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(to_llama); i++)
		check_vector(BACKEND_LLAMA_SERVER, &to_llama[i]);
}

static const struct {
	enum backend_api api;
	enum dialect dialect;
	const char *body;
	const char *words;
} impossible[] = {
	{BACKEND_OLLAMA, OPENAI,
		"{'messages':[{'content':[{'type':'image_url','image_url':{'url':'https://x/"
		"y.png'}}]}]}",
		"data: URIs"},
	{BACKEND_OLLAMA, OPENAI, "{'messages':[{'content':[{'type':'image_url'}]}]}", "data: URIs"},
	{BACKEND_OLLAMA, OPENAI,
		"{'messages':[{'content':[{'type':'image_url','image_url':'data:,x'}]}]}",
		"data: URIs"},
	{BACKEND_OLLAMA, OPENAI, "{'messages':[{'content':[{'type':'input_audio'}]}]}",
		"neither text nor image"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'n':2}", "n must be 1"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'n':'2'}", "'n' must be"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'max_tokens':'2'}", "'max_tokens' must be"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'temperature':'hot'}", "'temperature' must be"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'stop':['a',1]}", "'stop' must be"},
	{BACKEND_LLAMA_SERVER, CHAT, "{'model':'m'," U ",'options':{'top_k':true}}",
		"'top_k' must be"},
	{BACKEND_LLAMA_SERVER, CHAT, "{'model':'m'," U ",'options':{'stop':7}}", "'stop' must be"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'logit_bias':{'1':2}}", "logit_bias"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'grammar':'g'}", "grammar"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'mirostat':2}", "mirostat"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'max_tokens':0}", "one token at least"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'tools':[{'type':'custom','custom':{'name':'f'}}]}",
		"type function alone"},
	{BACKEND_OLLAMA, OPENAI,
		"{" U ",'tools':[{'function':{'name':'f'}}],'tool_choice':{'type':'function',"
		"'function':{'name':'g'}}}",
		"not among the tools"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'tool_choice':'required'}", "needs tools"},
	{BACKEND_OLLAMA, OPENAI,
		"{" U ",'tools':[{'function':{'name':'f'}}],'tool_choice':{'type':"
		"'allowed_tools','allowed_tools':{}}}",
		"can name one function"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'response_format':{'type':'grammar'}}", "of the type"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'web_search_options':{}}", "searches nothing"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'modalities':['text','audio']}", "text alone"},
	{BACKEND_OLLAMA, OPENAI, "{" U ",'moderation':{'model':'x'}}", "moderates nothing"},
	{BACKEND_LLAMA_SERVER, GENERATE, "{'model':'m','prompt':'p','steps':4}", "no pictures"},
	{BACKEND_LLAMA_SERVER, PROMPT,
		"{'prompt':['a','b'],'response_format':{'type':'json_object'}}", "one prompt"},
	{BACKEND_OPENAI, GENERATE, "{'model':'m','prompt':'p','raw':true,'logprobs':true}",
		"no logprobs"},
	{BACKEND_OLLAMA, PROMPT, "{'prompt':['a','b']}", "one prompt"},
	{BACKEND_OLLAMA, PROMPT, "{'prompt':[1,2]}", "one prompt"},
	{BACKEND_OLLAMA, PROMPT, "{'prompt':''}", "not empty"},
	{BACKEND_OLLAMA, PROMPT, "{'prompt':'p','n':2}", "one answer"},
	{BACKEND_OLLAMA, PROMPT, "{'prompt':'p','best_of':2}", "one answer"},
	{BACKEND_OLLAMA, PROMPT, "{'prompt':'p','logit_bias':{'1':2}}", "logit_bias"},
	{BACKEND_OLLAMA, PROMPT, "{'prompt':'p','grammar':'g'}", "grammar"},
	{BACKEND_OLLAMA, PROMPT, "{'prompt':'p','max_tokens':0}", "max_tokens"},
	{BACKEND_OLLAMA, PROMPT, "{'prompt':'p','suffix':1}", "suffix"},
	{BACKEND_OLLAMA, PROMPT, "{'prompt':['a','b'],'echo':true}", "echo"},
	{BACKEND_OLLAMA, PROMPT, "{'prompt':'p','echo':true,'logprobs':1}", "echo"},
	{BACKEND_LLAMA_SERVER, PROMPT, "{'prompt':'p','echo':true,'logprobs':1}", "echo"},
	{BACKEND_LLAMA_SERVER, PROMPT, "{'prompt':'p','suffix':'s','logprobs':1}", "logprobs"},
	{BACKEND_LLAMA_SERVER, PROMPT, "{'prompt':'p','suffix':'s','n':2}", "one answer"},
	{BACKEND_LLAMA_SERVER, CHAT, "{'model':'m'," U ",'format':'yaml'}", "invalid format"},
	{BACKEND_LLAMA_SERVER, GENERATE, "{'model':'m','prompt':'p','context':[1]}", "context"},
	{BACKEND_LLAMA_SERVER, GENERATE, "{'model':'m','prompt':'p','template':'t'}", "template"},
	{BACKEND_LLAMA_SERVER, GENERATE, "{'model':'m','prompt':'p','system':'s','raw':true}",
		"raw mode"},
	{BACKEND_LLAMA_SERVER, GENERATE, "{'model':'m','prompt':'p','images':['a'],'raw':true}",
		"images"},
};

static void what_a_backend_cannot_do_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(impossible); i++) {
		char *text = json_of(impossible[i].body);
		struct chat_request r;
		struct dialect_error error = {0};
		struct backend_call call;
		struct buf body;
		buf_init(&body, 0);
		assert_int_equal(
			chat_request_parse(impossible[i].dialect, slice_str(text), &r, &error), 0);
		assert_int_equal(backend_call_build(impossible[i].api, &r, 0, &call, &body, &error),
			-EINVAL);
		assert_int_equal(error.status, 400);
		if (!strstr(error.text, impossible[i].words))
			fail_msg("%s: %s", text, error.text);
		chat_request_fini(&r);
		buf_free(&body);
		free(text);
	}
}

static const struct {
	enum backend_api api;
	enum dialect dialect;
	const char *body;
	bool raw, stream;
	const char *path;
	enum answer_format format;
	const char *sent; /* in place of the client's bytes; NULL: those */
} untranslated[] = {
	{BACKEND_OLLAMA, CHAT, "{'model':'m'," U "}", true, true, "/api/chat", ANSWER_OLLAMA_CHAT,
		"{'truncate':false,'options':{'num_ctx':4096},'model':'m'," U "}"},
	{BACKEND_OLLAMA, CHAT, "{'truncate':false,'options':{'num_ctx':4096}," U ",'model':'m'}",
		true, true, "/api/chat", ANSWER_OLLAMA_CHAT, NULL},
	{BACKEND_OLLAMA, CHAT, "{'model':'m'}", true, true, "/api/chat", ANSWER_OLLAMA_CHAT,
		"{'options':{'num_ctx':4096},'model':'m'}"},
	{BACKEND_OLLAMA, GENERATE, "{'model':'m','prompt':'x','suffix':'y','stream':false}", true,
		false, "/api/generate", ANSWER_OLLAMA_GENERATE,
		"{'truncate':false,'options':{'num_ctx':4096},'model':'m','prompt':'x','suffix':'y'"
		",'stream':false}"},
	{BACKEND_LLAMA_SERVER, OPENAI, "{" U "}", true, false, "/v1/chat/completions",
		ANSWER_OPENAI_CHAT, NULL},
	{BACKEND_LLAMA_SERVER, PROMPT, "{'prompt':['a','b'],'n':2}", true, false, "/v1/completions",
		ANSWER_OPENAI_TEXT, NULL},
	{BACKEND_LLAMA_SERVER, PROMPT, "{'prompt':[1,2],'stream':true,'echo':true}", true, true,
		"/v1/completions", ANSWER_OPENAI_TEXT, NULL},
	/* Nothing to load there: answered without the backend. */
	{BACKEND_LLAMA_SERVER, CHAT, "{'model':'m'}", false, true, NULL, ANSWER_OLLAMA_CHAT, NULL},
	{BACKEND_LLAMA_SERVER, GENERATE, "{'model':'m','prompt':''}", false, true, NULL,
		ANSWER_OLLAMA_GENERATE, NULL},
};

static void a_backend_that_speaks_the_dialect_gets_the_clients_bytes(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(untranslated); i++) {
		char *text = json_of(untranslated[i].body);
		struct chat_request r;
		struct dialect_error error = {0};
		struct backend_call call;
		struct buf body;
		buf_init(&body, 0);
		assert_int_equal(
			chat_request_parse(untranslated[i].dialect, slice_str(text), &r, &error),
			0);
		assert_int_equal(
			backend_call_build(untranslated[i].api, &r, 4096, &call, &body, &error), 0);
		assert_int_equal(call.raw, untranslated[i].raw);
		assert_int_equal(call.stream, untranslated[i].stream);
		assert_int_equal(call.format, untranslated[i].format);
		if (untranslated[i].path)
			assert_string_equal(call.path, untranslated[i].path);
		else
			assert_null(call.path);
		char *sent = json_of(untranslated[i].sent ? untranslated[i].sent : "");
		assert_string_equal(buf_cstr(&body), sent);
		free(sent);
		chat_request_fini(&r);
		buf_free(&body);
		free(text);
	}
}

static void notes_are_asked_without_thinking_or_chance(void **state)
{
	(void)state;
	static const char *const expected[] = {
		[BACKEND_OLLAMA] = "{'model':'s','messages':[{'role':'system','content':'do'},{'"
				   "role':'user','content':"
				   "'data\\n'}],'stream':false,'think':false,'options':{'"
				   "temperature':0,'seed':0,"
				   "'num_predict':99,'num_ctx':4096}}",
		[BACKEND_LLAMA_SERVER] =
			"{'model':'s','messages':[{'role':'system','content':'do'},{'role':'user',"
			"'content':'data\\n'}],'stream':false,'temperature':0,'seed':0,'max_tokens'"
			":99,"
			"'chat_template_kwargs':{'enable_thinking':false}}",
	};
	for (enum backend_api api = BACKEND_OLLAMA; api <= BACKEND_LLAMA_SERVER; api++) {
		char *text = json_of(expected[api]);
		struct backend_call call;
		struct buf body;
		buf_init(&body, 0);
		assert_int_equal(backend_notes_build(api, SLICE("s"), SLICE("do"), SLICE("data\n"),
					 99, 4096, &call, &body),
			0);
		if (api == BACKEND_OLLAMA)
			without_truncate(&body);
		assert_string_equal(buf_cstr(&body), text);
		assert_false(call.stream);
		assert_false(call.raw);
		buf_free(&body);
		free(text);
	}
}

/* What decides about the prompt stays as it was; nothing is streamed, nothing (or a token) is
 * written. */
static void warming_changes_limits_alone(void **state)
{
	(void)state;
	static const struct {
		enum backend_api api;
		const char *body, *warm;
	} cases[] = {
		{BACKEND_LLAMA_SERVER,
			" { 'model' : 's', 'messages':[1, {'n':2}], 'tools' : [ 3 ] }\n",
			"{'model':'s','messages':[1, {'n':2}],'tools':[ 3 ],'stream':false,"
			"'n_predict':0,'cache_prompt':true}"},
		{BACKEND_LLAMA_SERVER,
			"{'stream':true,'stream_options':{'include_usage':true},'n':1,'max_tokens':"
			"5,"
			"'max_completion_tokens':6,'n_predict':7,'cache_prompt':false,'id_slot':2}",
			"{'id_slot':2,'stream':false,'n_predict':0,'cache_prompt':true}"},
		{BACKEND_OLLAMA, "{'model':'s','messages':[],'stream':true,'keep_alive':0}",
			"{'model':'s','messages':[],'keep_alive':0,'stream':false,'options':{"
			"'num_predict':1}}"},
		{BACKEND_OLLAMA,
			"{'options':{'num_ctx':4096,'num_predict':99,'seed':1},'think':false}",
			"{'think':false,'stream':false,'options':{'num_ctx':4096,'seed':1,"
			"'num_predict':1}}"},
		{BACKEND_OLLAMA, "{'options':null}",
			"{'stream':false,'options':{'num_predict':1}}"},
		{BACKEND_OLLAMA, "{}", "{'stream':false,'options':{'num_predict':1}}"},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *body = json_of(cases[i].body), *warm = json_of(cases[i].warm);
		struct buf out;
		buf_init(&out, 0);
		assert_int_equal(backend_warm_build(cases[i].api, slice_str(body), &out), 0);
		assert_string_equal(buf_cstr(&out), warm);
		buf_free(&out);
		free(body);
		free(warm);
	}
	struct buf small;
	buf_init(&small, 10);
	assert_int_equal(backend_warm_build(BACKEND_OLLAMA, SLICE("{}"), &small), -E2BIG);
	buf_free(&small);
}

/* A fixed generator: the same mutants at every run. */
static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* Puts bytes that matter to JSON, or others of the text, in other places. */
static void mutate(char *text, size_t n, unsigned *seed)
{
	static const char bytes[] = "{}[]\":,0tfn \\";
	for (unsigned k = 1 + next_random(seed) % 3; k > 0; k--) {
		size_t at = next_random(seed) % n;
		text[at] = next_random(seed) % 2 ? bytes[next_random(seed) % (sizeof(bytes) - 1)]
						 : text[next_random(seed) % n];
	}
}

/* Whatever a client sends, a backend gets JSON or the client an error. */
static void check_mutant(enum dialect d, struct slice text)
{
	struct chat_request r;
	struct dialect_error error;
	if (chat_request_parse(d, text, &r, &error))
		return;
	for (enum backend_api api = BACKEND_OLLAMA; api <= BACKEND_LLAMA_SERVER; api++) {
		struct backend_call call;
		struct json_value root;
		struct buf body;
		buf_init(&body, 0);
		int rc = backend_call_build(api, &r, 64, &call, &body, &error);
		assert_true(rc == 0 || rc == -EINVAL);
		if (rc == 0 && !call.raw && call.path &&
			json_parse(buf_slice(&body), JSON_MAX_DEPTH + 8, &root, NULL))
			fail_msg("%.*s\n-> %s", (int)text.n, text.p, buf_cstr(&body));
		if (rc == 0 && call.path) {
			struct buf warm;
			buf_init(&warm, 0);
			backend_warm_build(api, call.raw ? text : buf_slice(&body), &warm);
			if (json_parse(buf_slice(&warm), JSON_MAX_DEPTH + 8, &root, NULL))
				fail_msg("%.*s\n-> %s", (int)text.n, text.p, buf_cstr(&warm));
			buf_free(&warm);
		}
		buf_free(&body);
	}
	chat_request_fini(&r);
}

static void check_mutants(const struct vector *vectors, size_t n)
{
	unsigned seed = 1;
	for (size_t i = 0; i < n; i++) {
		for (int round = 0; round < 3000; round++) {
			char *text = json_of(vectors[i].body);
			size_t length = strlen(text);
			mutate(text, length, &seed);
			check_mutant(vectors[i].dialect, (struct slice){text, length});
			free(text);
		}
	}
}

static void mutants_are_translated_or_refused(void **state)
{
	(void)state;
	check_mutants(to_ollama, COUNT(to_ollama));
	check_mutants(to_llama, COUNT(to_llama));
	check_mutants(prompts_to_ollama, COUNT(prompts_to_ollama));
	check_mutants(prompts_to_llama, COUNT(prompts_to_llama));
}

/* Whatever rows there are: every front that has requests meets every back. */
static void every_front_meets_every_back(void **state)
{
	(void)state;
	char *body = json_of(
		"{'model':'m','prompt':'p','input':'p','max_tokens':9,'messages':[{'role':'user','"
		"content':'p'}]}");
	for (enum dialect d = 0; d < DIALECTS; d++) {
		struct dialect_error error;
		struct chat_request r;
		assert_true(*dialect_name(d));
		assert_true(dialect_patience_ms(d) > 0);
		assert_false(dialect_is_chat(dialect_errors(d)));
		if (!dialect_is_chat(d)) {
			assert_int_equal(
				chat_request_parse(d, slice_str(body), &r, &error), -EINVAL);
			continue;
		}
		assert_int_equal(chat_request_parse(d, slice_str(body), &r, &error), 0);
		assert_int_equal(r.dialect, d);
		for (enum backend_api api = 0; api < BACKEND_APIS; api++) {
			struct backend_call call;
			struct buf out;
			buf_init(&out, 0);
			assert_int_equal(backend_call_build(api, &r, 64, &call, &out, &error), 0);
			assert_non_null(call.path);
			assert_non_null(memmem(call.raw && !out.n ? body : out.p,
				call.raw && !out.n ? strlen(body) : out.n, "\"p\"", 3));
			buf_free(&out);
		}
		chat_request_fini(&r);
	}
	free(body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_front_meets_every_back),
		cmocka_unit_test(openai_requests_become_ollamas),
		cmocka_unit_test(prompts_are_asked_of_either),
		cmocka_unit_test(ollama_requests_become_llama_servers),
		cmocka_unit_test(what_a_backend_cannot_do_is_refused),
		cmocka_unit_test(a_backend_that_speaks_the_dialect_gets_the_clients_bytes),
		cmocka_unit_test(notes_are_asked_without_thinking_or_chance),
		cmocka_unit_test(warming_changes_limits_alone),
		cmocka_unit_test(mutants_are_translated_or_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
