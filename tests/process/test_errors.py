"""What a client is told when something goes wrong: the backend's own words where it can read them, its own dialect's form elsewhere."""

import json
import os
import signal

import pytest

from harness import wait_for
from test_routes import prose
from wire import CHAT, GENERATE, OPENAI, PATHS, STORY, Wire, content, error_text, question, units

RAW = [("ollama", CHAT), ("ollama", GENERATE), ("llama-server", OPENAI)]
TRANSLATED = [("ollama", OPENAI), ("llama-server", CHAT), ("llama-server", GENERATE)]


def exchange(to, path, body):
    """(the head, the body's bytes) of one request on a connection of its own."""
    with Wire(to) as w:
        return w.send("POST", path, body).head(), w.body()


def check_story(w):
    for name in STORY:
        assert w.headers.get(name.lower()), (name, w.header_lines)
    assert w.headers["x-tandem-strategy"] in ("A", "B", "C", "pass")


# --- before the first byte ---


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("main,path", RAW)
def test_a_backends_error_is_its_own_bytes(pair, main, path, stream):
    t, a, b = pair(main)
    for status in (400, 404, 500, 503):
        body = question(path, f"[[fake fault={status}&error=caf%C3%A9+%22quoted%22+%E2%80%A8+end]] hi", stream)
        theirs, their_body = exchange(a, path, body)
        ours, our_body = exchange(t, path, body)
        assert theirs.status == status, "the fault itself"
        assert (ours.status, our_body) == (theirs.status, their_body)
        assert ours.headers["content-type"] == theirs.headers["content-type"]
        check_story(ours)
    counts = t.status()["requests"]
    assert counts["failed"] == 2 and counts["refused"] == 2 and counts["total"] == 4, "4xx are the client's fault"
    assert t.device("gpu0")["jobs"]["failed"] == 2


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("main,path", TRANSLATED)
def test_a_backends_error_in_the_clients_dialect(pair, main, path, stream):
    t, a, b = pair(main)
    with Wire(t) as w:
        for status in (400, 404, 500, 503):
            w.send("POST", path, question(path, f"[[fake fault={status}&error=caf%C3%A9+%22quoted%22]] hi", stream)).head()
            assert w.status == status
            assert w.headers["content-type"].startswith("application/json")
            check_story(w)
            o = json.loads(w.body())
            assert error_text(path, o) == 'café "quoted"'
            assert path != OPENAI or o["error"]["code"] == status


# --- in mid-stream ---


@pytest.mark.parametrize("fault", ["error_after=3&error=boom", "cut=3", "garbage_after=3", "end=3"])
@pytest.mark.parametrize("main,path", RAW + TRANSLATED)
def test_an_error_in_mid_stream(pair, main, path, fault):
    """What came before it stays, then one error in the dialect's form, then a clean end; the connection lives."""
    t, a, b = pair(main, main_options=("--decode", "400"))
    with Wire(t) as w:
        w.send("POST", path, question(path, f"[[fake tokens=50&{fault}]] hi")).head()
        assert w.status == 200
        objects, whole = units(path, w.body())  # a clean end of the chunked body
        assert not whole or path == OPENAI and "error" in objects[-1], objects[-2:]
        text = error_text(path, objects[-1])
        assert text and ("boom" in text or "error_after" not in fault)
        assert all("error" not in o for o in objects[:-1])
        # the objects before a fault may come with it in one piece, in which case they go with it
        assert content(path, objects[:-1]) in ("w0 w1 w2", "w0 w1", "w0")
        w.send("POST", path, question(path, "hi")).head()
        assert w.status == 200 and units(path, w.body())[1]
    t.wait_ready()
    assert wait_for(lambda: t.device("gpu0")["inflight"] == 0, "the slot to be free")


@pytest.mark.parametrize("fault", ["cut=1", "fault=garbage", "fault=badhttp", "fault=refuse"])
@pytest.mark.parametrize("main,path", [("ollama", CHAT), ("llama-server", OPENAI), ("ollama", OPENAI), ("llama-server", CHAT)])
def test_a_broken_answer_without_a_stream(pair, main, path, fault):
    """Nothing of it has left yet: the client gets a status, never half an object."""
    t, a, b = pair(main, deadlines={"main_wait_ms": 3000})
    status, headers, body = t.request("POST", path, question(path, f"[[fake tokens=50&{fault}]] hi", False))
    # what breaks off each time may be what the backend dies of: no library should send it again
    assert status == 422 if fault in ("cut=1", "fault=refuse") else 500 <= status < 600
    assert error_text(path, json.loads(body))
    t.wait_ready()
    assert t.request("POST", path, question(path, "hi", False))[0] == 200


@pytest.mark.parametrize("path", [CHAT, OPENAI])
def test_half_an_object_is_a_broken_body(pair, path):
    """The worker dies while a large answer goes out: the client must see that it is not whole."""
    t, a, b = pair("ollama" if path == CHAT else "llama-server")
    with Wire(t, SO_RCVBUF=65536) as w:
        w.send("POST", path, question(path, "[[fake tokens=1&hugeline=12000000]] hi", False)).head()
        assert w.status == 200
        got = len(w.piece())
        os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
        wait_for(lambda: t.device("gpu0")["generation"] == 2, "the worker's end to be seen")
        with pytest.raises((EOFError, ConnectionError)):
            for _, piece in w.pieces():
                got += len(piece)
        assert 0 < got < 12_000_000
    t.wait_ready()
    assert t.request("POST", path, question(path, "hi", False))[0] == 200


# --- too long ---


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("main", ["ollama", "llama-server"])
@pytest.mark.parametrize("path", [CHAT, OPENAI])
def test_a_prompt_that_cannot_shrink(pair, main, path, stream):
    """Words that agents know as an overflow, so that they make their history shorter."""
    t, a, b = pair(main, main_device={"num_ctx": 4096}, main_options=("--num-ctx", "4096"))
    messages = [{"role": "system", "content": prose(40000)}, {"role": "user", "content": "hi"}]
    status, headers, body = t.request("POST", path, question(path, messages, stream))
    assert status == 400, body[:200]
    o = json.loads(body)
    text = o["error"]["message"] if path == OPENAI else error_text(path, o)
    assert text.startswith("This model's maximum context length is 4096 tokens. However, your messages resulted in ")
    if path == OPENAI:
        e = o["error"]
        assert (e["type"], e["param"], e["code"], e["n_ctx"]) == ("invalid_request_error", "messages", 400, 4096)
        assert 10000 < e["n_prompt_tokens"] < 15000
    assert "context_length_exceeded" in text
    for name in STORY:
        assert headers[name]
    why = "do not fit the window of 4096" if main == "ollama" else "gpu0 found the prompt longer than its window"
    assert headers["X-Tandem-Strategy"] == "refused" and why in headers["X-Tandem-Reason"]
    sizes = dict(p.split("=") for p in headers["X-Tandem-Tokens"].split())
    if main == "ollama":
        assert int(sizes["in"]) > 9000 and sizes["sent"] == "0"
    assert t.device("gpu0")["jobs"]["done"] == 0


@pytest.mark.parametrize("path", [CHAT, OPENAI])
def test_an_overflow_that_only_the_backend_sees(pair, path):
    """llama-server's own wording is unknown to agents: it is said in theirs, with its numbers."""
    t, a, b = pair("llama-server", main_device={"num_ctx": 4096}, main_options=("-c", "4096", "-np", "1", "--chars-per-token", "1"))
    messages = [{"role": "system", "content": prose(6000)}, {"role": "user", "content": "hi"}]
    status, headers, body = t.request("POST", path, question(path, messages, False))
    assert status == 400
    o = json.loads(body)
    text = o["error"]["message"] if path == OPENAI else error_text(path, o)
    assert text.startswith("This model's maximum context length is 4096 tokens. However, your messages resulted in 6")
    assert "context_length_exceeded" in text
    assert headers["X-Tandem-Strategy"] == "refused" and "longer than its window" in headers["X-Tandem-Reason"]


@pytest.mark.parametrize("path,fault", [(CHAT, None), (OPENAI, None), (OPENAI, "404")])
def test_what_was_not_sent_is_not_counted_as_sent(pair, path, fault):
    """A request that no device was given says sent=0; one that a backend refuses was sent."""
    t, a, b = pair("llama-server" if path == CHAT else "ollama")
    if fault:
        a.fault(times=1, fault=fault)
    model = "m:1b" if fault or path == OPENAI else "none:7b"
    if not fault and path == OPENAI:
        messages = [{"role": "system", "content": prose(90000)}, {"role": "user", "content": "hi"}]
    else:
        messages = "hello " * 20
    status, headers, _ = t.request("POST", path, question(path, messages, False, model=model))
    assert status in (400, 404)
    sizes = dict(p.split("=") for p in headers["X-Tandem-Tokens"].split())
    assert (sizes["sent"] != "0") == bool(fault), headers


WORDS = [
    ("llama-server", 500, "Context size has been exceeded."),
    ("llama-server", 400, "the request exceeds the available context size. try increasing the context size"),
    ("ollama", 400, "the input length exceeds the context length"),
    ("ollama", 500, '{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}'),
]


def history(chars):
    return [{"role": "user", "content": "Read this."}, {"role": "assistant", "content": prose(chars)},
            {"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "Why?"}]


@pytest.mark.parametrize("path", [CHAT, OPENAI])
@pytest.mark.parametrize("main,fault,words", WORDS)
def test_an_overflow_is_known_by_its_words(pair, main, fault, words, path):
    """However the engine says it: condensed after all, and when it says it again, the error that agents know."""
    t, a, b = pair(main, main_device={"num_ctx": 4096})
    a.fault(fault=str(fault), error=words, times=1)
    status, headers, body = t.request("POST", path, question(path, history(5000), False))
    assert status == 200, body
    assert "counted more tokens" in headers["X-Tandem-Reason"]
    whole, condensed = filter(None, a.bodies())
    assert len(condensed) < len(whole)
    a.fault(fault=str(fault), error=words, times=-1)
    status, headers, body = t.request("POST", path, question(path, history(5000), False))
    assert status == 400
    o = json.loads(body)
    text = o["error"]["message"] if path == OPENAI else error_text(path, o)
    assert text.startswith("This model's maximum context length is 4096 tokens. However, your messages resulted in 1"), text


@pytest.mark.parametrize("main,path", RAW[:1] + TRANSLATED[:2])
def test_an_overflow_in_the_first_event(pair, main, path):
    """A 200 that begins with the error: the client has nothing yet, so the prompt is condensed after all."""
    t, a, b = pair(main, main_device={"num_ctx": 4096}, main_options=("--early-headers",))
    a.fault(error_after="0", error="Context size has been exceeded.", delay_ms="20", times=1)
    with Wire(t) as w:
        w.send("POST", path, question(path, history(5000), True)).head()
        assert w.status == 200
        objects, whole = units(path, w.body())
        assert whole and content(path, objects).startswith("w0 w1")
        assert "counted more tokens" in w.headers["x-tandem-reason"]
    assert len(list(filter(None, a.bodies()))) == 2


# --- the client's own mistakes ---

BAD = [
    b"", b"{", b"[]", b"null", b'"x"', b"{} {}", b"\xff\xfe", b'{"model":"m:1b","messages":[],}', b"{'model':1}",
    b'{"model":"m:1b","messages":"x"}', b'{"model":"m:1b","messages":{"role":"user"}}', b'{"model":"m:1b","messages":[1]}',
    b'{"messages":[{"role":"user","content":"x"}]}', b'{"model":1,"messages":[{"role":"user","content":"x"}]}',
    b'{"model":"m:1b","messages":[{"role":"user","content":"' + b"[" * 10 + b'"}],"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
]


@pytest.mark.parametrize("main", ["ollama", "llama-server"])
@pytest.mark.parametrize("path", [CHAT, OPENAI])
def test_a_bad_request(pair, main, path):
    t, a, b = pair(main)
    with Wire(t) as w:
        for body in BAD:
            w.send("POST", path, body).head()
            answer = w.body()
            if path == OPENAI and main == "llama-server" and w.status == 200:
                assert b'"model":"m' not in body and b'"messages":[{' in body
                continue  # llama-server serves its one model whatever the name
            assert 400 <= w.status < 500, (body[:80], w.status, answer[:200])
            assert w.headers["content-type"].startswith("application/json")
            assert error_text(path, json.loads(answer)), (body[:80], answer)
            check_story(w)
        assert w.send("POST", path, question(path, "hi")).head().status == 200
        assert units(path, w.body())[1]
    assert t.device("gpu0")["generation"] == 1


def test_bad_generate_requests(pair):
    t, a, b = pair()
    with Wire(t) as w:
        for body in (b"", b"{", b"[]", b'{"model":"m:1b","prompt":1}', b'{"model":"m:1b","prompt":["x"]}', b'{"model":[],"prompt":"x"}'):
            w.send("POST", GENERATE, body).head()
            assert 400 <= w.status < 500, (body, w.status)
            assert error_text(GENERATE, json.loads(w.body()))
            check_story(w)


@pytest.mark.parametrize("path", PATHS)
def test_an_unknown_model(pair, path):
    t, a, b = pair()
    status, headers, body = t.request("POST", path, question(path, "hi", model="nobody:1b"))
    assert status == 404 and "not found" in error_text(path, json.loads(body))
    assert t.request("POST", path, question(path, "hi"))[0] == 200


def test_an_unknown_model_before_a_llama_server(pair):
    t, a, b = pair("llama-server")
    for path in (CHAT, GENERATE):
        status, headers, body = t.request("POST", path, question(path, "hi", model="nobody:1b"))
        assert status == 404 and error_text(path, json.loads(body)) == "model 'nobody:1b' not found"
        assert headers["X-Tandem-Strategy"] == "pass" and headers["X-Tandem-Reason"]
    assert t.request("POST", OPENAI, question(OPENAI, "hi", model="nobody:1b"))[0] == 200


def test_a_body_over_its_limit(pair):
    t, a, b = pair(limits={"body_bytes": 100000})
    for path in PATHS:
        with Wire(t) as w:
            w.send("POST", path, question(path, "x" * 200000)).head()
            assert w.status == 413
            check_story(w)
            assert "limits.body_bytes" in error_text(path, json.loads(w.body()))
    assert t.chat("hi")[0] == 200
    assert t.status()["held_bytes"] == 0


# --- the story in the headers ---


@pytest.mark.parametrize("main", ["ollama", "llama-server"])
def test_every_answer_tells_its_story(pair, main):
    t, a, b = pair(main)
    asks = [("POST", CHAT, question(CHAT, "hi")), ("POST", CHAT, question(CHAT, "hi", False)), ("POST", OPENAI, question(OPENAI, "hi")),
            ("POST", GENERATE, question(GENERATE, "hi", False)), ("POST", CHAT, question(CHAT, "[[fake fault=500]] x")),
            ("POST", CHAT, b"{"), ("GET", "/", None), ("HEAD", "/", None), ("GET", "/api/tags", None), ("GET", "/v1/models", None),
            ("GET", "/api/version", None), ("GET", "/api/ps", None), ("GET", "/api/nothing", None), ("GET", "/nothing", None),
            ("POST", "/api/show", {"model": "m:1b"}), ("POST", "/api/show", {"model": "nobody"}), ("DELETE", "/api/delete", {"model": "x"}),
            ("GET", CHAT, None), ("POST", "/v1/embeddings", {"model": "m:1b", "input": "x"})]
    ids = set()
    with Wire(t) as w:
        for method, target, body in asks:
            w.send(method, target, body).head()
            w.body()
            check_story(w)
            assert (w.headers["x-tandem-strategy"] == "A") == (method == "POST" and target in PATHS and body != b"{"), (method, target, w.header_lines)
            parts = dict(p.split("=") for p in w.headers["x-tandem-tokens"].split())
            assert set(parts) == {"in", "sent"} and all(v.isdigit() for v in parts.values())
            assert "\n" not in w.headers["x-tandem-reason"]
            ids.add(w.headers["x-tandem-request-id"])
    assert len(ids) == len(asks)
