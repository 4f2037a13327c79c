"""The small lane as the official packages see it: one answer like any other, under the name that was asked for. The small device's backend is
of the other kind than the main one's."""

import pytest

from prompts import ANSWER, MODEL, SMALL_MODEL, TITLE, fake


def user(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(params=["taken", "given back"])
def lane(request, site):
    """Both ways that a small request takes."""
    if request.param == "given back":
        site.small.fault(match="### Task", fault="500", times=-1)
    return {"small": int(request.param != "given back"), "fallbacks": int(request.param == "given back"), "A": int(request.param == "given back")}


def expect(site, lane):
    changes = {**lane}
    small = changes.pop("small")
    before = site.counts()["by_strategy"]["small"]
    return site.expect(**changes), lambda: site.counts()["by_strategy"]["small"] - before == small


@pytest.mark.parametrize("stream", [False, True])
def test_openai(site, lane, stream):
    counted, small = expect(site, lane)
    with counted:
        answer = site.openai().chat.completions.create(model=MODEL, messages=user(TITLE), stream=stream)
        chunks = list(answer) if stream else [answer]
    assert small() and {c.model for c in chunks} == {MODEL} and len({c.id for c in chunks}) == 1
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) if stream else answer.choices[0].message.content
    assert said == ANSWER


@pytest.mark.parametrize("stream", [False, True])
def test_ollama(site, lane, stream):
    counted, small = expect(site, lane)
    with counted:
        answer = site.ollama().chat(MODEL, user(TITLE), stream=stream)
        chunks = list(answer) if stream else [answer]
    assert small() and {c.model for c in chunks} == {MODEL} and "".join(c.message.content for c in chunks) == ANSWER
    assert chunks[-1].done and chunks[-1].eval_count == 16


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic(site, lane, stream):
    counted, small = expect(site, lane)
    with counted:
        if stream:
            with site.anthropic().messages.stream(model=MODEL, max_tokens=64, messages=user(TITLE)) as s:
                text, message = "".join(s.text_stream), s.get_final_message()
        else:
            message = site.anthropic().messages.create(model=MODEL, max_tokens=64, messages=user(TITLE))
            text = message.content[0].text
    assert small() and message.model == MODEL and text == ANSWER and message.usage.output_tokens == 16


@pytest.mark.parametrize("stream", [False, True])
def test_responses(site, lane, stream):
    counted, small = expect(site, lane)
    with counted:
        answer = site.openai().responses.create(model=MODEL, input=TITLE, stream=stream)
        whole = [e for e in answer if e.type == "response.completed"][0].response if stream else answer
    assert small() and whole.model == MODEL and whole.output_text == ANSWER


def test_a_suffix(site):
    """A completion of an editor, in Ollama's API and in OpenAI's."""
    answer = site.ollama().generate(MODEL, fake("def f(", tokens=3), suffix="return 1")
    assert (answer.model, answer.response) == (MODEL, "w0 w1 w2")
    raw = site.openai().completions.with_raw_response.create(model=MODEL, prompt=fake("def f(", tokens=3), suffix="return 1")
    assert raw.headers["x-tandem-device"] == "gpu1" and raw.headers["x-tandem-model"] == SMALL_MODEL
    assert raw.parse().model == MODEL and raw.parse().choices[0].text == "w0 w1 w2"
