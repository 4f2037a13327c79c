"""What is measured: the scripted backends alone, nginx in front of them, tandem in front of them. Each is a set of
plain processes in a temporary folder, ended by pid."""

import json
import os
import subprocess
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "process"))
from harness import BIN, Process, Tandem, free_port, rss_bytes, wait_for  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")

# Connections and requests are never recycled in the middle of a run; buffering is off, as for streams of tokens.
NGINX_HEAD = """daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
	access_log off;
	client_max_body_size 0;
	client_body_temp_path {folder}/body;
	proxy_temp_path {folder}/proxy;
	fastcgi_temp_path {folder}/fastcgi;
	uwsgi_temp_path {folder}/uwsgi;
	scgi_temp_path {folder}/scgi;
	keepalive_requests 1000000000;
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	proxy_set_header Host $http_host;
	proxy_buffering off;
	proxy_request_buffering off;
"""
NGINX_SERVER = """	upstream {name} {{
		server 127.0.0.1:{backend};
		keepalive 1024;
		keepalive_requests 1000000000;
	}}
	server {{
		listen 127.0.0.1:{port};
		location / {{ proxy_pass http://{name}; }}
	}}
"""


def cpu_s(pid):
    """CPU seconds of a process, all its threads, user and system."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def private_bytes(pid):
    """What of the RSS no other process shares: without the pages of libraries that others have mapped too."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Private_")) * 1024


class Backend(Process):
    """A scripted backend without logs or dumps."""

    def __init__(self, folder, name, *options):
        self.port = free_port()
        args = [os.path.join(BIN, "fake-backend"), "--type", "ollama", "--port", str(self.port), "--num-ctx", "100000000"]
        super().__init__(args + list(options), os.path.join(folder, f"backend-{name}.log"))
        self.url = f"http://127.0.0.1:{self.port}"
        wait_for(lambda: self.call("/fake/stats"), f"backend {name}")

    def call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data=data), timeout=5) as r:
            return json.loads(r.read() or b"null") or True


class Subject:
    """ports: where a request for each backend goes. pids: the processes whose cost counts, by what they are."""

    def __init__(self, name, ports, pids):
        self.name, self.ports, self.pids = name, ports, pids

    def cpu(self):
        return {part: sum(cpu_s(p) for p in pids) for part, pids in self.pids.items()}

    def private(self):
        return {part: max(private_bytes(p) for p in pids) for part, pids in self.pids.items()}

    def rss(self):
        return {part: max(rss_bytes(p) for p in pids) for part, pids in self.pids.items()}


def start_nginx(folder, backends):
    """(process, subject)"""
    ports = {name: free_port() for name in backends}
    text = NGINX_HEAD.format(folder=folder)
    for name, backend in backends.items():
        text += NGINX_SERVER.format(name=name, backend=backend.port, port=ports[name])
    conf = os.path.join(folder, "nginx.conf")
    with open(conf, "w") as f:
        f.write(text + "}\n")
    process = Process(["nginx", "-e", "stderr", "-p", folder, "-c", conf], os.path.join(folder, "nginx.log"))

    def answers():
        if process.popen.poll() is not None:
            raise AssertionError(f"nginx exited: {process.log()}")
        with urllib.request.urlopen(f"http://127.0.0.1:{next(iter(ports.values()))}/api/version", timeout=5) as r:
            return r.status == 200

    wait_for(answers, "nginx")
    return process, Subject("nginx", ports, {"nginx": [process.pid]})


def start_tandem(folder, devices):
    """devices: {name: (backend, slots, roles)}; the model of a device has its name. (process, subject)"""
    os.makedirs(folder, exist_ok=True)
    config = [
        {
            "name": name,
            "roles": roles,
            "slots": slots,
            "model": name,
            "num_ctx": 16777216,
            "backend": {"type": "ollama", "url": backend.url},
        }
        for name, (backend, slots, roles) in devices.items()
    ]
    process = Tandem(folder, config, log={"level": "warn"}, limits={"connections": 4096})
    workers = [d["pid"] for d in process.status()["devices"]]
    subject = Subject("tandem", {name: process.port for name in devices}, {"supervisor": [process.pid], "worker": workers})
    return process, subject


class Load:
    """One bench-load under way."""

    def __init__(self, port, body, *options, hold=False):
        args = [os.path.join(BIN, "bench-load"), "--port", str(port), "--body", body, *map(str, options)]
        if hold:
            args.append("--hold")
        self.popen = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_streaming(self):
        line = self.popen.stderr.readline()
        if line.strip() != "streaming":
            raise AssertionError(f"bench-load did not stream: {line} {self.popen.communicate()}")

    def result(self, tolerant=False):
        """Its figures, after the end (stdin is closed, which ends --hold)."""
        out, err = self.popen.communicate(timeout=120)
        if not out or (self.popen.returncode and not tolerant):
            raise AssertionError(f"bench-load: status {self.popen.returncode}: {err} {out[:300]}")
        return json.loads(out)


def load(port, body, *options):
    return Load(port, body, *options).result()
