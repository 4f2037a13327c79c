"""A real Ollama behind tandem, its own clients in front: the packages `ollama` and `openai`, and the command line.

The three routes are taken at small sizes (tandem's limits are lowered for it), since a test machine computes on its CPU.
"""

import os

import ollama
import openai
import pytest

from conftest import MAIN, SMALL

SENTENCE = "On day {0} the keeper of lock {0} wrote that the water stood at {1} cm and that barge {2} passed.\n"
TURNS = {"A": 0, "B": 3, "C": 7}


def messages(route):
    """A conversation about a log, six days a turn (what a person says in 600 bytes is never shortened), and a question at its end."""
    talk = [{"role": "system", "content": "You are a helpful assistant."}]
    for turn in range(TURNS[route]):
        days = "".join(SENTENCE.format(n, 150 + n, n % 7) for n in range(turn * 6, turn * 6 + 6))
        talk += [{"role": "user", "content": f"Part {turn} of the log:\n{days}Tell me when you have read it."},
                 {"role": "assistant", "content": f"I have read part {turn} of the log."}]
    return talk + [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def routed(tandem):
    """routed(route) checks, at its end, that exactly one request went that way and what it did to the devices."""
    before = tandem.status()

    def check(route):
        after = tandem.status()
        by = {k: after["requests"]["by_strategy"][k] - before["requests"]["by_strategy"][k] for k in "ABC"}
        done = {d["name"]: d["jobs"]["done"] - b["jobs"]["done"] for d, b in zip(after["devices"], before["devices"])}
        assert by == {**dict.fromkeys("ABC", 0), route: 1}, tandem.log()[-3000:]
        assert done["gpu0"] == 1
        assert (done["gpu1"] > 0) == (route != "A"), tandem.log()[-3000:]
        for name in ("failed", "cancelled", "fallbacks"):
            assert after["requests"][name] == before["requests"][name], tandem.log()[-3000:]

    return check


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("route", "ABC")
def test_ollama_package(tandem, routed, route, stream):
    client = ollama.Client(tandem.url)
    answer = client.chat(MAIN, messages(route), stream=stream, options={"num_predict": 16})
    parts = list(answer) if stream else [answer]
    assert parts[-1].done and parts[-1].done_reason in ("stop", "length") and parts[-1].eval_count > 0
    assert "".join(p.message.content for p in parts).strip()
    assert all(p.model == MAIN for p in parts)
    if route == "A":
        assert "Paris" in "".join(p.message.content for p in parts)
    routed(route)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("route", "ABC")
def test_openai_package(tandem, routed, route, stream):
    client = openai.OpenAI(base_url=f"{tandem.url}/v1", api_key="none", max_retries=0)
    answer = client.chat.completions.create(model=MAIN, messages=messages(route), stream=stream, max_tokens=16, temperature=0)
    if stream:
        parts = [c.choices[0] for c in answer if c.choices]
        text, finish = "".join(p.delta.content or "" for p in parts), parts[-1].finish_reason
    else:
        text, finish = answer.choices[0].message.content, answer.choices[0].finish_reason
        assert answer.usage.completion_tokens > 0
    assert text.strip() and finish in ("stop", "length")
    if route == "A":
        assert "Paris" in text
    routed(route)


def test_generate(tandem, routed):
    answer = ollama.Client(tandem.url).generate(MAIN, "The capital of France is", raw=True, options={"num_predict": 4})
    assert answer.done and answer.response
    routed("A")


def test_embeddings_pass_through(tandem, backends):
    """Not a chat: passed on as it is, whatever the backend says to it."""
    same = []
    for url in (tandem.url, backends[0].url):
        try:
            same.append(ollama.Client(url).embed(MAIN, "a lock").embeddings)
        except ollama.ResponseError as e:
            same.append((e.status_code, e.error))
    assert same[0] == same[1]


def test_embeddings_in_openais_form(tandem):
    """What /api/embed says, whatever that is: the vectors, or that this model makes none."""
    client = openai.OpenAI(base_url=f"{tandem.url}/v1", api_key="none", max_retries=0)
    texts = ["a lock", "a key"]
    try:
        wanted = ollama.Client(tandem.url).embed(MAIN, texts).embeddings
    except ollama.ResponseError as e:
        with pytest.raises(openai.APIStatusError) as same:
            client.embeddings.create(model=MAIN, input=texts)
        assert same.value.status_code == e.status_code
    else:
        got = client.embeddings.create(model=MAIN, input=texts).data
        assert all(abs(x - y) < 1e-5 for d, v in zip(got, wanted) for x, y in zip(d.embedding, v))


def test_unknown_model_is_ollamas_own_error(tandem, backends):
    errors = []
    for url in (tandem.url, backends[0].url):
        with pytest.raises(ollama.ResponseError) as e:
            ollama.Client(url).chat("nobody:1b", messages("A"))
        errors.append((e.value.status_code, e.value.error))
    assert errors[0] == errors[1] and errors[0][0] == 404


def test_both_devices_models_are_listed(tandem, cli):
    assert {m.model for m in ollama.Client(tandem.url).list().models} >= {MAIN, SMALL}
    listed = cli("list")
    assert MAIN in listed and SMALL in listed
    ids = {m.id for m in openai.OpenAI(base_url=f"{tandem.url}/v1", api_key="none").models.list()}
    assert ids >= {MAIN, SMALL}


def test_a_request_for_the_other_devices_model_goes_there(tandem):
    before = tandem.device("gpu1")["jobs"]["done"]
    answer = ollama.Client(tandem.url).chat(SMALL, messages("A"), options={"num_predict": 4})
    assert answer.done and answer.model == SMALL
    assert tandem.device("gpu1")["jobs"]["done"] == before + 1


def test_command_line(cli, backends):
    assert "Paris" in cli("run", MAIN, "Complete this: the capital of France is")
    assert MAIN in cli("ps")
    shown = cli("show", MAIN)
    assert "llama" in shown and "134" in shown
    assert backends[0].client.ps().models


def test_create_uploads_a_blob_through_tandem(cli, tandem, backends, gguf, tmp_path):
    modelfile = os.path.join(tmp_path, "Modelfile")
    with open(gguf, "rb") as source, open(os.path.join(tmp_path, "copy.gguf"), "wb") as copy:
        data = bytearray(source.read())
        at = data.index(b"general.name")
        data[at + 24] = ord("T")  # the first letter of the model's display name: a blob that nobody has yet
        copy.write(data)
    with open(modelfile, "w") as f:
        f.write(f"FROM {tmp_path}/copy.gguf\n")
    cli("create", "uploaded:135m", "-f", modelfile)
    assert "uploaded:135m" in {m.model for m in backends[0].client.list().models}
    assert "uploaded:135m" in cli("list")
    cli("cp", "uploaded:135m", "copied:135m")
    cli("rm", "uploaded:135m")
    left = {m.model for m in backends[0].client.list().models}
    assert "copied:135m" in left and "uploaded:135m" not in left
    assert "uploaded:135m" not in cli("list")
