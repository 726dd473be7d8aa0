"""The slot `rollout`: engines that generate text with the student's weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

from rosd_kit.contracts.component import Component
from rosd_kit.contracts.policy import Policy
from rosd_kit.types import Completion, GenerateRequest, PolicyWeights


@dataclass(frozen=True)
class Site:
    """Where an engine runs: its rank, a folder for its files, and a listener for progress messages.

    `folder` may not exist yet; None means that no files are kept. The run has `count` ranks, `neighbours` of them on this
    machine; this is rank `rank`, with local rank `local`. Every rank has an engine. `samples_initial` says whether
    anything will be sampled with the initial weights.
    """

    folder: Path | None = None
    listener: Callable[[str], None] | None = None
    rank: int = 0
    count: int = 1
    local: int = 0
    neighbours: int = 1
    samples_initial: bool = True

    def tell(self, text: str) -> None:
        """Report what the engine is waiting for."""
        if self.listener is not None:
            self.listener(text)


class RolloutEngine(Component):
    """Generates text with the student's weights.

    `streams` declares that `stream` yields completions while others are still being generated, and that `generate` may be
    called from other threads meanwhile. With several ranks each has its own engine, which gets a share of the requests and
    finds the student's weights gathered whenever it is called, the initial ones only if a component other than the teacher says
    `wants_initial()`. An engine that can generate while the student trains on the same device provides `overlap`; one that
    can stop open requests, `partial_rollouts`. `replays` declares that completions do not come from the model: neither seeds
    nor weights determine them, and their log-probs are not the model's.
    """

    kind = "rollout"
    streams: ClassVar[bool] = False
    replays: ClassVar[bool] = False

    @classmethod
    def missing(cls, options: Any, *, on_gpu: bool) -> list[str]:
        """Return what this machine lacks for this engine with these options, each with its remedy; start nothing.

        Called by `rosd-kit doctor`; `on_gpu` says whether the model would be on one.
        """
        return []

    @abstractmethod
    def start(self, student: Policy, site: Site | None = None) -> None:
        """Start with this student; called once, before anything else."""

    @abstractmethod
    def generate(self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live") -> list[Completion]:
        """Continue every prompt, in order; `initial` means with the weights the run began with.

        A prompt that is too long for the engine gives a completion without tokens and with finish reason `overlong`. Raises
        `EngineError` when the backend is lost for good.
        """

    def stream(
        self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live"
    ) -> Iterator[tuple[int, Completion]]:
        """Continue every prompt; yield (index of the request, completion) in the order in which they finish."""
        yield from enumerate(self.generate(requests, weights=weights))

    def stream_until(self, stop: Event, requests: Sequence[GenerateRequest]) -> Iterator[tuple[int, Completion]]:
        """Like `stream` with the live weights; end all open requests soon after `stop` is set.

        Each of them then gives the tokens that it has, perhaps none, with finish reason `abort`. For engines that provide
        `partial_rollouts`: `sampling.extra_problems` continues such rollouts in the next step.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot stop requests that are open.")

    @abstractmethod
    def sync(self, student: Policy, version: int) -> None:
        """Generate with these weights from now on, labelled `version`; called after every optimizer step."""

    def rest(self) -> None:
        """Release memory to the trainer if possible; called when no more text is needed until the next `sync`."""
        return None

    def metrics(self) -> Mapping[str, float]:
        """Return metrics `engine/...` for the time since the last call; called once per step."""
        return {}

    def close(self) -> None:
        """Release everything; called at the end of the run, also after an error."""
        return None
