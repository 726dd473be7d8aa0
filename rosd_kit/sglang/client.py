"""HTTP requests to one SGLang server. Knows its routes; knows nothing of weights' contents, retries or other servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rosd_kit.serving.client import Client
from rosd_kit.serving.protocol import GenerateResult, RequestRejected, ServerFault, ServerInfo
from rosd_kit.sglang.protocol import parse_generate, parse_scores, parse_server_info
from rosd_kit.types import JsonObject, Sampling

#: Seconds that a cache flush waits for running requests to finish.
_FLUSH_TIMEOUT = 30.0
#: Added to the logit of a token that must not be sampled; JSON has no infinity.
_NEVER = -1e9


class SGLangClient(Client):
    """Sends requests to one SGLang server."""

    engine = "SGLang"

    async def server_info(self) -> ServerInfo:
        return parse_server_info(await self.get("/server_info"), any_version=self._any_version)

    async def weight_label(self) -> str:
        return str((await self.get("/model_info")).get("weight_version"))

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        budget: int,
        seed: int,
        end_ids: Sequence[int],
        never: Sequence[int] = (),
        name: str | None = None,
    ) -> GenerateResult:
        # A server decodes a batch of `top_k` 1 greedily, with log-probs at temperature 1; `min_p` 1 leaves the same token.
        only_likeliest = sampling.top_k == 1
        params: JsonObject = {
            "temperature": sampling.temperature,
            "top_k": -1 if only_likeliest else sampling.top_k or -1,
            "top_p": sampling.top_p,
            "min_p": 1.0 if only_likeliest else sampling.min_p,
            "max_new_tokens": budget,
            "stop": list(sampling.stop),
            "stop_token_ids": list(end_ids),
            "sampling_seed": seed % (1 << 31),
            "skip_special_tokens": False,
        }
        if never:
            params["logit_bias"] = dict.fromkeys(map(str, never), _NEVER)
        payload: JsonObject = {"input_ids": list(prompt_ids), "sampling_params": params, "return_logprob": True}
        if name is not None:
            payload["rid"] = name
        return parse_generate(await self.post("/generate", payload), prompt_ids, may_abort=name is not None)

    async def abort(self, name: str) -> None:
        await self.post("/abort_request", {"rid": name})

    async def score(self, ids: Sequence[int]) -> list[float]:
        payload = {
            "input_ids": list(ids),
            "sampling_params": {"max_new_tokens": 0, "temperature": 1.0},
            "return_logprob": True,
            "logprob_start_len": 0,
        }
        return parse_scores(await self.post("/generate", payload), ids)

    async def load_files(self, folder: Path, label: str) -> None:
        request = {"model_path": str(folder), "weight_version": label, "flush_cache": False}
        await self.post("/update_weights_from_disk", request)

    async def flush_cache(self) -> None:
        """Drop the server's key-value cache. The server first waits until no request is running, including its own."""
        try:
            await self.post(f"/flush_cache?timeout={_FLUSH_TIMEOUT:g}", {})
        except RequestRejected as rejected:
            raise ServerFault("unavailable", str(rejected)) from rejected

    async def release_memory(self) -> None:
        await self.post("/release_memory_occupation", {"tags": ["kv_cache", "weights"]})

    async def resume_memory(self, tag: str) -> None:
        await self.post("/resume_memory_occupation", {"tags": [tag]})
