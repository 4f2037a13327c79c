"""What the client packages see when something behind tandem is slow, late or gone."""

import concurrent.futures
import os
import signal

import httpx
import ollama
import openai
import pytest

from harness import Fake, wait_for
from prompts import ANSWER, BY_STRATEGY, MODEL, fake

HASTY = {"first_byte_ms": 200, "first_byte_nonstream_ms": 300, "heartbeat_ms": 100}


def user(text):
    return [{"role": "user", "content": text}]


def chat_ollama(site, text, stream):
    answer = site.ollama().chat(MODEL, user(text), stream=stream)
    return "".join(c.message.content for c in (answer if stream else [answer]))


def generate_ollama(site, text, stream):
    answer = site.ollama().generate(MODEL, text, stream=stream)
    return "".join(c.response for c in (answer if stream else [answer]))


def chat_openai(site, text, stream):
    answer = site.openai().chat.completions.create(model=MODEL, messages=user(text), stream=stream)
    if not stream:
        return answer.choices[0].message.content
    return "".join(c.choices[0].delta.content or "" for c in answer)


CLIENTS = [chat_ollama, generate_ollama, chat_openai]


def test_heartbeats_before_the_first_token(tandem_with, kind):
    """Every client reads over them, streamed or not; they are there, and early."""
    site = tandem_with(kind, deadlines=HASTY)
    slow = fake("Slowly.", delay_ms=1500)
    calls = [(client, stream) for client in CLIENTS for stream in (False, True)]
    with site.expect(A=len(calls)), concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        assert list(pool.map(lambda c: c[0](site, slow, c[1]), calls)) == [ANSWER] * len(calls)

    for path, beat in (("/api/chat", b" "), ("/v1/chat/completions", b": keep-alive\n\n")):
        body = {"model": MODEL, "messages": user(slow), "stream": True}
        with httpx.stream("POST", site.url + path, json=body, timeout=20) as r:
            data = r.read()
        beats = data.split(b"data: " if beat != b" " else b"{")[0]
        assert r.status_code == 200 and beats.count(beat) >= 3 and beats.replace(beat, b"") == b""


def test_heartbeats_while_condensing(tandem_with, kind):
    site = tandem_with(kind, deadlines=HASTY)
    for client in CLIENTS:
        site.small.fault(delay_ms=1000)
        with site.expect(B=1):
            assert client(site, BY_STRATEGY["B"], True) == ANSWER


def test_error_after_a_heartbeat_comes_in_the_stream(tandem_with, kind):
    site = tandem_with(kind, deadlines=HASTY)
    late = fake("Fail.", delay_ms=800, fault=500, error="out of memory")
    for client, error in ((chat_ollama, ollama.ResponseError), (generate_ollama, ollama.ResponseError),
                          (chat_openai, openai.APIError)):
        with pytest.raises(error, match="out of memory"):
            client(site, late, True)


def test_unavailable_then_retried(tandem_with, kind):
    """503 with Retry-After once the backend is away for too long; openai's own retry then meets it restarted."""
    site = tandem_with(kind, deadlines={"main_wait_ms": 300})
    site.main.stop()
    with pytest.raises(ollama.ResponseError, match="not available") as e:
        chat_ollama(site, "hi", True)
    assert e.value.status_code == 503
    with pytest.raises(openai.InternalServerError, match="not available") as e:
        chat_openai(site, "hi", False)
    assert e.value.status_code == 503 and int(e.value.response.headers["retry-after"]) > 0

    failed = site.counts()["failed"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        patient = site.openai(max_retries=3)
        answer = pool.submit(patient.chat.completions.create, model=MODEL, messages=user("hi"))
        wait_for(lambda: site.counts()["failed"] > failed, "first try to fail")
        site.main = Fake(site.tandem.folder, "main", type=kind, model=(MODEL,), port=site.main.port,
                         options=["--num-ctx", "16384"])
        assert answer.result(60).choices[0].message.content == ANSWER


def kill_worker(site, device):
    os.kill(site.tandem.device(device)["pid"], signal.SIGKILL)


@pytest.mark.parametrize("client", CLIENTS)
def test_worker_killed_before_the_first_token(tandem_with, kind, client):
    """The restarted worker answers; the client notices nothing."""
    site = tandem_with(kind)
    site.main.fault(fault="hang")
    with site.expect(A=1, fallbacks=1), concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client, site, "hi", True)
        wait_for(lambda: site.main.stats()["under_way"], "request at the backend")
        kill_worker(site, "gpu0")
        assert answer.result(30) == ANSWER


def test_worker_killed_in_mid_answer(tandem_with, kind):
    """The restarted worker goes on with it: the client sees one stream. When it dies of it again and again, an error, never
    a shortened answer; the next request works."""
    site = tandem_with(kind, main_options=("--no-replay",), backoff={"first_ms": 20, "max_ms": 50})
    for client, error in ((chat_ollama, ollama.ResponseError), (chat_openai, openai.APIError)):
        for deaths in (1, 3):
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                site.main.fault(hang_after=3, times=deaths)
                answer = pool.submit(client, site, f"{client.__name__} {deaths}", True)
                for death in range(deaths):
                    # the later ones hang where the first one did, so that nothing more of them comes
                    asked = wait_for(lambda: (s := site.main.stats())["slots"]["active"] and {
                        r["seq"] for r in s["under_way"] if death or r["reply_bytes"] > 0}, "first bytes")
                    wait_for(lambda: site.counts()["active"] == 1 or None, "request under way")
                    site.tandem.wait_ready("gpu0")
                    kill_worker(site, "gpu0")
                    # The next worker may have asked by then.
                    wait_for(lambda: not asked & {r["seq"] for r in site.main.stats()["under_way"]}, "the backend to see it")
                if deaths == 1:
                    assert answer.result(30) == ANSWER
                else:
                    with pytest.raises(error, match="died"):
                        answer.result(30)
            site.main.reset()
            site.tandem.wait_ready()
        assert client(site, "hi", True) == ANSWER


def test_small_worker_killed_while_condensing(tandem_with, kind):
    site = tandem_with(kind)
    for strategy in "BC":
        site.small.fault(fault="hang", times=-1)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(chat_ollama, site, BY_STRATEGY[strategy], True)
            wait_for(lambda: site.small.stats()["under_way"], "chunk at the small backend")
            kill_worker(site, "gpu1")
            assert answer.result(30) == ANSWER
        site.small.reset()
        site.tandem.wait_ready()
    assert site.counts()["fallbacks"] >= 2 and site.counts()["failed"] == 0
