/* Routing by predicted time: every rule of choose.h. */
#include "supervisor/requests/choose.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct choose_facts facts(double original_tokens, double original_ms, bool fits)
{
	return (struct choose_facts){.form[FORM_ORIGINAL] = {.there = true,
					     .fits = fits,
					     .tokens = original_tokens,
					     .fresh = original_tokens,
					     .ms = original_ms},
		.min_gain_ms = 2000,
		.min_gain = 0.3,
		.a_max_tokens = 2000,
		.b_max_tokens = 6000};
}

static void offer(
	struct choose_facts *f, enum choose_form form, double tokens, double fresh, double ms)
{
	f->form[form] = (struct choose_candidate){
		.there = true, .fits = true, .tokens = tokens, .fresh = fresh, .ms = ms};
}

static struct choice chosen(const struct choose_facts *f)
{
	struct choice c;
	choose(f, &c);
	assert_true(strlen(c.reason) > 0 && strlen(c.reason) < PLAN_REASON_BYTES);
	return c;
}

static void test_nothing_else(void **state)
{
	(void)state;
	struct choose_facts f = facts(11000, 9700, true);
	struct choice c = chosen(&f);
	assert_true(c.form == FORM_ORIGINAL && c.strategy == STRATEGY_A && !c.none_fits);
	assert_true(c.ms == 9700);
	assert_string_equal(c.reason, "original 9.70 s (11000 of 11000 tokens new)");
}

static void test_small_prompts_are_left_alone(void **state)
{
	(void)state;
	struct choose_facts f = facts(1999, 60000, true);
	offer(&f, FORM_CUT, 500, 500, 100);
	assert_true(chosen(&f).form == FORM_ORIGINAL);
	f.form[FORM_ORIGINAL].tokens = 2000;
	assert_true(chosen(&f).form == FORM_CUT);
	f.form[FORM_ORIGINAL].tokens = 1999;
	f.form[FORM_ORIGINAL].fits = false; /* a tiny window */
	assert_true(chosen(&f).form == FORM_CUT);
}

/* Both gains, each just reached and just missed. */
static void test_gains(void **state)
{
	(void)state;
	static const struct {
		double original, cut;
		enum choose_form form;
	} cases[] = {
		{9700, 3100, FORM_CUT},
		{5000, 3000, FORM_CUT},	       /* exactly 2000 ms and 40 % */
		{5000, 3001, FORM_ORIGINAL},   /* 1999 ms */
		{20000, 14000, FORM_CUT},      /* exactly 30 % */
		{20000, 14001, FORM_ORIGINAL}, /* less */
		{1500, 10, FORM_ORIGINAL},     /* 99 %, but 1.5 s */
		{3000, 9000, FORM_ORIGINAL},
		{400, 400, FORM_ORIGINAL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct choose_facts f = facts(11000, cases[i].original, true);
		offer(&f, FORM_CUT, 3000, 3000, cases[i].cut);
		struct choice c = chosen(&f);
		assert_int_equal(c.form, cases[i].form);
		assert_non_null(strstr(c.reason, "original"));
		assert_non_null(strstr(c.reason, "cut")); /* the alternative is named */
		assert_true((strstr(c.reason, "too little") != NULL) == (c.form == FORM_ORIGINAL));
	}
	struct choose_facts f = facts(11000, 1500, true);
	f.min_gain_ms = 0;
	f.min_gain = 0;
	offer(&f, FORM_CUT, 3000, 3000, 1400);
	assert_true(chosen(&f).form == FORM_CUT);
}

/* The point of it all: a session whose prefix is warm goes as it is, however long. */
static void test_warm_prefix(void **state)
{
	(void)state;
	struct choose_facts f = facts(25473, 450, true);
	f.form[FORM_ORIGINAL].fresh = 473;
	offer(&f, FORM_LAYOUT, 14000, 6000, 5000);
	offer(&f, FORM_CUT, 9000, 9000, 9000);
	struct choice c = chosen(&f);
	assert_true(c.form == FORM_ORIGINAL && c.strategy == STRATEGY_A);
	assert_string_equal(c.reason, "original 0.45 s (473 of 25473 tokens new); layout 5.00 s "
				      "(6000 of 14000 tokens new): saves too little");
}

static void test_stays_on_the_layout(void **state)
{
	(void)state;
	struct choose_facts f = facts(14000, 900, true);
	offer(&f, FORM_LAYOUT, 9000, 500, 600);
	assert_true(chosen(&f).form == FORM_ORIGINAL);
	f.on_layout = true;
	struct choice c = chosen(&f);
	assert_true(c.form == FORM_LAYOUT && c.strategy == STRATEGY_C);
	assert_non_null(strstr(c.reason, "stays on the layout"));
	/* even where the original seems sooner: it would be the turn after that pays */
	f.form[FORM_LAYOUT].ms = 1500;
	assert_true(chosen(&f).form == FORM_LAYOUT);
	/* nothing is frozen in it any more: there is no layout apart from the original */
	f.form[FORM_LAYOUT].there = false;
	assert_true(chosen(&f).form == FORM_ORIGINAL);
	/* the cut does not lure it away */
	f.form[FORM_LAYOUT].there = true;
	offer(&f, FORM_CUT, 100, 100, 1);
	assert_true(chosen(&f).form == FORM_LAYOUT);
}

static void test_must_shrink(void **state)
{
	(void)state;
	struct choose_facts f = facts(40000, 50000, false);
	offer(&f, FORM_LAYOUT, 14000, 14000, 12000);
	offer(&f, FORM_CUT, 9000, 9000, 8000);
	struct choice c = chosen(&f);
	assert_true(c.form == FORM_LAYOUT && c.strategy == STRATEGY_C && !c.none_fits);
	assert_non_null(strstr(c.reason, "original of 40000 tokens does not fit"));
	f.form[FORM_LAYOUT].fits = false;
	assert_true(chosen(&f).form == FORM_CUT);
	f.form[FORM_CUT].fits = false;
	c = chosen(&f);
	assert_true(c.none_fits && c.form == FORM_CUT);
	f.form[FORM_CUT].there = f.form[FORM_LAYOUT].there = false;
	c = chosen(&f);
	assert_true(c.none_fits && c.form == FORM_ORIGINAL);
	/* no gain is asked for where there is no choice */
	f = facts(5000, 100, false);
	offer(&f, FORM_LAYOUT, 4000, 4000, 5000);
	c = chosen(&f);
	assert_true(c.form == FORM_LAYOUT && c.strategy == STRATEGY_B);
}

/* Before the shorter form is there nothing is said about it; its letter is told already. */
static void test_still_being_made(void **state)
{
	(void)state;
	struct choose_facts f = facts(98872, 120000, false);
	f.making = true;
	struct choice c = chosen(&f);
	assert_true(c.form == FORM_LAYOUT && c.strategy == STRATEGY_C && !c.none_fits);
	assert_true(c.ms == 120000);
	assert_string_equal(
		c.reason, "original of 98872 tokens does not fit; it is being made shorter");
	offer(&f, FORM_LAYOUT, 24432, 700, 600);
	f.making = false;
	c = chosen(&f);
	assert_true(c.form == FORM_LAYOUT && c.strategy == STRATEGY_C);
	assert_non_null(strstr(c.reason, "layout 0.60 s (700 of 24432 tokens new)"));
	f.form[FORM_LAYOUT].there = false; /* it could not be made */
	c = chosen(&f);
	assert_true(c.form == FORM_ORIGINAL && c.strategy == STRATEGY_A && c.none_fits);
	assert_non_null(strstr(c.reason, "nor does anything shorter"));
}

static void test_the_queue(void **state)
{
	(void)state;
	struct choose_facts f = facts(11000, 9700, true);
	offer(&f, FORM_CUT, 3000, 3000, 3100);
	f.queue_ms = 60000;
	struct choice c = chosen(&f);
	assert_true(c.form == FORM_CUT && c.ms == 63100);
}

static void test_letters(void **state)
{
	(void)state;
	struct choose_facts f = facts(6000, 9700, true);
	offer(&f, FORM_CUT, 3000, 3000, 3100);
	assert_int_equal(chosen(&f).strategy, STRATEGY_B);
	f.form[FORM_ORIGINAL].tokens = 6001;
	assert_int_equal(chosen(&f).strategy, STRATEGY_C);
}

/* Absurd figures: a reason that is cut, not one that runs over. */
static void test_long_reasons(void **state)
{
	(void)state;
	struct choose_facts f = facts(1e30, 1e30, true);
	f.form[FORM_ORIGINAL].fresh = 1e30;
	offer(&f, FORM_LAYOUT, 1e30, 1e30, 1e30);
	chosen(&f);
	f.form[FORM_ORIGINAL].fits = false;
	chosen(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_else),
		cmocka_unit_test(test_small_prompts_are_left_alone),
		cmocka_unit_test(test_gains),
		cmocka_unit_test(test_warm_prefix),
		cmocka_unit_test(test_stays_on_the_layout),
		cmocka_unit_test(test_must_shrink),
		cmocka_unit_test(test_still_being_made),
		cmocka_unit_test(test_the_queue),
		cmocka_unit_test(test_letters),
		cmocka_unit_test(test_long_reasons),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
