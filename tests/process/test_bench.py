"""tandemctl bench: what it measures of scripted devices whose speed is known, and that it stands in nobody's way."""

import json
import os
import subprocess

import pytest

from conftest import attached
from harness import BIN, in_thread, ndjson, ollama_text, wait_for
import test_kept
from tls import certificate
from test_control import FAILED, NOT_RUNNING, OK, TIMED_OUT, USAGE, ask, ctl

READ, WRITE, HALF, SPEED = 2000, 50, 20000, 8  # tokens/s as the fake has them, at depth 0; it runs so many times faster
RATES = ("--prefill", str(READ), "--decode", str(WRITE), "--depth-half", str(HALF), "--speed", str(SPEED))


def bench(t, *options, timeout=90):
    r = ctl(t, "bench", "--json", *options, timeout=timeout)
    return r, json.loads(r.stdout) if r.stdout else None


def read_ms(tokens, depth=0):
    return tokens / READ * (1 + (depth + tokens / 2) / HALF) * 1000 / SPEED


@pytest.fixture
def one(fake, tandem):
    def start(kind="llama-server", options=(), device=None, **groups):
        a = fake("a", type=kind, options=(*RATES, *(("--num-ctx", "12000") if kind != "openai" else ("--max-model-len", "12000")), *options))
        return tandem([attached(a, slots=1, num_ctx=12000, **(device or {}))], **{"routing": {"mode": "adaptive"}, **groups}), a

    return start


@pytest.mark.parametrize("kind", ["llama-server", "ollama", "openai"])
def test_bench_measures_what_the_device_does(one, kind):
    t, a = one(kind)
    r, said = bench(t, "--seconds", "60")
    assert (r.returncode, r.stderr) == (OK, ""), r
    assert (said["device"], said["model"], said["backend"], said["window"], said["stopped"]) == ("gpu0", "m:1b", kind, 12000, "")
    depths = said["depths"]
    assert [round(d["tokens"] / 512) for d in depths[:5]] == [1, 2, 4, 8, 16]
    assert len(depths) == 6 and 11000 < depths[5]["tokens"] < 12000  # the window's end
    for d in depths:
        if kind == "openai":  # it tells no times: ours, on a machine that may be busy
            assert d["prompt_ms"] >= read_ms(d["tokens"]) * 0.95
        else:
            assert d["prompt_ms"] == pytest.approx(read_ms(d["tokens"]), rel=0.1, abs=2)
        assert d["read_tok_s"] == pytest.approx(d["tokens"] * 1000 / d["prompt_ms"], rel=0.01)
        assert d["first_ms_cold"] >= read_ms(d["tokens"]) * 0.9
        assert d["write_tok_s"] > 0 and 0 < d["warm_new_tokens"] < 60
    assert depths[-1]["first_ms_warm"] < depths[-1]["first_ms_cold"] / 2  # it was cached
    assert depths[-1]["predicted_ms_warm"] < depths[-1]["first_ms_cold"] / 2  # and tandemd knows
    if kind != "openai":
        assert depths[3]["write_tok_s"] == pytest.approx(WRITE * SPEED, rel=0.1)
        assert depths[-1]["read_tok_s_at_depth"] < depths[1]["read_tok_s_at_depth"]
    prompts = [json.loads(b)["messages"][0]["content"] for b in a.bodies() if b"is the number of this list" in b]
    assert len({p[:8] for p in prompts}) == 7  # each conversation begins like no other: a load, six depths


@pytest.mark.parametrize("kind", ["llama-server", "ollama"])
def test_bench_feeds_what_is_decided_with(one, kind):
    """What the routes would cost is tandemd's own word, by rates that it has learned from these very requests."""
    t, _ = one(kind)
    assert t.device("gpu0")["prefill_tok_s"] in (None, 0)
    _, said = bench(t, "--seconds", "60")
    assert said["learned"]["read_tok_s_before"] == 0 < said["learned"]["read_tok_s"] == pytest.approx(t.device("gpu0")["prefill_tok_s"], rel=0.01)
    routes = {(r["size"], r["prompt"]): r for r in said["routes"]}
    assert set(routes) == {(s, p) for s in (2048, 8192, 32768) for p in ("question", "session")}
    for size in (2048, 8192):
        r = routes[size, "session"]
        assert (r["goes"], r["original_fits"], r["tokens_sent"]) == ("original", True, r["tokens_in"])
        assert r["predicted_ms"] == r["predicted_ms_original"]
    base = routes[2048, "session"]

    def as_foretold(r):  # what every prompt costs beside its reading is this machine's, and the same
        expected = read_ms(r["tokens_sent"]) - read_ms(base["tokens_sent"])
        assert r["predicted_ms"] - base["predicted_ms"] == pytest.approx(expected, rel=0.2, abs=15), r

    as_foretold(routes[8192, "session"])
    cut, layout = routes[32768, "question"], routes[32768, "session"]
    assert (cut["goes"], layout["goes"]) == ("cut", "layout")
    for r in (cut, layout):
        assert not r["original_fits"] and r["predicted_ms_original"] is None and r["tokens_sent"] < 12000 < r["tokens_in"]
        as_foretold(r)
    explained = t.request("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "river " * 4000}]},
                          {"X-Tandem-Explain": "1"})
    assert json.loads(explained[2])["rates"] == "measured"


def test_bench_leaves_no_trace_but_the_rates(one):
    t, _ = one()
    bench(t, "--seconds", "60")
    assert ask(t, "sessions")["sessions"] == []
    h = ask(t, "histograms")
    assert all(h["prediction_error"][w]["count"] == 0 for w in ("A", "B", "C"))
    assert all(h["first_byte"][w]["count"] == 0 and h["total"][w]["count"] == 0 for w in ("A", "B", "C"))
    assert 'gen_ai_client_token_usage_count{' not in t.request("GET", "/metrics")[2].decode()
    requests = t.requests()
    assert (requests["failed"], requests["fallbacks"]) == (0, 0)
    t.wait_idle()


def test_bench_keeps_no_conversation_on_disk(tandem, folder):
    """Those of clients are: what is measured takes no room from them there."""
    t = test_kept.begin(tandem, folder, test_kept.started(test_kept.model_file(folder), *RATES))
    test_kept.Talk(t, "ann").turn()
    test_kept.wait_saved(t, 1)
    before = test_kept.files(folder)
    assert bench(t, "--seconds", "60")[1]["depths"]
    talk = test_kept.Talk(t, "bob")
    talk.turn()
    test_kept.wait_saved(t, 2)  # what was idle before it was saved, too, if anything was
    assert len(test_kept.files(folder)) == 2 and set(before) <= set(test_kept.files(folder))


def test_bench_as_a_table(one):
    t, _ = one()
    r = ctl(t, "bench", "--seconds", "60", timeout=90)
    assert (r.returncode, r.stderr) == (OK, "")
    lines = r.stdout.splitlines()
    assert lines[0].startswith("gpu0: m:1b (llama-server), window 12000; ")
    assert lines[2].split("  ")[0] == "TOKENS" and len(lines[3].split()) >= 7
    assert "does not fit" in r.stdout and "\nlearned: reads " in r.stdout and "\x1b" not in r.stdout
    assert all(len(line) <= 100 for line in lines)


# --- clients come first ---


def test_a_client_that_comes_meanwhile_does_not_wait(one):
    """What is measured ends at once, and is measured again once the client is served."""
    t, a = one(options=("--prefill", "200", "--speed", "1"))  # 512 tokens take 2.5 s, and more 1024
    p = subprocess.Popen([os.path.join(BIN, "tandemctl"), "-R", t.run_dir, "bench", "--json", "--seconds", "12"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any(u["body_bytes"] > 1500 for u in a.stats()["under_way"]), "a prompt that is measured")
    status, headers, body = t.chat("hello [[fake text=at+once]]")
    assert status == 200 and ollama_text(body) == "at once"
    begun, = [e for e in t.events(headers["X-Tandem-Request-Id"], "job_start") if e["proc"] == "tandemd"]  # its worker says when, too
    assert int(begun["queued_ms"]) < 1000
    out, err = p.communicate(timeout=60)
    said = json.loads(out)
    assert p.returncode == OK and "waiting: other work is under way on gpu0" in err
    assert said["depths"] and said["depths"][0]["prompt_ms"] == pytest.approx(said["depths"][0]["tokens"] / 200 * 1000, rel=0.1)
    assert t.requests()["failed"] == 0
    t.wait_idle()


def test_bench_waits_until_nobody_asks(one):
    t, a = one()
    a.fault(match="hang here", fault="hang")
    asked = in_thread(lambda: t.chat("hang here"))
    rid = wait_for(lambda: [j["request"] for j in ask(t, "jobs")["jobs"] if j["state"] == "running"], "a job")[0]
    r, said = bench(t, "--seconds", "5")
    assert r.returncode == TIMED_OUT and said["depths"] == [] and "other work came first" in said["stopped"]
    assert ask(t, f"cancel {rid}") == {"cancelled": rid}
    assert asked.join()[0] == 499
    t.wait_idle()
    assert bench(t, "--seconds", "60")[1]["depths"]


def test_bench_stops_when_its_time_is_over(one):
    t, _ = one(options=("--prefill", "100", "--speed", "1"))
    r, said = bench(t, "--seconds", "9")
    assert r.returncode == OK and len(said["depths"]) == 1 and "--seconds gives more time" in said["stopped"], said
    assert said["ms"] < 30000


# --- tickets ---


def ticket(t, device=""):
    return ask(t, f"bench 60 {device}".strip())


def shown(t, text, path="/api/chat", body=None):
    return t.request("POST", path, body or {"model": "m:1b", "messages": [{"role": "user", "content": "hi"}], "stream": False},
                     {"X-Tandem-Bench": text})


def test_a_ticket_is_for_its_device_and_for_chats_alone(pair):
    t, a, b = pair(main_device={"slots": 1})
    said = ticket(t, "gpu1")
    assert (said["device"], said["model"], said["tls"]) == ("gpu1", "s:0.5b", False)
    status, headers, _ = shown(t, said["ticket"], body={"model": "s:0.5b", "messages": [{"role": "user", "content": "hi"}], "stream": False})
    assert (status, headers["X-Tandem-Device"], headers["X-Tandem-Reason"]) == (200, "gpu1", "measured for the operator")
    assert "x-tandem-bench" not in json.dumps(b.stats()).lower()
    for path in ("/api/show", "/api/pull", "/v1/embeddings"):
        assert shown(t, said["ticket"], path, {"model": "s:0.5b"})[0] == 403
    again = ticket(t)  # a newer one: the older is none any more
    assert again["device"] == "gpu0" and shown(t, again["ticket"])[0] == 200
    for wrong in (said["ticket"], again["ticket"][:-1], again["ticket"] + "0", "", "x" * 32):
        status, _, body = shown(t, wrong)
        assert status == 403 and "ticket" in body.decode(), wrong
    assert b"ticket" not in b"".join(a.bodies())
    for line in t.events(ev="ordered"):
        assert again["ticket"] not in line.values()


def test_a_ticket_ends(one):
    t, _ = one()
    short = ask(t, "bench 1")["ticket"]
    assert shown(t, short)[0] == 200
    wait_for(lambda: shown(t, short)[0] == 403, "the end of the ticket")


def test_orders_to_measure_that_are_none(one):
    t, _ = one()
    for words in ("bench", "bench x", "bench 0", "bench 3601", "bench -1", "bench 60 gpu0 more"):
        assert "error" in ask(t, words), words
    assert ask(t, "bench 60 gpu9") == {"error": "no such device"}


def test_bench_needs_no_key(one, folder):
    key = subprocess.run([os.path.join(BIN, "tandemctl"), "key", "add", "-f", os.path.join(folder, "keys"), "anna"], capture_output=True,
                         text=True, check=True).stdout.split()[-1]
    t, _ = one(access={"key_file": os.path.join(folder, "keys")})
    assert t.chat("hi")[0] == 401
    assert shown(t, "0" * 32)[0] == 403
    r, said = bench(t, "--seconds", "60")
    assert r.returncode == OK and len(said["depths"]) == 6 and len(said["routes"]) == 6
    assert t.request("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "hi"}]},
                     {"Authorization": f"Bearer {key}"})[0] == 200


def test_bench_over_tls_and_where_all_addresses_are_listened_on(one, folder):
    cert, key = certificate(folder, "card.example")  # of another name than it is asked by: it is this machine
    t, _ = one(listen={"address": "0.0.0.0", "certificate": cert, "key": key}, access={"open": True})
    r, said = bench(t, "--seconds", "60")
    assert (r.returncode, r.stderr) == (OK, "") and len(said["depths"]) == 6 and len(said["routes"]) == 6


# --- another device; what is no device ---


def test_bench_of_the_small_device(pair):
    t, _, b = pair(small_options=RATES, routing={"mode": "adaptive"})
    r, said = bench(t, "--device", "gpu1", "--seconds", "60")
    assert r.returncode == OK and said["device"] == "gpu1" and said["model"] == "s:0.5b" and said["routes"] == []
    assert said["depths"][0]["prompt_ms"] == pytest.approx(read_ms(said["depths"][0]["tokens"]), rel=0.1, abs=2)
    assert len(b.bodies()) > 10


def test_bench_words_of_failure(one):
    t, a = one()
    r = ctl(t, "bench", "--device", "gpu9")
    assert (r.returncode, r.stdout, r.stderr) == (FAILED, "", "tandemctl: no such device\n")
    for args in (("--seconds", "1"), ("--seconds", "x"), ("gpu0",), ("--nonsense",), ("--device", "a b")):
        assert ctl(t, "bench", *args).returncode == USAGE, args
    r = subprocess.run([os.path.join(BIN, "tandemctl"), "-R", "/tmp/no-such-folder", "bench"], capture_output=True, text=True, timeout=20)
    assert r.returncode == NOT_RUNNING and "is it running?" in r.stderr
    a.fault(times=-1, fault="500", error="out of\x1b[2J memory")
    r = ctl(t, "bench", "--seconds", "20")
    assert r.returncode == FAILED and "nothing was measured" in r.stdout and "memory" in r.stdout and "\x1b" not in r.stdout + r.stderr


def test_bench_says_whose_cache_it_may_take(one):
    t, _ = one("ollama")
    assert t.chat("a conversation " * 400)[0] == 200
    r, _ = bench(t, "--seconds", "30")
    assert "1 conversation is in the cache of gpu0" in r.stderr


# --- reloads ---


def test_bench_of_a_reload_of_ollama(one):
    t, a = one("ollama", options=("--load-ms", str(700 * SPEED)))
    loads = lambda: a.stats()["loads"]
    r, said = bench(t, "--seconds", "60")
    assert r.returncode == OK and said["reload"] is None and said["depths"][0]["first_ms_cold"] < 700  # the load was before
    before = loads()
    r, said = bench(t, "--seconds", "60", "--reload")
    assert said["reload"]["measured"] and said["reload"]["how"] == "unload and load"
    assert said["reload"]["ms"] >= 600 and loads() == before + 1
    assert "reload (unload and load): " in ctl(t, "bench", "--seconds", "60", "--reload", timeout=90).stdout


def test_bench_of_a_reload_of_a_backend_of_ours(tandem, folder):
    model = os.path.join(folder, "m.gguf")
    with open(model, "w") as f:
        f.write("weights")
    command = [os.path.join(BIN, "fake-backend"), "--type", "llama-server", "--alias", "m:1b", "-m", model, "-c", "8192", "-np", "1", *RATES]
    t = tandem([{"name": "gpu0", "roles": ["main"], "slots": 1, "model": "m:1b", "num_ctx": 8192,
                 "backend": {"type": "llama-server", "command": command}}], routing={"mode": "adaptive"})
    r, said = bench(t, "--seconds", "60", "--reload")
    assert r.returncode == OK, r
    reload = said["reload"]
    assert reload["measured"] and reload["how"] == "restart" and reload["ms"] > 0
    assert reload["conversations"] == 1 and reload["bytes"] > 0 and reload["save_ms"] is not None and reload["restore_ms"] is not None
    assert t.device("gpu0")["generation"] == 2


def test_a_reload_that_cannot_be(one):
    t, _ = one("llama-server")
    r, said = bench(t, "--seconds", "60", "--reload")
    assert r.returncode == OK and not said["reload"]["measured"] and "another's" in said["reload"]["why"]
