"""The policy and the generator, as components see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rosd_kit.types import Completion, GenerateRequest, Message, PolicyWeights

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LoadOptions(Protocol):
    """How the policy's weights were loaded, for engines that load them again."""

    @property
    def dtype(self) -> str:
        """`float32` or `bfloat16`."""

    @property
    def gguf(self) -> str | None:
        """The GGUF file that was read, if any."""

    @property
    def pickle_weights(self) -> bool:
        """Whether pickled weights may be read."""

    @property
    def trust_remote_code(self) -> bool:
        """Whether Python code that comes with the model may run."""


class Policy(Protocol):
    """The model being trained, as components see it: they read and run it, and leave its weights alone.

    `model` is a causal language model of transformers, wrapped by peft under LoRA.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def device(self) -> torch.device:
        """Where the model runs."""

    @property
    def settings(self) -> LoadOptions:
        """How it was loaded."""

    @property
    def folder(self) -> Path | None:
        """Where it was loaded from; None for random weights."""

    @property
    def fingerprint(self) -> str:
        """Digest of the weights that were loaded; training does not change it."""

    @property
    def pad_id(self) -> int:
        """The id that fills up batches."""

    @property
    def vocabulary(self) -> int:
        """Number of ids that the model knows."""

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids that end a response."""

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Encode a chat, generation header included. Raises `RunError` when the chat template refuses it."""

    def initial(self) -> AbstractContextManager[nn.Module]:
        """Yield a module that computes with the weights the run began with."""

    def state(self) -> dict[str, Tensor]:
        """Return the trained tensors by name."""

    def full_weights(self, which: PolicyWeights) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor under transformers' own name: adapters merged, shards gathered. All ranks call it at once."""

    def export(self, folder: Path) -> None:
        """Write model and tokenizer so that plain transformers loads them."""


class Generator(Protocol):
    """Continues prompts: a rollout engine, or a wrapper around one."""

    @property
    def streams(self) -> bool:
        """Whether completions are handed out while others are still being generated."""

    def stream(
        self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live"
    ) -> Iterator[tuple[int, Completion]]:
        """Continue every prompt; yield (index of the request, completion) in the order in which they finish."""
