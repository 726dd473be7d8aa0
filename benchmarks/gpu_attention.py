"""Attention over a group's prefix tree, forward and backward, by several engines on the same queries, keys and values.

segments  `model.tree_attention: segments`: one call of torch's attention for each segment
flex      the same by FlexAttention (`model.tree_attention: flex`): one call; has no backward pass on a CPU
padded    torch's attention over every sequence in full, what training costs without shared prefixes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from harness import PeakMemory, take_turns
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rosd_kit.model.flex_tree import Engine
from rosd_kit.model.tree_attention import AttentionTree, _attend, attend_along


class Shape(NamedTuple):
    """A group: one prompt that `responses` answers of `answer` tokens follow; heads as in Qwen3."""

    name: str
    prompt: int
    responses: int
    answer: int
    heads: int = 16
    groups: int = 8
    size: int = 128


SHAPES = (Shape("few long", 512, 8, 1536), Shape("many short", 256, 32, 256))
TOY = (Shape("toy", 24, 3, 20, heads=4, groups=2, size=16),)


def attention(scale: Any, _: str) -> Iterator[dict[str, Any]]:
    """Times and kernels of each engine, and how far its output is from that of `segments`; what compiles is last."""
    expected: dict[Shape, Tensor] = {}
    for name, make in (("segments", segments), ("padded", padded), ("flex", partial(segments, engine="flex"))):
        for shape in TOY if scale.rehearse else SHAPES:
            try:
                row = _measure(make(shape, scale.device), shape, scale, backward=name != "flex" or scale.device == "cuda")
            except Exception as error:  # an engine that fails must not hide the others
                if name == "segments":
                    raise
                yield {"shape": shape._asdict(), "engine": name, "failed": f"{type(error).__name__}: {error}"[:400]}
                continue
            output = row.pop("output")
            distance = float((output - expected.setdefault(shape, output)).abs().max())
            yield {"shape": shape._asdict(), "engine": name, "max_difference": distance, **row}


def _measure(attend: Callable[..., Tensor], shape: Shape, scale: Any, *, backward: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    dtype = getattr(torch, scale.dtype)

    def random(heads: int) -> Tensor:
        return torch.randn(1, heads, _tokens(shape), shape.size, device=scale.device, dtype=dtype, requires_grad=backward)

    inputs = [random(heads) for heads in (shape.heads, shape.groups, shape.groups)]
    gradient = torch.randn(_tokens(shape), shape.heads, shape.size, device=scale.device, dtype=dtype)

    def run() -> Tensor:
        output = attend(*inputs)
        if backward:
            torch.autograd.grad(output, inputs, gradient)
        return output.detach()

    output = run()
    with PeakMemory(scale.device) as peak:
        run()
    seconds = take_turns({"run": run}, repeats=5, device=scale.device)["run"].to_json()
    return {
        "output": output, "backward": backward, "seconds": seconds, "peak_mib": peak.bytes / 2**20, "kernels": kernels(run),
    }  # fmt: skip


def segments(shape: Shape, device: str, engine: Engine = "segments") -> Callable[..., Tensor]:
    """Return the attention of rosd-kit along the tree."""
    from transformers import Qwen3Config

    lengths = [shape.prompt, *[shape.answer] * shape.responses]
    tree = AttentionTree(lengths, [(), *[(0,)] * shape.responses], engine=engine)
    config, module = Qwen3Config(), torch.nn.Module()
    module.layer_idx = 0

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with attend_along(config, tree):
            return _attend(module, query, key, value, None)[0][0]

    return run


def padded(shape: Shape, device: str) -> Callable[..., Tensor]:
    """Return attention over each prompt with its answer; the prompt's output is that of the first."""

    def rows(tensor: Tensor) -> Tensor:
        prompt, answers = tensor[:, :, : shape.prompt], tensor[:, :, shape.prompt :]
        repeated = prompt.expand(shape.responses, -1, -1, -1)
        return torch.cat([repeated, torch.cat(answers.split(shape.answer, dim=2))], dim=2)

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = scaled_dot_product_attention(rows(query), rows(key), rows(value), is_causal=True, enable_gqa=True)
        answers = output[:, :, shape.prompt :].transpose(1, 2).flatten(0, 1)
        return torch.cat([output[0, :, : shape.prompt].transpose(0, 1), answers])

    return run


def kernels(run: Callable[[], object]) -> dict[str, float]:
    """Return the names of what took longest on the device, with their share of the time in microseconds."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        run()
    field = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    events = sorted(profiled.key_averages(), key=lambda event: -getattr(event, field))
    return {event.key[:90]: round(getattr(event, field), 1) for event in events[:6]}


def _tokens(shape: Shape) -> int:
    return shape.prompt + shape.responses * shape.answer
