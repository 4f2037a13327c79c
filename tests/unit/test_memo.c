#include "common/base/memo.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants the two above first */
#include <cmocka.h>

static bool is(struct memo *m, uint64_t key, const char *text)
{
	struct slice s;
	return memo_get(m, key, &s) && slice_eq(s, slice_str(text));
}

static void test_values(void **state)
{
	struct memo *m = memo_create(4096);
	struct slice s;
	(void)state;
	assert_non_null(m);
	assert_false(memo_get(m, 1, &s));
	assert_int_equal(memo_put(m, 1, SLICE("one")), 0);
	assert_int_equal(memo_put(m, 4097, SLICE("in the same bucket")), 0);
	assert_int_equal(memo_put(m, 2, (struct slice){0}), 0);
	assert_true(is(m, 1, "one") && is(m, 4097, "in the same bucket") && is(m, 2, ""));
	assert_int_equal(memo_put(m, 1, SLICE("another")), 0);
	assert_true(is(m, 1, "another"));
	assert_int_equal(memo_count(m), 3);
	assert_int_equal(memo_bytes(m), 3 * MEMO_ENTRY_BYTES + 7 + 18);
	assert_true(memo_is_first_look(m, 1));
	assert_false(memo_is_first_look(m, 1));
	assert_false(memo_is_first_look(m, 99));
	memo_destroy(m);
}

static void test_bound(void **state)
{
	struct memo *m = memo_create(4 * (MEMO_ENTRY_BYTES + 100));
	char hundred[400] = {0};
	struct slice s;
	(void)state;
	for (uint64_t key = 0; key < 1000; key++) {
		assert_int_equal(memo_put(m, key, (struct slice){hundred, 100}), 0);
		assert_true(memo_bytes(m) <= 4 * (MEMO_ENTRY_BYTES + 100));
		assert_true(key < 3 || memo_get(m, 3, &s)); /* looked at: it stays */
	}
	assert_int_equal(memo_count(m), 4);
	assert_true(memo_get(m, 999, &s));
	assert_false(memo_get(m, 996, &s));
	/* one that is too large takes nothing but its own key's place */
	assert_int_equal(
		memo_put(m, 999, (struct slice){hundred, 4 * (MEMO_ENTRY_BYTES + 100)}), -E2BIG);
	assert_false(memo_get(m, 999, &s));
	assert_int_equal(memo_count(m), 3);
	memo_limit(m, MEMO_ENTRY_BYTES + 100);
	assert_int_equal(memo_count(m), 1);
	memo_limit(m, 0);
	assert_int_equal(memo_count(m), 0);
	assert_int_equal(memo_put(m, 1, (struct slice){hundred, 1}), -E2BIG);
	memo_destroy(m);
	memo_destroy(NULL);
	assert_int_equal(memo_bytes(NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_bound),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
