#include "common/tokens.h"

#include <math.h>
#include <stdlib.h>

#define LEARN_WEIGHT 0.2
#define NAME_BYTES_MAX 512 /* longer names are no model's */

struct entry {
	struct slice name; /* owned */
	double ratio;
	uint64_t used; /* tick of the last lesson */
};

struct tokens {
	struct entry entries[TOKENS_MODELS_MAX];
	size_t count;
	uint64_t tick;
};

struct tokens *tokens_create(void)
{
	return calloc(1, sizeof(struct tokens));
}

void tokens_destroy(struct tokens *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->count; i++)
		free((char *)t->entries[i].name.p);
	free(t);
}

static const struct entry *find(const struct tokens *t, struct slice model)
{
	for (size_t i = 0; i < t->count; i++)
		if (slice_ieq(t->entries[i].name, model))
			return &t->entries[i];
	return NULL;
}

double tokens_ratio(const struct tokens *t, struct slice model)
{
	const struct entry *e = find(t, model);
	return e ? e->ratio : TOKENS_RATIO_START;
}

uint64_t tokens_estimate(
	const struct tokens *t, struct slice model, uint64_t chars, unsigned images)
{
	double n = ceil((double)chars / tokens_ratio(t, model)) + (double)images * TOKENS_PER_IMAGE;
	return n < 1 ? 1 : (uint64_t)n; /* below 2^64 / TOKENS_RATIO_MIN */
}

/* A fresh entry: a free one, else the one that was taught longest ago. NULL when memory is out. */
static struct entry *add(struct tokens *t, struct slice model)
{
	char *name = slice_dup(model);
	if (!name)
		return NULL;
	struct entry *e = &t->entries[0];
	if (t->count < TOKENS_MODELS_MAX) {
		e = &t->entries[t->count++];
	} else {
		for (size_t i = 1; i < t->count; i++)
			if (t->entries[i].used < e->used)
				e = &t->entries[i];
		free((char *)e->name.p);
	}
	*e = (struct entry){.name = {name, model.n}, .ratio = TOKENS_RATIO_START};
	return e;
}

void tokens_learn(struct tokens *t, struct slice model, uint64_t chars, uint64_t prompt_tokens)
{
	if (prompt_tokens < TOKENS_LEARN_MIN || chars == 0 || model.n == 0 ||
		model.n > NAME_BYTES_MAX)
		return;
	struct entry *e = (struct entry *)find(t, model);
	if (!e)
		e = add(t, model);
	if (!e)
		return; /* the start ratio serves on */
	/* The sample is clamped, not the average: one absurd report moves it by a step, not to the
	 * edge. */
	double sample = (double)chars / (double)prompt_tokens;
	sample = fmin(fmax(sample, TOKENS_RATIO_MIN), TOKENS_RATIO_MAX);
	e->ratio += LEARN_WEIGHT * (sample - e->ratio);
	e->used = ++t->tick;
}
