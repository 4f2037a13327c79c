"""Aliases of models: names that clients ask for and no backend has, in every dialect, before every kind of backend."""

import json
import os
import re
import signal
import subprocess

import pytest

from harness import BIN, free_port, wait_for
from test_messages import VERSION, blocks
from test_responses import whole
from test_reload import write
from wire import Wire

KINDS = ["ollama", "llama-server"]
BIG, SMALL = "m:1b", "s:0.5b"
MODELS = [{"match": "claude-*haiku*", "use": "gpu1"}, {"match": "claude-*", "use": "gpu0"}, {"match": "tiny", "use": SMALL},
          {"match": "ghost", "use": "nobody:1b"}, {"match": BIG.upper(), "use": "gpu1"}]
HAIKU, OPUS = "claude-3-5-haiku-20241022", "Claude-Opus-4-1"


def two(tandem, fake, kind="ollama", options=(), wait=True, models=MODELS, **groups):
    """A tandem with two devices of that kind, and their backends."""
    a, b = fake("a", type=kind, options=options), fake("b", type=kind, model=(SMALL,), options=options)
    return tandem(devices(a, b), wait=wait, **({"models": models} if models else {}), **groups), a, b


def devices(a, b):
    return [{"name": "gpu0", "roles": ["main"], "slots": 2, "num_ctx": 8192, "model": BIG, "backend": {"type": a.type, "url": a.url}},
            {"name": "gpu1", "roles": ["condense"], "slots": 2, "num_ctx": 8192, "model": SMALL, "backend": {"type": b.type, "url": b.url}}]


MESSAGES = [{"role": "user", "content": "hi [[fake tokens=5]]"}]
DIALECTS = {
    "/api/chat": {"messages": MESSAGES},
    "/api/generate": {"prompt": "hi [[fake tokens=5]]"},
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "hi [[fake tokens=5]]"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 64},
    "/v1/responses": {"input": MESSAGES},
}


def objects(data):
    """The JSON objects of an answer, streamed or not, each a list of its members."""
    out = []
    for line in data.decode().splitlines():
        line = line.removeprefix("data: ")
        if line.startswith("{"):
            out.append(json.loads(line, object_pairs_hook=list))
    return out


def shape(o):
    """The names of an object's members, in their order, at each depth."""
    if isinstance(o, list) and o and isinstance(o[0], tuple):
        return [(k, shape(v)) for k, v in o]
    return [shape(v) for v in o] if isinstance(o, list) else None


def names(o):
    """What the answer calls its model."""
    found = dict(o)
    return [v for v in (found.get("model"), dict(found.get("message") or {}).get("model")) if v]


def last_model(f):
    return json.loads(f.bodies()[-1])["model"]


@pytest.mark.parametrize("kind", [*KINDS, "openai"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", DIALECTS)
def test_answers_have_the_name_that_was_asked_for(tandem, fake, kind, stream, path):
    t, a, b = two(tandem, fake, kind)
    for asked, real, device, backend in ((HAIKU, SMALL, "gpu1", b), (OPUS, BIG, "gpu0", a), ("tiny:latest", SMALL, "gpu1", b)):
        body = {**DIALECTS[path], "stream": stream}
        status, head, data = t.request("POST", path, {"model": asked, **body})
        assert status == 200 and (head["X-Tandem-Device"], head["X-Tandem-Model"]) == (device, real), data
        assert last_model(backend) == real
        mine = objects(data)
        assert mine and real.encode() not in data
        if path == "/v1/messages" and stream:
            assert blocks(data)["model"] == asked
        elif path == "/v1/responses" and stream:
            assert whole(data)["model"] == asked
        else:
            assert all(names(o) == [asked] for o in mine), data
        status, head, data = t.request("POST", path, {"model": real, **body})
        assert status == 200 and "X-Tandem-Model" not in head and asked.encode() not in data
        assert [shape(o) for o in objects(data)] == [shape(o) for o in mine]  # nothing else is another


def test_a_model_of_that_name_comes_first(tandem, fake):
    t, a, b = two(tandem, fake, models=[{"match": "*", "use": "gpu1"}])
    for name in (BIG, BIG.upper()):
        status, head, data = t.chat("hi", model=name)
        assert status == 200 and head["X-Tandem-Device"] == "gpu0" and json.loads(data)["model"] == name
    status, head, data = t.chat("hi", model="any")
    assert status == 200 and head["X-Tandem-Device"] == "gpu1" and json.loads(data)["model"] == "any"
    assert t.request("POST", "/v1/chat/completions", {"messages": MESSAGES})[1]["X-Tandem-Device"] == "gpu0"  # no name is no alias


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_alias_uses_may_not_be_there(tandem, fake, kind):
    t, a, b = two(tandem, fake, kind)
    status, head, data = t.chat("hi", model="ghost")
    assert status == 404 and b"nobody:1b" in data and b"not found" in data, data


@pytest.mark.parametrize("kind", KINDS)
def test_lists_have_aliases_that_are_names(tandem, fake, kind):
    t, a, b = two(tandem, fake, kind)
    tags = json.loads(t.request("GET", "/api/tags")[2])["models"]
    assert [m["name"] for m in tags] == [BIG, SMALL, "tiny"] and tags[2]["model"] == "tiny"
    assert {k: v for k, v in tags[2].items() if k not in ("name", "model")} == {k: v for k, v in tags[1].items() if k not in ("name", "model")}
    openai = json.loads(t.request("GET", "/v1/models")[2])["data"]
    assert [m["id"] for m in openai] == [BIG, SMALL, "tiny"] and {**openai[2], "id": SMALL} == openai[1]
    page = json.loads(t.request("GET", "/v1/models", headers=VERSION)[2])
    assert [m["id"] for m in page["data"]] == [BIG, SMALL, "tiny"] and page["last_id"] == page["data"][2]["display_name"] == "tiny"
    for name in ("tiny", HAIKU):
        status, _, data = t.request("GET", "/v1/models/" + name)
        assert status == 200 and {**json.loads(data), "id": SMALL} == openai[1] and json.loads(data)["id"] == name
        one = json.loads(t.request("GET", "/v1/models/" + name, headers=VERSION)[2])
        assert (one["id"], one["display_name"], one.get("max_input_tokens")) == (name, name, page["data"][1].get("max_input_tokens"))
    shown = json.loads(t.request("POST", "/api/show", {"model": HAIKU})[2])
    assert shown == json.loads(t.request("POST", "/api/show", {"model": SMALL})[2]) and "details" in shown
    assert t.request("GET", "/v1/models/ghost")[0] == 404


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_and_counts(tandem, fake, kind):
    t, a, b = two(tandem, fake, kind, options=["--embeddings"])
    for path, body in (("/api/embed", {"input": ["a", "b"]}), ("/v1/embeddings", {"input": ["a", "b"]}), ("/api/embeddings", {"prompt": "a"})):
        status, head, data = t.request("POST", path, {**body, "model": HAIKU})
        plain = json.loads(t.request("POST", path, {**body, "model": SMALL})[2])
        whole = json.loads(data)
        assert status == 200 and whole.keys() == plain.keys(), data
        assert whole.get("model", HAIKU) == HAIKU and plain.get("model", SMALL) == SMALL
        assert [whole.get(k) for k in ("embeddings", "embedding", "data")] == [plain.get(k) for k in ("embeddings", "embedding", "data")]
    assert last_model(b) == SMALL and not any(b'"a"' in body for body in a.bodies())
    big = {"input": ["w" * 1000] * 200, "model": HAIKU}  # an answer in many pieces
    assert json.loads(t.request("POST", "/v1/embeddings", big)[2])["model"] == HAIKU


def test_counts_are_the_real_models(tandem, fake):
    count = {"messages": [{"role": "user", "content": "many words " * 400}]}

    def counted(t, model):
        return json.loads(t.request("POST", "/v1/messages/count_tokens", {**count, "model": model}, VERSION)[2])["input_tokens"]

    t, a, b = two(tandem, fake)
    before = counted(t, HAIKU)
    assert t.request("POST", "/v1/messages", {**count, "model": HAIKU, "max_tokens": 5})[0] == 200
    assert counted(t, HAIKU) == counted(t, SMALL) != before == counted(t, OPUS) == counted(t, BIG)  # what was taught stays with its model
    exact, _, c = two(tandem, fake, "llama-server", run_dir=t.run_dir + "2")
    assert exact.request("POST", "/v1/messages/count_tokens", {**count, "model": HAIKU}, VERSION)[0] == 404  # the scripted one has no such path
    assert last_model(c) == SMALL


@pytest.mark.parametrize("stream", [False, True])
def test_llama_servers_own_paths(tandem, fake, stream):
    t, a, b = two(tandem, fake, "llama-server")
    for path, body in (("/completion", {"prompt": "hi"}), ("/infill", {"input_prefix": "a", "input_suffix": "b"})):
        status, head, data = t.request("POST", path, {**body, "n_predict": 4, "stream": stream, "model": HAIKU})
        assert status == 200 and last_model(b) == SMALL, data
        assert all(dict(o).get("model", HAIKU) == HAIKU for o in objects(data))
    assert json.loads(t.request("POST", "/tokenize", {"content": "a b", "model": HAIKU})[2])["tokens"]
    assert last_model(b) == SMALL


def test_orders_mean_what_they_say(tandem, fake):
    t, a, b = two(tandem, fake)
    assert t.request("DELETE", "/api/delete", {"model": "tiny"})[0] == 404
    assert t.request("POST", "/api/copy", {"source": HAIKU, "destination": "x"})[0] == 404
    assert [m["name"] for m in json.loads(t.request("GET", "/api/tags")[2])["models"]] == [BIG, SMALL, "tiny"]


def test_they_are_reloaded(tandem, fake):
    t, a, b = two(tandem, fake, models=[])
    assert t.chat("hi", model=HAIKU)[0] == 404
    write(t, devices(a, b), models=MODELS)
    assert t.operate("reload")["state"] == "done"
    assert t.chat("hi", model=HAIKU)[1]["X-Tandem-Device"] == "gpu1"
    pids = [d["pid"] for d in t.status()["devices"]]
    write(t, devices(a, b), models=[{"match": "claude-*", "use": "gpu0"}])
    assert t.operate("reload")["state"] == "done" and [d["pid"] for d in t.status()["devices"]] == pids
    assert t.chat("hi", model=HAIKU)[1]["X-Tandem-Device"] == "gpu0"
    assert "tiny" not in t.request("GET", "/api/tags")[2].decode()
    write(t, devices(a, b), models=[{"match": "claude-*", "use": "gpu0"}, {"match": "claude-haiku", "use": "gpu1"}])
    o = t.operate("reload")
    assert o["state"] == "failed" and "models[1].match: \"claude-haiku\" is never reached" in o["why"], o
    assert t.chat("hi", model=HAIKU)[1]["X-Tandem-Device"] == "gpu0"


def test_a_device_that_has_told_no_model_yet(tandem, fake):
    a = fake("a")
    away = {"name": "gpu1", "roles": ["condense"], "backend": {"type": "ollama", "url": f"http://127.0.0.1:{free_port()}"}}
    main = {"name": "gpu0", "roles": ["main"], "model": BIG, "backend": {"type": "ollama", "url": a.url}}
    t = tandem([main, away], models=MODELS, wait=False)
    t.wait_ready("gpu0")
    for path, body in (("/api/chat", {"messages": MESSAGES}), ("/v1/messages", DIALECTS["/v1/messages"]), ("/v1/embeddings", {"input": "a"})):
        status, head, data = t.request("POST", path, {**body, "model": HAIKU})
        assert status == (529 if path == "/v1/messages" else 503) and head["Retry-After"] and b"device gpu1" in data, data
    assert t.chat("hi", model=OPUS)[0] == 200
    t.wait_idle()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_goes_on_under_its_name(tandem, fake, kind, path):
    t, a, b = two(tandem, fake, kind, options=("--no-replay",))
    a.fault(times=1, hang_after=20)  # no answer ends before its worker does
    body = {**DIALECTS[path], "model": OPUS, "stream": True, "max_tokens": 200,
            "messages": [{"role": "user", "content": "hi [[fake tokens=150]]"}]}
    with Wire(t) as w:
        w.send("POST", path, body).head()
        data = b""
        while b"w9" not in data:
            data += w.piece()
        os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
        data += w.rest()
    assert t.requests()["resumed"] == 1 and b"w149" in data
    if path == "/v1/messages":
        assert blocks(data)["model"] == OPUS
    else:
        assert {name for o in objects(data) for name in names(o)} == {OPUS} and BIG.encode() not in data


def test_a_retry_joins(tandem, fake):
    t, a, b = two(tandem, fake, limits={"coalesce_after_ms": 0})
    b.fault(times=4, fault="hang", match="block")
    for n, path in enumerate(("/api/chat", "/v1/messages")):
        with Wire(t) as x, Wire(t) as y, Wire(t) as one, Wire(t) as again:
            for w, text in ((x, f"block {n}"), (y, f"block it {n}")):
                w.send("POST", "/api/chat", {"model": SMALL, "messages": [{"role": "user", "content": text}]})
            wait_for(lambda: t.device("gpu1")["inflight"] == 2, "both slots to be taken")
            body = {**DIALECTS[path], "model": HAIKU}
            one.send("POST", path, body)
            wait_for(lambda: t.device("gpu1")["waiting"] == 1, "one that waits")
            again.send("POST", path, body)
            wait_for(lambda n=n: t.requests()["coalesced"] == n + 1, "the second one to join")
            x.close()
            y.close()
            answers = [(w.head().status, w.headers["x-tandem-model"], w.rest()) for w in (one, again)]
            assert answers[0] == answers[1] and answers[0][:2] == (200, SMALL) and HAIKU.encode() in answers[0][2], answers


def test_large_bodies(tandem, fake):
    t, a, b = two(tandem, fake)
    text = "word " * 60000
    status, head, data = t.request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": text}, *MESSAGES], "model": OPUS},
                                   {"X-Tandem-Explain": "1"})
    assert status == 200 and json.loads(data)["device"] == "gpu0", data
    body = json.dumps({"messages": MESSAGES, "model": "claude-x", "pad": "x" * 200000})
    exact = tandem(devices(a, b), models=[{"match": "claude-x", "use": "gpu0"}], limits={"body_bytes": len(body)}, run_dir=t.run_dir + "2")
    status, head, data = exact.request("POST", "/v1/chat/completions", body.encode(), {"Content-Type": "application/json"})
    assert status == 200 and json.loads(data)["model"] == "claude-x"


def test_all_goes_by_the_real_name(tandem, fake):
    """What is known of a conversation is the same by either name: the cache's prefix, learned estimates."""
    t, a, b = two(tandem, fake, "llama-server", routing={"mode": "adaptive", "warm": False}, condense={"idle_notes": False})
    talk = [{"role": "user", "content": " ".join(f"line{i}" for i in range(3000))}]
    body = {"messages": talk, "max_tokens": 4}
    assert t.request("POST", "/v1/chat/completions", {**body, "model": BIG})[0] == 200
    seen = [json.loads(t.request("POST", "/v1/chat/completions", {**body, "model": m}, {"X-Tandem-Explain": "1"})[2]) for m in (BIG, OPUS)]
    assert seen[0] == seen[1]
    assert {e["model"] for e in t.events(ev="plan")} == {BIG} and t.events(ev="alias")[-1]["asked"] == OPUS


def test_loads_and_unloads(tandem, fake):
    t, a, b = two(tandem, fake)
    for more in ({}, {"keep_alive": 0}):
        data = t.request("POST", "/api/generate", {"model": HAIKU, **more})[2]
        assert json.loads(data)["model"] == HAIKU and last_model(b) == SMALL


def test_tandemctl_tells(tandem, fake):
    t, a, b = two(tandem, fake)
    told = json.loads(subprocess.run([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "backends", "--json"], capture_output=True, check=True).stdout)
    assert told["aliases"] == [{"match": m["match"], "use": m["use"], "device": d, "model": r} for m, d, r in zip(
        MODELS, ["gpu1", "gpu0", "gpu1", None, "gpu1"], [SMALL, BIG, SMALL, "nobody:1b", SMALL], strict=True)]
    text = subprocess.run([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "backends"], capture_output=True, check=True, text=True).stdout
    assert re.search(rf"^ALIAS +USES +DEVICE +MODEL\nclaude-\*haiku\* +gpu1 +gpu1 +{SMALL}$", text, re.M), text
    assert re.search(r"^ghost +nobody:1b +- +nobody:1b$", text, re.M), text
