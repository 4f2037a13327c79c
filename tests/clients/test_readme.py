"""What README and docs/ say: their marked blocks run, the table of keys is complete. More of it: tests/process/test_documented_*.py."""

import ast
import os
import re
import subprocess

import pytest

from harness import BIN, ROOT
from prompts import ANSWER, MODEL, SMALL_MODEL

PAGES = ["README.md", "README.pt.md", *sorted(f"docs/{n}" for n in os.listdir(os.path.join(ROOT, "docs")) if n.endswith(".md"))]


def read(*path):
    with open(os.path.join(ROOT, *path)) as f:
        return f.read()


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", read(page), re.M | re.S)


def pages_with(language):
    return [page for page in PAGES if blocks(page, language)]


def here(site, text):
    """The text of a page, with the addresses and models of this site."""
    for theirs, ours in (("127.0.0.1:8512", site.tandem.address), ("qwen2.5-coder:7b", MODEL), ("qwen3:1.7b", SMALL_MODEL),
                         ("/run/tandem", site.tandem.run_dir)):
        text = text.replace(theirs, ours)
    return text


@pytest.mark.parametrize("page", pages_with("sh"))
def test_commands(site, page):
    strict = 'set -e\ncurl() { command curl -sS --fail-with-body "$@"; }\n'
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "TANDEM_RUN_DIR": site.tandem.run_dir}
    for command in blocks(page, "sh"):
        r = subprocess.run(["bash", "-c", strict + here(site, command)], env=env, capture_output=True, text=True, timeout=60)
        assert r.returncode == 0 and r.stdout, (command, r)
        if "/chat" in command:
            assert "".join(re.findall(r'"content":"([^"]*)"', r.stdout)) == ANSWER, r.stdout
        if "curl -i" in command:
            shown = set(re.findall(r"^(X-Tandem-[\w-]+):", read("docs/quick-reference.md"), re.M))
            assert shown == set(re.findall(r"^(X-Tandem-[\w-]+):", r.stdout, re.M))


@pytest.mark.parametrize("page", pages_with("python"))
def test_python(site, page, capsys):
    for block in blocks(page, "python"):
        exec(compile(ast.parse(here(site, block)), page, "exec"), {})
    assert capsys.readouterr().out == f"{ANSWER}\n{ANSWER}\n"


def test_the_pages_have_what_is_run():
    assert {"README.md", "README.pt.md", "docs/clients.md", "docs/quick-reference.md"} <= set(pages_with("sh"))
    assert pages_with("python") == ["docs/clients.md"]
    assert {"README.pt.md", "docs/configuration.md"} <= set(pages_with("conf"))


@pytest.mark.parametrize("page", pages_with("conf"))
def test_configurations(page, tmp_path):
    for i, text in enumerate(blocks(page, "conf")):
        (tmp_path / f"{i}.conf").write_text(text)
        subprocess.run([os.path.join(BIN, "tandemctl"), "check", str(tmp_path / f"{i}.conf")], check=True)


def keys_of_the_source():
    """{key: default} of common/config/config_keys.c; None where there is none to compare."""
    source = read("common", "config", "config_keys.c")
    keys = {}
    main, device = source.split("device_keys[]")
    for group, name, default in re.findall(r"NUMBER\(KEY_\w+, (\w+), (\w+), [^,]+, [^,]+, ([\w.]+)\)", main):
        keys[f"{group}.{name}"] = default if default[0].isdigit() else None  # a named one
    for text, prefix in ((main, ""), (device, "devices[]."), (read("common/config/models.c"), "models[].")):
        for entry in re.findall(r'\{((?:\.group = "\w+",\s*)?\.name = "\w+",.*?)\}', text, re.S):
            group, name = re.search(r'\.group = "(\w+)"', entry), re.search(r'\.name = "(\w+)"', entry)
            default = re.search(r'\.text = "([^"]+)"', entry)
            keys[prefix + (group[1] + "." if group else "") + name[1]] = default[1] if default else None
    del keys["devices"], keys["models"]
    return keys


def test_every_key_stands_in_the_table():
    rows = dict(re.findall(r"^\| `((?:\w+|(?:devices|models)\[\])[.\w]*)` \|([^|]*)\| [^|]+ \|$", read("docs/configuration.md"), re.M))
    source = keys_of_the_source()
    assert len(source) > 40 and set(rows) == set(source)
    for key, default in source.items():
        if default is not None:
            said = rows[key].strip("` ")
            assert said == default or float(said) == float(default), key


def test_said_messages_are_those_of_the_programs():
    """Words that people search for: the troubleshooting page quotes what the programs print."""
    sources = "".join(read(os.path.relpath(os.path.join(folder, name), ROOT))
                      for top in ("supervisor", "workers", "common")
                      for folder, _, names in os.walk(os.path.join(ROOT, top)) for name in names if name.endswith(".c"))
    joined = re.sub(r'"\s*\n\s*"', "", sources)
    for words in ("cannot listen on", "already runs with run folder", "nothing answers at", "exited with status",
                  "is not available", "prompt_count_low", "backend_without_gpu", "no tandemd at", "must be between"):
        assert words in read("docs/troubleshooting.md") and words in joined, words
    assert "maximum context length is" in read("docs/protocols.md") and "maximum context length is" in joined
