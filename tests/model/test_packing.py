"""Micro-batch plans and layouts, and that no layout changes a sequence's hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm, Qwen3RotaryEmbedding

from rosd_kit.errors import RunError
from rosd_kit.model.packing import LayoutMode, MicroBatchPlan, TokenSequence, build_layout, plan_micro_batches
from rosd_kit.model.prefix_tree import build_tree, tree_size
from rosd_kit.model.split import split_model
from tests.training.networks import gemma, lora, qwen

MODES: tuple[LayoutMode, ...] = ("padded", "packed", "shared")


def sequence(prompt: int, response: int, group: int = 0) -> TokenSequence:
    """Return a sequence whose prompt repeats a token that stands for its group."""
    return TokenSequence((group + 1,) * prompt, (50,) * response, group)


SEQUENCES = st.lists(st.builds(sequence, st.integers(1, 30), st.integers(1, 20), st.integers(0, 3)), max_size=16)


@settings(max_examples=1000)
@given(sequences=st.lists(st.lists(st.integers(0, 2), max_size=8).map(tuple), max_size=10))
def test_a_prefix_tree_holds_every_sequence_as_a_path_and_every_prefix_once(sequences: list[tuple[int, ...]]) -> None:
    tree = build_tree(sequences)
    prefixes = {ids[: end + 1] for ids in sequences for end in range(len(ids))}
    assert tree_size(sequences) == sum(len(segment.ids) for segment in tree.segments) == len(prefixes)
    assert [sum((tree.segments[i].ids for i in path), ()) for path in tree.paths] == sequences
    assert len(tree.segments) < 2 * max(1, len(set(sequences)))
    for index, segment in enumerate(tree.segments):
        assert all(ancestor < index for ancestor in segment.ancestors)
        assert segment.start == sum(len(tree.segments[ancestor].ids) for ancestor in segment.ancestors)


@settings(max_examples=100)
@given(sequences=SEQUENCES, budget=st.integers(1, 150), mode=st.sampled_from(MODES))
@example(sequences=[sequence(9, 1), sequence(9, 1)], budget=1, mode="shared")  # as many tokens as one
def test_every_sequence_is_in_one_micro_batch_and_each_stays_within_the_budget(
    sequences: list[TokenSequence], budget: int, mode: LayoutMode
) -> None:
    batches = plan_micro_batches(sequences, budget=budget, mode=mode)
    assert sorted(index for batch in batches for index in batch.indices) == list(range(len(sequences)))
    for batch in batches:
        members = [sequences[index] for index in batch.indices]
        layout = build_layout(members, pad_id=0, mode=mode, prefix=batch.prefix)
        distinct = {one.prompt + one.response for one in members} if mode == "shared" else members
        assert len(distinct) == 1 or layout.ids.numel() + len(batch.prefix) <= budget


@settings(max_examples=100)
@given(sequences=SEQUENCES.filter(len), budget=st.integers(1, 150), mode=st.sampled_from(MODES))
def test_every_layout_holds_every_sequence_whole(sequences: list[TokenSequence], budget: int, mode: LayoutMode) -> None:
    """The state that predicts a response token is at the token before it, with that token's position in its sequence."""
    for batch in plan_micro_batches(sequences, budget=budget, mode=mode):
        members = [sequences[index] for index in batch.indices]
        layout = build_layout(members, pad_id=0, mode=mode, prefix=batch.prefix)
        ids = layout.ids.flatten()
        positions = (
            torch.arange(layout.ids.shape[1]).repeat(len(layout.ids)) if layout.positions is None else layout.positions[0]
        )
        for index, member in enumerate(members):
            tokens = torch.arange(len(member.response))
            rows = layout.indices_of(torch.full_like(tokens, index), tokens)
            assert tuple(ids[rows].tolist()) == member.ids[len(member.prompt) - 1 :]
            assert positions[rows].tolist() == list(range(len(member.prompt) - 1, len(member.ids)))
            if layout.tree:
                assert sum((layout.tree.segments[i].ids for i in layout.tree.paths[index]), batch.prefix) == member.ids


def test_hand_computed_plans_and_layouts() -> None:
    lengths = [3, 9, 4, 4, 1]
    sequences = [TokenSequence((1,) * length, (2,), index) for index, length in enumerate(lengths)]
    padded_plan = plan_micro_batches(sequences, budget=8, mode="padded")
    packed_plan = plan_micro_batches(sequences[:1] + sequences[2:], budget=8, mode="packed")
    assert [batch.indices for batch in padded_plan] == [[1], [2, 3], [0, 4]]
    assert [batch.indices for batch in packed_plan] == [[1, 2], [0, 3]]
    assert plan_micro_batches([], budget=8, mode="padded") == []
    pair = [TokenSequence((5, 6), (7, 8)), TokenSequence((9,), (3, 4, 4))]
    padded, packed = (build_layout(pair, pad_id=0, mode=mode) for mode in ("padded", "packed"))
    assert (padded.ids.tolist(), padded.state_indices.tolist()) == ([[5, 6, 7], [9, 3, 4]], [1, 2, 3, 4, 5])
    assert packed.positions is not None
    assert (packed.ids.tolist(), packed.positions.tolist()) == ([[5, 6, 7, 9, 3, 4]], [[0, 1, 2, 0, 1, 2]])


def test_a_shared_layout_holds_every_common_prefix_once() -> None:
    """Common prefixes of prompts, of responses, and two equal sequences."""
    sequences = [
        TokenSequence((1, 2, 3), (20, 21, 22)),
        TokenSequence((1, 2, 4), (23,)),
        TokenSequence((1, 2, 3), (20, 21, 22)),
        TokenSequence((1, 2, 3), (20, 24)),
    ]
    layout = build_layout(sequences, pad_id=0, mode="shared")
    assert layout.tree is not None and layout.positions is not None
    assert [segment.ids for segment in layout.tree.segments] == [(1, 2), (3, 20), (21,), (4,)]
    assert (layout.ids.tolist(), layout.positions.tolist()) == ([[1, 2, 3, 20, 21, 4]], [[0, 1, 2, 3, 4, 2]])
    assert layout.tree.paths == ((0, 1, 2), (0, 3), (0, 1, 2), (0, 1))
    assert layout.state_indices.tolist() == [2, 3, 4, 5, 2, 3, 4, 2, 3]


def test_a_group_too_large_for_one_micro_batch_continues_from_one_cached_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its micro-batches hold nothing else, and the common prefix of its prompts runs once."""
    common = tuple(range(1, 21))
    sequences = [TokenSequence((*common, 30), (n,) * n, "a") for n in (9, 2, 8, 3)] + [TokenSequence((7,), (8, 9), "b")]
    batches = plan_micro_batches(sequences, budget=35, mode="shared")
    assert batches == [MicroBatchPlan([1, 3, 2], common), MicroBatchPlan([0], common), MicroBatchPlan([4])]
    student = qwen()
    parts = split_model(student)
    run_lengths: list[int] = []
    forward = type(student.model).forward

    def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        run_lengths.append(kwargs["input_ids"].numel())
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(student.model), "forward", counting)
    for batch in batches:
        layout = build_layout([sequences[i] for i in batch.indices], pad_id=0, mode="shared", prefix=batch.prefix)
        parts.hidden(layout).sum().backward()
    parts.prefix_cache.close()
    assert run_lengths == [20, 1 + 1 + 2 + 7, 9, 2]


def norm_in_float64(self: Any, hidden: Tensor) -> Tensor:
    return self.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + self.variance_epsilon)


def rotary_in_float64(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    angles = position_ids[:, :, None].double() * self.inv_freq.double()
    both = torch.cat([angles, angles], dim=-1)
    return both.cos(), both.sin()


def relative_error(values: Tensor, expected: Tensor) -> float:
    return float((values - expected).norm() / expected.norm())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [qwen, lora, gemma])
def test_sequences_do_not_see_each_other(make: Any, mode: LayoutMode, attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """States and gradients are those of each sequence alone, and no gradient reaches another sequence's tokens."""
    monkeypatch.setattr(Qwen3RMSNorm, "forward", norm_in_float64)
    monkeypatch.setattr(Qwen3RotaryEmbedding, "forward", rotary_in_float64)
    model = make()
    if attention == "sdpa" and make is gemma:
        pytest.skip("transformers has no sdpa for Gemma 2")
    model.get_base_model().set_attn_implementation(attention) if make is lora else model.set_attn_implementation(attention)
    parts = split_model(model)
    if mode == "shared" and not parts.can_share_prefixes:
        assert make is gemma or attention == "eager"
        with pytest.raises(RunError, match=r"batch\.layout: 'shared' is not possible with (Gemma2Model|Qwen3Model|PeftModel)"):
            parts.layout_mode("shared")
        return
    common = tuple(range(1, 12))
    sequences = [
        TokenSequence((*common, 13), (20, 21, 22), "a"),
        TokenSequence((30, 31), tuple(range(32, 45)), "b"),
        TokenSequence((*common, 14, 15), (23,), "a"),
        TokenSequence((*common, 13), (20, 21, 22), "a"),
        TokenSequence((*common, 13), (20, 24, 25), "a"),
    ]

    def states(order: Sequence[int], mode: LayoutMode, prefix: tuple[int, ...] = ()) -> dict[int, Tensor]:
        parts.prefix_cache.close()
        layout = build_layout([sequences[i] for i in order], pad_id=0, mode=mode, prefix=prefix)
        counts = torch.tensor([len(sequences[i].response) for i in order])
        owner = torch.arange(len(order)).repeat_interleave(counts)
        token = torch.cat([torch.arange(int(count)) for count in counts])
        return dict(zip(order, parts.states(layout, owner, token).split(counts.tolist()), strict=True))

    def gradients(hidden: Tensor) -> dict[str, Tensor]:
        model.zero_grad()
        directions = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0), dtype=hidden.dtype)
        (hidden * directions).sum().backward()
        parts.prefix_cache.close()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    rtol = 1e-12 if attention == "sdpa" else 1e-5  # the eager softmax computes in float32 even in a float64 model
    alone = {i: states([i], "padded")[i] for i in range(5)}
    group = (0, 2, 3, 4)
    expected = gradients(torch.cat([states([i], "padded")[i] for i in group]))
    cases: list[tuple[list[int], tuple[int, ...]]] = [([0, 1, 2, 3, 4], ()), ([4, 2, 1, 3, 0], ()), ([1, 0, 4, 2, 3], ())]
    for order, prefix in [*cases, ([3, 0, 2, 4], common)] if mode == "shared" else cases:
        together = states(order, mode, prefix)
        for i, hidden in together.items():
            assert relative_error(hidden, alone[i]) < rtol
        computed = gradients(torch.cat([together[i] for i in group]))
        for name, value in expected.items():
            assert relative_error(computed[name], value) < rtol, name
    if make is not lora:
        gradients(states([0, 1, 2], mode)[1])
        touched = model.get_input_embeddings().weight.grad.abs().sum(-1).nonzero().squeeze(1)
        assert set(touched.tolist()) <= set(sequences[1].ids)


def test_auto_chooses_the_layout_for_the_attention_implementation() -> None:
    student = qwen()
    assert split_model(student).layout_mode("auto") == "shared"
    assert split_model(gemma()).layout_mode("auto") == "padded"
    student.config._attn_implementation = "flash_attention_2"
    assert split_model(student).layout_mode("auto") == "packed"
    assert split_model(student).layout_mode("padded") == "padded"


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flash_attention_2"])
@pytest.mark.parametrize("make", [qwen, gemma])
def test_a_planned_attention_allows_the_layouts_that_it_allows_when_loaded(make: Any, attention: str) -> None:
    """A memory estimate asks about an attention that its own model, of sizes only, does not have."""
    planned = split_model(make(), attention=attention)
    loaded = make()
    loaded.config._attn_implementation = attention
    assert planned.layout_mode("auto") == split_model(loaded).layout_mode("auto")
    assert planned.can_share_prefixes == split_model(loaded).can_share_prefixes
