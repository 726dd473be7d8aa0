"""The reflector `panel` and the localizer `vote`: the kit's laws, elections by hand, and a short run."""

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
    said = tuple(fake_reflection(quote=quote, idea=f"idea {i}") for i, quote in enumerate(quotes))
    return fake_case(TEXT, reflection=replace(said[0], alternatives=said))


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
    """Two of four votes are for the second step, one for the first, and one is lost."""
    found = vote(quorum=0.5).locate(voted(TWO, ONE, LOST, TWO))
    length = len(TEXT.split()) + 1
    assert (found.outcome, found.start_char) == ("majority", SECOND)
    assert found.weights == (0.0,) * FIRST_TOKENS + (1.0,) * (length - FIRST_TOKENS)


def test_a_share_of_the_votes_at_each_token():
    found = vote(shape="share").locate(voted(TWO, ONE, LOST, TWO))
    assert found.weights[:FIRST_TOKENS] == pytest.approx((1 / 3,) * FIRST_TOKENS)
    assert set(found.weights[FIRST_TOKENS:]) == {1.0}


def test_all_agree():
    assert vote().locate(voted(TWO, TWO, TWO)).outcome == "unanimous"


def test_of_equally_many_votes_the_earlier_step_wins():
    assert elect(TEXT, voted(TWO, ONE).reflection.alternatives).start == 0


@pytest.mark.parametrize(
    ("quotes", "quorum", "outcome"), [((TWO, ONE, LOST, TWO), 0.6, "no_majority"), ((LOST, LOST), 0.0, "missing")]
)
def test_no_valid_vote_is_a_policy(quotes, quorum, outcome):
    for missing, weight in (("skip", 0.0), ("full", 1.0)):
        found = vote(quorum=quorum, missing=missing).locate(voted(*quotes))
        assert (found.outcome, set(found.weights)) == (outcome, {weight})


def test_one_reflection_is_one_vote():
    found = vote().locate(fake_case(TEXT, reflection=fake_reflection(quote=TWO)))
    assert (found.outcome, found.start_char) == ("unanimous", SECOND)


def test_a_known_place_needs_no_search():
    case = fake_case(TEXT, reflection=fake_reflection(quote=None, quote_start=SECOND + 12))
    assert vote().locate(case).start_char == SECOND


def test_right_rollouts_have_weight_everywhere():
    found = vote().locate(fake_case(TEXT, right=True))
    assert (found.outcome, set(found.weights)) == ("right", {1.0})


def test_the_panel_speaks_for_the_majority():
    said = fake_generate(answer(ONE, "first"), answer(TWO, "second"), "garbage", answer(TWO, "third"), answer(LOST, "fourth"))
    (found,) = panel(votes=5).reflect([fake_case(TEXT)], said)
    assert [one.status for one in found.alternatives] == ["ok", "ok", "unparsable", "ok", "ok"]
    assert (found.idea, found.quote, found.status) == ("second", TWO, "ok")
    assert len(said.prompts) == 5 and {sampling.temperature for sampling in said.samplings} == {1.0}


def test_right_rollouts_are_reflected_on_once():
    said = fake_generate("<explanation>it is right</explanation>")
    found = panel(votes=4).reflect([fake_case(TEXT, right=True), fake_case(TEXT)], said)
    assert len(said.prompts) == 1 + 4
    assert (found[0].idea, found[0].alternatives) == ("it is right", ())
    assert len(found[1].alternatives) == 4


def test_a_panel_that_says_nothing_has_a_status():
    (found,) = panel(votes=3).reflect([fake_case(TEXT)], fake_generate("nothing"))
    assert (found.status, found.quote, len(found.alternatives)) == ("unparsable", None, 3)


def test_a_short_run_counts_votes(short_run):
    run = short_run(RECIPE, "reflector.votes=3")
    wrong = [record for record in run.samples if not record["success"]]
    outcomes = {record["localized"] for record in wrong}
    assert wrong and outcomes <= {"unanimous", "majority", "no_majority", "missing"}
    assert outcomes & {"unanimous", "majority"}
    assert run.total("oracle/exact_start") > 0 and run.total("train/loss/distill") > 0
