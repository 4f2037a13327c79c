/* How one worker of a device follows another: the table, with the table of the workers, without processes. */
#include "common/base/log.h"
#include "supervisor/devices/succession.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/workers.h"

static void become(struct worker *w, enum worker_state to)
{
	if (w->state == WORKER_STOPPED)
		worker_start(w);
	if (to != WORKER_SPAWNING && w->state == WORKER_SPAWNING)
		worker_event(w, EV_HELLO);
	if (to == WORKER_READY)
		worker_event(w, EV_READY);
	assert_int_equal(w->state, to);
}

static int setup(void **state)
{
	(void)state;
	log_init("test", NULL, LOG_ERROR + 1, LOG_LOGFMT, false);
	workers_setup();
	become(workers->d->current, WORKER_READY);
	workers_done();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	workers_teardown();
	return 0;
}

#define DONE(text) assert_string_equal(workers_done(), text)

static void test_a_restart_beside(void **state)
{
	(void)state;
	struct device *d = workers->d;
	struct worker *old = d->current;
	assert_int_equal(device_restart(d, false, 7), 0);
	DONE("spawn");
	assert_int_equal(d->succession, BESIDE);
	assert_true(device_busy(d));
	assert_int_equal(device_restart(d, false, 8), -EBUSY);
	struct worker *next = d->next;
	become(next, WORKER_LOADING);
	assert_ptr_equal(d->current, old);
	workers_done();
	worker_event(next, EV_READY);
	DONE("drain:keep [7 ok gpu0: generation 2 is ready]");
	assert_ptr_equal(d->current, next);
	assert_null(d->next);
	assert_int_equal(d->succession, SETTLED);
	assert_false(device_busy(d));
	workers_exit(old); /* frees it */
	assert_ptr_equal(TAILQ_FIRST(&d->workers), next);
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): compared above */
	assert_null(TAILQ_NEXT(next, link));
}

static void test_a_next_one_that_dies_leaves_all_as_it_was(void **state)
{
	(void)state;
	struct device *d = workers->d;
	struct worker *old = d->current;
	struct config_device *conf = calloc(1, sizeof(*conf));
	strcpy(conf->name, "gpu0");
	conf->slots = 5;
	assert_int_equal(device_reconfigure(d, conf, false, true, 7), 0);
	assert_int_equal(d->conf->slots, 5);
	snprintf(d->last_exit, sizeof(d->last_exit), "exit 1");
	workers_done();
	workers_exit(d->next);
	DONE("[7 failed gpu0: the new worker (generation 2) ended before it was ready: exit 1]");
	assert_ptr_equal(d->current, old);
	assert_int_equal(d->conf->slots, 1);
	assert_int_equal(d->succession, SETTLED);
	assert_int_equal(d->death_count, 0);
}

static void test_a_next_one_that_cannot_be_spawned(void **state)
{
	(void)state;
	struct device *d = workers->d;
	workers->spawn_rc = UV_EAGAIN;
	assert_int_equal(device_restart(d, false, 7), 0);
	assert_non_null(strstr(workers_done(), "[7 failed gpu0: the new worker"));
	assert_null(d->next);
	assert_int_equal(d->succession, SETTLED);
	assert_null(TAILQ_NEXT(TAILQ_FIRST(&d->workers), link)); /* it is not left behind */
}

static void test_the_next_one_is_needed_early(void **state)
{
	(void)state;
	struct device *d = workers->d;
	struct worker *old = d->current, *next;
	assert_int_equal(device_restart(d, false, 7), 0);
	next = d->next;
	workers_done();
	workers_exit(old);
	assert_ptr_equal(d->current, next);
	assert_int_equal(d->succession, SETTLED);
	assert_int_equal(d->death_count, 1);
	assert_true(device_busy(d)); /* its order waits for it */
	become(next, WORKER_READY);
	assert_string_equal(workers_done(), "ack [7 ok gpu0: generation 2 is ready]");
	assert_false(device_busy(d));
}

/* While another one boots the operator waits for that one. */
static void test_the_current_ones_word_ends_no_restart(void **state)
{
	(void)state;
	struct device *d = workers->d;
	assert_int_equal(device_restart(d, false, 7), 0);
	workers_done();
	worker_event(d->current, EV_NOT_READY);
	worker_event(d->current, EV_READY);
	DONE("");
	assert_int_equal(d->operation, 7);
}

static void test_a_restart_in_place(void **state)
{
	(void)state;
	struct device *d = workers->d;
	struct worker *w = d->current;
	char program[] = "x", *command[] = {program, NULL};
	((struct config_device *)d->conf)->backend.command = command;
	assert_int_equal(device_restart(d, true, 7), 0);
	DONE("drain");
	assert_int_equal(d->succession, IN_PLACE);
	workers_exit(w);
	DONE("spawn");
	assert_ptr_equal(d->current, w);
	assert_int_equal(w->generation, 2);
	assert_true(device_busy(d));
	become(w, WORKER_READY);
	DONE("ack [7 ok gpu0: generation 2 is ready]");
	assert_int_equal(d->restarts, 0); /* that nobody has ordered */
	((struct config_device *)d->conf)->backend.command = NULL;
}

static void test_one_that_backs_off_is_started_at_once(void **state)
{
	(void)state;
	struct device *d = workers->d;
	workers_exit(d->current);
	assert_int_equal(d->current->state, WORKER_BACKOFF);
	workers_done();
	assert_int_equal(device_restart(d, false, 7), 0);
	DONE("spawn");
	assert_int_equal(d->succession, SETTLED);
	d->last_exit[0] = '\0';
	workers_exit(d->current);
	assert_non_null(strstr(workers_done(), "[7 failed gpu0: the new worker (generation 2)"));
	assert_int_equal(d->current->state, WORKER_BACKOFF);
}

static void test_a_drain_and_a_reset(void **state)
{
	(void)state;
	struct device *d = workers->d;
	assert_int_equal(device_drain(d, 7), 0);
	DONE("drain");
	assert_true(device_drained(d) && device_hopeless(d));
	workers_exit(d->current);
	DONE("[7 ok gpu0: drained]");
	assert_int_equal(d->succession, DRAINED);
	assert_string_equal(device_state_name(d), "drained");
	assert_int_equal(device_drain(d, 8), 0); /* again */
	DONE("[8 ok gpu0: drained]");
	device_reset(d);
	DONE("spawn");
	assert_int_equal(d->succession, SETTLED);
	assert_false(device_hopeless(d));
}

static void test_a_reset_before_it_was_drained(void **state)
{
	(void)state;
	struct device *d = workers->d;
	assert_int_equal(device_drain(d, 7), 0);
	workers_done();
	device_reset(d);
	DONE("[7 failed gpu0: reset before it was drained]");
	assert_int_equal(d->succession, IN_PLACE);
	workers_exit(d->current);
	DONE("spawn");
	assert_int_equal(d->succession, SETTLED);
}

/* It does not even die of KILL: the device is out of use all the same, and stays so. */
static void test_a_drained_one_that_is_stuck(void **state)
{
	(void)state;
	struct device *d = workers->d;
	assert_int_equal(device_drain(d, 7), 0);
	worker_event(d->current, EV_SILENT);
	worker_event(d->current, EV_TIMER);
	workers_done();
	worker_event(d->current, EV_TIMER);
	DONE("kill:KILL [7 ok gpu0: drained]");
	assert_int_equal(d->succession, DRAINED);
}

static void test_one_that_is_stuck_is_replaced(void **state)
{
	(void)state;
	struct device *d = workers->d;
	struct worker *old = d->current;
	worker_event(old, EV_SILENT);
	worker_event(old, EV_TIMER);
	workers_done();
	worker_event(old, EV_TIMER);
	DONE("kill:KILL spawn");
	assert_ptr_not_equal(d->current, old);
	assert_int_equal(d->restarts, 1);
	workers_exit(old); /* at last: it is nobody's any more */
	assert_null(TAILQ_NEXT(TAILQ_FIRST(&d->workers), link));
}

static void test_too_many_deaths_fail_the_device(void **state)
{
	(void)state;
	struct device *d = workers->d;
	workers->config.backoff.max_restarts = 2;
	for (int i = 0; i < 3; i++) {
		assert_int_not_equal(d->current->state, WORKER_FAILED);
		if (d->current->state == WORKER_BACKOFF)
			worker_event(d->current, EV_TIMER);
		workers_exit(d->current);
	}
	assert_int_equal(d->current->state, WORKER_FAILED);
	assert_true(device_hopeless(d));
	device_reset(d);
	assert_int_equal(d->current->state, WORKER_SPAWNING);
	assert_int_equal(d->death_count, 0);
}

static void test_a_removed_device_ends(void **state)
{
	(void)state;
	struct device *d = workers->d;
	assert_int_equal(device_restart(d, false, 7), 0);
	struct worker *next = d->next;
	workers_done();
	device_remove(d);
	DONE("[7 failed gpu0: removed from the configuration] kill:TERM drain");
	assert_null(d->next);
	assert_true(device_hopeless(d));
	workers_exit(next);
	workers_exit(d->current);
	DONE("");
	assert_int_equal(d->current->state, WORKER_STOPPED);
}

static void test_nothing_starts_while_tandemd_ends(void **state)
{
	(void)state;
	struct device *d = workers->d;
	assert_int_equal(device_restart(d, false, 7), 0);
	struct worker *next = d->next;
	workers_done();
	assert_false(device_stop(d));
	DONE("kill:TERM kill:TERM");
	workers_exit(next);
	workers_exit(d->current);
	DONE("");
	assert_true(device_stop(d));
	assert_int_equal(d->current->state, WORKER_STOPPED);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_restart_beside),
		TEST(test_a_next_one_that_dies_leaves_all_as_it_was),
		TEST(test_a_next_one_that_cannot_be_spawned),
		TEST(test_the_next_one_is_needed_early),
		TEST(test_the_current_ones_word_ends_no_restart),
		TEST(test_a_restart_in_place),
		TEST(test_one_that_backs_off_is_started_at_once),
		TEST(test_a_drain_and_a_reset),
		TEST(test_a_reset_before_it_was_drained),
		TEST(test_a_drained_one_that_is_stuck),
		TEST(test_one_that_is_stuck_is_replaced),
		TEST(test_too_many_deaths_fail_the_device),
		TEST(test_a_removed_device_ends),
		TEST(test_nothing_starts_while_tandemd_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
