"""The laws of reflectors: one reflection per case, whatever the model generates, within the token budgets."""

from __future__ import annotations

import re
from collections.abc import Callable

from rosd_kit.contracts import Reflector
from rosd_kit.testing.builders import fake_case, fake_completion, fake_generate
from rosd_kit.testing.check import Bench, check, does_not_apply, must_not_raise, require
from rosd_kit.testing.examples import TRUTH, cases
from rosd_kit.testing.texts import adversarial_texts
from rosd_kit.text.budget import assemble, fit_prompt
from rosd_kit.types import Completion, Prompt, Reflection

_WORD = re.compile(r"[a-z][a-z0-9_]*")
_BUDGET = 400


def _reflect(
    reflector: Reflector, bench: Bench, answer: str | Callable[[Prompt], str]
) -> tuple[dict[str, Reflection], fake_generate]:
    """Return the reflection of each case, and the generator that gave this answer to every prompt."""
    named_cases, generate = cases(bench), fake_generate(answer)
    reflections = reflector.reflect(list(named_cases.values()), generate)
    require(len(reflections) == len(named_cases), f"{len(reflections)} reflections for {len(named_cases)} cases")
    return dict(zip(named_cases, reflections, strict=True)), generate


@check("reflector")
def check_one_reflection_per_case(reflector: Reflector, bench: Bench) -> None:
    """`reflect` returns one `Reflection` per case, in order, and none for no cases; the order of the cases does not matter."""
    require(list(reflector.reflect([], fake_generate())) == [], "it returns reflections for no cases")
    all_cases = list(cases(bench).values())
    forward, backward = (reflector.reflect(order, fake_generate(_echo)) for order in (all_cases, all_cases[::-1]))
    require(len(forward) == len(all_cases), f"{len(forward)} reflections for {len(all_cases)} cases")
    for name, one, other in zip(cases(bench), forward, backward[::-1], strict=True):
        require(isinstance(one, Reflection), f"{name}: {one!r} is not a Reflection")
        require(one == other, f"{name}: {one} in one order of the cases, {other} in the other")


def _echo(prompt: Prompt) -> str:
    """Answer with a well-formed reflection that depends on the whole prompt."""
    text = " ".join(message["content"] for message in assemble(prompt))
    return f"<error_quote>{len(text)}</error_quote> <explanation>{text[-80:]}</explanation>"


@check("reflector")
def check_accepts_any_response(reflector: Reflector, bench: Bench) -> None:
    """Any generated text gives a reflection and never raises; the status is one lower-case word."""
    for what, text in adversarial_texts(bench.problem).items():
        with must_not_raise(f"answered with {what}"):
            reflections, _ = _reflect(reflector, bench, text)
        for name, reflection in reflections.items():
            where, idea, quote, status = f"{name}, answered with {what}", reflection.idea, reflection.quote, reflection.status
            require(idea is None or isinstance(idea, str), f"{where}: the idea is {idea!r}")
            require(quote is None or isinstance(quote, str), f"{where}: the quote is {quote!r}")
            require(isinstance(status, str) and _WORD.fullmatch(status), f"{where}: the status is {status!r}")


@check("reflector")
def check_reports_failed_generation(reflector: Reflector, bench: Bench) -> None:
    """If a completion fails (`overlong`, `abort`, or cut at `length`), the reflection that needed it is not `ok`."""
    failed: dict[str, Callable[[], Completion]] = {
        "overlong": lambda: fake_completion("", finish_reason="overlong"),
        "abort": lambda: fake_completion("", finish_reason="abort"),
        "length": lambda: fake_completion("<error_quote>25", finish_reason="length"),
    }
    _reflect(reflector, bench, _echo)  # so that a wrong number of reflections is found as one, not when it is unpacked
    generates = False
    for reason, answer in failed.items():
        generate = fake_generate(answer())
        for name, case in cases(bench).items():
            before = len(generate.prompts)
            (reflection,) = reflector.reflect([case], generate)
            if len(generate.prompts) > before:
                generates = True
                require(reflection.status != "ok", f"{name}: the status is 'ok' after a completion that ended in {reason!r}")
    if not generates:
        raise does_not_apply("it generates nothing")


@check("reflector")
def check_position_is_within_the_response(reflector: Reflector, bench: Bench) -> None:
    """`quote_start` is None or a character position in the response's text, its end included."""
    for name, reflection in _reflect(reflector, bench, _echo)[0].items():
        text = cases(bench)[name].rollout.completion.text
        start = reflection.quote_start
        require(start is None or 0 <= start <= len(text), f"{name}: quote_start is {start} in a text of {len(text)} characters")


@check("reflector")
def check_prompts_fit_a_budget(reflector: Reflector, bench: Bench) -> None:
    """Its prompts have sections with a `cut_priority`, so that a long response and a long demonstration fit the budget.

    The budgets that it passes, of the prompt and of the answer, are positive.
    """
    long = "word " * 5000
    generate = fake_generate("nothing")
    wrong = fake_case(long, problem=bench.problem, views=(long,), feedback=long, truth=TRUTH)
    right = fake_case(long, right=True, problem=bench.problem, views=(long,))
    reflector.reflect([wrong, right], generate)
    if not generate.prompts:
        raise does_not_apply("it generates nothing")
    for budget, sampling in zip(generate.budgets, generate.samplings, strict=True):
        require(
            budget > 0 and sampling.max_new_tokens > 0,
            f"the prompt budget is {budget}, the answer budget {sampling.max_new_tokens}",
        )
    for prompt in generate.prompts:
        words = sum(len(section.text.split()) for section in prompt.sections if section.cut_priority is None)
        fitted = fit_prompt(prompt, lambda messages: sum(len(m["content"].split()) for m in messages), words + _BUDGET)
        require(fitted.fits, f"a prompt of {words} uncuttable words and 10000 others cannot be cut to {words + _BUDGET}")
        require(words < 2000, f"{words} words of a prompt can never be cut; give the section of the long text a cut_priority")


@check("reflector")
def check_declares_initial_weights(reflector: Reflector, bench: Bench) -> None:
    """If it generates with `weights="initial"`, `wants_initial` returns True; otherwise the run does not keep those weights."""
    _, generate = _reflect(reflector, bench, _echo)
    if not generate.prompts:
        raise does_not_apply("it generates nothing")
    require(set(generate.weights) <= {"live", "initial"}, f"it generates with the weights {sorted(set(generate.weights))}")
    announced = "initial" not in generate.weights or reflector.wants_initial()
    require(announced, "it generates with the initial weights, but wants_initial() is False")
