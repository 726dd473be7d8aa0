"""The reflector `panel` and the localizer `vote`: the laws of their slots, elections, and a short run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rosd_kit_process_localizer import Panel, Vote
from rosd_kit_process_localizer.vote import elect

import rosd_kit as rk
from rosd_kit.testing import fake_case, fake_generate, fake_reflection, parametrize_with_checks

RECIPE = Path(__file__).parents[1] / "recipe.yaml"
TEXT = "Step 1 : 17 + 8 = 25 . Step 2 : 25 + 4 = 30 . Answer : 30 ."
SECOND = TEXT.index("Step 2")
FIRST_TOKENS = 9
ONE, TWO, LOST = "17 + 8 = 25", "25 + 4 = 30", "quite another text , nowhere to be found"


def voted(*quotes: str) -> rk.Case:
    """Return a case whose reflections quote these texts."""
    reflections = tuple(fake_reflection(quote=quote, idea=f"idea {i}") for i, quote in enumerate(quotes))
    return fake_case(TEXT, reflection=replace(reflections[0], alternatives=reflections))


def vote(**options: object) -> Vote:
    return Vote(Vote.Config(**options))


def panel(**options: object) -> Panel:
    return Panel(Panel.Config(**options))


def answer(quote: str, idea: str = "an idea") -> str:
    return f"<error_quote>{quote}</error_quote> <explanation>{idea}</explanation>"


@parametrize_with_checks([Vote(), vote(missing="full", shape="share", quorum=0.0), Panel(), panel(votes=2)])
def test_conformance(component, check):
    check(component)


def test_the_step_with_most_votes_is_elected():
    """Two of four votes are for the second step, one is for the first, and one quote is not in the text."""
    located = vote(quorum=0.5).locate(voted(TWO, ONE, LOST, TWO))
    length = len(TEXT.split()) + 1
    assert (located.outcome, located.start_char) == ("majority", SECOND)
    assert located.weights == (0.0,) * FIRST_TOKENS + (1.0,) * (length - FIRST_TOKENS)


def test_shape_share_gives_each_token_its_share_of_the_found_quotes():
    weights = vote(shape="share").locate(voted(TWO, ONE, LOST, TWO)).weights
    assert weights[:FIRST_TOKENS] == pytest.approx((1 / 3,) * FIRST_TOKENS)
    assert set(weights[FIRST_TOKENS:]) == {1.0}


def test_equal_votes_are_unanimous():
    assert vote().locate(voted(TWO, TWO, TWO)).outcome == "unanimous"


def test_the_earlier_step_wins_a_tie():
    assert elect(TEXT, voted(TWO, ONE).reflection.alternatives).start == 0


@pytest.mark.parametrize(
    ("quotes", "quorum", "outcome"), [((TWO, ONE, LOST, TWO), 0.6, "no_majority"), ((LOST, LOST), 0.0, "missing")]
)
def test_without_a_valid_vote_missing_decides_the_weights(quotes, quorum, outcome):
    for missing, weight in (("skip", 0.0), ("full", 1.0)):
        located = vote(quorum=quorum, missing=missing).locate(voted(*quotes))
        assert (located.outcome, set(located.weights)) == (outcome, {weight})


def test_a_reflection_without_alternatives_is_one_vote():
    located = vote().locate(fake_case(TEXT, reflection=fake_reflection(quote=TWO)))
    assert (located.outcome, located.start_char) == ("unanimous", SECOND)


def test_a_known_quote_start_needs_no_search():
    case = fake_case(TEXT, reflection=fake_reflection(quote=None, quote_start=SECOND + 12))
    assert vote().locate(case).start_char == SECOND


def test_right_rollouts_have_weight_everywhere():
    located = vote().locate(fake_case(TEXT, right=True))
    assert (located.outcome, set(located.weights)) == ("right", {1.0})


def test_the_panel_returns_a_reflection_of_the_majority():
    answers = (answer(ONE, "first"), answer(TWO, "second"), "garbage", answer(TWO, "third"), answer(LOST, "fourth"))
    generate = fake_generate(*answers)
    (reflection,) = panel(votes=5).reflect([fake_case(TEXT)], generate)
    assert [vote.status for vote in reflection.alternatives] == ["ok", "ok", "unparsable", "ok", "ok"]
    assert (reflection.idea, reflection.quote, reflection.status) == ("second", TWO, "ok")
    assert len(generate.prompts) == 5 and {sampling.temperature for sampling in generate.samplings} == {1.0}


def test_a_right_rollout_gets_one_reflection():
    generate = fake_generate("<explanation>it is right</explanation>")
    right, wrong = panel(votes=4).reflect([fake_case(TEXT, right=True), fake_case(TEXT)], generate)
    assert len(generate.prompts) == 1 + 4
    assert (right.idea, right.alternatives) == ("it is right", ())
    assert len(wrong.alternatives) == 4


def test_a_panel_without_a_readable_reflection_has_a_status():
    (reflection,) = panel(votes=3).reflect([fake_case(TEXT)], fake_generate("nothing"))
    assert (reflection.status, reflection.quote, len(reflection.alternatives)) == ("unparsable", None, 3)


def test_a_short_run_counts_votes(short_run):
    run = short_run(RECIPE, "reflector.votes=3")
    wrong = [record for record in run.samples if not record["success"]]
    outcomes = {record["localized"] for record in wrong}
    assert wrong and outcomes <= {"unanimous", "majority", "no_majority", "missing"}
    assert outcomes & {"unanimous", "majority"}
    assert run.total("oracle/exact_start") > 0 and run.total("train/loss/distill") > 0
