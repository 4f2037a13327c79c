"""
A session's neutral steps in the message shapes of clients, as OpenAI-style chat messages: Claude
Code's tools (parallel calls, <system-reminder> carriers), a plain OpenAI tool form, Cline's XML in
text, aider's files and search/replace blocks.
"""

import json
import re

ROOT = "/home/dev/tandem"
ADDED_MAX = 6000  # bytes of a file that aider's human adds
SYSTEM = {
    "claude": "You are Claude Code, an interactive CLI tool that helps with software engineering tasks.",
    "openai": "You are a coding agent. Use the tools to read, change and test the code in the working folder.",
    "cline": "You are Cline, a highly skilled software engineer. Tools are called with XML tags, one a message.",
    "aider": "Act as an expert software developer. Take requests for changes to the supplied code.",
}
REMINDER = (
    "<system-reminder>\nThe TodoWrite tool hasn't been used recently. If you're working on tasks that would benefit from "
    "tracking progress, consider using it. This is just a gentle reminder - ignore if not applicable.\n</system-reminder>"
)
CONTEXT = (
    "<system-reminder>\nAs you answer the user's questions, you can use the following context:\n# claudeMd\n"
    "Build with `make`, unit tests with `make unit`. Format C with clang-format.\n\n"
    "IMPORTANT: this context may or may not be relevant to your tasks.\n</system-reminder>\n"
)


def numbered(call):
    return "\n".join(f"{call['from'] + i:6}\t{line}" for i, line in enumerate(call["lines"]))


def absolute(path):
    return f"{ROOT}/{path}"


class Claude:
    name = "claude"

    def __init__(self, rng):
        self.rng, self.ids = rng, 0

    def call(self, c):
        t = c["tool"]
        if t == "bash":
            return "Bash", {"command": c["command"], "description": "Run " + c["command"].split()[0]}
        if t == "grep":
            args = {"pattern": c["pattern"], "path": absolute("") if " " in c["path"] else absolute(c["path"]),
                    "output_mode": "content", "-n": True, "head_limit": c["limit"]}
            if c.get("glob"):
                args["glob"] = c["glob"]
            return "Grep", args
        if t == "read":
            return "Read", {"file_path": absolute(c["path"]), "offset": c.get("offset", 1), "limit": c.get("limit", 400)}
        if t == "edit":
            return "Edit", {"file_path": absolute(c["path"]), "old_string": c["old"], "new_string": c["new"]}
        if t == "write":
            return "Write", {"file_path": absolute(c["path"]), "content": c["content"]}
        return "TodoWrite", {"todos": [{"content": i, "status": "pending" if n else "in_progress", "activeForm": i}
                                       for n, i in enumerate(c["items"])]}

    def result(self, c):
        if c["tool"] == "read" and "lines" in c:
            return numbered(c)
        if c["tool"] == "edit" and "lines" in c:
            return (f"The file {absolute(c['path'])} has been updated. Here's the result of running `cat -n` on a snippet of "
                    f"the edited file:\n{numbered(c)}")
        if c["tool"] == "write":
            return f"File created successfully at: {absolute(c['path'])}"
        if c["tool"] == "bash" and c.get("code"):
            return f"Exit code {c['code']}\n{c['result']}"
        return c["result"] or "(no output)"

    def messages(self, steps):
        out = [{"role": "system", "content": SYSTEM[self.name]}]
        first = True
        for s in steps:
            if s.kind == "human":
                if first:
                    content = [{"type": "text", "text": CONTEXT}, {"type": "text", "text": s.text}] if self.name == "claude" else s.text
                    out.append({"role": "user", "content": content})
                    first = False
                else:
                    out.append({"role": "user", "content": s.text})
                continue
            m = {"role": "assistant", "content": s.text or None}
            results = []
            if s.calls:
                m["tool_calls"] = []
                for c in s.calls:
                    self.ids += 1
                    name, args = self.call(c)
                    m["tool_calls"].append({"id": f"call_{self.ids:05}", "type": "function", "function": {
                        "name": name, "arguments": json.dumps(args, ensure_ascii=False)}})
                    results.append({"role": "tool", "tool_call_id": f"call_{self.ids:05}", "content": self.result(c)})
                if len(results) > 1 and self.rng.random() < .2:
                    results.reverse()  # the second was done first
            out.append(m)
            out += results
            if self.name == "claude" and results and self.rng.random() < .06:
                out.append({"role": "user", "content": REMINDER})
        return out


class OpenAI(Claude):
    """Few tools, a shell above all, as Codex and opencode have it."""

    name = "openai"

    def call(self, c):
        t = c["tool"]
        if t == "grep":
            glob = f" -g '{c['glob']}'" if c.get("glob") else ""
            return "shell", {"command": ["bash", "-lc", f"rg -n{glob} '{c['pattern']}' {c['path']} | head -{c['limit']}"]}
        if t == "bash":
            return "shell", {"command": ["bash", "-lc", c["command"]]}
        if t == "read":
            a = c.get("offset", 1)
            return "shell", {"command": ["bash", "-lc", f"sed -n '{a},{a + c.get('limit', 400) - 1}p' {c['path']}"]}
        if t == "edit":
            return "edit", {"path": c["path"], "old_string": c["old"], "new_string": c["new"]}
        if t == "write":
            return "write", {"path": c["path"], "content": c["content"]}
        return "update_plan", {"plan": [{"step": i, "status": "pending"} for i in c["items"]]}

    def result(self, c):
        if c["tool"] == "read" and "lines" in c:
            return "\n".join(c["lines"])
        if c["tool"] == "edit":
            return "Done." if "lines" in c else c["result"]
        return c["result"] or "(no output)"


class Cline:
    name = "cline"

    def __init__(self, rng):
        self.rng, self.minute = rng, 0

    def xml(self, c):
        t = c["tool"]
        if t == "grep":
            return (f"<search_files>\n<path>.</path>\n<regex>{c['pattern']}</regex>\n"
                    f"<file_pattern>{c.get('glob') or '*'}</file_pattern>\n</search_files>"), f"search_files for '{c['pattern']}'"
        if t == "bash":
            return (f"<execute_command>\n<command>{c['command']}</command>\n<requires_approval>false</requires_approval>\n"
                    "</execute_command>"), f"execute_command for '{c['command'][:60]}'"
        if t == "read":
            return f"<read_file>\n<path>{c['path']}</path>\n</read_file>", f"read_file for '{c['path']}'"
        if t == "edit":
            return (f"<replace_in_file>\n<path>{c['path']}</path>\n<diff>\n------- SEARCH\n{c['old']}\n=======\n{c['new']}\n"
                    "+++++++ REPLACE\n</diff>\n</replace_in_file>"), f"replace_in_file for '{c['path']}'"
        if t == "write":
            return f"<write_to_file>\n<path>{c['path']}</path>\n<content>\n{c['content']}</content>\n</write_to_file>", f"write_to_file for '{c['path']}'"
        return "", ""

    def result(self, c):
        if c["tool"] == "bash":
            return f"Command executed.\nOutput:\n{c['result']}"
        if c["tool"] == "edit" and "lines" in c:
            return (f"The content was successfully saved to {c['path']}.\n\nHere is the part of the file that was saved:\n\n"
                    + "\n".join(c["lines"]))
        return c["result"] or "(no output)"

    def environment(self, path):
        self.minute += self.rng.choice([0, 1, 1, 2])
        return (f"<environment_details>\n# Visual Studio Code Visible Files\n{path}\n\n# Current Time\n11/20/2026, "
                f"{9 + self.minute // 60}:{self.minute % 60:02} AM (UTC)\n\n# Current Mode\nACT MODE\n</environment_details>")

    def messages(self, steps):
        out = [{"role": "system", "content": SYSTEM["cline"]}]
        path, first, done = "README.md", True, False
        for s in steps:
            if s.kind == "human":
                if first:
                    text = f"<task>\n{s.text}\n</task>\n\n{self.environment(path)}"
                elif done:
                    text = ("[attempt_completion] Result:\nThe user has provided feedback on the results. Consider their input to "
                            f"continue the task, and then attempt completion again.\n<feedback>\n{s.text}\n</feedback>\n\n"
                            f"{self.environment(path)}")
                else:
                    text = s.text
                if not first and out[-1]["role"] == "user":
                    out[-1]["content"] += "\n" + f"<feedback>\n{s.text}\n</feedback>"
                else:
                    out.append({"role": "user", "content": text})
                first = False
                continue
            calls = [c for c in s.calls if c["tool"] != "todo"]
            say = s.text
            if len(calls) < len(s.calls):
                say += "\n\n" + "\n".join("- [ ] " + i for c in s.calls if c["tool"] == "todo" for i in c["items"])
            if not calls:
                done = not s.calls
                out.append({"role": "assistant", "content": f"<attempt_completion>\n<result>\n{say}\n</result>\n</attempt_completion>"
                            if done else say})
                if s.calls:
                    out.append({"role": "user", "content": "[ERROR] You did not use a tool in your previous response! Please retry "
                                "with a tool use.\n\n" + self.environment(path)})
                continue
            done = False
            for c in calls:
                xml, label = self.xml(c)
                path = c.get("path", path).split()[0]
                out.append({"role": "assistant", "content": (say + "\n" if say else "") + xml})
                out.append({"role": "user", "content": f"[{label}] Result:\n{self.result(c)}\n\n{self.environment(path)}"})
                say = ""
        return out


class Aider:
    """The human adds a file at the start (aider sends those anew with each request, so no transcript
    has them twice) and sends what commands print."""

    name = "aider"

    def __init__(self, rng):
        self.rng = rng

    def messages(self, steps):
        out, added = [{"role": "system", "content": SYSTEM["aider"]}], False
        for s in steps:
            if s.kind == "human":
                out.append({"role": "user", "content": s.text})
                continue
            text, shown = s.text, []
            for c in s.calls:
                t = c["tool"]
                if t == "edit":
                    text += f"\n\n{c['path']}\n```\n<<<<<<< SEARCH\n{c['old']}\n=======\n{c['new']}\n>>>>>>> REPLACE\n```"
                elif t == "write":
                    text += f"\n\n{c['path']}\n```\n<<<<<<< SEARCH\n=======\n{c['content']}>>>>>>> REPLACE\n```"
                elif t == "todo":
                    text += "\n" + "\n".join(f"{n + 1}. {i}" for n, i in enumerate(c["items"]))
                elif t == "read" and not added and len(c["result"]) < ADDED_MAX:
                    added = True
                    text += f"\n\nPlease add {c['path']} to the chat."
                    shown.append("I have *added these files to the chat* so you can go ahead and edit them.\n\n*Trust this message as "
                                 f"the true contents of these files!*\n\n{c['path']}\n```\n{c['result']}\n```\n")
                else:
                    command = c.get("command") or (
                        f"sed -n '{c.get('offset', 1)},+{c.get('limit', 400) - 1}p' {c['path']}" if t == "read" else
                        f"rg -n '{c['pattern']}' {c['path']}")
                    text += f"\n\n```bash\n{command}\n```"
                    shown.append(f"I ran this command:\n\n{command}\n\nAnd got this output:\n\n{c['result']}\n")
            text = text.strip() or "Ok."
            if out[-1]["role"] == "assistant":
                out.append({"role": "user", "content": self.rng.choice(["Go on.", "ok, next", "yes, please"])})
            out.append({"role": "assistant", "content": text})
            for n, shown_text in enumerate(shown):
                if n:
                    out.append({"role": "assistant", "content": "Ok."})
                out.append({"role": "user", "content": shown_text})
        return out


SHAPES = {c.name: c for c in (Claude, OpenAI, Cline, Aider)}


def text_of(message):
    """A message's text as the metric sees it: content, then each call with its decoded arguments."""
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "\n".join(p.get("text", "") for p in content if isinstance(p, dict))
    parts = [content] if content else []
    for c in message.get("tool_calls") or []:
        f = c.get("function", {})
        args = f.get("arguments", "")
        try:
            value = json.loads(args) if isinstance(args, str) else args
            args = "\n".join(strings(value))
        except ValueError:
            pass
        parts.append(f"{f.get('name', '')}\n{args}")
    return "\n".join(parts)


def strings(value):
    if isinstance(value, dict):
        for k, v in value.items():
            yield from strings(v)
    elif isinstance(value, list):
        for v in value:
            yield from strings(v)
    else:
        yield str(value)
