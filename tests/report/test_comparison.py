"""Several runs side by side: paired differences, what the recipes differ in, and the page in a real browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import pytest

from rosd_kit.cli import main
from rosd_kit.cli.report import _print_options
from rosd_kit.errors import RunError
from rosd_kit.evaluation.results import compare
from rosd_kit.files import lock_file
from rosd_kit.report.comparison import comparison, notes, pairings, read_runs, recipe_differences
from rosd_kit.report.comparison_page import write_comparison
from tests.report.run_writer import RunWriter, record


def unpack(file: Path):
    packed = re.search(r'id="comparison">([^<]*)<', file.read_text())[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def write(folders, out=None) -> Path:
    return write_comparison(pairings(read_runs(folders)), out)


def report(*words) -> int:
    with pytest.raises(SystemExit) as end:
        main(["report", *map(str, words)])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Write two runs of the same problems that differ in one option and in how they end, and one that is not evaluated."""
    out = tmp_path_factory.mktemp("runs")
    for name, localizer, after, loss in (("a", "error_quote", 0.5, 0.1), ("b", "full", 0.9, 0.3)):
        run = RunWriter(out / name)
        text = (run.folder / "recipe.yaml").read_text()
        (run.folder / "recipe.yaml").write_text(text.replace("error_quote", localizer))
        run.evaluation(0, 0.4, 0.5)
        for step in range(1, 5):
            run.step(step, [record(step, 0)], **{"train/loss": loss / step, "rollout/success": 0.5})
        run.evaluation(4, after, 0.5)
    RunWriter(out / "c").step(1, [record(1, 0)])
    return [out / name for name in "abc"]


def test_runs_that_are_at_work_or_were_stopped_are_named(folders):
    with lock_file(folders[1] / ".lock"):
        paired = pairings(read_runs(folders))
    assert notes(paired)[:2] == [
        "c is not compared: c has no evaluation yet",
        "b is still running: write the report again when it has finished",
    ]
    assert [run["state"] for run in comparison(paired, {})["runs"]] == ["stopped", "running", "stopped"]


def test_differences_are_those_of_the_paired_comparison_with_the_first_run(folders):
    a, b, c = read_runs(folders)
    expected = compare(a.last_results, b.last_results)
    data = comparison(pairings([a, b, c]), {})
    sums = next(measure for measure in data["measures"] if measure["name"] == "sums")
    first, second = sums["rows"]
    assert (first["difference"], first["verdict"], second["verdict"]) == (None, "baseline", "better")
    change = expected[0].difference
    assert second["difference"] == {"mean": change.mean, "low": change.low, "high": change.high, "worst_case": False}
    assert second["difference"]["mean"] == pytest.approx(0.4) and second["value"]["mean"] == pytest.approx(0.9)
    assert {measure["name"] for measure in data["measures"]} == {"sums", "clock", "all suites"}
    assert data["notes"][0] == "c is not compared: c has no evaluation yet" and data["notes"][-1].startswith("one run each")


def test_runs_of_other_problems_are_shown_but_not_compared(folders, tmp_path):
    other = RunWriter(tmp_path / "other")
    results = [
        {**one, "suite": "new"} for one in json.loads((folders[0] / "evaluations.jsonl").read_text().splitlines()[0])["results"]
    ]
    other.line("evaluations.jsonl", {"step": 4, "results": results[:1]})
    _, paired = pairings(read_runs([folders[0], other.folder]))
    assert paired.comparisons == () and paired.why_not == "its suites (new) differ from those of a (sums, clock)"
    assert notes([paired]) == [f"other is not compared: {paired.why_not}"]


def test_runs_that_were_evaluated_on_other_problems_are_not_compared(folders, tmp_path):
    other = RunWriter(tmp_path / "other")
    lines = (folders[0] / "evaluations.jsonl").read_text().replace("sums-", "others-")
    (other.folder / "evaluations.jsonl").write_text(lines)
    _, paired = pairings(read_runs([folders[0], other.folder]))
    assert paired.why_not == "suite sums was evaluated on other problems than in a"


def test_evaluations_after_different_steps_are_said_to_be(folders, tmp_path):
    early = RunWriter(tmp_path / "early")
    early.evaluation(2, 0.5, 0.5)
    assert "different steps: a after 4, early after 2" in " ".join(notes(pairings(read_runs([folders[0], early.folder]))))


def test_options_that_differ_are_listed_with_their_value_in_each_run():
    one = {
        "name": "rosd",
        "steps": 9,
        "localizer": {"name": "error_quote", "match": "fuzzy"},
        "objective": [{"name": "distill"}],
    }
    other = {"name": "rosd", "steps": 9, "localizer": {"name": "full"}, "objective": [{"name": "distill"}]}
    assert recipe_differences([one, one]) == []
    assert recipe_differences([one, other]) == [
        ("localizer.name", ['"error_quote"', '"full"']),
        ("localizer.match", ['"fuzzy"', None]),
    ]


def test_the_command_prints_the_numbers_of_the_page_and_links_each_run(folders, capsys):
    assert report(*folders) == 0
    text = capsys.readouterr().out
    file = folders[0].parent / "comparison.html"
    assert "b against a" in text and "+40.0" in text and "localizer.name" in text and '"full"' in text
    assert text.splitlines()[-1].startswith(f"{file}: ")
    assert [run["link"] for run in unpack(file)["runs"]] == ["a/report.html", "b/report.html", "c/report.html"]
    assert all((folder / "report.html").is_file() for folder in folders)


def test_options_are_a_line_each_and_those_that_a_component_lacks_only_counted(capsys):
    _print_options(
        ["a", "b"], [("steps", ["3", "60"]), ("localizer.name", ['"x"', '"y"']), ("localizer.min_ratio", ["80.0", None])]
    )
    assert capsys.readouterr().out.strip().splitlines() == [
        "The recipes differ in 3 options:",
        "                  a    b",
        "  steps           3    60",
        '  localizer.name  "x"  "y"',
        "  and 1 of components that not every run has; the page lists them",
    ]


def test_a_comparison_elsewhere_links_relative_to_its_own_place(folders, tmp_path):
    out = tmp_path / "deep" / "x.html"
    out.parent.mkdir()
    links = [run["link"] for run in unpack(write(folders[:2], out))["runs"]]
    assert all((out.parent / link).resolve() == folder / "report.html" for link, folder in zip(links, folders, strict=False))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("A", "A"), "is given twice"),
        (("A", "nowhere"), "is not a run folder"),
        (("A", "B", "--live"), "--live shows one run"),
        (("A", "--plan", "x"), "--plan is for a sweep's folder"),
    ],
)
def test_what_cannot_be_compared_is_refused(folders, capsys, words, message):
    places = {"A": str(folders[0]), "B": str(folders[1])}
    assert report(*(places.get(word, word) for word in words)) == 2
    assert message in capsys.readouterr().err


def test_names_that_are_equal_are_told_apart_by_their_folders(folders, tmp_path):
    twin = RunWriter(tmp_path / "a")
    assert [run.name for run in read_runs([folders[0], twin.folder])] == [str(folders[0]), str(twin.folder)]
    with pytest.raises(RunError, match="is given twice"):
        read_runs([folders[0], folders[0] / ".." / "a"])


@pytest.fixture
def page(folders, open_page):
    return open_page(write(folders))


def test_the_page_shows_table_forest_curves_and_options(page):
    table = page.inner_text("#results table")
    assert re.search(r"b\s+70\.0 .*\+20\.0", table), table  # all suites
    page.select_option("#measure", "sums")
    assert re.search(r"b\s+90\.0 70\.0 \.\. 100\.0\s+\+40\.0 \+", page.inner_text("#results table"))
    assert "b: +40.0" in page.locator("#forest svg").get_attribute("aria-label")
    assert "error_quote" in page.inner_text("#options") and "train/loss" in page.inner_text("#charts")
    assert page.locator("#charts svg[role=img]").count() >= 5 and page.errors == []
    assert page.get_attribute("#runs a >> nth=0", "href") == "a/report.html"


def test_any_metric_can_be_drawn_smoothed_and_the_address_keeps_it(page):
    page.fill("#metric", "train/weighted_tokens")
    page.press("#metric", "Enter")
    page.fill("#smooth", "2")
    page.locator("#groups input >> nth=2").uncheck()
    loss = page.locator("figure", has=page.get_by_role("img", name=re.compile("^train.loss")))
    loss.locator("svg[role=img]").focus()
    page.keyboard.press("ArrowLeft")
    assert loss.locator("output").inner_text() == "step 3 · a 0.0417 · b 0.125"  # the means of steps 2 and 3
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.input_value("#smooth") == "2" and not page.is_checked("#groups input >> nth=2")
    assert page.locator("#charts figcaption").first.inner_text().startswith("train/weighted_tokens")
    assert "mean of 2 steps" in page.inner_text("#charts")


def test_curves_that_hide_each_other_are_drawn_apart(page):
    titles = page.locator("#charts figcaption").all_inner_texts()
    assert sum(title.startswith("rollout/success") for title in titles) >= 2 and any(
        "curves coincide" in title for title in titles
    )
    assert sum(title.startswith("train/loss") for title in titles) == 1
    page.check("#apart")
    assert sum(title.startswith("train/loss") for title in page.locator("#charts figcaption").all_inner_texts()) == 3


def test_curves_drawn_apart_share_both_axes_begin_a_row_and_are_saved_by_run(page):
    page.check("#apart")
    losses = page.locator("figure", has=page.get_by_role("img", name=re.compile("^train.loss")))
    steps = [{text for text in figure.locator("text").all_text_contents() if text.isdigit()} for figure in losses.all()]
    assert steps == [{"0", "1", "2", "3", "4"}] * 3  # the third run has one step; 0 is a loss
    assert [figure.evaluate("figure => figure.classList.contains('row-start')") for figure in losses.all()] == [
        True,
        False,
        False,
    ]
    with page.expect_download() as saved:
        losses.nth(1).get_by_role("button", name="CSV").click()
    assert saved.value.suggested_filename == "train-loss-b.csv"


def test_the_tables_are_saved_as_csv(page):
    with page.expect_download() as saved:
        page.click("#save-options button")
    assert Path(saved.value.path()).read_text().splitlines()[:2] == [
        "option,a,b,c",
        'localizer.name,"""error_quote""","""full""","""error_quote"""',
    ]
    with page.expect_download() as saved:
        page.click("#save-results button")
    assert "sums,b,1,0.9,0.7,1," in Path(saved.value.path()).read_text()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_any_width(folders, open_page, width):
    page = open_page(write(folders), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_text_of_runs_is_shown_as_text(folders, tmp_path, open_page):
    evil = RunWriter(tmp_path / "<img src=x onerror='window.hacked=1'>")
    (evil.folder / "recipe.yaml").write_text("name: '</script><script>window.hacked=2</script>'\nsteps: 1\n")
    evil.step(1, [], **{"</script><b>x": 1.0})
    page = open_page(write([folders[0], evil.folder], tmp_path / "page.html"))
    assert page.evaluate("window.hacked") is None and page.errors == []
    assert page.locator("#all img, #all b, #all script").count() == 0
