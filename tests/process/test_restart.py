"""Workers are replaced, drained, given up and reset while clients are served: what a client sees is nothing."""

import json
import os
import signal
import stat
import threading
import time

import pytest

from conftest import attached
from harness import BIN, Control, children, in_thread, ndjson, ollama_text, spent, unreapable, wait_for
from test_routes import prompt

FAKE = os.path.join(BIN, "fake-backend")


def started(name="gpu0", roles=("main",), slots=2, options=(), **more):
    """A device whose backend tandem starts."""
    command = [FAKE, "--type", "llama-server", "-c", "8192", "-np", str(slots), "--decode", "200", "--model", "m:1b", *options]
    return {"name": name, "roles": list(roles), "slots": slots, **more, "backend": {"type": "llama-server", "command": command}}


class Load:
    """Threads that ask again and again, each with a new connection or one that is kept, until stop(); every answer is checked."""

    def __init__(self, t, threads=4, tokens=30, keep=True):
        self.t, self.tokens, self.keep = t, tokens, keep
        self.stopping = threading.Event()
        self.done, self.errors = 0, []
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, i):
        expected = "".join(f"w{k} " for k in range(self.tokens)).strip()
        connection, n = None, 0
        while not self.stopping.is_set():
            n += 1
            try:
                connection = connection or self.t.connect(60)
                body = {"model": "m:1b", "stream": n % 2 == 0,
                        "messages": [{"role": "user", "content": f"{i} {n} [[fake tokens={self.tokens}]]"}]}
                connection.request("POST", "/api/chat", json.dumps(body))
                r = connection.getresponse()
                data = r.read()
                assert r.status == 200, (r.status, data[-300:])
                assert ndjson(data)[-1].get("done") is True, data[-300:]
                assert ollama_text(data).strip() == expected, data[-600:]
                self.done += 1
                if r.will_close or not self.keep:
                    connection.close()
                    connection = None
            except BaseException as e:  # noqa: BLE001 - told by the test
                self.errors.append((i, n, repr(e)))
                return
        if connection:
            connection.close()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(90)
        assert not self.errors, self.errors[:3]
        assert self.done > 0
        return self.done


def two(fake, **groups):
    a = fake("main", options=("--slots", "8", "--decode", "200"))
    b = fake("small", model=("s:0.5b",), options=("--slots", "2"))
    return a, b, [attached(a, slots=8, num_ctx=16384), {**attached(b, "gpu1", ("condense",), slots=2, num_ctx=8192), "model": "s:0.5b"}]


# --- restarts ---


def test_restarts_again_and_again_under_load(fake, tandem):
    a, b, devices = two(fake)
    t = tandem(devices)
    load = Load(t)
    for i in range(6):
        before = t.device("gpu0")["generation"]
        o = t.operate("restart all")
        assert o["state"] == "done", o
        assert t.device("gpu0")["generation"] > before and t.device("gpu0")["state"] == "ready"
    wait_for(lambda: load.done > 50 or load.errors, "answers under the restarts")
    load.stop()
    wait_for(lambda: len(children(t.pid)) == 2, "the old workers' ends")
    assert t.requests()["failed"] == 0


def test_an_old_worker_finishes_its_stream(fake, tandem):
    a, b, devices = two(fake)
    t = tandem(devices)
    old = t.device("gpu0")["pid"]
    c = t.client().send("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "hi [[fake tokens=100]]"}]})
    assert c.head() == 200
    first = c.piece()
    assert t.operate("restart gpu0")["state"] == "done"
    assert t.device("gpu0")["pid"] != old
    assert t.chat("meanwhile")[0] == 200
    data = first + c.rest()
    c.close()
    assert ollama_text(data).split() == [f"w{k}" for k in range(100)]
    assert ndjson(data)[-1]["done"]
    wait_for(lambda: old not in children(t.pid), "the old worker's end")


def test_a_started_backend_is_restarted_in_place(fake, tandem):
    t = tandem([started()])
    pid = t.device("gpu0")["backend"]["pid"]
    load = Load(t, threads=3)
    for i in range(2):
        o = t.operate("restart gpu0 --backend")
        assert o["state"] == "done", o
    load.stop()
    assert t.device("gpu0")["backend"]["pid"] != pid
    assert t.requests()["failed"] == 0


def test_a_replacement_that_fails_leaves_the_old_one(impostor_on_demand, fake, tandem):
    a, b, devices = two(fake)
    t = tandem(devices)
    old = t.device("gpu0")["pid"]
    load = Load(t, threads=2)
    impostor_on_demand("exit 7")
    o = t.operate("restart gpu0")
    assert o["state"] == "failed" and "gpu0" in o["why"] and "exit 7" in o["why"], o
    assert t.device("gpu0")["pid"] == old and t.device("gpu0")["state"] == "ready"
    impostor_on_demand(None)
    assert t.operate("restart gpu0")["state"] == "done"
    assert t.device("gpu0")["pid"] != old
    load.stop()


@pytest.fixture
def impostor_on_demand(folder, monkeypatch):
    """Puts a stand-in for tandem-worker beside a copy of tandemd: it becomes the real one unless told to exit."""
    import shutil

    import harness
    bin_dir = os.path.join(folder, "bin")
    os.makedirs(bin_dir)
    for name in ("tandemd", "tandemctl", "fake-backend"):
        shutil.copy2(os.path.join(BIN, name), bin_dir)
    mode = os.path.join(bin_dir, "mode")
    path = os.path.join(bin_dir, "tandem-worker")
    with open(path, "w") as f:
        f.write(f'#!/bin/sh\n[ -e {mode} ] && exec /bin/sh {mode}\nexec {BIN}/tandem-worker "$@"\n')
    os.chmod(path, stat.S_IRWXU)
    monkeypatch.setattr(harness, "BIN", bin_dir)

    def set_mode(text):
        if text is None:
            os.unlink(mode)
        else:
            with open(mode, "w") as f:
                f.write(text + "\n")

    return set_mode


def test_two_operations_on_one_device_do_not_mix(fake, tandem):
    a, b, devices = two(fake)
    t = tandem(devices)
    a.fault(match="/api/version", headers=300, times=-1)  # the next worker's probe takes a while
    first = t.command("restart gpu0")
    second = t.command("restart gpu0")
    assert "operation" in first and "under way" in second["error"]
    assert t.operation(first["operation"])["state"] == "done"
    assert "no device is called 'gpu9'" in t.command("restart gpu9")["error"]


def test_the_number_of_old_workers_is_bounded(fake, tandem):
    """A client that does not read keeps its worker; restarts go on, and at most four old ones stay."""
    a, b, devices = two(fake)
    t = tandem(devices, deadlines={"drain_ms": 60000})
    stuck = []
    for i in range(7):
        c = t.client(SO_RCVBUF=4096).send("POST", "/api/chat", {"model": "m:1b", "messages": [
            {"role": "user", "content": f"{i} [[fake tokens=100000]]"}]})
        assert c.head() == 200
        c.piece()
        stuck.append(c)
        assert t.operate("restart gpu0")["state"] == "done"
    wait_for(lambda: len(children(t.pid)) <= 2 + 4, "a bounded number of workers")
    for c in stuck:
        c.close(reset=True)
    wait_for(lambda: len(children(t.pid)) == 2, "the old workers' ends")


# --- drain, fail, reset ---


def test_drain_and_reset(fake, tandem):
    a, b, devices = two(fake)
    t = tandem(devices)
    c = t.client().send("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "hi [[fake tokens=60]]"}]})
    assert c.head() == 200
    begun = t.command("drain gpu0")
    status, headers, body = t.chat("no")
    assert status == 503 and headers["Retry-After"], body
    assert ndjson(c.rest())[-1]["done"], "accepted work is finished"
    c.close()
    assert t.operation(begun["operation"])["state"] == "done"
    assert t.device("gpu0")["state"] == "drained" and t.device("gpu0")["pid"] is None
    assert t.operate("reset gpu0")["state"] == "done"
    t.wait_ready("gpu0")
    assert t.chat("yes")[0] == 200


def test_only_what_nobody_ordered_is_counted_as_a_restart(fake, tandem):
    a, b, devices = two(fake)
    t = tandem(devices, backoff={"first_ms": 10, "max_ms": 50})
    assert t.operate("restart gpu0")["state"] == "done"
    assert t.operate("drain gpu0")["state"] == "done" and t.operate("reset gpu0")["state"] == "done"
    t.wait_ready()
    assert t.device("gpu0")["generation"] == 3 and t.device("gpu0")["restarts"] == 0
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    wait_for(lambda: t.device("gpu0")["generation"] == 4, "the next one")
    t.wait_ready()
    assert t.operate("restart gpu0")["state"] == "done"
    assert t.device("gpu0")["restarts"] == 1


def test_a_drain_ends_at_its_deadline(fake, tandem):
    a, b, devices = two(fake)
    t = tandem(devices, deadlines={"drain_ms": 300})
    c = t.client().send("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "hi [[fake hang_after=3]]"}]})
    assert c.head() == 200
    begun = time.monotonic()
    assert t.operate("drain gpu0")["state"] == "done"
    assert time.monotonic() - begun < 10
    c.close()


def test_too_many_deaths_and_a_reset(impostor_on_demand, fake, tandem):
    a, b, devices = two(fake)
    t = tandem(devices, backoff={"first_ms": 10, "max_ms": 20, "max_restarts": 4, "window_ms": 60000})
    impostor_on_demand("exit 3")
    os.kill(t.device("gpu1")["pid"], signal.SIGKILL)
    wait_for(lambda: t.device("gpu1")["state"] == "failed", "a failed gpu1")
    gpu1 = t.device("gpu1")
    assert gpu1["last_exit"] == "exit 3"
    assert gpu1["restarts"] == 4
    status, headers, body = t.chat("short")
    assert status == 200, "the others serve"
    assert t.chat("x " * 6000)[0] == 200, "what wants condensing goes without it"
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    wait_for(lambda: t.device("gpu0")["state"] == "failed", "a failed gpu0")
    begun = time.monotonic()
    status, headers, body = t.chat("no")
    assert status == 503 and headers["Retry-After"] and spent(begun) < 2, body
    impostor_on_demand(None)
    assert t.operate("reset")["state"] == "done"
    t.wait_ready()
    assert t.chat("yes")[0] == 200


def test_a_stopped_worker_is_replaced(fake, tandem):
    """Alive but hung: its heartbeats stop, then ABRT, then KILL; what it had is answered by the next one."""
    a, b, devices = two(fake)
    t = tandem(devices, deadlines={"ping_ms": 200}, backoff={"first_ms": 10, "max_ms": 50})
    old = t.device("gpu0")["pid"]
    a.fault(times=1, fault="hang")
    waiting = in_thread(lambda: t.chat("hi"))
    a.struck()
    os.kill(old, signal.SIGSTOP)
    status, _, body = waiting.join(60)
    assert status == 200, body
    assert t.device("gpu0")["pid"] != old and old not in children(t.pid)
    assert "missed its heartbeats" in t.log()


def test_all_workers_die_at_once(fake, tandem):
    a, b, devices = two(fake)
    t = tandem(devices, backoff={"first_ms": 10, "max_ms": 50})
    for round in range(5):
        t.wait_ready()
        pids = [d["pid"] for d in t.status()["devices"]]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: all(d["state"] == "ready" and d["pid"] not in pids for d in t.status()["devices"]), "new workers")
        with open(f"/proc/{t.pid}/task/{t.pid}/children") as f:
            assert len(f.read().split()) == 2, "no zombies"


# --- operations that meet trouble ---


def catches(pid, sig):
    """Has the process a handler for that signal by now?"""
    with open(f"/proc/{pid}/status") as f:
        caught = next(int(line.split()[1], 16) for line in f if line.startswith("SigCgt:"))
    return caught >> (sig - 1) & 1


def test_an_operation_ends_although_the_backend_is_away(fake, tandem):
    """Else the device would be busy for as long as that lasts: no drain, no other configuration."""
    a, b, devices = two(fake)
    t = tandem(devices, deadlines={"worker_boot_ms": 1000})
    a.stop(signal.SIGKILL)
    wait_for(lambda: t.device("gpu0")["state"] == "loading", "its worker to see it")
    o = t.operate("restart gpu0")
    assert o["state"] == "failed" and "gpu0: " in o["why"] and "not ready" in o["why"], o
    assert t.operate("reload")["state"] == "done"
    again = fake("again", port=a.port, options=("--slots", "8"))
    t.wait_ready("gpu0")
    assert t.chat("hi")[0] == 200 and again.stats()
    assert t.operate("restart gpu0")["state"] == "done"


def test_a_reset_of_a_worker_that_is_being_stopped(impostor_on_demand, folder, fake, tandem):
    """Drained before it had said a word, so told to stop, and wanted again before it has."""
    a, b, devices = two(fake)
    t = tandem(devices, backoff={"first_ms": 10, "max_ms": 20})
    gate = os.path.join(folder, "gate")
    impostor_on_demand(f"trap 'while [ ! -e {gate} ]; do sleep 0.05; done; exit 0' TERM; while :; do sleep 0.05; done")
    os.kill(t.device("gpu1")["pid"], signal.SIGKILL)
    wait_for(lambda: t.device("gpu1")["state"] == "spawning" and t.device("gpu1")["generation"] == 2, "a worker that says nothing")
    pid = t.device("gpu1")["pid"]
    wait_for(lambda: catches(pid, signal.SIGTERM), "its trap")
    drain = t.command("drain gpu1")["operation"]
    assert t.device("gpu1")["state"] == "stopping"
    impostor_on_demand(None)
    reset = t.command("reset gpu1")["operation"]
    open(gate, "w").close()
    assert t.operation(reset)["state"] == "done"
    o = t.operation(drain)
    assert o["state"] == "failed" and "reset" in o["why"], o
    t.wait_ready("gpu1")
    assert t.operate("restart gpu1")["state"] == "done"


def test_told_to_stop_while_a_device_restarts_in_place(tandem):
    """What waits for it is among the requests under way."""
    t = tandem([started(slots=1, options=("--decode", "0"))])  # what has come has come at once: it hangs by then
    backend = Control(t.device("gpu0")["backend"]["url"])
    first = t.client().send("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "a [[fake tokens=90 hang_after=3]]"}]})
    assert first.head() == 200
    assert "operation" in t.command("restart gpu0 --backend")
    second = t.client().send("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "b [[fake tokens=20]]"}]})
    wait_for(lambda: t.device("gpu0")["waiting"] == 1, "the second one in the queue")
    t.popen.send_signal(signal.SIGTERM)
    wait_for(lambda: "ev=signal" in t.log(), "the stop")
    backend.go()
    assert ndjson(first.rest())[-1]["done"]
    assert second.head() == 200 and ndjson(second.rest())[-1]["done"]
    assert t.popen.wait(30) == 0


def test_out_of_use_is_chosen_last(fake, tandem):
    """Two main devices: one drained, the other in back-off. A request waits for the one that comes back."""
    a, b = fake("a"), fake("b")
    t = tandem([attached(a), attached(b, "gpu1")], backoff={"first_ms": 1000, "max_ms": 1000})
    assert t.operate("drain gpu0")["state"] == "done"
    os.kill(t.device("gpu1")["pid"], signal.SIGKILL)
    wait_for(lambda: t.device("gpu1")["state"] != "ready" or t.device("gpu1")["generation"] > 1, "the death")
    status, headers, body = t.chat("hi")
    assert status == 200 and headers["X-Tandem-Device"] == "gpu1", body
    assert t.request("POST", "/api/show", {"model": "m:1b"})[0] == 200


def test_another_role_serves_in_place_of_what_is_out_of_use(fake, tandem):
    a, b = fake("a"), fake("b")
    t = tandem([attached(a), attached(b, "gpu1", ("condense",))])
    assert t.operate("drain gpu0")["state"] == "done"
    status, headers, body = t.chat("hi")
    assert status == 200 and headers["X-Tandem-Device"] == "gpu1", body


def test_a_device_that_is_drained_while_its_prompt_is_made_shorter(fake, tandem):
    """Its notes were waited for; another device that serves the model answers."""
    a, b, c = fake("a"), fake("b", model=("s:0.5b",)), fake("c")
    t = tandem([attached(a, num_ctx=16384), {**attached(b, "gpu1", ("condense",)), "model": "s:0.5b"}, attached(c, "gpu2", num_ctx=16384)])
    b.fault(fault="hang", times=-1)
    answer = in_thread(lambda: t.chat(prompt(3568), stream=True))
    wait_for(lambda: t.device("gpu1")["inflight"] == 1, "notes under way")
    assert t.operate("drain gpu0")["state"] == "done"
    os.kill(t.device("gpu1")["pid"], signal.SIGKILL)
    status, headers, body = answer.join()
    assert (status, headers["X-Tandem-Device"]) == (200, "gpu2") and ndjson(body)[-1]["done"], body
    assert not any(b"lines of text" in body for body in a.bodies())


# --- faults again and again, under load ---


def test_workers_killed_and_stopped_again_and_again_under_load(fake, tandem):
    """Every request is answered whole, inside its deadline, whatever happens to the workers."""
    a, b, devices = two(fake)
    t = tandem(devices, deadlines={"ping_ms": 300}, backoff={"first_ms": 10, "max_ms": 50}, limits={"request_deaths": 100, "resumes": 1000})
    load = Load(t, threads=6, tokens=40)
    for i in range(10):
        before = load.done
        wait_for(lambda: load.done > before and t.device("gpu0")["inflight"] > 0 or load.errors, "work under way")
        victim = t.device("gpu0")
        os.kill(victim["pid"], signal.SIGSTOP if i % 5 == 4 else signal.SIGKILL)
        wait_for(lambda: (d := t.device("gpu0"))["generation"] > victim["generation"] and d["state"] == "ready", "the next worker")
    load.stop()
    assert t.requests()["failed"] == 0
    d = t.device("gpu0")
    assert d["generation"] == 11 and d["restarts"] == 10
    exits = [e["exit"] for e in t.events() if e["ev"] == "worker_exit" and e["proc"] == "tandemd" and e["device"] == "gpu0"]
    assert exits == (["signal 9"] * 4 + ["signal 6"]) * 2, exits
    wait_for(lambda: len(children(t.pid)) == 2, "two workers")


def test_no_work_before_ready(folder, fake, tandem):
    """While a backend loads, requests wait; while a replacement boots, the old worker has all of the work."""
    device, gate = started(options=("--load-ms", "300")), os.path.join(folder, "gate")
    device["backend"]["command"] = ["sh", "-c", f'while [ ! -e {gate} ]; do sleep 0.05; done; exec "$0" "$@"', *device["backend"]["command"]]
    t = tandem([device], wait=False)
    asked = [in_thread(lambda i=i: t.chat(f"{i} [[fake tokens=5]]")) for i in range(4)]
    wait_for(lambda: t.device("gpu0")["waiting"] == 4, "four that wait")
    looks = 0
    while (d := t.device("gpu0"))["state"] != "ready":
        assert d["state"] in ("spawning", "loading") and d["inflight"] == 0 and d["waiting"] == 4, d
        looks += 1
        if looks == 5:
            open(gate, "w").close()
    assert looks >= 5
    for thread in asked:
        status, _, body = thread.join(60)
        assert status == 200 and ollama_text(body).split() == [f"w{k}" for k in range(5)]
    assert not [e for e in t.events() if e["ev"] == "job_failed"]


def test_a_replacement_gets_no_work_before_it_is_ready(fake, tandem):
    a, b, devices = two(fake)
    t = tandem(devices, deadlines={"ping_ms": 200})
    a.fault(match="/api/tags", headers=800, times=1)  # of the replacement: the list of models makes a worker ready
    load = Load(t, threads=3)
    before = load.done
    o = t.command("restart gpu0")["operation"]

    def workers():
        return {w["part"]: w for w in t.command("workers")["workers"] if w["device"] == "gpu0"}

    wait_for(lambda: "next" in workers(), "the replacement")
    seen = 0
    while "next" in (w := workers()):
        assert w["next"]["state"] != "ready" and not w["next"]["active_jobs"] and not w["next"]["bytes_in"], w
        assert w["current"]["state"] == "ready" and w["current"]["generation"] == 1, w
        seen += 1
    assert seen > 1 and load.done > before, "the old one served meanwhile"
    assert t.operation(o)["state"] == "done"
    load.stop()
    assert t.device("gpu0")["generation"] == 2


def test_a_worker_that_cannot_be_reaped_holds_nobody_up(fake, tandem):
    """As in D state: killed, and not gone. Its device gets another worker, and the loop does not wait for it."""
    a, b, devices = two(fake)
    t = tandem(devices, deadlines={"ping_ms": 100}, backoff={"first_ms": 10, "max_ms": 50})
    pid = t.device("gpu1")["pid"]
    with unreapable(pid):
        os.kill(pid, signal.SIGKILL)
        load = Load(t, threads=2)
        wait_for(lambda: "ev=worker_unkillable" in t.log(), "the end of patience")
        t.wait_ready()
        assert t.device("gpu1")["pid"] not in (None, pid)
        with open(f"/proc/{pid}/stat") as f:
            assert f.read().rsplit(")", 1)[1].split()[0] == "Z"
        load.stop()
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the zombie")
    assert t.requests()["failed"] == 0 and len(children(t.pid)) == 2


# --- time-outs ---


def test_each_time_out_has_words_of_its_own(folder, fake, tandem):
    """Not booted, not spoken, not answering: three deadlines, three messages, three ends."""
    a, b, devices = two(fake)
    never = os.path.join(folder, "never.sh")
    with open(never, "w") as f:
        f.write("#!/bin/sh\nexec sleep 1000\n")
    os.chmod(never, stat.S_IRWXU)
    boots = {"name": "gpu2", "roles": ["condense"], "backend": {"type": "llama-server", "command": [never]}}
    t = tandem(devices + [boots], wait=False, deadlines={"worker_boot_ms": 600, "ping_ms": 1000}, backoff={"first_ms": 10, "max_ms": 50})
    t.wait_ready("gpu0", "gpu1")
    os.kill(t.device("gpu0")["pid"], signal.SIGSTOP)

    def told(event, device):
        return [e for e in t.events() if e["proc"] == "tandemd" and e["ev"] == event and e["device"] == device]

    run = wait_for(lambda: told("worker_given_up", "gpu0"), "the silent one")[0]["why"]
    boot = wait_for(lambda: [e for e in told("backend_state", "gpu2") if e["state"] == "down"], "the one that does not boot")[0]["detail"]
    assert "missed its heartbeats" in run and "not ready after 600 ms" in boot
    wait_for(lambda: told("worker_exit", "gpu0") and told("worker_exit", "gpu2"), "their ends")
    assert told("worker_exit", "gpu0")[0]["exit"] == "signal 6" and told("worker_exit", "gpu2")[0]["exit"] == "exit 72"
    assert not told("worker_given_up", "gpu1") and not told("worker_given_up", "gpu2")
    t.wait_ready("gpu0")
