"""Conversations that come back to a real llama-server: after a crash, another conversation in its slot, another model. The server's own count
(`cache_n`) is the witness; the times to the first token are printed beside those of a warm turn."""

import json
import os
import shutil
import signal
import statistics
import time

import pytest

from harness import Tandem, wait_for

ROUNDS = 3
TOKENS = 1500
ENDS = 64  # tokens of a turn that may be new: its question, the answer's end, the template's marks


class Talk:
    def __init__(self, t, name):
        self.t = t
        self.messages = [{"role": "user", "content": f"{name}: " + " ".join(f"{name} {i}." for i in range(TOKENS // 5))}]

    def turn(self):
        """Seconds to the first token; tokens that were cached, and all of the prompt."""
        body = {"model": "m", "messages": self.messages, "stream": True, "stream_options": {"include_usage": True}, "temperature": 0, "max_tokens": 8}
        c = self.t.connect(280)
        begun, first, text, usage = time.monotonic(), None, "", None
        c.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        r = c.getresponse()
        assert r.status == 200, r.read()
        for line in r:
            if not line.startswith(b"data: {"):
                continue
            o = json.loads(line[6:])
            assert "error" not in o, o
            piece = o["choices"][0]["delta"].get("content") if o.get("choices") else None
            first = first or (time.monotonic() - begun if piece else None)
            text += piece or ""
            usage = o.get("usage") or usage
        c.close()
        self.messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "Go on."}]
        return first, usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]

    def warm(self):
        first, cached, prompt = self.turn()
        assert prompt - cached < ENDS, (cached, prompt)
        return first


@pytest.fixture
def place(engine, tmp_path):
    """place(*options): a tandem that keeps conversations; place.device(model): the device that serves another file."""
    (binary, *library), model = engine
    env = {"LD_LIBRARY_PATH": library[0]} if library and library[0] else None
    running = []

    def device(of, *options):
        return {"name": "cpu0", "roles": ["main"], "slots": 1, "num_ctx": 8192,
                "backend": {"type": "llama-server", "command": [binary, "-m", of, "-c", "8192", "-np", "1", "--alias", "m", "--no-webui", *options]}}

    def begin(*options):
        t = Tandem(str(tmp_path), [device(model, *options)], env=env, **begin.more)
        running.append(t)
        t.wait_ready(deadline=120)
        return t

    begin.device, begin.model = device, model
    begin.more = {"state_dir": str(tmp_path / "state"), "routing": {"a_max_tokens": 100000, "b_max_tokens": 100000},
                  "deadlines": {"kv_idle_ms": 100, "first_byte_ms": 60000, "worker_boot_ms": 120000}}
    yield begin
    for t in running:
        t.stop()


def wait_saved(t, before):
    """Everything that its conversation holds: what is nearly the same is written later."""
    wait_for(lambda: t.device("cpu0")["kept"]["saved"] > before, "a conversation that is saved", 60)


def tell(what, warm, back, t):
    w, b = statistics.median(warm), statistics.median(back)
    said = {ev: [(e.get("at"), e["bytes"], e["ms"]) for e in t.events(ev=ev)][-1:] for ev in ("slots_saved", "slots_restored")}
    print(f"\n{what}: first token {1000 * b:.0f} ms, warm {1000 * w:.0f} ms, ratio {b / w:.2f}; {said}")


def came_back(t, talk):
    first, cached, prompt = talk.turn()
    assert prompt - cached < ENDS, (cached, prompt, t.log()[-3000:])
    return first


def crash(t):
    before = t.device("cpu0")["backend"]["pid"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: (d := t.device("cpu0"))["state"] == "ready" and d["backend"]["pid"] != before, "the next server", 120)


def test_after_a_crash(place):
    t = place()
    talk = Talk(t, "ann")
    cold, _, _ = talk.turn()
    warm, back = [], []
    for n in range(ROUNDS):
        warm.append(talk.warm())
        wait_saved(t, n)
        crash(t)
        back.append(came_back(t, talk))
    tell(f"a crash (cold {1000 * cold:.0f} ms)", warm, back, t)
    assert t.device("cpu0")["kept"]["wrong"] == 0


def test_after_another_conversation_in_its_slot(place):
    t = place("--cache-ram", "0")
    talk, other = Talk(t, "ann"), Talk(t, "bob")
    cold, _, _ = talk.turn()
    warm, back = [], []
    for _ in range(ROUNDS):
        before = t.device("cpu0")["kept"]["saved"]
        warm.append(talk.warm())
        wait_saved(t, before)
        other.turn()
        back.append(came_back(t, talk))
    tell(f"another conversation (cold {1000 * cold:.0f} ms)", warm, back, t)
    assert t.device("cpu0")["kept"]["restored"] >= ROUNDS and t.device("cpu0")["kept"]["wrong"] == 0


def test_after_another_model(place, tmp_path):
    t = place()
    other = str(tmp_path / "other.gguf")
    shutil.copy(place.model, other)
    talk = Talk(t, "ann")
    cold, _, _ = talk.turn()

    def swap(to):
        before = t.device("cpu0")["backend"]["pid"]
        with open(t.conf) as f:
            text = f.read()
        with open(t.conf, "w") as f:
            f.write(text.replace(place.model, to) if to == other else text.replace(other, place.model))
        assert t.operate("reload", 200)["state"] == "done"
        wait_for(lambda: (d := t.device("cpu0"))["state"] == "ready" and d["backend"]["pid"] != before, "the other model", 120)

    warm, back = [], []
    for _ in range(ROUNDS):
        warm.append(talk.warm())
        swap(other)
        swap(place.model)
        back.append(came_back(t, talk))
    tell(f"another model and back (cold {1000 * cold:.0f} ms)", warm, back, t)


@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_damaged_files(place, tmp_path, harm):
    t = place()
    talk = Talk(t, "ann")
    talk.turn()
    wait_saved(t, 0)
    where = tmp_path / "state" / "kv-cpu0"
    path = next(p for p in where.iterdir() if p.name.endswith(".bin"))
    with open(path, "r+b") as f:
        if harm == "cut":
            f.truncate(path.stat().st_size // 2)
        else:
            f.write(b"\x5a" * 200)
    crash(t)
    _, cached, _ = talk.turn()
    assert cached < 100
    talk.warm()
