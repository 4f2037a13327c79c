"""The scripted backend itself: every endpoint, every fault, the KV accounting and the time it takes."""

import base64
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.parse
import zlib

import pytest

from harness import BIN, in_thread, spent

PROGRAM = pathlib.Path(BIN) / "fake-backend"


class Fake:
    """One fake-backend process and a few ways to talk to it."""

    def __init__(self, kind, *args):
        self.process = subprocess.Popen(
            [str(PROGRAM), "--type", kind, "--port", "0", *map(str, args)], stdout=subprocess.PIPE, text=True
        )
        word, port = self.process.stdout.readline().split()
        assert word == "listening"
        self.port = int(port)

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0
        self.process.stdout.close()

    def call(self, method, path, body=None, headers=None):
        """(status, headers, bytes) of one request on a connection of its own."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
            c.request(method, path, data, headers or {})
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def get(self, path):
        status, _, body = self.call("GET", path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path, body, status=200):
        got, _, data = self.call("POST", path, body)
        assert got == status, data
        return json.loads(data)

    def stats(self):
        return self.get("/fake/stats")

    def control(self, **rule):
        return self.post("/fake/control", rule)

    def wait(self, true):
        """Asks for the stats until they satisfy true()."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            stats = self.stats()
            if true(stats):
                return stats
            time.sleep(0.005)
        raise AssertionError(stats)

    def socket(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@pytest.fixture
def start():
    running = []

    def run(kind="ollama", *args):
        running.append(Fake(kind, *args))
        return running[-1]

    yield run
    for fake in running:
        fake.close()


@pytest.fixture(params=["ollama", "llama-server"])
def either(request, start):
    fake = start(request.param, "--slots", 4, "--num-ctx", 200000)
    fake.kind = request.param
    fake.path = "/api/chat" if request.param == "ollama" else "/v1/chat/completions"
    return fake


def chat(text, **more):
    return {"model": "fake", "messages": [{"role": "user", "content": text}], **more}


def lines(data):
    return [json.loads(line) for line in data.decode().splitlines()]


def events(data):
    parts = data.decode().split("\n\n")
    assert parts[-1] == ""
    assert all(p.startswith("data: ") for p in parts[:-1])
    return [p[6:] if p == "data: [DONE]" else json.loads(p[6:]) for p in parts[:-1]]


def said(fake, data):
    """The text of a streamed chat answer."""
    if fake.kind == "ollama":
        return "".join(o["message"]["content"] for o in lines(data))
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events(data)[:-1])


def words(n):
    return " ".join(f"w{i}" for i in range(n))


# --- Ollama ---


def test_ollama_catalogue(start):
    fake = start("ollama", "--model", "a:7b", "--model", "b", "--num-ctx", 2048)
    assert fake.call("GET", "/")[2] == b"Ollama is running"
    status, headers, body = fake.call("HEAD", "/")
    assert (status, body) == (200, b"") and headers["Content-Length"] == "17"
    assert fake.get("/api/version")["version"].startswith("0.")
    assert [m["name"] for m in fake.get("/api/tags")["models"]] == ["a:7b", "b:latest"]
    assert fake.get("/api/ps") == {"models": []}
    show = fake.post("/api/show", {"name": "B", "model": ""})
    assert show["model_info"]["fake.context_length"] == 131072 and "num_ctx" in show["parameters"]
    assert fake.post("/api/show", {"model": "c"}, 404) == {"error": "model 'c' not found"}
    assert fake.call("GET", "/nothing")[0] == 404
    assert fake.call("GET", "/api/chat")[::2] == (405, b"405 method not allowed")
    assert fake.post("/api/chat", {"model": "a:7b", "messages": []})["done_reason"] == "load"
    assert fake.get("/api/ps")["models"][0]["context_length"] == 2048
    unload = fake.post("/api/generate", {"model": "a:7b", "prompt": "", "keep_alive": 0})
    assert unload["done_reason"] == "unload" and fake.get("/api/ps") == {"models": []}
    assert [m["id"] for m in fake.get("/v1/models")["data"]] == ["a:7b", "b"]
    assert fake.get("/v1/models/b")["id"] == "b"


def test_ollama_store(start):
    fake = start("ollama")
    assert fake.call("POST", "/api/copy", {"source": "fake", "destination": "twin"})[::2] == (200, b"")
    assert fake.call("DELETE", "/api/delete", {"model": "fake"})[0] == 200
    assert [m["name"] for m in fake.get("/api/tags")["models"]] == ["twin:latest"]
    status, headers, body = fake.call("POST", "/api/pull", {"name": "new"})
    assert headers["Content-Type"] == "application/x-ndjson"
    progress = lines(body)
    assert progress[0] == {"status": "pulling manifest"} and progress[-1] == {"status": "success"}
    assert any("completed" in p and "total" in p for p in progress)
    assert fake.post("/api/pull", {"model": "new", "stream": False}) == {"status": "success"}
    blob = os.urandom(3_000_000)
    assert fake.call("HEAD", "/api/blobs/sha256:aa")[0] == 404
    assert fake.call("POST", "/api/blobs/sha256:aa", blob)[0] == 201
    assert fake.call("HEAD", "/api/blobs/sha256:aa")[0] == 200
    last = [r for r in fake.stats()["last"] if r["method"] == "POST"][-1]
    assert last["body_bytes"] == len(blob) and last["body_crc32"] == f"{zlib.crc32(blob):08x}"


def test_ollama_chat_stream(start):
    fake = start("ollama", "--prefill", 10000, "--decode", 1000)
    status, headers, body = fake.call("POST", "/api/chat", chat("x" * 400))
    assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
    objects = lines(body)
    assert "".join(o["message"]["content"] for o in objects) == words(16)
    assert [o["done"] for o in objects] == [False] * 16 + [True]
    end = objects[-1]
    assert (end["done_reason"], end["prompt_eval_count"], end["eval_count"]) == ("stop", 100, 16)
    assert (end["prompt_eval_duration"], end["eval_duration"]) == (10_000_000, 16_000_000)
    assert end["total_duration"] >= 26_000_000


def test_ollama_generate_and_options(start):
    fake = start("ollama")
    whole = fake.post("/api/generate", {"model": "fake", "prompt": "abcd", "stream": False, "options": {"num_predict": 3}})
    assert (whole["response"], whole["done_reason"], whole["eval_count"]) == ("w0 w1 w2", "length", 3)
    assert len(whole["context"]) == 4
    bad = fake.post("/api/generate", {"model": "fake", "prompt": "abcd", "options": {"num_ctx": "big"}}, 500)
    assert bad == {"error": 'option "num_ctx" must be of type integer'}
    assert fake.post("/api/chat", b"", 400) == {"error": "missing request body"}
    assert "error" in fake.post("/api/chat", b"{", 400)
    assert "array" in fake.post("/api/chat", chat([{"type": "text", "text": "x"}]), 400)["error"]
    assert fake.post("/api/chat", {**chat("x"), "model": "zz"}, 404) == {"error": "model 'zz' not found"}


def test_ollama_go_escapes_and_line_separators(start):
    fake = start("ollama")
    text = "<a> & \u2028 é \U0001f600"
    _, _, body = fake.call("POST", "/api/chat", chat(f"[[fake text={urllib.parse.quote(text)}]]"))
    assert b"\\u003c" in body and b"\\u0026" in body and b"\\u2028" in body
    assert "".join(o["message"]["content"] for o in lines(body)) == text


def test_ollama_thinking_and_tools(start):
    fake = start("ollama")
    args = {"path": "a b", "n": 2**60}
    ask = f"[[fake thinking=2 tokens=1 tool=read&args={urllib.parse.quote(json.dumps(args))}]]"
    objects = lines(fake.call("POST", "/api/chat", chat(ask))[2])
    assert [o["message"].get("thinking") for o in objects[:2]] == ["t0", " t1"]
    call = objects[3]["message"]["tool_calls"][0]
    assert call["function"] == {"index": 0, "name": "read", "arguments": args} and call["id"].startswith("call_")
    assert objects[-1]["done_reason"] == "stop" and "tool_calls" not in objects[-1]["message"]
    objects = lines(fake.call("POST", "/api/chat", chat(ask.replace("tool=", "tools_in_final=1 tool=")))[2])
    assert objects[-1]["done"] and objects[-1]["message"]["tool_calls"][0]["function"]["arguments"] == args
    whole = fake.post("/api/chat", chat(ask, stream=False, think=False))
    assert whole["message"]["tool_calls"][0]["function"]["arguments"] == args and "thinking" not in whole["message"]


def test_ollama_reload_and_load(start):
    fake = start("ollama", "--load-ms", 80)
    first = fake.post("/api/chat", chat("x", stream=False))
    assert first["load_duration"] >= 80_000_000
    assert fake.post("/api/chat", chat("x", stream=False))["load_duration"] < 80_000_000
    fake.post("/api/chat", chat("x", stream=False, options={"num_ctx": 8192}))
    fake.post("/api/chat", chat("x", stream=False, options={"num_ctx": 8192, "num_gpu": 1}))
    stats = fake.stats()
    assert (stats["loads"], stats["reloads"]) == (3, 2)
    assert fake.get("/api/ps")["models"][0]["context_length"] == 8192
    fake = start("ollama", "--load-ms", 600000)
    with fake.socket() as s:  # leaving during the load that one triggered aborts it
        body = json.dumps(chat("x")).encode()
        s.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        fake.wait(lambda st: st["loads"] == 1)
    stats = fake.wait(lambda st: st["loads_aborted"] == 1)
    assert stats["requests"]["cancelled"] == 1 and fake.get("/api/ps") == {"models": []}


def test_ollama_takes_a_window_that_is_not_said_for_its_own(start):
    """6144, 8192, 6144: each a load, as the real one does."""
    fake = start("ollama", "--num-ctx", 6144)
    for options, window in (({}, 6144), ({"num_ctx": 8192}, 8192), ({}, 6144), ({"num_ctx": 6144}, 6144)):
        fake.post("/api/chat", chat("x", stream=False, options=options))
        assert fake.get("/api/ps")["models"][0]["context_length"] == window
    assert (fake.stats()["loads"], fake.stats()["reloads"]) == (3, 2)


def test_ollama_without_the_memory(start):
    fake = start("ollama", "--max-ctx", 8192)
    assert "memory" in fake.post("/api/chat", chat("x", stream=False, options={"num_ctx": 16384}), 500)["error"]
    fake.post("/api/chat", chat("x", stream=False, options={"num_ctx": 8192}))


def test_an_old_ollama_does_not_know_truncate(start):
    fake = start("ollama", "--num-ctx", 100, "--old")
    assert fake.post("/api/chat", chat("x" * 1000, stream=False, truncate=False))["prompt_eval_count"] < 100
    assert fake.stats()["truncated"] == 1


def test_ollama_truncates(start):
    fake = start("ollama", "--num-ctx", 100)
    messages = [{"role": "system", "content": "s" * 40}]
    messages += [{"role": "user", "content": str(i) * 100} for i in range(6)]
    body = {"model": "fake", "messages": messages, "stream": False}
    assert fake.post("/api/chat", body)["prompt_eval_count"] == 85  # the system message and the last three
    assert fake.post("/api/chat", chat("x" * 4000, stream=False))["prompt_eval_count"] == 50
    assert fake.stats()["truncated"] == 2
    inner = json.loads(fake.post("/api/chat", {**body, "truncate": False}, 400)["error"])["error"]
    assert (inner["code"], inner["type"], inner["n_ctx"]) == (400, "exceed_context_size_error", 100)
    assert inner["n_prompt_tokens"] > 100 and "exceeds the available context size (100 tokens)" in inner["message"]
    long = fake.post("/api/chat", chat("x" * 4000, shift=False), 400)["error"]
    assert long.startswith("the prompt is longer than the context length")


def test_ollama_openai_routes(start):
    fake = start("ollama")
    ask = chat("[[fake thinking=1 tokens=2 tool=f]]", stream=True, stream_options={"include_usage": True})
    got = events(fake.call("POST", "/v1/chat/completions", ask)[2])
    deltas = [e["choices"][0]["delta"] for e in got[:-2]]
    assert deltas[0]["role"] == "assistant" and deltas[0]["reasoning"] == "t0"
    assert "role" not in deltas[1] and deltas[1]["content"] == "w0"
    assert deltas[3]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert got[-3]["choices"][0]["finish_reason"] == "tool_calls"
    assert got[-2]["choices"] == [] and got[-2]["usage"]["completion_tokens"] == 4 and got[-1] == "[DONE]"
    whole = fake.post("/v1/chat/completions", chat("abcd", max_tokens=2))
    assert whole["choices"][0]["message"]["content"] == "w0 w1"
    assert whole["choices"][0]["finish_reason"] == "length" and whole["system_fingerprint"] == "fp_ollama"
    text = fake.post("/v1/completions", {"model": "fake", "prompt": "abcd"})
    assert text["choices"][0]["text"] == words(16)
    missing = fake.post("/v1/chat/completions", {**chat("x"), "model": "zz"}, 404)
    assert missing["error"]["type"] == "not_found_error"
    assert fake.post("/v1/chat/completions", {"model": "fake", "messages": []}, 400)["error"]["message"].startswith("[]")


def test_ollama_host_and_origin(start):
    fake = start("ollama")
    assert fake.call("GET", "/api/tags", headers={"Host": "evil.example"})[::2] == (403, b"")
    assert fake.call("GET", "/api/tags", headers={"Origin": "http://evil.example"})[0] == 403
    assert fake.call("GET", "/api/tags", headers={"Origin": "http://localhost:3000"})[0] == 200
    assert fake.call("GET", "/api/tags", headers={"Host": "box.local:1"})[0] == 200


def test_ollama_sends_clients_to_the_clean_path(start):
    fake = start("ollama")
    for method, path, status, to in [
        ("GET", "//api/tags", 307, "/api/tags"), ("POST", "//api/chat", 307, "/api/chat"), ("POST", "/x/../api/./chat?a=1", 307, "/api/chat?a=1"),
        ("GET", "/api/tags/", 301, "/api/tags"), ("POST", "/api/chat/", 307, "/api/chat"), ("GET", "/../..", 307, "/"), ("GET", "/no//where/", 307, "/no/where/"),
    ]:
        got, headers, _ = fake.call(method, path, {} if method == "POST" else None)
        assert (got, headers["Location"]) == (status, to), path
    assert fake.call("GET", "/no/where/")[0] == 404


def test_ollama_reads_keys_in_any_case_and_one_value(start):
    fake = start("ollama")
    body = b'{"Model":"fake","Messages":[{"Role":"user","Content":"hi"}],"Stream":false} and more'
    status, _, data = fake.call("POST", "/api/chat", body)
    assert status == 200 and json.loads(data)["done"], data
    status, _, data = start("llama-server").call("POST", "/v1/chat/completions", body)
    assert status >= 400, data


def test_embeddings(start):
    fake = start("ollama")
    got = fake.post("/api/embed", {"model": "fake", "input": ["ab", "cd"]})
    assert len(got["embeddings"]) == 2 and abs(sum(v * v for v in got["embeddings"][0]) - 1) < 1e-3
    assert fake.post("/api/embed", {"model": "fake", "input": []})["embeddings"] == []
    assert fake.post("/api/embeddings", {"model": "fake", "prompt": ""}) == {"embedding": []}
    llama = start("llama-server")
    assert llama.post("/v1/embeddings", {"input": "x"}, 501)["error"]["type"] == "not_supported_error"
    llama = start("llama-server", "--embeddings")
    data = llama.post("/v1/embeddings", {"input": "x", "encoding_format": "base64"})["data"][0]["embedding"]
    assert len(base64.b64decode(data)) == 8 * 4


# --- llama-server ---


def test_llama_options_and_props(start):
    fake = start("llama-server", "-m", "x.gguf", "-c", 8192, "-np", 2, "-ngl", 99, "--no-webui", "--jinja",
                 "--cache-type-k", "q8_0", "--alias", "tiny", "--host", "127.0.0.1", "--port", 0)
    props = fake.get("/props")
    assert (props["total_slots"], props["default_generation_settings"]["n_ctx"]) == (2, 4096)
    assert (props["model_path"], props["model_alias"]) == ("x.gguf", "tiny")
    assert [s["is_processing"] for s in fake.get("/slots")] == [False, False]
    models = fake.get("/v1/models")
    assert models["data"][0]["id"] == "tiny" and models["data"][0]["meta"]["n_ctx"] == 4096 and models["models"]
    assert fake.get("/health") == {"status": "ok"}
    assert fake.call("GET", "/none")[0] == 404
    assert json.loads(fake.call("GET", "/none")[2])["error"]["type"] == "not_found_error"
    assert fake.call("GET", "/metrics")[0] == 501


def test_llama_loading(start):
    fake = start("llama-server", "--load-ms", 600000)
    error = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
    for method, path in (("GET", "/health"), ("POST", "/v1/chat/completions"), ("GET", "/v1/models")):
        status, _, body = fake.call(method, path, b"{}" if method == "POST" else None)
        assert (status, json.loads(body)) == (503, error)
    fake = start("llama-server", "--load-ms", 150)
    end = time.monotonic() + 10
    while fake.call("GET", "/health")[0] != 200:
        assert time.monotonic() < end


def test_llama_chat_stream(start):
    fake = start("llama-server")
    args = json.dumps({"text": "ünï" * 5, "n": 1})
    ask = chat(f"[[fake thinking=1 tokens=2 tool=f&args={urllib.parse.quote(args)}]]", stream=True)
    _, headers, body = fake.call("POST", "/v1/chat/completions", ask)
    assert headers["Content-Type"] == "text/event-stream" and headers["Server"] == "llama.cpp"
    got = events(body)
    assert got[-1] == "[DONE]" and "timings" in got[-2] and got[-2]["choices"][0]["finish_reason"] == "tool_calls"
    deltas = [e["choices"][0]["delta"] for e in got[:-1]]
    assert deltas[0] == {"role": "assistant", "content": None} and deltas[1] == {"reasoning_content": "t0"}
    assert deltas[2:4] == [{"content": "w0"}, {"content": " w1"}] and deltas[-1] == {}
    calls = [d["tool_calls"][0] for d in deltas[4:-1]]
    assert calls[0]["function"] == {"name": "f", "arguments": ""} and "id" not in calls[1]
    assert len(calls) > 3 and "".join(c["function"]["arguments"] for c in calls) == args
    ask["stream_options"] = {"include_usage": True}
    got = events(fake.call("POST", "/v1/chat/completions", ask)[2])
    assert "timings" not in got[-3] and got[-2]["choices"] == [] and "timings" in got[-2]
    assert got[-2]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    whole = fake.post("/v1/chat/completions", chat("abcd", max_tokens=9, n_predict=2))
    assert whole["choices"][0]["message"]["content"] == "w0 w1" and whole["timings"]["predicted_n"] == 2


def test_llama_overflow(start):
    fake = start("llama-server", "--num-ctx", 100)
    error = fake.post("/v1/chat/completions", chat("x" * 400), 400)["error"]
    assert error == {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 100, "n_ctx": 100,
                     "message": "request (100 tokens) exceeds the available context size (100 tokens), try increasing it"}
    full = fake.post("/completion", {"prompt": "x" * 360, "n_predict": 50})
    assert full["tokens_predicted"] == 10 or full["stop_type"] == "eos"
    full = fake.post("/completion", {"prompt": "x" * 360 + "[[fake tokens=50]]"})
    assert full["truncated"] and full["stop_type"] == "limit" and full["tokens_predicted"] == 100 - 95


def test_llama_completion_tokens_template(start):
    fake = start("llama-server")
    got = [json.loads(p[6:]) for p in fake.call("POST", "/completion", {"prompt": "abcd", "stream": True})[2]
           .decode().split("\n\n")[:-1]]
    assert "".join(e["content"] for e in got) == words(16) and got[-1]["stop"] and got[-1]["stop_type"] == "eos"
    assert fake.post("/v1/completions", {"prompt": "abcd"})["choices"][0]["text"] == words(16)
    warm = fake.post("/completion", {"prompt": "p" * 4000, "n_predict": 0})
    assert warm["tokens_predicted"] == 1 and warm["timings"]["prompt_n"] == 1000
    assert len(fake.post("/tokenize", {"content": "abcdefghi"})["tokens"]) == 3
    pieces = fake.post("/tokenize", {"content": "abcdéfghi", "with_pieces": True})["tokens"]
    assert [p["piece"] for p in pieces] == ["abcd", "éfgh", "i"]
    assert fake.post("/apply-template", chat("hi")) == {"prompt": "\1uhi"}
    assert fake.post("/v1/chat/completions/input_tokens", chat("abcdefgh"))["input_tokens"] == 2


def test_llama_progress_and_early_headers(start):
    fake = start("llama-server", "--prefill", 50000, "--early-headers")
    ask = {"prompt": "x" * 4 * 5000, "stream": True, "return_progress": True}
    got = [json.loads(p[6:]) for p in fake.call("POST", "/completion", ask)[2].decode().split("\n\n")[:-1]]
    progress = [e["prompt_progress"] for e in got if "prompt_progress" in e]
    assert [p["processed"] for p in progress] == [0, 2048, 4096, 5000] and progress[0]["total"] == 5000
    with fake.socket() as s:
        body = json.dumps(chat("x" * 40000 * 4, stream=True)).encode()
        fake2 = start("llama-server", "--prefill", 1000, "--num-ctx", 100000, "--early-headers")
        with fake2.socket() as s:
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert s.recv(100).startswith(b"HTTP/1.1 200 OK")  # long before the first token


def test_llama_slot_save(start, tmp_path):
    fake = start("llama-server", "--slot-save-path", tmp_path)
    fake.post("/completion", {"prompt": "q" * 400, "n_predict": 0})
    saved = fake.post("/slots/0?action=save", {"filename": "a.bin"})
    assert saved["n_saved"] == 100
    fake.post("/slots/0?action=erase", {})
    assert fake.post("/completion", {"prompt": "q" * 400, "n_predict": 0})["timings"]["cache_n"] == 0
    fake.post("/slots/0?action=erase", {})
    assert fake.post("/slots/0?action=restore", {"filename": "a.bin"})["n_restored"] == 100
    assert fake.post("/completion", {"prompt": "q" * 400, "n_predict": 0})["timings"]["cache_n"] == 99
    fake.post("/slots/0?action=save", {"filename": "../a.bin"}, 400)


# --- KV prefixes, slots, time ---


def test_kv_prefix(start):
    fake = start("llama-server", "--prefill", 10000, "--depth-half", 1000, "--slots", 2)
    history = [{"role": "system", "content": "s" * 400}, {"role": "user", "content": "u" * 400}]

    def turn():
        got = fake.post("/v1/chat/completions", {"messages": history})
        history.append(got["choices"][0]["message"])
        history.append({"role": "user", "content": "v" * 40})
        return got["timings"]

    first, second = turn(), turn()
    assert (first["cache_n"], first["prompt_n"]) == (0, 200)
    answer = len(words(16))
    assert (second["cache_n"], second["cache_n"] + second["prompt_n"]) == ((800 + answer) // 4, -(-(840 + answer) // 4))
    n, d = second["prompt_n"], second["cache_n"]
    assert second["prompt_ms"] == pytest.approx(n / 10000 * (1 + (d + n / 2) / 1000) * 1000, abs=0.01)
    other = fake.post("/v1/chat/completions", chat("other"))  # goes to the slot not used yet
    assert other["timings"]["cache_n"] == 0
    assert turn()["cache_n"] > 200
    history[0]["content"] = "t" + history[0]["content"]
    assert turn()["cache_n"] == 0
    same = fake.post("/v1/chat/completions", {**chat("other"), "cache_prompt": False})
    assert same["timings"]["cache_n"] == 0


def test_ollama_counts_cached(start):
    fake = start("ollama", "--prefill", 10000)
    body = chat("x" * 4000, stream=False)
    first, second = fake.post("/api/chat", body), fake.post("/api/chat", body)
    assert first["prompt_eval_count"] == second["prompt_eval_count"] == 1000
    assert (first["prompt_eval_duration"], second["prompt_eval_duration"]) == (100_000_000, 100_000)
    fake.post("/api/chat", {**body, "options": {"num_ctx": 2048}})
    assert fake.stats()["tokens"]["cached"] == 999  # the reload lost them


def test_tool_calls_stay_cached(start):
    """What was called is in the KV as the next prompt has it; its id and spelling are not."""
    fake = start("llama-server")
    history = [{"role": "user", "content": "Read it. [[fake text=I+read+it. tool=read args=%7B%22path%22%3A%22a.c%22%7D]]"}]
    message = fake.post("/v1/chat/completions", {"messages": history})["choices"][0]["message"]
    assert message["tool_calls"][0]["function"] == {"name": "read", "arguments": '{"path":"a.c"}'}
    message["tool_calls"][0]["id"] = "another"
    history += [message, {"role": "tool", "tool_call_id": "another", "content": "x" * 40}]
    got = fake.post("/v1/chat/completions", {"messages": history})["timings"]
    said = len(history[0]["content"]) + len("I read it." + "read" + '{"path":"a.c"}')
    assert got["cache_n"] == said // 4 and got["cache_n"] + got["prompt_n"] == -(-(said + 40) // 4)


def test_warm_up(start):
    """n_predict 0 reads the prompt; what follows is new tokens alone."""
    fake = start("llama-server")
    history = [{"role": "user", "content": "x" * 4000}]
    for path, prompt in (("/v1/chat/completions", {"messages": history}), ("/completion", {"prompt": "y" * 4000})):
        warm = fake.post(path, {**prompt, "n_predict": 0, "cache_prompt": True})
        assert warm["timings"]["predicted_n"] <= 1 and warm["timings"]["prompt_n"] == 1000, path
        assert fake.post(path, prompt)["timings"]["cache_n"] == 999, path
    ollama = start("ollama")
    body = chat("x" * 4000, stream=False)
    assert ollama.post("/api/chat", {**body, "options": {"num_predict": 1}})["eval_count"] == 1
    ollama.post("/api/chat", body)
    assert ollama.stats()["tokens"]["cached"] == 999
    assert ollama.post("/api/chat", {**body, "options": {"num_predict": 0}})["eval_count"] == 16  # no limit: the real one's trap


def test_host_cache(start):
    """Two conversations take turns on one slot: with a host cache the prompt that left comes back."""
    first, other = ({"messages": [{"role": "user", "content": c * 4000}]} for c in "xy")
    cached = lambda fake, body: fake.post("/v1/chat/completions", body)["timings"]["cache_n"]
    bare = start("llama-server")
    assert [cached(bare, b) for b in (first, other, first, other)] == [0, 0, 0, 0]
    fake = start("llama-server", "--host-cache-tokens", 2500, "--host-cache-rate", 1e6)
    assert [cached(fake, b) for b in (first, other, first, other)] == [0, 0, 999, 999]
    assert fake.stats()["tokens"]["restored"] == 2
    # A prompt that shares half with what the slot holds only loses its tail: nothing is saved.
    same = {"messages": [{"role": "user", "content": "y" * 3000 + "z" * 1000}]}
    assert cached(fake, same) == 750 and fake.stats()["tokens"]["restored"] == 2
    # A third one: the oldest goes, for there is room for two.
    assert [cached(fake, {"messages": [{"role": "user", "content": c * 4000}]}) for c in "uvw"] == [0, 0, 0]
    assert cached(fake, first) == 0
    fake.call("POST", "/fake/reset")
    assert cached(fake, {"messages": [{"role": "user", "content": "v" * 4000}]}) == 0


def test_cancelled_between_batches(start):
    """Who comes after a prompt that is cancelled waits for the batch that is being computed, and finds what was read."""
    fake = start("llama-server", "--prefill", 2000, "-b", 400)
    body = {"messages": [{"role": "user", "content": "c" * 4000}]}
    with fake.socket() as s:
        text = json.dumps(body).encode()
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        fake.wait(lambda st: st["slots"]["active"] == 1)
    got = fake.post("/v1/chat/completions", body)["timings"]
    assert got["cache_n"] in (400, 800) and got["prompt_n"] == 1000 - got["cache_n"]


def test_slot_similarity(start):
    """A prompt that begins like most of what the slot holds: only with -sps is one that left it put back."""
    old, new = ({"messages": [{"role": "user", "content": "s" * 2400 + c * 1600}]} for c in "xy")
    cached = lambda fake, body: fake.post("/v1/chat/completions", body)["timings"]["cache_n"]
    usual = start("llama-server", "--host-cache-tokens", 5000)
    assert [cached(usual, b) for b in (old, new, old, new)] == [0, 600, 600, 600]
    told = start("llama-server", "--host-cache-tokens", 5000, "-sps", .75)
    assert [cached(told, b) for b in (old, new, old, new)] == [0, 600, 999, 999]


@pytest.mark.measured
def test_speed(start, tmp_path):
    """Hours in minutes: everything is as many times faster, what is reported too; the log says when and how late."""
    log = tmp_path / "log"
    fake = start("llama-server", "--prefill", 100, "--decode", 10, "--depth-half", 1000, "--speed", 100, "--load-ms", 5000, "--log", log)
    fake.wait(lambda _: fake.call("GET", "/health")[0] == 200)  # 50 ms
    before = time.monotonic()
    got = fake.post("/v1/chat/completions", chat("x" * 4000 + "[[fake tokens=10]]"))["timings"]
    after, n = time.monotonic(), got["prompt_n"]
    assert got["prompt_ms"] == pytest.approx(n / 100 * (1 + n / 2000) * 10, abs=0.01) and got["predicted_ms"] == pytest.approx(10)
    fake.call("POST", "/v1/chat/completions", chat("x" * 4000 + "[[fake tokens=10]]", stream=True))
    fake.post("/v1/chat/completions", {**chat("y" * 400), "n_predict": 0})
    fake.wait(lambda _: log.read_text().count("completions") == 3)
    whole, stream, warm = [json.loads(line) for line in log.read_text().splitlines() if "completions" in line]
    rounded = 0.2  # the log has one decimal
    # The last byte is with the client before the request's end is looked at on the clock; its first was sent before both.
    assert before * 1000 - rounded <= whole["clock_ms"] and whole["clock_ms"] + whole["first_ms"] <= after * 1000 + rounded
    assert whole["first_ms"] <= whole["ms"]
    due = got["prompt_ms"] + got["predicted_ms"]
    assert whole["first_ms"] - whole["late_ms"] - whole["queued_ms"] == pytest.approx(due, abs=1)
    # Streamed: one token of ten behind a prompt that is there already.
    assert stream["first_ms"] - stream["late_ms"] == pytest.approx(1 + 0.1, abs=0.6)
    # A limit of 0 writes one token all the same.
    assert warm["first_ms"] - warm["late_ms"] == pytest.approx(100 / 100 * (1 + 50 / 1000) * 10 + 1, abs=0.6)


def test_slots_defer_in_order(start):
    fake = start("ollama", "--slots", 2)
    held = [fake.socket() for _ in range(4)]
    for i, s in enumerate(held):
        body = json.dumps(chat(f"[[fake hang_after=0]] {i}")).encode()
        s.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        fake.wait(lambda st: st["requests"]["active"] == i + 1)
    stats = fake.stats()
    assert (stats["slots"]["active"], stats["slots"]["waiting"]) == (2, 2)
    assert held[0].recv(100).startswith(b"HTTP/1.1 200")
    held[0].close()
    assert held[2].recv(100).startswith(b"HTTP/1.1 200")
    for s in held[1:]:
        s.close()
    stats = fake.wait(lambda st: st["requests"]["active"] == 0)
    assert stats["requests"]["cancelled"] == 4 and stats["slots"] == {"active": 0, "active_max": 2, "waiting": 0}


def test_rates(start):
    fake = start("ollama", "--prefill", 2000, "--decode", 500)
    t = time.monotonic()
    status, _, _ = fake.call("POST", "/api/chat", chat("x" * 800 + "[[fake tokens=100]]"))
    took, own = time.monotonic() - t, spent(t)
    assert status == 200 and 0.3 <= took and own < 0.6


# --- faults and control ---


def test_exact_text_and_tokens(either):
    text = 'say "hi"\n{"a": 1} ☃'
    body = chat(f"first [[fake tokens=1]] then [[fake text={urllib.parse.quote(text)}]]", stream=True)
    assert said(either, either.call("POST", either.path, body)[2]) == text
    begun = "[[fake tokens=1]]"
    body["messages"].append({"role": "assistant", "content": begun})
    echo = "" if either.kind == "ollama" else begun  # llama-server begins with what it is given to go on with
    assert said(either, either.call("POST", either.path, body)[2]) == echo + text
    either.control(text=text, match="needle", times=1)
    body = chat("a needle", stream=True)
    assert said(either, either.call("POST", either.path, chat("none", stream=True))[2]) == words(16)
    assert said(either, either.call("POST", either.path, body)[2]) == text
    assert said(either, either.call("POST", either.path, body)[2]) == words(16)


def test_status_faults(either):
    for status in (400, 404, 500, 503):
        error = either.post(either.path, chat(f"[[fake fault={status} error=oh+no]]"), status)["error"]
        assert (error if either.kind == "ollama" else error["message"]) == "oh no"
        assert either.post(either.path, chat(f"[[fake fault={status}]]"), status)["error"]
    assert either.call("POST", either.path, chat("[[fake nonsense=1]]"))[0] == 400
    assert either.call("POST", "/fake/control", {"nonsense": 1})[0] == 400


def test_quotes_lines_of_the_prompt(either):
    source = "".join(f"line {i} of a file\n" for i in range(100))
    either.control(times=-1, quote=20)
    reply = json.loads(either.call("POST", "/v1/chat/completions", chat(source, stream=False))[2])
    said = reply["choices"][0]["message"]["content"].splitlines()
    assert said and all(line.startswith("- ") and line[2:] in source.splitlines() for line in said)
    assert 20 <= reply["usage"]["completion_tokens"] <= 26
    either.control(name="short", times=-1, quote=20)
    assert either.call("POST", "/v1/chat/completions", chat("", stream=False))[0] == 200


def test_rule_with_a_name_replaces(either):
    for text in ("one", "two"):
        either.control(name="answer", times=-1, text=text)
    either.control(name="other", times=-1, text="three")
    assert either.stats()["rules"] == 2
    assert "two" in either.call("POST", "/v1/chat/completions", chat("hi", stream=False))[2].decode()


def test_rules_count_and_skip(either):
    either.control(fault="500", times=2, skip=1)
    got = [either.call("POST", either.path, chat("x", stream=False))[0] for _ in range(4)]
    assert got == [200, 500, 500, 200]
    either.control(fault="503", match="/v1/models", times=-1)
    assert [either.call("GET", "/v1/models")[0] for _ in range(2)] == [503, 503]
    either.post("/fake/reset", {})
    assert either.call("GET", "/v1/models")[0] == 200
    assert either.stats()["requests"]["total"] == 1


def read_all(fake, body, until=None, timeout=20):
    """The raw bytes of one streamed request until the socket ends; the exception that ended it, if any. Behind
    until, nothing more comes."""
    data = json.dumps(body).encode()
    got, error = b"", None
    with fake.socket() as s:
        s.settimeout(timeout)
        s.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                  % (fake.path.encode(), len(data)) + data)
        try:
            while piece := s.recv(65536):
                got += piece
                if until and until in got:
                    s.settimeout(0.2)
        except OSError as e:
            error = e
    return got, error


def test_refuse_and_badhttp(either):
    got, error = read_all(either, chat("[[fake fault=refuse]]"))
    assert got == b"" and isinstance(error, ConnectionResetError)
    got, _ = read_all(either, chat("[[fake fault=badhttp]]"))
    assert got and not got.startswith(b"HTTP")


def test_hang(either):
    got, error = read_all(either, chat("[[fake fault=hang]]", stream=True), timeout=0.2)
    assert got == b"" and isinstance(error, TimeoutError)
    got, error = read_all(either, chat("[[fake hang_after=3]]", stream=True), until=b" w2")
    assert isinstance(error, TimeoutError) and b" w2" in got and b" w3" not in got
    stats = either.wait(lambda st: st["requests"]["active"] == 0)
    assert stats["requests"]["cancelled"] == 2


@pytest.mark.parametrize("stream", [True, False])
def test_a_wait_that_is_ended(either, stream):
    """delay_ms is for as long as a test wants; what comes then is the answer, and the faults that it has."""
    asked = in_thread(lambda: either.call("POST", either.path, chat("[[fake delay_ms=600000 tokens=2]]", stream=stream)))
    failing = in_thread(lambda: either.call("POST", either.path, chat("[[fake delay_ms=600000 fault=500]]", stream=stream)))
    either.wait(lambda st: st["requests"]["active"] == 2)
    assert either.stats()["slots"]["active"] == 0
    assert either.post("/fake/go", {}) == {"ok": True}
    status, _, data = asked.join()
    assert status == 200 and b"w0" in data and b"w1" in data and failing.join()[0] == 500


@pytest.mark.parametrize("stream", [True, False])
def test_cut(either, stream):
    got, error = read_all(either, chat("[[fake fault=cut=3]]", stream=stream))
    assert error is None and got.startswith(b"HTTP/1.1 200 OK")
    if stream:
        assert b" w2" in got and b" w3" not in got and not got.endswith(b"0\r\n\r\n")
    else:
        head, _, body = got.partition(b"\r\n\r\n")
        length = int([h for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")][0].split(b":")[1])
        assert 0 < len(body) < length
    assert either.wait(lambda st: st["requests"]["cut"] == 1)


def test_end_error_garbage_in_stream(either):
    got = either.call("POST", either.path, chat("[[fake end=2]]", stream=True))[2]
    assert b" w1" in got and b" w2" not in got and b'"done":true' not in got and b"[DONE]" not in got
    got = either.call("POST", either.path, chat("[[fake error_after=2]]", stream=True))[2]
    assert b" w1" in got and b" w2" not in got and b"[DONE]" not in got
    last = lines(got)[-1] if either.kind == "ollama" else events(got)[-1]
    assert "error" in last
    got = either.call("POST", either.path, chat("[[fake garbage_after=2]]", stream=True))[2]
    assert b"not JSON" in got and b" w15" in got
    status, _, got = either.call("POST", either.path, chat("[[fake error_after=0]]", stream=True))
    assert status == 500 and "error" in json.loads(got)


def test_garbage_empty_ctype(either):
    status, _, got = either.call("POST", either.path, chat("[[fake fault=garbage]]", stream=True))
    assert status == 200 and b"not JSON" in got
    assert said(either, either.call("POST", either.path, chat("[[fake fault=empty]]", stream=True))[2]) == ""
    whole = either.post(either.path, chat("[[fake fault=empty]]", stream=False))
    assert (whole["message"] if either.kind == "ollama" else whole["choices"][0]["message"])["content"] == ""
    _, headers, got = either.call("POST", either.path, chat("[[fake fault=ctype]]", stream=True))
    assert headers["Content-Type"].startswith("text/html") and said(either, got) == words(16)


def test_slow_and_odd_bytes(either):
    t = time.monotonic()
    got = either.call("POST", either.path, chat("[[fake delay_ms=100 tokens=1]]", stream=True))[2]
    assert time.monotonic() - t >= 0.1 and said(either, got) == "w0"
    t = time.monotonic()
    got = either.call("POST", either.path, chat("[[fake headers=100 tokens=1]]", stream=True))[2]
    assert time.monotonic() - t >= 0.1 and said(either, got) == "w0"
    t = time.monotonic()
    got = either.call("POST", either.path, chat("[[fake drip=1 tokens=1]]", stream=True))[2]
    assert time.monotonic() - t >= 0.2 and said(either, got) == "w0"
    got = either.call("POST", either.path, chat("[[fake chunk_bytes=7]]", stream=True))[2]
    assert said(either, got) == words(16)
    raw, _ = read_all(either, chat("[[fake chunk_bytes=7]]", stream=True))
    assert raw.count(b"\r\n7\r\n") > 50
    got = either.call("POST", either.path, chat("[[fake hugeline=5000000 tokens=2]]", stream=True))[2]
    assert said(either, got) == "x" * 5000000 + " w1"


def test_close_after_reply(either):
    c = http.client.HTTPConnection("127.0.0.1", either.port, timeout=20)
    c.request("POST", either.path, json.dumps(chat("[[fake fault=close]]", stream=False)))
    r = c.getresponse()
    assert r.status == 200 and r.headers.get("Connection") is None and r.read()
    assert c.sock.recv(1) == b""
    c.close()


# --- HTTP ---


def test_keep_alive_and_pipelining(either):
    body = json.dumps(chat("x", stream=False)).encode()
    one = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (either.path.encode(), len(body)) + body
    last = one.replace(b"Host: localhost\r\n", b"Host: localhost\r\nConnection: close\r\n")
    with either.socket() as s:
        s.sendall(one * 200 + last)
        got = b""
        while piece := s.recv(65536):
            got += piece
    assert got.count(b"HTTP/1.1 200 OK") == 201
    assert either.stats()["requests"]["by_path"][either.path] == 201


def test_chunked_body_and_expect(either):
    body = json.dumps(chat("[[fake tokens=1]]", stream=False)).encode()
    with either.socket() as s:
        s.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n"
                  b"Connection: close\r\n\r\n" % either.path.encode())
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for i in range(len(body)):
            s.sendall(b"1;x=y\r\n" + body[i:i + 1] + b"\r\n")
        s.sendall(b"0\r\nTrailer: x\r\n\r\n")
        got = b""
        while piece := s.recv(65536):
            got += piece
    assert got.startswith(b"HTTP/1.1 200 OK") and b'"w0"' in got


def test_bad_http(either):
    for bad in (b"nonsense\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
                b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
        with either.socket() as s:
            s.sendall(bad)
            assert s.recv(100).startswith(b"HTTP/1.1 400")
    with either.socket() as s:
        s.sendall(b"GET /v1/models HTTP/1.0\r\nHost: localhost\r\n\r\n")
        got = b""
        while piece := s.recv(65536):
            got += piece
    assert b"Connection: close" in got
    assert either.call("GET", "/v1/models")[0] == 200


def test_log_and_dump(start, tmp_path):
    fake = start("ollama", "--log", tmp_path / "log", "--dump", tmp_path / "dump")
    bodies = [json.dumps(chat("x", stream=False, odd=2**70)).encode(), b'{ "model" : "fake","prompt":"\\u0000"}']
    for path, body in zip(("/api/chat", "/api/generate"), bodies):
        fake.call("POST", path, body, {"X-Probe": "y"})
    fake.stats()  # what was replied before is in the log when this answers
    log = lines((tmp_path / "log").read_bytes())
    assert [e["path"] for e in log] == ["/api/chat", "/api/generate"] and [e["seq"] for e in log] == [1, 2]
    assert log[0]["headers"]["X-Probe"] == "y" and log[0]["end"] == "done" and log[0]["status"] == 200
    assert [e["body_crc32"] for e in log] == [f"{zlib.crc32(b):08x}" for b in bodies]
    assert [(tmp_path / "dump" / f"{i + 1}.body").read_bytes() for i in range(2)] == bodies


def test_no_control(start):
    assert start("ollama", "--no-control").call("GET", "/fake/stats")[0] == 404


def test_slow_reader_gets_all(either):
    """The stream waits for its reader: memory does not grow with the answer."""
    body = json.dumps(chat("[[fake tokens=100000]]", stream=True)).encode()
    with either.socket() as s:
        s.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                  % (either.path.encode(), len(body)) + body)
        s.recv(1)
        generated = -1
        while (now := either.stats()["tokens"]["generated"]) != generated:
            generated = now
            time.sleep(0.05)
        assert generated < 100000
        got = b""
        while piece := s.recv(1 << 20):
            got += piece
    assert b"w99999" in got and either.wait(lambda st: st["requests"]["active"] == 0)["requests"]["done"] == 1
