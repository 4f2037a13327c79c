/* What a device's speed is learned from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/devices/rate.h"

#include <stdlib.h>
#include <string.h>

static double learn(double average, double tokens, double ms, bool upper_bound)
{
	return rate_learn(average,
		&(struct rate_sample){.tokens = tokens, .ms = ms, .upper_bound = upper_bound});
}

static bool near(double a, double b)
{
	return a > b * 0.99 && a < b * 1.01;
}

/* The same request three times: 92 tok/s are true, the others are mostly cached. */
static void cached_tokens_are_not_read(void **state)
{
	(void)state;
	double average = learn(0, 4000, 4000 / 0.092, true);
	assert_true(near(average, 92));
	average = learn(average, 4000, 4000 / 6.944, true);
	average = learn(average, 4000, 4000 / 13.119, true);
	assert_true(near(average, 92));
}

/* A cache that was warm before we came: the first true figure puts it right. */
static void a_lower_bound_is_believed(void **state)
{
	(void)state;
	double average = learn(0, 4000, 4000 / 13.119, true);
	assert_true(near(average, 13119));
	assert_true(near(learn(average, 4000, 4000 / 0.092, true), 92));
	/* Depth and load make a run slower, not many times so: a moving average. */
	assert_true(near(learn(100, 4000, 4000 / 0.080, true), 94));
	assert_true(near(learn(100, 4000, 4000 / 0.150, true), 115));
}

static void a_faster_device_is_seen_where_nothing_was_cached(void **state)
{
	double average = 92;
	(void)state;
	for (int i = 0; i < 20; i++)
		average = learn(average, 4000, 4000, false);
	assert_true(average > 990);
}

static void absurd_figures_are_not_learned(void **state)
{
	(void)state;
	assert_true(learn(0, 4000, 0, false) == 0);
	assert_true(learn(0, 4000, -1, false) == 0);
	assert_true(learn(0, 4000, 0.001, false) == 0);
	assert_true(learn(500, 4000, 0.001, false) == 500);
	assert_true(learn(500, 10, 1000, false) == 500);
	assert_true(learn(500, -1, 1000, false) == 500);
}

static void fresh_is_what_begins_like_no_other(void **state)
{
	static struct rate_prompts p;
	char *text = malloc(1u << 20);
	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < 1u << 20; i++)
		text[i] = (char)('a' + i * 7 % 26);
	struct slice long_one = {text, 40000}, short_one = {text, 500};
	assert_false(rate_prompt_fresh(&p, short_one)); /* too short to tell */
	assert_true(rate_prompt_fresh(&p, long_one));
	assert_false(rate_prompt_fresh(&p, long_one));
	/* A conversation grows at its end. */
	assert_false(rate_prompt_fresh(&p, (struct slice){text, 44000}));
	/* Mostly new behind the same beginning. */
	assert_true(rate_prompt_fresh(&p, (struct slice){text, 600000}));
	assert_false(rate_prompt_fresh(&p, (struct slice){text, 1u << 20}));
	text[100] = '!';
	assert_true(rate_prompt_fresh(&p, (struct slice){text, 44000}));
	/* Bodies push each other out. */
	for (int i = 0; i < RATE_KEPT; i++) {
		memcpy(text, &i, sizeof(i));
		assert_true(rate_prompt_fresh(&p, long_one));
	}
	text[100] = 'z';
	assert_true(rate_prompt_fresh(&p, (struct slice){text, 44000}));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cached_tokens_are_not_read),
		cmocka_unit_test(a_lower_bound_is_believed),
		cmocka_unit_test(a_faster_device_is_seen_where_nothing_was_cached),
		cmocka_unit_test(absurd_figures_are_not_learned),
		cmocka_unit_test(fresh_is_what_begins_like_no_other),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
