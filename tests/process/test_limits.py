"""Every cap: what is beyond it is refused in plain words, and everybody else goes on being served."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from conftest import attached
from harness import BIN, libconfig, ndjson, rss_bytes, sse, wait_for
from test_fallback import check_good, in_thread
from test_routes import prompt, prose


@pytest.fixture
def one(fake, tandem):
    """one(device={...}, options=[...], group={...}) -> (tandem, its only backend)."""

    def start(device=None, options=("--slots", "8"), type="ollama", **groups):
        a = fake("main", type=type, options=options)
        return tandem([attached(a, **{"slots": 4, "num_ctx": 16384, **(device or {})})], **groups), a

    return start


def said(body):
    """The words of an error body, in either dialect."""
    error = json.loads(body)["error"]
    return error["message"] if isinstance(error, dict) else error


def head(path, *lines):
    return ("\r\n".join([f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *lines]) + "\r\n\r\n").encode()


def dial(t):
    return socket.create_connection(("127.0.0.1", t.port), 15)


def read_answer(s):
    """(status, headers, body) of one answer with a length or up to the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = s.recv(65536)
        assert piece, data
        data += piece
    top, body = data.split(b"\r\n\r\n", 1)
    headers = dict(line.lower().split(": ", 1) for line in top.decode().split("\r\n")[1:])
    while len(body) < int(headers.get("content-length", 1 << 60)):
        piece = s.recv(65536)
        if not piece:
            break
        body += piece
    return int(top.split()[1]), headers, body


def works(t):
    status, _, body = t.chat("hi")
    assert status == 200, body
    s = t.status()
    assert s["queue"]["waiting"] == 0 and [d["generation"] for d in s["devices"]] == [1] * len(s["devices"])


# --- requests ---


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("how", ["length", "chunked", "length, expect"])
def test_body_bytes(one, path, how):
    t, a = one(limits={"body_bytes": 20000})
    body = json.dumps({"model": "m:1b", "messages": [{"role": "user", "content": "x" * 30000}]}).encode()
    with dial(t) as s:
        if how == "chunked":
            s.sendall(head(path, "Transfer-Encoding: chunked"))
            for at in range(0, len(body), 7000):
                piece = body[at:at + 7000]
                s.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            s.sendall(b"0\r\n\r\n")
        elif how == "length":
            s.sendall(head(path, f"Content-Length: {len(body)}") + body)
        else:
            s.sendall(head(path, f"Content-Length: {len(body)}", "Expect: 100-continue"))
        status, _, answer = read_answer(s)
    assert status == 413 and "limits.body_bytes" in said(answer)
    works(t)
    wait_for(lambda: t.status()["held_bytes"] == 0, "no held bytes")
    assert t.status()["requests"]["refused"] == 1 and t.status()["requests"]["failed"] == 0 and a.stats()
    # exactly the limit is not beyond it
    fits = json.dumps({"model": "m:1b", "stream": False, "messages": [{"role": "user", "content": ""}]})
    fits = fits.replace('""', '"' + "y" * (20000 - len(fits)) + '"')
    assert len(fits) == 20000 and t.request("POST", "/api/chat", fits.encode())[0] == 200


def test_uploads_that_pass_have_no_such_limit(one):
    t, a = one(limits={"body_bytes": 20000})
    status, _, _ = t.request("POST", "/api/blobs/sha256:" + "0" * 64, b"b" * 300000)
    assert status in (200, 201)


def test_body_total_bytes(one):
    """Small bodies (64 KB) are held beyond it, too: works() is one."""
    t, a = one(limits={"body_total_bytes": 150000, "body_bytes": 120000})
    body = json.dumps({"model": "m:1b", "stream": False, "messages": [{"role": "user", "content": "x" * 90000}]}).encode()
    held = dial(t)
    held.sendall(head("/api/chat", f"Content-Length: {len(body)}") + body[:-1])
    wait_for(lambda: t.status()["held_bytes"] == len(body) - 1, "the first body")
    with dial(t) as s:
        s.sendall(head("/api/chat", f"Content-Length: {len(body)}") + body)
        status, headers, answer = read_answer(s)
        assert status == 503 and "limits.body_total_bytes" in said(answer) and int(headers["retry-after"]) > 0
    works(t)
    held.sendall(body[-1:])
    assert read_answer(held)[0] == 200
    held.close()
    wait_for(lambda: t.status()["held_bytes"] == 0, "no held bytes")
    assert t.request("POST", "/api/chat", body)[0] == 200


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_queue(one, path):
    t, a = one(device={"slots": 1}, limits={"queue": 2})
    a.fault(fault="hang", times=1)
    body = json.dumps({"model": "m:1b", "stream": False, "messages": [{"role": "user", "content": "hi"}]}).encode()
    whole = head(path, f"Content-Length: {len(body)}") + body
    first, *waiting = [dial(t) for _ in range(3)]
    first.sendall(whole)
    wait_for(lambda: t.device("gpu0")["inflight"] == 1, "the running one")
    for s in waiting:
        s.sendall(whole)
    wait_for(lambda: t.status()["queue"]["waiting"] == 2, "a full queue")
    for _ in range(3):
        status, headers, answer = t.request("POST", path, body)
        assert status == 503 and int(headers["Retry-After"]) > 0 and "busy" in said(answer)
    # what asks nothing of a slot is not behind them
    assert t.request("GET", "/api/version")[0] == 200
    first.close()
    for s in waiting:
        assert read_answer(s)[0] == 200
        s.close()
    works(t)
    assert t.status()["requests"]["failed"] == 3 and t.status()["requests"]["cancelled"] == 1


def test_connections(one):
    """While all of them are busy a newcomer waits."""
    t, a = one(limits={"connections": 4}, options=("--slots", "8"))
    a.fault(times=4, delay_ms=600000)
    inside = [t.connect() for _ in range(4)]
    for c in inside:
        c.request("POST", "/api/chat", json.dumps({"model": "m:1b", "messages": [{"role": "user", "content": "hi"}]}))
    wait_for(lambda: t.requests()["active"] == 4, "all of them busy")
    outside = dial(t)
    outside.sendall(b"GET /api/version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    outside.settimeout(0.3)
    with pytest.raises(TimeoutError):
        outside.recv(1)
    assert t.status()["connections"] == 4
    a.struck()
    a.go()
    answers = [ndjson(c.getresponse().read())[-1]["done"] for c in inside]
    assert answers == [True] * 4
    inside.pop().close()
    outside.settimeout(10)
    assert read_answer(outside)[0] == 200
    outside.close()
    for c in inside:
        c.close()
    wait_for(lambda: t.status()["connections"] == 0, "no connection")
    works(t)


@pytest.mark.parametrize("long", ["header", "headers", "target"])
def test_header_bytes(one, long):
    t, a = one(limits={"header_bytes": 4096})
    text = {"header": b"GET /api/version HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"x" * 30000 + b"\r\n\r\n",
            "headers": b"GET /api/version HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(3000)) + b"\r\n",
            "target": b"GET /api/version?" + b"x" * 30000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"}[long]
    with dial(t) as s:
        s.sendall(text)
        assert read_answer(s)[0] in (400, 414, 431)
    works(t)
    assert t.request("GET", "/api/version", headers={"X-Fits": "x" * 2000})[0] == 200


def test_idle_ms(one):
    t, a = one(limits={"idle_ms": 1000})
    quiet, slow, kept = dial(t), dial(t), t.connect()
    slow.sendall(b"POST /api/chat HTTP/1.1\r\nHost: 127")
    begun = time.monotonic()
    for s in (quiet, slow):
        while s.recv(100):
            pass
        assert 0.5 < time.monotonic() - begun < 8
        s.close()
    # an answer that takes longer than that is no idle connection
    kept.request("POST", "/api/chat", json.dumps({"model": "m:1b", "messages": [
        {"role": "user", "content": "[[fake delay_ms=2500]]"}]}))
    assert ndjson(kept.getresponse().read())[-1]["done"]
    kept.close()
    works(t)


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_messages(one, path):
    t, a = one(device={"num_ctx": 16000000}, options=("--num-ctx", "16000000"), routing={"a_max_tokens": 10000000, "b_max_tokens": 10000000})
    message = '{"role":"user","content":""}'

    def post(n):
        return t.request("POST", path, ('{"model":"m:1b","stream":false,"messages":[' + ",".join([message] * n) + "]}").encode())

    assert post(65536)[0] == 200
    status, _, answer = post(65537)
    assert status == 400 and "too many messages" in said(answer), answer
    works(t)


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/v1/chat/completions"])
def test_json_depth(one, path):
    t, a = one()

    def post(depth):
        deep = "[" * depth + "]" * depth
        return t.request("POST", path, f'{{"model":"m:1b","stream":false,"prompt":"hi","messages":[{{"role":"user","content":"hi"}}],"x":{deep}}}'.encode())

    assert post(100)[0] == 200
    for depth in (200, 100000):
        status, _, answer = post(depth)
        assert status == 400 and re.search("nest|deep", said(answer)), answer
    works(t)


# --- answers ---


@pytest.mark.parametrize("type", ["ollama", "llama-server"])
@pytest.mark.parametrize("stream", [True, False])
def test_line_bytes(one, type, stream):
    """A line that never ends must not fill the worker; it fails that request only."""
    t, a = one(type=type, limits={"line_bytes": 10000}, options=("--slots", "8") if type == "ollama" else ("-c", "65536", "-np", "4"))
    for path in ("/api/chat", "/v1/chat/completions"):
        body = {"model": "m:1b", "stream": stream, "messages": [{"role": "user", "content": "[[fake hugeline=100000]]"}]}
        status, _, answer = t.request("POST", path, body)
        if status == 200 and stream:
            answer = (ndjson(answer)[-1:] if path == "/api/chat" else [json.loads(e) for e in sse(answer) if e != "[DONE]"])[-1]
            assert "error" in answer
        else:
            assert status == 502 and "limits.line_bytes" in said(answer), answer
    works(t)


def test_layout_bytes(one):
    """The states of conversations stay below their cap; without room for one the same bytes are sent."""
    sent = {}
    for cap in (1 << 24, 40000, 0):
        t, a = one(device={"num_ctx": 4096}, limits={"layout_bytes": cap})
        most = 0
        for k in range(12):
            said = [{"role": "user", "content": f"Read part {k % 4}."}]
            for i in range(4 + k // 4):
                said += [{"role": "assistant", "content": f"{i}: {prose(5000)}"}, {"role": "user", "content": f"Go on with {i}."}]
            assert t.chat(said)[0] == 200
            most = max(most, t.status()["layout_bytes"])
            assert t.status()["layout_bytes"] <= cap
        assert (most > 0) == (cap > 0)
        sent[cap] = [json.loads(body)["messages"] for body in a.bodies() if b'"messages"' in body]
        assert any("Earlier part" in m["content"] or "[.." in m["content"] for messages in sent[cap] for m in messages)
    assert sent[0] == sent[40000] == sent[1 << 24]


def test_result_bytes(pair):
    """Notes of a model that does not stop are thrown away; the prompt goes on without."""
    t, a, b = pair(condense={"result_bytes": 2000})
    b.fault(hugeline=100000, times=-1)
    status, headers, body = t.chat(prompt(3568), stream=True)
    check_good(status, headers, body)
    assert "fallback" in headers["X-Tandem-Reason"] and "too_large" in headers["X-Tandem-Reason"], headers["X-Tandem-Reason"]
    assert [d["generation"] for d in t.status()["devices"]] == [1, 1]


@pytest.mark.measured
def test_clients_that_do_not_read(one):
    """The backend floods, four clients read nothing: what waits is bounded in every process, and then arrives whole."""
    t, a = one(options=("--slots", "8", "--num-ctx", "1000000"), device={"num_ctx": 1000000}, limits={"stream_bytes": 65536})
    works(t)
    worker = t.device("gpu0")["pid"]
    before = rss_bytes(t.pid), rss_bytes(worker)
    tokens = 80000  # about 9 MB as NDJSON
    body = json.dumps({"model": "m:1b", "messages": [{"role": "user", "content": f"[[fake tokens={tokens}]]"}]}).encode()
    clients = []
    for _ in range(4):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.connect(("127.0.0.1", t.port))
        s.sendall(head("/api/chat", f"Content-Length: {len(body)}") + body)
        clients.append(s)
    wait_for(lambda: t.device("gpu0")["inflight"] == 4, "four streams")
    samples = []

    def settled():
        samples.append((rss_bytes(t.pid), rss_bytes(worker)))
        return len(samples) > 60 and max(samples[-40:]) == min(samples[-40:])

    wait_for(settled, "a standstill")
    assert t.device("gpu0")["inflight"] == 4
    for was, now in zip(before, samples[-1]):
        assert now - was < 9 << 20, (before, samples[-1])
    works_beside = t.request("GET", "/api/version")
    assert works_beside[0] == 200
    for s in clients:
        s.settimeout(20)
        tail = b""
        total = 0
        while not tail.endswith(b"0\r\n\r\n"):
            piece = s.recv(1 << 20)
            assert piece, tail
            total += len(piece)
            tail = (tail + piece)[-600:]
        assert b'"eval_count":%d' % tokens in tail and total > 5 << 20
        s.close()
    works(t)


@pytest.mark.measured
def test_link_bytes(one):
    """What waits for a worker that does not read its link stays under the cap; its heartbeats are missed, and it is replaced."""
    t, a = one(limits={"link_bytes": 65536}, deadlines={"ping_ms": 500}, backoff={"first_ms": 50, "max_ms": 100})
    before = rss_bytes(t.pid)
    os.kill(t.device("gpu0")["pid"], signal.SIGSTOP)
    body = b"b" * 262144
    uploads = [in_thread(lambda: t.request("POST", "/api/blobs/sha256:" + "0" * 64, body)) for _ in range(32)]
    statuses = {u.join(40)[0] for u in uploads}
    assert statuses <= {200, 201, 502, 503} and statuses & {502, 503}, statuses  # some may find the new worker
    assert rss_bytes(t.pid) - before < 24 << 20
    assert "missed its heartbeats" in t.log() and "reads too slowly" not in t.log()
    wait_for(lambda: t.device("gpu0")["generation"] == 2, "the replacement")
    t.wait_ready()
    assert t.chat("hi")[0] == 200


# --- the configuration ---

RANGES = {
    ("listen", "port"): (-1, 65536),
    ("routing", "a_max_tokens"): (-1, 10**8),
    ("routing", "min_gain_ms"): (-1, 10**9),
    ("routing", "min_gain"): (-0.1, 1.1),
    ("condense", "keep_ratio_b"): (0.01, 1.5),
    ("condense", "chunk_tokens"): (0, 10**9),
    ("condense", "max_chunks"): (0, 5000),
    ("condense", "result_bytes"): (10, 10**12),
    ("deadlines", "first_byte_ms"): (0, 10**12),
    ("deadlines", "hello_ms"): (0, 10**12),
    ("deadlines", "drain_ms"): (-1, 10**12),
    ("limits", "body_bytes"): (0, 10**15),
    ("limits", "connections"): (0, 10**9),
    ("limits", "queue"): (-1, 10**9),
    ("limits", "queue_per_client"): (-1, 10**9),
    ("limits", "coalesce_after_ms"): (-1, 10**12),
    ("limits", "stream_bytes"): (0, 10**12),
    ("limits", "line_bytes"): (0, 10**12),
    ("limits", "link_bytes"): (0, 10**15),
    ("limits", "header_bytes"): (0, 1048577),
    ("limits", "header_total_bytes"): (0, 10**12),
    ("limits", "headers"): (15, 1025),
    ("limits", "body_rate"): (-1, 1 << 31),
    ("deadlines", "head_ms"): (9, 3600001),
    ("deadlines", "body_ms"): (9, 3600001),
    ("limits", "body_total_bytes"): (0, 10**18),
    ("limits", "state_bytes"): (1000, 10**12),
    ("limits", "kv_bytes"): (-1, 10**15),
    ("deadlines", "kv_idle_ms"): (9, 3600001),
    ("limits", "event_bytes"): (10, 10**12),
    ("limits", "recent_event_bytes"): (-1, (2 << 20) + 1),
    ("limits", "conversations"): (-1, 4097),
    ("limits", "conversation_bytes"): (-1, 10**12),
    ("limits", "idle_ms"): (0, 10**12),
    ("backoff", "first_ms"): (0, 10**12),
    ("backoff", "max_ms"): (0, 10**12),
    ("device", "slots"): (0, 257),
}


@pytest.mark.parametrize("end", [0, 1])
def test_numbers_out_of_range(folder, end):
    """Every one of them in one go: each line names file, line, key and range."""
    lines, wanted = [], []
    for (group, key), values in RANGES.items():
        if group == "device":
            lines.append(f'devices = ( {{ name = "gpu0"; roles = [ "main" ]; {key} = {values[end]}; '
                         'backend = { type = "ollama"; url = "http://127.0.0.1:9"; }; } );')
            wanted.append((len(lines), f"devices[0].{key}"))
    for group in dict.fromkeys(g for g, _ in RANGES if g != "device"):
        lines.append(f"{group} = {{")
        for (g, key), values in RANGES.items():
            if g == group:
                lines.append(f"  {key} = {libconfig(values[end])};")
                wanted.append((len(lines), f"{group}.{key}"))
        lines.append("};")
    path = os.path.join(folder, "bad.conf")
    with open(path, "w") as f:
        f.write("\n".join(lines) + "\n")
    r = subprocess.run([os.path.join(BIN, "tandemd"), "-t", "-c", path], capture_output=True, text=True, timeout=10)
    assert r.returncode == 2
    for line, key in wanted:
        assert re.search(rf"^{re.escape(path)}:{line}: {re.escape(key)}: must be between ", r.stderr, re.M), (key, r.stderr)
    assert len(r.stderr.strip().splitlines()) == len(wanted), r.stderr


@pytest.mark.parametrize("key", ["type_bytes", "header_bytes"])
@pytest.mark.parametrize("n", [40000, 65000, 65500, 70000, 150000])
def test_headers_of_a_backend_end_no_worker(one, key, n):
    """However long one is: what the link has no room for is left out, or the answer is none."""
    t, b = one(type="llama-server", options=(), limits={"coalesce": False})
    pid = t.status()["devices"][0]["pid"]
    messages = [{"role": "user", "content": "hello"}]
    for body in ({"model": "m:1b", "messages": messages}, {"model": "m:1b", "messages": messages, "stream": True}):
        for fault in ({}, {"fault": 500}, {"error_after": 0}):
            b.fault(**{key: n, **fault})
            status = t.request("POST", "/v1/chat/completions", body)[0]
            assert status in ((200, 502) if not fault else (200, 500, 502)), (status, body, fault)
    b.fault(match="/tokenize", **{key: n})
    assert t.request("POST", "/tokenize", {"content": "hello"})[0] in (200, 502)
    assert t.status()["devices"][0]["pid"] == pid and t.chat("hello")[0] == 200
