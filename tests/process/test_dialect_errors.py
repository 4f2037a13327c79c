"""What goes wrong, in every dialect before every kind of backend: the status, the shape and the words that its clients know.

DIALECTS has a row for each dialect, SITUATIONS one for what goes wrong; each situation is told to each dialect before each backend."""

import json

import pytest

from conftest import attached
from harness import in_thread, wait_for
from test_routes import prose
from wire import Wire

BACKS = ["ollama", "llama-server", "openai"]
MODEL = "m:1b"
TOO_LONG = "This model's maximum context length is 4096 tokens. However, your messages resulted in "


class Dialect:
    """A dialect's path and what its clients expect."""

    overloaded = 503
    any_name = True  # before a backend that answers to any name, so does it

    def __init__(self, path):
        self.path = path

    def __repr__(self):
        return self.path

    def ask(self, text, stream=False, model=MODEL, system=None):
        said = [{"role": "user", "content": text}]
        return {"model": model, "stream": stream, "messages": [{"role": "system", "content": system}, *said] if system else said}

    def overflow(self, text):
        """A request that cannot be made to fit."""
        return self.ask("hi", system=text)

    def parts(self, data):
        """The objects of a stream, the last one first."""
        return [json.loads(line) for line in reversed(data.decode().split("\n")) if line.strip()]

    def too_long(self, o):
        assert self.error(400, o).startswith(TOO_LONG) and "context_length_exceeded" in self.error(400, o), o


class Ollama(Dialect):
    any_name = False

    def error(self, status, o):
        assert list(o) == ["error"] and isinstance(o["error"], str), o
        return o["error"]


class Generate(Ollama):
    def ask(self, text, stream=False, model=MODEL, system=None):
        return {"model": model, "stream": stream, "prompt": text, **({"system": system} if system else {})}


class OpenAI(Dialect):
    param = "messages"

    def error(self, status, o):
        e = o["error"]
        assert list(o) == ["error"] and isinstance(e["message"], str) and isinstance(e["type"], str), o
        assert e["code"] == status or e["type"] == "NotFoundError", o
        return e["message"]

    def parts(self, data):
        return [json.loads(e[6:]) for e in reversed(data.decode().split("\n\n")) if e.startswith("data: {")]

    def too_long(self, o):
        super().too_long(o)
        e = o["error"]
        assert (e["type"], e["param"], e["n_ctx"]) == ("invalid_request_error", self.param, 4096) and e["n_prompt_tokens"] > 4096, o


class Text(OpenAI):
    param = "prompt"

    def ask(self, text, stream=False, model=MODEL, system=None):
        return {"model": model, "stream": stream, "prompt": text}

    def overflow(self, text):
        return {**self.ask(text), "echo": True}  # one that is not cut


class Anthropic(Dialect):
    overloaded = 529
    TYPES = {400: "invalid_request_error", 404: "not_found_error", 413: "request_too_large", 529: "overloaded_error", 422: "invalid_request_error"}

    def ask(self, text, stream=False, model=MODEL, system=None):
        return {"model": model, "stream": stream, "max_tokens": 64, "messages": [{"role": "user", "content": text}], **({"system": system} if system else {})}

    def error(self, status, o):
        assert o["type"] == "error" and o["request_id"].startswith("req_") and isinstance(o["error"]["message"], str), o
        assert o["error"]["type"] == self.TYPES.get(status, "api_error"), (status, o)
        return o["error"]["message"]

    def parts(self, data):
        return [json.loads(e.split("data: ", 1)[1]) for e in reversed(data.decode().split("\n\n")) if "data: {" in e]

    def too_long(self, o):
        words = self.error(400, o).split()
        assert words[:4] == ["prompt", "is", "too", "long:"] and words[5:] == ["tokens", ">", "4096", "maximum"] and int(words[4]) > 4096, o


class Responses(Dialect):
    def ask(self, text, stream=False, model=MODEL, system=None):
        return {"model": model, "stream": stream, "input": text, **({"instructions": system} if system else {})}

    def error(self, status, o):
        if o.get("type") == "response.failed":
            assert o["response"]["status"] == "failed" and o["response"]["error"]["code"] in ("server_error", "invalid_prompt"), o
            return o["response"]["error"]["message"]
        e = o["error"]
        assert list(o) == ["error"] and isinstance(e["type"], str) and e["code"] in (None, "context_length_exceeded"), o
        return e["message"]

    parts = Anthropic.parts

    def too_long(self, o):
        super().too_long(o)
        e = o["error"]
        assert (e["type"], e["param"], e["n_ctx"]) == ("invalid_request_error", "input", 4096) and e["n_prompt_tokens"] > 4096, o
        assert e["code"] == "context_length_exceeded"


DIALECTS = [Ollama("/api/chat"), Generate("/api/generate"), OpenAI("/v1/chat/completions"), Text("/v1/completions"), Anthropic("/v1/messages"),
            Responses("/v1/responses")]


@pytest.fixture
def alone(fake, tandem):
    """alone(kind, ...) -> (tandem, its one backend)."""

    def start(kind, options=(), device=None, wait=True, **groups):
        a = fake("main", type=kind, options=("--num-ctx", "4096", *options))
        return tandem([attached(a, **{"slots": 2, "num_ctx": 4096, **(device or {})})], wait=wait, **groups), a

    return start


def refused(t, d, body, status, timeout=30):
    """What is said instead of an answer, and its headers."""
    got, headers, data = t.request("POST", d.path, body, timeout=timeout)
    assert got == status, (d, got, data[:300])
    assert headers["Content-Type"].startswith("application/json"), (d, headers["Content-Type"])
    assert headers["X-Tandem-Request-Id"] and headers["X-Tandem-Reason"]
    o = json.loads(data)
    return o, headers


def answers(t, d):
    """Nothing that went wrong before is left of it."""
    status, _, data = t.request("POST", d.path, d.ask("hi"))
    assert status == 200, (d, data)


def unavailable(t, why):
    """What each dialect is told when its request has waited long enough for the device; all at once, since they wait."""
    waiting = [(d, in_thread(lambda d=d, stream=stream: refused(t, d, d.ask("hi", stream), d.overloaded))) for d in DIALECTS for stream in (False, True)]
    for d, asked in waiting:
        o, headers = asked.join()
        assert why in d.error(d.overloaded, o), o
        assert int(headers["Retry-After"]) > 0


@pytest.mark.parametrize("kind", BACKS)
def test_overflow(alone, kind):
    t, a = alone(kind)
    for d in DIALECTS:
        o, headers = refused(t, d, d.overflow(prose(40000)), 400)
        d.too_long(o)
        assert headers["X-Tandem-Strategy"] == "refused"
        answers(t, d)


@pytest.mark.parametrize("kind", BACKS)
def test_an_unknown_model(alone, kind):
    t, a = alone(kind)
    for d in DIALECTS:
        body = d.ask("hi", model="nobody:7b")
        if kind == "llama-server" and d.any_name:
            assert t.request("POST", d.path, body)[0] == 200, "it answers with what it has"
            continue
        o, headers = refused(t, d, body, 404)
        assert "nobody:7b" in d.error(404, o), o
        answers(t, d)


def test_an_ollama_that_loads(alone):
    """It does so while the client waits."""
    t, a = alone("ollama", options=("--load-ms", "300"))
    for d in DIALECTS:
        answers(t, d)


def test_a_backend_that_is_loading(alone):
    """llama-server says 503 for so long, and so does tandem when it has waited; others do not listen yet: that is one that is gone."""
    t, a = alone("llama-server", options=("--load-ms", "600000"), wait=False, deadlines={"main_wait_ms": 100})
    wait_for(lambda: t.device("gpu0")["backend"]["state"] == "loading", "the load to be seen")
    unavailable(t, "is loading its model")


@pytest.mark.parametrize("kind", BACKS)
def test_a_backend_that_is_gone(alone, kind):
    t, a = alone(kind, deadlines={"main_wait_ms": 100})
    a.stop()
    t.chat("hi")  # who is asked notices at once
    wait_for(lambda: t.device("gpu0")["state"] != "ready", "the backend to be missed")
    unavailable(t, "does not answer")


@pytest.mark.parametrize("kind", BACKS)
def test_a_backend_that_dies_before_its_first_byte(alone, kind):
    """Each time it is asked: it may be what it is asked that kills it, so that no library should ask again."""
    t, a = alone(kind, deadlines={"main_wait_ms": 2000})
    for d in DIALECTS:
        for stream in (False, True):
            o, _ = refused(t, d, d.ask("[[fake fault=refuse]] hi", stream), 422)
            assert d.error(422, o)
            t.wait_ready()
        answers(t, d)


@pytest.mark.parametrize("fault,status", [("cut=3", 422), ("error_after=3&error=boom", 500), ("end=3", 502)])
@pytest.mark.parametrize("kind", BACKS)
def test_a_backend_that_dies_in_the_middle(alone, kind, fault, status):
    """A stream keeps what has come and ends with one error of its dialect; what is no stream yet has a status."""
    t, a = alone(kind, deadlines={"main_wait_ms": 2000}, limits={"resume_bytes": 0})
    for d in DIALECTS:
        text = f"[[fake tokens=9&{fault}]] hi"
        with Wire(t) as w:
            w.send("POST", d.path, d.ask(text, True)).head()
            assert w.status == 200, d
            last, *before = d.parts(w.body())
        assert d.error(last.get("error", {}).get("code", 500) if isinstance(d, OpenAI) else 500, last), (d, last)
        assert before and not any("error" in o for o in before) and "w1" in json.dumps(before), (d, before)
        t.wait_ready()
        if fault.startswith("cut"):
            o, _ = refused(t, d, d.ask(text), status)
            assert d.error(status, o), o
        t.wait_ready()
        answers(t, d)


DEEP = b'{"model":"m:1b","x":' + b"[" * 5000 + b"]" * 5000 + b"}"
MALFORMED = [b"", b"{", b"[]", b"null", b'"x"', b'{"model":"m:1b",}', b"{'model':1}", b"\xff\xfe", DEEP, DEEP.replace(b"[", b'{"a":').replace(b"]", b"}")]


@pytest.mark.parametrize("kind", BACKS)
def test_what_is_no_request(alone, kind):
    t, a = alone(kind)
    for d in DIALECTS:
        for body in MALFORMED:
            o, _ = refused(t, d, body, 400)
            text = d.error(400, o)
            assert text and "m:1b" not in text, (d, body[:80], text)
        answers(t, d)
    assert not any(b"[[[[" in body for body in a.bodies())


@pytest.mark.parametrize("text", ["caf\u00e9 \u00fc".encode("latin-1"), b"cut \xe2\x82", b"\xff\xfe odd \xed\xa0\x80", b"\\ud83d alone"])
@pytest.mark.parametrize("kind", BACKS)
def test_text_that_is_not_utf8(alone, kind, text):
    """As Ollama takes it, with U+FFFD for what is none."""
    t, a = alone(kind)
    for d in DIALECTS:
        body = json.dumps(d.ask("hi @")).encode().replace(b"@", text)
        status, _, data = t.request("POST", d.path, body)
        assert status == 200, (d, data)
        sent = next(b for b in reversed(a.bodies()) if b"hi " in b)
        assert json.loads(sent), d
        said = b"hi " + text
        assert said in sent if kind == "ollama" and b"\\u" in text else b"hi " in sent and (b"\\u" in text or text.decode(errors="replace").encode() in sent), (d, sent)


@pytest.mark.parametrize("kind", BACKS)
def test_a_body_of_100_mb(alone, kind):
    """Over limits.body_bytes: refused by its length, before it is sent; and where no length is told, by what has come."""
    t, a = alone(kind, limits={"body_bytes": 1 << 20})
    for d in DIALECTS:
        with Wire(t) as w:
            w.send("POST", d.path, json.dumps(d.ask("x")).encode(), length=100_000_000).head()
            assert w.status == 413, (d, w.status)
            assert "limits.body_bytes" in d.error(413, json.loads(w.body()))
        with Wire(t) as w:
            w.send("POST", d.path, headers=["Transfer-Encoding: chunked", "Content-Type: application/json"])
            try:
                for _ in range(20):
                    w.sock.sendall(b"%x\r\n%s\r\n" % (1 << 17, b" " * (1 << 17)))
            except OSError:
                pass  # the answer is there already
            w.head()
            assert w.status == 413, (d, w.status)
            assert "limits.body_bytes" in d.error(413, json.loads(w.body()))
        answers(t, d)
    t.wait_idle()


@pytest.mark.parametrize("d", DIALECTS, ids=repr)
def test_a_message_of_20_mb(alone, d):
    """Within the limits of a body, far over any window: read once, refused in the dialect's own words."""
    t, a = alone("ollama")
    o, _ = refused(t, d, d.overflow(prose(20_000) * 1000), 400, timeout=90)
    d.too_long(o)
    assert not any(len(body) > 1 << 20 for body in a.bodies())
    t.wait_idle()
