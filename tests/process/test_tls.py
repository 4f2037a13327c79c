"""TLS towards clients: what it speaks, who gets in and who does not, certificates that are renewed, and that behind it all is as without."""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
import zlib

import pytest

from conftest import attached
from harness import BIN, Client, in_thread, ndjson, ollama_text, sse, wait_for
from test_access import BEYOND, KEY, chat, line
from test_reload import write
from test_upgrade import upgradable  # noqa: F401 - a fixture
from tls import certificate


@pytest.fixture
def files(folder):
    """(certificate, key) under names that stay, whatever is put there."""
    return certificate(folder)


@pytest.fixture
def secure(fake, tandem, files):
    """secure(...) -> (tandem with TLS, its backend)."""

    def start(options=(), listen=None, **groups):
        a = fake("main", options=["--slots", "4", *options])
        listen = {"certificate": files[0], "key": files[1], **(listen or {})}
        return tandem([attached(a, slots=4, num_ctx=16384)], listen=listen, **groups), a

    return start


def plain(t, timeout=10):
    return socket.create_connection(("127.0.0.1", t.port), timeout=timeout)


def serial(t):
    """Of the certificate that a newcomer is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with plain(t) as s, context.wrap_socket(s) as c:
        return zlib.crc32(c.getpeercert(binary_form=True))


# --- what is spoken ---


@pytest.mark.parametrize("path, read", [("/api/chat", ollama_text), ("/v1/chat/completions", sse), ("/v1/responses", sse), ("/v1/messages", sse)])
@pytest.mark.parametrize("stream", [False, True])
def test_every_dialect(secure, path, read, stream):
    t, _ = secure()
    status, headers, data = t.request("POST", path, chat(path, stream=stream))
    assert status == 200 and headers["X-Tandem-Strategy"] == "A"
    assert read(data) if stream or path == "/api/chat" else json.loads(data)


@pytest.mark.parametrize("version, spoken", [(ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_1, None)])
def test_versions(secure, version, spoken):
    t, _ = secure()
    t.tls.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning) if not spoken else contextlib.nullcontext():
        t.tls.minimum_version = t.tls.maximum_version = version
    t.tls.set_alpn_protocols(["h2", "http/1.1"])
    with plain(t) as s, contextlib.suppress(OSError) if not spoken else contextlib.nullcontext():
        c = t.tls.wrap_socket(s, server_hostname="127.0.0.1")
        assert (c.version(), c.selected_alpn_protocol()) == (spoken, "http/1.1")
        c.close()


def test_an_ordinary_client_trusts_it(secure, files):
    t, _ = secure()
    with urllib.request.urlopen(t.url + "/api/tags", context=ssl.create_default_context(cafile=files[0]), timeout=10) as r:
        assert json.load(r)["models"][0]["name"] == "m:1b"
    with pytest.raises(urllib.error.URLError, match="self.signed"):
        urllib.request.urlopen(t.url + "/api/tags", timeout=10)
    assert t.events(ev="listening")[0]["tls"] == "yes"


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"POST /api/chat HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1000000, b"\0"])
def test_http_is_told_to_speak_https(secure, said):
    t, _ = secure()
    with plain(t) as s:
        with contextlib.suppress(OSError):
            s.sendall(said)
        got = b""
        while piece := s.recv(65536):
            got += piece
    assert got.startswith(b"HTTP/1.1 400 ") and b"https:// is spoken" in got
    assert [e["why"] for e in t.events(ev="tls_refused")] == ["no TLS"]
    assert t.chat("hello")[0] == 200


@pytest.mark.parametrize("said", [b"\x16", b"\x16\x03\x01\x00\x05hello", b"\x16" * 100000, b"\x16\x03\x01\xff\xff" + b"x" * 70000])
def test_what_is_no_hello(secure, said):
    t, _ = secure(deadlines={"head_ms": 1500})
    with plain(t) as s:
        with contextlib.suppress(OSError):
            s.sendall(said)
        with contextlib.suppress(OSError):
            while s.recv(65536):
                pass
    wait_for(lambda: t.status()["connections"] == 0, "no connection")
    assert len(t.events(ev="tls_refused")) == 1 and t.chat("hello")[0] == 200


# --- bytes, ends, clients that leave ---


def test_large_bodies_both_ways(secure):
    """50 MB up, as one blob and in chunks, and an answer of some MB down to a client that is in no hurry."""
    t, a = secure()
    body = os.urandom(1 << 20) * 50
    for chunked in (False, True):
        c = t.connect()
        c.request("POST", "/api/blobs/sha256:" + "0" * 64, body=(body[i : i + 70000] for i in range(0, len(body), 70000)) if chunked else body,
                  headers={"Transfer-Encoding": "chunked"} if chunked else {}, encode_chunked=chunked)
        assert c.getresponse().status in (200, 201)
        c.close()
        seen = [r for r in a.stats()["last"] if r["path"].startswith("/api/blobs")][-1]
        assert (seen["body_bytes"], seen["body_crc32"]) == (len(body), f"{zlib.crc32(body):08x}")
    c = Client(t, SO_RCVBUF=8192).send("POST", "/api/chat", chat("/api/chat", "[[fake tokens=60000]]", stream=True))
    assert c.head() == 200
    assert ollama_text(c.rest()).split() == [f"w{i}" for i in range(60000)]


@pytest.mark.parametrize("size", [512, 4096])
def test_a_client_that_wants_small_records(secure, files, size):
    """(RFC 6066, 4): what does not fit one record goes on in the next."""
    t, _ = secure()
    body = json.dumps(chat("/api/chat", "[[fake tokens=30000]]", stream=True))
    request = f"POST /api/chat HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    r = subprocess.run(["openssl", "s_client", "-quiet", "-CAfile", files[0], "-maxfraglen", str(size), "-connect", f"127.0.0.1:{t.port}"],
                       input=request.encode(), capture_output=True, timeout=60)
    head, answer = r.stdout.split(b"\r\n\r\n", 1)
    assert b" 200 " in head.split(b"\r\n")[0], r.stderr
    assert ollama_text(answer).split() == [f"w{i}" for i in range(30000)]


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_a_client_that_leaves_ends_its_generation(secure, how):
    t, a = secure(options=["--decode", "50"])
    c = Client(t).send("POST", "/api/chat", chat("/api/chat", "[[fake tokens=5000]]", stream=True))
    assert c.head() == 200 and c.piece()
    if how == "half":
        c.sock.shutdown(socket.SHUT_WR)
    else:
        c.close(reset=how == "reset")
    wait_for(lambda: a.stats()["slots"]["active"] == 0, "the end of the generation")
    t.wait_idle()
    wait_for(lambda: t.status()["connections"] == 0, "no connection")


@pytest.mark.parametrize("told", [True, False])
def test_half_a_close_gets_its_answer(secure, told):
    """Behind a request that can be answered at once, with TLS's word for it (close_notify) or TCP's alone."""
    t, _ = secure()
    c = Client(t).send("GET", "/api/tags")
    (c.sock if told else c.sock.plain).shutdown(socket.SHUT_WR)
    assert c.head() == 200 and json.loads(c.rest())["models"]
    assert c.sock.recv(1) == b""


def test_a_cut_answer_has_no_end(secure):
    """Without chunks (HTTP/1.0) only the missing close_notify tells that something is missing."""
    t, a = secure()
    for cut, end in ((False, b""), (True, ConnectionResetError)):
        c = Client(t)
        text = "[[fake tokens=20" + (" cut=5]]" if cut else "]]")
        body = json.dumps(chat("/v1/chat/completions", text, stream=True)).encode()
        c.sock.sendall(b"POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert c.head() == 200 and not c.chunked
        got = b""
        with contextlib.nullcontext() if not cut else contextlib.suppress(ConnectionResetError):
            while piece := c.sock.recv(65536):
                got += piece
        assert (b"[DONE]" in c.data + got) != cut


def test_refused_before_the_body(secure):
    """The answer reaches a client that is still sending, as without TLS: it is not lost to a reset."""
    t, _ = secure(limits={"body_bytes": 100000})
    for _ in range(5):
        c = Client(t)
        with contextlib.suppress(OSError):
            c.sock.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000000\r\n\r\n")
            for _ in range(100):
                c.sock.sendall(bytes(100000))
        assert c.head() == 413
        c.close()


def test_keys_behind_tls(fake, tandem, folder, files):
    a = fake("main")
    path = os.path.join(folder, "keys")
    with open(path, "w") as f:
        f.write(line("laptop", KEY))
    t = tandem([attached(a)], listen={**BEYOND, "certificate": files[0], "key": files[1]}, access={"key_file": path})
    c = Client(t)
    c.sock.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n")
    assert b" 401 " in c.until(b"\r\n")
    assert t.request("POST", "/api/chat", chat("/api/chat"), {"X-Api-Key": KEY})[0] == 200


# --- deadlines and places ---


def test_a_handshake_has_its_time(secure):
    t, _ = secure(deadlines={"head_ms": 300})
    silent, half = plain(t), plain(t)
    half.sendall(b"\x16\x03\x01\x02\x00\x01")
    for s in (silent, half):
        with contextlib.suppress(ConnectionResetError):
            assert s.recv(1) == b""
    assert {e["why"] for e in t.events(ev="tls_refused")} == {"the handshake took too long"}
    wait_for(lambda: t.status()["connections"] == 0, "no connection")


def test_silent_ones_shut_nobody_out(secure):
    """All of limits.connections are taken: by some that never begin, by some that are idle. Who comes then is served."""
    t, _ = secure(limits={"connections": 4})
    idle = [Client(t) for _ in range(2)]
    silent = [plain(t) for _ in range(8)]
    wait_for(lambda: t.status()["connections"] == 4, "no place left")
    waiting = [in_thread(lambda: t.chat("hello")[0]) for _ in range(3)]
    assert [w.join() for w in waiting] == [200] * 3
    for s in silent:
        s.close()
    for c in idle:
        c.close()
    wait_for(lambda: t.status()["connections"] == 0, "no connection")
    assert t.chat("hello")[0] == 200


def test_many_at_once(secure):
    t, _ = secure(options=["--slots", "4"])
    threads = [in_thread(lambda i=i: ndjson(t.request("POST", "/api/chat", chat("/api/chat", f"[[fake tokens={i}]]", stream=True))[2])[-1]["eval_count"])
               for i in range(1, 40)]
    assert [w.join() for w in threads] == list(range(1, 40))


# --- certificates ---


def put(folder, files, name):
    """Another certificate under the same name."""
    other = os.path.join(folder, name)
    os.mkdir(other)
    for new, old in zip(certificate(other), files):
        shutil.move(new, old)


def test_a_certificate_is_renewed(secure, folder, files):
    """Newcomers see the new one, streams go on with the old one."""
    t, _ = secure(options=["--decode", "200"])
    before = serial(t)
    c = Client(t).send("POST", "/api/chat", chat("/api/chat", "[[fake tokens=100]]", stream=True))
    assert c.head() == 200 and c.piece()
    put(folder, files, "renewed")
    assert serial(t) == before
    assert t.operate("reload")["state"] == "done"
    assert serial(t) != before
    assert ndjson(c.rest())[-1]["done"]


def test_a_bad_certificate_changes_nothing(secure, folder, files):
    t, a = secure()
    before = serial(t)
    os.rename(files[0], files[0] + ".kept")
    o = t.operate("reload")
    assert o["state"] == "failed" and "listen.certificate" in o["why"], o
    with open(files[0], "w") as f:
        f.write("no certificate\n")
    assert t.operate("reload")["state"] == "failed"
    other = os.path.join(folder, "other")
    os.mkdir(other)
    shutil.move(certificate(other)[0], files[0])  # one that its key does not fit
    assert t.operate("reload")["state"] == "failed"
    assert serial(t) == before
    os.rename(files[0] + ".kept", files[0])
    write(t, [attached(a, slots=4, num_ctx=16384)])
    o = t.operate("reload")
    assert o["state"] == "failed" and "listen.certificate, listen.key: cannot change while tandemd runs" in o["why"], o


def test_an_upgrade_under_a_stream(fake, upgradable, folder, files):  # noqa: F811
    """The next tandemd speaks TLS on the same socket, with the certificate that is there by then; the old one finishes."""
    a = fake("main", options=["--slots", "4", "--decode", "100"])
    t = upgradable([attached(a, slots=4, num_ctx=16384)], listen={"certificate": files[0], "key": files[1]})
    before = serial(t)
    c = Client(t).send("POST", "/api/chat", chat("/api/chat", "[[fake tokens=100]]", stream=True))
    assert c.head() == 200 and c.piece()
    put(folder, files, "renewed")
    t.upgrade()
    assert serial(t) != before
    assert ndjson(c.rest())[-1]["done"]
    t.tls.load_verify_locations(files[0])
    assert t.chat("hello")[0] == 200


def test_a_stop_finishes_what_is_answered(secure):
    t, _ = secure(options=["--decode", "100"])
    c = Client(t).send("POST", "/api/chat", chat("/api/chat", "[[fake tokens=60]]", stream=True))
    assert c.head() == 200 and c.piece()
    idle = Client(t)
    t.popen.send_signal(signal.SIGTERM)
    assert ndjson(c.rest())[-1]["done"]
    assert c.sock.recv(1) == idle.sock.recv(1) == b""  # an end that is told
    assert t.popen.wait(15) == 0


@pytest.mark.parametrize("keys, words", [(("certificate",), "certificate and key go together"), (("key",), "certificate and key go together")])
def test_one_of_the_two_is_none(folder, files, keys, words):
    listen = "".join(f'{k} = "{dict(zip(("certificate", "key"), files))[k]}"; ' for k in keys)
    conf = os.path.join(folder, "one.conf")
    with open(conf, "w") as f:
        f.write(f'listen = {{ {listen} }};\ndevices = ({{ name = "gpu0"; roles = ["main"]; backend = {{ type = "ollama"; url = "http://127.0.0.1:9"; }}; }});\n')
    r = subprocess.run([os.path.join(BIN, "tandemctl"), "check", conf], capture_output=True, text=True, timeout=30)
    assert r.returncode == 1 and words in r.stderr
    os.chmod(files[1], 0o644)
    r = subprocess.run([os.path.join(BIN, "tandemctl"), "check", conf], capture_output=True, text=True, timeout=30)
    assert ("must not be readable by everybody" in r.stderr) == ("key" in keys)


def test_it_does_not_start_without_its_certificate(folder):
    conf = os.path.join(folder, "none.conf")
    with open(conf, "w") as f:
        f.write(f'listen = {{ port = 0; certificate = "{folder}/none.pem"; key = "{folder}/none.key"; }};\nrun_dir = "{folder}/r";\n'
                'devices = ({ name = "gpu0"; roles = ["main"]; backend = { type = "ollama"; url = "http://127.0.0.1:9"; }; });\n')
    r = subprocess.run([os.path.join(BIN, "tandemd"), "-c", conf], capture_output=True, text=True, timeout=30)
    assert r.returncode == 1 and "listen.certificate" in r.stderr and "none.pem" in r.stderr, r.stderr
