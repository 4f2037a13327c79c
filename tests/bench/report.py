"""From the figures of the rounds to the result: medians, ratios, targets; the JSON file and the table."""

import os
import platform
import statistics

import figures

MB = 1e6
LATENCIES = {"small_1": "1 connection", "small_1_paused": "1 connection, 2 ms pauses", "small_8": "8 connections",
             "small_64": "64 connections"}
STREAMS = {"flood_64": "64 streams, as fast as they go", "paced_64": "64 streams, 200 tokens/s each"}
BIG = {"big_none": "no other request", "big_image": "20 MB of images", "big_text": "20 MB of text, condensed",
       "big_same-image": "20 MB, same backend, worker"}
NOT_EQUAL = (
    "load generator, backends and the subject share the same CPUs; so does whatever else runs (machine, below)",
    "direct and nginx serve the backends on ports of their own; tandem serves all on one port, by the model's name",
    "tandem reads every request (estimate, route) and starts each answer only when its first byte is there",
    "a chunk is one line of the stream; the three coalesce writes differently (lines a read)",
    "20 MB of text: direct and nginx forward all of it, tandem condenses it (strategy C)",
    "same backend and worker: the scripted backend reads the 20 MB in the thread that serves the stream",
)


def machine(seconds, other_cpus):
    model = ""
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "")
    return {"cpus": os.cpu_count(), "cpu": model, "kernel": platform.release(), "load_average": os.getloadavg()[0],
            "other_cpus": max(other_cpus, 0.0), "seconds": seconds}


def paired(rounds, a, b, key, combine):
    """A figure of two subjects, round by round."""
    return figures.spread([combine(x[key], y[key]) for x, y in zip(rounds[a], rounds[b]) if y[key]])


def summary(by_subject):
    """{subject: {figure: spread}}, and tandem's against the others': ratio, and difference (added_)."""
    out = {}
    for name, rounds in by_subject.items():
        out[name] = {k: figures.spread([r.get(k) for r in rounds]) for k in rounds[0]}
    for other in ("direct", "nginx"):
        keys = [k for k in by_subject["tandem"][0] if by_subject["tandem"][0][k] and by_subject[other][0].get(k)]
        out[f"tandem/{other}"] = {k: paired(by_subject, "tandem", other, k, lambda t, o: t / o) for k in keys}
        out[f"tandem-{other}"] = {k: paired(by_subject, "tandem", other, k, lambda t, o: t - o)
                                  for k in keys if k.endswith("_us")}
    return out


def find_steps(histograms):
    """{measurement: {subject: [(at_ms, share)]}} of those that have any."""
    out = {}
    for measurement, by_subject in histograms.items():
        for name, parts in by_subject.items():
            found = figures.steps(figures.merge(parts))
            if found:
                out.setdefault(measurement, {})[name] = found
    return out


def targets(m, memory, steps, script_gap_us):
    one = m["small_1"]
    ratio, p99, rate = one["tandem/nginx"]["p50_us"], one["tandem"]["p99_us"], m["small_64"]["tandem"]["requests_s"]
    idle = memory["tandem"]["idle"]
    own_steps = [f"{k} at {at:g} ms ({share:.1%})" for k, v in steps.items() for at, share in v.get("tandem", ())]
    delay = max(m[k]["tandem"]["gap_max_us"]["median"] - script_gap_us for k in ("big_image", "big_text")) / 1e3
    quiet = (m["big_none"]["tandem"]["gap_max_us"]["median"] - script_gap_us) / 1e3
    return [
        ("one request at a time: p50 at most 2.5 x nginx's", f"{cell(ratio)} x", ratio["median"] <= 2.5),
        ("one request at a time: p99 under 1 ms", f"{cell(p99, 1e3)} ms", p99["median"] < 1000),
        ("small requests at 64 connections: 20,000/s", f"{cell(rate)}/s", rate["median"] >= 20000),
        ("no step at 1 ms or 10 ms", ", ".join(own_steps) or "none", not own_steps),
        ("supervisor idle under 10 MB", f"{idle['supervisor'] / 1e6:.1f} MB", idle["supervisor"] < 10e6),
        ("worker idle under 10 MB", f"{idle['worker'] / 1e6:.1f} MB", idle["worker"] < 10e6),
        ("20 MB body delays another stream by less than 20 ms", f"{delay:.1f} ms ({quiet:.1f} without it)", delay < 20),
    ]


def result(rounds, histograms, memory, script_gap_us):
    m = {name: summary(by_subject) for name, by_subject in rounds.items()}
    steps = find_steps(histograms)
    return {
        "measurements": m,
        "memory_bytes": memory,
        "steps": steps,
        "targets": [{"target": t, "figure": f, "met": ok} for t, f, ok in targets(m, memory, steps, script_gap_us)],
        "not_equal": NOT_EQUAL,
        "histograms": {k: {s: figures.merge(h) for s, h in v.items()} for k, v in histograms.items()},
    }


def gross(r):
    """What no noise explains."""
    m, wrong = r["measurements"], []

    def check(bad, text):
        if bad:
            wrong.append(text)

    p50 = m["small_1"]["tandem"]["p50_us"]["median"]
    paused = m["small_1_paused"]["tandem"]["p50_us"]["median"]
    check(m["small_1"]["tandem/nginx"]["p50_us"]["median"] > 10 and p50 > 1000, f"one request takes {p50:.0f} us, over 10 x nginx")
    check(paused > 10000, f"one request after a pause takes {paused:.0f} us")
    check(m["small_64"]["tandem/nginx"]["requests_s"]["median"] < 0.03, "under 3 % of nginx's requests/s at 64 connections")
    check(m["flood_64"]["tandem/nginx"]["chunks_s"]["median"] < 0.03, "under 3 % of nginx's chunks/s at 64 streams")
    for part, size in r["memory_bytes"]["tandem"]["idle"].items():
        check(size > 30 * MB, f"{part} has {size / MB:.0f} MB idle")
    for part, size in r["memory_bytes"]["tandem"]["streams"].items():
        check(size > 200 * MB, f"{part} has {size / MB:.0f} MB with 1,000 idle streams")
    for k in ("big_image", "big_text"):
        gap = m[k]["tandem"]["gap_max_us"]["median"] - m["big_none"]["tandem"]["gap_max_us"]["median"]
        # The longest gap of a run is its noisiest figure: what would be wrong is a parse on the loop, seconds for such a body.
        check(gap > 2e6, f"{BIG[k]} holds another stream up for {gap / 1e3:.0f} ms")
    return wrong


# --- the table ---


def number(v):
    return f"{v:,.0f}" if v >= 100 else f"{v:.1f}" if v >= 10 else f"{v:.2f}"


def cell(s, unit=1.0):
    if not s:
        return "-"
    return f"{number(s['median'] / unit)} ({number(s['min'] / unit)}..{number(s['max'] / unit)})"


def row(label, m, key, unit=1.0):
    ratios = [m.get(f"tandem/{o}", {}).get(key) for o in ("direct", "nginx")]
    cells = [cell(m.get(s, {}).get(key), unit) for s in ("direct", "nginx", "tandem")]
    cells += [f"{x['median']:.2f}" if x else "-" for x in ratios]
    print(f"  {label:<28}" + "".join(f"{c:>27}" for c in cells[:3]) + "".join(f"{c:>10}" for c in cells[3:]))


def head(title):
    columns = "".join(f"{c:>27}" for c in ("direct", "nginx", "tandem")) + f"{'x direct':>10}{'x nginx':>10}"
    print(f"\n{title}\n{'':<30}{columns}")


def cpu(m, unit):
    """CPU of the subject's processes: nginx has one part, tandem two and their sum."""
    parts = [m["tandem"][k]["median"] for k in ("supervisor_cpu_us", "worker_cpu_us")]
    nginx = m["nginx"]["nginx_cpu_us"]["median"]
    print(f"  {'CPU us a ' + unit:<28}{'-':>27}{number(nginx):>27}"
          f"{number(sum(parts)) + f' = {number(parts[0])} + {number(parts[1])}':>27}{'-':>10}{sum(parts) / nginx if nginx else 0:>10.2f}")
    print(f"  {'  of backend, generator':<28}" + "".join(
        f"{number(m[s]['backend_cpu_us']['median']) + ', ' + number(m[s]['generator_cpu_us']['median']):>27}"
        for s in ("direct", "nginx", "tandem")))


def show(r, path):
    m, mc = r["measurements"], r["machine"]
    print(f"Benchmark: medians of {r['plan']['rounds']} rounds (least..greatest); CPU of tandem = supervisor + worker")
    for k, title in LATENCIES.items():
        head(f"small requests, {title}")
        row("p50 us", m[k], "p50_us")
        row("p99 us", m[k], "p99_us")
        added = [f"{m[k]['tandem-direct'][p]['median']:.0f}" for p in ("p50_us", "p99_us")]
        print(f"  {'added to direct, p50, p99 us':<28}{'':>54}{', '.join(added):>27}")
        if "paused" not in k:
            row("requests/s", m[k], "requests_s")
        cpu(m[k], "request")
    head("first byte of a stream")
    row("p50 us", m["first_byte_1"], "p50_us")
    row("p99 us", m["first_byte_1"], "p99_us")
    for k, title in STREAMS.items():
        head(title)
        row("chunks/s", m[k], "chunks_s")
        row("chunks a read", m[k], "chunks_a_read")
        row("first byte p50 us", m[k], "first_byte_p50_us")
        row("gap p99 ms", m[k], "gap_p99_us", 1e3)
        row("gap max ms", m[k], "gap_max_us", 1e3)
        cpu(m[k], "chunk")
    head("longest gap of a stream, ms")
    for k, title in BIG.items():
        row(title, m[k], "gap_max_us", 1e3)
    print("  (the script's own gap is 5 ms)")
    print(f"\n{'memory (RSS, MB)':<30}{'idle':>12}{'of it own':>12}{'1,000 streams':>16}{'KB a stream':>14}{'after':>10}")
    for s, states in r["memory_bytes"].items():
        for part in states["idle"]:
            streams = 1000 if part != "worker" else 250
            grown = (states["streams"][part] - states["idle"][part]) / 1024 / streams
            after = states.get("after", {}).get(part)
            print(f"  {part:<28}{states['idle'][part] / MB:>12.1f}"
                  f"{states['idle_private'][part] / MB:>12.1f}{states['streams'][part] / MB:>16.1f}{grown:>14.1f}"
                  f"{f'{after / MB:.1f}' if after else '-':>10}")
    print("  (four devices; the largest worker, which holds 250 of the streams)")
    if r["steps"]:
        print("\nsteps: " + "; ".join(f"{k} {s} {v}" for k, by in r["steps"].items() for s, v in by.items()))
    print("\ntargets")
    for t in r["targets"]:
        print(f"  {'met   ' if t['met'] else 'MISSED'}  {t['target']}: {t['figure']}")
    print("\nnot equal")
    for line in r["not_equal"]:
        print(f"  - {line}")
    print(f"\nmachine: {mc['cpus']} CPUs, {mc['cpu']}, Linux {mc['kernel']}; other programs used "
          f"{mc['other_cpus']:.2f} CPUs during the {mc['seconds']:.0f} s; load average {mc['load_average']:.1f}")
    print(f"all figures: {path}")
