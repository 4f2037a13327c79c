/*
 * A histogram of durations in nanoseconds with a fixed size: buckets of 1/128 of their octave, so
 * a percentile read from it is off by less than 0.8 %. Values above HISTOGRAM_MAX_NS count as that.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_STEPS 128 /* buckets of one octave */
#define HISTOGRAM_OCTAVES 31
#define HISTOGRAM_BUCKETS ((HISTOGRAM_OCTAVES + 1) * HISTOGRAM_STEPS)
#define HISTOGRAM_MAX_NS ((1ull << (HISTOGRAM_OCTAVES + 7)) - 1) /* 274 s */

struct histogram {
	uint64_t total, max;
	uint64_t count[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);

/* Writes {"count":N,"max_ns":N,"buckets":[[lower edge in ns,count],...]}, empty buckets
 * left out. */
void histogram_print(const struct histogram *h, FILE *to);

#endif
