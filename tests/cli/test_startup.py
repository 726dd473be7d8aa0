"""Commands that list or show import neither torch nor components that they do not need; deferred packages work once used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPORT = """
import json, sys
from rosd_kit.cli import main
from rosd_kit.deferred import _Deferred
try:
    main(sys.argv[1:])
except SystemExit:
    pass
heavy = ("torch", "transformers", "numpy", "scipy", "datasets", "evaluate")
loaded = [name for name in heavy if name in sys.modules and not isinstance(sys.modules[name], _Deferred)]
components = [name.removeprefix("rosd_kit.components.") for name in sys.modules if name.startswith("rosd_kit.components.")]
print(json.dumps([loaded, components]), file=sys.stderr)
"""


def loaded_by(*words: str) -> tuple[list[str], set[str]]:
    """Return the heavy packages and the modules of components that a command imports."""
    done = subprocess.run([sys.executable, "-c", REPORT, *words], capture_output=True, text=True, check=True)
    assert done.stdout, done.stderr
    heavy, components = json.loads(done.stderr.splitlines()[-1])
    return heavy, set(components)


@pytest.mark.parametrize("command", ["schema", "schema --profile"])
def test_the_schema_needs_nothing_heavy(command):
    assert loaded_by(*command.split())[0] == []


@pytest.mark.parametrize("command", ["--help", "components", "plugins"])
def test_a_list_imports_no_component(command):
    assert loaded_by(*command.split()) == ([], set())


@pytest.mark.parametrize("command", ["components divergence jsd", "show rosd"])
def test_only_the_components_that_are_shown_are_imported(command):
    heavy, components = loaded_by(*command.split())
    assert heavy == []
    assert "divergences.jsd" in components
    assert not components & {"divergences.reverse_kl", "tasks.dataset", "verifiers.math", "teachers.ema"}


def test_a_command_that_trains_has_torch_before_a_plugin_file_asks_for_it(tmp_path):
    (tmp_path / "mine.py").write_text("import sys\nprint('torch' in sys.modules)\n")
    words = ["run", "rosd", "no.such=field", "--plugin", str(tmp_path / "mine.py")]
    program = "import sys; from rosd_kit.cli import main; print('torch' in sys.modules); main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr


@pytest.mark.parametrize(("more", "lines"), [((), ["loading PyTorch ..."]), (("--quiet",), []), (("--json",), [])])
def test_a_terminal_shows_what_is_loaded_before_torch_is(more, lines):
    program = (
        "import sys; sys.stderr.isatty = lambda: True; from rosd_kit.cli import main; import rosd_kit.cli.common as common\n"
        "common.PluginManager.load_components = lambda self: sys.exit('torch' in sys.modules and 9)\n"
        "main(sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", program, "run", "rosd", *more], capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()) == (0, lines)


PACKAGES = sorted((Path(__file__).parents[2] / "plugins").glob("*/src/rosd_kit_*/__init__.py"))
PLUGIN = """
import importlib, sys
modules = {}
for name in sys.argv[1:]:
    modules[name] = importlib.import_module(name)
    assert "torch" not in sys.modules, f"importing {name} imports torch, so every command waits for it"
from rosd_kit.deferred import _Deferred, defer
defer("torch", "transformers", "jaxtyping", "numpy", "scipy")
for name, module in modules.items():
    assert hasattr(module, "rosd_kit_components") and module.rosd_kit_components(), name
    assert isinstance(sys.modules["torch"], _Deferred), f"listing the components of {name} imports torch"
"""


def test_the_packages_beside_the_kit_are_listed_without_torch():
    assert len(PACKAGES) >= 8
    path = [*(str(package.parents[1]) for package in PACKAGES), os.environ.get("PYTHONPATH", "")]
    names = [package.parent.name for package in PACKAGES]
    where = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run([sys.executable, "-c", PLUGIN, *names], capture_output=True, text=True, env=where)
    assert done.returncode == 0, done.stderr


USES = {
    "submodule first": "import torch.nn.functional as F; assert F.relu(torch.tensor(-1.0)) == 0",
    "name first": "from torch import Tensor; assert isinstance(torch.zeros(1), Tensor)",
    "nested name": "from torch.distributed.tensor import DTensor; assert DTensor.__module__.startswith('torch')",
    "function of a plugin": "import transformers; assert transformers.AutoConfig",
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_deferred_package_is_the_real_one_once_it_is_used(use):
    code = "from rosd_kit.deferred import defer; defer('torch', 'transformers', 'numpy'); import torch\n" + use
    code += "\nimport sys, torch as again; assert sys.modules['torch'] is again and again.nn is torch.nn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_package_that_is_imported_already_stays_as_it_is():
    import json

    from rosd_kit.deferred import defer

    defer("json")
    assert sys.modules["json"] is json
