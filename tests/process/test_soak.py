"""Thousands of mixed requests leave memory, descriptors, processes and counters where they were. SOAK_REQUESTS says how many."""

import collections
import http.client
import json
import os
import random
import threading
import time

from harness import children, fd_count, ndjson, rss_bytes, sse, wait_for
from test_routes import prompt

REQUESTS = int(os.environ.get("SOAK_REQUESTS", "10000"))
THREADS = 8
GROWTH = int(os.environ.get("SOAK_GROWTH_BYTES", str(4 << 20)))

PROMPTS = {"A": "hi there", "B": prompt(3568), "C": prompt(10000)}
# of 1000; condensing costs the most
KINDS = {"A": 560, "B": 40, "C": 12, "cancel": 60, "cancel B": 10, "backend error": 60, "backend cut": 30, "bad json": 60, "pass": 78,
         "probe": 60, "not found": 30}


class Client(threading.Thread):
    """One keep-alive connection; counts what it saw."""

    def __init__(self, t, seed, todo):
        super().__init__(daemon=True)
        self.t, self.random, self.todo = t, random.Random(seed), todo
        self.seen = collections.Counter()
        self.connection = None
        self.error = None

    def run(self):
        try:
            kinds, weights = zip(*KINDS.items())
            for kind in self.random.choices(kinds, weights, k=self.todo):
                self.one(kind)
            self.drop()
        except BaseException as e:  # noqa: BLE001 - told by the test
            self.error = e

    def drop(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def send(self, method, path, body=None):
        if not self.connection:
            self.connection = self.t.connect()
        self.connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        return self.connection

    def answer(self, method, path, body=None):
        r = self.send(method, path, body).getresponse()
        data = r.read()
        if r.will_close:
            self.drop()
        return r, data

    def chat(self, content, stream, openai):
        body = {"model": "m:1b", "stream": stream, "messages": [{"role": "user", "content": content}]}
        return "/v1/chat/completions" if openai else "/api/chat", json.dumps(body)

    def one(self, kind):
        stream, openai = self.random.random() < 0.6, self.random.random() < 0.5
        self.seen[kind] += 1
        if kind in PROMPTS:
            self.seen["chats"] += 1
            r, data = self.answer("POST", *self.chat(PROMPTS[kind], stream, openai))
            assert r.status == 200 and r.headers["X-Tandem-Strategy"] == kind, (kind, r.status, data[:300])
            if stream:
                assert sse(data)[-1] == "[DONE]" if openai else ndjson(data)[-1]["done"], data[-300:]
            else:
                json.loads(data)
        elif kind.startswith("cancel"):
            self.seen["chats"] += 1
            self.seen["cancelled"] += 1
            content = PROMPTS["B"] + " [[fake fault=hang]]" if kind == "cancel B" else f"[[fake {self.random.choice(['fault=hang', 'hang_after=2'])}]]"
            c = self.send("POST", *self.chat(content, stream, openai))
            if self.random.random() < 0.5:
                c.sock.settimeout(0.02)
                try:
                    c.sock.recv(100)
                except TimeoutError:
                    pass
            self.drop()
        elif kind == "backend error":
            self.seen["chats"] += 1
            status = self.random.choice([400, 404, 500, 503])
            self.seen["failed" if status >= 500 else "refused"] += 1
            r, data = self.answer("POST", *self.chat(f"[[fake fault={status} error=no]]", stream, openai))
            assert r.status == status and b"no" in data, (r.status, data)
        elif kind == "backend cut":
            self.seen["chats"] += 1
            self.seen["failed"] += 1
            r, data = self.answer("POST", *self.chat("[[fake cut=3]]", True, openai))
            assert b"error" in data, data
        elif kind == "bad json":
            self.seen["chats"] += 1
            self.seen["refused"] += 1
            r, data = self.answer("POST", "/v1/chat/completions" if openai else "/api/chat", '{"model": "m:1b", "messages": [}')
            assert r.status == 400, (r.status, data)
        elif kind == "pass":
            self.seen["passed"] += 1
            if openai:
                r, data = self.answer("POST", "/api/embed", json.dumps({"model": "m:1b", "input": "some text"}))
            else:
                r, data = self.answer("POST", "/api/show", json.dumps({"model": "m:1b"}))
            assert r.status == 200, (r.status, data)
        elif kind == "probe":
            r, data = self.answer("GET", self.random.choice(["/", "/api/version", "/api/tags", "/v1/models"]))
            assert r.status == 200 and data
        else:
            r, data = self.answer("GET", "/no/such/path")
            assert r.status == 404, (r.status, data)


def storm(t, n, seed):
    """n requests from all threads; what they saw, together."""
    clients = [Client(t, seed + i, n // THREADS) for i in range(THREADS)]
    for c in clients:
        c.start()
    for c in clients:
        c.join(600)
        assert not c.is_alive(), "a client hangs"
        if c.error:
            raise c.error
    return sum((c.seen for c in clients), collections.Counter())


def quiet(t):
    s = t.status()
    return (s["requests"]["active"] == 0 and s["queue"]["waiting"] == 0 and s["connections"] == 0 and s["held_bytes"] == 0 and
            all(d["inflight"] == 0 and d["waiting"] == 0 for d in s["devices"]))


def picture(t):
    pids = [t.pid] + sorted(children(t.pid))
    return {pid: (rss_bytes(pid), fd_count(pid)) for pid in pids}


def sanitized(pid):
    """AddressSanitizer keeps what is freed for a while: memory says nothing then."""
    with open(f"/proc/{pid}/maps") as f:
        return "asan" in f.read()


def test_soak(pair):
    t, a, b = pair(log={"level": "warn"}, main_device={"slots": 8}, main_options=("--slots", "8"), small_device={"slots": 4},
                   small_options=("--slots", "4"))
    warm = max(REQUESTS // 10, 400)
    seen = storm(t, warm, 1000)
    wait_for(lambda: quiet(t), "quiet after the warm-up")
    before = picture(t)
    begun = time.monotonic()
    seen += storm(t, REQUESTS, 2000)
    took = time.monotonic() - begun
    wait_for(lambda: quiet(t), f"quiet; {t.status()}")
    # A worker keeps a few connections to its backend, now more, now fewer; a leak would be hundreds.
    spare = {pid: 0 if pid == t.pid else 12 for pid in before}
    wait_for(lambda: all(picture(t)[pid][1] <= before[pid][1] + spare[pid] for pid in before), f"descriptors as before: {before}, {picture(t)}")
    after = picture(t)
    print(f"\n{REQUESTS} requests in {took:.1f} s; (rss, fds) of each process: {before} -> {after}")
    assert list(before) == list(after), "the same processes"
    for pid, (rss, _) in before.items():
        if sanitized(pid):
            continue
        assert after[pid][0] - rss < GROWTH, (before, after)

    requests = t.status()["requests"]
    assert requests["total"] == seen["chats"]
    assert (requests["failed"], requests["refused"]) == (seen["failed"], seen["refused"])
    assert requests["cancelled"] == seen["cancelled"]
    assert requests["fallbacks"] == 0
    assert requests["by_strategy"]["B"] >= seen["B"] and requests["by_strategy"]["C"] == seen["C"]
    assert seen["passed"] <= requests["passed"] <= seen["passed"] + seen["not found"] + seen["probe"]
    assert [(d["generation"], d["restarts"]) for d in t.status()["devices"]] == [(1, 0), (1, 0)]
    assert t.request("POST", "/api/chat", json.dumps({"model": "m:1b", "stream": False, "messages": []}))[0] == 200
