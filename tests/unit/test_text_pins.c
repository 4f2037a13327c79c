/*
 * What a line is: sentences of people in any language; which user messages are a tool's.
 */
#include "common/text/pins.h"
#include "common/text/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the above */
#include <cmocka.h>

static void test_prose(void **state)
{
	static const char *const prose[] = {
		"Avoid global variables.",
		"  Deja el Makefile como est\xc3\xa1.",
		"Ich will kein TODO im Code sehen!",
		"\xd0\x9d\xd0\xb5 \xd0\xbc\xd0\xb5\xd0\xbd\xd1\x8f\xd0\xb9 "
		"\xd0\xbf\xd0\xbe\xd1\x80\xd1\x82.",
		"\xe7\xab\xaf\xe5\x8f\xa3\xe5\xbf\x85\xe9\xa1\xbb\xe4\xbf\x9d\xe6\x8c\x81 "
		"8512\xe3\x80\x82",
		"He said \"leave it alone.\"",
	};
	static const char *const other[] = {"", "    return x;", "done.", "int main(void)",
		"[07:14:07] worker 7 took job 58 and gave it back after 4 tries, queue 12",
		"| a | b | c |", "supervisor/requests/plan.c:12: x = y + z;", "----------------",
		"drwxr-xr-x 2 root root 4096 Nov 28 23:39 ."};
	(void)state;
	for (size_t i = 0; i < sizeof(prose) / sizeof(*prose); i++)
		if (!pin_prose(slice_str(prose[i])))
			fail_msg("no sentence: %s", prose[i]);
	for (size_t i = 0; i < sizeof(other) / sizeof(*other); i++)
		if (pin_prose(slice_str(other[i])))
			fail_msg("a sentence: %s", other[i]);
}

static void test_command_output_is_a_tools(void **state)
{
	(void)state;
	assert_true(text_is_tool_result(SLICE("I ran this command:\n\nmake\n\nAnd got this "
					      "output:\n\ncc -c a.c\n")));
	assert_false(text_is_tool_result(SLICE("I ran this command:\n\nmake\n\nIt failed.")));
	assert_false(text_is_tool_result(SLICE("I ran this command: make")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prose),
		cmocka_unit_test(test_command_output_is_a_tools),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
