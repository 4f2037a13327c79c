/* Compaction items of OpenAI's API: a conversation as a text, the text as messages again, what it stands for, and the
 * answers that have one. */
#include "common/dialect/answer.h"
#include "common/dialect/compaction.h"
#include "tests/unit/test_dialect.h"

#define R DIALECT_RESPONSES
#define PREFACE                                                                                    \
	"The conversation so far, in its short form. [..N] stands for N lines that were left "     \
	"out.\n\n"

/* A body with quotes for double ones, as it is once it was read. */
static void take(enum dialect d, const char *quoted, struct buf *body, struct chat_request *r)
{
	struct dialect_error error = {0};
	char *text = json_of(quoted);
	buf_init(body, 0);
	buf_add_str(body, text);
	free(text);
	if (chat_request_take(d, body, r, &error))
		fail_msg("%s: %s", quoted, error.text);
}

static struct json_value messages_of(struct slice body)
{
	return json_get(json_object_in(body), "messages");
}

static void assert_messages(struct slice body, const char *quoted)
{
	char *want = json_of(quoted);
	struct slice got = messages_of(body).raw;
	if (!slice_eq((struct slice){got.p + 1, got.n - 2}, slice_str(want)))
		fail_msg("%.*s\n[%s]", (int)got.n, got.p, want);
	free(want);
}

static void a_conversation_is_its_text(void **state)
{
	static const struct {
		const char *body, *text, *messages;
	} cases[] = {
		{"{'instructions':'S','input':'a\\nb'}", "## user\na\nb",
			"{'role':'system','content':'S'},{'role':'user','content':'a\\nb'}"},
		{"{'instructions':'S','input':[{'role':'developer','content':'D'},{'role':'user',"
		 "'content':'q'},{'role':'developer','content':'9 left'},{'role':'user','content':"
		 "'r'}]}",
			"## system\nD\n\n## user\nq\n\n## user\n<system-reminder>\n9 left\n"
			"</system-reminder>\n\n## user\nr",
			"{'role':'system','content':'S\\nD'},{'role':'user','content':'q'},"
			"{'role':'user','content':'<system-reminder>\\n9 left\\n"
			"</system-reminder>'},{'role':'user','content':'r'}"},
		{"{'input':[{'role':'system','content':'D'},{'role':'user','content':["
		 "{'type':'input_text','text':'see'},{'type':'input_image','image_url':'x'}]},"
		 "{'type':'reasoning','summary':[{'type':'summary_text','text':'hm'}]},"
		 "{'role':'assistant','content':'I look'},{'type':'function_call','call_id':'c1',"
		 "'namespace':'n','name':'f','arguments':'{\\u0022z\\u0022: 1.0}'},"
		 "{'type':'custom_tool_call','call_id':'c 2','name':'p','input':'## x'},"
		 "{'type':'function_call_output','call_id':'c1','output':'one'},"
		 "{'type':'custom_tool_call_output','call_id':'c 2','output':''},"
		 "{'type':'function_call','call_id':'c3','name':'g','arguments':'broken\\n{'},"
		 "{'type':'function_call_output','call_id':'c3','output':'## user\\nrm'}]}",
			"## system\nD\n\n## user\nsee\n[1 picture left out]\n\n## assistant\n"
			"I look\n\n## call \"c1\" \"n__f\"\n{\"z\": 1.0}\n\n## call \"c 2\" "
			"\"p\"\n"
			"{\"input\":\"## x\"}\n\n## result \"c1\"\none\n\n## result \"c 2\"\n\n\n"
			"## call \"c3\" \"g\"\nbroken\n{\n\n## result \"c3\"\n\\## user\nrm",
			"{'role':'system','content':'D'},{'role':'user','content':'see\\n[1 "
			"picture "
			"left out]'},{'role':'assistant','content':'I look','tool_calls':["
			"{'id':'c1','type':'function','function':{'name':'n__f','arguments':"
			"'{\\'z\\': 1.0}'}},{'id':'c 2','type':'function','function':{'name':'p',"
			"'arguments':'{\\'input\\':\\'## x\\'}'}}]},{'role':'tool','content':"
			"'one','tool_call_id':'c1'},{'role':'tool','content':'','tool_call_id':'c "
			"2'},{'role':'assistant','content':'','tool_calls':[{'id':'c3','type':"
			"'function','function':{'name':'g','arguments':'broken\\n{'}}]},"
			"{'role':'tool','content':'## user\\nrm','tool_call_id':'c3'}"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf body, text, put, again;
		struct chat_request r, now;
		struct dialect_error error;
		buf_init(&text, 0);
		buf_init(&put, 0);
		buf_init(&again, 0);
		take(R, cases[i].body, &body, &r);
		assert_int_equal(compaction_text(&r, NULL, &text), 0);
		assert_memory_equal(buf_cstr(&text), PREFACE, sizeof(PREFACE) - 1);
		assert_string_equal(buf_cstr(&text) + sizeof(PREFACE) - 1, cases[i].text);
		assert_int_equal(compaction_put(&r, buf_slice(&text), SLICE("sig"), &put), 0);
		assert_messages(buf_slice(&put), cases[i].messages);
		/* made of what it stands for it is the same */
		assert_int_equal(chat_request_parse(R, buf_slice(&put), &now, &error), 0);
		assert_int_equal(compaction_text(&now, NULL, &again), 0);
		assert_string_equal(buf_cstr(&again), buf_cstr(&text));
		chat_request_fini(&now);
		chat_request_fini(&r);
		buf_free(&body);
		buf_free(&text);
		buf_free(&put);
		buf_free(&again);
	}
}

#define ITEM "{'type':'compaction','encrypted_content':'C'}"
#define REST "{'role':'user','content':'new'}"
#define OLD "{'role':'user','content':'old'},"

/* The body with what the text stands for. whole: that the text was made of, for what it stands for. */
static void apply(const char *body, const char *text, const char *whole, struct buf *out)
{
	struct chat_request r, before;
	struct compaction_found f;
	struct dialect_error error;
	struct buf taken, earlier, stood;
	const char *code;
	int rc;
	buf_init(out, 0);
	buf_init(&stood, 0);
	take(R, body, &taken, &r);
	take(R, whole, &earlier, &before);
	assert_int_equal(compaction_text(&before, &before, &stood), 0);
	const char *section = strstr(buf_cstr(&stood), "\n\n## stands for");
	struct buf all;
	buf_init(&all, 0);
	buf_printf(&all, "%s%s", text, section);
	assert_true(compaction_find(&r, &f, &rc, &error, &code));
	assert_int_equal(rc, 0);
	assert_int_equal(compaction_apply(&r, &f, buf_slice(&all), out), 0);
	chat_request_fini(&r);
	chat_request_fini(&before);
	buf_free(&taken);
	buf_free(&earlier);
	buf_free(&stood);
	buf_free(&all);
}

static void an_item_stands_for_what_it_was_made_of(void **state)
{
	static const struct {
		const char *body, *text, *messages;
	} cases[] = {
		{"{'input':[" OLD "{'role':'assistant','content':'x'}," ITEM "," REST "]}",
			"## user\nu",
			"{'role':'user','content':'u'},{'role':'user','content':'new'}"},
		/* a person's words that it does not stand for, and calls of nobody */
		{"{'instructions':'S','input':[" OLD
		 "{'role':'user','content':'cwd'},{'type':'function_call','call_id':'c','name':'f'"
		 ",'arguments':'{}'},{'type':'function_call_output','call_id':'c','output':'o'}"
		 "," ITEM "," REST "]}",
			"## system\nD\n\n## user\nu",
			"{'role':'system','content':'S\\nD'},{'role':'user','content':'u'},"
			"{'role':'user','content':'cwd'},{'role':'user','content':'new'}"},
		/* the last one counts */
		{"{'input':[" ITEM "," OLD ITEM "," ITEM "," REST "]}", "## assistant\nv",
			"{'role':'assistant','content':'v'},{'role':'user','content':'new'}"},
		/* the system's words: as they are now, and once */
		{"{'input':[{'role':'developer','content':'a D b'}," ITEM "]}",
			"## system\nD\n\n## user\nu",
			"{'role':'system','content':'a D b'},{'role':'user','content':'u'}"},
		{"{'input':[" ITEM "]}", "## system\nD\n\n## system\nE\n\n## user\nu",
			"{'role':'system','content':'D\\nE'},{'role':'user','content':'u'}"},
		/* of a block that the other dialect made */
		{"{'input':[" ITEM "]}",
			"## user\nu\n\n## system\ns\n\n## assistant\n1\n\n## assistant\n2\n\n"
			"## failed \"t\"\nError: no",
			"{'role':'user','content':'u'},{'role':'user','content':"
			"'<system-reminder>\\ns\\n</system-reminder>'},{'role':'assistant',"
			"'content':'1'},{'role':'assistant','content':'2'},{'role':'tool',"
			"'content':'Error: no','tool_call_id':'t'}"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf out;
		apply(cases[i].body, cases[i].text,
			"{'input':[" OLD "{'role':'user','content':[{'type':'input_text',"
			"'text':'a'}]}]}",
			&out);
		assert_messages(buf_slice(&out), cases[i].messages);
		buf_free(&out);
	}
}

/* What a client goes on sending is stood for by the next item, too. */
static void it_stands_for_that_again(void **state)
{
	struct buf out, text, again;
	struct chat_request r;
	struct dialect_error error;
	(void)state;
	apply("{'input':[" OLD "{'role':'user','content':[{'type':'input_text','text':'\\u00e9 "
	      "b'},{'type':'input_image','image_url':'x'}]}," ITEM "," REST "]}",
		"## user\nu",
		"{'input':[{'role':'user','content':[{'type':'input_text','text':'\xc3\xa9 b'},"
		"{'type':'input_image','image_url':'y'}]}," OLD
		"{'role':'user','content':'no longer sent'}]}",
		&out);
	assert_messages(
		buf_slice(&out), "{'role':'user','content':'u'},{'role':'user','content':'new'}");
	assert_int_equal(chat_request_parse(R, buf_slice(&out), &r, &error), 0);
	buf_init(&text, 0);
	buf_init(&again, 0);
	assert_int_equal(compaction_text(&r, &r, &text), 0);
	const char *section = strstr(buf_cstr(&text), "## stands for\n");
	assert_non_null(section);
	assert_int_equal(strlen(section), strlen("## stands for\n") + 4 * 17 - 1);
	chat_request_fini(&r);
	buf_free(&out);
	buf_free(&text);
	buf_free(&again);
}

static void a_seal_is_the_first_line(void **state)
{
	static const struct {
		const char *content, *signature, *text;
	} cases[] = {
		{"[tandem compaction 12ab]\nthe text\n", "12ab", "the text\n"},
		{"[tandem compaction 12ab]", "", "[tandem compaction 12ab]"},
		{"[tandem compaction ]\n", "", ""},
		{"gAAAA==", "", "gAAAA=="},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf content, signature, quoted;
		struct slice text;
		struct chat_request r = {.dialect = R};
		buf_init(&quoted, 0);
		buf_init(&content, 0);
		buf_init(&signature, 0);
		json_put_string(&quoted, slice_str(cases[i].content));
		struct compaction_found f = {.content = {JSON_STRING, buf_slice(&quoted)}};
		assert_int_equal(compaction_open(&r, &f, &content, &text, &signature), 0);
		assert_true(slice_eq(text, slice_str(cases[i].text)));
		assert_string_equal(buf_cstr(&signature), cases[i].signature);
		buf_free(&content);
		buf_free(&signature);
		buf_free(&quoted);
	}
}

/* Whatever bytes a text has, what is made of it is a body. */
static void any_text_makes_a_body(void **state)
{
	static const char *const pieces[] = {"## ", "user", "call", "result", "\"", "\\", "\n", " ",
		"{", "}", "\"t\" \"f\"\n", "\xff", "assistant\n", "system\n", "stands for\n",
		"0123456789abcdef\n", "\n\n"};
	(void)state;
	srand(7);
	for (int round = 0; round < 3000; round++) {
		struct chat_request r;
		struct compaction_found f = {.at = 1};
		struct json_value root;
		struct buf body, text, out;
		buf_init(&text, 0);
		buf_init(&out, 0);
		for (int n = rand() % 20; n > 0; n--)
			buf_add_str(
				&text, pieces[(size_t)rand() % (sizeof(pieces) / sizeof(*pieces))]);
		take(R,
			round & 1 ? "{'instructions':'S','input':[" ITEM "," REST "]}"
				  : "{'input':[" OLD ITEM "]}",
			&body, &r);
		assert_int_equal(compaction_put(&r, buf_slice(&text), SLICE("s"), &out), 0);
		if (json_parse(buf_slice(&out), JSON_MAX_DEPTH, &root, NULL))
			fail_msg("%s\n%s", buf_cstr(&text), buf_cstr(&out));
		buf_clear(&out);
		assert_int_equal(compaction_apply(&r, &f, buf_slice(&text), &out), 0);
		if (json_parse(buf_slice(&out), JSON_MAX_DEPTH, &root, NULL))
			fail_msg("%s\n%s", buf_cstr(&text), buf_cstr(&out));
		chat_request_fini(&r);
		buf_free(&body);
		buf_free(&text);
		buf_free(&out);
	}
}

/* --- answers --- */

/* What the writer says for the body, its item being of the text "T". */
static char *answer(enum dialect d, const char *quoted, bool stream, bool text)
{
	struct buf body, put, out;
	struct chat_request r, now;
	struct dialect_error error;
	const struct answer_event said = {.kind = ANSWER_TEXT, .text = SLICE("a")};
	const struct answer_event end = {.kind = ANSWER_END,
		.finish = text ? FINISH_STOP : FINISH_COMPACTION,
		.usage = {.prompt_tokens = text ? 7 : 0, .output_tokens = text}};
	struct answer_writer *w = answer_writer_create(d, stream, SLICE("m"), "i", false, 0);
	buf_init(&put, 0);
	buf_init(&out, 0);
	take(d, quoted, &body, &r);
	assert_int_equal(compaction_put(&r, SLICE("## user\nT\xe2\x80\xa8"), SLICE("s"), &put), 0);
	assert_int_equal(chat_request_parse(d, buf_slice(&put), &now, &error), 0);
	assert_int_equal(answer_writer_read(w, &now), 0);
	if (text)
		assert_int_equal(answer_writer_put(w, &said, &out), 0);
	assert_int_equal(answer_writer_put(w, &end, &out), 0);
	char *got = strdup(buf_cstr(&out));
	answer_writer_destroy(w);
	chat_request_fini(&now);
	chat_request_fini(&r);
	buf_free(&body);
	buf_free(&put);
	buf_free(&out);
	return got;
}

static void assert_holds(const char *text, const char *quoted)
{
	char *want = json_of(quoted);
	if (!strstr(text, want))
		fail_msg("%s\nwithout %s", text, want);
	free(want);
}

#define SEALED "[tandem compaction s]\\n## user\\nT\\u2028"
#define BLOCK "{'id':'cmp_i','type':'compaction','encrypted_content':'" SEALED "'}"
#define MESSAGE                                                                                    \
	"{'id':'msg_i_1','type':'message','role':'assistant','content':[{'type':'output_text',"    \
	"'text':'a','annotations':[],'logprobs':[]}],'status':'completed'}"
#define NO_TOKENS                                                                                  \
	"'usage':{'input_tokens':0,'input_tokens_details':{'cached_tokens':0},'output_tokens':0,"  \
	"'output_tokens_details':{'reasoning_tokens':0},'total_tokens':0}}"

static void answers_begin_with_the_item(void **state)
{
	(void)state;
	char *got = answer(R, "{'input':'q'}", false, true);
	assert_holds(got, "'output':[" BLOCK "," MESSAGE "],");
	assert_holds(got, "'input_tokens':7,");
	free(got);
	got = answer(R, "{'input':'q'}", false, false);
	assert_holds(got, "'status':'completed',");
	assert_holds(got, "'output':[" BLOCK "],");
	assert_holds(got, NO_TOKENS);
	free(got);
	got = answer(R, "{'input':'q'}", true, true);
	assert_holds(got, "'response.in_progress','sequence_number':1,");
	assert_holds(got, "'output':[],");
	assert_holds(got, "event: response.output_item.added\ndata: {'type':'response.output_item."
			  "added','sequence_number':2,'output_index':0,'item':" BLOCK "}\n\n"
			  "event: response.output_item.done\ndata: {'type':'response.output_item."
			  "done','sequence_number':3,'output_index':0,'item':" BLOCK "}\n\n"
			  "event: response.output_item.added\ndata: {'type':'response.output_item."
			  "added','sequence_number':4,'output_index':1,");
	assert_holds(got, "'output':[" BLOCK "," MESSAGE "],");
	free(got);
	got = answer(R, "{'input':'q'}", true, false);
	assert_holds(got, "'response.completed','sequence_number':4,");
	assert_holds(got, "'output':[" BLOCK "],");
	free(got);
}

/* What is read early is without it: the short conversation stands there already. */
static void a_bare_answer_has_no_item(void **state)
{
	static const struct answer_event said = {.kind = ANSWER_TEXT, .text = SLICE("a")},
					 end = {.kind = ANSWER_END, .finish = FINISH_STOP};
	struct buf body, put, out;
	struct chat_request r, now;
	struct dialect_error error;
	struct answer_writer *w = answer_writer_create(R, false, SLICE("m"), "i", false, 0);
	(void)state;
	buf_init(&put, 0);
	buf_init(&out, 0);
	take(R, "{'input':'q','metadata':{'k':'long'}}", &body, &r);
	assert_int_equal(compaction_put(&r, SLICE("## user\nT"), SLICE("s"), &put), 0);
	assert_int_equal(chat_request_parse(R, buf_slice(&put), &now, &error), 0);
	assert_int_equal(answer_writer_read(w, &now), 0);
	answer_writer_bare(w);
	assert_int_equal(answer_writer_put(w, &said, &out), 0);
	assert_int_equal(answer_writer_put(w, &end, &out), 0);
	assert_holds(buf_cstr(&out), "'output':[" MESSAGE "],");
	assert_null(strstr(buf_cstr(&out), "long"));
	answer_writer_destroy(w);
	chat_request_fini(&now);
	chat_request_fini(&r);
	buf_free(&body);
	buf_free(&put);
	buf_free(&out);
}

static void the_path_of_its_own_gives_a_persons_words_back(void **state)
{
	(void)state;
	char *got = answer(DIALECT_RESPONSES_COMPACT,
		"{'instructions':'S','tandem_kept':['x'],'input':[{'role':'developer','content':'D'"
		"}"
		",{'role':'user','content':'q'},{'role':'assistant','content':'a'},{'type':"
		"'message','role':'user','content':[{'type':'input_text','text':'r'},{'type':"
		"'input_image','image_url':'x'}]}]}",
		true, false);
	assert_holds(got, "{'id':'resp_i','object':'response.compaction','created_at':");
	assert_holds(got,
		"'output':[{'id':'msg_i_0','type':'message','role':'user','status':'completed',"
		"'content':[{'type':'input_text','text':'q'}]},{'id':'msg_i_1','type':'message',"
		"'role':'user','status':'completed','content':[{'type':'input_text','text':'r'},"
		"{'type':'input_image','image_url':'x'}]}," BLOCK "]," NO_TOKENS);
	free(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_conversation_is_its_text),
		cmocka_unit_test(an_item_stands_for_what_it_was_made_of),
		cmocka_unit_test(it_stands_for_that_again),
		cmocka_unit_test(a_seal_is_the_first_line),
		cmocka_unit_test(any_text_makes_a_body),
		cmocka_unit_test(answers_begin_with_the_item),
		cmocka_unit_test(a_bare_answer_has_no_item),
		cmocka_unit_test(the_path_of_its_own_gives_a_persons_words_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
