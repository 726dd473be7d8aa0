"""Responses that were cut off at the length limit: what they count as, and whether they train."""

from __future__ import annotations

from dataclasses import replace

import pytest

import rosd_kit as rk
from rosd_kit.components.verifiers import BySuite, Exact, MicroVerifier
from rosd_kit.display.text import truncation
from rosd_kit.testing import fake_completion
from tests.pipeline.test_pipeline import PROBLEM, RIGHT, WRONG


def cut_off(text: str) -> rk.Completion:
    return fake_completion(text, finish_reason="length")


def stepped(make_pipeline, *changes: str, truncated: set[int]):
    """Take a step of `grpo` with right, wrong, right and wrong rollouts, of which those at these positions are cut off."""
    texts = [RIGHT, WRONG, RIGHT, WRONG]
    pipeline = make_pipeline("grpo", "group_size=4", *changes, says=[texts])
    generate = pipeline.engine.generate

    def cut(requests, **more):
        completions = generate(requests, **more)
        return [replace(c, finish_reason="length") if index in truncated else c for index, c in enumerate(completions)]

    pipeline.engine.generate = cut
    return pipeline.step([PROBLEM], 0)


def trained(batch) -> list[tuple[float, tuple[float, ...]]]:
    return [(sample.reward, sample.group_rewards) for sample in batch.samples]


def test_a_right_text_that_was_cut_off_is_wrong_unless_the_verifier_scores_it():
    problem = rk.Problem(id="p", messages=(), answer="29")
    verifier = Exact()
    verdict = verifier.judge(problem, cut_off("Answer: 29"))
    assert (verdict.score, verdict.success, verdict.status) == (0.0, False, "unparsable") and "cut off" in verdict.feedback
    assert verifier.judge_group(problem, [cut_off("Answer: 29"), fake_completion("Answer: 29")])[1].success
    assert Exact(Exact.Config(truncated="score")).judge(problem, cut_off("Answer: 29")).success


def test_what_a_wrong_text_gets_does_not_change_because_it_was_cut_off():
    class Graded(rk.Verifier):
        """Partial credit."""

        name = "graded"

        def verify(self, problem, text):
            return rk.Verdict(score=0.4, success=False, feedback="nearly")

    verdict = Graded().judge(rk.Problem(id="p", messages=(), answer=""), cut_off("x"))
    assert verdict == rk.Verdict(score=0.4, success=False, feedback="nearly")


def test_a_plugin_whose_options_derive_from_the_plain_config_has_them_too():
    class Mine(rk.Verifier):
        """Mine."""

        name = "mine"

        class Config(rk.Config):
            """Options."""

            word: str = "a"
            """A word."""

        def verify(self, problem, text):
            return rk.Verdict(score=1.0, success=True)

    class MyGate(rk.Gate):
        """Mine."""

        name = "my_gate"

        def decide(self, group):
            return rk.GateDecision(outcome="all")

    assert Mine.Config(truncated="score", word="b").model_dump() == {"truncated": "score", "word": "b"}
    assert MyGate.Config().truncated == "keep"
    with pytest.raises(ValueError, match="'wrong' or 'score'"):
        Mine.Config(truncated="maybe")


def test_verifiers_by_suite_take_over_the_option_unless_they_set_it():
    options = BySuite.Config(default="a", suites={"b": {"name": "b", "truncated": "wrong"}}, truncated="score")
    asked = []
    BySuite.build(options, lambda choice: asked.append(choice) or MicroVerifier())
    assert asked == [{"truncated": "wrong", "name": "b"}, {"truncated": "score", "name": "a"}]


@pytest.mark.parametrize(
    ("gate", "rewards", "group"),
    [
        ("keep", [0.0, 0.0, 1.0, 0.0], (0.0, 0.0, 1.0, 0.0)),
        ("mask", [0.0, 1.0, 0.0], (0.0, 0.0, 1.0, 0.0)),
        ("drop", [0.0, 1.0, 0.0], (0.0, 1.0, 0.0)),
    ],
)
def test_a_gate_keeps_masks_or_drops_them(make_pipeline, gate, rewards, group):
    batch = stepped(make_pipeline, f"gate.truncated={gate}", truncated={0})
    assert trained(batch) == [(reward, group) for reward in rewards]
    assert batch.metrics["rollout/truncated"] == 1 and batch.metrics.get("skip/truncated", 0) == (gate != "keep")
    assert truncation(batch.metrics) == "1 of 4 (25%)"


def test_a_group_of_dropped_rollouts_is_no_group(make_pipeline):
    batch = stepped(make_pipeline, "gate.truncated=drop", truncated={0, 1, 2, 3})
    assert batch.samples == () and batch.metrics["skip/truncated"] == 4
    assert not any(name.startswith("gate/") for name in batch.metrics)
