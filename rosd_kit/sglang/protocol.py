"""What an SGLang server says of itself and of a request, and what differs between its versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.version import InvalidVersion, Version

from rosd_kit.errors import EngineError

OLDEST, NEWEST = Version("0.5.17"), Version("0.5.23")
#: From here on weights that come as tensors or broadcasts are bracketed by begin_weight_update and end_weight_update.
BRACKETED_SINCE = Version("0.5.21")

_UNTOUCHED = "Ids must reach the model as they are: look for a router or a server option that adds tokens."


class ServerFault(Exception):
    """A request failed in a way that another try may mend.

    `kind` names it in the metrics: `unreachable`, `timeout`, `unavailable`, `garbled`, `aborted` or `stale`.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Refusal(Exception):
    """The server answered that the request itself is wrong; asking again would not help."""


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """What a server is: its version, the model it was started with, its longest text in tokens, its ranks."""

    version: Version
    model: str
    dtype: str
    context: int
    ranks: int

    @property
    def brackets(self) -> bool:
        """Whether an update of the weights has a beginning and an end of its own."""
        return self.version >= BRACKETED_SINCE


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was sampled for one request; `labels` are the versions of the weights that its tokens came from."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: str
    labels: frozenset[str]


def read_facts(info: Mapping[str, Any], *, any_version: bool) -> ServerFacts:
    """Read `/server_info`. Raises `EngineError` for a version that this client was not tried with."""
    text = str(info.get("version", "unknown"))
    try:
        version = Version(text)
    except InvalidVersion:
        version = Version("0")
    if not OLDEST <= version <= NEWEST and not any_version:
        raise EngineError(
            f"rollout: the server runs SGLang {text}; this client was tried with {OLDEST} to {NEWEST}, and routes differ "
            "between versions. Install one of those, or set rollout.any_version=true to try anyway."
        )
    limits = [info.get(name) for name in ("context_length", "max_req_input_len", "max_total_num_tokens")]
    return ServerFacts(
        version=version,
        model=str(info.get("model_path", "")),
        dtype=str(info.get("dtype", "")),
        context=min((int(limit) for limit in limits if limit), default=1 << 30),
        ranks=int(info.get("tp_size") or 1),
    )


def read_answer(payload: Any, prompt_ids: Sequence[int]) -> Answer:
    """Read the answer to one `/generate`.

    Raises `ServerFault` when it is not whole or was aborted, `Refusal` when the server continued another prompt.
    """
    try:
        meta = payload["meta_info"]
        reason = meta["finish_reason"]
        finish = str(reason["type"])
        pairs = [(int(token), float(logprob)) for logprob, token, *_ in meta.get("output_token_logprobs") or ()]
        spans = meta.get("weight_versions") or ({"version": meta.get("weight_version")},)
        labels = frozenset(str(span["version"]) for span in spans)
        ids = tuple(int(token) for token in payload["output_ids"])
        read = int(meta["prompt_tokens"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ServerFault("garbled", f"not an answer to /generate: {error!r}") from error
    if finish == "abort":
        raise ServerFault("aborted", str(reason.get("message", "")))
    if finish not in ("stop", "length"):
        raise ServerFault("garbled", f"unknown finish_reason {finish!r}")
    if ids != tuple(token for token, _ in pairs):
        raise ServerFault("garbled", f"{len(ids)} ids, and log-probs of {len(pairs)}; they must be of the same tokens")
    if read != len(prompt_ids):
        raise Refusal(f"template: the server read a prompt of {read} tokens, it was sent {len(prompt_ids)}. {_UNTOUCHED}")
    return Answer(token_ids=ids, logprobs=tuple(logprob for _, logprob in pairs), finish=finish, labels=labels)


def read_scores(payload: Any, ids: Sequence[int]) -> list[float]:
    """Read the log-probs of `ids[1:]` (nats, at temperature 1). Raises `Refusal` when they are of other tokens."""
    try:
        triples = payload["meta_info"]["input_token_logprobs"]
        found = [int(token) for _, token, *_ in triples]
        scores = [float(logprob) for logprob, *_ in triples[1:]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ServerFault("garbled", f"not the scores of a prompt: {error!r}") from error
    # SGLang reports 0 for the last id of the vocabulary, which it takes for the padding of pictures; its score is right.
    if len(found) != len(ids) or any(told not in (sent, 0) for told, sent in zip(found, ids, strict=True)):
        raise Refusal(f"template: the server scored {len(found)} tokens that are not the {len(ids)} it was sent. {_UNTOUCHED}")
    return scores
