#!/usr/bin/env python3
"""Workers killed in mid-answer before a real llama-server, which keeps its streams: what clients get is compared with what the server says
that it has generated. Streams of each dialect, with thinking, tool calls, prescribed forms and plain text, at temperature 1.

    replay.py [--kills 200] [--seed N] [--tokens 160] [--limit-s 1500]

Fails when a stream is not the server's own (/v1/chat/completions: byte for byte; the others: each text, thought and call), when the server was
asked twice for an answer or generated more tokens than the streams hold, when something is kept at the end, or it took too long.
"""

import argparse
import http.client
import json
import os
import random
import re
import select
import signal
import socket
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "process"))

from harness import Process, Tandem, free_port, wait_for  # noqa: E402

CHAT, GENERATE, OPENAI, MESSAGES, RESPONSES = "/api/chat", "/api/generate", "/v1/chat/completions", "/v1/messages", "/v1/responses"
# All that it writes before a closing tag is thought, and the tag is not likely: texts, forms and calls are asked for without.
TEMPLATE = """{%- for m in messages -%}<|im_start|>{{ m.role }}
{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}{% endif %}<|im_end|>
{% endfor -%}
{%- if tools -%}<|im_start|>system
{% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>
{% endif -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% if enable_thinking is not defined or enable_thinking %}<think>
{% endif %}{%- endif -%}"""
SCHEMA = {"type": "object", "properties": {"title": {"type": "string", "minLength": 200}, "pages": {"type": "integer"}}, "required": ["title", "pages"]}
FUNCTION = {"name": "write", "description": "Writes a book.", "parameters": SCHEMA}
ASK = "Tell a long story of a fox and a raven."


class Relay(socketserver.ThreadingTCPServer):
    """Stands before the server: notes who asked for what, and holds back the ends of streams until they were compared."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), Exchange)
        self.upstream, self.asked, self.ended, self.holds = port, [], [], True
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Exchange(socketserver.BaseRequestHandler):
    """One request, one answer, and the connection ends."""

    def handle(self):
        try:
            self.exchange()
        except OSError:
            pass

    def exchange(self):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.request.recv(65536)
            if not piece:
                return
            data += piece
        head, body = data.split(b"\r\n\r\n", 1)
        length = int((re.search(rb"(?im)^content-length: *(\d+)", head) or [0, 0])[1])
        while len(body) < length:
            body += self.request.recv(65536)
        name = re.search(rb"(?im)^x-conversation-id: *(\S+)", head)
        if name:
            self.server.asked.append(name[1].decode())
        end = re.match(rb"DELETE /v1/stream\?conv_id=(\S+)", head)
        if end:
            self.server.ended.append(end[1].decode())
            if self.server.holds:
                self.request.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                return
        head = re.sub(rb"(?im)^connection:.*\r\n", b"", head + b"\r\n") + b"Connection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.server.upstream)) as up:
            up.sendall(head + body)
            self.pump(up)

    def pump(self, up):
        while True:
            for s in select.select([up, self.request], [], [])[0]:
                piece = s.recv(65536)
                if not piece:
                    return
                (self.request if s is up else up).sendall(piece)


def engine():
    """A server of the small model: its command, and its environment."""
    binary, *library = subprocess.run([os.path.join(ROOT, "etc/setup/engine.sh")], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    model = subprocess.run([os.path.join(ROOT, "etc/setup/model.sh")], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
    env = {**os.environ, "LD_LIBRARY_PATH": library[0]} if library and library[0] else None
    return [binary, "-m", model, "-c", "4096", "-np", "1", "--no-webui", "--metrics", "--alias", "m"], env


class Setup:
    """The server, the relay, a tandem attached to it."""

    def __init__(self, folder, **groups):
        command, env = engine()
        template = os.path.join(folder, "template.jinja")
        with open(template, "w") as f:
            f.write(TEMPLATE)
        self.port = free_port()
        command += ["--jinja", "--chat-template-file", template, "--reasoning-format", "deepseek", "--port", str(self.port)]
        self.engine = Process(command, os.path.join(folder, "engine.log"), env)
        self.url = f"http://127.0.0.1:{self.port}"
        wait_for(lambda: self.get("/health")[0] == 200, "the engine", 120)
        self.relay = Relay(self.port)
        groups.setdefault("backoff", {"first_ms": 10, "max_ms": 50, "max_restarts": 0})
        groups.setdefault("limits", {"resumes": 1000, "request_deaths": 1000})
        device = {"name": "gpu0", "roles": ["main"], "slots": 1, "backend": {"type": "llama-server", "url": self.relay.url}}
        self.t = Tandem(folder, [device], **groups)

    def get(self, path, method="GET"):
        with urllib.request.urlopen(urllib.request.Request(self.url + path, method=method), timeout=60) as r:
            return r.status, r.read()

    def generated(self):
        return int(float(re.search(r"^llamacpp:tokens_predicted_total (\S+)", self.get("/metrics")[1].decode(), re.M)[1]))

    def idle(self):
        return not any(s["is_processing"] for s in json.loads(self.get("/slots")[1]))

    def stop(self):
        self.t.stop()
        self.relay.shutdown()
        self.engine.stop()


# --- what is asked, and what is in an answer ---

THINK, TEXT, CALL, FORM = "thinking", "text", "a call", "a form"


def body_of(path, what, tokens, seed):
    sampling = {"temperature": 1, "seed": seed}
    if path in (CHAT, GENERATE):
        body = {"think": what == THINK, "options": {**sampling, "num_predict": tokens}}
        if what == FORM:
            body["format"] = SCHEMA
        if path == GENERATE:
            return {**body, "model": "m", "prompt": ASK}
        return {**body, "model": "m", "messages": [{"role": "user", "content": ASK}]}
    messages = [{"role": "user", "content": ASK}]
    if path == MESSAGES:
        more = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if what == THINK else {"thinking": {"type": "disabled"}}
        if what == CALL:
            more.update(tools=[{"name": "write", "input_schema": SCHEMA}], tool_choice={"type": "any"})
        return {"model": "m", "stream": True, "max_tokens": tokens, "messages": messages, "temperature": 1, **more}
    if path == RESPONSES:
        more = {"reasoning": {"effort": "high" if what == THINK else "none"}}
        if what == CALL:
            more.update(tools=[{"type": "function", **FUNCTION}], tool_choice="required")
        if what == FORM:
            more["text"] = {"format": {"type": "json_schema", "name": "book", "schema": SCHEMA}}
        return {"model": "m", "stream": True, "max_output_tokens": tokens, "input": ASK, "temperature": 1, **more}
    more = {"chat_template_kwargs": {"enable_thinking": what == THINK}}
    if what == CALL:
        more.update(tools=[{"type": "function", "function": FUNCTION}], tool_choice="required")
    if what == FORM:
        more["response_format"] = {"type": "json_schema", "json_schema": {"name": "book", "schema": SCHEMA}}
    return {"model": "m", "stream": True, "max_tokens": tokens, "messages": messages, **sampling, **more}


KINDS = [(OPENAI, w) for w in (THINK, TEXT, CALL, FORM)] + [(MESSAGES, w) for w in (THINK, TEXT, CALL)] + \
    [(RESPONSES, w) for w in (THINK, TEXT, CALL, FORM)] + [(CHAT, w) for w in (THINK, TEXT, FORM)] + [(GENERATE, w) for w in (THINK, TEXT, FORM)]


def events(data):
    return [json.loads(line[6:]) for line in data.decode().split("\n") if line.startswith("data: ") and line != "data: [DONE]"]


def of_server(data):
    """(thought, text, arguments of calls) of the server's own stream."""
    deltas = [e["choices"][0]["delta"] for e in events(data) if e.get("choices")]
    calls = [c["function"].get("arguments", "") for d in deltas for c in d.get("tool_calls") or []]
    return "".join(d.get("reasoning_content") or "" for d in deltas), "".join(d.get("content") or "" for d in deltas), "".join(calls)


def of_client(path, data):
    """The same of a client's."""
    if path in (CHAT, GENERATE):
        lines = [json.loads(line) for line in data.decode().split("\n") if line.strip()]
        assert lines[-1].get("done") is True and not any("error" in o for o in lines), lines[-1]
        said = [o.get("message", o) for o in lines]
        assert not any(m.get("tool_calls") for m in said)
        return "".join(m.get("thinking") or "" for m in said), "".join(m.get("content") or m.get("response") or "" for m in said), ""
    if path == MESSAGES:
        deltas = [e["delta"] for e in events(data) if e["type"] == "content_block_delta"]
        assert events(data)[-1]["type"] == "message_stop", events(data)[-1]
        return tuple("".join(d.get(key, "") for d in deltas) for key in ("thinking", "text", "partial_json"))
    assert events(data)[-1]["type"] in ("response.completed", "response.incomplete"), events(data)[-1]
    assert [e["sequence_number"] for e in events(data)] == list(range(len(events(data))))
    return tuple("".join(e["delta"] for e in events(data) if e["type"] == f"response.{kind}.delta")
                 for kind in ("reasoning_summary_text", "output_text", "function_call_arguments"))


def check(path, got, kept):
    """Raises unless what the client got is what the server has generated."""
    assert kept.endswith(b"data: [DONE]\n\n"), kept[-200:]
    if path == OPENAI:
        got = got.replace(b": keep-alive\n\n", b"")
        at = next((i for i in range(min(len(got), len(kept))) if got[i] != kept[i]), min(len(got), len(kept)))
        assert got == kept, f"differs at byte {at} of {len(kept)} ({len(got)} came): {got[at - 100:at + 100]!r}"
    else:
        assert of_client(path, got) == of_server(kept), (of_client(path, got), of_server(kept))


# --- one stream ---


class Client(threading.Thread):
    def __init__(self, t, path, body):
        super().__init__(daemon=True)
        self.t, self.path, self.body, self.got, self.problem, self.over = t, path, body, b"", None, False
        self.silence, self.last = 0.0, None
        self.start()

    def run(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.t.port, timeout=120)
            connection.request("POST", self.path, json.dumps(self.body), {"Content-Type": "application/json", "anthropic-version": "2023-06-01"})
            r = connection.getresponse()
            if r.status != 200:
                raise OSError(f"status {r.status}: {r.read()[:300]}")
            while piece := r.read1(65536):
                now = time.monotonic()
                self.silence = max(self.silence, now - (self.last or now))
                self.last = now
                self.got += piece
        except (OSError, http.client.HTTPException) as e:
            self.problem = repr(e)
        self.over = True


def one_stream(setup, path, what, tokens, rng, most):
    """A stream whose workers are killed again and again. (kills while it was under way, longest silence)."""
    t, relay = setup.t, setup.relay
    asked = len(relay.asked)
    client, kills, seen = Client(t, path, body_of(path, what, tokens, rng.randrange(1 << 30))), 0, 0
    while not client.over and kills < most:
        more = seen + rng.randrange(1, 6000)
        wait_for(lambda: client.over or len(client.got) >= more or (seen == 0 and len(relay.asked) > asked and rng.random() < 0.01), "bytes", 120)
        pid = t.device("gpu0")["pid"]
        if client.over or not pid:
            break
        generation = t.device("gpu0")["generation"]
        os.kill(pid, signal.SIGKILL)
        kills += 1
        wait_for(lambda: t.device("gpu0")["generation"] > generation and t.device("gpu0")["state"] == "ready", "the next worker", 60)
        seen = len(client.got)
    client.join(120)
    assert client.over and not client.problem, client.problem
    names = relay.asked[asked:]
    assert len(names) == 1, f"the server was asked {len(names)} times"
    kept = setup.get(f"/v1/stream?conv_id={names[0]}&from=0")[1]
    setup.get(f"/v1/stream?conv_id={names[0]}", "DELETE")
    check(path, client.got, kept)
    timings = [e["timings"]["predicted_n"] for e in events(kept) if "timings" in e]
    assert len(timings) == 1, timings
    return kills, client.silence, timings[0], len(kept)


def run(setup, kills, tokens, seed, limit_s):
    """Until so many workers were killed under a stream. Figures."""
    rng, began, done = random.Random(seed), time.monotonic(), {}
    count = streams = generated = volume = 0
    silences, before = [], setup.generated()
    while count < kills or streams < len(KINDS):
        assert time.monotonic() - began < limit_s, f"{count} kills in {limit_s} s"
        path, what = KINDS[streams % len(KINDS)]
        n, silence, predicted, bytes_ = one_stream(setup, path, what, tokens, rng, 1 + rng.randrange(6))
        if n:
            silences.append(silence)
        done[what] = done.get(what, 0) + n
        count, streams, generated, volume = count + n, streams + 1, generated + predicted, volume + bytes_
    assert setup.idle()
    twice = setup.generated() - before - generated
    assert twice == 0, f"{twice} tokens more were generated than are in the streams"
    counts = setup.t.requests()
    assert counts["failed"] == 0, counts
    return {"kills": count, "under": done, "streams": streams, "tokens": generated, "bytes": volume, "resumed": counts["resumed"],
            "longest_silence_s": {"p50": round(statistics.median(silences), 3), "worst": round(max(silences), 3)},
            "seconds": round(time.monotonic() - began, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--limit-s", type=float, default=1500)
    args = parser.parse_args()
    print(f"seed {args.seed}")
    with tempfile.TemporaryDirectory(prefix="tandem-replay-") as folder:
        setup = Setup(folder)
        try:
            print(json.dumps(run(setup, args.kills, args.tokens, args.seed, args.limit_s)))
        except BaseException:
            print(json.dumps(setup.t.status())[:4000], setup.t.log()[-8000:], sep="\n", file=sys.stderr)
            raise
        finally:
            setup.stop()


if __name__ == "__main__":
    main()
