/* The old side of an upgrade: the table, without a process. What it does to others is written down. */
#include "common/base/log.h"
#include "supervisor/life/life.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define CHECK_PID 100
#define NEW_PID 200

static uv_loop_t loop;
static struct config config;
static struct devices devices;
static struct requests requests;
static struct life life;
static char done[1024], taken[1024], folder[64];
static int boot_rc, open_rc;

static void note(const char *word)
{
	size_t n = strlen(done);
	snprintf(done + n, sizeof(done) - n, "%s%s", n ? " " : "", word);
}

static const char *what_was_done(void)
{
	memcpy(taken, done, sizeof(taken));
	done[0] = '\0';
	return taken;
}

#define DONE(text) assert_string_equal(what_was_done(), text)

static int check(struct life *l)
{
	note("check");
	l->upgrade.pid = CHECK_PID;
	return 0;
}

static int boot(struct life *l)
{
	note("boot");
	l->upgrade.pid = boot_rc ? 0 : NEW_PID;
	return boot_rc;
}

static void kill_it(struct life *l, int signum)
{
	if (l->upgrade.pid)
		note(signum == SIGKILL ? "KILL" : "TERM");
}

static void say(struct life *l, const char *word)
{
	(void)l;
	note(word);
}

static void hang_up(struct life *l)
{
	(void)l;
}

static int keep_socket(struct life *l)
{
	(void)l;
	note("keep");
	return dup(1);
}

static int open_again(struct life *l, int fd, struct buf *err)
{
	(void)l;
	close(fd);
	buf_add_str(err, open_rc ? "no" : "");
	note("open");
	return open_rc;
}

static void in_charge(struct life *l)
{
	(void)l;
	note("in-charge");
}

static int reopen(void *ctx)
{
	(void)ctx;
	note("reopen");
	return 0;
}

static void heard(struct life *l, enum life_event e)
{
	static const char *const names[LIFE_EVENTS] = {
		"life:term", "life:handed", "life:back", "life:end", "life:timer", "life:look"};
	(void)l;
	note(names[e]);
}

static const struct upgrade_hands hands = {.check = check,
	.boot = boot,
	.kill = kill_it,
	.say = say,
	.hang_up = hang_up,
	.let_go = hang_up,
	.keep_socket = keep_socket,
	.open_again = open_again,
	.in_charge = in_charge};

static int setup(void **state)
{
	static const struct life_events events = {.reopen = reopen};
	(void)state;
	struct buf err;
	buf_init(&err, 0);
	log_init("test", NULL, LOG_ERROR + 1, LOG_LOGFMT, false);
	uv_loop_init(&loop);
	memset(&life, 0, sizeof(life));
	life.metrics_fd = -1;
	memset(&devices, 0, sizeof(devices));
	assert_int_equal(config_defaults(&config), 0);
	devices.config = life.config = &config;
	life.devices = &devices;
	life.requests = &requests;
	life.loop = &loop;
	life.events = &events;
	life.step = heard;
	life.front = (struct front *)&loop; /* there is one; nobody looks into it */
	life.notify.fd = -1;
	strcpy(life.program, "/bin/tandemd");
	TAILQ_INIT(&life.elders.list);
	uv_timer_init(&loop, &life.notify.watchdog);
	upgrade_init(&life, &hands);
	strcpy(folder, "/tmp/tandem-upgrade-XXXXXX");
	assert_non_null(mkdtemp(folder));
	assert_int_equal(rundir_open(&life.rundir, folder, &err), 0);
	rundir_take(&life.rundir);
	devices.run_dir = folder;
	boot_rc = open_rc = 0;
	done[0] = '\0';
	buf_free(&err);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	upgrade_fini(&life);
	uv_close((uv_handle_t *)&life.notify.watchdog, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	rundir_close(&life.rundir);
	rmdir(folder);
	config_free(&config);
	return 0;
}

static uint64_t begin(void)
{
	struct buf err;
	buf_init(&err, 0);
	uint64_t id = upgrade_begin(&life, &err);
	buf_free(&err);
	return id;
}

static void exits(int status, int signum)
{
	life.upgrade.exit_status = status;
	life.upgrade.exit_signal = signum;
	life.upgrade.ended_pid = life.upgrade.pid;
	life.upgrade.pid = 0;
	upgrade_event(&life, UPGRADE_ON_EXIT);
}

/* Up to that state. */
static void come_to(enum upgrade_state to)
{
	assert_int_not_equal(begin(), 0);
	if (to != UPGRADE_CHECKING)
		exits(0, 0);
	if (to == UPGRADE_TAKING || to == UPGRADE_HANDED)
		upgrade_event(&life, UPGRADE_ON_READY);
	if (to == UPGRADE_HANDED)
		upgrade_event(&life, UPGRADE_ON_TAKEN);
	assert_int_equal(life.upgrade.state, to);
	what_was_done();
}

static const struct operation *operation(void)
{
	return operation_find(&life.operations, life.operations.last_id);
}

static void test_all_the_way(void **state)
{
	(void)state;
	assert_int_equal(begin(), 1);
	DONE("check");
	assert_int_equal(begin(), 0); /* one at a time */
	exits(0, 0);
	DONE("boot");
	assert_true(upgrade_under_way(&life));
	assert_false(upgrade_gone(&life));
	upgrade_event(&life, UPGRADE_ON_READY);
	DONE("take");
	upgrade_event(&life, UPGRADE_ON_TAKEN);
	DONE("keep life:handed");
	assert_int_equal(life.upgrade.state, UPGRADE_HANDED);
	assert_false(upgrade_settled(&life));
	assert_int_equal(operation()->state, OPERATION_DONE);
	assert_string_equal(operation()->why, "pid 200 took over");
	assert_true(life.notify.quiet);
	upgrade_event(&life, UPGRADE_ON_TIMER);
	assert_int_equal(life.upgrade.state, UPGRADE_SETTLED);
	assert_int_equal(life.upgrade.kept_fd, -1);
	exits(1, 0); /* that is its own affair now */
	DONE("");
}

static void test_without_grace_it_is_settled_at_once(void **state)
{
	(void)state;
	config.deadlines.upgrade_grace_ms = 0;
	come_to(UPGRADE_TAKING);
	upgrade_event(&life, UPGRADE_ON_TAKEN);
	assert_int_equal(life.upgrade.state, UPGRADE_SETTLED);
	DONE("life:handed");
}

static void test_a_socket_elsewhere_is_not_kept(void **state)
{
	(void)state;
	come_to(UPGRADE_TAKING);
	life.upgrade.elsewhere = true;
	upgrade_event(&life, UPGRADE_ON_TAKEN);
	assert_int_equal(life.upgrade.state, UPGRADE_SETTLED);
	DONE("life:handed");
}

static void test_a_check_that_refuses(void **state)
{
	(void)state;
	assert_int_equal(begin(), 1);
	strcpy(life.upgrade.said, "line 3: no  ");
	exits(2, 0);
	DONE("check life:look");
	assert_int_equal(life.upgrade.state, UPGRADE_IDLE);
	assert_int_equal(operation()->state, OPERATION_FAILED);
	assert_string_equal(operation()->why, "line 3: no");
	assert_int_equal(begin(), 2); /* the next one may be better */
	life.upgrade.said[0] = '\0';
	exits(0, SIGSEGV);
	assert_string_equal(operation()->why, "the new tandemd was ended by signal 11");
}

static void test_a_successor_that_cannot_be_started(void **state)
{
	(void)state;
	boot_rc = UV_ENOENT;
	assert_int_equal(begin(), 1);
	exits(0, 0);
	DONE("check boot stop life:look");
	assert_int_equal(life.upgrade.state, UPGRADE_IDLE);
	assert_string_equal(operation()->why, "/bin/tandemd: no such file or directory");
}

/* Each fault of each step, what is done, and what the operator is told. */
static void test_roll_backs(void **state)
{
	static const struct {
		enum upgrade_state in;
		enum upgrade_event e;
		const char *done, *why;
	} cases[] = {
		{UPGRADE_CHECKING, UPGRADE_ON_TIMER, "KILL stop TERM",
			"the new tandemd did not check its configuration in time"},
		{UPGRADE_CHECKING, UPGRADE_ON_STOP, "stop TERM", "tandemd was told to stop"},
		{UPGRADE_BOOTING, UPGRADE_ON_TIMER, "stop TERM",
			"the new tandemd was not ready in time"},
		{UPGRADE_BOOTING, UPGRADE_ON_STOP, "stop TERM", "tandemd was told to stop"},
		{UPGRADE_BOOTING, UPGRADE_ON_FAILED, "stop",
			"the new tandemd exited with status 9"},
		{UPGRADE_TAKING, UPGRADE_ON_TIMER, "reopen stop TERM",
			"the new tandemd did not take over"},
		{UPGRADE_TAKING, UPGRADE_ON_STOP, "stop TERM", "tandemd was told to stop"},
		{UPGRADE_TAKING, UPGRADE_ON_FAILED, "reopen stop",
			"the new tandemd exited with status 9"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		come_to(cases[i].in);
		upgrade_event(&life, cases[i].e);
		DONE(cases[i].done);
		assert_int_equal(life.upgrade.state, UPGRADE_UNDOING);
		upgrade_event(&life, UPGRADE_ON_TIMER); /* it does not go by itself */
		assert_string_equal(
			what_was_done(), strstr(cases[i].done, "TERM") ? "KILL" : "TERM");
		exits(9, 0);
		DONE("life:look");
		assert_int_equal(life.upgrade.state, UPGRADE_IDLE);
		assert_int_equal(operation()->state, OPERATION_FAILED);
		assert_string_equal(operation()->why, cases[i].why);
	}
}

static void test_a_successor_that_just_exits(void **state)
{
	(void)state;
	come_to(UPGRADE_BOOTING);
	exits(3, 0);
	DONE("life:look");
	assert_string_equal(operation()->why, "the new tandemd exited with status 3");
	come_to(UPGRADE_TAKING);
	exits(0, SIGKILL);
	DONE("reopen stop life:look");
	assert_string_equal(operation()->why, "the new tandemd was ended by signal 9");
}

/* The pid file says whose the names are. */
static void put_pid(int pid)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/" RUNDIR_PID_FILE, folder);
	unlink(path);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "%d\n", pid);
	fclose(f);
}

static void test_one_that_dies_in_the_time_of_grace(void **state)
{
	(void)state;
	come_to(UPGRADE_HANDED);
	put_pid(NEW_PID);
	exits(0, SIGKILL);
	DONE("open life:back reopen in-charge life:look");
	assert_int_equal(life.upgrade.state, UPGRADE_IDLE);
	assert_int_equal(life.upgrade.kept_fd, -1);
	assert_int_not_equal(begin(), 0);
}

static void test_what_is_not_taken_back(void **state)
{
	(void)state;
	come_to(UPGRADE_HANDED);
	put_pid(NEW_PID);
	exits(0, 0); /* it was told to stop */
	assert_int_equal(life.upgrade.state, UPGRADE_SETTLED);
	DONE("");
	teardown(NULL);
	setup(NULL);
	come_to(UPGRADE_HANDED);
	put_pid(NEW_PID + 1); /* it had a successor of its own */
	exits(0, SIGKILL);
	assert_int_equal(life.upgrade.state, UPGRADE_SETTLED);
	DONE("");
	teardown(NULL);
	setup(NULL);
	open_rc = -EMFILE;
	come_to(UPGRADE_HANDED);
	put_pid(NEW_PID);
	exits(0, SIGKILL);
	assert_int_equal(life.upgrade.state, UPGRADE_SETTLED);
	DONE("open");
}

static void test_told_to_stop_after_it_has_handed_over(void **state)
{
	(void)state;
	come_to(UPGRADE_HANDED);
	upgrade_stop(&life);
	assert_int_equal(life.upgrade.state, UPGRADE_SETTLED);
	DONE("");
}

static void test_when_there_can_be_none(void **state)
{
	(void)state;
	life.reloading = true;
	assert_int_equal(begin(), 0);
	life.reloading = false;
	life.elders.count = (unsigned)config.limits.old_processes;
	assert_int_equal(begin(), 0);
	life.elders.count = 0;
	life.state = LIFE_RETIRING;
	assert_int_equal(begin(), 0);
	life.state = LIFE_RUNNING;
	life.front = NULL; /* a successor that has not taken over */
	assert_int_equal(begin(), 0);
	DONE("");
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_all_the_way),
		TEST(test_without_grace_it_is_settled_at_once),
		TEST(test_a_socket_elsewhere_is_not_kept),
		TEST(test_a_check_that_refuses),
		TEST(test_a_successor_that_cannot_be_started),
		TEST(test_roll_backs),
		TEST(test_a_successor_that_just_exits),
		TEST(test_one_that_dies_in_the_time_of_grace),
		TEST(test_what_is_not_taken_back),
		TEST(test_told_to_stop_after_it_has_handed_over),
		TEST(test_when_there_can_be_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
