"""A backend that our own requests keep from answering its health is busy, not down."""

import threading

import pytest

from harness import in_thread, wait_for
from peer import PROBES, Peer, device, reply


class Busy(Peer):
    """While `stuck` is set its probes get no answer, as when all threads of a server have our requests."""

    stuck = False

    def _request(self, f):
        r = super()._request(f)
        if r and self.stuck and r[1] in PROBES[self.type]:
            self.probed.set()
            while self.stuck:
                self.let.wait(0.05)
        return r


@pytest.mark.measured
def test_silence_beside_our_own_requests(tandem):
    """A stream that goes on says that the backend lives: three silent probes (30 s) do not take the waiting chats."""
    going = threading.Event()

    def answer(r):
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        while not going.is_set():
            yield b"1\r\nx\r\n"
            yield 0.1
        yield b"0\r\n\r\n"

    peer = Busy(answer, "llama-server")
    peer.probed, peer.let = threading.Event(), threading.Event()
    t = tandem([device(peer)])
    passed = in_thread(lambda: t.request("GET", "/long", timeout=120))
    wait_for(lambda: peer.count("/long"), "the request")
    peer.stuck = True
    assert peer.probed.wait(20), "a probe"
    silent = lambda: sum(1 for e in t.events() if e["ev"] == "backend_probe" and e.get("found") == "silent")
    wait_for(lambda: silent() >= 4, "four silent probes", 90)
    assert t.device("gpu0")["state"] == "ready"
    peer.stuck = False
    going.set()
    assert passed.join(60)[0] == 200
    peer.close()


@pytest.mark.measured
def test_a_backend_that_has_stopped_is_down(tandem):
    """Nothing comes of anything: after backend_silent_ms our requests excuse it no longer."""
    peer = Busy(lambda r: [Peer.HOLD], "llama-server")
    peer.probed, peer.let = threading.Event(), threading.Event()
    t = tandem([device(peer)], deadlines={"backend_silent_ms": 1000})
    passed = in_thread(lambda: t.request("GET", "/long", timeout=120))
    wait_for(lambda: peer.count("/long"), "the request")
    peer.stuck = True
    assert passed.join(90)[0] == 504
    assert t.device("gpu0")["state"] != "ready"
    peer.stuck = False
    peer.close()
