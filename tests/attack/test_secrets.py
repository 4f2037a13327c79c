"""Keys and prompts stay out of the log and off the events socket, at level debug too, whatever becomes of the request."""

import socket

import pytest

from harness import wait_for

SECRET = "s3cr3t-4711"
CHAT = {"model": "m:1b", "messages": [{"role": "user", "content": f"my password is {SECRET}"}], "stream": False}


def test_queries_and_keys_are_not_logged(one):
    """?api_key= in the target, Authorization, Cookie, and the prompt itself."""
    t, backend = one(deadlines={"main_wait_ms": 300})
    headers = {"Authorization": f"Bearer {SECRET}", "Cookie": f"k={SECRET}", "X-Api-Key": SECRET}
    query = f"?api_key={SECRET}&key={SECRET}"
    for method, path, body in (("GET", "/api/tags", None), ("GET", "/api/nothing", None), ("POST", "/api/nothing", CHAT), ("POST", "/api/chat", CHAT),
                               ("POST", "/api/embed", CHAT), ("POST", "/v1/chat/completions", CHAT), ("GET", "/v1/models/x", None),
                               ("DELETE", "/api/delete", {"model": "x"})):
        t.request(method, path + query, body, headers)
    for raw in (f"GET /x?api_key={SECRET} HTTP/3.0\r\nHost: localhost\r\n\r\n", f"GET /x?api_key={SECRET} x HTTP/1.1\r\nHost: localhost\r\n\r\n",
                f"GET http://u:{SECRET}@localhost/?k={SECRET} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization {SECRET}\r\n\r\n",
                f"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://example.com/?k={SECRET}\r\n\r\n",
                f"GET / HTTP/1.1\r\nHost: example.com?k={SECRET}\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", t.port), timeout=5) as s:
            s.sendall(raw.encode())
            assert s.recv(65536).split()[1] in (b"400", b"403", b"505"), raw
    backend.stop()
    wait_for(lambda: t.device("gpu0")["state"] != "ready", "backend's end")
    assert t.request("GET", "/api/nothing" + query, None, headers)[0] >= 500
    t.stop()
    assert SECRET not in t.log(), [line for line in t.log().splitlines() if SECRET in line]
