"""Every command that a document names runs, as a reader would type it: those of tandem against a running one, targets of make as far as
that builds and installs nothing. What else is named stands in OTHERS with a reason.

Words in capitals are put in (REQUEST-ID, DEVICE, FILE, ...), and `[a|b]` is tried each way, also left out. A command that is named without
what it needs gets that by the program's own help. Commands in blocks marked `sh` run in tests/clients/test_readme.py.
"""

import functools
import itertools
import json
import os
import re
import signal
import subprocess
import threading
import tomllib

import pytest

from conftest import attached
from documents import PAGES, Said, begins, blocks, commands, languages, words_of
from harness import BIN, DEADLINE, ROOT, Fake, Process, in_thread, nng_req, wait_for
from test_documents import read
from test_upgrade import Family

# Programs that are not run here, and why. What no document names any more must go from here as well.
OTHERS = {
    "apt-get": "installs packages: .ci/run begins with it",
    "systemctl": "a service manager's: test_systemd.py has the units under one of its own",
    "systemd-sysusers": "makes users: test_systemd.py",
    "journalctl": "wants the log of a service manager",
    "ollama": "somebody else's: tests/ollama has a real one",
    "llama-server": "somebody else's: tests/engine has a real one",
    "aider": "an agent: tests/clients/agents runs it",
    "claude": "an agent: tests/clients/agents runs it",
    "qwen": "an agent: tests/clients/agents runs it",
    "llm": "a client: tests/clients/agents runs it",
    "copilot": "an agent that docs/clients.md calls untested",
    "export": "sets variables in a shell for one of these",
    "nvidia-modprobe": "loads a kernel module",
    "perf": "a profiler that wants rights of the machine's owner",
    "kill": "a test that kills knows whom by itself",
    "chmod": "of a file that is the reader's own",
}
RUN = {"tandemctl", "tandemd", "tandem-worker", "fake-backend", "make", "curl", "nngcat", "man", "test_dialect_table"}

# What is added to the words of a command of tandemctl, and why.
ADDED = {
    "key": ["--file", "KEYS"],  # else the machine's own
    "init": ["--ollama", "URL"],  # else whoever listens on 11434 of this machine
}
VALUED = {"-c", "--config", "-R", "--rundir", "-o", "--output", "-n", "--lines", "--file", "--timeout", "--count", "--window", "--dialect",
          "--device", "--seconds", "--ollama", "--port", "--requests", "--class"}  # options with a word behind them
STATUS = {"doctor": {0, 6, 7}}  # all else: 0


def help_of(program):
    return subprocess.run([os.path.join(BIN, program), "--help"], capture_output=True, text=True, check=True).stdout


@functools.cache
def needed():
    """command of tandemctl -> the words that it cannot do without, by its help."""
    part = help_of("tandemctl").split("Commands\n")[1].split("\n\n")[0]
    lines = re.findall(r"^  ([a-z][a-z-]+)((?: (?:\[[^]]*\]|[a-zA-Z|-]+))*)(?:  |$)", part, re.M)
    return {command: [w.split("|")[0] for w in re.sub(r"\[[^]]*\]", "", rest).split()] for command, rest in lines}


SAID = list(commands(RUN | set(OTHERS)))


def program(s):
    words, _ = words_of(s.text)
    name = os.path.basename(words[0]) if words else ""
    return "tandemctl" if name in needed() else name


def ways(text):
    """`a [b|c]` as a, a b, a c."""
    each = [[[w]] if w[0] != "[" else [[], *(v.split() for v in w[1:-1].split("|"))] for w in re.findall(r"\[[^]]*\]|\S+", text)]
    return [list(itertools.chain(*way)) for way in itertools.product(*each)]


def lines_of(name):
    """The different command lines of a program, each way, without its name: words -> where they are said first."""
    out = {}
    for s in SAID:
        if program(s) == name:
            for part in re.split(r" (?:&&|\|) ", s.text):
                words = part.split()
                for way in ways(" ".join(words[os.path.basename(words[0]) == name:])) if words[0] in (*needed(), s.text.split()[0]) else []:
                    out.setdefault(tuple(way), s)
    return out


def test_each_program_is_known():
    assert [str(s) for s in SAID if program(s) not in RUN | set(OTHERS)] == []
    assert set(OTHERS) | RUN == {program(s) for s in SAID}, "some are named by no document any more"
    assert len(SAID) > 250 and len({s.page for s in SAID}) > 25


# Blocks of no language that are neither commands nor configuration nor a picture nor what tandem prints: page, first word -> what it is.
OTHER_BLOCKS = {
    ("docs/security.md", "#"): "a file of keys: test_documented_names.py",
    ("docs/security.md", "gpu.example.org"): "Caddy's configuration",
    ("proto/PROTOCOL.md", "["): "the form of a frame",
    ("supervisor/tell/ui/README.md", "4b8a8191e425658e3ea8c8c1314b0fc679c861ee3a1af2b20c7b16ba50b5133d"): "sums of files",
    ("tests/fake/README.md", "Read"): "prompts with directives",
    ("tests/fake/README.md", '{"seq":1,"method":"POST","path":"/api/chat","body_bytes":97,"body_crc32":"1f0a6b2c","status":200,"reply_bytes":2189,'):
        "a line of its log",
}
PRINTED = r"tandemd \d|X-Tandem-|ev=|gpu0: |[\da-f]+-\d+: "


def test_each_block_is_of_a_kind_that_is_tried():
    assert languages() == {"", "sh", "conf", "python", "toml"}  # all but toml run; tests/clients/test_readme.py has three of them
    for page in PAGES:
        assert all(tomllib.loads(b.text)["model_provider"] for b in blocks(page, "toml"))
    others = {(b.page, b.text.split()[0]): b for page in PAGES for b in blocks(page)
              if not begins(b.text.split("\n")[0], RUN | set(OTHERS)) and not re.match(rf"\w+ = [{{(]|{PRINTED}", b.text) and not re.search("[─▶]", b.text)}
    assert set(others) == set(OTHER_BLOCKS)


# --- tandemctl ---


class Place:
    """A tandem with a main device and one that it starts itself, a request that is over, and the files that commands want."""

    def __init__(self, folder):
        self.folder = folder
        self.main = Fake(folder, "main", options=["--num-ctx", "16384", "--slots", "4", "--prefill", "50000", "--decode", "2000"])
        small = [os.path.join(BIN, "fake-backend"), "--type", "llama-server", "-c", "8192", "-np", "2", "--model", "s:0.5b"]
        self.tandem = Family(folder, [attached(self.main, slots=4, num_ctx=16384),
                                      {"name": "gpu1", "roles": ["condense"], "slots": 2, "backend": {"type": "llama-server", "command": small}}])
        self.over = self.chat()
        self.request = os.path.join(folder, "request.json")
        with open(self.request, "w") as f:
            json.dump({"model": "m:1b", "messages": [{"role": "user", "content": "Hello"}]}, f)
        self.env = {**os.environ, "TANDEM_RUN_DIR": self.tandem.run_dir}
        self.said = ""  # what commands have printed

    def chat(self):
        status, headers, _ = self.tandem.chat("hello")
        assert status == 200
        return headers["X-Tandem-Request-Id"]

    def end(self):
        self.tandem.end()
        self.main.stop()

    def whole(self, words):
        """The words, those that are needed, and what those in capitals mean here."""
        given, value = [], False
        for w in words[1:]:
            if not value and not w.startswith("-"):
                given.append(w)
            value = w in VALUED
        if "--help" not in words and words[0] in needed():
            words = words + needed()[words[0]][len(given):] + ADDED.get(words[0], [])
        file = self.request if words[0] == "explain" else self.tandem.conf
        meant = {**dict.fromkeys(("REQUEST-ID", "ID", "PEDIDO"), self.over), **dict.fromkeys(("DEVICE", "NAME", "NOME"), "gpu1"),
                 **dict.fromkeys(("FILE", "FICHEIRO", "tandem.conf"), file), "CONF": self.tandem.conf, "URL": self.main.url,
                 "KEYS": os.path.join(self.folder, "keys"), "N": "5", "COUNT": "5", "S": "20",
                 "COMMAND": "status"}
        return [w if words[0] == "init" and w == "tandem.conf" else meant.get(w, w) for w in words]

    def run(self, words, **options):
        r = subprocess.run([os.path.join(BIN, "tandemctl"), *words], env=self.env, capture_output=True, text=True, timeout=150, **options)
        self.said += r.stdout
        return r

    def init(self, words):
        """In a folder of its own, where a file for the machine's own goes, too; what it writes is good."""
        here = os.path.join(self.folder, f"init-{len(os.listdir(self.folder))}")
        os.mkdir(here)
        r = self.run([w.removeprefix("/etc/tandem/") for w in words], cwd=here)
        assert self.run(["check", "tandem.conf"], cwd=here).returncode == 0
        return r

    def cancel(self, words):
        """A request that has no end of its own."""
        self.main.fault(fault="hang", times=1)
        asked = in_thread(lambda: self.tandem.chat("for ever"))
        rid = wait_for(lambda: [j["request"] for j in self.tandem.command("jobs")["jobs"] if j["state"] == "running"], "the request")[0]
        self.main.struck()  # else the next one would be the one without an end
        r = self.run([rid if w == self.over else w for w in words])
        assert asked.join()[0] == 499
        return r

    def drain(self, words):
        r = self.run(words)
        assert self.run(["reset", "gpu1"]).returncode == 0
        self.tandem.wait_ready()
        return r


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    p = Place(str(tmp_path_factory.mktemp("documents")))
    yield p
    p.end()


def goes_on(words):
    return words[0] == "events" and "--count" not in words or words[0] == "logs" and len(words) == 2 and words[1] in ("-f", "--follow")


def heard(args, env, tell, mark):
    """Runs a program that has no end of its own until it has said that; tell() makes something happen."""
    said = bytearray()
    p = subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def listen():
        while piece := os.read(p.stdout.fileno(), 65536):
            said.extend(piece)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        wait_for(lambda: tell() and mark in bytes(said), f"words of {args}")
    finally:
        p.terminate()
        p.wait(DEADLINE)
        listener.join()
        p.stdout.close()


def problem(place, words):
    """What is wrong with what a whole command did; None."""
    if goes_on(words):
        return heard([os.path.join(BIN, "tandemctl"), *words], place.env, place.chat, b"request_done")
    run = getattr(place, words[0]) if words[0] in ("init", "cancel", "drain") else place.run
    r = run(words)
    if r.returncode not in STATUS.get(words[0], {0}) or not (r.stdout + r.stderr).strip():
        return f"{words}: {r.returncode}: {r.stdout[-300:]}{r.stderr[-500:]}"
    return None


def test_tandemctl(place):
    said = lines_of("tandemctl")
    assert [f"{s}" for words, s in said.items() if words[0] not in (*needed(), "help")] == [], "no such commands"
    whole = {}
    for words, s in said.items():
        whole.setdefault(tuple(place.whole(list(words))), s)
    assert len(whole) > 40
    last = sorted(whole, key=lambda words: words[0] == "upgrade")  # a new tandemd knows nothing of the old one's requests
    wrong = [f"{whole[words]}: {why}" for words in last if (why := problem(place, list(words)))]
    assert not wrong, "\n".join(wrong)
    headings = {columns(line) for line in place.said.splitlines()}
    shown = [Said(b.page, b.line + i, line) for page in PAGES for b in blocks(page) for i, line in enumerate(b.text.splitlines())]
    tables = [s for s in shown if len(columns(s.text)) > 4 and s.text == s.text.upper() and s.text[0].isalpha()]
    assert len(tables) > 3 and [str(s) for s in tables if columns(s.text) not in headings] == []
    sums = [s for s in shown if s.text.startswith("requests: ")]
    assert sums and [str(s) for s in sums if without_numbers(s.text) not in {without_numbers(line) for line in place.said.splitlines()}] == []


def without_numbers(line):
    return re.sub(r"\d+", "N", line)


def columns(line):
    return tuple(re.split(r"  +", line.strip()))


def test_a_wrong_command_is_found(place):
    for words in (["statuses"], ["status", "--jason"], ["restart", "gpu7"], ["request", "none-1"], ["check", "/none.conf"]):
        assert problem(place, words), words


def test_what_a_user_of_the_sockets_types(place):
    """nngcat, as the documents have it."""
    for words, s in lines_of("nngcat").items():
        args = ["nngcat", *(re.sub(r"ipc://(?:/run/tandem|RUNDIR)", f"ipc://{place.tandem.run_dir}", w) for w in words_of(" ".join(words))[0])]
        if "--sub" in args:
            heard(args, None, place.chat, b'"event":"request_done"')
        else:
            assert json.loads(subprocess.run(args, capture_output=True, timeout=20, check=True).stdout)["devices"], s


def test_curl(place):
    for words, s in lines_of("curl").items():
        args = [w.replace("127.0.0.1:8512", place.tandem.address) for w in words]
        assert subprocess.run(["curl", "-sS", "--fail", *args], capture_output=True, timeout=20, check=True).stdout, s


# --- the others of ours ---


def test_tandemd(place):
    """Each way to start it: it checks, or serves until it is told to stop."""
    conf = os.path.join(place.folder, "other.conf")
    for i, words in enumerate(lines_of("tandemd")):
        run_dir = os.path.join(place.tandem.run_holder.name, f"other{i}")
        with open(place.tandem.conf) as f, open(conf, "w") as out:
            out.write(f.read().replace(place.tandem.run_dir, run_dir))
        meant = {**dict.fromkeys(("FILE", "FICHEIRO", "tandem.conf"), conf), "DIR": run_dir}
        args = [os.path.join(BIN, "tandemd"), *(meant.get(w, w) for w in words)]
        if "--help" not in words and "-c" not in words:
            args += ["-c", conf]
        if {"-t", "--help"} & set(words):
            assert subprocess.run(args, capture_output=True, timeout=60, check=True).stdout
            continue
        p = Process(args, os.path.join(place.folder, f"other{i}.log"))
        try:
            stats = os.path.join(run_dir, "stats.ipc")
            wait_for(lambda: all(d["state"] == "ready" for d in json.loads(nng_req(stats, "status"))["devices"]), "a ready tandemd")
        finally:
            assert p.stop() == 0, p.log()[-3000:]


def test_the_scripted_backend():
    for words, s in lines_of("fake-backend").items():
        p = subprocess.Popen([os.path.join(BIN, "fake-backend"), *words], stdout=subprocess.PIPE, text=True)
        try:
            assert re.match(r"listening \d+\n", p.stdout.readline()), s
        finally:
            p.send_signal(signal.SIGTERM)
            assert p.wait(DEADLINE) == 0
            p.stdout.close()


def test_manual_pages_and_programs_exist():
    for words in lines_of("man"):
        assert any(page.startswith(f"etc/man/{words[0]}.") for page in PAGES), words
    for words, s in lines_of("tandem-worker").items():  # tandemd starts it, nobody else
        assert f'"{words[0]}"' in read("supervisor/tell/traces_process.c") and f'"{words[0]}"' in read("workers/main.c"), s
    s = next(s for s in SAID if program(s) == "test_dialect_table")
    assert all(f'getenv("{name}")' in read("tests/unit/vectors.h") for name in words_of(s.text)[1])


# --- make ---


def makefiles():
    out = ["Makefile", "etc/setup/targets.mk"]
    for folder, _, names in os.walk(os.path.join(ROOT, "tests")):
        out += [os.path.relpath(os.path.join(folder, n), ROOT) for n in names if n.endswith(".mk")]
    return out


def test_make():
    """Every target is one, and can be made as far as `make -n` tells; variables are looked at."""
    scripts = [f"etc/setup/{n}" for n in os.listdir(os.path.join(ROOT, "etc", "setup")) if n.endswith(".sh")]
    text = "".join(read(p) for p in [*makefiles(), *scripts])
    targets, variables = set(), set()
    for s in SAID:
        if program(s) == "make":
            words, before = words_of(s.text)
            targets |= {w for w in words[1:] if "=" not in w}
            variables |= {w.partition("=")[0] for w in words[1:] if "=" in w} | set(before)
    assert len(targets) > 25
    r = subprocess.run(["make", "-n", *sorted(targets)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stderr
    assert [v for v in variables if not re.search(rf"\$[({{]{v}\b", text)] == []
    listed = set(re.findall(r"^([a-z][\w-]*) ", subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout, re.M))
    assert {t for t in targets if "/" not in t} <= listed, "make help leaves some out"


def test_the_list_of_targets_is_whole():
    """CONTRIBUTING says that `make help` has them all: each that is no file and no part of another one."""
    helped = set(re.findall(r"^([a-z][\w-]*):.*##", "".join(read(p) for p in makefiles()), re.M))
    phony = set(" ".join(re.findall(r"^\.PHONY: (.*)$", "".join(read(p) for p in makefiles()), re.M)).split())
    parts = {"bench-deps", "test-programs", "install-man"}
    assert phony - helped - parts == set(), phony - helped
    assert parts <= phony
