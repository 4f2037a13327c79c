"""Upgrades that die late, and a run folder that people and cleaners do things to."""

import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "process"))

from conftest import attached
from harness import BIN, Tandem, in_thread, ollama_text, wait_for
from test_upgrade import alive, finish, open_stream, slow, upgradable  # noqa: F401 - fixtures


def started(name="gpu0"):
    return {"name": name, "roles": ["main"], "model": "m:1b",
            "backend": {"type": "llama-server", "command": [os.path.join(BIN, "fake-backend"), "--type", "llama-server", "--model", "m:1b"]}}


# --- a successor that dies after it took over ---


# A sanitizer takes a SIGSEGV for a fault of its own.
CRASH = signal.SIGABRT if os.environ.get("TANDEM_SANITIZED") else signal.SIGSEGV


@pytest.mark.parametrize("sig", [signal.SIGKILL, CRASH])
def test_a_successor_that_dies_gives_the_service_back(upgradable, fake, served, sig):
    t = upgradable([attached(fake("main"))])
    old, new = t.upgrade()
    os.kill(new, sig)
    wait_for(lambda: t.current() == old, "the old one in charge again")
    for _ in range(3):
        served(t)
    assert t.pid_file() == old and t.lines("upgrade_state", to="idle", pid=old)
    again, third = t.upgrade()  # and it can be upgraded as ever
    assert again == old and third not in (old, new)
    served(t)
    wait_for(lambda: not alive(old), "end of the old one")
    served(t)


def test_requests_through_a_death_right_after_the_take_over(upgradable, fake, served):
    """Nobody is refused: the socket always has somebody who will accept."""
    t = upgradable([attached(fake("main"))])
    for _ in range(3):
        old, new = t.upgrade()
        asked = in_thread(lambda: served(t))
        os.kill(new, signal.SIGKILL)
        try:
            asked.join()
        except (OSError, EOFError, Exception):  # noqa: BLE001 - the killed one may have had it: what counts is the next one
            pass
        served(t)
        wait_for(lambda: t.current() == old, "the old one in charge again")


def test_streams_of_the_old_one_live_through_it(upgradable, slow):  # noqa: F811
    a, text = slow
    t = upgradable([attached(a, slots=16)])
    c = open_stream(t, 100)
    old, new = t.upgrade()
    os.kill(new, signal.SIGKILL)
    wait_for(lambda: t.current() == old, "the old one in charge again")
    d = open_stream(t, 60)
    a.go()
    assert finish(c) == text(100) and finish(d) == text(60)


def test_a_started_backend_stays_through_it(upgradable, served):
    t = upgradable([started()])
    pid = t.device("gpu0")["backend"]["pid"]
    old, new = t.upgrade()
    os.kill(new, signal.SIGKILL)
    wait_for(lambda: t.current() == old, "the old one in charge again")
    served(t)
    assert t.device("gpu0")["backend"]["pid"] == pid and alive(pid)


def test_a_successor_that_is_told_to_stop_stops_the_service(upgradable, fake):
    t = upgradable([attached(fake("main"))])
    old, new = t.upgrade()
    os.kill(new, signal.SIGTERM)
    wait_for(lambda: not alive(new) and not alive(old), "end of both")


def test_after_the_time_of_grace_the_lock_is_free(upgradable, fake):
    t = upgradable([attached(fake("main"))], deadlines={"upgrade_grace_ms": 100})
    old, new = t.upgrade()
    wait_for(lambda: not alive(old), "end of the old one")
    os.kill(new, signal.SIGKILL)
    wait_for(lambda: not alive(new), "its end")
    r = subprocess.Popen([t.program, "-c", t.conf], stderr=subprocess.DEVNULL)
    t.seen.add(r.pid)
    wait_for(lambda: t.current() == r.pid, "a third one")
    r.terminate()
    assert r.wait(15) == 0


# --- the folder ---


@pytest.fixture
def mine(fake, tandem):
    return tandem([attached(fake("main"), slots=4)], log={"level": "info"})


def second(t):
    return subprocess.run([os.path.join(BIN, "tandemd"), "-c", t.conf], capture_output=True, text=True, timeout=20)


def names(t):
    return sorted(n for n in os.listdir(t.run_dir) if n in ("stats.ipc", "events.ipc", "tandemd.pid"))


def remove(t):
    """Its run folder, in one step: nothing is put back into one that is half removed."""
    gone = t.run_dir + ".gone"
    os.rename(t.run_dir, gone)
    shutil.rmtree(gone)


ALL = ["events.ipc", "stats.ipc", "tandemd.pid"]


@pytest.mark.parametrize("removed", [(), ("tandemd.pid",), ("stats.ipc",), ("tandemd.pid", "stats.ipc", "events.ipc")])
def test_a_second_tandemd_is_refused_and_takes_nothing(mine, removed, served):
    for n in removed:
        os.unlink(os.path.join(mine.run_dir, n))
    r = second(mine)
    assert r.returncode == 3 and "another tandemd" in r.stderr, r.stderr
    wait_for(lambda: names(mine) == ALL, "the names put back")
    assert wait_for(mine.status, "status")["pid"] == mine.pid
    served(mine)


def test_a_deleted_run_folder_is_made_again(mine, served):
    remove(mine)
    wait_for(lambda: os.path.isdir(mine.run_dir) and names(mine) == ALL, "the folder")
    assert os.stat(mine.run_dir).st_mode & 0o777 == 0o700
    assert mine.status()["pid"] == mine.pid
    served(mine)
    os.kill(mine.device("gpu0")["pid"], signal.SIGKILL)
    wait_for(lambda: mine.device("gpu0")["generation"] == 2 and mine.device("gpu0")["state"] == "ready", "another worker")
    served(mine)
    assert second(mine).returncode == 3
    assert sum(e["ev"] == "run_dir_mended" for e in mine.events()) == 1


def test_a_worker_that_dies_while_the_folder_is_gone(mine, served):
    worker = mine.device("gpu0")["pid"]
    remove(mine)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: os.path.isdir(mine.run_dir) and mine.device("gpu0")["state"] == "ready", "another worker")
    served(mine)


@pytest.mark.parametrize("full", [False, True])
def test_a_folder_in_the_place_of_stats_ipc(mine, full, served):
    path = os.path.join(mine.run_dir, "stats.ipc")
    os.unlink(path)
    os.mkdir(path)
    if full:
        open(os.path.join(path, "x"), "w").close()
        wait_for(lambda: any(e["ev"] == "run_dir_lost" for e in mine.events()), "word of it")
        served(mine)
        shutil.rmtree(path)
    wait_for(lambda: not os.path.isdir(path) and mine.status()["pid"] == mine.pid, "the socket")
    served(mine)
    assert sum(e["ev"] == "run_dir_lost" for e in mine.events()) == full


def test_a_link_named_tandemd_pid_is_not_followed(folder, mine):
    victim, run = os.path.join(folder, "victim"), f"/tmp/tandem-l-{os.getpid()}"
    with open(victim, "w") as f:
        f.write("precious")
    os.mkdir(run, 0o700)
    os.symlink(victim, os.path.join(run, "tandemd.pid"))
    try:
        p = subprocess.Popen([os.path.join(BIN, "tandemd"), "-c", mine.conf, "-R", run], stderr=subprocess.PIPE, text=True)
        next(line for line in p.stderr if "ev=listening" in line)
        assert not os.path.islink(os.path.join(run, "tandemd.pid"))
        p.terminate()
        p.communicate(timeout=15)
        assert p.returncode == 0
        with open(victim) as f:
            assert f.read() == "precious"
    finally:
        shutil.rmtree(run)


# --- descriptors ---


def limited(t_conf, n):
    return subprocess.Popen([os.path.join(BIN, "tandemd"), "-c", t_conf], stderr=subprocess.PIPE, text=True,
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n)))


def test_too_few_descriptors_are_said_at_start(mine, folder):
    short = f"/tmp/tandem-fd-{os.getpid()}"
    with open(mine.conf) as f:
        text = f.read().replace(mine.run_dir, short)
    conf = os.path.join(folder, "few.conf")
    with open(conf, "w") as f:
        f.write(text)
    try:
        p = limited(conf, 40)
        _, said = p.communicate(timeout=10)
        assert p.returncode == 1 and "too few file descriptors: 40 may be open" in said and "are needed" in said, said
        p = limited(conf, 128)
        line = next(x for x in p.stderr if "ev=fd_limit" in x)
        assert " limit=128 needed=" in line and "LimitNOFILE" in line
        next(x for x in p.stderr if "ev=listening" in x)
        p.terminate()
        p.communicate(timeout=15)
        assert p.returncode == 0
    finally:
        shutil.rmtree(short, ignore_errors=True)
