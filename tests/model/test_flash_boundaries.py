"""Flash attention gets the boundaries of a packed row with every layer, so that it never has to look for them on the GPU.

The kernels exist on GPUs only. Here transformers calls a stand-in for them, which attends to each sequence between the
boundaries that it is given.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rosd_kit.model.packing import TokenSequence, build_layout
from rosd_kit.model.split import split_model
from tests.training.networks import lora, qwen

SEQUENCES = [
    TokenSequence((3, 4, 5), (6, 7, 8)),
    TokenSequence((9,), (10, 11)),
    TokenSequence((3, 4, 5, 6, 7, 8, 9, 10), (11,)),
    TokenSequence((12, 3), (4, 5, 6, 7, 8)),
]


class Kernel:
    """Attends between boundaries, as flash attention's kernel for sequences of different lengths does."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, mask: None = None, **options: Any) -> Tensor:
        """`query`, `key` and `value` are `[1, tokens, heads, width]`."""
        self.calls.append(options)
        groups = query.shape[2] // key.shape[2]
        out = torch.empty_like(query)
        for start, end in pairwise(options["cu_seq_lens_q"].tolist()):
            q, k, v = (tensor[:, start:end].transpose(1, 2) for tensor in (query, key, value))
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
            attended = scaled_dot_product_attention(q, k, v, is_causal=True, scale=options["softmax_scale"])
            out[:, start:end] = attended.transpose(1, 2)
        return out


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Put the stand-in where transformers calls flash attention, below what it does with the arguments of a model."""
    found = Kernel()
    monkeypatch.setattr("transformers.integrations.flash_attention._flash_attention_forward", found)
    return found


@pytest.mark.parametrize("make", [qwen, lora])
def test_packed_rows_come_with_their_boundaries(kernel: Kernel, make: Any) -> None:
    model = make()
    network = split_model(model)
    with torch.no_grad():
        alone = [network.hidden(build_layout([one], pad_id=0, mode="padded"))[0] for one in SEQUENCES]
    network.backbone.config._attn_implementation = "flash_attention_2"
    layout = build_layout(SEQUENCES, pad_id=0, mode="packed")
    packed = network.hidden(layout)
    assert torch.allclose(packed[0], torch.cat(alone), atol=1e-5)
    layers = network.backbone.config.num_hidden_layers
    assert len(kernel.calls) == layers
    lengths = [len(one.ids) for one in SEQUENCES]
    ends = [sum(lengths[:count]) for count in range(len(lengths) + 1)]
    for call in kernel.calls:
        assert call["cu_seq_lens_q"].tolist() == call["cu_seq_lens_k"].tolist() == ends
        assert call["cu_seq_lens_q"].dtype == torch.int32
        assert (call["max_length_q"], call["max_length_k"]) == (max(lengths), max(lengths))
        assert type(call["max_length_q"]) is int, "a tensor would make the host wait"
    packed.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_other_attention_gets_no_boundaries() -> None:
    """It would not know them: a model of remote code may refuse what it does not know."""
    network = split_model(qwen())
    assert network._boundaries(build_layout(SEQUENCES, pad_id=0, mode="packed"), torch.device("cpu")) == {}
    network.backbone.config._attn_implementation = "flash_attention_2"
    assert network._boundaries(build_layout(SEQUENCES, pad_id=0, mode="padded"), torch.device("cpu")) == {}
