"""Suites on the embedded model: what is asked, what is measured, and what is compared."""

from __future__ import annotations

import json
import socket
from types import SimpleNamespace

import pytest

from rosd_kit.contracts import Verifier
from rosd_kit.errors import RunError
from rosd_kit.evaluation.metrics import METRICS, compute
from rosd_kit.evaluation.results import SuiteResult, compare
from rosd_kit.evaluation.suites import evaluate_suites
from rosd_kit.faults import Faults
from rosd_kit.files import finite
from rosd_kit.model.student import Student
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.settings import EvaluationSettings, ModelSettings
from rosd_kit.types import Completion, Problem, Verdict

SMALL = EvaluationSettings(problems=3, samples=2)


class Counting:
    """An engine that remembers what it was asked and answers by the seed."""

    def __init__(self) -> None:
        self.calls: list[list] = []

    def generate(self, requests, *, weights="live"):
        self.calls.append(list(requests))
        return [
            Completion(
                prompt_ids=r.prompt_ids, token_ids=(5,) * (1 + r.seed % 3), logprobs=(0.0,) * (1 + r.seed % 3),
                text=str(r.seed % 2), token_spans=((0, 1),) * (1 + r.seed % 3), finish_reason="stop",
            )
            for r in requests
        ]  # fmt: skip


class Odd(Verifier):
    """Judges a response right when it says 1."""

    name = "odd"

    def verify(self, problem, response):
        return Verdict(score=float(response == "1"), success=response == "1", feedback="", status="ok")


def fixed_task(**suites: list[str]):
    def problems(ids):
        return [Problem(id=i, messages=({"role": "user", "content": i},), answer="1") for i in ids]

    return SimpleNamespace(
        name="fixed",
        suites=lambda count, seed: {name: problems(ids) for name, ids in suites.items()},
        in_domain=lambda: {"one"},
    )


def measure(task, engine, settings=SMALL):
    return evaluate_suites(
        task=task, engine=engine, verifier=Odd(), prompt_ids=lambda m: tuple(m[0]["content"].encode()), settings=settings,
        max_new_tokens=9,
    )  # fmt: skip


@pytest.fixture(scope="module")
def micro():
    recipe = load_recipe("rosd", ["model.device=cpu"], "micro", registry=PluginManager().registry)
    parts = build_components(recipe, PluginManager().registry)
    student = Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=False)
    parts.rollout.start(student)

    def evaluate(settings=SMALL):
        return evaluate_suites(
            task=parts.task, engine=parts.rollout, verifier=parts.verifier, prompt_ids=student.prompt_ids, settings=settings,
            max_new_tokens=24,
        )  # fmt: skip

    return evaluate


def test_the_embedded_model_is_measured_on_every_suite_alike_twice(micro):
    first, again = micro(), micro()
    assert first == again
    assert len(first) > 1 and any(r.in_domain for r in first) and not all(r.in_domain for r in first)
    for result in first:
        assert (result.problems, result.samples, len(result.scores)) == (3, 2, 3)
        assert result.low <= result.mean <= result.high
        assert result.mean == pytest.approx(sum(result.scores.values()) / 3)
        assert set(result.scores.values()) <= {0.0, 0.5, 1.0}
        assert 1 <= result.mean_tokens <= 24
    assert all(comparison.difference.mean == 0.0 and not comparison.excludes_zero for comparison in compare(first, again))


def test_no_problems_is_no_evaluation(micro):
    assert micro(EvaluationSettings(problems=0)) == ()


def test_all_suites_go_to_the_engine_in_one_call_with_a_seed_for_each_sample():
    engine = Counting()
    measure(fixed_task(one=["a", "b"], two=["c"]), engine)
    [requests] = engine.calls
    assert [bytes(r.prompt_ids).decode() for r in requests] == ["a", "a", "b", "b", "c", "c"]
    assert len({r.seed for r in requests}) == 6
    assert {(r.sampling.temperature, r.sampling.top_p, r.sampling.max_new_tokens) for r in requests} == {(0.6, 0.95, 9)}


def test_a_problem_is_asked_the_same_whatever_else_is_measured():
    alone, among = Counting(), Counting()
    measure(fixed_task(two=["c"]), alone)
    measure(fixed_task(one=["a", "b"], two=["x", "c"]), among)
    assert alone.calls[0] == among.calls[0][-2:]


def test_what_is_measured_is_what_was_answered():
    engine = Counting()
    one, two = measure(fixed_task(one=["a", "b", "c"], two=["d"]), engine, EvaluationSettings(problems=3, samples=3))
    seeds = [r.seed for r in engine.calls[0]]
    right = [seed % 2 for seed in seeds]
    assert list(one.scores.values()) == pytest.approx([sum(right[i : i + 3]) / 3 for i in (0, 3, 6)])
    assert (one.mean, two.mean) == pytest.approx((sum(right[:9]) / 9, sum(right[9:]) / 3))
    assert one.mean_tokens == pytest.approx(sum(1 + seed % 3 for seed in seeds[:9]) / 9)
    assert (one.in_domain, two.in_domain, one.format_rate) == (True, False, 1.0)


def test_a_suite_without_problems_or_with_one_twice_is_the_tasks_mistake():
    with pytest.raises(RunError, match="suite 'two' has no problems"):
        measure(fixed_task(one=["a"], two=[]), Counting())
    with pytest.raises(RunError, match="holds the id 'b' twice"):
        measure(fixed_task(one=["a", "b", "b"]), Counting())


def test_results_survive_json():
    [result] = measure(fixed_task(one=["a", "b"]), Counting())
    assert SuiteResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_evaluations_of_other_problems_or_suites_are_not_compared():
    one, other = (measure(fixed_task(one=ids), Counting()) for ids in (["a", "b"], ["a", "c"]))
    with pytest.raises(RunError, match=r"suite 'one' was measured on other problems.*evaluation\.seed"):
        compare(one, other)
    with pytest.raises(RunError, match="the suites before"):
        compare(one, measure(fixed_task(two=["a", "b"]), Counting()))


def test_metrics_are_known_cases_and_need_no_network(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("a metric went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert set(METRICS) == {"mean_at_k", "pass_at_k", "majority_at_k", "format_rate", "mean_tokens", "distinct_bigrams"}
    assert compute("mean_at_k", predictions=[1, 0, 1, 1], references=["a", "a", "b", "b"])["mean_at_k"] == 0.75
    assert compute("format_rate", predictions=["ok", "unreadable", "ok", "ok"]) == {"format_rate": 0.75}
    assert compute("mean_tokens", predictions=[1, 2, 6]) == {"mean_tokens": 3.0}


class Failing(Odd):
    """Fails on every response of some problems, and on the first of others."""

    def __init__(self, always: str = "", once: str = "") -> None:
        self.always, self.once, self.seen = always, once, set()

    def verify(self, problem, response):
        first = problem.id not in self.seen
        self.seen.add(problem.id)
        if problem.id == self.always or (problem.id == self.once and first):
            return Verdict(score=0.0, success=False, status="error")
        return super().verify(problem, response)


def failing(verifier, *ids, faults=None):
    return evaluate_suites(
        task=fixed_task(one=list(ids)), engine=Counting(), verifier=verifier,
        prompt_ids=lambda m: tuple(m[0]["content"].encode()), settings=SMALL, max_new_tokens=9, faults=faults,
    )  # fmt: skip


def test_what_the_verifier_failed_on_is_neither_right_nor_wrong():
    [whole], [found] = failing(Odd(), "a", "b", "c"), failing(Failing(always="b", once="c"), "a", "b", "c")
    assert (found.problems, found.errors, found.failed) == (3, 3, {"b": 2, "c": 1})
    assert found.scores.keys() == {"a", "c"} and found.scores["a"] == whole.scores["a"]
    assert found.scores["c"] in (0.0, 1.0)
    assert found.mean == pytest.approx(sum(found.scores.values()) / 2)
    assert found.format_rate == 1.0
    [comparison] = compare([whole], [found])
    assert comparison.difference.mean == pytest.approx(
        sum(found.scores[id] - whole.scores[id] for id in found.scores) / len(found.scores)
    )
    assert SuiteResult.from_json(json.loads(json.dumps(found.to_json()))) == found


class Raising(Odd):
    """Raises at, or is unsure beyond its contract of, the responses to some problems."""

    name = "raising"

    def __init__(self, *ids: str) -> None:
        self.ids = ids

    def verify(self, problem, response):
        if problem.id in self.ids:
            return Verdict(score=1 / 0, success=True)
        return Verdict(score=float("nan"), success=True) if problem.id == "unsure" else super().verify(problem, response)


def test_a_verifier_that_raises_at_some_responses_is_told_of_and_the_others_are_measured():
    [expected] = failing(Failing(always="b"), "a", "b", "c")
    faults = Faults()
    [found] = failing(Raising("b"), "a", "b", "c", faults=faults)
    assert found == expected and found.failed == {"b": 2}
    told = "verifier 'raising' failed on 2 of 6; first on problem 'b': ZeroDivisionError: division by zero"
    assert faults.told() == (told,)
    [found] = failing(Raising(), "a", "unsure")
    assert found.failed == {"unsure": 2}


def test_a_verifier_that_raises_at_everything_ends_the_evaluation_with_its_own_error():
    with pytest.raises(ZeroDivisionError) as raised:
        failing(Raising("a", "b"), "a", "b")
    assert "verifier 'raising' failed on 4 of 4" in raised.value.__notes__[0]


def test_a_suite_that_was_never_judged_is_not_known_and_not_compared():
    [found] = failing(Failing(always="a"), "a")
    assert found.mean != found.mean and found.scores == {} and found.errors == 2
    again = SuiteResult.from_json(json.loads(json.dumps(finite(found.to_json()))))
    assert again.mean != again.mean and again.failed == {"a": 2}
    with pytest.raises(RunError, match="the verifier judged no problem of suite 'one'"):
        compare([found], [found])


def test_the_embedded_model_has_all_measures(micro):
    for result in micro(EvaluationSettings(problems=4, samples=4)):
        assert list(result.pass_at) == ["1", "2", "4"]
        assert result.pass_at["1"].mean == pytest.approx(result.mean)
        assert result.mean <= result.pass_at["2"].mean <= result.pass_at["4"].mean
        assert result.pass_at["4"].mean == sum(score > 0 for score in result.scores.values()) / 4
        assert result.majority is not None and result.majority.mean <= result.pass_at["4"].mean
        assert 0 < result.bigrams <= 1 and result.entropy >= 0 and result.leaks == 0.0
        assert SuiteResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_no_majority_is_told_where_the_verifier_does_not_say_what_was_answered():
    assert measure(fixed_task(one=["a", "b", "c"]), Counting())[0].majority is None


def test_evaluations_of_an_earlier_version_are_read():
    old = {"suite": "s", "in_domain": True, "mean": 0.5, "low": 0.1, "high": 0.9, "problems": 1, "samples": 2}
    found = SuiteResult.from_json({**old, "format_rate": 1.0, "mean_tokens": 3.0, "scores": {"a": 0.5}, "later": 1})
    assert (found.pass_at, found.majority, found.errors, found.entropy) == ({}, None, 0, None)
