"""Everything that is no chat: passed to the device that serves it, its bytes, verbs and codes untouched, in bounded memory."""

import json
import os
import re
import signal
import socket
import threading
import time
import zlib

import pytest

from conftest import SANITIZED, attached
from harness import ndjson, rss_bytes, wait_for
from wire import CHAT, OPENAI, PATHS, STORY, Wire, question, tuned

RSS_LIMIT = 64 << 20
OURS = {"date", "connection", "keep-alive", "transfer-encoding", "content-length"} | {n.lower() for n in STORY}


@pytest.fixture
def mirror():
    """An Ollama of a few lines that keeps the bytes of every request and answers what the test says."""
    started = []

    def start(answer=None):
        m = Mirror(answer)
        started.append(m)
        return m

    yield start
    for m in started:
        m.server.close()


class Mirror:
    type = "ollama"
    PROBES = {"/api/version": b'{"version":"0.33.0"}', "/api/tags": b'{"models":[{"name":"m:1b","model":"m:1b"}]}', "/api/ps": b'{"models":[]}'}

    def __init__(self, answer):
        self.answer = answer or (lambda r: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.server = socket.create_server(("127.0.0.1", 0))
        self.host = "127.0.0.1:%d" % self.server.getsockname()[1]
        self.url = "http://" + self.host
        self.seen = []  # (request line, [(name, value)], body)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _body(self, f, headers):
        h = {n.lower(): v for n, v in headers}
        if h.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while n := int(f.readline(), 16):
                body += f.read(n)
                f.readline()
            f.readline()
            return body
        return f.read(int(h.get("content-length", 0)))

    def _serve(self, s):
        with s, s.makefile("rb") as f:
            try:
                while line := f.readline():
                    line = line.rstrip(b"\r\n").decode("latin-1")
                    headers = []
                    while h := f.readline().rstrip(b"\r\n").decode("latin-1"):
                        headers.append(tuple(h.split(": ", 1)))
                    if any(n.lower() == "expect" for n, _ in headers):
                        s.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    body = self._body(f, headers)
                    target = line.split()[1]
                    if target in self.PROBES and line.startswith("GET"):
                        out = self.PROBES[target]
                        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(out), out))
                        continue
                    self.seen.append((line, headers, body))
                    out = self.answer(self.seen[-1])
                    for piece in [out] if isinstance(out, bytes) else out:
                        s.sendall(piece)
            except (OSError, ValueError):
                return


def once(to, method, target, body=None, headers=()):
    """(the head, the body) of one request."""
    with Wire(to) as w:
        return w.send(method, target, body, headers).head(), w.body()


def log_lines(path, to):
    to.stats()  # what was answered before is in the log when this returns
    with open(path) as f:
        return [json.loads(line) for line in f]


# --- the same answer as the backend's ---

ASKS = [
    ("GET", "/api/version", None), ("HEAD", "/api/version", None), ("GET", "/api/status", None),
    ("POST", "/api/show", {"model": "m:1b"}), ("POST", "/api/show", {"name": "m:1b"}), ("POST", "/api/show", {"model": "none"}),
    ("POST", "/api/show", b"{"), ("POST", "/api/embed", {"model": "m:1b", "input": ["a", "b"]}), ("POST", "/api/embed", {"model": "none", "input": "a"}),
    ("POST", "/api/embeddings", {"model": "m:1b", "prompt": "a"}),
    ("GET", "/v1/models/m:1b", None), ("GET", "/v1/models/none", None),
    ("HEAD", "/api/blobs/sha256:" + "1" * 64, None), ("POST", "/api/pull", {"model": "n:1b", "stream": False}), ("POST", "/api/pull", {"model": "n:1b"}),
    ("POST", "/api/copy", {"source": "none", "destination": "x"}), ("DELETE", "/api/delete", {"model": "none"}),
    ("POST", "/api/push", {"model": "m:1b"}), ("GET", "/nothing", None), ("GET", "/api/nothing?x=1", None), ("POST", "/v1/nothing", {"a": 1}),
    ("DELETE", "/api/chat", None), ("GET", "/api/chat", None), ("GET", "/v1/chat/completions", None), ("PUT", "/api/tags", {"a": 1}),
    ("POST", "/", {}), ("PATCH", "/api/generate", {"a": 1}), ("HEAD", "/nothing", None), ("GET", "/v1/", None),
]


def steady(body):
    """Without what differs between two runs of the same question."""
    text = body.decode(errors="replace")
    for name in ("total_duration", "load_duration", "modified_at", "created", "expires_at"):
        text = re.sub(f'"{name}":[^,}}]*', f'"{name}":0', text)
    return text


@pytest.mark.parametrize("main", ["ollama", "llama-server"])
def test_the_same_answer_as_the_backends(pair, main):
    """Status, headers and body of a direct request, for known and unknown paths and verbs."""
    t, a, b = pair(main)
    for method, target, body in ASKS:
        if main == "llama-server" and (target.startswith(("/api/", "/v1/models/")) or target == "/"):
            continue  # those are ours there
        theirs, their_body = once(a, method, target, body)
        ours, our_body = once(t, method, target, body)
        what = (method, target, ours.header_lines, our_body[:300])
        assert ours.status == theirs.status, what
        assert steady(our_body) == steady(their_body), what
        mine = {k: v for k, v in ours.headers.items() if k not in OURS}
        assert mine == {k: v for k, v in theirs.headers.items() if k not in OURS}, what
        assert ours.headers["x-tandem-strategy"] == "pass"
        if method == "HEAD":
            assert ours.headers.get("content-length") == theirs.headers.get("content-length"), what
    t.wait_idle()
    assert t.status()["requests"]["failed"] == 0


def test_targets_byte_for_byte(pair, folder):
    log = os.path.join(folder, "requests.jsonl")
    t, a, b = pair(main_options=("--log", log))
    targets = ["/x?a=%2F%2f&b=%20+c&&=", "/x/%2e%2e/y/%00%41?%zz", "/a/../b/./c//d?..//", "/x?a?b", "/api/tags?x=1&y=%C3%A9",
               "/;p=1,2'()*!$&~@:", "/" + "long/" * 400 + "?q=" + "v" * 2000, "/%E2%80%A8", "/v1/models/a%2Fb"]
    for target in targets:
        once(t, "POST", target, {"a": 1})
    got = [line["path"] + ("?" + line["query"] if "query" in line else "") for line in log_lines(log, a) if line["method"] == "POST"]
    assert got == targets


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND"])
def test_verbs(tandem, mirror, method):
    m = mirror(lambda r: b"HTTP/1.1 299 Odd But Fine\r\nContent-Length: 3\r\nX-Y: z\r\n\r\n" + (b"" if r[0].startswith("HEAD") else b"abc"))
    t = tandem([attached(m)])
    with Wire(t) as w:
        for _ in range(2):
            w.send(method, "/some/thing?x=%41", {"a": 1} if method in ("POST", "PUT", "PATCH", "DELETE") else None).head()
            assert w.status == 299 and w.headers["x-y"] == "z" and w.headers["content-length"] == "3"
            assert w.body() == (b"" if method == "HEAD" else b"abc")
    line, headers, body = m.seen[-1]
    assert line == f"{method} /some/thing?x=%41 HTTP/1.1"
    assert body == (b'{"a": 1}' if method in ("POST", "PUT", "PATCH", "DELETE") else b"")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 301, 302, 304, 400, 401, 403, 404, 405, 409, 418, 429, 499, 500, 501, 502, 503, 504, 599])
def test_status_codes(tandem, mirror, status, folder):
    body = b"" if status in (204, 304) else b'{"x":1}'
    length = b"" if status in (204, 304) else b"Content-Length: 7\r\n"
    m = mirror(lambda r: b"HTTP/1.1 %d Some Words\r\nLocation: /there?x=%%41\r\nRetry-After: 7\r\n%s\r\n%s" % (status, length, body))
    t = tandem([attached(m)])
    with Wire(t) as w:
        w.send("GET", "/x").head()
        assert (w.status, w.body(), w.headers["location"], w.headers["retry-after"]) == (status, body, "/there?x=%41", "7")
        assert w.send("GET", "/api/tags").head().status == 200  # the connection goes on


def test_headers_both_ways(tandem, mirror):
    m = mirror(lambda r: b"HTTP/1.1 200 OK\r\nContent-Type: x/y; z=1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
                         b"Proxy-Authenticate: Basic\r\nTE: trailers\r\nUpgrade: h2c\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Empty:\r\n"
                         b"ETag: \"x\"\r\nX-Odd_Name.1: caf\xe9\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\x1f\x8b\x00\xff\r\n0\r\n\r\n")
    t = tandem([attached(m)])
    sent = [("Authorization", "Bearer secret"), ("X-Custom", "a, b;c=\"d\""), ("Accept", "*/*"), ("User-Agent", "Test/1 (x)"), ("X-Twice", "1"),
            ("X-Twice", "2"), ("Content-Encoding", "zstd"), ("Connection", "keep-alive, X-Private"), ("X-Private", "p"), ("Keep-Alive", "300"),
            ("TE", "trailers"), ("Upgrade", "h2c"), ("Proxy-Authorization", "Basic x"), ("Proxy-Connection", "keep-alive"), ("Accept-Encoding", "br"),
            ("Referer", "http://x/")]
    with Wire(t) as w:
        w.send("POST", "/api/anything", b'{"a": 1}', [f"{n}: {v}" for n, v in sent]).head()
        assert w.body() == b"\x1f\x8b\x00\xff"
    got = m.seen[-1][1]
    names = [n.lower() for n, _ in got]
    assert [v for n, v in got if n.lower() == "host"] == [m.host]
    for name in ("authorization", "x-custom", "accept", "user-agent", "content-encoding", "content-type"):
        assert names.count(name) == 1, (name, got)
    assert [v for n, v in got if n.lower() == "x-twice"] == ["1", "2"]
    assert dict(got)["X-Custom"] == "a, b;c=\"d\"" and dict(got)["Authorization"] == "Bearer secret"
    for name in ("keep-alive", "te", "upgrade", "proxy-authorization", "proxy-connection", "accept-encoding", "referer", "x-private", "expect",
                 "transfer-encoding"):
        assert name not in names, (name, got)
    assert "secret" not in t.log()
    back = [line.split(":", 1) for line in w.header_lines]
    names = [n.lower() for n, _ in back]
    assert [v.strip() for n, v in back if n.lower() == "set-cookie"] == ["a=1", "b=2"]
    assert w.headers["etag"] == '"x"' and w.headers["content-encoding"] == "gzip" and w.headers["x-odd_name.1"] == "caf\xe9"
    assert w.headers["content-type"] == "x/y; z=1"
    for name in ("keep-alive", "proxy-authenticate", "te", "upgrade", "x-hop"):
        assert name not in names, back
    assert names.count("transfer-encoding") + names.count("content-length") == 1 and names.count("date") == 1


# --- uploads ---


def blob(n):
    return "/api/blobs/sha256:" + f"{n:064x}"


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 3_000_000])
def test_chunked_uploads(pair, size):
    t, a, b = pair()
    data = os.urandom(size)
    with Wire(t) as w:
        for piece in (1 if size < 2 else 7919, 300_000):
            w.method, w.began = "POST", 0
            out = b"POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % blob(size + piece).encode()
            for i in range(0, size, piece):
                part = data[i:i + piece]
                out += b"%x;ext=1\r\n%s\r\n" % (len(part), part)
            w.sock.sendall(out + b"0\r\n\r\n")
            assert w.head().status == 201, w.body()
            w.body()
            last = a.stats()["last"][-1]
            assert last["body_bytes"] == size and last["body_crc32"] == f"{zlib.crc32(data):08x}"


@pytest.mark.parametrize("target,body", [(blob(1), b"x" * 100_000), ("/api/show", b'{"model":"m:1b"}'), (CHAT, json.dumps(question(CHAT, "hi", False)).encode())])
def test_expect_100_continue(pair, target, body):
    t, a, b = pair()
    with Wire(t) as w:
        w.sock.sendall(f"POST {target} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        assert w.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        w.method, w.began = "POST", 0
        w.sock.sendall(body)
        assert w.head().status in (200, 201)
        w.body()
    sent = tuned(body, 16384) if target == CHAT else body
    assert a.stats()["last"][-1]["body_crc32"] == f"{zlib.crc32(sent):08x}"


class Peak:
    """The largest RSS of processes, sampled in a thread."""

    def __init__(self, *pids):
        self.peak = {pid: rss_bytes(pid) for pid in pids}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.over.wait(0.05):
            for pid in self.peak:
                self.peak[pid] = max(self.peak[pid], rss_bytes(pid))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def check(self):
        print("peak RSS:", ", ".join(f"{v / 1048576:.1f} MB" for v in self.peak.values()))
        if not SANITIZED:
            assert max(self.peak.values()) < RSS_LIMIT, self.peak


@pytest.mark.parametrize("form", ["length", "chunked"])
def test_a_2_gib_upload(pair, form):
    """Never held: neither process grows, and every byte arrives. The other clients are served meanwhile."""
    size = 2 << 30 if form == "length" and not SANITIZED else 64 << 20
    t, a, b = pair(main_options=("--dump", "/dev/null"))  # no file of 2 GiB: each one fails to open
    block = os.urandom(4 << 20)
    crc = 0
    pids = [t.pid, t.device("gpu0")["pid"]]
    with Peak(*pids) as peak, Wire(t, timeout=120) as w:
        w.method, w.began = "POST", time.monotonic()
        how = f"Content-Length: {size}" if form == "length" else "Transfer-Encoding: chunked"
        w.sock.sendall(f"POST {blob(2)} HTTP/1.1\r\nHost: localhost\r\n{how}\r\n\r\n".encode())
        for i in range(size // len(block)):
            crc = zlib.crc32(block, crc)
            if form == "chunked":
                w.sock.sendall(b"%x\r\n" % len(block))
            w.sock.sendall(block)
            if form == "chunked":
                w.sock.sendall(b"\r\n")
            if i == 8:
                assert t.chat("hi")[0] == 200
        if form == "chunked":
            w.sock.sendall(b"0\r\n\r\n")
        assert w.head().status == 201
        w.body()
    print(f"{size >> 20} MiB in {time.monotonic() - w.began:.1f} s")
    last = next(r for r in reversed(a.stats()["last"]) if r["path"].startswith("/api/blobs"))
    assert last["body_bytes"] == size and last["body_crc32"] == f"{crc:08x}"
    peak.check()
    assert t.status()["held_bytes"] == 0


def test_an_upload_to_a_slow_backend(tandem, mirror):
    """A backend that does not read holds the client back; nothing piles up between them."""
    go = threading.Event()

    def body(self, f, headers):
        go.wait(30)
        return Mirror._body(self, f, headers)

    m = mirror(lambda r: b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    t = tandem([attached(m)])
    m._body = body.__get__(m)
    size, sent = 96 << 20, 0
    with Peak(t.pid, *[t.device("gpu0")["pid"]]) as peak, Wire(t) as w:
        w.method, w.began = "POST", 0
        w.sock.sendall(f"POST /api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode())
        w.sock.settimeout(0.5)
        block = bytes(1 << 16)
        try:
            while sent < size:
                sent += w.sock.send(block[:size - sent])
        except TimeoutError:
            pass
        assert sent < 64 << 20, "the client was not held back"
        go.set()
        w.sock.settimeout(60)
        while sent < size:
            sent += w.sock.send(block[:size - sent])
        assert w.head().status == 201
    assert len(m.seen[-1][2]) == size
    peak.check()


# --- downloads ---


def test_a_slow_reading_client(tandem, mirror):
    """Of a large answer only a window is in memory; a chat answer likewise."""
    size, block = 256 << 20, bytes(range(256)) * 4096
    read = []

    def answer(r):
        yield b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\nContent-Length: %d\r\n\r\n" % size
        for i in range(size // len(block)):
            yield block
            read.append(i)

    t = tandem([attached(mirror(answer))])
    with Peak(t.pid, t.device("gpu0")["pid"]) as peak, Wire(t, SO_RCVBUF=65536) as w:
        w.send("GET", "/big").head()
        assert w.headers["content-length"] == str(size)
        got = crc = 0
        for _ in range(4):  # reads a little, and waits until the backend's side stands still
            piece = w.piece()
            got, crc = got + len(piece), zlib.crc32(piece, crc)
            seen = -1
            while seen != len(read):
                seen = len(read)
                time.sleep(0.2)
            assert len(read) * len(block) < 64 << 20, "the backend was not held back"
        for _, piece in w.pieces():
            got, crc = got + len(piece), zlib.crc32(piece, crc)
    expect = 0
    for _ in range(size // len(block)):
        expect = zlib.crc32(block, expect)
    assert (got, crc) == (size, expect)
    peak.check()


@pytest.mark.parametrize("path,main", [(CHAT, "ollama"), (OPENAI, "llama-server"), (CHAT, "llama-server"), (OPENAI, "ollama")])
def test_a_slow_reader_of_a_stream(pair, path, main):
    n = 300_000  # some 40 MB: more than the kernel's buffers take
    # Ollama writes at most ten times its window, which tandem tells it with each request.
    t, a, b = pair(main, main_device={"num_ctx": 40000} if main == "ollama" else {}, main_options=("--num-ctx", "400000", "--slots", "4"))
    with Peak(t.pid, t.device("gpu0")["pid"]) as peak, Wire(t, SO_RCVBUF=65536, timeout=60) as w:
        w.send("POST", path, question(path, f"[[fake tokens={n}]] hi", options={"num_predict": n})).head()
        first = w.piece()
        wait_for(lambda: a.stats()["slots"]["active"] == 1, "the answer under way")
        for _ in range(20):  # others are served, and this one is held back for as long as that takes
            assert t.chat("hi")[0] == 200
        assert t.device("gpu0")["inflight"] == 1, "the answer was not held back"
        body = first + w.body()
    assert body.endswith(b"[DONE]\n\n" if path == OPENAI else b"}\n")
    assert body.count(b"\n") > n
    peak.check()


# --- the probes of an Ollama client, with llama-server behind ---


def test_ollama_probes_before_a_llama_server(pair):
    t, a, b = pair("llama-server", "llama-server", main_options=("-c", "16384", "-np", "1"))
    status, headers, body = t.request("GET", "/")
    assert (status, body) == (200, b"Ollama is running") and headers["Content-Type"].startswith("text/plain")
    status, headers, body = t.request("HEAD", "/")
    assert (status, body) == (200, b"")
    version = json.loads(t.request("GET", "/api/version")[2])["version"]
    assert all(part.isdigit() for part in version.split("."))
    tags = json.loads(t.request("GET", "/api/tags")[2])["models"]
    assert [m["name"] for m in tags] == ["m:1b", "s:0.5b"]
    for m in tags:
        assert m["model"] == m["name"] and m["modified_at"] and m["digest"] and m["size"] >= 0
        assert {"format", "family", "families", "parameter_size", "quantization_level"} <= set(m["details"])
    ps = json.loads(t.request("GET", "/api/ps")[2])["models"]
    assert ps[0]["name"] == "m:1b" and ps[0]["context_length"] == 16384 and ps[0]["expires_at"] and "size_vram" in ps[0]
    for body in ({"model": "m:1b"}, {"name": "m:1b"}, {"model": "m:1b", "verbose": True}):
        status, headers, data = t.request("POST", "/api/show", body)
        show = json.loads(data)
        arch = show["model_info"]["general.architecture"]
        assert status == 200 and show["model_info"][arch + ".context_length"] == 16384
        assert "completion" in show["capabilities"] and "details" in show and "template" in show
        assert any(line.split() == ["num_ctx", "16384"] for line in show["parameters"].splitlines())
    for body in ({"model": "none:7b"}, {"name": "m"}):
        status, headers, data = t.request("POST", "/api/show", body)
        assert status == 404 and json.loads(data)["error"] == f"model '{list(body.values())[0]}' not found"
    assert all(m["modified_at"] > "2020" for m in tags), "1970 is 56 years ago to ollama list"
    assert ps[0]["size_vram"] != ps[0]["size"], "an attached llama-server does not say where its layers are"
    for path in ("/api/pull", "/api/create", "/api/copy"):
        status, headers, data = t.request("POST", path, {"model": "x"})
        assert status == 501 and "llama-server" in json.loads(data)["error"]
    # a blob is refused for what it is, not for its size
    status, headers, data = t.request("POST", blob(1), b"x" * 3_000_000)
    assert status == 501 and "llama-server" in json.loads(data)["error"]
    assert t.request("POST", "/api/show", b"{")[0] == 400
    assert t.request("POST", "/api/show", {})[0] == 400
    assert t.request("DELETE", "/api/delete", {"model": "m:1b"})[0] == 501
    assert t.request("GET", "/api/unknown")[0] in (404, 501)
    assert t.request("GET", "/props")[0] == 200  # llama-server's own paths pass


def test_ollamas_embeddings_before_a_llama_server(pair):
    t, a, b = pair("llama-server", main_options=("--embeddings",))
    texts = ["one", "two \U0001f600"]
    status, headers, data = t.request("POST", "/api/embed", {"model": "m:1b", "input": texts})
    o = json.loads(data)
    assert status == 200 and headers["Content-Type"].startswith("application/json"), data
    assert o["model"] == "m:1b" and o["total_duration"] > 0 and o["prompt_eval_count"] > 0
    theirs = a.call("/v1/embeddings", {"model": "m:1b", "input": texts})["data"]
    assert o["embeddings"] == [d["embedding"] for d in theirs]
    status, headers, data = t.request("POST", "/api/embeddings", {"model": "m:1b", "prompt": "one"})
    assert status == 200 and json.loads(data) == {"embedding": theirs[0]["embedding"]}
    many = ["some words to embed " * 20] * 3000  # more than is worked on in the loop
    status, headers, data = t.request("POST", "/api/embed", {"model": "m:1b", "input": many})
    assert status == 200 and len(json.loads(data)["embeddings"]) == 3000
    for body, code in [({"model": "m:1b", "input": []}, 200), ({"model": "m:1b", "input": 3}, 400), ({"input": "x"}, 400), (b"{", 400),
                       (b"", 400), ({"model": "none:7b", "input": "x"}, 404)]:
        status, headers, data = t.request("POST", "/api/embed", body)
        assert status == code, (body, data)
        assert isinstance(json.loads(data).get("error", ""), str)
    assert t.request("GET", "/api/embed")[0] == 405


def test_embeddings_that_a_llama_server_was_not_started_for(pair):
    t, a, b = pair("llama-server")
    status, headers, data = t.request("POST", "/api/embed", {"model": "m:1b", "input": "x"})
    assert status == 501 and "--embeddings" in json.loads(data)["error"]


# --- which device ---


@pytest.mark.parametrize("small", ["ollama", "llama-server"])
@pytest.mark.parametrize("main", ["ollama", "llama-server"])
def test_a_model_of_the_other_device(pair, main, small):
    t, a, b = pair(main, small)


    for path in PATHS:
        for stream in (True, False):
            status, headers, data = t.request("POST", path, question(path, "hi", stream, model="s:0.5b"))
            assert status == 200, data
            assert headers["X-Tandem-Device"] == "gpu1" and b"s:0.5b" in data
    for body in ({"model": "s:0.5b"}, {"name": "s:0.5b"}, {"model": "", "name": "s:0.5b"}):  # the last one is the `ollama` command's
        status, headers, data = t.request("POST", "/api/show", body)
        assert status == 200 and "gpu1" in headers["X-Tandem-Reason"] and json.loads(data)["model_info"]
    asked = b.stats()["requests"]["by_path"]
    for path in ("/api/embed", "/v1/embeddings"):
        body = {"model": "s:0.5b", "input": "x"}
        status, headers, data = t.request("POST", path, body)
        assert "gpu1" in headers["X-Tandem-Reason"], headers
        there = "/api/embed" if small == "ollama" else "/v1/embeddings"
        assert b.stats()["requests"]["by_path"].get(there, 0) == asked.get(there, 0) + 1
        assert not {"/api/embed", "/v1/embeddings"} & set(a.stats()["requests"]["by_path"])
        asked = b.stats()["requests"]["by_path"]
    # the main device keeps what is its own
    status, headers, data = t.request("POST", CHAT, question(CHAT, "hi"))
    assert headers["X-Tandem-Device"] == "gpu0"
    assert t.device("gpu1")["jobs"]["failed"] == 0
    # a long prompt for the small model is not condensed by itself
    status, headers, data = t.request("POST", CHAT, question(CHAT, "word " * 3000, model="s:0.5b"))
    assert status == 200 and headers["X-Tandem-Device"] == "gpu1" and headers["X-Tandem-Strategy"] == "A"


@pytest.mark.parametrize("main,small", [("ollama", "ollama"), ("ollama", "llama-server"), ("llama-server", "ollama")])
def test_the_union_of_the_models(fake, tandem, main, small):
    a = fake("main", type=main, model=("m:1b", "both:1b") if main == "ollama" else ("m:1b",))
    b = fake("small", type=small, model=("both:1b", "s:0.5b") if small == "ollama" else ("s:0.5b",))
    t = tandem([{**attached(b, "gpu1", ("condense",)), "model": "s:0.5b"}, attached(a)])
    both = main == "ollama" or small == "ollama"
    names = [m["name"] for m in json.loads(t.request("GET", "/api/tags")[2])["models"]]
    assert names[0] == "m:1b" and len(names) == len(set(names)), names
    assert set(names) == {"m:1b", "s:0.5b"} | ({"both:1b"} if both else set())
    models = json.loads(t.request("GET", "/v1/models")[2])
    assert models["object"] == "list" and [m["id"] for m in models["data"]] == names
    assert all(m["object"] == "model" for m in models["data"])


def test_the_list_is_fresh_after_a_change(pair):
    t, a, b = pair()

    def names():
        return [m["name"] for m in json.loads(t.request("GET", "/api/tags")[2])["models"]]

    assert names() == ["m:1b", "s:0.5b"]
    assert ndjson(t.request("POST", "/api/pull", {"model": "new:1b"})[2])[-1]["status"] == "success"
    assert "new:1b" in names()
    assert t.request("POST", "/api/copy", {"source": "new:1b", "destination": "copy:1b"})[0] == 200
    assert "copy:1b" in names()
    assert t.request("DELETE", "/api/delete", {"model": "new:1b"})[0] == 200
    assert "new:1b" not in names()
    assert t.request("POST", "/api/create", {"model": "made:1b", "from": "m:1b", "stream": False})[0] == 200
    assert "made:1b" in names()
    assert t.request("POST", CHAT, question(CHAT, "hi", model="made:1b"))[0] == 200
    ids = [m["id"] for m in json.loads(t.request("GET", "/v1/models")[2])["data"]]
    assert ids == names()


def test_a_pull_does_not_change_the_default_model(fake, tandem):
    """Ollama lists what was pulled last first; without a configured model the first one found stays it, over workers too, while it is there."""
    a, small = fake("main", model=("m:1b",)), fake("small", model=("s:1b",))
    device = {"name": "gpu0", "roles": ["main"], "backend": {"type": "ollama", "url": a.url}}
    notes = {"name": "gpu1", "roles": ["condense"], "backend": {"type": "ollama", "url": small.url}}
    t = tandem([device, notes])
    model = lambda: t.device("gpu0")["backend"]["model"]  # noqa: E731
    assert model() == "m:1b"
    for path, body in [("/api/pull", {"model": "new:1b"}), ("/api/create", {"model": "made:1b", "from": "m:1b"}),
                       ("/api/copy", {"source": "m:1b", "destination": "copy:1b"})]:
        assert t.request("POST", path, body)[0] == 200
        assert model() == "m:1b"
    assert json.loads(t.request("GET", "/api/tags")[2])["models"][0]["name"] == "copy:1b"
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    wait_for(lambda: t.device("gpu0")["generation"] == 2, "another worker")
    t.wait_ready()
    assert model() == "m:1b"
    assert t.request("DELETE", "/api/delete", {"model": "m:1b"})[0] == 200
    wait_for(lambda: model() == "copy:1b", "another model in its place")
    assert [e["model"] for e in t.events() if e["ev"] == "model_settled" and e["device"] == "gpu0"] == ["m:1b", "copy:1b"]


# --- when a device is away ---


def test_a_main_device_that_is_away(pair):
    t, a, b = pair(deadlines={"main_wait_ms": 300})
    a.stop()
    wait_for(lambda: t.device("gpu0")["state"] != "ready" or t.request("GET", "/api/version")[0] == 503, "the main device to be seen as down")
    status, headers, body = t.request("GET", "/api/version")
    assert status == 503 and int(headers["Retry-After"]) > 0 and json.loads(body)["error"]
    assert t.request("GET", "/")[0] == 200


def test_model_paths_go_to_the_device_that_has_the_model(pair):
    t, a, b = pair()
    for method, path, body in (("DELETE", "/api/delete", {"model": "s:0.5b"}),
                               ("POST", "/api/copy", {"source": "s:0.5b", "destination": "copy"})):
        status, headers, data = t.request(method, path, body)
        assert "gpu1" in headers["X-Tandem-Reason"], (path, status, data)
    status, headers, data = t.request("POST", "/api/show", {"model": "m:1b"})
    assert status == 200 and "gpu0" in headers["X-Tandem-Reason"]


@pytest.mark.parametrize("main", ["ollama", "llama-server"])
def test_a_model_by_its_id(pair, main):
    """llama-server has no such path, and clients encode the colon."""
    t, a, b = pair(main)
    for path, name in [("/v1/models/m:1b", "m:1b"), ("/v1/models/m%3A1b", "m:1b"), ("/v1/models/s%3a0.5b/", "s:0.5b"), ("//v1/models", None), ("/models", None)]:
        status, headers, data = t.request("GET", path)
        o = json.loads(data)
        assert status == 200 and (o["id"] == name if name else [m["id"] for m in o["data"]] == ["m:1b", "s:0.5b"]), (path, data)
    for path in ("/v1/models/none", "/v1/models/a%2Fb"):
        status, headers, data = t.request("GET", path)
        error = json.loads(data)["error"]
        assert status == 404 and "not found" in error["message"] and error["type"] == "not_found_error", data


@pytest.mark.parametrize("main", ["ollama", "llama-server"])
def test_what_all_devices_have_loaded(pair, main):
    t, a, b = pair(main, "ollama" if main == "llama-server" else "llama-server")
    for model in ("m:1b", "s:0.5b"):
        assert t.request("POST", CHAT, question(CHAT, "hi", False, model=model))[0] == 200
    status, headers, data = t.request("GET", "/api/ps")
    assert status == 200 and [m["name"] for m in json.loads(data)["models"]] == ["m:1b", "s:0.5b"], data
    for name in STORY:
        assert headers[name]
    b.stop()
    wait_for(lambda: t.device("gpu1")["state"] != "ready" or
             [m["name"] for m in json.loads(t.request("GET", "/api/ps/")[2])["models"]] == ["m:1b"], "the other device left out")
    a.stop()
    wait_for(lambda: t.request("GET", "/api/ps")[0] == 503, "nobody to ask")
    t.wait_idle()


# --- other spellings of a path ---


@pytest.mark.parametrize("main", ["ollama", "llama-server"])
def test_other_spellings_of_a_path(pair, main):
    """Doubled and trailing slashes, percent-encoded letters, llama-server's short paths: none of them goes round the queue."""
    t, a, b = pair(main, main_options=("--embeddings",))
    for path, like in [("//api/chat", CHAT), ("/api/chat/", CHAT), ("/api//chat", CHAT), ("/api/ch%61t?x=1", CHAT), ("/v1/chat/completions/", OPENAI),
                       ("/chat/completions", OPENAI)]:
        status, headers, data = t.request("POST", path, question(like, "hi", False))
        assert status == 200 and headers["X-Tandem-Strategy"] == "A", (path, data)
    for path in ("/v1/embeddings", "//v1/embeddings/", "/embeddings"):
        status, headers, data = t.request("POST", path, {"model": "m:1b", "input": "hi"})
        assert status == 200 and json.loads(data)["data"][0]["embedding"], (path, data)
    assert json.loads(t.request("GET", "//api/tags/")[2])["models"]
    assert t.status()["requests"]["by_strategy"]["A"] == 6


# --- what a model works for ---


@pytest.mark.parametrize("main,path", [("llama-server", "/completion"), *[(m, p) for m in ("ollama", "llama-server")
                                                                       for p in ("/v1/embeddings", "/api/embed")]])
def test_what_a_model_works_for_waits_its_turn(pair, main, path):
    t, a, b = pair(main, main_device={"slots": 1}, main_options=("--embeddings", "--num-ctx", "16384"))
    a.fault(times=1, fault="hang", match="block")
    with Wire(t) as blocker, Wire(t) as w:
        blocker.send("POST", CHAT, question(CHAT, "block"))
        wait_for(lambda: t.device("gpu0")["inflight"] == 1, "a busy slot")
        said = "prompt" if path == "/completion" else "input"
        w.send("POST", path, {"model": "m:1b", said: "many words " * 3500})
        wait_for(lambda: t.device("gpu0")["waiting"] == 1, "one that waits")
        blocker.close()
        assert w.head().status == 200 and w.body()
        assert w.headers["x-tandem-strategy"] == "pass"
        sizes = dict(p.split("=") for p in w.headers["x-tandem-tokens"].split())
        assert 8000 < int(sizes["in"]) < 11000 and sizes["sent"] == sizes["in"]
    t.wait_idle()


def test_the_form_of_errors_follows_the_path(pair):
    t, a, b = pair("llama-server", deadlines={"main_wait_ms": 200})
    a.stop()
    for path, read in [("/v1/messages/batches", lambda o: o["type"] == "error" and o["error"]["type"] == "overloaded_error" and o["error"]["message"]),
                       ("/v1/completions", lambda o: o["error"]["message"]), ("/completion", lambda o: o["error"]["message"]),
                       ("/v1/responses", lambda o: o["error"]["message"]), ("/api/embed", lambda o: isinstance(o["error"], str))]:
        status, headers, data = t.request("POST", path, {"model": "m:1b", "prompt": "x", "input": "x", "messages": []})
        assert status == (529 if path.startswith("/v1/messages") else 503) and read(json.loads(data)), (path, data)
        assert int(headers["Retry-After"]) > 0


@pytest.mark.parametrize("fault", [None, "fault=500&error=out+of+memory", "cut=0"])
def test_a_passed_stream_has_a_first_byte_in_time(pair, fault):
    t, a, b = pair("llama-server", deadlines={"first_byte_ms": 300, "heartbeat_ms": 50})
    with Wire(t) as w:
        w.send("POST", "/completion", {"model": "m:1b", "prompt": f"[[fake delay_ms=1200{'&' + fault if fault else ''}]] hi", "stream": True})
        assert w.head().status == 200 and w.head_own_s < 1.0
        assert w.headers["content-type"].startswith("text/event-stream")
        data = w.body()
    beats = [e for e in data.split(b"\n\n") if e.startswith(b":")]
    assert len(beats) >= 3, data
    events = [e for e in data.split(b"\n\n") if e.startswith(b"data: ")]
    if not fault:
        assert json.loads(events[-1][6:])["stop"] is True and len(events) > 3
    else:
        error = json.loads(events[-1][6:])["error"]
        assert error["message"] and (fault == "cut=0" or "out of memory" in error["message"])
    t.wait_idle()
    # at once: nothing of ours comes between
    status, headers, data = t.request("POST", "/completion", {"model": "m:1b", "prompt": "hi", "stream": True})
    assert status == 200 and b":\n" not in data.replace(b"\":", b"") and json.loads(data.rstrip().split(b"\n\n")[-1][6:])["stop"]


def test_a_backend_with_absurd_headers_hurts_nobody(tandem, folder):
    """Headers over the cap are left out, with a word in the log; the worker lives."""
    import http.server
    import threading

    class Absurd(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"version":"0.33.0","models":[]}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if self.path == "/absurd":
                for i in range(90):
                    self.send_header(f"X-Many-{i}", "y" * 700)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Absurd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        t = tandem([{"name": "gpu0", "roles": ["main"], "model": "m:1b",
                     "backend": {"type": "ollama", "url": f"http://127.0.0.1:{server.server_address[1]}"}}])
        status, headers, data = t.request("GET", "/absurd")
        assert status == 200 and data and headers["X-Tandem-Strategy"] == "pass"
        assert headers["X-Many-0"] and "X-Many-89" not in headers
        wait_for(lambda: "ev=headers_left_out" in t.log(), "the word in the log")
        assert t.device("gpu0")["generation"] == 1
    finally:
        server.shutdown()
        server.server_close()
