"""Exported weights: full tensors under transformers' names, adapters merged, shards gathered."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from rosd_kit.model.student import Student
from rosd_kit.settings import LoraSettings, ModelSettings


def load(**settings) -> Student:
    return Student.load(ModelSettings(path="micro", device="cpu", **settings), keep_initial=True)


def perturb(student: Student) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in student.state().values():
            weight.add_(torch.randn_like(weight) * 0.02)


def assert_same(weights, expected) -> None:
    assert weights.keys() == expected.keys()
    for name in expected:
        rounding = {"rtol": 0.016, "atol": 1e-3} if expected[name].dtype == torch.bfloat16 else {"rtol": 0.0, "atol": 1e-6}
        torch.testing.assert_close(weights[name], expected[name], **rounding, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("targets", [None, "all-linear", ["q_proj", "embed_tokens"]])
def test_live_weights_equal_the_exported_ones(tmp_path, dtype, targets):
    lora = LoraSettings(rank=4, alpha=8, target_modules=targets) if targets else None
    student = load(dtype=dtype, lora=lora)
    perturb(student)
    student.export(tmp_path)
    exported = load_file(tmp_path / "model.safetensors")
    weights = dict(student.full_weights("live"))
    exported.pop("lm_head.weight", None), weights.pop("lm_head.weight", None)  # tied to the embeddings
    assert_same(weights, exported)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4, alpha=8)])
def test_initial_weights_equal_the_loaded_ones(lora):
    plain = dict(load().full_weights("live"))
    student = load(lora=lora)
    perturb(student)
    assert_same(dict(student.full_weights("initial")), plain)
    moved = dict(student.full_weights("live"))
    assert any(not torch.equal(moved[name], plain[name]) for name in plain)


def test_merging_does_not_change_the_model():
    student = load(lora=LoraSettings(rank=4, alpha=8))
    perturb(student)
    before = {name: weight.clone() for name, weight in student.model.named_parameters()}
    list(student.full_weights("live"))
    assert all(torch.equal(weight, before[name]) for name, weight in student.model.named_parameters())


@pytest.fixture
def mesh(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4, alpha=8)])
def test_sharded_weights_are_gathered(mesh, lora):
    student, whole = load(lora=lora), load(lora=lora)
    perturb(student), perturb(whole)
    for layer in student.model.get_decoder().layers if lora is None else student.model.get_base_model().model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(student.model, mesh=mesh)
    assert any(isinstance(weight, DTensor) for weight in student.model.parameters())
    weights = dict(student.full_weights("live"))
    assert not any(isinstance(weight, DTensor) for weight in weights.values())
    assert_same(weights, dict(whole.full_weights("live")))
