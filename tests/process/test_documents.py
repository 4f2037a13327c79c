"""Every document that a comment or another document cites exists, and so does the heading it names.

A comment says `docs/protocols.md` or `docs/protocols.md#overflow`; the anchor is the one that a Markdown reader makes of the heading.
"""

import ast
import os
import re

import pytest

from harness import ROOT

FOLDERS = ["common", "proto", "supervisor", "workers", "tests", "etc", "docs", ".ci"]
TOP = ["Makefile", "README.md", "README.pt.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
SAMPLES = [os.path.join("tests", "tokens"), os.path.join("tests", "clients", "node", "node_modules")]  # other people's words
CITED = re.compile(r"(?<![\w:/.])((?:[\w.-]+/|\.\./)*[A-Za-z][\w-]*\.md)\b(#[\w-]*)?(?: §?(\d+(?:\.\d+)*)\b)?")
LINK = re.compile(r"\]\(([^()\s]+)\)")


def files():
    yield from TOP
    for top in FOLDERS:
        for folder, below, names in os.walk(os.path.join(ROOT, top)):
            here = os.path.relpath(folder, ROOT)
            below[:] = [b for b in below if os.path.join(here, b) not in SAMPLES and b != "__pycache__"]
            yield from (os.path.join(here, n) for n in sorted(names))


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def words(path, text):
    """What of a file is written for readers: all of a document, the comments of a program."""
    if path.endswith((".md", ".scd")):
        return text
    if path.endswith((".c", ".h")):
        return "\n".join(re.findall(r"/\*.*?\*/", re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', text), re.S))
    if path.endswith(".py"):
        tree = ast.parse(text)
        holders = [n for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.FunctionDef, ast.ClassDef))]
        return "\n".join(re.findall(r"(?:^|\s)# .*", text) + [d for n in holders if (d := ast.get_docstring(n))])
    if path.endswith((".mk", ".sh", ".awk", ".conf", ".in", "Makefile", "run", ".bash", ".fish")):
        return "\n".join(re.findall(r"^\s*#.*", text, re.M))
    return ""


def anchors(text):
    """Those of the headings, by GitHub's rule: lower case, only letters, digits, - and _, spaces become -."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M):
        heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = "".join("-" if c == " " else c for c in heading if c.isalnum() or c in "-_ ")
        found.add(next(s for n in range(len(found) + 1) if (s := f"{slug}-{n}" if n else slug) not in found))
    return found


def problem(path, document, anchor):
    """Why what the file cites cannot be found; None when it can."""
    places = [os.path.normpath(os.path.join(folder, document)) for folder in (os.path.dirname(path), "")]
    place = next((p for p in places if not p.startswith("..") and os.path.exists(os.path.join(ROOT, p))), None)
    if place is None:
        return "no such file"
    if anchor and (not place.endswith(".md") or anchor not in anchors(read(place))):
        return f"no heading #{anchor} in {place}"
    return None


def citations(path):
    text = words(path, read(path))
    for document, anchor, number in CITED.findall(re.sub(r"\[[^]]*\]\([^()]*\)", "", text)):
        yield document, anchor, "a number is no heading" if number else problem(path, document, anchor[1:])
    for target in LINK.findall(text) if path.endswith(".md") else []:
        if not re.match(r"[a-z]+:", target):
            document, _, anchor = target.partition("#")
            yield document or os.path.basename(path), "#" + anchor, problem(path, document or os.path.basename(path), anchor)


def test_every_cited_document_and_heading_exists():
    found = [(path, document + anchor, why) for path in files() for document, anchor, why in citations(path)]
    assert len(found) > 100 and len({document for _, document, _ in found}) > 20
    assert [f"{path}: {document}: {why}" for path, document, why in found if why] == []


@pytest.mark.parametrize("name, text, bad", [
    ("common/x.c", "/* docs/protocols.md#overflow */", 0),
    ("common/x.c", "/* docs/protocols.md#no-such-heading */", 1),
    ("common/x.c", "/* (protocols.md 1.2) */", 1),
    ("common/x.c", 'f("see docs/none.md");', 0),
    ("common/x.c", "/* docs/none.md */", 1),
    ("docs/x.md", "[a](layout.md#levels) [b](#c) [d](https://e.org/f.md)\n## c\n", 0),
    ("docs/x.md", "[a](layout.md#level)", 1),
    ("docs/x.md", "[a](missing.png)", 1),
    ("tests/x.py", '"""docs/eval.md and docs/none.md"""', 1),
    ("etc/x.mk", "# docs/none.md\n\tcat docs/none.md\n", 1),
])
def test_a_bad_citation_is_found(monkeypatch, name, text, bad):
    real, path = read, name.replace("/", os.sep)
    monkeypatch.setitem(globals(), "read", lambda p: text if p == path else real(p))
    monkeypatch.setattr(os.path, "exists", lambda p, exists=os.path.exists: exists(p) or p == os.path.join(ROOT, path))
    assert len([why for _, _, why in citations(path) if why]) == bad


def test_every_program_file_that_a_document_names_exists():
    all_ = [os.path.relpath(os.path.join(folder, n), ROOT) for top in FOLDERS for folder, _, names in os.walk(os.path.join(ROOT, top)) for n in names]
    there = {path[i:] for path in all_ for i in [0, *(m.end() for m in re.finditer("/", path))]}
    named = {(page, name) for page in files() if page.endswith(".md") and page != "CHANGELOG.md"
             for name in re.findall(r"`([\w./-]+\.(?:c|h|py|sh|mk))`", read(page))}
    assert len(named) > 20
    assert [f"{page}: {name}" for page, name in sorted(named) if os.path.normpath(name) not in there] == []


def test_every_document_is_reached_from_the_first_page():
    reached, todo = set(), ["README.md"]
    while todo:
        page = todo.pop()
        if page in reached or not page.endswith(".md"):
            continue
        reached.add(page)
        todo += [os.path.normpath(os.path.join(os.path.dirname(page), t.partition("#")[0]))
                 for t in LINK.findall(read(page)) if not re.match(r"[a-z]+:|#", t)]
    documents = {f"docs/{n}" for n in os.listdir(os.path.join(ROOT, "docs")) if n.endswith(".md")}
    assert documents <= reached, documents - reached
