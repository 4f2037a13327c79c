#!/usr/bin/env python3
"""
make eval: what condensing keeps of long conversations, and how much of a prompt stays cached.

Needs no model: transcripts of scripted agents that really worked over this project's history (or
real ones: --data), five ways to keep them within a window, needles and constraints put into them.
Prints tables, writes them to docs/eval.md and docs/eval.json, and says at the end whether the
thresholds hold. --tune NAME=VALUE changes a constant of the server's code for this run.
"""

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import ablation
import arms
import metric
import needles
import report
import sessions as transcripts
import single
from driver import Driver, Failed

ROOT = Path(__file__).resolve().parents[2]
WINDOWS = ((32000, 10000), (16000, 6000))
SMOKE_SESSIONS = 4
NEEDLE_SESSIONS = 6  # they get 80 needles each
PARTS = 4  # that the selection's cuts are divided into, for the two processors

given = {}  # what the jobs share: set before the processes are forked


def make_arm(name, driver):
    return {"drop": arms.Drop, "clear": arms.Clear, "newest": arms.Newest}[name]() if name in ("drop", "clear", "newest") else \
        {"fresh": arms.Fresh, "layout": arms.Layout, "noted": arms.Noted, "early": arms.Early}[name](driver)


def walk_job(driver, name, window, fixed):
    figures = metric.Figures()
    for s in given["sessions"]:
        figures.add(metric.walk(s, make_arm(name, driver), window, fixed))
    figures.missed = []
    return figures


def single_job(driver, part, others):
    figures = single.run(given["sessions"][part::PARTS], driver, others=others)
    for way in figures.values():
        for f in way.values():
            f.missed = []
    return figures


def asker(driver, window, fixed):
    """What is left of a conversation, as one text, in a window."""
    room = int((window - fixed) * metric.PER_TOKEN)

    def ask(session, k, body):
        driver.ask("conversation", body=body)
        out, _ = driver.ask("plain", room, body=body)
        return "\n".join(metric.text_of(m) for m in json.loads(out)["messages"])
    return ask


def long_enough(window, fixed):
    room = (window - fixed) * metric.PER_TOKEN
    return [s for s in given["sessions"] if s.chars(s.calls[-1]) > room * 1.1] or given["sessions"]


def needle_job(driver, window, fixed):
    return needles.run(long_enough(window, fixed)[:NEEDLE_SESSIONS], asker(driver, window, fixed))


def constraint_job(driver, window, fixed):
    return needles.run_constraints(long_enough(window, fixed), asker(driver, window, fixed))


def steady_job(driver, window, fixed, noted):
    """Does what the cache knows change a byte? Every eighth call is laid out anew without it; with
    notes, from what was decided about them alone."""
    room, same, tried = int((window - fixed) * metric.PER_TOKEN), 0, 0
    arm = (arms.Noted if noted else arms.Layout)(driver)
    for s in given["sessions"]:
        arm.begin(s, room)
        for n, k in enumerate(s.calls):
            known, _ = driver.ask(arm.operation, room, body=arm.body(k))
            if n % 8 == 0:
                anew, _ = driver.ask("replay", room, body=arm.body(k))
                tried += 1
                same += known == anew
    return same, tried


def ablation_job(driver, name):
    return ablation.row(driver, given["sessions"], WINDOWS)


JOBS = {"walk": walk_job, "single": single_job, "needles": needle_job, "constraints": constraint_job, "steady": steady_job,
        "ablate": ablation_job}


def work(job):
    what, tune, *args = job
    driver = Driver(given["driver"], tune)
    try:
        return job, JOBS[what](driver, *args)
    finally:
        driver.close()


def jobs_of(options):
    """The long ones first."""
    tune = tuple(options.tune)
    jobs = []
    if not options.smoke:
        jobs += [("walk", tune, "fresh", *w) for w in WINDOWS]
    jobs += [("single", tune, part, not options.smoke) for part in range(PARTS)]
    if not options.smoke:
        jobs += [("needles", tune, *w) for w in WINDOWS]
    jobs += [("walk", tune, name, *w) for name in ("layout", "early", "noted", "clear", "drop", "newest") for w in WINDOWS]
    jobs += [("constraints", tune, *w) for w in WINDOWS]
    jobs += [("steady", tune, *w, noted) for w in WINDOWS[1:] for noted in (False, True)]
    return jobs


def gather(done):
    """The results of all jobs as one document of plain numbers."""
    out = {"windows": {}, "single": {}, "needles": {}, "constraints": {}, "steady": {}}
    selection = {}
    for (what, _, *args), result in done:
        if what == "walk":
            name, window, fixed = args
            out["windows"].setdefault(f"{window}/{fixed}", {})[name] = result.table()
        elif what == "single":
            for way, ratios in result.items():
                for ratio, f in ratios.items():
                    selection.setdefault(way, {}).setdefault(ratio, metric.Figures()).add(f)
        elif what == "steady":
            out[what][f"{args[0]}/{args[1]}" + (" with notes" if args[2] else "")] = {"same": result[0], "tried": result[1]}
        else:
            out[what][f"{args[0]}/{args[1]}"] = result
    for way, ratios in selection.items():
        out["single"][way] = {str(r): f.table() for r, f in ratios.items()}
    return out


def run(options, say):
    given["driver"] = options.driver
    if options.data:
        found = transcripts.read(options.data, say)
    else:
        found = transcripts.make(ROOT, options.build, say, SMOKE_SESSIONS if options.smoke else transcripts.SESSIONS)
    given["sessions"] = [metric.Session(s["name"], s["messages"], not options.data) for s in found]
    given["sessions"] = [s for s in given["sessions"] if s.calls]
    if not given["sessions"]:
        sys.exit("eval: no session has a message of the agent")
    say(f"{len(given['sessions'])} sessions, {sum(len(s.calls) for s in given['sessions'])} calls")
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        if options.ablate:
            rows = pool.map(work, [("ablate", tune, name) for name, tune in ablation.steps()], chunksize=1)
            return {"ablation": {job[2]: result for job, result in rows}}
        done = list(pool.imap_unordered(work, jobs_of(options), chunksize=1))
    return gather(done)


def main():
    p = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    p.add_argument("--driver", default="build/bin/eval-driver")
    p.add_argument("--build", default="build", help="folder of caches")
    p.add_argument("--data", help="folder of real sessions, each a JSON array of messages")
    p.add_argument("--docs", help="folder that gets eval.md and eval.json")
    p.add_argument("--smoke", action="store_true", help="a few sessions, thresholds of its own")
    p.add_argument("--ablate", action="store_true", help="what each repair of the selection gains, on the odd sessions")
    p.add_argument("--tune", action="append", default=[], metavar="NAME=VALUE")
    p.add_argument("--processes", type=int, default=2)
    options = p.parse_args()
    began = time.monotonic()

    def say(text):
        print(f"eval: {text}", flush=True)

    try:
        figures = run(options, say)
    except Failed as e:
        sys.exit(f"eval: the server's code failed: {e}")
    figures["sessions"] = transcripts.facts(given["sessions"])
    print(report.tables(figures))
    if options.ablate:
        report.write_ablation(options.docs, figures)
        return 0
    faults = report.faults(figures, "smoke" if options.smoke else "data" if options.data else "full")
    if options.docs and not options.tune:
        report.write(options.docs, figures)
    for fault in faults:
        print(f"eval: {fault}")
    say(f"{time.monotonic() - began:.0f} s")
    print("eval failed" if faults else "eval passed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
