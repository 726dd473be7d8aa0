"""The kit's own parts: builders, strategies, suites, the tiny student, and the comparison that laws rest on."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings

from rosd_kit.components.divergences import JSD
from rosd_kit.components.gates import AllRollouts
from rosd_kit.components.localizers import ErrorQuote, Full
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

LAWS = settings(max_examples=50, deadline=None)


class TestErrorQuote(LocalizerSuite):
    """As an author writes it."""

    @pytest.fixture
    def component(self):
        return ErrorQuote(ErrorQuote.Config(boundary="sentence", missing="skip"))


@parametrize_with_checks([Full(), AllRollouts()])
def test_the_shorthand_runs_each_component_through_the_laws_of_its_own_slot(component, check):
    assert check.func.kind in ("every", component.kind)
    check(component)


def test_a_suite_has_one_test_for_each_law_of_its_slot():
    for kind, suite in SUITES.items():
        tests = {name.removeprefix("test_") for name in dir(suite) if name.startswith("test_")}
        assert tests == {made.name for made in checks_of(kind)} and len(tests) >= 12


def test_a_component_of_another_slot_is_told_to_the_author():
    with pytest.raises(CheckFailed, match="GateSuite tests gate components; 'full' is a localizer"):
        GateSuite().test_is_described(Full())
    with pytest.raises(TypeError, match="takes components"):
        parametrize_with_checks([Full])


def test_a_completions_tokens_are_its_words_and_an_end_token():
    done = fake_completion("a bc  d")
    assert [done.text[start:end] for start, end in done.token_spans] == ["a", " bc", "  d", ""]
    assert len(done.token_ids) == len(done.logprobs) == 4
    cut = fake_completion("a bc", finish_reason="length")
    assert len(cut.token_ids) == 2 and fake_completion("a", finish_reason="overlong").token_ids == ()


def test_the_scripted_generator_answers_in_turn_and_remembers():
    generate = fake_generate("one", lambda prompt: prompt.sections[0].text.upper())
    prompts = [Prompt(head=(), sections=(Section(text=text),)) for text in ("a", "b", "c")]
    said = generate(prompts, sampling=Sampling(), max_prompt_tokens=9, weights="initial")
    assert [completion.text for completion in said] == ["one", "B", "one"]
    assert generate.prompts == prompts and generate.budgets == [9] * 3 and generate.weights == ["initial"] * 3


def test_a_tiny_student_is_the_callers_own():
    one, other = tiny_student(), tiny_student()
    with torch.no_grad():
        next(one.model.parameters()).zero_()
    assert next(other.model.parameters()).any()
    assert other.tokenizer.decode(other.prompt_ids([{"role": "user", "content": "What is 1 + 2 ?"}])).count("+") == 1


def test_scores_carry_gradient_to_the_student_alone():
    scores = fake_scores(behaviour_gap=0.25)
    assert scores.student.requires_grad and scores.current.requires_grad and not scores.behaviour.requires_grad
    torch.testing.assert_close(scores.current.detach() - scores.behaviour, torch.full((4,), 0.25))


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (fake_case("a b"), fake_case("a c"), ".rollout.completion.text"),
        ((1.0, float("nan")), (1.0, float("nan")), ""),
        ({"a": [1, 2]}, {"a": [1, 3]}, "['a'][1]"),
        (torch.ones(2), torch.zeros(2), "it: "),
        ([1], [1, 2], "1 values are not 2"),
        (fake_group(), dataclasses.replace(fake_group()), ""),
    ],
)
def test_a_difference_is_told_with_its_place(one, other, told):
    found = difference(one, other)
    assert (told in found) if told else found == ""


def test_options_without_an_example_are_asked_for():
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
def test_cases_are_consistent(case):
    completion = case.rollout.completion
    assert len(completion.token_ids) == len(completion.logprobs) == len(completion.token_spans)
    assert all(0 <= start <= end <= len(completion.text) for start, end in completion.token_spans)
    assert case.truth is None or case.truth.start <= len(completion.text)
    weights = ErrorQuote().locate(case).weights
    assert len(weights) == len(completion.token_ids) and all(0 <= weight <= 1 for weight in weights)


@LAWS
@given(group=strategies.groups(), pair=strategies.log_prob_pairs())
def test_groups_and_distributions_are_consistent(group, pair):
    assert [rollout.index for rollout in group.rollouts] == list(range(len(group.rollouts)))
    for logp in pair:
        torch.testing.assert_close(logp.exp().sum(-1), torch.ones(len(logp), dtype=torch.float64))
    assert (JSD().per_token(*pair) >= -1e-12).all()


def test_a_sample_is_as_long_as_it_says():
    sample = fake_sample(length=3, teacher_views=2)
    assert len(sample.response_ids) == len(sample.token_weights) == len(sample.behaviour_logprobs) == 3
    assert len(sample.teacher_views) == 2
