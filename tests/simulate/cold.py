"""What the main card read of each call beyond what was new in it, and why: from the tokens that the backend counted and tandem's log.

Tokens do not depend on how busy this machine is, times do."""

import re

FIELD = re.compile(r'(\w+)=("[^"]*"|\S+)')
GREW, ANSWER, LATE, UNREAD, SUMMARY = "as it grew", "frozen early: the answer before it", "frozen on the way", \
    "frozen early, not all read in time", "behind a summary"
REASONS = (GREW, ANSWER, LATE, UNREAD, SUMMARY)


def events(path):
    """Those of tandemd itself, in order."""
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            e = {k: v.strip('"') for k, v in FIELD.findall(line)}
            if e.get("proc") == "tandemd":
                yield e


def reasons(path):
    """Of each chat that was answered, by its log: why it read more than was new."""
    out, early, unread, why = [], False, False, GREW
    for e in events(path):
        kind = e.get("ev")
        if kind == "early_freeze":
            early = unread = True
        elif kind == "warmed":
            unread = unread and e["end"] != "done"
        elif kind == "plan":
            why = UNREAD if unread else ANSWER if early else GREW
            early = unread = False
        elif kind == "selected" and e.get("froze_now") == "1":
            why = LATE
        elif kind == "request_done":
            out.append(why)
            why = GREW
    return out


def explain(calls, log):
    """Puts `again` (tokens) and `why` to each call after the first that says what was new in it."""
    told = reasons(log) if log else [GREW] * len(calls)
    if len(told) != len(calls):
        return
    for i, (call, why) in enumerate(zip(calls, told)):
        if i and call["new"] is not None and call["prompt"] is not None:
            call["again"] = max(0, call["prompt"] - call["cached"] - call["new"])
            call["why"] = SUMMARY if call["summary"] else why


def sums(rounds):
    """{reason: (calls, tokens read again)} of all rounds, and what was new in them."""
    out, new = {}, 0
    for r in rounds:
        for c in r["calls"]:
            if "why" in c:
                n, tokens = out.get(c["why"], (0, 0))
                out[c["why"]] = n + 1, tokens + c["again"]
                new += c["new"]
    return out, round(new)
