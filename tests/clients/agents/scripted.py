"""A task for a coding agent, as a project in a folder and as a script of the model's answers.

The model's part is a row of rules of the scripted backend (tests/fake/README.md). Which answer is due stands in the conversation itself:
each one carries its number, and a rule looks for the number before it. So a request that comes twice gets the same answer twice, and one
that reads a prompt ahead (a warming) takes no answer from anybody.
"""

import json
import os

from prompts import prose

CALC = "def add(a, b):\n    return a - b\n"
CHECK = """from calc import add

assert add(2, 3) == 5, "still wrong"
with open("ran.txt", "w") as f:
    f.write("checked")
print("all is " + "well")
"""
WELL = "all is well"  # what check.py prints; it stands in no file
PROMPT = "Read calc.py, mend it so that check.py passes, and run check.py."
RUN = "python3 -B check.py"  # -B: a file changed twice in a second is read twice
LAST = "The sum is right now."
PART = 20000  # characters of a long file


class Project:
    """calc.py with an error, check.py that finds it, and as many long files as are asked for."""

    def __init__(self, folder, parts=0):
        self.folder = folder
        self.parts = [f"part{i}.txt" for i in range(parts)]
        os.makedirs(folder)
        self.write("calc.py", CALC)
        self.write("check.py", CHECK)
        text = prose(PART * parts)  # no line of it twice
        for i, name in enumerate(self.parts):
            self.write(name, text[i * PART:(i + 1) * PART])

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)

    def read(self, name):
        with open(self.path(name)) as f:
            return f.read()

    def assert_mended(self):
        assert self.read("calc.py") == CALC.replace("a - b", "a + b")
        assert self.read("ran.txt") == "checked"


def step(number):
    return f"Step {number} of the work."


def calls(steps):
    """Answers: tool calls, (name, arguments), one after the other, and the last word."""
    return [*({"text": step(i), "tool": name, "args": json.dumps(args)} for i, (name, args) in enumerate(steps, 1)), {"text": LAST}]


def play(backend, mark, answers, **more):
    """The backend gives a conversation that has `mark` in it these answers; each but the last has its step(number) in its text. `more` is
    added to each of them."""
    for i in reversed(range(len(answers))):  # the first rule that matches counts: the newest number is looked for first
        backend.fault(match=step(i) if i else mark, times=-1, **answers[i], **more)
