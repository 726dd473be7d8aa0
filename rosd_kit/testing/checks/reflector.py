"""The laws of reflectors: one finding a case, whatever is generated, under a budget."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rosd_kit.contracts import Reflector
from rosd_kit.testing.builders import fake_case, fake_completion, fake_generate
from rosd_kit.testing.check import Bench, check, demand, does_not_apply
from rosd_kit.testing.examples import TRUTH, cases
from rosd_kit.testing.texts import adversarial_texts
from rosd_kit.text.budget import assemble, fit_prompt
from rosd_kit.types import Completion, Prompt, Reflection

_WORD = re.compile(r"[a-z][a-z0-9_]*")
_BUDGET = 400


def _reflected(reflector: Reflector, bench: Bench, *answers: Any) -> tuple[dict[str, Reflection], fake_generate]:
    """Return each case's reflection, and the generator that answered with these."""
    known, generate = cases(bench), fake_generate(*answers)
    found = reflector.reflect(list(known.values()), generate)
    demand(len(found) == len(known), f"{len(found)} reflections for {len(known)} cases")
    return dict(zip(known, found, strict=True)), generate


@check("reflector")
def check_one_reflection_a_case(reflector: Reflector, bench: Bench) -> None:
    """`reflect` returns one `Reflection` for each case in order, and nothing for no case; the cases' order changes nothing."""
    demand(list(reflector.reflect([], fake_generate())) == [], "no case has a reflection")
    known = list(cases(bench).values())
    there, back = (reflector.reflect(order, fake_generate(_echo)) for order in (known, known[::-1]))
    demand(len(there) == len(known), f"{len(there)} reflections for {len(known)} cases")
    for name, one, other in zip(cases(bench), there, back[::-1], strict=True):
        demand(isinstance(one, Reflection), f"{name}: {one!r} is no Reflection")
        demand(one == other, f"{name}: {one} in one order of the cases, {other} in the other")


def _echo(prompt: Prompt) -> str:
    """Return a well-formed reflection that depends on the whole prompt."""
    text = " ".join(message["content"] for message in assemble(prompt))
    return f"<error_quote>{len(text)}</error_quote> <explanation>{text[-80:]}</explanation>"


@check("reflector")
def check_reads_garbage(reflector: Reflector, bench: Bench) -> None:
    """Whatever is generated, a reflection comes of it: no text raises, what is missing is a status, a lower-case word."""
    for what, text in adversarial_texts(bench.problem).items():
        for name, found in _reflected(reflector, bench, text)[0].items():
            where = f"{name}, answered with {what}"
            demand(found.idea is None or isinstance(found.idea, str), f"{where}: the idea is {found.idea!r}")
            demand(found.quote is None or isinstance(found.quote, str), f"{where}: the quote is {found.quote!r}")
            demand(isinstance(found.status, str) and _WORD.fullmatch(found.status), f"{where}: the status is {found.status!r}")


@check("reflector")
def check_says_when_generation_failed(reflector: Reflector, bench: Bench) -> None:
    """Where every completion failed (`overlong`, `abort`, nothing but `length`) no reflection that needed one is `ok`."""
    failed: dict[str, Callable[[], Completion]] = {
        "overlong": lambda: fake_completion("", finish_reason="overlong"),
        "abort": lambda: fake_completion("", finish_reason="abort"),
        "length": lambda: fake_completion("<error_quote>25", finish_reason="length"),
    }
    asked = False
    for reason, answer in failed.items():
        known, generate = cases(bench), fake_generate(answer())
        for name, case in known.items():
            before = len(generate.prompts)
            (found,) = reflector.reflect([case], generate)
            if len(generate.prompts) > before:
                asked = True
                demand(found.status != "ok", f"{name}: the status is 'ok' after a completion that ended in {reason!r}")
    if not asked:
        raise does_not_apply("it generates nothing")


@check("reflector")
def check_position_is_in_the_response(reflector: Reflector, bench: Bench) -> None:
    """`quote_start` is None or a place in the response's text, its end included."""
    for name, found in _reflected(reflector, bench, _echo)[0].items():
        text = cases(bench)[name].rollout.completion.text
        place = found.quote_start
        demand(place is None or 0 <= place <= len(text), f"{name}: quote_start is {place} in a text of {len(text)} characters")


@check("reflector")
def check_keeps_a_budget(reflector: Reflector, bench: Bench) -> None:
    """Its prompts have sections with `keep > 0`, so that a long response and a long demonstration can be cut to a budget.

    Both budgets it hands over, of prompt and of answer, are positive.
    """
    long = "word " * 5000
    asked = fake_generate("nothing")
    told = {"feedback": long, "truth": TRUTH}
    case = fake_case(long, problem=bench.problem, views=(long,), **told)  # type: ignore[arg-type]
    reflector.reflect([case, fake_case(long, right=True, problem=bench.problem, views=(long,))], asked)
    if not asked.prompts:
        raise does_not_apply("it generates nothing")
    for budget, sampling in zip(asked.budgets, asked.samplings, strict=True):
        demand(
            budget > 0 and sampling.max_new_tokens > 0,
            f"a prompt budget of {budget}, an answer budget of {sampling.max_new_tokens}",
        )
    for prompt in asked.prompts:
        words = sum(len(section.text.split()) for section in prompt.sections if section.cut_priority is None)
        fitted = fit_prompt(prompt, lambda messages: sum(len(m["content"].split()) for m in messages), words + _BUDGET)
        demand(fitted.fits, f"a prompt of {words} words that must stay and 10000 more cannot be cut to {words + _BUDGET}")
        demand(words < 2000, f"{words} words of a prompt can never be cut; give the section of the long text a keep > 0")


@check("reflector")
def check_says_when_it_wants_the_initial_weights(reflector: Reflector, bench: Bench) -> None:
    """A reflector that generates with `weights="initial"` returns True from `wants_initial`, or they would not be kept."""
    _, generate = _reflected(reflector, bench, _echo)
    if not generate.prompts:
        raise does_not_apply("it generates nothing")
    demand(set(generate.weights) <= {"live", "initial"}, f"it asks for the weights {sorted(set(generate.weights))}")
    honest = "initial" not in generate.weights or reflector.wants_initial()
    demand(honest, "it generates with the initial weights, and wants_initial() is False")
