"""Notes that the condensing device writes while nobody waits: real processes, a scripted small model."""

import json
import os
import subprocess

import pytest

from conftest import attached
from harness import BIN, in_thread, wait_for
from test_adaptive import OPENAI, Session

SMALL = "s:0.5b"
MARK = " notes of a small model"


def counters(t):
    return t.command("counters")


def notes_of(t, name="gpu1"):
    return t.device(name)["notes"]


def digest_in(body):
    """The text that has notes in it, of what the main device got; "" where none has."""
    for m in json.loads(body)["messages"]:
        if isinstance(m.get("content"), str) and MARK in m["content"]:
            return m["content"]
    return ""


def lines_of_notes(digest):
    before, _, rest = digest.partition(MARK)
    return [line for line in rest.partition(" end of the notes]")[0].split("\n")[1:] if line.startswith("- ")]


def settled(t):
    """What follows an answer is over: no request is held, no notes are read or written."""
    wait_for(lambda: t.requests()["active"] == 0 and all(d["inflight"] == 0 and not d["notes"]["running"] and not d["warming"]["running"]
                                                         for d in t.status()["devices"]), "the end of what follows an answer")


def until_used(t, s, most=60):
    """Asks until a digest is made with notes."""
    for _ in range(most):
        s.ask()
        if counters(t)["notes_used"]:
            return
        settled(t)
        s.step()
    raise AssertionError(f"no digest with notes: {counters(t)}")


def until_written(t, s, most=60):
    for _ in range(most):
        s.ask()
        settled(t)
        if counters(t)["notes_written"] or notes_of(t)["running"]:
            return
        s.step()
    raise AssertionError(f"no notes: {counters(t)}")


def until_running(t, s, most=60):
    """Asks until the small device writes (it is slow)."""
    for _ in range(most):
        s.ask()
        wait_for(lambda: t.requests()["active"] == 0, "the end of what follows an answer")
        if notes_of(t)["running"]:
            return
        s.step()
    raise AssertionError("no notes are written")


@pytest.fixture
def noted(fake, tandem):
    """noted(...) -> (tandem, main backend, small backend)"""

    def start(window=6000, small=(), models=(SMALL,), condense=None, warm=False, answer=None, **groups):
        a = fake("main", type="llama-server", options=["--prefill", "50000", "--num-ctx", str(window), "--answer-tokens", "4"])
        b = fake("small", type="ollama", model=models, options=["--num-ctx", "8192", *small])
        if answer is not None:
            assert b.fault(**answer, times=-1)
        devices = [attached(a, slots=1, num_ctx=window), {**attached(b, "gpu1", ("condense",), slots=1, num_ctx=8192), "model": SMALL}]
        t = tandem(devices, routing={"mode": "adaptive", "min_gain_ms": 200, "warm": warm},
                   condense={"chunk_tokens": 400, **(condense or {})}, **groups)
        return t, a, b

    return start


def writes(t):
    return [e for e in t.events() if e["ev"] == "job_start" and e.get("kind") == "notes" and e["proc"] == "tandemd"]


QUOTE = {"excerpt": 120}


@pytest.mark.parametrize("warm", [False, True])
def test_the_next_digest_has_what_was_written(noted, warm):
    t, a, b = noted(answer=QUOTE, warm=warm)
    s = Session(t)
    until_used(t, s)
    settled(t)
    digest = digest_in(a.bodies()[-1])
    notes = lines_of_notes(digest)
    assert notes, digest[:2000]
    said = "\n".join(m["content"] for m in s.messages)
    assert all(line[2:] in said for line in notes), notes  # this small model quotes
    c = counters(t)
    assert c["notes_written"] > 0 and c["notes_kept"] > 0 and c["notes_bytes"] > 0
    status = t.status()
    assert status["notes"]["units"] > 0 and status["notes"]["digests"] == 1 and status["notes"]["held_bytes"] > 0
    assert notes_of(t)["done"] > 0
    assert not [e for e in t.events() if e["ev"] == "job_fail"]
    assert "function_" not in "".join(str(e) for e in t.events() if e["ev"] in ("digest_noted", "notes_run"))
    # what was sent once stays: the next requests begin with the same digest
    s.step(4)
    s.ask()
    assert digest_in(a.bodies()[-1]) == digest
    assert t.requests()["failed"] == 0 and t.requests()["fallbacks"] == 0


def test_the_same_bytes_after_a_restart(noted, tandem, folder):
    """... without the small device, too; explained as sent; and without notes where the store is lost."""
    state = os.path.join(folder, "state")
    t, a, b = noted(answer=QUOTE, state_dir=state)
    s = Session(t)
    until_used(t, s)
    settled(t)
    digest = digest_in(a.bodies()[-1])
    assert t.stop() == 0
    main = [attached(a, slots=1, num_ctx=6000)]
    routing = {"mode": "adaptive", "min_gain_ms": 200, "warm": False}
    t = s.t = tandem(main, routing=routing, condense={"chunk_tokens": 400}, state_dir=state)
    s.step(4)
    explained = subprocess.run([os.path.join(BIN, "tandemctl"), "explain", "-c", t.conf, "--sent", "-"], input=json.dumps(s.body()).encode(),
                               capture_output=True, timeout=30, check=True).stdout
    s.ask()
    assert digest_in(a.bodies()[-1]) == digest
    assert explained == a.bodies()[-1]
    assert t.stop() == 0
    os.remove(os.path.join(state, "tandem.mdb"))
    t = s.t = tandem(main, routing=routing, condense={"chunk_tokens": 400}, state_dir=state)
    s.ask()
    assert not digest_in(a.bodies()[-1]) and t.requests()["failed"] == 0


def test_notes_outlive_a_restart_before_they_are_used(noted, tandem, folder):
    state = os.path.join(folder, "state")
    t, a, b = noted(answer=QUOTE, state_dir=state)
    until_written(t, Session(t))
    units = t.status()["notes"]["units"]
    assert units and t.stop() == 0
    t = tandem([attached(a, slots=1, num_ctx=6000)], routing={"mode": "adaptive"}, state_dir=state)
    assert t.status()["notes"]["units"] == units


def test_what_the_small_model_makes_up_never_comes_in(noted):
    lies = "- the fault is in src/made_up_file.c\n- it took 987654321 ms\n- everybody is happy about it\n"
    t, a, b = noted(answer={"text": lies})
    s = Session(t)
    for _ in range(30):
        s.ask()
        settled(t)
        s.step()
    c = counters(t)
    assert c["notes_written"] > 0 and c["notes_kept"] == 0 and c["notes_used"] == 0
    assert c["notes_dropped"] == 3 * c["notes_written"]
    assert not any(b"made_up_file" in body or b"987654321" in body or b"happy" in body for body in a.bodies())


def test_a_model_whose_notes_do_not_hold_is_given_up(noted):
    t, a, b = noted(answer={"text": "- the fault is in src/made_up_file.c\n"})
    s = Session(t)
    for _ in range(50):
        s.ask()
        settled(t)
        if t.status()["notes"]["models_off"]:
            break
        s.step()
    given_up = t.events(ev="notes_given_up")
    assert len(given_up) == 1 and given_up[0]["model"] == SMALL and "made_up" not in str(given_up)
    written = counters(t)["notes_written"]
    assert written == 16
    for _ in range(4):
        s.step()
        s.ask()
        settled(t)
    assert counters(t)["notes_written"] == written
    assert t.operate("reload")["state"] == "done"  # it may try again
    assert t.status()["notes"]["models_off"] == 0


def test_they_are_not_written_where_that_is_not_wanted(noted):
    t, a, b = noted(answer=QUOTE, condense={"idle_notes": False})
    s = Session(t)
    for _ in range(25):
        s.ask()
        settled(t)
        s.step()
    assert counters(t)["notes_written"] == 0 and not writes(t)
    # the key is one that a reload brings
    with open(t.conf) as f:
        text = f.read()
    with open(t.conf, "w") as f:
        f.write(text.replace("idle_notes = false", "idle_notes = true"))
    assert t.operate("reload")["state"] == "done"
    until_written(t, s)


def test_a_clients_work_ends_them_at_once(noted):
    """The small device answers a client: what nobody waits for makes way, and comes again later."""
    t, a, b = noted(answer=None, small=("--prefill", "150", "--batch-size", "64"))  # a chunk takes seconds
    s = Session(t)
    until_running(t, s)
    wait_for(lambda: b.stats()["slots"]["active"] == 1, "the notes at the backend")
    status, headers, _ = t.chat("hello", model=SMALL, stream=True)
    assert status == 200 and headers["X-Tandem-Device"] == "gpu1"
    wait_for(lambda: t.events(ev="notes_run"), "the line of its end")
    run = t.events(ev="notes_run")[-1]
    assert run["end"] == "other work has come"
    told = [x for x in t.command(f"request {run['req']}")["steps"] if x["kind"] == "idle_notes"]
    assert [(x["device"], x["outcome"], x["why"]) for x in told] == [("gpu1", "cancelled", "other work has come")]
    assert counters(t)["notes_preempted"] == 1 and notes_of(t)["cancelled"] == 1
    done = wait_for(lambda: t.events(headers["X-Tandem-Request-Id"], ev="request_done"), "the line of its end")
    assert int(done[-1]["first_byte_ms"]) < 1500, done
    assert t.device("gpu1")["jobs"]["failed"] == 0
    s.step()
    s.ask()
    wait_for(lambda: notes_of(t)["running"], "another run")


def test_a_title_ends_them_at_once(noted):
    """The small lane, on a condensing device that is idle but for them."""
    t, a, b = noted(small=("--decode", "20"), answer={"tokens": 400})
    s = Session(t)
    until_running(t, s)
    b.fault(name="title", match="### Task", text="Where it fails")
    title = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n<chat_history>\n</chat_history>"
    status, head, data = t.chat(title)
    assert status == 200 and (head["X-Tandem-Strategy"], head["X-Tandem-Device"]) == ("small", "gpu1"), head.items()
    assert notes_of(t)["cancelled"] == 1 and t.requests()["fallbacks"] == 0


def test_a_clients_other_model_stays_where_it_is(noted):
    """An Ollama would unload it for the notes, and load it again for the client."""
    t, a, b = noted(answer=QUOTE, models=(SMALL, "x:1b"))
    status, headers, _ = t.chat("hello", model="x:1b", stream=True)
    assert status == 200 and headers["X-Tandem-Device"] == "gpu1"
    s = Session(t)
    for _ in range(25):
        s.ask()
        settled(t)
        s.step()
    assert counters(t)["notes_written"] == 0
    assert t.chat("hello", model=SMALL, stream=True)[0] == 200
    until_written(t, s)


def test_nothing_waits_for_them(noted):
    """A conversation goes on, and freezes, while the small device hangs over its notes."""
    t, a, b = noted(answer={"fault": "hang"}, condense={"job_timeout_ms": 600000})
    s = Session(t)
    until_running(t, s)
    for _ in range(12):
        s.step()
        s.ask()
    done = t.events(ev="request_done")
    assert all(int(e["first_byte_ms"]) < 2000 for e in done), done
    assert notes_of(t)["running"] == 1 and counters(t)["notes_used"] == 0
    assert not any(MARK.encode() in body for body in a.bodies())
    assert t.requests()["failed"] == 0
    assert t.stop(deadline=10) == 0  # nor does the end


@pytest.mark.parametrize("answer", [{"fault": "500"}, {"fault": "garbage"}, {"fault": "empty"}, {"cut": 1}])
def test_a_small_device_that_fails_is_let_alone(noted, answer):
    t, a, b = noted(answer=answer)
    s = Session(t)
    for _ in range(25):
        s.ask()
        settled(t)
        s.step()
    assert counters(t)["notes_failed"] == 1 and len(writes(t)) == 1  # its pause is longer than this test
    assert t.requests()["failed"] == 0 and t.requests()["fallbacks"] == 0


def test_a_dead_small_device_is_no_reason_to_wait(noted):
    t, a, b = noted(answer=QUOTE)
    s = Session(t)
    until_written(t, s)
    b.stop()
    for _ in range(10):
        s.step()
        s.ask()
    assert t.requests()["failed"] == 0
    assert all(int(e["first_byte_ms"]) < 2000 for e in t.events(ev="request_done"))


def test_top_shows_what_the_device_is_at(noted):
    t, a, b = noted(answer=None, small=("--prefill", "150", "--batch-size", "64"))
    s = Session(t)
    until_running(t, s)
    out = subprocess.run([os.path.join(BIN, "tandemctl"), "top", "-R", t.run_dir, "--once"], capture_output=True, timeout=30, text=True)
    row = next(line for line in out.stdout.splitlines() if line.startswith("gpu1"))
    assert " notes " in row, out.stdout + out.stderr


def test_in_the_threshold_mode_none_are_written(fake, tandem):
    a = fake("main", type="llama-server", options=["--num-ctx", "6000"])
    b = fake("small", type="ollama", model=(SMALL,), options=["--num-ctx", "8192"])
    t = tandem([attached(a, slots=1, num_ctx=6000), {**attached(b, "gpu1", ("condense",), slots=1, num_ctx=8192), "model": SMALL}],
               condense={"chunk_tokens": 400, "job_timeout_ms": 2000})
    s = Session(t)
    for _ in range(15):
        s.ask()
        settled(t)
        s.step()
    assert counters(t)["notes_written"] == 0 and t.status()["notes"]["units"] == 0


def test_what_is_kept_is_bounded(noted):
    t, a, b = noted(answer=QUOTE, limits={"notes_bytes": 2000})
    s = Session(t)
    for _ in range(35):
        s.ask()
        settled(t)
        assert t.status()["notes"]["held_bytes"] <= 2 * 2000
        s.step()
    assert counters(t)["notes_written"] > 5 and t.requests()["failed"] == 0
