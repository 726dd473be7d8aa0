"""The page that sets our recipes beside the references says what both resolve to, and leaves nothing out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rosd_kit.plugins.manager import PluginManager
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import resolve_recipe, shipped_names, to_values
from rosd_kit.recipe.difference import differences

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/conformance.md").read_text()
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
ROW = re.compile(r"^\| `([^`]+)` \| (?:`([^`]*)`|–) \| (?:`([^`]*)`|–) \| (\S.*) \|$", re.M)


@pytest.fixture
def registry_for(monkeypatch) -> Callable[[str], Registry]:
    """Return the components that a recipe of this page may name: ours, and those of its package where it has one."""

    def registry(recipe: str) -> Registry:
        if not recipe.startswith("plugins/"):
            return PluginManager(selection="builtin").registry
        source = ROOT / recipe.rpartition("/")[0] / "src"
        monkeypatch.syspath_prepend(source)
        return PluginManager(list(source.glob("*/__init__.py")), selection="builtin").registry

    return registry


def where(recipe: str) -> str:
    """Return a recipe as it is named when it is loaded: recipes of packages by their paths."""
    return str(ROOT / recipe) if recipe.startswith("plugins/") else recipe


def test_every_reference_recipe_has_a_section():
    shipped = [name for name in shipped_names() if name.startswith("reference/")]
    packages = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("plugins/*/reference.yaml")]
    assert shipped and packages and sorted(SECTIONS) == sorted([*shipped, *packages])


@pytest.mark.parametrize("name", SECTIONS)
def test_the_rows_are_the_differences_of_the_resolved_recipes(name, registry_for):
    ours, profile = re.search(r"Against `(\S+)`, both with the profile `(\S+)`:", SECTIONS[name]).groups()
    registry = registry_for(name)
    theirs, own = (resolve_recipe(where(recipe), (), profile, registry=registry) for recipe in (name, ours))
    found = {d.path: (d.left.value or "", d.right.value or "") for d in differences(theirs, own) if d.path != "name"}
    assert {path: (left, right) for path, left, right, _ in ROW.findall(SECTIONS[name])} == found


#: What the scripts and configurations of the references set, read from them at the commits that the page names.
SETTINGS: dict[str, dict[str, object]] = {
    "reference/rosd": {
        "problems_per_step": 32,
        "group_size": 8,
        "optimizer.lr": 1e-5,
        "optimizer.warmup_steps": 10,
        "optimizer.updates_per_batch": 1,
        "teacher.name": "frozen",
        "support.k": 100,
        "support.tail": True,
        "divergence.name": "jsd",
        "divergence.beta": 0.5,
        "correction.cap": 2.0,
        "reflector.reflect_right": True,
        "reflector.max_prompt_tokens": 8192,
        "reflector.max_new_tokens": 4096,
        "demonstration.thinking": "remove",
        "sampling.max_prompt_tokens": 2048,
        "sampling.max_new_tokens": 8192,
        "sampling.max_teacher_prompt_tokens": 10240,
        "evaluation.every": 10,
        "evaluation.samples": 16,
        "evaluation.temperature": 0.6,
        "evaluation.top_p": 0.95,
        "model.chat_template_kwargs.enable_thinking": False,
    },
    "reference/rosd-grpo": {
        "problems_per_step": 32,
        "group_size": 8,
        "optimizer.lr": 1e-6,
        "optimizer.updates_per_batch": 4,
        "gate.name": "all",
        "objective.0.advantage": "mean",
        "objective.0.clip_low": 0.2,
        "objective.0.clip_high": 0.28,
        "objective.0.dual_clip": 3.0,
        "objective.0.importance_cap": 2.0,
        "objective.0.normalise": "token",
    },
    "reference/sdpo": {
        "problems_per_step": 32,
        "group_size": 8,
        "optimizer.lr": 1e-5,
        "gate.name": "all",
        "teacher.name": "ema",
        "teacher.rate": 0.05,
        "support.k": 100,
        "divergence.name": "jsd",
        "divergence.beta": 0.5,
        "correction.cap": 2.0,
        "context.name": "solution",
    },
    "reference/sdpo-rich-feedback": {
        "optimizer.lr": 1e-6,
        "optimizer.warmup_steps": 0,
        "optimizer.updates_per_batch": 32,
        "support.k": 20,
        "divergence.name": "reverse_kl",
        "context.name": "solution_or_feedback",
        "evaluation.samples": 4,
        "gate.name": "all",
    },
    "reference/opsd": {
        "problems_per_step": 32,
        "group_size": 1,
        "optimizer.lr.from": 2e-4,
        "optimizer.warmup_steps": 0,
        "optimizer.weight_decay": 0.0,
        "model.lora.rank": 64,
        "model.lora.alpha": 128,
        "sampling.temperature": 1.1,
        "sampling.top_p": 0.95,
        "sampling.top_k": 20,
        "sampling.max_new_tokens": 2048,
        "divergence.name": "jsd",
        "divergence.beta": 0.5,
        "support.name": "full",
        "objective.0.temperature": 1.1,
        "teacher.name": "adapter_off",
        "model.chat.student.enable_thinking": False,
        "model.chat.teacher.enable_thinking": True,
    },
    "reference/opsd-2026-03": {
        "sampling.max_new_tokens": 1024,
        "divergence.name": "forward_kl",
        "divergence.entry_clip": 0.05,
        "optimizer.lr.from": 2e-4,
        "objective.0.temperature": 1.1,
    },
    "reference/sdft": {
        "objective.0.normalise": "sequence",
        "correction.level": "sequence",
        "optimizer.decay": "cosine",
        "teacher.rate": 0.01,
    },
    "plugins/rosd-kit-rlcsd/reference.yaml": {
        "model.path": "Qwen/Qwen3-4B",
        "model.chat_template_kwargs.enable_thinking": True,
        "problems_per_step": 64,
        "group_size": 8,
        "optimizer.updates_per_batch": 4,
        "optimizer.lr": 1e-6,
        "optimizer.warmup_steps": 50,
        "optimizer.weight_decay": 0.01,
        "optimizer.clip": 1.0,
        "sampling.temperature": 1.0,
        "sampling.top_p": 0.95,
        "sampling.top_k": 20,
        "sampling.max_prompt_tokens": 2048,
        "sampling.max_new_tokens": 16384,
        "demonstration.wrong": 4,
        "teacher.name": "snapshot",
        "teacher.every": 10,
        "objective.0.strength": 0.5,
        "objective.0.scale": 0.02,
        "objective.0.threshold": 0.02,
        "objective.0.clip_low": 0.2,
        "objective.0.clip_high": 0.2,
        "objective.0.importance_cap": 2.0,
        "evaluation.samples": 12,
        "evaluation.temperature": 0.6,
        "evaluation.top_k": 20,
        "evaluation.max_new_tokens": 38912,
    },
    "plugins/rosd-kit-beta-opsd/reference.yaml": {
        "model.path": "Qwen/Qwen3-4B",
        "model.lora.rank": 64,
        "model.lora.alpha": 128,
        "model.chat.student.enable_thinking": False,
        "model.chat.teacher.enable_thinking": True,
        "steps": 200,
        "problems_per_step": 32,
        "group_size": 1,
        "optimizer.lr.from": 5e-6,
        "optimizer.clip": 0.1,
        "sampling.temperature": 1.1,
        "sampling.top_p": 0.95,
        "sampling.top_k": 20,
        "sampling.max_new_tokens": 1024,
        "teacher.share": 0.5,
        "teacher.reference": "current_student",
        "teacher.informed": "frozen",
        "support.name": "sampled",
        "divergence.name": "reverse_kl",
        "objective.0.temperature": 1.1,
    },
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_reference_recipe_has_the_settings_of_its_source(name, registry_for):
    resolved = resolve_recipe(where(name), registry=registry_for(name))
    values = flat("", to_values(resolved.recipe))
    assert {option: values[option] for option in SETTINGS[name]} == SETTINGS[name]
    assert sorted(SETTINGS) == sorted(SECTIONS)


def flat(path, value):
    """Return nested values by dotted path."""
    if not isinstance(value, dict | list):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {name: leaf for key, item in items for name, leaf in flat(f"{path}.{key}".lstrip("."), item).items()}
