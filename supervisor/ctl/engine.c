#include "supervisor/ctl/init.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GPU_MIB_MIN 512

/* The runtimes of llama.cpp, best first. A card shows up under each that is compiled in. */
static const char *const runtimes[] = {
	"CUDA", "ROCm", "HIP", "MUSA", "SYCL", "MTL", "Metal", "Vulkan"};
#define RUNTIMES (sizeof(runtimes) / sizeof(runtimes[0]))

static size_t runtime_rank(const char *name)
{
	size_t i = 0;
	while (i < RUNTIMES && strncmp(name, runtimes[i], strlen(runtimes[i])) != 0)
		i++;
	return i;
}

/* "  Vulkan0: NVIDIA GeForce RTX 3060 (12288 MiB, 11900 MiB free)" */
static bool parse_line(const char *line, size_t n, struct engine_gpu *gpu)
{
	char copy[256];
	if (n >= sizeof(copy))
		return false;
	memcpy(copy, line, n);
	copy[n] = '\0';

	char *name = copy + strspn(copy, " \t");
	char *colon = strstr(name, ": ");
	char *size = strrchr(name, '(');
	if (!colon || !size || size < colon + 2 || strcspn(name, " \t") < (size_t)(colon - name) ||
		(size_t)(colon - name) >= sizeof(gpu->name) ||
		sscanf(size, "(%" SCNd64 " MiB", &gpu->mib) != 1)
		return false;
	*colon = '\0';
	while (size > colon + 2 && size[-1] == ' ')
		size--;
	*size = '\0';
	strcpy(gpu->name, name);
	snprintf(gpu->text, sizeof(gpu->text), "%s", colon + 2);
	return runtime_rank(name) < RUNTIMES && gpu->mib >= GPU_MIB_MIN &&
	       !strcasestr(gpu->text, "llvmpipe") && !strcasestr(gpu->text, "software");
}

static int by_runtime_then_size(const void *a, const void *b)
{
	const struct engine_gpu *x = a, *y = b;
	size_t rx = runtime_rank(x->name), ry = runtime_rank(y->name);
	if (rx != ry)
		return rx < ry ? -1 : 1;
	if (x->mib != y->mib)
		return x->mib > y->mib ? -1 : 1;
	return strcmp(x->name, y->name);
}

size_t engine_parse_gpus(const char *text, struct engine_gpu gpus[ENGINE_GPUS_MAX])
{
	size_t count = 0, same = 0;
	while (*text && count < ENGINE_GPUS_MAX) {
		size_t n = strcspn(text, "\r\n");
		count += parse_line(text, n, &gpus[count]);
		text += n + (text[n] != '\0');
	}
	qsort(gpus, count, sizeof(*gpus), by_runtime_then_size);
	while (same < count && runtime_rank(gpus[same].name) == runtime_rank(gpus[0].name))
		same++;
	return same;
}

int engine_threads(void)
{
	cpu_set_t set;
	int cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 2;
	/* Past a few, every second one is usually a hyper-thread, which computes no faster. */
	int threads = cpus <= 4 ? cpus : cpus / 2;
	return threads < 1 ? 1 : threads > 16 ? 16 : threads;
}
