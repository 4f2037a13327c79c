/* The life of a worker: its table, without a process. */
#include "common/base/log.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/workers.h"

static enum after_death verdict;
static bool may_spawn;

static bool on_may_spawn(struct worker *w)
{
	(void)w;
	return may_spawn;
}

static enum after_death on_died(struct worker *w)
{
	(void)w;
	workers_note("died");
	return verdict;
}

static void on_state(struct worker *w)
{
	workers_note(worker_state_name(w->state));
}

static void on_ready(struct worker *w)
{
	(void)w;
	workers_note("is-ready");
}

static void on_unready(struct worker *w)
{
	(void)w;
	workers_note("is-unready");
}

static void on_failed(struct worker *w)
{
	(void)w;
	workers_note("has-failed");
}

static void on_late(struct worker *w)
{
	(void)w;
	workers_note("late");
}

static void on_stuck(struct worker *w)
{
	(void)w;
	workers_note("stuck");
}

static void on_gone(struct worker *w)
{
	(void)w;
	workers_note("gone");
}

static const struct worker_events events = {.may_spawn = on_may_spawn,
	.died = on_died,
	.state = on_state,
	.ready = on_ready,
	.unready = on_unready,
	.failed = on_failed,
	.late = on_late,
	.stuck = on_stuck,
	.gone = on_gone};

static int setup(void **state)
{
	(void)state;
	log_init("test", NULL, LOG_ERROR, LOG_LOGFMT, false);
	workers_setup();
	workers->d->current->on = &events;
	may_spawn = true;
	verdict = AFTER_DEATH_BACK_OFF;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	workers_teardown();
	return 0;
}

static struct worker *in(enum worker_state s)
{
	struct worker *w = workers->d->current;
	workers_spawn(w);
	if (s == WORKER_STOPPED || s == WORKER_BACKOFF || s == WORKER_FAILED) { /* have none */
		free(w->process);
		w->process = NULL;
	}
	w->state = s;
	workers_done();
	return w;
}

#define EVENT(w, e, then)                                                                          \
	do {                                                                                       \
		worker_event(w, e);                                                                \
		assert_string_equal(workers_done(), then);                                         \
	} while (0)

static uint64_t timer_ms(const struct worker *w)
{
	return uv_is_active((const uv_handle_t *)&w->timer) ? uv_timer_get_due_in(&w->timer) : 0;
}

static void test_from_start_to_ready(void **state)
{
	(void)state;
	struct worker *w = workers->d->current;
	EVENT(w, EV_START, "spawn spawning");
	assert_int_equal(timer_ms(w), workers->config.deadlines.hello_ms);
	EVENT(w, EV_HELLO, "ack loading is-unready");
	assert_int_equal(timer_ms(w), 0);
	EVENT(w, EV_NOT_READY, "");
	EVENT(w, EV_READY, "ready is-ready");
	EVENT(w, EV_READY, "is-ready");
	EVENT(w, EV_NOT_READY, "loading is-unready");
}

static void test_what_a_state_does_not_know_is_ignored(void **state)
{
	(void)state;
	/* states x events that do something */
	static const unsigned known[WORKER_STATES] = {
		[WORKER_STOPPED] = 1u << EV_START,
		[WORKER_SPAWNING] = 1u << EV_HELLO | 1u << EV_EXIT | 1u << EV_TIMER |
				    1u << EV_GIVE_UP | 1u << EV_DRAIN | 1u << EV_STOP,
		[WORKER_LOADING] = 1u << EV_READY | 1u << EV_EXIT | 1u << EV_TIMER |
				   1u << EV_SILENT | 1u << EV_GIVE_UP | 1u << EV_DRAIN |
				   1u << EV_STOP,
		[WORKER_READY] = 1u << EV_READY | 1u << EV_NOT_READY | 1u << EV_EXIT |
				 1u << EV_SILENT | 1u << EV_GIVE_UP | 1u << EV_DRAIN |
				 1u << EV_STOP,
		[WORKER_DRAINING] = 1u << EV_EXIT | 1u << EV_TIMER | 1u << EV_SILENT |
				    1u << EV_GIVE_UP | 1u << EV_STOP,
		[WORKER_STOPPING] = 1u << EV_EXIT | 1u << EV_TIMER | 1u << EV_GIVE_UP,
		[WORKER_DYING] = 1u << EV_EXIT | 1u << EV_TIMER | 1u << EV_STOP,
		[WORKER_BACKOFF] = 1u << EV_TIMER | 1u << EV_START | 1u << EV_DRAIN | 1u << EV_STOP,
		[WORKER_FAILED] = 1u << EV_START | 1u << EV_DRAIN | 1u << EV_STOP,
	};
	for (enum worker_state s = 0; s < WORKER_STATES; s++)
		for (enum worker_event e = 0; e < WORKER_EVENTS; e++) {
			workers_teardown();
			setup(NULL);
			struct worker *w = in(s);
			worker_event(w, e);
			assert_int_equal(
				workers_done()[0] != '\0' || w->state != s, (known[s] >> e) & 1u);
		}
}

static void test_deaths_back_off_longer_and_longer(void **state)
{
	(void)state;
	workers->config.backoff.first_ms = 100;
	workers->config.backoff.max_ms = 350;
	struct worker *w = in(WORKER_LOADING);
	static const uint64_t waits[] = {100, 200, 350, 350};
	for (size_t i = 0; i < 4; i++) {
		EVENT(w, EV_EXIT, "died back-off");
		assert_int_equal(timer_ms(w), waits[i]);
		free(w->process);
		EVENT(w, EV_TIMER, "spawn spawning");
	}
	assert_int_equal(workers->d->restarts, 4);
	/* Ready for as long as the longest delay: it begins anew. */
	w->state = WORKER_READY;
	w->ready_since_ms = now_ms() - 350;
	EVENT(w, EV_EXIT, "died back-off");
	assert_int_equal(timer_ms(w), 100);
}

static void test_too_many_deaths_fail(void **state)
{
	(void)state;
	struct worker *w = in(WORKER_READY);
	verdict = AFTER_DEATH_FAIL;
	EVENT(w, EV_EXIT, "died failed has-failed");
	EVENT(w, EV_TIMER, "");
	free(w->process);
	EVENT(w, EV_START, "spawn spawning");
	verdict = AFTER_DEATH_END;
	EVENT(w, EV_EXIT, "died stopped");
}

static void test_one_that_cannot_be_spawned_has_died(void **state)
{
	(void)state;
	struct worker *w = workers->d->current;
	workers->spawn_rc = UV_ENOMEM;
	EVENT(w, EV_START, "died back-off");
	assert_non_null(strstr(workers->d->last_exit, "not started"));
}

static void test_it_waits_for_a_former_backend(void **state)
{
	(void)state;
	struct worker *w = workers->d->current;
	may_spawn = false;
	EVENT(w, EV_START, "back-off");
	EVENT(w, EV_TIMER, "");
	may_spawn = true;
	EVENT(w, EV_TIMER, "spawn spawning");
	assert_int_equal(workers->d->restarts, 0); /* that was no death */
}

static void test_one_that_hangs_is_aborted_then_killed(void **state)
{
	(void)state;
	struct worker *w = in(WORKER_READY);
	EVENT(w, EV_SILENT, "kill:ABRT kill:CONT dying");
	EVENT(w, EV_TIMER, "kill:KILL");
	EVENT(w, EV_TIMER, "kill:KILL stuck");
	EVENT(w, EV_EXIT, "died back-off");
}

static void test_it_drains_then_is_told_to_stop_then_killed(void **state)
{
	(void)state;
	struct worker *w = in(WORKER_READY);
	worker_drain(w, true);
	assert_string_equal(workers_done(), "drain:keep draining is-unready");
	EVENT(w, EV_TIMER, "kill:TERM stopping");
	EVENT(w, EV_TIMER, "kill:KILL");
	EVENT(w, EV_TIMER, "abandon");
	EVENT(w, EV_EXIT, "stopped");
}

static void test_a_boot_that_is_late(void **state)
{
	(void)state;
	struct device *d = workers->d;
	struct worker *w = in(WORKER_SPAWNING);
	d->operation = 7;
	EVENT(w, EV_HELLO, "ack loading is-unready");
	assert_int_equal(timer_ms(w), workers->config.deadlines.worker_boot_ms);
	EVENT(w, EV_TIMER, "late");
	d->next = w; /* a next one is given up */
	EVENT(w, EV_TIMER, "kill:KILL dying");
	d->next = NULL;
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_from_start_to_ready),
		TEST(test_what_a_state_does_not_know_is_ignored),
		TEST(test_deaths_back_off_longer_and_longer),
		TEST(test_too_many_deaths_fail),
		TEST(test_one_that_cannot_be_spawned_has_died),
		TEST(test_it_waits_for_a_former_backend),
		TEST(test_one_that_hangs_is_aborted_then_killed),
		TEST(test_it_drains_then_is_told_to_stop_then_killed),
		TEST(test_a_boot_that_is_late),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
