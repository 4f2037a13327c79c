"""What must hold, from the figures of all rounds. Each check: (name, what was seen, True, False or None where an arm is missing)."""

import statistics

from scenarios import ADAPTIVE, ALONE, COMPACT, DIRECT, NO_LANE

NEAR = 1.03  # of the best arm: the machine's own noise
LEARNED = 1.05  # of the best arm, ten requests after rates that were wrong
BEYOND_P95, BEYOND_TOTAL = 1.5, 4.0
SHOTS = {11000: 2.0, 32000: 3.5}  # times sooner than direct, cold
BESIDE_P95 = 1.05  # of the same session alone
NEVER_WORSE = ("two", "titles", "breaks", "small-", "ollama")
SMOKE_CACHED = 0.75  # of a session asked directly: what its prompts have in the cache


def clean(rounds):
    """An arm that lost nothing: its waits may be compared."""
    return all(r["unanswered"] == 0 and not r["problems"] and not r["cut_short"] for r in rounds)


def ratios(by_arm, arm, key, others):
    """[arm's figure over the least of the others', round by round], the names of the others compared with."""
    fair = [o for o in others if o in by_arm and clean(by_arm[o]) and len(by_arm[o]) >= len(by_arm.get(arm, ()))]
    if arm not in by_arm or not fair:
        return [], fair
    return [r[key] / min(by_arm[o][i][key] for o in fair) for i, r in enumerate(by_arm[arm]) if r[key] is not None], fair


def check_ratio(name, by_arm, key, others, limit):
    found, fair = ratios(by_arm, ADAPTIVE, key, others)
    if not found:
        return name, "no adaptive arm" if ADAPTIVE not in by_arm else "nothing to compare with", None
    value = statistics.median(found)
    return name, f"{value:.2f} x the best of {', '.join(fair)} (at most {limit:g})", value <= limit and clean(by_arm[ADAPTIVE])


def a_scenario(name, by_arm):
    others = [DIRECT] if name.startswith(NEVER_WORSE) else [a for a in by_arm if a != ADAPTIVE]
    limit = LEARNED if name.startswith("rates") else NEAR
    out = [check_ratio(f"{name}: total wait", by_arm, "sum_s", others, limit)]
    if not name.startswith(("rates", "shots")):
        out.append(check_ratio(f"{name}: p95", by_arm, "p95_s", others, limit))
    return out


def ceiling(compact):
    """What no gateway can do better than: every call as those are, on average, that no summary was written for."""
    most = [r["sum_s"] / (statistics.mean(waits) * len(r["calls"])) for r in compact
            if (waits := [c["wait_s"] for c in r["calls"] if not c["summary"]])]
    return f"; {statistics.median(most):.1f} x if all its calls were like those without a summary" if most else ""


def same_beginning(name):
    """The session that fits and begins with as many tokens: what is new takes longer to read behind more of them."""
    return "fits-25k" if name.startswith("long-25k") else "fits-8k"


def beyond(name, by_arm, fits):
    """Sessions longer than their window."""
    if ADAPTIVE not in by_arm:
        return [(f"{name}: beyond the window", "no adaptive arm", None)]
    rounds = by_arm[ADAPTIVE]
    overflows, unanswered = sum(r["overflows"] for r in rounds), sum(r["unanswered"] for r in rounds)
    out = [(f"{name}: no overflow", f"{overflows} errors, {unanswered} calls not answered", overflows + unanswered == 0)]
    p95 = [r["p95_s"] / f["p95_s"] for r, f in zip(rounds, fits) if r["p95_s"] and f["p95_s"]] if fits else []
    value = statistics.median(p95) if p95 else None
    out.append((f"{name}: p95 against a session that fits", f"{value:.2f} x (at most {BEYOND_P95})" if p95 else "nothing to compare with",
                value <= BEYOND_P95 if p95 else None))
    sooner = [c["sum_s"] / r["sum_s"] for c, r in zip(by_arm.get(COMPACT, ()), rounds) if r["sum_s"]]
    value = statistics.median(sooner) if sooner else None
    out.append((f"{name}: total wait against the client's own summaries",
                f"{value:.2f} x less (at least {BEYOND_TOTAL}{ceiling(by_arm[COMPACT])})" if sooner else "nothing to compare with",
                value >= BEYOND_TOTAL and clean(rounds) if sooner else None))
    return out


def waits_by_size(rounds):
    out = {}
    for r in rounds:
        for c in r["calls"]:
            if c["size"]:
                out.setdefault(c["size"], []).append(c["wait_s"])
    return {size: statistics.median(v) for size, v in sorted(out.items())}


def shots(by_arm):
    direct, adaptive = (waits_by_size(by_arm.get(arm, ())) for arm in (DIRECT, ADAPTIVE))
    out = []
    for size, least in SHOTS.items():
        if size in direct:
            value = direct[size] / adaptive[size] if adaptive.get(size) else None
            out.append((f"one cold prompt of {size // 1000}K", f"{value:.2f} x sooner than direct (at least {least})" if value else "no adaptive arm",
                        value >= least if value else None))
    return out


def beside(name, by_arm):
    """Small requests beside a session cost it nothing. What they cost without a lane stands beside it."""
    found, _ = ratios(by_arm, ADAPTIVE, "p95_s", [ALONE])
    if not found:
        return [(f"{name}: p95 of the main lane", "an arm is missing", None)]
    today, _ = ratios(by_arm, NO_LANE, "p95_s", [ALONE])
    value, rounds = statistics.median(found), by_arm[ADAPTIVE]
    went, asked = sum(r["beside_main"] for r in rounds), sum(r["beside"] for r in rounds)
    shown = f"; {statistics.median(today):.2f} x without a lane" if today else ""
    return [(f"{name}: p95 of the main lane", f"{value:.2f} x the same session alone (at most {BESIDE_P95}{shown}); {went} of {asked} small requests "
             "went to the main card", value <= BESIDE_P95 and clean(rounds))]


def verdict(results):
    """All checks of the thresholds. results: {scenario: {arm: [figures of a round]}}"""
    out = []
    for name, by_arm in results.items():
        if name.startswith("long"):
            out += beyond(name, by_arm, results.get(same_beginning(name), {}).get(ADAPTIVE))
        out += beside(name, by_arm) if name.startswith("beside") else a_scenario(name, by_arm)
        if name == "shots":
            out += shots(by_arm)
    return out


def sound(results):
    """Whether the simulation itself works: what must hold whatever tandem does. These fail a smoke run too."""
    out = []
    for name, by_arm in results.items():
        for arm, rounds in by_arm.items():
            wrong = [p for r in rounds for p in r["problems"]]
            out.append((f"{name}, {arm}: answered as scripted", "; ".join(wrong[:2]) or "all", not wrong))
        direct = by_arm.get(DIRECT, ())
        if name.startswith("fits") and direct:
            least = min(r["cached"] for r in direct)
            out.append((f"{name}, direct: the prefix is warm", f"{least:.3f} cached", least >= SMOKE_CACHED))
        if name.startswith("long") and direct:
            out.append((f"{name}, direct: the window overflows", f"{[r['overflows'] for r in direct]} errors", all(r["overflows"] for r in direct)))
        if name.startswith("long") and by_arm.get(COMPACT):
            out.append((f"{name}, compact: summaries are written", f"{[r['summaries'] for r in by_arm[COMPACT]]}",
                        all(r["summaries"] and not r["unanswered"] for r in by_arm[COMPACT])))
    return out


def formula(results, cards):
    """Cold prompts asked directly take what the formula of the latency model says, within 2 %."""
    from profiles import prefill_s
    out = []
    for r in results.get("shots", {}).get(DIRECT, ()):
        for c in r["calls"]:
            want = prefill_s(cards[0], c["prompt"] - c["cached"], c["cached"]) + 1 / cards[0].decode
            out.append((f"direct, {c['size']} tokens: as the model says", f"{c['wait_s']:.2f} s, {want:.2f} s", abs(c["wait_s"] / want - 1) <= 0.02 + 0.15 / want))
    return out
