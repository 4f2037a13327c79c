#!/usr/bin/env python3
"""The simulator: agent sessions, chats and single prompts on pairs of cards, in scaled time, asked directly and through tandem, side by side.

Real tandemd and workers, scripted backends (tests/fake) with the rates of measured cards. Ends with "simulate passed" or "simulate failed";
the thresholds are those of verdict.py. TANDEM_BIN names the folder of the programs (default build/bin)."""

import argparse
import concurrent.futures
import json
import os
import signal
import sys
import tempfile
import time
import traceback

import profiles
import report
import scenarios
import verdict
from world import routing_modes

SPEED = 40
ROUNDS = 3
JOBS = 4  # plays at once: most of their time is sleep


def one(job):
    name, arm, seed, speed, modes, smoke = job
    spec = next(s for s in (scenarios.SMOKE if smoke else scenarios.SCENARIOS) if s.name == name)
    with tempfile.TemporaryDirectory(prefix="tandem-simulate-") as folder:
        try:
            return job, scenarios.play(spec, arm, seed, speed, modes, folder), None
        except Exception:  # a play that breaks is reported with the others' figures
            return job, None, traceback.format_exc()


def end_in_order():
    """A play that is told to end stops its processes first."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))


def run(specs, args, modes):
    """{scenario: {arm: [figures of a round]}}, [what broke]"""
    known = {"direct", "compact", "threshold", *modes, *(a for a in (scenarios.NO_LANE, scenarios.ALONE) if "adaptive" in modes)}
    jobs = [(s.name, arm, round_ + 1, args.speed, modes, args.smoke) for round_ in range(args.rounds) for s in specs
            for arm in s.arms if arm in known and (not args.arm or arm in args.arm) and (arm != scenarios.THRESHOLD or not round_)]
    jobs.sort(key=lambda j: j[2] * 1000 - jobs_cost(specs, j))  # of a round the longest first: no stragglers at its end
    results, broken = {s.name: {a: [] for a in s.arms if a in known} for s in specs}, []
    with concurrent.futures.ProcessPoolExecutor(args.jobs, initializer=end_in_order) as pool:
        for done in concurrent.futures.as_completed([pool.submit(one, job) for job in jobs]):
            job, figures, error = done.result()
            if error:
                broken.append((f"{job[0]}, {job[1]}", error.strip().splitlines()[-1], False))
                print(error, file=sys.stderr)
            else:
                results[job[0]][job[1]].append((job[2], figures))
                print(f"  round {job[2]}: {job[0]}, {job[1]}: {figures['sum_s']:.1f} s, p95 {figures['p95_s'] or 0:.1f} s", file=sys.stderr)
    # Rounds of two arms are compared one by one: in their order.
    return {n: {a: [f for _, f in sorted(r, key=lambda x: x[0])] for a, r in by.items() if r} for n, by in results.items()}, broken


def jobs_cost(specs, job):
    spec = next(s for s in specs if s.name == job[0])
    return spec.calls + 20 * len(spec.sizes) + (200 if job[1] == scenarios.THRESHOLD else 0)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--smoke", action="store_true", help="few and short scenarios; the thresholds are shown, they do not fail the run")
    ap.add_argument("--rounds", type=int)
    ap.add_argument("--speed", type=float, default=SPEED)
    ap.add_argument("--jobs", type=int, default=JOBS)
    ap.add_argument("--only", action="append", help="a scenario, by its name or the name's beginning")
    ap.add_argument("--arm", action="append")
    ap.add_argument("--json", help="where all figures go")
    ap.add_argument("--docs", action="store_true", help="write docs/simulate.md and docs/simulate.json")
    args = ap.parse_args()
    args.rounds = args.rounds or (1 if args.smoke else ROUNDS)
    specs = [s for s in (scenarios.SMOKE if args.smoke else scenarios.SCENARIOS) if not args.only or s.name.startswith(tuple(args.only))]
    modes, start = routing_modes(), time.monotonic()
    results, broken = run(specs, args, modes)
    about = {"rounds": args.rounds, "speed": args.speed, "seconds": time.monotonic() - start, "cpus": os.cpu_count(), "modes": modes}
    sound = broken + verdict.sound(results) + verdict.formula(results, profiles.PAIRS["rtx2060s+gtx1050"])
    checks = verdict.verdict(results)
    data = {"about": about, "results": report.slim(results), "checks": checks}
    body = report.text(specs, results, checks, about)
    print(body)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({**data, "results": results}, f, indent=1)
    if args.docs:
        report.write_docs(body, data)
    bad = [c for c in sound if not c[2]]
    if not args.smoke:
        bad += [c for c in checks if c[2] is False]
        unknown = sum(c[2] is None for c in checks)
        if unknown:
            bad.append(("thresholds", f"{unknown} of {len(checks)} are not known, for an arm is missing", False))
    print()
    for name, what, _ in bad:
        print(f"simulate: {name}: {what}")
    print("simulate failed" if bad else "simulate passed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
