#include "supervisor/devices/rate.h"

#include "common/base/hash.h"

#include <string.h>

#define WEIGHT 0.3 /* of a new measurement in the moving average */
#define FIRST_MARK 1024u

double rate_learn(double average, const struct rate_sample *s)
{
	if (s->tokens < RATE_MIN_TOKENS || s->ms <= 0)
		return average;
	double rate = s->tokens * 1000.0 / s->ms;
	if (rate > RATE_MAX_TOK_S)
		return average;
	if (average <= 0)
		return rate;
	if (s->upper_bound && rate > average * RATE_TRUST)
		return average;
	/* An average that was itself learned from cached tokens: no weight makes it right soon. */
	if (s->upper_bound && rate * RATE_TRUST < average)
		return rate;
	return average * (1 - WEIGHT) + rate * WEIGHT;
}

/* The hash of each beginning, in one pass. A beginning longer than the body has no mark: 0. */
static void mark(struct slice body, uint64_t marks[RATE_MARKS])
{
	uint64_t h = HASH_FNV_START;
	size_t at = 0;
	for (size_t k = 0; k < RATE_MARKS; k++) {
		size_t end = (size_t)FIRST_MARK << k;
		if (end > body.n) {
			marks[k] = 0;
			continue;
		}
		h = hash_fnv(h, body.p + at, end - at);
		at = end;
		marks[k] = h | 1; /* never 0 */
	}
}

/* An upper bound of the bytes that two bodies have in common at their beginning. */
static size_t shared(const uint64_t a[RATE_MARKS], const uint64_t b[RATE_MARKS])
{
	size_t k = 0;
	while (k < RATE_MARKS && a[k] && a[k] == b[k])
		k++;
	return k == RATE_MARKS ? SIZE_MAX : (size_t)FIRST_MARK << k;
}

bool rate_prompt_fresh(struct rate_prompts *p, struct slice body)
{
	uint64_t marks[RATE_MARKS];
	size_t most = FIRST_MARK;
	mark(body, marks);
	for (unsigned i = 0; i < p->used; i++) {
		size_t n = shared(marks, p->marks[i]);
		most = n > most ? n : most;
	}
	memcpy(p->marks[p->next], marks, sizeof(marks));
	p->next = (p->next + 1) % RATE_KEPT;
	if (p->used < RATE_KEPT)
		p->used++;
	return most < body.n / RATE_SHARED;
}
