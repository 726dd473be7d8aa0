"""The teacher's prompt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from rosd_kit.components.contexts import COMPONENTS, Feedback, KeyIdea, NoContext, Solution, SolutionAndIdea, SolutionOrFeedback
from rosd_kit.text.budget import assemble, fit_prompt
from rosd_kit.types import Case, Completion, Problem, Reflection, Rollout, Verdict, View

IDEA = Reflection(idea="carry the one")


def texts(component, case) -> list[str]:
    return [assemble(prompt)[-1]["content"] for prompt in component.prompts(case)]


def test_key_idea_shows_the_idea_without_a_solution(make_case):
    case = make_case(["my", " try"], views=["the right way"], reflection=IDEA, feedback="wrong, sorry")
    assert texts(KeyIdea(), case) == [
        "question p\n\nThe following is the key idea to solve the question:\ncarry the one\n\n"
        "Correctly solve the original question."
    ]


def test_key_idea_shows_feedback_on_request(make_case):
    component = KeyIdea(KeyIdea.Config(feedback=True))
    (text,) = texts(component, make_case(["try"], reflection=IDEA, feedback="wrong, sorry"))
    assert text.startswith("question p\n\nwrong, sorry\n\nThe following is the key idea")
    assert texts(component, make_case(["try"], reflection=IDEA)) == texts(KeyIdea(), make_case(["try"], reflection=IDEA))


@pytest.mark.parametrize("reflection", [None, Reflection(status="unparsable"), Reflection(idea="", quote="q")])
def test_without_an_idea_key_idea_shows_the_first_demonstration_or_nothing(make_case, reflection):
    case = make_case(["try"], views=["first way", "second way"], reflection=reflection)
    assert texts(KeyIdea(), case) == [
        "question p\n\nCorrect solution:\nfirst way\n\nCorrectly solve the original question.",
    ]
    assert texts(KeyIdea(KeyIdea.Config(fallback="skip")), case) == []
    assert texts(KeyIdea(), make_case(["try"], reflection=reflection)) == []


def test_solution_writes_one_prompt_per_demonstration(make_case):
    case = make_case(["try"], views=["first way", "second way"], reflection=IDEA)
    first, second = texts(Solution(), case)
    assert "first way" in first and "second way" not in first
    assert "second way" in second and "first way" not in second
    assert "carry" not in first + second
    assert texts(Solution(), make_case(["try"], reflection=IDEA)) == []


def test_solution_or_feedback_shows_feedback_only_where_there_is_no_solution(make_case):
    component = SolutionOrFeedback()
    shown = make_case(["try"], views=["the way"], feedback="test 2 failed")
    assert texts(component, shown) == texts(Solution(), shown)
    alone = make_case(["try"], feedback="test 2 failed")
    assert texts(component, alone) == texts(Feedback(), alone) != []
    assert texts(component, make_case(["try"])) == []


def test_solution_and_idea_needs_both(make_case):
    (text,) = texts(SolutionAndIdea(), make_case(["try"], views=["the way"], reflection=IDEA))
    assert text.index("the way") < text.index("carry the one")
    assert texts(SolutionAndIdea(), make_case(["try"], reflection=IDEA)) == []
    assert texts(SolutionAndIdea(), make_case(["try"], views=["the way"])) == []
    assert texts(SolutionAndIdea(), make_case(["try"], views=["the way"], reflection=Reflection(status="no_idea"))) == []


def test_feedback_shows_the_verdict_and_the_attempt_on_request(make_case):
    case = make_case(["my", " try"], feedback="4 is wrong", views=["the way"], reflection=IDEA)
    (text,) = texts(Feedback(), case)
    assert "4 is wrong" in text and not any(word in text for word in ("my try", "the way", "carry"))
    attempt = Feedback(Feedback.Config(template="{problem} tried {attempt} heard {feedback}"))
    assert texts(attempt, case) == ["question p tried my try heard 4 is wrong"]
    assert texts(Feedback(), make_case(["try"])) == []


def test_no_context_writes_no_prompt(make_case):
    assert NoContext().prompts(make_case(["try"], views=["way"], reflection=IDEA, feedback="no")) == ()


def chat() -> Case:
    messages = (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "2 + 2 ?"},
    )
    completion = Completion(prompt_ids=(), token_ids=(), logprobs=(), text="5", token_spans=(), finish_reason="stop")
    return Case(
        problem=Problem(id="p", messages=messages, answer="4"),
        rollout=Rollout(index=0, completion=completion, verdict=Verdict(score=0.0, success=False, feedback="5 is wrong")),
        views=(View(text="the right way", source="reference"),),
        reflection=IDEA,
    )


@pytest.mark.parametrize("component", [c for c in COMPONENTS if c is not NoContext])
def test_only_the_last_message_of_a_chat_is_rewritten(component):
    case = chat()
    (prompt,) = component().prompts(case)
    messages = assemble(prompt)
    assert messages[:-1] == case.problem.messages[:-1]
    assert messages[-1]["role"] == "user" and messages[-1]["content"].startswith("2 + 2 ?")


@pytest.mark.parametrize("component", [c for c in COMPONENTS if c is not NoContext])
def test_a_tight_budget_shortens_only_the_privileged_text(component):
    (prompt,) = component().prompts(chat())
    whole = sum(len(m["content"]) for m in assemble(prompt))
    fitted = fit_prompt(prompt, lambda messages: sum(len(m["content"]) for m in messages), whole - 4)
    assert fitted.fits and fitted.cut == 1
    assert fitted.messages[:-1] == prompt.head
    content = fitted.messages[-1]["content"]
    assert all(section.text in content for section in prompt.sections if section.cut_priority is None)


@pytest.mark.parametrize("component", [c for c in COMPONENTS if c is not NoContext])
@pytest.mark.parametrize(("cut", "kept"), [("middle", "first middle last"), ("start", "middle last"), ("end", "first middle")])
def test_a_recipe_decides_where_privileged_text_is_cut(component, cut, kept):
    long = "first" + " middle" * 200 + " last"
    case = replace(chat(), views=(View(text=long, source="reference"),), reflection=Reflection(idea=long))
    case = replace(case, rollout=replace(case.rollout, verdict=replace(case.rollout.verdict, feedback=long)))
    (prompt,) = component(component.Config(cut=cut)).prompts(case)
    content = fit_prompt(prompt, lambda messages: sum(len(m["content"].split()) for m in messages), 100).messages[-1]["content"]
    cut_text = next(line for line in content.split("\n") if "..." in line)
    assert " ".join(dict.fromkeys(cut_text.replace("...", "").split())) == kept


def test_the_solution_is_shortened_before_the_idea():
    (prompt,) = SolutionAndIdea().prompts(chat())
    whole = sum(len(m["content"]) for m in assemble(prompt))
    content = fit_prompt(prompt, lambda messages: sum(len(m["content"]) for m in messages), whole - 4).messages[-1]["content"]
    assert "carry the one" in content and "the right way" not in content


def test_text_that_looks_like_a_field_is_not_replaced(make_case):
    case = make_case(["try"], views=["{idea} {problem}"], reflection=Reflection(idea="{solution}"))
    (text,) = texts(SolutionAndIdea(), case)
    assert "Correct solution:\n{idea} {problem}\n" in text and "question:\n{solution}\n" in text


@pytest.mark.parametrize(
    ("component", "template"),
    [(Solution, "{problem} {idea}"), (KeyIdea, "{idea}"), (Feedback, "{problem} {solution}"), (SolutionAndIdea, "nothing")],
)
def test_a_template_with_a_wrong_field_or_without_the_problem_is_refused(component, template):
    with pytest.raises(ValidationError, match=r"unknown field|must contain"):
        component.Config(template=template)


def test_feedback_stands_in_the_key_ideas_prompt_in_a_form_of_its_own(make_case):
    options = {"template": "{problem}|{feedback}|{idea}", "feedback_template": "heard: {feedback}!", "feedback": True}
    case = make_case(["try"], reflection=Reflection(idea="carry"))
    for feedback, shown in (("too {idea}", "heard: too {idea}!"), ("", "")):
        heard = replace(case, rollout=replace(case.rollout, verdict=replace(case.rollout.verdict, feedback=feedback)))
        (text,) = texts(KeyIdea(KeyIdea.Config(**options)), heard)
        assert text.endswith(f"|{shown}|carry")
    with pytest.raises(ValidationError, match=r"must contain \{feedback\}"):
        KeyIdea.Config(feedback_template="heard")


@pytest.mark.parametrize(
    ("component", "template", "field"),
    [
        (Solution, "{problem}", "solution"),
        (KeyIdea, "{problem} {feedback}", "idea"),
        (Feedback, "{problem} {attempt}", "feedback"),
        (SolutionAndIdea, "{problem} {idea}", "solution"),
    ],
)
def test_a_template_without_the_privileged_text_is_refused(component, template, field):
    with pytest.raises(ValidationError, match=rf"must contain \{{{field}\}}"):
        component.Config(template=template)
