#!/usr/bin/env python3
"""tandem's benchmark: direct, nginx as a proxy, tandem, side by side on scripted backends, in interleaved rounds.

TANDEM_BIN names the folder of the programs (default build/bin).
Prints a table, the targets as met or missed and what was not equal; writes everything to a JSON file. Missed targets
do not fail a run (a busy machine misses them); errors do, and with --smoke what is grossly wrong does.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time

import figures
import report
import subjects

HOLD_STREAMS = 1000
HOLD_DEVICES = 4  # a device has at most 256 slots
BIG_BYTES = 20 << 20
PACED_RATE = 200  # tokens/s of a stream that measures gaps: 5 ms
QUIET_S = 1.0  # how long the same stream is watched with nothing beside it
SCRIPT_GAP_US = 1e6 / PACED_RATE

FULL = {"rounds": 5, "warm_ms": 500, "one_ms": 1200, "paused_ms": 800, "eight_ms": 500, "many_ms": 1500,
        "flood_ms": 1500, "paced_tokens": 300, "big_requests": 4}
SMOKE = {"rounds": 1, "warm_ms": 200, "one_ms": 500, "paused_ms": 400, "eight_ms": 300, "many_ms": 800,
         "flood_ms": 600, "paced_tokens": 150, "big_requests": 2}


# --- bodies ---


def chat(model, content, stream, **message):
    return {"model": model, "messages": [{"role": "user", "content": content, **message}], "stream": stream}


def long_history():
    """BIG_BYTES of transcript: turns of 20 KB."""
    line = "The parser of module {} returns an error when the file {}.c is missing, see line {}.\n"
    messages, size, i = [], 0, 0
    while size < BIG_BYTES:
        text = "".join(line.format(i, i * 7 + k, k) for k in range(240))
        messages.append({"role": ("user", "assistant")[i % 2], "content": text})
        size += len(text)
        i += 1
    return messages + [{"role": "user", "content": "Which module fails? [[fake tokens=4]]"}]


def write_bodies(folder, plan):
    hint = "Say it in about a thousand bytes, for the benchmark: this is a small request. "
    bodies = {
        "small": chat("small", hint, False, note="x" * 20),
        "flood": chat("flood", "[[fake tokens=2000]]", True),
        "paced": chat("paced", f"[[fake tokens={plan['paced_tokens']}]]", True),
        "gaps": chat("paced", "[[fake tokens=12000]]", True),
        "image": chat("small", "What is this?", False, images=["QUJD" * (BIG_BYTES // 4)]),
        "same-image": chat("paced", "[[fake tokens=1]]", False, images=["QUJD" * (BIG_BYTES // 4)]),
        "text": {"model": "small", "messages": long_history(), "stream": False},
    }
    for i in range(HOLD_DEVICES):
        bodies[f"hold{i}"] = chat(f"hold{i}", "Wait.", True)
    paths = {}
    for name, body in bodies.items():
        paths[name] = os.path.join(folder, name + ".json")
        with open(paths[name], "w") as f:
            json.dump(body, f)
    return paths


# --- measurements: each takes a subject and returns the figures of one round ---


class Bench:
    def __init__(self, plan, subjects, backends, bodies):
        self.plan, self.subjects, self.backends, self.bodies = plan, subjects, backends, bodies
        self.rounds = {}  # measurement -> subject -> [figures of a round]
        self.histograms = {}  # the same -> [histogram]

    def run(self, subject, kind, *options, body=None):
        """One load on the backend of that kind; its figures and what the processes spent meanwhile."""
        backend = self.backends[kind]
        before, backend_before = subject.cpu(), subjects.cpu_s(backend.pid)
        r = subjects.load(subject.ports[kind], self.bodies[body or kind], *options)
        spent = {part: s - before[part] for part, s in subject.cpu().items()}
        return r, spent, subjects.cpu_s(backend.pid) - backend_before

    def keep(self, measurement, subject, values, histogram=None):
        self.rounds.setdefault(measurement, {}).setdefault(subject.name, []).append(values)
        if histogram:
            self.histograms.setdefault(measurement, {}).setdefault(subject.name, []).append(histogram)

    def small(self, subject, measurement, *options):
        r, spent, backend = self.run(subject, "small", "--skip", 1, *options)
        n = max(r["done"], 1)
        values = {"p50_us": figures.percentile(r["latency"], 50), "p99_us": figures.percentile(r["latency"], 99),
                  "requests_s": r["done"] / r["seconds"], "backend_cpu_us": backend * 1e6 / n,
                  "generator_cpu_us": r["cpu_s"] * 1e6 / n}
        for part, s in spent.items():
            values[part + "_cpu_us"] = s * 1e6 / n
        self.keep(measurement, subject, values, r["latency"])

    def stream(self, subject, measurement, kind, *options):
        """64 streams; a chunk is one NDJSON line, however many of them a write carries."""
        r, spent, backend = self.run(subject, kind, "--connections", 64, *options)
        n = max(r["lines"], 1)
        values = {"chunks_s": r["lines"] / r["seconds"], "chunks_a_read": n / max(r["reads"], 1),
                  "first_byte_p50_us": figures.percentile(r["first_byte"], 50),
                  "first_byte_p99_us": figures.percentile(r["first_byte"], 99),
                  "gap_p99_us": figures.percentile(r["gap"], 99), "gap_max_us": r["gap"]["max_ns"] / 1e3,
                  "backend_cpu_us": backend * 1e6 / n, "generator_cpu_us": r["cpu_s"] * 1e6 / n}
        for part, s in spent.items():
            values[part + "_cpu_us"] = s * 1e6 / n
        self.keep(measurement, subject, values, r["first_byte"])

    def first_byte(self, subject):
        """One stream at a time of one token: the time to its first byte."""
        r, _, _ = self.run(subject, "small", "--ms", self.plan["eight_ms"], "--skip", 1, body="first")
        self.keep("first_byte_1", subject, {"p50_us": figures.percentile(r["first_byte"], 50),
                                            "p99_us": figures.percentile(r["first_byte"], 99)}, r["first_byte"])

    def big(self, subject, body):
        """The longest gap of a paced stream while big bodies pass (body None: while none does)."""
        watch = subjects.Load(subject.ports["paced"], self.bodies["gaps"], "--announce", hold=True)
        watch.wait_streaming()
        took = None
        if not body:
            time.sleep(QUIET_S)
        else:
            kind = "paced" if body.startswith("same") else "small"
            r = subjects.load(subject.ports[kind], self.bodies[body], "--requests", 1 if body == "text" else self.plan["big_requests"])
            took = figures.percentile(r["latency"], 50)
        gap = watch.result()["gap"]
        self.keep(f"big_{body or 'none'}", subject, {"gap_max_us": gap["max_ns"] / 1e3,
                                                     "gap_p99_us": figures.percentile(gap, 99), "body_us": took})

    def round(self):
        plan = self.plan
        for s in self.subjects:
            self.small(s, "small_1", "--ms", plan["one_ms"])
        for s in self.subjects:
            self.small(s, "small_1_paused", "--ms", plan["paused_ms"], "--pause-us", 2000)
        for s in self.subjects:
            self.small(s, "small_8", "--ms", plan["eight_ms"], "--connections", 8)
        for s in self.subjects:
            self.small(s, "small_64", "--ms", plan["many_ms"], "--connections", 64)
        for s in self.subjects:
            self.first_byte(s)
        for s in self.subjects:
            self.stream(s, "flood_64", "flood", "--ms", plan["flood_ms"])
        for s in self.subjects:
            self.stream(s, "paced_64", "paced", "--requests", 64)
        for body in (None, "image", "text", "same-image"):
            for s in self.subjects:
                self.big(s, body)


def idle_streams(stack, folder, bodies):
    """RSS of fresh processes: idle, with HOLD_STREAMS streams that say nothing, and after them."""
    backend = subjects.Backend(folder, "hold", *[x for i in range(HOLD_DEVICES) for x in ("--model", f"hold{i}")],
                               "--slots", str(HOLD_STREAMS * 3))
    stack.callback(backend.stop)
    backend.call("/fake/control", {"hang_after": 1, "times": -1})
    names = [f"hold{i}" for i in range(HOLD_DEVICES)]
    nginx_folder, tandem_folder = os.path.join(folder, "hold-nginx"), os.path.join(folder, "hold-tandem")
    os.makedirs(nginx_folder)
    nginx, nginx_subject = subjects.start_nginx(nginx_folder, {n: backend for n in names})
    stack.callback(nginx.stop)
    tandem, tandem_subject = subjects.start_tandem(
        tandem_folder, {n: (backend, HOLD_STREAMS // HOLD_DEVICES, ["main"]) for n in names})
    stack.callback(tandem.stop)
    out = {}
    for s in (nginx_subject, tandem_subject):
        idle, private = s.rss(), s.private()
        loads = [subjects.Load(s.ports[n], bodies[n], "--connections", HOLD_STREAMS // HOLD_DEVICES, "--announce", hold=True)
                 for n in names]
        for held in loads:
            held.wait_streaming()
        full = s.rss()
        for held in loads:
            held.result(tolerant=True)
        out[s.name] = {"idle": idle, "idle_private": private, "streams": full}
    # A client that leaves cancels its job: what stays behind afterwards is memory the allocator keeps, or a leak.
    subjects.wait_for(lambda: tandem.status()["requests"]["active"] == 0, "end of the cancelled streams")
    out["tandem"]["after"] = tandem_subject.rss()
    return out


def busy_s():
    """CPU seconds the whole machine has spent on something, and has had stolen."""
    with open("/proc/stat") as f:
        v = [int(x) for x in f.readline().split()[1:]]
    return (sum(v[:8]) - v[3] - v[4]) / subjects.TICKS


def measure(plan, folder, stack):
    bodies = write_bodies(folder, plan)
    bodies["first"] = os.path.join(folder, "first.json")
    with open(bodies["first"], "w") as f:
        json.dump(chat("small", "[[fake tokens=1]]", True), f)
    memory = idle_streams(stack, folder, bodies)
    backends = {
        "small": subjects.Backend(folder, "small", "--model", "small", "--model", "condense", "--slots", "128"),
        "flood": subjects.Backend(folder, "flood", "--model", "flood", "--slots", "64", "--decode", "20000"),
        "paced": subjects.Backend(folder, "paced", "--model", "paced", "--slots", "80", "--decode", str(PACED_RATE)),
    }
    for b in backends.values():
        stack.callback(b.stop)
    backends["small"].call("/fake/control", {"match": "small request", "times": -1, "tokens": 1, "hugeline": 740})
    nginx, nginx_subject = subjects.start_nginx(folder, backends)
    stack.callback(nginx.stop)
    devices = {name: (b, 80, ["main"]) for name, b in backends.items()}
    devices["condense"] = (backends["small"], 4, ["condense"])
    tandem, tandem_subject = subjects.start_tandem(os.path.join(folder, "tandem"), devices)
    stack.callback(tandem.stop)
    direct = subjects.Subject("direct", {n: b.port for n, b in backends.items()}, {})
    bench = Bench(plan, [direct, nginx_subject, tandem_subject], backends, bodies)
    for s in bench.subjects:
        bench.run(s, "small", "--ms", plan["warm_ms"], "--connections", 64)
    for i in range(plan["rounds"]):
        print(f"  round {i + 1} of {plan['rounds']}", file=sys.stderr)
        bench.round()
    return bench, memory


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--json", default="build/bench.json")
    ap.add_argument("--rounds", type=int)
    ap.add_argument("--smoke", action="store_true")
    args = ap.parse_args()
    plan = dict(SMOKE if args.smoke else FULL)
    if args.rounds:
        plan["rounds"] = args.rounds
    start, busy, own = time.monotonic(), busy_s(), os.times()
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        with contextlib.ExitStack() as stack:
            bench, memory = measure(plan, folder, stack)
    seconds, now = time.monotonic() - start, os.times()
    ours = sum(now[:4]) - sum(own[:4])
    result = report.result(bench.rounds, bench.histograms, memory, SCRIPT_GAP_US)
    result["machine"] = report.machine(seconds, (busy_s() - busy - ours) / seconds)
    result["plan"] = plan
    with open(args.json, "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    report.show(result, args.json)
    if args.smoke:
        wrong = report.gross(result)
        for line in wrong:
            print(f"bench-smoke: {line}", file=sys.stderr)
        return 1 if wrong else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
