"""Poison told from weather: a port that accepts and closes is a backend that is not there, not a prompt that kills."""

import threading
import time

import pytest

from harness import in_thread, wait_for
from peer import Peer, device, reply
from test_ends import answer_of, chunked, text_of


def speaks(type="ollama"):
    def answer(r):
        pieces, media = answer_of(type, r, "all ", "well")
        return chunked(pieces, media)

    return answer


def states(t):
    return [e["state"] for e in t.events() if e["ev"] == "backend_state" and e["proc"] == "tandemd"]


@pytest.mark.parametrize("type", ["ollama", "llama-server"])
def test_a_proxy_before_a_restarting_backend(tandem, type):
    """Accepts and closes for a while: the chat waits, is answered, and no client's prompt is banned."""
    peer = Peer(speaks(type), type)
    t = tandem([device(peer)])
    path = "/api/chat" if type == "ollama" else "/v1/chat/completions"
    ask = lambda agent: t.request("POST", path, {"model": "m:1b", "stream": True, "messages": [{"role": "user", "content": "hi"}]}, {"User-Agent": agent})
    peer.up = False
    peer.cut()
    asked = [in_thread(lambda a=a: ask(a)) for a in ("one", "two")]
    wait_for(lambda: "down" in states(t), "word that it is away")
    peer.up = True
    for th in asked:
        status, _, data = th.join()
        assert status == 200 and text_of(path, data) == "all well", (status, data)
    assert ask("three")[0] == 200
    assert not any(e["ev"] == "poison" for e in t.events())
    peer.close()


def test_a_connection_that_is_read_and_closed_by_what_is_not_there(tandem):
    """The same with a proxy that takes the whole request first."""
    peer = Peer(speaks())
    t = tandem([device(peer)])
    real, gone = peer.answer, threading.Event()

    def answer(r):
        if gone.is_set():
            return real(r)
        peer.up = False  # from here on nobody is there
        peer.cut()
        gone.set()
        return None

    peer.answer = answer
    asked = in_thread(lambda: t.chat("hi", stream=True))
    wait_for(lambda: "down" in states(t), "word that it is away")
    peer.up = True
    assert asked.join()[0] == 200
    peer.close()


def test_a_prompt_that_kills_is_refused_and_only_that_client(tandem):
    """The backend is there, and closes each time: that is the request's doing."""
    peer = Peer(lambda r: None if b"kill" in r[3] else chunked(answer_of("ollama", r, "ok")[0], "application/x-ndjson"))
    t = tandem([device(peer)], limits={"request_deaths": 2})
    body = {"model": "m:1b", "stream": False, "messages": [{"role": "user", "content": "kill"}]}
    a = {"Authorization": "Bearer a"}
    assert t.request("POST", "/api/chat", body, a)[0] == 422
    before = peer.count("/api/chat")
    assert t.request("POST", "/api/chat", body, a)[0] == 422 and peer.count("/api/chat") == before
    assert t.request("POST", "/api/chat", body, {"Authorization": "Bearer b"})[0] == 422
    assert peer.count("/api/chat") > before, "another client's is tried"
    assert t.chat("live", stream=True)[0] == 200
    peer.close()


def test_a_prompt_that_takes_the_whole_backend_down_each_time(tandem):
    """... is refused in the end: it does not take it down for ever."""
    peer = Peer(None)

    def answer(r):
        if b"kill" not in r[3]:
            return chunked(answer_of("ollama", r, "ok")[0], "application/x-ndjson")
        peer.up = False
        peer.cut()
        threading.Thread(target=lambda: (wait_for(lambda: states(t)[-1:] == ["down"], "down"), setattr(peer, "up", True)), daemon=True).start()
        return None

    peer.answer = answer
    t = tandem([device(peer)], limits={"request_deaths": 2})
    status, _, _ = t.request("POST", "/api/chat", {"model": "m:1b", "stream": False, "messages": [{"role": "user", "content": "kill"}]}, timeout=60)
    assert status == 422 and peer.count("/api/chat") == 3
    wait_for(lambda: states(t)[-1:] == ["ready"], "the backend again")
    assert t.chat("live", stream=True)[0] == 200
    peer.close()


def test_orders_are_not_repeated_by_weather_either(tandem):
    peer = Peer(lambda r: None)
    t = tandem([device(peer)])
    assert t.request("DELETE", "/api/delete", {"model": "m:1b"})[0] == 502 and peer.count("/api/delete") == 1
    peer.close()


def test_a_backend_that_takes_a_request_and_never_answers(tandem):
    """deadlines.backend_first_byte_ms bounds it, whatever its probes say."""
    peer = Peer(lambda r: [Peer.HOLD])
    t = tandem([device(peer)], deadlines={"backend_first_byte_ms": 1000})
    for path, body in (("/api/chat", {"model": "m:1b", "stream": False, "messages": [{"role": "user", "content": "x"}]}),
                       ("/v1/completions", {"model": "m:1b", "prompt": "x"}), ("/x", None)):
        begun = time.monotonic()
        status, _, data = t.request("POST" if body else "GET", path, body, timeout=20)
        assert status == 504 and b"error" in data, (path, status, data)
        assert time.monotonic() - begun < 10
    t.wait_idle()
    peer.close()
