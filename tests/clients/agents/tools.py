"""An agent's tools as functions: for `llm`, which takes a file of them, and for langchain_agent.py."""

import subprocess


def read_file(path: str) -> str:
    """Reads a text file."""
    with open(path) as f:
        return f.read()


def edit_file(path: str, old: str, new: str) -> str:
    """Replaces a text of a file by another one."""
    text = read_file(path)
    assert old in text
    with open(path, "w") as f:
        f.write(text.replace(old, new))
    return "changed"


def run_command(command: str) -> str:
    """Runs a command and returns what it prints."""
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout
