"""Traces: each request's steps as spans of OpenTelemetry, at a collector that may misbehave; trace context from the client and to
the backend."""

import base64
import json
import os
import re
import signal
import ssl
import time

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector import Collector, attrs
from conftest import attached
from harness import Client, children, fds, in_thread, wait_for
from test_control import ask
from test_routes import prompt
from test_upgrade import upgradable  # noqa: F401 - a fixture
from tls import certificate

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FAST = {"first_ms": 20, "max_ms": 50}


@pytest.fixture
def collector():
    made = []

    def make(*answers, **more):
        made.append(Collector(answers, **more))
        return made[-1]

    yield make
    for c in made:
        c.stop()


@pytest.fixture
def traced(fake, tandem, collector, folder):
    """traced(answers...) -> (tandem, its backend, the collector)."""

    def start(*answers, traces=None, fake_options=(), env=None, device=None, **groups):
        c, a = collector(*answers), fake("a", options=(*logs("a", folder), *fake_options))
        t = tandem([attached(a, slots=4, **(device or {}))], env=env, traces={"endpoint": c.url, "delay_ms": 20, **(traces or {})}, **groups)
        return t, a, c

    return start


def counts(t):
    return ask(t, "counters")["traces"]


def settled(t):
    """All spans have met their fate."""
    return wait_for(lambda: (c := counts(t))["spans"] == c["sent"] + c["rejected"] + c["dropped"] and c, "the fate of all spans")


def logs(backend_name, folder):
    """Options of a scripted backend that keeps the headers of its requests."""
    return "--log", os.path.join(folder, backend_name + ".requests")


def all_seen_by(backend):
    """The headers of each request for an answer, as the backend has seen them; names in lower case."""
    backend.stats()  # what was answered before is in the log then
    with open(backend.dump.removesuffix(".dump") + ".requests") as f:
        rows = [json.loads(line) for line in f]
    return [{k.lower(): v for k, v in r["headers"].items()} for r in rows if r["path"] in ("/api/chat", "/v1/chat/completions")]


def seen_by(backend):
    return all_seen_by(backend)[-1]


def say(t, text="hello", stream=True, **headers):
    body = {"model": "m:1b", "stream": stream, "messages": [{"role": "user", "content": text}]}
    status, answer, data = t.request("POST", "/api/chat", body, headers)
    return status, answer["X-Tandem-Request-Id"], data


# --- what is sent ---


def test_a_request_is_a_trace(traced):
    t, a, c = traced()
    status, rid, _ = say(t, "[[fake tokens=20]] a secret word")
    assert status == 200
    root, spans = c.trace_of(rid)
    first = c.requests()[0]
    assert first["path"] == "/v1/traces" and first["headers"]["Content-Type"] == "application/json"
    resource = attrs(json.loads(first["raw"])["resourceSpans"][0]["resource"])
    assert resource["service.name"] == "tandem" and resource["process.pid"] == t.pid and resource["service.version"]
    assert b"secret" not in b"".join(r["raw"] for r in c.requests())
    by = {s["name"]: s for s in spans}
    assert set(by) == {"POST /api/chat", "read", "parse", "chat m:1b", "prefill", "decode"}
    assert root["kind"] == 2 and "parentSpanId" not in root and "status" not in root
    told = attrs(root)
    assert told["http.request.method"] == "POST" and told["http.route"] == told["url.path"] == "/api/chat" and told["url.scheme"] == "http"
    assert told["http.response.status_code"] == 200 and told["tandem.strategy"] == "A" and told["tandem.outcome"] == "done"
    call = by["chat m:1b"]
    assert call["kind"] == 3 and call["parentSpanId"] == root["spanId"]
    told = attrs(call)
    assert told["gen_ai.operation.name"] == "chat" and told["gen_ai.provider.name"] == "ollama" and told["gen_ai.request.model"] == "m:1b"
    assert told["gen_ai.usage.output_tokens"] == 20 and told["gen_ai.usage.input_tokens"] > 0 and told["tandem.device"] == "gpu0"
    for name, parent in {"read": root, "parse": root, "prefill": call, "decode": call}.items():
        span = by[name]
        assert span["parentSpanId"] == parent["spanId"] and span["kind"] == 1
        assert int(parent["startTimeUnixNano"]) <= int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) <= int(parent["endTimeUnixNano"])
    assert abs(int(root["endTimeUnixNano"]) / 1e9 - time.time()) < 60
    assert len({s["spanId"] for s in spans}) == len(spans)
    assert all(re.fullmatch("[0-9a-f]{32}", s["traceId"]) and re.fullmatch("[0-9a-f]{16}", s["spanId"]) for s in spans)
    assert settled(t) == {"spans": 6, "sent": 6, "rejected": 0, "dropped": 0, "restarts": 0}


def test_the_official_schema_reads_it(traced, fake, tandem, collector, pair):
    """Whatever happened to the requests: google.protobuf takes each body as an ExportTraceServiceRequest, with nothing left over."""
    c = collector()
    t, a, b = pair(traces={"endpoint": c.url, "delay_ms": 20}, deadlines={"first_byte_ms": 50, "heartbeat_ms": 20}, backoff=FAST)
    rids = [t.chat(prompt(3568), stream=True)[1]["X-Tandem-Request-Id"]]
    b.fault(times=1, fault="500")
    rids.append(t.chat(prompt(3600), stream=True)[1]["X-Tandem-Request-Id"])
    a.fault(times=1, fault="hang")
    r = in_thread(lambda: t.chat('quoted "\u2028 \\', stream=True))
    a.struck()
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    rids.append(r.join()[1]["X-Tandem-Request-Id"])
    rids.append(t.request("POST", "/api/show", {"model": "m:1b"})[1]["X-Tandem-Request-Id"])
    rids.append(t.request("POST", "/api/chat", b"{broken")[1]["X-Tandem-Request-Id"])
    for rid in rids:
        c.trace_of(rid)
    names = set()
    for r in c.requests():
        message = json_format.Parse(bytes_of_ids(r["raw"]), ExportTraceServiceRequest())  # unknown names are errors
        for span in message.resource_spans[0].scope_spans[0].spans:
            names.add(span.name)
            assert len(span.trace_id) == 16 and len(span.span_id) == 8 and span.end_time_unix_nano >= span.start_time_unix_nano > 1e18
    assert {"POST /api/chat", "notes", "condense", "chat m:1b", "POST /api/show", "POST"} <= names


def bytes_of_ids(raw):
    """OTLP's one difference to protobuf's JSON: ids are hexadecimal there, not base64."""
    def turn(v):
        if isinstance(v, dict):
            return {k: base64.b64encode(bytes.fromhex(x)).decode() if k in ("traceId", "spanId", "parentSpanId") else turn(x)
                    for k, x in v.items()}
        return [turn(x) for x in v] if isinstance(v, list) else v
    return json.dumps(turn(json.loads(raw)))


def test_notes_and_what_goes_wrong(pair, collector):
    c = collector()
    t, a, b = pair(traces={"endpoint": c.url, "delay_ms": 20})
    status, headers, _ = t.chat(prompt(3568), stream=True)
    root, spans = c.trace_of(headers["X-Tandem-Request-Id"])
    by = {s["name"]: s for s in spans}
    assert by["notes"]["kind"] == 3 and attrs(by["notes"])["tandem.device"] == "gpu1" and by["condense"]["parentSpanId"] == root["spanId"]
    assert attrs(root)["tandem.strategy"] == "B" and attrs(root)["tandem.shortened"] is True
    b.fault(times=-1, fault="500")
    status, headers, _ = t.chat(prompt(3600), stream=True)
    root, spans = c.trace_of(headers["X-Tandem-Request-Id"])
    failed = [s for s in spans if s["name"] == "notes"]
    assert failed[0]["status"]["code"] == 2 and attrs(failed[0])["error.type"] and "status" not in root
    (event,) = [e for e in root["events"] if e["name"] == "tandem.fallback"]
    assert "notes on gpu1" in attrs(event)["tandem.why"]


def test_a_call_that_is_made_twice(traced):
    t, a, c = traced(deadlines={"first_byte_ms": 50, "heartbeat_ms": 20}, backoff=FAST)
    a.fault(times=1, fault="hang")
    r = in_thread(lambda: say(t))
    a.struck()
    request = ask(t, "requests")["requests"][0]["request"]
    wait_for(lambda: [s for s in ask(t, f"request {request}")["steps"] if s["kind"] == "heartbeat"], "a heartbeat")
    os.kill(t.device("gpu0")["pid"], signal.SIGKILL)
    status, rid, _ = r.join()
    root, spans = c.trace_of(rid)
    calls = [s for s in spans if s["name"] == "chat m:1b"]
    assert len(calls) == 2 and calls[0]["status"]["code"] == 2 and attrs(calls[0])["error.type"] == "worker_lost" and "status" not in calls[1]
    names = [e["name"] for e in root["events"]]
    assert "tandem.retry" in names and "tandem.heartbeat" in names


def test_answers_that_fail(traced):
    t, a, c = traced(fake_options=("--num-ctx", "2048"))
    a.fault(times=-1, fault="500")
    status, rid, _ = say(t, stream=False)
    root, spans = c.trace_of(rid)
    assert status >= 500 and root["status"]["code"] == 2 and attrs(root)["error.type"] == str(status)
    status, rid = t.request("POST", "/api/chat", b"{broken")[:2]
    root, spans = c.trace_of(rid["X-Tandem-Request-Id"])
    assert status == 400 and "status" not in root and attrs(root)["http.response.status_code"] == 400  # the client's fault, as HTTP's conventions say


def test_what_comes_after_the_end(fake, tandem, collector):
    from test_adaptive import Session
    c, a = collector(), fake("a", type="llama-server", options=("--prefill", "20000", "--num-ctx", "6000", "--slots", "1"))
    t = tandem([attached(a, slots=1, num_ctx=6000)], traces={"endpoint": c.url, "delay_ms": 20},
               routing={"mode": "adaptive", "min_gain_ms": 200, "warm": True})
    s = Session(t, backend=a)
    for _ in range(40):
        s.ask()
        wait_for(lambda: t.requests()["active"] == 0, "the end of what follows an answer")
        if ask(t, "counters")["early_freezes"]:
            break
        s.step()
    warm = wait_for(lambda: [x for x in c.spans() if x["name"] == "warm"], "the span of the warming")[0]
    (freeze,) = [x for x in c.spans() if x["name"] == "freeze"]
    roots = {x["spanId"]: x for x in c.spans() if x["kind"] == 2}
    assert warm["parentSpanId"] == freeze["parentSpanId"] in roots and warm["spanId"] != freeze["spanId"]
    assert roots[warm["parentSpanId"]]["traceId"] == warm["traceId"]


# --- trace context ---


def test_it_goes_on_with_the_clients_trace(traced):
    t, a, c = traced()
    status, rid, _ = say(t, traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="congo=t61rcWkgMzE , ,rojo=00f067aa0ba902b7")
    root, spans = c.trace_of(rid)
    assert root["traceId"] == TRACE and root["parentSpanId"] == PARENT and root["traceState"] == "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    assert root["flags"] == 0x301
    (call,) = [s for s in spans if s["name"] == "chat m:1b"]
    assert call["flags"] == 0x101
    seen = seen_by(a)
    assert seen["traceparent"] == f"00-{TRACE}-{call['spanId']}-01"
    assert seen["tracestate"] == "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"


def test_notes_carry_it_too(pair, collector, folder):
    c = collector()
    t, a, b = pair(small_options=logs("small", folder), traces={"endpoint": c.url, "delay_ms": 20})
    status, headers, _ = t.chat(prompt(3568), stream=True)
    root, spans = c.trace_of(headers["X-Tandem-Request-Id"])
    (notes,) = [s for s in spans if s["name"] == "notes"]
    assert seen_by(b)["traceparent"] == f"00-{root['traceId']}-{notes['spanId']}-01"


def test_notes_under_way_go_on_for_the_one_that_joined(pair, collector):
    c = collector()
    t, a, b = pair(traces={"endpoint": c.url, "delay_ms": 20}, limits={"coalesce_after_ms": 0}, condense={"job_timeout_ms": 3000})
    b.fault(fault="hang", times=2)
    body = json.dumps({"model": "m:1b", "stream": True, "messages": [{"role": "user", "content": prompt(9000)}]}).encode()
    first, second = Client(t), Client(t)
    first.send("POST", "/api/chat", body)
    lead = wait_for(lambda: ask(t, "requests")["requests"], "the first")[0]["request"]
    wait_for(lambda: [s["kind"] for s in ask(t, f"request {lead}")["steps"]].count("notes") == 2, "two notes under way")
    second.send("POST", "/api/chat", body)
    heir = wait_for(lambda: [r for r in ask(t, "requests")["requests"] if r["request"] != lead], "the second")[0]["request"]
    wait_for(lambda: ask(t, f"request {heir}")["steps"][-1]["kind"] == "joined", "that it joins")
    first.close(reset=True)
    taken = wait_for(lambda: (r := ask(t, f"request {heir}"))["steps"][-1]["kind"] == "taken_over" and r, "that it takes over")
    assert (taken["model"], taken["device"]) == ("m:1b", "gpu0") and taken["reason"]
    assert second.head() == 200 and second.rest()
    for rid in (lead, heir):
        root, spans = c.trace_of(rid)
        assert [s["name"] for s in spans].count("notes") >= 2 and len({s["spanId"] for s in spans}) == len(spans)
    second.close()


@pytest.mark.parametrize("wrong", [f"00-{TRACE}-{PARENT}", f"00-{TRACE}-{PARENT}-01-x", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01",
                                   f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{PARENT}-01", f"00-{TRACE}-{PARENT}-0g", "", "x" * 4000])
def test_a_traceparent_that_is_none(traced, wrong):
    t, a, c = traced()
    status, rid, _ = say(t, traceparent=wrong, tracestate="congo=1")
    root, spans = c.trace_of(rid)
    assert status == 200 and root["traceId"] != TRACE and "parentSpanId" not in root and "traceState" not in root
    seen = seen_by(a)
    assert seen["traceparent"].startswith(f"00-{root['traceId']}-") and "tracestate" not in seen


def test_two_traceparents_are_none(traced):
    t, a, c = traced()
    body = json.dumps({"model": "m:1b", "stream": False, "messages": [{"role": "user", "content": "hi"}]}).encode()
    client = Client(t)
    client.send("POST", "/api/chat", body, headers=[f"traceparent: 00-{TRACE}-{PARENT}-01"] * 2)
    client.head()
    client.rest()
    (root,) = wait_for(lambda: [s for s in c.spans() if s["kind"] == 2], "the trace")
    assert root["traceId"] != TRACE


def test_a_higher_version_is_read_as_far_as_it_is_known(traced):
    t, a, c = traced()
    status, rid, _ = say(t, traceparent=f"cc-{TRACE}-{PARENT}-01-what-comes-there")
    assert c.trace_of(rid)[0]["parentSpanId"] == PARENT and seen_by(a)["traceparent"].startswith(f"00-{TRACE}-")


def test_a_client_that_does_not_sample(traced):
    """Its word counts: nothing is recorded, and the backend is told so."""
    t, a, c = traced()
    say(t, traceparent=f"00-{TRACE}-{PARENT}-00")
    seen = seen_by(a)["traceparent"]
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-00", seen) and PARENT not in seen
    assert counts(t)["spans"] == 0


@pytest.mark.parametrize("ratio", [0, 0.5])
def test_a_share_of_traces(traced, ratio):
    t, a, c = traced(traces={"ratio": ratio})
    for i in range(40):
        say(t, f"hello {i}")
    flags = all_seen_by(a)
    assert len(flags) == 40
    sampled = ratio and len({s["traceId"] for s in wait_for(lambda: settled(t)["sent"] and c.spans(), "some")})
    assert (sampled == 0) if ratio == 0 else (0 < sampled < 40)  # 2 in 10^12 otherwise
    assert all(re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", h["traceparent"]) for h in flags)
    # Others are recorded where the client wishes it.
    assert c.trace_of(say(t, traceparent=f"00-{TRACE}-{PARENT}-01")[1])[0]["traceId"] == TRACE


def test_without_an_endpoint_headers_go_through(fake, tandem, folder):
    a = fake("a", options=logs("a", folder))
    t = tandem([attached(a)])
    say(t, traceparent="00-whatever", tracestate="x")
    assert seen_by(a)["traceparent"] == "00-whatever" and seen_by(a)["tracestate"] == "x"
    assert counts(t) == {"spans": 0, "sent": 0, "rejected": 0, "dropped": 0, "restarts": 0} and len(children(t.pid)) == 1


# --- a collector that misbehaves ---


def test_it_is_tried_again(traced):
    t, a, c = traced((503, {"Retry-After": "1"}, b"later"), "close", (429, {}, b""))
    began = time.monotonic()
    status, rid, _ = say(t)
    assert status == 200
    c.trace_of(rid)
    assert [r["answer"] if isinstance(r["answer"], str) else r["answer"][0] for r in c.requests()] == [503, "close", 429, 200]
    assert time.monotonic() - began >= 1 + 2  # a kept connection that closes is no try of its own
    assert len({r["raw"] for r in c.requests()}) == 1
    assert settled(t)["sent"] == 6 and len(t.events(ev="traces_wait")) == 1 and len(t.events(ev="traces_sent_again")) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 500, 302])
def test_what_it_refuses_is_dropped(traced, status):
    t, a, c = traced((status, {"Location": "http://127.0.0.1:1/"}, b"no"))
    say(t)
    assert settled(t)["dropped"] == 6 and len(c.requests()) == 1
    c.trace_of(say(t)[1])
    assert settled(t)["sent"] == 6


@pytest.mark.parametrize("answer,rejected", [(b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}', 2),
                                             (b'{"partialSuccess":{"rejectedSpans":3}}', 3), (b'{"partialSuccess":{"rejectedSpans":"99"}}', 6),
                                             (b'{"partialSuccess":{"rejectedSpans":-1}}', 0), (b"\x00\xff", 0), (b"[" * 100000, 0), (b"", 0),
                                             (b'{"partialSuccess":{"errorMessage":"a warning"}}', 0)])
def test_partial_success(traced, answer, rejected):
    t, a, c = traced((200, {}, answer))
    say(t)
    assert settled(t) == {"spans": 6, "sent": 6 - rejected, "rejected": rejected, "dropped": 0, "restarts": 0}
    if b"Message" in answer:
        assert len(t.events(ev="traces_rejected")) == 1


def test_a_collector_that_hangs_slows_no_request(traced):
    t, a, c = traced(*["hang"] * 50, traces={"timeout_ms": 600000, "queue_bytes": 65536})
    times = []
    for i in range(60):
        began = time.monotonic()
        assert say(t, f"hello {i}")[0] == 200
        times.append(time.monotonic() - began)
    told = wait_for(lambda: (x := counts(t))["dropped"] > 0 and x, "what finds no room")
    assert told["spans"] == 360 and told["dropped"] < 360 and told["sent"] == 0 and len(c.requests()) == 1
    assert sorted(times)[30] < 1


def test_a_collector_that_is_not_there(fake, tandem, collector):
    from harness import free_port
    port, a = free_port(), fake("a")
    t = tandem([attached(a)], traces={"endpoint": f"http://127.0.0.1:{port}", "delay_ms": 20})
    status, rid, _ = say(t)
    assert status == 200
    assert "no connection to the collector" in wait_for(lambda: t.events(ev="traces_wait"), "that it is told")[0]["why"]
    c = collector(port=port)
    c.trace_of(rid)
    assert settled(t)["sent"] == 6


def test_batches(traced):
    t, a, c = traced(traces={"delay_ms": 3600000, "batch_spans": 20})
    for i in range(10):
        say(t, f"hello {i}")
    wait_for(lambda: counts(t)["sent"] >= 40, "what is full goes at once")
    sizes = [len(json.loads(r["raw"])["resourceSpans"][0]["scopeSpans"][0]["spans"]) for r in c.requests()]
    assert all(n in (18, 24) or n <= 20 for n in sizes) and max(sizes) <= 24, sizes
    # The rest goes when tandemd ends.
    t.stop()
    wait_for(lambda: len(c.spans()) == 60, "the last ones")


def test_the_process_that_sends_dies(traced):
    t, a, c = traced("hang", backoff=FAST)
    say(t)
    wait_for(c.requests, "a batch under way")
    os.kill(sender_of(t), signal.SIGKILL)
    wait_for(lambda: counts(t)["restarts"] == 1 and counts(t)["dropped"] == 6, "that its spans are counted as lost")
    wait_for(lambda: len(children(t.pid)) == 2, "another one")
    wait_for(lambda: c.spans() or say(t)[0] != 200, "spans by the new one")
    assert t.status()["pid"] == t.pid and t.requests()["failed"] == 0


def sender_of(t):
    (pid,) = [p for p in children(t.pid) if p != t.device("gpu0")["pid"]]
    return pid


def test_the_process_that_sends_stands_still(traced):
    """It takes nothing any more: spans are dropped, requests are not held up, and tandemd ends in time all the same."""
    t, a, c = traced(traces={"queue_bytes": 65536})
    say(t)
    wait_for(c.spans, "the first ones")
    os.kill(sender_of(t), signal.SIGSTOP)
    wait_for(lambda: say(t)[0] == 200 and counts(t)["dropped"] > 0, "what finds no room")
    assert t.requests()["failed"] == 0
    began = time.monotonic()
    assert t.stop() == 0
    assert time.monotonic() - began < 10


def test_the_process_that_sends_holds_nothing_of_tandemds(traced):
    t, a, c = traced()
    c.trace_of(say(t)[1])
    ours, its = fds(t.pid), fds(sender_of(t))
    shared = {fd: to for fd, to in its.items() if to in ours.values() and not to.startswith("anon_inode:")}
    assert set(shared.values()) <= {ours[2], "/dev/null"}, shared


def test_an_upgrade_goes_on_with_them(fake, upgradable, collector):  # noqa: F811
    c, a = collector(), fake("main", options=("--slots", "4"))
    t = upgradable([attached(a, slots=4, num_ctx=16384)], traces={"endpoint": c.url, "delay_ms": 20})
    first = attrs(c.trace_of(say(t)[1])[0])
    t.upgrade()
    root, spans = c.trace_of(say(t)[1])
    assert attrs(root)["tandem.request.id"] != first["tandem.request.id"] and len(spans) == 6
    pids = {attrs(json.loads(r["raw"])["resourceSpans"][0]["resource"])["process.pid"] for r in c.requests()}
    assert len(pids) == 2


def test_reload_begins_and_ends_them(fake, tandem, collector, folder):
    one, other, a = collector(), collector(), fake("a", options=logs("a", folder))
    t = tandem([attached(a)], traces={"endpoint": one.url, "delay_ms": 20})
    one.trace_of(say(t)[1])
    with open(t.conf) as f:
        text = f.read()

    def becomes(before, after):
        nonlocal text
        assert before in text
        text = text.replace(before, after)
        with open(t.conf, "w") as f:
            f.write(text)
        assert t.operate("reload")["state"] == "done"
    becomes(one.url, other.url)
    other.trace_of(say(t)[1])
    assert t.requests()["failed"] == 0 and settled(t)["sent"] == 12
    becomes(f'endpoint = "{other.url}";', "")
    say(t, traceparent="00-as-it-is")
    assert seen_by(a)["traceparent"] == "00-as-it-is" and counts(t)["spans"] == 12
    wait_for(lambda: len(children(t.pid)) == 1, "the end of the process that sends")


def test_headers_from_a_file(traced, folder):
    path = os.path.join(folder, "headers")
    with open(path, "w") as f:
        f.write("# for the collector\nAuthorization: Bearer secret-token\n\nX-Scope: a b\n")
    os.chmod(path, 0o600)
    t, a, c = traced(traces={"headers_file": path})
    c.trace_of(say(t)[1])
    sent = c.requests()[0]["headers"]
    assert sent["Authorization"] == "Bearer secret-token" and sent["X-Scope"] == "a b"
    assert "secret-token" not in t.log()
    # Another key counts from a reload on.
    with open(path, "w") as f:
        f.write("Authorization: Bearer another-token\n")
    assert t.operate("reload")["state"] == "done"
    before = len(c.requests())
    c.trace_of(say(t)[1])
    assert c.requests()[before]["headers"]["Authorization"] == "Bearer another-token" and settled(t)["sent"] == 12


@pytest.mark.parametrize("text,why", [("nonsense\n", "line 1 has no colon"), ("A: b\nContent-Type: x\n", "line 2 is a header that tandem sets"),
                                      ("Na me: x\n", "line 1 is no header"), ("x: y\n" * 33, "one header too many"), ("x" * 20000, "too long"),
                                      (None, "cannot be read")])
def test_a_bad_file_of_headers_is_told(traced, folder, text, why):
    path = os.path.join(folder, "headers")
    if text:
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o600)
    t, a, c = traced(traces={"headers_file": path}, backoff=FAST)
    assert say(t)[0] == 200
    assert why in wait_for(lambda: t.events(ev="traces_headers"), "a line")[0]["why"]
    assert c.requests() == []


def test_an_endpoint_with_a_path(fake, tandem, collector):
    c, a = collector(), fake("a")
    t = tandem([attached(a)], traces={"endpoint": c.url + "/otlp/here", "delay_ms": 20})
    c.trace_of(say(t)[1])
    assert c.requests()[0]["path"] == "/otlp/here"


def test_a_collector_with_tls(fake, tandem, collector, folder):
    pem, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    c, a = collector(context=context), fake("a")
    t = tandem([attached(a)], traces={"endpoint": c.url, "delay_ms": 20, "ca_file": pem})
    c.trace_of(say(t)[1])
