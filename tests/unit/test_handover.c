/* What an old tandemd hands to its successor: what is written is read alike, and nothing else is.
 */
#include "common/base/log.h"
#include "supervisor/life/handover.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define BASE 100 /* descriptors that nobody else has */

static void open_fds(int n)
{
	int null = open("/dev/null", O_RDONLY);
	assert_true(null >= 0);
	for (int i = 0; i < n; i++)
		assert_int_equal(dup2(null, BASE + i), BASE + i);
	close(null);
}

static int set_and_read(struct handover *h, const char *value)
{
	struct buf err;
	buf_init(&err, 0);
	setenv("TANDEM_UPGRADE", value, 1);
	int rc = handover_read(h, &err);
	assert_null(getenv("TANDEM_UPGRADE"));
	assert_int_equal(rc<0, err.n> 0);
	buf_free(&err);
	return rc;
}

static void test_none(void **state)
{
	(void)state;
	struct handover h;
	struct buf err;
	buf_init(&err, 0);
	unsetenv("TANDEM_UPGRADE");
	assert_int_equal(handover_read(&h, &err), 0);
	assert_int_equal(handover_take_extra(&h, "lifeline"), -1);
}

static void test_written_is_read_alike(void **state)
{
	(void)state;
	struct handover out = {.talk_fd = BASE,
		.listen_fd = BASE + 1,
		.lock_fd = BASE + 2,
		.given = true,
		.operation = 77,
		.old = {{812, BASE + 3}, {7, BASE + 4}},
		.old_count = 2,
		.extra = {{"lifeline", BASE + 5}, {"x", BASE + 6}},
		.extra_count = 2,
		.wait = {"gpu0", "a-b_c"},
		.wait_count = 2};
	struct handover in;
	struct buf env;
	int fds[HANDOVER_FDS_MAX];
	open_fds(7);
	buf_init(&env, 0);
	assert_int_equal(handover_write(&out, &env, fds), HANDOVER_FIRST_FD + 7);
	for (int i = 0; i < 7; i++)
		assert_int_equal(fds[HANDOVER_FIRST_FD + i], BASE + i);
	assert_int_equal(env.p[env.n - 1], '\0');
	assert_string_equal(env.p,
		"TANDEM_UPGRADE=talk=3 listen=4 lock=5 given=1 operation=77 old=812:6 "
		"old=7:7 lifeline=8 x=9 wait=gpu0 wait=a-b_c");
	/* The same with descriptors that the test does not need for itself. */
	assert_int_equal(
		set_and_read(&in, "talk=100 listen=101 lock=102 given=1 operation=77 old=812:103 "
				  "old=7:104 lifeline=105 x=106 wait=gpu0 wait=a-b_c"),
		1);
	assert_int_equal(in.talk_fd, BASE);
	assert_int_equal(in.listen_fd, BASE + 1);
	assert_int_equal(in.lock_fd, BASE + 2);
	assert_true(in.given && in.operation == 77);
	assert_int_equal(in.old_count, 2);
	assert_int_equal(in.old[0].pid, 812);
	assert_int_equal(in.old[1].fd, BASE + 4);
	assert_int_equal(in.wait_count, 2);
	assert_string_equal(in.wait[1], "a-b_c");
	assert_int_equal(handover_take_extra(&in, "lifeline"), BASE + 5);
	assert_int_equal(handover_take_extra(&in, "lifeline"), -1);
	assert_int_equal(handover_take_extra(&in, "x"), BASE + 6);
	for (int i = 0; i < 7; i++)
		assert_true(fcntl(BASE + i, F_GETFD) & FD_CLOEXEC);
	buf_free(&env);
}

static void test_anything_else_is_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"", " ", "talk", "talk=100", "talk=100 listen=101",
		"talk=100 listen=101 lock=999", "talk=100 listen=101 lock=2",
		"talk=100 listen=101 lock=102x", "talk=100 listen=101 lock=-1",
		"talk=100 listen=101 lock=102 old=5", "talk=100 listen=101 lock=102 old=0:103",
		"talk=100 listen=101 lock=102 old=-4:103",
		"talk=100 listen=101 lock=102 operation=99999999999999999999",
		"talk=100 listen=101 lock=102 a-name-of-too-many-bytes=103",
		"talk=100 listen=101 lock=102 wait=a-name-that-is-longer-than-a-device's-may-be"};
	struct handover h;
	open_fds(4);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(set_and_read(&h, bad[i]), -22);
	assert_int_equal(set_and_read(&h, "talk=100 listen=101 lock=102"), 1);
}

/* Each list has an end: too many are refused, none is written past it. */
static void test_too_many_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *word;
		int most;
	} lists[] = {{" old=5:103", HANDOVER_OLD_MAX}, {" wait=gpu0", CONFIG_DEVICES_MAX},
		{" extra=103", HANDOVER_EXTRA_MAX}};
	struct handover h;
	open_fds(4);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		char value[2048] = "talk=100 listen=101 lock=102";
		for (int n = 0; n < lists[i].most; n++)
			strcat(value, lists[i].word);
		assert_int_equal(set_and_read(&h, value), 1);
		strcat(value, lists[i].word);
		assert_int_equal(set_and_read(&h, value), -22);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_written_is_read_alike),
		cmocka_unit_test(test_anything_else_is_refused),
		cmocka_unit_test(test_too_many_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
