/* Backends' answers as events, whatever the pieces they arrive in. */
#include "common/dialect/answer.h"
#include "tests/unit/test_dialect.h"

#define MAX_LINE 4096

#define OLLAMA ANSWER_OLLAMA_CHAT
#define GENERATE ANSWER_OLLAMA_GENERATE
#define OPENAI ANSWER_OPENAI_CHAT
#define TEXT ANSWER_OPENAI_TEXT
#define INFILL ANSWER_LLAMA_INFILL

#define CHUNK(delta) "data: {'choices':[{'index':0,'delta':" delta ",'finish_reason':null}]}\n\n"
#define FINISH(reason) "data: {'choices':[{'index':0,'delta':{},'finish_reason':'" reason "'}]}\n\n"

static const struct {
	enum answer_format format;
	bool stream;
	const char *input;
	const char *events; /* as trace_event() writes them */
	int finish;	    /* what answer_parser_finish() returns, or feed before it */
} vectors[] = {
	/* Ollama. */
	{OLLAMA, true,
		"{'model':'m','message':{'role':'assistant','content':'He'},'done':false}\n"
		"{'message':{'content':'','thinking':'hm'},'done':false}\n"
		"{'message':{'content':'l\\u2028\\ud83d\\ude00\\n'},'done':false}\n"
		"{'message':{'content':''},'done':true,'done_reason':'stop','total_duration':9,'"
		"load_duration':1500000,"
		"'prompt_eval_count':26,'prompt_eval_duration':2000000,'eval_count':3,'eval_"
		"duration':4000000}\n",
		"text(He) think(hm) text(l\xe2\x80\xa8\xf0\x9f\x98\x80\n) end(stop 26/-1+3 2.0 4.0 "
		"1.5) ",
		0},
	/* CRLF, blank lines, heartbeats, no last line feed; bytes after the end. */
	{OLLAMA, true,
		"  \r\n\n {'message':{'content':'a'}}\r\n{'done':true,'done_reason':'length'}",
		"text(a) end(length -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	{OLLAMA, true, "{'done':true}\nrubbish\n{'message':{'content':'late'}}\n",
		"end(stop -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	{OLLAMA, true, "{'message':{'content':''},'done':true,'done_reason':'load'}",
		"end(load -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	{OLLAMA, true, "{'message':{},'done':true,'done_reason':'unload'}",
		"end(unload -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	{OLLAMA, true,
		"{'message':{'content':'x','tool_calls':[{'id':'c1','function':{'index':0,'name':'"
		"f','arguments':{'a': 1.0}}},"
		"{'function':{'name':'g\\u0041'}}]},'done':false}\n{'message':{'content':''},'done'"
		":true,'done_reason':'stop'}\n",
		"text(x) tool0(c1,f) args0({'a': 1.0}) tool0. tool1(,gA) tool1. end(tools -1/-1+-1 "
		"-1.0 -1.0 -1.0) ",
		0},
	{OLLAMA, true,
		"{'message':{'content':'t'},'logprobs':[{'token':'t','logprob':-0.5}],'done':false}"
		"\n{'done':true}",
		"text(t)[{'token':'t','logprob':-0.5}] end(stop -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	{OLLAMA, false,
		"{'message':{'content':'all','thinking':'th'},\n 'done':true,'eval_count':1}\n",
		"think(th) text(all) end(stop -1/-1+1 -1.0 -1.0 -1.0) ", 0},
	{GENERATE, true,
		"{'response':'a','done':false}\n{'response':'','thinking':'b'}\n{'response':'','"
		"done':true,'context':[1,2]}",
		"text(a) think(b) end(stop -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	{GENERATE, false,
		"{'response':'a','done':true,'done_reason':'length','prompt_eval_count':5}",
		"text(a) end(length 5/-1+-1 -1.0 -1.0 -1.0) ", 0},
	/* Errors in band, a cut, garbage. */
	{OLLAMA, true, "{'message':{'content':'a'}}\n{'error':'an \\u0022error\\u0022'}\n",
		"text(a) error(500 an 'error') ", 0},
	{OLLAMA, false, "{'error':'busy'}", "error(500 busy) ", 0},
	{OLLAMA, true, "{'message':{'content':'a'}}\n", "text(a) ", -EPROTO},
	{OLLAMA, true, "{'message':{'content':'a'}}\n{'message':{'con", "text(a) ", -EPROTO},
	{OLLAMA, true, "", "", -EPROTO},
	{OLLAMA, false, "", "", -EPROTO},
	{OLLAMA, true, "<html>\n", "", -EPROTO},
	{OLLAMA, true, "[]\n", "", -EPROTO},
	{OLLAMA, false, "{'message':{'content':'a'},'done':false}", "text(a) ", -EPROTO},
	{OLLAMA, true,
		"{'message':7}\n{'message':{'content':5,'thinking':[],'tool_calls':{'a':1}}}\n{'"
		"message':{'tool_calls':[1,null,{}]}}\n"
		"{'done':'true'}\n{'done':true,'done_reason':5,'eval_count':'x','prompt_eval_count'"
		":-3,'eval_duration':-1}\n",
		"end(stop -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	/* llama-server. */
	{OPENAI, true,
		CHUNK("{'role':'assistant','content':null}") CHUNK(
			"{'reasoning_content':'th'}") ":\n\n: ping\n\n" CHUNK("{'content':'a'}")
			CHUNK("{'content':'\\ud83d\\ude00'}") FINISH(
				"stop") "data: "
					"{'choices':[],'usage':{'prompt_tokens':10,'completion_"
					"tokens':2,'prompt_tokens_details':{'cached_tokens':4}},"
					"'timings':{'cache_n':4,'prompt_n':6,'prompt_ms':1.5,'"
					"predicted_n':2,'predicted_ms':2.5}}\n\ndata: [DONE]\n\n",
		"think(th) text(a) text(\xf0\x9f\x98\x80) end(stop 10/4+2 1.5 2.5 -1.0) ", 0},
	/* Without [DONE]; CRLF; no space after the colon; ids and event names. */
	{OPENAI, true,
		"id: 1\r\nevent: message\r\nretry: "
		"5\r\ndata:{'choices':[{'delta':{'content':'a'},'finish_reason':'length'}]}"
		"\r\n\r\n",
		"text(a) end(length -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	{OPENAI, true, CHUNK("{'content':'a'}") "data: [DONE]\n\n",
		"text(a) end(stop -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	{OPENAI, true, CHUNK("{'reasoning':'r'}") FINISH("stop"),
		"think(r) end(stop -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	/* Tool calls in fragments; two of them; id and name repeated; no index. */
	{OPENAI, true,
		CHUNK("{'tool_calls':[{'index':0,'id':'c0','type':'function','function':{'name':'f'"
		      ",'arguments':''}}]}")
			CHUNK("{'tool_calls':[{'index':0,'function':{'arguments':'{\\u0022a'}}]}")
				CHUNK("{'tool_calls':[{'index':0,'id':'c0','function':{'name':'f','"
				      "arguments':'\\u0022:1}'}}]}")
					CHUNK("{'tool_calls':[{'index':1,'id':'c1','function':{'"
					      "name':'g','arguments':'{}'}}]}")
						FINISH("tool_calls") "data: [DONE]\n\n",
		"tool0(c0,f) args0({'a) args0(':1}) tool0. tool1(c1,g) args1({}) tool1. end(tools "
		"-1/-1+-1 -1.0 -1.0 -1.0) ",
		0},
	{OPENAI, true,
		CHUNK("{'tool_calls':[{'function':{'name':'f','arguments':'{'}}]}")
			CHUNK("{'tool_calls':[{'function':{'arguments':'}'}}]}") CHUNK(
				"{'tool_calls':[{'function':{'name':'g','arguments':{'o': 1}}}]}")
				FINISH("stop"),
		"tool0(,f) args0({) args0(}) tool0. tool1(,g) args1({'o': 1}) tool1. end(tools "
		"-1/-1+-1 -1.0 -1.0 -1.0) ",
		0},
	{OPENAI, true,
		CHUNK("{'tool_calls':[{'index':0,'function':{'name':'f','arguments':''}}]}")
			CHUNK("{'tool_calls':[{'index':1,'function':{'name':'g','arguments':''}}]}")
				CHUNK("{'tool_calls':[{'index':0,'function':{'arguments':'{}'}}]}"),
		"tool0(,f) tool0. tool1(,g) ", -EPROTO},
	{OPENAI, true, CHUNK("{'tool_calls':[{'index':0,'function':{'arguments':'{}'}}]}"), "",
		-EPROTO},
	{OPENAI, false,
		"{'choices':[{'message':{'role':'assistant','content':'a','reasoning_content':'r','"
		"tool_calls':[{'id':'c','type':"
		"'function','function':{'name':'f','arguments':'{}'}}]},'finish_reason':'tool_"
		"calls'}],'usage':"
		"{'prompt_tokens':3,'completion_tokens':4}}",
		"think(r) text(a) tool0(c,f) args0({}) tool0. end(tools 3/-1+4 -1.0 -1.0 -1.0) ",
		0},
	{OPENAI, true,
		"data: "
		"{'choices':[{'index':1,'delta':{'content':'b'}},{'index':0,'delta':{'content':'a'}"
		",'logprobs':{'content':["
		"{'token':'a'}]}}]}\n\n" FINISH("stop"),
		"text(a)[{'token':'a'}] end(stop -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	/* Progress, empty usage, an old server's timings without cache_n. */
	{OPENAI, true,
		"data: "
		"{'choices':[{'index':0,'delta':{'role':'assistant','content':null}}],'prompt_"
		"progress':{'total':9}}\n\n"
		"data: "
		"{'choices':[{'delta':{},'finish_reason':'stop'}],'usage':{},'timings':{'prompt_n':"
		"5,'prompt_ms':1,'predicted_n':7}}\n\n",
		"end(stop -1/-1+7 1.0 -1.0 -1.0) ", 0},
	{OPENAI, true,
		CHUNK("{'content':'a'}") "data: {'error':{'code':400,'message':'too "
					 "big','type':'x'}}\n\n",
		"text(a) error(400 too big) ", 0},
	{OPENAI, true, CHUNK("{'content':'a'}") "error: {'code':500,'message':'old'}\n\n",
		"text(a) error(500 old) ", 0},
	{OPENAI, true, "{'error':{'code':503,'message':'Loading model'}}",
		"error(503 Loading model) ", 0},
	{OPENAI, true, CHUNK("{'content':'a'}"), "text(a) ", -EPROTO},
	{OPENAI, true, "data: {'choices':[{]}\n\n", "", -EPROTO},
	{OPENAI, true, "HTTP/1.1 200 OK\n", "", -EPROTO},
	{OPENAI, true,
		"data:\n\ndata: "
		"{'choices':[7,{'delta':[]},{'delta':{'content':{},'tool_calls':[3,'x']}}],'usage':"
		"[],'timings':3}\n\n"
		"data: {'choices':{}}\n\n" FINISH("content_filter"),
		"end(stop -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	{TEXT, true,
		"data: {'choices':[{'text':'a','index':0,'finish_reason':null}]}\n\ndata: "
		"{'choices':[{'text':'','finish_reason':'length'}]}\n\ndata: [DONE]\n\n",
		"text(a) end(length -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	{TEXT, false, "{'choices':[{'text':'a','finish_reason':'stop'}]}",
		"text(a) end(stop -1/-1+-1 -1.0 -1.0 -1.0) ", 0},
	{INFILL, true,
		"data: {'content':'a','stop':false}\n\ndata: "
		"{'content':'','stop':true,'stop_type':'limit','tokens_evaluated':8,"
		"'timings':{'cache_n':1,'prompt_n':7,'predicted_n':2}}\n\n",
		"text(a) end(length 8/1+2 -1.0 -1.0 -1.0) ", 0},
	{INFILL, false,
		"{'content':'a','stop':true,'stop_type':'eos','tokens_evaluated':8,'tokens_"
		"predicted':1}",
		"text(a) end(stop 8/-1+1 -1.0 -1.0 -1.0) ", 0},
	{INFILL, true, "data: {'content':'a','stop':false}\n\n", "text(a) ", -EPROTO},
};

/* Events as text. The event's slices are copied at once: they do not outlive the call. */
static void trace_event(void *ctx, const struct answer_event *e)
{
	static const char *const finishes[] = {"none", "stop", "length", "tools", "load", "unload"};
	struct buf *out = ctx;
	int n = (int)e->text.n;
	const char *p = e->text.n ? e->text.p : "";
	switch (e->kind) {
	case ANSWER_TEXT:
		buf_printf(out, "text(%.*s)", n, p);
		if (e->logprobs.n)
			buf_printf(out, "[%.*s]", (int)e->logprobs.n, e->logprobs.p);
		buf_add_char(out, ' ');
		break;
	case ANSWER_THINKING:
		buf_printf(out, "think(%.*s) ", n, p);
		break;
	case ANSWER_TOOL_BEGIN:
		buf_printf(out, "tool%u(%.*s,%.*s) ", e->index, (int)e->id.n,
			e->id.n ? e->id.p : "", (int)e->name.n, e->name.n ? e->name.p : "");
		break;
	case ANSWER_TOOL_ARGS:
		buf_printf(out, "args%u(%.*s) ", e->index, n, p);
		break;
	case ANSWER_TOOL_END:
		buf_printf(out, "tool%u. ", e->index);
		break;
	case ANSWER_END:
		buf_printf(out, "end(%s %ld/%ld+%ld %.1f %.1f %.1f) ", finishes[e->finish],
			(long)e->usage.prompt_tokens, (long)e->usage.cached_tokens,
			(long)e->usage.output_tokens, e->usage.prompt_ms, e->usage.output_ms,
			e->usage.load_ms);
		break;
	case ANSWER_ERROR:
		buf_printf(out, "error(%d %.*s) ", e->status, n, p);
		break;
	}
}

/* Each piece from an allocation of its own size, so that a sanitizer sees any byte read past it. */
static int feed_copy(struct answer_parser *p, struct slice piece)
{
	char *copy = malloc(piece.n ? piece.n : 1);
	assert_non_null(copy);
	if (piece.n)
		memcpy(copy, piece.p, piece.n);
	int rc = answer_parser_feed(p, (struct slice){copy, piece.n});
	free(copy);
	return rc;
}

/* Feeds the input cut at `cut` (or every `step` bytes) and returns the events. */
static int run(enum answer_format format, bool stream, struct slice input, size_t cut, size_t step,
	struct buf *events)
{
	struct answer_parser *p =
		answer_parser_create(format, stream, MAX_LINE, trace_event, events);
	assert_non_null(p);
	buf_clear(events);
	for (size_t at = 0; at < input.n;) {
		size_t end = step ? at + step : at < cut ? cut : input.n;
		if (end > input.n)
			end = input.n;
		feed_copy(p, (struct slice){input.p + at, end - at});
		at = end;
	}
	int rc = answer_parser_finish(p);
	assert_int_equal(rc, answer_parser_finish(p));
	assert_int_equal(rc != 0, answer_parser_problem(p)[0] != '\0');
	answer_parser_destroy(p);
	return rc;
}

static void answers_become_events_however_they_are_cut(void **state)
{
	(void)state;
	struct buf events;
	buf_init(&events, 0);
	for (size_t i = 0; i < COUNT(vectors); i++) {
		char *text = json_of(vectors[i].input), *expected = json_of(vectors[i].events);
		struct slice input = slice_str(text);
		print_message("%s\n", text);
		for (size_t cut = 0; cut <= input.n; cut++) {
			assert_int_equal(
				run(vectors[i].format, vectors[i].stream, input, cut, 0, &events),
				vectors[i].finish);
			assert_string_equal(buf_cstr(&events), expected);
		}
		for (size_t step = 1; step <= 3; step++) {
			assert_int_equal(
				run(vectors[i].format, vectors[i].stream, input, 0, step, &events),
				vectors[i].finish);
			assert_string_equal(buf_cstr(&events), expected);
		}
		free(expected);
		free(text);
	}
	buf_free(&events);
}

/* Lines are capped whether they come whole or in pieces; so is an object. */
static void long_lines_are_refused(void **state)
{
	(void)state;
	static const struct {
		enum answer_format format;
		bool stream;
	} cases[] = {{OLLAMA, true}, {OPENAI, true}, {OLLAMA, false}};
	struct buf events, line;
	buf_init(&events, 0);
	buf_init(&line, 0);
	for (size_t i = 0; i < COUNT(cases); i++) {
		for (size_t step = 0; step < 2; step++) {
			buf_clear(&line);
			buf_add_str(
				&line, cases[i].format == OPENAI ? "data: {\"x\":\"" : "{\"x\":\"");
			while (line.n <= MAX_LINE)
				buf_add_char(&line, 'x');
			buf_add_str(&line, "\"}\n");
			assert_int_equal(run(cases[i].format, cases[i].stream, buf_slice(&line), 0,
						 step * 100, &events),
				-E2BIG);
			assert_int_equal(events.n, 0);
		}
	}
	buf_free(&line);
	buf_free(&events);
}

/* A fixed generator: the same garbage at every run. */
static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void garbage_never_crashes(void **state)
{
	(void)state;
	unsigned seed = 1;
	struct buf events;
	buf_init(&events, 0);
	for (size_t i = 0; i < COUNT(vectors); i++) {
		char *text = json_of(vectors[i].input);
		size_t n = strlen(text);
		for (int round = 0; n && round < 200; round++) {
			char *mutant = malloc(n);
			assert_non_null(mutant);
			memcpy(mutant, text, n);
			for (unsigned k = 1 + next_random(&seed) % 4; k > 0; k--)
				mutant[next_random(&seed) % n] =
					next_random(&seed) % 2
						? (char)next_random(&seed)
						: "{}[]\",:\\\n"[next_random(&seed) % 9];
			for (enum answer_format f = ANSWER_OLLAMA_CHAT; f <= ANSWER_LLAMA_INFILL;
				f++)
				run(f, round % 4 != 0, (struct slice){mutant, n}, n / 2, 0,
					&events);
			free(mutant);
		}
		free(text);
	}
	buf_free(&events);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_become_events_however_they_are_cut),
		cmocka_unit_test(long_lines_are_refused),
		cmocka_unit_test(garbage_never_crashes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
