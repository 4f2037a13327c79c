/* The hashes of common/base against their published vectors. */
#include "common/base/hash.h"
#include "common/base/sip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants the two above first */
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

/* Of draft-eastlake-fnv: 64-bit FNV-1a. */
static void test_fnv(void **state)
{
	static const struct {
		const char *text;
		uint64_t hash;
	} known[] = {{"", 0xcbf29ce484222325u}, {"a", 0xaf63dc4c8601ec8cu},
		{"foobar", 0x85944171f73967e8u}};
	(void)state;
	for (size_t i = 0; i < COUNT(known); i++)
		assert_true(hash_fnv(HASH_FNV_START, known[i].text, strlen(known[i].text)) ==
			    known[i].hash);
	assert_true(hash_fnv(hash_fnv(HASH_FNV_START, "foo", 3), "bar", 3) == known[2].hash);
}

static void test_fnv_of_texts(void **state)
{
	(void)state;
	uint64_t h = HASH_FNV_START;
	assert_true(hash_fnv_text(hash_fnv_text(h, "ab"), "c") !=
		    hash_fnv_text(hash_fnv_text(h, "a"), "bc"));
	assert_true(hash_fnv_text(h, NULL) == hash_fnv_text(h, ""));
	assert_true(hash_fnv_text(h, "") != h);
	assert_true(hash_fnv_text(h, "foobar") == hash_fnv(h, "foobar", 7));
}

/* The reference vectors of SipHash-2-4 (key 00..0f, input 00, 01, 02, ...), whatever the pieces. */
static void test_sip(void **state)
{
	static const struct {
		size_t n;
		uint64_t hash;
	} known[] = {{0, 0x726fdb47dd0e0e31u}, {1, 0x74f839c593dc67fdu}, {7, 0xab0200f58b01d137u},
		{8, 0x93f5f5799a932462u}, {15, 0xa129ca6149be45e5u}, {63, 0x958a324ceb064572u}};
	static const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
	unsigned char bytes[64];
	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)i;
	for (size_t i = 0; i < COUNT(known); i++)
		for (size_t piece = 1; piece <= 20; piece++) {
			struct sip s;
			sip_init(&s, key);
			for (size_t at = 0; at < known[i].n; at += piece)
				sip_add(&s, bytes + at,
					known[i].n - at < piece ? known[i].n - at : piece);
			assert_true(sip_end(&s) == known[i].hash);
		}
}

/* A set holds what was added, once, however it grows. */
static void test_set(void **state)
{
	struct hashset set = {0};
	(void)state;
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(hashset_add(&set, i * 64), 1);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(hashset_add(&set, i * 64), 0);
	assert_int_equal(hashset_add(&set, 7), 1);
	hashset_fini(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fnv),
		cmocka_unit_test(test_fnv_of_texts),
		cmocka_unit_test(test_sip),
		cmocka_unit_test(test_set),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
