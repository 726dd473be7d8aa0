"""Hypothesis strategies for the inputs of components: `from rosd_kit.testing import strategies`.

They need hypothesis (pip install "rosd-kit[testing]"); the conformance checks do not.
"""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from rosd_kit.testing.builders import fake_case, fake_group, fake_problem, fake_reflection, fake_rollout
from rosd_kit.types import Case, FirstError, Group, Problem, Reflection, ReflectionStatus, Rollout

#: The words of texts: many scripts and symbols, some of several bytes or code points.
_WORDS = st.sampled_from(
    [
        "Step",
        "2",
        "=",
        "30",
        ".",
        "Answer",
        ":",
        "x²",
        "naïve",
        "日本",
        "שלום",
        "👩‍🔬",
        "é",
        "<error_quote>",
        "\\boxed{4}",
        "\t",
        "\n\n",
        "*",
        "(",
    ]
)


def texts(max_words: int = 30) -> st.SearchStrategy[str]:
    """Return texts of up to `max_words` words of many kinds, including the empty text."""
    return st.lists(_WORDS, max_size=max_words).map(" ".join)


def problems() -> st.SearchStrategy[Problem]:
    """Return problems with and without a solution and a system message."""
    return st.builds(
        fake_problem,
        id=st.integers(0, 10**6).map(str),
        question=texts().filter(str.strip),
        answer=st.integers(-999, 999).map(str),
        solution=st.none() | texts().filter(str.strip),
        system=st.none() | st.just("Answer briefly ."),
    )


def rollouts(right: st.SearchStrategy[bool] | None = None) -> st.SearchStrategy[Rollout]:
    """Return rollouts with a verdict, finished and truncated."""
    return st.builds(
        fake_rollout,
        text=texts(),
        right=right or st.booleans(),
        feedback=texts(4),
        finish_reason=st.sampled_from(["stop", "length"]),
    )


@st.composite
def groups(draw: st.DrawFn, min_size: int = 1, max_size: int = 6) -> Group:
    """Return groups of `min_size` to `max_size` rollouts, right and wrong."""
    members = draw(st.lists(st.tuples(texts(), st.booleans()), min_size=min_size, max_size=max_size))
    return fake_group(*members, problem=draw(problems()))


@st.composite
def reflections(draw: st.DrawFn, of: str = "") -> Reflection:
    """Return reflections, complete and failed; a quote is a substring of the text `of`, other text, or None."""
    statuses: tuple[ReflectionStatus, ...] = ("ok", "no_idea", "no_quote", "unparsable", "truncated", "overlong", "skipped")
    status = draw(st.sampled_from(statuses))
    start = draw(st.integers(0, max(0, len(of) - 1)))
    substring = of[start : draw(st.integers(start, len(of)))]
    quote = draw(st.sampled_from([substring, None]) | texts(4))
    idea = draw(st.none() | texts(8))
    quote_start = draw(st.none() | st.integers(0, len(of)))
    return fake_reflection(idea=idea, quote=quote, quote_start=quote_start, status=status)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Return cases: any rollout, 0 to 2 views, with or without a reflection and the truth."""
    rollout = draw(rollouts())
    text = rollout.completion.text
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, len(text)))
    truth = draw(
        st.sampled_from([None, FirstError(status="none"), FirstError(status="error", start=start, end=end, sentence_start=0)])
    )
    return fake_case(
        problem=draw(problems()),
        rollout=rollout,
        views=draw(st.lists(texts(), max_size=2)),
        truth=truth,
        reflection=draw(st.none() | reflections(of=text)),
    )


@st.composite
def log_probs(draw: st.DrawFn, tokens: int | None = None, size: int | None = None) -> Tensor:
    """Return float64 logprobs `[tokens, size]`, from uniform distributions to one-hot ones with probabilities of 0."""
    shape = (tokens or draw(st.integers(1, 5)), size or draw(st.integers(2, 9)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logits = torch.randn(shape, generator=generator, dtype=torch.float64) * draw(st.sampled_from([0.0, 0.1, 1.0, 10.0, 1e3]))
    if draw(st.booleans()):
        logits = logits.masked_fill(torch.rand(shape, generator=generator) < 0.3, -torch.inf)
        logits[:, 0] = 0.0
    return logits.log_softmax(-1)


@st.composite
def log_prob_pairs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Return (student, teacher) logprobs of the same shape."""
    student = draw(log_probs())
    return student, draw(log_probs(tokens=student.shape[0], size=student.shape[1]))
