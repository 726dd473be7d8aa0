"""Training and evaluating from Python: the same folder and the same numbers as the command line, components as objects."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
import yaml

import rosd_kit as rk
from rosd_kit.cli import main
from rosd_kit.display import Display

TINY = {
    "steps": 2,
    "problems_per_step": 2,
    "group_size": 2,
    "gate": "all",
    "demonstration": "reference",
    "reflector": "oracle",
    "localizer": "full",
    "evaluation.problems": 2,
    "evaluation.samples": 1,
}


QUICK = {"evaluation.problems": 0}


class AfterKeyword(rk.Localizer):
    """Distil from the first occurrence of a keyword onward."""

    name = "after_keyword"

    class Config(rk.Config):
        keyword: str = "Answer"
        """Where the weights begin."""

    def __init__(self, config=None):
        super().__init__(config)
        self.asked = 0

    def locate(self, case):
        self.asked += 1
        start = max(0, case.rollout.completion.text.find(self.config.keyword))
        return rk.from_character(case.rollout.completion, start, "keyword")


def train(tmp_path, *, recipe="rosd", name="run", changes=None, **options):
    changes = {field: value for field, value in TINY.items() if field not in options.get("components", ())} | (changes or {})
    return rk.train(recipe, overrides=changes, out=tmp_path, name=name, display=Display(), **options)


def test_a_run_from_python_is_the_run_of_the_command_line(tmp_path):
    result = train(tmp_path)
    words = [f"{field}={value}" for field, value in TINY.items()]
    with pytest.raises(SystemExit) as ended:
        main(["run", "rosd", *words, "--out", str(tmp_path), "--name", "command", "--quiet"])
    assert not ended.value.code
    weights = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in ("run", "command")]
    assert weights[0] == weights[1]
    recipes = [(tmp_path / name / "recipe.yaml").read_text() for name in ("run", "command")]
    assert recipes[0] == recipes[1]
    cards = [(tmp_path / name / "model/README.md").read_text() for name in ("run", "command")]
    assert cards[0] == cards[1] and "## Evaluation" in cards[0]
    origins = [json.loads((tmp_path / name / "origins.json").read_text()) for name in ("run", "command")]
    assert origins[0] == origins[1] and origins[0]["preset"] == "rosd"
    sections = {change["path"].split(".")[0] for change in origins[0]["changes"]}
    assert sections <= {field.split(".")[0] for field in TINY} and origins[0]["origins"]["steps"] == "command line"
    assert (result.path, result.steps, result.finished) == (tmp_path / "run", 2, True)
    assert [record["step"] for record in result.metrics] == [1, 2]
    assert {c.suite for c in result.comparisons} == {r.suite for r in result.before} == {r.suite for r in result.after}


def a_folder(path):
    (path / "run").mkdir()
    (path / "run/recipe.yaml").write_text("profile: none\nsteps: 2\n")
    return path / "run"


def test_a_runs_folder_is_read_with_its_metrics_as_a_table(tmp_path):
    folder = a_folder(tmp_path)
    lines = [{"step": 1, "train/loss": 0.5}, {"step": 2, "train/loss": 0.25, "rollout/success": 1.0}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = rk.load_run(str(folder))
    assert (result.path, result.finished, result.metrics) == (folder, True, lines)
    assert list(result.frame.index) == [1, 2] and list(result.frame["train/loss"]) == [0.5, 0.25]
    assert result.frame["rollout/success"].isna().tolist() == [True, False]


def test_a_run_that_has_not_begun_is_unfinished_and_has_an_empty_table(tmp_path):
    result = rk.load_run(a_folder(tmp_path))
    assert not result.finished and result.metrics == [] and result.frame.empty


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(rk.RunError, match=r"load_run: .*no recipe.yaml.*runs/rosd-1"):
        rk.load_run(tmp_path)


def test_a_recipe_may_be_a_mapping_or_resolved(tmp_path):
    named = train(tmp_path, name="named", changes=QUICK)
    mapping = train(tmp_path, recipe={"extends": "rosd", "name": "rosd"}, name="mapping", changes=QUICK)
    registry = rk.plugins.manager.PluginManager(selection="builtin").registry
    loaded = rk.recipe.load_recipe(
        "rosd", [f"{field}={value}" for field, value in {**TINY, **QUICK}.items()], registry=registry
    )
    resolved = rk.train(loaded, out=tmp_path, name="resolved", display=Display())
    assert named.metrics[1]["train/loss"] == mapping.metrics[1]["train/loss"] == resolved.metrics[1]["train/loss"]


def test_a_component_object_does_the_work_and_is_recorded(tmp_path):
    localizer = AfterKeyword(AfterKeyword.Config(keyword="Step"))
    result = train(tmp_path, components={"localizer": localizer}, changes=QUICK)
    assert localizer.asked > 0
    localizer = yaml.safe_load((result.path / "recipe.yaml").read_text())["localizer"]
    assert (localizer["name"], localizer["keyword"]) == ("after_keyword", "Step")
    environment = json.loads((result.path / "environment.json").read_text())
    assert environment["given_components"] == {"localizer": f"{__name__}.AfterKeyword"}


def test_a_run_with_objects_resumes_only_with_them(tmp_path, capsys):
    first = AfterKeyword()
    path = train(tmp_path, components={"localizer": first}, changes={"steps": 1, **QUICK}).path
    with pytest.raises(rk.RunError, match=r"given objects for localizer \(.*AfterKeyword\).*rosd_kit.train\(resume="):
        rk.train(resume=path, overrides={"steps": 2}, display=Display())
    with pytest.raises(SystemExit):
        main(["run", "--resume", str(path), "steps=2"])
    assert "given objects for localizer" in capsys.readouterr().err
    again = AfterKeyword()
    resumed = rk.train(resume=path, overrides={"steps": 2}, components={"localizer": again}, display=Display())
    assert (resumed.steps, resumed.finished) == (2, True) and again.asked > 0
    whole = train(tmp_path, name="whole", components={"localizer": AfterKeyword()}, changes=QUICK)
    assert resumed.metrics[1]["train/loss"] == whole.metrics[1]["train/loss"]


def test_an_objective_object_gets_the_loss_parts(tmp_path):
    from rosd_kit.components.objectives.distill import Distill

    given = train(tmp_path, name="given", components={"objective": Distill()}, changes=QUICK)
    assert given.metrics[0]["train/loss"] == train(tmp_path, changes=QUICK).metrics[0]["train/loss"]


def test_plugins_may_be_files_modules_and_classes(tmp_path):
    file = tmp_path / "a_plugin.py"
    file.write_text(
        "import rosd_kit as rk\nclass Everything(rk.Localizer):\n    '''All.'''\n    name = 'everything'\n"
        "    def locate(self, case):\n        return rk.everywhere(case.rollout.completion, 'all')\n"
        "@rk.hookimpl\ndef rosd_kit_components():\n    return [Everything]\n"
    )
    module, steps = ModuleType("watching"), []

    @rk.hookimpl
    def rosd_kit_step_end(run, step):
        steps.append((run.step, step, run.path))

    module.rosd_kit_step_end = rosd_kit_step_end
    result = train(tmp_path, plugins=[file, module, AfterKeyword], changes={"localizer": "everything", **QUICK})
    assert result.metrics[0]["localize/all"] > 0
    assert steps == [(1, 1, result.path), (2, 2, result.path)]
    assert train(tmp_path, name="cls", plugins=[AfterKeyword], changes={"localizer": "after_keyword", **QUICK}).finished


def test_evaluate_measures_a_run_and_compares_it(tmp_path):
    result = train(tmp_path)
    measured = rk.evaluate(result.path, display=Display())
    assert [r.mean for r in measured.results] == [r.mean for r in result.after]
    compared = rk.evaluate(result.path, against="micro", display=Display())
    assert {c.suite for c in compared.comparisons} == {r.suite for r in result.after}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either a recipe"),
        ({"recipe": "rosd", "resume": "runs/x"}, "give either a recipe"),
        (
            {"recipe": "rosd", "components": {"localiser": AfterKeyword()}},
            "'localiser' is not a slot. Did you mean 'localizer'",
        ),
        ({"recipe": "rosd", "components": {"localizer": AfterKeyword}}, "must be an instance of rosd_kit.Localizer"),
        ({"recipe": "rosd", "overrides": "steps=2"}, "Give a list"),
        ({"recipe": "rosd", "plugins": ["nowhere.py"]}, "no file 'nowhere.py'"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(rk.RosdError) as raised:
        rk.train(options.pop("recipe", None), **options)
    assert message in str(raised.value)


def test_importing_the_package_loads_neither_torch_nor_transformers():
    import subprocess

    code = "import sys, rosd_kit; dir(rosd_kit); print(sorted({'torch', 'transformers', 'evaluate'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
