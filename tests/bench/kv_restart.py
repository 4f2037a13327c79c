#!/usr/bin/env python3
"""What a restart of the backend costs the next turn of a long conversation, with its KV saved and restored and without.

A real llama-server with the small model behind a real tandem, on this machine's CPU. TANDEM_BIN names the folder of the
programs (default build/bin). Prints one line a run; --json FILE writes the figures.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "process"))

from harness import Tandem  # noqa: E402

WORDS = "gateway worker backend slot token stream queue device prompt answer restart memory window model kernel socket".split()


def engine():
    lines = subprocess.run([os.path.join(ROOT, "etc/setup/engine.sh")], check=True, capture_output=True, text=True).stdout.split("\n")
    model = subprocess.run([os.path.join(ROOT, "etc/setup/model.sh")], check=True, capture_output=True, text=True).stdout.strip()
    return lines[0], lines[1], model


def turn(t, messages):
    """Asks; (seconds to the first token, prompt tokens, of them cached, the answer's text)."""
    body = {"model": "m", "messages": messages, "stream": True, "stream_options": {"include_usage": True}, "temperature": 0, "max_tokens": 16}
    c = t.connect(600)
    begun, first, text, usage, timings = time.monotonic(), None, "", {}, {}
    c.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    assert r.status == 200, r.read()
    for line in r:
        if not line.startswith(b"data: {"):
            continue
        o = json.loads(line[6:])
        assert "error" not in o, o
        piece = o["choices"][0]["delta"].get("content") if o.get("choices") else None
        if piece and first is None:
            first = time.monotonic() - begun
        text += piece or ""
        usage, timings = o.get("usage") or usage, o.get("timings") or timings
    c.close()
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", timings.get("cache_n", -1))
    return first, usage.get("prompt_tokens", -1), cached, text


def measure(folder, server, libraries, model, keep, tokens):
    os.makedirs(folder)
    if libraries:
        os.environ["LD_LIBRARY_PATH"] = libraries
    command = [server, "-m", model, "-c", "8192", "-np", "1", "--alias", "m"]
    device = {"name": "gpu0", "roles": ["main"], "slots": 1, "num_ctx": 8192, "backend": {"type": "llama-server", "command": command}}
    t = Tandem(folder, [device], wait=False, routing={"a_max_tokens": 100000, "b_max_tokens": 100000}, state_dir=os.path.join(folder, "state"),
               deadlines={"kv_ms": 30000 if keep else 0})
    try:
        t.wait_ready(deadline=300)
        # some six tokens each, by the small model's tokenizer
        story = " ".join(f"{WORDS[i * 7 % len(WORDS)]} {i}." for i in range(int(tokens / 6.136)))
        messages = [{"role": "user", "content": story}]
        out = {"kept": keep}
        out["cold_s"], out["prompt_tokens"], _, text = turn(t, messages)
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "And then?"}]
        out["warm_s"], _, out["warm_cached"], text = turn(t, messages)
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "Why?"}]
        begun = time.monotonic()
        o = t.operate("restart gpu0 --backend", 300)
        assert o["state"] == "done", o
        out["restart_s"] = time.monotonic() - begun
        out["after_s"], _, out["after_cached"], _ = turn(t, messages)
        for ev in ("slots_saved", "slots_restored"):
            found = re.search(rf"ev={ev} .*?tokens=(\d+) bytes=(\d+) ms=(\d+)", t.log())
            if found:
                out[ev] = dict(zip(("tokens", "bytes", "ms"), map(int, found.groups())))
        return out
    finally:
        t.stop()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--tokens", type=int, default=7670)
    p.add_argument("--json")
    options = p.parse_args()
    server, libraries, model = engine()
    results = []
    with tempfile.TemporaryDirectory(prefix="tandem-kv-") as folder:
        for keep in (False, True):
            r = measure(os.path.join(folder, "kept" if keep else "lost"), server, libraries, model, keep, options.tokens)
            results.append(r)
            print(f"{'saved and restored' if keep else 'lost':<20} prompt {r['prompt_tokens']} tokens; first token: cold {r['cold_s']:.2f} s, warm "
                  f"{r['warm_s']:.2f} s, after the restart {r['after_s']:.2f} s ({r['after_cached']} tokens cached); restart {r['restart_s']:.2f} s "
                  f"{json.dumps({k: r[k] for k in r if k.startswith('slots')}) if keep else ''}", flush=True)
    if options.json:
        with open(options.json, "w") as f:
            json.dump(results, f, indent=1)
    return 0 if results[1]["after_cached"] > results[1]["prompt_tokens"] * 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
