/* What is kept of requests: their steps, and how many of both. */
#include "supervisor/requests/history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void test_a_stage_ends_where_the_next_begins(void **state)
{
	struct steps s;
	(void)state;
	steps_init(&s, 16);
	steps_enter(&s, STEP_READ, NULL, 10);
	steps_enter(&s, STEP_QUEUE, "gpu0", 15);
	int notes = steps_begin(&s, STEP_NOTES, "gpu1", 20);
	steps_leave(&s, STEP_FAILED, "worker_lost", 40);
	steps_end(&s, notes, STEP_DONE, NULL, 50);
	steps_end(&s, notes, STEP_FAILED, "twice", 60); /* it is over */
	assert_int_equal(s.count, 3);
	assert_int_equal(s.of[0].ended_ms, 15);
	assert_int_equal(s.of[0].outcome, STEP_DONE);
	assert_string_equal(s.of[1].device, "gpu0");
	assert_int_equal(s.of[1].ended_ms, 40);
	assert_int_equal(s.of[1].outcome, STEP_FAILED);
	assert_string_equal(s.of[1].why, "worker_lost");
	assert_int_equal(s.of[2].ended_ms, 50);
	assert_int_equal(s.of[2].outcome, STEP_DONE);
	assert_int_equal(s.of[2].tokens, -1);
	assert_int_equal(s.stage, STEP_NONE);
	steps_fini(&s);
}

static void test_heartbeats_share_a_step(void **state)
{
	struct steps s;
	(void)state;
	steps_init(&s, 16);
	for (uint64_t now = 100; now <= 500; now += 100)
		steps_again(&s, STEP_HEARTBEAT, now);
	assert_int_equal(s.count, 1);
	assert_int_equal(s.of[0].count, 5);
	assert_int_equal(s.of[0].begun_ms, 100);
	assert_int_equal(s.of[0].ended_ms, 500);
	steps_fini(&s);
}

static void test_what_is_too_much_is_counted(void **state)
{
	struct steps s;
	(void)state;
	steps_init(&s, 10);
	steps_enter(&s, STEP_ANSWER, "gpu0", 1);
	for (uint64_t i = 0; i < 20; i++)
		steps_point(&s, STEP_FALLBACK, NULL, "why", i);
	steps_enter(&s, STEP_ANSWER, "gpu0", 50);
	assert_int_equal(s.count, 10);
	assert_int_equal(s.lost, 12);
	assert_int_equal(s.stage, STEP_NONE);
	steps_close(&s, STEP_CANCELLED, 60);
	assert_int_equal(s.of[0].outcome, STEP_DONE);
	assert_true(steps_bytes(&s) <= 10 * sizeof(struct step));
	steps_fini(&s);
}

static void test_nothing_is_kept_of_no_request(void **state)
{
	(void)state;
	steps_enter(NULL, STEP_READ, NULL, 1);
	steps_leave(NULL, STEP_DONE, NULL, 1);
	steps_again(NULL, STEP_HEARTBEAT, 1);
	steps_end(NULL, steps_begin(NULL, STEP_NOTES, "gpu1", 1), STEP_DONE, NULL, 2);
	steps_close(NULL, STEP_DONE, 2);
	assert_null(steps_last(NULL, STEP_READ));
}

static const struct measure done = {
	.way = MEASURE_A, .device = "gpu0", .outcome = MEASURE_DONE, .tokens = {5, 5, 0, 2}};

static struct record *begun(struct history *h, unsigned n)
{
	char id[RECORD_ID_BYTES];
	snprintf(id, sizeof(id), "r-%u", n);
	struct record *r = history_begin(h, id, n, 1000 + n);
	assert_non_null(r);
	steps_enter(&r->steps, STEP_READ, NULL, n);
	return r;
}

static void test_the_oldest_is_forgotten_first(void **state)
{
	struct history h;
	(void)state;
	history_init(&h);
	history_limit(&h, 3, 1 << 20, 16);
	struct record *slow = begun(&h, 0);
	for (unsigned i = 1; i <= 5; i++)
		history_end(&h, begun(&h, i), &done, 10 + i);
	assert_int_equal(h.count, 3);
	assert_null(history_find(&h, "r-1"));
	assert_null(history_find(&h, "r-2"));
	assert_ptr_equal(history_find(&h, "r-0"), slow); /* under way, however old */
	assert_string_equal(record_state(slow), "running");
	const struct record *r = history_find(&h, "r-5");
	assert_ptr_equal(r, TAILQ_FIRST(&h.past));
	assert_string_equal(record_state(r), "done");
	assert_string_equal(r->device, "gpu0");
	assert_int_equal(r->steps.of[0].outcome, STEP_DONE);
	assert_int_equal(r->steps.of[0].ended_ms, 15);
	history_limit(&h, 1, 1 << 20, 16);
	assert_int_equal(h.count, 1);
	history_fini(&h);
}

static void test_bytes_have_a_cap(void **state)
{
	struct history h;
	(void)state;
	history_init(&h);
	size_t each = sizeof(struct record) + sizeof(struct step);
	history_limit(&h, 1000, 4 * each, 64);
	for (unsigned i = 0; i < 10; i++)
		history_end(&h, begun(&h, i), &done, i);
	assert_int_equal(h.count, 4);
	assert_int_equal(h.bytes, 4 * each);
	/* What comes late counts, too. */
	struct step late = {.kind = STEP_WARM, .outcome = STEP_DONE};
	history_late(&h, "r-9", &late);
	assert_int_equal(h.count, 3);
	assert_int_equal(history_find(&h, "r-9")->steps.count, 2);
	history_late(&h, "r-0", &late); /* forgotten: nothing happens */
	for (int i = 0; i < 100; i++)
		history_late(&h, "r-9", &late);
	assert_true(h.bytes <= 4 * each);
	assert_null(history_find(&h, "r-9")); /* it has grown larger than all there is room for */
	history_limit(&h, 1000, 0, 64);
	assert_int_equal(h.count, 0);
	assert_int_equal(h.bytes, 0);
	history_fini(&h);
}

static void test_open_steps_end_as_the_request_does(void **state)
{
	static const struct {
		enum measure_outcome how;
		enum step_outcome step;
	} cases[] = {{MEASURE_DONE, STEP_DONE}, {MEASURE_JOINED, STEP_DONE},
		{MEASURE_REFUSED, STEP_FAILED}, {MEASURE_FAILED, STEP_FAILED},
		{MEASURE_CANCELLED, STEP_CANCELLED}};
	struct history h;
	(void)state;
	history_init(&h);
	history_limit(&h, 10, 1 << 20, 16);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct measure m = done;
		m.outcome = cases[i].how;
		struct record *r = begun(&h, i);
		steps_begin(&r->steps, STEP_NOTES, "gpu1", i);
		history_end(&h, r, &m, 20);
		assert_int_equal(r->steps.of[0].outcome, cases[i].step);
		assert_int_equal(r->steps.of[1].outcome, cases[i].step);
	}
	history_fini(&h);
}

static void test_each_way_has_its_name(void **state)
{
	static const char *const names[MEASURE_WAYS] = {"A", "B", "C", "small", "pass", NULL};
	struct record r = {.over = true};
	(void)state;
	for (int i = 0; i < MEASURE_WAYS; i++) {
		struct measure_series s = {.way = (enum measure_way)i};
		r.measure.way = (enum measure_way)i;
		const char *name = record_way(&r);
		assert_true(name ? names[i] && strcmp(name, names[i]) == 0 : !names[i]);
		if (name) /* the same as in /metrics */
			assert_string_equal(name, measure_way_name(&s));
	}
	r.over = false;
	assert_null(record_way(&r));
}

static void test_texts_are_cut_between_characters(void **state)
{
	char out[6];
	(void)state;
	record_text(out, sizeof(out), SLICE("abcd\xc3\xa9"));
	assert_string_equal(out, "abcd");
	record_text(out, sizeof(out),
		SLICE("ab\xff"
		      "cd"));
	assert_string_equal(out, "ab");
	record_text(out, sizeof(out), (struct slice){0});
	assert_string_equal(out, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_stage_ends_where_the_next_begins),
		cmocka_unit_test(test_heartbeats_share_a_step),
		cmocka_unit_test(test_what_is_too_much_is_counted),
		cmocka_unit_test(test_nothing_is_kept_of_no_request),
		cmocka_unit_test(test_the_oldest_is_forgotten_first),
		cmocka_unit_test(test_bytes_have_a_cap),
		cmocka_unit_test(test_open_steps_end_as_the_request_does),
		cmocka_unit_test(test_each_way_has_its_name),
		cmocka_unit_test(test_texts_are_cut_between_characters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
