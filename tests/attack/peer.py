"""A hostile backend of a few lines: an Ollama or llama-server whose answers are whatever bytes the test says."""

import json
import socket
import threading
import time

PROBES = {
    "ollama": {"/api/version": {"version": "0.33.0"}, "/api/tags": {"models": [{"name": "m:1b", "model": "m:1b"}]}, "/api/ps": {"models": []}},
    "llama-server": {"/health": {"status": "ok"}, "/props": {"default_generation_settings": {"n_ctx": 16384}, "total_slots": 4, "model_path": "/m.gguf",
                                                              "chat_template": "{{x}}"},
                     "/v1/models": {"object": "list", "data": [{"id": "m:1b", "object": "model", "meta": {"n_ctx_train": 16384}}]}},
}


def reply(body, status=200, type="application/json", headers=()):
    head = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {type}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Peer:
    """answer(request) -> bytes, or an iterable of pieces, or None: close without a word. A request is (method, target, headers, body).

    A piece may be a number: seconds to wait, or HOLD: keep the connection open without a word until the other side closes.
    """

    HOLD = object()

    def __init__(self, answer, type="ollama", port=0):
        self.type = type
        self.answer = answer
        self.seen = []
        self.mute = set()  # paths that are left without an answer
        self.up = True  # False: accepts and closes
        self.lock = threading.Lock()
        self.accepted = 0
        self.server = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port = self.server.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.open = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.server.close()

    def count(self, path=None):
        with self.lock:
            return sum(path is None or r[1].split("?")[0] == path for r in self.seen)

    def _accept(self):
        while True:
            try:
                s, _ = self.server.accept()
            except OSError:
                return
            self.accepted += 1
            if not self.up:
                s.close()
                continue
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _request(self, f):
        line = f.readline().decode("latin-1").split()
        if not line:
            return None
        headers = {}
        while h := f.readline().rstrip(b"\r\n").decode("latin-1"):
            name, _, value = h.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while n := int(f.readline(), 16):
                body += f.read(n)
                f.readline()
            f.readline()
        else:
            body = f.read(int(headers.get("content-length", 0)))
        return line[0], line[1], headers, body

    def _serve(self, s):
        self.open.add(s)
        try:
            with s, s.makefile("rb") as f:
                while self.up and (r := self._request(f)):
                    if not self.up:
                        return
                    probe = PROBES[self.type].get(r[1]) if r[0] == "GET" else None
                    if probe is not None:
                        s.sendall(reply(json.dumps(probe).encode()))
                        continue
                    if r[1] in self.mute:
                        while s.recv(1 << 16):
                            pass
                        return
                    if r[:2] == ("GET", "/v1/stream"):  # an older llama-server
                        s.sendall(reply(b'{"error":{"code":404,"message":"File Not Found"}}', 404))
                        continue
                    with self.lock:
                        self.seen.append(r)
                    out = self.answer(r)
                    if out is None:
                        return
                    for piece in [out] if isinstance(out, bytes) else out:
                        if piece is self.HOLD:
                            while s.recv(1 << 16):
                                pass
                            return
                        if isinstance(piece, (int, float)):
                            time.sleep(piece)  # how long this backend takes
                        else:
                            s.sendall(piece)
        except (OSError, ValueError):
            pass
        finally:
            self.open.discard(s)

    def cut(self):
        """Every connection ends, as when a container is restarted."""
        for s in list(self.open):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def device(peer, name="gpu0", roles=("main",), **more):
    return {"name": name, "roles": list(roles), "model": "m:1b", "slots": 4, **more, "backend": {"type": peer.type, "url": peer.url}}
