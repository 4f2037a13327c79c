"""explain: what would be done with a request, without a tandemd and from one, and that it is what is done.

By sizes (routing.mode = "threshold") and by time ("adaptive", the default).
"""

import json
import os
import subprocess

import pytest

import test_compaction as compaction
import test_compaction_responses as compaction_responses
import test_messages as messages_tests
import test_responses as responses_tests
from conftest import attached
from harness import BIN, in_thread, wait_for
from test_routes import prose
from wire import CHAT, GENERATE, OPENAI, question

CONF = """
run_dir = "%s";
routing = { mode = "%s"; };
devices = (
  { name = "gpu0"; roles = [ "main" ]; slots = 4; model = "m:1b"; num_ctx = %d; backend = { type = "%s"; url = "http://127.0.0.1:9"; }; },
  { name = "gpu1"; roles = [ "condense" ]; slots = 2; model = "s:0.5b"; num_ctx = 8192; backend = { type = "ollama"; url = "http://127.0.0.1:9"; }; }
);
"""


@pytest.fixture
def explain(tmp_path):
    """explain(body, *options, main=TYPE) -> (exit code, stdout, stderr)"""

    def run(body, *options, main=None, num_ctx=16384, mode="threshold", conf=None):
        conf = ["-c", conf] if conf else []
        if main:
            path = tmp_path / "explain.conf"
            path.write_text(CONF % (tmp_path, mode, num_ctx, main))
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
    assert o["predicted_ms"] == {"original_cold": None, "sent_cold": None} and o["rates"] == "assumed"  # nothing was measured
    assert o["decided_by"] == "sizes" and "candidates" not in o
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
    (("--dialect", "latin"), b"{}", 2, "anthropic or responses"),
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


def candidates(o):
    return {c["form"]: c for c in o["candidates"]}


def test_by_time_without_rates(explain):
    """The forms that are weighed are told, and that no time is known."""
    body = question(OPENAI, conversation(40), False)
    code, out, err = explain(body, "--json", main="llama-server", num_ctx=8192, mode="adaptive")
    assert code == 0, err
    o = json.loads(out)
    assert (o["decided_by"], o["form"], o["outcome"], o["strategy"], o["rates"]) == ("time", "layout", "condensed", "C", "assumed")
    ways = candidates(o)
    assert set(ways) == {"original", "layout"} and all(c["ms"] is None for c in ways.values())
    assert not ways["original"]["fits"] and ways["layout"]["fits"] and ways["layout"]["tokens"] == o["tokens_sent"] < 8192
    assert o["reason"].startswith("original of ") and {m["level"] for m in o["messages"]} > {"fixed", "L0"}
    code, out, err = explain(body, main="llama-server", num_ctx=8192, mode="adaptive")
    assert "* layout" in out.decode() and "no rates of gpu0 are known" in out.decode() and "nothing counts as cached" in out.decode()
    # A cut that was made and is not worth it: the original goes, and is what the messages tell of.
    text = "Which value does part_7 report?\n\n" + prose(6500) + "\n\nWhich value does part_7 report?"
    code, out, err = explain(question(OPENAI, text, False), "--json", main="llama-server", num_ctx=32768, mode="adaptive")
    o = json.loads(out)
    assert set(candidates(o)) == {"original", "cut"} and "saves too little" in o["reason"]
    assert (o["outcome"], o["form"], o["strategy"], o["tokens_sent"]) == ("original", "original", "A", o["tokens_in"])
    assert [(m["level"], m["bytes_out"] == m["bytes_in"]) for m in o["messages"]] == [("L0", True)]


def test_a_state_that_cannot_be_read_is_told_and_left_alone(explain, tmp_path):
    (tmp_path / "tandem.mdb").write_bytes(b"no store at all" * 500)
    code, out, err = explain(question(OPENAI, "hi", False), "--json", main="llama-server", mode="adaptive")
    assert code == 0 and json.loads(out)["rates"] == "assumed" and "is not read: damaged" in err
    assert [p.name for p in tmp_path.glob("tandem.mdb*")] == ["tandem.mdb"] and (tmp_path / "tandem.mdb").read_bytes() == b"no store at all" * 500


@pytest.mark.parametrize("mode", ["threshold", "adaptive"])
@pytest.mark.parametrize("path,main", [(CHAT, "ollama"), (OPENAI, "ollama"), (OPENAI, "llama-server"), (CHAT, "llama-server"), (GENERATE, "ollama")])
@pytest.mark.parametrize("turns", [1, 40])
def test_what_is_explained_is_what_is_sent(pair, explain, path, main, turns, mode):
    """The running server's explanation, the one made without it, and the bytes that its backend gets then."""
    t, a, b = pair(main, main_device={"num_ctx": 8192}, main_options=("--num-ctx", "8192"), condense={"notes_max_tokens": 16},
                   routing={"mode": mode, "warm": False})
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
    code, out, err = explain(body, "--dialect", "openai" if path == OPENAI else "ollama", "--json", conf=t.conf)
    assert code == 0, err
    assert json.loads(out) == ours and ours["decided_by"] == ("time" if mode == "adaptive" else "sizes")
    code, sent, err = explain(body, "--dialect", "openai" if path == OPENAI else "ollama", "--sent", conf=t.conf)
    whole = json.loads(t.request("POST", path, body, {"X-Tandem-Explain": "body"})[2])
    told = whole.pop("body", None)
    assert whole == ours and (told is not None) == (ours["outcome"] == "condensed") and not any(a.bodies())
    if told and (path == OPENAI) == (main == "llama-server"):  # in the client's dialect
        assert all(told.get(k) == json.loads(sent).get(k) for k in ("messages", "prompt"))
    status, headers, out = t.request("POST", path, body)
    if ours["outcome"] == "overflow":
        assert (code, status) == (1, 400)
        return
    assert (code, status) == (0, 200), err
    assert a.bodies()[-1] == sent
    assert (ours["outcome"] == "condensed") == (turns == 40)
    if mode == "adaptive" and turns == 1:
        assert headers["X-Tandem-Reason"] == ours["reason"]


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


def weighed(t, body):
    status, headers, out = t.request("POST", OPENAI, body, {"X-Tandem-Explain": "1"})
    assert status == 200, out
    return json.loads(out)


@pytest.mark.parametrize("type", ["llama-server", "ollama"])
def test_by_time_it_knows_what_is_cached_and_how_fast_the_device_is(fake, tandem, explain, folder, type):
    """A running one, turn by turn: what it explains is what it then does. One that has stopped leaves the rates."""
    a = fake("main", type=type, options=["--prefill", "4000", "--num-ctx", "16384", "--slots", "1"])
    settings = {"routing": {"mode": "adaptive", "warm": False, "min_gain_ms": 200}, "state_dir": os.path.join(folder, "state")}
    t = tandem([attached(a, slots=1, num_ctx=16384)], **settings)
    reasons = []
    for turns in (10, 12, 14, 16, 90, 92):
        body = question(OPENAI, conversation(turns, 800), True)
        before = a.stats()["requests"]["total"], t.requests()
        o = weighed(t, body)
        assert weighed(t, body) == o, "an explanation changes the next one"
        assert (a.stats()["requests"]["total"], t.requests()["by_strategy"]) == (before[0], before[1]["by_strategy"])
        status, headers, out = t.request("POST", OPENAI, body)
        assert status == 200, out
        assert headers["X-Tandem-Reason"] == o["reason"] and headers["X-Tandem-Strategy"] == o["strategy"]
        assert headers["X-Tandem-Tokens"] == f"in={o['tokens_in']} sent={o['tokens_sent']}"
        way = candidates(o)[o["form"]]
        assert (way["ms"] is not None) == (o["rates"] == "measured") == bool(reasons)
        assert turns in (10, 90) or way["new"] < 0.5 * way["tokens"], o
        assert (o["form"], o["outcome"]) == (("layout", "condensed") if turns >= 90 else ("original", "original"))
        reasons.append(o["reason"])
    assert t.stop() == 0
    # Without it: its rates, and nothing cached.
    code, out, err = explain(body, "--dialect", "openai", "--json", conf=t.conf)
    assert code == 0 and not err, err
    offline = json.loads(out)
    assert offline["rates"] == "measured" and offline["predicted_ms"]["sent_cold"] > 0
    assert all(c["ms"] > 0 and c["new"] == c["tokens"] for c in offline["candidates"])
    code, sent, err = explain(body, "--dialect", "openai", "--sent", conf=t.conf)
    # The next one knows just that.
    t = tandem([attached(a, slots=1, num_ctx=16384)], **settings)
    assert weighed(t, body) == offline
    assert t.request("POST", OPENAI, body)[0] == 200
    assert a.bodies()[-1] == sent


MESSAGES_PATH, RESPONSES_PATH = messages_tests.PATH, responses_tests.PATH


def wish(path, how, rounds):
    """A request of an agent that wishes for a compaction: at a threshold ("edit"), as the whole answer ("alone"), or not at all."""
    if path == MESSAGES_PATH:
        more = {"edit": {"context_management": compaction.edit(3000)}, "alone": {"compaction": compaction.ASK}, None: {}}[how]
        return {"model": "m:1b", "max_tokens": 200, "system": "Be brief.", "tools": messages_tests.TOOLS, "messages": compaction.talk(rounds), **more}
    items = compaction_responses.talk(rounds) + ([compaction_responses.TRIGGER] if how == "alone" else [])
    more = {"context_management": compaction_responses.at(3000)} if how == "edit" else {}
    return {"model": "m:1b", "input": items, **compaction_responses.AT, **more}


@pytest.mark.parametrize("kind", ["ollama", "llama-server"])
@pytest.mark.parametrize("path", [MESSAGES_PATH, RESPONSES_PATH])
def test_a_compaction_is_explained_as_it_is_made(compacting, explain, path, kind):
    """With a tandemd and without one: whether it is made, what the prompt has against the threshold, and what stays."""
    t, a = compacting(kind)
    for how, rounds, made, whole in (("edit", 2, False, False), ("edit", 8, True, False), ("alone", 8, True, True)):
        body = wish(path, how, rounds)
        status, _, out = t.request("POST", path, body, {"X-Tandem-Explain": "1"})
        ours = json.loads(out)
        code, out, err = explain(body, "--json", conf=t.conf)
        assert (status, code, err) == (200, 0, "") and json.loads(out) == ours
        c = ours["compaction"]
        assert (c["made"], c["threshold"], c["answer"]) == (made, None if how == "alone" else 3000, "block" if whole else "block, model" if made else "model")
        assert c["messages_before"] > len(ours["messages"]) if made else c["messages_before"] == len(ours["messages"])
        code, out, err = explain(body, conf=t.conf)
        line = next(line for line in out.decode().splitlines() if "ompaction" in line)
        assert str(c["tokens_before"]) in line and (str(c["tokens_after"]) in line if made else c["why"] in line), line
        assert ("from 3000 on" in line) == (how == "edit") and ("whole answer" in line) == whole
        code, sent, err = explain(body, "--sent", conf=t.conf)
        assert (code == 1 and sent == b"" and "whole answer" in err) if whole else code == 0
        if made and not whole:
            wanted = body, sent
    assert not any(a.bodies()), "an explanation is nobody's answer, and teaches nothing"
    assert t.request("POST", path, wanted[0])[0] == 200 and a.bodies()[-1] == wanted[1]
    assert "compaction" not in json.loads(explain(wish(path, None, 2), "--json", conf=t.conf)[1])


@pytest.mark.parametrize("path", [MESSAGES_PATH, RESPONSES_PATH])
def test_a_compaction_block_is_explained_as_what_it_stands_for(compacting, explain, path):
    t, a = compacting("llama-server")
    body = wish(path, "alone", 8)
    answer = json.loads(t.request("POST", path, body)[2])
    if path == MESSAGES_PATH:
        block = answer["content"][0]
        brought = {**wish(path, None, 1), "messages": compaction.in_place(block, compaction.NEXT)}
    else:
        block = answer["output"][0]
        brought = {**wish(path, None, 1), "input": [block, compaction_responses.NEXT]}
    code, sent, err = explain(brought, "--sent", conf=t.conf)
    assert (code, err) == (0, "") and t.request("POST", path, brought)[0] == 200 and a.bodies()[-1] == sent
    code, out, err = explain(brought, "--sent", "--window", "8192")  # whose key is nobody's
    assert code == 0 and "taken as it is" in err and json.loads(out)["messages"] == json.loads(sent)["messages"]
    altered = json.loads(json.dumps(brought).replace("I look at part 7.", "I look at part 9."))
    code, out, err = explain(altered, conf=t.conf)
    assert code == 1 and out == b"" and ("altered" in err or "not what its signature" in err)
    assert t.request("POST", path, altered)[0] == 400


def test_wishes_that_cannot_be_explained(explain):
    body = wish(RESPONSES_PATH, "edit", 2)
    for more, words in (({"context_management": [{"type": "clear"}]}, 'must be "compaction"'), ({"input": [*body["input"][:4], compaction_responses.TRIGGER]}, "no output yet"),
                        ({"input": [*body["input"], compaction_responses.TRIGGER], "instructions": "Never forget. " * 4000}, "cannot be compacted")):
        code, out, err = explain({**body, **more}, "--window", "8192")
        assert code == 1 and out == b"" and words in err, err
