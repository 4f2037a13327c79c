/*
 * Token estimates: characters / ratio, where the ratio starts at 4 and is learned per model from
 * the prompt counts that backends report. Pure arithmetic over a small table; belongs to one
 * thread.
 *
 * Ratio update: exponential moving average of (chars / reported tokens), weight 0.2, only from
 * prompts of at least TOKENS_LEARN_MIN tokens without images, clamped to [TOKENS_RATIO_MIN,
 * TOKENS_RATIO_MAX].
 */
#ifndef TANDEM_TOKENS_H
#define TANDEM_TOKENS_H

#include "common/buf.h"

#include <stdint.h>

#define TOKENS_RATIO_START 4.0 /* characters a token */
#define TOKENS_RATIO_MIN 1.5
#define TOKENS_RATIO_MAX 6.0
#define TOKENS_LEARN_MIN 256 /* reported tokens */
#define TOKENS_PER_IMAGE 768 /* what Ollama counts */
#define TOKENS_MODELS_MAX 64 /* models remembered; the least recently used is forgotten */

struct tokens;

struct tokens *tokens_create(void); /* NULL when memory is out */
void tokens_destroy(struct tokens *t);

/* Characters a token for this model (name compared without case). */
double tokens_ratio(const struct tokens *t, struct slice model);

/* Estimate for so many characters (code points) and images; at least 1. */
uint64_t tokens_estimate(
	const struct tokens *t, struct slice model, uint64_t chars, unsigned images);

/* A backend reported `prompt_tokens` for a prompt of `chars` characters without images. */
void tokens_learn(struct tokens *t, struct slice model, uint64_t chars, uint64_t prompt_tokens);

#endif
