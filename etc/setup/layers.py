#!/usr/bin/env python3
"""layers.py [ROOT [BUILD]]: do the files of the programs keep to their layers? Says what does not, and exits with 1.

Includes, of every .c and .h:
- common/ includes nobody, proto/ only common/, workers/ those two, supervisor/ those two; the last two never each other.
- Only proto/ includes msgpack.
- supervisor/ is made of wings, front < devices < requests < life < tell: a wing includes headers of lower ones and of
  its own. Only main.c and tandemd.[ch], which stand above all, see tandemd.h.
- supervisor/ctl/ (tandemctl) includes pure headers of the wings only: those that reach no wing's context.

Object files in BUILD (made by `make all`), by nm:
- no wing calls a higher one, however it got the name;
- no more than two files need each other in a circle.
"""
import re
import subprocess
import sys
from pathlib import Path

WINGS = ["front", "devices", "requests", "life", "tell"]
CONTEXTS = {f"supervisor/{w}/{w}.h" for w in WINGS}
TOP = {"supervisor/main.c", "supervisor/tandemd.c", "supervisor/tandemd.h"}
MAY = {  # by top folder
    "common": {"common"},
    "proto": {"common", "proto"},
    "workers": {"common", "proto", "workers"},
    "supervisor": {"common", "proto", "supervisor"},
}
CIRCLE_MAX = 2
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)


def wing(path):
    """front 0 ... tell 4, above them all 5; None: not the supervisor's, or tandemctl's."""
    parts = path.split("/")
    if parts[0] != "supervisor" or parts[1] == "ctl":
        return None
    if len(parts) == 2:
        return len(WINGS)
    return WINGS.index(parts[1]) if parts[1] in WINGS else len(WINGS)


def name(level):
    return WINGS[level] if level < len(WINGS) else "the top"


# --- includes ---


def read_includes(root):
    """path -> [(line, "<" or '"', what)]"""
    found = {}
    for folder in MAY:
        for path in sorted((root / folder).rglob("*.[ch]")):
            text = path.read_text(encoding="utf-8", errors="replace")
            found[str(path.relative_to(root))] = [
                (text.count("\n", 0, m.start(1)) + 1, m[1], m[2]) for m in INCLUDE.finditer(text)]
    return found


def reached(header, includes):
    """All that a header includes, itself too."""
    seen, todo = set(), [header]
    while todo:
        h = todo.pop()
        if h not in seen:
            seen.add(h)
            todo += [what for _, kind, what in includes.get(h, []) if kind == '"']
    return seen


def wrong_include(path, kind, what, includes):
    """Why path may not include what; None: it may."""
    top, to = path.split("/")[0], what.split("/")[0]
    if what == "msgpack.h" or to == "msgpack":
        return None if top == "proto" else "only proto/ knows msgpack"
    if kind == "<" or to not in MAY:
        return None
    if to not in MAY[top]:
        return f"{top}/ does not know {to}/"
    if what == "supervisor/tandemd.h" and path not in TOP:
        return "only main.c and tandemd.c see all wings"
    if path.startswith("supervisor/ctl/"):
        contexts = sorted(reached(what, includes) & CONTEXTS)
        return f"tandemctl takes pure headers only, and this one reaches {contexts[0]}" if contexts else None
    if to == "supervisor" and what.startswith("supervisor/ctl/"):
        return "tandemctl is another program"
    if to == "supervisor" and wing(what) > wing(path):
        return f"{name(wing(what))} stands above {name(wing(path))}"
    return None


def check_includes(root):
    includes = read_includes(root)
    for path, lines in includes.items():
        for line, kind, what in lines:
            why = wrong_include(path, kind, what, includes)
            if why:
                yield f"{path}:{line}: includes {what}: {why}"


# --- object files ---


def read_objects(root, build):
    """file (as its source is called, without .c) -> (defined, needed); not of sources that have gone"""
    objects = {}
    for folder in MAY:
        for path in sorted((build / "obj" / folder).rglob("*.o")):
            if not (root / path.relative_to(build / "obj")).with_suffix(".c").exists():
                continue
            defined, needed = set(), set()
            for line in subprocess.run(["nm", path], check=True, capture_output=True, text=True).stdout.splitlines():
                parts = line.split()
                if len(parts) == 3 and parts[1] in "TDBRC":
                    defined.add(parts[2])
                elif len(parts) == 2 and parts[0] == "U":
                    needed.add(parts[1])
            objects[str(path.relative_to(build / "obj"))[:-2]] = defined, needed
    return objects


def program(path):
    """Names are one to a program: both processes have a chat.c, and each program its main()."""
    parts = path.split("/")
    return "ctl" if parts[:2] == ["supervisor", "ctl"] else parts[0]


def calls_of(objects):
    """file -> {file: a symbol that it takes from there}"""
    where = {}
    for path, (defined, _) in objects.items():
        for symbol in defined:
            where.setdefault(symbol, {})[program(path)] = path
    calls = {path: {} for path in objects}
    for path, (defined, needed) in objects.items():
        for symbol in sorted(needed - defined):
            homes = where.get(symbol, {})
            home = homes.get(program(path)) or next(
                (homes[p] for p in ("common", "proto", "supervisor") if p in homes), None)
            if home and home != path:
                calls[path].setdefault(home, symbol)
    return calls


def circles(calls):
    """Tarjan's strongly connected components of more than one file."""
    index, low, stack, found = {}, {}, [], []

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in calls[v]:
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in stack:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            part = []
            while not part or part[-1] != v:
                part.append(stack.pop())
            if len(part) > 1:
                found.append(sorted(part))

    sys.setrecursionlimit(10000)
    for v in sorted(calls):
        if v not in index:
            visit(v)
    return found


def check_objects(root, build):
    objects = read_objects(root, build)
    if not objects:
        yield f"{build}: no object files; run `make all` first"
        return
    calls = calls_of(objects)
    for path, homes in calls.items():
        for home, symbol in homes.items():
            a, b = wing(path), wing(home)
            if a is not None and b is not None and b > a:
                yield f"{path}.c: takes {symbol} from {home}.c: {name(b)} stands above {name(a)}"
    for part in circles(calls):
        if len(part) > CIRCLE_MAX:
            yield f"{len(part)} files need each other in a circle: {' '.join(part)}"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    build = Path(sys.argv[2]) if len(sys.argv) > 2 else root / "build"
    faults = [*check_includes(root), *check_objects(root, build)]
    for fault in faults:
        print(fault)
    print(f"layers: {len(faults)} faults" if faults else "layers: kept")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
