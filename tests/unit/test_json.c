/* common/json: the grammar, the cursors, decoding, conversions and building. */
#include "common/base/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Parses a copy without a byte to spare, so that the sanitizer sees any look beyond the end. */
static int parse_tight(
	struct slice text, struct json_value *root, struct json_error *err, char **copy)
{
	*copy = malloc(text.n ? text.n : 1);
	assert_non_null(*copy);
	memcpy(*copy, text.p, text.n);
	return json_parse((struct slice){*copy, text.n}, JSON_MAX_DEPTH, root, err);
}

static struct json_value parsed(const char *text)
{
	struct json_value root;
	struct json_error err = {0};
	if (json_parse(slice_str(text), JSON_MAX_DEPTH, &root, &err) != 0)
		fail_msg("%s: refused at %zu: %s", text, err.offset, err.what);
	return root;
}

static void assert_raw(struct json_value v, const char *text)
{
	if (!slice_eq(v.raw, slice_str(text)))
		fail_msg("'%.*s' is not '%s'", (int)v.raw.n, v.raw.p, text);
}

/* --- grammar --- */

static void accepts_what_is_json(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum json_type type;
	} cases[] = {
		{"null", JSON_NULL},
		{"true", JSON_TRUE},
		{"false", JSON_FALSE},
		{" \t\r\n0 \t\r\n", JSON_NUMBER},
		{"-0", JSON_NUMBER},
		{"-0.0e-00", JSON_NUMBER},
		{"10", JSON_NUMBER},
		{"1e5", JSON_NUMBER},
		{"1E+5", JSON_NUMBER},
		{"0.5", JSON_NUMBER},
		{"0e1", JSON_NUMBER},
		{"1e999", JSON_NUMBER},
		{"123456789012345678901234567890.123456789012345678901234567890", JSON_NUMBER},
		{"\"\"", JSON_STRING},
		{"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", JSON_STRING},
		{"\"\\u0000\"", JSON_STRING},
		{"\"\\uD83D\\uDe00\"", JSON_STRING},
		{"\"\\uffff\\uE000\\ud7ff\"", JSON_STRING},
		{"\"\x7f\"", JSON_STRING},
		{"\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"",
			JSON_STRING},
		{"\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"", JSON_STRING},
		{"[]", JSON_ARRAY},
		{"[ ]", JSON_ARRAY},
		{"[[],{},[{}],\"\",0]", JSON_ARRAY},
		{"{}", JSON_OBJECT},
		{"{ }", JSON_OBJECT},
		{"{\"\":0,\"\":0}", JSON_OBJECT},
		{" { \"a\" : [ 1 , 2 ] , \"b\" : { \"c\" : null } } ", JSON_OBJECT},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct json_value root;
		struct json_error err = {0};
		char *copy;
		if (parse_tight(slice_str(cases[i].text), &root, &err, &copy) != 0)
			fail_msg("%s: refused at %zu: %s", cases[i].text, err.offset, err.what);
		assert_int_equal(root.type, cases[i].type);
		free(copy);
	}
}

static void refuses_what_is_not(void **state)
{
	(void)state;
#define BAD(lit, at)                                                                               \
	{                                                                                          \
		{lit, sizeof(lit) - 1}, at                                                         \
	}
	static const struct {
		struct slice text;
		size_t at;
	} cases[] = {
		BAD("", 0),
		BAD("  ", 2),
		BAD("\0", 0),
		BAD("\xef\xbb\xbf{}", 0), /* byte order mark */
		BAD("nul", 0),
		BAD("nulL", 0),
		BAD("True", 0),
		BAD("NaN", 0),
		BAD("Infinity", 0),
		BAD("-Infinity", 1),
		BAD("nullx", 4),
		BAD("null null", 5),
		BAD("{}\0", 2),
		BAD("01", 1),
		BAD("-01", 2),
		BAD("-", 1),
		BAD("+1", 0),
		BAD(".5", 0),
		BAD("1.", 2),
		BAD("1.e5", 2),
		BAD("1e", 2),
		BAD("1e+", 3),
		BAD("1e5.5", 3),
		BAD("0x10", 1),
		BAD("1_000", 1),
		BAD("'a'", 0),
		BAD("\"", 1),
		BAD("\"abc", 4),
		BAD("\"abc\\", 4),
		BAD("\"abc\\\"", 6),
		BAD("\"\\x41\"", 1),
		BAD("\"\\'\"", 1),
		BAD("\"\\\0\"", 1),
		BAD("\"\\U0041\"", 1),
		BAD("\"\\u\"", 1),
		BAD("\"\\u00\"", 1),
		BAD("\"\\u00g0\"", 1),
		BAD("\"\\u 041\"", 1),
		BAD("\"\\u+041\"", 1),
		BAD("\"\\u004", 1),
		BAD("\"\\ud800\\", 7),
		BAD("\"\\ud800\\u", 7),
		BAD("\"\\ud800\\udc0", 7),
		BAD("\"a\nb\"", 2),
		BAD("\"a\0b\"", 2),
		BAD("\"0123456789abcdefghij\x1f\"", 21),
		BAD("\"\t\"", 1),
		BAD("\"\x80\"", 1),
		BAD("\"\xc0\x80\"", 1), /* overlong */
		BAD("\"\xc1\xbf\"", 1),
		BAD("\"\xe0\x9f\xbf\"", 1),
		BAD("\"\xf0\x8f\xbf\xbf\"", 1),
		BAD("\"\xed\xa0\x80\"", 1),	/* raw surrogate */
		BAD("\"\xf4\x90\x80\x80\"", 1), /* past U+10FFFF */
		BAD("\"\xf5\x80\x80\x80\"", 1),
		BAD("\"\xff\"", 1),
		BAD("\"\xc3\"", 1),
		BAD("\"\xe2\x82\"", 1),
		BAD("\"\xe2\x82", 1),
		BAD("\"\xf0\x9f\x98", 1),
		BAD("\"\xf0\x9f\x98\"", 1),
		BAD("\xc2\xa0{}", 0), /* white space, but not JSON's */
		BAD("\f{}", 0),
		BAD("[", 1),
		BAD("[1", 2),
		BAD("[1,", 3),
		BAD("[1,]", 3),
		BAD("[,1]", 1),
		BAD("[1 2]", 3),
		BAD("[1}", 2),
		BAD("]", 0),
		BAD("[]]", 2),
		BAD("[1:2]", 2),
		BAD("{", 1),
		BAD("{\"a\"", 4),
		BAD("{\"a\":", 5),
		BAD("{\"a\":1", 6),
		BAD("{\"a\":1,", 7),
		BAD("{\"a\":1,}", 7),
		BAD("{,}", 1),
		BAD("{\"a\"}", 4),
		BAD("{\"a\" 1}", 5),
		BAD("{\"a\",1}", 4),
		BAD("{\"a\"::1}", 5),
		BAD("{\"a\":1 \"b\":2}", 7),
		BAD("{\"a\":1]", 6),
		BAD("{a:1}", 1),
		BAD("{1:1}", 1),
		BAD("{null:1}", 1),
		BAD("{\"\\q\":1}", 2),
		BAD("{\"a\":1}//", 7),
		BAD("/**/{}", 0),
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct json_value root = {.type = JSON_TRUE};
		struct json_error err = {0};
		char *copy;
		if (parse_tight(cases[i].text, &root, &err, &copy) != -EINVAL)
			fail_msg("accepted: %s", cases[i].text.p);
		if (err.offset != cases[i].at || !err.what)
			fail_msg("%s: refused at %zu: %s", cases[i].text.p, err.offset, err.what);
		assert_int_equal(root.type, JSON_NONE);
		free(copy);
	}
	struct json_value root;
	assert_int_equal(json_parse((struct slice){0}, JSON_MAX_DEPTH, &root, NULL), -EINVAL);
}

/* Each odd byte at each place of a long string: the wide steps must see what the narrow
 * ones see. */
static void sees_every_byte_of_a_string(void **state)
{
	(void)state;
	char text[70];
	for (size_t len = 3; len <= sizeof(text); len++) {
		for (size_t at = 1; at < len - 1; at++) {
			for (int c = 0; c < 256; c++) {
				struct json_value root;
				char *copy;
				memset(text, 'x', len);
				text[0] = text[len - 1] = '"';
				text[at] = (char)c;
				int rc = parse_tight((struct slice){text, len}, &root, NULL, &copy);
				free(copy);
				bool plain = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
				assert_int_equal(rc, plain ? 0 : -EINVAL);
			}
		}
	}
}

static void limits_depth(void **state)
{
	(void)state;
	struct json_value root;
	struct json_error err;
	assert_int_equal(json_parse(SLICE("1"), 0, &root, NULL), 0);
	assert_int_equal(json_parse(SLICE("[]"), 0, &root, NULL), -EINVAL);
	assert_int_equal(json_parse(SLICE("[{\"a\":[]}]"), 3, &root, NULL), 0);
	assert_int_equal(json_parse(SLICE("[{\"a\":[]}]"), 2, &root, &err), -EINVAL);
	assert_int_equal(err.offset, 6);
	/* Depth, not number: brothers don't add up. */
	assert_int_equal(json_parse(SLICE("[[],[],{},[[],[]]]"), 3, &root, NULL), 0);

	/* Kinds are remembered past one word of the stack, and in the right order. */
	struct buf b;
	buf_init(&b, 0);
	for (unsigned i = 0; i < JSON_MAX_DEPTH; i++)
		buf_add_str(&b, i % 3 ? "[" : "{\"k\":");
	buf_add_str(&b, "1");
	for (unsigned i = JSON_MAX_DEPTH; i-- > 0;)
		buf_add_str(&b, i % 3 ? "]" : "}");
	assert_int_equal(json_parse(buf_slice(&b), JSON_MAX_DEPTH, &root, NULL), 0);
	assert_int_equal(json_parse(buf_slice(&b), JSON_MAX_DEPTH - 1, &root, NULL), -EINVAL);
	b.p[b.n - 1] = ']'; /* opened by a brace */
	assert_int_equal(json_parse(buf_slice(&b), JSON_MAX_DEPTH, &root, NULL), -EINVAL);

	buf_clear(&b);
	for (unsigned i = 0; i < 200 * 1024; i++)
		buf_add_char(&b, '[');
	assert_int_equal(json_parse(buf_slice(&b), JSON_MAX_DEPTH, &root, &err), -EINVAL);
	assert_int_equal(err.offset, JSON_MAX_DEPTH);
	assert_int_equal(json_parse(buf_slice(&b), UINT32_MAX, &root, &err), -EINVAL);
	assert_in_range(err.offset, JSON_MAX_DEPTH, 4096); /* a ceiling holds whatever is asked */
	buf_free(&b);
}

/* --- cursors --- */

static void walks_arrays(void **state)
{
	(void)state;
	static const char *const elements[] = {"1", "\"a,]\\\"b\"", "[2,[3]]", "{\"x\":\"}\"}",
		"null", "-1.5e+3", "true", "[]", "\"\\\\\""};
	struct json_value v;
	struct json_iter it = json_iter(parsed(" [1,\"a,]\\\"b\" , [2,[3]]\n,{\"x\":\"}\"},null,"
					       "-1.5e+3 ,true,[],\"\\\\\" ] "));
	for (size_t i = 0; i < COUNT(elements); i++) {
		assert_true(json_array_next(&it, &v));
		assert_raw(v, elements[i]);
	}
	assert_false(json_array_next(&it, &v));
	assert_false(json_array_next(&it, &v));
}

static void walks_objects(void **state)
{
	(void)state;
	static const char *const members[][2] = {{"\"a\"", "1"}, {"\"b:,\\\"\"", "{\"c\":[1, 2]}"},
		{"\"\"", "\"s\""}, {"\"a\"", "[ ]"}};
	struct json_value k, v;
	struct json_iter it = json_iter(
		parsed("{ \"a\":1 ,\"b:,\\\"\" : {\"c\":[1, 2]}, \"\" :\"s\"\t,\"a\":[ ]}"));
	for (size_t i = 0; i < COUNT(members); i++) {
		assert_true(json_object_next(&it, &k, &v));
		assert_raw(k, members[i][0]);
		assert_raw(v, members[i][1]);
	}
	assert_false(json_object_next(&it, &k, &v));
}

/* What a client sends may have another type than the caller hopes. */
static void walks_nothing_of_another_type(void **state)
{
	(void)state;
	static const char *const texts[] = {"1", "\"[1]\"", "null", "[]", "{}", "[ ]", "{ }"};
	struct json_value k, v;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct json_iter it = json_iter(parsed(texts[i]));
		assert_false(json_array_next(&it, &v));
		assert_false(json_object_next(&it, &k, &v));
	}
	struct json_iter it = json_iter((struct json_value){0});
	assert_false(json_array_next(&it, &v));
	it = json_iter(parsed("[\"a\",1]"));
	assert_false(json_object_next(&it, &k, &v));
	it = json_iter(parsed("{\"a\":1}"));
	assert_false(json_array_next(&it, &v));
}

static void get_takes_the_last(void **state)
{
	(void)state;
	struct json_value o =
		parsed("{\"model\":1,\"x\":{\"model\":9},\"mod\\u0065l\":2,\"Model\":3,"
		       "\"model\\u0000\":4,\"\":5,\"\\uD83D\\uDE00\\n\":6}");
	assert_raw(json_get(o, "model"), "2");
	assert_raw(json_get(o, "Model"), "3");
	assert_raw(json_get(o, ""), "5");
	assert_raw(json_get(o, "\xf0\x9f\x98\x80\n"), "6");
	assert_raw(json_get(json_get(o, "x"), "model"), "9");
	assert_int_equal(json_get(o, "mode").type, JSON_NONE);
	assert_int_equal(json_get(o, "models").type, JSON_NONE);
	assert_int_equal(json_get(parsed("[\"model\",1]"), "model").type, JSON_NONE);
	assert_int_equal(json_get((struct json_value){0}, "model").type, JSON_NONE);
	assert_int_equal(json_get(json_get(o, "absent"), "model").type, JSON_NONE);
}

/* --- strings --- */

static void decodes_strings(void **state)
{
	(void)state;
	static const struct {
		const char *json;
		struct slice text;
		size_t chars;
	} cases[] = {
		{"\"\"", {"", 0}, 0},
		{"\"plain\"", {"plain", 5}, 5},
		{"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", {"\"\\/\b\f\n\r\t", 8}, 8},
		{"\"a\\u0000b\"", {"a\0b", 3}, 3},
		{"\"\\u007f\\u0080\\u07FF\\u0800\\uffff\"",
			{"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf", 11}, 5},
		{"\"\\ud800\\udc00\\uDBFF\\uDFFF\"", {"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8}, 2},
		/* halves alone become U+FFFD each */
		{"\"\\ud800\"", {"\xef\xbf\xbd", 3}, 1},
		{"\"a\\udc00b\"",
			{"a\xef\xbf\xbd"
			 "b",
				5},
			3},
		{"\"\\ud800\\n\\udc00\"", {"\xef\xbf\xbd\n\xef\xbf\xbd", 7}, 3},
		{"\"\\ud800\\u0041\"",
			{"\xef\xbf\xbd"
			 "A",
				4},
			2},
		{"\"\\ud800\\ud800\\udc00\"", {"\xef\xbf\xbd\xf0\x90\x80\x80", 7}, 2},
		{"\"\\udc00\\ud800\"", {"\xef\xbf\xbd\xef\xbf\xbd", 6}, 2},
		{"\"\\\\u0041\\\\\"", {"\\u0041\\", 7}, 7},
		{"\"ol\xc3\xa1 \xf0\x9f\x98\x80 \xe2\x82\xac, mundo\"",
			{"ol\xc3\xa1 \xf0\x9f\x98\x80 \xe2\x82\xac, mundo", 20}, 14},
		{"\"\\n\\n    x\\n\"", {"\n\n    x\n", 8}, 8},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct json_value v = parsed(cases[i].json);
		struct buf b;
		buf_init(&b, cases[i].text.n + 1);
		buf_add_char(&b, '>'); /* appends */
		assert_int_equal(json_string_decode(v, &b), 0);
		assert_int_equal(b.n, cases[i].text.n + 1);
		assert_memory_equal(b.p + 1, cases[i].text.p, cases[i].text.n);
		assert_int_equal(json_string_chars(v), cases[i].chars);
		buf_free(&b);

		bool nul = memchr(cases[i].text.p, 0, cases[i].text.n) != NULL;
		char *dup = json_string_dup(v);
		if (nul) {
			assert_null(dup);
			assert_false(json_string_is(v, cases[i].text.p));
		} else {
			assert_string_equal(dup, cases[i].text.p);
			assert_true(json_string_is(v, cases[i].text.p));
		}
		free(dup);
	}
}

static void decoding_knows_its_bounds(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 4);
	assert_int_equal(json_string_decode(parsed("\"abcd\\n\""), &b), -E2BIG);
	assert_int_equal(json_string_decode(parsed("\"a\""), &b), -E2BIG);
	buf_clear(&b);
	/* The cap counts decoded bytes. */
	assert_int_equal(json_string_decode(parsed("\"\\u0041\\u0042\\u0043\\n\""), &b), 0);
	assert_memory_equal(b.p, "ABC\n", 4);
	buf_clear(&b);
	assert_int_equal(json_string_decode(parsed("12"), &b), -EINVAL);
	assert_int_equal(json_string_decode((struct json_value){0}, &b), -EINVAL);
	assert_int_equal(buf_error(&b), 0);
	buf_free(&b);
	assert_null(json_string_dup(parsed("null")));
	assert_int_equal(json_string_chars(parsed("[\"abc\"]")), 0);
	assert_false(json_string_is(parsed("12"), "12"));
	assert_false(json_string_is(parsed("\"ab\""), "a"));
	assert_false(json_string_is(parsed("\"a\\u0062\""), "a"));
	assert_false(json_string_is(parsed("\"a\\u0062\""), "abc"));
	assert_true(json_string_is(parsed("\"\""), ""));
}

/* --- conversions --- */

static void converts_integers(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool ok;
		int64_t value;
	} cases[] = {
		{"0", true, 0},
		{"-0", true, 0},
		{"-0.000e+99999999999999999999", true, 0},
		{"42", true, 42},
		{"-42", true, -42},
		{"3.0", true, 3},
		{"3e0", true, 3},
		{"3.000e-0", true, 3},
		{"0.003e3", true, 3},
		{"3000E-3", true, 3},
		{"30.25e2", true, 3025},
		{"1.5e1", true, 15},
		{"1e18", true, 1000000000000000000},
		{"9007199254740993", true, 9007199254740993}, /* 2^53 + 1 */
		{"9223372036854775807", true, INT64_MAX},
		{"9.223372036854775807e18", true, INT64_MAX},
		{"-9223372036854775808", true, INT64_MIN},
		{"-9223372036854775808.000", true, INT64_MIN},
		{"0.00000000000000000000000000000000007e35", true, 7},
		{"100000000000000000000000000000000000e-35", true, 1},
		{"9223372036854775808", false, 0},
		{"-9223372036854775809", false, 0},
		{"9999999999999999999", false, 0},
		{"18446744073709551616", false, 0},
		{"1e19", false, 0},
		{"1e99999999999999999999", false, 0},
		{"1e-99999999999999999999", false, 0},
		{"0.5", false, 0},
		{"3.1", false, 0},
		{"3e-1", false, 0},
		{"15e-1", false, 0},
		{"\"3\"", false, 0},
		{"null", false, 0},
		{"true", false, 0},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		int64_t value = -7;
		bool ok = json_to_int(parsed(cases[i].text), &value);
		if (ok != cases[i].ok || value != (ok ? cases[i].value : -7))
			fail_msg("%s: %d %lld", cases[i].text, ok, (long long)value);
	}
	int64_t value;
	assert_false(json_to_int((struct json_value){0}, &value));
}

static void converts_doubles_and_truth(void **state)
{
	(void)state;
	double d = -1;
	bool b = false;
	assert_true(json_to_double(parsed("0.25"), &d));
	assert_true(d == 0.25);
	assert_true(json_to_double(parsed("-1E+2"), &d));
	assert_true(d == -100);
	assert_true(json_to_double(parsed("1e-400"), &d));
	assert_true(d == 0);
	assert_false(json_to_double(parsed("1e999"), &d));
	assert_false(json_to_double(parsed("\"1\""), &d));
	assert_false(json_to_double((struct json_value){0}, &d));

	static char longest[100001]; /* without a NUL behind it, and too long to be meant */
	memset(longest, '1', sizeof(longest));
	struct json_value v;
	assert_int_equal(json_parse((struct slice){longest, sizeof(longest)}, 1, &v, NULL), 0);
	assert_false(json_to_double(v, &d));
	int64_t n;
	assert_false(json_to_int(v, &n));

	assert_true(json_to_bool(parsed("true"), &b) && b);
	assert_true(json_to_bool(parsed("false"), &b) && !b);
	assert_false(json_to_bool(parsed("1"), &b));
	assert_false(json_to_bool(parsed("null"), &b));
}

/* --- building --- */

static void quotes_strings(void **state)
{
	(void)state;
	static const struct {
		struct slice text;
		const char *json;
	} cases[] = {
		{{NULL, 0}, "\"\""},
		{{"plain", 5}, "\"plain\""},
		{{"\"\\/\b\f\n\r\t", 8}, "\"\\\"\\\\/\\b\\f\\n\\r\\t\""},
		{{"\0\x01\x1f\x7f", 4}, "\"\\u0000\\u0001\\u001f\\u007f\""},
		{{"\xc2\x84\xc2\x85\xc2\x86", 6}, "\"\xc2\x84\\u0085\xc2\x86\""},
		{{"\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa", 12},
			"\"\xe2\x80\xa7\\u2028\\u2029\xe2\x80\xaa\""},
		{{"ol\xc3\xa1 \xf0\x9f\x98\x80", 9}, "\"ol\xc3\xa1 \xf0\x9f\x98\x80\""},
		{{"a\xff", 2}, "\"a\xef\xbf\xbd\""},
		{{"\x80\x80z", 3}, "\"\xef\xbf\xbd\xef\xbf\xbdz\""},
		{{"\xe2\x82", 2}, "\"\xef\xbf\xbd\""},	     /* cut: one mark for what was there */
		{{"\xf0\x9f\x98z", 4}, "\"\xef\xbf\xbdz\""}, /* the same, before more text */
		{{"\xc0\xaf", 2}, "\"\xef\xbf\xbd\xef\xbf\xbd\""},
		{{"\xed\xa0\x80", 3}, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
		{{"\xc3\"", 2}, "\"\xef\xbf\xbd\\\"\""},
	};
	struct buf b;
	buf_init(&b, 0);
	for (size_t i = 0; i < COUNT(cases); i++) {
		buf_clear(&b);
		assert_int_equal(json_put_string(&b, cases[i].text), 0);
		assert_string_equal(buf_cstr(&b), cases[i].json);
		parsed(buf_cstr(&b));
	}
	buf_free(&b);
}

static void strings_come_back(void **state)
{
	(void)state;
	char text[128 + 40];
	struct buf json, back;
	buf_init(&json, 0);
	buf_init(&back, 0);
	/* All of ASCII, at each offset to the wide steps. */
	for (size_t pad = 0; pad < 40; pad++) {
		memset(text, 'p', pad);
		for (int c = 0; c < 128; c++)
			text[pad + (size_t)c] = (char)c;
		struct json_value v;
		buf_clear(&json);
		buf_clear(&back);
		json_put_string(&json, (struct slice){text, pad + 128});
		assert_int_equal(json_parse(buf_slice(&json), 0, &v, NULL), 0);
		assert_int_equal(json_string_decode(v, &back), 0);
		assert_true(slice_eq(buf_slice(&back), (struct slice){text, pad + 128}));
		assert_int_equal(json_string_chars(v), pad + 128);
	}
	buf_free(&json);
	buf_free(&back);
}

static void builds_objects(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 0);
	buf_add_char(&b, '{');
	json_put_key(&b, "model");
	json_put_string(&b, SLICE("m{"));
	json_put_key(&b, "n");
	json_put_int(&b, INT64_MIN);
	json_put_key(&b, "o");
	buf_add_char(&b, '{');
	json_put_key(&b, "s");
	buf_add_char(&b, '"');
	json_put_escaped(&b, SLICE("one\n"));
	json_put_escaped(&b, (struct slice){0});
	json_put_escaped(&b, SLICE("two"));
	assert_int_equal(buf_add_str(&b, "\"}}"), 0);
	assert_string_equal(buf_cstr(&b),
		"{\"model\":\"m{\",\"n\":-9223372036854775808,\"o\":{\"s\":\"one\\ntwo\"}}");
	parsed(buf_cstr(&b));
	buf_free(&b);
}

static void building_errors_stay(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 5);
	assert_int_equal(json_put_string(&b, SLICE("abc")), 0);
	assert_int_equal(json_put_key(&b, "x"), -E2BIG);
	assert_int_equal(json_put_int(&b, 1), -E2BIG);
	assert_int_equal(json_put_escaped(&b, SLICE("\xff")), -E2BIG);
	assert_int_equal(json_put_escaped(&b, (struct slice){0}), -E2BIG);
	assert_string_equal((buf_clear(&b), json_put_string(&b, SLICE("a\nb")), buf_cstr(&b)), "");
	buf_free(&b);
}

/* --- UTF-8 --- */

static void measures_utf8(void **state)
{
	(void)state;
	static const struct {
		struct slice text;
		size_t valid;
	} cases[] = {
		{{NULL, 0}, 0},
		{{"abc\0\n\"\\\x7f", 8}, 8},
		{{"ab\xc3", 3}, 2},
		{{"ab\xc3\xa1", 4}, 4},
		{{"\xe2\x82", 2}, 0},
		{{"\xe2\x82\xac\xf0\x9f\x98", 6}, 3},
		{{"\xf0\x9f\x98\x80\xff z", 7}, 4},
		{{"a\xed\xa0\x80", 4}, 1},
		{{"0123456789abcdef\x80", 17}, 16},
	};
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(utf8_valid_prefix(cases[i].text), cases[i].valid);

	assert_int_equal(utf8_chars((struct slice){0}), 0);
	struct buf b;
	buf_init(&b, 0);
	for (size_t n = 1; n < 50; n++) {
		static const char *const alphabets[] = {
			"a", "\xc3\xa1", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
		buf_add_str(&b, alphabets[n % 4]);
		assert_int_equal(utf8_chars(buf_slice(&b)), n);
	}
	buf_free(&b);
}

static void cuts_what_follows(void **state)
{
	static const struct {
		const char *text;
		size_t n, left;
	} rows[] = {{"{}", 2, 2}, {"{} \n", 4, 4}, {"{}\0", 3, 2}, {" {\"a\":1} x", 10, 9},
		{"{}{}", 4, 2}, {"{", 1, 1}, {"", 0, 0}, {"x{}", 3, 3}, {"{\"a\":}", 6, 6}};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct buf b;
		buf_init(&b, 0);
		buf_add(&b, rows[i].text, rows[i].n);
		assert_int_equal(json_mend_tail(&b), rows[i].left != rows[i].n);
		assert_int_equal(b.n, rows[i].left);
		buf_free(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_what_is_json),
		cmocka_unit_test(refuses_what_is_not),
		cmocka_unit_test(sees_every_byte_of_a_string),
		cmocka_unit_test(limits_depth),
		cmocka_unit_test(walks_arrays),
		cmocka_unit_test(walks_objects),
		cmocka_unit_test(walks_nothing_of_another_type),
		cmocka_unit_test(get_takes_the_last),
		cmocka_unit_test(decodes_strings),
		cmocka_unit_test(decoding_knows_its_bounds),
		cmocka_unit_test(converts_integers),
		cmocka_unit_test(converts_doubles_and_truth),
		cmocka_unit_test(quotes_strings),
		cmocka_unit_test(strings_come_back),
		cmocka_unit_test(builds_objects),
		cmocka_unit_test(building_errors_stay),
		cmocka_unit_test(measures_utf8),
		cmocka_unit_test(cuts_what_follows),
	};
	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
