"""The tables of make eval, as text and as docs/eval.md, and the thresholds that they are held to."""

import json
from pathlib import Path

NAMES = {"drop": "drop the older half (Cline)", "clear": "clear old tool results (context editing)", "newest": "newest groups first",
         "fresh": "one fresh selection each call", "layout": "**the frozen layout**",
         "noted": "the frozen layout with notes that a script extracts",
         "early": "**the same, frozen early**"}
BEGIN, END = "<!-- begin: made by make eval -->", "<!-- end: made by make eval -->"

# What must hold: of the goals, and lower ones for the few sessions of the smoke run.
GOALS = {
    "full": {"32000/10000": (.92, .96), "16000/6000": (.82, .92), "ahead": .03,
             "single": {"0.35": (.926, .911), "0.25": (.870, .848), "0.2": (.824, .796), "0.1": (.644, .601)}},
    "smoke": {"32000/10000": (.84, .94), "16000/6000": (.74, .89), "ahead": -.02,
              "single": {"0.35": (.86, .84), "0.25": (.76, .72), "0.2": (.70, .66), "0.1": (.53, .50)}},
    "data": {},
}
CONSTRAINTS = .95
NEEDLES_OF_PEOPLE = ("never", "nunca")
REUSE_OF_OTHERS = .9
NOTES_LOSS = .005  # of recall or reuse: more would be a price


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows])


def share(x):
    return "-" if x is None else f"{x:.3f}"


def of(pair):
    return share(pair[0] / pair[1]) if pair[1] else "-"


def window_tables(figures):
    for window, ways in figures.get("windows", {}).items():
        total, fixed = (int(x) // 1000 for x in window.split("/"))
        any_way = next(iter(ways.values()))
        rows = [(NAMES[n], share(w["recall"]), share(w["recall_line"]), share(w["reuse"]), w["cold"], w["mean_tokens"],
                 w["over_budget"], w["invented"]) for n, w in ways.items()]
        order = list(NAMES.values())
        rows.sort(key=lambda r: order.index(r[0]))
        yield (f"Window {total}K, of it {fixed}K system prompt and tools ({any_way['calls']} calls, {any_way['past']} past the window, "
               f"{any_way['needed']} names needed)"), table(
            ("way", "recall", "with a whole line", "reused from call to call", "calls that start cold", "mean size, tokens",
             "over budget", "invented"), rows)


def single_table(figures):
    ways = figures.get("single")
    if not ways:
        return
    ratios = list(next(iter(ways.values())))
    rows = [("**" + way + "**" if way == "selection" else way,
             *(f"{share(w[r]['recall'])} ({share(w[r]['recall_line'])})" for r in ratios)) for way, w in ways.items()]
    cuts = next(iter(next(iter(ways.values())).values()))["past"]
    yield f"One selection of the old part, recall and in brackets with a whole line ({cuts} cuts)", table(
        ("way", *(f"{float(r):.0%}" for r in ratios)), rows)


def needle_tables(figures):
    found = figures.get("needles")
    if found:
        kinds = next(iter(found.values()))
        yield "Needles at ten depths that the layout still has", table(
            ("needle", *found), [(kind, *(of(w[kind]) for w in found.values())) for kind in kinds])
    found = figures.get("constraints")
    if found:
        languages = next(iter(found.values()))
        places = next(iter(languages.values()))
        yield "Constraints that survive, by language and by where a person said them", table(
            ("language", *(f"{p}, {w}" for w in found for p in places)),
            [(lang, *(of(w[lang][p]) for w in found.values() for p in places)) for lang in languages])


def ablation_table(figures):
    rows = []
    for name, row in figures.get("ablation", {}).items():
        rows.append((name, *(f"{share(row['single'][r]['recall'])} ({share(row['single'][r]['recall_line'])})" for r in ("0.25", "0.1")),
                     *(f"{share(w['recall'])}, {share(w['reuse'])}" for w in row["windows"].values())))
    if rows:
        yield "What each repair gains, one after the other, on the odd sessions", table(
            ("repair", "selection 25 %", "selection 10 %", "layout 32K: recall, reuse", "layout 16K: recall, reuse"), rows)


def all_tables(figures):
    for make in (window_tables, single_table, needle_tables, ablation_table):
        yield from make(figures)


def facts_line(f):
    roles = ", ".join(f"{k} {v:.0%}" for k, v in f["roles"].items())
    return (f"{f['count']} sessions, {f['calls']} calls; in the median {f['calls_median']} calls, {f['tokens_median']} tokens without the "
            f"fixed part (at most {f['tokens_largest']}), +{f['growth_median']} a call (p90 {f['growth_p90']}). Characters: {roles}.")


def tables(figures):
    parts = [facts_line(figures["sessions"])]
    for title, text in all_tables(figures):
        parts += ["", title, "", text]
    for window, s in figures.get("steady", {}).items():
        parts += ["", f"Laid out anew without a cache, {window}: {s['same']} of {s['tried']} the same bytes"]
    return "\n".join(parts)


def window_faults(figures, goals):
    for window, ways in figures["windows"].items():
        layout = ways["layout"]
        if layout["over_budget"]:
            yield f"{window}: {layout['over_budget']} prompts of the layout are above the budget"
        noted = ways.get("noted")
        if noted and noted["over_budget"]:
            yield f"{window}: {noted['over_budget']} prompts with notes are above the budget"
        if noted and noted["recall"] is not None:
            for what in ("recall", "reuse"):
                if noted[what] < layout[what] - NOTES_LOSS:
                    yield f"{window}: {what} with notes {noted[what]:.3f} is below {layout[what]:.3f} without"
        for name in ("layout", "noted", "fresh"):
            if name in ways and ways[name]["invented"]:
                yield f"{window}: {ways[name]['invented']} invented identifiers ({name})"
        if window not in goals or layout["recall"] is None:
            continue
        recall, reuse = goals[window]
        if layout["recall"] < recall:
            yield f"{window}: recall {layout['recall']:.3f} is below {recall}"
        if layout["reuse"] < reuse:
            yield f"{window}: reuse {layout['reuse']:.3f} is below {reuse}"
        others = [w["recall"] for n, w in ways.items() if n not in ("layout", "noted", "early") and w["reuse"] >= REUSE_OF_OTHERS]
        if others and layout["recall"] < max(others) + goals["ahead"]:
            yield f"{window}: recall {layout['recall']:.3f} is not {goals['ahead']} above the best other way that stays cached, {max(others):.3f}"


def faults(figures, kind):
    goals = GOALS[kind]
    found = list(window_faults(figures, goals))
    for ratio, (names, whole) in goals.get("single", {}).items():
        f = figures["single"]["selection"][ratio]
        if round(f["recall"], 3) < names or round(f["recall_line"], 3) < whole:  # as exact as the goals are
            found.append(f"selection at {ratio}: {f['recall']:.3f} ({f['recall_line']:.3f}) is below {names} ({whole})")
    for ratio, f in figures["single"]["selection"].items():
        if f["over_budget"] or f["invented"]:
            found.append(f"selection at {ratio}: {f['over_budget']} over budget, {f['invented']} invented identifiers")
    for window, languages in figures["constraints"].items():
        for lang, placed in languages.items():
            kept, tried = (sum(p[i] for p in placed.values()) for i in (0, 1))
            if kept < CONSTRAINTS * tried:
                found.append(f"{window}: {kept} of {tried} constraints survive in {lang}")
    for window, kinds in figures["needles"].items():
        for kind in NEEDLES_OF_PEOPLE:
            if kinds[kind][0] < CONSTRAINTS * kinds[kind][1]:
                found.append(f"{window}: {kinds[kind][0]} of {kinds[kind][1]} needles survive: {kind}")
    for window, s in figures["steady"].items():
        if s["same"] < s["tried"]:
            found.append(f"{window}: {s['tried'] - s['same']} layouts differ without a cache")
    return found


def put(docs, figures):
    """Writes the part between the markers, and the numbers."""
    md, numbers = Path(docs) / "eval.md", Path(docs) / "eval.json"
    text = md.read_text() if md.exists() else f"# What condensing keeps\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    body = [facts_line(figures["sessions"])]
    for title, t in all_tables(figures):
        body += ["", f"### {title}", "", t]
    md.write_text(f"{before}{BEGIN}\n\n" + "\n".join(body) + f"\n\n{END}{after}")
    numbers.write_text(json.dumps(figures, indent=1) + "\n")


def kept(docs):
    numbers = Path(docs) / "eval.json"
    try:
        return json.loads(numbers.read_text())
    except (OSError, ValueError):
        return {}


def write(docs, figures):
    old = kept(docs)
    if "ablation" in old:
        figures = dict(figures, ablation=old["ablation"])
    put(docs, figures)


def write_ablation(docs, figures):
    if docs:
        put(docs, dict(kept(docs), ablation=figures["ablation"], sessions=figures["sessions"]))
