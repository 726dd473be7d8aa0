"""The manual as a whole: generated pages are current, everything is documented, and it builds without a warning."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import rosd_kit
from rosd_kit.components import INDEX
from rosd_kit.contracts import SLOTS
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.plugins.validation import HOOKS
from rosd_kit.testing import SUITES, checks_of
from tests.docs.test_snippets import MANUAL, ROOT

DOCS = ROOT / "docs"
TESTS = {file: file.read_text() for file in (ROOT / "tests").rglob("test_*.py")}


def load_module(name: str) -> Any:
    """Return a module of docs/, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module, path = importlib.util.module_from_spec(spec), list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def test_generated_pages_are_current():
    pages = load_module("generate").all_pages()
    stale = [str(path) for path, text in pages.items() if not (DOCS / path).is_file() or (DOCS / path).read_text() != text]
    assert stale == [], "not current; write them with: python docs/generate.py"
    committed = {page.relative_to(DOCS) for page in (DOCS / "plugins/slots").iterdir()}
    assert committed == {path for path in pages if path.parent.name == "slots"}
    assert INDEX.read_text() == load_module("generate").index_of_components(), "write it with: python docs/generate.py"


@pytest.mark.parametrize("kind", SLOTS)
def test_the_page_of_a_slot_lists_its_components_options_laws_and_required_methods(kind):
    page = (DOCS / f"plugins/slots/{kind}.md").read_text()
    registry = PluginManager(selection="builtin").registry
    assert re.findall(r"^### (\w+)$", page, re.M) == list(registry.names(kind))
    for name in registry.names(kind):
        assert all(f"| `{option}` |" in page for option in registry.get(kind, name).Config.model_fields)
    checks = [check for check in checks_of(kind) if check.kind == kind]
    assert checks and all(f"| `{check.name}` |" in page for check in checks)
    for method in SLOTS[kind].__abstractmethods__:
        assert re.search(rf"^\* `{method}\(.*\(required\)", page, re.M), method


@pytest.mark.parametrize("kind", SLOTS)
def test_every_slot_has_a_suite_and_a_test_of_each_of_its_components(kind):
    assert SUITES[kind].kind == kind
    registry = PluginManager(selection="builtin").registry
    for name in registry.names(kind):
        cls = registry.get(kind, name)
        mentions = re.compile(rf"\b{cls.__name__}\b|[\"' =:]{name}\b")
        assert any(mentions.search(text) for text in TESTS.values()), f"no test mentions {kind} {name}"


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_and_implemented_in_a_test(hook):
    page = (DOCS / "plugins/hooks.md").read_text()
    assert f"\n## {hook}\n\n`{hook}(" in page
    implemented = re.compile(rf"def {hook}\(")
    assert any(implemented.search(text) for text in TESTS.values()), f"no test implements {hook}"


def test_every_public_name_is_in_the_reference():
    reference = (DOCS / "signatures.md").read_text()
    for name in rosd_kit.__all__:
        assert name == "__version__" or re.search(rf"(:: rosd_kit\.|py:data:: ){name}$", reference, re.M), name


@pytest.mark.slow
def test_the_manual_builds_without_a_warning_and_every_page_can_be_reached(tmp_path):
    for extra in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(extra, reason=f"{extra} is not installed: pip install 'rosd-kit[docs]'")
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-d", str(tmp_path / "trees")]
    done = subprocess.run([*command, str(DOCS), str(tmp_path / "html")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reached, unread = set(), [tmp_path / "html/index.html"]
    while unread:
        page = unread.pop()
        reached.add(page)
        links = {(page.parent / link).resolve() for link in re.findall(r'href="([^":#?]+\.html)', page.read_text())}
        missing = [link for link in links if not link.is_file()]
        assert missing == [], page
        unread += links - reached - set(unread)
    assert {tmp_path / "html" / page.relative_to(DOCS).with_suffix(".html") for page in MANUAL} <= reached


def test_the_installation_page_lists_every_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (DOCS / "start.md").read_text()
    internal = {"dev", "test", "peers", "browser"}  # for work on rosd-kit itself
    assert [extra for extra in extras if extra not in internal and f"`{extra}`" not in page] == []


def test_the_first_page_links_to_all_main_pages():
    first = (DOCS / "index.md").read_text()
    for page in (
        *("start", "recipes", "plugins/tutorial", "plugins/slots/index", "tasks", "models", "distributed", "sglang", "sweeps"),
        *("report", "evaluation", "results-micro", "reliability", "security", "engine", "glossary", "architecture"),
    ):
        assert re.search(rf"^(.* <)?{page}>?$", first, re.M), page


def test_the_index_drops_missing_pages_and_adds_unnamed_ones():
    pytest.importorskip("sphinx", reason="sphinx is not installed: pip install 'rosd-kit[docs]'")
    app = SimpleNamespace(env=SimpleNamespace(found_docs={"index", "start", "tasks", "news", "plugins/slots/gate"}))
    source = [":::{toctree}\n:titlesonly:\n\nstart\nData <tasks>\nModels <models>\n:::\n"]
    load_module("conf").fit_index(app, "index", source)
    assert source[0].splitlines() == [
        *(":::{toctree}", ":titlesonly:", "", "start", "Data <tasks>", ":::"),
        *("", ":::{toctree}", ":caption: More", ":titlesonly:", "", "news", ":::"),
    ]


def test_pages_outside_docs_are_mirrored_with_adapted_links():
    beyond = load_module("beyond")
    readme = ROOT / "plugins/rosd-kit-rlsd/README.md"
    assert ROOT / "plugins/README.md" in beyond.pages() and readme in beyond.pages()
    assert beyond.mirror_of(readme) == DOCS / "beyond/plugins/rosd-kit-rlsd.md"
    page = DOCS / "pipeline.md"
    assert (
        beyond.with_moved_links("[p](../plugins/README.md#x) [q](recipes.md)", page, page)
        == "[p](beyond/plugins.md#x) [q](recipes.md)"
    )
    copy = beyond.mirror_of(ROOT / "plugins/README.md")
    text = "[a](rosd-kit-rlsd) [b](../docs/recipes.md) [c](../recipes/rosd.yaml) [d](https://e.org/f.md)"
    adapted = "[a](plugins/rosd-kit-rlsd.md) [b](../recipes.md) [c](../../recipes/rosd.yaml) [d](https://e.org/f.md)"
    assert beyond.with_moved_links(text, ROOT / "plugins/README.md", copy) == adapted
    assert Path(copy.parent / "../../recipes/rosd.yaml").resolve() == ROOT / "recipes/rosd.yaml"
