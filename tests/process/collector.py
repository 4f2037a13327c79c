"""A collector of OpenTelemetry that a test can look into: it records what comes, and answers as it is told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness import free_port, wait_for


class Collector:
    """OTLP over HTTP. `answers`: one for each request in turn, (status, headers, body) or "hang", "close"; then 200."""

    def __init__(self, answers=(), port=None, context=None):
        self.got, self.answers, self.lock = [], list(answers), threading.Lock()
        self.over = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with collector.lock:
                    answer = collector.answers.pop(0) if collector.answers else (200, {}, b"{}")
                    collector.got.append({"path": self.path, "headers": dict(self.headers), "raw": body, "answer": answer})
                if answer == "hang":
                    collector.over.wait(60)
                if answer in ("hang", "close"):
                    self.close_connection = True
                    return
                status, headers, text = answer
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port or free_port()), Handler)
        self.server.daemon_threads = True
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    def requests(self):
        with self.lock:
            return list(self.got)

    def spans(self, **attributes):
        """Those that were taken, by attributes (dots as two underscores)."""
        wanted = {k.replace("__", "."): v for k, v in attributes.items()}
        found = []
        for r in self.requests():
            if r["answer"] in ("hang", "close") or r["answer"][0] != 200:
                continue
            for resource in json.loads(r["raw"])["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    found += [s for s in scope["spans"] if wanted.items() <= attrs(s).items()]
        return found

    def trace_of(self, rid):
        """The root of a request, and all spans of its trace by their names."""
        root = wait_for(lambda: self.spans(tandem__request__id=rid), f"the trace of {rid}")[0]
        spans = [s for s in self.spans() if s["traceId"] == root["traceId"]]
        return root, spans


def attrs(thing):
    """The attributes of a span or an event as a dict."""
    def value(v):
        (kind, x), = v.items()
        return int(x) if kind == "intValue" else x
    return {a["key"]: value(a["value"]) for a in thing["attributes"]}
