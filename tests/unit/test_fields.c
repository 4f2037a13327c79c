/* Documents as tables of fields: the JSON writer and the description. */
#include "supervisor/tell/describe.h"
#include "supervisor/tell/json_doc.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct part {
	uint64_t n;
};

struct thing {
	char name[16];
	uint64_t bytes;
	unsigned small;
	double rate;
	struct histogram times;
	struct part part[3];
	size_t parts;
	bool hidden, short_of_memory;
};

static void get_answer(const void *of, const struct field *f, struct field_value *out)
{
	const struct thing *t = of;
	field_say_int_if(out, !t->hidden, 42);
	if (f->which == 1 && t->hidden)
		out->is = FIELD_LEFT_OUT;
}

static void each_part(const void *of, struct field_list *list)
{
	const struct thing *t = of;
	for (size_t i = 0; i < t->parts; i++)
		field_item(list, &t->part[i]);
	if (t->short_of_memory)
		field_list_cut(list);
}

static void each_word(const void *of, struct field_list *list)
{
	(void)of;
	field_item_text(list, "a\"b");
	field_item_text(list, "");
	field_item_int(list, -1);
}

static bool has_parts(const void *of)
{
	return ((const struct thing *)of)->parts > 0;
}

static const void *first_part(const void *of)
{
	return &((const struct thing *)of)->part[0];
}

static const struct field part_fields[] = {FIELD_COUNT_OF("n", struct part, n)};
static const struct fields part_members = FIELDS(part_fields);

static const struct field group[] = {
	{.name = "name", .type = FIELD_TEXT, .get = field_get_chars, .which = 0},
	FIELD_BYTES_OF("bytes", struct thing, bytes),
};
static const struct fields group_members = FIELDS(group);

static const struct field fields[] = {
	FIELD_OBJECT_OF(NULL, &group_members, NULL),
	{.name = "small",
		.type = FIELD_INT,
		.get = field_get_unsigned,
		.which = FIELD_AT(struct thing, small, unsigned)},
	{.name = "rate",
		.type = FIELD_REAL,
		.unit = "tokens/s",
		.get = field_get_double,
		.which = FIELD_AT(struct thing, rate, double)},
	FIELD_OWN("answer", FIELD_INT, get_answer),
	{.name = "optional", .type = FIELD_INT, .get = get_answer, .which = 1},
	FIELD_OBJECT_OF("first", &part_members, first_part),
	FIELD_LIST_OF("parts", &part_members, each_part),
	{.name = "words", .type = FIELD_LIST, .items = FIELD_TEXT, .each = each_word},
	{.name = "rare",
		.type = FIELD_LIST,
		.items = FIELD_OBJECT,
		.members = &part_members,
		.each = each_part,
		.present = has_parts},
};
static const struct fields members = FIELDS(fields);

static void expect(const struct thing *t, const char *text)
{
	struct buf b;
	buf_init(&b, 0);
	buf_add_char(&b, '{');
	json_document(&members, t, &b);
	buf_add_char(&b, '}');
	assert_string_equal(buf_cstr(&b), text);
	buf_free(&b);
}

static void test_each_type_and_what_is_unknown(void **state)
{
	(void)state;
	struct thing t = {.name = "x", .bytes = 7, .small = 3, .rate = 1.25, .part = {{1}, {2}}};
	t.parts = 2;
	expect(&t, "{\"name\":\"x\",\"bytes\":7,\"small\":3,\"rate\":1.2,\"answer\":42,"
		   "\"optional\":42,"
		   "\"first\":{\"n\":1},\"parts\":[{\"n\":1},{\"n\":2}],\"words\":[\"a\\\"b\",null,"
		   "-1],"
		   "\"rare\":[{\"n\":1},{\"n\":2}]}");
	t = (struct thing){.rate = NAN, .hidden = true};
	expect(&t, "{\"name\":null,\"bytes\":0,\"small\":0,\"rate\":null,\"answer\":null,"
		   "\"first\":{\"n\":0},\"parts\":[],\"words\":[\"a\\\"b\",null,-1]}");
}

static void test_a_list_that_memory_cut_short_says_so(void **state)
{
	(void)state;
	struct thing t = {.rate = 0, .hidden = true, .short_of_memory = true};
	expect(&t,
		"{\"name\":null,\"bytes\":0,\"small\":0,\"rate\":0.0,\"answer\":null,"
		"\"first\":{\"n\":0},\"parts\":[],\"reason\":\"out of memory: some are left out\","
		"\"words\":[\"a\\\"b\",null,-1]}");
}

static void test_histograms_have_their_unit(void **state)
{
	(void)state;
	static const struct field one[] = {{.name = "h",
		.type = FIELD_HISTOGRAM,
		.unit = "percent",
		.get = field_get_histogram,
		.which = FIELD_AT(struct thing, times, struct histogram)}};
	static const struct fields only = FIELDS(one);
	struct thing t = {.rate = 0};
	struct buf b, wanted;
	buf_init(&b, 0);
	buf_init(&wanted, 0);
	histogram_add(&t.times, 3);
	buf_add_char(&b, '{');
	json_document(&only, &t, &b);
	buf_add_str(&wanted, "{\"h\":");
	histogram_json_of(&t.times, "percent", &wanted);
	assert_string_equal(buf_cstr(&b), buf_cstr(&wanted));
	buf_free(&b);
	buf_free(&wanted);
}

static void test_the_description_has_every_field(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 0);
	fields_describe(&members, &b);
	assert_string_equal(buf_cstr(&b),
		"[{\"name\":\"name\",\"type\":\"text\"},"
		"{\"name\":\"bytes\",\"type\":\"integer\",\"kind\":\"count\",\"unit\":\"bytes\"},"
		"{\"name\":\"small\",\"type\":\"integer\",\"kind\":\"state\"},"
		"{\"name\":\"rate\",\"type\":\"real\",\"kind\":\"state\",\"unit\":\"tokens/s\"},"
		"{\"name\":\"answer\",\"type\":\"integer\",\"kind\":\"state\"},"
		"{\"name\":\"optional\",\"type\":\"integer\",\"kind\":\"state\"},"
		"{\"name\":\"first\",\"type\":\"object\",\"fields\":[{\"name\":\"n\",\"type\":"
		"\"integer\",\"kind\":\"count\"}]},"
		"{\"name\":\"parts\",\"type\":\"list\",\"items\":\"object\",\"fields\":[{\"name\":"
		"\"n\",\"type\":\"integer\",\"kind\":\"count\"}]},"
		"{\"name\":\"words\",\"type\":\"list\",\"items\":\"text\"},"
		"{\"name\":\"rare\",\"type\":\"list\",\"items\":\"object\",\"fields\":[{\"name\":"
		"\"n\",\"type\":\"integer\",\"kind\":\"count\"}]}]");
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_type_and_what_is_unknown),
		cmocka_unit_test(test_a_list_that_memory_cut_short_says_so),
		cmocka_unit_test(test_histograms_have_their_unit),
		cmocka_unit_test(test_the_description_has_every_field),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
