"""The `anthropic` package: messages, streamed and not, tools, pictures, counts, models, errors."""

import base64
import json

import anthropic
import pytest

from prompts import ANSWER, BY_STRATEGY, MODEL, PNG, fake, prose

TOOL = {"name": "read_file", "description": "Reads a file.", "input_schema": {
    "type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}


def user(content):
    return [{"role": "user", "content": content}]


def create(site, content, **more):
    messages = content if isinstance(content, list) and content and "role" in content[0] else user(content)
    return site.anthropic().messages.create(model=MODEL, max_tokens=512, messages=messages, **more)


@pytest.mark.parametrize("strategy", BY_STRATEGY)
def test_message(site, strategy):
    with site.expect(**{strategy: 1}):
        raw = site.anthropic().messages.with_raw_response.create(model=MODEL, max_tokens=512, messages=user(BY_STRATEGY[strategy]))
    answer = raw.parse()
    assert (answer.type, answer.role, answer.model, answer.stop_reason) == ("message", "assistant", MODEL, "end_turn")
    assert [(b.type, b.text) for b in answer.content] == [("text", ANSWER)]
    assert answer.usage.output_tokens == 16 and answer.usage.input_tokens > 0
    assert answer._request_id.startswith("req_") and raw.headers["x-tandem-strategy"] == strategy


@pytest.mark.parametrize("strategy", BY_STRATEGY)
def test_message_streamed(site, strategy):
    with site.expect(**{strategy: 1}), \
            site.anthropic().messages.stream(model=MODEL, max_tokens=512, messages=user(BY_STRATEGY[strategy])) as stream:
        events = [e.type for e in stream if e.type not in ("text", "ping")]
        answer = stream.get_final_message()
    assert events[:2] == ["message_start", "content_block_start"] and events[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert [(b.type, b.text) for b in answer.content] == [("text", ANSWER)]
    assert answer.stop_reason == "end_turn" and answer.usage.output_tokens == 16
    assert answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0) > 0


@pytest.mark.parametrize("stream", [False, True])
def test_tools_and_their_results(site, stream):
    question = fake("Read two files.", tokens=2, tool="read_file", args={"path": "a.c"}).replace(
        "]]", "&tool=read_file&args=%7B%22path%22%3A%22b.c%22%7D]]")
    messages = user(question)
    if stream:  # the package's own accumulation is strict about indexes and fragments
        with site.anthropic().messages.stream(model=MODEL, max_tokens=512, messages=messages, tools=[TOOL]) as events:
            answer = events.get_final_message()
    else:
        answer = create(site, messages, tools=[TOOL])
    calls = [b for b in answer.content if b.type == "tool_use"]
    assert answer.stop_reason == "tool_use" and [c.input for c in calls] == [{"path": "a.c"}, {"path": "b.c"}]
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}}
    messages = [*messages, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": calls[0].id, "content": "int main;"},
        {"type": "tool_result", "tool_use_id": calls[1].id, "content": [{"type": "text", "text": "a chart"}, picture]}]}]
    answer = create(site, messages, tools=[TOOL], tool_choice={"type": "auto"})
    assert answer.content[0].text == ANSWER
    sent = json.loads(site.sent())["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "tool", "user"]
    assert base64.b64encode(PNG).decode() in json.dumps(sent[-1])


def test_thinking(site):
    with site.anthropic().messages.stream(model=MODEL, max_tokens=2048, messages=user(fake(thinking=4, tokens=3)),
                                          thinking={"type": "enabled", "budget_tokens": 1024}) as stream:
        answer = stream.get_final_message()
    thinking, text = answer.content
    assert (thinking.type, text.type, text.text) == ("thinking", "text", "w0 w1 w2") and thinking.thinking and thinking.signature
    again = create(site, [*user("a"), {"role": "assistant", "content": answer.content}, *user("b")])
    assert again.content[0].text == ANSWER
    assert thinking.thinking in site.sent()


def test_a_schema_and_stops(site):
    create(site, "hi", extra_body={"temperature": 0.5, "top_k": 3}, stop_sequences=["zz"], system=[{"type": "text", "text": "Be brief."}],
           output_config={"format": {"type": "json_schema", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}})
    sent = json.loads(site.sent())
    options = sent["options"] if site.kind == "ollama" else sent
    assert options["temperature"] == 0.5 and options["top_k"] == 3 and options["stop"] == ["zz"]
    schema = sent["format"] if site.kind == "ollama" else sent["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"a": {"type": "string"}}


def test_tokens_and_models(site):
    count = site.anthropic().messages.count_tokens(model=MODEL, messages=user(prose(4000)), tools=[TOOL])
    assert 700 < count.input_tokens < 1800
    models = list(site.anthropic().models.list())
    assert MODEL in [m.id for m in models] and all(m.type == "model" and m.created_at for m in models)
    assert site.anthropic().models.retrieve(MODEL).display_name == MODEL


@pytest.mark.parametrize("stream", [False, True])
def test_a_runner_sends_the_whole_conversation(site, stream):
    """The package has a server keep it, unless that says that it keeps none."""

    @anthropic.beta_tool
    def read_file(path: str) -> str:
        """Reads a file.

        Args:
            path: Where it is.
        """
        return "said by " + path

    runner = site.anthropic().beta.messages.tool_runner(model=MODEL, max_tokens=512, tools=[read_file], stream=stream, max_iterations=3,
                                                        messages=user(fake("Read it.", tokens=2, tool="read_file", args={"path": "a.c"})))
    reasons = [(item.get_final_message() if stream else item).stop_reason for item in runner]
    assert reasons == ["tool_use"] * 3  # the scripted model calls again, and again
    sent = json.loads(site.sent())["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "assistant", "tool"] and "Read it." in json.dumps(sent[0])
    assert "said by a.c" in json.dumps(sent[-1])


@pytest.mark.parametrize("stream", [False, True])
def test_a_runner_compacts_before_its_next_turn(site, stream):
    client, read = site.anthropic(), []

    @anthropic.beta_tool
    def read_file(path: str) -> str:
        """Reads a file.

        Args:
            path: Where it is.
        """
        read.append(path)
        return prose(9000)

    runner = client.beta.messages.tool_runner(model=MODEL, max_tokens=512, tools=[read_file], betas=["compact-2026-09-04"], stream=stream,
                                              messages=user(fake("Read it.", tokens=2, tool="read_file", args={"path": "a.c"})))
    reasons = []
    for item in runner:
        message = item.get_final_message() if stream else item
        reasons.append(message.stop_reason)
        if reasons == ["tool_use"]:
            runner.compact_before_next_turn()
        elif len(reasons) == 3:  # the scripted model calls again, and again
            break
    assert reasons == ["tool_use", "compaction", "tool_use"] and read == ["a.c"]
    sent = json.loads(site.sent())["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool"] and "Read it." in json.dumps(sent[0])


def test_errors(site):
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > \d+ maximum") as e:
        create(site, [*user(prose(200000)), {"role": "assistant", "content": "So"}])
    assert e.value.body["request_id"] == e.value.request_id and e.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.BadRequestError, match="web_search"):
        create(site, "hi", tools=[{"type": "web_search_20250305", "name": "web_search"}])
    with pytest.raises(anthropic.InternalServerError, match="out of memory"):
        create(site, fake(fault=500, error="out of memory"))
    with pytest.raises(anthropic.APIStatusError, match="gone") as e:
        for _ in create(site, fake(error_after=2, error="gone"), stream=True):
            pass
    assert e.value.body["error"]["type"] == "api_error"


def test_a_slow_stream_has_heartbeats(tandem_with, kind):
    site = tandem_with(kind, deadlines={"first_byte_ms": 200, "heartbeat_ms": 100})
    with site.anthropic(timeout=0.7).messages.stream(model=MODEL, max_tokens=9, messages=user(fake(delay_ms=2000, tokens=3))) as stream:
        assert stream.get_final_text() == "w0 w1 w2"
