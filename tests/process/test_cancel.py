"""Clients that leave, in each phase of a request: everything they started ends within 100 ms, and nothing is left of it."""

import json
import os
import random
import select
import signal
import socket
import threading
import time

import pytest

from harness import Client, fd_count, in_thread, spent, wait_for
from test_routes import prompt

CANCEL_S = 0.1
TRIES = 4  # the machine may be busy: the best of so many counts

PATHS = ["/api/chat", "/api/generate", "/v1/chat/completions"]


def ask(path, text, stream=True, **more):
    body = {"model": "m:1b", "stream": stream, **more}
    return {**body, "prompt": text} if path == "/api/generate" else {**body, "messages": [{"role": "user", "content": text}]}


def leave_and_time(client, gone, reset=False):
    """Leaves; seconds until gone() says that it was noticed, less what the machine was late."""
    begun = time.monotonic()
    client.close(reset)
    wait_for(gone, "end of what the client had started")
    return spent(begun)


def soon(scenario):
    """scenario() returns the seconds that one cancel took."""
    times = []
    while len(times) < TRIES and not (times and min(times) < CANCEL_S):
        times.append(scenario())
    assert min(times) < CANCEL_S, times


def cancelled(backend):
    return backend.stats()["requests"]["cancelled"]


def under_way(backend, n=1):
    return wait_for(lambda: backend.stats()["requests"]["active"] == n, f"{n} request(s) at the backend")


def check_clean(t, n):
    """All jobs are gone and the n requests are counted as cancelled, not as failed."""
    t.wait_idle()
    counts = t.requests()
    assert counts["cancelled"] == n and counts["failed"] == 0, counts
    assert t.chat("hello")[0] == 200


@pytest.mark.parametrize("path", PATHS)
def test_uploading(pair, path):
    t, a, b = pair()
    c = Client(t).send("POST", path, b'{"model":"m:1b",', length=5000)
    wait_for(lambda: t.status()["held_bytes"] > 0, "the body's first bytes")
    c.close()
    check_clean(t, 1)
    assert a.stats()["requests"]["by_path"].get(path, 0) == (path == "/api/chat")  # only the check's own


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("small", ["ollama", "llama-server"])
@pytest.mark.parametrize("tokens", [3568, 10981])
def test_condensing(pair, small, tokens, reset):
    t, a, b = pair(small=small)
    b.fault(times=-1, fault="hang", match="src/part_")
    runs = 0

    def scenario():
        nonlocal runs
        runs += 1
        before = cancelled(b)
        c = Client(t).send("POST", "/api/chat", ask("/api/chat", prompt(tokens)))
        under_way(b, 1 if tokens < 6000 else 2)
        return leave_and_time(c, lambda: b.stats()["requests"]["active"] == 0 and cancelled(b) > before, reset)

    soon(scenario)
    assert a.stats()["requests"]["total"] == 0 or "/api/chat" not in a.stats()["requests"]["by_path"]
    check_clean(t, runs)


@pytest.mark.parametrize("stream", [True, False])
def test_waiting_for_a_slot(pair, stream):
    t, a, b = pair(main_device={"slots": 1})
    a.fault(times=1, fault="hang")
    first = Client(t).send("POST", "/api/chat", ask("/api/chat", "first"))
    under_way(a)
    second = Client(t).send("POST", "/api/chat", ask("/api/chat", "second", stream))
    wait_for(lambda: t.status()["queue"]["waiting"] == 1, "the second request in the queue")
    soon_enough = leave_and_time(second, lambda: t.status()["queue"]["waiting"] == 0)
    assert soon_enough < 5 * CANCEL_S
    assert t.requests()["cancelled"] == 1 and t.requests()["active"] == 1
    first.close()
    check_clean(t, 2)
    assert not any(b"second" in body for body in a.bodies())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("main", ["ollama", "llama-server"])
def test_before_the_first_byte(pair, main, path, stream):
    t, a, b = pair(main)
    assert t.chat("warm up")[0] == 200
    a.fault(times=-1, fault="hang", match="stay")
    runs = 0

    def scenario():
        nonlocal runs
        runs += 1
        before = cancelled(a)
        c = Client(t).send("POST", path, ask(path, "stay", stream))
        under_way(a)
        return leave_and_time(c, lambda: cancelled(a) > before)

    soon(scenario)
    check_clean(t, runs)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("main", ["ollama", "llama-server"])
def test_while_it_generates(pair, main, path, stream):
    t, a, b = pair(main, main_options=("--decode", "100"))
    runs = 0

    def scenario():
        nonlocal runs
        runs += 1
        before = cancelled(a)
        c = Client(t).send("POST", path, ask(path, "[[fake tokens=2000]]", stream))
        if stream:
            assert c.head() == 200 and c.piece()
        else:
            wait_for(lambda: a.stats()["slots"]["active"] == 1, "a slot at work")
        return leave_and_time(c, lambda: cancelled(a) > before)

    soon(scenario)
    check_clean(t, runs)


def test_after_early_heartbeats(pair):
    t, a, b = pair(deadlines={"first_byte_ms": 50, "heartbeat_ms": 20})
    assert t.chat("warm up")[0] == 200
    a.fault(times=-1, fault="hang", match="stay")
    runs = 0

    def scenario():
        nonlocal runs
        runs += 1
        before = cancelled(a)
        c = Client(t).send("POST", "/api/chat", ask("/api/chat", "stay"))
        assert c.head() == 200 and c.piece() == b" " and c.piece() == b" "
        under_way(a)
        return leave_and_time(c, lambda: cancelled(a) > before)

    soon(scenario)
    check_clean(t, runs)


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_does_not_read(pair, path):
    """It leaves with megabytes unread: the answer stands still by then, and still ends."""
    t, a, b = pair(main_options=("--num-ctx", "1000000"))
    c = Client(t, SO_RCVBUF=4096).send("POST", path, ask(path, "[[fake tokens=400000]]"))
    assert c.head() == 200
    # The backend is held up: what it has sent stops growing short of the whole.
    sizes = [-1]

    def still():
        sizes.append(a.stats()["bytes_sent"])
        return sizes[-1] == sizes[-2] > 0 and len(sizes) > 10

    wait_for(still, "back-pressure at the backend")
    assert a.stats()["requests"]["active"] == 1
    before = cancelled(a)
    c.close(reset=True)
    wait_for(lambda: cancelled(a) > before, "cancel at the backend")
    check_clean(t, 1)


@pytest.mark.parametrize("how", ["chat", "notes"])
def test_a_load_in_progress_is_left_to_finish(pair, how):
    slow = ("--load-ms", "1500")
    t, a, b = pair(main_options=slow if how == "chat" else (), small_options=slow if how == "notes" else ())
    backend = a if how == "chat" else b
    c = Client(t).send("POST", "/api/chat", ask("/api/chat", "hello" if how == "chat" else prompt(3568)))
    under_way(backend)
    begun = time.monotonic()
    c.close()
    t.wait_idle()  # for the gateway it is over at once
    assert spent(begun) < 1.2
    wait_for(lambda: backend.stats()["requests"]["active"] == 0, "end of the load")
    stats = backend.stats()
    assert stats["loads"] == 1 and stats["loads_aborted"] == 0, stats
    assert t.requests()["cancelled"] == 1
    begun = time.monotonic()
    assert t.chat("hello" if how == "chat" else prompt(3568))[0] == 200
    assert spent(begun) < 1.5, "the model had to be loaded again"


@pytest.mark.parametrize("backend", ["ollama", "llama-server"])
def test_passed_through(pair, backend):
    t, a, b = pair(backend)
    a.fault(times=-1, fault="hang", match="embed")
    runs = 0

    def scenario():
        nonlocal runs
        runs += 1
        before = cancelled(a)
        c = Client(t).send("POST", "/v1/embeddings", {"model": "m:1b", "input": "embed"})
        under_way(a)
        return leave_and_time(c, lambda: cancelled(a) > before)

    soon(scenario)
    check_clean(t, runs)


def test_streaming_upload_passed_through(pair):
    t, a, b = pair()
    runs = 0

    def scenario():
        nonlocal runs
        runs += 1
        before = cancelled(a)
        c = Client(t).send("POST", "/api/blobs/sha256:" + "0" * 64, b"x" * 300000, length=1 << 30)
        under_way(a)
        return leave_and_time(c, lambda: cancelled(a) > before)

    soon(scenario)
    check_clean(t, runs)


def test_while_the_main_backend_is_away(pair):
    t, a, b = pair(deadlines={"first_byte_ms": 50, "heartbeat_ms": 20})
    a.stop(signal.SIGKILL)
    c = Client(t).send("POST", "/api/chat", ask("/api/chat", "hello"))
    assert c.head() == 200 and c.piece() == b" "
    assert leave_and_time(c, lambda: t.requests()["active"] == 0) < 5 * CANCEL_S
    t.wait_idle()
    assert t.requests()["cancelled"] == 1


def test_a_large_body_on_its_way_to_the_worker(pair):
    """The worker's credit for a body comes after its request is gone."""
    t, a, b = pair(condense={"max_chunks": 1}, routing={"a_max_tokens": 10**7, "b_max_tokens": 10**7},
                   main_device={"num_ctx": 10**7}, deadlines={"ping_ms": 60000})  # it is stopped, and stays
    worker = t.device("gpu0")["pid"]
    for size in (600_000, 3_000_000):
        os.kill(worker, signal.SIGSTOP)
        try:
            c = Client(t).send("POST", "/api/chat", ask("/api/chat", "x" * size))
            wait_for(lambda: t.device("gpu0")["inflight"] == 1, "the job at the worker")
            cancels = t.requests()["cancelled"]
            c.close()
            wait_for(lambda: t.requests()["cancelled"] == cancels + 1, "the cancel")
        finally:
            os.kill(worker, signal.SIGCONT)
        t.wait_idle()
    assert t.device("gpu0")["pid"] == worker
    check_clean(t, 2)


class Deaf:
    """An Ollama that answers probes, each on a connection of its own, until deafen(): then connects are never completed."""

    REPLIES = {"/api/version": b'{"version":"0.33.0"}', "/api/tags": b'{"models":[]}'}

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.socket.settimeout(0.02)
        self.url = "http://127.0.0.1:%d" % self.socket.getsockname()[1]
        self.deaf = threading.Event()
        self.fill = []
        self.thread = in_thread(self.serve)

    def serve(self):
        while not self.deaf.is_set():
            try:
                c = self.socket.accept()[0]
            except TimeoutError:
                continue
            with c:
                c.settimeout(5)
                request = c.recv(65536).decode()
                body = self.REPLIES.get(request.split()[1], b"{}")
                c.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def deafen(self):
        self.deaf.set()
        self.thread.join()
        while True:  # until the kernel's queue is full
            s = socket.socket()
            s.setblocking(False)
            self.fill.append(s)
            s.connect_ex(self.socket.getsockname())
            if not select.select([], [s], [], 0.2)[1]:
                return

    def close(self):
        for s in [self.socket, *self.fill]:
            s.close()


def test_while_the_worker_connects(tandem):
    backend = Deaf()
    t = tandem([{"name": "gpu0", "roles": ["main"], "slots": 2, "model": "m:1b", "num_ctx": 4096,
                 "backend": {"type": "ollama", "url": backend.url}}])
    worker = t.device("gpu0")["pid"]
    backend.deafen()
    for n in range(3):
        clients = [Client(t).send("POST", path, ask(path, "hello")) for path in PATHS[:2]]
        wait_for(lambda: t.device("gpu0")["inflight"] == 2, "jobs at the worker")
        for c in clients:
            c.close()
        wait_for(lambda: t.requests()["cancelled"] == 2 * n + 2, "the cancels")
        wait_for(lambda: t.device("gpu0")["inflight"] == 0, "free slots")
    assert t.device("gpu0")["pid"] == worker
    t.stop()
    assert "exit=\"exit 0\"" in t.log()
    backend.close()


def test_a_crowd_that_leaves_at_random(pair):
    t, a, b = pair(main_options=("--decode", "2000", "--slots", "8"), small_options=("--decode", "3000", "--slots", "4"),
                   main_device={"slots": 8})
    for text in ("hi", prompt(3000), prompt(8000)):
        assert t.chat(text)[0] == 200
    t.wait_idle()
    pids = {"tandemd": t.pid, "gpu0": t.device("gpu0")["pid"], "gpu1": t.device("gpu1")["pid"]}
    rng = random.Random(7)
    texts = ["short [[fake tokens=300]]", prompt(3000) + "[[fake tokens=300]]", prompt(8000) + "[[fake tokens=300]]"]
    total = 0
    for _ in range(12):
        clients = []
        for _ in range(8):
            path = rng.choice(PATHS)
            body = json.dumps(ask(path, rng.choice(texts), rng.random() < 0.7)).encode()
            whole = rng.random() < 0.85
            c = Client(t).send("POST", path, body if whole else body[: len(body) // 2], length=len(body))
            clients.append(c)
            total += 1
        rng.shuffle(clients)
        for c in clients:
            if rng.random() < 0.3:
                c.sock.settimeout(rng.random() * 0.1)
                try:
                    c.more()
                except OSError:
                    pass
            c.close(reset=rng.random() < 0.5)
    t.wait_idle()
    counts = t.requests()
    assert counts["failed"] == 0 and 0 < counts["cancelled"] <= total, counts
    assert counts["total"] <= total + 3  # a reset may overtake its request
    now = {"tandemd": t.pid, "gpu0": t.device("gpu0")["pid"], "gpu1": t.device("gpu1")["pid"]}
    assert now == pids, "a process died"
    wait_for(lambda: a.stats()["requests"]["active"] == 0 and b.stats()["requests"]["active"] == 0, "idle backends")
    wait_for(lambda: t.status()["connections"] == 0, "closed connections")
    assert fd_count(t.pid) < 64
    for text in ("hi", prompt(3000), prompt(8000)):
        assert t.chat(text)[0] == 200
