"""Fixtures: a folder, backends and tandems that are stopped, and looked over, after each test."""

import os

import pytest

from harness import Fake, Tandem, children

SANITIZED = os.environ.get("TANDEM_SANITIZED")


def pytest_configure(config):
    config.addinivalue_line("markers", "measured: holds memory or time to a figure, which no sanitizer's build keeps")


def pytest_runtest_setup(item):
    if SANITIZED and item.get_closest_marker("measured"):
        pytest.skip("a figure that a sanitizer's build cannot keep")


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


@pytest.fixture
def fake(folder):
    """fake(name, type=..., ...) starts a scripted backend."""
    started = []

    def start(name, **options):
        f = Fake(folder, name, **options)
        started.append(f)
        return f

    yield start
    for f in started:
        f.stop()


@pytest.fixture
def tandem(folder):
    """tandem(devices, ...) starts a tandem; at the end it must stop cleanly, leave no child and no sanitizer report."""
    started = []

    def start(devices, **options):
        t = Tandem(folder, devices, **options)
        started.append(t)
        return t

    yield start
    for t in started:
        pids = children(t.pid)
        if t.popen.poll() is None:
            assert t.stop() == 0, t.log()[-4000:]
        log = t.log()
        assert "runtime error" not in log and "Sanitizer" not in log, log[-8000:]
        for pid in pids:
            try:
                with open(f"/proc/{pid}/comm") as f:
                    assert f.read().strip() not in ("tandem-worker", "tandemctl", "fake-backend"), f"pid {pid} outlived its tandem"
            except OSError:
                pass


def attached(fake, name="gpu0", roles=("main",), **more):
    """A device attached to a scripted backend."""
    return {"name": name, "roles": list(roles), "model": "m:1b", **more, "backend": {"type": fake.type, "url": fake.url}}


@pytest.fixture
def pair(fake, tandem):
    """pair(main_type, small_type, ...) -> (tandem, main backend, small backend), both attached."""

    def start(main="ollama", small="ollama", main_options=(), small_options=(), main_device=None, small_device=None, **groups):
        a = fake("main", type=main, options=main_options)
        b = fake("small", type=small, model=("s:0.5b",), options=small_options)
        devices = [
            attached(a, **{"slots": 4, "num_ctx": 16384, **(main_device or {})}),
            {**attached(b, "gpu1", ("condense",), **{"slots": 2, "num_ctx": 8192, **(small_device or {})}), "model": "s:0.5b"},
        ]
        return tandem(devices, **groups), a, b

    return start


@pytest.fixture
def one_device(fake, tandem):
    """one_device(type, ...) -> (tandem with a main device alone, its backend)."""

    def start(type, options=(), device=None, num_ctx=8192, **groups):
        a = fake("a", type=type, options=["--num-ctx", str(num_ctx), *options])
        return tandem([attached(a, **{"slots": 2, "num_ctx": num_ctx, **(device or {})})], **groups), a

    return start


@pytest.fixture
def compacting(one_device):
    """The same with room for a conversation to be compacted in, and a second slot of the backend's."""

    def start(type, window=8192, options=(), **groups):
        return one_device(type, ["--slots", "2", *options], num_ctx=window, **{"routing": {"mode": "adaptive"}, **groups})

    return start
