/*
 * libFuzzer target for common/json: any bytes may come, and what is accepted must hold together.
 * Every value is walked, every string decoded, quoted and read back; the bytes themselves are
 * quoted and read back too.
 */
#include "common/base/json.h"

#include <stdint.h>
#include <stdlib.h>

/* abort() rather than assert(): the checks are the point, whatever NDEBUG says. */
#define REQUIRE(c)                                                                                 \
	do {                                                                                       \
		if (!(c))                                                                          \
			abort();                                                                   \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice read_back(const struct buf *json, struct buf *text)
{
	struct json_value v;
	REQUIRE(json_parse(buf_slice(json), 0, &v, NULL) == 0 && v.type == JSON_STRING);
	REQUIRE(json_string_decode(v, text) == 0);
	REQUIRE(json_string_chars(v) == utf8_chars(buf_slice(text)));
	return buf_slice(text);
}

static void check_string(struct json_value v)
{
	struct buf text, json, again;
	buf_init(&text, 0);
	buf_init(&json, 0);
	buf_init(&again, 0);
	REQUIRE(json_string_decode(v, &text) == 0);
	REQUIRE(text.n <= v.raw.n - 2);
	REQUIRE(utf8_valid_prefix(buf_slice(&text)) == text.n);
	REQUIRE(utf8_chars(buf_slice(&text)) == json_string_chars(v));
	json_put_string(&json, buf_slice(&text));
	REQUIRE(slice_eq(read_back(&json, &again), buf_slice(&text)));
	char *dup = json_string_dup(v);
	REQUIRE((dup == NULL) == (text.n && memchr(text.p, 0, text.n)));
	REQUIRE(!dup || json_string_is(v, dup));
	free(dup);
	buf_free(&text);
	buf_free(&json);
	buf_free(&again);
}

static void check_number(struct json_value v)
{
	int64_t i;
	double d;
	bool whole = json_to_int(v, &i), fits = json_to_double(v, &d);
	if (whole && v.raw.n < 100) {
		REQUIRE(fits);
		if (i > -(INT64_C(1) << 53) && i < INT64_C(1) << 53)
			REQUIRE(d == (double)i);
	}
}

static void check(struct json_value v, unsigned depth);

static void check_object(struct json_value object, unsigned depth)
{
	struct json_iter it = json_iter(object);
	struct json_value key, value;
	while (json_object_next(&it, &key, &value)) {
		REQUIRE(key.type == JSON_STRING);
		check_string(key);
		check(value, depth + 1);
		char *name = json_string_dup(key);
		if (name) {
			struct json_value last = json_get(object, name);
			REQUIRE(last.type != JSON_NONE && last.raw.p >= value.raw.p);
		}
		free(name);
	}
	REQUIRE(it.p == it.end);
}

/* Each value stands alone as well: that is what slices are copied for. */
static void check(struct json_value v, unsigned depth)
{
	struct json_value alone, element;
	REQUIRE(depth <= JSON_MAX_DEPTH);
	REQUIRE(json_parse(v.raw, JSON_MAX_DEPTH, &alone, NULL) == 0);
	REQUIRE(alone.type == v.type && alone.raw.p == v.raw.p && alone.raw.n == v.raw.n);
	switch (v.type) {
	case JSON_STRING:
		check_string(v);
		break;
	case JSON_NUMBER:
		check_number(v);
		break;
	case JSON_ARRAY:;
		struct json_iter it = json_iter(v);
		while (json_array_next(&it, &element))
			check(element, depth + 1);
		REQUIRE(it.p == it.end);
		break;
	case JSON_OBJECT:
		check_object(v, depth);
		break;
	default:
		break;
	}
}

static void check_quoting(struct slice bytes)
{
	struct buf json, text;
	buf_init(&json, 0);
	buf_init(&text, 0);
	json_put_string(&json, bytes);
	struct slice back = read_back(&json, &text);
	size_t valid = utf8_valid_prefix(bytes);
	REQUIRE(valid <= bytes.n);
	REQUIRE(back.n >= valid && (valid == 0 || memcmp(back.p, bytes.p, valid) == 0));
	REQUIRE(valid < bytes.n || back.n == valid);
	buf_free(&json);
	buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice bytes = {(const char *)data, size};
	struct json_value root;
	struct json_error err = {0};
	if (json_parse(bytes, JSON_MAX_DEPTH, &root, &err) == 0)
		check(root, 0);
	else
		REQUIRE(err.offset <= size && err.what && root.type == JSON_NONE);
	check_quoting(bytes);
	return 0;
}
