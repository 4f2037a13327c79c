/* A program beside the loop: what it said, how it ended, and that its end is told of once, whatever is done to it. */
#include "supervisor/tell/capture.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct heard {
	unsigned times;
	struct captured what;
	char said[256];
	size_t bytes;
};

static void on_done(void *ctx, const struct captured *what)
{
	struct heard *h = ctx;
	h->times++;
	h->what = *what;
	h->bytes = what->said.n;
	snprintf(h->said, sizeof(h->said), "%.*s", (int)what->said.n, what->said.p);
}

static struct capture *start(uv_loop_t *loop, const char *script, size_t most, struct heard *h)
{
	const char *args[] = {"/bin/sh", "-c", script, NULL};
	struct capture *c = NULL;
	*h = (struct heard){0};
	assert_int_equal(capture_start(loop, args, most, on_done, h, &c), 0);
	assert_int_equal(h->times, 0);
	return c;
}

/* Until nothing is left in the loop: handles of ours neither. */
static void finish(uv_loop_t *loop)
{
	assert_int_equal(uv_run(loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(loop), 0);
}

static struct heard all_of(const char *script, size_t most)
{
	uv_loop_t loop;
	struct heard h;
	uv_loop_init(&loop);
	start(&loop, script, most, &h);
	finish(&loop);
	assert_int_equal(h.times, 1);
	return h;
}

static void test_what_it_said_and_how_it_ended(void **state)
{
	(void)state;
	struct heard h = all_of("echo one; echo two >&2; echo three", 0);
	assert_string_equal(h.said, "one\nthree\n");
	assert_true(h.what.status == 0 && h.what.signal == 0 && !h.what.too_large);
	h = all_of("exit 7", 0);
	assert_true(h.bytes == 0 && h.what.status == 7);
	h = all_of("echo x; kill -9 $$", 0);
	assert_string_equal(h.said, "x\n");
	assert_int_equal(h.what.signal, SIGKILL);
	h = all_of("cat", 0); /* there is nothing to read */
	assert_true(h.bytes == 0 && h.what.status == 0);
	h = all_of("exec >&-; exit 3", 0); /* its output ends before it does */
	assert_int_equal(h.what.status, 3);
}

static void test_the_cap(void **state)
{
	(void)state;
	struct heard h = all_of("printf 1234567890", 10);
	assert_true(h.bytes == 10 && !h.what.too_large);
	h = all_of("printf 12345678901", 10);
	assert_true(h.what.too_large);
	h = all_of("exec cat /dev/zero", 1 << 20);
	assert_true(h.what.too_large && h.what.signal == SIGKILL && h.bytes <= 1 << 20);
}

static void test_what_is_not_there(void **state)
{
	(void)state;
	static const char *const args[] = {"/nowhere/program", NULL};
	uv_loop_t loop;
	struct heard h = {0};
	struct capture *c = NULL;
	uv_loop_init(&loop);
	assert_int_equal(capture_start(&loop, args, 0, on_done, &h, &c), -ENOENT);
	finish(&loop);
	assert_true(h.times == 0 && !c);
}

static void test_ended_by_us(void **state)
{
	(void)state;
	uv_loop_t loop;
	struct heard h;
	uv_loop_init(&loop);
	struct capture *c = start(&loop, "exec sleep 1000", 0, &h);
	capture_kill(c);
	capture_kill(c);
	assert_int_equal(h.times, 0); /* not before it is gone */
	finish(&loop);
	assert_true(h.times == 1 && h.what.signal == SIGKILL);
	uv_loop_init(&loop);
	c = start(&loop, "exec sleep 1000", 0, &h);
	capture_drop(c);
	capture_drop(NULL);
	finish(&loop);
	assert_int_equal(h.times, 0);
}

static int number_in(const char *path)
{
	FILE *f = fopen(path, "r");
	int n = 0;
	if (!f || fscanf(f, "%d\n", &n) != 1)
		n = 0;
	if (f)
		fclose(f);
	return n;
}

/* What it started itself holds the output: that is not waited for. */
static void test_an_output_that_stays_open(void **state)
{
	(void)state;
	char path[] = "/tmp/tandem-capture-XXXXXX", script[256];
	int fd = mkstemp(path), pid = 0;
	uv_loop_t loop;
	struct heard h;
	assert_true(fd >= 0);
	close(fd);
	snprintf(script, sizeof(script), "sleep 1000 & echo $! >%s; echo said", path);
	uv_loop_init(&loop);
	struct capture *c = start(&loop, script, 0, &h);
	while (pid == 0)
		pid = number_in(path);
	while (uv_run(&loop, UV_RUN_NOWAIT) &&
		waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT) == 0)
		; /* until its end was seen */
	for (int i = 0; i < 2; i++)
		uv_run(&loop, UV_RUN_NOWAIT); /* what it said before comes now at the latest */
	assert_int_equal(h.times, 0);
	capture_kill(c);
	assert_int_equal(h.times, 1);
	assert_string_equal(h.said, "said\n");
	assert_true(h.what.status == 0 && h.what.signal == 0);
	finish(&loop);
	assert_int_equal(kill(pid, SIGKILL), 0);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_it_said_and_how_it_ended),
		cmocka_unit_test(test_the_cap),
		cmocka_unit_test(test_what_is_not_there),
		cmocka_unit_test(test_ended_by_us),
		cmocka_unit_test(test_an_output_that_stays_open),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
