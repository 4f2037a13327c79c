"""A log that nobody reads, or that has nowhere to go: tandem serves on, and says what it could not say."""

import fcntl
import os
import re
import signal
import socket
import subprocess
import termios
import threading
import time

import pytest

import harness
from harness import Tandem, children, wait_for

F_SETPIPE_SZ = 1031


class Loud(Tandem):
    """A tandem whose standard descriptors are the test's; log() is what the test has read so far."""

    def __init__(self, *args, stdio, **options):
        self.stdio, self.read = stdio, b""
        super().__init__(*args, **options)

    def log(self):
        return self.read.decode(errors="replace")


@pytest.fixture
def loud(folder, fake, monkeypatch):
    """loud(stderr fd, ...) -> a tandem that logs there, at debug."""
    started = []

    def start(fd, close=(), **groups):
        backend = fake("main")
        real = subprocess.Popen

        def popen(args, **options):
            if "tandemd" not in args[0]:
                return real(args, **options)
            options.update(stdin=None, stdout=subprocess.DEVNULL, stderr=fd)
            if close:  # a shell's "0<&- 1>&- 2>&-"
                args = ["/bin/sh", "-c", " ".join(["exec", '"$0"', '"$@"'] + [f"{n}>&-" for n in close])] + args
            return real(args, **options)

        monkeypatch.setattr(harness.subprocess, "Popen", popen)
        t = Loud(folder, [{"name": "gpu0", "roles": ["main"], "model": "m:1b", "slots": 4, "backend": {"type": "ollama", "url": backend.url}}],
                 stdio=fd, **groups)
        started.append(t)
        return t

    yield start
    for t in started:
        if t.popen.poll() is None:
            t.popen.kill()
            t.popen.wait()


def drain(fd, t, done):
    """Reads fd on a thread until done is set and nothing more comes."""

    def run():
        os.set_blocking(fd, False)
        while True:
            try:
                piece = os.read(fd, 1 << 16)
            except BlockingIOError:
                if done.is_set():
                    return
                time.sleep(0.01)  # the period of the poll
                continue
            except OSError:
                return
            if not piece:
                return
            t.read += piece

    th = threading.Thread(target=run, daemon=True)
    th.start()
    return th


def flood(t, served, n=150):
    for _ in range(n):
        served(t)
    assert t.status()["requests"]["active"] == 0


def whole(text):
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line]
    for line in lines:
        assert re.match(r"ts=\S+Z level=\w+ proc=[\w-]+ pid=\d+ ", line) and line.count("ts=") == 1, line
    return lines


def lost(t):
    return t.command("counters")["log_lines_lost"]


def finish(t, fd, terminal=False):
    """Reads on; the loss is told, and tandemd ends as ever. A terminal takes parts of a line, so two processes may share one there."""
    done = threading.Event()
    reader = drain(fd, t, done)
    wait_for(lambda: "ev=log_lost" in t.log(), "word of the loss")
    assert t.popen.poll() is None
    t.popen.send_signal(signal.SIGTERM)
    assert t.popen.wait(15) == 0
    done.set()
    reader.join(10)
    lines = t.log().splitlines() if terminal else whole(t.log())
    told = sum(int(n) for line in lines if "proc=tandemd " in line for n in re.findall(r"ev=log_lost lines=(\d+)", line))
    assert told > 0
    assert "ev=stopped" in t.log()


def test_a_pipe_that_nobody_reads(loud, served):
    r, w = os.pipe()
    fcntl.fcntl(w, F_SETPIPE_SZ, 4096)
    t = loud(w, log={"buffer_bytes": 16384})
    flood(t, served)
    assert lost(t) > 100
    finish(t, r)


def test_a_socket_that_nobody_reads(loud, served):
    a, b = socket.socketpair()
    b.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    t = loud(b.fileno(), log={"buffer_bytes": 16384})
    flood(t, served)
    assert lost(t) > 100
    finish(t, a.fileno())


def test_a_terminal_that_was_stopped(loud, served):
    """Ctrl-S, then Ctrl-Q."""
    master, slave = os.openpty()
    t = loud(slave, log={"buffer_bytes": 16384})
    termios.tcflow(slave, termios.TCOOFF)
    flood(t, served)
    assert lost(t) > 100
    termios.tcflow(slave, termios.TCOON)
    finish(t, master, terminal=True)


def test_it_ends_although_nobody_reads(loud, served):
    r, w = os.pipe()
    fcntl.fcntl(w, F_SETPIPE_SZ, 4096)
    t = loud(w, log={"buffer_bytes": 16384})
    flood(t, served, 60)
    t.popen.send_signal(signal.SIGTERM)
    assert t.popen.wait(15) == 0
    os.close(r)
    os.close(w)


def test_a_reader_that_is_gone(loud, served):
    r, w = os.pipe()
    t = loud(w)
    os.close(r)
    flood(t, served, 30)
    assert lost(t) > 0
    t.popen.send_signal(signal.SIGTERM)
    assert t.popen.wait(15) == 0


@pytest.mark.parametrize("close", [(0, 1, 2), (2,), (0,), (1,)])
def test_closed_standard_descriptors(loud, served, close, folder):
    """What is opened first must not become what is logged to."""
    with open(os.path.join(folder, "out"), "wb") as f:
        t = loud(f.fileno(), close=close)
        pids = [t.pid] + children(t.pid)
        assert len(pids) > 1
        for pid in pids:
            for n in close:
                if n < 3:
                    assert os.readlink(f"/proc/{pid}/fd/{n}") == "/dev/null", (pid, n)
        flood(t, served, 10)
        t.popen.send_signal(signal.SIGTERM)
        assert t.popen.wait(15) == 0


def test_the_last_line_before_a_crash(loud, served):
    """What a turn has logged is there although the process ends in it."""
    r, w = os.pipe()
    t = loud(w)
    served(t)
    t.popen.send_signal(signal.SIGABRT)
    t.popen.wait(15)
    os.set_blocking(r, False)
    text = b""
    while True:
        try:
            text += os.read(r, 1 << 16)
        except BlockingIOError:
            break
    assert b"ev=request_done" in text
    whole(text.decode())
