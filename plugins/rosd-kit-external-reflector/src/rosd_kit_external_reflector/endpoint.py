"""One chat endpoint over HTTP: retries, deadlines, and a bound on requests under way. Knows nothing of reflections."""

from __future__ import annotations

import ipaddress
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import httpx

import rosd_kit as rk

_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_MISTAKEN = frozenset({401, 402, 403, 404, 405})
_CONNECT = 10.0
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True, kw_only=True)
class Said:
    """What came back; `cut` says that the text ends because it became too long.

    `status` is `ok`, or why there is no text: `unreachable`, `timeout`, `deadline`, `busy`, `refused`, `garbled`.
    """

    text: str = ""
    status: str = "ok"
    cut: bool = False


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where to ask, and how patiently. `slots` bounds the requests that are under way at once, over all threads."""

    url: str
    model: str
    key: str | None
    timeout: float
    retries: int
    slots: threading.Semaphore

    def ask(self, messages: Sequence[rk.Message], options: dict[str, Any], until: float) -> Said:
        """Return the answer to one chat; `until` is the time (of `time.monotonic`) at which to give up.

        Raises `RunError` where every further question would fail alike: a wrong key, a wrong address, an unknown model.
        """
        body = {"model": self.model, "messages": list(messages), **options}
        said = Said(status="deadline")
        for attempt in range(self.retries + 1):
            if attempt and not _paused(attempt, until):
                return said
            left = until - time.monotonic()
            if left <= 0 or not self.slots.acquire(timeout=left):
                return said
            try:
                left = until - time.monotonic()
                said = self._once(body, left) if left > 0 else said
            finally:
                self.slots.release()
            if said.status not in ("unreachable", "timeout", "busy"):
                return said
        return said

    def _once(self, body: dict[str, Any], left: float) -> Said:
        patience = min(self.timeout, left)
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            answer = httpx.post(
                f"{self.url.rstrip('/')}/chat/completions",
                json=body,
                headers=headers,
                timeout=httpx.Timeout(patience, connect=min(_CONNECT, patience)),
                trust_env=not _is_here(self.url),
            )
        except httpx.TimeoutException:
            return Said(status="timeout")
        except httpx.InvalidURL as error:
            raise rk.RunError(
                f"reflector.url: {self.url!r} is no address: {error}. Give one such as http://host:8000/v1"
            ) from None
        except httpx.HTTPError:
            return Said(status="unreachable")
        if answer.status_code in _MISTAKEN:
            raise rk.RunError(
                f"reflector: {self.url} answered HTTP {answer.status_code}: {self._shown(answer.text)}. Check reflector.url, "
                "reflector.model, and the key in the environment variable that reflector.key_variable names."
            )
        if answer.status_code in _PASSING:
            return Said(status="busy")
        return Said(status="refused") if answer.status_code >= 300 else self._read(answer)

    def _read(self, answer: httpx.Response) -> Said:
        try:
            choice = cast(Any, answer.json())["choices"][0]
            text = choice["message"]["content"]
        except (ValueError, LookupError, TypeError):
            return Said(status="garbled")
        if not isinstance(text, str):
            return Said(status="garbled")
        reason = choice.get("finish_reason") if isinstance(choice, dict) else None
        return Said(text=self._hidden(text), cut=reason == "length")

    def _hidden(self, text: str) -> str:
        """Return a text without the key, should the other side echo it: samples and messages are kept."""
        return text.replace(self.key, "***") if self.key else text

    def _shown(self, text: str) -> str:
        return " ".join(self._hidden(text).split())[:200]


def _is_here(url: str) -> bool:
    """Return whether an address is this machine's own, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _paused(attempt: int, until: float) -> bool:
    """Wait twice as long each time, somewhat by chance; return False where that would be too late."""
    pause = min(_LONGEST_PAUSE, 0.25 * 2.0**attempt) * (0.5 + random.random() / 2)
    if time.monotonic() + pause >= until:
        return False
    time.sleep(pause)
    return True
