/* Counters of devices that come and go. */
#include "supervisor/devices/totals.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void add(struct totals *t, const char *name, uint64_t n)
{
	struct device_totals d = {.jobs_done = n,
		.jobs_failed = 2 * n,
		.jobs_preempted = n,
		.warmed = n,
		.warmings_cancelled = n,
		.noted = n,
		.notings_cancelled = n,
		.starts = 1};
	snprintf(d.device, sizeof(d.device), "%s", name);
	totals_add(t, &d);
}

static void test_one_name_one_sum(void **state)
{
	struct totals t = {0};
	(void)state;
	add(&t, "gpu0", 3);
	add(&t, "gpu1", 5);
	add(&t, "gpu0", 4);
	assert_int_equal(t.count, 2);
	assert_string_equal(t.of[0].device, "gpu0");
	assert_int_equal(t.of[0].jobs_done, 7);
	assert_int_equal(t.of[0].jobs_failed, 14);
	assert_int_equal(t.of[0].starts, 2);
	assert_int_equal(t.of[0].jobs_preempted, 7);
	assert_int_equal(t.of[0].warmed, 7);
	assert_int_equal(t.of[0].warmings_cancelled, 7);
	assert_int_equal(t.of[0].noted, 7);
	assert_int_equal(t.of[0].notings_cancelled, 7);
	assert_int_equal(t.of[1].jobs_done, 5);
}

/* However many names there were, nothing of the sum is lost. */
static void test_more_names_than_room(void **state)
{
	static struct totals t;
	uint64_t sum = 0;
	(void)state;
	for (int i = 0; i < 3 * (int)TOTALS_MAX; i++) {
		char name[24];
		snprintf(name, sizeof(name), "d%d", i);
		add(&t, name, 1);
	}
	add(&t, "d0", 1);
	assert_int_equal(t.count, TOTALS_MAX);
	for (size_t i = 0; i < t.count; i++)
		sum += t.of[i].jobs_done;
	assert_int_equal(sum, 3 * TOTALS_MAX + 1);
	assert_string_equal(t.of[TOTALS_MAX - 1].device, TOTALS_OTHERS);
	assert_int_equal(t.of[0].jobs_done, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_name_one_sum),
		cmocka_unit_test(test_more_names_than_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
