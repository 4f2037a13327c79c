"""What of a request's messages was left out, for the page at /ui/: kept while log.content is on, for who has the key that the request came
with, within limits.content_bytes, in memory alone."""

import json
import os
import signal

import pytest

from conftest import attached
from harness import in_thread, wait_for
from test_access import KEY, OTHER, bearer, guarded, keys, line  # noqa: F401 - two fixtures
from test_reload import main_device, small_device, write
from test_routes import prompt
from test_ui import look, talk
from test_upgrade import upgradable  # noqa: F401 - a fixture
from wire import CHAT, GENERATE, OPENAI

MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
ON = {"log": {"content": True}}
THIRD = "sk-tandem-" + "c3" * 32


def ask(path, messages):
    """The body of a conversation in the dialect of the path."""
    body = {"model": "m:1b", "stream": False}
    if path == MESSAGES:
        return {**body, "max_tokens": 64, "system": messages[0]["content"], "messages": messages[1:]}
    if path == RESPONSES:
        return {**body, "instructions": messages[0]["content"], "input": messages[1:]}
    if path == GENERATE:
        return {**body, "system": messages[0]["content"], "prompt": messages[-1]["content"]}
    return {**body, "messages": messages}


def asked(t, path=CHAT, messages=None, headers=None):
    """A request's id."""
    body = ask(path, messages or talk(6))
    status, answer, data = t.request("POST", path, body, {"anthropic-version": "2023-06-01", **(headers or {})})
    assert status == 200, data
    return answer["X-Tandem-Request-Id"]


def standing(t, rid, headers=None):
    """What is said of a request's texts, once they are there or known not to be."""

    def told():
        status, answer, got = look(t, f"/ui/api/content/{rid}", headers)
        assert status == 200 and answer["Cache-Control"] == "no-store" and got["request"] == rid, got
        return got["content"] not in ("coming", "running") and got

    return wait_for(told, "the texts")


def texts(t, rid, headers=None):
    """All messages of a request that are kept."""
    told = standing(t, rid, headers)
    assert told["content"] == "kept" and told["why"] == "" and told["messages"] > 0, told
    out = [look(t, f"/ui/api/content/{rid}/{i}", headers) for i in range(told["messages"])]
    assert all(status == 200 and answer["Cache-Control"] == "no-store" for status, answer, _ in out)
    assert look(t, f"/ui/api/content/{rid}/{told['messages']}", headers)[0] == 404
    return [m for _, _, m in out]


def sent(messages):
    """The texts that went to the backend."""
    return [m["before"] if m["sent"] == "whole" else m["after"] for m in messages if m["sent"] != "nothing"]


def held(t):
    r = t.command("requests 1")
    return r["content_kept"], r["content_bytes"]


# --- what is there ---


@pytest.mark.parametrize("mode", ["threshold", "adaptive"])
@pytest.mark.parametrize("path", [CHAT, GENERATE, OPENAI, MESSAGES, RESPONSES])
def test_each_message_as_it_came_and_as_it_was_sent(pair, path, mode):
    t, a, _ = pair(**ON, routing={"mode": mode}, main_device={"num_ctx": 4096})
    messages = [{"role": "system", "content": "You help."}, {"role": "user", "content": prompt(9000)}] if path == GENERATE else talk(12)
    rid = asked(t, path, messages)
    told = texts(t, rid)
    assert [m["index"] for m in told] == list(range(len(messages)))
    assert [(m["role"], m["before"]) for m in told] == [(m["role"], m["content"]) for m in messages]
    assert all((m["after"] is None) == (m["sent"] != "shortened") and m["others"] == [] for m in told)
    assert {m["sent"] for m in told} >= {"whole", "shortened"}
    body = json.loads(next(b for b in reversed(a.bodies()) if b'"messages"' in b or b'"prompt"' in b))
    assert sent(told) == ([m["content"] for m in body["messages"]] if "messages" in body else [body["system"], body["prompt"]])
    rows = t.command(f"request {rid}")["messages"]
    assert [(m["role"], m["bytes_in"]) for m in rows] == [(m["role"], len(m["before"].encode())) for m in told]


def test_calls_and_pictures(pair):
    """Calls stand in the text; of a picture its type and size are there, and no byte."""
    t, a, _ = pair(**ON)
    picture = "data:image/png;base64," + "QUJD" * 100
    call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": json.dumps({"path": "src/<img onerror>.c"})}}
    messages = [{"role": "user", "content": "Fix it."}, {"role": "assistant", "content": "I look.", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": prompt(3000)},
                {"role": "user", "content": [{"type": "text", "text": "like this"}, {"type": "image_url", "image_url": {"url": picture}}]}]
    for i in range(6):
        messages += [{"role": "assistant", "content": f"step {i}"}, {"role": "user", "content": prompt(500)}]
    told = texts(t, asked(t, OPENAI, messages))
    assert told[1]["before"] == 'I look.\nread({"path": "src/<img onerror>.c"})'
    assert told[2]["sent"] in ("shortened", "nothing") and told[2]["before"] == prompt(3000)
    assert [(o["type"], o["bytes"]) for o in told[3]["others"]] == [("image/png", len(json.dumps(messages[3]["content"][1])))]
    assert "QUJDQUJD" not in json.dumps(told)


def test_results_that_are_left_out_whole(pair):
    """An agent's conversation: what went to a digest is told, and what stayed is what the backend got, calls and all."""
    t, a, _ = pair(**ON, main_device={"num_ctx": 4096})
    messages = [{"role": "user", "content": "Look through all of it."}]
    for i in range(12):
        call = {"function": {"name": "read", "arguments": {"path": f"src/part_{i}.c"}}}
        messages += [{"role": "assistant", "content": f"Part {i}.", "tool_calls": [call]}, {"role": "tool", "content": prompt(900)}]
    told = texts(t, asked(t, CHAT, messages))
    assert {m["sent"] for m in told} == {"whole", "shortened", "nothing"} and all(m["before"].startswith(o["content"]) for m, o in zip(told, messages))
    got = json.loads(a.bodies()[-1])["messages"]
    calls = [f'\nread({json.dumps(c["tool_calls"][0]["function"]["arguments"], separators=(",", ":"))})' if c.get("tool_calls") else "" for c in got]
    assert [x.replace('": "', '":"') if c else x for x, c in zip(sent(told), calls)] == [m["content"] + c for m, c in zip(got, calls)]


def test_what_was_not_shortened_says_so(pair):
    t, a, _ = pair(**ON)
    whole = asked(t, messages=[{"role": "user", "content": "hi"}])
    told = standing(t, whole)
    assert (told["content"], told["messages"]) == ("whole", 0) and "Nothing was left out" in told["why"]
    assert look(t, f"/ui/api/content/{whole}/0")[0] == 404
    passed = t.request("POST", "/v1/embeddings", {"model": "m:1b", "input": "x"})[1]["X-Tandem-Request-Id"]
    assert standing(t, passed)["content"] == "whole"
    # Under way nothing is told yet; what got another's answer is told there.
    a.fault(times=1, fault="hang")
    body = ask(CHAT, [{"role": "user", "content": "hang"}])
    first = in_thread(lambda: t.request("POST", CHAT, body))
    running = wait_for(lambda: [r["request"] for r in t.command("requests")["requests"] if r["state"] == "running"], "a request under way")[0]
    assert look(t, f"/ui/api/content/{running}")[2]["content"] == "running"
    t.command(f"cancel {running}")
    first.join()
    assert standing(t, running)["content"] == "whole"
    assert held(t) == (0, 0)
    for bad in ("x-1", "", "/", "x" * 100, f"{whole}/", f"{whole}/x", f"{whole}/-1", f"{whole}/0/0", f"{whole}/99999999999999999999", f"%20{whole}"):
        assert look(t, f"/ui/api/content/{bad}")[0] == 404, bad
    assert "error" in t.command(f"content {whole}")  # the stats socket has none of it


def test_of_requests_that_fail_and_of_clients_that_leave(pair):
    """What was sent last counts, whatever came of it: the original, where the shorter form was refused and it fits."""
    t, a, _ = pair(**ON)
    a.fault(times=-1, fault="500", error="out of memory")
    for messages, content in ((talk(6), "whole"), (talk(30), "kept")):
        status, headers, _ = t.chat(messages)
        assert status == 500 and standing(t, headers["X-Tandem-Request-Id"])["content"] == content
    assert [m["before"] for m in texts(t, headers["X-Tandem-Request-Id"])] == [m["content"] for m in talk(30)]
    a.reset()
    a.fault(times=1, fault="hang")
    c = t.client()
    c.send("POST", CHAT, ask(CHAT, talk(7)))
    a.struck()
    rid = t.command("requests 1")["requests"][0]["request"]
    c.close()
    wait_for(lambda: t.command(f"request {rid}")["state"] == "cancelled", "the client's leaving")
    assert len(texts(t, rid)) == len(talk(7))


# --- who may look ---


def test_only_with_the_same_key(guarded, keys):  # noqa: F811
    t, _ = guarded(line("laptop", KEY), line("desk", OTHER), device={"num_ctx": 4096}, **ON)
    mine, theirs = asked(t, headers=bearer(KEY)), asked(t, headers={"x-api-key": OTHER})
    for rid, key, other in ((mine, KEY, OTHER), (theirs, OTHER, KEY)):
        assert len(texts(t, rid, bearer(key))) == len(talk(6)) and len(texts(t, rid, {"x-api-key": key})) == len(talk(6))
        told = standing(t, rid, bearer(other))
        assert told == {"request": rid, "content": "other_key", "why": told["why"], "messages": 0} and "your key" in told["why"]
        for path in (f"/ui/api/content/{rid}", f"/ui/api/content/{rid}/0"):
            assert look(t, path)[0] == look(t, path, bearer(THIRD))[0] == 401
        assert look(t, f"/ui/api/content/{rid}/0", bearer(other))[0] == 404
        assert look(t, f"/ui/api/request/{rid}", bearer(other))[0] == 200  # the list is everybody's who has a key
    # The name is given to another: that one sees nothing of what was asked before.
    keys(line("laptop", THIRD), line("desk", OTHER))
    assert t.operate("reload")["state"] == "done"
    assert standing(t, mine, bearer(THIRD))["content"] == "other_key" and look(t, f"/ui/api/content/{mine}/0", bearer(THIRD))[0] == 404
    assert standing(t, theirs, bearer(OTHER))["content"] == "kept"


def test_keys_that_come_and_go(fake, tandem, keys):  # noqa: F811
    """What was asked without a key is nobody's once there are some; what was asked with one stays its own once there are none."""
    a = fake("main")
    t = tandem([main_device(a, num_ctx=4096)], **ON)
    before = asked(t)
    assert standing(t, before)["content"] == "kept"  # without keys whoever may look may look at it
    log = {"level": "debug", "content": True}
    write(t, [main_device(a, num_ctx=4096)], log=log, access={"key_file": keys(line("laptop", KEY))})
    assert t.operate("reload")["state"] == "done"
    t.wait_ready()
    with_key = asked(t, headers=bearer())
    assert standing(t, with_key, bearer())["content"] == "kept" and standing(t, before, bearer())["content"] == "other_key"
    write(t, [main_device(a, num_ctx=4096)], log=log)
    assert t.operate("reload")["state"] == "done"
    told = standing(t, with_key)
    assert told["content"] == "other_key" and "with a key" in told["why"] and look(t, f"/ui/api/content/{with_key}/0")[0] == 404
    assert standing(t, before)["content"] == "kept"


def test_an_answer_that_is_shared(pair):
    """Retries that get the answer of the first: what was sent is told with the first; where that one's client leaves, with the next one."""
    t, a, _ = pair(**ON, limits={"coalesce_after_ms": 0})
    a.fault(times=1, fault="hang")
    body = ask(CHAT, talk(6))
    first = t.client()
    first.send("POST", CHAT, body)
    a.struck()
    second = in_thread(lambda: t.request("POST", CHAT, body))
    wait_for(lambda: t.requests()["coalesced"] == 1, "the retry's joining")
    third = in_thread(lambda: t.request("POST", CHAT, body))
    wait_for(lambda: t.requests()["coalesced"] == 2, "another one's joining")
    first.close()
    wait_for(lambda: t.events(ev="taken_over"), "the retry's going on without the first")
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)  # it is asked again, and gets its answer
    status, headers, _ = second.join()
    assert status == 200
    left = [r["request"] for r in t.command("requests")["requests"] if r["state"] == "cancelled"][0]
    heir, last = headers["X-Tandem-Request-Id"], third.join()[1]
    assert last["X-Tandem-Reason"].endswith(f"; joined {heir}") and headers["X-Tandem-Reason"].endswith(f"; joined {left}")
    t.wait_idle()
    assert t.command(f"request {last['X-Tandem-Request-Id']}")["reason"] == last["X-Tandem-Reason"]
    assert t.command(f"request {heir}")["reason"] == headers["X-Tandem-Reason"] and "joined" not in t.command(f"request {left}")["reason"]
    assert len(texts(t, heir)) == len(talk(6)) and standing(t, last["X-Tandem-Request-Id"])["content"] == "joined"
    told = standing(t, left)
    assert told["content"] == "taken_over" and "went on with it" in told["why"] and told["messages"] == 0
    # Both stay.
    a.fault(times=1, fault="hang")
    body = ask(CHAT, talk(7))
    first = in_thread(lambda: t.request("POST", CHAT, body))
    a.struck()
    second = in_thread(lambda: t.request("POST", CHAT, body))
    wait_for(lambda: t.requests()["coalesced"] == 3, "the retry's joining")
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)  # it is asked again, and gets its answer
    ids = [x.join()[1]["X-Tandem-Request-Id"] for x in (first, second)]
    assert len(texts(t, ids[0])) == len(talk(7)) and standing(t, ids[1])["content"] == "joined"


# --- how long, and how much ---


def test_off_nothing_is_kept(pair):
    t, *_ = pair()
    rid = asked(t)
    t.wait_idle()
    told = look(t, f"/ui/api/content/{rid}")[2]
    assert told["content"] == "off" and "log.content" in told["why"] and told["messages"] == 0
    assert look(t, f"/ui/api/content/{rid}/0")[0] == 404 and held(t) == (0, 0)
    assert "secret question" not in t.log()


def test_a_reload_that_turns_it_off_frees_all_at_once(fake, tandem):
    a, b = fake("main"), fake("small", model=("s:0.5b",))
    devices = [main_device(a), small_device(b)]
    t = tandem(devices, **ON)
    rid = asked(t)
    assert standing(t, rid)["content"] == "kept" and held(t)[1] > sum(len(m["content"]) for m in talk(6))
    write(t, devices, log={"level": "debug", "content": False})
    assert t.operate("reload")["state"] == "done"
    assert held(t) == (0, 0) and look(t, f"/ui/api/content/{rid}")[2]["content"] == "off" and look(t, f"/ui/api/content/{rid}/0")[0] == 404
    off = asked(t, messages=talk(7))
    write(t, devices, log={"level": "debug", "content": True})
    assert t.operate("reload")["state"] == "done"
    for gone in (rid, off):
        told = standing(t, gone)
        assert told["content"] == "gone" and "no more" in told["why"]
    assert standing(t, asked(t, messages=talk(8)))["content"] == "kept"


def test_one_that_began_before_it_was_on_is_not_kept(fake, tandem):
    a = fake("main")
    t = tandem([main_device(a, num_ctx=4096)])
    a.fault(times=1, fault="hang")
    c = in_thread(lambda: asked(t))
    a.struck()
    worker = t.device("gpu0")["pid"]
    write(t, [main_device(a, num_ctx=4096)], log={"level": "debug", "content": True})
    assert t.operate("reload")["state"] == "done"
    os.kill(worker, signal.SIGKILL)  # it is asked again, and gets its answer
    assert standing(t, c.join())["content"] == "gone" and held(t) == (0, 0)


def test_the_bound(fake, tandem):
    a, b = fake("main"), fake("small", model=("s:0.5b",))
    devices = [main_device(a), small_device(b)]
    size = sum(len(m["content"]) for m in talk(6))
    t = tandem(devices, **ON, limits={"content_bytes": 4 * size})
    ids = [asked(t, messages=talk(6) + [{"role": "assistant", "content": "so"}, {"role": "user", "content": f"and {i}?"}]) for i in range(5)]
    assert standing(t, ids[-1])["content"] == "kept"
    t.wait_idle()
    states = [standing(t, i)["content"] for i in ids]
    assert states == sorted(states) and states[0] == "gone" and states[-1] == "kept", states  # the oldest went
    kept, used = held(t)
    assert kept == states.count("kept") and size < used <= 4 * size
    # One that is larger than all the room is not kept, and costs the others nothing.
    huge = asked(t, messages=[{"role": "user", "content": prompt(4 * size // 4 + 1000)}])
    told = standing(t, huge)
    assert told["content"] == "too_large" and "limits.content_bytes" in told["why"] and look(t, f"/ui/api/content/{huge}/0")[0] == 404
    assert standing(t, ids[-1])["content"] == "kept"
    # Less room: what is above goes at once; none: the switch is named.
    write(t, devices, log={"level": "debug", "content": True}, limits={"content_bytes": 1000})
    assert t.operate("reload")["state"] == "done"
    assert held(t)[1] <= 1000 and standing(t, ids[-1])["content"] == "gone"
    write(t, devices, log={"level": "debug", "content": True}, limits={"content_bytes": 0})
    assert t.operate("reload")["state"] == "done"
    told = standing(t, ids[-1])
    assert held(t) == (0, 0) and told["content"] == "off" and "limits.content_bytes" in told["why"]


def test_an_upgrade_begins_with_none(fake, upgradable):  # noqa: F811
    a = fake("main")
    t = upgradable([attached(a, slots=2, num_ctx=4096)], **ON)
    rid = asked(t)
    assert standing(t, rid)["content"] == "kept"
    t.upgrade()
    assert held(t) == (0, 0) and look(t, f"/ui/api/content/{rid}")[0] == 404


def test_nothing_else_tells_of_it(pair):
    """Documents and events have no more than before; headers are no part of it."""
    t, *_ = pair(**ON)
    rid = asked(t, headers={"Authorization": "Bearer hidden-key", "Cookie": "k=hidden-key"})
    told = texts(t, rid)
    assert "secret question" in json.dumps(told) and "hidden-key" not in json.dumps(told)
    for name in ("requests", f"request {rid}", f"recent {rid}", "recent", "sessions", "status", "jobs"):
        assert "secret question" not in json.dumps(t.command(name)), name
