"""Each way condensing or a worker can fail, provoked for real: the client gets an answer all the same."""

import json
import os
import signal
import threading
import time

import pytest

from harness import in_thread, ndjson, ollama_text, sse, wait_for
from test_routes import prompt, prose

CHAT = {"model": "m:1b", "stream": True}


def last_body(backend):
    backend.stats()
    return json.loads(backend.bodies()[-1])


def working(t, device, kind=None):
    return wait_for(lambda: t.device(device)["inflight"] > 0, f"a job on {device}")


def check_good(status, headers, body):
    assert status == 200, body
    lines = ndjson(body)
    assert lines[-1]["done"] is True and ollama_text(body)


# --- the small device ---


@pytest.mark.parametrize("fault", [{"fault": "500"}, {"fault": "garbage"}, {"fault": "empty"}, {"fault": "refuse"}, {"cut": 1},
                                   {"fault": "badhttp"}])
@pytest.mark.parametrize("small", ["ollama", "llama-server"])
def test_small_backend_faults(pair, fault, small):
    t, a, b = pair(small=small)
    b.fault(times=-1, **fault)
    status, headers, body = t.chat(prompt(3568), stream=True)
    check_good(status, headers, body)
    assert headers["X-Tandem-Strategy"] == "B"
    assert "fallback" in headers["X-Tandem-Reason"]
    s = t.status()["requests"]
    assert s["fallbacks"] >= 1 and s["failed"] == 0
    told = t.events(headers["X-Tandem-Request-Id"])
    assert {"job_fail", "fallback"} <= {e["ev"] for e in told if e["proc"] == "tandemd"}
    assert "job_fail" in {e["ev"] for e in told if e["proc"] == "tandem-worker"}
    # what is sooner by the estimate: here the original, byte for byte but for the window
    assert last_body(a)["messages"][-1]["content"] == prompt(3568)


def test_failed_chunk_runs_on_main_when_that_is_sooner(pair):
    """A slow main prefill and one failing chunk of many: that chunk's notes are written by the main device."""
    t, a, b = pair(main_options=("--prefill", "4000", "--decode", "4000", "--num-ctx", "65536"), main_device={"num_ctx": 65536})
    # teach the gateway the main device's rates
    check_good(*t.chat("[[fake tokens=200]] " + "hi " * 500, stream=True))
    b.fault(times=1, fault="500")
    status, headers, body = t.chat(prompt(30000), stream=True)
    check_good(status, headers, body)
    assert "this chunk on gpu0" in headers["X-Tandem-Reason"]
    sent = last_body(a)
    assert len(json.dumps(sent)) < 30000 * 4 / 2


def test_original_too_long_means_selection_alone(pair):
    t, a, b = pair(main_device={"num_ctx": 8192})
    b.fault(times=-1, fault="500")
    status, headers, body = t.chat(prompt(12000), stream=True)
    check_good(status, headers, body)
    assert headers["X-Tandem-Strategy"] == "C"
    content = last_body(a)["messages"][-1]["content"]
    assert "[.." in content and len(content) < 8192 * 4
    assert content.startswith("Summarise the following notes.") and content.rstrip().endswith("Answer in one sentence.")


def test_small_backend_hangs_past_its_deadline(pair):
    t, a, b = pair(condense={"job_timeout_ms": 300})
    b.fault(times=-1, fault="hang")
    begun = time.monotonic()
    status, headers, body = t.chat(prompt(3568), stream=True)
    check_good(status, headers, body)
    assert time.monotonic() - begun < 5
    assert "timeout" in headers["X-Tandem-Reason"]


def test_small_worker_killed_in_mid_chunk(pair):
    t, a, b = pair()
    b.fault(times=-1, fault="hang")
    r = in_thread(lambda: t.chat(prompt(3568), stream=True))
    working(t, "gpu1")
    os.kill(t.device("gpu1")["pid"], signal.SIGKILL)
    status, headers, body = r.join()
    check_good(status, headers, body)
    assert "worker_lost" in headers["X-Tandem-Reason"]
    t.wait_ready()
    d = t.device("gpu1")
    assert d["generation"] == 2 and d["restarts"] == 1 and d["last_exit"] == "signal 9"


def test_small_worker_stopped(pair):
    """SIGSTOP: alive but hung. The deadline of the job ends it, the missed heartbeats replace the worker."""
    t, a, b = pair(condense={"job_timeout_ms": 400}, deadlines={"ping_ms": 400})
    b.fault(times=1, fault="hang")
    r = in_thread(lambda: t.chat(prompt(3568), stream=True))
    b.struck()
    pid = t.device("gpu1")["pid"]
    os.kill(pid, signal.SIGSTOP)
    status, headers, body = r.join()
    check_good(status, headers, body)
    wait_for(lambda: t.device("gpu1")["generation"] == 2, "replacement of the hung worker")
    t.wait_ready()


def test_small_device_down_from_the_start(fake, tandem, folder):
    a = fake("main")
    b = fake("small", model=("s:0.5b",))
    b.stop()
    devices = [
        {"name": "gpu0", "roles": ["main"], "slots": 2, "model": "m:1b", "num_ctx": 16384, "backend": {"type": "ollama", "url": a.url}},
        {"name": "gpu1", "roles": ["condense"], "slots": 2, "model": "s:0.5b", "num_ctx": 4096,
         "backend": {"type": "ollama", "url": b.url}},
    ]
    t = tandem(devices, wait=False)
    t.wait_ready("gpu0")
    for tokens, strategy in ((3568, "B"), (10981, "C")):
        status, headers, body = t.chat(prompt(tokens), stream=True)
        check_good(status, headers, body)
        assert headers["X-Tandem-Strategy"] == strategy
        assert "not ready" in headers["X-Tandem-Reason"]
        assert last_body(a)["messages"][-1]["content"] == prompt(tokens)
    assert t.status()["requests"]["fallbacks"] == 2


def test_small_backend_dies_for_good_then_comes_back(pair, fake, folder):
    t, a, b = pair()
    b.stop(signal.SIGKILL)
    check_good(*t.chat(prompt(3568), stream=True))
    wait_for(lambda: t.device("gpu1")["state"] != "ready", "gpu1 to be seen as down")
    fake("small2", model=("s:0.5b",), port=b.port)
    t.wait_ready()
    status, headers, body = t.chat(prompt(3568) + " Again.", stream=True)
    check_good(status, headers, body)
    assert "fallback" not in headers["X-Tandem-Reason"]


def test_notes_do_not_fill_the_clients_queue(pair):
    """limits.queue counts requests: the chunks of a few long ones are no reason to refuse anybody, nor to give up on notes."""
    t, a, b = pair(limits={"queue": 2}, main_device={"slots": 1}, small_device={"slots": 1}, small_options=("--decode", "1000"))
    requests = [in_thread(lambda i=i: t.chat(f"{prompt(9000)} {i}", stream=True)) for i in range(3)]
    for r in requests:
        status, headers, body = r.join()
        check_good(status, headers, body)
        assert "fallback" not in headers["X-Tandem-Reason"]
    assert t.requests()["fallbacks"] == 0


def test_small_worker_killed_again_and_again(pair):
    """Whatever moment a kill hits, the client gets an answer; condensing comes back with the worker."""
    t, a, b = pair(small_options=("--decode", "2000"), backoff={"first_ms": 1, "max_ms": 20})
    over, killed = threading.Event(), []

    def kill_loop():
        while not over.is_set():
            pid = t.device("gpu1")["pid"]
            if pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                except ProcessLookupError:
                    pass
            over.wait(0.05)

    killer = in_thread(kill_loop)
    try:
        i = 0
        while i < 12 or (len(killed) < 5 and i < 1000):
            i += 1
            status, headers, body = t.chat(f"{prompt((3000, 9000)[i % 2])} {i}", stream=i % 3 != 0)
            check_good(status, headers, body)
    finally:
        over.set()
    killer.join()
    assert len(killed) >= 5
    assert t.requests()["failed"] == 0
    t.wait_ready()
    status, headers, body = t.chat(prompt(3568), stream=True)
    check_good(status, headers, body)
    assert "fallback" not in headers["X-Tandem-Reason"]
    t.wait_idle()


def test_small_backend_stopped(pair):
    """Its kernel still accepts connections; nobody answers."""
    t, a, b = pair(condense={"job_timeout_ms": 300})
    os.kill(b.pid, signal.SIGSTOP)
    try:
        status, headers, body = t.chat(prompt(10981), stream=True)
        check_good(status, headers, body)
        assert "fallback" in headers["X-Tandem-Reason"]
    finally:
        os.kill(b.pid, signal.SIGCONT)


@pytest.mark.parametrize("fault", [{"fault": "500"}, {"fault": "garbage"}, {"cut": 1}, {"fault": "hang"}])
def test_one_bad_chunk_of_many(pair, fault):
    """One chunk of several fails where the original does not fit: the others' notes are used, nothing is lost in silence."""
    t, a, b = pair(main_device={"num_ctx": 8192}, condense={"job_timeout_ms": 400})
    b.fault(times=1, **fault)
    status, headers, body = t.chat(prompt(12000), stream=True)
    check_good(status, headers, body)
    assert headers["X-Tandem-Strategy"] == "C" and "selection" in headers["X-Tandem-Reason"]
    content = last_body(a)["messages"][-1]["content"]
    assert "[.." in content and len(content) < 8192 * 4
    assert t.requests()["fallbacks"] == 1 and t.requests()["failed"] == 0


def test_one_device_for_both_roles(fake, tandem):
    a = fake("main")
    device = {"name": "gpu0", "roles": ["main", "condense"], "slots": 1, "model": "m:1b", "num_ctx": 16384,
              "backend": {"type": "ollama", "url": a.url}}
    t = tandem([device])
    for tokens, strategy in ((3568, "B"), (10981, "C")):
        status, headers, body = t.chat(prompt(tokens), stream=True)
        check_good(status, headers, body)
        assert headers["X-Tandem-Strategy"] == strategy and "fallback" not in headers["X-Tandem-Reason"]
    a.fault(times=1, fault="500")
    status, headers, body = t.chat(prompt(3569), stream=True)
    check_good(status, headers, body)
    assert t.requests()["fallbacks"] == 1


def test_notes_that_are_not_used_are_told(pair):
    """The model says something, but nothing of it stands in the chunk: the client sees that the selection stands alone."""
    t, a, b = pair()
    b.fault(times=1, text="- keeps every name: nothing_of_the_source_4711")
    status, headers, body = t.chat(prompt(3568), stream=True)
    check_good(status, headers, body)
    assert "; 1 of 1 chunks without notes (unverified)" in headers["X-Tandem-Reason"], headers["X-Tandem-Reason"]
    b.fault(times=-1, fault="400")
    status, headers, body = t.chat(prompt(10981), stream=True)
    check_good(status, headers, body)
    assert "fallback: notes on gpu1: status" in headers["X-Tandem-Reason"] and "chunks without notes (" in headers["X-Tandem-Reason"]


# --- the main device ---


def test_condensed_request_refused_then_original(pair):
    t, a, b = pair()
    a.fault(times=1, fault="400", match="omitted")
    a.fault(times=1, fault="400", match="[..")
    status, headers, body = t.chat(prompt(3568), stream=True)
    check_good(status, headers, body)
    assert "refused" in headers["X-Tandem-Reason"]
    assert last_body(a)["messages"][-1]["content"] == prompt(3568)
    assert t.status()["requests"]["failed"] == 0


@pytest.mark.parametrize("stream", [True, False])
def test_main_worker_killed_before_the_first_byte(pair, stream):
    t, a, b = pair()
    a.fault(times=1, fault="hang")
    r = in_thread(lambda: t.chat("hello", stream=stream))
    a.struck()
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    status, headers, body = r.join()
    assert status == 200 and ollama_text(body)
    assert "worker lost" in headers["X-Tandem-Reason"]


def test_main_worker_killed_after_early_heartbeats(pair):
    t, a, b = pair(deadlines={"first_byte_ms": 50, "heartbeat_ms": 50})
    a.fault(times=1, fault="hang")
    c, r = stream_lines(t, "/api/chat", {**CHAT, "messages": [{"role": "user", "content": "hi"}]})
    assert r.status == 200 and r.read(1) == b" "
    a.struck()
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    body = r.read()
    assert ndjson(body)[-1]["done"] is True and body.lstrip(b" ").startswith(b"{")
    c.close()


def test_main_worker_stopped(pair):
    """A worker that hangs is replaced after three missed heartbeats, and the request begun again."""
    t, a, b = pair(deadlines={"ping_ms": 400})
    a.fault(times=1, fault="hang")
    request = in_thread(lambda: t.chat("hello", stream=True))
    a.struck()
    os.kill(t.device("gpu0")["pid"], signal.SIGSTOP)
    check_good(*request.join())
    t.wait_ready()
    assert t.device("gpu0")["generation"] == 2


def test_main_worker_stopped_in_mid_stream(pair):
    t, a, b = pair(deadlines={"ping_ms": 400}, main_options=("--decode", "50"))
    c, r = stream_lines(t, "/api/chat", {**CHAT, "messages": [{"role": "user", "content": "[[fake tokens=500]] go"}]})
    assert r.readline()
    os.kill(t.device("gpu0")["pid"], signal.SIGSTOP)
    lines = ndjson(b'{"message":{"content":"w0"},"done":false}\n' + r.read())  # the line that was read above, then the rest
    assert lines[-1]["done"] is True
    assert "".join(o["message"]["content"] for o in lines) == " ".join(f"w{i}" for i in range(500))
    c.close()
    t.wait_ready()
    assert t.device("gpu0")["generation"] == 2


def test_what_waits_in_the_queue_survives_the_worker(pair):
    t, a, b = pair(main_device={"slots": 1})
    a.fault(times=1, fault="hang")
    requests = [in_thread(lambda i=i: t.chat(f"number {i}", stream=i % 2 == 0)) for i in range(4)]
    a.struck()
    wait_for(lambda: t.device("gpu0")["inflight"] == 1 and t.device("gpu0")["waiting"] == 3, "three that wait behind one")
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    for r in requests:
        status, headers, body = r.join()
        assert status == 200 and ollama_text(body)
    assert t.requests()["failed"] == 0


def test_a_model_of_another_device_that_is_away(pair):
    """Nobody else has it: the request waits for that device as it would for the main one."""
    t, a, b = pair(deadlines={"main_wait_ms": 400})
    assert t.chat("hello", model="s:0.5b")[1]["X-Tandem-Device"] == "gpu1"
    b.stop(signal.SIGKILL)
    status, headers, body = t.chat("hello", model="s:0.5b")
    assert status == 503 and headers["Retry-After"] and "gpu1" in json.loads(body)["error"]
    assert t.chat("hello")[0] == 200


def test_a_request_that_kills_two_workers_is_refused(pair):
    t, a, b = pair()
    a.fault(times=-1, fault="hang")
    r = in_thread(lambda: t.chat("hello", stream=False))
    for generation in (1, 2):
        wait_for(lambda: t.device("gpu0")["generation"] == generation and t.device("gpu0")["inflight"], f"worker {generation} at work")
        os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    status, headers, body = r.join()
    assert status == 422 and "error" in json.loads(body)
    t.wait_ready()
    a.reset()
    assert t.chat("hello", stream=False)[0] == 422, "the same again is refused, whatever has become of the backend"
    assert t.chat("another")[0] == 200


def stream_lines(t, path, body):
    c = t.connect()
    c.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return c, c.getresponse()


def test_main_worker_killed_in_mid_stream_ollama(pair):
    t, a, b = pair(main_options=("--decode", "50"))
    c, r = stream_lines(t, "/api/chat", {**CHAT, "messages": [{"role": "user", "content": "[[fake tokens=500]] go"}]})
    first = r.readline()
    assert json.loads(first)["done"] is False
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    rest = r.read()  # a clean end of the chunked body
    lines = [json.loads(line) for line in (first + rest).split(b"\n") if line]
    assert lines[-1]["done"] is True
    assert "".join(o["message"]["content"] for o in lines) == " ".join(f"w{i}" for i in range(500))
    t.wait_ready()
    c.request("POST", "/api/chat", json.dumps({**CHAT, "messages": [{"role": "user", "content": "hi"}]}))
    assert c.getresponse().status == 200  # the same connection goes on


def test_main_worker_killed_in_mid_stream_openai(pair):
    t, a, b = pair(main_options=("--decode", "50"))
    c, r = stream_lines(t, "/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": "[[fake tokens=500]] go"}]})
    first = r.readline()
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    events = sse(first + r.read())
    assert events[-1] == "[DONE]"
    deltas = [json.loads(e)["choices"][0]["delta"] for e in events[:-1]]
    assert "".join(d.get("content") or "" for d in deltas) == " ".join(f"w{i}" for i in range(500))
    c.close()


def test_main_down_waits_with_heartbeats_then_answers(pair, fake):
    t, a, b = pair(deadlines={"first_byte_ms": 300, "heartbeat_ms": 100, "main_wait_ms": 20000})
    a.stop(signal.SIGKILL)
    c, r = stream_lines(t, "/api/chat", {**CHAT, "messages": [{"role": "user", "content": "hi"}]})
    assert r.status == 200
    beats = r.read(3)
    assert beats == b"   "
    fake("main2", port=a.port)
    body = r.read()
    assert body.lstrip(b" ").startswith(b"{") and ndjson(body)[-1]["done"] is True
    c.close()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_main_down_for_too_long(pair, path):
    t, a, b = pair(deadlines={"first_byte_ms": 200, "heartbeat_ms": 100, "main_wait_ms": 700})
    a.stop(signal.SIGKILL)
    message = {"model": "m:1b", "messages": [{"role": "user", "content": "hi"}]}
    status, headers, body = t.request("POST", path, {**message, "stream": False})
    assert status == 503 and int(headers["Retry-After"]) > 0
    assert json.loads(body)["error"]
    status, headers, body = t.request("POST", path, {**message, "stream": True})
    assert status == 200
    if path == "/api/chat":
        assert "error" in ndjson(body)[-1]
    else:
        assert "error" in json.loads(sse(body)[-1])


def test_every_step_is_logged_with_the_request_id(pair):
    t, a, b = pair()
    status, headers, body = t.chat(prompt(10981), stream=True)
    check_good(status, headers, body)
    rid = headers["X-Tandem-Request-Id"]
    lines = [line for line in t.log().splitlines() if f"req={rid}" in line]
    events = [dict(p.split("=", 1) for p in line.split() if "=" in p)["ev"] for line in lines]
    for ev in ("plan", "selected", "job_start", "job_end", "request_done"):
        assert ev in events, events
    workers = [line for line in lines if "proc=tandem-worker" in line]
    for device in ("gpu0", "gpu1"):
        for ev in ("job_start", "job_end"):
            assert any(f"device={device}" in line and f"ev={ev}" in line for line in workers), (device, ev)
    assert "WORDS" not in t.log() and "src/part_1.c" not in t.log()  # no prompt text
