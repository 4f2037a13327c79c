"""Peers of stats.ipc and events.ipc that say nothing, half of something, or do not read: they are in nobody's way."""

import json
import os
import socket
import struct
import time

import pytest

from harness import nng_req, wait_for

HELLO = {"stats.ipc": b"\0SP\0" + struct.pack(">HH", 0x30, 0), "events.ipc": b"\0SP\0" + struct.pack(">HH", 0x21, 0)}


def peers(t, name, n, said):
    out = []
    for _ in range(n):
        s = socket.socket(socket.AF_UNIX)
        s.connect(os.path.join(t.run_dir, name))  # blocks while the queue of the socket is full
        s.settimeout(5)
        s.sendall(said)
        out.append(s)
    return out


def is_closed(s):
    s.setblocking(False)
    try:
        while s.recv(1 << 16):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


QUESTION = b"\x01" + struct.pack(">Q", 4 + 6) + struct.pack(">I", 0x80000001) + b"status"
SAID = {"nothing": b"", "half a hello": b"\0SP", "a hello": HELLO["stats.ipc"], "half a question": HELLO["stats.ipc"] + QUESTION[:12],
        "questions whose answers it does not read": HELLO["stats.ipc"] + QUESTION * 100}


@pytest.mark.parametrize("said", SAID)
def test_the_newest_asker_is_answered(one, said):
    t, _ = one()
    held = peers(t, "stats.ipc", 80, SAID[said])
    for _ in range(5):
        begun = time.monotonic()
        assert json.loads(nng_req(os.path.join(t.run_dir, "stats.ipc"), "status"))["pid"] == t.pid
        assert time.monotonic() - begun < 3
    for s in held:
        s.close()


def test_eighty_listeners_that_say_nothing(one, served):
    t, _ = one()
    held = peers(t, "events.ipc", 80, b"")
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(os.path.join(t.run_dir, "events.ipc"))
        s.sendall(HELLO["events.ipc"])
        assert s.recv(8)[:4] == b"\0SP\0"
        assert json.loads(nng_req(os.path.join(t.run_dir, "stats.ipc"), "status"))["pid"] == t.pid
        served(t)
        assert s.recv(9), "an event"
    for s in held:
        s.close()


def test_a_peer_without_a_hello_is_closed(one):
    t, _ = one()
    held = peers(t, "stats.ipc", 3, b"") + peers(t, "events.ipc", 3, b"\0S")
    for s in held:
        wait_for(lambda: is_closed(s), "its end", 15)


def test_descriptors_stay_flat(one):
    """Thousands that come, say this or that, and go."""
    t, _ = one()
    count = lambda: len(os.listdir(f"/proc/{t.pid}/fd"))
    t.status()
    before = count()
    for i in range(600):
        for s in peers(t, ("stats.ipc", "events.ipc")[i % 2], 1, list(SAID.values())[i % 5]):
            s.close()
    t.status()
    wait_for(lambda: count() <= before + 2, "as many descriptors as before")
