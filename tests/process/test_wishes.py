"""What a request wishes for and its backend has no word of its own for: done by tandem, or said; never left out in silence."""

import json

import pytest

from conftest import attached
from harness import ndjson, sse

OPENAI, ANTHROPIC, RESPONSES, TEXT = "/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"
CALL = "[[fake tool=read&args=%7B%22path%22%3A%22a.c%22%7D]]"
TWO = "[[fake tool=read&args=%7B%7D&tool=list&args=%7B%7D]]"
NAMES = ["read", "list"]


@pytest.fixture
def alone(fake, tandem):
    """alone(kind) -> (tandem, its one backend)."""

    def start(kind, **groups):
        a = fake("main", type=kind)
        return tandem([attached(a, slots=2, num_ctx=4096)], **groups), a

    return start


def ask(path, text, stream=False, choice=None, **more):
    """A question with two tools, of which `choice` says what must be called: "required", or a name."""
    body = {"model": "m:1b", "stream": stream, "messages": [{"role": "user", "content": text}], **more}
    if path == RESPONSES:
        body["input"] = body.pop("messages")
        body["tools"] = [{"type": "function", "name": n, "parameters": {"type": "object"}} for n in NAMES]
        if choice:
            body["tool_choice"] = choice if choice == "required" else {"type": "function", "name": choice}
    elif path == ANTHROPIC:
        body["max_tokens"] = 64
        body["tools"] = [{"name": n, "input_schema": {"type": "object"}} for n in NAMES]
        if choice:
            body["tool_choice"] = {"type": "any"} if choice == "required" else {"type": "tool", "name": choice}
    else:
        body["tools"] = [{"type": "function", "function": {"name": n, "parameters": {"type": "object"}}} for n in NAMES]
        if choice:
            body["tool_choice"] = choice if choice == "required" else {"type": "function", "function": {"name": choice}}
    return body


def called(path, stream, data):
    """The names of the tools that an answer calls."""
    if path == RESPONSES:
        items = [e["item"] for e in map(json.loads, sse(data)) if e["type"] == "response.output_item.added"] if stream else json.loads(data)["output"]
        return [i["name"] for i in items if i["type"] == "function_call"]
    if path == ANTHROPIC:
        blocks = [json.loads(e).get("content_block") or {} for e in sse(data)] if stream else json.loads(data)["content"]
        return [b["name"] for b in blocks if b.get("type") == "tool_use"]
    if stream:
        chunks = [json.loads(e) for e in sse(data) if e != "[DONE]"]
        calls = [c for chunk in chunks for c in chunk["choices"][0]["delta"].get("tool_calls", ()) if "name" in c["function"]]
    else:
        calls = json.loads(data)["choices"][0]["message"].get("tool_calls", ())
    return [c["function"]["name"] for c in calls]


def offered(a):
    body = json.loads(next(b for b in reversed(a.bodies()) if b'"messages"' in b))
    return [tool["function"]["name"] for tool in body.get("tools", ())]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC, RESPONSES])
def test_a_tool_that_must_be_called_before_ollama(alone, path, stream):
    """It has no tool_choice: the named one is the only one offered, and an answer that calls none is no answer."""
    t, a = alone("ollama")
    for choice, tools in (("required", NAMES), ("read", ["read"]), (None, NAMES)):
        status, _, data = t.request("POST", path, ask(path, CALL, stream, choice))
        assert status == 200 and called(path, stream, data) == ["read"] and offered(a) == tools, data
    status, _, data = t.request("POST", path, ask(path, "no call", stream))
    assert status == 200 and b"called no tool" not in data, "nobody asked for one"
    for choice in ("required", "read"):
        status, _, data = t.request("POST", path, ask(path, "no call", stream, choice))
        if stream:
            assert status == 200 and b"w15" in data
            last = json.loads(sse(data)[-1])
            last = last.get("response", last)
        else:
            assert status == 422
            last = json.loads(data)
        assert "called no tool" in last["error"]["message"], last
    # what the limit cut off may have become one
    limit = "max_output_tokens" if path == RESPONSES else "max_tokens"
    status, _, data = t.request("POST", path, {**ask(path, "no call", stream, "required"), limit: 3})
    assert status == 200 and b"called no tool" not in data and b"w2" in data, data
    t.wait_idle()


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC, RESPONSES])
def test_a_tool_that_cannot_be_called(alone, path):
    t, a = alone("ollama")
    status, _, data = t.request("POST", path, ask(path, "hi", choice="delete"))
    text = json.loads(data)["error"]["message"]
    assert status == 400 and ("not among the tools" in text or "no tool of this type or name" in text), text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path,more", [(OPENAI, {"parallel_tool_calls": False}), (RESPONSES, {"parallel_tool_calls": False}),
                                       (ANTHROPIC, {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}})])
def test_one_call_at_a_time_before_ollama(alone, path, more, stream):
    t, a = alone("ollama")
    status, _, data = t.request("POST", path, ask(path, TWO, stream))
    assert status == 200 and called(path, stream, data) == NAMES, data
    status, _, data = t.request("POST", path, {**ask(path, TWO, stream), **more})
    assert status == 200 and called(path, stream, data) == ["read"], data


REFUSED = [{"n": 2}, {"logit_bias": {"5": 1}}, {"grammar": "root ::= x"}, {"mirostat": 1}, {"max_tokens": 0}, {"web_search_options": {}},
           {"modalities": ["audio"]}, {"response_format": {"type": "xml"}}, {"tools": [{"type": "custom", "custom": {"name": "x"}}]}]


@pytest.mark.parametrize("stream", [False, True])
def test_what_ollama_cannot_do_is_said(alone, stream):
    t, a = alone("ollama")
    for more in REFUSED:
        status, headers, data = t.request("POST", OPENAI, {**ask(OPENAI, "hi", stream), **more})
        e = json.loads(data)["error"]
        assert status == 400 and e["type"] == "invalid_request_error" and e["message"], (more, data)
    assert not any(b"messages" in b for b in a.bodies()), "none of it was asked"


@pytest.mark.parametrize("kind", ["ollama", "llama-server", "openai"])
def test_the_form_of_a_completion(alone, kind):
    """llama-server would leave response_format out here, and takes a schema under another name."""
    t, a = alone(kind)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    body = {"model": "m:1b", "prompt": "{", "max_tokens": 4, "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}
    status, _, data = t.request("POST", TEXT, body)
    assert status == 200 and json.loads(data)["choices"][0]["text"], data
    sent = json.loads(next(b for b in reversed(a.bodies()) if b'"prompt"' in b))
    assert {"ollama": sent.get("format"), "llama-server": sent.get("json_schema"), "openai": sent.get("response_format", {}).get("json_schema", {})
            .get("schema")}[kind] == schema, sent


def test_a_limit_of_none_before_a_llama_server(alone):
    """num_predict 0 is no limit to Ollama, and nothing at all to llama-server."""
    t, a = alone("llama-server")
    for path, said in (("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}), ("/api/generate", {"prompt": "hi"})):
        status, _, data = t.request("POST", path, {"model": "m:1b", **said, "options": {"num_predict": 0}})
        assert status == 200 and ndjson(data)[-1]["done_reason"] == "stop" and b"w15" in data, data
