"""Calls a chat endpoint over HTTP, with retries, deadlines and a limit on concurrent requests. It does not know reflections."""

from __future__ import annotations

import ipaddress
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import httpx

import rosd_kit as rk

#: HTTP statuses that may pass: the request is retried.
_RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
#: HTTP statuses of a wrong key, address or model: every other request would fail too.
_FATAL = frozenset({401, 402, 403, 404, 405})
_CONNECT_TIMEOUT = 10.0
_MAX_PAUSE = 30.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The text of an answer; `truncated` says that it was cut at the token limit.

    `status` is `ok`, or the reason why there is no text.
    """

    text: str = ""
    status: Literal["ok", "unreachable", "timeout", "deadline", "busy", "refused", "garbled"] = "ok"
    truncated: bool = False


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The endpoint's address, timeouts and retries. `slots` limits the concurrent requests of all threads."""

    url: str
    model: str
    key: str | None
    timeout: float
    retries: int
    slots: threading.Semaphore

    def ask(self, messages: Sequence[rk.Message], options: Mapping[str, object], until: float) -> Answer:
        """Return the answer to one chat; give up at the time `until` of `time.monotonic`.

        Raises `RunError` if every other request would fail too: the key, the address or the model is wrong.
        """
        body = {"model": self.model, "messages": list(messages), **options}
        answer = Answer(status="deadline")
        for attempt in range(self.retries + 1):
            if attempt and not _pause(attempt, until):
                return answer
            remaining = until - time.monotonic()
            if remaining <= 0 or not self.slots.acquire(timeout=remaining):
                return answer
            try:
                remaining = until - time.monotonic()
                answer = self._post(body, remaining) if remaining > 0 else answer
            finally:
                self.slots.release()
            if answer.status not in ("unreachable", "timeout", "busy"):
                return answer
        return answer

    def _post(self, body: Mapping[str, object], remaining: float) -> Answer:
        """Send one request, which may take `remaining` seconds."""
        timeout = min(self.timeout, remaining)
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            response = httpx.post(
                f"{self.url.rstrip('/')}/chat/completions",
                json=body,
                headers=headers,
                timeout=httpx.Timeout(timeout, connect=min(_CONNECT_TIMEOUT, timeout)),
                trust_env=not _is_local(self.url),
            )
        except httpx.TimeoutException:
            return Answer(status="timeout")
        except httpx.InvalidURL as error:
            raise rk.RunError(f"reflector.url: {self.url!r} is not a URL: {error}. Give one like http://host:8000/v1") from None
        except httpx.HTTPError:
            return Answer(status="unreachable")
        if response.status_code in _FATAL:
            raise rk.RunError(
                f"reflector: {self.url} answered HTTP {response.status_code}: {self._excerpt(response.text)}. Check "
                "reflector.url, reflector.model, and the key in the environment variable named by reflector.key_variable."
            )
        if response.status_code in _RETRYABLE:
            return Answer(status="busy")
        return Answer(status="refused") if response.status_code >= 300 else self._read(response)

    def _read(self, response: httpx.Response) -> Answer:
        try:
            choice = response.json()["choices"][0]
            text = choice["message"]["content"]
        except (ValueError, LookupError, TypeError):
            return Answer(status="garbled")
        if not isinstance(text, str):
            return Answer(status="garbled")
        reason = choice.get("finish_reason") if isinstance(choice, dict) else None
        return Answer(text=self._without_key(text), truncated=reason == "length")

    def _without_key(self, text: str) -> str:
        """Mask the key in a text, in case the endpoint echoes it: samples and messages are stored."""
        return text.replace(self.key, "***") if self.key else text

    def _excerpt(self, text: str) -> str:
        return " ".join(self._without_key(text).split())[:200]


def _is_local(url: str) -> bool:
    """Return whether an address is this machine's own, which a proxy cannot reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _pause(attempt: int, until: float) -> bool:
    """Sleep with exponential backoff and jitter; return False without sleeping if that would last beyond `until`."""
    pause = min(_MAX_PAUSE, 0.25 * 2.0**attempt) * (0.5 + random.random() / 2)
    if time.monotonic() + pause >= until:
        return False
    time.sleep(pause)
    return True
