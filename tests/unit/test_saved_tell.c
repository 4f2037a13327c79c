/* Whose slots hold what was restored: what the workers of one device say of it, without processes. */
#include "common/base/log.h"
#include "supervisor/devices/succession.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/workers.h"

#define CHAT 5

static void tells_state(struct worker *w, enum proto_backend_state state)
{
	w->backend.state = state;
	w->backend.pid = w->pid + 1000;
	w->on->learned(w);
	worker_event(w, state == STATE_READY ? EV_READY : EV_NOT_READY);
}

static void tells_kept(struct worker *w, enum proto_kept what)
{
	struct proto_record r = {.type = PROTO_KEPT};
	r.u.kept.what = what;
	r.u.kept.conversation = CHAT;
	r.u.kept.tokens = 1000;
	r.u.kept.ms = -1;
	w->on->record(w, &r);
}

static const struct saved_chat *chat(void)
{
	return saved_get(&workers->d->foresight.saved, CHAT);
}

static void begins(struct worker *w)
{
	if (w->state == WORKER_STOPPED)
		worker_start(w);
	worker_event(w, EV_HELLO);
	assert_int_equal(w->state, WORKER_LOADING);
}

/* A device with a worker that is ready; a conversation is in a file. */
static int setup(void **state)
{
	struct prefix_chain chain = {0};
	(void)state;
	log_init("test", NULL, LOG_ERROR + 1, LOG_LOGFMT, false);
	workers_setup();
	prefix_add(&chain, SLICE("system"), 1000);
	assert_non_null(saved_put(&workers->d->foresight.saved, CHAT, &chain));
	begins(workers->d->current);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	workers_teardown();
	return 0;
}

static struct worker *a_next_one(void)
{
	assert_int_equal(device_restart(workers->d, false, 7), 0);
	struct worker *next = workers->d->next;
	begins(next);
	return next;
}

static void test_at_a_start(void **state)
{
	(void)state;
	struct worker *w = workers->d->current;
	tells_kept(w, KEPT_RESTORED);
	assert_false(chat()->loaded);
	tells_state(w, STATE_READY);
	assert_true(chat()->loaded);
}

/* The request that it was restored for says what its slot holds. */
static void test_for_a_request(void **state)
{
	(void)state;
	struct worker *w = workers->d->current;
	tells_state(w, STATE_READY);
	tells_kept(w, KEPT_RESTORED);
	tells_state(w, STATE_READY);
	assert_false(chat()->loaded);
}

static void test_the_next_one_has_its_own(void **state)
{
	(void)state;
	struct worker *old = workers->d->current;
	tells_state(old, STATE_READY);
	struct worker *next = a_next_one();
	tells_kept(next, KEPT_RESTORED);
	tells_state(old, STATE_READY); /* with another window, say */
	assert_false(chat()->loaded);
	tells_state(next, STATE_READY);
	assert_ptr_equal(workers->d->current, next);
	assert_true(chat()->loaded);
}

/* One that finishes its jobs restores for the last of them; it is no more than its own backend that has it. */
static void test_an_old_one_has_its_own(void **state)
{
	(void)state;
	struct worker *old = workers->d->current;
	tells_state(old, STATE_READY);
	struct worker *next = a_next_one();
	tells_state(next, STATE_READY);
	assert_ptr_equal(workers->d->current, next);
	assert_int_equal(old->state, WORKER_DRAINING);
	tells_kept(old, KEPT_RESTORED);
	old->backend.state = STATE_LOADING;
	tells_kept(old, KEPT_RESTORED);
	tells_state(next, STATE_READY);
	assert_false(chat()->loaded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_at_a_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_for_a_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_next_one_has_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_old_one_has_its_own, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
