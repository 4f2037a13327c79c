/*
 * A page or a scrape whose answer tells of the GPUs: their driver is asked first, where its last word is old. Loop thread
 * only; nothing blocks.
 */
#ifndef TANDEM_ASK_GPUS_H
#define TANDEM_ASK_GPUS_H

#include "supervisor/devices/nvml.h"
#include "supervisor/tell/tell.h"

typedef void gpus_answer(struct tell *t, struct request *r, const struct nvml_sample *gpus);

/* Calls answer exactly once, at once or within NVML_WAIT_MS: without the GPUs rather than not at all. */
void ask_gpus(struct tell *t, struct request *r, gpus_answer *answer);

#endif
