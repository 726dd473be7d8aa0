"""Responses of a vLLM server, checked and parsed. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from packaging.version import InvalidVersion, Version

import rosd_kit as rk
from rosd_kit.serving.protocol import IDS_CHANGED, GenerateResult, RequestRejected, ServerFault, ServerInfo
from rosd_kit.types import JsonObject

OLDEST, NEWEST = Version("0.32.0"), Version("0.32.99")
#: Log-probs at the sampling temperature and without the tokens that must not be sampled.
LOGPROBS_MODE = "processed_logprobs"
#: The class in `server_path/` that vLLM adds to its workers.
WORKER_EXTENSION = "rosd_kit_vllm_worker.WorkerExtension"
#: vLLM takes a lower temperature for this one, 0 for greedy.
LOWEST_TEMPERATURE = 0.01


def parse_server_info(version_text: str, info: JsonObject, *, any_version: bool) -> ServerInfo:
    """Parse the responses of `/version` and `/server_info`.

    Raises `EngineError` for a version that this client was not tested with, and for a server started without what its
    log-probs and weights need.
    """
    try:
        version = Version(version_text)
    except InvalidVersion:
        version = Version("0")
    if not OLDEST <= Version(version.base_version) <= NEWEST and not any_version:
        raise rk.EngineError(
            f"rollout: the server runs vLLM {version_text}; this client was tested with {OLDEST}, and routes differ between "
            "versions. Install that one, or set rollout.any_version=true to try anyway."
        )
    try:
        model, parallel = info["vllm_config"]["model_config"], info["vllm_config"]["parallel_config"]
        found = {"--logprobs-mode": model["logprobs_mode"], "--worker-extension-cls": parallel["worker_extension_cls"]}
        needed = {"--logprobs-mode": LOGPROBS_MODE, "--worker-extension-cls": WORKER_EXTENSION}
        parsed = ServerInfo(
            version=version,
            model=str(model["model"]),
            dtype=str(model["dtype"]),
            context_length=int(model["max_model_len"]) - 1,  # scoring a sequence samples one token more
            ranks=int(parallel["tensor_parallel_size"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ServerFault("garbled", f"not a response of /server_info: {error!r}") from error
    for option, value in needed.items():
        if found[option] != value:
            raise rk.EngineError(
                f"rollout: the server was started with {option} {found[option] or 'unset'}; its log-probs or weights would be "
                f"wrong. Start it with {option} {value} (see the README of rosd-kit-vllm)."
            )
    return parsed


def parse_generate(payload: Any, prompt_ids: Sequence[int]) -> GenerateResult:  # of JSON that nobody has checked
    """Parse the response of `/inference/v1/generate`.

    Raises `ServerFault` if it is incomplete or was aborted, `RequestRejected` if the server continued another prompt.
    """
    try:
        (choice,) = payload["choices"]
        finish_reason = str(choice["finish_reason"])
        ids = tuple(int(token) for token in choice["token_ids"])
        entries = [(int(entry["token_id"]), float(entry["logprob"])) for entry in choice["logprobs"]["content"] or ()]
        labels = frozenset(str(span["version"]) for span in choice["weight_versions"] or ())
        prompt_tokens = int(payload["usage"]["prompt_tokens"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ServerFault("garbled", f"not a response of /inference/v1/generate: {error!r}") from error
    if finish_reason == "abort":
        raise ServerFault("aborted", "the server ended the request, for example because its generation was paused")
    if finish_reason not in ("stop", "length"):
        raise ServerFault("garbled", f"unknown finish_reason {finish_reason!r}")
    if ids != tuple(token for token, _ in entries):
        raise ServerFault("garbled", f"{len(ids)} ids but log-probs of {len(entries)}; they must be of the same tokens")
    _check_prompt(prompt_tokens, prompt_ids)
    return GenerateResult(
        token_ids=ids,
        logprobs=tuple(logprob for _, logprob in entries),
        finish_reason="stop" if finish_reason == "stop" else "length",
        labels=labels,
    )


def parse_scores(payload: Any, ids: Sequence[int]) -> list[float]:
    """Parse the log-probs of `ids[1:]` (nats, at temperature 1). Raises `RequestRejected` if they are of other tokens."""
    try:
        positions = payload["prompt_logprobs"]
        if len(positions) == len(ids):
            return [float(position[str(token)]["logprob"]) for position, token in zip(positions[1:], ids[1:], strict=True)]
        prompt_tokens = len(positions)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ServerFault("garbled", f"not the scores of a prompt: {error!r}") from error
    _check_prompt(prompt_tokens, ids)
    raise AssertionError("unreachable: the lengths differ")


def _check_prompt(tokens: int, sent: Sequence[int]) -> None:
    if tokens != len(sent):
        raise RequestRejected(f"template: the server read a prompt of {tokens} tokens; {len(sent)} were sent. {IDS_CHANGED}")
