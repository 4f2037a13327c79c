/* Requests of the stats socket: how they are split, and that each is answered with one JSON object.
 */
#include "common/base/json.h"
#include "supervisor/tell/commands.h"
#include "supervisor/tell/tell.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_split(void **state)
{
	static const struct {
		const char *text;
		size_t words; /* 0: refused */
		const char *first, *last;
	} cases[] = {
		{"status", 1, "status", "status"},
		{"status\n", 1, "status", "status"},
		{"status\r\n", 1, "status", "status"},
		{"  restart   gpu0  --backend ", 3, "restart", "--backend"},
		{"a b c d", 4, "a", "d"},
		{"a b c d e", 0, NULL, NULL},
		{"", 0, NULL, NULL},
		{"   ", 0, NULL, NULL},
		{"\n\n", 0, NULL, NULL},
		{"a\tb", 0, NULL, NULL},
		{"a\nb", 0, NULL, NULL},
		{"caf\xc3\xa9", 0, NULL, NULL},
		{"\x7f", 0, NULL, NULL},
	};
	struct command_words w;
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		bool ok = command_split(slice_str(cases[i].text), &w);
		assert_int_equal(ok, cases[i].words > 0);
		if (!ok)
			continue;
		assert_int_equal(w.count, cases[i].words);
		assert_string_equal(w.word[0], cases[i].first);
		assert_string_equal(w.word[w.count - 1], cases[i].last);
	}
}

static void test_split_has_limits(void **state)
{
	struct command_words w;
	char text[COMMAND_WORD_BYTES + 1];
	(void)state;
	memset(text, 'x', sizeof(text));
	assert_true(command_split((struct slice){text, COMMAND_WORD_BYTES - 1}, &w));
	assert_int_equal(strlen(w.word[0]), COMMAND_WORD_BYTES - 1);
	assert_false(command_split((struct slice){text, COMMAND_WORD_BYTES}, &w));
	assert_true(command_split((struct slice){"status\0\0", 8}, &w));
	assert_false(command_split((struct slice){"sta\0tus", 7}, &w));
}

struct fixture {
	struct config config;
	struct devices devices;
	struct requests requests;
	struct life life;
	struct tell tell;
};

static struct fixture *setup(void)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	f->devices.config = f->requests.config = f->life.config = &f->config;
	f->requests.devices = f->life.devices = f->tell.devices = &f->devices;
	f->life.requests = f->tell.requests = &f->requests;
	f->tell.life = &f->life;
	f->life.run_dir = "/nowhere";
	TAILQ_INIT(&f->requests.list);
	TAILQ_INIT(&f->life.elders.list);
	return f;
}

/* The answer to text, parsed. The bytes stay in *out. */
static struct json_value ask(struct fixture *f, const char *text, struct buf *out)
{
	struct json_value root = {0};
	buf_clear(out);
	assert_int_equal(commands_answer(&f->tell, NULL, slice_str(text), out), REP_NOW);
	assert_int_equal(json_parse(buf_slice(out), JSON_MAX_DEPTH, &root, NULL), 0);
	assert_true(json_is(root, JSON_OBJECT));
	return root;
}

static void test_every_answer_is_an_object(void **state)
{
	static const char *const documents[][2] = {{"status", "devices"}, {"workers", "workers"},
		{"jobs", "jobs"}, {"queues", "queues"}, {"backends", "backends"},
		{"counters", "devices"}, {"histograms", "first_byte"}, {"nng", "stats"},
		{"help", "commands"}};
	static const char *const errors[] = {"statu", "status now", "operation", "operation x",
		"operation 0", "operation 7", "operation 1 2", "restart a b", "restart -x", "drain",
		"drain a b", "reset a --backend", "reload now", "cancel", "cancel x", "cancel x y",
		"", "\x01", "\"", "{}"};
	struct fixture *f = setup();
	struct buf out;
	(void)state;
	buf_init(&out, 0);
	for (size_t i = 0; i < sizeof(documents) / sizeof(*documents); i++) {
		struct json_value root = ask(f, documents[i][0], &out);
		assert_false(json_is(json_get(root, documents[i][1]), JSON_NONE));
		assert_true(json_is(json_get(root, "error"), JSON_NONE));
	}
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		assert_true(json_is(json_get(ask(f, errors[i], &out), "error"), JSON_STRING));
	buf_free(&out);
	free(f);
}

static void test_operations_tell_their_outcome(void **state)
{
	struct fixture *f = setup();
	struct json_value root;
	struct buf out;
	(void)state;
	buf_init(&out, 0);
	operation_begin(&f->life.operations, "restart", "all", 2, now_ms());
	operation_part_ended(&f->life.operations, 1, false, "gpu0: \"no\"", now_ms());
	root = ask(f, "operation 1", &out);
	assert_true(json_string_is(json_get(root, "state"), "running")); /* gpu1 is not done */
	operation_part_ended(&f->life.operations, 1, true, "gpu1: fine", now_ms());
	root = ask(f, "operation 1", &out);
	assert_true(json_string_is(json_get(root, "kind"), "restart"));
	assert_true(json_string_is(json_get(root, "target"), "all"));
	assert_true(json_string_is(json_get(root, "state"), "failed"));
	assert_true(json_string_is(json_get(root, "why"), "gpu0: \"no\"; gpu1: fine"));
	buf_free(&out);
	free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_split_has_limits),
		cmocka_unit_test(test_every_answer_is_an_object),
		cmocka_unit_test(test_operations_tell_their_outcome),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
