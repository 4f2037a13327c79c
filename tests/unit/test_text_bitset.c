#include "common/text/bitset.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above first */
#include <cmocka.h>

/* Neighbours agree with a plain array at every size that changes the number of levels. */
static void test_neighbours(void **state)
{
	static const size_t sizes[] = {1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, 9000};
	(void)state;
	for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++) {
		size_t n = sizes[k];
		bool plain[9000] = {false};
		struct bitset b;
		assert_int_equal(bitset_init(&b, n), 0);
		assert_int_equal(bitset_next(&b, 0), BITSET_NONE);
		assert_int_equal(bitset_before(&b, n), BITSET_NONE);
		for (size_t i = 7 % n, step = 0; step < n / 50 + 2; step++, i = (i * 31 + 11) % n) {
			bitset_set(&b, i);
			plain[i] = true;
		}
		size_t before = BITSET_NONE;
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(bitset_has(&b, i), plain[i]);
			assert_int_equal(bitset_before(&b, i), before);
			if (plain[i])
				before = i;
		}
		size_t next = BITSET_NONE;
		assert_int_equal(bitset_next(&b, n), BITSET_NONE);
		for (size_t i = n; i-- > 0;) {
			if (plain[i])
				next = i;
			assert_int_equal(bitset_next(&b, i), next);
		}
		bitset_fini(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_neighbours)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
