"""Responses of an SGLang server, checked and parsed, and what differs between its versions. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from packaging.version import InvalidVersion, Version

from rosd_kit.errors import EngineError
from rosd_kit.serving.protocol import IDS_CHANGED, GenerateResult, RequestRejected, ServerFault, ServerInfo
from rosd_kit.types import JsonObject

OLDEST, NEWEST = Version("0.5.17"), Version("0.5.23")
#: Since this version, tensor and distributed updates run between begin_weight_update and end_weight_update.
UPDATE_SESSION_SINCE = Version("0.5.21")


def has_update_sessions(info: ServerInfo) -> bool:
    """Return whether weight updates must be enclosed in begin_weight_update and end_weight_update."""
    return info.version >= UPDATE_SESSION_SINCE


def parse_server_info(info: JsonObject, *, any_version: bool) -> ServerInfo:
    """Parse the response of `/server_info`. Raises `EngineError` for a version that this client was not tested with."""
    text = str(info.get("version", "unknown"))
    try:
        version = Version(text)
    except InvalidVersion:
        version = Version("0")
    if not OLDEST <= version <= NEWEST and not any_version:
        raise EngineError(
            f"rollout: the server runs SGLang {text}; this client was tested with {OLDEST} to {NEWEST}, and routes differ "
            "between versions. Install one of those, or set rollout.any_version=true to try anyway."
        )
    limits = [info.get(name) for name in ("context_length", "max_req_input_len", "max_total_num_tokens")]
    return ServerInfo(
        version=version,
        model=str(info.get("model_path", "")),
        dtype=str(info.get("dtype", "")),
        context_length=min((int(limit) for limit in limits if limit), default=1 << 30),
        ranks=int(info.get("tp_size") or 1),
    )


def parse_generate(
    payload: Any,  # JSON that nobody has checked
    prompt_ids: Sequence[int],
    *,
    may_abort: bool = False,
) -> GenerateResult:
    """Parse the response of `/generate`.

    Raises `ServerFault` if it is incomplete or was aborted, unless it may be, and `RequestRejected` if the server continued
    another prompt.
    """
    try:
        meta = payload["meta_info"]
        reason = meta["finish_reason"]
        finish_reason = str(reason["type"])
        if finish_reason == "abort":  # the answer to a request that was still waiting has no more than this
            payload, meta = {"output_ids": [], **payload}, {"prompt_tokens": len(prompt_ids), **meta}
        pairs = [(int(token), float(logprob)) for logprob, token, *_ in meta.get("output_token_logprobs") or ()]
        spans = meta.get("weight_versions") or ({"version": meta.get("weight_version")},)
        labels = frozenset(str(span["version"]) for span in spans)
        ids = tuple(int(token) for token in payload["output_ids"])
        prompt_tokens = int(meta["prompt_tokens"])
        if finish_reason == "abort":
            ids, pairs = ids[: len(pairs)], pairs[: len(ids)]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ServerFault("garbled", f"not a response of /generate: {error!r}") from error
    if finish_reason == "abort" and not may_abort:
        raise ServerFault("aborted", str(reason.get("message", "")))
    if finish_reason not in ("stop", "length", "abort"):
        raise ServerFault("garbled", f"unknown finish_reason {finish_reason!r}")
    if ids != tuple(token for token, _ in pairs):
        raise ServerFault("garbled", f"{len(ids)} ids but log-probs of {len(pairs)}; they must be of the same tokens")
    if prompt_tokens != len(prompt_ids):
        raise RequestRejected(
            f"template: the server read a prompt of {prompt_tokens} tokens; {len(prompt_ids)} were sent. {IDS_CHANGED}"
        )
    return GenerateResult(
        token_ids=ids,
        logprobs=tuple(logprob for _, logprob in pairs),
        finish_reason="stop" if finish_reason == "stop" else "abort" if finish_reason == "abort" else "length",
        labels=labels,
    )


def parse_scores(payload: Any, ids: Sequence[int]) -> list[float]:
    """Parse the log-probs of `ids[1:]` (nats, at temperature 1). Raises `RequestRejected` if they are of other tokens."""
    try:
        triples = payload["meta_info"]["input_token_logprobs"]
        scored_ids = [int(token) for _, token, *_ in triples]
        logprobs = [float(logprob) for logprob, *_ in triples[1:]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ServerFault("garbled", f"not the scores of a prompt: {error!r}") from error
    # SGLang takes the last id of the vocabulary for image padding and reports it as 0; its score is right.
    if len(scored_ids) != len(ids) or any(scored not in (sent, 0) for scored, sent in zip(scored_ids, ids, strict=True)):
        raise RequestRejected(
            f"template: the server scored {len(scored_ids)} tokens that are not the {len(ids)} sent. {IDS_CHANGED}"
        )
    return logprobs
