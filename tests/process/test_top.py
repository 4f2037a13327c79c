"""tandemctl top on terminals of several sizes: what stands there, its keys, what it leaves behind."""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pyte
import pytest

from conftest import attached
from harness import BIN, DEADLINE, children, in_thread, wait_for
import test_kept
from test_control import NOT_RUNNING, OK, ask, ctl
from test_logs import HOSTILE

UP, DOWN, ENTER, ESC, TAB, PAGE_DOWN, END = b"\x1b[A", b"\x1b[B", b"\r", b"\x1b", b"\t", b"\x1b[6~", b"\x1bOF"
SIZES = [(24, 80), (50, 160)]


class Top:
    """tandemctl top in the foreground of a terminal, under a shell that tells of its end and of the terminal's settings."""

    SCRIPT = 'stty -g; "$@"; code=$?; echo; echo "ended=$code"; stty -g; echo over'

    def __init__(self, t, rows=24, columns=80, **env):
        self.master, slave = os.openpty()
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.data = b""
        self.resize(rows, columns)
        self.shell = subprocess.Popen(["sh", "-c", self.SCRIPT, "sh", os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "top"], stdin=slave,
                                      stdout=slave, stderr=slave, start_new_session=True, env={**os.environ, **env},
                                      preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.settings = self.until(b"\n").strip()

    def resize(self, rows, columns):
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds):
        """What comes within that time; b"" when nothing does."""
        if not select.select([self.master], [], [], seconds)[0]:
            return b""
        try:
            piece = os.read(self.master, 65536)
        except OSError:
            return b""
        self.data += piece
        self.stream.feed(piece)
        return piece

    def until(self, mark):
        while mark not in self.data:
            assert self.read(DEADLINE), (mark, self.data[-500:])
        part, self.data = self.data.split(mark, 1)
        return part

    def see(self, found, what):
        """Reads until found(lines) of the screen; its value."""
        end = time.monotonic() + DEADLINE
        while not (value := found(self.screen.display)):
            self.read(0.2)
            assert time.monotonic() < end, what + "\n" + "\n".join(self.screen.display)
        return value

    def shows(self, *words):
        self.see(lambda lines: all(any(w in line for line in lines) for w in words), f"{words}")
        return self

    def press(self, keys):
        os.write(self.master, keys)
        return self

    def marked(self):
        """The line that is marked, or None."""
        for y in range(self.screen.lines):
            row = self.screen.buffer[y]
            if row[0].reverse:
                return self.screen.display[y]
        return None

    def mark(self):
        """The first word of that line: what is read may be half of a picture, in which there is none."""
        return next(iter((self.marked() or "").split()), None)

    def end(self):
        """(exit status, what it said last); the terminal is as it was."""
        words = self.until(b"ended=").decode()
        code = int(self.until(b"\n"))
        assert self.until(b"\n").strip() == self.settings
        self.until(b"over")
        self.shell.wait(DEADLINE)
        os.close(self.master)
        assert words.rindex("\x1b[?1049l") > words.rfind("\x1b[?1049h") and "\x1b[?25h" in words  # the shell's page, its cursor
        return code, words.split("\x1b[?1049l")[-1].replace("\r", "").strip()


@pytest.fixture
def one(fake, tandem):
    def start(options=(), device=None, model=("m:1b",), **groups):
        a = fake("a", model=model, options=("--slots", "4", *options))
        return tandem([attached(a, slots=4, **(device or {}))], **groups), a

    return start


@pytest.fixture
def top():
    started = []

    def start(*args, **options):
        started.append(Top(*args, **options))
        return started[-1]

    yield start
    for t in started:
        if t.shell.poll() is None:
            t.shell.kill()
            t.shell.wait()


def talk(t, turns, name="a"):
    """A conversation of so many turns of some 500 tokens."""
    messages = []
    for i in range(turns):
        messages += [{"role": "user", "content": f"{name} {i} " + "word " * 400}]
        assert t.chat(messages)[0] == 200
        messages += [{"role": "assistant", "content": "w0 w1"}]


@pytest.mark.parametrize("rows, columns", SIZES)
def test_at_a_glance(one, top, rows, columns):
    t, _ = one(options=("--decode", "20"))
    talk(t, 2)
    asked = in_thread(lambda: t.chat("slowly [[fake tokens=120]]", stream=True))
    s = top(t, rows, columns).shows("tandem ", "requests: ", "gpu0", "ready", "1/4", "m:1b", "under way: 1, by age", "conversations: ", "q quit")
    # Its speed is seen as it is: 20 tokens a second, once it has written for longer than this machine makes it wait.
    row = re.compile(r"writing +gpu0 +\S+ +\S+ +\d+ +([\d.]+) ")
    s.see(lambda lines: next((m[1] for line in lines if (m := row.search(line)) and 8 < float(m[1]) < 32), None), "its rate")
    bars = s.see(lambda lines: [m[0] for line in lines if (m := re.search(r"\[#+\.*\]", line))], "a warm conversation")
    assert all(len(b) == 12 for b in bars)
    wide = "MODEL" in next(line for line in s.screen.display if line.startswith("SESSION"))
    assert wide == (columns == 160) == ("KEPT" in next(line for line in s.screen.display if line.startswith("DEVICE")))
    assert any(line.startswith("no breaks") for line in s.screen.display)
    assert s.press(b"q").end()[0] == OK
    assert asked.join()[0] == 200


@pytest.mark.parametrize("rows, columns", SIZES)
def test_a_request_is_opened(one, top, rows, columns):
    t, a = one()
    a.fault(match="hang here", fault="hang")
    asked = in_thread(lambda: t.chat("hang here"))
    rid = wait_for(lambda: [j["request"] for j in ask(t, "jobs")["jobs"]], "a job")[0]
    s = top(t, rows, columns).shows("under way: 1", rid)
    assert rid in s.see(lambda _: s.marked(), "a mark")
    s.press(ENTER).shows(f"request {rid}", "state", "running", "prompt_tokens", "Esc back")
    s.press(PAGE_DOWN * 3)
    s.shows("worker.job_start", "job_start", "plan")
    assert ask(t, f"cancel {rid}") == {"cancelled": rid}
    s.shows(f"request {rid}: over").press(END).shows("request_failed")
    s.press(ESC).shows("under way: 0", "request_failed")
    assert s.press(b"q").end()[0] == OK and asked.join()[0] == 499


def test_a_conversation_is_opened_and_the_list_sorted(one, top):
    t, _ = one()
    for name, turns in (("a", 3), ("b", 1), ("c", 2)):
        talk(t, turns, name)
    s = top(t).shows("conversations: 3, by last use")
    order = lambda: [line.split()[0] for line in s.screen.display if re.match(r"\d+ +\d+ +\d", line)]
    s.see(lambda _: order() == ["3", "2", "1"], "three")
    s.see(lambda _: s.mark() == "3", "a mark")
    s.press(b"s").shows("by tokens")
    s.see(lambda _: order() == ["1", "3", "2"], "another order")
    s.see(lambda _: s.mark() == "3", "the mark on its row")
    s.press(DOWN)
    s.see(lambda _: s.mark() == "2", "the mark one row below")
    s.press(DOWN + DOWN + UP + UP + UP + UP)  # no further than the first
    s.see(lambda _: s.mark() == "1", "the mark at the first")
    s.press(ENTER).shows("conversation 1", "turns", "l0_tokens", "warm_tokens", "address", "127.0.0.1")
    s.press(ESC).shows("by tokens")
    for name in ("warm", "breaks", "last use"):
        s.press(b"s").shows(f"by {name}")
    s.press(b"?").shows("keys", "Enter      open the row")
    s.press(ESC).shows("conversations: 3")
    assert s.press(b"q").end()[0] == OK


def test_what_went_wrong_last(one, top):
    t, a = one()
    talk(t, 1)
    s = top(t).shows("conversations: 1")
    messages = [{"role": "user", "content": "z 0 " + "word " * 400}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]
    assert t.chat(messages)[0] == 200
    messages[0]["content"] = "z 1 " + "word " * 400
    assert t.chat(messages)[0] == 200
    s.shows("last breaks and fallbacks", "prefix req=", "kind=edited")
    a.fault(times=1, fault="500", error="out of memory")
    assert t.chat("x")[0] == 500
    s.shows("request_failed req=")
    assert s.press(b"q").end()[0] == OK
    assert "kind=edited" in top(t).shows("kind=edited").screen.display[-2] + "".join(ctl(t, "top").stdout)  # what was kept is there at once


def test_more_than_the_screen_holds(one, top):
    t, _ = one()
    for i in range(30):
        talk(t, 1, f"n{i}")
    s = top(t).shows("conversations: 30, by last use, more with the arrows")
    s.press(END)
    s.see(lambda _: s.mark() == "1", "the last row")
    s.press(b"\x1b[H")
    s.see(lambda _: s.mark() == "30", "the first row")
    assert s.press(b"q").end()[0] == OK


def test_nothing_flickers(one, top):
    """What stands still is not written again, and the screen is cleared once."""
    t, _ = one()
    talk(t, 2)
    s = top(t).shows("conversations: 1")
    s.data = b""
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        s.read(0.2)
    assert b"\x1b[2J" not in s.data and b"gpu0" not in s.data and 0 < len(s.data) < 2000
    assert s.press(b"q").end()[0] == OK


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_terminal_as_it_was(one, top, sig):
    t, _ = one()
    s = top(t).shows("gpu0")
    os.kill(children(s.shell.pid)[0], sig)
    assert s.end()[0] == 128 + sig


def test_it_is_cut_to_the_screen(one, top):
    t, _ = one(device={"model": "grün-und-lang:" + "0" * 60})
    s = top(t, 24, 80).shows("gpu0")
    for rows, columns in ((5, 40), (1, 10), (2, 1), (60, 300), (3, 23)):
        s.resize(rows, columns)
        first = "tandem "[:columns]
        s.see(lambda lines: lines[0].startswith(first) and (rows < 60 or any("0" * 60 in line for line in lines)), f"a screen of {rows} x {columns}")
        assert len(s.screen.display) == rows and all(len(line) <= columns for line in s.screen.display)
        s.press(b"?" + ESC + ENTER + DOWN + ESC + TAB)
    s.resize(24, 80)
    s.shows("conversations: 0", "q quit")
    assert s.press(b"q").end()[0] == OK


def test_when_tandemd_ends(one, top):
    t, _ = one()
    s = top(t).shows("gpu0")
    assert t.stop() == 0
    assert s.end() == (NOT_RUNNING, f"tandemctl: no tandemd at {t.run_dir}; is it running?")


# What top itself says to a terminal.
OWN = re.compile(rb"\x1b\[[0-9;]*[mHJ]|\x1b\[\?(1049|25)[hl]")


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}])
def test_names_say_nothing_to_the_terminal(one, top, env):
    t, _ = one(model=("m:1b", HOSTILE))
    assert t.chat([{"role": "user", "content": "hi " * 400}], model=HOSTILE)[0] == 200  # it serves that one
    assert t.chat([{"role": "user", "content": "hi " * 400}], model=HOSTILE + "?")[0] != 200
    t.request("POST", "/api/chat", {"model": HOSTILE, "messages": [{"role": "user", "content": "hi"}]}, {"User-Agent": "cli\u00e9\u009b31m"})
    s = top(t, 50, 160, **env).shows("gpu0", "conversations: 3", "title", "failed")
    s.press(ENTER).shows("conversation 3", "evil").press(ESC).press(b"s")
    said = s.data
    assert s.press(b"q").end()[0] == OK
    assert (b"\x1b[0;1;32m" in said or b";32m" in said or b";33m" in said) == (not env)
    rest = OWN.sub(b"", said).decode("utf-8")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u0080-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]", rest.replace("\r", "")), rest


def test_wide_characters_keep_their_columns(one, top):
    t, _ = one(model=("m:1b", "模型é-测试:1b"))
    assert t.chat([{"role": "user", "content": "hi " * 400}], model="模型é-测试:1b")[0] == 200
    assert t.request("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "hi"}]}, {"User-Agent": "aider/1"})[0] == 200
    s = top(t, 24, 160).shows("conversations: 2")
    columns = {}
    for y in range(24):  # by cell, as the terminal has it
        cells = s.screen.buffer[y]
        text = "".join(cells[x].data for x in range(160))
        if text.startswith("SESSION"):
            titles = {name: next(x for x in range(160) if "".join(cells[x + i].data for i in range(len(name))) == name) for name in ("MODEL", "CLIENT")}
        elif "模型é-测试:1b" in text or "aider" in text:
            columns[text.split()[0]] = [cells[titles["MODEL"] + i].data for i in range(12)], cells[titles["CLIENT"]].data, cells[titles["CLIENT"] - 1].data
    assert "".join(columns["1"][0]).startswith("模型é-测试") and columns["1"][2] == columns["2"][2] == " "
    assert columns["2"][1] == "a", columns
    assert s.press(b"q").end()[0] == OK


def test_conversations_on_disk_are_seen(tandem, folder):
    t = test_kept.begin(tandem, folder, test_kept.started(test_kept.model_file(folder)))
    test_kept.Talk(t, "ann").turn()
    test_kept.wait_saved(t, 1)
    said = ctl(t, "top").stdout.splitlines()
    titles, device = next((said[i], said[i + 1]) for i, line in enumerate(said) if line.startswith("DEVICE"))
    assert re.match(r"1, [\d.]+ (B|KiB|MiB) ", device[titles.index("KEPT"):]), device


def test_without_a_terminal_it_prints_once(one):
    t, _ = one()
    talk(t, 2)
    for args in (("top",), ("top", "--once")):
        r = ctl(t, *args)
        assert (r.returncode, r.stderr) == (OK, "") and "\x1b" not in r.stdout
        assert "gpu0" in r.stdout and "conversations: 1, by last use" in r.stdout and "q quit" not in r.stdout
        assert all(line == line.rstrip() for line in r.stdout.splitlines())
