/* What an operator has asked for: parts, outcomes, and how long they are remembered. */
#include "supervisor/life/operation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_parts_end_one_by_one(void **state)
{
	(void)state;
	struct operations o = {0};
	uint64_t id = operation_begin(&o, "restart", "all", 2, 5)->id;
	operation_part_ended(&o, id, true, "gpu0: ready", 6);
	assert_int_equal(operation_find(&o, id)->state, OPERATION_RUNNING);
	assert_int_equal(operation_find(&o, id)->ended_ms, 0);
	operation_part_ended(&o, id, true, "gpu1: ready", 9);
	const struct operation *op = operation_find(&o, id);
	assert_int_equal(op->state, OPERATION_DONE);
	assert_int_equal(op->ended_ms, 9);
	assert_string_equal(op->why, "gpu0: ready; gpu1: ready");
	assert_string_equal(operation_state_name(op->state), "done");
	operation_part_ended(&o, id, false, "late", 10); /* it is over */
	assert_int_equal(operation_find(&o, id)->state, OPERATION_DONE);
}

static void test_one_failed_part_fails_it(void **state)
{
	(void)state;
	struct operations o = {0};
	uint64_t id = operation_begin(&o, "restart", "all", 1, 0)->id;
	operation_add_part(&o, id);
	operation_part_ended(&o, id, false, "gpu0: no", 1);
	operation_part_ended(&o, id, true, NULL, 2);
	assert_int_equal(operation_find(&o, id)->state, OPERATION_FAILED);
	assert_string_equal(operation_find(&o, id)->why, "gpu0: no");
}

static void test_nothing_to_do_is_done(void **state)
{
	(void)state;
	struct operations o = {0};
	assert_int_equal(operation_begin(&o, "restart", "all", 0, 7)->state, OPERATION_DONE);
}

static void test_old_ones_are_forgotten_not_mixed_up(void **state)
{
	(void)state;
	struct operations o = {0};
	char long_why[2 * OPERATION_WHY_BYTES];
	uint64_t first = operation_begin(&o, "reset", "gpu0", 1, 0)->id;
	for (int i = 0; i < OPERATIONS_KEPT; i++)
		operation_begin(&o, "reset", "gpu1", 1, 0);
	assert_null(operation_find(&o, first));
	assert_null(operation_find(&o, 0));
	operation_part_ended(&o, first, false, "x", 1); /* its place belongs to another one */
	const struct operation *last = operation_find(&o, first + OPERATIONS_KEPT);
	assert_non_null(last);
	assert_int_equal(last->state, OPERATION_RUNNING);
	memset(long_why, 'y', sizeof(long_why) - 1);
	long_why[sizeof(long_why) - 1] = '\0';
	operation_part_ended(&o, last->id, false, long_why, 1);
	assert_int_equal(strlen(last->why), OPERATION_WHY_BYTES - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts_end_one_by_one),
		cmocka_unit_test(test_one_failed_part_fails_it),
		cmocka_unit_test(test_nothing_to_do_is_done),
		cmocka_unit_test(test_old_ones_are_forgotten_not_mixed_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
