"""What is kept of requests: each one's steps, while it is under way and for a while after (`requests`, `request ID`)."""

import json
import os
import signal

from conftest import attached
from harness import Client, in_thread, ollama_text, wait_for
from test_control import ask, ctl, one  # noqa: F401 (a fixture)
from test_resume import CHAT, Stream, halts, kill_worker
from test_routes import prompt

FAST = {"first_ms": 20, "max_ms": 50}


def told(t, rid):
    return ask(t, f"request {rid}")


def steps(t, rid, kind=None):
    return [s for s in told(t, rid)["steps"] if kind in (None, s["kind"])]


def kinds(t, rid):
    return [s["kind"] for s in steps(t, rid)]


def over(t, rid):
    return wait_for(lambda: (r := told(t, rid))["state"] != "running" and r, f"the end of {rid}")


def test_a_stream(one):
    t, a = one()
    status, headers, body = t.chat("[[fake tokens=20]] a secret word", stream=True)
    assert status == 200
    r = over(t, headers["X-Tandem-Request-Id"])
    assert r["state"] == "done" and r["status"] == 200 and r["strategy"] == "A" and r["device"] == "gpu0"
    assert (r["method"], r["path"], r["dialect"], r["model"], r["key"]) == ("POST", "/api/chat", "ollama chat", "m:1b", None)
    assert r["output_tokens"] == 20 and r["tokens_in"] > 0 and r["tokens_sent"] == r["tokens_in"] and r["reason"]
    assert [s["kind"] for s in r["steps"]] == ["read", "parse", "prefill", "decode"] and r["steps_lost"] == 0
    assert r["steps_count"] == 4
    read, parse, prefill, decode = r["steps"]
    assert all(s["outcome"] == "done" and s["why"] is None and s["count"] == 1 for s in r["steps"])
    assert prefill["device"] == decode["device"] == "gpu0" and read["device"] is None
    assert prefill["tokens"] > 0 and decode["tokens"] == 20
    # One follows the other, from the request's beginning to its end.
    assert read["start_ms"] == 0 and decode["start_ms"] + decode["ms"] == r["ms"]
    for before, after in zip(r["steps"], r["steps"][1:]):
        assert before["start_ms"] + before["ms"] == after["start_ms"]
    for document in ("requests", f"request {headers['X-Tandem-Request-Id']}"):
        assert "secret" not in json.dumps(ask(t, document))


def test_an_answer_without_a_stream(one):
    t, a = one()
    status, headers, body = t.chat("hello")
    assert status == 200 and kinds(t, headers["X-Tandem-Request-Id"]) == ["read", "parse", "answer"]
    assert steps(t, headers["X-Tandem-Request-Id"], "answer")[0]["tokens"] > 0


def test_what_passes_through(one):
    t, a = one()
    status, headers, body = t.request("POST", "/api/embed", {"model": "m:1b", "input": "hello"})
    assert status == 200, body
    r = over(t, headers["X-Tandem-Request-Id"])
    assert (r["strategy"], r["path"], r["model"], r["state"]) == ("pass", "/api/embed", "m:1b", "done")
    assert r["steps"][-1]["kind"] == "answer" and r["steps"][-1]["device"] == "gpu0"
    # What tandem answers from what it knows, and who measures, are no requests of this kind.
    before = ask(t, "requests")["kept"]
    assert t.request("GET", "/api/tags")[0] == t.request("GET", "/api/ps")[0] == t.request("GET", "/metrics")[0] == 200
    assert ask(t, "requests")["kept"] == before


def test_notes(pair):
    t, a, b = pair()
    status, headers, body = t.chat(prompt(3568), stream=True)
    assert status == 200 and headers["X-Tandem-Strategy"] == "B"
    rid = headers["X-Tandem-Request-Id"]
    assert [k for k in kinds(t, rid) if k != "queue"] == ["read", "parse", "condense", "notes", "prefill", "decode"]
    (notes,), (condense,), (prefill,) = (steps(t, rid, k) for k in ("notes", "condense", "prefill"))
    assert notes["device"] == "gpu1" and notes["outcome"] == "done"
    assert condense["tokens"] == told(t, rid)["tokens_sent"] < told(t, rid)["tokens_in"]
    assert condense["start_ms"] <= notes["start_ms"] and notes["start_ms"] + notes["ms"] <= prefill["start_ms"]


def test_notes_that_fail(pair):
    t, a, b = pair()
    b.fault(times=-1, fault="500")
    status, headers, body = t.chat(prompt(3568), stream=True)
    assert status == 200 and ollama_text(body)
    rid = headers["X-Tandem-Request-Id"]
    assert steps(t, rid, "notes")[0]["outcome"] == "failed" and steps(t, rid, "notes")[0]["why"]
    assert "notes on gpu1" in steps(t, rid, "fallback")[0]["why"] and told(t, rid)["state"] == "done"


def test_a_worker_lost_before_the_first_byte(pair):
    t, a, b = pair(deadlines={"first_byte_ms": 50, "heartbeat_ms": 20}, backoff=FAST)
    a.fault(times=1, fault="hang")
    r = in_thread(lambda: t.chat("hello", stream=True))
    a.struck()
    rid = wait_for(lambda: [x for x in ask(t, "requests")["requests"] if x["state"] == "running"], "the request")[0]["request"]
    wait_for(lambda: steps(t, rid, "heartbeat") and steps(t, rid, "heartbeat")[0]["count"] >= 3, "heartbeats")
    assert steps(t, rid)[-2]["kind"] == "prefill" and steps(t, rid)[-2]["outcome"] == "open"
    assert told(t, rid)["status"] is None and told(t, rid)["strategy"] is None
    kill_worker(t)
    status, headers, body = r.join()
    assert status == 200 and headers["X-Tandem-Request-Id"] == rid and over(t, rid)["state"] == "done"
    first, second = steps(t, rid, "prefill")
    assert (first["outcome"], first["why"]) == ("failed", "worker_lost") and second["outcome"] == "done"
    (again,) = steps(t, rid, "retry")
    assert again["why"] == "worker_lost" and again["device"] == "gpu0" and first["start_ms"] <= again["start_ms"]
    assert "worker lost" in steps(t, rid, "fallback")[0]["why"]


def test_an_answer_that_goes_on(pair):
    t, a, b = pair(backoff=FAST)
    halts(a, 5)
    s = Stream(t, CHAT).until_tokens(5)
    kill_worker(t)
    assert s.end()[1]
    rid = [e for e in t.events() if e["ev"] == "resumed"][0]["req"]
    assert over(t, rid)["state"] == "done"
    (resumed,) = steps(t, rid, "resume")
    assert resumed["tokens"] >= 1 and resumed["device"] == "gpu0" and resumed["ms"] > 0
    assert [s["outcome"] for s in steps(t, rid, "decode")] == ["failed", "done"]


def test_waiting_for_a_slot(fake, tandem):
    a = fake("a")
    t = tandem([attached(a, slots=1)])
    a.fault(name="slow", match="first one", fault="hang", times=1)
    first = in_thread(lambda: t.chat("first one", stream=True))
    a.struck()
    second = in_thread(lambda: t.chat("second one", stream=True))

    def waits():
        rows = ask(t, "requests")["requests"]
        return len(rows) == 2 and kinds(t, rows[0]["request"])[-1] == "queue" and rows
    rows = wait_for(waits, "the second one in the queue")
    assert [r["state"] for r in rows] == ["running", "running"]
    wait_for(lambda: steps(t, rows[0]["request"], "queue")[0]["ms"] >= 20, "some time")
    assert ask(t, f"cancel {rows[1]['request']}")["cancelled"]
    first.join()
    status, headers, body = second.join()
    assert status == 200 and headers["X-Tandem-Request-Id"] == rows[0]["request"]
    assert over(t, rows[1]["request"])["state"] == "cancelled" and steps(t, rows[1]["request"])[-1]["outcome"] == "cancelled"
    (queue,) = steps(t, rows[0]["request"], "queue")
    assert queue["outcome"] == "done" and queue["ms"] >= 20 and queue["device"] == "gpu0"


def test_what_is_refused(pair):
    t, a, b = pair(main_device={"num_ctx": 2048})
    status, headers, body = t.request("POST", "/v1/chat/completions", {"model": "m:1b", "messages": [
        {"role": "system", "content": "word " * 4000}, {"role": "user", "content": "hi"}]})
    assert status == 400, body
    r = over(t, headers["X-Tandem-Request-Id"])
    assert (r["state"], r["status"]) == ("refused", 400) and steps(t, r["request"], "overflow")[0]["why"] == "refused"
    status, headers, body = t.request("POST", "/api/chat", b"{nonsense")
    r = over(t, headers["X-Tandem-Request-Id"])
    assert status == 400 and r["status"] == 400 and r["state"] == "refused" and r["model"] is None


def test_a_client_that_leaves_early(one):
    t, a = one()
    c = Client(t)
    c.send("POST", "/api/chat", b"{", length=100)
    rid = wait_for(lambda: ask(t, "requests")["requests"], "its head")[0]["request"]
    assert kinds(t, rid) == ["read"] and steps(t, rid)[0]["outcome"] == "open"
    c.close(reset=True)
    r = over(t, rid)
    assert (r["state"], r["status"]) == ("cancelled", None) and r["steps"][0]["outcome"] == "cancelled"


def test_one_that_joined_goes_on_for_the_other(one):
    t, a = one(limits={"coalesce_after_ms": 0})
    body = json.dumps({"model": "m:1b", "stream": True, "messages": [{"role": "user", "content": "the same"}]}).encode()
    a.fault(fault="hang", times=1)
    first, second = Client(t), Client(t)
    first.send("POST", "/api/chat", body)
    a.struck()
    lead = ask(t, "requests")["requests"][0]["request"]
    second.send("POST", "/api/chat", body)
    heir = wait_for(lambda: [r for r in ask(t, "requests")["requests"] if r["request"] != lead], "the second")[0]["request"]
    wait_for(lambda: kinds(t, heir)[-1] == "joined", "that it joins")
    first.close(reset=True)
    wait_for(lambda: "taken_over" in kinds(t, heir), "that it takes over")
    assert over(t, lead)["state"] == "cancelled" and steps(t, lead, "prefill")[0]["outcome"] == "cancelled"
    assert steps(t, heir, "taken_over")[0]["why"] == lead and steps(t, heir, "prefill")[0]["outcome"] == "open"
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    second.head()
    assert second.status == 200 and second.rest()
    assert over(t, heir)["state"] == "done" and told(t, heir)["steps"][-1]["kind"] == "decode"
    second.close()


def test_the_last_ones_are_kept(one):
    t, a = one(limits={"history": 3})
    ids = [t.chat(f"hello {i}")[1]["X-Tandem-Request-Id"] for i in range(5)]
    document = ask(t, "requests")
    assert [r["request"] for r in document["requests"]] == ids[:1:-1]
    assert (document["kept"], document["limit"]) == (3, 3) and document["held_bytes"] > 0
    assert [r["request"] for r in ask(t, "requests 2")["requests"]] == ids[:2:-1]
    assert ask(t, "requests 0")["requests"] == []
    assert "no such request" in ask(t, f"request {ids[0]}")["error"]
    for wrong in ("requests -1", "requests x", "requests 1x", "request"):
        assert "usage" in ask(t, wrong)["error"], wrong
    # A reload's bounds hold at once.
    with open(t.conf) as f:
        text = f.read()
    with open(t.conf, "w") as f:
        f.write(text.replace("history = 3", "history = 1"))
    assert t.operate("reload")["state"] == "done"
    assert [r["request"] for r in ask(t, "requests")["requests"]] == ids[-1:]


def test_their_memory_has_a_cap(one):
    t, a = one(limits={"history_bytes": 5000})
    for i in range(12):
        assert t.chat(f"hello {i}")[0] == 200
    document = ask(t, "requests")
    assert 0 < document["kept"] < 12 and document["held_bytes"] <= 5000


def test_steps_have_a_cap(pair):
    t, a, b = pair(limits={"request_steps": 8}, main_options=("--num-ctx", "65536"), main_device={"num_ctx": 65536})
    status, headers, body = t.chat(prompt(30000), stream=True)
    assert status == 200 and headers["X-Tandem-Strategy"] == "C"
    r = over(t, headers["X-Tandem-Request-Id"])
    assert len(r["steps"]) == 8 and r["steps_lost"] > 0 and r["state"] == "done"


def test_tandemctl_shows_them(pair):
    t, a, b = pair()
    status, headers, body = t.chat(prompt(3568), stream=True)
    rid = headers["X-Tandem-Request-Id"]
    over(t, rid)
    r = ctl(t, "requests", "1")
    assert r.returncode == 0 and rid in r.stdout and "m:1b" in r.stdout and "FIRST" in r.stdout
    r = ctl(t, "request", rid)
    assert r.returncode == 0 and f"{rid}: done, way B, device gpu0" in r.stdout and "notes" in r.stdout and "gpu1" in r.stdout
    assert json.loads(ctl(t, "request", rid, "--json").stdout)["steps"]
    assert ctl(t, "request", "nobody").returncode == 1 and "no such request" in ctl(t, "request", "nobody").stderr
    assert ctl(t, "request").returncode == 2 and ctl(t, "requests", "x").returncode == 1
    assert ctl(t, "requests", "1" * 300).returncode == 2
