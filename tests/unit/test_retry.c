/* Whether a failed answer is tried again: a pure function. */
#include "supervisor/devices/job.h"
#include "supervisor/requests/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct retry_facts facts(int cause, bool begun)
{
	return (struct retry_facts){
		.cause = cause, .begun = begun, .poison_at = 2, .deaths_max = 8};
}

static enum retry what(const struct retry_facts *f, struct retry_counts *n)
{
	return retry_decide(f, n).what;
}

static void test_each_cause_by_itself(void **state)
{
	static const struct {
		int cause;
		enum retry whole, begun;
		bool death;
	} cases[] = {
		{JOB_LOST, RETRY_AGAIN, RETRY_AGAIN, true},
		{FAIL_CUT, RETRY_AGAIN, RETRY_AGAIN, true},
		{FAIL_CLOSED, RETRY_AGAIN, RETRY_AGAIN, false},
		{FAIL_UNREACHABLE, RETRY_AGAIN, RETRY_AGAIN, false},
		{FAIL_DRAINING, RETRY_AGAIN, RETRY_AGAIN, false},
		{FAIL_GONE, RETRY_AGAIN, RETRY_AGAIN, false},
		{FAIL_OVERFLOW, RETRY_NOT, RETRY_NOT, false},
		{FAIL_STATUS, RETRY_NOT, RETRY_NOT, false},
		{FAIL_GARBAGE, RETRY_NOT, RETRY_NOT, false},
		{FAIL_CANCELLED, RETRY_NOT, RETRY_NOT, false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		for (int begun = 0; begun < 2; begun++) {
			struct retry_facts f = facts(cases[i].cause, begun);
			struct retry_counts n = {0};
			struct retry_decision d = retry_decide(&f, &n);
			assert_int_equal(d.what, begun ? cases[i].begun : cases[i].whole);
			assert_int_equal(d.death, cases[i].death);
			assert_int_equal(n.deaths, cases[i].death);
		}
}

static void test_another_form_first(void **state)
{
	(void)state;
	struct retry_counts n = {0};
	struct retry_facts f = facts(FAIL_STATUS, false);
	f.original = true;
	assert_int_equal(what(&f, &n), RETRY_ORIGINAL);
	f.cause = FAIL_CUT;
	assert_int_equal(what(&f, &n), RETRY_ORIGINAL);
	assert_int_equal(n.deaths, 0); /* the form may be to blame */
	f.cause = JOB_LOST;
	assert_int_equal(what(&f, &n), RETRY_AGAIN);
	f = facts(FAIL_OVERFLOW, false);
	f.shorter = true;
	assert_int_equal(what(&f, &n), RETRY_SHORTER);
	f.begun = true; /* too late for any */
	assert_int_equal(what(&f, &n), RETRY_NOT);
	f.cause = FAIL_STATUS;
	f.original = true;
	assert_int_equal(what(&f, &n), RETRY_NOT);
}

static void test_deaths_without_a_byte_between_are_poison(void **state)
{
	(void)state;
	for (int begun = 0; begun < 2; begun++) {
		struct retry_counts n = {0};
		struct retry_facts f = facts(JOB_LOST, begun);
		assert_int_equal(what(&f, &n), RETRY_AGAIN);
		f.blameless = true;
		for (int i = 0; i < 5; i++)
			assert_int_equal(what(&f, &n), RETRY_AGAIN);
		f.blameless = false;
		assert_int_equal(what(&f, &n), RETRY_POISON);
	}
}

static void test_deaths_that_advance_are_bounded(void **state)
{
	(void)state;
	struct retry_counts n = {0};
	struct retry_facts f = facts(FAIL_CUT, true);
	f.advanced = true;
	f.deaths_max = 3;
	for (int i = 0; i < 3; i++)
		assert_int_equal(what(&f, &n), RETRY_AGAIN);
	assert_int_equal(what(&f, &n), RETRY_NOT);
	assert_int_equal(n.idle_deaths, 0);
}

static void test_weather_is_free_once(void **state)
{
	(void)state;
	struct retry_counts n = {0};
	struct retry_facts f = facts(FAIL_CLOSED, false);
	assert_int_equal(what(&f, &n), RETRY_AGAIN);
	assert_int_equal(what(&f, &n), RETRY_AGAIN);
	assert_int_equal(n.deaths, 1);
	assert_int_equal(what(&f, &n), RETRY_POISON);
}

static void test_where_nothing_can_go_on(void **state)
{
	(void)state;
	struct retry_counts n = {0};
	struct retry_facts f = facts(FAIL_CUT, true);
	f.stuck = true;
	assert_int_equal(what(&f, &n), RETRY_STUCK);
	assert_int_equal(n.deaths, 1); /* it counts all the same */
	f.begun = false;	       /* the whole request does not care */
	f.advanced = true;
	assert_int_equal(what(&f, &n), RETRY_AGAIN);
}

static void test_one_timeout(void **state)
{
	(void)state;
	struct retry_counts n = {0};
	struct retry_facts f = facts(FAIL_TIMEOUT, true);
	f.advanced = true;
	assert_int_equal(what(&f, &n), RETRY_AGAIN);
	assert_int_equal(what(&f, &n), RETRY_NOT);
	f.begun = false;
	assert_int_equal(what(&f, &n), RETRY_NOT);
}

/* The backend has the stream no more: at once, and only where the text can be gone on with. */
static void test_a_kept_stream_that_is_gone(void **state)
{
	(void)state;
	struct retry_counts n = {0};
	struct retry_facts f = facts(FAIL_GONE, true);
	f.same_device = f.same_worker = true;
	for (int i = 0; i < 2 * RETRY_MAX; i++)
		assert_int_equal(what(&f, &n), RETRY_AGAIN);
	f.stuck = true;
	assert_int_equal(what(&f, &n), RETRY_STUCK);
	assert_int_equal(n.deaths, 0);
}

/* The same worker, whose backend is not there: pauses that double, and an end. */
static void test_pauses_double(void **state)
{
	(void)state;
	struct retry_counts n = {0};
	struct retry_facts f = facts(FAIL_UNREACHABLE, false);
	f.same_device = f.same_worker = true;
	for (unsigned i = 0; i < RETRY_MAX; i++) {
		struct retry_decision d = retry_decide(&f, &n);
		assert_int_equal(d.what, RETRY_PAUSE);
		assert_int_equal(d.pause_ms, RETRY_MS << i);
	}
	assert_int_equal(what(&f, &n), RETRY_NOT);
	f.same_worker = false; /* its successor has tries of its own */
	assert_int_equal(retry_decide(&f, &n).pause_ms, RETRY_MS);
	f.same_worker = true;
	assert_int_equal(retry_decide(&f, &n).pause_ms, RETRY_MS * 2);
	f.advanced = true;
	assert_int_equal(retry_decide(&f, &n).pause_ms, RETRY_MS);
	f.same_device = false;
	assert_int_equal(what(&f, &n), RETRY_AGAIN);
	f = facts(JOB_LOST, false); /* its job waits for the next READY anyway */
	f.same_device = f.same_worker = true;
	assert_int_equal(what(&f, &n), RETRY_AGAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_cause_by_itself),
		cmocka_unit_test(test_another_form_first),
		cmocka_unit_test(test_deaths_without_a_byte_between_are_poison),
		cmocka_unit_test(test_deaths_that_advance_are_bounded),
		cmocka_unit_test(test_weather_is_free_once),
		cmocka_unit_test(test_where_nothing_can_go_on),
		cmocka_unit_test(test_one_timeout),
		cmocka_unit_test(test_a_kept_stream_that_is_gone),
		cmocka_unit_test(test_pauses_double),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
