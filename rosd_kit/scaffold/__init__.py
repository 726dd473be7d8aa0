"""Writes new plugins: one file, or a package with a recipe, a test and a README, from the example of a slot.

The examples are working modules in `examples/`; only the component's name changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from rosd_kit.errors import PluginError

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")

#: Slot to the recipe of its example, which extends a recipe in which the example has an effect.
_RECIPES: Mapping[str, str] = {
    "task": "extends: opsd\ntask: {name}\n",
    "verifier": "extends: rosd\nverifier: {name}\n",
    "rollout": "extends: rosd\nrollout: {name}\nproblems_per_step: 4  # this engine samples one response at a time\n",
    "gate": "extends: rosd\ngate: {name}\n",
    "demonstration": "extends: sdpo\ndemonstration: {name}\n",
    "reflector": "extends: rosd\nreflector: {name}\nlocalizer: full  # this reflector gives no quotes\n",
    "localizer": "extends: rosd\nlocalizer: {name}\n",
    "context": "extends: sdpo\ncontext: {name}\n",
    "teacher": "extends: rosd\nteacher: {name}\n",
    "support": "extends: rosd\nsupport: {name}\n",
    "divergence": "extends: rosd\ndivergence: {name}\n",
    "correction": "extends: rosd\ncorrection: {name}\n",
    "objective": "extends: rosd\nobjective: [distill, {{name: {name}, weight: 0.1}}]\n",
}

_PYPROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{distribution}"
version = "0.1.0"
description = "The {kind} `{name}` for rosd-kit."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["rosd-kit"]

[project.optional-dependencies]
test = ["rosd-kit[testing]"]

[project.entry-points.rosd_kit]
{name} = "{module}"

[tool.setuptools]
py-modules = ["{module}"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

_TEST = '''"""The {kind} keeps the laws of its slot."""

from __future__ import annotations

import pytest
from {module} import {cls}

from rosd_kit.testing import {suite}


class Test{cls}({suite}):
    @pytest.fixture
    def component(self):
        return {cls}()
'''

_README = """# {distribution}

{summary}

```
pip install -e ".[test]"
rosd-kit components {kind} {name}     # its options
rosd-kit run recipe.yaml --dry-run    # one sample end to end, without training
rosd-kit run recipe.yaml
pytest                                # checks the laws of every {kind}
```

`{module}.py` has the {kind} and the hook that registers it; `recipe.yaml` is a recipe that uses it.
"""


def new_file(name: str, kind: str, folder: Path) -> Path:
    """Write a plugin in one file and return its path. Raises `PluginError` if the name is invalid or the file exists."""
    word = component_name(name)
    file = folder / f"{word}.py"
    _write(file, example(kind, word))
    return file


def new_package(name: str, kind: str, folder: Path) -> Path:
    """Write an installable package and return its folder. Raises `PluginError` if the name is invalid or the folder exists."""
    word = component_name(name)
    distribution = f"rosd-kit-{word.replace('_', '-')}"
    root = folder / distribution
    if _is_installed(distribution):
        raise PluginError(f"plugins new: a package {distribution!r} is installed already. Choose another name.")
    if root.exists():
        raise PluginError(f"plugins new: {str(root)!r} exists already. Choose another name, or remove it.")
    source = example(kind, word)
    values = {
        "distribution": distribution,
        "kind": kind,
        "name": word,
        "module": f"rosd_kit_{word}",
        "cls": class_name(word),
        "suite": f"{kind.capitalize()}Suite",
        "summary": _summary(source),
    }
    _write(root / "pyproject.toml", _PYPROJECT.format(**values))
    _write(root / f"rosd_kit_{word}.py", source)
    _write(root / "recipe.yaml", recipe(kind, word))
    _write(root / "tests/test_conformance.py", _TEST.format(**values))
    _write(root / "README.md", _README.format(**values))
    return root


def example(kind: str, name: str) -> str:
    """Return the source of a slot's example with the component renamed."""
    source = (files(__name__) / "examples" / f"{kind}.py").read_text()
    source = source.replace("Example", class_name(name))
    return source.replace("`example`", f"`{name}`").replace('name = "example"', f'name = "{name}"')


def recipe(kind: str, name: str) -> str:
    """Return a recipe that uses a component in its slot."""
    return f"# A recipe that uses the {kind} {name}.\nname: {name}\n{_RECIPES[kind].format(name=name)}"


def class_name(name: str) -> str:
    """Return the class name of a component, for example `AfterKeyword` for `after_keyword`."""
    return "".join(part.capitalize() for part in name.split("_"))


def component_name(name: str) -> str:
    """Return the component's name in recipes: without the prefix `rosd-kit-` of distributions, with underscores.

    Raises `PluginError` if it is no name.
    """
    plain = name.removeprefix("rosd-kit-").removeprefix("rosd_kit_")
    if not _NAME.fullmatch(plain):
        raise PluginError(
            f"plugins new: {name!r} is not a name. Allowed are lower-case letters, digits and -, for example after-keyword"
        )
    return plain.replace("-", "_")


def _is_installed(distribution: str) -> bool:
    try:
        return bool(metadata.distribution(distribution))
    except metadata.PackageNotFoundError:
        return False


def _summary(source: str) -> str:
    """Return the docstring of the first class on one line."""
    match = re.search(r'^class .*?"""(.*?)"""', source, re.S | re.M)
    return " ".join(match.group(1).split()) if match else ""


def _write(file: Path, text: str) -> None:
    if file.exists():
        raise PluginError(f"plugins new: {str(file)!r} exists already. Choose another name, or remove it.")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
