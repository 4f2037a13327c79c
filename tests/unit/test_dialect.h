/* What the dialect tests share. */
#ifndef TANDEM_TEST_DIALECT_H
#define TANDEM_TEST_DIALECT_H

#include "common/base/buf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* JSON is written with ' for " in the tables; a fresh copy with real quotes. */
static inline char *json_of(const char *text)
{
	char *copy = strdup(text);
	assert_non_null(copy);
	for (char *p = copy; *p; p++) {
		if (*p == '\'')
			*p = '"';
	}
	return copy;
}

#endif
