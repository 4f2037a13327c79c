"""The guardian of the prefix: conversations are recognised, what breaks their prefix is named, what can be mended is."""

import json
import os
import re
import subprocess

import pytest

from conftest import attached
from harness import BIN, wait_for
from test_adaptive import lines

OPENAI, OLLAMA, ANTHROPIC = "/v1/chat/completions", "/api/chat", "/v1/messages"
ATTRIBUTION = "x-anthropic-billing-header: cc_version=2.1.0; cch={:05x};\n"


def tool(name, n=6):
    return {"type": "function", "function": {"name": name, "description": lines("doc" + name, n),
                                             "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}}


class Session:
    """An agent's conversation. A breaker changes what is sent of it, never what it remembers."""

    def __init__(self, t, name="s", path=OPENAI, breaker=None, model="m:1b", num_ctx=None, ids=True, headers=None):
        self.t, self.name, self.path, self.breaker, self.model, self.ids = t, name, path, breaker, model, ids
        self.num_ctx, self.headers = num_ctx, headers
        self.turn = 0
        self.tools = [tool(n) for n in ("read", "write", "grep", "list")]
        self.messages = [{"role": "system", "content": "You are an agent.\n" + lines("rules", 40) + "\nBe brief."},
                         {"role": "user", "content": f"Find out why function_{name}_7 fails, and mend it."}]

    def step(self, words=None, n=20):
        self.turn += 1
        call = {"type": "function", "function": {"name": "grep", "arguments": {"path": f"{self.name}/part_{self.turn}"}}}
        result = {"role": "tool", "content": words or lines(f"{self.name}{self.turn}", n)}
        if self.path == OPENAI:
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
        if self.ids:
            call["id"] = result["tool_call_id"] = f"call_{self.name}_{self.turn}"
        self.messages += [{"role": "assistant", "content": f"I look at part {self.turn} of {self.name}.", "tool_calls": [call]}, result]
        return self

    def body(self):
        body = {"model": self.model, "messages": json.loads(json.dumps(self.messages)), "stream": False,
                "tools": json.loads(json.dumps(self.tools))}
        if self.path == OLLAMA:
            body["options"] = {"num_predict": 8, **({"num_ctx": self.num_ctx} if self.num_ctx else {})}
        else:
            body["max_tokens"] = 8
        return self.breaker(self, body) if self.breaker else body

    def ask(self):
        """What X-Tandem-Prefix says."""
        body = self.body()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, headers, answer = self.t.request("POST", self.path, data, self.headers)
        assert status == 200, answer
        return headers["X-Tandem-Prefix"]


def clock(s, body):
    body["messages"][0]["content"] += f"\nCurrent time: 2026-11-29 14:{s.turn:02}:07 UTC"
    return body


def counter(s, body):
    """Behind the newest result alone: the next request has it no more."""
    body["messages"][-1]["content"] += f"\nToken usage: {1000 + 333 * s.turn}/200000; {199000 - 333 * s.turn} remaining"
    return body


def counters(s, body):
    """Behind each result, all with the present value."""
    for m in body["messages"]:
        if m["role"] == "tool":
            m["content"] += f"\nTokens left: {199000 - 333 * s.turn}"
    return body


def note(s, body):
    """A message of its own behind the newest result."""
    body["messages"].append({"role": "user", "content": f"Tokens left: {199000 - 333 * s.turn}"})
    return body


def attribution(s, body):
    body["messages"][0]["content"] = ATTRIBUTION.format(s.turn * 7919) + body["messages"][0]["content"]
    return body


def tools_order(s, body):
    n = s.turn % len(s.tools)
    body["tools"] = body["tools"][n:] + body["tools"][:n]
    return body


def tools_spelling(s, body):
    """Other white space, keys in another order."""
    if s.turn % 2:
        body["tools"] = [{"function": dict(reversed(t["function"].items())), "type": "function"} for t in body["tools"]]
    text = json.dumps(body["tools"], indent=s.turn % 3)
    del body["tools"]
    return (json.dumps(body)[:-1] + ', "tools": ' + text + "}").encode()


def edited(s, body):
    """An old result is cleared once there are newer ones."""
    for m in body["messages"][:-4]:
        if m["role"] == "tool":
            m["content"] = "[old result cleared]"
    return body


def dropped(s, body):
    """The oldest turns go once there are more than three."""
    keep = 2 + 2 * 3
    if len(body["messages"]) > keep:
        body["messages"] = body["messages"][:2] + body["messages"][-(keep - 2):]
    return body


def num_ctx(s, body):
    body["options"]["num_ctx"] = 8192 + 4096 * (s.turn % 2)
    return body


@pytest.fixture
def watched(fake, tandem):
    """watched(type, ...) -> (tandem, backend)"""

    def start(type="llama-server", slots=1, window=65536, device=None, options=(), **groups):
        a = fake("main", type=type, options=["--num-ctx", str(window), "--slots", str(slots), "--prefill", "100000", *options])
        groups.setdefault("routing", {"mode": "adaptive", "warm": False})
        return tandem([{**attached(a, slots=slots, num_ctx=window), **(device or {})}], **groups), a

    return start


def chats(a):
    return [r for r in a.stats()["last"] if r["path"] in (OPENAI, OLLAMA)]


def reuse(told):
    """Of what was sent before, the share that was cached."""
    return sum(r["cached_tokens"] for r in told[1:]) / sum(r["prompt_tokens"] for r in told[:-1])


def run(t, a, breaker, turns=7, **more):
    """What was said of each turn, and the share of reuse."""
    s = Session(t, breaker=breaker, **more)
    said = [s.ask()] + [s.step().ask() for _ in range(turns)]
    return said, reuse(chats(a)[-turns - 1:])


def sums(t):
    return {k.removeprefix("prefix_"): v for k, v in t.command("counters").items() if k.startswith("prefix_")}


def kinds(said):
    return set(re.findall(r"(broken|repaired); kind=([a-z_-]+)", " ".join(said)))


# --- breakers ---

LEVELS = ["none", "safe", "volatile"]
BREAKERS = {  # what it is called, the message, the least of prefix.repair that mends it
    clock: ("clock", 0, "volatile"), counter: ("counter", None, "volatile"), counters: ("counter", 3, "volatile"),
    attribution: ("attribution", 0, "safe"), tools_order: ("tools-order", None, "safe"), tools_spelling: ("tools-spelling", None, "safe"),
    edited: ("edited", None, None), dropped: ("dropped", 2, None), note: ("counter", None, None)}
TRIED = [(b, level) for b, (_, _, mends) in BREAKERS.items() for level in LEVELS if mends or level == "volatile"]


@pytest.mark.parametrize("breaker,level", TRIED, ids=lambda x: getattr(x, "__name__", x))
def test_each_breaker_is_named(watched, breaker, level):
    """... and mended where that is asked for: then the cache holds, by the backend's own count."""
    t, a = watched(prefix={"repair": level})
    kind, message, mends = BREAKERS[breaker]
    said, share = run(t, a, breaker)
    mended = mends and LEVELS.index(level) >= LEVELS.index(mends)
    assert said[0] == "new" and said.count("new") == 1, said
    assert kinds(said) == {("repaired" if mended else "broken", kind)}, said
    if message is not None:
        assert all(f"message={message};" in x for x in said[1:] if "kind=" in x), said
    if mended:
        assert share >= .98, (share, said)
    elif breaker not in (counter, note):  # which cost the answers alone
        assert share < .98, (share, said)
    counts = sums(t)
    told = sum("kind=" in x for x in said)
    assert {k["kind"]: (k["broken"], k["repaired"]) for k in counts["kinds"] if k["broken"] + k["repaired"]} == {kind: (0, told) if mended else (told, 0)}
    assert (counts["lost_tokens"] > 0, counts["saved_tokens"] > 0) == (not mended, bool(mended)), counts
    assert len(t.events(ev="prefix")) == told


@pytest.mark.parametrize("passed_on", [False, True])
def test_another_window_is_named(watched, passed_on):
    """It is held: Ollama does not load the model anew. Where the client's own is passed on, it does, and all is lost."""
    t, a = watched("ollama", device={"client_num_ctx": passed_on}, window=16384)
    said, share = run(t, a, num_ctx, path=OLLAMA)
    assert said[0] == "new" and kinds(said) == {("broken" if passed_on else "repaired", "num_ctx")}, said
    assert share < .1 if passed_on else share >= .98, (share, said)


def to_anthropic(body):
    """The same in Anthropic's form, with the marks of a client's own cache, which move on with each turn."""
    turns = []
    for m in body["messages"][1:]:
        if m["role"] == "assistant":
            call = m["tool_calls"][0]
            m = {"role": "assistant", "content": [
                {"type": "text", "text": m["content"]},
                {"type": "tool_use", "id": call["id"], "name": "grep", "input": call["function"]["arguments"]}]}
        elif m["role"] == "tool":
            m = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": m["tool_call_id"], "content": m["content"]}]}
        turns.append(m)
    last = turns[-1]
    if isinstance(last["content"], str):
        last["content"] = [{"type": "text", "text": last["content"]}]
    last["content"][-1]["cache_control"] = {"type": "ephemeral"}
    tools = [{"name": x["function"]["name"], "description": x["function"]["description"], "input_schema": x["function"]["parameters"]}
             for x in body["tools"]]
    return {**body, "system": body["messages"][0]["content"], "messages": turns, "tools": tools}


@pytest.mark.parametrize("breaker,kind", [(tools_order, "tools-order"), (clock, "clock"), (counter, "counter")], ids=lambda x: getattr(x, "__name__", ""))
@pytest.mark.parametrize("type,path", [("ollama", OLLAMA), ("ollama", ANTHROPIC), ("llama-server", ANTHROPIC)])
def test_other_dialects(watched, type, path, breaker, kind):
    """Named and mended before any backend, from any client."""
    t, a = watched(type, prefix={"repair": "volatile"})
    said, share = run(t, a, (lambda s, body: to_anthropic(breaker(s, body))) if path == ANTHROPIC else breaker, path=path, turns=4)
    assert said[0] == "new" and kinds(said) == {("repaired", kind)}, said
    assert share >= .98, (share, said)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("type", ["ollama", "llama-server"])
def test_the_line_in_front_of_an_anthropic_system_prompt(watched, type, level):
    """As Claude Code sends it, as a part of its own: left out when the body is read, whatever is to be repaired, and told of."""
    t, a = watched(type, prefix={"repair": level})

    def parts(s, body):
        body = to_anthropic(body)
        body["system"] = [{"type": "text", "text": ATTRIBUTION.format(s.turn * 7919).strip()}, {"type": "text", "text": body["system"]}]
        return body

    said, share = run(t, a, parts, path=ANTHROPIC, turns=4)
    assert said[0] == "new" and all(re.match(r"repaired; kind=attribution; message=0; byte=0; tokens=\d+; ms=\d+$", x) for x in said[1:]), said
    assert share >= .98 and all(b"billing" not in b and b"tandem_" not in b for b in a.bodies()), (share, said)
    counts = sums(t)
    assert {k["kind"]: (k["broken"], k["repaired"]) for k in counts["kinds"] if k["broken"] + k["repaired"]} == {"attribution": (0, len(said) - 1)}
    assert counts["lost_tokens"] == 0 < counts["saved_tokens"]


def test_the_same_line_each_time_is_no_change(watched):
    t, a = watched()

    def parts(s, body):
        body = to_anthropic(body)
        body["system"] = [{"type": "text", "text": ATTRIBUTION.format(7)}, {"type": "text", "text": body["system"]}]
        return body

    assert run(t, a, parts, path=ANTHROPIC, turns=3)[0] == ["new", "kept", "kept", "kept"]


def test_several_at_once(watched):
    """Each is told of; what is not mended breaks it."""
    t, a = watched()
    said, share = run(t, a, lambda s, body: attribution(s, clock(s, tools_order(s, body))), turns=3)
    for x in said[1:]:
        assert re.match(r"broken; kind=clock; message=0; byte=\d+; tokens=\d+; ms=\d+, repaired; kind=attribution; message=0; byte=0; "
                        r"tokens=\d+; ms=\d+, repaired; kind=tools-order; tokens=\d+; ms=\d+$", x), said
    assert sums(t)["broken"] == 3


def test_what_is_held_is_said_at_the_end(watched):
    """The clock of the system prompt stays as it was first said; what it is now stands in the newest message, and stays there."""
    t, a = watched(prefix={"repair": "volatile"})
    run(t, a, clock, turns=3)
    sent = [json.loads(b)["messages"] for b in a.bodies()[-4:]]
    times = [[re.findall(r"Current time: \S+ (\S+)", json.dumps(m)) for m in one] for one in sent]
    assert times[3] == [["14:00:07"], [], [], ["14:01:07"], [], ["14:02:07"], [], ["14:03:07"]], times
    assert sent[3][:6] == sent[2][:6]


def test_the_parts_of_a_content_list(watched):
    """The attribution line as a part of its own, as proxies pass it on: the part goes."""
    t, a = watched()

    def parts(s, body):
        system = body["messages"][0]
        system["content"] = [{"type": "text", "text": ATTRIBUTION.format(s.turn).strip()}, {"type": "text", "text": system["content"]}]
        return body

    said, share = run(t, a, parts, turns=3)
    assert kinds(said) == {("repaired", "attribution")} and share >= .98, (said, share)
    assert all(b"billing" not in b for b in a.bodies()) and len(json.loads(a.bodies()[-1])["messages"][0]["content"]) == 1


def test_a_new_conversation_takes_the_tools_of_others(watched):
    """A client that lists its tools in another order in each session: the system prompt is warm all the same."""
    t, a = watched()
    for turn in range(4):
        s = Session(t, f"s{turn}", breaker=tools_order)
        s.turn = turn
        assert s.ask() == "new"
    assert all(r["cached_tokens"] > .9 * r["prompt_tokens"] for r in chats(a)[-3:]), chats(a)
    assert len({json.dumps(json.loads(b)["tools"]) for b in a.bodies()[-4:]}) == 1


# --- what breaks nothing ---


def title(t, s):
    """Open WebUI's and Claude Code's small requests beside a conversation."""
    text = "### Task:\nGenerate a concise title.\n<chat_history>\n" + "\n".join(str(m["content"])[:80] for m in s.messages[1:]) + "\n</chat_history>"
    return Session.ask(Titled(t, text))


class Titled(Session):
    def __init__(self, t, text):
        super().__init__(t)
        self.tools, self.messages = [], [{"role": "user", "content": text}]


def fork(s, name):
    """Another agent with the same task, from here on."""
    f = Session(s.t, name, s.path, s.breaker, s.model, s.num_ctx, s.ids)
    f.messages, f.turn = list(s.messages), s.turn
    return f


def test_no_alarm_in_500_clean_turns(watched):
    """Agents beside each other, retries, titles, answers that are made anew, words that are said otherwise, sub-agents with one task and
    without ids: nobody's prefix is broken, whatever order they come in. The client's own summary is named as one."""
    t, a = watched(slots=4)
    said, turns = [], 0

    def ask(s):
        nonlocal turns
        turns += 1
        said.append(s.ask())
        return said[-1]

    for round in range(11):
        path = OPENAI
        agents = [Session(t, f"{round}x{k}", path, ids=k % 2 == 0) for k in range(3)]
        twins = [Session(t, f"{round}twin", path, ids=False) for _ in range(2)]
        for s in agents + twins:
            ask(s)
        for step in range(4):
            for s in agents:
                ask(s.step())
                if step == 2:
                    assert ask(s) == "kept"  # a retry
            for k, s in enumerate(twins):  # the same task, another way; the same file
                s.name = f"{round}twin{k}"
                ask(s.step("the same file\n" * (step + 1)))
            said.append(title(t, agents[0]))
            turns += 1
        s = agents[0]
        s.messages += [{"role": "assistant", "content": "Done: it was the cache."}, {"role": "user", "content": "Thank you. And why?"}]
        ask(s)
        again = fork(s, "again")  # another answer to the same question
        ask(again)
        for f, words in ((s, "Because it was cold."), (again, "Since nobody kept it.")):
            f.messages += [{"role": "assistant", "content": words}, {"role": "user", "content": "I see."}]
            ask(f)
        other = fork(s, "other")  # the newest words are said otherwise
        other.messages[-1] = {"role": "user", "content": "I do not see."}
        ask(other)
        other.messages += [{"role": "assistant", "content": "Look."}, {"role": "user", "content": "Ah."}]
        ask(other)
        back = fork(s, "back")  # back to the task, and on in another way
        back.messages = back.messages[:2]
        ask(back)
        ask(back.step())
        fresh = Session(t, f"{round}x0")  # a new conversation with the same words at its beginning
        ask(fresh)
        fresh.messages += [{"role": "assistant", "content": "Another way this time."}, {"role": "user", "content": "Go on."}]
        ask(fresh)
        s.messages = s.messages[:2] + [
            {"role": "assistant", "content": "Summary of the conversation so far: the cache was cold."}, *s.messages[-1:]]
        assert ask(s) == "compacted", said[-1]
        for _ in range(6):
            ask(s.step())
    assert turns >= 500 and not kinds(said) and set(said) == {"new", "kept", "branched", "compacted"}, \
        (turns, [x for x in said if x not in ("new", "kept", "branched", "compacted")])
    assert said.count("compacted") == 11
    counts = sums(t)
    assert counts["broken"] == counts["lost_tokens"] == 0 and counts["kept"] == said.count("kept")


# --- what is told, and what is not ---


def test_sessions(watched):
    """Who leads which conversation, how large it is and at which level, what of it is warm and where, what broke it."""
    t, a = watched(slots=2)
    one = Session(t, "one", breaker=clock, headers={"User-Agent": "cline/3.2\u00e9", "Authorization": "Bearer secret-key"})
    two = Session(t, "two")
    for s in (one, two):
        s.ask()
        s.step().ask()
    newest, first = wait_for(lambda: (x := t.command("sessions")["sessions"]) and all(s["tokens"] for s in x) and x, "both answers")
    assert (first["turns"], first["breaks"], first["repairs"], first["last_change"], first["last_message"]) == (2, 1, 0, "clock", 0)
    assert (newest["turns"], newest["breaks"], newest["last_change"], newest["last_repaired"]) == (2, 0, None, None)
    assert first["model"] == "m:1b" and first["device"] == "gpu0" and first["address"] == "127.0.0.1" and first["client"].startswith("cline/3.2")
    told = chats(a)[-1]
    assert (newest["tokens"], newest["cached_tokens"]) == (told["prompt_tokens"], told["cached_tokens"])
    assert abs(newest["warm_tokens"] - newest["tokens"] - newest["output_tokens"]) <= 1 and newest["place"] == "newest" and first["place"] == "slot"
    assert newest["fixed_tokens"] > 500 and newest["l0_tokens"] > 200 and newest["l1_tokens"] == newest["digest_tokens"] == 0
    for args in (["sessions"], ["sessions", "--json"]):
        out = subprocess.run([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, *args], capture_output=True, check=True).stdout.decode()
        assert "m:1b" in out and "cline/3.2" in out
        everything = out + t.log() + json.dumps(t.command("sessions"))
        assert not any(word in everything for word in ("secret-key", "Current time", "function_one_7", "module_rules")), everything
    table = subprocess.run([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "sessions"], capture_output=True, check=True).stdout.decode().splitlines()
    assert table[0].split()[:5] == ["SESSION", "MODEL", "TURNS", "IDLE", "TOKENS"] and len(table) == 3
    column = table[0].index("BREAKS")
    assert [row[column:].split()[0] for row in table[1:]] == ["0", "1"]


def test_levels_of_a_conversation_beyond_its_window(watched):
    t, a = watched(window=3000)
    s = Session(t)
    said = [s.ask()] + [s.step(n=40).ask() for _ in range(9)]
    assert said == ["new"] + ["kept"] * 9  # what tandem shortens itself breaks no client's prefix
    it = wait_for(lambda: (x := t.command("sessions")["sessions"][0])["turns"] == 10 and x["tokens"] and x, "the last answer")
    assert it["l1_tokens"] + it["digest_tokens"] > 0 and it["l0_tokens"] > 0
    parts = sum(it[k] for k in ("fixed_tokens", "l0_tokens", "l1_tokens", "digest_tokens", "cut_tokens"))
    assert .7 < parts / it["tokens"] < 1.4, it


def test_caps(watched):
    """limits.conversations: the one that was gone on with longest ago is forgotten. limits.conversation_bytes: without its lines a
    change is still known by its message, and without its messages it is not watched."""
    t, a = watched(limits={"conversations": 2, "conversation_bytes": 4000})
    sessions = [Session(t, f"s{k}") for k in range(3)]
    assert [s.ask() for s in sessions] == ["new"] * 3
    assert len(t.command("sessions")["sessions"]) == 2
    assert [sessions[2].step().ask(), sessions[1].step().ask(), sessions[0].step().ask()] == ["kept", "kept", "new"]
    said, _ = run(t, a, clock, turns=2, name="thin")
    assert kinds(said) == {("broken", "edited")} and "message=0" in said[-1], said
    long = Session(t, "long")
    for _ in range(40):
        long.step(n=1)
    assert long.ask() is None and long.ask() is None


def test_off(watched):
    t, a = watched(limits={"conversations": 0})
    said, _ = run(t, a, attribution, turns=2)
    assert said == [None] * 3 and t.command("sessions") == {"sessions": []}
    with open(t.conf) as f:
        text = f.read()
    with open(t.conf, "w") as f:
        f.write(text.replace("conversations = 0", "conversations = 4"))
    assert t.operate("reload")["state"] == "done"
    assert run(t, a, attribution, turns=2)[0][0] == "new" and len(t.command("sessions")["sessions"]) == 1


def test_explain_changes_nothing(watched):
    """It tells what it would be, and no one remembers that it was asked."""
    t, a = watched()
    s = Session(t, breaker=tools_order)
    s.ask()
    s.step().headers = {"X-Tandem-Explain": "1"}
    before = sums(t)
    assert s.ask().startswith("repaired; kind=tools-order")
    assert s.ask().startswith("repaired; kind=tools-order")
    assert sums(t) == before and t.command("sessions")["sessions"][0]["turns"] == 1


def test_clients_apart(watched):
    """The same words of another client, or for another model, are another conversation."""
    t, a = watched("ollama")
    s = Session(t, path=OLLAMA)
    assert s.ask() == "new"
    s.headers = {"Authorization": "Bearer other"}
    assert s.ask() == "new"
    assert s.step().ask() == "kept"


def test_a_retry_of_what_is_mended_joins(watched):
    """It is told by the bytes that came, not by those that went."""
    t, a = watched(limits={"coalesce_after_ms": 0})
    s = Session(t, breaker=attribution)
    s.ask()
    a.fault(fault="hang", times=1)
    body = json.dumps(s.step().body()).encode()
    one = t.client().send("POST", OPENAI, body)
    wait_for(lambda: a.stats()["rules"] == 0, "the first one at the backend")
    two = t.client().send("POST", OPENAI, body)
    wait_for(lambda: t.requests()["coalesced"] == 1, "the retry to join")
    one.sock.close()
    two.sock.close()
    t.wait_idle()


def test_under_an_alias(watched):
    """The body is read a third time, and stays one conversation with those who know the model's own name."""
    t, a = watched(models=[{"match": "claude-*", "use": "gpu0"}])
    s = Session(t, breaker=attribution, model="claude-opus")
    assert s.ask() == "new" and s.step().ask().startswith("repaired; kind=attribution")
    s.model = "m:1b"
    assert s.step().ask().startswith("repaired; kind=attribution")
    assert len(t.command("sessions")["sessions"]) == 1 and reuse(chats(a)[-3:]) >= .98
