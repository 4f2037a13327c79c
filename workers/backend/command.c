#include "workers/backend/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

extern char **environ;

static void list_free(char **list)
{
	for (char **s = list; s && *s; s++)
		free(*s);
	free(list);
}

/* Takes the text over, also on failure. */
static int list_add(char ***list, char *text)
{
	size_t n = 0;
	while (*list && (*list)[n])
		n++;
	char **grown = text ? realloc(*list, (n + 2) * sizeof(**list)) : NULL;
	if (!grown) {
		free(text);
		return -ENOMEM;
	}
	grown[n] = text;
	grown[n + 1] = NULL;
	*list = grown;
	return 0;
}

int command_add(struct command *c, const char *arg)
{
	return list_add(&c->args, strdup(arg));
}

static bool is_variable(const char *entry, const char *name)
{
	size_t n = strlen(name);
	return strncmp(entry, name, n) == 0 && entry[n] == '=';
}

int command_set(struct command *c, const char *name, const char *value)
{
	char *entry;
	if (asprintf(&entry, "%s=%s", name, value) < 0)
		return -ENOMEM;
	for (char **e = c->env; e && *e; e++) {
		if (!is_variable(*e, name))
			continue;
		free(*e);
		*e = entry;
		return 0;
	}
	return list_add(&c->env, entry);
}

int command_add_address(struct command *c, int port)
{
	char number[16];
	snprintf(number, sizeof(number), "%d", port);
	int rc = command_add(c, "--host");
	if (rc == 0)
		rc = command_add(c, "127.0.0.1");
	if (rc == 0)
		rc = command_add(c, "--port");
	return rc ? rc : command_add(c, number);
}

static int add_all(struct command *c, char *const *args)
{
	int rc = 0;
	for (; *args && rc == 0; args++)
		rc = command_add(c, *args);
	return rc;
}

static int pin(struct command *c, const char *devices)
{
	static const char *const names[] = {
		"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES"};
	char selector[128];
	int rc = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && rc == 0; i++)
		rc = command_set(c, names[i], devices);
	snprintf(selector, sizeof(selector), "level_zero:%s", devices);
	return rc ? rc : command_set(c, "ONEAPI_DEVICE_SELECTOR", selector);
}

static int add_missing(struct command *c, char *const *command)
{
	int rc = 0;
	for (const struct backend_argument *a = backend_arguments; a->name && rc == 0; a++)
		if (backend_adds(command, a) && (rc = command_add(c, a->name)) == 0)
			rc = command_add(c, a->value);
	return rc;
}

int command_init(struct command *c, const struct settings *s, command_listen_fn *listen, int port,
	const char *slots_dir)
{
	static const char *const guard[] = {"tandem-worker", "--exec", "--", NULL};
	int rc = 0;
	*c = (struct command){0};
	for (char **e = environ; *e && rc == 0; e++)
		rc = list_add(&c->env, strdup(*e));
	for (const char *const *a = guard; *a && rc == 0; a++)
		rc = command_add(c, *a);
	if (rc == 0)
		rc = add_all(c, s->command);
	if (rc == 0 && s->pin)
		rc = pin(c, s->pin);
	if (rc == 0 && listen)
		rc = listen(c, port);
	if (rc == 0 && s->traits & TRAIT_PUTS_ASIDE)
		rc = add_missing(c, s->command);
	if (rc == 0 && slots_dir)
		rc = command_add(c, "--slot-save-path");
	if (rc == 0 && slots_dir)
		rc = command_add(c, slots_dir);
	if (rc)
		command_fini(c);
	return rc;
}

void command_fini(struct command *c)
{
	list_free(c->args);
	list_free(c->env);
	*c = (struct command){0};
}
