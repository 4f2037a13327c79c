/* The store: kept over restarts and kills, bounded, and nothing in its file ends the process. */
#include "common/base/store.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MAX_BYTES (1u << 20)

static char dir[64], path[96], bad[112];
static bool damaged; /* the file may be, after it was opened as well */

static int make_dir(void **state)
{
	(void)state;
	bool memory = access("/dev/shm", W_OK) == 0; /* where waiting for the disk costs nothing */
	snprintf(dir, sizeof(dir), "%s/tandem-store-XXXXXX", memory ? "/dev/shm" : "/tmp");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/tandem.mdb", dir);
	snprintf(bad, sizeof(bad), "%s.bad", path);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

/* Opens; *moved (may be NULL): whether a file was moved aside. */
static struct store *open_it(bool *moved)
{
	struct store *s = NULL;
	struct buf why;
	buf_init(&why, 0);
	assert_int_equal(store_open(path, MAX_BYTES, &s, &why), 0);
	if (moved)
		*moved = why.n > 0;
	else
		assert_int_equal(why.n, 0);
	buf_free(&why);
	return s;
}

static int put(struct store *s, enum store_kind kind, const char *key, const char *value)
{
	struct store_value v = {kind, slice_str(key), slice_str(value)};
	return store_put(s, &v, 1);
}

/* The value as a string, or NULL; valid until the next call. */
static const char *get(struct store *s, enum store_kind kind, const char *key)
{
	static char text[STORE_VALUE_MAX + 1];
	struct buf b;
	buf_init(&b, 0);
	int rc = store_get(s, kind, slice_str(key), &b, NULL);
	if (rc == 0)
		snprintf(text, sizeof(text), "%s", buf_cstr(&b));
	else
		assert_true(rc == -ENOENT || (damaged && rc == -EPROTO));
	buf_free(&b);
	return rc ? NULL : text;
}

static void test_kept(void **state)
{
	(void)state;
	struct store *s = open_it(NULL);
	struct stat st;
	assert_null(get(s, STORE_NOTE, "a"));
	assert_int_equal(put(s, STORE_NOTE, "a", "note"), 0);
	assert_int_equal(put(s, STORE_DECISION, "a", "decision"), 0);
	assert_int_equal(put(s, STORE_NOTE, "a", "another"), 0);
	assert_int_equal(put(s, STORE_NOTE, "empty", ""), 0);
	assert_string_equal(get(s, STORE_NOTE, "a"), "another");
	store_close(s);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	s = open_it(NULL);
	assert_string_equal(get(s, STORE_NOTE, "a"), "another");
	assert_string_equal(get(s, STORE_DECISION, "a"), "decision");
	assert_string_equal(get(s, STORE_NOTE, "empty"), "");
	assert_null(get(s, STORE_RATES, "a"));
	store_close(s);
	store_close(NULL);
}

/* A worker or a backend that is started has none of its descriptors. */
static void test_children_get_nothing(void **state)
{
	(void)state;
	struct store *s = open_it(NULL);
	char name[64], target[256];
	for (int fd = 3; fd < 64; fd++) {
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		ssize_t n = readlink(name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		if (strstr(target, "tandem.mdb"))
			assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	}
	store_close(s);
}

static void test_too_long(void **state)
{
	(void)state;
	static char big[STORE_VALUE_MAX + 2];
	struct store *s = open_it(NULL);
	memset(big, 'x', sizeof(big) - 1);
	assert_int_equal(put(s, STORE_NOTE, "key", big), -E2BIG);
	big[STORE_VALUE_MAX] = '\0';
	assert_int_equal(put(s, STORE_NOTE, "key", big), 0);
	assert_string_equal(get(s, STORE_NOTE, "key"), big);
	big[STORE_KEY_MAX + 1] = '\0';
	assert_int_equal(put(s, STORE_NOTE, big, "v"), -E2BIG);
	assert_int_equal(put(s, STORE_NOTE, "", "v"), -E2BIG);
	/* one bad value of several: none is written */
	struct store_value two[] = {
		{STORE_NOTE, SLICE("first"), SLICE("v")}, {STORE_NOTE, slice_str(big), SLICE("v")}};
	assert_int_equal(store_put(s, two, 2), -E2BIG);
	assert_null(get(s, STORE_NOTE, "first"));
	store_close(s);
}

struct seen {
	size_t count;
	char keys[256];
};

static void see(void *ctx, struct slice key, struct slice value)
{
	struct seen *seen = ctx;
	seen->count++;
	snprintf(seen->keys + strlen(seen->keys), sizeof(seen->keys) - strlen(seen->keys),
		"%.*s=%.*s ", (int)key.n, key.p, (int)value.n, value.p);
}

static void test_each(void **state)
{
	(void)state;
	struct store *s = open_it(NULL);
	struct seen seen = {0};
	put(s, STORE_NOTE, "n", "x");
	put(s, STORE_DECISION, "b", "2");
	put(s, STORE_RATES, "r", "y");
	put(s, STORE_DECISION, "a", "1");
	assert_int_equal(store_each(s, STORE_DECISION, see, &seen), 0);
	assert_string_equal(seen.keys, "a=1 b=2 ");
	store_close(s);
}

/* Written for ever, it stays within its bound; what is touched stays, what is not goes. */
static void test_bounded(void **state)
{
	(void)state;
	struct store *s = open_it(NULL);
	struct stat st;
	char key[32];
	static char value[3000];
	memset(value, 'v', sizeof(value) - 1);
	put(s, STORE_NOTE, "left alone", "x");
	put(s, STORE_NOTE, "touched", "x");
	for (int i = 0; i < 5000; i++) {
		struct buf b;
		bool old = false;
		snprintf(key, sizeof(key), "key %d", i);
		assert_int_equal(put(s, STORE_NOTE, key, value), 0);
		assert_string_equal(get(s, STORE_NOTE, key), value);
		buf_init(&b, 0);
		assert_int_equal(store_get(s, STORE_NOTE, SLICE("touched"), &b, &old), 0);
		if (old)
			assert_int_equal(put(s, STORE_NOTE, "touched", "x"), 0);
		buf_free(&b);
	}
	assert_null(get(s, STORE_NOTE, "left alone"));
	assert_non_null(get(s, STORE_NOTE, "touched"));
	assert_non_null(get(s, STORE_NOTE, "key 4980")); /* a generation holds some */
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size <= (off_t)MAX_BYTES);
	store_close(s);
	s = open_it(NULL);
	assert_non_null(get(s, STORE_NOTE, "key 4999"));
	store_close(s);
}

/* Values as large as they may be fill the file at once: room is made, or it is said that there is
 * none; never more than that. */
static void test_full(void **state)
{
	(void)state;
	struct store *s = open_it(NULL);
	static char big[STORE_VALUE_MAX];
	struct store_value many[64];
	char keys[64][16];
	memset(big, 'x', sizeof(big));
	for (int i = 0; i < 64; i++) {
		snprintf(keys[i], sizeof(keys[i]), "%d", i);
		many[i] = (struct store_value){STORE_NOTE, slice_str(keys[i]), {big, sizeof(big)}};
	}
	assert_int_equal(store_put(s, many, 64), -ENOSPC); /* four times the file */
	assert_int_equal(put(s, STORE_NOTE, "small", "v"), 0);
	for (int i = 0; i < 200; i++)
		assert_int_equal(store_put(s, &many[i % 64], 1), 0);
	assert_int_equal(put(s, STORE_NOTE, "small", "v"), 0);
	assert_non_null(get(s, STORE_NOTE, "small"));
	store_close(s);
}

static void write_file(const char *name, const void *p, size_t n)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), (ssize_t)n);
	close(fd);
}

static size_t read_file(const char *name, char **out)
{
	struct stat st = {0};
	int fd = open(name, O_RDONLY);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	*out = malloc((size_t)st.st_size + 1);
	assert_int_equal(read(fd, *out, (size_t)st.st_size), st.st_size);
	close(fd);
	return (size_t)st.st_size;
}

static void test_foreign_files(void **state)
{
	(void)state;
	static char noise[70000];
	static const struct {
		const char *text;
		size_t n;
	} files[] = {{"hello", 5}, {"SQLite format 3\0 and so on", 27}, {noise, sizeof(noise)},
		{noise, 4096}, {"\0", 1}};
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (char)(i * 2654435761u >> 13);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		bool moved;
		char *kept;
		write_file(path, files[i].text, files[i].n);
		struct store *s = open_it(&moved);
		assert_true(moved);
		assert_int_equal(put(s, STORE_NOTE, "a", "b"), 0);
		store_close(s);
		assert_int_equal(read_file(bad, &kept), files[i].n);
		assert_memory_equal(kept, files[i].text, files[i].n);
		free(kept);
		store_close(open_it(NULL)); /* the new one is good */
	}
	/* an empty file is a new store */
	write_file(path, "", 0);
	store_close(open_it(NULL));
}

static void test_no_file_at_all(void **state)
{
	(void)state;
	bool moved;
	struct store *s = NULL;
	struct buf why;
	buf_init(&why, 0);
	assert_int_equal(mkdir(path, 0700), 0);
	s = open_it(&moved);
	assert_true(moved);
	store_close(s);
	assert_int_equal(store_open("/nonexistent/folder/x.mdb", MAX_BYTES, &s, &why), -ENOENT);
	assert_int_equal(store_open("/proc/x.mdb", MAX_BYTES, &s, &why) < 0, 1);
	buf_free(&why);
}

static uint32_t seed;

static uint32_t draw(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static void fill(struct store *s)
{
	char key[32], value[600];
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "key %d", i);
		memset(value, 'a' + i % 26, sizeof(value));
		value[i * 2 % sizeof(value)] = '\0';
		assert_int_equal(put(s, i % 2 ? STORE_NOTE : STORE_DECISION, key, value), 0);
	}
}

/* Whatever the store says is what was written. */
static void look_at_all(struct store *s)
{
	char key[32];
	struct seen seen = {0};
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "key %d", i);
		const char *value = get(s, i % 2 ? STORE_NOTE : STORE_DECISION, key);
		if (!value)
			continue;
		assert_int_equal(strlen(value), i * 2 % 600);
		for (const char *p = value; *p; p++)
			assert_int_equal(*p, 'a' + i % 26);
	}
	store_each(s, STORE_NOTE, see, &seen);
	put(s, STORE_NOTE, "new", "value");
	const char *now = get(s, STORE_NOTE, "new");
	assert_true(!now || strcmp(now, "value") == 0);
}

/* Bytes, words and pages turned, ends cut off: it opens, and gives what was written or nothing. */
static void test_damaged_files(void **state)
{
	(void)state;
	struct store *s = open_it(NULL);
	char *good, *now, lock[112];
	int moved_aside = 0;
	snprintf(lock, sizeof(lock), "%s-lock", path);
	fill(s);
	store_close(s);
	damaged = true;
	size_t n = read_file(path, &good);
	now = malloc(n);
	for (seed = 1; seed < 400; seed++) {
		uint32_t keep = seed, bytes = (uint32_t)n;
		bool moved;
		memcpy(now, good, n);
		switch (seed % 5) {
		case 0: /* cut off */
			bytes = draw((uint32_t)n);
			break;
		case 1: /* a page of zeros */
			memset(now + draw((uint32_t)n / 4096) * 4096, 0, 4096);
			break;
		case 2: /* a page of another place */
			memcpy(now + draw((uint32_t)n / 4096) * 4096,
				now + draw((uint32_t)n / 4096) * 4096, 4096);
			break;
		case 3: /* a page's head */
			for (int i = 0; i < 4; i++)
				now[draw((uint32_t)n / 4096) * 4096 + draw(64)] = (char)draw(256);
			break;
		default: /* anywhere */
			for (int i = 0; i < 20; i++)
				now[draw((uint32_t)n)] ^= (char)(1 << draw(8));
		}
		write_file(path, now, bytes);
		unlink(lock);
		s = open_it(&moved);
		moved_aside += moved;
		look_at_all(s);
		store_close(s);
		seed = keep;
	}
	assert_true(moved_aside > 50);
	damaged = false;
	free(good);
	free(now);
}

/* Killed at any moment while it writes: what it said was written is there, and whole. */
static void test_killed(void **state)
{
	(void)state;
	int last = -1;
	for (int round = 0; round < 8; round++) {
		int fds[2];
		assert_int_equal(pipe(fds), 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct store *s = open_it(NULL);
			for (int i = last + 1;; i++) {
				char key[32], value[2000];
				snprintf(key, sizeof(key), "k%d", i);
				memset(value, 'a' + i % 26, sizeof(value) - 1);
				value[sizeof(value) - 1] = '\0';
				if (put(s, STORE_NOTE, key, value) ||
					write(fds[1], &i, sizeof(i)) != sizeof(i))
					_exit(1);
			}
		}
		close(fds[1]);
		int target = last + 3 + round * 5;
		while (last < target)
			assert_int_equal(read(fds[0], &last, sizeof(last)), sizeof(last));
		kill(pid, SIGKILL);
		int i;
		while (read(fds[0], &i, sizeof(i)) == sizeof(i))
			last = i;
		close(fds[0]);
		waitpid(pid, NULL, 0);
		struct store *s = open_it(NULL);
		char key[32];
		for (i = last > 20 ? last - 20 : 0; i <= last; i++) {
			snprintf(key, sizeof(key), "k%d", i);
			const char *value = get(s, STORE_NOTE, key);
			assert_non_null(value);
			assert_int_equal(strlen(value), 1999);
			assert_int_equal(value[1998], 'a' + i % 26);
		}
		store_close(s);
	}
}

/* Predecessor and successor of an upgrade have it open together. */
static void test_two_processes(void **state)
{
	(void)state;
	struct store *s = open_it(NULL);
	int status;
	assert_int_equal(put(s, STORE_NOTE, "ours", "1"), 0);
	pid_t pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "test_store", path, (char *)NULL);
		_exit(9);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_string_equal(get(s, STORE_NOTE, "theirs"), "2");
	store_close(s);
}

static int other_process(const char *name)
{
	struct store *s;
	struct buf why;
	buf_init(&why, 0);
	int rc = store_open(name, MAX_BYTES, &s, &why);
	if (rc || why.n)
		return 2;
	rc = get(s, STORE_NOTE, "ours") && put(s, STORE_NOTE, "theirs", "2") == 0 ? 0 : 3;
	store_close(s);
	return rc;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(int argc, char **argv)
{
	if (argc > 1)
		return other_process(argv[1]);
	const struct CMUnitTest tests[] = {
		TEST(test_kept),
		TEST(test_children_get_nothing),
		TEST(test_too_long),
		TEST(test_each),
		TEST(test_bounded),
		TEST(test_full),
		TEST(test_foreign_files),
		TEST(test_no_file_at_all),
		TEST(test_damaged_files),
		TEST(test_killed),
		TEST(test_two_processes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
