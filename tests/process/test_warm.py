"""Backends outlive their workers, never their tandemd; conversations outlive a restart of their backend."""

import json
import os
import shutil
import signal
import tempfile
import stat
import time

import pytest

import harness
from conftest import SANITIZED
from harness import BIN, alive, children, fds, wait_for

FAKE = os.path.join(BIN, "fake-backend")
FAST = {"first_ms": 10, "max_ms": 100}


def started(name="gpu0", roles=("main",), slots=2, options=(), command=None, **more):
    """A device whose backend its worker starts."""
    command = command or [FAKE, "--type", "llama-server", "-c", "8192", "-np", str(slots), "--model", "m:1b", *options]
    return {"name": name, "roles": list(roles), "slots": slots, **more, "backend": {"type": "llama-server", "command": command}}


def zombies(pid):
    """Children of pid that wait to be reaped."""
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [p for p in f.read().split() if not alive(p)]


def guard_of(pid):
    """The guard in the backend's group."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != pid:
            try:
                with open(f"/proc/{name}/stat") as f:
                    text = f.read()
                if "(tandem-guard)" in text and int(text.rsplit(")", 1)[1].split()[2]) == pid:
                    return int(name)
            except OSError:
                pass
    return None


def state_file(t, name="gpu0"):
    with open(os.path.join(t.run_dir, f"backend-{name}.state")) as f:
        return dict(line.split(" ", 1) for line in f.read().splitlines())


def next_worker(t, old, name="gpu0"):
    return wait_for(lambda: (d := t.device(name))["state"] == "ready" and d["pid"] != old and d, f"another worker of {name}")


def restart_same(t, folder):
    """Another tandemd on the configuration and run folder of one that is gone."""
    p = harness.Process([os.path.join(BIN, "tandemd"), "-c", t.conf], os.path.join(folder, "tandemd.log"))
    t.popen, t.pid, t.log_file = p.popen, p.pid, p.log_file

    def up():
        s = t.alive_status()
        t.port = int(s["listen"].rsplit(":", 1)[1])
        return True

    wait_for(up, "stats socket of the next tandemd")


# --- the worker goes, the backend stays ---


def test_a_killed_worker_leaves_its_backend(tandem):
    t = tandem([started(options=("--load-ms", "300"))], backoff=FAST)
    d = t.device("gpu0")
    backend = d["backend"]
    assert t.chat("one")[0] == 200
    for _ in range(3):
        os.kill(d["pid"], signal.SIGKILL)
        d = next_worker(t, d["pid"])
        assert d["backend"]["pid"] == backend["pid"] and d["backend"]["url"] == backend["url"]
        assert t.chat("again")[0] == 200
    assert len([e for e in t.events() if e["ev"] == "backend_started"]) == 1, "the model was loaded once"
    assert [e for e in t.events() if e["ev"] == "backend_adopted"]
    known = state_file(t)
    assert int(known["pid"]) == backend["pid"] and known["url"] == backend["url"]
    assert stat.S_IMODE(os.stat(os.path.join(t.run_dir, "backend-gpu0.state")).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.join(t.run_dir, "backend-gpu0.log")).st_mode) == 0o600


# A sanitizer reports SIGSEGV as a fault of the program.
@pytest.mark.parametrize("sig", [signal.SIGABRT, signal.SIGSTOP] if SANITIZED else [signal.SIGABRT, signal.SIGSEGV, signal.SIGSTOP])
def test_other_deaths_of_a_worker(tandem, sig):
    t = tandem([started()], backoff=FAST, deadlines={"ping_ms": 200})
    d = t.device("gpu0")
    os.kill(d["pid"], sig)
    assert next_worker(t, d["pid"])["backend"]["pid"] == d["backend"]["pid"]
    assert t.chat("x")[0] == 200


def test_a_backend_may_be_killed_after_it_was_adopted(tandem):
    t = tandem([started()], backoff=FAST)
    d = t.device("gpu0")
    os.kill(d["pid"], signal.SIGKILL)
    d = next_worker(t, d["pid"])
    first, guard = d["backend"]["pid"], guard_of(d["backend"]["pid"])
    assert guard
    os.kill(first, signal.SIGKILL)
    d = wait_for(lambda: (d := t.device("gpu0"))["state"] == "ready" and d["backend"]["pid"] != first and d, "another backend")
    assert alive(d["backend"]["pid"]) and t.chat("x")[0] == 200
    wait_for(lambda: not alive(guard), "the end of the first one's guard")
    assert any("adopted" in e.get("detail", "") and "has ended" in e.get("detail", "") for e in t.events())
    wait_for(lambda: not zombies(t.pid), "no zombies")


def test_restarts_keep_the_backend_or_not(tandem):
    t = tandem([started()])
    first = t.device("gpu0")["backend"]["pid"]
    for _ in range(2):
        assert t.operate("restart gpu0")["state"] == "done"
        assert t.device("gpu0")["backend"]["pid"] == first
    wait_for(lambda: len(children(t.pid)) <= 3, "the old workers' ends")
    assert alive(first) and t.chat("x")[0] == 200
    assert t.operate("restart gpu0 --backend")["state"] == "done"
    second = t.device("gpu0")["backend"]["pid"]
    assert second != first and not alive(first)
    wait_for(lambda: guard_of(first) is None, "the end of its guard")
    assert int(state_file(t)["pid"]) == second


def test_a_drained_device_has_no_backend(tandem):
    t = tandem([started()], backoff={"first_ms": 20000, "max_ms": 20000})
    d = t.device("gpu0")
    os.kill(d["pid"], signal.SIGKILL)
    wait_for(lambda: t.device("gpu0")["state"] == "back-off", "back-off")
    assert alive(d["backend"]["pid"]), "the next worker would use it"
    assert t.operate("drain gpu0")["state"] == "done"
    wait_for(lambda: not alive(d["backend"]["pid"]) and not zombies(t.pid), "the end of the backend")
    wait_for(lambda: not os.path.exists(os.path.join(t.run_dir, "backend-gpu0.state")), "the end of its file")
    assert t.operate("reset gpu0")["state"] == "done"
    t.wait_ready()
    assert t.chat("x")[0] == 200


def test_a_stop_in_back_off_ends_the_backend(tandem):
    t = tandem([started()], backoff={"first_ms": 20000, "max_ms": 20000})
    d = t.device("gpu0")
    os.kill(d["pid"], signal.SIGKILL)
    wait_for(lambda: t.device("gpu0")["state"] == "back-off", "back-off")
    t.popen.send_signal(signal.SIGTERM)
    assert t.popen.wait(15) == 0
    assert not alive(d["backend"]["pid"])


def test_an_unhealthy_backend_is_not_kept(tandem):
    """Adopted, but it does not answer: a fresh one takes its place when the boot deadline passes."""
    t = tandem([started()], backoff=FAST, deadlines={"worker_boot_ms": 1500})
    d = t.device("gpu0")
    os.kill(d["backend"]["pid"], signal.SIGSTOP)
    os.kill(d["pid"], signal.SIGKILL)
    after = wait_for(lambda: (n := t.device("gpu0"))["state"] == "ready" and n["backend"]["pid"] != d["backend"]["pid"] and n, "a fresh backend")
    assert not alive(d["backend"]["pid"]) and after["backend"]["pid"]
    assert [e for e in t.events() if e["ev"] == "backend_replaced"]
    assert t.chat("x")[0] == 200


def test_a_url_that_answers_has_nothing_to_adopt(fake, tandem):
    a = fake("main", type="llama-server")
    device = started()
    device["backend"]["url"] = a.url
    t = tandem([device], backoff=FAST)
    d = t.device("gpu0")
    assert not d["backend"]["pid"]
    os.kill(d["pid"], signal.SIGKILL)
    next_worker(t, d["pid"])
    assert not os.path.exists(os.path.join(t.run_dir, "backend-gpu0.state"))


# --- all at once, and nobody left lying about ---


def test_all_workers_die_at_once(tandem):
    t = tandem([started(), started("gpu1", ("condense",))], backoff=FAST)
    backends = {d["name"]: d["backend"]["pid"] for d in t.status()["devices"]}
    guards = [guard_of(p) for p in backends.values()]
    assert all(guards)
    for _ in range(4):
        pids = [d["pid"] for d in t.status()["devices"]]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: all(d["state"] == "ready" and d["pid"] not in pids for d in t.status()["devices"]), "new workers")
    assert {d["name"]: d["backend"]["pid"] for d in t.status()["devices"]} == backends
    assert all(alive(p) for p in [*backends.values(), *guards])
    wait_for(lambda: not zombies(t.pid), "no zombies")
    assert len(children(t.pid)) == 6, "two workers, two backends, two guards"
    for pid in backends.values():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(d["state"] == "ready" and d["backend"]["pid"] not in backends.values() for d in t.status()["devices"]), "new backends")
    wait_for(lambda: not any(alive(p) for p in guards) and not zombies(t.pid), "no guard of a dead backend, no zombies")


def test_who_holds_which_descriptors(tandem):
    t = tandem([started()])
    d = t.device("gpu0")
    backend, guard = d["backend"]["pid"], guard_of(d["backend"]["pid"])

    def access(pid, n):
        with open(f"/proc/{pid}/fdinfo/{n}") as f:
            return next(int(line.split()[1], 8) for line in f if line.startswith("flags")) & os.O_ACCMODE

    def holders(pipe, mode):
        return [p for p in (t.pid, d["pid"], backend, guard) for n, link in fds(p).items() if link == pipe and access(p, n) == mode]

    inherited = fds(guard)
    assert sorted(inherited) == [0, 1, 2, 3, 4], inherited
    assert [inherited[n] for n in (0, 1, 2)] == ["/dev/null"] * 3 and "pidfd" in inherited[4]
    lifeline = inherited[3]
    assert lifeline.startswith("pipe:")
    assert holders(lifeline, os.O_WRONLY) == [t.pid], "only tandemd keeps it open"
    assert holders(lifeline, os.O_RDONLY) == [t.pid, d["pid"], guard]
    assert fds(d["pid"])[3] == lifeline
    output = os.path.join(t.run_dir, "backend-gpu0.log")
    b = fds(backend)
    assert b[0] == "/dev/null" and b[1] == b[2] == output and lifeline not in b.values()


# --- tandemd goes ---


def test_a_killed_tandemd_leaves_nothing(tandem, folder):
    t = tandem([started()], backoff=FAST)
    d = t.device("gpu0")
    guard = guard_of(d["backend"]["pid"])
    os.kill(d["pid"], signal.SIGKILL)  # the backend is an adopted one
    d = next_worker(t, d["pid"])
    t.popen.kill()
    t.popen.wait()
    wait_for(lambda: not any(alive(p) for p in (d["pid"], d["backend"]["pid"], guard)), "the end of the family", 15)
    restart_same(t, folder)
    t.wait_ready()
    assert t.device("gpu0")["backend"]["pid"] != d["backend"]["pid"] and t.chat("x")[0] == 200


def test_the_next_start_waits_for_a_former_backend(tandem, folder):
    """It takes no TERM, so that it still holds its GPU when the next tandemd starts."""
    script = os.path.join(folder, "stubborn")
    with open(script, "w") as f:
        f.write(f'#!/bin/sh\ntrap "" TERM\n{FAKE} "$@" &\nwhile kill -0 $!; do wait $!; done\n')
    os.chmod(script, 0o755)
    t = tandem([started(command=[script, "--type", "llama-server", "-c", "8192", "-np", "2", "--model", "m:1b"])])
    first = t.device("gpu0")["backend"]["pid"]
    worker = t.device("gpu0")["pid"]
    os.kill(first, signal.SIGSTOP)
    t.popen.kill()
    t.popen.wait()
    assert alive(first)
    restart_same(t, folder)
    assert alive(first) and t.device("gpu0")["pid"] is None, "no worker while the former backend is there"
    assert "former backend" in (t.device("gpu0")["backend"]["detail"] or "")
    t.wait_ready()
    assert not alive(first) and t.device("gpu0")["pid"] != worker
    assert t.chat("x")[0] == 200


def test_a_file_about_somebody_else_is_not_believed(tandem, folder):
    """A pid that is another process by now: neither adopted nor killed."""
    t = tandem([started()])
    t.popen.send_signal(signal.SIGTERM)
    assert t.popen.wait(15) == 0
    with open("/proc/sys/kernel/random/boot_id") as f:
        boot = f.read().strip()
    for start in ("1", "99999999999999999999", "x"):
        path = os.path.join(t.run_dir, "backend-gpu0.state")
        with open(path, "w") as f:
            f.write(f"tandem-backend 1\nboot {boot}\npid {os.getpid()}\nstart {start}\nhash 1\nurl http://127.0.0.1:1\n")
        restart_same(t, folder)
        t.wait_ready()
        assert t.device("gpu0")["backend"]["pid"] != os.getpid()
        t.popen.send_signal(signal.SIGTERM)
        assert t.popen.wait(15) == 0
        assert not os.path.exists(path)


# --- what it prints ---


def chatty(folder, body):
    script = os.path.join(folder, "chatty")
    with open(script, "w") as f:
        f.write(f"#!/bin/sh\n{body}\nexec {FAKE} \"$@\"\n")
    os.chmod(script, 0o755)
    return started(command=[script, "--type", "llama-server", "-c", "8192", "-np", "2", "--model", "m:1b"])


def test_last_words_of_an_adopted_backend(tandem, folder):
    t = tandem([chatty(folder, "echo before the worker died >&2")], backoff=FAST)
    d = t.device("gpu0")
    os.kill(d["pid"], signal.SIGKILL)
    d = next_worker(t, d["pid"])
    with open(f"/proc/{d['backend']['pid']}/fd/2", "a") as f:
        f.write("out of VRAM, alas\n")
    os.kill(d["backend"]["pid"], signal.SIGKILL)
    down = wait_for(lambda: [line for line in t.log().splitlines() if "ev=backend_state" in line and "out of VRAM, alas" in line], "its last words")
    assert "before the worker died" in down[0] and "gpu0" in down[0]
    t.wait_ready()


def test_the_log_has_a_cap(tandem, folder):
    t = tandem([chatty(folder, "i=0; while [ $i -lt 3000 ]; do echo line $i of a chatty backend with much to say; i=$((i+1)); done")],
               limits={"backend_log_bytes": 65536})
    log = os.path.join(t.run_dir, "backend-gpu0.log")
    wait_for(lambda: os.path.getsize(log) <= 65536 and os.path.exists(log + ".1"), "a log below its cap")
    with open(log + ".1") as f:
        kept = f.read()
    assert 0 < len(kept) <= 65536 and " of a chatty backend" in kept
    assert t.chat("x")[0] == 200


# --- conversations ---


def model_file(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def conversation(t, n=800):
    """A first turn; a function that asks the next one and tells how many tokens were not computed again."""
    messages = [{"role": "user", "content": "long " * n}]

    def turn():
        status, _, body = t.request("POST", "/v1/chat/completions", {"model": "m:1b", "messages": messages})
        answer = json.loads(body)
        assert status == 200, answer
        messages.extend([answer["choices"][0]["message"], {"role": "user", "content": "and then?"}])
        return answer["timings"]["cache_n"]

    return turn


def test_conversations_survive_a_restart_of_their_backend(tandem, folder):
    model = model_file(folder, "m.gguf", "weights")
    state = os.path.join(folder, "state")
    t = tandem([started(options=("-m", model))], state_dir=state, routing={"a_max_tokens": 100000, "b_max_tokens": 100000})
    turn = conversation(t)
    assert turn() < 100
    warm = turn()
    assert warm > 900
    first = t.device("gpu0")["backend"]["pid"]
    assert t.operate("restart gpu0 --backend")["state"] == "done"
    assert t.device("gpu0")["backend"]["pid"] != first
    assert turn() > warm, "the whole conversation was there"
    saved, restored = ([e for e in t.events() if e["ev"] == ev] for ev in ("slots_saved", "slots_restored"))
    assert int(saved[0]["tokens"]) > 900 and saved[0]["tokens"] == restored[0]["tokens"]
    assert len(os.listdir(os.path.join(state, "kv-gpu0"))) == 2, "it waits for the next end, crashes included: a slot and the index"
    assert stat.S_IMODE(os.stat(state).st_mode) == 0o700


def test_conversations_survive_a_drain(tandem, folder):
    model = model_file(folder, "m.gguf", "weights")
    t = tandem([started(options=("-m", model))], routing={"a_max_tokens": 100000, "b_max_tokens": 100000})
    turn = conversation(t)
    turn()
    assert t.operate("drain gpu0")["state"] == "done"
    assert len(os.listdir(os.path.join(t.run_dir, "kv-gpu0"))) == 2, "a slot and the index"
    assert t.operate("reset gpu0")["state"] == "done"
    t.wait_ready()
    assert turn() > 900


def test_another_model_gets_no_foreign_conversation(tandem, folder):
    model = model_file(folder, "m.gguf", "weights")
    t = tandem([started(options=("-m", model))], routing={"a_max_tokens": 100000, "b_max_tokens": 100000})
    turn = conversation(t)
    turn()
    assert t.operate("drain gpu0")["state"] == "done"
    model_file(folder, "m.gguf", "other weights")
    assert t.operate("reset gpu0")["state"] == "done"
    t.wait_ready()
    assert turn() < 100
    assert os.listdir(os.path.join(t.run_dir, "kv-gpu0")) == []
    assert [e for e in t.events() if e["ev"] == "slots_of_another_model"]


def test_saving_can_be_switched_off_and_may_fail(tandem, folder):
    model = model_file(folder, "m.gguf", "weights")
    own = os.path.join(folder, "theirs")  # the command's own folder, which is not there
    t = tandem([started(options=("-m", model, "--slot-save-path", own)), started("gpu1", options=("-m", model))],
               routing={"a_max_tokens": 100000, "b_max_tokens": 100000})
    for _ in range(4):
        assert t.chat("x")[0] == 200
    begun = time.monotonic()
    assert t.operate("restart gpu0 --backend")["state"] == "done"
    assert time.monotonic() - begun < 20
    assert t.chat("x")[0] == 200


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_backend_nobody_has_heard_of_is_ended(tandem, folder, monkeypatch, through_a_link):
    """Its worker died between its start and the word of it: here the worker is a stand-in that does just that, once."""
    bin_dir, pid_file, once = (os.path.join(folder, n) for n in ("bin", "stray.pid", "once"))
    os.makedirs(bin_dir)
    for name in ("tandemd", "fake-backend"):
        shutil.copy2(os.path.join(BIN, name), bin_dir)
    with open(os.path.join(bin_dir, "tandem-worker"), "w") as f:
        f.write(f"""#!/bin/sh
[ -e {once} ] && exec {BIN}/tandem-worker "$@"
touch {once}
log=$(dirname "${{2#ipc://}}")/backend-gpu0.log
setsid sh -c 'echo $$ >{pid_file}; exec sleep 1000' >>"$log" 2>&1 &
while [ ! -s {pid_file} ]; do :; done
exit 3
""")
    os.chmod(os.path.join(bin_dir, "tandem-worker"), 0o755)
    monkeypatch.setattr(harness, "BIN", bin_dir)
    with tempfile.TemporaryDirectory(prefix="tandem-") as holder:
        os.symlink(holder, os.path.join(holder, "link"))
        run_dir = {"run_dir": os.path.join(holder, "link", "run")} if through_a_link else {}
        t = tandem([started()], backoff=FAST, **run_dir)
        with open(pid_file) as f:
            stray = int(f.read())
        assert not alive(stray), "ended before the next worker started"
        ended = [e for e in t.events() if e["ev"] == "backend_end"]
        assert [int(e["backend_pid"]) for e in ended] == [stray]
        assert t.chat("x")[0] == 200
        assert t.stop() == 0
