#include "workers/backend/serving.h"

#include <stdio.h>
#include <string.h>

#define LINE_BYTES 256 /* of a line that are looked at; what counts stands in front */
#define MIB 1048576.0

void serving_init(struct serving *s)
{
	*s = (struct serving){0};
	engine_args_init(&s->args);
}

void serving_command(struct serving *s, char *const *command)
{
	for (char *const *arg = command; arg && *arg; arg++)
		engine_args_take(&s->args, *arg, arg[1]);
}

/* --- its output --- */

/* "load_tensors:        CUDA0 model buffer size =  4020.51 MiB" */
static void take_weights(struct serving *s, const char *line)
{
	char name[SERVING_GPU_BYTES];
	double mib;
	const char *colon = strstr(line, "load_tensors:");
	if (!colon || sscanf(colon + 13, " %23s model buffer size = %lf MiB", name, &mib) != 2 ||
		!(mib >= 0 && mib < 1e9))
		return;
	bool cpu = strncmp(name, "CPU", 3) == 0;
	s->weights = true;
	*(cpu ? &s->cpu_bytes : &s->gpu_bytes) += (int64_t)(mib * MIB);
	for (unsigned i = 0; i < s->gpus; i++)
		cpu |= strcmp(s->gpu[i], name) == 0;
	if (!cpu && s->gpus < SERVING_GPUS_MAX)
		memcpy(s->gpu[s->gpus++], name, sizeof(name));
}

/* "llama_context: flash_attn = disabled"; "Flash Attention was auto, set to enabled" */
static void take_flash(struct serving *s, const char *line)
{
	const char *asked = strstr(line, "flash_attn "), *became = strstr(line, "Flash Attention");
	char word[16] = "";
	if (asked && sscanf(asked, "flash_attn = %15s", word) == 1)
		s->args.flash = strcmp(word, "disabled") == 0 || strcmp(word, "0") == 0 ? 0
				: strcmp(word, "enabled") == 0 || strcmp(word, "1") == 0
					? 1
					: s->args.flash;
	if (became && strstr(became, "disabled"))
		s->args.flash = 0;
	else if (became && strstr(became, "enabled"))
		s->args.flash = 1;
}

/* "llama_kv_cache: size = 22.50 MiB ( 512 cells, 30 layers, 2/2 seqs), K (f16): 11.25 MiB, ..." */
static void take_cache(struct serving *s, const char *line)
{
	const char *type = strstr(line, ", K (");
	if (strstr(line, "kv_cache") && type)
		engine_cache_type(s->args.cache_type, type + 5);
}

/* "load_tensors: offloaded 29/31 layers to GPU" */
static void take_layers(struct serving *s, const char *line)
{
	unsigned on_gpu, layers;
	int whole = 0;
	const char *offloaded = strstr(line, "offloaded ");
	if (!offloaded)
		return;
	sscanf(offloaded, "offloaded %u/%u layers to GPU%n", &on_gpu, &layers, &whole);
	if (whole == 0 || layers == 0)
		return;
	s->on_gpu = on_gpu < layers ? on_gpu : layers;
	s->layers = layers;
}

void serving_line(struct serving *s, struct slice line)
{
	char text[LINE_BYTES];
	size_t n = line.n < sizeof(text) - 1 ? line.n : sizeof(text) - 1;
	memcpy(text, line.p, n);
	text[n] = '\0';
	take_layers(s, text);
	take_weights(s, text);
	take_flash(s, text);
	take_cache(s, text);
}

/* --- what it comes to --- */

double serving_share(const struct serving *s)
{
	return s->layers ? (double)s->on_gpu / s->layers : -1;
}

int64_t serving_percent(const struct serving *s)
{
	if (!s->weights)
		return -1;
	if (s->gpu_bytes == 0)
		return 0;
	return s->layers ? (int64_t)s->on_gpu * 100 / s->layers : 100;
}

int64_t serving_gpus(const struct serving *s)
{
	if (s->weights)
		return s->gpus;
	return s->args.split ? (int64_t)s->args.split : -1;
}
