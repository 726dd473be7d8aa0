"""Soft localisation, several reflections, and what is done with right rollouts: by value."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosd_kit.components.localizers import ErrorQuote, Full, SoftError, TopDivergence
from rosd_kit.components.reflectors.tutor import Tutor
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.training.refine_weights import refine_weights
from rosd_kit.types import Completion, DistillSample, Reflection, SampleScores, TeacherView, View

TEXT = "First add. Then 2 + 2 = 5 holds. So Answer 5."
TOKENS = re.findall(r" ?\S+", TEXT)  # First add. Then 2 + 2 = 5 holds. So Answer 5. and the end: 13 tokens


def quoting(*quotes: str) -> Reflection:
    reflections = tuple(Reflection(idea="add well", quote=quote) for quote in quotes)
    return reflections[0] if len(quotes) == 1 else replace(reflections[0], alternatives=reflections)


def weights(make_case, *quotes: str, **options: object) -> list[float]:
    located = SoftError(SoftError.Config(**options)).locate(make_case(TOKENS, reflection=quoting(*quotes)))
    return [pytest.approx(weight) for weight in located.weights]


def test_two_reflections_that_disagree_share_the_weight(make_case):
    assert weights(make_case, "2 + 2 = 5", "Answer") == [0, 0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1, 1, 1]
    located = SoftError().locate(make_case(TOKENS, reflection=quoting("Answer", "2 + 2 = 5", "2 + 2")))
    assert (located.start_char, located.outcome) == (TEXT.index("2 + 2"), "exact_disputed")


def test_a_quote_that_is_missing_goes_everywhere_or_nowhere(make_case):
    quotes = ("2 + 2 = 5", "nothing like this at all")
    assert weights(make_case, *quotes) == [0.5] * 3 + [1] * 10
    assert weights(make_case, *quotes, missing="skip") == [0] * 3 + [0.5] * 10
    assert weights(make_case, quotes[1]) == [1] * 13
    assert weights(make_case, quotes[1], missing="skip") == [0] * 13


def test_a_fuzzy_quote_is_trusted_in_part(make_case):
    fuzzy = "Then 2 + 2 = 6 holds."
    assert weights(make_case, fuzzy, missing="skip", fuzzy=0.25) == [0, 0] + [0.25] * 11
    assert weights(make_case, fuzzy, fuzzy=0.25) == [0.75, 0.75] + [1] * 11


def test_the_weight_rises_before_the_quote_and_falls_after_it(make_case):
    assert weights(make_case, "2 + 2 = 5", rise=2) == [0, 1 / 3, 2 / 3, *[1] * 10]
    falling = weights(make_case, "2 + 2 = 5", half_life=1.0, floor=0.2)
    assert falling == [0, 0, 0, 1, 1, 1, 1, 1, 0.6, 0.4, 0.3, 0.25, 0.225]


@given(st.sampled_from(["2 + 2 = 5", "First add", "5.", "Answer", "absent from it"]))
def test_one_verbatim_quote_is_error_quote(make_case, quote):
    case = make_case(TOKENS, reflection=quoting(quote))
    soft, hard = SoftError().locate(case), ErrorQuote().locate(case)
    assert (soft.weights, soft.start_char) == (hard.weights, hard.start_char)


def test_right_rollouts_are_weighted_everywhere(make_case):
    located = SoftError().locate(make_case(TOKENS, right=True))
    assert (set(located.weights), located.outcome) == ({1.0}, "right")


def completions(*texts: str):
    """Return a stand-in for generation: it answers with these texts in turn."""
    rest = iter(texts)

    def generate(prompts, *, sampling, max_prompt_tokens, weights):
        return [
            Completion(
                prompt_ids=(), token_ids=(1,), logprobs=(0.0,), text=next(rest), token_spans=((0, 1),), finish_reason="stop"
            )
            for _ in prompts
        ]

    return generate


def answer(quote: str) -> str:
    return f"<error_quote>{quote}</error_quote><explanation>because of {quote}</explanation>"


def test_the_tutor_takes_the_first_usable_of_several_reflections_and_lists_all(make_case):
    tutor = Tutor(Tutor.Config(samples=3, temperature=1.0))
    shown = (View(text="right", source="sibling"),)
    wrong, right = (replace(make_case(TOKENS, right=one), views=shown) for one in (False, True))
    texts = ("rubbish", answer("a"), answer("b"), "<explanation>it is right</explanation>")
    reflections = tutor.reflect([wrong, right], completions(*texts))
    assert [one.status for one in reflections[0].alternatives] == ["unparsable", "ok", "ok"]
    assert (reflections[0].quote, reflections[0].idea) == ("a", "because of a")
    assert (reflections[1].idea, reflections[1].alternatives) == ("it is right", ())


def test_several_greedy_reflections_are_refused():
    with pytest.raises(ValueError, match=r"samples=3 greedy reflections would all be the same\. Set temperature"):
        Tutor.Config(samples=3)


def sample(success: bool) -> DistillSample:
    return DistillSample(
        problem_id="p",
        prompt_ids=(1,),
        response_ids=(1, 2, 3, 4, 5),
        behaviour_logprobs=(0.0,) * 5,
        token_weights=(0.0, 1.0, 1.0, 1.0, 1.0),
        teacher_views=(TeacherView(prompt_ids=(1,), source="s"),),
        reward=float(success),
        success=success,
        group_rewards=(0.0, 1.0),
    )


SCORES = SampleScores(
    divergence=(0.0, 0.4, 0.3, 0.2, 0.1),
    student=(0.0,) * 5,
    teacher=(0.0,) * 5,
    student_entropy=(9.0, 0.1, 0.7, 0.7, 0.3),
)


def refined(localizer) -> list[tuple[float, ...]]:
    samples, faults = refine_weights([sample(True), sample(False)], localizer, [SCORES, SCORES], Ranks.alone("cpu"))
    assert not faults.failed
    return [one.token_weights for one in samples]


def test_of_right_rollouts_the_tokens_of_highest_entropy_are_kept():
    half = Full(Full.Config(right="uncertain", right_share=0.5))
    assert refined(half) == [(0, 0, 1, 1, 0), (0, 1, 1, 1, 1)]
    assert refined(Full(Full.Config(right="uncertain", right_share=0.1))) == [(0, 0, 1, 0, 0), (0, 1, 1, 1, 1)]


def test_a_localizer_that_refines_does_so_after_the_option():
    both = TopDivergence(TopDivergence.Config(right="uncertain", right_share=0.75, share=0.4))
    assert refined(both) == [(0, 0, 1, 0, 0), (0, 1, 1, 0, 0)]


def test_skipped_right_rollouts_train_nothing_and_are_counted(make_rollout, make_problem):
    from rosd_kit.pipeline.assembly import SampleAssembler
    from rosd_kit.pipeline.counters import Counters
    from rosd_kit.pipeline.diagnosis import DiagnosedRollout
    from rosd_kit.pipeline.requests import Requester
    from rosd_kit.plugins.manager import PluginManager
    from rosd_kit.recipe import build_components, load_recipe
    from rosd_kit.types import Case, Group, Passed

    registry = PluginManager(selection="builtin").registry
    components = build_components(load_recipe("sdpo", ["localizer.right=skip"], registry=registry), registry)
    requester = Requester(engine=components.rollout, encode=lambda messages: (1, 2, 3))
    assembler = SampleAssembler(components=components, requester=requester, max_teacher_prompt_tokens=99)
    counters, statuses = Counters(), {}
    for right in (False, True):
        one = make_rollout(TOKENS, right=right)
        case = Case(problem=make_problem(), rollout=one, views=(View(text="shown", source="sibling"),))
        group = Group(problem=case.problem, rollouts=(one,))
        trace = assembler.assemble(DiagnosedRollout(group=group, passed=Passed(index=0), case=case), counters)
        statuses[right] = (trace.status, trace.sample is not None)
    assert statuses == {False: ("ok", True), True: ("no_weight", False)}
    assert counters.counts["localize/right_skipped"] == counters.counts["localize/full"] == 1


def test_an_oracle_of_less_accuracy_misplaces_as_many_quotes_and_keeps_the_idea(make_case):
    from rosd_kit.components.reflectors.oracle import OracleReflector
    from rosd_kit.types import FirstError, Problem

    truth = FirstError(status="error", step=1, start=11, end=31, sentence_start=11, idea="2 + 2 = 4")
    base = make_case(TOKENS)
    cases = [
        replace(base, truth=truth, problem=Problem(id=f"p{number}", messages=base.problem.messages, answer="4"))
        for number in range(400)
    ]

    def starts(accuracy: float) -> list[int | None]:
        reflections = OracleReflector(OracleReflector.Config(accuracy=accuracy)).reflect(cases, completions())
        assert {one.idea for one in reflections} == {"2 + 2 = 4"}
        assert all(TEXT[one.quote_start :].startswith(one.quote) for one in reflections)
        return [one.quote_start for one in reflections]

    assert starts(1.0) == [11] * 400
    assert set(starts(0.0)) == {0, 33}
    assert starts(0.8).count(11) / 400 == pytest.approx(0.8, abs=0.06)
    assert starts(0.8) == starts(0.8)
