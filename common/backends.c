#include "common/backends.h"

#define PROFILE_OF_ROW(type, kind, conf_name, shown, speaks, has)                                  \
	[BACKEND_TYPE_##type] = {.name = conf_name, .title = shown, .api = speaks, .traits = has},

static const struct backend_profile profiles[] = {BACKEND_ROWS(PROFILE_OF_ROW)};

#define NAME_OF_ROW(type, kind, conf_name, ...) conf_name,

const char *const backend_type_names[] = {BACKEND_ROWS(NAME_OF_ROW) NULL};

const struct backend_profile *backend_profile(enum backend_type type)
{
	return &profiles[type];
}
