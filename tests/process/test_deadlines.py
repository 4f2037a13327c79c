"""The client's first bytes come in time, whatever the backends do; heartbeats harm no dialect; a status is kept while it can be."""

import json
import os

import pytest

from harness import wait_for
from test_routes import prompt
from wire import CHAT, GENERATE, OPENAI, PATHS, STORY, Wire, content, error_text, heartbeat, question, units

NOISE_S = float(os.environ.get("TANDEM_TEST_NOISE_S", "0.5"))  # what a busy machine may add to a deadline
FIRST_MS, BEAT_MS = 600, 100
QUICK = {"first_byte_ms": FIRST_MS, "heartbeat_ms": BEAT_MS, "first_byte_nonstream_ms": 30000}


def ask(t, path, text, stream=True, **more):
    return Wire(t).send("POST", path, question(path, text, stream, **more))


def split_beats(path, body, stream=True):
    """(number of heartbeats in front, the rest)"""
    beat, n = heartbeat(path, stream), 0
    while body.startswith(beat, n * len(beat)):
        n += 1
    return n, body[n * len(beat):]


@pytest.mark.parametrize("main", ["ollama", "llama-server"])
@pytest.mark.parametrize("path", PATHS)
def test_a_slow_backend_and_a_stream(pair, main, path):
    """Status, headers and a heartbeat in time; more of them; then the answer, whole."""
    t, a, b = pair(main, deadlines=QUICK)
    with ask(t, path, "[[fake delay_ms=1800]] hi") as w:
        w.head()
        assert w.status == 200 and w.chunked
        assert w.headers["content-type"] == ("text/event-stream" if path == OPENAI else "application/x-ndjson")
        assert all(name.lower() in w.headers for name in STORY)
        pieces = list(w.pieces())
        beats = [(s, p) for s, p in pieces if p == heartbeat(path)]
        assert w.head_s <= beats[0][0] and w.head_own_s < FIRST_MS / 1000 + NOISE_S
        assert beats[0][0] - w.head_s < NOISE_S, "the heartbeat comes with the head"
        assert w.head_s > FIRST_MS / 2000, "an error still had its status for a while"
        assert [p for _, p in pieces[:len(beats)]] == [heartbeat(path)] * len(beats), "heartbeats come first, alone"
        # one each BEAT_MS: what a busy machine holds up comes together, none is lost for more than that
        assert 4 <= len(beats) <= 2 + (1800 - FIRST_MS * 0.9) / BEAT_MS + NOISE_S * 1000 / BEAT_MS
        objects, whole = units(path, b"".join(p for _, p in pieces))
        assert whole and content(path, objects)
        # the connection is as good as new
        assert w.send("POST", path, question(path, "hi")).head().status == 200
        objects, whole = units(path, w.body())
        assert whole


@pytest.mark.parametrize("path", PATHS)
def test_a_quick_answer_has_no_heartbeat(pair, path):
    t, a, b = pair(deadlines={"first_byte_ms": 5000})
    with ask(t, path, "hi") as w:
        body = w.head().body()
        assert body[:1] == (b"d" if path == OPENAI else b"{")


@pytest.mark.parametrize("main", ["ollama", "llama-server"])
@pytest.mark.parametrize("path", PATHS)
def test_a_pause_in_mid_stream(pair, main, path):
    """Between two objects the heartbeats go on; the stream stays well-formed."""
    t, a, b = pair(main, main_options=("--decode", "3"), deadlines={"first_byte_ms": 100, "heartbeat_ms": 60})
    with ask(t, path, "[[fake tokens=5]] hi") as w:
        body = w.head().body()
    objects, whole = units(path, body)
    assert whole and content(path, objects)
    first = body.index(b"{")
    between = body[first:].count(heartbeat(path)) if path == OPENAI else body[first:].count(b"\n ")
    assert between >= 2, body


@pytest.mark.parametrize("main,path", [("ollama", CHAT), ("ollama", GENERATE), ("llama-server", OPENAI)])
def test_no_heartbeat_within_a_line(pair, main, path):
    """A backend that drips its bytes one by one: forwarded as they come, and nothing of ours between them."""
    t, a, b = pair(main, deadlines={"first_byte_ms": 300, "heartbeat_ms": 10})
    with ask(t, path, "[[fake tokens=1&drip=15]] hi") as w:
        w.head()
        assert w.head_s < 3
        pieces = [p for _, p in w.pieces()]
    body = b"".join(pieces)
    # the end of the body drips too: a heartbeat may stand behind the last object
    objects, whole = units(path, body.rstrip(b" "))
    assert whole and content(path, objects) == "w0"
    assert len(pieces) > 50, "bytes were kept back"


@pytest.mark.parametrize("main", ["ollama", "llama-server"])
@pytest.mark.parametrize("path", PATHS)
def test_a_slow_error_without_a_stream_keeps_its_status(pair, main, path):
    t, a, b = pair(main, deadlines=QUICK)
    with ask(t, path, "[[fake delay_ms=1200&fault=500&error=out+of+memory]] hi", False) as w:
        w.head()
        assert w.status == 500 and w.head_s >= 1.2
        assert "out of memory" in error_text(path, json.loads(w.body()))


@pytest.mark.parametrize("fault", [None, "500"])
@pytest.mark.parametrize("main", ["ollama", "llama-server"])
@pytest.mark.parametrize("path", PATHS)
def test_a_slower_answer_without_a_stream(pair, main, path, fault):
    """After first_byte_nonstream_ms: 200, spaces, then one JSON object, the error's or the answer's."""
    t, a, b = pair(main, deadlines={**QUICK, "first_byte_nonstream_ms": 500})
    with ask(t, path, f"[[fake delay_ms=1300{'&fault=500&error=boom' if fault else ''}]] hi", False) as w:
        w.head()
        assert w.status == 200 and 0.45 <= w.head_s and w.head_own_s < 0.5 + NOISE_S
        assert w.headers["content-type"].startswith("application/json")
        beats, rest = split_beats(path, w.body(), False)
        assert beats >= 3 and rest[:1] == b"{"
        o = json.loads(rest)
        if fault:
            assert "boom" in error_text(path, o)
        else:
            assert content(path, [o])
        w.send("POST", path, question(path, "hi", False)).head()
        assert w.status == 200 and json.loads(w.body())


@pytest.mark.parametrize("path,small", [(CHAT, "ollama"), (GENERATE, "llama-server"), (OPENAI, "ollama")])
def test_condensing_that_is_stuck(pair, small, path):
    t, a, b = pair(small=small, deadlines=QUICK, condense={"job_timeout_ms": 1500})
    b.fault(times=-1, fault="hang")
    with ask(t, path, prompt(3568)) as w:
        w.head()
        assert w.status == 200 and w.head_own_s < FIRST_MS / 1000 + NOISE_S
        assert w.headers["x-tandem-strategy"] == "B"
        assert t.device("gpu0")["jobs"]["done"] == 0
        body = w.body()
    beats, rest = split_beats(path, body)
    assert beats >= 3
    objects, whole = units(path, rest)
    assert whole and content(path, objects)
    assert t.status()["requests"]["fallbacks"] == 1


def test_waiting_in_the_queue(pair):
    """A request behind another one gets its heartbeats too."""
    t, a, b = pair(main_options=("--decode", "20"), main_device={"slots": 1}, deadlines=QUICK)
    with ask(t, CHAT, "[[fake tokens=40]] first") as first:
        first.head()
        wait_for(lambda: t.device("gpu0")["inflight"] == 1, "the first at work")
        with ask(t, OPENAI, "second") as second:
            second.head()
            assert t.status()["queue"]["waiting"] == 1
            assert second.head_own_s < FIRST_MS / 1000 + NOISE_S
            beats, rest = split_beats(OPENAI, second.body())
            assert beats >= 2 and units(OPENAI, rest)[1]
        assert units(CHAT, first.body())[1]


def test_a_body_that_takes_long_to_understand(pair):
    """The deadline passes while the body is parsed: the first byte comes right after, not a heartbeat later."""
    t, a, b = pair(deadlines={"first_byte_ms": 5, "heartbeat_ms": 20000}, main_device={"num_ctx": 10**7},
                   routing={"a_max_tokens": 10**7, "b_max_tokens": 10**7})
    a.fault(times=-1, fault="hang")
    many = [{"role": "user", "content": "x" * 1000}] * 20000
    with ask(t, CHAT, many) as w:
        assert w.head().status == 200 and w.piece() == b" "
        assert w.head_s < 10
