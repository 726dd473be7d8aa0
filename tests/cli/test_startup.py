"""Commands that only list or show do not import torch, and deferred packages work once they are used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPORT = """
import sys
from rosd_kit.cli import main
from rosd_kit.deferred import _Deferred
try:
    main(sys.argv[1:])
except SystemExit:
    pass
heavy = ("torch", "transformers", "numpy", "scipy", "datasets", "evaluate")
loaded = [name for name in heavy if name in sys.modules and not isinstance(sys.modules[name], _Deferred)]
print("loaded:", loaded, file=sys.stderr)
"""


def loaded_by(*words: str) -> str:
    done = subprocess.run([sys.executable, "-c", REPORT, *words], capture_output=True, text=True, check=True)
    assert done.stdout, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "command", ["--help", "components", "components divergence jsd", "show rosd", "schema", "schema --profile", "plugins"]
)
def test_a_command_that_lists_or_shows_imports_nothing_heavy(command):
    assert loaded_by(*command.split()) == "loaded: []"


PACKAGES = sorted((Path(__file__).parents[2] / "plugins").glob("*/src/rosd_kit_*/__init__.py"))
PLUGIN = """
import importlib, sys
module = importlib.import_module(sys.argv[1])
assert "torch" not in sys.modules, "importing the package imports torch, so every command waits for it"
from rosd_kit.deferred import _Deferred, defer
defer("torch", "transformers", "jaxtyping", "numpy", "scipy")
assert hasattr(module, "rosd_kit_components") and module.rosd_kit_components()
assert isinstance(sys.modules["torch"], _Deferred), "listing the package's components imports torch"
"""


@pytest.mark.parametrize("package", PACKAGES, ids=lambda file: file.parent.name)
def test_the_packages_beside_the_kit_are_listed_without_torch(package):
    where = os.environ | {"PYTHONPATH": os.pathsep.join([str(package.parents[1]), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", PLUGIN, package.parent.name], capture_output=True, text=True, env=where)
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
