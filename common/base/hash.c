#include "common/base/hash.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_SLOTS 64 /* a power of two */

void hashset_fini(struct hashset *s)
{
	free(s->slot);
	*s = (struct hashset){0};
}

/* The slot that holds h or is free for it. Zero marks a free slot. */
static uint64_t *find(const struct hashset *s, uint64_t h)
{
	size_t i = h & s->mask;
	while (s->slot[i] && s->slot[i] != h)
		i = (i + 1) & s->mask;
	return &s->slot[i];
}

static int grow(struct hashset *s)
{
	size_t slots = s->slot ? (s->mask + 1) * 2 : FIRST_SLOTS;
	struct hashset wide = {.slot = calloc(slots, sizeof(*wide.slot)), .mask = slots - 1};
	if (!wide.slot)
		return -ENOMEM;
	for (size_t i = 0; s->slot && i <= s->mask; i++)
		if (s->slot[i])
			*find(&wide, s->slot[i]) = s->slot[i];
	wide.n = s->n;
	free(s->slot);
	*s = wide;
	return 0;
}

int hashset_add(struct hashset *s, uint64_t h)
{
	h += h == 0;
	if (!s->slot || s->n * 2 > s->mask) {
		int rc = grow(s);
		if (rc)
			return rc;
	}
	uint64_t *slot = find(s, h);
	if (*slot)
		return 0;
	*slot = h;
	s->n++;
	return 1;
}
