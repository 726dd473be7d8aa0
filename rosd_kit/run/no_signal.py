"""Says why steps gave nothing to train on, and what to do about it. Knows metrics only by name."""

from __future__ import annotations

from collections.abc import Callable

Count = Callable[[str], float]


def advice(count: Count, number: int, *, truncated: str = "wrong") -> str | None:
    """Return the cause of missing signal and its remedy, or None if none of the known causes holds.

    `count` gives the sum of a metric over the steps that are looked at, `number` is how many these are, and `truncated` is the
    option `verifier.truncated`.
    """
    steps = f"{number} step{'s' * (number != 1)}"
    rollouts = count("rollout/count") or sum(count(f"verify/{status}") for status in ("ok", "unparsable", "error"))
    failed, unparsable, cut_off = count("verify/error"), count("verify/unparsable"), count("rollout/truncated")
    half = 0.5 * rollouts
    if rollouts and failed > half:
        return (
            f"the verifier failed on {failed:.0f} of {rollouts:.0f} responses in {steps}, and such responses train nobody. The "
            "warning about the verifier says why; samples/ holds the responses."
        )
    opening = f"no group held both a success and a failure for {steps}"
    if count("rollout/reward_spread") > 0:
        return (
            f"{opening}, although rewards differ within groups. Set gate=mixed_rewards to train on such groups, or change the "
            "problems' difficulty."
        )
    if cut_off > half:
        if truncated == "score":
            return f"{opening}, and most responses were cut off at their length limit. Raise sampling.max_new_tokens."
        return (
            f"{opening}, and most responses were cut off at their length limit, which counts as wrong. Raise "
            "sampling.max_new_tokens, or set verifier.truncated=score."
        )
    if rollouts and unparsable > half:
        return (
            f"{opening}, and the verifier found no answer in {unparsable:.0f} of {rollouts:.0f} responses. Let task.system or "
            "task.prompt say how to write the answer, or choose a verifier that reads it; samples/ holds the responses."
        )
    wrong, right = count("gate/all_wrong"), count("gate/all_right")
    if wrong and _same_answers(count, number, wrong + right):
        return (
            f"{opening}, and all wrong responses to a problem gave the same answer, so that more of them find "
            "nothing new. Raise sampling.temperature, or take problems that this model sometimes solves."
        )
    if wrong and not right:
        return (
            f"{opening}: every response was wrong, so there is nothing to compare. The problems are too hard for this model, "
            "or the verifier does not read its answers. Take easier problems or another model, or raise group_size."
        )
    if right and not wrong:
        return (
            f"{opening}: every response was right, so there is nothing to compare. The problems are too easy for this model. "
            "Take harder ones, or raise sampling.temperature or group_size."
        )
    if wrong or right or count("gate/equal_rewards"):
        return f"{opening}, so there is nothing to compare. Change the problems' difficulty, or raise group_size."
    return None


def _same_answers(count: Count, steps: int, groups: float) -> bool:
    """Return whether the wrong responses of a group have one answer: then distinct answers per answer are one in its size."""
    distinct, size = count("diversity/wrong_answers") / steps, count("rollout/count") / groups
    return size > 1 and 0 < distinct * size < 1.01
