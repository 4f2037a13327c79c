"""tandemctl logs: what is kept of events, one request's lines of all processes, and those that come."""

import json
import os
import pty
import re
import select
import subprocess
import threading

import pytest

from conftest import attached
from harness import BIN, DEADLINE, in_thread, wait_for
from test_control import FAILED, NOT_RUNNING, OK, USAGE, ask, ctl

# Names with what a terminal might obey or show in another order: escapes, C1 controls, an override.
HOSTILE = "m\x1b]0;title\x07\x1b[2J\u009b31m\u0085\u202eevil\u2066\nnext"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f\u0080-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture
def one(fake, tandem):
    def start(options=(), **groups):
        a = fake("a", options=options)
        return tandem([attached(a, slots=2)], **groups), a

    return start


def follow(t, *args):
    return subprocess.Popen([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "logs", "-f", *args], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def chat(t, text="hello"):
    status, headers, _ = t.chat(text)
    assert status == 200
    t.flush()  # the worker's last words of it
    return headers["X-Tandem-Request-Id"]


def test_a_request_afterwards(one):
    t, _ = one()
    first, second = chat(t), chat(t, "the secret word")
    r = ctl(t, "logs", second)
    assert (r.returncode, r.stderr) == (OK, "")
    lines = r.stdout.splitlines()
    assert all(re.match(rf"\d{{4}}-\d\d-\d\dT[\d:.]+Z [a-z_.]+ .*\breq={second}\b", line) for line in lines), lines
    names = [line.split()[1] for line in lines]
    assert {"request_begin", "plan", "job_start", "worker.job_start", "worker.job_end", "job_end", "request_done"} <= set(names)
    assert "proc=tandem-worker" in r.stdout and first not in r.stdout and "secret" not in r.stdout and "\x1b" not in r.stdout
    as_json = [json.loads(line) for line in ctl(t, "logs", "--json", second).stdout.splitlines()]
    assert [e["event"] for e in as_json] == names and {e["req"] for e in as_json} == {second}


def test_all_requests_and_how_many_lines(one):
    t, _ = one()
    ids = {chat(t) for _ in range(3)}
    r = ctl(t, "logs", "--json")
    events = [json.loads(line) for line in r.stdout.splitlines()]
    assert ids <= {e.get("req") for e in events} and any(e["event"] == "worker_state" for e in events)
    seqs = [e["seq"] for e in events]
    assert seqs == sorted(set(seqs))
    last = ctl(t, "logs", "--json", "-n", "2").stdout.splitlines()
    assert len(last) == 2 and all(json.loads(line)["seq"] >= seqs[-2] for line in last)
    assert ctl(t, "logs", "--lines", "0").stdout == ""


def test_following_a_request_ends_with_it(one):
    t, a = one(options=("--decode", "20"))
    a.fault(match="slowly", delay_ms=600000, times=1)
    asked = in_thread(lambda: t.chat("slowly"))
    rid = wait_for(lambda: [j["request"] for j in ask(t, "jobs")["jobs"]], "the request")[0]
    a.struck()
    p = follow(t, rid)
    assert select.select([p.stdout], [], [], DEADLINE)[0], "what is kept of it so far"
    a.go()
    out, err = p.communicate(timeout=DEADLINE)
    assert p.returncode == OK and err == "" and asked.join()[0] == 200
    names = [line.split()[1] for line in out.splitlines()]
    assert names.count("request_begin") == names.count("request_done") == names.count("worker.job_end") == 1
    again = follow(t, rid)  # it is over: what is kept, and no wait
    assert [line.split()[1] for line in again.communicate(timeout=DEADLINE)[0].splitlines()] == names


def test_following_one_that_is_over_ends_though_its_end_is_not_kept(one):
    t, _ = one(limits={"recent_event_bytes": 0})
    p = follow(t, chat(t))
    assert p.communicate(timeout=DEADLINE)[0] == "" and p.returncode == FAILED


def test_following_all_has_each_event_once(one):
    t, _ = one()
    before = chat(t)
    p = follow(t, "--json")
    heard = []
    threading.Thread(target=lambda: heard.extend(iter(p.stdout.readline, "")), daemon=True).start()
    wait_for(lambda: any(before in line for line in list(heard)), "what was kept")
    after = chat(t)
    wait_for(lambda: any("request_done" in line and after in line for line in list(heard)), "what came")
    p.terminate()
    p.wait(DEADLINE)
    seqs = [json.loads(line)["seq"] for line in heard if line.endswith("\n")]
    assert seqs == sorted(set(seqs)) and len(seqs) > 10
    p.stderr.close()


def test_what_is_kept_has_its_bound(one):
    t, _ = one(limits={"recent_event_bytes": 4000})
    for _ in range(20):
        last = chat(t)
    kept = ask(t, "recent")["events"]
    assert 2000 < sum(len(json.dumps(e, separators=(",", ":"), ensure_ascii=False)) for e in kept) <= 4000
    assert kept[-1]["seq"] == max(e["seq"] for e in kept) and any(e.get("req") == last for e in kept)
    with open(t.conf) as f:
        conf = f.read()
    with open(t.conf, "w") as f:
        f.write(conf.replace("recent_event_bytes = 4000", "recent_event_bytes = 0"))
    assert t.operate("reload")["state"] == "done"
    assert ask(t, "recent") == {"events": []}
    r = ctl(t, "logs", last)
    assert (r.returncode, r.stdout, r.stderr) == (FAILED, "", f"tandemctl: nothing is kept of a request {last}\n")


def test_what_a_terminal_might_obey_does_not_reach_it(one):
    t, _ = one()
    assert t.chat("hello", model=HOSTILE)[0] != 200
    shown = ctl(t, "logs").stdout
    assert "evil" in shown and not OBEYED.search(shown), OBEYED.findall(shown)
    p = subprocess.Popen([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "events", "--count", "4"], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: t.chat("hello", model=HOSTILE) and p.poll() is not None, "four events")
    assert not OBEYED.search(p.stdout.read())
    p.stdout.close()


def on_a_terminal(t, *args, **env):
    master, slave = pty.openpty()
    p = subprocess.Popen([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "logs", *args], stdout=slave, stdin=slave, env={**os.environ, **env})
    os.close(slave)
    data = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        data += piece
    os.close(master)
    assert p.wait(DEADLINE) == OK
    return data.decode()


def test_colour_only_on_a_terminal(one):
    t, _ = one()
    assert t.chat("hello", model=HOSTILE)[0] != 200
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    coloured = on_a_terminal(t, NO_COLOR="")
    assert "\x1b[2m" in coloured and "\x1b[0m" in coloured
    assert not OBEYED.search(re.sub("\x1b\\[[0-9;]*m", "", coloured).replace("\r", ""))
    assert "\x1b" not in on_a_terminal(t, NO_COLOR="1") and "\x1b" not in on_a_terminal(t, "--json", **env)


def test_logs_words_of_failure(one):
    t, _ = one()
    for args in (("-n", "x"), ("a", "b"), ("--nonsense",), ("x" * 200,)):
        assert ctl(t, "logs", *args).returncode == USAGE, args
    for args in ((), ("-f",)):  # what nobody knows has no end that could be waited for
        r = ctl(t, "logs", "nobody", *args)
        assert (r.returncode, r.stderr) == (FAILED, "tandemctl: nothing is kept of a request nobody\n")
    for args in ((), ("-f",), ("-f", "x")):
        r = subprocess.run([os.path.join(BIN, "tandemctl"), "-R", "/tmp/no-such-folder", "logs", *args], capture_output=True, text=True, timeout=20)
        assert r.returncode == NOT_RUNNING and "is it running?" in r.stderr
