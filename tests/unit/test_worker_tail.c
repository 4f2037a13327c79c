/* The ring of a backend's last lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "workers/tasks/tail.h"

#include <stdio.h>

static struct tail tail;
static struct buf seen;

static int setup(void **state)
{
	(void)state;
	memset(&tail, 0, sizeof(tail));
	buf_init(&seen, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	buf_free(&seen);
	return 0;
}

static void on_line(void *ctx, struct slice text)
{
	assert_ptr_equal(ctx, &seen);
	buf_add_slice(&seen, text);
	buf_add_char(&seen, '|');
}

static void feed(const char *text)
{
	tail_feed(&tail, slice_str(text), on_line, &seen);
}

static void lines_come_whole_wherever_reads_end(void **state)
{
	(void)state;
	feed("on");
	feed("e\ntwo\r\n\n   \nthr");
	assert_string_equal(buf_cstr(&seen), "one|two|");
	feed("ee");
	tail_end(&tail, on_line, &seen);
	assert_string_equal(buf_cstr(&seen), "one|two|three|");
	tail_end(&tail, on_line, &seen);
	assert_string_equal(buf_cstr(&seen), "one|two|three|");
}

static void what_is_no_text_becomes_harmless(void **state)
{
	(void)state;
	feed("a\x1b[31m\xff\xc3\xa9\xc3\n");
	assert_string_equal(buf_cstr(&seen), "a?[31m?\xc3\xa9?|");
}

static void a_long_line_is_cut_and_the_next_is_whole(void **state)
{
	struct buf out;
	(void)state;
	for (int i = 0; i < 100; i++)
		feed("0123456789");
	feed("\nnext\n");
	assert_int_equal(seen.n, TAIL_LINE_BYTES + 1 + 5);
	buf_init(&out, 0);
	tail_write(&tail, 6, &out);
	assert_string_equal(buf_cstr(&out), "\nnext");
	buf_free(&out);
}

static void the_newest_lines_stay(void **state)
{
	struct buf out;
	char line[32];
	(void)state;
	buf_init(&out, 0);
	tail_write(&tail, 1000, &out);
	assert_int_equal(out.n, 0);
	for (int i = 0; i < 3 * TAIL_LINES + 5; i++) {
		snprintf(line, sizeof(line), "line %d\n", i);
		feed(line);
	}
	tail_write(&tail, 100000, &out);
	assert_memory_equal(out.p, "\nline 45\nline 46\n", 17);
	assert_memory_equal(out.p + out.n - 8, "\nline 64", 8);
	buf_clear(&out);
	tail_write(&tail, 17, &out); /* two lines are 16 bytes, three 24 */
	assert_string_equal(buf_cstr(&out), "\nline 63\nline 64");
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			lines_come_whole_wherever_reads_end, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_no_text_becomes_harmless, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_long_line_is_cut_and_the_next_is_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(the_newest_lines_stay, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
