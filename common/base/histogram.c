#include "common/base/histogram.h"

#include <inttypes.h>

unsigned histogram_bounds(const struct histogram *h)
{
	return h->scale ? h->scale->count : HISTOGRAM_BUCKETS - 1;
}

uint64_t histogram_bound(const struct histogram *h, unsigned i)
{
	if (h->scale)
		return h->scale->bound[i];
	/* 1, 2, 3, 4, 6, 8, 12: from 2 on a power of two, then one and a half of it. */
	return i == 0 ? 1 : (i % 2 ? UINT64_C(2) << (i / 2) : UINT64_C(3) << (i / 2 - 1));
}

void histogram_add(struct histogram *h, uint64_t value)
{
	unsigned i = 0, bounds = histogram_bounds(h);
	while (i < bounds && value > histogram_bound(h, i))
		i++;
	h->count[i]++;
	h->total++;
	h->sum += value;
	if (value > h->max)
		h->max = value;
}

double histogram_quantile(const struct histogram *h, double share)
{
	double wanted = share * (double)h->total, below = 0;
	unsigned bounds = histogram_bounds(h);
	for (unsigned i = 0; i <= bounds; i++) {
		double here = (double)h->count[i];
		if (here == 0 || below + here < wanted) {
			below += here;
			continue;
		}
		double low = i ? (double)histogram_bound(h, i - 1) : 0, high = (double)h->max;
		if (i < bounds && (double)histogram_bound(h, i) < high)
			high = (double)histogram_bound(h, i);
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
		h->total, unit, h->sum, unit, h->max);
	buf_printf(out, ",\"p50_%s\":%.1f,\"p90_%s\":%.1f,\"p99_%s\":%.1f,\"buckets\":[", unit,
		histogram_quantile(h, 0.5), unit, histogram_quantile(h, 0.9), unit,
		histogram_quantile(h, 0.99));
	for (unsigned i = 0; i < histogram_bounds(h) && below < h->total; i++) {
		below += h->count[i];
		buf_printf(out, "{\"le_%s\":%" PRIu64 ",\"count\":%" PRIu64 "},", unit,
			histogram_bound(h, i), below);
	}
	buf_printf(out, "{\"le_%s\":null,\"count\":%" PRIu64 "}]}", unit, h->total);
}
