/* common/guard: what of a prompt is another one in the next, and what is mended of it. */
#include "common/guard/lines.h"

#include "tests/unit/conversation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- help --- */

static const uint64_t key[2] = {1, 2};

struct asked {
	struct buf body;
	struct chat_request request;
	struct guard_prompt prompt;
};

static void ask_bytes(struct asked *a, enum dialect d, struct slice body)
{
	struct dialect_error error;
	*a = (struct asked){.prompt = {0}};
	buf_init(&a->body, 0);
	buf_add_slice(&a->body, body);
	if (chat_request_parse(d, buf_slice(&a->body), &a->request, &error))
		fail_msg("%s: %s", error.text, buf_cstr(&a->body));
	assert_true(guard_can(&a->request));
	assert_int_equal(guard_read(&a->request, GUARD_KEEP, key, &a->prompt), 0);
}

/* more: members of the body; ' stands for ". */
static void ask(struct asked *a, const char *messages, const char *more)
{
	struct buf body;
	buf_init(&body, 0);
	buf_printf(&body, "{'model':'m','messages':[%s]%s}", messages, more ? more : "");
	for (size_t i = 0; i < body.n; i++)
		if (body.p[i] == '\'')
			body.p[i] = '"';
	ask_bytes(a, DIALECT_OPENAI_CHAT, buf_slice(&body));
	buf_free(&body);
}

static void unask(struct asked *a)
{
	guard_prompt_fini(&a->prompt);
	chat_request_fini(&a->request);
	buf_free(&a->body);
}

static struct guard_verdict compare(const struct asked *a, const struct asked *b)
{
	struct guard_verdict v;
	assert_int_equal(guard_compare(&a->prompt, &b->prompt, &v), 0);
	return v;
}

/* --- what is named --- */

#define S "{'role':'system','content':'You help.\\nBe brief.'}"
#define U(text) "{'role':'user','content':'" text "'}"
#define A(text) "{'role':'assistant','content':'" text "'}"
#define R(id, text) "{'role':'tool','tool_call_id':'" id "','content':'" text "'}"
#define T "," U("task") ","
#define LONG A("a1") "," R("1", "r1") "," A("a2") "," R("2", "r2") "," A("a3") "," R("3", "r3")

static const struct named {
	const char *what, *before, *after;
	enum guard_kind kind;
	size_t message, byte;
	bool back;
} named[] = {
	{"more", S "," U("q"), S "," U("q") "," A("a") "," U("r"), GUARD_KEPT, 0, 0, false},
	{"the same again", S "," U("q"), S "," U("q"), GUARD_KEPT, 0, 0, false},
	{"one string, or a list of it", S "," U("q"),
		S ",{'role':'user','content':[{'type':'text','text':'q'}]}," A("a") "," U("r"),
		GUARD_KEPT, 0, 0, false},
	{"the object written otherwise", S "," U("q"),
		S ", {'content' : 'q', 'role' : 'user'}," A("a") "," U("r"), GUARD_KEPT, 0, 0,
		false},
	{"thinking that is not sent back",
		S "," U("q") ",{'role':'assistant','content':'a','reasoning_content':'hm'}," U("r"),
		S "," U("q") "," A("a") "," U("r") "," A("b") "," U("s"), GUARD_KEPT, 0, 0, false},
	{"back", S "," U("q") "," A("a") "," U("r"), S "," U("q"), GUARD_BRANCHED, 0, 0, true},
	{"the newest said otherwise", S "," U("q") "," A("a") "," U("r"),
		S "," U("q") "," A("a") "," U("s"), GUARD_BRANCHED, 0, 0, false},
	{"another answer", S "," U("q") "," A("a") "," U("r"), S "," U("q") "," A("b") "," U("r"),
		GUARD_BRANCHED, 0, 0, false},
	{"another agent with the same task and the same file",
		S T A("a1") "," R("1", "the file") "," A("a2") "," R("2", "x"),
		S T A("b1") "," R("1", "the file") "," A("b2") "," R("2", "y"), GUARD_BRANCHED, 0,
		0, false},
	{"two results, and another way behind the first",
		S T A("a1") "," R("1", "r1") "," R("2", "r2"),
		S T A("a1") "," R("1", "r1") "," A("b1") "," U("b2"), GUARD_BRANCHED, 0, 0, false},
	{"new, with the first words of before and another clock",
		"{'role':'system','content':'It is 10:00:01'}" T A("a") "," U("r"),
		"{'role':'system','content':'It is 11:30:02'}" T A("b") "," U("c"), GUARD_BRANCHED,
		0, 0, false},
	{"a summary, the newest kept", S T LONG,
		S T U("Summary: all was done.") "," A("a3") "," R("3", "r3") "," A("a4") "," U(
			"on"),
		GUARD_COMPACTED, 0, 0, false},
	{"a summary alone", S T LONG, S T A("A summary of it all.") "," U("on"), GUARD_COMPACTED, 0,
		0, false},
	{"a clock in the system prompt",
		"{'role':'system','content':'You help.\\nIt is 10:00:01\\nBe brief.'}" T A(
			"a") "," U("r"),
		"{'role':'system','content':'You help.\\nIt is 10:00:09\\nBe brief.'}" T A(
			"a") "," U("r") "," A("b") "," U("s"),
		GUARD_CLOCK, 0, 11, false},
	{"... before anything was answered",
		"{'role':'system','content':'You help.\\nToday: Sun Nov 29'}"
		"," U("q"),
		"{'role':'system','content':'You help.\\nToday: Mon Nov 30'}"
		"," U("q") "," A("a") "," U("r"),
		GUARD_CLOCK, 0, 11, false},
	{"a counter there", "{'role':'system','content':'5,000 tokens left'}" T A("a") "," U("r"),
		"{'role':'system','content':'4,321 tokens left'}" T A("a") "," U("r") "," A(
			"b") "," U("s"),
		GUARD_COUNTER, 0, 0, false},
	{"other words in a line with a clock",
		"{'role':'system','content':'x\\nAt 10:00 play'}" T A("a") "," U("r"),
		"{'role':'system','content':'x\\nAt 10:00 work'}" T A("a") "," U("r") "," A(
			"b") "," U("s"),
		GUARD_EDITED, 0, 3, false},
	{"a counter behind the newest result", S T A("a1") "," R("1", "r1\\n90 tokens left"),
		S T A("a1") "," R("1", "r1") "," A("a2") "," R("2", "r2\\n80 tokens left"),
		GUARD_COUNTER, 3, 2, false},
	{"... behind all", S T A("a1") "," R("1", "r1\\n90 tokens left"),
		S T A("a1") "," R("1", "r1\\n80 tokens left") "," A("a2") "," R(
			"2", "r2\\n80 tokens left"),
		GUARD_COUNTER, 3, 4, false},
	{"... as a message", S T A("a1") "," R("1", "r1") "," U("90 tokens left"),
		S T A("a1") "," R("1", "r1") "," A("a2") "," R("2", "r2") "," U("80 tokens left"),
		GUARD_COUNTER, 4, 0, false},
	{"a reminder that is gone", S T A("a1") "," R("1", "r1") "," U("remember"),
		S T A("a1") "," R("1", "r1") "," A("a2") "," R("2", "r2"), GUARD_DROPPED, 4, 0,
		false},
	{"... that stands at the end again", S T A("a1") "," R("1", "r1") "," U("remember"),
		S T A("a1") "," R("1", "r1") "," A("a2") "," R("2", "r2") "," U("remember"),
		GUARD_DROPPED, 4, 0, false},
	{"an old result cleared", S T LONG,
		S T A("a1") "," R("1", "cleared") "," A("a2") "," R("2", "r2") "," A("a3") "," R(
			"3", "r3") "," A("a4") "," U("on"),
		GUARD_EDITED, 3, 0, false},
	{"the newest result changed", S T LONG,
		S T A("a1") "," R("1", "r1") "," A("a2") "," R("2", "r2") "," A("a3") "," R(
			"3", "R3") "," A("a4") "," U("on"),
		GUARD_EDITED, 7, 0, false},
	{"an answer changed", S T LONG,
		S T A("A1") "," R("1", "r1") "," A("a2") "," R("2", "r2") "," A("a3") "," R(
			"3", "r3") "," A("a4") "," U("on"),
		GUARD_EDITED, 2, 0, false},
	{"the task changed", S T LONG, S "," U("Task") "," LONG "," A("a4") "," U("on"),
		GUARD_EDITED, 1, 0, false},
	{"another system prompt", S T LONG,
		"{'role':'system','content':'Another.'}" T LONG "," A("a4") "," U("on"),
		GUARD_EDITED, 0, 0, false},
	{"something put in", S T LONG, S "," U("memory") T LONG "," A("a4") "," U("on"),
		GUARD_EDITED, 1, 0, false},
	{"the oldest gone", S T LONG,
		S T A("a2") "," R("2", "r2") "," A("a3") "," R("3", "r3") "," A("a4") "," U("on"),
		GUARD_DROPPED, 2, 0, false},
	{"... with a word for it", S T LONG,
		S T U("Some history was removed.") "," A("a3") "," R("3", "r3") "," A("a4") "," U(
			"on"),
		GUARD_DROPPED, 2, 0, false},
	{"... with the task", S T LONG,
		S "," A("a2") "," R("2", "r2") "," A("a3") "," R("3", "r3") "," A("a4") "," U("on"),
		GUARD_DROPPED, 1, 0, false},
};

static void test_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++) {
		const struct named *n = &named[i];
		struct asked a, b;
		ask(&a, n->before, NULL);
		ask(&b, n->after, NULL);
		struct guard_verdict v = compare(&a, &b);
		if (v.kind != n->kind || v.back != n->back ||
			v.count != (n->kind >= GUARD_FIRST_BREAK) ||
			(v.count &&
				(v.change[0].message != n->message || v.change[0].byte != n->byte)))
			fail_msg("%s: %s, message %zu, byte %zu, %zu changes", n->what,
				guard_kind_name(v.kind), v.change[0].message, v.change[0].byte,
				v.count);
		if (v.count &&
			(v.change[0].lost <= 0 || v.change[0].lost > guard_weight(&b.prompt)))
			fail_msg("%s: %f lost of %f", n->what, v.change[0].lost,
				guard_weight(&b.prompt));
		if (n->kind != GUARD_BRANCHED && guard_likeness(&a.prompt, &b.prompt) == 0)
			fail_msg("%s: not found to be one conversation", n->what);
		unask(&a);
		unask(&b);
	}
}

static void test_other_conversations(void **state)
{
	(void)state;
	static const char *const others[] = {
		S "," U("another task") "," A("b1") "," U("b2"), /* the system prompt alone */
		S "," U("another task") "," A("a1") "," R("9", "x") "," A("b2") "," U(
			"y"), /* and one answer */
		U("### Task: a title for a1, r1, a2"),
		S,
	};
	struct asked a, b;
	ask(&a, S T LONG, NULL);
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		ask(&b, others[i], NULL);
		assert_true(guard_likeness(&a.prompt, &b.prompt) == 0 &&
			    guard_goes_on(&a.prompt, &b.prompt) == 0);
		unask(&b);
	}
	unask(&a);
}

#define TOOL_F                                                                                     \
	"{'type':'function','function':{'name':'f','parameters':{'type':'object','required':['a'," \
	"'b']}}}"
#define TOOL_G "{'type':'function','function':{'name':'g','parameters':{}}}"

static void test_tools(void **state)
{
	(void)state;
	static const struct {
		const char *tools;
		enum guard_kind kind;
	} cases[] = {
		{",'tools':[" TOOL_F "," TOOL_G "]", GUARD_KEPT},
		{",'tools':[" TOOL_G "," TOOL_F "]", GUARD_TOOLS_ORDER},
		{",'tools':[ " TOOL_F " , " TOOL_G " ]", GUARD_TOOLS_SPELLING},
		{",'tools':[{'function':{'parameters':{'required':['a', "
		 "'b'],'type':'object'},'name':'f'},'type':'function'}," TOOL_G "]",
			GUARD_TOOLS_SPELLING},
		{",'tools':[{'type':'function','function':{'name':'f','parameters':{'type':'object'"
		 ",'required':['b','a']}}}," TOOL_G "]",
			GUARD_TOOLS},
		{",'tools':[" TOOL_F "]", GUARD_TOOLS},
		{",'tools':[" TOOL_F "," TOOL_F "]", GUARD_TOOLS},
		{",'tools':[" TOOL_F "," TOOL_G "," TOOL_G "]", GUARD_TOOLS},
		{"", GUARD_TOOLS},
	};
	struct asked a, b;
	ask(&a, S "," U("q"), cases[0].tools);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		ask(&b, S "," U("q") "," A("a") "," U("r"), cases[i].tools);
		struct guard_verdict v = compare(&a, &b);
		if (v.kind != cases[i].kind)
			fail_msg("%s: %s", cases[i].tools, guard_kind_name(v.kind));
		unask(&b);
	}
	unask(&a);
}

static void test_lines(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum guard_kind kind;
	} cases[] = {
		{"Current time: 14:05", GUARD_CLOCK},
		{"2026-11-29", GUARD_CLOCK},
		{"on 11/29/2026", GUARD_CLOCK},
		{"Sunday, November 29", GUARD_CLOCK},
		{"<env>Today's date: Sun 29</env>", GUARD_CLOCK},
		{"Token usage: 41000/200000; 159000 remaining", GUARD_COUNTER},
		{"12 turns left", GUARD_COUNTER},
		{"context: 43%", GUARD_COUNTER},
		{"100% sure", GUARD_COUNTER},
		{"x = 1", GUARD_NEW},
		{"tokens left", GUARD_NEW},
		{"may be", GUARD_NEW},
		{"", GUARD_NEW},
		{"7", GUARD_NEW},
		{"section 3.4", GUARD_NEW},
	};
	struct guard_line line;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		guard_line_look(slice_str(cases[i].text), &line);
		if (line.kind != cases[i].kind)
			fail_msg("%s: %s", cases[i].text, guard_kind_name(line.kind));
	}
	char text[GUARD_KEPT_LINE_BYTES + 2];
	memset(text, ' ', sizeof(text));
	memcpy(text, "10:00", 5);
	guard_line_look((struct slice){text, GUARD_KEPT_LINE_BYTES}, &line);
	assert_int_equal(line.kind, GUARD_CLOCK);
	guard_line_look((struct slice){text, GUARD_KEPT_LINE_BYTES + 1}, &line);
	assert_int_equal(line.kind, GUARD_NEW);
	assert_true(guard_summarises(SLICE("A Summary of it")) &&
		    !guard_summarises(SLICE("a sum")) && !guard_summarises(SLICE("")));
}

/* --- repairs --- */

/* The body that is made of `after` when `before` was sent last; NULL: nothing is mended. ' for ". */
static char *mended(const char *before, const char *after, struct guard_wish wish)
{
	struct asked a, b;
	struct buf out;
	char *text = NULL;
	buf_init(&out, 0);
	ask(&a, before, NULL);
	ask(&b, after, NULL);
	wish.before = &a.prompt;
	if (guard_repair(&b.request, &b.prompt, &wish, &out)) {
		struct asked again;
		ask_bytes(&again, DIALECT_OPENAI_CHAT, buf_slice(&out)); /* it is a request still */
		unask(&again);
		text = slice_dup(buf_slice(&out));
		for (char *p = text; *p; p++)
			*p = *p == '"' ? '\'' : *p;
	}
	buf_free(&out);
	unask(&a);
	unask(&b);
	return text;
}

static void assert_mended(
	const char *before, const char *after, struct guard_wish wish, const char *want)
{
	char *text = mended(before, after, wish);
	struct buf body;
	buf_init(&body, 0);
	if (want)
		buf_printf(&body, "{'model':'m','messages':[%s]}", want);
	if (!text || !want)
		assert_true(!text && !want);
	else
		assert_string_equal(text, buf_cstr(&body));
	free(text);
	buf_free(&body);
}

#define BUILD "x-anthropic-billing-header: cc_version=2; cch=1a2b;"
#define SYS(text) "{'role':'system','content':'" text "'}"

static void test_attribution(void **state)
{
	(void)state;
	const struct guard_wish wish = {.attribution = true};
	assert_mended(S, SYS(BUILD "\\nYou help.") "," U("q"), wish, SYS("You help.") "," U("q"));
	assert_mended(S, SYS(BUILD), wish, SYS(""));
	assert_mended(S,
		"{'role':'system','content':[{'type':'text','text':'" BUILD
		"'}, {'type':'text','text':'You help.'}]}",
		wish, "{'role':'system','content':[{'type':'text','text':'You help.'}]}");
	assert_mended(S,
		"{'role':'system','content':[{'type':'text','text':'" BUILD "\\nYou help.'}]}",
		wish, "{'role':'system','content':[{'type':'text','text':'You help.'}]}");
	assert_mended(S, SYS("You help.\\n" BUILD), wish, NULL); /* not at its head */
	assert_mended(S, S "," U(BUILD "\\nq"), wish, NULL);	 /* a person's */
	assert_mended(
		S, SYS(BUILD "\\nYou help."), (struct guard_wish){.attribution = false}, NULL);
}

static void test_attribution_is_no_part_of_what_is_said(void **state)
{
	(void)state;
	struct asked a, b;
	ask(&a, SYS(BUILD "\\nYou help.") "," U("q"), NULL);
	ask(&b,
		SYS("x-anthropic-billing-header: cch=ffff;\\nYou help.") "," U("q") "," A(
			"a") "," U("r"),
		NULL);
	struct guard_verdict v = compare(&a, &b);
	assert_int_equal(v.count, 1);
	assert_int_equal(v.kind, GUARD_ATTRIBUTION);
	unask(&b);
	ask(&b, SYS("You help.") "," U("q") "," A("a") "," U("r"), NULL);
	assert_int_equal(compare(&a, &b).kind, GUARD_KEPT);
	unask(&a);
	unask(&b);
}

static void test_tools_are_put_back(void **state)
{
	(void)state;
	struct asked b;
	struct buf out;
	buf_init(&out, 0);
	ask(&b, S "," U("q"), ",'tools': [1, 2] ,'stream':true");
	const struct guard_wish wish = {.tools = SLICE("[2,1]")}, same = {.tools = SLICE("[1, 2]")};
	assert_false(guard_repair(&b.request, &b.prompt, &same, &out));
	assert_true(guard_repair(&b.request, &b.prompt, &wish, &out));
	assert_non_null(strstr(buf_cstr(&out), "\"tools\": [2,1] ,\"stream\":true}"));
	buf_free(&out);
	unask(&b);
}

static void test_held(void **state)
{
	(void)state;
	const struct guard_wish wish = {.hold = true};
	/* A system prompt's line stays; what it is now stands behind the newest words. */
	assert_mended(SYS("You help.\\nIt is 10:00\\nBe brief.") "," U("q"),
		SYS("You help.\\nIt is 10:07\\nBe brief.") "," U("q") "," A("a") "," U("r"), wish,
		SYS("You help.\\nIt is 10:00\\nBe brief.") "," U("q") "," A("a") "," U(
			"r\\nIt is 10:07"));
	/* What was put behind words stays there. */
	assert_mended(S "," U("q\\nIt is 10:07"), S "," U("q") "," A("a") "," U("r"), wish,
		S "," U("q\\nIt is 10:07") "," A("a") "," U("r"));
	/* Lines that came, went and changed, at every place. */
	assert_mended(S "," U("1 turn left\\nq\\nr"), S "," U("q\\nr") "," A("a") "," U("s"), wish,
		S "," U("1 turn left\\nq\\nr") "," A("a") "," U("s"));
	assert_mended(S "," U("q\\n1 turn left\\nr"), S "," U("q\\nr") "," A("a") "," U("s"), wish,
		S "," U("q\\n1 turn left\\nr") "," A("a") "," U("s"));
	assert_mended(S "," U("q\\nr"), S "," U("1 turn left\\nq\\nr") "," A("a") "," U("s"), wish,
		S "," U("q\\nr") "," A("a") "," U("s"));
	assert_mended(S "," U("q\\nr"),
		S "," U("q\\n1 turn left\\n2 turns left\\nr\\n3 turns left\\n4 turns left") "," A(
			"a") "," U("s"),
		wish, S "," U("q\\nr") "," A("a") "," U("s"));
	assert_mended(S "," U("q"), S "," U("1 turn left\\n2 turns left\\nq") "," A("a") "," U("s"),
		wish, S "," U("q") "," A("a") "," U("s"));
	/* The newest result's counter is its own. */
	assert_mended(S T A("a") "," R("1", "r\\n9 tokens left"),
		S T A("a") "," R("1", "r") "," A("b") "," R("2", "s\\n8 tokens left"), wish,
		S T A("a") "," R("1", "r\\n9 tokens left") "," A("b") "," R(
			"2", "s\\n8 tokens left"));
	/* Words differ: hands off, and off what is behind them. */
	assert_mended(S "," U("q\\n1 turn left"), S "," U("p\\n2 turns left") "," A("a") "," U("s"),
		wish, NULL);
	assert_mended(S "," U("q") "," A("a") "," U("r\\n1 turn left"),
		S "," U("p") "," A("a") "," U("r\\n2 turns left") "," A("b") "," U("s"), wish,
		NULL);
	/* Each line of a system prompt is told. */
	assert_mended(SYS("It is 10:00\\n9000 tokens left") "," U("q"),
		SYS("It is 10:07\\n8500 tokens left") "," U("q") "," A("a") "," U("r"), wish,
		SYS("It is 10:00\\n9000 tokens left") "," U("q") "," A("a") "," U(
			"r\\nIt is 10:07\\n8500 tokens left"));
	/* The newest message is what is said now: edited, or sent again. */
	assert_mended(
		SYS("It is 10:00") "," U("q") "," A("a") "," U("Wake me at 07:30\\nIt is 10:07"),
		SYS("It is 10:09") "," U("q") "," A("a") "," U("Wake me at 06:45"), wish,
		SYS("It is 10:00") "," U("q") "," A("a") "," U("Wake me at 06:45\\nIt is 10:09"));
	assert_mended(SYS("It is 10:00") "," U("q") "," A("a") "," U("r\\nIt is 10:07"),
		SYS("It is 10:07") "," U("q") "," A("a") "," U("r"), wish,
		SYS("It is 10:00") "," U("q") "," A("a") "," U("r\\nIt is 10:07"));
	/* There is no place for what it is now. */
	assert_mended(SYS("It is 10:00") "," U("q"), SYS("It is 10:07") "," U("q") "," A("a"), wish,
		NULL);
	assert_mended(SYS("It is 10:00") "," U("q"),
		SYS("It is 10:00") "," U("q") "," A("a") "," U("r"), wish, NULL);
}

/* --- any conversation --- */

static unsigned held; /* conversations that were spoilt and mended */

/* Puts a line with a clock or a counter behind some line ends and ends of strings. */
static void spoil(struct conversation *c, struct slice body, struct buf *out)
{
	for (size_t i = 0; i < body.n; i++) {
		bool end = body.p[i] == '\\' && i + 1 < body.n && body.p[i + 1] == 'n';
		if (end && conversation_chance(c, 3))
			buf_printf(out, "\\n%s%u",
				conversation_chance(c, 50) ? "It is 10:0" : "tokens left: ",
				conversation_below(c, 10));
		buf_add_char(out, body.p[i]);
		if (body.p[i] == '\\' && i + 1 < body.n)
			buf_add_char(out, body.p[++i]);
	}
}

/* Spoilt, and mended: it begins again as what was sent last. */
static void check_hold(struct conversation *c, const struct asked *last, struct slice body)
{
	struct asked spoilt, again;
	struct buf bad, good;
	buf_init(&bad, 0);
	buf_init(&good, 0);
	spoil(c, body, &bad);
	ask_bytes(&spoilt, c->dialect, buf_slice(&bad));
	const struct guard_wish wish = {.before = &last->prompt, .hold = true};
	if (guard_repair(&spoilt.request, &spoilt.prompt, &wish, &good)) {
		ask_bytes(&again, c->dialect, buf_slice(&good));
		assert_int_equal(compare(last, &again).kind, GUARD_KEPT);
		unask(&again);
		held++;
	}
	unask(&spoilt);
	buf_free(&bad);
	buf_free(&good);
}

static void test_any_conversation(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 90; seed++) {
		struct conversation c;
		struct asked last = {0}, now;
		conversation_begin(&c, seed);
		for (size_t k = 0; k < 8; k++)
			conversation_turn(&c);
		for (size_t k = 0; k < conversation_groups(&c); k++) {
			struct buf body;
			buf_init(&body, 0);
			conversation_body(&c, k, &body);
			ask_bytes(&now, c.dialect, buf_slice(&body));
			if (k > 0) {
				assert_int_equal(compare(&last, &now).kind, GUARD_KEPT);
				assert_true(guard_goes_on(&last.prompt, &now.prompt) > 0);
				assert_int_equal(compare(&now, &last).kind, GUARD_BRANCHED);
				check_hold(&c, &last, buf_slice(&body));
				unask(&last);
			}
			last = now;
			buf_free(&body);
		}
		unask(&last);
		conversation_fini(&c);
	}
	assert_true(held > 50);
}

/* Any two prompts, one made of the other at random: nothing but an answer comes of it. */
static void test_any_two(void **state)
{
	(void)state;
	static const char *const pieces[] = {S, U("q"), U("task"), A("a1"), A("a2"), R("1", "r1"),
		R("2", "r2\\n9 tokens left"), SYS("It is 10:00"), U("summary"), A(""), R("1", ""),
		U("")};
	struct conversation c = {.random = 88172645463325252u};
	for (size_t round = 0; round < 3000; round++) {
		struct asked a, b;
		struct buf text[2], out;
		buf_init(&out, 0);
		for (size_t i = 0; i < 2; i++) {
			buf_init(&text[i], 0);
			for (unsigned n = 1 + conversation_below(&c, 7); n; n--)
				buf_printf(&text[i], "%s%s", text[i].n ? "," : "",
					pieces[conversation_below(&c, 12)]);
		}
		ask(&a, buf_cstr(&text[0]), NULL);
		ask(&b, buf_cstr(&text[1]), NULL);
		struct guard_verdict v = compare(&a, &b);
		for (size_t i = 0; i < v.count; i++)
			assert_true(v.change[i].message < b.prompt.count && v.change[i].lost >= 0 &&
				    v.change[i].lost <= guard_weight(&b.prompt));
		guard_likeness(&a.prompt, &b.prompt);
		const struct guard_wish wish = {
			.before = &a.prompt, .hold = true, .attribution = true};
		if (guard_repair(&b.request, &b.prompt, &wish, &out)) {
			struct asked again;
			ask_bytes(&again, DIALECT_OPENAI_CHAT, buf_slice(&out));
			assert_int_equal(again.prompt.count, b.prompt.count);
			unask(&again);
		}
		unask(&a);
		unask(&b);
		buf_free(&out);
		buf_free(&text[0]);
		buf_free(&text[1]);
	}
}

static void test_bounds(void **state)
{
	(void)state;
	struct buf text;
	struct asked a, b;
	buf_init(&text, 0);
	buf_add_str(&text, "{'role':'system','content':'It is 10:00");
	for (size_t i = 0; i < GUARD_LINES_MAX + 10; i++)
		buf_add_str(&text, "\\nx");
	buf_add_str(&text, "'}," U("q"));
	ask(&a, buf_cstr(&text), NULL);
	assert_int_equal(a.prompt.line_count, GUARD_LINES_MAX);
	/* Known as a whole alone. */
	assert_true(a.prompt.messages[0].lines == 0 && a.prompt.messages[1].lines == 0);
	size_t before = guard_prompt_bytes(&a.prompt);
	guard_prompt_thin(&a.prompt);
	assert_true(guard_prompt_bytes(&a.prompt) < before && guard_prompt_bytes(&a.prompt) < 4096);
	ask(&b, SYS("It is 10:00") "," U("q") "," A("a") "," U("r"), NULL);
	struct guard_verdict v = compare(&a, &b);
	assert_true(v.kind == GUARD_EDITED && v.change[0].message == 0 && v.change[0].byte == 0);
	unask(&a);
	unask(&b);
	buf_free(&text);
}

static void test_what_is_not_watched(void **state)
{
	(void)state;
	static const struct {
		enum dialect d;
		const char *body;
	} cases[] = {
		{DIALECT_OLLAMA_GENERATE, "{\"model\":\"m\",\"prompt\":\"p\"}"},
		{DIALECT_OLLAMA_CHAT, "{\"model\":\"m\",\"messages\":[]}"},
		{DIALECT_OPENAI_TEXT, "{\"model\":\"m\",\"prompt\":\"p\"}"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct chat_request r;
		struct dialect_error error;
		assert_int_equal(
			chat_request_parse(cases[i].d, slice_str(cases[i].body), &r, &error), 0);
		assert_false(guard_can(&r));
		chat_request_fini(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_named),
		cmocka_unit_test(test_other_conversations),
		cmocka_unit_test(test_tools),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_attribution),
		cmocka_unit_test(test_attribution_is_no_part_of_what_is_said),
		cmocka_unit_test(test_tools_are_put_back),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_any_conversation),
		cmocka_unit_test(test_any_two),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_what_is_not_watched),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
