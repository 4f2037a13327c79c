"""The table of docs/simulate.md (between its marks) and docs/simulate.json."""

import json
import os

import cold
import measure
import verdict
from corpus import ROOT

BEGIN, END = "<!-- simulate: begin -->", "<!-- simulate: end -->"
MD, JSON = os.path.join(ROOT, "docs", "simulate.md"), os.path.join(ROOT, "docs", "simulate.json")


def cell(values, form="{:.1f}"):
    s = measure.spread(values)
    if s is None:
        return "-"
    middle = form.format(s["median"])
    return middle if s["n"] == 1 else f"{middle} ({form.format(s['min'])}-{form.format(s['max'])})"


def rows(specs, results):
    for spec in specs:
        for arm, rounds in results.get(spec.name, {}).items():
            lost = sum(r["unanswered"] for r in rounds)
            calls = sum(r["answered"] for r in rounds)
            yield [spec.name, arm, cell([r["sum_s"] for r in rounds]), cell([r["p95_s"] for r in rounds]),
                   cell([r["cached"] for r in rounds], "{:.2f}"), str(sum(r["overflows"] for r in rounds)),
                   f"{calls} of {calls + lost}" + (", cut short" if rounds[0]["cut_short"] else ""), " ".join(f"{k}:{v}" for k, v in sorted(merge(rounds).items()) if k != "-") or "-",
                   cell([r["own_ms"] for r in rounds])]


def merge(rounds):
    out = {}
    for r in rounds:
        for k, v in r["routes"].items():
            out[k] = out.get(k, 0) + v
    return out


def markdown(header, lines):
    out = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return out + ["| " + " | ".join(line) + " |" for line in lines]


def sizes(results):
    arms = {arm: verdict.waits_by_size(rounds) for arm, rounds in results.get("shots", {}).items()}
    all_sizes = sorted({s for by in arms.values() for s in by})
    if not all_sizes:
        return []
    return ["Seconds to the first word of single cold prompts:", ""] + markdown(["cold prompt", *arms], [[f"{s:,}", *(f"{by[s]:.1f}" if s in by else "-" for by in arms.values())] for s in all_sizes])


def read_again(results):
    """Sessions: what was new in the prompts after the first, and what was read again beyond it, by its reason."""
    lines = []
    for name, by_arm in results.items():
        for arm, rounds in by_arm.items():
            why, new = cold.sums(rounds)
            if why and arm != "threshold":
                cells = [f"{why[r][1]:,.0f} in {why[r][0]}" if r in why else "-" for r in cold.REASONS]
                lines.append([name, arm, f"{new:,}", f"{sum(n for _, n in why.values()):,.0f}", *cells])
    if not lines:
        return []
    return ["", "Tokens that the main card read in sessions, all rounds: what was new in the calls, and what was read again, by reason and number of "
            "calls:", ""] + markdown(["scenario", "arm", "new", "again", *cold.REASONS], lines)


def text(specs, results, checks, about):
    header = ["scenario", "arm", "sum of waits, s", "p95, s", "cached", "overflow errors", "calls answered", "routes", "own work p95, ms"]
    out = [f"{about['rounds']} round(s), times {about['speed']:g} times faster; {about['seconds']:.0f} s on {about['cpus']} CPUs; "
           f"median (least-most of the rounds). Arms that this tandemd knows: {', '.join(about['modes']) or 'threshold (no key for the mode)'}.", ""]
    out += markdown(["scenario", "what"], [[s.name, s.what] for s in specs]) + [""]
    out += markdown(header, list(rows(specs, results))) + [""] + sizes(results) + read_again(results)
    out += ["", "Thresholds:", ""] + markdown(["what", "seen", ""], [[n, w, mark(ok)] for n, w, ok in checks])
    return "\n".join(out)


def mark(ok):
    return {True: "ok", False: "**missed**", None: "not known"}[ok]


def write_docs(body, data):
    with open(MD, encoding="utf-8") as f:
        page = f.read()
    head, rest = page.split(BEGIN, 1)
    with open(MD, "w", encoding="utf-8") as f:
        f.write(f"{head}{BEGIN}\n{body}\n{END}{rest.split(END, 1)[1]}")
    with open(JSON, "w", encoding="utf-8") as f:
        json.dump(data, f, indent=1)
        f.write("\n")


def slim(results):
    """Without the single calls of sessions; those of single prompts stay."""
    return {name: {arm: [{k: v for k, v in r.items() if k != "calls" or name == "shots"} for r in rounds] for arm, rounds in by.items()}
            for name, by in results.items()}
