"""Every name that a document says in backticks is one: keys and values of the configuration, options, headers, metrics, paths of HTTP and
of the tree, variables of the environment, functions, log lines, and the words that programs print.

What belongs to other people's programs stands in lists here, each with whose it is; what no document says any more must go from them.
"""

import fnmatch
import functools
import os
import re
import subprocess

import pytest

from conftest import attached
from documents import PAGES, blocks, found, prose, spans
from harness import BIN, ROOT
from test_control import ask
from test_documents import FOLDERS, TOP, files, read
from tls import certificate

SPANS = [s for page in PAGES if not page.endswith(".scd") for s in spans(page)]
TREE = list(files())


@functools.cache
def sources(*tops):
    return "\n".join(read(f) for f in TREE if f.startswith(tops) and f.endswith((".c", ".h", ".py", ".sh", ".mk", "Makefile", ".js", ".in", ".awk")))


def ours():
    return sources("common/", "proto/", "supervisor/", "workers/")


def matching(pattern):
    return [s for s in SPANS if re.fullmatch(pattern, s.text)]


def unused(known, said):
    return sorted(set(known) - set(said))


# --- configuration ---

GROUPS = ("listen", "access", "metrics", "traces", "log", "routing", "small", "prefix", "condense", "deadlines", "limits", "backoff")
KEY = rf"(devices\[\]\.backend|devices\[\]|models\[\]|small\.rules\[\]|backend|{'|'.join(GROUPS)})\.([a-z_]+)"
DEVICE = 'name = "gpu0"; roles = [ "main" ];'
BACKEND = 'backend = { type = "ollama"; url = "http://127.0.0.1:11434"; };'


def conf(group, text):
    """A whole configuration with that text in the group."""
    url = "" if text.startswith("url") else 'url = "http://127.0.0.1:11434";'
    at = {"devices[]": (f"{DEVICE} {text} {BACKEND}", ""), "backend": (f'{DEVICE} backend = {{ type = "llama-server"; {url} {text} }};', "")}
    device, rest = at.get(group.removeprefix("devices[]."), (f"{DEVICE} {BACKEND}", {
        "": text, "models[]": f"models = ( {{ {text} }} );", "small.rules[]": f"small = {{ rules = ( {{ {text} }} ); }};"}.get(group, f"{group} = {{ {text} }};")))
    return f"devices = ( {{ {device} }} );\n{rest}\n"


@pytest.fixture
def check(tmp_path):
    """check(text) is what `tandemctl check` has to say of a configuration; "" for a good one. Files of /etc/tandem stand here."""
    certificate(str(tmp_path))
    for name, there in (("fullchain.pem", "127.0.0.1.pem"), ("key.pem", "127.0.0.1.key")):
        (tmp_path / name).write_bytes((tmp_path / there).read_bytes())
        (tmp_path / name).chmod(0o600)
    (tmp_path / "keys").write_text("laptop sha256:" + "0" * 64 + "\n")

    def run(text):
        (tmp_path / "t.conf").write_text(re.sub(r"/etc/tandem/(?:tls/)?", f"{tmp_path}/", text))
        r = subprocess.run([os.path.join(BIN, "tandemctl"), "check", str(tmp_path / "t.conf")], capture_output=True, text=True)
        return "" if r.returncode == 0 else r.stderr + r.stdout

    return run


def test_every_key_is_known_to_the_program(check):
    """A value of no type that a key has is refused as such; a key that does not exist as unknown."""
    named = {}
    for s in matching(rf"{KEY}(?: = .*)?"):
        group, key = re.match(KEY, s.text).groups()
        if key not in ("c", "h", "js") or group in ("devices[]", "models[]"):
            named.setdefault((group, key), s)
    assert len(named) > 100
    assert "unknown key" in check(conf("limits", "nonsense = 1;")) and "unknown key" in check(conf("backend", "nonsense = 1;"))
    wrong = [str(s) for (group, key), s in named.items() if "unknown key" in check(conf(group, f"{key} = {{ }};"))]
    assert not wrong, "\n".join(wrong)


def fragments():
    """(said, group, text) of each piece of configuration in the text, and of the blocks that no language is said of."""
    top = (*GROUPS, "devices", "models", "ui", "origins", "run_dir", "state_dir")
    for s in SPANS:
        if m := re.fullmatch(rf"(?:{KEY}|([a-z_]+)) = (.*?);?", s.text):
            group, key, alone, value = m.groups()
            if alone in top:
                yield s, "", f"{alone} = {value};"
            elif group or f'"{alone}"' in read("common/config/config_keys.c"):
                yield s, group or "backend", f"{key or alone} = {value};"
    for page in PAGES:
        yield from ((b, "", b.text) for b in blocks(page) if re.match(rf"(?:{'|'.join(top)}) = ", b.text))


def test_every_piece_of_configuration_is_good(check):
    pieces = [(s, group, text) for s, group, text in fragments() if s.text != 'name = "OpenAI"']  # of Codex
    assert len(pieces) > 12 and any(len(text) > 60 for _, _, text in pieces)
    wrong = {}
    for s, group, text in pieces:
        text = text.replace("key_file = ...", 'key_file = "/etc/tandem/keys"').replace('address = "0.0.0.0"', 'address = "127.0.0.1"')
        if why := check(text if "devices = " in text else conf(group, text)):
            wrong[str(s)] = why
    assert not wrong, "\n".join(f"{s}: {why}" for s, why in wrong.items())


def test_the_file_of_keys_is_one(check, tmp_path):
    lines = next(b.text for b in blocks("docs/security.md") if "sha256:" in b.text)
    (tmp_path / "keys").write_text(lines)
    assert check(conf("access", f'key_file = "{tmp_path}/keys";')) == ""
    (tmp_path / "keys").write_text(lines.replace("requests=", "request="))
    assert "keys" in check(conf("access", f'key_file = "{tmp_path}/keys";'))


# --- options ---

OTHER_OPTIONS = {
    "llama-server": "--batch-size --cache-ram --embeddings --models-dir --no-slots --slot-prompt-similarity --slot-save-path --spec-type "
                    "-b -c -ctk -fa -lv -ngl -np -ts --host --port",
    "Codex": "-p",
    "Docker": "--network",
    "a compiler": "-Wall -Wextra -Werror",
    "no option, an error": "-errno",
}


def accepted():
    """Options of the programs, by what they say of themselves."""
    said = "".join(subprocess.run([os.path.join(BIN, name), "--help"], capture_output=True, text=True, check=True).stdout for name in ("tandemctl", "tandemd"))
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", said))


def test_every_option_is_accepted():
    known, others = accepted(), {o for options in OTHER_OPTIONS.values() for o in options.split()}
    fake, bench = sources("tests/fake/"), sources("tests/bench/gpus.py")
    said, wrong = set(), []
    for s in matching(r"--?[a-zA-Z].*"):
        for option in re.findall(r"(?:^|(?<= ))--?[a-zA-Z][\w-]*", s.text):
            said.add(option)
            there = option in known or option in others or f'"{option}"' in fake and s.page == "tests/fake/README.md" or \
                f'"{option}"' in bench and s.page == "docs/gpus.md"
            wrong += [] if there else [str(s)]
    assert not wrong, "\n".join(wrong)
    assert len(said) > 60
    assert unused(others, said) == []


def test_options_of_the_measuring_programs():
    """EVAL_OPTIONS and their like go to a program of tests/, which has them."""
    found_ = 0
    for s in SPANS:
        for name, value in re.findall(r"\b([A-Z]+)_OPTIONS=(?:\"([^\"]*)\"|'[^']*'|\S+)", s.text):
            text = sources(f"tests/{'bench' if name == 'GPUS' else name.lower()}/")
            for option in re.findall(r"--[a-z-]+", s.text):
                found_ += 1
                assert f'"{option}"' in text, f"{s}: {option}"
    assert found_ > 6


# --- headers and metrics ---


@pytest.fixture
def live(fake, tandem):
    a = fake("a")
    models = ({"match": "claude-*", "use": "gpu0"},)
    return tandem([attached(a, slots=2)], models=models, routing={"mode": "adaptive"})


def of_answers():
    table = re.findall(r"^\| `(X-Tandem-[\w-]+)` \|", read("docs/quick-reference.md"), re.M)
    assert len(table) > 5
    return set(table)


def test_every_header_of_ours_is_one(live):
    said = {s.text.partition(":")[0]: s for s in matching(r"X-Tandem-[\w-]+(?:: .*)?")}
    wrong = [str(s) for name, s in said.items() if f'"{name}"' not in ours()]
    assert not wrong, "\n".join(wrong)
    assert len(said) > 8
    answers = [live.request("POST", "/api/chat", {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": False})
               for model in ("m:1b", "claude-x")]
    assert all(status == 200 for status, _, _ in answers)
    assert {name for _, headers, _ in answers for name in headers if name.startswith("X-Tandem-")} == of_answers()


def test_headers_of_answers_are_shown_to_pages(live):
    _, headers, _ = live.request("GET", "/api/tags", headers={"Origin": "http://localhost:3000"})
    assert of_answers() <= set(re.split(", ?", headers["Access-Control-Expose-Headers"]))


def test_every_header_of_a_request_is_taken(live):
    said = {s.text: s for s in matching(r"X-Tandem-(?:Class|Route|Explain): [\w]+")}
    assert len(said) > 3
    _, preflight, _ = live.request("OPTIONS", "/api/chat", headers={"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"})
    for text, s in said.items():
        name, value = text.split(": ")
        status, _, data = live.request("POST", "/api/chat", {"model": "m:1b", "messages": [{"role": "user", "content": "hi"}]}, {name: value})
        assert status == 200 and (name != "X-Tandem-Explain" or b'"messages"' in data), s
        assert name in preflight["Access-Control-Allow-Headers"], s


def test_every_metric_is_served(live):
    text = live.request("GET", "/metrics")[2].decode()
    there = set(re.findall(r"^# TYPE (\w+) ", text, re.M)) | {"gen_ai_token_type"}  # a label, of metrics that have no sample here
    said = {s.text: s for s in matching(r"(?:tandem|gen_ai)_\w+")}
    assert [str(s) for name, s in said.items() if name not in there and name != "tandem_"] == [] and len(said) > 40


def members(text):
    """`a, b{c,d}` as {a: "", b: "c,d"}."""
    depth, out, word = 0, {}, ""
    for c in text + ",":
        depth += (c == "{") - (c == "}")
        if c == "," and depth == 0:
            name, _, inner = word.strip().partition("{")
            out[name.removesuffix("[]")] = inner.removesuffix("}")
            word = ""
        else:
            word += c
    return out


def held(said, document):
    """The members of a document are those that are said, within each other too."""
    named = members(said)
    assert set(named) == set(document)
    for name, inner in named.items():
        if inner:
            held(inner, document[name])


def test_the_state_in_short_has_what_is_said(live):
    text = re.sub(r"\s+", "", prose("ARCHITECTURE.md"))
    status = ask(live, "status")
    whole, device = re.search(r"`(version,pid,[^`]+)`;adevicehas`(name,[^`]+)`", text).groups()
    held(device, status["devices"][0])
    held(whole, status)


# --- paths ---

OTHER_PATHS = {
    "/run": "Open WebUI's and others' agents': docs/protocols.md",
    "/proc/PID/stat": "the kernel's",
    "/usr/local": "Debian's",
    "/models/load": "llama-server's: what is not known may change something",
}


def test_every_path_of_http_is_known():
    """It stands in the source, with what is written in capitals left open; spellings that are meant to be wrong apart."""
    text = ours() + sources("tests/fake/")
    said, wrong = set(), []
    for s in matching(r"(?:(?:GET|POST|DELETE|HEAD) )?/\w[^ ]*"):
        path = re.sub(r"^\w+ ", "", s.text)
        said.add(path)
        if path in OTHER_PATHS or path.startswith(("/etc/", "/var/", "/run/")) or "%" in path:
            continue
        path = re.split(r"\?|(?<=/)[A-Z*]", path)[0]
        last = path.removeprefix("/ui/api/")
        wrong += [] if f'"{path}' in text or f"{path.rstrip('/')}\"" in text or last != path and f'"{last}"' in text else [str(s)]
    assert not wrong, "\n".join(wrong)
    assert len(said) > 40
    assert unused(OTHER_PATHS, said) == []


def test_every_place_on_disk_is_known():
    text = ours() + sources("Makefile", "etc/")
    for s in matching(r"(?:(?:RUN_DIR|STATE_DIR|run_dir|state_dir)/|/etc/|/var/|/run/|~/\.cache/)\S+"):
        rest = re.sub(r"^(?:RUN_DIR|STATE_DIR|run_dir|state_dir)/|^~", "", s.text)
        for part in re.split(r"NAME" if s.text[0] != "~" else r"(?=/)", rest.rstrip("/")):
            assert part in text, f"{s}: {part}"


# --- the tree ---

OTHER_FILES = {
    "codex-rs/codex-api": "Codex'", "codex-rs/core/src/compact_remote_v2.rs": "Codex'",
    "dist/uPlot.iife.min.js": "uPlot's", "dist/uPlot.min.css": "uPlot's",
    "application/x-ndjson": "a media type", "text/event-stream": "a media type", "text/html": "a media type",
    "DIR/SEQ.body": "written by the scripted backend", "build/bin/tandemctl": "built",
    "opencode.json": "opencode's",
}
SUFFIXES = "c|h|py|sh|mk|js|css|html|svg|tsv|scd|rs|body|json|md"


@functools.cache
def tree():
    """(folders, files) of it."""
    walked = [(os.path.relpath(folder, ROOT), names) for top in FOLDERS for folder, _, names in os.walk(os.path.join(ROOT, top))]
    return {folder for folder, _ in walked}, {os.path.join(folder, n) for folder, names in walked for n in names} | set(TOP)


def there(name):
    """A file or folder of the tree that ends so, `*` being anything."""
    folders, names = tree()
    return any(fnmatch.fnmatch(f"/{f}", f"*/{name.rstrip('/')}") for f in (folders if name.endswith("/") else folders | names))


def test_every_file_and_folder_exists():
    said = {}
    for s in SPANS:
        if re.fullmatch(rf"[\w.*-]+(?:/[\w.*-]+)+/?|[\w-]+/|[\w*-]+\.(?:{SUFFIXES})", s.text) and not re.match(r"(?:RUN_DIR|STATE_DIR|run_dir|state_dir|tandemctl)/", s.text):
            said.setdefault(s.text, s)
    wrong = [str(s) for name, s in said.items() if name not in OTHER_FILES and not there(name)]
    assert not wrong, "\n".join(wrong)
    assert len(said) > 200
    assert unused(OTHER_FILES, said) == []
    assert not there("devices.py") and not there("no-such/") and there("test_compaction*.py")


# --- variables, functions, log lines, words ---

OTHER_VARIABLES = {
    "OLLAMA_": "Ollama's and its clients'", "OPENAI_": "OpenAI's packages'", "ANTHROPIC_": "Claude Code's", "CLAUDE_CODE_": "Claude Code's",
    "DISABLE_COMPACT": "Claude Code's", "COPILOT_": "Copilot's", "RAG_": "Open WebUI's", "OTEL_": "OpenTelemetry's",
}


def test_every_variable_is_looked_at():
    looked_at = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", ours() + sources("Makefile", "etc/", "tests/")))
    said, wrong = set(), []
    for s in SPANS:
        names = re.findall(r"(?:^|(?<= ))\$?([A-Z][A-Z0-9_]+)(?==)", s.text) + re.findall(r"^\$?([A-Z]+(?:_[A-Z0-9]+)+|PREFIX|DESTDIR|UNITDIR)$", s.text)
        for name in names:
            prefix = next((p for p in OTHER_VARIABLES if name.startswith(p)), None)
            said.add(prefix or name)
            wrong += [] if prefix or name in looked_at else [str(s)]
    assert not wrong, "\n".join(wrong)
    assert len(said) > 15
    assert unused(OTHER_VARIABLES, said) == []


def test_every_function_and_type_exists():
    other = {"rate()", "increase()", "rename()", "nng_close()"}  # Prometheus', the system's, nng's
    text = ours() + sources("tests/process/")
    said = {s.text: s for s in matching(r"\w+\(\)|(?:struct|enum) \w+")}
    wrong = [str(s) for name, s in said.items() if name not in other and not re.search(rf"\b{name.rstrip('()')}\b" + (r"\(" if "(" in name else r" \{"), text)]
    assert not wrong, "\n".join(wrong)
    assert unused(other, said) == []


def test_every_log_line_is_written():
    """`ev=NAME`, and what the text calls a log line."""
    names = {s.text[3:]: s for s in matching(r"ev=\w+")}
    for page in PAGES:
        for line, m in found(page, re.compile(r"\blog lines? (`\w+`(?:(?:, | or | and )`\w+`)*)")):
            names |= {name: f"{page}:{line}: {name}" for name in re.findall(r"\w+", m[1].replace(" or ", " ").replace(" and ", " "))}
    assert len(names) > 12
    assert [str(s) for name, s in names.items() if f'"{name}"' not in ours()] == []


def test_samples_of_the_log_have_the_fields_that_are_logged():
    lines = [(b, line) for page in PAGES for b in blocks(page) for line in b.text.splitlines() if line.startswith("ev=")]
    assert len(lines) > 2
    for b, line in lines:
        calls = re.findall(rf'log_\w+\([^;"]*"{line.split()[0][3:]}",(.*?)LOG_END', ours(), re.S)
        logged = set(re.findall(r'"(\w+)"', " ".join(calls)))
        assert set(re.findall(r" (\w+)=", re.sub(r'"[^"]*"', "", line))) <= logged, f"{b.page}: {line}"


def test_what_programs_are_said_to_print_they_print():
    """The words on the left of the tables of trouble, as far as they are not put in: numbers, names, addresses and `...`."""
    system = {"Address already in use"}
    joined = re.sub(r'"\s*\n\s*"', "", ours())
    rows = 0
    for page in ("docs/troubleshooting.md", "docs/quick-reference.pt.md"):
        for row in re.findall(r"^\| ([^|]*`[^|]*) \|", read(page).split("| o que se vê")[-1] if page.endswith(".pt.md") else read(page), re.M):
            for quoted in re.findall(r"`([^`]*)`|\*([^*]*)\*", row):
                text = "".join(quoted)
                if re.match(r"(?:X-Tandem|systemctl|FILE:|\w+$|tandemctl )", text):
                    continue
                rows += 1
                for part in re.split(r"\.\.\.|'x'|\bN\b|\"\.\.\.\"|127\.0\.0\.1|\b8512|\bgpu0\b|: |[()]|http://", text):
                    part = part.strip(" \"',")
                    assert part in joined or part in system, f"{page}: {text}: {part}"
    assert rows > 12


def test_exit_statuses_are_all_told():
    codes = set(re.findall(r"^\s+CTL_\w+ = (\d)", read("supervisor/ctl/ctl.h").split("enum ctl_exit {")[1].split("};")[0], re.M))
    assert codes == set("01234567")
    for page, begin in (("docs/quick-reference.md", "Every command exits with"), ("docs/quick-reference.pt.md", "Códigos de saída"), ("etc/man/tandemctl.1.scd", "# EXIT STATUS")):
        words = re.split(r"\n\n(?!0)", read(page).split(begin)[1])[0]
        assert set(re.findall(r"\b(\d)\b", words)) == codes, page
