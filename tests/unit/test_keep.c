/* What lasts over restarts of tandemd: decisions and rates; and life without a store. */
#include "supervisor/devices/keep.h"

#include "common/base/log.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static uv_loop_t loop;

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "%s/tandem-keep-XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	uv_loop_init(&loop);
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	char command[128];
	uv_loop_close(&loop);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static struct keep *start(void)
{
	struct keep *k = keep_start(&loop, dir, 1 << 20);
	assert_non_null(k);
	return k;
}

static void stop(struct keep *k)
{
	keep_stop(k);
	uv_run(&loop, UV_RUN_DEFAULT);
	keep_destroy(k);
}

static bool has(const struct keep *k, uint64_t chain)
{
	size_t n;
	const uint64_t *chains = keep_decisions(k, &n);
	bool found = false;
	for (size_t i = 0; i < n; i++) {
		found = found || chains[i] == chain;
		assert_true(i == 0 || chains[i - 1] < chains[i]);
	}
	return found;
}

static void test_decisions(void **state)
{
	(void)state;
	struct keep *k = start();
	size_t n;
	keep_decisions(k, &n);
	assert_int_equal(n, 0);
	keep_decide(k, 30);
	keep_decide(k, 10);
	keep_decide(k, 20);
	keep_decide(k, 10);
	keep_decisions(k, &n);
	assert_int_equal(n, 3);
	assert_true(has(k, 10) && has(k, 20) && has(k, 30) && !has(k, 11));
	stop(k);
	for (int i = 0; i < 3; i++) { /* twice more than there are generations */
		k = start();
		keep_decisions(k, &n);
		assert_int_equal(n, 3);
		assert_true(has(k, 10) && has(k, 20) && has(k, 30));
		stop(k);
	}
}

static void test_decisions_are_bounded(void **state)
{
	(void)state;
	struct keep *k = start();
	size_t n;
	for (uint64_t i = 1; i <= KEEP_DECISIONS_MAX + 100; i++) {
		keep_decide(k, i * 7919);
		if (i % 100 == 0) /* as the loop would between requests */
			uv_run(&loop, UV_RUN_DEFAULT);
	}
	keep_decisions(k, &n);
	assert_int_equal(n, KEEP_DECISIONS_MAX);
	assert_true(has(k, (KEEP_DECISIONS_MAX + 100) * 7919) && !has(k, 7919));
	stop(k);
	k = start();
	keep_decisions(k, &n);
	assert_int_equal(n, KEEP_DECISIONS_MAX);
	stop(k);
}

static void test_rates(void **state)
{
	(void)state;
	struct keep *k = start();
	struct predict_rates r, again;
	assert_false(keep_rates(k, "gpu0", &r));
	double start_ms = predict_prefill_ms(&r, 0, 1000);
	for (int i = 0; i < 20; i++)
		predict_learn(&r, 0, 1000 + i, 300);
	for (int i = 0; i < 1000; i++) /* far more often than the disk takes them */
		keep_save_rates(k, "gpu0", &r);
	stop(k);
	k = start();
	assert_true(keep_rates(k, "gpu0", &again));
	assert_true(fabs(predict_prefill_ms(&again, 0, 1000) / predict_prefill_ms(&r, 0, 1000) -
			    1) < 1e-6);
	assert_true(predict_prefill_ms(&again, 0, 1000) < 0.5 * start_ms);
	assert_false(keep_rates(k, "gpu1", &again));
	stop(k);
}

static void see_window(void *ctx, uint64_t beginning, double window)
{
	double *sum = ctx;
	*sum += (double)beginning * window;
}

static void test_windows(void **state)
{
	(void)state;
	struct keep *k = start();
	double sum = 0;
	keep_windows(k, see_window, &sum);
	assert_true(sum == 0);
	keep_window(k, 3, 1000);
	keep_window(k, 5, 2000);
	keep_window(k, 3, 4000);
	stop(k);
	k = start();
	keep_windows(k, see_window, &sum);
	assert_true(sum == 3 * 4000 + 5 * 2000);
	stop(k);
}

struct kept_notes {
	size_t count, bytes;
	uint64_t keys;
};

static void add_note(void *ctx, uint64_t key, struct slice value)
{
	struct kept_notes *n = ctx;
	n->count++;
	n->bytes += value.n;
	n->keys ^= key;
}

/* Notes and what digests were made with: each kind by itself, also what is empty. */
static void test_notes(void **state)
{
	(void)state;
	struct keep *k = start();
	keep_note(k, STORE_NOTE, 1, SLICE("- one\n"));
	keep_note(k, STORE_NOTE, 2, (struct slice){0});
	keep_note(k, STORE_NOTE, 1, SLICE("- another\n"));
	keep_note(k, STORE_DIGEST, 4, SLICE("packed"));
	stop(k);
	k = start();
	struct kept_notes notes = {0}, digests = {0};
	keep_notes(k, STORE_NOTE, add_note, &notes);
	keep_notes(k, STORE_DIGEST, add_note, &digests);
	assert_true(notes.count == 2 && notes.bytes == 10 && notes.keys == (1 ^ 2));
	assert_true(digests.count == 1 && digests.bytes == 6 && digests.keys == 4);
	stop(k);
}

static void test_tokens(void **state)
{
	(void)state;
	struct keep *k = start();
	struct tokens *t = tokens_create(), *again = tokens_create();
	struct token_census c = {0};
	token_census_add(&c, SLICE("some words of a text that is long enough to be counted"));
	for (size_t i = 0; i < TOKEN_CLASSES; i++)
		c.chars[i] *= 100;
	for (int i = 0; i < 10; i++)
		tokens_learn(t, SLICE("qwen:7b"), &c, 3000);
	keep_tokens(k, t, SLICE("qwen:7b"));
	keep_tokens(k, t, SLICE("unknown"));
	stop(k);
	k = start();
	keep_teach(k, again);
	assert_true(tokens_of(again, SLICE("qwen:7b"), &c) == tokens_of(t, SLICE("qwen:7b"), &c));
	assert_true(tokens_of(again, SLICE("qwen:7b"), &c) != token_census_start(&c));
	struct buf saved;
	buf_init(&saved, 0);
	assert_int_equal(tokens_save(t, SLICE("qwen:7b"), &saved), 0);
	assert_true(tokens_load(again, SLICE("x"), buf_slice(&saved)));
	for (size_t i = 0; i < saved.n; i += 8) { /* each number spoiled */
		double was, bad = NAN;
		memcpy(&was, saved.p + i, sizeof(was));
		memcpy(saved.p + i, &bad, sizeof(bad));
		assert_false(tokens_load(again, SLICE("y"), buf_slice(&saved)));
		memcpy(saved.p + i, &was, sizeof(was));
	}
	assert_false(tokens_load(again, SLICE("y"), (struct slice){saved.p, saved.n - 1}));
	assert_true(tokens_of(again, SLICE("y"), &c) == token_census_start(&c));
	buf_free(&saved);
	tokens_destroy(t);
	tokens_destroy(again);
	stop(k);
}

/* More at once than may wait: the newest stay. */
static void test_the_queue_is_bounded(void **state)
{
	(void)state;
	struct keep *k = start();
	struct predict_rates r;
	char name[32];
	predict_init(&r);
	for (int i = 0; i < 5 * KEEP_QUEUE_MAX; i++) {
		snprintf(name, sizeof(name), "gpu%d", i);
		keep_save_rates(k, name, &r);
	}
	stop(k);
	k = start();
	assert_true(keep_rates(k, name, &r));
	assert_true(keep_rates(k, "gpu0", &r)); /* was being written already */
	assert_false(keep_rates(k, "gpu1", &r));
	stop(k);
}

static void test_without_a_store(void **state)
{
	(void)state;
	struct keep *k = keep_start(&loop, "/proc/no/such/place", 1 << 20);
	struct predict_rates r;
	assert_non_null(k);
	assert_false(keep_rates(k, "gpu0", &r));
	keep_save_rates(k, "gpu0", &r);
	keep_decide(k, 5);
	assert_true(has(k, 5));
	stop(k);
	keep_destroy(NULL);
}

static void test_a_damaged_file(void **state)
{
	(void)state;
	struct keep *k = start();
	char path[128];
	keep_decide(k, 5);
	stop(k);
	snprintf(path, sizeof(path), "%s/" KEEP_FILE, dir);
	assert_int_equal(truncate(path, 5000), 0);
	k = start();
	assert_false(has(k, 5));
	keep_decide(k, 6);
	stop(k);
	k = start();
	assert_true(has(k, 6));
	stop(k);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

/* A second look at what is kept changes nothing of it, whether a tandemd has it open or not. */
static void test_looking_at_it(void **state)
{
	(void)state;
	struct keep *k, *look = NULL;
	struct predict_rates r, again;
	size_t n;
	double sum = 0;
	char path[128], command[600];
	snprintf(path, sizeof(path), "%s/" KEEP_FILE, dir);
	assert_int_equal(keep_open(dir, 1 << 20, &look), -ENOENT);
	assert_int_equal(access(path, F_OK), -1);
	k = start();
	keep_rates(k, "gpu0", &r);
	predict_learn(&r, 0, 1000, 300);
	keep_save_rates(k, "gpu0", &r);
	keep_decide(k, 20);
	keep_decide(k, 10);
	keep_window(k, 3, 1000);
	stop(k);
	for (int live = 0; live < 2; live++) {
		pid_t child = fork(); /* one store a process and path */
		k = live && child ? start() : NULL;
		if (child == 0) {
			bool good = keep_open(dir, 1 << 20, &look) == 0;
			if (good) {
				keep_windows(look, see_window, &sum);
				keep_decide(look, 99);
				keep_decisions(look, &n);
				good = n == 3 && keep_rates(look, "gpu0", &again) &&
				       again.prefills == 1 && sum == 3000;
			}
			keep_destroy(look);
			_exit(good ? 0 : 1);
		}
		int status = -1;
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
		if (k)
			stop(k);
	}
	k = start();
	keep_decisions(k, &n);
	assert_int_equal(n, 2);
	stop(k);
	snprintf(
		command, sizeof(command), "rm %s-lock; head -c 5000 /dev/urandom > %s", path, path);
	assert_int_equal(system(command), 0);
	assert_int_equal(keep_open(dir, 1 << 20, &look), -EPROTO);
	snprintf(command, sizeof(command),
		"test $(stat -c %%s %s) = 5000 && test ! -e %s.bad && test ! -e %s-lock", path,
		path, path);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	log_init("test", NULL, LOG_ERROR, LOG_LOGFMT, false);
	const struct CMUnitTest tests[] = {
		TEST(test_decisions),
		TEST(test_decisions_are_bounded),
		TEST(test_rates),
		TEST(test_windows),
		TEST(test_notes),
		TEST(test_tokens),
		TEST(test_the_queue_is_bounded),
		TEST(test_without_a_store),
		TEST(test_a_damaged_file),
		TEST(test_looking_at_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
