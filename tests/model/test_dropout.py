"""Dropout, layer drop and router noise of a model's config: off while scoring and training, unless the recipe asks."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoConfig

from rosd_kit.model.activation_checkpointing import enable_checkpointing
from rosd_kit.model.dropout import disable_dropout, enter_training
from rosd_kit.model.split import split_model
from rosd_kit.model.split_check import check_training_mode
from rosd_kit.model.student import Student
from rosd_kit.settings import LoraSettings, ModelSettings
from tests.model.architectures import GPT, MOE
from tests.model.test_layouts import make
from tests.model.tiny_models import save

MODELS = {
    "qwen3": {"head_dim": 8, "attention_dropout": 0.5},
    "gpt2": {**GPT, "resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.5, "attention_dropout": 0.5, "layerdrop": 0.5},
    "xglm": {
        **{"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4},
        **{"dropout": 0.5, "attention_dropout": 0.5, "activation_dropout": 0.5, "layerdrop": 0.5},
    },
    "seed_oss": {"head_dim": 8, "attention_dropout": 0.5, "residual_dropout": 0.5},
    "persimmon": {"hidden_dropout": 0.5, "attention_dropout": 0.5},
    "starcoder2": {"residual_dropout": 0.5, "embedding_dropout": 0.5, "attention_dropout": 0.5},
    "mixtral": {**MOE, "attention_dropout": 0.5, "router_jitter_noise": 0.5},
    "phimoe": {**MOE, "attention_dropout": 0.5, "input_jitter_noise": 0.5, "router_jitter_noise": 0.1},
}
IDS = torch.arange(5, 25)[None]


def logits(model) -> torch.Tensor:
    return model(input_ids=IDS, use_cache=False).logits


def gradient(model) -> torch.Tensor:
    model.zero_grad()
    logits(model).square().mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("checkpointing", [None, "all", "selective"])
@pytest.mark.parametrize("kind", MODELS)
def test_without_dropout_training_computes_what_sampling_does(kind, checkpointing):
    model = make(kind, MODELS[kind])
    expected, wanted = logits(model).detach(), gradient(model)
    assert check_training_mode(model) is not None
    described = disable_dropout(model)
    positive = {name: value for name, value in MODELS[kind].items() if ("drop" in name or "jitter" in name) and value}
    assert described is not None
    assert set(f"{name}={value:g}" for name, value in positive.items()) <= set(described.split(", "))
    assert torch.equal(logits(model), expected)
    if checkpointing:
        enable_checkpointing(model, selective=checkpointing == "selective")
    assert check_training_mode(model) is None
    enter_training(model, dropout=False)
    torch.testing.assert_close(logits(model), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(gradient(model), wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["qwen3", "persimmon", "gpt2"])
def test_an_exported_model_keeps_its_dropout(kind, tmp_path):
    folder = save(tmp_path / "model", "qwen3", **MODELS[kind]) if kind == "qwen3" else None
    model = make(kind, MODELS[kind])
    before = model.config.to_dict()
    disable_dropout(model)
    assert model.config.to_dict() == before
    if folder is not None:
        Student.load(ModelSettings(path=str(folder), device="cpu"), keep_initial=False).export(tmp_path / "exported")
        assert AutoConfig.from_pretrained(tmp_path / "exported").attention_dropout == 0.5


def test_a_config_without_dropout_is_not_touched():
    model = make("qwen3", {"head_dim": 8})
    assert disable_dropout(model) is None
    assert all(module.config is model.config for module in model.modules() if hasattr(module, "config"))


def test_a_hidden_configuration_keeps_prefix_trees_working():
    model = make("persimmon", MODELS["persimmon"])
    disable_dropout(model)
    parts = split_model(model)
    assert parts.backbone.config.attention_dropout == 0.0 and model.config.attention_dropout == 0.5
    assert {id(layer.self_attn.config) for layer in parts.backbone.layers} == {id(parts.backbone.config)}


def warnings_of(run) -> list[str]:
    return json.loads((sorted((run / "checkpoints").iterdir())[-1] / "state.json").read_text())["warnings"]


@pytest.mark.parametrize("dropout", [False, True])
def test_a_run_is_on_policy_at_its_first_step_unless_it_trains_with_dropout(train, tmp_path, dropout):
    folder = save(tmp_path / "model", "qwen3", attention_dropout=0.3)
    metrics, run = train(folder, f"model.dropout={str(dropout).lower()}")
    said = [text for text in warnings_of(run) if text.startswith("model.dropout: ")]
    if dropout:
        assert metrics["train/engine_mismatch"] > 1e-2 and not said
    else:
        assert metrics["train/engine_mismatch"] < 1e-5
        assert said == [
            "model.dropout: the model's config has attention_dropout=0.3. It is off, because rollouts are sampled without it. "
            "Set model.dropout=true to train with it."
        ]


def test_the_dropout_of_adapters_acts_while_training_only(tmp_path):
    folder = save(tmp_path / "model", "qwen3", attention_dropout=0.3)
    lora = LoraSettings(rank=4, dropout=0.5)
    student = Student.load(ModelSettings(path=str(folder), device="cpu", lora=lora), keep_initial=False)
    with torch.no_grad():
        for weight in student.state().values():
            weight.add_(torch.randn_like(weight, generator=None) * 0.3)
        expected = logits(student.model)
        student.enter_training()
        assert float((logits(student.model) - expected).abs().max()) > 1e-2
        for module in student.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.eval()
        torch.testing.assert_close(logits(student.model), expected)
        student.model.eval()
        torch.testing.assert_close(logits(student.model), expected)
