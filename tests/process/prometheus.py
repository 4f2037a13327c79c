"""Prometheus for the tests: its text format read back, its promtool, and a server of our own that scrapes a tandem."""

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest

from harness import DEADLINE, Process, free_port, wait_for

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')


def installed(program):
    """Its path; the test is skipped where it is missing (etc/setup/deps.sh check installs it)."""
    return shutil.which(program) or pytest.skip(f"no {program}: Debian's package is `prometheus`")


class Scrape:
    """The text of one /metrics."""

    def __init__(self, text):
        self.text, self.types, self.help, self.samples = text, {}, {}, []
        for line in text.splitlines():
            if line.startswith("# "):
                _, what, name, rest = line.split(" ", 3)
                {"TYPE": self.types, "HELP": self.help}[what][name] = rest
                continue
            name, labels, value = SAMPLE.fullmatch(line).groups()
            self.samples.append((name, dict(LABEL.findall(labels or "")), float(value)))

    def of(self, name, /, **labels):
        """The samples of that name with these labels, and perhaps others."""
        return [(have, v) for n, have, v in self.samples if n == name and all(have.get(k) == x for k, x in labels.items())]

    def sum(self, name, /, **labels):
        return sum(v for _, v in self.of(name, **labels))

    def counters(self):
        """What may never fall, by name and labels."""
        return {(n, tuple(sorted(labels.items()))): v for n, labels, v in self.samples
                if self.types[self.family(n)] in ("counter", "histogram")}

    def family(self, name):
        base = re.sub("_(bucket|sum|count)$", "", name)
        return base if self.types.get(base) == "histogram" else name


def scrape(t, port=None):
    """What a tandem tells, of its front door or of that port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port or t.port}/metrics", timeout=DEADLINE) as r:
        assert r.status == 200 and r.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return Scrape(r.read().decode())


def promtool(*args, text=None):
    r = subprocess.run([installed("promtool"), *args], input=text, capture_output=True, text=True)
    return r.returncode, r.stdout + r.stderr


class Prometheus(Process):
    """A server that scrapes one target, and evaluates rules."""

    def __init__(self, folder, target, rules):
        self.port = free_port()
        conf = os.path.join(folder, "prometheus.json")  # YAML has JSON within
        with open(conf, "w") as f:
            json.dump({"global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
                       "rule_files": [rules],
                       "scrape_configs": [{"job_name": "tandem", "static_configs": [{"targets": [target]}]}]}, f)
        super().__init__([installed("prometheus"), f"--config.file={conf}", f"--web.listen-address=127.0.0.1:{self.port}",
                          f"--storage.tsdb.path={os.path.join(folder, 'tsdb')}", "--log.level=warn"], os.path.join(folder, "prometheus.log"))
        wait_for(lambda: self.get("/-/ready") or True, "Prometheus", 60)

    def get(self, path, **query):
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=DEADLINE) as r:
            body = r.read()
            return json.loads(body)["data"] if body.startswith(b"{") else None

    def ask(self, query):
        """The values of an instant query; an error of the query is an error of the test's."""
        try:
            return [r["value"][1] for r in self.get("/api/v1/query", query=query)["result"]]
        except urllib.error.HTTPError as e:
            raise AssertionError(f"{query}: {e.read().decode()}") from None
