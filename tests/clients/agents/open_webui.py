"""Open WebUI's server with a tandem as its only Ollama: an account-less one, with the settings of docs/clients.md, that reaches nothing else."""

import json
import os
import urllib.request

from agents import outside
from harness import Process, free_port, wait_for
from prompts import MODEL

BOUNDARY = "a-boundary"


class OpenWebUI(Process):
    def __init__(self, packages, folder, url):
        data = os.path.join(folder, "data")
        os.makedirs(data)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        python, program = (os.path.join(packages, "bin", name) for name in ("python", "open-webui"))
        super().__init__([python, program, "serve", "--host", "127.0.0.1", "--port", str(port)], os.path.join(folder, "open-webui.log"), {
            **outside(), "HOME": data, "DATA_DIR": data, "WEBUI_SECRET_KEY": "u" * 32, "WEBUI_AUTH": "False", "OFFLINE_MODE": "True",
            "HF_HUB_OFFLINE": "1", "ANONYMIZED_TELEMETRY": "False", "DO_NOT_TRACK": "true", "ENABLE_OPENAI_API": "False",
            "OLLAMA_BASE_URL": url, "RAG_EMBEDDING_ENGINE": "ollama", "RAG_EMBEDDING_MODEL": MODEL, "RAG_OLLAMA_BASE_URL": url})
        self.token = None
        wait_for(lambda: self.popen.poll() is not None or self.call("/health"), "Open WebUI", 300)
        self.token = self.call("/api/v1/auths/signin", {"email": "", "password": ""})["token"]

    def call(self, path, body=None, kind="application/json"):
        """The answer's JSON, or the data of its events."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {"Content-Type": kind, **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=120) as r:
            text = r.read().decode()
        if text.startswith("data: "):
            return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
        return json.loads(text)

    def ask(self, content, **more):
        """The text that a streamed answer has."""
        events = self.call("/api/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": True, **more})
        return "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e.get("choices"))

    def upload(self, name, text):
        """A document that is cut up and embedded; its id."""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: text/plain\r\n\r\n'
        id = self.call("/api/v1/files/", f"{head}{text}\r\n--{BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={BOUNDARY}")["id"]
        state = wait_for(lambda: (s := self.call(f"/api/v1/files/{id}")["data"].get("status")) in ("completed", "failed") and s, "its embedding", 120)
        assert state == "completed", self.log()[-4000:]
        return id
