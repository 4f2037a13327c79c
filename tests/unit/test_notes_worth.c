#include "supervisor/requests/notes_worth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the three above first */
#include <cmocka.h>

static bool add(
	struct notes_worth *w, uint64_t model, unsigned times, unsigned kept, unsigned refused)
{
	bool off = false;
	for (unsigned i = 0; i < times; i++)
		off |= notes_worth_add(w, model, kept, refused);
	return off;
}

static void test_a_model_is_given_up(void **state)
{
	struct notes_worth w = {0};
	(void)state;
	/* a few bad answers decide nothing */
	assert_false(add(&w, 1, NOTES_WORTH_ANSWERS - 1, 0, 8));
	assert_false(notes_worth_is_off(&w, 1));
	assert_true(add(&w, 1, 1, 0, 8));
	assert_true(notes_worth_is_off(&w, 1));
	assert_false(add(&w, 1, 5, 8, 0)); /* told once; it stays off */
	assert_true(notes_worth_is_off(&w, 1));
	assert_int_equal(notes_worth_off(&w), 1);
	assert_false(notes_worth_is_off(&w, 2));
	notes_worth_forget(&w);
	assert_false(notes_worth_is_off(&w, 1));
	assert_int_equal(notes_worth_off(&w), 0);
}

static void test_the_rule(void **state)
{
	struct notes_worth w = {0};
	(void)state;
	assert_false(add(&w, 1, 100, 1, 3));		    /* a quarter holds */
	assert_true(add(&w, 1, NOTES_WORTH_ANSWERS, 1, 4)); /* a fifth */
	/* nothing said is nothing gained */
	assert_true(add(&w, 2, NOTES_WORTH_ANSWERS, 0, 0));
	/* the last ones count, not all there were */
	assert_false(add(&w, 3, 1000, 8, 0));
	assert_true(add(&w, 3, NOTES_WORTH_ANSWERS, 0, 8));
}

static void test_models_are_few(void **state)
{
	struct notes_worth w = {0};
	(void)state;
	assert_true(add(&w, 1, NOTES_WORTH_ANSWERS, 0, 1));
	for (uint64_t m = 2; m < 2 + NOTES_WORTH_MODELS - 1; m++)
		add(&w, m, 1, 1, 0);
	assert_true(notes_worth_is_off(&w, 1));
	add(&w, 99, 1, 1, 0); /* one too many: the oldest is forgotten */
	assert_false(notes_worth_is_off(&w, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_model_is_given_up),
		cmocka_unit_test(test_the_rule),
		cmocka_unit_test(test_models_are_few),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
