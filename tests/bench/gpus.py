#!/usr/bin/env python3
"""Two real cards: the client asking the main card's backend directly, and tandem in front of both, in its two modes.

The backends run already (--main URL, --small URL, llama-server each, the same model loaded for every arm); tandem attaches to them. Three
scenarios, each in several rounds, arms in turn within a round:

  cold      single prompts of growing size that nobody has asked before
  session   turns of one agent session that fits the window: the prefix is warm for whoever keeps it
  long      (with --long URL, the main card's backend with a small window) a session that outgrows the window; the direct arm forgets the
            older half when it is refused, as simple clients do

Times are seconds from the request to the first token. `new` are the prompt's tokens that the backend had to read, as it says itself
(timings of llama-server). For the adaptive mode the prediction that it wrote into its header stands beside what came. What is not equal: the
direct arm has no notes, no queue, and nobody else's requests; both tandems run all the time, but only one is asked.
"""

import argparse
import http.client
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests", part) for part in ("process", "simulate")]

from harness import Tandem  # noqa: E402
from shapes import corpus, one_shot, session  # noqa: E402

SIZES = (2000, 4000, 8000, 12000, 17000, 24000, 32000, 40000)
TOKENS_PER_CORPUS_TOKEN = 1.45  # of the models' vocabulary here; sizes are only aimed at, what is printed was counted
FIXED = {"max_tokens": 64, "ignore_eos": True, "temperature": 0.7, "seed": 7}  # random weights have no end of an answer
PREDICTED = re.compile(r"(?:layout|cut|original) (\d+\.\d+) s")


class Asked:
    """One request, streamed. Throws nothing: `error` says what went wrong."""

    def __init__(self, url, model, messages, **more):
        self.first = self.total = None
        self.text, self.error, self.usage, self.timings = "", "", {}, {}
        body = json.dumps({"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}, **FIXED, **more})
        u = urllib.parse.urlparse(url)
        c = http.client.HTTPConnection(u.hostname, u.port, timeout=300)
        c.connect()
        begun = time.monotonic()
        try:
            c.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            r = c.getresponse()
            self.status, self.route, self.reason = r.status, r.getheader("X-Tandem-Strategy") or "-", r.getheader("X-Tandem-Reason") or ""
            if r.status != 200:
                self.error = r.read().decode(errors="replace")[:300]
                return
            for line in r:
                if line.startswith(b"data: {"):
                    self.take(json.loads(line[6:]), time.monotonic() - begun)
        except (OSError, http.client.HTTPException) as e:
            self.error = f"{type(e).__name__}: {e}"
        finally:
            self.total = time.monotonic() - begun
            c.close()

    def take(self, o, now):
        if "error" in o:
            self.error = json.dumps(o["error"])[:300]
        delta = o["choices"][0].get("delta", {}) if o.get("choices") else {}
        piece = (delta.get("content") or "") + (delta.get("reasoning_content") or "")
        if piece and self.first is None:
            self.first = now
        self.text += delta.get("content") or ""
        self.usage, self.timings = o.get("usage") or self.usage, o.get("timings") or self.timings

    def told(self):
        m = PREDICTED.search(self.reason)
        return {"first_s": self.first, "total_s": self.total, "route": self.route, "reason": self.reason, "error": self.error,
                "tokens": self.usage.get("prompt_tokens"), "new": self.timings.get("prompt_n"), "cached": self.timings.get("cache_n"),
                "predicted_s": float(m.group(1)) if m else None}


def devices(main, small, window, small_window, small_slots):
    return [{"name": "gpu0", "roles": ["main"], "slots": 1, "num_ctx": window, "model": "big", "backend": {"type": "llama-server", "url": main}},
            {"name": "gpu1", "roles": ["condense"], "slots": small_slots, "num_ctx": small_window, "model": "small",
             "backend": {"type": "llama-server", "url": small}}]


def start(folder, name, options, main, window):
    place = os.path.join(folder, name)
    os.makedirs(place)
    mode = "threshold" if name.startswith("threshold") else "adaptive"
    t = Tandem(place, devices(main, options.small, window, options.small_window, options.small_slots), wait=False, routing={"mode": mode},
               state_dir=os.path.join(place, "state"), log={"level": "info"})
    t.wait_ready(deadline=120)
    return t


def in_turn(arms, turn):
    """[(number, arm)], another one first in each round: whoever comes after a long prompt waits while the server saves that one."""
    listed = list(enumerate(arms))
    return listed[turn % len(listed):] + listed[:turn % len(listed)]


def cold(arms, rounds, say):
    for turn in range(rounds):
        for size in SIZES:
            for i, arm in in_turn(arms, turn):
                _, text = one_shot(9000 + 100 * turn + i, int(size / TOKENS_PER_CORPUS_TOKEN))
                a = Asked(arms[arm], "big", [{"role": "user", "content": text}])
                say("cold", {"round": turn, "size": size, "arm": arm, **a.told()})
                wait_idle(arms)


def wait_idle(arms):
    for t in arms.tandems.values():
        t.wait_idle(60)



def sessions(arms, rounds, turns, first, growth, say):
    """One that fits: every prompt is the one before, the answer, and a result more."""
    for turn in range(rounds):
        for i, arm in in_turn(arms, turn):
            s = session(700 + 10 * turn + i, 8000, turns)
            path = corpus.paths[(31 * turn + 7 * i) % len(corpus.paths)]
            messages = [{"role": "system", "content": f"You are a coding agent. {s.marker}\n" + corpus.excerpt(path, 0, first / TOKENS_PER_CORPUS_TOKEN)},
                        {"role": "user", "content": "Find out what is wrong with the callers of these functions, and mend it."}]
            for k in range(turns):
                a = Asked(arms[arm], "big", messages)
                say("session", {"round": turn, "turn": k, "arm": arm, **a.told()})
                if a.error:
                    break
                rng = random.Random(f"{turn} {i} {k}")
                more = corpus.excerpt(rng.choice(corpus.paths), rng.randrange(40), growth / TOKENS_PER_CORPUS_TOKEN)
                messages += [{"role": "assistant", "content": a.text}, {"role": "user", "content": f"[result {k}] of read_file:\n{more}"}]
                wait_idle(arms)


def long_sessions(arms, rounds, turns, gap, say):
    """One that outgrows its window. The client that asks directly drops the older half of its messages when it is refused."""
    for turn in range(rounds):
        for i, arm in in_turn(arms, turn):
            s = session(800 + 10 * turn + i, 8000, turns)
            messages = [{"role": "system", "content": f"You are a coding agent. {s.marker}\n" + corpus.excerpt(corpus.paths[5 * turn + i], 0, 2500)},
                        {"role": "user", "content": s.task[:2000]}]
            for k in range(turns):
                a = Asked(arms[arm], "big", messages)
                row, wasted = {"round": turn, "turn": k, "arm": arm, "refused": 0, **a.told()}, 0
                while a.error and arm == "direct" and row["refused"] < 4:
                    wasted += a.total
                    old = (len(messages) - 2) // 2
                    messages = messages[:2] + messages[2 + old + (old % 2):]
                    a = Asked(arms[arm], "big", messages)
                    row = {**row, **a.told(), "refused": row["refused"] + 1, "first_s": (a.first or 0) + wasted}
                say("long", row)
                if a.error:
                    break
                step = s.steps[k]
                messages += [{"role": "assistant", "content": step.text + "\n" + a.text[:200]},
                             {"role": "user", "content": f"[result {k}] of {step.tool}:\n{step.result}"}]
                time.sleep(gap)  # the agent's tool runs
        wait_idle(arms)


class Arms(dict):
    """{name: base URL}; the tandems behind them."""

    tandems = {}


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else float("nan")


def p95(values):
    values = sorted(v for v in values if v is not None)
    return values[min(len(values) - 1, int(0.95 * len(values)))] if values else float("nan")


def report(result):
    out = []
    arms = result["arms"]
    if result["cold"]:
        out += ["Single cold prompts, seconds to the first token (median of the rounds):", "",
                "| tokens | " + " | ".join(arms) + " | route of adaptive | predicted / came |", "|---|" + "---|" * (len(arms) + 2)]
        for size in SIZES:
            rows = [r for r in result["cold"] if r["size"] == size]
            mine = [r for r in rows if r["arm"] == "adaptive"]
            ratio = [r["predicted_s"] / r["first_s"] for r in mine if r["predicted_s"] and r["first_s"]]
            out.append(f"| {median([r['tokens'] for r in rows if r['arm'] == 'direct']):,.0f} | " +
                       " | ".join(f"{median([r['first_s'] for r in rows if r['arm'] == a]):.2f}" for a in arms) +
                       f" | {' '.join(r['route'] for r in mine)} | {' '.join(f'{x:.2f}' for x in ratio) or '-'} |")
    for name in ("session", "long"):
        if not result[name]:
            continue
        out += ["", f"{name}: seconds to the first token, sum over a session and p95, of each round", "",
                "| arm | sum | p95 | tokens read anew | refused or failed | routes | predicted / came (median, p95 of the error) |", "|---|---|---|---|---|---|---|"]
        for arm in sorted({r["arm"] for r in result[name]}, key=arms.index):
            rows = [r for r in result[name] if r["arm"] == arm]
            rounds = sorted({r["round"] for r in rows})
            of = [[r for r in rows if r["round"] == k] for k in rounds]
            routes = {k: sum(r["route"] == k for r in rows) for k in "ABC-"}
            ratio = [r["predicted_s"] / r["first_s"] for r in rows if r["predicted_s"] and r["first_s"]]
            error = [abs(r["predicted_s"] - r["first_s"]) for r in rows if r["predicted_s"] and r["first_s"]]
            out.append(f"| {arm} | {' / '.join('%.2f' % sum(r['first_s'] or 0 for r in x) for x in of)} | {' / '.join('%.2f' % p95([r['first_s'] for r in x]) for x in of)}"
                       f" | {' / '.join('%d' % sum(r['new'] or 0 for r in x) for x in of)} | {sum(r.get('refused', 0) for r in rows)} / {sum(bool(r['error']) for r in rows)}"
                       f" | {' '.join(f'{k}:{n}' for k, n in routes.items() if n)} | {f'{median(ratio):.2f}, {p95(error):.2f} s' if ratio else '-'} |")
    return "\n".join(out)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--main", required=True, help="URL of the main card's llama-server, which calls its model `big`")
    p.add_argument("--small", required=True, help="URL of the small card's, which calls its model `small`")
    p.add_argument("--long", help="URL of the main card's with a small window")
    p.add_argument("--window", type=int, default=65536)
    p.add_argument("--long-window", type=int, default=16384)
    p.add_argument("--small-window", type=int, default=8192)
    p.add_argument("--small-slots", type=int, default=4)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--turns", type=int, default=20)
    p.add_argument("--long-turns", type=int, default=60)
    p.add_argument("--gap", type=float, default=0.5, help="seconds between the turns of the long session")
    p.add_argument("--only", choices=("cold", "session", "long"))
    p.add_argument("--json")
    p.add_argument("-v", action="store_true")
    options = p.parse_args()
    result = {"cold": [], "session": [], "long": [], "arms": ["direct", "threshold", "adaptive"]}

    def say(what, row):
        if options.v:
            print(what, {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        result[what].append(row)
        if options.json:
            with open(options.json, "w") as f:
                json.dump(result, f)

    with tempfile.TemporaryDirectory(prefix="tandem-gpus-") as folder:
        running = {}
        try:
            for name in ("threshold", "adaptive"):
                running[name] = start(folder, name, options, options.main, options.window)
            arms = Arms(direct=options.main, **{k: t.url for k, t in running.items()})
            arms.tandems = dict(running)
            if options.only in (None, "cold"):
                Asked(options.main, "big", [{"role": "user", "content": one_shot(1, 20000)[1]}])  # shaders are compiled at first use
                cold(arms, options.rounds, say)
            if options.only in (None, "session"):
                sessions(arms, options.rounds, options.turns, 4000, 1300, say)
            if options.long and options.only in (None, "long"):
                running["adaptive-long"] = start(folder, "adaptive-long", options, options.long, options.long_window)
                far = Arms(direct=options.long, adaptive=running["adaptive-long"].url)
                far.tandems = {"adaptive": running["adaptive-long"]}
                Asked(options.long, "big", [{"role": "user", "content": one_shot(2, 6000)[1]}])
                long_sessions(far, options.rounds, options.long_turns, options.gap, say)
        finally:
            for t in running.values():
                t.stop()
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
