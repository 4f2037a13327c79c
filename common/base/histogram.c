#include "common/base/histogram.h"

#include <inttypes.h>

uint64_t histogram_bound(unsigned i)
{
	/* 1, 2, 3, 4, 6, 8, 12: from 2 on a power of two, then one and a half of it. */
	return i == 0 ? 1 : (i % 2 ? UINT64_C(2) << (i / 2) : UINT64_C(3) << (i / 2 - 1));
}

void histogram_add(struct histogram *h, uint64_t ms)
{
	unsigned i = 0;
	while (i < HISTOGRAM_BUCKETS - 1 && ms > histogram_bound(i))
		i++;
	h->count[i]++;
	h->total++;
	h->sum_ms += ms;
	if (ms > h->max_ms)
		h->max_ms = ms;
}

double histogram_quantile(const struct histogram *h, double share)
{
	double wanted = share * (double)h->total, below = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		double here = (double)h->count[i];
		if (here == 0 || below + here < wanted) {
			below += here;
			continue;
		}
		double low = i ? (double)histogram_bound(i - 1) : 0, high = (double)h->max_ms;
		if (i < HISTOGRAM_BUCKETS - 1 && (double)histogram_bound(i) < high)
			high = (double)histogram_bound(i);
		return low + (high - low) * (wanted - below) / here;
	}
	return 0;
}

void histogram_json(const struct histogram *h, struct buf *out)
{
	histogram_json_of(h, "ms", out);
}

void histogram_json_of(const struct histogram *h, const char *unit, struct buf *out)
{
	uint64_t below = 0;
	buf_printf(out, "{\"count\":%" PRIu64 ",\"sum_%s\":%" PRIu64 ",\"max_%s\":%" PRIu64,
		h->total, unit, h->sum_ms, unit, h->max_ms);
	buf_printf(out, ",\"p50_%s\":%.1f,\"p90_%s\":%.1f,\"p99_%s\":%.1f,\"buckets\":[", unit,
		histogram_quantile(h, 0.5), unit, histogram_quantile(h, 0.9), unit,
		histogram_quantile(h, 0.99));
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1 && below < h->total; i++) {
		below += h->count[i];
		buf_printf(out, "{\"le_%s\":%" PRIu64 ",\"count\":%" PRIu64 "},", unit,
			histogram_bound(i), below);
	}
	buf_printf(out, "{\"le_%s\":null,\"count\":%" PRIu64 "}]}", unit, h->total);
}
