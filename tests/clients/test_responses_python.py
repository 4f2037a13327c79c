"""The `openai` package's responses: streamed and not, tools, pictures, structured output, counts, errors."""

import base64
import json

import openai
import pytest
from pydantic import BaseModel

from prompts import ANSWER, BY_STRATEGY, MODEL, PNG, fake, prose

TOOL = {"type": "function", "name": "read_file", "description": "Reads a file.", "strict": True, "parameters": {
    "type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"], "additionalProperties": False}}


def create(site, content, **more):
    return site.openai().responses.create(model=MODEL, input=content, **more)


@pytest.mark.parametrize("strategy", BY_STRATEGY)
def test_response(site, strategy):
    with site.expect(**{strategy: 1}):
        raw = site.openai().responses.with_raw_response.create(model=MODEL, input=BY_STRATEGY[strategy], store=False, metadata={"a": "b"})
    answer = raw.parse()
    assert (answer.object, answer.status, answer.model, answer.error) == ("response", "completed", MODEL, None)
    assert answer.output_text == ANSWER and answer.id.startswith("resp_") and answer.metadata == {"a": "b"}
    assert (answer.usage.output_tokens, answer.usage.output_tokens_details.reasoning_tokens) == (16, 0)
    assert answer.usage.total_tokens == answer.usage.input_tokens + 16 and raw.headers["x-tandem-strategy"] == strategy


@pytest.mark.parametrize("strategy", BY_STRATEGY)
def test_response_streamed(site, strategy):
    """The package's own accumulation wants its events in order, and each of them where it belongs."""
    with site.expect(**{strategy: 1}), site.openai().responses.stream(model=MODEL, input=BY_STRATEGY[strategy]) as stream:
        events = list(stream)
        answer = stream.get_final_response()
    assert [e.type for e in events[:4]] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert [e.type for e in events[-4:]] == ["response.output_text.done", "response.content_part.done", "response.output_item.done",
                                             "response.completed"]
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == answer.output_text == ANSWER
    assert answer.usage.output_tokens == 16


@pytest.mark.parametrize("stream", [False, True])
def test_tools_and_their_results(site, stream):
    items = [{"role": "user", "content": fake("Read two files.", tokens=2, tool="read_file", args={"path": "a.c"}).replace(
        "]]", "&tool=read_file&args=%7B%22path%22%3A%22b.c%22%7D]]")}]
    if stream:
        with site.openai().responses.stream(model=MODEL, input=items, tools=[TOOL]) as events:
            done = [e for e in events if e.type == "response.function_call_arguments.done"]
            answer = events.get_final_response()
        assert [json.loads(e.arguments) for e in done] == [{"path": "a.c"}, {"path": "b.c"}]
    else:
        answer = create(site, items, tools=[TOOL])
    calls = [i for i in answer.output if i.type == "function_call"]
    assert [(c.name, json.loads(c.arguments)) for c in calls] == [("read_file", {"path": "a.c"}), ("read_file", {"path": "b.c"})]
    picture = {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64," + base64.b64encode(PNG).decode()}
    items += [i.to_dict() for i in answer.output]
    items += [{"type": "function_call_output", "call_id": calls[0].call_id, "output": "int main;"},
              {"type": "function_call_output", "call_id": calls[1].call_id, "output": [{"type": "input_text", "text": "a chart"}, picture]}]
    assert create(site, items, tools=[TOOL], tool_choice="auto").output_text == ANSWER
    sent = json.loads(site.sent())["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "tool", "user"]
    assert base64.b64encode(PNG).decode() in json.dumps(sent[-1])


def test_a_custom_tool(site):
    patch = {"type": "custom", "name": "apply_patch", "description": "Edits files."}
    with site.openai().responses.stream(model=MODEL, input=fake(tokens=1, tool="apply_patch", args={"input": "+a\n"}), tools=[patch]) as stream:
        answer = stream.get_final_response()
    call = answer.output[-1]
    assert (call.type, call.name, call.input) == ("custom_tool_call", "apply_patch", "+a\n")


def test_thinking(site):
    with site.openai().responses.stream(model=MODEL, input=fake(thinking=4, tokens=3), reasoning={"effort": "medium", "summary": "auto"}) as stream:
        events = list(stream)
        answer = stream.get_final_response()
    thinking, text = answer.output
    assert (thinking.type, answer.output_text) == ("reasoning", "w0 w1 w2") and thinking.summary[0].text
    assert "".join(e.delta for e in events if e.type == "response.reasoning_summary_text.delta") == thinking.summary[0].text
    assert answer.usage.output_tokens_details.reasoning_tokens > 0
    again = create(site, [{"role": "user", "content": "a"}, *[i.to_dict() for i in answer.output], {"role": "user", "content": "b"}])
    assert again.output_text == ANSWER and thinking.summary[0].text in site.sent()


class Place(BaseModel):
    city: str


@pytest.mark.parametrize("stream", [False, True])
def test_structured_output(site, stream):
    text = fake(text='{"city":"Bern"}')
    if stream:
        with site.openai().responses.stream(model=MODEL, input=text, text_format=Place) as events:
            answer = events.get_final_response()
    else:
        answer = site.openai().responses.parse(model=MODEL, input=text, text_format=Place)
    assert answer.output_parsed == Place(city="Bern")
    sent = json.loads(site.sent())
    schema = sent["format"] if site.kind == "ollama" else sent["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["city"]


def test_tokens_are_counted(site):
    count = site.openai().responses.input_tokens.count(model=MODEL, input=prose(4000), tools=[TOOL])
    assert count.object == "response.input_tokens" and 700 < count.input_tokens < 1800


@pytest.mark.parametrize("how", ["threshold", "streamed", "trigger", "path"])
def test_compaction(site, how):
    """The package's own items go back as they came; its types hold for all of them."""
    client = site.openai()
    items = [{"role": "user", "content": "What is in the file?"}, {"role": "assistant", "content": prose(9000)},
             {"role": "user", "content": fake("Sum it up.", tokens=4)}]
    wanted = {"model": MODEL, "input": items, "context_management": [{"type": "compaction", "compact_threshold": 1000}]}
    if how == "threshold":
        output = client.responses.create(**wanted).output
    elif how == "streamed":
        with client.responses.stream(**wanted) as stream:
            output = stream.get_final_response().output
    elif how == "trigger":
        output = create(site, [*items, {"type": "compaction_trigger"}]).output
    else:
        answer = client.responses.compact(model=MODEL, input=items)
        assert answer.object == "response.compaction" and answer.usage.total_tokens == 0
        output = answer.output
    (block,) = [i for i in output if i.type == "compaction"]
    assert "Sum it up." in block.encrypted_content
    assert how in ("trigger", "path") or len(block.encrypted_content) < 7000  # what is asked for while it is small stays whole
    assert [i.type for i in output] == {"trigger": ["compaction"], "path": ["message", "message", "compaction"]}.get(how, ["compaction", "message"])
    back = [i.to_dict(warnings=False) for i in output]
    assert create(site, [*back, {"role": "user", "content": "Go on."}]).output_text == ANSWER
    sent = json.loads(site.sent())["messages"]
    assert json.dumps(sent).count("Sum it up.") == 1 and sent[0]["content"] == "What is in the file?"
    with pytest.raises(openai.BadRequestError, match="could not be verified") as e:
        create(site, [{**block.to_dict(), "encrypted_content": "gAAAAAB"}, {"role": "user", "content": "Go on."}])
    assert (e.value.code, e.value.param) == ("invalid_encrypted_content", "input")


def test_errors(site):
    long = [{"role": "user", "content": prose(200000)}, {"role": "assistant", "content": "So"}]
    with pytest.raises(openai.BadRequestError, match=r"maximum context length is \d+ tokens") as e:
        create(site, long)
    assert (e.value.code, e.value.param, e.value.type) == ("context_length_exceeded", "input", "invalid_request_error")
    with site.openai().responses.stream(model=MODEL, input=long) as stream:
        last = list(stream)[-1]
    assert last.type == "response.failed" and last.response.error.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="file_search"):
        create(site, "hi", tools=[{"type": "file_search", "vector_store_ids": ["a"]}])
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        create(site, "hi", previous_response_id="resp_1")
    with pytest.raises(openai.InternalServerError, match="out of memory"):
        create(site, fake(fault=500, error="out of memory"))
    with site.openai().responses.stream(model=MODEL, input=fake(error_after=2, error="gone")) as stream:
        last = list(stream)[-1]
    assert last.type == "response.failed" and (last.response.error.code, last.response.error.message) == ("server_error", "gone")
    for call in (site.openai().responses.retrieve, site.openai().responses.delete, site.openai().responses.cancel):
        with pytest.raises(openai.NotFoundError, match="stored"):
            call("resp_1")


def test_a_slow_stream_has_heartbeats(tandem_with, kind):
    site = tandem_with(kind, deadlines={"first_byte_ms": 200, "heartbeat_ms": 100})
    with site.openai(timeout=0.7).responses.stream(model=MODEL, input=fake(delay_ms=2000, tokens=3)) as stream:
        assert stream.get_final_response().output_text == "w0 w1 w2"
