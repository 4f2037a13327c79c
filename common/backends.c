#include "common/backends.h"

#include "common/engine_args.h"

#include <stdlib.h>
#include <string.h>

#define PROFILE_OF_ROW(type, kind, conf_name, shown, speaks, has)                                  \
	[BACKEND_TYPE_##type] = {.name = conf_name, .title = shown, .api = speaks, .traits = has},

static const struct backend_profile profiles[] = {BACKEND_ROWS(PROFILE_OF_ROW)};

#define NAME_OF_ROW(type, kind, conf_name, ...) conf_name,

const char *const backend_type_names[] = {BACKEND_ROWS(NAME_OF_ROW) NULL};

const struct backend_profile *backend_profile(enum backend_type type)
{
	return &profiles[type];
}

/* The value of the last option that has one of the two names; NULL: there is none. */
static const char *value_of(char *const *command, const char *name, const char *other)
{
	const char *value = NULL;
	for (char *const *arg = command; arg && *arg && arg[1]; arg++)
		if (strcmp(*arg, name) == 0 || strcmp(*arg, other) == 0)
			value = arg[1];
	return value;
}

const struct backend_argument backend_arguments[] = {
	{"--slot-prompt-similarity", "-sps", "0.8", true},
	{"--batch-size", "-b", "512", false},
	{NULL, NULL, NULL, false},
};

static bool has_one_slot(char *const *command)
{
	struct engine_args args;
	engine_args_init(&args);
	for (char *const *arg = command; arg && *arg && arg[1]; arg++)
		engine_args_take(&args, arg[0], arg[1]);
	return args.slots == 1;
}

static bool has_memory(char *const *command)
{
	const char *memory = value_of(command, "--cache-ram", "-cram");
	return !memory || strtol(memory, NULL, 10) != 0;
}

bool backend_adds(char *const *command, const struct backend_argument *a)
{
	return has_one_slot(command) && (has_memory(command) || !a->aside) &&
	       !value_of(command, a->name, a->other);
}

double backend_similarity(char *const *command)
{
	const struct backend_argument *a = backend_arguments;
	const char *own = value_of(command, a->name, a->other);
	if (!has_one_slot(command) || !has_memory(command))
		return 0;
	return strtod(own ? own : a->value, NULL);
}
