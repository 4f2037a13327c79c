"""
Needles: facts said once, put into real transcripts at ten depths; which of them still stand in the
prompt? And constraints of humans in seven languages, where humans really write them: in a message of
their own, in the middle of a long one, in a tool result that carries what they said.
"""

import json
from pathlib import Path

from shapes import text_of

HERE = Path(__file__).resolve().parent
DEPTHS = 10
LANGUAGES = ("en", "pt", "es", "de", "ru", "zh", "ja")

# kind: (the line, what of it must stand, where: a tool's output gets a line more, or a result of its own)
NEEDLES = {
    "path, named once": ("see tests/golden/walrus_{n}.expected for the recorded answer", "tests/golden/walrus_{n}.expected", "line"),
    "error": ("src/quartz_{n}.c:88:12: error: 'quartz_walrus_{n}' undeclared (first use in this function)", "quartz_walrus_{n}", "line"),
    "commit": ("commit 7f3e{n}c19ab40d2e8815b6c0f9a3d74e21b5c68d0{n}", "7f3e{n}c19ab40d2e8815b6c0f9a3d74e21b5c68d0{n}", "line"),
    "number with unit": ("latency at the 99th percentile: 43{n}.5 ms", "43{n}.5 ms", "line"),
    "one-shot output": ("walrus-adapter-{n}x listens on /run/walrus{n}.sock", "/run/walrus{n}.sock", "own"),
    "said by the agent": ("The cause is `walrus_open_{n}()`: it keeps the lock of `/var/lib/walrus_{n}`.", "walrus_open_{n}", "agent"),
    "never": ("Never call walrus_reset_{n}() while a stream is open.", "walrus_reset_{n}", "human"),
    "nunca": ("Nunca chame walrus_reset_{n}() com um stream aberto.", "walrus_reset_{n}", "human"),
}


def with_text(message, text):
    content = message.get("content")
    if isinstance(content, list):
        return dict(message, content=[*content, {"type": "text", "text": text}])
    return dict(message, content=(content or "") + text)


def places(session, k):
    """Indices of assistant messages of the old part, at ten depths."""
    border = session.border(k)
    calls = [c for c in session.calls if c < border and session.group[c] >= 2]
    for d in range(DEPTHS):
        if calls:
            yield d, calls[min(int((d + .5) / DEPTHS * len(calls)), len(calls) - 1)]


def results_after(session, at, k):
    """The first message behind an assistant's that carries a tool's output."""
    for i in range(at + 1, k):
        role = session.messages[i]["role"]
        if role == "assistant":
            return None
        if role in ("tool", "user"):
            return i
    return None


def group_end(session, at, k):
    i = at + 1
    while i < k and session.group[i] == session.group[at]:
        i += 1
    return i


def plant(session, k, at, kind, n):
    """The messages before call k with one needle at the group of message at."""
    line, token, where = (x.format(n=n) if isinstance(x, str) else x for x in NEEDLES[kind])
    messages = list(session.messages[:k])
    if where == "line":
        i = results_after(session, at, k)
        if i is None:
            return None
        text = text_of(messages[i]).split("\n")
        middle = len(text) // 2
        messages[i] = dict(messages[i], content="\n".join(text[:middle] + [line] + text[middle:]))
    elif where == "own":
        call = f"call_needle_{n}"
        end = group_end(session, at, k)
        messages[end:end] = [
            {"role": "assistant", "content": None, "tool_calls": [{"id": call, "type": "function", "function": {
                "name": "Bash", "arguments": "{\"command\": \"./status\"}"}}]},
            {"role": "tool", "tool_call_id": call, "content": line}]
    elif where == "agent":
        messages[at] = with_text(messages[at], ("\n" if messages[at].get("content") else "") + line)
    else:
        end = group_end(session, at, k)
        messages[end:end] = [{"role": "user", "content": line}]
    return messages, token


def body_of(messages):
    return json.dumps({"model": "m", "messages": messages}, ensure_ascii=False).encode()


def run(sessions, ask):
    """{kind: [found, tried]}; ask(session, k, body) gives the text that remains."""
    found = {kind: [0, 0] for kind in NEEDLES}
    for s in sessions:
        k = s.calls[-1]
        for d, at in places(s, k):
            for kind in NEEDLES:
                planted = plant(s, k, at, kind, d)
                if not planted:
                    continue
                messages, token = planted
                text = ask(s, k, body_of(messages))
                found[kind][1] += 1
                found[kind][0] += token in text
    return found


PASTE = "\n".join(
    f"[{n:02}:14:07] worker {n} took job {n * 37 % 101} and gave it back after {n * 13 % 29} tries, queue {n * 7 % 31}" for n in range(14))


def placed(place, sentence):
    """The messages that carry a sentence of the human."""
    if place == "message":
        return [{"role": "user", "content": sentence}]
    if place == "long message":
        return [{"role": "user", "content": f"Here is what I see:\n{PASTE}\n{sentence}\nThe rest of it:\n{PASTE}"}]
    if place == "<feedback>":
        return [{"role": "user", "content": f"[attempt_completion] Result:\nThe user has provided feedback on the results.\n<feedback>\n"
                 f"{sentence}\n</feedback>\n\n<environment_details>\n# Current Mode\nACT MODE\n</environment_details>"}]
    call = "call_asked_" + str(abs(hash(sentence)) % 10**8)
    return [{"role": "assistant", "content": None, "tool_calls": [{"id": call, "type": "function", "function": {
                "name": "execute_command", "arguments": "{\"command\": \"make\"}"}}]},
            {"role": "tool", "tool_call_id": call, "content": "Command is still running.\n" + PASTE + f"\n<user_message>\n{sentence}\n"
             "</user_message>"}]


PLACES = ("message", "long message", "<feedback>", "<user_message>")


def sentences(language):
    return (HERE / "constraints" / f"{language}.txt").read_text().split("\n")[:-1]


def run_constraints(sessions, ask, every=1):
    """{language: {place: [found, tried]}}: ten sentences of a place in one transcript, at ten depths."""
    table = {}
    turn = 0
    for language in LANGUAGES:
        table[language] = {p: [0, 0] for p in PLACES}
        said = sentences(language)[::every]
        for place in PLACES:
            for at in range(0, len(said), DEPTHS):
                s = sessions[turn % len(sessions)]
                turn += 1
                k = s.calls[-1]
                messages = list(s.messages[:k])
                ten = said[at : at + DEPTHS]
                spots = list(places(s, k))[: len(ten)]
                for (_, spot), sentence in reversed(list(zip(spots, ten))):
                    end = group_end(s, spot, k)
                    messages[end:end] = placed(place, sentence)
                text = ask(s, k, body_of(messages))
                for sentence in ten:
                    table[language][place][1] += 1
                    table[language][place][0] += sentence in text
    return table
