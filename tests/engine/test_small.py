"""The small lane between two real llama-servers: a title beside each turn, and what of the conversation the main one must read again."""

import json

import pytest

SYSTEM = "You are a terse assistant. " + " ".join(f"Rule {i}: never mention the number {i * 7}." for i in range(30))
TITLE = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n### Output:\nJSON format: { \"title\": \"...\" }\n" \
    "### Chat History:\n<chat_history>\nUSER: %s\nASSISTANT: %s\n</chat_history>"
QUESTIONS = ("Name a fruit.", "Name another one.", "And a third one.")


def ask(t, messages, tokens):
    status, head, data = t.request("POST", "/v1/chat/completions", {"model": "main", "messages": messages, "max_tokens": tokens}, timeout=90)
    assert status == 200, data
    out = json.loads(data)
    return head, out, out["choices"][0]["message"]["content"]


def talk(t):
    """[(tokens of the prompt, of these read)] of the conversation's turns, and the devices that its titles went to."""
    messages, turns, titles = [{"role": "system", "content": SYSTEM}], [], []
    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        head, out, said = ask(t, messages, 12)
        assert head["X-Tandem-Device"] == "cpu0"
        turns.append((out["usage"]["prompt_tokens"], out["timings"]["prompt_n"]))
        messages.append({"role": "assistant", "content": said})
        head, out, title = ask(t, [{"role": "user", "content": TITLE % (question, said)}], 8)
        assert out["model"] == "main" and title
        titles.append(head["X-Tandem-Device"])
    return turns, titles


@pytest.mark.parametrize("lane", [True, False])
def test_titles_cost_the_conversation_nothing(start, lane):
    """Without its cache of prompts in host memory, as a server with little of that is run."""
    t = start(4096, small_window=2048, more=["--cache-ram", "0", "--alias", "main"], small={} if lane else {"rules": []})
    turns, titles = talk(t)
    assert titles == (["cpu1"] if lane else ["cpu0"]) * len(QUESTIONS)
    for prompt, read in turns[1:]:
        assert read < 0.2 * prompt if lane else read > 0.8 * prompt, (lane, turns)
    if lane:
        assert t.status()["requests"]["by_strategy"]["small"] == len(QUESTIONS) and t.requests()["fallbacks"] == 0
