"""Prompts of known size, and the directives that steer the scripted backend (tests/fake/README.md)."""

import base64
import json
import urllib.parse

MODEL, SMALL_MODEL = "m:1b", "s:0.5b"

# Without a directive the scripted model says this.
ANSWER = " ".join(f"w{i}" for i in range(16))

# One pixel.
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def prose(chars):
    out, n, i = [], 0, 0
    while n < chars:
        out.append(f"The parser reads src/part_{i}.c and reports value_{i} = {i * 37} to the caller of the module.\n")
        n += len(out[-1])
        i += 1
    return "".join(out)[:chars]


def prompt(tokens):
    return "Summarise the following notes.\n\n" + prose(tokens * 4 - 80) + "\n\nAnswer in one sentence."


# What Open WebUI asks for beside a chat.
TITLE = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n### Chat History:\n<chat_history>\nUSER: hi\n</chat_history>"


# Sizes for the three strategies at the default thresholds.
BY_STRATEGY = {"A": "hi", "B": prompt(3568), "C": prompt(10981)}


def fake(text="Go on.", /, **directive):
    """text with a directive: fake("Hello", tokens=3). A value that is no string goes as JSON."""
    pairs = [f"{k}={urllib.parse.quote(v if isinstance(v, str) else json.dumps(v))}" for k, v in directive.items()]
    return f"{text} [[fake {'&'.join(pairs)}]]"
