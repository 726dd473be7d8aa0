"""Whether engine and trainer compute the same numbers for the same tokens, and what is wrong where they do not.

A wrong temperature, an old set of weights or another precision does not stop a run: it spoils it in silence. Here the same
sampled ids are scored by both, and the difference has a bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rosd_kit.model.packing import TokenSequence, build_layout
from rosd_kit.model.split import split_model

Logprobs = Sequence[float]

#: Positions whose logits exist at once.
_CHUNK = 1024


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two lists of log-probs (nats) lie apart; `ratio_*`: exp(trainer - engine), 1 where they agree."""

    tokens: int
    greatest: float
    mean: float
    bias: float
    ratio_least: float
    ratio_greatest: float

    @classmethod
    def of(cls, engine: Sequence[Logprobs], trainer: Sequence[Logprobs]) -> Agreement:
        """Compare sequence by sequence. A log-prob that is no finite number is infinitely far from any other."""
        gaps = [t - e for ours, theirs in zip(trainer, engine, strict=True) for t, e in zip(ours, theirs, strict=True)]
        gaps = [gap if math.isfinite(gap) else math.inf for gap in gaps] or [0.0]
        return cls(
            tokens=sum(map(len, engine)),
            greatest=max(map(abs, gaps)),
            mean=sum(map(abs, gaps)) / len(gaps),
            bias=sum(gaps) / len(gaps),
            ratio_least=math.exp(min(700.0, min(gaps))),
            ratio_greatest=math.exp(min(700.0, max(gaps))),
        )

    def within(self, bound: Bound) -> bool:
        """Whether the difference is one of rounding."""
        return self.greatest <= bound.greatest and self.mean <= bound.mean

    def __str__(self) -> str:
        return f"mean {self.mean:.2g}, at most {self.greatest:.2g} nats over {self.tokens} tokens"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The largest differences, in nats, that count as rounding."""

    greatest: float
    mean: float

    def __str__(self) -> str:
        return f"mean {self.mean:g}, at most {self.greatest:g}"


#: float32 on both sides, kernels that sum in another order; and everything with bfloat16 in it.
ROUNDING = {"float32": Bound(greatest=0.02, mean=0.002), "bfloat16": Bound(greatest=2.0, mean=0.05)}


@torch.inference_mode()
def trainer_logprobs(
    model: nn.Module, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, temperature: float
) -> list[list[float]]:
    """Return the log-probs of each response's tokens under softmax(logits / temperature), in nats.

    One text at a time and a piece of it at a time, so that a long response of a large vocabulary needs little memory.
    """
    parts = split_model(model)
    found = []
    for prompt, response in zip(prompts, responses, strict=True):
        layout = build_layout([TokenSequence(tuple(prompt), tuple(response))], pad_id=0, mode="padded")
        hidden = parts.hidden(layout)[0, layout.state_indices]
        ids = torch.tensor(response, device=hidden.device)
        pieces = zip(torch.split(hidden, _CHUNK), torch.split(ids, _CHUNK), strict=True)
        found.append([value for states, tokens in pieces for value in _chosen(parts.logits(states), tokens, temperature)])
    return found


def _chosen(logits: Tensor, tokens: Tensor, temperature: float) -> list[float]:
    logprobs = (logits / temperature).log_softmax(-1)
    return [float(value) for value in logprobs.gather(1, tokens[:, None]).squeeze(1)]


def likely_cause(
    *,
    plain: Agreement,
    bound: Bound,
    same_label: bool,
    engine_dtype: str,
    trainer_dtype: str,
    temperature: float,
    fits: float | None,
) -> str:
    """Say what differs, from a second comparison at temperature 1 (`plain`), in which only weights and precision count.

    `fits` is the temperature at which the trainer's numbers come nearest to the engine's.
    """
    if not same_label:
        return "weights: the server holds another version than the trainer. Did somebody else update or restart it?"
    if plain.within(bound):
        tried = "" if fits is None else f" The engine's numbers fit a temperature of {fits:g}."
        return (
            f"temperature: at temperature 1 both agree ({plain}), at sampling.temperature={temperature:g} they do not.{tried}"
        )
    if engine_dtype != trainer_dtype and plain.within(ROUNDING["bfloat16"]):
        return (
            f"precision: the server computes in {engine_dtype or 'an unknown type'}, the trainer in {trainer_dtype}. Start the "
            f"server with --dtype {trainer_dtype}, or widen rollout.check."
        )
    return (
        f"weights: the label is right, but at temperature 1 the numbers differ too ({plain}). A tensor did not arrive whole, "
        "or the server has another model, quantisation or precision."
    )


def fitting_temperature(
    engine: Sequence[Logprobs], model: nn.Module, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> float:
    """Return the temperature, of a few usual ones, at which the trainer's log-probs come nearest to the engine's."""
    candidates = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0)

    def distance(temperature: float) -> float:
        return Agreement.of(engine, trainer_logprobs(model, prompts, responses, temperature=temperature)).mean

    return min(candidates, key=distance)
