"""Arithmetic of the benchmark: percentiles of histograms, medians and spreads of rounds, steps in a distribution."""

import statistics


def percentile(histogram, p):
    """Microseconds, from [[lower edge in ns, count], ...]; the buckets are narrower than 0.8 % of their edge."""
    rank, seen = histogram["count"] * p / 100, 0
    for edge, count in histogram["buckets"]:
        seen += count
        if seen >= rank:
            return edge * 1.004 / 1e3
    return 0.0


def merge(histograms):
    buckets = {}
    for h in histograms:
        for edge, count in h["buckets"]:
            buckets[edge] = buckets.get(edge, 0) + count
    return {
        "count": sum(h["count"] for h in histograms),
        "max_ns": max((h["max_ns"] for h in histograms), default=0),
        "buckets": sorted([e, c] for e, c in buckets.items()),
    }


def between(histogram, low_us, high_us):
    return sum(c for e, c in histogram["buckets"] if low_us * 1e3 <= e < high_us * 1e3)


def steps(histogram):
    """The timer steps that show: a tail falls from band to band; where the band that begins at 1 or 10 ms holds clearly
    more than the one before it, and a share worth naming, something waited for a clock. A median beyond a step hides it;
the target on the median sees that. [(at_ms, share)]"""
    found = []
    p50 = percentile(histogram, 50)
    for at_us in (1000, 10000):
        width = at_us * 0.4
        band, before = between(histogram, at_us, at_us + width), between(histogram, at_us - width, at_us)
        if p50 < at_us - width and band > 1.5 * before and band > 0.003 * histogram["count"]:
            found.append((at_us / 1000, band / histogram["count"]))
    return found


def spread(values):
    """{"median", "min", "max"} of the rounds."""
    values = [v for v in values if v is not None]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else None
