/* The newest events: bounded by their text, picked by request. */
#include "supervisor/tell/recent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void add(struct recent *r, int seq, const char *request)
{
	char text[64];
	snprintf(text, sizeof(text), "{\"seq\":%02d,\"req\":\"%s\"}", seq, request);
	recent_add(r, slice_str(text));
}

static void says(const struct recent *r, const char *request, const char *expected)
{
	struct buf out;
	buf_init(&out, 0);
	recent_put(r, request, &out);
	assert_string_equal(buf_cstr(&out), expected);
	buf_free(&out);
}

static void test_the_oldest_go(void **state)
{
	(void)state;
	struct recent r;
	recent_init(&r, 60); /* three of 20 bytes */
	says(&r, NULL, "");
	for (int i = 1; i <= 4; i++)
		add(&r, i, i % 2 ? "a" : "b");
	says(&r, NULL,
		"{\"seq\":02,\"req\":\"b\"},{\"seq\":03,\"req\":\"a\"},{\"seq\":04,\"req\":\"b\"}");
	assert_int_equal(r.bytes, 60);
	says(&r, "b", "{\"seq\":02,\"req\":\"b\"},{\"seq\":04,\"req\":\"b\"}");
	says(&r, "c", "");
	recent_limit(&r, 25);
	says(&r, NULL, "{\"seq\":04,\"req\":\"b\"}");
	add(&r, 5, "too long for what may be kept");
	says(&r, NULL, "{\"seq\":04,\"req\":\"b\"}");
	recent_limit(&r, 0);
	add(&r, 6, "a");
	says(&r, NULL, "");
	recent_fini(&r);
}

/* What stands in a text is none, and a part of an id is not it. */
static void test_only_that_request(void **state)
{
	(void)state;
	struct recent r;
	recent_init(&r, 4096);
	add(&r, 1, "ab-1");
	add(&r, 2, "ab-12");
	recent_add(&r, SLICE("{\"seq\":3,\"req\":\"x\",\"model\":\"\\\"req\\\":\\\"ab-1\\\"\"}"));
	says(&r, "ab-1", "{\"seq\":01,\"req\":\"ab-1\"}");
	says(&r, "\",\"", "");
	recent_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_oldest_go),
		cmocka_unit_test(test_only_that_request),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
