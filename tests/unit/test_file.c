/* Files that change hands in one step. */
#include "common/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants setjmp.h and stdarg.h first */
#include <cmocka.h>

static char folder[] = "/tmp/tandem-test-file-XXXXXX";
static char path[64], fresh[64], other[64];

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/state", folder);
	snprintf(fresh, sizeof(fresh), "%s/state.new", folder);
	snprintf(other, sizeof(other), "%s/other", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	unlink(path);
	unlink(fresh);
	unlink(other);
	return rmdir(folder);
}

static void put(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void assert_holds(const char *name, const char *text)
{
	char found[64] = "";
	int fd = open(name, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, found, sizeof(found) - 1), strlen(text));
	assert_string_equal(found, text);
	close(fd);
}

static void test_new_then_other(void **state)
{
	struct stat st;
	(void)state;
	assert_int_equal(file_replace(path, SLICE("one\n")), 0);
	assert_holds(path, "one\n");
	assert_int_equal(file_replace(path, SLICE("")), 0);
	assert_holds(path, "");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(access(fresh, F_OK), -1);
}

/* Neither a link at the name nor one at the name in the making is followed. */
static void test_links_are_replaced(void **state)
{
	(void)state;
	put(other, "somebody's");
	unlink(path);
	assert_int_equal(symlink(other, path), 0);
	assert_int_equal(symlink(other, fresh), 0);
	assert_int_equal(file_replace(path, SLICE("ours")), 0);
	assert_holds(other, "somebody's");
	assert_holds(path, "ours");
}

static void test_what_cannot_be_written(void **state)
{
	char deep[128], longest[PATH_MAX + 8];
	(void)state;
	snprintf(deep, sizeof(deep), "%s/none/state", folder);
	assert_int_equal(file_replace(deep, SLICE("x")), -ENOENT);
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(file_replace(longest, SLICE("x")), -ENAMETOOLONG);
	/* The name is a folder's: nothing is left beside it. */
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(file_replace(path, SLICE("x")), -EISDIR);
	assert_int_equal(access(fresh, F_OK), -1);
	assert_int_equal(rmdir(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_then_other),
		cmocka_unit_test(test_links_are_replaced),
		cmocka_unit_test(test_what_cannot_be_written),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
