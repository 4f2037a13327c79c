"""A real llama-server keeps its streams, and workers die under them (tests/chaos/replay.py, whose short form this is)."""

import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "chaos"))

import replay  # noqa: E402
from harness import wait_for  # noqa: E402


@pytest.fixture(scope="module")
def setup(engine, tmp_path_factory):
    s = replay.Setup(str(tmp_path_factory.mktemp("replay")), deadlines={"first_byte_ms": 2000, "worker_boot_ms": 120000})
    yield s
    s.stop()


def test_each_stream_is_what_the_server_has_generated(setup):
    """With thinking, calls, prescribed forms and text, in each dialect: nothing differs, no token is generated twice."""
    figures = replay.run(setup, kills=20, tokens=60, seed=1, limit_s=900)
    assert figures["streams"] >= len(replay.KINDS) and all(n > 0 for n in figures["under"].values()), figures


@pytest.mark.parametrize("path", [replay.OPENAI, replay.CHAT])
def test_a_client_that_leaves_frees_the_slot(setup, path):
    """A story of two thousand tokens is not told to its end; nor is one whose worker dies while its client leaves."""
    setup.relay.holds = False
    for dies in (False, True):
        client = setup.t.client().send("POST", path, replay.body_of(path, replay.TEXT, 2000, 1))
        assert client.head() == 200 and client.piece()
        assert not setup.idle()
        if dies:
            pid = setup.t.device("gpu0")["pid"]
            os.kill(pid, 9)
        client.close()
        wait_for(setup.idle, "a free slot", 60)
        wait_for(lambda: setup.t.device("gpu0")["state"] == "ready", "a worker", 60)
    asked = setup.generated()
    assert setup.generated() == asked


def test_what_the_server_answers(setup):
    """The facts of docs/protocols.md#kept-streams; the scripted backend is asked the same (test_replay.py)."""
    import json
    import urllib.error
    import urllib.request

    def ask(path, method="GET", body=None, **headers):
        data = json.dumps(body).encode() if body else None
        try:
            with urllib.request.urlopen(urllib.request.Request(setup.url + path, data, headers, method=method), timeout=60) as r:
                return r.status, r.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()

    kept, body = "/v1/stream", {**replay.body_of(replay.OPENAI, replay.TEXT, 8, 1)}
    assert ask(kept)[0] == 400 and ask(kept + "?conv_id=x")[0] == 404
    status, whole = ask(replay.OPENAI, "POST", body, **{"X-Conversation-Id": "x"})
    assert status == 200 and ask(kept + "?conv_id=x&from=0") == (200, whole)
    assert ask(kept + "?conv_id=x&from=100") == (200, whole[100:]) and ask(kept + "?conv_id=x&from=99999999") == (200, b"")
    assert ask(kept + "?conv_id=x", "DELETE")[0] == 204 and ask(kept + "?conv_id=x")[0] == 404
    assert ask(kept + "?conv_id=x", "DELETE")[0] == 204
    assert ask(replay.OPENAI, "POST", {"stream": True}, **{"X-Conversation-Id": "y"})[0] == 400 and ask(kept + "?conv_id=y")[0] == 404
    assert ask(replay.OPENAI, "POST", {**body, "stream": False}, **{"X-Conversation-Id": "z"})[0] == 200 and ask(kept + "?conv_id=z")[0] == 404
