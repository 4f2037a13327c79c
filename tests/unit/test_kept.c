/* Conversations in files: the worker's index of them, the slots that hold them. */
#include "workers/backend/kept.h"
#include "workers/backend/slots.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW 1800000000
#define DAY 86400

struct place {
	struct kept k;
	uint64_t gone[16];
	size_t gone_count;
};

static int set_up(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	snprintf(p->k.dir, sizeof(p->k.dir), "/tmp/tandem-test-XXXXXX");
	snprintf(p->k.device, sizeof(p->k.device), "gpu0");
	p->k.most = 1000;
	*state = p;
	return mkdtemp(p->k.dir) ? 0 : -1;
}

static int tear_down(void **state)
{
	struct place *p = *state;
	char command[KEPT_DIR_BYTES + 16];
	snprintf(command, sizeof(command), "rm -r %s", p->k.dir);
	int rc = system(command); /* NOLINT(cert-env33-c): a folder of this test */
	free(p);
	return rc;
}

static void on_gone(void *ctx, const struct kept_file *f)
{
	struct place *p = ctx;
	p->gone[p->gone_count++] = f->id;
}

static void touch(const struct place *p, const char *name, size_t bytes)
{
	char path[KEPT_DIR_BYTES + 128];
	snprintf(path, sizeof(path), "%s/%s", p->k.dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	close(fd);
}

static bool is_there(const struct place *p, const char *name)
{
	char path[KEPT_DIR_BYTES + 128];
	snprintf(path, sizeof(path), "%s/%s", p->k.dir, name);
	return access(path, F_OK) == 0;
}

static void put(struct place *p, uint64_t id, uint64_t model, int64_t bytes, int64_t used_s)
{
	char name[KEPT_NAME_BYTES];
	struct kept_file f = {id, model, model / 10, bytes / 2, bytes, used_s};
	kept_name(&p->k, id, name);
	touch(p, name, (size_t)bytes);
	kept_put(&p->k, &f, on_gone, p);
}

static void reads_what_it_wrote(void **state)
{
	struct place *p = *state;
	put(p, UINT64_MAX, 77, 100, NOW);
	put(p, 2, 78, 200, NOW + 1);
	assert_int_equal(kept_judge(&p->k, 77, false, NOW), 1);
	assert_int_equal(kept_judge(&p->k, 77, false, NOW), 2);
	assert_int_equal(kept_write(&p->k), 0);
	struct kept again = p->k;
	again.count = 0;
	again.unused = 0;
	kept_read(&again);
	assert_int_equal(again.count, 2);
	assert_memory_equal(again.files, p->k.files, 2 * sizeof(again.files[0]));
	assert_int_equal(kept_unused(&again, 77, NOW), 2);
	assert_int_equal(kept_unused(&again, 78, NOW), 0);
	assert_int_equal(kept_unused(&again, 77, NOW + (KEPT_UNUSED_DAYS + 1) * DAY), 0);
	assert_int_equal(kept_judge(&again, 77, true, NOW), 0);
}

static void refuses_other_indexes(void **state)
{
	struct place *p = *state;
	static const char *const wrong[] = {"", "x", "tandem-slots 1\nkey ff\nslot 0 9\n",
		"tandem-slots 2 \n", "tandem-slots 2\nkept 1 2 3 4 5\n",
		"tandem-slots 2\nkept 1 2 3 4 5 6 7\n", "tandem-slots 2\nkept 0 2 3 4 5 6\n",
		"tandem-slots 2\nkept ../x 2 3 4 5 6\n", "tandem-slots 2\nkept 1 2 3 -4 5 6\n",
		"tandem-slots 2\nkept 1 2 3 4 +5 6\n", "tandem-slots 2\nkept 1 2 3  4 5 6\n",
		"tandem-slots 2\nkept 1 2 3 4 99999999999999999999 "
		"6\n",
		"tandem-slots 2\nkept 1 2 3 4 9223372036854775807 "
		"6\n",
		"tandem-slots 2\nkept 1 2 3 4 4611686018427387000 "
		"6\n", /* that many files have no sum */
		"tandem-slots 2\nkept 1 2 3 4 5 6\nkept 1 2 3 4 5 "
		"6\n",
		"tandem-slots 2\nunused 1 2\n"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		p->k.count = 5;
		assert_int_equal(kept_parse(&p->k, slice_str(wrong[i])), -71);
		assert_int_equal(p->k.count, 0);
	}
	assert_int_equal(kept_parse(&p->k, SLICE("tandem-slots 2\n")), 0);
	assert_int_equal(kept_parse(&p->k, SLICE("tandem-slots 2\nkept a 2 3 4 5 6\n")), 0);
	assert_int_equal(p->k.count, 1);
	assert_true(kept_find(&p->k, 10) && !kept_find(&p->k, 11));
}

static void a_full_index(void **state)
{
	struct place *p = *state;
	struct buf text;
	p->k.most = INT64_MAX;
	for (uint64_t i = 1; i <= KEPT_MAX + 1; i++) {
		struct kept_file f = {
			~i, ~i, ~i, INT64_MAX / 1000, INT64_MAX / 1000, INT64_MAX / 1000};
		kept_put(&p->k, &f, on_gone, p);
	}
	assert_int_equal(p->k.count, KEPT_MAX);
	assert_int_equal(p->gone_count, 1);
	assert_true(p->gone[0] == ~UINT64_C(1));
	buf_init(&text, KEPT_INDEX_BYTES - 1);
	assert_int_equal(kept_print(&p->k, &text), 0);
	assert_int_equal(kept_parse(&p->k, buf_slice(&text)), 0);
	assert_int_equal(p->k.count, KEPT_MAX);
	buf_free(&text);
}

static void the_cap(void **state)
{
	struct place *p = *state;
	put(p, 1, 77, 400, NOW);
	put(p, 2, 77, 400, NOW);
	kept_used(&p->k, 1, NOW + 1);
	put(p, 3, 77, 400, NOW);
	assert_int_equal(p->gone_count, 1);
	assert_true(p->gone[0] == 2 && !is_there(p, "tandem-gpu0-0000000000000002.bin"));
	put(p, 3, 77, 600, NOW); /* grown, under its name */
	assert_int_equal(kept_bytes(&p->k), 1000);
	put(p, 4, 77, 1001, NOW); /* it alone is too large: nothing is left */
	assert_int_equal(p->k.count, 0);
	assert_false(is_there(p, "tandem-gpu0-0000000000000004.bin"));
}

static void what_is_out_of_date(void **state)
{
	struct place *p = *state;
	put(p, 1, 77, 10, NOW);
	put(p, 2, 78, 10, NOW); /* of that file as it was before: the same path */
	put(p, 3, 99, 10, NOW); /* another file's */
	put(p, 4, 77, 10, NOW - (KEPT_DAYS + 1) * DAY);
	assert_int_equal(kept_sweep(&p->k, 77, 7, true, NOW, on_gone, p), 1);
	assert_int_equal(p->k.count, 2);
	assert_true(kept_find(&p->k, 1) && kept_find(&p->k, 3));
	assert_int_equal(kept_sweep(&p->k, 77, 7, false, NOW, on_gone, p), 0);
	assert_true(p->k.count == 1 && kept_find(&p->k, 1));
}

static void strays(void **state)
{
	struct place *p = *state;
	static const char *const theirs[] = {"tandem-gpu0-1-0000000000000001.bin", "mine.bin",
		"tandem-gpu1-0000000000000001.bin", "tandem-gpu0-0000000000000009.bin.old",
		"tandem-gpu0.index"};
	put(p, 1, 77, 10, NOW);
	for (size_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++)
		touch(p, theirs[i], 1);
	touch(p, "tandem-gpu0-0000000000000001.bin.new", 1);
	touch(p, "tandem-gpu0-0000000000000002.bin", 1);
	touch(p, "tandem-gpu0-0.bin", 1); /* of the version before */
	kept_remove_strays(&p->k);
	for (size_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++)
		assert_true(is_there(p, theirs[i]));
	assert_true(is_there(p, "tandem-gpu0-0000000000000001.bin"));
	assert_false(is_there(p, "tandem-gpu0-0000000000000001.bin.new"));
	assert_false(is_there(p, "tandem-gpu0-0000000000000002.bin"));
	assert_false(is_there(p, "tandem-gpu0-0.bin"));
}

static void whole_files(void **state)
{
	struct place *p = *state;
	char path[KEPT_DIR_BYTES + KEPT_NAME_BYTES];
	put(p, 1, 77, 10, NOW);
	const struct kept_file *f = kept_find(&p->k, 1);
	kept_path(&p->k, 1, path, sizeof(path));
	assert_true(kept_is_whole(&p->k, f));
	assert_int_equal(truncate(path, 9), 0);
	assert_false(kept_is_whole(&p->k, f));
	unlink(path);
	assert_false(kept_is_whole(&p->k, f));
	assert_int_equal(symlink("/etc/hostname", path), 0);
	assert_false(kept_is_whole(&p->k, f));
}

static void looks_at_slots(void **state)
{
	(void)state;
	struct slots_seen seen[SLOTS_MAX];
	bool taken[3] = {false, false, false};
	struct slice answer =
		SLICE("[{\"id\":0,\"is_processing\":false},"
		      "{\"id\":1,\"id_task\":9,\"n_prompt_tokens\":1000,\"is_processing\":false},"
		      "{\"id\":2,\"id_task\":4,\"n_prompt_tokens\":2000,\"is_processing\":true}]");
	assert_int_equal(slots_look(answer, seen), 3);
	assert_true(seen[0].tokens == -1 && seen[1].tokens == 1000 && seen[2].busy);
	assert_int_equal(slots_match(seen, 3, taken, 1001), 1);
	assert_int_equal(slots_match(seen, 3, taken, 1100), -1);
	assert_int_equal(slots_match(seen, 3, taken, 2000), -1); /* at work */
	assert_int_equal(slots_match(seen, 3, taken, -1), -1);
	taken[1] = true;
	assert_int_equal(slots_match(seen, 3, taken, 1000), -1);
	assert_int_equal(slots_oldest(seen, 3), 0);
	struct slots_seen fresh[3] = {{-1, -1, false}, {-1, -1, false}, {500, 3, false}};
	assert_int_equal(slots_oldest(fresh, 3), 1);
	seen[0].busy = true;
	assert_int_equal(slots_oldest(seen, 3), 1);
	seen[1].busy = true;
	assert_int_equal(slots_oldest(seen, 3), -1);
	static const char *const wrong[] = {
		"", "{}", "[1]", "[{\"id\":1}]", "[{\"id\":0},{}]", "{\"error\":{\"code\":501}}"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(slots_look(slice_str(wrong[i]), seen), 0);
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {WITH_PLACE(reads_what_it_wrote),
		WITH_PLACE(refuses_other_indexes), WITH_PLACE(a_full_index), WITH_PLACE(the_cap),
		WITH_PLACE(what_is_out_of_date), WITH_PLACE(strays), WITH_PLACE(whole_files),
		cmocka_unit_test(looks_at_slots)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
