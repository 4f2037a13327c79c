/*
 * Copies of a device's settings, and what differs between two configurations: key by key through
 * the same tables that read the file.
 */
#include "common/config/config_schema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const void *at(const void *base, const struct config_key *k)
{
	return (const char *)base + k->offset;
}

/* --- equality --- */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_argv(char *const *a, char *const *b)
{
	if (!a || !b)
		return a == b;
	for (; *a && *b; a++, b++)
		if (strcmp(*a, *b) != 0)
			return false;
	return *a == *b;
}

static size_t size_of(const struct config_key *k)
{
	switch (k->type) {
	case KEY_INT:
	case KEY_ENUM:
	case KEY_FLAGS:
		return sizeof(int);
	case KEY_INT64:
		return sizeof(int64_t);
	case KEY_REAL:
		return sizeof(double);
	case KEY_BOOL:
		return sizeof(bool);
	case KEY_NAME:
		return CONFIG_NAME_BYTES;
	case KEY_TEXT:
	case KEY_ARGV:
	case KEY_OTHER:
		break;
	}
	return 0;
}

static bool same_value(const struct config_key *k, const void *a, const void *b)
{
	switch (k->type) {
	case KEY_TEXT:
		return same_text(*(char *const *)at(a, k), *(char *const *)at(b, k));
	case KEY_ARGV:
		return same_argv(*(char **const *)at(a, k), *(char **const *)at(b, k));
	case KEY_NAME:
		return strcmp(at(a, k), at(b, k)) == 0;
	case KEY_REAL:
		return *(const double *)at(a, k) == *(const double *)at(b, k);
	default:
		return memcmp(at(a, k), at(b, k), size_of(k)) == 0;
	}
}

static void differences(
	struct config_schema s, const void *a, const void *b, config_difference_fn *fn, void *ctx)
{
	for (size_t i = 0; i < s.count; i++)
		if (!same_value(&s.keys[i], a, b))
			fn(ctx, s.keys[i].group, s.keys[i].name);
}

void config_differences(
	const struct config *a, const struct config *b, config_difference_fn *fn, void *ctx)
{
	differences(config_schema_main, a, b, fn, ctx);
}

void config_device_differences(const struct config_device *a, const struct config_device *b,
	config_difference_fn *fn, void *ctx)
{
	differences(config_schema_device, a, b, fn, ctx);
}

/* --- copies --- */

static char **copy_argv(char *const *from)
{
	size_t n = 0;
	while (from[n])
		n++;
	char **to = calloc(n + 1, sizeof(*to));
	for (size_t i = 0; to && i < n; i++) {
		to[i] = strdup(from[i]);
		if (to[i])
			continue;
		while (i > 0)
			free(to[--i]);
		free(to);
		return NULL;
	}
	return to;
}

int config_device_copy(struct config_device *to, const struct config_device *from)
{
	struct config_schema s = config_schema_device;
	int rc = 0;
	*to = *from;
	for (size_t i = 0; i < s.count; i++) {
		const struct config_key *k = &s.keys[i];
		void *place = (char *)to + k->offset;
		if (k->type == KEY_TEXT) {
			const char *text = *(char *const *)at(from, k);
			*(char **)place = text ? strdup(text) : NULL;
			if (text && !*(char **)place)
				rc = -ENOMEM;
		} else if (k->type == KEY_ARGV) {
			char **argv = *(char **const *)at(from, k);
			*(char ***)place = argv ? copy_argv(argv) : NULL;
			if (argv && !*(char ***)place)
				rc = -ENOMEM;
		}
	}
	if (rc)
		config_device_free(to);
	return rc;
}

void config_device_free(struct config_device *d)
{
	config_schema_free(config_schema_device, d);
	*d = (struct config_device){0};
}
