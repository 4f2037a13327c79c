/* The kinds, by the rows of backends.h. */
#include "workers/backend/backend.h"

#define KIND_OF_ROW(type, kind, ...) [BACKEND_TYPE_##type] = &kind##_kind,

const struct backend_kind *backend_kind(enum backend_type type)
{
	static const struct backend_kind *const kinds[] = {BACKEND_ROWS(KIND_OF_ROW)};
	return kinds[type];
}
