"""Memory estimates agree with the tensors of real students and optimizers."""

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
def estimate(folder):
    registry = PluginManager().registry

    def build(*changes):
        recipe = load_recipe("rosd", [f"model.path={folder}", "model.device=cpu", *changes], registry=registry)
        components = build_components(recipe, registry)
        return recipe, components, {line.what: line for line in estimate_memory(recipe, components).lines}

    return build


VARIANTS = [
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


@pytest.mark.parametrize("changes", VARIANTS, ids=" ".join)
def test_a_real_run_holds_the_estimated_bytes(estimate, changes):
    recipe, components, lines = estimate(*changes)
    student = Student.load(recipe.model, keep_initial=any(component.wants_initial() for component in components))
    components.teacher.attach(student)
    optimizer = Optimizer(student.model, recipe.optimizer, steps=1)
    for parameter in optimizer.parameters:
        parameter.grad = torch.ones_like(parameter)
    assert lines["gradients"].train == sum(p.grad.nbytes for p in optimizer.parameters)
    optimizer.step(1.0)
    buffers = sum(b.nbytes for b in student.model.buffers())
    assert lines["weights"].train == sum(p.nbytes for p in student.model.parameters()) + buffers
    state = [
        t for name, t in optimizer.state().items() if name != "counters" and not name.endswith((".step", "qmap1", "qmap2"))
    ]
    slack = 0.4 if recipe.optimizer.name in ("muon", "adamw8bit") else 0.0  # they keep embeddings or small tensors in float32
    assert lines["optimizer"].train == pytest.approx(sum(t.nbytes for t in state), rel=slack, abs=1)
    copies = sum(t.nbytes for t in components.teacher.state_dict().values())
    narrow = sum(t.numel() for t in student.state().values() if t.dtype == torch.bfloat16)
    copies += 2 * narrow if copies else 0
    if any(component.wants_initial() for component in components) and recipe.model.lora is None:
        copies += sum(t.nbytes for t in student.state().values())
    assert lines["copies of weights"].train == copies


def test_live_memory_counts_current_and_peak_bytes():
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


def test_live_memory_counts_what_autograd_saves():
    """relu saves its output, which is also the input that the second layer saves; the sum saves nothing."""
    layer = nn.Sequential(nn.Linear(10, 20, bias=False), nn.ReLU(), nn.Linear(20, 5, bias=False)).to("meta")
    x = torch.empty(7, 10, device="meta")
    with LiveMemory() as live:
        out = layer(x)
        assert live.now == 4 * 7 * (20 + 5)
        out.sum().backward()
        del out
    assert live.now == sum(p.grad.nbytes for p in layer.parameters())


def test_checkpointing_needs_less_memory_and_more_tokens_need_more(estimate):
    def activations(*changes):
        return estimate("batch.layout=padded", *changes)[2]["activations"].train

    modes = ("false", "selective", "true")
    plain, selective, checkpointed = (activations(f"model.gradient_checkpointing={mode}") for mode in modes)
    assert checkpointed < 0.8 * selective < 0.6 * plain
    half = activations("batch.tokens=1536")
    assert half == pytest.approx(plain / 2, rel=0.2)


def test_fsdp_shards_the_layers_and_nothing_else(folder):
    registry = PluginManager().registry
    recipe = load_recipe("rosd", [f"model.path={folder}", "parallel.mode=fsdp"], registry=registry)
    components = build_components(recipe, registry)
    student = Student.load(recipe.model.model_copy(update={"device": "cpu"}), keep_initial=False)
    layers = sum(p.nbytes for name, p in student.model.named_parameters() if ".layers." in name)
    rest = sum(p.nbytes for p in student.model.parameters()) - layers + sum(b.nbytes for b in student.model.buffers())
    lines = {line.what: line for line in estimate_memory(recipe, components, ranks=4).lines}
    assert lines["weights"].train == pytest.approx(layers / 4 + rest, abs=1)


def test_every_phase_of_a_colocated_run_counts_what_it_holds(folder):
    """While rollouts are sampled and sent weights, every rank holds whole layers, of the student and of its initial weights."""
    registry = PluginManager().registry
    changes = [f"model.path={folder}", "parallel.mode=fsdp", "rollout=sglang", "rollout.colocated=true"]
    device = 1 << 30

    def found(*more: str):
        recipe = load_recipe("rosd", [*changes, "rollout.launch.args.mem_fraction_static=0.5", *more], registry=registry)
        return estimate_memory(recipe, build_components(recipe, registry), ranks=4, device_bytes=device)

    tensors, disk = found("rollout.sync=tensor"), found("rollout.sync=disk")
    lines = {line.what: line for line in tensors.lines}
    student = Student.load(
        load_recipe("rosd", changes, registry=registry).model.model_copy(update={"device": "cpu"}), keep_initial=False
    )
    whole = sum(p.nbytes for p in student.model.parameters())
    layers = sum(p.nbytes for name, p in student.model.named_parameters() if ".layers." in name)
    assert lines["gathered weights"].sample == pytest.approx(2 * 0.75 * layers, abs=4)
    at_start = lines["weights"].train + lines["copies of weights"].train
    assert lines["SGLang"].sample == tensors.server == int(0.5 * (device - at_start))
    free = device - at_start
    assert found("rollout.launch.initial_servers=1").server == int(0.75 * free)  # the second takes its share of what is left
    assert found("rollout.launch.initial_servers=1", "reflector.weights=live").server == int(0.5 * free), "nobody would ask it"
    resident = at_start + lines["optimizer"].train + lines["gathered weights"].sample
    assert tensors.wake == resident + whole and tensors.sample == resident + tensors.server
    assert tensors.transfer == tensors.wake + whole  # a bucket of 512 MiB holds them all
    assert disk.transfer == disk.wake
    lora = {line.what: line for line in found("model.lora.rank=4").lines}
    assert lora["gathered weights"].sample < lines["gathered weights"].sample  # its initial weights are the student's
    own_weights = {line.what: line for line in found("reflector.weights=live").lines}
    assert own_weights["gathered weights"].sample == pytest.approx(0.75 * layers, abs=4)  # the teacher's stay sharded
    own_gpu = found("rollout.colocated=false")
    assert own_gpu.server == 0 and own_gpu.wake == resident


def test_without_servers_there_is_nothing_to_wake(estimate, folder):
    registry = PluginManager().registry
    recipe = load_recipe("rosd", [f"model.path={folder}"], registry=registry)
    plain = estimate_memory(recipe, build_components(recipe, registry))
    assert (plain.wake, plain.transfer, plain.server) == (0, 0, 0) and "gathered weights" not in {
        line.what for line in plain.lines
    }
