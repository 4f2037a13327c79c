"""Text with real words for the sessions: the source files of this project, cut to sizes in tokens. The same seed gives the same text."""

import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CHARS_PER_TOKEN = 3.6  # of code and prose with current vocabularies; tests/fake counts like that
SOURCES = ("common/**/*.[ch]", "proto/*.[ch]", "supervisor/**/*.[ch]", "workers/**/*.[ch]")
PROSE = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/routing.md", "docs/operating.md", "docs/supervision.md", "docs/condensing.md",
         "proto/PROTOCOL.md")
FUNCTION = re.compile(r"^[a-z][\w ]*[\s*](\w+)\([^;]*$")


def chars(tokens):
    return int(tokens * CHARS_PER_TOKEN)


def tokens(text):
    return len(text) / CHARS_PER_TOKEN


class Corpus:
    def __init__(self):
        self.files = {}
        for pattern in SOURCES:
            for path in sorted(glob.glob(os.path.join(ROOT, pattern), recursive=True)):
                with open(path, encoding="utf-8") as f:
                    self.files[os.path.relpath(path, ROOT)] = f.read().splitlines()
        self.paths = sorted(self.files)
        self.prose = []
        for path in PROSE:
            with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                self.prose += [p for p in f.read().split("\n\n") if len(p) > 40]

    def functions(self, path):
        """[(name, line)] of those a file defines."""
        return [(m.group(1), i) for i, line in enumerate(self.files[path]) if (m := FUNCTION.match(line))]

    def prose_of(self, rng, size):
        """Paragraphs of the documentation, about that many tokens."""
        out, n, start = [], 0, rng.randrange(len(self.prose))
        while n < chars(size):
            piece = self.prose[(start + len(out)) % len(self.prose)]
            out.append(piece)
            n += len(piece) + 2
        return "\n\n".join(out)[:chars(size)]

    def excerpt(self, path, line, size):
        """A file from a line on, numbered as editors' tools give it; goes on at its beginning and in the next files."""
        out, n, at = [], 0, self.paths.index(path)
        while n < chars(size):
            source = self.files[self.paths[at % len(self.paths)]]
            for i in range(line, len(source)):
                out.append(f"{i + 1:>6}\t{source[i]}")
                n += len(out[-1]) + 1
                if n >= chars(size):
                    break
            at, line = at + 1, 0
        return "\n".join(out)[:chars(size)]

    def pasted(self, rng, size):
        """Whole files one after the other, as one pastes them into a chat. (text, a path and a function of it)"""
        out, n, asked = [], 0, None
        paths = rng.sample(self.paths, len(self.paths))
        for path in paths:
            block = f"=== {path} ===\n" + "\n".join(self.files[path]) + "\n"
            out.append(block)
            n += len(block)
            found = self.functions(path)
            if found and n < chars(size) and (asked is None or rng.random() < 0.3):
                asked = path, rng.choice(found)[0]
            if n >= chars(size):
                break
        return "".join(out)[:chars(size)], asked or (paths[0], "main")
