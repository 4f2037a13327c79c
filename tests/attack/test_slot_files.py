"""Files that a client could have a llama-server write, in a folder that is ours."""

import os

import pytest

from conftest import attached
from harness import BIN, wait_for
from test_reload import write

COMMAND = [os.path.join(BIN, "fake-backend"), "--type", "llama-server", "--model", "m:1b", "--slots", "2"]


def started(*more):
    return {"name": "gpu0", "roles": ["main"], "model": "m:1b", "slots": 2, "backend": {"type": "llama-server", "command": COMMAND + list(more)}}


SPELT = ["/slots/0?action=%s", "/slots/1?x=1&action=%s", "/%%73lots/0?action=%s", "/slots%%2F0?action=%s", "/sl%%6Fts/0?action=%s", "//slots/0?action=%s",
         "/./slots/0?action=%s", "/x/../slots/0?action=%s", "/%%u0073lots/0?action=%s", "/slots%%u002f0?action=%s", "/v1/slots/0?action=%s", "/slots//0?action=%s"]


def files(t, folder):
    out = []
    for where in (t.run_dir, folder):
        for at, _, names in os.walk(where):
            out += [os.path.join(at, n) for n in names if n.endswith((".bin", ".kv"))]
    return out


@pytest.mark.parametrize("action", ["save", "restore", "erase"])
def test_slot_files_are_not_for_clients(tandem, folder, action, served):
    t = tandem([started()])
    served(t)
    before = files(t, folder)
    for target in SPELT:
        for method in ("POST", "PUT", "DELETE"):
            status, _, data = t.request(method, target % action, {"filename": "mine.bin"})
            assert status == 403 and b"slot-save-path" in data, (method, target, status, data)
    assert files(t, folder) == before
    assert t.request("GET", "/slots")[0] == 200
    assert t.request("POST", "/slotsx/0", {})[0] != 403 and t.request("GET", "/slots/0?action=save")[0] != 403
    served(t)


def test_a_server_that_outlives_what_it_was_started_with(tandem, served):
    """Saving is switched off; the backend stays, and with it the folder that it was given."""
    t = tandem([started()], deadlines={"kv_ms": 5000})
    served(t)
    before = t.device("gpu0")
    write(t, [started()], deadlines={"kv_ms": 0})
    assert t.operate("reload")["state"] == "done"
    wait_for(lambda: (d := t.device("gpu0"))["generation"] > before["generation"] and d["state"] == "ready", "the next worker")
    status, _, data = t.request("POST", "/slots/0?action=save", {"filename": "mine.bin"})
    assert status == 403 and b"slot-save-path" in data, (status, data)


def test_the_users_own_folder_is_theirs(tandem, folder, served):
    mine = os.path.join(folder, "mine")
    os.mkdir(mine)
    t = tandem([started("--slot-save-path", mine)])
    served(t)
    status, _, data = t.request("POST", "/slots/0?action=save", {"filename": "mine.bin"})
    assert status == 200 and os.path.exists(os.path.join(mine, "mine.bin")), (status, data)


def test_an_attached_server_is_its_owners(fake, tandem):
    a = fake("main", type="llama-server")
    t = tandem([attached(a, slots=2)])
    direct = a.type and t.request("POST", "/slots/0?action=save", {"filename": "x.bin"})[0]
    assert direct != 403
