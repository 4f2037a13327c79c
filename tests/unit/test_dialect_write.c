/* From a backend's bytes to the client's: each format into each dialect, streamed and not. */
#include "common/dialect/answer.h"
#include "tests/unit/test_dialect.h"

#include <ctype.h>

#define CHAT DIALECT_OLLAMA_CHAT
#define GENERATE DIALECT_OLLAMA_GENERATE
#define OPENAI DIALECT_OPENAI_CHAT
#define PROMPT DIALECT_OPENAI_TEXT

/* What the writers put around each chunk; times and ids as mask() leaves them. */
#define M "{'model':'m','created_at':'T','message':{'role':'assistant','content':"
#define G "{'model':'m','created_at':'T','response':"
#define C                                                                                          \
	"data: "                                                                                   \
	"{'id':'chatcmpl-i','object':'chat.completion.chunk','created':0,'model':'m','system_"     \
	"fingerprint':'fp_tandem','choices':["
#define O                                                                                          \
	"{'id':'chatcmpl-i','object':'chat.completion','created':0,'model':'m','system_"           \
	"fingerprint':'fp_tandem','choices':["
#define D(delta) C "{'index':0,'delta':" delta ",'finish_reason':null}]}\n\n"

#define P                                                                                          \
	"{'id':'cmpl-i','object':'text_completion','created':0,'model':'m','system_"               \
	"fingerprint':'fp_tandem','choices':["
#define PT(text) "data: " P "{'index':0,'text':" text ",'logprobs':null,'finish_reason':null}]}\n\n"

#define GENERATE_STREAM                                                                            \
	"{'response':'a\\u0022'}\n{'response':'b\\n'}\n{'response':'','done':true,"                \
	"'done_reason':'length','prompt_eval_count':26,'eval_count':3}\n"
#define GENERATE_LOGPROBS                                                                          \
	"{'response':'\\u00e9\\ud83d\\ude00','logprobs':[{'token':'\\u00e9\\ud83d\\ude00','"       \
	"logprob':"                                                                                \
	"-0.50,'top_logprobs':[{'token':'x','logprob':-0.50},{'token':'y','logprob':-1E1}]}]}\n"   \
	"{'response':'b','logprobs':[{'token':'b','logprob':-2}]}\n{'response':'','done':true}\n"

#define OLLAMA_STREAM                                                                              \
	"{'message':{'content':'','thinking':'hm'}}\n{'message':{'content':'a\\u2028\\u0000'}}\n"  \
	"{'message':{'content':'\\ud83d\\ude00'}}\n{'message':{'content':''},'done':true,"         \
	"'done_reason':'length','load_duration':1000000,'prompt_eval_count':26,"                   \
	"'prompt_eval_duration':2000000,'eval_count':3,'eval_duration':4000000}\n"
#define LLAMA_STREAM                                                                               \
	"data: {'choices':[{'delta':{'reasoning_content':'hm'}}]}\n\ndata: {'choices':[{'delta':"  \
	"{'content':'a'}}]}\n\ndata: "                                                             \
	"{'choices':[{'delta':{'content':'b'},'finish_reason':'stop'}]"                            \
	"}\n\ndata: {'choices':[],'timings':{'cache_n':20,'prompt_n':6,'prompt_ms':2,"             \
	"'predicted_n':3,'predicted_ms':4}}\n\ndata: [DONE]\n\n"
#define LLAMA_TOOLS                                                                                \
	"data: {'choices':[{'delta':{'tool_calls':[{'index':0,'id':'c0','function':{'name':'f',"   \
	"'arguments':''}}]}}]}\n\ndata: {'choices':[{'delta':{'tool_calls':[{'index':0,"           \
	"'function':{'arguments':'{\\u0022z\\u0022: 1.0,\\n'}}]}}]}\n\ndata: "                     \
	"{'choices':[{'delta':{"                                                                   \
	"'tool_calls':[{'index':0,'function':{'arguments':' "                                      \
	"\\u0022s\\u0022:\\u0022\\u2028x\\u0022}'"                                                 \
	"}}]}}]}\n\ndata: {'choices':[{'delta':{'tool_calls':[{'index':1,'function':{'name':'g',"  \
	"'arguments':'{oops'}}]},'finish_reason':'tool_calls'}]}\n\ndata: [DONE]\n\n"
#define OLLAMA_TOOLS                                                                               \
	"{'message':{'content':'','tool_calls':[{'id':'c0','function':{'name':'f','arguments':"    \
	"{'z': 1.0}}},{'function':{'name':'g','arguments':{}}}]}}\n{'done':true}\n"

static const struct {
	enum answer_format format;
	const char *input;
	enum dialect dialect;
	bool stream, include_usage;
	const char *expected;
} vectors[] = {
	/* Answers to bare prompts. */
	{ANSWER_OLLAMA_GENERATE, GENERATE_STREAM, PROMPT, true, true,
		PT("'a\\\"'")
			PT("'b\\n'") "data: " P "{'index':0,'text':'','logprobs':null,'finish_"
				     "reason':'length'}]}\n\ndata: " P
				     "],'usage':{'prompt_tokens':26,'completion_tokens':3,'total_"
				     "tokens':29}}\n\ndata: [DONE]\n\n"},
	{ANSWER_OLLAMA_GENERATE, GENERATE_STREAM, PROMPT, false, false,
		P
		"{'index':0,'text':'a\\\"b\\n','logprobs':null,'finish_reason':'length'}],'usage':{"
		"'prompt_tokens':26,'completion_tokens':3,'total_tokens':29}}"},
	{ANSWER_LLAMA_INFILL,
		"data: {'content':'a','stop':false}\n\ndata: {'content':'','stop':true,'stop_type':"
		"'eos','tokens_evaluated':4,'tokens_predicted':1}\n\n",
		PROMPT, true, false,
		PT("'a'") "data: " P "{'index':0,'text':'','logprobs':null,'finish_reason':'stop'}]"
			  "}\n\ndata: [DONE]\n\n"},
	{ANSWER_OPENAI_TEXT,
		"data: {'choices':[{'index':0,'text':'a','finish_reason':null}]}\n\ndata: "
		"{'choices'"
		":[{'index':0,'text':'','finish_reason':'stop'}]}\n\ndata: [DONE]\n\n",
		PROMPT, true, false,
		PT("'a'") "data: " P "{'index':0,'text':'','logprobs':null,'finish_reason':'stop'}]"
			  "}\n\ndata: [DONE]\n\n"},
	/* Probabilities as lists; offsets count code points. */
	{ANSWER_OLLAMA_GENERATE, GENERATE_LOGPROBS, PROMPT, false, false,
		P
		"{'index':0,'text':'\xc3\xa9\xf0\x9f\x98\x80"
		"b','logprobs':{'tokens':['\\u00e9\\ud83d\\ude00','b'],'token_logprobs':[-0.50,-2],"
		"'top_logprobs':[{'x':-0.50,'y':-1E1},null],'text_offset':[0,2]},'finish_reason':"
		"'stop'}],'usage':{'prompt_tokens':0,'completion_tokens':0,'total_tokens':0}}"},
	{ANSWER_OLLAMA_GENERATE, "{'response':'a'}\n{'error':'gone'}\n", PROMPT, true, false,
		PT("'a'") "data: {'error':{'message':'gone','type':'server_error','param':null,"
			  "'code':500}}\n\n"},
	/* Text and thinking. */
	{ANSWER_OPENAI_CHAT, LLAMA_STREAM, CHAT, true, false,
		M "'','thinking':'hm'},'done':false}\n" M "'a'},'done':false}\n" M
		  "'b'},'done':false}\n" M
		  "''},'done':true,'done_reason':'stop','total_duration':0,'prompt_eval_count':26,"
		  "'prompt_eval_duration':2000000,'eval_count':3,'eval_duration':4000000}\n"},
	{ANSWER_OPENAI_CHAT, LLAMA_STREAM, CHAT, false, false,
		M "'ab','thinking':'hm'},'done':true,'done_reason':'stop','total_duration':0,'"
		  "prompt_eval_count':26,"
		  "'prompt_eval_duration':2000000,'eval_count':3,'eval_duration':4000000}"},
	{ANSWER_OPENAI_CHAT, LLAMA_STREAM, GENERATE, true, false,
		G "'','thinking':'hm','done':false}\n" G "'a','done':false}\n" G
		  "'b','done':false}\n" G
		  "'','done':true,'done_reason':'stop','total_duration':0,'prompt_eval_count':26,"
		  "'prompt_eval_duration':2000000,'eval_count':3,'eval_duration':4000000}\n"},
	{ANSWER_OPENAI_CHAT, LLAMA_STREAM, GENERATE, false, false,
		G "'ab','thinking':'hm','done':true,'done_reason':'stop','total_duration':0,'"
		  "prompt_eval_count':26,"
		  "'prompt_eval_duration':2000000,'eval_count':3,'eval_duration':4000000}"},
	/* Characters that split lines for some clients are escaped. */
	{ANSWER_OLLAMA_CHAT, OLLAMA_STREAM, OPENAI, true, true,
		D("{'role':'assistant','reasoning_content':'hm'}")
			D("{'content':'a\\u2028\\u0000'}") D("{'content':'\xf0\x9f\x98\x80'}") C
		"{'index':0,'delta':{},'finish_reason':'length'}]}\n\n" C
		"],'usage':{'prompt_tokens':26,'completion_tokens':3,'total_tokens':29}}\n\ndata: "
		"[DONE]\n\n"},
	{ANSWER_OLLAMA_CHAT, OLLAMA_STREAM, OPENAI, false, true,
		O "{'index':0,'message':{'role':'assistant','content':'"
		  "a\\u2028\\u0000\xf0\x9f\x98\x80','reasoning_content':'hm'},"
		  "'finish_reason':'length'}],'usage':{'prompt_tokens':26,'completion_tokens':3,'"
		  "total_tokens':29}}"},
	{ANSWER_OPENAI_CHAT, LLAMA_STREAM, OPENAI, false, false,
		O "{'index':0,'message':{'role':'assistant','content':'ab','reasoning_content':'hm'"
		  "},'finish_reason':'stop'}],"
		  "'usage':{'prompt_tokens':26,'completion_tokens':3,'total_tokens':29,'prompt_"
		  "tokens_details':"
		  "{'cached_tokens':20}}}"},
	/* Tool calls. */
	{ANSWER_OPENAI_CHAT, LLAMA_TOOLS, CHAT, true, false,
		M "'','tool_calls':[{'id':'c0','function':{'index':0,'name':'f','arguments':{'z':1."
		  "0,'s':'\\u2028x'}}}]},"
		  "'done':false}\n" M
		  "'','tool_calls':[{'id':'call_i_1','function':{'index':1,'name':'g','arguments':"
		  "{'raw_arguments':'{oops'}}}]},'done':false}\n" M
		  "''},'done':true,'done_reason':'stop','total_duration':0}\n"},
	{ANSWER_OPENAI_CHAT, LLAMA_TOOLS, CHAT, false, false,
		M "'','tool_calls':[{'id':'c0','function':{'index':0,'name':'f','arguments':{'z':1."
		  "0,'s':'\\u2028x'}}},"
		  "{'id':'call_i_1','function':{'index':1,'name':'g','arguments':{'raw_arguments':'"
		  "{oops'}}}]},'done':true,"
		  "'done_reason':'stop','total_duration':0}"},
	{ANSWER_OLLAMA_CHAT, OLLAMA_TOOLS, OPENAI, true, false,
		D("{'role':'assistant','tool_calls':[{'index':0,'id':'c0','type':'function','"
		  "function':{'name':'f',"
		  "'arguments':''}}]}") D("{'tool_calls':[{'index':0,'function':{'arguments':'{"
					  "\\\"z\\\": 1.0}'}}]}")
			D("{'tool_calls':[{'index':1,'id':'call_i_1','type':'function','function':{"
			  "'name':'g','arguments':''}}]}")
				D("{'tool_calls':[{'index':1,'function':{'arguments':'{}'}}]}") C
		"{'index':0,'delta':{},'finish_reason':'tool_calls'}]}\n\ndata: [DONE]\n\n"},
	{ANSWER_OLLAMA_CHAT, OLLAMA_TOOLS, OPENAI, false, false,
		O "{'index':0,'message':{'role':'assistant','content':null,'tool_calls':[{'id':'c0'"
		  ",'type':'function','function':"
		  "{'name':'f','arguments':'{\\\"z\\\": "
		  "1.0}'}},{'id':'call_i_1','type':'function','function':{'name':'g',"
		  "'arguments':'{}'}}]},'finish_reason':'tool_calls'}],'usage':{'prompt_tokens':0,'"
		  "completion_tokens':0,"
		  "'total_tokens':0}}"},
	/* Raw prompts and infill. */
	{ANSWER_OPENAI_TEXT, "data: {'choices':[{'text':'a','finish_reason':'length'}]}\n\n",
		GENERATE, true, false,
		G "'a','done':false}\n" G
		  "'','done':true,'done_reason':'length','total_duration':0}\n"},
	{ANSWER_LLAMA_INFILL,
		"data: {'content':'a','stop':true,'stop_type':'eos','tokens_evaluated':4}\n\n",
		GENERATE, true, false,
		G
		"'a','done':false}\n" G
		"'','done':true,'done_reason':'stop','total_duration':0,'prompt_eval_count':4}\n"},
	/* Log probabilities have one shape in both. */
	{ANSWER_OLLAMA_CHAT,
		"{'message':{'content':'a'},'logprobs':[{'token':'a'}]}\n{'message':{'content':'b'}"
		",'logprobs':[{'token':'b'}]}\n{'done':true}",
		OPENAI, false, false,
		O "{'index':0,'message':{'role':'assistant','content':'ab'},'logprobs':{'content':["
		  "{'token':'a'},{'token':'b'}]},"
		  "'finish_reason':'stop'}],'usage':{'prompt_tokens':0,'completion_tokens':0,'"
		  "total_tokens':0}}"},
	{ANSWER_OPENAI_CHAT,
		"data: "
		"{'choices':[{'delta':{'content':'a'},'logprobs':{'content':[{'token':'a'}]},'"
		"finish_reason':'stop'}]}\n\n",
		CHAT, true, false,
		M "'a'},'logprobs':[{'token':'a'}],'done':false}\n" M
		  "''},'done':true,'done_reason':'stop','total_duration':0}\n"},
	/* Nothing said: still an answer that each client can read. */
	{ANSWER_OLLAMA_CHAT, "{'done':true}", OPENAI, true, true,
		C "{'index':0,'delta':{'role':'assistant','content':''},'finish_reason':'stop'}]}"
		  "\n\n" C "],'usage':{'prompt_tokens':0,'completion_tokens':0,'total_tokens':0}}"
		  "\n\ndata: [DONE]\n\n"},
	{ANSWER_OLLAMA_CHAT, "{'done':true}", OPENAI, false, false,
		O "{'index':0,'message':{'role':'assistant','content':''},'finish_reason':'stop'}],"
		  "'usage':{'prompt_tokens':0,"
		  "'completion_tokens':0,'total_tokens':0}}"},
	{ANSWER_OLLAMA_CHAT, "{'done':true,'done_reason':'load'}", CHAT, true, false,
		M "''},'done':true,'done_reason':'load'}\n"},
	{ANSWER_OLLAMA_CHAT, "{'done':true,'done_reason':'unload'}", GENERATE, false, false,
		G "'','done':true,'done_reason':'unload'}"},
	/* Errors in band. */
	{ANSWER_OPENAI_CHAT,
		"data: {'choices':[{'delta':{'content':'a'}}]}\n\ndata: "
		"{'error':{'code':503,'message':'gone'}}\n\n",
		CHAT, true, false, M "'a'},'done':false}\n{'error':'gone'}\n"},
	{ANSWER_OLLAMA_CHAT, "{'message':{'content':'a'}}\n{'error':'gone'}\n", OPENAI, true, false,
		D("{'role':'assistant','content':'a'}") "data: "
							"{'error':{'message':'gone','type':'server_"
							"error','param':null,'code':500}}\n\n"},
	{ANSWER_OLLAMA_CHAT, "{'message':{'content':'a'}}\n{'error':'gone'}\n", OPENAI, false,
		false,
		"{'error':{'message':'gone','type':'server_error','param':null,'code':500}}"},
};

/* Takes times out: created_at's value becomes T, created's and total_duration's 0. */
static void mask(char *text)
{
	static const struct {
		const char *key, *value;
	} masks[] = {
		{"\"created_at\":\"", "T"}, {"\"created\":", "0"}, {"\"total_duration\":", "0"}};
	for (size_t i = 0; i < COUNT(masks); i++) {
		for (char *p = text; (p = strstr(p, masks[i].key));) {
			p += strlen(masks[i].key);
			char *end = p;
			while (isalnum((unsigned char)*end) || strchr("-:.", *end))
				end++;
			assert_true(end > p);
			*p++ = masks[i].value[0];
			memmove(p, end, strlen(end) + 1);
		}
	}
}

struct pipe {
	struct answer_writer *writer;
	struct buf out;
	int rc;
};

static void pass_on(void *ctx, const struct answer_event *event)
{
	struct pipe *pipe = ctx;
	if (pipe->rc == 0)
		pipe->rc = answer_writer_put(pipe->writer, event, &pipe->out);
}

static void answers_reach_the_client_in_its_dialect(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		char *input = json_of(vectors[i].input), *expected = json_of(vectors[i].expected);
		struct pipe pipe = {0};
		buf_init(&pipe.out, 0);
		pipe.writer = answer_writer_create(vectors[i].dialect, vectors[i].stream,
			SLICE("m"), "i", vectors[i].include_usage, 1 << 20);
		struct answer_parser *p =
			answer_parser_create(vectors[i].format, true, 1 << 20, pass_on, &pipe);
		assert_non_null(p);
		assert_non_null(pipe.writer);
		print_message("%s\n", input);
		assert_int_equal(answer_parser_feed(p, slice_str(input)), 0);
		assert_int_equal(answer_parser_finish(p), 0);
		assert_int_equal(pipe.rc, 0);
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

static void check_echo(bool stream, bool resumed, const char *expected)
{
	char *body = json_of("{'prompt':'p\\u0022\\n','echo':true}"), *wanted = json_of(expected);
	struct chat_request r;
	struct dialect_error error;
	struct buf out;
	struct answer_event text = {.kind = ANSWER_TEXT, .text = SLICE("t")};
	struct answer_event end = {
		.kind = ANSWER_END, .finish = FINISH_STOP, .usage = {-1, -1, -1, -1, -1, -1}};
	const struct answer_begun begun = {.identity = SLICE("\"id\":\"x\"")};
	struct answer_writer *w =
		answer_writer_create(PROMPT, stream, SLICE("m"), "i", false, 1 << 20);
	buf_init(&out, 0);
	assert_non_null(w);
	assert_int_equal(chat_request_parse(PROMPT, slice_str(body), &r, &error), 0);
	assert_int_equal(answer_writer_read(w, &r), 0);
	if (resumed)
		assert_int_equal(answer_writer_resume(w, &begun), 0);
	assert_int_equal(answer_writer_put(w, &text, &out), 0);
	assert_int_equal(answer_writer_put(w, &text, &out), 0);
	assert_int_equal(answer_writer_put(w, &end, &out), 0);
	char *got = strdup(buf_cstr(&out));
	assert_non_null(got);
	mask(got);
	assert_string_equal(got, wanted);
	free(got);
	buf_free(&out);
	answer_writer_destroy(w);
	chat_request_fini(&r);
	free(wanted);
	free(body);
}

#define PEND "{'index':0,'text':'','logprobs':null,'finish_reason':'stop'}]}\n\ndata: [DONE]\n\n"

/* Once, in front of the answer; not again where the client has it. */
static void a_prompt_is_echoed(void **state)
{
	(void)state;
	check_echo(true, false, PT("'p\\\"\\nt'") PT("'t'") "data: " P PEND);
	check_echo(false, false,
		P
		"{'index':0,'text':'p\\\"\\ntt','logprobs':null,'finish_reason':'stop'}],'usage':{"
		"'prompt_tokens':0,'completion_tokens':0,'total_tokens':0}}");
#define X(text, finish)                                                                            \
	"data: {'id':'x','choices':[{'index':0,'text':" text                                       \
	",'logprobs':null,'finish_reason':" finish "}]}\n\n"
	check_echo(
		true, true, X("'t'", "null") X("'t'", "null") X("''", "'stop'") "data: [DONE]\n\n");
}

static void times_are_rfc3339_in_utc(void **state)
{
	(void)state;
	struct answer_writer *w = answer_writer_create(CHAT, true, SLICE("a\"b"), "i", false, 0);
	struct answer_event event = {.kind = ANSWER_TEXT, .text = SLICE("x")};
	struct buf out;
	int year, month, day, hour, minute, second, used = 0;
	long ns;
	buf_init(&out, 0);
	assert_non_null(w);
	assert_int_equal(answer_writer_put(w, &event, &out), 0);
	assert_int_equal(
		sscanf(buf_cstr(&out),
			"{\"model\":\"a\\\"b\",\"created_at\":\"%4d-%2d-%2dT%2d:%2d:%2d.%9ldZ\",%n",
			&year, &month, &day, &hour, &minute, &second, &ns, &used),
		7);
	assert_true(used > 0);
	assert_true(year >= 2024);
	answer_writer_destroy(w);
	buf_free(&out);
}

/* stream:false and tool arguments collect: no more than they may. */
static void what_is_collected_is_capped(void **state)
{
	(void)state;
	static const struct {
		enum dialect dialect;
		bool stream;
		enum answer_event_kind kind;
	} cases[] = {
		{CHAT, false, ANSWER_TEXT},
		{OPENAI, false, ANSWER_THINKING},
		{CHAT, true, ANSWER_TOOL_ARGS},
		{OPENAI, false, ANSWER_TOOL_ARGS},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct answer_writer *w = answer_writer_create(
			cases[i].dialect, cases[i].stream, SLICE("m"), "i", false, 1000);
		struct answer_event event = {.kind = cases[i].kind, .text = SLICE("0123456789")};
		struct buf out;
		int rc = 0, puts = 0;
		buf_init(&out, 0);
		assert_non_null(w);
		for (; rc == 0 && puts < 1000; puts++)
			rc = answer_writer_put(w, &event, &out);
		assert_int_equal(rc, -E2BIG);
		assert_true(puts > 90 && puts <= 101);
		answer_writer_destroy(w);
		buf_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_reach_the_client_in_its_dialect),
		cmocka_unit_test(a_prompt_is_echoed),
		cmocka_unit_test(times_are_rfc3339_in_utc),
		cmocka_unit_test(what_is_collected_is_capped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
