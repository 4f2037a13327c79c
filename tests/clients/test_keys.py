"""The official packages, unmodified, with a key and TLS: they get in, and know what it means when they do not."""

import hashlib

import anthropic
import ollama
import openai
import pytest

from prompts import ANSWER, MODEL
from tls import certificate

KEY = "sk-tandem-" + "c3" * 32
QUESTION = [{"role": "user", "content": "hello"}]


@pytest.fixture
def guarded(tandem_with, tmp_path, monkeypatch):
    """A site that wants keys over TLS; clients trust its certificate as they would any other."""
    cert, key = certificate(str(tmp_path))
    path = str(tmp_path / "keys")
    with open(path, "w") as f:
        f.write(f"laptop sha256:{hashlib.sha256(KEY.encode()).hexdigest()} requests=1\n")
    monkeypatch.setenv("SSL_CERT_FILE", cert)
    return tandem_with("ollama", listen={"certificate": cert, "key": key}, access={"key_file": path, "changes": "off"})


def ask_openai(client):
    return client.chat.completions.create(model=MODEL, messages=QUESTION).choices[0].message.content


def ask_anthropic(client):
    return client.messages.create(model=MODEL, max_tokens=100, messages=QUESTION).content[0].text


def ask_ollama(client):
    return client.chat(MODEL, QUESTION).message.content


def test_with_its_key(guarded, monkeypatch):
    assert guarded.url.startswith("https://")
    assert ask_openai(guarded.openai(api_key=KEY)) == ANSWER
    assert ask_anthropic(guarded.anthropic(api_key=KEY)) == ANSWER  # x-api-key
    assert ask_anthropic(guarded.anthropic(api_key=None, auth_token=KEY)) == ANSWER  # Authorization
    assert ask_ollama(guarded.ollama(headers={"Authorization": f"Bearer {KEY}"})) == ANSWER
    monkeypatch.setenv("OLLAMA_API_KEY", KEY)
    assert ask_ollama(guarded.ollama()) == ANSWER
    assert [m.id for m in guarded.openai(api_key=KEY).models.list()]


def test_without_it(guarded):
    with pytest.raises(openai.AuthenticationError, match="not known here"):
        ask_openai(guarded.openai())
    with pytest.raises(anthropic.AuthenticationError, match="not known here"):
        ask_anthropic(guarded.anthropic())
    with pytest.raises(ollama.ResponseError, match="an API key is needed") as e:
        ask_ollama(guarded.ollama())
    assert e.value.status_code == 401


def test_one_request_too_many(guarded):
    """429 is what they know how to wait for."""
    guarded.main.fault(times=1, fault="hang", match="wait here")
    with guarded.openai(api_key=KEY, timeout=60).chat.completions.with_streaming_response.create(
            model=MODEL, messages=[{"role": "user", "content": "wait here"}], stream=True):
        with pytest.raises(openai.RateLimitError, match="has 1 requests under way") as e:
            ask_openai(guarded.openai(api_key=KEY))
        assert int(e.value.response.headers["retry-after"]) > 0
        with pytest.raises(anthropic.RateLimitError):
            ask_anthropic(guarded.anthropic(api_key=KEY))


def test_what_changes_the_server(guarded):
    client = guarded.ollama(headers={"Authorization": f"Bearer {KEY}"})
    with pytest.raises(ollama.ResponseError, match='changes = "on"') as e:
        client.copy(MODEL, "other")
    assert e.value.status_code == 403
