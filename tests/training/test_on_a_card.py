"""What a card might compute otherwise than a CPU, in bfloat16. Each test runs on the CPU too, and with `-m gpu` on a card."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from rosd_kit.components import divergences, supports
from rosd_kit.components.corrections import NoCorrection
from rosd_kit.components.objectives import Distill
from rosd_kit.contracts import LossParts, TeacherModel
from rosd_kit.memory.live import LiveMemory
from rosd_kit.model.packing import TokenSequence, build_layout
from rosd_kit.model.split import split_model
from rosd_kit.parallel.fsdp import full_tensor, shard
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.settings import BatchSettings
from rosd_kit.training.step_loss import backward_step
from rosd_kit.types import DistillSample, TeacherView

CARD = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
)
on_both = pytest.mark.parametrize("device", ["cpu", CARD])


def qwen(seed: int = 0, **sizes: int) -> Any:
    torch.manual_seed(seed)
    shape = {
        "vocab_size": 384, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.2, "max_position_embeddings": 512,
    }  # fmt: skip
    return Qwen3ForCausalLM(Qwen3Config(**{**shape, **sizes})).eval()


def samples(responses: int = 3, length: int = 9) -> list[DistillSample]:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(3, 380, (responses, length), generator=generator).tolist()
    return [
        DistillSample(
            problem_id="0", prompt_ids=(5, 6, 7, 8), response_ids=tuple(row), behaviour_logprobs=(-5.9,) * length,
            token_weights=(1.0,) * length, teacher_views=(TeacherView(prompt_ids=(5, 6, 7, 8, 9, 10), source="solution"),),
            reward=0.0, success=False, group_rewards=(0.0, 1.0),
        )
        for row in rows
    ]  # fmt: skip


def loss_and_gradients(model: Any, teacher: Any, support: Any, divergence: Any) -> tuple[float, dict[str, Tensor]]:
    parts = LossParts(support=support, divergence=divergence, correction=NoCorrection())
    model.zero_grad()
    report = backward_step(
        student=model, teacher_models=(TeacherModel(teacher),), samples=samples(),
        objectives=(WeightedObjective(Distill(parts=parts)),), settings=BatchSettings(tokens=64), pad_id=0,
    )  # fmt: skip
    return report.loss, {name: weight.grad.double().cpu() for name, weight in model.named_parameters()}


SUPPORTS = {
    "full": lambda: supports.Full(),
    "student_topk": lambda: supports.StudentTopK(supports.StudentTopK.Config(k=20)),
    "teacher_topk": lambda: supports.TeacherTopK(supports.TeacherTopK.Config(k=20)),
}
DIVERGENCES = {"jsd": divergences.JSD, "forward_kl": divergences.ForwardKL, "reverse_kl": divergences.ReverseKL}


@on_both
@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("support", SUPPORTS)
def test_bfloat16_computes_the_loss_of_float64_up_to_its_rounding(device: str, support: str, divergence: str) -> None:
    """The same weights, which bfloat16 holds exactly: what differs is the arithmetic."""
    model, teacher = qwen().bfloat16(), qwen(5).bfloat16()
    exact = loss_and_gradients(
        copy.deepcopy(model).double(), copy.deepcopy(teacher).double(), SUPPORTS[support](), DIVERGENCES[divergence]()
    )
    narrow = loss_and_gradients(model.to(device), teacher.to(device), SUPPORTS[support](), DIVERGENCES[divergence]())
    assert narrow[0] == pytest.approx(exact[0], rel=0.03) and exact[0] > 1e-3
    bound = 0.2 if support == "student_topk" else 0.1  # rounding may choose another entry at the edge of the student's top k
    for name, expected in exact[1].items():
        assert (narrow[1][name] - expected).norm() < bound * expected.norm() + 1e-6, name


@on_both
def test_attention_along_a_tree_equals_padding_forward_and_backward(device: str) -> None:
    model = qwen().to(device)
    prompt = tuple(range(3, 40))
    sequences = [TokenSequence(prompt, tuple(range(start, start + 30))) for start in (50, 120, 200)]
    parts, states, gradients = split_model(model), {}, {}
    direction = torch.randn(90, 64, generator=torch.Generator().manual_seed(2)).to(device)
    for mode in ("padded", "shared"):
        model.zero_grad()
        layout = build_layout(sequences, pad_id=0, mode=mode)
        hidden = parts.hidden(layout).flatten(0, 1)[layout.state_indices.to(device)]
        (hidden * direction).sum().backward()
        states[mode] = hidden.detach()
        gradients[mode] = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    torch.testing.assert_close(states["shared"], states["padded"], atol=1e-4, rtol=1e-4)
    for name, expected in gradients["padded"].items():
        distance = (gradients["shared"][name] - expected).norm()
        assert distance < 1e-4 * expected.norm() + 1e-5, name


@on_both
def test_a_chunk_holds_no_more_logits_than_its_limit(device: str) -> None:
    """A step over many more logits than a chunk may hold: 24 MB of them in bfloat16, and chunks of 1 MiB."""
    model, teacher = qwen(vocab_size=16_384).bfloat16().to(device), qwen(5, vocab_size=16_384).bfloat16().to(device)
    parts = LossParts(support=supports.StudentTopK(), divergence=divergences.JSD(), correction=NoCorrection())

    def step(chunk_mib: int) -> None:
        backward_step(
            student=model, teacher_models=(TeacherModel(teacher),), samples=samples(8, 96),
            objectives=(WeightedObjective(Distill(parts=parts)),), pad_id=0,
            settings=BatchSettings(tokens=4096, chunk_mib=chunk_mib),
        )  # fmt: skip

    step(1)  # makes the gradients
    peaks = {chunk_mib: peak_bytes(lambda chunk_mib=chunk_mib: step(chunk_mib), device) for chunk_mib in (1, 512)}
    assert peaks[1] < peaks[512] - (20 << 20)


def peak_bytes(step: Any, device: str) -> int:
    if device == "cpu":
        with LiveMemory() as memory:
            step()
        return int(memory.peak)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return int(torch.cuda.max_memory_allocated() - before)


@on_both
def test_layers_sharded_over_a_single_rank_compute_what_whole_ones_do(device: str, tmp_path: Path) -> None:
    """By NCCL on a card and by gloo on a CPU."""
    whole, sharded, teacher = qwen().to(device), qwen().to(device), qwen(5).to(device)
    expected = loss_and_gradients(whole, teacher, supports.Full(), divergences.JSD())
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        shard(sharded, split_model(sharded).backbone, Ranks(device=torch.device(device), mode="fsdp"))
        parts = LossParts(support=supports.Full(), divergence=divergences.JSD(), correction=NoCorrection())
        report = backward_step(
            student=sharded, teacher_models=(TeacherModel(teacher),), samples=samples(),
            objectives=(WeightedObjective(Distill(parts=parts)),), settings=BatchSettings(tokens=64), pad_id=0,
        )  # fmt: skip
        gradients = {name: full_tensor(weight.grad).double().cpu() for name, weight in sharded.named_parameters()}
    finally:
        dist.destroy_process_group()
    assert report.loss == pytest.approx(expected[0], rel=1e-5)
    for name, gradient in expected[1].items():
        assert (gradients[name] - gradient).norm() < 1e-4 * gradient.norm() + 1e-7, name


@on_both
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(device: str, tmp_path: Path) -> None:
    import rosd_kit as rk

    changes = [
        *("problems_per_step=2", "group_size=4", "evaluation.problems=0", "checkpoint.every=1", f"model.device={device}"),
        *("model.dtype=bfloat16", "sampling.max_new_tokens=24", "gate=all", "demonstration=reference", "reflector=none"),
        *("context=solution", "localizer=full", "optimizer.warmup_steps=0", "teacher=ema"),
    ]
    whole = rk.train("rosd", overrides=[*changes, "steps=2"], out=tmp_path / "whole")
    rk.train("rosd", overrides=[*changes, "steps=1", "optimizer.schedule_steps=2"], out=tmp_path / "cut")
    cut = rk.train(resume=tmp_path / "cut/rosd-1", overrides=["steps=2"])
    for name in ("train/loss", "train/grad_norm", "rollout/length"):
        assert cut.metrics[-1][name] == pytest.approx(whole.metrics[-1][name], rel=1e-3 if device == "cuda" else 1e-9), name
    assert cut.metrics[-1]["train/loss"] > 0
