"""A conversation that is compacted, before a real engine: what it finds of it in its cache."""

import json
import random

from test_layout import lines

PATH = "/v1/responses"
READ = {"type": "function", "name": "read", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}


def post(t, items, path=PATH, **more):
    body = {"model": "m", "instructions": "You are an agent that reads files.", "tools": [READ], "input": items, **more}
    status, headers, answer = t.request("POST", path, body, timeout=300)
    assert status == 200, answer
    return headers, json.loads(answer)


def said(text, role="user"):
    return {"type": "message", "role": role, "content": text}


def step(rng, n):
    return [{"type": "function_call", "call_id": f"c{n}", "name": "read", "arguments": json.dumps({"path": f"src/part_{n}.c"})},
            {"type": "function_call_output", "call_id": f"c{n}", "output": lines(rng, 14)}]


def test_what_follows_a_block_is_warm(start):
    """At a threshold, then three turns: each finds all of the prompt before it, and the item is made once."""
    t, rng = start(4096), random.Random(11)
    items, made, rows = [said("Find out why slot_release loses a frame. Never touch src/legacy.c.")], 0, []
    for turn in range(9):
        items += step(rng, turn)
        headers, answer = post(t, items, max_output_tokens=8, temperature=0, context_management=[{"type": "compaction", "compact_threshold": 1800}])
        fresh = [i for i in answer["output"] if i["type"] == "compaction"]
        usage = answer["usage"]
        rows.append((bool(fresh), usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]))
        made += len(fresh)
        items += answer["output"]
        assert usage["input_tokens"] < 2200 and headers["X-Tandem-Strategy"] == "A", rows
    assert 1 <= made <= 3, rows
    for (_, before, _), (fresh, _, cached) in zip(rows, rows[1:]):
        assert fresh or cached >= .9 * before, rows


def test_a_block_that_was_asked_for(start):
    t, rng = start(4096), random.Random(12)
    items = [said("Find out why slot_release loses a frame. Never touch src/legacy.c.")]
    for turn in range(7):
        items += step(rng, turn)
    _, compacted = post(t, items, PATH + "/compact")
    window = [*compacted["output"], said("What did you find?")]
    _, first = post(t, window, max_output_tokens=8)
    _, second = post(t, [*window, *first["output"], said("Go on.")], max_output_tokens=8)
    assert first["usage"]["input_tokens"] < 1800
    assert second["usage"]["input_tokens_details"]["cached_tokens"] >= .9 * first["usage"]["input_tokens"]
