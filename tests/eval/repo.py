"""
The work that the scripted agents do over: this project's own history, and a scratch checkout of it
in which their commands really run.

With too little history (a shallow clone, a tree without git) tasks are made from the tree alone:
renaming a function everywhere it is used.
"""

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

# The newest commit whose work is played, so that later commits move no figure. Without it: HEAD.
HISTORY_END = "b8f28e4"
LINES_MAX = 420  # changed lines of a commit
FILES = range(2, 13)
COMMAND_S = 90
SOURCES = (".c", ".h", ".py", ".md", ".mk", ".sh", ".conf", ".scd")


@dataclass
class Hunk:
    line: int  # in the file before the change, from 1
    old: str
    new: str


@dataclass
class Change:
    path: str
    hunks: list = field(default_factory=list)
    created: str = None  # the whole text of a new file
    deleted: bool = False


@dataclass
class Task:
    subject: str
    body: str
    base: str  # commit to check out first; "" keeps what is there
    changes: list = field(default_factory=list)


def git(root, *args, check=True):
    p = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, errors="replace")
    if check and p.returncode:
        raise RuntimeError(f"git {' '.join(args)}: {p.stderr.strip()}")
    return p.stdout


def parse_diff(text):
    """Changes of a diff made with --no-renames."""
    changes, c, new_file = [], None, False
    lines = text.split("\n")
    i = 0
    while i < len(lines):
        line = lines[i]
        if line.startswith("diff --git "):
            c = Change(line.split(" b/", 1)[1])
            changes.append(c)
            new_file = False
        elif line.startswith("new file"):
            new_file = True
        elif line.startswith("deleted file"):
            c.deleted = True
        elif line.startswith("@@ ") and c is not None:
            at = int(re.match(r"@@ -(\d+)", line).group(1))
            old, new = [], []
            while i + 1 < len(lines) and not lines[i + 1].startswith(("@@ ", "diff --git ")):
                i += 1
                body = lines[i]
                if body[:1] in (" ", "-"):
                    old.append(body[1:])
                if body[:1] in (" ", "+"):
                    new.append(body[1:])
            if new_file:
                c.created = "\n".join(new) + "\n"
            elif not c.deleted:
                c.hunks.append(Hunk(max(at, 1), "\n".join(old), "\n".join(new)))
        i += 1
    return [c for c in changes if c.hunks or c.created is not None or c.deleted]


def history_tasks(root):
    """The commits worth playing, oldest first."""
    top = git(root, "rev-parse", "-q", "--verify", HISTORY_END + "^{commit}", check=False).strip() or "HEAD"
    listed = git(root, "log", "--reverse", "--topo-order", "--no-merges", "--numstat", "--format=@%H %P", top, check=False)
    tasks, sha, parent, lines, paths = [], None, None, 0, []

    def take():
        source = [p for p in paths if p.endswith((".c", ".h"))]
        if sha and parent and source and len(paths) in FILES and 12 <= lines <= LINES_MAX:
            if all(p.endswith(SOURCES) or "/" not in p for p in paths):
                tasks.append((sha, parent))

    for line in listed.split("\n") + ["@"]:
        if line.startswith("@"):
            take()
            sha, _, parent = line[1:].partition(" ")
            lines, paths = 0, []
        elif line:
            added, removed, path = line.split("\t")
            lines += int(added) + int(removed) if added != "-" else 10**6
            paths.append(path)
    return [t for t in tasks if git(root, "cat-file", "-t", t[1], check=False).strip() == "commit"]


def task_of(root, sha, parent):
    message = git(root, "log", "-1", "--format=%s%n%b", sha)
    subject, _, body = message.partition("\n")
    diff = git(root, "diff", "--no-renames", "--no-color", "-U2", parent, sha)
    return Task(subject, body.strip(), parent, parse_diff(diff))


def tree_tasks(scratch, rng, count):
    """Renames, for a tree without history: each function of a header that 3 to 24 lines name."""
    found = []
    for header in sorted(Path(scratch).glob("common/**/*.h")):
        for name in re.findall(r"^[a-z].*?\b([a-z]+_[a-z]+_?[a-z]*)\(", header.read_text(errors="replace"), re.M):
            found.append(name)
    rng.shuffle(found)
    for name in dict.fromkeys(found):
        if count == 0:
            return
        hits = subprocess.run(["grep", "-rlw", name, "common", "supervisor", "workers", "proto", "tests/unit"],
                              cwd=scratch, capture_output=True, text=True).stdout.split()
        if not 3 <= len(hits) <= 9:
            continue
        first, _, rest = name.partition("_")
        other = f"{first}_{rng.choice(['all', 'whole', 'plain', 'given'])}_{rest}"
        changes = []
        for path in sorted(hits):
            old = Path(scratch, path).read_text(errors="replace").split("\n")
            hunks = []
            for n, line in enumerate(old):
                if re.search(rf"\b{name}\b", line):
                    hunks.append(Hunk(n + 1, line, re.sub(rf"\b{name}\b", other, line)))
            changes.append(Change(path, hunks))
        count -= 1
        yield Task(f"Rename {name} to {other}: the name says too little", "", "", changes)


class Scratch:
    """A checkout of its own, with the objects of the repository behind it."""

    def __init__(self, root, folder):
        self.folder = Path(folder).resolve()  # as commands print it
        self.env = dict(os.environ, LC_ALL="C.UTF-8", CFLAGS="-O0", GIT_PAGER="cat", PAGER="cat", COLUMNS="120",
                        GIT_AUTHOR_NAME="dev", GIT_AUTHOR_EMAIL="dev@example.org", GIT_COMMITTER_NAME="dev",
                        GIT_COMMITTER_EMAIL="dev@example.org", GIT_AUTHOR_DATE="2026-01-01T12:00:00Z",
                        GIT_COMMITTER_DATE="2026-01-01T12:00:00Z", MAKEFLAGS="", GIT_CONFIG_NOSYSTEM="1")
        self.env.pop("GIT_DIR", None)
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        self.folder.mkdir(parents=True)
        git(folder, "init", "-q")
        common = git(root, "rev-parse", "--git-common-dir", check=False).strip()
        self.has_history = bool(common)
        if self.has_history:
            common = (Path(root) / common).resolve()
            (self.folder / ".git/objects/info/alternates").write_text(f"{common}/objects\n")
            if (common / "shallow").exists():
                (self.folder / ".git/shallow").write_bytes((common / "shallow").read_bytes())
            self.head = git(root, "rev-parse", "HEAD").strip()
            self.checkout(self.head)
        else:
            keep = "--exclude=./build --exclude=./build-* --exclude=./.cache --exclude=__pycache__"
            subprocess.run(f"tar -C '{root}' {keep} -cf - . | tar -C '{folder}' -xf -", shell=True, check=True)
            git(folder, "add", "-A")
            subprocess.run(["git", "commit", "-qm", "The tree"], cwd=folder, env=self.env, check=True)
            self.head = git(folder, "rev-parse", "HEAD").strip()

    def checkout(self, sha):
        git(self.folder, "checkout", "-q", "-f", "--detach", sha)
        git(self.folder, "clean", "-qfd", "-e", "build")

    def run(self, command):
        """What a shell prints for a command, both streams, as an agent's tool gives it back."""
        try:
            p = subprocess.run(["bash", "-c", command], cwd=self.folder, env=self.env, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=COMMAND_S)
            out = p.stdout.decode("utf-8", "replace")
            code = p.returncode
        except subprocess.TimeoutExpired as e:
            out, code = (e.stdout or b"").decode("utf-8", "replace"), 124
        return out.replace(str(self.folder), "/home/dev/tandem"), code

    def text(self, path):
        try:
            return (self.folder / path).read_text(errors="replace")
        except (OSError, ValueError):
            return None

    def put(self, path, text):
        p = self.folder / path
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_text(text)
