/* What requests have cost: one series for each set of labels, and never more than there is room for. */
#include "supervisor/requests/measures.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static struct measure one(const char *device, uint64_t tokens)
{
	return (struct measure){.way = MEASURE_A,
		.dialect = DIALECT_OPENAI_CHAT,
		.device = device,
		.tokens = {tokens, tokens, 3, 10},
		.counted = 90,
		.total_ms = 2000,
		.first_ms = 1000,
		.token_ms = 50.5,
		.queued_ms = 0};
}

static void test_what_is_done_is_told_whole(void **state)
{
	struct measures m;
	struct measure a = one("gpu0", 100);
	(void)state;
	assert_int_equal(measures_init(&m, 8), 0);
	measures_add(&m, &a);
	measures_add(&m, &a);
	assert_int_equal(m.count, 1);
	const struct measure_series *s = m.of[0];
	assert_string_equal(measure_way_name(s), "A");
	assert_string_equal(measure_dialect_name(s), "openai chat");
	assert_string_equal(measure_device_name(s), "gpu0");
	assert_string_equal(measure_size_name(s), "1k");
	assert_int_equal(s->outcome[MEASURE_DONE], 2);
	assert_int_equal(s->tokens[MEASURE_IN], 200);
	assert_int_equal(s->tokens[MEASURE_OUT], 20);
	assert_int_equal(s->total.total, 2);
	assert_int_equal(s->total.sum, 4000000); /* us */
	assert_int_equal(s->first.sum, 2000000);
	assert_int_equal(s->token.sum, 101000);
	assert_int_equal(s->queued.total, 2);
	assert_int_equal(s->tokens_in.sum, 180); /* as the backend counts */
	assert_int_equal(s->tokens_out.sum, 20);
	measures_fini(&m);
}

static void test_what_is_unknown_is_in_no_histogram(void **state)
{
	struct measures m;
	struct measure a = one(NULL, 0);
	(void)state;
	measures_init(&m, 8);
	a.first_ms = a.token_ms = a.queued_ms = a.counted = -1;
	a.tokens[MEASURE_OUT] = 0;
	measures_add(&m, &a);
	const struct measure_series *s = m.of[0];
	assert_string_equal(measure_device_name(s), "none");
	assert_string_equal(measure_size_name(s), "0");
	assert_int_equal(s->total.total, 1);
	assert_int_equal(s->first.total + s->token.total + s->queued.total, 0);
	assert_int_equal(s->tokens_in.total + s->tokens_out.total, 0);
	measures_fini(&m);
}

/* Times are those of answers; one that joined another's answer has cost nothing of its own. */
static void test_ends_of_other_kinds(void **state)
{
	struct measures m;
	(void)state;
	measures_init(&m, 8);
	for (int o = 0; o < MEASURE_OUTCOMES; o++) {
		struct measure a = one("gpu0", 100);
		a.outcome = (enum measure_outcome)o;
		measures_add(&m, &a);
	}
	const struct measure_series *s = m.of[0];
	assert_int_equal(m.count, 1);
	for (int o = 0; o < MEASURE_OUTCOMES; o++)
		assert_int_equal(s->outcome[o], 1);
	assert_int_equal(s->total.total, 1);
	assert_int_equal(s->tokens[MEASURE_IN], 400); /* all but the joined one's */
	measures_fini(&m);
}

static void test_sizes(void **state)
{
	static const struct {
		uint64_t tokens;
		const char *name;
	} cases[] = {{0, "0"}, {1, "1k"}, {1024, "1k"}, {1025, "4k"}, {16384, "16k"},
		{65536, "64k"}, {262144, "256k"}, {262145, "more"}, {UINT64_MAX, "more"}};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct measures m;
		struct measure a = one("gpu0", cases[i].tokens);
		measures_init(&m, 8);
		measures_add(&m, &a);
		assert_string_equal(measure_size_name(m.of[0]), cases[i].name);
		measures_fini(&m);
	}
}

/* However many labels there are, nothing of the sum is lost, and no more than `most` are made. */
static void test_more_labels_than_room(void **state)
{
	struct measures m;
	uint64_t sum = 0;
	(void)state;
	measures_init(&m, 4);
	for (int i = 0; i < 40; i++) {
		char name[16];
		snprintf(name, sizeof(name), "d%d", i % 10);
		struct measure a = one(name, 100);
		measures_add(&m, &a);
	}
	assert_int_equal(m.count, 4);
	for (size_t i = 0; i < m.count; i++)
		sum += m.of[i]->outcome[MEASURE_DONE];
	assert_int_equal(sum, 40);
	assert_int_equal(m.of[2]->outcome[MEASURE_DONE], 4);
	assert_string_equal(measure_device_name(m.of[2]), "d2");
	const struct measure_series *s = m.of[3];
	assert_int_equal(s->outcome[MEASURE_DONE], 28);
	assert_string_equal(measure_way_name(s), MEASURES_OTHER);
	assert_string_equal(measure_dialect_name(s), MEASURES_OTHER);
	assert_string_equal(measure_device_name(s), MEASURES_OTHER);
	assert_string_equal(measure_size_name(s), MEASURES_OTHER);
	measures_fini(&m);
	measures_init(&m, 1); /* the shared one alone */
	struct measure a = one("gpu0", 100);
	measures_add(&m, &a);
	assert_string_equal(measure_device_name(m.of[0]), MEASURES_OTHER);
	measures_fini(&m);
}

static void test_forms(void **state)
{
	struct measures m;
	struct measure a = one("gpu0", 9000);
	(void)state;
	measures_init(&m, 8);
	measures_add(&m, &a);
	a.way = MEASURE_C;
	a.layout = true;
	a.tokens[MEASURE_SENT] = 3000;
	a.overflow_condensed = true;
	measures_add(&m, &a);
	a.layout = a.overflow_condensed = false;
	a.overflow_refused = true;
	a.outcome = MEASURE_REFUSED;
	measures_add(&m, &a);
	assert_int_equal(m.layouts[MEASURE_B], 0);
	assert_int_equal(m.layouts[MEASURE_C], 1);
	assert_int_equal(m.layout_tokens.total, 1);
	assert_int_equal(m.layout_tokens.sum, 3000);
	assert_int_equal(m.overflows_condensed, 1);
	assert_int_equal(m.overflows_refused, 1);
	measures_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_done_is_told_whole),
		cmocka_unit_test(test_what_is_unknown_is_in_no_histogram),
		cmocka_unit_test(test_ends_of_other_kinds),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_more_labels_than_room),
		cmocka_unit_test(test_forms),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
