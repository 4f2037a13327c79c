"""The agents: where each one's program is, its settings for a tandem, and what its tools are called.

Settings are those of docs/clients.md. No agent reaches anything but the tandem: other addresses are behind a proxy that nobody listens
at, and what reports, updates or signs in is turned off where there is a switch for it.
"""

import json
import os

from prompts import MODEL, SMALL_MODEL
from scripted import LAST, RUN, WELL, calls, step

HERE = os.path.dirname(os.path.abspath(__file__))


def outside():
    """What keeps a program from reaching anybody but this machine."""
    proxies = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1,localhost"}
    return {**proxies, **{name.upper(): value for name, value in proxies.items()}}


class Agent:
    """One agent, installed in `folder` by etc/setup/clients.sh, with a home of its own."""

    dialect = "/v1/chat/completions"  # where its conversation goes
    mark = '"tools":[{'  # what only the requests of its conversation have in them
    window = 16384  # its first request fits, and some long files
    keeps = 0.99  # of a request, at the beginning of the next one
    keeps_shortened = 0.9  # of the first request, at the beginning of each later one, when there is more than fits the window
    result = WELL  # what the last request must tell the model
    key = "unused"

    def __init__(self, folder, home):
        self.folder, self.home = folder, home

    def answers(self, project):
        """What the model says: it reads the long files and calc.py, mends that, runs the check, and is done."""
        edit = self.edit(project.path("calc.py"), "a - b", "a + b")
        return calls([*(self.read(project.path(name)) for name in [*project.parts, "calc.py"]), edit, self.run(RUN)])

    def settings(self, url):
        """Writes what the agent reads at its start; what its environment has besides."""
        return {}

    def program(self, *path):
        return os.path.join(self.folder, "node_modules", *path)

    def environment(self):
        return {"PATH": os.environ["PATH"], "HOME": self.home, "TERM": "dumb", "LANG": "C.UTF-8", "NO_COLOR": "1", "CI": "1", **outside()}

    def write(self, path, content):
        path = os.path.join(self.home, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(content if isinstance(content, str) else json.dumps(content))
        return path


class ClaudeCode(Agent):
    dialect = "/v1/messages"
    mark = '"name":"Read"'
    window = 32768

    def command(self, url, prompt):
        return [self.program("@anthropic-ai", "claude-code-linux-x64", "claude"), "-p", prompt, "--dangerously-skip-permissions"]

    def settings(self, url):
        return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": self.key, "ANTHROPIC_MODEL": MODEL,
                "ANTHROPIC_DEFAULT_HAIKU_MODEL": SMALL_MODEL, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "IS_SANDBOX": "1"}

    def read(self, path):
        return "Read", {"file_path": path}

    def edit(self, path, old, new):
        return "Edit", {"file_path": path, "old_string": old, "new_string": new}

    def run(self, command):
        return "Bash", {"command": command, "description": "Runs the check"}


class ClaudeCodeByAlias(ClaudeCode):
    """It asks for the models that it knows."""

    def settings(self, url):
        named = super().settings(url)
        return {name: value for name, value in named.items() if not name.endswith("_MODEL")}


class OpenCode(Agent):
    def command(self, url, prompt):
        return [self.program("opencode-linux-x64", "bin", "opencode"), "run", "--print-logs", prompt]

    def settings(self, url):
        models = {MODEL: {"name": MODEL, "limit": {"context": 200000, "output": 4096}},
                  SMALL_MODEL: {"name": SMALL_MODEL, "limit": {"context": 8192, "output": 1024}}}
        self.write(".config/opencode/opencode.json", {
            "provider": {"tandem": {"npm": "@ai-sdk/openai-compatible", "name": "tandem", "models": models,
                                    "options": {"baseURL": url + "/v1", "apiKey": "unused"}}},
            "model": f"tandem/{MODEL}", "small_model": f"tandem/{SMALL_MODEL}", "autoupdate": False, "share": "disabled"})
        return {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}

    def read(self, path):
        return "read", {"filePath": path}

    def edit(self, path, old, new):
        return "edit", {"filePath": path, "oldString": old, "newString": new}

    def run(self, command):
        return "bash", {"command": command, "description": "Runs the check"}


class Cline(Agent):
    dialect = "/api/chat"

    def command(self, url, prompt):
        return [self.program("@cline", "cli-linux-x64", "bin", "cline"), "--json", "-P", "ollama", "-m", MODEL, prompt]

    def settings(self, url):
        self.write(".cline/data/settings/providers.json", {"version": 1, "lastUsedProvider": "ollama", "providers": {"ollama": {
            "settings": {"provider": "ollama", "model": MODEL, "baseUrl": url, "contextWindow": 200000, "apiKey": self.key},
            "updatedAt": "2026-11-29T00:00:00.000Z", "tokenSource": "manual"}}})
        return {}

    def read(self, path):
        return "read_files", {"files": [{"path": path}]}

    def edit(self, path, old, new):
        return "editor", {"path": path, "old_text": old, "new_text": new}

    def run(self, command):
        return "run_commands", {"commands": [command]}


class QwenCode(Agent):
    window = 32768

    def command(self, url, prompt):
        return ["node", self.program(".bin", "qwen"), "--yolo", "--auth-type", "openai", prompt]

    def settings(self, url):
        return {"OPENAI_BASE_URL": url + "/v1", "OPENAI_API_KEY": self.key, "OPENAI_MODEL": MODEL}

    def read(self, path):
        return "read_file", {"file_path": path}

    def edit(self, path, old, new):
        return "edit", {"file_path": path, "old_string": old, "new_string": new}

    def run(self, command):
        return "run_shell_command", {"command": command, "is_background": False}


class Continue(Agent):
    def command(self, url, prompt):
        return ["node", self.program(".bin", "cn"), "-p", "--auto", "--config", os.path.join(self.home, "config.yaml"), prompt]

    def settings(self, url):
        self.write("config.yaml", f"""name: tandem
version: 1.0.0
schema: v1
models:
  - name: tandem
    provider: ollama
    model: {MODEL}
    apiBase: {url}
    roles: [chat]
    capabilities: [tool_use]
""")
        return {"CONTINUE_TELEMETRY_ENABLED": "0"}

    def read(self, path):
        return "Read", {"filepath": path}

    def edit(self, path, old, new):
        return "Edit", {"file_path": path, "old_string": old, "new_string": new}

    def run(self, command):
        return "Bash", {"command": command}


class Codex(Agent):
    """It has one tool, a shell, in which it understands patches."""

    dialect = "/v1/responses"
    model, provider, more = MODEL, "tandem", ""

    def command(self, url, prompt):
        return [self.vendored("codex"), "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", prompt]

    def vendored(self, name):
        (triple,) = os.listdir(self.program("@openai", "codex-linux-x64", "vendor"))
        return self.program("@openai", "codex-linux-x64", "vendor", triple, "bin", name)

    def settings(self, url):
        self.write(".codex/config.toml", f"""model = "{self.model}"
model_provider = "tandem"
check_for_update_on_startup = false
analytics.enabled = false
{self.more}
[model_providers.tandem]
name = "{self.provider}"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "TANDEM_KEY"
""")
        return {"TANDEM_KEY": self.key}

    def read(self, path):
        return self.run(f"cat {path}")

    def edit(self, path, old, new):
        return self.run(f"apply_patch <<'EOF'\n*** Begin Patch\n*** Update File: {path}\n@@\n-    return {old}\n+    return {new}\n"
                        "*** End Patch\nEOF\n")

    def run(self, command):
        return "exec_command", {"cmd": command}


class CodexByAlias(Codex):
    """It asks for a model that it knows: then its tools stand in the input, and the model calls them from a program that it writes."""

    model = "gpt-6-sol"
    mark = '"name":"exec"'

    def run(self, command):
        return "exec", {"input": f"text(JSON.stringify(await tools.exec_command({json.dumps({'cmd': command})})));"}


class CodexCompacting(Codex):
    """It has a server compact that it takes for OpenAI's, when a prompt has so many tokens."""

    limit = 20000
    provider, more = "OpenAI", f"model_auto_compact_token_limit = {limit}\n"


class CodexByAliasCompacting(CodexCompacting, CodexByAlias):
    """... and its tools in the input."""


class Aider(Agent):
    """It has no tools: its answers hold the change, and it runs the check itself. The first change is wrong, so that its model hears of
    the result. The files stand behind the history, which therefore is all that a request and the next one share."""

    mark = "SEARCH/REPLACE"
    keeps, keeps_shortened = 0.5, 0.1
    result = "still wrong"

    def command(self, url, prompt):
        return [os.path.join(self.folder, "bin", "python"), "-m", "aider", "--model", f"openai/{MODEL}", "--edit-format", "diff", "--yes-always",
                "--no-git", "--no-pretty", "--no-check-update", "--no-show-model-warnings", "--no-show-release-notes", "--analytics-disable",
                "--restore-chat-history", "--max-chat-history-tokens", "200000",
                "--auto-test", "--test-cmd", RUN, "--message", prompt, "calc.py", "check.py"]

    def settings(self, url):
        return {"OPENAI_API_BASE": url + "/v1", "OPENAI_API_KEY": "unused"}

    def answers(self, project):
        def change(old, new):
            return f"calc.py\n```python\n<<<<<<< SEARCH\n    return {old}\n=======\n    return {new}\n>>>>>>> REPLACE\n```\n"

        with open(project.path(".aider.chat.history.md"), "w") as f:  # it has no other way to long conversations
            f.writelines(f"\n#### What does {name} say?\n\n{project.read(name)}\n" for name in project.parts)
        return [{"text": f"{step(1)}\n\n{change('a - b', 'a * b')}"}, {"text": f"{LAST}\n\n{change('a * b', 'a + b')}"}]


class Functions(Agent):
    """With the functions of tools.py."""

    def python(self, *arguments):
        return [os.path.join(self.folder, "bin", "python"), *arguments]

    def read(self, path):
        return "read_file", {"path": path}

    def edit(self, path, old, new):
        return "edit_file", {"path": path, "old": old, "new": new}

    def run(self, command):
        return "run_command", {"command": command}


class Llm(Functions):
    dialect = "/api/chat"

    def command(self, url, prompt):
        return self.python("-m", "llm", "-m", f"ollama/{MODEL}", "--functions", os.path.join(HERE, "tools.py"), "--chain-limit", "0", prompt)

    def settings(self, url):
        return {"OLLAMA_HOST": url, "LLM_USER_PATH": self.home}


class LangChain(Functions):
    provider = "openai"

    def command(self, url, prompt):
        return self.python(os.path.join(HERE, "langchain_agent.py"), self.provider, url, MODEL, prompt)


class LangChainOllama(LangChain):
    provider, dialect = "ollama", "/api/chat"


class LangChainAnthropic(LangChain):
    provider, dialect = "anthropic", "/v1/messages"


# Name in the tests: what etc/setup/clients.sh calls its packages, and the class.
AGENTS = {
    "claude-code": ("claude-code", ClaudeCode),
    "claude-code-by-alias": ("claude-code", ClaudeCodeByAlias),
    "opencode": ("opencode", OpenCode),
    "cline": ("cline", Cline),
    "qwen-code": ("qwen-code", QwenCode),
    "continue": ("continue", Continue),
    "codex": ("codex", Codex),
    "codex-by-alias": ("codex", CodexByAlias),
    "aider": ("aider", Aider),
    "llm": ("packages", Llm),
    "langchain-openai": ("packages", LangChain),
    "langchain-ollama": ("packages", LangChainOllama),
    "langchain-anthropic": ("packages", LangChainAnthropic),
}
