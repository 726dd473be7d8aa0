"""Advice names the option that is meant, and one value where a list is wanted is taken."""

from __future__ import annotations

import pytest

from rosd_kit.recipe import load_recipe
from rosd_kit.recipe.nearest_option import _MEANINGS, MAIN_OPTIONS, _paths
from rosd_kit.settings import CoreSettings


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ("lr=1e-5", "'optimizer.lr'"),
        ("learning_rate=1e-5", "'optimizer.lr'"),
        ("max_tokens=8", "'sampling.max_new_tokens'"),
        ("batch_size=8", "'problems_per_step'"),
        ("num_generations=8", "'group_size'"),
        ("temperature=0.5", "'sampling.temperature' or 'evaluation.temperature'"),
        ("lora_rank=8", "'model.lora.rank'"),
        ("stepz=8", "'steps'"),
        ("use_vllm=true", "'rollout'"),
        ("optimizer.learning_rate=1", "'optimizer.lr'"),
        ("model.name=micro", "'model.path'"),
        ("model.lora_rank=8", "'model.lora.rank'"),
        ("rollout.temperature=0.5", "'sampling.temperature'"),
        ("rollout.n=8", "'group_size'"),
        ("localizer.mising=skip", "'missing'"),
    ],
)
def test_a_field_by_another_name_is_answered_with_the_option_it_means(refuse, change, meant):
    assert f"{change.partition('=')[0]}: unknown field (from command line). Did you mean {meant}?" in refuse(
        "extends: rosd", change
    )


def test_a_value_for_a_whole_section_is_answered_with_its_main_option(refuse):
    assert "model: 'Qwen/Qwen3-1.7B' (from command line) is a section. Did you mean model.path=...?" in refuse(
        "extends: rosd", "model=Qwen/Qwen3-1.7B"
    )


def test_every_suggested_option_exists():
    slots = {"verifier", "objective", "divergence", "support.k", "rollout", "teacher"}
    known = {*_paths(CoreSettings), "model.lora", *slots, *(f"task.{name}" for name in ("path", "prompt", "answer", "system"))}
    assert {*_MEANINGS.values(), *MAIN_OPTIONS.values()} <= known


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ("task.path=rows.jsonl", "'dataset' has it: task=dataset. Known: train, system"),
        ("verifier.pattern=x", "'exact' and 'majority' have it: verifier=exact. Known: truncated"),
    ],
)
def test_an_option_of_another_component_of_the_slot_names_that_component(refuse, change, advice):
    assert f"{change.partition('=')[0]}: unknown field (from command line). {advice}" in refuse("extends: rosd", change)


def test_a_misspelt_option_inside_a_section_is_compared_with_that_section(refuse):
    assert "optimizer.learning_rat: unknown field" in refuse("extends: rosd", "optimizer.learning_rat=1")
    assert "Did you mean 'max_new_tokens'?" in refuse("extends: rosd", "sampling.max_new_token=8")


@pytest.mark.parametrize(
    ("change", "read", "expected"),
    [
        ("tracking.to=tensorboard", lambda recipe: recipe.tracking.to, ["tensorboard"]),
        ("sampling.stop='###'", lambda recipe: recipe.sampling.stop, ["###"]),
        ("model.freeze=model.embed_tokens.*", lambda recipe: recipe.model.freeze, ["model.embed_tokens.*"]),
    ],
)
def test_one_value_is_a_list_of_one(registry, change, read, expected):
    assert read(load_recipe("rosd", [change], registry=registry)) == expected


@pytest.mark.parametrize("change", ["optimizer.betas=0.9", "model.freeze={a: 1}", "tracking.to=nowhere", "sampling.stop=true"])
def test_a_value_that_fits_no_item_is_refused_as_before(refuse, change):
    assert "is not allowed" in refuse("extends: rosd", change)
