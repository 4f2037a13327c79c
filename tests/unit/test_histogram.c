/* Histograms of times, and the sums over a worker's incarnations. */
#include "common/base/histogram.h"
#include "common/base/json.h"
#include "supervisor/devices/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_bounds_grow_by_halves_of_an_octave(void **state)
{
	static const uint64_t first[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32};
	static const struct histogram h;
	(void)state;
	for (unsigned i = 0; i < sizeof(first) / sizeof(*first); i++)
		assert_int_equal(histogram_bound(&h, i), first[i]);
	for (unsigned i = 1; i < HISTOGRAM_BUCKETS - 1; i++) {
		assert_true(histogram_bound(&h, i) > histogram_bound(&h, i - 1));
		assert_true(histogram_bound(&h, i) <= 2 * histogram_bound(&h, i - 1));
	}
	assert_int_equal(histogram_bound(&h, HISTOGRAM_BUCKETS - 2), 1 << HISTOGRAM_OCTAVES);
}

static void test_every_value_is_counted_in_its_bucket(void **state)
{
	static const struct {
		uint64_t ms;
		unsigned bucket;
	} cases[] = {{0, 0}, {1, 0}, {2, 1}, {3, 2}, {4, 3}, {5, 4}, {6, 4}, {7, 5},
		{1 << HISTOGRAM_OCTAVES, HISTOGRAM_BUCKETS - 2},
		{(1 << HISTOGRAM_OCTAVES) + 1, HISTOGRAM_BUCKETS - 1},
		{UINT64_MAX / 2, HISTOGRAM_BUCKETS - 1}};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct histogram h = {0};
		histogram_add(&h, cases[i].ms);
		assert_int_equal(h.count[cases[i].bucket], 1);
		assert_int_equal(h.total, 1);
		assert_int_equal(h.sum, cases[i].ms);
		assert_int_equal(h.max, cases[i].ms);
	}
}

static void test_quantiles_lie_in_the_bucket_of_the_true_value(void **state)
{
	(void)state;
	struct histogram h = {0};
	assert_true(histogram_quantile(&h, 0.5) == 0);
	for (uint64_t ms = 1; ms <= 1000; ms++)
		histogram_add(&h, ms);
	assert_in_range((uint64_t)histogram_quantile(&h, 0.5), 385, 512);
	assert_in_range((uint64_t)histogram_quantile(&h, 0.9), 769, 1000);
	assert_true(histogram_quantile(&h, 1) == 1000);
	assert_true(histogram_quantile(&h, 0.9) <= histogram_quantile(&h, 0.99));
}

static void test_json_is_cumulative(void **state)
{
	(void)state;
	struct histogram h = {0};
	struct buf out;
	struct json_value root, bucket;
	int64_t n = 0, last = 0, count;
	buf_init(&out, 0);
	histogram_add(&h, 3);
	histogram_add(&h, 3);
	histogram_add(&h, 20);
	histogram_json(&h, &out);
	assert_int_equal(json_parse(buf_slice(&out), JSON_MAX_DEPTH, &root, NULL), 0);
	assert_true(json_to_int(json_get(root, "count"), &n) && n == 3);
	assert_true(json_to_int(json_get(root, "sum_ms"), &n) && n == 26);
	struct json_iter it = json_iter(json_get(root, "buckets"));
	while (json_array_next(&it, &bucket)) {
		assert_true(json_to_int(json_get(bucket, "count"), &count));
		assert_true(count >= last);
		last = count;
		if (json_to_int(json_get(bucket, "le_ms"), &n))
			assert_true(n <= 24); /* nothing after the highest value */
	}
	assert_int_equal(last, 3);
	buf_free(&out);
}

/* --- report.h --- */

static void stats(struct report *r, struct report_sums *sums, uint64_t in, uint64_t out)
{
	struct proto_record record = {.type = PROTO_STATS};
	record.u.stats.bytes_in = in;
	record.u.stats.bytes_out = out;
	record.u.stats.rss_bytes = 7;
	report_take(r, sums, &record, 5);
}

static void test_other_units(void **state)
{
	(void)state;
	struct histogram h = {0};
	struct buf out;
	buf_init(&out, 0);
	histogram_add(&h, 90);
	histogram_json_of(&h, "percent", &out);
	assert_non_null(strstr(buf_cstr(&out), "\"sum_percent\":90"));
	assert_non_null(strstr(buf_cstr(&out), "\"p50_percent\":"));
	assert_non_null(strstr(buf_cstr(&out), "\"le_percent\":96"));
	assert_null(strstr(buf_cstr(&out), "ms"));
	buf_free(&out);
}

static void test_bounds_of_a_scale(void **state)
{
	static const uint64_t bounds[] = {10, 500, 20000};
	static const struct histogram_scale scale = {bounds, 3};
	struct histogram h = {.scale = &scale};
	struct buf out;
	(void)state;
	buf_init(&out, 0);
	histogram_add(&h, 10);
	histogram_add(&h, 11);
	histogram_add(&h, 90000);
	assert_int_equal(h.count[0], 1);
	assert_int_equal(h.count[1], 1);
	assert_int_equal(h.count[3], 1);
	assert_true(histogram_quantile(&h, 1) == 90000);
	histogram_json_of(&h, "us", &out);
	assert_non_null(strstr(buf_cstr(&out),
		"\"buckets\":[{\"le_us\":10,\"count\":1},{\"le_us\":500,\"count\":2},"
		"{\"le_us\":20000,\"count\":2},{\"le_us\":null,\"count\":3}]"));
	buf_free(&out);
}

static void test_sums_outlive_an_incarnation(void **state)
{
	(void)state;
	struct report r;
	struct report_sums sums = {0};
	struct proto_record pong = {.type = PROTO_PONG};
	pong.u.ping.progress = 9;
	pong.u.ping.active = 2;
	report_begin(&r, 1);
	report_take(&r, &sums, &pong, 4);
	assert_int_equal(r.heard_ms, 4);
	assert_int_equal(r.progress, 9);
	assert_int_equal(r.active, 2);
	stats(&r, &sums, 100, 10);
	stats(&r, &sums, 150, 10);
	report_begin(&r, 6); /* it died; the next one counts from 0 */
	assert_int_equal(r.heard_ms, 0);
	assert_int_equal(r.rss_bytes, 0);
	stats(&r, &sums, 20, 30);
	stats(&r, &sums, 5, 30); /* nonsense adds nothing */
	assert_int_equal(sums.bytes_in, 170);
	assert_int_equal(sums.bytes_out, 40);
	assert_int_equal(sums.heartbeats, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds_grow_by_halves_of_an_octave),
		cmocka_unit_test(test_every_value_is_counted_in_its_bucket),
		cmocka_unit_test(test_quantiles_lie_in_the_bucket_of_the_true_value),
		cmocka_unit_test(test_json_is_cumulative),
		cmocka_unit_test(test_other_units),
		cmocka_unit_test(test_bounds_of_a_scale),
		cmocka_unit_test(test_sums_outlive_an_incarnation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
