"""A client that sees its answer as it comes over the wire: each piece with its time, a clean end or a broken one."""

import json
import time

from harness import Client, ndjson, spent, sse

CHAT, GENERATE, OPENAI = "/api/chat", "/api/generate", "/v1/chat/completions"
PATHS = (CHAT, GENERATE, OPENAI)
STORY = ("X-Tandem-Request-Id", "X-Tandem-Strategy", "X-Tandem-Tokens", "X-Tandem-Reason")


def question(path, text, stream=True, model="m:1b", **more):
    """The body of a request for an answer, in the dialect of the path."""
    said = {"prompt": text} if path == GENERATE else {"messages": text if isinstance(text, list) else [{"role": "user", "content": text}]}
    return {"model": model, "stream": stream, **said, **more}


def tuned(body, num_ctx):
    """What Ollama gets of a client's bytes: two members more, the rest as it was."""
    options = b',"options":{"num_ctx":%d}' % num_ctx if num_ctx else b""
    return body.replace(b"{", b'{"truncate":false' + options + b",", 1)


def heartbeat(path, stream=True):
    return b": keep-alive\n\n" if path == OPENAI and stream else b" "


def units(path, data):
    """The objects of a streamed answer, and whether it said that it was whole."""
    if path == OPENAI:
        assert data.endswith(b"\n\n"), data[-80:]
        for event in data.decode().split("\n\n"):
            assert event in ("", ": keep-alive") or event.startswith("data: "), event
        events = sse(data)
        objects = [json.loads(e) for e in events if e != "[DONE]"]
        assert "[DONE]" not in events[:-1]
        return objects, bool(events) and events[-1] == "[DONE]"
    assert data.endswith(b"\n") and not data.startswith(b"\n") and b"\n\n" not in data and b"\n \n" not in data, data[-80:]
    objects = ndjson(data)
    return objects, bool(objects) and objects[-1].get("done") is True


def content(path, objects):
    """The text of an answer, from its objects."""
    if path == GENERATE:
        return "".join(o.get("response", "") for o in objects)
    if path == CHAT:
        return "".join(o.get("message", {}).get("content", "") for o in objects)
    parts = [o["choices"][0] for o in objects if o.get("choices")]
    return "".join((p.get("delta") or p.get("message") or {}).get("content") or "" for p in parts)


def error_text(path, o):
    """The message of an error object in the dialect's own form; its form is checked."""
    if path == OPENAI:
        e = o["error"]
        assert isinstance(e["message"], str) and isinstance(e["type"], str) and isinstance(e["code"], int), o
        return e["message"]
    assert list(o) == ["error"] and isinstance(o["error"], str), o
    return o["error"]


class Wire(Client):
    """A Client that notes when things come: began, head_s (head_own_s: less what the machine was late), and the times of pieces()."""

    def send(self, method, path, body=None, headers=(), length=None):
        self.method = method
        self.began = time.monotonic()
        return super().send(method, path, body, headers, length)

    def head(self):
        super().head()
        self.head_s, self.head_own_s = time.monotonic() - self.began, spent(self.began)
        if self.method == "HEAD" or self.status in (204, 304):
            self.left, self.chunked = 0, False
        return self

    def pieces(self):
        """(seconds since the request, bytes) until the clean end. EOFError where the body breaks."""
        for data in iter(self.piece, b""):
            yield time.monotonic() - self.began, data

    def body(self):
        return self.rest()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
