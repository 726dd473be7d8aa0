"""Compares the log-probs of engine and trainer for the same tokens, and names the likely cause of a gap.

A wrong temperature, outdated weights or another precision does not stop a run; it spoils the training silently. So both sides
score the same sampled ids, and their difference must stay within a tolerance.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rosd_kit.model.packing import TokenSequence, build_layout
from rosd_kit.model.split import SplitModel, split_model

Logprobs = Sequence[float]

#: Positions whose logits are in memory at once.
_CHUNK_TOKENS = 1024
#: Rows of the head that are in memory in float32 at once.
_HEAD_ROWS = 16_384


@dataclass(frozen=True, kw_only=True)
class LogprobGap:
    """Difference of two lists of log-probs in nats, trainer - engine; `ratio_*` is its exponential, 1 where they agree."""

    tokens: int
    max: float
    mean: float
    median: float
    bias: float
    ratio_min: float
    ratio_max: float

    @classmethod
    def between(cls, engine: Sequence[Logprobs], trainer: Sequence[Logprobs]) -> LogprobGap:
        """Compare sequence by sequence. A log-prob that is not finite is infinitely far from any other."""
        gaps = [
            trainer_logprob - engine_logprob
            for trainer_sequence, engine_sequence in zip(trainer, engine, strict=True)
            for trainer_logprob, engine_logprob in zip(trainer_sequence, engine_sequence, strict=True)
        ]
        gaps = [gap if math.isfinite(gap) else math.inf for gap in gaps] or [0.0]
        return cls(
            tokens=sum(map(len, engine)),
            max=max(map(abs, gaps)),
            mean=sum(map(abs, gaps)) / len(gaps),
            median=statistics.median(map(abs, gaps)),
            bias=sum(gaps) / len(gaps),
            ratio_min=math.exp(min(700.0, min(gaps))),
            ratio_max=math.exp(min(700.0, max(gaps))),
        )

    def is_within(self, tolerance: Tolerance) -> bool:
        """Return whether the gap is small enough to be rounding."""
        return self.max <= tolerance.max and self.mean <= tolerance.mean and self.median <= tolerance.median

    def __str__(self) -> str:
        return f"median {self.median:.2g}, mean {self.mean:.2g}, max {self.max:.2g} nats over {self.tokens} tokens"


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The largest gap, in nats, that counts as rounding."""

    max: float
    mean: float
    median: float

    def at(self, temperature: float) -> Tolerance:
        """Return the tolerance for log-probs at a sampling temperature: below 1 it multiplies logits, and their rounding."""
        factor = max(1.0, 1 / temperature)
        return Tolerance(max=factor * self.max, mean=factor * self.mean, median=factor * self.median)

    def __str__(self) -> str:
        return f"median {self.median:g}, mean {self.mean:g}, max {self.max:g}"


#: `float32`: float32 on both sides, whose kernels sum in another order. `bfloat16`: bfloat16 on either side. There SmolLM2-135M
#: gives a median of 0.02 and a mean of 0.045 nats on ordinary text, larger models less; a tensor that did not arrive gives 0.3
#: and more. A few unlikely tokens raise the mean, so the median has the narrower bound.
TOLERANCES = {
    "float32": Tolerance(max=0.02, mean=0.002, median=0.002),
    "bfloat16": Tolerance(max=2.0, mean=0.1, median=0.05),
}


def trainer_logprobs(
    model: nn.Module, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, temperature: float
) -> list[list[float]]:
    """Return the log-probs of each response's tokens under softmax(logits / temperature), in nats.

    Runs one sequence at a time and its head in chunks, so that a long response with a large vocabulary needs little memory. A
    head in a narrow type is computed in float32, which takes its own rounding out of the comparison.
    """
    return _logprobs_at((temperature,), model, prompts, responses)[temperature]


@torch.inference_mode()
def _logprobs_at(
    temperatures: Sequence[float], model: nn.Module, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> dict[float, list[list[float]]]:
    """Return `trainer_logprobs` at several temperatures, from one pass over the model."""
    network = split_model(model)
    logprobs: dict[float, list[list[float]]] = {temperature: [] for temperature in temperatures}
    for prompt, response in zip(prompts, responses, strict=True):
        layout = build_layout([TokenSequence(tuple(prompt), tuple(response))], pad_id=0, mode="padded")
        hidden = network.hidden(layout)[0, layout.state_indices]
        ids = torch.tensor(response, device=hidden.device)
        for values in logprobs.values():
            values.append([])
        for states, tokens in zip(torch.split(hidden, _CHUNK_TOKENS), torch.split(ids, _CHUNK_TOKENS), strict=True):
            logits = _logits(network, states)
            for temperature, values in logprobs.items():
                values[-1] += _token_logprobs(logits, tokens, temperature)
    return logprobs


def _logits(network: SplitModel, states: Tensor) -> Tensor:
    """Return logits computed in float32; a narrow weight is widened piece by piece, because whole it may not fit."""
    linear = network.linear
    if linear is None or linear.weight.dtype.itemsize >= 4:
        return network.logits(states)
    output = torch.cat([states.float() @ rows.float().T for rows in torch.split(linear.weight, _HEAD_ROWS)], dim=-1)
    return network.finish_logits(output if linear.bias is None else output + linear.bias)


def _token_logprobs(logits: Tensor, tokens: Tensor, temperature: float) -> list[float]:
    logprobs = (logits / temperature).log_softmax(-1)
    return [float(value) for value in logprobs.gather(1, tokens[:, None]).squeeze(1)]


def likely_cause(
    *,
    gap_at_1: LogprobGap,
    tolerance: Tolerance,
    same_label: bool,
    engine_dtype: str,
    trainer_dtype: str,
    temperature: float,
    best_temperature: float,
) -> str:
    """Return the likely cause of a gap, as text that begins with a keyword.

    `gap_at_1` is a second comparison at temperature 1, where only weights and precision matter. `best_temperature` is the one
    at which the trainer's log-probs come nearest to the engine's.
    """
    if not same_label:
        return "weights: the server holds another version than the trainer. Did somebody else update or restart it?"
    if gap_at_1.is_within(tolerance):
        return (
            f"temperature: both agree at temperature 1 ({gap_at_1}), but not at sampling.temperature={temperature:g}. "
            f"The engine's log-probs fit a temperature of {best_temperature:g}."
        )
    if engine_dtype != trainer_dtype and gap_at_1.is_within(TOLERANCES["bfloat16"]):
        return (
            f"precision: the server computes in {engine_dtype or 'an unknown type'}, the trainer in {trainer_dtype}. Start the "
            f"server with --dtype {trainer_dtype}, or widen rollout.check."
        )
    return (
        f"weights: the label is right, but the log-probs differ at temperature 1 too ({gap_at_1}). A tensor did not arrive "
        "complete, or the server has another model, quantization or precision."
    )


def fit_temperature(
    engine: Sequence[Logprobs], model: nn.Module, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> float:
    """Return which of a few common temperatures brings the trainer's log-probs nearest to the engine's."""
    candidates = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0)
    trainer = _logprobs_at(candidates, model, prompts, responses)
    return min(candidates, key=lambda temperature: LogprobGap.between(engine, trainer[temperature]).mean)
