/* How tandemctl writes numbers, around where their form changes. */
#include "supervisor/ctl/ctl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

typedef void form_fn(double n, char *out, size_t size);

static void test_forms(void **state)
{
	static const struct {
		form_fn *form;
		double n;
		const char *text;
	} cases[] = {
		{ctl_ms, -1, "-"},
		{ctl_ms, 0, "0 ms"},
		{ctl_ms, 999, "999 ms"},
		{ctl_ms, 1000, "1.0 s"},
		{ctl_ms, 123456, "123.5 s"},
		{ctl_age, -1, "-"},
		{ctl_age, 840, "0.8s"},
		{ctl_age, 9949, "9.9s"},
		{ctl_age, 10000, "10s"},
		{ctl_age, 62000, "1m02s"},
		{ctl_rate, -1, "-"},
		{ctl_rate, 0, "-"},
		{ctl_rate, 12.34, "12.3"},
		{ctl_rate, 250.4, "250"},
		{ctl_whole, -1, "-"},
		{ctl_whole, 0, "0"},
		{ctl_whole, 12400, "12400"},
		{ctl_count, -1, "-"},
		{ctl_count, 812, "812"},
		{ctl_count, 9999, "9999"},
		{ctl_count, 12400, "12.4K"},
		{ctl_duration, 3720, "1h02m"},
		{ctl_bytes, 1023, "1023 B"},
		{ctl_bytes, 1610612736, "1.5 GiB"},
	};
	char text[CTL_CELL_BYTES];
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cases[i].form(cases[i].n, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

static void test_no_room(void **state)
{
	static form_fn *const forms[] = {
		ctl_ms, ctl_age, ctl_rate, ctl_whole, ctl_count, ctl_duration, ctl_bytes};
	char text[4] = "abc";
	(void)state;
	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		forms[i](123456789, text, 3);
		assert_int_equal(strlen(text), 2);
		assert_int_equal(text[3], '\0');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms), cmocka_unit_test(test_no_room)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
