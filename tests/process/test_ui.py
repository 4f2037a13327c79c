"""The page at /ui/ as a server gives it: files, documents, events; who may look, and that nobody is harmed by it.
What a browser makes of it: tests/ui."""

import json
import os
import re
import time

import pytest

from conftest import attached
from harness import ROOT, Client, fd_count, in_thread, spent, wait_for
from test_access import BEYOND, KEY, OTHER, bearer, guarded, keys, line  # noqa: F401 - two fixtures
from test_routes import prompt
from test_upgrade import upgradable  # noqa: F401 - a fixture
from tls import certificate

FOLDER = os.path.join(ROOT, "supervisor", "tell", "ui")
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
FILES = sorted(n for n in os.listdir(FOLDER) if os.path.splitext(n)[1] in TYPES)
STREAM = {"model": "m:1b", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def one(fake, tandem, folder):
    def start(**groups):
        a = fake("main", options=["--log", os.path.join(folder, "requests.log")])
        return tandem([attached(a, slots=2)], **groups), a

    return start


def look(t, path, headers=None, method="GET"):
    """(status, headers, what JSON the body is)"""
    status, answer, data = t.request(method, path, headers=headers)
    return status, answer, json.loads(data) if data and answer["Content-Type"].startswith("application/json") else data


def asked(folder):
    """What came to the backend for paths of the page."""
    with open(os.path.join(folder, "requests.log")) as f:
        return [x for x in f if "/ui" in x]


class Events(Client):
    """A reader of /ui/api/events."""

    def __init__(self, t, headers=(), **options):
        super().__init__(t, **options)
        self.send("GET", "/ui/api/events", headers=headers)
        assert self.head() == 200 and self.headers["content-type"] == "text/event-stream"
        self.text = b""

    def message(self):
        while b"\n\n" not in self.text:
            piece = self.piece()
            if not piece:
                return None
            self.text += piece
        part, self.text = self.text.split(b"\n\n", 1)
        return part.decode()

    def event(self):
        """The next event; None at the end."""
        while (m := self.message()) is not None:
            if m.startswith("data: "):
                return json.loads(m[6:])
        return None

    def hear(self, name):
        out = []
        while not out or out[-1]["event"] != name:
            out.append(self.event())
            assert out[-1] is not None, out
        return out


# --- files ---


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_what_stands_in_the_source(one, name):
    t, _ = one()
    status, headers, data = t.request("GET", f"/ui/{name}")
    with open(os.path.join(FOLDER, name), "rb") as f:
        assert status == 200 and data == f.read()
    assert headers["Content-Type"] == TYPES[os.path.splitext(name)[1]] and headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(p.split(" ", 1) for p in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    tag = headers["ETag"]
    assert re.fullmatch('"[0-9a-f]{16}"', tag) and headers["Cache-Control"] == "no-cache"
    status, again, none = t.request("GET", f"/ui/{name}", headers={"If-None-Match": f'W/"x", {tag}'})
    assert (status, none, again["ETag"]) == (304, b"", tag)
    status, again, none = t.request("HEAD", f"/ui/{name}")
    assert (status, none, again["Content-Length"]) == (200, b"", str(len(data)))


def test_the_page_names_only_its_own(one):
    """No script or style in the markup, and nothing from elsewhere: what it loads is served."""
    t, _ = one()
    page = t.request("GET", "/ui/")[2].decode()
    assert page == t.request("GET", "/ui/index.html")[2].decode()
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", page)
    loaded = set(re.findall(r'(?:src|href)="([^"#]+)"', page))
    assert loaded and loaded <= set(FILES)
    scripts = [n for n in FILES if n.endswith(".js")]
    for name in scripts:
        text = t.request("GET", f"/ui/{name}")[2].decode()
        loaded |= set(re.findall(r'from "\./([^"]+)"', text))
        if name != "uplot.min.js":
            assert "innerHTML" not in text and "http://" not in text and "https://" not in text, name
    assert set(FILES) - {"index.html"} == loaded


def test_paths_that_are_none(one):
    t, _ = one()
    for path in ("/ui/x.js", "/ui/../api/tags", "/ui/..%2f..%2fetc/passwd", "/ui/%2e%2e/x", "/ui//app.js", "/ui/app.js/", "/ui/app.js%00",
                 "/ui/README.md", "/ui/api", "/ui/api/", "/ui/api/nothing", "/ui/api/status/x", "/ui/api/%73tatus", "/ui/api/status%20x",
                 "/ui/api//", "/ui/api/" + "a" * 5000, "/ui/" + "a/" * 300):
        assert look(t, path)[0] == 404, path
    for path in ("/ui", "/ui?x=1", "//ui/", "/u%69/app.js"):
        status, headers, _ = t.request("GET", path)
        assert (status, headers["Location"]) == (308, "/ui/"), path
    for path in ("/uix", "/ui.html", "/api/ui/"):  # the backend's
        status, headers, _ = t.request("GET", path)
        assert "Content-Security-Policy" not in headers, path


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_is_only_read(one, folder, method):
    t, _ = one()
    for path in ("/ui/", "/ui/app.js", "/ui/api/status", "/ui/api/reload"):
        status, headers, _ = t.request(method, path, b"{}" if method == "POST" else None)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert asked(folder) == []


# --- documents ---


def test_documents_are_those_of_the_socket(pair):
    t, *_ = pair()
    for n in (3, 3568, 10981):
        assert t.chat("hi" if n == 3 else prompt(n), stream=True)[0] == 200
    t.wait_idle()
    told = {c["name"]: c for c in t.command("help")["commands"]}
    seen = 0
    for name in told:
        status, headers, got = look(t, f"/ui/api/{name}")
        if status == 404:
            continue
        seen += 1
        assert headers["Cache-Control"] == "no-store" and headers["Content-Security-Policy"]
        said = t.command(name)
        assert got.keys() == said.keys(), name
        if name in ("help", "fields", "keys", "counters"):
            assert name == "counters" or got == said
    assert seen >= 12 and look(t, "/ui/api/devices")[2].keys() == t.command("devices").keys()
    status, _, got = look(t, "/ui/api/status")
    ways = got["requests"]["by_strategy"]
    assert ways == t.status()["requests"]["by_strategy"] and [ways[w] for w in "ABC"] == [1, 1, 1]
    assert look(t, "/ui/api/sessions")[2]["sessions"] and look(t, "/ui/api/operation/99")[0] == 404


def test_orders_are_none(one):
    t, _ = one()
    pid = t.device("gpu0")["pid"]
    orders = ["restart", "restart/all", "restart/gpu0/--backend", "drain/gpu0", "reset", "reload", "upgrade", "cancel/x", "flush", "bench"]
    for order in orders:
        assert look(t, f"/ui/api/{order}")[0] == 404, order
    assert t.command("counters")["operations"] == 0 and t.device("gpu0")["pid"] == pid and not t.events(ev="ordered")


# --- who may look ---


def test_with_keys(guarded):  # noqa: F811
    t, a = guarded(line("laptop", KEY, "requests=1"))
    assert t.request("GET", "/ui/")[0] == t.request("GET", "/ui/app.js")[0] == 200  # a browser cannot show its key before
    for path in ("/ui/api/status", "/ui/api/events", "/ui/api/nothing", "/ui/api/"):
        for headers in (None, bearer(OTHER)):
            status, answer, _ = t.request("GET", path, headers=headers)
            assert status == 401 and answer["WWW-Authenticate"].startswith("Bearer"), path
    assert look(t, "/ui/api/status", bearer())[0] == look(t, "/ui/api/status", {"X-Api-Key": KEY})[0] == 200
    e = Events(t, [f"Authorization: Bearer {KEY}"])
    # Looking takes nothing of what the key may do at once, and counts for nobody.
    status, _, data = t.request("POST", "/api/chat", STREAM, bearer())
    assert status == 200
    assert [k["requests"] for k in t.command("keys")["keys"]] == [1]
    assert all(KEY not in json.dumps(x) for x in e.hear("request_done"))
    e.close()
    assert KEY not in t.log() and OTHER not in t.log()


def test_a_key_that_is_gone_hears_nothing_more(guarded, keys):  # noqa: F811
    t, _ = guarded(line("laptop", KEY), line("other", OTHER))
    streams = {k: Events(t, [f"Authorization: Bearer {k}"]) for k in (KEY, OTHER)}
    keys(line("other", OTHER))
    assert t.operate("reload")["state"] == "done"
    for e in streams.values():  # both end; who may asks again
        while e.event() is not None:
            pass
        e.close()
    assert t.request("GET", "/ui/api/events", headers=bearer(KEY))[0] == 401
    Events(t, [f"Authorization: Bearer {OTHER}"]).close()


def test_beyond_this_machine_with_keys_only(guarded, one):  # noqa: F811
    t, _ = one(listen=BEYOND, access={"open": True})
    for path in ("/ui/", "/ui/app.js", "/ui/api/status", "/ui/api/events"):
        status, _, said = look(t, path)
        assert status == 403 and "access.key_file" in said["error"], path
    t, _ = guarded(listen=BEYOND)
    assert look(t, "/ui/")[0] == 200 and look(t, "/ui/api/status")[0] == 401 and look(t, "/ui/api/status", bearer())[0] == 200


def test_other_pages_learn_nothing(one):
    """Pages that may use the models may not look: what is told here is more than they need."""
    t, _ = one(origins=["*"])
    own = f"127.0.0.1:{t.port}"
    for headers in ({"Origin": "http://localhost:3000"}, {"Origin": "http://example.com"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
                    {"Sec-Fetch-Site": "same-site"}, {"Origin": f"http://{own}", "Sec-Fetch-Site": "cross-site"}):
        for path in ("/ui/api/status", "/ui/api/events"):
            assert look(t, path, headers)[0] == 403, headers
    for headers in ({"Origin": f"http://{own}", "Host": own}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        assert look(t, "/ui/api/status", headers)[0] == 200, headers
    for path in ("/ui/", "/ui/api/status"):  # a name that was made to point here
        assert t.request("GET", path, headers={"Host": "evil.example"})[0] == 403


def test_the_switch(one, folder):
    t, _ = one(ui=False)
    for path in ("/ui/", "/ui/api/status"):
        status, headers, _ = t.request("GET", path)  # a path like any other that is not known
        assert status == 404 and "Content-Security-Policy" not in headers
    wait_for(lambda: len(asked(folder)) == 2, "both at the backend")
    with open(t.conf) as f:
        text = f.read()
    with open(t.conf, "w") as f:
        f.write(text.replace("ui = false", "ui = true"))
    assert t.operate("reload")["state"] == "done"
    assert t.request("GET", "/ui/")[0] == 200


def test_as_many_as_may_look_at_once(one):
    t, _ = one(limits={"ui_readers": 2})
    first, second = Events(t), Events(t)
    for path in ("/ui/api/status", "/ui/api/events"):
        status, headers, said = look(t, path)
        assert status == 503 and headers["Retry-After"] and "limits.ui_readers" in said["error"], path
    files = [Client(t).send("GET", "/ui/app.js", length=1) for _ in range(2)]  # each owes the byte of a body that nobody needs
    wait_for(lambda: look(t, "/ui/")[0] == 503, "files have room of their own")
    for c in files:
        c.sock.sendall(b"x")
        assert c.head() == 200
        c.close()
    assert t.chat("others are served")[0] == 200
    first.close()
    wait_for(lambda: look(t, "/ui/api/status")[0] == 200, "room")
    second.close()
    t.wait_idle()


# --- events ---


def test_events_as_they_happen(one):
    t, _ = one()
    e = Events(t)
    look(t, "/ui/api/status")
    t.chat("a secret of mine", stream=True)
    heard = e.hear("request_done")
    assert [x["event"] for x in heard] == sorted((x["event"] for x in heard), key=[x["event"] for x in heard].index)
    assert [x["seq"] for x in heard] == sorted(x["seq"] for x in heard)
    names = [x["event"] for x in heard]
    assert names.count("request_begin") == 1 and "plan" in names and "job_start" in names  # who looks is no event
    assert "secret" not in json.dumps(heard)
    e.close()
    t.wait_idle()


def test_a_quiet_stream_has_heartbeats(one):
    t, _ = one(deadlines={"heartbeat_ms": 50})
    e = Events(t)
    while e.message() != ": keep-alive":
        pass
    assert e.message() is not None
    e.close()


def test_who_reads_too_slowly_loses_events_and_is_told(one):
    t, _ = one(limits={"stream_bytes": 65536})
    fast, slow = Events(t), Events(t, SO_RCVBUF=4096)
    path = "/nowhere/" + "x" * 30000
    heard = in_thread(lambda: [fast.event() for _ in range(400)])
    for _ in range(400):  # 12 MB of events: more than a socket holds
        t.request("GET", path)
    assert all(x["event"] != "lost" for x in heard.join(60))
    lost, last = 0, 0
    end = t.command("counters")["events"]
    t.chat("hi")  # what is lost is told before anything newer
    while last <= end:
        x = slow.event()
        if x["event"] == "lost":
            lost += x["count"]
        else:
            last = x["seq"]
    assert lost > 0
    slow.close()
    fast.close()
    t.wait_idle()


def test_clients_that_leave_take_everything_along(one):
    t, _ = one()
    t.request("GET", "/ui/")
    before = fd_count(t.pid)
    for _ in range(3):
        open_ones = [Events(t) for _ in range(8)]
        for i, e in enumerate(open_ones):
            e.close(reset=i % 2 == 0)
        t.wait_idle()
    wait_for(lambda: fd_count(t.pid) <= before + 1, "descriptors as before")


def test_a_stream_keeps_nobody_from_stopping(one):
    t, _ = one(deadlines={"drain_ms": 60000})
    e = Events(t)
    began = time.monotonic()
    assert t.stop() == 0
    assert spent(began) < 10
    while e.event() is not None:
        pass


@pytest.mark.parametrize("waits, tls", [(65536, False), (1 << 20, False), (65536, True)])  # at most, for one reader
def test_who_reads_nothing_keeps_nobody_from_stopping(one, folder, waits, tls):
    listen = dict(zip(("certificate", "key"), certificate(folder))) if tls else {}
    t, _ = one(listen=listen, limits={"stream_bytes": waits}, deadlines={"drain_ms": 60000})
    reader, deaf = Events(t), Events(t, SO_RCVBUF=4096)
    path = "/nowhere/" + "x" * 30000
    whole = in_thread(lambda: [e for e in iter(reader.event, None)])
    for _ in range(400):  # 12 MB of events: more than a socket holds
        t.request("GET", path)
    began = time.monotonic()
    assert t.stop() == 0
    assert spent(began) < 20
    assert whole.join(60)  # to its end
    deaf.close(), reader.close()


def socket_of(t, client):
    """(state, bytes that its client has not taken) of tandemd's end of a connection; None: there is none."""
    with open("/proc/net/tcp") as f:
        for _, here, there, state, queues, *_ in (row.split() for row in f.readlines()[1:]):
            if int(here.split(":")[1], 16) == t.port and int(there.split(":")[1], 16) == getattr(client.sock, "plain", client.sock).getsockname()[1]:
                return state, int(queues.split(":")[0], 16)
    return None


def test_the_end_of_a_stream_that_stands_in_its_tls_is_not_waited_for(one, folder):
    """All of it has left the HTTP server; what the client's socket has no room for is given up all the same."""
    t, _ = one(listen=dict(zip(("certificate", "key"), certificate(folder))), limits={"stream_bytes": 1 << 20, "idle_ms": 600000})
    reader, deaf = Events(t), Events(t, SO_RCVBUF=4096)
    path, held = "/nowhere/" + "x" * 30000, [0, 1, 2]
    while len(set(held[-3:])) > 1:  # until two events in a row find no room
        t.request("GET", path)
        while reader.event().get("path") != path:
            pass
        t.status()
        held.append(socket_of(t, deaf)[1])
    assert t.operate("reload")["state"] == "done"
    while reader.event() is not None:
        pass
    wait_for(lambda: (socket_of(t, deaf) or "none")[0] != "01", "the end of the connection")  # 01: established
    deaf.close(), reader.close()


@pytest.mark.parametrize("tls", [False, True])
def test_who_reads_no_answer_keeps_nobody_from_stopping(one, folder, tls):
    listen = dict(zip(("certificate", "key"), certificate(folder))) if tls else {}
    t, _ = one(listen=listen, limits={"recent_event_bytes": 2 << 20}, deadlines={"drain_ms": 60000})
    path = "/nowhere/" + "x" * 30000
    for _ in range(60):
        t.request("GET", path)
    deaf = Client(t, SO_RCVBUF=4096)
    deaf.sock.sendall(b"GET /ui/api/recent HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8)
    assert deaf.head() == 200 and deaf.left > 1 << 20  # 8 MB and more: more than a socket holds
    began = time.monotonic()
    assert t.stop() == 0
    assert spent(began) < 20
    deaf.close()


def test_a_stream_ends_with_its_tandemd_at_an_upgrade(fake, upgradable):  # noqa: F811
    a = fake("main")
    t = upgradable([attached(a)])
    old = t.status()["pid"]
    e = Events(t)
    t.upgrade()
    while e.event() is not None:  # it ends, and the page asks again
        pass
    wait_for(lambda: t.status()["pid"] != old, "the new one in charge")
    again = Events(t)
    t.request("GET", "/api/tags")
    assert again.event()
    again.close(), e.close()


def test_cancelled_by_the_operator(one):
    t, _ = one()
    e = Events(t)
    t.request("GET", "/nowhere")
    rid = e.hear("request_begin")[-1]["req"]
    made = [f"{rid.split('-')[0]}-{n:x}" for n in range(int(rid.split("-")[1], 16))]  # its own id is one of those before
    assert sum(t.command(f"cancel {i}").get("cancelled") == i for i in made) == 1
    while e.event() is not None:
        pass
    e.close()
    t.wait_idle()


def test_a_key_that_a_reload_takes_away_while_its_request_comes_in(guarded, keys):  # noqa: F811
    t, _ = guarded(line("laptop", KEY), line("desk", OTHER))
    stays, goes = (Client(t).send("GET", "/ui/api/status", b"x", [f"Authorization: Bearer {k}"], 2) for k in (KEY, OTHER))
    for _ in range(2):
        assert look(t, "/ui/api/status", bearer())[0] == 200
    keys(line("laptop", KEY))
    assert t.operate("reload")["state"] == "done"
    for c in (stays, goes):
        c.sock.sendall(b"y")
    assert stays.head() == 200 and goes.head() == 401 and "www-authenticate" in goes.headers
    stays.close(), goes.close()


# --- what is kept of a request ---


def talk(n):
    """A conversation whose old results are long enough to be shortened."""
    out = [{"role": "system", "content": "You help."}]
    for i in range(n):
        out += [{"role": "user", "content": f"secret question {i}"}, {"role": "assistant", "content": prompt(700)}]
    return out + [{"role": "user", "content": "and now?"}]


@pytest.mark.parametrize("most", [200, 4])
def test_a_request_tells_of_its_messages_and_its_conversation(pair, most):
    t, *_ = pair(limits={"request_messages": most})
    first, second = talk(6), talk(6)
    second += [{"role": "assistant", "content": "so"}, {"role": "user", "content": "go on"}]
    ids = [t.chat(m, stream=True)[1]["X-Tandem-Request-Id"] for m in (first, second)]
    t.wait_idle()
    whole = [look(t, f"/ui/api/request/{i}")[2] for i in ids]
    assert whole == [t.command(f"request {i}") for i in ids]
    for messages, r in zip((first, second), whole):
        assert r["strategy"] in "BC" and len(r["messages"]) == min(most, len(messages)) and r["messages_lost"] == max(0, len(messages) - most)
        assert [m["role"] for m in r["messages"]] == [m["role"] for m in messages][r["messages_lost"]:]
        kept = messages[r["messages_lost"]:]
        assert [m["bytes_in"] for m in r["messages"]] == [len(m["content"]) for m in kept]
        assert all(m["bytes_out"] <= m["bytes_in"] + 200 and m["level"] and m["reason"] for m in r["messages"])
        assert r["messages"][-1]["bytes_out"] == r["messages"][-1]["bytes_in"]
        assert "secret" not in json.dumps(r)
    if most > 20:
        assert any(m["bytes_out"] < m["bytes_in"] for m in whole[1]["messages"])
    assert whole[0]["session"] == whole[1]["session"] == t.command("sessions")["sessions"][0]["session"]
    assert [r["prefix"] for r in whole] == ["new", "kept"]
    assert [r["session"] for r in look(t, "/ui/api/requests/2")[2]["requests"]] == [whole[0]["session"]] * 2
    assert look(t, "/ui/api/request/x-1")[0] == look(t, "/ui/api/requests/x")[0] == 404


# --- a way that is asked for ---


@pytest.mark.parametrize("mode", ["threshold", "adaptive"])
def test_a_way_that_is_asked_for(pair, mode):
    t, a, b = pair(routing={"mode": mode})
    body = {"model": "m:1b", "stream": False, "messages": [{"role": "user", "content": prompt(3568)}]}
    for way in ("A", "B", "C", "b"):
        status, headers, _ = t.request("POST", "/api/chat", body, {"X-Tandem-Route": way})
        assert (status, headers["X-Tandem-Strategy"]) == (200, way.upper())
        assert headers["X-Tandem-Reason"].startswith(f"way {way.upper()} was asked for")
    chats = [json.loads(b) for b in a.bodies() if b"messages" in b]
    assert [c["messages"] == body["messages"] for c in chats] == [True, False, False, False]  # A is the client's own text
    assert b.bodies()  # notes for B and C
    for bad in ("D", "", "AB"):
        status, _, data = t.request("POST", "/api/chat", body, {"X-Tandem-Route": bad})
        assert status == 400 and "X-Tandem-Route" in json.loads(data)["error"], bad
    status, headers, _ = t.request("POST", "/api/chat", {**body, "messages": [{"role": "user", "content": prompt(30000)}]}, {"X-Tandem-Route": "A"})
    assert status == 200 and "do not fit" in headers["X-Tandem-Reason"]  # never cut in silence
