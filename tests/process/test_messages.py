"""Anthropic's /v1/messages by any backend, with what all chats get: the layout, the queue, heartbeats, errors in its form, going on after
a death, counts, lists of models."""

import json
import os
import signal

import pytest

from dialect import MODEL, last_body, words
from harness import alive, wait_for
from wire import Wire

PATH, COUNT = "/v1/messages", "/v1/messages/count_tokens"
KINDS = ["ollama", "llama-server"]
VERSION = {"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14", "x-api-key": "unused"}
TOOLS = [{"name": "read", "description": "Reads a file.", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}]


def ask(content, **more):
    messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
    return {"model": MODEL, "max_tokens": 512, "messages": messages, **more}


def events(data):
    """(name, object) of each event; heartbeats and all."""
    out = []
    for block in data.decode().split("\n\n"):
        if not block:
            continue
        name, line = block.split("\n")
        assert name.startswith("event: ") and line.startswith("data: "), block
        out.append((name[7:], json.loads(line[6:])))
        assert out[-1][1]["type"] == out[-1][0], block
    return out


def blocks(data):
    """The message that a stream adds up to; its order is held."""
    message, open_at, n = None, None, 0
    for name, e in events(data):
        if name == "ping":
            continue
        if name == "message_start":
            assert message is None
            message = e["message"]
        elif name == "content_block_start":
            assert open_at is None and e["index"] == n
            open_at, n = e["index"], n + 1
            message["content"].append({**e["content_block"], "json": ""})
        elif name == "content_block_delta":
            assert e["index"] == open_at
            block, d = message["content"][-1], e["delta"]
            for kind, member, to in (("text_delta", "text", "text"), ("thinking_delta", "thinking", "thinking"),
                                     ("signature_delta", "signature", "signature"), ("input_json_delta", "partial_json", "json")):
                if d["type"] == kind:
                    block[to] += d[member]
        elif name == "content_block_stop":
            assert e["index"] == open_at
            open_at = None
            text = message["content"][-1].pop("json")
            if text:
                message["content"][-1]["input"] = json.loads(text)
        elif name == "message_delta":
            assert open_at is None
            message.update(e["delta"], usage=e["usage"])
        elif name == "message_stop":
            message["stopped"] = True
        else:
            raise AssertionError((name, e))
    assert message.pop("stopped")
    return message


@pytest.fixture
def pair(one_device):
    return one_device


def post(t, body, path=PATH, **headers):
    status, head, data = t.request("POST", path, body, {**VERSION, **headers})
    return status, head, json.loads(data)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_streamed_and_not(pair, kind):
    t, a = pair(kind)
    body = ask("[[fake tokens=5 thinking=3]] hi", system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
               thinking={"type": "enabled", "budget_tokens": 1024}, metadata={"user_id": "u"}, stop_sequences=["zz"], temperature=1)
    status, head, whole = post(t, body, PATH + "?beta=true")
    assert status == 200 and head["request-id"].startswith("req_") and head["X-Tandem-Strategy"] == "A", whole
    assert (whole["type"], whole["role"], whole["model"], whole["stop_reason"]) == ("message", "assistant", MODEL, "end_turn")
    thinking, text = whole["content"]
    assert thinking["type"] == "thinking" and thinking["thinking"] and thinking["signature"]
    assert (text["type"], text["text"]) == ("text", words(5))
    assert whole["usage"]["output_tokens"] == 8 and whole["usage"]["input_tokens"] + whole["usage"]["cache_read_input_tokens"] > 0
    status, head, data = t.request("POST", PATH, {**body, "stream": True}, VERSION)
    assert status == 200 and head["content-type"].startswith("text/event-stream") and head["request-id"]
    streamed = blocks(data)
    assert [(b["type"], b.get("text") or b.get("thinking")) for b in streamed["content"]] == \
        [("thinking", thinking["thinking"]), ("text", words(5))]
    assert streamed["stop_reason"] == "end_turn" and streamed["usage"]["output_tokens"] == 8
    if kind == "llama-server":  # the second request's prompt was the first one's
        assert streamed["usage"]["cache_read_input_tokens"] > streamed["usage"]["input_tokens"] > 0
    sent = last_body(a)
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."} and b"cache_control" not in a.bodies()[-1]
    if kind == "ollama":
        assert sent["options"] == {"num_ctx": 8192, "num_predict": 512, "temperature": 1, "stop": ["zz"]} and sent["truncate"] is False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
def test_calls_at_once_and_their_results(pair, kind, stream):
    t, a = pair(kind)
    question = "[[fake tokens=2&tool=read&args=%7B%22path%22%3A%22a.c%22%7D&tool=read&args=%7B%22path%22%3A%22b.c%22%7D]] read"
    messages = [{"role": "user", "content": question}]
    status, _, data = t.request("POST", PATH, ask(messages, tools=TOOLS, stream=stream), VERSION)
    answer = blocks(data) if stream else json.loads(data)
    calls = [b for b in answer["content"] if b["type"] == "tool_use"]
    assert answer["stop_reason"] == "tool_use" and [c["input"] for c in calls] == [{"path": "a.c"}, {"path": "b.c"}]
    assert len({c["id"] for c in calls}) == 2 and all(c["id"] for c in calls)
    messages += [{"role": "assistant", "content": answer["content"]},
                 {"role": "user", "content": [{"type": "tool_result", "tool_use_id": calls[0]["id"], "content": "one"},
                                              {"type": "tool_result", "tool_use_id": calls[1]["id"], "is_error": True,
                                               "content": [{"type": "text", "text": "two"}]},
                                              {"type": "text", "text": "[[fake tokens=3]] go on"}]}]
    status, _, answer = post(t, ask(messages, tools=TOOLS))
    assert status == 200 and answer["content"][0]["text"] == words(3), answer
    sent = last_body(a)["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "tool", "user"]
    assert [m["tool_call_id"] for m in sent[2:4]] == [c["id"] for c in calls]
    assert [m["content"] for m in sent[2:4]] == ["one", "Error:\ntwo"]
    one = ask(question, tools=TOOLS, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert len([b for b in post(t, one)[2]["content"] if b["type"] == "tool_use"]) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_errors_have_its_form(pair, kind):
    t, a = pair(kind)

    def error(body, status, type, words, path=PATH):
        got, head, o = post(t, body, path)
        assert got == status and o["type"] == "error" and o["error"]["type"] == type and words in o["error"]["message"], o
        assert o["request_id"] == head["request-id"] and head["request-id"].startswith("req_")
        return head

    error({"model": MODEL, "messages": []}, 400, "invalid_request_error", "max_tokens: Field required")
    error(b"{", 400, "invalid_request_error", "JSON")
    error(ask("x", tools=[{"type": "web_search_20250305", "name": "web_search"}]), 400, "invalid_request_error", '"web_search"')
    error(ask("[[fake fault=400&error=no+such+thing]]"), 400, "invalid_request_error", "no such thing")
    error(ask("[[fake fault=404&error=model+%27x%27+not+found]]"), 404, "not_found_error", "not found")
    error(ask("[[fake fault=500&error=broken]]"), 500, "api_error", "broken")
    error(ask("[[fake fault=500&error=broken]]", stream=True), 500, "api_error", "broken")
    head = error(ask([{"role": "user", "content": "a " * 40000}, {"role": "assistant", "content": "b"}]), 400, "invalid_request_error",
                 "prompt is too long: ")
    _, _, o = post(t, ask([{"role": "user", "content": "a " * 40000}, {"role": "assistant", "content": "b"}]))
    numbers = o["error"]["message"].removeprefix("prompt is too long: ").removesuffix(" maximum").split(" tokens > ")
    assert int(numbers[0]) > int(numbers[1]) == 8192, o
    status, _, data = t.request("POST", PATH, ask("[[fake error_after=2&error=gone]]", stream=True), VERSION)
    name, e = events(data)[-1]
    assert status == 200 and name == "error" and "gone" in e["error"]["message"] and e["request_id"]
    name, e = events(data)[0]
    assert name == "message_start" and 0 < e["message"]["usage"]["input_tokens"] < 100, e


def test_a_backend_away_is_overload(pair):
    t, a = pair("llama-server", deadlines={"main_wait_ms": 200})
    a.stop()
    for path in (PATH, COUNT):
        status, head, o = post(t, ask("x"), path)
        assert o["type"] == "error" and o["error"]["type"] == "overloaded_error" and int(head["Retry-After"]) > 0, (path, o)
        assert path != PATH or status == 529


@pytest.mark.parametrize("kind", KINDS)
def test_heartbeats_are_pings(pair, kind):
    t, a = pair(kind, deadlines={"first_byte_ms": 300, "heartbeat_ms": 50})
    with Wire(t) as w:
        w.send("POST", PATH, ask("[[fake delay_ms=1200&tokens=4]] hi", stream=True))
        assert w.head().status == 200 and w.head_s < 1.0
        data = w.body()
    names = [n for n, _ in events(data)]
    assert names[:3] == ["ping"] * 3 and blocks(data)["content"][0]["text"] == words(4)
    with Wire(t) as w:
        w.send("POST", PATH, ask("[[fake delay_ms=1200&fault=500&error=broken]] hi", stream=True))
        assert w.head().status == 200
        last = events(w.body())[-1]
    assert last[0] == "error" and last[1]["error"] == {"type": "api_error", "message": "broken"} and last[1]["request_id"]
    t.wait_idle()


@pytest.mark.parametrize("path,words", [(PATH, "prompt is too long: 9000 tokens > 8192 maximum"), ("/v1/chat/completions", "(context_length_exceeded)"),
                                        ("/api/chat", "(context_length_exceeded)")])
@pytest.mark.parametrize("kind", KINDS)
def test_an_overflow_behind_heartbeats_has_the_words_that_agents_know(pair, kind, path, words):
    t, a = pair(kind, deadlines={"first_byte_ms": 200, "heartbeat_ms": 50})
    said = "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it"
    a.fault(times=-1, match="too long", delay_ms=800, fault=400, error=said)
    status, _, data = t.request("POST", path, ask("too long", stream=True), VERSION)
    assert status == 200 and words in data.decode().strip().splitlines()[-1], data


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_goes_on_after_a_workers_death(pair, kind):
    t, a = pair(kind, options=["--answer-tokens", "40"])
    pid = t.device("gpu0")["pid"]
    a.fault(times=1, hang_after=8)
    with Wire(t) as w:
        w.send("POST", PATH, ask("once", max_tokens=30, stream=True))
        assert w.head().status == 200
        data = b""
        while b"w5" not in data:
            data += w.piece()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid), "its death")
        a.go()  # where the backend keeps its streams
        data += w.body()
    answer = blocks(data)
    assert [b["text"] for b in answer["content"]] == [words(30)]
    assert (answer["stop_reason"], answer["usage"]["output_tokens"]) == ("max_tokens", 30)
    assert t.status()["requests"]["resumed"] == 1


def test_a_retry_joins(pair):
    t, a = pair("ollama", limits={"coalesce_after_ms": 0})
    body = ask([{"role": "user", "content": [{"type": "text", "text": "[[fake tokens=3]] hi", "cache_control": {"type": "ephemeral"}}]}])
    with Wire(t) as first, Wire(t) as second:
        a.fault(times=1, delay_ms=600000)
        first.send("POST", PATH, body)
        a.struck()
        second.send("POST", PATH, body)
        wait_for(lambda: t.requests()["coalesced"] == 1, "the second joined")
        a.go()
        answers = []
        for w in (first, second):
            assert w.head().status == 200
            answers.append(w.body())
    assert answers[0] == answers[1] and json.loads(answers[0])["content"][0]["text"] == words(3)


@pytest.mark.parametrize("kind", KINDS)
def test_it_waits_its_turn(pair, kind):
    t, a = pair(kind, device={"slots": 1})
    a.fault(times=1, fault="hang", match="block")
    with Wire(t) as blocker, Wire(t) as w:
        blocker.send("POST", PATH, ask("block"))
        wait_for(lambda: t.device("gpu0")["inflight"] == 1, "a busy slot")
        w.send("POST", PATH, ask("next"))
        wait_for(lambda: t.device("gpu0")["waiting"] == 1, "one that waits")
        assert t.request("POST", COUNT, {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}, VERSION)[0] == \
            (200 if kind == "ollama" else 404)  # the scripted llama-server has no such route
        blocker.close()
        assert w.head().status == 200 and w.body()
    t.wait_idle()


def test_tokens_are_counted_without_the_backend(pair):
    t, a = pair("ollama")
    asked = a.stats()["requests"]

    def count(**more):
        status, head, o = post(t, {"model": MODEL, "messages": [{"role": "user", "content": "many words " * 400}], **more}, COUNT)
        assert status == 200 and head["request-id"] and head["X-Tandem-Reason"] == "counted by the gateway", o
        return o["input_tokens"]

    first = count()
    assert 700 < first < 1800
    assert count(tools=TOOLS, system="You are a helpful assistant.") > first + 20
    assert a.stats()["requests"] == asked
    assert post(t, {"model": MODEL}, COUNT)[2]["error"]["message"] == "messages: Field required"
    # What the backend counts of the same teaches it.
    answer = post(t, ask("many words " * 400))[2]
    assert abs(count() - answer["usage"]["input_tokens"]) < answer["usage"]["input_tokens"] * 0.1
    t.wait_idle()


@pytest.mark.parametrize("kind", KINDS)
def test_models_are_listed_in_its_form(pair, kind):
    t, a = pair(kind)
    status, _, data = t.request("GET", "/v1/models?limit=1000", headers=VERSION)
    listed = json.loads(data)
    (model,) = listed["data"]
    assert status == 200 and model["type"] == "model" and model["id"] == model["display_name"] == MODEL
    assert model["created_at"].endswith("Z") and listed["has_more"] is False and listed["first_id"] == listed["last_id"] == MODEL
    assert json.loads(t.request("GET", "/v1/models/" + MODEL, headers=VERSION)[2]) == model
    assert json.loads(t.request("GET", "/v1/models")[2])["object"] == "list"
    if kind == "llama-server":
        status, _, data = t.request("GET", "/v1/models/none", headers=VERSION)
        assert status == 404 and json.loads(data)["error"]["type"] == "not_found_error"


def agent_session(turns, chars=4000):
    """A growing history as an agent sends it: the mark for a cache is on the newest message alone, whose text is a list there."""
    messages = [{"role": "user", "content": "Find out why the parser is slow."}]
    for i in range(turns):
        marked = [dict(m) for m in messages]
        content = marked[-1]["content"]
        content = [{"type": "text", "text": content}] if isinstance(content, str) else [dict(b) for b in content]
        content[-1]["cache_control"] = {"type": "ephemeral"}
        marked[-1]["content"] = content
        yield marked
        text = "\n".join(f"src/part_{i}_{n}.c: value_{n} = {n * 37 + i}" for n in range(chars // 32))
        messages += [{"role": "assistant", "content": [{"type": "thinking", "thinking": "Next.", "signature": "s"},
                                                       {"type": "text", "text": f"I read part {i}."},
                                                       {"type": "tool_use", "id": f"t{i}", "name": "read", "input": {"path": f"part_{i}.c"}}]},
                     {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"t{i}", "content": text},
                                                  {"type": "text", "text": "<system-reminder>Mind the budget.</system-reminder>"}]}]


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_past_the_window_is_laid_out(pair, kind):
    t, a = pair(kind, routing={"mode": "adaptive"})
    fresh, reasons = [], []
    for messages in agent_session(24):
        status, head, o = post(t, ask(messages, tools=TOOLS, system="You are a coding agent."))
        assert status == 200, o
        reasons.append(head["X-Tandem-Reason"])
        sent = last_body(a)["messages"]
        calls = {c["id"] for m in sent for c in m.get("tool_calls", [])}
        assert {m["tool_call_id"] for m in sent if m["role"] == "tool"} == calls
        assert sent[0]["role"] == "system" and "parser is slow" in json.dumps(sent)
    requests = t.status()["requests"]
    assert requests["failed"] == 0 and requests["refused"] == 0, reasons
    tokens = [dict(p.split("=") for p in [*head["X-Tandem-Tokens"].split()])]
    assert int(tokens[0]["sent"]) < int(tokens[0]["in"]) / 2 and int(tokens[0]["in"]) > 8192
    # By the backend's own count; ours is an estimate with a slack.
    assert max(r["prompt_tokens"] for r in a.stats()["last"] if r.get("prompt_tokens")) < 8192


def test_what_would_be_done_is_told(pair):
    t, a = pair("ollama")
    status, _, o = post(t, ask("hi"), **{"X-Tandem-Explain": "1"})
    assert status == 200 and o["strategy"] == "A" and not a.bodies()[-1].count(b'"messages"'), o
