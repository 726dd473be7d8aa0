"""Decides what engine and trainer are compared on: a probe after each transfer of weights, and the run's own rollouts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rosd_kit.contracts import Policy, TeacherModel
from rosd_kit.errors import EngineError
from rosd_kit.serving.client import Client
from rosd_kit.serving.event_loop import EventLoopThread
from rosd_kit.serving.logprob_check import (
    TOLERANCES,
    LogprobGap,
    Tolerance,
    fit_temperature,
    likely_cause,
    trainer_logprobs,
)
from rosd_kit.serving.options import ProbeSettings
from rosd_kit.serving.pool import Pool
from rosd_kit.serving.replica import Replica
from rosd_kit.types import Completion, PolicyWeights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class LogprobChecker:
    """Scores the same ids on both sides. Raises `EngineError` if their gap is larger than rounding explains."""

    student: Policy
    settings: ProbeSettings
    loop: EventLoopThread
    _of_initial: list[list[list[float]]] = field(default_factory=list, init=False)  # what a probe of initial weights expects

    def probe(self, pool: Pool, which: PolicyWeights) -> LogprobGap:
        """Compare the scores of fixed texts on every server that has just got these weights; return the largest gap."""
        sequences = _probe_sequences(self.student.tokenizer, self.student.vocabulary)
        trainer = self._of_initial[0] if which == "initial" and self._of_initial else self._expected(sequences, which)

        async def score(replica: Replica) -> list[list[float]]:
            return [await replica.client.score(ids) for ids in sequences]

        tolerance, largest = self._tolerance(pool), None
        for replica, engine in self.loop.run(pool.call_each(score)):
            gap = LogprobGap.between(engine, trainer)
            if not gap.is_within(tolerance):
                raise EngineError(
                    f"rollout: {replica.client.url} reports the new weights but does not compute with them: the log-probs of a "
                    f"probe differ: {gap}; allowed: {tolerance}. It has another model or precision, or rollout.sync lost "
                    "something. Try another rollout.sync; if it is rounding, widen rollout.check."
                )
            if largest is None or gap.max > largest.max:
                largest = gap
        assert largest is not None
        return largest

    def _expected(self, sequences: Sequence[Ids], which: PolicyWeights) -> list[list[float]]:
        """Return the trainer's scores of the probe; those of the initial weights are kept, since they never change."""
        trainer = self._trainer_logprobs([ids[:1] for ids in sequences], [ids[1:] for ids in sequences], 1.0, which)
        if which == "initial":
            self._of_initial.append(trainer)
        return trainer

    def compare(self, pool: Pool, completions: Sequence[Completion], temperature: float) -> LogprobGap:
        """Compare the engine's log-probs of sampled responses with the trainer's of the same ids."""
        temperature = temperature or 1.0
        prompts, responses = [c.prompt_ids for c in completions], [c.token_ids for c in completions]
        engine = [c.logprobs for c in completions]
        gap = LogprobGap.between(engine, self._trainer_logprobs(prompts, responses, temperature, "live"))
        tolerance = self._tolerance(pool).at(temperature)
        if gap.is_within(tolerance):
            return gap
        cause = self._likely_cause(pool, self._tolerance(pool), prompts, responses, engine, temperature)
        raise EngineError(
            f"rollout: engine and trainer disagree. The log-probs of {len(completions)} sampled responses differ: {gap}; "
            f"allowed: {tolerance} (rollout.check). Likely {cause}"
        )

    def _likely_cause(
        self,
        pool: Pool,
        tolerance: Tolerance,
        prompts: Sequence[Ids],
        responses: Sequence[Ids],
        engine: Sequence[Sequence[float]],
        temperature: float,
    ) -> str:
        async def score_all(client: Client) -> list[list[float]]:
            pairs = zip(prompts, responses, strict=True)
            return [(await client.score([*prompt, *response]))[len(prompt) - 1 :] for prompt, response in pairs]

        labels = {label for _, label in self.loop.run(pool.call_each(lambda replica: replica.client.weight_label()))}
        engine_at_1 = self.loop.run(pool.call(score_all))
        trainer_at_1 = self._trainer_logprobs(prompts, responses, 1.0, "live")
        with TeacherModel(self.student.model).active():
            best_temperature = fit_temperature(engine, self.student.model, prompts, responses)
        return likely_cause(
            gap_at_1=LogprobGap.between(engine_at_1, trainer_at_1),
            tolerance=tolerance,
            same_label=pool.weights is not None and labels == {pool.weights.label},
            engine_dtype=self._engine_dtype(pool),
            trainer_dtype=self.student.settings.dtype,
            temperature=temperature,
            best_temperature=best_temperature,
        )

    def _trainer_logprobs(
        self, prompts: Sequence[Ids], responses: Sequence[Ids], temperature: float, which: PolicyWeights
    ) -> list[list[float]]:
        source = self.student.initial() if which == "initial" else nullcontext(self.student.model)
        with source as model, TeacherModel(model).active():
            return trainer_logprobs(model, prompts, responses, temperature=temperature)

    def _tolerance(self, pool: Pool) -> Tolerance:
        in_float32 = {self.student.settings.dtype, self._engine_dtype(pool)} == {"float32"}
        default = TOLERANCES["float32" if in_float32 else "bfloat16"]
        return Tolerance(
            max=self.settings.max_difference or default.max,
            mean=self.settings.mean_difference or default.mean,
            median=self.settings.median_difference or default.median,
        )

    def _engine_dtype(self, pool: Pool) -> str:
        reported = pool.replicas[0].info.dtype.removeprefix("torch.")
        return self.student.settings.dtype if reported in ("", "auto") else reported


#: Ordinary text, which a language model finds likely. Log-probs of random tokens are so low that bfloat16 rounds them coarsely.
_TEXTS = (
    "The water of the river was cold, but the children swam in it all the same until the sun went down behind the hills.",
    "To add two fractions, bring them to a common denominator first: 1/2 + 1/3 = 3/6 + 2/6 = 5/6.",
    'def mean(values):\n    """Return the arithmetic mean."""\n    return sum(values) / len(values)\n',
    "In 1969 two people walked on the Moon for the first time. They collected rocks, took photographs and planted a flag.",
)
_LONGEST_PROBE = 48


def _probe_sequences(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> list[list[int]]:
    """Return short sequences of ids, always the same for a tokenizer: texts, or random ids where it knows no such words."""
    texts = [tokenizer(text, add_special_tokens=False)["input_ids"][:_LONGEST_PROBE] for text in _TEXTS]
    known = all(len(set(ids)) > len(ids) // 3 and len(ids) > 8 and max(ids) < vocabulary for ids in texts)
    if known:
        return texts
    rng = random.Random(vocabulary)
    return [[rng.randrange(vocabulary) for _ in range(24)] for _ in range(4)]
