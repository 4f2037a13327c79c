"""docs/reference.md has every path, header, status, request of the stats socket and variable that the source has, and no other."""

import re

from documents import blocks, spans
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
