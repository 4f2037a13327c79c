"""BEHAVIOURS.md names a test for every behaviour of supervision, and each of them exists."""

import ast
import functools
import os
import re

from harness import ROOT

HERE = os.path.dirname(os.path.abspath(__file__))
BEHAVIOURS = 33


@functools.cache
def existing(name):
    """The tests that really run from a file: functions of a Python file, those listed in a C file's main()."""
    if name.endswith(".c"):
        with open(os.path.join(ROOT, "tests", "unit", name)) as f:
            text = f.read()
        return {n for n in re.findall(r"^static void (test_\w+)\(", text, re.M) if re.search(rf"(?:T|cmocka_unit_test)\({n}\)", text)}
    with open(os.path.join(HERE, name)) as f:
        tree = ast.parse(f.read())
    names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    assert len(names) == len(set(names)), f"{name} has a test that hides another of its name"
    return set(names)


def rows():
    with open(os.path.join(HERE, "BEHAVIOURS.md")) as f:
        for line in f:
            if m := re.match(r"\| (\d+) \| (.+) \| (.+) \|$", line):
                yield int(m[1]), m[2], re.findall(r"`([\w.]+)::(\w+)`", m[3]), m[3].count("::")


def test_every_behaviour_has_a_test_that_exists():
    table = list(rows())
    assert [number for number, _, _, _ in table] == list(range(1, BEHAVIOURS + 1))
    for number, words, named, mentions in table:
        assert words and any(file.endswith(".py") for file, _ in named), f"{number}: no test with real processes"
        assert len(named) == mentions, f"{number}: something there is not `file::name`"
        for file, name in named:
            assert name in existing(file), f"{number}: no {file}::{name}"
