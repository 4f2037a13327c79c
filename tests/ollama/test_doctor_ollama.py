"""What a real Ollama tells of how it holds its model, and what tandemctl doctor makes of it and of its engine's command line."""

import json
import os
import subprocess

import ollama

from conftest import MAIN, NUM_CTX
from harness import BIN, wait_for

FOR_EVER = 2**31 - 1


def test_what_it_tells(tandem):
    def serving():
        return tandem.command("backends")["backends"][0]["serving"]

    ollama.Client(tandem.url).chat(MAIN, [{"role": "user", "content": "Tell me of the sea."}], options={"num_predict": 8})
    s = wait_for(lambda: (s := serving())["models"] == 1 and s, "the next look", 60)
    assert s["keep_s"] == FOR_EVER and 90e6 < s["weight_bytes"] < 110e6
    assert s["model_bytes"] is None or s["model_bytes"] > 0  # not on every machine
    r = subprocess.run([os.path.join(BIN, "tandemctl"), "-R", tandem.run_dir, "doctor", "--json"], capture_output=True, text=True, timeout=60)
    assert r.returncode in (0, 6, 7), r.stderr
    report = json.loads(r.stdout)
    found = {f["id"]: f for f in report["findings"] if f["device"] == "gpu0"}
    assert ("cpu" in found) == (s["gpu_percent"] == 0), (found, s)
    assert not {"keep-alive", "models", "window-other", "window-spills", "slots", "open-backend"} & set(found), found
    assert not {"keep-alive", "slots", "cache-type", "open-backend"} & set(report["unknown"]), report  # the engine's command line told
    assert NUM_CTX == tandem.device("gpu0")["backend"]["window"]
