"""tandemctl doctor: each finding is provoked through real processes and scripted backends, and a healthy pair has none."""

import json
import os
import signal
import subprocess

import pytest

import test_adaptive
import test_guardian
from conftest import attached
from harness import BIN, children, wait_for
from test_control import nvml  # noqa: F401 - a fixture
from test_notes import noted, settled  # noqa: F401 - a fixture

OK, FAILED, USAGE, NO_ENGINE, NOT_RUNNING, TIMED_OUT, ADVICE, SERIOUS = range(8)


def ctl(*args, env=None, timeout=60):
    return subprocess.run([os.path.join(BIN, "tandemctl"), *map(str, args)], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **(env or {})})


def doctor(t):
    """(exit status, the report)"""
    r = ctl("-R", t.run_dir, "doctor", "--json")
    assert r.stderr == "", r.stderr
    return r.returncode, json.loads(r.stdout)


def found(t, id, device=None):
    """That finding, which is in the text as well; its exit status is that of the worst."""
    status, report = doctor(t)
    one = [f for f in report["findings"] if f["id"] == id and f["device"] == device]
    assert len(one) == 1, json.dumps(report, indent=1)
    assert one[0]["what"] and one[0]["advice"]
    assert status == (SERIOUS if any(f["severity"] == "serious" for f in report["findings"]) else ADVICE)
    text = ctl("-R", t.run_dir, "doctor")
    assert text.returncode == status
    assert f"{one[0]['severity']}: {id}" + (f", {device}" if device else "") in text.stdout
    assert max(len(line) for line in text.stdout.splitlines()) <= 80, text.stdout
    return one[0]


def nothing(t, *ids):
    report = doctor(t)[1]
    assert not [f for f in report["findings"] if f["id"] in ids], json.dumps(report, indent=1)


# --- health ---


@pytest.mark.parametrize("kind", ["ollama", "llama-server"])
@pytest.mark.parametrize("mode", ["adaptive", "threshold"])
def test_a_healthy_pair_has_no_finding(pair, nvml, kind, mode):  # noqa: F811
    more = ("--spec-type", "ngram-simple")  # Ollama's has no use for it
    t, a, b = pair(kind, kind, routing={"mode": mode}, env={**nvml, "NVML_FAKE_INIT": "9"}, main_options=("--num-ctx", "16384", "--slots", "4", *more),
                   small_options=("--num-ctx", "8192", "--slots", "2", *more))
    assert doctor(t)[1]["findings"] == []  # nobody has asked for anything yet
    s = test_adaptive.Session(t)
    for _ in range(6):
        s.ask()
        s.step(10)
    assert t.chat("hello", model="s:0.5b")[0] == 200
    settled(t)
    status, report = doctor(t)
    assert (status, report["findings"], report["severity"], report["running"], report["why"]) == (OK, [], "fine", True, None)
    r = ctl("-R", t.run_dir, "doctor")
    assert r.returncode == OK and "Nothing was found" in r.stdout and "2 devices" in r.stdout
    assert set(report["unknown"]) <= set(report["looked_at"])


def test_it_changes_nothing(pair):
    t, a, b = pair()
    doctor(t)
    assert t.command("counters")["jobs"] == 0 and t.status()["requests"]["total"] == 0 and not t.events(ev="ordered")
    assert not [r for r in a.stats()["last"] if r["method"] != "GET"]


# --- what is away, fails, or stands open ---


def test_a_main_device_that_is_away_is_serious(fake, tandem):
    a = fake("a")
    t = tandem([attached(a)])
    a.stop()
    wait_for(lambda: t.device("gpu0")["state"] != "ready", "the device to be missed")
    one = found(t, "away", "gpu0")
    assert one["severity"] == "serious" and a.url in one["what"] + one["advice"]


def test_a_drained_device(pair):
    t, a, b = pair()
    assert t.operate("drain gpu1")["state"] == "done"
    one = found(t, "away", "gpu1")
    assert one["severity"] == "warning" and "tandemctl reset gpu1" in one["advice"]


def test_a_worker_that_ends_again_and_again(fake, tandem):
    t = tandem([attached(fake("a"))])
    for n in range(2):
        os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
        wait_for(lambda n=n: t.device("gpu0")["restarts"] > n, "the restart")
        t.wait_ready()
    one = found(t, "restarts", "gpu0")
    assert one["measured"]["restarts"] == 2 and "signal 9" in one["what"]


def test_jobs_that_fail(fake, tandem):
    a = fake("a")
    t = tandem([attached(a)], routing={"mode": "adaptive"})
    a.fault(fault="500", times=-1)
    while t.device("gpu0")["jobs"]["failed"] < 5:
        assert t.chat("hello")[0] == 500
    one = found(t, "failures", "gpu0")
    assert one["measured"]["jobs_failed"] >= 5


def test_a_port_that_is_open_to_all(fake, tandem, folder):
    a = fake("a")
    listen = {"address": "0.0.0.0", "port": 0}
    t = tandem([attached(a)], listen=listen, access={"open": True})
    one = found(t, "open-port")
    assert one["severity"] == "serious" and "0.0.0.0" in one["what"]
    assert t.stop() == 0
    keys = os.path.join(folder, "keys")
    assert ctl("key", "add", "-f", keys, "me").returncode == OK
    t = tandem([attached(a)], listen=listen, access={"key_file": keys})
    nothing(t, "open-port")


@pytest.mark.parametrize("kind", ["ollama", "llama-server"])
def test_a_backend_that_is_open_to_all(fake, tandem, kind):
    a = fake("a", type=kind, options=("--host", "0.0.0.0"))
    t = tandem([attached(a)])
    one = found(t, "open-backend", "gpu0")
    assert one["severity"] == "serious" and one["measured"]["port"] == a.port
    nothing(t, "open-port")


# --- windows and loads ---


def test_a_window_that_cuts(pair):
    t, a, b = pair("llama-server", main_device={"num_ctx": 4096, "slots": 1}, main_options=("--num-ctx", "4096"), routing={"mode": "adaptive"})
    s = test_adaptive.Session(t)
    while t.command("counters")["shortened_to_fit"] < 3:
        s.ask()
        s.step(60)
    one = found(t, "window-cuts")
    assert one["measured"]["window_tokens"] == 4096 < one["measured"]["largest_prompt_tokens"] and one["measured"]["shortened"] >= 3
    assert one["severity"] == "advice" and "-c" in one["advice"]


def test_prompts_that_do_not_fit_even_shortened(fake, tandem):
    t = tandem([attached(fake("a"), num_ctx=1024)], routing={"mode": "adaptive"})
    status = t.chat([{"role": "system", "content": "x " * 8000}, {"role": "user", "content": "hello"}])[0]
    assert status >= 400
    one = found(t, "window-cuts")
    assert one["severity"] == "warning" and one["measured"]["refused"] == 1


def test_a_model_that_is_loaded_anew(fake, tandem):
    a = fake("a", options=("--load-ms", "600"))
    t = tandem([attached(a, client_num_ctx=True)])
    for n in range(5):
        assert t.chat("hello", options={"num_ctx": 4096 + 1024 * (n % 2 + 1)})[0] == 200
    one = found(t, "reloads", "gpu0")
    assert one["severity"] == "serious" and "client_num_ctx" in one["advice"]
    assert one["measured"]["loads"] >= 5 and one["measured"]["load_mean_ms"] >= 600 and one["lost_s"] >= 2.4


def test_a_window_that_somebody_else_asked_for(fake, tandem):
    a = fake("a")
    t = tandem([attached(a, num_ctx=8192)])
    assert t.chat("hello")[0] == 200
    a.call("/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "hello"}], "stream": False, "options": {"num_ctx": 2048}})
    assert t.operate("restart gpu0")["state"] == "done"  # it looks at once
    one = found(t, "window-other", "gpu0")
    assert one["measured"] == {"loaded_window_tokens": 2048, "window_tokens": 8192}
    assert t.chat("hello")[0] == 200  # loaded with ours again
    assert t.operate("restart gpu0")["state"] == "done"
    nothing(t, "window-other")


# --- memory ---

GIB = 1 << 30


def loaded(t):
    """A chat, and the worker has looked at the backend since."""
    assert t.chat("hello")[0] == 200
    assert t.operate("restart gpu0")["state"] == "done"


@pytest.mark.parametrize("vram, percent", [(2 * GIB, 50), (0, 0)])
def test_a_model_that_is_not_on_the_gpu(fake, tandem, nvml, vram, percent):  # noqa: F811
    a = fake("a", options=("--model-bytes", 4 * GIB, "--vram-bytes", vram))
    t = tandem([attached(a)], env=nvml)
    loaded(t)
    one = found(t, "cpu", "gpu0")
    assert one["severity"] == "serious" and one["measured"]["gpu_percent"] == percent
    assert (one["measured"]["model_bytes"], one["measured"]["gpu_bytes"]) == (4 * GIB, vram)
    nothing(t, "window-spills")


def test_a_model_where_no_gpu_is(fake, tandem, nvml):  # noqa: F811
    a = fake("a", options=("--vram-bytes", "0"))
    t = tandem([attached(a)], env={**nvml, "NVML_FAKE_INIT": "9"})
    loaded(t)
    assert found(t, "cpu", "gpu0")["severity"] == "warning"


def test_a_window_that_spills(fake, tandem):
    a = fake("a", options=("--model-bytes", 4 * GIB, "--kv-bytes", 128 << 10, "--vram-bytes", 6 * GIB))
    t = tandem([attached(a, num_ctx=32768)])
    loaded(t)
    one = found(t, "window-spills", "gpu0")
    assert one["severity"] == "serious" and one["measured"]["window_tokens"] == 32768
    assert one["measured"]["fitting_window_tokens"] == 16384 and "num_ctx = 16384" in one["advice"]
    nothing(t, "cpu")
    assert t.stop() == 0
    t = tandem([attached(a, num_ctx=16384)])  # what was advised
    loaded(t)
    nothing(t, "cpu", "window-spills")


def test_models_that_crowd_each_other_out(fake, tandem):
    a = fake("a", model=("m:1b", "other:1b"), options=("--vram-bytes", GIB))
    t = tandem([attached(a)])
    assert t.chat("hello", model="other:1b")[0] == 200
    loaded(t)
    one = found(t, "models", "gpu0")
    assert one["measured"]["loaded_models"] == 2


def test_a_model_that_is_soon_unloaded(fake, tandem):
    a = fake("a", options=("--keep-s", "299"))
    t = tandem([attached(a)])
    loaded(t)
    one = found(t, "keep-alive", "gpu0")
    assert one["severity"] == "advice" and one["measured"]["keep_s"] == 300 and "OLLAMA_KEEP_ALIVE" in one["advice"]


# --- the engine ---


def started(*more, lines=(), **device):
    """A device that starts a scripted llama-server, which prints some lines first."""
    script = "".join(f"echo '{line}'; " for line in lines) + 'exec "$0" "$@"'
    return {"name": "gpu0", "roles": ["main"], "slots": 1, "model": "m:1b", **device, "backend": {
        "type": "llama-server", "command": ["sh", "-c", script, os.path.join(BIN, "fake-backend"), "--type", "llama-server",
                                            "--model", "m:1b", *more]}}


def test_no_flash_attention(tandem):
    t = tandem([started("-fa", "off", "-ctk", "q8_0")])
    one = found(t, "flash-attention", "gpu0")
    assert one["severity"] == "warning" and "q8_0" in one["what"]
    assert t.stop() == 0
    t = tandem([started("-fa", "auto", lines=["sched_reserve: Flash Attention was auto, set to disabled"])])
    wait_for(lambda: t.command("backends")["backends"][0]["serving"]["flash_attention"] is False, "what it printed")
    found(t, "flash-attention", "gpu0")
    assert t.stop() == 0
    t = tandem([started("-fa", "on")])
    nothing(t, "flash-attention")


def test_a_cache_of_16_bits_in_a_window_that_cuts(tandem):
    t = tandem([started("-ctk", "f16", "-c", "4096", num_ctx=4096)], routing={"mode": "adaptive"})
    s = test_adaptive.Session(t)
    nothing(t, "cache-type")
    while t.command("counters")["shortened_to_fit"] < 3:
        s.ask()
        s.step(60)
    one = found(t, "cache-type", "gpu0")
    assert "f16" in one["what"] and "q8_0" in one["advice"]


def test_a_build_that_could_guess_ahead(fake, tandem):
    a = fake("a", type="llama-server", model=("coder:7b",), options=("--decode", "200"))
    b = fake("b", model=("coder:0.5b",))
    t = tandem([attached(a, model="coder:7b"), attached(b, "gpu1", ("condense",), model="coder:0.5b")], routing={"mode": "adaptive"})
    nothing(t, "speculation")  # nothing was measured yet
    assert t.chat("[[fake tokens=64]]", model="coder:7b")[0] == 200
    one = found(t, "speculation", "gpu0")
    assert one["severity"] == "advice" and 100 < one["measured"]["decode_tok_s"] < 300
    assert "--spec-type" in one["advice"] and "coder:0.5b" in one["advice"]
    assert [r["path"] for r in a.stats()["last"]].count("/slots") == 1  # asked once, aside


def test_layers_over_unequal_cards(tandem, nvml):  # noqa: F811
    lines = ["load_tensors: offloaded 29/29 layers to GPU", "load_tensors:   CPU_Mapped model buffer size =   292.36 MiB",
             "load_tensors:        CUDA0 model buffer size =   700.00 MiB", "load_tensors:        CUDA1 model buffer size =   300.00 MiB"]
    t = tandem([started(lines=lines)], env=nvml)
    wait_for(lambda: t.command("backends")["backends"][0]["serving"]["gpus"] == 2, "what it printed")
    one = found(t, "split", "gpu0")
    assert one["measured"]["gpus"] == 2 and 'pin = "0"' in one["advice"] and "NVIDIA H100" in one["what"]
    nothing(t, "cpu")


@pytest.fixture
def disguised(folder):
    """disguised(script, *words, env) runs a script of bash whose command line is those words."""
    running = []

    def start(script, *words, env=None):
        with open(os.path.join(folder, words[1]), "w") as f:
            f.write(script)
        running.append(subprocess.Popen(words, executable="/bin/bash", cwd=folder, env={**os.environ, **(env or {})}, start_new_session=True))
        return running[-1]

    yield start
    for p in running:
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()


def command_lines(pid):
    found = []
    for child in children(pid):
        with open(f"/proc/{child}/cmdline", "rb") as f:
            found.append(f.read())
    return found


def test_what_an_ollamas_engine_was_started_with(fake, tandem, disguised):
    a = fake("a")
    script = "(exec -a llama-server sleep 1000 --flash-attn off -c 16384 -np 2 --cache-type-k q8_0) & wait\n"
    script = script.replace("sleep 1000", f"{BIN}/fake-backend --type llama-server --port 0")
    ollama = disguised(script, "ollama", "serve", env={"OLLAMA_HOST": f"127.0.0.1:{a.port}"})
    wait_for(lambda: any(line.startswith(b"llama-server\0") for line in command_lines(ollama.pid)), "the engine")
    t = tandem([attached(a, num_ctx=8192, slots=3)])
    loaded(t)
    one = found(t, "flash-attention", "gpu0")
    assert "q8_0" in one["what"] and "OLLAMA_FLASH_ATTENTION" in one["advice"]
    one = found(t, "slots", "gpu0")
    assert one["measured"] == {"slots": 3, "reported_slots": 2} and "OLLAMA_NUM_PARALLEL" in one["advice"]


def test_a_build_that_found_no_gpu(tandem):
    t = tandem([started(lines=["ggml_vulkan: No devices found."], pin="0")])
    one = found(t, "cpu", "gpu0")
    assert one["measured"]["gpu_percent"] == 0 and "--list-devices" in one["advice"]


def test_a_card_that_is_empty_though_a_model_is_pinned_to_it(fake, tandem, nvml):  # noqa: F811
    a = fake("a", type="llama-server", options=("--model-bytes", 4 * GIB))
    t = tandem([attached(a, pin="1")], env=nvml)
    one = found(t, "cpu", "gpu0")
    assert one["severity"] == "serious" and one["measured"]["pinned_used_bytes"] == GIB


# --- the cache ---


def test_clients_that_break_their_prefix(fake, tandem):
    a = fake("a", type="llama-server", options=("--num-ctx", "65536", "--prefill", "3000"))
    t = tandem([attached(a, slots=1, num_ctx=65536)], routing={"mode": "adaptive", "warm": False})

    def clock_in_front(s, body):
        body["messages"][0]["content"] = f"Current time: 2026-11-29 14:{s.turn:02}:07 UTC\n" + test_adaptive.lines("rules", 300)
        return body

    s = test_guardian.Session(t, breaker=clock_in_front, headers={"User-Agent": "restless/1.0"})
    while t.command("counters")["prefix_lost_ms"] < 2500 or t.command("counters")["prefix_broken"] < 4:
        s.step().ask()
    one = found(t, "prefix")
    assert one["measured"]["breaks"] >= 4 and one["lost_s"] >= 2 and "clock" in one["what"] and "restless" in one["what"]
    assert "volatile" in one["advice"]


def test_conversations_that_share_a_slot(fake, tandem):
    a = fake("a", type="llama-server", options=("--num-ctx", "16384", "--prefill", "50000"))
    t = tandem([attached(a, slots=1, num_ctx=16384)], routing={"mode": "adaptive", "warm": False})
    sessions = [test_adaptive.Session(t, name=f"s{i}", system_lines=150) for i in range(3)]
    for s in sessions:
        s.ask()
    one = found(t, "shared-slot", "gpu0")
    assert one["measured"]["conversations"] == 3 and one["measured"]["slots"] == 1 and one["measured"]["cold"] == 2
    assert one["measured"]["cold_tokens"] > 2000 and "-np" in one["advice"]


def test_more_slots_than_the_backend_has(fake, tandem):
    t = tandem([attached(fake("a", type="llama-server", options=("--slots", "2")), slots=4)])
    one = found(t, "slots", "gpu0")
    assert one["measured"] == {"slots": 4, "reported_slots": 2}


# --- cards ---


def test_a_card_that_sits_idle(fake, tandem, nvml):  # noqa: F811
    t = tandem([attached(fake("a"), pin="0")], env={**nvml, "NVML_FAKE_IDLE": "1"})
    one = found(t, "idle-gpu")
    assert "GPU 1" in one["what"] and one["measured"]["idle_gpus"] == 1
    assert t.stop() == 0
    t = tandem([attached(fake("b"), pin="0,1")], env={**nvml, "NVML_FAKE_IDLE": "1"})
    nothing(t, "idle-gpu")


def test_a_device_that_nobody_asks(pair):
    t, a, b = pair(routing={"mode": "adaptive"})
    for _ in range(49):
        assert t.chat("hello")[0] == 200
    nothing(t, "idle-device")
    assert t.chat("hello")[0] == 200
    one = found(t, "idle-device", "gpu1")
    assert one["measured"]["requests"] == 50 and "s:0.5b" in one["advice"]


def test_a_small_device_that_is_slower_than_it_pays(pair):
    t, a, b = pair("llama-server", "llama-server", main_options=("--prefill", "20000", "--num-ctx", "16384", "--slots", "4"),
                   small_options=("--prefill", "2000", "--num-ctx", "8192", "--slots", "2"), routing={"mode": "threshold"})
    s = test_adaptive.Session(t, system_lines=300)
    s.ask()
    for _ in range(40):
        if t.device("gpu1")["prefill_tok_s"] > 0:
            break
        s.step(100)
        s.ask()
    one = found(t, "small-slow", "gpu1")
    m = one["measured"]
    assert m["prefill_tok_s"] * m["slots"] < m["main_prefill_tok_s"] and m["notes_mean_ms"] > 0 and "adaptive" in one["advice"]


def test_a_writer_of_notes_that_is_given_up(noted):  # noqa: F811
    t, a, b = noted(answer={"text": "- the fault is in src/made_up_file.c\n"})
    s = test_adaptive.Session(t)
    while not t.status()["notes"]["models_off"]:
        s.ask()
        settled(t)
        s.step()
    one = found(t, "notes")
    assert one["measured"]["notes_written"] == 16 and one["measured"]["notes_used"] == 0


# --- without a tandemd ---


CONF = """
listen = { address = "0.0.0.0"; port = 8512; };
access = { open = true; };
run_dir = "%s";
devices = ( { name = "gpu0"; roles = [ "main" ]; slots = 1; model = "m:1b"; num_ctx = 8192;
              backend = { type = "ollama"; url = "%s"; }; } );
"""


def test_without_a_tandemd_the_configuration_is_looked_at(folder, fake):
    a = fake("a", options=("--host", "0.0.0.0"))
    conf = os.path.join(folder, "x.conf")
    with open(conf, "w") as f:
        f.write(CONF % (os.path.join(folder, "run"), a.url))
    r = ctl("-R", folder, "doctor", "--json", conf)
    report = json.loads(r.stdout)
    assert r.returncode == NOT_RUNNING and "no tandemd" in r.stderr and "no tandemd" in report["why"] and not report["running"]
    assert {f["id"] for f in report["findings"]} == {"open-port", "open-backend"}
    assert {"away", "reloads", "prefix", "shared-slot"} <= set(report["unknown"])
    r = ctl("-R", folder, "doctor", conf)
    assert r.returncode == NOT_RUNNING and "serious: open-port" in r.stdout and "Nothing can be said yet of: away" in r.stdout


def test_a_configuration_that_is_wrong(folder):
    conf = os.path.join(folder, "x.conf")
    with open(conf, "w") as f:
        f.write("devices = ( { name = \"gpu0\"; slotz = 1; } );")
    r = ctl("-R", folder, "doctor", conf)
    assert r.returncode == FAILED and "slotz" in r.stderr and r.stdout == ""
    assert ctl("-R", folder, "doctor", os.path.join(folder, "none")).returncode == FAILED


def test_no_tandemd_and_no_configuration(folder):
    r = ctl("-R", folder, "doctor", "--json")
    assert r.returncode in (NOT_RUNNING, FAILED) and "no tandemd" in r.stderr
    if not os.path.exists("/etc/tandem/tandem.conf"):
        report = json.loads(r.stdout)
        assert r.returncode == NOT_RUNNING and not report["running"] and report["findings"] == [] and "open-port" in report["unknown"]
    assert ctl("doctor", "a", "b").returncode == USAGE
