#include "common/engine_args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void engine_args_init(struct engine_args *a)
{
	*a = (struct engine_args){.flash = -1, .gpu_layers = -1};
}

void engine_cache_type(char out[ENGINE_CACHE_BYTES], const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz_0123456789");
	snprintf(out, ENGINE_CACHE_BYTES, "%.*s", (int)n, text);
}

static bool is_one_of(const char *word, const char *const *names)
{
	for (; *names; names++)
		if (strcmp(word, *names) == 0)
			return true;
	return false;
}

/* "3,1": two; "1,0": one */
static unsigned count_shares(const char *text)
{
	unsigned n = 0;
	for (char *end; *text; text = *end ? end + 1 : end) {
		double share = strtod(text, &end);
		if (end == text)
			break;
		n += share > 0;
	}
	return n;
}

static void take_number(int64_t *out, const char *text)
{
	char *end;
	long long value = strtoll(text, &end, 10);
	if (end != text && *end == '\0' && value >= 0 && value <= INT32_MAX)
		*out = value;
}

static void take_flash(struct engine_args *a, const char *value)
{
	static const char *const off[] = {"off", "0", "false", "disabled", NULL}, *const on[] = {
											  "on", "1",
											  "true",
											  "enabled",
											  NULL};
	a->flash = is_one_of(value, off) ? 0 : is_one_of(value, on) ? 1 : -1;
}

void engine_args_take(struct engine_args *a, const char *option, const char *value)
{
	static const char *const flash[] = {"-fa", "--flash-attn", NULL},
				 *const cache[] = {"-ctk", "--cache-type-k", NULL},
				 *const split[] = {"-ts", "--tensor-split", NULL},
				 *const window[] = {"-c", "--ctx-size", NULL},
				 *const slots[] = {"-np", "--parallel", NULL},
				 *const layers[] = {"-ngl", "--gpu-layers", "--n-gpu-layers", NULL},
				 *const embedding[] = {"--embedding", "--embeddings", NULL};
	int64_t port = 0;
	if (is_one_of(option, embedding))
		a->embedding = true;
	if (!value)
		return;
	if (is_one_of(option, flash))
		take_flash(a, value);
	else if (is_one_of(option, cache))
		engine_cache_type(a->cache_type, value);
	else if (is_one_of(option, split))
		a->split = count_shares(value);
	else if (is_one_of(option, window))
		take_number(&a->window, value);
	else if (is_one_of(option, slots))
		take_number(&a->slots, value);
	else if (is_one_of(option, layers))
		take_number(&a->gpu_layers, value);
	else if (strcmp(option, "--port") == 0)
		take_number(&port, value);
	if (port > 0 && port < 65536)
		a->port = (int)port;
}
