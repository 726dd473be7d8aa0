"""Old names of modules, of what is in them, of fields and of metrics: they work, and say what to write."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import rosd_kit
from rosd_kit import renames
from rosd_kit.renames import FIELDS, MODULES, NAMES, RenamedWarning, with_current_metrics
from rosd_kit.types import Section

pytestmark = [
    pytest.mark.filterwarnings("ignore::rosd_kit.renames.RenamedWarning"),
    pytest.mark.usefixtures("forget_old_modules"),
]

CASES = Path(__file__).parents[2] / "shared/cases"


@pytest.mark.parametrize("old", MODULES)
def test_a_module_that_moved_can_be_imported_by_its_old_name(old):
    new = importlib.import_module(MODULES[old].new)
    module = importlib.import_module(old)
    own = [name for name, value in vars(new).items() if getattr(value, "__module__", None) == new.__name__]
    for name in own:
        with pytest.warns(RenamedWarning, match=f"{old} is called {new.__name__} since plugin API 2; write {new.__name__}"):
            assert getattr(module, name) is getattr(new, name)


@pytest.mark.parametrize("old", NAMES)
def test_an_old_name_is_what_the_new_one_is(old):
    home, _, name = old.rpartition(".")
    new_home, _, new_name = NAMES[old].new.rpartition(".")
    new = getattr(importlib.import_module(new_home), new_name)
    with pytest.warns(RenamedWarning, match=f"{old} is called {NAMES[old].new} since plugin API 2"):
        assert getattr(importlib.import_module(home), name) is new


def test_the_module_named_by_a_warning_is_that_of_the_caller():
    with pytest.warns(RenamedWarning) as caught:
        from rosd_kit.loop import execute
    assert {warning.filename for warning in caught} == {__file__}
    assert execute is rosd_kit.run.loop.run_recipe


@pytest.mark.parametrize("name", ["rosd_kit.loop", "rosd_kit.plugins", "rosd_kit.types", "rosd_kit.train", "rosd_kit"])
def test_a_name_that_never_was_is_not_found_in_old_and_changed_modules(name):
    with pytest.raises(AttributeError, match="never_was"):
        _ = importlib.import_module(name).never_was


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"rosd_kit\.lop"):
        importlib.import_module("rosd_kit.lop")


def test_importing_the_package_imports_neither_old_modules_nor_torch():
    code = "import rosd_kit, sys; print([name for name in sys.modules if name.startswith('rosd_kit') or name == 'torch'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = {name for name in ast.literal_eval(done.stdout) if not name.startswith("rosd_kit.renames.")}
    assert others == {"rosd_kit", "rosd_kit.deferred", "rosd_kit.renames"}


def test_the_old_package_train_can_be_called_as_the_function_train(monkeypatch):
    """Importing from the old package makes it the attribute `rosd_kit.train`, over the function of that name."""
    monkeypatch.setattr("rosd_kit.api.train", lambda recipe, *, steps: (recipe, steps))
    importlib.import_module("rosd_kit.train.student")
    assert rosd_kit.train is sys.modules["rosd_kit.train"]
    assert rosd_kit.train("rosd", steps=3) == ("rosd", 3)


def test_the_function_train_is_found_where_nothing_imported_the_old_package():
    assert inspect.isfunction(rosd_kit.train)
    with pytest.warns(RenamedWarning):
        from rosd_kit.train.student import Student
    assert Student is rosd_kit.Student and callable(rosd_kit.train)


def test_a_section_is_made_and_read_with_the_old_field():
    with pytest.warns(RenamedWarning, match="rosd_kit.Section.keep is called rosd_kit.Section.cut_priority"):
        cuttable, uncut = Section(text="a", keep=2), Section(text="b", keep=0)
    assert (cuttable, uncut) == (Section(text="a", cut_priority=2), Section(text="b", cut_priority=None))
    with pytest.warns(RenamedWarning, match="and None for 0"):
        assert (cuttable.keep, uncut.keep) == (2, 0)
    with pytest.warns(RenamedWarning):
        assert replace(cuttable, keep=3) == Section(text="a", cut_priority=3)
    with pytest.raises(TypeError, match="kept"):
        Section(text="a", kept=1)


def test_observers_read_a_run_with_the_old_fields(tmp_path):
    from rosd_kit.plugins.run_view import RunView
    from rosd_kit.recipe import CoreSettings

    recipe = CoreSettings(name="a", steps=1, problems_per_step=1, group_size=1)
    old = {"folder": "old folder", "student": "old student", "saved": 3}
    run = RunView(recipe=recipe, values={}, path=tmp_path, step=3, policy=None, api_1=old)
    with pytest.warns(RenamedWarning, match=r"run\.folder is called run\.path since plugin API 2"):
        assert run.folder == "old folder"
    with pytest.warns(RenamedWarning, match=r"run\.student is called run\.policy since plugin API 2"):
        assert run.student == "old student"
    with pytest.warns(RenamedWarning, match=r"run\.saved: observers only read"):
        assert run.saved == 3


def test_every_field_in_the_table_belongs_to_a_class_that_accepts_old_fields():
    for entry in (entry for old, entry in FIELDS.items() if not old.startswith("run.")):  # those are of the observers' view
        home, _, name = entry.old.rpartition(".")
        module, _, cls = home.rpartition(".")
        owner = getattr(importlib.import_module(module), cls)
        assert isinstance(vars(owner)[name], property)
        assert entry.new.rpartition(".")[2] in owner.__dataclass_fields__


def test_metrics_of_old_runs_get_their_current_keys():
    assert with_current_metrics({"step": 1, "time/ahead": 0.5}) == {"step": 1, "time/prefetch": 0.5}


def test_no_old_name_is_in_use_again():
    """`rosd_kit.train`, a package before, is a function now; every other old name must stay unused while it is in the table."""
    root = Path(rosd_kit.__file__).parent
    for old in MODULES:
        path = root / Path(*old.split(".")[1:])
        assert not path.is_dir() and not path.with_suffix(".py").is_file(), old
    assert not renames.METRICS.keys() & {entry.new for entry in renames.METRICS.values()}


@pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not there")
def test_the_inputs_that_failed_still_import_what_they_import():
    imported = set()
    for file in sorted(CASES.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rosd_kit"):
                imported |= {(node.module, alias.name) for alias in node.names}
    assert {("rosd_kit.loop", "execute"), ("rosd_kit.train.layout", "lay_out"), ("rosd_kit.text.budget", "fit")} <= imported
    for module, name in sorted(imported):
        assert hasattr(importlib.import_module(module), name), f"from {module} import {name}"
