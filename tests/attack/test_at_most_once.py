"""What changes something reaches a backend once, whatever becomes of the connection it goes over."""

import threading

import pytest

from harness import in_thread, wait_for
from peer import Peer, device, reply

ORDERS = [
    ("DELETE", "/api/delete", {"model": "m:1b"}), ("POST", "/api/copy", {"source": "m:1b", "destination": "n"}),
    ("POST", "/api/create", {"model": "n", "from": "m:1b"}), ("POST", "/api/push", {"model": "m:1b"}), ("POST", "/api/pull", {"model": "n"}),
    ("POST", "/api/anything", {"a": 1}), ("POST", "/api/blobs/sha256:" + "1" * 64, b"x" * 100), ("PUT", "/x", {"a": 1}), ("PATCH", "/x", {"a": 1}),
    ("POST", "/slots/0?action=erase", {}), ("POST", "/v1/files", {"a": 1}), ("DELETE", "/v1/files/1", None), ("POST", "/api/empty", b""),
]


def warm(t, n=16):
    """n kept connections between worker and backend: the requests meet in the backend, so each has its own."""
    threads = [in_thread(lambda: t.request("GET", "/warm")) for _ in range(n)]
    for th in threads:
        assert th.join()[0] == 200


@pytest.mark.parametrize("how", ["fresh", "kept"])
def test_an_order_is_never_sent_twice(tandem, how):
    together = threading.Barrier(16)

    def answer(r):
        if r[1] == "/warm":
            together.wait(10)
            return reply(b"{}")
        return None  # read, and closed without a word

    peer = Peer(answer)
    t = tandem([device(peer)])
    for n, (method, target, body) in enumerate(ORDERS):
        if how == "kept":
            warm(t)
        before = len(peer.seen)
        status, _, data = t.request(method, target, body)
        assert status == 502, (method, target, status, data[:200])
        assert [r[:2] for r in peer.seen[before:]] == [(method, target)], n
    peer.close()


def test_a_question_is_asked_again_over_a_fresh_connection(tandem):
    """A kept connection that the backend has closed in the meantime is no reason for an error, of orders either."""
    together = threading.Barrier(8)
    peer = Peer(lambda r: (together.wait(10) if r[1] == "/warm" else None, reply(b'{"ok":1}'))[1])
    t = tandem([device(peer)])
    for method, target in [("GET", "/x"), ("POST", "/api/show"), ("DELETE", "/api/delete"), ("POST", "/api/copy")]:
        warm(t, 8)
        peer.cut()
        before = peer.count()
        assert t.request(method, target, None if method == "GET" else {"model": "m:1b"})[0] == 200, target
        assert peer.count() == before + 1
    peer.close()


def test_a_generation_that_is_closed_without_a_word_is_bounded(tandem):
    """Each try of ours is at most two of the transfer library's: kept connections do not multiply what a prompt may do."""
    together = threading.Barrier(16)
    peer = Peer(lambda r: (together.wait(10), reply(b"{}"))[1] if r[1] == "/warm" else None)
    t = tandem([device(peer)], limits={"request_deaths": 2})
    warm(t)
    before = peer.count("/completion")
    status, _, _ = t.request("POST", "/completion", {"model": "m:1b", "prompt": "x"})
    assert status in (502, 422)
    wait_for(lambda: t.requests()["active"] == 0, "end")
    assert 1 <= peer.count("/completion") - before <= 4
    peer.close()
