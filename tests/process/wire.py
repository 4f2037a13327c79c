"""A client that sees its answer as it comes over the wire: each piece with its time, a clean end or a broken one."""

import json
import socket
import time

from harness import ndjson, sse

CHAT, GENERATE, OPENAI = "/api/chat", "/api/generate", "/v1/chat/completions"
PATHS = (CHAT, GENERATE, OPENAI)
STORY = ("X-Tandem-Request-Id", "X-Tandem-Strategy", "X-Tandem-Tokens", "X-Tandem-Reason")


def question(path, text, stream=True, model="m:1b", **more):
    """The body of a request for an answer, in the dialect of the path."""
    said = {"prompt": text} if path == GENERATE else {"messages": text if isinstance(text, list) else [{"role": "user", "content": text}]}
    return {"model": model, "stream": stream, **said, **more}


def heartbeat(path, stream=True):
    return b":\n\n" if path == OPENAI and stream else b" "


def units(path, data):
    """The objects of a streamed answer, and whether it said that it was whole."""
    if path == OPENAI:
        assert data.endswith(b"\n\n"), data[-80:]
        for event in data.decode().split("\n\n"):
            assert event in ("", ":") or event.startswith("data: "), event
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


class Wire:
    """One connection; one request at a time."""

    def __init__(self, port, timeout=30, rcvbuf=None):
        self.sock = socket.socket()
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(timeout)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, method, target, body=None, headers=()):
        """Sends a request. A body that is a dict goes as JSON; bytes go as they are."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in headers]
        if data is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        self.began = time.monotonic()
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + (data or b""))
        return self

    def more(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError(self.rest[-200:])
        self.rest += data

    def upto(self, mark):
        while mark not in self.rest:
            self.more()
        got, self.rest = self.rest.split(mark, 1)
        return got

    def exactly(self, n):
        while len(self.rest) < n:
            self.more()
        got, self.rest = self.rest[:n], self.rest[n:]
        return got

    def head(self, method="POST"):
        """Reads the status line and the headers; the time that took is in head_s."""
        lines = self.upto(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self.head_s = time.monotonic() - self.began
        self.status = int(lines[0].split()[1])
        self.fields = [tuple(line.split(": ", 1)) for line in lines[1:]]
        self.headers = {k.lower(): v for k, v in self.fields}
        self.chunked = self.headers.get("transfer-encoding") == "chunked"
        self.left = 0 if method == "HEAD" or self.status in (204, 304) else int(self.headers.get("content-length", 0))
        return self

    def piece(self):
        """The next bytes of the body as they come, b"" at its clean end. EOFError where it breaks."""
        if self.chunked:
            n = int(self.upto(b"\r\n").split(b";")[0], 16)
            data = self.exactly(n)
            assert self.exactly(2) == b"\r\n"
            return data
        if self.left == 0:
            return b""
        if not self.rest:
            self.more()
        data, self.rest = self.rest[:self.left], self.rest[self.left:]
        self.left -= len(data)
        return data

    def pieces(self):
        """(seconds since the request, bytes) until the clean end."""
        while True:
            data = self.piece()
            if not data:
                return
            yield time.monotonic() - self.began, data

    def body(self):
        return b"".join(data for _, data in self.pieces())
