/* What the command of a backend that we start is given. */
#include "common/backends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define COMMAND(...)                                                                               \
	((char *const *)(const void *)(const char *const[]){"llama-server", __VA_ARGS__, NULL})

static unsigned added(char *const *command)
{
	unsigned bits = 0, bit = 1;
	for (const struct backend_argument *a = backend_arguments; a->name; a++, bit <<= 1)
		bits |= backend_adds(command, a) ? bit : 0;
	return bits;
}

static void test_arguments(void **state)
{
	(void)state;
	enum { ASIDE = 1, BATCH = 2 };
	assert_int_equal(added(COMMAND("-np", "1")), ASIDE | BATCH);
	assert_int_equal(added(COMMAND("-c", "9", "--parallel", "1", "-ngl", "99")), ASIDE | BATCH);
	assert_int_equal(added(COMMAND("-c", "9")), 0); /* four slots */
	assert_int_equal(added(COMMAND("-np", "2")), 0);
	assert_int_equal(added(COMMAND("-np", "1", "-np", "4")), 0); /* the last one counts */
	assert_int_equal(added(COMMAND("-np", "1", "-b", "256")), ASIDE);
	assert_int_equal(added(COMMAND("-np", "1", "--slot-prompt-similarity", ".3")), BATCH);
	assert_int_equal(added(COMMAND("-np", "1", "--cache-ram", "0")), BATCH);
	assert_int_equal(added(COMMAND("-np", "1", "-cram", "-1")), ASIDE | BATCH);
	assert_int_equal(added(COMMAND("-np")), 0);
	assert_int_equal(added(NULL), 0);
}

static void test_similarity(void **state)
{
	(void)state;
	assert_true(backend_similarity(COMMAND("-np", "1")) == .8);
	assert_true(backend_similarity(COMMAND("-np", "1", "-sps", "0.5")) == .5);
	assert_true(backend_similarity(COMMAND("-np", "1", "-sps", "0")) == 0);
	assert_true(backend_similarity(COMMAND("-np", "1", "-cram", "0")) == 0);
	assert_true(backend_similarity(COMMAND("-np", "3", "-sps", "0.5")) == 0);
	assert_true(backend_similarity(NULL) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_similarity),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
