#include "workers/backend/command.h"

#include <stdio.h>
#include <stdlib.h>

extern char **environ;

void command_free(char **list)
{
	for (char **s = list; s && *s; s++)
		free(*s);
	free(list);
}

char **command_args(const struct settings *s, int port, const char *slots_dir)
{
	size_t count = 0;
	while (s->command[count])
		count++;
	char **args = calloc(count + 3 + 4 + 2 + 1, sizeof(*args)), **a = args;
	char number[16];
	snprintf(number, sizeof(number), "%d", port);
	if (!args)
		return NULL;
	bool ok = (*a++ = strdup("tandem-worker")) && (*a++ = strdup("--exec")) &&
		  (*a++ = strdup("--"));
	for (size_t i = 0; i < count && ok; i++)
		ok = (*a++ = strdup(s->command[i]));
	if (ok && s->type == BACKEND_TYPE_LLAMA_SERVER)
		ok = (*a++ = strdup("--host")) && (*a++ = strdup("127.0.0.1")) &&
		     (*a++ = strdup("--port")) && (*a++ = strdup(number));
	if (ok && slots_dir)
		ok = (*a++ = strdup("--slot-save-path")) && (*a++ = strdup(slots_dir));
	if (ok)
		return args;
	command_free(args);
	return NULL;
}

#define ENV_EXTRA 6

static bool env_is(const char *entry, const char *name)
{
	size_t n = strlen(name);
	return strncmp(entry, name, n) == 0 && entry[n] == '=';
}

char **command_env(const struct settings *s, int port)
{
	char *set[ENV_EXTRA][2] = {{NULL}};
	char selector[128], host[32];
	size_t sets = 0, count = 0;
	if (s->pin) {
		snprintf(selector, sizeof(selector), "level_zero:%s", s->pin);
		static const char *const names[] = {
			"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES"};
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++, sets++) {
			set[sets][0] = (char *)names[i];
			set[sets][1] = s->pin;
		}
		set[sets][0] = (char *)"ONEAPI_DEVICE_SELECTOR";
		set[sets++][1] = selector;
	}
	if (s->type == BACKEND_TYPE_OLLAMA) {
		snprintf(host, sizeof(host), "127.0.0.1:%d", port);
		set[sets][0] = (char *)"OLLAMA_HOST";
		set[sets++][1] = host;
		if (!getenv("OLLAMA_NOPRUNE")) { /* several serve one folder of models
						    (docs/protocols.md#environment) */
			set[sets][0] = (char *)"OLLAMA_NOPRUNE";
			set[sets++][1] = (char *)"1";
		}
	}
	while (environ[count])
		count++;
	char **env = calloc(count + sets + 1, sizeof(*env)), **e = env;
	if (!env)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		bool replaced = false;
		for (size_t k = 0; k < sets; k++)
			replaced |= env_is(environ[i], set[k][0]);
		if (!replaced && !(*e++ = strdup(environ[i])))
			goto error;
	}
	for (size_t k = 0; k < sets; k++) {
		char *entry;
		if (asprintf(&entry, "%s=%s", set[k][0], set[k][1]) < 0)
			goto error;
		*e++ = entry;
	}
	return env;
error:
	command_free(env);
	return NULL;
}
