"""What clients say: agent sessions, chats and single prompts, shaped like 300 recorded sessions of a coding agent (14,507 calls): a
median of 473 tokens a call more (90 % below 1,495), a quarter of it the agent's own words and calls, gaps while tools run."""

import dataclasses
import json
import math
import random

from corpus import Corpus, tokens

GROWTH_MEDIAN, GROWTH_P90, GROWTH_MAX = 473, 1495, 4000
SIGMA = math.log(GROWTH_P90 / GROWTH_MEDIAN) / 1.2816
AGENT_SHARE, WORDS_SHARE = 0.25, 0.05
TOOL_GAP_S, HUMAN_GAP_S, HUMAN_SHARE = (2, 10), (60, 120), 0.02
TOOLS = ("read_file", "search", "run_command", "edit_file", "list_files", "write_file", "ask_user", "fetch", "todo", "diagnostics")

corpus = Corpus()


@dataclasses.dataclass
class Step:
    """One call: what the model answers, what its tool then gives, how long until the next call."""

    text: str
    tool: str
    args: str
    result: str
    gap_s: float


@dataclasses.dataclass
class Session:
    marker: str  # stands in its task and nowhere else
    system: str
    tools: list
    task: str
    steps: list


def tool_schema(rng, name, size):
    text = corpus.prose_of(rng, size * 0.8)
    return {"type": "function", "function": {"name": name, "description": text, "parameters": {"type": "object", "properties": {
        "path": {"type": "string", "description": "Path below the project's folder."},
        "arguments": {"type": "string", "description": corpus.prose_of(rng, size * 0.1)}}, "required": ["path"]}}}


def fixed_part(size):
    """System prompt and tools of that many tokens; the same for every session of that size, as one agent has one."""
    rng = random.Random(size)
    system = "You are a coding agent. Work in small steps and use the tools.\n\n" + corpus.prose_of(rng, size * 0.45)
    return system, [tool_schema(rng, name, size * 0.55 / len(TOOLS)) for name in TOOLS]


def growth(rng):
    return min(max(rng.lognormvariate(math.log(GROWTH_MEDIAN), SIGMA), 60), GROWTH_MAX)


def step(rng):
    size = growth(rng)
    path = rng.choice(corpus.paths)
    found = corpus.functions(path) or [("main", 0)]
    name, line = rng.choice(found)
    words = f"The next thing to look at is {name} in {path}, from line {line + 1}; then {rng.choice(found)[0]}, which it needs. "
    words += corpus.prose_of(rng, max(1, size * WORDS_SHARE - tokens(words)))
    edit = corpus.excerpt(path, line, max(10, size * (AGENT_SHARE - WORDS_SHARE)))
    tool = rng.choice(("read_file", "search", "run_command", "edit_file"))
    args = json.dumps({"path": path, "arguments": edit}, separators=(",", ":"))
    result = corpus.excerpt(path, line, size * (1 - AGENT_SHARE))
    gap = HUMAN_GAP_S if rng.random() < HUMAN_SHARE else TOOL_GAP_S
    return Step(words, tool, args, result, rng.uniform(*gap))


def session(seed, first, calls):
    """An agent's session whose first prompt has that many tokens."""
    rng = random.Random(f"session {seed}")
    fixed = first * (0.75 if first < 16000 else 0.95)
    system, tools = fixed_part(int(fixed))
    path = rng.choice(corpus.paths)
    marker = f"[work item {seed:04d}]"
    head = f"{marker} Find out why {path} does not do what its header says, and mend it. Never change the public headers.\n\n"
    rest = first - tokens(head + system + json.dumps(tools))
    task = head + corpus.excerpt(path, 0, max(100, rest))
    return Session(marker, system, tools, task, [step(rng) for _ in range(calls)])


@dataclasses.dataclass
class Turn:
    question: str
    answer: str
    gap_s: float


def chat(seed, turns):
    """A person's chat in a web interface. (marker, turns)"""
    rng = random.Random(f"chat {seed}")
    marker, out = f"[chat {seed:04d}]", []
    for _ in range(turns):
        path = rng.choice(corpus.paths)
        name, line = rng.choice(corpus.functions(path) or [("main", 0)])
        question = f"{marker} What does {name} of {path} do here?\n\n" + corpus.excerpt(path, line, rng.uniform(200, 700))
        out.append(Turn(question, corpus.prose_of(rng, rng.uniform(150, 400)), rng.uniform(15, 60)))
    return marker, out


TITLE = """### Task:
Generate a concise, 3-5 word title with an emoji summarizing the chat history.
### Guidelines:
- The title should clearly represent the main theme or subject of the conversation.
- Write the title in the chat's primary language.
### Output:
JSON format: { "title": "your concise title here" }
### Chat History:
<chat_history>
USER: %s
ASSISTANT: %s
</chat_history>"""


TAGS = TITLE.replace("a concise, 3-5 word title with an emoji summarizing the chat history",
                     "1-3 broad tags categorizing the main themes of the chat history, along with 1-3 more specific subtopic tags")
FOLLOW_UPS = TITLE.replace("Generate a concise, 3-5 word title with an emoji summarizing the chat history",
                           "Suggest 3-5 relevant follow-up questions or prompts that the user might naturally ask next")
COMPLETE = """### Task:
You are an autocompletion system. Continue the text in `<text>` based on the **completion type** in `<type>` and the given language.
### Context:
<chat_history>
USER: %s
ASSISTANT: %s
</chat_history>
<type>General</type>
<text>And what does it</text>"""


def side_mark(i):
    """What the i-th of them has in it, and nothing else."""
    return f"[beside {i}]"


def side_requests(turn):
    """What a web interface asks for beside each turn of a chat: a title, tags, follow-ups, and a completion of what is typed. [(its text, most tokens)]"""
    question, kinds = turn.question.split("] ", 1)[1], ((TITLE, 50), (TAGS, 50), (FOLLOW_UPS, 150), (COMPLETE, 30))
    return [(text % (f"{side_mark(i)} {question}", turn.answer), most) for i, (text, most) in enumerate(kinds)]


def title_request(turn):
    """What a web interface asks behind an answer; it has the chat's last messages in it, not its marker."""
    return TITLE % (turn.question.split("] ", 1)[1], turn.answer)


def one_shot(seed, size):
    """A cold prompt: files pasted, then a question about one function. (marker, text)"""
    rng = random.Random(f"one shot {seed} {size}")
    marker = f"[question {seed:04d}-{size}]"
    text, (path, name) = corpus.pasted(rng, size - 60)
    return marker, f"{marker} Files of a project:\n\n{text}\n\nWhen does {name}() in {path} fail, and what do its callers do then?"


