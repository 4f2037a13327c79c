"""Hostile clients, backends and neighbours against a whole tandem: the harness and the fixtures of the process tests.

Each case ends with the same question: is the next ordinary client served as if nothing had been? (`served`)
"""

import importlib.util
import json
import os
import sys

import pytest

PROCESS = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "process")
sys.path.insert(0, PROCESS)

_spec = importlib.util.spec_from_file_location("process_conftest", os.path.join(PROCESS, "conftest.py"))
_process = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_process)

attached, SANITIZED = _process.attached, _process.SANITIZED
pytest_configure, pytest_runtest_setup = _process.pytest_configure, _process.pytest_runtest_setup
folder, fake, tandem, pair = _process.folder, _process.fake, _process.tandem, _process.pair


@pytest.fixture
def one(fake, tandem):
    """one(type=..., options=(), **groups) -> (tandem, backend): one attached device with four slots."""

    def start(type="ollama", options=(), device=None, **groups):
        backend = fake("main", type=type, options=options)
        return tandem([attached(backend, **{"slots": 4, "num_ctx": 16384, **(device or {})})], **groups), backend

    return start


@pytest.fixture
def served():
    """served(tandem): an ordinary chat gets its whole answer."""

    def ask(t):
        status, headers, data = t.chat("say something")
        assert status == 200 and json.loads(data)["done"] is True, (status, data[:200])
        return headers

    return ask
