"""Each law catches a component that breaks it, and passes the component that the mutant was made from."""

from __future__ import annotations

import pytest

from rosd_kit.contracts import SLOTS
from rosd_kit.testing import CheckFailed, checks_of
from tests.testing.mutants import MUTANTS

LAWS = {(check.kind, check.name): check for kind in SLOTS for check in checks_of(kind)}
EACH_MUTANT = pytest.mark.parametrize(
    ("kind", "law", "name"), [pytest.param(*key, id="-".join(key)) for key in sorted(MUTANTS)]
)


def test_every_law_has_a_mutant_and_every_mutant_names_a_law():
    assert {(kind, law) for kind, law, _ in MUTANTS} == set(LAWS)


@EACH_MUTANT
def test_a_mutant_fails_the_law_that_it_names(kind, law, name):
    """Only a `CheckFailed` of that law counts: an exception of the mutant itself would hide a law that checks nothing."""
    mutant = MUTANTS[kind, law, name]()
    with pytest.raises(CheckFailed) as failure:
        LAWS[kind, law](mutant)
    assert failure.type is CheckFailed
    assert failure.value.__notes__ == [f"law {law!r} of {kind} components: {LAWS[kind, law].law}"]


@EACH_MUTANT
def test_the_base_of_a_mutant_keeps_the_law(kind, law, name):
    """Otherwise a check that fails for everything would pass as one that works."""
    base = type(MUTANTS[kind, law, name]()).__mro__[1]
    LAWS[kind, law](base())


def test_every_law_is_written_as_a_sentence():
    for check in LAWS.values():
        assert check.law.endswith(".") and len(check.law) > 30, check.name
