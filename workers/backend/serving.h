/*
 * What a started llama.cpp says of how it holds its model: on its command line, and in its output,
 * of which it says more with `-lv 4`. What nothing was said of is unknown. Pure.
 *
 * The lines are those of llama.cpp's model loader, KV cache and scheduler, as b10434 and older ones
 * write them; the options are llama-server's (docs/protocols.md#health-and-facts).
 */
#ifndef TANDEM_WORKERS_SERVING_H
#define TANDEM_WORKERS_SERVING_H

#include "common/base/buf.h"
#include "common/engine_args.h"

#include <stdint.h>

#define SERVING_GPUS_MAX 16
#define SERVING_GPU_BYTES 24

struct serving {
	unsigned on_gpu, layers;      /* "offloaded 29/31 layers to GPU"; layers 0: unknown */
	bool weights;		      /* it said where they are: */
	int64_t gpu_bytes, cpu_bytes; /* so many */
	char gpu[SERVING_GPUS_MAX][SERVING_GPU_BYTES]; /* that hold any: "CUDA0" */
	unsigned gpus;
	struct engine_args args; /* of its command line, and of the lines that say the same */
};

void serving_init(struct serving *s);
/* argv, NULL-terminated; NULL is fine. */
void serving_command(struct serving *s, char *const *command);
/* A line of its output. */
void serving_line(struct serving *s, struct slice line);
/* The share of its layers that it put on GPUs by its own count, 0 to 1; < 0 unknown. Without a GPU it
 * may count them all the same: see serving_percent(). */
double serving_share(const struct serving *s);
/* The same in percent, by where its weights are; -1 unknown. */
int64_t serving_percent(const struct serving *s);
/* GPUs that hold its layers; -1 unknown. */
int64_t serving_gpus(const struct serving *s);

#endif
