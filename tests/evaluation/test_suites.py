"""Evaluation of suites: the requests, the measures and the comparison."""

from __future__ import annotations

import json

import pytest

from rosd_kit.contracts import Task, Verifier
from rosd_kit.errors import RunError
from rosd_kit.evaluation.results import SuiteResult, compare
from rosd_kit.evaluation.suites import evaluate_suites
from rosd_kit.faults import Faults
from rosd_kit.files import finite
from rosd_kit.model.student import Student
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.settings import EvaluationSettings, ModelSettings, SamplingSettings
from rosd_kit.types import Completion, Problem, Verdict

SMALL = EvaluationSettings(problems=3, samples=2)


class RecordingEngine:
    """Records its requests and answers by their seeds."""

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


class OddVerifier(Verifier):
    """Judges the response `1` correct."""

    name = "odd"

    def verify(self, problem, response):
        return Verdict(score=float(response == "1"), success=response == "1", feedback="", status="ok")


class FixedTask(Task):
    """Has these suites of problems, and measures how long responses are; of problem `b` it measures nothing."""

    name = "fixed"

    def __init__(self, ids: dict[str, list[str]]) -> None:
        super().__init__()
        self.ids = ids

    def train_batch(self, *, step, count, seed):
        return []

    def suites(self, *, count, seed):
        return {
            name: [Problem(id=i, messages=({"role": "user", "content": i},), answer="1") for i in ids]
            for name, ids in self.ids.items()
        }

    def in_domain(self):
        return frozenset({"one"})

    def traits(self, problem, text):
        return {} if problem.id == "b" else {"ones": float(text == "1")}


def fixed_task(**suites: list[str]) -> FixedTask:
    return FixedTask(suites)


def test_traits_are_averaged_over_the_samples_that_have_them():
    (result, other) = measure(fixed_task(one=["a", "b", "c"], two=["b"]), engine := RecordingEngine())
    seeds = [request.seed for request in engine.calls[0][:6]]
    assert result.traits == {"ones": sum(seed % 2 for seed in (*seeds[:2], *seeds[4:])) / 4} and other.traits == {}
    assert SuiteResult.from_json(json.loads(json.dumps(result.to_json()))).traits == result.traits


def test_a_trait_that_is_no_number_is_a_fault_of_the_task():
    class Wrong(FixedTask):
        def traits(self, problem, text):
            return {"ones": float("nan")}

    faults = Faults()
    with pytest.raises(
        RunError, match=r"gave the trait 'ones' the value nan.*Mend it in .*test_suites\.py, or choose another task"
    ):
        measure(Wrong({"one": ["a"]}), RecordingEngine(), faults=faults)


def measure(task, engine, settings=SMALL, faults=None, **training):
    return evaluate_suites(
        task=task, engine=engine, verifier=OddVerifier(), prompt_ids=lambda m: tuple(m[0]["content"].encode()),
        settings=settings, training=SamplingSettings(**{"max_new_tokens": 9, **training}), faults=faults,
    )  # fmt: skip


@pytest.fixture(scope="module")
def micro():
    recipe = load_recipe("rosd", ["model.device=cpu"], "micro", registry=PluginManager().registry)
    components = build_components(recipe, PluginManager().registry)
    student = Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=False)
    components.rollout.start(student)

    def evaluate(settings=SMALL):
        return evaluate_suites(
            task=components.task, engine=components.rollout, verifier=components.verifier, prompt_ids=student.prompt_ids,
            settings=settings, training=SamplingSettings(max_new_tokens=24),
        )  # fmt: skip

    return evaluate


def test_evaluating_the_embedded_model_twice_gives_the_same_results(micro):
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


def test_with_zero_problems_nothing_is_evaluated(micro):
    assert micro(EvaluationSettings(problems=0)) == ()


def test_all_suites_go_to_the_engine_in_one_call_with_one_seed_per_sample():
    engine = RecordingEngine()
    measure(fixed_task(one=["a", "b"], two=["c"]), engine)
    [requests] = engine.calls
    assert [bytes(r.prompt_ids).decode() for r in requests] == ["a", "a", "b", "b", "c", "c"]
    assert len({r.seed for r in requests}) == 6
    assert {(r.sampling.temperature, r.sampling.top_p, r.sampling.max_new_tokens) for r in requests} == {(0.6, 0.95, 9)}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, (20, 0.1, ("###",), 9)),
        ({"top_k": 0, "min_p": 0.0, "stop": []}, (0, 0.0, (), 9)),
        ({"top_k": 3, "min_p": 0.2, "stop": ["!"], "max_new_tokens": 40}, (3, 0.2, ("!",), 40)),
    ],
)
def test_evaluations_sample_as_they_say_and_otherwise_as_training_does(own, expected):
    engine = RecordingEngine()
    settings = EvaluationSettings(**{**SMALL.model_dump(), **own})
    measure(fixed_task(one=["a"]), engine, settings, top_k=20, min_p=0.1, stop=["###"])
    [requests] = engine.calls
    assert {(r.sampling.top_k, r.sampling.min_p, r.sampling.stop, r.sampling.max_new_tokens) for r in requests} == {expected}


def test_the_requests_of_a_problem_do_not_depend_on_other_problems():
    alone, with_others = RecordingEngine(), RecordingEngine()
    measure(fixed_task(two=["c"]), alone)
    measure(fixed_task(one=["a", "b"], two=["x", "c"]), with_others)
    assert alone.calls[0] == with_others.calls[0][-2:]


def test_the_measures_match_the_responses():
    engine = RecordingEngine()
    one, two = measure(fixed_task(one=["a", "b", "c"], two=["d"]), engine, EvaluationSettings(problems=3, samples=3))
    seeds = [r.seed for r in engine.calls[0]]
    correct = [seed % 2 for seed in seeds]
    assert list(one.scores.values()) == pytest.approx([sum(correct[i : i + 3]) / 3 for i in (0, 3, 6)])
    assert (one.mean, two.mean) == pytest.approx((sum(correct[:9]) / 9, sum(correct[9:]) / 3))
    assert one.mean_tokens == pytest.approx(sum(1 + seed % 3 for seed in seeds[:9]) / 9)
    assert (one.in_domain, two.in_domain, one.format_rate) == (True, False, 1.0)


def test_an_empty_suite_or_a_duplicate_problem_is_an_error():
    with pytest.raises(RunError, match="suite 'two' has no problems"):
        measure(fixed_task(one=["a"], two=[]), RecordingEngine())
    with pytest.raises(RunError, match="contains the id 'b' twice"):
        measure(fixed_task(one=["a", "b", "b"]), RecordingEngine())


def test_results_are_unchanged_by_a_json_round_trip():
    [result] = measure(fixed_task(one=["a", "b"]), RecordingEngine())
    assert SuiteResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_evaluations_of_different_problems_or_suites_cannot_be_compared():
    one, other = (measure(fixed_task(one=ids), RecordingEngine()) for ids in (["a", "b"], ["a", "c"]))
    with pytest.raises(RunError, match=r"suite 'one' was evaluated on different problems.*evaluation\.seed"):
        compare(one, other)
    with pytest.raises(RunError, match="the suites before"):
        compare(one, measure(fixed_task(two=["a", "b"]), RecordingEngine()))


class FailingVerifier(OddVerifier):
    """Returns status `error` for every response to one problem, and for the first response to another."""

    def __init__(self, always: str = "", once: str = "") -> None:
        self.always, self.once, self.seen = always, once, set()

    def verify(self, problem, response):
        first = problem.id not in self.seen
        self.seen.add(problem.id)
        if problem.id == self.always or (problem.id == self.once and first):
            return Verdict(score=0.0, success=False, status="error")
        return super().verify(problem, response)


def measure_with(verifier, *ids, faults=None):
    return evaluate_suites(
        task=fixed_task(one=list(ids)), engine=RecordingEngine(), verifier=verifier,
        prompt_ids=lambda m: tuple(m[0]["content"].encode()), settings=SMALL,
        training=SamplingSettings(max_new_tokens=9), faults=faults,
    )  # fmt: skip


def test_samples_on_which_the_verifier_failed_are_neither_right_nor_wrong():
    [unaffected], [result] = (
        measure_with(OddVerifier(), "a", "b", "c"),
        measure_with(FailingVerifier(always="b", once="c"), "a", "b", "c"),
    )
    assert (result.problems, result.errors, result.failed) == (3, 3, {"b": 2, "c": 1})
    assert result.scores.keys() == {"a", "c"} and result.scores["a"] == unaffected.scores["a"]
    assert result.scores["c"] in (0.0, 1.0)
    assert result.mean == pytest.approx(sum(result.scores.values()) / 2)
    assert result.format_rate == 1.0
    [comparison] = compare([unaffected], [result])
    assert comparison.difference.mean == pytest.approx(
        sum(result.scores[id] - unaffected.scores[id] for id in result.scores) / len(result.scores)
    )
    assert SuiteResult.from_json(json.loads(json.dumps(result.to_json()))) == result


class RaisingVerifier(OddVerifier):
    """Raises on the responses to some problems; returns a NaN score, which the contract forbids, for the problem `nan`."""

    name = "raising"

    def __init__(self, *ids: str) -> None:
        self.ids = ids

    def verify(self, problem, response):
        if problem.id in self.ids:
            return Verdict(score=1 / 0, success=True)
        return Verdict(score=float("nan"), success=True) if problem.id == "nan" else super().verify(problem, response)


def test_a_verifier_that_raises_on_some_responses_is_reported_and_the_others_are_measured():
    [expected] = measure_with(FailingVerifier(always="b"), "a", "b", "c")
    faults = Faults()
    [result] = measure_with(RaisingVerifier("b"), "a", "b", "c", faults=faults)
    assert result == expected and result.failed == {"b": 2}
    message = "verifier 'raising' failed on 2 of 6; first on problem 'b': ZeroDivisionError: division by zero"
    assert faults.messages() == (message,)
    [result] = measure_with(RaisingVerifier(), "a", "nan")
    assert result.failed == {"nan": 2}


def test_a_verifier_that_always_raises_ends_the_evaluation_with_its_own_error():
    with pytest.raises(ZeroDivisionError) as raised:
        measure_with(RaisingVerifier("a", "b"), "a", "b")
    assert "verifier 'raising' failed on 4 of 4" in raised.value.__notes__[0]


def test_a_suite_without_verdicts_has_no_mean_and_cannot_be_compared():
    [result] = measure_with(FailingVerifier(always="a"), "a")
    assert result.mean != result.mean and result.scores == {} and result.errors == 2
    again = SuiteResult.from_json(json.loads(json.dumps(finite(result.to_json()))))
    assert again.mean != again.mean and again.failed == {"a": 2}
    with pytest.raises(RunError, match="no problem of suite 'one' was judged in both"):
        compare([result], [result])


def test_the_embedded_model_gets_all_measures(micro):
    for result in micro(EvaluationSettings(problems=4, samples=4)):
        assert list(result.pass_at) == ["1", "2", "4"]
        assert result.pass_at["1"].mean == pytest.approx(result.mean)
        assert result.mean <= result.pass_at["2"].mean <= result.pass_at["4"].mean
        assert result.pass_at["4"].mean == sum(score > 0 for score in result.scores.values()) / 4
        assert result.majority is not None and result.majority.mean <= result.pass_at["4"].mean
        assert 0 < result.bigrams <= 1 and result.entropy >= 0 and result.leaks == 0.0
        assert SuiteResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_there_is_no_majority_if_the_verifier_does_not_report_answers():
    assert measure(fixed_task(one=["a", "b", "c"]), RecordingEngine())[0].majority is None


def test_evaluations_of_earlier_and_later_versions_can_be_read():
    old = {"suite": "s", "in_domain": True, "mean": 0.5, "low": 0.1, "high": 0.9, "problems": 1, "samples": 2}
    result = SuiteResult.from_json({**old, "format_rate": 1.0, "mean_tokens": 3.0, "scores": {"a": 0.5}, "later": 1})
    assert (result.pass_at, result.majority, result.errors, result.entropy) == ({}, None, 0, None)
