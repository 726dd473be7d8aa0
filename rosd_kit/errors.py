"""Exceptions for users' mistakes: each message names the field, the value, what is allowed and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RosdError(Exception):
    """Base of every error that a user can mend; the command line prints it without a traceback."""


class RecipeError(RosdError):
    """A recipe, profile or override says something that is not allowed."""


class PluginError(RosdError):
    """A plugin that the recipe needs could not be used."""


class RunError(RosdError):
    """A run cannot start, go on, or be resumed."""


class EngineError(RosdError):
    """The rollout backend failed in a way that retries did not mend."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest known word, or an empty string when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
