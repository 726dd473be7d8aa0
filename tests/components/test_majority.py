"""A majority without the truth."""

from __future__ import annotations

import pytest

from rosd_kit.components.verifiers import Majority
from tests.components.rows import asking


def voted(answers: list[str], **options) -> list[bool]:
    texts = [f"Answer: {answer}" if answer else "none" for answer in answers]
    return [v.success for v in Majority(Majority.Config(**options)).verify_group(asking("the truth"), texts)]


@pytest.mark.parametrize(
    ("answers", "right"),
    [
        (["7", "8", "7"], [True, False, True]),
        (["7", "7 .", "**7**", "9"], [True, True, True, False]),
        (["7", "8"], [False, False]),
        (["7", "7", "8", "8", "9"], [False] * 5),
        (["7", "", ""], [True, False, False]),
        (["", ""], [False, False]),
        ([], []),
    ],
)
def test_most_votes_win_and_a_tie_has_no_winner(answers, right):
    assert voted(answers) == right


def test_a_share_may_be_asked_for():
    assert voted(["7", "7", "8", "9"], share=0.5) == [False] * 4
    assert voted(["7", "7", "7", "9"], share=0.5) == [True, True, True, False]


def test_alone_the_truth_counts_and_silence_is_unparsable():
    verifier = Majority()
    assert verifier.verify(asking("7"), "Answer: 7").success and not verifier.verify(asking("7"), "Answer: 8").success
    assert verifier.verify_group(asking("7"), ["no idea"])[0].status == "unparsable"
