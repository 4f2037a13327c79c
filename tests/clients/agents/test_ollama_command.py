"""The `ollama` command before both kinds of backends: lists, details, a question, one past the window, and a late answer."""

import os
import subprocess

import pytest

from agents import outside
from conftest import HASTY, KINDS, script
from harness import ROOT
from prompts import ANSWER, MODEL, SMALL_MODEL, fake, prose


@pytest.fixture(params=KINDS)
def site(request, site_with):
    return site_with(request.param, 8192, deadlines=HASTY)


@pytest.fixture
def command(site, home):
    """command("list") is what it prints."""
    program = os.path.join(script("the ollama command", os.path.join(ROOT, "tests", "ollama", "build.sh")), "bin", "ollama")

    def run(*arguments, said=""):
        done = subprocess.run([program, *arguments], input=said, capture_output=True, text=True, timeout=300,
                              env={"PATH": os.environ["PATH"], "HOME": home, "TERM": "dumb", "OLLAMA_HOST": site.url, **outside()})
        assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    return run


def test_ollama_command(site, command):
    listed = command("list")
    assert MODEL in listed and SMALL_MODEL in listed
    assert "context length" in command("show", MODEL) and "context length" in command("show", SMALL_MODEL)
    assert command("run", MODEL, "hello").strip() == ANSWER
    assert MODEL in command("ps")
    assert command("run", MODEL, fake(delay_ms=1000, tokens=3)).strip() == "w0 w1 w2"  # some heartbeats come first
    assert command("run", MODEL, said=prose(60000)).strip() == ANSWER
    assert site.tandem.requests()["by_strategy"]["C"] == 1 and site.complaints() == []
