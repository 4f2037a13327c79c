"""Lives and deaths: of workers, of backends that workers start, of tandemd itself. The front door answers throughout."""

import datetime
import http.client
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

import pytest

from conftest import attached
from harness import (BIN, LATENESS, ROOT, Client, Process, alive, children, family, fd_count, fds, free_port, inherited, libconfig, ndjson,
                     nng_req, run_files, spent, unreapable, wait_for)
from test_fallback import in_thread

FAKE = os.path.join(BIN, "fake-backend")


def script(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, 0o755)
    return path


def started(name="gpu0", roles=("main",), command=(), url=None, **more):
    """A device whose backend its worker starts."""
    backend = {"type": "llama-server", "command": list(command or [FAKE, "--type", "llama-server", "-c", "8192", "-np", "2"])}
    if url:
        backend["url"] = url
    return {"name": name, "roles": list(roles), "slots": 2, **more, "backend": backend}


def logged(t, event, **fields):
    """Lines of the log with that event and those fields, in order."""
    return [line for line in t.log().splitlines()
            if f"ev={event} " in line + " " and all(f"{k}={v} " in line + " " for k, v in fields.items())]


def answers(t, model="m:1b"):
    status, _, body = t.chat("hi", model=model)
    assert status == 200, body
    return True


# --- workers that die, and workers that talk rubbish ---

# A stand-in for tandem-worker: for the devices named in the file `mode` beside it (one "device mode" a line) it misbehaves,
# for all others it becomes the real one. It speaks nng's ipc framing (type, length) and pair1 (a hop count) by hand.
IMPOSTOR = """#!%(python)s -ESs
import os, signal, socket, struct, sys, time
here = os.path.dirname(os.path.abspath(sys.argv[0]))
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open(os.path.join(here, "mode")) as f:
    modes = dict(line.split(None, 1) for line in f.read().splitlines())
mode = modes.get(args.get("--device"))
if mode is None:
    os.execv("%(bin)s/tandem-worker", ["%(bin)s/tandem-worker"] + sys.argv[1:])
if mode.startswith("exit"):
    sys.exit(int(mode.split()[1]))
if mode == "mute":
    time.sleep(1000)

s = socket.socket(socket.AF_UNIX)
s.connect(args["--link"].removeprefix("ipc://"))
if mode == "no handshake":
    s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n" * 1000)
    time.sleep(1000)
s.sendall(b"\\0SP\\0" + struct.pack(">HH", 0x11, 0))
hello = b""
while len(hello) < 8:
    hello += s.recv(8 - len(hello))

def message(body):
    body = struct.pack(">I", 1) + body
    try:
        s.sendall(b"\\1" + struct.pack(">Q", len(body)) + body)
    except OSError:
        pass

def text(v):
    v = v.encode()
    return bytes([0xd9, len(v)]) + v

def hello_record(pid=None, device=None, version="%(version)s"):
    pid = struct.pack(">I", os.getpid() if pid is None else pid)
    return b"\\x95\\x01\\x00\\xce" + pid + text(device or args["--device"]) + text(version)

def frame(*records, version=%(proto)s, later=0):
    return bytes([0x90 + 2 + len(records), version, int(args["--generation"]) + later]) + b"".join(records)

if mode == "bytes":
    message(os.urandom(4096))
elif mode == "empty":
    message(b"")
elif mode == "huge":
    s.sendall(b"\\1" + struct.pack(">Q", 1 << 40))
elif mode == "truncated":
    s.sendall(b"\\1" + struct.pack(">Q", 1000) + frame(hello_record()))
elif mode == "truncated, gone":
    s.sendall(b"\\1" + struct.pack(">Q", 1000) + frame(hello_record()))
    s.close()
elif mode == "frame version":
    message(frame(hello_record(), version=9))
elif mode == "generation before":
    message(frame(hello_record(), later=-1))
elif mode == "generation after":
    message(frame(hello_record(), later=1))
elif mode == "wrong pid":
    message(frame(hello_record(pid=1)))
elif mode == "wrong version":
    message(frame(hello_record(version="0.0.0")))
elif mode == "wrong device":
    message(frame(hello_record(device="gpu9")))
elif mode == "early":
    message(frame(b"\\x95\\x08\\x00\\x01\\x00\\x00"))
elif mode == "silent":
    message(frame(hello_record()))
elif mode == "hang up":
    message(frame(hello_record()))
    s.close()
elif mode == "then garbage":
    message(frame(hello_record()))
    time.sleep(0.2)
    message(b"\\xc1" * 100)
elif mode == "wrong side":
    message(frame(hello_record(), b"\\x92\\x23\\x01"))
elif mode == "liar":
    def line(event, /, **fields):
        head = b"\\x95\\x18\\x00" + bytes([99]) + text(event) + bytes([0x90 + len(fields)])
        return head + b"".join(b"\\x95" + text(k) + b"\\x00" + text(v) + b"\\x00\\xcb" + bytes(8) for k, v in fields.items())
    message(frame(hello_record(), line("said", seq="7", time="never", event="request_done", level="info", proc="tandemd", pid="1",
                                       device="gpu0", req="odd\\x1b[2J", **{"a key": "x", "Upper": "x", "": "x", "k" * 60: "x"}),
                  line("Not a name", req="y"), line("", req="y")))
    message(frame(*[line("flood", text="x" * 200) for _ in range(12)]))
elif mode == "late list":
    def models(name):
        entry = '{"name":"%%s","model":"%%s","id":"%%s"}' %% (name, name, name)
        return b"\\x95\\x03\\x00\\xc3\\xc3\\x91\\x94" + text(name) + b"\\x00" + text(entry) + text(entry)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    message(frame(hello_record(), models("early:1b")))
    while not os.path.exists(os.path.join(here, "gate")):
        time.sleep(0.02)
    message(frame(models("late:1b"), b"\\x92\\x23\\x01"))
time.sleep(1000)
"""


@pytest.fixture
def impostor(folder, monkeypatch):
    """A folder with tandemd and the impostor; impostor(gpu1="bytes") says who misbehaves from now on."""
    where = os.path.join(folder, "bin")
    os.makedirs(where)
    shutil.copy2(os.path.join(BIN, "tandemd"), where)
    version = subprocess.run([os.path.join(BIN, "tandemd"), "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    with open(os.path.join(ROOT, "proto", "proto.h")) as f:
        proto = re.search(r"#define PROTO_VERSION (\d+)", f.read())[1]
    script(where, "tandem-worker", IMPOSTOR % {"python": sys.executable, "bin": BIN, "version": version, "proto": proto})
    shutil.copy2(FAKE, where)  # the harness looks for all programs in one folder
    monkeypatch.setattr("harness.BIN", where)

    def says(**modes):
        with open(os.path.join(where, "mode.new"), "w") as f:
            f.writelines(f"{device} {mode}\n" for device, mode in modes.items())
        os.rename(os.path.join(where, "mode.new"), os.path.join(where, "mode"))

    says()
    return says


@pytest.fixture
def backends(fake):
    return fake("main", options=("--slots", "8")), fake("small", model=("s:0.5b",))


def two(backends):
    a, b = backends
    return [attached(a, slots=4, num_ctx=16384), {**attached(b, "gpu1", ("condense",), num_ctx=8192), "model": "s:0.5b"}]


WORDS = {
    "bytes": "not", "empty": None, "huge": None, "frame version": "version", "wrong pid": "another process",
    "wrong version": "another version", "wrong device": "another device", "early": "spoke before HELLO", "then garbage": None,
    "wrong side": None, "silent": "heartbeats", "hang up": "heartbeats", "mute": "no HELLO", "no handshake": "no HELLO",
    "truncated": "no HELLO", "truncated, gone": "no HELLO", "generation before": "no HELLO", "generation after": "no HELLO",
}


@pytest.mark.parametrize("mode", WORDS)
def test_a_worker_that_talks_rubbish_ends_alone(impostor, backends, tandem, mode):
    impostor(gpu1=mode)
    t = tandem(two(backends), wait=False, backoff={"first_ms": 50, "max_ms": 100}, deadlines={"hello_ms": 1500, "ping_ms": 500})
    t.wait_ready("gpu0")
    gpu0 = t.device("gpu0")["pid"]

    def gone_twice():
        assert answers(t)
        assert t.device("gpu1")["state"] != "ready"
        return t.device("gpu1")["generation"] >= 3

    wait_for(gone_twice, "the second replacement of the impostor", 30)
    assert t.device("gpu1")["last_exit"] == ("signal 6" if WORDS[mode] == "heartbeats" else "signal 9")
    why = logged(t, "worker_given_up", device="gpu1")
    assert why, t.log()[-3000:]
    if WORDS[mode]:
        assert any(WORDS[mode] in line for line in why), why
    # a good one takes over, and what its neighbour did has not touched the main device
    impostor()
    t.wait_ready()
    assert t.device("gpu0")["pid"] == gpu0
    assert len(children(t.pid)) == 2
    assert answers(t)


def test_what_a_worker_logs_is_told_as_its_own(impostor, backends, tandem):
    """It cannot speak for another process, nor take the name of one of tandemd's events."""
    impostor(gpu1="liar")
    t = tandem(two(backends), wait=False, deadlines={"hello_ms": 60000, "ping_ms": 60000}, limits={"recent_event_bytes": 100000})
    t.wait_ready("gpu0")
    heard = wait_for(lambda: (e := [e for e in t.command("recent")["events"] if e.get("device") == "gpu1" and e["event"].startswith("worker.")]) and
                     e[-1]["event"] == "worker.flood" and e, "its words")
    said = next(e for e in heard if e["event"] == "worker.said")
    pid = t.device("gpu1")["pid"]
    assert set(said) == {"seq", "time", "level", "event", "proc", "pid", "device", "req"}
    assert (said["level"], said["proc"], said["pid"], said["device"], said["req"]) == ("error", "tandem-worker", pid, "gpu1", "odd\x1b[2J")
    assert isinstance(said["seq"], int) and said["time"].startswith("20")
    assert not [e for e in heard if e.get("req") == "y"]
    assert answers(t)


def test_the_list_of_a_worker_that_is_being_stopped_is_not_taken(impostor, backends, tandem, folder):
    """Its successor's is the true one, and may come before."""
    impostor(gpu1="late list")
    t = tandem(two(backends), wait=False, deadlines={"hello_ms": 60000, "ping_ms": 60000})
    t.wait_ready("gpu0")

    def names():
        return [m["name"] for m in json.loads(t.request("GET", "/api/tags")[2])["models"]]

    wait_for(lambda: "early:1b" in names(), "the list of one that is loading")
    t.command("drain gpu1")
    wait_for(lambda: t.device("gpu1")["state"] == "draining", "its end")
    open(os.path.join(folder, "bin", "gate"), "w").close()
    wait_for(lambda: logged(t, "worker_given_up", device="gpu1"), "what it said after its list")
    assert "late:1b" not in names()


def times(t, device, state):
    """When a device's worker came into that state, in ms, from the log's own times."""
    def when(line):
        return datetime.datetime.fromisoformat(line.split()[0].removeprefix("ts=").replace("Z", "+00:00")).timestamp() * 1000

    return [when(line) for line in logged(t, "worker_state", device=device, to=state)]


def delays(t, device):
    """Milliseconds between each death and the next start of a device's worker."""
    return [birth - death for death, birth in zip(times(t, device, "back-off"), times(t, device, "spawning")[1:])]


def test_backoff_doubles_to_its_cap_and_health_resets_it(impostor, backends, tandem):
    impostor(gpu1="exit 3")
    begun = time.monotonic()
    t = tandem(two(backends), wait=False, backoff={"first_ms": 100, "max_ms": 1200})
    wait_for(lambda: len(delays(t, "gpu1")) >= 5, "five restarts")
    d = t.device("gpu1")
    assert d["last_exit"] == "exit 3" and d["restarts"] == d["generation"] - 1 >= 5
    late = 1000 * LATENESS.since(begun)
    # What is late in its turn is logged late, and a timer counts from the turn's beginning: a time in the log may be short of it by that.
    for wanted, got in zip((100, 200, 400, 800, 1200), delays(t, "gpu1")):
        assert wanted - 5 - late <= got < wanted + 300 + late, delays(t, "gpu1")
    impostor()
    t.wait_ready()

    def killed():
        """The delay after killing the worker that is ready now, with what the machine was late, and how long it had been ready."""
        seen, ready, at = len(delays(t, "gpu1")), times(t, "gpu1", "ready")[-1], time.monotonic()
        os.kill(t.device("gpu1")["pid"], signal.SIGKILL)
        wait_for(lambda: len(delays(t, "gpu1")) > seen, "the restart")
        late = 1000 * LATENESS.since(at)
        t.wait_ready()
        return delays(t, "gpu1")[-1] + late, times(t, "gpu1", "back-off")[-1] - ready

    # The cap or the first delay again, 1200 or 100 ms: tandemd itself may be late for some part of the difference.
    delay, life = killed()
    assert delay >= 650 or life > 1150, "a short life changes nothing"
    ready = time.monotonic()
    wait_for(lambda: time.monotonic() - ready > 1.4, "a life longer than the cap")
    delay, _ = killed()
    assert delay < 650 + 1000 * LATENESS.since(ready), "begins anew"
    assert answers(t)


def test_both_workers_killed_again_and_again(backends, tandem):
    t = tandem(two(backends), backoff={"first_ms": 20, "max_ms": 50})
    for i in range(5):
        for d in t.status()["devices"]:
            if d["pid"]:
                os.kill(d["pid"], signal.SIGKILL)
        assert answers(t), i
        t.wait_ready()
    assert [d["restarts"] for d in t.status()["devices"]] == [5, 5]
    assert len(children(t.pid)) == 2
    assert sorted(n for n in os.listdir(t.run_dir) if n.startswith("w")) == []


# --- backends that workers start ---


def test_started_backends_serve_and_go_with_us(tandem):
    t = tandem([started(), started("gpu1", ("condense",))])
    pids = [d["backend"]["pid"] for d in t.status()["devices"]]
    assert all(alive(p) for p in pids)
    d = t.device("gpu0")
    assert d["backend"]["window"] == 4096, "-c is divided among -np slots"
    status, headers, body = t.chat("hi", model="fake")
    assert status == 200 and ndjson(body)[-1]["done"]
    all_of_them = family(t.pid)
    assert t.stop() == 0
    wait_for(lambda: not any(alive(p) for p in all_of_them + pids), "the end of everything started")


def test_a_started_backend_that_is_killed_comes_back(tandem):
    t = tandem([started()], backoff={"first_ms": 50, "max_ms": 100})
    first = t.device("gpu0")["backend"]["pid"]
    os.kill(first, signal.SIGKILL)
    assert answers(t, "fake"), "waits for the new one"
    d = t.device("gpu0")
    assert d["backend"]["pid"] not in (None, first) and alive(d["backend"]["pid"])
    assert d["restarts"] == 1 and d["last_exit"] == "exit 73"


def test_a_url_that_answers_is_taken_else_the_command(fake, tandem, folder):
    a = fake("there", type="llama-server")
    free = f"http://127.0.0.1:{free_port()}"
    t = tandem([started(url=a.url), started("gpu1", ("condense",), url=free)])
    there, not_there = t.device("gpu0")["backend"], t.device("gpu1")["backend"]
    assert there["pid"] is None and there["url"] == a.url
    assert alive(not_there["pid"]) and not_there["url"] != free
    # the attached one is somebody else's: it stays when we go
    assert t.stop() == 0
    assert a.stats() is not None and not alive(not_there["pid"])


BOOT = {
    "exits": ("#!/bin/sh\nfor i in 1 2 3; do echo line $i >&2; done\necho 'error: cannot load the model' >&2\nexit 4\n",
              ["status 4", "line 3", "error: cannot load the model"]),
    "hangs": ("#!/bin/sh\necho loading for ever\nexec sleep 1000\n", ["not ready after 400 ms", "loading for ever"]),
    "not there": (None, ["cannot run /no/such/server", "No such file"]),
}


@pytest.mark.parametrize("how", BOOT)
def test_a_backend_that_does_not_come_up_says_why(fake, tandem, folder, how):
    """In status and in the log, while the other device serves."""
    text, words = BOOT[how]
    command = [script(folder, "server.sh", text) if text else "/no/such/server"]
    a = fake("main")
    t = tandem([attached(a, num_ctx=16384), started("gpu1", ("condense",), command=command)], wait=False,
               deadlines={"worker_boot_ms": 400}, backoff={"first_ms": 300, "max_ms": 300})
    t.wait_ready("gpu0")

    def told():
        detail = t.device("gpu1")["backend"]["detail"] or ""
        return all(w in detail for w in words)

    wait_for(told, f"{words} in status")
    wait_for(lambda: all(any(w in line for line in logged(t, "backend_state", device="gpu1")) for w in words), "words in the log")
    wait_for(lambda: t.device("gpu1")["restarts"] >= 2, "another try")
    assert t.device("gpu1")["last_exit"] == "exit 72"
    assert answers(t)


def test_the_reason_stays_in_status_while_the_next_try_runs(tandem, folder):
    """Whoever asks `tandemctl status` during a long boot should still see why the last one failed."""
    once = script(folder, "server.sh", f"#!/bin/sh\nif mkdir {folder}/once 2>/dev/null; then echo out of VRAM >&2; exit 1; fi\nexec sleep 1000\n")
    t = tandem([started(command=[once])], wait=False, backoff={"first_ms": 20, "max_ms": 50})
    wait_for(lambda: t.device("gpu0")["generation"] == 2 and t.device("gpu0")["state"] == "loading" and
             t.device("gpu0")["backend"]["pid"], "the second try")
    assert t.device("gpu0")["last_exit"] == "exit 72"
    assert logged(t, "backend_state", state="down") and "out of VRAM" in t.log()


def sockets_of(pid):
    return {link for link in fds(pid).values() if link.startswith("socket:")}


def test_children_hold_only_what_they_should(tandem):
    t = tandem([started()], backoff={"first_ms": 20, "max_ms": 50})
    c = t.connect()
    c.request("GET", "/api/version")
    c.getresponse().read()
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)  # a worker born while clients are connected
    wait_for(lambda: t.device("gpu0")["generation"] == 2, "the second worker")
    t.wait_ready()
    answers(t, "fake")
    d = t.device("gpu0")
    ours = sockets_of(t.pid)
    for pid in (d["pid"], d["backend"]["pid"]):
        assert not sockets_of(pid) & ours, "a socket of the supervisor"
        assert t.run_dir not in fds(pid).values()
    assert sorted(inherited(d["backend"]["pid"])) == [0, 1, 2]
    std = {n: os.readlink(f"/proc/{d['pid']}/fd/{n}") for n in (0, 1, 2)}
    assert std[0] == "/dev/null" and std[1] == std[2] == t.log_path
    c.close()


def environment(pid):
    with open(f"/proc/{pid}/environ") as f:
        return dict(x.split("=", 1) for x in f.read().split("\0") if "=" in x)


def test_pins(tandem):
    t = tandem([started(pin="1"), started("gpu1", ("condense",))], env={"CUDA_VISIBLE_DEVICES": "7"})
    env = environment(t.device("gpu0")["backend"]["pid"])
    assert env["CUDA_VISIBLE_DEVICES"] == env["HIP_VISIBLE_DEVICES"] == env["GGML_VK_VISIBLE_DEVICES"] == "1"
    assert env["ONEAPI_DEVICE_SELECTOR"] == "level_zero:1"
    env = environment(t.device("gpu1")["backend"]["pid"])
    assert env["CUDA_VISIBLE_DEVICES"] == "7" and "HIP_VISIBLE_DEVICES" not in env


# --- starting ---


def tandemd(*args, timeout=10):
    return subprocess.run([os.path.join(BIN, "tandemd"), *args], capture_output=True, text=True, timeout=timeout)


def config(folder, name="other.conf", **more):
    path = os.path.join(folder, name)
    whole = {"listen": {"address": "127.0.0.1", "port": 0}, "run_dir": "/tmp/never-used",
             "devices": [{"name": "gpu0", "roles": ["main"], "backend": {"type": "ollama", "url": "http://127.0.0.1:9"}}], **more}
    with open(path, "w") as f:
        for key, value in whole.items():
            f.write(f"{key} = {libconfig(value)};\n")
    return path


def test_a_second_instance_is_refused(backends, tandem, folder):
    t = tandem(two(backends))
    r = tandemd("-c", config(folder), "-R", t.run_dir)
    assert r.returncode == 3
    assert f"another tandemd (pid {t.pid}) already runs with run folder {t.run_dir}" in r.stderr
    # and has not harmed the first
    assert answers(t) and t.status()["pid"] == t.pid
    assert [d["generation"] for d in t.status()["devices"]] == [1, 1]


def test_what_a_killed_instance_left_does_not_matter(backends, tandem, folder):
    t = tandem(two(backends))
    t.popen.kill()
    t.popen.wait()
    assert os.path.exists(os.path.join(t.run_dir, "stats.ipc")), "it had no time to tidy up"
    stale = ("w7f-0-99.ipc", "w7f-0-99.ipc.down", "stats.7f.ipc")
    theirs = ("notes.txt", "my.ipc.backup", "odd.ipc", "w-1.ipc", "stats..ipc")
    for name in stale + theirs:
        with open(os.path.join(t.run_dir, name), "w") as f:
            f.write("x")
    again = Process([os.path.join(BIN, "tandemd"), "-c", t.conf], os.path.join(folder, "again.log"))

    def status():
        assert again.popen.poll() is None, again.log()
        return t.status()  # of whoever listens in that run folder

    wait_for(lambda: status()["pid"] == again.pid and all(d["state"] == "ready" for d in status()["devices"]), "the new instance")
    assert not set(stale) & set(os.listdir(t.run_dir))
    t.port = int(status()["listen"].rsplit(":", 1)[1])
    assert answers(t)
    assert again.stop() == 0
    assert run_files(t.run_dir) == sorted((".tandem", *theirs)), "nothing of ours is left but the mark that it is our folder"
    third = Process([os.path.join(BIN, "tandemd"), "-c", t.conf], os.path.join(folder, "third.log"))
    wait_for(lambda: t.status()["pid"] == third.pid, "one that takes it again")
    for name in theirs:
        os.unlink(os.path.join(t.run_dir, name))
    assert third.stop() == 0 and run_files(t.run_dir) == []


def test_a_port_that_is_taken(backends, tandem, folder):
    t = tandem(two(backends))
    r = tandemd("-c", config(folder, listen={"address": "127.0.0.1", "port": t.port}, run_dir=t.run_dir + "2"))
    assert r.returncode == 1 and f"cannot listen on 127.0.0.1 port {t.port}: Address already in use" in r.stderr
    assert answers(t)


def test_run_folders_that_will_not_do(folder):
    conf = config(folder)
    a_file = os.path.join("/tmp", f"tandem-file-{os.getpid()}")
    with open(a_file, "w") as f:
        f.write("x")
    link = a_file + ".link"
    os.symlink("/tmp", link)
    try:
        for run_dir, words in ((a_file, "not a folder"), (link, "is a symbolic link"), (link + "//", "is a symbolic link"),
                               ("/tmp/" + "x" * 72, "at most 76 bytes"), ("relative", "must be absolute"),
                               (a_file + "/below", "Not a directory"), ("/proc/tandem", "run folder /proc/tandem"),
                               (folder, 'holds "')):
            r = tandemd("-c", conf, "-R", run_dir)
            assert r.returncode == 1 and words in r.stderr, (run_dir, r)
            assert "run folder" in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr
            if not run_dir.startswith("/proc"):  # who may write there is known only by writing
                checked = tandemd("-t", "-c", conf, "-R", run_dir)
                assert checked.returncode == 2 and words in checked.stderr, (run_dir, checked)
    finally:
        os.unlink(link)
        os.unlink(a_file)


def test_a_folder_that_others_use_comes_to_no_harm(folder):
    """A run_dir that names somebody's folder by mistake: neither its mode nor anything in it is changed."""
    with tempfile.TemporaryDirectory(prefix="tandem-theirs-") as theirs:
        for name in ("thesis.ipc.txt", "w1-2-3.ipc", "backend-gpu0.log"):  # two of them could be ours
            with open(os.path.join(theirs, name), "w") as f:
                f.write("x")
        os.chmod(theirs, 0o755)
        before = sorted(os.listdir(theirs))
        for args in ((), ("-t",)):
            r = tandemd(*args, "-c", config(folder, run_dir=theirs))
            assert r.returncode == (2 if args else 1) and 'holds "thesis.ipc.txt", which is not tandem\'s' in r.stderr, r
        assert stat.S_IMODE(os.stat(theirs).st_mode) == 0o755 and sorted(os.listdir(theirs)) == before


def test_the_limit_of_a_run_folder_is_the_one_that_holds(fake, tandem, folder):
    with tempfile.TemporaryDirectory(prefix="tandem-") as holder:
        longest = os.path.join(holder, "r" * (75 - len(holder)))
        assert len(longest) == 76
        r = tandemd("-t", "-c", config(folder, run_dir=longest + "r"))
        assert r.returncode == 2 and "run_dir: must be at most 76 bytes" in r.stderr
        assert tandemd("-t", "-c", config(folder, run_dir=longest)).returncode == 0
        t = tandem([attached(fake("main"))], run_dir=longest)
        assert answers(t)
        assert t.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_run_folder_that_cannot_be_written(folder):
    """Root may write whatever the mode says, but not to what is mounted read-only."""
    with tempfile.TemporaryDirectory(prefix="tandem-") as made:
        for run_dir in (made, os.path.join(made, "below", "run")):
            script = f'mount -t tmpfs -o ro tmpfs {made} && exec {BIN}/tandemd -t -c {config(folder)} -R {run_dir}'
            r = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=20)
            if "unshare" in r.stderr or "mount:" in r.stderr:
                pytest.skip("no mounts here: " + r.stderr)
            assert r.returncode == 2 and "Read-only file system" in r.stderr, r


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_a_run_folder_of_somebody_else(folder):
    where = f"/tmp/tandem-theirs-{os.getpid()}"
    os.mkdir(where)
    os.chown(where, 12345, 12345)
    try:
        r = tandemd("-c", config(folder), "-R", where)
        assert r.returncode == 1 and "not a folder of this user" in r.stderr
    finally:
        os.rmdir(where)


def test_a_run_folder_is_made_private(backends, tandem):
    t = tandem(two(backends))
    assert stat.S_IMODE(os.stat(t.run_dir).st_mode) == 0o700
    pid_file = os.path.join(t.run_dir, "tandemd.pid")
    assert stat.S_IMODE(os.stat(pid_file).st_mode) == 0o600
    with open(pid_file) as f:
        assert int(f.read()) == t.pid


def test_no_worker_beside_tandemd(folder):
    where = os.path.join(folder, "lonely")
    os.mkdir(where)
    shutil.copy2(os.path.join(BIN, "tandemd"), where)
    r = subprocess.run([os.path.join(where, "tandemd"), "-c", config(folder)], capture_output=True, text=True, timeout=10)
    assert r.returncode == 1 and "tandem-worker: No such file" in r.stderr


@pytest.mark.parametrize("limit", [3, 4, 5, 6, 8, 10, 14, 18, 25, 34])
def test_a_start_without_descriptors_says_so(folder, limit):
    r = subprocess.run(["prlimit", f"--nofile={limit}:{limit}", os.path.join(BIN, "tandemd"), "-c", config(folder)], capture_output=True, text=True,
                       timeout=20)
    if limit == 3:  # not even the configuration, or its libraries, can be read
        assert r.returncode != 0 and "open" in r.stderr, r
        return
    assert r.returncode == 1 and len(r.stderr.splitlines()) in (1, 2), r
    asked = "tandemd: Too many open files: of " in r.stderr and f"the limit is {limit}: " in r.stderr
    assert asked or f"tandemd: too few file descriptors: {limit} may be open (ulimit -n), " in r.stderr, r
    assert not os.path.exists("/tmp/never-used")


def test_a_backend_of_another_scheme_is_refused(folder):
    devices = [{"name": "gpu0", "roles": ["main"], "backend": {"type": "ollama", "url": "ftp://10.0.0.7:11434"}}]
    for args in (("-t",), ()):
        r = tandemd(*args, "-c", config(folder, devices=devices))
        assert r.returncode == 2 and "backend.url: must be http://host:port[/path] or https://" in r.stderr, r


def test_checking_a_configuration(folder):
    good = config(folder)
    r = tandemd("-t", "-c", good)
    assert r.returncode == 0 and "configuration is good" in r.stdout
    assert not os.path.exists("/tmp/never-used"), "a check touches nothing"
    r = tandemd("-t", "-c", config(folder, "bad.conf", rooting={"a_max_tokens": 1}))
    assert r.returncode == 2 and "bad.conf:4: rooting: unknown key, did you mean 'routing'?" in r.stderr
    r = tandemd("-t", "-c", os.path.join(folder, "none.conf"))
    assert r.returncode == 2 and "none.conf" in r.stderr and "No such file" in r.stderr
    assert tandemd("-x").returncode == 2 and tandemd("-t", "extra").returncode == 2
    assert tandemd("-V").stdout.startswith("tandemd ")


# --- the stats socket ---


def test_stats_over_nngcat(backends, tandem):
    if not shutil.which("nngcat"):
        pytest.skip("nngcat is not installed")
    t = tandem(two(backends))
    r = subprocess.run(["nngcat", "--req", "--dial", f"ipc://{t.run_dir}/stats.ipc", "--data", "status", "--raw"],
                       capture_output=True, timeout=10)
    s = json.loads(r.stdout)
    assert s["pid"] == t.pid and [d["name"] for d in s["devices"]] == ["gpu0", "gpu1"]


def test_nothing_blocks_the_stats_socket(backends, tandem):
    """Not a peer that leaves in mid-handshake (which nng's own listener does not survive), nor one that stays and says nothing."""
    t = tandem(two(backends))
    path = os.path.join(t.run_dir, "stats.ipc")
    before = fd_count(t.pid)
    hello = b"\0SP\0\0\x30\0\0"
    length = (8).to_bytes(8, "big")
    for text in (b"", hello[:3], hello, b"GET / HTTP/1.1\r\n\r\n", b"\0SP\0\0\x11\0\0", hello + b"\1" + b"\xff" * 8, hello + b"\7" + length,
                 hello + b"\1" + length + b"\0\0\0\1stat", hello + b"\1" + bytes(8), hello + b"\1" + length + b"\x80\0\0"):
        for _ in range(10):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                s.sendall(text)
        assert t.status()["pid"] == t.pid, text
    # one that asks and never reads
    deaf = socket.socket(socket.AF_UNIX)
    deaf.connect(path)
    deaf.setblocking(False)
    ask = b"\1" + (10).to_bytes(8, "big") + b"\x80\0\0\1status"
    try:
        deaf.send(hello)
        while True:
            deaf.send(ask)
    except OSError:
        pass
    silent = []
    for _ in range(63):
        silent.append(socket.socket(socket.AF_UNIX))
        silent[-1].connect(path)
    late = in_thread(t.status)  # has to wait: 64 are there
    silent.pop().close()
    assert late.join()["pid"] == t.pid
    for s in silent + [deaf]:
        s.close()
    wait_for(lambda: fd_count(t.pid) <= before, "descriptors as before")
    assert answers(t)


def test_odd_requests_to_stats(backends, tandem):
    t = tandem(two(backends))
    path = os.path.join(t.run_dir, "stats.ipc")
    for request in ("", "stat", "STATUS", "status now", "\0\0\0", "x" * 4000):
        assert "unknown request" in json.loads(nng_req(path, request))["error"], request
    assert json.loads(nng_req(path, "status\n"))["pid"] == t.pid
    with pytest.raises(OSError):
        nng_req(path, "x" * 5000)  # longer than any request: the connection goes
    assert t.status()["pid"] == t.pid and answers(t)


# --- stopping ---


def open_stream(t, tokens, model="m:1b", more=""):
    """A stream whose first line has come: (connection, response, line)."""
    c = t.connect()
    body = {"model": model, "messages": [{"role": "user", "content": f"[[fake tokens={tokens}{more}]]"}]}
    c.request("POST", "/api/chat", json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    return c, r, r.readline()


HELD = " hang_after=3"  # a stream that its backend goes on with when it is told to: go()


def refused(t):
    try:
        socket.create_connection(("127.0.0.1", t.port), 2).close()
        return False
    except ConnectionRefusedError:
        return True


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_streams_finish(fake, tandem, sig):
    a = fake("main")
    t = tandem([attached(a, slots=2), started("gpu1", ("condense",))])
    everything = family(t.pid)
    c, r, first = open_stream(t, 200, more=HELD)
    idle = t.connect()
    idle.request("GET", "/api/version")
    idle.getresponse().read()
    t.popen.send_signal(sig)
    wait_for(lambda: refused(t), "the closed door")
    assert t.popen.poll() is None
    a.go()
    lines = ndjson(first + r.read())
    assert lines[-1]["done"] is True and lines[-1]["eval_count"] == 200
    assert t.popen.wait(10) == 0
    assert "drain" in t.log() or "stopping" in t.log()
    wait_for(lambda: not any(alive(p) for p in everything), "the end of every child")
    # its output stays for people to read: backends outlive their workers, so it goes to a file
    assert run_files(t.run_dir) == ["backend-gpu1.log", "kv-gpu1"]
    c.close()
    idle.close()


@pytest.mark.measured
def test_a_stop_of_what_is_idle_waits_for_no_deadline(fake, tandem):
    """tandemd and its workers each waited for the other to hang up: a second, every time."""
    a = fake("main")
    took = []
    for _ in range(3):
        t = tandem([attached(a), started("gpu1", ("condense",))])
        assert t.chat("hello")[0] == 200  # they have just spoken
        begun = time.monotonic()
        t.popen.send_signal(signal.SIGTERM)
        assert t.popen.wait(10) == 0
        took.append(spent(begun))
        assert not logged(t, "link_lingers")
    assert min(took) < 0.6, took


def test_a_second_signal_stops_at_once(fake, tandem):
    a = fake("main", options=("--decode", "20"))
    t = tandem([attached(a, slots=2)])
    c, r, first = open_stream(t, 2000)
    t.popen.send_signal(signal.SIGTERM)
    wait_for(lambda: refused(t), "the closed door")
    begun = time.monotonic()
    t.popen.send_signal(signal.SIGTERM)
    with pytest.raises((http.client.HTTPException, OSError, AssertionError)):
        lines = ndjson(r.read())
        assert lines[-1].get("done") is True and "error" not in lines[-1]
    assert t.popen.wait(10) == 0
    assert time.monotonic() - begun < 5
    assert run_files(t.run_dir) == []
    c.close()
    wait_for(lambda: a.stats()["active"] == 0 if "active" in a.stats() else True, "the backend is told")


def test_a_stop_ends_at_its_deadline(fake, tandem):
    a = fake("main", options=("--decode", "20"))
    t = tandem([attached(a, slots=2)], deadlines={"drain_ms": 500})
    c, r, first = open_stream(t, 2000)
    begun = time.monotonic()
    t.popen.send_signal(signal.SIGTERM)
    assert t.popen.wait(10) == 0
    assert 0.45 < time.monotonic() - begun < 6
    c.close()


def test_a_stop_while_a_thread_selects(fake, tandem):
    """The selection of a very long prompt is still under way when its client, the door and the workers are gone."""
    a, b = fake("main"), fake("small", model=("s:0.5b",))
    t = tandem(two((a, b)), limits={"body_bytes": 1 << 28})
    line = "".join(f"line {i} of src/part_{i % 977}.c holds value_{i}; " for i in range(60000))
    messages = [{"role": r, "content": line} for _ in range(12) for r in ("user", "assistant")] + [{"role": "user", "content": "go on"}]
    body = json.dumps({"model": "m:1b", "messages": messages}).encode()
    c = Client(t).send("POST", "/api/chat", body)
    wait_for(lambda: " ev=plan " in t.log(), "the plan")
    t.popen.send_signal(signal.SIGTERM)
    wait_for(lambda: refused(t), "the closed door")
    t.popen.send_signal(signal.SIGTERM)
    assert t.popen.wait(20) == 0, t.log()[-3000:]
    assert 'left="work on a thread"' in t.log()
    assert [f for f in os.listdir(t.run_dir) if not f.startswith("tandem.mdb")] == []
    c.close()


@pytest.mark.parametrize("phase", ["waiting for a device", "condensing", "queued", "half a body"])
def test_a_stop_in_every_phase(fake, tandem, phase):
    """At its deadline a stop ends whatever is under way, cleanly."""
    a, b = fake("main"), fake("small", model=("s:0.5b",))
    devices = two((a, b))
    devices[0]["slots"] = 1
    t = tandem(devices, deadlines={"drain_ms": 300})
    c = t.connect()
    if phase == "waiting for a device":
        a.fault(fault="hang", times=-1)
    elif phase == "condensing":
        b.fault(fault="hang", times=-1)
    elif phase == "queued":
        a.fault(fault="hang", times=-1)
    content = "word " * 3200 if phase == "condensing" else "hi"
    body = json.dumps({"model": "m:1b", "messages": [{"role": "user", "content": content}]}).encode()
    head = (f"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n").encode()
    sockets = []
    for _ in range(3 if phase == "queued" else 1):
        s = socket.create_connection(("127.0.0.1", t.port), 10)
        s.sendall(head + (body[:10] if phase == "half a body" else body))
        sockets.append(s)
    want = 3 if phase == "queued" else 1
    wait_for(lambda: t.status()["requests"]["active"] == want, "the requests")
    if phase == "queued":
        wait_for(lambda: t.status()["queue"]["waiting"] == 2, "the queue")
    t.popen.send_signal(signal.SIGTERM)
    assert t.popen.wait(10) == 0, t.log()[-3000:]
    for s in sockets:
        s.close()
    c.close()


def test_a_stop_before_anything_is_ready(tandem, folder):
    slow = script(folder, "slow.sh", "#!/bin/sh\nexec sleep 1000\n")
    t = tandem([started(command=[slow])], wait=False)
    pid = wait_for(lambda: t.device("gpu0")["backend"]["pid"], "the backend's process")
    assert t.stop(deadline=12) == 0
    wait_for(lambda: not alive(pid), "its end")


def test_a_stop_while_a_worker_waits_for_its_restart(impostor, backends, tandem):
    impostor(gpu1="exit 1")
    t = tandem(two(backends), wait=False, backoff={"first_ms": 20000, "max_ms": 20000})
    t.wait_ready("gpu0")
    wait_for(lambda: t.device("gpu1")["state"] == "back-off", "the back-off")
    begun = time.monotonic()
    assert t.stop() == 0 and time.monotonic() - begun < 6


def test_signals_repeated_and_crossed(fake, tandem):
    """HUP in bursts changes nothing; HUP and USR2 after TERM are refused; what is under way is finished all the same."""
    a = fake("main", options=("--slots", "4"))
    t = tandem([attached(a, slots=4), started("gpu1", ("condense",))])
    pids = [d["pid"] for d in t.status()["devices"]]
    everything = family(t.pid)
    c, r, first = open_stream(t, 300, more=HELD)
    for _ in range(50):
        t.popen.send_signal(signal.SIGHUP)
        assert t.status()["pid"] == t.pid
    wait_for(lambda: logged(t, "reload"), "a reload")
    assert [d["pid"] for d in t.status()["devices"]] == pids and answers(t)
    for sig in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP, signal.SIGUSR2):
        t.popen.send_signal(sig)
        wait_for(lambda s=sig: logged(t, "signal", signal=int(s)), f"signal {sig}")
    wait_for(lambda: logged(t, "reload_refused", why='"tandemd is stopping"'), "the refusal of a reload")
    wait_for(lambda: logged(t, "upgrade_refused"), "the refusal of an upgrade")
    assert t.popen.poll() is None
    a.go()
    lines = ndjson(first + r.read())
    assert lines[-1]["done"] is True and lines[-1]["eval_count"] == 300
    assert t.popen.wait(15) == 0
    wait_for(lambda: not any(alive(p) for p in everything), "the end of every child")
    assert run_files(t.run_dir) == ["backend-gpu1.log", "kv-gpu1"]
    c.close()


def test_term_while_a_reload_changes_a_device(fake, tandem):
    """The replacement boots when TERM comes: both workers end, and the operation does not come about."""
    a = fake("main")
    t = tandem([attached(a, slots=4)])
    c, r, first = open_stream(t, 200, more=HELD)
    a.fault(match="/api/version", headers=3000, times=-1)
    with open(t.conf) as f:
        text = f.read()
    with open(t.conf, "w") as f:
        f.write(text.replace("slots = 4;", "slots = 3;"))
    t.popen.send_signal(signal.SIGHUP)
    wait_for(lambda: len(children(t.pid)) == 2, "the replacement")
    everything = family(t.pid)
    t.popen.send_signal(signal.SIGTERM)
    wait_for(lambda: logged(t, "signal", signal=int(signal.SIGTERM)), "the stop")
    t.popen.send_signal(signal.SIGHUP)
    a.go()
    lines = ndjson(first + r.read())
    assert lines[-1]["done"] is True and lines[-1]["eval_count"] == 200
    assert t.popen.wait(15) == 0
    wait_for(lambda: not any(alive(p) for p in everything), "the end of every child")
    c.close()


def test_a_worker_that_takes_no_term_is_killed(backends, fake, tandem):
    """TERM, its deadline, KILL: for each worker alone. One that is not gone even then (D state) is left behind."""
    third = {**attached(fake("third"), "gpu2", ("condense",)), "model": "m:1b"}
    t = tandem([*two(backends), third], deadlines={"ping_ms": 60000})
    deaf, stuck, other = (t.device(name)["pid"] for name in ("gpu0", "gpu1", "gpu2"))
    os.kill(deaf, signal.SIGSTOP)
    with unreapable(stuck):
        t.popen.send_signal(signal.SIGTERM)
        wait_for(lambda: not alive(other), "the end of the one that hears")
        assert alive(deaf) and t.popen.poll() is None
        assert t.popen.wait(40) == 0 and not alive(deaf)
    assert any("signal 9" in line for line in logged(t, "worker_exit", device="gpu0", worker_pid=deaf))
    assert any("exit=\"exit 0\"" in line for line in logged(t, "worker_exit", device="gpu2", worker_pid=other))
    assert logged(t, "worker_unkillable", device="gpu1", worker_pid=stuck) and not logged(t, "worker_exit", device="gpu1")
    assert run_files(t.run_dir) == []


def test_nothing_outlives_a_killed_supervisor(fake, tandem):
    a = fake("main", options=("--decode", "20"))
    t = tandem([attached(a, slots=2), started("gpu1", ("condense",))])
    everything = family(t.pid) + [t.device("gpu1")["backend"]["pid"]]
    assert len(everything) >= 3
    c, r, first = open_stream(t, 2000)
    t.popen.kill()
    t.popen.wait()
    wait_for(lambda: not any(alive(p) for p in everything), "the end of workers and started backends", 10)
    assert a.stats() is not None
    c.close()
