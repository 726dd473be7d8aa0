"""Our Muon: torch's updates, from products in float32."""

from __future__ import annotations

import copy

import pytest
import torch

from rosd_kit.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
@pytest.mark.parametrize("options", [{}, {"nesterov": False}, {"weight_decay": 0.3, "momentum": 0.5, "ns_steps": 3}])
def test_updates_are_torchs_up_to_the_rounding_of_its_products(shape, options):
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(shape, generator=generator).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    programs = Muon([ours], lr=0.1, **options), torch.optim.Muon([theirs], lr=0.1, **options)
    start = ours.detach().clone()
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator)
        for weight, program in zip((ours, theirs), programs, strict=True):
            weight.grad = gradient.clone()
            program.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved
    assert programs[0].state_dict()["state"][0].keys() == programs[1].state_dict()["state"][0].keys()


def test_a_state_of_torchs_continues():
    weight = torch.ones(4, 8, requires_grad=True)
    theirs = torch.optim.Muon([weight], lr=0.1)
    weight.grad = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    theirs.step()
    ours = Muon([weight], lr=0.1)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    assert ours.step(lambda: 1.5) == 1.5
    before, after = (program.state[weight]["momentum_buffer"] for program in (theirs, ours))
    assert torch.allclose(after, 0.95 * before + 0.05 * weight.grad)


def test_another_adjustment_of_the_rate_is_torchs():
    ours, theirs = (torch.ones(4, 8, requires_grad=True) for _ in range(2))
    for weight, cls in ((ours, Muon), (theirs, torch.optim.Muon)):
        weight.grad = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
        cls([weight], lr=0.1, adjust_lr_fn="match_rms_adamw").step()
    assert torch.equal(ours, theirs)


def test_weights_without_a_gradient_stay():
    moving, still = torch.ones(4, 4, requires_grad=True), torch.ones(4, 4, requires_grad=True)
    moving.grad = torch.eye(4)
    Muon([moving, still], lr=0.1).step()
    assert torch.equal(still, torch.ones(4, 4)) and not torch.equal(moving, torch.ones(4, 4))


def test_many_steps_bring_the_orthogonal_factor():
    update = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    left, _, right = torch.linalg.svd(update, full_matrices=False)
    found = orthogonal(update, (1.5, -0.5, 0.0), 40, 1e-7)  # Newton and Schulz's own coefficients converge to it
    assert torch.allclose(found, (left @ right).float(), atol=1e-4)
