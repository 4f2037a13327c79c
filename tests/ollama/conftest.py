"""Two real Ollamas on two ports, each with the small model, and a tandem attached to both: the original deployment."""

import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "process"))

from harness import Process, Tandem, free_port, wait_for  # noqa: E402

import ollama  # noqa: E402

MAIN, SMALL = "smollm2:135m", "small:135m"
NUM_CTX = 8192


def script(*args):
    """The last line that a setup script prints. 77: not to be had here."""
    done = subprocess.run(args, stdout=subprocess.PIPE, text=True)
    if done.returncode == 77:
        pytest.skip(f"{os.path.basename(args[0])} says that this machine cannot have it", allow_module_level=True)
    assert done.returncode == 0, f"{args} failed"
    return done.stdout.splitlines()[-1]


class Ollama(Process):
    def __init__(self, binary, folder, name, model, gguf):
        self.binary, self.port, self.model = binary, free_port(), model
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {"OLLAMA_HOST": f"127.0.0.1:{self.port}", "OLLAMA_MODELS": os.path.join(folder, name), "HOME": folder,
                    "OLLAMA_CONTEXT_LENGTH": str(NUM_CTX), "OLLAMA_NUM_PARALLEL": "1", "OLLAMA_KEEP_ALIVE": "-1"}
        super().__init__([binary, "serve"], os.path.join(folder, name + ".log"), self.env)
        self.client = ollama.Client(self.url)
        wait_for(lambda: self.client.list(), f"Ollama {name}", 60)
        modelfile = os.path.join(folder, name + ".modelfile")
        with open(modelfile, "w") as f:
            f.write(f"FROM {gguf}\nPARAMETER temperature 0\n")
        subprocess.run([binary, "create", model, "-f", modelfile], env={**os.environ, **self.env}, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def gguf():
    return script(os.path.join(ROOT, "etc", "setup", "model.sh"))


@pytest.fixture(scope="session")
def binary():
    return os.path.join(script(os.path.join(HERE, "build.sh")), "bin", "ollama")


@pytest.fixture(scope="session")
def backends(binary, gguf, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("ollama"))
    started = []
    try:
        for name, model in (("main", MAIN), ("small", SMALL)):
            started.append(Ollama(binary, folder, name, model, gguf))
        yield started
    finally:
        for backend in started:
            backend.stop(deadline=30)


@pytest.fixture(scope="session")
def tandem(backends, tmp_path_factory):
    main, small = backends
    devices = [{"name": "gpu0", "roles": ["main"], "model": MAIN, "num_ctx": NUM_CTX,
                "backend": {"type": "ollama", "url": main.url}},
               {"name": "gpu1", "roles": ["condense"], "model": SMALL, "num_ctx": NUM_CTX,
                "backend": {"type": "ollama", "url": small.url}}]
    # Two small models share a small machine's CPU: every deadline that a GPU would keep is longer here.
    t = Tandem(str(tmp_path_factory.mktemp("tandem")), devices, condense={"chunk_tokens": 250, "notes_max_tokens": 24, "job_timeout_ms": 300000},
               routing={"a_max_tokens": 300, "b_max_tokens": 900})
    yield t
    assert t.stop(deadline=60) == 0, t.log()[-4000:]


@pytest.fixture
def cli(binary, tandem, tmp_path):
    """cli("list") runs Ollama's own command line against tandem and returns what it prints."""

    def run(*args, **options):
        env = {**os.environ, "OLLAMA_HOST": tandem.url, "HOME": str(tmp_path), "TERM": "dumb"}
        done = subprocess.run([binary, *args], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=300, **options)
        assert done.returncode == 0, f"ollama {' '.join(args)}: {done.stderr}\n{tandem.log()[-3000:]}"
        return done.stdout

    return run
