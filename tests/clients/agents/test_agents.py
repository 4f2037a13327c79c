"""Each agent does a whole task: it reads a file, changes it, runs a command and ends. Before both kinds of backends, once with everything
in the window and once with files that do not fit it; and with answers that take their time.
"""

import hashlib
import subprocess

import pytest

from agents import AGENTS, CodexByAliasCompacting, CodexCompacting
from conftest import HASTY, KINDS, install
from scripted import LAST, PROMPT, Project, play


@pytest.fixture(params=AGENTS)
def agent(request, home):
    packages, agent = AGENTS[request.param]
    return agent(install(packages), home)


def work(agent, site, project, **more):
    """The agent at its task; what it printed. `more` is added to each answer of the model."""
    play(site.main, agent.mark, agent.answers(project), **more)
    done = subprocess.run(agent.command(site.url, PROMPT), cwd=project.folder, env={**agent.environment(), **agent.settings(site.url)},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout


def assert_done(agent, site, project, printed):
    """The task is done, the agent has seen it, and nobody has refused anything."""
    project.assert_mended()
    assert LAST in printed
    talks = site.talks()
    assert all(t.status == 200 and t.end == "done" for t in talks)
    assert agent.result in talks[-1].body
    counts = site.tandem.requests()
    assert [counts[k] for k in ("failed", "refused", "cancelled", "fallbacks")] == [0, 0, 0, 0]
    assert agent.dialect in {e["path"] for e in site.tandem.events(ev="job_start") if e.get("path")}
    assert site.complaints() == []
    return talks


@pytest.mark.parametrize("kind", KINDS)
def test_task(agent, site_with, tmp_path, kind):
    """Nothing is shortened, and each request begins with all of the one before it: the backend reads only what is new."""
    site, project = site_with(kind, 65536), Project(str(tmp_path / "project"))
    talks = assert_done(agent, site, project, work(agent, site, project))
    assert len(talks) == len(agent.answers(project)) and site.tandem.requests()["by_strategy"]["C"] == 0
    for before, now in zip(talks, talks[1:]):
        assert now.cached >= agent.keeps * before.prompt


@pytest.mark.parametrize("kind", KINDS)
def test_task_past_the_window(agent, site_with, tmp_path, kind):
    """Eight long files do not fit the window together. The conversation is shortened, nothing is refused, and what an agent begins with
    stays in the backend's cache."""
    site, project = site_with(kind, agent.window), Project(str(tmp_path / "project"), parts=8)
    talks = assert_done(agent, site, project, work(agent, site, project))
    assert site.tandem.requests()["by_strategy"]["C"] > 0
    assert all(t.prompt < agent.window for t in talks)
    assert all(t.cached >= agent.keeps_shortened * talks[0].prompt for t in talks[1:])


def test_task_with_slow_answers(agent, site_with, tmp_path):
    """Before the first byte of each answer come heartbeats, about ten. Nobody takes them for an answer or for an error."""
    site, project = site_with("llama-server", 65536, deadlines=HASTY), Project(str(tmp_path / "project"))
    assert_done(agent, site, project, work(agent, site, project, delay_ms=1000))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codex", [CodexCompacting, CodexByAliasCompacting])
def test_codex_has_its_history_compacted(site_with, tmp_path, home, codex, kind):
    """At its own limit, by an item of its conversation: no model is asked for that, and the work goes on from the block."""
    agent, site, project = codex(install("codex"), home), site_with(kind, 65536), Project(str(tmp_path / "project"), parts=8)
    talks = assert_done(agent, site, project, work(agent, site, project))
    compacted = site.tandem.events(ev="compacted")
    assert compacted and all(0 < int(e["tokens_after"]) < int(e["tokens_before"]) for e in compacted)
    assert len(talks) == len(agent.answers(project)) and max(t.prompt for t in talks) < 1.5 * agent.limit
    assert any("[tandem compaction" not in t.body and "[.." in t.body for t in talks)


KEY = "sk-tandem-" + "d4" * 32


@pytest.fixture
def locked(site_with, tmp_path):
    """A site that wants a key."""
    path = tmp_path / "keys"
    path.write_text(f"laptop sha256:{hashlib.sha256(KEY.encode()).hexdigest()} requests=4\n")
    return site_with("llama-server", 65536, access={"key_file": str(path), "changes": "off"})


def named(name, home):
    packages, agent = AGENTS[name]
    return agent(install(packages), home)


@pytest.mark.parametrize("name", ["claude-code", "codex", "cline"])
def test_task_with_a_key(locked, tmp_path, home, name):
    """Of each dialect one agent: with its key it is let in, at all that it asks, and nothing stands in a log of it."""
    agent, project = named(name, home), Project(str(tmp_path / "project"))
    agent.key = KEY
    assert_done(agent, locked, project, work(agent, locked, project))
    (laptop,) = locked.tandem.command("keys")["keys"]
    assert laptop["name"] == "laptop" and laptop["requests"] > 0
    assert KEY not in locked.tandem.log()


@pytest.mark.parametrize("name", ["codex", "cline"])
def test_task_with_a_wrong_key(locked, tmp_path, home, name):
    """It says so, and ends; no model is asked. (Claude Code does, too, after three minutes of trying again.)"""
    agent, project = named(name, home), Project(str(tmp_path / "project"))
    done = subprocess.run(agent.command(locked.url, PROMPT), cwd=project.folder, env={**agent.environment(), **agent.settings(locked.url)},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200)
    assert "not known here" in done.stdout + done.stderr or "401" in done.stdout + done.stderr, (done.stdout[-2000:], done.stderr[-2000:])
    assert locked.talks() == []
