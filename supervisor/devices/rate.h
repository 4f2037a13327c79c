/*
 * How fast a device reads and writes: moving averages of what its backend reports. Pure.
 *
 * Ollama counts cached tokens as read and times only the others, so tokens over time is then an
 * upper bound of the speed: it is believed where it lowers the average, and where nothing can have
 * been cached (the model was loaded for this very request, or the request begins like none of the
 * last ones: rate_prompt_fresh()). What no hardware does is never believed.
 */
#ifndef TANDEM_RATE_H
#define TANDEM_RATE_H

#include "common/base/buf.h"

#include <stdint.h>

/* Before the first measurement. */
#define RATE_PREFILL_TOK_S 800.0
#define RATE_DECODE_TOK_S 40.0
#define RATE_MIN_TOKENS 64	/* shorter runs say nothing about speed */
#define RATE_MAX_TOK_S 200000.0 /* a small model's prefill on the fastest card is a tenth of it */
#define RATE_LOAD_MS 500.0	/* a load that long had no cache to use */
#define RATE_TRUST 2.0		/* an upper bound so many times the average says nothing */

struct rate_sample {
	double tokens, ms;
	bool upper_bound; /* some of the tokens may have taken no time */
};

/* The average after this sample; 0: none yet. */
double rate_learn(double average, const struct rate_sample *s);

/* --- beginnings of the last prompts --- */

#define RATE_MARKS 9 /* hashes of a body's first 1, 2, 4 ... 256 KB */
/* bodies remembered: a backend's slots and its cache of prompts hold fewer */
#define RATE_KEPT 64
#define RATE_SHARED 4u /* a fresh prompt shares less than one part in so many */

struct rate_prompts {
	uint64_t marks[RATE_KEPT][RATE_MARKS];
	unsigned next, used;
};

/* Remembers the body, and says whether most of it begins none of those before it: a prefix cache
 * cannot have had it. Reads at most its first 256 KB. */
bool rate_prompt_fresh(struct rate_prompts *p, struct slice body);

#endif
