"""The page on the architecture names files and functions that exist, and its picture shows the imports as they are."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

import rosd_kit
from tests.docs.test_snippets import ROOT

PAGES = [
    ROOT / "CONTRIBUTING.md",
    *(ROOT / f"docs/{name}.md" for name in ("architecture", "glossary", "engine", "reliability")),
]
TERM = re.compile(r"`((?:[\w-]+/)+[\w.*-]*|[\w.]+\(\)|\w+\.(?:py|toml|yaml))`")


def references(page: Path) -> list[tuple[str, str | None]]:
    """Return each file that a page names, and each `function()` with the file that is named last before it."""
    pairs: list[tuple[str, str | None]] = []
    file = ""
    for term in TERM.findall(page.read_text()):
        if not term.endswith("()"):
            file = term
            pairs.append((file, None))
        else:
            pairs.append((file, term.removesuffix("()")))
    return pairs


def defined_in(file: Path) -> set[str]:
    """Return the functions of a module, and the methods of its classes as `Class.method`."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    body = ast.parse(file.read_text()).body
    names = {node.name for node in body if isinstance(node, functions)}
    for node in body:
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{member.name}" for member in node.body if isinstance(member, functions)}
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_and_function_that_a_page_names_exists(page):
    named = references(page)
    assert len(named) >= 8
    for file, function in named:
        if function is not None and function.startswith("rosd_kit."):
            assert callable(getattr(rosd_kit, function.removeprefix("rosd_kit."))), function
        elif function is not None:
            assert function in defined_in(ROOT / file), f"{file} has no {function}()"
        else:
            assert any(list(folder.glob(file)) for folder in (ROOT, ROOT / "rosd_kit", ROOT / "tests")), file


def house() -> Any:
    pytest.importorskip("grimp", reason="grimp is not installed: pip install import-linter")
    spec = importlib.util.spec_from_file_location("house", ROOT / "docs/pictures/house.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_of_the_rooms_is_current():
    module = house()
    assert module.PICTURE.read_text() == module.picture(), "not current; draw it with: python docs/pictures/house.py"


def test_the_picture_shows_every_room_with_its_purpose():
    module = house()
    rooms = {path.stem for path in (ROOT / "rosd_kit").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    on_floors = [room for level in module.floors() for room in level]
    assert sorted(on_floors) == sorted(rooms - {"__init__", "__main__"})
    assert set(module.PURPOSES) == set(on_floors)


def test_imports_that_another_import_brings_along_are_left_out_of_the_picture():
    module = house()
    assert module.nearest({"run": {"model", "types"}, "model": {"types"}, "types": set()}) == {
        "run": ["model"],
        "model": ["types"],
        "types": [],
    }
    uses = module.imports()
    assert "training" in uses["run"] and "run" not in uses["training"] and "errors" not in uses
