/* One event as a line for people. */
#include "supervisor/ctl/ctl.h"

#include <stdlib.h>
#include <unistd.h>

/* --- members --- */

static bool stands_first(struct json_value key)
{
	static const char *const first[] = {"seq", "time", "level", "event"};
	for (size_t i = 0; i < sizeof(first) / sizeof(*first); i++)
		if (json_string_is(key, first[i]))
			return true;
	return false;
}

/* As JSON where it has spaces or worse: then it is quoted and escaped already. */
static void print_member(struct json_value key, struct json_value value, FILE *to)
{
	struct buf text;
	if (stands_first(key) || slice_eq(value.raw, SLICE("\"\"")) || json_is(value, JSON_NULL))
		return;
	buf_init(&text, 0);
	json_string_decode(value, &text);
	bool plain = text.n > 0;
	for (size_t i = 0; i < text.n; i++)
		plain = plain && text.p[i] > ' ' && text.p[i] < 0x7f && text.p[i] != '"' &&
			text.p[i] != '\\' && text.p[i] != '=';
	if (!plain) {
		buf_clear(&text);
		buf_add_slice(&text, value.raw);
	}
	size_t n = text.p ? ctl_safe(text.p, text.n) : 0;
	fprintf(to, " %.*s=%.*s", (int)key.raw.n - 2, key.raw.p + 1, (int)n, n ? text.p : "");
	buf_free(&text);
}

/* --- the line --- */

static const char *colour_of(const char *level, const char *event)
{
	if (strcmp(level, "error") == 0)
		return "\033[1;31m";
	if (strcmp(level, "warn") == 0)
		return "\033[33m";
	return strncmp(event, "worker.", 7) == 0 ? "\033[36m" : "\033[1m";
}

void ctl_event_print(struct json_value root, bool colour, FILE *to)
{
	char time[40], event[64], level[16];
	struct json_iter it = json_iter(root);
	struct json_value key, value;

	ctl_text(root, "time", time, sizeof(time));
	ctl_text(root, "event", event, sizeof(event));
	ctl_text(root, "level", level, sizeof(level));
	if (colour)
		fprintf(to, "\033[2m%s\033[0m %s%s\033[0m", time, colour_of(level, event), event);
	else
		fprintf(to, "%s %s", time, event);
	while (json_object_next(&it, &key, &value))
		print_member(key, value, to);
	fputc('\n', to);
}

bool ctl_colour(FILE *to)
{
	const char *none = getenv("NO_COLOR"); /* no-color.org */
	return isatty(fileno(to)) && !(none && *none);
}
