"""Clients that are slow on purpose: each byte they send used to renew the idle timeout."""

import json
import select
import socket
import time

import pytest

from harness import in_thread, wait_for

DRIP_S = 0.02
IN_TIME = {"deadlines": {"head_ms": 500, "body_ms": 500}, "limits": {"body_rate": 1000, "idle_ms": 60000}}
POST = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CODED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UPLOAD = b"POST /api/blobs/sha256:" + b"0" * 64 + b" HTTP/1.1\r\nHost: localhost\r\n"


def headers():
    while True:
        yield b"X: y\r\n"


def bytes_of(data, then=b"x"):
    for i in range(len(data)):
        yield data[i : i + 1]
    while True:
        yield then


KINDS = {
    "request line": (b"", lambda: bytes_of(b"GET /")),
    "a header, byte by byte": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", lambda: bytes_of(b"")),
    "a header each time": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", headers),
    "an empty line, and nothing": (b"\r\n", lambda: iter(())),
    "body": (POST + b"Content-Length: 1000000\r\n\r\n{", lambda: bytes_of(b"", b" ")),
    "body of an upload": (UPLOAD + b"Content-Length: 1000000\r\n\r\n", lambda: bytes_of(b"")),
    "chunks": (CODED, lambda: bytes_of(b"", b"1\r\n \r\n")),
    "chunks of an upload": (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n", lambda: bytes_of(b"", b"1\r\n \r\n")),
    "a chunk's size": (CODED, lambda: bytes_of(b"", b"0")),
    "trailers": (CODED + b"0\r\n", headers),
    "body that nobody reads": (b"POST /api/nothing HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\r\nContent-Length: 1000000\r\n\r\n",
                               lambda: bytes_of(b"")),
}


def drip(port, first, pieces, seconds=20):
    """What the client had got when the connection ended, and after how long."""
    begun, got = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.sendall(first)
        while time.monotonic() - begun < seconds:
            ready = select.select([s], [], [], DRIP_S)[0]
            try:
                if ready:
                    data = s.recv(65536)
                    got += data
                    if not data:
                        return got, time.monotonic() - begun
                piece = next(pieces, None)
                if piece:
                    s.sendall(piece)
            except (ConnectionResetError, BrokenPipeError):
                return got, time.monotonic() - begun
    raise AssertionError(f"still open after {seconds} s; got {got!r}")


def test_each_kind_ends(one, served):
    """All at once: each is told, and ends soon after its deadline; an ordinary client meanwhile is served."""
    t, backend = one(**IN_TIME)
    threads = {kind: in_thread(lambda first=first, pieces=pieces: drip(t.port, first, pieces())) for kind, (first, pieces) in KINDS.items()}
    served(t)
    for kind, thread in threads.items():
        got, seconds = thread.join()
        status = 403 if kind == "body that nobody reads" else 408
        assert got.startswith(b"HTTP/1.1 %d " % status), (kind, got)
        assert got.count(b"HTTP/1.1 ") == 1, (kind, got)
        assert seconds < 10, kind
    wait_for(lambda: t.status()["connections"] == 0, "end of every connection")
    t.wait_idle()
    served(t)


def test_many_empty_lines(one, served):
    """64 KB of them are no request: the connection ends at once."""
    t, _ = one()
    with socket.create_connection(("127.0.0.1", t.port), timeout=5) as s:
        s.sendall(b"\r\n" * 32768)
        assert s.recv(65536).startswith(b"HTTP/1.1 400 ")
    served(t)


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500, b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\x00" * 100,
                                  b"\xff\xfb\x01", b"EHLO example.com\r\n", b"\x05\x01\x00"])
def test_garbage_is_told_at_once(one, data):
    t, _ = one()
    with socket.create_connection(("127.0.0.1", t.port), timeout=5) as s:
        s.sendall(data)
        begun = time.monotonic()
        got = s.recv(65536)
        assert got.startswith(b"HTTP/1.1 400 ") and time.monotonic() - begun < 2
        try:
            while more := s.recv(65536):
                got += more
        except ConnectionResetError:
            pass
        assert got.count(b"HTTP/1.1") == 1


def test_slow_but_fast_enough(one):
    """A client that keeps the least rate gets its answer, however long it takes."""
    t, _ = one(**IN_TIME)
    body = json.dumps({"model": "m:1b", "stream": False, "messages": [{"role": "user", "content": "x" * 4000}]}).encode()
    with socket.create_connection(("127.0.0.1", t.port), timeout=20) as s:
        s.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body))
        begun = time.monotonic()
        for i in range(0, len(body), 100):
            s.sendall(body[i : i + 100])
            time.sleep(0.04)  # the rate is what is tested: 2,500 bytes a second
        assert time.monotonic() - begun > 1
        assert s.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_idle_connection_may_stay(one, served):
    """Keep-alive between two requests is not a slow head."""
    t, _ = one(**IN_TIME)
    c = t.connect()
    c.request("GET", "/api/tags")
    assert c.getresponse().read()
    time.sleep(1.2)  # two deadlines pass
    c.request("GET", "/api/tags")
    assert c.getresponse().status == 200
    c.close()


@pytest.mark.parametrize("said", [b"", b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_idle_connections_shut_nobody_out(one, said):
    """All places are taken by who asks for nothing (any more), anew whenever one ends: a newcomer is served soon, and who is busy stays."""
    t, _ = one(limits={"connections": 8, "idle_ms": 600000})
    busy = in_thread(lambda: t.chat("[[fake delay_ms=4000]]", stream=True))
    wait_for(lambda: t.requests()["active"] == 1, "a busy one")
    idle = []
    for _ in range(20):  # 7 have a place, the others wait for one
        idle.append(socket.create_connection(("127.0.0.1", t.port), timeout=5))
        idle[-1].sendall(said)
    wait_for(lambda: t.status()["connections"] == 8, "no place")
    status, _, _ = t.request("GET", "/api/version", timeout=60)
    assert status == 200
    status, _, data = busy.join(60)
    assert status == 200 and json.loads(data.strip().split(b"\n")[-1])["done"] is True
    for s in idle:
        s.close()


# --- bodies that are too large, or held for long ---


def test_chunked_body_over_its_limit(one, served):
    """The client that waits for a word after it gets 413 at once."""
    t, _ = one(limits={"body_bytes": 100000})
    with socket.create_connection(("127.0.0.1", t.port), timeout=5) as s:
        s.sendall(CODED + b"%x\r\n" % 200000 + b" " * 150000)
        begun = time.monotonic()
        assert s.recv(65536).startswith(b"HTTP/1.1 413 ")
        assert time.monotonic() - begun < 2
    served(t)


def test_early_error_does_not_wait_for_a_body_that_stops(one):
    """Refused, while the rest of a chunked upload never comes."""
    t, _ = one()
    with socket.create_connection(("127.0.0.1", t.port), timeout=10) as s:
        s.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345")
        assert s.recv(65536).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("line", [b"5;" + b"x" * 60000, b"0" * 60000 + b"5", b"5;" + b"x=y;" * 10000, b"f" * 60000])
def test_chunk_lines_that_never_end(one, served, line):
    """Refused at once; before, each cost a core until the idle timeout."""
    t, _ = one()
    with socket.create_connection(("127.0.0.1", t.port), timeout=5) as s:
        s.sendall(CODED + line)
        begun = time.monotonic()
        status = s.recv(65536).split()[1]
        assert status in (b"400", b"413") and time.monotonic() - begun < 2
    served(t)


def test_large_heads_shut_nobody_out(one, served):
    """Half-sent or waiting for an answer, they hold limits.header_total_bytes at most; small ones are answered, and the room comes back."""
    t, _ = one(limits={"header_total_bytes": 1 << 20}, deadlines={"head_ms": 3000})
    line = b"X-A: %s\r\n" % (b"y" * 990)
    large = b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\n" + line * 250
    socks = [socket.create_connection(("127.0.0.1", t.port), timeout=20) for _ in range(16)]
    for s in socks:
        in_thread(lambda s=s: s.sendall(large))
    wait_for(lambda: len(select.select(socks, [], [], 0)[0]) >= 12, "what has no room")
    served(t)
    got = [s.recv(65536) for s in socks]
    refused = [g for g in got if g.startswith(b"HTTP/1.1 503 ")]
    assert len(refused) >= 12 and all(b"limits.header_total_bytes" in g for g in refused), got
    assert all(g.startswith(b"HTTP/1.1 408 ") for g in got if g not in refused), got
    for _ in range(8):  # nor does what was answered keep its room
        with socket.create_connection(("127.0.0.1", t.port), timeout=20) as s:
            s.sendall(large + b"\r\n")
            assert s.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_half_sent_bodies_shut_nobody_out(one, served):
    """They fill limits.body_total_bytes: small chats are answered all the same, and the room comes back."""
    total = 1 << 20
    t, _ = one(limits={"body_total_bytes": total, "body_bytes": total, "body_rate": 1000}, deadlines={"body_ms": 1500})
    socks = []
    for _ in range(8):
        s = socket.create_connection(("127.0.0.1", t.port), timeout=20)
        s.sendall(POST + b"Content-Length: %d\r\n\r\n" % total + b" " * (total // 8 - 1))
        socks.append(s)
    wait_for(lambda: t.status()["held_bytes"] > total * 0.9, "held bodies")
    served(t)
    status, _, data = t.chat("x" * 100000)
    assert status == 503 and b"body_total_bytes" in data
    for s in socks:
        assert s.recv(65536).startswith(b"HTTP/1.1 408 ")
        s.close()
    wait_for(lambda: t.status()["held_bytes"] == 0, "room")
    assert t.chat("x" * 100000)[0] == 200
