"""The `ollama` package: everything an agent uses of it."""

import asyncio
import base64
import json

import ollama
import pytest
from pydantic import BaseModel

from harness import wait_for
from prompts import ANSWER, BY_STRATEGY, MODEL, PNG, SMALL_MODEL, fake, prose


def user(text, **more):
    return [{"role": "user", "content": text, **more}]


@pytest.mark.parametrize("strategy", BY_STRATEGY)
@pytest.mark.parametrize("stream", [False, True])
def test_chat(site, strategy, stream):
    with site.expect(**{strategy: 1}):
        answer = site.ollama().chat(MODEL, user(BY_STRATEGY[strategy]), stream=stream)
        chunks = list(answer) if stream else [answer]
    assert "".join(c.message.content for c in chunks) == ANSWER
    assert [c.done for c in chunks] == [False] * (len(chunks) - 1) + [True]
    last = chunks[-1]
    assert (last.model, last.done_reason, last.message.role) == (MODEL, "stop", "assistant")
    assert last.prompt_eval_count > 0 and last.eval_count == 16 and last.total_duration > 0
    assert len(chunks) > 5 or not stream


@pytest.mark.parametrize("strategy", BY_STRATEGY)
@pytest.mark.parametrize("stream", [False, True])
def test_generate(site, strategy, stream):
    with site.expect(**{strategy: 1}):
        answer = site.ollama().generate(MODEL, BY_STRATEGY[strategy], system="Be brief.", stream=stream)
        chunks = list(answer) if stream else [answer]
    assert "".join(c.response for c in chunks) == ANSWER
    assert chunks[-1].done and chunks[-1].done_reason == "stop"
    assert "Be brief." in site.sent()


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
      a: the first
      b: the second
    """
    return a + b


@pytest.mark.parametrize("stream", [False, True])
def test_tool_call_and_its_result(site, stream):
    client = site.ollama()
    messages = user(fake("Add.", text="Let me see.", tool="add", args={"a": 3, "b": 9007199254740993}))
    answer = client.chat(MODEL, messages, tools=[add], stream=stream)
    chunks = list(answer) if stream else [answer]
    calls = [call for c in chunks for call in c.message.tool_calls or ()]
    assert [(c.function.name, c.function.arguments) for c in calls] == [("add", {"a": 3, "b": 9007199254740993})]
    assert "".join(c.message.content or "" for c in chunks) == "Let me see."

    messages.append({"role": "assistant", "content": "", "tool_calls": [c.model_dump() for c in calls]})
    messages.append({"role": "tool", "tool_name": "add", "content": "9007199254740996"})
    messages += user("And?")
    assert client.chat(MODEL, messages, tools=[add]).message.content == ANSWER
    sent = json.loads(site.sent())
    assert sent["tools"][0]["function"]["name"] == "add"
    call, result = sent["messages"][1]["tool_calls"][0], sent["messages"][2]
    assert result["content"] == "9007199254740996"
    if site.kind == "ollama":
        assert call["function"]["arguments"]["b"] == 9007199254740993
    else:  # OpenAI's form: arguments as text, the result finds its call by id
        assert json.loads(call["function"]["arguments"])["b"] == 9007199254740993
        assert result["tool_call_id"] == call["id"]


def test_image(site):
    assert site.ollama().chat(MODEL, user("What is this?", images=[PNG])).message.content == ANSWER
    message, data = json.loads(site.sent())["messages"][0], base64.b64encode(PNG).decode()
    if site.kind == "ollama":
        assert message["images"] == [data]
    else:
        assert message["content"][0]["image_url"]["url"] == "data:image/png;base64," + data


def test_json_mode(site):
    answer = site.ollama().chat(MODEL, user(fake(text={"age": 22})), format="json")
    assert json.loads(answer.message.content) == {"age": 22}
    sent = json.loads(site.sent())
    assert sent["format"] == "json" if site.kind == "ollama" else sent["response_format"] == {"type": "json_object"}


class Friend(BaseModel):
    name: str
    age: int


@pytest.mark.parametrize("strategy", BY_STRATEGY)
def test_structured_output(site, strategy):
    # Old answers of the model can be condensed; what a human said, and the newest turns, never are.
    old = BY_STRATEGY[strategy]
    step = len(old) // 8 + 1
    messages = [{"role": "system", "content": "Answer in JSON."}] + user("What do your notes say?")
    for i in range(0, len(old), step):
        messages += [{"role": "assistant", "content": old[i:i + step]}] + user("Go on.")
    messages += [{"role": "assistant", "content": "That is all."}] + user(fake("Who?", text={"name": "Ada", "age": 22}))
    with site.expect(**{strategy: 1}):
        answer = site.ollama().chat(MODEL, messages, format=Friend.model_json_schema(), options={"temperature": 0})
    assert Friend.model_validate_json(answer.message.content) == Friend(name="Ada", age=22)
    sent = json.loads(site.sent())
    schema = sent["format"] if site.kind == "ollama" else sent["response_format"]["json_schema"]["schema"]
    assert schema == Friend.model_json_schema()


@pytest.mark.parametrize("stream", [False, True])
def test_thinking(site, stream):
    answer = site.ollama().chat(MODEL, user(fake("Why?", thinking="3", tokens="2")), think=True, stream=stream)
    chunks = list(answer) if stream else [answer]
    assert "".join(c.message.thinking or "" for c in chunks) == "t0 t1 t2"
    assert "".join(c.message.content or "" for c in chunks) == "w0 w1"


def test_thinking_off_and_options(site):
    answer = site.ollama().chat(MODEL, user(fake(thinking="3")), think=False,
                                options={"num_predict": 4, "temperature": 0.5, "stop": ["END"], "seed": 7})
    assert not answer.message.thinking and answer.message.content == "w0 w1 w2 w3"
    assert answer.done_reason == "length"
    sent = json.loads(site.sent())
    options = sent["options"] if site.kind == "ollama" else sent
    assert (options["temperature"], options["seed"], options["stop"]) == (0.5, 7, ["END"])


def test_odd_text_arrives_as_sent(site):
    text = "é 😀 \u2028 \u2029 \u0085 <b>&\t\"\\"
    answer = site.ollama().chat(MODEL, user(fake(text=text)), stream=True)
    assert "".join(c.message.content for c in answer) == text


@pytest.mark.parametrize("stream", [False, True])
def test_load_and_unload(site, stream):
    client, failed = site.ollama(), site.counts()["failed"]
    for options, reason in (({}, "load"), ({"keep_alive": 0}, "unload")):
        for answer in (client.chat(MODEL, [], stream=stream, **options), client.generate(MODEL, stream=stream, **options)):
            (last,) = list(answer) if stream else [answer]
            assert last.done and last.done_reason == reason
    assert site.counts()["failed"] == failed


# --- models ---


def test_models(site):
    client = site.ollama()
    names = [m.model for m in client.list().models]
    assert {MODEL, SMALL_MODEL} <= set(names) and len(names) == len(set(names))
    assert client.list().models[0].details.format == "gguf"
    shown = client.show(MODEL)
    assert "completion" in shown.capabilities
    assert shown.modelinfo[shown.modelinfo["general.architecture"] + ".context_length"] > 0
    client.chat(MODEL, user("hi"))
    loaded = client.ps().models
    assert loaded[0].model == MODEL and loaded[0].context_length == 16384  # the main device's first
    assert {m.model for m in loaded} <= {MODEL, SMALL_MODEL}
    with pytest.raises(ollama.ResponseError, match="not found") as e:
        client.show("nobody:7b")
    assert e.value.status_code == 404


def test_model_of_the_other_device(site):
    with site.expect(A=1):
        assert site.ollama().chat(SMALL_MODEL, user("hi")).message.content == ANSWER
    assert [r["path"] for r in site.main.stats()["last"] if r["method"] == "POST"] == []


def test_pull_copy_create_delete(site):
    client = site.ollama()
    if site.kind != "ollama":  # llama-server has no model store
        with pytest.raises(ollama.ResponseError, match="not supported") as e:
            client.pull("new:1b")
        assert e.value.status_code == 501
        return
    progress = list(client.pull("new:1b", stream=True))
    assert progress[0].status == "pulling manifest" and progress[-1].status == "success"
    assert any(p.completed == p.total and p.total for p in progress)
    assert "new:1b" in [m.model for m in client.list().models]  # at once, not at the next look
    assert client.copy("new:1b", "copy:1b").status == "success"
    assert client.create("made:1b", from_="new:1b").status == "success"
    assert client.pull("other:1b").status == "success"
    for name in ("new:1b", "copy:1b", "made:1b", "other:1b"):
        assert client.delete(name).status == "success"
    assert set(m.model for m in client.list().models) == {MODEL, SMALL_MODEL}


def test_embeddings(site):
    client = site.ollama()
    one = client.embed(MODEL, "a")
    two = client.embed(MODEL, ["a", "b"])
    assert len(two.embeddings) == 2 and one.embeddings[0] == two.embeddings[0] != two.embeddings[1]
    assert len(client.embeddings(MODEL, "a").embedding) == len(one.embeddings[0])


# --- errors ---


def test_unknown_model(site):
    with site.expect(refused=1, **({"A": 1} if site.kind == "ollama" else {})):
        with pytest.raises(ollama.ResponseError, match="not found") as e:
            site.ollama().chat("nobody:7b", user("hi"))
    assert e.value.status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_the_backends_error_keeps_its_status(site, stream):
    with pytest.raises(ollama.ResponseError, match="bad temperature") as e:
        answer = site.ollama().chat(MODEL, user(fake(fault="400", error="bad temperature")), stream=stream)
        list(answer)
    assert e.value.status_code == 400


def test_bad_request(site):
    with pytest.raises(ollama.ResponseError) as e:
        site.ollama()._request(ollama.ChatResponse, "POST", "/api/chat", json={"model": MODEL, "messages": "hi"})
    assert e.value.status_code == 400 and e.value.error


@pytest.mark.parametrize("stream", [False, True])
def test_overflow(site, stream):
    """What must stay is longer than the window: nothing is cut in silence."""
    messages = [{"role": "system", "content": prose(80000)}] + user("hi")
    with pytest.raises(ollama.ResponseError, match="maximum context length is 16384 tokens") as e:
        list(site.ollama().chat(MODEL, messages, stream=stream))
    assert e.value.status_code == 400


def test_error_in_mid_stream(site):
    got = []
    with pytest.raises(ollama.ResponseError, match="out of memory"):
        for chunk in site.ollama().chat(MODEL, user(fake(error_after="3", error="out of memory")), stream=True):
            got.append(chunk.message.content)
    assert "".join(got) == "w0 w1 w2"


@pytest.mark.parametrize("how", ["cut", "end"])
def test_stream_that_ends_early_is_an_error(site, how):
    with pytest.raises(ollama.ResponseError):
        list(site.ollama().chat(MODEL, user(fake(**{how: "3"})), stream=True))


# --- async, leaving ---


def test_async(site):
    async def run():
        client = site.ollama_async()
        streams = [client.chat(MODEL, user(BY_STRATEGY[s]), stream=True) for s in "ABC"]

        async def read(stream):
            return "".join([c.message.content async for c in await stream])

        texts = await asyncio.gather(*map(read, streams))
        plain = await client.chat(MODEL, user("hi"))
        models = await client.list()
        return [*texts, plain.message.content], models

    with site.expect(A=2, B=1, C=1):
        texts, models = asyncio.run(run())
    assert texts == [ANSWER] * 4 and models.models


def test_leaving_a_stream_frees_the_backend(site):
    with site.expect(A=1, cancelled=1):
        stream = site.ollama().chat(MODEL, user(fake(hang_after="3")), stream=True)
        assert [next(stream).message.content for _ in range(3)] == ["w0", " w1", " w2"]
        stream.close()
        wait_for(lambda: not site.main.stats()["under_way"], "cancelled request at the backend")
    # The last one that asked: a server that keeps streams is told to end this one by a further request.
    assert [r["end"] for r in site.main.stats()["last"] if "chat" in r["path"]][-1] == "cancelled"


def test_cancelled_task_frees_the_backend(site):
    async def run():
        task = asyncio.create_task(site.ollama_async().chat(MODEL, user(fake(fault="hang"))))
        while not site.main.stats()["under_way"]:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with site.expect(A=1, cancelled=1):
        asyncio.run(run())
        wait_for(lambda: not site.main.stats()["under_way"], "cancelled request at the backend")
