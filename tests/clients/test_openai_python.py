"""The `openai` package: chat completions and what stands around them."""

import asyncio
import base64
import json
import math

import openai
import pytest
from pydantic import BaseModel

from harness import wait_for
from prompts import ANSWER, BY_STRATEGY, MODEL, PNG, SMALL_MODEL, fake, prose


def user(text):
    return [{"role": "user", "content": text}]


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


@pytest.mark.parametrize("strategy", BY_STRATEGY)
def test_chat(site, strategy):
    with site.expect(**{strategy: 1}):
        raw = site.openai().chat.completions.with_raw_response.create(model=MODEL, messages=user(BY_STRATEGY[strategy]))
    answer = raw.parse()
    assert (answer.object, answer.model) == ("chat.completion", MODEL) and answer.id.startswith("chatcmpl-")
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", ANSWER, "stop")
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens == 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 16
    assert raw.headers["x-tandem-strategy"] == strategy
    assert raw.headers["x-tandem-device"] == "gpu0"
    assert raw.headers["x-tandem-request-id"] and raw.headers["x-tandem-reason"]
    tokens = dict(p.split("=") for p in raw.headers["x-tandem-tokens"].split())
    assert (int(tokens["sent"]) < int(tokens["in"])) == (strategy != "A")


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("strategy", BY_STRATEGY)
def test_chat_streamed(site, strategy, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    with site.expect(**{strategy: 1}):
        chunks = list(site.openai().chat.completions.create(model=MODEL, messages=user(BY_STRATEGY[strategy]), stream=True,
                                                            **options))
    assert text_of(chunks) == ANSWER
    assert {c.object for c in chunks} == {"chat.completion.chunk"} and len({c.id for c in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    counts = [c.usage for c in chunks if c.usage]
    if usage:
        assert len(counts) == 1 and chunks[-1].usage and chunks[-1].choices == []
        assert counts[0].completion_tokens == 16 and counts[0].prompt_tokens > 0
    else:
        assert all(c.choices for c in chunks)


TOOL = {"type": "function", "function": {
    "name": "read_file", "description": "Reads a file.", "strict": True,
    "parameters": {"type": "object", "properties": {"path": {"type": "string", "pattern": "^[a-z.]+$"}},
                   "required": ["path"], "additionalProperties": False}}}


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_and_their_results(site, stream):
    client = site.openai()
    messages = user(fake("Read two files.", tool="read_file", args={"path": "a.c"}).replace(
        "]]", "&tool=read_file&args=%7B%22path%22%3A%22b.c%22%7D]]"))
    if stream:  # the package's own accumulation is strict about indexes, ids and fragments
        with client.chat.completions.stream(model=MODEL, messages=messages, tools=[TOOL]) as events:
            done = [e for e in events if e.type == "tool_calls.function.arguments.done"]
            answer = events.get_final_completion()
        assert [e.arguments for e in done] == [c.function.arguments for c in answer.choices[0].message.tool_calls]
    else:
        answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert [(c.type, c.function.name, json.loads(c.function.arguments)) for c in calls] == [
        ("function", "read_file", {"path": "a.c"}), ("function", "read_file", {"path": "b.c"})]
    assert calls[0].id and calls[0].id != calls[1].id

    messages.append(choice.message.model_dump(exclude_none=True))
    messages += [{"role": "tool", "tool_call_id": c.id, "content": f"contents of {c.function.arguments}"} for c in reversed(calls)]
    messages += user("And?")
    assert client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL]).choices[0].message.content == ANSWER
    sent = json.loads(site.sent())
    assert sent["tools"] == [TOOL]
    call, result = sent["messages"][1]["tool_calls"][1], sent["messages"][2]
    assert call["id"] == result["tool_call_id"] and result["content"] == 'contents of {"path":"b.c"}'.replace(
        '{"path":"b.c"}', calls[1].function.arguments)
    if site.kind == "ollama":  # arguments as an object, the result names its function
        assert call["function"]["arguments"] == {"path": "b.c"} and result["tool_name"] == "read_file"


def test_condensing_keeps_tool_calls_with_their_results(site):
    messages = [{"role": "system", "content": "You are an agent."}, *user("Fix the parser.")]
    for i in range(8):
        messages.append({"role": "assistant", "content": None, "tool_calls": [
            {"id": f"call_{i}", "type": "function", "function": {"name": "read_file", "arguments": json.dumps({"path": f"{i}.c"})}}]})
        messages.append({"role": "tool", "tool_call_id": f"call_{i}", "content": prose(5000)})
    with site.expect(C=1):
        site.openai().chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
    sent = json.loads(site.sent())["messages"]
    called = {c["id"] for m in sent for c in m.get("tool_calls") or ()}
    answered = {m["tool_call_id"] for m in sent if m["role"] == "tool"}
    assert called == answered and "call_7" in called and len(called) < 8


def test_image(site):
    data = base64.b64encode(PNG).decode()
    content = [{"type": "text", "text": "What is this?"},
               {"type": "image_url", "image_url": {"url": "data:image/png;base64," + data}}]
    assert site.openai().chat.completions.create(model=MODEL, messages=user(content)).choices[0].message.content == ANSWER
    message = json.loads(site.sent())["messages"][0]
    if site.kind == "ollama":
        assert message["images"] == [data] and message["content"] == "What is this?"
    else:
        assert message["content"] == content


class Friend(BaseModel):
    name: str
    age: int


def test_structured_output(site):
    messages = user(fake("Who?", text={"name": "Ada", "age": 22}))
    answer = site.openai().chat.completions.parse(model=MODEL, messages=messages, response_format=Friend)
    assert answer.choices[0].message.parsed == Friend(name="Ada", age=22)
    sent = json.loads(site.sent())
    schema = sent["format"] if site.kind == "ollama" else sent["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["name", "age"] and schema["additionalProperties"] is False


def test_json_mode(site):
    messages = user(fake(text={"a": [1, 2]}))
    answer = site.openai().chat.completions.create(model=MODEL, messages=messages, response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content) == {"a": [1, 2]}
    sent = json.loads(site.sent())
    assert sent["format"] == "json" if site.kind == "ollama" else sent["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_options(site, limit):
    answer = site.openai().chat.completions.create(
        model=MODEL, messages=[{"role": "developer", "content": "Be brief."}, *user("hi")], temperature=0.5, top_p=0.9,
        seed=7, stop=["END"], frequency_penalty=0.1, **{limit: 4}, extra_body={"unknown": {"b": 1}})
    assert answer.choices[0].message.content == "w0 w1 w2 w3" and answer.choices[0].finish_reason == "length"
    sent = json.loads(site.sent())
    options = sent["options"] if site.kind == "ollama" else sent
    assert (options["temperature"], options["top_p"], options["seed"], options["stop"]) == (0.5, 0.9, 7, ["END"])
    if site.kind == "ollama":
        assert sent["messages"][0]["role"] == "system"  # Ollama knows no developer


@pytest.mark.parametrize("stream", [False, True])
def test_thinking(site, stream):
    answer = site.openai().chat.completions.create(model=MODEL, messages=user(fake(thinking=3, tokens=2)), stream=stream,
                                                   reasoning_effort="low")
    parts = [c.choices[0].delta for c in answer if c.choices] if stream else [answer.choices[0].message]
    assert "".join(getattr(p, "reasoning_content", None) or "" for p in parts) == "t0 t1 t2"
    assert "".join(p.content or "" for p in parts) == "w0 w1"


# --- what stands around ---


def test_models(site):
    names = [m.id for m in site.openai().models.list()]
    assert set(names) == {MODEL, SMALL_MODEL} and len(names) == 2


def test_model_of_the_other_device(site):
    raw = site.openai().chat.completions.with_raw_response.create(model=SMALL_MODEL, messages=user("hi"))
    assert raw.parse().choices[0].message.content == ANSWER
    assert raw.headers["x-tandem-device"] == "gpu1" and raw.headers["x-tandem-strategy"] == "A"


def test_embeddings(site):
    for encoding in ({}, {"encoding_format": "float"}):  # the package asks for base64 unless told otherwise
        answer = site.openai().embeddings.create(model=MODEL, input=["a", "b"], **encoding)
        a, b = (e.embedding for e in answer.data)
        assert len(a) == len(b) > 0 and a != b
        assert math.isclose(sum(x * x for x in a), 1, rel_tol=0.01)


def test_completions_pass_through(site):
    answer = site.openai().completions.create(model=MODEL, prompt="Once")
    assert answer.choices[0].text == ANSWER
    assert "".join(c.choices[0].text for c in site.openai().completions.create(model=MODEL, prompt="Once", stream=True)
                   if c.choices) == ANSWER


# --- errors ---


def test_unknown_model(site):
    if site.kind != "ollama":
        # llama-server serves its one model under any name, and OpenAI clients rely on it.
        site.openai().chat.completions.create(model="gpt-4o", messages=user("hi"))
        return
    with pytest.raises(openai.NotFoundError, match="not found"):
        site.openai().chat.completions.create(model="nobody:7b", messages=user("hi"))


@pytest.mark.parametrize("stream", [False, True])
def test_the_backends_error_keeps_its_status(site, stream):
    with pytest.raises(openai.BadRequestError, match="bad temperature") as e:
        site.openai().chat.completions.create(model=MODEL, messages=user(fake(fault=400, error="bad temperature")),
                                              stream=stream)
    assert e.value.body["message"] == "bad temperature" and e.value.type == "invalid_request_error"


def test_bad_request(site):
    with pytest.raises(openai.BadRequestError):
        site.openai().chat.completions.create(model=MODEL, messages="hi")


@pytest.mark.parametrize("stream", [False, True])
def test_overflow(site, stream):
    """What must stay is longer than the window: the words are those that agents compact their history on."""
    messages = [{"role": "system", "content": prose(80000)}, *user("hi")]
    with pytest.raises(openai.BadRequestError, match="maximum context length is 16384 tokens") as e:
        site.openai().chat.completions.create(model=MODEL, messages=messages, stream=stream)
    assert e.value.body["code"] == 400 and e.value.body["n_ctx"] == 16384 < e.value.body["n_prompt_tokens"]


def test_error_in_mid_stream(site):
    got = []
    with pytest.raises(openai.APIError, match="out of memory"):
        for chunk in site.openai().chat.completions.create(
                model=MODEL, messages=user(fake(error_after=3, error="out of memory")), stream=True):
            got.append(chunk)
    assert text_of(got) == "w0 w1 w2"


@pytest.mark.parametrize("how", ["cut", "end"])
def test_stream_that_ends_early_is_an_error(site, how):
    with pytest.raises(openai.APIError):
        list(site.openai().chat.completions.create(model=MODEL, messages=user(fake(**{how: 5})), stream=True))


# --- async, leaving ---


def test_async(site):
    async def run():
        client = site.openai_async()

        async def ask(strategy):
            stream = await client.chat.completions.create(model=MODEL, messages=user(BY_STRATEGY[strategy]), stream=True)
            return text_of([c async for c in stream])

        plain = client.chat.completions.create(model=MODEL, messages=user("hi"))
        *texts, answer = await asyncio.gather(*map(ask, "ABC"), plain)
        return [*texts, answer.choices[0].message.content]

    with site.expect(A=2, B=1, C=1):
        assert asyncio.run(run()) == [ANSWER] * 4


def test_leaving_a_stream_frees_the_backend(site):
    with site.expect(A=1, cancelled=1):
        stream = site.openai().chat.completions.create(model=MODEL, messages=user(fake(hang_after=3)), stream=True)
        while not (next(stream).choices[0].delta.content or "").endswith("w1"):
            pass
        stream.close()
        wait_for(lambda: not site.main.stats()["under_way"], "cancelled request at the backend")
    # The last one that asked: a server that keeps streams is told to end this one by a further request.
    assert [r["end"] for r in site.main.stats()["last"] if "chat" in r["path"]][-1] == "cancelled"


@pytest.mark.parametrize("stream", [False, True])
def test_timeout_of_the_client_frees_the_backend(site, stream):
    with site.expect(A=1, cancelled=1):
        with pytest.raises(openai.APITimeoutError):
            site.openai(timeout=openai.Timeout(20, read=1)).chat.completions.create(model=MODEL, messages=user(fake(fault="hang")), stream=stream)
        wait_for(lambda: not site.main.stats()["under_way"], "cancelled request at the backend")
