/* What the process that sends traces decides: how long it waits, what an answer says, what headers it adds. */
#include "workers/traces/sender.h"

#include <errno.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void test_pauses_double_up_to_a_bound(void **state)
{
	(void)state;
	assert_int_equal(sender_pause_ms(1, 0, 0), 1000);
	assert_int_equal(sender_pause_ms(2, 0, 0), 2000);
	assert_int_equal(sender_pause_ms(3, 0, 0), 4000);
	assert_int_equal(sender_pause_ms(6, 0, 0), 30000);
	assert_int_equal(sender_pause_ms(4000000000u, 0, 0), 30000);
	assert_int_equal(sender_pause_ms(1, 0, 1), 1200);
	/* The collector's wish counts, within reason. */
	assert_int_equal(sender_pause_ms(5, 7, 1), 7000);
	assert_int_equal(sender_pause_ms(1, INT64_MAX, 0), SENDER_GIVE_UP_MS);
}

static void check_answer(const char *answer, uint64_t rejected, const char *words)
{
	struct buf text;
	buf_init(&text, 1024);
	assert_int_equal(sender_rejected(slice_str(answer), &text), rejected);
	assert_string_equal(buf_cstr(&text), words);
	buf_free(&text);
}

static void test_partial_success(void **state)
{
	(void)state;
	check_answer("", 0, "");
	check_answer("{}", 0, "");
	check_answer("[]", 0, "");
	check_answer("{\"partialSuccess\":{}}", 0, "");
	check_answer("{\"partialSuccess\":null}", 0, "");
	check_answer("{\"partialSuccess\":{\"rejectedSpans\":\"12\",\"errorMessage\":\"a\\nb\"}}",
		12, "a\nb");
	check_answer("{\"partialSuccess\":{\"rejectedSpans\":12}}", 12, "");
	check_answer("{\"partialSuccess\":{\"rejectedSpans\":-3}}", 0, "");
	check_answer("{\"partialSuccess\":{\"rejectedSpans\":\"-3\"}}", 0, "");
	check_answer("{\"partialSuccess\":{\"rejectedSpans\":\"many\"}}", 0, "");
	check_answer("{\"partialSuccess\":{\"rejectedSpans\":true,\"errorMessage\":5}}", 0, "");
	check_answer("{\"partialSuccess\":{\"rejectedSpans\":\"12\"", 0, "");
}

static void check_headers(const char *text, int rc, size_t count, const char *why)
{
	struct traces_headers h = {.count = 0};
	struct buf words;
	buf_init(&words, 256);
	buf_init(&h.text, TRACES_HEADERS_BYTES);
	buf_add_str(&h.text, text);
	assert_int_equal(headers_parse(&h, &words), rc);
	assert_string_equal(buf_cstr(&words), why);
	if (rc == 0)
		assert_int_equal(h.count, count);
	headers_fini(&h);
	buf_free(&words);
}

static void test_headers(void **state)
{
	(void)state;
	check_headers("", 0, 0, "");
	check_headers("# none\n\n  \t\n", 0, 0, "");
	check_headers("A: b\r\n b-c:d: e \nEmpty:", 0, 3, "");
	check_headers("A", -EINVAL, 0, "line 1 has no colon: Name: value");
	check_headers("\n: x", -EINVAL, 0, "line 2 is no header: Name: value");
	check_headers("A: b\x01", -EINVAL, 0, "line 1 is no header: Name: value");
	check_headers("A: b\nhost: x", -EINVAL, 0, "line 2 is a header that tandem sets");
}

static void check_settings(const char *endpoint, const char *base, const char *target)
{
	struct traces_settings s;
	char line[512];
	snprintf(line, sizeof(line),
		"{\"endpoint\":\"%s\",\"resource\":{\"attributes\":[]},\"connect_ms\":1,\"timeout_"
		"ms\":1,"
		"\"delay_ms\":0,\"batch_spans\":5,\"queue_bytes\":1000,\"last_ms\":0,\"log_level\":"
		"1,"
		"\"log_format\":0,\"log_buffer_bytes\":0}",
		endpoint);
	assert_int_equal(traces_settings_read(&s, slice_str(line)), 0);
	assert_string_equal(s.base, base);
	assert_string_equal(s.target, target);
	assert_string_equal(s.resource, "{\"attributes\":[]}");
	assert_null(s.headers_file);
	traces_settings_fini(&s);
}

static void test_settings(void **state)
{
	struct traces_settings s;
	(void)state;
	check_settings("http://127.0.0.1:4318", "http://127.0.0.1:4318", "/v1/traces");
	check_settings("https://c.example/", "https://c.example", "/v1/traces");
	check_settings("https://c.example/a/b", "https://c.example", "/a/b");
	check_settings("http://[::1]:4318/x/", "http://[::1]:4318", "/x/");
	assert_int_equal(traces_settings_read(&s, SLICE("{}")), -EINVAL);
	traces_settings_fini(&s);
	assert_int_equal(traces_settings_read(&s, SLICE("nonsense")), -EINVAL);
	traces_settings_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pauses_double_up_to_a_bound),
		cmocka_unit_test(test_partial_success),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_settings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
