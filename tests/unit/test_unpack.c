/* Packed bodies, and text that is mended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/json.h"
#include "common/base/unpack.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

static void codings(void **state)
{
	static const struct {
		const char *value;
		enum unpack_coding coding;
	} rows[] = {{NULL, UNPACK_NONE}, {"", UNPACK_NONE}, {"identity", UNPACK_NONE},
		{"gzip", UNPACK_GZIP}, {"GZip", UNPACK_GZIP}, {" x-gzip ", UNPACK_GZIP},
		{"deflate", UNPACK_GZIP}, {"zstd", UNPACK_ZSTD}, {"br", UNPACK_UNKNOWN},
		{"gzip, zstd", UNPACK_UNKNOWN}, {"gzip zstd", UNPACK_UNKNOWN},
		{"compress", UNPACK_UNKNOWN}, {"zst", UNPACK_UNKNOWN}};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_int_equal(unpack_coding(rows[i].value), rows[i].coding);
}

static void pack(enum unpack_coding coding, bool zlib, struct slice text, struct buf *out)
{
	size_t room = text.n + 4096;
	char *to = malloc(room);
	assert_non_null(to);
	if (coding == UNPACK_ZSTD) {
		room = ZSTD_compress(to, room, text.p, text.n, 3);
		assert_false(ZSTD_isError(room));
	} else {
		z_stream z = {.next_in = (Bytef *)(uintptr_t)text.p,
			.avail_in = (unsigned)text.n,
			.next_out = (Bytef *)to,
			.avail_out = (unsigned)room};
		assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, zlib ? 15 : 31, 8, 0), Z_OK);
		assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
		room -= z.avail_out;
		deflateEnd(&z);
	}
	buf_add(out, to, room);
	free(to);
}

static int unpacked(enum unpack_coding coding, struct slice in, size_t max, struct slice want)
{
	struct buf out;
	buf_init(&out, max);
	int rc = unpack(coding, in, &out);
	if (rc == 0)
		assert_true(slice_eq(buf_slice(&out), want));
	buf_free(&out);
	return rc;
}

/* Whole, twice in a row, cut anywhere, with a byte changed, over the cap. */
static void check_coding(enum unpack_coding coding, bool zlib)
{
	static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 1000000};
	char *text = malloc(2000000);
	assert_non_null(text);
	for (size_t i = 0; i < 2000000; i++)
		text[i] = (char)('a' + i * i % 23);
	memcpy(text + 1000000, text, 1000000);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct slice whole = {text, sizes[i]};
		struct buf in;
		buf_init(&in, 0);
		pack(coding, zlib, whole, &in);
		assert_int_equal(unpacked(coding, buf_slice(&in), sizes[i] + 1, whole), 0);
		if (sizes[i] > 1)
			assert_int_equal(
				unpacked(coding, buf_slice(&in), sizes[i] - 1, whole), -E2BIG);
		for (size_t n = 0; n < in.n; n += 1 + in.n / 40)
			assert_int_equal(
				unpacked(coding, (struct slice){in.p, n}, 0, whole), -EINVAL);
		if (sizes[i] == 1000000) {
			size_t once = in.n;
			pack(coding, zlib, whole, &in);
			assert_int_equal(
				unpacked(coding, buf_slice(&in), 0, (struct slice){text, 2000000}),
				0);
			in.n = once;
			buf_add_str(&in, "more");
			assert_int_equal(unpacked(coding, buf_slice(&in), 0, whole), -EINVAL);
		}
		buf_free(&in);
	}
	assert_int_equal(unpacked(coding, SLICE("{\"model\":\"m\"}"), 0, SLICE("")), -EINVAL);
	free(text);
}

static void gzip(void **state)
{
	(void)state;
	check_coding(UNPACK_GZIP, false);
	check_coding(UNPACK_GZIP, true);
}

static void zstd(void **state)
{
	(void)state;
	check_coding(UNPACK_ZSTD, false);
}

/* A few bytes that would fill the memory stop at the cap. */
static void a_bomb_is_cut(void **state)
{
	size_t n = 64u << 20;
	char *zeros = calloc(1, n);
	struct buf in, out;
	(void)state;
	assert_non_null(zeros);
	for (int coding = UNPACK_GZIP; coding <= UNPACK_ZSTD; coding++) {
		buf_init(&in, 0);
		buf_init(&out, 1 << 20);
		pack((enum unpack_coding)coding, false, (struct slice){zeros, n}, &in);
		assert_true(in.n < n / 500);
		assert_int_equal(unpack((enum unpack_coding)coding, buf_slice(&in), &out), -E2BIG);
		assert_true(out.cap <= 2u << 20);
		buf_free(&in);
		buf_free(&out);
	}
	free(zeros);
}

#define FFFD "\xef\xbf\xbd"

static void broken_utf8_is_mended(void **state)
{
	static const char *const rows[][2] = {{"", ""}, {"plain", "plain"},
		{"caf\xe9 du", "caf" FFFD " du"}, {"\xff\xfe", FFFD FFFD}, {"\xe2\x82", FFFD},
		{"\xe2\x82z", FFFD "z"}, {"\xc3\xa9\xe9", "\xc3\xa9" FFFD},
		{"\xed\xa0\x80", FFFD FFFD FFFD}, {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"}};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct buf out;
		buf_init(&out, 0);
		assert_int_equal(json_mend_utf8(slice_str(rows[i][0]), &out), 0);
		assert_string_equal(buf_cstr(&out), rows[i][1]);
		buf_free(&out);
	}
}

static void lone_surrogates_are_mended(void **state)
{
	static const char *const rows[][2] = {{"", ""}, {"\\ud83d\\ude00", "\\ud83d\\ude00"},
		{"a\\ud83d", "a\\ufffd"}, {"\\uDE00b", "\\ufffdb"},
		{"\\ud83d\\ud83d\\ude00", "\\ufffd\\ud83d\\ude00"},
		{"\\ud83dx\\ude00", "\\ufffdx\\ufffd"}, {"\\\\ud83d", "\\\\ud83d"},
		{"\\\\\\ud83d", "\\\\\\ufffd"}, {"\\u00e9\\n\\\"", "\\u00e9\\n\\\""},
		{"\\ud8", "\\ud8"}, {"\\", "\\"}, {"\\uzzzz\\udfff", "\\uzzzz\\ufffd"}};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char text[64];
		strcpy(text, rows[i][0]);
		size_t mended = json_mend_surrogates(text, strlen(text));
		assert_string_equal(text, rows[i][1]);
		assert_int_equal(mended > 0, strcmp(rows[i][0], rows[i][1]) != 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(codings),
		cmocka_unit_test(gzip),
		cmocka_unit_test(zstd),
		cmocka_unit_test(a_bomb_is_cut),
		cmocka_unit_test(broken_utf8_is_mended),
		cmocka_unit_test(lone_surrogates_are_mended),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
