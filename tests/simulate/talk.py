"""A client's side: one connection to the main backend or to tandem, OpenAI's chat API, streamed; when things came, on the monotonic clock."""

import contextlib
import dataclasses
import http.client
import json
import os
import threading
import time


def clock_ms():
    return time.monotonic() * 1000


@dataclasses.dataclass
class Answer:
    status: int = 0
    text: str = ""
    calls: list = dataclasses.field(default_factory=list)
    error: str = ""
    sent_ms: float = 0
    first_ms: float = 0  # the first word or call
    work_ms: float = 0  # until then, the processes between client and cards ran, or waited for a CPU, that long
    end_ms: float = 0
    route: str = ""  # what tandem says of it
    reason: str = ""
    cut: bool = False  # it ended at a limit of tokens

    @property
    def ok(self):
        return self.status == 200 and not self.error and bool(self.text or self.calls)

    @property
    def overflow(self):
        text = self.error.lower()
        return not self.ok and any(w in text for w in ("context", "window", "too long", "exceed"))

    def message(self):
        out = {"role": "assistant", "content": self.text}
        if self.calls:
            out["tool_calls"] = self.calls
        return out


def worked_ms(pids):
    """What this thread and all threads of these processes ran, and waited for a CPU, since they began."""
    tasks = [f"/proc/self/task/{threading.get_native_id()}"]
    for pid in pids:
        with contextlib.suppress(OSError):
            tasks += [f"/proc/{pid}/task/{tid}" for tid in os.listdir(f"/proc/{pid}/task")]
    total = 0
    for task in tasks:
        with contextlib.suppress(OSError), open(task + "/schedstat") as f:
            ran, waited, _ = f.read().split()
            total += int(ran) + int(waited)
    return total / 1e6


class Talk:
    def __init__(self, port, model, pids=()):
        self.port, self.model, self.pids, self.connection = port, model, pids, None

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def ask(self, messages, tools=None, **more):
        body = {"model": self.model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}, **more}
        if tools:
            body["tools"] = tools
        data = json.dumps(body).encode()
        for last in (False, True):
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
                self.connection.connect()
            answer = Answer(work_ms=-worked_ms(self.pids))
            answer.sent_ms = clock_ms()
            try:
                self.connection.request("POST", "/v1/chat/completions", data, {"Content-Type": "application/json"})
                self.read(self.connection.getresponse(), answer)
                break
            except (http.client.HTTPException, OSError) as e:
                # A kept connection may have been closed meanwhile; clients try once more.
                self.close()
                answer.error = answer.error or f"{type(e).__name__}: {e}"
                if last or answer.first_ms:
                    break
        answer.end_ms = clock_ms()
        return answer

    def read(self, response, answer):
        answer.status = response.status
        answer.route = response.getheader("X-Tandem-Strategy") or ""
        answer.reason = response.getheader("X-Tandem-Reason") or ""
        if response.status != 200:
            answer.error = response.read().decode(errors="replace")
            return
        done = False
        for line in response:
            if not line.startswith(b"data: "):
                continue
            if line.startswith(b"data: [DONE]"):
                done = True
                continue
            self.chunk(json.loads(line[6:]), answer)
        if not done and not answer.error:
            answer.error = "the stream ended without [DONE]"

    def chunk(self, chunk, answer):
        if "error" in chunk:
            answer.error = json.dumps(chunk["error"])
            return
        for choice in chunk.get("choices", ()):
            delta = choice.get("delta", {})
            answer.cut |= choice.get("finish_reason") == "length"
            if not answer.first_ms and (delta.get("content") or delta.get("tool_calls") or delta.get("reasoning_content")):
                answer.first_ms = clock_ms()
                answer.work_ms += worked_ms(self.pids)
            answer.text += delta.get("content") or ""
            for call in delta.get("tool_calls") or ():
                merge_call(answer.calls, call)


def merge_call(calls, part):
    while len(calls) <= part.get("index", 0):
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[part.get("index", 0)], part.get("function", {})
    call["id"] = part.get("id") or call["id"]
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""
