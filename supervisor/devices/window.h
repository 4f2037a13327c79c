/*
 * How large a model's window should be: a pure function of what was asked for, what is loaded and
 * what the GPU has left. The governor (governor.h) gathers the facts and carries the step out.
 *
 * A window grows by doubling, so a session sees few of the reloads that each step costs. KV cache
 * of a token = layers x KV heads x (key + value length) x 2 bytes: f16, as Ollama has it unless
 * told otherwise. Models that keep less (sliding windows, latent attention, a quantised cache) are
 * overestimated, which errs on the safe side.
 */
#ifndef TANDEM_WINDOW_H
#define TANDEM_WINDOW_H

#include "common/base/buf.h"

#include <stdint.h>

#define WINDOW_LEAST 4096	       /* tokens: where doubling begins when nothing is known */
#define WINDOW_SPARE_BYTES (512 << 20) /* of the GPU's memory, left to others and to buffers */
#define WINDOW_KV_MARGIN 1.15	       /* compute buffers grow with the window as well */
#define WINDOW_REASON_BYTES 128

struct window_facts {
	int64_t current; /* tokens a slot; 0: unknown */
	int64_t needed;	 /* prompt and answer of a request that did not fit; 0: none */
	int64_t wished;	 /* the largest window that a client named; 0: none did */
	int64_t trained; /* the model's own limit; 0 unknown */
	int64_t most;	 /* configured limit; 0: none */
	int64_t refused; /* a window that could not be loaded; 0: none */
	double kv_bytes; /* of one token; 0 unknown */
	int slots;
	double free_bytes; /* of the GPU's memory; < 0 unknown */
};

struct window_step {
	int64_t to; /* current: it stays */
	char reason[WINDOW_REASON_BYTES];
};

/*
 * Without figures of the GPU or the model only what a person said is followed: a client's own
 * num_ctx, or the configured limit.
 */
void window_decide(const struct window_facts *f, struct window_step *out);

/* Reads kv_bytes and trained from an answer of Ollama's /api/show; 0 where it does not say. */
void window_read_model(struct slice show, double *kv_bytes, int64_t *trained);

#endif
