"""Who may use the gateway, and for what: keys, their limits and classes, what changes a server, and where it listens."""

import hashlib
import json
import os
import subprocess

import pytest

from conftest import attached
from harness import BIN, Client, libconfig, wait_for
from test_adaptive import OPENAI as OPENAI_CHAT, lines
from test_reload import write
from test_upgrade import upgradable  # noqa: F401 - a fixture

KEY, OTHER = "sk-tandem-" + "a1" * 32, "sk-tandem-" + "b2" * 32
BEYOND = {"address": "0.0.0.0"}
OPENAI, OLLAMA, ANTHROPIC = "openai", "ollama", "anthropic"
ASKED = [("POST", "/api/chat", OLLAMA), ("POST", "/api/generate", OLLAMA), ("GET", "/api/tags", OLLAMA), ("GET", "/", OLLAMA),
         ("GET", "/api/ps", OLLAMA), ("POST", "/api/embed", OLLAMA), ("DELETE", "/api/delete", OLLAMA), ("GET", "/nowhere", OLLAMA),
         ("POST", "/v1/chat/completions", OPENAI), ("POST", "/v1/completions", OPENAI), ("GET", "/v1/models", OPENAI),
         ("GET", "/v1/models/m:1b", OPENAI), ("POST", "/v1/embeddings", OPENAI), ("GET", "/health", OPENAI), ("GET", "/slots", OPENAI),
         ("POST", "/v1/responses", OPENAI), ("POST", "/v1/responses/input_tokens", OPENAI), ("POST", "/v1/responses/compact", OPENAI), ("GET", "/v1/responses/resp_1", OPENAI),
         ("POST", "/v1/messages", ANTHROPIC), ("POST", "/v1/messages/count_tokens", ANTHROPIC)]


def line(name, key, options=""):
    return f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()} {options}\n"


def bearer(key=KEY):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keys(folder):
    """keys(lines...) writes the file anew; its path."""
    path = os.path.join(folder, "keys")

    def put(*lines):
        with open(path, "w") as f:
            f.writelines(lines)
        return path

    return put


@pytest.fixture
def guarded(fake, tandem, folder, keys):
    """guarded(lines...) -> (tandem that wants keys, its backend)."""

    def start(*lines, type="ollama", device=None, options=(), **groups):
        a = fake("main", type=type, options=["--log", os.path.join(folder, "requests.log"), *options])
        access = {"key_file": keys(*(lines or [line("laptop", KEY)])), **groups.pop("access", {})}
        return tandem([attached(a, **{"slots": 4, "num_ctx": 16384, **(device or {})})], access=access, **groups), a

    return start


def chat(path, text="hello", stream=False, **more):
    messages = [{"role": "user", "content": text}]
    ask = {"prompt": text} if path in ("/v1/completions", "/api/generate") else {"input": text} if path == "/v1/responses" else {"messages": messages}
    return {"model": "m:1b", "stream": stream, **ask, **({"max_tokens": 8} if path == "/v1/messages" else {}), **more}


def words(shape, status, data, headers):
    """The message of an error in that shape."""
    body = json.loads(data)
    if shape == OLLAMA:
        assert list(body) == ["error"]
        return body["error"]
    kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}[status]
    assert body["error"]["type"] == kind, body
    if shape == ANTHROPIC:
        assert body["type"] == "error" and body["request_id"] == headers["request-id"], body
    else:
        assert body["error"]["code"] in (status, None) and body["error"]["param"] is None, body
    return body["error"]["message"]


def asked_of(a):
    """What has come to the backend but the worker's own looks."""
    return {p for p in a.stats()["requests"]["by_path"] if p not in ("/api/tags", "/api/ps", "/api/version", "/api/show", "/health", "/props", "/v1/models")}


def sent_on(a, folder):
    """The headers of all requests that have come to the backend."""
    a.stats()  # what was answered before is in the log then
    with open(os.path.join(folder, "requests.log")) as f:
        return [json.loads(text)["headers"] for text in f]


# --- keys ---


@pytest.mark.parametrize("method, path, shape", ASKED)
def test_nothing_without_a_key(guarded, method, path, shape):
    """401 in the dialect's shape, whatever is sent in a key's place; the backend hears of none."""
    t, a = guarded()
    before = asked_of(a)
    for headers in ({}, bearer(OTHER), {"X-Api-Key": OTHER}, {"Authorization": KEY}, {"Authorization": "Basic " + KEY}, {"Authorization": ""},
                    {"X-Api-Key": "Bearer " + KEY}, {"X-Api-Key": KEY[:-1]}, {"X-Api-Key": KEY + "0"}, {"X-Api-Key": "a" * 100000},
                    {"Cookie": "key=" + KEY}):
        status, got, data = t.request(method, path, chat(path) if method == "POST" else None, headers)
        assert status == 401 and got["WWW-Authenticate"].startswith("Bearer"), (headers, status, data)
        said = words(shape, status, data, got)
        assert "key" in said and KEY not in said and "tandemctl key add" in said
        assert got["X-Tandem-Request-Id"]
    assert asked_of(a) == before
    assert t.command("keys")["unauthorized"] == 11 and t.requests()["total"] == 0


@pytest.mark.parametrize("count, status", [(8, 200), (9, 401)])
def test_a_handful_of_keys_is_looked_at(guarded, count, status):
    """Who sends a thousand costs no more than who sends none."""
    t, _ = guarded()
    c = Client(t).send("GET", "/api/tags", headers=[f"X-Api-Key: {OTHER}"] * (count - 1) + [f"Authorization: Bearer {KEY}"])
    assert c.head() == status


def test_models_are_refused_in_the_form_of_who_asks(guarded):
    t, _ = guarded()
    status, headers, data = t.request("GET", "/v1/models", None, {"anthropic-version": "2023-06-01"})
    assert status == 401
    words(ANTHROPIC, status, data, headers)


@pytest.mark.parametrize("headers", [bearer(), {"X-Api-Key": KEY}, {"authorization": "bearer   " + KEY}, {"x-API-key": KEY},
                                     {"Authorization": "Bearer of-somebody-else", "X-Api-Key": KEY}, {**bearer(), "X-Api-Key": OTHER}])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_either_header_lets_in(guarded, path, headers):
    t, _ = guarded()
    assert t.request("POST", path, chat(path), headers)[0] == 200
    assert t.request("GET", "/v1/models", None, headers)[0] == 200


def test_a_key_of_ours_stays_here(guarded, folder):
    """The header that it stands in is not handed on; one that is the backend's business is."""
    t, a = guarded()
    for path in ("/api/chat", "/api/embed", "/api/version"):
        body = chat(path) if path == "/api/chat" else {"model": "m:1b", "input": "x"} if path == "/api/embed" else None
        cases = [(bearer(), {}), ({"X-Api-Key": KEY}, {}), ({**bearer(), "X-Api-Key": KEY}, {}),
                 ({"Authorization": "Bearer theirs", "X-Api-Key": KEY}, {"Authorization": "Bearer theirs"}), ({**bearer(), "X-Api-Key": "theirs"}, {"X-Api-Key": "theirs"})]
        for sent, kept in cases:
            assert t.request("POST" if body else "GET", path, body, {**sent, "X-Case": path})[0] == 200
            last = [h for h in sent_on(a, folder) if h.get("X-Case") == path][-1]
            assert {k: v for k, v in last.items() if k in ("Authorization", "X-Api-Key")} == kept, (path, sent)
    c = Client(t).send("GET", "/api/version", headers=["Authorization: Bearer theirs", f"Authorization: Bearer {KEY}", "X-Case: twice"])
    assert c.head() == 200
    assert KEY not in json.dumps(sent_on(a, folder))


@pytest.mark.parametrize("key, carried", [(KEY, False), (OTHER, True)])
def test_what_is_read_ahead_has_no_key_of_ours(guarded, folder, key, carried):
    """What tandem asks by itself for a client's chat has that client's Authorization, unless that is for tandem."""
    t, a = guarded(type="llama-server", device={"slots": 1, "num_ctx": 8000}, options=["--prefill", "4000", "--num-ctx", "8000", "--slots", "1"],
                   routing={"mode": "adaptive", "min_gain_ms": 200, "warm": True})
    question = "Which line names function_doc_77?"
    text = f"{question}\n\n{lines('doc', 200)}\n\n{question}"
    status, headers, _ = t.request("POST", OPENAI_CHAT, chat(OPENAI_CHAT, text, stream=True), {**bearer(key), "X-Api-Key": KEY})
    assert status == 200 and headers["X-Tandem-Strategy"] in "BC", headers["X-Tandem-Reason"]
    assert wait_for(lambda: t.events(ev="warmed"), "the warming")[-1]["end"] == "done"
    seen = sent_on(a, folder)
    assert KEY not in json.dumps(seen)
    assert [h.get("Authorization") for h in seen if h.get("Authorization")] == ([f"Bearer {OTHER}"] * 2 if carried else [])


def test_names_in_logs_keys_nowhere(guarded):
    t, _ = guarded(line("laptop", KEY), line("phone", OTHER), type="llama-server")
    assert t.request("POST", "/v1/chat/completions", chat("/v1/chat/completions"), bearer())[0] == 200
    assert t.request("GET", "/health", None, {"X-Api-Key": OTHER})[0] == 200
    assert t.request("GET", "/health", None, bearer("sk-tandem-wrong"))[0] == 401
    assert [e["key"] for e in t.events(ev="request_done")] == ["laptop", "phone"]
    refused = t.events(ev="access_refused")
    assert [(e["status"], e["key"], e["path"]) for e in refused] == [("401", "unknown", "/health")]
    for secret in (KEY, OTHER, "sk-tandem-wrong", hashlib.sha256(KEY.encode()).hexdigest()):
        assert secret not in t.log()
    known = {k["name"]: k for k in t.command("keys")["keys"]}
    assert known["laptop"]["requests"] == known["phone"]["requests"] == 1 and known["laptop"]["limit"] is None


@pytest.mark.parametrize("size, expect", [(10**10, False), (200, True), (10**10, True), (None, True)])
def test_refused_before_the_body_is_sent(guarded, size, expect):
    """Nobody is told to go on with a body that nobody will read, and none is waited for."""
    t, _ = guarded()
    framing = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
    c = Client(t)
    c.sock.sendall(f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n{'Expect: 100-continue' if expect else 'X-No: expect'}\r\n\r\n".encode())
    first = c.until(b"\r\n")
    assert b" 401 " in first, first
    c.close()
    assert t.request("GET", "/v1/models", None, bearer())[0] == 200


def test_a_small_body_leaves_the_connection_open(guarded):
    t, _ = guarded()
    c = Client(t)
    for headers, status in (([], 401), ([f"X-Api-Key: {KEY}"], 200), ([], 401)):
        assert c.send("POST", "/api/chat", chat("/api/chat"), headers).head() == status
        c.rest()


# --- limits and classes ---


@pytest.mark.parametrize("path, shape", [("/api/chat", OLLAMA), ("/v1/chat/completions", OPENAI), ("/v1/responses", OPENAI), ("/v1/messages", ANTHROPIC)])
def test_as_many_requests_as_the_key_may(guarded, path, shape):
    t, a = guarded(line("one", KEY, "requests=1"), line("many", OTHER))
    a.fault(times=1, fault="hang", match="wait here")
    held = Client(t).send("POST", path, chat(path, "wait here"), [f"X-Api-Key: {KEY}"])
    a.struck()
    status, headers, data = t.request("POST", path, chat(path), bearer())
    assert status == 429 and int(headers["Retry-After"]) > 0
    assert "one has 1 requests under way" in words(shape, status, data, headers)
    assert t.request("POST", path, chat(path), bearer(OTHER))[0] == 200
    assert t.request("GET", "/api/tags", None, bearer())[0] == 200  # answered at once, it takes nobody's place
    known = {k["name"]: k for k in t.command("keys")["keys"]}
    assert (known["one"]["active"], known["one"]["limit"], known["one"]["refused"]) == (1, 1, 1) and known["many"]["active"] == 0
    held.close()
    wait_for(lambda: t.command("keys")["keys"][0]["active"] == 0, "the end of the first one")
    for _ in range(3):
        assert t.request("POST", path, chat(path), bearer())[0] == 200


@pytest.mark.parametrize("own, wish, counts", [("class=idle", "interactive", "idle"), ("class=interactive", "idle", "interactive"), ("", "idle", "idle"),
                                               ("class=agent", None, "agent")])
def test_the_class_of_a_key(guarded, own, wish, counts):
    """It counts in place of what the client says; without one the client's word does."""
    t, _ = guarded(line("laptop", KEY, own))
    status, headers, _ = t.request("POST", "/api/chat", chat("/api/chat"), {**bearer(), **({"X-Tandem-Class": wish} if wish else {})})
    assert status == 200
    assert [e["class"] for e in t.events(headers["X-Tandem-Request-Id"], "plan")] == [counts]


# --- reload, upgrade ---


def test_reload_takes_keys_in_and_out(guarded, keys):
    t, a = guarded(line("laptop", KEY))
    a.fault(times=1, hang_after=2, match="go on")
    stream = Client(t).send("POST", "/api/chat", chat("/api/chat", "go on", stream=True), [f"X-Api-Key: {KEY}"])
    assert stream.head() == 200 and stream.piece()
    assert t.request("GET", "/api/tags", None, bearer(OTHER))[0] == 401
    keys(line("phone", OTHER))
    assert t.operate("reload")["state"] == "done"
    assert t.request("GET", "/api/tags", None, bearer(OTHER))[0] == 200
    assert t.request("GET", "/api/tags", None, bearer())[0] == 401
    assert [k["name"] for k in t.command("keys")["keys"]] == ["phone"] and t.requests()["active"] == 1  # what is under way goes on
    stream.close()
    t.wait_idle()


@pytest.mark.parametrize("bad, why", [(["laptop nonsense\n"], "keys:1: behind the name"), ([line("Laptop", KEY)], "keys:1: a name of"),
                                      ([line("a", KEY), "\n", line("a", OTHER)], "keys:3: the name of an earlier key"),
                                      ([line("a", KEY), line("b", KEY)], "keys:2: the hash of an earlier key"),
                                      ([line("a", KEY, "requests=0")], "keys:1: requests= wants"), ([line("a", KEY, "class=map")], "keys:1: class= must be"),
                                      ([line("a", KEY, "admin")], "keys:1: an option that is none"), (None, "keys: cannot be read")])
def test_a_bad_file_of_keys_changes_nothing(guarded, keys, bad, why):
    t, _ = guarded()
    if bad is None:
        os.unlink(keys())
    else:
        keys(*bad)
    o = t.operate("reload")
    assert o["state"] == "failed" and why in o["why"], o
    assert t.request("GET", "/api/tags", None, bearer())[0] == 200 and t.request("GET", "/api/tags")[0] == 401


def test_a_file_that_anybody_may_write_is_none(guarded, keys):
    t, _ = guarded()
    os.chmod(keys(line("laptop", KEY)), 0o666)
    assert "must not be writable by everybody" in t.operate("reload")["why"]


def test_keys_of_the_next_tandemd(fake, upgradable, keys):  # noqa: F811
    a = fake("main", options=("--slots", "4"))
    t = upgradable([attached(a, slots=4, num_ctx=16384)], access={"key_file": keys(line("laptop", KEY))})
    assert t.request("GET", "/api/tags", None, bearer())[0] == 200
    keys(line("phone", OTHER))
    t.upgrade()
    assert t.request("GET", "/api/tags", None, bearer())[0] == 401
    assert t.request("POST", "/api/chat", chat("/api/chat"), bearer(OTHER))[0] == 200


# --- what changes a server ---

CHANGES = [("POST", "/api/pull", OLLAMA), ("POST", "/api/push", OLLAMA), ("POST", "/api/create", OLLAMA), ("POST", "/api/copy", OLLAMA),
           ("DELETE", "/api/delete", OLLAMA), ("POST", "/api/blobs/sha256:" + "0" * 64, OLLAMA), ("DELETE", "/%61pi/delete", OLLAMA),
           ("POST", "/slots/0?action=save", OLLAMA), ("POST", "/slots/0?action=erase", OLLAMA), ("POST", "//props", OPENAI), ("POST", "/props", OPENAI),
           ("POST", "/lora-adapters", OPENAI), ("POST", "/models/load", OLLAMA), ("POST", "/models/unload", OLLAMA), ("POST", "/v1/load_lora_adapter", OPENAI),
           ("POST", "/x/../slots/0?action=save", OLLAMA), ("GET", "/flush_cache", OLLAMA), ("GET", "/v1/../flush_cache", OPENAI), ("PUT", "/v1/models/x", OPENAI)]
QUESTIONS = [("GET", "/api/version", None), ("POST", "/api/show", {"model": "m:1b"}), ("HEAD", "/api/blobs/sha256:" + "0" * 64, None),
             ("POST", "/api/embed", {"model": "m:1b", "input": "x"}), ("POST", "/api/chat", chat("/api/chat")), ("GET", "/v1/models", None), ("GET", "/slots", None),
             ("GET", "/props", None), ("OPTIONS", "/api/chat", None)]


@pytest.fixture
def plain(fake, tandem):
    def start(type="ollama", **groups):
        a = fake("main", type=type)
        return tandem([attached(a, slots=4, num_ctx=16384)], **groups), a

    return start


def test_no_change_from_beyond_this_machine(plain):
    """By default, where others reach the port: a 403 that says what allows it, and the backend hears of nothing."""
    t, a = plain(listen=BEYOND, access={"open": True})
    before = asked_of(a)
    for method, path, shape in CHANGES:
        status, headers, data = t.request(method, path, {"model": "m:1b"} if method != "GET" else None)
        assert status == 403 and 'changes = "on"' in words(shape, status, data, headers), (method, path, status, data)
    assert asked_of(a) == before
    c = Client(t)
    c.sock.sendall(b"DELETE /v1/\xff\"\\ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert c.head() == 403 and json.loads(c.rest())["error"]["code"] == 403
    for method, path, body in QUESTIONS:
        assert t.request(method, path, body)[0] != 403, path
    assert len(t.events(ev="access_refused")) == len(CHANGES) + 1


@pytest.mark.parametrize("groups, status", [({}, 200), ({"access": {"changes": "off"}}, 403), ({"listen": BEYOND, "access": {"open": True, "changes": "on"}}, 200)])
def test_where_changes_are_allowed(plain, groups, status):
    t, a = plain(**groups)
    assert t.request("POST", "/api/copy", {"source": "m:1b", "destination": "n:1b"})[0] == status
    assert ("/api/copy" in a.stats()["requests"]["by_path"]) == (status == 200)


def test_changes_are_reloaded(plain):
    t, a = plain()
    copy = {"source": "m:1b", "destination": "n:1b"}
    write(t, [attached(a, slots=4, num_ctx=16384)], access={"changes": "off"})
    assert t.operate("reload")["state"] == "done" and t.request("POST", "/api/copy", copy)[0] == 403
    write(t, [attached(a, slots=4, num_ctx=16384)])
    assert t.operate("reload")["state"] == "done" and t.request("POST", "/api/copy", copy)[0] == 200


# --- where it listens ---


def check(folder, text):
    conf = os.path.join(folder, "check.conf")
    with open(conf, "w") as f:
        f.write(text + 'devices = ({ name = "gpu0"; roles = ["main"]; backend = { type = "ollama"; url = "http://127.0.0.1:9"; }; });\n')
    runs = [subprocess.run([os.path.join(BIN, program), *args, conf], capture_output=True, text=True, timeout=30)
            for program, args in (("tandemctl", ["check"]), ("tandemd", ["-R", os.path.join(folder, "run"), "-t", "-c"]))]
    assert len({r.returncode == 0 for r in runs}) == 1, [(r.args, r.stdout, r.stderr) for r in runs]
    return None if runs[0].returncode == 0 else runs[0].stderr


@pytest.mark.parametrize("address, local", [("127.0.0.1", True), ("127.5.4.3", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False),
                                            ("192.168.1.5", False), ("::ffff:127.0.0.1", False)])
def test_the_network_needs_keys_or_a_word(folder, keys, address, local):
    listen = f'listen = {{ address = "{address}"; }};\n'
    said = check(folder, listen)
    assert (said is None) == local
    if not local:
        assert "check.conf:1: listen.address" in said and "tandemctl key add" in said and "open = true" in said
    assert check(folder, listen + "access = { open = true; };\n") is None
    assert check(folder, listen + f"access = {{ key_file = {libconfig(keys(line('laptop', KEY)))}; }};\n") is None


def test_keys_cannot_be_dropped_while_it_listens_to_the_network(fake, tandem, keys):
    a = fake("main")
    t = tandem([attached(a)], listen=BEYOND, access={"key_file": keys(line("laptop", KEY))})
    write(t, [attached(a)], listen={**BEYOND, "port": 0})
    o = t.operate("reload")
    assert o["state"] == "failed" and "listen.address" in o["why"]
    assert t.request("GET", "/api/tags")[0] == 401
    write(t, [attached(a)], listen={**BEYOND, "port": 0}, access={"open": True})
    assert t.operate("reload")["state"] == "done" and t.request("GET", "/api/tags")[0] == 200


# --- tandemctl key ---


def ctl(*args):
    return subprocess.run([os.path.join(BIN, "tandemctl"), *args], capture_output=True, text=True, timeout=30)


def test_a_key_is_made_and_shown_once(guarded, keys):
    t, _ = guarded()
    path = keys(line("laptop", KEY)[:-1])  # no line feed at its end
    made = ctl("key", "add", "phone", "--file", path, "--requests", "3", "--class", "idle")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert len(key) == 74 and key.startswith("sk-tandem-") and key not in made.stderr
    with open(path) as f:
        text = f.read()
    assert key not in text and line("phone", key, "requests=3 class=idle") in text and line("laptop", KEY) in text
    assert t.operate("reload")["state"] == "done"
    assert t.request("GET", "/api/tags", None, bearer(key))[0] == 200 and t.request("GET", "/api/tags", None, bearer())[0] == 200
    assert "phone" in ctl("-R", t.run_dir, "keys").stdout


def test_a_key_in_a_file_of_its_own(folder):
    path = os.path.join(folder, "new")
    first, second = ctl("key", "add", "a", "-f", path), ctl("key", "add", "b", "-f", path)
    assert first.returncode == second.returncode == 0 and first.stdout != second.stdout
    again = ctl("key", "add", "a", "-f", path)
    assert again.returncode == 1 and "has a key of that name already" in again.stderr and again.stdout == ""
    with open(path) as f:
        assert [text.split()[0] for text in f if text[0] != "#"] == ["a", "b"]
    assert os.stat(path).st_mode & 0o022 == 0


@pytest.mark.parametrize("args", [("key",), ("key", "add"), ("key", "add", "A"), ("key", "drop", "a"), ("key", "add", "a", "--requests", "0"),
                                  ("key", "add", "a", "--class", "map"), ("key", "add", "a", "b")])
def test_what_makes_no_key(folder, args):
    assert ctl(*args, "--file", os.path.join(folder, "none")).returncode == 2
    assert not os.path.exists(os.path.join(folder, "none"))


def test_no_key_where_the_file_cannot_be(folder):
    r = ctl("key", "add", "a", "--file", os.path.join(folder, "no", "where"))
    assert r.returncode == 1 and "No such file" in r.stderr and r.stdout == ""
