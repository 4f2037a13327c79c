"""Who may reach what: the rows of docs/security.md that are about access."""

import os
import stat


def test_run_folder_is_the_owner_s_alone(one):
    """Other local users find neither the stats socket nor the workers' ones."""
    t, _ = one()
    assert stat.S_IMODE(os.stat(t.run_dir).st_mode) == 0o700


def test_listens_on_loopback_by_default(one):
    """Nobody on the network reaches a gateway whose configuration says nothing of the address."""
    t, _ = one(listen={"address": "127.0.0.1"})
    assert t.address.startswith("127.0.0.1:")


def test_a_stranger_s_page_reaches_nothing(one):
    """A page from elsewhere, with and without a name that its DNS points here, never gets to the backend."""
    t, backend = one()
    chat = {"model": "m:1b", "messages": [{"role": "user", "content": "x"}], "stream": False}
    for headers in ({"Origin": "http://example.com"}, {"Origin": "null"}, {"Host": "example.com"},
                    {"Origin": "http://example.com", "Host": "example.com"}):
        for method, path, body in (("POST", "/api/chat", chat), ("DELETE", "/api/delete", {"model": "m:1b"}), ("GET", "/api/tags", None)):
            status, answer, data = t.request(method, path, body, headers)
            assert (status, data) == (403, b""), (headers, path)
            assert "Access-Control-Allow-Origin" not in answer
    assert not {"/api/chat", "/api/delete"} & set(backend.stats()["requests"]["by_path"])
