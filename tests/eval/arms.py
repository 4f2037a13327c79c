"""
The ways to keep a conversation within a window that are set side by side. Each gives, for the call
that asks for message k, the messages that would be sent. All have the same room, in characters.

drop     Cline: past the window the older half of the groups goes, the task stays; what is gone stays gone.
clear    Anthropic's context editing (clear_tool_uses): past the window all tool results but those of
         the newest three tool uses become a placeholder; what is cleared stays cleared. Where that is
         not enough the oldest groups go.
newest   The task and as many of the newest groups as fit, at every call.
fresh    One selection of the history at every call (the server's text_select).
layout   The server's frozen layout.
noted    The same, whose digests take notes that a scripted writer extracts (scribe.h).
early    The same with freezes that are made while nobody waits (routing.warm), all of them read in time.
"""

import json

from metric import text_of

KEEP_TOOL_USES = 3
CLEARED = "[Old tool result content cleared]"


class Arm:
    name, writes = "", False
    ahead = None  # messages that were read after the last prompt, while nobody waited

    def begin(self, session, room):
        self.s, self.room = session, room

    def fits(self, k):
        return self.s.chars(k) <= self.room

    def is_over(self, size):
        return size > self.room

    def plain(self, text):
        return text


class Drop(Arm):
    name = "drop the older half"

    def begin(self, session, room):
        super().begin(session, room)
        self.gone = 0  # groups 1..gone

    def kept(self, k):
        return [m for m, g in zip(self.s.messages[:k], self.s.group[:k]) if g <= 0 or g > self.gone]

    def prompt(self, k):
        while sum(len(text_of(m)) for m in self.kept(k)[1:]) > self.room:
            last = self.s.group[k - 1]
            if last - self.gone < 2:
                break
            self.gone += max((last - self.gone) // 2, 1)
        return self.kept(k)


class Clear(Arm):
    name = "clear old tool results"

    def begin(self, session, room):
        super().begin(session, room)
        self.cleared, self.gone = set(), 0

    def is_result(self, i):
        m = self.s.messages[i]
        if m["role"] == "tool":
            return True
        text = self.s.text[i]
        return m["role"] == "user" and i != self.s.task and (
            "] Result:\n" in text[:200] or text.startswith(("I ran this command:", "I have *added these files")))

    def kept(self, k):
        out = []
        for i in range(k):
            g = self.s.group[i]
            if 0 < g <= self.gone:
                continue
            out.append(dict(self.s.messages[i], content=CLEARED) if i in self.cleared else self.s.messages[i])
        return out

    def size(self, k):
        return sum(len(text_of(m)) for m in self.kept(k)[1:])

    def prompt(self, k):
        if self.size(k) > self.room:
            results = [i for i in range(k) if self.is_result(i)]
            self.cleared |= set(results[:-KEEP_TOOL_USES])
            while self.size(k) > self.room and self.gone < self.s.group[k - 1] - 1:
                self.gone += 1
        return self.kept(k)


class Newest(Arm):
    name = "newest first"

    def prompt(self, k):
        s = self.s
        if self.fits(k):
            return s.messages[:k]
        left = self.room - sum(s.size[i] for i in range(k) if s.group[i] == 0)
        g = s.group[k - 1]
        while g > 0:
            size = sum(s.size[i] for i in range(k) if s.group[i] == g)
            if size > left:
                break
            left -= size
            g -= 1
        return [m for m, x in zip(s.messages[:k], s.group[:k]) if x <= 0 or x > g]


class Served(Arm):
    """An arm that the server's code makes."""

    writes = True
    operation = ""

    def __init__(self, driver):
        self.driver = driver

    def body(self, k):
        return json.dumps({"model": "m", "messages": self.s.messages[:k]}, ensure_ascii=False).encode()

    def plain(self, text):
        return self.driver.without_marks(text)


class Fresh(Served):
    name = "one fresh selection"

    def prompt(self, k):
        if self.fits(k):
            return self.s.messages[:k]
        out, _ = self.driver.ask("fresh", int(self.room), body=self.body(k))
        return json.loads(out)["messages"] if out else self.s.messages[:k]


class Layout(Served):
    name, operation = "the frozen layout", "layout"

    def begin(self, session, room):
        super().begin(session, room)
        self.driver.ask("conversation", body=self.body(len(session.messages)))

    def prompt(self, k):
        out, self.meta = self.driver.ask(self.operation, int(self.room), body=self.body(k))
        return json.loads(out)["messages"] if out else self.s.messages[:k]

    def is_over(self, size):
        """Its bound is in tokens of its own; characters follow those by a tenth."""
        return float(self.meta["size"]) > float(self.meta["room"]) or size > self.room * 1.1


class Noted(Layout):
    name, operation = "the frozen layout with notes", "noted"


class Early(Layout):
    name = "the frozen layout, frozen early"

    def prompt(self, k):
        sent = super().prompt(k)
        out, _ = self.driver.ask("early", int(self.room), body=self.body(k))
        self.ahead = json.loads(out)["messages"] if out else None
        return sent
