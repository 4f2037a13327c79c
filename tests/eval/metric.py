"""
What is measured on a session, call by call.

Recall: of the identifiers that the agent uses in its next steps (the message that the call asks for
and those after it), those that stand in the older part, and neither in the newest two groups nor in
the task, are what the prompt must still hold. Reuse: how much of a prompt is the beginning of the
one before it, the fixed part (system prompt and tools) counted. Tokens are characters / 3.6.
"""

import json
import os.path
import re
from functools import lru_cache

from names import standing, tokens
import words
from shapes import text_of

PER_TOKEN = 3.6
STEPS = 3
NEWEST = 2
CALL_LINES = 16  # lines of a name that are looked for inside others


# Words of the phrases that the scripted agents speak in: their manner, not what they know.
PHRASES = frozenset(t for said in words.SAID.values() for v in said.values() for phrase in v
                    for t in tokens(re.sub(r"\{\w+\}", " ", phrase)))


@lru_cache(maxsize=200000)
def lines_of(text):
    return frozenset(l for l in (line.strip() for line in text.split("\n")) if l)


def serial(message):
    return json.dumps(message, ensure_ascii=False)


class Session:
    def __init__(self, name, messages, made=False):
        self.name, self.messages = name, messages
        self.idle = PHRASES if made else frozenset()
        self.text = [text_of(m) for m in messages]
        self.size = [len(t) for t in self.text]
        self.stand = [standing(t) for t in self.text]
        self.group, g = [], -1
        self.calls = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
        for i, m in enumerate(messages):
            if m["role"] in ("system", "developer"):
                self.group.append(-1)
                continue
            g = max(g, 0) + (m["role"] == "assistant")
            self.group.append(g)
        self.task = next((i for i, m in enumerate(messages) if m["role"] == "user"), 0)
        self.keys = set()  # names of arguments, which a call's text does not have here
        for m in messages:
            for c in m.get("tool_calls") or []:
                self.keys |= standing(json.dumps(c))
        self.index = {}  # identifier -> [(message, line)] it stands in
        for i, text in enumerate(self.text):
            for line in lines_of(text):
                for t in standing(line):
                    self.index.setdefault(t, []).append((i, line))

    def border(self, k):
        """Where the newest two groups of the prompt before message k begin."""
        last = self.group[k - 1]
        at = k
        while at > 0 and self.group[at - 1] > last - NEWEST and self.group[at - 1] >= 0:
            at -= 1
        return at

    def needed(self, k, steps=STEPS):
        border = self.border(k)
        old, live = set(), set(self.stand[self.task])
        for i in range(border):
            if self.group[i] >= 0 and i != self.task:
                old |= self.stand[i]
        for i in range(border, k):
            live |= self.stand[i]
        use = set()
        for i in [c for c in self.calls if c >= k][:steps]:
            use |= tokens(self.text[i])
        return (use & old) - live - self.idle, border

    def chars(self, k):
        return sum(self.size[i] for i in range(k) if self.group[i] >= 0)


def holds(session, needed, border, texts):
    """How many of needed stand in the prompt's texts, and how many in a whole line of the source."""
    known, lines = set(), set()
    for t in texts:
        known |= standing(t)
        lines |= lines_of(t)
    named = whole = 0
    missed, blob = [], None
    for t in needed:
        if t in known:
            named += 1
        else:
            missed.append(t)
        stands = [line for i, line in session.index.get(t, ()) if i < border]
        if any(line in lines for line in stands):
            whole += 1
        elif t in known:  # a call's arguments stand in a line of another form
            blob = blob or "\n".join(texts)
            whole += any(line in blob for line in stands[-CALL_LINES:])
    return named, whole, missed


def invented(text, source):
    """Identifiers of a text that the source does not have (of an arrow "--name-->" it has the name)."""
    return {t for t in tokens(text) if t not in source and t.rstrip("-") not in source and t + "--" not in source}


class Figures:
    """Sums over the calls of many sessions."""

    def __init__(self):
        self.calls = self.past = self.needed = self.named = self.whole = self.cold = 0
        self.bytes = self.reused = self.size = self.largest = 0
        self.over = 0  # prompts above the budget
        self.invented = set()
        self.missed = []

    def table(self):
        def part(a, b):
            return round(a / b, 4) if b else None
        return {"calls": self.calls, "past": self.past, "needed": self.needed, "recall": part(self.named, self.needed),
                "recall_line": part(self.whole, self.needed), "reuse": part(self.reused, self.bytes), "cold": self.cold,
                "mean_tokens": round(self.size / self.past / PER_TOKEN) if self.past else None,
                "largest_tokens": round(self.largest / PER_TOKEN), "over_budget": self.over, "invented": len(self.invented)}

    def add(self, other):
        for k in ("calls", "past", "needed", "named", "whole", "cold", "bytes", "reused", "size", "over"):
            setattr(self, k, getattr(self, k) + getattr(other, k))
        self.largest = max(self.largest, other.largest)
        self.invented |= other.invented
        self.missed += other.missed


def common(before, now):
    """Bytes that two prompts, as lists of serialised messages, begin with in common."""
    n = 0
    for a, b in zip(before, now):
        if a == b:
            n += len(a)
            continue
        return n + len(os.path.commonprefix([a, b]))
    return n


def walk(session, arm, window, fixed):
    """One arm over one session: every call's prompt, and what it holds."""
    f = Figures()
    room = (window - fixed) * PER_TOKEN
    head = fixed * PER_TOKEN
    arm.begin(session, room)
    before = None
    for k in session.calls:
        if session.group[k] <= 1 and k <= session.task:
            continue
        prompt = arm.prompt(k)
        now = [serial(m) for m in prompt if m["role"] not in ("system", "developer")]
        texts = [text_of(m) for m in prompt if m["role"] not in ("system", "developer")]
        total = sum(map(len, now)) + head
        f.calls += 1
        if before is not None:
            same = common(before, now) + head
            f.bytes += total
            f.reused += same
            if same < .9 * (sum(map(len, before)) + head):
                f.cold += 1
        before = now if arm.ahead is None else [serial(m) for m in arm.ahead if m["role"] not in ("system", "developer")]
        size = sum(map(len, texts))
        if session.chars(k) <= room:
            continue
        f.past += 1
        f.size += size
        f.largest = max(f.largest, size)
        if arm.is_over(size):
            f.over += 1
        needed, border = session.needed(k)
        named, whole, missed = holds(session, needed, border, texts)
        f.needed += len(needed)
        f.named += named
        f.whole += whole
        f.missed += [(session.name, k, t) for t in missed]
        if arm.writes:
            source = set(session.keys)
            for i in range(k):
                source |= session.stand[i]
            for t in texts:
                f.invented |= invented(arm.plain(t), source)
    return f
