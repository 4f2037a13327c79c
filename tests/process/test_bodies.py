"""Request bodies that one backend takes and the other does not: packed, in another charset, with half a surrogate pair."""

import ctypes
import gzip
import json
import os
import zlib

import pytest

from test_pass import log_lines
from wire import CHAT, GENERATE, OPENAI, Wire, error_text, question

MAINS = ["ollama", "llama-server"]


def zstd(data):
    lib = ctypes.CDLL("libzstd.so.1")
    lib.ZSTD_compress.restype = lib.ZSTD_compressBound.restype = ctypes.c_size_t
    lib.ZSTD_compressBound.argtypes = [ctypes.c_size_t]
    lib.ZSTD_compress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    room = ctypes.create_string_buffer(lib.ZSTD_compressBound(len(data)))
    size = lib.ZSTD_compress(room, len(room), data, len(data), 3)
    return room.raw[:size]


PACKERS = {"zstd": zstd, "gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize("main", MAINS)
def test_a_packed_body(pair, folder, main, coding):
    log = os.path.join(folder, "requests.jsonl")
    t, a, b = pair(main, main_options=("--embeddings", "--log", log))
    for path, body in [(CHAT, question(CHAT, "caf\u00e9 " * 30, False)), (OPENAI, question(OPENAI, "hi", True)), (GENERATE, question(GENERATE, "hi", False)),
                       ("/v1/embeddings", {"model": "m:1b", "input": ["x" * 1000] * 200}), ("/v1/completions", {"model": "m:1b", "prompt": "hi"})]:
        plain = json.dumps(body).encode()
        status, headers, data = t.request("POST", path, PACKERS[coding](plain), {"Content-Encoding": coding})
        assert status == 200, (path, data[:300])
        raw = path.startswith("/v1/") == (main == "llama-server")
        if raw:
            assert any(plain[1:] in body for body in a.bodies()), "a chat's has the window before it"
    assert not any("content-encoding" in map(str.lower, line["headers"]) for line in log_lines(log, a))
    t.wait_idle()


def test_who_packs_may_stream_the_upload(pair):
    t, a, b = pair()
    packed = zstd(json.dumps(question(CHAT, "hi", False)).encode())
    with Wire(t) as w:
        w.send("POST", CHAT, headers=["Transfer-Encoding: chunked", "Content-Encoding: zstd", "Content-Type: application/json"])
        for i in range(0, len(packed), 7):
            piece = packed[i:i + 7]
            w.sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        w.sock.sendall(b"0\r\n\r\n")
        assert w.head().status == 200 and json.loads(w.body())["done"]


@pytest.mark.parametrize("path", [CHAT, OPENAI, "/v1/completions", "/v1/messages", "/api/embed"])
def test_other_codings_are_refused_by_name(pair, path):
    t, a, b = pair()
    for coding in ("br", "compress", "gzip, zstd", "snappy"):
        status, headers, data = t.request("POST", path, b"\x0b\x02\x80", {"Content-Encoding": coding})
        assert status == 415 and "byte 0" not in data.decode() and headers["Accept-Encoding"] == "zstd, gzip, deflate"
        o = json.loads(data)
        text = o["error"] if path.startswith("/api") else o["error"]["message"]
        assert f'"{coding}"' in text and "zstd" in text
        assert path != "/v1/messages" or o["type"] == "error"
    assert not any(a.bodies())
    t.wait_idle()


@pytest.mark.parametrize("coding", ["zstd", "gzip"])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_what_does_not_unpack(pair, path, coding):
    t, a, b = pair(limits={"unpacked_bytes": 1 << 20})
    packed = PACKERS[coding](json.dumps(question(CHAT, "hi " * 5000, False)).encode())
    for body, expected in [(packed[:-9], 400), (b'{"model":"m:1b"}', 400), (PACKERS[coding](b" " * (1 << 26)), 413), (packed[:20] + packed, 400)]:
        status, headers, data = t.request("POST", path, body, {"Content-Encoding": coding})
        assert status == expected, (status, data)
        assert coding in data.decode() if expected == 400 else "limits.unpacked_bytes" in data.decode()
    assert not any(a.bodies())
    t.wait_idle()  # nothing is held
    ask = question(CHAT, "hi", False) if path == CHAT else {"model": "m:1b", "prompt": "hi"}
    assert t.request("POST", path, PACKERS[coding](json.dumps(ask).encode()), {"Content-Encoding": coding})[0] == 200


def test_an_upload_stays_packed(pair, folder):
    """What passes through unread is the backend's to unpack."""
    log = os.path.join(folder, "requests.jsonl")
    t, a, b = pair(main_options=("--log", log))
    assert t.request("POST", "/api/blobs/sha256:" + "1" * 64, gzip.compress(b"x" * 1000), {"Content-Encoding": "gzip"})[0] in (200, 201)
    assert any(line["headers"].get("Content-Encoding") == "gzip" for line in log_lines(log, a))


@pytest.mark.parametrize("text", ["caf\u00e9 \u00fc".encode("latin-1"), b"cut \xe2\x82", b"\xff\xfe odd \xed\xa0\x80"])
@pytest.mark.parametrize("path", [CHAT, OPENAI, "/v1/completions"])
@pytest.mark.parametrize("main", MAINS)
def test_a_body_that_is_not_utf8(pair, main, path, text):
    """ISO-8859-1, a character cut in half: as Ollama reads it, with U+FFFD, before both."""
    t, a, b = pair(main)
    said = b'"prompt":"hi %s"' % text if path == "/v1/completions" else b'"messages":[{"role":"user","content":"hi %s"}]' % text
    status, headers, data = t.request("POST", path, b'{"model":"m:1b","stream":false,%s}' % said)
    assert status == 200, data
    a.stats()
    assert "hi " + text.decode(errors="replace") in a.bodies()[-1].decode()
    t.wait_idle()


@pytest.mark.parametrize("main", MAINS)
@pytest.mark.parametrize("path", [CHAT, GENERATE, OPENAI, "/v1/completions", "/v1/embeddings"])
def test_half_a_surrogate_pair(pair, main, path):
    """llama-server answers 500 to it. JavaScript clients that cut a string inside an emoji send it."""
    t, a, b = pair(main, main_options=("--embeddings",))
    text = rb"cut \ud83d, whole \ud83d\ude00, late \ude00, no escape \\ud83d"
    member = {"/v1/embeddings": b'"input":"%s"', "/v1/completions": b'"prompt":"%s"', GENERATE: b'"prompt":"%s"'}.get(
        path, b'"messages":[{"role":"user","content":"%s"}]') % text
    status, headers, data = t.request("POST", path, b'{"model":"m:1b","stream":false,%s}' % member)
    assert status == 200, data
    a.stats()
    want = text.replace(rb"cut \ud83d,", rb"cut \ufffd,").replace(rb"late \ude00", rb"late \ufffd") if main == "llama-server" else text
    assert want in a.bodies()[-1]


def test_json_that_is_none_stays_none(pair):
    t, a, b = pair()
    for body in (b"\xff\xfe", b'{"model":"m:1b",\xe9}', b"caf\xe9"):
        status, headers, data = t.request("POST", CHAT, body)
        assert status == 400 and "invalid JSON" in error_text(CHAT, json.loads(data))


@pytest.mark.parametrize("main", MAINS)
@pytest.mark.parametrize("end", [b"\0", b"}", b" and more \xff"])
def test_what_follows_the_object(pair, main, end):
    """A C string's end, say: Ollama reads one value and no further."""
    t, a, b = pair(main, main_options=("--embeddings",))
    for path, body in [(CHAT, question(CHAT, "hi", False)), (GENERATE, question(GENERATE, "hi", False)), (OPENAI, question(OPENAI, "hi", False)),
                       ("/v1/completions", {"model": "m:1b", "prompt": "hi"}), ("/api/embed", {"model": "m:1b", "input": "hi"}),
                       ("/api/show", {"model": "m:1b"})]:
        status, headers, data = t.request("POST", path, json.dumps(body).encode() + end)
        assert status == 200, (path, data)
        assert not path.endswith("completions") or int(headers["X-Tandem-Tokens"].split()[0][3:]) > 0, (path, headers)
    t.wait_idle()


@pytest.mark.parametrize("main", MAINS)
def test_keys_in_another_case(pair, main):
    """As .NET's serializers write them; Ollama takes them, also where it is asked for another device's model."""
    t, a, b = pair(main, main_options=("--embeddings",))
    message = [{"Role": "user", "Content": "Hi"}]
    for path, body in [(CHAT, {"Model": "m:1b", "Messages": message, "Stream": False}), (GENERATE, {"Model": "m:1b", "Prompt": "Hi", "Stream": False}),
                       (OPENAI, {"Model": "m:1b", "Messages": message, "Stream": False}), ("/api/embed", {"Model": "m:1b", "Input": "hi"}),
                       ("/api/show", {"Model": "m:1b"})]:
        status, headers, data = t.request("POST", path, body)
        assert status == 200, (path, data)
        assert path not in (CHAT, GENERATE, OPENAI) or headers["Content-Type"].startswith("application/json"), (path, headers)
        if path in (CHAT, GENERATE, OPENAI):
            a.stats()
            assert b"Hi" in a.bodies()[-1] and b"Messages" not in a.bodies()[-1]
    status, headers, data = t.request("POST", CHAT, {"model": "m:1b", "Model": "s:0.5b", "messages": message, "stream": False})
    assert status == 200 and headers["X-Tandem-Device"] == "gpu1", "the last one counts"
    status, headers, data = t.request("POST", "/v1/embeddings", {"model": "m:1b", "Model": "s:0.5b", "input": "hi"})
    assert "gpu1" in headers["X-Tandem-Reason"], headers
    t.wait_idle()
