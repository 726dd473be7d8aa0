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
from rosd_kit.train.head import split
from rosd_kit.train.layout import Mode, Text, lay_out, plan, with_beginnings
from tests.train.networks import gemma, lora, qwen

MODES: tuple[Mode, ...] = ("padded", "packed", "shared")


def text(prompt: int, response: int, family: int = 0) -> Text:
    """Return a text whose prompt begins with its family's number throughout."""
    return Text((family + 1,) * prompt, (50,) * response, family)


TEXTS = st.lists(st.builds(text, st.integers(1, 30), st.integers(1, 20), st.integers(0, 3)), max_size=16)


@settings(max_examples=100, deadline=None)
@given(texts=TEXTS, budget=st.integers(1, 150), mode=st.sampled_from(MODES))
def test_every_text_is_in_one_group_and_groups_keep_the_budget(texts: list[Text], budget: int, mode: Mode) -> None:
    texts = with_beginnings(texts)
    groups = plan(texts, budget=budget, mode=mode)
    assert sorted(index for group in groups for index in group) == list(range(len(texts)))
    for group in groups:
        layout = lay_out([texts[index] for index in group], pad_id=0, mode=mode)
        taken = layout.ids.numel() + (layout.prefix.ids.numel() if layout.prefix else 0)
        assert len(group) == 1 or taken <= budget


@settings(max_examples=100, deadline=None)
@given(texts=TEXTS.filter(len), mode=st.sampled_from(MODES))
def test_every_form_holds_every_text_whole(texts: list[Text], mode: Mode) -> None:
    texts = with_beginnings(texts)
    layout = lay_out(texts, pad_id=0, mode=mode)
    flat = layout.ids.flatten().tolist()
    for index, own in enumerate(texts):
        begun: list[int] = []
        if layout.prefix:
            family = int(layout.prefix.owner[index])
            begun = layout.prefix.ids[family, : int(layout.prefix.lengths[family])].tolist()
        last = int(layout.first[index])
        rest = len(own.prompt) - len(begun)
        assert (*begun, *flat[last - rest + 1 : last + len(own.response)]) == own.ids


def test_hand_computed() -> None:
    lengths = [3, 9, 4, 4, 1]
    texts = [Text((1,) * length, (2,), index) for index, length in enumerate(lengths)]
    assert plan(texts, budget=8, mode="padded") == [[1], [2, 3], [0, 4]]
    assert plan(texts[:1] + texts[2:], budget=8, mode="packed") == [[1, 2], [0, 3]]
    assert plan([], budget=8, mode="padded") == []
    pair = [Text((5, 6), (7, 8)), Text((9,), (3, 4, 4))]
    padded, packed = (lay_out(pair, pad_id=0, mode=mode) for mode in ("padded", "packed"))
    assert (padded.ids.tolist(), padded.first.tolist()) == ([[5, 6, 7], [9, 3, 4]], [1, 3])
    assert packed.positions is not None
    assert (packed.ids.tolist(), packed.positions.tolist()) == ([[5, 6, 7, 9, 3, 4]], [[0, 1, 2, 0, 1, 2]])


def test_a_common_beginning_runs_once_and_leaves_the_prompts_last_token() -> None:
    common = tuple(range(1, 11))
    texts = with_beginnings(
        [Text((*common, 11), (20, 21), "a"), Text((*common, 12, 13), (22,), "a"), Text(common, (23, 24), "b")]
    )
    layout = lay_out(texts, pad_id=0, mode="shared")
    assert layout.prefix is not None
    assert layout.prefix.ids.tolist() == [list(common), [0] * 10]
    assert (layout.prefix.lengths.tolist(), layout.prefix.owner.tolist()) == ([10, 0], [0, 0, 1])
    assert [row[:2] for row in layout.ids.tolist()] == [[11, 20], [12, 13], [1, 2]]
    alike = lay_out(with_beginnings([Text(common, (20,), "a"), Text(common, (21, 22), "a")]), pad_id=0, mode="shared")
    assert alike.prefix is not None and alike.prefix.ids.tolist() == [list(common[:-1])]
    assert alike.ids.tolist() == [[10, 0], [10, 21]]


def test_a_family_too_large_for_a_group_goes_on_from_one_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its micro-batches are their own, with little padding, and what all begin with runs once a step and model."""
    common = tuple(range(1, 21))
    lengths = [9, 2, 8, 3]
    texts = with_beginnings([Text((*common, 30), (40,) * n, "a") for n in lengths] + [Text((7,), (8, 9), "b")])
    assert [text.begun for text in texts] == [20] * 4 + [0]
    groups = plan(texts, budget=40, mode="shared")
    assert groups == [[0, 2], [3, 1], [4]]
    student = qwen()
    parts = split(student)
    runs: list[int] = []
    forward = type(student.model).forward

    def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        runs.append(kwargs["input_ids"].numel())
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(student.model), "forward", counting)
    for group in groups:
        parts.hidden(lay_out([texts[i] for i in group], pad_id=0, mode="shared")).sum().backward()
    parts.beginnings.close()
    assert runs == [20, 18, 6, 2]


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
        assert make is gemma
        with pytest.raises(RunError, match=r"batch\.layout: 'shared' is not possible with Gemma2Model"):
            parts.mode("shared")
        return
    common = tuple(range(1, 12))
    texts = with_beginnings(
        [
            Text((*common, 13), (20, 21, 22), "a"),
            Text((30, 31), tuple(range(32, 45)), "b"),
            Text((*common, 14, 15), (23,), "a"),
        ]
    )

    def states(order: Sequence[int], mode: Mode) -> dict[int, Tensor]:
        parts.beginnings.close()
        layout = lay_out([texts[i] for i in order], pad_id=0, mode=mode)
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
    alone = {i: states([i], "padded")[i] for i in range(3)}
    expected = gradients(torch.cat([states([i], "padded")[i] for i in (0, 2)]))
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        together = states(order, mode)
        for i, mine in alone.items():
            assert far(together[i], mine) < rtol
        found = gradients(torch.cat([together[0], together[2]]))
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
    student.gradient_checkpointing_enable()
    assert split(student).mode("auto") == "padded"
    student.config._attn_implementation = "flash_attention_2"
    assert split(student).mode("auto") == "packed"
    assert split(student).mode("padded") == "padded"
