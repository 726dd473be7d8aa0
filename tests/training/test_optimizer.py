"""Updates against hand-computed numbers; bad steps; bit-for-bit resume."""

from __future__ import annotations

import math
import sys
from importlib.util import find_spec

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rosd_kit.errors import RunError
from rosd_kit.options import options_at
from rosd_kit.settings import OptimizerSettings
from rosd_kit.training.optimizer import Optimizer, learning_rate

needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


class Tiny(nn.Module):
    def __init__(self, wide: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(5, wide)
        self.hidden = nn.Linear(wide, wide)
        self.lm_head = nn.Linear(wide, 5, bias=False)


def make(model=None, **changes):
    options = {"lr": 0.1, "warmup_steps": 0, "weight_decay": 0.0, "clip": 100.0, **changes}
    model = model or Tiny()
    return model, Optimizer(model, OptimizerSettings(**options), steps=10)


def set_gradients(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def equal(one, other):
    return all(a.equal(b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("changes", "step", "expected"),
    [
        ({}, 0, 1.0),
        ({"warmup_steps": 4}, 0, 0.25),
        ({"warmup_steps": 4}, 3, 1.0),
        ({"warmup_steps": 4}, 9, 1.0),
        ({"warmup_steps": 10, "warmup": "from_zero"}, 0, 0.0),
        ({"warmup_steps": 10, "warmup": "from_zero"}, 1, 0.1),
        ({"warmup_steps": 10, "warmup": "from_zero"}, 10, 1.0),
        ({"warmup_steps": 10, "warmup": "from_zero"}, 11, 1.0),
        ({"warmup_steps": 0, "warmup": "from_zero"}, 0, 1.0),
        ({"decay": "cosine", "schedule_steps": 20}, 10, 0.05 + 0.95 / 2),
        ({"decay": "cosine"}, 0, 1.0),
        ({"decay": "cosine"}, 5, 0.05 + 0.95 / 2),
        ({"decay": "cosine"}, 10, 0.05),
        ({"decay": "cosine"}, 50, 0.05),
    ],
)
def test_the_rate_warms_up_and_decays(changes, step, expected):
    settings = OptimizerSettings(lr=1.0, **{"warmup_steps": 0, **changes})
    assert learning_rate(settings, step, 10) == pytest.approx(expected)


@given(steps=st.integers(1, 50), warmup=st.integers(0, 60), decay=st.sampled_from(["constant", "cosine"]))
@settings(max_examples=50)
def test_the_rate_is_positive_and_never_above_the_peak(steps, warmup, decay):
    chosen = OptimizerSettings(lr=0.3, warmup_steps=warmup, decay=decay)
    assert all(0 < learning_rate(chosen, step, steps) <= 0.3 for step in range(steps + 1))


def test_the_first_update_of_adamw_moves_each_weight_by_the_rate_against_its_gradient():
    model, optimizer = make()
    before = weights(model)
    set_gradients(model)
    signs = [parameter.grad.sign() for parameter in model.parameters()]
    outcome = optimizer.step(1.0)
    assert outcome.applied
    assert outcome.lr == pytest.approx(0.1)
    for old, new, sign in zip(before, weights(model), signs, strict=True):
        assert torch.allclose(new, old - 0.1 * sign, atol=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_reported_norm_is_before_clipping():
    model, optimizer = make(clip=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model.hidden.bias.grad = torch.tensor([3.0, 4.0, 0.0, 0.0])
    assert optimizer.step(1.0).grad_norm == pytest.approx(5.0)
    first_moment = optimizer.state()["hidden.bias.exp_avg"]
    assert torch.allclose(first_moment, 0.1 * torch.tensor([0.3, 0.4, 0.0, 0.0]), atol=1e-6)


NAMES = ["adamw", "muon", pytest.param("adamw8bit", marks=needs_bitsandbytes)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("loss", "gradient"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, -math.inf)])
def test_a_bad_step_changes_neither_weights_nor_moments(name, loss, gradient):
    model, optimizer = make(name=name)
    set_gradients(model)
    optimizer.step(1.0)
    before, moments = weights(model), optimizer.state()
    set_gradients(model)
    model.hidden.bias.grad[1] = gradient
    assert not optimizer.step(loss).applied
    assert equal(weights(model), before)
    state = optimizer.state()
    assert state.pop("counters").tolist() == [2, 1]
    assert all(value.equal(moments[key]) for key, value in state.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_too_many_bad_steps_in_a_row_are_an_error_and_a_good_step_resets_the_count():
    model, optimizer = make(max_bad_steps=2)
    for loss in (math.nan, 1.0, math.nan):
        set_gradients(model)
        optimizer.step(loss)
        optimizer.check()
    set_gradients(model)
    optimizer.step(math.inf)
    with pytest.raises(RunError, match=r"2 updates in a row.*NaN or infinite \(optimizer.max_bad_steps=2\)"):
        optimizer.check()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_a_restored_optimizer_continues_bit_for_bit(name, dtype):
    model, optimizer = make(Tiny(wide=128).to(dtype), name=name, warmup_steps=5, decay="cosine", weight_decay=0.1)
    for seed in range(3):
        set_gradients(model, seed)
        optimizer.step(1.0)
    copy, restored = make(Tiny(wide=128).to(dtype), name=name, warmup_steps=5, decay="cosine", weight_decay=0.1)
    copy.load_state_dict(model.state_dict())
    restored.load_state({key: value.clone() for key, value in optimizer.state().items()})
    for seed in range(3, 6):
        for each, network in ((optimizer, model), (restored, copy)):
            set_gradients(network, seed)
            each.step(1.0)
    assert equal(weights(model), weights(copy))
    assert optimizer.step_count == restored.step_count == 6


def test_load_state_copies_its_input():
    model, optimizer = make()
    set_gradients(model)
    optimizer.step(1.0)
    state = {key: value.clone() for key, value in optimizer.state().items()}
    other_model, other = make()
    other.load_state(state)
    before = {key: value.clone() for key, value in state.items()}
    set_gradients(other_model, 1)
    other.step(1.0)
    assert all(state[key].equal(before[key]) for key in state)


def test_muon_updates_only_hidden_matrices_and_makes_their_update_orthogonal():
    model, optimizer = make(name="muon", lr=0.01, muon_factor=5.0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    set_gradients(model)
    optimizer.step(1.0)
    update = before["hidden.weight"] - model.hidden.weight.detach()
    singular = torch.linalg.svdvals(update / 0.05)
    assert singular.min() > 0.5
    assert singular.max() < 1.3
    for name in ("embed.weight", "lm_head.weight", "hidden.bias"):
        change = (dict(model.named_parameters())[name].detach() - before[name]).abs()
        assert torch.allclose(change, torch.full_like(change, 0.01), atol=1e-4)


def test_frozen_parameters_do_not_change():
    model = Tiny()
    model.embed.weight.requires_grad_(False)
    before = model.embed.weight.detach().clone()
    model, optimizer = make(model)
    set_gradients(model)
    optimizer.step(1.0)
    assert model.embed.weight.equal(before)


def test_a_model_without_trainable_parameters_is_an_error():
    with pytest.raises(RunError, match="no trainable parameters"):
        make(Tiny().requires_grad_(False))


def test_the_reported_change_is_zero_exactly_when_no_weight_moved():
    """Even when only one of several matrices moves, which a probe of a single parameter could miss."""
    model = nn.Sequential(nn.Linear(300, 300, bias=False), nn.Linear(300, 2))
    model[1].requires_grad_(False)
    settings = OptimizerSettings(lr=1e-2, warmup_steps=0, weight_decay=0.0)
    optimizer = Optimizer(model, settings, steps=4)
    assert optimizer.step(0.0).change == 0.0
    model(torch.ones(1, 300)).sum().backward()
    assert optimizer.step(1.0).change > 0.05
    model(torch.ones(1, 300)).sum().backward()
    assert optimizer.step(math.nan).change == 0.0


def drift(steps, **changes):
    """Return bfloat16 weights that started at 1 and were pushed down at learning rate 1e-5 for `steps` steps."""
    model = nn.Linear(8, 1, bias=False).to(torch.bfloat16)
    nn.init.ones_(model.weight)
    chosen = OptimizerSettings(lr=1e-5, warmup_steps=0, weight_decay=0.0, **changes)
    optimizer = Optimizer(model, chosen, steps=steps)
    outcome = None
    for _ in range(steps):
        model.weight.grad = torch.ones_like(model.weight)
        outcome = optimizer.step(1.0)
    return model.weight.detach(), optimizer, outcome


def test_updates_too_small_for_bfloat16_add_up_in_the_master_weights():
    weight, optimizer, outcome = drift(500)
    assert optimizer.state()["weight.master"].tolist()[0] == pytest.approx([1 - 500e-5] * 8, abs=2e-5)
    assert weight.dtype == torch.bfloat16
    assert weight[0].tolist() == [0.99609375] * 8  # the bfloat16 nearest to 0.995
    assert outcome.change == pytest.approx(1e-5 * 8**0.5, rel=1e-2)


def test_without_master_weights_small_updates_are_lost():
    weight, optimizer, outcome = drift(500, master_weights=False)
    assert weight[0].tolist() == [1.0] * 8
    assert outcome.change == 0.0
    assert "weight.master" not in optimizer.state()


def test_float32_weights_need_no_master_weights():
    model, optimizer = make()
    set_gradients(model)
    optimizer.step(1.0)
    assert not any(name.endswith("master") for name in optimizer.state())


def test_master_weights_hold_no_gradient_after_the_update():
    _, optimizer, _ = drift(1)
    assert all(tensor.grad is None for tensor in (*optimizer.parameters, *optimizer._updated))


def test_a_state_without_master_weights_restores_them_from_the_weights():
    model, optimizer = make(Tiny().to(torch.bfloat16))
    set_gradients(model)
    optimizer.step(1.0)
    state = {name: value.clone() for name, value in optimizer.state().items() if not name.endswith("master")}
    other, again = make(Tiny().to(torch.bfloat16))
    other.load_state_dict(model.state_dict())
    again.load_state(state)
    assert again.state()["hidden.weight.master"].equal(model.hidden.weight.float())


def test_update_groups_hold_each_tensor_once_and_respect_their_size(monkeypatch):
    monkeypatch.setattr("rosd_kit.training.optimizer._GROUP_BYTES", 100)
    model, optimizer = make(Tiny())
    sizes = [[p.nbytes for p in each.param_groups[0]["params"]] for each in optimizer._optimizers]
    assert sizes == [[80], [64, 16], [80]]
    set_gradients(model)
    before = weights(model)
    optimizer.step(1.0)
    assert all(not old.equal(new) for old, new in zip(before, weights(model), strict=True))


@needs_bitsandbytes
def test_adamw8bit_stores_moments_in_eight_bits_and_updates_like_adamw():
    moved = {}
    for name in ("adamw", "adamw8bit"):
        model, optimizer = make(Tiny(wide=128), name=name, lr=1e-3)
        before = model.hidden.weight.detach().clone()
        for seed in range(5):
            set_gradients(model, seed)
            optimizer.step(1.0)
        moved[name] = model.hidden.weight.detach() - before
    state = optimizer.state()
    assert state["hidden.weight.state1"].dtype == state["hidden.weight.state2"].dtype == torch.uint8
    assert float((moved["adamw8bit"] - moved["adamw"]).norm() / moved["adamw"].norm()) < 0.1


def test_adamw8bit_without_bitsandbytes_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(RunError, match=r"bitsandbytes.*rosd-kit\[8bit\]"):
        make(name="adamw8bit")


def test_scheduled_options_of_an_update_are_those_of_its_step():
    """The first update decays nothing, the second by lr times 0.5; muon's factor doubles."""
    ramp = {"from": 0.0, "to": 0.5, "steps": 1}
    model, optimizer = make(weight_decay=ramp)
    for step, decay in enumerate((0.0, 0.5)):
        before = weights(model)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        with options_at(step):
            optimizer.step(1.0)
        assert all(torch.allclose(now, old * (1 - 0.1 * decay)) for now, old in zip(weights(model), before, strict=True))
    muon, chosen = torch.nn.Linear(2, 2), {"name": "muon", "lr": 0.1, "warmup_steps": 0}
    optimizer = Optimizer(muon, OptimizerSettings(**chosen, muon_factor={"from": 2.0, "to": 4.0, "steps": 1}), steps=2)
    rates = []
    for step in range(2):
        for parameter in muon.parameters():
            parameter.grad = torch.ones_like(parameter)
        with options_at(step):
            optimizer.step(1.0)
        rates.append(sorted(group["lr"] for one in optimizer._optimizers for group in one.param_groups))
    assert rates == [[0.1, pytest.approx(0.2)], [0.1, pytest.approx(0.4)]]
