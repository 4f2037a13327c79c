"""Manual pages and completions: they build, are well-formed, and name what the programs have."""

import os
import re
import shutil
import subprocess

import pytest

from harness import BIN, ROOT

CTL = os.path.join(BIN, "tandemctl")


def text(*path):
    with open(os.path.join(ROOT, *path)) as f:
        return f.read()


def commands():
    """command -> its options, as `tandemctl --help` lists them."""
    help_ = subprocess.run([CTL, "--help"], capture_output=True, text=True, check=True).stdout
    part = help_.split("Commands\n")[1].split("\n\n")[0]
    return {line.split()[0]: set(re.findall(r"--[a-z]+", re.split(r"  +", line.strip())[0])) for line in part.splitlines() if re.match(r"  [a-z]", line)}


def init_options():
    help_ = subprocess.run([CTL, "--help"], capture_output=True, text=True, check=True).stdout
    part = help_.split("Options of init\n")[1].split("\n\n")[0]
    return set(re.findall(r"^  (?:-o, )?(--[a-z-]+)", part, re.M))


def config_keys():
    """Every key of the configuration, from the tables that the program reads it with."""
    main, device = text("common", "config", "config_keys.c").split("device_keys[] =")
    keys = {f"{g}.{n}" for g, n in re.findall(r"NUMBER\(KEY_\w+, (\w+), (\w+),", main)}
    for part, prefix in ((main, ""), (device, "devices[]."), (text("common", "config", "models.c"), "models[].")):
        entries = re.findall(r'(?:\.group = "(\w+)",\s*)?\.name = "(\w+)"', part)
        keys |= {prefix + (f"{g}." if g else "") + n for g, n in entries}
    return keys - {"devices", "models"}


# --- manual pages ---

PAGES = {"tandemd.8", "tandemctl.1", "tandem.conf.5"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """page -> its text as man shows it."""
    build = tmp_path_factory.mktemp("man")
    r = subprocess.run(["make", "--no-print-directory", "-C", ROOT, "man", f"BUILD={build}"], capture_output=True, text=True)
    assert r.returncode == 0 and r.stderr == "", r.stderr
    assert set(os.listdir(build / "man")) == PAGES
    out = {}
    for page in PAGES:
        env = {**os.environ, "MANWIDTH": "1000", "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8"}
        r = subprocess.run(["man", "--warnings", "-l", str(build / "man" / page)], capture_output=True, text=True, env=env)
        assert r.returncode == 0 and r.stderr == "", (page, r.stderr)
        out[page] = r.stdout
    return out


def test_pages_have_the_usual_sections(pages):
    for page, wanted in {"tandemd.8": ("SYNOPSIS", "OPTIONS", "SIGNALS", "FILES", "EXIT STATUS"),
                         "tandemctl.1": ("SYNOPSIS", "OPTIONS", "EXIT STATUS", "EXAMPLES"),
                         "tandem.conf.5": ("KEYS", "EXAMPLE", "FILES")}.items():
        for section in ("NAME", "DESCRIPTION", "SEE ALSO", *wanted):
            assert re.search(rf"^{section}$", pages[page], re.M), (page, section)
        assert "@KEYS@" not in pages[page]


def test_every_command_and_option_is_described(pages):
    page = pages["tandemctl.1"]
    for command, options in commands().items():
        line = re.search(rf"^ +{command}(?: .*)?$", page, re.M)
        assert line, command
        for option in options:
            assert option in line.group(0) or command == "wait-ready", (command, option)
    for option in init_options():
        assert option in page, option


def test_every_key_is_described(pages):
    keys = config_keys()
    assert len(keys) > 40 and {"listen.port", "run_dir", "limits.event_bytes", "devices[].backend.url", "devices[].slots", "models[].use"} <= keys
    for key in keys:
        assert re.search(rf"^ +{re.escape(key)}(?: \(default .*\))?$", pages["tandem.conf.5"], re.M), key


def test_every_request_and_option_of_tandemd_is_described(pages):
    page = pages["tandemd.8"]
    table = text("supervisor", "tell", "commands.c").split("commands[] = {")[1].split("};")[0]
    requests = re.findall(r'\{"(\w+)", "', table)
    assert "status" in requests and "cancel" in requests
    for request in requests:
        assert re.search(rf"^ +.*\b{request}\b", page, re.M), request
    usage = subprocess.run([os.path.join(BIN, "tandemd"), "-h"], capture_output=True, text=True, check=True).stdout
    for option in set(re.findall(r"(?<!\w)-[A-Za-z]\b", usage)):
        assert re.search(rf"^ +{option}\b", page, re.M), option


# --- completions ---


@pytest.fixture
def path(tmp_path):
    """A PATH with a tandemctl that knows two devices and a request."""
    program = tmp_path / "tandemctl"
    program.write_text("""#!/bin/sh
case $1 in
status) echo '{"devices":[{"name":"gpu0","roles":["main"]},{"name":"gpu-1","roles":[]}]}' ;;
jobs) echo '{"jobs":[{"job":1,"request":"ab12-3"},{"job":2,"request":"ab12-3"},{"job":3,"request":null}]}' ;;
esac
""")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}


def bash(line, env):
    script = f"""source {ROOT}/etc/completions/tandemctl.bash
COMP_WORDS=({line}"$END"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _tandemctl; printf '%s\\n' "${{COMPREPLY[@]}}" """
    r = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env={**env, "END": ""}, check=True)
    assert r.stderr == ""
    return set(r.stdout.split())


def fish(line, env):
    r = subprocess.run(["fish", "--no-config", "-c", f'source {ROOT}/etc/completions/tandemctl.fish; complete -C "{line}"'], capture_output=True, text=True,
                       env=env, check=True)
    assert r.stderr == ""
    return {s.split("\t")[0] for s in r.stdout.splitlines()}


@pytest.mark.parametrize("shell, file", [("bash", "tandemctl.bash"), ("zsh", "_tandemctl"), ("fish", "tandemctl.fish")])
def test_completions_parse_and_name_everything(shell, file):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    r = subprocess.run([shell, "-n", os.path.join(ROOT, "etc", "completions", file)], capture_output=True, text=True)
    assert r.returncode == 0 and r.stderr == "", r.stderr
    content = text("etc", "completions", file)
    for command, options in commands().items():
        assert re.search(rf"(?<![\w-]){command}(?![\w-])", content), command
        for option in options | init_options():
            assert re.search(rf"(?:-l |--){option[2:]}\b", content), option


@pytest.mark.parametrize("complete", [bash, fish])
def test_completions_offer_what_fits(complete, path):
    if not shutil.which(complete.__name__):
        pytest.skip(f"{complete.__name__} is not installed")
    all_ = commands()
    assert set(all_) <= complete("tandemctl ", path)
    for command, options in all_.items():
        if complete is bash:
            assert options <= complete(f"tandemctl {command} ", path), command
        else:
            assert options <= complete(f"tandemctl {command} --", path), command
    assert {"all", "gpu0", "gpu-1"} <= complete("tandemctl restart ", path)
    drain = complete("tandemctl drain ", path)
    assert {"gpu0", "gpu-1"} <= drain and "all" not in drain
    assert "ab12-3" in complete("tandemctl cancel ", path)
    init = complete("tandemctl init ", path) if complete is bash else complete("tandemctl init --", path)
    assert init_options() <= init


def test_zsh_completes_in_a_terminal(path):
    """zsh shows completions only on a terminal: one is made for it (zpty), and the device names are looked for in it."""
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    script = f"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1='>'; fpath=({ROOT}/etc/completions \\$fpath); autoload -Uz compinit; compinit -u -D; print READY"
zpty -r z line '*READY*READY*' || exit 1
zpty -n -w z $'tandemctl drain \\t\\t'
zpty -r z line '*gpu-1*' && print -r -- "$line"
zpty -d z
"""
    r = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, env={**path, "TERM": "dumb"}, timeout=60)
    assert "gpu-1" in r.stdout, (r.stdout, r.stderr)
