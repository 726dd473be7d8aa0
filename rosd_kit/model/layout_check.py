"""Measures whether a layout of training gives the same log-probs as each sequence by itself.

    two short sequences --whole model, one at a time--> log-probs   (expected)
                        --backbone on a layout, head--> log-probs   (compared)

Layers that carry a state, attention that ignores positions, and models that also read to the right all fail, whatever they are
called. Windows longer than these sequences are not tested. Does not know what follows from a failure (`split_check.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rosd_kit.model.packing import Layout, LayoutMode, TokenSequence, build_layout
from rosd_kit.model.prefix_cache import PrefixCache
from rosd_kit.model.token_ids import embedding_rows

#: Greatest error of one position's log-probs, relative to their spread, that counts as rounding.
_TOLERANCE = 2e-3
#: Greatest mean over positions for narrow types, whose rounding may send a single token to another expert.
_NARROW_TOLERANCE = 5e-2
_PREFIX = 3
#: What models raise for inputs that they cannot take.
FORWARD_ERRORS = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


class Network(Protocol):
    """A model in two parts; see `SplitModel`."""

    @property
    def can_cache_prefix(self) -> bool:
        """Whether a prefix may run by itself."""

    @property
    def prefix_cache(self) -> PrefixCache:
        """The prefix that ran last."""

    def hidden(self, layout: Layout) -> Float[Tensor, "rows length hidden"]:
        """Return the backbone's last hidden states."""

    def logits(self, hidden: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """Return the logits."""


@dataclass(frozen=True)
class LayoutCheck:
    """Two sequences that share a prefix, and the whole model's log-probs for each, one after the other.

    Each prompt is one token, so that the log-probs of every position are compared. `narrow` allows for the rounding of types
    below 32 bits.
    """

    sequences: list[TokenSequence]
    expected: Float[Tensor, "tokens vocab"]
    pad_id: int
    narrow: bool

    @classmethod
    def of(cls, model: nn.Module, pad_id: int) -> LayoutCheck:
        """Run the whole model on each sequence."""
        vocabulary = embedding_rows(model)
        ids = [1 + index * (vocabulary - 1) // 16 for index in range(16)]
        endings = ids[4:9], ids[10:13]
        sequences = [TokenSequence((ids[0],), (*ids[1:_PREFIX], *ending, ids[-1])) for ending in endings]
        weight = next(model.parameters())
        inputs = [torch.tensor([sequence.ids], device=weight.device) for sequence in sequences]
        logits = [model(input_ids=each, use_cache=False).logits[0] for each in inputs]
        expected = torch.cat(logits).double().log_softmax(-1)
        return cls(sequences, expected, pad_id, narrow=logits[0].dtype.itemsize < 4 or weight.dtype.itemsize < 4)

    def head_gap(self, network: Network) -> str | None:
        """Return how backbone plus head differ from the model on a sequence by itself, in words; None if they agree."""
        first = self.sequences[:1]
        logprobs = _logprobs(network, build_layout(first, pad_id=self.pad_id, mode="padded"))
        return self._gap(logprobs, self.expected[: len(first[0].ids)])

    def layout_gap(self, network: Network, mode: LayoutMode) -> str | None:
        """Return how the log-probs of a layout differ from the expected ones, in words; None if they agree."""
        try:
            gap = self._gap(_logprobs(network, build_layout(self.sequences, pad_id=self.pad_id, mode=mode)), self.expected)
            if gap is None and mode == "shared" and network.can_cache_prefix:
                gap = self._cached_prefix_gap(network)
        except torch.OutOfMemoryError:
            raise
        except FORWARD_ERRORS as error:
            return f"it fails with {in_words(error)}"
        return gap

    def _cached_prefix_gap(self, network: Network) -> str | None:
        """Compare the tokens that follow a prefix whose keys and values were computed before."""
        prefix = self.sequences[0].ids[:_PREFIX]
        continued = [TokenSequence(s.ids[: _PREFIX + 1], (*s.ids[_PREFIX + 1 :], s.response[-1])) for s in self.sequences]
        rows = torch.split(self.expected, [len(sequence.ids) for sequence in self.sequences])
        logprobs = _logprobs(network, build_layout(continued, pad_id=self.pad_id, mode="shared", prefix=prefix))
        network.prefix_cache.close()
        return self._gap(logprobs, torch.cat([each[_PREFIX:] for each in rows]))

    def _gap(self, values: Tensor, expected: Tensor) -> str | None:
        return logprob_gap(values, expected, narrow=self.narrow)


def logprob_gap(values: Float[Tensor, "tokens vocab"], expected: Float[Tensor, "tokens vocab"], *, narrow: bool) -> str | None:
    """Return how log-probs differ, in words; None if they agree up to rounding, of types below 32 bits if `narrow`."""
    errors = (values - expected).square().mean(-1).sqrt() / expected.std(-1)
    fits = errors.mean() <= _NARROW_TOLERANCE if narrow else errors.max() <= _TOLERANCE
    return None if bool(fits) else f"they differ by {float((values - expected).abs().max()):.3g}"


def in_words(error: BaseException) -> str:
    """Return an error as one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _logprobs(network: Network, layout: Layout) -> Float[Tensor, "tokens vocab"]:
    hidden = network.hidden(layout).flatten(0, 1)
    return network.logits(hidden[layout.state_indices.to(hidden.device)]).double().log_softmax(-1)
