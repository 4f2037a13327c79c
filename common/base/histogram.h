/*
 * How often something took how long: buckets with fixed bounds, and one for all that took longer.
 * The bounds are two to an octave (1, 2, 3, 4, 6, 8, 12, ... 2^20; of milliseconds about 17 minutes),
 * or those of a scale. The unit is its owner's: milliseconds where nothing else is said.
 *
 * Printed cumulatively as Prometheus has it, so that two snapshots can be subtracted. Pure; no
 * memory is allocated.
 */
#ifndef TANDEM_HISTOGRAM_H
#define TANDEM_HISTOGRAM_H

#include "common/base/buf.h"

#include <stdint.h>

#define HISTOGRAM_OCTAVES 20
#define HISTOGRAM_BUCKETS (2 * HISTOGRAM_OCTAVES + 1) /* the last one has no bound */

/* Other bounds: ascending, inclusive, fewer than HISTOGRAM_BUCKETS. */
struct histogram_scale {
	const uint64_t *bound;
	unsigned count;
};

struct histogram {
	const struct histogram_scale *scale; /* borrowed; NULL: octaves */
	uint64_t count
		[HISTOGRAM_BUCKETS]; /* not cumulative; the one after the last bound is for the rest */
	uint64_t total, sum, max;
};

/* How many of its buckets have a bound, and the upper bound (inclusive) of bucket i of these. */
unsigned histogram_bounds(const struct histogram *h);
uint64_t histogram_bound(const struct histogram *h, unsigned i);
void histogram_add(struct histogram *h, uint64_t value);
/* The time that a share of 0..1 of all did not exceed, estimated within its bucket; 0
 * when empty. */
double histogram_quantile(const struct histogram *h, double share);
/* Appends {"count":N,"sum_ms":N,"max_ms":N,"p50_ms":F,"p90_ms":F,"p99_ms":F,
 * "buckets":[{"le_ms":N|null,"count":N},...]}; the bounds after the highest value are left out. */
void histogram_json(const struct histogram *h, struct buf *out);
/* The same of values that are no times: "percent" in place of "ms" in the names. */
void histogram_json_of(const struct histogram *h, const char *unit, struct buf *out);

#endif
