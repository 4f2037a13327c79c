"""tandemd as a service: the notification protocol and socket activation, spoken for real, and the units under a real systemd."""

import array
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import attached
from harness import BIN, Client, Fake, children, fds, free_port, libconfig, nng_req, wait_for
from machine import Machine, why_not
from test_lives import script
from test_upgrade import finish, open_stream, slow, upgradable  # noqa: F401 - fixtures

TANDEMD = os.path.join(BIN, "tandemd")


class Manager:
    """The service manager's end of the notification socket."""

    def __init__(self, name):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + name[1:] if name[0] == "@" else name)
        self.sock.setblocking(False)
        self.name, self.heard, self.fds, self.at = name, [], {}, []

    def look(self):
        while True:
            try:
                data, ancillary, _, _ = self.sock.recvmsg(4096, 1024)
            except BlockingIOError:
                return self.heard
            message = dict(line.split("=", 1) for line in data.decode().split("\n"))
            for _, kind, payload in ancillary:
                assert kind == socket.SCM_RIGHTS
                self.fds[message["FDNAME"]] = array.array("i", payload)[0]
            self.heard.append(message)
            self.at.append(time.monotonic())

    def said(self, key, value=None):
        return [m for m in self.look() if key in m and value in (None, m[key])]

    def wait(self, key, value=None, after=0):
        return wait_for(lambda: self.said(key, value)[after:], f"{key}={value}")[0]

    def close(self):
        self.sock.close()
        for fd in self.fds.values():
            os.close(fd)


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path_factory):
    m = Manager(f"@tandem-test-{os.getpid()}" if request.param == "abstract" else f"/tmp/tandem-notify-{os.getpid()}")
    yield m
    m.close()
    if request.param == "path":
        os.unlink(m.name)


def test_ready_after_the_first_ready_main_device(folder, manager, tandem):
    port, small_port = free_port(), free_port()
    devices = [{"name": "gpu0", "roles": ["main"], "backend": {"type": "ollama", "url": f"http://127.0.0.1:{port}"}},
               {"name": "gpu1", "roles": ["condense"], "backend": {"type": "ollama", "url": f"http://127.0.0.1:{small_port}"}}]
    t = tandem(devices, env={"NOTIFY_SOCKET": manager.name}, wait=False)
    assert int(manager.wait("EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"]) > 20_000_000
    small = Fake(folder, "small", port=small_port)
    t.wait_ready("gpu1")
    assert not manager.said("READY"), manager.heard
    main = Fake(folder, "main", port=port)
    manager.wait("READY", "1")
    assert t.device("gpu0")["state"] == "ready"
    manager.wait("STATUS", "gpu0 ready, gpu1 ready")
    assert any("gpu0 loading" in m["STATUS"] for m in manager.said("STATUS")[:-1])
    for pid in children(t.pid):
        with open(f"/proc/{pid}/environ") as f:
            assert "NOTIFY_SOCKET" not in f.read()
    t.stop()
    assert "STATUS" in manager.wait("STOPPING", "1")
    assert len(manager.said("READY")) == 1
    for f in (main, small):
        f.stop()


def test_the_watchdog_is_fed_by_the_loop(manager, fake, tandem):
    backend, begun = fake("main"), time.monotonic()
    t = tandem([attached(backend)], env={"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "200000"})
    manager.wait("WATCHDOG", "1", after=4)
    beats = [at for m, at in zip(manager.heard, manager.at) if "WATCHDOG" in m]
    assert beats[4] - begun > 0.35  # every 100 ms, neither more often
    os.kill(t.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: open(f"/proc/{t.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T", "stopped tandemd")
        n = len(manager.said("WATCHDOG"))
        with pytest.raises(AssertionError):
            # One may have been on its way; ten come in a second.
            wait_for(lambda: len(manager.said("WATCHDOG")) > n + 1, "beats of a stopped process", deadline=1)
    finally:
        os.kill(t.pid, signal.SIGCONT)
    manager.wait("WATCHDOG", "1", after=n)


@pytest.mark.parametrize("env", [{}, {"WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}])
def test_no_beats_unless_asked(manager, fake, tandem, env):
    tandem([attached(fake("main"))], env={"NOTIFY_SOCKET": manager.name, **env})
    manager.wait("READY")
    with pytest.raises(AssertionError):
        wait_for(lambda: manager.said("WATCHDOG"), "beat", deadline=0.5)


@pytest.mark.parametrize("name", ["relative", "@", "/nowhere/at/all", "/" + "x" * 200])
def test_a_notification_socket_that_cannot_be_used_changes_nothing(fake, tandem, name):
    t = tandem([attached(fake("main"))], env={"NOTIFY_SOCKET": name})
    assert t.chat("hi")[0] == 200
    wait_for(lambda: [e for e in t.events() if e["ev"] in ("notify_socket", "notify_lost")], "line in the log")


def test_the_manager_keeps_the_socket(manager, fake, tandem):
    """FDSTORE brings the very socket that clients connect to: they wait in its queue while there is no tandemd."""
    a = fake("main")
    t = tandem([attached(a)], env={"NOTIFY_SOCKET": manager.name})
    manager.wait("FDSTORE", "1")
    stored = socket.socket(fileno=os.dup(manager.fds["tandem-http"]))
    assert stored.getsockname() == ("127.0.0.1", t.port)
    t.popen.kill()
    t.popen.wait()
    c = Client(t).send("GET", "/api/version")  # nobody accepts
    stored.settimeout(5)
    peer, _ = stored.accept()
    assert peer.recv(100).startswith(b"GET /api/version")
    for s in (peer, stored, c.sock):
        s.close()
    t.log_file.close()
    t.run_holder.cleanup()


# Gives tandemd the descriptors that a service manager would: "name kind" pairs.
GIVER = """#!/usr/bin/python3 -ESs
import os, socket, sys
names, at = [], 10
for word in %(given)r:
    name, kind = word.split("=")
    if kind == "file":
        fd = os.open("/dev/null", os.O_RDONLY)
    elif kind == "udp":
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
        fd = s.detach()
    else:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0" if kind.startswith("*") else "127.0.0.1", int(kind.lstrip("*"))))
        if not kind.startswith("-"):
            s.listen(64)
        fd = s.detach()
    os.dup2(fd, at + len(names))
    names.append(name)
for i in range(len(names)):
    os.dup2(at + i, 3 + i)
os.closerange(3 + len(names), 64)
os.environ.update(LISTEN_PID=str(%(pid)s), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names))
os.execv(%(tandemd)r, [%(tandemd)r] + sys.argv[1:])
"""


@pytest.fixture
def given(folder, fake, tandem):
    def start(words, pid="os.getpid()", **options):
        program = script(folder, "giver", GIVER % {"given": words, "pid": pid, "tandemd": TANDEMD})
        return tandem([attached(fake("main"))], program=program, **options)

    return start


def log_of(t, event):
    return [e for e in t.events() if e["ev"] == event]


@pytest.mark.parametrize("name", ["tandem-socket", "tandem-http", "unknown", ""])
def test_a_given_socket_is_taken(given, name):
    port = free_port()
    t = given([f"{name}={port}"], listen={"port": port})
    assert t.port == port and t.chat("hi")[0] == 200
    assert not log_of(t, "listener_mismatch") and not log_of(t, "listener_outdated")
    worker = t.device("gpu0")["pid"]
    assert fds(t.pid)[3] not in fds(worker).values()
    with open(f"/proc/{worker}/environ") as f:
        assert "LISTEN_FDS" not in f.read()


def test_a_given_socket_elsewhere_is_taken_with_a_warning(given):
    port, other = free_port(), free_port()
    t = given([f"tandem-socket={port}"], listen={"port": other})
    assert t.port == port and log_of(t, "listener_mismatch") and t.chat("hi")[0] == 200


def test_a_given_socket_that_others_reach_needs_keys_or_a_word(given, folder, fake):
    """Whatever listen.address says: neither at the start nor by a reload does it become open to all unasked."""
    port = free_port()
    with pytest.raises(AssertionError, match="is open to the network: access.key_file must name"):
        given([f"tandem-socket=*{port}"], listen={"port": port})
    t = given([f"tandem-socket=*{port}"], listen={"port": port}, access={"open": True})
    assert t.chat("hi")[0] == 200 and log_of(t, "listening")[-1]["access"] == "open"
    with open(t.conf) as f:
        text = f.read()
    with open(t.conf, "w") as f:
        f.write(text.replace("open = true;", ""))
    o = t.operate("reload")
    assert o["state"] == "failed" and "is open to the network" in o["why"]


def test_a_stored_socket_elsewhere_is_given_up(given, manager):
    port, other = free_port(), free_port()
    t = given([f"tandem-http={port}"], listen={"port": other}, env={"NOTIFY_SOCKET": manager.name})
    assert t.port == other and log_of(t, "listener_outdated") and t.chat("hi")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert manager.wait("FDSTOREREMOVE", "1")["FDNAME"] == "tandem-http"
    manager.wait("FDSTORE", "1")


def test_what_is_no_listening_socket_is_refused(given):
    port = free_port()
    t = given(["a=file", "b=udp", f"c={port}", f"d={free_port()}"])
    assert t.port == port and len(log_of(t, "listener_refused")) == 2
    assert sorted(int(e["why"].split()[1]) for e in log_of(t, "listener_refused")) == [3, 4]


def test_descriptors_for_another_process_are_left_alone(given):
    port = free_port()
    t = given([f"tandem-socket={port}"], pid="1")
    assert t.port != port and t.chat("hi")[0] == 200


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="needs systemd-socket-activate")
def test_systemd_socket_activate_starts_it_with_the_first_client(folder, fake, tandem):
    port = free_port()
    program = script(folder, "activate", f'#!/bin/sh\nexec systemd-socket-activate -l 127.0.0.1:{port} --fdname=tandem-socket {TANDEMD} "$@"\n')
    answer = {}

    def first_client():
        def connected():
            answer["sock"] = socket.create_connection(("127.0.0.1", port), timeout=30)
            return True
        wait_for(connected, "listening systemd-socket-activate")
        s = answer["sock"]
        s.sendall(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer["data"] = b"".join(iter(lambda: s.recv(4096), b""))

    client = threading.Thread(target=first_client)
    client.start()
    t = tandem([attached(fake("main"))], program=program, listen={"port": port})
    client.join(30)
    assert answer["data"].startswith(b"HTTP/1.1 200"), answer
    answer["sock"].close()
    assert t.port == port and t.chat("hi")[0] == 200


def test_an_upgrade_is_told_to_the_manager(manager, upgradable, fake):  # noqa: F811
    t = upgradable([attached(fake("main"))], env={"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "200000"})
    manager.wait("READY")
    os.kill(t.pid, signal.SIGHUP)
    reloading = manager.wait("RELOADING", "1")
    assert abs(int(reloading["MONOTONIC_USEC"]) / 1e6 - time.monotonic()) < 60
    manager.wait("READY", after=1)
    old, new = t.upgrade()
    manager.wait("MAINPID", str(new))
    manager.wait("READY", after=2)
    wait_for(lambda: t.status()["old_pids"] == [], "end of the old tandemd")
    n = len(manager.said("WATCHDOG"))
    manager.wait("WATCHDOG", "1", after=n + 2)
    # The one that retires says nothing: for the manager the service goes on.
    assert not manager.said("STOPPING") and len(manager.said("FDSTORE")) == 1
    os.kill(new, signal.SIGTERM)
    manager.wait("STOPPING")


def test_a_rolled_back_upgrade_is_not_told(manager, upgradable, fake):  # noqa: F811
    t = upgradable([attached(fake("main"))], env={"NOTIFY_SOCKET": manager.name})
    manager.wait("READY")
    t.install('#!/bin/sh\ncase " $* " in *" -t "*) exec REAL "$@";; esac\nexit 7\n')
    t.refused()
    assert not manager.said("MAINPID") and not manager.said("STOPPING") and len(manager.said("READY")) == 1


# --- the units ---


@pytest.fixture
def units(folder):
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    out = os.path.join(folder, "units")
    os.makedirs(out)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for name in ("tandem.service", "tandem.socket"):
        with open(os.path.join(root, "etc", "systemd", name + ".in")) as f:
            text = f.read().replace("@PREFIX@/bin", BIN).replace("@PREFIX@", "/usr").replace("@SYSCONFDIR@", "/etc")
        with open(os.path.join(out, name), "w") as f:
            f.write(text)
    return out


def test_the_units_are_good(units):
    for name in ("tandem.service", "tandem.socket"):
        r = subprocess.run(["systemd-analyze", "verify", "--man=no", os.path.join(units, name)], capture_output=True, text=True)
        assert (r.returncode, r.stderr) == (0, "")


def test_the_service_is_hardened(units):
    r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=25", os.path.join(units, "tandem.service")],
                       capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr
    with open(os.path.join(units, "tandem.service")) as f:
        text = f.read()
    assert "PrivateDevices" not in "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for devices in ("char-nvidia*", "char-drm", "char-kfd"):
        assert f"DeviceAllow={devices} rw" in text


# --- under a real systemd ---


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    m = Machine(str(tmp_path_factory.mktemp("machine")))
    yield m
    m.end()


class Service:
    """tandem.service of the machine; looks enough like a Tandem for the clients."""

    def __init__(self, machine, a, port, dropin="", listen=None, **groups):
        self.m, self.port, self.folder = machine, port, None
        config = {"listen": {"address": "127.0.0.1", "port": listen or port}, "log": {"level": "debug"}, "devices": [attached(a, slots=16)],
                  **groups}
        machine.write("/etc/tandem/tandem.conf", "".join(f"{k} = {libconfig(v)};\n" for k, v in config.items()))
        machine.write("/run/systemd/system/tandem.service.d/case.conf", dropin)
        machine.systemctl("daemon-reload")

    def status(self):
        return json.loads(nng_req(self.m.path("/run/tandem/stats.ipc"), "status"))

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def answers(self):
        s = self.connect()
        with s:
            s.sendall(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            data = b"".join(iter(lambda: s.recv(4096), b""))
        assert data.startswith(b"HTTP/1.1 200"), data
        return True

    def main_pid(self):
        return int(self.m.show("MainPID"))


@pytest.fixture
def service(machine):
    def start(a, port=None, **options):
        return Service(machine, a, port or free_port(), **options)

    yield start
    machine.systemctl("stop", "tandem.socket", "tandem.service", check=False)
    machine.systemctl("reset-failed", check=False)


def test_the_service_starts_once_a_device_is_ready_and_stops(machine, service, folder):
    port = free_port()

    class Later:
        type, url = "ollama", f"http://127.0.0.1:{port}"

    s = service(Later)
    machine.systemctl("start", "--no-block", "tandem.service")
    wait_for(lambda: "gpu0 loading" in machine.show("StatusText"), "status of the service")
    assert machine.show("ActiveState") == "activating" and s.status()["listen"] == f"127.0.0.1:{s.port}"
    a = Fake(folder, "main", port=port)
    wait_for(lambda: machine.show("ActiveState") == "active", "active service")
    assert machine.show("StatusText") == "gpu0 ready" and machine.show("NFileDescriptorStore") == "1"
    pid = s.main_pid()
    assert s.status()["pid"] == pid
    inside = machine.path(f"/proc/{pid}")
    with open(inside + "/status") as f:
        text = f.read()
    assert "NoNewPrivs:\t1" in text and "CapEff:\t0000000000000000" in text and "Seccomp:\t2" in text
    assert machine.run("stat", "-c", "%U:%a", "/run/tandem") == "tandem:700"
    # The devices are the machine's own, where a private /dev would show none of a GPU.
    assert machine.run("stat", "-c", "%d", f"/proc/{pid}/root/dev") == machine.run("stat", "-c", "%d", "/dev")
    assert machine.run("sh", "-c", f"touch /proc/{pid}/root/usr/x 2>&1 || echo no") .endswith("no")
    machine.systemctl("enable", "tandem.service")
    assert machine.systemctl("is-active", "llm-optimizer.service") == "active"
    machine.systemctl("stop", "tandem.service")
    assert machine.show("Result") == "success" and machine.show("ActiveState") == "inactive" and machine.show("ExecMainStatus") == "0"
    assert not os.path.exists(machine.path("/run/tandem"))
    with pytest.raises(ConnectionRefusedError):
        s.connect()
    a.stop()


def test_an_upgrade_keeps_the_service_active(machine, service, slow):  # noqa: F811
    a, text = slow
    s = service(a)
    machine.systemctl("start", "tandem.service")
    since, old = machine.show("ActiveEnterTimestampMonotonic"), s.main_pid()
    c = open_stream(s, 120)
    machine.systemctl("kill", "--kill-who=main", "-s", "USR2", "tandem.service")
    new = wait_for(lambda: s.main_pid() != old and s.main_pid(), "another main process")
    assert s.status()["pid"] == new and machine.show("ActiveState") == "active"
    a.go()
    assert finish(c) == text(120)
    wait_for(lambda: not os.path.exists(machine.path(f"/proc/{old}")), "end of the old tandemd")
    assert machine.show("ActiveState") == "active" and s.answers() and machine.show("StatusText") == "gpu0 ready"
    assert machine.show("ActiveEnterTimestampMonotonic") == since and machine.show("NRestarts") == "0"
    # Stopped while an old one has a stream: both get the time to finish.
    c = open_stream(s, 120)
    machine.systemctl("kill", "--kill-who=main", "-s", "USR2", "tandem.service")
    wait_for(lambda: s.status()["old_pids"] == [new], "second take-over")
    machine.systemctl("stop", "--no-block", "tandem.service")
    wait_for(lambda: machine.show("ActiveState") == "deactivating", "the stop")
    a.go()
    assert finish(c) == text(120)
    wait_for(lambda: machine.show("ActiveState") == "inactive", "its end")
    assert machine.show("Result") == "success"


@pytest.mark.parametrize("upgraded", [False, True])
def test_a_crash_refuses_no_client(machine, service, fake, upgraded):
    s = service(fake("main"))
    machine.systemctl("start", "tandem.service")
    if upgraded:
        old = s.main_pid()
        machine.systemctl("kill", "--kill-who=main", "-s", "USR2", "tandem.service")
        wait_for(lambda: s.main_pid() != old and not os.path.exists(machine.path(f"/proc/{old}")), "end of the old tandemd")
    before = s.main_pid()
    machine.systemctl("kill", "--kill-who=main", "-s", "KILL", "tandem.service")
    n = 0
    while s.main_pid() in (before, 0) or machine.show("ActiveState") != "active":
        s.answers()  # waits in the socket's queue, is never refused
        n += 1
    assert n > 0 and machine.show("NRestarts") == "1" and s.answers()


def test_a_tandemd_that_hangs_is_restarted(machine, service, fake):
    s = service(fake("main"), dropin="[Service]\nWatchdogSec=1\n")
    machine.systemctl("start", "tandem.service")
    before = s.main_pid()
    machine.systemctl("kill", "--kill-who=main", "-s", "STOP", "tandem.service")
    wait_for(lambda: s.main_pid() not in (before, 0) and machine.show("ActiveState") == "active", "another tandemd")
    assert machine.show("NRestarts") == "1" and s.answers()  # nothing but the watchdog sees that it hangs


def test_a_bad_configuration_is_not_tried_again(machine, service, fake):
    service(fake("main"), limits={"queue": -1})
    machine.systemctl("start", "tandem.service", check=False)
    assert machine.show("ActiveState") == "failed" and machine.show("ExecMainStatus") == "2" and machine.show("NRestarts") == "0"
    assert "limits.queue: must be between" in machine.read("/run/tandem.log")


def test_a_reload_is_applied_or_refused(machine, service, fake):
    a = fake("main")
    s = service(a)
    machine.systemctl("start", "tandem.service")
    pid = s.main_pid()
    service(a, port=s.port, limits={"queue": 7})
    machine.systemctl("reload", "tandem.service")
    assert "ev=reload " in machine.read("/run/tandem.log") and machine.show("ActiveState") == "active"
    service(a, port=s.port, limits={"queue": -1})
    r = machine.systemctl("reload", "tandem.service", check=False)
    assert machine.show("ReloadResult") == "exit-code", r
    assert "limits.queue: must be between" in machine.read("/run/tandem.log")
    assert machine.show("ActiveState") == "active" and s.main_pid() == pid and s.answers() and machine.show("StatusText") == "gpu0 ready"


def test_tandemctl_upgrades_the_service(machine, service, fake):
    s = service(fake("main"))
    machine.systemctl("start", "tandem.service")
    old = s.main_pid()
    said = machine.run("tandemctl", "-R", "/run/tandem", "upgrade")
    new = wait_for(lambda: s.main_pid() != old and s.main_pid(), "another main process")
    assert said == f"upgrade: done: pid {new} took over"
    assert machine.show("ActiveState") == "active" and s.answers()


def test_the_socket_unit_starts_it_with_the_first_client(machine, service, fake):
    port = free_port()
    machine.write("/run/systemd/system/tandem.socket.d/case.conf", f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{port}\n")
    s = service(fake("main"), port=port)
    machine.systemctl("start", "tandem.socket")
    assert machine.show("ActiveState") == "inactive"
    assert s.answers()
    wait_for(lambda: machine.show("ActiveState") == "active", "active service")
    assert s.status()["listen"] == f"127.0.0.1:{port}" and machine.show("NFileDescriptorStore") == "0"
    machine.systemctl("restart", "tandem.service")
    assert s.answers()
