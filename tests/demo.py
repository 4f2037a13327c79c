"""The original validation: three prompts of about 3, 3,568 and 10,981 tokens, streamed, each by its own route; then a
conversation of ten turns in the mode that is the default.

demo.py BIN FOLDER: starts BIN/tandemd with FOLDER/tandem.conf and routing.mode = "threshold", sends the prompts, changes the
mode to "adaptive" (tandemctl reload), sends the turns, shows what happened, and exits 1 unless each prompt used the devices
it should, every turn went to the main device alone and found its prefix in the cache, and the counters agree. Only the standard library; `make demo` prepares the rest.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

CHARS_PER_TOKEN = 4  # the estimate that tandem starts with
ANSWER_TOKENS = 48
READY_S, ANSWER_S = 300, 900  # a small machine's CPU condenses 11,000 tokens in minutes

STATIONS = ("North Lock", "Mill Weir", "Harbour Gate", "Old Bridge", "Reed Basin", "Quarry Sluice")
KEEPERS = ("Amara", "Jonas", "Lucia", "Piet", "Sofia", "Tomas", "Wanda")
WEATHER = ("light rain from the west", "a dry, cold wind", "fog until noon", "clear skies", "heavy showers at dusk")
EVENTS = (
    "pump {n} ran for {h} hours and was switched off when the level reached {l} cm",
    "the barge {b} passed upstream at {h} o'clock with {n} tonnes of gravel",
    "gate {n} stuck half open; the crew greased the chain and it closed after {h} minutes",
    "the sensor on pier {n} reported {l} cm, which is {h} cm more than the staff gauge shows",
    "a tree trunk of about {h} metres was pulled out of the intake before it reached pump {n}",
    "the night shift replaced fuse {n} and noted a smell of burnt rubber near the control desk",
)
BARGES = ("Heron", "Marigold", "Saint Anna", "Wilhelmina", "Two Brothers")


def entry(day):
    """One day of a waterway's log: plain English, the same at every run."""
    pick = lambda things, step: things[(day * step + day // len(things)) % len(things)]
    events = [EVENTS[(day + i * 5) % len(EVENTS)].format(n=day * 7 % 23 + i + 1, h=day * 3 % 9 + 2, l=day * 11 % 90 + 140,
                                                         b=BARGES[(day + i) % len(BARGES)]) for i in range(2)]
    return (f"Day {day}, {pick(STATIONS, 5)}, keeper {pick(KEEPERS, 3)}. The day began with {pick(WEATHER, 2)}. "
            f"During the watch {events[0]}. Later {events[1]}. "
            f"The water stood at {day * 13 % 80 + 150} cm in the evening and the next watch was told about it.\n")


def prompt(tokens):
    """A question over as much of the log as makes about that many tokens."""
    if tokens < 10:
        return "Who are you?"[:tokens * CHARS_PER_TOKEN]
    head = "Below is the log of a small waterway. Read it and answer the question at its end.\n\n"
    tail = "\nQuestion: which keepers wrote this log, and what went wrong with the gates? Answer in two sentences."
    log, day, room = "", 1, tokens * CHARS_PER_TOKEN - len(head) - len(tail)
    while len(log) < room:
        log += entry(day)
        day += 1
    return head + log[:room - 1].rstrip(" ") + "\n" + tail


TURNS, TURN_TOKENS = 10, 60


class Tandem:
    def __init__(self, binaries, folder):
        self.conf = os.path.join(folder, "tandem.conf")
        with open(self.conf) as f:
            self.own_conf = f.read()
        self.set_mode("threshold")
        self.ctl = [os.path.join(binaries, "tandemctl"), "-R", os.path.join(folder, "run")]
        self.log_path = os.path.join(folder, "tandemd.log")
        with open(self.log_path, "wb") as log:
            self.daemon = subprocess.Popen([os.path.join(binaries, "tandemd"), "-c", os.path.join(folder, "tandem.conf")],
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def set_mode(self, mode):
        with open(self.conf, "w") as f:
            f.write(f'{self.own_conf}\nrouting = {{ mode = "{mode}"; }};\n')

    def reload(self):
        subprocess.run(self.ctl + ["reload"], check=True, stdout=subprocess.DEVNULL)

    def forecast(self, request_id):
        """What was predicted of a request, and what came: from the log."""
        self.status()  # once that is answered, the lines of the turns before are written
        with open(self.log_path, errors="replace") as f:
            for line in f:
                if " ev=forecast " in line and f" req={request_id} " in line:
                    return dict(p.split("=", 1) for p in line.split() if "=" in p)
        return {}

    def wait_ready(self):
        waiter = subprocess.Popen(self.ctl + ["wait-ready", "--timeout", str(READY_S)])
        while waiter.poll() is None:
            if self.daemon.poll() is not None:
                waiter.kill()
            try:
                waiter.wait(0.5)
            except subprocess.TimeoutExpired:
                pass
        if waiter.returncode:
            raise OSError("tandem did not become ready")

    def status(self):
        return json.loads(subprocess.run(self.ctl + ["status", "--json"], check=True, stdout=subprocess.PIPE).stdout)

    def last_log(self, lines=15):
        with open(self.log_path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])

    def stop(self):
        if self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(60)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        return self.daemon.returncode


def ask(listen, model, text, tokens=ANSWER_TOKENS):
    """Streams one chat (text: of its only message, or the messages). What came back, and when."""
    messages = text if isinstance(text, list) else [{"role": "user", "content": text}]
    body = {"model": model, "stream": True, "options": {"temperature": 0, "num_predict": tokens}, "messages": messages}
    start = time.monotonic()
    seen = {"first_byte": None, "first_text": None, "text": "", "done": False, "error": None}
    connection = http.client.HTTPConnection(listen, timeout=ANSWER_S)
    connection.request("POST", "/api/chat", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    seen["status"], seen["headers"] = answer.status, answer.headers
    line = b""
    while byte := answer.read1(65536):
        seen["first_byte"] = seen["first_byte"] or time.monotonic() - start
        *lines, line = (line + byte).split(b"\n")
        for whole in lines:
            event = json.loads(whole)
            seen["text"] += event.get("message", {}).get("content", "")
            if seen["text"] and seen["first_text"] is None:
                seen["first_text"] = time.monotonic() - start
            seen["done"] = seen["done"] or event.get("done", False)
            seen["error"] = seen["error"] or event.get("error")
    if line.strip():
        seen["error"] = seen["error"] or line.decode(errors="replace")
    connection.close()
    seen["total"] = time.monotonic() - start
    return seen


def jobs(status):
    return {d["name"]: d["jobs"]["done"] for d in status["devices"]}


def judge(route, seen, before, after, main, small, ids):
    """What is wrong with one answer, in words."""
    wrong = []
    expect = lambda ok, what: None if ok else wrong.append(what)
    used = {name: count - jobs(before)[name] for name, count in jobs(after).items()}
    requests, earlier = after["requests"], before["requests"]
    by = {k: v - earlier["by_strategy"].get(k, 0) for k, v in requests["by_strategy"].items()}

    expect(seen["status"] == 200, f"status {seen['status']}")
    expect(seen["error"] is None, f"error {seen['error']}")
    expect(seen["done"] and seen["text"].strip(), "the answer is empty or has no end")
    expect(seen["headers"]["X-Tandem-Strategy"] == route, f"route {seen['headers']['X-Tandem-Strategy']}")
    expect(seen["headers"]["X-Tandem-Request-Id"] not in ids | {None}, "the request id is missing or not new")
    expect(seen["headers"]["X-Tandem-Reason"], "no reason is given")
    expect(used[main] == 1, f"{used[main]} jobs on {main} instead of 1")
    if small:
        least, most = {"A": (0, 0), "B": (1, 4), "C": (5, 64)}[route]
        expect(least <= used[small] <= most, f"{used[small]} jobs on {small} instead of {least} to {most}")
    expect({k: v for k, v in by.items() if v} == {route: 1}, f"by_strategy counted {by}")
    expect(requests["total"] - earlier["total"] == 1, "requests.total did not grow by 1")
    for name in ("failed", "cancelled", "fallbacks"):
        expect(requests[name] == earlier[name], f"requests.{name} grew")
    return used, wrong


def demonstrate(tandem):
    status = tandem.status()
    main = next(d for d in status["devices"] if "main" in d["roles"])
    small = next((d["name"] for d in status["devices"] if "condense" in d["roles"] and d is not main), None)
    if not small:
        print(f"Only one device: {main['name']} answers, long prompts are shortened by selection alone.")
    print(f"\n{'route':<6}{'prompt':>8}{'sent':>7}  {'jobs':<20}{'1st byte':>9}{'1st word':>9}{'total':>9}  answer", flush=True)

    problems, ids = [], set()
    for route, tokens in (("A", 3), ("B", 3568), ("C", 10981)):
        text = prompt(tokens)
        before = tandem.status()
        seen = ask(status["listen"], main["backend"]["model"], text)
        after = tandem.status()
        used, wrong = judge(route, seen, before, after, main["name"], small, ids)
        headers = seen["headers"]
        ids.add(headers["X-Tandem-Request-Id"])
        sizes = dict(pair.split("=") for pair in (headers["X-Tandem-Tokens"] or "in=? sent=?").split())
        seconds = [f"{seen[k]:.2f} s" if seen[k] is not None else "-" for k in ("first_byte", "first_text", "total")]
        words = textwrap.shorten(" ".join(seen["text"].split()), 60, placeholder=" ...")
        print(f"{headers['X-Tandem-Strategy'] or '?':<6}{len(text) // CHARS_PER_TOKEN:>8,}{int(sizes['sent']):>7,}  "
              f"{', '.join(f'{name} x{n}' for name, n in used.items() if n):<20}"
              f"{seconds[0]:>9}{seconds[1]:>9}{seconds[2]:>9}  {words}")
        print(f"      {headers['X-Tandem-Reason']}", flush=True)
        problems += [f"{route}: {w}" for w in wrong]
    return problems


def converse(tandem):
    """Ten turns: each must cost its own tokens only."""
    tandem.set_mode("adaptive")
    tandem.reload()
    status = tandem.status()
    main = next(d for d in status["devices"] if "main" in d["roles"])
    messages, problems, before = [{"role": "system", "content": "You keep the log of a waterway. Answer in one sentence."}], [], status
    print(f"\n{'turn':<6}{'prompt':>8}{'cached':>8}{'predicted':>11}{'1st word':>10}  reason", flush=True)
    for turn in range(1, TURNS + 1):
        messages.append({"role": "user", "content": entry(turn) + entry(turn + 100) + "What happened?"})
        seen = ask(status["listen"], main["backend"]["model"], messages, TURN_TOKENS // 4)
        if seen["status"] != 200 or not seen["done"]:
            return problems + [f"turn {turn}: status {seen['status']}, {seen['error'] or 'no end'}"]
        messages.append({"role": "assistant", "content": seen["text"]})
        told, headers = tandem.forecast(seen["headers"]["X-Tandem-Request-Id"]), seen["headers"]
        tokens = int(headers["X-Tandem-Tokens"].split("sent=")[1])
        print(f"{turn:<6}{tokens:>8,}{told.get('cached', '?'):>8}{float(told.get('predicted_ms', 0)) / 1000:>9.2f} s{seen['first_text'] or 0:>8.2f} s"
              f"  {headers['X-Tandem-Reason']}", flush=True)
        if headers["X-Tandem-Strategy"] != "A":
            problems.append(f"turn {turn}: route {headers['X-Tandem-Strategy']}")
        if turn > 2 and int(told.get("cached", -1)) < tokens * 0.5:
            problems.append(f"turn {turn}: {told.get('cached')} of about {tokens} tokens were cached")
    after = jobs(tandem.status())
    if after[main["name"]] - jobs(before)[main["name"]] < TURNS:
        problems.append("the main device did not answer every turn")
    problems += [f"{name} had a part in the conversation" for name in after if name != main["name"] and after[name] != jobs(before)[name]]
    return problems


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tandem = Tandem(*sys.argv[1:3])
    try:
        tandem.wait_ready()
        problems = demonstrate(tandem) + converse(tandem)
    except (OSError, ValueError, http.client.HTTPException, subprocess.CalledProcessError) as e:
        problems = [f"{type(e).__name__}: {e}"]
    finally:
        code = tandem.stop()
    if code:
        problems.append(f"tandemd ended with code {code}")
    if problems:
        print(f"\nThe end of tandemd's log:\n{tandem.last_log()}")
        sys.exit("demo failed:\n  " + "\n  ".join(problems))
    print("\ndemo passed: A, B and C used the devices they should, ten turns cost their own tokens, and the counters agree")


if __name__ == "__main__":
    main()
