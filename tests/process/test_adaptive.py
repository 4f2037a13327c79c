"""Routing by predicted time: real processes, scripted backends with real speeds and prefix caches."""

import json
import os
import re
import subprocess

import pytest

from conftest import attached
from harness import BIN, sse, wait_for

OPENAI = "/v1/chat/completions"


def lines(seed, n):
    """n lines of a tool's output, each with names of its own: about 10 tokens a line."""
    return "\n".join(f"src/module_{seed}_{i}.c:{i * 7}: function_{seed}_{i} calls helper_{i % 13}" for i in range(n))


class Session:
    """An agent's conversation in the OpenAI form: each step is a tool call and its result."""

    def __init__(self, t, system_lines=60, name="s", model="m:1b", backend=None):
        self.t, self.name, self.model = t, name, model
        self.backend = backend  # which says what the next step sends back; without one it says other words
        self.messages = [{"role": "system", "content": "You are an agent.\n" + lines("rules" + name, system_lines)},
                         {"role": "user", "content": f"Find out why function_{name}_7 fails, and mend it."}]
        self.steps = 0

    def said(self, step):
        return f"I look at part {step}.", json.dumps({"pattern": f"part_{step}"}, separators=(",", ":"))

    def step(self, result_lines=40):
        self.steps += 1
        id = f"call_{self.name}_{self.steps}"
        text, args = self.said(self.steps)
        self.messages += [
            {"role": "assistant", "content": text, "tool_calls": [{"id": id, "type": "function", "function": {"name": "grep", "arguments": args}}]},
            {"role": "tool", "tool_call_id": id, "content": lines(f"{self.name}{self.steps}", result_lines)}]

    def body(self, **more):
        return {"model": self.model, "messages": self.messages, "stream": True, "max_tokens": 8,
                "tools": [{"type": "function", "function": {"name": "grep", "parameters": {"type": "object"}}}], **more}

    def ask(self, **more):
        if self.backend:
            text, args = self.said(self.steps + 1)
            self.backend.fault(name="answer", match=f"function_{self.name}_7 fails", text=text, tool="grep", args=args, times=-1)
        status, headers, data = self.t.request("POST", OPENAI, self.body(**more))
        assert status == 200, data
        assert sse(data)[-1] == "[DONE]", data
        return headers


class Responses(Session):
    """The same in the items of /v1/responses, by a client that sends back what it was told, its model's thinking too."""

    def __init__(self, t, backend, **more):
        super().__init__(t, backend=backend, **more)
        system, question = self.messages
        self.instructions, self.items = system["content"], [{"type": "message", "role": "user", "content": question["content"]}]

    def step(self, result_lines=40):
        self.steps += 1
        calls = [i for i in self.items if i["type"] == "function_call"]
        self.messages = [{"content": lines(f"{self.name}{self.steps}", result_lines)}]
        self.items.append({"type": "function_call_output", "call_id": calls[-1]["call_id"], "output": self.messages[0]["content"]})

    def ask(self, **more):
        text, args = self.said(self.steps + 1)
        self.backend.fault(name="answer", match=f"function_{self.name}_7 fails", text=text, thinking=3, tool="grep", args=args, times=-1)
        status, headers, data = self.t.request("POST", "/v1/responses", {
            "model": self.model, "instructions": self.instructions, "input": self.items, "stream": True, "max_output_tokens": 64,
            "tools": [{"type": "function", "name": "grep", "parameters": {"type": "object"}}], **more})
        assert status == 200, data
        answer = json.loads(sse(data)[-1])
        assert answer["type"] == "response.completed", answer
        self.items += answer["response"]["output"]
        return headers


def last(backend, path=None):
    """What the backend knows of the last request (of that path)."""
    return [r for r in backend.stats()["last"] if not path or r["path"] == path][-1]


def chats(backend):
    return [r for r in backend.stats()["last"] if r["path"] in ("/api/chat", OPENAI)]


@pytest.fixture
def adaptive(fake, tandem):
    """adaptive(...) -> (tandem, main backend, small backend) with a slow main device."""

    def start(type="llama-server", window=8000, prefill=4000, slots=1, small=True, warm=False, options=(), routing=None, device=None, **groups):
        # In small batches: who comes while one is computed waits for its end.
        a = fake("main", type=type, options=["--batch-size", "64", "--prefill", str(prefill), "--num-ctx", str(window), "--slots", str(slots), *options])
        devices = [attached(a, slots=slots, num_ctx=window)]
        for group, keys in (device or {}).items():
            devices[0][group] = {**devices[0][group], **keys}
        b = None
        if small:
            b = fake("small", type="ollama", model=("s:0.5b",))
            devices.append({**attached(b, "gpu1", ("condense",), slots=2, num_ctx=8192), "model": "s:0.5b"})
        routing = {"mode": "adaptive", "min_gain_ms": 200, "warm": warm, **(routing or {})}
        return tandem(devices, routing=routing, **groups), a, b

    return start


# --- one-shot prompts ---


def one_shot(t, n=200, **more):
    content = "Which line names function_doc_77?\n\n" + lines("doc", n) + "\n\nWhich line names function_doc_77?"
    return t.chat(content, stream=True, **more)


def test_a_small_prompt_goes_as_it_is(adaptive):
    t, a, b = adaptive()
    status, headers, _ = t.chat("hello")
    assert status == 200 and headers["X-Tandem-Strategy"] == "A"
    assert "a_max_tokens" in headers["X-Tandem-Reason"]


def test_a_cold_one_shot_prompt_is_cut_where_that_saves_enough(adaptive):
    """... for its question, and without a word to the small device."""
    t, a, b = adaptive(prefill=4000)
    before = b.stats()["requests"]["total"]
    status, headers, _ = one_shot(t)
    assert status == 200 and headers["X-Tandem-Strategy"] in "BC", headers["X-Tandem-Reason"]
    assert re.match(r"cut \d+\.\d\d s \(\d+ of \d+ tokens new\); original \d+\.\d\d s \(\d+ of \d+ tokens new\)$",
                    headers["X-Tandem-Reason"]), headers["X-Tandem-Reason"]
    tokens = dict(p.split("=") for p in headers["X-Tandem-Tokens"].split())
    assert int(tokens["sent"]) < 0.6 * int(tokens["in"])
    assert "function_doc_77" in json.loads(a.bodies()[-1])["messages"][-1]["content"]
    assert all(r["path"] != "/api/chat" for r in b.stats()["last"]), before


def test_a_fast_device_gets_the_original(adaptive):
    """Its speed is not known before the first prompt; then it is."""
    t, a, b = adaptive(prefill=100000, routing={"min_gain_ms": 2000})
    one_shot(t)
    status, headers, _ = one_shot(t, 201)
    assert headers["X-Tandem-Strategy"] == "A" and "saves too little" in headers["X-Tandem-Reason"], headers["X-Tandem-Reason"]


@pytest.mark.parametrize("state", ["absent", "dead"])
def test_the_small_device_is_never_waited_for(adaptive, tandem, state):
    t, a, b = adaptive(small=False)
    if state == "dead":
        t.stop()
        small = {"name": "gpu1", "roles": ["condense"], "backend": {"type": "ollama", "url": "http://127.0.0.1:9"}}
        t = tandem([attached(a, slots=1, num_ctx=8000), small], wait=False, routing={"mode": "adaptive", "min_gain_ms": 200})
        t.wait_ready("gpu0")
    status, headers, _ = one_shot(t)
    assert status == 200 and headers["X-Tandem-Strategy"] in "BC" and "fallback" not in headers["X-Tandem-Reason"]
    assert t.requests()["fallbacks"] == 0


# --- sessions ---


@pytest.mark.parametrize("type", ["llama-server", "ollama"])
def test_a_session_that_fits_goes_as_it_is(adaptive, type):
    """Every turn finds its prefix in the cache, as if the client asked the backend itself."""
    t, a, b = adaptive(type, prefill=20000)
    s = Session(t)
    for turn in range(6):
        headers = s.ask()
        assert headers["X-Tandem-Strategy"] == "A", headers["X-Tandem-Reason"]
        told = chats(a)[-1]
        if turn:  # all but the new step
            assert told["cached_tokens"] > told["prompt_tokens"] - 620, told
        s.step()
    assert re.search(r"original \d\.\d\d s \(\d+ of \d+ tokens new\)", headers["X-Tandem-Reason"])
    fresh, total = map(int, re.search(r"\((\d+) of (\d+)", headers["X-Tandem-Reason"]).groups())
    assert fresh < 0.3 * total, headers["X-Tandem-Reason"]


@pytest.mark.parametrize("type", ["llama-server", "ollama"])
def test_a_session_beyond_the_window_keeps_its_prefix(adaptive, type):
    """Once it does not fit it is laid out; it stays so, and most of each prompt is cached."""
    t, a, b = adaptive(type, window=6000, prefill=20000)
    s = Session(t)
    strategies, reuse = "", []
    for turn in range(24):
        headers = s.ask()
        strategies += headers["X-Tandem-Strategy"]
        told = chats(a)[-1]
        assert told["status"] == 200
        reuse.append(told["cached_tokens"] / told["prompt_tokens"])
        s.step()
    assert re.fullmatch(r"A{3,}[BC]{8,}", strategies), strategies
    assert sum(r > 0.7 for r in reuse[1:]) >= 15, reuse
    assert t.requests()["failed"] == 0 and t.requests()["fallbacks"] == 0


def test_an_explanation_moves_no_prefix(adaptive):
    """One with another limit of its answer has another room; the conversation keeps its own."""
    t, a, b = adaptive()
    s = Session(t)
    while s.ask()["X-Tandem-Strategy"] == "A":
        s.step()
    sent = json.loads(a.bodies()[-1])["messages"]
    status, headers, data = t.request("POST", OPENAI, s.body(max_tokens=3900), {"X-Tandem-Explain": "1"})
    assert status == 200 and json.loads(data)["outcome"] == "condensed", data
    s.step()
    s.ask()
    assert json.loads(a.bodies()[-1])["messages"][:len(sent)] == sent


# --- what is learned ---


def test_predictions_come_true(adaptive):
    t, a, b = adaptive(prefill=3000)
    s = Session(t)
    for _ in range(8):
        s.ask()
        s.step()
    forecasts = t.events()
    forecasts = [e for e in forecasts if e["ev"] == "forecast"]
    assert len(forecasts) == 8
    for f in forecasts[3:]:
        assert float(f["predicted_ms"]) == pytest.approx(float(f["first_byte_ms"]), rel=0.6, abs=120), forecasts
    h = t.command("histograms")
    assert h["prediction_error"]["A"]["count"] == 8 and h["prediction_percent"]["A"]["count"] == 8
    assert "p50_percent" in h["prediction_percent"]["A"]


def test_no_more_is_new_than_there_is(adaptive):
    """Whatever one conversation's count says of another's estimate."""
    t, a, b = adaptive(window=16000, options=["--chars-per-token", "2"])
    Session(t, name="a").ask()
    s = Session(t, system_lines=250, name="b")
    told = re.findall(r"\((\d+) of (\d+) tokens new\)", s.ask()["X-Tandem-Reason"])
    assert told and all(int(new) <= int(all) for new, all in told), told


def test_rates_are_kept_over_a_restart(adaptive, tandem, folder):
    state = os.path.join(folder, "state")
    t, a, b = adaptive(prefill=100000, routing={"min_gain_ms": 2000}, state_dir=state)
    for n in range(3):
        one_shot(t, 200 + n)
    assert t.stop() == 0
    assert os.path.exists(os.path.join(state, "tandem.mdb"))
    t = tandem([attached(a, slots=1, num_ctx=8000)], routing={"mode": "adaptive"}, state_dir=state)
    _, headers, _ = one_shot(t, 210)
    assert headers["X-Tandem-Strategy"] == "A", headers["X-Tandem-Reason"]


def test_a_damaged_store_is_moved_aside(adaptive, folder):
    state = os.path.join(folder, "state")
    os.makedirs(state)
    with open(os.path.join(state, "tandem.mdb"), "wb") as f:
        f.write(b"no store at all" * 1000)
    t, a, b = adaptive(state_dir=state)
    assert t.chat("hello")[0] == 200
    assert any(e["ev"] == "keep_moved_aside" for e in t.events())
    assert os.path.exists(os.path.join(state, "tandem.mdb.bad"))


# --- while nobody waits ---


def warmings(t):
    return [e for e in t.events() if e["ev"] == "warmed"]


def until_frozen(t, s, most=40):
    """Asks until an early freeze is decided; the number of turns."""
    for turn in range(most):
        s.ask()
        wait_for(lambda: t.requests()["active"] == 0, "the end of what follows an answer")
        if t.command("counters")["early_freezes"]:
            return turn
        s.step()
    raise AssertionError("no early freeze")


@pytest.mark.parametrize("api", [Session, Responses])
@pytest.mark.parametrize("type,slots", [("llama-server", 1), ("llama-server", 2), ("ollama", 1)])
def test_a_conversation_is_frozen_before_it_outgrows_its_window(adaptive, type, slots, api):
    """The turn after finds the new prompt in the cache, and the answer behind it; no turn starts cold."""
    t, a, b = adaptive(type, window=6000 * (slots if type == "llama-server" else 1), prefill=20000, slots=slots, warm=True)
    s = api(t, backend=a)
    until_frozen(t, s)
    wait_for(lambda: warmings(t), "the warming")
    assert warmings(t)[-1]["end"] == "done" and answer_of(t) > 0
    warmed = chats(a)[-1]
    assert warmed["generated_tokens"] == 1
    # The record of the request that it follows tells of both, after its end.
    late = t.command(f"request {warmings(t)[-1]['req']}")
    steps = {step["kind"]: step for step in late["steps"]}
    assert late["state"] == "done" and steps["warm"]["why"] == "early freeze" and steps["warm"]["outcome"] == "done"
    assert steps["freeze"]["start_ms"] >= steps["decode"]["start_ms"] and steps["warm"]["tokens"] >= steps["freeze"]["tokens"] > 0
    s.step()
    headers = s.ask()
    told = chats(a)[-1]
    assert headers["X-Tandem-Strategy"] in "BC" and "layout" in headers["X-Tandem-Reason"], headers["X-Tandem-Reason"]
    assert told["cached_tokens"] >= warmed["prompt_tokens"] - 2, (told, warmed)
    new = len(s.messages[-1]["content"]) // 4
    assert told["prompt_tokens"] - told["cached_tokens"] <= new + 8, (told, new)


def test_a_room_that_counts_make_larger_is_taken_by_an_early_freeze(adaptive):
    """A token of this model holds more than was thought: no turn reads again what stands before its news, and later ones have more room."""
    t, a, b = adaptive(window=6000, prefill=20000, warm=True, options=["--chars-per-token", "5"])
    s = Session(t, system_lines=150, backend=a)  # half of the room: it is laid out before anything was counted
    sent, frozen = [], 0
    while frozen < 3:
        s.ask()
        wait_for(lambda: t.requests()["active"] == 0 and not t.device("gpu0")["warming"]["running"], "the end of what follows an answer")
        asked = [r for r in chats(a) if r["generated_tokens"] > 1][-1]
        if s.steps:
            assert asked["prompt_tokens"] - asked["cached_tokens"] <= len(s.messages[-1]["content"]) // 5 + 10, (s.steps, asked)
        if frozen:
            sent.append(asked["prompt_tokens"])
        frozen = t.command("counters")["early_freezes"]
        assert s.steps < 60, sent
        s.step()
    assert all(e["end"] == "done" for e in warmings(t))
    assert max(sent) > 5000, sent  # by the estimate alone it ended below


def answer_of(t):
    return int(next(e for e in reversed(t.events()) if e["ev"] == "early_freeze")["answer_tokens"])


@pytest.mark.parametrize("client", ["other words", "no room"])
def test_an_answer_that_is_not_sent_back_as_it_was(adaptive, client):
    """... or is too long to be kept: the layout is read all the same."""
    limits = {"limits": {"reply_bytes": 32}} if client == "no room" else {}
    t, a, b = adaptive(window=6000, prefill=20000, warm=True, **limits)
    s = Session(t)
    until_frozen(t, s)
    wait_for(lambda: warmings(t), "the warming")
    warmed, answer = chats(a)[-1], answer_of(t)
    assert (answer > 0) == (client == "other words")
    s.step()
    s.ask()
    told = chats(a)[-1]
    assert warmed["prompt_tokens"] - 3 * answer - 2 <= told["cached_tokens"] <= warmed["prompt_tokens"], (told, warmed, answer)


def test_a_decision_outlives_a_restart(adaptive, tandem, folder):
    """The same bytes as before it: what the backend has cached is still good."""
    state = os.path.join(folder, "state")
    t, a, b = adaptive(window=6000, prefill=20000, warm=True, state_dir=state)
    s = Session(t, backend=a)
    until_frozen(t, s)
    wait_for(lambda: warmings(t), "the warming")
    warmed = chats(a)[-1]
    assert t.stop() == 0
    t = tandem([attached(a, slots=1, num_ctx=6000)], routing={"mode": "adaptive", "min_gain_ms": 200}, state_dir=state)
    s.t = t
    s.step()
    explained = subprocess.run([os.path.join(BIN, "tandemctl"), "explain", "-c", t.conf, "--sent", "-"], input=json.dumps(s.body()).encode(),
                               capture_output=True, timeout=30, check=True).stdout
    s.ask()
    assert a.bodies()[-1] == explained  # it reads the decision as well
    told = chats(a)[-1]
    assert told["cached_tokens"] >= warmed["prompt_tokens"] - 2, (told, warmed)


def test_other_work_ends_a_warming_at_once(adaptive):
    t, a, b = adaptive(window=6000, prefill=1000, warm=True)  # the warming takes seconds
    s = Session(t)
    until_frozen(t, s)
    wait_for(lambda: a.stats()["slots"]["active"] == 1, "the warming at the backend")
    status, headers, _ = t.chat("hello", stream=True)
    wait_for(lambda: warmings(t), "the line of the log")
    assert status == 200 and warmings(t)[-1]["end"] == "cancelled"
    assert float(warmings(t)[-1]["ms"]) < 5000
    done = wait_for(lambda: t.events(headers["X-Tandem-Request-Id"], ev="request_done"), "the line of its end")
    assert int(done[-1]["first_byte_ms"]) < 700, done
    assert t.device("gpu0")["jobs"]["failed"] == 0
    # and the conversation goes on where the warming has come
    s.step()
    s.ask()
    assert t.requests()["failed"] == 0


def aside(adaptive, **more):
    """A backend that puts prompts aside for those that are less alike than .8, and reads a frozen one in some seconds."""
    s = {"backend": {"slot_similarity": .8}}
    return adaptive(window=6000, prefill=1000, warm=True, options=["--host-cache-tokens", "50000", "--slot-prompt-similarity", "0.8"], device=s, **more)


def test_a_freeze_is_put_off_until_it_is_read(adaptive):
    """The next request comes while the frozen prompt is being read: it finds what was sent before, and the reading goes on after it."""
    t, a, b = aside(adaptive)
    s = Session(t)
    until_frozen(t, s)
    for _ in range(3):
        wait_for(lambda: a.stats()["slots"]["active"] == 1, "the reading at the backend")
        s.step(result_lines=2)
        id = s.ask()["X-Tandem-Request-Id"]
        chosen = t.events(id, ev="chosen")[-1]
        if chosen["put_off"] == "0":
            break
        told = next(r for r in reversed(chats(a)) if r["end"] == "done")
        assert told["prompt_tokens"] - told["cached_tokens"] < 400, told
        again = wait_for(lambda: t.events(id, ev="early_freeze"), "the reading to go on")[-1]
        assert again["again"] == "1"
    frozen = t.command("counters")["early_freezes"]
    assert frozen == 1 and t.requests()["failed"] == 0
    wait_for(lambda: warmings(t) and warmings(t)[-1]["end"] == "done", "all of it to be read")
    reads = [r for r in chats(a) if r["end"] != "done" or r["generated_tokens"] == 1]
    assert len(reads) >= 2 and reads[-1]["cached_tokens"] > reads[0]["cached_tokens"] + 64, "the reading began anew"
    s.step(result_lines=2)
    id = s.ask()["X-Tandem-Request-Id"]
    assert t.events(id, ev="chosen")[-1]["put_off"] == "0"
    told = chats(a)[-1]
    assert told["prompt_tokens"] < reads[-1]["prompt_tokens"] + 400
    assert told["prompt_tokens"] - told["cached_tokens"] < 400, told


def test_a_freeze_that_was_put_off_is_made_where_the_backend_counts_more(adaptive):
    """What was sent before does not fit after all: the frozen prompt goes, and not the same one again."""
    t, a, b = aside(adaptive)
    s = Session(t)
    until_frozen(t, s)
    wait_for(lambda: a.stats()["slots"]["active"] == 1, "the reading at the backend")
    s.step(result_lines=2)
    a.fault(name="over", fault=400, error="request (9000 tokens) exceeds the available context size (6000 tokens), try increasing it", times=1)
    id = s.ask()["X-Tandem-Request-Id"]
    assert t.events(id, ev="chosen")[0]["put_off"] == "1"
    refused, answered = [r for r in chats(a) if r["status"] in (200, 400) and r["end"] == "done" and r.get("generated_tokens") != 1][-2:]
    assert (refused["status"], answered["status"]) == (400, 200) and answered["body_bytes"] < refused["body_bytes"]
    assert t.requests()["failed"] == 0


def test_a_freeze_is_not_put_off_where_nothing_is_put_aside(adaptive):
    t, a, b = adaptive(window=6000, prefill=1000, warm=True)
    s = Session(t)
    until_frozen(t, s)
    wait_for(lambda: a.stats()["slots"]["active"] == 1, "the reading at the backend")
    s.step(result_lines=2)
    id = s.ask()["X-Tandem-Request-Id"]
    assert t.events(id, ev="chosen")[-1]["put_off"] == "0"


def test_nothing_is_warmed_where_no_prefix_is_used_again(adaptive):
    """A backend whose counts say that the whole prompt is processed each time."""
    t, a, b = adaptive("llama-server", window=6000, prefill=20000, warm=True)
    s = Session(t)
    for turn in range(20):
        s.ask(cache_prompt=False)
        t.wait_idle()
        s.step()
    assert t.command("counters")["early_freezes"] == 0 and not warmings(t)


def test_a_warming_takes_the_clients_key_along(adaptive):
    """Clients of the OpenAI API always send one. (It stood behind a pointer to nothing: tandemd died of it.)"""
    t, a, b = adaptive(prefill=4000, warm=True)
    content = "Which line names function_doc_77?\n\n" + lines("doc", 200) + "\n\nWhich line names function_doc_77?"
    body = {"model": "m:1b", "stream": True, "messages": [{"role": "user", "content": content}]}
    status, headers, _ = t.request("POST", "/v1/chat/completions", body, {"Authorization": "Bearer of-the-client"})
    assert status == 200 and headers["X-Tandem-Strategy"] in "BC", headers["X-Tandem-Reason"]
    wait_for(lambda: warmings(t), "the warming")
    assert warmings(t)[-1]["end"] == "done" and t.popen.poll() is None
    assert chats(a)[-1]["generated_tokens"] == 1


def test_a_shutdown_does_not_wait_for_a_warming(adaptive):
    t, a, b = adaptive(window=6000, prefill=1000, warm=True)
    until_frozen(t, Session(t))
    wait_for(lambda: a.stats()["slots"]["active"] == 1, "the warming at the backend")
    assert t.stop(deadline=5) == 0


def test_after_a_cut_the_original_is_read(adaptive):
    """A chat that goes on needs all of the text, and finds it in the cache."""
    t, a, b = adaptive(prefill=4000, warm=True)
    content = "Which line names function_doc_77?\n\n" + lines("doc", 200) + "\n\nWhich line names function_doc_77?"
    messages = [{"role": "user", "content": content}]
    _, headers, _ = t.chat(messages, stream=True)
    assert headers["X-Tandem-Strategy"] in "BC", headers["X-Tandem-Reason"]
    wait_for(lambda: warmings(t), "the warming")
    warmed = chats(a)[-1]
    messages += [{"role": "assistant", "content": "w0 w1"}, {"role": "user", "content": "And which function_doc_78?"}]
    _, headers, _ = t.chat(messages, stream=True)
    assert headers["X-Tandem-Strategy"] == "A", headers["X-Tandem-Reason"]
    assert chats(a)[-1]["cached_tokens"] >= warmed["prompt_tokens"] - 20, (chats(a)[-1], warmed)
