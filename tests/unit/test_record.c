/* What is kept of a shortened request's messages (history.h): the newest ones, within bounds. */
#include "supervisor/requests/history.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct record *begin(struct history *h, size_t most)
{
	history_init(h);
	history_limit(h, 10, 1 << 20, 16);
	history_limit_messages(h, most);
	struct record *r = history_begin(h, "a-1", 1, 1);
	assert_non_null(r);
	return r;
}

static void test_the_newest_are_kept(void **state)
{
	struct history h;
	struct record *r = begin(&h, 3);
	size_t first = 99;
	(void)state;
	assert_non_null(record_messages(r, 3, &first));
	assert_int_equal(first, 0);
	assert_int_equal(r->messages_lost, 0);
	struct record_message *to = record_messages(r, 10, &first); /* anew */
	assert_non_null(to);
	assert_int_equal(first, 7);
	assert_int_equal(r->message_count, 3);
	assert_int_equal(r->messages_lost, 7);
	assert_null(to[2].role);
	history_fini(&h);
}

static void test_none_where_none_are_wanted(void **state)
{
	struct history h;
	struct record *r = begin(&h, 0);
	size_t first;
	(void)state;
	assert_null(record_messages(r, 5, &first));
	assert_int_equal(first, 5);
	assert_int_equal(r->messages_lost, 5);
	assert_null(record_messages(r, 0, &first));
	assert_int_equal(r->messages_lost, 0);
	history_fini(&h);
}

/* They count as what the history holds, and go with it. */
static void test_they_take_room(void **state)
{
	struct measure done = {.way = MEASURE_C, .outcome = MEASURE_DONE};
	struct history h;
	struct record *r = begin(&h, 100);
	size_t first;
	(void)state;
	record_messages(r, 100, &first);
	history_end(&h, r, &done, 2);
	assert_true(h.bytes >= sizeof(*r) + 100 * sizeof(*r->messages));
	history_end(&h, history_begin(&h, "a-2", 3, 3), &done, 4);
	history_limit(&h, 10, 2 * sizeof(*r), 16);
	assert_null(history_find(&h, "a-1")); /* the older one made place */
	history_limit(&h, 0, 0, 16);
	assert_int_equal(h.bytes, 0);
	history_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_newest_are_kept),
		cmocka_unit_test(test_none_where_none_are_wanted),
		cmocka_unit_test(test_they_take_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
