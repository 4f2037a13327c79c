"""Bytes: what is not changed goes through as it was written, in both directions; what is changed keeps its untouched parts."""

import json
import re

import pytest

from conftest import attached
from test_pass import mirror  # noqa: F401 - a fixture
from test_routes import prose
from wire import CHAT, GENERATE, OPENAI, Wire, content, question, tuned, units

RAW = [(CHAT, "ollama"), (GENERATE, "ollama"), (OPENAI, "llama-server")]
BOTH = [(CHAT, "ollama"), (OPENAI, "ollama"), (CHAT, "llama-server"), (OPENAI, "llama-server")]

ODD = (br' "big" : 9007199254740993, "neg":-0, "e":1E+2,"f":1.10, "huge":123456789012345678901234567890.0e-400'
       b',\t"u":"a\\u0000b \\ud83d\\ude00 \\ud800 \\/ \xc3\xa9 \xe2\x80\xa8 \x7f", "dup":1,"dup":{"b":1,"a":[ 1.0 ,1.00 ]},\r\n'
       b'  "":null,  "unknown" :[ [],{ } , true ] ,')


def odd_body(path, stream, tail=b""):
    """A request as no encoder writes it."""
    said = b'"prompt" : "hi\\u0000 \\u00e9"' if path == GENERATE else \
        b'"messages"  :[ { "zz":1e400,"role":"user" ,"content":"hi\\u0000 \\u00e9 \\udc00","name" : "x","role2":9007199254740993 } ]'
    return b'\r\n { "model" :"m:1b",' + ODD + said + b' ,"stream": ' + (b"true" if stream else b"false") + tail + b" }\n\n"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path,main", RAW)
def test_a_request_goes_as_it_is(pair, path, main, stream):
    t, a, b = pair(main)
    for body in (odd_body(path, stream), odd_body(path, stream, b',"tail":' + b"[" * 50 + b"]" * 50)):
        status, headers, answer = t.request("POST", path, body)
        assert status == 200, answer
        a.stats()
        if main == "llama-server":  # it refuses half a pair
            body = body.replace(b"\\ud800 ", b"\\ufffd ").replace(b"\\udc00", b"\\ufffd")
        assert (tuned(body, 16384) if main == "ollama" else body) in a.bodies()


@pytest.mark.parametrize("path,main", RAW)
def test_a_large_request_goes_as_it_is(pair, path, main):
    """Beyond the loop's own parsing, and beyond one window of the link; images are no text that could be condensed."""
    t, a, b = pair(main)
    image = "iVBORw0KGgo" + "A" * 3_000_000
    if path == OPENAI:
        more = {"messages": [{"role": "user", "content": [{"type": "text", "text": "what is it?"},
                                                           {"type": "image_url", "image_url": {"url": "data:image/png;base64," + image}}]}]}
    elif path == CHAT:
        more = {"messages": [{"role": "user", "content": "what is it?", "images": [image]}]}
    else:
        more = {"prompt": "what is it?", "images": [image]}
    body = b"  " + json.dumps({"model": "m:1b", "stream": False, **more}).encode() + b"\n"
    status, headers, answer = t.request("POST", path, body)
    assert status == 200, answer[:300]
    assert headers["X-Tandem-Strategy"] == "A"
    a.stats()
    assert (tuned(body, 16384) if main == "ollama" else body) in a.bodies()


def cut_times(data):
    """Without the members that differ between two answers to the same question."""
    data = re.sub(rb'"created_at":"[^"]*"', b'"created_at":""', data)
    data = re.sub(rb'"id":"[^"]*"', b'"id":""', data)
    return re.sub(rb'"(created|total_duration|load_duration|cache_n|prompt_n|prompt_ms|prompt_per_token_ms|prompt_per_second|predicted_ms'
                  rb'|predicted_per_token_ms|predicted_per_second|cached_tokens|prompt_eval_duration)":[-0-9.e+]*', rb'"\1":0', data)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path,main", RAW)
def test_an_answer_comes_as_it_is(pair, path, main, stream):
    """The same question asked directly and through us."""
    t, a, b = pair(main)
    for text in ("hi", "[[fake text=caf%C3%A9%20%3Cb%3E%26%E2%80%A8%00%22%5C%0A&tokens=50]] hi", "[[fake thinking=5&tokens=9]] hi", "[[fake chunk_bytes=7]] hi",
                 "[[fake tool=read&args=%7B%22path%22%3A%22a.c%22%2C%22n%22%3A9007199254740993%7D]] hi", "[[fake tools_in_final=1&tool=x&args=%7B%7D]] hi"):
        body = json.dumps(question(path, text, stream)).encode()
        with Wire(a) as w:
            theirs, their_body = w.send("POST", path, body).head(), w.body()
        with Wire(t) as w:
            ours, our_body = w.send("POST", path, body).head(), w.body()
        assert ours.status == theirs.status == 200, (text, our_body[:300])
        assert cut_times(our_body) == cut_times(their_body), text
        assert ours.headers["content-type"] == theirs.headers["content-type"]


NDJSON = (b' {"model":"m","created_at":"x","message":{"role":"assistant","content":"a\\u0041\\/\\u0000","zz":9007199254740993},"n":1.10,"n":2,"done":false }\n'
          b'{"message":{"content":"\\ud83d\\ude00 \xe2\x80\xa9","role":"assistant"},"done":false,"x":{"b":1,"a":[ ]}}\r\n'
          b'{"done":true ,"done_reason":"stop","message":{"role":"assistant","content":""},"eval_count":3, "prompt_eval_count":2}\n')


@pytest.mark.parametrize("size", [1, 7, 100000])
def test_odd_answer_bytes(tandem, mirror, size):  # noqa: F811
    """Bytes that no writer of ours would produce, cut at odd places."""
    def answer(r):
        out = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        for i in range(0, len(NDJSON), size):
            piece = NDJSON[i:i + size]
            out += b"%x\r\n%s\r\n" % (len(piece), piece)
        return out + b"0\r\n\r\n"

    t = tandem([attached(mirror(answer))])
    status, headers, body = t.request("POST", CHAT, question(CHAT, "hi"))
    assert (status, body) == (200, NDJSON)


def test_odd_answer_bytes_without_a_stream(tandem, mirror):  # noqa: F811
    data = b'\n { "done":true,"message" : {"content":"a\\u0000\\/","role":"assistant","x":1E400}, "n":9007199254740993,"n":1.0 } \n'
    t = tandem([attached(mirror(lambda r: b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)))])
    status, headers, body = t.request("POST", CHAT, question(CHAT, "hi", False))
    assert (status, body) == (200, data)


# --- tool calls and images, through both backends ---

ARGS = {"path": "src/é\u2028\"x\".c", "line": 9007199254740993, "z": {"b": [1.5, None, True], "a": ""}}
TOOL = {"type": "function", "function": {"name": "read", "description": "Reads", "parameters":
        {"type": "object", "properties": {"zeta": {"type": "string"}, "alpha": {"type": "integer", "maximum": 9007199254740993}}, "required": ["zeta"]}}}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path,main", BOTH)
def test_tool_calls_in_answers(pair, path, main, stream):
    from urllib.parse import quote

    t, a, b = pair(main)
    directive = f"[[fake text=ok&tool=read&args={quote(json.dumps(ARGS))}&tool=list&args=%7B%7D]]"
    status, headers, body = t.request("POST", path, question(path, directive, stream, tools=[TOOL]))
    assert status == 200, body
    objects = units(path, body)[0] if stream else [json.loads(body)]
    assert content(path, objects) == "ok"
    calls = []
    if path == CHAT:
        for o in objects:
            calls += [(c["function"]["name"], c["function"]["arguments"]) for c in o["message"].get("tool_calls", [])]
        assert objects[-1]["done_reason"] == "stop"
    else:
        parts = {}
        for o in objects:
            for choice in o.get("choices", []):
                for i, c in enumerate((choice.get("delta") or choice.get("message") or {}).get("tool_calls") or []):
                    p = parts.setdefault(c.get("index", i), {"id": "", "name": "", "arguments": ""})
                    p["id"] += c.get("id") or ""
                    p["name"] += c["function"].get("name") or ""
                    p["arguments"] += c["function"].get("arguments") or ""
        assert all(p["id"] for p in parts.values()) and len({p["id"] for p in parts.values()}) == 2
        calls = [(p["name"], json.loads(p["arguments"])) for _, p in sorted(parts.items())]
        finish = [c["finish_reason"] for o in objects for c in o.get("choices", []) if c.get("finish_reason")]
        assert finish == ["tool_calls"]
    assert calls == [("read", ARGS), ("list", {})]
    assert [list(c[1]) for c in calls][0] == list(ARGS), "the order of arguments"


@pytest.mark.parametrize("path,main", BOTH)
def test_tools_and_images_in_requests(pair, path, main):
    t, a, b = pair(main)
    image = "iVBORw0KGgoAAAANSUhEUg=="
    args = json.dumps(ARGS, ensure_ascii=False)
    if path == CHAT:
        messages = [{"role": "user", "content": "look é", "images": [image]},
                    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "read", "arguments": ARGS}}]},
                    {"role": "tool", "content": "result \u0000 x", "tool_name": "read"}, {"role": "user", "content": "so?"}]
    else:
        messages = [{"role": "user", "content": [{"type": "text", "text": "look é"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + image}}]},
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "read", "arguments": args}}]},
                    {"role": "tool", "tool_call_id": "c1", "content": "result \u0000 x"}, {"role": "user", "content": "so?"}]
    status, headers, answer = t.request("POST", path, question(path, messages, False, tools=[TOOL]))
    assert status == 200, answer
    a.stats()
    sent = json.loads(a.bodies()[-1])
    assert sent["tools"] == [TOOL] and list(sent["tools"][0]["function"]["parameters"]["properties"]) == ["zeta", "alpha"]
    raw = a.bodies()[-1].decode()
    assert image in raw and "9007199254740993" in raw
    user, call, result, last = sent["messages"]
    if main == "ollama":
        assert user["content"] == "look é" and user["images"] == [image]
        got = call["tool_calls"][0]["function"]
        assert got["name"] == "read" and got["arguments"] == ARGS and list(got["arguments"]) == list(ARGS)
        assert result["tool_name"] == "read"
    else:
        text = [p["text"] for p in user["content"] if p["type"] == "text"]
        urls = [p["image_url"]["url"] for p in user["content"] if p["type"] == "image_url"]
        assert text == ["look é"] and urls[0].startswith("data:image/") and urls[0].endswith(";base64," + image)
        got = call["tool_calls"][0]
        assert got["function"]["name"] == "read" and json.loads(got["function"]["arguments"]) == ARGS
        assert result["tool_call_id"] == got["id"] and got["id"]
    assert result["content"] == "result \u0000 x" and last == {"role": "user", "content": "so?"}


# --- condensed requests ---


@pytest.mark.parametrize("path,main", [(CHAT, "ollama"), (OPENAI, "llama-server")])
def test_condensed_requests_keep_raw_slices(pair, path, main):
    """The system prompt, the tools, the newest groups and every unknown member stand in the sent body as the client wrote them."""
    t, a, b = pair(main, main_options=("--num-ctx", "16384"))
    system = b'{ "role":"system" ,"content":"Be brief.\\u0000 \\u00e9 \xc3\xa9","zz":9007199254740993 }'
    tools = b'[ {"type":"function","function":{"name":"read","parameters":{"b":1.10,"a":1E+2,"a":{}}}} ]'
    if path == CHAT:
        call = b'{"role":"assistant","content":"","tool_calls":[{"function":{"name":"read","arguments":{ "n":1.0,"path":"p.c" }}}]}'
        result = b'{"role" : "tool","content":"short \\u2028 result","tool_name":"read"}'
    else:
        call = b'{"role":"assistant","content":null,"tool_calls":[{"id":"c9","type":"function","function":{"name":"read","arguments":"{ \\"n\\":1.0 }"}}]}'
        result = b'{"role" : "tool","content":"short \\u2028 result","tool_call_id":"c9"}'
    last = b'{"content":"And the last question\\u003f","role":"user", "x":[ 1,2 ]}'
    old = b", ".join(b'{"role":"%s","content":%s}' % ((b"user", b"assistant")[i % 2], json.dumps(f"part {i}. " + prose(3000)).encode()) for i in range(12))
    odd = ODD
    body = b'{ "model":"m:1b",' + odd + b'"tools" : ' + tools + b', "messages" : [ ' + b" ,\n".join([system, old, call, result, last]) + b' ],"stream":false, "end":-0.0 }'
    status, headers, answer = t.request("POST", path, body)
    assert status == 200, answer[:300]
    assert headers["X-Tandem-Strategy"] == "C", headers["X-Tandem-Reason"]
    a.stats()
    sent = a.bodies()[-1]
    assert len(sent) < len(body) / 2
    if path == OPENAI and a.type == "llama-server":  # it refuses half a pair
        odd = odd.replace(b"\\ud800 ", b"\\ufffd ")
    for name, part in (("system", system), ("tools", tools), ("call", call), ("result", result), ("last", last), ("end", b'"end":-0.0'), ("model", b'"model":"m:1b"')):
        assert part in sent, (name, sent[:600])
    for member in odd.strip().rstrip(b",").split(b",\t"):
        assert member.strip() in sent, member
    assert json.loads(sent)["messages"][-1]["x"] == [1, 2]
    assert b"part 1. " + prose(3000).encode() not in sent
