"""Ends of answers: whatever a backend does at the end, or instead of it, the client sees one whole answer or one error, and soon."""

import json
import os
import signal
import time

import pytest

from harness import in_thread, ndjson, sse, wait_for
from peer import Peer, device, reply

LINE = {"model": "m:1b", "created_at": "2026-01-01T00:00:00Z", "done": False}


def ollama(*texts, done=True):
    lines = [{**LINE, "message": {"role": "assistant", "content": t}} for t in texts]
    if done:
        lines.append({**LINE, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2})
    return [json.dumps(line).encode() + b"\n" for line in lines]


def openai(*texts, done=True):
    def event(delta, finish=None):
        return b"data: " + json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m:1b",
                                       "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode() + b"\n\n"

    out = [event({"role": "assistant", "content": None})] + [event({"content": t}) for t in texts]
    return out + ([event({}, "stop"), b"data: [DONE]\n\n"] if done else [])


def chunked(pieces, type, end=True):
    out = [f"HTTP/1.1 200 OK\r\nContent-Type: {type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()]
    out += [b"%x\r\n%s\r\n" % (len(p), p) for p in pieces]
    return out + ([b"0\r\n\r\n"] if end else [])


def ask(t, path, stream=True, timeout=20):
    return t.request("POST", path, {"model": "m:1b", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}, timeout=timeout)


KINDS = [("ollama", "/api/chat"), ("ollama", "/v1/chat/completions"), ("llama-server", "/v1/chat/completions"), ("llama-server", "/api/chat")]


def text_of(path, data):
    if path == "/api/chat":
        return "".join(m.get("message", {}).get("content", "") for m in ndjson(data))
    return "".join((json.loads(e)["choices"][0]["delta"].get("content") or "") for e in sse(data) if e != "[DONE]" and json.loads(e)["choices"])


def answer_of(type, r, *texts, done=True):
    """What such a backend streams for that request."""
    if type == "ollama" and r[1].startswith("/api"):
        return ollama(*texts, done=done), "application/x-ndjson"
    return openai(*texts, done=done), "text/event-stream"


@pytest.mark.parametrize("type,path", KINDS)
def test_the_last_object_is_the_end(tandem, type, path, folder):
    """... although the body stays open: no error behind it, no second request, and not only after a time-out."""
    def answer(r):
        pieces, media = answer_of(type, r, "one ", "two")
        return chunked(pieces, media, end=False) + [Peer.HOLD]

    peer = Peer(answer, type)
    t = tandem([device(peer)], deadlines={"backend_idle_ms": 8000})
    begun = time.monotonic()
    status, _, data = ask(t, path)
    assert time.monotonic() - begun < 5
    assert status == 200 and text_of(path, data) == "one two" and b"error" not in data, data[-500:]
    assert data.count(b'"done":true') + data.count(b'"done": true') == (path == "/api/chat") and data.count(b"[DONE]") == (path != "/api/chat")
    assert peer.count() == 1
    t.wait_idle()
    peer.close()


def test_a_connection_whose_body_ends_a_moment_later_is_kept(tandem):
    peer = Peer(lambda r: chunked(ollama("x"), "application/x-ndjson", end=False) + [0.01, b"0\r\n\r\n"])
    t = tandem([device(peer)])
    before = peer.accepted
    for _ in range(40):
        assert ask(t, "/api/chat")[0] == 200
    assert peer.accepted - before <= 12  # not one for each: a request may come before the body of the last one has ended
    peer.close()


@pytest.mark.parametrize("value", ["text/html\rX: y", "a/b\x0b", "\r", "a\rb"])
@pytest.mark.parametrize("path", ["/api/chat", "/api/show", "/x"])
@pytest.mark.parametrize("status", [400, 500])
def test_an_error_whose_content_type_is_not_one(tandem, value, path, status):
    peer = Peer(lambda r: (f"HTTP/1.1 {status} No\r\nContent-Type: {value}\r\nContent-Length: 13\r\n\r\n".encode("latin-1") + b'{"error":"x"}'))
    t = tandem([device(peer)])
    got, _, data = ask(t, path, timeout=8)
    assert got in (status, 502) and data
    t.wait_idle()
    peer.close()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("type", ["llama-server", "ollama"])
@pytest.mark.parametrize("first", [True, False])
def test_an_event_of_ten_megabytes_passes(tandem, path, type, first):
    big = "x" * (10 << 20)

    def answer(r):
        pieces, media = answer_of(type, r, *([big] if first else ["small ", big]))
        return chunked(pieces, media)

    peer = Peer(answer, type)
    t = tandem([device(peer)])
    status, _, data = ask(t, path, timeout=60)
    assert status == 200 and text_of(path, data) == ("" if first else "small ") + big, (len(data), data[-300:])
    assert b'"error"' not in data
    assert peer.count() == 1
    peer.close()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("type", ["llama-server", "ollama"])
@pytest.mark.parametrize("first", [True, False])
def test_an_event_over_the_cap_is_an_error_in_band(tandem, path, type, first):
    big = "x" * (3 << 20)

    def answer(r):
        pieces, media = answer_of(type, r, *([big] if first else ["small ", big]))
        return chunked(pieces, media)

    peer = Peer(answer, type)
    t = tandem([device(peer)], limits={"line_bytes": 1 << 20})
    status, _, data = ask(t, path, timeout=60)
    if first and status != 200:
        assert status == 502 and b"limits.line_bytes" in data
    else:
        assert status == 200
        last = ndjson(data)[-1] if path == "/api/chat" else [json.loads(e) for e in sse(data) if e != "[DONE]"][-1]
        assert "limits.line_bytes" in json.dumps(last["error"]), data[-300:]
    peer.close()


@pytest.mark.parametrize("status", [199, 299, 600, 700, 999, 1000])
@pytest.mark.parametrize("path", ["/api/chat", "/x"])
def test_a_status_that_is_none(tandem, status, path):
    """Three digits of 600 and above, and other things that no client knows: 502, not sent on."""
    peer = Peer(lambda r: b"HTTP/1.1 %d Odd\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" % status)
    t = tandem([device(peer)])
    got, _, data = ask(t, path, timeout=8)
    assert got == (299 if status == 299 and path == "/x" else 502), (got, data[:200])
    peer.close()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/x", "/completion"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_200_that_is_cut_in_the_same_breath(tandem, path, stream):
    """Headers and the end of the connection come together: nothing was said, so an error can still have its status."""
    def cut(r):
        os.kill(worker, signal.SIGSTOP)  # so that it meets both in one turn
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
        in_thread(lambda: (wait_for(lambda: not peer.open, "end of the connection"), os.kill(worker, signal.SIGCONT)))
        raise OSError

    peer = Peer(cut)
    t = tandem([device(peer)], limits={"request_deaths": 2})
    worker = t.device("gpu0")["pid"]
    peer.cut()  # kept connections of the probes
    status, _, data = ask(t, path, stream=stream, timeout=15)
    assert status in (502, 503, 422) and b"error" in data, (status, data)
    peer.close()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/x", "/completion"])
@pytest.mark.parametrize("stream", [True, False])
def test_an_unasked_gzip_answer(tandem, path, stream):
    """We ask for none, so none is read: an error, not garbage that passes for an answer. What is passed through keeps its encoding's name."""
    import gzip

    body = gzip.compress(b"".join(ollama("hello")))
    peer = Peer(lambda r: reply(body, headers=["Content-Encoding: gzip"]))
    t = tandem([device(peer)])
    status, headers, data = ask(t, path, stream=stream, timeout=15)
    if path in ("/x", "/completion"):
        assert status == 200 and headers["Content-Encoding"] == "gzip" and data == body
    else:
        assert status == 502 and b"Content-Encoding" in data, (status, data[:300])
    peer.close()


def test_a_path_that_is_left_without_an_answer(tandem):
    """A server that says nothing where it need not: it keeps no streams, and is ready all the same."""
    peer = Peer(lambda r: chunked(*answer_of("llama-server", r, "hello")), "llama-server")
    peer.mute.add("/v1/stream")
    t = tandem([device(peer)])
    status, _, data = ask(t, "/v1/chat/completions")
    assert status == 200 and text_of("/v1/chat/completions", data) == "hello"
