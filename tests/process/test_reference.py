"""docs/reference.md has every path, header, status, request of the stats socket and variable that the source has, and no other;
proto/PROTOCOL.md every record, cause and field of the link; other documents each step, state, kind and look of the doctor; and clients and
engines have the versions that are tested.
"""

import os
import re

from documents import PAGES, blocks, prose, spans
from harness import ROOT
from test_documented_names import sources
from test_documents import read

PAGE = "docs/reference.md"


def rows(heading, column=0):
    """The code in a column of the table below a heading, row by row."""
    part = read(PAGE).split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in part.splitlines() if line.startswith("| ")][1:]
    return [re.findall(r"`([^`]*)`", row[column].replace("\\|", "|")) or row[column].split(", ") for row in table]


def flat(heading, column=0):
    return [text for row in rows(heading, column) for text in row]


def test_paths():
    table = read("supervisor/requests/route.c").split("known[] = {")[1].split("};")[0]
    known = {(methods, path) for methods, path in re.findall(r'\{(\w+), "([^"]+)"', table)}
    assert len(known) > 30
    said = {tuple(text.split()) if " " in text else ("ANY", text) for text in flat("Paths") if "/" in text}
    same = set(re.findall(r"`(/[\w/]+)`", read(PAGE).split("## Paths")[1].split("\n| ")[0])) - {"/v1"}
    assert {("ANY", "/ui/"), ("ANY", "/v1/models/NAME"), ("ANY", "/v1/responses/ID")} <= said
    said -= {("ANY", "/ui/"), ("ANY", "/v1/models/NAME"), ("ANY", "/v1/responses/ID")}
    short = {(methods, path) for methods, path in known if path in same}
    assert {path for _, path in short} == same and all((methods, "/v1" + path) in known for methods, path in short)
    assert said == known - short


def test_headers_of_requests():
    text = sources("supervisor/requests/", "supervisor/front/")
    read_ = {name for name in re.findall(r'exchange_header\([^,]+, "([\w-]+)"\)', text)} | set(re.findall(r'BENCH_HEADER "([\w-]+)"', text))
    plain = {"Connection", "Expect", "If-None-Match", "Sec-Fetch-Site", "Access-Control-Request-Headers"}  # HTTP's own, as everywhere
    said = {text.partition(":")[0].lower() for text in flat("Headers of requests")}
    assert len(read_) > 8 and {n.lower() for n in read_ - plain} <= said
    assert [n for n in said if n not in text.lower() + sources("common/").lower()] == []


def test_statuses():
    text = sources("supervisor/requests/", "supervisor/front/")
    given = set(re.findall(r"(?:refuse\w*|error|fail|away|answer_empty|exchange_reply)\((?:[^;,]+, )*?\s*([45]\d\d)\b", text))
    said = set(flat("Statuses"))
    assert len(given) > 15 and given - said == set()
    everywhere = sources("supervisor/", "workers/", "common/")
    assert [n for n in said if not re.search(rf"\b{n}\b", everywhere)] == []


def test_requests_of_the_stats_socket():
    table = read("supervisor/tell/commands.c").split("commands[] = {")[1].split("};")[0]
    known = {f"{name} {args}".strip() for name, args in re.findall(r'\{"(\w+)", "([^"]*)"', table)}
    assert len(known) > 20 and set(flat("Documents and orders")) == known


def test_variables():
    looked = set(re.findall(r'getenv\("(\w+)"\)', sources("supervisor/", "workers/", "common/")))
    looked |= set(re.findall(r'define VARIABLE "(\w+)"', read("supervisor/life/handover.c")))
    scripts = sources("etc/setup/")
    said = set(flat("Environment"))
    assert len(looked) > 10 and looked <= said
    assert [name for name in said - looked if f"${{{name}:-" not in scripts] == []


def test_the_tables_are_read():
    assert len(rows("Paths")) > 10 and rows("Statuses")[0] == ["400"] and ["414", "431"] in rows("Statuses")
    assert list(blocks(PAGE)) == [] and len(list(spans(PAGE))) > 100


def names_in(function, source):
    """Those of the table of names in a C function."""
    return set(re.findall(r'"([^"]+)"', read(source).split(f" {function}(")[1].split("return")[0].split("}")[0]))


def test_steps_of_a_request():
    table = re.findall(r"^\| (`[^|]*`) \|", read("docs/traces.md"), re.M)
    assert {name for cell in table for name in re.findall(r"`(\w+)`", cell)} | {"notes"} == names_in("*step_kind_name", "supervisor/requests/steps.c")


def test_kinds_of_breaks():
    cells = re.findall(r"^\| (`[^|]*`) \|", read("docs/guardian.md"), re.M)
    said = {name for cell in cells for name in re.findall(r"`([a-z_-]+)`", cell)}
    assert names_in("*guard_kind_name", "common/guard/read.c") <= said


def test_states_of_a_worker():
    table = read("docs/supervision.md").split("| state | |\n|---|---|\n")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| ([\w-]+) \|", table, re.M)) == names_in("*worker_state_name", "supervisor/devices/worker.c")


def test_what_the_doctor_looks_at():
    """docs/doctor.md: each look, with the least that a finding of it is."""
    known = {(name, least.lower()) for name, least in re.findall(r'^\t\{"([a-z-]+)", DOCTOR_(\w+),', read("supervisor/ctl/doctor_table.c"), re.M)}
    table = re.findall(r"^\| `([a-z-]+)` \| (advice|warning|serious)\b", read("docs/doctor.md"), re.M)
    assert len(known) > 20 and set(table) == known


# --- the link ---


def numbered(enum):
    """(number, name) of each constant of an enum in proto.h, as the compiler counts."""
    out, number = [], -1
    body = re.sub(r"/\*.*?\*/", "", read("proto/proto.h"), flags=re.S).split(f"enum {enum} {{")[1].split("}")[0]
    for name, value in re.findall(r"(\w+)(?: = (\d+))?,", body):
        number = int(value) if value else number + 1
        out.append((number, name.partition("_")[2]))
    return out


def test_records_and_causes_of_the_link():
    text = read("proto/PROTOCOL.md")
    said = {(int(number), name) for number, name in re.findall(r"^\| (\d+) \| (\w+) \|", text, re.M)} | {(64, "CREDIT")}
    version = re.search(r"PROTO_VERSION (\d+)", read("proto/proto.h"))[1]
    assert f"\nVersion {version}." in text and f"`version` is {version};" in text and len(said) > 15
    assert said == set(numbered("proto_type"))
    causes = re.search(r"^Causes: (.*?)\.$", text, re.M | re.S)[1]
    assert {(int(n), name.upper()) for n, name in re.findall(r"(\d+) (\w+)", causes)} == set(numbered("proto_cause")) - {(0, "NONE")}


def test_fields_of_the_link():
    source = read("proto/fields.c")
    table = "\n".join(re.findall(r"^\| \d+ \| .*$", read("proto/PROTOCOL.md"), re.M))
    said = set(re.findall(r"`([a-z_0-9]+)`", table))
    assert len(said) > 80 and said - set(re.findall(r"\w+", source)) == set()


# --- versions ---


def pinned():
    """The text of what says which versions tests use."""
    out = [read("etc/setup/pins.sh"), read("tests/requirements.txt")]
    for folder, below, names in os.walk(os.path.join(ROOT, "tests", "clients")):
        below[:] = [b for b in below if b != "node_modules"]
        out += [read(os.path.relpath(os.path.join(folder, n), ROOT)) for n in names if n == "package.json" or n.endswith(".txt")]
    return "\n".join(out)


def test_versions_are_those_that_are_tested():
    pins = pinned()
    table = re.findall(r"^\| ([^|]+) \| ([\d., ]+) \| [^|]+ \| (?:yes|no) \|$", read("docs/clients.md"), re.M)
    said = [(client, version) for client, versions in table for version in versions.split(", ")]
    for page in PAGES:
        said += re.findall(r"(Claude Code|Codex|Ollama|`anthropic` package|`@anthropic-ai/sdk`) (\d+\.\d+\.\d+)", prose(page))
        said += [("llama.cpp", f"0.{build}.0") for build in re.findall(r"\(b(\d{5})\b|llama-server b(\d{5})\b", prose(page)) for build in build if build]
    assert len(said) > 20
    assert [f"{client} {version}" for client, version in said if not re.search(rf"[\"@=]{re.escape(version)}(?![\d.])", pins)] == []
