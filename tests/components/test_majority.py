"""The verifier `majority`."""

from __future__ import annotations

import pytest

from rosd_kit.components.verifiers import Majority
from tests.components.rows import asking


def vote(answers: list[str], **options) -> list[bool]:
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
def test_the_most_frequent_answer_wins_and_a_tie_has_no_winner(answers, right):
    assert vote(answers) == right


def test_a_majority_may_need_a_share_of_the_group():
    assert vote(["7", "7", "8", "9"], share=0.5) == [False] * 4
    assert vote(["7", "7", "7", "9"], share=0.5) == [True, True, True, False]


def test_a_single_response_is_compared_with_the_true_answer():
    verifier = Majority()
    assert verifier.verify(asking("7"), "Answer: 7").success and not verifier.verify(asking("7"), "Answer: 8").success
    assert verifier.verify_group(asking("7"), ["no idea"])[0].status == "unparsable"
