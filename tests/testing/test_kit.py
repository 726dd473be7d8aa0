"""The kit itself: builders, strategies, suites, the tiny student, and the comparison that the laws use."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings

from rosd_kit.components.divergences import JSD
from rosd_kit.components.gates import AllRollouts
from rosd_kit.components.localizers import ErrorQuote, Full
from rosd_kit.components.verifiers import MicroVerifier
from rosd_kit.errors import PluginError
from rosd_kit.testing import (
    SUITES,
    CheckFailed,
    GateSuite,
    LocalizerSuite,
    checks_of,
    fake_case,
    fake_completion,
    fake_generate,
    fake_group,
    fake_sample,
    fake_scores,
    parametrize_with_checks,
    strategies,
    tiny_student,
)
from rosd_kit.testing.build import build
from rosd_kit.testing.difference import difference
from rosd_kit.types import Prompt, Sampling, Section

LAWS = settings(max_examples=50)


class TestErrorQuote(LocalizerSuite):
    """As a plugin author writes it."""

    @pytest.fixture
    def component(self):
        return ErrorQuote(ErrorQuote.Config(boundary="sentence", missing="skip"))


@parametrize_with_checks([Full(), AllRollouts()])
def test_parametrize_with_checks_tries_each_component_with_the_laws_of_its_slot(component, check):
    assert check.func.kind in ("every", component.kind)
    check(component)


def test_a_suite_has_one_test_per_law_of_its_slot():
    for kind, suite in SUITES.items():
        tests = {name.removeprefix("test_") for name in dir(suite) if name.startswith("test_")}
        assert tests == {check.name for check in checks_of(kind)} and len(tests) >= 12


def test_a_component_of_another_slot_is_rejected():
    with pytest.raises(CheckFailed, match="GateSuite tests gate components; 'full' is a localizer"):
        GateSuite().test_is_described(Full())
    with pytest.raises(TypeError, match="takes components"):
        parametrize_with_checks([Full])


class Raises(Full):
    """Raises on a response without tokens."""

    def locate(self, case):
        assert case.rollout.completion.token_ids, "no tokens"
        return super().locate(case)


def test_an_exception_of_a_component_passes_through_with_the_name_of_the_law():
    check = next(check for check in checks_of("localizer") if check.name == "weights_are_shares")
    with pytest.raises(AssertionError, match="no tokens") as failure:
        check(Raises())
    assert failure.type is AssertionError and "law 'weights_are_shares' of localizer" in failure.value.__notes__[-1]


class Fragile(MicroVerifier):
    """Raises on a text without a colon."""

    def verify(self, problem, text):
        text.index(":")
        return super().verify(problem, text)


def test_a_law_that_forbids_exceptions_says_what_was_raised_and_where():
    check = next(check for check in checks_of("verifier") if check.name == "accepts_any_text")
    with pytest.raises(
        CheckFailed, match=r"nothing, the text '': it raised ValueError: .* \(line \d+ of .*test_kit\.py\)"
    ) as failure:
        check(Fragile())
    assert isinstance(failure.value.__cause__, ValueError)


def test_the_tokens_of_a_completion_are_its_words_and_an_end_token():
    whole = fake_completion("a bc  d")
    assert [whole.text[start:end] for start, end in whole.token_spans] == ["a", " bc", "  d", ""]
    assert len(whole.token_ids) == len(whole.logprobs) == 4
    cut = fake_completion("a bc", finish_reason="length")
    assert len(cut.token_ids) == 2 and fake_completion("a", finish_reason="overlong").token_ids == ()


def test_the_fake_generator_cycles_through_its_answers_and_records_its_calls():
    generate = fake_generate("one", lambda prompt: prompt.sections[0].text.upper())
    prompts = [Prompt(head=(), sections=(Section(text=text),)) for text in ("a", "b", "c")]
    completions = generate(prompts, sampling=Sampling(), max_prompt_tokens=9, weights="initial")
    assert [completion.text for completion in completions] == ["one", "B", "one"]
    assert generate.prompts == prompts and generate.budgets == [9] * 3 and generate.weights == ["initial"] * 3


def test_each_tiny_student_has_its_own_weights():
    one, other = tiny_student(), tiny_student()
    with torch.no_grad():
        next(one.model.parameters()).zero_()
    assert next(other.model.parameters()).any()
    assert other.tokenizer.decode(other.prompt_ids([{"role": "user", "content": "What is 1 + 2 ?"}])).count("+") == 1


def test_fake_scores_carry_gradient_to_the_student_only():
    scores = fake_scores(behaviour_gap=0.25)
    assert scores.student.requires_grad and scores.current.requires_grad and not scores.behaviour.requires_grad
    torch.testing.assert_close(scores.current.detach() - scores.behaviour, torch.full((4,), 0.25))


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (fake_case("a b"), fake_case("a c"), ".rollout.completion.text"),
        ((1.0, float("nan")), (1.0, float("nan")), ""),
        ({"a": [1, 2]}, {"a": [1, 3]}, "['a'][1]"),
        (torch.ones(2), torch.zeros(2), "the value: "),
        ([1], [1, 2], "1 values are not 2"),
        (fake_group(), dataclasses.replace(fake_group()), ""),
    ],
)
def test_difference_says_where_two_values_differ(one, other, message):
    text = difference(one, other)
    assert (message in text) if message else text == ""


def test_a_required_option_without_an_example_must_be_given():
    class Config(Full.Config):
        word: str
        """A word."""

    needy = type("Needy", (Full,), {"name": "needy", "Config": Config})
    with pytest.raises(PluginError, match=r"needy\.word="):
        build(needy)
    assert build(needy, {"word": "x"}).config.word == "x"
    with pytest.raises(PluginError, match="Did you mean 'word'"):
        build(needy, {"wrod": "x"})


@LAWS
@given(case=strategies.cases())
def test_generated_cases_are_consistent(case):
    completion = case.rollout.completion
    assert len(completion.token_ids) == len(completion.logprobs) == len(completion.token_spans)
    assert all(0 <= start <= end <= len(completion.text) for start, end in completion.token_spans)
    assert case.truth is None or case.truth.start <= len(completion.text)
    weights = ErrorQuote().locate(case).weights
    assert len(weights) == len(completion.token_ids) and all(0 <= weight <= 1 for weight in weights)


@LAWS
@given(group=strategies.groups(), pair=strategies.log_prob_pairs())
def test_generated_groups_and_distributions_are_consistent(group, pair):
    assert [rollout.index for rollout in group.rollouts] == list(range(len(group.rollouts)))
    for logp in pair:
        torch.testing.assert_close(logp.exp().sum(-1), torch.ones(len(logp), dtype=torch.float64))
    assert (JSD().per_token(*pair) >= -1e-12).all()


def test_a_fake_sample_has_the_given_length():
    sample = fake_sample(length=3, teacher_views=2)
    assert len(sample.response_ids) == len(sample.token_weights) == len(sample.behaviour_logprobs) == 3
    assert len(sample.teacher_views) == 2
