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
    config["routing"] = {"mode": "threshold", **config.get("routing", {})}  # as the harness begins
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


def test_other_slots_hold_other_prompts(fake, tandem):
    """A device that has two slots from now on is expected to have two conversations in them."""
    a = fake("a", type="llama-server", options=("--slots", "2", "--prefill", "20000"))
    t = tandem([attached(a, slots=1, num_ctx=16384)], routing={"mode": "adaptive"})

    def expected(name, turns):
        messages = [{"role": "user", "content": f"{name}: " + prompt(1500)}]
        for turn in range(turns):
            messages += [{"role": "assistant", "content": f"{name} {turn}"}, {"role": "user", "content": "and then?"}]
        rid = t.request("POST", "/v1/chat/completions", {"model": "m:1b", "messages": messages})[1]["X-Tandem-Request-Id"]
        return int(t.events(rid, "forecast")[0]["cached_expected"])

    assert expected("ann", 0) == 0 and expected("bob", 0) < 100
    write(t, [attached(a, slots=2, num_ctx=16384)], routing={"mode": "adaptive"})
    assert t.operate("reload")["state"] == "done"
    assert expected("ann", 1) > 1000


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


def test_no_counter_falls_when_a_device_goes_and_comes_back(fake, tandem):
    a, b = backends(fake)
    c = fake("third", model=("other:1b",))
    other = {**attached(c, "gpu2", ("main",)), "model": "other:1b"}
    t = tandem([main_device(a), other], deadlines={"ping_ms": 200})

    def counted(name):
        return [d for d in t.command("counters")["devices"] if d["device"] == name]

    for _ in range(3):
        assert t.chat("hi", model="other:1b")[0] == 200
    before = wait_for(lambda: (d := counted("gpu2")[0])["bytes_out"] > 0 and d["heartbeats"] > 2 and d, "heartbeats")
    for rounds in range(2):
        write(t, [main_device(a)])
        assert t.operate("reload")["state"] == "done"
        wait_for(lambda: t.log().count("ev=device_gone") == rounds + 1, "the removed device's end")
        gone, = counted("gpu2")
        assert all(gone[k] >= before[k] for k in before if k != "device"), (before, gone)
        write(t, [main_device(a), other])
        assert t.operate("reload")["state"] == "done"
        t.wait_ready("gpu2")
        assert t.chat("hi", model="other:1b")[0] == 200
        back, = counted("gpu2")
        assert back["jobs_done"] == gone["jobs_done"] + 1 and back["starts"] == gone["starts"] + 1
        before = back


def test_jobs_of_a_removed_device_are_shown(fake, tandem):
    a, b = backends(fake)
    c = fake("third", model=("other:1b",))
    t = tandem([main_device(a), {**attached(c, "gpu2", ("main",)), "model": "other:1b"}])
    s = t.client().send("POST", "/api/chat", {"model": "other:1b", "messages": [{"role": "user", "content": "hi [[fake hang_after=3]]"}]})
    assert s.head() == 200
    write(t, [main_device(a)])
    assert t.operate("reload")["state"] == "done"
    job, = t.command("jobs")["jobs"]
    assert job["device"] == "gpu2" and job["state"] == "running" and job["request"] == s.headers["x-tandem-request-id"]
    s.close(reset=True)
    wait_for(lambda: t.command("jobs")["jobs"] == [], "its end")


def test_long_lists_of_models(fake, tandem):
    """More than one record of the link holds; and what is over the limit is left out, aloud."""
    names = [f"m{i}:1b" for i in range(700)]
    a = fake("many", model=("m:1b", *names))
    t = tandem([main_device(a)])
    wait_for(lambda: t.device("gpu0")["backend"]["models"] == 701, "all of them")
    assert t.chat("hi", model="m699:1b")[0] == 200
    listed = [m["name"] for m in json.loads(t.request("GET", "/api/tags")[2])["models"]]
    assert sorted(listed) == sorted(["m:1b", *names])
    write(t, [main_device(a)], limits={"models": 600})
    assert t.operate("reload")["state"] == "done"
    assert t.operate("restart")["state"] == "done"
    wait_for(lambda: t.device("gpu0")["backend"]["models"] == 600, "the first of them")
    assert "ev=models_left_out" in t.log()


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
    b.fault(delay_ms=600000, times=1)
    answer = in_thread(lambda: t.chat(prompt(10981)))
    wait_for(lambda: t.device("gpu1")["inflight"] == 1 and t.device("gpu1")["waiting"] > 1, "notes that wait")
    write(t, [main_device(a), {**small_device(b), "slots": 1, "roles": ["condense", "main"]}])
    assert t.operate("reload")["state"] == "done"
    b.struck()
    b.go()
    status, headers, body = answer.join(60)
    assert status == 200 and headers["X-Tandem-Strategy"] == "C" and "fallback" not in headers["X-Tandem-Reason"], headers
    assert all(json.loads(body)["model"] == "s:0.5b" for body in b.bodies() if b"messages" in body)
