"""From the clocks of the client and the backends to seconds of the simulated machine.

A wait has two parts. While a backend has a request, the cards work: scaled time, which counts `speed` times. What is left is the gateway's
own and the client's work, which this machine does at its own pace and which is not scaled, as far as their threads ran or waited for a CPU
(schedstat); the rest was no work but waiting for a timer, and counts as scaled. How much later than its formulas a backend said its first
token (this machine was busy) is known from its log and taken off."""

import statistics

HANDOVER_MS = 1  # of a wait, that nobody's clock of work sees: from one thread's end to the next one's start


def covered(spans, begin, end):
    """Milliseconds of [begin, end] in which at least one of the spans lay."""
    total, at = 0.0, begin
    for a, b in sorted(spans):
        a, b = max(a, at), min(b, end)
        if b > a:
            total += b - a
            at = b
    return total


def answering(main, answer):
    """The main backend's request that this answer came from: the last that began to answer within the wait."""
    found = [r for r in main if answer.sent_ms <= r["clock_ms"] <= answer.first_ms and r["clock_ms"] + r.get("first_ms", 1e18) <= answer.first_ms + 5]
    return found[-1] if found else None


def wait_s(answer, requests, speed, to_end=False):
    """(seconds from the request to the first word, or to the end; milliseconds in which no card had a request)"""
    begin, end = answer.sent_ms, answer.end_ms if to_end else answer.first_ms
    if not end:
        return None, None
    asked = [r for of in requests.values() for r in of]
    # The card has answered when its first token is said; on its way to the client it is the gateway's.
    said = None if to_end else answering(requests["main"], answer)
    busy = covered([(r["clock_ms"], r["clock_ms"] + r["first_ms" if r is said else "ms"]) for r in asked], begin, end)
    late = min(busy, sum(r["late_ms"] for r in asked if "late_ms" in r and begin <= r["clock_ms"] and r["clock_ms"] + r["first_ms"] <= end))
    own = end - begin - busy
    work = min(own, answer.work_ms + HANDOVER_MS)
    return ((busy - late + own - work) * speed + work + late) / 1000, own


def p95(values):
    values = sorted(values)
    return values[min(len(values) - 1, int(0.95 * len(values)))] if values else None


def spread(values):
    values = [v for v in values if v is not None]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}
