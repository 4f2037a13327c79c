"""A real llama-server, asked directly and through tandem (adaptive): what it has in its cache, by its own count (`timings.cache_n`).

Two servers of the same model get the same sessions in turns. In one that fits the window tandem must cost next to no token more; in one that
outgrows it, tandem goes on where direct ends. `make simulate-engine` writes the figures to docs/simulate.md."""

import http.client
import json
import os
import random
import re
import time

import pytest

from conftest import ROOT
from harness import Process, Tandem, free_port, wait_for
from test_layout import NAMES, lines

WINDOW = 4096
FITS, BEYOND = 7, 18  # calls
FITS_FIRST, BEYOND_FIRST = 26, 170  # lines of the task
ANSWER = 8  # tokens
LONG_ANSWER = 60
TEMPLATE_TOKENS = 16  # around a message, and to begin the answer
NEAR = 1.03
GAP_S = 1
BEGIN, END = "<!-- engine: begin -->", "<!-- engine: end -->"


class Server(Process):
    """llama-server with one slot."""

    def __init__(self, engine, folder, name):
        (binary, *library), model = engine
        self.port = free_port()
        env = {**os.environ, "LD_LIBRARY_PATH": library[0]} if library and library[0] else None
        args = [binary, "-m", model, "-c", str(WINDOW), "-np", "1", "--temp", "0", "--no-webui", "--host", "127.0.0.1", "--port", str(self.port)]
        super().__init__(args, os.path.join(folder, name + ".log"), env)
        self.url = f"http://127.0.0.1:{self.port}"
        wait_for(self.healthy, f"llama-server {name}", 120)

    def healthy(self):
        try:
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            c.request("GET", "/health")
            return c.getresponse().status == 200
        except OSError:
            return False


def ask(port, messages, tokens=ANSWER):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    body = {"model": "m", "messages": messages, "max_tokens": tokens, "stream": False, "temperature": 0, "cache_prompt": True}
    c.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    answer = json.loads(r.read())
    c.close()
    return r.status, answer


def session(seed, first, calls):
    """The task, then what each call's tool gave."""
    rng = random.Random(seed)
    task = [{"role": "system", "content": "You are an agent that reads files."},
            {"role": "user", "content": f"Find out why {rng.choice(NAMES)} loses a frame. Never touch src/legacy.c.\n" + lines(rng, first)}]
    return task, [f"[read_file for 'src/part_{i}.c'] Result:\n" + lines(rng, rng.choice((6, 8, 10, 12, 12, 20))) for i in range(calls)]


class Arm:
    """One client of one session."""

    def __init__(self, name, port, messages):
        self.name, self.port, self.messages = name, port, list(messages)
        self.answered = self.read = self.prompt = 0
        self.error = ""

    def step(self, result):
        if self.error:
            return
        status, answer = ask(self.port, self.messages)
        if status != 200:
            self.error = f"{status} {json.dumps(answer)[:160]}"
            return
        timings = answer["timings"]
        self.answered += 1
        self.read += timings["prompt_n"]
        self.prompt += timings["prompt_n"] + timings["cache_n"]
        # Both arms go on with the same words: what they are sent differs by what tandem does alone.
        self.messages += [{"role": "assistant", "content": f"I read on after call {self.answered}."}, {"role": "user", "content": result}]


def play(arms, results, idle):
    for result in results:
        for arm in arms:
            arm.step(result)
        idle()
        time.sleep(GAP_S)  # a tool runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("never-slower"))


@pytest.fixture(scope="module")
def pair(engine, folder):
    """(the port of a server, the tandem before another one, that one)"""
    running = []
    try:
        running += [Server(engine, folder, "direct"), Server(engine, folder, "behind")]
        device = {"name": "cpu0", "roles": ["main"], "slots": 1, "num_ctx": WINDOW, "backend": {"type": "llama-server", "url": running[1].url}}
        t = Tandem(folder, [device], routing={"mode": "adaptive"}, state_dir=os.path.join(folder, "state"),
                   deadlines={"first_byte_ms": 2000, "first_byte_nonstream_ms": 280000})
        running.append(t)
        yield running[0].port, t, running[1]
    finally:
        for process in reversed(running):
            process.stop()


@pytest.fixture(scope="module")
def table():
    """Rows; at the end they are printed, and written where that is wanted."""
    rows = []
    yield rows
    text = "\n".join(["| session | arm | calls answered | prompt tokens | of these read, not cached | ended by |", "|---|---|---|---|---|---|"] +
                     [f"| {what} | {a.name} | {a.answered} of {calls} | {a.prompt:,} | {a.read:,} | {a.error and 'window exceeded' or '-'} |" for what, calls, a in rows])
    print("\n" + text)
    if os.environ.get("SIMULATE_ENGINE_DOCS"):
        path = os.path.join(ROOT, "docs", "simulate.md")
        with open(path, encoding="utf-8") as f:
            head, rest = f.read().split(BEGIN, 1)
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}")


def both(pair, seed, first, calls):
    port, t, _ = pair
    task, results = session(seed, first, calls)
    arms = [Arm("direct", port, task), Arm("tandem, adaptive", t.port, task)]
    play(arms, results, lambda: wait_for(lambda: not t.device("cpu0")["warming"]["running"], "the end of a warming", 120))
    return arms


def test_what_fits_costs_no_token_more(pair, table):
    arms = both(pair, 1, FITS_FIRST, FITS)
    table += [("fits", FITS, a) for a in arms]
    direct, tandem = arms
    assert not direct.error and not tandem.error, (direct.error, tandem.error)
    assert direct.prompt < FITS * WINDOW and direct.read < direct.prompt / 3  # its cache is warm
    assert tandem.read <= NEAR * direct.read, (tandem.read, direct.read)


def test_beyond_the_window_it_goes_on(pair, table):
    arms = both(pair, 2, BEYOND_FIRST, BEYOND)
    table += [("beyond the window", BEYOND, a) for a in arms]
    direct, tandem = arms
    assert re.search(r"exceed|context", direct.error), direct.error
    assert direct.answered < BEYOND * 2 / 3
    assert tandem.answered == BEYOND, tandem.error
    assert tandem.read < tandem.prompt / 2, (tandem.read, tandem.prompt)  # and its cache is warm, too
    assert pair[1].command("counters")["early_freezes"] > 0


def count(server, text):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    c.request("POST", "/tokenize", json.dumps({"content": text}), {"Content-Type": "application/json"})
    n = len(json.loads(c.getresponse().read())["tokens"])
    c.close()
    return n


def test_what_is_read_early_ends_with_the_answer(pair):
    """The request behind an early freeze reads what is new in it, the answer that it sends back no more: that was read before."""
    _, t, behind = pair
    messages, _ = session(3, FITS_FIRST, 0)
    rng, early = random.Random(3), t.command("counters")["early_freezes"]
    while t.command("counters")["early_freezes"] == early:
        status, answer = ask(t.port, messages, LONG_ANSWER)
        assert status == 200, answer
        said = answer["choices"][0]["message"]
        result = "[read_file for 'src/part.c'] Result:\n" + lines(rng, 34)
        messages += [said, {"role": "user", "content": result}]
        wait_for(lambda: t.requests()["active"] == 0, "the end of what follows an answer")
        assert len(messages) < 2 * BEYOND, "no early freeze"
    wait_for(lambda: not t.device("cpu0")["warming"]["running"], "the end of a warming", 300)
    assert [e["end"] for e in t.events() if e["ev"] == "warmed"][-1] == "done"
    status, answer = ask(t.port, messages)
    assert status == 200, answer
    new = count(behind, result) + TEMPLATE_TOKENS
    assert count(behind, said["content"]) > 2 * TEMPLATE_TOKENS, said
    assert answer["timings"]["prompt_n"] <= new, (answer["timings"], new)
