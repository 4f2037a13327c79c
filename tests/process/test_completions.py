"""/v1/completions: a prompt for no chat template, by any backend, with what chats get: the window, the queue, heartbeats, errors in
their form, going on after a death."""

import json
import os
import signal

import openai
import pytest

from harness import sse, wait_for
from wire import Wire

PATH = "/v1/completions"
KINDS = ["ollama", "llama-server"]
MODEL = "m:1b"


def words(n):
    return " ".join(f"w{i}" for i in range(n))


@pytest.fixture
def pair(tandem, fake):
    """pair(kind) is a tandem with one main device of that kind, and its backend."""

    def start(kind, options=(), device=None, **groups):
        a = fake("a", type=kind, options=["--num-ctx", "8192", *options])
        t = tandem([{"name": "gpu0", "roles": ["main"], "slots": 2, "model": MODEL, "num_ctx": 8192,
                     "backend": {"type": kind, "url": a.url}, **(device or {})}], **groups)
        return t, a

    return start


def client(t):
    return openai.OpenAI(base_url=t.url + "/v1", api_key="unused", max_retries=0)


def last_bytes(a):
    """Of the last request for an answer."""
    return next(b for b in reversed(a.bodies()) if b'"prompt"' in b or b'"input_prefix"' in b)


def last_body(a):
    return json.loads(last_bytes(a))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", ["def f(", ["def f("]])
def test_the_package_gets_its_answer(pair, kind, prompt):
    t, a = pair(kind)
    c = client(t)
    raw = c.completions.with_raw_response.create(model=MODEL, prompt=prompt, max_tokens=5, stop=["zz"], temperature=0)
    whole = raw.parse()
    assert (whole.object, whole.choices[0].text, whole.choices[0].finish_reason) == ("text_completion", words(5), "length")
    assert whole.usage.completion_tokens == 5 and whole.usage.prompt_tokens > 0
    assert raw.headers["x-tandem-strategy"] == "A" and raw.headers["x-tandem-device"] == "gpu0"
    chunks = list(c.completions.create(model=MODEL, prompt=prompt, max_tokens=5, stream=True, stream_options={"include_usage": True}))
    assert "".join(x.choices[0].text for x in chunks if x.choices) == words(5)
    assert {x.object for x in chunks} == {"text_completion"} and len({x.id for x in chunks}) == 1
    assert [x.choices[0].finish_reason for x in chunks if x.choices][-1] == "length"
    assert chunks[-1].usage.completion_tokens == 5
    body = last_body(a)
    if kind == "ollama":  # its own API, the device's window, nothing cut in silence, no template
        assert body["raw"] is True and body["prompt"] == "def f(" and body["truncate"] is False
        assert body["options"] == {"num_ctx": 8192, "num_predict": 5}
    else:
        assert body["prompt"] == prompt and body["max_tokens"] == 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_suffix_is_filled_in(pair, kind, stream):
    t, a = pair(kind)
    answer = client(t).completions.create(model=MODEL, prompt="a(", suffix=")\nb", max_tokens=4, stream=stream)
    text = "".join(x.choices[0].text for x in answer) if stream else answer.choices[0].text
    assert text == words(4)
    body = last_body(a)
    if kind == "ollama":
        assert (body["prompt"], body["suffix"]) == ("a(", ")\nb") and "raw" not in body and body["options"]["num_ctx"] == 8192
    else:
        assert (body["input_prefix"], body["input_suffix"], body["n_predict"]) == ("a(", ")\nb", 4)


def test_a_model_that_takes_no_suffix_says_so(pair):
    t, a = pair("ollama", options=["--no-insert"])
    with pytest.raises(openai.BadRequestError, match="does not support insert"):
        client(t).completions.create(model=MODEL, prompt="a(", suffix=")")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
def test_the_prompt_is_echoed(pair, kind, stream):
    t, a = pair(kind)
    answer = client(t).completions.create(model=MODEL, prompt='say "it"\n', echo=True, max_tokens=3, stream=stream)
    text = "".join(x.choices[0].text for x in answer) if stream else answer.choices[0].text
    assert text == 'say "it"\n' + words(3)
    assert "echo" not in last_body(a)


def test_llama_servers_own_members_stay(pair):
    t, a = pair("llama-server")
    for more in ({}, {"echo": True}, {"suffix": "x"}):
        status, _, data = t.request("POST", PATH, {"model": MODEL, "prompt": "p", "dry_multiplier": 0.50, "id_slot": 0, "max_tokens": 2, **more})
        assert status == 200 and json.loads(data)["choices"][0]["text"].endswith(words(2)), data
        assert last_body(a)["dry_multiplier"] == 0.5 and last_body(a)["id_slot"] == 0


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_of_ollama_become_lists(pair, stream):
    t, a = pair("ollama")
    answer = client(t).completions.create(model=MODEL, prompt="p", logprobs=2, max_tokens=3, stream=stream)
    got = [x.choices[0].logprobs for x in answer if x.choices[0].logprobs] if stream else [answer.choices[0].logprobs]
    tokens = [token for one in got for token in one.tokens]
    assert "".join(tokens) == words(3)
    offsets = [n for one in got for n in one.text_offset]
    assert offsets == [len("".join(tokens[:i])) for i in range(len(tokens))]
    assert all(v == -0.25 for one in got for v in one.token_logprobs)
    assert got[0].top_logprobs[0] == {tokens[0]: -0.25}
    assert (last_body(a)["logprobs"], last_body(a)["top_logprobs"]) == (True, 2)


@pytest.mark.parametrize("kind,more,words_said", [
    ("ollama", {"n": 2}, "one answer"), ("ollama", {"best_of": 3}, "one answer"),
    ("ollama", {"prompt": ["a", "b"]}, "one prompt"), ("ollama", {"prompt": [1, 2, 3]}, "one prompt"),
    ("ollama", {"prompt": ""}, "not empty"), ("ollama", {"logit_bias": {"50256": -100}}, "logit_bias"),
    ("ollama", {"echo": True, "logprobs": 1}, "echo together with logprobs"),
    ("llama-server", {"echo": True, "logprobs": 1}, "echo together with logprobs"),
    ("llama-server", {"suffix": "x", "logprobs": 1}, "no logprobs"), ("llama-server", {"best_of": 3}, "best_of"),
    ("llama-server", {"prompt": ["a", "b"], "echo": True}, "echo"), ("ollama", {"prompt": None}, "'prompt' is required"),
    ("llama-server", {"prompt": 7}, "must be a string"),
])
def test_what_cannot_be_done_is_said(pair, kind, more, words_said):
    t, a = pair(kind)
    status, headers, data = t.request("POST", PATH, {"model": MODEL, "prompt": "p", **more})
    error = json.loads(data)["error"]
    assert status == 400 and words_said in error["message"] and error["type"] == "invalid_request_error", data
    assert t.status()["requests"]["refused"] == 1


def test_tokens_go_where_they_are_taken(pair):
    t, a = pair("llama-server")
    status, _, data = t.request("POST", PATH, {"model": MODEL, "prompt": [1, 2, 3, 4], "max_tokens": 2})
    assert status == 200 and json.loads(data)["choices"][0]["text"] == words(2), data
    assert last_body(a)["prompt"] == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_that_cannot_be_cut_gets_the_overflow_error(pair, kind):
    t, a = pair(kind)
    status, _, data = t.request("POST", PATH, {"model": MODEL, "prompt": "word " * 20000, "suffix": "x"})
    error = json.loads(data)["error"]
    assert status == 400 and "maximum context length" in error["message"] and "context_length_exceeded" in error["message"], data
    assert error["param"] == "prompt"


@pytest.mark.parametrize("kind", KINDS)
def test_one_prompt_that_does_not_fit_is_cut(pair, kind):
    t, a = pair(kind)
    middle = "\n".join(f"line {i} of the log says nothing of value" for i in range(2000))
    prompt = f"Header of the file.\n\n{middle}\n\nThe last sentence ends with"
    status, headers, data = t.request("POST", PATH, {"model": MODEL, "prompt": prompt, "max_tokens": 3})
    assert status == 200 and json.loads(data)["choices"][0]["text"] == words(3), data
    sent = last_body(a)["prompt"]
    assert len(sent) < len(prompt) / 2 and sent.startswith("Header of the file.") and sent.endswith("The last sentence ends with")


def test_a_prompt_that_fits_goes_as_it_is(pair):
    t, a = pair("llama-server", routing={"mode": "adaptive"})
    body = b'{ "model":"m:1b", "prompt" : "%s", "max_tokens":2,"x": 1.0e0 }' % (b"much text " * 1500)
    status, headers, _ = t.request("POST", PATH, body)
    assert status == 200
    assert last_bytes(a) == body


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", [None, "fault=500&error=out+of+memory", "cut=0"])
def test_a_stream_has_a_first_byte_in_time(pair, kind, fault):
    t, a = pair(kind, deadlines={"first_byte_ms": 300, "heartbeat_ms": 50})
    with Wire(t) as w:
        w.send("POST", PATH, {"model": MODEL, "prompt": f"[[fake delay_ms=1200{'&' + fault if fault else ''}]] hi", "stream": True})
        assert w.head().status == 200 and w.head_s < 1.0
        assert w.headers["content-type"].startswith("text/event-stream")
        data = w.body()
    assert len([e for e in data.split(b"\n\n") if e.startswith(b": keep-alive")]) >= 3, data
    events = [e for e in data.split(b"\n\n") if e.startswith(b"data: ")]
    if fault:
        error = json.loads(events[-1][6:])["error"]
        assert error["message"] and (fault == "cut=0" or "out of memory" in error["message"])
    else:
        assert events[-1] == b"data: [DONE]" and len(events) > 3
    t.wait_idle()


@pytest.mark.parametrize("kind", KINDS)
def test_it_waits_its_turn(pair, kind):
    t, a = pair(kind, device={"slots": 1})
    a.fault(times=1, fault="hang", match="block")
    with Wire(t) as blocker, Wire(t) as w:
        blocker.send("POST", PATH, {"model": MODEL, "prompt": "block"})
        wait_for(lambda: t.device("gpu0")["inflight"] == 1, "a busy slot")
        w.send("POST", PATH, {"model": MODEL, "prompt": "next"})
        wait_for(lambda: t.device("gpu0")["waiting"] == 1, "one that waits")
        blocker.close()
        assert w.head().status == 200 and w.body()
    t.wait_idle()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [{}, {"echo": True}, {"suffix": ")"}])
def test_an_answer_goes_on_after_a_workers_death(pair, kind, more):
    t, a = pair(kind, options=["--answer-tokens", "40", "--no-replay"])
    pid = t.device("gpu0")["pid"]
    a.fault(times=1, hang_after=8)
    with Wire(t) as w:
        w.send("POST", PATH, {"model": MODEL, "prompt": "once", "max_tokens": 30, "stream": True, "stream_options": {"include_usage": True},
                              **more})
        assert w.head().status == 200
        data = b""
        while b"w5" not in data:
            data += w.piece()
        os.kill(pid, signal.SIGKILL)
        data += w.body()
    events = [json.loads(e) for e in sse(data) if e != "[DONE]"]
    text = "".join(e["choices"][0]["text"] for e in events if e.get("choices"))
    assert text == ("once" if more.get("echo") else "") + words(30), data
    assert len({e["id"] for e in events}) == 1 and data.rstrip().endswith(b"data: [DONE]")
    assert [e["usage"]["completion_tokens"] for e in events if e.get("usage")] == [30]
    assert t.status()["requests"]["resumed"] == 1
    last = last_body(a)
    assert (last.get("prompt") or last["input_prefix"]).startswith("oncew0 w1")


def test_the_path_without_v1_is_the_same(pair):
    t, a = pair("ollama")
    status, headers, data = t.request("POST", "/completions", {"model": MODEL, "prompt": "p", "max_tokens": 2})
    assert status == 200 and json.loads(data)["choices"][0]["text"] == words(2) and headers["X-Tandem-Strategy"] == "A"
