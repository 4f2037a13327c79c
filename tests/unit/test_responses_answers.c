/* OpenAI's /v1/responses: its answers from each backend, and how they are gone on with. */
#include "tests/unit/test_responses.h"

#include "common/dialect/answer.h"
#include "common/dialect/resume.h"

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
/* A search that the client does, and a tool of everybody's namespace. */
#define LITE                                                                                       \
	"'tools':[{'type':'tool_search','execution':'client'},{'type':'namespace','name':"         \
	"'functions','tools':[{'type':'function','name':'h'}]}]"
#define OLLAMA_LITE                                                                                \
	"{'message':{'content':'','tool_calls':[{'id':'c0','function':{'name':'tool_search',"      \
	"'arguments':{'query': 'x'}}},{'id':'c1','function':{'name':'h','arguments':{}}}]}}\n"     \
	"{'message':{'content':''},'done':true,'done_reason':'stop'}\n"
#define SOUGHT(arguments, status)                                                                  \
	"{'id':'tsc_i_0','type':'tool_search_call','call_id':'c0','execution':'client',"           \
	"'arguments':" arguments ",'status':'" status "'}"
#define LITE_CALLS                                                                                 \
	CALL_BEGIN("2", SOUGHT("{}", "in_progress"), "0")                                          \
	EVENT("output_item.done", "3",                                                             \
		"'output_index':0,'item':" SOUGHT("{'query':'x'}", "completed"))                   \
	CALL_BEGIN("4", CALL("fc_i_1", "c1", "h", "", "in_progress"), "1")                         \
	CALL_DELTA("5", "fc_i_1", "1", "{}")                                                       \
	CALL_END("6", "7", "fc_i_1", "1", "{}", CALL("fc_i_1", "c1", "h", "{}", "completed"))
#define LITE_ITEMS                                                                                 \
	SOUGHT("{'query':'x'}", "completed") "," CALL("fc_i_1", "c1", "h", "{}", "completed")
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
	{ANSWER_OLLAMA_CHAT, OLLAMA_LITE, true, LITE,
		START LITE_CALLS COMPLETED("8", LITE_ITEMS, USAGE("0", "0", "0", "0", "0"))},
	{ANSWER_OLLAMA_CHAT, OLLAMA_LITE, false, LITE,
		WHOLE(LITE_ITEMS, USAGE("0", "0", "0", "0", "0"))},
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_come_from_both_backends),
		cmocka_unit_test(logprobs_are_told_of_each_piece_and_of_the_whole),
		cmocka_unit_test(a_long_answer_is_too_large),
		cmocka_unit_test(an_answer_is_gone_on_with),
		cmocka_unit_test(a_stream_is_gone_on_with),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
