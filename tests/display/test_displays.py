"""The output of displays for people and programs, on wide and narrow terminals."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from rosd_kit.display import RunSummary, make_display
from rosd_kit.display.live import LiveDisplay
from rosd_kit.display.plain import PlainDisplay, print_summary
from rosd_kit.display.text import duration, localisation, oracle_lines, sanitize, sparkline, truncation, unchanged_note
from rosd_kit.evaluation.intervals import Interval
from rosd_kit.evaluation.results import SuiteResult, compare

METRICS = {
    "rollout/success": 0.25,
    "train/loss": 0.1234,
    "train/grad_norm": 0.567,
    "train/samples": 7.0,
    "speed/generate": 1234.0,
    "speed/reflect": 567.0,
    "speed/train": 8901.0,
    "gate/mixed": 3.0,
    "localize/exact": 5.0,
    "localize/missing": 1.0,
    "oracle/exact_start": 6.0,
    "oracle/within_step": 3.0,
    "oracle/missed": 1.0,
}
FACTS = {"model": "micro, 0.78M parameters on cpu", "a step": "16 problems x 8 rollouts, lr 0.0003"}


def result(suite: str, scores: list[float], *, in_domain: bool = False) -> SuiteResult:
    mean = sum(scores) / len(scores)
    return SuiteResult(
        suite=suite,
        in_domain=in_domain,
        mean=mean,
        low=mean / 2,
        high=(1 + mean) / 2,
        problems=len(scores),
        samples=4,
        format_rate=1.0,
        mean_tokens=20.0,
        scores={f"{suite}-{i}": score for i, score in enumerate(scores)},
    )


BEFORE = (result("coins", [0.25, 0.0, 0.5, 0.25], in_domain=True), result("another_long_suite", [1.0, 0.5, 0.5, 1.0]))
AFTER = (result("coins", [1.0, 0.5, 1.0, 0.75], in_domain=True), result("another_long_suite", [1.0, 0.5, 0.25, 1.0]))
SUMMARY = RunSummary(
    name="rosd",
    folder="runs/a-rather-long-name-for-a-folder-1",
    steps=120,
    seconds=3725.0,
    comparisons=compare(BEFORE, AFTER),
    localisation={**METRICS, "oracle/quote_asked": 8.0, "oracle/quote_right": 6.0},
    warnings=("no quote was found in any response for 5 steps.",),
    next_steps=("rosd-kit eval runs/rosd-1",),
)


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, height=60, force_terminal=True, color_system=None, legacy_windows=False)


def pipe() -> Console:
    return Console(file=io.StringIO(), width=30, force_terminal=False)


def output(console: Console) -> str:
    return console.file.getvalue()


def without_spaces(text: str) -> str:
    return re.sub(r"[\s│]", "", text)


def assert_fits(text: str, width: int) -> None:
    assert [line for line in text.splitlines() if cell_len(line) > width] == []
    assert "…" not in text


@pytest.mark.parametrize("width", [120, 80, 30])
def test_the_live_panel_shows_everything_within_the_width(width):
    console = terminal(width)
    display = LiveDisplay(console)
    display.title, display.steps, display.started = "rosd in runs/rosd-1", 40, display.started - 100
    display.phase("reflect")
    display.evaluation(10, AFTER)
    for step in range(1, 11):
        display.step(step, METRICS)
    console.print(display.panel())
    text = output(console)
    assert_fits(text, width)
    read = without_spaces(text)
    for fact in (
        "step 10/40", "reflect", "5:00 left", "success", "25%", "0.1234", "0.567", "mixed 3", "exact 5", "missing 1",
        "exact start 60%", "within step 30%", "missed 10%", "generate 1234", "reflect 567", "train 8901",
        "evaluation after 10 steps", "coins (trained)", "81.2", "40.6 .. 90.6", "another_long_suite",
    ):  # fmt: skip
        assert without_spaces(fact) in read, fact


@pytest.mark.parametrize("width", [120, 80, 30])
@pytest.mark.parametrize("kind", [LiveDisplay, PlainDisplay])
def test_the_summary_shows_everything_within_the_width(kind, width):
    console = terminal(width)
    kind(console).finish(SUMMARY)
    text = output(console)
    copied = (f"run folder: {SUMMARY.folder}", *(f"  {command}" for command in SUMMARY.next_steps))
    assert_fits("\n".join(line for line in text.splitlines() if line not in copied), width)
    change = SUMMARY.comparisons[0].difference
    read = without_spaces(text)
    for fact in (
        "rosd: 120 steps in 1:02:05", "coins (trained)", "25.0 (12.5 .. 62.5)", "81.2 (40.6 .. 90.6)",
        f"{100 * change.mean:+.1f} ({100 * change.low:+.1f} .. {100 * change.high:+.1f}) *", "another_long_suite",
        "mean@4 over 4 problems per suite", "localizer against the oracle: exact start 60%", "of 10 wrong rollouts",
        "quoted the true first error in 75% of 8", "warning: no quote was found", SUMMARY.folder, "try next:", "rosd-kit eval",
    ):  # fmt: skip
        assert without_spaces(fact) in read, fact
    assert text.count("*") == 3  # the trained suite, all suites, and the note


def test_truncated_rollouts_are_counted_with_their_share():
    assert truncation({"rollout/count": 16.0, "rollout/truncated": 16.0}) == "16 of 16 (100%)"
    assert truncation({"rollout/count": 16.0, "rollout/truncated": 0.0}) == truncation({}) == ""


UNCHANGED = compare(BEFORE, (result("coins", [0.25, 0.5, 0.0, 0.25], in_domain=True), BEFORE[1]))


def test_a_run_that_moved_nothing_says_so_and_how_much_would_show():
    totals = {"rollout/count": 240.0, "rollout/truncated": 12.0, "train/samples": 37.0}
    console = terminal(100)
    PlainDisplay(console).finish(replace(SUMMARY, comparisons=UNCHANGED, rollouts=totals))
    text = " ".join(output(console).split())
    points = 50 * (UNCHANGED[0].difference.high - UNCHANGED[0].difference.low)
    assert "nothing moved measurably: every difference's interval includes zero. With 4 problems x 4 samples" in text
    assert (
        f"less than about {points:.0f} points cannot be distinguished from chance; the run trained on 37 of its 240 rollouts."
        in text
    )
    assert "truncated: 12 of 240 (5%) rollouts were cut off" in text


def test_a_run_that_trained_on_nothing_does_not_ask_for_more_steps():
    assert unchanged_note(UNCHANGED, {"rollout/count": 240.0}) == (
        "nothing moved: the run trained on none of its 240 rollouts, so the model is the one it began with."
    )


def test_a_run_that_moved_something_does_not_say_that_nothing_moved():
    assert unchanged_note(SUMMARY.comparisons, {}) == unchanged_note((), {}) == ""


def test_a_wide_terminal_gets_one_line_per_suite():
    console = terminal(100)
    PlainDisplay(console).finish(SUMMARY)
    [line] = [line for line in output(console).splitlines() if "coins (trained)" in line]
    assert "25.0 (12.5 .. 62.5)" in line and "81.2 (40.6 .. 90.6)" in line and line.rstrip().endswith("*")


def test_a_table_with_worst_case_bounds_has_one_line_per_suite_at_80_columns():
    same = (result("sums", [0.25, 0.0, 0.5, 0.25], in_domain=True), result("sums_long", [0.25, 0.5, 0.5, 0.25]))
    console = terminal(80)
    PlainDisplay(console, quiet=True).finish(replace(SUMMARY, comparisons=compare(same, same)))
    text = output(console)
    assert_fits(text, 80)
    assert re.search(r"^sums \(trained\) +25\.0 \(.+ \.\. .+\) +25\.0 \(.+\) +\+0\.0 \(-60\.2 \.\. \+60\.2†\)$", text, re.M)


def test_the_result_of_many_suites_is_on_the_last_24_lines_of_80_columns():
    suites = [result(f"micro_suite_{index}", [0.25, 0.0, 0.5, 0.25], in_domain=index < 2) for index in range(7)]
    later = [result(one.suite, [1.0, 0.5, 1.0, 0.75], in_domain=one.in_domain) for one in suites]
    steps = tuple(f"rosd-kit {command} runs/rosd-1" for command in ("report", "eval", "run", "show", "components"))
    console = terminal(80)
    PlainDisplay(console).finish(replace(SUMMARY, comparisons=compare(suites, later), next_steps=steps))
    text = output(console)
    assert_fits(text, 80)
    shown = text.splitlines()[-24:]
    assert shown[-1].strip() == steps[-1]
    rows = [line for line in shown if line.startswith("micro_suite_")]
    assert len(rows) == 7 and all("25.0 " in row and "81.2 " in row and "+56.2 (+" in row for row in rows)
    assert any(line.startswith("all suites") for line in shown) and any(line.startswith("suite ") for line in shown)


def test_before_the_first_step_the_panel_says_what_is_measured_and_how_long_it_has_taken():
    console = terminal(80)
    display = LiveDisplay(console)
    display.start_progress("rosd", 40, 0)
    display.started -= 7
    display.phase("evaluate")
    console.print(display.panel())
    assert "step 0/40   evaluate the model before training   0:07 so far" in output(console)
    assert "?" not in output(console)


def test_a_live_run_leaves_its_warnings_and_its_result_on_the_terminal():
    console = terminal(60)
    display = LiveDisplay(console)
    display.phase("loading")
    display.start("rosd in runs/rosd-1", FACTS, 2, 0)
    display.step(1, METRICS)
    display.warning("note [bold]this")
    display.finish(SUMMARY)
    display.close()
    assert not display.live.is_started
    assert "warning: note [bold]this" in output(console)
    assert "model: micro, 0.78M parameters on cpu" in output(console)


def test_plain_lines_are_not_wrapped_outside_a_terminal():
    console = pipe()
    display = make_display(console=console)
    assert isinstance(display, PlainDisplay)
    display.start("rosd in runs/rosd-1", FACTS, 40, 0)
    display.started -= 30
    display.step(10, METRICS)
    display.warning("a warning that is longer than thirty characters")
    lines = output(console).splitlines()
    assert lines[0] == "rosd in runs/rosd-1"
    assert lines[3] == (
        "step 10/40 | success 25% | loss 0.1234 | samples 7 | "
        "located: exact start 60%, within step 30%, missed 10% of 10 | 1:30 left"
    )
    assert lines[4] == "warning: a warning that is longer than thirty characters"


def test_a_command_to_copy_has_no_line_break_on_a_narrow_terminal():
    console = Console(file=io.StringIO(), width=40, height=24, force_terminal=True, color_system=None)
    command = "rosd-kit run runs/rosd-1/recipe.yaml reflector=oracle localizer=oracle    # the upper bound"
    folder = "runs/" + "a-name-of-many-letters-" * 3
    print_summary(console, RunSummary(name="rosd", folder=folder, steps=1, seconds=1.0, next_steps=(command,)))
    lines = console.file.getvalue().splitlines()
    assert f"  {command}" in lines and f"run folder: {folder}" in lines


def test_the_time_left_is_estimated_from_the_steps_since_the_resume():
    console = pipe()
    display = PlainDisplay(console)
    display.start("rosd", {}, 100, 90)
    display.started -= 20
    display.step(92, METRICS)
    assert output(console).splitlines()[-1].endswith("1:20 left")


def test_quiet_prints_only_the_result_and_warnings_to_standard_error(capsys):
    console = pipe()
    display = make_display(quiet=True, console=console)
    display.start("rosd", FACTS, 2, 0)
    display.step(1, METRICS)
    display.evaluation(1, AFTER)
    display.warning("note this")
    assert output(console) == ""
    assert capsys.readouterr().err == "warning: note this\n"
    display.finish(SUMMARY)
    assert output(console).startswith("\nrosd: 120 steps")


@pytest.mark.parametrize(("options", "live"), [({}, True), ({"quiet": True}, False), ({"live": False}, False)])
def test_the_live_display_is_used_on_a_terminal_unless_switched_off(options, live):
    assert isinstance(make_display(console=terminal(80), **options), LiveDisplay) == live


def test_json_lines_are_valid_json_and_contain_everything(capsys):
    def refuse(word):
        raise AssertionError(word)

    display = make_display(json=True)
    display.start("rosd", FACTS, 2, 0)
    display.phase("generate")
    display.step(1, {**METRICS, "train/loss": math.nan, "train/grad_norm": math.inf})
    display.evaluation(1, AFTER)
    display.warning("note \ud800 this\nand that")
    display.finish(SUMMARY)
    events = [json.loads(line, parse_constant=refuse) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["start", "step", "evaluation", "warning", "finish"]
    start, step, evaluation, warning, finish = events
    assert (start["title"], start["steps"], start["done"]) == ("rosd", 2, 0)
    assert step["metrics"]["rollout/success"] == 0.25
    assert (step["metrics"]["train/loss"], step["metrics"]["train/grad_norm"]) == (None, None)
    assert SuiteResult.from_json(evaluation["results"][0]) == AFTER[0]
    assert warning["text"] == "note \ud800 this\nand that"
    assert finish["comparisons"][0]["difference"]["excludes_zero"] is True
    assert finish["comparisons"][0]["before"]["mean"] == 0.25
    assert finish["folder"] == SUMMARY.folder


@given(st.text())
@settings(max_examples=50)
def test_text_from_data_cannot_control_the_terminal(text):
    console = terminal(40)
    PlainDisplay(console).warning(text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", output(console))
    assert len(sanitize(text)) == len(text)


def test_all_measures_fit_a_terminal_and_caveats_are_noted():
    half = Interval(mean=0.5, low=0.25, high=0.75)
    whole = [replace(one, pass_at={"4": half}, majority=half, failed={"x": 2}) for one in AFTER]
    console = terminal(80)
    PlainDisplay(console).measured("runs/rosd-1", 3, [replace(whole[0], scores={"a": 1.0}), whole[1]])
    text = output(console)
    assert_fits(text, 80)
    [line] = [line for line in text.splitlines() if line.startswith("coins (trained)")]
    assert line.split()[2:] == ["81.2", "40.6", "..", "90.6†", "50.0", "50.0", "100.0", "20.0"]
    assert re.search(r"^all suites +75\.0", text, re.M)
    note = without_spaces(text)
    assert without_spaces("† all scores are equal: the interval is a worst-case bound") in note
    assert without_spaces("the verifier failed on 4 samples, which count as neither right nor wrong") in note


def test_markup_in_names_is_printed_literally():
    console = terminal(80)
    PlainDisplay(console).evaluation(3, [result("[red]suite[/red]", [1.0])])
    assert "[red]suite[/red]" in output(console)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")]
)
def test_durations_are_written_with_minutes_or_hours(seconds, shown):
    assert duration(seconds) == shown


def test_sparkline_localisation_and_oracle_lines():
    assert sparkline([0.0, 0.5, 1.0, 2.0], 3) == "▅██"
    assert localisation({"oracle/missed": 0.0}) == ""
    assert localisation({"oracle/exact_start": 1.0, "oracle/missed": 3.0}) == "exact start 25%, within step 0%, missed 75% of 4"
    assert oracle_lines({}) == []
    assert oracle_lines({"oracle/idea_asked": 4.0, "oracle/idea_right": 1.0}) == [
        "reflector against the oracle: gave the correct replacement for it in 25% of 4"
    ]


def test_in_colour_every_row_of_the_panel_is_on_its_own_line():
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="truecolor", record=True)
    display = LiveDisplay(console)
    display.step(1, METRICS)
    console.print(display.panel())
    lines = console.export_text().splitlines()
    assert [sum(line.startswith(f"│ {fact}") for line in lines) for fact in ("step", "success", "loss", "tokens/s")] == [1] * 4
