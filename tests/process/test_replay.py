"""A backend that keeps its streams lets a dead worker cost nothing: thinking, tool calls and prescribed forms go on, byte for byte."""

import json
import os
import re
import signal
import urllib.error
import urllib.request

import pytest

from conftest import attached
from harness import wait_for
from wire import CHAT, GENERATE, OPENAI, Wire, question

TEXT, MESSAGES, RESPONSES = "/v1/completions", "/v1/messages", "/v1/responses"
ALL = (CHAT, GENERATE, OPENAI, MESSAGES, RESPONSES)
FAST = {"first_ms": 20, "max_ms": 50}
PATIENT = {"limits": {"request_deaths": 100, "resumes": 1000}}
# Tokens 0 to 7 are thinking, 8 to 10 the text, the rest a call's arguments.
RICH = "[[fake thinking=8&text=let+me+see&tool=read&args=%7B%22path%22%3A%22abcdefghijklmnopqrstuvwxyz%22%7D]] use it"
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
TOOLS = {
    CHAT: [{"type": "function", "function": {"name": "read", "parameters": SCHEMA}}],
    MESSAGES: [{"name": "read", "input_schema": SCHEMA}],
    RESPONSES: [{"type": "function", "name": "read", "parameters": SCHEMA}],
}
TOOLS[OPENAI] = TOOLS[CHAT]


def body_of(path, text, /, tools=True, **more):
    """A request for a streamed answer, with tools where the dialect has them."""
    if tools and path in TOOLS:
        more["tools"] = TOOLS[path]
    if path == MESSAGES:
        more.update(max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 1024})
    if path == RESPONSES:
        return {"model": "m:1b", "stream": True, "input": text, **more}
    if path == TEXT:
        return {"model": "m:1b", "stream": True, "prompt": text, **more}
    return question(path, text, **more)


class Stream(Wire):
    def __init__(self, t, path, text=RICH, /, **more):
        super().__init__(t)
        self.got = b""
        headers = ["anthropic-version: 2023-06-01"] if path == MESSAGES else []
        self.send("POST", path, body_of(path, text, **more), headers)

    def start(self):
        self.head()
        assert self.status == 200
        return self

    def until_said(self, mark):
        while mark not in self.got:
            piece = self.piece()
            assert piece, self.got[-500:]
            self.got += piece
        return self

    def end(self):
        self.got += self.rest()
        self.close()
        return self.got


NAMES = (rb'"created_at":\d+', rb"cmpl-\d+", rb"[0-9a-f]{24}", rb"call_[0-9a-f]{8}\b")


def settled(stream):
    """The bytes of a stream less what tells one from another: names and times of day; each of them is one and the same in it."""
    stream = re.sub(rb'"created":\d+', b"TIME", stream)  # llama-server's own says it anew in each event
    for pattern in NAMES:
        assert len(set(re.findall(pattern, stream))) <= 1, (pattern, set(re.findall(pattern, stream)))
        stream = re.sub(pattern, b"NAME", stream)
    return re.sub(rb'"created_at":"[^"]*"|_duration":\d+', b"TIME", stream)


def kill(t, name="gpu0"):
    os.kill(t.device(name)["pid"], signal.SIGKILL)


def unbroken(t, a, path, text=RICH, /, **more):
    a.reset()
    whole = settled(Stream(t, path, text, **more).start().end())
    return whole, a.stats()["tokens"]["generated"]


def next_worker_reads(t, generation):
    wait_for(lambda: t.device("gpu0")["generation"] == generation and t.device("gpu0")["inflight"] == 1, "the next worker to read")


def asked(a):
    """How often the backend was asked for an answer."""
    return sum(b'"stream"' in body for body in a.bodies())


STOPS = {  # (chunks said, what the client has of them)
    CHAT: [(5, b"t4"), (10, b"me s"), (13, b"me s")],  # a call comes whole
    GENERATE: [(5, b"t4"), (10, b"me s")],
    OPENAI: [(5, b"t4"), (10, b"me s"), (15, b"defg")],
    MESSAGES: [(5, b"t4"), (10, b"me s"), (15, b"defg")],
    RESPONSES: [(5, b"t4"), (10, b"me s"), (15, b"defg")],
}


@pytest.mark.parametrize("path", ALL)
def test_thinking_text_and_a_call_outlive_their_workers(pair, path):
    """Killed in each of the three: the stream is the same, and no token was generated twice."""
    t, a, b = pair("llama-server", backoff=FAST, **PATIENT)
    wanted, tokens = unbroken(t, a, path)
    assert all(mark in wanted for stop, mark in STOPS[path])
    before = asked(a)
    a.reset()
    a.fault(times=1, hang_after=STOPS[path][0][0])
    s = Stream(t, path).start()
    for n, (stop, mark) in enumerate(STOPS[path]):
        s.until_said(mark)
        kill(t)
        next_worker_reads(t, n + 2)
        a.go(**({"hang_after": STOPS[path][n + 1][0]} if n + 1 < len(STOPS[path]) else {}))
        # The client may have all of it that it gets before the next one dies: a call comes whole.
        wait_for(lambda: t.requests()["resumed"] == n + 1, "it to go on")
    assert settled(s.end()) == wanted
    assert asked(a) == before + 1 and a.stats()["tokens"]["generated"] == tokens
    assert t.requests()["failed"] == 0 and t.requests()["resumed"] == len(STOPS[path])
    assert {e["how"] for e in t.events() if e["ev"] == "resumed"} == {"replayed"}


FORMS = {CHAT: {"format": "json"}, GENERATE: {"format": SCHEMA}, OPENAI: {"response_format": {"type": "json_object"}},
         RESPONSES: {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}}}
JSON_TEXT = "[[fake text=%7B%22path%22%3A%22" + "wxyz" * 40 + "%22%7D]] as JSON"


@pytest.mark.parametrize("path", FORMS)
def test_a_prescribed_form_outlives_its_workers(pair, path):
    t, a, b = pair("llama-server", backoff=FAST, **PATIENT)
    wanted, tokens = unbroken(t, a, path, JSON_TEXT, tools=False, **FORMS[path])
    a.reset()
    a.fault(times=1, hang_after=10)
    s = Stream(t, path, JSON_TEXT, tools=False, **FORMS[path]).start().until_said(b"zwxy")
    kill(t)
    next_worker_reads(t, 2)
    a.go()
    assert settled(s.end()) == wanted and a.stats()["tokens"]["generated"] == tokens


@pytest.mark.parametrize("path", ALL + (TEXT,))
@pytest.mark.parametrize("options", [(), ("--early-headers",)])
def test_before_the_first_byte(pair, path, options):
    """The prompt is read once."""
    t, a, b = pair("llama-server", main_options=options, backoff=FAST)
    text = "[[fake tokens=30]] go on"
    wanted, tokens = unbroken(t, a, path, text)
    before = asked(a)
    a.reset()
    a.fault(times=1, hang_after=0)
    s = Stream(t, path, text)
    a.struck()
    wait_for(lambda: a.stats()["slots"]["active"] == 1, "the backend to be at it")
    kill(t)
    next_worker_reads(t, 2)
    a.go()
    assert settled(s.start().end()) == wanted
    assert asked(a) == before + 1 and a.stats()["tokens"]["generated"] == tokens


@pytest.mark.parametrize("more", [{"stream_options": {"include_usage": True}}, {}, {"logprobs": True}, {"model": "alias"}])
def test_what_goes_back_as_it_came(pair, more):
    """An OpenAI client's stream is the backend's own, its counts and an alias included; with pieces that end anywhere."""
    t, a, b = pair("llama-server", backoff=FAST, **PATIENT, models=({"match": "alias", "use": "m:1b"},))
    wanted, tokens = unbroken(t, a, OPENAI, **more)
    a.reset()
    a.fault(times=1, hang_after=4, chunk_bytes=7)
    s = Stream(t, OPENAI, **more).start().until_said(b"t3")
    for generation, stop in ((2, 9), (3, 12), (4, None)):
        kill(t)
        next_worker_reads(t, generation)
        a.go(**({"hang_after": stop} if stop else {}))
    assert settled(s.end()) == wanted and a.stats()["tokens"]["generated"] == tokens


@pytest.mark.parametrize("path", ALL)
def test_drained_workers_cost_nothing_either(pair, path):
    t, a, b = pair("llama-server", deadlines={"drain_ms": 20}, **PATIENT)
    wanted, tokens = unbroken(t, a, path)
    a.reset()
    a.fault(times=1, hang_after=5)
    s = Stream(t, path).start().until_said(b"t4")
    for generation in (2, 3):
        assert t.operate("restart gpu0")["state"] == "done"
        next_worker_reads(t, generation)
    a.go()
    assert settled(s.end()) == wanted and a.stats()["tokens"]["generated"] == tokens


def test_a_worker_that_hangs(pair):
    t, a, b = pair("llama-server", backoff=FAST, deadlines={"ping_ms": 400})
    wanted, tokens = unbroken(t, a, OPENAI)
    a.reset()
    a.fault(times=1, hang_after=5)
    s = Stream(t, OPENAI).start().until_said(b"t4")
    os.kill(t.device("gpu0")["pid"], signal.SIGSTOP)
    next_worker_reads(t, 2)
    a.go()
    assert settled(s.end()) == wanted and a.stats()["tokens"]["generated"] == tokens


# --- ends ---


def nothing_is_kept(a):
    wait_for(lambda: a.stats()["streams"] == 0 and a.stats()["slots"]["active"] == 0, "the backend to keep nothing")


@pytest.mark.parametrize("path", [CHAT, OPENAI])
def test_a_client_that_leaves(pair, path):
    """Its slot is free at once; so is that of one whose answer has not begun."""
    t, a, b = pair("llama-server")
    for stop in (5, 0):
        a.fault(times=1, hang_after=stop)
        s = Stream(t, path)
        if stop:
            s.start().until_said(b"t4")
        a.struck()
        wait_for(lambda: a.stats()["streams"] == 1, "a kept stream")
        s.close()
        nothing_is_kept(a)
    assert t.request("POST", OPENAI, question(OPENAI, "hi", False))[0] == 200


def test_a_client_that_leaves_while_no_worker_is_there(pair):
    t, a, b = pair("llama-server", backoff={"first_ms": 3000, "max_ms": 3000})
    a.fault(times=1, hang_after=5)
    s = Stream(t, OPENAI).start().until_said(b"t4")
    kill(t)
    wait_for(lambda: t.device("gpu0")["state"] != "ready", "its death")
    s.close()
    wait_for(lambda: t.requests()["cancelled"] == 1, "the request to end")
    assert a.stats()["streams"] == 1
    nothing_is_kept(a)
    assert [e for e in t.events() if e["ev"] == "streams_forgotten"]


def test_a_whole_answer_is_not_kept_for_long(pair):
    t, a, b = pair("llama-server")
    Stream(t, OPENAI).start().end()
    assert a.stats()["streams"] <= 1
    nothing_is_kept(a)


def test_tandemd_that_is_killed_leaves_nothing_behind(pair):
    t, a, b = pair("llama-server")
    a.fault(times=1, hang_after=5)
    Stream(t, OPENAI).start().until_said(b"t4")
    t.popen.kill()
    t.popen.wait()
    nothing_is_kept(a)


def test_a_device_taken_out_of_use_leaves_nothing_behind(pair):
    t, a, b = pair("llama-server", deadlines={"drain_ms": 50})
    a.fault(times=1, hang_after=5)
    s = Stream(t, OPENAI).start().until_said(b"t4")
    t.operate("drain gpu0")
    nothing_is_kept(a)
    s.close()


# --- what falls back ---


def test_a_backend_that_has_it_no_more(pair, fake):
    """It was started anew: text goes on as behind any backend; what is more than text ends with an error."""
    t, a, b = pair("llama-server", backoff={"first_ms": 500, "max_ms": 500})
    for text, mark, whole in (("[[fake tokens=60]] go on", b"w7", True), (RICH, b"t4", False)):
        a.fault(times=1, hang_after=8)
        s = Stream(t, OPENAI, text).start().until_said(mark)
        os.kill(a.pid, signal.SIGSTOP)  # nothing of it comes to the next worker
        kill(t)
        a.stop(signal.SIGKILL)
        a = fake("again", type="llama-server", port=a.port)
        got = s.end()
        assert got.endswith(b"data: [DONE]\n\n") == whole, got[-300:]
        assert (b'"error"' in got) != whole
        t.wait_ready()
    assert [e["how"] for e in t.events() if e["ev"] == "resumed"] == ["continued"]


@pytest.mark.parametrize("path", ALL)
def test_a_continuation_is_read_again_as_well(pair, fake, path):
    """The backend is started anew, the text goes on in a second stream, and the worker of that dies, twice: what the client has before the
    seam stays out of it."""
    t, a, b = pair("llama-server", backoff={"first_ms": 300, "max_ms": 300}, **PATIENT)
    text = "[[fake tokens=60]] go on"
    wanted, tokens = unbroken(t, a, path, text, tools=False)
    a.fault(times=1, hang_after=8)
    s = Stream(t, path, text, tools=False).start().until_said(b"w7")
    os.kill(a.pid, signal.SIGSTOP)  # nothing of it comes to the next worker
    kill(t)
    a.stop(signal.SIGKILL)
    a = fake("again", type="llama-server", port=a.port, options=("--load-ms", "500"))  # nobody is answered before it has its fault
    a.fault(times=1, hang_after=20)
    s.until_said(b"w19")
    for stop, mark in ((40, b"w39"), (-1, None)):
        generation = t.device("gpu0")["generation"]
        kill(t)
        next_worker_reads(t, generation + 1)
        a.go(hang_after=stop)
        if mark:
            s.until_said(mark)
    plain = rb'"(?:content|text|delta|response)":"( ?w\d+)"'
    got = s.end()
    assert re.findall(plain, settled(got)) == re.findall(plain, wanted)
    assert a.stats()["tokens"]["generated"] == tokens - 8
    assert [e["how"] for e in t.events() if e["ev"] == "resumed"] == ["continued", "replayed", "replayed"]
    if path == RESPONSES:
        numbers = [json.loads(line[6:])["sequence_number"] for line in got.decode().split("\n") if line.startswith("data: ")]
        assert numbers == list(range(len(numbers)))


def test_further_than_is_read_again(pair):
    """limits.replay_bytes: beyond it an answer goes on from its text, and its stream ends."""
    t, a, b = pair("llama-server", backoff=FAST, limits={"replay_bytes": 4000})
    text = "[[fake tokens=200]] go on"
    a.fault(times=1, hang_after=100)
    s = Stream(t, CHAT, text).start().until_said(b"w99")
    kill(t)
    lines = [json.loads(line) for line in s.end().splitlines()]
    assert "".join(o["message"]["content"] for o in lines) == " ".join(f"w{i}" for i in range(200))
    assert [e["how"] for e in t.events() if e["ev"] == "resumed"] == ["continued"]
    nothing_is_kept(a)


def conversations(log):
    with open(log) as f:
        lines = [json.loads(line) for line in f]
    return [line["headers"].get("X-Conversation-Id") for line in lines if line["method"] == "POST"]


@pytest.mark.parametrize("replay_bytes", [0, 4194304])
def test_names_are_ours_and_not_to_be_guessed(pair, folder, replay_bytes):
    log = os.path.join(folder, "requests")
    t, a, b = pair("llama-server", main_options=("--log", log), limits={"replay_bytes": replay_bytes})
    for stream in (True, True, False):
        status, headers, got = t.request("POST", OPENAI, question(OPENAI, "hi", stream), {"X-Conversation-Id": "mine"})
        assert status == 200
    a.stats()
    names = conversations(log)
    assert names[2] is None, "nothing of an answer without a stream could be read again"
    if replay_bytes == 0:
        assert names[:2] == [None, None]
        return
    assert names[0] != names[1] and all(re.fullmatch("[0-9a-f]{56}", n) for n in names[:2])
    s = Stream(t, RESPONSES).start().end()
    a.stats()
    name = conversations(log)[3]
    assert name[:24].encode() in s and name[24:].encode() not in s, "the client is told the half of it that names its objects"
    assert name[24:] not in t.log()


@pytest.mark.parametrize("status", [None, 401, 403, 404, 405, 500])
def test_a_server_that_keeps_no_streams_is_not_asked_to(fake, tandem, folder, status):
    """An older build, or what stands before a new one and lets only known paths pass."""
    log = os.path.join(folder, "requests")
    a = fake("a", type="llama-server", options=("--log", log, *(() if status else ("--no-replay",))))
    if status:
        a.fault(match="/v1/stream", times=-1, fault=str(status))
    t = tandem([attached(a)])
    assert t.request("POST", OPENAI, question(OPENAI, "hi"))[0] == 200
    a.stats()
    assert conversations(log) == [None]


# --- the scripted backend ---


def ask(url, method="GET", body=None, **headers):
    data = json.dumps(body).encode() if body else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as r:
            return r.status, r.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


def test_the_scripted_backend_keeps_streams_as_the_real_one(fake):
    """As b10434 does (tests/engine/test_replay.py asks that one the same)."""
    a = fake("a", type="llama-server")
    kept = a.url + "/v1/stream"
    assert ask(kept)[0] == 400 and ask(kept + "?conv_id=x")[0] == 404
    status, whole = ask(a.url + OPENAI, "POST", question(OPENAI, "[[fake tokens=20]]"), **{"X-Conversation-Id": "x"})
    assert status == 200 and ask(kept + "?conv_id=x&from=0") == (200, whole)
    assert ask(kept + "?conv_id=x&from=100") == (200, whole[100:]) and ask(kept + "?conv_id=x&from=99999999") == (200, b"")
    assert ask(kept + "?conv_id=x", "DELETE")[0] == 204 and ask(kept + "?conv_id=x")[0] == 404
    assert ask(kept + "?conv_id=x", "DELETE")[0] == 204
    assert ask(a.url + OPENAI, "POST", {"stream": True}, **{"X-Conversation-Id": "y"})[0] == 400 and ask(kept + "?conv_id=y")[0] == 404
    assert a.stats()["streams"] == 0
