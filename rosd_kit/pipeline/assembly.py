"""From a diagnosed rollout to a training sample: token weights, teacher prompts, and the sample itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from rosd_kit.faults import check_located, check_prompts, check_weights
from rosd_kit.pipeline.counters import Counters
from rosd_kit.pipeline.diagnosis import DiagnosedRollout, describe
from rosd_kit.pipeline.oracle import judge_start, judged_truth
from rosd_kit.pipeline.requests import Requester
from rosd_kit.recipe.built import BuiltComponents
from rosd_kit.types import Case, DistillSample, Prompt, TeacherView, TokenWeights, Trace, TraceStatus


@dataclass(frozen=True, kw_only=True)
class SampleAssembler:
    """Has the error located and the teacher prompted, and puts the training sample together."""

    components: BuiltComponents
    requester: Requester
    max_teacher_prompt_tokens: int

    def assemble(self, rollout: DiagnosedRollout, counters: Counters) -> Trace:
        """Return the trace of a rollout, with its sample if any objective trains on it."""
        case, distills = rollout.case, self.components.distills
        weights = self._locate(case, counters) if distills else None
        views = self._teacher_views(case, counters) if distills else ()
        if views is None or (distills and weights is None):
            counters.add("sample/fault")
            return Trace(case=case, weights=weights, teacher_views=views or (), status="fault")
        status: TraceStatus = "ok" if views or not distills else "no_privileged_text"
        if weights is not None and not any(weights.weights):
            status = "no_weight"
        counters.add(f"sample/{status}")
        sample = _sample(rollout, weights, views)
        trained = sample if self._is_trained(sample, describe(case.problem, case.rollout), counters) else None
        return Trace(case=case, weights=weights, teacher_views=views, status=status, sample=trained)

    def _locate(self, case: Case, counters: Counters) -> TokenWeights | None:
        localizer, completion = self.components.localizer, case.rollout.completion
        weights = counters.attempt(
            localizer,
            describe(case.problem, case.rollout),
            lambda: localizer.locate(case),
            check_located(len(completion.token_ids)),
        )
        if weights is None:
            return None
        if case.rollout.verdict.success and localizer.config.right == "skip":
            weights = TokenWeights(weights=(0.0,) * len(completion.token_ids), outcome="right_skipped")
        counters.add(f"localize/{weights.outcome}")
        truth = judged_truth(case)
        if truth and localizer.locates:
            counters.add(f"oracle/{judge_start(completion.text, truth, weights.start_char)}")
        return weights

    def _teacher_views(self, case: Case, counters: Counters) -> tuple[TeacherView, ...] | None:
        context = self.components.context
        prompts = counters.attempt(context, describe(case.problem, case.rollout), lambda: context.prompts(case), check_prompts)
        if prompts is None:
            return None
        views = []
        for prompt in prompts:
            privileged = _privileged_texts(case, prompt)
            counters.add(f"context/{'+'.join(privileged) or 'other'}")
            ids = self.requester.encode_within(prompt, self.max_teacher_prompt_tokens, "teacher", counters)
            if ids is not None:
                views.append(TeacherView(prompt_ids=ids, source=", ".join(privileged.values()) or "other"))
        return tuple(views)

    def _is_trained(self, sample: DistillSample, subject: str, counters: Counters) -> bool:
        """Return whether any objective weighs the sample; False if one of them fails on it."""
        check = check_weights(len(sample.response_ids))
        objectives = [term.objective for term in self.components.objectives]
        of_each = [counters.attempt(one, subject, partial(one.token_weights, sample), check) for one in objectives]
        return all(weights is not None for weights in of_each) and any(any(weights or ()) for weights in of_each)


def _sample(rollout: DiagnosedRollout, weights: TokenWeights | None, views: tuple[TeacherView, ...]) -> DistillSample:
    completion, verdict = rollout.case.rollout.completion, rollout.case.rollout.verdict
    return DistillSample(
        problem_id=rollout.group.problem.id,
        prompt_ids=completion.prompt_ids,
        response_ids=completion.token_ids,
        behaviour_logprobs=completion.logprobs,
        token_weights=weights.weights if weights else (1.0,) * len(completion.token_ids),
        teacher_views=views,
        reward=verdict.score,
        success=verdict.success,
        group_rewards=tuple(r.verdict.score for r in rollout.group.rollouts if r.verdict.status != "error"),
        weight=rollout.passed.weight,
        route=rollout.passed.route,
    )


def _privileged_texts(case: Case, prompt: Prompt) -> dict[str, str]:
    """Return which privileged texts a teacher's prompt shows: kind of text to its source, in the order of the prompt."""
    known = {view.text.strip(): ("demonstration", view.source) for view in case.views}
    known[case.rollout.verdict.feedback.strip()] = ("feedback", "feedback")
    if case.reflection and case.reflection.idea:
        known[case.reflection.idea.strip()] = ("idea", "idea")
    shown = (section.text.strip() for section in prompt.sections if section.cut_priority is not None)
    return dict(known[text] for text in shown if text in known)
