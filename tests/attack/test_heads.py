"""Where a request ends: the table of heads.py through a whole tandem, and what nginx says to the same."""

import os
import shutil
import socket
import subprocess

import pytest

from conftest import attached
from harness import Client, Fake, Tandem, free_port, wait_for
from heads import HEADS
from tls import certificate

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
LAST = b"GET /last HTTP/1.1\r\nHost: localhost\r\n\r\n"


def answer(sock, data=b""):
    """(status, rest, closed): the next answer; status None when the connection closes without one."""
    while b"\r\n\r\n" not in data:
        try:
            piece = sock.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            return None, data, True
        data += piece
    top, data = data.split(b"\r\n\r\n", 1)
    status = int(top.split()[1])
    if status == 100:
        return answer(sock, data)
    length = next((int(line.split(b":")[1]) for line in top.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(data) < length:
        piece = sock.recv(65536)
        if not piece:
            return status, b"", True
        data += piece
    return status, data[length:], b"connection: close" in top.lower()


def at_end(sock):
    try:
        return sock.recv(65536) == b""
    except ConnectionResetError:
        return True


def connect(t):
    s = Client(t, timeout=10).sock
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


@pytest.fixture(scope="module", params=["plain", "tls"])
def gateway(request, tmp_path_factory):
    """The same reader stands behind TLS."""
    folder = str(tmp_path_factory.mktemp("heads"))
    backend = Fake(folder, "main")
    listen = dict(zip(("certificate", "key"), certificate(folder))) if request.param == "tls" else {}
    t = Tandem(folder, [attached(backend)], listen=listen)
    yield t, backend
    assert t.stop() == 0
    assert "runtime error" not in t.log() and "Sanitizer" not in t.log()
    backend.stop()


def seen(backend, path):
    return backend.stats()["requests"]["by_path"].get(path, 0)


@pytest.mark.parametrize("name,data,status,_nginx", HEADS, ids=[h[0] for h in HEADS])
def test_head(gateway, name, data, status, _nginx):
    t, backend = gateway
    firsts = seen(backend, "/first")
    with connect(t) as s:
        s.sendall(data)
        got, rest, closed = answer(s)
        if status == 200:  # the backend knows no /first: its 404, as the one answer there is
            assert got == 404
            if not closed:
                s.sendall(LAST)
                got, rest, closed = answer(s, rest)
                assert got == 404 and not rest
            assert seen(backend, "/first") == firsts + 1
        else:
            assert got == status
            assert not rest
            if status != 403:  # a page's request is refused, not its connection
                assert at_end(s)
            assert seen(backend, "/first") == firsts
    assert seen(backend, "/smuggled") == 0


def test_byte_by_byte(gateway):
    """The same verdict however the bytes come."""
    t, backend = gateway
    for name, data, status, _ in HEADS:
        if len(data) > 300:
            continue
        with connect(t) as s:
            try:
                for i in range(len(data)):
                    s.sendall(data[i : i + 1])
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before its end
            try:
                got, _, _ = answer(s)
            except TimeoutError:
                got = "nothing"
            assert got in ((404,) if status == 200 else (status, None)), (name, got)  # None: the answer was lost to a reset
    assert seen(backend, "/smuggled") == 0


def test_fault_right_behind_data(gateway):
    """The broken end of a chunk comes together with its data, on a request that is already being read."""
    t, backend = gateway
    with connect(t) as s:
        s.sendall(b"POST /first HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        wait_for(lambda: t.status()["requests"]["active"] == 1, "the request")
        s.sendall(b"5\r\n12345XY")
        assert answer(s)[0] == 400 and at_end(s)


def test_behind_another_request(gateway):
    """A bad head behind a good request in one packet: the good one is answered first, then the bad one."""
    t, backend = gateway
    for name, data, status, _ in HEADS:
        with connect(t) as s:
            s.sendall(LAST + data)
            got, rest, closed = answer(s)
            assert (got, closed) == (404, False), name
            got, rest, closed = answer(s, rest)
            assert got == (404 if status == 200 else status), name
    assert seen(backend, "/smuggled") == 0


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    if not os.access(NGINX, os.X_OK):
        pytest.skip("no nginx on this machine")
    if b"nginx/1.22." not in subprocess.run([NGINX, "-v"], capture_output=True).stderr:
        pytest.skip("the table is of nginx 1.22")
    folder, port = str(tmp_path_factory.mktemp("nginx")), free_port()
    with open(os.path.join(folder, "nginx.conf"), "w") as f:
        f.write(f"""daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; large_client_header_buffers 4 32k; client_max_body_size 0;
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{port}/backend; proxy_set_header Connection ""; }}
location /backend {{ return 200; }} }} }}""")
    p = subprocess.Popen([NGINX, "-p", folder, "-c", os.path.join(folder, "nginx.conf"), "-e", os.path.join(folder, "error.log")],
                         stdin=subprocess.DEVNULL)
    wait_for(lambda: socket.create_connection(("127.0.0.1", port)).close() or True, "nginx")
    yield port
    p.terminate()
    p.wait(10)


def test_nginx_says_the_same(nginx):
    """The last column is what nginx really says; and whatever nginx refuses, tandem does not read."""
    wrong = []
    for name, data, status, verdict in HEADS:
        with socket.create_connection(("127.0.0.1", nginx), timeout=10) as s:
            s.sendall(data)
            got = answer(s)[0]
        if got != verdict:
            wrong.append((name, "nginx says", got, "not", verdict))
        if status == 200 and verdict not in (200, *LOOSER.get(name, ())):
            wrong.append((name, "nginx refuses it", verdict))
    assert not wrong, "\n".join(map(str, wrong))


# What tandem reads although nginx 1.22 does not, and why that is safe.
LOOSER = {"tab before a value": (400,)}  # RFC 9110, 5.5: white space before a value is not of it


def test_table_is_long():
    assert len(HEADS) >= 150 and len({h[0] for h in HEADS}) == len(HEADS)
