#include "tests/bench/histogram.h"

/* Values below 128 have a bucket each; above, the octave and its seven leading bits choose. */
static unsigned bucket_of(uint64_t ns)
{
	unsigned octave;

	if (ns < HISTOGRAM_STEPS)
		return (unsigned)ns;
	octave = 63 - 7 - (unsigned)__builtin_clzll(ns); /* 0 for 128..255 */
	return (octave + 1) * HISTOGRAM_STEPS + (unsigned)(ns >> octave) - HISTOGRAM_STEPS;
}

static uint64_t lower_edge(unsigned bucket)
{
	if (bucket < HISTOGRAM_STEPS)
		return bucket;
	return (uint64_t)(bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS)
	       << (bucket / HISTOGRAM_STEPS - 1);
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	if (ns > HISTOGRAM_MAX_NS)
		ns = HISTOGRAM_MAX_NS;
	h->count[bucket_of(ns)]++;
	h->total++;
	if (ns > h->max)
		h->max = ns;
}

void histogram_print(const struct histogram *h, FILE *to)
{
	const char *comma = "";

	fprintf(to, "{\"count\":%llu,\"max_ns\":%llu,\"buckets\":[", (unsigned long long)h->total,
		(unsigned long long)h->max);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (h->count[i] == 0)
			continue;
		fprintf(to, "%s[%llu,%llu]", comma, (unsigned long long)lower_edge(i),
			(unsigned long long)h->count[i]);
		comma = ",";
	}
	fprintf(to, "]}");
}
