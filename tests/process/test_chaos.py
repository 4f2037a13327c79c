"""The short form of `make chaos` (tests/chaos/chaos.py)."""

import os
import subprocess
import sys

from harness import ROOT

FAULTS = os.environ.get("CHAOS_FAULTS", "60")


def test_clients_stream_through_faults_restarts_reloads_and_an_upgrade():
    r = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "chaos", "chaos.py"), "--faults", FAULTS, "--clients", "16", "--upgrades", "1",
                        "--limit-s", "400"], capture_output=True, text=True, timeout=800)
    print(r.stdout)
    assert r.returncode == 0, r.stdout[-6000:] + r.stderr[-4000:]
