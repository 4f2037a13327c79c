"""Faults that no signal makes: a wall clock that jumps, and a worker that answers its heartbeats while its jobs stand still."""

import json
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import time

import pytest

from conftest import SANITIZED, attached
from harness import BIN, DEADLINE, ROOT, in_thread, libconfig, ndjson, nng_req, ollama_text, wait_for
from test_restart import Load

pytestmark = pytest.mark.skipif(bool(SANITIZED), reason="a sanitizer's own library has to be the first")


@pytest.fixture(scope="session")
def shims(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("shims") / "shims.so")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", path, os.path.join(ROOT, "tests", "process", "shims.c"),
                    "-ldl"], check=True)
    return path


# --- the wall clock ---


class WallClock:
    def __init__(self, folder, shims):
        self.path = os.path.join(folder, "clock")
        self.set(0)
        self.env = {"LD_PRELOAD": shims, "SHIM_CLOCK": self.path}

    def set(self, seconds):
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb") as f:  # in place: it is mapped
            f.write(struct.pack("=q", seconds))


def heartbeats(t):
    return t.command("counters")["devices"][0]["heartbeats"]


HOUR = 3600
JUMPS = (HOUR, -24 * HOUR, 365 * 24 * HOUR, -40 * 365 * 24 * HOUR, 0)


def test_jumps_of_the_clock_change_nothing(folder, fake, tandem, shims):
    """Hours and years, forward and back, under load: nothing times out, nothing waits longer, nobody is given up."""
    clock = WallClock(folder, shims)
    a = fake("main", options=("--slots", "8", "--decode", "200"))
    t = tandem([attached(a, slots=8, num_ctx=16384)], env=clock.env, deadlines={"ping_ms": 250, "drain_ms": 3000}, backoff={"first_ms": 200, "max_ms": 400})
    load = Load(t, threads=3)
    for i, jump in enumerate(JUMPS):
        before, beats = load.done, heartbeats(t)
        clock.set(jump)
        wait_for(lambda: heartbeats(t) >= beats + 5, "heartbeats after the jump")
        wait_for(lambda: load.done >= before + 6 or load.errors, "answers after the jump")
        assert t.operate("restart gpu0")["state"] == "done"
        assert t.operate("reload")["state"] == "done"
    generation = t.device("gpu0")["generation"]
    assert generation - 1 == len(JUMPS) and t.device("gpu0")["restarts"] == 0, "no worker but those that were asked for"
    # a back-off and its end on both sides of a jump
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    wait_for(lambda: (d := t.device("gpu0"))["state"] == "back-off" or d["generation"] > generation, "the back-off")
    clock.set(-10 * HOUR)
    t.wait_ready()
    load.stop()
    s = t.status()
    assert s["requests"]["failed"] == 0 and 0 <= s["uptime_s"] < 3600
    # that it has really jumped is to be seen from the log, the one that shows the time of day
    years = {line[3:7] for line in t.log().splitlines() if line.startswith("ts=")}
    assert len(years) >= 3, years
    # the drain deadline, too
    c = t.client().send("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "hi [[fake hang_after=3]]"}]})
    assert c.head() == 200
    begun = time.monotonic()
    t.popen.send_signal(signal.SIGTERM)
    wait_for(lambda: "ev=signal" in t.log(), "the stop")
    clock.set(-HOUR)
    assert t.popen.wait(30) == 0 and time.monotonic() - begun >= 2.9
    c.close()


# Where the time of day may be asked for: it is shown to people and clients, never compared with anything; but for the age, in
# days, of what is kept over restarts, where a step of the clock costs one cold prompt at most.
SHOWN = {"common/base/log.c", "common/dialect/write_ollama.c", "common/dialect/write_openai.c", "common/dialect/write_responses.c",
         "common/dialect/write_responses_compact.c",
         "workers/backend/ollama.c",  # how long a model is kept, of Ollama's date: the doctor says it
         "supervisor/ctl/bench.c",  # a seed, where there is no randomness
         "supervisor/ctl/doctor.c",  # when it has looked, for people
         "workers/backend/as_ollama.c", "workers/settings.c",
         "supervisor/devices/keep_decisions.c", "workers/backend/slots.c", "workers/backend/slots_idle.c", "workers/backend/slots_step.c",
         "supervisor/requests/request.c",  # when a request began, for people and for spans
         "workers/http/http_answer.c"}  # a Retry-After that is a date
WALL = re.compile(r"\b(CLOCK_REALTIME\w*|gettimeofday|time\(NULL\)|time\(&|timespec_get|uv_gettimeofday|UV_CLOCK_REALTIME|ftime|TFD_TIMER_CANCEL)")


def test_the_time_of_day_is_only_shown():
    found = set()
    for top in ("common", "proto", "supervisor", "workers"):
        for where, _, names in os.walk(os.path.join(ROOT, top)):
            for name in names:
                path = os.path.join(where, name)
                if name.endswith((".c", ".h")):
                    with open(path) as f:
                        if WALL.search(f.read()):
                            found.add(os.path.relpath(path, ROOT))
    assert found == SHOWN


# --- memory ---


def test_a_reload_without_memory_for_a_device_says_so(fake, tandem, folder, shims):
    a, b = fake("main"), fake("other", model=("other:1b",))
    empty = os.path.join(folder, "empty")
    devices = [attached(a), {**attached(b, "gpu1"), "model": "other:1b"}]
    t = tandem(devices[:1], env={"LD_PRELOAD": shims, "SHIM_CALLOC": empty})
    with open(t.conf) as f:
        text = f.read()
    with open(t.conf, "w") as f:
        f.write(text.replace(f"devices = {libconfig(devices[:1])}", f"devices = {libconfig(devices)}"))
    open(empty, "w").close()
    t.popen.send_signal(signal.SIGHUP)
    o, = wait_for(lambda: [e for e in t.events(ev="operation") if e["state"] in ("done", "failed")], "its end")
    assert o["state"] == "failed" and "out of memory: device gpu1 is not added" in o["why"], o
    os.unlink(empty)
    assert t.chat("hi")[0] == 200 and len(t.status()["devices"]) == 1
    assert t.operate("reload")["state"] == "done"
    t.wait_ready("gpu1")
    assert t.chat("hi", model="other:1b")[1]["X-Tandem-Device"] == "gpu1"


def test_the_stats_socket_outlives_a_want_of_memory(fake, tandem, folder, shims):
    """Who connects while there is none is answered when there is some again, though no other peer leaves meanwhile."""
    empty = os.path.join(folder, "empty")
    t = tandem([attached(fake("main"))], env={"LD_PRELOAD": shims, "SHIM_CALLOC": empty})
    open(empty, "w").close()
    with pytest.raises(TimeoutError):
        nng_req(os.path.join(t.run_dir, "stats.ipc"), "status", timeout=1)  # nobody is let in
    os.unlink(empty)
    assert json.loads(nng_req(os.path.join(t.run_dir, "stats.ipc"), "status", timeout=DEADLINE))["pid"] == t.pid


# --- heartbeats and progress ---


@pytest.fixture
def stuck(folder, monkeypatch, shims):
    """The first worker of each device has timers that stand still while the returned file exists."""
    where, path = os.path.join(folder, "bin"), os.path.join(folder, "stuck")
    os.makedirs(where)
    for name in ("tandemd", "fake-backend"):
        shutil.copy2(os.path.join(BIN, name), where)
    wrapper = os.path.join(where, "tandem-worker")
    with open(wrapper, "w") as f:
        f.write(f'#!/bin/sh\ncase " $* " in *" --generation 1 "*) export LD_PRELOAD={shims} SHIM_TIMERS={path};; esac\n'
                f'exec {BIN}/tandem-worker "$@"\n')
    os.chmod(wrapper, stat.S_IRWXU)
    monkeypatch.setattr("harness.BIN", where)
    return path


# Three pings must fit what a busy machine lets a worker wait for its turn.
STALL = {"ping_ms": 150, "backend_idle_ms": 300}
STALL_PINGS = 24  # a standstill has been noticed long before: after 300 ms and 15 pings


def test_a_worker_whose_jobs_stand_still_is_replaced(stuck, fake, tandem):
    """Its loop answers every ping, but nothing ends what hangs: the count of progress tells."""
    a = fake("main", options=("--slots", "8"))
    t = tandem([attached(a, slots=4)], deadlines=STALL, backoff={"first_ms": 10, "max_ms": 50})
    beats = heartbeats(t)
    open(stuck, "w").close()
    wait_for(lambda: heartbeats(t) >= beats + STALL_PINGS, "heartbeats")
    assert t.device("gpu0")["generation"] == 1, "idle is no standstill"
    a.fault(times=1, hang_after=3)
    streamed = in_thread(lambda: t.chat("[[fake tokens=40]]", stream=True))
    status, _, body = streamed.join(60)
    assert status == 200 and ollama_text(body).split() == [f"w{i}" for i in range(40)] and ndjson(body)[-1]["done"]
    d = t.device("gpu0")
    assert d["generation"] == 2 and d["last_exit"] == "signal 6", d
    assert [e["why"] for e in t.events() if e["ev"] == "worker_given_up"] == ["stalled: its jobs make no progress"]
    assert not [e for e in t.events() if e["ev"] == "worker_given_up" and "heartbeats" in e["why"]]


def test_waits_that_have_no_limit_are_no_standstill(fake, tandem):
    """A prompt that takes long to read, and a client that does not read, leave the worker in place for longer than a stall."""
    a = fake("main", options=("--slots", "8", "--num-ctx", "1000000"))
    t = tandem([attached(a, slots=4, num_ctx=1000000)], deadlines=STALL, limits={"stream_bytes": 65536})
    a.fault(times=1, fault="hang")
    waiting = t.client().send("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "hi"}]})
    a.struck()
    beats = heartbeats(t)
    wait_for(lambda: heartbeats(t) >= beats + STALL_PINGS, "heartbeats while the prompt is read")
    assert t.device("gpu0")["generation"] == 1 and t.device("gpu0")["inflight"] == 1, t.log()[-2000:]
    waiting.close()
    wait_for(lambda: t.device("gpu0")["inflight"] == 0, "its end")

    deaf = t.client(SO_RCVBUF=4096).send("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "[[fake tokens=80000]]"}]})
    assert deaf.head() == 200

    def still():
        """Its worker has come to a standstill, by its own count, for longer than the limit."""
        seen = t.command("workers")["workers"][0]["bytes_out"]
        n = heartbeats(t)
        wait_for(lambda: heartbeats(t) >= n + 3, "heartbeats")
        return t.command("workers")["workers"][0]["bytes_out"] == seen

    wait_for(still, "the standstill")
    beats = heartbeats(t)
    wait_for(lambda: heartbeats(t) >= beats + STALL_PINGS, "heartbeats while nobody reads")
    assert t.device("gpu0")["generation"] == 1 and t.device("gpu0")["inflight"] == 1, t.log()[-2000:]
    body = deaf.rest()
    assert ndjson(body)[-1]["eval_count"] == 80000
    deaf.close()
    assert not [e for e in t.events() if e["ev"] == "worker_given_up"]
