"""Runs without a signal say so, once, with a remedy; good runs say nothing."""

from __future__ import annotations

import pytest

from rosd_kit.display import Display
from rosd_kit.evaluation.intervals import bootstrap_mean
from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.run.collapse_warnings import CollapseWatch
from rosd_kit.settings import WatchSettings

GOOD = {
    "rollout/success": 0.5,
    "gate/mixed": 2.0,
    "sample/ok": 4.0,
    "localize/exact": 3.0,
    "localize/missing": 1.0,
    "train/samples": 4.0,
    "train/weighted_tokens": 40.0,
    "train/weight_change": 0.1,
}
DROPPED = {"gate/all_wrong": 2.0, "rollout/success": 0.5}
CUT_OFF = {**DROPPED, "rollout/count": 8.0, "rollout/truncated": 7.0}
GRADED = {**DROPPED, "rollout/reward_spread": 0.8}
NO_QUOTES = {**GOOD, "localize/exact": 0.0, "localize/missing": 4.0}
NO_WEIGHT = {**GOOD, "sample/ok": 0.0, "sample/no_weight": 3.0, "sample/no_privileged_text": 1.0, "train/weighted_tokens": 0.0}
STILL = {**GOOD, "train/weight_change": 0.0}


class WarningList(Display):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def said(*steps, patience=3):
    watch = CollapseWatch(WatchSettings(patience=patience))
    return [warning for metrics in steps for warning in watch.step(metrics)]


def test_a_good_run_gives_no_warning():
    assert said(*[GOOD] * 20) == []


@pytest.mark.parametrize(
    ("bad", "message", "remedy"),
    [
        (DROPPED, "no group held both a success and a failure for 3 steps", "raise group_size"),
        (CUT_OFF, "most responses were cut off", "verifier.truncated=score"),
        (GRADED, "although rewards differ within groups", "gate=mixed_rewards"),
        (NO_QUOTES, "no quote was found in any response for 3 steps", "samples/"),
        (NO_WEIGHT, "no token had a weight for 3 steps (no weight 9, no privileged text 3)", "localizer.missing"),
        (STILL, "the weights have not changed for 3 steps", "optimizer.lr"),
        ({**GOOD, "rollout/success": 0.05}, "success fell to 5% from 50%", "earlier checkpoint"),
    ],
    ids=["groups", "truncated", "graded", "quotes", "weights", "still", "collapse"],
)
def test_each_lack_of_signal_is_warned_of_once_after_the_patience(bad, message, remedy):
    assert said(GOOD, bad, bad) == []
    [warning] = said(GOOD, *[bad] * 9)
    assert message in warning
    assert remedy in warning


def test_ids_without_a_token_are_warned_of_at_once():
    [warning] = said(GOOD, {**GOOD, "rollout/without_token": 2.0}, {**GOOD, "rollout/without_token": 3.0})
    assert warning.startswith("2 responses hold ids for which the tokenizer has no token")


@pytest.mark.parametrize(("limit", "expected"), [(0.25, 1), (0.5, 0), (None, 0)])
def test_truncated_rollouts_are_warned_of_even_if_the_run_learns(limit, expected):
    cut = [{**GOOD, "rollout/count": 10.0, "rollout/truncated": n} for n in (5.0, 3.0, 4.0)]
    watch = CollapseWatch(WatchSettings(patience=3, truncated=limit))
    warnings = [text for metrics in cut for text in watch.step(metrics)]
    assert len(warnings) == expected
    if expected:
        assert warnings[0].startswith("at least 30% of the rollouts were cut off at their length limit for 3 steps")
        assert "sampling.max_new_tokens" in warnings[0] and "gate.truncated=drop" in warnings[0]


@pytest.mark.parametrize(
    ("truncated", "counts", "not_said"),
    [("wrong", "They count as wrong", "what the verifier says"), ("score", "what the verifier says of their text", "as wrong")],
)
def test_the_warning_about_truncation_says_what_truncated_rollouts_count_as(truncated, counts, not_said):
    cut = {**GOOD, "rollout/count": 10.0, "rollout/truncated": 5.0}
    [warning] = CollapseWatch(WatchSettings(patience=1), truncated=truncated).step(cut)
    assert counts in warning and not_said not in warning and "gate.truncated=drop" in warning
    [dropped] = CollapseWatch(WatchSettings(patience=1), truncated=truncated, drops_truncated=True).step(cut)
    assert "gate.truncated" not in dropped and "sampling.max_new_tokens" in dropped


def test_a_single_step_with_few_truncated_rollouts_resets_the_patience():
    few, many = ({**GOOD, "rollout/count": 10.0, "rollout/truncated": n} for n in (1.0, 9.0))
    assert said(many, many, few, many, many) == []


VITALS = {
    **GOOD,
    "rollout/entropy": 0.5,
    "rollout/length": 100.0,
    "diversity/wrong_answers": 0.6,
    "leak/reference": 0.01,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollout/entropy": 0.05}, "the rollouts' entropy fell to 0.05 (at the start 0.5) nats"),
        ({"diversity/wrong_answers": 0.2}, "different wrong answers fell to 0.20 (at the start 0.60)"),
        ({"rollout/length": 400.0}, "responses have 400 (at the start 100) tokens"),
        ({"rollout/length": 20.0}, "responses have 20 (at the start 100) tokens"),
        (
            {"leak/reference": 0.035},
            "3.5% of rollouts mention a reference that only the teacher was shown (1.0% at the start)",
        ),
    ],
    ids=["entropy", "variety", "longer", "shorter", "leaks"],
)
def test_each_sign_of_collapse_is_warned_of_once_after_the_patience(changes, message):
    [warning] = said(VITALS, *[VITALS | changes] * 9)
    assert message in warning


def test_less_variety_is_no_collapse_when_success_has_risen():
    better = VITALS | {"rollout/entropy": 0.01, "diversity/wrong_answers": 0.2, "rollout/success": 0.95}
    assert said(VITALS, *[better] * 9) == []
    assert said(VITALS, *[better | {"rollout/success": 0.62}] * 9) == []


@pytest.mark.parametrize("name", ["success", "entropy", "variety", "length", "leaks"])
def test_null_turns_a_warning_off(name):
    dead = {
        "rollout/success": 0.05,
        "rollout/entropy": 0.01,
        "diversity/wrong_answers": 0.1,
        "rollout/length": 1.0,
        "leak/reference": 1.0,
    }
    steps = [VITALS, *[VITALS | dead] * 9]
    watches = CollapseWatch(WatchSettings(patience=3)), CollapseWatch(WatchSettings(patience=3, **{name: None}))
    every, some = ([warning for metrics in steps for warning in watch.step(metrics)] for watch in watches)
    assert len(every) == 5 and len(some) == 4 and set(some) < set(every)


def evaluation(suite: str, share: float, *, in_domain: bool) -> SuiteResult:
    scores = {f"{suite}-{i}": float(i < 40 * share) for i in range(40)}
    interval = bootstrap_mean(list(scores.values()))
    return SuiteResult(
        suite=suite, in_domain=in_domain, mean=interval.mean, low=interval.low, high=interval.high, problems=40, samples=4,
        format_rate=1.0, mean_tokens=9.0, scores=scores, pass_at={"4": interval},
    )  # fmt: skip


def measured(before: float, after: float, *, in_domain: bool, **settings) -> list[str]:
    watch = CollapseWatch(WatchSettings(**settings))
    rest = evaluation("rest", 0.5, in_domain=not in_domain)
    assert watch.evaluation([evaluation("s", before, in_domain=in_domain), rest]) == []
    return watch.evaluation([evaluation("s", after, in_domain=in_domain), rest])


def test_a_fall_of_coverage_or_of_other_suites_is_warned_of():
    [coverage] = measured(0.9, 0.4, in_domain=True)
    assert coverage.startswith("pass@4 of the trained suites fell to 40% from 90%")
    [outside] = measured(0.9, 0.4, in_domain=False)
    assert outside.startswith("outside the trained domain mean@k fell by 50.0 points")


def test_falls_that_are_small_or_may_be_chance_give_no_warning():
    assert measured(0.9, 0.85, in_domain=True) == measured(0.525, 0.5, in_domain=False) == []
    assert measured(0.5, 0.9, in_domain=True) == measured(0.5, 0.9, in_domain=False) == []
    assert measured(0.9, 0.4, in_domain=True, pass_at_k=None) == measured(0.9, 0.4, in_domain=False, out_of_domain=None) == []


@pytest.mark.parametrize("bad", [DROPPED, NO_QUOTES, NO_WEIGHT, STILL])
def test_one_good_step_resets_the_count(bad):
    assert said(*[bad, bad, GOOD] * 5) == []


@pytest.mark.parametrize("outcome", ["exact", "normalised", "fuzzy", "exact_ambiguous", "fuzzy_ambiguous"])
def test_every_way_of_finding_a_quote_counts_as_found(outcome):
    assert said(*[{**NO_QUOTES, f"localize/{outcome}": 1.0}] * 5) == []


def test_uniform_groups_give_no_warning_when_every_rollout_passes():
    assert said(*[{**GOOD, "gate/mixed": 0.0, "gate/all_wrong": 2.0}] * 5) == []


def test_a_step_that_trained_nothing_does_not_count_as_unchanged_weights():
    [warning] = said(*[DROPPED] * 5)
    assert warning.startswith("no group")


def test_a_run_that_collapses_gives_the_warning(run, tmp_path):
    warned = WarningList()
    changes = ("steps=3", "optimizer.lr=0.02", "watch.patience=2", "problems_per_step=4", "group_size=4", "context=key_idea")
    changes += (
        "verifier.truncated=score",
        "watch.truncated=null",  # collapsed responses do not end
        "sampling.max_new_tokens=40",
        "evaluation.problems=12",
        "evaluation.samples=2",
        "evaluation.every=0",
    )
    run(tmp_path / "run", *changes, display=warned)
    falls = [warning.split(" fell")[0] for warning in warned.warnings]
    assert falls == ["success", "pass@2 of the trained suites", "outside the trained domain mean@k"]


def test_a_run_shorter_than_the_patience_uses_all_its_steps(run, tmp_path):
    warned = WarningList()
    changes = ("steps=2", "optimizer.lr=1e-30", "optimizer.weight_decay=0")
    run(tmp_path / "run", *changes, display=warned)
    assert warned.warnings == ["the weights have not changed for 2 steps. Check optimizer.lr and whether updates are skipped."]


@pytest.mark.parametrize("gate", ["all", "mixed_groups"])
def test_groups_of_one_are_warned_of_with_a_gate_that_compares(run, tmp_path, gate):
    warned = WarningList()
    run(tmp_path / "run", "steps=2", "group_size=1", f"gate={gate}", "watch.truncated=null", display=warned)
    assert [warning.split(",")[0] for warning in warned.warnings] == (
        [] if gate == "all" else ["no group held both a success and a failure for 2 steps"]
    )


def test_responses_without_a_located_error_are_warned_of_in_a_real_run(run, tmp_path):
    warned = WarningList()
    changes = ("steps=2", "model.path=micro-blank", "reflector=tutor", "localizer=error_quote", "localizer.missing=skip")
    run(tmp_path / "run", *changes, display=warned)
    assert any(warning.startswith("no token had a weight for 2 steps (no weight ") for warning in warned.warnings)
