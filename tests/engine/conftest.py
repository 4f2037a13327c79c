"""A real llama-server with a small model behind tandem, on the CPU."""

import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "process"))

from harness import Tandem  # noqa: E402

# Roles must alternate, as the templates of Mistral and others insist; a call and its results stand aside.
STRICT = """{%- set ns = namespace(index=0) -%}
{%- for m in messages -%}
{%- if m.role != "system" and m.role != "tool" and not (m.tool_calls is defined and m.tool_calls) -%}
{%- if (m.role == "user") != (ns.index % 2 == 0) -%}
{{ raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
{%- endif -%}
{%- set ns.index = ns.index + 1 -%}
{%- endif -%}
{%- endfor -%}
{%- for m in messages -%}
<|im_start|>{{ m.role }}
{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}{% endfor %}{% endif %}<|im_end|>
{% endfor -%}
{%- if tools -%}<!-- {{ tools | length }} tools -->{%- endif -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""


def script(name):
    """The lines that a setup script prints. 77: not to be had here."""
    done = subprocess.run([os.path.join(ROOT, "etc", "setup", name)], stdout=subprocess.PIPE, text=True)
    if done.returncode == 77:
        pytest.skip(f"{name} says that this machine cannot have it", allow_module_level=True)
    assert done.returncode == 0, f"{name} failed"
    return done.stdout.splitlines()


@pytest.fixture(scope="session")
def engine():
    return script("engine.sh"), script("model.sh")[-1]


@pytest.fixture
def start(engine, tmp_path):
    """start(window, template=None, more=()): a tandem whose one device is such a server, with more options; with small_window a second one, for
    what is small."""
    (binary, *library), model = engine
    running = []

    def begin(window, template=None, more=(), small_window=0, **groups):
        command = [binary, "-m", model, "-c", str(window), "-np", "1", "--temp", "0", "--no-webui", *more]
        if template:
            path = tmp_path / "template.jinja"
            path.write_text(template)
            command += ["--jinja", "--chat-template-file", str(path)]
        env = {"LD_LIBRARY_PATH": library[0]} if library and library[0] else None
        device = {"name": "cpu0", "roles": ["main"], "slots": 1,
                  "backend": {"type": "llama-server", "command": command}}
        devices = [device]
        if small_window:
            devices.append({"name": "cpu1", "roles": ["small"], "slots": 1, "backend": {"type": "llama-server", "command": [
                binary, "-m", model, "-c", str(small_window), "-np", "1", "--temp", "0", "--no-webui", "--alias", "small"]}})
        groups.setdefault("deadlines", {"first_byte_ms": 2000, "worker_boot_ms": 120000})
        t = Tandem(str(tmp_path), devices, env=env, **groups)
        running.append(t)
        return t

    yield begin
    for t in running:
        t.stop()
