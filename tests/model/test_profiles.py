"""The profiles for real models: the paper's numbers, a dry run with a tiny model of their architecture, their memory."""

from __future__ import annotations

import re

import pytest
import torch

from rosd_kit.cli import main
from rosd_kit.memory.shapes import model_on_meta
from rosd_kit.recipe import load_recipe
from rosd_kit.run.dry_run import rehearse
from tests.model.tiny_models import save

REAL = ("one-gpu", "paper-8b", pytest.param("paper-4b", marks=pytest.mark.slow))
SMALL = (
    "verifier={name: coin, truncated: score}",
    "rollout=transformers",
    "model.device=cpu",
    "parallel={mode: auto, processes: null}",
    "problems_per_step=2",
    "group_size=2",
    "sampling.max_new_tokens=10",
    "reflector.max_new_tokens=10",
)


@pytest.mark.parametrize("profile", REAL)
def test_a_profile_runs_end_to_end_with_a_tiny_model_of_its_architecture(profile, recipe, plugins, tmp_path, capsys):
    folder = save(tmp_path / "qwen3")
    chosen = recipe(folder, profile=profile, tiny=SMALL)
    assert chosen.model.dtype == "bfloat16" and chosen.model.gradient_checkpointing
    assert (chosen.model.lora is not None) is (profile == "one-gpu")
    rehearse(chosen, plugins)
    out = capsys.readouterr().out
    assert "valid; 2 samples in this step" in out
    assert "model.chat_template_kwargs.enable_thinking: the chat template does not read it." in out


@pytest.mark.parametrize(
    ("profile", "model", "millions"), [("paper-4b", "Qwen/Qwen3-4B", 4022.5), ("paper-8b", "Qwen/Qwen3-8B", 8190.7)]
)
def test_the_profiles_have_the_papers_numbers(profile, model, millions, plugins):
    recipe = load_recipe("rosd", [], profile, registry=plugins.registry)
    assert recipe.model.path == model and recipe.model.lora is None
    assert sum(weight.numel() for weight in model_on_meta(recipe.model).parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert (recipe.problems_per_step, recipe.group_size) == (32, 8)
    sampling = recipe.sampling
    assert (sampling.temperature, sampling.max_prompt_tokens, sampling.max_new_tokens) == (1.0, 2048, 8192)
    assert recipe.model.chat_template_kwargs == {"enable_thinking": False}
    tutor = recipe.reflector.options
    assert (tutor.weights, tutor.max_prompt_tokens, tutor.max_new_tokens) == ("frozen", 8192, 4096)
    update = recipe.optimizer
    assert (update.name, update.lr, update.warmup_steps, update.weight_decay, update.clip) == ("adamw", 1e-5, 10, 0.01, 1.0)
    measured = recipe.evaluation
    assert (measured.samples, measured.temperature, measured.top_p) == (16, 0.6, 0.95)
    assert (recipe.parallel.mode, recipe.parallel.processes) == ("fsdp", 8)
    assert recipe.support.options.k == 100 and recipe.divergence.options.beta == 0.5 and recipe.correction.options.cap == 2.0


def doctor(*words) -> int:
    with pytest.raises(SystemExit) as end:
        main(["doctor", *words])
    return int(end.value.code or 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, whose size counts")
@pytest.mark.parametrize(("profile", "millions"), [("one-gpu", "1,790.3M"), ("paper-8b", "8,190.7M")])
def test_doctor_estimates_a_profiles_memory(profile, millions, capsys):
    """Qwen3-8B has 8.19 billion weights; 1.7B has 1.72 and adapters of rank 64."""
    assert doctor("rosd", "--profile", profile) == 0
    out = capsys.readouterr().out
    assert f"{millions} parameters in bfloat16" in out
    lines = ["weights", "copies of weights", "optimizer", "gradients", "activations", "logits", "rollouts", "SGLang", "total"]
    assert [line for line in lines if re.search(rf"^{line} +[\d,.]+ [MG]iB +[\d,.]+ [MG]iB", out, re.M)] == lines
    assert "of 79.00 GiB (no GPU here; assuming one with 80 GB): fits" in out
    assert ("on each device" in out) is profile.startswith("paper")


def test_doctor_warns_when_it_does_not_fit(capsys):
    assert doctor("rosd", "--profile", "paper-8b", "parallel={mode: auto, processes: null}") == 1
    out = capsys.readouterr().out
    assert "does not fit: lower batch.tokens" in out


def test_doctor_names_a_model_of_unknown_shape(capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no waiting for a hub that does not answer
    assert doctor("rosd", "model.path=nobody/nothing") == 2
    assert "the architecture of 'nobody/nothing' is not known on this machine" in capsys.readouterr().err
