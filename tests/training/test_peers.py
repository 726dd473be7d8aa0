"""Our loss against the public functions of TRL and Liger, where the extra `peers` is installed (it is in `.ci/run`)."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rosd_kit.components.divergences import JSD, ForwardKL, ReverseKL
from rosd_kit.components.supports import StudentTopK
from rosd_kit.contracts import Divergence

BETAS = [0.0, 0.3, 0.5, 1.0]


def ours(beta: float) -> Divergence:
    """Return the divergence that the other libraries parametrise by beta."""
    if beta in (0.0, 1.0):
        return ReverseKL() if beta else ForwardKL()
    return JSD(JSD.Config(beta=beta))


def both(seed: int = 0, vocabulary: int = 700) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student = 3 * torch.randn(6, vocabulary, generator=generator)
    return student.requires_grad_(), student.detach() + torch.randn(6, vocabulary, generator=generator)


def states() -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden states of student and teacher, and the head's weight."""
    generator = torch.Generator().manual_seed(3)
    student, teacher = torch.randn(2, 6, 16, generator=generator)
    return student.requires_grad_(), teacher, torch.randn(700, 16, generator=generator)


def assert_same(losses: Tensor, expected: Tensor, leaf: Tensor) -> None:
    """Compare losses and their gradients."""
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=1e-5)
    mine, theirs = (torch.autograd.grad(loss.sum(), leaf, retain_graph=True)[0] for loss in (losses, expected))
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("beta", BETAS)
def test_sdpo_and_sdft_on_the_whole_vocabulary(beta: float) -> None:
    peer = pytest.importorskip("trl.experimental.sdpo.loss_utils")
    student, teacher = both()
    expected = peer.compute_full_logit_self_distillation_loss(student, teacher, distillation_alpha=beta)
    assert_same(ours(beta).per_token(student.log_softmax(-1), teacher.log_softmax(-1)), expected, student)


@pytest.mark.parametrize("tail", [True, False])
@pytest.mark.parametrize("beta", BETAS)
def test_sdpo_and_sdft_on_the_top_100(beta: float, tail: bool) -> None:
    peer = pytest.importorskip("trl.experimental.sdpo.loss_utils")
    student, teacher = both(1, vocabulary=30_000)
    expected = peer.compute_topk_self_distillation_loss(
        student, teacher, distillation_topk=100, distillation_alpha=beta, distillation_add_tail=tail
    )
    support = StudentTopK(StudentTopK.Config(k=100, tail=tail))
    projection = support.project(student.log_softmax(-1), teacher.log_softmax(-1), torch.zeros(6, dtype=torch.long))
    assert_same(ours(beta).per_token(projection.student, projection.teacher), expected, student)


@pytest.mark.parametrize("beta", BETAS)
def test_gkd(beta: float) -> None:
    peer = pytest.importorskip("trl.experimental.gkd")
    student, teacher = both(2)
    expected = peer.GKDTrainer.generalized_jsd_loss(student[None], teacher[None], beta=beta, reduction="sum")
    assert_same(ours(beta).per_token(student.log_softmax(-1), teacher.log_softmax(-1)).sum(), expected, student)


@pytest.mark.parametrize("beta", BETAS)
def test_trl_in_chunks(beta: float) -> None:
    peer = pytest.importorskip("trl.trainer.distillation_trainer")
    hidden, teacher_hidden, head = states()
    expected, *_ = peer._chunked_divergence_loss(hidden[None], teacher_hidden[None], head, head, torch.ones(1, 6), beta)
    assert_same(
        ours(beta).per_token((hidden @ head.T).log_softmax(-1), (teacher_hidden @ head.T).log_softmax(-1)).mean(),
        expected,
        hidden,
    )


@pytest.mark.parametrize("beta", BETAS)
def test_liger(beta: float) -> None:
    peer = pytest.importorskip("liger_kernel.chunked_loss")
    hidden, teacher_hidden, head = states()
    loss = peer.LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=False)
    expected = loss(hidden, head, teacher_hidden, head, torch.zeros(6, dtype=torch.long))
    assert_same(
        ours(beta).per_token((hidden @ head.T).log_softmax(-1), (teacher_hidden @ head.T).log_softmax(-1)).mean(),
        expected,
        hidden,
    )


@pytest.fixture(scope="module")
def benchmark() -> Any:
    """Return `benchmarks/loss.py` as a module; scripts import each other from their own folder."""
    folder = Path(__file__).parents[2] / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("loss")
    finally:
        sys.path.remove(str(folder))


@pytest.mark.parametrize("top", [0, 100])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_benchmarked_programs_agree(beta: float, top: int, benchmark: Any) -> None:
    """The whole engine, from hidden states to the gradients of hidden states and head, against every peer of a cell."""
    pytest.importorskip("trl")
    pytest.importorskip("liger_kernel")
    case = benchmark.Case(tokens=24, vocab=3000, hidden=16, weighted=0.5, beta=beta, top=top)
    timing = benchmark.timing(case, ["ours", *case.peers], repeats=1)
    assert timing["seconds"].keys() == timing["gaps"].keys() == {"ours", *case.peers}
    for name, gaps in timing["gaps"].items():
        assert max(gaps.values()) < 1e-5, name


def test_the_benchmark_covers_its_grids(benchmark: Any) -> None:
    """On a GPU the shapes of Qwen3-1.7B and 8B, in bfloat16."""
    cpu, cuda = list(benchmark.cpu_grid()), list(benchmark.cuda_grid())
    assert {(case.tokens, case.vocab, case.hidden) for case in cpu} == {
        (tokens, vocab, hidden) for tokens in (1024, 8192) for vocab in (32_000, 152_064) for hidden in (256, 1024)
    }
    assert {(case.tokens, case.vocab, case.hidden) for case in cuda} == {
        (tokens, 151_936, hidden) for tokens in (1024, 8192, 32_768) for hidden in (2048, 4096)
    }
    assert {(case.device, case.dtype) for case in cuda} == {("cuda", "bfloat16")}
    assert len(set(cpu)) == len(cpu) == 96 and len(set(cuda)) == len(cuda) == 48


@pytest.mark.slow
def test_a_program_that_does_not_fit_is_recorded_and_a_cell_is_measured_once(benchmark: Any, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    store = tmp_path / "cells.jsonl"
    case = benchmark.Case(tokens=4096, vocab=152_064, hidden=4, weighted=0.002, beta=0.5, top=100)
    for _ in range(2):
        benchmark.run([case], store, 0, 2.0)
    (row,) = map(json.loads, store.read_text().splitlines())
    assert row["memory"]["sdpo_top"] == {"failed": "does not fit in 2 GiB"}
    assert row["memory"]["ours"]["mib"] < 500 and row["seconds"].keys() == {"ours"}
