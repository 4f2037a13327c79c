"""Backends of the kind `openai`: any server of the OpenAI API, behind TLS and with a key where it wants one."""

import contextlib
import json
import os
import re
import socket
import threading

import openai
import pytest
from harness import free_port, wait_for
from tls import TlsProxy, certificate

KEY = "sk-test-0123456789abcdef"


def device(url, name="gpu0", **more):
    backend = {"type": "openai", "url": url}
    for key in ("key_file", "ca_file", "command"):
        if key in more:
            backend[key] = more.pop(key)
    return {"name": name, "roles": ["main"], "backend": backend, **more}


@pytest.fixture
def vllm(fake):
    def start(name="b", model=("m:1b",), **options):
        return fake(name, type="openai", model=model, **options)

    return start


@pytest.fixture
def tls():
    """tls(port, cert, key): a proxy with TLS before that port."""
    started = []

    def start(*args):
        started.append(TlsProxy(*args))
        return started[-1]

    yield start
    for proxy in started:
        proxy.close()


def key_file(folder, text=KEY + "\n", mode=0o600, name="key"):
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


def chats(backend):
    """Bodies of the chats that the backend got."""
    return [json.loads(b) for b in backend.bodies() if b'"messages"' in b]


def down(t, words, name="gpu0"):
    """Waits until the device's backend is down for that reason."""
    return wait_for(lambda: (d := t.device(name)["backend"])["state"] == "down" and re.search(words, d["detail"]) and d, f"{words!r}")


# --- what it is ---

def test_models_and_window_are_what_the_server_says(vllm, tandem):
    b = vllm(model=("org/first", "org/second"), options=["--max-model-len", "12345"])
    t = tandem([device(b.url)])
    backend = t.device("gpu0")["backend"]
    assert (backend["type"], backend["model"], backend["window"], backend["models"]) == ("openai", "org/first", 12345, 2)
    models = json.loads(t.request("GET", "/v1/models")[2])["data"]
    assert [(m["id"], m["max_model_len"]) for m in models] == [("org/first", 12345), ("org/second", 12345)]
    tags = json.loads(t.request("GET", "/api/tags")[2])["models"]
    assert [m["name"] for m in tags] == ["org/first", "org/second"] and tags[0]["details"]["format"] == ""
    show = json.loads(t.request("POST", "/api/show", {"model": "org/second"})[2])
    assert 12345 in show["model_info"].values() and "tools" in show["capabilities"]
    assert json.loads(t.request("GET", "/v1/models/org/second")[2])["id"] == "org/second"
    assert t.request("GET", "/v1/models/org/none")[0] == 404
    status, _, body = t.request("POST", "/api/pull", {"model": "x"})
    assert status == 501 and "an OpenAI-compatible server, which has no store of models" in json.loads(body)["error"]


def test_a_base_may_end_with_v1(vllm, tandem):
    b = vllm()
    t = tandem([device(b.url + "/v1/")])
    assert t.chat("hello")[0] == 200


def test_a_started_one(fake, tandem, folder):
    """vLLM, SGLang and llama-cpp-python take --host and --port as llama-server does."""
    from harness import BIN
    t = tandem([{"name": "gpu0", "roles": ["main"], "pin": "1", "backend": {
        "type": "openai", "command": [os.path.join(BIN, "fake-backend"), "--type", "openai", "--model", "m:1b"]}}])
    d = t.device("gpu0")["backend"]
    assert d["pid"] > 0 and d["url"].startswith("http://127.0.0.1:")
    assert t.chat("hello")[0] == 200


# --- what is asked of it ---

def test_all_dialects_are_answered(vllm, tandem):
    b = vllm(options=["--embeddings"])
    t = tandem([device(b.url)])
    say = "Hello. [[fake text=good+day]]"
    status, _, body = t.chat(say)
    assert status == 200 and json.loads(body)["message"]["content"] == "good day", body
    lines = t.chat(say, stream=True)[2].splitlines()
    assert "".join(json.loads(x)["message"]["content"] for x in lines) == "good day"
    last = json.loads(lines[-1])
    assert last["done"] and last["eval_count"] > 0 and last["prompt_eval_count"] > 0
    status, _, body = t.request("POST", "/api/generate", {"model": "m:1b", "prompt": say, "stream": False})
    assert status == 200 and json.loads(body)["response"] == "good day", body
    client = openai.OpenAI(base_url=t.url + "/v1", api_key="unused", max_retries=0)
    messages = [{"role": "user", "content": say}]
    assert client.chat.completions.create(model="m:1b", messages=messages).choices[0].message.content == "good day"
    pieces = [c.choices[0].delta.content or "" for c in client.chat.completions.create(model="m:1b", messages=messages, stream=True)]
    assert "".join(pieces) == "good day"
    # without /v1, as llama-server's clients have it
    assert t.request("POST", "/chat/completions", {"model": "m:1b", "messages": messages})[0] == 200
    status, _, body = t.request("POST", "/api/embed", {"model": "m:1b", "input": ["a", "b"]})
    assert status == 200 and len(json.loads(body)["embeddings"]) == 2, body


def test_thinking_and_tools_are_translated(vllm, tandem):
    b = vllm()
    t = tandem([device(b.url)])
    status, _, body = t.chat("[[fake tokens=4 thinking=3 tool=read&args=%7B%22path%22%3A%22a.c%22%7D]]", think=True,
                             options={"temperature": 0.5, "num_ctx": 2048, "num_predict": 50},
                             tools=[{"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}])
    message = json.loads(body)["message"]
    assert status == 200 and message["thinking"] and message["tool_calls"][0]["function"]["arguments"] == {"path": "a.c"}
    sent = chats(b)[-1]
    assert sent["max_tokens"] == 50 and sent["temperature"] == 0.5 and "num_ctx" not in sent and "options" not in sent
    assert sent["chat_template_kwargs"] == {"enable_thinking": True} and sent["stream"] is False


def test_what_it_cannot_do_is_an_error_that_says_so(vllm, tandem):
    b = vllm()
    t = tandem([device(b.url)])
    for body in ({"model": "m:1b", "prompt": "def f(", "suffix": "return x", "stream": False},
                 {"model": "m:1b", "prompt": "x", "template": "{{ .Prompt }}", "stream": False}):
        status, _, answer = t.request("POST", "/api/generate", body)
        assert status == 400 and "does not support" in json.loads(answer)["error"], answer
    assert t.request("GET", "/props")[0] == 404
    status, _, answer = t.chat("hello", model="other:7b")
    assert status == 404 and "does not exist" in json.loads(answer)["error"], answer


def test_a_stream_is_asked_for_its_usage(vllm, tandem):
    """The counts teach what text costs; the chunk that brings them goes to those alone who asked for it."""
    b = vllm()
    t = tandem([device(b.url)])
    client = openai.OpenAI(base_url=t.url + "/v1", api_key="unused", max_retries=0)
    messages = [{"role": "user", "content": "Hello. [[fake text=good+day]]"}]
    chunks = list(client.chat.completions.create(model="m:1b", messages=messages, stream=True))
    assert all(c.choices and c.usage is None for c in chunks), chunks
    assert chats(b)[-1]["stream_options"] == {"include_usage": True}
    rid = [e["req"] for e in t.events(ev="request_done")][-1]
    assert wait_for(lambda: [e for e in t.events(rid=rid, ev="job_end") if int(e["prompt_tokens"]) > 0], "counts of the stream")
    chunks = list(client.chat.completions.create(model="m:1b", messages=messages, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.prompt_tokens > 0 and not chunks[-1].choices
    raw = t.request("POST", "/v1/chat/completions", {"model": "m:1b", "messages": messages, "stream": True, "stream_options": {}})[2]
    assert b'"choices":[]' not in raw and raw.endswith(b"data: [DONE]\n\n") and chats(b)[-1]["stream_options"] == {"include_usage": True}


def test_a_prompt_that_is_too_long_is_shortened(vllm, tandem):
    """The server says no, in vLLM's words, where nothing was known of its window."""
    b = vllm(options=["--max-model-len", "2000"])
    t = tandem([device(b.url)], limits={"coalesce": False})
    story = [{"role": "system", "content": "You are an agent."}]
    for i in range(12):
        story.append({"role": "user", "content": f"Step {i}."})
        story.append({"role": "assistant", "content": "", "tool_calls": [{"id": f"c{i}", "type": "function", "function": {"name": "read", "arguments": "{}"}}]})
        story.append({"role": "tool", "tool_call_id": f"c{i}", "content": "\n".join(f"line {i} {k} of the file that was read" for k in range(40))})
    story.append({"role": "user", "content": "And now? [[fake text=done]]"})
    status, headers, body = t.request("POST", "/v1/chat/completions", {"model": "m:1b", "messages": story})
    assert status == 200 and json.loads(body)["choices"][0]["message"]["content"] == "done", (headers, body)
    assert headers["X-Tandem-Strategy"] in "BC" and len(chats(b)[-1]["messages"]) <= len(story)


def test_a_prompt_that_cannot_fit_has_the_error_that_agents_know(vllm, tandem):
    b = vllm(options=["--max-model-len", "500"])
    t = tandem([device(b.url)])
    status, _, body = t.request("POST", "/v1/chat/completions", {"model": "m:1b", "messages": [
        {"role": "system", "content": "word " * 3000}, {"role": "user", "content": "hello"}]})
    error = json.loads(body)["error"]
    assert status == 400 and "context" in error["message"], body


def test_a_limit_that_no_prompt_fits_beside_is_told_as_it_is(vllm, tandem):
    b = vllm(options=["--max-model-len", "500"])
    t = tandem([device(b.url)])
    status, _, body = t.request("POST", "/v1/chat/completions", {"model": "m:1b", "max_tokens": 600, "messages": [{"role": "user", "content": "hello"}]})
    assert status == 400 and "'max_tokens' or 'max_completion_tokens' is too large: 600" in json.loads(body)["error"]["message"], body
    assert len(chats(b)) == 1


def test_it_may_be_slow_for_now(vllm, tandem):
    b = vllm()
    t = tandem([device(b.url)])
    for after, told in (("7", "7"), ("1.5", "2"), ("Wed, 21 Oct 2015 07:28:00 GMT", None), ("soon", None)):
        b.fault(fault=429, error="slow down", retry_after=after)
        for path, body in (("/v1/chat/completions", {"model": "m:1b", "messages": [{"role": "user", "content": "hello"}]}),):
            status, headers, answer = t.request("POST", path, body)
            assert (status, headers["Retry-After"]) == (429, told) and "slow down" in answer.decode(), (after, headers, answer)
    b.fault(fault=429, error="slow down", retry_after="7")
    status, headers, answer = t.chat("hello")
    assert (status, headers["Retry-After"]) == (429, "7") and json.loads(answer)["error"] == "slow down"
    # A list that is refused for the same reason does not take the device away.
    b.fault(match="/v1/models", fault=429, times=-1, name="list")
    wait_for(lambda: [e for e in t.events(ev="backend_probe") if e["found"] == "busy"], "a refused look", deadline=30)
    assert t.chat("hello")[0] == 200


# --- keys ---

def test_the_key_goes_with_every_request_and_nowhere_else(vllm, tandem, folder):
    b = vllm(options=["--api-key", KEY, "--log", os.path.join(folder, "requests.log")])
    t = tandem([device(b.url, key_file=key_file(folder))])
    hidden = {"Authorization": "Bearer theirs", "X-Api-Key": "theirs", "Cookie": "theirs=1", "X-Kept": "yes"}
    assert t.request("POST", "/v1/chat/completions", {"model": "m:1b", "messages": [{"role": "user", "content": "hello"}]}, hidden)[0] == 200
    assert t.chat("hello")[0] == 200
    t.request("GET", "/v1/none", headers=hidden)
    b.stats()  # what was answered before is in its log then
    with open(os.path.join(folder, "requests.log")) as f:
        seen = [json.loads(line) for line in f]
    assert {r["headers"].get("Authorization") for r in seen} == {"Bearer " + KEY}
    assert all("theirs" not in json.dumps(r["headers"]) for r in seen) and sum(r["headers"].get("X-Kept") == "yes" for r in seen) == 2
    assert KEY not in t.log() and KEY not in json.dumps(t.status()) + json.dumps(t.command("backends"))


def test_a_new_key_counts_at_once(vllm, tandem, folder):
    b = vllm(options=["--api-key", KEY])
    path = key_file(folder, "wrong\n")
    t = tandem([device(b.url, key_file=path)], wait=False)
    down(t, r"refuses the key of .*/key \(status 401\)")
    key_file(folder)
    t.wait_ready()
    assert t.chat("hello")[0] == 200
    key_file(folder, "no longer\n")
    key_file(folder, "revoked\n")
    status, _, body = t.chat("hello")
    assert status == 502 and json.loads(body)["error"] == "the backend refuses the gateway's key", body
    down(t, "refuses the key of")
    key_file(folder)
    t.wait_ready()
    assert t.chat("hello")[0] == 200


@pytest.mark.parametrize("text, mode, words", [("", 0o600, "is empty"), ("a b\n", 0o600, "more than one word"), (KEY, 0o600, None),
                                               ("x" * 5000, 0o600, "is too long"), (KEY, 0o604, "may be read by everybody: chmod o-r")])
def test_a_key_file_must_be_one(vllm, tandem, folder, text, mode, words):
    b = vllm(options=["--api-key", KEY])
    path = key_file(folder)
    t = tandem([device(b.url, key_file=path)])
    key_file(folder, text, mode)
    status, _, body = t.request("POST", "/v1/chat/completions", {"model": "m:1b", "stream": False, "messages": [{"role": "user", "content": "hello"}]})\
        if words is None else t.request("GET", "/v1/some/path")
    if words is None:
        assert status == 200, body
    else:
        assert status == 503 and words in body.decode() and KEY not in body.decode(), body
        down(t, words)


def test_a_key_for_everybody_to_read_is_refused_by_the_configuration(vllm, tandem, folder):
    with pytest.raises(AssertionError, match=r"backend.key_file: must not be readable by everybody \(chmod o-r\)"):
        tandem([device("http://127.0.0.1:1", key_file=key_file(folder, mode=0o644))])


def test_a_server_that_wants_a_key_says_so(vllm, tandem):
    b = vllm(options=["--api-key", KEY])
    t = tandem([device(b.url)], wait=False)
    down(t, r"refuses us \(status 401\): it may want a key \(backend.key_file\)")


# --- TLS ---

def test_behind_tls(vllm, tandem, folder, tls):
    b = vllm(options=["--api-key", KEY, "--max-model-len", "300000"])
    cert, key = certificate(folder)
    proxy = tls(b.port, cert, key)
    t = tandem([device(proxy.url, ca_file=cert, key_file=key_file(folder))])
    assert t.chat("[[fake text=good+day]]", stream=True)[0] == 200
    n = proxy.connections
    for _ in range(3):
        assert t.chat("hello")[0] == 200
    assert proxy.connections == n  # kept
    status, _, body = t.request("POST", "/v1/chat/completions", {"model": "m:1b", "stream": True, "messages": [
        {"role": "user", "content": "[[fake tokens=200000]]"}]}, timeout=60)
    assert status == 200 and body.count(b'"content":"') >= 200000 and body.endswith(b"data: [DONE]\n\n")


def test_a_slow_reader_behind_tls(vllm, tandem, folder, tls):
    """Bytes that the TLS library holds already are told by no socket: a paused answer must go on all the same."""
    b = vllm(options=["--max-model-len", "300000"])
    cert, key = certificate(folder)
    proxy = tls(b.port, cert, key)
    t = tandem([device(proxy.url, ca_file=cert)])
    c = t.client(SO_RCVBUF=4096)
    c.send("POST", "/v1/chat/completions", {"model": "m:1b", "stream": True, "messages": [{"role": "user", "content": "[[fake tokens=20000]]"}]})
    wait_for(lambda: t.status()["held_bytes"] > 0, "an answer that is held back")
    assert c.head() == 200
    got = c.rest()
    assert got.count(b'"content":"') >= 20000 and got.endswith(b"data: [DONE]\n\n"), got[-200:]


def test_a_certificate_that_is_not_trusted(vllm, tandem, folder, tls):
    b = vllm()
    proxy = tls(b.port, *certificate(folder))
    t = tandem([device(proxy.url)], wait=False)
    down(t, r"no TLS with https://127.0.0.1:\d+: .*certificate")
    assert not b.bodies()


def test_a_certificate_of_another_name(vllm, tandem, folder, tls):
    b = vllm()
    cert, key = certificate(folder, "gpu.example")
    proxy = tls(b.port, cert, key)
    t = tandem([device(proxy.url, ca_file=cert)], wait=False)
    down(t, r"no TLS with https://127.0.0.1:\d+: .*(name|subject)")


def test_authorities_that_are_none(vllm, tandem, folder, tls):
    b = vllm()
    cert, key = certificate(folder)
    proxy = tls(b.port, cert, key)
    t = tandem([device(proxy.url, ca_file=os.path.join(folder, "missing.pem"))], wait=False)
    down(t, r"no TLS with .*missing\.pem")


def test_https_to_one_that_speaks_none(tandem):
    with socket.create_server(("127.0.0.1", 0)) as plain:
        def answer():
            with contextlib.suppress(OSError):
                while True:
                    with plain.accept()[0] as s:
                        s.recv(4096)
                        s.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nthis is HTTP\n")

        threading.Thread(target=answer, daemon=True).start()
        t = tandem([device(f"https://127.0.0.1:{plain.getsockname()[1]}")], wait=False)
        down(t, "no TLS with https://")


def test_nobody_there(tandem):
    port = free_port()
    t = tandem([device(f"https://127.0.0.1:{port}")], wait=False)
    down(t, f"nothing answers at https://127.0.0.1:{port}")
