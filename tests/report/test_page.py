"""The report in a real browser: what it shows, its keys, and that text from rollouts cannot run."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

from rosd_kit.display.text import comparison_note, percent
from rosd_kit.report.page import write_report
from rosd_kit.report.reading import RunRecords
from tests.report.run_writer import WORDS, record

EVIL = (
    "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=2'><b>bold</b> \u2028 & \ud800 😀 26 + 5 = 33"
)


@pytest.fixture(scope="module")
def report(new_run):
    """Write two steps of eight rollouts: among them a missing and a fuzzy quote, a correct, a hostile and a leaking rollout."""
    run = new_run("<b>name")
    run.evaluation(0, 0.4, 0.5)
    odd = [
        record(1, 0),
        record(1, 1, localized="missing", quote="nowhere", located_at=None, judged={"start": "missed", "quote": False}),
        record(1, 2, localized="fuzzy", judged={"start": "missed", "quote": False, "idea": False}, suite="clock"),
        record(1, 3, success=True, score=1.0, localized="right", judged=None, weights=[1.0] * (len(WORDS) + 1)),
        record(1, 4, response=EVIL, idea=EVIL, quote="26 + 5 = 33", problem=EVIL, reflection=EVIL, views=[EVIL],
               messages=[{"role": "user", "content": EVIL}], teacher_prompts=[EVIL], token_spans=[[0, len(EVIL)]],
               token_ids=[1],
               weights=[1.0], divergence=[0.5], student_logprobs=[-1.0], teacher_logprobs=[-2.0], located_at=EVIL.index("26")),
        record(1, 5, response="According to the reference solution , it is 4 .", token_ids=[], token_spans=[], weights=None,
               divergence=None, student_logprobs=None, teacher_logprobs=None, quote=None, located_at=None, true_error=None),
        record(1, 6, finish_reason="length"),
        record(1, 7, status="no_weight", reflection_status="unparsable"),
    ]  # fmt: skip
    run.step(1, odd)
    run.step(2, [record(2, i) for i in range(8)], **{"rollout/success": 0.5})
    run.evaluation(2, 0.9, 0.2)
    return write_report(run.folder)


@pytest.fixture
def page(report, open_page):
    return open_page(report)


def open_rollout(page, address: str = "1/0"):
    page.evaluate(f"location.hash = '#rollouts/{address}'")
    page.reload()
    page.wait_for_selector("#tokens")
    return page


def test_the_file_makes_no_requests_and_has_no_errors(page, report):
    open_rollout(page)
    assert {url.split("#")[0] for url in page.requests if not url.startswith("data:")} == {report.as_uri()}
    assert page.errors == []
    text = report.read_text()
    assert re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*", text) == []
    assert "According to" not in text and "onerror" not in text


def test_the_overview_shows_results_charts_and_warnings(page):
    table = page.inner_text("#results table")
    assert re.search(r"sums \(trained\)\s+40\.0 20\.0 \.\. 60\.0\s+90\.0 70\.0 \.\. 100\.0\s+\+50\.0", table)
    assert re.search(r"clock\s.*−30\.0", table)
    assert page.locator("#results td.up").count() == 1 and page.locator("#results td.down").count() == 1
    assert "outside the trained domain mean@k fell by 30.0 points" in page.inner_text("#warnings")
    titles = page.locator("figcaption").all_inner_texts()
    for title in ("sums", "clock", "Loss", "Rollout success", "Response length", "Entropy", "Where the token weights start"):
        assert any(title in caption for caption in titles), title
    label = page.get_by_role("img", name=re.compile("^Rollout success")).get_attribute("aria-label")
    assert "40% at step 1, 50% at step 2" in label


def test_the_arrow_keys_read_single_steps_of_a_chart(page):
    picture = page.get_by_role("img", name=re.compile("^Loss"))
    picture.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("figure", has=picture).locator("output").inner_text() == "step 1 · 0.1"
    page.keyboard.press("ArrowRight")
    assert page.locator("figure", has=picture).locator("output").inner_text() == "step 2 · 0.05"


@pytest.mark.parametrize(
    ("outcome", "count"),
    [("correct", 1), ("wrong", 15), ("quote missing", 1), ("quote fuzzy", 1), ("wrong diagnosis", 2), ("error missed", 2),
     ("reflection failed", 1), ("truncated", 1), ("mentions a reference", 1), ("not trained on", 1)],
)  # fmt: skip
def test_rollouts_are_filtered_by_outcome(page, outcome, count):
    page.click("#tab-rollouts")
    page.select_option("#by-outcome", label=f"{outcome} ({count})")
    assert page.inner_text("#match-count") == f"{count} of 16"
    assert page.locator(".row").count() == count


def test_rollouts_are_filtered_by_suite_step_and_text_together(page):
    page.click("#tab-rollouts")
    page.select_option("#by-suite", "clock")
    assert page.inner_text("#match-count") == "1 of 16"
    page.select_option("#by-suite", "")
    page.fill("#from-step", "2")
    assert page.inner_text("#match-count") == "8 of 16"
    page.fill("#from-step", "")
    page.fill("#to-step", "1")
    page.fill("#by-text", "REFERENCE solution")
    page.locator("#match-count", has_text="1 of 16").wait_for()
    page.fill("#by-text", "no such words")
    page.locator("#match-count", has_text="0 of 16").wait_for()
    assert "No rollout matches" in page.inner_text("#detail")


def test_a_rollout_shows_quote_weights_divergence_and_prompts(page):
    open_rollout(page)
    assert page.inner_text("#tokens").startswith(" ".join(WORDS))
    joined = "[...document.querySelectorAll('#tokens .%s')].map((t) => t.textContent).join('')"
    assert page.evaluate(joined % "quoted").strip() == "26 + 5 = 33"
    assert page.evaluate(joined % "true").strip() == "26 + 5 = 33"
    heat = "[...document.querySelectorAll('#tokens [data-token]')].map((t) => Number(t.style.getPropertyValue('--h')))"
    assert page.evaluate(heat) == [0.0] * 3 + [1.0] * (len(WORDS) - 2)
    page.keyboard.press("2")
    assert page.evaluate(heat) == [0.0] * 3 + [1.0] + [0.0] * (len(WORDS) - 3)
    page.keyboard.press("3")
    assert page.evaluate(heat)[3:5] == [1.0, 0.5]  # gaps of -1 and +0.25 nats on a square-root scale
    assert page.evaluate(joined % "less").strip() == "26"
    assert page.inner_text(".prompts ins").strip() == "Key idea : 26 + 5 = 31 ."
    for text in ("sibling 3", "26 + 5 = 31 . 31 - 7 = 24", "correct answer", "quote correct"):
        assert text.lower() in page.inner_text("#detail").lower()


def test_the_arrow_keys_read_single_tokens(page):
    open_rollout(page)
    page.focus("#tokens")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#readout") == (
        'token 4 " 26" · weight 1 · divergence 0.25 · student log p -0.5 · teacher log p -1.5'
    )
    page.hover("#tokens [data-token='5']")
    assert page.inner_text("#readout").startswith('token 6 " 5"')


def test_keys_move_through_the_list(page):
    open_rollout(page)
    page.keyboard.press("j")
    page.wait_for_url(re.compile("#rollouts/1/1$"))
    page.keyboard.press("k")
    page.wait_for_url(re.compile("#rollouts/1/0$"))
    page.focus("#list")
    page.keyboard.press("End")
    page.wait_for_url(re.compile("#rollouts/2/7$"))
    chosen = page.locator(f"#{page.get_attribute('#list', 'aria-activedescendant')}")
    assert chosen.get_attribute("aria-selected") == "true" and chosen.get_attribute("aria-posinset") == "16"
    page.keyboard.press("/")
    page.keyboard.type("jk2")
    assert page.input_value("#by-text") == "jk2"
    page.keyboard.press("Escape")
    page.keyboard.press("o")
    assert page.is_visible("#overview-panel") and not page.is_visible("#rollouts-panel")


def test_markup_in_a_rollout_is_shown_as_text(page):
    open_rollout(page, "1/4")
    assert page.evaluate("window.hacked") is None
    assert page.errors == []
    assert page.locator("#detail img, #detail b:not(.quoted, .true, .start), #detail script").count() == 0
    shown = page.evaluate("document.querySelector('#tokens').textContent")
    assert shown == EVIL.replace("\ud800", "\ufffd") or shown == EVIL
    assert page.title().startswith("<b>name") and page.locator("h1 b").count() == 0


def test_injected_markup_cannot_run_either(page):
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=3\">')")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked=4'}))")
    page.evaluate("new Promise((done) => setTimeout(done, 50))")
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in page.errors)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_any_width(report, open_page, width):
    page = open_page(report, viewport={"width": width, "height": 800})
    for tab in ("overview", "rollouts", "recipe"):
        page.click(f"#tab-{tab}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


def test_the_theme_follows_the_system_or_the_button(report, open_page):
    paper = "getComputedStyle(document.body).backgroundColor"
    dark, light = (open_page(report, color_scheme=scheme).evaluate(paper) for scheme in ("dark", "light"))
    assert dark != light
    page = open_page(report, color_scheme="dark")
    page.click("#theme")
    assert (page.evaluate(paper), page.inner_text("#theme")) == (light, "Theme: light")


def test_the_recipe_tab_shows_origins_and_what_the_run_changes_of_its_preset(new_run, open_page):
    run = new_run("origins")
    change = {"path": "steps", "preset": "80", "value": "<b>7</b>", "origin": "command line"}
    explained = "name: rosd        # recipes/rosd.yaml\nsteps: 7  # command line\n"
    record = {"preset": "rosd", "profile": "micro", "origins": {}, "changes": [change], "explained": explained}
    (run.folder / "origins.json").write_text(json.dumps(record))
    page = open_page(write_report(run.folder))
    page.click("#tab-recipe")
    assert "Changed from rosd with profile micro" in page.inner_text("#changes")
    assert re.search(r"steps\s+80\s+<b>7</b>\s+command line", page.inner_text("#changes table"))
    assert page.locator("#recipe .quiet").all_inner_texts() == ["# recipes/rosd.yaml", "# command line"]
    assert page.inner_text("#recipe").strip() == explained.strip() and page.errors == []


@pytest.mark.parametrize("content", ["[]", "{", '{"changes": [1, {"path": 2}], "explained": 3, "preset": "rosd"}'])
def test_a_damaged_record_of_origins_leaves_the_recipe_as_text(new_run, open_page, content):
    run = new_run("damaged")
    (run.folder / "origins.json").write_text(content)
    page = open_page(write_report(run.folder))
    page.click("#tab-recipe")
    assert "name: rosd" in page.inner_text("#recipe") and page.errors == []


def test_the_arrow_keys_switch_tabs(page):
    page.focus("#tab-overview")
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name=re.compile("Rollouts")).get_attribute("aria-selected") == "true"
    assert page.is_visible("#rollouts-panel")


def test_of_thousands_of_rollouts_only_the_visible_ones_are_drawn(new_run, open_page):
    run = new_run("many")
    for step in range(1, 17):
        run.step(step, [record(step, i) for i in range(128)])
    page = open_page(write_report(run.folder))
    page.click("#tab-rollouts")
    page.wait_for_selector("#tokens")
    assert page.inner_text("#match-count") == "2,048 of 2,048"
    assert page.locator(".row").count() < 60
    page.focus("#list")
    page.keyboard.press("End")
    page.wait_for_url(re.compile("#rollouts/16/127$"))
    assert page.locator(".row").count() < 60
    assert page.locator(".row[aria-selected='true']").get_attribute("aria-posinset") == "2048"


def test_the_address_keeps_the_filters(page, report):
    page.click("#tab-rollouts")
    page.select_option("#by-outcome", label="wrong (15)")
    page.fill("#from-step", "2")
    page.wait_for_function("location.hash.includes('from-step=2')")
    assert "by-outcome=wrong" in page.evaluate("location.hash")
    shown = page.inner_text("#match-count")
    page.reload()
    page.wait_for_selector("#tokens")
    assert page.inner_text("#match-count") == shown != "16 of 16"
    assert page.input_value("#from-step") == "2"


def test_a_chart_is_saved_as_csv_and_png(page):
    figure = page.locator("figure", has=page.get_by_role("img", name=re.compile("^Loss")))
    with page.expect_download() as saved:
        figure.get_by_role("button", name="CSV").click()
    assert saved.value.suggested_filename == "loss.csv"
    assert Path(saved.value.path()).read_text() == "step,Loss\n1,0.1\n2,0.05\n"
    with page.expect_download() as saved:
        figure.get_by_role("button", name="PNG").click()
    assert saved.value.suggested_filename == "loss.png"
    picture = Path(saved.value.path()).read_bytes()
    assert picture.startswith(b"\x89PNG")
    above = page.evaluate("figure => legendLines(figure, 320).map(({ text, x, y }) => [text, x, y])", figure.element_handle())
    assert above == [["Loss", 10, 18], ["nats per token", above[1][1], 18], ["Loss", 10, 34]]  # title, note, legend
    assert struct.unpack(">II", picture[16:24]) == (2 * (320 + 2 * 10), 2 * (34 + 8 + 150 + 10))
    assert page.errors == []


def test_a_run_of_two_steps_has_both_on_its_axis(page):
    chart = page.locator("figure", has=page.get_by_role("img", name=re.compile("^Loss")))
    assert [text for text in chart.locator("text").all_text_contents() if text in ("1", "2")] == ["1", "2"]


def test_every_chart_has_a_legend_and_no_field_hides_a_method_of_the_form(page):
    assert page.evaluate("[...document.querySelectorAll('figure')].every((figure) => figure.querySelector('.key'))")
    assert page.evaluate("typeof document.getElementById('filters').matches") == "function"


def test_halves_are_rounded_as_on_the_terminal(page):
    ties = [0.4725, 0.6625, 0.3875, -0.0125, 0.0125, 0.4775, 0.0, 0.99975, 0.00125, 1 / 3, 0.6245, 0.62475]
    assert page.evaluate("ties => ties.map((value) => percent(value))", ties) == [percent(value) for value in ties]
    assert page.evaluate("signed(-0.0125)") == "−1.2" and page.evaluate("percent(0.9995, 1)") == percent(0.9995)


def test_the_address_follows_keys_and_colours_and_leads_back(page, report, open_page):
    page.keyboard.press("r")
    page.wait_for_selector("#tokens")
    page.keyboard.press("j")
    page.keyboard.press("2")
    page.wait_for_function("location.hash === '#rollouts/1/1?colour=divergence'")
    address = page.url
    page.keyboard.press("o")
    assert page.evaluate("location.hash") == "#overview"
    page.click("#tab-rollouts")
    assert page.url == address
    other = open_page(report)
    other.evaluate("hash => { location.hash = hash; }", address.split("#")[1])
    other.locator("#detail .title", has_text="#1").wait_for()
    assert other.locator('input[name="heat"][value="divergence"]').is_checked()
    assert other.is_visible("#rollouts-panel")


@pytest.mark.parametrize(
    ("localized", "weights", "badge"),
    [
        ("full", [1.0] * 20, "whole response"),
        ("keyword", [0.0] * 5 + [1.0] * 15, "weights: keyword"),
        ("exact_ambiguous", [1.0] * 20, "quote exact ambiguous"),
        ("missing", [1.0] * 20, "quote missing"),
    ],
)
def test_only_quotes_are_called_quotes(page, localized, weights, badge):
    assert page.evaluate("one => weightsInWords(one)", {"localized": localized, "weights": weights}) == badge


def test_the_note_under_the_results_is_that_of_the_terminal(report, page):
    expected = comparison_note(RunRecords.read(report.parent).comparisons())
    assert page.inner_text("#results caption") == f"before and after 2 steps: {expected}"
