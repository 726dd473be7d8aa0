"""`model.gradient_checkpointing: auto` recomputes as little as the free memory allows, and trains the same."""

from __future__ import annotations

import pytest

from rosd_kit.cli import main
from rosd_kit.display import Display
from rosd_kit.memory import estimate_memory, recomputation
from rosd_kit.memory.recomputation import choose_recomputation, free_bytes, with_checkpointing
from rosd_kit.model.activation_checkpointing import enable_checkpointing
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.run.loop import run_recipe

CHOICES = (False, "selective", True)


@pytest.fixture(scope="module")
def plugins():
    return PluginManager(selection="builtin")


@pytest.fixture(scope="module")
def recipe(plugins):
    changes = (
        "model.gradient_checkpointing=auto",
        "model.device=cpu",
        "steps=1",
        "problems_per_step=4",
        "evaluation.problems=0",
    )
    return load_recipe("rosd", list(changes), registry=plugins.registry)


@pytest.fixture(scope="module")
def components(recipe, plugins):
    return build_components(recipe, plugins.registry)


@pytest.fixture(scope="module")
def needed(recipe, components):
    """Return what training takes with each choice, in bytes."""
    return {one: estimate_memory(with_checkpointing(recipe, one), components).train for one in CHOICES}


def choose(recipe, components, free):
    return choose_recomputation(recipe, components, device="cpu", ranks=1, free=int(free))


@pytest.fixture
def estimated_once(monkeypatch):
    """Estimate each choice once: tracing a training step takes a second."""
    estimates = {}

    def estimate(recipe, components, **options):
        key = recipe.model.gradient_checkpointing
        if key not in estimates:
            estimates[key] = estimate_memory(recipe, components, **options)
        return estimates[key]

    monkeypatch.setattr(recomputation, "estimate_memory", estimate)


def test_what_is_recomputed_is_the_least_that_fits_with_some_room(recipe, components, needed, estimated_once):
    assert needed[False] > needed["selective"] > needed[True]
    for checkpointing in CHOICES:
        enough, too_little = needed[checkpointing] / 0.85 + 1, needed[checkpointing] / 0.85 - 2
        choice = choose(recipe, components, enough)
        assert (choice.checkpointing, choice.needed) == (checkpointing, needed[checkpointing])
        assert choose(recipe, components, too_little).checkpointing != checkpointing or checkpointing is True
    assert choose(recipe, components, 1000).checkpointing is True, "nothing fits"


def test_a_choice_says_what_it_is_and_why(recipe, components, estimated_once):
    assert str(choose(recipe, components, 64 << 30)).startswith("recomputes nothing: training takes ")
    assert str(choose(recipe, components, 2 << 30)).endswith(" of 2.00 GiB")
    assert str(choose(recipe, components, 1000)).startswith("recomputes whole layers: ")


class Said(Display):
    def __init__(self):
        self.lines = []

    def waiting(self, text):
        self.lines.append(text)


@pytest.mark.parametrize("checkpointing", CHOICES)
def test_a_run_applies_the_choice(recipe, plugins, needed, tmp_path, monkeypatch, checkpointing):
    """The student that trains is switched to it; the recipe keeps `auto`."""
    applied = []

    def recording(model, **how):
        applied.extend([how] * (model.device.type != "meta"))
        enable_checkpointing(model, **how)

    monkeypatch.setattr("rosd_kit.model.activation_checkpointing.enable_checkpointing", recording)
    monkeypatch.setattr(recomputation, "free_bytes", lambda ranks: int(needed[checkpointing] / 0.85) + 1)
    said = Said()
    run_recipe(recipe, plugins=plugins, out=tmp_path, name="run", resume=None, display=said)
    assert applied == ([] if checkpointing is False else [{"selective": checkpointing == "selective", "fused": False}])
    assert [line for line in said.lines if line.startswith("model.gradient_checkpointing=auto recomputes ")]
    assert "gradient_checkpointing: auto" in (tmp_path / "run/recipe.yaml").read_text()


def test_a_recipe_that_names_its_choice_is_left_alone(recipe, components):
    named = with_checkpointing(recipe, "selective")
    assert recomputation.recomputation_of(named, components, Ranks.alone("cpu")) is None


def test_ranks_of_a_machine_share_its_memory():
    alone = Ranks.alone("cpu")
    free = free_bytes(alone)
    assert 64 << 20 < free < 1 << 46


@pytest.mark.parametrize("command", ["doctor", "run"])
def test_doctor_and_dry_run_take_auto(command, capsys):
    words = ["rosd", "model.gradient_checkpointing=auto", "model.device=cpu", "problems_per_step=2", "group_size=2"]
    with pytest.raises(SystemExit) as end:
        main([command, *words, *(["--dry-run"] if command == "run" else [])])
    assert not end.value.code
    assert ("model.gradient_checkpointing=auto recomputes nothing: training takes " in capsys.readouterr().out) == (
        command == "doctor"
    )
