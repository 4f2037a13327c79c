/* common/tokens: estimates before and after learning, the clamps, and what the table forgets. */
#include "common/tokens.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define MODEL SLICE("qwen2.5:7b")

static int setup(void **state)
{
	*state = tokens_create();
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	tokens_destroy(*state);
	return 0;
}

static void starts_at_four_characters(void **state)
{
	static const struct {
		uint64_t chars;
		unsigned images;
		uint64_t tokens;
	} cases[] = {
		{0, 0, 1},
		{1, 0, 1},
		{4, 0, 1},
		{5, 0, 2},
		{8000, 0, 2000},
		{8001, 0, 2001},
		{0, 1, TOKENS_PER_IMAGE},
		{400, 3, 100 + 3 * TOKENS_PER_IMAGE},
		{UINT64_C(1) << 62, 0, UINT64_C(1) << 60},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(tokens_estimate(*state, MODEL, cases[i].chars, cases[i].images),
			cases[i].tokens);
	assert_float_equal(tokens_ratio(*state, (struct slice){0}), TOKENS_RATIO_START, 0);
}

static void learns_a_fifth_of_the_way(void **state)
{
	tokens_learn(*state, MODEL, 3000, 1000);
	assert_float_equal(tokens_ratio(*state, MODEL), 3.8, 1e-9);
	tokens_learn(*state, MODEL, 3000, 1000);
	assert_float_equal(tokens_ratio(*state, MODEL), 3.64, 1e-9);
	for (int i = 0; i < 100; i++)
		tokens_learn(*state, MODEL, 3000, 1000);
	assert_float_equal(tokens_ratio(*state, MODEL), 3.0, 1e-6);
	assert_int_equal(tokens_estimate(*state, MODEL, 29999, 0), 10000);
}

static void knows_models_apart_without_case(void **state)
{
	tokens_learn(*state, SLICE("Qwen2.5:7B"), 3000, 1000);
	assert_float_equal(tokens_ratio(*state, SLICE("qwen2.5:7b")), 3.8, 1e-9);
	assert_float_equal(tokens_ratio(*state, SLICE("qwen2.5:7")), 4.0, 0);
	assert_float_equal(tokens_ratio(*state, SLICE("qwen2.5:7bb")), 4.0, 0);
	tokens_learn(*state, SLICE("QWEN2.5:7b"), 3000, 1000);
	assert_float_equal(tokens_ratio(*state, SLICE("qwen2.5:7b")), 3.64, 1e-9);
}

static void ignores_what_teaches_nothing(void **state)
{
	tokens_learn(*state, MODEL, 2000, TOKENS_LEARN_MIN - 1);
	tokens_learn(*state, MODEL, 2000, 0);
	tokens_learn(*state, MODEL, 0, 1000);
	tokens_learn(*state, (struct slice){0}, 3000, 1000);
	static char longest[4096];
	memset(longest, 'm', sizeof(longest));
	tokens_learn(*state, (struct slice){longest, sizeof(longest)}, 3000, 1000);
	assert_float_equal(tokens_ratio(*state, MODEL), 4.0, 0);
	assert_float_equal(tokens_ratio(*state, (struct slice){0}), 4.0, 0);
	assert_float_equal(tokens_ratio(*state, (struct slice){longest, sizeof(longest)}), 4.0, 0);
	tokens_learn(*state, MODEL, 3 * TOKENS_LEARN_MIN, TOKENS_LEARN_MIN);
	assert_float_equal(tokens_ratio(*state, MODEL), 3.8, 1e-9);
}

static void stays_within_bounds(void **state)
{
	tokens_learn(*state, MODEL, UINT64_MAX, 256);
	assert_float_equal(tokens_ratio(*state, MODEL), 4.4, 1e-9); /* one step toward the bound */
	for (int i = 0; i < 200; i++)
		tokens_learn(*state, MODEL, UINT64_MAX, 256);
	assert_true(tokens_ratio(*state, MODEL) <= TOKENS_RATIO_MAX);
	assert_float_equal(tokens_ratio(*state, MODEL), TOKENS_RATIO_MAX, 1e-6);
	for (int i = 0; i < 200; i++)
		tokens_learn(*state, MODEL, 1, UINT64_MAX);
	assert_true(tokens_ratio(*state, MODEL) >= TOKENS_RATIO_MIN);
	assert_float_equal(tokens_ratio(*state, MODEL), TOKENS_RATIO_MIN, 1e-6);
}

static struct slice numbered(char *text, size_t size, int i)
{
	int n = snprintf(text, size, "model-%d", i);
	return (struct slice){text, (size_t)n};
}

static void forgets_the_one_unused_longest(void **state)
{
	char name[32];
	for (int i = 0; i < TOKENS_MODELS_MAX; i++)
		tokens_learn(*state, numbered(name, sizeof(name), i), 3000, 1000);
	tokens_learn(*state, SLICE("model-0"), 3000, 1000); /* model-1 is the oldest now */
	tokens_learn(*state, SLICE("one too many"), 3000, 1000);
	assert_float_equal(tokens_ratio(*state, SLICE("one too many")), 3.8, 1e-9);
	assert_float_equal(tokens_ratio(*state, SLICE("model-0")), 3.64, 1e-9);
	assert_float_equal(tokens_ratio(*state, SLICE("model-1")), 4.0, 0);
	for (int i = 2; i < TOKENS_MODELS_MAX; i++)
		assert_float_equal(
			tokens_ratio(*state, numbered(name, sizeof(name), i)), 3.8, 1e-9);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(starts_at_four_characters),
		TEST(learns_a_fifth_of_the_way),
		TEST(knows_models_apart_without_case),
		TEST(ignores_what_teaches_nothing),
		TEST(stays_within_bounds),
		TEST(forgets_the_one_unused_longest),
	};
	return cmocka_run_group_tests_name("tokens", tests, NULL, NULL);
}
