"""The server's own code behind a pipe: build/bin/eval-driver (driver.c)."""

import re
import subprocess

MARKS = re.compile(
    r"\[\.\.\d+(?: bytes)?\]|\[Earlier part of this conversation, condensed\..*?tell who spoke\.\]|\[Further on, condensed later; headers begin with [0-9a-f]{4}\.\]|\[Earlier conversation, condensed\]|"
    r"^\[[0-9a-f]{4} (?:notes of a small model .*|end of the notes)\]$|^\[seen:|^\[(?:[0-9a-f]{4} )?(?:tool|assistant|user|system)\]|\[\d+ pictures? left out, \d+ bytes\]|"
    r"\[omitted §[0-9a-f]{8} \d+ lines\]", re.M)


class Failed(Exception):
    pass


class Driver:
    def __init__(self, path, tune=()):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for setting in tune:
            name, _, value = setting.partition("=")
            self.ask("tune", name, value)

    def ask(self, operation, *args, body=b""):
        """(bytes of the answer, or None where there is nothing to shrink; a dict of figures)."""
        p = self.process
        p.stdin.write(" ".join([operation, *map(str, args), str(len(body))]).encode() + b"\n" + body)
        p.stdin.flush()
        head = p.stdout.readline().decode().split()
        if not head:
            raise Failed(f"the driver ended at {operation} {args}")
        meta = dict(x.split("=", 1) for x in head[2:] if "=" in x)
        if head[0] == "error":
            raise Failed(f"{operation} {args}: {' '.join(head[2:])}")
        text = p.stdout.read(int(head[1]))
        return (text if head[0] == "ok" else None), meta

    @staticmethod
    def without_marks(text):
        return MARKS.sub(" ", text)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
