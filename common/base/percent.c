#include "common/base/percent.h"

#include "common/base/hex.h"

#include <stdbool.h>

static bool read_hex(const char *p, const char *end, size_t digits, unsigned *value)
{
	*value = 0;
	for (size_t i = 0; i < digits; i++) {
		int d = p + i < end ? hex_digit(p[i]) : -1;
		if (d < 0)
			return false;
		*value = *value << 4 | (unsigned)d;
	}
	return true;
}

size_t percent_escape(const char *p, const char *end, unsigned *value)
{
	if (end - p < 3 || *p != '%')
		return 0;
	if (p[1] == 'u')
		return read_hex(p + 2, end, 4, value) ? 6 : 0;
	return read_hex(p + 1, end, 2, value) ? 3 : 0;
}
