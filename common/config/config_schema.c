#include "common/config/config_schema.h"

#include "common/config/config_suggest.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define KEY_PATH_BYTES 256

static void *field(void *base, const struct config_key *k)
{
	return (char *)base + k->offset;
}

static bool same_group(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/* --- problems --- */

/* Appends the path of s ("devices[0].backend") to out; the root adds nothing. */
static void key_path(const config_setting_t *s, struct buf *out)
{
	if (!s || config_setting_is_root(s))
		return;
	key_path(config_setting_parent(s), out);
	if (!config_setting_name(s))
		buf_printf(out, "[%d]", config_setting_index(s));
	else
		buf_printf(out, "%s%s", out->n ? "." : "", config_setting_name(s));
}

void config_problem(struct config_reader *r, const config_setting_t *at, const char *child,
	const char *fmt, ...)
{
	struct buf key;
	va_list ap;
	char what[512];

	if (++r->problems > CONFIG_PROBLEMS_MAX)
		return;
	buf_init(&key, KEY_PATH_BYTES);
	key_path(at, &key);
	if (child)
		buf_printf(&key, "%s%s", key.n ? "." : "", child);
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);

	unsigned line = config_setting_is_root(at) ? 0 : config_setting_source_line(at);
	struct config_place place = config_text_place(&r->text, line);
	if (line)
		buf_printf(r->err, "%s:%u: %s: %s\n", place.file, place.line, buf_cstr(&key), what);
	else
		buf_printf(r->err, "%s: %s: %s\n", place.file, buf_cstr(&key), what);
	buf_free(&key);
}

static void unknown_key(struct config_reader *r, struct config_schema s, const char *group,
	const config_setting_t *m)
{
	const char *name = config_setting_name(m);
	const struct config_key *elsewhere = NULL;
	struct suggest near;

	suggest_init(&near, name);
	for (size_t i = 0; i < s.count; i++) {
		const struct config_key *k = &s.keys[i];
		if (same_group(k->group, group))
			suggest_offer(&near, k->name);
		else if (!group)
			suggest_offer(&near, k->group);
		if (!elsewhere && strcmp(k->name, name) == 0)
			elsewhere = k;
	}
	if (near.best)
		config_problem(r, m, NULL, "unknown key, did you mean '%s'?", near.best);
	else if (elsewhere && elsewhere->group)
		config_problem(
			r, m, NULL, "unknown key here, it belongs into '%s'", elsewhere->group);
	else if (elsewhere)
		config_problem(r, m, NULL, "unknown key here, it belongs outside of '%s'", group);
	else
		config_problem(r, m, NULL, "unknown key");
}

/* --- values --- */

static const char *type_words(const config_setting_t *m)
{
	switch (config_setting_type(m)) {
	case CONFIG_TYPE_GROUP:
		return "a group";
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return "a whole number";
	case CONFIG_TYPE_FLOAT:
		return "a number with a fraction";
	case CONFIG_TYPE_STRING:
		return "a string";
	case CONFIG_TYPE_BOOL:
		return "true or false";
	case CONFIG_TYPE_ARRAY:
		return "an array";
	default:
		return "a list";
	}
}

static bool has_type(struct config_reader *r, const config_setting_t *m, bool ok, const char *want)
{
	if (!ok)
		config_problem(r, m, NULL, "must be %s, not %s", want, type_words(m));
	return ok;
}

static bool in_range(struct config_reader *r, const struct config_key *k, const config_setting_t *m,
	double value)
{
	if (value >= k->min && value <= k->max)
		return true;
	config_problem(
		r, m, NULL, "must be between %.15g and %.15g, not %.15g", k->min, k->max, value);
	return false;
}

static bool is_whole(const config_setting_t *m)
{
	int type = config_setting_type(m);
	return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

static int64_t whole(const config_setting_t *m)
{
	return config_setting_type(m) == CONFIG_TYPE_INT64 ? config_setting_get_int64(m)
							   : config_setting_get_int(m);
}

static void read_whole(
	struct config_reader *r, const struct config_key *k, const config_setting_t *m, void *base)
{
	if (!has_type(r, m, is_whole(m), "a whole number") || !in_range(r, k, m, (double)whole(m)))
		return;
	if (k->type == KEY_INT)
		*(int *)field(base, k) = (int)whole(m);
	else
		*(int64_t *)field(base, k) = whole(m);
}

static void read_real(
	struct config_reader *r, const struct config_key *k, const config_setting_t *m, void *base)
{
	if (!has_type(r, m, config_setting_is_number(m), "a number"))
		return;
	double value = is_whole(m) ? (double)whole(m) : config_setting_get_float(m);
	if (in_range(r, k, m, value))
		*(double *)field(base, k) = value;
}

/* The index of m's text in k->names, or -1 with the problem told. */
static int read_name_of(
	struct config_reader *r, const struct config_key *k, const config_setting_t *m)
{
	char all[128] = "";
	struct suggest near;

	if (!has_type(r, m, config_setting_type(m) == CONFIG_TYPE_STRING, "a string"))
		return -1;
	const char *text = config_setting_get_string(m);
	suggest_init(&near, text);
	for (int i = 0; k->names[i]; i++) {
		if (strcmp(text, k->names[i]) == 0)
			return i;
		suggest_offer(&near, k->names[i]);
		size_t n = strlen(all);
		snprintf(all + n, sizeof(all) - n, "%s%s", n ? ", " : "", k->names[i]);
	}
	if (near.best)
		config_problem(r, m, NULL,
			"unknown value \"%.64s\", did you mean '%s'? (one of: %s)", text, near.best,
			all);
	else
		config_problem(r, m, NULL, "unknown value \"%.64s\" (one of: %s)", text, all);
	return -1;
}

static void read_flags(
	struct config_reader *r, const struct config_key *k, const config_setting_t *m, void *base)
{
	int type = config_setting_type(m);
	bool several = type == CONFIG_TYPE_ARRAY || type == CONFIG_TYPE_LIST;
	unsigned flags = 0;

	if (!has_type(r, m, several, "an array of strings"))
		return;
	for (int i = 0; i < config_setting_length(m); i++) {
		int bit = read_name_of(r, k, config_setting_get_elem(m, (unsigned)i));
		if (bit >= 0)
			flags |= 1u << bit;
	}
	*(unsigned *)field(base, k) = flags;
}

static void store_text(struct config_reader *r, char **to, const char *text)
{
	char *copy = strdup(text);
	if (!copy)
		r->no_memory = true;
	free(*to);
	*to = copy;
}

static void read_text(
	struct config_reader *r, const struct config_key *k, const config_setting_t *m, void *base)
{
	if (!has_type(r, m, config_setting_type(m) == CONFIG_TYPE_STRING, "a string"))
		return;
	const char *text = config_setting_get_string(m);
	const char *problem = k->check(text);
	if (problem)
		config_problem(r, m, NULL, "%s, not \"%.128s\"", problem, text);
	else if (k->type == KEY_NAME)
		snprintf(field(base, k), CONFIG_NAME_BYTES, "%s", text);
	else
		store_text(r, field(base, k), text);
}

static void read_argv(
	struct config_reader *r, const struct config_key *k, const config_setting_t *m, void *base)
{
	int type = config_setting_type(m), n = config_setting_length(m);
	bool several = type == CONFIG_TYPE_ARRAY || type == CONFIG_TYPE_LIST;

	if (!has_type(r, m, several, "an array of strings"))
		return;
	if (n < (int)k->min || n > CONFIG_COMMAND_ARGS_MAX) {
		config_problem(r, m, NULL, "must have %d to %d words, not %d", (int)k->min,
			CONFIG_COMMAND_ARGS_MAX, n);
		return;
	}
	char **argv = calloc((size_t)n + 1, sizeof(*argv));
	*(char ***)field(base, k) = argv;
	if (!argv) {
		r->no_memory = true;
		return;
	}
	for (int i = 0; i < n; i++) {
		const config_setting_t *e = config_setting_get_elem(m, (unsigned)i);
		bool text = config_setting_type(e) == CONFIG_TYPE_STRING;
		store_text(r, &argv[i], text ? config_setting_get_string(e) : "?");
		if (!text) {
			has_type(r, e, false, "a string");
			return;
		}
		const char *problem = k->check && argv[i] ? k->check(argv[i]) : NULL;
		if (problem)
			config_problem(r, m, NULL, "\"%s\" %s", argv[i], problem);
	}
}

static void read_value(
	struct config_reader *r, const struct config_key *k, const config_setting_t *m, void *base)
{
	int index;
	switch (k->type) {
	case KEY_INT:
	case KEY_INT64:
		read_whole(r, k, m, base);
		break;
	case KEY_REAL:
		read_real(r, k, m, base);
		break;
	case KEY_BOOL:
		if (has_type(r, m, config_setting_type(m) == CONFIG_TYPE_BOOL, "true or false"))
			*(bool *)field(base, k) = config_setting_get_bool(m);
		break;
	case KEY_ENUM:
		index = read_name_of(r, k, m);
		if (index >= 0)
			*(unsigned *)field(base, k) = (unsigned)index; /* every enum here is one */
		break;
	case KEY_FLAGS:
		read_flags(r, k, m, base);
		break;
	case KEY_NAME:
	case KEY_TEXT:
		read_text(r, k, m, base);
		break;
	case KEY_ARGV:
		read_argv(r, k, m, base);
		break;
	case KEY_OTHER:
		break;
	}
}

/* --- tables --- */

static const struct config_key *find_key(
	struct config_schema s, const char *group, const char *name)
{
	for (size_t i = 0; i < s.count; i++)
		if (same_group(s.keys[i].group, group) && strcmp(s.keys[i].name, name) == 0)
			return &s.keys[i];
	return NULL;
}

static bool is_group(struct config_schema s, const char *name)
{
	for (size_t i = 0; i < s.count; i++)
		if (s.keys[i].group && strcmp(s.keys[i].group, name) == 0)
			return true;
	return false;
}

static void read_members(struct config_reader *r, struct config_schema s,
	const config_setting_t *outer, const char *group, void *base)
{
	for (int i = 0; i < config_setting_length(outer); i++) {
		const config_setting_t *m = config_setting_get_elem(outer, (unsigned)i);
		const char *name = config_setting_name(m);
		const struct config_key *k = find_key(s, group, name);
		if (k)
			read_value(r, k, m, base);
		else if (group || !is_group(s, name))
			unknown_key(r, s, group, m);
		else if (has_type(r, m, config_setting_is_group(m), "a group"))
			read_members(r, s, m, name, base);
	}
}

void config_schema_read(
	struct config_reader *r, struct config_schema s, const config_setting_t *group, void *base)
{
	read_members(r, s, group, NULL, base);
}

int config_schema_defaults(struct config_schema s, void *base)
{
	int rc = 0;
	for (size_t i = 0; i < s.count; i++) {
		const struct config_key *k = &s.keys[i];
		void *to = field(base, k);
		switch (k->type) {
		case KEY_INT:
		case KEY_ENUM:
			*(int *)to = (int)k->fallback;
			break;
		case KEY_INT64:
			*(int64_t *)to = (int64_t)k->fallback;
			break;
		case KEY_REAL:
			*(double *)to = k->fallback;
			break;
		case KEY_BOOL:
			*(bool *)to = k->fallback != 0;
			break;
		case KEY_TEXT:
			*(char **)to = k->text ? strdup(k->text) : NULL;
			if (k->text && !*(char **)to)
				rc = -ENOMEM;
			break;
		case KEY_FLAGS:
		case KEY_NAME:
		case KEY_ARGV:
		case KEY_OTHER:
			break; /* zero, as the caller left it */
		}
	}
	return rc;
}

void config_schema_free(struct config_schema s, void *base)
{
	for (size_t i = 0; i < s.count; i++) {
		const struct config_key *k = &s.keys[i];
		if (k->type == KEY_TEXT) {
			free(*(char **)field(base, k));
		} else if (k->type == KEY_ARGV && *(char ***)field(base, k)) {
			char **argv = *(char ***)field(base, k);
			for (size_t n = 0; argv[n]; n++)
				free(argv[n]);
			free(argv);
		}
	}
}
