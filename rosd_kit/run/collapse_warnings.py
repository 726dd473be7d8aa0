"""Warns once per cause about missing signal or collapse, with what to do about it.

Knows metrics and evaluations only by name, so that a report can watch a finished run again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from rosd_kit.evaluation.intervals import Interval, mean_of
from rosd_kit.evaluation.results import SuiteResult, compare
from rosd_kit.run.no_signal import advice
from rosd_kit.settings import WatchSettings

#: (name, whether it holds, the warning)
Symptom = tuple[str, bool, str]
#: Success counts as risen, so that less variety is a good sign, if it is this high or has gained this much.
_HIGH, _GAIN = 0.9, 0.1
_BACK = "Lower optimizer.lr or go back to an earlier checkpoint."


class CollapseWatch:
    """Takes each step's metrics and each evaluation, and returns the warnings that are due.

    A run with fewer `steps` than the patience is judged by all its steps. `truncated` is the option `verifier.truncated`, which
    says what responses that were cut off count as; `drops_truncated` says that the gate leaves them out of training already.
    """

    def __init__(
        self,
        settings: WatchSettings | None = None,
        steps: int | None = None,
        *,
        truncated: str = "wrong",
        drops_truncated: bool = False,
    ) -> None:
        self.settings = settings or WatchSettings()
        self.truncated, self.drops_truncated = truncated, drops_truncated
        patience = min(self.settings.patience, steps or self.settings.patience)
        self.recent: deque[Mapping[str, float]] = deque(maxlen=patience)
        self.first: dict[str, float] = {}
        self.first_results: Sequence[SuiteResult] = ()
        self.said: set[str] = set()

    def step(self, metrics: Mapping[str, float]) -> list[str]:
        """Return new warnings after this step."""
        self.recent.append(metrics)
        for name, value in metrics.items():
            self.first.setdefault(name, value)
        lasting = () if len(self.recent) < (self.recent.maxlen or 0) else (*self._learning(), *self._collapse())
        return self._due([_unreadable(metrics), *lasting])

    def evaluation(self, results: Sequence[SuiteResult]) -> list[str]:
        """Return new warnings after this evaluation; later evaluations are compared with the first."""
        if not self.first_results:
            self.first_results = results
            return []
        return self._due([*self._coverage(results), *self._elsewhere(results)])

    def _due(self, checks: Sequence[Symptom]) -> list[str]:
        due = [text for name, holds, text in checks if holds and name not in self.said]
        self.said |= {name for name, holds, _ in checks if holds}
        return due

    @property
    def _steps(self) -> str:
        return "1 step" if self.recent.maxlen == 1 else f"{self.recent.maxlen} steps"

    def _learning(self) -> Iterator[Symptom]:
        """Yield the signs of missing training signal."""
        n = self._steps
        found = sum(self._sum(f"localize/{outcome}") for outcome in ("exact", "normalised", "fuzzy"))
        found += sum(self._sum(f"localize/{outcome}_ambiguous") for outcome in ("exact", "normalised", "fuzzy"))
        left_out = {why: count for why in ("no_weight", "no_privileged_text") if (count := self._sum(f"sample/{why}"))}
        passed = self._sum("sample/ok") + sum(left_out.values())
        reasons = ", ".join(f"{why.replace('_', ' ')} {count:.0f}" for why, count in left_out.items())
        groups = sum(self._sum(f"gate/{outcome}") for outcome in ("all_wrong", "all_right", "mixed", "equal_rewards"))
        stuck = groups > 0 and self._sum("gate/mixed") == 0 and passed == 0
        stuck_advice = (
            advice(self._sum, self.recent.maxlen or 1, truncated=self.truncated)
            if stuck or self._every_verdict_failed()
            else None
        )
        yield ("groups", stuck_advice is not None, stuck_advice or "")
        shares, limit = [_share_cut_off(metrics) for metrics in self.recent], self.settings.truncated
        yield (
            "truncated",
            limit is not None and min(shares) > limit and stuck_advice is None,
            f"at least {100 * min(shares):.0f}% of the rollouts were cut off at their length limit for {n}. "
            f"{self._truncated_advice()}",
        )
        yield (
            "quotes",
            self._sum("localize/missing") > 0 and found == 0,
            f"no quote was found in any response for {n}. Look at samples/: does the reflector follow its format?",
        )
        yield (
            "weights",
            passed > 0 and self._sum("train/weighted_tokens") == 0,
            f"no token had a weight for {n} ({reasons or 'the objective weighs none'}). "
            "Check localizer.missing, context and demonstration.",
        )
        yield (
            "still",
            self._sum("train/weighted_tokens") > 0 and self._sum("train/weight_change") == 0,
            f"the weights have not changed for {n}. Check optimizer.lr and whether updates are skipped.",
        )

    def _truncated_advice(self) -> str:
        """Return what cut-off rollouts count as under this recipe, and what to change."""
        if self.truncated == "score":
            counts = "They count as what the verifier says of their text so far (verifier.truncated=score)."
        else:
            counts = "They count as wrong (verifier.truncated=wrong)."
        without = "" if self.drops_truncated else ", or set gate.truncated=drop to train without them"
        return f"{counts} Raise sampling.max_new_tokens{without}."

    def _every_verdict_failed(self) -> bool:
        """Return whether no response of these steps was judged, so that no group reached the gate."""
        return self._sum("verify/error") > 0 and self._sum("verify/ok") + self._sum("verify/unparsable") == 0

    def _collapse(self) -> Iterator[Symptom]:
        """Yield the signs of collapse; less variety is a good sign if success has risen."""
        limits = self.settings
        success, at_first = self._mean("rollout/success") or 0.0, self.first.get("rollout/success", 0.0)
        worse = success < min(_HIGH, at_first + _GAIN)
        yield (
            "collapse",
            limits.success is not None and success < limits.success * at_first,
            f"success fell to {100 * success:.0f}% from {100 * at_first:.0f}% at the start: the student is collapsing. {_BACK}",
        )
        yield (
            "entropy",
            worse and self._fell("rollout/entropy", limits.entropy),
            f"the rollouts' entropy fell to {self._change('rollout/entropy', '.3g')} nats a token and success has not risen: "
            f"the student becomes certain of wrong answers. {_BACK}",
        )
        yield (
            "variety",
            worse and self._fell("diversity/wrong_answers", limits.variety),
            f"different wrong answers fell to {self._change('diversity/wrong_answers', '.2f')} an answer and success has not "
            f"risen: all rollouts make the same mistake. {_BACK}",
        )
        length, long = self._mean("rollout/length") or 0.0, self.first.get("rollout/length", 0.0)
        factor = limits.length or 1.0
        yield (
            "length",
            limits.length is not None and long > 0 and not long / factor <= length <= long * factor,
            f"responses have {self._change('rollout/length', '.0f')} tokens: look at samples/ for responses that "
            "ramble or no longer reason.",
        )
        spoken, before = self._mean("leak/reference") or 0.0, self.first.get("leak/reference", 0.0)
        yield (
            "leaks",
            limits.leaks is not None and spoken - before > limits.leaks,
            f"{100 * spoken:.1f}% of rollouts mention a reference that only the teacher was shown ({100 * before:.1f}% at the "
            "start): the student imitates its teacher's prompt. Use context=key_idea, or ask the teacher in its template not "
            "to mention what it was shown.",
        )

    def _coverage(self, results: Sequence[SuiteResult]) -> Iterator[Symptom]:
        pairs = list(
            zip(*(_coverage([r for r in side if r.in_domain]) for side in (self.first_results, results)), strict=False)
        )
        for k, before, after in ((k, before, after) for (k, before), (other, after) in pairs if k == other):
            lost = before.mean - after.mean
            limit = self.settings.pass_at_k
            yield (
                "pass_at_k",
                limit is not None and lost > limit and after.high < before.low,
                f"pass@{k} of the trained suites fell to {100 * after.mean:.0f}% from {100 * before.mean:.0f}%: "
                f"fewer problems can be solved at all. {_BACK}",
            )

    def _elsewhere(self, results: Sequence[SuiteResult]) -> Iterator[Symptom]:
        first, now = ([r for r in side if not r.in_domain and r.scores] for side in (self.first_results, results))
        if not first or [r.suite for r in first] != [r.suite for r in now] or self.settings.out_of_domain is None:
            return
        change = mean_of([one.difference for one in compare(first, now)])
        yield (
            "out_of_domain",
            change.mean < -self.settings.out_of_domain and change.high < 0,
            f"outside the trained domain mean@k fell by {-100 * change.mean:.1f} points ({100 * change.low:+.1f} .. "
            f"{100 * change.high:+.1f}): the student is forgetting earlier skills. Lower optimizer.lr, or train fewer steps.",
        )

    def _fell(self, name: str, share: float | None) -> bool:
        now, before = self._mean(name), self.first.get(name)
        return share is not None and now is not None and bool(before) and now < share * (before or 0.0)

    def _change(self, name: str, form: str) -> str:
        return f"{self._mean(name) or 0.0:{form}} (at the start {self.first.get(name, 0.0):{form}})"

    def _mean(self, name: str) -> float | None:
        found = [metrics[name] for metrics in self.recent if name in metrics]
        return sum(found) / len(found) if found else None

    def _sum(self, name: str) -> float:
        return sum(metrics.get(name, 0.0) for metrics in self.recent)


def _share_cut_off(metrics: Mapping[str, float]) -> float:
    """Return the share of a step's rollouts that were cut off at the length limit."""
    count = metrics.get("rollout/count", 0.0)
    return metrics.get("rollout/truncated", 0.0) / count if count else 0.0


def _coverage(results: Sequence[SuiteResult]) -> list[tuple[str, Interval]]:
    """Return the mean pass@k over the suites for their common k, the number of samples per problem."""
    ks = {str(result.samples) for result in results}
    k = ks.pop() if len(ks) == 1 else ""
    found = [result.pass_at[k] for result in results if k in result.pass_at]
    return [(k, mean_of(found))] if found and len(found) == len(results) else []


def _unreadable(metrics: Mapping[str, float]) -> Symptom:
    """Return the sign of an engine that samples what has no text: one such response is enough."""
    count = metrics.get("rollout/without_token", 0.0)
    return (
        "without_token",
        count > 0,
        f"{count:.0f} responses hold ids for which the tokenizer has no token: the model's embedding is larger than it. "
        "Such ids have no text and are trained on. The engines transformers and sglang never sample them.",
    )
