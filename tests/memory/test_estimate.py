"""The estimate's numbers against the very tensors of real students and optimizers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rosd_kit.memory import estimate_memory
from rosd_kit.memory.live import LiveMemory
from rosd_kit.model.student import Student
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.training.optimizer import Optimizer
from tests.model.tiny_models import save
from tests.training.test_optimizer import needs_bitsandbytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model"), hidden_size=64, intermediate_size=256)


@pytest.fixture
def estimated(folder):
    registry = PluginManager().registry

    def make(*changes):
        recipe = load_recipe("rosd", [f"model.path={folder}", "model.device=cpu", *changes], registry=registry)
        components = build_components(recipe, registry)
        return recipe, components, {line.what: line for line in estimate_memory(recipe, components).lines}

    return make


KINDS = [
    (),
    ("model.dtype=bfloat16",),
    ("model.dtype=bfloat16", "optimizer.master_weights=false"),
    ("model.lora.rank=4",),
    ("model.lora.rank=4", "model.dtype=bfloat16"),
    ("model.freeze=[model.embed_tokens.*]",),
    ("teacher=ema",),
    ("teacher=ema", "model.dtype=bfloat16"),
    ("optimizer.name=muon",),
    pytest.param(("optimizer.name=adamw8bit",), marks=needs_bitsandbytes),
]


@pytest.mark.parametrize("changes", KINDS, ids=" ".join)
def test_what_is_held_is_what_was_said(estimated, changes):
    recipe, components, lines = estimated(*changes)
    student = Student.load(recipe.model, keep_initial=any(part.wants_initial() for part in components))
    components.teacher.attach(student)
    optimizer = Optimizer(student.model, recipe.optimizer, steps=1)
    for parameter in optimizer.parameters:
        parameter.grad = torch.ones_like(parameter)
    assert lines["gradients"].train == sum(p.grad.nbytes for p in optimizer.parameters)
    optimizer.step(1.0)
    buffers = sum(b.nbytes for b in student.model.buffers())
    assert lines["weights"].train == sum(p.nbytes for p in student.model.parameters()) + buffers
    kept = [t for name, t in optimizer.state().items() if name != "counters" and not name.endswith((".step", "qmap1", "qmap2"))]
    slack = 0.4 if recipe.optimizer.name in ("muon", "adamw8bit") else 0.0  # embeddings or small tensors are kept otherwise
    assert lines["optimizer"].train == pytest.approx(sum(t.nbytes for t in kept), rel=slack, abs=1)
    copied = sum(t.nbytes for t in components.teacher.state_dict().values())
    narrow = sum(t.numel() for t in student.state().values() if t.dtype == torch.bfloat16)
    copied += 2 * narrow if copied else 0
    if any(part.wants_initial() for part in components) and recipe.model.lora is None:
        copied += sum(t.nbytes for t in student.state().values())
    assert lines["copies of weights"].train == copied


def test_live_memory_counts_what_is_there_and_the_most_that_was():
    with LiveMemory() as live:
        one = torch.empty(1000, device="meta")
        two = one + 1
        assert live.now == 8000
        view = two[:10]
        del one, two
        assert live.now == 4000
        del view
        assert live.now == 0
    assert live.peak == 8000


def test_live_memory_counts_what_autograd_keeps():
    """relu keeps its output, the second layer its input, which is the same; the sum keeps nothing."""
    layer = nn.Sequential(nn.Linear(10, 20, bias=False), nn.ReLU(), nn.Linear(20, 5, bias=False)).to("meta")
    x = torch.empty(7, 10, device="meta")
    with LiveMemory() as live:
        out = layer(x)
        assert live.now == 4 * 7 * (20 + 5)
        out.sum().backward()
        del out
    assert live.now == sum(p.grad.nbytes for p in layer.parameters())


def test_checkpointing_needs_less_and_longer_texts_more(estimated):
    def activations(*changes):
        return estimated("batch.layout=padded", *changes)[2]["activations"].train

    ways = ("false", "selective", "true")
    plain, selective, checkpointed = (activations(f"model.gradient_checkpointing={way}") for way in ways)
    assert checkpointed < 0.8 * selective < 0.6 * plain
    half = activations("batch.tokens=1536")
    assert half == pytest.approx(plain / 2, rel=0.2)


def test_layers_are_cut_up_under_fsdp_and_the_rest_is_whole(estimated, folder):
    registry = PluginManager().registry
    recipe = load_recipe("rosd", [f"model.path={folder}", "parallel.mode=fsdp"], registry=registry)
    components = build_components(recipe, registry)
    student = Student.load(recipe.model.model_copy(update={"device": "cpu"}), keep_initial=False)
    layers = sum(p.nbytes for name, p in student.model.named_parameters() if ".layers." in name)
    rest = sum(p.nbytes for p in student.model.parameters()) - layers + sum(b.nbytes for b in student.model.buffers())
    found = {line.what: line for line in estimate_memory(recipe, components, processes=4).lines}
    assert found["weights"].train == pytest.approx(layers / 4 + rest, abs=1)
