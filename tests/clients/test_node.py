"""The Node packages. They are not among what `make check` installs: `npm install` in tests/clients/node first."""

import json
import os
import subprocess

import pytest

from harness import wait_for
from prompts import BY_STRATEGY, fake, prose

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node")
HASTY = {"first_byte_ms": 200, "first_byte_nonstream_ms": 300, "heartbeat_ms": 100}


@pytest.mark.skipif(not os.path.isdir(os.path.join(FOLDER, "node_modules")), reason="no npm install in tests/clients/node")
def test_node_packages(tandem_with, kind, tmp_path):
    site = tandem_with(kind, deadlines=HASTY)
    prompts = {
        "prompts": BY_STRATEGY,
        "slow": fake(delay_ms=1000),
        "tools": fake(tool="read", args={"path": "a.c"}),
        "cut": fake(cut=3),
        "late": fake(delay_ms=500, fault=500, error="out of memory"),
        "hang": fake(hang_after=3),
        "overflow": prose(80000),
    }
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    r = subprocess.run(["node", "--test", "clients.test.mjs"], cwd=FOLDER, capture_output=True, text=True, timeout=120,
                       env={**os.environ, "TANDEM_URL": site.url, "TANDEM_PROMPTS": str(tmp_path / "prompts.json")})
    assert r.returncode == 0, r.stdout[-8000:]
    wait_for(lambda: site.counts()["active"] == 0, "end of all requests")
    assert site.counts()["cancelled"] == 2 and not site.main.stats()["under_way"]
