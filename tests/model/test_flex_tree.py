"""FlexAttention along a tree gives what attention segment by segment gives."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AttentionInterface

from rosd_kit.model import flex_tree
from rosd_kit.model.flex_tree import prefers_flex
from rosd_kit.model.packing import TokenSequence, build_layout
from rosd_kit.model.split import split_model
from rosd_kit.model.student import Student
from rosd_kit.model.tree_attention import NAME, AttentionTree, attend_along, use_kernel
from rosd_kit.settings import ModelSettings

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
NEEDS_CARD = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@st.composite
def trees(draw):
    """Return lengths and ancestors of a tree whose segments follow their ancestors, and the length of a past."""
    lengths, ancestors = [], []
    for index in range(draw(st.integers(1, 6))):
        lengths.append(draw(st.integers(1, 9)))
        parent = draw(st.integers(-1, index - 1))
        ancestors.append((*ancestors[parent], parent) if parent >= 0 else ())
    return lengths, ancestors, draw(st.integers(0, 4))


def attended(engine, tree, query, key, value, past, *, dropout=0.0):
    lengths, ancestors = tree
    config = SimpleNamespace(_attn_implementation="sdpa")
    with attend_along(config, AttentionTree(lengths, ancestors, past={0: past} if past else {}, engine=engine)):
        attend = AttentionInterface._global_mapping[NAME]
        return attend(SimpleNamespace(layer_idx=0), query, key, value, None, scaling=0.3, dropout=dropout)[0]


@given(tree=trees(), groups=st.sampled_from([1, 2]))
@settings(max_examples=25)
def test_one_call_equals_segment_by_segment(tree, groups):
    lengths, ancestors, before = tree
    generator = torch.Generator().manual_seed(0)
    query, key, value, *past = (
        torch.randn(1, heads, count, 16, generator=generator)
        for heads, count in ((4, sum(lengths)), *((groups, sum(lengths)),) * 2, *((groups, before),) * (2 if before else 0))
    )
    with torch.no_grad():
        one, other = (attended(e, (lengths, ancestors), query, key, value, tuple(past)) for e in ("flex", "segments"))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [pytest.param("compiled", marks=NEEDS_CARD)])
def test_gradients_on_a_card_equal_those_of_segments(name, dtype):
    tree = [130, *[40] * 12], [(), *[(0,)] * 12]
    shapes = ((8, sum(tree[0])), (2, sum(tree[0])), (2, sum(tree[0])))
    inputs = [torch.randn(1, h, n, 64, device="cuda", dtype=dtype, requires_grad=True) for h, n in shapes]
    results = []
    for engine in ("flex", "segments"):
        output = attended(engine, tree, *inputs, ())
        results.append([output, *torch.autograd.grad(output.float().square().sum(), inputs)])
    for found, expected in zip(*results, strict=True):
        gap = (found - expected).abs().max() / expected.abs().max()
        assert gap < (1e-3 if dtype == torch.float32 else 2e-2)


def test_a_whole_model_computes_the_same_by_both():
    texts = [((3, 4), (5, 6, 7)), ((3, 4), (5, 8, 2)), ((3,), (9, 10, 11))]
    layout = build_layout([TokenSequence(prompt, answer, group=0) for prompt, answer in texts], pad_id=0, mode="shared")
    assert layout.tree is not None and len(layout.tree.segments) > 3
    outputs = []
    for engine in ("segments", "flex"):
        student = Student.load(ModelSettings(path="micro", device="cpu", tree_attention=engine), keep_initial=True)
        with torch.no_grad(), student.initial() as frozen:
            outputs.append([split_model(network).hidden(layout) for network in (student.model, frozen)])
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_dropout_and_other_kernels_stay_with_segments(monkeypatch):
    monkeypatch.setattr("rosd_kit.model.tree_attention.flex_attend", lambda *args: pytest.fail("it knows no dropout"))
    tensors = [torch.randn(1, 2, 5, 16) for _ in range(3)]
    attended("flex", ([2, 3], [(), (0,)]), *tensors, (), dropout=0.5)
    with use_kernel(lambda query, *args, **options: query):
        attended("flex", ([2, 3], [(), (0,)]), *tensors, ())


def test_auto_chooses_by_device_and_shape(monkeypatch):
    monkeypatch.setattr(flex_tree, "_works", lambda *args: True)
    card, cpu = (
        SimpleNamespace(device=torch.device(name), dtype=torch.float32, shape=(1, 2, 3, 64)) for name in ("cuda", "cpu")
    )
    short, few, long = [20] * 30, [20] * 3, [2000] * 30
    assert [prefers_flex("auto", lengths, card) for lengths in (short, few, long)] == [True, False, False]
    assert not prefers_flex("auto", short, cpu)
    assert prefers_flex("flex", few, cpu) and not prefers_flex("segments", short, card)


def test_auto_does_not_take_what_fails_here():
    """On a CPU the backward pass is missing, or, with a torch that has it, the trial succeeds."""
    flex_tree._works.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        works = flex_tree._works(torch.device("cpu"), torch.float32, 16)
    said = [str(warning.message) for warning in caught if "segment by segment" in str(warning.message)]
    assert works != bool(said)
    flex_tree._works.cache_clear()


def test_a_wrong_result_is_not_taken(monkeypatch):
    flex_tree._works.cache_clear()
    monkeypatch.setattr(flex_tree, "flex_attend", lambda query, *args: query * 2.0)
    with pytest.warns(UserWarning, match="FlexAttention does not work here, so rows attend segment by segment"):
        assert not flex_tree._works(torch.device("cpu"), torch.float32, 16)
    flex_tree._works.cache_clear()
