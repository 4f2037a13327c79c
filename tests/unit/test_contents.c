/* What is kept of the messages of requests that were shortened (contents.h, content_text.h): texts, bounds, owners. */
#include "supervisor/requests/contents.h"

#include "common/base/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* --- texts --- */

struct fixture {
	struct buf body;
	struct chat_request r;
	struct content_text t;
	struct chat_edit edits[8];
};

static void make(struct fixture *f, enum dialect d, const char *body)
{
	struct dialect_error error;
	buf_init(&f->body, 0);
	buf_add_str(&f->body, body);
	int rc = chat_request_take(d, &f->body, &f->r, &error);
	if (rc)
		print_error("%s\n", error.text);
	assert_int_equal(rc, 0);
	assert_true(f->r.count <= 8);
	assert_int_equal(content_text_make(&f->r, f->edits, 0, &f->t), 0);
	assert_int_equal(f->t.count, f->r.count);
}

static void done(struct fixture *f)
{
	content_text_free(&f->t);
	chat_request_fini(&f->r);
	buf_free(&f->body);
}

static void assert_object(const struct fixture *f, size_t i, const char *wanted)
{
	struct slice got = content_text_of(&f->t, i);
	struct json_value root;
	char *text = slice_dup(got);
	assert_string_equal(text, wanted);
	free(text);
	assert_int_equal(json_parse(got, JSON_MAX_DEPTH, &root, NULL), 0);
}

static void test_what_was_done_to_each_message(void **state)
{
	struct fixture f = {.edits = {
				    {.kind = CHAT_KEEP},
				    {.kind = CHAT_DROP},
				    {.kind = CHAT_REPLACE_TEXT, .text = SLICE("a\n[1 line]")},
				    {.kind = CHAT_INSERT_BEFORE_DROP, .text = SLICE("so")},
				    {.kind = CHAT_INSERT_BEFORE, .text = SLICE("notes")},
			    }};
	(void)state;
	make(&f, DIALECT_OPENAI_CHAT,
		"{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"<b>"
		"\\\"\\u2028\"},"
		"{\"role\":\"assistant\",\"content\":\"old\"},{\"role\":\"user\",\"content\":"
		"\"a\\nb\\nc\"},"
		"{\"role\":\"tool\",\"tool_call_id\":\"x\",\"content\":\"r\"},"
		"{\"role\":\"user\",\"content\":\"and?\"}]}");
	assert_object(&f, 0,
		"{\"index\":0,\"role\":\"system\",\"sent\":\"whole\",\"before\":\"<b>\\\"\\u2028\","
		"\"after\":null,\"others\":[]}");
	assert_object(&f, 1,
		"{\"index\":1,\"role\":\"assistant\",\"sent\":\"nothing\",\"before\":\"old\","
		"\"after\":null,\"others\":[]}");
	assert_object(&f, 2,
		"{\"index\":2,\"role\":\"user\",\"sent\":\"shortened\",\"before\":\"a\\nb\\nc\","
		"\"after\":\"a\\n[1 line]\",\"others\":[]}");
	assert_object(&f, 3,
		"{\"index\":3,\"role\":\"tool\",\"sent\":\"shortened\",\"before\":\"r\","
		"\"after\":\"so\",\"others\":[]}");
	assert_object(&f, 4,
		"{\"index\":4,\"role\":\"user\",\"sent\":\"shortened\",\"before\":\"and?\","
		"\"after\":\"notes\\nand?\",\"others\":[]}");
	assert_int_equal(content_text_of(&f.t, 5).n, 0);
	done(&f);
}

/* Calls stay behind the text that takes the place of their message's. */
static void test_calls_stay(void **state)
{
	struct fixture f = {.edits = {{.kind = CHAT_REPLACE_TEXT, .text = SLICE("short")},
				    {.kind = CHAT_REPLACE_TEXT, .text = SLICE("short")}}};
	(void)state;
	make(&f, DIALECT_OLLAMA_CHAT,
		"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":\"long\","
		"\"tool_calls\":"
		"[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]},"
		"{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":"
		"[{\"function\":{\"name\":\"g\",\"arguments\":{}}}]}]}");
	assert_object(&f, 0,
		"{\"index\":0,\"role\":\"assistant\",\"sent\":\"shortened\",\"before\":\"long\\nf({"
		"\\\"a\\\":1})\","
		"\"after\":\"short\\nf({\\\"a\\\":1})\",\"others\":[]}");
	assert_object(&f, 1,
		"{\"index\":1,\"role\":\"assistant\",\"sent\":\"shortened\",\"before\":\"g({})\","
		"\"after\":\"short\\ng({})\",\"others\":[]}");
	done(&f);
}

/* Of what is no text type and size are there, never what is in it. */
static void assert_others(
	enum dialect d, const char *body, size_t message, struct chat_edit edit, const char *wanted)
{
	struct fixture f = {0};
	f.edits[message] = edit;
	make(&f, d, body);
	struct slice got = content_text_of(&f.t, message);
	struct json_value root;
	assert_int_equal(json_parse(got, JSON_MAX_DEPTH, &root, NULL), 0);
	char *text = slice_dup(json_get(root, "others").raw);
	assert_string_equal(text, wanted);
	free(text);
	assert_null(memmem(f.t.json.p, f.t.json.n, "QUJD", 4));
	done(&f);
}

static void test_what_is_no_text(void **state)
{
	struct chat_edit keep = {.kind = CHAT_KEEP}, drop = {.kind = CHAT_DROP},
			 bare = {.kind = CHAT_REPLACE_TEXT,
				 .text = SLICE("x"),
				 .drop_pictures = true};
	const char *openai =
		"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
		"\"text\":\"see\"},"
		"{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,QUJD\"}},"
		"{\"type\":\"text\",\"text\":\"and\"},"
		"{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"QUJD\",\"format\":\"wav\"}}]"
		"}]}";
	(void)state;
	assert_others(DIALECT_OPENAI_CHAT, openai, 0, keep,
		"[{\"type\":\"image/png\",\"bytes\":69,\"sent\":true},"
		"{\"type\":\"input_audio\",\"bytes\":67,\"sent\":true}]");
	assert_others(DIALECT_OPENAI_CHAT, openai, 0, bare,
		"[{\"type\":\"image/png\",\"bytes\":69,\"sent\":false},"
		"{\"type\":\"input_audio\",\"bytes\":67,\"sent\":true}]");
	assert_others(DIALECT_OLLAMA_CHAT,
		"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"images\":["
		"\"QUJD\",\"QUJDQUJD\"]}]}",
		0, drop,
		"[{\"type\":\"image\",\"bytes\":6,\"sent\":false},{\"type\":\"image\",\"bytes\":10,"
		"\"sent\":false}]");
	assert_others(DIALECT_OLLAMA_GENERATE,
		"{\"model\":\"m\",\"prompt\":\"x\",\"images\":[\"QUJD\"]}", 0, keep,
		"[{\"type\":\"image\",\"bytes\":6,\"sent\":true}]");
	/* A client's own words are no type. */
	assert_others(DIALECT_OPENAI_CHAT,
		"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
		"\"text\":\"see\"},"
		"{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:<img "
		"src=x>;base64,QUJD\"}}]}]}",
		0, keep, "[{\"type\":\"part\",\"bytes\":71,\"sent\":true}]");
	const char *anthropic =
		"{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":"
		"\"go\"},"
		"{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"I look\"},"
		"{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"see\",\"input\":{}}]},"
		"{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"a\","
		"\"content\":["
		"{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/"
		"webp\",\"data\":\"QUJD\"}},"
		"{\"type\":\"text\",\"text\":\"this\"}]},"
		"{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/"
		"gif\",\"data\":\"QUJD\"}}]}]}";
	assert_others(DIALECT_ANTHROPIC, anthropic, 1, keep, "[]");
	assert_others(DIALECT_ANTHROPIC, anthropic, 2, keep,
		"[{\"type\":\"image/webp\",\"bytes\":83,\"sent\":true}]");
	assert_others(DIALECT_ANTHROPIC, anthropic, 3, keep,
		"[{\"type\":\"image/gif\",\"bytes\":82,\"sent\":true}]");
	assert_others(DIALECT_RESPONSES,
		"{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_"
		"text\",\"text\":\"see\"},"
		"{\"type\":\"input_image\",\"image_url\":\"data:image/jpeg;base64,QUJD\"}]}]}",
		0, keep, "[{\"type\":\"image/jpeg\",\"bytes\":70,\"sent\":true}]");
}

static void test_what_is_too_large(void **state)
{
	struct fixture f = {0};
	struct dialect_error error;
	const char *body = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
			   "\"hello\"},{\"role\":\"user\",\"content\":\"you\"}]}";
	(void)state;
	make(&f, DIALECT_OLLAMA_CHAT, body);
	size_t whole = f.t.json.n;
	assert_int_equal(f.t.json.cap, whole); /* no room is wasted */
	done(&f);
	assert_int_equal(chat_request_parse(DIALECT_OLLAMA_CHAT, slice_str(body), &f.r, &error), 0);
	assert_int_equal(content_text_make(&f.r, f.edits, whole, &f.t), 0);
	content_text_free(&f.t);
	for (size_t most = 1; most < whole; most++) {
		assert_int_equal(content_text_make(&f.r, f.edits, most, &f.t), -E2BIG);
		assert_null(f.t.json.p);
		assert_null(f.t.ends);
	}
	chat_request_fini(&f.r);
}

/* --- the store --- */

static const struct content_owner nobody;

static struct content_text text_of(size_t bytes)
{
	struct content_text t = {.count = 1};
	buf_init(&t.json, 0);
	assert_int_equal(buf_reserve(&t.json, bytes), 0);
	while (t.json.n < bytes)
		buf_add_char(&t.json, 'x');
	t.ends = calloc(1, sizeof(*t.ends));
	assert_non_null(t.ends);
	t.ends[0] = bytes;
	return t;
}

static void put(struct contents *c, const char *id, size_t bytes)
{
	struct content_text t = text_of(bytes);
	assert_true(contents_expect(c, id, &nobody));
	assert_int_equal(contents_find(c, id)->state, CONTENT_COMING);
	contents_put(c, id, &t);
	assert_null(t.json.p); /* taken over, or freed */
}

static int state_of(const struct contents *c, const char *id)
{
	const struct content *one = contents_find(c, id);
	return one ? (int)one->state : -1;
}

static void begin(struct contents *c, size_t most)
{
	contents_init(c);
	contents_limit(c, most);
}

static void test_the_oldest_go_first(void **state)
{
	struct contents c;
	(void)state;
	begin(&c, 10000);
	put(&c, "a", 4096);
	put(&c, "b", 4096);
	assert_int_equal(c.count, 2);
	assert_int_equal(state_of(&c, "a"), CONTENT_KEPT);
	put(&c, "c", 4096);
	assert_int_equal(state_of(&c, "a"), -1);
	assert_int_equal(state_of(&c, "b"), CONTENT_KEPT);
	assert_int_equal(state_of(&c, "c"), CONTENT_KEPT);
	assert_int_equal(content_text_of(&contents_find(&c, "c")->text, 0).n, 4096);
	assert_true(c.bytes > 8192 && c.bytes <= 10000);
	contents_limit(&c, 5000); /* a reload */
	assert_int_equal(state_of(&c, "b"), -1);
	assert_int_equal(state_of(&c, "c"), CONTENT_KEPT);
	contents_fini(&c);
	assert_int_equal(c.bytes, 0);
	assert_int_equal(c.count, 0);
}

/* It is known for it, and costs the others nothing. */
static void test_one_that_is_larger_than_all_the_room(void **state)
{
	struct contents c;
	(void)state;
	begin(&c, 10000);
	put(&c, "a", 4096);
	put(&c, "huge", 10000);
	assert_int_equal(state_of(&c, "huge"), CONTENT_TOO_LARGE);
	assert_int_equal(content_text_of(&contents_find(&c, "huge")->text, 0).n, 0);
	assert_int_equal(state_of(&c, "a"), CONTENT_KEPT);
	assert_true(contents_expect(&c, "none", &nobody));
	contents_refuse(&c, "none", CONTENT_NO_MEMORY);
	assert_int_equal(state_of(&c, "none"), CONTENT_NO_MEMORY);
	contents_refuse(&c, "unknown", CONTENT_NO_MEMORY);
	contents_fini(&c);
}

static void test_off(void **state)
{
	struct contents c;
	(void)state;
	begin(&c, 0);
	assert_false(contents_expect(&c, "a", &nobody));
	contents_limit(&c, 10000);
	put(&c, "a", 100);
	assert_true(contents_expect(&c, "b", &nobody)); /* a thread is at it */
	contents_limit(&c, 0);
	assert_int_equal(c.bytes, 0);
	assert_null(contents_find(&c, "a"));
	contents_limit(&c, 10000); /* on again before that is ready */
	struct content_text t = text_of(100);
	contents_put(&c, "b", &t);
	assert_null(t.json.p);
	assert_null(contents_find(&c, "b"));
	assert_int_equal(c.bytes, 0);
	contents_fini(&c);
}

static void test_what_cannot_hold_even_a_name(void **state)
{
	struct contents c;
	(void)state;
	begin(&c, 10);
	assert_false(contents_expect(&c, "a", &nobody));
	assert_int_equal(c.count, 0);
	contents_fini(&c);
}

/* The key counts, not its name. */
static void test_owners(void **state)
{
	struct key one = {.name = "laptop", .hash = {1}}, again = {.name = "laptop", .hash = {2}},
		   renamed = {.name = "desk", .hash = {1}};
	struct content_owner a = content_owner(&one), b = content_owner(&again),
			     c = content_owner(&renamed), none = content_owner(NULL);
	struct key zero = {.name = "zero"};
	struct content_owner z = content_owner(&zero);
	(void)state;
	assert_true(content_same_owner(&a, &a));
	assert_false(content_same_owner(&a, &b));
	assert_true(content_same_owner(&a, &c));
	assert_false(content_same_owner(&a, &none));
	assert_false(content_same_owner(&z, &none));
	assert_true(content_same_owner(&none, &nobody));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_done_to_each_message),
		cmocka_unit_test(test_calls_stay),
		cmocka_unit_test(test_what_is_no_text),
		cmocka_unit_test(test_what_is_too_large),
		cmocka_unit_test(test_the_oldest_go_first),
		cmocka_unit_test(test_one_that_is_larger_than_all_the_room),
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_what_cannot_hold_even_a_name),
		cmocka_unit_test(test_owners),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
