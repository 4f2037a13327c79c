"""OpenAI's /v1/responses by any backend, with what all chats get: the layout, the queue, heartbeats, errors in its form, going on after a
death, counts."""

import gzip
import json
import os
import signal
from urllib.parse import quote

import pytest

from dialect import MODEL, last_body, words
from harness import wait_for
from test_bodies import zstd
from wire import Wire

PATH, COUNT = "/v1/responses", "/v1/responses/input_tokens"
KINDS = ["ollama", "llama-server", "openai"]
FAST = {"first_ms": 20, "max_ms": 50}
READ = {"type": "function", "name": "read", "description": "Reads a file.", "strict": False,
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}
PATCH = {"type": "custom", "name": "apply_patch", "description": "Edits files.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: \"*** Begin\" LF\n"}}
SEARCH = {"type": "namespace", "name": "mcp__docs", "description": "Documents.", "tools": [{**READ, "name": "find"}]}
# What Codex says beside its input, whatever is asked.
CODEX = {"tool_choice": "auto", "parallel_tool_calls": True, "store": False, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k",
         "reasoning": {"effort": "medium", "summary": "auto"}, "text": {"verbosity": "medium"}, "client_metadata": {"a": "b"}}


def said(text, role="user"):
    return {"type": "message", "role": role, "content": [{"type": "output_text" if role == "assistant" else "input_text", "text": text}]}


def ask(content, **more):
    return {"model": MODEL, "input": content, **more}


def events(data):
    """The events of a stream, heartbeats left out; each has the name that its line says, and numbers that grow."""
    out = []
    for block in data.decode().split("\n\n"):
        if not block or block.startswith(":"):
            continue
        name, line = block.split("\n")
        assert name.startswith("event: ") and line.startswith("data: "), block
        out.append(json.loads(line[6:]))
        assert out[-1]["type"] == name[7:], block
    numbers = [e["sequence_number"] for e in out]
    assert numbers == sorted(set(numbers)), numbers
    return out


# What may follow in an item, and the member of the item that its pieces add up to.
PIECES = {"response.output_text": "text", "response.reasoning_summary_text": "text", "response.function_call_arguments": "arguments",
          "response.custom_tool_call_input": "input"}


def whole(data, ends="completed"):
    """The response that a stream adds up to; its order, and that all that is told twice is told alike, are held."""
    all_events = events(data)
    assert [e["type"] for e in all_events[:2]] == ["response.created", "response.in_progress"]
    assert all_events[-1]["type"] == "response." + ends
    created, final = all_events[0]["response"], all_events[-1]["response"]
    assert created["status"] == "in_progress" and created["output"] == [] and created["usage"] is None
    assert (created["id"], created["created_at"], created["model"]) == (final["id"], final["created_at"], final["model"])
    item, got, pieces = None, [], ""
    for e in all_events[2:-1]:
        kind, _, step = e["type"].rpartition(".")
        if e["type"] == "response.output_item.added":
            assert item is None and e["output_index"] == len(got)
            assert e["item"]["type"] == "compaction" or e["item"]["status"] == "in_progress"
            item, pieces = e["item"], ""
        elif e["type"] == "response.output_item.done":
            assert e["output_index"] == len(got) and e["item"]["id"] == item["id"]
            got.append(e["item"])
            item = None
        else:
            assert e["item_id"] == item["id"] and e["output_index"] == len(got), e
            if kind in PIECES and step == "delta":
                pieces += e["delta"]
            elif kind in PIECES:
                assert e[PIECES[kind]] == pieces
            else:
                assert kind in ("response.content_part", "response.reasoning_summary_part") and e["part"]["text"] == (pieces if step == "done" else "")
    if ends == "failed":  # whoever tells it may not know what there is
        return final
    assert item is None and final["output"] == got
    return final


def text_of(response):
    return "".join(p["text"] for i in response["output"] if i["type"] == "message" for p in i["content"])


@pytest.fixture
def pair(one_device):
    return one_device


def post(t, body, path=PATH, **headers):
    status, head, data = t.request("POST", path, body, headers)
    return status, head, json.loads(data)


def streamed(t, body, ends="completed"):
    status, head, data = t.request("POST", PATH, {**body, "stream": True})
    assert status == 200 and head["content-type"].startswith("text/event-stream"), data
    return whole(data, ends)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_streamed_and_not(pair, kind):
    t, a = pair(kind)
    body = ask("[[fake tokens=5&thinking=3]] hi", instructions="Be brief.", temperature=0.5, max_output_tokens=99, metadata={"a": "b"}, store=True)
    status, head, one = post(t, body)
    assert status == 200 and head["X-Tandem-Strategy"] == "A", one
    assert (one["object"], one["status"], one["model"], one["error"], one["store"]) == ("response", "completed", MODEL, None, False)
    assert (one["metadata"], one["temperature"], one["max_output_tokens"]) == ({"a": "b"}, 0.5, 99)
    thinking, text = one["output"]
    assert thinking["type"] == "reasoning" and thinking["summary"][0]["text"]
    assert (text["type"], text["role"], text["status"], text["content"][0]["text"]) == ("message", "assistant", "completed", words(5))
    usage = one["usage"]
    assert usage["output_tokens"] == 8 and 0 < usage["output_tokens_details"]["reasoning_tokens"] < 8
    assert usage["total_tokens"] == usage["input_tokens"] + 8 and usage["input_tokens_details"]["cached_tokens"] >= 0
    again = streamed(t, body)
    assert [(i["type"], i.get("summary") or i["content"]) for i in again["output"]] == [(i["type"], i.get("summary") or i["content"]) for i in one["output"]]
    assert again["usage"]["output_tokens"] == 8
    if kind == "llama-server":  # the second request's prompt was the first one's
        assert again["usage"]["input_tokens_details"]["cached_tokens"] > 0
    sent = last_body(a)
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "[[fake tokens=5&thinking=3]] hi"}]
    assert "input" not in sent and "metadata" not in sent
    if kind == "ollama":
        assert sent["options"] == {"num_ctx": 8192, "num_predict": 99, "temperature": 0.5} and sent["truncate"] is False
    cut = streamed(t, ask("[[fake tokens=9]] hi", max_output_tokens=3), "incomplete")
    assert (cut["status"], cut["incomplete_details"], cut["output"][0]["status"]) == ("incomplete", {"reason": "max_output_tokens"}, "incomplete")
    assert post(t, ask("[[fake tokens=9]] hi", max_output_tokens=3))[2]["status"] == "incomplete"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
def test_calls_at_once_and_their_results(pair, kind, stream):
    t, a = pair(kind)
    picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBO", "detail": "auto"}
    question = said("[[fake tokens=2&thinking=2&tool=read&args=%7B%22path%22%3A%22a.c%22%7D&tool=read&args=%7B%22path%22%3A%22b.c%22%7D]] read")
    items = [said("You may read.", "developer"), question]
    body = ask(items, tools=[READ, {"type": "web_search", "external_web_access": False}], **CODEX)
    answer = streamed(t, body) if stream else post(t, body)[2]
    assert [i["type"] for i in answer["output"]] == ["reasoning", "message", "function_call", "function_call"], answer
    calls = answer["output"][2:]
    assert [json.loads(c["arguments"]) for c in calls] == [{"path": "a.c"}, {"path": "b.c"}] and calls[0]["name"] == "read"
    assert len({c["call_id"] for c in calls}) == 2 and len({i["id"] for i in answer["output"]}) == 4
    items += answer["output"] + [
        {"type": "function_call_output", "call_id": calls[0]["call_id"], "output": "one"},
        {"type": "function_call_output", "call_id": calls[1]["call_id"], "output": [{"type": "input_text", "text": "two"}, picture]},
        said("[[fake tokens=3]] go on")]
    assert text_of(post(t, ask(items, tools=[READ], **CODEX))[2]) == words(3)
    sent = last_body(a)
    assert [m["role"] for m in sent["messages"]] == ["system", "user", "assistant", "tool", "tool", "user", "user"]
    assert [m["tool_call_id"] for m in sent["messages"][3:5]] == [c["call_id"] for c in calls]
    assert [m["content"] for m in sent["messages"][3:5]] == ["one", "two"] and "iVBO" in json.dumps(sent["messages"][5])
    assert [t["function"]["name"] for t in sent["tools"]] == ["read"]
    assert (sent["messages"][2].get("thinking") or sent["messages"][2]["reasoning_content"]) == answer["output"][0]["summary"][0]["text"]
    one = ask([question], tools=[READ], parallel_tool_calls=False)
    assert len([i for i in (streamed(t, one) if stream else post(t, one)[2])["output"] if i["type"] == "function_call"]) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
def test_custom_tools_and_namespaces_are_functions_for_the_model(pair, kind, stream):
    t, a = pair(kind)

    def calls(name, args):
        body = ask(f"[[fake tokens=1&tool={name}&args={quote(json.dumps(args))}]] edit", tools=[PATCH, SEARCH])
        return [i for i in (streamed(t, body) if stream else post(t, body)[2])["output"] if i["type"] != "message"]

    (patch,) = calls("apply_patch", {"input": '*** Begin\n+a "b"'})
    assert (patch["type"], patch["name"], patch["input"]) == ("custom_tool_call", "apply_patch", '*** Begin\n+a "b"')
    (find,) = calls("mcp__docs__find", {"path": "x"})
    assert (find["type"], find["namespace"], find["name"], json.loads(find["arguments"])) == ("function_call", "mcp__docs", "find", {"path": "x"})
    functions = {f["function"]["name"]: f["function"] for f in last_body(a)["tools"]}
    assert list(functions) == ["apply_patch", "mcp__docs__find"]
    assert 'start: "*** Begin" LF' in functions["apply_patch"]["description"] and functions["apply_patch"]["parameters"]["required"] == ["input"]
    items = [said("edit"), patch, {"type": "custom_tool_call_output", "call_id": patch["call_id"], "output": "done"},
             find, {"type": "function_call_output", "call_id": find["call_id"], "output": "found"}]
    assert post(t, ask(items, tools=[PATCH, SEARCH]))[0] == 200
    first, second = [m["tool_calls"][0]["function"] for m in last_body(a)["messages"] if m.get("tool_calls")]
    arguments = first["arguments"] if kind == "ollama" else json.loads(first["arguments"])
    assert (first["name"], arguments, second["name"]) == ("apply_patch", {"input": patch["input"]}, "mcp__docs__find")


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_and_a_choice(pair, kind):
    t, a = pair(kind)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert post(t, ask("hi", text={"format": {"type": "json_schema", "name": "n", "strict": True, "schema": schema}}))[0] == 200
    sent = last_body(a)
    assert (sent["format"] if kind == "ollama" else sent["response_format"]["json_schema"]["schema"]) == schema
    named = {"tools": [PATCH, READ], "tool_choice": {"type": "function", "name": "read"}}
    assert post(t, ask("[[fake tool=read&args=%7B%7D]]", **named))[0] == 200
    if kind == "ollama":  # which has no word for it: the others are not offered, and an answer without a call is no answer
        assert [f["function"]["name"] for f in last_body(a)["tools"]] == ["read"]
        assert "called no tool" in post(t, ask("hi", **named))[2]["error"]["message"]
        failed = streamed(t, ask("hi", **named), "failed")
        assert "called no tool" in failed["error"]["message"] and failed["error"]["code"] == "invalid_prompt"
    else:
        assert last_body(a)["tool_choice"] == {"type": "function", "function": {"name": "read"}}
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "read"}]}
    assert post(t, ask("hi", tools=[PATCH, READ], tool_choice=allowed))[0] == 200
    assert [f["function"]["name"] for f in last_body(a)["tools"]] == ["read"]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_have_its_form(pair, kind):
    t, a = pair(kind)

    def error(body, status, type, words, path=PATH):
        got, head, o = post(t, body, path)
        assert got == status and o["error"]["type"] == type and words in o["error"]["message"] and "code" in o["error"], o
        return o["error"]

    bad = "invalid_request_error"
    error(b"{", 400, bad, "JSON")
    error({"model": MODEL}, 400, bad, "'input'")
    error(ask("x", previous_response_id="resp_1"), 400, bad, "previous_response_id")
    error(ask("x", conversation="conv_1"), 400, bad, "conversation")
    error(ask("x", background=True), 400, bad, "background")
    error(ask([{"type": "item_reference", "id": "x"}]), 400, bad, "store: false")
    error(ask([said("x"), {"type": "shell_call", "call_id": "x"}]), 400, bad, 'input[1]: items of type "shell_call"')
    error(ask("x", tools=[{"type": "file_search", "vector_store_ids": ["a"]}]), 400, bad, '"file_search"')
    error(ask("x", tools=[{"type": "local_shell"}]), 400, bad, '"local_shell"')
    error(ask("x", tools=[READ], tool_choice={"type": "web_search"}), 400, bad, "tool_choice")
    error(ask("[[fake fault=400&error=no+such+thing]]"), 400, bad, "no such thing")
    error(ask("[[fake fault=404&error=model+%27x%27+not+found]]"), 404, "not_found_error", "not found")
    error(ask("[[fake fault=500&error=broken]]"), 500, "server_error", "broken")
    error(ask("[[fake fault=500&error=broken]]", stream=True), 500, "server_error", "broken")
    status, _, data = t.request("POST", PATH, ask("[[fake error_after=2&error=gone]]", stream=True))
    last = events(data)[-1]
    assert status == 200 and last["type"] == "response.failed" and last["response"]["status"] == "failed", data
    assert last["response"]["error"] == {"code": "server_error", "message": "gone"} and last["response"]["id"] == events(data)[0]["response"]["id"]


@pytest.mark.parametrize("method,path", [("GET", "/resp_1"), ("DELETE", "/resp_1"), ("GET", "/resp_1/input_items"), ("POST", "/resp_1/cancel")])
def test_nothing_is_stored(pair, method, path):
    t, a = pair("llama-server")
    asked = a.stats()["requests"]
    status, _, data = t.request(method, PATH + path, {"model": MODEL} if method == "POST" else None)
    error = json.loads(data)["error"]
    assert status == 404 and error["type"] == "not_found_error" and "stored" in error["message"] and error["code"] is None
    assert a.stats()["requests"] == asked


@pytest.mark.parametrize("kind", KINDS)
def test_an_overflow_has_the_words_that_agents_know(pair, kind):
    """With a status where one object is asked for; in the stream that is asked for, as OpenAI's own server: Codex compacts on nothing else."""
    t, a = pair(kind)
    long = [said("a " * 40000), said("b", "assistant")]
    status, _, o = post(t, ask(long))
    assert status == 400 and o["error"]["code"] == "context_length_exceeded" and o["error"]["param"] == "input", o
    assert "maximum context length is 8192 tokens" in o["error"]["message"] and o["error"]["n_ctx"] == 8192 < o["error"]["n_prompt_tokens"]
    status, head, data = t.request("POST", PATH, ask(long, stream=True))
    created, _, failed = events(data)
    assert status == 200 and head["X-Tandem-Strategy"] == "refused" and created["type"] == "response.created" and failed["type"] == "response.failed"
    assert failed["response"]["error"]["code"] == "context_length_exceeded" and failed["response"]["id"] == created["response"]["id"]
    # Noticed by the backend, behind heartbeats and without them.
    said_of_it = "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it"
    a.fault(times=-1, match="too long", fault=400, error=said_of_it)
    status, _, data = t.request("POST", PATH, ask("too long", stream=True))
    assert status == 200 and events(data)[-1]["response"]["error"]["code"] == "context_length_exceeded", data
    assert post(t, ask("too long"))[2]["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("kind", KINDS)
def test_heartbeats_are_comments(pair, kind):
    t, a = pair(kind, deadlines={"first_byte_ms": 300, "heartbeat_ms": 50})
    with Wire(t) as w:
        w.send("POST", PATH, ask("[[fake delay_ms=1200&tokens=4]] hi", stream=True))
        assert w.head().status == 200
        data = w.body()
    assert data.startswith(b": keep-alive\n\n") and text_of(whole(data)) == words(4)
    for fault, code, text in [("fault=500&error=broken", "server_error", "broken"),
                              ("fault=400&error=request+(9000+tokens)+exceeds+the+available+context+size+(8192+tokens),+try+increasing+it",
                               "context_length_exceeded", "maximum context length")]:
        with Wire(t) as w:
            w.send("POST", PATH, ask(f"[[fake delay_ms=1200&{fault}]] hi", stream=True))
            assert w.head().status == 200
            created, _, failed = events(w.body())
        assert created["type"] == "response.created" and failed["type"] == "response.failed"
        assert failed["response"]["error"]["code"] == code and text in failed["response"]["error"]["message"], failed
    t.wait_idle()


@pytest.mark.parametrize("kind", ["ollama", "llama-server"])
def test_an_answer_goes_on_after_a_workers_death(pair, kind):
    t, a = pair(kind, options=["--answer-tokens", "40", "--no-replay"], backoff=FAST)
    body = ask([said("once")], max_output_tokens=30, stream=True)
    a.fault(times=1, hang_after=12)
    with Wire(t) as w:
        w.send("POST", PATH, body)
        assert w.head().status == 200
        data = b""
        while b"w5" not in data:
            data += w.piece()
        os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
        data += w.body()
    answer = whole(data, "incomplete")
    assert text_of(answer) == words(30) and len(answer["output"]) == 1
    assert (answer["incomplete_details"]["reason"], answer["usage"]["output_tokens"]) == ("max_output_tokens", 30)
    numbers = [e["sequence_number"] for e in events(data)]
    assert numbers == list(range(len(numbers)))
    assert t.status()["requests"]["resumed"] == 1


def test_what_cannot_go_on_fails_in_the_stream(pair):
    t, a = pair("llama-server", options=["--no-replay"], backoff=FAST)
    a.fault(times=1, thinking=3, hang_after=6)
    with Wire(t) as w:
        w.send("POST", PATH, ask("think", stream=True))
        assert w.head().status == 200
        data = b""
        while b"w0" not in data and b"summary_text.delta" not in data:
            data += w.piece()
        os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
        data += w.body()
    first, last = events(data)[0], events(data)[-1]
    assert last["type"] == "response.failed" and last["response"]["error"]["code"] == "server_error"
    assert (last["response"]["id"], last["response"]["model"]) == (first["response"]["id"], MODEL)


def test_a_body_that_workers_die_of_is_refused(pair):
    """... when it comes again: it is remembered as it was read, not as it came."""
    t, a = pair("ollama", backoff=FAST, limits={"request_deaths": 1})
    a.fault(times=1, fault="hang", match="poison")
    with Wire(t) as w:
        w.send("POST", PATH, ask("poison"))
        wait_for(lambda: t.device("gpu0")["inflight"] == 1, "the request under way")
        os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
        assert w.head().status == 422 and w.body()
    t.wait_ready()
    assert post(t, ask("poison"))[0] == 422 and post(t, ask("other"))[0] == 200


def test_a_retry_joins(pair):
    t, a = pair("ollama", limits={"coalesce_after_ms": 0})
    body = ask("[[fake tokens=3]] hi")
    with Wire(t) as first, Wire(t) as second:
        a.fault(times=1, delay_ms=600000)
        first.send("POST", PATH, body)
        a.struck()
        second.send("POST", PATH, body)
        wait_for(lambda: t.requests()["coalesced"] == 1, "the second joined")
        a.go()
        answers = []
        for w in (first, second):
            assert w.head().status == 200
            answers.append(w.body())
    assert answers[0] == answers[1] and text_of(json.loads(answers[0])) == words(3)


@pytest.mark.parametrize("kind", KINDS)
def test_it_waits_its_turn(pair, kind):
    t, a = pair(kind, device={"slots": 1})
    a.fault(times=1, fault="hang", match="block")
    with Wire(t) as blocker, Wire(t) as w:
        blocker.send("POST", PATH, ask("block"))
        wait_for(lambda: t.device("gpu0")["inflight"] == 1, "a busy slot")
        w.send("POST", "/responses", ask("next"))
        wait_for(lambda: t.device("gpu0")["waiting"] == 1, "one that waits")
        assert post(t, ask("x"), COUNT)[0] == 200
        blocker.close()
        assert w.head().status == 200 and w.body()
    t.wait_idle()


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_counted_without_the_backend(pair, kind):
    t, a = pair(kind)
    asked = a.stats()["requests"]

    def count(**more):
        status, head, o = post(t, ask([said("many words " * 400)], **more), COUNT)
        assert status == 200 and o["object"] == "response.input_tokens" and head["X-Tandem-Reason"] == "counted by the gateway", o
        return o["input_tokens"]

    first = count()
    assert 700 < first < 1800
    assert count(tools=[READ], instructions="You are a helpful assistant.") > first + 20
    assert a.stats()["requests"] == asked
    assert "'input'" in post(t, {"model": MODEL}, COUNT)[2]["error"]["message"]
    # What the backend counts of the same teaches it.
    answer = post(t, ask([said("many words " * 400)]))[2]
    assert abs(count() - answer["usage"]["input_tokens"]) < answer["usage"]["input_tokens"] * 0.1
    t.wait_idle()


@pytest.mark.parametrize("coding,pack", [("zstd", zstd), ("gzip", gzip.compress)])
def test_a_packed_body(pair, coding, pack):
    t, a = pair("ollama")
    body = pack(json.dumps(ask([said("[[fake tokens=3]] hi")], **CODEX)).encode())
    status, _, data = t.request("POST", PATH, body, {"Content-Encoding": coding})
    assert status == 200 and text_of(json.loads(data)) == words(3), data
    assert post(t, pack(json.dumps(ask("hi")).encode()), COUNT, **{"Content-Encoding": coding})[0] == 200


def agent_session(turns, chars=4000):
    """A growing history as Codex sends it: two calls in a turn, and their outputs behind both."""
    items = [said("You are careful.", "developer"), said("<environment_context>here</environment_context>"), said("Find out why the parser is slow.")]
    for i in range(turns):
        yield list(items)
        text = "\n".join(f"src/part_{i}_{n}.c: value_{n} = {n * 37 + i}" for n in range(chars // 32))
        items += [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Next."}], "encrypted_content": None}, said(f"I read part {i}.", "assistant"),
                  *({"type": "function_call", "id": f"fc_{i}{k}", "call_id": f"c{i}{k}", "name": "read", "arguments": json.dumps({"path": f"part_{i}{k}.c"})}
                    for k in "ab"),
                  *({"type": "function_call_output", "call_id": f"c{i}{k}", "output": text if k == "a" else "short"} for k in "ab")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_past_the_window_is_laid_out(pair, kind):
    t, a = pair(kind, routing={"mode": "adaptive"})
    for items in agent_session(24):
        status, head, o = post(t, ask(items, tools=[READ, PATCH], instructions="You are a coding agent.", **CODEX))
        assert status == 200, o
        sent = last_body(a)["messages"]
        calls = [c["id"] for m in sent for c in m.get("tool_calls", [])]
        assert [m["tool_call_id"] for m in sent if m["role"] == "tool"] == calls
        assert all(len(m["tool_calls"]) == 2 for m in sent if m.get("tool_calls"))
        assert sent[0]["role"] == "system" and sent[0]["content"].startswith("You are a coding agent.\nYou are careful.")
        assert "parser is slow" in json.dumps(sent)
    requests = t.status()["requests"]
    assert requests["failed"] == 0 and requests["refused"] == 0
    tokens = dict(p.split("=") for p in head["X-Tandem-Tokens"].split())
    assert int(tokens["sent"]) < 8192 < int(tokens["in"])


def test_what_would_be_done_is_told(pair):
    t, a = pair("ollama")
    status, _, o = post(t, ask("hi"), **{"X-Tandem-Explain": "1"})
    assert status == 200 and o["strategy"] == "A" and not a.bodies()[-1].count(b'"messages"'), o


LITE = {"type": "additional_tools", "id": "at_1", "role": "developer", "tools": [
    {"type": "namespace", "name": "functions", "description": "", "tools": [PATCH, READ]},
    {"type": "namespace", "name": "mcp__docs", "description": "Documents.", "tools": [{**READ, "name": "find"}]},
    {"type": "tool_search", "execution": "client", "description": "Finds tools.", "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}},
    {"type": "web_search", "external_web_access": True}]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
def test_tools_in_the_input(pair, kind, stream):
    """As Codex sends them for models of OpenAI's names: all in the input, what is new or another behind it, others behind a search of its own."""
    t, a = pair(kind)
    begin = [LITE, said("Be brief.", "developer")]

    def output(items, **more):
        body = ask(items, **CODEX, **more)
        return (streamed(t, body) if stream else post(t, body)[2])["output"]

    def call(tool, args, items=()):
        text = f"[[fake tokens=1&tool={tool}&args={quote(json.dumps(args))}]] go"
        (item,) = [i for i in output([*begin, *items, said(text)]) if i["type"] != "message"]
        return item

    def offered():
        return [f["function"]["name"] for f in last_body(a)["tools"]]

    patch = call("apply_patch", {"input": "*** Begin"})
    assert (patch["type"], patch["name"], patch["input"]) == ("custom_tool_call", "apply_patch", "*** Begin") and "namespace" not in patch
    assert offered() == ["apply_patch", "read", "mcp__docs__find", "tool_search"]
    find = call("mcp__docs__find", {"path": "x"})
    assert (find["type"], find["namespace"], find["name"]) == ("function_call", "mcp__docs", "find")
    search = call("tool_search", {"query": "mail"})
    assert (search["type"], search["execution"], search["arguments"], search["status"]) == ("tool_search_call", "client", {"query": "mail"}, "completed")
    # What it found is offered behind the others, which stay where they are; so is what the client adds or defines anew.
    found = {"type": "tool_search_output", "call_id": search["call_id"], "status": "completed", "execution": "client",
             "tools": [{"type": "namespace", "name": "mcp__mail", "description": "Mail.", "tools": [{**READ, "name": "send", "defer_loading": True}]}]}
    more = {"type": "additional_tools", "role": "developer", "tools": [
        {"type": "namespace", "name": "functions", "description": "an update", "tools": [{**READ, "description": "Reads two."}, {**READ, "name": "wait"}]}]}
    sent = call("mcp__mail__send", {"path": "x"}, [said("mail"), search, found, more])
    assert (sent["type"], sent["namespace"], sent["name"]) == ("function_call", "mcp__mail", "send")
    assert offered() == ["apply_patch", "read", "mcp__docs__find", "tool_search", "mcp__mail__send", "wait"]
    asked = last_body(a)
    assert asked["tools"][1]["function"]["description"] == "Reads two." and asked["tools"][2]["function"]["description"] == "(All of mcp__docs: Documents.) Reads a file."
    searched = [m for m in asked["messages"] if m.get("tool_calls")][0]["tool_calls"][0]["function"]
    assert searched["name"] == "tool_search" and "mail" in json.dumps(searched["arguments"])
    assert [m["content"] for m in asked["messages"] if m["role"] == "tool"] == ["These tools can be called now: mcp__mail__send"]
    # Tools are part of the prompt, wherever they stand.
    count = [json.loads(t.request("POST", COUNT, ask(items))[2])["input_tokens"] for items in ([said("hi")], [LITE, said("hi")])]
    assert count[1] > count[0] + 50


def test_items_of_agents_and_of_settings(pair):
    t, a = pair("ollama")
    message = {"type": "agent_message", "author": "/root", "recipient": "/root/a", "content": [
        {"type": "input_text", "text": "Message Type: NEW_TASK\nPayload:"}, {"type": "encrypted_content", "encrypted_content": "Look at a.c."}]}
    update = {"type": "configuration_update", "reasoning": {"effort": "high"}}
    assert post(t, ask([said("Be brief.", "developer"), message, update], reasoning={"effort": "none"}))[0] == 200
    asked = last_body(a)
    assert asked["messages"][-1] == {"role": "user", "content": "Message Type: NEW_TASK\nPayload:\nLook at a.c."} and asked["think"] == "high"
    assert post(t, ask([update, said("hi"), {**update, "reasoning": {"effort": "none"}}], reasoning={"effort": "low"}))[0] == 200
    assert last_body(a)["think"] is False
