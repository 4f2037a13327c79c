/* common/buf: caps, sticky errors, formatting up to the cap, dropping from the front. */
#include "common/base/buf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* So that an absurd size fails under the address sanitizer as it does without. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void assert_holds(const struct buf *b, const char *text)
{
	assert_int_equal(b->n, strlen(text));
	assert_memory_equal(b->n ? b->p : "", text, b->n);
}

static void slices_compare_bytes(void **state)
{
	(void)state;
	assert_true(slice_eq(SLICE(""), (struct slice){0}));
	assert_true(slice_eq(SLICE("a\0b"), SLICE("a\0b")));
	assert_false(slice_eq(SLICE("a\0b"), SLICE("a\0c")));
	assert_true(slice_ieq(SLICE("Qwen2.5:7B"), SLICE("qwen2.5:7b")));
	assert_false(slice_ieq(SLICE("qwen"), SLICE("qwen2")));
	assert_false(slice_ieq(SLICE("a\0b"), SLICE("a\0c")));
	assert_false(slice_ieq(SLICE("["), SLICE("{"))); /* 0x20 apart, yet no letters */
	assert_true(slice_ieq((struct slice){0}, SLICE("")));
	assert_true(slice_lists(SLICE("x-hop"), SLICE("X-Hop")));
	assert_true(slice_lists(SLICE("close,\t X-Hop ,y"), SLICE("x-hop")));
	assert_true(slice_lists(SLICE(",, y"), SLICE("y")));
	assert_false(slice_lists(SLICE("x-hop2, x"), SLICE("x-hop")));
	assert_false(slice_lists((struct slice){0}, SLICE("x")));
	assert_int_equal(slice_str(NULL).n, 0);
}

static void slice_dup_terminates(void **state)
{
	(void)state;
	char *copy = slice_dup((struct slice){"abcdef", 3});
	assert_string_equal(copy, "abc");
	free(copy);
	copy = slice_dup((struct slice){0});
	assert_string_equal(copy, "");
	free(copy);
}

static void appends_grow(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 0);
	assert_null(b.p);
	assert_int_equal(buf_add(&b, NULL, 0), 0);
	assert_int_equal(buf_add_str(&b, "one "), 0);
	assert_int_equal(buf_add_slice(&b, SLICE("two ")), 0);
	assert_int_equal(buf_add_char(&b, '3'), 0);
	assert_holds(&b, "one two 3");
	for (int i = 0; i < 100000; i++)
		buf_add_char(&b, (char)('a' + i % 26));
	assert_int_equal(buf_error(&b), 0);
	assert_int_equal(b.n, 100009);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(b.p[9 + i], 'a' + i % 26);
	buf_free(&b);
	assert_null(b.p);
	assert_int_equal(b.cap, 0);
}

static void cap_is_exact(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 1000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(buf_add_char(&b, 'x'), 0);
	assert_true(b.cap <= 1000);
	assert_int_equal(buf_add_char(&b, 'x'), -E2BIG);
	assert_int_equal(b.n, 1000);
	buf_free(&b);
	assert_int_equal(b.max, 1000);
	assert_int_equal(buf_error(&b), 0);
}

static void errors_stick(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 4);
	assert_int_equal(buf_add_str(&b, "abc"), 0);
	assert_int_equal(buf_add_str(&b, "de"), -E2BIG);
	/* What would fit comes too late, and nothing is half done. */
	assert_int_equal(buf_add_char(&b, 'd'), -E2BIG);
	assert_int_equal(buf_add(&b, NULL, 0), -E2BIG);
	assert_int_equal(buf_printf(&b, "%d", 1), -E2BIG);
	assert_int_equal(buf_reserve(&b, 0), -E2BIG);
	assert_string_equal(buf_cstr(&b), "");
	assert_holds(&b, "abc");
	buf_clear(&b);
	assert_int_equal(buf_add_str(&b, "wxyz"), 0);
	assert_holds(&b, "wxyz");
	buf_free(&b);
}

static void absurd_sizes_are_refused(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 0);
	buf_add_str(&b, "abc");
	assert_int_equal(buf_reserve(&b, SIZE_MAX), -E2BIG);
	buf_clear(&b);
	assert_int_equal(buf_reserve(&b, SIZE_MAX / 2 - 1), -ENOMEM);
	assert_int_equal(buf_add_char(&b, 'x'), -ENOMEM);
	buf_clear(&b);
	assert_int_equal(buf_add_char(&b, 'x'), 0);
	buf_free(&b);
}

static void printf_fills_to_the_cap(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 8);
	assert_int_equal(buf_printf(&b, "%s", ""), 0);
	assert_int_equal(b.n, 0);
	assert_int_equal(buf_printf(&b, "%04d", 42), 0);
	assert_int_equal(buf_printf(&b, "%s", "abcd"), 0);
	assert_holds(&b, "0042abcd");
	assert_string_equal(buf_cstr(&b), "0042abcd"); /* the NUL stands beyond the cap */
	assert_int_equal(b.max, 8);
	assert_int_equal(buf_printf(&b, "%c", 'e'), -E2BIG);
	assert_holds(&b, "0042abcd");
	buf_free(&b);

	buf_init(&b, 300);
	char longer[301];
	memset(longer, 'y', 300);
	longer[300] = '\0';
	assert_int_equal(buf_printf(&b, "%s", longer), 0);
	assert_int_equal(b.n, 300);
	buf_clear(&b);
	assert_int_equal(buf_printf(&b, "%sz", longer), -E2BIG);
	assert_int_equal(b.n, 0);
	buf_free(&b);
}

static void drop_moves_the_rest(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 16);
	buf_drop(&b, 5);
	buf_add_str(&b, "0123456789");
	buf_drop(&b, 0);
	assert_holds(&b, "0123456789");
	buf_drop(&b, 3);
	assert_holds(&b, "3456789");
	/* Dropped bytes count no more against the cap. */
	assert_int_equal(buf_add_str(&b, "abcdefghi"), 0);
	assert_holds(&b, "3456789abcdefghi");
	buf_drop(&b, 15);
	assert_holds(&b, "i");
	buf_drop(&b, 99);
	assert_holds(&b, "");
	assert_string_equal(buf_cstr(&b), "");
	buf_free(&b);
}

static void cstr_of_nothing(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 0);
	assert_string_equal(buf_cstr(&b), "");
	buf_add_str(&b, "abc");
	assert_string_equal(buf_cstr(&b), "abc");
	buf_add_str(&b, "d"); /* overwrites the NUL */
	assert_string_equal(buf_cstr(&b), "abcd");
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slices_compare_bytes),
		cmocka_unit_test(slice_dup_terminates),
		cmocka_unit_test(appends_grow),
		cmocka_unit_test(cap_is_exact),
		cmocka_unit_test(errors_stick),
		cmocka_unit_test(absurd_sizes_are_refused),
		cmocka_unit_test(printf_fills_to_the_cap),
		cmocka_unit_test(drop_moves_the_rest),
		cmocka_unit_test(cstr_of_nothing),
	};
	return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
