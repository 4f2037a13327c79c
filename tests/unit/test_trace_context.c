/* traceparent and tracestate, read strictly (W3C Trace Context). */
#include "common/base/trace_context.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"

static void test_a_traceparent_is_read_and_written(void **state)
{
	struct trace_context t;
	char text[TRACE_PARENT_BYTES];
	(void)state;
	assert_true(trace_parent_read(SLICE("00-" TRACE "-" SPAN "-01"), &t));
	assert_int_equal(t.trace[0], 0x4b);
	assert_int_equal(t.trace[15], 0x36);
	assert_int_equal(t.span[1], 0xf0);
	assert_true(t.sampled);
	trace_parent_write(&t, text);
	assert_string_equal(text, "00-" TRACE "-" SPAN "-01");
	assert_true(trace_parent_read(SLICE("00-" TRACE "-" SPAN "-00"), &t));
	assert_false(t.sampled);
	/* Other flags are none of ours, and are not passed on. */
	assert_true(trace_parent_read(SLICE("00-" TRACE "-" SPAN "-ff"), &t));
	trace_parent_write(&t, text);
	assert_string_equal(text, "00-" TRACE "-" SPAN "-01");
	/* A later version may have more. */
	assert_true(trace_parent_read(SLICE("01-" TRACE "-" SPAN "-01-more"), &t));
	assert_true(trace_parent_read(SLICE("fe-" TRACE "-" SPAN "-03"), &t));
}

static void test_what_is_none(void **state)
{
	static const char *const wrong[] = {"", "00", "00-" TRACE "-" SPAN "-0",
		"00-" TRACE "-" SPAN "-01-more", "00-" TRACE "-" SPAN "-01-",
		"00-" TRACE "-" SPAN "-01 ", " 00-" TRACE "-" SPAN "-01",
		"ff-" TRACE "-" SPAN "-01", "0g-" TRACE "-" SPAN "-01",
		"01-" TRACE "-" SPAN "-01more", "FE-" TRACE "-" SPAN "-01",
		"00_" TRACE "-" SPAN "-01", "00-" TRACE "_" SPAN "-01", "00-" TRACE "-" SPAN "_01",
		"00-00000000000000000000000000000000-" SPAN "-01",
		"00-" TRACE "-0000000000000000-01",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01",
		"00-" TRACE "-00F067AA0BA902B7-01", "00-" TRACE "-" SPAN "-0x",
		"00-" TRACE "-" SPAN "-0\xc1"};
	struct trace_context t = {.sampled = true};
	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		if (trace_parent_read(slice_str(wrong[i]), &t))
			fail_msg("taken: %s", wrong[i]);
	assert_false(trace_parent_read((struct slice){"00-" TRACE "-" SPAN "\0-1", 55}, &t));
	assert_true(t.sampled); /* untouched */
}

static void check_state(const char *joined, const char *want)
{
	struct buf out;
	buf_init(&out, TRACE_STATE_BYTES);
	bool good = trace_state_read(slice_str(joined), &out);
	if (good != (want != NULL) || strcmp(buf_cstr(&out), want ? want : "") != 0)
		fail_msg("%s: %s", joined, buf_cstr(&out));
	buf_free(&out);
}

static void test_a_tracestate(void **state)
{
	(void)state;
	check_state("", "");
	check_state(" ,\t, ", "");
	check_state("congo=t61rcWkgMzE", "congo=t61rcWkgMzE");
	check_state("a=1 ,\t b=2,,", "a=1,b=2");
	check_state("0tenant@vendor/x*y_z-1=a b!~", "0tenant@vendor/x*y_z-1=a b!~");
	check_state("a=1,b", NULL);
	check_state("a=", NULL);
	check_state("=1", NULL);
	check_state("A=1", NULL);
	check_state("_a=1", NULL);
	check_state("a=1=2", NULL);
	check_state("a=\x7f", NULL);
	check_state("a=\xc3\xa9", NULL);
}

static void fill(char *to, const char *key, size_t n)
{
	size_t at = (size_t)sprintf(to, "%s=", key);
	memset(to + at, 'x', n - at);
	to[n] = '\0';
}

static void test_what_is_too_long_goes_member_by_member(void **state)
{
	char text[4096], member[600], want[4096];
	(void)state;
	/* The long one goes first, wherever it stands. */
	fill(member, "long", 200);
	sprintf(text, "a=1,%s,", member);
	strcpy(want, "a=1");
	for (int i = 0; i < 4; i++) {
		fill(member, (const char *[]){"b", "c", "d", "e"}[i], 100);
		strcat(text, member);
		strcat(text, ",");
		strcat(want, ",");
		strcat(want, member);
	}
	check_state(text, want);
	/* Then the last ones. */
	fill(member, "f", 128);
	strcat(text, member);
	check_state(text, want);
	/* A value over its own bound makes all of it none. */
	fill(member, "g", 300);
	check_state(member, NULL);
}

static void test_thirty_two_members(void **state)
{
	char text[4096] = "";
	(void)state;
	for (int i = 0; i < 32; i++)
		sprintf(text + strlen(text), "%sk%d=v", i ? "," : "", i);
	check_state(text, text);
	strcat(text, ",k32=v");
	check_state(text, NULL);
}

static void test_a_share_by_the_id_alone(void **state)
{
	uint8_t id[TRACE_ID_BYTES] = {0};
	unsigned hits = 0;
	(void)state;
	srand(1);
	for (int i = 0; i < 20000; i++) {
		for (size_t k = 0; k < sizeof(id); k++)
			id[k] = (uint8_t)rand();
		assert_false(trace_is_sampled(id, 0));
		assert_true(trace_is_sampled(id, 1));
		hits += trace_is_sampled(id, .25);
	}
	assert_in_range(hits, 4600, 5400);
}

static void test_spans_within(void **state)
{
	struct trace_context t, other;
	uint8_t a[TRACE_SPAN_BYTES], b[TRACE_SPAN_BYTES];
	(void)state;
	trace_parent_read(SLICE("00-" TRACE "-" SPAN "-01"), &t);
	trace_span_within(&t, 'c', 1, a);
	trace_span_within(&t, 'c', 1, b);
	assert_memory_equal(a, b, sizeof(a));
	trace_span_within(&t, 'c', 2, b);
	assert_memory_not_equal(a, b, sizeof(a));
	trace_span_within(&t, 'n', 1, b);
	assert_memory_not_equal(a, b, sizeof(a));
	other = t;
	other.span[0] ^= 1;
	trace_span_within(&other, 'c', 1, b);
	assert_memory_not_equal(a, b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_traceparent_is_read_and_written),
		cmocka_unit_test(test_what_is_none),
		cmocka_unit_test(test_a_tracestate),
		cmocka_unit_test(test_what_is_too_long_goes_member_by_member),
		cmocka_unit_test(test_thirty_two_members),
		cmocka_unit_test(test_a_share_by_the_id_alone),
		cmocka_unit_test(test_spans_within),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
