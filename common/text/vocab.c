#include "common/text/vocab.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_WORDS 1024 /* a power of two */

void vocab_fini(struct vocab *v)
{
	free(v->word);
	free(v->slot);
	*v = (struct vocab){0};
}

static uint32_t *find(const struct vocab *v, uint64_t hash)
{
	uint32_t i = (uint32_t)hash & v->mask;
	while (v->slot[i] && v->word[v->slot[i] - 1].hash != hash)
		i = (i + 1) & v->mask;
	return &v->slot[i];
}

static int grow(struct vocab *v)
{
	uint32_t cap = v->cap ? v->cap * 2 : FIRST_WORDS;
	struct vocab_word *word = realloc(v->word, cap * sizeof(*word));
	if (!word)
		return -ENOMEM;
	v->word = word;
	uint32_t *slot = calloc((size_t)cap * 2, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	free(v->slot);
	v->slot = slot;
	v->cap = cap;
	v->mask = cap * 2 - 1;
	for (uint32_t i = 0; i < v->n; i++)
		*find(v, word[i].hash) = i + 1;
	return 0;
}

uint32_t vocab_add(struct vocab *v, const char *p, size_t n, int *error)
{
	if (!v->cap && grow(v)) {
		*error = -ENOMEM;
		return VOCAB_NONE;
	}
	uint64_t hash = hash_bytes(p, n);
	uint32_t *slot = find(v, hash);
	if (*slot)
		return *slot - 1;
	if (v->n == VOCAB_MAX)
		return VOCAB_NONE;
	if (v->n == v->cap) {
		if (grow(v)) {
			*error = -ENOMEM;
			return VOCAB_NONE;
		}
		slot = find(v, hash);
	}
	v->word[v->n] = (struct vocab_word){.hash = hash, .p = p, .n = (uint32_t)n};
	*slot = ++v->n;
	return v->n - 1;
}

uint32_t vocab_find(const struct vocab *v, const char *p, size_t n)
{
	if (!v->cap)
		return VOCAB_NONE;
	uint32_t slot = *find(v, hash_bytes(p, n));
	return slot ? slot - 1 : VOCAB_NONE;
}
