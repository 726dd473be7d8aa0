"""Reflectors: prompts, formats and statuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rosd_kit.components.reflectors import NoReflector, OracleReflector, Rationale, Tutor
from rosd_kit.components.reflectors.self_reflector import conversation_text
from rosd_kit.components.reflectors.tutor import read_reflection
from rosd_kit.text.budget import assemble
from rosd_kit.types import Completion, FirstError, Problem, Reflection

QUOTE, IDEA = "<error_quote>2 + 2 = 5</error_quote>", "<explanation>it is 4</explanation>"


def answering(text: str, finish: str = "stop") -> Completion:
    return Completion(prompt_ids=(1,), token_ids=(2,), logprobs=(0.0,), text=text, token_spans=((0, 1),), finish_reason=finish)


class FakeGenerate:
    """Replaces the pipeline's `generate`: records its calls and returns prepared answers."""

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.calls: list[dict] = []

    def __call__(self, prompts, *, sampling, max_prompt_tokens, weights):
        self.calls.append(
            {"prompts": prompts, "sampling": sampling, "max_prompt_tokens": max_prompt_tokens, "weights": weights}
        )
        return [answering(text) for text in self.answers]


def prompt_text(prompt) -> str:
    (message,) = assemble(prompt)
    assert message["role"] == "user"
    return message["content"]


@pytest.mark.parametrize(
    ("text", "finish", "right", "expected"),
    [
        (QUOTE + IDEA, "stop", False, ("it is 4", "2 + 2 = 5", "ok")),
        (f"Sure.\n{QUOTE}\nand\n{IDEA} Bye.", "stop", False, ("it is 4", "2 + 2 = 5", "ok")),
        (QUOTE + IDEA, "length", False, ("it is 4", "2 + 2 = 5", "ok")),
        (QUOTE, "stop", False, (None, "2 + 2 = 5", "no_idea")),
        (IDEA, "stop", False, ("it is 4", None, "no_quote")),
        ("I do not know", "stop", False, (None, None, "unparsable")),
        ("", "stop", False, (None, None, "unparsable")),
        (QUOTE + "<explanation>it", "length", False, (None, "2 + 2 = 5", "truncated")),
        ("<error_quote>2 +", "length", False, (None, None, "truncated")),
        ("<error_quote> </error_quote>" + IDEA, "stop", False, ("it is 4", None, "no_quote")),
        (f"<think>{QUOTE}<explanation>no</explanation></think>{IDEA}", "stop", False, ("it is 4", None, "no_quote")),
        (f"<think>{QUOTE}{IDEA}", "length", False, (None, None, "truncated")),
        (f"<error_quote>old</error_quote>{QUOTE}{IDEA}", "stop", False, ("it is 4", "2 + 2 = 5", "ok")),
        (IDEA, "stop", True, ("it is 4", None, "ok")),
        (QUOTE + IDEA, "stop", True, ("it is 4", None, "ok")),
        (QUOTE, "stop", True, (None, None, "unparsable")),
        (f"{QUOTE}<explaination>it is 4</explaination>", "stop", False, ("it is 4", "2 + 2 = 5", "ok")),
        ("<reflection>it is 4</reflection>", "stop", True, ("it is 4", None, "ok")),
        (
            "<error_qoute>2 + 2 = 5</error_qoute><Explanation>it is 4</explaination>",
            "stop",
            False,
            ("it is 4", "2 + 2 = 5", "ok"),
        ),
        (f"[THINK]{QUOTE}[/THINK]{IDEA}", "stop", True, ("it is 4", None, "ok")),
        ("valid", "length", True, (None, None, "truncated")),
    ],
)
def test_a_reflection_is_read_with_a_status_for_what_is_missing(text, finish, right, expected):
    reflection = read_reflection(answering(text, finish), right=right)
    assert (reflection.idea, reflection.quote, reflection.status) == expected
    assert reflection.raw == text and reflection.quote_start is None


@pytest.mark.parametrize("finish", ["overlong", "abort"])
def test_an_unanswered_prompt_gives_its_finish_reason_as_status(finish):
    assert read_reflection(answering("", finish), right=False) == Reflection(status=finish)


@given(
    text=st.lists(st.sampled_from(["<error_quote>", "</error_quote>", "<explanation>", "</explanation>", "<think>", "x", "{"]))
)
@settings(max_examples=200)
def test_any_text_can_be_read_and_ok_means_nothing_is_missing(text):
    for right in (False, True):
        reflection = read_reflection(answering(" ".join(text)), right=right)
        assert (reflection.status == "ok") == (reflection.idea is not None and (right or reflection.quote is not None))


def test_the_prompt_for_a_wrong_rollout_has_the_form_of_the_paper(make_case):
    prompt = Tutor().prompt(make_case(["my", " try"], views=["the right way"]))
    text = prompt_text(prompt)
    parts = ["question p", "[Correct Solution]\nthe right way\n", "[Incorrect Solution]\nmy try\n", "[Answer]\n29\n"]
    assert [text.count(part) for part in parts] == [1, 1, 1, 1]
    assert sorted(parts, key=text.index) == parts
    assert "<error_quote>" in text and "<explanation>" in text
    cuttable = [section for section in prompt.sections if section.cut_priority is not None]
    assert {section.text: section.cut_priority for section in cuttable} == {
        "the right way": 1,
        "my try": 2,
    }


def test_the_prompt_for_a_right_rollout_asks_only_for_an_explanation(make_case):
    text = prompt_text(Tutor().prompt(make_case(["my", " try"], right=True, views=["another way"])))
    assert "my try" in text and "[Answer]\n29\n" in text and "<explanation>" in text
    assert "error_quote" not in text and "another way" not in text


def test_data_that_looks_like_a_template_field_is_plain_text(make_case):
    text = prompt_text(Tutor().prompt(make_case(["{answer} {demonstration}"], views=["{response}"])))
    assert "[Incorrect Solution]\n{answer} {demonstration}\n" in text and "[Correct Solution]\n{response}\n" in text


def test_the_prompt_shows_all_messages_of_the_problem():
    messages = ({"role": "system", "content": "be brief"}, {"role": "user", "content": "2 + 2 ?"})
    assert conversation_text(Problem(id="p", messages=messages, answer="4")) == "system: be brief\n\nuser: 2 + 2 ?"
    assert conversation_text(Problem(id="p", messages=messages[1:], answer="4")) == "2 + 2 ?"


def test_wrong_rollouts_without_a_demonstration_are_skipped(make_case):
    cases = [
        make_case(["mistaken"], views=["way"]),
        make_case(["no demonstration"]),
        make_case(["sound"], right=True),
    ]
    generate = FakeGenerate(QUOTE + IDEA, IDEA)
    reflections = Tutor().reflect(cases, generate)
    assert [(r.status, r.idea, r.quote) for r in reflections] == [
        ("ok", "it is 4", "2 + 2 = 5"),
        ("skipped", None, None),
        ("ok", "it is 4", None),
    ]
    first, second = map(prompt_text, generate.calls[0]["prompts"])
    assert "[Incorrect Solution]\nmistaken\n" in first and "[Solution]\nsound\n" in second


def test_right_rollouts_can_be_skipped_and_without_rollouts_nothing_is_generated(make_case):
    generate = FakeGenerate()
    tutor = Tutor(Tutor.Config(reflect_right=False))
    assert [r.status for r in tutor.reflect([make_case(["right"], right=True)], generate)] == ["skipped"]
    assert tutor.reflect([], generate) == [] and generate.calls == []


def test_the_defaults_reflect_greedily_with_the_initial_weights_as_in_the_paper(make_case):
    generate = FakeGenerate(QUOTE + IDEA)
    Tutor().reflect([make_case(["wrong"], views=["way"])], generate)
    call = generate.calls[0]
    assert (call["weights"], call["max_prompt_tokens"]) == ("initial", 8192)
    assert (call["sampling"].temperature, call["sampling"].max_new_tokens) == (0.0, 4096)
    assert Tutor().wants_initial()


def test_the_tutors_options_reach_the_engine(make_case):
    generate = FakeGenerate(QUOTE + IDEA)
    options = {"weights": "live", "temperature": 0.7, "top_p": 0.9, "max_prompt_tokens": 50, "max_new_tokens": 20}
    tutor = Tutor(Tutor.Config(**options))
    tutor.reflect([make_case(["wrong"], views=["way"])], generate)
    call = generate.calls[0]
    assert (call["weights"], call["max_prompt_tokens"]) == ("live", 50)
    sampling = call["sampling"]
    assert (sampling.temperature, sampling.top_p, sampling.max_new_tokens) == (0.7, 0.9, 20)
    assert not tutor.wants_initial()


@pytest.mark.parametrize(
    "options",
    [
        {"wrong_template": "{problem} {solution}"},
        {"wrong_template": "no problem"},
        {"right_template": "{problem} {demonstration}"},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"temperature": -1.0},
        {"weights": "ema"},
    ],
)
def test_options_that_cannot_work_are_refused(options):
    with pytest.raises(ValidationError):
        Tutor.Config(**options)


def test_the_oracle_reports_the_truth(make_case):
    truth = FirstError(status="error", start=2, end=5, sentence_start=0, replacement="xyz", idea="do xyz")
    wrong, early, right = OracleReflector().reflect(
        [
            make_case(["ab", "cde", "fg"], truth=truth),
            make_case(["ab"], truth=FirstError(status="incomplete", start=2, end=2, sentence_start=2, idea="go on")),
            make_case(["ab"], right=True, truth=FirstError(status="none", idea="all well")),
        ],
        FakeGenerate(),
    )
    assert wrong == Reflection(idea="do xyz", quote="cde", quote_start=2)
    assert early == Reflection(idea="go on", quote=None, quote_start=2)
    assert right == Reflection(idea="all well")


def test_the_oracle_without_a_truth_reports_no_truth(make_case):
    assert OracleReflector().reflect([make_case(["ab"])], FakeGenerate()) == [Reflection(status="no_truth")]


def test_no_reflector_skips_all_rollouts_and_generates_nothing(make_case):
    generate = FakeGenerate()
    assert NoReflector().reflect([make_case(["a"]), make_case(["b"])], generate) == [Reflection(status="skipped")] * 2
    assert generate.calls == []


def test_the_tutor_is_told_that_a_problem_has_no_single_right_answer(make_case):
    case = make_case(["x"], views=("a solution",))
    without = replace(case, problem=replace(case.problem, answer=""))
    text, known = ("".join(s.text for s in Tutor().prompt(one).sections) for one in (without, case))
    assert "[Answer]\n(No single right answer is given for this problem.)" in text and "[Answer]\n29" in known


def test_the_system_message_stands_before_both_prompts(make_case):
    tutor = Tutor(Tutor.Config(system=r"Answer as \{problem} says."))
    for right in (False, True):
        system, user = assemble(tutor.prompt(make_case(["x"], right=right, views=["way"])))
        assert system == {"role": "system", "content": "Answer as {problem} says."} and user["role"] == "user"
    with pytest.raises(ValidationError, match=r"\{answer\}: this text has no fields"):
        Tutor.Config(system="The answer is {answer}.")


def test_a_template_may_show_the_last_message_alone(make_case):
    case = make_case(["x"], views=["way"])
    messages = ({"role": "system", "content": "be brief"}, {"role": "user", "content": "2 + 2 ?"})
    case = replace(case, problem=replace(case.problem, messages=messages))
    tutor = Tutor(Tutor.Config(wrong_template="{question}|{response}", right_template="{problem}|{response}"))
    assert prompt_text(tutor.prompt(case)) == "2 + 2 ?|x"
    right = replace(case, rollout=replace(case.rollout, verdict=replace(case.rollout.verdict, success=True)))
    assert prompt_text(tutor.prompt(right)) == "system: be brief\n\nuser: 2 + 2 ?|x"


def test_a_rationale_explains_the_demonstration_and_is_the_idea(make_case):
    generate = FakeGenerate("<think>hm</think> It carries the one. ")
    rationale = Rationale(Rationale.Config(max_prompt_tokens=50, max_new_tokens=20, weights="live"))
    cases = [make_case(["my try"], views=["the right way"]), make_case(["alone"])]
    asked, skipped = rationale.reflect(cases, generate)
    assert (asked.idea, asked.quote, asked.status, skipped.status) == ("It carries the one.", None, "ok", "skipped")
    (call,) = generate.calls
    text = prompt_text(call["prompts"][0])
    assert "the right way" in text and "my try" not in text
    sampling = call["sampling"]
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_new_tokens) == (1.1, 0.95, 20, 20)
    assert (call["weights"], call["max_prompt_tokens"]) == ("live", 50) and Rationale().wants_initial()


@pytest.mark.parametrize(
    ("text", "finish", "expected"),
    [
        ("It carries", "length", ("It carries", "truncated")),
        ("<think>so", "length", (None, "truncated")),
        (" ", "stop", (None, "unparsable")),
        ("", "overlong", (None, "overlong")),
    ],
)
def test_a_rationale_says_what_is_missing(make_case, text, finish, expected):
    reflection = Rationale().read(answering(text, finish), make_case(["x"], views=["way"]))
    assert (reflection.idea, reflection.status) == expected


@pytest.mark.parametrize(("begins", "status"), [(True, "truncated"), (False, "ok")])
def test_a_reflection_that_was_cut_off_in_opened_thinking_is_not_read(make_case, begins, status):
    """The tags are a draft: the thinking around them was opened by the chat template and never ended."""
    text = "<error_quote>2 + 2 = 5</error_quote> <explanation>it is 4</explanation> But wait"
    answer = replace(answering(text, "length"), begins_in_thinking=begins)
    reflection = Tutor().read(answer, make_case(["2 + 2 = 5"]))
    assert (reflection.status, reflection.quote) == (status, None if begins else "2 + 2 = 5")
