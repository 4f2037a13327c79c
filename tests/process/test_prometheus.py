"""The dashboard and the alert rules, each query of them asked of a real Prometheus that scrapes a real run."""

import json
import math
import os
import re

import pytest

from harness import ROOT, wait_for
from prometheus import Prometheus, promtool
from test_control import nvml  # noqa: F401 - a fixture
from test_routes import prompt

RULES = os.path.join(ROOT, "etc", "prometheus", "tandem.rules.yml")
DASHBOARD = os.path.join(ROOT, "etc", "grafana", "tandem.json")
LIMIT = re.compile(r" (==|>|<) ([\d.]+)$")

# What the run of this test cannot make, and why.
NO_DATA = {
    'route="other"': "there is room for all sets of labels",
    "tandem_note_lines_total": "notes of idle time are written in the adaptive mode, for long conversations",
}


def rules():
    """{alert: expression}; the file has one line for each."""
    with open(RULES) as f:
        text = f.read()
    found = dict(re.findall(r"- alert: (\w+)\n\s+expr: (.+)\n", text))
    assert len(found) == text.count("- alert:") == text.count("expr:")
    return found


def panels():
    with open(DASHBOARD) as f:
        return [p for p in json.load(f)["panels"] if p["type"] != "row"]


def dashboard_queries():
    """With Grafana's variables filled in, as it does."""
    for p in panels():
        for target in p["targets"]:
            expr = target["expr"]
            for variable, value in (("$__rate_interval", "10m"), ("$route", ".*"), ("$device", ".*")):
                expr = expr.replace(variable, value)
            assert "$" not in expr, expr
            yield f"{p['title']}: {target['refId']}", expr


def streams(t):
    for tokens in (3, 3568, 10981):
        assert t.chat("hi" if tokens == 3 else prompt(tokens), stream=True)[0] == 200


@pytest.fixture
def run(pair, folder, nvml):  # noqa: F811
    """A Prometheus that has seen some requests of each route, and then some more."""
    t, _, _ = pair(env=nvml, main_options=("--prefill", "20000", "--decode", "400"))  # speeds that can be learned
    p = Prometheus(folder, t.address, RULES)
    try:
        for n in (3, 6):
            streams(t)
            wait_for(lambda: [str(n)] == p.ask('sum(tandem_requests_total{outcome="done"})'), f"{n} requests in Prometheus", 60)
        yield p
    finally:
        p.stop()


def has_data(values):
    return any(not math.isnan(float(v)) for v in values)


def test_each_query_has_data(run):
    queries = dict(dashboard_queries())
    queries |= {name: LIMIT.sub("", expr) for name, expr in rules().items()}  # a quiet alert has no data, what it looks at has
    for name, expr in queries.items():
        if any(part in expr for part in NO_DATA):
            run.ask(expr)  # at least it is a query
        else:
            wait_for(lambda: has_data(run.ask(expr)), f"data for {name}: {expr}", 30)
    groups = wait_for(lambda: (g := run.get("/api/v1/rules")["groups"]) and all(r["lastEvaluation"][:4] != "0001" for r in g[0]["rules"]) and g,
                      "the evaluation of the rules", 30)
    assert {r["name"] for r in groups[0]["rules"]} == set(rules())
    for r in groups[0]["rules"]:
        assert r["health"] == "ok", r


def test_the_files_are_valid():
    code, said = promtool("check", "rules", RULES)
    assert code == 0 and f"{len(rules())} rules found" in said, said
    code, said = promtool("check", "config", os.path.join(ROOT, "etc", "prometheus", "prometheus.yml"))
    assert code == 0, said


def test_the_dashboard_shows_each_metric():
    """... and only those that there are (docs/metrics.md)."""
    with open(os.path.join(ROOT, "docs", "metrics.md")) as f:
        there = set(re.findall(r"^\| `((?:tandem|gen_ai)_\w+)` \|", f.read(), re.M))
    everything = " ".join(expr for _, expr in dashboard_queries())
    shown = {re.sub("_bucket$", "", n) for n in re.findall(r"\b(?:tandem|gen_ai_server|gen_ai_client)_\w+", everything)}
    assert shown == there
    alerted = set(re.findall(r"\b(?:tandem|gen_ai_server)_\w+", re.sub("_bucket", "", " ".join(rules().values()))))
    assert alerted <= there
    ids = [p["id"] for p in panels()]
    assert len(ids) == len(set(ids))


# Of each alert: series for which it fires, and for which it does not, over 40 minutes.
FIRST, RATIO = "gen_ai_server_time_to_first_token_seconds_bucket", "tandem_prediction_ratio_bucket"
CASES = {
    "TandemDown": ({'up{job="tandem"}': "0x40"}, {'up{job="tandem"}': "1x40"}),
    "TandemDeviceFailed": ({'tandem_device_state{state="failed"}': "1x40"}, {'tandem_device_state{state="failed"}': "0x40"}),
    "TandemDeviceAway": ({'tandem_device_state{state="ready"}': "0x40"}, {'tandem_device_state{state="ready"}': "1x40"}),
    "TandemWorkerRestarts": ({"tandem_worker_restarts_total": "0+1x40"}, {"tandem_worker_restarts_total": "5x40"}),
    "TandemRequestsFail": ({'tandem_requests_total{outcome="failed"}': "0+1x40", 'tandem_requests_total{outcome="done"}': "0+9x40"},
                           {'tandem_requests_total{outcome="failed"}': "0+1x40", 'tandem_requests_total{outcome="done"}': "0+99x40"}),
    "TandemSlowFirstToken": ({FIRST + '{le="40"}': "0+1x40", FIRST + '{le="80"}': "0+10x40", FIRST + '{le="+Inf"}': "0+10x40"},
                             {FIRST + '{le="40"}': "0+10x40", FIRST + '{le="80"}': "0+10x40", FIRST + '{le="+Inf"}': "0+10x40"}),
    "TandemQueue": ({"tandem_queued_requests": "21x40"}, {"tandem_queued_requests": "20x40"}),
    "TandemOverflows": ({'tandem_overflows_total{kind="refused"}': "0+1x40"}, {'tandem_overflows_total{kind="condensed"}': "0+1x40"}),
    "TandemFallbacks": ({"tandem_fallbacks_total": "0+1x40"}, {"tandem_fallbacks_total": "100x40"}),
    "TandemPredictionsTooLow": ({RATIO + '{le="3.84"}': "0+1x40", RATIO + '{le="5.12"}': "0+10x40", RATIO + '{le="+Inf"}': "0+10x40"},
                                {RATIO + '{le="0.96"}': "0+1x40", RATIO + '{le="1.28"}': "0+10x40", RATIO + '{le="+Inf"}': "0+10x40"}),
    "TandemLabelsFull": ({'tandem_requests_total{route="other"}': "0+1x40"}, {'tandem_requests_total{route="A"}': "0+1x40"}),
    "TandemWordsLost": ({"tandem_log_lines_lost_total": "0+1x40", "tandem_events_lost_total": "0x40"},
                        {"tandem_log_lines_lost_total": "3x40", "tandem_events_lost_total": "0x40"}),
    "TandemGpuHot": ({"tandem_gpu_temperature_celsius": "89x40"}, {"tandem_gpu_temperature_celsius": "80x40"}),
    "TandemGpuMemory": ({"tandem_gpu_memory_used_bytes": "99x40", "tandem_gpu_memory_total_bytes": "100x40"},
                        {"tandem_gpu_memory_used_bytes": "90x40", "tandem_gpu_memory_total_bytes": "100x40"}),
}


def test_each_alert_fires_when_it_should(folder):
    expressions = rules()
    assert set(CASES) == set(expressions)
    tests = []
    for name, cases in CASES.items():
        for fires, series in zip((True, False), cases):
            tests.append({"interval": "1m", "input_series": [{"series": s, "values": v} for s, v in series.items()], "name": f"{name} {fires}",
                          "promql_expr_test": [{"expr": f"count({expressions[name]})", "eval_time": "40m",
                                                "exp_samples": [{"labels": "{}", "value": 1}] if fires else []}]})
    path = os.path.join(folder, "tests.json")
    with open(path, "w") as f:
        json.dump({"rule_files": [], "tests": tests}, f)
    code, said = promtool("test", "rules", path)
    assert code == 0, said
