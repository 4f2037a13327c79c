"""The governor of Ollama's windows: one for a model whatever clients ask, raised in few steps, each of them logged."""

import json

import pytest

from conftest import attached
from harness import wait_for
from test_control import nvml  # noqa: F401 - a fixture
from test_routes import prose


GOVERNOR_MODELS_MAX = 64  # supervisor/devices/governor.h


@pytest.fixture
def one(fake, tandem):
    """one(options, device, env) -> (tandem, Ollama), a main device without a configured window."""

    def start(options=(), device=None, env=None, **groups):
        a = fake("main", options=options)
        return tandem([attached(a, **{"slots": 1, **(device or {})})], env=env, **groups), a

    return start


def said(t, event):
    """The fields of the log lines of an event."""
    lines = [line for line in t.log().splitlines() if f"ev={event} " in line]
    return [dict(p.split("=", 1) for p in line.split() if "=" in p) for line in lines]


def window(a):
    models = a.call("/api/ps")["models"]
    return models[0]["context_length"] if models else 0


def conversation(chars):
    return [{"role": "user", "content": "Read this."}, {"role": "assistant", "content": prose(chars)}, {"role": "user", "content": "Why?"}]


def test_a_prompt_that_does_not_fit_raises_the_window(one, nvml):
    t, a = one(device={"num_ctx": 4096, "num_ctx_max": 32768}, env=nvml)
    assert t.chat("hi")[0] == 200 and window(a) == 4096
    status, headers, body = t.chat(conversation(20000))
    assert status == 200  # condensed into what there is, at once
    (step,) = wait_for(lambda: said(t, "window_raised"), "the step")
    assert (step["from"], step["to"]) == ("4096", "8192") and float(step["load_ms"]) >= 0
    assert window(a) == 8192 and (a.stats()["loads"], a.stats()["reloads"]) == (2, 1)
    # The next one fits, with the same window and no load.
    status, headers, body = t.chat(conversation(20000))
    assert status == 200 and a.stats()["loads"] == 2
    assert json.loads(a.bodies()[-1])["options"]["num_ctx"] == 8192
    assert "MB free" in next(line for line in t.log().splitlines() if "ev=window_raise " in line)


def test_names_of_no_model_take_no_window_away(one, nvml):
    """Any number of them, asked for with long prompts while the device has no time to look at them."""
    t, a = one(options=("--decode", "20", "--slots", "2"), device={"num_ctx": 4096, "num_ctx_max": 8192, "slots": 2}, env=nvml)
    assert t.chat(conversation(20000))[0] == 200
    wait_for(lambda: said(t, "window_raised"), "the step")
    busy = t.client()
    busy.send("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "[[fake tokens=100000]] hi"}], "stream": True})
    assert busy.head() == 200
    for n in range(GOVERNOR_MODELS_MAX + 4):
        assert t.chat(conversation(20000), model=f"nobody:{n}")[0] == 404
    assert t.chat("hi [[fake tokens=1]]")[0] == 200
    assert json.loads(a.bodies()[-1])["options"]["num_ctx"] == 8192 and a.stats()["reloads"] == 1
    busy.close(reset=True)


def test_a_fixed_window_stays(one, nvml):
    t, a = one(device={"num_ctx": 4096}, env=nvml)
    for _ in range(2):
        assert t.chat(conversation(20000), options={"num_ctx": 16384})[0] == 200
    assert t.chat("hi", options={"num_ctx": 2048})[0] == 200
    assert (a.stats()["loads"], a.stats()["reloads"]) == (1, 0) and window(a) == 4096
    assert not said(t, "window_raise")


def test_the_first_client_names_the_window_of_what_is_not_loaded(one):
    t, a = one(options=("--num-ctx", "4096"))
    assert t.chat("hi", options={"num_ctx": 12000})[0] == 200
    assert window(a) == 12000
    assert t.chat("hi", options={"num_ctx": 2048})[0] == 200
    assert t.request("POST", "/v1/chat/completions", {"model": "m:1b", "messages": [{"role": "user", "content": "hi"}]})[0] == 200
    assert (window(a), a.stats()["loads"], a.stats()["reloads"]) == (12000, 1, 0)
    assert said(t, "window_begun")[0]["window"] == "12000"


def test_a_client_that_names_a_larger_one_gets_it_when_the_device_is_idle(one):
    """Nothing is known of a GPU: only what a client names is followed."""
    t, a = one(device={"num_ctx": 4096, "num_ctx_max": 16384})
    assert t.chat("hi")[0] == 200
    assert t.chat("hi", options={"num_ctx": 100000})[0] == 200
    assert a.stats()["loads"] == 1
    (step,) = wait_for(lambda: said(t, "window_raised"), "the step")
    assert step["to"] == "16384" and window(a) == 16384


def test_what_cannot_be_loaded_is_given_up(one, nvml):
    t, a = one(options=("--max-ctx", "4096"), device={"num_ctx": 4096, "num_ctx_max": 32768}, env=nvml)
    assert t.chat(conversation(20000))[0] == 200
    (step,) = wait_for(lambda: said(t, "window_not_raised"), "the refusal")
    assert (step["from"], step["to"], step["cause"]) == ("4096", "8192", "status")
    assert t.chat(conversation(20000))[0] == 200 and window(a) == 4096
    wait_for(lambda: said(t, "window_kept"), "the decision to stay")
    assert len(said(t, "window_raise")) == 1


def test_work_goes_first(one, nvml):
    """No step while somebody is being answered; one that is answered during a step waits for it and is not lost."""
    t, a = one(options=("--decode", "20", "--load-ms", "400"), device={"slots": 1, "num_ctx": 4096, "num_ctx_max": 8192}, env=nvml)
    assert t.chat(conversation(20000))[0] == 200
    status, headers, body = t.chat("[[fake tokens=60]] hi")  # three seconds of work
    assert status == 200 and not said(t, "window_raise")
    wait_for(lambda: said(t, "window_raise"), "the step begins")
    assert t.chat("hi")[0] == 200 and window(a) == 8192
    assert len(said(t, "window_raised")) == 1 and a.stats()["reloads"] == 1


def test_new_settings_begin_anew(one, nvml):
    t, a = one(device={"num_ctx": 4096, "num_ctx_max": 32768}, env=nvml)
    assert t.chat(conversation(20000))[0] == 200
    wait_for(lambda: said(t, "window_raised"), "the step")
    with open(t.conf) as f:
        text = f.read()
    with open(t.conf, "w") as f:
        f.write(text.replace("num_ctx = 4096", "num_ctx = 6144").replace("num_ctx_max = 32768", "num_ctx_max = 0"))
    assert t.operate("reload")["state"] == "done"
    t.wait_ready("gpu0")
    assert t.chat("hi")[0] == 200
    assert json.loads(a.bodies()[-1])["options"]["num_ctx"] == 6144
