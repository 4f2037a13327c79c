"""Many headers and large ones: every one reaches the backend, or the client is told that it does not."""

import http.server
import socket
import threading

import pytest

from harness import DEADLINE

BODY = b'{"model":"m:1b","messages":[{"role":"user","content":"hi"}],"stream":false}'
ANSWER = b'{"model":"m:1b","message":{"role":"assistant","content":"hi"},"done":true}'


class Handler(http.server.BaseHTTPRequestHandler):
    """An Ollama that remembers the headers of the last request that was not one of the health checks."""

    protocol_version = "HTTP/1.1"

    def parse_request(self):
        # http.server takes at most 100 headers and 64 KB a line: the head is read here.
        self.requestline = self.raw_requestline.decode("latin-1")
        parts = self.requestline.split()
        self.command, self.path, self.request_version, self.close_connection = parts[0], parts[1], "HTTP/1.1", False
        self.headers_got = []
        while (line := self.rfile.readline().decode("latin-1").rstrip("\r\n")):
            self.headers_got.append(tuple(line.split(": ", 1)) if ": " in line else (line.rstrip(":;"), ""))
        return True

    def answer(self, data, status=200):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/api/tags":
            self.answer(b'{"models":[{"name":"m:1b","model":"m:1b"}]}')
        elif self.path in ("/", "/api/version", "/api/ps"):
            self.answer(b'{"version":"0.33.0","models":[]}')
        else:
            self.server.seen.append(self.headers_got)
            self.answer(b"{}")

    def do_POST(self):
        length = int(dict((k.lower(), v) for k, v in self.headers_got).get("content-length", 0))
        self.rfile.read(length)
        if self.path == "/api/show":
            self.answer(b'{"model_info":{},"capabilities":["completion"]}')
            return
        self.server.seen.append(self.headers_got)
        self.answer(ANSWER)

    def log_message(self, *_):
        pass


@pytest.fixture
def backend():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.seen = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def gateway(backend, tandem):
    def start(**groups):
        url = f"http://127.0.0.1:{backend.server_address[1]}"
        return tandem([{"name": "gpu0", "roles": ["main"], "model": "m:1b", "backend": {"type": "ollama", "url": url}}], **groups)

    return start


def ask(t, headers, path="/api/chat", body=BODY):
    """(status, body) of a raw request with these header lines."""
    head = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    data = b""
    with socket.create_connection(("127.0.0.1", t.port), timeout=DEADLINE) as s:
        s.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + (body or b""))
        while piece := s.recv(65536):
            data += piece
    return int(data.split()[1]), data.split(b"\r\n\r\n", 1)[1]


@pytest.mark.parametrize("path,body", [("/api/chat", BODY), ("/api/nothing", None), ("/api/nothing", BODY)])
@pytest.mark.parametrize("count", [10, 65, 200, 990])
def test_every_header_arrives(gateway, backend, count, path, body):
    t = gateway()
    names = [f"X-{i}: value {i}" for i in range(count)] + ["Authorization: Bearer last-of-all"]
    status, _ = ask(t, names, path, body)
    assert status == 200
    got = dict(backend.seen[-1])
    assert got["Authorization"] == "Bearer last-of-all"
    assert all(got.get(f"X-{i}") == f"value {i}" for i in range(count))


@pytest.mark.parametrize("size", [40000, 70000, 500000, 1000000])
def test_large_headers_arrive(gateway, backend, size):
    """A cookie of 40 KB is read (it stays here); a header of up to 1 MB goes to the backend whole."""
    t = gateway()
    assert ask(t, [f"Cookie: a={'x' * size}"])[0] == 200
    assert "Cookie" not in dict(backend.seen[-1])
    status, _ = ask(t, [f"X-Large: {'y' * size}", "Authorization: Bearer z"])
    assert status == 200
    got = dict(backend.seen[-1])
    assert got["X-Large"] == "y" * size and got["Authorization"] == "Bearer z"
    half = size // 2
    status, _ = ask(t, [f"X-A: {'a' * half}", f"X-B: {'b' * half}"])
    assert status == 200 and dict(backend.seen[-1])["X-B"] == "b" * half


def test_over_the_caps(gateway, backend):
    t = gateway(limits={"headers": 50, "header_bytes": 20000})
    before = len(backend.seen)
    status, text = ask(t, [f"X-{i}: v" for i in range(50)])
    assert status == 431 and b"limits.headers" in text
    status, text = ask(t, ["X: " + "y" * 20000])
    assert status == 431 and b"limits.header_bytes" in text
    status, text = ask(t, [], "/" + "x" * 20000)
    assert status == 414
    assert len(backend.seen) == before
    assert ask(t, [])[0] == 200
