"""Good requests and one bad head in a row on one connection, cut anywhere: each good one is answered, then the bad one is refused.

The library watches sockets by edges, and what it is given is not what comes in: an answer that never comes is what this looks for.
"""

import random
import threading

from heads import HEADS
from test_front import Answer, Front, chunked, request

CONNECTIONS = 400
BAD = [h for h in HEADS if h[2] not in (200, 403) and b"\r\nTransfer-Encoding: chunked\r\n\r\n" not in h[1]]


def draw(dice):
    """(bytes, how many answers of 200 come first, the bad head's name or None)"""
    good, name = [], None
    for _ in range(dice.randint(1, 6)):
        kind = dice.random()
        if kind < 0.35:
            good.append(request("/hello"))
        elif kind < 0.6:
            good.append(request("/late", "POST", body=b"x" * dice.randint(1, 200000)))
        elif kind < 0.85:
            pieces = [b"y" * dice.randint(1, 60000) for _ in range(dice.randint(0, 4))]
            good.append(request("/late", "POST", ("Transfer-Encoding: chunked",)) + chunked(*pieces))
        else:
            name, bad, *_ = dice.choice(BAD)
            return b"".join(good) + bad, len(good), name
    return b"".join(good), len(good), name


def send(sock, data, dice):
    at = 0
    try:
        while at < len(data):
            n = dice.choice([1, 3, 50, 1000, 16384, 65536, 100000])
            sock.sendall(data[at : at + n])
            at += n
    except OSError:
        pass  # refused before its end


def test_rows_of_requests():
    f = Front()
    threading.Thread(target=f.popen.stderr.read, daemon=True).start()  # a log line for each that is refused
    for seed in range(CONNECTIONS):
        dice = random.Random(seed)
        data, good, name = draw(dice)
        with f.connect() as s:
            sender = threading.Thread(target=send, args=(s, data, dice))
            sender.start()
            rest = b""
            for i in range(good):
                a = Answer(s, rest=rest)
                assert a.status == 200, (seed, i, name)
                rest = a.rest
            if name:
                try:
                    assert Answer(s, rest=rest).status >= 400, (seed, name)
                except (EOFError, ConnectionResetError):
                    pass  # its end came as a reset, since more was on its way
            sender.join()
    f.tell("stop")
    assert f.next("stopped")[1] == "clean"
    assert f.popen.wait(10) == 0
