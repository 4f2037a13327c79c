"""Open WebUI with a chat, a title, and a question about a document. `make check-open-webui`: its packages have over a gigabyte."""

import pytest

from conftest import KINDS, install
from open_webui import OpenWebUI
from prompts import ANSWER, MODEL, SMALL_MODEL


@pytest.fixture(params=KINDS)
def site(request, site_with):
    return site_with(request.param, 16384)


@pytest.fixture
def webui(site, tmp_path):
    server = OpenWebUI(install("open-webui"), str(tmp_path), site.url)
    yield server
    server.stop(deadline=60)


def classes(site):
    return [e["class"] for e in site.tandem.events(ev="plan")]


def test_chat_title_and_document(site, webui):
    assert {m["id"] for m in webui.call("/api/models")["data"]} == {MODEL, SMALL_MODEL}
    assert webui.ask("Hello") == ANSWER
    talk = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": ANSWER}]
    title = webui.call("/api/v1/tasks/title/completions", {"model": MODEL, "messages": talk})
    assert title["choices"][0]["message"]["content"] == ANSWER
    assert classes(site) == ["interactive", "idle"]  # nobody waits for a title

    # What a document says comes with the question. For it, too, a person waits; so one does for the words that are searched for.
    locks = "".join(f"Lock number {i} is kept by keeper {i * 7}.\n" for i in range(400))
    site.main.fault(match="generating search queries", text='{"queries": ["keeper of a lock"]}')
    document = webui.upload("locks.txt", locks)
    assert webui.ask("Who keeps lock 5?", files=[{"type": "file", "id": document, "name": "locks.txt"}]) == ANSWER
    assert classes(site)[2:] == ["interactive"] * 2
    asked = site.talks()[-1].body
    assert "is kept by keeper" in asked and "Who keeps lock 5?" in asked
    assert site.complaints() == [] and site.tandem.requests()["refused"] == 0
