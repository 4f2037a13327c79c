"""A real tandem-worker against scripted backends; link-driver plays the supervisor."""

import itertools
import json
import os
import queue
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.error

import pytest

from harness import BIN, DEADLINE, alive, fd_count, free_port, inherited, spent, wait_for
from wire import tuned

OLLAMA_CHAT, OLLAMA_GENERATE, OPENAI_CHAT, ANTHROPIC = 0, 1, 2, 7
SANITIZED = bool(os.environ.get("TANDEM_SANITIZED"))


class Link:
    """One worker and the driver of its link."""

    def __init__(self, folder, name="w", stdin=subprocess.DEVNULL, generation=7, env=None):
        self.url = f"ipc://{folder}/{name}.ipc"
        self.records = []
        self.lines = queue.Queue()
        self.driver = subprocess.Popen([os.path.join(BIN, "link-driver"), self.url, str(generation)],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        self.wait("listening")
        self.log_path = os.path.join(folder, name + ".log")
        self.log_file = open(self.log_path, "ab")
        self.worker = subprocess.Popen([os.path.join(BIN, "tandem-worker"), "--link", self.url, "--generation",
                                        str(generation), "--device", "gpu0"], stdin=stdin, stdout=self.log_file,
                                       stderr=self.log_file, env={**os.environ, **(env or {})})
        self.ids = itertools.count(1)

    def _read(self):
        for line in self.driver.stdout:
            self.lines.put(json.loads(line))

    def do(self, what, **args):
        self.driver.stdin.write(json.dumps({"do": what, **args}) + "\n")
        self.driver.stdin.flush()

    def wait(self, type, deadline=DEADLINE, **members):
        """The first record not yet waited past that has this type and these members."""
        end = time.monotonic() + deadline
        while True:
            try:
                r = self.lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {type} {members}; got {self.records[-8:]}\n{self.log()[-3000:]}") from None
            self.records.append(r)
            if r["type"] == type and all(r.get(k) == v for k, v in members.items()):
                return r

    def ready(self, **ack):
        hello = self.wait("hello")
        assert hello["pid"] == self.worker.pid and hello["device"] == "gpu0"
        self.do("ack", **ack)
        state = self.wait("state", state="ready")
        self.wait("models", last=1)
        return state

    def job(self, kind="chat", **args):
        id = next(self.ids)
        self.do("job", id=id, kind=kind, request_id=f"r{id}", **args)
        return id

    def result(self, id, deadline=DEADLINE):
        """(START or None, answer bytes, END or FAIL) of a job."""
        start, data = None, bytearray()
        end = time.monotonic() + deadline
        while True:
            try:
                r = self.lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"job {id} does not end; got {self.records[-8:]}\n{self.log()[-3000:]}") from None
            self.records.append(r)
            if r["job"] != id:
                continue
            if r["type"] == "start":
                start = r
            elif r["type"] == "DELTA":
                data += bytes.fromhex(r["hex"])
            elif r["type"] in ("end", "fail"):
                return start, bytes(data), r

    def chat(self, dialect=OLLAMA_CHAT, deadline=DEADLINE, **body):
        return self.result(self.job(dialect=dialect, body=json.dumps(body)), deadline)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def rss(self):
        with open(f"/proc/{self.worker.pid}/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))

    def close(self):
        self.driver.stdin.close()
        self.driver.wait(10)
        code = None
        try:
            code = self.worker.wait(15)
        finally:
            if self.worker.poll() is None:
                self.worker.kill()
            self.log_file.close()
        log = self.log()
        assert "runtime error" not in log and "Sanitizer" not in log, log[-8000:]
        return code


@pytest.fixture
def link(folder):
    links = []

    def start(name="w", **options):
        links.append(Link(folder, name, **options))
        return links[-1]

    yield start
    for x in links:
        x.close()


def header(start, name):
    return next((v for n, v in start["headers"] if n.lower() == name.lower()), None)


def user(text):
    return [{"role": "user", "content": text}]


# --- chat ---


@pytest.mark.parametrize("type,dialect", [("ollama", OLLAMA_CHAT), ("llama-server", OPENAI_CHAT)])
def test_a_raw_request_reaches_the_backend_byte_for_byte(link, fake, type, dialect):
    backend = fake("b", type=type)
    w = link()
    w.ready(type=type, url=backend.url)
    body = ('{ "model" : "m:1b","x":9007199254740993.000, "x":1e400,\n"messages":[{"role":"user",'
            '"content":"a\\u0000b \\ud83d\\ude00 \u00e9","unknown":[1, 2]}], "stream": true }')
    before = len(backend.bodies())
    start, data, end = w.result(w.job(dialect=dialect, body=body))
    sent = tuned(body.encode(), 0) if type == "ollama" else body.encode()
    assert backend.bodies()[-1] == sent and len(backend.bodies()) > before
    assert end["type"] == "end" and end["finish"] == "stop" and end["output_tokens"] == 16
    assert start["status"] == 200
    # the answer's own bytes: whatever was sent is a whole stream of the backend's
    if dialect == OLLAMA_CHAT:
        assert header(start, "content-type") == "application/x-ndjson"
        lines = data.decode().splitlines()
        assert json.loads(lines[-1])["done"] and all(json.loads(x) for x in lines)
    else:
        assert header(start, "content-type").startswith("text/event-stream")
        assert data.endswith(b"data: [DONE]\n\n")


def test_a_raw_answer_comes_back_byte_for_byte(link):
    """A backend that answers with bytes no writer of ours would produce, split at odd places."""
    answer = (b' {"model":"m","message":{"role":"assistant","content":"a\\u0041\\/"},"n":1.10,"done":false}\n'
              b'{"done":true,"done_reason":"stop","message":{"role":"assistant","content":""},'
              b'"eval_count":3, "prompt_eval_count":2}\n')
    with raw_backend(lambda path, n: chunked(answer, 7, "application/x-ndjson")) as url:
        w = link()
        w.ready(type="ollama", url=url)
        start, data, end = w.chat(model="m", messages=user("x"))
        assert data == answer
        assert end["type"] == "end" and end["output_tokens"] == 3 and end["prompt_tokens"] == 2


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("type,dialect", [("ollama", OPENAI_CHAT), ("llama-server", OLLAMA_CHAT),
                                          ("llama-server", OLLAMA_GENERATE)])
def test_a_translated_answer_is_in_the_clients_dialect(link, fake, type, dialect, stream):
    backend = fake("b", type=type)
    w = link()
    w.ready(type=type, url=backend.url)
    text = "Say it. [[fake text=hello%20world]]"
    body = {"model": "m:1b", "stream": stream}
    body.update({"prompt": text} if dialect == OLLAMA_GENERATE else {"messages": user(text)})
    start, data, end = w.chat(dialect=dialect, **body)
    assert end["type"] == "end" and end["finish"] == "stop" and end["prompt_tokens"] > 0
    answer = data.decode()
    if not stream:
        assert start["body_bytes"] == len(data) and header(start, "content-type").startswith("application/json")
        whole = json.loads(answer)
    if dialect == OPENAI_CHAT:
        if stream:
            assert header(start, "content-type") == "text/event-stream"
            events = [json.loads(x[6:]) for x in answer.split("\n\n") if x.startswith("data: {")]
            assert answer.endswith("data: [DONE]\n\n")
            said = "".join(c["delta"].get("content") or "" for e in events for c in e["choices"])
        else:
            said = whole["choices"][0]["message"]["content"]
    else:
        objects = [json.loads(x) for x in answer.splitlines()] if stream else [whole]
        assert objects[-1]["done"] is True
        said = "".join(o["response"] if dialect == OLLAMA_GENERATE else o["message"]["content"] for o in objects)
    assert said == "hello world"


@pytest.mark.measured
def test_a_large_body_is_parsed_while_the_loop_goes_on(link, folder):
    """Between two pings the loop's own thread never works for long; its CPU time is measured, whatever else runs here."""
    answer = b'{"message":{"role":"assistant","content":"x"},"done":true,"done_reason":"stop"}\n'
    path = os.path.join(folder, "body")
    with open(path, "w") as f:
        json.dump({"model": "m", "stream": False, "messages": user("abc \n\"\\" * (10 << 20))}, f)
    with raw_backend(lambda path, n: chunked(answer, 100, "application/x-ndjson")) as url:
        w = link()
        w.ready(type="ollama", url=url)

        def loop_cpu_ms():
            with open(f"/proc/{w.worker.pid}/task/{w.worker.pid}/schedstat") as f:
                return int(f.read().split()[0]) / 1e6

        id = w.job(dialect=OPENAI_CHAT, body_file=path)  # 100 MB, translated
        work, seq, ended = [loop_cpu_ms()], 0, None
        w.do("ping", seq=0)
        while not ended:
            r = w.lines.get(timeout=60)
            if r["type"] == "pong":
                work.append(loop_cpu_ms())
                seq += 1
                w.do("ping", seq=seq)
            elif r["job"] == id and r["type"] in ("end", "fail"):
                ended = r
        assert ended["type"] == "end", ended
        longest = max(b - a for a, b in zip(work, work[1:]))
        if not SANITIZED:
            assert longest < 60, f"{longest:.0f} ms of work between two pings"


@pytest.mark.parametrize("dialect,body,status", [
    (OLLAMA_CHAT, '{"model":"m:1b","messages":', 400),
    (OPENAI_CHAT, '[]', 400),
    (OPENAI_CHAT, '', 400),
])
def test_a_bad_request_is_refused_with_words(link, fake, dialect, body, status):
    w = link()
    w.ready(type="ollama", url=fake("b").url)
    start, data, fail = w.result(w.job(dialect=dialect, body=body))
    assert (fail["type"], fail["cause"], fail["status"]) == ("fail", "refused", status) and fail["message"]


def test_a_body_over_the_cap_is_refused(link, fake):
    w = link()
    w.ready(type="ollama", url=fake("b").url, body_bytes=100_000)
    _, _, fail = w.chat(model="m:1b", messages=user("x" * 100_000))
    assert (fail["cause"], fail["status"]) == ("too_large", 413)
    _, _, fail = w.result(w.job(dialect=0, body="y" * 300_000, length=-1))
    assert (fail["cause"], fail["status"]) == ("too_large", 413)
    assert w.chat(model="m:1b", messages=user("x"))[2]["type"] == "end"


# --- failures of the backend ---

FAULTS = [
    # directive, cause, is START out
    ("fault=refuse", "cut", False),
    ("fault=badhttp", "garbage", False),
    ("fault=garbage", "garbage", False),
    ("garbage_after=3", "garbage", True),
    ("cut=3", "cut", True),
    ("end=3", "cut", True),
    ("hugeline=70000", "too_large", False),
]


@pytest.mark.parametrize("type,dialect", [("ollama", OLLAMA_CHAT), ("ollama", OPENAI_CHAT),
                                          ("llama-server", OPENAI_CHAT), ("llama-server", OLLAMA_CHAT)])
def test_each_fault_has_its_cause(link, fake, type, dialect):
    backend = fake("b", type=type, options=["--decode", "2000"])
    w = link()
    w.ready(type=type, url=backend.url, line_bytes=60000)
    for directive, cause, started in FAULTS:
        start, data, fail = w.chat(dialect=dialect, model="m:1b", stream=True, messages=user(f"[[fake {directive}]]"))
        assert (directive, fail["type"], fail.get("cause")) == (directive, "fail", cause)
        # A raw line goes on only when it is whole; llama-server says the role in an event of its own before it.
        role = type == "llama-server" and dialect == OPENAI_CHAT and "hugeline" in directive
        assert bool(start) == (started or role), (directive, start, data[:200])
        assert 500 <= fail["status"] < 600 or cause == "too_large"
    # whole again
    assert w.chat(dialect=dialect, model="m:1b", messages=user("x"))[2]["type"] == "end"


@pytest.mark.parametrize("directive,cause", [("fault=garbage", "garbage"), ("fault=refuse", "cut"), ("cut=1", "cut")])
@pytest.mark.parametrize("dialect", [OLLAMA_CHAT, OPENAI_CHAT])
def test_a_faulty_answer_that_is_no_stream_never_starts(link, fake, dialect, directive, cause):
    w = link()
    w.ready(type="ollama", url=fake("b").url)
    start, data, fail = w.chat(dialect=dialect, model="m:1b", stream=False, messages=user(f"[[fake {directive}]]"))
    assert start is None and data == b"" and fail["cause"] == cause


@pytest.mark.parametrize("type", ["ollama", "llama-server"])
@pytest.mark.parametrize("dialect", [OLLAMA_CHAT, OPENAI_CHAT])
def test_an_error_status_is_kept_in_the_clients_dialect(link, fake, type, dialect):
    w = link()
    w.ready(type=type, url=fake("b", type=type).url)
    for status in (400, 404, 500, 503):
        start, data, fail = w.chat(dialect=dialect, model="m:1b",
                                   messages=user(f"[[fake fault={status} error=no+good+{status}]]"))
        assert start is None and (fail["cause"], fail["status"]) == ("status", status)
        assert fail["message"] == f"no good {status}"
        error = json.loads(bytes.fromhex(fail["body"]))["error"]
        assert (error if dialect == OLLAMA_CHAT else error["message"]) == f"no good {status}"
        assert "json" in fail["content_type"]


@pytest.mark.parametrize("dialect", [OLLAMA_CHAT, OPENAI_CHAT])
def test_an_overflow_is_said_in_words_that_clients_know(link, fake, dialect):
    w = link()
    w.ready(type="llama-server", url=fake("b", type="llama-server", options=["--num-ctx", "512"]).url)
    _, _, fail = w.chat(dialect=dialect, model="m:1b", messages=user("word " * 2000))
    assert (fail["cause"], fail["status"]) == ("overflow", 400)
    assert "maximum context length is 512 tokens" in bytes.fromhex(fail["body"]).decode()


def test_an_error_in_mid_stream(link, fake):
    backend = fake("b", options=["--decode", "2000"])
    w = link()
    w.ready(type="ollama", url=backend.url)
    text = "[[fake error_after=3 error=it+broke]]"
    # raw: the client has the backend's own line already
    start, data, end = w.chat(model="m:1b", messages=user(text))
    assert end["type"] == "end" and end["finish"] == "error"
    assert json.loads(data.decode().splitlines()[-1])["error"] == "it broke"
    # translated: ours to say
    start, data, fail = w.chat(dialect=OPENAI_CHAT, model="m:1b", stream=True, messages=user(text))
    assert start and b"it broke" not in data
    assert (fail["cause"], fail["status"], fail["message"]) == ("status", 500, "it broke")


def test_a_hang_ends_at_the_jobs_deadline_and_silence_at_the_idle_limit(link, fake):
    backend = fake("b", options=["--decode", "2000"])
    w = link()
    w.ready(type="ollama", url=backend.url, idle_ms=1000)
    id = w.job(dialect=0, body=json.dumps({"model": "m:1b", "messages": user("[[fake fault=hang]]")}), timeout_ms=200)
    start, _, fail = w.result(id)
    assert start is None and (fail["cause"], fail["status"]) == ("timeout", 504)
    start, _, fail = w.chat(model="m:1b", messages=user("[[fake hang_after=2]]"))
    assert start and fail["cause"] == "timeout"
    wait_for(lambda: backend.stats()["requests"]["active"] == 0, "end of both requests at the backend")


def test_a_slow_drip_is_no_failure(link, fake):
    w = link()
    w.ready(type="ollama", url=fake("b").url, idle_ms=1500)
    begun = time.monotonic()
    _, data, end = w.chat(model="m:1b", messages=user("[[fake tokens=3 drip=5]]"))
    assert end["type"] == "end" and len(data.splitlines()) == 4
    assert time.monotonic() - begun > 1.5, "no longer than the limit"


def test_a_wrong_content_type_is_put_right(link, fake):
    w = link()
    w.ready(type="ollama", url=fake("b").url)
    start, _, end = w.chat(model="m:1b", messages=user("[[fake ctype=1]]"))
    assert end["type"] == "end" and header(start, "content-type") == "application/x-ndjson"


def test_random_bytes_instead_of_answers_never_kill_the_worker(link):
    """Any bytes after a good head, cut anywhere: a FAIL or an END, never a crash, and memory stays."""
    rng = random.Random(5)
    good = b'{"model":"m","message":{"role":"assistant","content":"hi"},"done":false}\n'

    def answer(path, n):
        body = bytearray(good * rng.randrange(1, 20))
        for _ in range(rng.randrange(1, 8)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        out = chunked(bytes(body), rng.randrange(1, 100), "application/x-ndjson")
        return out[:rng.randrange(len(out))] if rng.random() < 0.5 else out

    with raw_backend(answer) as url:
        w = link()
        w.ready(type="ollama", url=url)
        for i in range(200):
            _, _, last = w.chat(dialect=rng.choice([OLLAMA_CHAT, OPENAI_CHAT]), model="m", messages=user("x"))
            assert last["type"] == "end" or last["cause"] in ("garbage", "cut"), last
        assert w.worker.poll() is None


# --- flow control ---


def test_answer_bytes_stop_at_the_credit_and_go_on_with_it(link, fake):
    backend = fake("b")
    w = link()
    w.ready(type="ollama", url=backend.url)
    body = json.dumps({"model": "m:1b", "messages": user("[[fake tokens=20000]]")})
    id = w.job(dialect=0, body=body, credit=False, num_ctx=100000)
    got = 0
    while got < 262144:
        got += len(w.wait("DELTA", job=id)["hex"]) // 2
    assert got == 262144
    # nothing more comes: the answer to a ping is the next record
    w.do("ping", seq=1)
    assert w.lines.get(timeout=DEADLINE)["type"] == "pong"
    w.do("credit", id=id, bytes=1000)
    more = 0
    while more < 1000:
        more += len(w.wait("DELTA", job=id)["hex"]) // 2
    assert more == 1000
    w.do("credit", id=id, bytes=1 << 30)
    _, data, end = w.result(id)
    assert end["type"] == "end" and json.loads(data.splitlines()[-1])["done"]


def test_a_client_that_reads_nothing_is_not_silence(link, fake):
    backend = fake("b")
    w = link()
    w.ready(type="ollama", url=backend.url, idle_ms=600)
    body = json.dumps({"model": "m:1b", "messages": user("[[fake tokens=20000]]")})
    id = w.job(dialect=0, body=body, credit=False, num_ctx=100000)
    got = 0
    while got < 262144:
        got += len(w.wait("DELTA", job=id)["hex"]) // 2
    # an idle limit that counted would have passed twice when this hang has been noticed
    other = w.job(dialect=0, body=json.dumps({"model": "m:1b", "messages": user("[[fake fault=hang]]")}), timeout_ms=1500)
    assert w.result(other)[2]["cause"] == "timeout"
    w.do("credit", id=id, bytes=1 << 30)
    assert w.result(id)[2]["type"] == "end"


# --- cancel ---


@pytest.mark.parametrize("type,dialect", [("ollama", OLLAMA_CHAT), ("llama-server", OPENAI_CHAT)])
def test_a_cancel_is_seen_by_the_backend_within_100_ms(link, fake, type, dialect):
    backend = fake("b", type=type, options=["--decode", "50", "--prefill", "500"])
    w = link()
    w.ready(type=type, url=backend.url)
    for text in ("[[fake tokens=1000]]", "word " * 2000):  # while decoding, while prefilling
        cancelled = backend.stats()["requests"]["cancelled"]
        body = {"model": "m:1b", "stream": True, "messages": user(text)}
        id = w.job(dialect=dialect, body=json.dumps(body))
        if text[0] == "[":
            w.wait("DELTA", job=id)
        else:
            wait_for(lambda: backend.stats()["slots"]["active"] == 1, "prefill")
        began = time.monotonic()
        w.do("cancel", id=id)
        fail = w.wait("fail", job=id)
        assert fail["cause"] == "cancelled"
        wait_for(lambda: backend.stats()["requests"]["cancelled"] == cancelled + 1, "cancel at the backend")
        if not SANITIZED:
            assert spent(began) < 0.1
    assert w.chat(dialect=dialect, model="m:1b", messages=user("x"))[2]["type"] == "end"


def test_a_cancel_does_not_abort_a_load(link, fake):
    backend = fake("b", options=["--load-ms", "700", "--decode", "20"])
    w = link()
    w.ready(type="ollama", url=backend.url)
    id = w.job(dialect=0, num_ctx=8192, body=json.dumps({"model": "m:1b", "messages": user("[[fake tokens=1000]]")}))
    wait_for(lambda: backend.stats()["requests"]["by_path"].get("/api/chat") == 1, "request at the backend")
    began = time.monotonic()
    w.do("cancel", id=id)
    assert w.wait("fail", job=id)["cause"] == "cancelled"
    assert spent(began) < 0.5, "the supervisor is told at once"
    wait_for(lambda: backend.stats()["requests"]["cancelled"] == 1, "cancel at the backend, after the load")
    stats = backend.stats()
    assert (stats["loads"], stats["loads_aborted"], stats["reloads"]) == (1, 0, 0)
    # the same window again: no reload
    _, _, end = w.result(w.job(dialect=0, num_ctx=8192, body=json.dumps({"model": "m:1b", "messages": user("x")})))
    assert end["type"] == "end" and backend.stats()["loads"] == 1


def test_a_cancel_of_what_waits_for_a_slot_is_quick_when_the_model_has_just_answered(link, fake):
    backend = fake("b", options=["--decode", "20"])
    w = link()
    w.ready(type="ollama", url=backend.url)
    assert w.chat(model="m:1b", messages=user("x"))[2]["type"] == "end"
    first = w.job(dialect=0, body=json.dumps({"model": "m:1b", "messages": user("[[fake tokens=10000]]")}))
    w.wait("DELTA", job=first)
    second = w.job(dialect=0, body=json.dumps({"model": "m:1b", "messages": user("y")}))
    wait_for(lambda: backend.stats()["slots"]["waiting"] == 1, "waiting request")
    w.do("cancel", id=second)
    w.wait("fail", job=second)
    wait_for(lambda: backend.stats()["slots"]["waiting"] == 0, "cancel at the backend", 1)
    w.do("cancel", id=first)
    w.wait("fail", job=first)


# --- warming ---


@pytest.mark.parametrize("type", ["ollama", "llama-server"])
@pytest.mark.parametrize("dialect", [OLLAMA_CHAT, OPENAI_CHAT])
def test_a_warmed_prompt_is_not_processed_again(link, fake, type, dialect):
    """JOB_WARM gives counts and no byte of an answer; the same chat then finds its prompt in the cache."""
    backend = fake("b", type=type)
    w = link()
    w.ready(type=type, url=backend.url)
    body = {"model": "m:1b", "stream": True, "max_tokens": 50, "options": {"num_predict": 50, "seed": 1},
            "messages": [{"role": "system", "content": "rules " * 400}] + user("question")}
    start, data, end = w.result(w.job(kind="warm", dialect=dialect, body=json.dumps(body)))
    assert start is None and data == b"" and end["type"] == "end"
    warmed = backend.stats()["last"][-1]
    assert warmed["generated_tokens"] == 1 and warmed["cached_tokens"] == 0
    assert end["prompt_tokens"] == warmed["prompt_tokens"] > 600
    w.chat(dialect=dialect, **body)
    asked = backend.stats()["last"][-1]
    assert asked["prompt_tokens"] == warmed["prompt_tokens"]
    assert asked["cached_tokens"] == warmed["prompt_tokens"] - 1 and asked["generated_tokens"] == 16


@pytest.mark.parametrize("type", ["ollama", "llama-server"])
def test_a_cancelled_warming_leaves_the_backend_at_once(link, fake, type):
    """... when the batch that it computes is done. What it has processed by then stays in the cache."""
    backend = fake("b", type=type, options=("--prefill", "500", "--batch-size", "64"))
    w = link()
    w.ready(type=type, url=backend.url)
    body = {"model": "m:1b", "stream": False, "messages": user("word " * 2000)}  # 5 s
    id = w.job(kind="warm", dialect=OPENAI_CHAT, body=json.dumps(body))
    wait_for(lambda: backend.stats()["slots"]["active"] == 1, "the warming at the backend")
    w.do("cancel", id=id)
    assert w.result(id)[2]["cause"] == "cancelled"
    wait_for(lambda: backend.stats()["slots"]["active"] == 0, "the end of the warming", 2)
    assert backend.stats()["last"][-1]["end"] == "cancelled"
    assert w.chat(model="m:1b", messages=user("x"))[2]["type"] == "end"


@pytest.mark.parametrize("body,cause", [("{", "refused"), ('{"model":"m:1b","messages":[]}', None),
                                        ('{"messages":7}', "refused")])
def test_a_warming_that_cannot_be_is_refused(link, fake, body, cause):
    backend = fake("b", type="llama-server")
    w = link()
    w.ready(type="llama-server", url=backend.url)
    end = w.result(w.job(kind="warm", dialect=OLLAMA_CHAT, body=body))[2]
    assert end["type"] == "fail" and end["cause"] == (cause or "refused") and end["message"]
    assert backend.stats()["slots"]["active"] == 0


# --- notes ---

CHUNK = ("File src/net/socket.c line 120: connect_peer() returned -110.\n"
         "The build fails with error E1234 in module foo_bar.\n" * 12)


def test_notes_keep_what_stands_in_the_source(link, fake):
    backend = fake("b", type="llama-server")
    w = link()
    w.ready(type="llama-server", url=backend.url)
    answer = "- connect_peer() in src/net/socket.c returned -110\n- it was fixed in made_up_name.c line 999\n"
    assert backend.fault(text=answer, times=1)
    start, data, end = w.result(w.job("notes", body=CHUNK, model="m:1b"))
    assert start is None and end["type"] == "end" and end["verdict"] == "ok", end
    assert b"connect_peer" in data and b"made_up_name" not in data
    sent = json.loads(backend.bodies()[-1])
    assert sent["temperature"] == 0 and "connect_peer" in json.dumps(sent["messages"])
    assert (end["notes_kept"], end["notes_refused"]) == (1, 1)


def test_strict_notes_need_a_name_or_a_whole_quotation(link, fake):
    backend = fake("b", type="llama-server")
    w = link()
    w.ready(type="llama-server", url=backend.url)
    answer = "- connect_peer() failed\n- everybody is happy\n- build fails with error\n"
    assert backend.fault(text=answer, times=2)
    _, loose, end = w.result(w.job("notes", body=CHUNK, model="m:1b"))
    assert loose.decode() == answer and (end["notes_kept"], end["notes_refused"]) == (3, 0)
    _, strict, end = w.result(w.job("notes", body=CHUNK, model="m:1b", strict=True))
    assert b"happy" not in strict and strict.count(b"\n") == 2
    assert (end["notes_kept"], end["notes_refused"]) == (2, 1)


# --- the answer as its client will send it back ---

CALL = {"tool": "grep", "args": '{"pattern":"x y"}'}


def reply_request(dialect, think=True):
    tools = [{"type": "function", "function": {"name": "grep", "parameters": {"type": "object"}}}]
    body = {"model": "m:1b", "messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": 64}
    if dialect == ANTHROPIC:
        return {**body, "tools": [{"name": "grep", "input_schema": {"type": "object"}}], **({"thinking": {"type": "enabled", "budget_tokens": 32}} if think else {})}
    return {**body, "tools": tools, **({"think": True} if dialect == OLLAMA_CHAT and think else {})}


def reply_parts(message):
    """(thinking, text, calls) of a message in any of the dialects."""
    if isinstance(message["content"], list):
        by = {}
        for block in message["content"]:
            by.setdefault(block["type"], []).append(block)
        return ("".join(b["thinking"] for b in by.get("thinking", ())), "".join(b["text"] for b in by.get("text", ())),
                [(b["name"], b["input"]) for b in by.get("tool_use", ())])
    calls = [c["function"] for c in message.get("tool_calls", ())]
    return (message.get("thinking") or message.get("reasoning_content") or "", message["content"] or "",
            [(c["name"], json.loads(c["arguments"]) if isinstance(c["arguments"], str) else c["arguments"]) for c in calls])


@pytest.mark.parametrize("dialect", [OLLAMA_CHAT, OPENAI_CHAT, ANTHROPIC])
@pytest.mark.parametrize("backend_type", ["ollama", "llama-server"])
@pytest.mark.parametrize("stream", [True, False])
def test_an_answers_message_comes_back_with_its_end(link, fake, backend_type, dialect, stream):
    backend = fake("b", type=backend_type)
    w = link()
    w.ready(type=backend_type, url=backend.url)
    body = json.dumps({**reply_request(dialect), "stream": stream})
    assert backend.fault(text='I "look".', thinking=3, times=-1, **CALL)
    for thinking in (False, True):
        _, _, end = w.result(w.job(dialect=dialect, stream=stream, body=body, reply_bytes=4096, reply_thinking=thinking))
        message = json.loads(end["reply"])
        assert message["role"] == "assistant"
        thought, text, calls = reply_parts(message)
        assert (text, calls) == ('I "look".', [("grep", {"pattern": "x y"})]), message
        assert bool(thought) == thinking, message
    _, _, end = w.result(w.job(dialect=dialect, stream=stream, body=body))
    assert end["reply"] == ""


@pytest.mark.parametrize("backend_type", ["ollama", "llama-server"])
def test_no_message_comes_back_that_is_too_long_or_broken(link, fake, backend_type):
    backend = fake("b", type=backend_type)
    w = link()
    w.ready(type=backend_type, url=backend.url)
    body = json.dumps(reply_request(OPENAI_CHAT))
    assert backend.fault(text="a" * 100, times=-1, name="long")
    _, _, end = w.result(w.job(dialect=OPENAI_CHAT, body=body, reply_bytes=4096))
    least = len(end["reply"])
    assert least > 100
    _, data, end = w.result(w.job(dialect=OPENAI_CHAT, body=body, reply_bytes=least))
    assert len(end["reply"]) == least
    _, data, end = w.result(w.job(dialect=OPENAI_CHAT, body=body, reply_bytes=least - 1))
    assert end["type"] == "end" and end["reply"] == "" and b"aaaa" in data
    assert backend.fault(text="b" * 100, error_after=2, times=-1, name="long")
    _, _, last = w.result(w.job(dialect=OPENAI_CHAT, body=body, reply_bytes=4096))
    assert not last.get("reply")


@pytest.mark.parametrize("rule,type,member,value", [
    ({"fault": "500"}, "fail", "cause", "status"),
    ({"fault": "garbage"}, "fail", "cause", "garbage"),
    ({"fault": "empty"}, "fail", "cause", "empty"),
    ({"fault": "hang"}, "fail", "cause", "timeout"),
    ({"text": "- it was fixed in made_up_name.c line 999"}, "end", "verdict", "unverified"),
    ({"hugeline": 70000}, "fail", "cause", "too_large"),
])
@pytest.mark.parametrize("backend_type", ["ollama", "llama-server"])
def test_notes_that_fail_say_why(link, fake, backend_type, rule, type, member, value):
    backend = fake("b", type=backend_type, options=["--num-ctx", "100000"])
    w = link()
    w.ready(type=backend_type, url=backend.url)
    assert backend.fault(**rule)
    id = w.job("notes", body=CHUNK, model="m:1b", timeout_ms=800, max_tokens=50000)
    _, data, last = w.result(id)
    assert (last["type"], last[member]) == (type, value) and data == b""


# --- pass ---


def test_a_small_request_passes_with_its_headers(link, fake):
    backend = fake("b")
    w = link()
    w.ready(type="ollama", url=backend.url)
    start, data, end = w.result(w.job("pass", method="GET", path="/api/tags?x=%20y"))
    assert start["status"] == 200 and json.loads(data)["models"][0]["name"] == "m:1b" and end["type"] == "end"
    assert start["body_bytes"] == len(data)
    names = [n.lower() for n, _ in start["headers"]]
    assert "content-type" in names and "connection" not in names and "content-length" not in names
    start, data, end = w.result(w.job("pass", method="POST", path="/api/show", body='{"model":"m:1b"}',
                                      headers=[["Content-Type", "application/json"], ["Origin", "http://evil"],
                                               ["X-Empty", ""], ["Host", "evil"]]))
    assert start["status"] == 200 and "model_info" in json.loads(data)
    start, _, end = w.result(w.job("pass", method="HEAD", path="/api/tags"))
    assert start["status"] == 200 and end["type"] == "end"
    start, data, _ = w.result(w.job("pass", method="GET", path="/nothing/here"))
    assert start["status"] == 404
    start, data, _ = w.result(w.job("pass", method="DELETE", path="/api/tags"))
    assert start["status"] == 405


@pytest.mark.parametrize("path", ["http://evil/", "no-slash", "/a b", "/a\r\nX: y", ""])
def test_a_target_that_could_split_the_request_is_refused(link, fake, path):
    w = link()
    w.ready(type="ollama", url=fake("b").url)
    _, _, fail = w.result(w.job("pass", method="GET", path=path))
    assert (fail["cause"], fail["status"]) == ("refused", 400)


@pytest.mark.measured
@pytest.mark.parametrize("length", [None, -1])
def test_a_large_upload_is_streamed_in_bounded_memory(link, fake, length):
    backend = fake("b")
    w = link()
    w.ready(type="ollama", url=backend.url)
    size = (16 if SANITIZED else 256) << 20
    idle = w.rss()
    args = {} if length is None else {"length": length}
    id = w.job("pass", method="POST", path="/api/blobs/sha256:" + "ab" * 32, body_bytes=size, quiet=True, **args)
    peak = idle
    while True:
        try:
            r = w.lines.get(timeout=0.05)
        except queue.Empty:
            peak = max(peak, w.rss())
            continue
        if r["job"] == id and r["type"] in ("end", "fail"):
            break
    assert r["type"] == "end" and r["sent"] == size, r
    last = backend.stats()["last"][-1]
    assert last["body_bytes"] == size and last["status"] == 201
    crc = 0
    import zlib
    pattern = bytes(((i * 31) >> 3) & 255 for i in range(2048))  # repeats every 2048 bytes
    for _ in range(size // len(pattern)):
        crc = zlib.crc32(pattern, crc)
    assert last["body_crc32"] == f"{crc:08x}"
    if not SANITIZED:
        assert peak < 40 << 20, f"peak RSS {peak >> 20} MB"


@pytest.mark.measured
def test_a_large_answer_is_streamed_in_bounded_memory(link):
    size = (16 if SANITIZED else 128) << 20
    block = bytes(range(256)) * 256

    def answer(path, n):
        head = f"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\nContent-Length: {size}\r\n\r\n".encode()
        return itertools.chain([head], (block for _ in range(size // len(block))))

    with raw_backend(answer) as url:
        w = link()
        w.ready(type="ollama", url=url)
        start, _, end = w.result(w.job("pass", method="GET", path="/big", quiet=True))
        assert end["type"] == "end" and end["got"] == size and start["body_bytes"] == size
        if not SANITIZED:
            assert w.rss() < 40 << 20


def test_the_model_list_is_right_when_a_pull_ends(link, fake):
    backend = fake("b")
    w = link()
    w.ready(type="ollama", url=backend.url)
    id = w.job("pass", method="POST", path="/api/pull", body='{"model":"new:2b","stream":false}')
    models = w.wait("models", last=1)
    assert "new:2b" in [m["name"] for m in models["items"]]
    assert w.result(id)[2]["type"] == "end"


def test_ollamas_questions_are_answered_for_a_llama_server(link, fake):
    backend = fake("b", type="llama-server", options=["-c", "16384", "-np", "2"])
    w = link()
    state = w.ready(type="llama-server", url=backend.url)
    assert (state["window"], state["slots"], state["model"]) == (8192, 2, "m:1b")

    def ask(method, path, body=None):
        start, data, end = w.result(w.job("pass", method=method, path=path, **({"body": body} if body else {})))
        assert end["type"] == "end"
        return start["status"], data

    assert ask("GET", "/") == (200, b"Ollama is running")
    assert ask("HEAD", "/")[0] == 200
    version = json.loads(ask("GET", "/api/version")[1])["version"]
    assert all(int(x) >= 0 for x in version.split("."))
    tags = json.loads(ask("GET", "/api/tags")[1])["models"]
    assert tags[0]["name"] == tags[0]["model"] == "m:1b" and tags[0]["details"]["format"] == "gguf"
    ps = json.loads(ask("GET", "/api/ps")[1])["models"]
    assert ps[0]["context_length"] == 8192 and ps[0]["size_vram"] == ps[0]["size"] + 1  # not known: "Unknown" to ollama ps
    for body in ('{"model":"m:1b"}', '{"name":"m:1b:latest"}'):
        show = json.loads(ask("POST", "/api/show", body)[1])
        arch = show["model_info"]["general.architecture"]
        assert show["model_info"][arch + ".context_length"] == 8192
        assert "completion" in show["capabilities"] and "tools" in show["capabilities"]
    assert ask("POST", "/api/show", "{}")[0] == 400
    assert ask("GET", "/api/show")[0] == 405
    assert ask("POST", "/api/pull", '{"model":"x"}')[0] == 501
    # what it has itself is passed
    assert "default_generation_settings" in json.loads(ask("GET", "/props")[1])


# --- the backend comes and goes ---


def test_an_attached_backend_may_come_late_and_go(link, fake):
    port = free_port()
    w = link()
    w.wait("hello")
    w.do("ack", type="ollama", url=f"http://127.0.0.1:{port}")
    assert "nothing answers" in w.wait("state", state="down")["detail"]
    _, _, fail = w.result(w.job("pass", method="GET", path="/api/tags"))
    assert (fail["cause"], fail["status"]) == ("unreachable", 503)
    backend = fake("b", port=port)
    w.wait("state", state="ready")
    backend.stop(signal.SIGKILL)
    _, _, fail = w.chat(model="m:1b", messages=user("x"))
    assert fail["cause"] in ("unreachable", "cut")
    w.wait("state", state="down", deadline=5)  # at once after the failure, not at the next tick of 10 s


def test_something_else_at_the_url_is_not_taken_for_the_backend(link, fake):
    w = link()
    w.wait("hello")
    w.do("ack", type="ollama", url=fake("b", type="llama-server").url)
    assert "is not Ollama" in w.wait("state", state="down")["detail"]


def test_a_loading_llama_server_is_seen_loading_then_ready(link, fake):
    port = free_port()
    w = link()
    w.wait("hello")
    backend_thread = threading.Thread(target=lambda: fake("b", type="llama-server", port=port,
                                                          options=["--load-ms", "600"]))
    backend_thread.start()
    backend_thread.join()
    w.do("ack", type="llama-server", url=f"http://127.0.0.1:{port}")
    states = []
    while not states or states[-1] != "ready":
        states.append(w.wait("state")["state"])
    assert states[-1] == "ready"


def started(*options, type="llama-server"):
    command = [os.path.join(BIN, "fake-backend"), "--type", type]
    if type == "llama-server":
        command += ["-m", "x.gguf"]
    return command + list(options)


def test_a_started_backend_is_pinned_used_and_stopped(link):
    w = link()
    state = w.ready(type="llama-server", command=started("--alias", "tiny"), pin="1")
    pid = state["pid"]
    assert alive(pid) and state["url"].startswith("http://127.0.0.1:") and state["model"] == "tiny"
    with open(f"/proc/{pid}/environ") as f:
        env = dict(x.split("=", 1) for x in f.read().split("\0") if "=" in x)
    assert env["CUDA_VISIBLE_DEVICES"] == env["HIP_VISIBLE_DEVICES"] == env["GGML_VK_VISIBLE_DEVICES"] == "1"
    assert env["ONEAPI_DEVICE_SELECTOR"] == "level_zero:1"
    assert w.chat(dialect=OPENAI_CHAT, model="tiny", messages=user("x"))[2]["type"] == "end"
    w.do("drain", deadline_ms=1000)
    assert w.worker.wait(10) == 0
    assert not alive(pid)


def test_a_started_backend_holds_no_descriptor_of_ours(link, fake):
    """What it opened itself is close-on-exec; what it inherited is not."""
    w = link()
    w.ready(type="llama-server", url=f"http://127.0.0.1:{free_port()}", command=started())  # after a probe: curl has sockets
    pid = next(r["pid"] for r in reversed(w.records) if r["type"] == "state")
    its = inherited(pid)
    assert sorted(its) == [0, 1, 2], its
    assert its[0] == "/dev/null" and its[1] == its[2] and "backend-log" in its[1], "no pipe: it would break with the worker"


def test_a_started_ollama_gets_its_address_by_the_environment(link, folder):
    script = os.path.join(folder, "ollama")
    with open(script, "w") as f:
        f.write(f"#!/bin/sh\nexec {BIN}/fake-backend --type ollama --model m:1b --port ${{OLLAMA_HOST#*:}}\n")
    os.chmod(script, 0o755)
    w = link()
    state = w.ready(type="ollama", command=[script, "serve"])
    assert alive(state["pid"]) and w.chat(model="m:1b", messages=user("x"))[2]["type"] == "end"


@pytest.mark.parametrize("how", ["kill the worker", "close the link", "kill the supervisor's end", "close stdin"])
def test_nothing_outlives_the_worker(link, folder, how):
    """The backend is a shell with a child: the whole group must go, also when TERM is ignored by the shell."""
    script = os.path.join(folder, "wrapper.sh")
    with open(script, "w") as f:
        f.write(f'#!/bin/sh\n{BIN}/fake-backend --type llama-server "$@" &\necho child=$!\nwait\n')
    os.chmod(script, 0o755)
    w = link(stdin=subprocess.PIPE if how == "close stdin" else subprocess.DEVNULL)
    state = w.ready(type="llama-server", command=[script, "-m", "x.gguf"])
    child = int(wait_for(lambda: [x for x in w.log().split() if "child=" in x], "child's pid")[0].split("child=")[1].strip('"'))
    assert alive(state["pid"]) and alive(child)
    if how == "kill the worker":
        w.worker.kill()
    elif how == "close the link":
        w.do("close")
    elif how == "close stdin":
        w.worker.stdin.close()
    else:
        w.driver.kill()
    w.worker.wait(10)
    wait_for(lambda: not alive(state["pid"]) and not alive(child), "end of the backend and its child", 10)
    if how != "kill the worker":
        assert w.worker.returncode == 70


def test_a_backend_that_ignores_term_is_killed(link, folder):
    script = os.path.join(folder, "stubborn.sh")
    with open(script, "w") as f:
        f.write(f"#!/bin/sh\ntrap '' TERM\n{BIN}/fake-backend --type llama-server \"$@\" &\n"
                "while :; do wait; sleep 0.05; done\n")
    os.chmod(script, 0o755)
    w = link()
    state = w.ready(type="llama-server", command=[script, "-m", "x.gguf"])
    w.do("drain", deadline_ms=100)
    assert w.worker.wait(15) == 0
    assert not alive(state["pid"])


def test_a_backend_that_cannot_start_says_why(link, folder):
    script = os.path.join(folder, "broken.sh")
    with open(script, "w") as f:
        f.write("#!/bin/sh\nfor i in $(seq 1 30); do echo line $i >&2; done\necho 'error: model not found' >&2\nexit 3\n")
    os.chmod(script, 0o755)
    w = link()
    w.wait("hello")
    w.do("ack", type="llama-server", command=[script])
    detail = w.wait("state", state="down")["detail"]
    assert "status 3" in detail and detail.endswith("\nline 30\nerror: model not found")
    assert "line 12" in detail and "line 11\n" not in detail, "the last 20 lines"
    assert w.worker.wait(10) == 72


def test_a_command_that_is_not_there_says_so(link):
    w = link()
    w.wait("hello")
    w.do("ack", type="llama-server", command=["/no/such/llama-server", "-m", "x"])
    assert "cannot run /no/such/llama-server: No such file" in w.wait("state", state="down")["detail"]
    assert w.worker.wait(10) == 72


def test_the_boot_deadline_ends_a_backend_that_never_answers(link, folder):
    script = os.path.join(folder, "slow.sh")
    with open(script, "w") as f:
        f.write("#!/bin/sh\necho loading forever\nexec sleep 1000\n")
    os.chmod(script, 0o755)
    w = link()
    w.wait("hello")
    w.do("ack", type="llama-server", command=[script], boot_ms=300)
    pid = w.wait("state", state="starting")["pid"]
    detail = w.wait("state", state="down")["detail"]
    assert "not ready after 300 ms" in detail and "loading forever" in detail
    assert w.worker.wait(10) == 72 and not alive(pid)


def test_a_port_taken_meanwhile_is_tried_again(link, folder):
    script = os.path.join(folder, "unlucky.sh")
    with open(script, "w") as f:
        f.write(f"#!/bin/sh\nif mkdir {folder}/once 2>/dev/null; then\n"
                f"echo \"couldn't bind HTTP server socket\" >&2; exit 1\nfi\n"
                f'exec {BIN}/fake-backend --type llama-server "$@"\n')
    os.chmod(script, 0o755)
    w = link()
    assert alive(w.ready(type="llama-server", command=[script, "-m", "x.gguf"])["pid"])


def test_a_started_backend_that_dies_ends_the_worker_with_its_last_words(link):
    w = link()
    state = w.ready(type="llama-server", command=started("--decode", "20"))
    id = w.job(dialect=OPENAI_CHAT, body=json.dumps({"messages": user("[[fake tokens=1000]]"), "stream": True}))
    w.wait("DELTA", job=id)
    os.kill(state["pid"], signal.SIGKILL)
    seen = {}
    while len(seen) < 2:
        r = w.lines.get(timeout=DEADLINE)
        if r["type"] == "fail":
            seen["fail"] = r
        elif r["type"] == "state" and "killed by signal 9" in r["detail"]:
            seen["state"] = r
    assert seen["fail"]["cause"] == "cut" and seen["state"]["state"] == "down"
    assert w.worker.wait(10) == 73


def test_url_and_command_attach_when_it_answers_else_start(link, fake):
    backend = fake("b", type="llama-server")
    w = link("attached")
    assert w.ready(type="llama-server", url=backend.url, command=started())["pid"] == 0
    w = link("started")
    url = f"http://127.0.0.1:{free_port()}"
    state = w.ready(type="llama-server", url=url, command=started())
    assert alive(state["pid"]) and state["url"] != url


def test_a_pinned_backend_without_a_gpu_is_noticed(link, folder):
    script = os.path.join(folder, "cpu.sh")
    with open(script, "w") as f:
        f.write("#!/bin/sh\necho 'warning: no usable GPU found, --gpu-layers option will be ignored' >&2\n"
                f'exec {BIN}/fake-backend --type llama-server "$@"\n')
    os.chmod(script, 0o755)
    w = link()
    state = w.ready(type="llama-server", command=[script, "-m", "x.gguf"], pin="0")
    assert "no GPU" in state["detail"] and "backend_without_gpu" in w.log()


# --- the process ---


def test_a_drain_finishes_what_runs_and_refuses_what_comes(link, fake):
    backend = fake("b")
    w = link()
    w.ready(type="ollama", url=backend.url)
    first = w.job(dialect=0, body=json.dumps({"model": "m:1b", "messages": user("[[fake tokens=20 hang_after=3]]")}))
    w.wait("DELTA", job=first)
    w.do("drain", deadline_ms=10000)
    second = w.job(dialect=0, body=json.dumps({"model": "m:1b", "messages": user("x")}))
    assert w.wait("fail", job=second)["cause"] == "draining"
    backend.go()
    assert w.result(first)[2]["type"] == "end"
    assert w.worker.wait(5) == 0


def test_a_drain_ends_at_its_deadline(link, fake):
    w = link()
    w.ready(type="ollama", url=fake("b", options=["--decode", "10"]).url)
    id = w.job(dialect=0, body=json.dumps({"model": "m:1b", "messages": user("[[fake tokens=1000]]")}))
    w.wait("DELTA", job=id)
    w.do("drain", deadline_ms=150)
    assert w.result(id)[2]["cause"] == "draining"
    assert w.worker.wait(5) == 0


@pytest.mark.parametrize("how", ["term", "supervisor gone"])
def test_a_worker_ends_while_bodies_wait_for_a_thread(link, fake, folder, how):
    """What the thread does then is nobody's any more, and needs nothing that has ended meanwhile."""
    w = link(env={"UV_THREADPOOL_SIZE": "1"})
    w.ready(type="ollama", url=fake("b").url)
    total = 0

    def all_in():
        w.do("ping", seq=1)
        return w.wait("stats")["bytes_in"] == total

    for name, n in (("long", 60_000), ("short", 200)):
        path = os.path.join(folder, name)
        with open(path, "w") as f:
            said = json.dumps({"role": "user", "content": "\u00e9\n" * 250})
            f.write('{"model":"m:1b","messages":[' + ",".join([said] * n) + "]}")
        total += os.path.getsize(path)
        w.job(dialect=OPENAI_CHAT, body_file=path)
        wait_for(all_in, "the body")
    if how == "term":
        w.worker.send_signal(signal.SIGTERM)
    else:
        w.driver.kill()
    assert w.worker.wait(60) == (0 if how == "term" else 70)


@pytest.mark.parametrize("hangs_up", [True, False])
def test_an_ending_worker_waits_for_the_hang_up_not_for_a_time(link, fake, hangs_up):
    """Its last record is BYE; whoever has read that hangs up, and only without it does a deadline pass."""
    w = link()
    w.ready(type="ollama", url=fake("b").url)
    if not hangs_up:
        w.do("stay")
    id = w.job(dialect=0, body=json.dumps({"model": "m:1b", "messages": user("[[fake tokens=100000]]")}))
    w.wait("DELTA", job=id)
    w.worker.send_signal(signal.SIGTERM)
    assert w.result(id)[2]["cause"] == "draining"
    w.wait("bye")
    w.wait("peer", text="gone")
    assert w.worker.wait(10) == 0
    assert ("ev=link_lingers" in w.log()) == (not hangs_up)


def test_progress_grows_with_the_work_and_only_then(link, fake):
    w = link()
    w.ready(type="ollama", url=fake("b", options=["--decode", "100"]).url)

    def ping(seq):
        w.do("ping", seq=seq)
        return w.wait("pong", seq=seq)

    a, b = ping(1), ping(2)
    assert a["progress"] == b["progress"] and a["active"] == 0
    id = w.job(dialect=0, body=json.dumps({"model": "m:1b", "messages": user("[[fake tokens=200]]")}))  # two seconds
    w.wait("DELTA", job=id)
    c = ping(3)
    w.wait("DELTA", job=id)
    d = ping(4)
    assert b["progress"] < c["progress"] < d["progress"] and d["active"] == 1
    w.result(id)
    stats_seen = ping(5) and w.wait("stats")
    assert stats_seen["done"] == 1 and stats_seen["rss"] > 0


def test_without_a_configuration_the_worker_goes(link):
    w = link()
    w.wait("hello")
    w.do("ack", type="ollama")  # neither url nor command
    assert w.worker.wait(5) == 71


def test_without_a_supervisor_the_worker_goes(folder):
    r = subprocess.run([os.path.join(BIN, "tandem-worker"), "--link", f"ipc://{folder}/none.ipc", "--generation", "1",
                        "--device", "x"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=15)
    assert r.returncode == 70


def test_bad_arguments_are_told(folder):
    r = subprocess.run([os.path.join(BIN, "tandem-worker"), "--generation", "x"], stderr=subprocess.PIPE, text=True)
    assert r.returncode == 64 and "started by tandemd" in r.stderr


@pytest.mark.measured
def test_thousands_of_jobs_leave_memory_and_descriptors_where_they_were(link, fake):
    backend = fake("b", options=["--slots", "64"])
    w = link()
    w.ready(type="ollama", url=backend.url)

    def settle(ids):
        left = set(ids)
        while left:
            r = w.lines.get(timeout=DEADLINE)
            if r["type"] in ("end", "fail"):
                left.discard(r["job"])

    def rounds(n):
        ids = []
        for i in range(n):
            kind = i % 4
            if kind == 0:
                ids.append(w.job(dialect=0, body=json.dumps({"model": "m:1b", "messages": user("x")})))
            elif kind == 1:
                ids.append(w.job(dialect=2, body=json.dumps({"model": "m:1b", "messages": user("[[fake cut=2]]")})))
            elif kind == 2:
                ids.append(w.job("pass", method="GET", path="/api/tags"))
            else:
                ids.append(w.job(dialect=0, body=json.dumps({"model": "m:1b", "messages": user("[[fake fault=hang]]")})))
                w.do("cancel", id=ids[-1])
            if len(ids) == 32:
                settle(ids)
                ids = []

    # as many connections at once as the rounds may have: idle ones are kept
    settle([w.job(dialect=0, body=json.dumps({"model": "m:1b", "messages": user("[[fake delay_ms=300]]")})) for _ in range(32)])
    rounds(512)
    fds, rss = fd_count(w.worker.pid), w.rss()
    rounds(512 if SANITIZED else 4096)
    wait_for(lambda: backend.stats()["requests"]["active"] == 0, "idle backend")
    assert fd_count(w.worker.pid) <= fds + 8
    if not SANITIZED:
        assert w.rss() < rss + (4 << 20)


# --- a backend made of bytes ---


class raw_backend:
    """An Ollama whose probes are good and whose other answers are the bytes that answer(path, n) returns."""

    def __init__(self, answer):
        self.answer = answer
        self.server = socket.create_server(("127.0.0.1", 0))
        self.count = 0

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return "http://127.0.0.1:%d" % self.server.getsockname()[1]

    def __exit__(self, *_):
        self.server.close()

    def _accept(self):
        while True:
            try:
                s, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s):
        probes = {"/api/version": b'{"version":"0.33.0"}', "/api/tags": b'{"models":[{"name":"m"}]}',
                  "/api/ps": b'{"models":[]}'}
        with s, s.makefile("rb") as f:
            try:
                while True:
                    line = f.readline()
                    if not line:
                        return
                    path = line.split()[1].decode()
                    length = 0
                    while (h := f.readline().strip()):
                        if h.lower().startswith(b"content-length:"):
                            length = int(h.split(b":")[1])
                    f.read(length)
                    if path in probes:
                        body = probes[path]
                        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                                  % (len(body), body))
                        continue
                    self.count += 1
                    out = self.answer(path, self.count)
                    for piece in [out] if isinstance(out, bytes) else out:
                        s.sendall(piece)
                    return
            except OSError:
                return


def chunked(body, size, type):
    out = f"HTTP/1.1 200 OK\r\nContent-Type: {type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    for i in range(0, len(body), size):
        piece = body[i:i + size]
        out += b"%x\r\n%s\r\n" % (len(piece), piece)
    return out + b"0\r\n\r\n"
