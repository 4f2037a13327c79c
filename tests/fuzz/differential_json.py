#!/usr/bin/env python3
"""Compare common/json with Python's json over mutated documents.

Both must accept the same texts and read the same values from them. Where Python is lax the oracle here is made strict:
NaN and Infinity, invalid UTF-8; a surrogate alone reads as U+FFFD. Numbers are compared as text, members in order, duplicates included.

    differential_json.py ORACLE [--count N] [--seed N]    mutations; exit 1 on any difference
    differential_json.py ORACLE --time DIR                time parsing at 62 KB, 1 MB and 20 MB
"""

import argparse
import json
import pathlib
import random
import re
import struct
import subprocess
import sys

MAX_DEPTH = 128
SEEDS = pathlib.Path(__file__).parent / "seeds" / "json"

# What breaks parsers, as bytes to put anywhere.
FRAGMENTS = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b" ", b"\n", b"\t", b"\r", b"\0", b"\x1f", b"\x7f", b"\x0b",
    b"-", b"+", b".", b"e", b"E", b"0", b"1", b"00", b"1e5", b"-0", b"1.0e+07", b"9007199254740993", b"1e999",
    b"null", b"true", b"false", b"NaN", b"Infinity", b"-Infinity", b"nul", b"undefined", b"//", b"/**/", b"'", b"#",
    b"\\u0000", b"\\u0041", b"\\u00e9", b"\\ud83d\\ude00", b"\\ud83d", b"\\ude00", b"\\ud83dx", b"\\u2028", b"\\u 041",
    b"\\u+041", b"\\u00g0", b"\\x41", b"\\'", b"\\/", b"\\b", b"\\\\", b'\\"', b"\\U0041", b"\\u",
    b"\xc3\xa9", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8", b"\xc2\xa0",
    b"\xc0\x80", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80", b"\x80", b"\xbf", b"\xff", b"\xfe", b"\xe2\x82", b"\xf0\x9f\x98",
    b"[]", b"{}", b'""', b'{"":0}', b"[1,]", b'{"a":1,}', b",,", b'"a":', b'"a":1,"a":2,',
]


class Refused(Exception):
    pass


def refuse(_):
    raise Refused


def pairs(items):
    return ("object", items)


def read(data: bytes):
    """The value, or Refused."""
    try:
        value = json.loads(
            data.decode("utf-8"), parse_int=str, parse_float=str, parse_constant=refuse, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        raise Refused from None
    return settle(value, 0)


def settle(value, depth):
    """The value as our reader sees it: no surrogates, no more than MAX_DEPTH levels."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        if depth == MAX_DEPTH:
            raise Refused
        return [settle(element, depth + 1) for element in value]
    if isinstance(value, tuple):
        if depth == MAX_DEPTH:
            raise Refused
        return ("object", [(settle(key, depth), settle(element, depth + 1)) for key, element in value[1]])
    return value


class Oracle:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(self, data: bytes):
        """The rebuilt document, or Refused."""
        self.process.stdin.write(struct.pack("<I", len(data)) + data)
        self.process.stdin.flush()
        if self.exactly(1) == b"\0":
            raise Refused
        (size,) = struct.unpack("<I", self.exactly(4))
        return self.exactly(size)

    def exactly(self, size):
        data = self.process.stdout.read(size)
        if len(data) != size:
            sys.exit(f"the oracle died with {self.process.wait()}")
        return data


def number(rng):
    text = rng.choice(["", "-"]) + rng.choice(["0", str(rng.getrandbits(rng.randint(1, 90)))])
    if rng.random() < 0.4:
        text += "." + str(rng.getrandbits(20)).zfill(rng.randint(1, 9))
    if rng.random() < 0.4:
        text += rng.choice("eE") + rng.choice(["", "+", "-"]) + str(rng.randint(0, 400)).zfill(rng.randint(1, 4))
    return text


def string(rng):
    parts = []
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        kind = rng.random()
        if kind < 0.5:
            parts.append("".join(rng.choice("abc XYZ019{}[]:,/") for _ in range(rng.randint(0, 40))))
        elif kind < 0.75:
            parts.append(rng.choice(["\\n", "\\\\", '\\"', "\\/", "\\u0000", "\\u00E9", "\\ud83d\\ude00", "\\uFFFF"]))
        else:
            parts.append(chr(rng.choice([0x7F, 0x80, 0x85, 0x7FF, 0x800, 0x2028, 0xD7FF, 0xE000, 0xFFFF, 0x1F600])))
    return '"' + "".join(parts) + '"'


def document(rng, depth=0):
    kind = rng.random()
    space = rng.choice(["", "", "", " ", "\n\t", "\r\n  "])
    if depth > 5 or kind < 0.35:
        return rng.choice([lambda: string(rng), lambda: number(rng), lambda: rng.choice(["null", "true", "false"])])()
    if kind < 0.65:
        return "[" + space + ("," + space).join(document(rng, depth + 1) for _ in range(rng.randint(0, 4))) + space + "]"
    members = (string(rng) + space + ":" + space + document(rng, depth + 1) for _ in range(rng.randint(0, 4)))
    return "{" + space + ("," + space).join(members) + "}"


def mutate(rng, data: bytes) -> bytes:
    data = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 6])):
        at = rng.randint(0, len(data))
        end = min(len(data), at + rng.choice([1, 1, 1, 2, 4, 16, 200]))
        kind = rng.random()
        if kind < 0.35:
            data[at:at] = rng.choice(FRAGMENTS)
        elif kind < 0.55:
            data[at:end] = rng.choice(FRAGMENTS)
        elif kind < 0.70:
            del data[at:end]
        elif kind < 0.80 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind < 0.88 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind < 0.94:
            to = rng.randint(0, len(data))
            data[to:to] = data[at:end]
        elif kind < 0.97:
            del data[at:]
        else:
            deep = rng.choice([1, 3, MAX_DEPTH - 6, MAX_DEPTH, MAX_DEPTH + 1, 300])
            opened, closed = rng.choice([(b"[", b"]"), (b'{"k":', b"}")])
            data = bytearray(opened * deep + bytes(data) + closed * deep)
    return bytes(data)


def compare(oracle, count, seed):
    rng = random.Random(seed)
    seeds = [p.read_bytes() for p in sorted(SEEDS.iterdir())]
    if not seeds:
        sys.exit(f"no seeds in {SEEDS}")
    accepted = wrong = 0
    for i in range(count):
        data = mutate(rng, rng.choice(seeds) if rng.random() < 0.4 else document(rng).encode())
        try:
            expected = read(data)
        except Refused:
            expected = Refused
        try:
            got = read(oracle.read(data))
        except Refused:
            got = Refused
        accepted += got is not Refused
        if got != expected:
            wrong += 1
            what = "false accept" if expected is Refused else "false refusal" if got is Refused else "other value"
            print(f"{what} (seed {seed}, mutation {i}): {data!r}", file=sys.stderr)
    print(f"{count} mutations, seed {seed}: {accepted} accepted by both, {count - accepted - wrong} refused, {wrong} differ")
    return 1 if wrong or not count // 10 < accepted < count - count // 10 else 0


def chat(size, text):
    """A chat body of about so many bytes, shaped as an agent's: many messages, a few long ones."""
    body = {"model": "qwen2.5:7b", "stream": True, "options": {"num_ctx": 32768}, "messages": [
        {"role": "system", "content": "You are a coding agent. " * 200}]}
    used = 6000
    for i in range(1 << 30):
        content = text * (20 if i % 8 == 0 else 3)
        body["messages"].append({"role": "user" if i % 2 else "assistant", "content": content, "n": i})
        used += len(json.dumps(content, ensure_ascii=False).encode()) + 50
        if used >= size:
            return json.dumps(body, ensure_ascii=False).encode()


def measure(program, directory):
    code = 'int main(int argc, char **argv)\n{\n\tprintf("%d\\n", argc);\n\treturn 0; /* ok */\n}\n'
    texts = {"code": code * 3, "portuguese": "A função não devolveu o que você pediu; é só uma questão de opção. " * 4,
             "chinese": "这个函数没有返回你要求的内容，请再检查一遍。" * 8}
    files = []
    for name, text in texts.items():
        for label, size in ("62K", 62_000), ("1M", 1 << 20), ("20M", 20 << 20):
            path = pathlib.Path(directory) / f"{name}-{label}.json"
            path.write_bytes(chat(size, text))
            files.append(path)
    path = pathlib.Path(directory) / "numbers-20M.json"
    path.write_bytes(json.dumps({"context": [i * 7 for i in range(2_000_000)], "o": [{"a": 1}] * 300_000}).encode())
    files.append(path)
    return subprocess.run([program, *files], check=False).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("oracle")
    parser.add_argument("--count", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--time", metavar="DIR")
    args = parser.parse_args()
    sys.setrecursionlimit(10_000)
    if args.time:
        return measure(args.oracle, args.time)
    return compare(Oracle(args.oracle), args.count, args.seed)


if __name__ == "__main__":
    sys.exit(main())
