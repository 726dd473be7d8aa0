"""Collapse indicators of a student's rollouts: diversity, entropy, leakage.

They say when a student collapses, which is how this family of methods fails. Pure functions of verified groups; they know
neither thresholds (`run/collapse_warnings.py`) nor how samples were made.
"""

from __future__ import annotations

from collections.abc import Sequence

from rosd_kit.evaluation.formulas import answer_classes, distinct_bigrams
from rosd_kit.text.leaks import leaks
from rosd_kit.types import Completion, Group, Rollout


def collapse_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Return the collapse metrics of a step's rollouts; a sign that cannot be told from them is left out.

    * `rollout/entropy`: mean of -log p of the sampled tokens, in nats, under the whole distribution they were drawn from.
    * `diversity/answers`: different answers a rollout, mean over groups; `diversity/wrong_answers`: among wrong rollouts only,
      over groups with at least two, which does not fall because a student gets better.
    * `diversity/bigrams`: distinct-2 of the tokens, mean over groups.
    * `diversity/pass_at_k`: share of groups with a success; `diversity/gap`: by how much that exceeds the mean success.
    * `leak/reference`: share of rollouts that speak of a reference which their prompt does not hold.
    """
    judged = [[rollout for rollout in group.rollouts if rollout.verdict.status != "error"] for group in groups]
    judged = [rollouts for rollouts in judged if rollouts]
    completions = [rollout.completion for group in groups for rollout in group.rollouts]
    solved = _mean([float(any(_right(rollouts))) for rollouts in judged])
    right = _mean([sum(_right(rollouts)) / len(rollouts) for rollouts in judged])
    signs = {
        "rollout/entropy": sampled_entropy(completions),
        "diversity/answers": _mean([_variety(rollouts) for rollouts in judged]),
        "diversity/wrong_answers": _mean([_variety([r for r in rollouts if not r.verdict.success]) for rollouts in judged]),
        "diversity/bigrams": _mean([distinct_bigrams([r.completion.token_ids for r in g.rollouts]) for g in groups]),
        "diversity/pass_at_k": solved,
        "diversity/gap": solved - right if solved is not None and right is not None else None,
        "leak/reference": _mean([float(leaks(completion.text)) for completion in completions]),
    }
    return {name: value for name, value in signs.items() if value is not None}


def sampled_entropy(completions: Sequence[Completion]) -> float | None:
    """Return the mean of -log p of all sampled tokens, in nats: the entropy as the samples show it; None without a token."""
    return _mean([-logprob for completion in completions for logprob in completion.logprobs])


def _variety(rollouts: Sequence[Rollout]) -> float | None:
    """Return different answers an answer; None with fewer than two answers."""
    said = answer_classes([rollout.verdict.answer for rollout in rollouts], _right(rollouts))
    return len(set(said)) / len(said) if len(said) > 1 else None


def _right(rollouts: Sequence[Rollout]) -> list[bool]:
    return [rollout.verdict.success for rollout in rollouts]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
