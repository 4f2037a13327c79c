"""What the doctor says, for the page (/ui/api/doctor): the same as tandemctl says, by one child at a time that keeps nobody waiting and
outlives nobody."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time

import pytest

from conftest import attached
from harness import BIN, Client, alive, children, fd_count, in_thread, wait_for
from test_access import KEY, OTHER, bearer, guarded, keys, line  # noqa: F401 - two fixtures
from test_control import nvml  # noqa: F401 - a fixture
from test_doctor import doctor
from test_ui import look
from test_upgrade import upgradable  # noqa: F401 - a fixture

PATH = "/ui/api/doctor"
# Says that it runs, and never ends where `hold` is there; or goes on when that is gone.
HELD = '#!/bin/sh\nif [ -e FOLDER/hold ]; then echo $$ >>FOLDER/runs; exec sleep 1000; fi\necho $$ >>FOLDER/runs\nexec REAL "$@"\n'
WAITS = '#!/bin/sh\necho $$ >>FOLDER/runs\nwhile [ -e FOLDER/hold ]; do sleep 0.05; done\nexec REAL "$@"\n'


class Place:
    """A folder with tandemd and its worker, and a script in tandemctl's place."""

    def __init__(self, folder):
        self.folder, self.bin = folder, os.path.join(folder, "bin")
        self.program = os.path.join(self.bin, "tandemd")
        os.makedirs(self.bin, exist_ok=True)
        for name in ("tandemd", "tandem-worker"):
            if not os.path.exists(os.path.join(self.bin, name)):
                shutil.copy(os.path.join(BIN, name), self.bin)

    def put(self, script):
        path = os.path.join(self.bin, "tandemctl")
        with open(path + ".new", "w") as f:
            f.write(script.replace("FOLDER", self.folder).replace("REAL", os.path.join(BIN, "tandemctl")))
        os.chmod(path + ".new", 0o755)
        os.rename(path + ".new", path)
        return self

    def hold(self, on=True):
        path = os.path.join(self.folder, "hold")
        if on:
            open(path, "w").close()
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        return self

    def runs(self):
        """The pids of those that ran so far."""
        with contextlib.suppress(FileNotFoundError), open(os.path.join(self.folder, "runs")) as f:
            return [int(x) for x in f.read().split("\n")[:-1]]
        return []

    def begun(self, n=1):
        return wait_for(lambda: self.runs()[n - 1:], f"run {n}")[0]


@pytest.fixture
def place(folder):
    return Place(folder)


@pytest.fixture
def placed(fake, tandem, place):
    def start(script=HELD, **groups):
        if script:
            place.put(script)
        a = fake("main")
        return tandem([attached(a, slots=2)], program=place.program, **groups)

    return start


def said(t, headers=None):
    """(status, what the page is told)"""
    status, answer, got = look(t, PATH, headers)
    assert answer["Cache-Control"] == "no-store" and answer["Content-Type"].startswith("application/json")
    return status, got


def refused(t, *words):
    status, got = said(t)
    assert status == 503 and list(got) == ["error"] and all(w in got["error"] for w in words), got


def taken(t):
    """What was sent before has been read: requests of the page are counted nowhere, but what comes later is answered later."""
    for _ in range(2):
        assert look(t, "/ui/api/status")[0] == 200


def gone(pid):
    wait_for(lambda: not alive(pid), f"end of {pid}")


def without_time(report):
    return {k: v for k, v in report.items() if k != "at_ms"}


# --- the same as tandemctl says ---


@pytest.mark.parametrize("drained", [False, True])
def test_it_is_what_tandemctl_says(pair, nvml, drained):  # noqa: F811
    t, *_ = pair(env={**nvml, "NVML_FAKE_INIT": "9"})  # whatever this machine's own GPUs do
    assert t.chat("hello", stream=True)[0] == 200
    t.wait_idle()
    if drained:
        assert t.operate("drain gpu1")["state"] == "done"
    status, got = said(t)
    assert status == 200
    assert ("away" in [f["id"] for f in got["findings"]]) == drained
    code, told = doctor(t)
    assert without_time(got) == without_time(told) and 0 < got["at_ms"] <= told["at_ms"]
    assert (code != 0) == bool(got["findings"])  # something found is no failure
    assert t.status()["requests"]["total"] == 1  # who looks is no request
    assert not t.events(ev="doctor_failed")


def test_with_keys(guarded):  # noqa: F811
    t, _ = guarded(line("laptop", KEY))
    for headers in (None, bearer(OTHER)):
        assert look(t, PATH, headers)[0] == 401
    status, got = said(t, bearer())
    assert status == 200 and without_time(got) == without_time(doctor(t)[1])
    assert KEY not in json.dumps(got) + t.log()


def test_keys_of_backends_stay_away(fake, tandem, folder):
    secret = "backend-secret-of-mine"
    path = os.path.join(folder, "backend-key")
    with open(path, "w") as f:
        f.write(secret + "\n")
    os.chmod(path, 0o600)
    a = fake("main", type="llama-server", options=("--host", "0.0.0.0"))
    device = attached(a)
    device["backend"]["key_file"] = path
    t = tandem([device])
    status, got = said(t)
    assert status == 200 and secret not in json.dumps(got)


def test_others_start_nothing(placed, place, guarded):  # noqa: F811
    t = placed()
    for headers in ({"Origin": "http://example.com"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        assert look(t, PATH, headers)[0] == 403
    for path in (PATH + "/", PATH + "/x", PATH + "%20x", "/ui/doctor"):
        assert look(t, path)[0] == 404, path
    assert t.request("POST", PATH, b"{}")[0] == 405
    assert place.runs() == []
    status, headers, none = t.request("HEAD", PATH)
    assert (status, none) == (200, b"") and int(headers["Content-Length"]) > 2


# --- one at a time ---


def test_who_asks_meanwhile_gets_the_same(placed, place):
    t = placed(WAITS)
    place.hold()
    asking = [Client(t).send("GET", PATH) for _ in range(5)]
    place.begun()
    taken(t)
    place.hold(False)
    assert [c.head() for c in asking] == [200] * 5
    answers = [json.loads(c.rest()) for c in asking]
    assert answers.count(answers[0]) == 5 and len(place.runs()) == 1
    # Who comes soon gets it as well; whoever comes later, another one.
    again = said(t)[1]
    assert (again == answers[0]) == (len(place.runs()) == 1)
    wait_for(lambda: said(t)[1]["at_ms"] > again["at_ms"], "a look of its own")
    assert len(place.runs()) >= 2


@pytest.mark.parametrize("reset", [False, True])
def test_nobody_waits_any_more(placed, place, reset):
    t = placed()
    place.hold()
    before = fd_count(t.pid)
    first, second = (Client(t).send("GET", PATH) for _ in range(2))
    pid = place.begun()
    taken(t)
    first.close(reset)
    taken(t)
    assert alive(pid)  # the other one waits for it
    second.close(reset)
    gone(pid)
    place.hold(False)
    assert said(t)[0] == 200 and len(place.runs()) == 2
    t.wait_idle()
    wait_for(lambda: fd_count(t.pid) <= before + 1, "descriptors as before")
    wait_for(lambda: children(t.pid) == [t.device("gpu0")["pid"]], "children as before")


def test_who_comes_while_one_is_ended(placed, place):
    """Whether its end was seen by then or not."""
    t = placed(WAITS)
    for _ in range(3):  # two runs each, two seconds apart
        assert t.operate("reload")["state"] == "done"  # nothing that was said before is kept
        n = len(place.hold().runs())
        first = Client(t).send("GET", PATH)
        place.begun(n + 1)
        first.close(reset=True)
        second = Client(t).send("GET", PATH)
        place.hold(False)
        assert second.head() == 200 and json.loads(second.rest())["running"]
        second.close()
        t.wait_idle()


def test_who_asks_and_leaves_again_and_again(placed, place):
    """A process each would be work without end for nobody: two seconds lie between their beginnings."""
    t = placed()
    place.hold()
    began = time.monotonic()
    for i in range(20):
        c = Client(t).send("GET", PATH)
        if i == 0:
            place.begun()
        taken(t)
        c.close()
        taken(t)
    assert len(place.runs()) <= 1 + (time.monotonic() - began) / 2
    place.hold(False)
    assert said(t)[0] == 200  # whoever waits for its turn gets it
    t.wait_idle()


def test_a_run_has_its_own_time(placed, place):
    """What somebody waited for before it is none of it."""
    t = placed(deadlines={"doctor_ms": 1500})
    assert said(t)[0] in (200, 503)
    assert t.operate("reload")["state"] == "done"
    place.put("#!/bin/sh\necho '{\"running\":true,\"findings\":[]}'\n")
    assert said(t)[0] == 200  # after its turn has come, up to two seconds later


def test_cancelled_by_the_operator(placed, place):
    t = placed()
    place.hold()
    c = Client(t).send("GET", PATH)
    pid = place.begun()
    rid = t.request("GET", "/nowhere")[1]["X-Tandem-Request-Id"]
    made = [f"{rid.split('-')[0]}-{n:x}" for n in range(int(rid.split("-")[1], 16))]
    assert sum(t.command(f"cancel {i}").get("cancelled") == i for i in made) == 1
    assert c.head() == 499
    gone(pid)
    t.wait_idle()


# --- what may go wrong with it ---


def test_without_tandemctl(placed, place):
    t = placed(None)
    refused(t, "tandemctl beside tandemd", "no such file")
    assert [e["why"] for e in t.events(ev="doctor_failed")] and t.chat("others are served")[0] == 200
    place.put(HELD)
    wait_for(lambda: said(t)[0] == 200, "one that was put there since")


@pytest.mark.parametrize("script,words", [
    ("exit 3\n", "status 3"),
    ("echo nonsense\n", "status 0"),
    ("echo '[]'\n", "no answer"),
    ("echo '{\"running\":true}'\n", "no answer"),
    ("echo '{\"running\":true,\"findings\":[]} {}'\n", "no answer"),
    ("echo '{\"running\":false,\"findings\":[]}'; exit 4\n", "could not ask"),
    ("kill -9 $$\n", "signal 9"),
])
def test_answers_that_are_none(placed, script, words):
    t = placed("#!/bin/sh\n" + script)
    refused(t, words)
    assert words in t.events(ev="doctor_failed")[0]["why"]
    t.wait_idle()


@pytest.mark.parametrize("text", ['{"running":true,"findings":[]}', ' \n{"findings":[],"running":true,"x":"<b>"}\n\n'])
def test_answers_are_handed_on_as_they_are(placed, folder, text):
    with open(os.path.join(folder, "text"), "w") as f:
        f.write(text)
    t = placed("#!/bin/sh\ncat FOLDER/text\nexit 7\n")
    status, _, data = t.request("GET", PATH)
    assert (status, data.decode()) == (200, text.strip())


def test_one_that_hangs(placed, place):
    t = placed(deadlines={"doctor_ms": 300})
    place.hold()
    refused(t, "deadlines.doctor_ms = 300")
    assert t.events(ev="doctor_failed")
    for pid in place.runs():  # none, where it had not even begun
        gone(pid)
    wait_for(lambda: children(t.pid) == [t.device("gpu0")["pid"]], "children as before")


def test_one_that_leaves_its_output_open(placed, place):
    """What it started holds its output: it is not waited for beyond the deadline."""
    t = placed("#!/bin/sh\nsleep 1000 2>/dev/null &\necho $! >>FOLDER/runs\necho '{\"running\":true,\"findings\":[]}'\n", deadlines={"doctor_ms": 1000})
    try:
        refused(t, "deadlines.doctor_ms = 1000")
    finally:
        for pid in place.runs():
            os.kill(pid, signal.SIGKILL)
    place.put(HELD)
    wait_for(lambda: said(t)[0] == 200, "one that ends")


def test_one_that_says_too_much(placed, place):
    t = placed("#!/bin/sh\necho $$ >>FOLDER/runs\nexec cat /dev/zero\n", limits={"doctor_bytes": 65536})
    refused(t, "limits.doctor_bytes = 65536")
    gone(place.begun())
    place.put("#!/bin/sh\nprintf '{\"running\":true,\"findings\":[],\"x\":\"%060000d\"}' 0\n")
    wait_for(lambda: said(t)[0] == 200, "as much as it may say")


def test_what_it_gets(placed, folder):
    """Nothing to read, nobody to complain to, no descriptor of tandemd's, and the run folder by name."""
    t = placed("\n".join((
        f"#!{sys.executable} -SE", "import json, os, sys", "fds = {n: os.readlink(f'/proc/self/fd/{n}') for n in range(3, 256) if os.path.exists(f'/proc/self/fd/{n}')}",
        "std = [os.readlink(f'/proc/self/fd/{n}') for n in range(3)]", "with open('FOLDER/got', 'w') as f:",
        "    json.dump([sys.argv[1:], std, fds], f)", "os.execv('REAL', sys.argv)")), env={"TANDEM_RUN_DIR": "/nowhere"})
    other = Client(t).send("GET", "/api/tags")
    assert other.head() == 200 and said(t)[0] == 200
    other.close()
    with open(os.path.join(folder, "got")) as f:
        args, std, more = json.load(f)
    assert args == ["-R", t.run_dir, "doctor", "--json"]
    assert std[0] == std[2] == "/dev/null" and std[1].startswith("socket:") and more == {}


# --- while tandemd is reloaded, ended, upgraded ---


def test_a_reload_begins_anew(placed, place):
    t = placed()
    place.hold()
    c = Client(t).send("GET", PATH)
    pid = place.begun()
    place.hold(False)
    assert t.operate("reload")["state"] == "done"
    assert c.head() == 200 and json.loads(c.rest())["running"]
    gone(pid)
    c.close()
    assert len(place.runs()) == 2
    assert t.operate("reload")["state"] == "done"  # what was said before counts no more, however fresh
    assert said(t)[0] == 200 and len(place.runs()) == 3


def test_a_reload_takes_a_key_away(guarded, keys, place):  # noqa: F811
    place.put(HELD).hold()
    t, _ = guarded(line("laptop", KEY), line("desk", OTHER), program=place.program)
    stays, goes = (Client(t).send("GET", PATH, headers=[f"Authorization: Bearer {k}"]) for k in (KEY, OTHER))
    place.begun()
    for _ in range(2):
        assert look(t, "/ui/api/status", bearer())[0] == 200
    keys(line("laptop", KEY))
    place.hold(False)
    assert t.operate("reload")["state"] == "done"
    assert goes.head() == 503 and "ask again" in json.loads(goes.rest())["error"]
    assert stays.head() == 200 and json.loads(stays.rest())["running"]
    stays.close(), goes.close()


def test_it_keeps_nobody_from_stopping(placed, place):
    t = placed(deadlines={"drain_ms": 60000})
    place.hold()
    c = Client(t).send("GET", PATH)
    pid = place.begun()
    assert t.stop() == 0
    assert c.head() == 503 and "about to end" in json.loads(c.rest())["error"]
    c.close()
    assert not alive(pid)


def test_a_tandemd_that_is_killed(placed, place):
    """Nobody hears the doctor then; it ends by itself."""
    t = placed(WAITS)
    place.hold()
    c = Client(t).send("GET", PATH)
    pid = place.begun()
    workers = [p for p in children(t.pid) if p != pid]
    t.popen.kill()
    t.popen.wait()
    place.hold(False)
    gone(pid)
    c.close()
    for p in workers:
        gone(p)


def test_through_an_upgrade(fake, place, upgradable):  # noqa: F811
    shutil.rmtree(place.bin)  # upgradable() makes it
    a = fake("main")
    t = upgradable([attached(a)])
    place.put(HELD)
    place.hold()
    a.fault(times=1, hang_after=1)
    stays = in_thread(lambda: t.chat("the old one is needed for a while", stream=True))
    a.struck()
    c = Client(t).send("GET", PATH)
    pid = place.begun()
    old, new = t.upgrade()
    assert c.head() == 503 and "about to end" in json.loads(c.rest())["error"]
    c.close()
    gone(pid)
    assert alive(old)
    place.hold(False)
    status, got = said(t)  # of the new one
    assert status == 200 and got["running"] and len(place.runs()) == 2
    a.go()
    assert stays.join()[0] == 200
    wait_for(lambda: t.lines("stopped", pid=old), "the end of the old one")
