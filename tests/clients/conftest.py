"""The official client packages against a whole tandem: both fronts in front of both kinds of backend.

A *site* is a tandem with a scripted main and condensing backend. It is started once for each kind of main backend; the
other device then has the other kind, so that each kind is met in each role. Tests that need other settings start their
own through `tandem_with`.
"""

import contextlib
import os
import sys

import anthropic
import httpx
import ollama
import openai
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "process"))

from harness import Fake, Tandem, wait_for  # noqa: E402
from prompts import MODEL, SMALL_MODEL  # noqa: E402

KINDS = ["ollama", "llama-server"]
WINDOW = 16384


class Site:
    def __init__(self, folder, kind, small_kind=None, main_options=(), **groups):
        self.kind = kind
        small_kind = small_kind or next(k for k in KINDS if k != kind)
        self.main = Fake(folder, "main", type=kind, model=(MODEL,),
                         options=["--num-ctx", str(WINDOW), "--slots", "4", "--embeddings", *main_options])
        self.small = Fake(folder, "small", type=small_kind, model=(SMALL_MODEL,),
                          options=["--num-ctx", "8192", "--slots", "2"])
        self.tandem = Tandem(folder, [
            {"name": "gpu0", "roles": ["main"], "slots": 4, "model": MODEL, "num_ctx": WINDOW,
             "backend": {"type": kind, "url": self.main.url}},
            {"name": "gpu1", "roles": ["condense"], "slots": 2, "model": SMALL_MODEL, "num_ctx": 8192,
             "backend": {"type": small_kind, "url": self.small.url}},
        ], **groups)
        self.url = self.tandem.url

    def ollama(self, **options):
        return ollama.Client(host=self.url, **options)

    def ollama_async(self):
        return ollama.AsyncClient(host=self.url)

    def openai(self, **options):
        return openai.OpenAI(**{"base_url": self.url + "/v1", "api_key": "unused", "max_retries": 0, **options})

    def openai_async(self):
        return openai.AsyncOpenAI(base_url=self.url + "/v1", api_key="unused", max_retries=0)

    def anthropic(self, **options):
        return anthropic.Anthropic(**{"base_url": self.url, "api_key": "unused", "max_retries": 0, **options})

    def reset(self):
        for backend in (self.main, self.small):
            backend.reset()
            for name in os.listdir(backend.dump):
                os.unlink(os.path.join(backend.dump, name))

    def sent(self):
        """What the main backend was asked last, as text of JSON."""
        return [b for b in self.main.bodies() if b.strip()][-1].decode()

    def counts(self):
        return self.tandem.status()["requests"]

    @contextlib.contextmanager
    def expect(self, **changes):
        """The counters of requests change by exactly this much; A, B, C count the strategies, quiet ones stay."""
        quiet = dict.fromkeys(("failed", "refused", "cancelled", "fallbacks", "A", "B", "C"), 0)
        flat = lambda c: {**c, **c["by_strategy"]}
        before = flat(self.counts())
        yield
        wait_for(lambda: self.counts()["active"] == 0, "end of all requests")
        after = flat(self.counts())
        assert {k: after[k] - before[k] for k in quiet} == {**quiet, **changes}, self.tandem.log()[-3000:]

    def stop(self):
        try:
            assert self.tandem.stop() == 0, self.tandem.log()[-4000:]
            log = self.tandem.log()
            assert "runtime error" not in log and "Sanitizer" not in log, log[-8000:]
        finally:
            self.main.stop()
            self.small.stop()


@pytest.fixture(scope="session", params=KINDS)
def shared_site(request, tmp_path_factory):
    site = Site(str(tmp_path_factory.mktemp(request.param)), request.param)
    yield site
    site.stop()


@pytest.fixture
def site(shared_site):
    """The shared tandem of one kind of main backend; rules, counters and dumps of its backends are fresh."""
    shared_site.reset()
    return shared_site


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def tandem_with(tmp_path):
    """tandem_with(kind, deadlines={...}, ...) starts a site of its own."""
    started = []

    def start(kind, **options):
        started.append(Site(str(tmp_path), kind, **options))
        return started[-1]

    yield start
    for site in started:
        site.stop()


@pytest.fixture
def http(site):
    with httpx.Client(base_url=site.url, timeout=20) as client:
        yield client
