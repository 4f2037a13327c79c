"""The queue cannot be walked round: what takes a slot waits for it, whatever its path, and one client is one client."""

import json

import pytest

from harness import in_thread, wait_for
from peer import Peer, device, reply
from test_ends import chunked, ollama, openai

import threading


class Slots(Peer):
    """Counts how many requests it has at once; each waits for a word."""

    def __init__(self, type):
        self.now = self.most = 0
        self.go = threading.Semaphore(0)
        super().__init__(self.work, type)

    def work(self, r):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.go.acquire()
        with self.lock:
            self.now -= 1
        if r[1] in ("/api/chat", "/v1/chat/completions"):
            return chunked(ollama("x") if r[1] == "/api/chat" else openai("x"), "application/x-ndjson" if r[1] == "/api/chat" else "text/event-stream")
        return reply(b'{"choices":[]}')


PATHS = [("llama-server", p) for p in ("/completion", "/%63ompletion", "/infill", "/%u0069nfill", "/v1%2Fembeddings", "/v1/embeddings", "/rerank")] + \
        [("ollama", p) for p in ("/completion",)]


@pytest.mark.parametrize("type,path", PATHS)
def test_passed_generations_wait_for_a_slot(tandem, type, path):
    peer = Slots(type)
    t = tandem([device(peer, slots=1)])
    many = [in_thread(lambda: t.request("POST", path, {"model": "m:1b", "prompt": "x", "input": "x"}, {"User-Agent": "batch/1"}, timeout=60)) for _ in range(12)]
    wait_for(lambda: t.device("gpu0")["waiting"] == 11, "the row")
    chat = in_thread(lambda: t.request("POST", "/api/chat" if type == "ollama" else "/v1/chat/completions",
                                       {"model": "m:1b", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
                                       {"User-Agent": "Mozilla/5.0", "Authorization": "Bearer other"}, timeout=60))
    wait_for(lambda: t.device("gpu0")["waiting"] == 12, "the chat behind them")
    peer.go.release(3)
    assert chat.join()[0] == 200, "another client's turn comes after one or two of theirs, not after all"
    peer.go.release(20)
    assert all(th.join()[0] == 200 for th in many)
    assert peer.most == 1
    t.wait_idle()
    peer.close()


def test_what_writes_nothing_waits_for_nobody(tandem):
    peer = Slots("ollama")
    t = tandem([device(peer, slots=1)])
    chat = in_thread(lambda: t.chat("hi", stream=True))
    wait_for(lambda: peer.now == 1, "the chat")
    side = [in_thread(lambda p=p: t.request("POST", p, {"model": "m:1b", "input": "x"})) for p in ("/api/show", "/api/copy")]
    wait_for(lambda: peer.now == 3, "both beside it")
    peer.go.release(3)
    assert chat.join()[0] == 200 and all(s.join()[0] == 200 for s in side)
    peer.close()


@pytest.mark.parametrize("path", ["/api/chat", "/completion"])
def test_many_names_are_one_client(tandem, path):
    """limits.queue_per_client holds although each request has a User-Agent of its own."""
    peer = Slots("ollama")
    t = tandem([device(peer, slots=1)], limits={"queue_per_client": 5})
    body = lambda i: {"model": "m:1b", "stream": True, "prompt": f"x{i}", "messages": [{"role": "user", "content": f"hi {i}"}]}
    asked = [in_thread(lambda i=i: t.request("POST", path, body(i), {"User-Agent": f"agent/{i}"}, timeout=60)) for i in range(30)]
    wait_for(lambda: sum(not th.is_alive() for th in asked) == 24, "the refusals")
    peer.go.release(30)
    statuses = sorted(th.join()[0] for th in asked)
    assert statuses == [200] * 6 + [503] * 24
    assert t.status()["queue"]["clients"] == 0
    peer.close()
