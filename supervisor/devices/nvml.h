/*
 * What NVIDIA's driver says of its GPUs: memory, load, temperature, power. libnvidia-ml.so.1 comes
 * with the driver and is loaded when first asked for (dlopen); without it the list is empty and
 * says why.
 *
 * The driver may be slow, or hang: it is asked on a thread of its own, only when somebody wants to
 * know and at most once in NVML_FRESH_MS; who asks meanwhile gets the last sample. An answer comes
 * within NVML_WAIT_MS even when the driver hangs. Callbacks come on the loop thread.
 */
#ifndef TANDEM_NVML_H
#define TANDEM_NVML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define NVML_GPUS_MAX 16
#define NVML_FRESH_MS 1000
#define NVML_WAIT_MS 1000
#define NVML_NAME_BYTES 96 /* of NVML's own limits */
#define NVML_WHY_BYTES 256

struct nvml_gpu {
	unsigned index;
	char name[NVML_NAME_BYTES], uuid[NVML_NAME_BYTES]; /* "" unknown */
	uint64_t memory_used, memory_total;		   /* bytes; total 0: unknown */
	int load, temperature;				   /* percent, Celsius; -1: unknown */
	double power;					   /* watts; < 0: unknown */
};

struct nvml_sample {
	struct nvml_gpu gpu[NVML_GPUS_MAX];
	size_t count;
	char why[NVML_WHY_BYTES]; /* why there are none, or not all; "" */
	uint64_t taken_ms;	  /* monotonic; 0: never */
};

struct nvml;

/* sample is borrowed until return. */
typedef void nvml_fn(void *ctx, const struct nvml_sample *sample);

/* 0 or -errno. Asks nothing yet. */
int nvml_create(uv_loop_t *loop, struct nvml **out);
/* Calls fn exactly once, now or later. 0 or -ENOMEM. */
int nvml_ask(struct nvml *n, nvml_fn *fn, void *ctx);
/* Is the GPU in this list of numbers or UUIDs, as CUDA_VISIBLE_DEVICES has it: "0", "0,1", "GPU-8a1b..."? */
bool nvml_pinned(const char *pin, const struct nvml_gpu *gpu);
/* Answers who waits with what there is; a driver that hangs is not waited for. */
void nvml_destroy(struct nvml *n);

#endif
