/* tandemd's own life: the table. There are no doors, no signals and no processes; one device has a worker that is made
 * of notes (workers.h). */
#include "common/base/log.h"
#include "supervisor/life/life.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/workers.h"

static struct requests requests;
static struct life life;

static unsigned left; /* how often it was said that what has no end is to end */

static void on_leaving(void *ctx)
{
	assert_ptr_equal(ctx, &life);
	left++;
}

static int setup(void **state)
{
	(void)state;
	log_init("test", NULL, LOG_ERROR + 1, LOG_LOGFMT, false);
	workers_setup();
	memset(&life, 0, sizeof(life));
	memset(&requests, 0, sizeof(requests));
	life.config = &workers->config;
	life.devices = &workers->devices;
	life.requests = &requests;
	life.successor.handover.listen_fd = life.successor.handover.talk_fd = -1;
	static const struct life_events events = {.leaving = on_leaving};
	left = 0;
	life_init(&life, &workers->loop, &events, &life);
	workers->d->current->state = WORKER_READY;
	workers_spawn(workers->d->current);
	workers_done();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	life_fini(&life);
	workers_teardown();
	return 0;
}

static bool stopped(void)
{
	return workers->loop.stop_flag;
}

static void test_it_drains_then_ends_with_its_last_worker(void **state)
{
	(void)state;
	requests.active = 2;
	life_event(&life, LIFE_TERM);
	assert_int_equal(life.state, LIFE_DRAINING);
	assert_int_equal(left, 1);
	assert_true(workers->devices.stopping);
	assert_int_equal(uv_timer_get_due_in(&life.timer), workers->config.deadlines.drain_ms);
	requests.active = 1;
	life_event(&life, LIFE_LOOK);
	assert_int_equal(life.state, LIFE_DRAINING);
	assert_string_equal(workers_done(), "");
	requests.active = 0;
	life_event(&life, LIFE_LOOK);
	assert_int_equal(life.state, LIFE_ENDING);
	assert_true(requests.ending);
	assert_string_equal(workers_done(), "kill:TERM");
	assert_false(stopped());
	workers_exit(workers->d->current);
	life_event(&life, LIFE_LOOK);
	assert_true(stopped());
}

static void test_told_twice_or_too_late_it_ends_at_once(void **state)
{
	(void)state;
	enum life_event again[] = {LIFE_TERM, LIFE_TIMER, LIFE_END};
	for (size_t i = 0; i < 3; i++) {
		teardown(NULL);
		setup(NULL);
		requests.active = 1;
		life_event(&life, LIFE_TERM);
		life_event(&life, again[i]);
		assert_int_equal(life.state, LIFE_ENDING);
		assert_string_equal(workers_done(), "kill:TERM");
	}
}

static void test_it_retires_and_ends_once_the_upgrade_is_settled(void **state)
{
	(void)state;
	life.upgrade.state = UPGRADE_HANDED;
	life_event(&life, LIFE_HANDED);
	assert_int_equal(life.state, LIFE_RETIRING);
	assert_int_equal(left, 1);
	assert_true(workers->devices.keep_backends);
	assert_false(workers->devices.stopping);
	life_event(&life, LIFE_TIMER); /* it may be called back yet */
	assert_int_equal(life.state, LIFE_RETIRING);
	life.upgrade.state = UPGRADE_SETTLED;
	requests.active = 1;
	life_event(&life, LIFE_TIMER);
	assert_int_equal(life.state, LIFE_RETIRING);
	requests.active = 0;
	life_event(&life, LIFE_TIMER);
	assert_int_equal(life.state, LIFE_ENDING);
}

static void test_it_serves_again_when_its_successor_has_died(void **state)
{
	(void)state;
	life.upgrade.state = UPGRADE_HANDED;
	life_event(&life, LIFE_HANDED);
	life_event(&life, LIFE_BACK);
	assert_int_equal(life.state, LIFE_RUNNING);
	assert_false(uv_is_active((uv_handle_t *)&life.timer));
	life_event(&life, LIFE_TERM);
	life_event(&life, LIFE_BACK); /* not once it ends */
	assert_int_equal(life.state, LIFE_ENDING);
}

/* Older tandemds and processes of an upgrade are waited for; the older ones not for ever. */
static void test_whom_the_end_waits_for(void **state)
{
	(void)state;
	life.elders.count = 1;
	life.upgrade.state = UPGRADE_UNDOING;
	life_event(&life, LIFE_END);
	workers_exit(workers->d->current);
	life_event(&life, LIFE_LOOK);
	assert_false(stopped());
	life.upgrade.state = UPGRADE_IDLE;
	life_event(&life, LIFE_LOOK);
	assert_false(stopped());
	life.elders.count = 0;
	life_event(&life, LIFE_TIMER);
	assert_true(stopped());
}

static void test_what_a_state_does_not_know_is_ignored(void **state)
{
	(void)state;
	life_event(&life, LIFE_LOOK);
	life_event(&life, LIFE_TIMER);
	life_event(&life, LIFE_BACK);
	assert_int_equal(life.state, LIFE_RUNNING);
	assert_string_equal(workers_done(), "");
	life_event(&life, LIFE_END);
	workers_done();
	life_event(&life, LIFE_HANDED);
	life_event(&life, LIFE_END);
	assert_int_equal(life.state, LIFE_ENDING);
	assert_string_equal(workers_done(), "");
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_it_drains_then_ends_with_its_last_worker),
		TEST(test_told_twice_or_too_late_it_ends_at_once),
		TEST(test_it_retires_and_ends_once_the_upgrade_is_settled),
		TEST(test_it_serves_again_when_its_successor_has_died),
		TEST(test_whom_the_end_waits_for),
		TEST(test_what_a_state_does_not_know_is_ignored),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
