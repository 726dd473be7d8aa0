"""One SGLang server over HTTP. Knows its routes; knows nothing of weights' contents, retries or other servers."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rosd_kit.errors import EngineError
from rosd_kit.sglang.protocol import Answer, Refusal, ServerFacts, ServerFault, read_answer, read_facts, read_scores
from rosd_kit.types import Sampling

if TYPE_CHECKING:
    from httpx import AsyncClient

#: Seconds that a connection may take to open.
CONNECT = 5.0
#: Seconds within which a server's last requests end.
_IDLE = 30.0
_MAY_PASS = frozenset({429, 500, 502, 503, 504})


class Client:
    """Asks one server. `timeout`: seconds without an answer after which a request counts as failed.

    Every method raises `ServerFault` where another try may help and `Refusal` where the request itself is wrong.
    """

    def __init__(self, url: str, *, timeout: float, api_key: str | None = None, any_version: bool = False) -> None:
        httpx = import_httpx()
        self.url = url.rstrip("/")
        self._any_version = any_version
        self._http: AsyncClient = httpx.AsyncClient(
            base_url=self.url,
            timeout=httpx.Timeout(timeout, connect=CONNECT, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            trust_env=not is_loopback(url),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def healthy(self, *, timeout: float) -> bool:
        """Return whether the server says that it can generate."""
        try:
            await self._request("GET", "/health", timeout=timeout)
        except (ServerFault, Refusal):
            return False
        return True

    async def facts(self) -> ServerFacts:
        """Return what the server is. Raises `EngineError` for a version that is not supported."""
        return read_facts(await self.get("/server_info"), any_version=self._any_version)

    async def label(self) -> str:
        """Return the version label of the weights that the server holds."""
        return str((await self.get("/model_info")).get("weight_version"))

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, budget: int, seed: int, end_ids: Sequence[int]
    ) -> Answer:
        """Continue a prompt by at most `budget` tokens; `end_ids` end the response and belong to it."""
        payload = {
            "input_ids": list(prompt_ids),
            "sampling_params": {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_new_tokens": budget,
                "stop_token_ids": list(end_ids),
                "sampling_seed": seed % (1 << 31),
                "skip_special_tokens": False,
            },
            "return_logprob": True,
        }
        return read_answer(await self.post("/generate", payload), prompt_ids)

    async def score(self, ids: Sequence[int]) -> list[float]:
        """Return the log-probs of `ids[1:]` given what precedes each, in nats at temperature 1."""
        payload = {
            "input_ids": list(ids),
            "sampling_params": {"max_new_tokens": 0, "temperature": 1.0},
            "return_logprob": True,
            "logprob_start_len": 0,
        }
        return read_scores(await self.post("/generate", payload), ids)

    async def forget(self) -> None:
        """Have the server drop its cache of keys and values; it waits until no request is under way, its own included."""
        try:
            await self.post(f"/flush_cache?timeout={_IDLE:g}", {})
        except Refusal as refusal:
            raise ServerFault("unavailable", str(refusal)) from refusal

    async def get(self, route: str) -> Any:
        """Return the facts that a route tells."""
        answer = await self._request("GET", route)
        if not isinstance(answer, dict):
            raise ServerFault("garbled", f"{self.url}{route}: not a JSON object: {_brief(str(answer))}")
        return answer

    async def post(self, route: str, payload: object) -> Any:
        """Send something to a route and return its answer; an answer that says `success: false` is a `Refusal`."""
        answer = await self._request("POST", route, json=payload)
        if isinstance(answer, dict) and answer.get("success") is False:
            raise Refusal(f"{route}: {answer.get('message')}")
        return answer

    async def _request(self, method: str, route: str, **options: Any) -> Any:
        import httpx

        try:
            response = await self._http.request(method, route, **options)
        except httpx.TimeoutException as error:
            raise ServerFault("timeout", f"{self.url}{route} gave no answer in time") from error
        except httpx.HTTPError as error:
            raise ServerFault("unreachable", f"{self.url}{route}: {error or type(error).__name__}") from error
        if response.status_code in _MAY_PASS:
            raise ServerFault("unavailable", f"{self.url}{route}: HTTP {response.status_code} {_brief(response.text)}")
        if response.status_code >= 400:
            raise Refusal(f"{self.url}{route}: HTTP {response.status_code} {_brief(response.text)}")
        if not response.content or "json" not in response.headers.get("content-type", ""):
            return response.text
        try:
            return response.json()
        except ValueError as error:
            raise ServerFault("garbled", f"{self.url}{route}: broken JSON of {len(response.content)} bytes") from error


def import_httpx() -> Any:
    """Return httpx. Raises `EngineError` where the extra is not installed."""
    try:
        import httpx
    except ImportError as error:
        raise EngineError('rollout=sglang needs httpx, which is not installed. Run: pip install "rosd-kit[sglang]"') from error
    return httpx


def is_loopback(url: str) -> bool:
    """Return whether an address is this machine's own, which nobody else can reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _brief(text: str) -> str:
    return text if len(text) <= 400 else f"{text[:400]} ..."
