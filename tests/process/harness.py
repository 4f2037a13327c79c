"""Real processes for the tests: a tandem in front of scripted backends, in a temporary folder, torn down by pid.

Nothing here sleeps for a guess: every wait looks for an event (a state on the stats socket, a line of a log, a counter of a
backend) and has a deadline.
"""

import collections
import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from tls import TlsSocket

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("TANDEM_BIN", os.path.join(ROOT, "build", "bin"))
DEADLINE = float(os.environ.get("TANDEM_TEST_DEADLINE_S", "20"))


LOG_FIELD = re.compile(r'([^\s=]+)=("(?:[^"\\]|\\.)*"|\S*)')
LOG_ESCAPE = re.compile(r'\\(["\\])')


def wait_for(look, what, deadline=None):
    """Polls look() until it returns something true; that is returned."""
    end = time.monotonic() + (deadline or DEADLINE)
    last = None
    while time.monotonic() < end:
        try:
            last = look()
            if last:
                return last
        except (OSError, ValueError, http.client.HTTPException) as e:
            last = e
        time.sleep(0.01)  # the period of the poll, not a guess at when the event comes
    raise AssertionError(f"no {what} within the deadline; last: {last!r}")


class Lateness:
    """How late this machine is: a thread that sleeps a moment, again and again, and is woken when others let it."""

    STEP = 0.005

    def __init__(self):
        self.late, self.woken = collections.deque(maxlen=4096), time.monotonic()

    def watch(self):
        while True:
            self.woken = time.monotonic()
            time.sleep(self.STEP)
            over = time.monotonic() - self.woken - self.STEP
            if over > 0.0005:
                self.late.append((time.monotonic(), over))

    def since(self, at):
        now = time.monotonic()
        return sum(over for when, over in list(self.late) if when >= at) + max(0.0, now - max(self.woken, at) - self.STEP)


LATENESS = Lateness()


def spent(since):
    """Seconds since then (time.monotonic()), less those by which the machine was late: on a quiet machine the same, on a busy one what
    a deadline in a test may be held to."""
    return time.monotonic() - since - LATENESS.since(since)


threading.Thread(target=LATENESS.watch, daemon=True).start()


class Ports:
    """Ports of this process alone, whatever else is tested on this machine: blocks below those that the kernel gives to
    connections. A block is held by a socket in the abstract namespace, which ends with the process."""

    BLOCK, FIRST = 100, 10000

    def __init__(self):
        with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
            self.blocks = list(range(self.FIRST, min(int(f.read().split()[0]), 32768) - self.BLOCK, self.BLOCK))
        random.shuffle(self.blocks)
        self.held, self.left = [], []

    def next(self):
        while True:
            if not self.left:
                self.left = self.take_block()
            port = self.left.pop()
            with socket.socket() as s, contextlib.suppress(OSError):  # somebody's who knows nothing of this
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(("127.0.0.1", port))
                return port

    def take_block(self):
        for first in self.blocks:
            holder = socket.socket(socket.AF_UNIX)
            try:
                holder.bind(f"\0tandem-test-ports-{first}")
            except OSError:
                holder.close()
                continue
            self.held.append(holder)
            self.blocks.remove(first)
            return list(range(first, first + self.BLOCK))
        raise AssertionError("no free block of ports is left")


PORTS = Ports()


def free_port():
    """A port that nobody listens on, given to nobody else."""
    return PORTS.next()


def nng_req(path, request, timeout=5.0):
    """One request to an nng REP socket over ipc (the SP protocol by hand: 8-byte hello, then length-prefixed messages)."""
    with socket.socket(socket.AF_UNIX) as s:
        # Where the queue of those who connect is full, only a blocking connect() waits.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(timeout), 0))
        s.connect(path)
        s.settimeout(timeout)
        s.sendall(b"\0SP\0" + struct.pack(">HH", 0x30, 0))

        def exactly(n):
            data = b""
            while len(data) < n:
                piece = s.recv(n - len(data))
                if not piece:
                    raise OSError("stats socket closed")
                data += piece
            return data

        exactly(8)
        body = struct.pack(">I", 0x80000001) + request.encode()
        s.sendall(b"\x01" + struct.pack(">Q", len(body)) + body)
        header = exactly(9)
        return exactly(struct.unpack(">Q", header[1:])[0])[4:]


class Process:
    """A child with its output in a file; ended by pid."""

    def __init__(self, args, log, env=None):
        self.log_path = log
        self.log_file = open(log, "ab")
        self.popen = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=self.log_file, stderr=self.log_file,
                                      env={**os.environ, **(env or {})})
        self.pid = self.popen.pid

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def stop(self, sig=signal.SIGTERM, deadline=15):
        if self.popen.poll() is None:
            self.popen.send_signal(sig)
            try:
                self.popen.wait(deadline)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
                raise AssertionError(f"pid {self.pid} did not stop within {deadline} s; log:\n{self.log()[-4000:]}")
        self.log_file.close()
        return self.popen.returncode


class Control:
    """A scripted backend at that address, whoever started it: its script, and what it counts."""

    def __init__(self, url):
        self.url = url

    def call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data=data), timeout=DEADLINE) as r:
            return json.loads(r.read() or b"null")

    def stats(self):
        return self.call("/fake/stats")

    def fault(self, **spec):
        return self.call("/fake/control", spec)

    def go(self, **spec):
        """Answers that hang (hang_after) go on, and those that wait (delay_ms) wait no longer."""
        return self.call("/fake/go", spec)

    def struck(self):
        """Waits until every fault has struck: what a worker has been given, its backend may not have yet."""
        wait_for(lambda: self.stats()["rules"] == 0, "the fault to strike")

    def reset(self):
        return self.call("/fake/reset", {})


class Fake(Process, Control):
    """A scripted backend (tests/fake)."""

    def __init__(self, folder, name, type="ollama", model=("m:1b",), port=None, options=()):
        self.port = port or free_port()
        self.type = type
        self.dump = os.path.join(folder, name + ".dump")
        os.makedirs(self.dump, exist_ok=True)
        args = [os.path.join(BIN, "fake-backend"), "--type", type, "--port", str(self.port), "--dump", self.dump]
        for m in model:
            args += ["--model", m]
        super().__init__(args + [str(o) for o in options], os.path.join(folder, name + ".log"))
        Control.__init__(self, f"http://127.0.0.1:{self.port}")
        wait_for(lambda: self.stats() is not None, f"fake backend {name}")

    def bodies(self):
        """Request bodies received, in order."""
        names = sorted((n for n in os.listdir(self.dump) if n.endswith(".body")), key=lambda n: int(n.split(".")[0]))
        out = []
        for n in names:
            with open(os.path.join(self.dump, n), "rb") as f:
                out.append(f.read())
        return out


def libconfig(value, indent=0):
    """A Python value as libconfig text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value}L" if isinstance(value, int) and abs(value) > 2**31 - 1 else str(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, dict):
        return "{ " + " ".join(f"{k} = {libconfig(v)};" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        simple = all(isinstance(v, str) for v in value)
        return ("[ " if simple else "( ") + ", ".join(libconfig(v) for v in value) + (" ]" if simple else " )")
    raise TypeError(type(value))


class Tandem(Process):
    """tandemd with the given devices (dicts as in the configuration) and further groups."""

    def __init__(self, folder, devices, env=None, wait=True, program=None, **groups):
        self.folder = folder
        # Unix socket paths are short: the run folder cannot live in a deep test folder.
        self.run_holder = tempfile.TemporaryDirectory(prefix="tandem-")
        self.run_dir = os.path.join(self.run_holder.name, "run")
        config = {"listen": {"address": "127.0.0.1", "port": 0}, "run_dir": self.run_dir, "log": {"level": "debug"},
                  "routing": {"mode": "threshold"},  # the ways by size; tests of "adaptive" say so
                  "devices": devices}
        for name, group in groups.items():
            config[name] = {**config.get(name, {}), **group} if isinstance(group, dict) else group
        self.run_dir = config["run_dir"]
        certificate = config["listen"].get("certificate")
        self.tls = ssl.create_default_context(cafile=certificate) if certificate else None
        self.conf = os.path.join(folder, "tandem.conf")
        with open(self.conf, "w") as f:
            for key, value in config.items():
                f.write(f"{key} = {libconfig(value)};\n")
        super().__init__([program or os.path.join(BIN, "tandemd"), "-c", self.conf], os.path.join(folder, "tandemd.log"), env)
        try:
            status = wait_for(self.alive_status, "stats socket of tandemd")
            self.address = status["listen"]
            self.port = int(self.address.rsplit(":", 1)[1])
            self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"
            if wait:
                self.wait_ready()
        except AssertionError as e:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError(f"{e}\n{self.log()[-6000:]}") from None

    def alive_status(self):
        if self.popen.poll() is not None:
            raise AssertionError(f"tandemd exited with {self.popen.returncode}:\n{self.log()[-4000:]}")
        return self.status()

    def status(self):
        return json.loads(nng_req(os.path.join(self.run_dir, "stats.ipc"), "status"))

    def command(self, text):
        """A request to the stats socket; its answer."""
        return json.loads(nng_req(os.path.join(self.run_dir, "stats.ipc"), text))

    def flush(self):
        """What tandemd and its workers have said so far is in the log when this returns. One that is stopped, or gone, or whose
        stats socket is, has nothing more to say: False."""
        path = os.path.join(self.run_dir, "stats.ipc")
        if self.popen.poll() is not None or not os.path.exists(path):
            return False
        with contextlib.suppress(OSError, ValueError):
            return json.loads(nng_req(path, "flush", timeout=3)).get("flushed", False)
        return False

    def log(self):
        """The log with all that was said before this call: lines are written once a turn of a loop, which may be after an answer."""
        self.flush()
        return super().log()

    def operation(self, number, deadline=None):
        """The outcome of an operation, once it has ended."""
        return wait_for(lambda: (o := self.command(f"operation {number}")).get("state") in ("done", "failed") and o, f"end of operation {number}",
                        deadline)

    def operate(self, text, deadline=None):
        """A command, and what came of it."""
        begun = self.command(text)
        assert "operation" in begun, begun
        return self.operation(begun["operation"], deadline)

    def client(self, **options):
        return Client(self, **options)

    def device(self, name):
        return next(d for d in self.status()["devices"] if d["name"] == name)

    def requests(self):
        return self.status()["requests"]

    def wait_idle(self, deadline=None):
        """No request, no job, no held byte is left."""

        def idle():
            s = self.status()
            return s["requests"]["active"] == 0 and s["queue"]["waiting"] == 0 and s["held_bytes"] == 0 and \
                all(d["inflight"] == 0 and d["waiting"] == 0 for d in s["devices"])

        wait_for(idle, "idle tandem", deadline)

    def events(self, rid=None, ev=None):
        """Log lines (of one request, of one kind) as dicts."""
        out = []
        for line in self.log().splitlines():
            if " ev=" not in line or (rid and f" req={rid}" not in line) or (ev and f" ev={ev}" not in line):
                continue  # a log has many thousand lines: only what may be looked for is taken apart
            fields = {k: LOG_ESCAPE.sub(r"\1", v[1:-1]) if v.startswith('"') else v for k, v in LOG_FIELD.findall(line)}
            if "ev" in fields and (rid is None or fields.get("req") == rid) and (ev is None or fields["ev"] == ev):
                out.append(fields)
        return out

    def wait_ready(self, *names, deadline=None):
        def ready():
            devices = self.status()["devices"]
            return all(d["state"] == "ready" for d in devices if not names or d["name"] in names)

        wait_for(ready, f"readiness of {names or 'all devices'}", deadline)

    def connect(self, timeout=30):
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=30):
        """(status, headers, bytes)"""
        c = self.connect(timeout)
        try:
            data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
            c.request(method, path, data, {"Content-Type": "application/json", **(headers or {})} if data is not None else headers or {})
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def chat(self, content, model="m:1b", stream=False, **more):
        messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
        return self.request("POST", "/api/chat", {"model": model, "messages": messages, "stream": stream, **more})

    def stop(self, sig=signal.SIGTERM, deadline=20):
        rc = super().stop(sig, deadline)
        self.run_holder.cleanup()
        return rc


class Client:
    """One raw connection: what arrives can be looked at as it arrives, and the connection left in any phase."""

    def __init__(self, t, timeout=20, **options):
        self.sock = socket.socket()
        for name, value in options.items():
            self.sock.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        self.sock.settimeout(timeout)
        self.sock.connect(("127.0.0.1", t.port))
        if getattr(t, "tls", None):
            self.sock = TlsSocket(self.sock, t.tls)
        self.data = b""

    def send(self, method, path, body=None, headers=(), length=None):
        """The whole request, or with length > len(body) only its first part."""
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body or b""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
        if data or length is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data) if length is None else length}"]
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        return self

    def more(self):
        piece = self.sock.recv(1 << 16)
        if not piece:
            raise EOFError(f"connection closed; unread {self.data[-200:]!r}")
        self.data += piece

    def until(self, mark):
        while mark not in self.data:
            self.more()
        part, self.data = self.data.split(mark, 1)
        return part

    def exactly(self, n):
        while len(self.data) < n:
            self.more()
        part, self.data = self.data[:n], self.data[n:]
        return part

    def head(self):
        """Status line and headers; 100 Continue is passed over."""
        while True:
            lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            self.status = int(lines[0].split()[1])
            if self.status != 100:
                break
        self.header_lines = lines[1:]
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
        self.left = int(self.headers.get("content-length", 0))
        self.chunked = self.headers.get("transfer-encoding") == "chunked"
        return self.status

    def piece(self):
        """The next bytes of the body as they were sent (a chunk, or what has come of a body of known length); b"" at its end."""
        if self.chunked:
            part = self.exactly(int(self.until(b"\r\n"), 16))
            assert self.exactly(2) == b"\r\n"
            return part
        if self.left and not self.data:
            self.more()
        part = self.exactly(min(self.left, len(self.data)))
        self.left -= len(part)
        return part

    def rest(self):
        return b"".join(iter(self.piece, b""))

    def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def in_thread(fn):
    """Runs fn in a thread; join() returns its result or raises what it raised."""

    class T(threading.Thread):
        def run(self):
            try:
                self.result = fn()
            except BaseException as e:  # noqa: BLE001 - handed over to the joiner
                self.error = e

        def join(self, timeout=30):
            super().join(timeout)
            assert not self.is_alive(), "the request never ended"
            if hasattr(self, "error"):
                raise self.error
            return self.result

    t = T(daemon=True)
    t.start()
    return t


def ndjson(data):
    return [json.loads(line) for line in data.decode().split("\n") if line.strip()]


def sse(data):
    """The data payloads of an SSE body, [DONE] included, comments dropped."""
    out = []
    for event in data.decode().split("\n\n"):
        for line in event.split("\n"):
            if line.startswith("data: "):
                out.append(line[6:])
    return out


def ollama_text(data):
    return "".join(m.get("message", {}).get("content", m.get("response", "")) for m in ndjson(data))


def children(pid):
    """Live children of a process, zombies left out."""
    out = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as f:
                    fields = f.read().rsplit(")", 1)[1].split()
                if int(fields[1]) == pid and fields[0] != "Z":
                    out.append(int(name))
            except OSError:
                pass
    return out


def family(pid):
    """All live descendants of a process."""
    return [p for child in children(pid) for p in (child, *family(child))]


def alive(pid):
    """It runs: it has not ended, whether it was reaped or not."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


# Takes the death of a process for itself, so that its parent cannot see it: until then it is as one in D state.
TRACER = r"""
import ctypes, os, sys
libc, pid = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
if libc.ptrace(0x4206, pid, None, None):  # PTRACE_SEIZE
    sys.exit(os.strerror(ctypes.get_errno()))
print("seized", flush=True)
sys.stdin.read()
os.waitpid(pid, 0x40000000)  # __WALL
"""


@contextlib.contextmanager
def unreapable(pid):
    """Within it no signal but KILL comes to the process, and its parent does not see its end. It must have been killed by then."""
    tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert tracer.stdout.readline(), "the process may not be traced"
        yield
    finally:
        tracer.communicate()


def rss_bytes(pid):
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def run_files(run_dir):
    """What is left in a run folder, but for what tandemd keeps over restarts (state_dir is the run folder here)."""
    return sorted(n for n in os.listdir(run_dir) if not n.startswith("tandem.mdb"))


def fds(pid):
    """Its descriptors, and what each is. What it closes meanwhile (a peer of a socket that has just been answered) is left out."""
    out = {}
    for n in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            out[int(n)] = os.readlink(f"/proc/{pid}/fd/{n}")
    return out


def inherited(pid):
    """Those of fds() that were not opened by the process itself: what it opens is close-on-exec."""
    out = {}
    for n, link in fds(pid).items():
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/fdinfo/{n}") as f:
            if not next(int(line.split()[1], 8) for line in f if line.startswith("flags")) & os.O_CLOEXEC:
                out[n] = link
    return out


def fd_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
