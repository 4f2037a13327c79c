/* Documents as Prometheus' text format. */
#include "supervisor/tell/prometheus.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct sample {
	const char *name, *where;
	uint64_t n;
	bool unknown;
	struct histogram times;
};

struct thing {
	uint64_t bytes;
	double rate;
	struct sample of[3];
	size_t count;
};

static void get_text(const void *of, const struct field *f, struct field_value *out)
{
	const struct sample *s = of;
	field_say_text(out, f->which ? s->where : s->name);
}

static void get_number(const void *of, const struct field *f, struct field_value *out)
{
	const struct sample *s = of;
	(void)f;
	field_say_int_if(out, !s->unknown, (int64_t)s->n);
}

static void each(const void *of, struct field_list *list)
{
	const struct thing *t = of;
	for (size_t i = 0; i < t->count; i++)
		field_item(list, &t->of[i]);
}

#define LABELS                                                                                     \
	{.name = "name", .type = FIELD_TEXT, .get = get_text},                                     \
	{                                                                                          \
		.name = "where", .type = FIELD_TEXT, .get = get_text, .which = 1                   \
	}
#define FAMILY(name_, members_)                                                                    \
	{                                                                                          \
		.name = (name_), .help = "Some help.", .type = FIELD_LIST, .items = FIELD_OBJECT,  \
		.members = (members_), .each = each                                                \
	}

static const struct field numbers[] = {
	LABELS, {.name = "value", .type = FIELD_INT, .kind = FIELD_COUNT, .get = get_number}};
static const struct field percents[] = {
	LABELS, {.name = "value", .type = FIELD_INT, .unit = "percent", .get = get_number}};
static const struct field histograms[] = {
	LABELS, {.name = "value",
			.type = FIELD_HISTOGRAM,
			.unit = "ms",
			.get = field_get_histogram,
			.which = FIELD_AT(struct sample, times, struct histogram)}};
static const struct fields number_members = FIELDS(numbers), percent_members = FIELDS(percents),
			   histogram_members = FIELDS(histograms);

static void expect(const struct field *fields, size_t n, const struct thing *t, const char *want)
{
	const struct fields all = {fields, n};
	struct buf out;
	buf_init(&out, 0);
	prometheus_document(&all, t, &out);
	assert_int_equal(buf_error(&out), 0);
	assert_string_equal(buf_cstr(&out), want);
	buf_free(&out);
}

static void test_plain_values(void **state)
{
	static const struct field fields[] = {
		{.name = "x_bytes",
			.help = "Bytes.",
			.type = FIELD_INT,
			.get = field_get_u64,
			.which = FIELD_AT(struct thing, bytes, uint64_t)},
		{.name = "x_seconds",
			.type = FIELD_REAL,
			.unit = "ms",
			.get = field_get_double,
			.which = FIELD_AT(struct thing, rate, double)},
	};
	struct thing t = {.bytes = UINT64_C(9007199254740993), .rate = 1234.5};
	(void)state;
	expect(fields, 2, &t,
		"# HELP x_bytes Bytes.\n# TYPE x_bytes gauge\nx_bytes 9007199254740993\n"
		"# HELP x_seconds x_seconds\n# TYPE x_seconds gauge\nx_seconds 1.2345\n");
	t.rate = NAN; /* unknown */
	expect(fields + 1, 1, &t, "");
}

static void test_labels(void **state)
{
	static const struct field fields[] = {FAMILY("x_total", &number_members)};
	struct thing t = {.of = {{"a\\b\"c\nd", "", 1, false, {0}}, {"", "", 2, false, {0}},
				  {"e", "f", 3, true, {0}}},
		.count = 3};
	(void)state;
	/* One that is not known is left out, and so is a sample without a value. */
	expect(fields, 1, &t,
		"# HELP x_total Some help.\n# TYPE x_total counter\n"
		"x_total{name=\"a\\\\b\\\"c\\nd\"} 1\nx_total 2\n");
	t.of[2].unknown = false;
	t.of[2].where = "g";
	t.count = 3;
	expect(fields, 1, &t,
		"# HELP x_total Some help.\n# TYPE x_total counter\n"
		"x_total{name=\"a\\\\b\\\"c\\nd\"} 1\nx_total 2\nx_total{name=\"e\",where=\"g\"} "
		"3\n");
	t.count = 0;
	expect(fields, 1, &t, "# HELP x_total Some help.\n# TYPE x_total counter\n");
}

static void test_ratios(void **state)
{
	static const struct field fields[] = {FAMILY("x_ratio", &percent_members)};
	const struct thing t = {.of = {{"a", "", 37, false, {0}}}, .count = 1};
	(void)state;
	expect(fields, 1, &t,
		"# HELP x_ratio Some help.\n# TYPE x_ratio gauge\nx_ratio{name=\"a\"} 0.37\n");
}

static void test_histograms(void **state)
{
	static const uint64_t bounds[] = {10, 500, 2500};
	static const struct histogram_scale scale = {bounds, 3};
	static const struct field fields[] = {FAMILY("x_seconds", &histogram_members)};
	struct thing t = {.of = {{"a", "", 0, false, {.scale = &scale}}}, .count = 1};
	(void)state;
	histogram_add(&t.of[0].times, 10);
	histogram_add(&t.of[0].times, 400);
	histogram_add(&t.of[0].times, 60000);
	expect(fields, 1, &t,
		"# HELP x_seconds Some help.\n# TYPE x_seconds histogram\n"
		"x_seconds_bucket{name=\"a\",le=\"0.01\"} 1\n"
		"x_seconds_bucket{name=\"a\",le=\"0.5\"} 2\n"
		"x_seconds_bucket{name=\"a\",le=\"2.5\"} 2\n"
		"x_seconds_bucket{name=\"a\",le=\"+Inf\"} 3\n"
		"x_seconds_sum{name=\"a\"} 60.41\n"
		"x_seconds_count{name=\"a\"} 3\n");
}

/* What does not fit is an error of the buffer's, not half a text that looks whole. */
static void test_no_room(void **state)
{
	static const struct field fields[] = {FAMILY("x_total", &number_members)};
	static const struct fields all = {fields, 1};
	const struct thing t = {.of = {{"a", "", 1, false, {0}}}, .count = 1};
	struct buf out;
	(void)state;
	buf_init(&out, 20);
	prometheus_document(&all, &t, &out);
	assert_int_not_equal(buf_error(&out), 0);
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_values),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_ratios),
		cmocka_unit_test(test_histograms),
		cmocka_unit_test(test_no_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
