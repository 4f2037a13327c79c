/* Bodies that workers died of: remembered for a while, the oldest forgotten first. */
#include "supervisor/requests/poison.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The reference vectors of SipHash-2-4 (key 00..0f, input 00, 01, 02, ...). */
static void test_hash(void **state)
{
	(void)state;
	static const struct {
		size_t n;
		uint64_t hash;
	} known[] = {{0, 0x726fdb47dd0e0e31u}, {1, 0x74f839c593dc67fdu}, {7, 0xab0200f58b01d137u},
		{8, 0x93f5f5799a932462u}, {15, 0xa129ca6149be45e5u}, {63, 0x958a324ceb064572u}};
	struct poison p = {.key = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u}, .used = true};
	char bytes[64];
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)i;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		assert_true(poison_hash(&p, 0, (struct slice){bytes, known[i].n}) == known[i].hash);
}

static bool has(const struct poison *p, const char *body, uint64_t now)
{
	return poison_has(p, poison_hash(p, 0, slice_str(body)), now);
}

static void test_remembered_for_a_while(void **state)
{
	(void)state;
	struct poison p = {0};
	assert_false(has(&p, "a", 0));
	poison_add(&p, 0, SLICE("a"), 1000);
	assert_true(p.used && (p.key[0] || p.key[1]));
	assert_true(has(&p, "a", 1000));
	assert_true(has(&p, "a", 1000 + POISON_MS - 1));
	assert_false(has(&p, "a", 1000 + POISON_MS));
	assert_false(has(&p, "b", 1000));
	assert_false(has(&p, "", 1000));
	/* Again: from then on. */
	poison_add(&p, 0, SLICE("a"), 2000);
	assert_true(has(&p, "a", 1000 + POISON_MS));
}

static void test_the_oldest_goes_first(void **state)
{
	(void)state;
	struct poison p = {0};
	char body[32];
	for (int i = 0; i <= POISON_ENTRIES; i++) {
		snprintf(body, sizeof(body), "body %d", i);
		poison_add(&p, 0, slice_str(body), 1);
	}
	assert_false(has(&p, "body 0", 2));
	assert_true(has(&p, "body 1", 2));
	assert_true(has(&p, body, 2));
}

static void test_each_process_has_its_own_key(void **state)
{
	(void)state;
	struct poison a = {0}, b = {0};
	poison_add(&a, 0, SLICE("x"), 1);
	poison_add(&b, 0, SLICE("x"), 1);
	assert_true(poison_hash(&a, 0, SLICE("x")) != poison_hash(&b, 0, SLICE("x")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_remembered_for_a_while),
		cmocka_unit_test(test_the_oldest_goes_first),
		cmocka_unit_test(test_each_process_has_its_own_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
