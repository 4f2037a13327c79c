#!/usr/bin/env python3
"""Clients that stream while workers and backends are killed and stopped, devices restarted, the configuration reloaded and tandemd itself
upgraded. Every answer is compared, piece by piece, with the one that the scripted backend gives undisturbed.

    chaos.py [--faults 1000] [--alone 20] [--clients 32] [--upgrades 5] [--seed N] [--pause-ms 350] [--limit-s 1500]

Fails when a request failed, a stream was not the one it had to be, memory, descriptors or processes grew, something was left behind, or
it took too long. Prints how long each kind of fault was felt: by the device (until it was ready again) and by the clients (the longest
silence of any stream). The clients' figures come from --alone faults of each kind that come one by one, all streams being well before;
then follows the storm.
"""

import argparse
import collections
import http.client
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "process"))

import harness  # noqa: E402
from harness import Fake, Tandem, children, fd_count, libconfig, rss_bytes, wait_for  # noqa: E402

FAKE = os.path.join(harness.BIN, "fake-backend")
DECODE = 60  # tokens a second: a stream of 60 to 150 tokens takes 1 to 2.5 s
MEMORY_GROWTH = 24 << 20
STALL_S = 1.0  # how long a stopped backend stays stopped

# Faults of 100: what is done to whom.
FAULTS = {"kill worker": 50, "stop worker": 8, "kill started backend": 16, "stall started backend": 6, "kill attached backend": 14,
          "stall attached backend": 6}
# After every so many faults an operator does something, in turn.
OPERATOR_EVERY = 12
OPERATOR = ("restart gpu0", "reload", "restart gpu2", "restart all", "restart gpu0 --backend", "reload", "restart gpu1", "restart gpu3")


def text_of(filler, tokens):
    return f"{filler} [[fake tokens={tokens}]]"


class Dialect:
    """One way to ask, and what a whole answer looks like in it."""

    def __init__(self, path):
        self.path = path

    def body(self, filler, tokens):
        if self.path == "/api/generate":
            return {"model": "m:1b", "stream": True, "prompt": text_of(filler, tokens)}
        more = {"stream_options": {"include_usage": True}} if self.path.startswith("/v1") else {}
        return {"model": "m:1b", "stream": True, "messages": [{"role": "system", "content": "You are a test."},
                                                              {"role": "user", "content": text_of(filler, tokens)}], **more}

    def check(self, data, tokens):
        """Raises unless data is the one right stream."""
        expected = "".join(f"w{i} " for i in range(tokens))
        if self.path.startswith("/v1"):
            text, usage = self.openai(data)
        else:
            text, usage = self.ollama(data)
        assert text.rstrip() == expected.rstrip(), f"text differs at {common(text, expected)} of {len(expected)}: ...{text[-80:]!r}"
        assert usage == tokens, f"{usage} tokens counted, not {tokens}"

    def ollama(self, data):
        lines = [json.loads(line) for line in data.decode().split("\n") if line.strip()]
        for line in lines:
            assert "error" not in line, line
        assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True], "done exactly at the end"
        assert lines[-1]["done_reason"] == "stop", lines[-1]
        return "".join(line.get("response", line.get("message", {}).get("content", "")) for line in lines), lines[-1]["eval_count"]

    def openai(self, data):
        events = [e for e in data.decode().split("\n\n") if e.strip() and not e.startswith(":")]
        assert all(e.startswith("data: ") for e in events), [e for e in events if not e.startswith("data: ")][:2]
        assert events[-1] == "data: [DONE]", events[-1]
        chunks = [json.loads(e[6:]) for e in events[:-1]]
        for chunk in chunks:
            assert "error" not in chunk, chunk
        identities = {(c["id"], c["model"], c.get("system_fingerprint")) for c in chunks}  # llama-server counts `created` on
        assert len(identities) == 1, f"several identities: {identities}"
        choices = [c["choices"][0] for c in chunks if c["choices"]]
        assert sum("role" in c["delta"] for c in choices) == 1 and "role" in choices[0]["delta"], "one role, first"
        finishes = [c["finish_reason"] for c in choices if c["finish_reason"]]
        assert finishes == ["stop"] and choices[-1]["finish_reason"] == "stop", finishes
        return "".join(c["delta"].get("content") or "" for c in choices), chunks[-1]["usage"]["completion_tokens"]


ARGUMENTS = json.dumps({"path": "src/" + "abcdefghijklmnopqrstuvwxyz/" * 6})


class Rich:
    """Thinking, text and a tool call: what is gone on with only where the backend keeps its streams. That one is never hit itself."""

    def __init__(self, path):
        self.path = path

    def body(self, filler, tokens):
        text = f"use it [[fake thinking={tokens // 3}&text=let+me+see&tool=read&args={urllib.parse.quote_plus(ARGUMENTS)}]]"
        schema = {"type": "object", "properties": {"path": {"type": "string"}}}
        if self.path == "/v1/responses":
            return {"model": "r:1b", "stream": True, "input": text, "tools": [{"type": "function", "name": "read", "parameters": schema}]}
        body = {"model": "r:1b", "stream": True, "messages": [{"role": "user", "content": text}]}
        if self.path == "/v1/messages":
            return {**body, "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 1024},
                    "tools": [{"name": "read", "input_schema": schema}]}
        return {**body, "tools": [{"type": "function", "function": {"name": "read", "parameters": schema}}]}

    def check(self, data, tokens):
        events = [json.loads(line[6:]) for line in data.decode().split("\n") if line.startswith("data: ") and line != "data: [DONE]"]
        assert not any("error" in e and e["error"] for e in events), [e for e in events if e.get("error")]
        ids = set(re.findall(rb'"(?:chatcmpl-\w+|(?:msg|resp)_[0-9a-f]{24})"', data))
        assert len(ids) == 1, f"several identities: {ids}"
        got, whole = getattr(self, self.path.rsplit("/", 1)[1])(events)
        wanted = (" ".join(f"t{i}" for i in range(tokens // 3)), "let me see", ARGUMENTS)
        assert whole and got == wanted, f"{got} is not {wanted}"

    def completions(self, events):
        deltas = [e["choices"][0]["delta"] for e in events if e["choices"]]
        calls = [c["function"].get("arguments", "") for d in deltas for c in d.get("tool_calls") or []]
        return tuple("".join(x) for x in ([d.get("reasoning_content") or "" for d in deltas], [d.get("content") or "" for d in deltas], calls)), \
            [e["choices"][0]["finish_reason"] for e in events if e["choices"]][-1] == "tool_calls"

    def messages(self, events):
        deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
        return tuple("".join(d.get(key, "") for d in deltas) for key in ("thinking", "text", "partial_json")), events[-1]["type"] == "message_stop"

    def responses(self, events):
        events = [e for e in events if "sequence_number" in e]  # a heartbeat has none
        assert [e["sequence_number"] for e in events] == list(range(len(events)))
        return tuple("".join(e["delta"] for e in events if e["type"] == f"response.{kind}.delta")
                     for kind in ("reasoning_summary_text", "output_text", "function_call_arguments")), events[-1]["type"] == "response.completed"


def common(a, b):
    n = 0
    while n < len(a) and n < len(b) and a[n] == b[n]:
        n += 1
    return n


DIALECTS = [Dialect("/api/chat"), Dialect("/v1/chat/completions"), Dialect("/api/generate")] + \
    [Rich(path) for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses")]
FILLERS = {"A": "short", "B": "\n".join(f"line {i} of src/file_{i % 7}.c says value_{i}" for i in range(320))}


class Client(threading.Thread):
    """Streams, one after the other, on connections that live for a few of them."""

    def __init__(self, port, seed, stop):
        super().__init__(daemon=True)
        self.port, self.random, self.stop = port, random.Random(seed), stop
        self.done = collections.Counter()
        self.failures = []
        self.silences = []  # (begin, end) of the longest silence of each stream, monotonic
        self.connection = None

    def run(self):
        while not self.stop.is_set():
            dialect, route = self.random.choice(DIALECTS), "B" if self.random.random() < 0.06 else "A"
            if dialect.path == "/api/generate" or isinstance(dialect, Rich):
                route = "A"
            tokens = self.random.randint(60, 150)
            try:
                self.stream(dialect, FILLERS[route], tokens)
                self.done[dialect.path] += 1
            except (AssertionError, OSError, ValueError, KeyError, http.client.HTTPException) as e:
                self.failures.append(f"{dialect.path} {route} {tokens} tokens: {type(e).__name__}: {e}"[:600])
                self.drop()

    def drop(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def stream(self, dialect, filler, tokens):
        fresh = self.connection is None
        if fresh:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        try:
            self.connection.request("POST", dialect.path, json.dumps(dialect.body(filler, tokens)), {"Content-Type": "application/json"})
            r = self.connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            if fresh:
                raise
            # A server may close a connection that is idle at any time (RFC 9112 9.3.1): only a fresh one counts.
            self.drop()
            return self.stream(dialect, filler, tokens)
        assert r.status == 200, (r.status, r.read()[:300])
        data, last, longest = b"", time.monotonic(), (0.0, 0.0, 0.0)
        while piece := r.read1(65536):
            now = time.monotonic()
            if data.strip() and now - last > longest[0]:
                longest = (now - last, last, now)
            last = now
            data += piece
        r.close()  # read1() does not at the end of a body with a length, and the connection would take no further request
        self.silences.append(longest)
        dialect.check(data, tokens)
        if r.will_close or self.random.random() < 0.2:
            self.drop()


class Chaos:
    def __init__(self, folder, o):
        self.folder, self.o = folder, o
        self.random = random.Random(o.seed)
        self.felt = collections.defaultdict(list)  # kind -> seconds until ready
        self.silence = collections.defaultdict(list)  # kind -> seconds of the longest silence of a stream, of faults that came alone
        self.watch_lock = threading.Lock()
        self.watchers = []
        self.operations = collections.Counter()
        self.problems = []
        self.fakes = {}
        self.turns = 0

    # --- the stage ---

    def devices(self, turn=0):
        command = [FAKE, "--type", "llama-server", "--model", "m:1b", "-c", "131072", "-np", "16", "--decode", str(DECODE)]
        return [
            {"name": "gpu0", "roles": ["main"], "slots": 16, "model": "m:1b", "backend": {"type": "llama-server", "command": command}},
            {"name": "gpu1", "roles": ["condense"], "slots": 2 + turn % 2, "model": "s:0.5b", "num_ctx": 8192,
             "backend": {"type": "ollama", "url": self.fakes["gpu1"].url}},
            {"name": "gpu2", "roles": ["main"], "slots": 16, "model": "m:1b", "num_ctx": 8192,
             "backend": {"type": "ollama", "url": self.fakes["gpu2"].url}},
            {"name": "gpu3", "roles": ["main"], "slots": 16, "model": "r:1b", "backend": {"type": "llama-server", "url": self.fakes["gpu3"].url}},
        ]

    def groups(self, turn=0):
        return {"log": {"level": "info"}, "routing": {"mode": "threshold", "a_max_tokens": 1500 + turn, "b_max_tokens": 6000},
                "backoff": {"first_ms": 20, "max_ms": 200, "max_restarts": 0},
                "deadlines": {"ping_ms": 300, "drain_ms": 20000, "main_wait_ms": 60000, "backend_idle_ms": 20000, "backend_connect_ms": 1000},
                "limits": {"request_deaths": 100, "resumes": 100}}

    def start_fake(self, name, port=None):
        model, slots = {"gpu1": (("s:0.5b",), 3), "gpu2": (("m:1b",), 16), "gpu3": (("r:1b",), 16)}[name]
        self.fakes[name] = Fake(self.folder, name, type="llama-server" if name == "gpu3" else "ollama", model=model, port=port,
                                options=("--slots", str(slots), "--decode", str(DECODE), "--num-ctx", "8192"))

    def start(self):
        self.start_fake("gpu1")
        self.start_fake("gpu2")
        self.start_fake("gpu3")
        self.t = Tandem(self.folder, self.devices(), **self.groups())
        self.pid = self.t.pid

    def status(self):
        return wait_for(self.t.status, "status")

    # --- faults ---

    def ready_devices(self):
        return [d for d in self.status()["devices"] if d["state"] == "ready" and d["pid"]]

    def measure(self, kind, name, old):
        """Until the device is ready with another worker (or backend) than before."""
        begun = time.monotonic()

        def look():
            end = begun + 60
            while time.monotonic() < end:
                try:
                    d = self.t.device(name)
                    if d["state"] == "ready" and old not in (d["pid"], d["backend"]["pid"]):
                        with self.watch_lock:
                            self.felt[kind].append(time.monotonic() - begun)
                        return
                except (OSError, ValueError, StopIteration):
                    pass
                time.sleep(0.005)
            self.problems.append(f"{kind}: {name} was not ready again within 60 s")

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        self.watchers = [w for w in self.watchers if w.is_alive()] + [thread]

    def signal(self, pid, number):
        try:
            os.kill(pid, number)
            return True
        except ProcessLookupError:
            return False

    def fault(self, kind):
        ready = self.ready_devices()
        if kind.endswith("worker"):
            if not ready:
                return None
            d = self.random.choice(ready)
            if not self.signal(d["pid"], signal.SIGKILL if kind.startswith("kill") else signal.SIGSTOP):
                return None
            self.measure(kind, d["name"], d["pid"])
        elif kind.endswith("started backend"):
            d = next((d for d in ready if d["name"] == "gpu0" and d["backend"]["pid"]), None)
            if not d:
                return None
            if kind.startswith("kill"):
                if not self.signal(d["backend"]["pid"], signal.SIGKILL):
                    return None
                self.measure(kind, d["name"], d["backend"]["pid"])
            else:
                self.stall(kind, d["backend"]["pid"])
        else:
            name = self.random.choice(["gpu1", "gpu2"])
            f = self.fakes[name]
            if kind.startswith("kill"):
                begun = time.monotonic()
                f.popen.kill()
                f.popen.wait()
                f.log_file.close()
                self.start_fake(name, f.port)
                self.felt[kind].append(time.monotonic() - begun)
            else:
                self.stall(kind, f.pid)
        return kind

    def stall(self, kind, pid):
        if self.signal(pid, signal.SIGSTOP):
            threading.Timer(STALL_S, self.signal, (pid, signal.SIGCONT)).start()
        self.felt[kind].append(STALL_S)

    # --- the operator ---

    def operate(self, text, turn=None):
        self.turns += 1
        turn = self.turns if turn is None else turn
        if text == "reload":
            with open(self.t.conf, "w") as f:
                config = {"listen": {"address": "127.0.0.1", "port": 0}, "run_dir": self.t.run_dir, "devices": self.devices(turn), **self.groups(turn)}
                f.write("".join(f"{k} = {libconfig(v)};\n" for k, v in config.items()))
        begun = time.monotonic()
        answer = self.t.command(text)
        if "operation" not in answer:
            self.operations[f"{text.split()[0]}: refused"] += 1  # another one is under way
            return None
        o = self.t.operation(answer["operation"], 90)
        # A replacement that chaos has killed is a failed operation, told as one; the device lives on.
        self.operations[f"{text.split()[0]}: {o['state']}"] += 1
        if o["state"] == "done":
            self.felt[kind_of(text)].append(time.monotonic() - begun)
        return text

    def upgrade(self):
        """One that lands: the new tandemd may be hit while it starts, then it is tried again."""
        for attempt in range(10):
            begun, before = time.monotonic(), self.status()["pid"]
            answer = self.t.command("upgrade")
            if "operation" in answer:
                def over():
                    now = self.t.status()
                    if now["pid"] != before:
                        return "done"
                    o = self.t.command(f"operation {answer['operation']}")
                    return o.get("why") or "failed" if o.get("state") == "failed" else None

                how = wait_for(over, "the end of the upgrade", 120)
                if how == "done":
                    self.pid = self.status()["pid"]
                    self.operations["upgrade: done"] += 1
                    self.felt["upgrade"].append(time.monotonic() - begun)
                    return
                self.operations["upgrade: rolled back"] += 1
            else:
                self.operations["upgrade: refused"] += 1
                time.sleep(0.2)  # another operation is under way: the period of the poll
        self.problems.append("no upgrade landed in ten attempts")

    # --- one by one ---

    def alone(self, clients, n):
        """Each kind of fault n times, with time for every stream to be well in between: what one of them means for the clients."""
        acts = {kind: (lambda kind=kind: self.fault(kind)) for kind in FAULTS}
        acts.update({kind_of(text): (lambda text=text: self.operate(text)) for text in ("restart all", "restart gpu0 --backend", "reload")})
        for kind, act in acts.items():
            for i in range(n):
                wait_for(lambda: len(self.ready_devices()) == 4, "four ready devices", 90)
                answered = wait_for_answers(clients, len(clients), 0)
                begun = time.monotonic()
                if act() is None:
                    continue
                wait_for(lambda: len(self.ready_devices()) == 4 or None, "four ready devices", 90)
                wait_for_answers(clients, 2 * len(clients), answered)
                self.silence[kind].append(max((s[0] for c in clients for s in list(c.silences) if s[2] >= begun), default=0.0))

    # --- the run ---

    def run(self):
        o = self.o
        self.start()
        port = self.t.port
        stop = threading.Event()
        clients = [Client(port, o.seed * 1000 + i, stop) for i in range(o.clients)]
        begun = time.monotonic()
        for c in clients:
            c.start()
        wait_for(lambda: sum(sum(c.done.values()) for c in clients) >= o.clients, "the first answers", 90)
        first = rss_bytes(self.pid), fd_count(self.pid)
        if o.alone:
            self.alone(clients, o.alone)
            print(f"  {o.alone} faults of each kind, one by one: {time.monotonic() - begun:.0f} s", flush=True)
            self.operations.clear()
        upgrades = [o.faults * (i + 1) // (o.upgrades + 1) for i in range(o.upgrades)]
        done = turn = 0
        counts = collections.Counter()
        while done < o.faults:
            if time.monotonic() - begun > o.limit_s:
                self.problems.append(f"only {done} of {o.faults} faults within {o.limit_s} s")
                break
            kind = self.fault(self.random.choices(list(FAULTS), FAULTS.values())[0])
            if kind:
                counts[kind] += 1
                done += 1
                if done % OPERATOR_EVERY == 0:
                    self.operate(OPERATOR[turn % len(OPERATOR)], turn)
                    turn += 1
                if done in upgrades:
                    self.upgrade()
                if done % 100 == 0:
                    print(f"  {done} faults, {sum(sum(c.done.values()) for c in clients)} streams, "
                          f"{sum(len(c.failures) for c in clients)} failures, {time.monotonic() - begun:.0f} s", flush=True)
            time.sleep(self.random.uniform(0.5, 1.5) * o.pause_ms / 1000)  # the pace of the faults
        stop.set()
        for c in clients:
            c.join(120)
            if c.is_alive():
                self.problems.append("a client still waits for an answer")
        for w in self.watchers:
            w.join(61)
        took = time.monotonic() - begun
        self.problems += [f for c in clients for f in c.failures]
        self.look_over(first)
        self.report(clients, counts, took)
        return not self.problems

    def look_over(self, first):
        """What may not be left, or have grown."""
        try:
            wait_for(lambda: self.quiet(), "quiet after the storm", 60)
        except AssertionError as e:
            self.problems.append(str(e))
        s = self.status()
        if s["requests"]["failed"]:
            self.problems.append(f"tandemd counts {s['requests']['failed']} failed requests")
        rss, fds = rss_bytes(self.pid), fd_count(self.pid)
        print(f"  tandemd: rss {first[0] >> 10} -> {rss >> 10} KB, descriptors {first[1]} -> {fds}")
        if rss - first[0] > MEMORY_GROWTH and not os.environ.get("TANDEM_SANITIZED"):  # a sanitizer keeps what was freed
            self.problems.append(f"memory grew from {first[0]} to {rss}")
        if fds > first[1] + 16:
            self.problems.append(f"descriptors grew from {first[1]} to {fds}")
        zombies = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if zombie_of(pid, self.pid)]
        if zombies:
            self.problems.append(f"zombies: {zombies}")
        ours = children(self.pid)
        begun = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        try:
            wait_for(lambda: not os.path.exists(f"/proc/{self.pid}") or zombie(self.pid), "the end of tandemd", 60)
        except AssertionError as e:
            self.problems.append(str(e))
        print(f"  stopped in {time.monotonic() - begun:.1f} s")
        for pid in ours:
            if os.path.exists(f"/proc/{pid}") and not zombie(pid) and comm(pid) in ("tandem-worker", "fake-backend", "tandem-guard"):
                self.problems.append(f"{comm(pid)} {pid} outlived tandemd")
        if self.t.popen.poll() is None and self.pid == self.t.pid:
            self.t.popen.wait(5)
        for line in self.t.log().splitlines():
            if "Sanitizer" in line or "runtime error" in line or "assert" in line.lower():
                self.problems.append(line[:300])
        try:
            wait_for(lambda: self.fakes["gpu3"].stats()["slots"]["active"] == 0, "a backend that generates nothing more", 60)
        except AssertionError as e:
            self.problems.append(str(e))
        for f in self.fakes.values():
            f.stop()

    def quiet(self):
        s = self.t.status()
        return (s["requests"]["active"] == 0 and s["queue"]["waiting"] == 0 and s["held_bytes"] == 0 and
                all(d["state"] == "ready" and d["inflight"] == 0 and d["waiting"] == 0 for d in s["devices"]) and
                len(self.t.command("workers")["workers"]) == 4)

    def report(self, clients, counts, took):
        streams = sum((c.done for c in clients), collections.Counter())
        print(f"\n{sum(counts.values())} faults ({', '.join(f'{n} x {k}' for k, n in counts.items())})")
        print(f"operator: {', '.join(f'{n} x {k}' for k, n in sorted(self.operations.items()))}")
        print(f"{sum(streams.values())} streams ({', '.join(f'{n} x {k}' for k, n in streams.items())}) of {len(clients)} clients in {took:.0f} s\n")
        print(f"{'fault':<24} {'n':>5}  {'device ready again, s':<24} {'alone':>5}  longest silence of a stream, s")
        for kind, times in sorted(self.felt.items()):
            gaps = self.silence[kind]
            print(f"{kind:<24} {len(times):>5}  p50 {quantile(times, .5):6.3f} p99 {quantile(times, .99):6.3f}  {len(gaps):>5}  "
                  f"p50 {quantile(gaps, .5):6.3f} p99 {quantile(gaps, .99):6.3f}")
        for p in self.problems[:20]:
            print("PROBLEM:", p)
        if len(self.problems) > 20:
            print(f"and {len(self.problems) - 20} more problems")


def kind_of(command):
    return "restart --backend" if command.endswith("--backend") else command.split()[0]


def wait_for_answers(clients, n, since):
    """Until n answers more than `since` are there; how many there are."""
    total = lambda: sum(sum(c.done.values()) + len(c.failures) for c in clients)  # noqa: E731
    since = since or total()
    wait_for(lambda: total() >= since + n, f"{n} more answers", 120)
    return total()


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if len(values) > 1 else statistics.fmean(values or [0.0])


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read().strip()
    except OSError:
        return ""


def stat_fields(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()
    except OSError:
        return ["?", "0"]


def zombie(pid):
    return stat_fields(pid)[0] == "Z"


def zombie_of(pid, parent):
    fields = stat_fields(pid)
    return fields[0] == "Z" and int(fields[1]) == parent


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--faults", type=int, default=1000)
    p.add_argument("--alone", type=int, default=0)
    p.add_argument("--clients", type=int, default=32)
    p.add_argument("--upgrades", type=int, default=5)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--pause-ms", type=int, default=350)
    p.add_argument("--limit-s", type=int, default=1500)
    p.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    o = p.parse_args()
    folder = tempfile.mkdtemp(prefix="tandem-chaos-")
    chaos = Chaos(folder, o)
    good = chaos.run()
    if good and not o.keep:
        import shutil
        shutil.rmtree(folder)
    else:
        print(f"logs are in {folder}")
    print("\nchaos passed" if good else "\nchaos failed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
