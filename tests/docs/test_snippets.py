"""Everything that the README and the manual tell readers to type works."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml

from rosd_kit.cli import main
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe, to_values
from rosd_kit.sweep.plan import make_plan
from rosd_kit.sweep.settings import read_sweep
from tests.plugins.by_hand import write_metadata
from tests.sweep.made_up_results import finish

ROOT = Path(__file__).parents[2]
PACKAGES = sorted((ROOT / "plugins").glob("rosd-kit-*"))
TUTORIAL = ROOT / "docs/plugins/tutorial.md"  # test_tutorial.py follows it from top to bottom
SLOTS = ROOT / "docs/plugins/slots"  # whose examples are those of the scaffold, which tests/plugins/test_new.py tries
MANUAL = [page for page in sorted((ROOT / "docs").rglob("*.md")) if not page.is_relative_to(ROOT / "docs/beyond")]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *MANUAL,
    ROOT / "rosd_kit/model/micro/base/README.md",
    ROOT / "rosd_kit/model/micro/reasoning/README.md",
    ROOT / "plugins/README.md",
    *(package / "README.md" for package in PACKAGES),
]
BLOCK = re.compile(r"^```([\w{}-]*)\n(.*?)^```$", re.S | re.M)
SHELLS = ("console", "bash", "sh")
EXECUTED = {*SHELLS, "yaml", "python"}
#: A command of a page runs with this step: samples cost time, and how many there are is not what it shows.
SMALL = ("problems_per_step=4", "group_size=4")
NOT_OURS = (
    *("pip ", "pytest", "ruff ", "mypy", "lint-imports", "sphinx-build ", "lm-eval "),
    *("python docs/", "python plugins/measure.py", "export OPENAI_API_KEY"),
)


@cache
def blocks(language: str) -> list[tuple[str, str]]:
    pages = [page for page in PAGES if page != TUTORIAL and not (language == "python" and page.is_relative_to(SLOTS))]
    return [(page.name, text) for page in pages for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def lines() -> list[str]:
    """Return each line to type once, without its comment, split at &&."""
    typed = [line for kind in SHELLS for _, text in blocks(kind) for line in text.splitlines()]
    commands = [command.strip() for line in typed for command in line.removeprefix("$ ").split("  #")[0].split("&&")]
    return list(dict.fromkeys(filter(None, commands)))


def commands() -> list[str]:
    return [line for line in lines() if line.startswith("rosd-kit ")]


def transcripts() -> list[tuple[str, str]]:
    """Return each command that a page shows with its output, and that output."""
    shown = [text.partition("\n") for _, text in blocks("text") if text.startswith("$ rosd-kit ")]
    return [(line.removeprefix("$ "), output) for line, _, output in shown]


def plugins() -> list[str]:
    return [text for _, text in blocks("python") if "rosd_kit_components" in text]


def slot_and_name(text: str) -> tuple[str, str]:
    """Return the slot and the name of the component that a plugin adds."""
    if function := re.search(r"@rk\.(verifier)\ndef (\w+)", text):
        return function.groups()
    base, name = re.search(r"\(rk\.(\w+)\):.*?name = \"(\w+)\"", text, re.S).groups()
    return base.lower(), name


def file_of(text: str) -> Path:
    """Return the file that the first comment of a YAML block names."""
    match = re.match(r"# (\S+\.yaml)", text)
    assert match, f"the first line must be a comment that names the file: {text.splitlines()[0]}"
    return Path(match.group(1))


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """A working folder with the plugins and recipes of the pages, and with runs of the embedded model."""
    monkeypatch.chdir(tmp_path)
    for _, text in blocks("python"):
        if file := re.match(r"# (\S+\.py)\n", text):
            Path(file.group(1)).write_text(text)
    for text in plugins():
        Path(f"{slot_and_name(text)[1]}.py").write_text(text)
    for _, text in blocks("yaml"):
        file_of(text).write_text(text)
    for run in ("base", "polish", "rosd-1"):
        Path("runs", run).mkdir(parents=True)
        Path("runs", run, "recipe.yaml").write_text("extends: rosd\nevaluation: {problems: 2, samples: 2}\n")
        Path("runs", run, "model").symlink_to(ROOT / "rosd_kit/model/micro/base")
    return tmp_path


def new_files() -> dict[str, str]:
    """Return the commands of the manual that write a plugin file, by the file."""
    found = (line for line in commands() if line.startswith("rosd-kit plugins new ") and line.endswith(" --file"))
    return {f"{shlex.split(line)[3].replace('-', '_')}.py": line for line in found}


NEW_FILES = new_files()


def test_every_block_has_a_known_kind_and_each_kind_occurs():
    assert len(commands()) >= 10 and len(blocks("yaml")) >= 2 and len(plugins()) >= 3 and len(transcripts()) >= 1
    for page in PAGES:
        kinds = [kind for kind, _ in BLOCK.findall(page.read_text())]
        assert {*kinds} <= {*EXECUTED, "text", "", "{eval-rst}"}, page
        assert len(kinds) * 2 == len(re.findall(r"^```", page.read_text(), re.M)), page


def test_every_line_to_type_is_tested_here_or_belongs_to_another_tool():
    assert [line for line in lines() if not line.startswith(("rosd-kit ", *NOT_OURS))] == []


@pytest.fixture
def installed(workdir, monkeypatch):
    """The folder plugins/ in the working folder, with its packages installed."""
    (workdir / "plugins").symlink_to(ROOT / "plugins")
    for package in PACKAGES:
        write_metadata(package, workdir)
        monkeypatch.syspath_prepend(str(package / "src"))
    monkeypatch.syspath_prepend(str(workdir))


@pytest.mark.parametrize("line", commands())
def test_a_command_works_as_written(workdir, line, capsys, request):
    words = shlex.split(line)[1:]
    if any(word.startswith("plugins/") for word in words):
        request.getfixturevalue("installed")
        words[0] = words[0].replace("run", "show")  # the packages' own tests run their recipes
    if words[:2] == ["plugins", "check"] and (before := NEW_FILES.get(words[2])):
        with pytest.raises(SystemExit):
            main(shlex.split(before)[1:])
    if words[:2] == ["sweep", "report"]:
        name = f"recipes/ablations/{words[4]}.sweep.yaml" if "--plan" in words else "rosd"
        finish(Path(words[2]), make_plan(read_sweep(name, ["seed=0..1"]), PluginManager().registry), lambda *_: 0.5)
    elif words[:2] == ["report", "sweeps/rosd"]:
        finish(Path(words[1]), make_plan(read_sweep("rosd", ["seed=0..1"]), PluginManager().registry), lambda *_: 0.5)
    elif words[:2] == ["sweep", "export"]:
        finish(Path(words[2]), make_plan(read_sweep("rosd", ["seed=0..1"]), PluginManager().registry), lambda *_: 0.5)
    elif words[0] == "sweep":
        words += [*SMALL, "evaluation.problems=2", "--dry-run"]
    elif words[0] == "diagnose":
        words += [*SMALL, "--rollouts", "2"]
    elif words[0] == "run":
        words += [*SMALL, *([] if "--dry-run" in words else ["--dry-run"])]
    with pytest.raises(SystemExit) as end:
        main(words)
    output = capsys.readouterr()
    assert not end.value.code, output.err
    assert output.out


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_a_recipe_or_sweep_of_the_manual_resolves(workdir, page, text):
    registry = PluginManager().registry
    if file_of(text).name.endswith(".sweep.yaml"):
        assert make_plan(read_sweep(str(file_of(text))), registry).trials
        return
    recipe = load_recipe(file_of(text), registry=registry)
    values = to_values(recipe)
    for key, value in yaml.safe_load(text).items():
        if key not in ("extends", "profile"):
            assert contains(values[key], value), key


def contains(resolved, written) -> bool:
    """Return whether a resolved value contains everything that a recipe writes."""
    if isinstance(resolved, dict):
        options = written if isinstance(written, dict) else {"name": written}
        return all(contains(resolved[key], value) for key, value in options.items())
    if isinstance(resolved, list) and isinstance(written, list):
        return len(resolved) == len(written) and all(map(contains, resolved, written))
    return resolved == written


@pytest.mark.parametrize(("line", "shown"), transcripts())
def test_a_command_prints_what_the_page_shows(workdir, line, shown, capsys):
    with pytest.raises(SystemExit):
        main(shlex.split(line)[1:])
    output = capsys.readouterr()
    assert (output.out + output.err).strip() == shown.strip()


NOTEBOOK = [text for page, text in blocks("python") if page == "python.md"]


@pytest.mark.parametrize(("page", "text"), [block for block in blocks("python") if block[1] not in NOTEBOOK])
def test_a_python_block_runs_as_written(workdir, page, text):
    exec(compile(text, page, "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("text", plugins(), ids=lambda text: slot_and_name(text)[1])
def test_a_shown_plugin_fills_its_slot(workdir, text):
    slot, name = slot_and_name(text)
    registry = PluginManager([Path(f"{name}.py")]).registry
    recipe = load_recipe("rosd", [f"{slot}={name}"], registry=registry)
    assert getattr(build_components(recipe, registry), slot).name == name


def test_the_readmes_plugin_takes_its_option(workdir):
    registry = PluginManager([Path("after_keyword.py")]).registry
    for changes, keyword in ((), "="), (("localizer.keyword=Answer",), "Answer"):
        recipe = load_recipe("rosd", ["localizer=after_keyword", *changes], registry=registry)
        assert build_components(recipe, registry).localizer.config.keyword == keyword


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_have_targets(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_notebook_example_works(workdir, capsys):
    (page,) = NOTEBOOK
    names: dict[str, object] = {"__name__": "in_a_notebook"}
    exec(compile(page, "in_a_notebook.py", "exec"), names)
    output = capsys.readouterr().out
    assert "runs/from-number: 2 steps, finished: True" in output
    assert len(names["losses"]) == 2 and "from_number" in Path("runs/from-number/recipe.yaml").read_text()
