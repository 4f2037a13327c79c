"""explain: what would be done with a request, without a tandemd and from one, and that it is what is done."""

import json
import os
import subprocess

import pytest

from harness import BIN, in_thread, wait_for
from test_routes import prose
from wire import CHAT, GENERATE, OPENAI, question

CONF = """
run_dir = "%s";
devices = (
  { name = "gpu0"; roles = [ "main" ]; slots = 4; model = "m:1b"; num_ctx = %d; backend = { type = "%s"; url = "http://127.0.0.1:9"; }; },
  { name = "gpu1"; roles = [ "condense" ]; slots = 2; model = "s:0.5b"; num_ctx = 8192; backend = { type = "ollama"; url = "http://127.0.0.1:9"; }; }
);
"""


@pytest.fixture
def explain(tmp_path):
    """explain(body, *options, main=TYPE) -> (exit code, stdout, stderr)"""

    def run(body, *options, main=None, num_ctx=16384):
        conf = []
        if main:
            path = tmp_path / "explain.conf"
            path.write_text(CONF % (tmp_path, num_ctx, main))
            conf = ["-c", str(path)]
        r = subprocess.run([os.path.join(BIN, "tandemctl"), "explain", *conf, *options, "-"], input=body if isinstance(body, bytes) else json.dumps(body).encode(),
                           capture_output=True, timeout=30)
        return r.returncode, r.stdout, r.stderr.decode()

    return run


def conversation(turns, chars=1500):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Find the bug."}]
    for i in range(turns):
        messages += [{"role": "assistant", "content": f"Step {i}. " + prose(chars)}, {"role": "user", "content": f"Go on with step {i}."}]
    return messages


def test_message_by_message(explain):
    body = question(OPENAI, conversation(40), False)
    code, out, err = explain(body, "--json", main="llama-server", num_ctx=8192)
    assert code == 0, err
    o = json.loads(out)
    assert o["outcome"] == "condensed" and o["strategy"] == "C" and o["window"] == 8192 and o["device"] == "gpu0"
    assert o["tokens_sent"] < 8192 < o["tokens_in"]
    assert [m["index"] for m in o["messages"]] == list(range(82)) and len(o["messages"]) == len(body["messages"])
    assert {m["level"] for m in o["messages"]} > {"fixed", "L0"}
    assert o["messages"][0]["level"] == "fixed" and all(m["reason"] for m in o["messages"] if m["level"] != "fixed")
    assert sum(m["bytes_out"] for m in o["messages"]) < sum(m["bytes_in"] for m in o["messages"])
    assert o["predicted_ms"] == {"original_cold": None, "sent_cold": None}  # nothing was measured
    code, out, err = explain(body, main="llama-server", num_ctx=8192)
    lines = out.decode().splitlines()
    assert lines[0].startswith("condensed, way C") and len([line for line in lines if line[:5].strip().isdigit()]) == 82


def test_what_fits_is_the_clients_own(explain):
    body = json.dumps(question(OPENAI, "hi", False)).encode() + b"\n"
    code, out, err = explain(body, "--sent", main="llama-server")
    assert (code, out) == (0, body)
    code, out, err = explain(body, "--json")
    o = json.loads(out)
    assert (o["outcome"], o["strategy"], o["window"]) == ("original", "A", 0)
    assert o["messages"] == [{"index": 0, "role": "user", "level": "L0", "bytes_in": o["messages"][0]["bytes_in"],
                              "bytes_out": o["messages"][0]["bytes_in"], "reason": "as the client sent it"}]


def test_a_window_and_a_dialect(explain):
    body = {"prompt": prose(40000), "model": "m:1b"}
    code, out, err = explain({**body, "suffix": "x"}, "--window", "4096", "--json")
    o = json.loads(out)
    assert (o["outcome"], o["backend"], o["num_ctx"]) == ("overflow", "ollama", 4096) and o["messages"][0]["bytes_out"] == 0
    code, out, err = explain({**body, "suffix": "x"}, "--window", "4096", "--sent")
    assert code == 1 and out == b"" and "longer than the window" in err
    code, out, err = explain(question(CHAT, "hi"), "--dialect", "ollama", "--window", "4096", "--sent")
    assert json.loads(out)["options"] == {"num_ctx": 4096} and json.loads(out)["truncate"] is False


@pytest.mark.parametrize("options,body,code,words", [
    (("--dialect", "latin"), b"{}", 2, "ollama or openai"),
    (("--window", "0"), b"{}", 2, "number of tokens"),
    (("--json", "--sent"), b"{}", 2, "exclude"),
    (("--what",), b"{}", 2, ""),
    (("-c", "/nowhere.conf"), b'{"messages":[{"content":"x"}]}', 1, "nowhere.conf"),
    ((), b"{", 1, "invalid JSON"),
    ((), b"", 1, "missing request body"),
    ((), b'{"messages":"x"}', 1, "array"),
])
def test_wrong_use(explain, options, body, code, words):
    got, out, err = explain(body, *options)
    assert got == code and words in err and out == b"", err


@pytest.mark.parametrize("path,main", [(CHAT, "ollama"), (OPENAI, "ollama"), (OPENAI, "llama-server"), (CHAT, "llama-server"), (GENERATE, "ollama")])
@pytest.mark.parametrize("turns", [1, 40])
def test_what_is_explained_is_what_is_sent(pair, explain, path, main, turns):
    """The running server's explanation, the one made without it, and the bytes that its backend gets then."""
    t, a, b = pair(main, main_device={"num_ctx": 8192}, main_options=("--num-ctx", "8192"), condense={"notes_max_tokens": 16})
    b.fault(fault="500", times=-1)  # notes would stand in what is sent
    said = conversation(turns) if path != GENERATE else "Sum up:\n" + prose(1000 * turns)
    body = json.dumps(question(path, said, False)).encode()
    before = t.requests()
    status, headers, out = t.request("POST", path, body, {"X-Tandem-Explain": "1"})
    assert status == 200, out
    ours = json.loads(out)
    assert not any(a.bodies()) and headers["X-Tandem-Strategy"] == ours["strategy"]
    after = t.requests()
    assert after["by_strategy"] == before["by_strategy"] and after["fallbacks"] == before["fallbacks"]
    code, out, err = explain(body, "--dialect", "openai" if path == OPENAI else "ollama", "--json", main=main, num_ctx=8192)
    assert code == 0, err
    assert json.loads(out) == ours
    code, sent, err = explain(body, "--dialect", "openai" if path == OPENAI else "ollama", "--sent", main=main, num_ctx=8192)
    status, headers, out = t.request("POST", path, body)
    if ours["outcome"] == "overflow":
        assert (code, status) == (1, 400)
        return
    assert (code, status) == (0, 200), err
    assert a.bodies()[-1] == sent
    assert (ours["outcome"] == "condensed") == (turns == 40)


def test_an_explanation_is_nobodys_answer(pair):
    """A request under way is not joined by one that only wants to be explained, nor the other way round."""
    t, a, b = pair(main_options=("--decode", "50"))
    body = question(CHAT, "[[fake tokens=30]] hi", False)
    first = in_thread(lambda: t.request("POST", CHAT, body))
    wait_for(lambda: any(a.bodies()), "the request at the backend")
    status, headers, out = t.request("POST", CHAT, body, {"X-Tandem-Explain": "1"})
    assert status == 200 and json.loads(out)["outcome"] == "original"
    assert json.loads(first.join()[2])["message"]["content"].startswith("w0 w1")
    assert t.request("POST", CHAT, {"model": "m:1b", "messages": 3}, {"X-Tandem-Explain": "1"})[0] == 400
