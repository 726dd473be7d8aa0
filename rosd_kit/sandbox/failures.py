"""Logs why a verifier failed on a response, once per cause: a mistake in a verifier fails on every response."""

from __future__ import annotations

import logging
from weakref import WeakKeyDictionary

_log = logging.getLogger(__name__)
_MOST = 20
_said: WeakKeyDictionary[object, set[str]] = WeakKeyDictionary()


def log_failure(verifier: object, name: str, problem_id: str, cause: str) -> None:
    """Log a failure of a verifier with the first problem of each cause; at most 20 causes, as they may hold the response."""
    said = _said.setdefault(verifier, set())
    if cause in said or len(said) >= _MOST:
        return
    said.add(cause)
    more = "" if len(said) < _MOST else ". Further causes are not reported"
    _log.warning("verifier %s failed on problem %s: %s%s", name, problem_id, cause, more)
