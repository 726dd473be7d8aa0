"""New plugins: a file, or a package with a recipe, a test and a README, made from the example of a slot.

The examples are real modules in `examples/`; only their name changes on the way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from rosd_kit.errors import PluginError

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")

#: What a recipe says besides the slot itself, so that the example of this slot has something to work on.
_RECIPES: Mapping[str, str] = {
    "task": "extends: opsd\ntask: {name}\n",
    "verifier": "extends: rosd\nverifier: {name}\n",
    "rollout": "extends: rosd\nrollout: {name}\nproblems_per_step: 4  # it samples one response at a time\n",
    "gate": "extends: rosd\ngate: {name}\n",
    "demonstration": "extends: sdpo\ndemonstration: {name}\n",
    "reflector": "extends: rosd\nreflector: {name}\nlocalizer: full  # it quotes nothing that could be found again\n",
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
rosd-kit run recipe.yaml --dry-run    # one sample end to end, nothing trained
rosd-kit run recipe.yaml
pytest                                # the laws that every {kind} keeps
```

`{module}.py` holds the {kind} and the hook that hands it to rosd-kit; `recipe.yaml` is a recipe that uses it.
"""


def new_file(name: str, kind: str, folder: Path) -> Path:
    """Write a plugin in one file and return it; raises `PluginError` for a bad name or a file that is there already."""
    word = _word(name)
    file = folder / f"{word}.py"
    _write(file, example(kind, word))
    return file


def new_package(name: str, kind: str, folder: Path) -> Path:
    """Write a package that can be installed and return its folder; raises `PluginError` as `new_file` does."""
    word = _word(name)
    distribution = f"rosd-kit-{word.replace('_', '-')}"
    root = folder / distribution
    if root.exists():
        raise PluginError(f"plugins new: {str(root)!r} exists already. Choose another name, or remove it.")
    source = example(kind, word)
    facts = {
        "distribution": distribution,
        "kind": kind,
        "name": word,
        "module": f"rosd_kit_{word}",
        "cls": class_name(word),
        "suite": f"{kind.capitalize()}Suite",
        "summary": _summary(source),
    }
    _write(root / "pyproject.toml", _PYPROJECT.format(**facts))
    _write(root / f"rosd_kit_{word}.py", source)
    _write(root / "recipe.yaml", recipe(kind, word))
    _write(root / "tests/test_conformance.py", _TEST.format(**facts))
    _write(root / "README.md", _README.format(**facts))
    return root


def example(kind: str, name: str) -> str:
    """Return the source of a slot's example under another name."""
    source = (files(__name__) / "examples" / f"{kind}.py").read_text()
    source = source.replace("Example", class_name(name))
    return source.replace("`example`", f"`{name}`").replace('name = "example"', f'name = "{name}"')


def recipe(kind: str, name: str) -> str:
    """Return a recipe that puts a component into its slot."""
    return f"# A recipe that uses the {kind} {name}.\nname: {name}\n{_RECIPES[kind].format(name=name)}"


def class_name(name: str) -> str:
    """Return the class name of a component: `after_keyword` is `AfterKeyword`."""
    return "".join(part.capitalize() for part in name.split("_"))


def _word(name: str) -> str:
    """Return what a recipe calls the component; the prefix that distributions have is left out."""
    plain = name.removeprefix("rosd-kit-").removeprefix("rosd_kit_")
    if not _NAME.fullmatch(plain):
        raise PluginError(
            f"plugins new: {name!r} is not a name. Allowed: lower-case letters, digits and -, such as after-keyword"
        )
    return plain.replace("-", "_")


def _summary(source: str) -> str:
    found = re.search(r'^class .*?"""(.*?)"""', source, re.S | re.M)
    return " ".join(found.group(1).split()) if found else ""


def _write(file: Path, text: str) -> None:
    if file.exists():
        raise PluginError(f"plugins new: {str(file)!r} exists already. Choose another name, or remove it.")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
