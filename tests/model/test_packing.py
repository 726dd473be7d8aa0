"""Which texts go together, in what form, and that no form changes what a text's states are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm, Qwen3RotaryEmbedding

from rosd_kit.errors import RunError
from rosd_kit.model.packing import Mode, PrefixGroup, Text, lay_out, plan
from rosd_kit.model.prefix_tree import grow, size
from rosd_kit.model.split import split
from tests.training.networks import gemma, lora, qwen

MODES: tuple[Mode, ...] = ("padded", "packed", "shared")


def text(prompt: int, response: int, family: int = 0) -> Text:
    """Return a text whose prompt begins with its family's number throughout."""
    return Text((family + 1,) * prompt, (50,) * response, family)


TEXTS = st.lists(st.builds(text, st.integers(1, 30), st.integers(1, 20), st.integers(0, 3)), max_size=16)


@settings(max_examples=1000, deadline=None)
@given(texts=st.lists(st.lists(st.integers(0, 2), max_size=8).map(tuple), max_size=10))
def test_a_tree_holds_each_text_as_a_path_and_nothing_twice(texts: list[tuple[int, ...]]) -> None:
    tree = grow(texts)
    beginnings = {ids[: end + 1] for ids in texts for end in range(len(ids))}
    assert size(texts) == sum(len(segment.ids) for segment in tree.segments) == len(beginnings)
    assert [sum((tree.segments[i].ids for i in path), ()) for path in tree.paths] == texts
    assert len(tree.segments) < 2 * max(1, len(set(texts)))
    for place, segment in enumerate(tree.segments):
        assert all(before < place for before in segment.chain)
        assert segment.begin == sum(len(tree.segments[before].ids) for before in segment.chain)


@settings(max_examples=100, deadline=None)
@given(texts=TEXTS, budget=st.integers(1, 150), mode=st.sampled_from(MODES))
def test_every_text_is_in_one_group_and_groups_keep_the_budget(texts: list[Text], budget: int, mode: Mode) -> None:
    groups = plan(texts, budget=budget, mode=mode)
    assert sorted(index for group in groups for index in group.texts) == list(range(len(texts)))
    for group in groups:
        layout = lay_out([texts[index] for index in group.texts], pad_id=0, mode=mode, begun=group.begun)
        assert len(group.texts) == 1 or layout.ids.numel() + len(group.begun) <= budget


@settings(max_examples=100, deadline=None)
@given(texts=TEXTS.filter(len), budget=st.integers(1, 150), mode=st.sampled_from(MODES))
def test_every_form_holds_every_text_whole(texts: list[Text], budget: int, mode: Mode) -> None:
    """The state that predicts a token of a response is at the token before it, and at that token's place in its text."""
    for group in plan(texts, budget=budget, mode=mode):
        own = [texts[index] for index in group.texts]
        layout = lay_out(own, pad_id=0, mode=mode, begun=group.begun)
        ids = layout.ids.flatten()
        positions = (
            torch.arange(layout.ids.shape[1]).repeat(len(layout.ids)) if layout.positions is None else layout.positions[0]
        )
        for index, text in enumerate(own):
            tokens = torch.arange(len(text.response))
            rows = layout.rows(torch.full_like(tokens, index), tokens)
            assert tuple(ids[rows].tolist()) == text.ids[len(text.prompt) - 1 :]
            assert positions[rows].tolist() == list(range(len(text.prompt) - 1, len(text.ids)))
            if layout.tree:
                assert sum((layout.tree.segments[i].ids for i in layout.tree.paths[index]), group.begun) == text.ids


def test_hand_computed() -> None:
    lengths = [3, 9, 4, 4, 1]
    texts = [Text((1,) * length, (2,), index) for index, length in enumerate(lengths)]
    assert [group.texts for group in plan(texts, budget=8, mode="padded")] == [[1], [2, 3], [0, 4]]
    assert [group.texts for group in plan(texts[:1] + texts[2:], budget=8, mode="packed")] == [[1, 2], [0, 3]]
    assert plan([], budget=8, mode="padded") == []
    pair = [Text((5, 6), (7, 8)), Text((9,), (3, 4, 4))]
    padded, packed = (lay_out(pair, pad_id=0, mode=mode) for mode in ("padded", "packed"))
    assert (padded.ids.tolist(), padded.places.tolist()) == ([[5, 6, 7], [9, 3, 4]], [1, 2, 3, 4, 5])
    assert packed.positions is not None
    assert (packed.ids.tolist(), packed.positions.tolist()) == ([[5, 6, 7, 9, 3, 4]], [[0, 1, 2, 0, 1, 2]])


def test_what_texts_have_in_common_is_there_once() -> None:
    """Prompts of one beginning, responses of one beginning, and two texts that are the same."""
    texts = [Text((1, 2, 3), (20, 21, 22)), Text((1, 2, 4), (23,)), Text((1, 2, 3), (20, 21, 22)), Text((1, 2, 3), (20, 24))]
    layout = lay_out(texts, pad_id=0, mode="shared")
    assert layout.tree is not None and layout.positions is not None
    assert [segment.ids for segment in layout.tree.segments] == [(1, 2), (3, 20), (21,), (4,)]
    assert (layout.ids.tolist(), layout.positions.tolist()) == ([[1, 2, 3, 20, 21, 4]], [[0, 1, 2, 3, 4, 2]])
    assert layout.tree.paths == ((0, 1, 2), (0, 3), (0, 1, 2), (0, 1))
    assert layout.places.tolist() == [2, 3, 4, 5, 2, 3, 4, 2, 3]


def test_a_family_too_large_for_a_group_goes_on_from_one_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its micro-batches are their own, without padding, and what its prompts begin with runs once a step and model."""
    common = tuple(range(1, 21))
    texts = [Text((*common, 30), (n,) * n, "a") for n in (9, 2, 8, 3)] + [Text((7,), (8, 9), "b")]
    groups = plan(texts, budget=35, mode="shared")
    assert groups == [PrefixGroup([1, 3, 2], common), PrefixGroup([0], common), PrefixGroup([4])]
    student = qwen()
    parts = split(student)
    runs: list[int] = []
    forward = type(student.model).forward

    def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        runs.append(kwargs["input_ids"].numel())
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(student.model), "forward", counting)
    for group in groups:
        layout = lay_out([texts[i] for i in group.texts], pad_id=0, mode="shared", begun=group.begun)
        parts.hidden(layout).sum().backward()
    parts.beginnings.close()
    assert runs == [20, 1 + 1 + 2 + 7, 9, 2]


def norm_in_float64(self: Any, hidden: Tensor) -> Tensor:
    return self.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + self.variance_epsilon)


def rotary_in_float64(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    angles = position_ids[:, :, None].double() * self.inv_freq.double()
    both = torch.cat([angles, angles], dim=-1)
    return both.cos(), both.sin()


def far(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [qwen, lora, gemma])
def test_texts_do_not_see_each_other(make: Any, mode: Mode, attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """States and gradients are those of each text alone, and no gradient reaches another text's tokens."""
    monkeypatch.setattr(Qwen3RMSNorm, "forward", norm_in_float64)
    monkeypatch.setattr(Qwen3RotaryEmbedding, "forward", rotary_in_float64)
    model = make()
    if attention == "sdpa" and make is gemma:
        pytest.skip("transformers has no sdpa for Gemma 2")
    model.get_base_model().set_attn_implementation(attention) if make is lora else model.set_attn_implementation(attention)
    parts = split(model)
    if mode == "shared" and not parts.shares:
        assert make is gemma or attention == "eager"
        with pytest.raises(RunError, match=r"batch\.layout: 'shared' is not possible with (Gemma2Model|Qwen3Model|PeftModel)"):
            parts.mode("shared")
        return
    common = tuple(range(1, 12))
    texts = [
        Text((*common, 13), (20, 21, 22), "a"),
        Text((30, 31), tuple(range(32, 45)), "b"),
        Text((*common, 14, 15), (23,), "a"),
        Text((*common, 13), (20, 21, 22), "a"),
        Text((*common, 13), (20, 24, 25), "a"),
    ]

    def states(order: Sequence[int], mode: Mode, begun: tuple[int, ...] = ()) -> dict[int, Tensor]:
        parts.beginnings.close()
        layout = lay_out([texts[i] for i in order], pad_id=0, mode=mode, begun=begun)
        counts = torch.tensor([len(texts[i].response) for i in order])
        owner = torch.arange(len(order)).repeat_interleave(counts)
        token = torch.cat([torch.arange(int(count)) for count in counts])
        return dict(zip(order, parts.states(layout, owner, token).split(counts.tolist()), strict=True))

    def gradients(found: Tensor) -> dict[str, Tensor]:
        model.zero_grad()
        directions = torch.randn(found.shape, generator=torch.Generator().manual_seed(0), dtype=found.dtype)
        (found * directions).sum().backward()
        parts.beginnings.close()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    rtol = 1e-12 if attention == "sdpa" else 1e-5  # the eager softmax computes in float32 even in a float64 model
    alone = {i: states([i], "padded")[i] for i in range(5)}
    family = (0, 2, 3, 4)
    expected = gradients(torch.cat([states([i], "padded")[i] for i in family]))
    ways: list[tuple[list[int], tuple[int, ...]]] = [([0, 1, 2, 3, 4], ()), ([4, 2, 1, 3, 0], ()), ([1, 0, 4, 2, 3], ())]
    for order, begun in [*ways, ([3, 0, 2, 4], common)] if mode == "shared" else ways:
        together = states(order, mode, begun)
        for i, mine in together.items():
            assert far(mine, alone[i]) < rtol
        found = gradients(torch.cat([together[i] for i in family]))
        for name, value in expected.items():
            assert far(found[name], value) < rtol, name
    if make is not lora:
        gradients(states([0, 1, 2], mode)[1])
        touched = model.get_input_embeddings().weight.grad.abs().sum(-1).nonzero().squeeze(1)
        assert set(touched.tolist()) <= set(texts[1].ids)


def test_each_kernel_gets_the_form_that_is_made_for_it() -> None:
    student = qwen()
    assert split(student).mode("auto") == "shared"
    assert split(gemma()).mode("auto") == "padded"
    student.config._attn_implementation = "flash_attention_2"
    assert split(student).mode("auto") == "packed"
    assert split(student).mode("padded") == "padded"
