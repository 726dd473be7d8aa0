"""What servers report and answer, and how they fail, whichever server it is. Parses nothing and sends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from packaging.version import Version

#: Ends the message about a server that read other ids than it was sent.
IDS_CHANGED = "Token ids must reach the model unchanged: look for a router or a server option that adds tokens."

FaultKind = Literal["unreachable", "timeout", "unavailable", "garbled", "aborted", "stale"]


class ServerFault(Exception):
    """A request failed in a way that a retry may fix. `kind` is its name in the metrics."""

    def __init__(self, kind: FaultKind, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind: FaultKind = kind


class RequestRejected(Exception):
    """The server rejected the request itself; a retry would not help."""


@dataclass(frozen=True, kw_only=True)
class ServerInfo:
    """Version, model and limits of a server.

    `context_length` is the longest sequence in tokens, prompt and response together; `ranks` the size of tensor parallelism.
    """

    version: Version
    model: str
    dtype: str
    context_length: int
    ranks: int


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """One sampled response; `labels` are the labels of all weights that its tokens were sampled from."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length", "abort"]
    labels: frozenset[str]
