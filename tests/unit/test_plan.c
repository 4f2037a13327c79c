/* The plan is a pure function: a table of facts and what must come of them. */
#include "supervisor/requests/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct plan_facts facts(uint64_t tokens)
{
	return (struct plan_facts){
		.tokens = tokens,
		.max_output = -1,
		.condensable = true,
		.to_main = true,
		.main = {.present = true, .ready = true, .window = 16384, .slots = 1},
		.small = {.present = true, .ready = true, .window = 4096, .slots = 2},
		.a_max_tokens = 2000,
		.b_max_tokens = 6000,
		.keep_ratio_b = .35,
		.keep_ratio_c = .25,
		.chunk_tokens = 1500,
		.notes_max_tokens = 160,
		.max_chunks = 64,
	};
}

static void test_thresholds(void **state)
{
	(void)state;
	static const struct {
		uint64_t tokens;
		enum strategy strategy;
		bool condense;
	} cases[] = {
		{1, STRATEGY_A, false},
		{3, STRATEGY_A, false},
		{1999, STRATEGY_A, false},
		{2000, STRATEGY_B, true},
		{3568, STRATEGY_B, true},
		{6000, STRATEGY_B, true},
		{6001, STRATEGY_C, true},
		{10981, STRATEGY_C, true},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct plan_facts f = facts(cases[i].tokens);
		struct plan p;
		plan_decide(&f, &p);
		assert_int_equal(p.strategy, cases[i].strategy);
		assert_int_equal(p.condense, cases[i].condense);
		assert_int_equal(p.notes, cases[i].condense);
		assert_true(strlen(p.reason) > 0);
	}
}

/* A prompt for no template: as it is while it fits, else cut to fit and no more. */
static void test_a_bare_prompt_is_only_cut(void **state)
{
	(void)state;
	struct plan_facts f = facts(9000);
	struct plan p;
	f.bare = true;
	plan_decide(&f, &p);
	assert_int_equal(p.strategy, STRATEGY_A);
	assert_false(p.condense || p.notes);
	f.tokens = 20000;
	plan_decide(&f, &p);
	assert_int_equal(p.strategy, STRATEGY_A);
	assert_true(p.condense && p.must_shrink && !p.notes);
	assert_true(p.keep_ratio == 0);
	f.condensable = false;
	plan_decide(&f, &p);
	assert_false(p.condense);
}

static void test_ratio_follows_strategy(void **state)
{
	(void)state;
	struct plan_facts f = facts(4000);
	struct plan p;
	plan_decide(&f, &p);
	assert_true(p.keep_ratio == .35);
	f.tokens = 9000;
	plan_decide(&f, &p);
	assert_true(p.keep_ratio == .25);
}

static void test_chunks_fit_the_small_window(void **state)
{
	(void)state;
	struct plan_facts f = facts(5000);
	struct plan p;
	plan_decide(&f, &p);
	assert_int_equal(p.strategy, STRATEGY_B);
	/* one pass, but never more than a slot can hold with instruction and notes */
	assert_true(
		p.chunk_tokens + PLAN_NOTES_PROMPT_TOKENS + f.notes_max_tokens <= f.small.window);
	f.small.window = 32768;
	plan_decide(&f, &p);
	assert_true(p.chunk_tokens >= 5000);
	f.tokens = 9000;
	plan_decide(&f, &p);
	assert_int_equal(p.chunk_tokens, 1500);
	/* a huge prompt makes larger chunks, not more of them than max_chunks */
	f.tokens = 640000;
	plan_decide(&f, &p);
	assert_true(p.chunk_tokens >= 10000);
}

static void test_small_device_away(void **state)
{
	(void)state;
	struct plan_facts f = facts(4000);
	struct plan p;
	f.small.ready = false;
	plan_decide(&f, &p);
	assert_int_equal(p.strategy, STRATEGY_B);
	assert_false(p.condense);
	assert_non_null(strstr(p.reason, "fallback"));
	f.tokens = 40000; /* does not fit 16384: the selection alone */
	plan_decide(&f, &p);
	assert_true(p.condense);
	assert_false(p.notes);
	assert_true(p.must_shrink);
	f.small.present = false;
	plan_decide(&f, &p);
	assert_true(p.condense);
	assert_false(p.notes);
	f.tokens = 4000;
	plan_decide(&f, &p);
	assert_false(p.condense);
}

static void test_never_rewritten(void **state)
{
	(void)state;
	struct plan_facts f = facts(9000);
	struct plan p;
	f.condensable = false;
	plan_decide(&f, &p);
	assert_int_equal(p.strategy, STRATEGY_A);
	assert_false(p.condense);
	f = facts(9000);
	f.to_main = false;
	plan_decide(&f, &p);
	assert_int_equal(p.strategy, STRATEGY_A);
	assert_false(p.condense);
}

static void test_short_window_shrinks_even_below_a_max(void **state)
{
	(void)state;
	struct plan_facts f = facts(1900);
	struct plan p;
	f.main.window = 2048;
	plan_decide(&f, &p);
	assert_true(p.must_shrink);
	assert_true(p.condense);
	assert_false(p.notes);
	f.main.window = 0; /* unknown: everything fits */
	plan_decide(&f, &p);
	assert_false(p.condense);
	assert_int_equal(p.room_tokens, 0);
}

static void test_room_keeps_the_answer_free(void **state)
{
	(void)state;
	struct plan_facts f = facts(1);
	assert_true(plan_room(&f) <= 16384 - PLAN_OUTPUT_RESERVE_TOKENS);
	f.max_output = 4000;
	assert_true(plan_room(&f) <= 16384 - 4000);
	f.max_output = 1 << 20; /* more than the window: not believed */
	assert_true(plan_room(&f) > 8192);
	f.main.window = 4;
	assert_true(plan_room(&f) >= 1);
}

/* Of a prompt that the backend has counted all but the newest turn, only that turn can be off. */
static void test_room_of_a_counted_prompt(void **state)
{
	(void)state;
	struct plan_facts f = facts(60000);
	f.main.window = 65536;
	f.max_output = 2048;
	assert_false(plan_fits(&f));
	f.counted = 59000;
	assert_true(plan_fits(&f));
	assert_int_equal(plan_room(&f), 65536 - 2048 - 100);
	f.tokens = 63400;
	f.counted = 62400;
	assert_false(plan_fits(&f)); /* 62400 + 1.1 * 1000 > 63488 */
	f.tokens = 63380;
	assert_true(plan_fits(&f));
	/* much that is new is as unsure as a prompt of which nothing is known, not more */
	f.counted = 10;
	assert_int_equal(plan_room(&f), (int64_t)((65536 - 2048) / PLAN_SLACK));
	f.counted = f.tokens + 1; /* nonsense */
	assert_int_equal(plan_room(&f), (int64_t)((65536 - 2048) / PLAN_SLACK));
	/* the layout is another text: the slack stays */
	f.counted = 62400;
	assert_int_equal(plan_layout_room(&f), (int64_t)((65536 - 2048) / PLAN_SLACK));
	f.counted = 0;
	assert_int_equal(plan_layout_room(&f), plan_room(&f));
	/* ... until it was counted itself */
	assert_int_equal(plan_counted_room(&f), (int64_t)((65536 - 2048) / PLAN_COUNTED_SLACK));
	f.main.window = 0;
	assert_int_equal(plan_layout_room(&f), 0);
	assert_int_equal(plan_counted_room(&f), 0);
}

/* A layout that the backend found too long is made shorter by what it was too long by. */
static void test_room_after(void **state)
{
	(void)state;
	struct plan_facts f = facts(5932);
	f.main.window = 4096;
	f.max_output = 8;
	int64_t room = plan_room(&f);
	assert_int_equal(plan_room_after(&f, 4016, 4110), room);
	assert_int_equal(plan_room_after(&f, 4016, 4500),
		(int64_t)(4088 * 4016. / 4500 * PLAN_COUNTED_SHARE));
	assert_int_equal(
		plan_room_after(&f, 4016, 0), (int64_t)((double)room * PLAN_OVERFLOW_SHARE));
	assert_int_equal(plan_room_after(&f, 3000, 0), (int64_t)(3000 * PLAN_OVERFLOW_SHARE));
	f.main.window = 0; /* unknown */
	assert_int_equal(plan_room_after(&f, 4016, 4110), (int64_t)(4016 * PLAN_OVERFLOW_SHARE));
}

/* Whatever the thresholds: sizes decide for the way that is asked for, and the reason says so. */
static void test_a_way_that_is_asked_for(void **state)
{
	(void)state;
	static const uint64_t sizes[] = {0, 1, 1999, 2000, 6000, 6001, 12000};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		for (enum strategy way = STRATEGY_A; way <= STRATEGY_C; way++) {
			struct plan_facts f = facts(sizes[i]);
			struct plan p;
			plan_ask(&f, way);
			plan_decide(&f, &p);
			if (sizes[i] == 0 && way == STRATEGY_C)
				continue; /* nothing is in it */
			assert_int_equal(p.strategy, way);
			assert_int_equal(p.condense, way != STRATEGY_A);
			assert_true(strncmp(p.reason, "way ", 4) == 0);
			assert_true(f.a_max_tokens <= 2000 || way == STRATEGY_A);
		}
	struct plan_facts f = facts(50000);
	struct plan p;
	plan_ask(&f, STRATEGY_A);
	plan_decide(&f, &p);
	assert_true(p.condense && p.must_shrink); /* never cut in silence */
	f = facts(5000);
	f.small.ready = false;
	plan_ask(&f, STRATEGY_B);
	plan_decide(&f, &p);
	assert_false(p.condense);
	assert_non_null(strstr(p.reason, "not ready"));
}

static void test_original_or_chunk(void **state)
{
	(void)state;
	char reason[PLAN_REASON_BYTES];
	struct plan_facts f = facts(3500);
	f.main.prefill_tok_s = 1000;
	f.main.decode_tok_s = 40;
	/* 3.5 s against 3.8 s + 4 s + 1.2 s */
	assert_true(plan_original_sooner(&f, 1, 3500, 1225, reason));
	f.tokens = 40000;
	/* 40 s against 1.8 + 4 + 10 s */
	assert_false(plan_original_sooner(&f, 1, 1500, 10000, reason));
	/* ... but not when the whole map has to run there */
	assert_true(plan_original_sooner(&f, 26, 1500, 10000, reason));
	assert_non_null(strstr(reason, "26 chunk"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thresholds),
		cmocka_unit_test(test_a_bare_prompt_is_only_cut),
		cmocka_unit_test(test_ratio_follows_strategy),
		cmocka_unit_test(test_chunks_fit_the_small_window),
		cmocka_unit_test(test_small_device_away),
		cmocka_unit_test(test_never_rewritten),
		cmocka_unit_test(test_short_window_shrinks_even_below_a_max),
		cmocka_unit_test(test_room_keeps_the_answer_free),
		cmocka_unit_test(test_room_of_a_counted_prompt),
		cmocka_unit_test(test_room_after),
		cmocka_unit_test(test_a_way_that_is_asked_for),
		cmocka_unit_test(test_original_or_chunk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
