"""etc/setup/layers.py on trees of its own: what it must find, and what it must let be."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "etc/setup/layers.py"

SOUND = {
    "common/buf.h": "void buf(void);\n",
    "common/buf.c": '#include "common/buf.h"\nvoid buf(void) {}\n',
    "proto/wire.c": '#include "common/buf.h"\n#if 0\n#include <msgpack.h>\n#endif\nvoid wire(void) { buf(); }\n',
    "workers/main.c": '#include "common/buf.h"\nvoid work(void) { buf(); }\n',
    "supervisor/front/front.h": "void front(void);\n",
    "supervisor/front/front.c": '#include "supervisor/front/front.h"\nvoid front(void) {}\n',
    "supervisor/devices/plan.h": "int plan(void);\n",
    "supervisor/devices/plan.c": '#include "supervisor/devices/plan.h"\nint plan(void) { return 1; }\n',
    "supervisor/devices/devices.h": "struct devices { int n; };\nvoid devices(void);\n",
    "supervisor/devices/devices.c": '#include "supervisor/devices/devices.h"\n#include "supervisor/front/front.h"\n'
                                    "void devices(void) { front(); }\n",
    "supervisor/life/life.c": '#include "supervisor/devices/devices.h"\nvoid life(void) { devices(); }\n',
    "supervisor/tandemd.h": '#include "supervisor/devices/devices.h"\n',
    "supervisor/tandemd.c": '#include "supervisor/tandemd.h"\nvoid life(void);\nvoid tandemd(void) { life(); }\n',
    "supervisor/ctl/main.c": '#include "supervisor/devices/plan.h"\nint ctl(void) { return plan(); }\n',
}


def write(tree, files):
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if name.endswith(".c"):
            out = tree / "build/obj" / name.replace(".c", ".o")
            out.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cc", "-I", tree, "-c", "-o", out, path], check=True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    tree = tmp_path_factory.mktemp("sound")
    write(tree, SOUND)
    return tree


@pytest.fixture
def run(sound, tmp_path):
    def run(more):
        tree = tmp_path / "tree"
        shutil.copytree(sound, tree, dirs_exist_ok=True)
        write(tree, more)
        done = subprocess.run([sys.executable, SCRIPT, tree], capture_output=True, text=True)
        return done.returncode, done.stdout
    return run


def test_a_sound_tree_passes(run):
    assert run({}) == (0, "layers: kept\n")


@pytest.mark.parametrize("path, include, why", [
    ("common/bad.c", '"proto/x.h"', "common/ does not know proto/"),
    ("proto/bad.c", '"supervisor/front/front.h"', "proto/ does not know supervisor/"),
    ("workers/bad.c", '"supervisor/front/front.h"', "workers/ does not know supervisor/"),
    ("supervisor/life/bad.c", '"workers/x.h"', "supervisor/ does not know workers/"),
    ("supervisor/life/bad.c", '"msgpack.h"', "only proto/ knows msgpack"),
    ("supervisor/front/bad.c", '"supervisor/devices/devices.h"', "devices stands above front"),
    ("supervisor/devices/bad.h", '"supervisor/tell/tell.h"', "tell stands above devices"),
    ("supervisor/life/bad.c", '"supervisor/tandemd.h"', "only main.c and tandemd.c see all wings"),
    ("supervisor/life/bad.c", '"supervisor/ctl/ctl.h"', "tandemctl is another program"),
    ("supervisor/ctl/bad.c", '"supervisor/devices/deep.h"',
     "pure headers only, and this one reaches supervisor/devices/devices.h"),
])
def test_a_bad_include_fails(run, path, include, why):
    empty = {name: "" for name in ("proto/x.h", "workers/x.h", "msgpack.h", "supervisor/tell/tell.h", "supervisor/ctl/ctl.h")}
    deep = {"supervisor/devices/deep.h": '#include "supervisor/devices/devices.h"\n'}
    code, out = run({**empty, **deep, path: f"#include {include}\n"})
    assert code == 1
    assert f"{path}:1: includes" in out and why in out
    assert out.endswith("layers: 1 faults\n")


def test_a_call_upwards_without_an_include_fails(run):
    code, out = run({"supervisor/front/bad.c": "void life(void);\nvoid bad(void) { life(); }\n"})
    assert code == 1
    assert "supervisor/front/bad.c: takes life from supervisor/life/life.c: life stands above front" in out


def circle(n):
    return {f"supervisor/life/c{i}.c": f"void c{(i + 1) % n}(void);\nvoid c{i}(void) {{ c{(i + 1) % n}(); }}\n"
            for i in range(n)}


def test_two_files_may_need_each_other_and_three_may_not(run):
    assert run(circle(2))[0] == 0
    code, out = run(circle(3))
    assert code == 1
    assert "3 files need each other in a circle: supervisor/life/c0 supervisor/life/c1 supervisor/life/c2" in out


def test_without_object_files_it_says_so(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and "run `make all` first" in done.stdout
