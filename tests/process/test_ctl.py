"""tandemctl against a scripted stats socket, scripted Ollama servers and scripted engines."""

import http.server
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import threading

import pytest

from harness import BIN

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(BIN) / "tandemctl"

OK, FAILED, USAGE, NO_ENGINE, NOT_RUNNING, TIMED_OUT = range(6)


def run(*args, cwd=None, env=None, timeout=30):
    clean = {k: v for k, v in os.environ.items() if k not in ("OLLAMA_HOST", "TANDEM_RUN_DIR")}
    return subprocess.run(
        [str(PROGRAM), *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**clean, **(env or {})},
        timeout=timeout,
    )


@pytest.fixture
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="tandem-ctl-"))  # short: it holds a socket
    yield path
    shutil.rmtree(path)


# --- the stats socket -----------------------------------------------------------------------------------------------


class Stats:
    """An SP REP peer on RUNDIR/stats.ipc: answers the i-th request with answers[i], the last one from then on."""

    def __init__(self, folder, *answers):
        self.answers = [a if isinstance(a, (bytes, type(None))) else json.dumps(a).encode() for a in answers]
        self.requests = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "stats.ipc"))
        self.listener.listen(8)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(peer,), daemon=True).start()

    def talk(self, peer):
        stream = peer.makefile("rb")
        peer.sendall(b"\0SP\0" + struct.pack(">HH", 0x31, 0))
        assert stream.read(8) == b"\0SP\0" + struct.pack(">HH", 0x30, 0)
        while head := stream.read(9):
            body = stream.read(struct.unpack(">xQ", head)[0])
            answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
            self.requests.append(body[4:])
            if answer is not None:  # None: silence
                peer.sendall(struct.pack(">BQ", 1, 4 + len(answer)) + body[:4] + answer)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def stats(folder):
    started = []

    def start(*answers):
        started.append(Stats(folder, *answers))
        return started[-1]

    yield start
    for s in started:
        s.close()


def device(name, role, state="ready", **backend):
    return {
        "name": name, "roles": [role], "state": state, "pid": 4711, "generation": 1, "restarts": 3, "last_exit": None,
        "backend": {"type": "ollama", "url": "http://127.0.0.1:11434", "pid": None, "model": "m:1", **backend},
        "inflight": 2, "jobs": {"done": 10, "failed": 1},
    }  # fmt: skip


def status(*devices):
    return {
        "version": "9.8.7", "pid": 42, "uptime_s": 3723.5, "listen": "127.0.0.1:8512", "devices": list(devices),
        "requests": {"active": 1, "total": 15, "failed": 2, "cancelled": 3, "fallbacks": 4,
                     "by_strategy": {"A": 7, "B": 5, "C": 6, "small": 2}},
        "queue": {"waiting": 8},
    }  # fmt: skip


def test_status_is_a_table(folder, stats):
    server = stats(
        status(device("gpu0", "main"), device("gpu1", "condense", "back-off", detail="connection\x1b[2J refused"))
    )
    r = run("-R", folder, "status")
    assert (r.returncode, r.stderr) == (OK, "")
    assert server.requests == [b"status"]
    lines = r.stdout.splitlines()
    assert lines[0] == "tandemd 9.8.7, pid 42, up 1h02m, listening on 127.0.0.1:8512"
    assert lines[2].split() == "DEVICE ROLES STATE PID BACKEND MODEL INFLIGHT DONE FAILED RESTARTS".split()
    assert lines[3].split() == "gpu0 main ready 4711 ollama http://127.0.0.1:11434 m:1 2 10 1 3".split()
    assert lines[2].index("MODEL") == lines[3].index("m:1") == lines[4].index("m:1")
    assert lines[5] == "gpu1 is back-off: connection?[2J refused"
    assert lines[-1] == (
        "requests: 1 active, 8 waiting, 15 total (A 7, B 5, C 6, small 2), 4 fallbacks, 2 failed, 0 refused, 3 cancelled"
    )


def test_stats_has_each_histogram_in_its_unit(folder, stats):
    def told(unit, **values):
        return {"count": 4, **{f"{name}_{unit}": value for name, value in values.items()}, "buckets": []}

    server = stats({"requests": 4, "largest_prompt_tokens": 7, "devices": []},
                   {"first_byte": {"A": told("ms", sum=80, p50=10, p90=30, p99=40, max=41)},
                    "prediction_percent": {"A": told("percent", sum=480, p50=110, p90=130, p99=140, max=141)}})
    r = run("-R", folder, "stats")
    assert (r.returncode, r.stderr) == (OK, "") and server.requests == [b"counters", b"histograms"]
    lines = [line.split() for line in r.stdout.splitlines()]
    assert ["first_byte", "A", "4", "20", "10", "30", "40", "41"] in lines
    assert ["prediction_percent", "A", "4", "120%", "110%", "130%", "140%", "141%"] in lines
    assert len({line.rindex(" ") for line in r.stdout.splitlines()[:2]}) == 1  # numbers stand below each other


def test_status_json_is_what_tandemd_says(folder, stats):
    said = status(device("gpu0", "main"))
    stats(said)
    for args in (("-R", folder, "status", "--json"), ("--json", "-R", folder, "status"), ("status", "--json", "-R", folder)):
        r = run(*args)
        assert r.returncode == OK and json.loads(r.stdout) == said
    r = run("status", "--json", env={"TANDEM_RUN_DIR": str(folder)})
    assert r.returncode == OK and json.loads(r.stdout) == said


def test_status_survives_odd_answers(folder, stats):
    stats({"devices": [{"roles": "x" * 500, "name": "é" * 300, "pid": "\n" * 200}] * 40, "requests": []})
    assert run("-R", folder, "status").returncode == OK


def test_nobody_there(folder):
    r = run("-R", folder, "status")
    assert r.returncode == NOT_RUNNING
    assert r.stderr == f"tandemctl: no tandemd at {folder}; is it running?\n"
    leftover = socket.socket(socket.AF_UNIX)  # a socket whose owner is gone
    leftover.bind(str(folder / "stats.ipc"))
    leftover.close()
    assert run("-R", folder, "status").returncode == NOT_RUNNING
    r = run("status", env={"TANDEM_RUN_DIR": "", "XDG_RUNTIME_DIR": str(folder)})
    assert r.returncode == NOT_RUNNING


@pytest.mark.parametrize(
    "answer, words",
    [(None, "does not answer within 3000 ms"), (b"hello", "it does not speak JSON"), (b"[]", "it does not speak JSON")],
)
def test_somebody_else_there(folder, stats, answer, words):
    stats(answer)
    r = run("-R", folder, "status")
    assert r.returncode == FAILED and words in r.stderr and r.stdout == ""


# --- help -------------------------------------------------------------------------------------------------------------

COMMANDS = ("status top events workers jobs queues backends devices keys stats restart drain reset reload upgrade cancel wait-ready check bench logs key init").split()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_help(command):
    whole = run("--help").stdout
    said = run(command, "--help")
    assert said.returncode == OK and said.stderr == "" and said.stdout.startswith(f"Usage: tandemctl [-R RUNDIR] {command}")
    options = {line.split()[0].rstrip(",") for line in said.stdout.splitlines() if line.startswith("  -")}
    assert {"-R", "-h", "-V"} <= options and all(f"  {o}" in whole for o in options)
    for args in ((command, "-h"), ("help", command), ("-h", command), ("-R", "/tmp", "help", command), (command, "--json", "-h")):
        r = run(*args)
        if args[1] == "--json" and r.returncode == USAGE:
            assert "--json" not in said.stdout
        else:
            assert (r.returncode, r.stdout, r.stderr) == (OK, said.stdout, ""), args


def test_help_and_the_version_without_a_command():
    whole = run("--help")
    assert whole.returncode == OK and all(f"\n  {c}" in whole.stdout for c in COMMANDS)
    for args in (("-h",), ("help",), ("-R", "/tmp", "-h"), ("--json", "help"), ("help", "help")):
        assert run(*args).stdout == whole.stdout, args
    for args in (("-V",), ("--version",), ("status", "--version"), ("init", "-V")):
        r = run(*args)
        assert r.returncode == OK and r.stdout.startswith("tandemctl ") and len(r.stdout.splitlines()) == 1, args


def test_options_stand_before_the_command_or_behind_it(folder, stats):
    server = stats({"operation": 7}, operation("running"))
    before = run("--timeout", "0", "--json", "--backend", "-R", folder, "restart", "gpu1")
    assert before.returncode == TIMED_OUT and server.requests[0] == b"restart gpu1 --backend"
    assert json.loads(before.stdout.splitlines()[0])["state"] == "running"
    r = run("--once", "-R", folder, "status")
    assert r.returncode == USAGE and "unrecognized option '--once'" in r.stderr
    r = run("--port", "99999", "--output", "-", "init")
    assert r.returncode == USAGE and "--port wants 0 to 65535" in r.stderr
    r = run("--nonsense", "status")
    assert r.returncode == USAGE and "unrecognized option '--nonsense'" in r.stderr
    r = run("--json")
    assert r.returncode == USAGE and "which command?" in r.stderr
    r = run("help", "statsu")
    assert r.returncode == USAGE and "did you mean 'status'?" in r.stderr


def test_options_stand_behind_an_argument(folder):
    request = folder / "request.json"
    request.write_text('{"model": "m:1b", "messages": [{"role": "user", "content": "Hello"}]}')
    options = ("--window", "4096", "--json")
    before, behind = run("explain", *options, request), run("explain", request, *options)
    assert (behind.returncode, behind.stdout, behind.stderr) == (OK, before.stdout, "")


def test_tandemd_has_long_options(folder):
    def tandemd(*args):
        return subprocess.run([PROGRAM.parent / "tandemd", *map(str, args)], capture_output=True, text=True, timeout=20)

    assert tandemd("--help").stdout == tandemd("-h").stdout and tandemd("--help").returncode == 0
    assert tandemd("--version").stdout == tandemd("-V").stdout
    conf = folder / "none.conf"
    assert tandemd("--check", "--config", conf).stderr == tandemd("-t", "-c", conf).stderr != ""
    r = tandemd("--nonsense")
    assert r.returncode == 2 and "--nonsense" in r.stderr and "usage: tandemd" in r.stderr


# --- orders -----------------------------------------------------------------------------------------------------------


def operation(state, why=None, kind="restart", target="gpu1"):
    return {"operation": 7, "kind": kind, "target": target, "state": state, "why": why, "ms": 12}


def test_orders_are_waited_for(folder, stats):
    server = stats({"operation": 7}, operation("running"), operation("running"), operation("done", "generation 2 is ready"))
    r = run("-R", folder, "restart", "gpu1", "--backend")
    assert (r.returncode, r.stdout, r.stderr) == (OK, "restart gpu1: done: generation 2 is ready\n", "")
    assert server.requests == [b"restart gpu1 --backend"] + [b"operation 7"] * 3


@pytest.mark.parametrize("command, request_, words", [
    (("drain", "gpu0"), b"drain gpu0", "drain gpu0: done"),
    (("reset",), b"reset", "reset: done"),
    (("reset", "all"), b"reset all", "reset all: done"),
    (("restart",), b"restart", "restart: done"),
    (("reload",), b"reload", "reload: done"),
])  # fmt: skip
def test_each_order_is_one_request(folder, stats, command, request_, words):
    server = stats({"operation": 7}, operation("done"))
    r = run("-R", folder, *command)
    assert (r.returncode, r.stdout) == (OK, words + "\n") and server.requests == [request_, b"operation 7"]


def test_orders_that_fail(folder, stats):
    stats({"operation": 7}, operation("failed", "worker did not become ready"))
    r = run("-R", folder, "restart", "gpu1")
    assert (r.returncode, r.stdout) == (FAILED, "")
    assert r.stderr == "tandemctl: restart gpu1: failed: worker did not become ready\n"


def test_orders_that_are_refused_or_forgotten(folder, stats):
    server = stats({"error": "no device gpu9"}, {"operation": 7}, {"error": "no such operation"})
    r = run("-R", folder, "restart", "gpu9")
    assert (r.returncode, r.stderr) == (FAILED, "tandemctl: no device gpu9\n") and len(server.requests) == 1
    r = run("-R", folder, "drain", "gpu0")
    assert (r.returncode, r.stderr) == (FAILED, "tandemctl: no such operation\n")


def test_orders_that_take_too_long(folder, stats):
    stats({"operation": 7}, operation("running"))
    r = run("-R", folder, "drain", "gpu0", "--timeout", 0)
    assert (r.returncode, r.stderr) == (TIMED_OUT, "tandemctl: drain gpu0: still under way\n")
    r = run("-R", folder, "drain", "gpu0", "--timeout", 0, "--json")
    assert r.returncode == TIMED_OUT and json.loads(r.stdout) == operation("running")


def test_an_upgrade_is_done_when_another_tandemd_answers(folder, stats):
    old, new = status(device("gpu0", "main")), {**status(device("gpu0", "main")), "pid": 4711}
    unknown = {"error": "no such operation"}
    server = stats(old, {"operation": 7}, operation("running", kind="upgrade"), unknown, old, unknown, new)
    r = run("-R", folder, "upgrade")
    assert (r.returncode, r.stdout) == (OK, "upgrade: done: a new tandemd has taken over\n")
    assert server.requests == [b"status", b"upgrade", b"operation 7", b"operation 7", b"status", b"operation 7", b"status"]


def test_an_upgrade_that_is_rolled_back(folder, stats):
    stats(status(), {"operation": 7}, operation("failed", "the new tandemd exited with status 1", kind="upgrade"))
    r = run("-R", folder, "upgrade")
    assert r.returncode == FAILED and "the new tandemd exited with status 1" in r.stderr


def test_an_upgrade_lives_with_nobody_there_for_a_moment(folder):
    first = Stats(folder, status(), {"operation": 7})
    process = subprocess.Popen([str(PROGRAM), "-R", str(folder), "upgrade"], stdout=subprocess.PIPE, text=True)
    while b"operation 7" not in first.requests:
        assert process.poll() is None
    first.close()
    (folder / "stats.ipc").unlink()
    second = Stats(folder, {"error": "no such operation"}, {**status(), "pid": 4711})
    assert process.communicate(timeout=20)[0] == "upgrade: done: a new tandemd has taken over\n" and process.returncode == OK
    second.close()


# --- wait-ready -----------------------------------------------------------------------------------------------------


def test_wait_ready_shows_each_change_once(folder, stats):
    loading = status(
        device("gpu0", "main", "spawning"), device("gpu1", "condense", "loading", detail="loading the model")
    )
    half = status(device("gpu0", "main"), device("gpu1", "condense", "loading", detail="loading the model"))
    stats(loading, loading, half, half, status(device("gpu0", "main"), device("gpu1", "condense")))
    r = run("-R", folder, "wait-ready", "--timeout", 20)
    assert r.returncode == OK
    assert r.stderr.splitlines() == [
        "gpu0: spawning", "gpu1: loading (loading the model)", "gpu0: ready, m:1", "gpu1: ready, m:1",
    ]  # fmt: skip


def test_wait_ready_waits_for_the_socket(folder):
    process = subprocess.Popen(
        [str(PROGRAM), "-R", str(folder), "wait-ready", "--timeout", "20"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr.readline() == f"waiting for tandemd at {folder}\n"
    server = Stats(folder, status(device("gpu0", "main")))
    assert process.wait(20) == OK
    assert process.stderr.read() == "gpu0: ready, m:1\n"
    process.stderr.close()
    server.close()


def test_wait_ready_at_the_deadline(folder, stats):
    assert run("-R", folder, "wait-ready", "--timeout", 0).returncode == NOT_RUNNING
    stats(
        status(device("gpu0", "main"), device("gpu1", "condense", "loading")),
        status(device("gpu0", "main", "loading"), device("gpu1", "condense")),
    )
    r = run("-R", folder, "wait-ready", "--timeout", 0)
    assert r.returncode == OK and "not every device is" in r.stderr
    r = run("-R", folder, "wait-ready", "--timeout", 0)
    assert r.returncode == FAILED and "no main device is ready" in r.stderr


def test_wait_ready_gives_up_on_what_failed_for_good(folder, stats):
    stats(
        status(device("gpu0", "main"), device("gpu1", "condense", "failed", detail="out of memory")),
        status(device("gpu0", "main", "failed"), device("gpu1", "condense")),
    )
    r = run("-R", folder, "wait-ready", "--timeout", 60)
    assert r.returncode == OK and "gpu1: failed (out of memory)" in r.stderr
    assert run("-R", folder, "wait-ready", "--timeout", 60).returncode == FAILED


# --- usage and check ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args, words",
    [
        ((), "which command?"),
        (("statsu",), "unknown command 'statsu', did you mean 'status'?"),
        (("x",), "unknown command 'x'"),
        (("status", "now"), "status takes no argument 'now'"),
        (("status", "--jsn2"), "--jsn2"),
        (("status", "--backend"), "--backend"),
        (("drain",), "drain wants one DEVICE"),
        (("drain", "a", "b"), "drain wants one DEVICE"),
        (("cancel",), "cancel wants one REQUEST-ID"),
        (("restart", "a", "b"), "restart takes no argument 'b'"),
        (("reload", "x"), "reload takes no argument 'x'"),
        (("events", "--count", "0"), "--count wants a number from 1"),
        (("wait-ready", "--timeout", "1s"), "--timeout wants seconds"),
        (("check",), "check wants one file"),
        (("init", "x"), "init takes no argument 'x'"),
        (("init", "--port", "70000"), "--port wants 0 to 65535"),
        (("init", "--engine", "/bin/true"), "--engine and --model-file go together"),
        (("init", "--ollama", "h:123456789"), "--ollama wants http://host:port"),
    ],
)
def test_wrong_usage(args, words):
    r = run(*args)
    assert r.returncode == USAGE and words in r.stderr and r.stdout == ""


def test_help_and_version():
    r = run("--help")
    assert r.returncode == OK
    for word in ("status", "wait-ready", "check FILE", "init", "--engine-devices", "Exit codes"):
        assert word in r.stdout
    assert run("--version").stdout.startswith("tandemctl ")


def test_check(folder):
    r = run("check", ROOT / "etc" / "tandem.conf")
    assert r.returncode == OK and "2 devices, 127.0.0.1:8512" in r.stdout
    bad = folder / "bad.conf"
    bad.write_text("\nlisten = { prot = 1; };\n")
    r = run("check", bad)
    assert r.returncode == FAILED and r.stdout == ""
    assert r.stderr.splitlines() == [
        f"{bad}:2: listen.prot: unknown key, did you mean 'port'?", f"{bad}: devices: no device is configured",
    ]  # fmt: skip
    assert run("check", folder / "none").returncode == FAILED


# --- init -----------------------------------------------------------------------------------------------------------


class Ollama:
    def __init__(self, models, loaded=(), version={"version": "0.33.0"}):
        pages = {"/api/version": version, "/api/tags": {"models": models}, "/api/ps": {"models": list(loaded)}}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                page = pages.get(self.path)
                self.send_response(200 if page is not None else 404)
                self.end_headers()
                self.wfile.write(json.dumps(page).encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def ollama():
    started = []

    def start(*args, **kw):
        started.append(Ollama(*args, **kw))
        return started[-1]

    yield start
    for o in started:
        o.close()


def model(name, size, **details):
    return {"name": name, "size": size, "details": {"family": "qwen2", **details}}


MODELS = [
    model("nomic-embed-text:latest", 10, family="nomic-bert"),
    model("small:1b", 1 << 30),
    model("large:32b", 20 << 30),
    model("middle:7b", 5 << 30, context_length=8192),
    {"name": "huge-cloud", "size": 1 << 40, "remote_host": "https://ollama.com"},
    {**model("embed-by-capability", 1 << 35), "capabilities": ["embedding"]},
]


def init(folder, *args, **kw):
    r = run("init", "-o", folder / "t.conf", "--run-dir", folder / "run", *args, **kw)
    text = (folder / "t.conf").read_text() if (folder / "t.conf").exists() else ""
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []
    if text:
        check = run("check", folder / "t.conf")
        assert check.returncode == OK, check.stderr + text
    return r, text


def test_init_with_one_ollama(folder, ollama):
    server = ollama(MODELS)
    r, text = init(folder, "--ollama", server.url, "--port", 9000)
    assert r.returncode == OK
    assert "port = 9000;" in text and f'run_dir = "{folder}/run";' in text
    assert 'model = "large:32b";' in text and "num_ctx = 16384;" in text and server.url in text
    assert 'roles = [ "condense" ];' not in text and "Only one Ollama answered" in text
    assert "large:32b" in r.stdout and "condense: no device" in r.stdout and "wrote" in r.stdout
    assert (folder / "t.conf").stat().st_mode & 0o777 == 0o644


def test_init_with_two_ollamas(folder, ollama):
    first = ollama(MODELS, [{"name": "middle:7b", "context_length": 12288}])
    second = ollama(MODELS)
    r, text = init(folder, "--ollama", first.url, "--ollama", second.url)
    assert r.returncode == OK
    main, small = text.split('name = "gpu1"')
    assert 'model = "middle:7b";' in main and "num_ctx = 12288;" in main and first.url in main
    assert 'model = "small:1b";' in small and "num_ctx = 4096;" in small and second.url in small
    assert "loaded right now" in r.stdout and "chunk_tokens" not in text


@pytest.mark.parametrize("servers, small", [(1, "gpu0"), (2, "gpu1")])
def test_init_writes_aliases_to_be_uncommented(folder, ollama, servers, small):
    _, text = init(folder, *[x for _ in range(servers) for x in ("--ollama", ollama(MODELS).url)])
    commented = text[text.index("# models = ("):]
    assert f'{{ match = "claude-*haiku*"; use = "{small}"; }},' in commented and '{ match = "gpt-*"; use = "gpu0"; }' in commented
    used = text.replace(commented, "".join(line.removeprefix("# ") for line in commented.splitlines(keepends=True)))
    for content, rc in ((used, OK), (used.replace('"claude-*haiku*"', '"*"'), FAILED)):
        (folder / "used.conf").write_text(content)
        assert run("check", folder / "used.conf").returncode == rc, content


def test_init_fits_chunks_to_a_small_window(folder, ollama):
    first, second = ollama(MODELS), ollama([model("tiny", 5, context_length=2048)])
    _, text = init(folder, "--ollama", first.url, "--ollama", second.url)
    assert "num_ctx = 2048;" in text and "chunk_tokens = 992;" in text


def test_init_asks_ollama_host(folder, ollama):
    server = ollama(MODELS)
    r, text = init(folder, env={"OLLAMA_HOST": server.url.replace("http://127.0.0.1", "0.0.0.0")})
    assert r.returncode == OK
    assert server.url in text.split("gpu1")[0]


@pytest.mark.parametrize("kind", ["no model", "embeddings only", "no ollama", "nobody"])
def test_init_needs_an_engine(folder, ollama, kind):
    url = {
        "no model": lambda: ollama([]).url,
        "embeddings only": lambda: ollama(MODELS[:1]).url,
        "no ollama": lambda: ollama(MODELS, version=["?"]).url,
        "nobody": lambda: "127.0.0.1:1",
    }[kind]()
    r, text = init(folder, "--ollama", url)
    assert r.returncode == NO_ENGINE and text == ""
    assert "--engine" in r.stderr and "--model-file" in r.stderr


@pytest.fixture
def engine(folder):
    """An engine and a model whose paths need quoting."""
    place = folder / 'a "quoted" \\ place'
    place.mkdir()
    program, gguf = place / "llama-server", place / "Tiny-Q4.gguf"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    gguf.write_bytes(b"GGUF")
    return program, gguf


def test_init_with_an_engine_on_the_cpu(folder, engine):
    program, gguf = engine
    r, text = init(folder, "--no-ollama", "--engine", program, "--engine-lib", program.parent, "--model-file", gguf)
    assert r.returncode == OK, r.stderr
    quoted = str(program).replace("\\", "\\\\").replace('"', '\\"')
    assert f'"{quoted}"' in text and '"env", "LD_LIBRARY_PATH=' in text
    assert text.count('"--alias", "Tiny-Q4"') == 2 and text.count('model = "Tiny-Q4";') == 2
    assert '"-c", "8192", "-np", "1"' in text and '"-c", "8192", "-np", "2"' in text
    assert "num_ctx = 8192;" in text and "num_ctx = 4096;" in text
    assert 'name = "cpu0"; roles = [ "main" ];' in text and 'name = "cpu1"; roles = [ "condense" ];' in text
    assert "--device" not in text and "-ngl" not in text
    assert "the CPU" in r.stdout


LISTED = """Available devices:
  Vulkan0: NVIDIA GeForce RTX 3060 (12288 MiB, 11900 MiB free)
  Vulkan1: llvmpipe (LLVM 15.0.6, 256 bits) (64000 MiB, 64000 MiB free)
  CUDA0: NVIDIA GeForce GTX 1650 (4096 MiB, 3900 MiB free)
  CUDA1: NVIDIA GeForce RTX 3060 (12288 MiB, 11900 MiB free)
"""


def test_init_with_two_gpus(folder, engine):
    program, gguf = engine
    r, text = init(
        folder, "--no-ollama", "--engine", program, "--model-file", gguf, "--model-name", "tiny",
        "--engine-devices", LISTED,
    )  # fmt: skip
    assert r.returncode == OK
    main, small = text.split('name = "gpu1"')
    assert '"-ngl", "99", "--device", "CUDA1"' in main and '"-ngl", "99", "--device", "CUDA0"' in small
    assert "RTX 3060" in r.stdout and "GTX 1650" in r.stdout and 'model = "tiny";' in text
    assert "LD_LIBRARY_PATH" not in text


def test_init_with_one_gpu(folder, engine):
    program, gguf = engine
    listed = "\n".join(LISTED.splitlines()[:3])
    r, text = init(folder, "--no-ollama", "--engine", program, "--model-file", gguf, "--engine-devices", listed)
    assert r.returncode == OK
    main, small = text.split('name = "cpu1"')
    assert '"-ngl", "99", "--device", "Vulkan0"' in main and '"-ngl", "0", "--device", "none"' in small
    assert "Vulkan1" not in text


def test_init_names_what_is_missing(folder, engine):
    program, gguf = engine
    for args in (
        ("--engine", folder / "none", "--model-file", gguf),
        ("--engine", program, "--model-file", folder / "none"),
        ("--engine", program, "--model-file", gguf, "--engine-lib", folder / "none"),
    ):
        r, text = init(folder, "--no-ollama", *args)
        assert r.returncode == FAILED and text == ""
        assert f"{folder}/none: No such file or directory" in r.stderr


def test_init_overwrites_only_when_told(folder, ollama):
    server = ollama(MODELS)
    target = folder / "t.conf"
    target.write_text("mine")
    r = run("init", "-o", target, "--ollama", server.url)
    assert r.returncode == FAILED and "--force" in r.stderr and target.read_text() == "mine"
    r, text = init(folder, "--ollama", server.url, "--force")
    assert r.returncode == OK and "large:32b" in text


def test_init_writes_nothing_that_check_refuses(folder, ollama):
    server = ollama(MODELS)
    r = run("init", "-o", folder / "t.conf", "--ollama", server.url, "--run-dir", "relative")
    assert r.returncode == FAILED and "run_dir: must be an absolute path" in r.stderr
    assert list(folder.iterdir()) == []
    r = run("init", "-o", folder / "no" / "t.conf", "--ollama", server.url)
    assert r.returncode == FAILED and "No such file or directory" in r.stderr


def test_init_to_stdout_and_by_default(folder, ollama):
    server = ollama(MODELS)
    r = run("init", "-o", "-", "--ollama", server.url)
    assert r.returncode == OK and r.stdout.startswith("#") and "large:32b at" in r.stderr
    r = run("init", "--ollama", server.url, cwd=folder)
    assert r.returncode == OK and (folder / "tandem.conf").exists()
