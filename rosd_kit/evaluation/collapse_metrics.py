"""Collapse indicators of a student's rollouts: diversity, entropy, leakage.

Collapse is how this family of methods fails. Pure functions of verified groups; they know neither the thresholds
(`run/collapse_warnings.py`) nor how samples were generated.
"""

from __future__ import annotations

from collections.abc import Sequence

from rosd_kit.evaluation.formulas import answer_classes, distinct_bigrams
from rosd_kit.text.leaks import leaks
from rosd_kit.types import Completion, Group, Rollout


def collapse_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Return the collapse metrics of a step's rollouts, without those that these rollouts do not determine.

    * `rollout/entropy`: mean of -log p of the sampled tokens, in nats, under the full distribution they were sampled from.
    * `diversity/answers`: distinct answers per answer, averaged over groups. `diversity/wrong_answers`: the same among wrong
      rollouts, over groups with at least two; it does not fall just because the student improves.
    * `diversity/bigrams`: distinct-2 of the tokens, averaged over groups.
    * `diversity/pass_at_k`: share of groups with a success. `diversity/gap`: that minus the mean success.
    * `leak/reference`: share of rollouts that mention a reference that is not in their prompt.
    """
    judged = [[rollout for rollout in group.rollouts if rollout.verdict.status != "error"] for group in groups]
    judged = [rollouts for rollouts in judged if rollouts]
    completions = [rollout.completion for group in groups for rollout in group.rollouts]
    solved = _mean([float(any(_successes(rollouts))) for rollouts in judged])
    success = _mean([sum(_successes(rollouts)) / len(rollouts) for rollouts in judged])
    metrics = {
        "rollout/entropy": sampled_entropy(completions),
        "diversity/answers": _mean([_distinct_answers(rollouts) for rollouts in judged]),
        "diversity/wrong_answers": _mean(
            [_distinct_answers([r for r in rollouts if not r.verdict.success]) for rollouts in judged]
        ),
        "diversity/bigrams": _mean([distinct_bigrams([r.completion.token_ids for r in g.rollouts]) for g in groups]),
        "diversity/pass_at_k": solved,
        "diversity/gap": solved - success if solved is not None and success is not None else None,
        "leak/reference": _mean([float(leaks(completion.text)) for completion in completions]),
    }
    return {name: value for name, value in metrics.items() if value is not None}


def sampled_entropy(completions: Sequence[Completion]) -> float | None:
    """Return the mean of -log p over all sampled tokens, in nats, a sample estimate of the entropy; None without tokens."""
    return _mean([-logprob for completion in completions for logprob in completion.logprobs])


def _distinct_answers(rollouts: Sequence[Rollout]) -> float | None:
    """Return the number of distinct answers per answer; None with fewer than two answers."""
    answers = answer_classes([rollout.verdict.answer for rollout in rollouts], _successes(rollouts))
    return len(set(answers)) / len(answers) if len(answers) > 1 else None


def _successes(rollouts: Sequence[Rollout]) -> list[bool]:
    return [rollout.verdict.success for rollout in rollouts]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
