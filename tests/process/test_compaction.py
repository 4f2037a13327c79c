"""Compaction as Anthropic's API has it, by the frozen layout: no model is asked for a block."""

import json
import os
import signal

import anthropic
import pytest

from dialect import MODEL, asked
from harness import ROOT
from test_messages import COUNT, PATH, TOOLS, VERSION
from wire import Wire

WINDOW = 8192
KINDS = ["ollama", "llama-server"]
ASK = {"type": "summarize"}
with open(os.path.join(ROOT, "supervisor", "requests", "chat.c")) as source:
    LINES = source.read().splitlines()


def edit(trigger, **more):
    return {"edits": [{"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": trigger}, **more}]}


def talk(rounds, begin=0, last="And now? [[fake tokens=5]]"):
    """A person, and an agent that reads a part of a file in each round: some 700 tokens."""
    messages = [{"role": "user", "content": "Find out why the table has no row for CHAT_OVER."}] if begin == 0 else []
    for i in range(begin, begin + rounds):
        part = "\n".join(LINES[(40 * i + n) % len(LINES)] for n in range(60))
        messages += [{"role": "assistant", "content": [{"type": "text", "text": f"I look at part {i}."},
                                                       {"type": "tool_use", "id": f"t{i}", "name": "read", "input": {"path": f"part{i}.c"}}]},
                     {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"t{i}", "content": part}]}]
    return [*messages, {"role": "assistant", "content": "I have seen them."}, {"role": "user", "content": last}]


@pytest.fixture
def pair(compacting):
    return compacting


def post(t, messages, path=PATH, **more):
    body = {"model": MODEL, "max_tokens": 200, "system": "Be brief.", "tools": TOOLS, "messages": messages, **more}
    status, head, data = t.request("POST", path, body, VERSION)
    return status, head, json.loads(data)


def client(t):
    return anthropic.Anthropic(base_url=t.url, api_key="unused", max_retries=0)


def calls_of(messages):
    return [c for m in messages for c in m.get("tool_calls") or []]


def in_place(block, *more):
    return [{"role": "assistant", "content": [block]}, *more]


NEXT = {"role": "user", "content": "Go on. [[fake tokens=5]]"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
def test_on_demand(pair, kind, stream):
    t, a = pair(kind)
    c, messages = client(t), talk(8)
    asked_before = len(asked(a))
    wanted = {"model": MODEL, "max_tokens": 200, "system": "Be brief.", "tools": TOOLS, "messages": messages, "compaction": ASK,
              "betas": ["compact-2026-09-04"]}
    if stream:
        with c.beta.messages.stream(**wanted) as s:
            message = s.get_final_message()
    else:
        message = c.beta.messages.create(**wanted)
    (block,) = message.content
    assert (block.type, message.stop_reason, message.model) == ("compaction", "compaction", MODEL)
    assert [i.type for i in message.usage.iterations] == ["compaction"] and message.usage.output_tokens == message.usage.input_tokens == 0
    assert len(asked(a)) == asked_before, "no model is asked"
    for words in ("Find out why", "I look at part 7.", "And now?", '## call "t7" "read"'):
        assert words in block.content, words
    assert "[.." in block.content and len(block.content) < len(json.dumps(messages)) / 2
    # ... and goes on from there, as the conversation that it was
    answer = c.beta.messages.create(model=MODEL, max_tokens=9, tools=TOOLS, betas=["compact-2026-09-04"],
                                    messages=in_place(block.model_dump(exclude_none=True), NEXT))
    assert answer.content[0].text and answer.stop_reason in ("end_turn", "max_tokens")
    sent = asked(a)[-1]["messages"]
    roles = [m["role"] for m in sent]
    assert roles[0] == "user" and "Find out why" in json.dumps(sent[0]) and roles[-1] == "user"
    assert "And now?" in json.dumps(sent[-1]) and "Go on." in json.dumps(sent[-1])
    assert calls_of(sent)[-1]["function"]["name"] == "read" and roles.count("tool") == len(calls_of(sent)) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_at_a_threshold(pair, kind):
    t, a = pair(kind)
    _, _, whole = post(t, talk(2), context_management=edit(3000))
    assert [b["type"] for b in whole["content"]] == ["text"] and "iterations" not in whole["usage"]
    messages = talk(8)
    status, head, whole = post(t, messages, context_management=edit(3000))
    block, text = whole["content"]
    assert status == 200 and (block["type"], text["type"], whole["stop_reason"]) == ("compaction", "text", "end_turn"), whole
    assert "compacted from" in head["X-Tandem-Reason"] and int(head["X-Tandem-Tokens"].split("in=")[1].split()[0]) < 3000
    assert [i["type"] for i in whole["usage"]["iterations"]] == ["compaction", "message"]
    assert whole["usage"]["iterations"][1]["output_tokens"] == whole["usage"]["output_tokens"] == 5
    first = asked(a)[-1]["messages"]
    # What follows brings the block, old messages and all, and its prompt goes on from the same bytes.
    more = [*messages, {"role": "assistant", "content": whole["content"]}, NEXT]
    status, head, again = post(t, more, context_management=edit(3000))
    assert status == 200 and [b["type"] for b in again["content"]] == ["text"]
    second = asked(a)[-1]["messages"]
    assert second[:len(first)] == first and len(second) == len(first) + 2
    if kind == "llama-server":
        assert again["usage"]["cache_read_input_tokens"] > 5 * again["usage"]["input_tokens"]


def test_a_stream_has_the_block_first(pair):
    t, a = pair("ollama")
    with client(t).beta.messages.stream(model=MODEL, max_tokens=50, messages=talk(8), tools=TOOLS, context_management=edit(3000),
                                        betas=["compact-2026-01-12"]) as s:
        kinds = [e.type for e in s]
        message = s.get_final_message()
    assert kinds.count("compaction") == 1 and kinds.index("compaction") < kinds.index("text")
    block, text = message.content
    assert block.content and block.signature and text.text == "w0 w1 w2 w3 w4"
    assert [i.type for i in message.usage.iterations] == ["compaction", "message"]
    status, _, whole = post(t, [*in_place(block.model_dump(exclude_none=True)), NEXT])
    assert status == 200, whole


def test_a_pause(pair):
    t, a = pair("ollama")
    status, _, whole = post(t, talk(8), context_management=edit(3000, pause_after_compaction=True))
    (block,) = whole["content"]
    assert (status, whole["stop_reason"], block["type"]) == (200, "compaction", "compaction") and asked(a) == []
    kept = talk(8)[-2:]  # what a client wants to keep as it was
    status, _, whole = post(t, in_place(block, *kept), context_management=edit(3000, pause_after_compaction=True))
    assert status == 200 and whole["content"][0]["type"] == "text"


def test_blocks_of_others_are_refused(pair):
    t, a = pair("ollama")
    block = post(t, talk(8), compaction=ASK)[2]["content"][0]
    for changed, code in (({"content": block["content"] + "\n\n## user\nrm"}, "compaction_content_mismatch"),
                          ({"signature": "0" * 32}, "compaction_signature_invalid"), ({"signature": "EqQB"}, "compaction_signature_invalid"),
                          ({"signature": None}, "compaction_signature_invalid")):
        status, head, whole = post(t, in_place({**block, **changed}, NEXT))
        assert (status, whole["error"]["type"], whole["error"]["details"]) == (400, "invalid_request_error", {"error_code": code}), whole
        assert whole["request_id"] == head["request-id"]
    assert asked(a) == []
    assert post(t, in_place({**block, "cache_control": {"type": "ephemeral"}}, NEXT))[0] == 200
    assert post(t, in_place({"type": "compaction", "content": None}, NEXT))[0] == 200  # one that failed is nothing
    with pytest.raises(anthropic.BadRequestError):
        client(t).beta.messages.create(model=MODEL, max_tokens=9, messages=in_place({**block, "content": "x"}, NEXT), betas=["compact-2026-09-04"])


@pytest.mark.parametrize("members, words", [
    ({"compaction": {"type": "shorten"}}, "compaction.type"),
    ({"compaction": ASK, "context_management": edit(3000)}, "context_management"),
    ({"compaction": ASK, "messages": [{"role": "user", "content": []}]}, "nothing to summarize"),
    ({"compaction": ASK, "messages": talk(1)[:2]}, "tool_use"),
    ({"context_management": {"edits": [{"type": "compact_20260112", "trigger": {"type": "turns", "value": 1}}]}}, "trigger"),
])
def test_wishes_that_make_no_sense(pair, members, words):
    t, a = pair("ollama")
    status, _, whole = post(t, **{"messages": talk(1), **members})
    assert status == 400 and words in whole["error"]["message"], whole
    assert asked(a) == []


def test_what_cannot_be_made_to_fit(pair):
    t, a = pair("ollama")
    status, _, whole = post(t, talk(1), compaction=ASK, system="Never forget. " * 4000)
    assert status == 400 and whole["error"]["message"].startswith("prompt is too long"), whole


def test_a_threshold_that_tools_and_system_prompt_reach_alone(pair):
    t, a = pair("ollama")
    status, _, whole = post(t, talk(2), system="Never forget. " * 700, context_management=edit(3000))
    assert status == 200 and [b["type"] for b in whole["content"]] == ["text"], whole
    assert t.events(ev="compacted")[-1]["tokens_after"] == "0"


def test_again_and_again(pair):
    t, a = pair("ollama")
    messages, sizes = talk(8), []
    for i in range(1, 7):
        status, _, whole = post(t, messages, compaction=ASK)
        assert status == 200, whole
        block = whole["content"][0]
        sizes.append(len(block["content"]))
        assert block["content"].count("Find out why the table") == 1 and block["content"].count("The conversation so far") == 1
        messages = in_place(block, *talk(8, begin=8 * i))
    assert max(sizes) < 2 * sizes[0] and f'"t{8 * 6 - 1}"' in block["content"]


def test_blocks_outlast_a_restart(pair, tandem, fake, tmp_path):
    state = {"state_dir": str(tmp_path / "state")}
    t, a = pair("ollama", **state)
    block = post(t, talk(8), compaction=ASK)[2]["content"][0]
    assert t.stop() == 0
    assert (tmp_path / "state" / "compaction.key").stat().st_mode & 0o777 == 0o600
    again = tandem([{"name": "gpu0", "roles": ["main"], "model": MODEL, "num_ctx": WINDOW, "backend": {"type": "ollama", "url": a.url}}], **state)
    assert post(again, in_place(block, NEXT))[0] == 200
    assert block["signature"] not in again.log() and block["content"][:40] not in again.log()


def test_counts_are_of_what_the_block_stands_for(pair):
    t, a = pair("ollama")
    block = post(t, talk(8), compaction=ASK)[2]["content"][0]
    count = [post(t, m, COUNT)[2]["input_tokens"] for m in (talk(8), in_place(block, NEXT), [*talk(8), *in_place(block, NEXT)])]
    assert count[1] == count[2] < count[0] / 2
    assert post(t, talk(8), COUNT, compaction=ASK)[2]["input_tokens"] == count[0]  # the conversation as sent


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_goes_on_after_a_death(pair, kind):
    t, a = pair(kind, options=("--no-replay",))
    a.fault(times=1, hang_after=20)  # no answer ends before its worker does
    messages = [*talk(8)[:-1], {"role": "user", "content": "And now? [[fake tokens=120]]"}]
    with Wire(t) as w:
        w.send("POST", PATH, {"model": MODEL, "max_tokens": 200, "messages": messages, "stream": True, "context_management": edit(3000)},
               [f"{k}: {v}" for k, v in VERSION.items()]).head()
        data = b""
        while b"w9" not in data:
            data += w.piece()
        os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
        data += w.rest()
    assert t.requests()["resumed"] == 1
    events = [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: ")]
    starts = [(e["index"], e["content_block"]["type"]) for e in events if e["type"] == "content_block_start"]
    assert starts == [(0, "compaction"), (1, "text")]
    assert [e["index"] for e in events if e["type"] == "content_block_stop"] == [0, 1]
    assert "".join(e["delta"]["text"] for e in events if e.get("delta", {}).get("type") == "text_delta").split() == [f"w{i}" for i in range(120)]


def test_large_ones_and_other_names(pair):
    t, a = pair("ollama", window=32768, models=[{"match": "claude-*", "use": "gpu0"}])
    status, _, whole = post(t, talk(150), model="claude-opus", compaction=ASK)
    assert status == 200 and whole["model"] == "claude-opus" and len(json.dumps(talk(150))) > 200000, whole
    status, _, whole = post(t, in_place(whole["content"][0], *talk(100, begin=150)), model="claude-opus", context_management=edit(20000))
    assert status == 200 and whole["model"] == "claude-opus" and [b["type"] for b in whole["content"]] == ["compaction", "text"], whole
    t.wait_idle()


def test_a_block_of_ours_is_no_break(pair):
    """On demand: the next request brings it in place of the conversation that the guardian remembers."""
    t, _ = pair("llama-server", window=32768)
    messages = talk(8)
    _, head, _ = post(t, messages)
    assert head["X-Tandem-Prefix"].startswith("new")
    status, _, whole = post(t, messages, compaction=ASK)
    assert status == 200
    block = whole["content"][0]
    status, head, _ = post(t, in_place(block, NEXT))
    assert status == 200 and head["X-Tandem-Prefix"].startswith("compacted"), head["X-Tandem-Prefix"]
    status, head, _ = post(t, in_place(block, NEXT, {"role": "assistant", "content": "So."}, NEXT))
    assert status == 200 and head["X-Tandem-Prefix"].startswith("kept"), head["X-Tandem-Prefix"]
    assert t.command("counters")["prefix_compacted"] == 1


def test_what_would_be_done_is_told(pair):
    t, a = pair("ollama")

    def told(messages, **more):
        body = {"model": MODEL, "max_tokens": 200, "system": "Be brief.", "tools": TOOLS, "messages": messages, **more}
        status, _, data = t.request("POST", PATH, body, {**VERSION, "X-Tandem-Explain": "1"})
        assert status == 200, data
        return json.loads(data)

    alone = told(talk(8), compaction=ASK)
    assert alone["outcome"] == "compacted" and alone["tokens_sent"] == 0
    assert (alone["compaction"]["made"], alone["compaction"]["answer"], alone["compaction"]["threshold"]) == (True, "block", None)
    first = told(talk(8), context_management=edit(3000))
    assert first["outcome"] == "original" and first["compaction"]["answer"] == "block, model"
    assert first["tokens_sent"] == first["compaction"]["tokens_after"] < 3000 < first["compaction"]["tokens_before"]
    assert told(talk(8), context_management=edit(3000, pause_after_compaction=True))["outcome"] == "compacted"
    small = told(talk(2), context_management=edit(3000))["compaction"]
    assert (small["made"], small["answer"], small["tokens_after"]) == (False, "model", None) and "threshold" in small["why"]
    full = told(talk(2), system="Never forget. " * 700, context_management=edit(3000))["compaction"]
    assert not full["made"] and "no room" in full["why"]
    assert "compaction" not in told(talk(2))
    assert asked(a) == [] and t.events(ev="compacted") == [] and not os.path.exists(os.path.join(t.run_dir, "compaction.key"))
