"""
One selection of the old part at fixed ratios, beside simple ways to spend the same bytes.

A cut is a call past which the agent's next five messages are known. Old is all but the system prompt,
the last message of the human and the newest two groups; what is needed stands in the old part and in
none of the others. The ratio is of the old part's bytes.
"""

import json
import math
import re
from collections import Counter

from metric import Figures, holds, invented
from names import tokens

RATIOS = (.35, .25, .20, .10)
EVERY = 4  # calls from cut to cut
OLD_MIN = 12000  # bytes of old part that a cut needs
STEPS = 5
BLOCK = 48  # lines of a BM25 block


def is_result(session, i):
    text = session.text[i]
    return session.messages[i]["role"] == "tool" or text.startswith("[") and "] Result:" in text[:200]


def old_part(session, k):
    border = session.border(k)
    human = max((i for i in range(k) if session.messages[i]["role"] == "user" and not is_result(session, i)), default=-1)
    return [i for i in range(border) if session.group[i] >= 0 and i != human], border, human


def cuts(session, every=EVERY):
    for n, k in enumerate(session.calls):
        if n % every or n < 6:
            continue
        old, border, human = old_part(session, k)
        if sum(len(session.text[i].encode()) for i in old) < OLD_MIN:
            continue
        known = set()
        for i in list(range(border, k)) + ([human] if human >= 0 else []):
            known |= session.stand[i]
        source = set()
        for i in old:
            source |= session.stand[i]
        use = set()
        for i in [c for c in session.calls if c >= k][:STEPS]:
            use |= tokens(session.text[i])
        yield k, old, border, (use & source) - known - session.idle


def old_lines(session, old):
    return [(i, line) for i in old for line in session.text[i].split("\n")]


def newest_first(session, k, old, budget):
    out = []
    for _, line in reversed(old_lines(session, old)):
        budget -= len(line.encode()) + 1
        if budget < 0:
            break
        out.append(line)
    return out


def head_and_tail(session, k, old, budget):
    ratio = budget / max(sum(len(session.text[i].encode()) for i in old), 1)
    out = []
    for i in old:
        lines = session.text[i].split("\n")
        left = len(session.text[i].encode()) * ratio
        a, b, turn = 0, len(lines), True
        while a < b:
            line = lines[a] if turn else lines[b - 1]
            left -= len(line.encode()) + 1
            if left < 0:
                break
            out.append(line)
            a, b, turn = (a + 1, b, False) if turn else (a, b - 1, True)
    return out


PIN = re.compile(r"\b(?:error|failed|exception|traceback|never|always|must|nunca|sempre)\b|\b[0-9a-f]{7,40}\b|\b\d+(?:\.\d+)? ?(?:ms|s|MB|GB|%)", re.I)


def bm25_and_pins(session, k, old, budget):
    """Blocks of 48 lines ranked against the newest two groups and the last human message; pins first."""
    lines = old_lines(session, old)
    blocks = [lines[i : i + BLOCK] for i in range(0, len(lines), BLOCK)]
    words = [Counter(t for _, line in b for t in tokens(line)) for b in blocks]
    border = session.border(k)
    query = set()
    for i in range(border, k):
        query |= tokens(session.text[i])
    sizes = [sum(w.values()) for w in words]
    mean = sum(sizes) / max(len(sizes), 1) or 1
    df = Counter(t for w in words for t in w)
    scores = []
    for n, w in enumerate(words):
        s = 0
        for t in query & w.keys():
            idf = math.log(1 + (len(words) - df[t] + .5) / (df[t] + .5))
            s += idf * w[t] * 2.2 / (w[t] + 1.2 * (.25 + .75 * sizes[n] / mean))
        scores.append((s, n))
    out, pins = [], budget * .2
    for _, line in reversed(lines):
        if PIN.search(line) and len(line) < 300 and pins > len(line.encode()):
            pins -= len(line.encode()) + 1
            budget -= len(line.encode()) + 1
            out.append(line)
    for _, n in sorted(scores, reverse=True):
        for _, line in blocks[n]:
            budget -= len(line.encode()) + 1
            if budget < 0:
                return out
            out.append(line)
    return out


def run(sessions, driver, ratios=RATIOS, every=EVERY, others=True):
    """{way: {ratio: Figures}}"""
    ways = {"selection": None}
    if others:
        ways |= {"newest first": newest_first, "head and tail": head_and_tail, "BM25 and pins": bm25_and_pins}
    figures = {w: {r: Figures() for r in ratios} for w in ways}
    for s in sessions:
        for k, old, border, needed in cuts(s, every):
            size = sum(len(s.text[i].encode()) for i in old)
            body = json.dumps({"model": "m", "messages": s.messages[:k]}, ensure_ascii=False).encode()
            source = set(s.keys)
            for i in range(k):
                source |= s.stand[i]
            for ratio in ratios:
                for way, make in ways.items():
                    f = figures[way][ratio]
                    if make:
                        text = "\n".join(make(s, k, old, size * ratio))
                    else:
                        got, meta = driver.ask("select", ratio, size, body=body)
                        text = (got or b"").decode()
                        if got and len(got) > size * ratio:
                            f.over += 1
                        f.invented |= invented(driver.without_marks(text), source)
                    named, whole, missed = holds(s, needed, border, [text])
                    f.past += 1
                    f.size += len(text.encode())
                    f.needed += len(needed)
                    f.named += named
                    f.whole += whole
                    f.missed += [(s.name, k, t) for t in missed]
    return figures
