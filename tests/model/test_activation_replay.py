"""What autograd keeps of a layer is replaced by what it is computed from, and gradients stay the same to the last bit."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rosd_kit.memory.live import LiveMemory
from rosd_kit.model.activation_checkpointing import enable_checkpointing
from rosd_kit.model.activation_replay import Replay, replace_saved
from rosd_kit.model.split import split_model
from rosd_kit.model.tree_attention import AttentionTree, attend_along, use_kernel
from rosd_kit.training.grad_accumulation import accumulate_in_place
from tests.training.networks import cohere, gemma, granite, lora, phi, qwen

IDS, POSITIONS = torch.tensor([[5, 6, 7, 8, 6, 9] * 8]), torch.arange(48)[None]


def step(model: Any, *, tree: bool, in_place: bool) -> tuple[dict[str, Tensor], int]:
    """Return the gradients of a pass, and the bytes that it held between forward and backward."""
    model.zero_grad()
    backbone = split_model(model).backbone
    path = AttentionTree([16, 8, 8, 16], [(), (0,), (0, 1), (0,)])
    with accumulate_in_place(backbone) if in_place else nullcontext(), LiveMemory() as live:
        with attend_along(backbone.config, path) if tree else nullcontext():
            hidden = backbone(input_ids=IDS, position_ids=POSITIONS, use_cache=False).last_hidden_state
        kept = live.now
        hidden.float().square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("make", "tree", "in_place", "share"),
    [
        (qwen, True, True, 0.6),
        (qwen, True, False, 0.6),
        (qwen, False, True, 0.7),
        (lora, True, True, 0.9),
        (gemma, False, True, 0.8),
        (granite, True, True, 0.6),
        (cohere, True, True, 0.8),
        (phi, True, True, 0.9),
    ],
)
def test_gradients_are_the_same_bits_and_less_is_kept(make: Any, tree: bool, in_place: bool, share: float, dtype: Any) -> None:
    model = make().to(dtype).train()
    expected, kept = step(model, tree=tree, in_place=in_place)
    enable_checkpointing(model.get_base_model() if make is lora else model, selective=True)
    for _ in range(2):
        found, less = step(model, tree=tree, in_place=in_place)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert less < share * kept


def test_a_graph_can_be_walked_twice() -> None:
    model = qwen().train()
    weight = model.model.layers[0].mlp.up_proj.weight
    enable_checkpointing(model, selective=True)
    loss = model.model(input_ids=IDS, use_cache=False).last_hidden_state.square().sum()
    once, again = (torch.autograd.grad(loss, weight, retain_graph=True)[0] for _ in range(2))
    assert once.any() and torch.equal(once, again)


def test_nothing_runs_where_no_gradient_is_wanted() -> None:
    model = qwen()
    expected = model(input_ids=IDS).logits
    enable_checkpointing(model, selective=True)
    with torch.no_grad():
        assert torch.equal(model(input_ids=IDS).logits, expected)
    assert model.requires_grad_(False)(input_ids=IDS).logits.grad_fn is None


def test_a_value_is_computed_once_for_all_who_need_it_and_then_dropped() -> None:
    calls = []
    inner = Replay(lambda: calls.append("inner") or torch.ones(2))
    outer = Replay(lambda ones: calls.append("outer") or ones + 1, inner)
    outer.add_use()
    outer.add_use()
    inner.add_use()
    assert torch.equal(outer.value(), outer.value()) and torch.equal(inner.value(), torch.ones(2))
    assert calls == ["inner", "outer"]
    assert inner._value is None and outer._value is None


def test_tensors_that_other_hooks_keep_stay_theirs() -> None:
    packed = []
    x = torch.ones(3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        y = x.exp()
    assert packed and not replace_saved(y.grad_fn._raw_saved_result, y, lambda: torch.zeros(3))
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones(3).exp())


def test_a_layer_inside_another_checkpoint_is_left_alone() -> None:
    model = qwen().train()
    layer, rotary = model.model.layers[0], model.model.rotary_emb
    x = torch.randn(1, 48, 32, dtype=torch.float64, requires_grad=True)
    positions = rotary(x, POSITIONS)

    def gradient(run: Any) -> Tensor:
        return torch.autograd.grad(run(x).square().sum(), x)[0]

    def plain(hidden: Tensor) -> Tensor:
        return layer(hidden, position_embeddings=positions)

    expected = gradient(plain)
    enable_checkpointing(model, selective=True)
    assert torch.equal(gradient(lambda hidden: checkpoint(plain, hidden, use_reentrant=False)), expected)
    assert torch.equal(gradient(plain), expected)


def test_attention_that_changes_its_keys_keeps_the_changed_ones() -> None:
    """Some kernels repeat keys for their query heads, or pad them, before the operation that autograd records."""

    def repeating(query: Tensor, key: Tensor, value: Tensor, *, enable_gqa: bool, **options: Any) -> Tensor:
        key, value = (each.repeat_interleave(query.shape[1] // each.shape[1], dim=1) for each in (key, value))
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, **options)

    model = qwen().train()
    with use_kernel(repeating):
        expected, _ = step(model, tree=True, in_place=False)
        enable_checkpointing(model, selective=True)
        found, _ = step(model, tree=True, in_place=False)
    plain, _ = step(qwen().train(), tree=True, in_place=False)
    for name, gradient in plain.items():
        assert torch.equal(found[name], expected[name])
        torch.testing.assert_close(expected[name], gradient)


def test_keys_and_values_of_a_tree_are_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen branches of a token continue from a segment of 48: each would keep a copy of that segment's keys and values."""
    model = qwen().train()
    backbone = split_model(model).backbone
    ids, positions = torch.full((1, 64), 7), torch.cat([torch.arange(48)] + [torch.tensor([48])] * 16)[None]

    def kept() -> int:
        with LiveMemory() as live, attend_along(backbone.config, AttentionTree([48] + [1] * 16, [(), *[(0,)] * 16])):
            hidden = backbone(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
            assert hidden.grad_fn is not None
            return live.now

    once = kept()
    monkeypatch.setattr("rosd_kit.model.tree_attention._join_again", lambda *_: None)
    copies = 16 * 48 * 2 * 8 * 8  # branches, tokens, heads, size, bytes
    assert kept() - once == 2 * len(backbone.layers) * copies
