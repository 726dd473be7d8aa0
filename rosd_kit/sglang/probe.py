"""The comparisons of engine and trainer that a run makes: a probe after each transfer of weights, and its own rollouts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from rosd_kit.contracts import Policy, TeacherModel
from rosd_kit.errors import EngineError
from rosd_kit.sglang.client import Client
from rosd_kit.sglang.event_loop import LoopThread
from rosd_kit.sglang.logprob_check import (
    ROUNDING,
    Agreement,
    Bound,
    fitting_temperature,
    likely_cause,
    trainer_logprobs,
)
from rosd_kit.sglang.options import ProbeSettings
from rosd_kit.sglang.pool import Pool
from rosd_kit.sglang.replica import Member
from rosd_kit.types import Completion, PolicyWeights

Ids = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Checker:
    """Scores the same ids on both sides. Raises `EngineError` where they lie further apart than rounding explains."""

    student: Policy
    options: ProbeSettings
    loop: LoopThread

    def probe(self, pool: Pool, which: PolicyWeights) -> Agreement:
        """Compare the scores of fixed tokens on every server, which was just given these weights; return the worst."""
        texts = _probe_texts(self.student.vocabulary)
        trainer = self._trainer([text[:1] for text in texts], [text[1:] for text in texts], 1.0, which)

        async def score(member: Member) -> list[list[float]]:
            return [await member.client.score(text) for text in texts]

        bound, worst = self._bound(pool), None
        for member, engine in self.loop.run(pool.ask_each(score)):
            found = Agreement.of(engine, trainer)
            if not found.within(bound):
                raise EngineError(
                    f"rollout: {member.client.url} wears the label of the new weights but does not compute with them: the "
                    f"log-probs of a probe differ: {found}; allowed are {bound}. It has another model or precision, or "
                    "rollout.sync lost something. Try another rollout.sync; if it is rounding, widen rollout.check."
                )
            if worst is None or found.greatest > worst.greatest:
                worst = found
        assert worst is not None
        return worst

    def compare(self, pool: Pool, completions: Sequence[Completion], temperature: float) -> Agreement:
        """Compare the log-probs that came with sampled responses with the trainer's of the same ids."""
        temperature = temperature or 1.0
        prompts, responses = [c.prompt_ids for c in completions], [c.token_ids for c in completions]
        engine = [c.logprobs for c in completions]
        found = Agreement.of(engine, self._trainer(prompts, responses, temperature, "live"))
        bound = self._bound(pool)
        if found.within(bound):
            return found
        cause = self._cause(pool, bound, prompts, responses, engine, temperature)
        raise EngineError(
            f"rollout: engine and trainer do not compute the same. The log-probs of {len(completions)} sampled responses "
            f"differ: {found}; allowed are {bound} (rollout.check). Likely {cause}"
        )

    def _cause(
        self,
        pool: Pool,
        bound: Bound,
        prompts: Sequence[Ids],
        responses: Sequence[Ids],
        engine: Sequence[Sequence[float]],
        temperature: float,
    ) -> str:
        async def scores(client: Client) -> list[list[float]]:
            texts = zip(prompts, responses, strict=True)
            return [(await client.score([*p, *r]))[len(p) - 1 :] for p, r in texts]

        labels = {label for _, label in self.loop.run(pool.ask_each(lambda member: member.client.label()))}
        plain = Agreement.of(self.loop.run(pool.ask(scores)), self._trainer(prompts, responses, 1.0, "live"))
        with TeacherModel(self.student.model).active():
            fits = fitting_temperature(engine, self.student.model, prompts, responses)
        return likely_cause(
            plain=plain,
            bound=bound,
            same_label=pool.weights is not None and labels == {pool.weights.label},
            engine_dtype=self._engine_dtype(pool),
            trainer_dtype=self.student.settings.dtype,
            temperature=temperature,
            fits=fits,
        )

    def _trainer(
        self, prompts: Sequence[Ids], responses: Sequence[Ids], temperature: float, which: PolicyWeights
    ) -> list[list[float]]:
        source = self.student.initial() if which == "initial" else nullcontext(self.student.model)
        with source as model, TeacherModel(model).active():
            return trainer_logprobs(model, prompts, responses, temperature=temperature)

    def _bound(self, pool: Pool) -> Bound:
        in_float32 = {self.student.settings.dtype, self._engine_dtype(pool)} == {"float32"}
        usual = ROUNDING["float32" if in_float32 else "bfloat16"]
        return Bound(
            greatest=self.options.max_difference or usual.greatest,
            mean=self.options.mean_difference or usual.mean,
        )

    def _engine_dtype(self, pool: Pool) -> str:
        named = pool.members[0].facts.dtype.removeprefix("torch.")
        return self.student.settings.dtype if named in ("", "auto") else named


def _probe_texts(vocabulary: int) -> list[list[int]]:
    """Return a few short sequences of ids, always the same for a vocabulary."""
    rng = random.Random(vocabulary)
    return [[rng.randrange(vocabulary) for _ in range(24)] for _ in range(4)]
