"""The laws of localizers: one valid weight per token, for any response and any reflection."""

from __future__ import annotations

import math
import re

from rosd_kit.contracts import Localizer
from rosd_kit.testing.builders import fake_sample
from rosd_kit.testing.check import Bench, check, does_not_apply, require
from rosd_kit.testing.examples import cases, summarize
from rosd_kit.types import SampleScores

_WORD = re.compile(r"[a-z][a-z0-9_]*")


@check("localizer")
def check_one_weight_per_token(localizer: Localizer, bench: Bench) -> None:
    """`locate` returns one weight per token id of the completion, for any response: empty, truncated, in any script."""
    for name, case in cases(bench).items():
        weights = localizer.locate(case).weights
        length = len(case.rollout.completion.token_ids)
        require(len(weights) == length, f"{name}: {len(weights)} weights for {summarize(case.rollout.completion)}")


@check("localizer")
def check_weights_are_shares(localizer: Localizer, bench: Bench) -> None:
    """Every weight of `locate` is a number from 0 to 1."""
    for name, case in cases(bench).items():
        for index, weight in enumerate(localizer.locate(case).weights):
            is_number = isinstance(weight, float | int) and not math.isnan(weight)
            require(is_number and 0 <= weight <= 1, f"{name}: the weight of token {index} is {weight!r}")


@check("localizer")
def check_outcome_is_a_word(localizer: Localizer, bench: Bench) -> None:
    """The outcome is one lower-case word, never text of the case: it becomes the metric localize/<outcome>."""
    for name, case in cases(bench).items():
        outcome = localizer.locate(case).outcome
        require(isinstance(outcome, str) and _WORD.fullmatch(outcome), f"{name}: the outcome is {outcome!r}")


@check("localizer")
def check_start_is_within_the_text(localizer: Localizer, bench: Bench) -> None:
    """`start_char` is None or a character position in the response's text, its end included."""
    for name, case in cases(bench).items():
        start, text = localizer.locate(case).start_char, case.rollout.completion.text
        require(start is None or 0 <= start <= len(text), f"{name}: start_char is {start} in a text of {len(text)} characters")


@check("localizer")
def check_refined_weights_are_finite(localizer: Localizer, bench: Bench) -> None:
    """`refine` returns one finite number >= 0 per response token, even if scores are 0, equal or huge."""
    if not localizer.refines:
        raise does_not_apply("it does not refine weights")
    for name, values in {
        "ordinary scores": (0.5, 0.0, 2.0, 0.1, 3.0, 0.0),
        "equal scores": (0.0,) * 6,
        "huge scores": (1e9, 0.0, 1e9, 0.0, 1e9, 0.0),
    }.items():
        for weights in ((1.0,) * 6, (0.0, 0.0, 1.0, 0.5, 1.0, 1.0)):
            sample = fake_sample(token_weights=weights)
            logprobs = tuple(-value - 0.1 for value in values)
            scores = SampleScores(divergence=values, student=logprobs, teacher=logprobs[::-1])
            refined = localizer.refine(sample, scores)
            require(len(refined) == 6, f"{name}: {len(refined)} weights for 6 tokens")
            require(all(math.isfinite(w) and w >= 0 for w in refined), f"{name}: the weights are {list(refined)}")
