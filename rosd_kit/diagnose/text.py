"""Shows a diagnosis as text."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from rosd_kit.diagnose.results import ArmResult, Cost, Diagnosis

_REGIONS = {"prefix": "valid prefix", "error": "error", "after": "after", "unlocated": "unlocated", "right": "right rollouts"}


def show_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    """Print the tables and what they say."""
    for part in _parts(diagnosis):
        console.print(part, highlight=False, soft_wrap=isinstance(part, str), markup=False)


def _parts(diagnosis: Diagnosis) -> Iterator[str | Table]:
    at = f" at step {diagnosis.step}" if diagnosis.step is not None else ""
    located = ", ".join(f"{count} by {who}" for who, count in sorted(diagnosis.located_by.items()))
    yield (
        f"{diagnosis.recipe} with {diagnosis.model}{at}: {diagnosis.right} right and {diagnosis.wrong} wrong rollouts; "
        f"first errors located: {located or 'none'}"
    )
    yield _kl_table(diagnosis)
    yield _signal_table(diagnosis)
    yield _writing_table(diagnosis)
    yield from _sentences(diagnosis)
    yield from (f"note: {note}" for note in diagnosis.notes)


def _kl_table(diagnosis: Diagnosis) -> Table:
    present = [name for name in _REGIONS if any(arm.region(name) for arm in diagnosis.arms)]
    table = Table(title="KL(teacher, student), nats per token", title_justify="left")
    table.add_column("the teacher reads")
    table.add_column("teacher")
    for name in present:
        table.add_column(_REGIONS[name], justify="right")
    for arm in diagnosis.arms:
        rows = [arm.region(name) for name in present]
        table.add_row(arm.name, arm.teacher, *(_number(row.measures["kl"]) if row else "" for row in rows))
    rows = [diagnosis.arms[0].region(name) for name in present]
    table.add_section()
    table.add_row("student's entropy", "", *(_number(row.student_entropy) if row else "" for row in rows))
    table.add_row("teacher's entropy", "", *(_number(row.teacher_entropy) if row else "" for row in rows))
    table.add_row("tokens", "", *(str(row.tokens) if row else "" for row in rows))
    return table


def _signal_table(diagnosis: Diagnosis) -> Table:
    table = Table(title="Shares of the signal", title_justify="left")
    table.add_column("the teacher reads")
    table.add_column("measured by")
    for title in ("prefix", "error", "after", "of right rollouts", "localizer removes", "of all"):
        table.add_column(title, justify="right")
    names = {"loss": f"the loss: {diagnosis.loss}", "full": "on the full vocabulary", "sampled": "on the sampled token"}
    for number, arm in enumerate(diagnosis.arms):
        for signal in arm.signals:
            if signal.measure == "loss" or (number == 0 and signal.measure in names):
                shares = [signal.shares[region] for region in ("prefix", "error", "after")]
                cells = [*shares, signal.of_right, signal.removed, signal.removed_of_all]
                table.add_row(
                    arm.name if arm.teacher == diagnosis.arms[0].teacher else f"{arm.name}, {arm.teacher}",
                    names[signal.measure],
                    *map(_percent, cells),
                )
    return table


def _writing_table(diagnosis: Diagnosis) -> Table:
    table = Table(title="What the teacher would write", title_justify="left")
    table.add_column("the teacher reads")
    for title in ("repeats of it", "student's own", "words", "words shown", "right", "student's"):
        table.add_column(title, justify="right")
    for arm in diagnosis.arms:
        if (one := arm.imitation) is not None:
            table.add_row(
                arm.name,
                _percent(one.teacher_overlap),
                _percent(one.student_overlap),
                f"{one.teacher_words:.0f}",
                f"{one.shown_words:.0f}",
                _percent(one.teacher_right),
                _percent(one.student_right),
            )
    return table


def _sentences(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield what the tables say about the recipe's own context, in words."""
    own = diagnosis.arms[0]
    loss = next(signal for signal in own.signals if signal.measure == "loss")
    share = loss.shares["prefix"]
    if math.isnan(share):
        yield "No first error was located, so localisation cannot be judged: the task has no oracle, and no quote was found."
    else:
        verdict = "little to spare" if share < 0.1 else "something to spare" if share < 0.3 else "much to spare"
        yield (
            f"{_percent(share)} of the signal on wrong rollouts lies before the first error, so localisation has {verdict}; "
            f"{diagnosis.localizer} removes {_percent(loss.removed)}. "
            f"{_percent(loss.of_right)} of all signal comes from right rollouts."
        )
    for arm in diagnosis.arms:
        real = next((one for one in diagnosis.arms if one.context == arm.context and not one.placebo), None)
        if arm.placebo and real is not None and (ratio := _ratio(arm, real)) is not None:
            where, times = ratio
            yield f"{arm.name} moves the teacher {times:.2g} times as far as the real text, {where}."
    yield from _cost_sentence(diagnosis.cost)


def _cost_sentence(cost: Cost) -> Iterator[str]:
    if not cost.reflections:
        return
    accuracy = "" if math.isnan(cost.quote_right) else f"; it quotes the first error in {_percent(cost.quote_right)}"
    share = cost.reflection_tokens / max(1.0, cost.reflection_tokens + cost.rollout_tokens)
    yield (
        f"The reflector {cost.reflector} wrote {cost.reflection_tokens / cost.reflections:.0f} tokens for each of "
        f"{cost.reflections} rollouts: {_percent(share)} of all sampled tokens, {cost.reflection_seconds:.1f} s beside "
        f"{cost.rollout_seconds:.1f} s for rollouts{accuracy}."
    )


def _ratio(arm: ArmResult, real: ArmResult) -> tuple[str, float] | None:
    """Return where an arm's KL is compared with that of the real text, and their ratio."""
    for region, where in (("prefix", "on the valid prefix"), ("unlocated", "on wrong rollouts")):
        mine, theirs = arm.region(region), real.region(region)
        if mine is not None and theirs is not None and theirs.measures["kl"]:
            return where, mine.measures["kl"] / theirs.measures["kl"]
    return None


def _number(value: float) -> str:
    return f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %" if abs(value) >= 0.1 else f"{100 * value:.1f} %"
