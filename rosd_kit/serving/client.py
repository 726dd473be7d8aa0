"""HTTP requests to one inference server, and how they fail. Knows no routes but `/health`; an engine's client adds them."""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from rosd_kit.errors import EngineError
from rosd_kit.serving.protocol import GenerateResult, RequestRejected, ServerFault, ServerInfo
from rosd_kit.types import JsonObject, Sampling

if TYPE_CHECKING:
    from httpx import AsyncClient

#: Seconds to open a connection.
_CONNECT_TIMEOUT = 5.0
_RETRYABLE_STATUS = frozenset({429, 500, 502, 503, 504})
_SHOWN_CHARACTERS = 400


class Client(ABC):
    """Sends requests to one server; one without a response for `timeout` seconds has failed.

    Every method raises `ServerFault` where a retry may help and `RequestRejected` where the request itself is wrong. `engine`
    is the server's name in messages.
    """

    engine: ClassVar[str]

    def __init__(self, url: str, *, timeout: float, api_key: str | None = None, any_version: bool = False) -> None:
        httpx = _import_httpx(self.engine)
        self.url = url.rstrip("/")
        self._any_version = any_version
        self._http: AsyncClient = httpx.AsyncClient(
            base_url=self.url,
            timeout=httpx.Timeout(timeout, connect=_CONNECT_TIMEOUT, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            trust_env=not is_loopback(url),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def is_healthy(self, *, timeout: float) -> bool:
        """Return whether the server reports that it can generate."""
        try:
            await self._request("GET", "/health", timeout=timeout)
        except (ServerFault, RequestRejected):
            return False
        return True

    @abstractmethod
    async def server_info(self) -> ServerInfo:
        """Return version, model and limits of the server. Raises `EngineError` for an unsupported version."""

    @abstractmethod
    async def weight_label(self) -> str:
        """Return the label of the weights that the server holds."""

    @abstractmethod
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
        """Continue a prompt by at most `budget` tokens, none of them in `never`; `abort` can end a request that has a name.

        A token of `end_ids`, or one that completes a stop string, ends the response and belongs to it. The log-probs are those
        of the distribution without the tokens in `never`.
        """

    async def abort(self, name: str) -> None:
        """End a request by its name: it gives what it has, with finish reason `abort`. A name that is not open is ignored."""
        raise NotImplementedError(f"{self.engine} cannot end requests.")

    @abstractmethod
    async def score(self, ids: Sequence[int]) -> list[float]:
        """Return the log-prob of each of `ids[1:]` given the ids before it, in nats at temperature 1."""

    @abstractmethod
    async def load_files(self, folder: Path, label: str) -> None:
        """Load the safetensors in a folder and hold them under this label, without flushing the cache."""

    @abstractmethod
    async def flush_cache(self) -> None:
        """Drop the server's key-value cache, which was computed with previous weights."""

    async def release_memory(self) -> None:
        """Release the memory of a shared GPU: weights and key-value cache. For engines that offer `colocated`."""
        raise NotImplementedError

    async def resume_memory(self, tag: str) -> None:
        """Allocate released memory again: `weights` or `kv_cache`. For engines that offer `colocated`."""
        raise NotImplementedError

    async def get(self, route: str) -> JsonObject:
        """Return the JSON object that a route responds with."""
        response = await self._request("GET", route)
        if not isinstance(response, dict):
            raise ServerFault("garbled", f"{self.url}{route}: not a JSON object: {_shorten(str(response))}")
        return response

    async def post(self, route: str, payload: object) -> Any:
        """Post a payload and return the response: parsed JSON, else text. Raises `RequestRejected` on `success: false`."""
        response = await self._request("POST", route, json=payload)
        if isinstance(response, dict) and response.get("success") is False:
            raise RequestRejected(f"{route}: {response.get('message')}")
        return response

    async def _request(self, method: str, route: str, **options: Any) -> Any:  # httpx's arguments; JSON or text
        import httpx

        try:
            response = await self._http.request(method, route, **options)
        except httpx.TimeoutException as error:
            raise ServerFault("timeout", f"{self.url}{route} did not respond in time") from error
        except httpx.HTTPError as error:
            raise ServerFault("unreachable", f"{self.url}{route}: {error or type(error).__name__}") from error
        if response.status_code in _RETRYABLE_STATUS:
            raise ServerFault("unavailable", f"{self.url}{route}: HTTP {response.status_code} {_shorten(response.text)}")
        if response.status_code >= 400:
            raise RequestRejected(f"{self.url}{route}: HTTP {response.status_code} {_shorten(response.text)}")
        if not response.content or "json" not in response.headers.get("content-type", ""):
            return response.text
        try:
            return response.json()
        except ValueError as error:
            raise ServerFault("garbled", f"{self.url}{route}: invalid JSON of {len(response.content)} bytes") from error


def _import_httpx(engine: str) -> ModuleType:
    """Import httpx. Raises `EngineError` if the extra is not installed."""
    try:
        import httpx
    except ImportError as error:
        raise EngineError(
            f'rollout={engine.lower()} needs httpx, which is not installed. Run: pip install "rosd-kit[sglang]"'
        ) from error
    return httpx


def is_loopback(url: str) -> bool:
    """Return whether an address is a loopback address, which no other machine can reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ..."
