"""A streamed answer outlives its worker and its backend: the client sees one stream, as if nothing had died. Where the backend keeps no
streams, that is: test_replay.py is about one that does."""

import json
import os
import signal

import pytest

from conftest import attached
from harness import BIN, Control, in_thread, wait_for
from wire import CHAT, GENERATE, OPENAI, PATHS, Wire, content, error_text, question, units

TOKENS = 60
WORDS = " ".join(f"w{i}" for i in range(TOKENS))
ASK = f"[[fake tokens={TOKENS}]] go on"
RATE = ("--decode", "100")
FAST = {"first_ms": 20, "max_ms": 50}
BACKENDS = ("ollama", "llama-server")
ALL = [(main, path) for main in BACKENDS for path in PATHS]
PATIENT = {"limits": {"request_deaths": 100, "resumes": 1000}}


@pytest.fixture
def fake(fake):
    """No llama-server here keeps its streams."""
    def start(name, **options):
        if options.get("type") == "llama-server":
            options["options"] = (*options.get("options", ()), "--no-replay")
        return fake(name, **options)

    return start


class Stream(Wire):
    """A streamed answer that is read as it comes."""

    def __init__(self, t, path, text=ASK, **more):
        super().__init__(t)
        self.path, self.got = path, b""
        if path == OPENAI:
            more.setdefault("stream_options", {"include_usage": True})
        self.send("POST", path, question(path, text, **more)).head()
        assert self.status == 200

    def whole_units(self):
        end = self.got.rfind(b"\n\n" if self.path == OPENAI else b"\n")
        return units(self.path, self.got[:end + 2 if self.path == OPENAI else end + 1])[0] if end >= 0 else []

    def until_tokens(self, n):
        while len(content(self.path, self.whole_units()).split()) < n:
            piece = self.piece()
            assert piece, self.got[-300:]
            self.got += piece
        return self

    def end(self):
        """(objects, whether whole) of the stream from its beginning."""
        self.got += self.rest()
        return units(self.path, self.got)


def settle(path, objects):
    """What must be the same in a stream that was broken and in one that was not."""
    out = {"text": content(path, objects)}
    if path == OPENAI:
        out["ids"] = len({json.dumps([o[k] for k in ("id", "model", "object", "system_fingerprint")]) for o in objects})
        choices = [o["choices"][0] for o in objects if o["choices"]]
        out["roles"] = [c["delta"]["role"] for c in choices if "role" in c["delta"]]
        out["finish"] = [c["finish_reason"] for c in choices if c["finish_reason"]]
        out["usage"] = [{k: o["usage"][k] for k in ("prompt_tokens", "completion_tokens", "total_tokens")} for o in objects if o.get("usage")]
    else:
        out["models"] = {o["model"] for o in objects}
        out["roles"] = {o["message"]["role"] for o in objects if "message" in o}
        out["finish"] = [o["done_reason"] for o in objects if o["done"]]
        out["usage"] = [(o["prompt_eval_count"], o["eval_count"]) for o in objects if o["done"]]
    return out


def unbroken(t, path, text=ASK, **more):
    objects, whole = Stream(t, path, text, **more).end()
    assert whole
    return settle(path, objects)


def kill_worker(t, name="gpu0"):
    os.kill(t.device(name)["pid"], signal.SIGKILL)


def halts(backend, *tokens):
    """In its next run, and the ones after it, the backend says so much of the answer, and no more: no answer ends before its
    worker does, however busy the machine is."""
    for n in tokens:
        backend.fault(times=1, hang_after=n + 3)


def check_same(t, path, stream, wanted):
    objects, whole = stream.end()
    assert whole, objects[-2:]
    assert settle(path, objects) == wanted
    stream.close()


@pytest.mark.parametrize("main,path", ALL)
def test_a_worker_killed_in_mid_stream(pair, main, path):
    t, a, b = pair(main, backoff=FAST)
    wanted = unbroken(t, path)
    assert wanted["text"] == WORDS
    for at in (1, 17):
        halts(a, at)
        s = Stream(t, path).until_tokens(at)
        kill_worker(t)
        check_same(t, path, s, wanted)
    counts = t.requests()
    assert counts["resumed"] == 2 and counts["failed"] == 0
    lines = [e for e in t.events() if e["ev"] == "resumed"]
    assert len(lines) == 2 and all(e["device"] == "gpu0" and e["deaths"] == "1" and int(e["tokens"]) >= 1 for e in lines)


@pytest.mark.parametrize("main,path", ALL)
@pytest.mark.parametrize("fault", [{"cut": 9}, {"end": 9}, {"cut": 9, "chunk_bytes": 7}, {"cut": 0}])
def test_a_backend_that_breaks_off(pair, main, path, fault):
    """Its connection is cut, or its body ends, in mid-answer; its process and the worker live on."""
    t, a, b = pair(main, backoff=FAST)
    wanted = unbroken(t, path)
    a.fault(**fault, times=1)
    s = Stream(t, path)
    check_same(t, path, s, wanted)
    assert t.device("gpu0")["generation"] == 1 and t.requests()["failed"] == 0


@pytest.mark.parametrize("main,path", [("ollama", CHAT), ("ollama", OPENAI), ("llama-server", OPENAI), ("llama-server", GENERATE)])
def test_a_backend_killed_in_mid_stream(pair, fake, main, path):
    """Attached: nobody of ours starts it again; the stream waits for it with heartbeats."""
    t, a, b = pair(main, deadlines={"heartbeat_ms": 50})
    wanted = unbroken(t, path)
    halts(a, 5)
    s = Stream(t, path).until_tokens(5)
    a.stop(signal.SIGKILL)
    wait_for(lambda: t.device("gpu0")["state"] != "ready", "its worker to see it")
    fake("again", type=main, port=a.port)
    check_same(t, path, s, wanted)
    assert t.requests()["failed"] == 0


@pytest.mark.parametrize("path", PATHS)
def test_a_started_backend_killed_in_mid_stream(tandem, path):
    """The worker says that the answer is cut, then dies of it: one death, not two."""
    command = [os.path.join(BIN, "fake-backend"), "--type", "llama-server", "--model", "m:1b"]
    t = tandem([{"name": "gpu0", "roles": ["main"], "slots": 2, "backend": {"type": "llama-server", "command": command}}], backoff=FAST)
    wanted = unbroken(t, path)
    for _ in range(3):
        halts(Control(t.device("gpu0")["backend"]["url"]), 5)
        s = Stream(t, path).until_tokens(5)
        os.kill(t.device("gpu0")["backend"]["pid"], signal.SIGKILL)
        check_same(t, path, s, wanted)
        t.wait_ready()
    assert t.requests()["failed"] == 0 and t.requests()["resumed"] == 3


@pytest.mark.parametrize("main,path", ALL)
def test_several_deaths_in_one_stream(pair, main, path):
    t, a, b = pair(main, backoff=FAST)
    wanted = unbroken(t, path)
    halts(a, 3, 10, 25, 40)
    s = Stream(t, path)
    for at in (3, 10, 25, 40):
        s.until_tokens(at)
        t.wait_ready("gpu0")
        kill_worker(t)
    check_same(t, path, s, wanted)
    assert t.requests()["failed"] == 0 and t.requests()["resumed"] == 4


LIMITS = {CHAT: lambda n: {"options": {"num_predict": n}}, GENERATE: lambda n: {"options": {"seed": 1, "num_predict": n}},
          OPENAI: lambda n: {"max_tokens": n}}


@pytest.mark.parametrize("main,path", ALL)
def test_the_limit_of_tokens_holds_over_the_seam(pair, main, path):
    t, a, b = pair(main, backoff=FAST)
    for limit, cut in ((20, 9), (9, 9)):  # with the second nothing is left to generate: only the end was lost
        wanted = unbroken(t, path, **LIMITS[path](limit))
        assert len(wanted["text"].split()) == limit and wanted["finish"] == ["length"]
        a.fault(cut=cut, times=1)
        check_same(t, path, Stream(t, path, **LIMITS[path](limit)), wanted)


ODD = "caf\u00e9 \u2028 \U0001f600 \"q\" \\ <b>&amp; \n\n\ttab  two  \u00fc\u00df end "


@pytest.mark.parametrize("main,path", ALL)
def test_text_is_the_same_byte_for_byte(pair, main, path):
    """Spaces at the seam, escapes, characters of four bytes: nothing lost, nothing doubled, wherever the stream is cut."""
    import urllib.parse
    t, a, b = pair(main, main_options=("--chars-per-token", "1"), backoff=FAST, **PATIENT)
    ask = f"[[fake text={urllib.parse.quote_plus(ODD)}]] odd"
    wanted = unbroken(t, path, ask)
    assert wanted["text"] == ODD
    for cut in range(1, len(ODD)):
        a.fault(cut=cut, times=1)
        check_same(t, path, Stream(t, path, ask), wanted)


@pytest.mark.parametrize("main", BACKENDS)
def test_a_raw_prompt(pair, main):
    t, a, b = pair(main, backoff=FAST)
    wanted = unbroken(t, GENERATE, raw=True)
    a.fault(cut=9, times=1)
    check_same(t, GENERATE, Stream(t, GENERATE, raw=True), wanted)


@pytest.mark.parametrize("main,path", [(m, p) for m, p in ALL if p != GENERATE])
def test_a_beginning_of_the_clients_own(pair, main, path):
    """Two trailing assistant messages are refused by llama-server: the client's is lengthened."""
    t, a, b = pair(main, backoff=FAST)
    said = [{"role": "user", "content": ASK}, {"role": "assistant", "content": "w0 w1 w2"}]
    wanted = unbroken(t, path, said)
    assert ("w0 w1 w2" if main == "ollama" else "") + wanted["text"] == WORDS  # llama-server says that first
    a.fault(cut=9, times=1)
    check_same(t, path, Stream(t, path, said), wanted)
    last = [json.loads(b)["messages"] for b in a.bodies() if b'"messages"' in b][-1]  # what it was rendered from
    assert [m["role"] for m in last] == ["user", "assistant"] and last[1]["content"].startswith("w0 w1 w2 w3")


@pytest.mark.parametrize("first,second", [("ollama", "llama-server"), ("llama-server", "ollama"), ("ollama", "ollama")])
@pytest.mark.parametrize("path", PATHS)
def test_another_device_takes_over(fake, tandem, first, second, path):
    """The same model elsewhere, behind another kind of backend: the stream keeps its name and form."""
    a, b = fake("a", type=first), fake("b", type=second)
    t = tandem([attached(a, slots=2, num_ctx=8192), attached(b, "gpu1", ("condense",), slots=2, num_ctx=8192)],
               backoff={"first_ms": 60000, "max_ms": 60000})
    wanted = unbroken(t, path)
    halts(a, 5)
    s = Stream(t, path).until_tokens(5)
    kill_worker(t)
    check_same(t, path, s, wanted)
    assert t.device("gpu0")["state"] == "back-off"
    assert [e["device"] for e in t.events() if e["ev"] == "resumed"] == ["gpu1"]


# --- what cannot be gone on with ---


def check_error(path, stream, text):
    objects, whole = stream.end()
    assert not whole and "error" in objects[-1] and all("error" not in o for o in objects[:-1])
    assert error_text(path, objects[-1])
    assert content(path, objects[:-1]).startswith(text)
    return error_text(path, objects[-1])


TOOL = "[[fake text=let+me+see&tool=read&args=%7B%22path%22%3A%22" + "a" * 400 + "%22%7D]] use it"


@pytest.mark.parametrize("path", [OPENAI])
def test_half_a_tool_call(pair, path):
    t, a, b = pair("llama-server", backoff=FAST)
    halts(a, 10)
    s = Stream(t, path, TOOL)
    while not any(o["choices"] and "tool_calls" in o["choices"][0]["delta"] for o in s.whole_units()):
        s.got += s.piece()
    kill_worker(t)
    check_error(path, s, "let ")
    assert t.requests()["failed"] == 1 and t.requests()["resumed"] == 0
    assert [e for e in t.events() if e["ev"] == "not_resumed"]


TOOLS = [{"type": "function", "function": {"name": "read", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}}]


def test_a_tool_call_that_has_not_begun(pair):
    """It is half generated, but the client has nothing of it: the text goes on, and the call comes whole. The backend begins with all
    the text that it was given; none of that is said twice."""
    t, a, b = pair("llama-server", backoff=FAST)
    halts(a, 10)
    s = Stream(t, CHAT, TOOL, tools=TOOLS).until_tokens(3)
    kill_worker(t)
    objects, whole = s.end()
    assert whole and content(CHAT, objects) == "let me see"
    calls = [c for o in objects for c in (o.get("message", o).get("tool_calls") or [])]
    assert [c["function"]["arguments"] for c in calls] == [{"path": "a" * 400}]


@pytest.mark.parametrize("path", [CHAT, OPENAI])
def test_tools_behind_a_template_that_closes_the_turn(pair, path):
    """A plain prompt would show a tool call as text, and the chat would begin anew: neither is done."""
    t, a, b = pair("ollama", backoff=FAST)
    halts(a, 0)
    s = Stream(t, path, TOOL, tools=TOOLS).until_tokens(3)
    kill_worker(t)
    check_error(path, s, "let ")


@pytest.mark.parametrize("main,path", ALL)
def test_a_model_that_thinks(pair, main, path):
    t, a, b = pair(main, backoff=FAST)
    halts(a, 3 + 5)
    s = Stream(t, path, "[[fake thinking=5&tokens=60]] think").until_tokens(3)
    kill_worker(t)
    check_error(path, s, "w0 w1 w2")
    assert t.requests()["resumed"] == 0


@pytest.mark.parametrize("main,path", ALL)
def test_a_prescribed_form(pair, main, path):
    """A grammar would begin anew behind the half of an object."""
    form = {"response_format": {"type": "json_object"}} if path == OPENAI else {"format": "json"}
    t, a, b = pair(main, backoff=FAST)
    halts(a, 3)
    s = Stream(t, path, **form).until_tokens(3)
    kill_worker(t)
    check_error(path, s, "w0 w1 w2")


@pytest.mark.parametrize("main,path", [("ollama", CHAT), ("llama-server", OPENAI), ("llama-server", CHAT)])
def test_more_text_than_is_kept(pair, main, path):
    t, a, b = pair(main, backoff=FAST, limits={"resume_bytes": 1024})
    halts(a, 100, 450)
    ask = "[[fake tokens=500]] long"
    s = Stream(t, path, ask).until_tokens(100)  # under a thousand bytes
    kill_worker(t)
    s.until_tokens(450)
    t.wait_ready()
    kill_worker(t)
    check_error(path, s, " ".join(f"w{i}" for i in range(400)))
    assert t.requests()["resumed"] == 1


def test_an_event_too_long_to_be_held(pair):
    """The client has half a line of megabytes: it is told, not sent another beginning of it."""
    t, a, b = pair(main_options=RATE)
    with Wire(t, SO_RCVBUF=65536) as w:
        w.send("POST", CHAT, question(CHAT, "[[fake tokens=3&hugeline=8000000]] hi")).head()
        got = w.piece()
        kill_worker(t)
        got += w.rest()
    last = got.rstrip(b"\n").rsplit(b"\n", 1)[1]
    assert error_text(CHAT, json.loads(last)) and len(got) < 8_000_000


def test_a_large_event_that_is_whole(pair):
    """Larger than what is held back and than a record: once it is whole the answer can be gone on with."""
    t, a, b = pair(main_options=("--decode", "5", "--num-ctx", "200000"), backoff=FAST, main_device={"num_ctx": 200000})
    s = Stream(t, CHAT, "[[fake hugeline=500000&tokens=20]] hi")
    while len(content(CHAT, s.whole_units())) < 500_010:
        s.got += s.piece()
    kill_worker(t)
    objects, whole = s.end()
    assert whole and content(CHAT, objects) == "x" * 500_000 + "".join(f" w{i}" for i in range(1, 20))
    assert t.requests()["resumed"] == 1


# --- poison ---


@pytest.mark.parametrize("main,path", [("ollama", CHAT), ("llama-server", OPENAI), ("ollama", GENERATE)])
@pytest.mark.parametrize("stream", [True, False])
def test_a_request_that_workers_die_of(pair, main, path, stream):
    """After two deaths it is refused with a status that no client repeats, and so is the same body; another is not."""
    t, a, b = pair(main, backoff=FAST)
    a.fault(times=-1, fault="hang", match="poison")
    r = in_thread(lambda: t.request("POST", path, question(path, "poison", stream)))
    for generation in (1, 2):
        wait_for(lambda: t.device("gpu0")["generation"] == generation and t.device("gpu0")["inflight"], f"worker {generation} at work")
        kill_worker(t)
    status, headers, body = r.join()
    assert status == 422 and "died" in error_text(path, json.loads(body)) and "Retry-After" not in headers
    t.wait_ready()
    asked = len(a.bodies())
    status, headers, body = t.request("POST", path, question(path, "poison", stream))
    assert status == 422 and "died" in error_text(path, json.loads(body))
    assert len(a.bodies()) == asked and t.device("gpu0")["generation"] == 3
    assert t.request("POST", path, question(path, "another", stream))[0] == 200


@pytest.mark.parametrize("main,path", ALL)
def test_a_token_that_backends_die_of(pair, main, path):
    """Always at the same token: what was said stays, then the error in band."""
    t, a, b = pair(main, backoff=FAST)
    check_error(path, Stream(t, path, "[[fake tokens=50&cut=7]] die"), "w0 w1 w2 w3 w4 w5 w6")
    assert [e for e in t.events() if e["ev"] == "poison"]
    status, headers, body = t.request("POST", path, question(path, "[[fake tokens=50&cut=7]] die", stream_options={"include_usage": True})
                                      if path == OPENAI else question(path, "[[fake tokens=50&cut=7]] die"))
    assert status == 422


def test_deaths_that_advance_are_bounded(pair):
    t, a, b = pair(backoff=FAST, limits={"resumes": 2})
    halts(a, 3, 10, 20)
    s = Stream(t, CHAT)
    for at in (3, 10, 20):
        s.until_tokens(at)
        t.wait_ready("gpu0")
        kill_worker(t)
    check_error(CHAT, s, "w0 w1")
    assert t.requests()["resumed"] == 2
    assert t.request("POST", CHAT, question(CHAT, ASK))[0] == 200, "it is no poison"


# --- without a stream, and what is no chat ---


@pytest.mark.parametrize("main,path", ALL)
@pytest.mark.parametrize("fault", [{"cut": 1}, {"fault": "refuse"}, {"fault": "hang"}])
def test_a_request_without_a_stream_is_asked_again_whole(pair, main, path, fault):
    t, a, b = pair(main, backoff=FAST)
    a.fault(**fault, times=1)
    r = in_thread(lambda: t.request("POST", path, question(path, ASK, False)))
    if fault.get("fault") == "hang":
        a.struck()
        kill_worker(t)
    status, headers, body = r.join()
    assert status == 200 and content(path, [json.loads(body)]) == WORDS
    if fault.get("fault") != "refuse":  # libcurl itself asks again where a kept connection is reset before any byte
        assert "lost before the first byte" in headers["X-Tandem-Reason"]


def test_what_changes_something_is_done_at_most_once(pair):
    t, a, b = pair(backoff=FAST)
    for method, path, again in (("GET", "/api/experimental/x", True), ("POST", "/api/copy", False), ("DELETE", "/api/delete", False),
                                ("POST", "/api/embed", True)):
        a.reset()
        a.fault(times=1, fault="hang", match="" if method == "GET" else "m:1b")
        generation = t.device("gpu0")["generation"]
        body = None if method == "GET" else {"model": "m:1b", "source": "m:1b", "destination": "x:1", "input": "m:1b"}
        r = in_thread(lambda: t.request(method, path, body))
        a.struck()
        kill_worker(t)
        status = r.join()[0]
        assert (status != 503) == again, (method, path, status)
        wait_for(lambda: t.device("gpu0")["generation"] == generation + 1, "the next worker")
        t.wait_ready()


def test_what_was_sent_is_not_sent_again_by_a_drain(pair):
    """A worker at its drain's deadline has asked the backend already: nobody knows whether it was done."""
    t, a, b = pair(deadlines={"drain_ms": 200})
    a.fault(times=1, fault="hang", match="m:1b")
    r = in_thread(lambda: t.request("DELETE", "/api/delete", {"model": "m:1b"}))
    a.struck()
    assert t.operate("restart gpu0")["state"] == "done"
    status = r.join()[0]
    a.stats()
    assert status in (502, 503) and a.bodies().count(b'{"model": "m:1b"}') == 1, (status, a.bodies())
    a.fault(times=1, fault="hang", match="m:1b")
    r = in_thread(lambda: t.request("POST", "/api/show", {"model": "m:1b"}))
    a.struck()
    assert t.operate("restart gpu0")["state"] == "done"
    assert r.join()[0] == 200, "what only asks is asked again"


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_outlives_any_number_of_drains(pair, path):
    t, a, b = pair(deadlines={"drain_ms": 20})
    ask, deaths = "[[fake tokens=200]] go on", range(3, 150, 20)
    wanted = unbroken(t, path, ask)
    halts(a, *deaths)
    s = Stream(t, path, ask)
    for n, at in enumerate(deaths):
        s.until_tokens(at)
        assert t.operate("restart gpu0")["state"] == "done"
        wait_for(lambda: t.requests()["resumed"] == n + 1, "the next worker to go on")
    check_same(t, path, s, wanted)
    assert t.requests()["failed"] == 0 and t.requests()["resumed"] == len(deaths)


def test_the_device_that_was_to_go_on_is_drained(fake, tandem):
    """While the client takes its time with what it has: another one goes on then."""
    a, b = (fake(name, options=("--slots", "2", "--num-ctx", "200000")) for name in "ab")
    t = tandem([attached(a, num_ctx=200000), attached(b, "gpu1", num_ctx=200000)], backoff=FAST)
    c = t.client(SO_RCVBUF=4096).send("POST", CHAT, question(CHAT, "[[fake tokens=100000]]"))
    assert c.head() == 200
    first = c.headers["x-tandem-device"]
    other = "gpu1" if first == "gpu0" else "gpu0"
    wait_for(lambda: t.device(first)["inflight"] == 1, "the stream")
    stall = lambda: (t.command("jobs")["jobs"] or [{}])[0].get("answer_bytes")  # noqa: E731
    seen = []
    wait_for(lambda: seen.append(stall()) or (len(seen) > 30 and len(set(seen[-30:])) == 1), "a client that does not read")
    kill_worker(t, first)
    wait_for(lambda: t.device(first)["generation"] == 2 and t.device(first)["state"] == "ready", "the next worker")
    assert t.operate(f"drain {other}")["state"] == "done"
    objects, whole = units(CHAT, c.rest())
    assert whole, objects[-1]
    assert content(CHAT, objects).split() == [f"w{k}" for k in range(100000)]
    assert t.requests()["failed"] == 0
