"""A changed configuration, taken over under load or refused whole."""

import json
import os
import signal

import pytest

from conftest import attached
from harness import children, in_thread, libconfig, wait_for
from test_restart import Load, started
from test_routes import prompt


def write(t, devices, **groups):
    """The configuration file of a running tandem, anew."""
    config = {"listen": {"address": "127.0.0.1", "port": 0}, "run_dir": t.run_dir, "log": {"level": "debug"}, "devices": devices, **groups}
    with open(t.conf, "w") as f:
        for key, value in config.items():
            f.write(f"{key} = {libconfig(value)};\n")


def main_device(fake_backend, **more):
    return attached(fake_backend, **{"slots": 8, "num_ctx": 16384, **more})


def small_device(fake_backend, name="gpu1", **more):
    return {**attached(fake_backend, name, ("condense",), slots=2, num_ctx=8192, **more), "model": "s:0.5b"}


def backends(fake):
    return fake("main", options=("--slots", "8", "--decode", "200")), fake("small", model=("s:0.5b",))


def pids(t):
    return {d["name"]: d["pid"] for d in t.status()["devices"]}


def test_a_bad_file_changes_nothing_and_says_why(fake, tandem):
    a, b = backends(fake)
    t = tandem([main_device(a), small_device(b)])
    before = pids(t)
    write(t, [main_device(a), small_device(b)], routing={"a_max_tokens": "many"})
    o = t.operate("reload")
    assert o["state"] == "failed" and "tandem.conf:5: routing.a_max_tokens" in o["why"], o
    with open(t.conf, "w") as f:
        f.write("devices = (;\n")
    assert "tandem.conf:1:" in t.operate("reload")["why"]
    os.unlink(t.conf)
    assert "No such file" in t.operate("reload")["why"]
    assert pids(t) == before and t.chat("hi")[0] == 200


def test_what_cannot_change_refuses_the_whole(fake, tandem):
    a, b = backends(fake)
    t = tandem([main_device(a), small_device(b)])
    write(t, [main_device(a)], listen={"address": "127.0.0.1", "port": 8513}, limits={"connections": 7})
    o = t.operate("reload")
    assert o["state"] == "failed" and "listen.port, limits.connections" in o["why"], o
    assert list(pids(t)) == ["gpu0", "gpu1"], "nothing of it was taken over"


def test_thresholds_and_limits_are_live(fake, tandem):
    a, b = backends(fake)
    t = tandem([main_device(a), small_device(b)])
    before = pids(t)
    text = "one two three four five six seven eight nine ten " * 10
    assert "a_max_tokens 2000" in t.chat(text)[1]["X-Tandem-Reason"]
    write(t, [main_device(a), small_device(b)], routing={"a_max_tokens": 20, "b_max_tokens": 5000}, limits={"body_bytes": 4096})
    assert t.operate("reload")["state"] == "done"
    assert "b_max_tokens 5000" in t.chat(text)[1]["X-Tandem-Reason"]
    assert t.chat("x" * 5000)[0] == 413
    wait_for(lambda: pids(t) != before, "fresh workers: the cap of a body is theirs too")


def test_the_signal_does_the_same(fake, tandem):
    a, b = backends(fake)
    t = tandem([main_device(a), small_device(b)])
    before = pids(t)
    write(t, [main_device(a), small_device(b)], routing={"a_max_tokens": 20, "b_max_tokens": 5000})
    t.popen.send_signal(signal.SIGHUP)
    wait_for(lambda: "ev=reload" in t.log(), "the reload")
    assert "b_max_tokens 5000" in t.chat("word " * 60)[1]["X-Tandem-Reason"]
    assert pids(t) == before


def test_devices_come_change_and_go_under_load(fake, tandem):
    a, b = backends(fake)
    c = fake("third", model=("other:1b",))
    t = tandem([main_device(a), small_device(b)])
    before = pids(t)
    load = Load(t, threads=4)

    write(t, [main_device(a), small_device(b), {**attached(c, "gpu2", ("main",)), "model": "other:1b"}])
    assert t.operate("reload")["state"] == "done"
    t.wait_ready("gpu2")
    assert t.chat("hi", model="other:1b")[1]["X-Tandem-Device"] == "gpu2"
    assert {**before, "gpu2": pids(t)["gpu2"]} == pids(t), "the others were not touched"

    write(t, [main_device(a, pin="0"), {**attached(c, "gpu2", ("main",)), "model": "other:1b"}])
    o = t.operate("reload")
    assert o["state"] == "done", o
    assert list(pids(t)) == ["gpu0", "gpu2"] and pids(t)["gpu0"] != before["gpu0"]
    wait_for(lambda: before["gpu1"] not in children(t.pid) and before["gpu0"] not in children(t.pid), "the old workers' ends")
    load.stop()
    assert t.requests()["failed"] == 0
    wait_for(lambda: "ev=device_gone" in t.log(), "the removed device's end")


def test_a_removed_device_finishes_its_stream(fake, tandem):
    a, b = backends(fake)
    c = fake("third", model=("other:1b",))
    other = {**attached(c, "gpu2", ("main",)), "model": "other:1b"}
    t = tandem([main_device(a), other])
    s = t.client().send("POST", "/api/chat", {"model": "other:1b", "messages": [{"role": "user", "content": "hi [[fake tokens=80]]"}]})
    assert s.head() == 200
    write(t, [main_device(a)])
    assert t.operate("reload")["state"] == "done"
    assert list(pids(t)) == ["gpu0"]
    assert b'"done":true' in s.rest().replace(b" ", b"")
    s.close()
    wait_for(lambda: "ev=device_gone" in t.log(), "the removed device's end")
    assert len(children(t.pid)) == 1


def test_a_changed_command_starts_another_backend(fake, tandem):
    t = tandem([started()])
    before = t.device("gpu0")["backend"]["pid"]
    load = Load(t, threads=2)
    write(t, [started(options=("--answer-tokens", "17"))])
    o = t.operate("reload")
    assert o["state"] == "done", o
    load.stop()
    assert t.device("gpu0")["backend"]["pid"] != before
    assert t.requests()["failed"] == 0


def test_new_settings_that_fail_leave_the_old(fake, tandem):
    a, b = backends(fake)
    t = tandem([main_device(a)], deadlines={"worker_boot_ms": 1000})
    before = pids(t)
    nobody = {**main_device(a), "backend": {"type": "ollama", "url": "http://127.0.0.1:1"}}
    write(t, [nobody], deadlines={"worker_boot_ms": 1000})
    o = t.operate("reload")
    assert o["state"] == "failed" and "gpu0" in o["why"] and "nothing answers" in o["why"], o
    assert pids(t) == before and t.chat("hi")[0] == 200
    assert t.device("gpu0")["backend"]["url"] == a.url


def test_many_reloads_with_stuck_clients(fake, tandem):
    """Clients that do not read keep their workers; reloads go on, and at most four old ones stay."""
    a, b = backends(fake)
    t = tandem([main_device(a), small_device(b)], deadlines={"drain_ms": 60000})
    stuck = []
    for i in range(7):
        c = t.client(SO_RCVBUF=4096).send("POST", "/api/chat", {"model": "m:1b", "messages": [
            {"role": "user", "content": f"{i} [[fake tokens=100000]]"}]})
        assert c.head() == 200
        c.piece()
        stuck.append(c)
        write(t, [main_device(a, slots=9 + i), small_device(b)], deadlines={"drain_ms": 60000})
        assert t.operate("reload")["state"] == "done"
        assert t.chat("meanwhile")[0] == 200
    wait_for(lambda: len(children(t.pid)) <= 2 + 4, "a bounded number of workers")
    assert "ev=worker_drain_cut" in t.log()
    for c in stuck:
        c.close(reset=True)
    wait_for(lambda: len(children(t.pid)) == 2, "the old workers' ends")


@pytest.mark.measured
def test_many_reloads_leave_memory_and_descriptors(fake, tandem):
    from harness import fd_count, rss_bytes
    a, b = backends(fake)
    t = tandem([main_device(a), small_device(b)])

    def again():
        for i in range(20):
            write(t, [main_device(a, slots=7 + i % 2), small_device(b)], routing={"a_max_tokens": 1000 + i, "b_max_tokens": 6000})
            assert t.operate("reload")["state"] == "done"
        wait_for(lambda: len(children(t.pid)) == 2, "the old workers' ends")

    again()
    before = rss_bytes(t.pid), fd_count(t.pid)
    again()
    again()
    wait_for(lambda: fd_count(t.pid) <= before[1] + 2, f"descriptors as before: {before}, {fd_count(t.pid)}")
    assert rss_bytes(t.pid) - before[0] < 2 << 20


def test_notes_that_wait_outlive_the_settings_they_were_made_with(fake, tandem):
    a = fake("main", options=("--slots", "8"))
    b = fake("small", model=("s:0.5b",))
    t = tandem([main_device(a), {**small_device(b), "slots": 1}])
    b.fault(delay_ms=1500, times=1)
    answer = in_thread(lambda: t.chat(prompt(10981)))
    wait_for(lambda: t.device("gpu1")["inflight"] == 1 and t.device("gpu1")["waiting"] > 1, "notes that wait")
    write(t, [main_device(a), {**small_device(b), "slots": 1, "roles": ["condense", "main"]}])
    assert t.operate("reload")["state"] == "done"
    status, headers, body = answer.join(60)
    assert status == 200 and headers["X-Tandem-Strategy"] == "C" and "fallback" not in headers["X-Tandem-Reason"], headers
    assert all(json.loads(body)["model"] == "s:0.5b" for body in b.bodies() if b"messages" in body)
