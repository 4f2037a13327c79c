"""Whole agents, as their makers publish them, before a tandem with scripted backends.

Each test has a tandem, two backends, a project and a home for the agent of its own. What an agent is told by the model stands in
scripted.py, its settings in agents.py; etc/setup/clients.sh installs it when it is first asked for, and says why where it cannot be had.
"""

import json
import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [os.path.dirname(HERE), os.path.join(os.path.dirname(os.path.dirname(HERE)), "process")]

from harness import ROOT, Fake, Tandem  # noqa: E402
from prompts import MODEL, SMALL_MODEL  # noqa: E402

ALIASES = [{"match": "claude-*haiku*", "use": "gpu1"}, {"match": "claude-*", "use": "gpu0"}, {"match": "gpt-*", "use": "gpu0"}]
KINDS = ["ollama", "llama-server"]
HASTY = {"first_byte_ms": 100, "first_byte_nonstream_ms": 5000, "heartbeat_ms": 100}  # deadlines with which heartbeats come at once


def script(what, *command):
    """The last line that a setup script prints. 77: not to be had here."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode == 77:
        pytest.skip(f"this machine cannot have {what}")
    assert done.returncode == 0, f"{what} could not be installed"
    return done.stdout.splitlines()[-1]


def install(name):
    """The folder of a client's packages."""
    return script(name, os.path.join(ROOT, "etc", "setup", "clients.sh"), name)


class Talk:
    """One request of the main backend's log, and its body."""

    def __init__(self, line, body):
        self.path, self.status, self.end, self.body = line["path"], line["status"], line["end"], body
        self.prompt, self.cached = line["prompt_tokens"], line["cached_tokens"]


class Site:
    """A tandem in its default mode: a main device of one slot and window `window`, and a small one of the other kind that condenses."""

    def __init__(self, folder, kind, window, **groups):
        other = next(k for k in KINDS if k != kind)
        self.log = os.path.join(folder, "main.jsonl")
        self.main = Fake(folder, "main", type=kind, model=(MODEL,), options=["--num-ctx", str(window), "--embeddings", "--log", self.log])
        self.small = Fake(folder, "small", type=other, model=(SMALL_MODEL,), options=["--num-ctx", "8192", "--slots", "2"])
        self.tandem = Tandem(folder, [
            {"name": "gpu0", "roles": ["main"], "model": MODEL, "num_ctx": window, "backend": {"type": kind, "url": self.main.url}},
            {"name": "gpu1", "roles": ["condense"], "slots": 2, "model": SMALL_MODEL, "num_ctx": 8192,
             "backend": {"type": other, "url": self.small.url}}], routing={"mode": "adaptive"}, models=ALIASES, **groups)
        self.small.fault(excerpt=60, times=-1)  # its notes are lines of what they are about
        self.url = self.tandem.url

    def talks(self):
        """What the main backend was asked to answer, in order."""
        self.tandem.wait_idle()
        self.main.stats()  # what was answered before is in the log now
        with open(self.log) as f:
            lines = [json.loads(line) for line in f]
        found = []
        for line in lines:
            if "prompt_tokens" in line:
                with open(os.path.join(self.main.dump, f"{line['seq']}.body")) as f:
                    found.append(Talk(line, f.read()))
        return found

    def complaints(self):
        """What the log of tandem and its workers says of requests at the level of warnings and errors."""
        return [e for e in self.tandem.events() if e["level"] in ("warn", "error") and "req" in e]

    def stop(self):
        try:
            assert self.tandem.stop() == 0, self.tandem.log()[-4000:]
        finally:
            self.main.stop()
            self.small.stop()


@pytest.fixture
def site_with(tmp_path):
    """site_with(kind, window, deadlines={...}, ...) starts a site."""
    started = []

    def start(kind, window, **groups):
        started.append(Site(str(tmp_path), kind, window, **groups))
        return started[-1]

    yield start
    for site in started:
        site.stop()


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return str(folder)
