"""HTTP requests to one vLLM server. Knows its routes; knows nothing of weights' contents, retries or other servers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import rosd_kit as rk
from rosd_kit.serving.client import Client
from rosd_kit.serving.protocol import GenerateResult, RequestRejected, ServerFault, ServerInfo
from rosd_kit.types import JsonObject
from rosd_kit_vllm.protocol import LOWEST_TEMPERATURE, parse_generate, parse_scores, parse_server_info

#: Added to the logit of a token that must not be sampled; more is not admitted.
_NEVER = -100.0


class VLLMClient(Client):
    """Sends requests to one vLLM server, which must be in development mode: that has the routes for weights."""

    engine = "vLLM"

    async def server_info(self) -> ServerInfo:
        version = str((await self.get("/version")).get("version"))
        try:
            info = await self.get("/server_info?config_format=json")
        except RequestRejected as rejected:
            raise rk.EngineError(
                f"rollout: {self.url} does not offer what weights need ({rejected}). Start it with VLLM_SERVER_DEV_MODE=1 in "
                "its environment (see the README of rosd-kit-vllm)."
            ) from rejected
        return parse_server_info(version, info, any_version=self._any_version)

    async def weight_label(self) -> str:
        return str((await self.get("/weight_info")).get("weight_version"))

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: rk.Sampling,
        *,
        budget: int,
        seed: int,
        end_ids: Sequence[int],
        never: Sequence[int] = (),
        name: str | None = None,  # vLLM drops what an ended request has
    ) -> GenerateResult:
        if 0 < sampling.temperature < LOWEST_TEMPERATURE:
            raise RequestRejected(
                f"temperature: vLLM samples at {LOWEST_TEMPERATURE:g} instead of {sampling.temperature:g}. Use 0, or "
                f"{LOWEST_TEMPERATURE:g} and more."
            )
        params: JsonObject = {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "max_tokens": budget,
            "stop": list(sampling.stop),
            "include_stop_str_in_output": True,
            "stop_token_ids": list(end_ids),
            "ignore_eos": True,  # what ends a response is the trainer's matter
            "seed": seed % (1 << 31),
            "skip_special_tokens": False,
            "logprobs": 0,  # of the sampled tokens only
        }
        if never:
            params["logit_bias"] = dict.fromkeys(map(str, never), _NEVER)
        payload = {"token_ids": list(prompt_ids), "sampling_params": params}
        return parse_generate(await self.post("/inference/v1/generate", payload), prompt_ids)

    async def score(self, ids: Sequence[int]) -> list[float]:
        params = {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0}
        payload = {"token_ids": list(ids), "sampling_params": params}
        return parse_scores(await self.post("/inference/v1/generate", payload), ids)

    async def load_files(self, folder: Path, label: str) -> None:
        """Pause the server, let it read the files, name them, and let it go on.

        Pausing aborts what other clients have in flight, or that would be sampled from two sets of weights.
        """
        await self.post("/pause?mode=abort", {})
        try:
            await self.post("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}})
            await self.post("/update_weight_version", {"new_version": label})
        except BaseException:
            with suppress(Exception):
                await self.post("/resume", {})
            raise
        await self.post("/resume", {})

    async def flush_cache(self) -> None:
        try:
            await self.post("/reset_prefix_cache", {})
        except RequestRejected as rejected:  # a request is running
            raise ServerFault("unavailable", str(rejected)) from rejected
