"""The processes of one arm: the main card's backend, the small card's, and tandem in front of them (or not). All times are scaled by the
same factor: the cards' rates and loads, gaps, and those of tandem's deadlines that wait for a card. What the machine itself must do (a
worker's start, its pings) keeps its time."""

import http.client
import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "process"))
from harness import BIN, Process, Tandem, free_port, libconfig, wait_for  # noqa: E402

from corpus import CHARS_PER_TOKEN  # noqa: E402
from shapes import side_mark  # noqa: E402

SCALED_MS = {"deadlines": {"first_byte_ms": 2000, "first_byte_nonstream_ms": 20000, "heartbeat_ms": 10000, "main_wait_ms": 60000,
                           "backend_connect_ms": 3000, "backend_idle_ms": 300000, "kv_ms": 30000},
             "condense": {"job_timeout_ms": 30000}, "routing": {"min_gain_ms": 2000}, "small": {"wait_ms": 10000, "idle_wait_ms": 30000, "answer_ms": 60000}}
SMALL_STATES = ("ready", "absent", "dead", "slow", "loading", "silent")
SIMILARITY = 0.8  # common/backends.h, as the batch
BATCH = 512
SMALL_SLOTS = 2  # each as fast as the card alone: tests/fake has no price for batches
NOTE_TOKENS = 120  # of an answer of the small card, where nothing else is said
SIDE_TOKENS = (12, 30, 70, 8)  # of answers to a title, tags, follow-ups, a completion
SLOW = 10  # times slower than its profile says


class Backend(Process):
    """A scripted backend that logs when each request came and when its first token went."""

    def __init__(self, folder, name, options, port=None):
        self.port, self.path = port or free_port(), os.path.join(folder, name + ".requests")
        args = [os.path.join(BIN, "fake-backend"), "--port", str(self.port), "--model", name, "--log", self.path, "--early-headers",
                "--chars-per-token", str(CHARS_PER_TOKEN), *map(str, options)]
        super().__init__(args, os.path.join(folder, name + ".log"))
        self.url = f"http://127.0.0.1:{self.port}"
        self.control = None
        wait_for(lambda: self.call("GET", "/fake/stats"), f"backend {name}")

    def call(self, method, path, body=None):
        if self.control is None:
            self.control = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            self.control.request(method, path, None if body is None else json.dumps(body))
            response = self.control.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException):
            self.control.close()
            self.control = None
            raise
        if response.status >= 300:
            raise AssertionError(f"{path}: {response.status} {data[:200]}")
        return json.loads(data or b"true") or True

    def say(self, name, match, text, tool=None, args=None):
        """What it answers from now on to requests that hold `match`."""
        rule = {"name": name, "match": match, "times": -1, "text": text}
        if tool:
            rule.update(tool=tool, args=args)
        self.call("POST", "/fake/control", rule)

    def requests(self):
        """Those that asked for an answer."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, errors="replace") as f:
            return [r for line in f if line.endswith("\n") and (r := json.loads(line))["method"] == "POST" and "ms" in r and
                    any(p in r["path"] for p in ("completion", "/api/chat", "/api/generate"))]


def routing_modes():
    """Those that this tandemd knows."""
    known = []
    for mode in ("threshold", "adaptive"):
        conf = {"listen": {"port": 0}, "run_dir": "/tmp/tandem-none", "routing": {"mode": mode},
                "devices": [{"name": "main", "roles": ["main"], "backend": {"type": "ollama", "url": "http://127.0.0.1:1"}}]}
        path = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"tandem-modes-{os.getpid()}.conf")
        with open(path, "w") as f:
            f.writelines(f"{k} = {libconfig(v)};\n" for k, v in conf.items())
        done = subprocess.run([os.path.join(BIN, "tandemd"), "-t", "-c", path], capture_output=True, check=False)
        os.unlink(path)
        if done.returncode == 0:
            known.append(mode)
    return known


class World:
    """One arm's processes. `port` is where its client goes."""

    def __init__(self, folder, arm, spec, speed, modes=(), state_dir=None, main_factor=1, main_port=None):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.arm, self.spec, self.speed = folder, arm, spec, speed
        main, small = spec.cards
        kind = ["--type", spec.backend, "--num-ctx", spec.window, "--speed", speed * main_factor]
        self.small = self.tandem = None
        # As tandem starts a llama-server with one slot (docs/backends.md); a client finds it with its defaults.
        self.aside = arm in ("threshold", "adaptive") and spec.backend == "llama-server" and spec.host_cache
        kind += ["--slot-prompt-similarity", SIMILARITY, "--batch-size", BATCH] if self.aside else []
        self.main = Backend(folder, "main", kind + main.options(spec.host_cache), main_port)
        try:
            if arm == "threshold" or arm.startswith("adaptive"):
                self.start_tandem(small, modes, state_dir)
        except BaseException:
            self.stop()
            raise
        self.port = self.tandem.port if self.tandem else self.main.port

    def start_tandem(self, small, modes, state_dir):
        state = self.spec.small
        window = min(small.num_ctx, self.spec.window)
        devices = [{"name": "main", "roles": ["main"], "slots": 1, "model": "main", "num_ctx": self.spec.window,
                    "backend": {"type": self.spec.backend, "url": self.main.url, **({"slot_similarity": SIMILARITY} if self.aside else {})}}]
        if state != "absent":
            speed = self.speed / SLOW if state == "slow" else self.speed
            options = ["--type", "llama-server", "--num-ctx", window, "--slots", SMALL_SLOTS, "--speed", speed, *small.options(self.spec.host_cache)]
            if state == "loading":  # for as long as the simulation lasts
                options += ["--load-ms", 100_000_000]
            self.small = Backend(self.folder, "small", options)
            self.small.call("POST", "/fake/control", {"times": -1, "quote": NOTE_TOKENS})
            devices.append({"name": "small", "roles": ["condense"], "slots": SMALL_SLOTS, "model": "small", "num_ctx": window,
                            "backend": {"type": "llama-server", "url": self.small.url}})
        groups = {g: {k: max(10, round(v / self.speed)) for k, v in keys.items()} for g, keys in SCALED_MS.items()}
        mode = self.arm.split(",")[0]
        if "no lane" in self.arm:
            groups["small"] = {"rules": []}
        if mode in modes:
            groups["routing"]["mode"] = mode
        else:
            del groups["routing"]
        groups["state_dir"] = state_dir or os.path.join(self.folder, "state")
        self.tandem = Tandem(self.folder, devices, wait=False, **{**groups, "log": {"level": "info"}})
        self.tandem.wait_ready("main", *(["small"] if state in ("ready", "slow", "dead", "silent") else []))
        if state == "dead":
            self.small.stop()
        elif state == "silent":
            self.small.popen.send_signal(signal.SIGSTOP)

    def say_sides(self):
        """What both cards say to side tasks, as long as such answers are."""
        for card in (self.main, self.small):
            if card is None:
                continue
            card.call("POST", "/fake/reset", {})
            for i, tokens in enumerate(SIDE_TOKENS):
                card.say(f"side {i}", side_mark(i), "a " * round(tokens * CHARS_PER_TOKEN / 2))
        if self.small:
            self.small.call("POST", "/fake/control", {"times": -1, "quote": NOTE_TOKENS})

    def pids(self):
        """Of the processes between the client and the cards, and of the backends."""
        workers = [d["pid"] for d in self.tandem.status()["devices"]] if self.tandem else []
        return [p.pid for p in (self.tandem, self.main, self.small) if p] + workers

    def requests(self):
        """{backend: its requests}, in order of arrival; complete when nothing is under way."""
        return {b: sorted(p.requests(), key=lambda r: r["clock_ms"]) for b, p in (("main", self.main), ("small", self.small)) if p}

    def stop(self):
        if self.small and self.spec.small == "silent":
            self.small.popen.send_signal(signal.SIGCONT)
        for process in (self.tandem, self.main, self.small):
            if process:
                process.stop()
