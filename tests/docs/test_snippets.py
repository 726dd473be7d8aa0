"""Everything that the README and the manual tell a reader to type really works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from rosd_kit.cli import main
from rosd_kit.plugins import PluginManager
from rosd_kit.recipe import build_components, load_recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "rosd_kit/micro/base/README.md"]
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.S)


def blocks(language: str) -> list[tuple[str, str]]:
    return [(page.name, text) for page in PAGES for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def commands() -> list[str]:
    """Return each `rosd-kit` line once; what joins pip and rosd-kit by && counts as both."""
    lines = [part.strip() for _, text in blocks("console") for line in text.splitlines() for part in line.split("&&")]
    lines = [line.removeprefix("$ ").split("  #")[0].strip() for line in lines]
    return list(dict.fromkeys(line for line in lines if line.startswith("rosd-kit ")))


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder in which the README's plugin, the manual's recipes and the embedded model lie where the texts say."""
    monkeypatch.chdir(tmp_path)
    (_, plugin), *others = blocks("python")
    assert not others
    Path("after_keyword.py").write_text(plugin)
    for _, text in blocks("yaml"):
        Path(re.match(r"# (\S+\.yaml)", text).group(1)).write_text(text)
    for run in ("base", "polish"):
        Path("runs", run).mkdir(parents=True)
        Path("runs", run, "model").symlink_to(ROOT / "rosd_kit/micro/base")
    return tmp_path


def test_there_are_snippets_of_every_kind():
    assert len(commands()) >= 10
    assert len(blocks("yaml")) >= 2 and len(blocks("python")) == 1


@pytest.mark.parametrize("line", commands())
def test_a_command_works_as_it_stands(desk, line, capsys):
    words = shlex.split(line)[1:]
    if words[0] == "run" and "--dry-run" not in words:
        words.append("--dry-run")
    with pytest.raises(SystemExit) as end:
        main(words)
    said = capsys.readouterr()
    assert not end.value.code, said.err
    assert said.out


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_a_recipe_of_the_manual_resolves(desk, page, text):
    file = re.match(r"# (\S+\.yaml)", text).group(1)
    recipe = load_recipe(Path(file), registry=PluginManager().registry)
    for key, value in yaml.safe_load(text).items():
        if isinstance(value, int):
            assert getattr(recipe, key) == value


def test_the_readmes_plugin_fills_its_slot(desk):
    registry = PluginManager([Path("after_keyword.py")]).registry
    recipe = load_recipe("rosd", ["localizer=after_keyword"], registry=registry)
    assert build_components(recipe, registry).localizer.config.keyword == "Answer"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists() or target.endswith("run.svg"), target
