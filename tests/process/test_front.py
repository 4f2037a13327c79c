"""The HTTP front door alone, over raw sockets: every phase of an exchange, and clients that leave in each of them.

front-driver (front_driver.c) prints an exchange's events and does what it is told, so that each test waits for the event it means.
"""

import os
import select
import socket
import ssl
import struct
import subprocess
import time

import pytest

from harness import BIN, spent, wait_for
from tls import TlsSocket, certificate

PROMPT_S = 0.010  # a client that leaves is seen within this; the machine may add
NOISE_S = 0.040
MB = 1 << 20


def pattern(n):
    return (b"abcdefghijklmnopqrstuvwxyz" * (n // 26 + 1))[:n]


class Front:
    def __init__(self, connections=2048, header_bytes=32768, stream_bytes=MB, idle_ms=60000, headers=1000, head_ms=30000, body_ms=30000, body_rate=0,
                 identity=None):
        self.tls = ssl.create_default_context(cafile=identity[0]) if identity else None
        self.keeps_freed = self.tls and "asan" in BIN  # GnuTLS allocates for each record, and a sanitizer holds what is freed
        args = [os.path.join(BIN, "front-driver"), *map(str, (connections, header_bytes, stream_bytes, idle_ms, headers, head_ms, body_ms, body_rate, *(identity or ())))]
        self.popen = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.pid = self.popen.pid
        self.waiting = b""
        self.events = []
        host, port = self.next("listen", deadline=10)[1].split(":")
        self.address = (host, int(port))

    def next(self, *words, deadline=5.0):
        """The next event that begins with these words; the others before it are kept in self.events."""
        end = time.monotonic() + deadline
        while True:
            while b"\n" in self.waiting:
                line, self.waiting = self.waiting.split(b"\n", 1)
                event = line.decode().split()
                if event[: len(words)] == [str(w) for w in words]:
                    return event
                self.events.append(event)
            left = end - time.monotonic()
            ready = select.select([self.popen.stdout], [], [], max(left, 0))[0]
            data = os.read(self.popen.stdout.fileno(), 65536) if ready else b""
            assert data, f"no event {words}; seen {self.events[-20:]}; {self.popen.poll()}"
            self.waiting += data

    def tell(self, *words):
        self.popen.stdin.write((" ".join(map(str, words)) + "\n").encode())

    def ask(self, *words):
        """A command that answers with a return code."""
        self.tell(*words)
        return int(self.next("rc", words[1])[2])

    def counts(self):
        self.tell("counts")
        return tuple(map(int, self.next("counts")[1:]))

    def connect(self, **options):
        s = socket.socket()
        for name, value in options.items():
            s.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        s.settimeout(10)
        s.connect(self.address)
        return TlsSocket(s, self.tls) if self.tls else s

    def rss(self):
        with open(f"/proc/{self.pid}/statm") as f:
            return int(f.read().split()[1]) * 4096

    def stop(self):
        if self.popen.poll() is None:
            self.tell("stop")
            assert self.next("stopped")[1] == "clean"
        rc = self.popen.wait(10)
        err = self.popen.stderr.read().decode()
        assert rc == 0 and "Sanitizer" not in err and "runtime error" not in err, err[-8000:]


@pytest.fixture(scope="session")
def identity(tmp_path_factory):
    return certificate(str(tmp_path_factory.mktemp("tls")))


@pytest.fixture(params=["plain", "tls"])
def front(request, identity):
    started = []

    def start(**options):
        started.append(Front(identity=identity if request.param == "tls" else None, **options))
        return started[-1]

    yield start
    for f in started:
        f.stop()


class Answer:
    """Reads one answer from a socket and keeps what came after it."""

    def __init__(self, sock, head=False, rest=b""):
        self.sock, self.rest = sock, rest
        while b"\r\n\r\n" not in self.rest:
            self.more()
        top, self.rest = self.rest.split(b"\r\n\r\n", 1)
        lines = top.split(b"\r\n")
        self.version, status = lines[0].split()[:2]
        self.status = int(status)
        self.headers = {k.lower(): v for k, v in (line.decode().split(": ", 1) for line in lines[1:])}
        self.body, self.broken = b"", False
        if not head and self.status >= 200 and self.status not in (204, 304):
            self.read_body()

    def more(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError(self.rest)
        self.rest += data

    def exactly(self, n):
        while len(self.rest) < n:
            self.more()
        got, self.rest = self.rest[:n], self.rest[n:]
        return got

    def read_body(self):
        try:
            if self.headers.get("transfer-encoding") == "chunked":
                while True:
                    while b"\r\n" not in self.rest:
                        self.more()
                    size, self.rest = self.rest.split(b"\r\n", 1)
                    data = self.exactly(int(size, 16) + 2)
                    self.body += data[:-2]
                    if int(size, 16) == 0:
                        return
            elif "content-length" in self.headers:
                self.body = self.exactly(int(self.headers["content-length"]))
            else:
                try:
                    while True:
                        self.more()
                except EOFError:
                    self.body, self.rest = self.rest, b""
        except (EOFError, ConnectionResetError):
            self.broken = True


def request(path, method="GET", headers=(), body=b"", version="1.1", length=True):
    lines = [f"{method} {path} HTTP/{version}", "Host: x", *headers]
    if body and length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def at_eof(sock):
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def reset(sock):
    """Leaves at once, with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- plain requests ---


def test_keep_alive_many(front):
    f = front()
    with f.connect() as s:
        rest = b""
        for i in range(3000):
            path = ("/hello", "/late")[i % 2]
            s.sendall(request(path, "POST", body=b"x" * (i % 3000)) if i % 2 else request(path))
            a = Answer(s, rest=rest)
            rest = a.rest
            assert (a.status, a.body) == (200, b"late\n" if i % 2 else b"hello\n")
            assert "connection" not in a.headers
        assert f.counts() == (1, 0)


def test_pipelining(front):
    f = front()
    with f.connect() as s:
        s.sendall(request("/hello") * 500 + request("/late", "POST", body=b"12345") + request("/m1") + request("/m2"))
        rest = b""
        for i in range(501):
            a = Answer(s, rest=rest)
            rest = a.rest
            assert a.body == (b"hello\n" if i < 500 else b"late\n")
        one = f.next("body_end", 502)[1]
        assert f.ask("reply", one, 200, 3) == 0
        a = Answer(s, rest=rest)
        assert a.body == b"abc"
        f.next("body_end", 503)
        assert f.ask("reply", 503, 200, 4) == 0
        assert Answer(s, rest=a.rest).body == b"abcd"


@pytest.mark.parametrize("version,headers,closes", [("1.0", (), True), ("1.0", ("Connection: keep-alive",), False),
                                                    ("1.1", ("Connection: close",), True), ("1.1", (), False)])
def test_connection_header(front, version, headers, closes):
    f = front()
    with f.connect() as s:
        s.sendall(request("/hello", headers=headers, version=version))
        a = Answer(s)
        assert a.body == b"hello\n"
        assert (a.headers.get("connection", "").lower() == "close") == closes
        if closes:
            assert at_eof(s)
        else:
            s.sendall(request("/hello", headers=headers, version=version))
            assert Answer(s, rest=a.rest).body == b"hello\n"


@pytest.mark.parametrize("status,length", [(200, 10), (200, -1), (200, 0), (204, -1), (304, -1), (404, 7)])
def test_head_and_bodyless(front, status, length):
    """The answer goes out, keep-alive stays intact, and done waits for the supervisor's end."""
    f = front()
    with f.connect() as s:
        s.sendall(request("/m", "HEAD") + request("/hello"))
        f.next("body_end", 1)
        assert f.ask("head", 1, status, length) == 0
        f.tell("end", 1)
        a = Answer(s, head=True)
        assert a.status == status
        if length > 0:
            assert a.headers["content-length"] == str(length)
        f.next("done", 1)
        assert Answer(s, rest=a.rest).body == b"hello\n"
        assert not [e for e in f.events if e[0] == "gone"]


def test_absolute_form_and_target(front):
    f = front()
    with f.connect() as s:
        s.sendall(request("http://else:1/a%20b?q=%41"))
        assert f.next("head")[3] == "/a%20b?q=%41"
        f.ask("reply", 1, 200, 0)
        assert Answer(s).status == 200


BAD = [
    (b"GARBAGE\r\n\r\n", 400),
    (b"GET\r\n\r\n", 400),
    (b"GET / HTTP/3.0\r\n\r\n", 505),
    (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n12345", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5x\r\n\r\n12345", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n12345", 413),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n12345", 501),
    (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n12345", 501),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n", 400),
    (b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 33000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * 12000 + b"\r\n", 431),
]


def test_bad_requests(front):
    """Refused with a status, the connection closed, no event for the supervisor, nothing left."""
    f = front()
    for _ in range(5):
        for bytes_, status in BAD:
            with f.connect() as s:
                s.sendall(bytes_)
                if status is None:
                    assert at_eof(s), bytes_[:60]
                else:
                    assert Answer(s).status == status, bytes_[:60]
                    assert wait_for(lambda: at_eof(s), "end of the connection")
    wait_for(lambda: f.counts() == (0, 0), "no connection")
    assert not f.events


def test_bad_chunk(front):
    f = front()
    with f.connect() as s:
        s.sendall(request("/m", "POST", ("Transfer-Encoding: chunked",)) + b"5\r\n12345\r\nzz\r\n")
        assert Answer(s).status == 400
        f.next("gone", 1)
        f.next("done", 1)


# --- uploads ---


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 3 * MB])
@pytest.mark.parametrize("how", ["length", "chunked", "expect"])
def test_upload(front, size, how):
    f = front()
    body = pattern(size)
    with f.connect() as s:
        if how == "chunked":
            pieces = [body[i : i + 10007] for i in range(0, size, 10007)]
            s.sendall(request("/m", "POST", ("Transfer-Encoding: chunked",)) + chunked(*pieces))
        elif how == "length":
            s.sendall(request("/m", "POST", (f"Content-Length: {size}",)) + body)
        else:
            s.sendall(request("/m", "POST", (f"Content-Length: {size}", "Expect: 100-continue")))
            if size:
                assert Answer(s, head=True).status == 100
            s.sendall(body)
        assert f.next("head", 1)[4] == ("-1" if how == "chunked" else str(size))
        assert f.next("body_end", 1)[2:] == [str(size), str(sum(body))]
        f.ask("reply", 1, 201, 5)
        a = Answer(s)
        while a.status == 100:  # Expect with an empty body
            a = Answer(s, rest=a.rest)
        assert (a.status, a.body) == (201, b"abcde")
        s.sendall(request("/hello"))
        assert Answer(s, rest=a.rest).status == 200


def test_upload_byte_by_byte(front):
    f = front()
    with f.connect() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for b in request("/m", "POST", ("Transfer-Encoding: chunked",)) + chunked(b"hello", b"w"):
            s.sendall(bytes([b]))
        assert f.next("body_end", 1)[2] == "6"
        f.ask("reply", 1, 200, 1)
        assert Answer(s).body == b"a"


def test_upload_back_pressure(front):
    """256 MB into a paused reader: the client is held back, our memory does not grow."""
    f = front()
    size, taken, sent = 256 * MB, 0, 0
    piece = bytes(MB)
    with f.connect() as s:
        s.sendall(request("/slow", "POST", (f"Content-Length: {size}",)))
        f.next("head", 1)
        before = f.rss()
        s.setblocking(False)
        steps = 0
        while sent < size:
            if select.select([], [s], [], 0.05)[1]:
                sent += s.send(piece[: min(MB, size - sent)])
                continue
            assert sent - taken < 16 * MB
            steps += 1
            take = (1, 1000, 33 * MB)[steps % 3]
            taken += take
            f.tell("take", 1, take)
            if steps == 1:
                assert f.rss() < before + 2 * MB or f.keeps_freed
        f.tell("take", 1, size)
        assert f.next("body_end", 1)[2] == str(size)
        assert f.rss() < before + 2 * MB or f.keeps_freed
        s.settimeout(10)
        f.ask("reply", 1, 200, 3)
        assert Answer(s).body == b"abc"


# --- answers before the upload has ended ---


@pytest.mark.parametrize("how", ["length", "chunked"])
def test_early_answer_small(front, how):
    """The rest of a small upload is read and thrown away: the connection lives on."""
    f = front()
    body = pattern(2 * MB)
    with f.connect() as s:
        if how == "length":
            s.sendall(request("/m", "POST", (f"Content-Length: {len(body)}",)) + body[:10])
        else:
            s.sendall(request("/m", "POST", ("Transfer-Encoding: chunked",)) + b"%x\r\n" % len(body) + body[:10])
        f.next("head", 1)
        assert f.ask("reply", 1, 400, 6) == 0
        s.sendall(body[10:] + (b"\r\n0\r\n\r\n" if how == "chunked" else b"") + request("/hello"))
        a = Answer(s)
        assert (a.status, a.body) == (400, b"abcdef")
        f.next("done", 1)
        assert Answer(s, rest=a.rest).body == b"hello\n"
        assert not [e for e in f.events if e[0] in ("gone", "body_end")]


@pytest.mark.parametrize("when", ["at the head", "in mid-upload", "paused"])
@pytest.mark.parametrize("how", ["length", "chunked"])
def test_early_answer_huge(front, how, when):
    """The client of a huge upload gets its answer, not a reset, and we stop reading soon."""
    f = front()
    path = {"at the head": "/hello", "in mid-upload": "/m", "paused": "/slow"}[when]
    with f.connect() as s:
        s.sendall(request(path, "POST", (f"Content-Length: {1 << 40}" if how == "length" else "Transfer-Encoding: chunked",)))
        piece = pattern(MB) if how == "length" else b"%x\r\n%s\r\n" % (MB, pattern(MB))
        s.sendall(piece)
        if path != "/hello":
            f.next("head", 1)
            assert f.ask("reply", 1, 413, 6) == 0
        sent = 0
        with pytest.raises(OSError):  # as curl and httpx do: go on sending, look for an answer
            while True:
                if select.select([s], [], [], 0)[0]:
                    a = Answer(s)
                    raise OSError("answered")
                s.sendall(piece)
                sent += 1
                assert sent < 512
        assert (a.status, a.body, a.headers["connection"]) == ((200, b"hello\n", "close") if path == "/hello" else (413, b"abcdef", "close"))
        with pytest.raises(OSError):  # nobody reads for ever
            for _ in range(2000):
                s.sendall(piece)
        if path != "/hello":
            f.next("done", 1)
        wait_for(lambda: f.counts() == (0, 0), "no connection")
        assert not [e for e in f.events if e[0] == "gone"]


def test_early_answer_expect(front):
    """A client that waits for 100 gets the refusal instead, and sends nothing."""
    f = front()
    with f.connect() as s:
        s.sendall(request("/hello", "POST", ("Content-Length: 100", "Expect: 100-continue")))
        assert Answer(s).body == b"hello\n"
        assert at_eof(s)


# --- answers ---


@pytest.mark.parametrize("length", [True, False])
def test_answer_back_pressure(front, length):
    """stream_bytes bounds what is held for a client that does not read; sent() sums to the body exactly."""
    cap, total = 256 * 1024, 24 * MB
    f = front(stream_bytes=cap)
    with f.connect(SO_RCVBUF=65536) as s:
        s.sendall(request("/m"))
        f.next("body_end", 1)
        assert f.ask("head", 1, 200, total if length else -1) == 0
        assert f.ask("write", 1, cap + 1) == -105  # ENOBUFS
        written, full = 0, 0
        body = bytearray()
        while written < total:
            n = min(50021, total - written)
            rc = f.ask("write", 1, n)
            if rc == 0:
                written += n
                continue
            assert rc == -105
            full += 1
            assert written - len(body) < cap + 16 * MB  # the cap, and what the two sockets hold
            body += s.recv(MB)
        assert full > 0
        if length:
            assert f.ask("write", 1, 1) == -90  # EMSGSIZE
        f.tell("end", 1)
        s_rest = bytes(body)
        a = Answer(s, rest=s_rest)
        assert not a.broken and len(a.body) == total
        assert f.next("done", 1)[2] == str(total)
        s.sendall(request("/hello"))
        assert Answer(s, rest=a.rest).status == 200


@pytest.mark.parametrize("length", [-1, 100])
def test_head_alone_goes_out(front, length):
    """Early headers, long before the first byte of the body; then bytes one by one, each at once."""
    f = front()
    with f.connect() as s:
        for i in (1, 2):  # on a fresh connection and on a used one
            s.sendall(request("/m"))
            f.next("body_end", i)
            at = time.monotonic()
            f.ask("head", i, 200, length)
            got = b""
            while b"\r\n\r\n" not in got:
                got += s.recv(65536)
            for k in range(1, 20):
                f.ask("write", i, 1)
                while got.count(b"a", got.index(b"\r\n\r\n")) < k:
                    got += s.recv(65536)
            assert spent(at) < 0.15  # a corked socket waits 200 ms
            if length > 0:
                f.ask("write", i, length - 19)
            f.tell("end", i)
            assert not Answer(s, rest=got).broken
            f.next("done", i)


def test_last_byte_waits_for_the_end(front):
    """done never comes before the supervisor has ended, even when the declared length is complete."""
    f = front()
    with f.connect() as s:
        s.sendall(request("/m"))
        f.next("body_end", 1)
        f.ask("head", 1, 200, 100)
        f.ask("write", 1, 100)
        got = b""
        while not got.endswith(pattern(99)):
            got += s.recv(65536)
        assert f.counts() == (1, 1)
        f.tell("end", 1)
        assert f.next("done", 1)[2] == "100"
        assert Answer(s, rest=got).body == pattern(100)
        assert not [e for e in f.events if e[0] == "gone"]


def test_writes_that_come_before_the_response(front):
    """Everything written and ended in one go, with no length: one whole answer."""
    f = front()
    with f.connect() as s:
        s.sendall(request("/m"))
        f.next("body_end", 1)
        f.popen.stdin.write(b"head 1 200 -1\nwrite 1 10\nend 1\n")
        a = Answer(s)
        assert (a.body, a.broken) == (pattern(10), False)
        assert f.next("done", 1)[2] == "10"


def test_headers_are_checked(front):
    f = front()
    with f.connect() as s:
        s.sendall(request("/m"))
        f.next("body_end", 1)
        assert f.ask("heads", 1, "X-Good", "a b") == 0
        assert f.ask("heads", 1, "X-Bad", "a\rb") == -22
        assert f.ask("heads", 1, "X:Bad", "a") == -22
        f.ask("reply", 1, 200, 1)
        a = Answer(s)
        assert a.headers["x-good"] == "a b" and len(a.headers) == 4


@pytest.mark.parametrize("length", [-1, 1000])
@pytest.mark.parametrize("how", ["abort", "end early"])
def test_broken_answer(front, length, how):
    f = front()
    if how == "end early" and length < 0:
        pytest.skip("that is a complete answer")
    others = [f.connect() for _ in range(3)]  # MHD cleans up the oldest connection by luck
    with f.connect() as s:
        s.sendall(request("/m"))
        f.next("body_end", 1)
        f.ask("head", 1, 200, length)
        f.ask("write", 1, 500)
        got = b""
        while b"xyz" not in got:
            got += s.recv(65536)
        f.tell("abort" if how == "abort" else "end", 1)
        a = Answer(s, rest=got)
        assert a.broken
        f.next("done", 1)
        wait_for(lambda: f.counts() == (len(others), 0), "closed connection")
        assert not [e for e in f.events if e[0] == "gone"]


def test_abort_before_head(front):
    f = front()
    for command in ("abort", "end"):
        with f.connect() as s:
            s.sendall(request("/m"))
            one = f.next("body_end")[1]
            f.tell(command, one)
            assert at_eof(s)
            f.next("done", one)


def test_abort_http_1_0(front):
    """Without chunks and length the client must see a reset."""
    f = front()
    with f.connect() as s:
        s.sendall(request("/m", version="1.0"))
        f.next("body_end", 1)
        f.ask("head", 1, 200, -1)
        f.ask("write", 1, 500)
        got = b""
        while b"xyz" not in got:
            got += s.recv(65536)
        f.tell("abort", 1)
        with pytest.raises(ConnectionResetError):
            while s.recv(65536):
                pass
        f.next("done", 1)


# --- clients that leave ---


def leave(sock, how):
    at = time.monotonic()
    if how == "close":
        sock.close()
    elif how == "reset":
        reset(sock)
    else:
        sock.shutdown(socket.SHUT_WR)
    return at


HOWS = ["close", "reset", "half-close"]


def seen_once(f, number, at, waits=0.0):
    f.next("gone", number)
    f.next("done", number)
    took = spent(at)
    assert took < PROMPT_S + NOISE_S, f"{took * 1000:.1f} ms"
    wait_for(lambda: f.counts() == (0, 0), "no connection")
    words = [e[0] for e in f.events if len(e) > 1 and e[1] == str(number)]
    assert "gone" not in words and "done" not in words


@pytest.mark.parametrize("how", HOWS)
def test_leave_in_head(front, how):
    f = front()
    s = f.connect()
    s.sendall(b"GET /m HTTP/1.1\r\nHost: x\r\nX-Half")
    wait_for(lambda: f.counts()[0] == 1, "connection")
    leave(s, how)
    wait_for(lambda: f.counts() == (0, 0), "no connection")
    assert not f.events


@pytest.mark.parametrize("how", HOWS)
def test_leave_idle(front, how):
    f = front()
    s = f.connect()
    s.sendall(request("/hello"))
    Answer(s)
    assert f.counts() == (1, 0)
    leave(s, how)
    wait_for(lambda: f.counts() == (0, 0), "no connection")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("path", ["/m", "/slow"])
def test_leave_in_upload(front, how, path):
    f = front()
    s = f.connect()
    s.sendall(request(path, "POST", ("Content-Length: 1000000",)) + pattern(100000))
    f.next("head", 1)
    seen_once(f, 1, leave(s, how))


@pytest.mark.parametrize("how", HOWS)
def test_leave_waiting(front, how):
    f = front()
    s = f.connect()
    s.sendall(request("/m", "POST", body=b"x" * 1000))
    f.next("body_end", 1)
    seen_once(f, 1, leave(s, how))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("length", [-1, 100000])
def test_leave_streaming(front, how, length):
    f = front()
    s = f.connect()
    s.sendall(request("/m"))
    f.next("body_end", 1)
    f.ask("head", 1, 200, length)
    f.ask("write", 1, 100)
    got = b""
    while b"xyz" not in got:
        got += s.recv(65536)
    seen_once(f, 1, leave(s, how))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("length", [-1, 1 << 30])
def test_leave_blocked(front, how, length):
    """The socket is full and MHD waits for room in it."""
    f = front()
    s = f.connect(SO_RCVBUF=8192)
    s.sendall(request("/m"))
    f.next("body_end", 1)
    f.ask("head", 1, 200, length)
    refused = 0
    while refused < 20:
        refused = refused + 1 if f.ask("write", 1, 500000) else 0
    seen_once(f, 1, leave(s, how))


@pytest.mark.parametrize("how", HOWS)
def test_leave_between_ended_and_flushed(front, how):
    """All is written: no gone, and a client that half-closes still gets everything."""
    f = front()
    s = f.connect(SO_RCVBUF=8192)
    s.sendall(request("/m"))
    f.next("body_end", 1)
    f.ask("reply", 1, 200, 900000)
    at = leave(s, how)
    if how == "half-close":
        assert Answer(s).body == pattern(900000)
        s.close()
    f.next("done", 1)
    assert how == "half-close" or spent(at) < PROMPT_S + NOISE_S
    wait_for(lambda: f.counts() == (0, 0), "no connection")
    assert not [e for e in f.events if e[0] == "gone"]


@pytest.mark.parametrize("how", HOWS)
def test_leave_right_after_request(front, how):
    """The end arrives together with the request: it must not be lost between the two watchers."""
    f = front()
    for i in range(1, 101):
        s = f.connect()
        s.sendall(request("/m"))
        leave(s, how)
        if how != "reset":  # a reset may overtake the request
            f.next("gone", i)
            f.next("done", i)
        s.close()
    wait_for(lambda: f.counts() == (0, 0), "no connection")


def test_half_close_still_gets_prompt_answers(front):
    """printf | nc -N: what can be answered at once is answered."""
    f = front()
    for path, body in (("/hello", b"hello\n"), ("/late", b"late\n")):
        with f.connect() as s:
            s.sendall(request(path))
            s.shutdown(socket.SHUT_WR)
            assert Answer(s).body == body
            assert at_eof(s)


def test_pipelined_client_leaves(front):
    """A client that leaves while its first request waits: the second is never begun."""
    f = front()
    s = f.connect()
    s.sendall(request("/m1") + request("/m2"))
    f.next("body_end", 1)
    seen_once(f, 1, leave(s, "close"))
    assert not [e for e in f.events if e[:2] == ["head", "2"]]


# --- web pages ---

LOCAL_PAGE, STRANGER = "http://localhost:3000", "http://example.com"


@pytest.mark.parametrize("origin,host,method,status", [
    (None, "127.0.0.1:8512", "GET", 200),
    (LOCAL_PAGE, "127.0.0.1:8512", "GET", 200),
    (LOCAL_PAGE, "localhost", "OPTIONS", 204),
    (STRANGER, "127.0.0.1:8512", "POST", 403),
    (STRANGER, "127.0.0.1:8512", "OPTIONS", 403),
    ("null", "127.0.0.1:8512", "POST", 403),
    (None, "example.com", "GET", 403),
    (STRANGER, "example.com", "POST", 403),  # DNS rebinding: the page's own host, which points at us
    ("http://localhost:8512", "localhost:8512", "POST", 200),  # a page that we served
])
def test_origin_gate(front, origin, host, method, status):
    f = front()
    body = b"x" * 1000 if method == "POST" else b""
    head = f"{method} /gate HTTP/1.1\r\nHost: {host}\r\n" + (f"Origin: {origin}\r\n" if origin else "")
    if body:
        head += f"Content-Length: {len(body)}\r\n"
    with f.connect() as s:
        s.sendall(head.encode() + b"\r\n" + body + request("/hello"))
        a = Answer(s)
        assert a.status == status
        assert a.body == (b"hello\n" if status == 200 else b"")
        allowed = a.headers.get("access-control-allow-origin")
        assert allowed == (LOCAL_PAGE if origin == LOCAL_PAGE else None)
        if allowed:
            assert "Origin" in a.headers["vary"]
        if status == 204:
            assert "DELETE" in a.headers["access-control-allow-methods"]
            assert "Authorization" in a.headers["access-control-allow-headers"]
        elif allowed:
            assert "X-Tandem-Strategy" in a.headers["access-control-expose-headers"]
        assert Answer(s, rest=a.rest).body == b"hello\n"


# --- limits, time, many ---


def test_idle_and_slow_head_time_out(front):
    f = front(idle_ms=1000)
    idle, slow, stalled, waiting = f.connect(), f.connect(), f.connect(), f.connect()
    idle.sendall(request("/hello"))
    assert Answer(idle).status == 200
    slow.sendall(b"GET / HTTP/1.1\r\nHost:")
    stalled.sendall(request("/m", "POST", ("Content-Length: 10",)) + b"123")
    upload = f.next("head")[1]
    waiting.sendall(request("/wait"))
    other = f.next("head")[1]
    at = time.monotonic()
    for s in (idle, slow, stalled):
        assert at_eof(s)
        assert 0.5 < time.monotonic() - at and spent(at) < 3.5
    f.next("gone", upload)
    f.next("done", upload)
    assert f.counts() == (1, 1)  # an exchange that waits for us has no such limit
    f.ask("reply", other, 200, 1)
    assert Answer(waiting).body == b"a"


def test_connection_limit(front):
    """Beyond the limit connections wait; each that ends lets the next one in."""
    f = front(connections=4)
    if f.tls:
        pytest.skip("a handshake waits for its place: test_tls.py")
    socks = [f.connect() for _ in range(12)]
    for s in socks:
        s.sendall(request("/hello"))
    served = 0
    while socks:
        ready = select.select(socks, [], [], 5)[0]
        assert ready
        assert f.counts()[0] <= 4
        for s in ready:
            assert Answer(s).body == b"hello\n"
            served += 1
            socks.remove(s)
            s.close()
    assert served == 12
    wait_for(lambda: f.counts() == (0, 0), "no connection")


def test_thousand_idle_streams(front):
    """They cost little, all of them end, and nothing stays."""
    f = front()
    socks = []
    before = f.rss()
    for i in range(1, 1001):
        s = f.connect()
        s.sendall(request("/m", "POST", body=b"x" * 1000))
        f.next("body_end", i)
        assert f.ask("head", i, 200, -1) == 0
        assert f.ask("write", i, 50) == 0
        socks.append(s)
    assert f.counts() == (1000, 1000)
    per_stream = (f.rss() - before) / 1000
    print(f"{per_stream / 1024:.1f} KB an idle stream")
    assert per_stream < (80 if f.tls else 40) * 1024 or "asan" in BIN
    for i in range(1, 501):
        f.ask("write", i, 50)
        f.tell("end", i)
    for s in socks[:500]:
        assert Answer(s).body == pattern(50) * 2
    for s in socks[500:]:
        s.close()
    for i in range(501, 1001):
        f.next("gone", i)
    for s in socks:
        s.close()
    wait_for(lambda: f.counts() == (0, 0), "no connection")


def test_quiesce(front):
    """No new connections, running answers go on, later answers say close."""
    f = front()
    stream, idle = f.connect(), f.connect()
    stream.sendall(request("/m"))
    f.next("body_end", 1)
    f.ask("head", 1, 200, -1)
    f.ask("write", 1, 10)
    idle.sendall(request("/hello"))
    Answer(idle)
    f.tell("quiesce")
    f.next("quiesced")
    with pytest.raises(ConnectionRefusedError):
        f.connect()
    f.ask("write", 1, 10)
    f.tell("end", 1)
    assert Answer(stream).body == pattern(10) * 2
    idle.sendall(request("/hello"))
    assert Answer(idle).headers["connection"] == "close"
    assert at_eof(idle)


def test_stop_in_every_phase(front):
    """done comes for each, nothing leaks, nothing panics (the fixture looks at the exit)."""
    f = front()
    socks = [f.connect(SO_RCVBUF=8192) for _ in range(8)]
    socks[0].sendall(b"GET /half HTTP/1.1\r\nHos")
    socks[1].sendall(request("/m", "POST", ("Content-Length: 10",)) + b"123")
    f.next("head", 1)
    socks[2].sendall(request("/slow", "POST", body=b"x" * 100000))
    f.next("head", 2)
    socks[3].sendall(request("/m") * 3)
    f.next("body_end", 3)
    for i, s in ((4, socks[4]), (5, socks[5])):
        s.sendall(request("/m"))
        f.next("body_end", i)
        f.ask("head", i, 200, -1)
        f.ask("write", i, 100)
    while f.ask("write", 5, 500000) == 0:
        pass
    socks[6].sendall(request("/hello"))
    socks[7].sendall(request("/hello", "POST", (f"Content-Length: {1 << 40}",)) + pattern(100000))
    Answer(socks[7])
    f.stop()
    assert {e[1] for e in f.events if e[0] == "done"} >= {"1", "2", "3", "4", "5"}


def test_no_steps(front):
    """A small request at one connection never waits for a timer."""
    f = front()
    times = []
    with f.connect() as s:
        rest = b""
        for i in range(4000):
            at = time.monotonic()
            s.sendall(request("/late", "POST", body=b"12345"))
            a = Answer(s, rest=rest)
            rest = a.rest
            times.append(time.monotonic() - at)
    times.sort()
    print(f"p50 {times[2000] * 1e6:.0f} us, p99 {times[3960] * 1e6:.0f} us, max {times[-1] * 1e6:.0f} us")
    assert times[2000] < 0.0008 or "asan" in BIN


def test_resumed_from_outside(front):
    """An answer that comes from another event (a command on a pipe) goes out in that very turn."""
    f = front()
    times = []
    with f.connect() as s:
        rest = b""
        for i in range(1, 501):
            s.sendall(request("/m"))
            f.next("body_end", i)
            at = time.monotonic()
            f.tell("reply", i, 200, 3)
            a = Answer(s, rest=rest)
            times.append(time.monotonic() - at)
            rest = a.rest
            f.next("done", i)
    times.sort()
    assert times[250] < 0.0008 or "asan" in BIN
