/* OpenAI's /v1/responses: its requests for each backend, its answers from each, what it refuses. */
#include "common/dialect/answer.h"
#include "common/dialect/backend.h"
#include "common/dialect/resume.h"
#include "tests/unit/test_dialect.h"

#define R DIALECT_RESPONSES
#define Q "'input':'q'"
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

/* The request of a body, which is changed as when it comes in. */
static void take(const char *body, struct buf *text, struct chat_request *r)
{
	char *given = json_of(body);
	struct dialect_error error = {0};
	buf_init(text, 0);
	buf_add_str(text, given);
	if (chat_request_take(R, text, r, &error))
		fail_msg("%s: %s", given, error.text);
	assert_ptr_equal(r->body.p, text->p);
	free(given);
}

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

/* --- made-up conversations, whose every text occurs once (test_dialect_round.c has the others) --- */

#define ROUNDS 300

struct maker {
	uint64_t state;
	unsigned atoms;
	struct buf out;
};

static unsigned pick(struct maker *m, unsigned n)
{
	m->state = m->state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(m->state >> 33) % n;
}

static void put_string(struct maker *m)
{
	static const char *const around[] = {
		"", " ", "\\n", "\\u2028", "\\\"", "\xc3\xa9", "\\ud83d\\ude00", "\\/", "\\\\"};
	const char *edge = around[pick(m, COUNT(around))];
	buf_printf(&m->out, "\"%sa%ux%s\"", edge, m->atoms++, edge);
}

/* n parts, the last one a picture now and then. */
static void put_parts(struct maker *m, const char *type)
{
	unsigned n = 1 + pick(m, 3);
	buf_add_char(&m->out, '[');
	for (unsigned i = 0; i < n; i++) {
		buf_printf(&m->out, "%s{\"type\":\"%s\",\"text\":", i ? "," : "", type);
		put_string(m);
		buf_add_char(&m->out, '}');
	}
	if (type[0] == 'i' && pick(m, 3) == 0)
		buf_printf(&m->out,
			",{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,iVBOR/"
			"a%ux\"}",
			m->atoms++);
	buf_add_char(&m->out, ']');
}

static void put_message(struct maker *m, const char *role, const char *type)
{
	buf_printf(&m->out, ",{\"role\":\"%s\",\"content\":", role);
	if (pick(m, 2))
		put_string(m);
	else
		put_parts(m, type);
	buf_add_char(&m->out, '}');
}

static void put_call(struct maker *m, unsigned round, unsigned call)
{
	if (pick(m, 2)) {
		buf_printf(&m->out,
			",{\"type\":\"custom_tool_call\",\"call_id\":\"c%u_%u\",\"name\":\"p\","
			"\"input\":",
			round, call);
		put_string(m);
	} else {
		buf_printf(&m->out,
			",{\"type\":\"function_call\",\"call_id\":\"c%u_%u\",\"name\":\"f\","
			"\"arguments\":\"{\\\"a%ux\\\": 1.%u0}\"",
			round, call, m->atoms, pick(m, 9));
		m->atoms++;
	}
	buf_add_char(&m->out, '}');
}

static void put_round(struct maker *m, unsigned round)
{
	unsigned calls = pick(m, 3);
	if (pick(m, 2)) {
		buf_add_str(&m->out, ",{\"type\":\"reasoning\",\"summary\":");
		put_parts(m, "summary_text");
		buf_add_char(&m->out, '}');
	}
	put_message(m, "assistant", "output_text");
	for (unsigned i = 0; i < calls; i++)
		put_call(m, round, i);
	for (unsigned i = 0; i < calls; i++) {
		buf_printf(&m->out,
			",{\"type\":\"function_call_output\",\"call_id\":\"c%u_%u\",\"output\":",
			round, i);
		if (pick(m, 2))
			put_string(m);
		else
			put_parts(m, "input_text");
		buf_add_char(&m->out, '}');
	}
	if (pick(m, 4) == 0)
		put_message(m, "developer", "text");
	put_message(m, "user", "input_text");
}

static void make_request(struct maker *m)
{
	unsigned rounds = pick(m, 4);
	buf_add_str(&m->out, "{\"model\":\"m\",\"instructions\":");
	put_string(m);
	buf_add_str(&m->out, ",\"tools\":[{\"type\":\"custom\",\"name\":\"p\",\"description\":");
	put_string(m);
	buf_add_str(&m->out, "},{\"type\":\"function\",\"name\":\"f\",\"parameters\":{\"z\":");
	put_string(m);
	buf_add_str(&m->out, "}}],\"input\":[{\"role\":\"developer\",\"content\":");
	put_string(m);
	buf_add_char(&m->out, '}');
	put_message(m, "user", "input_text");
	for (unsigned i = 0; i < rounds; i++)
		put_round(m, i);
	buf_add_str(&m->out, "]}");
}

static void build_for(enum backend_api api, const struct chat_request *r, struct buf *out)
{
	struct backend_call call;
	struct dialect_error error;
	buf_init(out, 0);
	if (backend_call_build(api, r, 0, &call, out, &error))
		fail_msg("%s: %.*s", error.text, (int)r->body.n, r->body.p);
}

/* Each text is behind both translations, and what comes out for one backend is what comes out for it
 * by way of the other one's words. */
static void check_made(struct maker *m)
{
	struct chat_request r, again;
	struct dialect_error error;
	struct buf llama, ollama, by_way;
	if (chat_request_take(R, &m->out, &r, &error))
		fail_msg("%s: %.*s", error.text, (int)m->out.n, m->out.p);
	build_for(BACKEND_LLAMA_SERVER, &r, &llama);
	build_for(BACKEND_OLLAMA, &r, &ollama);
	for (unsigned i = 0; i < m->atoms; i++) {
		char atom[24];
		snprintf(atom, sizeof(atom), "a%ux", i);
		if (!strstr(buf_cstr(&llama), atom) || !strstr(buf_cstr(&ollama), atom))
			fail_msg("%s is lost of %.*s", atom, (int)m->out.n, m->out.p);
	}
	assert_int_equal(
		chat_request_parse(DIALECT_OPENAI_CHAT, buf_slice(&llama), &again, &error), 0);
	build_for(BACKEND_OLLAMA, &again, &by_way);
	assert_string_equal(buf_cstr(&ollama), buf_cstr(&by_way));
	chat_request_fini(&again);
	chat_request_fini(&r);
	buf_free(&llama);
	buf_free(&ollama);
	buf_free(&by_way);
}

static void requests_lose_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct maker m = {.state = i};
		buf_init(&m.out, 0);
		make_request(&m);
		check_made(&m);
		buf_free(&m.out);
	}
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

/* --- answers --- */

#define SAID                                                                                       \
	",'max_output_tokens':null,'metadata':{},'parallel_tool_calls':true,'reasoning':{"         \
	"'effort':null,'summary':null},'temperature':null,'text':{'format':{'type':'text'}},"      \
	"'tool_choice':'auto','top_p':null,'truncation':'disabled'"
#define RESPONSE(status, error, details, output, said, usage)                                      \
	"{'id':'resp_i','object':'response','created_at':T,'model':'m','status':'" status          \
	"','background':false,'error':" error ",'incomplete_details':" details                     \
	",'instructions':null,'output':[" output                                                   \
	"],'previous_response_id':null,'store':false,'tools':[]" said ",'usage':" usage "}"
#define USAGE(in, cached, out, thought, all)                                                       \
	"{'input_tokens':" in ",'input_tokens_details':{'cached_tokens':" cached                   \
	"},'output_tokens':" out ",'output_tokens_details':{'reasoning_tokens':" thought           \
	"},'total_tokens':" all "}"
#define EVENT(type, n, rest)                                                                       \
	"event: response." type "\ndata: {'type':'response." type "','sequence_number':" n         \
	"," rest "}\n\n"
#define START                                                                                      \
	EVENT("created", "0",                                                                      \
		"'response':" RESPONSE("in_progress", "null", "null", "", SAID, "null"))           \
	EVENT("in_progress", "1",                                                                  \
		"'response':" RESPONSE("in_progress", "null", "null", "", SAID, "null"))
#define PART(text) "{'type':'output_text','text':'" text "','annotations':[],'logprobs':[]}"
#define MESSAGE(id, status, parts)                                                                 \
	"{'id':'" id "','type':'message','role':'assistant','content':[" parts                     \
	"],'status':'" status "'}"
#define THOUGHT(status, parts)                                                                     \
	"{'id':'rs_i_0','type':'reasoning','summary':[" parts "],'status':'" status "'}"
#define SUMMARY(text) "{'type':'summary_text','text':'" text "'}"
#define CALL(id, call, name, arguments, status)                                                    \
	"{'id':'" id "','type':'function_call','call_id':'" call "','name':'" name                 \
	"','arguments':'" arguments "','status':'" status "'}"
#define OF(id, index) "'item_id':'" id "','output_index':" index

/* Thinking, then a text in two pieces; events from the number n on. */
#define THINKS                                                                                     \
	EVENT("output_item.added", "2", "'output_index':0,'item':" THOUGHT("in_progress", ""))     \
	EVENT("reasoning_summary_part.added", "3",                                                 \
		OF("rs_i_0", "0") ",'summary_index':0,'part':" SUMMARY(""))                        \
	EVENT("reasoning_summary_text.delta", "4",                                                 \
		OF("rs_i_0", "0") ",'summary_index':0,'delta':'hm'")                               \
	EVENT("reasoning_summary_text.done", "5",                                                  \
		OF("rs_i_0", "0") ",'summary_index':0,'text':'hm'")                                \
	EVENT("reasoning_summary_part.done", "6",                                                  \
		OF("rs_i_0", "0") ",'summary_index':0,'part':" SUMMARY("hm"))                      \
	EVENT("output_item.done", "7",                                                             \
		"'output_index':0,'item':" THOUGHT("completed", SUMMARY("hm")))
#define TEXT_DELTA(id, index, n, text)                                                             \
	EVENT("output_text.delta", n,                                                              \
		OF(id, index) ",'content_index':0,'delta':'" text "','logprobs':[]")
#define TEXT_BEGIN(id, index, n, m)                                                                \
	EVENT("output_item.added", n,                                                              \
		"'output_index':" index ",'item':" MESSAGE(id, "in_progress", ""))                 \
	EVENT("content_part.added", m, OF(id, index) ",'content_index':0,'part':" PART(""))
#define TEXT_END(id, index, n, m, o, text, status)                                                 \
	EVENT("output_text.done", n,                                                               \
		OF(id, index) ",'content_index':0,'text':'" text "','logprobs':[]")                \
	EVENT("content_part.done", m, OF(id, index) ",'content_index':0,'part':" PART(text))       \
	EVENT("output_item.done", o,                                                               \
		"'output_index':" index ",'item':" MESSAGE(id, status, PART(text)))

#define LLAMA_TEXT                                                                                 \
	"data: {'choices':[{'delta':{'role':'assistant','content':null}}]}\n\ndata: {'choices':["  \
	"{'delta':{'reasoning_content':'hm'}}]}\n\ndata: {'choices':[{'delta':{'content':'a'}}]}"  \
	"\n\ndata: {'choices':[{'delta':{'content':'b\\n'}}]}\n\ndata: {'choices':[{'delta':{},"   \
	"'finish_reason':'stop'}]}\n\ndata: {'choices':[],'usage':{'prompt_tokens':26,"            \
	"'completion_tokens':3,'prompt_tokens_details':{'cached_tokens':20}}}\n\ndata: [DONE]\n\n"
#define LLAMA_CALLS                                                                                \
	"data: {'choices':[{'delta':{'tool_calls':[{'index':0,'id':'c0','function':{'name':'f',"   \
	"'arguments':''}}]}}]}\n\ndata: {'choices':[{'delta':{'tool_calls':[{'index':0,"           \
	"'function':{'arguments':'{\\u0022z\\u0022:'}}]}}]}\n\ndata: {'choices':[{'delta':{"       \
	"'tool_calls':[{'index':0,'function':{'arguments':' 1.0}'}}]}}]}\n\ndata: {'choices':[{"   \
	"'delta':{'tool_calls':[{'index':1,'function':{'name':'g','arguments':'{oops'}}]},"        \
	"'finish_reason':'tool_calls'}]}\n\ndata: [DONE]\n\n"
#define OLLAMA_CUSTOM                                                                              \
	"{'message':{'content':'','tool_calls':[{'id':'c0','function':{'name':'patch','arguments'" \
	":{'input':'a\\n\\u0022b\\u0022'}}},{'id':'c1','function':{'name':'ns__h','arguments':{}}" \
	"}]}}\n{'message':{'content':''},'done':true,'done_reason':'stop','prompt_eval_count':7,"  \
	"'eval_count':2}\n"
#define OLLAMA_CUT                                                                                 \
	"{'message':{'content':'a'}}\n{'message':{'content':''},'done':true,'done_reason':"        \
	"'length','prompt_eval_count':26,'eval_count':1}\n"
#define TOOLS                                                                                      \
	"'tools':[{'type':'custom','name':'patch'},{'type':'namespace','name':'ns','tools':[{"     \
	"'type':'function','name':'h'}]}]"
#define CUSTOM(input, status)                                                                      \
	"{'id':'ctc_i_0','type':'custom_tool_call','call_id':'c0','name':'patch','input':'" input  \
	"','status':'" status "'}"
#define SPACED(arguments, status)                                                                  \
	"{'id':'fc_i_1','type':'function_call','call_id':'c1','name':'h','namespace':'ns',"        \
	"'arguments':'" arguments "','status':'" status "'}"
#define INPUT "a\\n\\\"b\\\""

/* The events of calls, and of one that is a custom tool's. */
#define CALL_BEGIN(n, item, index)                                                                 \
	EVENT("output_item.added", n, "'output_index':" index ",'item':" item)
#define CALL_DELTA(n, id, index, text)                                                             \
	EVENT("function_call_arguments.delta", n, OF(id, index) ",'delta':'" text "'")
#define CALL_END(n, m, id, index, arguments, item)                                                 \
	EVENT("function_call_arguments.done", n, OF(id, index) ",'arguments':'" arguments "'")     \
	EVENT("output_item.done", m, "'output_index':" index ",'item':" item)
#define F(arguments, status) CALL("fc_i_0", "c0", "f", arguments, status)
#define G(arguments, status) CALL("fc_i_1", "call_i_1", "g", arguments, status)
#define Z "{\\\"z\\\": 1.0}"
#define CALLS                                                                                      \
	CALL_BEGIN("2", F("", "in_progress"), "0")                                                 \
	CALL_DELTA("3", "fc_i_0", "0", "{\\\"z\\\":")                                              \
	CALL_DELTA("4", "fc_i_0", "0", " 1.0}")                                                    \
	CALL_END("5", "6", "fc_i_0", "0", Z, F(Z, "completed"))                                    \
	CALL_BEGIN("7", G("", "in_progress"), "1")                                                 \
	CALL_DELTA("8", "fc_i_1", "1", "{oops")                                                    \
	CALL_END("9", "10", "fc_i_1", "1", "{oops", G("{oops", "completed"))
#define CUSTOM_CALLS                                                                               \
	CALL_BEGIN("2", CUSTOM("", "in_progress"), "0")                                            \
	EVENT("custom_tool_call_input.delta", "3", OF("ctc_i_0", "0") ",'delta':'" INPUT "'")      \
	EVENT("custom_tool_call_input.done", "4", OF("ctc_i_0", "0") ",'input':'" INPUT "'")       \
	EVENT("output_item.done", "5", "'output_index':0,'item':" CUSTOM(INPUT, "completed"))      \
	CALL_BEGIN("6", SPACED("", "in_progress"), "1")                                            \
	CALL_DELTA("7", "fc_i_1", "1", "{}")                                                       \
	CALL_END("8", "9", "fc_i_1", "1", "{}", SPACED("{}", "completed"))
#define SAYS_AB                                                                                    \
	TEXT_BEGIN("msg_i_1", "1", "8", "9")                                                       \
	TEXT_DELTA("msg_i_1", "1", "10", "a")                                                      \
	TEXT_DELTA("msg_i_1", "1", "11", "b\\n")                                                   \
	TEXT_END("msg_i_1", "1", "12", "13", "14", "ab\\n", "completed")
#define SAYS_A                                                                                     \
	TEXT_BEGIN("msg_i_0", "0", "2", "3")                                                       \
	TEXT_DELTA("msg_i_0", "0", "4", "a")
#define COMPLETED(n, output, usage)                                                                \
	EVENT("completed", n,                                                                      \
		"'response':" RESPONSE("completed", "null", "null", output, SAID, usage))
#define WHOLE(output, usage) RESPONSE("completed", "null", "null", output, SAID, usage)
#define AB THOUGHT("completed", SUMMARY("hm")) "," MESSAGE("msg_i_1", "completed", PART("ab\\n"))
#define CUT                                                                                        \
	TEXT_END("msg_i_0", "0", "5", "6", "7", "a", "incomplete")                                 \
	EVENT("incomplete", "8",                                                                   \
		"'response':" RESPONSE("incomplete", "null", "{'reason':'max_output_tokens'}",     \
			MESSAGE("msg_i_0", "incomplete", PART("a")), SAID,                         \
			USAGE("26", "0", "1", "0", "27")))
#define FAILED                                                                                     \
	EVENT("failed", "5",                                                                       \
		"'response':" RESPONSE("failed", "{'code':'server_error','message':'gone'}",       \
			"null", "", SAID, "null"))

static const struct {
	enum answer_format format;
	const char *input;
	bool stream;
	const char *request; /* beside the input */
	const char *expected;
} answers[] = {
	{ANSWER_OPENAI_CHAT, LLAMA_TEXT, true, "'n':1",
		START THINKS SAYS_AB COMPLETED("15", AB, USAGE("26", "20", "3", "1", "29"))},
	{ANSWER_OPENAI_CHAT, LLAMA_TEXT, false,
		"'metadata':{'a' :\n'b'},'temperature':0.50,'tool_choice':'none'",
		RESPONSE("completed", "null", "null", AB,
			",'max_output_tokens':null,'metadata':{'a':'b'},'parallel_tool_calls':true,"
			"'reasoning':{'effort':null,'summary':null},'temperature':0.50,'text':{"
			"'format':{'type':'text'}},'tool_choice':'none','top_p':null,'truncation':"
			"'disabled'",
			USAGE("26", "20", "3", "1", "29"))},
	{ANSWER_OPENAI_CHAT, LLAMA_CALLS, true, "'n':1",
		START CALLS COMPLETED("11", F(Z, "completed") "," G("{oops", "completed"),
			USAGE("0", "0", "0", "0", "0"))},
	{ANSWER_OLLAMA_CHAT, OLLAMA_CUSTOM, true, TOOLS,
		START CUSTOM_CALLS COMPLETED("10",
			CUSTOM(INPUT, "completed") "," SPACED("{}", "completed"),
			USAGE("7", "0", "2", "0", "9"))},
	{ANSWER_OLLAMA_CHAT, OLLAMA_CUSTOM, false, TOOLS,
		WHOLE(CUSTOM(INPUT, "completed") "," SPACED("{}", "completed"),
			USAGE("7", "0", "2", "0", "9"))},
	/* One call at a time, where the client says so. */
	{ANSWER_OLLAMA_CHAT, OLLAMA_CUSTOM, false, TOOLS ",'parallel_tool_calls':false",
		RESPONSE("completed", "null", "null", CUSTOM(INPUT, "completed"),
			",'max_output_tokens':null,'metadata':{},'parallel_tool_calls':false,"
			"'reasoning':{'effort':null,'summary':null},'temperature':null,'text':{"
			"'format':{'type':'text'}},'tool_choice':'auto','top_p':null,'truncation':"
			"'disabled'",
			USAGE("7", "0", "2", "0", "9"))},
	{ANSWER_OLLAMA_CHAT, OLLAMA_CUT, true, "'n':1", START SAYS_A CUT},
	/* Nothing said is a whole answer, too. */
	{ANSWER_OLLAMA_CHAT, "{'message':{'content':''},'done':true,'done_reason':'stop'}\n", false,
		"'n':1", WHOLE("", USAGE("0", "0", "0", "0", "0"))},
	{ANSWER_OLLAMA_CHAT, "{'message':{'content':'a'}}\n{'error':'gone'}\n", true, "'n':1",
		START SAYS_A FAILED},
	{ANSWER_OLLAMA_CHAT, "{'error':'gone'}\n", false, "'n':1",
		"{'error':{'message':'gone','type':'server_error','param':null,'code':null}}"},
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

/* T for the time of day. */
static void mask(char *text)
{
	static const char member[] = "\"created_at\":";
	char *to = text;
	for (const char *p = text; *p;) {
		if (strncmp(p, member, strlen(member)) != 0) {
			*to++ = *p++;
			continue;
		}
		for (p += strlen(member); *p >= '0' && *p <= '9';)
			p++;
		to += sprintf(to, "%sT", member);
	}
	*to = '\0';
}

static struct answer_writer *writer_for(const char *request, bool stream)
{
	char body[1024];
	struct chat_request r;
	struct buf text;
	struct answer_writer *w = answer_writer_create(R, stream, SLICE("m"), "i", false, 1 << 20);
	snprintf(body, sizeof(body), "{" Q ",%s}", request);
	take(body, &text, &r);
	assert_non_null(w);
	assert_int_equal(answer_writer_read(w, &r), 0);
	chat_request_fini(&r);
	buf_free(&text);
	return w;
}

static void answers_come_from_both_backends(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(answers); i++) {
		char *input = json_of(answers[i].input), *expected = json_of(answers[i].expected);
		struct pipe pipe = {.writer = writer_for(answers[i].request, answers[i].stream)};
		buf_init(&pipe.out, 0);
		struct answer_parser *p =
			answer_parser_create(answers[i].format, true, 1 << 20, pass_on, &pipe);
		assert_int_equal(answer_parser_feed(p, slice_str(input)), 0);
		assert_int_equal(answer_parser_finish(p), 0);
		char *got = strdup(buf_cstr(&pipe.out));
		assert_non_null(got);
		mask(got);
		assert_string_equal(got, expected);
		free(got);
		answer_parser_destroy(p);
		answer_writer_destroy(pipe.writer);
		buf_free(&pipe.out);
		free(expected);
		free(input);
	}
}

static void logprobs_are_told_of_each_piece_and_of_the_whole(void **state)
{
	struct answer_event e = {
		.kind = ANSWER_TEXT, .text = SLICE("a"), .logprobs = SLICE("{\"token\":\"a\"}")};
	struct answer_writer *w = writer_for("\"n\":1", true);
	struct buf out;
	(void)state;
	buf_init(&out, 0);
	assert_int_equal(answer_writer_put(w, &e, &out), 0);
	assert_non_null(strstr(buf_cstr(&out), "\"delta\":\"a\",\"logprobs\":[{\"token\":\"a\"}]"));
	e.logprobs = SLICE("{\"token\":\"b\"}");
	assert_int_equal(answer_writer_put(w, &e, &out), 0);
	e = (struct answer_event){.kind = ANSWER_END, .finish = FINISH_STOP};
	buf_clear(&out);
	assert_int_equal(answer_writer_put(w, &e, &out), 0);
	const char *at = buf_cstr(&out);
	for (int i = 0; i < 4; i++, at++) { /* text, part, item, response */
		at = strstr(at, "\"logprobs\":[{\"token\":\"a\"},{\"token\":\"b\"}]");
		assert_non_null(at);
	}
	answer_writer_destroy(w);
	buf_free(&out);
}

/* All that an answer repeats at its end is held: within the writer's cap. */
static void a_long_answer_is_too_large(void **state)
{
	struct answer_event e = {.kind = ANSWER_TEXT, .text = SLICE("0123456789abcdef")};
	struct answer_writer *w = answer_writer_create(R, true, SLICE("m"), "i", false, 4096);
	struct buf out;
	int rc = 0, n = 0;
	(void)state;
	buf_init(&out, 0);
	for (; rc == 0 && n < 1000; n++)
		rc = answer_writer_put(w, &e, &out);
	assert_int_equal(rc, -E2BIG);
	assert_in_range(n, 4096 / 16 - 1, 4096 / 16 + 2);
	answer_writer_destroy(w);
	buf_free(&out);
}

/* --- going on --- */

static void an_answer_is_gone_on_with(void **state)
{
	static const char given[] = "{'input':[{'role':'user','content':'q'}],"
				    "'max_output_tokens':9,'reasoning':{'effort':'low'}}";
	char *wanted = json_of(
		"{'think':false,'max_output_tokens':7,'reasoning':{'effort':'low'},'messages':[{"
		"'role':'user','content':'q'},{'role':'assistant','content':' w0'}]}");
	char *call = json_of("{'messages':[{'role':'user','content':'q'},{'role':'assistant',"
			     "'content':' w0'}],'stream':false,'chat_template_kwargs':{"
			     "'enable_thinking':false},'max_tokens':7}");
	struct chat_request r, again;
	struct dialect_error error;
	struct backend_call how;
	enum dialect becomes;
	struct buf body, out, asked;
	bool spent;
	(void)state;
	buf_init(&out, 0);
	buf_init(&asked, 0);
	take(given, &body, &r);
	assert_null(resume_refused(&r));
	assert_int_equal(
		resume_request(&r, BACKEND_LLAMA_SERVER, SLICE(" w0"), 2, &becomes, &spent, &out),
		0);
	assert_string_equal(buf_cstr(&out), wanted);
	assert_int_equal(chat_request_parse(becomes, buf_slice(&out), &again, &error), 0);
	assert_int_equal(
		backend_call_build(BACKEND_LLAMA_SERVER, &again, 0, &how, &asked, &error), 0);
	assert_string_equal(buf_cstr(&asked), call);
	chat_request_fini(&again);
	chat_request_fini(&r);
	buf_free(&body);
	take("{" Q ",'text':{'format':{'type':'json_object'}}}", &body, &r);
	assert_non_null(resume_refused(&r));
	chat_request_fini(&r);
	buf_free(&body);
	buf_free(&out);
	buf_free(&asked);
	free(wanted);
	free(call);
}

/* Another writer ends the stream as the first one would have: all of the text, the same names, the
 * next number. */
static void a_stream_is_gone_on_with(void **state)
{
	struct answer_event text = {.kind = ANSWER_TEXT, .text = SLICE("w0 ")};
	struct answer_event end = {.kind = ANSWER_END, .finish = FINISH_STOP};
	struct answer_writer *a = writer_for("\"n\":1", true);
	struct answer_writer *b =
		answer_writer_create(R, true, SLICE("m"), "other", false, 1 << 20);
	struct answer_writer *c =
		answer_writer_create(R, true, SLICE("m"), "third", false, 1 << 20);
	struct buf whole, rest;
	(void)state;
	buf_init(&whole, 0);
	buf_init(&rest, 0);
	struct slice identity = answer_writer_identity(a);
	assert_int_equal(answer_writer_put(a, &text, &whole), 0);
	assert_int_equal(answer_writer_put(a, &text, &whole), 0);
	assert_int_equal(
		answer_writer_resume(b, &(struct answer_begun){identity, SLICE("w0 w0 "), 2}), 0);
	assert_true(slice_eq(identity, answer_writer_identity(b)));
	buf_clear(&whole);
	assert_int_equal(answer_writer_put(a, &text, &whole), 0);
	assert_int_equal(answer_writer_put(b, &text, &rest), 0);
	assert_string_equal(buf_cstr(&whole), buf_cstr(&rest));
	buf_clear(&rest);
	assert_int_equal(answer_writer_put(b, &end, &rest), 0);
	assert_non_null(strstr(buf_cstr(&rest), "\"text\":\"w0 w0 w0 \""));
	assert_non_null(strstr(buf_cstr(&rest), "\"msg_i_0\""));
	/* Its writer died before the first event: there is nothing to go on behind. */
	buf_clear(&rest);
	assert_int_equal(answer_writer_resume(c, &(struct answer_begun){.identity = identity}), 0);
	assert_int_equal(answer_writer_put(c, &text, &rest), 0);
	assert_ptr_equal(strstr(buf_cstr(&rest), "event: response.created"), rest.p);
	assert_non_null(strstr(buf_cstr(&rest), "\"resp_i\""));
	answer_writer_destroy(a);
	answer_writer_destroy(b);
	answer_writer_destroy(c);
	buf_free(&whole);
	buf_free(&rest);
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
		cmocka_unit_test(requests_lose_nothing),
		cmocka_unit_test(what_cannot_be_is_said),
		cmocka_unit_test(a_body_has_a_cap),
		cmocka_unit_test(tokens_are_counted_as_of_an_answer),
		cmocka_unit_test(answers_come_from_both_backends),
		cmocka_unit_test(logprobs_are_told_of_each_piece_and_of_the_whole),
		cmocka_unit_test(a_long_answer_is_too_large),
		cmocka_unit_test(an_answer_is_gone_on_with),
		cmocka_unit_test(a_stream_is_gone_on_with),
		cmocka_unit_test(errors_have_its_shape),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
