"""tandemctl bench of a real llama-server: what it tells is what such a server does."""

import json
import os
import subprocess

from harness import BIN


def test_bench_of_a_real_engine(start):
    t = start(4096, routing={"mode": "adaptive"})
    t.wait_ready(deadline=120)
    r = subprocess.run([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "bench", "--json", "--seconds", "90", "--reload"],
                       capture_output=True, text=True, timeout=400)
    assert r.returncode == 0, r
    said = json.loads(r.stdout)
    first = said["depths"][0]
    assert 350 < first["tokens"] < 700 and first["read_tok_s"] > 0 and first["write_tok_s"] > 0
    # The second turn found the first one cached, and so did what came after the restart: by the server's own count, for times are this machine's.
    shares = [int(e["cached_tokens"]) / int(e["prompt_tokens"]) for e in t.events(ev="job_end") if e.get("kind") == "chat" and int(e["prompt_tokens"]) > 200]
    assert min(shares) < .1 and sum(s > .8 for s in shares) >= 2, shares
    assert {r["prompt"] for r in said["routes"]} == {"question", "session"} and said["learned"]["read_tok_s"] > 0
    reload = said["reload"]
    assert reload["measured"] and reload["conversations"] == 1 and reload["save_ms"] is not None and reload["restore_ms"] is not None
    assert reload["first_ms_after"] > 0
