"""Web pages: which may use the gateway beside those of Ollama's own rules, and what their preflights are told."""

import os
import subprocess

import pytest

from harness import BIN

EXTENSION, STRANGER, INTRANET = "chrome-extension://abcdefghijklmnop", "http://example.com", "http://10.1.2.3:3000"
CHAT = {"model": "m:1b", "messages": [{"role": "user", "content": "x"}], "stream": False}


def ask(t, origin, method="POST", path="/api/chat", body=CHAT, **headers):
    status, answer, data = t.request(method, path, body, {"Origin": origin, **headers})
    return status, answer.get("Access-Control-Allow-Origin"), answer


def preflight(t, origin, *wanted):
    status, allowed, answer = ask(t, origin, "OPTIONS", body=None, **{"Access-Control-Request-Method": "POST",
                                                                     "Access-Control-Request-Headers": ",".join(wanted)})
    return status, {n.strip().lower() for n in (answer.get("Access-Control-Allow-Headers") or "").split(",")}


def test_extensions_by_the_configuration(one):
    t, _ = one(origins=["chrome-extension://*", INTRANET])
    for origin in (EXTENSION, INTRANET):
        assert ask(t, origin)[:2] == (200, origin)
        assert preflight(t, origin, "content-type")[0] == 204
    for origin in (STRANGER, "moz-extension://abc", INTRANET + "0", "null"):
        assert ask(t, origin)[:2] == (403, None)
        assert preflight(t, origin, "content-type") == (403, {""})


def test_extensions_by_the_environment(fake, tandem, one, monkeypatch):
    """OLLAMA_ORIGINS, as Ollama reads it."""
    monkeypatch.setenv("OLLAMA_ORIGINS", f"moz-extension://*, {INTRANET}")
    t, _ = one(origins=["chrome-extension://*"])
    for origin in (EXTENSION, INTRANET, "moz-extension://abc"):
        assert ask(t, origin)[:2] == (200, origin)
    assert ask(t, STRANGER)[:2] == (403, None)


def test_everyone(one):
    t, _ = one(origins=["*"])
    for origin in (STRANGER, EXTENSION, "null"):
        assert ask(t, origin)[:2] == (200, origin)


def test_preflight_allows_what_clients_send(one):
    """X-Tandem-Class, X-Title, x-api-key and whatever else an allowed page wants; what is no list of names is left out."""
    t, _ = one()
    page = "http://localhost:3000"
    names = {"x-tandem-class", "x-title", "x-api-key", "authorization", "content-type", "http-referer", "anthropic-version"}
    status, allowed = preflight(t, page)
    assert status == 204 and names <= allowed
    status, allowed = preflight(t, page, "x-something-new", "x-title")
    assert status == 204 and names | {"x-something-new"} <= allowed
    status, allowed = preflight(t, page, "x" * 5000)
    assert status == 204 and names <= allowed and "x" * 5000 not in allowed


def test_reload_changes_them(one):
    t, _ = one()
    assert ask(t, EXTENSION)[0] == 403
    with open(t.conf, "a") as f:
        f.write('origins = [ "chrome-extension://*" ];\n')
    assert t.operate("reload")["state"] == "done"
    assert ask(t, EXTENSION)[0] == 200


@pytest.mark.parametrize("bad", ['"example.com"', '"http://a/b"', '"http://*.a.*"', '""', '"http://a b"', "1", '"http://u@a"'])
def test_bad_patterns_are_refused(folder, bad):
    path = os.path.join(folder, "bad.conf")
    with open(path, "w") as f:
        f.write(f'origins = [ {bad} ];\ndevices = ( {{ name = "a"; roles = [ "main" ]; backend = {{ type = "ollama"; url = "http://127.0.0.1:9"; }}; }} );\n')
    r = subprocess.run([os.path.join(BIN, "tandemd"), "-t", "-c", path], capture_output=True, text=True, timeout=10)
    assert r.returncode == 2 and f"{path}:1: origins" in r.stderr, r.stderr
