"""What a running tandem tells of itself (stats.ipc, events.ipc) and what it can be told, with real processes; and tandemctl."""

import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from conftest import SANITIZED, attached
from harness import BIN, DEADLINE, ROOT, Client, children, in_thread, ndjson, nng_req, rss_bytes, spent, sse, wait_for

OK, FAILED, USAGE, NO_ENGINE, NOT_RUNNING, TIMED_OUT = range(6)
FAST = {"ping_ms": 200}  # three of them are what a busy machine may let a worker wait for its turn


def ask(t, request):
    return json.loads(nng_req(os.path.join(t.run_dir, "stats.ipc"), request))


def ctl(t, *args, timeout=30):
    return subprocess.run([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, *args], capture_output=True, text=True, timeout=timeout)


@pytest.fixture
def one(fake, tandem):
    """One Ollama with two slots, and heartbeats that a test need not wait for."""

    def start(options=(), env=None, device=None, **groups):
        a = fake("a", options=options)
        groups["deadlines"] = {**FAST, **groups.get("deadlines", {})}
        return tandem([attached(a, slots=2, **(device or {}))], env=env, **groups), a

    return start


class Subscriber:
    """An SP SUB peer on events.ipc, by hand."""

    def __init__(self, t):
        t.flush()  # what a worker said of its start comes before
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(os.path.join(t.run_dir, "events.ipc"))
        self.sock.sendall(b"\0SP\0" + struct.pack(">HH", 0x21, 0))
        self.stream = self.sock.makefile("rb")
        assert self.stream.read(8) == b"\0SP\0" + struct.pack(">HH", 0x20, 0)
        # That our hello has been read, too, is to be seen from an event.
        wait_for(lambda: ask(t, "cancel nobody") and select_readable(self.sock), "an event")

    def next(self):
        kind, length = struct.unpack(">BQ", self.stream.read(9))
        assert kind == 1
        return json.loads(self.stream.read(length))

    def until(self, stop):
        """Events up to the first for which stop() is true, that one included; the orders of the handshake left out."""
        out = []
        while not out or not stop(out[-1]):
            e = self.next()
            if e["event"] != "ordered":
                out.append(e)
        return out

    def close(self):
        self.stream.close()
        self.sock.close()


# --- the documents ---

MEMBERS = {
    "status": {"version", "pid", "uptime_s", "listen", "devices", "requests", "queue", "connections", "held_bytes", "layout_bytes"},
    "workers": {"workers"},
    "jobs": {"jobs"},
    "queues": {"waiting", "limit", "queues"},
    "sessions": {"sessions"},
    "requests": {"kept", "limit", "held_bytes", "requests"},
    "backends": {"backends", "aliases"},
    "keys": {"needed", "unauthorized", "keys"},
    "counters": {"requests", "passed", "failed", "cancelled", "fallbacks", "strategy_a", "strategy_b", "strategy_c", "jobs",
                 "operations", "events", "events_lost", "devices", "prefix_kept", "prefix_kinds"},
    "histograms": {"first_byte", "total", "queue_wait", "backend"},
    "devices": {"gpus", "reason", "age_ms"},
    "nng": {"version", "reason", "stats"},
    "fields": {"status", "workers", "jobs", "queues", "sessions", "keys", "counters", "histograms", "backends", "devices",
               "nng", "requests", "request", "operation"},
    "flush": {"flushed"},
    "recent": {"events"},
    "help": {"commands"},
}
WORKER = {"device", "state", "pid", "generation", "uptime_ms", "restarts", "last_exit", "heartbeat_ms", "missed_heartbeats", "progress",
          "active_jobs", "jobs_done", "jobs_failed", "bytes_in", "bytes_out", "rss_bytes", "link_backlog_bytes", "detail"}


def test_every_document_by_hand_and_by_nngcat(one):
    t, _ = one()
    assert t.chat("hello")[0] == 200
    for request, members in MEMBERS.items():
        document = ask(t, request)
        assert members <= set(document), request
        r = subprocess.run(["nngcat", "--req", "--dial", f"ipc://{t.run_dir}/stats.ipc", "--data", request, "--raw"],
                           capture_output=True, timeout=20)
        assert r.returncode == 0 and members <= set(json.loads(r.stdout)), (request, r)
    named = {c["name"] for c in ask(t, "help")["commands"]}
    assert named == set(MEMBERS) | {"request", "operation", "restart", "drain", "reset", "reload", "upgrade", "cancel", "bench"}
    sockets = [s for s in ask(t, "nng")["stats"] if s["name"] == "socket"]
    assert [s.get("device") for s in sockets] == ["gpu0", "gpu0"]  # a link has two


KINDS = {"text": str, "integer": int, "real": float, "boolean": bool, "histogram": dict}


def told(fields, document, where):
    """Each member is described, by its type; null is a value that is not known."""
    named = {f["name"]: f for f in fields}
    assert set(document) <= set(named), f"{where}: not described"
    for name, value in document.items():
        f = named[name]
        if value is None:
            continue
        if f["type"] == "object":
            told(f["fields"], value, f"{where}.{name}")
        elif f["type"] == "list":
            for item in value if "fields" in f else ():
                told(f["fields"], item, f"{where}.{name}")
        else:
            assert type(value) is KINDS[f["type"]], (where, name, value)


def test_the_description_of_the_documents_is_true(one):
    t, _ = one()
    assert t.chat("hello")[0] == 200
    described = ask(t, "fields")
    for name in set(described) - {"operation", "nng", "request"}:
        told(described[name], ask(t, name), name)
    told(described["request"], ask(t, "request " + ask(t, "requests")["requests"][0]["request"]), "request")
    assert {f["name"] for f in described["nng"]} == set(ask(t, "nng"))  # below it the names are nng's
    number = ask(t, "reload")["operation"]
    t.operation(number)
    told(described["operation"], ask(t, f"operation {number}"), "operation")


def written(t):
    """The log as it is in the file now."""
    with open(t.log_path, errors="replace") as f:
        return f.read()


def test_what_was_logged_is_written_after_a_flush(one):
    """Lines and counters of tandemd and of the worker, though no heartbeat comes: none is looked for twice."""
    t, _ = one(deadlines={"ping_ms": 60000})
    for n in range(50):
        status, headers, _ = t.chat(f"number {n}")
        assert status == 200 and ask(t, "flush") == {"flushed": True}
        log, req = written(t), headers["X-Tandem-Request-Id"]
        for line in ("proc=tandemd .* ev=request_done", "proc=tandem-worker .* ev=job_end"):
            assert re.search(f"{line} req={req} ", log), (line, log[-2000:])
        assert ask(t, "workers")["workers"][0]["jobs_done"] == n + 1


def test_a_flush_waits_for_each_worker(one):
    t, _ = one(deadlines={"ping_ms": 60000})
    pid = t.device("gpu0")["pid"]
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    assert ask(t, "flush") == {"flushed": False} and time.monotonic() - begun >= 0.99  # its clock has whole milliseconds
    late = [in_thread(lambda: ask(t, "flush")) for _ in range(3)]
    os.kill(pid, signal.SIGCONT)
    assert [f.join() for f in late] == [{"flushed": True}] * 3
    os.kill(pid, signal.SIGSTOP)
    ends = in_thread(lambda: ask(t, "flush"))
    os.kill(pid, signal.SIGKILL)
    assert ends.join() == {"flushed": True} and f"worker_pid={pid} exit=" in written(t)
    t.wait_ready()


def test_flushes_are_no_heartbeats(one):
    """However often it is asked, a worker that lives is not given up, and one that is stopped is."""
    t, _ = one(deadlines={"ping_ms": 500})  # on a busy machine a worker that lives is late
    first = ask(t, "counters")["devices"][0]["heartbeats"]
    wait_for(lambda: ask(t, "flush")["flushed"] and ask(t, "counters")["devices"][0]["heartbeats"] >= first + 200, "many answers")
    assert t.device("gpu0")["generation"] == 1
    os.kill(t.device("gpu0")["pid"], signal.SIGSTOP)
    wait_for(lambda: [ask(t, "flush")] and t.device("gpu0")["generation"] == 2, "its successor")
    assert [e["why"] for e in t.events(ev="worker_given_up")] == ["silent: missed its heartbeats"]


def test_a_worker_is_described(one):
    t, _ = one()
    assert t.chat("hello")[0] == 200
    w = wait_for(lambda: [w for w in ask(t, "workers")["workers"] if w["jobs_done"] == 1], "heartbeat after the chat")[0]
    assert WORKER <= set(w)
    assert w["device"] == "gpu0" and w["state"] == "ready" and w["generation"] == 1 and w["restarts"] == 0 and w["last_exit"] is None
    assert 0 <= w["heartbeat_ms"] < 5000 and w["uptime_ms"] >= w["heartbeat_ms"] and w["missed_heartbeats"] < 3
    assert w["active_jobs"] == 0 and w["progress"] > 0 and w["bytes_in"] > 0 and w["bytes_out"] > 0
    assert 1 << 20 < w["rss_bytes"] < (1 << 40 if SANITIZED else 1 << 28)
    os.kill(w["pid"], 0)
    device = t.device("gpu0")
    assert device["pid"] == w["pid"] and device["uptime_ms"] >= w["uptime_ms"] and device["heartbeat_ms"] is not None


def test_counters_survive_a_worker(one):
    t, _ = one(backoff={"first_ms": 10, "max_ms": 50})
    assert t.chat("hello")[0] == 200

    def counted():
        c = ask(t, "counters")["devices"][0]
        return c["bytes_in"] > 0 and c["bytes_out"] > 0 and c

    before = wait_for(counted, "heartbeat after the chat")
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    wait_for(lambda: t.device("gpu0")["generation"] == 2, "the next worker")
    t.wait_ready()
    after = ask(t, "counters")["devices"][0]
    assert after["jobs_done"] == 1 and after["restarts"] == 1 and after["starts"] == 2
    assert after["bytes_in"] == before["bytes_in"] and after["heartbeats"] >= before["heartbeats"]
    w = ask(t, "workers")["workers"][0]
    assert w["last_exit"] == "signal 9" and w["restarts"] == 1
    assert t.chat("hello")[0] == 200
    grown = wait_for(lambda: (c := counted())["bytes_in"] > before["bytes_in"] and c, "more bytes")
    assert grown["jobs_done"] == 2


def test_jobs_and_queues_show_what_runs_and_waits(one):
    t, a = one()
    a.fault(times=-1, fault="hang", match="stay")
    clients = [Client(t).send("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "stay"}]}) for _ in range(3)]
    jobs = wait_for(lambda: (j := ask(t, "jobs")["jobs"]) and len(j) == 3 and j, "three jobs")
    wait_for(lambda: [j["state"] for j in ask(t, "jobs")["jobs"]] == ["running", "running", "waiting"], "two running, one waiting")
    assert len({j["request"] for j in jobs}) == 3 and all(j["kind"] == "chat" and j["device"] == "gpu0" for j in jobs)
    assert all(j["body_bytes"] > 50 and j["age_ms"] >= 0 and j["answer_bytes"] == 0 for j in jobs)
    q = ask(t, "queues")
    assert q["waiting"] == 1 and q["limit"] == 256
    assert q["queues"][0]["waiting"] == 1 and q["queues"][0]["inflight"] == 2 and q["queues"][0]["oldest_ms"] >= 0
    for c in clients:
        c.close()
    t.wait_idle()
    assert ask(t, "jobs")["jobs"] == []


def test_histograms_count_what_was_done(one):
    t, _ = one()
    for _ in range(5):
        assert t.chat("hello")[0] == 200
    assert t.request("POST", "/api/embed", {"model": "m:1b", "input": "x"})[0] == 200
    h = ask(t, "histograms")
    for name, of, n in [("first_byte", "A", 5), ("total", "A", 5), ("total", "B", 0), ("total", "pass", 1),
                        ("queue_wait", "chat", 5), ("backend", "chat", 5), ("queue_wait", "pass", 1)]:
        one_ = h[name][of]
        assert one_["count"] == n and one_["buckets"][-1] == {"le_ms": None, "count": n}, (name, of, one_)
        assert one_["p50_ms"] <= one_["p90_ms"] <= one_["p99_ms"] <= one_["max_ms"]
        counts = [b["count"] for b in one_["buckets"]]
        assert counts == sorted(counts)


# --- GPUs ---


@pytest.fixture(scope="session")
def nvml(tmp_path_factory):
    """The environment in which a scripted libnvidia-ml.so.1 is found."""
    folder = tmp_path_factory.mktemp("nvml")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", str(folder / "libnvidia-ml.so.1"),
                    os.path.join(ROOT, "tests", "process", "nvml_fake.c")], check=True)
    return {"LD_LIBRARY_PATH": str(folder)}


def test_gpus(one, nvml):
    t, _ = one(env=nvml, device={"pin": "1"})
    d = ask(t, "devices")
    assert d["reason"] is None and 0 <= d["age_ms"] < 1000
    first, second = d["gpus"]
    assert first == {"index": 0, "name": "NVIDIA H100", "uuid": "GPU-a", "memory_used_bytes": 60 << 30, "memory_total_bytes": 80 << 30,
                     "load_percent": 87, "temperature_c": 41, "power_w": 350.5, "pinned": []}
    assert second == {"index": 1, "name": 'Old "Card"', "uuid": "GPU-b", "memory_used_bytes": 1 << 30, "memory_total_bytes": 4 << 30,
                      "load_percent": None, "temperature_c": None, "power_w": None, "pinned": ["gpu0"]}
    # However many ask, the driver is asked once a second.
    begun = time.monotonic()
    temperatures = [ask(t, "devices")["gpus"][0]["temperature_c"] for _ in range(50)]
    assert max(temperatures) - 41 <= time.monotonic() - begun + 1
    wait_for(lambda: ask(t, "devices")["gpus"][0]["temperature_c"] > max(temperatures), "a fresh sample")
    r = ctl(t, "devices")
    assert r.returncode == OK
    line = r.stdout.splitlines()[1].split()
    assert line[:7] == "0 87 % 60.0 GiB 80.0 GiB".split() and line[-2:] == ["NVIDIA", "H100"] and "350 W" in r.stdout


def test_no_driver(one, nvml):
    t, _ = one(env={**nvml, "NVML_FAKE_INIT": "9"})
    d = ask(t, "devices")
    assert d["gpus"] == [] and d["reason"] == "nvmlInit: Driver Not Loaded"
    r = ctl(t, "devices")
    assert r.returncode == OK and "(nvmlInit: Driver Not Loaded)" in r.stdout


def test_a_driver_that_hangs_delays_nobody(one, nvml):
    t, _ = one(env={**nvml, "NVML_FAKE_HANG_MS": "3000"})
    asking = [in_thread(lambda: ask(t, "devices")) for _ in range(10)]
    leaver = socket.socket(socket.AF_UNIX)  # asks and does not stay for the answer
    leaver.connect(os.path.join(t.run_dir, "stats.ipc"))
    leaver.sendall(b"\0SP\0" + struct.pack(">HH", 0x30, 0) + struct.pack(">BQI", 1, 11, 0x80000001) + b"devices")
    assert leaver.recv(8)
    leaver.close()
    begun = time.monotonic()
    assert t.chat("hello")[0] == 200
    assert ask(t, "status")["pid"] == t.pid
    assert spent(begun) < 1 or SANITIZED
    for d in (a.join() for a in asking):
        assert d["gpus"] == [] and "does not answer within" in d["reason"] and d["age_ms"] is None
    assert len(wait_for(lambda: ask(t, "devices")["gpus"], "the driver's answer after all")) == 2


def test_a_driver_that_hangs_is_not_waited_for_at_the_end(one, nvml):
    t, _ = one(env={**nvml, "NVML_FAKE_HANG_MS": "60000"})
    assert "does not answer within" in ask(t, "devices")["reason"]
    assert t.stop(deadline=10) == 0


# --- events ---


def test_events_of_a_chat_come_in_order(one):
    t, _ = one()
    s = Subscriber(t)
    _, headers, _ = t.chat("the secret word")
    events = s.until(lambda e: e["event"] == "request_done")
    seqs = [e["seq"] for e in events]
    assert seqs == list(range(seqs[0], seqs[0] + len(events)))
    workers = [e for e in events if e["event"].startswith("worker.")]
    events = [e for e in events if e not in workers]
    assert [e["event"] for e in events] == ["request_begin", "plan", "job_start", "job_end", "forecast", "request_done"]
    assert {e["req"] for e in events + workers} == {headers["X-Tandem-Request-Id"]}
    assert events[0]["method"] == "POST" and events[0]["path"] == "/api/chat"
    assert events[2]["job"] == events[3]["job"] and events[3]["output_tokens"] > 0 and events[5]["strategy"] == "A"
    for e in events:
        assert e["level"] == "info" and time.strptime(e["time"], "%Y-%m-%dT%H:%M:%S." + e["time"][-4:]), e
    assert "secret" not in json.dumps(events)
    s.close()


def test_events_of_a_request_come_from_all_processes(one):
    """What the worker logs stands among them, under a name of its own, with its process and device."""
    t, _ = one()
    s = Subscriber(t)
    _, headers, _ = t.chat("the secret word")
    s.until(lambda e: e["event"] == "request_done")
    rid = headers["X-Tandem-Request-Id"]
    t.chat("another one")
    events = [e for e in s.until(lambda e: e["event"] == "request_done") if e.get("proc")]
    assert {e["event"] for e in events} >= {"worker.job_start", "worker.job_end"}
    for e in events:
        assert (e["proc"], e["device"], e["pid"]) == ("tandem-worker", "gpu0", t.device("gpu0")["pid"])
    logged = [e["ev"] for e in t.events(rid) if e["proc"] == "tandem-worker" and e["level"] == "info"]
    assert logged == ["job_start", "job_end"]
    s.close()


def test_events_do_not_depend_on_the_log_and_hold_no_prompt(one):
    t, _ = one(log={"level": "error", "content": True})
    s = Subscriber(t)
    assert t.chat("the secret word")[0] == 200
    events = s.until(lambda e: e["event"] == "request_done")
    assert len([e for e in events if "proc" not in e]) == 6 and "secret" not in json.dumps(events)
    assert "job_start" not in t.log()
    s.close()


def test_events_of_a_worker(one):
    t, _ = one(backoff={"first_ms": 10, "max_ms": 50})
    s = Subscriber(t)
    pid = t.device("gpu0")["pid"]
    os.kill(pid, signal.SIGKILL)
    events = s.until(lambda e: e["event"] == "worker_state" and e["to"] == "ready")
    assert any(e["event"] == "worker_exit" and e["worker_pid"] == pid and e["exit"] == "signal 9" for e in events)
    states = [e["to"] for e in events if e["event"] == "worker_state"]
    assert states[-4:] == ["back-off", "spawning", "loading", "ready"], states
    s.close()


def test_nngcat_hears_the_events(one):
    t, _ = one()
    heard = subprocess.Popen(["nngcat", "--sub", "--dial", f"ipc://{t.run_dir}/events.ipc", "--subscribe", "", "--raw"],
                             stdout=subprocess.PIPE)
    lines = []

    def read():
        depth, text = 0, b""
        while byte := heard.stdout.read(1):
            depth += (byte == b"{") - (byte == b"}")
            text += byte
            if depth == 0:
                lines.append(json.loads(text))
                text = b""

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_for(lambda: ask(t, "cancel nobody") and lines, "an event at nngcat")
    assert t.chat("hello")[0] == 200
    wait_for(lambda: any(e["event"] == "request_done" for e in lines), "the chat's end at nngcat")
    heard.terminate()
    heard.wait()
    reader.join(DEADLINE)
    heard.stdout.close()


def test_a_subscriber_that_does_not_read_loses_events_and_nothing_else(one):
    t, _ = one(limits={"event_bytes": 16384})
    slow = Subscriber(t)
    before = rss_bytes(t.pid)
    for _ in range(400):  # five events each
        assert t.chat("hello")[0] == 200
    c = ask(t, "counters")
    assert c["events"] >= 2000 and c["events_lost"] > 0
    assert rss_bytes(t.pid) - before < 8 << 20 or SANITIZED
    # It reads at last: what it has missed is counted where it is missing.
    expected, gap, lost = None, 0, 0
    while expected is None or expected <= c["events"]:
        e = slow.next()
        if e["event"] == "lost":
            gap += e["count"]
            lost += e["count"]
        else:
            assert expected is None or e["seq"] == expected + gap, (e, expected, gap)
            expected, gap = e["seq"] + 1, 0
        if lost:  # all that was kept has come: something fresh ends the wait
            ask(t, "cancel nobody")
    assert lost == c["events_lost"]
    slow.close()


def test_a_thousand_events_come_to_who_reads(one):
    t, _ = one()
    s = Subscriber(t)
    heard = in_thread(lambda: [s.next() for _ in range(1000)])
    for _ in range(210):
        assert t.chat("hello")[0] == 200
    events = heard.join(60)
    assert [e["seq"] for e in events] == list(range(events[0]["seq"], events[0]["seq"] + 1000))
    s.close()


# --- who asks badly ---


def heartbeats(t):
    return ask(t, "counters")["devices"][0]["heartbeats"]


def test_readers_that_never_read_delay_no_heartbeat(one):
    t, _ = one()
    peers = []
    for _ in range(40):
        s = socket.socket(socket.AF_UNIX)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        s.connect(os.path.join(t.run_dir, "stats.ipc"))
        s.sendall(b"\0SP\0" + struct.pack(">HH", 0x30, 0))
        for request in (b"nng", b"status", b"histograms", b"backends") * 20:
            s.sendall(struct.pack(">BQI", 1, 4 + len(request), 0x80000001) + request)
        peers.append(s)
    n = heartbeats(t)
    wait_for(lambda: heartbeats(t) >= n + 10, "ten heartbeats meanwhile")
    assert t.chat("hello")[0] == 200
    assert t.device("gpu0")["restarts"] == 0 and ask(t, "workers")["workers"][0]["missed_heartbeats"] < 3
    for s in peers:
        s.close()


def test_hostile_requests_end_with_themselves(one):
    t, _ = one()
    path = os.path.join(t.run_dir, "stats.ipc")
    hello = b"\0SP\0" + struct.pack(">HH", 0x30, 0)
    for bytes_ in (
        hello + struct.pack(">BQ", 1, 1 << 63),
        hello + struct.pack(">BQ", 1, 4097),
        hello + struct.pack(">BQ", 2, 8) + b"12345678",
        hello + struct.pack(">BQ", 1, 4) + b"\0\0\0\0",  # no last request id
        b"\0SP\0" + struct.pack(">HH", 0x21, 0),
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
    ):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(DEADLINE)
            s.connect(path)
            s.sendall(bytes_)
            try:
                while s.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    for text in ("status " + "x" * 4000, "restart " + "a" * 100, "cancel " + "b" * 63, "\x00\x01\x02", '{"a":1}', "drain ../../etc"):
        assert "error" in ask(t, text)
    assert ask(t, "status")["pid"] == t.pid


@pytest.mark.measured
def test_status_is_quick_under_load(one):
    t, _ = one(options=("--slots", "2", "--decode", "200", "--answer-tokens", "100"))
    clients = [in_thread(lambda: t.chat("hello", stream=True)) for _ in range(16)]
    wait_for(lambda: t.device("gpu0")["inflight"] == 2, "load")
    times = []
    for _ in range(100):
        begun = time.monotonic()
        ask(t, "status")
        times.append(spent(begun))
    assert sorted(times)[50] < 0.05, sorted(times)[50]
    for c in clients:
        assert c.join(60)[0] == 200


# --- cancel ---


def cancel(t):
    """Cancels the one request that there is a job of."""
    job = wait_for(lambda: [j for j in ask(t, "jobs")["jobs"] if j["request"]], "a job")[0]
    assert ask(t, "cancel " + job["request"]) == {"cancelled": job["request"]}
    return job["request"]


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_cancel_before_the_answer(one, path):
    t, a = one()
    a.fault(times=1, fault="hang")
    asked = in_thread(lambda: t.request("POST", path, {"model": "m:1b", "messages": [{"role": "user", "content": "x"}]}))
    wait_for(lambda: a.stats()["requests"]["active"] == 1, "request at the backend")
    rid = cancel(t)
    status, headers, body = asked.join()
    error = json.loads(body)["error"]
    assert status == 499 and headers["X-Tandem-Request-Id"] == rid
    assert (error["message"] if path.startswith("/v1") else error) == "cancelled by the operator"
    wait_for(lambda: a.stats()["requests"]["cancelled"] == 1, "the backend's request ends")
    t.wait_idle()
    assert ask(t, "cancel " + rid) == {"error": "no such request is under way"}
    assert t.chat("hello")[0] == 200


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_cancel_in_the_middle_of_a_stream(one, path):
    t, a = one()
    a.fault(times=1, hang_after=3)
    c = Client(t).send("POST", path, {"model": "m:1b", "stream": True, "messages": [{"role": "user", "content": "x"}]})
    assert c.head() == 200
    first = c.piece()
    cancel(t)
    whole = first + c.rest()
    assert whole.count(b"cancelled by the operator") == 1
    if path == "/api/chat":
        assert ndjson(whole)[-1] == {"error": "cancelled by the operator"}
    else:
        assert any("error" in json.loads(d) for d in sse(whole) if d != "[DONE]")
    wait_for(lambda: a.stats()["requests"]["cancelled"] == 1, "the backend's request ends")
    t.wait_idle()
    c.close()


def test_cancel_while_it_waits_and_while_it_comes(one):
    t, a = one()
    a.fault(times=-1, fault="hang", match="stay")
    stay = [Client(t).send("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "stay"}]}) for _ in range(2)]
    wait_for(lambda: t.device("gpu0")["inflight"] == 2, "both slots busy")
    waiting = in_thread(lambda: t.chat("wait"))
    job = wait_for(lambda: [j for j in ask(t, "jobs")["jobs"] if j["state"] == "waiting"], "a waiting job")[0]
    assert ask(t, "cancel " + job["request"]) == {"cancelled": job["request"]}
    assert waiting.join()[0] == 499
    # A request whose body has not come yet has no job: its id is in its first event.
    s = Subscriber(t)
    half = Client(t).send("POST", "/api/chat", b'{"model":', length=1000)
    rid = s.until(lambda e: e["event"] == "request_begin")[-1]["req"]
    assert ask(t, "cancel " + rid) == {"cancelled": rid}
    half.sock.sendall(b" " * 991)  # HTTP has no place for an answer before the body's next piece
    assert half.head() == 499
    for c in (*stay, half):
        c.close()
    s.close()
    t.wait_idle()
    wait_for(lambda: a.stats()["requests"]["active"] == 0, "the backend to hear of it")


def test_cancel_what_passes_through(one):
    t, a = one()
    a.fault(times=1, fault="hang", match="embed")
    asked = in_thread(lambda: t.request("POST", "/api/embed", {"model": "m:1b", "input": "x"}))
    cancel(t)
    status, _, body = asked.join()
    assert status == 499 and "cancelled by the operator" in body.decode()
    t.wait_idle()


# --- tandemctl ---


def test_ctl_shows_each_document(one):
    t, a = one()
    assert t.chat("hello")[0] == 200
    wait_for(lambda: ask(t, "workers")["workers"][0]["heartbeat_ms"] is not None, "a heartbeat")
    for command, words in {"status": ("gpu0", "requests: 0 active"), "workers": ("gpu0", "HEARTBEAT"), "jobs": ("REQUEST",),
                           "queues": ("gpu0", "OLDEST"), "requests": ("m:1b", "/api/chat"), "backends": ("ollama", a.url), "devices": ("TEMPERATURE",),
                           "stats": ("first_byte", "strategy_a", "gpu0"), "top": ("gpu0", "BUSY", "requests:")}.items():
        r = ctl(t, command)
        assert (r.returncode, r.stderr) == (OK, ""), (command, r)
        for word in words:
            assert word in r.stdout, (command, word, r.stdout)
        assert "\x1b" not in r.stdout
        if command != "top":
            assert isinstance(json.loads(ctl(t, command, "--json").stdout), dict)
    both = json.loads(ctl(t, "stats", "--json").stdout)
    assert both["counters"]["requests"] == 1 and both["histograms"]["total"]["A"]["count"] == 1


def test_ctl_shows_a_request_before_its_notes(fake, tandem):
    a, b = fake("main"), fake("small", model=("s:0.5b",))
    t = tandem([attached(a, slots=4, num_ctx=32768), {**attached(b, "gpu1", ("condense",), slots=2, num_ctx=8192), "model": "s:0.5b"}])
    b.fault(times=-1, fault="hang")
    lines = "".join(f"line {i} of src/part_{i % 97}.c holds value_{i};\n" for i in range(1500))
    clients = []
    for _ in range(2):
        messages = [{"role": "user", "content": lines}, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "Say one sentence."}]
        clients.append(Client(t).send("POST", "/api/chat", {"model": "m:1b", "messages": messages}))

    def whole():
        rows = ask(t, "jobs")["jobs"]
        return sum(r["kind"] == "notes" for r in rows) > 6 and sum(r["kind"] == "chat" for r in rows) == 2 and rows

    rows = wait_for(whole, "two requests and their notes")
    seen = []
    for row in rows:
        if row["kind"] == "chat":
            assert row["request"] not in seen and row["state"] == "condensing" and row["job"] is None and row["device"] == "gpu0"
            seen.append(row["request"])
        assert row["request"] == seen[-1], rows
    text = ctl(t, "jobs").stdout
    assert text.index(f"  {seen[0]}  chat") < text.index(f"  {seen[0]}  notes") < text.index(f"  {seen[1]}  chat")
    for c in clients:
        c.close(reset=True)
    t.wait_idle()


def test_ctl_events(one):
    t, _ = one()
    text = subprocess.Popen([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "events", "--count", "6"], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: ask(t, "cancel nobody") and select_readable(text.stdout), "an event")
    as_json = subprocess.Popen([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "events", "--json"], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: ask(t, "cancel nobody") and select_readable(as_json.stdout), "an event")
    for _ in range(2):
        assert t.chat("hello")[0] == 200
    lines = text.communicate(timeout=DEADLINE)[0].splitlines()
    assert text.returncode == OK and len(lines) == 6 and " ordered command=cancel argument=nobody" in lines[0]
    for line in iter(as_json.stdout.readline, ""):
        if json.loads(line)["event"] == "request_done":
            break
    as_json.terminate()
    as_json.wait()
    as_json.stdout.close()


def select_readable(stream, seconds=0.05):
    return select.select([stream], [], [], seconds)[0]


def test_ctl_cancels(one):
    t, a = one()
    a.fault(times=1, fault="hang")
    asked = in_thread(lambda: t.chat("x"))
    rid = wait_for(lambda: ask(t, "jobs")["jobs"], "a job")[0]["request"]
    r = ctl(t, "cancel", rid)
    assert (r.returncode, r.stdout) == (OK, f"{rid}: cancelled\n")
    assert asked.join()[0] == 499
    r = ctl(t, "cancel", rid)
    assert r.returncode == FAILED and r.stderr == "tandemctl: no such request is under way\n"


@pytest.mark.parametrize("command", ["status", "top", "events", "workers", "jobs", "queues", "requests", "request x", "backends", "devices", "stats", "restart",
                                     "drain gpu0", "reset", "reload", "upgrade", "cancel x"])
def test_ctl_without_a_tandemd(folder, command):
    r = subprocess.run([os.path.join(BIN, "tandemctl"), "-R", "/tmp/no-such-folder", *command.split()], capture_output=True, text=True, timeout=20)
    assert r.returncode == NOT_RUNNING and r.stdout == ""
    assert r.stderr == "tandemctl: no tandemd at /tmp/no-such-folder; is it running?\n"


def test_ctl_events_go_on_over_a_restart_of_tandemd(one):
    """nng dials again: who watches need not start anew after an upgrade."""
    t, _ = one()
    p = subprocess.Popen([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "events", "--json"], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: ask(t, "cancel nobody") and select_readable(p.stdout), "an event")
    old = t.pid
    t.popen.terminate()  # its run folder stays
    assert t.popen.wait(DEADLINE) == 0
    again = subprocess.Popen([os.path.join(BIN, "tandemd"), "-c", t.conf], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    wait_for(lambda: ask(t, "status")["pid"] == again.pid != old, "the new tandemd")
    heard = []
    reader = threading.Thread(target=lambda: heard.extend(iter(p.stdout.readline, "")), daemon=True)
    reader.start()
    wait_for(lambda: ask(t, "cancel somebody") and any("somebody" in line for line in list(heard)) or None, "events of the new one")
    p.terminate()
    p.wait()
    again.terminate()
    assert again.wait(DEADLINE) == 0
