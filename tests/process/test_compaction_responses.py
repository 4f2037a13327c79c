"""Compaction as OpenAI's API has it, by the frozen layout: at a threshold, by an item that asks for it, by a path of its own."""

import json
import os
import signal

import openai
import pytest

from dialect import MODEL, asked
from test_compaction import KINDS, LINES, WINDOW, calls_of
from test_responses import PATH, READ, ask, post, said, text_of, whole
from wire import Wire

COMPACT, COUNT = PATH + "/compact", PATH + "/input_tokens"
TRIGGER = {"type": "compaction_trigger"}
NEXT = said("Go on. [[fake tokens=5]]")
QUESTION = "Find out why the table has no row for CHAT_OVER."
RULES = "Never touch the table itself."
AT = {"instructions": "Be brief.", "tools": [READ]}


def at(threshold):
    return [{"type": "compaction", "compact_threshold": threshold}]


def talk(rounds, begin=0, last="And now? [[fake tokens=5]]"):
    """A person, and an agent that reads a part of a file in each round: some 700 tokens."""
    items = [said(RULES, "developer"), said(QUESTION)] if begin == 0 else []
    for i in range(begin, begin + rounds):
        part = "\n".join(LINES[(40 * i + n) % len(LINES)] for n in range(60))
        items += [said(f"I look at part {i}.", "assistant"),
                  {"type": "function_call", "call_id": f"t{i}", "name": "read", "arguments": json.dumps({"path": f"part{i}.c"})},
                  {"type": "function_call_output", "call_id": f"t{i}", "output": part}]
    return [*items, said("I have seen them.", "assistant"), said(last)]


@pytest.fixture
def pair(compacting):
    return compacting


def client(t):
    return openai.OpenAI(base_url=t.url + "/v1", api_key="unused", max_retries=0)


def block_of(t, items, **more):
    """By the path of its own."""
    status, head, answer = post(t, ask(items, **{**AT, **more}), COMPACT)
    assert status == 200 and head["X-Tandem-Strategy"] == "pass", answer
    return answer["output"][-1]


def changed(block, **members):
    return {**block, **members}


def last_messages(a):
    return asked(a)[-1]["messages"]


@pytest.mark.parametrize("kind", KINDS)
def test_by_its_own_path(pair, kind):
    t, a = pair(kind)
    items, before = talk(8), len(asked(a))
    answer = client(t).responses.compact(model=MODEL, input=items, instructions="Be brief.")
    assert len(asked(a)) == before, "no model is asked"
    assert answer.object == "response.compaction" and answer.id.startswith("resp_") and answer.created_at > 0
    *people, block = answer.output
    assert [(m.type, m.role, m.status, m.content[0].text) for m in people] == [
        ("message", "user", "completed", QUESTION), ("message", "user", "completed", items[-1]["content"][0]["text"])]
    assert block.type == "compaction" and block.id.startswith("cmp_")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (0, 0, 0)
    text = block.encrypted_content
    for words in (QUESTION, RULES, "I look at part 7.", "And now?", '## call "t7" "read"', "[.."):
        assert words in text, words
    assert "Be brief." not in text and len(text) < len(json.dumps(items)) / 2
    # All of it is what comes next begins with.
    items = [i.to_dict() for i in answer.output]
    assert text_of(post(t, ask([*items, NEXT], **AT))[2]) == "w0 w1 w2 w3 w4"
    sent = last_messages(a)
    assert sent[0]["role"] == "system" and sent[0]["content"] == "Be brief.\n" + RULES
    assert [m["role"] for m in sent[:2]] == ["system", "user"] and sent[-1]["content"].startswith("Go on.")
    assert json.dumps(sent).count(QUESTION) == 1 and json.dumps(sent).count("And now?") == 1
    roles = [m["role"] for m in sent]
    assert calls_of(sent)[-1]["function"]["name"] == "read" and roles.count("tool") == len(calls_of(sent)) > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
def test_at_a_threshold(pair, kind, stream):
    t, a = pair(kind)

    def create(items):
        wanted = {"model": MODEL, "input": items, **AT, "context_management": at(3000)}
        if not stream:
            return client(t).responses.create(**wanted)
        with client(t).responses.stream(**wanted) as s:
            events = list(s)
            answer = s.get_final_response()
        added = [e.item.type for e in events if e.type == "response.output_item.added"]
        assert added == [e.item.type for e in events if e.type == "response.output_item.done"] == [i.type for i in answer.output]
        return answer

    assert [i.type for i in create(talk(2)).output] == ["message"]
    items = talk(8)
    answer = create(items)
    assert [i.type for i in answer.output] == ["compaction", "message"] and answer.output_text == "w0 w1 w2 w3 w4"
    assert answer.usage.output_tokens == 5 and 0 < answer.usage.input_tokens < 3000
    first = last_messages(a)
    # The next request brings the block, old items and all or without them, and its prompt goes on from the same bytes.
    output = [i.to_dict() for i in answer.output]
    for brought in ([*items, *output, NEXT], [*output, NEXT]):
        again = create(brought)
        assert [i.type for i in again.output] == ["message"]
        second = last_messages(a)
        assert second[:len(first)] == first and len(second) == len(first) + 2
        if kind == "llama-server":
            usage = again.usage
            assert usage.input_tokens_details.cached_tokens > 5 * (usage.input_tokens - usage.input_tokens_details.cached_tokens)


@pytest.mark.parametrize("stream", [False, True])
def test_by_an_item(pair, stream):
    t, a = pair("ollama")
    body = ask([*talk(8), TRIGGER], **AT)
    if stream:
        answer = whole(t.request("POST", PATH, {**body, "stream": True})[2])
    else:
        answer = post(t, body)[2]
    assert (answer["object"], answer["status"], answer["usage"]["total_tokens"]) == ("response", "completed", 0)
    (block,) = answer["output"]
    assert block["type"] == "compaction" and asked(a) == []
    # Clients send what a person said once more, their state as it is now, and the block.
    items = [said("cwd is /tmp/b"), said("Now be quick.", "developer"), said(QUESTION), block, NEXT]
    assert post(t, ask(items, **AT))[0] == 200
    sent = last_messages(a)
    assert sent[0]["content"] == "Be brief.\n" + RULES and json.dumps(sent).count(QUESTION) == 1
    assert [m["content"] for m in sent[-3:-1]] == ["cwd is /tmp/b", "<system-reminder>\nNow be quick.\n</system-reminder>"]
    assert [m["content"][:7] for m in sent[-4:]][0] == "And now"


def test_the_systems_words_come_once(pair):
    t, a = pair("ollama")
    block = block_of(t, talk(8))
    post(t, ask([said(RULES, "developer"), block, NEXT], **AT))
    assert last_messages(a)[0]["content"] == "Be brief.\n" + RULES
    post(t, ask([said("Other rules.", "developer"), block, NEXT], **AT))
    assert last_messages(a)[0]["content"] == "Be brief.\nOther rules.\n" + RULES
    post(t, ask([block, NEXT]))
    assert last_messages(a)[0] == {"role": "system", "content": RULES}
    again = block_of(t, [said("Other rules.", "developer"), block, *talk(3, begin=9)])
    assert again["encrypted_content"].count(RULES) == 1 and "Other rules." in again["encrypted_content"]


def test_again_and_again(pair):
    """A client that keeps all that a person said, as Codex does."""
    t, a = pair("ollama")
    items, people, sizes = talk(8), [], []
    for i in range(1, 7):
        people += [x for x in items if x.get("role") == "user" and x not in people]
        block = block_of(t, items)
        sizes.append(len(block["encrypted_content"]))
        assert block["encrypted_content"].count(QUESTION) == 1 and block["encrypted_content"].count("The conversation so far") == 1
        items = [*people, block, *talk(8, begin=8 * i, last=f"Round {i}? [[fake tokens=5]]")]
    assert max(sizes) < 2 * sizes[0] and f'"t{8 * 6 - 1}"' in block["encrypted_content"]
    assert post(t, ask([*people, block, NEXT], **AT))[0] == 200
    assert json.dumps(last_messages(a)).count("Round 4?") == 1


@pytest.mark.parametrize("path", [PATH, COMPACT, COUNT])
def test_blocks_of_others_are_refused(pair, path):
    t, a = pair("ollama")
    block = block_of(t, talk(8))
    text = block["encrypted_content"]
    for bad, words in ((text + "\n\n## user\nrm", "altered"), (text.replace("part 7", "part 8"), "altered"), ("gAAAAABpx", "not made here"),
                       (text[text.index("\n") + 1:], "not made here"), ("[tandem compaction " + "0" * 32 + "]\nx", "not made here")):
        status, _, answer = post(t, ask([changed(block, encrypted_content=bad), NEXT]), path)
        error = answer["error"]
        assert (status, error["type"], error["param"], error["code"]) == (400, "invalid_request_error", "input", "invalid_encrypted_content"), answer
        assert words in error["message"] and text[60:90] not in error["message"]
    assert asked(a) == []
    with pytest.raises(openai.BadRequestError) as e:
        client(t).responses.create(model=MODEL, input=[changed(block, encrypted_content="x"), NEXT])
    assert e.value.code == "invalid_encrypted_content"
    assert post(t, ask([{"type": "compaction_summary", "encrypted_content": text}, NEXT]), path)[0] == 200  # its older name, and no id


@pytest.mark.parametrize("members, words", [
    ({"context_management": {"edits": []}}, "must be a list"),
    ({"context_management": [{"type": "clear"}]}, "must be \"compaction\""),
    ({"context_management": at("many")}, "number of tokens"),
    ({"context_management": at(0)}, "number of tokens"),
    ({"input": [TRIGGER]}, "no item"),
    ({"input": [TRIGGER, NEXT]}, "input[1]: nothing may stand behind"),
    ({"input": [*talk(1)[:4], TRIGGER]}, "no output yet"),
    ({"input": [{"type": "compaction", "id": "cmp_1"}]}, "encrypted_content"),
])
def test_wishes_that_make_no_sense(pair, members, words):
    t, a = pair("ollama")
    status, _, answer = post(t, {**ask(talk(1)), **members})
    assert status == 400 and words in answer["error"]["message"], answer
    assert asked(a) == []


def test_a_path_of_its_own_has_limits(pair):
    t, a = pair("ollama")
    for body, words in (({"model": MODEL}, "'input'"), (ask([]), "empty"), (ask("x", previous_response_id="resp_1"), "previous_response_id"),
                        (ask([said("r", "developer")]), "nothing to compact"), (ask(talk(1)[:4]), "no output yet")):
        status, _, answer = post(t, body, COMPACT)
        assert status == 400 and words in answer["error"]["message"], answer
    assert t.request("GET", COMPACT)[0] == 404
    status, _, answer = post(t, ask(talk(1), instructions="Never forget. " * 4000, stream=True), COMPACT)
    assert status == 400 and answer["error"]["code"] == "context_length_exceeded", answer
    assert post(t, ask("x" * 9), COMPACT)[2]["output"][0]["content"] == [{"type": "input_text", "text": "x" * 9}]
    assert asked(a) == []


def test_a_threshold_that_the_client_leaves_to_us(pair):
    t, a = pair("ollama")
    for rounds, kinds in ((4, ["message"]), (18, ["compaction", "message"])):
        answer = post(t, ask(talk(rounds), **AT, context_management=[{"type": "compaction", "compact_threshold": None}]))[2]
        assert [i["type"] for i in answer["output"]] == kinds, rounds
    assert t.events(ev="compacted")[-1]["tokens_after"] != "0"


def test_blocks_outlast_a_restart(pair, tandem, tmp_path):
    state = {"state_dir": str(tmp_path / "state")}
    t, a = pair("ollama", **state)
    block = block_of(t, talk(8))
    assert t.stop() == 0
    again = tandem([{"name": "gpu0", "roles": ["main"], "model": MODEL, "num_ctx": WINDOW, "backend": {"type": "ollama", "url": a.url}}], **state)
    assert post(again, ask([block, NEXT]))[0] == 200
    assert block["encrypted_content"][60:99] not in again.log() and block["encrypted_content"][:50] not in again.log()


def test_counts_are_of_what_the_block_stands_for(pair):
    t, a = pair("ollama")
    block = block_of(t, talk(8))
    count = [post(t, ask(i, **AT), COUNT)[2]["input_tokens"] for i in (talk(8), [block, NEXT], [*talk(8), block, NEXT])]
    assert count[1] == count[2] < count[0] / 2
    assert post(t, ask([*talk(8), TRIGGER], **AT), COUNT)[2]["input_tokens"] == count[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_goes_on_after_a_death(pair, kind):
    t, a = pair(kind, options=("--no-replay",))
    a.fault(times=1, hang_after=20)  # no answer ends before its worker does
    items = [*talk(8)[:-1], said("And now? [[fake tokens=120]]")]
    with Wire(t) as w:
        w.send("POST", PATH, ask(items, stream=True, context_management=at(3000))).head()
        data = b""
        while b"w9" not in data:
            data += w.piece()
        os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
        data += w.rest()
    assert t.requests()["resumed"] == 1
    answer = whole(data)
    assert [i["type"] for i in answer["output"]] == ["compaction", "message"]
    assert text_of(answer).split() == [f"w{i}" for i in range(120)]


def test_a_block_of_ours_is_no_break(pair):
    t, _ = pair("llama-server", window=32768)
    items = talk(20)
    assert post(t, ask(items, **AT))[1]["X-Tandem-Prefix"].startswith("new")
    block = block_of(t, items)
    _, head, _ = post(t, ask([said(QUESTION), block, NEXT], **AT))
    assert head["X-Tandem-Prefix"].startswith("compacted"), head["X-Tandem-Prefix"]
    _, head, _ = post(t, ask([said(QUESTION), block, NEXT, said("So.", "assistant"), NEXT], **AT))
    assert head["X-Tandem-Prefix"].startswith("kept"), head["X-Tandem-Prefix"]
    assert t.command("counters")["prefix_compacted"] == 1


def test_one_that_leaves_nothing_out_is_the_conversation(pair):
    """The first and the newest words of a person are never shortened: the prompt goes on from the same bytes."""
    t, a = pair("llama-server")
    items = [said(RULES, "developer"), said(QUESTION), said("I look.", "assistant"), said("\n".join(LINES[:60]))]
    post(t, ask(items, **AT))
    before = last_messages(a)
    block = block_of(t, items)
    _, head, answer = post(t, ask([block, NEXT], **AT))
    assert head["X-Tandem-Prefix"].startswith("kept") and last_messages(a)[:-1] == before
    assert answer["usage"]["input_tokens_details"]["cached_tokens"] > 0.9 * answer["usage"]["input_tokens"]


def test_nor_is_one_at_a_threshold(pair):
    t, _ = pair("llama-server", window=32768)
    items = talk(7)
    assert post(t, ask(items, **AT))[1]["X-Tandem-Prefix"].startswith("new")
    items += [said("w0 w1 w2 w3 w4", "assistant"), NEXT]
    _, head, answer = post(t, ask(items, **AT, context_management=at(3000)))
    assert [i["type"] for i in answer["output"]] == ["compaction", "message"]
    assert head["X-Tandem-Prefix"].startswith("compacted"), head["X-Tandem-Prefix"]
    _, head, _ = post(t, ask([*items, *answer["output"], NEXT], **AT, context_management=at(3000)))
    assert head["X-Tandem-Prefix"].startswith("kept"), head["X-Tandem-Prefix"]


def test_large_ones_and_other_names(pair):
    t, a = pair("ollama", window=32768, models=[{"match": "gpt-*", "use": "gpu0"}])
    block = block_of(t, talk(150), model="gpt-9")
    status, _, answer = post(t, ask([block, *talk(100, begin=150)], model="gpt-9", context_management=at(20000)))
    assert status == 200 and answer["model"] == "gpt-9" and [i["type"] for i in answer["output"]] == ["compaction", "message"], answer
    t.wait_idle()


def test_what_would_be_done_is_told(pair):
    t, a = pair("ollama")
    explain = {"X-Tandem-Explain": "1"}
    told = post(t, ask([*talk(8), TRIGGER], **AT), **explain)[2]
    assert told["outcome"] == "compacted" and told["tokens_sent"] == 0
    c = told["compaction"]
    assert (c["made"], c["answer"], c["threshold"]) == (True, "block", None) and 0 < c["tokens_after"] < c["tokens_before"] / 2
    told = post(t, ask(talk(8), **AT, context_management=at(3000)), **explain)[2]
    assert told["outcome"] == "original" and told["compaction"]["answer"] == "block, model" and told["compaction"]["threshold"] == 3000
    assert told["tokens_sent"] == told["compaction"]["tokens_after"] < 3000
    told = post(t, ask(talk(2), **AT, context_management=at(3000)), **explain)[2]
    assert (told["compaction"]["made"], told["compaction"]["answer"]) == (False, "model") and "threshold" in told["compaction"]["why"]
    assert "compaction" not in post(t, ask(talk(2), **AT), **explain)[2]
    assert asked(a) == [] and t.events(ev="compacted") == []
