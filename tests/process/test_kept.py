"""Conversations that come back: after a crash of their backend, a restart of tandemd, another conversation in their slot, another model."""

import ctypes
import json
import os
import signal
import stat

import pytest

from harness import BIN, wait_for
from test_reload import write
from test_upgrade import upgradable  # noqa: F401 - a fixture

LONG = {"a_max_tokens": 100000, "b_max_tokens": 100000}


def model_file(folder, name="m.gguf", text="weights"):
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write(text)
    return path


# A prompt takes a sixth of a second to read: reading a file back is sooner by far, on a busy machine too, and so is done.
READS = ("--prefill", "20000")


def started(model, *options, slots=1, name="gpu0"):
    command = [os.path.join(BIN, "fake-backend"), "--type", "llama-server", "--model", "m:1b", "-m", model, "--slots", str(slots), *READS, *options]
    return {"name": name, "roles": ["main"], "slots": slots, "model": "m:1b", "backend": {"type": "llama-server", "command": command}}


class Talk:
    """One conversation; turn() tells how many tokens of its prompt were not computed again, and how many there were."""

    def __init__(self, t, name, words=1500):
        self.t, self.messages = t, [{"role": "user", "content": f"{name} {name}, " + f"{name}-long " * words}]

    def turn(self):
        status, _, body = self.t.request("POST", "/v1/chat/completions", {"model": "m:1b", "messages": self.messages})
        answer = json.loads(body)
        assert status == 200, answer
        self.messages += [answer["choices"][0]["message"], {"role": "user", "content": "and then?"}]
        timings = answer["timings"]
        return timings["cache_n"], timings["cache_n"] + timings["prompt_n"]


def begin(tandem, folder, device, kv_bytes=10**9, idle_ms=50, **more):
    more.setdefault("limits", {})["kv_bytes"] = kv_bytes
    more.setdefault("deadlines", {})["kv_idle_ms"] = idle_ms
    return tandem([device], state_dir=os.path.join(folder, "state"), routing=dict(LONG), **more)


def kept(t):
    return t.device("gpu0")["kept"]


def files(folder):
    where = os.path.join(folder, "state", "kv-gpu0")
    return sorted(n for n in os.listdir(where) if n.endswith(".bin"))


def wait_saved(t, n):
    return wait_for(lambda: (k := kept(t))["saved"] >= n and k, f"{n} conversations saved")


def wait_saved_with(t, prompt):
    """What the slot holds behind a turn with so many tokens, the answer's 16 too: the turn before it may have been saved as well."""
    wait_for(lambda: any(abs(int(e["tokens"]) - prompt - 16) < 4 for e in events(t, "slots_saved")), "its file")


def crash(t):
    before = t.device("gpu0")
    os.kill(before["backend"]["pid"], signal.SIGKILL)
    wait_for(lambda: (d := t.device("gpu0"))["state"] == "ready" and d["backend"]["pid"] != before["backend"]["pid"], "the next backend")


def foreseen(t, cached):
    said = [e for e in t.events() if e["ev"] == "forecast"][-1]
    assert 0.9 * cached < int(said["cached_expected"]) < 1.1 * cached + 50, said


def test_a_crash_costs_no_conversation(tandem, folder):
    t = begin(tandem, folder, started(model_file(folder)))
    a = Talk(t, "ann")
    a.turn()
    warm, prompt = a.turn()
    wait_saved_with(t, prompt)
    wait_for(lambda: kept(t)["saved"] and files(folder), "its file")
    crash(t)
    cached, prompt = a.turn()
    assert cached >= warm and prompt - cached < 60, (cached, prompt, warm)
    foreseen(t, cached)
    assert kept(t)["restored"] == 1 and kept(t)["wrong"] == 0
    assert [e for e in t.events() if e["ev"] == "slots_used"]
    where = os.path.join(folder, "state", "kv-gpu0")
    assert stat.S_IMODE(os.stat(where).st_mode) == 0o700
    for name in files(folder):
        assert stat.S_IMODE(os.stat(os.path.join(where, name)).st_mode) == 0o600


def events(t, ev, **fields):
    return [e for e in t.events() if e["ev"] == ev and all(str(e.get(k)) == str(v) for k, v in fields.items())]


def test_a_backend_that_outlives_its_worker_keeps_them(tandem, folder):
    """Nothing is restored over what its slots hold, and that is known."""
    t = begin(tandem, folder, started(model_file(folder), "--cache-ram", "0"))
    a = Talk(t, "ann")
    a.turn()
    wait_saved(t, 1)
    before = t.device("gpu0")
    os.kill(before["pid"], signal.SIGKILL)
    wait_for(lambda: (d := t.device("gpu0"))["state"] == "ready" and d["pid"] != before["pid"], "the next worker")
    assert t.device("gpu0")["backend"]["pid"] == before["backend"]["pid"]
    cached, prompt = a.turn()
    assert prompt - cached < 40, (cached, prompt)
    foreseen(t, cached)
    assert kept(t)["restored"] == 0 and kept(t)["conversations"] == 1


def test_an_upgrade_keeps_them(upgradable, folder):
    """The new tandemd knows of the file alone; its worker, that the slot may have more than it."""
    t = begin(upgradable, folder, started(model_file(folder), "--cache-ram", "0"))
    a, b = Talk(t, "ann"), Talk(t, "bob")
    b.turn()
    wait_saved(t, 1)
    a.turn()
    wait_saved(t, 2)
    backend = t.device("gpu0")["backend"]["pid"]
    assert t.operate("upgrade")["state"] == "done"
    wait_for(lambda: kept(t)["conversations"] == 2, "what the files are")
    assert t.device("gpu0")["backend"]["pid"] == backend
    cached, prompt = a.turn()
    assert prompt - cached < 40 and kept(t)["restored"] == 0, (cached, prompt)
    cached, prompt = b.turn()
    assert prompt - cached < 40 and kept(t)["restored"] == 1, (cached, prompt)


def test_one_file_for_a_conversation_that_grows(tandem, folder):
    t = begin(tandem, folder, started(model_file(folder)))
    a = Talk(t, "ann")
    for n in range(4):
        a.turn()
        a.messages[-1]["content"] = "grown " * 800
        wait_saved(t, n + 1)
        assert kept(t)["conversations"] == 1 and len(files(folder)) == 1


def test_turns_in_quick_succession_are_saved_once(tandem, folder):
    t = begin(tandem, folder, started(model_file(folder)), idle_ms=1500)
    a = Talk(t, "ann")
    for _ in range(6):
        a.turn()
    wait_saved(t, 1)
    assert kept(t)["saved"] == 1


def committed(folder):
    """The store as another process reads it: what tandemd is still writing is in its file, and not in the store yet."""
    lmdb, env = ctypes.CDLL("liblmdb.so.0"), ctypes.c_void_p()
    path, copy = (os.path.join(folder, *name).encode() for name in (("state", "tandem.mdb"), ("copy.mdb",)))
    if os.path.exists(copy):
        os.unlink(copy)
    assert lmdb.mdb_env_create(ctypes.byref(env)) == 0
    try:
        assert lmdb.mdb_env_open(env, path, 0x224000, 0o600) == 0  # MDB_NOSUBDIR, MDB_RDONLY, MDB_NOTLS
        assert lmdb.mdb_env_copy2(env, copy, 1) == 0  # MDB_CP_COMPACT
    finally:
        lmdb.mdb_env_close(env)
    with open(copy, "rb") as f:
        return f.read()


def test_a_crash_of_everything(tandem, folder):
    """tandemd is killed; the next one knows what the files are about, and predicts with it."""
    model = model_file(folder)
    t = begin(tandem, folder, started(model))
    a = Talk(t, "ann")
    _, said = a.turn()
    wait_saved(t, 1)
    name = bytes.fromhex(files(folder)[0].split("-")[-1][:16])[::-1]
    wait_for(lambda: name in committed(folder), "what it is about, on the disk")
    t.stop(signal.SIGKILL)
    t = begin(tandem, folder, started(model))
    a.t = t
    cached, prompt = a.turn()
    assert cached >= said and prompt - cached < 60, (cached, prompt, said)
    foreseen(t, cached)


@pytest.mark.parametrize("slots", [1, 2])
def test_other_conversations_in_its_slot(tandem, folder, slots):
    t = begin(tandem, folder, started(model_file(folder), "--cache-ram", "0", slots=slots))
    talks = [Talk(t, name) for name in ("ann", "bob", "cid")]
    for n, talk in enumerate(talks):
        assert talk.turn()[0] < 100
        wait_saved(t, n + 1)
    for talk in talks[:3 - slots]:
        cached, prompt = talk.turn()
        assert prompt - cached < 40, (cached, prompt)
    assert kept(t)["restored"] == 3 - slots and kept(t)["wrong"] == 0
    assert len(events(t, "slots_used")) == 3 - slots


def test_a_slot_that_another_conversation_has_taken_since_the_start(tandem, folder):
    """What was restored into it is gone again: its next turn reads the file, and nothing is held against the server."""
    t = begin(tandem, folder, started(model_file(folder), "--cache-ram", "0", "--prefill", "4000"))
    talks = [Talk(t, name) for name in ("ann", "bob")]
    for n, talk in enumerate(talks):
        talk.turn()
        wait_saved(t, n + 1)
    crash(t)
    assert kept(t)["restored"] == 1
    for talk in talks:  # ann's takes the slot into which bob's was restored
        cached, prompt = talk.turn()
        assert prompt - cached < 40, (cached, prompt)
    assert kept(t)["wrong"] == 0 and kept(t)["restored"] == 3


def test_the_slot_that_is_taken_first_after_a_start(tandem, folder):
    """Of two that were restored the one used last stays longer, with the server and in what is predicted."""
    t = begin(tandem, folder, started(model_file(folder), "--cache-ram", "0", "--prefill", "4000", slots=2))
    talks = [Talk(t, name) for name in ("ann", "bob")]
    for n, talk in enumerate(talks):
        talk.turn()
        wait_saved(t, n + 1)
    crash(t)
    assert kept(t)["restored"] == 2
    Talk(t, "cid").turn()
    cached, prompt = talks[1].turn()  # in its slot
    assert prompt - cached < 40 and kept(t)["restored"] == 2, (cached, prompt, kept(t))
    cached, prompt = talks[0].turn()  # out of it, and back
    assert prompt - cached < 40 and kept(t)["restored"] == 3, (cached, prompt, kept(t))
    assert kept(t)["wrong"] == 0


@pytest.mark.parametrize("cache", [("--cache-ram", "0"), ("--host-cache-tokens", "1000000")], ids=["no cache", "a cache"])
@pytest.mark.parametrize("slots", [1, 2])
def test_a_new_conversation_after_a_start_proves_nothing(tandem, folder, slots, cache):
    """It shares a few tokens with what was restored, which is no reason to take that for useless."""
    t = begin(tandem, folder, started(model_file(folder), *cache, "--prefill", "4000", slots=slots))
    a = Talk(t, "ann")
    a.turn()
    wait_saved(t, 1)
    crash(t)
    Talk(t, "bob").turn()
    assert kept(t)["wrong"] == 0 and kept(t)["conversations"] >= 1
    cached, prompt = a.turn()
    assert prompt - cached < 40, (cached, prompt)
    assert kept(t)["wrong"] == 0 and not events(t, "slots_not_used")


def test_the_servers_own_cache_comes_first(tandem, folder):
    t = begin(tandem, folder, started(model_file(folder), "--host-cache-tokens", "1000000"))
    talks = [Talk(t, name) for name in ("ann", "bob")]
    for n, talk in enumerate(talks):
        talk.turn()
        wait_saved(t, n + 1)
    for talk in talks * 2:
        cached, prompt = talk.turn()
        assert prompt - cached < 40, (cached, prompt)
    assert kept(t)["restored"] == 0


def test_a_cache_that_does_not_hold_it_is_not_trusted_twice(tandem, folder):
    """Nobody said that it has none: one cold prompt shows it."""
    t = begin(tandem, folder, started(model_file(folder)))
    talks = [Talk(t, name) for name in ("ann", "barbara")]  # of different lengths, by which their files are known
    for talk in talks:
        _, prompt = talk.turn()
        wait_saved_with(t, prompt)
    assert talks[0].turn()[0] < 100
    for talk in (talks[1], talks[0], talks[1]):
        cached, prompt = talk.turn()
        assert prompt - cached < 40, (cached, prompt)
        talk.messages[-1]["content"] = "grown " * 800
        _, prompt = talk.turn()
        wait_saved_with(t, prompt)
    assert kept(t)["restored"] == 3


def test_a_reload_says_that_there_is_no_cache(tandem, folder):
    """From then on no cold prompt has to show it."""
    model, groups = model_file(folder), {"limits": {"kv_bytes": 10**9}, "deadlines": {"kv_idle_ms": 50}, "routing": dict(LONG)}
    t = begin(tandem, folder, started(model, "--prefill", "4000"))
    write(t, [started(model, "--prefill", "4000", "--cache-ram", "0")], state_dir=os.path.join(folder, "state"), **groups)
    assert t.operate("reload")["state"] == "done"
    talks = [Talk(t, name) for name in ("ann", "bob")]
    for n, talk in enumerate(talks):
        talk.turn()
        wait_saved(t, n + 1)
    cached, prompt = talks[0].turn()
    assert prompt - cached < 40, (cached, prompt)


def test_a_server_that_does_not_use_them(tandem, folder):
    """A hybrid model: what is restored is read again. That is seen, and after three times it ends, over crashes, too."""
    t = begin(tandem, folder, started(model_file(folder), "--hybrid"))
    for n in range(3):
        a = Talk(t, f"ann{n}")
        a.turn()
        wait_saved(t, n + 1)
        crash(t)
        assert a.turn()[0] < 100
        assert kept(t)["wrong"] == n + 1
    assert not kept(t)["on"] and len(events(t, "slots_off")) == 1
    crash(t)
    assert not kept(t)["on"]
    other = Talk(t, "bob")
    other.turn()
    other.turn()
    assert kept(t)["saved"] == 3


def test_a_damaged_file_before_a_request_is_no_proof_against_the_server(tandem, folder):
    t = begin(tandem, folder, started(model_file(folder), "--cache-ram", "0"))
    talks = [Talk(t, name) for name in ("ann", "bob")]
    talks[0].turn()
    wait_saved(t, 1)
    path = os.path.join(folder, "state", "kv-gpu0", files(folder)[0])
    talks[1].turn()
    wait_saved(t, 2)
    with open(path, "r+b") as f:
        f.write(b"x" * 40)
    assert talks[0].turn()[0] < 100
    assert len(events(t, "slot_not_restored")) == 1 and kept(t)["wrong"] == 0 and kept(t)["on"]


@pytest.mark.parametrize("harm", ["cut", "changed", "foreign", "gone", "index"])
def test_damaged_files_cost_one_cold_prompt(tandem, folder, harm):
    t = begin(tandem, folder, started(model_file(folder)), idle_ms=400)
    a = Talk(t, "ann")
    a.turn()
    wait_saved(t, 1)
    where = os.path.join(folder, "state", "kv-gpu0")
    path = os.path.join(where, files(folder)[0])
    size = os.path.getsize(path)
    if harm == "cut":
        os.truncate(path, size // 2)
    elif harm == "changed":
        with open(path, "r+b") as f:
            f.write(b"x" * 40)
    elif harm == "foreign":
        os.remove(path)
        os.symlink("/etc/passwd", path)
    elif harm == "gone":
        os.remove(path)
    else:
        with open(os.path.join(where, "tandem-gpu0.index"), "w") as f:
            f.write("tandem-slots 2\nkept ../../x 1 2 3 4 5\n")
    crash(t)
    assert a.turn()[0] < 100
    assert a.turn()[0] > 1000
    assert os.path.exists("/etc/passwd")
    saved = kept(t)["saved"]
    wait_saved(t, max(saved, 2))
    crash(t)
    assert a.turn()[0] > 1000, "the next one is good again"


def test_files_have_a_cap(tandem, folder):
    t = begin(tandem, folder, started(model_file(folder), slots=4), kv_bytes=60000)
    for n in range(4):
        Talk(t, f"ann{n}").turn()
        wait_saved(t, n + 1)
    k = kept(t)
    where = os.path.join(folder, "state", "kv-gpu0")
    sizes = sum(os.path.getsize(os.path.join(where, n)) for n in files(folder))
    assert k["bytes"] == sizes <= 60000 and k["conversations"] == len(files(folder)) in (2, 3, 4)
    assert k["conversations"] < 4


def test_what_is_larger_than_the_cap_is_not_kept(tandem, folder):
    t = begin(tandem, folder, started(model_file(folder)), kv_bytes=5000)
    a = Talk(t, "ann")
    a.turn()
    wait_for(lambda: events(t, "slots_saved"), "the first one, whose size nobody knew")
    assert files(folder) == [] and kept(t)["conversations"] == 0
    n = len(events(t, "slots_saved"))
    a.turn()
    assert len(events(t, "slots_saved")) == n


def test_a_folder_that_cannot_be_written(tandem, folder):
    t = begin(tandem, folder, started(model_file(folder)))
    where = os.path.join(folder, "state", "kv-gpu0")
    os.rmdir(where)
    with open(where, "w"):
        pass
    a = Talk(t, "ann")
    a.turn()
    wait_for(lambda: not kept(t)["on"], "the end of saving")
    for _ in range(3):
        a.turn()
    assert len(events(t, "slots_off")) == 1 and len(events(t, "slot_not_saved")) == 1


def test_nothing_is_saved_where_that_is_not_wanted(tandem, folder):
    t = begin(tandem, folder, started(model_file(folder)), kv_bytes=0)
    a = Talk(t, "ann")
    a.turn()
    crash(t)
    assert a.turn()[0] < 100
    assert kept(t)["saved"] == 0 and files(folder) == []


def test_short_ones_are_not_saved(tandem, folder):
    t = begin(tandem, folder, started(model_file(folder)))
    Talk(t, "ann", 20).turn()
    long = Talk(t, "bob")
    long.turn()
    wait_saved(t, 1)
    assert kept(t)["conversations"] == 1


def test_a_model_that_comes_back(tandem, folder):
    """Another model is loaded in its place, then the first one again: its conversations are there; those of a file that changed are not."""
    from test_reload import write
    one, two = model_file(folder, "one.gguf"), model_file(folder, "two.gguf")
    more = {"state_dir": os.path.join(folder, "state"), "routing": dict(LONG), "limits": {"kv_bytes": 10**9}, "deadlines": {"kv_idle_ms": 50}}
    t = begin(tandem, folder, started(one))
    a, b = Talk(t, "ann"), Talk(t, "bob")

    def swap(to):
        before = t.device("gpu0")["backend"]["pid"]
        write(t, [started(to)], **more)
        assert t.operate("reload")["state"] == "done"
        wait_for(lambda: (d := t.device("gpu0"))["state"] == "ready" and d["backend"]["pid"] != before, "the other model")

    a.turn()
    swap(two)
    assert a.turn()[0] < 100, "another model has other KV"
    a.messages = a.messages[:-2]
    b.turn()
    swap(one)
    cached, prompt = a.turn()
    assert prompt - cached < 40, (cached, prompt)
    foreseen(t, cached)
    swap(two)
    cached, prompt = b.turn()
    assert prompt - cached < 40, (cached, prompt)
    swap(one)
    model_file(folder, "two.gguf", "other weights")
    swap(two)
    assert b.turn()[0] < 100
    assert events(t, "slots_of_another_model")
