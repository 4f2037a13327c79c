/* The conversations that the guardian of the prefix remembers: how they are found, and how many there are. */
#include "supervisor/requests/guardian.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t key[2] = {1, 2};

#define CLIENT 7
#define MODEL 9

/* The fingerprint of messages "1 2 3": the first of the system, then a user's and an assistant's in turn. */
static struct guard_prompt prompt_of(const char *numbers)
{
	struct guard_prompt p = {0};
	struct chat_request r;
	struct dialect_error error;
	struct buf body;
	const char *role = "system";
	buf_init(&body, 0);
	buf_add_str(&body, "{\"model\":\"m\",\"messages\":[");
	for (const char *n = numbers; *n; n++) {
		if (*n == ' ')
			continue;
		buf_printf(&body, "%s{\"role\":\"%s\",\"content\":\"%c\\n%c\"}",
			n > numbers ? "," : "", role, *n, *n);
		role = strcmp(role, "user") == 0 ? "assistant" : "user";
	}
	buf_add_str(&body, "]}");
	assert_int_equal(chat_request_parse(DIALECT_OPENAI_CHAT, buf_slice(&body), &r, &error), 0);
	assert_int_equal(guard_read(&r, 0, key, &p), 0);
	chat_request_fini(&r);
	buf_free(&body);
	return p;
}

static struct conversation *add(struct guardian *g, const char *numbers, struct slice tools)
{
	struct guard_prompt p = prompt_of(numbers);
	struct conversation *c = guardian_begin(g, CLIENT, MODEL);
	assert_non_null(c);
	guardian_went_on(g, c, &p, tools, 1);
	assert_int_equal(p.count, 0);
	return c;
}

static struct conversation *find(
	struct guardian *g, uint64_t client, uint64_t model, const char *numbers)
{
	struct guard_prompt p = prompt_of(numbers);
	struct conversation *c = guardian_find(g, client, model, &p);
	guard_prompt_fini(&p);
	return c;
}

static void test_found(void **state)
{
	(void)state;
	struct guardian *g = guardian_create(8, 1 << 20);
	assert_null(find(g, CLIENT, MODEL, "s 1"));
	struct conversation *a = add(g, "s 1 2 3", (struct slice){0}),
			    *b = add(g, "s 1 4 5", (struct slice){0}),
			    *c = add(g, "s 6", (struct slice){0});
	assert_ptr_equal(find(g, CLIENT, MODEL, "s 1 2 3 8 9"), a);
	assert_ptr_equal(find(g, CLIENT, MODEL, "s 1 4 5 8 9"), b);
	assert_ptr_equal(find(g, CLIENT, MODEL, "s 6 7 8"), c);
	assert_ptr_equal(find(g, CLIENT, MODEL, "t 1 2 3 8 9"), a); /* another system prompt */
	assert_ptr_equal(find(g, CLIENT, MODEL, "s 1 4 7 8 5"), b); /* most of it */
	assert_null(find(g, CLIENT, MODEL, "s 9 8 7"));
	assert_null(find(g, CLIENT + 1, MODEL, "s 1 2 3"));
	assert_null(find(g, CLIENT, MODEL + 1, "s 1 2 3"));
	assert_ptr_equal(guardian_by_id(g, b->id), b);
	assert_null(guardian_by_id(g, 99));
	guardian_destroy(g);
	guardian_destroy(NULL);
}

static void test_the_oldest_goes(void **state)
{
	(void)state;
	struct guardian *g = guardian_create(3, 1 << 20);
	struct conversation *a = add(g, "s 1", (struct slice){0});
	uint64_t second = add(g, "s 2", (struct slice){0})->id;
	add(g, "s 3", (struct slice){0});
	guardian_went_on(g, a, NULL, (struct slice){0}, 2); /* the newest now */
	assert_true(a->turns == 2 && a->last_ms == 2 && a->prompt.count == 2);
	add(g, "s 4", (struct slice){0});
	assert_int_equal(g->count, 3);
	assert_null(guardian_by_id(g, second));
	assert_ptr_equal(find(g, CLIENT, MODEL, "s 1 2 3"), a);
	guardian_limit(g, 1, 1 << 20);
	assert_int_equal(g->count, 1);
	assert_null(find(g, CLIENT, MODEL, "s 1 2 3"));
	guardian_limit(g, 0, 1 << 20);
	assert_null(guardian_begin(g, CLIENT, MODEL));
	assert_int_equal(g->count, 0);
	guardian_destroy(g);
}

static void test_bytes(void **state)
{
	(void)state;
	static const char tools[5000] = {'[', ']'};
	struct guard_prompt p = prompt_of("s 1 2 3");
	size_t whole = guard_prompt_bytes(&p);
	guard_prompt_thin(&p);
	size_t thin = guard_prompt_bytes(&p);
	guard_prompt_fini(&p);
	struct guardian *g = guardian_create(3, whole + 100);
	struct conversation *c = add(g, "s 1 2 3", (struct slice){tools, sizeof(tools)});
	assert_true(conversation_bytes(c) <= whole + 100 && c->tools.n == 0);
	guardian_limit(g, 3, thin + 100);
	assert_true(conversation_bytes(c) <= thin + 100 && c->prompt.line_count == 0);
	assert_ptr_equal(find(g, CLIENT, MODEL, "s 1 2 3 4 5"), c);
	p = prompt_of("s 1 2 3");
	assert_true(guardian_has_room(g, &p) && p.line_count == 0);
	guardian_limit(g, 3, thin - 1);
	assert_int_equal(g->count, 0);
	assert_false(guardian_has_room(g, &p));
	guard_prompt_fini(&p);
	guardian_destroy(g);
}

static void test_tools_are_kept(void **state)
{
	(void)state;
	struct guardian *g = guardian_create(3, 1 << 20);
	struct conversation *c = add(g, "s 1", SLICE("[1]"));
	assert_true(slice_eq(buf_slice(&c->tools), SLICE("[1]")));
	struct guard_prompt p = prompt_of("s 1 2 3");
	guardian_went_on(g, c, &p, SLICE("[2]"), 2);
	assert_true(slice_eq(buf_slice(&c->tools), SLICE("[2]")));
	guardian_destroy(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found),
		cmocka_unit_test(test_the_oldest_goes),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_tools_are_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
