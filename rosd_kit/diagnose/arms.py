"""What the teacher is shown: each context as it is, and with placebos in place of the privileged text.

A placebo has the form of privileged text and none of its information. What the teacher still changes under it is imitation of
the form, not knowledge of the problem.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rosd_kit.contracts import Context
from rosd_kit.types import Case, Group, Prompt, Trace, View

Placebo = Literal["", "another problem's", "a wrong rollout"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of prompting the teacher: `prompts[i]` are its prompts for trace i, none where the context cannot write any."""

    context: str
    placebo: Placebo
    prompts: tuple[tuple[Prompt, ...], ...]

    @property
    def name(self) -> str:
        """The context's name, with the placebo in brackets."""
        return f"{self.context} ({self.placebo})" if self.placebo else self.context

    def covers(self) -> frozenset[int]:
        """Return the indices of the traces that have a prompt."""
        return frozenset(index for index, prompts in enumerate(self.prompts) if prompts)


def draw_arms(contexts: Mapping[str, Context], traces: Sequence[Trace], groups: Sequence[Group]) -> list[Arm]:
    """Return an arm per context, each followed by its placebos; placebos that change no prompt are left out."""
    cases = [trace.case for trace in traces]
    arms = []
    for name, context in contexts.items():
        own = _arm(name, "", context, cases)
        arms.append(own)
        for placebo, swapped in _placebos(cases, groups):
            arm = _arm(name, placebo, context, swapped)
            changed = frozenset(i for i in arm.covers() & own.covers() if arm.prompts[i] != own.prompts[i])
            kept = tuple(prompts if i in changed else () for i, prompts in enumerate(arm.prompts))
            if changed:
                arms.append(replace(arm, prompts=kept))
    return [arm for arm in arms if arm.covers()]


def common_traces(arms: Sequence[Arm]) -> tuple[list[Arm], frozenset[int]]:
    """Return the arms to compare, and the traces that all of them cover.

    An arm that covers less than half of the traces that the best one covers is left out, since comparisons on what it covers
    would be narrower for all.
    """
    most = max((len(arm.covers()) for arm in arms), default=0)
    kept = [arm for arm in arms if 2 * len(arm.covers()) >= most]
    covered = [arm.covers() for arm in kept]
    return kept, frozenset.intersection(*covered) if covered else frozenset()


def privileged_text(prompts: Sequence[Prompt]) -> str:
    """Return the text of a teacher's prompts that may be cut: all but problem, format and template."""
    sections = (section for prompt in prompts for section in prompt.sections)
    return " ".join(section.text for section in sections if section.cut_priority is not None)


def _arm(name: str, placebo: Placebo, context: Context, cases: Sequence[Case | None]) -> Arm:
    prompts = tuple(context.prompts(case) if case is not None else () for case in cases)
    return Arm(context=name, placebo=placebo, prompts=prompts)


def _placebos(cases: Sequence[Case], groups: Sequence[Group]) -> Iterator[tuple[Placebo, list[Case | None]]]:
    yield "another problem's", [_with_others(case, cases) for case in cases]
    siblings = {group.problem.id: group for group in groups}
    yield "a wrong rollout", [_with_wrong_sibling(case, siblings[case.problem.id]) for case in cases]


def _with_others(case: Case, cases: Sequence[Case]) -> Case | None:
    """Return the case with the demonstration, reflection and feedback of the next problem's rollout that was judged alike."""
    place, right = cases.index(case), case.rollout.verdict.success
    following = [*cases[place:], *cases[:place]]
    others = [one for one in following if one.problem.id != case.problem.id]
    donor = next((one for one in others if one.rollout.verdict.success == right), others[0] if others else None)
    if donor is None:
        return None
    verdict = replace(case.rollout.verdict, feedback=donor.rollout.verdict.feedback)
    rollout = replace(case.rollout, verdict=verdict)
    return replace(case, views=donor.views, reflection=donor.reflection, rollout=rollout)


def _with_wrong_sibling(case: Case, group: Group) -> Case | None:
    """Return the case with another wrong rollout of its problem as the demonstration, the next one in sampling order."""
    wrong = [one for one in group.rollouts if one.verdict.status != "error" and not one.verdict.success]
    others = [one for one in wrong if one.index > case.rollout.index] + [one for one in wrong if one.index < case.rollout.index]
    shown = next((one for one in others if one.completion.text.strip()), None)
    if shown is None or not case.views:
        return None
    return replace(case, views=(View(text=shown.completion.text, source=f"wrong sibling {shown.index}"),))
