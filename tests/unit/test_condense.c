/* Condensing a request as a whole: what must stay stays byte for byte, the rest shrinks visibly. */
#include "common/condense.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct condense_options options = {
	.keep_ratio = .25, .chunk_bytes = 6000, .max_chunks = 64, .notes_bytes = 360};

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

static void prepare(struct fixture *f, enum dialect d, const struct condense_options *o)
{
	struct dialect_error error;
	assert_int_equal(chat_request_parse(d, buf_slice(&f->body), &f->view, &error), 0);
	f->result = condense_prepare(&f->c, &f->view, o);
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
	prepare(&f, DIALECT_OLLAMA_CHAT, &options);
	assert_int_equal(f.result, CONDENSE_OK);
	assert_true(condense_chunks(&f.c) > 3);
	size_t chunk_bytes = 0;
	for (size_t i = 0; i < condense_chunks(&f.c); i++)
		chunk_bytes += condense_chunk(&f.c, i).n;
	assert_true(chunk_bytes >= f.c.history_bytes); /* every old byte is in a chunk */

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
	assert_true(holds(text, "{\"role\":\"user\",\"content\":\"Now explain what you found in "
				"src/part_3.c \\u2014 in one sentence.\"}"));
	assert_true(holds(text, "\"tools\":[ {\"type\":\"function\"} ]"));
	/* the newest group whole, call and result */
	assert_true(holds(text, "\"id\":\"c19\""));
	assert_true(holds(text, "\"tool_call_id\":\"c19\""));
	assert_true(holds(text, "value_19_59"));
	/* an older call is not a structured call any more, and its result went with it */
	assert_false(holds(text, "\"id\":\"c3\""));
	assert_false(holds(text, "\"tool_call_id\":\"c3\""));
	/* ... whose header names the call */
	assert_true(holds(text, "[tool read_file("));
	/* constraint, visible marks, notes */
	assert_true(holds(text, "Never touch src/legacy.c."));
	assert_true(holds(text, "omitted") || holds(text, "[.."));
	assert_true(holds(text, "- value_4_2 is computed"));

	struct chat_request again;
	struct dialect_error error;
	assert_int_equal(chat_request_parse(DIALECT_OLLAMA_CHAT, text, &again, &error), 0);
	assert_true(again.count < 8);
	chat_request_fini(&again);
	buf_free(&out);
	done(&f);
}

static void test_no_notes_and_num_ctx(void **state)
{
	(void)state;
	struct fixture f = {0};
	struct buf out = {0};
	session(&f.body, 20);
	prepare(&f, DIALECT_OLLAMA_CHAT, &options);
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
	prepare(&f, DIALECT_OPENAI_CHAT, &options);
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
	prepare(&f, DIALECT_OLLAMA_CHAT, &options);
	assert_int_equal(f.result, CONDENSE_NOTHING);
	done(&f);
}

static void test_room(void **state)
{
	(void)state;
	struct fixture f = {0};
	struct condense_options o = options;
	struct buf out = {0};
	session(&f.body, 20);
	o.room_bytes = 12000;
	prepare(&f, DIALECT_OLLAMA_CHAT, &o);
	assert_int_equal(f.result, CONDENSE_OK);
	assert_true(f.c.fixed_bytes + f.c.kept_bytes <= o.room_bytes);
	assert_int_equal(condense_assemble(&f.c, NULL, 0, &out), CONDENSE_OK);
	buf_free(&out);
	condense_fini(&f.c);
	o.room_bytes = 3000;
	assert_int_equal(condense_prepare(&f.c, &f.view, &o), CONDENSE_NO_ROOM);
	done(&f);
}

static void test_must_shrink_cuts_live_results(void **state)
{
	(void)state;
	/* the newest tool result alone is larger than the window */
	struct fixture f = {0};
	struct condense_options o = options;
	struct buf out = {0};
	buf_add_str(&f.body, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"read "
			     "it\"},{\"role\":\"assistant\",\"content\":\"\","
			     "\"tool_calls\":[{\"function\":{\"name\":\"cat\",\"arguments\":{\"p\":"
			     "\"a\"}}}]},{\"role\":\"tool\",\"content\":\"");
	for (int i = 0; i < 1500; i++)
		buf_printf(&f.body, "row %d value %d\\n", i, i * 7);
	buf_add_str(&f.body, "\"}]}");
	prepare(&f, DIALECT_OLLAMA_CHAT, &o);
	assert_int_equal(f.result, CONDENSE_NOTHING);
	condense_fini(&f.c);
	o.must_shrink = true;
	o.room_bytes = 8000;
	assert_int_equal(condense_prepare(&f.c, &f.view, &o), CONDENSE_OK);
	assert_int_equal(condense_assemble(&f.c, NULL, 0, &out), CONDENSE_OK);
	assert_true(out.n < 9000);
	assert_true(holds(buf_slice(&out), "row 0 value 0"));
	assert_true(holds(buf_slice(&out), "row 1499 value"));
	assert_true(holds(buf_slice(&out), "\"name\":\"cat\""));
	buf_free(&out);
	done(&f);
}

static void test_images_stay(void **state)
{
	(void)state;
	struct fixture f = {0};
	struct buf out = {0};
	buf_add_str(&f.body, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
			     "\"see\",\"images\":[\"aGVsbG8=\"]},");
	for (int i = 0; i < 30; i++)
		buf_printf(&f.body,
			"{\"role\":\"assistant\",\"content\":\"Answer %d talks about things at "
			"length, about src/file_%d.c and "
			"about what it does with the value that it reads from the table of values "
			"number %d.\"},"
			"{\"role\":\"user\",\"content\":\"And then, what about number %d, does it "
			"read the same file?\"},",
			i, i, i, i);
	buf_add_str(&f.body, "{\"role\":\"assistant\",\"content\":\"Yes.\"},{\"role\":\"user\","
			     "\"content\":\"Thanks. Sum up.\"}]}");
	prepare(&f, DIALECT_OLLAMA_CHAT, &options);
	assert_int_equal(f.result, CONDENSE_OK);
	assert_int_equal(condense_assemble(&f.c, NULL, 0, &out), CONDENSE_OK);
	assert_true(holds(buf_slice(&out),
		"{\"role\":\"user\",\"content\":\"see\",\"images\":[\"aGVsbG8=\"]}"));
	buf_free(&out);
	done(&f);
}

/* Audio, files and parts nobody knows yet are no text that could be selected from. */
static void test_other_parts_stay(void **state)
{
	(void)state;
	static const char part[] = "{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\","
				   "\"input_audio\":{\"data\":\"aGVsbG8=\"}}]}";
	struct fixture f = {0};
	struct buf out = {0};
	buf_printf(&f.body, "{\"model\":\"m\",\"messages\":[%s,", part);
	for (int i = 0; i < 30; i++)
		buf_printf(&f.body,
			"{\"role\":\"assistant\",\"content\":\"Answer %d talks at length about "
			"src/file_%d.c and about the value that it reads there.\"},"
			"{\"role\":\"user\",\"content\":\"And then, what about number %d?\"},",
			i, i, i);
	buf_add_str(&f.body, "{\"role\":\"assistant\",\"content\":\"Yes.\"},{\"role\":\"user\","
			     "\"content\":\"Thanks. Sum up.\"}]}");
	prepare(&f, DIALECT_OPENAI_CHAT, &options);
	assert_int_equal(f.result, CONDENSE_OK);
	assert_int_equal(condense_assemble(&f.c, NULL, 0, &out), CONDENSE_OK);
	assert_true(holds(buf_slice(&out), part));
	buf_free(&out);
	done(&f);
}

static void test_thinking_leaves_a_marker(void **state)
{
	(void)state;
	static const char *const names[] = {"thinking", "reasoning", "reasoning_content"};
	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		struct fixture f = {0};
		struct buf out = {0};
		buf_add_str(&f.body, "{\"model\":\"m\",\"messages\":["
				     "{\"role\":\"user\",\"content\":\"Begin.\"},");
		for (int i = 0; i < 20; i++)
			buf_printf(&f.body,
				"{\"role\":\"assistant\",\"%s\":\"So it is.\",\"content\":\"Answer "
				"%d "
				"talks at length about src/file_%d.c and about the value there.\"},"
				"{\"role\":\"user\",\"content\":\"And then, what about number "
				"%d?\"},",
				names[n], i, i, i);
		buf_add_str(&f.body, "{\"role\":\"assistant\",\"content\":\"Yes.\"},"
				     "{\"role\":\"user\",\"content\":\"Thanks.\"}]}");
		prepare(&f, DIALECT_OLLAMA_CHAT, &options);
		assert_int_equal(f.result, CONDENSE_OK);
		assert_int_equal(condense_assemble(&f.c, NULL, 0, &out), CONDENSE_OK);
		assert_true(holds(buf_slice(&out), "[omitted 180 characters of thinking]"));
		buf_free(&out);
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
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_must_shrink_cuts_live_results),
		cmocka_unit_test(test_images_stay),
		cmocka_unit_test(test_other_parts_stay),
		cmocka_unit_test(test_thinking_leaves_a_marker),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
