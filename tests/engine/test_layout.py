"""Long conversations before a real engine: what it caches of them, and what its templates insist on."""

import json
import random
import re

from conftest import STRICT

NAMES = ("read_config", "parse_header", "slot_release", "frame_walk", "link_open", "queue_next", "cache_find")
WORDS = "the window keeps its lines while every other part gives way to what the next step needs".split()


def lines(rng, n):
    out = []
    for i in range(n):
        if rng.random() < .3:
            out.append(f"src/{rng.choice(NAMES)}.c:{i}: {rng.choice(NAMES)}(a, {rng.randrange(999)});")
        else:
            out.append(" ".join(rng.choice(WORDS) for _ in range(9)))
    return "\n".join(out)


def ask(t, messages, tools=None, tokens=8):
    body = {"model": "m", "messages": messages, "max_tokens": tokens, "stream": False, "temperature": 0, "cache_prompt": True}
    if tools:
        body["tools"] = tools
    status, headers, answer = t.request("POST", "/v1/chat/completions", json.dumps(body).encode(),
                                        {"Content-Type": "application/json"}, timeout=300)
    return status, headers, json.loads(answer)


def plain(rng, turns):
    m = [{"role": "user", "content": f"Look into {rng.choice(NAMES)}. Never touch the tests."}]
    for _ in range(turns):
        m += [{"role": "assistant", "content": lines(rng, 12)}, {"role": "user", "content": rng.choice(("Go on.", "And then?", "Why?"))}]
    return m


def in_text(rng, turns):
    m = [{"role": "system", "content": "You are an agent."}, {"role": "user", "content": f"Mend {rng.choice(NAMES)}."}]
    for _ in range(turns):
        m += [{"role": "assistant", "content": f"<read_file><path>src/{rng.choice(NAMES)}.c</path></read_file>"},
              {"role": "user", "content": "[read_file for 'src/a.c'] Result:\n" + lines(rng, 14)}]
    return m


def with_tools(rng, turns, calls=1):
    m = [{"role": "system", "content": "You are an agent."}, {"role": "user", "content": f"Mend {rng.choice(NAMES)}."}]
    n = 0
    for turn in range(turns):
        ids = [f"call_{n + i}" for i in range(calls)]
        n += calls
        m.append({"role": "assistant", "content": "I look.", "tool_calls": [
            {"id": i, "type": "function", "function": {"name": "read", "arguments": json.dumps({"path": rng.choice(NAMES)})}} for i in ids]})
        for i in reversed(ids):
            m.append({"role": "tool", "tool_call_id": i, "content": lines(rng, 14 // calls)})
        if turn % 4 == 3:
            m += [{"role": "assistant", "content": "Half of it is done."}, {"role": "user", "content": "Good, go on."}]
    return m


def test_templates_that_insist_on_alternation(start):
    """Each request is beyond the window: what is sent is condensed, and the template takes it."""
    t = start(2048, STRICT, limits={"coalesce": False})
    rng = random.Random(5)
    condensed = 0
    shapes = [plain, in_text, with_tools, lambda r, n: with_tools(r, n, 3)]
    for i in range(12):
        messages = shapes[i % 4](rng, 10 + i)
        status, headers, answer = ask(t, messages, tokens=1)
        assert status == 200, answer
        condensed += "sent" in headers["X-Tandem-Tokens"] and int(headers["X-Tandem-Tokens"].split("sent=")[1]) < 2048
    assert condensed == 12
    assert "must alternate" not in t.log()


def test_a_session_past_its_window_keeps_its_prefix(start):
    """Fourteen turns, of which the last ones are beyond the window: the engine's own figures of what it had cached."""
    t = start(2048)
    rng = random.Random(7)
    messages = [{"role": "system", "content": "You are an agent that reads files."},
                {"role": "user", "content": "Find out why slot_release loses a frame. Never touch src/legacy.c."}]
    rows, past = [], 0
    for turn in range(14):
        status, headers, answer = ask(t, messages)
        assert status == 200, answer
        timings = answer["timings"]
        cached, read = timings["cache_n"], timings["prompt_n"]
        told = re.findall(r" freezes=(\d+)", t.log())
        rows.append((turn, int(headers["X-Tandem-Tokens"].split()[0][3:]), cached + read, cached, int(told[-1]) if told else 0))
        past += rows[-1][1] > rows[-1][2] + 200
        text = answer["choices"][0]["message"]["content"]
        messages += [{"role": "assistant", "content": text or "I read on."},
                     {"role": "user", "content": f"[read_file for 'src/part_{turn}.c'] Result:\n" + lines(rng, 10)}]
    print("\nturn  tokens  sent  cached  reuse  freezes so far")
    reuse = []
    for i, (turn, tokens, sent, cached, freezes) in enumerate(rows):
        print(f"{turn + 1:4} {tokens:7} {sent:5} {cached:7} {cached / sent:6.2f} {freezes:4}")
        if i and freezes == rows[i - 1][4]:
            reuse.append(cached / rows[i - 1][2])  # of the prompt before, what was there still
    assert past >= 3
    assert rows[-1][4] >= 1
    assert min(reuse) >= .9, reuse


def test_what_leaves_the_slot_comes_back(start):
    """A server that tandem starts with one slot puts aside what is there for a prompt with the same beginning, and finds it again."""
    t = start(8192)
    rng = random.Random(5)
    system = {"role": "system", "content": lines(rng, 30)}
    old, new = ([system, {"role": "user", "content": lines(rng, 30)}] for _ in range(2))
    cached = []
    for messages in (old, new, old, new):
        status, _, answer = ask(t, messages, tokens=1)
        assert status == 200
        usage = answer["usage"]
        cached.append(usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"])
    assert cached[0] < .1 and .3 < cached[1] < .7, cached
    assert cached[2] > .95 and cached[3] > .95, cached
