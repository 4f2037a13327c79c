"""GET /metrics: what it tells of requests, devices and tandemd, in Prometheus' words, and that nobody is harmed by asking."""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import threading
import urllib.error

import pytest

from conftest import attached
from harness import ROOT, Client, alive, fd_count, free_port, in_thread, rss_bytes, wait_for
from prometheus import Scrape, promtool, scrape
from test_access import KEY, OTHER, bearer, guarded, keys  # noqa: F401 - two fixtures
from test_control import nvml  # noqa: F401 - a fixture
from test_guardian import Session, clock
from test_reload import backends, main_device, small_device, write
from test_routes import prompt
from test_tls import put
from test_upgrade import upgradable  # noqa: F401 - a fixture
from tls import certificate

STREAM = {"model": "m:1b", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
REQUESTS, TOKENS = "tandem_requests_total", "tandem_tokens_total"
FIRST, TOTAL = "gen_ai_server_time_to_first_token_seconds", "gen_ai_server_request_duration_seconds"


def counted(t, n, outcome="done"):
    """A scrape that has so many requests: one is counted when it ends, which its client may hear a moment before."""
    return wait_for(lambda: (s := scrape(t)).sum(REQUESTS, outcome=outcome) == n and s, f"{n} requests counted as {outcome}")


def one(fake, tandem, device=None, options=(), **more):
    a = fake("main", options=options)
    return tandem([attached(a, **(device or {}))], **more), a


def begun(t, n=1):
    """Clients that have asked for metrics, and owe the one byte of a body that nobody needs: they are answered when that is there."""
    clients = [Client(t).send("GET", "/metrics", length=1) for _ in range(n)]
    wait_for(lambda: t.requests()["active"] == n, f"{n} questions")
    return clients


# --- what is told ---


def test_requests_by_route_dialect_device_and_size(pair):
    t, a, b = pair()
    for tokens in (3, 3568, 10981):
        assert t.chat("hi" if tokens == 3 else prompt(tokens), stream=True)[0] == 200
    assert t.request("POST", "/v1/chat/completions", {**STREAM, "stream": False})[0] == 200
    assert t.request("POST", "/api/embed", {"model": "m:1b", "input": "hi"})[0] == 200
    s = counted(t, 5)
    assert s.sum(REQUESTS) == 5
    for labels in ({"route": "A", "dialect": "ollama chat", "size": "1k"}, {"route": "B"}, {"route": "C", "size": "16k"},
                   {"route": "A", "dialect": "openai chat"}, {"route": "pass", "dialect": "ollama"}):
        assert s.sum(REQUESTS, device="gpu0", outcome="done", **labels) == 1, labels
    assert s.sum(TOTAL + "_count") == 5
    assert s.sum(FIRST + "_count") == s.sum(FIRST + "_bucket", le="+Inf") == 3  # of streams alone
    assert s.sum("gen_ai_server_time_per_output_token_seconds_count") == 4  # an embedding has none
    assert s.sum("tandem_request_queue_time_seconds_count") == 5
    assert s.sum("tandem_layouts_total", route="B") == s.sum("tandem_layouts_total", route="C") == 1
    assert s.sum("tandem_layout_tokens_count") == 2
    assert 0 < s.sum(TOKENS, kind="sent", route="C") < s.sum(TOKENS, kind="in", route="C")
    assert s.sum(TOKENS, kind="in", route="A") == s.sum(TOKENS, kind="sent", route="A") > 0
    assert s.sum(TOKENS, kind="out") == s.sum("gen_ai_client_token_usage_sum", gen_ai_token_type="output") > 0
    assert s.sum("tandem_jobs_total", device="gpu0", outcome="done") == 5
    assert s.sum("tandem_jobs_total", device="gpu1", outcome="done") > 2
    assert s.sum("tandem_prediction_ratio_count") == s.sum("tandem_prediction_error_seconds_count")


def test_the_cache_is_told_as_the_backend_counts(fake, tandem):
    a = fake("main", type="llama-server", options=("-c", "8192", "-np", "1"))
    t = tandem([attached(a)])
    for _ in range(2):
        assert t.chat(prompt(900), stream=True)[0] == 200
    s = counted(t, 2)
    assert 0 < s.sum(TOKENS, kind="cached") <= s.sum("gen_ai_client_token_usage_sum", gen_ai_token_type="input")


def test_ends_of_every_kind(fake, tandem):
    """Refused, cancelled by its client, failed, joined: each counts once, and none of them as a time."""
    t, a = one(fake, tandem, limits={"coalesce_after_ms": 0})
    assert t.request("POST", "/api/chat", b"{")[0] == 400
    counted(t, 1, "refused")
    a.fault(times=1, fault="hang")
    c = Client(t).send("POST", "/api/chat", STREAM)
    a.struck()
    c.close(reset=True)
    counted(t, 1, "cancelled")
    a.fault(times=1, fault="500")
    assert t.chat("fail")[0] == 500
    counted(t, 1, "failed")
    a.fault(times=1, fault="hang")
    first, second = (Client(t).send("POST", "/api/chat", STREAM) for _ in range(2))
    wait_for(lambda: t.requests()["coalesced"] == 1, "the second joined")
    assert t.request("GET", "/no/such/path")[0] == 404  # the backend's own word
    counted(t, 2, "refused")
    t.command(f"cancel {t.events(ev='joined')[0]['to']}")  # which ends both
    s = counted(t, 3, "cancelled")
    first.close(), second.close()
    assert s.sum(REQUESTS) == 6 and s.sum(REQUESTS, route="none", device="none", outcome="refused") == 1
    assert s.sum("tandem_coalesced_total") == 1 and s.sum(TOTAL + "_count") == 0 and s.sum(FIRST + "_count") == 0


def test_one_that_joined_adds_no_tokens(fake, tandem):
    t, a = one(fake, tandem, limits={"coalesce_after_ms": 0})
    a.fault(times=1, delay_ms=600000)
    first = in_thread(lambda: t.chat("hi"))
    a.struck()
    second = in_thread(lambda: t.chat("hi"))
    wait_for(lambda: t.requests()["coalesced"] == 1, "the second joined")
    a.go()
    assert first.join()[0] == second.join()[0] == 200
    s = counted(t, 1)
    assert s.sum(REQUESTS, outcome="joined") == 1
    assert s.sum(TOTAL + "_count") == 1 == s.sum("tandem_jobs_total", outcome="done")
    assert s.sum(TOKENS, kind="out") == 16


def test_overflows(pair):
    t, a, b = pair("llama-server", main_device={"num_ctx": 4096}, main_options=("-c", "4096", "-np", "1", "--chars-per-token", "1.2"))
    old = [{"role": "user", "content": "Read this."}, {"role": "assistant", "content": prompt(1375)},
           {"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "Why?"}]
    assert t.chat(old)[0] == 200
    s = counted(t, 1)
    assert s.sum("tandem_overflows_total", kind="condensed") == 1 and s.sum("tandem_overflows_total", kind="refused") == 0
    assert s.sum("tandem_fallbacks_total") == 1 and s.sum("tandem_layouts_total") == 1
    status, _, body = t.request("POST", "/v1/completions", {"model": "m:1b", "prompt": ["x " * 9000, "y " * 9000]})
    assert status == 400 and b"context_length_exceeded" in body
    assert counted(t, 1, "refused").sum("tandem_overflows_total", kind="refused") == 1


def test_breaks_of_the_prefix(fake, tandem):
    """The same sums as the guardian's own document has (test_guardian.py), by kind."""
    a = fake("main", type="llama-server", options=("-c", "32768", "-np", "1"))
    t = tandem([attached(a)], routing={"mode": "adaptive"})
    s = Session(t, breaker=clock)
    for _ in range(3):
        s.step().ask()
    counted(t, 3)
    c, m = t.command("counters"), scrape(t)
    assert sum(k["broken"] + k["repaired"] for k in c["prefix_kinds"]) > 0
    for k in c["prefix_kinds"]:
        assert m.sum("tandem_prefix_breaks_total", kind=k["kind"]) == k["broken"]
        assert m.sum("tandem_prefix_repairs_total", kind=k["kind"]) == k["repaired"]
    assert m.sum("tandem_prefix_lost_tokens_total") == c["prefix_lost_tokens"]
    assert m.sum("tandem_prefix_saved_tokens_total") == c["prefix_saved_tokens"]


def test_devices_and_their_workers(fake, tandem):
    t, _ = one(fake, tandem, device={"slots": 3, "num_ctx": 4096})
    s = scrape(t)
    assert s.of("tandem_device_state", device="gpu0", state="ready") == [({"device": "gpu0", "state": "ready"}, 1)]
    assert s.sum("tandem_device_state", device="gpu0") == 1 and len(s.of("tandem_device_state", device="gpu0")) == 10
    assert s.sum("tandem_device_slots") == 3 and s.sum("tandem_device_window_tokens") == 4096
    assert s.sum("tandem_num_requests_running") == 0 and len(s.of("tandem_num_requests_waiting")) == 4
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    wait_for(lambda: scrape(t).sum("tandem_worker_restarts_total", device="gpu0") == 1, "the restart in the metrics")
    t.wait_ready()
    assert scrape(t).sum("tandem_worker_starts_total", device="gpu0") == 2
    assert s.of("tandem_build_info")[0][0]["version"] == t.status()["version"]


def test_gpus(fake, tandem, nvml):  # noqa: F811
    t, _ = one(fake, tandem, env=nvml)
    s = scrape(t)
    assert s.of("tandem_gpu_memory_used_bytes", gpu="0") == [({"gpu": "0", "name": "NVIDIA H100"}, 60 << 30)]
    assert s.sum("tandem_gpu_memory_total_bytes", gpu="1", name='Old \\"Card\\"') == 4 << 30
    assert s.sum("tandem_gpu_load_ratio", gpu="0") == 0.87 and s.sum("tandem_gpu_power_watts", gpu="0") == 350.5
    assert s.sum("tandem_gpu_temperature_celsius", gpu="0") >= 41
    assert s.of("tandem_gpu_load_ratio", gpu="1") == []  # it does not know


def test_a_driver_that_hangs(fake, tandem, nvml):  # noqa: F811
    """The rest is told without the GPUs, and one that asked and left is forgotten."""
    t, _ = one(fake, tandem, env={**nvml, "NVML_FAKE_HANG_MS": "60000"})
    leaver, = begun(t)
    leaver.sock.sendall(b"x")
    leaver.close()
    s = scrape(t)
    assert s.sum("tandem_device_slots") and not s.of("tandem_gpu_memory_used_bytes")
    wait_for(lambda: t.requests()["active"] == 0, "the end of both")


@pytest.mark.parametrize("drain_ms", [0, 30000])
def test_a_driver_that_hangs_at_the_end(fake, tandem, nvml, drain_ms):  # noqa: F811
    """It is waited for a second at most, and nothing is told of what is gone by then."""
    t, _ = one(fake, tandem, env={**nvml, "NVML_FAKE_HANG_MS": "60000"}, deadlines={"drain_ms": drain_ms})
    last, = begun(t)
    last.sock.sendall(b"x")
    assert t.stop(deadline=10) == 0
    last.close()


def test_readers_are_bounded(fake, tandem):
    t, _ = one(fake, tandem, metrics={"readers": 2})
    held = begun(t, 2)
    status, _, body = t.request("GET", "/metrics")
    assert status == 503 and b"metrics.readers" in body
    for c in held:
        c.close(reset=True)
    wait_for(lambda: t.requests()["active"] == 0, "the end of both")
    assert t.request("GET", "/metrics")[0] == 200


def test_only_reads(fake, tandem):
    """HEAD has no body; another method is the backend's to answer, as before."""
    t, _ = one(fake, tandem)
    status, headers, body = t.request("HEAD", "/metrics")
    assert status == 200 and body == b"" and int(headers["Content-Length"]) > 1000
    assert t.request("POST", "/metrics", b"")[0] == 404
    assert t.request("GET", "/metrics", headers={"Origin": "http://evil.example"})[0] == 403
    assert t.request("GET", "/metrics?x=1")[0] == 200


# --- what is never told ---


def test_no_word_of_a_client_is_a_label(fake, tandem):
    t, _ = one(fake, tandem)
    secret = 'my"secret\nmodel'
    t.chat("the secret prompt", model=secret)
    t.request("POST", "/v1/chat/completions", {**STREAM, "model": secret, "user": "secretuser"}, {"X-Secret-Header": "x", "User-Agent": "secret"})
    t.request("GET", "/secret/path?secret")
    wait_for(lambda: scrape(t).sum(REQUESTS) == 3, "all of them counted")
    assert "secret" not in scrape(t).text


def test_sets_of_labels_are_bounded(fake, tandem):
    t, _ = one(fake, tandem, metrics={"series": 3})
    for tokens in (3, 1500, 6000):
        assert t.chat(prompt(tokens) if tokens > 3 else "hi")[0] in (200, 400)
    for path in ("/api/embed", "/api/embeddings"):
        t.request("POST", path, {"model": "m:1b", "input": "hi", "prompt": "hi"})
    s = wait_for(lambda: (s := scrape(t)).sum(REQUESTS) == 5 and s, "all of them counted")
    assert s.sum("tandem_measure_series") == 3
    assert len({tuple(sorted(labels.items())) for labels, _ in s.of(TOKENS, kind="in")}) == 3
    other = {"route": "other", "dialect": "other", "device": "other", "size": "other"}
    assert s.sum(REQUESTS, **other) == 3


# --- counters never fall ---


def never_less(before, after):
    now = after.counters()
    fallen = {k: (v, now.get(k)) for k, v in before.counters().items() if now.get(k, -1) < v}
    assert not fallen, fallen


def test_counters_never_fall_over_a_reload(fake, tandem):
    """Also those of a device that it removes, and that comes back."""
    a, b = backends(fake)
    t = tandem([main_device(a), small_device(b)])
    assert t.chat(prompt(10981))[0] == 200
    before = counted(t, 1)
    assert before.sum("tandem_jobs_total", device="gpu1", outcome="done") > 2
    write(t, [main_device(a)])
    assert t.operate("reload")["state"] == "done"
    wait_for(lambda: t.events(ev="device_gone"), "the end of the removed one")
    assert t.chat("hi")[0] == 200
    between = counted(t, 2)
    never_less(before, between)
    assert not between.of("tandem_device_state", device="gpu1")
    write(t, [main_device(a), small_device(b)])
    assert t.operate("reload")["state"] == "done"
    t.wait_ready()
    never_less(between, scrape(t))


@pytest.mark.measured
def test_a_thousand_scrapes_leave_nothing(pair):
    t, a, b = pair(log={"level": "info"})
    for tokens in (3, 3568, 10981):
        assert t.chat(prompt(tokens) if tokens > 3 else "hi")[0] == 200
    first = counted(t, 3)
    for _ in range(100):
        assert t.request("GET", "/metrics")[0] == 200
    before, fds = rss_bytes(t.pid), fd_count(t.pid)
    for _ in range(1000):
        assert t.request("GET", "/metrics")[0] == 200
    assert rss_bytes(t.pid) - before < 2 << 20
    wait_for(lambda: fd_count(t.pid) <= fds, "the end of the last connection")
    never_less(first, scrape(t))


# --- an address of its own ---


def test_a_door_of_its_own(fake, tandem):
    port = free_port()
    t, a = one(fake, tandem, metrics={"address": "127.0.0.1", "port": port})
    assert scrape(t, port).sum("tandem_device_slots") == 1
    for path, status in (("/", 404), ("/api/tags", 404), ("/metrics", 403)):
        with pytest.raises(urllib.error.HTTPError) as e:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={} if status == 404 else {"Host": "evil.example"}))
        assert e.value.code == status
    status, _, body = t.request("GET", "/metrics")  # passed on, as any path that is not ours
    assert status == 404 and b"tandem_" not in body
    assert t.chat("hi")[0] == 200
    write(t, [attached(a)], metrics={"address": "127.0.0.1", "port": port + 1})
    assert "metrics.port" in t.operate("reload")["why"]


def test_a_door_that_is_taken_is_no_start(fake, tandem):
    a = fake("main")
    with pytest.raises(AssertionError) as e:
        tandem([attached(a)], metrics={"address": "127.0.0.1", "port": a.port})
    assert str(a.port) in str(e.value)


@pytest.mark.parametrize("own", [False, True])
def test_keys_are_wanted_here_too(guarded, own):  # noqa: F811
    port = free_port()
    t, _ = guarded(**({"metrics": {"address": "127.0.0.1", "port": port}} if own else {}))
    url = f"http://127.0.0.1:{port if own else t.port}/metrics"
    for key, status in ((OTHER, 401), (None, 401), (KEY, 200)):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=bearer(key) if key else {})) as r:
                assert (r.status, status) == (200, 200) and b"tandem_build_info" in r.read()
        except urllib.error.HTTPError as e:
            assert e.code == status


def test_a_door_open_to_the_network_wants_keys(fake, tandem):
    a = fake("main")
    port = free_port()
    with pytest.raises(AssertionError) as e:
        tandem([attached(a)], metrics={"address": "0.0.0.0", "port": port})
    assert f"0.0.0.0:{port} is open to the network" in str(e.value)
    t = tandem([attached(a)], metrics={"address": "0.0.0.0", "port": port}, access={"open": True})
    assert scrape(t, port).sum("tandem_device_slots") == 1
    write(t, [attached(a)], metrics={"address": "0.0.0.0", "port": port})
    assert "is open to the network" in t.operate("reload")["why"]


def test_a_door_of_its_own_has_the_same_tls(fake, tandem, folder):
    port = free_port()
    names = certificate(folder)
    a = fake("main")
    t = tandem([attached(a)], listen={"certificate": names[0], "key": names[1]}, metrics={"address": "127.0.0.1", "port": port})

    def shown():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/metrics", context=context) as r:
            assert b"tandem_build_info" in r.read()
        with socket.create_connection(("127.0.0.1", port)) as s, context.wrap_socket(s) as c:
            return c.getpeercert(binary_form=True)

    before = shown()
    put(folder, names, "second")
    assert t.operate("reload")["state"] == "done"
    assert shown() != before


class Collector(threading.Thread):
    """Scrapes without a pause until told to stop."""

    def __init__(self, t, port):
        super().__init__(daemon=True)
        self.t, self.port, self.stop, self.done, self.error = t, port, False, 0, None
        self.start()

    def run(self):
        try:
            while not self.stop:
                scrape(self.t, self.port)
                self.done += 1
        except BaseException as e:  # noqa: BLE001 - told by result()
            self.error = e

    def result(self):
        self.stop = True
        self.join(30)
        assert not self.is_alive() and self.done > 0
        if self.error:
            raise AssertionError(f"after {self.done} scrapes: {self.error!r}") from self.error


def test_an_upgrade_keeps_the_door_and_counts_anew(upgradable, fake):  # noqa: F811
    port = free_port()
    a = fake("main")
    t = upgradable([attached(a, slots=4)], metrics={"address": "127.0.0.1", "port": port}, deadlines={"upgrade_grace_ms": 200})
    assert t.chat("hi")[0] == 200
    wait_for(lambda: scrape(t, port).sum(REQUESTS) == 1, "the request counted")
    collector = Collector(t, port)
    for _ in range(2):
        old, _ = t.upgrade()
        wait_for(lambda: not alive(old), "the end of the old one")
    collector.result()
    assert scrape(t, port).sum(REQUESTS) == 0
    assert t.chat("hi")[0] == 200


def test_a_successor_that_dies_gives_the_door_back(upgradable, fake):  # noqa: F811
    port = free_port()
    a = fake("main")
    t = upgradable([attached(a, slots=4)], metrics={"address": "127.0.0.1", "port": port}, deadlines={"upgrade_grace_ms": 60000})
    assert t.chat("hi")[0] == 200
    old, new = t.upgrade()
    os.kill(new, signal.SIGKILL)
    wait_for(lambda: t.current() == old, "the old one in charge again")

    def served():
        with contextlib.suppress(ConnectionError, urllib.error.URLError):
            return scrape(t, port).sum(REQUESTS) == 1  # the old one's own count

    wait_for(served, "the old one's metrics")
    assert t.chat("hi")[0] == 200


def test_an_upgrade_moves_the_door(upgradable, fake):  # noqa: F811
    first, second = free_port(), free_port()
    a = fake("main")
    t = upgradable([attached(a, slots=4)], metrics={"address": "127.0.0.1", "port": first}, deadlines={"upgrade_grace_ms": 0})
    write(t, [attached(a, slots=4)], metrics={"address": "127.0.0.1", "port": second})
    old, _ = t.upgrade()
    wait_for(lambda: not alive(old), "the end of the old one")
    assert scrape(t, second).sum("tandem_device_slots") == 4
    with pytest.raises(OSError):
        scrape(t, first)


# --- the format, and the document ---


def test_promtool_takes_it(pair):
    t, a, b = pair()
    for tokens in (3, 3568, 10981):
        assert t.chat(prompt(tokens) if tokens > 3 else "hi", stream=True)[0] == 200
    text = counted(t, 3).text
    code, said = promtool("check", "metrics", text=text)
    assert code == 0 and said.strip() == "", said


def test_the_document_has_each_metric(fake, tandem):
    """docs/metrics.md: the very names and types, no more and no less."""
    t, _ = one(fake, tandem)
    s = scrape(t)
    with open(os.path.join(ROOT, "docs", "metrics.md")) as f:
        rows = dict(re.findall(r"^\| `((?:tandem|gen_ai)_\w+)` \| (\w+) \|", f.read(), re.M))
    assert rows == s.types
    assert all(s.help[name].endswith(".") for name in s.types)


def test_families_are_whole(pair):
    """One HELP and one TYPE before the samples of a family, which stand together; histograms are cumulative."""
    t, a, b = pair()
    assert t.chat("hi", stream=True)[0] == 200
    s = counted(t, 1)
    names = [s.family(n) for n, _, _ in s.samples]
    runs = [n for i, n in enumerate(names) if i == 0 or names[i - 1] != n]
    assert len(runs) == len(set(runs)) and set(runs) <= set(s.types)
    last = {}
    for name, labels, value in s.samples:
        if name.endswith("_bucket"):
            key = (name, tuple(sorted((k, v) for k, v in labels.items() if k != "le")))
            assert value >= last.get(key, 0)
            last[key] = value
    assert json.dumps(s.samples)  # every value is a number


def test_reader_of_these_tests():
    s = Scrape('# HELP a Some.\n# TYPE a counter\na{b="x\\"y",c="d"} 3\na 4\n')
    assert s.sum("a") == 7 and s.sum("a", c="d") == 3 and s.types == {"a": "counter"}
