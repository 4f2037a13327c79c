/* Headers that end at the gateway. */
#include "common/base/hop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka wants the two above first */
#include <cmocka.h>

static void test_headers(void **state)
{
	static const struct {
		const char *name;
		bool hop, client_side;
	} cases[] = {
		{"Connection", true, false},
		{"content-length", true, false},
		{"TRANSFER-ENCODING", true, false},
		{"te", true, false},
		{"Expect", true, false},
		{"Proxy-Authorization", true, false},
		{"proxy-", true, false},
		{"proxy", false, false},
		{"Host", false, true},
		{"Origin", false, true},
		{"cookie", false, true},
		{"X-Conversation-Id", false, true},
		{"Authorization", false, false},
		{"Content-Type", false, false},
		{"Content-Length-Hint", false, false},
		{"", false, false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(hop_header(slice_str(cases[i].name)), cases[i].hop);
		assert_int_equal(hop_client_side(slice_str(cases[i].name)), cases[i].client_side);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_headers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
