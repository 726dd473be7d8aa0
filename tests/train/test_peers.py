"""Our loss against the public functions of TRL and Liger, where the extra `peers` is installed (it is in `.ci/run`)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rosd_kit.components.divergences import JSD, ForwardKL, ReverseKL
from rosd_kit.components.supports import StudentTopK
from rosd_kit.contracts import Divergence

BETAS = [0.0, 0.3, 0.5, 1.0]


def ours(beta: float) -> Divergence:
    """Return the divergence that the others call by its beta."""
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


def assert_same(found: Tensor, expected: Tensor, leaf: Tensor) -> None:
    """Compare losses and their gradients."""
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    mine, theirs = (torch.autograd.grad(loss.sum(), leaf, retain_graph=True)[0] for loss in (found, expected))
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
    hidden, taught, head = states()
    expected, *_ = peer._chunked_divergence_loss(hidden[None], taught[None], head, head, torch.ones(1, 6), beta)
    assert_same(
        ours(beta).per_token((hidden @ head.T).log_softmax(-1), (taught @ head.T).log_softmax(-1)).mean(), expected, hidden
    )


@pytest.mark.parametrize("beta", BETAS)
def test_liger(beta: float) -> None:
    peer = pytest.importorskip("liger_kernel.chunked_loss")
    hidden, taught, head = states()
    loss = peer.LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=False)
    expected = loss(hidden, head, taught, head, torch.zeros(6, dtype=torch.long))
    assert_same(
        ours(beta).per_token((hidden @ head.T).log_softmax(-1), (taught @ head.T).log_softmax(-1)).mean(), expected, hidden
    )
