"""`rosd-kit plugins new`: what it writes installs, runs, and passes its own test, in every slot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rosd_kit.cli import main
from rosd_kit.contracts import SLOTS
from rosd_kit.plugins.manager import VARIABLE, PluginManager
from rosd_kit.recipe import load_recipe
from tests.plugins.by_hand import write_metadata

#: The slot whose package pip installs.
PIPPED = "localizer"


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(words)
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> dict[str, Path]:
    """Write a package for every slot and install all; return where each lies, and under "" where they are installed.

    pip installs one; the others follow the same template, so their metadata is written as pip would write it.
    """
    home = tmp_path_factory.mktemp("new")
    for kind in SLOTS:
        assert call("plugins", "new", f"my-{kind}", "--kind", kind, "--out", str(home)) == 0
    roots = {kind: home / f"rosd-kit-my-{kind}" for kind in SLOTS}
    target = home / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", str(target), str(roots[PIPPED])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for kind, root in roots.items():
        if kind != PIPPED:
            write_metadata(root, target)
            shutil.copy(root / f"rosd_kit_my_{kind}.py", target)
    return {**roots, "": target}


@pytest.mark.parametrize("kind", SLOTS)
def test_a_new_package_is_found_when_installed_and_its_recipe_shows_a_sample(packages, kind, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(packages[""]))
    monkeypatch.setenv(VARIABLE, f"my_{kind}")
    monkeypatch.chdir(packages[kind])
    assert call("run", "recipe.yaml", "--dry-run", "problems_per_step=4", "group_size=4") == 0
    said = capsys.readouterr()
    assert "nothing was trained" in said.out and "warning" not in said.err
    manager = PluginManager()
    recipe = load_recipe("recipe.yaml", registry=manager.registry)
    assert f"my_{kind}" in [choice.name for slot, choice in recipe.choices() if slot == kind]
    (report,) = [report for report in manager.reports if report.name == f"my_{kind}"]
    assert (report.distribution, report.version, report.status) == (f"rosd-kit-my-{kind}", "0.1.0", "ok")


def test_the_tests_of_the_new_packages_pass(packages):
    python_path = os.pathsep.join([str(packages[""]), *sys.path])
    passed = 0
    tests = [str(root / "tests") for kind, root in packages.items() if kind]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *tests],
        capture_output=True, text=True, cwd=packages[""], env={**os.environ, "PYTHONPATH": python_path},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    passed = int(done.stdout.rsplit(" passed", 1)[0].rsplit(None, 1)[1])
    assert passed >= 13 * 10


def test_a_new_file_can_be_checked_and_used(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("plugins", "new", "after-keyword", "--kind", "localizer", "--file") == 0
    assert "wrote after_keyword.py" in capsys.readouterr().out
    assert call("plugins", "check", "after_keyword.py") == 0
    assert call("show", "rosd", "localizer=after_keyword", "--plugin", "after_keyword.py") == 0


def test_nothing_is_overwritten_and_mistakes_are_errors(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("precious")
    for words, message in [
        (("mine", "--kind", "gate", "--file"), "'mine.py' exists already"),
        (("Mine!", "--kind", "gate"), "'Mine!' is not a name"),
        (("other", "--kind", "localiser"), "Did you mean 'localizer'?"),
    ]:
        assert call("plugins", "new", *words) == 2
        assert message in capsys.readouterr().err
    assert Path("mine.py").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_names_that_an_installed_package_has_are_refused(packages, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(packages[""]))
    monkeypatch.setenv(VARIABLE, "my_gate")
    assert call("plugins", "new", "rosd-kit-my-gate", "--kind", "gate", "--out", str(tmp_path)) == 2
    assert "there is a gate 'my_gate' already, from my_gate." in capsys.readouterr().err
    assert call("plugins", "new", "my-gate", "--kind", "support", "--out", str(tmp_path)) == 2
    assert "a package 'rosd-kit-my-gate' is installed already." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
