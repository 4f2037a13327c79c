/* Condensing a request as a whole: what must stay stays byte for byte, the rest shrinks visibly. */
#include "common/condense.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct condense_facts condensed = {.sizes_decide = true,
	.keep_ratio = .25,
	.chunk_bytes = 6000,
	.max_chunks = 64,
	.notes_bytes = 360};

static bool holds(struct slice text, const char *needle)
{
	return memmem(text.p, text.n, needle, strlen(needle)) != NULL;
}

/* An agent's session: system, a task, then rounds of a tool call and its result, then the newest
 * turns. */
static void session(struct buf *b, int rounds)
{
	buf_add_str(b, "{\"model\":\"m\", \"big\":9007199254740993,\"messages\":[");
	buf_add_str(b, "{\"role\":\"system\",\"content\":\"You are careful. \\u0000 end\"},");
	buf_add_str(b, "{\"role\":\"user\",\"content\":\"Fix the parser. Never touch "
		       "src/legacy.c.\", \"x\" : 1e400},");
	for (int i = 0; i < rounds; i++) {
		buf_printf(b,
			"{\"role\":\"assistant\",\"content\":\"Looking at part "
			"%d\",\"tool_calls\":[{\"id\":\"c%d\",\"type\":\"function\","
			"\"function\":{\"name\":\"read_file\",\"arguments\":{\"path\":\"src/"
			"part_%d.c\"}}}]},",
			i, i, i);
		buf_printf(b, "{\"role\":\"tool\",\"tool_call_id\":\"c%d\",\"content\":\"", i);
		for (int line = 0; line < 60; line++)
			buf_printf(b, "%d: static int value_%d_%d = compute(%d);\\n", line, i, line,
				line * i);
		buf_printf(b, "error: part %d: expected ';' before 'return'\\n\"},", i);
	}
	buf_add_str(b, "{\"role\":\"user\",\"content\":\"Now explain what you found in "
		       "src/part_3.c \\u2014 in one sentence.\"}");
	buf_add_str(b, "],\"tools\":[ {\"type\":\"function\"} ],\"stream\":true}");
}

struct fixture {
	struct buf body;
	struct chat_request view;
	struct condense c;
	enum condense_result result;
};

static void prepare(struct fixture *f, enum dialect d, const struct condense_facts *facts)
{
	struct dialect_error error;
	struct condense_facts own = *facts;
	assert_int_equal(chat_request_parse(d, buf_slice(&f->body), &f->view, &error), 0);
	assert_int_equal(condense_init(&f->c, &f->view), 0);
	own.tokens = own.tokens_start = token_census_start(&f->view.census);
	condense_options(&f->c, &own, NULL);
	f->result = condense_prepare(&f->c);
}

static void again(struct fixture *f, const struct condense_facts *facts)
{
	struct condense_facts own = *facts;
	condense_fini(&f->c);
	assert_int_equal(condense_init(&f->c, &f->view), 0);
	own.tokens = own.tokens_start = token_census_start(&f->view.census);
	condense_options(&f->c, &own, NULL);
	f->result = condense_prepare(&f->c);
}

static void done(struct fixture *f)
{
	condense_fini(&f->c);
	chat_request_fini(&f->view);
	buf_free(&f->body);
}

static void test_history(void **state)
{
	(void)state;
	struct fixture f = {0};
	struct buf out = {0};
	session(&f.body, 20);
	prepare(&f, DIALECT_OLLAMA_CHAT, &condensed);
	assert_int_equal(f.result, CONDENSE_OK);
	assert_true(condense_chunks(&f.c) > 3);

	struct slice *notes = calloc(condense_chunks(&f.c), sizeof(*notes));
	notes[1] = SLICE("- value_4_2 is computed\n");
	assert_int_equal(condense_assemble(&f.c, notes, 0, &out), CONDENSE_OK);
	free(notes);
	struct slice text = buf_slice(&out);
	assert_true(text.n < f.body.n / 2);
	/* untouched parts as the client sent them */
	assert_true(holds(text, "\"big\":9007199254740993,"));
	assert_true(
		holds(text, "{\"role\":\"system\",\"content\":\"You are careful. \\u0000 end\"}"));
	assert_true(holds(text, "{\"role\":\"user\",\"content\":\"Fix the parser. Never touch "
				"src/legacy.c.\", \"x\" : 1e400}"));
	assert_true(holds(text, "{\"role\":\"user\",\"content\":\"Now explain what you found in "
				"src/part_3.c \\u2014 in one sentence.\"}"));
	assert_true(holds(text, "\"tools\":[ {\"type\":\"function\"} ]"));
	/* the newest group whole, call and result */
	assert_true(holds(text, "\"id\":\"c19\""));
	assert_true(holds(text, "\"tool_call_id\":\"c19\""));
	assert_true(holds(text, "value_19_59"));
	/* visible marks, notes */
	assert_true(holds(text, "[.."));
	assert_true(holds(text, "- value_4_2 is computed"));
	assert_true(holds(text, "[Notes on the parts left out"));

	struct chat_request laid;
	struct dialect_error error;
	assert_int_equal(chat_request_parse(DIALECT_OLLAMA_CHAT, text, &laid, &error), 0);
	for (size_t i = 0; i + 1 < laid.count; i++) /* pairs stay pairs */
		if (json_is(laid.messages[i].tool_calls, JSON_ARRAY))
			assert_int_equal(laid.messages[i + 1].role, CHAT_TOOL);
	chat_request_fini(&laid);
	buf_free(&out);
	done(&f);
}

static void test_no_notes_and_num_ctx(void **state)
{
	(void)state;
	struct fixture f = {0};
	struct buf out = {0};
	session(&f.body, 20);
	prepare(&f, DIALECT_OLLAMA_CHAT, &condensed);
	assert_int_equal(condense_assemble(&f.c, NULL, 8192, &out), CONDENSE_OK);
	assert_true(holds(buf_slice(&out), "\"num_ctx\":8192"));
	assert_false(holds(buf_slice(&out), "Notes on the parts"));
	buf_free(&out);
	done(&f);
}

static void huge(struct buf *b)
{
	buf_add_str(b, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Summarise "
		       "the report below.\\n\\n");
	for (int i = 0; i < 900; i++)
		buf_printf(b, "Line %d of the report says that station_%d measured %d degrees.\\n",
			i, i % 40, i % 30);
	buf_add_str(b, "\\nAnswer in Portuguese, in two sentences.\"}]}");
}

static void test_single_huge_message(void **state)
{
	(void)state;
	struct fixture f = {0};
	struct buf out = {0};
	huge(&f.body);
	prepare(&f, DIALECT_OPENAI_CHAT, &condensed);
	assert_int_equal(f.result, CONDENSE_OK);
	assert_true(condense_chunks(&f.c) > 2);
	assert_int_equal(condense_assemble(&f.c, NULL, 0, &out), CONDENSE_OK);
	assert_true(out.n < f.body.n * 35 / 100);
	assert_true(holds(buf_slice(&out), "Summarise the report below."));
	assert_true(holds(buf_slice(&out), "Answer in Portuguese, in two sentences."));
	assert_true(holds(buf_slice(&out), "[.."));
	buf_free(&out);
	done(&f);
}

static void test_nothing_to_condense(void **state)
{
	(void)state;
	/* nearly all of it is the system prompt, which is never touched */
	struct fixture f = {0};
	buf_add_str(&f.body, "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"");
	for (int i = 0; i < 2000; i++)
		buf_add_str(&f.body, "Rules are rules. ");
	buf_add_str(&f.body, "\"},{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\","
			     "\"content\":\"hello\"},"
			     "{\"role\":\"user\",\"content\":\"go on\"}]}");
	prepare(&f, DIALECT_OLLAMA_CHAT, &condensed);
	assert_int_equal(f.result, CONDENSE_NOTHING);
	done(&f);
}

static void test_room(void **state)
{
	(void)state;
	struct fixture f = {0};
	struct condense_facts facts = condensed;
	struct buf out = {0};
	session(&f.body, 20);
	facts.keep_ratio = 0;
	facts.room_tokens = 6000;
	prepare(&f, DIALECT_OLLAMA_CHAT, &facts);
	assert_int_equal(f.result, CONDENSE_OK);
	assert_true(condense_tokens(&f.c) <= 6000);
	assert_int_equal(condense_assemble(&f.c, NULL, 0, &out), CONDENSE_OK);
	buf_free(&out);
	facts.room_tokens = 100;
	again(&f, &facts);
	assert_int_equal(f.result, CONDENSE_NO_ROOM);
	facts.room_tokens = 1000000;
	again(&f, &facts);
	assert_int_equal(f.result, CONDENSE_NOTHING);
	done(&f);
}

/* The newest tool result alone is larger than the window: cut as far as needed, no further. */
static void test_the_newest_result_is_cut_last(void **state)
{
	(void)state;
	struct fixture f = {0};
	struct condense_facts facts = {.max_chunks = 64};
	struct buf out = {0};
	buf_add_str(&f.body, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"read "
			     "it\"},{\"role\":\"assistant\",\"content\":\"\","
			     "\"tool_calls\":[{\"function\":{\"name\":\"cat\",\"arguments\":{\"p\":"
			     "\"a\"}}}]},{\"role\":\"tool\",\"content\":\"");
	for (int i = 0; i < 1500; i++)
		buf_printf(&f.body, "row %d value %d\\n", i, i * 7);
	buf_add_str(&f.body, "\"}]}");
	struct condense_facts fits = condensed;
	prepare(&f, DIALECT_OLLAMA_CHAT, &fits);
	assert_int_equal(f.result, CONDENSE_NOTHING);
	facts.room_tokens = (int64_t)(token_census_start(&f.view.census) * .85);
	again(&f, &facts);
	assert_int_equal(f.result, CONDENSE_OK);
	assert_int_equal(condense_assemble(&f.c, NULL, 0, &out), CONDENSE_OK);
	assert_true(out.n < f.body.n * 88 / 100 && out.n > f.body.n * 75 / 100);
	assert_true(holds(buf_slice(&out), "row 1499 value"));
	assert_true(holds(buf_slice(&out), "\"name\":\"cat\""));
	assert_int_equal(f.c.layout.messages[2].level, LAYOUT_CUT);
	assert_non_null(strstr(f.c.layout.messages[2].reason, "necessary"));
	buf_free(&out);
	done(&f);
}

/* Rounds of an answer of some length and a short question. */
static void chat(struct buf *b, const char *first)
{
	buf_printf(b, "{\"model\":\"m\",\"messages\":[%s,", first);
	for (int i = 0; i < 30; i++) {
		buf_add_str(b, "{\"role\":\"assistant\",\"content\":\"");
		for (int k = 0; k < 8; k++)
			buf_printf(b,
				"Answer %d talks at length about src/file_%d_%d.c and about the "
				"value that it reads from the table there.\\n",
				i, i, k);
		buf_printf(
			b, "\"},{\"role\":\"user\",\"content\":\"And what about number %d?\"},", i);
	}
	buf_add_str(b, "{\"role\":\"assistant\",\"content\":\"Yes.\"},{\"role\":\"user\","
		       "\"content\":\"Thanks. Sum up.\"}]}");
}

/* The first words of a person stay with all that they carry; short ones stay everywhere. */
static void test_first_message_stays(void **state)
{
	(void)state;
	static const struct {
		enum dialect dialect;
		const char *message;
	} cases[] = {
		{DIALECT_OLLAMA_CHAT,
			"{\"role\":\"user\",\"content\":\"see\",\"images\":[\"aGVsbG8=\"]}"},
		{DIALECT_OPENAI_CHAT,
			"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hear\"},{"
			"\"type\":\"input_audio\",\"input_audio\":{\"data\":\"aGVsbG8=\"}}]}"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture f = {0};
		struct buf out = {0};
		chat(&f.body, cases[i].message);
		prepare(&f, cases[i].dialect, &condensed);
		assert_int_equal(f.result, CONDENSE_OK);
		assert_int_equal(condense_assemble(&f.c, NULL, 0, &out), CONDENSE_OK);
		assert_true(holds(buf_slice(&out), cases[i].message));
		assert_true(out.n < f.body.n / 2);
		for (int k = 0; k < 30; k++) {
			char question[64];
			snprintf(question, sizeof(question), "And what about number %d?", k);
			assert_true(holds(buf_slice(&out), question));
		}
		buf_free(&out);
		done(&f);
	}
}

/* A window that the backend's count makes larger is offered, unless it is next to nothing or was refused. */
static void test_a_wider_window(void **state)
{
	(void)state;
	struct fixture f = {0};
	struct layout_cache *cache = layout_cache_create(1000);
	struct condense_facts facts = condensed;
	facts.room_tokens = 1000;
	session(&f.body, 3);
	prepare(&f, DIALECT_OLLAMA_CHAT, &facts);
	assert_true(f.c.options.window == 1000);
	facts.tokens = facts.tokens_start = 5000;
	assert_true(condense_wider(&f.c, cache, &facts) == 0);
	facts.tokens = 4900; /* 1020 */
	assert_true(condense_wider(&f.c, cache, &facts) == 0);
	facts.tokens = 4000;
	assert_true(condense_wider(&f.c, cache, &facts) == 1250);
	facts.tokens = 0; /* not counted */
	assert_true(condense_wider(&f.c, cache, &facts) == 0);
	facts.tokens = 4000;
	layout_cache_refused(cache, condense_beginning(&f.c), 1000);
	assert_true(condense_wider(&f.c, cache, &facts) == 0);
	layout_cache_destroy(cache);
	done(&f);
}

/* A schema costs what it costs, with tools, without, and beside a null in their place. */
static void test_what_a_format_costs(void **state)
{
	static const char *const tools[] = {"", "\"tools\":null,", "\"tools\":[],"};
	(void)state;
	for (size_t i = 0; i < sizeof(tools) / sizeof(*tools); i++) {
		struct fixture f = {0};
		struct condense_facts facts = {.room_tokens = 8000};
		buf_init(&f.body, 0);
		buf_printf(&f.body,
			"{\"model\":\"m\",%s\"response_format\":{\"type\":\"json_schema\",\"json_"
			"schema\":"
			"{\"schema\":{\"type\":\"object\",\"description\":\"",
			tools[i]);
		for (int n = 0; n < 400; n++)
			buf_add_str(&f.body, "of many words ");
		buf_add_str(&f.body, "\"}}},\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
		prepare(&f, DIALECT_OPENAI_CHAT, &facts);
		assert_in_range((uintmax_t)f.c.tools_start, 1000, 1800);
		done(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_history),
		cmocka_unit_test(test_no_notes_and_num_ctx),
		cmocka_unit_test(test_single_huge_message),
		cmocka_unit_test(test_nothing_to_condense),
		cmocka_unit_test(test_what_a_format_costs),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_the_newest_result_is_cut_last),
		cmocka_unit_test(test_first_message_stays),
		cmocka_unit_test(test_a_wider_window),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
