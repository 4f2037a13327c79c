"""What a real llama-server tells of how it holds its model, and what tandemctl doctor makes of it."""

import json
import os
import subprocess

from harness import BIN, wait_for


def findings(t):
    r = subprocess.run([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "doctor", "--json"], capture_output=True, text=True, timeout=60)
    assert r.returncode in (0, 6, 7), r.stderr
    return {f["id"]: f for f in json.loads(r.stdout)["findings"]}


def serving(t):
    return t.command("backends")["backends"][0]["serving"]


def ask(t):
    assert t.chat("Tell me of the sea.", model=t.device("cpu0")["backend"]["model"], options={"num_predict": 64})[0] == 200


def test_a_server_that_is_set_up_badly(start):
    t = start(2048, more=("-lv", "4", "-fa", "off", "-ctk", "q8_0"))
    ask(t)
    wait_for(lambda: serving(t)["gpu_percent"] is not None, "what it printed")
    s = serving(t)
    assert s["flash_attention"] is False and s["speculation"] is False and s["cache_type"] == "q8_0"
    assert s["own_window"] == 8192 and 90e6 < s["weight_bytes"] < 110e6
    if s["gpus"] == 0:  # the build counts its layers as offloaded even here
        assert s["gpu_percent"] == 0
    found = findings(t)
    assert found["flash-attention"]["severity"] == "warning"
    assert found["speculation"]["measured"]["decode_tok_s"] > 0
    assert s["gpus"] != 0 or "cpu" in found


def test_a_server_that_guesses_ahead(start):
    t = start(2048, more=("--spec-type", "ngram-simple"))
    ask(t)
    assert serving(t)["speculation"] is True  # though its /props says "none"
    assert not {"speculation", "flash-attention", "cache-type", "split"} & set(findings(t))
