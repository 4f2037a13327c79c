"""
The transcripts: played once over the history, kept under the build folder, and read from there.
"""

import fcntl
import hashlib
import json
import multiprocessing
import random
import sys
from pathlib import Path

import repo
import shapes
import words
from agent import Agent

HERE = Path(__file__).resolve().parent
SESSIONS = 18
CHARACTERS = (70_000, 170_000)  # a session ends with the task that takes it past one of these
SOURCES = ("agent.py", "names.py", "repo.py", "sessions.py", "shapes.py", "words.py")
CLIENTS = ("claude", "openai", "cline", "claude", "aider")
LANGUAGES = ("en", "en", "pt", "en", "en", "pt", "en")


def key(root):
    h = hashlib.sha256()
    for name in SOURCES:
        h.update((HERE / name).read_bytes())
    head = repo.git(root, "rev-parse", "-q", "--verify", repo.HISTORY_END + "^{commit}", check=False).strip()
    h.update(head.encode() or repo.git(root, "rev-parse", "HEAD", check=False).encode())
    h.update(str(len(repo.history_tasks(root)) if repo.git(root, "rev-parse", "HEAD", check=False) else 0).encode())
    return h.hexdigest()[:16]


def characters(steps):
    n = 0
    for s in steps:
        n += len(s.text)
        for c in s.calls:
            n += len(c["result"]) + sum(len(c.get(k, "")) for k in ("command", "pattern", "old", "new", "content", "path"))
    return n


def play(root, scratch, number, tasks, language):
    """One session: tasks one after the other, with what the human says between them."""
    rng = random.Random(7919 * number + 1)
    agent = Agent(scratch, rng, language)
    until = rng.randint(*CHARACTERS)
    for n, t in enumerate(tasks):
        task = repo.task_of(root, *t) if isinstance(t, tuple) else t
        if task.base:
            scratch.checkout(task.base)
        ask = words.pick(rng, language, "next" if n else "task")
        rules = [words.pick(rng, language, "rule") for _ in range(rng.choice([0, 1, 2]))]
        agent.human("\n".join([ask.format(what=task.subject, body=task.body).strip(), *rules]))
        agent.do(task, n == 0)
        if rng.random() < .6:
            agent.follow_up()
        if rng.random() < .3:
            agent.human(words.pick(rng, language, "correct").format(rule=words.pick(rng, language, "rule")))
            agent.tell({"en": "Understood.", "pt": "Entendido."}[language])
        if characters(agent.steps) > until:
            break
    return agent


def job(given):
    root, folder, plan = given
    scratch = repo.Scratch(root, folder)
    done = []
    for number, tasks, language, client in plan:
        if tasks is None:
            scratch.checkout(scratch.head)
            tasks = list(repo.tree_tasks(scratch.folder, random.Random(number), 8))
        agent = play(root, scratch, number, tasks, language)
        messages = shapes.SHAPES[client](random.Random(number)).messages(agent.steps)
        done.append({"name": f"{number:02}-{client}-{language}", "messages": messages})
    return done


def make(root, build, say, count=SESSIONS):
    """The sessions, from the cache or played anew."""
    folder = Path(build) / "eval"
    kept = folder / f"sessions-{key(root)}-{count}.json"
    whole = folder / f"sessions-{key(root)}-{SESSIONS}.json"
    if whole.exists():
        return json.loads(whole.read_text())[:count]
    if kept.exists():
        return json.loads(kept.read_text())
    has_history = bool(repo.git(root, "rev-parse", "HEAD", check=False).strip())
    tasks = repo.history_tasks(root)[4:] if has_history else []
    each = 3
    from_history = min(SESSIONS, len(tasks) // each)
    if from_history < SESSIONS:
        say(f"the history here has work for {from_history} of {SESSIONS} sessions; the others are made from the tree alone")
    plan = []
    for n in range(SESSIONS):
        mine = None
        if n < from_history:
            a = n * len(tasks) // max(from_history, 1)
            mine = tasks[a : a + each + 6]
        plan.append((n, mine, LANGUAGES[n % len(LANGUAGES)], CLIENTS[n % len(CLIENTS)]))
    plan = plan[:count]
    folder.mkdir(parents=True, exist_ok=True)
    say(f"playing {count} sessions (once; kept in {kept})")
    half = (count + 1) // 2
    with open(folder / "lock", "w") as lock, multiprocessing.Pool(2) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two evals must not play in one checkout
        if kept.exists():
            return json.loads(kept.read_text())
        parts = pool.map(job, [(root, folder / "scratch0", plan[:half]), (root, folder / "scratch1", plan[half:])])
        sessions = [s for part in parts for s in part]
        new = kept.with_suffix(".new")
        new.write_text(json.dumps(sessions, ensure_ascii=False))
        new.rename(kept)
    return sessions


def read(folder, say):
    """Real sessions: each file an array of OpenAI-style messages, or an object with "messages"."""
    found = []
    for path in sorted(Path(folder).glob("**/*.json")):
        try:
            data = json.loads(path.read_text())
        except (OSError, ValueError) as e:
            say(f"{path}: {e}; left out")
            continue
        data = data.get("messages") if isinstance(data, dict) else data
        if not isinstance(data, list) or not all(isinstance(m, dict) and "role" in m for m in data):
            say(f"{path}: no array of messages; left out")
            continue
        found.append({"name": path.stem, "messages": data})
    if not found:
        sys.exit(f"eval: no session in {folder}")
    return found



def facts(sessions):
    """What the sessions are like, beside what real ones were found to be like."""
    growth, roles, calls, largest = [], {}, [], []
    for s in sessions:
        calls.append(len(s.calls))
        largest.append(sum(s.size) / 3.6)
        growth += [sum(s.size[a:b]) / 3.6 for a, b in zip(s.calls, s.calls[1:])]
        for m, text in zip(s.messages, s.text):
            n = len(text)
            if m["role"] == "assistant":
                said = m["content"] if isinstance(m.get("content"), str) else ""
                roles["agent's words and inputs"] = roles.get("agent's words and inputs", 0) + n
                roles["agent's words"] = roles.get("agent's words", 0) + min(len(said), n)
            else:
                roles[m["role"]] = roles.get(m["role"], 0) + n
    growth.sort()
    total = sum(sum(s.size) for s in sessions) or 1

    def middle(values):
        return round(sorted(values)[len(values) // 2]) if values else 0
    return {"count": len(sessions), "calls": sum(calls), "calls_median": middle(calls), "tokens_median": middle(largest),
            "tokens_largest": round(max(largest, default=0)), "growth_median": middle(growth),
            "growth_p90": round(growth[int(len(growth) * .9)]) if growth else 0,
            "roles": {k: round(v / total, 3) for k, v in sorted(roles.items())}}
