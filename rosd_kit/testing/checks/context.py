"""The laws of contexts: the problem stays whole, and privileged text can be cut."""

from __future__ import annotations

from dataclasses import replace

from rosd_kit.contracts import Context
from rosd_kit.testing.builders import fake_case, fake_problem, fake_reflection
from rosd_kit.testing.check import Bench, check, does_not_apply, require
from rosd_kit.testing.examples import TRUTH, cases
from rosd_kit.text.budget import assemble, fit_prompt
from rosd_kit.types import Prompt


@check("context")
def check_prompts_are_valid(context: Context, bench: Bench) -> None:
    """`prompts` returns a tuple of `Prompt` for every case; a section has a text and an integer `cut_priority`, or None."""
    for name, case in cases(bench).items():
        prompts = context.prompts(case)
        require(isinstance(prompts, tuple) and all(isinstance(p, Prompt) for p in prompts), f"{name}: {prompts!r:.80}")
        for section in (section for prompt in prompts for section in prompt.sections):
            require(
                isinstance(section.text, str) and isinstance(section.cut_priority, int | None),
                f"{name}: section {section!r:.80}",
            )


@check("context")
def check_shows_the_whole_problem(context: Context, bench: Bench) -> None:
    """The teacher reads all of the problem's messages in full: no budget cuts them, and nothing in them is replaced."""
    problem = fake_problem(question="What is {solution} plus {idea} ?", system="Answer {problem} briefly .")
    for name, case in {
        **cases(bench),
        "braces in the problem": fake_case(problem=problem, reflection=fake_reflection()),
    }.items():
        for prompt in context.prompts(case):
            uncut = replace(prompt, sections=tuple(section for section in prompt.sections if section.cut_priority is None))
            texts = [message["content"] for message in assemble(uncut)]
            for message in case.problem.messages:
                require(
                    any(message["content"] in text for text in texts),
                    f"{name}: {message['content'][:60]!r} is missing or may be cut",
                )


@check("context")
def check_no_prompt_without_privilege(context: Context, bench: Bench) -> None:
    """Without anything privileged (view, reflection, feedback or solution) it returns no prompt."""
    case = fake_case(problem=fake_problem(solution=None), views=())
    require(
        context.prompts(case) == (), "it returns a prompt for a case with nothing privileged; the teacher would be the student"
    )


@check("context")
def check_privileged_text_can_be_cut(context: Context, bench: Bench) -> None:
    """Privileged text is in sections with a `cut_priority`, so that text of any length can be cut to fit the budget."""
    long = "word " * 3000
    case = fake_case(
        problem=fake_problem(solution=long), views=(long,), reflection=fake_reflection(idea=long), feedback=long, truth=TRUTH
    )
    prompts = context.prompts(case)
    if not prompts:
        raise does_not_apply("it returns no prompt")
    for prompt in prompts:
        fitted = fit_prompt(prompt, lambda messages: sum(len(m["content"].split()) for m in messages), 300)
        require(fitted.fits, "a prompt with 3000 privileged words cannot be cut to 300; give their section a cut_priority")
