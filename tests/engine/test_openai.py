"""A real server of the OpenAI API behind the kind `openai`: llama.cpp's, asked as any other is."""

import json
import os

import openai
import pytest
from harness import Tandem

KEY = "sk-engine-test"


@pytest.fixture
def server(engine, tmp_path):
    (binary, *library), model = engine
    key = tmp_path / "key"
    key.write_text(KEY + "\n")
    os.chmod(key, 0o600)
    env = {"LD_LIBRARY_PATH": library[0]} if library and library[0] else None
    command = [binary, "-m", model, "-c", "2048", "-np", "1", "--temp", "0", "--no-webui", "--api-key", KEY, "--alias", "small"]
    t = Tandem(str(tmp_path), [{"name": "cpu0", "roles": ["main"], "backend": {"type": "openai", "key_file": str(key), "command": command}}],
               env=env, deadlines={"first_byte_ms": 2000, "worker_boot_ms": 120000})
    yield t
    t.stop()


def test_it_answers_in_every_dialect(server):
    t = server
    backend = t.device("cpu0")["backend"]
    assert backend["type"] == "openai" and backend["model"] == "small" and backend["window"] in (0, 2048), backend
    client = openai.OpenAI(base_url=t.url + "/v1", api_key="unused", max_retries=0)
    messages = [{"role": "user", "content": "Say hello."}]
    whole = client.chat.completions.create(model="small", messages=messages, max_tokens=8, temperature=0)
    chunks = list(client.chat.completions.create(model="small", messages=messages, max_tokens=8, temperature=0, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content != ""
    status, _, body = t.chat("Say hello.", model="small", options={"num_predict": 8, "temperature": 0})
    answer = json.loads(body)
    assert status == 200 and answer["message"]["content"] == whole.choices[0].message.content and answer["prompt_eval_count"] > 0
    assert [m["name"] for m in json.loads(t.request("GET", "/api/tags")[2])["models"]] == ["small"]


def test_a_prompt_that_does_not_fit_is_shortened(server):
    text = "\n".join(f"{i}: the window keeps its lines while every other part gives way" for i in range(400))
    status, headers, body = server.request("POST", "/v1/chat/completions", {
        "model": "small", "max_tokens": 4, "messages": [{"role": "user", "content": "What is this?\n" + text}]}, timeout=300)
    assert status == 200 and headers["X-Tandem-Strategy"] in "BC", (status, headers, body)
