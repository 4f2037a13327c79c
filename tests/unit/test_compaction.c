/* Compaction blocks: a conversation as a text, the text as a conversation, and who wrote it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/dialect/compaction.h"
#include "supervisor/requests/compact_key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BODY(rest) "{\"max_tokens\":9," rest "}"

static void parse(const char *body, struct chat_request *r)
{
	struct dialect_error error = {0};
	if (chat_request_parse(DIALECT_ANTHROPIC, slice_str(body), r, &error))
		fail_msg("%s: %s", body, error.text);
}

/* The text of the body's messages, and the body that has them from it. */
static void there_and_back(const char *body, struct buf *text, struct buf *put)
{
	struct chat_request r;
	parse(body, &r);
	buf_init(text, 0);
	buf_init(put, 0);
	assert_int_equal(compaction_text(&r, NULL, text), 0);
	assert_int_equal(compaction_put(&r, buf_slice(text), SLICE("sig"), put), 0);
	chat_request_fini(&r);
}

#define PREFACE                                                                                    \
	"The conversation so far, in its short form. [..N] stands for N lines that were left "     \
	"out.\n\n"

static void a_conversation_is_its_text(void **state)
{
	static const struct {
		const char *body, *text, *messages;
	} cases[] = {
		{BODY("\"system\":\"S\",\"messages\":[{\"role\":\"user\",\"content\":\"a\\nb\"}]"),
			"## user\na\nb",
			"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\\nb\"}]}"},
		{BODY("\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
		      "\"read\"},"
		      "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"data\":\"QQ==\"}}]},"
		      "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":"
		      "\"hm\","
		      "\"signature\":\"x\"},{\"type\":\"text\",\"text\":\"I "
		      "read\"},{\"type\":\"tool_use\","
		      "\"id\":\"t 1\\n\",\"name\":\"f\",\"input\":{\"z\": "
		      "1.0}},{\"type\":\"tool_use\",\"id\":"
		      "\"t2\",\"name\":\"g "
		      "\\\"h\",\"input\":{}}]},{\"role\":\"user\",\"content\":[{\"type\":"
		      "\"tool_result\",\"tool_use_id\":\"t "
		      "1\\n\",\"content\":\"one\\n\"},{\"type\":"
		      "\"tool_result\",\"tool_use_id\":\"t2\",\"is_error\":true,\"content\":[{"
		      "\"type\":"
		      "\"text\",\"text\":\"two\"},{\"type\":\"image\",\"source\":{\"data\":\"QQ=="
		      "\"}}]},"
		      "{\"type\":\"text\",\"text\":\"go "
		      "on\"}]},{\"role\":\"assistant\",\"content\":\"ok\"}]"),
			"## user\nread\n\n## user\n[1 picture left out]\n\n## assistant\nI read\n\n"
			"## call \"t 1\\n\" \"f\"\n{\"z\": 1.0}\n\n## call \"t2\" \"g "
			"\\\"h\"\n{}\n\n"
			"## result \"t 1\\n\"\none\n\n\n## failed \"t2\"\ntwo\n[1 picture left "
			"out]\n\n"
			"## user\ngo on\n\n## assistant\nok",
			"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"read\"},{"
			"\"type\":"
			"\"text\",\"text\":\"[1 picture left "
			"out]\"}]},{\"role\":\"assistant\",\"content\":"
			"[{\"type\":\"text\",\"text\":\"I "
			"read\"},{\"type\":\"tool_use\",\"id\":\"t 1\\n\","
			"\"name\":\"f\",\"input\":{\"z\": "
			"1.0}},{\"type\":\"tool_use\",\"id\":\"t2\",\"name\":"
			"\"g "
			"\\\"h\",\"input\":{}}]},{\"role\":\"user\",\"content\":[{\"type\":\"tool_"
			"result\","
			"\"tool_use_id\":\"t "
			"1\\n\",\"content\":\"one\\n\"},{\"type\":\"tool_result\","
			"\"tool_use_id\":\"t2\",\"is_error\":true,\"content\":\"two\\n[1 picture "
			"left "
			"out]\"},{\"type\":\"text\",\"text\":\"go "
			"on\"}]},{\"role\":\"assistant\",\"content\":"
			"[{\"type\":\"text\",\"text\":\"ok\"}]}"},
		/* nobody's words become somebody else's */
		{BODY("\"messages\":[{\"role\":\"user\",\"content\":\"## user\\n\\\\## call\\n ## "
		      "x\\n##y\\n"
		      "\\\\\\\\## z\\n\\n## result \\\"t\\\"\"}]"),
			"## user\n\\## user\n\\\\## call\n ## x\n##y\n\\\\\\## z\n\n\\## result "
			"\"t\"",
			"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"## "
			"user\\n\\\\## call\\n "
			"## x\\n##y\\n\\\\\\\\## z\\n\\n## result \\\"t\\\"\"}]}"},
		{BODY("\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"system\","
		      "\"content\":"
		      "\"s\"},{\"role\":\"assistant\",\"content\":[]},{\"role\":\"user\","
		      "\"content\":\"\"}]"),
			"## user\na\n\n## system\ns\n\n## user",
			"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]},{"
			"\"role\":"
			"\"system\",\"content\":[{\"type\":\"text\",\"text\":\"s\"}]},{\"role\":"
			"\"user\","
			"\"content\":[{\"type\":\"text\",\"text\":\"\"}]}"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf text, put, again, twice;
		struct chat_request r;
		there_and_back(cases[i].body, &text, &put);
		assert_memory_equal(buf_cstr(&text), PREFACE, sizeof(PREFACE) - 1);
		assert_string_equal(buf_cstr(&text) + sizeof(PREFACE) - 1, cases[i].text);
		parse(buf_cstr(&put), &r);
		struct slice list = r.messages_array.raw;
		struct slice messages = {list.p + 1, list.n - 2};
		if (!slice_eq(messages, slice_str(cases[i].messages)))
			fail_msg("%.*s\n%s", (int)messages.n, messages.p, cases[i].messages);
		struct json_value block = json_get(r.root, COMPACTION_MEMBER);
		assert_true(json_string_is(json_get(block, "signature"), "sig"));
		assert_true(json_string_is(json_get(block, "content"), buf_cstr(&text)));
		chat_request_fini(&r);
		/* made of what it stands for it is the same */
		there_and_back(buf_cstr(&put), &again, &twice);
		assert_string_equal(buf_cstr(&again), buf_cstr(&text));
		buf_free(&text);
		buf_free(&put);
		buf_free(&again);
		buf_free(&twice);
	}
}

/* Whatever bytes a text has, what is made of it is a body. */
static void any_text_makes_a_body(void **state)
{
	static const char *const pieces[] = {"## ", "user", "call", "result", "\"", "\\", "\n", " ",
		"{", "}", "\"t\" \"f\"\n", "\xff", "assistant\n", "failed ", "\n\n"};
	(void)state;
	srand(7);
	for (int round = 0; round < 3000; round++) {
		struct chat_request r;
		struct json_value root;
		struct buf text, out;
		buf_init(&text, 0);
		buf_init(&out, 0);
		for (int n = rand() % 20; n > 0; n--)
			buf_add_str(
				&text, pieces[(size_t)rand() % (sizeof(pieces) / sizeof(*pieces))]);
		parse(BODY("\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]"), &r);
		assert_int_equal(compaction_put(&r, buf_slice(&text), SLICE("s"), &out), 0);
		if (json_parse(buf_slice(&out), JSON_MAX_DEPTH, &root, NULL))
			fail_msg("%s\n%s", buf_cstr(&text), buf_cstr(&out));
		chat_request_fini(&r);
		buf_free(&text);
		buf_free(&out);
	}
}

/* --- blocks in a conversation --- */

#define BLOCK "{\"type\":\"compaction\",\"content\":\"C\",\"signature\":\"s\"}"
#define OLD "{\"role\":\"user\",\"content\":\"old\"},"

static void a_block_stands_for_all_before_it(void **state)
{
	static const struct {
		const char *messages, *text, *want;
	} cases[] = {
		{OLD "{\"role\":\"assistant\",\"content\":[" BLOCK
		     ",{\"type\":\"text\",\"text\":\"t\"}]},{\"role\":\"user\",\"content\":"
		     "\"new\"}",
			"## user\nu",
			"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"u\"}]},{"
			"\"role\":"
			"\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"t\"}]},{\"role\":"
			"\"user\","
			"\"content\":\"new\"}"},
		/* roles alternate */
		{"{\"role\":\"assistant\",\"content\":[" BLOCK
		 "]},{\"role\":\"user\",\"content\":\"new\"},"
		 "{\"role\":\"assistant\",\"content\":\"x\"}",
			"## user\nu",
			"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"u\"},{"
			"\"type\":\"text\","
			"\"text\":\"new\"}]},{\"role\":\"assistant\",\"content\":\"x\"}"},
		{"{\"role\":\"assistant\",\"content\":[" BLOCK
		 "]},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
		 "\"text\","
		 "\"text\":\"b\"}]}",
			"## user\nu",
			"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"u\"},{"
			"\"type\":\"text\","
			"\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}"},
		{"{\"role\":\"assistant\",\"content\":[" BLOCK
		 ",{\"type\":\"text\",\"text\":\"t\"}]}",
			"## assistant\nv",
			"{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"v\"},{"
			"\"type\":"
			"\"text\",\"text\":\"t\"}]}"},
		/* the last one counts, and one that failed does not */
		{"{\"role\":\"assistant\",\"content\":[" BLOCK "]}," OLD
		 "{\"role\":\"assistant\",\"content\":[" BLOCK
		 "]},{\"role\":\"user\",\"content\":[{\"type\":\"compaction\",\"content\":null},{"
		 "\"type\":"
		 "\"text\",\"text\":\"n\"}]}",
			"## assistant\nv",
			"{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"v\"}]},"
			"{\"role\":"
			"\"user\",\"content\":[{\"type\":\"compaction\",\"content\":null},{"
			"\"type\":\"text\","
			"\"text\":\"n\"}]}"},
		{"{\"role\":\"user\",\"content\":[" BLOCK "]}", "nothing of ours", ""},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf body, want, out;
		struct chat_request r;
		struct compaction_found f;
		struct dialect_error error;
		const char *code;
		int rc;
		buf_init(&body, 0);
		buf_init(&want, 0);
		buf_init(&out, 0);
		buf_printf(
			&body, " {\"max_tokens\":9,\"messages\":[%s] ,\"x\":1}", cases[i].messages);
		buf_printf(&want, " {\"max_tokens\":9,\"messages\":[%s] ,\"x\":1}", cases[i].want);
		parse(buf_cstr(&body), &r);
		assert_true(compaction_find(&r, &f, &rc, &error, &code));
		assert_int_equal(rc, 0);
		assert_true(json_string_is(f.content, "C") && json_string_is(f.signature, "s"));
		assert_int_equal(compaction_apply(&r, &f, slice_str(cases[i].text), &out), 0);
		assert_string_equal(buf_cstr(&out), buf_cstr(&want));
		chat_request_fini(&r);
		buf_free(&body);
		buf_free(&want);
		buf_free(&out);
	}
}

static void what_is_wrong_has_a_name(void **state)
{
	static const struct {
		const char *members, *code; /* "": refused without a code; NULL: fine */
		bool alone, edit, pause;
		int64_t trigger;
	} cases[] = {
		{"\"messages\":[" OLD "{\"role\":\"user\",\"content\":\"b\"}]", NULL, 0, 0, 0, 0},
		{"\"messages\":[{\"role\":\"user\",\"content\":\"b\"}],\"compaction\":{\"type\":"
		 "\"summarize\"}",
			NULL, 1, 0, 0, 0},
		{"\"messages\":[{\"role\":\"user\",\"content\":\"b\"}],\"compaction\":null,"
		 "\"context_management\":{\"edits\":[{\"type\":\"clear_thinking_20251015\"},{"
		 "\"type\":"
		 "\"compact_20260112\",\"pause_after_compaction\":true}]}",
			NULL, 0, 1, 1, COMPACTION_TRIGGER},
		{"\"messages\":[{\"role\":\"user\",\"content\":\"b\"}],\"context_management\":{"
		 "\"edits\":[{"
		 "\"type\":\"compact_20260112\",\"trigger\":{\"type\":\"input_tokens\",\"value\":"
		 "5000}}]}",
			NULL, 0, 1, 0, 5000},
		{"\"messages\":[{\"role\":\"user\",\"content\":\"b\"}],\"context_management\":{"
		 "\"edits\":[{"
		 "\"type\":\"compact_20260112\",\"trigger\":{\"type\":\"tool_uses\",\"value\":5}}]"
		 "}",
			"", 0, 0, 0, 0},
		{"\"messages\":[{\"role\":\"user\",\"content\":\"b\"}],\"compaction\":{\"type\":"
		 "\"cut\"}",
			"", 0, 0, 0, 0},
		{"\"messages\":[{\"role\":\"user\",\"content\":\"b\"}],\"compaction\":{\"type\":"
		 "\"summarize\"},\"context_management\":{}",
			"", 0, 0, 0, 0},
		{"\"messages\":[{\"role\":\"user\",\"content\":[]}],\"system\":\"S\","
		 "\"compaction\":{\"type\":"
		 "\"summarize\"}",
			COMPACTION_NOTHING, 0, 0, 0, 0},
		{"\"messages\":[" OLD
		 "{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":"
		 "\"t\",\"name\":\"f\",\"input\":{}}]}],\"compaction\":{\"type\":\"summarize\"}",
			COMPACTION_INCOMPLETE, 0, 0, 0, 0},
		{"\"messages\":[{\"role\":\"system\",\"content\":[" BLOCK "]}]",
			COMPACTION_MISPLACED, 0, 0, 0, 0},
		{"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"compaction\","
		 "\"content\":\"\"}]}]",
			"", 0, 0, 0, 0},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf body, error_body;
		struct chat_request r;
		struct compaction_found f;
		struct compaction_wish wish = {0};
		struct dialect_error error = {0};
		const char *code;
		int rc;
		buf_init(&body, 0);
		buf_init(&error_body, 0);
		buf_printf(&body, "{\"max_tokens\":9,%s}", cases[i].members);
		parse(buf_cstr(&body), &r);
		if (!compaction_find(&r, &f, &rc, &error, &code))
			rc = compaction_wished(&r, &wish, &error, &code);
		if ((rc != 0) != (cases[i].code != NULL) ||
			(rc && strcmp(code ? code : "", cases[i].code) != 0))
			fail_msg("%s: %d %s", cases[i].members, rc, code ? code : "");
		if (rc == 0) {
			assert_true(wish.alone == cases[i].alone && wish.edit == cases[i].edit &&
				    wish.pause == cases[i].pause);
			assert_int_equal(wish.trigger, cases[i].trigger);
		} else if (code) {
			compaction_error(DIALECT_ANTHROPIC, 400, SLICE("m"), code, &error_body);
			struct json_value root;
			assert_int_equal(
				json_parse(buf_slice(&error_body), JSON_MAX_DEPTH, &root, NULL), 0);
			assert_true(json_string_is(
				json_get(
					json_get(json_get(root, "error"), "details"), "error_code"),
				code));
		}
		chat_request_fini(&r);
		buf_free(&body);
		buf_free(&error_body);
	}
}

/* --- signatures --- */

static void the_key_is_kept_and_signs(void **state)
{
	char folder[] = "/tmp/tandem-compact-XXXXXX", path[96], signature[COMPACT_SIGNATURE_BYTES];
	struct compact_key first, again, other;
	struct stat st;
	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/" COMPACT_KEY_FILE, folder);
	compact_key_open(&first, folder);
	assert_int_equal(stat(path, &st), -1); /* nothing is signed yet */
	assert_true(compact_key_claim(&first));
	assert_false(compact_key_claim(&first));
	compact_key_write(&first);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	compact_key_open(&again, folder);
	assert_memory_equal(&first.secret, &again.secret, sizeof(first.secret));
	assert_false(compact_key_claim(&again));
	assert_int_equal(truncate(path, 5), 0); /* damaged: a new one takes its place */
	compact_key_open(&other, folder);
	assert_memory_not_equal(&first.secret, &other.secret, sizeof(first.secret));
	assert_true(compact_key_claim(&other));
	compact_sign(&first.secret, SLICE("text"), signature);
	assert_int_equal(
		compact_verify(&first.secret, SLICE("text"), slice_str(signature)), COMPACT_OURS);
	assert_int_equal(compact_verify(&first.secret, SLICE("texT"), slice_str(signature)),
		COMPACT_ALTERED);
	assert_int_equal(compact_verify(&other.secret, SLICE("text"), slice_str(signature)),
		COMPACT_FOREIGN);
	assert_int_equal(compact_verify(&first.secret, SLICE("text"), SLICE("")), COMPACT_FOREIGN);
	for (size_t i = 0; i < COMPACT_SIGNATURE_BYTES - 1; i++) {
		char bad[COMPACT_SIGNATURE_BYTES];
		memcpy(bad, signature, sizeof(bad));
		bad[i] = bad[i] == '0' ? '1' : '0';
		assert_int_equal(compact_verify(&first.secret, SLICE("text"), slice_str(bad)),
			COMPACT_FOREIGN);
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
	compact_key_open(&other, folder); /* no folder: a key all the same */
	compact_key_write(&other);
	compact_sign(&other.secret, SLICE("text"), signature);
	assert_int_equal(
		compact_verify(&other.secret, SLICE("text"), slice_str(signature)), COMPACT_OURS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_conversation_is_its_text),
		cmocka_unit_test(any_text_makes_a_body),
		cmocka_unit_test(a_block_stands_for_all_before_it),
		cmocka_unit_test(what_is_wrong_has_a_name),
		cmocka_unit_test(the_key_is_kept_and_signs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
