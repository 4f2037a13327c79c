"""
A scripted agent that does a task as coding agents do: it knows which change is wanted (the commit's)
but finds its way there by what it has seen. What it greps for stood in the task, in a tool's output
or in its own words; a file is opened because a result named it; a compiler's error decides what is
looked at next. Commands really run; edits are really made.

The result is a list of neutral steps; shapes.py writes them as each client would.
"""

import re

import words
from names import shaped, tokens

READ_MAX = 16000  # bytes of output that a tool gives back
THOUGHT = 9  # names of one thought
SHOW = (40, 60, 80, 120, 120, 200, 320)  # lines of a file read around a place


class Step:
    def __init__(self, kind, text="", calls=None):
        self.kind, self.text, self.calls = kind, text, calls or []


class Agent:
    def __init__(self, scratch, rng, language):
        self.scratch, self.rng, self.language = scratch, rng, language
        self.steps, self.number = [], 0
        self.seen, self.own = {}, {}  # identifier -> the step that showed it, that wrote it
        self.opened = {}  # path -> step
        self.shown = {}  # path -> [(from, to)]
        self.errors, self.commits = [], []
        self.found = []  # (identifier, path, line) the agent could tell of
        self.aim = frozenset()  # names of the change that is still to be made
        self.last = ""  # what the newest results said

    # --- speaking and doing ---

    def say(self, key, **given):
        line = self.rng.choice(words.SAID[self.language][key])
        return line.format(**given)

    def human(self, text):
        self.steps.append(Step("human", text))
        self.note(text, self.seen)

    def note(self, text, where):
        for t in tokens(text):
            where[t] = self.number

    def step(self, say, *calls):
        """One message of the agent with its calls and their results."""
        self.number += 1
        if self.rng.random() < .25 and not any(c["tool"] == "edit" for c in calls):
            say = ""  # agents often just act
        thought = self.think()
        say = f"{thought}\n{say}".strip() if thought else say
        done = []
        self.note(say, self.own)
        for call in calls:
            call["result"] = getattr(self, "do_" + call["tool"])(call)
            self.note(call["result"], self.seen)
            for key, value in call.items():
                if key in ("command", "path", "pattern", "old", "new", "content"):
                    self.note(value, self.own)
            done.append(call)
        self.last = "\n".join(c["result"] for c in done)
        self.steps.append(Step("agent", say, done))
        return done[-1]["result"] if done else ""

    def think(self):
        """What caught its eye in the newest results: names that the change will need."""
        if self.rng.random() < .3:
            return ""
        met = sorted(t for t in tokens(self.last) & self.aim if shaped(t) and len(t) >= 4 and len(t) < 60)
        fresh = [t for t in met if t not in self.own]
        known = [t for t in met if t in self.own]
        self.rng.shuffle(fresh)
        self.rng.shuffle(known)
        names = (fresh[:THOUGHT] + known)[:THOUGHT]
        said = []
        while len(names) >= 3:
            a, b, c, *names = names
            said.append(self.say("think", a=a, b=b, c=c))
        return " ".join(said)

    def tell(self, text):
        """A message without calls: the turn is the human's."""
        self.number += 1
        self.note(text, self.own)
        self.steps.append(Step("agent", text))

    def do_bash(self, call):
        out, call["code"] = self.scratch.run(call["command"])
        return out if len(out) <= READ_MAX else out[: READ_MAX - 200] + "\n... (output cut)\n" + out[-200:]

    def do_grep(self, call):
        glob = f" --include='{call['glob']}'" if call.get("glob") else ""
        command = f"grep -rnE{glob} -e '{call['pattern']}' {call['path']} | head -{call['limit']}"
        out, call["code"] = self.scratch.run(command)
        out = "\n".join(line[:240] for line in out.split("\n"))
        return out[:READ_MAX] if out.strip() else "No matches found"

    def do_read(self, call):
        text = self.scratch.text(call["path"])
        if text is None:
            return "File does not exist."
        lines = text.split("\n")
        a = max(call.get("offset", 1), 1)
        b = min(a + call.get("limit", 400) - 1, len(lines))
        call["from"], call["lines"] = a, lines[a - 1 : b]
        self.opened[call["path"]] = self.number
        self.shown.setdefault(call["path"], []).append((a, b))
        return "\n".join(call["lines"])

    def do_edit(self, call):
        text = self.scratch.text(call["path"])
        if text is None or call["old"] not in text:
            return "String to replace not found in file."
        at, want = -1, call.pop("at", 0)
        nearest = None
        while (at := text.find(call["old"], at + 1)) >= 0:
            away = abs(text.count("\n", 0, at) - want)
            if nearest is None or away < nearest[0]:
                nearest = (away, at)
        at = nearest[1]
        self.scratch.put(call["path"], text[:at] + call["new"] + text[at + len(call["old"]) :])
        self.opened[call["path"]] = self.number
        line = text.count("\n", 0, at) + 1
        lines = (text[:at] + call["new"]).split("\n")
        after = text[at + len(call["old"]) :].split("\n")[1:4]
        call["from"], call["lines"] = max(line - 3, 1), lines[max(line - 4, 0) :] + after
        return "\n".join(call["lines"])

    def do_write(self, call):
        self.scratch.put(call["path"], call["content"])
        self.opened[call["path"]] = self.number
        return f"File created successfully at: {call['path']}"

    def do_todo(self, call):
        return "Todos have been modified successfully."

    # --- what it knows ---

    def knows(self, name):
        return name in self.seen or name in self.own

    def knows_path(self, path):
        return self.knows(path) or path in self.opened

    def candidates(self, text, least=4):
        """Identifiers of a text that the agent has met, the most telling first."""
        met = [t for t in tokens(text) if self.knows(t) and len(t) >= least and re.fullmatch(r"\w+", t) and shaped(t)]
        return sorted(met, key=lambda t: (-max(self.own.get(t, -9), self.seen.get(t, -9)), -len(t), t))

    def enclosing(self, path, line):
        """The function or heading that a line of a file stands in."""
        lines = (self.scratch.text(path) or "").split("\n")
        for i in range(min(line, len(lines)) - 1, -1, -1):
            m = re.match(r"^(?:[a-z].*?\b(\w+)\(|def (\w+)|class (\w+)|#+ (.+))", lines[i])
            if m:
                return next(g for g in m.groups() if g)
        return path.rsplit("/", 1)[-1]

    # --- the way to a place ---

    def grep(self, name, where=None, limit=None, say=None):
        where = where or self.rng.choice([".", "common supervisor workers", "."]) if where is None else where
        roots = [w for w in where.split() if (self.scratch.folder / w).exists()] or ["."]
        limit = limit or self.rng.choice([20, 30, 50, 100])
        glob = self.rng.choice(["*.c", "*.[ch]", "*.[ch]", ""])
        call = {"tool": "grep", "pattern": rf"\b{name}\b", "path": " ".join(roots) if roots != ["."] else
                "common supervisor workers proto tests", "glob": glob, "limit": limit}
        if (self.scratch.folder / "tests").exists() is False:
            call["path"] = "."
        out = self.step(self.say("grep", name=name) if say is None else say, call)
        for line in out.split("\n"):
            m = re.match(r"([\w./-]+):(\d+):(.*)", line)
            if m:
                self.found.append((name, m.group(1), int(m.group(2))))
        return out

    def reach(self, change):
        """Gets to know a file of the change by what was seen so far."""
        path = change.path
        if self.knows_path(path):
            return
        old = "\n".join(h.old for h in change.hunks) or (change.created or "")
        met = [t for t in self.candidates(old) if t in (self.scratch.text(path) or "")][:6]
        for name in met[:2]:
            out = self.grep(name, where="")
            if path in out:
                return
        folder = path.rsplit("/", 1)[0] if "/" in path else "."
        base = path.rsplit("/", 1)[-1]
        stem = base.split(".")[0]
        self.step(self.say("find", name=stem), {"tool": "bash", "command": self.rng.choice([
            f"ls {folder}", f"find . -path ./build -prune -o -name '*{stem}*' -print | head -20",
            f"git log --oneline -6 -- {folder}; ls {folder}"])})

    def look(self, path, line, say=None, span=None):
        if span is None and path not in self.opened and self.rng.random() < .4:
            line, span = 1, 400  # the whole of it, as most clients do
        span = span or self.rng.choice(SHOW)
        a = max(1, line - span // 3)
        self.step(self.say("read", path=path, line=line, name=self.enclosing(path, line)) if say is None else say,
                  {"tool": "read", "path": path, "offset": a, "limit": span})

    def has_in_view(self, path, line, steps=9):
        if self.number - self.opened.get(path, -99) > steps:
            return False
        return any(a <= line <= b for a, b in self.shown.get(path, []))

    def look_up(self, text):
        """Looks up what the change will use and the agent has not met: how is it declared?"""
        new = [t for t in tokens(text) if re.fullmatch(r"[a-z]\w+_\w+", t) and not self.knows(t)]
        for name in sorted(new, key=lambda t: (-len(t), t))[:2]:
            if self.rng.random() > .5:
                continue
            hit, _ = self.scratch.run(f"grep -rnE --include='*.h' -e '\\b{name}\\(' . | head -3")
            m = re.match(r"\./([\w./-]+):(\d+):", hit)
            if not m:
                continue
            self.grep(name, where="", limit=20, say=self.say("declared", name=name))
            if self.rng.random() < .5:
                self.look(m.group(1), int(m.group(2)), span=self.rng.choice([30, 60, 100]))
            return

    def revisit(self, near):
        """Goes back to what was seen long before, where it bears on what is being done."""
        if self.rng.random() > .3:
            return
        about = tokens(near)
        old = [p for p, n in self.opened.items() if self.number - n >= 6 and self.scratch.text(p)]
        self.rng.shuffle(old)
        for path in old:
            lines = self.scratch.text(path).split("\n")
            names = [t for t in about if re.fullmatch(r"\w+", t) and shaped(t) and self.knows(t)]
            for name in sorted(names, key=lambda t: (-len(t), t))[:4]:
                at = next((i + 1 for i, l in enumerate(lines) if name in l), None)
                if at:
                    self.look(path, at, span=self.rng.choice([30, 60]), say=self.say("again", path=path, name=name))
                    return

    # --- changing ---

    def edit(self, change):
        path, rng = change.path, self.rng
        if change.deleted:
            self.step(self.say("remove", path=path), {"tool": "bash", "command": f"git rm -q {path} && git status --short"})
            return
        if change.created is not None:
            like = [p for p in self.opened if p.rsplit(".", 1)[-1] == path.rsplit(".", 1)[-1] and p != path]
            if like and rng.random() < .6:
                self.look(rng.choice(like), 1, say=self.say("like", path=path), span=50)
            self.look_up(change.created)
            self.step(self.say("create", path=path, name=self.first_name(change.created)),
                      {"tool": "write", "path": path, "content": change.created})
            return
        at, n = 0, 0
        offset = 0  # what earlier hunks have moved
        while at < len(change.hunks):
            hunk = change.hunks[at]
            line = hunk.line + offset
            if not self.has_in_view(path, line):
                self.look(path, line + hunk.old.count("\n") // 2)
            if n == 0:
                self.look_up("\n".join(h.new for h in change.hunks))
            together = [hunk]
            while at + len(together) < len(change.hunks) and rng.random() < .45 and len(together) < 3:
                together.append(change.hunks[at + len(together)])
            calls = []
            for h in together:
                calls.append({"tool": "edit", "path": path, "old": h.old, "new": h.new, "at": h.line + offset})
                offset += h.new.count("\n") - h.old.count("\n")
            self.step(self.of_edit(path, hunk), *calls)
            at += len(together)
            n += 1
            if n % 3 == 2:
                self.revisit(hunk.new)

    def first_name(self, text):
        for line in text.split("\n"):
            m = re.match(r"^[a-z].*?\b(\w+)\(", line)
            if m:
                return m.group(1)
        return "main"

    def of_edit(self, path, hunk):
        gone = [t for t in tokens(hunk.old) if t not in tokens(hunk.new) and shaped(t)]
        come = [t for t in tokens(hunk.new) if t not in tokens(hunk.old) and shaped(t)]
        name = self.enclosing(path, hunk.line)
        if gone and come:
            return self.say("replace", path=path, name=name, gone=sorted(gone)[0], come=sorted(come)[0])
        if come:
            return self.say("insert", path=path, name=name, come=sorted(come)[0])
        return self.say("change", path=path, name=name)

    # --- building and testing ---

    def compile(self, path, todo):
        """Makes an object; an error decides what comes next. Returns whether it compiles."""
        target = path
        if path.endswith(".h"):
            base = path.rsplit("/", 1)[-1]
            out, _ = self.scratch.run(f"grep -rl --include=*.c '{base}' common supervisor workers proto | head -20")
            users = out.split()
            known = [u for u in users if self.knows_path(u)]
            if not users:
                return True
            target = (known or users)[0]
            if not known:
                self.grep(base.replace(".", r"\."), where="", say=self.say("users", name=base))
        if not target.endswith(".c") or not self.scratch.text(target):
            return True
        for _ in range(4):
            out = self.step(self.say("build", path=target),
                            {"tool": "bash", "command": f"make build/obj/{target[:-2]}.o 2>&1 | tail -25"})
            m = re.search(r"([\w./-]+):(\d+):\d+: (?:fatal )?error: (.*)", out)
            if not m:
                return "rror" not in out
            where, line, what = m.group(1), int(m.group(2)), m.group(3)
            self.errors.append((where, line, what))
            quoted = re.findall(r"[‘'](?:struct )?(\w+)[’']", what)
            name = quoted[-1] if quoted else what.split()[-1]
            say = self.say("error", what=what[:110], path=where, line=line, name=name)
            fits = [c for c in todo if c.path == where] or [
                c for c in todo if any(name in h.new for h in c.hunks) or (c.created and name in c.created)]
            if not fits:
                self.look(where, line, say=say, span=24)
                return False
            fix = fits[0]
            if fix.path == where:
                self.look(where, line, say=say, span=36)
            else:
                self.grep(name, where="", say=say)
                self.reach(fix)
            todo.remove(fix)
            self.edit(fix)
        return True

    def test(self, paths):
        mine = [p for p in paths if re.fullmatch(r"tests/unit/test_\w+\.c", p)]
        if not mine:
            stems = [p.rsplit("/", 1)[-1].split(".")[0] for p in paths if p.endswith((".c", ".h"))]
            for stem in stems[:2]:
                out = self.step(self.say("tests", name=stem), {"tool": "bash", "command":
                                f"grep -rlE '{stem}' tests/unit tests/process | head -12"})
                mine = re.findall(r"tests/unit/test_\w+\.c", out)[:1]
                if mine:
                    break
        for p in mine[:2]:
            binary = "build/unit/" + p.rsplit("/", 1)[-1][:-2]
            out = self.step(self.say("run", path=p), {"tool": "bash", "command":
                            f"make {binary} 2>&1 | grep -v '^  \\[' | tail -20; {binary} 2>&1 | tail -{self.rng.choice([20, 60])}"})
            m = re.search(r"(\w+)\s*\n?.*?FAILED|\[  FAILED  \] (\w+)", out)
            if "FAILED" in out and m:
                self.errors.append((p, 0, "FAILED " + (m.group(2) or m.group(1))))

    # --- a task ---

    def explore(self, task, first):
        rng, text = self.rng, task.subject + " " + task.body
        if first:
            calls = [{"tool": "bash", "command": "git log --oneline -8"}, {"tool": "bash", "command": "ls; git status --short | head"}]
            if rng.random() < .5:
                calls.append({"tool": "read", "path": rng.choice(["ARCHITECTURE.md", "CONTRIBUTING.md", "Makefile"]), "offset": 1,
                              "limit": rng.choice([60, 120])})
            out = self.step(self.say("begin", what=task.subject), *calls)
        heard = [t for t in tokens(text) if len(t) >= 4 and re.fullmatch(r"[A-Za-z_]\w+", t)]
        counted = []
        for t in sorted(heard):
            n = int(self.scratch.run(f"grep -rlw --include='*.[ch]' -e '{t}' . | wc -l")[0] or 0)
            if 0 < n <= 40:
                counted.append((n, t))
        for _, name in sorted(counted)[: rng.choice([1, 2, 2, 3])]:
            self.grep(name, where="")
        shas = re.findall(r"^([0-9a-f]{7}) ", "\n".join(c["result"] for s in self.steps[-8:] for c in s.calls), re.M)
        if shas and rng.random() < .5:
            sha = rng.choice(shas)
            self.step(self.say("show", sha=sha), {"tool": "bash", "command": rng.choice([f"git show --stat {sha} | head -60", f"git show {sha} | head -150"])})
            self.commits.append(sha)

    def plan(self, task):
        items = [self.say("item", path=c.path, name=self.enclosing(c.path, c.hunks[0].line) if c.hunks else
                          self.first_name(c.created or "")) for c in task.changes if self.knows_path(c.path)][:5]
        if items and self.rng.random() < .7:
            self.step(self.say("plan", what=task.subject), {"tool": "todo", "items": items})

    def choose(self, todo):
        """The next file: one it knows of, nearest to what it saw last; tests and documents late."""
        def rank(c):
            text = "\n".join(h.old for h in c.hunks)
            late = 2 if c.path.endswith(".md") else 1 if c.path.startswith("tests/") else 0
            return (late, not self.knows_path(c.path), not c.path.endswith(".h"), -len(self.candidates(text)), c.path)
        return min(todo, key=rank)

    def take_aim(self, todo):
        text = "\n".join(h.old + "\n" + h.new for c in todo for h in c.hunks) + "\n".join(c.created or "" for c in todo)
        self.aim = tokens(text) | {c.path for c in todo}

    def do(self, task, first):
        rng = self.rng
        todo = list(task.changes)
        self.take_aim(todo)
        self.explore(task, first)
        self.plan(task)
        tests = [c for c in todo if re.match(r"tests/unit/test_\w+\.c", c.path)]
        if tests and rng.random() < .5:  # the failing test first
            self.reach(tests[0])
            self.edit(tests[0])
            todo.remove(tests[0])
            self.test([tests[0].path])
        while todo:
            c = self.choose(todo)
            self.take_aim(todo)
            todo.remove(c)
            self.reach(c)
            self.edit(c)
            if c.path.endswith((".c", ".h")) and not c.path.startswith("tests/") and rng.random() < .7:
                self.compile(c.path, todo)
        self.verify(task)

    def verify(self, task):
        rng = self.rng
        paths = [c.path for c in task.changes if not c.deleted]
        self.test(paths)
        gone = set()
        for c in task.changes:
            for h in c.hunks:
                gone |= {t for t in tokens(h.old) - tokens(h.new) if re.fullmatch(r"\w+", t) and "_" in t}
        if gone and rng.random() < .6:
            name = sorted(gone, key=lambda t: (-len(t), t))[0]
            self.grep(name, where="", say=self.say("left", name=name))
        self.step(self.say("review"), {"tool": "bash", "command": "git diff --stat" if rng.random() < .6 else
                                       f"git diff {rng.choice(paths)} | head -160"})
        subject = task.subject.replace("'", "").replace('"', "")
        out = self.step(self.say("commit"), {"tool": "bash", "command": f"git add -A && git commit -m '{subject}' | head -12"})
        m = re.search(r"\b([0-9a-f]{7})\]", out)
        if m:
            self.commits.append(m.group(1))
        done = []
        for c in task.changes[:6]:
            at = c.hunks[0] if c.hunks else None
            name = self.enclosing(c.path, at.line) if at else self.first_name(c.created or "")
            done.append(f"- `{c.path}`: `{name}`")
        self.tell(self.say("done", what=task.subject) + "\n" + "\n".join(done))

    # --- what a human asks in between ---

    def follow_up(self):
        """A question or a correction that goes back to earlier things; what the agent does then."""
        rng, kind = self.rng, self.rng.random()
        seen = [f for f in self.found if self.scratch.text(f[1])]
        if kind < .35 and self.errors:
            where, line, what = rng.choice(self.errors)
            self.human(words.pick(rng, self.language, "ask_error"))
            self.tell(self.say("tell_error", what=what[:120], path=where, line=line))
        elif kind < .7 and seen:
            name, path, line = rng.choice(seen[: max(1, len(seen) // 2)])
            self.human(words.pick(rng, self.language, "ask_use").format(name=name))
            self.look(path, line, span=24, say=self.say("again", path=path, name=name))
            others = sorted({p for n, p, _ in seen if n == name})[:3]
            self.tell(self.say("tell_use", name=name, path=path, line=line, others=", ".join(f"`{p}`" for p in others)))
        elif self.commits:
            sha = rng.choice(self.commits)
            self.human(words.pick(rng, self.language, "ask_commit"))
            out = self.step(self.say("show", sha=sha), {"tool": "bash", "command": f"git show --stat --format='%h %s' {sha} | head -20"})
            self.tell(self.say("tell_commit", sha=sha, what=out.split("\n")[0][:90]))
