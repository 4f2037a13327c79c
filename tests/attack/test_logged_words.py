"""Prompts stay out of the log, also where a backend's error quotes them."""

import json

import pytest

from harness import in_thread, sse, wait_for
from peer import Peer, device, reply
from test_ends import ask, chunked, ollama

SECRET = "the launch code is 0000"


def errors(type):
    text = json.dumps(f'cannot parse "{SECRET}"')
    plain = b'{"error":' + text.encode() + b"}"
    nested = b'{"error":{"message":' + text.encode() + b',"code":500,"type":"server_error"}}'
    inband = ollama("a", done=False) + [plain + b"\n"]
    return {"400": reply(plain, 400), "500 nested": reply(nested, 500), "500 no json": reply(SECRET.encode(), 500, "text/plain"),
            "in band": chunked(inband, "application/x-ndjson"), "first in band": chunked([plain + b"\n"], "application/x-ndjson"),
            "garbage": reply(SECRET.encode(), 200)}


@pytest.mark.parametrize("kind", errors("ollama"))
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_an_error_that_quotes_the_prompt(tandem, kind, path):
    peer = Peer(lambda r: errors("ollama")[kind])
    t = tandem([device(peer)], log={"level": "debug"})
    status, _, data = ask(t, path)
    if kind not in ("500 no json", "garbage"):
        assert SECRET in data.decode(), "the client is told"
    ask(t, path, stream=False)
    t.wait_idle()
    assert "request_failed" in t.log() or "ev=request_done" in t.log()
    assert "launch code" not in t.log()
    peer.close()


def test_with_content_it_is_there(tandem):
    peer = Peer(lambda r: errors("ollama")["400"])
    t = tandem([device(peer)], log={"content": True})
    ask(t, "/api/chat")
    wait_for(lambda: any(e["ev"] == "backend_error" and SECRET in e["content"] for e in t.events()), "the words in the log")
    peer.close()
