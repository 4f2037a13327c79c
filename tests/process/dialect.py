"""What the tests of a client's API share: the model, what a scripted answer says, and what a backend was asked."""

import json

MODEL = "m:1b"


def words(n):
    """What the scripted backend answers with so many tokens."""
    return " ".join(f"w{i}" for i in range(n))


def asked(backend):
    """The bodies of requests for an answer, in order."""
    return [json.loads(b) for b in backend.bodies() if b'"messages"' in b]


def last_body(backend):
    return json.loads(next(b for b in reversed(backend.bodies()) if b'"messages"' in b))
