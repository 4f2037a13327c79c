"""Embeddings: each of the three forms before each kind of backend, as one answer whoever gives it."""

import base64
import json
import math
import struct

import openai
import pytest

from conftest import attached
from harness import wait_for
from test_routes import prose

BACKS = ["ollama", "llama-server", "openai"]
TEXTS = ["one", "two \U0001f600", "three\nlines"]
V1, EMBED, OLDER = "/v1/embeddings", "/api/embed", "/api/embeddings"


@pytest.fixture
def embedder(fake, tandem):
    """embedder(kind, ...) -> (tandem, its one backend, that makes embeddings)."""

    def start(kind, options=(), device=None, **groups):
        f = fake("main", type=kind, options=("--embeddings", *options))
        return tandem([attached(f, slots=2, **(device or {}))], **groups), f

    return start


def ask(t, path, body, expect=200):
    status, headers, data = t.request("POST", path, body)
    assert status == expect, (status, data)
    assert headers["Content-Type"].startswith("application/json")
    return json.loads(data)


def close(a, b):
    return len(a) == len(b) and all(abs(x - y) < 1e-5 for x, y in zip(a, b))


def unpacked(text):
    data = base64.b64decode(text, validate=True)
    return struct.unpack(f"<{len(data) // 4}f", data)


@pytest.mark.parametrize("kind", BACKS)
def test_one_answer_in_every_form(embedder, kind):
    t, f = embedder(kind)
    theirs = ask(t, EMBED, {"model": "m:1b", "input": TEXTS})
    vectors = theirs["embeddings"]
    assert len(vectors) == 3 and theirs["model"] == "m:1b" and theirs["prompt_eval_count"] > 0
    assert ask(t, OLDER, {"model": "m:1b", "prompt": TEXTS[1]}) == {"embedding": vectors[1]}
    assert ask(t, EMBED, {"model": "m:1b", "input": TEXTS[2]})["embeddings"] == [vectors[2]]
    got = ask(t, V1, {"model": "m:1b", "input": TEXTS})
    assert got["object"] == "list" and got["model"] == "m:1b"
    assert got["usage"]["prompt_tokens"] == got["usage"]["total_tokens"] == theirs["prompt_eval_count"]
    assert [(d["object"], d["index"]) for d in got["data"]] == [("embedding", i) for i in range(3)]
    assert [d["embedding"] for d in got["data"]] == vectors
    assert [d["embedding"] for d in ask(t, V1, {"model": "m:1b", "input": TEXTS[0], "encoding_format": "float", "user": "u"})["data"]] == [vectors[0]]
    packed = ask(t, V1, {"model": "m:1b", "input": TEXTS, "encoding_format": "base64"})["data"]
    assert all(close(unpacked(d["embedding"]), v) for d, v in zip(packed, vectors))


@pytest.mark.parametrize("kind", BACKS)
@pytest.mark.parametrize("path", [EMBED, V1])
def test_fewer_dimensions(embedder, kind, path):
    """The first ones, of length 1 again: llama-server would leave the wish out, older Ollamas as well."""
    t, f = embedder(kind)
    body = {"model": "m:1b", "input": TEXTS}
    for d, (v, whole) in [(d, pair) for d in (3, 8, 100) for pair in zip(vectors_of(t, path, {**body, "dimensions": d}), vectors_of(t, path, body))]:
        n = min(d, 8)
        size = math.sqrt(sum(x * x for x in whole[:n]))
        assert len(v) == n and close(v, [x / size for x in whole[:n]]), (d, v)
    if path == V1:
        packed = ask(t, V1, {**body, "dimensions": 3, "encoding_format": "base64"})["data"]
        assert all(close(unpacked(p["embedding"]), v) for p, v in zip(packed, vectors_of(t, V1, {**body, "dimensions": 3})))


def vectors_of(t, path, body):
    o = ask(t, path, body)
    return o["embeddings"] if path == EMBED else [d["embedding"] for d in o["data"]]


@pytest.mark.parametrize("kind", BACKS)
def test_token_ids(embedder, kind):
    """Servers of OpenAI's API take them; Ollama does not, and the client is told."""
    t, f = embedder(kind)
    for tokens, n in (([1, 2, 3], 1), ([[1, 2], [3]], 2)):
        if kind == "ollama":
            e = ask(t, V1, {"model": "m:1b", "input": tokens}, 400)["error"]
            assert e["type"] == "invalid_request_error" and "not token ids" in e["message"]
        else:
            assert len(ask(t, V1, {"model": "m:1b", "input": tokens})["data"]) == n
        assert ask(t, EMBED, {"model": "m:1b", "input": tokens}, 400) == {"error": "invalid input type"}
    assert f.stats()["requests"]["by_path"].get(EMBED, 0) <= 2  # none of them was asked for what it can't do


WRONG = [{"input": ""}, {"input": []}, {}, {"input": {}}, {"input": "a", "encoding_format": "int8"}, b"{", b"", b"[1]"]


@pytest.mark.parametrize("kind", BACKS)
def test_wrong_requests(embedder, kind):
    t, f = embedder(kind)
    for body in WRONG:
        if isinstance(body, dict):
            body = {"model": "m:1b", **body}
        status, _, data = t.request("POST", V1, body)
        e = json.loads(data)["error"]
        assert status == 400 and e["code"] == 400 and e["message"], (body, data)
        assert e["type"] in ("invalid_request_error", "BadRequestError"), "llama-server's words, and vLLM's"
    if kind != "openai":
        assert t.request("GET", V1)[0] == 405
    if kind != "openai":  # others have words of their own for it
        for dimensions in (0, -1, 1.5, "x"):
            e = ask(t, V1, {"model": "m:1b", "input": "a", "dimensions": dimensions}, 400)["error"]
            assert "'dimensions' must be" in e["message"], e
    assert t.wait_idle() is None and t.status()["requests"]["failed"] == 0


@pytest.mark.parametrize("kind", BACKS)
def test_bodies_as_ollama_takes_them(embedder, kind):
    """Broken UTF-8 counts as U+FFFD, and what stands behind the object as nothing."""
    t, f = embedder(kind)
    for path in (V1, EMBED):
        wanted = vectors_of(t, path, {"model": "m:1b", "input": "caf\ufffd"})
        assert vectors_of(t, path, b'{"model":"m:1b","input":"caf\xe9"} x') == wanted


def test_what_only_a_llama_server_takes(embedder):
    """Its own shapes reach it as they are."""
    t, f = embedder("llama-server")
    assert len(ask(t, V1, {"input": [[12, 34], "text"]})["data"]) == 2


@pytest.mark.parametrize("path", [EMBED, OLDER, V1])
def test_a_model_that_is_not_there(embedder, path):
    t, f = embedder("ollama")
    o = ask(t, path, {"model": "none:7b", "input": "a", "prompt": "a"}, 404)
    assert "none:7b" in (o["error"]["message"] if path == V1 else o["error"]), o


def test_what_is_too_long_for_a_llama_server(embedder):
    """It says so in words of its own, with a 500 that libraries would try again: those of Ollama's API get a 400."""
    t, f = embedder("llama-server", options=("--num-ctx", "256"))
    assert "context length" in ask(t, EMBED, {"model": "m:1b", "input": prose(4000)}, 400)["error"]
    e = ask(t, V1, {"model": "m:1b", "input": prose(4000), "dimensions": 2}, 400)["error"]
    assert "context_length_exceeded" in e["message"] and (e["param"], e["code"]) == ("input", 400)
    assert "too large" in ask(t, V1, {"model": "m:1b", "input": prose(4000)}, 500)["error"]["message"], "its own answer to its own form"


def test_what_is_too_long_is_said_and_not_cut(embedder):
    """Ollama would cut it in silence, which OpenAI's API never does."""
    t, f = embedder("ollama", options=("--num-ctx", "256"))
    e = ask(t, V1, {"model": "m:1b", "input": ["short", prose(4000)]}, 400)["error"]
    assert "context_length_exceeded" in e["message"] and (e["param"], e["code"]) == ("input", 400)
    assert len(ask(t, EMBED, {"model": "m:1b", "input": ["short", prose(4000)]})["embeddings"]) == 2  # its own habit
    assert ask(t, EMBED, {"model": "m:1b", "input": prose(4000), "truncate": False}, 400)["error"]


@pytest.mark.parametrize("kind", BACKS)
def test_many_texts(embedder, kind):
    """More than is worked on in the loop; a batch as large as OpenAI allows, whatever a line of a stream may have."""
    t, f = embedder(kind, limits={"line_bytes": 65536})
    many = [f"some words to embed {i}" for i in range(2048)]
    got = ask(t, V1, {"model": "m:1b", "input": many})["data"]
    assert [d["index"] for d in got] == list(range(2048)) and len({tuple(d["embedding"]) for d in got}) == 2048
    assert [d["embedding"] for d in got] == ask(t, EMBED, {"model": "m:1b", "input": many})["embeddings"]


def test_more_vectors_than_may_be_held(embedder):
    t, f = embedder("ollama", limits={"body_bytes": 65536, "unpacked_bytes": 65536, "resume_bytes": 0})
    e = ask(t, V1, {"model": "m:1b", "input": [f"{i}" for i in range(2000)]}, 502)["error"]
    assert "limits.body_bytes" in e["message"]
    assert t.wait_idle() is None and len(ask(t, V1, {"model": "m:1b", "input": "a"})["data"]) == 1


TRANSLATED = {"ollama": (V1,), "llama-server": (EMBED, OLDER), "openai": (EMBED, OLDER)}


@pytest.mark.parametrize("kind", BACKS)
@pytest.mark.parametrize("fault", ["fault=500&error=boom", "fault=garbage", "fault=badhttp"])
def test_a_backend_that_fails(embedder, kind, fault):
    t, f = embedder(kind, deadlines={"main_wait_ms": 2000})
    for path in TRANSLATED[kind]:
        said = "prompt" if path == OLDER else "input"
        f.fault(times=1, match="x", **dict(p.split("=") for p in fault.split("&")))
        status, _, data = t.request("POST", path, {"model": "m:1b", said: "x"})
        o = json.loads(data)
        text = o["error"]["message"] if path == V1 else o["error"]
        assert status >= 500 and isinstance(text, str) and ("boom" in text or "boom" not in fault), (path, status, data)
        t.wait_ready()
    assert len(ask(t, V1, {"model": "m:1b", "input": "y"})["data"]) == 1


@pytest.mark.parametrize("kind", BACKS)
def test_the_device_that_has_the_model(fake, tandem, kind):
    """A main device that cannot make embeddings is not asked for the other one's model."""
    a = fake("main", type="llama-server")
    b = fake("small", type=kind, model=("e:0.1b",), options=("--embeddings",))
    t = tandem([attached(a), {**attached(b, "gpu1", ("condense",)), "model": "e:0.1b"}])
    for path, said in ((V1, "input"), (EMBED, "input"), (OLDER, "prompt")):
        status, headers, data = t.request("POST", path, {"model": "e:0.1b", said: "x"})
        assert status == 200 and "gpu1" in headers["X-Tandem-Reason"], (headers, data)
    e = ask(t, V1, {"model": "m:1b", "input": "x"}, 501)["error"]
    assert e["type"] == "not_supported_error" and "--embeddings" in e["message"]


@pytest.mark.parametrize("kind", BACKS)
def test_the_official_package(embedder, kind):
    """It asks for base64 by itself and unpacks it."""
    t, f = embedder(kind)
    client = openai.OpenAI(base_url=t.url + "/v1", api_key="unused", max_retries=0)
    got = client.embeddings.create(model="m:1b", input=TEXTS)
    assert all(close(d.embedding, v) for d, v in zip(got.data, ask(t, EMBED, {"model": "m:1b", "input": TEXTS})["embeddings"]))
    assert len(client.embeddings.create(model="m:1b", input="x", dimensions=4).data[0].embedding) == 4
    if kind == "ollama":
        with pytest.raises(openai.BadRequestError, match="token ids"):
            client.embeddings.create(model="m:1b", input=[1, 2])


def test_a_client_that_leaves(embedder):
    from wire import Wire
    t, f = embedder("ollama")
    f.fault(times=1, fault="hang", match="leave")
    with Wire(t) as w:
        w.send("POST", V1, {"model": "m:1b", "input": "leave"})
        wait_for(lambda: t.device("gpu0")["inflight"] == 1, "the request at the backend")
    wait_for(lambda: t.device("gpu0")["inflight"] == 0, "the slot to be free again")
    assert len(ask(t, V1, {"model": "m:1b", "input": "y"})["data"]) == 1
