/* Predicted times: learning from a true device, wrong starts, the inverse, what is kept. */
#include "supervisor/devices/predict.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* The device as it is: R tokens a second, half of that at a depth of `half`. */
struct truth {
	double tok_s, half;
};

static double true_ms(const struct truth *t, double depth, double fresh)
{
	return fresh * 1000 / t->tok_s * (1 + (depth + fresh / 2) / t->half);
}

static double off(const struct predict_rates *r, const struct truth *t, double depth, double fresh)
{
	return fabs(predict_prefill_ms(r, depth, fresh) / true_ms(t, depth, fresh) - 1);
}

/* The i-th request of a work day: a session that grows, a cold prompt now and then. */
static void request(int i, double *depth, double *fresh)
{
	static const double cold[] = {3500, 11000, 25000, 32000};
	*depth = i % 3 == 2 ? 0 : 8000 + 900.0 * i;
	*fresh = i % 3 == 2 ? cold[i / 3 % 4] : 300 + 137.0 * (i % 7);
}

static void teach(struct predict_rates *r, const struct truth *t, int from, int n, double noise)
{
	for (int i = from; i < from + n; i++) {
		double depth, fresh;
		request(i, &depth, &fresh);
		double wrong = i % 2 ? 1 + noise : 1 - noise;
		predict_learn(r, depth, fresh, true_ms(t, depth, fresh) * wrong);
	}
}

static const struct truth cards[] = {
	{1450, 20000}, {800, 20000}, {350, 4000}, {9000, 20000}, {32, 4000}, {60000, 100000}};

static void test_start(void **state)
{
	(void)state;
	struct predict_rates r;
	predict_init(&r);
	assert_true(predict_prefill_ms(&r, 0, 0) == 0);
	assert_true(fabs(predict_prefill_ms(&r, 0, 800) - 1000) < 60);
	double shallow = predict_prefill_ms(&r, 0, 1000),
	       deep = predict_prefill_ms(&r, 20000, 1000);
	assert_true(deep > 1.7 * shallow && deep < 2.5 * shallow);
}

static void test_first_measurement_counts_whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cards) / sizeof(cards[0]); i++) {
		struct predict_rates r;
		predict_init(&r);
		double ms = true_ms(&cards[i], 0, 5000);
		if (ms / predict_prefill_ms(&r, 0, 5000) > 8 ||
			predict_prefill_ms(&r, 0, 5000) / ms > 8)
			continue; /* clipped: takes a few */
		predict_learn(&r, 0, 5000, ms);
		assert_true(fabs(predict_prefill_ms(&r, 0, 5000) / ms - 1) < 0.001);
	}
}

/* Every device of the list, from the start: after a day's 60 requests each is predicted well. */
static void test_learns_every_card(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cards) / sizeof(cards[0]); i++) {
		struct predict_rates r;
		predict_init(&r);
		teach(&r, &cards[i], 0, 60, 0);
		for (int k = 60; k < 80; k++) {
			double depth, fresh;
			request(k, &depth, &fresh);
			assert_true(off(&r, &cards[i], depth, fresh) < 0.1);
		}
	}
}

/* What was learned is wrong by a factor of three, either way, at any depth of what comes next. */
static void test_back_in_ten(void **state)
{
	(void)state;
	static const double wrong[] = {3, 1 / 3.0, 1.5, 1 / 1.5};
	for (size_t w = 0; w < sizeof(wrong) / sizeof(wrong[0]); w++) {
		struct truth t = cards[0];
		struct predict_rates r;
		predict_init(&r);
		teach(&r, &t, 0, 120, 0);
		r.base *= wrong[w];
		r.slope *= wrong[w];
		r.ay *= wrong[w];
		r.by *= wrong[w];
		teach(&r, &t, 0, 10, 0);
		for (int k = 0; k < 10; k++) {
			double depth, fresh;
			request(k, &depth, &fresh);
			assert_true(off(&r, &t, depth, fresh) < 0.05);
		}
		/* also where none of the ten was */
		assert_true(off(&r, &t, 40000, 2000) < 0.08);
	}
}

static void test_the_start_is_three_times_off(void **state)
{
	(void)state;
	for (int up = 0; up < 2; up++) {
		struct truth t = {up ? 2400 : 267, 20000};
		struct predict_rates r;
		predict_init(&r);
		struct truth start = {PREDICT_START_TOK_S, PREDICT_HALF_DEPTH};
		teach(&r, &start, 0, 50, 0); /* as if it had been learned */
		teach(&r, &t, 0, 10, 0);
		double depth, fresh;
		request(10, &depth, &fresh);
		assert_true(off(&r, &t, depth, fresh) < 0.05);
	}
}

static void test_noise_does_not_add_up(void **state)
{
	(void)state;
	struct truth t = cards[1];
	struct predict_rates r;
	predict_init(&r);
	teach(&r, &t, 0, 60, 0);
	teach(&r, &t, 60, 60, 0.25);
	for (int k = 120; k < 130; k++) {
		double depth, fresh;
		request(k, &depth, &fresh);
		assert_true(off(&r, &t, depth, fresh) < 0.2);
	}
}

/* One absurd report is no ruin, and nonsense teaches nothing. */
static void test_absurd_reports(void **state)
{
	(void)state;
	struct truth t = cards[0];
	struct predict_rates r, before;
	predict_init(&r);
	teach(&r, &t, 0, 30, 0);
	before = r;
	predict_learn(&r, 0, 63, 5);
	predict_learn(&r, 0, 1000, 0);
	predict_learn(&r, 0, 1000, -1);
	predict_learn(&r, -1, 1000, 5);
	predict_learn(&r, 0, NAN, 5);
	predict_learn(&r, 0, 1000, INFINITY);
	predict_learn(&r, 0, INFINITY, 1000);
	assert_memory_equal(&r, &before, sizeof(r));
	predict_learn(&r, 0, 5000, true_ms(&t, 0, 5000) * 1e6);
	assert_true(off(&r, &t, 0, 5000) < 2);
	for (int i = 0; i < 10000; i++)
		predict_learn(&r, 0, 1e6, 1e-9);
	assert_true(predict_prefill_ms(&r, 0, 1000) > 0);
	for (int i = 0; i < 10000; i++)
		predict_learn(&r, 1e6, 1e6, 1e15);
	assert_true(isfinite(predict_prefill_ms(&r, 0, 1e6)));
}

static void test_inverse(void **state)
{
	(void)state;
	struct predict_rates r;
	predict_init(&r);
	teach(&r, &cards[2], 0, 60, 0);
	for (double total = 100; total < 200000; total *= 1.7)
		for (double share = 0.01; share <= 1; share += 0.09) {
			double fresh = total * share;
			double ms = predict_prefill_ms(&r, total - fresh, fresh);
			assert_true(fabs(predict_fresh(&r, total, ms) - fresh) < 1e-6 * total);
		}
	assert_true(predict_fresh(&r, 1000, 1e12) == 1000);
	assert_true(predict_fresh(&r, 1000, 0) == 0);
}

static void test_overhead(void **state)
{
	(void)state;
	struct predict_rates r;
	predict_init(&r);
	predict_learn_overhead(&r, 150);
	assert_true(r.overhead_ms == 150);
	for (int i = 0; i < 20; i++)
		predict_learn_overhead(&r, 40);
	assert_true(fabs(r.overhead_ms - 40) < 1);
	predict_learn_overhead(&r, -500);
	predict_learn_overhead(&r, NAN);
	predict_learn_overhead(&r, 1e12);
	assert_true(r.overhead_ms >= 0 && r.overhead_ms <= PREDICT_OVERHEAD_MAX_MS);
	assert_true(
		predict_first_ms(&r, 0, 1000) == r.overhead_ms + predict_prefill_ms(&r, 0, 1000));
}

static void test_kept(void **state)
{
	(void)state;
	struct predict_rates r, again;
	struct buf saved;
	buf_init(&saved, PREDICT_BYTES);
	predict_init(&r);
	teach(&r, &cards[0], 0, 30, 0.1);
	predict_learn_overhead(&r, 33);
	assert_int_equal(predict_save(&r, &saved), 0);
	assert_true(predict_load(&again, buf_slice(&saved)));
	assert_true(fabs(predict_first_ms(&again, 5000, 700) / predict_first_ms(&r, 5000, 700) -
			    1) < 1e-6);
	assert_true(again.prefills == r.prefills);
	/* every shorter one, and every one with a byte changed, is refused or gives sane rates */
	for (size_t n = 0; n < saved.n; n++) {
		bool good = predict_load(&again, (struct slice){saved.p, n});
		double ms = predict_prefill_ms(&again, 0, 1000);
		assert_true(isfinite(ms) && ms > 0);
		assert_true(!good || n > saved.n - 12); /* the last number cut short */
		char c = saved.p[n];
		saved.p[n] = 'x';
		assert_false(predict_load(&again, buf_slice(&saved)) && c != ' ' && n < 2);
		ms = predict_prefill_ms(&again, 0, 1000);
		assert_true(isfinite(ms) && ms > 0);
		saved.p[n] = c;
	}
	static const char rest[] = " 5 5 30 1 1 1 1 1 1 1 0.1 0 1 1 1 1 1 1 1 1 1";
	static const struct {
		const char *begin;
		const char *end;
		bool good;
	} cases[] = {{"1", "", true}, {"2", "", false}, {"1", " 1", false}, {"1", " x", false},
		{"1 nan", "", false}, {"", "", false}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buf_clear(&saved);
		buf_printf(&saved, "%s%s%s", cases[i].begin, rest, cases[i].end);
		assert_true(predict_load(&again, buf_slice(&saved)) == cases[i].good);
	}
	assert_false(predict_load(
		&again, SLICE("1 5 5 30 0 1 1 1 1 1 1 0.1 0 1 1 1 1 1 1 1 1 1"))); /* free */
	assert_false(predict_load(&again, SLICE("1 5 5 30 1 1 1 1 1 1 1 0.1 0 1 1 1 1 1 1 1 1 9")));
	buf_free(&saved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_first_measurement_counts_whole),
		cmocka_unit_test(test_learns_every_card),
		cmocka_unit_test(test_back_in_ten),
		cmocka_unit_test(test_the_start_is_three_times_off),
		cmocka_unit_test(test_noise_does_not_add_up),
		cmocka_unit_test(test_absurd_reports),
		cmocka_unit_test(test_inverse),
		cmocka_unit_test(test_overhead),
		cmocka_unit_test(test_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
