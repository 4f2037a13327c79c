"""Many large requests at once: they wait for the worker, which is neither given up nor the streams beside it cut."""

import selectors
import socket
import time

import pytest

from conftest import attached
from harness import in_thread, ollama_text, wait_for
from peer import Peer, device, reply


def burst(t, n, size, path="/api/blobs/sha256:" + "1" * 64, method="POST", chunk=1 << 16):
    """n uploads side by side over as many connections; the statuses."""
    body = b"x" * size
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode()
    if path.startswith("/v1"):
        body = b'{"model":"m:1b","input":"' + b"x" * (size - 27) + b'"}'
    sel = selectors.DefaultSelector()
    state = {}
    for _ in range(n):
        s = socket.create_connection(("127.0.0.1", t.port))
        s.setblocking(False)
        state[s] = [memoryview(head + body), b""]
        sel.register(s, selectors.EVENT_READ | selectors.EVENT_WRITE)
    out = []
    end = time.monotonic() + 120
    while state:
        assert time.monotonic() < end, f"{len(state)} uploads never ended"
        for key, events in sel.select(5):
            s = key.fileobj
            if events & selectors.EVENT_WRITE and state[s][0]:
                try:
                    state[s][0] = state[s][0][s.send(state[s][0][:chunk]):]
                except BlockingIOError:
                    pass
                except OSError:
                    state[s][0] = memoryview(b"")
                if not state[s][0]:
                    sel.modify(s, selectors.EVENT_READ)
            if events & selectors.EVENT_READ:
                try:
                    piece = s.recv(1 << 16)
                except OSError:
                    piece = b""
                state[s][1] += piece
                if not piece or b"\r\n\r\n" in state[s][1]:
                    out.append(int(state[s][1].split()[1]) if state[s][1] else 0)
                    sel.unregister(s)
                    s.close()
                    del state[s]
    return out


def steady(t, before):
    d = t.device("gpu0")
    assert (d["pid"], d["restarts"], d["generation"]) == (before["pid"], before["restarts"], before["generation"]), t.log()[-2000:]


@pytest.mark.parametrize("link,n,size", [(262144, 60, 292 << 10), (1 << 20, 150, 292 << 10), (67108864, 400, 292 << 10)])
def test_a_burst_of_uploads_kills_no_worker(fake, tandem, link, n, size):
    a = fake("main", options=("--decode", "50"))
    t = tandem([attached(a, slots=4)], limits={"link_bytes": link}, log={"level": "info"})
    before = t.device("gpu0")
    stream = in_thread(lambda: t.chat("say something", stream=True, options={"num_predict": 200}))
    wait_for(lambda: t.device("gpu0")["inflight"] == 1, "the stream")
    statuses = burst(t, n, size)
    assert set(statuses) <= {200, 201} and len(statuses) == n, {s: statuses.count(s) for s in set(statuses)}
    status, _, data = stream.join(60)
    assert status == 200 and b'"done":true' in data and b"error" not in data
    steady(t, before)
    assert "reads too slowly" not in t.log()
    t.wait_idle(60)


def test_a_burst_of_held_bodies(fake, tandem):
    """Bodies that are held whole (a model's name is looked for in them) take the same way."""
    a = fake("main")
    t = tandem([attached(a, slots=4)], limits={"link_bytes": 1 << 20, "queue": 200, "queue_per_client": 0}, log={"level": "info"})
    before = t.device("gpu0")
    statuses = burst(t, 100, 292 << 10, "/v1/embeddings")
    assert len(statuses) == 100 and not set(statuses) & {0, 502, 503}, {s: statuses.count(s) for s in set(statuses)}
    steady(t, before)


def test_a_burst_of_answers_kills_no_worker(tandem):
    """The other way: many large answers whose readers are slower than the backend."""
    big = b"y" * (1 << 20)
    peer = Peer(lambda r: reply(big))
    t = tandem([device(peer)], log={"level": "info"})
    before = t.device("gpu0")
    threads = [in_thread(lambda: t.request("GET", "/big", timeout=100)) for _ in range(60)]
    for th in threads:
        status, _, data = th.join(100)
        assert status == 200 and data == big
    steady(t, before)
    peer.close()
