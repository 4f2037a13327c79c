"""The small lane: what is small goes to a small device under the client's own name, and back to the main one where that cannot have it."""

import json
import os
import signal
import subprocess
import threading

import pytest

from harness import BIN, Client, in_thread, ndjson, sse, wait_for
from test_aliases import names, objects
from test_messages import VERSION, blocks
from test_reload import write
from test_responses import whole

BIG, SMALL = "m:1b", "s:0.5b"
KINDS = ["ollama", "llama-server"]
HISTORY = "### Chat History:\n<chat_history>\nUSER: why is it slow?\nASSISTANT: it reads too much\n</chat_history>"
TITLE = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n" + HISTORY
TAGS = "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history, along with 1-3 more specific subtopic tags.\n" + HISTORY
FOLLOW_UPS = "### Task:\nSuggest 3-5 relevant follow-up questions or prompts that the user might naturally ask next.\n" + HISTORY
COMPLETE = "### Task:\nYou are an autocompletion system. Continue the text in `<text>` based on the **completion type** in `<type>`.\n<text>I th</text>"
DOCUMENTS = "### Task:\nRespond to the user query using the provided context, incorporating inline citations in the format [id].\n" \
    "<context><source id=\"1\">Generate a title, tags and follow-up questions.</source></context>\nwhat is it about?"
SEARCH = "### Task:\nAnalyze the chat history to determine the necessity of generating search queries, in the given language.\n" + HISTORY


def devices(a, b, roles=("condense",), slots=1, window=8192):
    return [{"name": "gpu0", "roles": ["main"], "slots": 1, "num_ctx": 16384, "model": BIG, "backend": {"type": a.type, "url": a.url}},
            {"name": "gpu1", "roles": list(roles), "slots": slots, "num_ctx": window, "model": SMALL, "backend": {"type": b.type, "url": b.url}}]


def two(tandem, fake, kind="ollama", roles=("condense",), slots=1, window=8192, options=(), small_options=(), **groups):
    a = fake("a", type=kind, options=["--num-ctx", "16384", *options])
    b = fake("b", type=kind, model=(SMALL,), options=["--num-ctx", str(window), "--slots", str(slots), *small_options])
    groups = {"routing": {"mode": "adaptive"}, **groups}
    return tandem(devices(a, b, roles, slots, window), **groups), a, b


def says(text):
    return [{"role": "user", "content": text}]


def parts(text):
    return [{"role": "user", "content": [{"type": "text", "text": text}]}]


PATHS = {
    "/api/chat": lambda text: {"messages": says(text)},
    "/api/generate": lambda text: {"prompt": text},
    "/v1/chat/completions": lambda text: {"messages": parts(text)},
    "/v1/messages": lambda text: {"messages": parts(text), "max_tokens": 64},
    "/v1/responses": lambda text: {"input": text},
}


def ask(t, path, text, model=BIG, stream=False, headers=None, **more):
    return t.request("POST", path, {"model": model, "stream": stream, **PATHS[path](text), **more}, headers)


def got(f):
    """What was asked of a backend, its worker's own looks left out."""
    return [json.loads(body) for body in f.bodies() if body and (b'"messages"' in body or b'"prompt"' in body)]


def where(head):
    return head["X-Tandem-Strategy"], head["X-Tandem-Device"], head.get("X-Tandem-Model")


SMALL_WAY = ("small", "gpu1", SMALL)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_side_tasks_go_to_the_small_device(tandem, fake, kind, stream, path):
    """In each dialect: Open WebUI's titles, tags, follow-ups and completions, not its questions about documents nor its searches. The
    answer has the client's name of the model, and all else of it is as the main device's."""
    t, a, b = two(tandem, fake, kind)
    for text, what in ((TITLE, "title"), (TAGS, "tags"), (FOLLOW_UPS, "follow-ups"), (COMPLETE, "autocomplete")):
        status, head, data = ask(t, path, text, stream=stream)
        assert status == 200 and where(head) == SMALL_WAY and head["X-Tandem-Reason"] == f"small: {what}", (head.items(), data)
        assert SMALL.encode() not in data
        if path == "/v1/messages" and stream:
            assert blocks(data)["model"] == BIG
        elif path == "/v1/responses" and stream:
            assert whole(data)["model"] == BIG
        else:
            assert all(names(o) == [BIG] for o in objects(data)), data
        assert got(b)[-1]["model"] == SMALL
    seen = len(got(b))
    for text in (DOCUMENTS, SEARCH, "hi", "Generate a concise title.", "### Task:"):
        status, head, data = ask(t, path, text, stream=stream)
        assert status == 200 and where(head) == ("A", "gpu0", None) and "small" not in head["X-Tandem-Reason"], head.items()
    assert len(got(b)) == seen
    assert t.requests()["by_strategy"] == {"A": 5, "B": 0, "C": 0, "small": 4}


def test_questions_about_documents_are_not_idle(tandem, fake):
    t, a, b = two(tandem, fake)
    for path in PATHS:
        for text, urgency in ((DOCUMENTS, "interactive"), (TITLE, "idle"), (COMPLETE, "interactive")):
            rid = ask(t, path, text)[1]["X-Tandem-Request-Id"]
            assert t.events(rid, "plan")[0]["class"] == urgency, (path, text)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_with_a_suffix_are_autocomplete(tandem, fake, kind):
    t, a, b = two(tandem, fake, kind, roles=["small"])
    for path in ("/api/generate", "/v1/completions"):
        body = {"model": BIG, "prompt": "def f(", "suffix": "return 1", "stream": False, "max_tokens": 8}
        status, head, data = t.request("POST", path, body)
        assert status == 200 and where(head) == SMALL_WAY and json.loads(data)["model"] == BIG, (head.items(), data)
        status, head, data = t.request("POST", path, {**body, "suffix": ""})
        assert status == 200 and head["X-Tandem-Device"] == "gpu0", (head.items(), data)


def test_a_model_that_takes_no_suffix_leaves_it_to_the_main_one(tandem, fake):
    t, a, b = two(tandem, fake, small_options=["--no-insert"])
    for path in ("/api/generate", "/v1/completions"):
        status, head, data = t.request("POST", path, {"model": BIG, "prompt": "def f(", "suffix": "return 1", "stream": False})
        assert status == 200 and where(head) == ("A", "gpu0", None) and json.loads(data)["model"] == BIG, (head.items(), data)
        assert "small: autocomplete; fallback: gpu1: " in head["X-Tandem-Reason"]
    assert [body["model"] for body in got(a)] == [BIG, BIG]
    assert t.requests()["failed"] == t.requests()["refused"] == 0 and t.requests()["fallbacks"] == 2
    assert t.requests()["by_strategy"] == {"A": 2, "B": 0, "C": 0, "small": 0}  # counted by the way that answered


FAULTS = [{"fault": "500"}, {"fault": "404"}, {"fault": "refuse"}, {"fault": "garbage"}, {"fault": "badhttp"}, {"cut": 0}, {"fault": "empty"}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS[:6], ids=lambda f: "-".join(map(str, f.values())))
def test_what_fails_before_its_first_byte_goes_to_the_main_device(tandem, fake, fault, stream):
    t, a, b = two(tandem, fake)
    b.fault(match="### Task", times=-1, **fault)
    status, head, data = ask(t, "/api/chat", TITLE + "[[fake tokens=3]]", stream=stream)
    assert status == 200, data
    lines = ndjson(data)
    assert "".join(m["message"]["content"] for m in lines) == "w0 w1 w2" and all(m["model"] == BIG for m in lines)
    assert got(a)[-1]["model"] == BIG and got(a)[-1]["messages"] == says(TITLE + "[[fake tokens=3]]")
    t.wait_idle()


@pytest.mark.parametrize("path", PATHS)
def test_it_is_the_clients_own_request_that_goes_back(tandem, fake, path):
    """Byte for byte what the main device gets without a small one."""
    t, a, b = two(tandem, fake)
    b.fault(fault="500", times=-1)
    assert ask(t, path, TITLE, keep="me")[0] == 200
    with_lane = a.bodies()[-1]
    status, head, data = ask(t, path, TITLE, keep="me", headers={"X-Tandem-Class": "idle"})
    assert status == 200 and with_lane == a.bodies()[-1]
    write(t, devices(a, b), routing={"mode": "adaptive"}, small={"rules": []})
    assert t.operate("reload")["state"] == "done"
    status, head, data = ask(t, path, TITLE, keep="me")
    assert status == 200 and where(head) == ("A", "gpu0", None) and a.bodies()[-1] == with_lane


def test_an_answer_that_has_begun_goes_on_at_the_small_device(tandem, fake):
    t, a, b = two(tandem, fake, slots=2)
    b.fault(match="### Task", cut=3)
    status, head, data = ask(t, "/api/chat", TITLE + "[[fake tokens=6]]", stream=True)
    assert status == 200 and "".join(m["message"]["content"] for m in ndjson(data)) == "w0 w1 w2 w3 w4 w5", data
    assert where(head) == SMALL_WAY and not got(a)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_came_back_is_gone_on_with_like_any_other(tandem, fake, kind):
    """What the small device had begun, and nobody saw, is no part of it."""
    t, a, b = two(tandem, fake, kind)
    b.fault(match="### Task", thinking=3, error_after=0)
    a.fault(match="### Task", cut=3)
    status, head, data = ask(t, "/v1/chat/completions", TITLE + "[[fake tokens=6]]", stream=True)
    chunks = [json.loads(e) for e in sse(data) if e != "[DONE]"]
    assert status == 200 and "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) == "w0 w1 w2 w3 w4 w5", data
    assert len({c["id"] for c in chunks}) == 1 and {c["model"] for c in chunks} == {BIG} and t.requests()["resumed"] == 1


def test_what_does_not_fit_stays_with_the_main_device(tandem, fake):
    t, a, b = two(tandem, fake, window=2048)
    long = TITLE + "word and other words " * 1200
    status, head, data = ask(t, "/api/chat", long)
    assert status == 200 and head["X-Tandem-Device"] == "gpu0" and "small: title, but the small device has no window for it" in head["X-Tandem-Reason"]
    assert not got(b)
    status, head, data = ask(t, "/api/chat", TITLE, options={"num_predict": 900})
    assert status == 200 and where(head) == SMALL_WAY


def test_what_the_backend_finds_too_long_goes_back(tandem, fake):
    """Its window is smaller than it is said to be: it answers 400, and the main device 200."""
    a = fake("a", type="llama-server", options=["--num-ctx", "16384"])
    b = fake("b", type="llama-server", model=(SMALL,), options=["--num-ctx", "4096"])
    t = tandem(devices(a, b), routing={"mode": "adaptive"})
    b.fault(match="### Task", fault="400", error="request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it")
    status, head, data = ask(t, "/v1/chat/completions", TITLE)
    assert status == 200 and head["X-Tandem-Device"] == "gpu0", data


@pytest.mark.parametrize("needs", [{"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
                                   {"messages": [{"role": "user", "content": TITLE, "images": ["aGk="]}]}], ids=["tools", "images"])
def test_tools_and_images_are_not_small(tandem, fake, needs):
    t, a, b = two(tandem, fake)
    status, head, data = t.request("POST", "/api/chat", {"model": BIG, "messages": says(TITLE), "stream": False, **needs})
    assert status == 200 and head["X-Tandem-Device"] == "gpu0" and not got(b)


def test_a_device_that_is_away_or_loads_is_passed_by(tandem, fake):
    t, a, b = two(tandem, fake, roles=["small"])
    b.stop()
    wait_for(lambda: t.device("gpu1")["state"] != "ready", "the small device to be away")
    status, head, data = ask(t, "/api/chat", TITLE)
    assert status == 200 and head["X-Tandem-Device"] == "gpu0" and "but the small device is not ready" in head["X-Tandem-Reason"]


def busy(t, b, n=1):
    """The small device's slots are taken by questions for its own model, until they are let go."""
    held = [Client(t) for _ in range(n)]
    for c in held:
        c.send("POST", "/api/chat", {"model": SMALL, "messages": says("[[fake tokens=100000]] hold"), "stream": True})
        assert c.head() == 200
    wait_for(lambda: t.device("gpu1")["inflight"] == n, "a busy small device")
    return held


@pytest.mark.parametrize("text,key", [(TITLE, "idle_wait_ms"), (COMPLETE, "wait_ms")], ids=["idle", "waited for"])
def test_a_busy_device_is_waited_for_so_long(tandem, fake, text, key):
    """Each class has its own patience; here that of the other one is for ever."""
    other = {"idle_wait_ms": "wait_ms", "wait_ms": "idle_wait_ms"}[key]
    t, a, b = two(tandem, fake, small_options=["--decode", "50"], small={key: 300, other: 600000})
    held = busy(t, b)
    status, head, data = ask(t, "/api/chat", text)
    assert status == 200 and head["X-Tandem-Device"] == "gpu0" and "fallback: gpu1: is busy; the main device" in head["X-Tandem-Reason"]
    assert json.loads(data)["model"] == BIG
    patient = in_thread(lambda: ask(t, "/api/chat", COMPLETE if text == TITLE else TITLE))
    wait_for(lambda: t.device("gpu1")["waiting"] == 1, "the patient one to wait")
    for c in held:
        c.close(reset=True)
    status, head, data = patient.join()
    assert status == 200 and where(head) == SMALL_WAY
    t.wait_idle()


def test_a_device_that_goes_while_it_is_waited_for(tandem, fake):
    t, a, b = two(tandem, fake, small_options=["--decode", "50"])
    held = busy(t, b)
    waiting = in_thread(lambda: ask(t, "/api/chat", TITLE))
    wait_for(lambda: t.device("gpu1")["waiting"] == 1, "the title to wait")
    t.command("drain gpu1")
    status, head, data = waiting.join()
    assert status == 200 and head["X-Tandem-Device"] == "gpu0", head.items()
    for c in held:
        c.close(reset=True)


@pytest.mark.parametrize("kind,options", [("ollama", ()), ("llama-server", ()), ("llama-server", ("--early-headers", "--prefill", "1"))])
def test_a_device_that_never_answers_is_left(tandem, fake, kind, options):
    """Whether its head has come or not; with that of a stream its first event is out, and it goes on there."""
    t, a, b = two(tandem, fake, kind, small_options=options, small={"answer_ms": 300})
    if not options:
        b.fault(match="### Task", times=-1, fault="hang")
    for stream in (False,) if options else (False, True):
        status, head, data = ask(t, "/v1/chat/completions", TITLE + "[[fake tokens=3]]", stream=stream)
        assert status == 200 and b"w2" in data, data
        assert t.events(head["X-Tandem-Request-Id"], "fallback")[0]["cause"] == "gpu1: does not answer"
        assert t.events(head["X-Tandem-Request-Id"], "request_done")[0]["device"] == "gpu0"
    t.wait_idle()


def test_a_slow_answer_is_waited_for(tandem, fake):
    """What comes word by word is an answer, however long it takes."""
    t, a, b = two(tandem, fake, small_options=["--decode", "20"], small={"answer_ms": 300})
    status, head, data = ask(t, "/api/chat", TITLE + "[[fake tokens=20]]", stream=True)
    assert status == 200 and where(head) == SMALL_WAY and len(ndjson(data)) > 10 and not got(a)


def test_a_worker_that_dies_of_it_is_counted(tandem, fake):
    """Once at the small device and once at the main one is twice: the third try is refused, as it is without a lane."""
    t, a, b = two(tandem, fake)
    for f in (a, b):
        f.fault(match="### Task", fault="hang", times=-1)
    body = {"model": BIG, "messages": says(TITLE), "stream": False}
    c = Client(t).send("POST", "/api/chat", body)
    wait_for(lambda: t.device("gpu1")["inflight"] == 1 and b.stats()["rules"] and got(b), "the title at the small one")
    os.kill(t.device("gpu1")["pid"], signal.SIGKILL)
    wait_for(lambda: t.device("gpu0")["inflight"] == 1 and got(a), "the title at the main one")
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    assert c.head() == 422
    c.close()
    t.wait_ready()
    before = [d["generation"] for d in t.status()["devices"]]
    assert t.request("POST", "/api/chat", body)[0] == 422  # and from then on nobody is asked
    assert [d["generation"] for d in t.status()["devices"]] == before


def test_a_rule_says_what_is_small_and_who_answers(tandem, fake):
    rules = [{"text": "Generate tags*", "use": "main"}, {"kind": "tags", "use": "main"}, {"text": "Name this chat", "use": "gpu1"}, {"model": "*-fast"},
             {"path": "/v1/completions"}, {"kind": "title"}]
    t, a, b = two(tandem, fake, small={"rules": rules})
    for text, way in ((TITLE, "small"), (TAGS, "A"), (FOLLOW_UPS, "A"), ("Name this chat: hello", "small"), ("name THIS chat", "small"),
                      ("please name this chat", "A")):
        assert where(ask(t, "/api/chat", text)[1])[0] == way, text
    status, head, data = t.request("POST", "/v1/completions", {"model": BIG, "prompt": "one two"})
    assert status == 200 and where(head) == SMALL_WAY and json.loads(data)["model"] == BIG
    assert where(t.request("POST", "/v1/completions?x=1", {"model": BIG, "prompt": "one two"})[1]) == SMALL_WAY
    write(t, devices(a, b), routing={"mode": "adaptive"}, small={"rules": [{"text": "Name*", "use": "main"}, {"kind": "follow-ups"}]})
    assert t.operate("reload")["state"] == "done"
    for text, way in ((TITLE, "A"), (FOLLOW_UPS, "small"), ("Name this chat", "A")):
        assert where(ask(t, "/api/chat", text)[1])[0] == way, text
    write(t, devices(a, b), small={"rules": [{"text": "Name*", "use": "gpu2"}]})
    assert t.operate("reload")["state"] == "failed" and "did you mean 'gpu1'?" in t.log() or "did you mean 'gpu0'?" in t.log()


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_a_rule_alone_knows(tandem, fake, kind):
    """A rule by model makes an alias of it, with tools or without; back at the main device its own model answers to the name."""
    t, a, b = two(tandem, fake, kind, small={"rules": [{"model": "*-fast"}]})
    for tools in ({}, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}):
        status, head, data = ask(t, "/api/chat", "hi", model="any-fast", **tools)
        assert status == 200 and where(head) == SMALL_WAY and json.loads(data)["model"] == "any-fast", (head.items(), data)
        b.fault(fault="500")
        status, head, data = ask(t, "/api/chat", "hi", model="any-fast", **tools)
        assert status == 200 and (head["X-Tandem-Device"], head["X-Tandem-Model"]) == ("gpu0", BIG), head.items()
        assert json.loads(data)["model"] == "any-fast" and got(a)[-1]["model"] == BIG
    assert ask(t, "/api/chat", TITLE, model="nobody")[0] == 404
    b.stop()
    wait_for(lambda: t.device("gpu1")["state"] != "ready", "the small device to be away")
    status, head, data = ask(t, "/api/chat", "hi", model="any-fast")
    assert status == 200 and json.loads(data)["model"] == "any-fast" and got(a)[-1]["model"] == BIG


def test_an_alias_of_a_small_device_has_the_main_one_behind_it(tandem, fake):
    models = [{"match": "claude-*haiku*", "use": "gpu1"}, {"match": "claude-*", "use": "gpu0"}]
    haiku = "claude-haiku-4-5"
    t, a, b = two(tandem, fake, roles=["condense", "small"], window=2048, models=models)
    status, head, data = ask(t, "/v1/messages", "hi", model=haiku)
    assert status == 200 and where(head) == SMALL_WAY and json.loads(data)["model"] == haiku
    status, head, data = ask(t, "/v1/messages", "hi " * 5000, model=haiku)
    assert status == 200 and (head["X-Tandem-Device"], head["X-Tandem-Model"]) == ("gpu0", BIG) and json.loads(data)["model"] == haiku
    assert "small: alias, but the small device has no window for it" in head["X-Tandem-Reason"]
    b.fault(fault="500")
    status, head, data = ask(t, "/v1/messages", "hi", model=haiku)
    assert status == 200 and (head["X-Tandem-Device"], head["X-Tandem-Model"]) == ("gpu0", BIG) and json.loads(data)["model"] == haiku
    status, head, data = ask(t, "/v1/messages", TITLE, model="claude-opus")
    assert status == 200 and where(head) == SMALL_WAY and json.loads(data)["model"] == "claude-opus"
    b.fault(fault="500")
    status, head, data = ask(t, "/v1/messages", TITLE, model="claude-opus")
    assert status == 200 and (head["X-Tandem-Device"], head["X-Tandem-Model"]) == ("gpu0", BIG) and json.loads(data)["model"] == "claude-opus"


def test_a_condensing_device_that_writes_notes_for_a_request_is_not_idle(tandem, fake):
    """In the mode by sizes a client waits for its notes; the title goes to the main device."""
    t, a, b = two(tandem, fake, routing={"mode": "threshold"})
    b.fault(match="lines of text", fault="hang", times=-1)
    text = "\n".join(f"line {i}: the parser reads lines of text from file{i}.c" for i in range(400))
    c = Client(t).send("POST", "/api/chat", {"model": BIG, "messages": says(text + "\nwhat is it?"), "stream": False})
    wait_for(lambda: t.device("gpu1")["inflight"] == 1, "notes under way")
    status, head, data = ask(t, "/api/chat", TITLE)
    assert status == 200 and head["X-Tandem-Device"] == "gpu0", head.items()
    assert "but the small device writes notes for a request" in head["X-Tandem-Reason"]
    c.close(reset=True)
    t.wait_idle()
    assert where(ask(t, "/api/chat", TITLE)[1]) == SMALL_WAY
    write(t, devices(a, b), small={"condensers": False})
    assert t.operate("reload")["state"] == "done"
    status, head, data = ask(t, "/api/chat", TITLE)
    assert head["X-Tandem-Device"] == "gpu0" and "small" not in head["X-Tandem-Reason"]


def test_the_main_devices_conversation_is_left_alone(tandem, fake):
    """What its slot holds stays, the guardian sees one conversation, and nothing is read early for a title."""
    t, a, b = two(tandem, fake, kind="llama-server")
    messages = says("what does it do?")
    for turn in range(4):
        status, head, data = t.request("POST", "/v1/chat/completions", {"model": BIG, "messages": messages})
        assert status == 200 and head["X-Tandem-Device"] == "gpu0"
        if turn:
            assert head["X-Tandem-Prefix"] == "kept"
            assert json.loads(data)["timings"]["cache_n"] > 0
        messages += [json.loads(data)["choices"][0]["message"], {"role": "user", "content": f"and then, {turn}?"}]
        for text in (TITLE, TAGS, FOLLOW_UPS, COMPLETE):
            status, head, data = ask(t, "/v1/chat/completions", text)
            assert status == 200 and where(head) == SMALL_WAY and "X-Tandem-Prefix" not in head
    assert len(got(a)) == 4 and len(got(b)) == 16
    assert len(t.command("sessions")["sessions"]) == 1
    assert t.requests()["by_strategy"]["small"] == 16


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_explained_is_what_is_sent(tandem, fake, kind):
    """By the running one, and by tandemctl alone: the same words, and the very body that the small device gets."""
    t, a, b = two(tandem, fake, kind, small={"rules": [{"kind": "title"}, {"text": "Name*"}, {"path": "/v1/responses"}, {"kind": "tags", "use": "main"}]})
    cases = [("/api/chat", TITLE, "title"), ("/v1/chat/completions", "Name this", "by rule"), ("/v1/responses", "hi", "by rule")]
    for path, text, what in cases:
        body = json.dumps({"model": BIG, "stream": False, **PATHS[path](text)}).encode()
        status, head, data = t.request("POST", path, body, {"X-Tandem-Explain": "1"})
        out = json.loads(data)
        assert (out["outcome"], out["strategy"], out["device"], out["reason"]) == ("original", "small", "gpu1", f"small: {what}"), out
        assert out["decided_by"] == "rules" and where(head) == SMALL_WAY and not got(a)
        assert t.requests()["by_strategy"]["small"] == len(got(b))
        dialect = {"/api/chat": "ollama", "/v1/responses": "responses"}.get(path, "openai")
        assert json.loads(explained(t, body, "--dialect", dialect, "--json")) == out
        sent = explained(t, body, "--dialect", dialect, "--sent")
        assert t.request("POST", path, body)[0] == 200
        assert got(b)[-1] == json.loads(sent)
    for text in (TAGS, "hi", TITLE + "word and other words " * 3000):
        body = json.dumps({"model": BIG, "stream": False, "messages": says(text)}).encode()
        out = json.loads(t.request("POST", "/api/chat", body, {"X-Tandem-Explain": "1"})[2])
        ours = json.loads(explained(t, body, "--dialect", "ollama", "--json"))
        assert out["device"] == ours["device"] == "gpu0" and out["strategy"] == ours["strategy"] != "small"


def explained(t, body, *options):
    r = subprocess.run([os.path.join(BIN, "tandemctl"), "explain", "-c", t.conf, *options, "-"], input=body, capture_output=True, timeout=30)
    assert r.returncode == 0, r.stderr
    return r.stdout


VECTORS = {"/api/embed": {"input": ["a", "b"]}, "/v1/embeddings": {"input": "a"}, "/api/embeddings": {"prompt": "a"}}


def vectors_of(f):
    return [json.loads(body) for body in f.bodies() if b'"a"' in body]


def passed_to(head):
    return head["X-Tandem-Reason"].removeprefix("passed through to ").split(";")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_a_model_that_both_have(tandem, fake, kind):
    """A vector is its model's: what the small device does not have, or cannot do, is the main one's."""
    a = fake("a", type=kind, model=(BIG,), options=["--embeddings"])
    b = fake("b", type=kind, model=(BIG,), options=["--embeddings"])
    t = tandem([{**d, "model": BIG} for d in devices(a, b, ["small"])])
    for path, body in VECTORS.items():
        status, head, data = t.request("POST", path, {"model": BIG, **body})
        assert status == 200 and passed_to(head) == "gpu1" and "; small: embeddings" in head["X-Tandem-Reason"], (head.items(), data)
        assert "X-Tandem-Model" not in head and json.loads(data).get("model", BIG) == BIG
    assert len(vectors_of(b)) == 3 and not vectors_of(a)
    small = data
    for fault in ({"fault": "501"}, {"fault": "refuse"}, {"fault": "500"}):
        b.fault(name="mbed", match="mbed", times=-1, **fault)
        status, head, data = t.request("POST", "/api/embeddings", {"model": BIG, "prompt": "a"})
        assert status == 200 and passed_to(head) == "gpu0" and data == small, (head.items(), data)
        assert "; small: embeddings, but the small device " in head["X-Tandem-Reason"]
        t.wait_ready()
    b.reset()
    bad = t.request("POST", "/v1/embeddings", {"model": BIG, "input": {"a": 1}})
    assert bad[0] >= 400 and passed_to(bad[1]) == "gpu0"
    t.wait_idle()


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_another_model_stay(tandem, fake, kind):
    t, a, b = two(tandem, fake, kind, roles=["small"], options=["--embeddings"], small_options=["--embeddings"])
    for path, body in VECTORS.items():
        status, head, data = t.request("POST", path, {"model": BIG, **body})
        assert status == 200 and passed_to(head) == "gpu0" and "small" not in head["X-Tandem-Reason"], head.items()
    assert not vectors_of(b)


def test_vectors_wait_for_a_busy_device(tandem, fake):
    a = fake("a", model=(BIG, "e"))
    b = fake("b", model=(SMALL, "e"), options=["--decode", "50"])
    t = tandem(devices(a, b, ["small"]), small={"idle_wait_ms": 300})
    held = busy(t, b)
    status, head, data = t.request("POST", "/api/embed", {"model": "e", "input": "a"})
    assert status == 200 and passed_to(head) == "gpu0" and "small: embeddings, but the small device is busy" in head["X-Tandem-Reason"]
    for c in held:
        c.close(reset=True)
    t.wait_idle()
    assert t.request("POST", "/api/embed", {"model": "e", "input": "a"})[1]["X-Tandem-Reason"].startswith("passed through to gpu1; small")
    assert t.requests()["fallbacks"] == 1


@pytest.mark.parametrize("stream", [False, True])
def test_infill_of_llama_server(tandem, fake, stream):
    t, a, b = two(tandem, fake, "llama-server")
    body = {"input_prefix": "def f(", "input_suffix": "return 1", "n_predict": 4, "stream": stream}
    for model in ({"model": BIG}, {}):
        status, head, data = t.request("POST", "/infill", {**model, **body})
        assert status == 200 and passed_to(head) == "gpu1" and "; small: autocomplete" in head["X-Tandem-Reason"], (head.items(), data)
        assert head.get("X-Tandem-Model") == (SMALL if model else None)
        if model:
            assert SMALL.encode() not in data
        b.fault(match="/infill", fault="501")
        status, head, data = t.request("POST", "/infill", {**model, **body})
        assert status == 200 and passed_to(head) == "gpu0" and "X-Tandem-Model" not in head, (head.items(), data)
        assert json.loads(a.bodies()[-1]) == {**model, **body}


def test_retries_join_what_was_renamed(tandem, fake):
    t, a, b = two(tandem, fake, limits={"coalesce_after_ms": 0})
    b.fault(match="### Task", times=1, delay_ms=600000)
    body = {"model": BIG, "messages": says(TITLE + "[[fake tokens=20]]"), "stream": False}
    first, second = (in_thread(lambda: t.request("POST", "/api/chat", body)) for _ in range(2))
    wait_for(lambda: t.requests()["coalesced"] == 1, "the second one to join")
    b.struck()
    b.go()
    first, second = sorted((first.join(), second.join()), key=lambda x: "joined" in x[1]["X-Tandem-Reason"])
    assert second[0] == 200 and second[2] == first[2] and len(got(b)) == 1
    assert second[1]["X-Tandem-Model"] == SMALL and t.requests()["coalesced"] == 1


def test_many_at_once_come_to_their_end(tandem, fake):
    """Side tasks, questions and their failures together: each has its own answer under its own name."""
    t, a, b = two(tandem, fake, slots=2, small={"wait_ms": 50, "idle_wait_ms": 100}, small_options=["--decode", "200"])
    b.fault(match="tokens=7", fault="500", times=-1)
    wrong = []

    def one(i):
        text = (TITLE, TAGS, "hi", COMPLETE)[i % 4] + f"[[fake tokens={5 + i % 5}]]"
        status, head, data = ask(t, "/api/chat", text, stream=i % 2 == 0)
        said = "".join(m["message"]["content"] for m in ndjson(data)) if status == 200 else ""
        if status != 200 or len(said.split()) != 5 + i % 5 or any(m["model"] != BIG for m in ndjson(data)):
            wrong.append((i, status, data))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong, wrong[:3]
    t.wait_idle()


def test_status_and_metrics_name_it(tandem, fake):
    t, a, b = two(tandem, fake, roles=["small", "condense"])
    assert t.device("gpu1")["roles"] == ["condense", "small"]
    ask(t, "/api/chat", TITLE)
    assert t.command("counters")["strategy_small"] == 1
    assert t.command("histograms")["total"]["small"]["count"] == 1 if "count" in t.command("histograms")["total"]["small"] else True
    text = t.request("GET", "/metrics")[2].decode()
    assert 'route="small"' in text


def test_events_of_stream(tandem, fake):
    t, a, b = two(tandem, fake, "llama-server")
    status, head, data = ask(t, "/v1/chat/completions", TITLE, stream=True, headers=VERSION)
    events = sse(data)
    assert status == 200 and events[-1] == "[DONE]" and all(json.loads(e)["model"] == BIG for e in events[:-1])


def test_the_main_device_reads_no_stream_of_the_small_one(tandem, fake):
    """The small device's worker dies, its server keeps the stream: the request is asked anew of the main one, and nothing is read again there."""
    t, a, b = two(tandem, fake, "llama-server", roles=("small",))
    b.fault(match="### Task", fault="hang", times=-1)
    c = Client(t).send("POST", "/v1/chat/completions", {"model": BIG, "messages": says(TITLE), "stream": True})
    wait_for(lambda: t.device("gpu1")["inflight"] == 1 and got(b), "the title at the small one")
    os.kill(t.device("gpu1")["pid"], signal.SIGKILL)
    assert c.head() == 200 and c.headers["x-tandem-device"] == "gpu0", c.headers
    c.close()
    assert not [r for r in a.stats()["last"] if "conv_id" in r["path"] or r["status"] == 404]


@pytest.mark.parametrize("way", "AB")
def test_a_way_that_is_asked_for_is_taken(tandem, fake, way):
    t, a, b = two(tandem, fake)
    status, head, _ = ask(t, "/api/chat", TITLE, headers={"X-Tandem-Route": way})
    assert status == 200 and where(head)[0] != "small" and head["X-Tandem-Device"] == "gpu0"
