"""A throwaway machine for the tests of the units: a real systemd as process 1 of namespaces of its own.

Its root is an overlay over ours whose changes stay in memory, so that `make install`, users and units can be put into their
real places and are gone with it. The network is ours: scripted backends outside are reached over loopback.
"""

import fcntl
import os
import shutil
import signal
import subprocess

from harness import BIN, ROOT, children, wait_for

BOOT = r"""
set -eu
place=$1 stage=$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$place"
mkdir "$place/up" "$place/work" "$place/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$place/up,workdir=$place/work" "$place/root"
root=$place/root
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys" || mount --rbind /sys "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
cp -a --no-preserve=ownership "$stage/." "$root/"
cd "$root"
exec env -i container=tandem-test PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd --system \
	--unit=test.target --log-target=console --show-status=no
"""

# The machine has no journal and boots to nothing: no early units to wait for, and output into a file.
DROPIN = """[Unit]
DefaultDependencies=no
[Service]
StandardOutput=append:/run/tandem.log
StandardError=append:/run/tandem.log
"""


def why_not():
    """A reason why no machine can be had here, or None."""
    if os.environ.get("TANDEM_SANITIZED"):
        return "the units take from a program what sanitizers need"
    if os.geteuid() != 0:
        return "needs root"
    for program in ("/lib/systemd/systemd", "/usr/bin/unshare", "/usr/bin/nsenter"):
        if not os.path.exists(program):
            return f"needs {program}"
    r = subprocess.run(["unshare", "--fork", "--pid", "--mount", "--cgroup", "--uts", "--ipc", "sh", "-c",
                        "mount --make-rprivate / && mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w /mnt/r /mnt/c && "
                        "mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r && "
                        "mount -t cgroup2 cgroup2 /mnt/c"], capture_output=True, text=True)
    return f"needs namespaces, overlayfs and cgroup2: {r.stderr.strip()}" if r.returncode else None


class Machine:
    def __init__(self, folder):
        self.stage = os.path.join(folder, "stage")
        place = os.path.join(folder, "machine")
        os.makedirs(place)
        os.makedirs(self.stage)
        build = os.path.dirname(BIN)
        with open(os.path.join(build, ".install"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time: what is missing (manual pages) each would build, into the others' files
            # Named as a build from here names it: its objects know their headers by that name.
            r = subprocess.run(["make", "-s", "-C", ROOT, "install", f"BUILD={os.path.relpath(build, ROOT)}", f"DESTDIR={self.stage}"],
                               capture_output=True, text=True, env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")})
        assert r.returncode == 0, r.stdout + r.stderr
        self.put("run/systemd/system/test.target", "[Unit]\nDefaultDependencies=no\n")
        self.put("run/systemd/system/tandem.service.d/test.conf", DROPIN)
        self.put("run/systemd/system/tandem.socket.d/test.conf", "[Unit]\nDefaultDependencies=no\n")
        self.log_path = os.path.join(folder, "systemd.log")
        with open(self.log_path, "wb") as log:
            self.popen = subprocess.Popen(["unshare", "--fork", "--pid", "--mount", "--cgroup", "--uts", "--ipc", "sh", "-c", BOOT, "boot",
                                           place, self.stage], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pid = wait_for(self.booted, "process 1 of the machine")
        wait_for(lambda: self.systemctl("is-system-running", check=False) in ("running", "degraded"), "running machine")
        self.run("systemd-sysusers")
        self.run("mkdir", "-p", "/etc/tandem")

    def booted(self):
        assert self.popen.poll() is None, open(self.log_path, errors="replace").read()
        for pid in children(self.popen.pid):
            with open(f"/proc/{pid}/comm") as f:
                if f.read().strip() == "systemd":
                    return pid
        return None

    def path(self, inside):
        return f"/proc/{self.pid}/root{inside}"

    def put(self, inside, text):
        """Into the stage, before the boot."""
        target = os.path.join(self.stage, inside)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w") as f:
            f.write(text)

    def write(self, inside, text):
        os.makedirs(os.path.dirname(self.path(inside)), exist_ok=True)
        with open(self.path(inside), "w") as f:
            f.write(text)

    def read(self, inside):
        try:
            with open(self.path(inside), errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def run(self, *args, check=True):
        r = subprocess.run(["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-r", "-w", *args], capture_output=True, text=True,
                           timeout=120, stdin=subprocess.DEVNULL)
        assert not check or r.returncode == 0, f"{args}: {r.stdout}{r.stderr}\n{self.read('/run/tandem.log')[-4000:]}"
        return r.stdout.strip()

    def systemctl(self, *args, check=True):
        return self.run("systemctl", *args, check=check)

    def show(self, name, unit="tandem.service"):
        return self.systemctl("show", "--value", "-p", name, unit)

    def end(self):
        os.kill(self.pid, signal.SIGKILL)  # and with it everything in its namespace
        self.popen.wait(30)
        shutil.rmtree(self.stage)
