"""A real OpenTelemetry Collector takes what tandem sends, and says the same of it."""

import os
import re
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "process"))

from harness import Fake, Process, Tandem, free_port, wait_for  # noqa: E402

CONFIG = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{debug: {{verbosity: detailed}}}}
service:
  pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}
  telemetry: {{metrics: {{level: none}}}}
"""
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="session")
def program():
    done = subprocess.run([os.path.join(HERE, "build.sh")], stdout=subprocess.PIPE, text=True)
    if done.returncode == 77:
        pytest.skip("this machine cannot have a collector")
    assert done.returncode == 0
    return done.stdout.splitlines()[-1]


@pytest.fixture
def collector(program, tmp_path):
    port = free_port()
    (tmp_path / "collector.yaml").write_text(CONFIG.format(port=port))
    p = Process([program, "--config", f"file:{tmp_path / 'collector.yaml'}"], str(tmp_path / "collector.log"))
    wait_for(lambda: "Everything is ready" in p.log(), "the collector", 60)
    p.url = f"http://127.0.0.1:{port}"
    yield p
    p.stop()


def spans(log):
    """The debug exporter's words as dicts, with attributes and what stands in lines of a name and a value."""
    found = []
    for block in re.split(r"^Span #\d+$", log, flags=re.M)[1:]:
        one = dict(re.findall(r"^    ([\w ]+?) *: (.*)$", block, re.M))
        one["attributes"] = dict(re.findall(r"^     -> ([\w.]+): \w+\((.*)\)$", block, re.M))
        found.append(one)
    return found


@pytest.fixture
def tandem(collector, tmp_path):
    """Two scripted Ollamas, and traces to the collector."""
    folder = str(tmp_path)
    a, b = Fake(folder, "main"), Fake(folder, "small", model=("s:0.5b",))
    devices = [{"name": n, "roles": [r], "slots": 2, "model": m, "num_ctx": 16384, "backend": {"type": "ollama", "url": f.url}}
               for n, r, m, f in (("gpu0", "main", "m:1b", a), ("gpu1", "condense", "s:0.5b", b))]
    t = Tandem(folder, devices, traces={"endpoint": collector.url, "delay_ms": 20})
    yield t
    for p in (t, a, b):
        p.stop()


def test_a_real_collector(tandem, collector):
    t = tandem
    question = "What calls helper_3?\n" + "\n".join(f"src/part_{i}.c:{i}: function_{i} calls helper_{i % 13}" for i in range(350))
    body = {"model": "m:1b", "stream": True, "messages": [{"role": "user", "content": question}]}
    status, headers, _ = t.request("POST", "/api/chat", body, {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=1,b=2"})
    assert status == 200 and headers["X-Tandem-Strategy"] in "BC"
    told = wait_for(lambda: (c := t.command("counters")["traces"])["sent"] == c["spans"] > 0 and c, "that they are taken")
    assert told["rejected"] == told["dropped"] == 0
    found = wait_for(lambda: len(s := spans(collector.log())) == told["spans"] and s, "the collector's words")
    by = {s["Name"]: s for s in found}
    assert {"POST /api/chat", "read", "parse", "condense", "notes", "chat m:1b", "prefill", "decode"} <= set(by)
    root, call = by["POST /api/chat"], by["chat m:1b"]
    assert {s["Trace ID"] for s in found} == {TRACE} and root["Parent ID"] == PARENT and root["Kind"] == "Server" and call["Kind"] == "Client"
    assert call["Parent ID"] == root["ID"] and by["decode"]["Parent ID"] == call["ID"] and root["TraceState"] == "a=1,b=2"
    assert root["attributes"]["tandem.request.id"] == headers["X-Tandem-Request-Id"] and root["attributes"]["http.response.status_code"] == "200"
    assert int(call["attributes"]["gen_ai.usage.output_tokens"]) > 0
    assert "service.name: Str(tandem)" in collector.log()
