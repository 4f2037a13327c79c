"""Who waits, for how long, and who is refused: classes, fairness between clients, pre-emption, and retries that join."""

import json
import os
import signal
import time

import pytest

from conftest import attached
from harness import Client, in_thread, ndjson, ollama_text, spent, wait_for
from test_cancel import PATHS, ask, cancelled, under_way
from test_routes import prompt


HELD_MS = 600000  # of an answer that waits until it is told to go on: Control.go()


@pytest.fixture
def one(fake, tandem):
    """one(device={...}, options=[...], group={...}) -> (tandem, its only backend, which has one slot)."""

    def start(device=None, options=(), type="ollama", **groups):
        a = fake("main", type=type, options=options)
        return tandem([attached(a, **{"slots": 1, "num_ctx": 16384, **(device or {})})], **groups), a

    return start


def send(t, text, path="/api/chat", agent="test", headers=(), stream=True, **more):
    """The agent is the key, too: a name alone makes no client."""
    key = [] if any(h.startswith("Authorization:") for h in headers) else [f"Authorization: Bearer {agent}"]
    return Client(t).send("POST", path, ask(path, text, stream, **more), [f"User-Agent: {agent}", *key, *headers])


def waiting(t, n, kind=None):
    """So many requests wait (of that class)."""
    def look():
        return (t.device("gpu0")["queue"][kind] if kind else t.device("gpu0")["waiting"]) == n
    wait_for(look, f"{n} waiting {kind or ''}")


def block(t, a):
    """Holds the only slot until it is closed."""
    a.fault(times=1, fault="hang", match="block")
    c = send(t, "block", agent="blocker")
    under_way(a)
    return c


def answer(c):
    """The whole answer, white space of heartbeats left out."""
    status = c.head()
    return status, c.rest().lstrip()


def chats(a):
    """The requests for an answer that have reached the backend, in order (loading a model has no messages)."""
    a.stats()
    return [b for b in a.bodies() if json.loads(b or b"{}").get("messages") or json.loads(b or b"{}").get("prompt")]


def count(a, text):
    return sum(text.encode() in body for body in chats(a))


# --- fairness ---


def test_a_long_row_delays_nobody_else(one):
    """50 long requests of one client are in front; another client's small one waits for the one that runs."""
    t, a = one(options=("--decode", "500"))
    row = [send(t, f"[[fake tokens=150]] number {i}", agent="greedy") for i in range(50)]
    waiting(t, 49)
    before = t.device("gpu0")["jobs"]["done"]
    status, data = answer(send(t, "[[fake tokens=2]] small", agent="modest"))
    after = t.device("gpu0")["jobs"]["done"]
    assert status == 200 and ndjson(data)[-1]["done"]
    # the one that ran, one more if that ended before ours came, and ours
    assert after - before <= 3, (before, after)
    for c in row:
        c.close()
    t.wait_idle()


def test_two_rows_take_turns(one):
    """By tokens: of two equal rows, the one that came first has no more than one request's lead."""
    t, a = one()
    blocker = block(t, a)
    clients = []
    for agent in ("first", "second"):
        for i in range(8):
            clients.append(send(t, f"{agent} {i}", agent=agent))
            waiting(t, len(clients))
    queue = t.status()["queue"]
    assert queue["waiting"] == 16 and queue["clients"] == 2 and queue["oldest_ms"] >= 0
    blocker.close()
    for c in clients:
        assert answer(c)[0] == 200
    order = [json.loads(b)["messages"][-1]["content"] for b in chats(a)[1:]]
    assert [o for o in order if o.startswith("first")] == [f"first {i}" for i in range(8)]
    assert [o for o in order if o.startswith("second")] == [f"second {i}" for i in range(8)]
    for n in range(1, len(order)):
        firsts = sum(o.startswith("first") for o in order[:n])
        assert abs(2 * firsts - n) <= 2, order


def test_classes(one):
    """What a person waits for goes first, then agents, then what nobody asked for; a header says otherwise."""
    t, a = one()
    blocker = block(t, a)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    wanted = [("### Task:\nGenerate a concise, 3-5 word title\n\n### Guidelines:\n", {}, "idle"),
              ("agent by tools", {"tools": tools}, "agent"),
              ("agent by header", {"headers": ["X-Tandem-Class: agent"]}, "agent"),
              ("agent by name", {"agent": "Cline/3"}, "agent"),
              ("idle by header", {"headers": ["X-Tandem-Class: Idle"], "tools": tools}, "idle"),
              ("a question", {}, "interactive"),
              # Open WebUI asks about documents with the same first line as for titles
              ("### Task:\nRespond to the user query using the provided context\n<context>title</context>", {}, "interactive"),
              ("wish unknown", {"headers": ["X-Tandem-Class: map"]}, "interactive")]
    clients = []
    for n, (text, more, kind) in enumerate(wanted):
        before = t.device("gpu0")["queue"][kind]
        clients.append(send(t, text, **more))
        waiting(t, before + 1, kind)
        waiting(t, n + 1)
    blocker.close()
    for c in clients:
        status, data = answer(c)
        assert status == 200 and ndjson(data)[-1]["done"]
    kinds = {text: kind for text, _, kind in wanted}
    order = [kinds[json.loads(b)["messages"][-1]["content"]] for b in chats(a)[1:]]
    assert len(order) == len(wanted) and order == sorted(order, key=["interactive", "agent", "map", "idle"].index), order
    assert {e["class"] for e in t.events() if e["ev"] == "plan"} == {"interactive", "agent", "idle"}
    started = [e for e in t.events() if e["ev"] == "job_start" and e["proc"] == "tandemd"]
    assert all(len(e["client"]) == 16 for e in started) and len({e["client"] for e in started}) == 3
    # a word to the gateway alone is not the backend's to see
    assert "x-tandem-class" not in json.dumps(a.stats()).lower()


# --- refusals ---


@pytest.mark.parametrize("path", PATHS)
def test_a_full_queue_refuses_at_once(one, path):
    t, a = one(limits={"queue": 2})
    blocker = block(t, a)
    row = [send(t, f"row {i}", path) for i in range(2)]
    waiting(t, 2)
    times = []
    for i in range(5):
        begun = time.monotonic()
        c = send(t, f"more {i}", path, agent=f"agent {i}")
        status, data = answer(c)
        times.append(spent(begun))
        assert status == 503 and 1 <= int(c.headers["retry-after"]) <= 60
        error = json.loads(data)["error"]
        assert "busy" in (error["message"] if path.startswith("/v1") else error)
    assert min(times) < 0.1, times
    assert count(a, "more") == 0
    blocker.close()
    for c in row:
        assert answer(c)[0] == 200
    t.wait_idle()


def test_retry_after_grows_with_the_queue(one):
    t, a = one(limits={"queue": 4})
    blocker = block(t, a)
    row = [send(t, f"row {i} " + "x" * 12000) for i in range(4)]
    waiting(t, 4)
    c = send(t, "one too many", agent="other")
    assert answer(c)[0] == 503
    # 4 x (3000 tokens at 800/s + 512 at 40/s), before any measurement
    assert 30 <= int(c.headers["retry-after"]) <= 60, c.headers
    for c in row + [blocker]:
        c.close()
    t.wait_idle()


def test_one_client_does_not_fill_the_queue(one):
    t, a = one(limits={"queue": 100, "queue_per_client": 3})
    blocker = block(t, a)
    row = [send(t, f"row {i}", agent="greedy") for i in range(3)]
    waiting(t, 3)
    for headers in ([], ["X-Tandem-Class: idle"], ["X-Tandem-Class: agent"]):
        assert answer(send(t, "one too many", agent="greedy", headers=headers))[0] == 503
    others = [send(t, "another client", agent="modest"), send(t, "another key", agent="greedy", headers=["Authorization: Bearer k2"])]
    waiting(t, 5)
    assert count(a, "one too many") == 0
    blocker.close()
    for c in row + others:
        assert answer(c)[0] == 200
    assert "k2" not in t.log()


# --- notes make room ---


def test_notes_are_preempted(fake, tandem):
    """One device that condenses and answers: a question does not wait for another request's notes, which then run again."""
    a = fake("main")
    t = tandem([attached(a, roles=("main", "condense"), slots=1, num_ctx=16384)])
    first = send(t, prompt(3568), agent="agent")
    status, undisturbed = answer(first)
    assert status == 200 and first.headers["x-tandem-strategy"] == "B" and "fallback" not in first.headers["x-tandem-reason"]
    notes, final = chats(a)
    a.fault(times=1, hang_after=2, match="src/part_")
    long = send(t, prompt(3568), agent="agent")
    wait_for(lambda: t.device("gpu0")["inflight"] == 1 and a.stats()["requests"]["active"] == 1, "notes that hang")
    begun = time.monotonic()
    status, data = answer(send(t, "a question", agent="person"))
    assert status == 200 and ndjson(data)[-1]["done"] and time.monotonic() - begun < 5
    status, data = answer(long)
    assert status == 200 and ollama_text(data) == ollama_text(undisturbed)
    assert long.headers["x-tandem-strategy"] == "B" and "fallback" not in long.headers["x-tandem-reason"]
    jobs = t.device("gpu0")["jobs"]
    assert jobs["preempted"] == 1 and jobs["failed"] == 0
    sent = chats(a)
    # again from the beginning (each time between other random marks), and nothing of the first try is in what came of it
    assert len(sent) == 6 and len(sent[2]) == len(sent[4]) == len(notes) and sent[5] == final
    assert b"a question" in sent[3]
    assert [e["ev"] for e in t.events() if e["ev"] == "job_preempt"] == ["job_preempt"]
    assert t.requests()["failed"] == 0 and t.requests()["fallbacks"] == 0


def test_notes_are_preempted_twice_at_most(fake, tandem):
    a = fake("main")
    t = tandem([attached(a, roles=("main", "condense"), slots=1, num_ctx=16384)], condense={"job_timeout_ms": 60000})
    a.fault(times=2, fault="hang", match="src/part_")
    a.fault(times=1, delay_ms=HELD_MS, match="src/part_")
    long = send(t, prompt(3568), agent="agent")
    for n in range(3):
        wait_for(lambda: a.stats()["requests"]["active"] == 1 and t.device("gpu0")["inflight"] == 1, "notes at work")
        question = send(t, f"question {n}", agent="person")
        if n == 2:  # the third time it waits for them
            a.struck()
            waiting(t, 1)
            a.go()
        status, data = answer(question)
        assert status == 200 and ndjson(data)[-1]["done"]
        wait_for(lambda: t.device("gpu0")["queue"]["map"] == 0, "the notes' next run")
        assert t.device("gpu0")["jobs"]["preempted"] == min(n + 1, 2)
    status, data = answer(long)
    assert status == 200 and "fallback" not in long.headers["x-tandem-reason"]
    assert t.requests()["fallbacks"] == 0


# --- retries ---


RETRY = {"limits": {"coalesce_after_ms": 0}}


def joined(t, n):
    return wait_for(lambda: t.requests()["coalesced"] == n, f"{n} joined")


@pytest.mark.parametrize("type", ["ollama", "llama-server"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("where", ["queued", "running"])
def test_retries_share_one_answer(one, where, path, stream, type):
    t, a = one(type=type, **RETRY)
    blocker = block(t, a) if where == "queued" else None
    if not blocker:
        a.fault(times=1, delay_ms=HELD_MS, match="retry me")
    text = "[[fake tokens=50]] retry me"
    first = send(t, text, path, stream=stream)
    if blocker:
        waiting(t, 1)
    else:
        a.struck()
    again = [send(t, text, path, stream=stream) for _ in range(2)]
    joined(t, 2)
    if blocker:
        blocker.close()
    else:
        a.go()
    answers = [answer(c) for c in [first, *again]]
    assert answers[0][0] == 200 and answers[1] == answers[0] and answers[2] == answers[0]
    assert b"w49" in answers[0][1] and len(answers[0][1]) > 200
    assert count(a, "retry me") == 1
    ids = [c.headers["x-tandem-request-id"] for c in [first, *again]]
    assert len(set(ids)) == 3
    for c in again:
        assert c.headers["x-tandem-reason"].endswith(f"; joined {ids[0]}")
        assert c.headers["content-type"] == first.headers["content-type"] and c.headers["x-tandem-device"] == "gpu0"
    assert "joined" not in first.headers["x-tandem-reason"]
    t.wait_idle()
    counts = t.requests()
    assert counts["coalesced"] == 2 and counts["failed"] == 0 and counts["total"] == 3 + (where == "queued")
    assert t.chat("afterwards")[0] == 200


def test_five_in_all(one):
    """Four join one; the sixth request runs by itself."""
    t, a = one(**RETRY)
    blocker = block(t, a)
    clients = [send(t, "retry me")]
    waiting(t, 1)
    clients += [send(t, "retry me") for _ in range(5)]
    joined(t, 4)
    waiting(t, 2)
    blocker.close()
    answers = {answer(c)[0] for c in clients}
    assert answers == {200} and count(a, "retry me") == 2


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("phase", ["queued", "running", "in mid-answer"])
def test_the_first_one_leaves(one, phase, stream):
    """The others get the whole answer, from one run; nothing is cancelled at the backend."""
    t, a = one(options=() if stream else ("--decode", "50"), **RETRY)  # only a stream can be held in mid-answer
    blocker = block(t, a) if phase == "queued" else None
    if not blocker:
        a.fault(times=1, delay_ms=HELD_MS, match="retry me", **({"hang_after": 3} if phase == "in mid-answer" and stream else {}))
    text = "[[fake tokens=100]] retry me"
    clients = [send(t, text, stream=stream)]
    if blocker:
        waiting(t, 1)
    else:
        a.struck()
    clients += [send(t, text, stream=stream) for _ in range(2)]
    joined(t, 2)
    if phase == "in mid-answer":
        a.go()
        if stream:
            assert [c.head() for c in clients] == [200] * 3 and all(c.piece() for c in clients[:1])
        else:
            wait_for(lambda: a.stats()["slots"]["active"] == 1, "a slot at work")
    left = clients.pop(0)
    left.close()
    wait_for(lambda: t.requests()["cancelled"] == 1 and t.requests()["active"] == (3 if blocker else 2), "the leaving")
    if blocker:
        blocker.close()
    else:
        a.go()
    ids = set()
    for c in clients:
        if phase == "in mid-answer" and stream:
            data = c.rest()
        else:
            status, data = answer(c)
            assert status == 200
        ids.add(c.headers["x-tandem-request-id"])
        assert "joined" in c.headers["x-tandem-reason"]
        assert ollama_text(data) == "".join(f"w{i} " for i in range(100)).strip() and ndjson(data)[-1]["done"]
    assert len(ids) == 2 and count(a, "retry me") == 1
    t.wait_idle()
    assert cancelled(a) == (1 if phase == "queued" else 0)  # the blocker's
    assert t.requests()["failed"] == 0
    done = [e["req"] for e in t.events() if e["ev"] == "request_done"]
    assert ids <= set(done)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_all_leave(one, order):
    """Only then is the work cancelled."""
    t, a = one(**RETRY)
    a.fault(times=1, fault="hang", match="retry me")
    clients = [send(t, "retry me")]
    under_way(a)
    clients += [send(t, "retry me") for _ in range(2)]
    joined(t, 2)
    for n, i in enumerate(order):
        assert cancelled(a) == 0 and t.device("gpu0")["inflight"] == 1
        clients[i].close()
        wait_for(lambda: t.requests()["cancelled"] == n + 1, "the leaving")
    wait_for(lambda: cancelled(a) == 1, "the cancel")
    t.wait_idle()
    assert t.chat("hello")[0] == 200


@pytest.mark.parametrize("difference", ["client", "key", "body", "path", "first byte", "switched off", "too soon"])
def test_not_the_same(one, difference):
    """Each of these runs by itself."""
    limits = {"coalesce": False, "coalesce_after_ms": 0} if difference == "switched off" else \
        {"coalesce_after_ms": 60000} if difference == "too soon" else RETRY["limits"]
    t, a = one(device={"slots": 2}, options=("--slots", "2"), limits=limits)
    text = "[[fake tokens=60 hang_after=3]] retry me"
    first = send(t, text)
    if difference == "first byte":
        assert first.head() == 200 and first.piece()
    else:
        under_way(a)
    more = {"agent": "other"} if difference == "client" else {"headers": ["Authorization: Bearer x"]} if difference == "key" else \
        {"think": False} if difference == "body" else {}
    second = send(t, text, "/api/chat?x=1" if difference == "path" else "/api/chat", **more)
    wait_for(lambda: a.stats()["slots"]["active"] == 2, "both at work")
    a.go()
    data = [first.rest()] if difference == "first byte" else [answer(first)[1]]
    data.append(answer(second)[1])
    assert all(ndjson(d)[-1]["done"] for d in data)
    assert count(a, "retry me") == 2 and t.requests()["coalesced"] == 0


def test_a_retry_as_a_client_sends_it(one):
    """With the defaults: the first request is older than coalesce_after_ms when the same comes again."""
    t, a = one()
    blocker = block(t, a)
    first = send(t, "retry me")
    waiting(t, 1)
    wait_for(lambda: t.status()["queue"]["oldest_ms"] > 600, "a request that waits for long")
    second = send(t, "retry me", headers=["X-Stainless-Retry-Count: 1"])
    joined(t, 1)
    blocker.close()
    assert answer(first) == answer(second) and count(a, "retry me") == 1


@pytest.mark.parametrize("stream", [True, False])
def test_errors_are_shared(one, stream):
    t, a = one(**RETRY)
    blocker = block(t, a)
    a.fault(times=1, fault="500", error="kaputt", match="retry me")
    first = send(t, "retry me", stream=stream)
    waiting(t, 1)
    second = send(t, "retry me", stream=stream)
    joined(t, 1)
    blocker.close()
    answers = [answer(first), answer(second)]
    assert answers[0] == answers[1] and answers[0][0] == 500 and b"kaputt" in answers[0][1]
    assert t.requests()["failed"] == 2 and count(a, "retry me") == 1


def test_heartbeats_for_each(one):
    """Each of them has its status line in time, though they came at different times; the answers are whole."""
    t, a = one(deadlines={"first_byte_ms": 200, "heartbeat_ms": 100}, **RETRY)
    blocker = block(t, a)
    first = send(t, "retry me")
    assert first.head() == 200 and first.piece() == b" "
    second = send(t, "retry me")
    joined(t, 1)
    assert second.head() == 200 and second.piece() == b" "
    blocker.close()
    answers = [c.rest().lstrip() for c in (first, second)]
    assert answers[0] == answers[1] and ndjson(answers[0])[-1]["done"]
    assert count(a, "retry me") == 1


def test_the_worker_dies(one):
    """Before the first byte the answer is begun again, for all of them."""
    t, a = one(**RETRY)
    a.fault(times=1, fault="hang", match="retry me")
    first = send(t, "retry me")
    under_way(a)
    second = send(t, "retry me")
    joined(t, 1)
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    answers = [answer(first), answer(second)]
    assert answers[0] == answers[1] and answers[0][0] == 200 and ndjson(answers[0][1])[-1]["done"]
    assert count(a, "retry me") == 2


@pytest.mark.parametrize("stream", [True, False])
def test_the_worker_dies_in_mid_answer(one, stream):
    """Whatever becomes of the answer then, all of them see the same."""
    t, a = one(options=() if stream else ("--decode", "50"), **RETRY)
    a.fault(times=1, delay_ms=HELD_MS, match="retry me", **({"hang_after": 3} if stream else {}))
    text = "[[fake tokens=100]] retry me"
    first = send(t, text, stream=stream)
    a.struck()
    second = send(t, text, stream=stream)
    joined(t, 1)
    a.go()
    if stream:
        assert first.head() == 200 and first.piece()
    else:
        wait_for(lambda: a.stats()["slots"]["active"] == 1, "a slot at work")
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    if stream:
        assert second.head() == 200
        whole = [c.rest() for c in (first, second)]
        assert whole[1].endswith(whole[0]) and len(whole[1]) > len(whole[0])  # a piece was read before
        data = whole[1]
    else:
        answers = [answer(first), answer(second)]
        assert answers[0] == answers[1]
        data = answers[0][1]
    last = ndjson(data)[-1]
    assert last.get("done") or isinstance(last["error"], str), last
    t.wait_idle()
    assert t.chat("afterwards")[0] == 200


@pytest.mark.parametrize("leaves", [False, True])
def test_a_slow_reader(one, leaves):
    """The slower one sets the pace, and loses nothing; when it leaves, the other one goes on."""
    t, a = one(options=("--num-ctx", "100000"), device={"num_ctx": 100000}, **RETRY)
    blocker = block(t, a)
    tokens = 40000  # some 4 MB as NDJSON: more than sockets and windows hold
    text = f"[[fake tokens={tokens}]] retry me"
    fast = send(t, text)
    waiting(t, 1)
    slow = Client(t, SO_RCVBUF=65536).send("POST", "/api/chat", ask("/api/chat", text), ["User-Agent: test", "Authorization: Bearer test"])
    joined(t, 1)
    blocker.close()
    reader = in_thread(lambda: answer(fast))
    seen = []

    def standstill():
        seen.append(len(fast.data))
        return len(seen) > 60 and len(set(seen[-40:])) == 1

    wait_for(standstill, "a standstill")
    assert reader.is_alive() and t.device("gpu0")["inflight"] == 1
    if leaves:
        slow.close(reset=True)
        status, data = reader.join()
    else:
        slow_answer = answer(slow)
        status, data = reader.join()
        assert slow_answer == (status, data)
    assert status == 200 and ndjson(data)[-1]["eval_count"] == tokens
    assert len(ndjson(data)) > 100 and count(a, "retry me") == 1
    t.wait_idle()


def test_condensed_once_for_all(pair):
    """A long prompt's retry joins while its notes are written."""
    t, a, b = pair(**RETRY)
    b.fault(times=1, delay_ms=HELD_MS, match="src/part_")
    first = send(t, prompt(3568))
    b.struck()
    second = send(t, prompt(3568))
    joined(t, 1)
    b.go()
    first_answer, second_answer = answer(first), answer(second)
    assert first_answer == second_answer and first_answer[0] == 200
    assert second.headers["x-tandem-strategy"] == "B" and second.headers["x-tandem-tokens"] == first.headers["x-tandem-tokens"]
    assert t.device("gpu1")["jobs"]["done"] == 1 and t.device("gpu0")["jobs"]["done"] == 1


# --- how fast a device is ---


@pytest.mark.parametrize("type", ["ollama", "llama-server"])
def test_cached_tokens_teach_no_speed(one, type):
    """The same request three times: Ollama counts the tokens it had cached and times only the others."""
    t, a = one(type=type, options=["--prefill", "4000"])
    speeds = []
    for _ in range(3):
        status, _, _ = t.chat("[[fake tokens=2]] " + "many words " * 400)
        assert status == 200
        speeds.append(t.device("gpu0")["prefill_tok_s"])
    assert all(abs(s - 4000) < 400 for s in speeds), speeds


# --- nobody will come ---


@pytest.mark.parametrize("path", PATHS)
def test_a_failed_device_refuses_at_once(fake, tandem, path):
    """Its workers died too often: what waited is told so, and what comes is refused without a wait."""
    a = fake("main")
    t = tandem([attached(a, slots=1)], backoff={"first_ms": 1, "max_ms": 2, "max_restarts": 2},
               deadlines={"main_wait_ms": 600000})
    a.fault(times=-1, fault="hang", match="block")  # it is begun anew after each death
    blocker = send(t, "block", path)
    under_way(a)
    row = [send(t, f"row {i}", path) for i in range(2)]
    waiting(t, 2)

    def failed():
        d = t.device("gpu0")
        if d["state"] != "failed" and d["pid"]:
            os.kill(d["pid"], signal.SIGKILL)
        return d["state"] == "failed"

    wait_for(failed, "a failed device")
    for c in row:
        assert answer(c)[0] in (200, 422, 503)  # some may have run before, or have had workers die under them
    begun = time.monotonic()
    c = send(t, "too late", path)
    assert answer(c)[0] == 503 and int(c.headers["retry-after"]) >= 1
    assert spent(begun) < 1
    assert count(a, "too late") == 0
    assert answer(blocker)[0] in (422, 503)
    t.wait_idle()
