"""What the documents say that can be tried: pages, the code in their text and in their blocks, and the commands among it.

Code of the text is what stands in backticks, or in bold letters of a manual page. A command is code that begins with a program, behind
`NAME=value` if any; in a block of no language each line, where the first one is one. What has an option behind its first word counts as a
command as well, so that no program passes unseen because nobody here knows it.
"""

import functools
import re
import shlex
from typing import NamedTuple

from test_documents import files, read

PAGES = [p for p in files() if p.endswith((".md", ".scd"))] + ["etc/tandem.conf"]  # of that one the comments
ASSIGNMENT = re.compile(r"[A-Z_][A-Z0-9_]*=")
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)
TICKED = re.compile(r"(?<!`)(`+)(?!`)((?:(?!\n\s*\n).)+?)(?<!`)\1(?!`)", re.S)
BOLD = re.compile(r"(?<!\w)\*((?:tandemctl|tandemd) [^*\n]+)\*((?: _[^_\n]+_)*)")
LISTED = re.compile(r"`tandemctl [^`]+`((?:(?:, | and | or | e | ou )`[a-z-]+`)+)")  # `tandemctl jobs`, `queues` and `stats`


class Said(NamedTuple):
    """A piece of a page, and where it stands."""

    page: str
    line: int
    text: str

    def __str__(self):
        return f"{self.page}:{self.line}: {self.text}"


@functools.cache
def prose(page):
    """A page without its blocks, each line where it was; of a configuration its comments."""
    if page.endswith(".conf"):
        return "\n".join(line.partition("#")[2] for line in read(page).split("\n"))
    return BLOCK.sub(lambda m: "\n" * m[0].count("\n"), read(page))


def found(page, pattern):
    for m in pattern.finditer(prose(page)):
        yield prose(page).count("\n", 0, m.start()) + 1, m


def spans(page):
    """The code of a page's text."""
    if page.endswith(".scd"):
        for line, m in found(page, BOLD):
            yield Said(page, line, (m[1] + m[2]).replace("_", "").replace("\\", ""))
    else:
        for line, m in found(page, TICKED):
            yield Said(page, line, " ".join(m[2].split()).replace("\\|", "|"))


def blocks(page, language=""):
    """Its blocks of a language, or of none."""
    for m in BLOCK.finditer(read(page)):
        if m[2] == language:
            yield Said(page, read(page).count("\n", 0, m.start()) + 2, re.sub(rf"^{m[1]}", "", m[3], flags=re.M))


def words_of(text):
    """(words, variables) of a command line; ([], {}) of what is none by its form."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        return [], {}
    n = next((i for i, w in enumerate(words) if not ASSIGNMENT.match(w)), len(words))
    return words[n:], dict(w.split("=", 1) for w in words[:n])


def languages():
    return {m[2] for page in PAGES for m in BLOCK.finditer(read(page))}


def is_command(text, programs):
    words, variables = words_of(text)
    if len(words) < 2:
        return bool(words and variables)
    return words[0].removeprefix("build/bin/") in programs or (re.match(r"[a-z]", words[0]) and any(re.match(r"--?[a-z]", w) for w in words[1:]))


def begins(line, programs):
    """A line of a block is a command, and no heading, picture or output (`tandemd 0.1.0, ...`)."""
    return re.match(r"\S+ +[^\d\s]", line) and (is_command(line, programs) or line.startswith("export "))


def lines_of(page, programs):
    """Each line of a block that begins with a command; of a manual page the examples, which are paragraphs of their own."""
    for b in blocks(page):
        lines = b.text.splitlines()
        if begins(lines[0], programs):
            yield from (Said(page, b.line + i, line) for i, line in enumerate(lines))
    if page.endswith(".scd"):
        for line, m in found(page, re.compile(r"(?<=\n\n)\t([^\t\n].*(?:\n.+)*)")):
            for i, text in enumerate(re.sub(r"\+\+$", "", m[1], flags=re.M).splitlines()):
                yield from [Said(page, line + i, text)] if begins(text, programs) else []


def commands(programs):
    """Every command of every page. programs: the names of those that are known."""
    for page in PAGES:
        yield from (s for s in spans(page) if is_command(s.text, programs))
        yield from lines_of(page, programs)
        for line, m in found(page, LISTED):
            yield from (Said(page, line, f"tandemctl {name}") for name in re.findall(r"`([a-z-]+)`", m[1]))
