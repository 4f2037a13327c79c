"""The three routes, end to end on scripted backends."""

import json

import pytest

from harness import ndjson, ollama_text, sse
from wire import tuned

WORDS = "The parser reads src/part_{i}.c and reports value_{i} = {v} to the caller of the module.\n"


def prose(chars):
    out, i = [], 0
    while sum(map(len, out)) < chars:
        out.append(WORDS.format(i=i, v=i * 37))
        i += 1
    return "".join(out)[:chars]


def prompt(tokens):
    return "Summarise the following notes.\n\n" + prose(tokens * 4 - 80) + "\n\nAnswer in one sentence."


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("main", ["ollama", "llama-server"])
@pytest.mark.parametrize("small", ["ollama", "llama-server"])
def test_a_b_c(pair, main, small, stream):
    t, a, b = pair(main, small)
    for tokens, strategy in ((3, "A"), (3568, "B"), (10981, "C")):
        before_a, before_b = t.device("gpu0")["jobs"]["done"], t.device("gpu1")["jobs"]["done"]
        text = "hi" if tokens == 3 else prompt(tokens)
        status, headers, body = t.chat(text, stream=stream)
        assert status == 200, body
        assert headers["X-Tandem-Strategy"] == strategy
        lines = ndjson(body)
        assert lines[-1]["done"] is True
        assert ollama_text(body)
        assert t.device("gpu0")["jobs"]["done"] == before_a + 1
        done = t.device("gpu1")["jobs"]["done"] - before_b
        assert (done == 0 if strategy == "A" else done == 1 if strategy == "B" else done > 2), (strategy, done, t.log()[-3000:])
    counts = t.status()["requests"]
    assert counts["by_strategy"] == {"A": 1, "B": 1, "C": 1, "small": 0}
    assert counts["fallbacks"] == 0 and counts["failed"] == 0


@pytest.mark.parametrize("main", ["ollama", "llama-server"])
@pytest.mark.parametrize("stream", [True, False])
def test_openai_front(pair, main, stream):
    t, a, b = pair(main)
    body = {"model": "m:1b", "stream": stream, "messages": [{"role": "user", "content": prompt(4000)}]}
    if stream:
        body["stream_options"] = {"include_usage": True}
    status, headers, data = t.request("POST", "/v1/chat/completions", body)
    assert status == 200 and headers["X-Tandem-Strategy"] == "B"
    if stream:
        events = sse(data)
        assert events[-1] == "[DONE]"
        chunks = [json.loads(e) for e in events[:-1]]
        assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
        assert any(c.get("usage") for c in chunks)
    else:
        assert json.loads(data)["choices"][0]["message"]["content"]


def test_unchanged_requests_are_the_clients_own_bytes(pair):
    t, a, b = pair()
    body = (b'{ "model" : "m:1b","big":9007199254740993, "messages":[ {"role":"user" ,"content":"a\\u0000b \\u00e9 \xc3\xa9","zz":1E+2} ],'
            b'\n\t"stream":false, "unknown":{"b":1,"a":[1.0,1.00]},"dup":1,"dup":2 }\n')
    status, headers, _ = t.request("POST", "/api/chat", body, {"Content-Type": "application/json"})
    assert status == 200
    a.stats()
    assert tuned(body, 16384) in a.bodies()


def test_condensed_requests_keep_what_they_must(pair):
    t, a, b = pair()
    messages = [{"role": "system", "content": "Be brief. é\u2028"}]
    for i in range(12):
        messages.append({"role": "user", "content": f"Look at part {i}. Never edit lib/core_{i}.c please."})
        messages.append({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "read", "arguments": {"path": f"p{i}.c"}}}]})
        messages.append({"role": "tool", "content": prose(2500), "tool_name": "read"})
        messages.append({"role": "assistant", "content": f"Part {i} is about value_{i}."})
    messages.append({"role": "user", "content": "And now the last question?"})
    status, headers, _ = t.chat(messages, tools=[{"type": "function", "function": {"name": "read"}}])
    assert status == 200 and headers["X-Tandem-Strategy"] == "C"
    a.stats()
    sent = json.loads(a.bodies()[-1])
    assert sent["messages"][0] == messages[0]
    assert sent["messages"][-1] == messages[-1]
    assert sent["messages"][-2] == messages[-2]
    assert sent["tools"][0]["function"]["name"] == "read"
    text = json.dumps(sent, ensure_ascii=False)
    assert "Never edit lib/core_11.c" in text
    assert "omitted" in text or "[.." in text
    assert len(text) < len(json.dumps(messages)) / 2
    tokens = dict(p.split("=") for p in headers["X-Tandem-Tokens"].split())
    assert int(tokens["sent"]) < int(tokens["in"]) / 2


def test_a_backend_that_counts_more_than_we_do(pair):
    """The estimate says it fits, llama-server says it does not: the selection goes instead of an error."""
    t, a, b = pair("llama-server", main_device={"num_ctx": 4096}, main_options=("-c", "4096", "-np", "1", "--chars-per-token", "2"))
    status, headers, body = t.chat([{"role": "user", "content": "Read this."}, {"role": "assistant", "content": prose(4000)},
                                    {"role": "user", "content": "Go on."}, {"role": "assistant", "content": prose(4000)},
                                    {"role": "user", "content": "And this: is it good?"}, {"role": "assistant", "content": "yes"},
                                    {"role": "user", "content": "Why?"}])
    assert status == 200, body
    first = json.loads(a.bodies()[-1])
    assert first["messages"][-1]["content"] == "Why?"


def test_overflow_after_the_estimate(pair):
    t, a, b = pair("llama-server", main_device={"num_ctx": 4096}, main_options=("-c", "4096", "-np", "1", "--chars-per-token", "1.2"))
    old = [{"role": "user", "content": "Read this."}, {"role": "assistant", "content": prose(5500)},
           {"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "Why?"}]
    status, headers, body = t.chat(old)
    assert status == 200, body
    assert headers["X-Tandem-Strategy"] == "A"
    assert "counted more tokens" in headers["X-Tandem-Reason"]
    assert t.status()["requests"]["fallbacks"] == 1
    assert t.status()["requests"]["by_strategy"]["A"] == 1


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_a_long_prompt_on_way_a_tells_ollama_its_window(pair, path):
    """Ollama's own default window may be 4096 tokens or less: with way A widened it must not cut what is between."""
    t, a, b = pair(routing={"a_max_tokens": 10000, "b_max_tokens": 12000})
    text = prompt(5000)
    ask = {"prompt": text} if path == "/api/generate" else {"messages": [{"role": "user", "content": text}]}
    status, headers, body = t.request("POST", path, {"model": "m:1b", "stream": False, **ask})
    assert status == 200 and headers["X-Tandem-Strategy"] == "A"
    sent = json.loads(a.bodies()[-1])
    assert sent["options"] == {"num_ctx": 16384}
    assert {k: sent[k] for k in ask} == ask
    assert t.chat("short")[0] == 200
    assert json.loads(a.bodies()[-1])["options"] == {"num_ctx": 16384}


CLIENTS = [("/api/chat", None), ("/api/chat", 2048), ("/v1/chat/completions", None), ("/api/generate", 32768), ("/api/chat", 16384), ("/api/generate", None)]


def ask_all(t, window_of=None):
    for path, num_ctx in CLIENTS:
        said = {"prompt": "hi"} if path == "/api/generate" else {"messages": [{"role": "user", "content": "hi"}]}
        options = {} if num_ctx is None else {"options": {"num_ctx": num_ctx, "seed": 1}}
        status, headers, body = t.request("POST", path, {"model": "m:1b", "stream": False, **said, **options})
        assert status == 200, body


def test_clients_do_not_make_ollama_load_anew(pair):
    """Short and long, native and translated, with a window of their own or without: the device's, always."""
    t, a, b = pair(main_options=("--num-ctx", "6144"))
    ask_all(t)
    t.request("POST", "/api/generate", {"model": "m:1b"})  # a load
    assert (a.stats()["loads"], a.stats()["reloads"]) == (1, 0)
    assert a.call("/api/ps")["models"][0]["context_length"] == 16384


def test_clients_without_a_window_of_the_device(pair):
    """Nothing is configured: the server's own window, whatever clients ask."""
    t, a, b = pair(main_options=("--num-ctx", "6144"), main_device={"num_ctx": 0})
    ask_all(t)
    assert (a.stats()["loads"], a.stats()["reloads"]) == (1, 0)
    assert a.call("/api/ps")["models"][0]["context_length"] == 6144


def test_a_clients_window_is_passed_on_where_wished(pair):
    t, a, b = pair(main_device={"client_num_ctx": True})
    ask_all(t)
    windows = [json.loads(body).get("options", {}).get("num_ctx") for body in a.bodies() if body]
    assert windows == [16384, 2048, 16384, 32768, 16384, 16384]
    assert a.stats()["reloads"] == 4


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_ollama_refuses_what_it_would_cut(pair, path):
    """Ollama counts more than we estimated: an error instead of a cut, and condensed after all."""
    t, a, b = pair(main_device={"num_ctx": 4096}, main_options=("--chars-per-token", "1.2"))
    old = [{"role": "user", "content": "Read this."}, {"role": "assistant", "content": prose(5500)},
           {"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "Why?"}]
    status, headers, body = t.request("POST", path, {"model": "m:1b", "stream": False, "messages": old})
    assert status == 200, body
    assert "counted more tokens" in headers["X-Tandem-Reason"]
    assert a.stats()["truncated"] == 0
    first = t.request("POST", path, {"model": "m:1b", "stream": False, "messages": [{"role": "system", "content": prose(5500)}] + old[-1:]})
    assert first[0] == 400 and b"maximum context length is 4096 tokens" in first[2]
    assert a.stats()["truncated"] == 0


def test_an_old_ollama_goes_on_working(pair):
    t, a, b = pair(main_device={"num_ctx": 4096}, main_options=("--chars-per-token", "1.2", "--old"), routing={"a_max_tokens": 10000, "b_max_tokens": 12000})
    assert t.chat("hi")[0] == 200
    status, headers, body = t.chat([{"role": "user", "content": prose(9500)}])
    assert status == 200 and a.stats()["truncated"] == 1, body


def test_images_take_their_part_of_the_window(pair):
    t, a, b = pair(main_device={"num_ctx": 12288}, condense={"keep_ratio_c": 0.9})  # only the window bounds what stays
    messages = [{"role": "user", "content": "Look at these.", "images": ["aGVsbG8="] * 5}, {"role": "assistant", "content": "I see."}]
    for i in range(20):
        messages += [{"role": "user", "content": f"Question {i}"}, {"role": "assistant", "content": prose(4000)}]
    messages += [{"role": "user", "content": "Sum up."}]
    status, headers, body = t.chat(messages)
    assert status == 200, body
    tokens = dict(p.split("=") for p in headers["X-Tandem-Tokens"].split())
    assert int(tokens["sent"]) < 12288 < int(tokens["in"])
    assert json.loads(a.bodies()[-1])["messages"][0] == messages[0]


def test_what_cannot_be_rewritten_is_never_cut_in_silence(pair):
    """A prefilled answer is not condensed; longer than Ollama's window, it is refused with words that agents know."""
    t, a, b = pair(main_device={"num_ctx": 4096})
    status, headers, body = t.chat([{"role": "user", "content": prose(30000)}, {"role": "assistant", "content": "The answer is"}])
    assert status == 400 and "maximum context length is 4096 tokens" in json.loads(body)["error"]
    assert not any(a.bodies())
