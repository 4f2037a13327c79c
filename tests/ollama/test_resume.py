"""An answer that outlives its worker, with a real Ollama and its real templates: nothing said twice, nothing lost."""

import json
import os
import signal

import pytest

from conftest import MAIN
from harness import wait_for

ASK = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Explain in detail how rain forms."}]
TOKENS = 60


def stream(t, path, kill_at=None):
    """(text, reason, counted tokens); the worker of gpu0 is killed when so many pieces of text have come."""
    more = {"options": {"temperature": 0, "seed": 1, "num_predict": TOKENS}} if path == "/api/chat" else \
        {"temperature": 0, "seed": 1, "max_tokens": TOKENS, "stream_options": {"include_usage": True}}
    c = t.connect(300)
    c.request("POST", path, json.dumps({"model": MAIN, "stream": True, "messages": ASK, **more}), {"Content-Type": "application/json"})
    r, pieces, reason, counted = c.getresponse(), [], None, None
    assert r.status == 200
    for line in r:
        line = line.strip().removeprefix(b"data: ")
        if not line.startswith(b"{"):
            continue
        o = json.loads(line)
        assert "error" not in o, o
        if "message" in o:
            pieces.append(o["message"].get("content", ""))
            if o["done"]:
                reason, counted = o["done_reason"], o["eval_count"]
        else:
            for choice in o["choices"]:
                pieces.append(choice["delta"].get("content") or "")
                reason = choice["finish_reason"] or reason
            counted = (o.get("usage") or {}).get("completion_tokens", counted)
        if kill_at is not None and len(pieces) == kill_at:
            os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
            kill_at = None
    c.close()
    assert kill_at is None, "it was killed in the middle"
    return "".join(pieces), reason, counted


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_a_worker_killed_in_mid_stream(tandem, path):
    whole, reason, counted = stream(tandem, path)
    assert reason == "length" and counted == TOKENS and len(whole) > 100
    before = tandem.requests()["resumed"]
    text, reason, counted = stream(tandem, path, kill_at=20)
    assert (reason, counted) == ("length", TOKENS)
    assert tandem.requests()["resumed"] == before + 1, tandem.log()[-3000:]
    begun = whole[:60]
    assert text.startswith(begun) and text.count(begun) == 1, text
    # A prompt that is computed anew may be rounded otherwise, so the words behind the seam need not be the same ones.
    assert 0.5 < len(text) / len(whole) < 2, (text, whole)
    wait_for(lambda: tandem.device("gpu0")["state"] == "ready", "the next worker")
