"""A new tandemd takes over from the old one under live streams, or the old one goes on as if nothing had been asked."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from conftest import attached
from harness import BIN, Client, Process, Tandem, alive, children, family, fd_count, fds, free_port, libconfig, nng_req, ollama_text, run_files, wait_for

SLOTS = 16
CHECKS = '#!/bin/sh\ncase " $* " in *" -t "*) exec REAL "$@";; esac\n'


class Family(Tandem):
    """A tandemd at a path of its own, where another program can be put, and its successors."""

    def __init__(self, folder, devices, **options):
        self.bin = os.path.join(folder, "bin")
        os.makedirs(self.bin)
        self.program = os.path.join(self.bin, "tandemd")
        for name in ("tandemd", "tandem-worker"):
            shutil.copy(os.path.join(BIN, name), self.bin)
        self.seen = set()
        super().__init__(folder, devices, program=self.program, **options)
        self.seen.add(self.pid)

    def install(self, script=None):
        """Puts a script, or the real program again, where tandemd is upgraded from."""
        new = self.program + ".new"
        if script is None:
            shutil.copy(os.path.join(BIN, "tandemd"), new)
        else:
            with open(new, "w") as f:
                f.write(script.replace("REAL", os.path.join(BIN, "tandemd")))
            os.chmod(new, 0o755)
        os.rename(new, self.program)

    def current(self):
        pid = self.status()["pid"]
        self.seen.add(pid)
        return pid

    def lines(self, event, **fields):
        return [e for e in self.events(ev=event) if all(e.get(k) == str(v) for k, v in fields.items())]

    def ask(self, pid=None):
        """Asks for an upgrade; returns the pid that was asked."""
        old = pid or self.current()
        os.kill(old, signal.SIGUSR2)
        return old

    def upgrade(self):
        old = self.ask()
        wait_for(lambda: self.current() != old, "take-over")
        wait_for(lambda: self.lines("upgrade_done", pid=old), "the old one's word")  # the new one answers a moment before
        return old, self.current()

    def refused(self, event="upgrade_failed"):
        """The words of an upgrade that did not come about. The service is as it was."""
        before, n = self.current(), len(self.lines(event))
        self.ask()
        why = wait_for(lambda: self.lines(event)[n:], event)[0]["why"]
        assert self.current() == before and self.pid_file() == before
        return why

    def ask_stats(self, request):
        return json.loads(nng_req(os.path.join(self.run_dir, "stats.ipc"), request))

    def pid_file(self):
        with open(os.path.join(self.run_dir, "tandemd.pid")) as f:
            return int(f.read())

    def all_pids(self):
        found = re.findall(r" proc=tandemd pid=(\d+) | new_pid=(\d+)", self.log())
        self.seen |= {int(pid) for pair in found for pid in pair if pid not in ("", "0")}
        return [p for pid in self.seen if alive(pid) for p in [pid, *family(pid)]]

    def end(self):
        left = self.all_pids()
        if left:
            try:
                with contextlib.suppress(OSError):  # it may be ending already
                    os.kill(self.current(), signal.SIGTERM)
                wait_for(lambda: not any(alive(p) for p in left), "end of all tandemds")
            finally:
                for pid in left:
                    if alive(pid):
                        os.kill(pid, signal.SIGKILL)
        self.popen.wait(10)
        self.log_file.close()
        left = [n for n in (os.listdir(self.run_dir) if os.path.isdir(self.run_dir) else []) if not re.match(r"backend-\w+\.log|kv-|tandem\.mdb", n)]
        assert left == [], left  # a backend's output, its conversations and what is kept stay
        self.run_holder.cleanup()
        log = self.log()
        assert "runtime error" not in log and "Sanitizer" not in log, log[-8000:]


@pytest.fixture
def upgradable(folder):
    started = []

    def start(devices, **options):
        started.append(Family(folder, devices, **options))
        return started[-1]

    yield start
    for t in started:
        t.end()


@pytest.fixture
def slow(fake):
    """A backend whose streams are held until it is told to go on (open_stream()), and the text of an answer of n tokens."""
    a = fake("main", options=("--slots", str(2 * SLOTS)))
    reference = fake("reference")

    def text(tokens):
        r = reference.call("/api/chat", {"model": "m:1b", "stream": False, "messages": [ask(tokens)]})
        return r["message"]["content"]

    return a, text


def ask(tokens, more=""):
    return {"role": "user", "content": f"[[fake tokens={tokens}{more}]]"}


def open_stream(t, tokens):
    """A stream that has begun. Its backend says no more before go(): whoever has it has it for as long as a test wants."""
    c = Client(t, timeout=60).send("POST", "/api/chat", {"model": "m:1b", "messages": [ask(tokens, " hang_after=3")], "stream": True})
    assert c.head() == 200
    c.first = c.piece()
    assert c.first
    return c


def finish(c):
    return ollama_text(c.first + c.rest())


class Hammer(threading.Thread):
    """Small requests without a pause until told to stop, each on a connection of its own, or on one that is kept."""

    def __init__(self, t, keep):
        super().__init__(daemon=True)
        self.t, self.keep, self.stop, self.done, self.error = t, keep, False, 0, None
        self.start()

    def run(self):
        c = None
        try:
            while not self.stop:
                c = c or self.t.connect()
                c.request("POST", "/api/chat", json.dumps({"model": "m:1b", "stream": False, "messages": [ask(3)]}),
                          {"Content-Type": "application/json"})
                r = c.getresponse()
                body = r.read()
                assert r.status == 200 and json.loads(body)["done"], body
                self.done += 1
                if not self.keep or r.will_close:
                    c.close()
                    c = None
        except BaseException as e:  # noqa: BLE001 - told by result()
            self.error = e

    def result(self):
        self.stop = True
        self.join(30)
        assert not self.is_alive()
        if self.error:
            raise AssertionError(f"after {self.done} requests: {self.error!r}") from self.error
        return self.done


# --- taking over ---


def test_streams_live_through_an_upgrade(upgradable, slow):
    a, text = slow
    t = upgradable([attached(a, slots=SLOTS)])
    streams = [open_stream(t, 120 + i) for i in range(SLOTS)]
    old, new = t.upgrade()
    assert t.pid_file() == new and t.status()["old_pids"] == [old] and t.status()["requests"]["active"] == 0
    assert alive(old) and t.status()["listen"] == t.address
    assert t.chat("[[fake tokens=2]]")[0] == 200  # by the new one, while the old one has its streams
    a.go()
    for i, c in enumerate(streams):
        assert finish(c) == text(120 + i)
    wait_for(lambda: not alive(old) and t.popen.poll() is not None, "end of the old tandemd")
    assert t.popen.returncode == 0
    wait_for(lambda: t.status()["old_pids"] == [], "forgotten old tandemd")
    assert t.pid_file() == new and t.chat("hi")[0] == 200
    assert not t.lines("request_done", error="true")


def test_five_upgrades_under_requests(upgradable, fake):
    t = upgradable([attached(fake("main", options=("--slots", "8")), slots=8)])
    hammers = [Hammer(t, keep) for keep in (False, False, True, True)]
    pids = [t.pid]
    for _ in range(5):
        seen = [h.done for h in hammers]
        old, new = t.upgrade()
        assert old == pids[-1] and new not in pids
        pids.append(new)
        wait_for(lambda: all(h.error or h.done > n + 3 for h, n in zip(hammers, seen)), "requests after the take-over")
        wait_for(lambda: t.status()["old_pids"] == [], "end of the old tandemd")
    for h in hammers:
        assert h.result() > 15
    t.wait_idle()
    assert t.status()["requests"]["failed"] == 0
    wait_for(lambda: not any(alive(p) for p in pids[:-1]), "end of all old tandemds")
    wait_for(lambda: t.status()["connections"] == 0, "closed connections")
    most = fd_count(pids[-1])
    t.upgrade()
    wait_for(lambda: t.status()["old_pids"] == [], "end of the old tandemd")
    wait_for(lambda: fd_count(t.current()) <= most, "as few descriptors: nothing piles up from one to the next")


def test_a_worker_of_the_new_one_gets_no_descriptor_of_the_handover(upgradable, fake):
    t = upgradable([attached(fake("main"))])

    def held(pid):
        return sorted(re.sub(r"\[\d+\]|^/.*/", "", link) for link in fds(pid).values())

    wait_for(lambda: len(children(t.pid)) == 1, "one worker")
    before = held(children(t.pid)[0])
    _, new = t.upgrade()
    wait_for(lambda: t.status()["old_pids"] == [], "end of the old tandemd")
    worker = t.device("gpu0")["pid"]
    wait_for(lambda: held(worker) == before, f"the descriptors {before}")
    with open(f"/proc/{worker}/environ") as f:
        assert "TANDEM_UPGRADE" not in f.read()


def test_a_kept_connection_is_answered_once_more_or_closed_when_idle(upgradable, fake):
    t = upgradable([attached(fake("main"))])
    used, idle = Client(t), Client(t)
    for c in (used, idle):
        c.send("GET", "/api/version").head()
        c.rest()
    old, _ = t.upgrade()
    used.send("POST", "/api/chat", {"model": "m:1b", "messages": [ask(3)], "stream": False})
    assert used.head() == 200 and used.headers["connection"].lower() == "close" and b'"done":true' in used.rest()
    since = time.monotonic()
    with pytest.raises(EOFError):
        idle.more()
    assert time.monotonic() - since < 15  # limits.idle_ms are 120 s
    wait_for(lambda: not alive(old), "end of the old tandemd")


def test_the_program_is_a_link_that_moved(folder, upgradable, fake):
    t = upgradable([attached(fake("main"))])
    place = os.path.join(folder, "version2")
    os.makedirs(place)
    for name in ("tandemd", "tandem-worker"):
        shutil.copy(os.path.join(BIN, name), place)
    os.unlink(t.program)
    os.symlink(os.path.join(place, "tandemd"), t.program)
    _, new = t.upgrade()
    assert os.readlink(f"/proc/{new}/exe") == os.path.join(place, "tandemd")
    worker = wait_for(lambda: t.device("gpu0")["pid"], "worker")
    assert os.readlink(f"/proc/{worker}/exe") == os.path.join(place, "tandem-worker")


def test_tandemctl_tells_the_outcome(upgradable, fake):
    t = upgradable([attached(fake("main"))], deadlines={"worker_boot_ms": 1000, "hello_ms": 500})

    def tandemctl():
        r = subprocess.run([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "upgrade"], capture_output=True, text=True, timeout=60)
        return r.returncode, r.stdout, r.stderr

    rc, out, err = tandemctl()
    assert (rc, out, err) == (0, f"upgrade: done: pid {t.current()} took over\n", "")
    number = t.ask_stats("upgrade")["operation"]  # numbers go on from one tandemd to the next
    assert number == 2
    wait_for(lambda: t.ask_stats(f"operation {number}")["state"] == "done", "second upgrade")
    wait_for(lambda: t.status()["old_pids"] == [], "end of the old tandemds")
    t.install(CHECKS + "exit 7\n")
    rc, out, err = tandemctl()
    assert rc != 0 and out == "" and "upgrade: failed: the new tandemd exited with status 7" in err


def test_another_address_is_taken_and_the_old_one_given_up(upgradable, slow):
    a, text = slow
    port, other = free_port(), free_port()
    t = upgradable([attached(a, slots=SLOTS)], listen={"port": port})
    with open(t.conf) as f:
        good = f.read()
    with open(t.conf, "w") as f:
        f.write(good.replace(str(port), str(other)))
    c = open_stream(t, 120)
    t.upgrade()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    t.port = other
    assert t.status()["listen"] == f"127.0.0.1:{other}" and t.chat("[[fake tokens=2]]")[0] == 200
    a.go()
    assert finish(c) == text(120)


def test_an_address_that_is_taken_is_a_roll_back(upgradable, fake):
    port = free_port()
    t = upgradable([attached(fake("main"))], listen={"port": port})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with open(t.conf) as f:
            good = f.read()
        with open(t.conf, "w") as f:
            f.write(good.replace(str(port), str(taken.getsockname()[1])))
        assert "the new tandemd: cannot listen on 127.0.0.1 port" in t.refused()
    assert t.chat("hi")[0] == 200


# --- rolling back ---

BAD_PROGRAMS = {
    "exits at once": ("#!/bin/sh\nexit 3\n", "the new tandemd exited with status 3"),
    "says why it exits": ("#!/bin/sh\necho no such library >&2\nexit 127\n", "no such library"),
    "dies while it starts": (CHECKS + "exit 7\n", "the new tandemd exited with status 7"),
    "is killed while it starts": (CHECKS + "kill -9 $$\n", "the new tandemd was ended by signal 9"),
    "never speaks": (CHECKS + "exec sleep 1000\n", "the new tandemd was not ready in time"),
    "ignores TERM": (CHECKS + "trap '' TERM\nwhile :; do sleep 1; done\n", "the new tandemd was not ready in time"),
    "cannot use the run folder": (CHECKS + 'exec REAL "$@" -R /tmp\n', "not the one of the tandemd that runs"),
}


@pytest.mark.parametrize("what", BAD_PROGRAMS)
def test_a_bad_program_is_rolled_back(upgradable, slow, what):
    script, words = BAD_PROGRAMS[what]
    a, text = slow
    t = upgradable([attached(a, slots=SLOTS)], deadlines={"worker_boot_ms": 1000, "hello_ms": 500})
    c = open_stream(t, 150)
    hammer = Hammer(t, False)
    own = sorted([t.pid, *family(t.pid)])
    t.install(script)
    assert words in t.refused()
    wait_for(lambda: sorted([t.pid, *family(t.pid)]) == own, "end of what was started")
    a.go()
    assert finish(c) == text(150)
    assert hammer.result() > 0
    t.install()
    t.upgrade()
    assert t.chat("[[fake tokens=2]]")[0] == 200


def test_the_words_of_one_failure_are_not_those_of_an_earlier_one(upgradable, fake):
    t = upgradable([attached(fake("main"))])
    t.install("#!/bin/sh\necho a long story of a library that is not where it should be >&2\nexit 127\n")
    assert t.refused() == "a long story of a library that is not where it should be"
    t.install("#!/bin/sh\necho no such user >&2\nexit 127\n")
    assert t.refused() == "no such user"
    t.install("#!/bin/sh\nexit 127\n")
    assert t.refused() == "the new tandemd exited with status 127"


def test_a_bad_configuration_is_refused_with_its_words(upgradable, fake):
    t = upgradable([attached(fake("main"))])
    with open(t.conf) as f:
        good = f.read()
    with open(t.conf, "w") as f:
        f.write(good + "limits = { queue = -1; };\n")
    line = good.count("\n") + 1
    assert f"{t.conf}:{line}: limits.queue: must be between" in t.refused()
    with open(t.conf, "w") as f:
        f.write(good)
    t.upgrade()


def test_devices_that_do_not_get_ready_are_rolled_back_and_named(upgradable, fake):
    a = fake("main")
    t = upgradable([attached(a)], deadlines={"worker_boot_ms": 1500, "hello_ms": 500})
    with open(t.conf) as f:
        good = f.read()
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        with open(t.conf, "w") as f:
            f.write(good.replace(a.url, f"http://127.0.0.1:{taken.getsockname()[1]}"))
        why = t.refused()
    assert why.startswith("the new tandemd was not ready in time: device gpu0 is loading: "), why
    assert t.chat("hi")[0] == 200


# Speaks the conversation as far as the take-over, takes the names in the run folder, and dies.
HALF = """#!/usr/bin/python3 -ESs
import os, socket, sys, time
if "-t" in sys.argv:
    sys.exit(0)
handed = dict(word.split("=") for word in os.environ["TANDEM_UPGRADE"].split())
talk = socket.socket(fileno=int(handed["talk"]))
talk.sendall(b"ready\\n")
said = talk.recv(100)
assert said == b"take\\n", said
run = os.readlink("/proc/self/fd/" + handed["lock"])
listener = socket.socket(socket.AF_UNIX)
listener.bind(run + "/mine")
os.rename(run + "/mine", run + "/stats.ipc")
with open(run + "/tandemd.pid", "w") as f:
    f.write("1\\n")
%s
"""


@pytest.mark.parametrize("end,words", [("sys.exit(9)", "exited with status 9"),
                                       ("time.sleep(1000)", "did not take over"),
                                       ("talk.sendall(b'failed no memory\\n')", "the new tandemd: no memory")])
def test_a_successor_that_fails_half_way_through_the_take_over(upgradable, fake, end, words):
    t = upgradable([attached(fake("main"))])
    t.install(HALF % end)
    before = t.ask()
    why = wait_for(lambda: t.lines("upgrade_failed"), "roll-back")[0]["why"]
    assert words in why
    wait_for(lambda: t.status()["pid"] == before, "stats socket of the old tandemd")
    assert t.pid_file() == before and t.chat("hi")[0] == 200
    t.install()
    t.upgrade()


# --- crossed ---


def test_a_second_upgrade_is_refused_while_one_runs(upgradable, fake):
    t = upgradable([attached(fake("main"))], deadlines={"worker_boot_ms": 2000, "hello_ms": 500})
    t.install(CHECKS + "exec sleep 1000\n")
    t.ask()
    wait_for(lambda: t.lines("upgrade_state", to="booting"), "upgrade under way")
    t.ask()
    assert wait_for(lambda: t.lines("upgrade_refused"), "refusal")[0]["why"] == "an upgrade is under way"
    wait_for(lambda: t.lines("upgrade_failed"), "roll-back")
    assert len(t.lines("upgrade_state", to="checking")) == 1


@pytest.mark.parametrize("state", ["checking", "booting"])
def test_term_before_the_take_over_ends_both(upgradable, fake, state):
    t = upgradable([attached(fake("main"))])
    t.install("#!/bin/sh\nexec sleep 1000\n" if state == "checking" else CHECKS + "exec sleep 1000\n")
    t.ask()
    line = wait_for(lambda: t.lines("upgrade_state", to=state), state)[0]
    new = int(line["new_pid"])
    assert alive(new)
    os.kill(t.pid, signal.SIGTERM)
    assert t.popen.wait(15) == 0
    assert not alive(new) and run_files(t.run_dir) == []
    assert t.lines("upgrade_failed")[0]["why"] == "tandemd was told to stop"


def test_signals_in_a_burst_make_one_reload_or_one_upgrade_at_a_time(upgradable, slow):
    """HUP and USR2 crossed and repeated: the streams live, each signal is obeyed or refused, and one tandemd is left."""
    backend, text = slow
    t = upgradable([attached(backend, slots=SLOTS)])
    streams = [open_stream(t, 120) for _ in range(4)]
    old = t.current()
    for sig in (signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR2, signal.SIGHUP):
        os.kill(old, sig)
    wait_for(lambda: t.lines("reload") or t.lines("upgrade_done") or t.lines("upgrade_failed"), "what came of them")
    wait_for(lambda: t.lines("reload_refused") or t.lines("upgrade_refused"), "what was refused")
    if not t.lines("upgrade_state"):  # the reload was first: now nothing is in the way
        wait_for(lambda: t.lines("reload"), "the end of the reload")
        t.ask(old)
    wait_for(lambda: t.current() != old, "take-over")
    backend.go()
    for c in streams:
        assert finish(c) == text(120)
        c.close()
    wait_for(lambda: not alive(old), "the end of the old one")
    assert len(t.lines("upgrade_done")) == 1 and not t.lines("upgrade_failed")
    assert t.request("GET", "/api/version")[0] == 200


def test_term_to_the_new_one_before_its_turn_is_a_roll_back(upgradable, fake):
    a = fake("main")
    t = upgradable([attached(a)])
    a.fault(match="/api/tags", times=-1, fault="hang")  # the new worker cannot get ready
    t.ask()
    new = int(wait_for(lambda: t.lines("upgrade_state", to="booting"), "new tandemd")[0]["new_pid"])
    wait_for(lambda: t.lines("worker_state", pid=new), "its worker")
    os.kill(new, signal.SIGTERM)
    why = wait_for(lambda: t.lines("upgrade_failed"), "roll-back")[0]["why"]
    assert why == "the new tandemd: it was told to stop"
    wait_for(lambda: not alive(new), "end of the new tandemd")
    assert t.current() == t.pid and t.chat("hi")[0] == 200


def test_the_old_one_killed_before_the_take_over_takes_the_new_one_along(upgradable, fake):
    a = fake("main")
    t = upgradable([attached(a)])
    a.fault(match="/api/tags", times=-1, fault="hang")
    t.ask()
    new = int(wait_for(lambda: t.lines("upgrade_state", to="booting"), "new tandemd")[0]["new_pid"])
    wait_for(lambda: t.lines("worker_state", pid=new), "its worker")
    os.kill(t.pid, signal.SIGKILL)
    wait_for(lambda: not alive(new), "end of the new tandemd")
    t.popen.wait(10)
    for name in os.listdir(t.run_dir):  # of the one that was killed
        os.unlink(os.path.join(t.run_dir, name))


def test_a_take_over_called_off_at_its_last_moment_ends_without_a_kill(folder, fake):
    """The test is the old one: it says stop when it has heard taken, and waits for the end of the new one, which must not wait for its."""
    conf, log = os.path.join(folder, "t.conf"), os.path.join(folder, "log")
    with tempfile.TemporaryDirectory(prefix="tandem-") as holder:
        run = os.path.join(holder, "run")
        os.makedirs(run, 0o700)
        device = {**attached(fake("main")), "slots": 2}
        with open(conf, "w") as f:
            f.write(f'listen = {{ address = "127.0.0.1"; port = 0; }}; run_dir = "{run}"; devices = ({libconfig(device)});')
        ours, theirs = socket.socketpair()
        listener = socket.create_server(("127.0.0.1", 0))
        with ours, theirs, listener:
            lock, me = os.open(run, os.O_RDONLY | os.O_DIRECTORY), os.pidfd_open(os.getpid())
            fcntl.flock(lock, fcntl.LOCK_EX)
            fds = {"talk": theirs.fileno(), "listen": listener.fileno(), "lock": lock}
            handed = " ".join(f"{k}={v}" for k, v in fds.items()) + f" given=1 operation=1 old={os.getpid()}:{me} wait=gpu0"
            with open(log, "ab") as out:
                new = subprocess.Popen([os.path.join(BIN, "tandemd"), "-c", conf], stdout=out, stderr=out, pass_fds=[*fds.values(), me],
                                       env={**os.environ, "TANDEM_UPGRADE": handed})
            theirs.close()  # its end is the end of what is read
            try:
                words = ours.makefile("rw")
                assert wait_for(lambda: (line := words.readline()) == "ready\n" and line, "ready")
                begun = time.monotonic()
                words.write("take\n")
                words.flush()
                assert words.readline() == "taken\n"
                words.write("stop\n")
                words.flush()
                assert new.wait(15) == 0
                assert time.monotonic() - begun < 4  # the old one kills it after 5 s
            finally:
                if new.poll() is None:
                    new.kill()
                    new.wait()
                os.close(me)
                os.close(lock)


def test_term_to_the_old_one_after_the_take_over_hurries_only_that_one(upgradable, slow):
    a, _ = slow
    t = upgradable([attached(a, slots=SLOTS)], deadlines={"drain_ms": 300})
    c = open_stream(t, 600)
    old, new = t.upgrade()
    os.kill(old, signal.SIGTERM)
    wait_for(lambda: not alive(old), "end of the old tandemd")
    assert "error" in (c.first + c.rest()).decode().splitlines()[-1]
    assert t.current() == new and t.chat("[[fake tokens=2]]")[0] == 200


def test_term_to_the_new_one_stops_the_whole_service(upgradable, slow):
    a, text = slow
    t = upgradable([attached(a, slots=SLOTS)])
    c = open_stream(t, 90)
    old, new = t.upgrade()
    os.kill(new, signal.SIGTERM)
    wait_for(lambda: t.lines("signal", pid=new), "its stop")
    a.go()
    assert finish(c) == text(90)  # within drain_ms
    wait_for(lambda: not alive(old) and not alive(new), "end of both")
    assert run_files(t.run_dir) == []
    with pytest.raises(OSError):
        t.connect().connect()


def test_a_successor_that_is_killed_leaves_the_streams_of_the_old_one(upgradable, slow):
    """Behind the time of grace, in which the old one would take the service back (tests/attack/test_run_folder.py)."""
    a, text = slow
    t = upgradable([attached(a, slots=SLOTS)], deadlines={"upgrade_grace_ms": 0})
    c = open_stream(t, 120)
    old, new = t.upgrade()
    os.kill(new, signal.SIGKILL)
    wait_for(lambda: not alive(new), "death of the new tandemd")
    third = Tandem.__new__(Tandem)  # a start from nothing is not in the way of the old one's streams, nor it of the start
    Process.__init__(third, [t.program, "-c", t.conf], os.path.join(t.folder, "third.log"))
    third.folder, third.run_dir = t.folder, t.run_dir
    t.seen.add(third.pid)
    status = wait_for(lambda: third.alive_status(), "third tandemd")
    assert status["pid"] == third.pid and alive(old)
    a.go()
    assert finish(c) == text(120)
    wait_for(lambda: not alive(old), "end of the old tandemd")
    assert third.status()["pid"] == third.pid and t.pid_file() == third.pid
    assert Process.stop(third) == 0


def test_old_tandemds_are_bounded(upgradable, slow):
    a, _ = slow
    t = upgradable([attached(a, slots=SLOTS)], limits={"old_processes": 2})
    stuck = []
    for _ in range(2):
        stuck.append(open_stream(t, 3000))  # and nobody reads on
        t.upgrade()
    olds = t.status()["old_pids"]
    assert len(olds) == 2 and all(alive(p) for p in olds)
    why = t.refused("upgrade_refused")
    assert why == "2 older tandemds still finish their streams (limits.old_processes)"
    stuck[0].close(reset=True)
    wait_for(lambda: len(t.status()["old_pids"]) == 1, "end of the first old tandemd")
    t.upgrade()
    stuck[1].close(reset=True)
    wait_for(lambda: t.status()["old_pids"] == [], "end of all old tandemds")


def test_an_environment_that_no_tandemd_made_is_refused(folder, fake):
    conf = os.path.join(folder, "t.conf")
    with open(conf, "w") as f:
        f.write(f'run_dir = "/tmp/never-used"; devices = ({{ name = "a"; roles = ["main"]; '
                'backend = { type = "ollama"; url = "http://127.0.0.1:1"; }; });')
    for value in ("", "talk=3", "talk=3 listen=99 lock=4", "old=1 talk=x", "talk=3 " * 400, "operation=99999999999999999999"):
        p = Process([os.path.join(BIN, "tandemd"), "-c", conf], os.path.join(folder, "log"), env={"TANDEM_UPGRADE": value})
        assert p.popen.wait(10) == 1
        assert "TANDEM_UPGRADE: not what a tandemd hands over" in p.log()
        p.log_file.close()


def test_a_started_backend_goes_from_one_to_the_next(upgradable):
    """The model is loaded once: the successor's workers adopt the backend, a roll-back leaves it, and the last one ends it."""
    command = [os.path.join(BIN, "fake-backend"), "--type", "llama-server", "--model", "m:1b", "-c", "8192", "-np", "2"]
    t = upgradable([{"name": "gpu0", "roles": ["main"], "slots": 2, "backend": {"type": "llama-server", "command": command}}])

    def backend():
        return wait_for(lambda: t.device("gpu0")["backend"]["pid"], "a backend")

    first = backend()
    for _ in range(2):
        old, _new = t.upgrade()
        wait_for(lambda: not alive(old), "the end of the old tandemd")
        t.wait_ready()
        assert backend() == first and alive(first)
        assert t.chat("hi")[0] == 200
    t.install('#!/bin/sh\nfor a in "$@"; do [ "$a" = -t ] && exec REAL "$@"; done\nexit 7\n')
    assert t.refused()
    assert backend() == first and alive(first) and t.chat("hi")[0] == 200
    os.kill(t.current(), signal.SIGTERM)
    wait_for(lambda: not alive(first), "the backend's end")


def workers_of(pid):
    """Its children that are workers: the new tandemd is one, too."""
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError), open(f"/proc/{child}/comm") as f:
            if f.read().strip() == "tandem-worker":
                found.append(child)
    return found


def test_a_kept_stream_outlives_its_worker_under_the_old_one(upgradable, fake):
    """The new one has the service; the old one's last stream thinks and calls a tool, and its worker dies: its next one reads on."""
    a = fake("kept", type="llama-server", options=("--slots", "2"))
    t = upgradable([attached(a, slots=2)], backoff={"first_ms": 20, "max_ms": 50})
    body = {"model": "m:1b", "stream": True, "messages": [{"role": "user", "content": "[[fake thinking=9&text=see&tool=f&args=%7B%22x%22%3A1234567%7D]]"}]}
    settled = lambda data: re.sub(rb'cmpl-\d+|"created":\d+|call_[0-9a-f]+', b"", data)  # noqa: E731
    c = t.client().send("POST", "/v1/chat/completions", body)
    assert c.head() == 200
    wanted = settled(c.rest())
    a.reset()
    a.fault(times=1, hang_after=5)
    c = t.client().send("POST", "/v1/chat/completions", body)
    assert c.head() == 200
    got = b""
    while b"t4" not in got:
        got += c.piece()
    old, new = t.upgrade()
    workers = workers_of(old)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: set(workers_of(old)) - set(workers), "another worker of the old one")
    wait_for(lambda: [r for r in a.stats()["under_way"] if r["path"].startswith("/v1/stream")], "it to read on")
    a.go()
    got += c.rest()
    assert settled(got) == wanted and t.lines("resumed", how="replayed", pid=old)
    assert t.pid_file() == new and t.chat("hi")[0] == 200
