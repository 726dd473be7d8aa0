"""The kit notices what it says it does: each of its laws catches a component that breaks it."""

from __future__ import annotations

import pytest

from rosd_kit.contracts import SLOTS
from rosd_kit.testing import CheckFailed, checks_of
from tests.testing.mutants import MUTANTS

LAWS = {(made.kind, made.name): made for kind in SLOTS for made in checks_of(kind)}


def test_every_law_has_a_mutant_and_every_mutant_breaks_a_law_that_there_is():
    assert sorted(MUTANTS) == sorted(LAWS)


@pytest.mark.parametrize(("kind", "law"), sorted(LAWS), ids="-".join)
def test_a_mutant_is_caught_by_the_law_it_breaks(kind, law):
    # A mutant that raises by itself is caught too: the law's name is told with whatever it raised.
    with pytest.raises((CheckFailed, Exception)) as caught:
        LAWS[kind, law](MUTANTS[kind, law]())
    assert f"law {law!r} of {kind} components" in caught.value.__notes__[-1]


@pytest.mark.parametrize(("kind", "law"), sorted(LAWS), ids="-".join)
def test_what_a_mutant_was_made_from_keeps_the_law(kind, law):
    """Or a check that fails for everything would pass for one that works."""
    whole = type(MUTANTS[kind, law]()).__mro__[1]
    LAWS[kind, law](whole())


def test_every_law_is_written_down_in_words():
    for made in LAWS.values():
        assert made.law.endswith(".") and len(made.law) > 30, made.name
